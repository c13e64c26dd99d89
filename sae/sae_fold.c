#include "sae/sae_fold.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <unistd.h>

#include "base/mem.h"
#include "sae/tensor_reader.h"

/* Latents (or features) that are transposed together: one cache line of float32. */
#define TRANSPOSE_WIDTH 16

/* An SAE in the making. */
struct fold {
    struct sae *sae;
    const struct sae_description *d;
    struct tensor_reader reader;

    double *scale;    /* [d_sae] a latent's pre-activation is multiplied by it */
    double *norms;    /* [d_sae] of the rows of W_dec, where thresholds need them; else NULL */
    double *subtract; /* [d_in], NULL: nothing */
    double *bias;     /* [d_sae] b_enc - subtract W_enc, before scaling */
    bool fits;        /* float32 held all folded values so far */
};

static void fold_release(struct fold *fold)
{
    tensor_reader_release(&fold->reader);
    mem_free(fold->scale);
    mem_free(fold->norms);
    mem_free(fold->subtract);
    mem_free(fold->bias);
}

static enum status refuse_overflow(const char *name, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "%s: values do not fit float32 once scales are folded in",
                     name);
}

bool sae_takes_k(const struct sae_description *d)
{
    return d->activation == ACTIVATION_TOPK || d->activation == ACTIVATION_TOPK_SIGNED ||
           d->activation == ACTIVATION_GROUPMAX;
}

static enum status check_k(const struct sae_description *d, size_t d_sae, struct error *err)
{
    if (!sae_takes_k(d))
        return STATUS_OK;
    if (!(d->k >= 1 && d->k <= (double)d_sae) || d->k != floor(d->k))
        return error_set(err, STATUS_FORMAT, "k is %g, expected an integer from 1 to %zu (d_sae)",
                         d->k, d_sae);
    if (d->activation == ACTIVATION_GROUPMAX && d_sae % (size_t)d->k != 0)
        return error_set(err, STATUS_FORMAT,
                         "k is %g, but groupmax needs equal groups and d_sae is %zu", d->k, d_sae);
    return STATUS_OK;
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

static enum status refuse_rank(const struct tensor_entry *entry, struct error *err)
{
    bool several = entry->shape.rank == 3;
    char shape[SHAPE_TEXT_MAX];

    return error_set(err, several ? STATUS_UNSUPPORTED : STATUS_FORMAT,
                     "tensor '%s': shape %s, expected two dimensions (crosscoders and cross-layer "
                     "transcoders are not read)",
                     entry->name, shape_text(&entry->shape, shape));
}

static enum status size_decoder(struct fold *fold, struct error *err)
{
    const struct sae_description *d = fold->d;
    const struct tensor_entry *w_dec = tensor_source_find(fold->reader.source, d->w_dec);
    const struct tensor_entry *b_dec = tensor_source_find(fold->reader.source, d->b_dec);
    struct sae *sae = fold->sae;
    enum status st = STATUS_OK;

    sae->d_out = d->target == SAE_TARGET_INPUT ? sae->d_in : d->d_out;
    if (!sae->d_out && b_dec && b_dec->shape.rank == 1 && b_dec->count <= INT_MAX)
        sae->d_out = (size_t)b_dec->count;
    if (!sae->d_out)
        sae->d_out = sae->d_in;
    if (sae->d_out > INT_MAX)
        return error_set(err, STATUS_FORMAT, "d_out %zu is out of range", sae->d_out);
    if (w_dec && w_dec->shape.rank == 3)
        return refuse_rank(w_dec, err);
    if (w_dec)
        st = tensor_check_matrix(w_dec, d->w_dec_layout, sae->d_out, sae->d_sae, err);
    if (!st && b_dec)
        st = tensor_check_vector(b_dec, sae->d_out, err);
    return st;
}

/*
 * A file may claim, with holes in it, more than any machine has; allocating that would succeed and
 * filling it would not.
 */
enum status sae_fold_check_memory(const struct sae *sae, const struct tensor_source *source,
                                  const struct sae_description *d, enum sae_read read,
                                  struct error *err)
{
    double machine = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double weights = (double)sae->d_sae * (double)sae->d_in;

