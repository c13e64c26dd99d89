/*
 * cli/show.c - `saerl show`: reads a whole file or folder and tells what it is.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/label_names.h"
#include "cli/recipe_args.h"
#include "curator/audit_labels.h"
#include "curator/inputs.h"
#include "curator/model_file.h"
#include "curator/pipeline.h"
#include "formats/features.h"
#include "formats/json.h"
#include "formats/jsonl.h"
#include "formats/npy.h"
#include "formats/safetensors.h"
#include "formats/torch_zip.h"
#include "sae/sae_load.h"
#include "sae/sae_stats.h"
#include "scoring/probe.h"

/* Tensors, and values, that are named on a terminal; JSON has all. */
#define LISTED 64
#define JSON_BYTES_MAX ((size_t)64 << 20)

#define EXAMPLES_SHOWN 5

struct show {
    struct cli *cli;
    const char *path;
    int json;
    const struct recipe *recipe; /* for --set, --activations and --labels-table */
    struct text out;
};

static void begin(struct show *show, const char *kind)
{
    if (show->json) {
        text_append(&show->out, "{\"path\":");
        text_append_json_string(&show->out, show->path, strlen(show->path));
        text_appendf(&show->out, ",\"kind\":\"%s\"", kind);
    } else {
        text_appendf(&show->out, "%s: %s\n", show->path, kind);
    }
}

static void end(struct show *show)
{
    if (show->json)
        text_append(&show->out, "}\n");
}

/* An SAE and what can be said of it. */
struct shown_sae {
    struct sae sae;
    struct sae_stats stats;
    bool measured;
    struct densest densest;
    const char *densities; /* where these come from; NULL: not known */
    struct label_names names;
};

/* On the activations, as encode and run do it. */
static enum status measure(struct shown_sae *shown, const struct show *show, struct error *err)
{
    const struct recipe *recipe = show->recipe;
    struct activations *activations = NULL;
    enum status st;

    st = activations_open(&activations, (const char *const *)recipe->input.activations.items,
                          recipe->input.activations.n, recipe->input.layer, err);
    if (!st)
        st = pipeline_check_hook(&shown->sae, activations, recipe, &show->cli->log, err);
    if (!st)
        st = cli_start_workers(show->cli, recipe->resources.threads, err);
    if (!st)
        st = pipeline_prepare_sae(&shown->sae, recipe, &show->cli->kernels, show->cli->workers,
                                  &show->cli->log, err);
    if (!st)
        st = sae_stats_measure(&shown->stats, &shown->sae, activations, recipe->sae.sink_norm,
                               &show->cli->kernels, show->cli->workers, err);
    if (!st) {
        shown->measured = true;
        shown->densest = shown->stats.densest;
        shown->densities = "activations";
    }
    activations_close(activations);
    return st;
}

/* What was published beside the weights; a file of no use there does not make the SAE unsound. */
static void take_published(struct shown_sae *shown, const struct log *log)
{
    struct error why = {0};
    bool found = false;

    if (densest_read(&shown->densest, &found, &shown->sae, &why))
        log_event(log, LOG_WARNING, "sae", "densities stay unknown: %s", why.message);
    if (found)
        shown->densities = DENSEST_FILE;
}

static enum status describe_json(const struct shown_sae *shown, struct text *out, struct error *err)
{
    const struct label_table *labels = shown->names.table.map ? &shown->names.table : NULL;
    struct text members = {0};
    enum status st;

    sae_describe_json(&shown->sae, shown->measured ? &shown->stats : NULL, &members);
    st = text_check(&members, err);
    text_append_char(out, ',');
    if (!st)
        st = audit_add_labels(text_string(&members), labels, out, err);
    if (!st && !shown->measured && shown->densities) {
        text_append(out, ",\"densest\":[");
        for (size_t i = 0; !st && i < shown->densest.n; i++) {
            text_appendf(out, "%s{\"latent\":%u,\"frequency\":", i ? "," : "",
                         shown->densest.latent[i]);
            text_append_double(out, shown->densest.frequency[i]);
            st = label_names_append_json(&shown->names, shown->densest.latent[i], out, err);
            text_append_char(out, '}');
        }
        text_append_char(out, ']');
    }
    text_append(out, ",\"densities\":");
    text_appendf(out, shown->densities ? "\"%s\"" : "null", shown->densities);
    text_release(&members);
    return st;
}

