#include "sae/prefilter.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "linalg/blas.h"
#include "sae/outliers.h"
#include "sae/sae_cache.h"

/* Latents of a span: c [512, 256] is half a MiB and stays in the second-level cache. */
#define SPAN_LATENTS 256
/* OpenBLAS packs the tokens anew for every product: larger ones waste less. */
#define SPAN_LATENTS_BLAS 1024

/* A tenth of the range of float32 is as far as we trust sums. */
#define RANGE_MAX ((double)FLT_MAX / 10)

#define FAST_DEVIATIONS 6

#define UNIT_ROUNDOFF 0x1p-24

/* The largest of a span. */
struct weight_bound {
    double norm;  /* |w| */
    double error; /* |dw| */
    double bias;  /* |b|, and |threshold| where there is one */
};

struct token_bound {
    double norm;  /* |x'|, without outliers */
    double error; /* |dx| */
    double whole; /* |x'|, with them */
};

struct prefilter {
    const struct sae *sae;
    const struct kernels *kernels;
    const struct product *product; /* NULL: BLAS */
    enum sae_precision precision;
    size_t span; /* latents */
    size_t words;
    double rounding; /* g(d_in + d_in / 64 + 24) */
    double denormal; /* 3 d_in FLT_MIN */

    struct sae_cache cache; /* holds the arrays below, unless it is none */

    struct weight_bound *bounds; /* [spans] */
    struct weight_bound worst;   /* over all spans */

    /* Unless the weights are multiplied as they are; panels are padded to PRODUCT_LATENTS. */
    uint32_t *w;    /* [panels][words][PRODUCT_LATENTS] */
    float *bias;    /* int8: [panels * PRODUCT_LATENTS] */
    float *scale;   /* the same */
    int32_t *start; /* the same */
    size_t n_panels;
};

struct prefilter_block {
    size_t rows_max, n;
    struct matrix_view x;
    struct token_bound *bounds; /* [rows_max] */
    struct matrix c;            /* [rows_max, up to a group more; span] */

    uint32_t *rows;           /* one group of tokens, rounded */
    uint32_t *tokens;         /* all groups, packed */
    float *scale;             /* int8: [rows of c] */
    struct outliers outliers; /* int8 */
    uint32_t *panel;          /* float32: [chunk][PRODUCT_LATENTS] */
};

/* Weights ------------------------------------------------------------------------------------- */

const struct product *prefilter_choose(unsigned cpu_flags, size_t d_in,
                                       enum sae_precision *precision)
{
    const struct product *product = NULL;

    if (*precision == SAE_FAST && product_words(PRODUCT_INT8, d_in) <= PRODUCT_INT8_WORDS_MAX)
        product = product_find(cpu_flags, PRODUCT_INT8);
    if (product)
        return product;
    *precision = SAE_EXACT;
    product = product_find(cpu_flags, PRODUCT_BF16);
    return product ? product : product_find(cpu_flags, PRODUCT_F32);
}

static bool packs_weights(const struct prefilter *f)
{
    return f->product && f->product->precision != PRODUCT_F32;
}

void prefilter_free(struct prefilter *prefilter)
{
    if (!prefilter)
        return;
    if (prefilter->cache.mapped) {
        sae_cache_close(&prefilter->cache);
    } else {
        mem_free(prefilter->bounds);
        mem_free(prefilter->w);
        mem_free(prefilter->bias);
        mem_free(prefilter->scale);
        mem_free(prefilter->start);
    }
    mem_free(prefilter);
}

static size_t count_spans(const struct prefilter *f)
{
    return (f->sae->d_sae + f->span - 1) / f->span;
}

static enum status allocate(struct prefilter *f, struct error *err)
{
    size_t padded = f->n_panels * PRODUCT_LATENTS;