    if (read == SAE_READ_ALL && tensor_source_find(source, d->w_dec))
        weights += (double)sae->d_sae * (double)sae->d_out;
    weights *= sizeof(float);
    if (machine > 0 && weights > machine)
        return error_set(err, STATUS_NOMEM, "weights need %.1f GiB, the machine has %.1f",
                         weights / 0x1p30, machine / 0x1p30);
    return STATUS_OK;
}

static enum status size_all(struct fold *fold, struct error *err)
{
    const struct sae_description *d = fold->d;
    bool latents_first = d->w_enc_layout == WEIGHT_LATENTS_FEATURES;
    const struct tensor_entry *entry;
    enum status st;

    st = tensor_reader_find(&fold->reader, d->w_enc, &entry, err);
    if (st)
        return st;
    if (entry->shape.rank != 2)
        return refuse_rank(entry, err);
    st = agree("d_in", d->d_in, entry->shape.dims[latents_first ? 1 : 0], entry, err);
    if (st)
        return st;
    st = agree("d_sae", d->d_sae, entry->shape.dims[latents_first ? 0 : 1], entry, err);
    if (st)
        return st;
    fold->sae->d_in = (size_t)entry->shape.dims[latents_first ? 1 : 0];
    fold->sae->d_sae = (size_t)entry->shape.dims[latents_first ? 0 : 1];
    if (d->n_active > fold->sae->d_sae)
        return error_set(err, STATUS_FORMAT, "%zu latents in groups, but there are %zu",
                         d->n_active, fold->sae->d_sae);
    st = size_decoder(fold, err);
    return st ? st : check_k(d, fold->sae->d_sae, err);
}

/* Folding ------------------------------------------------------------------------------------ */

static void sum_squares(void *context, const struct tile *t)
{
    double *squares = context;

    for (size_t i = 0; i < t->n_latents; i++) {
        const double *values = t->values + i * t->latent_stride;
        double sum = squares[t->latent + i];

        for (size_t f = 0; f < t->n_features; f++)
            sum += values[f * t->feature_stride] * values[f * t->feature_stride];
        squares[t->latent + i] = sum;
    }
}

/* norms[j] = |row j of W_dec| */
static enum status read_norms(struct fold *fold, double *norms, struct error *err)
{
    const struct sae_description *d = fold->d;
    const struct tensor_entry *w_dec;
    enum status st;

    for (size_t j = 0; j < fold->sae->d_sae; j++)
        norms[j] = 0;
    st = tensor_reader_find(&fold->reader, d->w_dec, &w_dec, err);
    if (st)
        return st;
    st = tensor_reader_matrix(&fold->reader, w_dec, d->w_dec_layout, sum_squares, norms, err);
    for (size_t j = 0; j < fold->sae->d_sae; j++)
        norms[j] = sqrt(norms[j]);
    return st;
}

static enum status read_scale(struct fold *fold, struct error *err)
{
    const struct sae_description *d = fold->d;
    double z_scale = d->unscale ? 1 / d->x_scale : 1;
    size_t n = fold->sae->d_sae;
    enum status st;

