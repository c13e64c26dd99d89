#include "sae/sae_load.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sae/sae_cache.h"
#include "sae/sae_find.h"
#include "sae/sae_fold.h"
#include "sae/sae_scheme.h"
#include "sae/tensor_reader.h"
#include "sae/tensor_source.h"

const struct setting sae_override_settings[] = {
    {.name = "format",
     .type = SETTING_STRING,
     .offset = offsetof(struct sae_overrides, format),
     .fallback = "auto",
     .empty = "auto",
     .help = "layout of the SAE's files: auto, or a name from docs/formats.md"},
    {.name = "k",
     .type = SETTING_U32,
     .offset = offsetof(struct sae_overrides, k),
     .fallback = "null",
     .empty = "null",
     .min = 1,
     .max = UINT32_MAX,
     .help = "latents a token, where the SAE is top-k or its batch top-k threshold is not known"},
    {.name = "threshold",
     .type = SETTING_DOUBLE,
     .offset = offsetof(struct sae_overrides, threshold),
     .fallback = "null",
     .empty = "null",
     .help = "what a latent must exceed to fire, for all latents of a jumprelu or batch top-k SAE"},
    {.name = "norm_factor",
     .type = SETTING_DOUBLE,
     .offset = offsetof(struct sae_overrides, norm_factor),
     .fallback = "null",
     .empty = "null",
     .help = "multiplies x, where the SAE was trained on activations scaled by a constant"},
    {.name = "cache",
     .type = SETTING_PATH,
     .offset = offsetof(struct sae_overrides, cache),
     .fallback = "null",
     .empty = "null",
     .help = "folder where weights are kept as they are multiplied, for the next start"},
    {.name = NULL},
};

/* Description -------------------------------------------------------------------------------- */

void sae_description_init(struct sae_description *description)
{
    *description = (struct sae_description){
        .x_scale = 1, .k = NAN, .threshold_value = NAN, .declared_l0 = NAN};
}

void sae_description_release(struct sae_description *description)
{
    mem_free(description->model);
    mem_free(description->hook);
    text_release(&description->detected);
    text_release(&description->warnings);
    *description = (struct sae_description){0};
}

void sae_warn(struct sae_description *description, const char *format, ...)
{
    va_list args;

    if (description->warnings.length)
        text_append_char(&description->warnings, '\n');
    va_start(args, format);
    text_append_va(&description->warnings, format, args);
    va_end(args);
}

void sae_detected(struct sae_description *description, const char *format, ...)
{
    struct text *out = &description->detected;
    va_list args;

    if (out->length)
        text_append(out, ", ");
    va_start(args, format);
    text_append_va(out, format, args);
    va_end(args);
    for (size_t i = 0; i < out->length; i++) /* names of files may hold anything */
        if ((unsigned char)out->data[i] < 0x20 || out->data[i] == 0x7f)
            out->data[i] = '?';
}

bool sae_decides_more(const struct tensor_source *source)
{
    return tensor_source_find(source, "threshold") || tensor_source_find(source, "k") ||
           tensor_source_find(source, "group_sizes");
}

size_t sae_description_d_in(const struct sae_description *description,
                            const struct tensor_source *source)
{
    const struct tensor_entry *w_enc = tensor_source_find(source, description->w_enc);
    bool latents_first = description->w_enc_layout == WEIGHT_LATENTS_FEATURES;

    return w_enc && w_enc->shape.rank == 2 ? (size_t)w_enc->shape.dims[latents_first ? 1 : 0] : 0;
}

/* Tensors that decide what fires: one that is there and unused may mean a wrong configuration. */
static void warn_unused(struct sae_description *d, const struct tensor_source *source)
{
    static const char *const deciding[] = {
        "threshold",
        "log_threshold",
        "topk_threshold",
        "log_jumprelu_threshold",
        "activation_function.log_jumprelu_threshold",
        "activation_function.threshold",
        "b_gate",
        "r_mag",
        "b_mag",
        "gate_bias",
        "mag_bias",
    };
    const char *const used[] = {d->threshold, d->spare, d->b_gate, d->r_mag, d->b_mag};

    for (size_t i = 0; i < sizeof(deciding) / sizeof(deciding[0]); i++) {
        bool unused = tensor_source_find(source, deciding[i]) != NULL;

        for (size_t j = 0; j < sizeof(used) / sizeof(used[0]); j++)
            if (used[j] && strcmp(used[j], deciding[i]) == 0)
                unused = false;
        if (unused)
            sae_warn(d, "tensor '%s' is present but %s does not use it", deciding[i],
                     activation_name(d->activation));
    }
}

