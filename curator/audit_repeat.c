/*
 * curator/audit_repeat.c - section `repeat` of a report: how to get these numbers again.
 *
 * What cannot change them is left out: the recipe's `output.dir`, `resources` and the sidecar's
 * sections. Paths are cut to their last part, for a report is passed on; the full ones stand in
 * recipe.lock.yaml.
 */
#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/audit.h"

/* CITATION.cff says the same. */
static const char citation[] =
    "Jing, Y. and others: Guiding LLM Post-training Data Engineering with Model Internals from "
    "Sparse Autoencoders. arXiv:2605.27354, 2026 (the method). The saerl authors: saerl " //
    SAERL_VERSION " (the program).";

/* What follows the last slash; those at the end do not count. */
static void cut_path(char *path)
{
    size_t n = path ? strlen(path) : 0;
    const char *slash;

    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    slash = path ? strrchr(path, '/') : NULL;
    if (slash)
        memmove(path, slash + 1, n - (size_t)(slash - path));
}

static void cut_paths(struct recipe *recipe)
{
    for (const struct setting_section *s = recipe_schema; s->path; s++) {
        for (const struct setting *row = s->settings; row->name; row++) {
            void *place = (char *)recipe + s->offset + row->offset;

            if (row->type == SETTING_PATH)
                cut_path(*(char **)place);
            for (size_t i = 0; row->type == SETTING_PATHS && i < ((struct string_list *)place)->n;
                 i++)
                cut_path(((struct string_list *)place)->items[i]);
        }
    }
}

/* The sections that a report depends on. */
static void choose_sections(struct setting_section *chosen, size_t n_max)
{
    static const char *const left_out[] = {"online", "serve", "serve.curve", "metrics",
                                           "resources"};
    size_t n = 0;

    for (const struct setting_section *s = recipe_schema; s->path; s++) {
        bool out = false;

        for (size_t i = 0; i < sizeof(left_out) / sizeof(*left_out); i++)
            out |= strcmp(s->path, left_out[i]) == 0;
        if (out)
            continue;
        assert(n + 1 < n_max);
        chosen[n] = *s;
        if (strcmp(s->path, "output") == 0) {
            assert(strcmp(s->settings->name, "dir") == 0);
            chosen[n].settings++;
        }
        n++;
    }
    chosen[n] = (struct setting_section){0};
}

static enum status append_recipe(const struct recipe *recipe, struct text *out, struct error *err)
{
    struct setting_section sections[32];
    struct recipe copy = {0};
    struct text yaml = {0};
    enum status st = recipe_copy(&copy, recipe, err);

    if (st)
        return st;
    cut_paths(&copy);
    choose_sections(sections, sizeof(sections) / sizeof(*sections));
    settings_print_yaml(sections, &copy, &yaml);
    st = text_check(&yaml, err);
    if (!st)
        audit_member_text(out, "recipe", text_string(&yaml));
    text_release(&yaml);
    recipe_release(&copy);
    return st;
}

/* A word of the command that holds a path keeps its last part, and what stands before a '='. */
static void append_word(struct text *out, const char *word, size_t n)
{
    size_t begin = n;
    const char *equals = memchr(word, '=', n);
    size_t key = equals ? (size_t)(equals - word) + 1 : 0;

    while (begin > key && word[begin - 1] == '/')
        begin--;
    while (begin > key && word[begin - 1] != '/')
        begin--;
    text_append_n(out, word, key);
    text_append_n(out, word + begin, n - begin);
}

static void append_command(const struct audit *audit, struct text *out)
{
    const char *command = audit->command ? audit->command : "saerl run recipe.lock.yaml";
    struct text words = {0};

    while (*command) {
        size_t blanks = strspn(command, " "), n = strcspn(command + blanks, " ");

        text_append_n(&words, command, blanks);
        append_word(&words, command + blanks, n);
        command += blanks + n;
    }
    text_append(out, "{\"command\":");
    text_append_json_string(out, text_string(&words), words.length);
    out->failed |= words.failed;
    text_release(&words);
}

enum status audit_repeat(struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    enum status st;

    append_command(audit, out);
    st = append_recipe(run->recipe, out, err);
    text_append(out, ",\"inputs\":[");
    for (size_t i = 0; i < run->inputs.n; i++) {
        const struct input_file *file = &run->inputs.files[i];
        char hex[HASH128_HEX_SIZE];
        hash128_hex(file->hash, hex);
        text_appendf(out, "%s{\"role\":\"%s\",\"name\":", i ? "," : "", file->role);
        audit_file_name(file->path, out);
        text_appendf(out, ",\"bytes\":%llu,\"xxh3_128\":\"%s\"}", (unsigned long long)file->bytes,
                     hex);
    }
    text_appendf(out, "],\"program\":\"saerl %s\",\"seed\":%llu", SAERL_VERSION,
                 (unsigned long long)run->recipe->seed);
    audit_member_text(out, "citation", citation);
    text_append_char(out, '}');
    return st;
}
