#include "sae/sae.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "linalg/product.h"
#include "sae/candidate.h"
#include "sae/prefilter.h"
#include "sae/token_norm.h"

#define BLOCK_TOKENS 512
#define BLOCK_TOKENS_MIN 64
#define BLOCK_ENTRIES ((size_t)1 << 22)

/* More codes than that in a block are not expected. */
#define BLOCK_CODES ((size_t)1 << 20)

/* Fewer tokens than this are not worth a prefilter: the weights are read once either way. */
#define PREFILTER_TOKENS_MIN 4

/* Rows of weights that are to stay in the second-level cache. */
#define TILE_BYTES ((size_t)1 << 20)
#define TILE_LATENTS_MIN 16

/* Latents in a span without a prefilter. */
#define SPAN_LATENTS 256

/* What lies in the map is not ours to free. */
static void release_cache(struct sae *sae)
{
    if (sae->cache.mapped) {
        sae->w_enc.data = sae->w_dec.data = NULL;
        sae->b_enc = sae->threshold = sae->r_mag = sae->b_mag = sae->b_dec = NULL;
    }
    sae_cache_close(&sae->cache);
    mem_free(sae->cache_dir);
}

void sae_release(struct sae *sae)
{
    prefilter_free(sae->prefilter);
    release_cache(sae);
    matrix_release(&sae->w_enc);
    matrix_release(&sae->w_dec);
    mem_free(sae->b_enc);
    mem_free(sae->threshold);
    mem_free(sae->r_mag);
    mem_free(sae->b_mag);
    mem_free(sae->b_dec);
    mem_free(sae->scheme);
    mem_free(sae->detected);
    mem_free(sae->path);
    mem_free(sae->formula);
    mem_free(sae->dtype);
    mem_free(sae->model);
    mem_free(sae->hook);
    mem_free(sae->warnings);
    *sae = (struct sae){0};
}

enum status sae_prepare(struct sae *sae, enum sae_precision precision,
                        const struct kernels *kernels, struct workers *workers, struct error *err)
{
    const struct product *product = prefilter_choose(kernels->cpu_flags, sae->d_in, &precision);

    assert(!sae->prefilter);
    return prefilter_new(&sae->prefilter, sae, product, precision, kernels, workers, err);
}

const char *sae_engine(const struct sae *sae)
{
    return sae->prefilter ? prefilter_name(sae->prefilter) : "exact";
}

enum sae_precision sae_engine_precision(const struct sae *sae)
{
    return sae->prefilter ? prefilter_precision(sae->prefilter) : SAE_EXACT;
}

