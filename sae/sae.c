#include "sae/sae.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "linalg/blas.h"

/* Latents in one product: [256, 1024] pre-activations are 1 MiB and stay in the cache. */
#define PANEL_LATENTS 1024
#define BLOCK_TOKENS 256
#define BLOCK_TOKENS_MIN 16
#define BLOCK_ENTRIES ((size_t)1 << 20)

#define LAYER_NORM_EPS 1e-5

void sae_release(struct sae *sae)
{
    matrix_release(&sae->w_enc);
    matrix_release(&sae->w_dec);
    mem_free(sae->b_enc);
    mem_free(sae->threshold);
    mem_free(sae->r_mag);
    mem_free(sae->b_mag);
    mem_free(sae->b_dec);
    mem_free(sae->scheme);
    mem_free(sae->path);
    mem_free(sae->formula);
    mem_free(sae->dtype);
    mem_free(sae->model);
    mem_free(sae->hook);
    mem_free(sae->warnings);
    *sae = (struct sae){0};
}

static bool is_topk(enum activation activation)
{
    return activation == ACTIVATION_TOPK || activation == ACTIVATION_TOPK_SIGNED;
}

size_t sae_block_tokens(const struct sae *sae)
{
    size_t row_entries = sae->k ? sae->k : sae->d_sae;
    size_t rows = BLOCK_ENTRIES / row_entries;

    if (rows < BLOCK_TOKENS_MIN)
        rows = BLOCK_TOKENS_MIN;
    return rows < BLOCK_TOKENS ? rows : BLOCK_TOKENS;
}

struct sae_workspace {
    const struct kernels *kernels;
    size_t rows_max, panels;

    struct matrix x;     /* [rows_max, d_in] normalised tokens; unused without a norm */
    struct matrix panel; /* [rows_max, PANEL_LATENTS] pre-activations */
    uint32_t *found;     /* [PANEL_LATENTS] */
    float *x_hat;        /* [d_out], if the SAE reconstructs */

    /* topk: candidates of each token, in ascending order of latents (see candidate_key). */
    uint64_t *keys;   /* [rows_max, keys_max] */
    size_t keys_max;  /* k and some room, so that pruning is rare */
    size_t *n_keys;   /* [rows_max] */
    float *cutoff;    /* [rows_max] a candidate must exceed it */
    uint64_t *select; /* [keys_max] */
    float *magnitude; /* [PANEL_LATENTS], topk_signed only */

    /* groupmax: the best latent of each group so far. */
    float *best;           /* [rows_max, k] */
    uint32_t *best_latent; /* [rows_max, k] */

    /* The others: what fired, by panel and then by token; hits_end[panel * rows_max + row]. */
    uint32_t *hit_latents;
    float *hit_values;
    size_t hits_capacity;
    size_t *hits_end;

    /* One token's code. */
    uint32_t *row_latents;
    float *row_values;
    size_t row_capacity;
};

void sae_workspace_free(struct sae_workspace *ws)
{
    if (!ws)
        return;
    matrix_release(&ws->x);
    matrix_release(&ws->panel);
    mem_free(ws->found);
    mem_free(ws->x_hat);
    mem_free(ws->keys);
    mem_free(ws->n_keys);
    mem_free(ws->cutoff);
    mem_free(ws->select);
    mem_free(ws->magnitude);
    mem_free(ws->best);
    mem_free(ws->best_latent);
    mem_free(ws->hit_latents);
    mem_free(ws->hit_values);
    mem_free(ws->hits_end);
    mem_free(ws->row_latents);
    mem_free(ws->row_values);
    mem_free(ws);
}

/* Pruning costs O(keys_max) and happens every keys_max - k candidates. */
static size_t candidates_max(const struct sae *sae)
{
    size_t room = 3 * (size_t)sae->k + 64;
    size_t n = sae->k + (room < 1024 ? room : 1024);

    return n < sae->d_sae ? n : sae->d_sae;
}

