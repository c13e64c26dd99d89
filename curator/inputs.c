#include "curator/inputs.h"

#include <glob.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

void inputs_release(struct inputs *inputs)
{
    for (size_t i = 0; i < inputs->n; i++)
        mem_free(inputs->files[i].path);
    mem_free(inputs->files);
    *inputs = (struct inputs){0};
}

static enum status expand_one(struct string_list *out, const char *pattern, const char *key,
                              struct error *err)
{
    glob_t found = {0};
    enum status st = STATUS_OK;
    int code;

    /* A file that is there by that very name is no pattern, whatever it contains. */
    if (!strpbrk(pattern, "*?[") || access(pattern, F_OK) == 0)
        return string_list_append(out, pattern, err);
    code = glob(pattern, GLOB_ERR, NULL, &found);
    if (code == GLOB_NOMATCH)
        st = error_set(err, STATUS_INVALID, "%s: '%s' matches no file", key, pattern);
    else if (code == GLOB_NOSPACE)
        st = error_nomem(err);
    else if (code)
        st = error_set(err, STATUS_IO, "%s: '%s': a folder cannot be read", key, pattern);
    for (size_t i = 0; !st && i < found.gl_pathc; i++)
        st = string_list_append(out, found.gl_pathv[i], err);
    globfree(&found);
    return st;
}

static enum status expand_list(struct string_list *list, const char *key, struct error *err)
{
    struct string_list expanded = {0};
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < list->n; i++)
        st = expand_one(&expanded, list->items[i], key, err);
    if (st) {
        string_list_release(&expanded);
        return st;
    }
    string_list_release(list);
    *list = expanded;
    return STATUS_OK;
}

static enum status refuse_parquet(const struct string_list *paths, struct error *err)
{
    for (size_t i = 0; i < paths->n; i++) {
        if (text_ends_with(paths->items[i], ".parquet"))
            return error_set(
                err, STATUS_UNSUPPORTED,
                "%s: Parquet is not read; convert it: python3 -c \"import pandas; "
                "pandas.read_parquet('%s').to_json('data.jsonl', orient='records', lines=True)\"",
                paths->items[i], paths->items[i]);
    }
    return STATUS_OK;
}

enum status inputs_expand(struct recipe *recipe, struct error *err)
{
    enum status st = expand_list(&recipe->input.data, "input.data", err);

    if (!st)
        st = refuse_parquet(&recipe->input.data, err);
    if (!st)
        st = expand_list(&recipe->input.activations, "input.activations", err);
    if (!st)
        st = expand_list(&recipe->decontaminate.against, "decontaminate.against", err);
    return st;
}

static enum status hash_one(struct inputs *inputs, const char *role, const char *path,
                            struct input_cache *cache, struct error *err)
{
    struct input_file *file;
    void *files = inputs->files;
    enum status st;

    if (!mem_grow(&files, &inputs->capacity, inputs->n + 1, sizeof(*inputs->files)))
        return error_nomem(err);
    inputs->files = files;
    file = &inputs->files[inputs->n];
    *file = (struct input_file){.role = role};
    st = cache ? input_cache_hash(cache, path, &file->hash, &file->bytes, err)
               : hash_file(&file->hash, &file->bytes, path, err);
    if (st)
        return error_wrap(err, st, "%s", role);
    file->path = mem_strdup(path);
    if (!file->path)
        return error_nomem(err);
    inputs->n++;
    return STATUS_OK;
}

static enum status hash_list(struct inputs *inputs, const char *role,
                             const struct string_list *list, struct input_cache *cache,
                             struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < list->n; i++)
        st = hash_one(inputs, role, list->items[i], cache, err);
    return st;
}

enum status inputs_hash(struct inputs *inputs, const struct recipe *recipe, const char *sae_weights,
                        struct input_cache *cache, struct error *err)
{
    const struct {
        const char *role, *path, *word; /* `word` in place of a path is not a file */
    } single[] = {
        {"input.features", recipe->input.features, ""},
        {"sae", sae_weights, ""},
        {"sae.labels", recipe->sae.labels, ""},
        {"quality.probe", recipe->quality.probe, "recon"},
        {"quality.fit_labels", recipe->quality.fit_labels, "field"},
        {"difficulty.probe", recipe->difficulty.probe, ""},
        {"difficulty.fit_labels", recipe->difficulty.fit_labels, "field"},
    };
    enum status st;

    *inputs = (struct inputs){0};
    st = hash_list(inputs, "input.data", &recipe->input.data, cache, err);
    if (!st)
        st = hash_list(inputs, "input.activations", &recipe->input.activations, cache, err);
    if (!st)
        st = hash_list(inputs, "decontaminate.against", &recipe->decontaminate.against, cache, err);
    for (size_t i = 0; !st && i < sizeof(single) / sizeof(*single); i++) {
        if (single[i].path && strcmp(single[i].path, single[i].word) != 0)
            st = hash_one(inputs, single[i].role, single[i].path, cache, err);
    }
    if (st)
        inputs_release(inputs);
    return st;
}

