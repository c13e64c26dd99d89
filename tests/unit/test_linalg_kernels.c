#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/cpu.h"
#include "linalg/kernels.h"
#include "tests/support/cmocka_headers.h"

enum {
    N_MAX = 300,
    SHIFT_MAX = 3 /* floats by which pointers miss their natural alignment */
};

static const char *const levels[] = {"scalar",     "neon",       "avx2", "avx512",
                                     "avx512vnni", "avx512bf16", "amx"};
enum {
    N_LEVELS = sizeof(levels) / sizeof(levels[0])
};

/* The variants this CPU can run; the others are named. */
static size_t variants(struct kernels out[N_LEVELS])
{
    unsigned flags = cpu_detect();
    size_t n = 0;

    for (size_t i = 0; i < N_LEVELS; i++) {
        unsigned wanted = cpu_flags_up_to(levels[i]);

        if ((flags & wanted) == wanted)
            kernels_init(&out[n++], wanted);
        else
            print_message("skipped: this CPU has no %s\n", levels[i]);
    }
    return n;
}

/* Ordinary numbers with all sorts of extremes among them. */
static void fill(struct rng *rng, float *x, size_t n)
{
    const float extremes[] = {NAN,      -NAN,   INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, FLT_MIN,
                              -FLT_MIN, 1e-45f, -1e-45f,  0.0f,      -0.0f,   0.5f,     0.5f};

    for (size_t i = 0; i < n; i++) {
        if (rng_below(rng, 8) == 0)
            x[i] = extremes[rng_below(rng, sizeof(extremes) / sizeof(extremes[0]))];
        else
            x[i] = (float)(2 * rng_double(rng) - 1);
    }
}

static void fill_ordinary(struct rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(2 * rng_double(rng) - 1);
}

/* With thresholds `each`, `threshold` is the margin taken from them. */
static void check_found(const struct kernels *kernels, const float *x, const float *each,
                        float threshold, size_t n)
{
    /* Exactly n entries, so that a sanitizer sees a store beyond them. */
    uint32_t *found = mem_alloc(n, sizeof(*found));
    size_t expected = 0;
    size_t count;

    assert_non_null(found);
    count = each ? kernels->find_above_each(x, each, threshold, n, found)
                 : kernels->find_above(x, n, threshold, found);
    for (size_t i = 0; i < n; i++) {
        /* volatile: the difference is rounded to float */
        volatile float needed = each ? each[i] - threshold : threshold;

        if (!(x[i] > needed))
            continue;
        assert_true(expected < count);
        assert_int_equal(found[expected++], i);
    }
    assert_int_equal(count, expected);
    mem_free(found);
}

static void kernels_find_exactly_what_exceeds_the_threshold(void **state)
{
    const float thresholds[] = {0,    -0.0f, 0.5f,     -0.5f,     NAN,   FLT_MAX,
                                0.9f, -2,    INFINITY, -INFINITY, 1e-45f};
    struct kernels all[N_LEVELS];
    size_t n_all = variants(all);
    struct rng rng;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    for (size_t n = 0; n <= N_MAX; n += n < 70 ? 1 : 23) {
        size_t shift = n % (SHIFT_MAX + 1);
        float *x = mem_alloc(n + shift, sizeof(*x));
        float *each = mem_alloc(n + shift, sizeof(*each));

        assert_true(x && each);
        fill(&rng, x, n + shift);
        fill(&rng, each, n + shift);
        for (size_t v = 0; v < n_all; v++) {
            for (size_t t = 0; t < sizeof(thresholds) / sizeof(thresholds[0]); t++)
                check_found(&all[v], x + shift, NULL, thresholds[t], n);
            check_found(&all[v], x + shift, each + shift, 0, n);
            check_found(&all[v], x + shift, each + shift, 0.3f, n);
        }
        mem_free(x);
        mem_free(each);
    }
}

static void kernels_find_all_when_all_exceed(void **state)
{
    struct kernels all[N_LEVELS];
    size_t n_all = variants(all);
    float x[N_MAX];

    (void)state;
    for (size_t i = 0; i < N_MAX; i++)
        x[i] = 1;
    for (size_t v = 0; v < n_all; v++) {
        for (size_t n = 0; n <= N_MAX; n++)
            check_found(&all[v], x, NULL, 0, n);
    }
}