static enum status override_k(struct sae_description *d, const struct sae_overrides *overrides,
                              struct error *err)
{
    if (d->k_instead && !isnan(overrides->threshold))
        return error_set(err, STATUS_INVALID, "sae.k and sae.threshold exclude each other");
    if (d->k_instead) {
        d->activation = ACTIVATION_TOPK;
        d->threshold = NULL;
    } else if (!sae_takes_k(d)) {
        return error_set(err, STATUS_INVALID, "sae.k: this SAE is %s and has no k",
                         activation_name(d->activation));
    }
    d->k = overrides->k;
    return STATUS_OK;
}

static enum status apply_overrides(struct sae_description *d, const struct sae_overrides *overrides,
                                   struct error *err)
{
    enum status st = STATUS_OK;

    if (overrides->k)
        st = override_k(d, overrides, err);
    if (st)
        return st;
    if (!isnan(overrides->threshold)) {
        if (d->activation != ACTIVATION_JUMPRELU)
            return error_set(err, STATUS_INVALID, "sae.threshold: this SAE is %s and has none",
                             activation_name(d->activation));
        if (!isfinite(overrides->threshold))
            return error_set(err, STATUS_INVALID, "sae.threshold: %g is not finite",
                             overrides->threshold);
        d->threshold = NULL;
        d->threshold_value = overrides->threshold;
        d->threshold_space = THRESHOLD_OF_LATENT;
    }
    if (!isnan(overrides->norm_factor)) {
        if (!(overrides->norm_factor > 0 && overrides->norm_factor <= FLT_MAX))
            return error_set(err, STATUS_INVALID, "sae.norm_factor: %g, expected a number above 0",
                             overrides->norm_factor);
        if (d->norm != SAE_NORM_NONE)
            return error_set(err, STATUS_INVALID,
                             "sae.norm_factor: this SAE takes the norm of "
                             "every token, a factor would change nothing");
        d->x_scale = overrides->norm_factor;
    }
    return STATUS_OK;
}

/* What the files left open and no setting closed. */
static enum status check_complete(const struct sae_description *d, struct error *err)
{
    if (isnan(d->x_scale))
        return error_set(err, STATUS_INVALID,
                         "trained on activations scaled by a factor that is not in the files; set "
                         "sae.norm_factor");
    if (sae_takes_k(d) && isnan(d->k))
        return error_set(err, STATUS_INVALID, "%s",
                         d->question ? d->question : "top-k without k; set sae.k");
    if (d->activation == ACTIVATION_JUMPRELU && !d->threshold && isnan(d->threshold_value)) {
        if (d->question)
            return error_set(err, STATUS_INVALID, "%s", d->question);
        if (d->k_instead)
            return error_set(err, STATUS_INVALID,
                             "batch top-k without a threshold; set sae.threshold, or sae.k for "
                             "top-k per token");
        return error_set(err, STATUS_INVALID,
                         "jumprelu without the tensor 'threshold'; set sae.threshold");
    }
    return STATUS_OK;
}

static void append_jumprelu(const struct sae_description *d, struct text *out)
{
    bool scaled = d->threshold_space == THRESHOLD_OF_SCALED;

    if (isnan(d->threshold_value))
        text_append(out, ", jumprelu with a threshold per latent");
    else
        text_appendf(out, ", jumprelu above %g", d->threshold_value / (scaled ? d->x_scale : 1));
    if (d->threshold_space == THRESHOLD_OF_STRENGTH)
        text_append(out, " of latent times decoder norm");
}

/* "x - b_dec, relu, top 32 per token" */
static void append_formula(const struct sae_description *d, struct text *out)
{
    if (d->norm == SAE_NORM_LAYER)
        text_append(out, "layer norm of x");
    else if (d->norm == SAE_NORM_CONSTANT)
        text_append(out, "x scaled to norm sqrt(d_in)");
    else if (d->x_scale != 1)
        text_appendf(out, "%g x", d->x_scale);
    else
        text_append(out, "x");
    if (d->subtract)
        text_appendf(out, " - %s", d->subtract);
    if (d->row_scale == ROW_SCALE_DECODER_NORM)
        text_append(out, ", times decoder norms");
    if (d->unscale && d->x_scale != 1)
        text_appendf(out, ", divided by %g again", d->x_scale);
    switch (d->activation) {
    case ACTIVATION_TANH_RELU:
        text_append(out, ", tanh of relu");
        break;
    case ACTIVATION_JUMPRELU:
        append_jumprelu(d, out);
        break;
    case ACTIVATION_TOPK:
        text_appendf(out, ", relu, top %g per token", d->k);
        break;
    case ACTIVATION_TOPK_SIGNED:
        text_appendf(out, ", top %g per token by magnitude, sign kept", d->k);
        break;
    case ACTIVATION_GROUPMAX:
        text_appendf(out, ", relu, the largest of each of %g groups", d->k);
        break;
    case ACTIVATION_GATED:
        text_append(out, ", gated relu");
        break;
    default:
        text_append(out, ", relu");
        break;
    }
    if (d->target == SAE_TARGET_OTHER)
        text_append(out, " (transcoder)");
}