    fold->scale = mem_alloc(n, sizeof(*fold->scale));
    if (!fold->scale)
        return error_nomem(err);
    for (size_t j = 0; j < n; j++)
        fold->scale[j] = 1;
    if (d->row_scale == ROW_SCALE_DECODER_NORM) {
        st = read_norms(fold, fold->scale, err);
        if (st)
            return st;
    }
    for (size_t j = 0; j < n; j++)
        fold->scale[j] *= z_scale;
    if (d->activation == ACTIVATION_JUMPRELU && d->threshold_space == THRESHOLD_OF_STRENGTH) {
        fold->norms = mem_alloc(n, sizeof(*fold->norms));
        if (!fold->norms)
            return error_nomem(err);
        st = read_norms(fold, fold->norms, err);
        if (st)
            return st;
    }
    /* A latent of scale 0 has the pre-activation 0, which no activation lets through. So it is with
     * what takes no part, and with a strength that is 0 for want of a decoder row. */
    for (size_t j = 0; j < n; j++)
        if ((d->n_active && j >= d->n_active) || (fold->norms && fold->norms[j] == 0))
            fold->scale[j] = 0;
    return STATUS_OK;
}

/* Stores what float32 holds; an overflow marks *ok. */
static float narrow(double x, bool *ok)
{
    if (!(fabs(x) <= (double)FLT_MAX))
        *ok = false;
    return (float)x;
}

/* Latents whose rows are written side by side: a cache line of doubles is read for each feature. */
#define FOLD_LATENTS 8

/* `n` <= FOLD_LATENTS neighbours of a tile whose features are rows; n is a constant where it
 * matters. Returns the largest magnitude. */
static inline double fold_columns(struct fold *fold, const struct tile *t, size_t latent, size_t n)
{
    struct matrix *out = &fold->sae->w_enc;
    float *rows = out->data + (t->latent + latent) * out->stride + t->feature;
    double scale[FOLD_LATENTS], most[FOLD_LATENTS] = {0}, subtracted[FOLD_LATENTS] = {0};

    for (size_t l = 0; l < n; l++)
        scale[l] = fold->d->x_scale * fold->scale[t->latent + latent + l];
    for (size_t f = 0; f < t->n_features; f++) {
        const double *values = t->values + f * t->feature_stride + latent;
        double subtrahend = fold->subtract ? fold->subtract[t->feature + f] : 0;

        for (size_t l = 0; l < n; l++) {
            double folded = values[l] * scale[l], size = fabs(folded);

            most[l] = size > most[l] ? size : most[l];
            subtracted[l] += subtrahend * values[l];
            rows[l * out->stride + f] = (float)folded;
        }
    }
    for (size_t l = 0; l < n; l++) {
        fold->bias[t->latent + latent + l] -= subtracted[l];
        most[0] = most[l] > most[0] ? most[l] : most[0];
    }
    return most[0];
}

/* One latent of a tile whose latents are rows. Sums and maxima in four lanes, so that none need
 * wait for the one before. */
static double fold_row(struct fold *fold, const struct tile *t, size_t latent)
{
    struct matrix *out = &fold->sae->w_enc;
    float *row = out->data + (t->latent + latent) * out->stride + t->feature;
    const double *values = t->values + latent * t->latent_stride;
    const double *subtract = fold->subtract ? fold->subtract + t->feature : NULL;
    double scale = fold->d->x_scale * fold->scale[t->latent + latent];
    double sums[4] = {0}, most[4] = {0};
    size_t f = 0;

    for (; f < t->n_features; f++) {
        double folded = values[f] * scale, size = fabs(folded);

        most[f % 4] = size > most[f % 4] ? size : most[f % 4];
        row[f] = (float)folded;
    }
    for (f = 0; subtract && t->n_features - f >= 4; f += 4) {
        for (size_t l = 0; l < 4; l++)
            sums[l] += subtract[f + l] * values[f + l];
    }
    for (; subtract && f < t->n_features; f++)
        sums[0] += subtract[f] * values[f];
    fold->bias[t->latent + latent] -= (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return fmax(fmax(most[0], most[1]), fmax(most[2], most[3]));
}

static void fold_encoder(void *context, const struct tile *t)
{
    struct fold *fold = context;
    double most = 0;
    size_t i = 0;

    if (t->latent_stride == 1) {
        for (; t->n_latents - i >= FOLD_LATENTS; i += FOLD_LATENTS)
            most = fmax(most, fold_columns(fold, t, i, FOLD_LATENTS));
        most = fmax(most, fold_columns(fold, t, i, t->n_latents - i));
    } else {
        for (; i < t->n_latents; i++)
            most = fmax(most, fold_row(fold, t, i));
    }
    /* What is not a number has been refused by the reader. */
    if (most > (double)FLT_MAX)
        fold->fits = false;
}

static enum status read_encoder(struct fold *fold, struct error *err)
{
    const struct sae_description *d = fold->d;
    const struct tensor_entry *w_enc;
    struct sae *sae = fold->sae;
    enum status st;

    if (d->subtract) {
        st = tensor_reader_vector(&fold->reader, d->subtract, sae->d_in, &fold->subtract, err);
        if (st)
            return st;
    }
    if (d->b_enc) {
        st = tensor_reader_vector(&fold->reader, d->b_enc, sae->d_sae, &fold->bias, err);
        if (st)
            return st;
    } else {
        fold->bias = mem_zalloc(sae->d_sae, sizeof(*fold->bias));
        if (!fold->bias)
            return error_nomem(err);
    }
    st = tensor_reader_find(&fold->reader, d->w_enc, &w_enc, err);
    if (st)
        return st;
    st = matrix_init(&sae->w_enc, sae->d_sae, sae->d_in, err);
    if (st)
        return st;
    st = tensor_reader_matrix(&fold->reader, w_enc, d->w_enc_layout, fold_encoder, fold, err);
    if (st)
        return st;
    sae->b_enc = mem_alloc_aligned(sae->d_sae, sizeof(*sae->b_enc));
    if (!sae->b_enc)
        return error_nomem(err);
    for (size_t j = 0; j < sae->d_sae; j++)
        sae->b_enc[j] = narrow(fold->bias[j] * fold->scale[j], &fold->fits);
    return fold->fits ? STATUS_OK : refuse_overflow(d->w_enc, err);
}

/* The largest float32 not above x: for every float32 a, a > x if and only if a > it. */
static float round_down(double x)
{
    float rounded = (float)x;

    return (double)rounded > x ? nextafterf(rounded, -INFINITY) : rounded;
}

/* A threshold of the file as one of latents that we report. */
static double fold_threshold(const struct fold *fold, size_t j, double threshold)
{
    const struct sae_description *d = fold->d;

    if (d->threshold && d->threshold_form == THRESHOLD_LOG)
        threshold = exp(threshold);
    if (d->threshold_space == THRESHOLD_OF_SCALED)
        threshold /= d->x_scale;
    else if (fold->norms && fold->norms[j] > 0)
        threshold /= fold->norms[j];
    /* A negative threshold acts as 0: the relu of jumprelu comes with it. */
    return fmin(fmax(threshold, 0), (double)FLT_MAX);
}

static enum status read_threshold(struct fold *fold, struct error *err)
{
    const struct sae_description *d = fold->d;
    size_t n = fold->sae->d_sae;
    double *values = NULL, single = d->threshold_value;
    enum status st = STATUS_OK;

    if (d->threshold) {
        const struct tensor_entry *entry;

        st = tensor_reader_find(&fold->reader, d->threshold, &entry, err);
        if (!st && entry->count == 1)
            st = tensor_reader_all(&fold->reader, entry, &single, err);
        else if (!st)
            st = tensor_reader_vector(&fold->reader, d->threshold, n, &values, err);
        if (st)
            goto out;
    }
    fold->sae->threshold = mem_alloc_aligned(n, sizeof(*fold->sae->threshold));
    if (!fold->sae->threshold) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t j = 0; j < n; j++)
        fold->sae->threshold[j] = round_down(fold_threshold(fold, j, values ? values[j] : single));
out:
    mem_free(values);
    return st;
}

static enum status read_floats(struct fold *fold, const char *name, float **out, struct error *err)
{
    size_t n = fold->sae->d_sae;
    double *values = NULL;
    enum status st;

