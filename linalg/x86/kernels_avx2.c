/*
 * AVX2 and FMA: eight floats at a time. See linalg/kernels.h for what each kernel computes.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "linalg/kernels_internal.h"

/* The positions of the set bits of `mask`, from `base` on. Almost all masks are empty: codes are
 * sparse. */
static inline size_t list_bits(unsigned mask, size_t base, uint32_t *found, size_t count)
{
    while (mask) {
        found[count++] = (uint32_t)(base + (size_t)__builtin_ctz(mask));
        mask &= mask - 1;
    }
    return count;
}

static size_t find_above(const float *x, size_t n, float threshold, uint32_t *found)
{
    const __m256 t = _mm256_set1_ps(threshold);
    size_t count = 0;
    size_t i = 0;

    for (; n - i >= 32; i += 32) {
        __m256 a = _mm256_cmp_ps(_mm256_loadu_ps(x + i), t, _CMP_GT_OQ);
        __m256 b = _mm256_cmp_ps(_mm256_loadu_ps(x + i + 8), t, _CMP_GT_OQ);
        __m256 c = _mm256_cmp_ps(_mm256_loadu_ps(x + i + 16), t, _CMP_GT_OQ);
        __m256 d = _mm256_cmp_ps(_mm256_loadu_ps(x + i + 24), t, _CMP_GT_OQ);
        unsigned mask = (unsigned)_mm256_movemask_ps(a) | (unsigned)_mm256_movemask_ps(b) << 8 |
                        (unsigned)_mm256_movemask_ps(c) << 16 |
                        (unsigned)_mm256_movemask_ps(d) << 24;

        count = list_bits(mask, i, found, count);
    }
    for (; i < n; i++) {
        if (x[i] > threshold)
            found[count++] = (uint32_t)i;
    }
    return count;
}

static size_t find_above_each(const float *x, const float *thresholds, float margin, size_t n,
                              uint32_t *found)
{
    size_t count = 0;
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256 t = _mm256_sub_ps(_mm256_loadu_ps(thresholds + i), _mm256_set1_ps(margin));
        __m256 above = _mm256_cmp_ps(_mm256_loadu_ps(x + i), t, _CMP_GT_OQ);

        count = list_bits((unsigned)_mm256_movemask_ps(above), i, found, count);
    }
    for (; i < n; i++) {
        if (x[i] > thresholds[i] - margin)
            found[count++] = (uint32_t)i;
    }
    return count;
}

static void axpy(float a, const float *x, float *y, size_t n)
{
    const __m256 factor = _mm256_set1_ps(a);
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256 sum = _mm256_fmadd_ps(factor, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i));

        _mm256_storeu_ps(y + i, sum);
    }
    for (; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

static size_t count_at_least(const float *x, size_t n, float least)
{
    const __m256 t = _mm256_set1_ps(least);
    __m256i counts = _mm256_setzero_si256();
    uint32_t lanes[8];
    size_t count = 0;
    size_t i = 0;

    /* A comparison that holds gives -1. */
    for (; n - i >= 8; i += 8)
        counts = _mm256_sub_epi32(
            counts, _mm256_castps_si256(_mm256_cmp_ps(_mm256_loadu_ps(x + i), t, _CMP_GE_OQ)));
    _mm256_storeu_si256((__m256i *)lanes, counts);
    for (int l = 0; l < 8; l++)
        count += lanes[l];
    for (; i < n; i++)
        count += x[i] >= least;
    return count;
}

/* Eight registers hold the 64 lanes. */
static inline void dots_step(const float *w, const float *x, __m256 lanes[8])
{
#pragma GCC unroll 8
    for (size_t l = 0; l < 8; l++)
        lanes[l] =
            _mm256_fmadd_ps(_mm256_loadu_ps(w + 8 * l), _mm256_loadu_ps(x + 8 * l), lanes[l]);
}

static float dot_lanes(const float *w, const float *x, size_t d)
{
    __m256 lanes[8];
    float stored[8];
    size_t p = 0;

#pragma GCC unroll 8
    for (int l = 0; l < 8; l++)
        lanes[l] = _mm256_setzero_ps();
    for (; d - p >= DOTS_LANES; p += DOTS_LANES)
        dots_step(w + p, x + p, lanes);
    if (p < d) {
        float rest[2][DOTS_LANES] = {{0}};

        memcpy(rest[0], w + p, (d - p) * sizeof(float));
        memcpy(rest[1], x + p, (d - p) * sizeof(float));
        dots_step(rest[0], rest[1], lanes);
    }
    /* The first three steps of dots_reduce in registers. */
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++)
        lanes[l] = _mm256_add_ps(lanes[l], lanes[l + 4]);
    _mm256_storeu_ps(stored, _mm256_add_ps(_mm256_add_ps(lanes[0], lanes[2]),
                                           _mm256_add_ps(lanes[1], lanes[3])));
    return dots_reduce(stored, 8);
}

