#include "sae/token_norm.h"

#include <math.h>

#define LAYER_NORM_EPS 1e-5

struct token_norm token_norm_measure(const struct sae *sae, const float *x)
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

void token_norm_apply(const struct sae *sae, const float *x, float *out)
{
    struct token_norm norm = token_norm_measure(sae, x);
    double divisor = norm.scale;

    if (sae->norm == SAE_NORM_LAYER)
        divisor += LAYER_NORM_EPS;
    if (divisor == 0)
        divisor = 1; /* an all-zero token has no norm to bring to sqrt(d_in): it stays zero */
    for (size_t i = 0; i < sae->d_in; i++)
        out[i] = (float)(((double)x[i] - norm.shift) / divisor);
}