    f->bounds = mem_zalloc(count_spans(f), sizeof(*f->bounds));
    if (!f->bounds)
        return error_nomem(err);
    if (!packs_weights(f))
        return STATUS_OK;
    f->w = mem_alloc_aligned(padded, f->words * sizeof(*f->w));
    if (!f->w)
        return error_nomem(err);
    if (f->product->precision != PRODUCT_INT8)
        return STATUS_OK;
    f->bias = mem_zalloc(padded, sizeof(*f->bias));
    f->scale = mem_zalloc(padded, sizeof(*f->scale));
    f->start = mem_zalloc(padded, sizeof(*f->start));
    return f->bias && f->scale && f->start ? STATUS_OK : error_nomem(err);
}

static void widen_bound(struct weight_bound *bound, const struct weight_bound *other)
{
    bound->norm = fmax(bound->norm, other->norm);
    bound->error = fmax(bound->error, other->error);
    bound->bias = fmax(bound->bias, other->bias);
}

/* Round latent j into `row` and take it into the bound of its span. */
static void round_latent(const struct prefilter *f, size_t j, uint32_t *row,
                         struct weight_bound *bound)
{
    const struct sae *sae = f->sae;
    enum product_precision precision = f->product ? f->product->precision : PRODUCT_F32;
    struct product_rounding rounding =
        product_round(precision, PRODUCT_LATENT_ROWS, f->kernels,
                      sae->w_enc.data + j * sae->w_enc.stride, sae->d_in, row);
    double threshold = sae->threshold ? fabs((double)sae->threshold[j]) : 0;
    const struct weight_bound own = {.norm = rounding.norm,
                                     .error = rounding.error,
                                     .bias = fabs((double)sae->b_enc[j]) + threshold};

    widen_bound(bound, &own);
    if (f->start) {
        f->bias[j] = sae->b_enc[j];
        f->scale[j] = rounding.scale;
        f->start[j] = -128 * rounding.sum;
    }
}

/* Spans [begin, end): rounded, measured and, where they are kept, packed. */
static enum status pack_spans(void *context, unsigned worker, size_t begin, size_t end,
                              struct error *err)
{
    const struct prefilter *f = context;
    uint32_t *rows = mem_alloc_aligned(PRODUCT_LATENTS, f->words * sizeof(*rows));
    size_t d_sae = f->sae->d_sae;
    size_t last = end * f->span < d_sae ? end * f->span : d_sae;

    (void)worker;
    if (!rows)
        return error_nomem(err);
    for (size_t first = begin * f->span; first < last; first += PRODUCT_LATENTS) {
        size_t n = last - first < PRODUCT_LATENTS ? last - first : PRODUCT_LATENTS;

        for (size_t l = 0; l < n; l++)
            round_latent(f, first + l, rows + l * f->words, &f->bounds[first / f->span]);
        if (f->w)
            f->kernels->interleave(rows, f->words, n, f->words, PRODUCT_LATENTS,
                                   f->w + first * f->words);
    }
    mem_free(rows);
    return STATUS_OK;
}

enum {
    CACHE_BOUNDS,
    CACHE_W,
    CACHE_BIAS,
    CACHE_SCALE,
    CACHE_START,
    CACHE_ARRAYS
};

/* The arrays as the cache has them. */
static void list_arrays(const struct prefilter *f, struct sae_cache_array arrays[CACHE_ARRAYS])
{
    size_t padded = f->n_panels * PRODUCT_LATENTS;
    size_t ints = f->product->precision == PRODUCT_INT8 ? padded * sizeof(int32_t) : 0;

    arrays[CACHE_BOUNDS] = (struct sae_cache_array){f->bounds, count_spans(f) * sizeof(*f->bounds)};
    arrays[CACHE_W] = (struct sae_cache_array){f->w, padded * f->words * sizeof(*f->w)};
    arrays[CACHE_BIAS] = (struct sae_cache_array){f->bias, ints};
    arrays[CACHE_SCALE] = (struct sae_cache_array){f->scale, ints};
    arrays[CACHE_START] = (struct sae_cache_array){f->start, ints};
}

/* The map is read only, and so is a prefilter once it is made. */
static void *writable(const struct sae_cache_array *array)
{
    return (void *)(uintptr_t)array->data;
}

static enum status open_cached(struct prefilter *f, bool *found, struct error *err)
{
    struct sae_cache_array arrays[CACHE_ARRAYS];
    enum status st;