enum status sae_workspace_new(struct sae_workspace **out, const struct sae *sae,
                              const struct kernels *kernels, struct error *err)
{
    size_t panel = sae->d_sae < PANEL_LATENTS ? sae->d_sae : PANEL_LATENTS;
    size_t rows = sae_block_tokens(sae);
    struct sae_workspace *ws;
    enum status st;

    *out = NULL;
    ws = mem_zalloc(1, sizeof(*ws));
    if (!ws)
        return error_nomem(err);
    ws->kernels = kernels;
    ws->rows_max = rows;
    ws->panels = (sae->d_sae + PANEL_LATENTS - 1) / PANEL_LATENTS;
    st = matrix_init(&ws->panel, rows, panel, err);
    if (st)
        goto out;
    if (sae->norm != SAE_NORM_NONE) {
        st = matrix_init(&ws->x, rows, sae->d_in, err);
        if (st)
            goto out;
    }
    st = STATUS_NOMEM;
    ws->found = mem_alloc(panel, sizeof(*ws->found));
    if (!ws->found)
        goto out;
    if (sae->reconstructs) {
        ws->x_hat = mem_alloc_aligned(sae->d_out, sizeof(*ws->x_hat));
        if (!ws->x_hat)
            goto out;
    }
    if (is_topk(sae->activation)) {
        ws->keys_max = candidates_max(sae);
        ws->keys = mem_alloc(rows, ws->keys_max * sizeof(*ws->keys));
        ws->n_keys = mem_alloc(rows, sizeof(*ws->n_keys));
        ws->cutoff = mem_alloc(rows, sizeof(*ws->cutoff));
        ws->select = mem_alloc(ws->keys_max, sizeof(*ws->select));
        ws->magnitude = mem_alloc(panel, sizeof(*ws->magnitude));
        if (!ws->keys || !ws->n_keys || !ws->cutoff || !ws->select || !ws->magnitude)
            goto out;
    } else if (sae->activation == ACTIVATION_GROUPMAX) {
        ws->best = mem_alloc(rows, sae->k * sizeof(*ws->best));
        ws->best_latent = mem_alloc(rows, sae->k * sizeof(*ws->best_latent));
        if (!ws->best || !ws->best_latent)
            goto out;
    } else {
        ws->hits_end = mem_alloc(ws->panels, rows * sizeof(*ws->hits_end));
        if (!ws->hits_end)
            goto out;
    }
    st = STATUS_OK;
    *out = ws;
out:
    if (!st)
        return STATUS_OK;
    sae_workspace_free(ws);
    return error_nomem(err);
}

/* Room for so many latents with their values. */
static bool reserve(uint32_t **latents, float **values, size_t *capacity, size_t n)
{
    size_t grown = *capacity;
    void *p = *latents;
    bool ok = mem_grow(&p, &grown, n, sizeof(**latents));

    *latents = p;
    if (!ok)
        return false;
    grown = *capacity;
    p = *values;
    ok = mem_grow(&p, &grown, n, sizeof(**values));
    *values = p;
    if (ok)
        *capacity = grown; /* counts only when both arrays have it */
    return ok;
}

/* Before the product ------------------------------------------------------------------------- */

/* What a token was before its norm was taken: x = shift + scale * normalised, but for eps. */
struct token_norm {
    double shift, scale;
};

static struct token_norm measure_token(const struct sae *sae, const float *x)
{
    size_t d = sae->d_in;
    double sum = 0, squares = 0, mean;

    if (sae->norm == SAE_NORM_NONE)
        return (struct token_norm){.shift = 0, .scale = 1};
    if (sae->norm == SAE_NORM_CONSTANT) {
        for (size_t i = 0; i < d; i++)
            squares += (double)x[i] * (double)x[i];
        return (struct token_norm){.shift = 0, .scale = sqrt(squares / (double)d)};
    }
    for (size_t i = 0; i < d; i++)
        sum += (double)x[i];
    mean = sum / (double)d;
    for (size_t i = 0; i < d; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    return (struct token_norm){.shift = mean, .scale = d > 1 ? sqrt(squares / (double)(d - 1)) : 0};
}

static void normalise_token(const struct sae *sae, const float *x, float *out)
{
    struct token_norm norm = measure_token(sae, x);
    double divisor = norm.scale;

    if (sae->norm == SAE_NORM_LAYER)
        divisor += LAYER_NORM_EPS;
    if (divisor == 0)
        divisor = 1; /* an all-zero token has no norm to bring to sqrt(d_in): it stays zero */
    for (size_t i = 0; i < sae->d_in; i++)
        out[i] = (float)(((double)x[i] - norm.shift) / divisor);
}

static struct matrix_view prepare_tokens(const struct sae *sae, struct matrix_view x,
                                         struct sae_workspace *ws)
{
    if (sae->norm == SAE_NORM_NONE)
        return x;
    for (size_t t = 0; t < x.rows; t++)
        normalise_token(sae, matrix_view_row(x, t), ws->x.data + t * ws->x.stride);
    return matrix_view_rows(matrix_as_view(&ws->x), 0, x.rows);
}

/* topk --------------------------------------------------------------------------------------- */

/*
 * A candidate as one number whose order is that of selection, magnitude first, lower latents
 * winning ties:
 *
 *     bits 63..33  the magnitude, whose bits ascend with its value
 *     bits 32..1   latent, inverted
 *     bit  0       sign
 *
 * Keys of a token are distinct, so that "the k largest" is one definite set.
 */
static uint64_t candidate_key(float value, uint32_t latent)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return (uint64_t)(bits & 0x7fffffff) << 33 | (uint64_t)~latent << 1 | bits >> 31;
}