/* Where an SAE belongs, as its files say. */
static void append_origin(struct text *out, const char *what, const char *name)
{
    text_appendf(out, "%s: ", what);
    if (name)
        text_append_visible(out, name, strlen(name), SIZE_MAX);
    else
        text_append(out, "not known");
    text_append_char(out, '\n');
}

static enum status describe(const struct shown_sae *shown, struct text *out, struct error *err)
{
    enum status st = STATUS_OK;

    sae_describe(&shown->sae, shown->measured ? &shown->stats : NULL, out);
    text_append_char(out, '\n');
    append_origin(out, "model", shown->sae.model);
    append_origin(out, "hook", shown->sae.hook);
    if (!shown->densities) {
        text_append(out, "densest latents: not known; --activations measures them\n");
        return STATUS_OK;
    }
    if (shown->measured)
        text_append(out, "densest latents, measured on these activations:\n");
    else
        text_append(out,
                    "densest latents, in training, from " DENSEST_FILE " beside the weights:\n");
    text_append(out, "    latent  of tokens\n");
    for (size_t i = 0; !st && i < shown->densest.n; i++) {
        text_appendf(out, "  %8u    %5.1f %%", shown->densest.latent[i],
                     100 * shown->densest.frequency[i]);
        st = label_names_append(&shown->names, shown->densest.latent[i], out, err);
        text_append_char(out, '\n');
    }
    return st;
}

static enum status open_names(struct shown_sae *shown, const struct show *show, struct error *err)
{
    char hex[HASH128_HEX_SIZE];
    const struct label_target target = {.d_sae = shown->sae.d_sae,
                                        .model = shown->sae.model,
                                        .hook = shown->sae.hook,
                                        .sae_hash = hex};

    hash128_hex(shown->sae.hash, hex);
    return label_names_open(&shown->names, show->recipe->sae.labels, &target, &show->cli->log, err);
}

static enum status show_sae(struct show *show, struct error *err)
{
    struct shown_sae shown = {0};
    enum status st =
        sae_load(&shown.sae, show->path, &show->recipe->sae.overrides, SAE_READ_ALL, err);

    if (st)
        return st;
    st = open_names(&shown, show, err);
    if (!st && show->recipe->input.activations.n)
        st = measure(&shown, show, err);
    else if (!st)
        take_published(&shown, &show->cli->log);
    if (!st) {
        begin(show, "sae");
        st =
            show->json ? describe_json(&shown, &show->out, err) : describe(&shown, &show->out, err);
        end(show);
    }
    label_names_close(&shown.names);
    sae_release(&shown.sae);
    return st;
}

/* The first few latents that have a name. */
static enum status append_examples(struct show *show, const struct label_names *names,
                                   struct error *err)
{
    struct text label = {0};
    size_t told = 0;
    enum status st = STATUS_OK;

    text_append(&show->out, show->json ? ",\"examples\":[" : "");
    for (size_t latent = 0; !st && told < EXAMPLES_SHOWN && latent < names->table.n_latents;
         latent++) {
        text_clear(&label);
        st = label_table_find(&names->table, latent, &label, err);
        if (st || label.length == 0)
            continue;
        if (show->json)
            text_appendf(&show->out, "%s{\"latent\":%zu", told ? "," : "", latent);
        else
            text_appendf(&show->out, "  %8zu", latent);
        st = show->json ? label_names_append_json(names, latent, &show->out, err)
                        : label_names_append(names, latent, &show->out, err);
        text_append_char(&show->out, show->json ? '}' : '\n');
        told++;
    }
    text_append(&show->out, show->json ? "]" : "");
    text_release(&label);
    return st;
}

static enum status show_labels(struct show *show, struct error *err)
{
    struct label_names names = {0};
    struct label_counts counts;
    enum status st = label_table_open(&names.table, show->path, err);

    if (!st)
        st = label_table_count(&names.table, &counts, err);
    if (!st) {
        begin(show, "labels");
        label_names_describe(&counts, &names.table.origin, names.table.d_sae, show->json,
                             &show->out);
        st = append_examples(show, &names, err);
        end(show);
    }
    label_names_close(&names);
    return st;
}