    list_arrays(f, arrays);
    st = sae_cache_open(&f->cache, found, f->sae->cache_dir, f->sae->cache_key, prefilter_name(f),
                        arrays, CACHE_ARRAYS, err);
    if (st || !*found)
        return st;
    f->bounds = writable(&arrays[CACHE_BOUNDS]);
    f->w = writable(&arrays[CACHE_W]);
    f->bias = writable(&arrays[CACHE_BIAS]);
    f->scale = writable(&arrays[CACHE_SCALE]);
    f->start = writable(&arrays[CACHE_START]);
    return STATUS_OK;
}

/* From the cache, or made now and left there. */
static enum status fill(struct prefilter *f, struct workers *workers, struct error *err)
{
    struct sae_cache_array arrays[CACHE_ARRAYS];
    bool keeps = f->sae->cache_dir && packs_weights(f), found = false;
    enum status st = keeps ? open_cached(f, &found, err) : STATUS_OK;

    if (st || found)
        return st;
    st = allocate(f, err);
    if (!st)
        st = workers_run(workers, count_spans(f), 1, pack_spans, f, err);
    if (st || !keeps)
        return st;
    list_arrays(f, arrays);
    st = sae_cache_store(f->sae->cache_dir, f->sae->cache_key, prefilter_name(f), arrays,
                         CACHE_ARRAYS, err);
    return st ? error_wrap(err, st, "sae.cache") : STATUS_OK;
}

enum status prefilter_new(struct prefilter **prefilter, const struct sae *sae,
                          const struct product *product, enum sae_precision precision,
                          const struct kernels *kernels, struct workers *workers, struct error *err)
{
    struct prefilter *f = mem_zalloc(1, sizeof(*f));
    double n = (double)sae->d_in + (double)sae->d_in / 64 + 24;
    enum status st;

    *prefilter = NULL;
    if (!f)
        return error_nomem(err);
    f->sae = sae;
    f->kernels = kernels;
    f->product = product;
    f->precision = precision;
    f->span = product ? SPAN_LATENTS : SPAN_LATENTS_BLAS;
    f->words = product_words(product ? product->precision : PRODUCT_F32, sae->d_in);
    f->n_panels = (sae->d_sae + PRODUCT_LATENTS - 1) / PRODUCT_LATENTS;
    f->rounding = n * UNIT_ROUNDOFF / (1 - n * UNIT_ROUNDOFF);
    f->denormal = 3 * (double)sae->d_in * (double)FLT_MIN;
    st = fill(f, workers, err);
    if (st) {
        prefilter_free(f);
        return st;
    }
    for (size_t i = 0; i < count_spans(f); i++)
        widen_bound(&f->worst, &f->bounds[i]);
    *prefilter = f;
    return STATUS_OK;
}

const char *prefilter_name(const struct prefilter *prefilter)
{
    return prefilter->product ? prefilter->product->name : "f32 blas";
}

enum sae_precision prefilter_precision(const struct prefilter *prefilter)
{
    return prefilter->precision;
}

size_t prefilter_bytes(const struct prefilter *prefilter)
{
    return prefilter->w
               ? prefilter->n_panels * PRODUCT_LATENTS * prefilter->words * sizeof(*prefilter->w)
               : 0;
}

size_t prefilter_span(const struct prefilter *prefilter)
{
    return prefilter->span;
}

/* Tokens -------------------------------------------------------------------------------------- */

void prefilter_block_free(struct prefilter_block *block)
{
    if (!block)
        return;
    outliers_release(&block->outliers);
    mem_free(block->bounds);
    matrix_release(&block->c);
    mem_free(block->rows);
    mem_free(block->tokens);
    mem_free(block->scale);
    mem_free(block->panel);
    mem_free(block);
}

static enum status allocate_block(struct prefilter_block *block, const struct prefilter *f,
                                  struct error *err)
{
    size_t group = f->product ? f->product->group : 1;
    size_t rows = (block->rows_max + group - 1) / group * group;
    enum status st = matrix_init(&block->c, rows, f->span, err);