static uint32_t key_latent(uint64_t key)
{
    return ~(uint32_t)(key >> 1);
}

static float key_magnitude(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 33);
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float key_value(uint64_t key)
{
    return key & 1 ? -key_magnitude(key) : key_magnitude(key);
}

/* The k-th largest of n distinct keys, 1 <= k <= n; permutes them. Quickselect (Hoare 1961) with
 * pseudo-random pivots, so that no order of the data is bad. */
static uint64_t kth_largest(uint64_t *keys, size_t n, size_t k)
{
    uint64_t random = 0x9e3779b97f4a7c15;
    size_t begin = 0, end = n, target = k - 1;

    while (end - begin > 1) {
        size_t left = begin, right = end - 1;
        uint64_t pivot;

        random = random * 6364136223846793005 + 1442695040888963407;
        pivot = keys[begin + (size_t)(random >> 33) % (end - begin)];
        for (;;) {
            uint64_t swap;

            while (keys[left] > pivot)
                left++;
            while (keys[right] < pivot)
                right--;
            if (left >= right)
                break;
            swap = keys[left];
            keys[left] = keys[right];
            keys[right] = swap;
        }
        /* keys[left] is the pivot: larger ones are before it, smaller ones behind. */
        if (target == left)
            return pivot;
        if (target < left)
            end = left;
        else
            begin = left + 1;
    }
    return keys[begin];
}

/* Keep the k best candidates of a token, in their order, and raise its cut-off to the k-th. */
static void prune_candidates(struct sae_workspace *ws, size_t row, size_t k)
{
    uint64_t *keys = ws->keys + row * ws->keys_max;
    uint64_t last;
    size_t n = 0;

    if (ws->n_keys[row] <= k)
        return;
    memcpy(ws->select, keys, ws->n_keys[row] * sizeof(*keys));
    last = kth_largest(ws->select, ws->n_keys[row], k);
    for (size_t i = 0; i < ws->n_keys[row]; i++)
        if (keys[i] >= last)
            keys[n++] = keys[i];
    ws->n_keys[row] = n;
    ws->cutoff[row] = key_magnitude(last);
}

/*
 * Panels come in ascending order of latents, so a later value must exceed the cut-off: one that
 * equals it would lose the tie. The cut-off starts at 0, which is the relu after selection.
 */
static void add_topk(const struct sae *sae, struct sae_workspace *ws, size_t row, const float *a,
                     size_t first, size_t n)
{
    uint64_t *keys = ws->keys + row * ws->keys_max;
    const float *size = a;
    size_t n_found;

    if (sae->activation == ACTIVATION_TOPK_SIGNED) {
        for (size_t j = 0; j < n; j++)
            ws->magnitude[j] = fabsf(a[j]);
        size = ws->magnitude;
    }
    n_found = ws->kernels->find_above(size, n, ws->cutoff[row], ws->found);
    for (size_t i = 0; i < n_found; i++) {
        uint32_t j = ws->found[i];

        if (ws->n_keys[row] == ws->keys_max)
            prune_candidates(ws, row, sae->k);
        if (size[j] > ws->cutoff[row])
            keys[ws->n_keys[row]++] = candidate_key(a[j], (uint32_t)(first + j));
    }
}

