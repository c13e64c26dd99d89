#include "sae/exact.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

/* Rows of weights that are to stay in the second-level cache. */
#define TILE_BYTES ((size_t)1 << 20)
#define TILE_LATENTS_MIN 16

enum status exact_init(struct exact *exact, const struct sae *sae, const struct kernels *kernels,
                       size_t tokens_max, size_t span, struct error *err)
{
    size_t tile = TILE_BYTES / (sizeof(float) * (sae->d_in + 1));

    tile = tile < TILE_LATENTS_MIN ? TILE_LATENTS_MIN : tile;
    *exact = (struct exact){.kernels = kernels, .tile = tile};
    exact->starts = mem_alloc(sae->d_sae / tile + 3, sizeof(*exact->starts));
    exact->rows = mem_alloc(tile, sizeof(float *));
    exact->sums = mem_alloc(tile > tokens_max ? tile : tokens_max, sizeof(*exact->sums));
    if (!exact->starts || !exact->rows || !exact->sums)
        return error_nomem(err);
    return matrix_init(&exact->scores, tokens_max, span, err);
}

void exact_release(struct exact *exact)
{
    matrix_release(&exact->scores);
    mem_free(exact->pairs);
    mem_free(exact->order);
    mem_free(exact->starts);
    mem_free(exact->rows);
    mem_free(exact->sums);
    *exact = (struct exact){0};
}

static const float *latent_row(const struct sae *sae, size_t j)
{
    return sae->w_enc.data + j * sae->w_enc.stride;
}

/*
 * Tokens far out can leave the range of float32 on the way to a sum that would be in it, and
 * infinity less infinity is NaN, which exceeds nothing. What left it fires, so that who reads the
 * code sees that the token cannot be encoded, instead of missing a latent.
 */
static float pre_activation(float sum, float bias)
{
    float a = sum + bias;

    return isfinite(a) ? a : INFINITY;
}

void exact_score_span(struct exact *exact, const struct sae *sae, const float *const *tokens,
                      size_t n, size_t first, size_t n_latents)
{
    for (size_t l = 0; l < n_latents; l++) {
        exact->kernels->dots(latent_row(sae, first + l), tokens, n, sae->d_in, exact->sums);
        for (size_t i = 0; i < n; i++)
            exact->scores.data[i * exact->scores.stride + l] =
                pre_activation(exact->sums[i], sae->b_enc[first + l]);
    }
}

/* Pairs -------------------------------------------------------------------------------------- */

enum status exact_add_pair(struct exact *exact, uint32_t latent, uint32_t token, struct error *err)
{
    void *p = exact->pairs;
    bool ok = mem_grow(&p, &exact->pairs_capacity, exact->n_pairs + 1, sizeof(*exact->pairs));

    exact->pairs = p;
    if (!ok)
        return error_nomem(err);
    exact->pairs[exact->n_pairs++] = (struct exact_pair){.latent = latent, .token = token};
    return STATUS_OK;
}

/* exact->order: the pairs by tile of latents. Counting sort, so that they stay in order
 * otherwise. */
static enum status sort_pairs(struct exact *exact, size_t first, size_t n_latents,
                              struct error *err)
{
    void *p = exact->order;
    bool ok = mem_grow(&p, &exact->order_capacity, exact->n_pairs, sizeof(*exact->order));
    size_t n_tiles = (n_latents + exact->tile - 1) / exact->tile;
    uint32_t *starts = exact->starts;

    exact->order = p;
    if (!ok)
        return error_nomem(err);
    memset(starts, 0, (n_tiles + 1) * sizeof(*starts));
    for (size_t i = 0; i < exact->n_pairs; i++)
        starts[(exact->pairs[i].latent - first) / exact->tile + 1]++;
    for (size_t l = 0; l < n_tiles; l++)
        starts[l + 1] += starts[l];
    for (size_t i = 0; i < exact->n_pairs; i++)
        exact->order[starts[(exact->pairs[i].latent - first) / exact->tile]++] = (uint32_t)i;
    return STATUS_OK;
}

/* Asks for the weights of the next tile, a share with every pair of this one. */
struct prefetch {
    const char *at, *end;
    size_t share; /* bytes */
};

static struct prefetch prefetch_tile(const struct exact *exact, const struct sae *sae,
                                     size_t latent, size_t n_pairs)
{
    size_t last = latent + exact->tile < sae->d_sae ? latent + exact->tile : sae->d_sae;

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

/* Pairs order[begin, end) of one tile, token by token. */
static void settle_tile(struct exact *exact, const struct sae *sae, struct matrix_view x,
                        size_t begin, size_t end, struct prefetch *next)
{
    while (begin < end) {
        uint32_t token = exact->pairs[exact->order[begin]].token;
        size_t n = 0;

        for (; begin + n < end; n++) {
            const struct exact_pair *pair = &exact->pairs[exact->order[begin + n]];

            if (pair->token != token)
                break;
            exact->rows[n] = latent_row(sae, pair->latent);
        }
        prefetch_share(next, n);
        exact->kernels->dots(matrix_view_row(x, token), exact->rows, n, sae->d_in, exact->sums);
        for (size_t m = 0; m < n; m++, begin++) {
            struct exact_pair *pair = &exact->pairs[exact->order[begin]];

            pair->value = pre_activation(exact->sums[m], sae->b_enc[pair->latent]);
        }
    }
}

/* Tile by tile: its rows of weights stay in the second-level cache while the tokens go by. */
enum status exact_settle_pairs(struct exact *exact, const struct sae *sae, struct matrix_view x,
                               size_t first, size_t n_latents, struct error *err)
{
    enum status st = sort_pairs(exact, first, n_latents, err);
    size_t begin = 0;

    for (size_t tile = 0; begin < exact->n_pairs && !st; tile++) {
        size_t end = exact->starts[tile]; /* where sorting has left it */
        struct prefetch next =
            prefetch_tile(exact, sae, first + (tile + 1) * exact->tile, end - begin + 1);

        settle_tile(exact, sae, x, begin, end, &next);
        begin = end;
    }
    return st;
}