    st = tensor_reader_vector(&fold->reader, name, n, &values, err);
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

static enum status read_gates(struct fold *fold, struct error *err)
{
    struct sae *sae = fold->sae;
    enum status st;

    st = read_floats(fold, fold->d->b_gate, &sae->threshold, err);
    if (st)
        return st;
    st = read_floats(fold, fold->d->r_mag, &sae->r_mag, err);
    if (st)
        return st;
    st = read_floats(fold, fold->d->b_mag, &sae->b_mag, err);
    if (st)
        return st;
    for (size_t j = 0; j < sae->d_sae; j++) {
        sae->threshold[j] = -sae->threshold[j];
        sae->r_mag[j] = narrow(exp((double)sae->r_mag[j]), &fold->fits);
    }
    return fold->fits ? STATUS_OK : refuse_overflow(fold->d->r_mag, err);
}

static void fold_decoder(void *context, const struct tile *t)
{
    struct fold *fold = context;
    struct matrix *out = &fold->sae->w_dec;
    size_t width = t->feature_stride == 1 ? t->n_features : TRANSPOSE_WIDTH;

    for (size_t begin = 0; begin < t->n_features; begin += width) {
        size_t end = t->n_features - begin < width ? t->n_features : begin + width;

        for (size_t i = 0; i < t->n_latents; i++) {
            const double *values = t->values + i * t->latent_stride;
            float *row = out->data + (t->latent + i) * out->stride + t->feature;
            double divisor = fold->scale[t->latent + i] * fold->d->x_scale;

            /* A latent of scale 0 never fires: its row is never used. */
            for (size_t f = begin; f < end; f++)
                row[f] =
                    divisor == 0 ? 0 : narrow(values[f * t->feature_stride] / divisor, &fold->fits);
        }
    }
}

static enum status read_decoder(struct fold *fold, struct error *err)
{
    const struct sae_description *d = fold->d;
    const struct tensor_entry *w_dec;
    struct sae *sae = fold->sae;
    double *b_dec = NULL;
    enum status st;