static size_t finish_topk(const struct sae *sae, struct sae_workspace *ws, size_t row)
{
    const uint64_t *keys = ws->keys + row * ws->keys_max;

    prune_candidates(ws, row, sae->k);
    for (size_t i = 0; i < ws->n_keys[row]; i++) {
        ws->row_latents[i] = key_latent(keys[i]);
        ws->row_values[i] = key_value(keys[i]);
    }
    return ws->n_keys[row];
}

/* groupmax ----------------------------------------------------------------------------------- */

static void add_groupmax(const struct sae *sae, struct sae_workspace *ws, size_t row,
                         const float *a, size_t first, size_t n)
{
    size_t size = sae->d_sae / sae->k;
    float *best = ws->best + row * sae->k;
    uint32_t *best_latent = ws->best_latent + row * sae->k;

    for (size_t j = 0; j < n;) {
        size_t group = (first + j) / size;
        size_t end = (group + 1) * size - first;

        for (end = end < n ? end : n; j < end; j++) {
            if (a[j] > best[group]) {
                best[group] = a[j];
                best_latent[group] = (uint32_t)(first + j);
            }
        }
    }
}

static size_t finish_groupmax(const struct sae *sae, struct sae_workspace *ws, size_t row)
{
    const float *best = ws->best + row * sae->k;
    const uint32_t *best_latent = ws->best_latent + row * sae->k;
    size_t n = 0;

    for (size_t group = 0; group < sae->k; group++) {
        if (best[group] > 0) {
            ws->row_latents[n] = best_latent[group];
            ws->row_values[n++] = best[group];
        }
    }
    return n;
}

/* relu, tanh_relu, jumprelu, gated ----------------------------------------------------------- */

/* Appends to the hits, where there is room for n more. Returns how many fired. */
static size_t add_hits(const struct sae *sae, struct sae_workspace *ws, size_t n_hits,
                       const float *a, size_t first, size_t n)
{
    uint32_t *latents = ws->hit_latents + n_hits;
    float *values = ws->hit_values + n_hits;
    size_t found, kept = 0;

    if (sae->threshold)
        found = ws->kernels->find_above_each(a, sae->threshold + first, n, ws->found);
    else
        found = ws->kernels->find_above(a, n, 0, ws->found);
    for (size_t i = 0; i < found; i++) {
        uint32_t j = ws->found[i];
        float z = a[j];

        if (sae->activation == ACTIVATION_TANH_RELU)
            z = tanhf(z);
        else if (sae->activation == ACTIVATION_GATED)
            z = sae->r_mag[first + j] * z + sae->b_mag[first + j];
        if (z > 0) {
            latents[kept] = (uint32_t)(first + j);
            values[kept++] = z;
        }
    }
    return kept;
}

static size_t row_hits(const struct sae_workspace *ws, size_t row, uint32_t *latents, float *values)
{
    size_t n = 0;

    for (size_t p = 0; p < ws->panels; p++) {
        size_t segment = p * ws->rows_max + row;
        size_t begin = segment ? ws->hits_end[segment - 1] : 0;
        size_t count = ws->hits_end[segment] - begin;

        if (latents && count) {
            memcpy(latents + n, ws->hit_latents + begin, count * sizeof(*latents));
            memcpy(values + n, ws->hit_values + begin, count * sizeof(*values));
        }
        n += count;
    }
    return n;
}

/* Encode -------------------------------------------------------------------------------------- */

static void start_block(const struct sae *sae, struct sae_workspace *ws, size_t rows)
{
    if (is_topk(sae->activation)) {
        memset(ws->n_keys, 0, rows * sizeof(*ws->n_keys));
        memset(ws->cutoff, 0, rows * sizeof(*ws->cutoff));
    } else if (sae->activation == ACTIVATION_GROUPMAX) {
        memset(ws->best, 0, rows * sae->k * sizeof(*ws->best));
    }
}

/* ws->panel = x W_enc[:, first .. first + n) + b_enc[first .. first + n) */
static struct matrix pre_activations(const struct sae *sae, struct matrix_view x,
                                     struct sae_workspace *ws, size_t first, size_t n)
{
    struct matrix_view weights = matrix_as_view(&sae->w_enc);
    struct matrix out = ws->panel;

    weights.data += first;
    weights.cols = n;
    out.rows = x.rows;
    out.cols = n;
    for (size_t t = 0; t < x.rows; t++)
        memcpy(out.data + t * out.stride, sae->b_enc + first, n * sizeof(*out.data));
    blas_gemm(x, weights, &out, BLAS_ADD);
    return out;
}