static enum status show_features(struct show *show, struct error *err)
{
    struct features f = {0};
    enum status st = features_read(&f, show->path, err);
    size_t vectors = 0;

    if (st)
        return st;
    for (size_t row = 0; row < f.rows; row++)
        vectors += features_has_vector(&f, row) ? 1 : 0;
    begin(show, "feature store");
    text_appendf(&show->out,
                 show->json ? ",\"rows\":%zu,\"d_sae\":%zu,\"nonzeros\":%lld,\"vectors\":%zu,"
                              "\"pooling\":\"%s\",\"sae_hash\":\"%s\""
                            : "rows %zu, d_sae %zu, nonzeros %lld, rows with a vector %zu, pooling "
                              "%s, SAE %s\n",
                 f.rows, f.d_sae, (long long)f.indptr[f.rows], vectors,
                 f.pooling ? f.pooling : "unknown", f.sae_hash ? f.sae_hash : "unknown");
    end(show);
    features_release(&f);
    return STATUS_OK;
}

static enum status show_probe(struct show *show, struct error *err)
{
    struct probe probe = {0};
    enum status st = probe_load(&probe, show->path, err);

    if (st)
        return st;
    begin(show, "probe");
    text_append(&show->out, show->json ? "," : "");
    probe_print_json(&probe, &show->out);
    text_append(&show->out, show->json ? "" : "\n");
    end(show);
    probe_release(&probe);
    return STATUS_OK;
}

static enum status show_model(struct show *show, struct error *err)
{
    struct text *out = &show->out;
    const char *sae, *pooling;
    struct model model = {0};
    char fingerprint[HASH128_HEX_SIZE];
    enum status st = model_load(&model, show->path, err);
    size_t kept = 0;

    if (st)
        return st;
    for (size_t row = 0; row < model.rows; row++)
        kept += model.kept[row];
    hash128_hex(model.fingerprint, fingerprint);
    sae = model.sae_hash[0] ? model.sae_hash : "unknown";
    pooling = model.pooling[0] ? model.pooling : "unknown";
    begin(show, "sidecar model");
    text_appendf(out,
                 show->json ? ",\"rows\":%zu,\"kept\":%zu,\"in_batches\":%zu,\"d_sae\":%zu,"
                              "\"clusters\":%u,\"quality\":\"%s\",\"difficulty\":\"%s\","
                              "\"sae_hash\":\"%s\",\"fingerprint\":\"%s\",\"pooling\":"
                            : "rows %zu, kept %zu, in batches %zu; d_sae %zu, clusters %u; quality "
                              "by %s, difficulty by %s; SAE %s, fingerprint %s, pooling ",
                 model.rows, kept, model.n_order, model.d_sae, model.k,
                 model_score_names[model.quality_source],
                 model_score_names[model.difficulty_source], sae, fingerprint);
    if (show->json)
        text_append_json_string(out, pooling, strlen(pooling));
    else
        text_append_visible(out, pooling, strlen(pooling), SIZE_MAX);
    text_append(out, show->json ? "" : "\n");
    end(show);
    model_release(&model);
    return STATUS_OK;
}

/* Every byte is read: a container whose data cannot be read is not sound. */
static enum status read_all(const struct safetensors *file, struct error *err)
{
    enum {
        BLOCK = 1 << 20
    };
    char *block = mem_alloc(BLOCK, 1);
    enum status st = block ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < file->n_tensors; i++) {
        const struct safetensors_tensor *t = &file->tensors[i];
        size_t step = BLOCK / dtype_size(t->dtype);

        for (uint64_t first = 0; !st && first < t->count; first += step) {
            size_t n = t->count - first < step ? (size_t)(t->count - first) : step;

            st = safetensors_read(file, t, first, n, block, err);
        }
    }
    mem_free(block);
    return st;
}

/* A name from a file, for a terminal: control bytes become '?', as in error messages. */
static void append_name(struct text *out, const char *name)
{
    size_t start = out->length;

    text_appendf(out, "  %-32s ", name);
    for (size_t i = start; i < out->length; i++) {
        unsigned char c = (unsigned char)out->data[i];

        if (c < 0x20 || c == 0x7f)
            out->data[i] = '?';
    }
}

