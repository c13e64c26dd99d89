#include "sae/candidate.h"

#include <string.h>

static float from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

float candidate_kth_largest(const struct kernels *kernels, const float *x, size_t n, size_t k)
{
    uint32_t found = 0;

    for (uint32_t bit = (uint32_t)1 << 30; bit; bit >>= 1) {
        if (kernels->count_at_least(x, n, from_bits(found | bit)) >= k)
            found |= bit;
    }
    return from_bits(found);
}

/* Store first, count after: no branch to mispredict. */
void candidates_keep(struct candidates *c, float cutoff)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n; i++) {
        float most = c->most[i];

        c->least[n] = c->least[i];
        c->most[n] = most;
        c->latent[n] = c->latent[i];
        n += most >= cutoff;
    }
    c->n = n;
}

void candidates_keep_largest(struct candidates *c, const struct kernels *kernels, size_t k)
{
    size_t n_above = 0, n_equal, n = 0;
    float kth;

    if (c->n <= k)
        return;
    kth = candidate_kth_largest(kernels, c->most, c->n, k);
    for (size_t i = 0; i < c->n; i++)
        n_above += c->most[i] > kth;
    n_equal = k - n_above;
    for (size_t i = 0; i < c->n; i++) {
        if (c->most[i] < kth || (c->most[i] == kth && n_equal == 0))
            continue;
        n_equal -= c->most[i] == kth;
        c->least[n] = c->least[i];
        c->most[n] = c->most[i];
        c->latent[n++] = c->latent[i];
    }
    c->n = n;
}