static enum status select_panel(const struct sae *sae, struct sae_workspace *ws,
                                const struct matrix *a, size_t first, struct error *err)
{
    size_t segment = first / PANEL_LATENTS * ws->rows_max;
    size_t n_hits = segment ? ws->hits_end[segment - 1] : 0;

    for (size_t t = 0; t < a->rows; t++) {
        if (!reserve(&ws->hit_latents, &ws->hit_values, &ws->hits_capacity, n_hits + a->cols))
            return error_nomem(err);
        n_hits += add_hits(sae, ws, n_hits, a->data + t * a->stride, first, a->cols);
        ws->hits_end[segment + t] = n_hits;
    }
    for (size_t t = a->rows; t < ws->rows_max; t++)
        ws->hits_end[segment + t] = n_hits;
    return STATUS_OK;
}

static enum status append_row(const struct sae *sae, struct sae_workspace *ws, size_t row,
                              struct csr *codes, struct error *err)
{
    size_t n;

    if (sae->k) {
        if (!reserve(&ws->row_latents, &ws->row_values, &ws->row_capacity, sae->k))
            return error_nomem(err);
        n = is_topk(sae->activation) ? finish_topk(sae, ws, row) : finish_groupmax(sae, ws, row);
    } else {
        n = row_hits(ws, row, NULL, NULL);
        if (!reserve(&ws->row_latents, &ws->row_values, &ws->row_capacity, n))
            return error_nomem(err);
        row_hits(ws, row, ws->row_latents, ws->row_values);
    }
    return csr_append(
        codes, (struct sparse_row){.indices = ws->row_latents, .values = ws->row_values, .n = n},
        err);
}

enum status sae_encode(const struct sae *sae, struct matrix_view x, struct sae_workspace *ws,
                       struct csr *codes, struct error *err)
{
    enum status st = STATUS_OK;
    struct matrix_view tokens;

    assert(x.cols == sae->d_in && x.rows <= ws->rows_max);
    csr_clear(codes, sae->d_sae);
    tokens = prepare_tokens(sae, x, ws);
    start_block(sae, ws, x.rows);
    for (size_t first = 0; first < sae->d_sae; first += PANEL_LATENTS) {
        size_t left = sae->d_sae - first;
        size_t n = left < PANEL_LATENTS ? left : PANEL_LATENTS;
        struct matrix a = pre_activations(sae, tokens, ws, first, n);

        if (is_topk(sae->activation)) {
            for (size_t t = 0; t < a.rows; t++)
                add_topk(sae, ws, t, a.data + t * a.stride, first, n);
        } else if (sae->activation == ACTIVATION_GROUPMAX) {
            for (size_t t = 0; t < a.rows; t++)
                add_groupmax(sae, ws, t, a.data + t * a.stride, first, n);
        } else {
            st = select_panel(sae, ws, &a, first, err);
            if (st)
                goto out;
        }
    }
    for (size_t t = 0; t < x.rows && !st; t++)
        st = append_row(sae, ws, t, codes, err);
out:
    if (st)
        csr_clear(codes, sae->d_sae);
    return st;
}

void sae_reconstruction_errors(const struct sae *sae, struct matrix_view x, struct csr_view codes,
                               struct sae_workspace *ws, double *errors)
{
    assert(sae->reconstructs && x.cols == sae->d_out && x.rows == codes.rows);
    for (size_t t = 0; t < x.rows; t++) {
        const float *token = matrix_view_row(x, t);
        struct sparse_row code = csr_view_row(codes, t);
        struct token_norm norm = measure_token(sae, token);
        double sum = 0;

        memcpy(ws->x_hat, sae->b_dec, sae->d_out * sizeof(*ws->x_hat));
        for (size_t e = 0; e < code.n; e++)
            ws->kernels->axpy(code.values[e], sae->w_dec.data + code.indices[e] * sae->w_dec.stride,
                              ws->x_hat, sae->d_out);
        for (size_t i = 0; i < sae->d_out; i++) {
            double x_hat = norm.shift + norm.scale * (double)ws->x_hat[i];
            double difference = (double)token[i] - x_hat;

            sum += difference * difference;
        }
        errors[t] = sum;
    }
}