/* Hashes of the inputs whose role is in `roles` (NULL-terminated), or of all for NULL. */
static void append_hashes(struct text *out, const struct inputs *inputs, const char *const *roles)
{
    for (size_t i = 0; i < inputs->n; i++) {
        char hex[HASH128_HEX_SIZE];
        bool wanted = roles == NULL;

        for (size_t j = 0; roles && roles[j]; j++)
            wanted |= strcmp(inputs->files[i].role, roles[j]) == 0;
        if (!wanted)
            continue;
        hash128_hex(inputs->files[i].hash, hex);
        text_appendf(out, "%s %s\n", inputs->files[i].role, hex);
    }
}

static enum status finish_key(struct hash128 *key, struct text *all, struct error *err)
{
    enum status st = text_check(all, err);

    if (!st)
        *key = hash128(text_string(all), all->length);
    text_release(all);
    return st;
}

/* A path says where, the hash of its role says what; words in place of a path say what, too. */
static void forget_path(char **path, const char *word)
{
    if (*path && strcmp(*path, word) != 0)
        *path = NULL;
}

/* Pointers of `what` are cleared, what they point to stays its owner's. */
static void forget_paths(struct recipe *what)
{
    what->input.data = what->input.activations = what->decontaminate.against =
        (struct string_list){0};
    forget_path(&what->input.features, "");
    forget_path(&what->sae.path, "");
    forget_path(&what->sae.labels, "");
    forget_path(&what->sae.overrides.cache, "");
    forget_path(&what->quality.probe, "recon");
    forget_path(&what->quality.fit_labels, "field");
    forget_path(&what->difficulty.probe, "");
    forget_path(&what->difficulty.fit_labels, "field");
    forget_path(&what->output.dir, "");
    forget_path(&what->serve.state, "");
    forget_path(&what->serve.curve.secret_key, "");
    what->resources.threads = what->resources.chunk_rows = 0;
    what->resources.memory = 0;
}

enum status inputs_fingerprint(struct hash128 *fingerprint, const struct inputs *inputs,
                               const struct recipe *recipe, const char *formula, struct error *err)
{
    struct recipe what = *recipe;
    struct text all = {0};

    forget_paths(&what);
    text_appendf(&all, "saerl %s\n%s\n", SAERL_VERSION, formula ? formula : "");
    settings_print_yaml(recipe_schema, &what, &all);
    append_hashes(&all, inputs, NULL);
    return finish_key(fingerprint, &all, err);
}

struct recipe inputs_essence(const struct recipe *recipe)
{
    struct recipe what = *recipe;

    forget_paths(&what);
    what.name = NULL;
    memset(&what.online, 0, sizeof(what.online));
    memset(&what.serve, 0, sizeof(what.serve));
    memset(&what.metrics, 0, sizeof(what.metrics));
    memset(&what.output, 0, sizeof(what.output));
    return what;
}

enum status inputs_state_fingerprint(struct hash128 *fingerprint, const struct inputs *inputs,
                                     const struct recipe *recipe, const char *formula,
                                     struct error *err)
{
    /* All but sae.labels: names of latents are for reports, no number depends on them. */
    static const char *const roles[] = {"input.data",
                                        "input.activations",
                                        "decontaminate.against",
                                        "input.features",
                                        "sae",
                                        "quality.probe",
                                        "quality.fit_labels",
                                        "difficulty.probe",
                                        "difficulty.fit_labels",
                                        NULL};
    const struct recipe what = inputs_essence(recipe);
    struct text all = {0};

    text_appendf(&all, "saerl state\n%s\n", formula ? formula : "");
    settings_print_yaml(recipe_schema, &what, &all);
    append_hashes(&all, inputs, roles);
    return finish_key(fingerprint, &all, err);
}

enum status inputs_encode_key(struct hash128 *key, const struct inputs *inputs,
                              const struct recipe *recipe, const char *formula, struct error *err)
{
    static const char *const roles[] = {"input.data", "input.activations", "input.features", "sae",
                                        NULL};
    struct text all = {0};

    text_appendf(&all, "saerl %s\n%s\n", SAERL_VERSION, formula ? formula : "");
    text_appendf(&all, "format %s k %u ",
                 recipe->sae.overrides.format ? recipe->sae.overrides.format : "auto",
                 recipe->sae.overrides.k);
    text_appendf(&all, "layer %lld ", (long long)recipe->input.layer);
    text_appendf(
        &all, "pooling %d precision %d limit %llu prompt %s force %d sink ", recipe->sae.pooling,
        recipe->sae.precision, (unsigned long long)recipe->input.limit,
        recipe->input.fields.prompt ? recipe->input.fields.prompt : "", recipe->sae.force_hook);
    text_append_double(&all, recipe->sae.sink_norm);
    text_append(&all, " threshold ");
    text_append_double(&all, recipe->sae.overrides.threshold);
    text_append(&all, " factor ");
    text_append_double(&all, recipe->sae.overrides.norm_factor);
    text_append_char(&all, '\n');
    append_hashes(&all, inputs, roles);
    return finish_key(key, &all, err);
}