/* Facts for people. */
static enum status note_facts(struct sae *sae, const struct tensor_source *source,
                              const struct sae_scheme *scheme, const struct sae_files *files,
                              struct sae_description *d, struct error *err)
{
    const struct tensor_entry *w_enc = tensor_source_find(source, d->w_enc);
    struct text formula = {0};
    bool ok;

    append_formula(d, &formula);
    sae->scheme = mem_strdup(scheme->name);
    sae->path = mem_strdup(files->path);
    sae->dtype = mem_strdup(dtype_name(w_enc->dtype));
    sae->formula = mem_strdup(text_string(&formula));
    sae->detected = mem_strdup(text_string(&d->detected));
    if (d->warnings.length)
        sae->warnings = mem_strdup(text_string(&d->warnings));
    ok = sae->scheme && sae->path && sae->dtype && sae->formula && sae->detected &&
         !formula.failed && !d->detected.failed && !d->warnings.failed &&
         (sae->warnings || !d->warnings.length);
    text_release(&formula);
    sae->model = d->model;
    sae->hook = d->hook;
    d->model = d->hook = NULL;
    sae->declared_l0 = sae_takes_k(d) ? d->k : d->declared_l0;
    sae->norm_expected = NAN;
    if (d->scaled_norm != SCALED_NORM_UNKNOWN)
        sae->norm_expected =
            (d->scaled_norm == SCALED_NORM_ROOT ? sqrt((double)sae->d_in) : 1) / d->x_scale;
    for (size_t i = 0; i < source->n_entries; i++)
        sae->weights_bytes += source->entries[i].count * sizeof(float);
    return ok ? STATUS_OK : error_nomem(err);
}

/* Entry -------------------------------------------------------------------------------------- */

static enum status find_scheme(const char *name, const struct sae_scheme **scheme,
                               struct error *err)
{
    const char *names[SAE_SCHEMES_MAX + 2] = {"auto"};
    const char *nearest;
    struct text known = {0};
    size_t n = 1;
    enum status st;

    *scheme = NULL;
    if (!name || strcmp(name, "auto") == 0)
        return STATUS_OK;
    for (size_t i = 0; sae_schemes[i]; i++) {
        if (!sae_schemes[i]->describe)
            continue;
        if (strcmp(sae_schemes[i]->name, name) == 0) {
            *scheme = sae_schemes[i];
            return STATUS_OK;
        }
        assert(n + 1 < sizeof(names) / sizeof(names[0]));
        names[n++] = sae_schemes[i]->name;
    }
    for (size_t i = 0; i < n; i++)
        text_appendf(&known, "%s%s", i ? ", " : "", names[i]);
    nearest = setting_nearest(name, names);
    if (nearest)
        st = error_set(err, STATUS_INVALID,
                       "sae.format: unknown value '%s' (did you mean '%s'?); there are %s", name,
                       nearest, text_string(&known));
    else
        st = error_set(err, STATUS_INVALID, "sae.format: unknown value '%s'; there are %s", name,
                       text_string(&known));
    text_release(&known);
    return st;
}

/* "saelens (cfg.json is missing) and circuit_tracer" */
static void append_scheme(const struct sae_scheme *scheme, const struct sae_files *files,
                          const char *separator, struct text *out)
{
    text_appendf(out, "%s%s", separator, scheme->name);
    if (scheme->needs && !sae_files_beside(files, scheme->needs))
        text_appendf(out, " (%s is missing)", scheme->needs);
}

static enum status refuse_all(const struct sae_found *found, const struct tensor_source *source,
                              struct error *err)
{
    struct text names = {0}, schemes = {0};
    enum status st;

    for (size_t i = 0; i < found->n_schemes; i++)
        text_appendf(&schemes, "%s%s", i ? " or " : " of ", found->schemes[i]->name);
    tensor_names(source, &names);
    st =
        error_set(err, STATUS_FORMAT,
                  "not an SAE%s by its tensors (%s); docs/formats.md has the layouts that are read",
                  text_string(&schemes), text_string(&names));
    text_release(&names);
    text_release(&schemes);
    return st;
}