    if (st)
        return st;
    block->bounds = mem_alloc(rows, sizeof(*block->bounds));
    block->rows = mem_alloc_aligned(group, f->words * sizeof(*block->rows));
    if (!block->bounds || !block->rows)
        return error_nomem(err);
    if (!f->product)
        return STATUS_OK;
    block->tokens = mem_alloc_aligned(rows, f->words * sizeof(*block->tokens));
    block->scale = mem_zalloc(rows, sizeof(*block->scale));
    block->panel = mem_alloc_aligned(PRODUCT_LATENTS, f->product->chunk * sizeof(*block->panel));
    if (!block->tokens || !block->scale || !block->panel)
        return error_nomem(err);
    if (f->product->precision != PRODUCT_INT8)
        return STATUS_OK;
    return outliers_init(&block->outliers, rows, f->sae->d_in, f->span, err);
}

enum status prefilter_block_new(struct prefilter_block **out, const struct prefilter *prefilter,
                                size_t rows_max, struct error *err)
{
    struct prefilter_block *block = mem_zalloc(1, sizeof(*block));
    enum status st;

    *out = NULL;
    if (!block)
        return error_nomem(err);
    block->rows_max = rows_max;
    st = allocate_block(block, prefilter, err);
    if (st) {
        prefilter_block_free(block);
        return st;
    }
    *out = block;
    return STATUS_OK;
}

/* Round token t into `row`, and bound what that took away. */
static void round_token(const struct prefilter *f, struct prefilter_block *block, size_t t,
                        uint32_t *row)
{
    enum product_precision precision = f->product ? f->product->precision : PRODUCT_F32;
    const float *x = matrix_view_row(block->x, t);
    struct token_bound *bound = &block->bounds[t];
    struct product_rounding rounding;
    double left_out = 0;

    if (block->outliers.list)
        x = outliers_take(&block->outliers, t, x, block->x.cols, &left_out);
    rounding = product_round(precision, PRODUCT_TOKENS, f->kernels, x, block->x.cols, row);
    bound->norm = rounding.norm + rounding.error;
    bound->error = rounding.error;
    bound->whole = bound->norm + left_out;
    if (block->scale)
        block->scale[t] = rounding.scale;
}

void prefilter_tokens(const struct prefilter *prefilter, struct prefilter_block *block,
                      struct matrix_view x)
{
    size_t group = prefilter->product ? prefilter->product->group : 1;

    assert(x.rows <= block->rows_max && x.cols == prefilter->sae->d_in);
    block->x = x;
    block->n = x.rows;
    outliers_clear(&block->outliers);
    for (size_t first = 0; first < x.rows; first += group) {
        size_t n = x.rows - first < group ? x.rows - first : group;

        for (size_t i = 0; i < n; i++) {
            round_token(prefilter, block, first + i, block->rows + i * prefilter->words);
        }
        if (prefilter->product)
            product_pack_tokens(prefilter->product, prefilter->kernels, block->rows, n,
                                prefilter->words, block->tokens + first * prefilter->words);
    }
}

static double margin(const struct prefilter *f, const struct token_bound *x,
                     const struct weight_bound *w)
{
    double by_weights = x->norm * w->error, by_tokens = x->error * w->norm;
    double sums = f->rounding * (x->whole * (w->norm + w->error) + w->bias) + f->denormal;

    if (f->precision == SAE_FAST)
        return FAST_DEVIATIONS *
                   sqrt((by_weights * by_weights + by_tokens * by_tokens) / (double)f->sae->d_in) +
               sums;
    return by_weights + by_tokens + sums;
}

bool prefilter_holds(const struct prefilter *prefilter, const struct prefilter_block *block,
                     size_t t)
{
    const struct token_bound *x = &block->bounds[t];
    const struct weight_bound *w = &prefilter->worst;

    /* Each of the two may itself be near the end of the range. */
    return (x->whole + 1) * (w->norm + w->error + 1) + w->bias < RANGE_MAX;
}

float prefilter_margin(const struct prefilter *prefilter, const struct prefilter_block *block,
                       size_t t, size_t span)
{
    /* A float32 is off by less than one part in 2^23 from any double it is made of. */
    return (float)(margin(prefilter, &block->bounds[t], &prefilter->bounds[span]) * (1 + 0x1p-22));
}