/* The i-th of a list. */
static void show_tensor(struct show *show, size_t i, const char *name, enum dtype dtype,
                        const struct shape *shape)
{
    char text[SHAPE_TEXT_MAX];

    shape_text(shape, text);
    if (show->json) {
        text_append(&show->out, i ? ",{\"name\":" : "{\"name\":");
        text_append_json_string(&show->out, name, strlen(name));
        text_appendf(&show->out, ",\"dtype\":\"%s\",\"shape\":%s}", dtype_name(dtype), text);
    } else if (i < LISTED) {
        append_name(&show->out, name);
        text_appendf(&show->out, "%-5s %s\n", dtype_name(dtype), text);
    }
}

/* What a list of n leaves out on a terminal. */
static void show_rest(struct show *show, size_t n, const char *what)
{
    if (!show->json && n > LISTED)
        text_appendf(&show->out, "  and %zu more %s\n", n - LISTED, what);
}

static enum status show_safetensors(struct show *show, struct error *err)
{
    static const struct {
        const char *format;
        enum status (*show)(struct show *show, struct error *err);
    } own[] = {
        {"saerl.features", show_features},
        {"saerl.probe", show_probe},
        {"saerl.labels", show_labels},
        {"saerl.model", show_model},
    };
    struct safetensors file = {0};
    const char *format;
    char kind[32] = "";
    enum status st = safetensors_open(&file, show->path, err);

    if (st)
        return st;
    format = safetensors_metadata_get(&file, "format");
    snprintf(kind, sizeof(kind), "%s", format ? format : "");
    for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++) {
        if (strcmp(kind, own[i].format) == 0) {
            safetensors_close(&file);
            return own[i].show(show, err);
        }
    }
    st = read_all(&file, err);
    if (!st) {
        begin(show, "safetensors");
        text_append(&show->out, show->json ? ",\"tensors\":[" : "");
        for (size_t i = 0; i < file.n_tensors; i++) {
            const struct safetensors_tensor *t = &file.tensors[i];

            show_tensor(show, i, t->name, t->dtype, &t->shape);
        }
        show_rest(show, file.n_tensors, "tensors");
        text_append(&show->out, show->json ? "]" : "");
        end(show);
    }
    safetensors_close(&file);
    return st;
}

static void append_value(const struct torch_value *value, struct text *out)
{
    if (value->type == PICKLE_STRING)
        text_append_json_string(out, value->string, strlen(value->string));
    else if (value->type == PICKLE_BOOL)
        text_append(out, value->number != 0 ? "true" : "false");
    else
        text_append_double(out, value->number);
}

/* What a torch file holds beside its tensors. */
static void show_values(struct show *show, const struct torch_zip *file)
{
    text_append(&show->out, show->json ? ",\"values\":{" : "");
    for (size_t i = 0; i < file->n_values && (show->json || i < LISTED); i++) {
        const struct torch_value *value = &file->values[i];

        if (show->json) {
            text_append(&show->out, i ? "," : "");
            text_append_json_string(&show->out, value->name, strlen(value->name));
            text_append_char(&show->out, ':');
        } else {
            append_name(&show->out, value->name);
        }
        append_value(value, &show->out);
        text_append(&show->out, show->json ? "" : "\n");
    }
    show_rest(show, file->n_values, "values");
    text_append(&show->out, show->json ? "}" : "");
}

static enum status show_torch(struct show *show, struct error *err)
{
    struct torch_zip file = {0};
    enum status st = torch_zip_open(&file, show->path, err);

    if (!st)
        st = torch_zip_check(&file, err);
    if (!st) {
        begin(show, "torch");
        text_append(&show->out, show->json ? ",\"tensors\":[" : "");
        for (size_t i = 0; i < file.n_tensors; i++) {
            const struct torch_tensor *t = &file.tensors[i];

            show_tensor(show, i, t->name, t->dtype, &t->shape);
        }
        show_rest(show, file.n_tensors, "tensors");
        text_append(&show->out, show->json ? "]" : "");
        show_values(show, &file);
        end(show);
    }
    torch_zip_close(&file);
    return st;
}