/* In every variant and at every length. */
static void kernels_axpy_is_a_fused_multiply_add(void **state)
{
    struct kernels all[N_LEVELS];
    size_t n_all = variants(all);
    struct rng rng;

    (void)state;
    rng_init(&rng, 2, "test", 0);
    for (size_t n = 0; n <= N_MAX; n += n < 70 ? 1 : 23) {
        for (size_t v = 0; v < n_all; v++) {
            size_t shift = n % (SHIFT_MAX + 1);
            float x[N_MAX + SHIFT_MAX], before[N_MAX + SHIFT_MAX + 1], y[N_MAX + SHIFT_MAX + 1];
            float a = (float)(2 * rng_double(&rng) - 1);

            fill_ordinary(&rng, x, n + shift);
            fill_ordinary(&rng, before, n + shift + 1);
            memcpy(y, before, (n + shift + 1) * sizeof(*y));
            all[v].axpy(a, x + shift, y + shift, n);
            for (size_t i = 0; i < n + shift + 1; i++) {
                bool outside = i < shift || i == n + shift;

                assert_true(y[i] == (outside ? before[i] : fmaf(a, x[i], before[i])));
            }
        }
    }
}

static void kernels_axpy_carries_what_is_not_finite(void **state)
{
    const float odd[] = {NAN, INFINITY, -INFINITY, FLT_MAX};
    struct kernels all[N_LEVELS];
    size_t n_all = variants(all);

    (void)state;
    for (size_t v = 0; v < n_all; v++) {
        for (size_t i = 0; i < 37; i++) {
            for (size_t k = 0; k < 4; k++) {
                float x[37] = {0}, y[37] = {0};

                x[i] = odd[k];
                all[v].axpy(2, x, y, 37);
                for (size_t j = 0; j < 37; j++) {
                    if (j != i)
                        assert_true(y[j] == 0);
                    else if (k == 0)
                        assert_true(isnan(y[j]));
                    else
                        assert_true(isinf(y[j]) && (y[j] > 0) == (odd[k] > 0));
                }
            }
        }
    }
}

static void kernels_count_exactly_what_is_at_least_a_number(void **state)
{
    const float numbers[] = {0, -0.0f, 0.5f, -0.5f, NAN, FLT_MAX, INFINITY, -INFINITY, 1e-45f};
    struct kernels all[N_LEVELS];
    size_t n_all = variants(all);
    struct rng rng;

    (void)state;
    rng_init(&rng, 3, "test", 0);
    for (size_t n = 0; n <= N_MAX; n += n < 70 ? 1 : 23) {
        size_t shift = n % (SHIFT_MAX + 1);
        float *x = mem_alloc(n + shift, sizeof(*x));

        assert_non_null(x);
        fill(&rng, x, n + shift);
        for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
            size_t expected = 0;

            for (size_t i = shift; i < n + shift; i++)
                expected += x[i] >= numbers[k];
            for (size_t v = 0; v < n_all; v++)
                assert_int_equal(all[v].count_at_least(x + shift, n, numbers[k]), expected);
        }
        mem_free(x);
    }
}

static void kernels_sparse_panel_has_the_same_bits_everywhere(void **state)
{
    enum {
        D = 200
    };
    struct kernels all[N_LEVELS];
    size_t n_all = variants(all);
    float *panel = mem_alloc_aligned(D * KERNELS_PANEL, sizeof(*panel));
    struct rng rng;

    (void)state;
    assert_non_null(panel);
    rng_init(&rng, 4, "test", 0);
    fill_ordinary(&rng, panel, D * KERNELS_PANEL);
    for (size_t n = 0; n < 80; n++) {
        uint32_t indices[81];
        float values[81], expected[KERNELS_PANEL], out[KERNELS_PANEL + 2];

        for (size_t e = 0; e < n; e++) {
            indices[1 + e] = (uint32_t)rng_below(&rng, D);
            values[1 + e] = (float)(rng_double(&rng) * 10 - 5);
        }
        for (size_t j = 0; j < KERNELS_PANEL; j++) {
            /* volatile: each operation is rounded to float, whatever the compiler thinks */
            volatile float sum = 0;

            for (size_t e = 0; e < n; e++) {
                volatile float product = values[1 + e] * panel[indices[1 + e] * KERNELS_PANEL + j];

                sum = sum + product;
            }
            expected[j] = sum;
        }
        for (size_t v = 0; v < n_all; v++) {
            out[0] = out[KERNELS_PANEL + 1] = 7;
            all[v].sparse_panel(indices + 1, values + 1, n, panel, out + 1);
            assert_memory_equal(out + 1, expected, sizeof(expected));
            assert_true(out[0] == 7 && out[KERNELS_PANEL + 1] == 7);
        }
    }
    mem_free(panel);
}

