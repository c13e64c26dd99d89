/*
 * cli/show.c - `saerl show`: reads a whole file or folder and tells what it is.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/recipe_args.h"
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

struct show {
    const char *path;
    int json;
    const struct recipe *recipe; /* for --set sae.KEY=VALUE */
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

static enum status show_sae(struct show *show, struct error *err)
{
    struct sae sae = {0};
    enum status st = sae_load(&sae, show->path, &show->recipe->sae.overrides, SAE_READ_ALL, err);

    if (st)
        return st;
    begin(show, "sae");
    if (show->json) {
        text_append_char(&show->out, ',');
        sae_describe_json(&sae, NULL, &show->out);
    } else {
        sae_describe(&sae, NULL, &show->out);
        text_append_char(&show->out, '\n');
    }
    end(show);
    sae_release(&sae);
    return STATUS_OK;
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
    struct safetensors file = {0};
    const char *format;
    char kind[32] = "";
    enum status st = safetensors_open(&file, show->path, err);

    if (st)
        return st;
    format = safetensors_metadata_get(&file, "format");
    snprintf(kind, sizeof(kind), "%s", format ? format : "");
    if (strcmp(kind, "saerl.features") == 0 || strcmp(kind, "saerl.probe") == 0) {
        safetensors_close(&file);
        return strcmp(kind, "saerl.probe") == 0 ? show_probe(show, err) : show_features(show, err);
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

static enum status show_folder(struct show *show, struct error *err)
{
    char *manifest = text_format("%s/manifest.json", show->path);
    enum status st;

    if (!manifest)
        return error_nomem(err);
    st = access(manifest, R_OK) == 0 ? show_run(show, manifest, err) : show_sae(show, err);
    mem_free(manifest);
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

static enum status show_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                             struct error *err)
{
    static const char *const prefixes[] = {"sae.", NULL};
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    struct recipe recipe = {0};
    enum option_outcome outcome;
    struct recipe_args args;
    struct show show = {.recipe = &recipe};
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"set", 0, OPTION_REPEAT, &args.set, "sae.KEY=V", NULL,
         "what a file leaves open: k, threshold, norm_factor, format"},
        {"json", 0, OPTION_FLAG, &show.json, NULL, NULL, "print it as JSON"},
        {0},
    };

    if (!st && !positional)
        st = error_nomem(err);
    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, positional, 1, 1, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        st = cli_start(cli, err);
        if (!st)
            st = recipe_args_restrict(&args, prefixes, err);
        if (!st)
            st = recipe_args_load(&recipe, NULL, &args, err);
        if (!st) {
            show.path = positional[0];
            st = show_path(&show, err);
            /* What the file lacks is a failure here, whatever could be set to mend it. */
            if (st == STATUS_INVALID)
                st = STATUS_FAILED;
        }
        if (!st)
            st = cli_write(NULL, &show.out, err);
    }
    text_release(&show.out);
    recipe_release(&recipe);
    recipe_args_release(&args);
    mem_free(positional);
    return st;
}

const struct verb verb_show = {
    .name = "show",
    .usage = "PATH [--set sae.KEY=V] [--json]",
    .summary = "parse a whole file or folder and tell what it is",
    .run = show_verb,
};
