#include "cli/label_names.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "curator/recipe.h"
#include "formats/json.h"

#define LABEL_WIDTH 100
#define REPORT_BYTES_MAX ((size_t)64 << 20)

enum status label_names_open(struct label_names *names, const char *path,
                             const struct label_target *target, const struct log *log,
                             struct error *err)
{
    struct text warnings = {0};
    enum status st;

    *names = (struct label_names){0};
    if (!path)
        return STATUS_OK;
    st = label_table_open(&names->table, path, err);
    if (!st)
        st = label_table_check(&names->table, target, &warnings, err);
    if (!st)
        log_lines(log, LOG_WARNING, "labels", text_string(&warnings));
    else
        label_names_close(names);
    text_release(&warnings);
    return st;
}

/* Model and hook of the SAE are as the report has them. */
static enum status open_for(struct label_names *names, const char *dir, const char *path,
                            struct label_target target, const struct log *log, struct error *err)
{
    char *report = text_format("%s/report.json", dir);
    struct json *root = NULL;
    const struct json *sae;
    enum status st;
    size_t n;

    if (!report)
        return error_nomem(err);
    /* Without it less is compared, that is all. */
    if (json_parse_file(&root, report, REPORT_BYTES_MAX, NULL, NULL) == STATUS_OK) {
        sae = json_member(json_member(root, "features"), "sae");
        target.model = json_string(json_member(sae, "model"), &n);
        target.hook = json_string(json_member(sae, "hook"), &n);
    }
    st = label_names_open(names, path, &target, log, err);
    json_free(root);
    mem_free(report);
    return st;
}

enum status label_names_open_folder(struct label_names *names, const char *dir, const char *path,
                                    size_t d_sae, const char *sae_hash, const struct log *log,
                                    struct error *err)
{
    struct label_target target = {.d_sae = d_sae, .sae_hash = sae_hash};
    struct recipe recipe = {0};
    struct error why = {0};
    enum status st;
    char *lock;

    *names = (struct label_names){0};
    if (path)
        return open_for(names, dir, path, target, log, err);
    lock = text_format("%s/recipe.lock.yaml", dir);
    if (!lock)
        return error_nomem(err);
    /* An audit has no recipe. */
    st = access(lock, F_OK) == 0 ? recipe_load(&recipe, lock, NULL, NULL, 0, &why) : STATUS_OK;
    if (!st && recipe.sae.labels)
        st = open_for(names, dir, recipe.sae.labels, target, log, &why);
    if (st)
        log_event(log, LOG_WARNING, "labels", "latents stay without names: %s", why.message);
    recipe_release(&recipe);
    mem_free(lock);
    return STATUS_OK;
}

void label_names_close(struct label_names *names)
{
    label_table_close(&names->table);
}

enum status label_names_append(const struct label_names *names, size_t latent, struct text *out,
                               struct error *err)
{
    struct text label = {0};
    enum status st = STATUS_OK;

    if (names->table.map)
        st = label_table_find(&names->table, latent, &label, err);
    if (!st)
        st = text_check(&label, err);
    if (!st && label.length) {
        text_append(out, "  ");
        text_append_visible(out, label.data, label.length, LABEL_WIDTH);
    }
    text_release(&label);
    return st;
}

enum status label_names_append_json(const struct label_names *names, size_t latent,
                                    struct text *out, struct error *err)
{
    text_append(out, ",\"label\":");
    return label_table_find_json(names->table.map ? &names->table : NULL, latent, out, err);
}

static void append_member(struct text *out, const char *key, const char *value)
{
    text_appendf(out, ",\"%s\":", key);
    if (value)
        text_append_json_string(out, value, strlen(value));
    else
        text_append(out, "null");
}

static void describe_json(const struct label_counts *counts, const struct label_origin *origin,
                          size_t d_sae, struct text *out)
{
    text_appendf(out, ",\"labels\":%zu,\"empty\":%zu,\"latents\":%zu,\"several\":%zu",
                 counts->labels, counts->empty, counts->latents, counts->several);
    if (counts->labels)
        text_appendf(out, ",\"largest\":%zu", counts->largest);
    else
        text_append(out, ",\"largest\":null");
    if (d_sae)
        text_appendf(out, ",\"d_sae\":%zu", d_sae);
    else
        text_append(out, ",\"d_sae\":null");
    append_member(out, "layout", origin->layout);
    append_member(out, "model", origin->model);
    append_member(out, "source", origin->source);
    append_member(out, "hook", origin->hook);
    append_member(out, "release", origin->release);
    append_member(out, "sae_id", origin->sae_id);
    append_member(out, "sae_hash", origin->sae_hash);
}

/* These come from files, too. */
static void append_fact(struct text *out, const char *name, const char *value)
{
    if (!value)
        return;
    text_appendf(out, "  %-11s ", name);
    text_append_visible(out, value, strlen(value), LABEL_WIDTH);
    text_append_char(out, '\n');
}

void label_names_describe(const struct label_counts *counts, const struct label_origin *origin,
                          size_t d_sae, int json, struct text *out)
{
    if (json) {
        describe_json(counts, origin, d_sae, out);
        return;
    }
    text_appendf(out, "  %-11s %zu for %zu latents (empty: %zu; latents with several: %zu)\n",
                 "labels", counts->labels, counts->latents, counts->empty, counts->several);
    if (d_sae)
        text_appendf(out, "  %-11s %zu\n", "d_sae", d_sae);
    else
        text_appendf(out, "  %-11s not known, the largest latent is %zu\n", "d_sae",
                     counts->largest);
    append_fact(out, "layout", origin->layout);
    append_fact(out, "model", origin->model);
    append_fact(out, "source", origin->source);
    append_fact(out, "hook", origin->hook);
    append_fact(out, "release", origin->release);
    append_fact(out, "SAE", origin->sae_id);
    append_fact(out, "SAE hash", origin->sae_hash);
}