static enum status show_npy(struct show *show, struct error *err)
{
    char shape[SHAPE_TEXT_MAX];
    struct npy file = {0};
    enum status st = npy_open(&file, show->path, err);

    if (st)
        return st;
    begin(show, "npy");
    shape_text(&file.header.shape, shape);
    text_appendf(&show->out,
                 show->json ? ",\"dtype\":\"%s\",\"shape\":%s,\"fortran_order\":%s"
                            : "  %s %s, Fortran order: %s\n",
                 dtype_name(file.header.dtype), shape,
                 file.header.fortran_order ? "true" : "false");
    end(show);
    npy_close(&file);
    return STATUS_OK;
}

/* Every line must be JSON. */
static enum status show_jsonl(struct show *show, struct error *err)
{
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    struct text keys = {0};
    bool at_end = false;
    size_t n = 0;
    enum status st = jsonl_open(&reader, &show->path, 1, err);

    while (!st) {
        struct json *root = NULL;

        st = jsonl_next(reader, &line, &at_end, err);
        if (st || at_end)
            break;
        st = jsonl_parse(&root, &line, err);
        if (st)
            error_wrap(err, st, "%s:%llu", show->path, (unsigned long long)line.line);
        if (!st && n == 0 && json_type(root) == JSON_OBJECT) {
            for (struct json_iterator it = json_iterate(root); json_next(&it);) {
                text_append(&keys, keys.length ? "," : "");
                text_append_json_string(&keys, it.key, it.key_length);
            }
        }
        json_free(root);
        n++;
    }
    jsonl_close(reader);
    if (!st) {
        begin(show, "jsonl");
        text_appendf(&show->out,
                     show->json ? ",\"rows\":%zu,\"fields\":[%s]"
                                : "  %zu rows; fields of the first: %s\n",
                     n, text_string(&keys));
        end(show);
    }
    text_release(&keys);
    return st;
}

static enum status show_json(struct show *show, struct error *err)
{
    struct json *root = NULL;
    enum status st = json_parse_file(&root, show->path, JSON_BYTES_MAX, NULL, err);

    if (st)
        return st;
    begin(show, "json");
    text_appendf(&show->out, show->json ? ",\"type\":\"%s\",\"length\":%zu" : "  %s, length %zu\n",
                 json_type_name(json_type(root)), json_length(root));
    end(show);
    json_free(root);
    return STATUS_OK;
}

/* A finished run, by its manifest. */
static enum status show_run(struct show *show, const char *manifest, struct error *err)
{
    struct json *root = NULL;
    size_t n;
    const char *format;
    enum status st = json_parse_file(&root, manifest, JSON_BYTES_MAX, NULL, err);

    if (st)
        return st;
    format = json_string(json_member(root, "format"), &n);
    if (!format || strcmp(format, "saerl.run") != 0) {
        st = error_set(err, STATUS_FORMAT, "%s: not the manifest of a run", manifest);
    } else {
        begin(show, "run");
        text_append(&show->out, show->json ? ",\"counts\":" : "  ");
        json_print(json_member(root, "counts"), &show->out);
        text_append(&show->out, show->json ? "" : "\n");
        end(show);
    }
    json_free(root);
    return st;
}

/* A sidecar's state: the model of its data set. The ledger is for sqlite3, and may be in use. */
static enum status show_state(struct show *show, const char *ledger, struct error *err)
{
    char *model = text_format("%s/model.safetensors", show->path);
    const char *folder = show->path;
    enum status st;

    if (!model)
        return error_nomem(err);
    if (access(model, F_OK) == 0) {
        show->path = model;
        st = show_model(show, err);
        show->path = folder;
    } else {
        st = error_set(err, STATUS_INVALID,
                       "%s: a sidecar's state without a data set's model; `sqlite3 -readonly %s` "
                       "asks what is in it",
                       folder, ledger);
    }
    mem_free(model);
    return st;
}

static enum status show_folder(struct show *show, struct error *err)
{
    char *manifest = text_format("%s/manifest.json", show->path);
    char *ledger = text_format("%s/ledger.db", show->path);
    enum status st;

    if (!manifest || !ledger)
        st = error_nomem(err);
    else if (access(manifest, F_OK) == 0)
        st = show_run(show, manifest, err);
    else if (access(ledger, F_OK) == 0)
        st = show_state(show, ledger, err);
    else
        st = show_sae(show, err);
    mem_free(manifest);
    mem_free(ledger);
    return st;
}