static void dots(const float *w, const float *const *x, size_t n, size_t d, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dot_lanes(w, x[i], d);
}

/* Eight rows of eight words: pairs, quads, then halves change places. */
static inline void transpose_8(__m256 rows[8])
{
    __m256 t[8];

#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        rows[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        rows[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        rows[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        rows[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(rows[i], rows[4 + i], 0x20);
        t[4 + i] = _mm256_permute2f128_ps(rows[i], rows[4 + i], 0x31);
    }
    memcpy(rows, t, sizeof(t));
}

static void interleave(const void *rows, size_t stride, size_t n_rows, size_t words, size_t width,
                       uint32_t *out)
{
    const uint32_t *from = rows;

    for (size_t r = 0; r < width; r += 8) {
        size_t p = 0;

        for (; r + 8 <= n_rows && words - p >= 8; p += 8) {
            __m256 block[8];

#pragma GCC unroll 8
            for (size_t i = 0; i < 8; i++)
                block[i] = _mm256_castsi256_ps(
                    _mm256_loadu_si256((const __m256i *)(from + (r + i) * stride + p)));
            transpose_8(block);
#pragma GCC unroll 8
            for (size_t i = 0; i < 8; i++)
                _mm256_storeu_si256((__m256i *)(out + (p + i) * width + r),
                                    _mm256_castps_si256(block[i]));
        }
        for (; p < words; p++) {
            for (size_t i = r; i < width && i < r + 8; i++)
                out[p * width + i] = i < n_rows ? from[i * stride + p] : 0;
        }
    }
}

/* Multiply, then add: an fma would round once less than the scalar reference, and clusters would
 * depend on the CPU. Eight columns an accumulator; an array of them would live in memory wherever
 * the compiler does not unroll. */
static void sparse_panel(const uint32_t *indices, const float *values, size_t n, const float *panel,
                         float *out)
{
    __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a, e = a, f = a, g = a, h = a;

    for (size_t i = 0; i < n; i++) {
        const float *row = panel + (size_t)indices[i] * KERNELS_PANEL;
        const __m256 value = _mm256_set1_ps(values[i]);

        a = _mm256_add_ps(a, _mm256_mul_ps(value, _mm256_load_ps(row)));
        b = _mm256_add_ps(b, _mm256_mul_ps(value, _mm256_load_ps(row + 8)));
        c = _mm256_add_ps(c, _mm256_mul_ps(value, _mm256_load_ps(row + 16)));
        d = _mm256_add_ps(d, _mm256_mul_ps(value, _mm256_load_ps(row + 24)));
        e = _mm256_add_ps(e, _mm256_mul_ps(value, _mm256_load_ps(row + 32)));
        f = _mm256_add_ps(f, _mm256_mul_ps(value, _mm256_load_ps(row + 40)));
        g = _mm256_add_ps(g, _mm256_mul_ps(value, _mm256_load_ps(row + 48)));
        h = _mm256_add_ps(h, _mm256_mul_ps(value, _mm256_load_ps(row + 56)));
    }
    _mm256_storeu_ps(out, a);
    _mm256_storeu_ps(out + 8, b);
    _mm256_storeu_ps(out + 16, c);
    _mm256_storeu_ps(out + 24, d);
    _mm256_storeu_ps(out + 32, e);
    _mm256_storeu_ps(out + 40, f);
    _mm256_storeu_ps(out + 48, g);
    _mm256_storeu_ps(out + 56, h);
}

void kernels_init_avx2(struct kernels *kernels)
{
    kernels->name = "avx2";
    kernels->find_above = find_above;
    kernels->find_above_each = find_above_each;
    kernels->count_at_least = count_at_least;
    kernels->axpy = axpy;
    kernels->dots = dots;
    kernels->interleave = interleave;
    kernels->sparse_panel = sparse_panel;
}
