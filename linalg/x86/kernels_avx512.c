/*
 * AVX-512 F, BW, DQ, VL: sixteen floats at a time, the rest of an array under a mask. See
 * linalg/kernels.h for what each kernel computes.
 */
#include <immintrin.h>

#include "linalg/kernels_internal.h"

/* The first `n` < 16 lanes. */
static inline __mmask16 first_lanes(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

/*
 * Append i + lane for the lanes in `above`. All sixteen lanes are written, the found ones first:
 * a compressing store would touch no more than it must, but is slow on some CPUs. As count <= i and
 * i + 16 <= n, the store stays inside `found`.
 */
static inline size_t append_lanes(__mmask16 above, size_t i, uint32_t *found, size_t count)
{
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i positions = _mm512_add_epi32(_mm512_set1_epi32((int)i), lanes);

    if (!above)
        return count;
    _mm512_storeu_si512(found + count, _mm512_maskz_compress_epi32(above, positions));
    return count + (size_t)__builtin_popcount(above);
}

/* The same at the end of an array, where there is no room for more than what was found. */
static inline size_t append_last_lanes(unsigned above, size_t i, uint32_t *found, size_t count)
{
    for (; above; above &= above - 1)
        found[count++] = (uint32_t)(i + (size_t)__builtin_ctz(above));
    return count;
}

static size_t find_above(const float *x, size_t n, float threshold, uint32_t *found)
{
    const __m512 t = _mm512_set1_ps(threshold);
    size_t count = 0;
    size_t i = 0;

    for (; n - i >= 16; i += 16)
        count = append_lanes(_mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), t, _CMP_GT_OQ), i, found,
                             count);
    if (i < n) {
        __mmask16 rest = first_lanes(n - i);
        __m512 last = _mm512_maskz_loadu_ps(rest, x + i);

        count =
            append_last_lanes(_mm512_mask_cmp_ps_mask(rest, last, t, _CMP_GT_OQ), i, found, count);
    }
    return count;
}

static size_t find_above_each(const float *x, const float *thresholds, size_t n, uint32_t *found)
{
    size_t count = 0;
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __mmask16 above =
            _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), _mm512_loadu_ps(thresholds + i), _CMP_GT_OQ);

        count = append_lanes(above, i, found, count);
    }
    if (i < n) {
        __mmask16 rest = first_lanes(n - i);
        __m512 last = _mm512_maskz_loadu_ps(rest, x + i);
        __m512 t = _mm512_maskz_loadu_ps(rest, thresholds + i);

        count =
            append_last_lanes(_mm512_mask_cmp_ps_mask(rest, last, t, _CMP_GT_OQ), i, found, count);
    }
    return count;
}

static void axpy(float a, const float *x, float *y, size_t n)
{
    const __m512 factor = _mm512_set1_ps(a);
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512 sum = _mm512_fmadd_ps(factor, _mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i));

        _mm512_storeu_ps(y + i, sum);
    }
    if (i < n) {
        __mmask16 rest = first_lanes(n - i);
        __m512 sum = _mm512_fmadd_ps(factor, _mm512_maskz_loadu_ps(rest, x + i),
                                     _mm512_maskz_loadu_ps(rest, y + i));

        _mm512_mask_storeu_ps(y + i, rest, sum);
    }
}

static float dot(const float *x, const float *y, size_t n)
{
    /* Four chains of additions: one would wait for its own latency. */
    __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
    float lanes[16];
    float sum = 0;
    size_t i = 0;

    for (; n - i >= 64; i += 64) {
        a = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i), a);
        b = _mm512_fmadd_ps(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(y + i + 16), b);
        c = _mm512_fmadd_ps(_mm512_loadu_ps(x + i + 32), _mm512_loadu_ps(y + i + 32), c);
        d = _mm512_fmadd_ps(_mm512_loadu_ps(x + i + 48), _mm512_loadu_ps(y + i + 48), d);
    }
    for (; n - i >= 16; i += 16)
        a = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i), a);
    if (i < n) {
        __mmask16 rest = first_lanes(n - i);

        a = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(rest, x + i), _mm512_maskz_loadu_ps(rest, y + i),
                            a);
    }
    _mm512_storeu_ps(lanes, _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
    for (int lane = 0; lane < 16; lane++)
        sum += lanes[lane];
    return sum;
}

/* Multiply, then add, as in the scalar reference; 4 x 16 columns: see kernels_avx2.c. */
static void sparse_panel(const uint32_t *indices, const float *values, size_t n, const float *panel,
                         float *out)
{
    __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;

    for (size_t e = 0; e < n; e++) {
        const float *row = panel + (size_t)indices[e] * KERNELS_PANEL;
        const __m512 value = _mm512_set1_ps(values[e]);

        a = _mm512_add_ps(a, _mm512_mul_ps(value, _mm512_load_ps(row)));
        b = _mm512_add_ps(b, _mm512_mul_ps(value, _mm512_load_ps(row + 16)));
        c = _mm512_add_ps(c, _mm512_mul_ps(value, _mm512_load_ps(row + 32)));
        d = _mm512_add_ps(d, _mm512_mul_ps(value, _mm512_load_ps(row + 48)));
    }
    _mm512_storeu_ps(out, a);
    _mm512_storeu_ps(out + 16, b);
    _mm512_storeu_ps(out + 32, c);
    _mm512_storeu_ps(out + 48, d);
}

void kernels_init_avx512(struct kernels *kernels)
{
    kernels->name = "avx512";
    kernels->find_above = find_above;
    kernels->find_above_each = find_above_each;
    kernels->axpy = axpy;
    kernels->dot = dot;
    kernels->sparse_panel = sparse_panel;
}
