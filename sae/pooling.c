#include "sae/pooling.h"

#include <assert.h>
#include <float.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

const char *const pooling_names[] = {
    [POOLING_MAX] = "max",     [POOLING_MEAN] = "mean", [POOLING_SUM] = "sum",
    [POOLING_COUNT] = "count", [POOLING_LAST] = "last", [POOLING_BINARY] = "binary",
    [POOLING_COUNT_OF] = NULL,
};

enum {
    WORD_BITS = 64
};

/* What the tokens seen so far say of one latent; meaningful only while its bit in `touched` is set,
 * so that starting a sample costs nothing a latent. */
struct latent {
    double sum;
    float max; /* over the tokens where it fired */
    float last;
    uint32_t count;
    uint32_t last_token; /* the value of `tokens` when it fired last */
};

struct pool {
    size_t d_sae;
    uint32_t tokens;        /* of the current sample */
    struct latent *latents; /* [d_sae] */
    uint64_t *touched;      /* one bit a latent; read in order they ascend without a sort */
    size_t n_touched;
    uint32_t *indices; /* the finished row, growing with the largest sample */
    float *values;
    size_t indices_capacity, values_capacity;
};

static size_t words(size_t d_sae)
{
    return (d_sae + WORD_BITS - 1) / WORD_BITS;
}

enum status pool_new(struct pool **pool, size_t d_sae, struct error *err)
{
    struct pool *p = mem_zalloc(1, sizeof(*p));

    *pool = NULL;
    if (!p)
        return error_nomem(err);
    p->d_sae = d_sae;
    p->latents = mem_alloc(d_sae, sizeof(*p->latents));
    p->touched = mem_zalloc(words(d_sae), sizeof(*p->touched));
    if (!p->latents || !p->touched) {
        pool_free(p);
        return error_nomem(err);
    }
    *pool = p;
    return STATUS_OK;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    mem_free(pool->latents);
    mem_free(pool->touched);
    mem_free(pool->indices);
    mem_free(pool->values);
    mem_free(pool);
}

void pool_add(struct pool *pool, struct sparse_row code)
{
    assert(pool->tokens < UINT32_MAX);
    pool->tokens++;
    for (size_t e = 0; e < code.n; e++) {
        uint32_t j = code.indices[e];
        float value = code.values[e];
        uint64_t bit = UINT64_C(1) << (j % WORD_BITS);
        struct latent *latent;
        uint64_t *word;

        assert(j < pool->d_sae);
        if (value == 0)
            continue;
        latent = &pool->latents[j];
        word = &pool->touched[j / WORD_BITS];
        if (!(*word & bit)) {
            *word |= bit;
            pool->n_touched++;
            *latent = (struct latent){.max = value};
        }
        latent->sum += (double)value;
        if (value > latent->max)
            latent->max = value;
        latent->last = value;
        latent->count++;
        latent->last_token = pool->tokens;
    }
}

/* A stored value is finite, even where a sum leaves the range of float. */
static float to_float(double x)
{
    if (x > (double)FLT_MAX)
        return FLT_MAX;
    return x < -(double)FLT_MAX ? -FLT_MAX : (float)x;
}

static float pooled(const struct latent *latent, enum pooling pooling, uint32_t tokens)
{
    switch (pooling) {
    case POOLING_MAX:
        return latent->max < 0 && latent->count < tokens ? 0 : latent->max;
    case POOLING_MEAN:
        return to_float(latent->sum / tokens);
    case POOLING_SUM:
        return to_float(latent->sum);
    case POOLING_COUNT:
        return (float)latent->count;
    case POOLING_LAST:
        return latent->last_token == tokens ? latent->last : 0;
    case POOLING_BINARY:
        return 1;
    case POOLING_COUNT_OF:
        break;
    }
    return 0;
}

static bool grow(struct pool *pool)
{
    void *indices = pool->indices;
    void *values = pool->values;
    bool ok = mem_grow(&indices, &pool->indices_capacity, pool->n_touched, sizeof(uint32_t)) &&
              mem_grow(&values, &pool->values_capacity, pool->n_touched, sizeof(float));

    pool->indices = indices;
    pool->values = values;
    return ok;
}

enum status pool_finish(struct pool *pool, enum pooling pooling, struct csr *out, struct error *err)
{
    struct sparse_row row;
    enum status st;
    size_t n = 0;

    assert(pooling < POOLING_COUNT_OF);
    if (!grow(pool))
        return error_nomem(err);
    for (size_t w = 0; w < words(pool->d_sae) && pool->n_touched; w++) {
        for (uint64_t bits = pool->touched[w]; bits; bits &= bits - 1) {
            size_t j = w * WORD_BITS + (size_t)__builtin_ctzll(bits);
            float value = pooled(&pool->latents[j], pooling, pool->tokens);

            if (value == 0)
                continue;
            pool->indices[n] = (uint32_t)j;
            pool->values[n++] = value;
        }
    }
    row = (struct sparse_row){.indices = pool->indices, .values = pool->values, .n = n};
    st = csr_append(out, row, err);
    if (!st)
        pool_clear(pool);
    return st;
}

void pool_clear(struct pool *pool)
{
    if (pool->n_touched)
        memset(pool->touched, 0, words(pool->d_sae) * sizeof(*pool->touched));
    pool->n_touched = 0;
    pool->tokens = 0;
}
