#include "sae/sae_load.h"

#include <assert.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "sae/sae_find.h"
#include "sae/sae_scheme.h"
#include "sae/tensor_source.h"

/* Elements read at a time: 2 MiB as stored at most, 2 MiB as doubles. */
#define TILE_ELEMENTS ((size_t)1 << 18)

/* Latents (or features) that are transposed together: one cache line of float32. */
#define TRANSPOSE_WIDTH 16

const struct setting sae_override_settings[] = {
    {.name = "format",
     .type = SETTING_STRING,
     .offset = offsetof(struct sae_overrides, format),
     .fallback = "auto",
     .empty = "auto",
     .help = "layout of the SAE's files: auto, saelens, sparsify"},
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
    {.name = NULL},
};

/* Description -------------------------------------------------------------------------------- */

void sae_description_init(struct sae_description *description)
{
    *description = (struct sae_description){
        .x_scale = 1, .z_scale = 1, .k = NAN, .threshold_value = NAN, .declared_l0 = NAN};
}

void sae_description_release(struct sae_description *description)
{
    mem_free(description->model);
    mem_free(description->hook);
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

/* Tensors that decide what fires: one that is there and unused may mean a wrong configuration. */
static void warn_unused(struct sae_description *d, const struct tensor_source *source)
{
    static const char *const deciding[] = {"threshold", "log_threshold", "topk_threshold",
                                           "b_gate",    "r_mag",         "b_mag"};
    const char *const used[] = {d->threshold, d->b_gate, d->r_mag, d->b_mag};

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

static bool takes_k(const struct sae_description *d)
{
    return d->activation == ACTIVATION_TOPK || d->activation == ACTIVATION_TOPK_SIGNED ||
           d->activation == ACTIVATION_GROUPMAX;
}

static enum status override_k(struct sae_description *d, const struct sae_overrides *overrides,
                              struct error *err)
{
    if (d->k_instead && !isnan(overrides->threshold))
        return error_set(err, STATUS_INVALID, "sae.k and sae.threshold exclude each other");
    if (d->k_instead) {
        d->activation = ACTIVATION_TOPK;
        d->threshold = NULL;
    } else if (!takes_k(d)) {
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
    if (takes_k(d) && isnan(d->k))
        return error_set(err, STATUS_INVALID, "%s without k; set sae.k",
                         activation_name(d->activation));
    if (d->activation == ACTIVATION_JUMPRELU && !d->threshold && isnan(d->threshold_value)) {
        if (d->k_instead)
            return error_set(err, STATUS_INVALID,
                             "batch top-k without a threshold; set sae.threshold, or sae.k for "
                             "top-k per token");
        return error_set(err, STATUS_INVALID,
                         "jumprelu without the tensor 'threshold'; set sae.threshold");
    }
    return STATUS_OK;
}

static enum status check_k(const struct sae_description *d, size_t d_sae, struct error *err)
{
    if (!takes_k(d))
        return STATUS_OK;
    if (!(d->k >= 1 && d->k <= (double)d_sae) || d->k != floor(d->k))
        return error_set(err, STATUS_FORMAT, "k is %g, expected an integer from 1 to %zu (d_sae)",
                         d->k, d_sae);
    if (d->activation == ACTIVATION_GROUPMAX && d_sae % (size_t)d->k != 0)
        return error_set(err, STATUS_FORMAT,
                         "k is %g, but groupmax needs equal groups and d_sae is %zu", d->k, d_sae);
    return STATUS_OK;
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
    if (d->z_scale != 1)
        text_appendf(out, ", times %g", d->z_scale);
    switch (d->activation) {
    case ACTIVATION_TANH_RELU:
        text_append(out, ", tanh of relu");
        break;
    case ACTIVATION_JUMPRELU:
        if (isnan(d->threshold_value))
            text_append(out, ", jumprelu with a threshold per latent");
        else
            text_appendf(out, ", jumprelu above %g", d->threshold_value);
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

/* Tensors ------------------------------------------------------------------------------------ */

struct loader {
    struct sae *sae;
    const struct sae_description *d;
    const struct tensor_source *source;
    void *raw;      /* [TILE_ELEMENTS] as stored */
    double *values; /* [TILE_ELEMENTS] */

    double *scale;    /* [d_sae] a latent's pre-activation is multiplied by it */
    double *subtract; /* [d_in], NULL: nothing */
    double *bias;     /* [d_sae] b_enc - subtract W_enc, before scaling */
};

static void loader_release(struct loader *l)
{
    mem_free(l->raw);
    mem_free(l->values);
    mem_free(l->scale);
    mem_free(l->subtract);
    mem_free(l->bias);
}

/* "'W_enc', 'b_enc' and 3 more" */
static void append_tensors(const struct tensor_source *source, struct text *out)
{
    size_t listed = source->n_entries < 6 ? source->n_entries : 6;

    for (size_t i = 0; i < listed; i++)
        text_appendf(out, "%s'%.64s'", i ? ", " : "", source->entries[i].name);
    if (source->n_entries > listed)
        text_appendf(out, " and %zu more", source->n_entries - listed);
    if (source->n_entries == 0)
        text_append(out, "none");
}

static enum status refuse_missing(const struct tensor_source *source, const char *name,
                                  struct error *err)
{
    struct text names = {0};
    enum status st;

    append_tensors(source, &names);
    st = error_set(err, STATUS_FORMAT, "tensor '%s' is missing; there are %s", name,
                   text_string(&names));
    text_release(&names);
    return st;
}

static enum status refuse_shape(const struct tensor_entry *entry, const struct shape *expected,
                                struct error *err)
{
    char found_text[SHAPE_TEXT_MAX], expected_text[SHAPE_TEXT_MAX];

    return error_set(err, STATUS_FORMAT, "tensor '%s': shape %s, expected %s", entry->name,
                     shape_text(&entry->shape, found_text), shape_text(expected, expected_text));
}

static enum status check_vector(const struct tensor_entry *entry, size_t n, struct error *err)
{
    const struct shape expected = {.rank = 1, .dims = {n}};

    if (entry->shape.rank == 1 && entry->shape.dims[0] == n)
        return STATUS_OK;
    return refuse_shape(entry, &expected, err);
}

static enum status check_matrix(const struct tensor_entry *entry, enum weight_layout layout,
                                size_t features, size_t latents, struct error *err)
{
    bool latents_first = layout == WEIGHT_LATENTS_FEATURES;
    const struct shape expected = {
        .rank = 2,
        .dims = {latents_first ? latents : features, latents_first ? features : latents}};

    if (entry->shape.rank == 2 && entry->shape.dims[0] == expected.dims[0] &&
        entry->shape.dims[1] == expected.dims[1])
        return STATUS_OK;
    return refuse_shape(entry, &expected, err);
}

static enum status find_tensor(const struct loader *l, const char *name,
                               const struct tensor_entry **entry, struct error *err)
{
    *entry = tensor_source_find(l->source, name);
    if (!*entry)
        return refuse_missing(l->source, name, err);
    if (!dtype_is_float((*entry)->dtype))
        return error_set(err, STATUS_FORMAT, "tensor '%s': %s, expected F16, BF16, F32 or F64",
                         name, dtype_name((*entry)->dtype));
    return STATUS_OK;
}

/* Values of a tensor that float32 cannot hold. */
struct nonfinite {
    uint64_t count, first; /* first: position in stored order */
};

static void scan_nonfinite(struct nonfinite *bad, const double *values, size_t n, uint64_t first)
{
    size_t n_fit = 0;

    for (size_t i = 0; i < n; i++)
        n_fit += fabs(values[i]) <= (double)FLT_MAX;
    if (n_fit == n) /* without a branch in the loop above: nearly always */
        return;
    for (size_t i = 0; bad->count == 0 && i < n; i++)
        if (!(fabs(values[i]) <= (double)FLT_MAX)) {
            bad->first = first + i;
            break;
        }
    bad->count += n - n_fit;
}

static enum status refuse_nonfinite(const struct tensor_entry *entry, const struct nonfinite *bad,
                                    struct error *err)
{
    struct text where = {0};
    enum status st;

    if (entry->shape.rank == 2) {
        bool by_rows = entry->order == TENSOR_ORDER_ROWS;
        uint64_t fastest = entry->shape.dims[by_rows ? 1 : 0];
        uint64_t slow = bad->first / fastest, fast = bad->first % fastest;

        text_appendf(&where, "row %llu, column %llu", (unsigned long long)(by_rows ? slow : fast),
                     (unsigned long long)(by_rows ? fast : slow));
    } else {
        text_appendf(&where, "index %llu", (unsigned long long)bad->first);
    }
    st = error_set(err, STATUS_FORMAT, "%s: %llu of %llu values are not finite, first at %s",
                   entry->name, (unsigned long long)bad->count, (unsigned long long)entry->count,
                   text_string(&where));
    text_release(&where);
    return st;
}

static enum status refuse_overflow(const char *name, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "%s: values do not fit float32 once scales are folded in",
                     name);
}

/* All elements of `entry` into out [count]. */
static enum status read_all(const struct loader *l, const struct tensor_entry *entry, double *out,
                            struct error *err)
{
    struct nonfinite bad = {0};

    for (uint64_t first = 0; first < entry->count;) {
        uint64_t left = entry->count - first;
        size_t n = left < TILE_ELEMENTS ? (size_t)left : TILE_ELEMENTS;
        enum status st = tensor_source_read(l->source, entry, first, n, l->raw, err);

        if (st)
            return st;
        tensor_to_f64(entry->dtype, l->raw, n, out + first);
        scan_nonfinite(&bad, out + first, n, first);
        first += n;
    }
    return bad.count ? refuse_nonfinite(entry, &bad, err) : STATUS_OK;
}

static enum status read_vector(const struct loader *l, const char *name, size_t n, double **out,
                               struct error *err)
{
    const struct tensor_entry *entry;
    enum status st;

    st = find_tensor(l, name, &entry, err);
    if (st)
        return st;
    st = check_vector(entry, n, err);
    if (st)
        return st;
    *out = mem_alloc(n, sizeof(**out));
    if (!*out)
        return error_nomem(err);
    return read_all(l, entry, *out, err);
}

/* A rectangle of a weight matrix: element (f, l) at values[f * feature_stride + l *
 * latent_stride], counted from the tile's own corner. */
struct tile {
    size_t feature, n_features, feature_stride;
    size_t latent, n_latents, latent_stride;
    const double *values;
};

typedef void tile_visitor(struct loader *l, void *context, const struct tile *tile);

/* Show a matrix to `visit` in tiles that ascend in latents and in features. */
static enum status read_matrix(struct loader *l, const struct tensor_entry *entry,
                               enum weight_layout layout, tile_visitor *visit, void *context,
                               struct error *err)
{
    bool by_rows = entry->order == TENSOR_ORDER_ROWS;
    bool features_slow = (layout == WEIGHT_FEATURES_LATENTS) == by_rows;
    size_t n_slow = (size_t)entry->shape.dims[by_rows ? 0 : 1];
    size_t n_fast = (size_t)entry->shape.dims[by_rows ? 1 : 0];
    size_t slow_max = n_fast < TILE_ELEMENTS ? TILE_ELEMENTS / n_fast : 1;
    size_t fast_max = n_fast < TILE_ELEMENTS ? n_fast : TILE_ELEMENTS;
    struct nonfinite bad = {0};

    for (size_t slow = 0; slow < n_slow; slow += slow_max) {
        size_t rows = n_slow - slow < slow_max ? n_slow - slow : slow_max;

        for (size_t fast = 0; fast < n_fast; fast += fast_max) {
            size_t cols = n_fast - fast < fast_max ? n_fast - fast : fast_max;
            uint64_t first = (uint64_t)slow * n_fast + fast;
            struct tile tile = {.feature = features_slow ? slow : fast,
                                .n_features = features_slow ? rows : cols,
                                .feature_stride = features_slow ? cols : 1,
                                .latent = features_slow ? fast : slow,
                                .n_latents = features_slow ? cols : rows,
                                .latent_stride = features_slow ? 1 : cols,
                                .values = l->values};
            enum status st;

            st = tensor_source_read(l->source, entry, first, rows * cols, l->raw, err);
            if (st)
                return st;
            tensor_to_f64(entry->dtype, l->raw, rows * cols, l->values);
            scan_nonfinite(&bad, l->values, rows * cols, first);
            visit(l, context, &tile);
        }
    }
    return bad.count ? refuse_nonfinite(entry, &bad, err) : STATUS_OK;
}

/* Sizes -------------------------------------------------------------------------------------- */

static enum status agree(const char *what, size_t configured, uint64_t found,
                         const struct tensor_entry *entry, struct error *err)
{
    char shape[SHAPE_TEXT_MAX];

    if (found == 0 || found > INT_MAX) /* latents are uint32_t, BLAS counts in int */
        return error_set(err, STATUS_FORMAT, "tensor '%s': shape %s: %s is out of range",
                         entry->name, shape_text(&entry->shape, shape), what);
    if (configured && configured != found)
        return error_set(err, STATUS_FORMAT,
                         "tensor '%s': shape %s means %s %llu, but the configuration says %zu",
                         entry->name, shape_text(&entry->shape, shape), what,
                         (unsigned long long)found, configured);
    return STATUS_OK;
}

static enum status size_decoder(struct loader *l, struct error *err)
{
    const struct sae_description *d = l->d;
    const struct tensor_entry *w_dec = tensor_source_find(l->source, d->w_dec);
    const struct tensor_entry *b_dec = tensor_source_find(l->source, d->b_dec);
    struct sae *sae = l->sae;
    enum status st = STATUS_OK;

    sae->d_out = d->target == SAE_TARGET_INPUT ? sae->d_in : d->d_out;
    if (!sae->d_out && b_dec && b_dec->shape.rank == 1 && b_dec->count <= INT_MAX)
        sae->d_out = (size_t)b_dec->count;
    if (!sae->d_out)
        sae->d_out = sae->d_in;
    if (w_dec)
        st = check_matrix(w_dec, d->w_dec_layout, sae->d_out, sae->d_sae, err);
    if (!st && b_dec)
        st = check_vector(b_dec, sae->d_out, err);
    return st;
}

/*
 * A file may claim, with holes in it, more than any machine has; allocating that would succeed and
 * filling it would not.
 */
static enum status check_memory(const struct loader *l, enum sae_decoder decoder, struct error *err)
{
    const struct sae *sae = l->sae;
    double machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double weights = (double)sae->d_sae * (double)sae->d_in;

    if (decoder == SAE_DECODER_READ && tensor_source_find(l->source, l->d->w_dec))
        weights += (double)sae->d_sae * (double)sae->d_out;
    weights *= sizeof(float);
    if (machine > 0 && weights > machine)
        return error_set(err, STATUS_NOMEM, "weights need %.1f GiB, the machine has %.1f",
                         weights / 0x1p30, machine / 0x1p30);
    return STATUS_OK;
}

static enum status size_all(struct loader *l, struct error *err)
{
    const struct sae_description *d = l->d;
    bool latents_first = d->w_enc_layout == WEIGHT_LATENTS_FEATURES;
    const struct tensor_entry *entry;
    char shape[SHAPE_TEXT_MAX];
    enum status st;

    st = find_tensor(l, d->w_enc, &entry, err);
    if (st)
        return st;
    if (entry->shape.rank != 2)
        return error_set(err, STATUS_FORMAT,
                         "tensor '%s': shape %s, expected two dimensions (crosscoders and "
                         "cross-layer transcoders are not read)",
                         entry->name, shape_text(&entry->shape, shape));
    st = agree("d_in", d->d_in, entry->shape.dims[latents_first ? 1 : 0], entry, err);
    if (st)
        return st;
    st = agree("d_sae", d->d_sae, entry->shape.dims[latents_first ? 0 : 1], entry, err);
    if (st)
        return st;
    l->sae->d_in = (size_t)entry->shape.dims[latents_first ? 1 : 0];
    l->sae->d_sae = (size_t)entry->shape.dims[latents_first ? 0 : 1];
    st = size_decoder(l, err);
    return st ? st : check_k(d, l->sae->d_sae, err);
}

/* Folding ------------------------------------------------------------------------------------ */

static void sum_squares(struct loader *l, void *context, const struct tile *t)
{
    double *squares = context;

    (void)l;
    for (size_t i = 0; i < t->n_latents; i++) {
        const double *values = t->values + i * t->latent_stride;
        double sum = squares[t->latent + i];

        for (size_t f = 0; f < t->n_features; f++)
            sum += values[f * t->feature_stride] * values[f * t->feature_stride];
        squares[t->latent + i] = sum;
    }
}

static enum status read_scale(struct loader *l, struct error *err)
{
    const struct sae_description *d = l->d;
    size_t n = l->sae->d_sae;
    const struct tensor_entry *w_dec;
    enum status st;

    l->scale = mem_zalloc(n, sizeof(*l->scale));
    if (!l->scale)
        return error_nomem(err);
    if (d->row_scale == ROW_SCALE_DECODER_NORM) {
        st = find_tensor(l, d->w_dec, &w_dec, err);
        if (st)
            return st;
        st = read_matrix(l, w_dec, d->w_dec_layout, sum_squares, l->scale, err);
        if (st)
            return st;
        for (size_t j = 0; j < n; j++)
            l->scale[j] = sqrt(l->scale[j]) * d->z_scale;
    } else {
        for (size_t j = 0; j < n; j++)
            l->scale[j] = d->z_scale;
    }
    return STATUS_OK;
}

/* Stores what float32 holds; an overflow marks *ok. */
static float narrow(double x, bool *ok)
{
    if (!(fabs(x) <= (double)FLT_MAX))
        *ok = false;
    return (float)x;
}

static void fold_encoder(struct loader *l, void *context, const struct tile *t)
{
    struct matrix *out = &l->sae->w_enc;
    size_t width = t->latent_stride == 1 ? t->n_latents : TRANSPOSE_WIDTH;
    const double *restrict scale = l->scale + t->latent;
    double *restrict bias = l->bias + t->latent;
    double x_scale = l->d->x_scale;
    bool *ok = context;

    for (size_t begin = 0; begin < t->n_latents; begin += width) {
        size_t end = t->n_latents - begin < width ? t->n_latents : begin + width;

        for (size_t f = 0; f < t->n_features; f++) {
            const double *values = t->values + f * t->feature_stride;
            float *row = out->data + (t->feature + f) * out->stride + t->latent;
            double subtract = l->subtract ? l->subtract[t->feature + f] : 0;
            size_t n_fit = 0;

            for (size_t i = begin; i < end; i++) {
                double w = values[i * t->latent_stride];
                double folded = w * x_scale * scale[i];

                n_fit += fabs(folded) <= (double)FLT_MAX;
                row[i] = (float)folded;
                bias[i] -= subtract * w;
            }
            if (n_fit != end - begin)
                *ok = false;
        }
    }
}

static enum status read_encoder(struct loader *l, struct error *err)
{
    const struct sae_description *d = l->d;
    const struct tensor_entry *w_enc;
    struct sae *sae = l->sae;
    enum status st;
    bool ok = true;

    if (d->subtract) {
        st = read_vector(l, d->subtract, sae->d_in, &l->subtract, err);
        if (st)
            return st;
    }
    if (d->b_enc) {
        st = read_vector(l, d->b_enc, sae->d_sae, &l->bias, err);
        if (st)
            return st;
    } else {
        l->bias = mem_zalloc(sae->d_sae, sizeof(*l->bias));
        if (!l->bias)
            return error_nomem(err);
    }
    st = find_tensor(l, d->w_enc, &w_enc, err);
    if (st)
        return st;
    st = matrix_init(&sae->w_enc, sae->d_in, sae->d_sae, err);
    if (st)
        return st;
    st = read_matrix(l, w_enc, d->w_enc_layout, fold_encoder, &ok, err);
    if (st)
        return st;
    sae->b_enc = mem_alloc_aligned(sae->d_sae, sizeof(*sae->b_enc));
    if (!sae->b_enc)
        return error_nomem(err);
    for (size_t j = 0; j < sae->d_sae; j++)
        sae->b_enc[j] = narrow(l->bias[j] * l->scale[j], &ok);
    return ok ? STATUS_OK : refuse_overflow(d->w_enc, err);
}

/* The largest float32 not above x: for every float32 a, a > x if and only if a > it. */
static float round_down(double x)
{
    float rounded = (float)x;

    return (double)rounded > x ? nextafterf(rounded, -INFINITY) : rounded;
}

static enum status read_threshold(struct loader *l, struct error *err)
{
    const struct sae_description *d = l->d;
    size_t n = l->sae->d_sae;
    double *values = NULL, single = d->threshold_value;
    enum status st = STATUS_OK;

    if (d->threshold) {
        const struct tensor_entry *entry;

        st = find_tensor(l, d->threshold, &entry, err);
        if (!st && entry->count == 1 && n != 1)
            st = read_all(l, entry, &single, err);
        else if (!st)
            st = read_vector(l, d->threshold, n, &values, err);
        if (st)
            goto out;
    }
    l->sae->threshold = mem_alloc_aligned(n, sizeof(*l->sae->threshold));
    if (!l->sae->threshold) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t j = 0; j < n; j++) {
        double threshold = values ? values[j] : single;

        if (d->threshold && d->threshold_form == THRESHOLD_LOG)
            threshold = exp(threshold);
        /* A negative threshold acts as 0: the relu of jumprelu comes with it. */
        l->sae->threshold[j] = threshold > 0 ? round_down(threshold) : 0;
    }
out:
    mem_free(values);
    return st;
}

static enum status read_floats(struct loader *l, const char *name, float **out, struct error *err)
{
    size_t n = l->sae->d_sae;
    double *values = NULL;
    enum status st;

    st = read_vector(l, name, n, &values, err);
    if (st)
        goto out;
    *out = mem_alloc_aligned(n, sizeof(**out));
    if (!*out) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t j = 0; j < n; j++)
        (*out)[j] = (float)values[j];
out:
    mem_free(values);
    return st;
}

static enum status read_gates(struct loader *l, struct error *err)
{
    struct sae *sae = l->sae;
    enum status st;
    bool ok = true;

    st = read_floats(l, l->d->b_gate, &sae->threshold, err);
    if (st)
        return st;
    st = read_floats(l, l->d->r_mag, &sae->r_mag, err);
    if (st)
        return st;
    st = read_floats(l, l->d->b_mag, &sae->b_mag, err);
    if (st)
        return st;
    for (size_t j = 0; j < sae->d_sae; j++) {
        sae->threshold[j] = -sae->threshold[j];
        sae->r_mag[j] = narrow(exp((double)sae->r_mag[j]), &ok);
    }
    return ok ? STATUS_OK : refuse_overflow(l->d->r_mag, err);
}

static void fold_decoder(struct loader *l, void *context, const struct tile *t)
{
    struct matrix *out = &l->sae->w_dec;
    size_t width = t->feature_stride == 1 ? t->n_features : TRANSPOSE_WIDTH;
    bool *ok = context;

    for (size_t begin = 0; begin < t->n_features; begin += width) {
        size_t end = t->n_features - begin < width ? t->n_features : begin + width;

        for (size_t i = 0; i < t->n_latents; i++) {
            const double *values = t->values + i * t->latent_stride;
            float *row = out->data + (t->latent + i) * out->stride + t->feature;
            double divisor = l->scale[t->latent + i] * l->d->x_scale;

            /* A latent of scale 0 never fires: its row is never used. */
            for (size_t f = begin; f < end; f++)
                row[f] = divisor == 0 ? 0 : narrow(values[f * t->feature_stride] / divisor, ok);
        }
    }
}

static enum status read_decoder(struct loader *l, struct error *err)
{
    const struct sae_description *d = l->d;
    const struct tensor_entry *w_dec;
    struct sae *sae = l->sae;
    double *b_dec = NULL;
    enum status st;
    bool ok = true;

    if (!tensor_source_find(l->source, d->w_dec))
        return STATUS_OK;
    st = find_tensor(l, d->w_dec, &w_dec, err);
    if (st)
        goto out;
    st = matrix_init(&sae->w_dec, sae->d_sae, sae->d_out, err);
    if (st)
        goto out;
    st = read_matrix(l, w_dec, d->w_dec_layout, fold_decoder, &ok, err);
    if (st)
        goto out;
    if (d->b_dec) {
        st = read_vector(l, d->b_dec, sae->d_out, &b_dec, err);
        if (st)
            goto out;
    }
    sae->b_dec = mem_alloc_aligned(sae->d_out, sizeof(*sae->b_dec));
    if (!sae->b_dec) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < sae->d_out; i++)
        sae->b_dec[i] = b_dec ? narrow(b_dec[i] / d->x_scale, &ok) : 0;
    if (!ok)
        st = refuse_overflow(d->w_dec, err);
    sae->reconstructs = d->target == SAE_TARGET_INPUT;
out:
    mem_free(b_dec);
    return st;
}

/* Facts for people. */
static enum status note_facts(struct loader *l, const struct sae_scheme *scheme,
                              const struct sae_files *files, struct sae_description *d,
                              struct error *err)
{
    const struct tensor_entry *w_enc = tensor_source_find(l->source, d->w_enc);
    struct text formula = {0};
    struct sae *sae = l->sae;
    bool ok;

    append_formula(d, &formula);
    sae->scheme = mem_strdup(scheme->name);
    sae->path = mem_strdup(files->path);
    sae->dtype = mem_strdup(dtype_name(w_enc->dtype));
    sae->formula = mem_strdup(text_string(&formula));
    if (d->warnings.length)
        sae->warnings = mem_strdup(text_string(&d->warnings));
    ok = sae->scheme && sae->path && sae->dtype && sae->formula && !formula.failed &&
         !d->warnings.failed && (sae->warnings || !d->warnings.length);
    text_release(&formula);
    sae->model = d->model;
    sae->hook = d->hook;
    d->model = d->hook = NULL;
    sae->declared_l0 = takes_k(d) ? d->k : d->declared_l0;
    for (size_t i = 0; i < l->source->n_entries; i++)
        sae->weights_bytes += l->source->entries[i].count * sizeof(float);
    return ok ? STATUS_OK : error_nomem(err);
}

static enum status read_weights(struct loader *l, enum sae_read read, struct error *err)
{
    enum status st = read_scale(l, err);

    if (!st)
        st = read_encoder(l, err);
    if (!st && l->d->activation == ACTIVATION_JUMPRELU)
        st = read_threshold(l, err);
    if (!st && l->d->activation == ACTIVATION_GATED)
        st = read_gates(l, err);
    if (!st && read == SAE_READ_ALL)
        st = read_decoder(l, err);
    return st;
}

static enum status build(struct sae *sae, const struct sae_scheme *scheme,
                         const struct sae_files *files, const struct tensor_source *source,
                         struct sae_description *d, enum sae_read read, struct error *err)
{
    struct loader l = {.sae = sae, .d = d, .source = source};
    enum status st;

    l.raw = mem_alloc(TILE_ELEMENTS, sizeof(double));
    l.values = mem_alloc(TILE_ELEMENTS, sizeof(double));
    if (!l.raw || !l.values) {
        st = error_nomem(err);
        goto out;
    }
    st = size_all(&l, err);
    if (st)
        goto out;
    st = check_memory(&l, decoder, err);
    if (st)
        goto out;
    sae->norm = d->norm;
    sae->activation = d->activation;
    sae->k = takes_k(d) ? (uint32_t)d->k : 0;
    if (read != SAE_READ_FACTS)
        st = read_weights(&l, read, err);
    if (st)
        goto out;
    st = note_facts(&l, scheme, files, d, err);
out:
    loader_release(&l);
    return st;
}

/* Entry -------------------------------------------------------------------------------------- */

static enum status find_scheme(const char *name, const struct sae_scheme **scheme,
                               struct error *err)
{
    const char *names[16] = {"auto"};
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

/* A file whose name says nothing: its tensors decide. */
static enum status match_tensors(struct sae_found *found, const struct tensor_source *source,
                                 struct error *err)
{
    struct text names = {0};
    enum status st;

    for (size_t i = 0; sae_schemes[i]; i++) {
        const struct sae_scheme *scheme = sae_schemes[i];

        if (!scheme->fits || !scheme->fits(&found->files, source))
            continue;
        if (found->scheme)
            return error_set(err, STATUS_INVALID, "fits %s and %s; set sae.format",
                             found->scheme->name, scheme->name);
        found->scheme = scheme;
    }
    if (found->scheme)
        return STATUS_OK;
    append_tensors(source, &names);
    st = error_set(err, STATUS_FORMAT,
                   "not an SAE by its tensors (%s); expected W_enc and b_dec (SAELens), or "
                   "encoder.weight, W_dec and a cfg.json beside the file (sparsify)",
                   text_string(&names));
    text_release(&names);
    return st;
}

static enum status load(struct sae *sae, const char *path, const struct sae_overrides *overrides,
                        enum sae_read read, struct error *err)
{
    struct sae_found found = {0};
    struct tensor_source source = {0};
    struct sae_description description;
    const struct sae_scheme *only;
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
    if (!found.scheme) {
        st = match_tensors(&found, &source, err);
        if (st)
            goto out;
    }
    assert(found.scheme);
    st = found.scheme->describe(&found.files, &source, &description, err);
    if (st)
        goto out;
    if (!tensor_source_find(&source, description.w_enc)) {
        /* Before any question about settings: this may be another family altogether. */
        st = refuse_missing(&source, description.w_enc, err);
        goto out;
    }
    warn_unused(&description, &source);
    st = apply_overrides(&description, overrides, err);
    if (st)
        goto out;
    st = check_complete(&description, err);
    if (st)
        goto out;
    st = build(sae, found.scheme, &found.files, &source, &description, read, err);
    if (st)
        goto out;
    if (read != SAE_READ_FACTS)
        st = hash_file(&sae->hash, NULL, found.files.path, err);
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
