#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/cpu.h"
#include "linalg/product.h"
#include "tests/support/cmocka_headers.h"

static double value_of(enum product_precision precision, enum product_side side,
                       const uint32_t *words, size_t p, float scale)
{
    float x;

    if (precision == PRODUCT_F32) {
        memcpy(&x, words + p, sizeof(x));
    } else if (precision == PRODUCT_BF16) {
        uint32_t bits = (uint32_t)((const uint16_t *)words)[p] << 16;

        memcpy(&x, &bits, sizeof(x));
    } else {
        unsigned char byte = ((const unsigned char *)words)[p];

        return (double)scale * (side == PRODUCT_TOKENS ? byte - 128 : (signed char)byte);
    }
    return (double)x;
}

/* The error that is reported is the error that was made, and no larger than the format explains. */
static void product_round_measures_what_it_does(void **state)
{
    const float relative[] = {0, 0x1p-8f, 0.5f / 127};
    const float scales[] = {1, 1e-30f, 1e30f, 1e-42f, FLT_MAX};
    struct kernels kernels;
    struct rng rng;

    (void)state;
    kernels_init(&kernels, cpu_detect());
    rng_init(&rng, 1, "test", 0);
    for (int precision = PRODUCT_F32; precision <= PRODUCT_INT8; precision++) {
        for (size_t d = 1; d < 200; d += d < 40 ? 1 : 37) {
            size_t words = product_words((enum product_precision)precision, d);
            uint32_t *row = mem_alloc(words, sizeof(*row));
            float scale = scales[rng_below(&rng, 5)];
            float x[200];
            double errors = 0, largest = 0, squares = 0;
            enum product_side side = d % 2 ? PRODUCT_TOKENS : PRODUCT_LATENT_ROWS;
            struct product_rounding rounding;
            int sum = 0;

            assert_non_null(row);
            assert_int_equal(words % 16, 0);
            for (size_t p = 0; p < d; p++) {
                x[p] = (float)(2 * rng_double(&rng) - 1) * scale;
                largest = fmax(largest, fabs((double)x[p]));
                squares += (double)x[p] * (double)x[p];
            }
            rounding = product_round((enum product_precision)precision, side, &kernels, x, d, row);
            for (size_t p = 0; p < d; p++) {
                double rounded =
                    value_of((enum product_precision)precision, side, row, p, rounding.scale);
                double error = fabs((double)x[p] - rounded);

                assert_true(isfinite(rounded));
                errors += error * error;
                if (scale >= 1e-30f)
                    assert_true(error <=
                                (double)relative[precision] * 1.001 *
                                    (precision == PRODUCT_INT8 ? largest : fabs((double)x[p])));
                if (precision == PRODUCT_INT8)
                    sum += side == PRODUCT_TOKENS ? ((unsigned char *)row)[p] - 128
                                                  : ((signed char *)row)[p];
            }
            assert_true(fabs(rounding.error - sqrt(errors)) <=
                        1e-6 * sqrt(errors) + 1e-12 * sqrt(squares));
            assert_true(fabs(rounding.norm - sqrt(squares)) <= 1e-12 * sqrt(squares));
            if (precision == PRODUCT_INT8)
                assert_int_equal(rounding.sum, sum);
            mem_free(row);
        }
    }
}

struct operands {
    size_t d, words, n_groups;
    uint32_t *x_rows, *w_rows; /* as rounded, before packing */
    struct product_rounding *x, w[PRODUCT_LATENTS];
    uint32_t *x_packed, *w_packed;
    float *x_scale;
    float bias[PRODUCT_LATENTS], scale[PRODUCT_LATENTS];
    int32_t start[PRODUCT_LATENTS];
};

static void operands_init(struct operands *o, const struct product *product, size_t d,
                          size_t n_groups, struct rng *rng)
{
    size_t n = n_groups * product->group;
    struct kernels kernels;
    float *row = mem_alloc(d, sizeof(*row));

    kernels_init(&kernels, cpu_detect());
    o->d = d;
    o->words = product_words(product->precision, d);
    o->n_groups = n_groups;
    o->x_rows = mem_alloc(n, o->words * sizeof(*o->x_rows));
    o->x = mem_alloc(n, sizeof(*o->x));
    o->x_scale = mem_alloc(n, sizeof(*o->x_scale));
    o->w_rows = mem_alloc(PRODUCT_LATENTS, o->words * sizeof(*o->w_rows));
    o->x_packed = mem_alloc_aligned(n, o->words * sizeof(*o->x_packed));
    o->w_packed = mem_alloc_aligned(PRODUCT_LATENTS, o->words * sizeof(*o->w_packed));
    assert_true(row && o->x_rows && o->x && o->x_scale && o->w_rows && o->x_packed && o->w_packed);
    for (size_t t = 0; t < n; t++) {
        for (size_t p = 0; p < d; p++)
            row[p] = (float)(8 * rng_double(rng) - 3);
        o->x[t] = product_round(product->precision, PRODUCT_TOKENS, &kernels, row, d,
                                o->x_rows + t * o->words);
        o->x_scale[t] = o->x[t].scale;
    }
    for (size_t l = 0; l < PRODUCT_LATENTS; l++) {
        for (size_t p = 0; p < d; p++)
            row[p] = (float)(2 * rng_double(rng) - 1);
        o->w[l] = product_round(product->precision, PRODUCT_LATENT_ROWS, &kernels, row, d,
                                o->w_rows + l * o->words);
        o->bias[l] = (float)rng_double(rng);
        o->scale[l] = o->w[l].scale;
        o->start[l] = -128 * o->w[l].sum;
    }
    for (size_t g = 0; g < n_groups; g++)
        product_pack_tokens(product, &kernels, o->x_rows + g * product->group * o->words,
                            product->group, o->words, o->x_packed + g * product->group * o->words);
    kernels.interleave(o->w_rows, o->words, PRODUCT_LATENTS, o->words, PRODUCT_LATENTS,
                       o->w_packed);
    mem_free(row);
}

