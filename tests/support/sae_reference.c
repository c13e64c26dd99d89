#include "tests/support/sae_reference.h"

#include <math.h>
#include <stdlib.h>

#include "tests/support/cmocka_headers.h"

/* x = shift + scale * normalised; `divisor` is scale, or that plus eps. */
static void token_norm(const struct sae *sae, const float *x, double *shift, double *scale,
                       double *divisor)
{
    double mean = 0, squares = 0;
    size_t d = sae->d_in;

    *shift = 0;
    *scale = *divisor = 1;
    if (sae->norm == SAE_NORM_NONE)
        return;
    for (size_t i = 0; i < d && sae->norm == SAE_NORM_LAYER; i++)
        mean += (double)x[i] / (double)d;
    for (size_t i = 0; i < d; i++)
        squares += pow((double)x[i] - mean, 2);
    *shift = mean;
    if (sae->norm == SAE_NORM_LAYER) {
        *scale = sqrt(squares / (double)(d - 1));
        *divisor = *scale + 1e-5;
    } else {
        *scale = sqrt(squares / (double)d);
        *divisor = squares > 0 ? *scale : 1;
    }
}

/* Zero all but the k largest |a|, the lower latent winning ties. */
static void keep_top(double *a, size_t n, size_t k)
{
    unsigned char *keep = calloc(n, 1);

    assert_non_null(keep);
    for (size_t taken = 0; taken < k; taken++) {
        size_t best = n;

        for (size_t j = 0; j < n; j++)
            if (!keep[j] && (best == n || fabs(a[j]) > fabs(a[best])))
                best = j;
        keep[best] = 1;
    }
    for (size_t j = 0; j < n; j++)
        if (!keep[j])
            a[j] = 0;
    free(keep);
}

static void keep_best_of_groups(double *a, size_t n, size_t groups)
{
    size_t size = n / groups;

    for (size_t g = 0; g < groups; g++)
        keep_top(a + g * size, size, 1);
}

void sae_reference_encode(const struct sae *sae, const float *x, double *z)
{
    double shift, scale, divisor;

    token_norm(sae, x, &shift, &scale, &divisor);
    for (size_t j = 0; j < sae->d_sae; j++) {
        double a = (double)sae->b_enc[j];

        for (size_t i = 0; i < sae->d_in; i++)
            a += ((double)x[i] - shift) / divisor *
                 (double)sae->w_enc.data[j * sae->w_enc.stride + i];
        z[j] = a;
        if (sae->activation == ACTIVATION_GATED)
            z[j] = fmax((double)sae->r_mag[j] * a + (double)sae->b_mag[j], 0);
        else if (sae->activation == ACTIVATION_TANH_RELU)
            z[j] = tanh(fmax(a, 0));
        else if (sae->activation != ACTIVATION_TOPK_SIGNED)
            z[j] = fmax(a, 0);
        if (sae->threshold && !(a > (double)sae->threshold[j]))
            z[j] = 0;
    }
    if (sae->activation == ACTIVATION_TOPK || sae->activation == ACTIVATION_TOPK_SIGNED)
        keep_top(z, sae->d_sae, sae->k);
    if (sae->activation == ACTIVATION_GROUPMAX)
        keep_best_of_groups(z, sae->d_sae, sae->k);
}

void sae_reference_decode(const struct sae *sae, const float *x, const double *z, double *x_hat)
{
    double shift, scale, divisor;

    token_norm(sae, x, &shift, &scale, &divisor);
    for (size_t i = 0; i < sae->d_out; i++) {
        double y = (double)sae->b_dec[i];

        for (size_t j = 0; j < sae->d_sae; j++)
            y += z[j] * (double)sae->w_dec.data[j * sae->w_dec.stride + i];
        x_hat[i] = shift + scale * y;
    }
}