static void kernels_dots_have_the_same_bits_everywhere(void **state)
{
    enum {
        ROWS = 7
    };
    struct kernels all[N_LEVELS];
    size_t n_all = variants(all);
    struct rng rng;

    (void)state;
    rng_init(&rng, 5, "test", 0);
    for (size_t d = 0; d <= N_MAX; d += d < 70 ? 1 : 23) {
        size_t shift = d % (SHIFT_MAX + 1);
        float *w = mem_alloc(d + shift, sizeof(*w));
        float *x[ROWS];
        const float *rows[ROWS];
        float expected[ROWS], out[ROWS + 1];

        assert_non_null(w);
        fill_ordinary(&rng, w, d + shift);
        for (size_t i = 0; i < ROWS; i++) {
            x[i] = mem_alloc(d + shift, sizeof(float));
            assert_non_null(x[i]);
            fill_ordinary(&rng, x[i], d + shift);
            rows[i] = x[i] + shift;
        }
        all[0].dots(w + shift, rows, ROWS, d, expected);
        for (size_t i = 0; i < ROWS; i++) {
            double sum = 0, terms = 0;

            for (size_t p = shift; p < d + shift; p++) {
                sum += (double)w[p] * (double)x[i][p];
                terms += fabs((double)w[p] * (double)x[i][p]);
            }
            assert_true(fabs(sum - (double)expected[i]) <=
                        ((double)(d / 64) + 7.01) * 0x1p-24 * terms);
        }
        for (size_t v = 0; v < n_all; v++) {
            for (size_t n = 0; n <= ROWS; n++) {
                out[n] = 7;
                all[v].dots(w + shift, rows, n, d, out);
                assert_memory_equal(out, expected, n * sizeof(*out));
                assert_true(out[n] == 7);
            }
        }
        for (size_t i = 0; i < ROWS; i++)
            mem_free(x[i]);
        mem_free(w);
    }
}

static void kernels_interleave_puts_every_word_in_its_place(void **state)
{
    const size_t widths[] = {6, 12, 16, 32};
    struct kernels all[N_LEVELS];
    size_t n_all = variants(all);

    (void)state;
    for (size_t v = 0; v < n_all; v++) {
        for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++) {
            for (size_t words = 0; words < 40; words++) {
                size_t width = widths[w], n_rows = words * 7 % (width + 1), stride = words + 3;
                uint32_t *rows = mem_alloc(n_rows * stride, sizeof(*rows));
                uint32_t *out = mem_alloc(words * width, sizeof(*out));

                assert_true(rows && out);
                for (size_t i = 0; i < n_rows * stride; i++)
                    rows[i] = (uint32_t)i * 2654435761u + 1;
                all[v].interleave(rows, stride, n_rows, words, width, out);
                for (size_t p = 0; p < words; p++) {
                    for (size_t r = 0; r < width; r++)
                        assert_int_equal(out[p * width + r], r < n_rows ? rows[r * stride + p] : 0);
                }
                mem_free(rows);
                mem_free(out);
            }
        }
    }
}

static void kernels_init_keeps_to_the_flags_it_is_given(void **state)
{
    struct kernels kernels;
    unsigned flags = cpu_detect();

    (void)state;
    kernels_init(&kernels, 0);
    assert_string_equal(kernels.name, "scalar");
    kernels_init(&kernels, flags);
    assert_int_equal(kernels.cpu_flags, flags);
    if (flags & CPU_AVX512)
        assert_string_equal(kernels.name, "avx512");
    if (flags & CPU_NEON)
        assert_string_equal(kernels.name, "neon");
    print_message("this CPU: %s\n", cpu_level_name(flags));
}

static void cpu_levels_include_the_lower_ones(void **state)
{
    (void)state;
    assert_int_equal(cpu_flags_up_to("scalar"), 0);
    assert_int_equal(cpu_flags_up_to("avx2"), CPU_AVX2);
    assert_int_equal(cpu_flags_up_to("avx512"), CPU_AVX2 | CPU_AVX512);
    assert_int_equal(cpu_flags_up_to("sse9"), ~0u);
    for (size_t i = 0; i < N_LEVELS; i++)
        assert_string_equal(cpu_level_name(cpu_flags_up_to(levels[i])), levels[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_find_exactly_what_exceeds_the_threshold),
        cmocka_unit_test(kernels_find_all_when_all_exceed),
        cmocka_unit_test(kernels_axpy_is_a_fused_multiply_add),
        cmocka_unit_test(kernels_axpy_carries_what_is_not_finite),
        cmocka_unit_test(kernels_count_exactly_what_is_at_least_a_number),
        cmocka_unit_test(kernels_sparse_panel_has_the_same_bits_everywhere),
        cmocka_unit_test(kernels_dots_have_the_same_bits_everywhere),
        cmocka_unit_test(kernels_interleave_puts_every_word_in_its_place),
        cmocka_unit_test(kernels_init_keeps_to_the_flags_it_is_given),
        cmocka_unit_test(cpu_levels_include_the_lower_ones),
    };

    return cmocka_run_group_tests_name("linalg/kernels", tests, NULL, NULL);
}