static void operands_release(struct operands *o)
{
    mem_free(o->x_rows);
    mem_free(o->x);
    mem_free(o->x_scale);
    mem_free(o->w_rows);
    mem_free(o->x_packed);
    mem_free(o->w_packed);
}

/* Every variant against the sum of the rounded values, in long double. */
static void product_multiply_is_within_the_stated_tolerance(void **state)
{
    const size_t widths[] = {1, 2, 3, 15, 16, 31, 64, 65, 130, 768};
    const struct product *list[PRODUCTS_MAX];
    struct rng rng;

    (void)state;
    rng_init(&rng, 2, "test", 0);
    product_list(list, cpu_detect());
    for (size_t i = 0; list[i]; i++) {
        const struct product *product = list[i];

        print_message("%s\n", product->name);
        for (size_t s = 0; s < sizeof(widths) / sizeof(widths[0]); s++) {
            size_t n_groups = 1 + s % 3, stride = PRODUCT_LATENTS + 5;
            size_t n = n_groups * product->group;
            float *c = mem_alloc(n, stride * sizeof(*c));
            struct operands o;

            assert_non_null(c);
            operands_init(&o, product, widths[s], n_groups, &rng);
            for (size_t e = 0; e < n * stride; e++)
                c[e] = o.bias[e % stride % PRODUCT_LATENTS];
            product->multiply(o.x_packed, o.words * product->group, o.x_scale, n_groups,
                              &(struct product_panel){.w = o.w_packed,
                                                      .words = o.words,
                                                      .bias = o.bias,
                                                      .scale = o.scale,
                                                      .start = o.start},
                              c, stride);
            for (size_t t = 0; t < n; t++) {
                for (size_t l = 0; l < stride; l++) {
                    long double sum = (long double)o.bias[l % PRODUCT_LATENTS];
                    double terms = 1;

                    for (size_t p = 0; p < o.d && l < PRODUCT_LATENTS; p++) {
                        long double product_of_two =
                            (long double)value_of(product->precision, PRODUCT_TOKENS,
                                                  o.x_rows + t * o.words, p, o.x_scale[t]) *
                            (long double)value_of(product->precision, PRODUCT_LATENT_ROWS,
                                                  o.w_rows + l * o.words, p, o.scale[l]);

                        sum += product_of_two;
                        terms += fabs((double)product_of_two);
                    }
                    if (!(fabs((double)((long double)c[t * stride + l] - sum)) <=
                          ((double)o.d + 8) * 0x1p-24 * terms))
                        fail_msg("%s, d %zu, token %zu, latent %zu: %.9g, expected %.9Lg",
                                 product->name, o.d, t, l, (double)c[t * stride + l], sum);
                }
            }
            operands_release(&o);
            mem_free(c);
        }
    }
}

static void product_find_keeps_to_the_flags_it_is_given(void **state)
{
    unsigned flags = cpu_detect();

    (void)state;
    assert_null(product_find(0, PRODUCT_F32));
    if (flags & CPU_AVX2)
        assert_string_equal(product_find(CPU_AVX2, PRODUCT_F32)->name, "f32 avx2");
    if (flags & CPU_AVX512)
        assert_string_equal(product_find(CPU_AVX2 | CPU_AVX512, PRODUCT_F32)->name, "f32 avx512");
    if (flags & CPU_NEON)
        assert_string_equal(product_find(CPU_NEON, PRODUCT_F32)->name, "f32 neon");
    assert_null(product_find(CPU_AVX2 | CPU_AVX512, PRODUCT_BF16));
    assert_null(product_find(CPU_AVX2 | CPU_AVX512, PRODUCT_INT8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_round_measures_what_it_does),
        cmocka_unit_test(product_multiply_is_within_the_stated_tolerance),
        cmocka_unit_test(product_find_keeps_to_the_flags_it_is_given),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
