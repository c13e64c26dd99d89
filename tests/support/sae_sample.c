#include "tests/support/sae_sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/safetensors.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static void fill_weights(struct rng *rng, float *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        w[i] = ((float)rng_below(rng, 17) - 8) / 8;
}

void sae_sample_init(struct sae *sae, size_t d_in, size_t d_sae, enum activation activation,
                     uint32_t k, uint64_t seed)
{
    struct rng rng;

    rng_init(&rng, seed, "sae_sample", 0);
    *sae = (struct sae){.d_in = d_in,
                        .d_sae = d_sae,
                        .d_out = d_in,
                        .activation = activation,
                        .k = k,
                        .reconstructs = true,
                        .declared_l0 = k ? k : (double)NAN};
    assert_int_equal(matrix_init(&sae->w_enc, d_sae, d_in, NULL), STATUS_OK);
    assert_int_equal(matrix_init(&sae->w_dec, d_sae, d_in, NULL), STATUS_OK);
    sae->b_enc = mem_alloc(d_sae, sizeof(float));
    sae->b_dec = mem_alloc(d_in, sizeof(float));
    sae->path = mem_strdup("sample.safetensors");
    sae->scheme = mem_strdup("sample");
    sae->formula = mem_strdup("x, made up");
    sae->dtype = mem_strdup("F32");
    assert_true(sae->b_enc && sae->b_dec && sae->path && sae->scheme && sae->formula && sae->dtype);
    fill_weights(&rng, sae->w_enc.data, d_in * d_sae);
    fill_weights(&rng, sae->w_dec.data, d_in * d_sae);
    fill_weights(&rng, sae->b_enc, d_sae);
    fill_weights(&rng, sae->b_dec, d_in);
}

void sae_sample_encode(const struct sae *sae, const float *x, double *z)
{
    double *a = calloc(sae->d_sae, sizeof(*a));

    assert_non_null(a);
    for (size_t j = 0; j < sae->d_sae; j++) {
        a[j] = (double)sae->b_enc[j];
        for (size_t i = 0; i < sae->d_in; i++)
            a[j] += (double)x[i] * (double)sae->w_enc.data[j * sae->w_enc.stride + i];
        z[j] = 0;
    }
    if (sae->activation == ACTIVATION_RELU) {
        for (size_t j = 0; j < sae->d_sae; j++)
            z[j] = a[j] > 0 ? a[j] : 0;
    } else {
        for (uint32_t kept = 0; kept < sae->k; kept++) {
            double best = 0;
            size_t at = 0;

            for (size_t j = 0; j < sae->d_sae; j++) {
                double size = sae->activation == ACTIVATION_TOPK ? a[j] : fabs(a[j]);

                if (size > best) { /* a tie goes to the lower latent */
                    best = size;
                    at = j;
                }
            }
            if (best > 0) {
                z[at] = a[at];
                a[at] = 0;
            }
        }
    }
    free(a);
}

double sae_sample_squared_error(const struct sae *sae, const float *x, const double *z)
{
    double sum = 0;

    for (size_t i = 0; i < sae->d_in; i++) {
        double x_hat = (double)sae->b_dec[i];

        for (size_t j = 0; j < sae->d_sae; j++)
            x_hat += z[j] * (double)sae->w_dec.data[j * sae->w_dec.stride + i];
        sum += ((double)x[i] - x_hat) * ((double)x[i] - x_hat);
    }
    return sum;
}

void activations_sample_fill(struct rng *rng, float *x, size_t n_tokens, size_t d_in)
{
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t i = 0; i < d_in; i++)
            x[t * d_in + i] = (float)rng_below(rng, 7) - 3;
        x[t * d_in + (size_t)rng_below(rng, d_in)] = 1;
    }
}

/* Exact for what float16 and bfloat16 hold; infinities and NaN included. */
static uint16_t to_half(float x)
{
    uint32_t bits, exponent;

    memcpy(&bits, &x, sizeof(bits));
    exponent = bits >> 23 & 0xff;
    if (exponent == 0)
        return (uint16_t)(bits >> 16 & 0x8000);
    if (exponent == 0xff)
        return (uint16_t)((bits >> 16 & 0x8000) | 0x7c00 | (bits & 0x7fffff ? 0x200 : 0));
    assert_true(exponent > 112 && exponent < 143 && (bits & 0x1fff) == 0);
    return (uint16_t)((bits >> 16 & 0x8000) | (exponent - 112) << 10 | (bits >> 13 & 0x3ff));
}

static uint16_t to_bfloat(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    assert_true((bits & 0xffff) == 0);
    return (uint16_t)(bits >> 16);
}

uint16_t activations_sample_narrow(enum dtype dtype, float x)
{
    return dtype == DTYPE_F16 ? to_half(x) : to_bfloat(x);
}

const char *activations_sample_write(const char *name, const struct activations_sample *sample)
{
    size_t n = sample->n_tokens * sample->d_in;
    uint16_t *narrow = calloc(n + 1, sizeof(*narrow));
    const char *path = scratch_path(name);
    struct safetensors_item items[3];
    struct safetensors_metadata metadata[2];
    size_t n_items = 0, n_metadata = 0;

    assert_non_null(narrow);
    for (size_t i = 0; sample->dtype != DTYPE_F32 && i < n; i++)
        narrow[i] = activations_sample_narrow(sample->dtype, sample->x[i]);
    items[n_items++] = (struct safetensors_item){
        .name = "activations",
        .dtype = sample->dtype,
        .shape = {.rank = 2, .dims = {sample->n_tokens, sample->d_in}},
        .data = sample->dtype == DTYPE_F32 ? (const void *)sample->x : narrow};
    if (sample->offsets)
        items[n_items++] =
            (struct safetensors_item){.name = "offsets",
                                      .dtype = DTYPE_I64,
                                      .shape = {.rank = 1, .dims = {sample->n_samples + 1}},
                                      .data = sample->offsets};
    if (sample->keep)
        items[n_items++] =
            (struct safetensors_item){.name = "keep",
                                      .dtype = DTYPE_U8,
                                      .shape = {.rank = 1, .dims = {sample->n_tokens}},
                                      .data = sample->keep};
    if (sample->model)
        metadata[n_metadata++] =
            (struct safetensors_metadata){(char *)"model", (char *)sample->model};
    if (sample->hook)
        metadata[n_metadata++] =
            (struct safetensors_metadata){(char *)"hook", (char *)sample->hook};
    assert_int_equal(safetensors_write(path, items, n_items, metadata, n_metadata, NULL),
                     STATUS_OK);
    free(narrow);
    return path;
}