/*
 * A file that one scheme claims by the files beside it is that scheme's, whatever its tensors: what
 * is missing has a better message there. Else the tensors decide, and leave no choice to us.
 */
static enum status choose_scheme(const struct sae_found *found, const struct tensor_source *source,
                                 const struct sae_scheme **chosen, struct error *err)
{
    const struct sae_scheme *const *schemes = found->n_schemes ? found->schemes : sae_schemes;
    struct text fitting = {0};
    size_t n = 0;
    enum status st = STATUS_OK;

    *chosen = found->schemes[0];
    if (found->n_schemes == 1)
        return STATUS_OK;
    for (size_t i = 0; found->n_schemes ? i < found->n_schemes : schemes[i] != NULL; i++) {
        if (!schemes[i]->fits(&found->files, source))
            continue;
        append_scheme(schemes[i], &found->files, n++ ? " and " : "", &fitting);
        *chosen = schemes[i];
    }
    if (n == 0)
        st = refuse_all(found, source, err);
    else if (n > 1)
        st = error_set(err, STATUS_INVALID, "its tensors fit %s; set sae.format",
                       text_string(&fitting));
    else if (!(*chosen)->describe)
        st = sae_refuse_unread(&found->files, *chosen, err);
    text_release(&fitting);
    return st;
}

/* Cache ---------------------------------------------------------------------------------------- */

enum {
    CACHE_W_ENC,
    CACHE_B_ENC,
    CACHE_THRESHOLD,
    CACHE_R_MAG,
    CACHE_B_MAG,
    CACHE_W_DEC,
    CACHE_B_DEC,
    CACHE_ARRAYS
};

/* The arrays of an SAE whose sizes are known, with what it has of them. */
static void list_arrays(const struct sae *sae, bool decoder,
                        struct sae_cache_array arrays[CACHE_ARRAYS])
{
    bool gated = sae->activation == ACTIVATION_GATED;
    size_t latents = sae->d_sae * sizeof(float), out = decoder ? sae->d_out * sizeof(float) : 0;

    arrays[CACHE_W_ENC] = (struct sae_cache_array){sae->w_enc.data, sae->d_in * latents};
    arrays[CACHE_B_ENC] = (struct sae_cache_array){sae->b_enc, latents};
    arrays[CACHE_THRESHOLD] = (struct sae_cache_array){
        sae->threshold, gated || sae->activation == ACTIVATION_JUMPRELU ? latents : 0};
    arrays[CACHE_R_MAG] = (struct sae_cache_array){sae->r_mag, gated ? latents : 0};
    arrays[CACHE_B_MAG] = (struct sae_cache_array){sae->b_mag, gated ? latents : 0};
    arrays[CACHE_W_DEC] = (struct sae_cache_array){sae->w_dec.data, sae->d_sae * out};
    arrays[CACHE_B_DEC] = (struct sae_cache_array){sae->b_dec, out};
}

/* The map is read only, and so is an SAE once it is loaded. */
static float *floats(const struct sae_cache_array *array)
{
    return (float *)(uintptr_t)array->data;
}

static void take_arrays(struct sae *sae, const struct sae_cache_array arrays[CACHE_ARRAYS],
                        enum sae_target target)
{
    sae->w_enc = (struct matrix){.data = floats(&arrays[CACHE_W_ENC]),
                                 .rows = sae->d_sae,
                                 .cols = sae->d_in,
                                 .stride = sae->d_in};
    sae->b_enc = floats(&arrays[CACHE_B_ENC]);
    sae->threshold = floats(&arrays[CACHE_THRESHOLD]);
    sae->r_mag = floats(&arrays[CACHE_R_MAG]);
    sae->b_mag = floats(&arrays[CACHE_B_MAG]);
    if (!arrays[CACHE_W_DEC].data)
        return;
    sae->w_dec = (struct matrix){.data = floats(&arrays[CACHE_W_DEC]),
                                 .rows = sae->d_sae,
                                 .cols = sae->d_out,
                                 .stride = sae->d_out};
    sae->b_dec = floats(&arrays[CACHE_B_DEC]);
    sae->reconstructs = target == SAE_TARGET_INPUT;
}