    if (!tensor_source_find(fold->reader.source, d->w_dec))
        return STATUS_OK;
    st = tensor_reader_find(&fold->reader, d->w_dec, &w_dec, err);
    if (st)
        goto out;
    st = matrix_init(&sae->w_dec, sae->d_sae, sae->d_out, err);
    if (st)
        goto out;
    st = tensor_reader_matrix(&fold->reader, w_dec, d->w_dec_layout, fold_decoder, fold, err);
    if (st)
        goto out;
    if (d->b_dec) {
        st = tensor_reader_vector(&fold->reader, d->b_dec, sae->d_out, &b_dec, err);
        if (st)
            goto out;
    }
    sae->b_dec = mem_alloc_aligned(sae->d_out, sizeof(*sae->b_dec));
    if (!sae->b_dec) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < sae->d_out; i++)
        sae->b_dec[i] = b_dec ? narrow(b_dec[i] / d->x_scale, &fold->fits) : 0;
    if (!fold->fits)
        st = refuse_overflow(d->w_dec, err);
    sae->reconstructs = d->target == SAE_TARGET_INPUT;
out:
    mem_free(b_dec);
    return st;
}

static enum status read_weights(struct fold *fold, enum sae_read read, struct error *err)
{
    enum status st;

    st = sae_fold_check_memory(fold->sae, fold->reader.source, fold->d, read, err);
    if (st)
        return st;
    st = read_scale(fold, err);
    if (st)
        return st;
    st = read_encoder(fold, err);
    if (st)
        return st;
    if (fold->d->activation == ACTIVATION_JUMPRELU)
        st = read_threshold(fold, err);
    else if (fold->d->activation == ACTIVATION_GATED)
        st = read_gates(fold, err);
    if (st)
        return st;
    return read == SAE_READ_ALL ? read_decoder(fold, err) : STATUS_OK;
}

enum status sae_fold(struct sae *sae, const struct tensor_source *source,
                     const struct sae_description *d, enum sae_read read, struct error *err)
{
    struct fold fold = {.sae = sae, .d = d, .fits = true};
    enum status st;

    st = tensor_reader_init(&fold.reader, source, err);
    if (st)
        goto out;
    st = size_all(&fold, err);
    if (st)
        goto out;
    sae->norm = d->norm;
    sae->activation = d->activation;
    sae->k = sae_takes_k(d) ? (uint32_t)d->k : 0;
    if (read != SAE_READ_FACTS)
        st = read_weights(&fold, read, err);
out:
    fold_release(&fold);
    return st;
}