/* Products ------------------------------------------------------------------------------------ */

/* c = b for all tokens of the block and latents [first, first + n). */
static void start_with_bias(const struct prefilter *f, struct prefilter_block *block, size_t first,
                            size_t n)
{
    for (size_t t = 0; t < block->n; t++) {
        float *row = block->c.data + t * block->c.stride;

        memcpy(row, f->sae->b_enc + first, n * sizeof(*row));
        /* The last panel may reach beyond the last latent. */
        memset(row + n, 0, (f->span - n) * sizeof(*row));
    }
}

static void multiply_blas(const struct prefilter *f, struct prefilter_block *block, size_t first,
                          size_t n)
{
    struct matrix_view w = matrix_view_rows(matrix_as_view(&f->sae->w_enc), first, first + n);
    struct matrix out = block->c;

    out.rows = block->n;
    out.cols = n;
    blas_gemm_nt(block->x, w, &out, BLAS_ADD);
}

/* Panels of float32 weights are packed here and now: for 512 tokens that is 1 % of the work. */
static void multiply_float(const struct prefilter *f, struct prefilter_block *block, size_t first,
                           size_t n, size_t n_groups)
{
    const struct matrix *w = &f->sae->w_enc;
    size_t d_in = f->sae->d_in, chunk = f->product->chunk;

    for (size_t p = 0; p < d_in; p += chunk) {
        size_t words = d_in - p < chunk ? d_in - p : chunk;

        for (size_t l = 0; l < n; l += PRODUCT_LATENTS) {
            const struct product_panel panel = {.w = block->panel, .words = words};
            size_t here = n - l < PRODUCT_LATENTS ? n - l : PRODUCT_LATENTS;

            f->kernels->interleave(w->data + (first + l) * w->stride + p, w->stride, here, words,
                                   PRODUCT_LATENTS, block->panel);
            f->product->multiply(block->tokens + p * f->product->group,
                                 f->words * f->product->group, NULL, n_groups, &panel,
                                 block->c.data + l, block->c.stride);
        }
    }
}

static void multiply_packed(const struct prefilter *f, struct prefilter_block *block, size_t first,
                            size_t n, size_t n_groups)
{
    size_t chunk = f->product->chunk;

    for (size_t p = 0; p < f->words; p += chunk) {
        for (size_t l = 0; l < n; l += PRODUCT_LATENTS) {
            size_t j = first + l;
            const struct product_panel panel = {.w = f->w + j * f->words + p * PRODUCT_LATENTS,
                                                .words =
                                                    f->words - p < chunk ? f->words - p : chunk,
                                                .bias = f->bias ? f->bias + j : NULL,
                                                .scale = f->scale ? f->scale + j : NULL,
                                                .start = f->start ? f->start + j : NULL};

            f->product->multiply(block->tokens + p * f->product->group,
                                 f->words * f->product->group, block->scale, n_groups, &panel,
                                 block->c.data + l, block->c.stride);
        }
    }
}

const float *prefilter_scores(const struct prefilter *prefilter, struct prefilter_block *block,
                              size_t span, size_t *stride)
{
    size_t first = span * prefilter->span;
    size_t left = prefilter->sae->d_sae - first;
    size_t n = left < prefilter->span ? left : prefilter->span;
    size_t group = prefilter->product ? prefilter->product->group : 1;
    size_t n_groups = (block->n + group - 1) / group;

    *stride = block->c.stride;
    if (!prefilter->product || prefilter->product->precision != PRODUCT_INT8)
        start_with_bias(prefilter, block, first, n);
    if (!prefilter->product)
        multiply_blas(prefilter, block, first, n);
    else if (prefilter->product->precision == PRODUCT_F32)
        multiply_float(prefilter, block, first, n, n_groups);
    else
        multiply_packed(prefilter, block, first, n, n_groups);
    if (block->outliers.list)
        outliers_add(&block->outliers, prefilter->kernels, &prefilter->sae->w_enc, first, n,
                     block->n, block->c.data, block->c.stride);
    return block->c.data;
}