/* All that decides what is made of the weights, beside their bytes. */
static enum status cache_key(struct hash128 *key, const struct sae *sae,
                             const struct sae_description *d, bool decoder, struct error *err)
{
    const char *const names[] = {d->subtract, d->w_enc, d->b_enc, d->threshold, d->b_gate,
                                 d->r_mag,    d->b_mag, d->w_dec, d->b_dec};
    struct text all = {0};
    char hex[HASH128_HEX_SIZE];
    enum status st;

    hash128_hex(sae->hash, hex);
    text_appendf(&all, "saerl %s %s %zu %zu %zu %d %d %a %d %d %d %zu %d %a %d %d %a %d",
                 SAERL_VERSION, hex, sae->d_in, sae->d_sae, sae->d_out, decoder, (int)d->norm,
                 d->x_scale, (int)d->w_enc_layout, d->unscale, (int)d->row_scale, d->n_active,
                 (int)d->activation, d->k, (int)d->threshold_form, (int)d->threshold_space,
                 d->threshold_value, (int)d->w_dec_layout);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        text_appendf(&all, " %s", names[i] ? names[i] : "-");
    st = text_check(&all, err);
    if (!st)
        *key = hash128(text_string(&all), all.length);
    text_release(&all);
    return st;
}

/* As sae_fold(), from the cache or into it. */
static enum status fold_cached(struct sae *sae, const struct tensor_source *source,
                               const struct sae_description *d, const char *path, const char *dir,
                               enum sae_read read, struct error *err)
{
    bool decoder = read == SAE_READ_ALL && tensor_source_find(source, d->w_dec), found;
    struct sae_cache_array arrays[CACHE_ARRAYS];
    enum status st;

    sae->cache_dir = mem_strdup(dir);
    if (!sae->cache_dir)
        return error_nomem(err);
    st = sae_fold(sae, source, d, SAE_READ_FACTS, err);
    if (!st)
        st = sae_fold_check_memory(sae, source, d, read, err);
    if (!st)
        st = hash_file(&sae->hash, NULL, path, err);
    if (!st)
        st = cache_key(&sae->cache_key, sae, d, decoder, err);
    if (st)
        return st;
    list_arrays(sae, decoder, arrays);
    st = sae_cache_open(&sae->cache, &found, dir, sae->cache_key, "weights", arrays, CACHE_ARRAYS,
                        err);
    if (!st && found) {
        take_arrays(sae, arrays, d->target);
        return STATUS_OK;
    }
    if (!st)
        st = sae_fold(sae, source, d, read, err);
    if (st)
        return st;
    list_arrays(sae, decoder, arrays);
    st = sae_cache_store(dir, sae->cache_key, "weights", arrays, CACHE_ARRAYS, err);
    return st ? error_wrap(err, st, "sae.cache") : STATUS_OK;
}

static enum status load(struct sae *sae, const char *path, const struct sae_overrides *overrides,
                        enum sae_read read, struct error *err)
{
    struct sae_found found = {0};
    struct tensor_source source = {0};
    struct sae_description description;
    const struct sae_scheme *only, *scheme;
    enum status st;

    sae_description_init(&description);
    st = find_scheme(overrides->format, &only, err);
    if (st)
        goto out;
    st = sae_find(&found, path, only, err);
    if (st)
        goto out;
    st = tensor_source_open(&source, found.files.path, err);
    if (st)
        goto out;
    st = choose_scheme(&found, &source, &scheme, err);
    if (st)
        goto out;
    st = scheme->describe(&found.files, &source, &description, err);
    if (st)
        goto out;
    if (only)
        sae_detected(&description, "as sae.format says");
    if (!tensor_source_find(&source, description.w_enc)) {
        /* Before any question about settings: this may be another family altogether. */
        st = tensor_refuse_missing(&source, description.w_enc, err);
        goto out;
    }
    warn_unused(&description, &source);
    st = apply_overrides(&description, overrides, err);
    if (st)
        goto out;
    st = check_complete(&description, err);
    if (st)
        goto out;
    if (read == SAE_READ_FACTS || !overrides->cache)
        st = sae_fold(sae, &source, &description, read, err);
    else
        st = fold_cached(sae, &source, &description, found.files.path, overrides->cache, read, err);
    /* Last, since the weights decide first whether the file is one to read at all. */
    if (!st && read != SAE_READ_FACTS && !overrides->cache)
        st = hash_file(&sae->hash, NULL, found.files.path, err);
    if (!st)
        st = note_facts(sae, &source, scheme, &found.files, &description, err);
out:
    sae_description_release(&description);
    tensor_source_close(&source);
    sae_found_release(&found);
    return st;
}

enum status sae_load(struct sae *sae, const char *path, const struct sae_overrides *overrides,
                     enum sae_read read, struct error *err)
{
    const struct sae_overrides none = {.threshold = NAN, .norm_factor = NAN};
    enum status st;

    *sae = (struct sae){0};
    st = load(sae, path, overrides ? overrides : &none, read, err);
    if (!st)
        return STATUS_OK;
    sae_release(sae);
    return error_wrap(err, st, "loading SAE '%s'", path);
}
