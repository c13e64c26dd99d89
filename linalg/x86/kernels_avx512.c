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

static size_t find_above_each(const float *x, const float *thresholds, float margin, size_t n,
                              uint32_t *found)
{
    size_t count = 0;
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512 t = _mm512_sub_ps(_mm512_loadu_ps(thresholds + i), _mm512_set1_ps(margin));
        __mmask16 above = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), t, _CMP_GT_OQ);

        count = append_lanes(above, i, found, count);
    }
    if (i < n) {
        __mmask16 rest = first_lanes(n - i);
        __m512 last = _mm512_maskz_loadu_ps(rest, x + i);
        __m512 t =
            _mm512_sub_ps(_mm512_maskz_loadu_ps(rest, thresholds + i), _mm512_set1_ps(margin));

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

static inline __m512d widen(const float *x)
{
    return _mm512_cvtps_pd(_mm256_loadu_ps(x));
}

/* As widen, for the last `n` < 16 floats: the first or the second eight of them. */
static inline __m512d widen_rest(const float *x, size_t n, size_t from)
{
    size_t here = n > from ? n - from : 0;

    return _mm512_cvtps_pd(
        _mm256_maskz_loadu_ps((__mmask8)(here < 8 ? (1u << here) - 1 : 0xff), x + from));
}

/* Four rows at a time: w is widened once for all of them, and no addition waits for another. The
 * products are exact, hence a fused addition rounds like one that is not. */
static void dots_4(const float *w, const float *const *x, size_t d, double *out)
{
    __m512d low[4], high[4];
    double lanes[DOTS_LANES];
    size_t p = 0;

#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        low[i] = high[i] = _mm512_setzero_pd();
    for (; d - p >= DOTS_LANES; p += DOTS_LANES) {
        __m512d w_low = widen(w + p), w_high = widen(w + p + 8);

#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            low[i] = _mm512_fmadd_pd(w_low, widen(x[i] + p), low[i]);
            high[i] = _mm512_fmadd_pd(w_high, widen(x[i] + p + 8), high[i]);
        }
    }
    if (p < d) {
        __m512d w_low = widen_rest(w + p, d - p, 0), w_high = widen_rest(w + p, d - p, 8);

#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            low[i] = _mm512_fmadd_pd(w_low, widen_rest(x[i] + p, d - p, 0), low[i]);
            high[i] = _mm512_fmadd_pd(w_high, widen_rest(x[i] + p, d - p, 8), high[i]);
        }
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_pd(lanes, low[i]);
        _mm512_storeu_pd(lanes + 8, high[i]);
        out[i] = dots_reduce(lanes);
    }
}

static void dots(const float *w, const float *const *x, size_t n, size_t d, double *out)
{
    size_t i = 0;

    for (; n - i >= 4; i += 4)
        dots_4(w, x + i, d, out + i);
    if (i < n) {
        const float *rest[4];
        double sums[4];

        for (size_t r = 0; r < 4; r++)
            rest[r] = x[i + r < n ? i + r : i];
        dots_4(w, rest, d, sums);
        for (size_t r = 0; i + r < n; r++)
            out[i + r] = sums[r];
    }
}

/* Sixteen rows of sixteen words: pairs, quads, then quarters change places. */
static inline void transpose_16(__m512i rows[16])
{
    __m512i t[16];

#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        rows[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        rows[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        rows[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        rows[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        rows[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        rows[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

/* Words [p, p + n) of rows [r, r + 16), n <= 16, into place. */
static void interleave_block(const uint32_t *rows, size_t stride, size_t n_rows, size_t r, size_t p,
                             size_t n, size_t width, uint32_t *out)
{
    __mmask16 here = n < 16 ? first_lanes(n) : 0xffff;
    __mmask16 wanted = width - r < 16 ? first_lanes(width - r) : 0xffff;
    __m512i block[16];

    for (size_t i = 0; i < 16; i++)
        block[i] = r + i < n_rows ? _mm512_maskz_loadu_epi32(here, rows + (r + i) * stride + p)
                                  : _mm512_setzero_si512();
    transpose_16(block);
    for (size_t i = 0; i < n; i++)
        _mm512_mask_storeu_epi32(out + (p + i) * width + r, wanted, block[i]);
}

static void interleave(const uint32_t *rows, size_t stride, size_t n_rows, size_t words,
                       size_t width, uint32_t *out)
{
    for (size_t p = 0; p < words; p += 16) {
        size_t n = words - p < 16 ? words - p : 16;

        for (size_t r = 0; r < width; r += 16)
            interleave_block(rows, stride, n_rows, r, p, n, width, out);
    }
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
    kernels->dots = dots;
    kernels->interleave = interleave;
    kernels->sparse_panel = sparse_panel;
}