static enum status show_path(struct show *show, struct error *err)
{
    static const char *const jsonl_endings[] = {".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.xz",
                                                NULL};
    static const char *const torch_endings[] = {".pt", ".pth", ".bin", NULL};
    struct stat info;

    if (stat(show->path, &info) == 0 && S_ISDIR(info.st_mode))
        return show_folder(show, err);
    if (show->recipe->input.activations.n || show->recipe->sae.labels)
        return show_sae(show, err); /* only an SAE has a use for them */
    if (text_ends_with(show->path, ".safetensors"))
        return show_safetensors(show, err);
    if (text_ends_with(show->path, ".npy"))
        return show_npy(show, err);
    if (text_ends_with(show->path, ".json"))
        return show_json(show, err);
    for (int i = 0; jsonl_endings[i]; i++) {
        if (text_ends_with(show->path, jsonl_endings[i]))
            return show_jsonl(show, err);
    }
    for (int i = 0; torch_endings[i]; i++) {
        if (text_ends_with(show->path, torch_endings[i]))
            return show_torch(show, err);
    }
    /* What is left can only be an SAE in a container of its own. */
    return show_sae(show, err);
}

struct show_options {
    struct argument_list activations;
    const char *labels, *sink_norm;
};

/* The options become settings, so that paths and defaults mean what they mean in a recipe. */
static enum status fill_recipe(struct recipe *recipe, struct recipe_args *args,
                               const struct show_options *options, struct error *err)
{
    static const char *const prefixes[] = {"sae.", "input.layer=", NULL};
    enum status st = recipe_args_restrict(args, prefixes, err);

    recipe_args_flag(args, "sae.labels", options->labels, "--labels-table");
    recipe_args_flag(args, "sae.sink_norm", options->sink_norm, "--sink-norm");
    if (!st)
        st = recipe_args_load(recipe, NULL, args, err);
    for (size_t i = 0; !st && i < options->activations.n; i++)
        st = string_list_append(&recipe->input.activations, options->activations.items[i], err);
    return st ? st : inputs_expand(recipe, err);
}

static enum status show_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                             struct error *err)
{
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    struct show_options options = {0};
    struct recipe recipe = {0};
    enum option_outcome outcome;
    struct recipe_args args;
    struct show show = {.cli = cli, .recipe = &recipe};
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"activations", 0, OPTION_STRINGS, &options.activations, "PATH..", NULL,
         "measure the SAE on these"},
        {"sink-norm", 0, OPTION_STRING, &options.sink_norm, "X", NULL,
         "leave out tokens above X median norms; 0: none"},
        {"labels-table", 0, OPTION_STRING, &options.labels, "F", NULL,
         "names of latents, from saerl labels import"},
        {"set", 0, OPTION_REPEAT, &args.set, "sae.KEY=V", NULL,
         "sae.k, threshold, norm_factor, format, cache ...; input.layer"},
        {"json", 0, OPTION_FLAG, &show.json, NULL, NULL, "print it as JSON"},
        {0},
    };

    options.activations.items = mem_alloc((size_t)argc + 1, sizeof(*options.activations.items));
    if (!st && (!positional || !options.activations.items))
        st = error_nomem(err);
    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, positional, 1, 1, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        st = cli_start(cli, err);
        if (!st)
            st = fill_recipe(&recipe, &args, &options, err);
        if (!st) {
            show.path = positional[0];
            st = show_path(&show, err);
            /* What the file lacks is a failure here, whatever could be set to mend it. */
            if (st == STATUS_INVALID && recipe.input.activations.n == 0)
                st = STATUS_FAILED;
        }
        if (!st)
            st = cli_write(NULL, &show.out, err);
    }
    text_release(&show.out);
    recipe_release(&recipe);
    recipe_args_release(&args);
    mem_free(options.activations.items);
    mem_free(positional);
    return st;
}

const struct verb verb_show = {
    .name = "show",
    .usage = "PATH [--activations PATH..] [--labels-table F] [--set sae.KEY=V] [--json]",
    .summary = "parse a whole file or folder and tell what it is",
    .run = show_verb,
};