size_t sae_packed_bytes(const struct sae *sae)
{
    return sae->prefilter ? prefilter_bytes(sae->prefilter) : 0;
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

size_t sae_block_for(const struct sae *sae, uint64_t tokens, unsigned threads)
{
    size_t most = sae_block_tokens(sae);
    uint64_t share = (tokens + threads - 1) / threads;

    if (share >= most)
        return most;
    return share < BLOCK_TOKENS_MIN ? BLOCK_TOKENS_MIN : (size_t)share;
}

/* A latent whose pre-activation at a token is wanted exactly. */
struct pair {
    uint32_t latent, token;
    float value;
};

struct sae_workspace {
    const struct kernels *kernels;
    size_t rows_max;
    size_t span, n_spans;
    struct prefilter_block *block; /* NULL without a prefilter */

    struct matrix x; /* [rows_max, d_in] normalised tokens; unused without a norm */
    float *x_hat;    /* [d_out], if the SAE reconstructs */

    unsigned char *exact;       /* [rows_max] this token is computed without the prefilter */
    unsigned char *overflowed;  /* [rows_max] it had too many candidates */
    uint32_t *which;            /* [rows_max] tokens of a scan */
    const float **rows;         /* [rows_max, or tile if that is more] */
    float *sums;                /* the same */
    struct matrix exact_scores; /* [rows_max, span] */
    float *magnitude;           /* [span], topk_signed only */
    uint32_t *found;            /* [span] */

    struct pair *pairs;
    size_t n_pairs, pairs_capacity;
    uint32_t *order; /* [n_pairs] by tile */
    size_t order_capacity;
    size_t tile;      /* latents */
    uint32_t *starts; /* [tiles + 2] */

    /* topk, groupmax: candidates of each token (sae/candidate.h), views of the arrays below. */
    struct candidates *candidates; /* [rows_max] */
    float *least, *most;           /* [rows_max, room] */
    uint32_t *latents;             /* the same */
    float *cutoff;                 /* [rows_max] topk: k latents are certain to reach it */
    float *best;                   /* [rows_max, k] groupmax: the same for each group */

    /* The others: what fired, by span and then by token; hits_end[span * rows_max + row]. */
    uint32_t *hit_latents;
    float *hit_values;
    size_t n_hits, hits_capacity;
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
    prefilter_block_free(ws->block);
    matrix_release(&ws->x);
    matrix_release(&ws->exact_scores);
    mem_free(ws->x_hat);
    mem_free(ws->exact);
    mem_free(ws->overflowed);
    mem_free(ws->which);
    mem_free(ws->rows);
    mem_free(ws->sums);
    mem_free(ws->magnitude);
    mem_free(ws->found);
    mem_free(ws->pairs);
    mem_free(ws->order);
    mem_free(ws->starts);
    mem_free(ws->candidates);
    mem_free(ws->least);
    mem_free(ws->most);
    mem_free(ws->latents);
    mem_free(ws->cutoff);
    mem_free(ws->best);
    mem_free(ws->hit_latents);
    mem_free(ws->hit_values);
    mem_free(ws->hits_end);
    mem_free(ws->row_latents);
    mem_free(ws->row_values);
    mem_free(ws);
}

/* k, and room for those that a wide margin lets in. */
static size_t candidates_max(const struct sae *sae)
{
    size_t room = 7 * (size_t)sae->k + 448;
    size_t n = sae->k + (room < 4096 ? room : 4096);

    return n < sae->d_sae ? n : sae->d_sae;
}

static enum status allocate_candidates(struct sae_workspace *ws, const struct sae *sae,
                                       struct error *err)
{
    size_t rows = ws->rows_max, max = candidates_max(sae);

    ws->candidates = mem_alloc(rows, sizeof(*ws->candidates));
    ws->least = mem_alloc(rows, max * sizeof(*ws->least));
    ws->most = mem_alloc(rows, max * sizeof(*ws->most));
    ws->latents = mem_alloc(rows, max * sizeof(*ws->latents));
    ws->cutoff = mem_alloc(rows, sizeof(*ws->cutoff));
    if (!ws->candidates || !ws->least || !ws->most || !ws->latents || !ws->cutoff)
        return error_nomem(err);
    for (size_t t = 0; t < rows; t++)
        ws->candidates[t] = (struct candidates){.least = ws->least + t * max,
                                                .most = ws->most + t * max,
                                                .latent = ws->latents + t * max,
                                                .max = max};
    if (sae->activation != ACTIVATION_GROUPMAX)
        return STATUS_OK;
    ws->best = mem_alloc(rows, sae->k * sizeof(*ws->best));
    return ws->best ? STATUS_OK : error_nomem(err);
}

static enum status allocate_hits(struct sae_workspace *ws, struct error *err)
{
    ws->hits_end = mem_alloc(ws->n_spans, ws->rows_max * sizeof(*ws->hits_end));
    return ws->hits_end ? STATUS_OK : error_nomem(err);
}

static enum status allocate_scratch(struct sae_workspace *ws, const struct sae *sae,
                                    struct error *err)
{
    size_t rows = ws->rows_max;
    enum status st = matrix_init(&ws->exact_scores, rows, ws->span, err);

    if (!st && sae->norm != SAE_NORM_NONE)
        st = matrix_init(&ws->x, rows, sae->d_in, err);
    if (!st && sae->prefilter)
        st = prefilter_block_new(&ws->block, sae->prefilter, rows, err);
    if (st)
        return st;
    ws->exact = mem_alloc(rows, sizeof(*ws->exact));
    ws->overflowed = mem_alloc(rows, sizeof(*ws->overflowed));
    ws->which = mem_alloc(rows, sizeof(*ws->which));
    ws->rows = mem_alloc(rows > ws->tile ? rows : ws->tile, sizeof(float *));
    ws->sums = mem_alloc(rows > ws->tile ? rows : ws->tile, sizeof(*ws->sums));
    ws->starts = mem_alloc(sae->d_sae / ws->tile + 3, sizeof(*ws->starts));
    ws->magnitude = mem_alloc(ws->span, sizeof(*ws->magnitude));
    ws->found = mem_alloc(ws->span, sizeof(*ws->found));
    ws->x_hat = mem_alloc_aligned(sae->reconstructs ? sae->d_out : 0, sizeof(*ws->x_hat));
    if (ws->exact && ws->overflowed && ws->which && ws->rows && ws->sums && ws->starts &&
        ws->magnitude && ws->found && ws->x_hat)
        return STATUS_OK;
    return error_nomem(err);
}

size_t sae_scratch_bytes(const struct sae *sae)
{
    size_t rows = sae_block_tokens(sae);
    size_t codes = rows * (sae->k ? candidates_max(sae) : sae->d_sae);

    codes = codes < BLOCK_CODES ? codes : BLOCK_CODES;
    /* Tokens as read, normalised and packed; two panels of scores; candidates, pairs and codes, in
     * arrays that may be half empty. */
    return rows * (3 * sae->d_in + 2 * SPAN_LATENTS) * sizeof(float) + 64 * codes;
}

enum status sae_workspace_new(struct sae_workspace **out, const struct sae *sae,
                              const struct kernels *kernels, struct error *err)
{
    struct sae_workspace *ws = mem_zalloc(1, sizeof(*ws));
    enum status st;

    *out = NULL;
    if (!ws)
        return error_nomem(err);
    ws->kernels = kernels;
    ws->rows_max = sae_block_tokens(sae);
    ws->span = sae->prefilter ? prefilter_span(sae->prefilter) : SPAN_LATENTS;
    ws->n_spans = (sae->d_sae + ws->span - 1) / ws->span;
    ws->tile = TILE_BYTES / (sizeof(float) * (sae->d_in + 1));
    ws->tile = ws->tile < TILE_LATENTS_MIN ? TILE_LATENTS_MIN : ws->tile;
    st = allocate_scratch(ws, sae, err);
    if (!st)
        st = sae->k ? allocate_candidates(ws, sae, err) : allocate_hits(ws, err);
    if (st) {
        sae_workspace_free(ws);
        return st;
    }
    *out = ws;
    return STATUS_OK;
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

/* Exact values ------------------------------------------------------------------------------- */

static const float *latent_row(const struct sae *sae, size_t j)
{
    return sae->w_enc.data + j * sae->w_enc.stride;
}

/* ws->exact_scores [n, latents of the span] of the tokens at ws->rows [n]. */
static void score_exactly(const struct sae *sae, struct sae_workspace *ws, size_t n, size_t first,
                          size_t n_latents)
{
    for (size_t l = 0; l < n_latents; l++) {
        ws->kernels->dots(latent_row(sae, first + l), ws->rows, n, sae->d_in, ws->sums);
        for (size_t i = 0; i < n; i++)
            ws->exact_scores.data[i * ws->exact_scores.stride + l] =
                ws->sums[i] + sae->b_enc[first + l];
    }
}

static enum status add_pair(struct sae_workspace *ws, uint32_t latent, uint32_t token,
                            struct error *err)
{
    void *p = ws->pairs;
    bool ok = mem_grow(&p, &ws->pairs_capacity, ws->n_pairs + 1, sizeof(*ws->pairs));

    ws->pairs = p;
    if (!ok)
        return error_nomem(err);
    ws->pairs[ws->n_pairs++] = (struct pair){.latent = latent, .token = token};
    return STATUS_OK;
}

/* ws->order: the pairs by tile of latents, all in [first, first + n_latents). Counting sort, so
 * that they stay in order otherwise. */
static enum status sort_pairs(struct sae_workspace *ws, size_t first, size_t n_latents,
                              struct error *err)
{
    void *p = ws->order;
    bool ok = mem_grow(&p, &ws->order_capacity, ws->n_pairs, sizeof(*ws->order));
    size_t n_tiles = (n_latents + ws->tile - 1) / ws->tile;
    uint32_t *starts = ws->starts;

    ws->order = p;
    if (!ok)
        return error_nomem(err);
    memset(starts, 0, (n_tiles + 1) * sizeof(*starts));
    for (size_t i = 0; i < ws->n_pairs; i++)
        starts[(ws->pairs[i].latent - first) / ws->tile + 1]++;
    for (size_t l = 0; l < n_tiles; l++)
        starts[l + 1] += starts[l];
    for (size_t i = 0; i < ws->n_pairs; i++)
        ws->order[starts[(ws->pairs[i].latent - first) / ws->tile]++] = (uint32_t)i;
    return STATUS_OK;
}

/* Asks for the weights of the next tile, a share with every pair of this one. */
struct prefetch {
    const char *at, *end;
    size_t share; /* bytes */
};

static struct prefetch prefetch_tile(const struct sae *sae, const struct sae_workspace *ws,
                                     size_t latent, size_t n_pairs)
{
    size_t last = latent + ws->tile < sae->d_sae ? latent + ws->tile : sae->d_sae;

    if (latent >= sae->d_sae)
        return (struct prefetch){NULL, NULL, 0};
    return (struct prefetch){.at = (const char *)latent_row(sae, latent),
                             .end = (const char *)latent_row(sae, last),
                             .share =
                                 (last - latent) * sae->w_enc.stride * sizeof(float) / n_pairs};
}

static void prefetch_share(struct prefetch *prefetch, size_t n_pairs)
{
    const char *end = prefetch->end;

    if ((size_t)(end - prefetch->at) > n_pairs * prefetch->share)
        end = prefetch->at + n_pairs * prefetch->share;
    for (; prefetch->at < end; prefetch->at += MEM_ALIGNMENT)
        __builtin_prefetch(prefetch->at, 0, 2);
}

/*
 * The value of every pair. Tile by tile: its rows of weights stay in the second-level cache while
 * the tokens go by in order.
 */
static enum status settle_pairs(const struct sae *sae, struct sae_workspace *ws,
                                struct matrix_view x, size_t first, size_t n_latents,
                                struct error *err)
{
    enum status st = sort_pairs(ws, first, n_latents, err);
    size_t begin = 0;

    for (size_t tile = 0; begin < ws->n_pairs && !st; tile++) {
        size_t end = ws->starts[tile]; /* where sorting has left it */
        struct prefetch next =
            prefetch_tile(sae, ws, first + (tile + 1) * ws->tile, end - begin + 1);

        while (begin < end) {
            uint32_t token = ws->pairs[ws->order[begin]].token;
            const struct pair *pair;
            size_t n = 0;

            for (; begin + n < end; n++) {
                pair = &ws->pairs[ws->order[begin + n]];
                if (pair->token != token)
                    break;
                ws->rows[n] = latent_row(sae, pair->latent);
            }
            prefetch_share(&next, n);
            ws->kernels->dots(matrix_view_row(x, token), ws->rows, n, sae->d_in, ws->sums);
            for (size_t m = 0; m < n; m++, begin++) {
                struct pair *settled = &ws->pairs[ws->order[begin]];

                settled->value = ws->sums[m] + sae->b_enc[settled->latent];
            }
        }
    }
    return st;
}

/* Scan ---------------------------------------------------------------------------------------- */

/* Bounds below and above a float32 that was rounded, with room to spare. */
static float lower(float x)
{
    return x - fabsf(x) * 0x1p-22f - FLT_MIN;
}

static float upper(float x)
{
    return x + fabsf(x) * 0x1p-22f + FLT_MIN;
}

/* One token's scores in a span: a pre-activation is within `margin` of them. */
struct scores {
    const float *c;
    size_t first, n; /* latents */
    uint32_t token;
    float margin;
};

/* topk: raise the cut-off to the k-th largest lower bound and keep what may reach it. Exact values
 * are their own bounds: no more than k are kept. */
static void prune_topk(const struct sae *sae, struct sae_workspace *ws, uint32_t t)
{
    struct candidates *candidates = &ws->candidates[t];

    if (candidates->n <= sae->k)
        return;
    ws->cutoff[t] = candidate_kth_largest(ws->kernels, candidates->least, candidates->n, sae->k);
    if (ws->exact[t])
        candidates_keep_largest(candidates, ws->kernels, sae->k);
    else
        candidates_keep(candidates, ws->cutoff[t]);
}

static size_t group_of(const struct sae *sae, uint32_t latent)
{
    return latent / (sae->d_sae / sae->k);
}

/* groupmax: keep what may be the largest of its group. */
static void prune_groupmax(const struct sae *sae, struct sae_workspace *ws, uint32_t t)
{
    struct candidates *candidates = &ws->candidates[t];
    const float *best = ws->best + t * sae->k;
    size_t n = 0;

    for (size_t i = 0; i < candidates->n; i++) {
        if (candidates->most[i] < best[group_of(sae, candidates->latent[i])])
            continue;
        candidates->least[n] = candidates->least[i];
        candidates->most[n] = candidates->most[i];
        candidates->latent[n++] = candidates->latent[i];
    }
    candidates->n = n;
}

static void prune(const struct sae *sae, struct sae_workspace *ws, uint32_t t)
{
    if (sae->activation == ACTIVATION_GROUPMAX)
        prune_groupmax(sae, ws, t);
    else
        prune_topk(sae, ws, t);
}

/* Once k more have come a new cut-off keeps out half of those that the old one lets in. */
static void set_prune_at(const struct sae *sae, struct candidates *candidates)
{
    candidates->prune_at = candidates->n + sae->k + 32;
    if (candidates->prune_at > candidates->max)
        candidates->prune_at = candidates->max;
}

/* Take a latent whose value lies between two bounds as a candidate. False: no room. */
static bool add_candidate(const struct sae *sae, struct sae_workspace *ws, uint32_t t,
                          uint32_t latent, float least, float most)
{
    struct candidates *candidates = &ws->candidates[t];

    if (candidates->n == candidates->prune_at) {
        prune(sae, ws, t);
        set_prune_at(sae, candidates);
    }
    if (candidates->n == candidates->max)
        return false;
    candidates->least[candidates->n] = least > 0 ? least : 0;
    candidates->most[candidates->n] = most;
    candidates->latent[candidates->n++] = latent;
    return true;
}

static bool add_topk(const struct sae *sae, struct sae_workspace *ws, const struct scores *s)
{
    const float *size = s->c;
    uint32_t t = s->token;
    bool exact = ws->exact[t];
    size_t n_found;

    if (sae->activation == ACTIVATION_TOPK_SIGNED) {
        for (size_t l = 0; l < s->n; l++)
            ws->magnitude[l] = fabsf(s->c[l]);
        size = ws->magnitude;
    }
    n_found = ws->kernels->find_above(size, s->n, lower(ws->cutoff[t] - s->margin), ws->found);
    for (size_t i = 0; i < n_found; i++) {
        uint32_t l = ws->found[i];
        float least = exact ? size[l] : lower(size[l] - s->margin);
        float most = exact ? size[l] : upper(size[l] + s->margin);

        /* The cut-off may have risen since they were found; and what is not positive never fires.
         */
        if (most < ws->cutoff[t] || !(most > 0))
            continue;
        if (!add_candidate(sae, ws, t, (uint32_t)(s->first + l), least, most))
            return false;
    }
    return true;
}

static bool add_groupmax(const struct sae *sae, struct sae_workspace *ws, const struct scores *s)
{
    float *best = ws->best + s->token * sae->k;
    bool exact = ws->exact[s->token];

    for (size_t l = 0; l < s->n; l++) {
        uint32_t latent = (uint32_t)(s->first + l);
        float *group = &best[group_of(sae, latent)];
        float least = exact ? s->c[l] : lower(s->c[l] - s->margin);
        float most = exact ? s->c[l] : upper(s->c[l] + s->margin);

        /* Of exact equals the first is taken. */
        if (exact ? most <= *group : most < *group)
            continue;
        *group = least > *group ? least : *group;
        if (!add_candidate(sae, ws, s->token, latent, least, most))
            return false;
    }
    return true;
}

/* relu and its kin: the pairs that may fire. */
static enum status add_firing(const struct sae *sae, struct sae_workspace *ws,
                              const struct scores *s, struct error *err)
{
    enum status st = STATUS_OK;
    size_t n_found;

    if (sae->threshold)
        n_found = ws->kernels->find_above_each(s->c, sae->threshold + s->first, upper(s->margin),
                                               s->n, ws->found);
    else
        n_found = ws->kernels->find_above(s->c, s->n, -upper(s->margin), ws->found);
    for (size_t i = 0; i < n_found && !st; i++)
        st = add_pair(ws, (uint32_t)(s->first + ws->found[i]), s->token, err);
    return st;
}

/* What a latent gives at its exact pre-activation; 0 if it does not fire. */
static float activate(const struct sae *sae, uint32_t latent, float a)
{
    if (sae->threshold && !(a > sae->threshold[latent]))
        return 0;
    if (sae->activation == ACTIVATION_GATED)
        a = sae->r_mag[latent] * a + sae->b_mag[latent];
    if (!(a > 0))
        return 0;
    return sae->activation == ACTIVATION_TANH_RELU ? tanhf(a) : a;
}

/* The pairs of a span, which come by token, become hits. */
static enum status settle_span(const struct sae *sae, struct sae_workspace *ws,
                               struct matrix_view x, size_t span, size_t n_latents,
                               struct error *err)
{
    size_t *end = ws->hits_end + span * ws->rows_max;
    enum status st = settle_pairs(sae, ws, x, span * ws->span, n_latents, err);
    size_t i = 0;

    if (st)
        return st;
    if (!reserve(&ws->hit_latents, &ws->hit_values, &ws->hits_capacity, ws->n_hits + ws->n_pairs))
        return error_nomem(err);
    for (size_t t = 0; t < ws->rows_max; t++) {
        for (; i < ws->n_pairs && ws->pairs[i].token == t; i++) {
            float z = activate(sae, ws->pairs[i].latent, ws->pairs[i].value);

            if (z > 0) {
                ws->hit_latents[ws->n_hits] = ws->pairs[i].latent;
                ws->hit_values[ws->n_hits++] = z;
            }
        }
        end[t] = ws->n_hits;
    }
    ws->n_pairs = 0;
    return STATUS_OK;
}

static enum status add_scores(const struct sae *sae, struct sae_workspace *ws,
                              const struct scores *s, struct error *err)
{
    bool fits;

    if (!sae->k)
        return add_firing(sae, ws, s, err);
    if (ws->overflowed[s->token])
        return STATUS_OK;
    fits = is_topk(sae->activation) ? add_topk(sae, ws, s) : add_groupmax(sae, ws, s);
    ws->overflowed[s->token] = !fits;
    return STATUS_OK;
}

/*
 * Go through all latents, span by span, for the tokens ws->which [n] of x. Those marked exact are
 * computed exactly, the others by the prefilter, which has packed all of x.
 */
static enum status scan(const struct sae *sae, struct sae_workspace *ws, struct matrix_view x,
                        size_t n, struct error *err)
{
    enum status st = STATUS_OK;
    size_t n_exact = 0;

    for (size_t i = 0; i < n; i++)
        n_exact += ws->exact[ws->which[i]];
    for (size_t span = 0; span < ws->n_spans && !st; span++) {
        size_t first = span * ws->span;
        size_t left = sae->d_sae - first;
        size_t n_latents = left < ws->span ? left : ws->span;
        const float *c = NULL;
        size_t stride = 0, at = 0;

        if (n_exact < n)
            c = prefilter_scores(sae->prefilter, ws->block, span, &stride);
        for (size_t i = 0; i < n; i++) {
            if (ws->exact[ws->which[i]])
                ws->rows[at++] = matrix_view_row(x, ws->which[i]);
        }
        score_exactly(sae, ws, at, first, n_latents);
        at = 0;
        for (size_t i = 0; i < n && !st; i++) {
            uint32_t t = ws->which[i];
            struct scores s = {.first = first, .n = n_latents, .token = t};

            if (ws->exact[t]) {
                s.c = ws->exact_scores.data + at++ * ws->exact_scores.stride;
            } else {
                s.c = c + t * stride;
                s.margin = prefilter_margin(sae->prefilter, ws->block, t, span);
            }
            st = add_scores(sae, ws, &s, err);
        }
        if (!st && !sae->k)
            st = settle_span(sae, ws, x, span, n_latents, err);
    }
    return st;
}

/* Encode -------------------------------------------------------------------------------------- */

static struct matrix_view prepare_tokens(const struct sae *sae, struct matrix_view x,
                                         struct sae_workspace *ws)
{
    if (sae->norm == SAE_NORM_NONE)
        return x;
    for (size_t t = 0; t < x.rows; t++)
        token_norm_apply(sae, matrix_view_row(x, t), ws->x.data + t * ws->x.stride);
    return matrix_view_rows(matrix_as_view(&ws->x), 0, x.rows);
}

/* No candidates yet. The cut-offs of 0 are the relu after selection. */
static void clear_token(const struct sae *sae, struct sae_workspace *ws, uint32_t t)
{
    if (!sae->k)
        return;
    ws->candidates[t].n = 0;
    set_prune_at(sae, &ws->candidates[t]);
    ws->cutoff[t] = 0;
    ws->overflowed[t] = 0;
    if (ws->best)
        memset(ws->best + t * sae->k, 0, sae->k * sizeof(*ws->best));
}

/* Which tokens the prefilter is for. */
static void start_block(const struct sae *sae, struct sae_workspace *ws, struct matrix_view x)
{
    bool prefilter = ws->block && x.rows >= PREFILTER_TOKENS_MIN;

    ws->n_pairs = ws->n_hits = 0;
    if (prefilter)
        prefilter_tokens(sae->prefilter, ws->block, x);
    for (uint32_t t = 0; t < x.rows; t++) {
        ws->which[t] = t;
        ws->exact[t] = !prefilter || !prefilter_holds(sae->prefilter, ws->block, t);
        clear_token(sae, ws, t);
    }
}

/* Tokens that the prefilter left with too many candidates. Returns how many are in ws->which. */
static size_t restart_overflowed(const struct sae *sae, struct sae_workspace *ws, size_t rows)
{
    size_t n = 0;

    for (uint32_t t = 0; t < rows; t++) {
        if (!ws->overflowed[t])
            continue;
        ws->which[n++] = t;
        ws->exact[t] = 1;
        clear_token(sae, ws, t);
    }
    return n;
}

/* The values of all candidates that are left, token by token. */
static enum status settle_candidates(const struct sae *sae, struct sae_workspace *ws,
                                     struct matrix_view x, struct error *err)
{
    enum status st = STATUS_OK;

    for (uint32_t t = 0; t < x.rows; t++) {
        prune(sae, ws, t);
        for (size_t i = 0; i < ws->candidates[t].n && !st; i++)
            st = add_pair(ws, ws->candidates[t].latent[i], t, err);
    }
    return st ? st : settle_pairs(sae, ws, x, 0, sae->d_sae, err);
}

/* The k largest of a token's pairs [n], ascending by latent, into the row. */
static size_t select_topk(const struct sae *sae, struct sae_workspace *ws, uint32_t t,
                          const struct pair *pairs, size_t n)
{
    bool both_signs = sae->activation == ACTIVATION_TOPK_SIGNED;
    struct candidates *candidates = &ws->candidates[t]; /* their room serves once more */
    size_t at = 0;

    candidates->n = 0;
    for (size_t i = 0; i < n; i++) {
        float size = both_signs ? fabsf(pairs[i].value) : pairs[i].value;

        if (!(size > 0))
            continue;
        candidates->least[candidates->n] = candidates->most[candidates->n] = size;
        candidates->latent[candidates->n++] = pairs[i].latent;
    }
    candidates_keep_largest(candidates, ws->kernels, sae->k);
    for (size_t i = 0; i < candidates->n; i++) {
        while (pairs[at].latent != candidates->latent[i])
            at++;
        ws->row_latents[i] = pairs[at].latent;
        ws->row_values[i] = pairs[at].value;
    }
    return candidates->n;
}

/* The largest of each group, the first of equals. */
static size_t select_groupmax(const struct sae *sae, struct sae_workspace *ws,
                              const struct pair *pairs, size_t n)
{
    size_t kept = 0, group = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        if (!(pairs[i].value > 0))
            continue;
        if (group_of(sae, pairs[i].latent) != group)
            kept++;
        else if (pairs[i].value <= ws->row_values[kept - 1])
            continue;
        group = group_of(sae, pairs[i].latent);
        ws->row_latents[kept - 1] = pairs[i].latent;
        ws->row_values[kept - 1] = pairs[i].value;
    }
    return kept;
}

static size_t row_hits(const struct sae_workspace *ws, size_t row, uint32_t *latents, float *values)
{
    size_t n = 0;

    for (size_t p = 0; p < ws->n_spans; p++) {
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

static enum status append_row(struct sae_workspace *ws, size_t n, struct csr *codes,
                              struct error *err)
{
    const struct sparse_row row = {.indices = ws->row_latents, .values = ws->row_values, .n = n};

    return csr_append(codes, row, err);
}

/* Codes from settled pairs, which come by token. */
static enum status append_selected(const struct sae *sae, struct sae_workspace *ws, size_t rows,
                                   struct csr *codes, struct error *err)
{
    enum status st = STATUS_OK;
    size_t begin = 0;

    if (!reserve(&ws->row_latents, &ws->row_values, &ws->row_capacity, sae->k))
        return error_nomem(err);
    for (uint32_t t = 0; t < rows && !st; t++) {
        size_t end = begin;
        size_t n;

        while (end < ws->n_pairs && ws->pairs[end].token == t)
            end++;
        n = is_topk(sae->activation) ? select_topk(sae, ws, t, ws->pairs + begin, end - begin)
                                     : select_groupmax(sae, ws, ws->pairs + begin, end - begin);
        st = append_row(ws, n, codes, err);
        begin = end;
    }
    return st;
}

static enum status append_hits(struct sae_workspace *ws, size_t rows, struct csr *codes,
                               struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t t = 0; t < rows && !st; t++) {
        size_t n = row_hits(ws, t, NULL, NULL);

        if (!reserve(&ws->row_latents, &ws->row_values, &ws->row_capacity, n))
            return error_nomem(err);
        row_hits(ws, t, ws->row_latents, ws->row_values);
        st = append_row(ws, n, codes, err);
    }
    return st;
}

static enum status encode_block(const struct sae *sae, struct matrix_view x,
                                struct sae_workspace *ws, struct csr *codes, struct error *err)
{
    size_t n_again;
    enum status st;

    start_block(sae, ws, x);
    st = scan(sae, ws, x, x.rows, err);
    if (st)
        return st;
    if (!sae->k)
        return append_hits(ws, x.rows, codes, err);
    n_again = restart_overflowed(sae, ws, x.rows);
    if (n_again)
        st = scan(sae, ws, x, n_again, err);
    if (!st)
        st = settle_candidates(sae, ws, x, err);
    return st ? st : append_selected(sae, ws, x.rows, codes, err);
}

enum status sae_encode(const struct sae *sae, struct matrix_view x, struct sae_workspace *ws,
                       struct csr *codes, struct error *err)
{
    enum status st;

    assert(x.cols == sae->d_in && x.rows <= ws->rows_max);
    csr_clear(codes, sae->d_sae);
    st = encode_block(sae, prepare_tokens(sae, x, ws), ws, codes, err);
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
        struct token_norm norm = token_norm_measure(sae, token);
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
