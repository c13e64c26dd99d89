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

static size_t count_at_least(const float *x, size_t n, float least)
{
    const __m512 t = _mm512_set1_ps(least);
    size_t count = 0;
    size_t i = 0;

    for (; n - i >= 16; i += 16)
        count +=
            (size_t)__builtin_popcount(_mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), t, _CMP_GE_OQ));
    if (i < n) {
        __mmask16 rest = first_lanes(n - i);

        count += (size_t)__builtin_popcount(
            _mm512_mask_cmp_ps_mask(rest, _mm512_maskz_loadu_ps(rest, x + i), t, _CMP_GE_OQ));
    }
    return count;
}

/* What a loop over rows sums up in double. */
struct squares {
    __m512d values, errors;
};

static inline __m512d low_half(__m512 x)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
}

static inline __m512d high_half(__m512 x)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
}

/* Squares of x and of x - scale rounded. */
static inline void add_squares(struct squares *s, __m512 x, __m512 rounded, __m512d scale)
{
    __m512d low = low_half(x), high = high_half(x);
    __m512d e_low = _mm512_fnmadd_pd(scale, low_half(rounded), low);
    __m512d e_high = _mm512_fnmadd_pd(scale, high_half(rounded), high);

    s->values = _mm512_fmadd_pd(low, low, _mm512_fmadd_pd(high, high, s->values));
    s->errors = _mm512_fmadd_pd(e_low, e_low, _mm512_fmadd_pd(e_high, e_high, s->errors));
}

static void round_bf16(const float *x, size_t n, uint16_t *out, double *squares, double *errors)
{
    const __m512i magnitude_bits = _mm512_set1_epi32(0x7fffffff);
    const __m512i largest = _mm512_set1_epi32(KERNELS_BF16_MAX);
    const __m512i smallest = _mm512_set1_epi32(KERNELS_BF16_MIN);
    struct squares sums = {_mm512_setzero_pd(), _mm512_setzero_pd()};

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 here = n - i < 16 ? first_lanes(n - i) : 0xffff;
        __m512i bits = _mm512_maskz_loadu_epi32(here, x + i);
        __m512i size = _mm512_and_si512(bits, magnitude_bits);
        __m512i sign = _mm512_andnot_si512(magnitude_bits, bits);
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(size, 16), _mm512_set1_epi32(1));
        __m512i half = _mm512_srli_epi32(
            _mm512_add_epi32(size, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);

        half = _mm512_min_epu32(half, largest);
        half = _mm512_maskz_mov_epi32(_mm512_cmpge_epu32_mask(half, smallest), half);
        half = _mm512_or_si512(half, _mm512_srli_epi32(sign, 16));
        _mm256_mask_storeu_epi16(out + i, here, _mm512_cvtepi32_epi16(half));
        add_squares(&sums, _mm512_castsi512_ps(bits),
                    _mm512_castsi512_ps(_mm512_slli_epi32(half, 16)), _mm512_set1_pd(1));
    }
    *squares += _mm512_reduce_add_pd(sums.values);
    *errors += _mm512_reduce_add_pd(sums.errors);
}

static int32_t round_int8(const float *x, size_t n, float scale, float inverse, int offset,
                          unsigned char *out, double *squares, double *errors)
{
    const __m512i most = _mm512_set1_epi32(127), least = _mm512_set1_epi32(-127);
    struct squares sums = {_mm512_setzero_pd(), _mm512_setzero_pd()};
    __m512i sum = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 here = n - i < 16 ? first_lanes(n - i) : 0xffff;
        __m512 values = _mm512_maskz_loadu_ps(here, x + i);
        __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(values, _mm512_set1_ps(inverse)));

        q = _mm512_max_epi32(_mm512_min_epi32(q, most), least);
        sum = _mm512_add_epi32(sum, q);
        _mm_mask_storeu_epi8(out + i, here,
                             _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(offset))));
        add_squares(&sums, values, _mm512_cvtepi32_ps(q), _mm512_set1_pd((double)scale));
    }
    *squares += _mm512_reduce_add_pd(sums.values);
    *errors += _mm512_reduce_add_pd(sums.errors);
    return _mm512_reduce_add_epi32(sum);
}

/* Four registers hold the 64 lanes of one row. */
struct dot_lanes {
    __m512 sums[4];
};

/* The first two steps of dots_reduce in registers. */
static inline float reduce_lanes(const struct dot_lanes *lanes)
{
    float stored[16];

    _mm512_storeu_ps(stored, _mm512_add_ps(_mm512_add_ps(lanes->sums[0], lanes->sums[2]),
                                           _mm512_add_ps(lanes->sums[1], lanes->sums[3])));
    return dots_reduce(stored, 16);
}

/* Floats [p, p + 64) of one row, those from d on zero. */
static inline __m512 load_lanes(const float *x, size_t p, size_t d)
{
    if (p >= d)
        return _mm512_setzero_ps();
    return d - p >= 16 ? _mm512_loadu_ps(x + p) : _mm512_maskz_loadu_ps(first_lanes(d - p), x + p);
}

/* `n` <= 4 rows, a constant where this is called: w is read once for all of them. */
static inline void dots_few(const float *w, const float *const *x, int n, size_t d, float *out)
{
    struct dot_lanes rows[4];
    size_t p = 0;

#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
        for (int l = 0; l < 4; l++)
            rows[i].sums[l] = _mm512_setzero_ps();
    }
    for (; d - p >= DOTS_LANES; p += DOTS_LANES) {
#pragma GCC unroll 4
        for (size_t l = 0; l < 4; l++) {
            __m512 own = _mm512_loadu_ps(w + p + 16 * l);

#pragma GCC unroll 4
            for (int i = 0; i < n; i++)
                rows[i].sums[l] =
                    _mm512_fmadd_ps(own, _mm512_loadu_ps(x[i] + p + 16 * l), rows[i].sums[l]);
        }
    }
    if (p < d) {
#pragma GCC unroll 4
        for (size_t l = 0; l < 4; l++) {
            __m512 own = load_lanes(w, p + 16 * l, d);

#pragma GCC unroll 4
            for (int i = 0; i < n; i++)
                rows[i].sums[l] =
                    _mm512_fmadd_ps(own, load_lanes(x[i], p + 16 * l, d), rows[i].sums[l]);
        }
    }
    for (int i = 0; i < n; i++)
        out[i] = reduce_lanes(&rows[i]);
}

static void dots(const float *w, const float *const *x, size_t n, size_t d, float *out)
{
    size_t i = 0;

    for (; n - i >= 4; i += 4)
        dots_few(w, x + i, 4, d, out + i);
    if (n - i == 3)
        dots_few(w, x + i, 3, d, out + i);
    else if (n - i == 2)
        dots_few(w, x + i, 2, d, out + i);
    else if (n - i == 1)
        dots_few(w, x + i, 1, d, out + i);
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

static void interleave(const void *rows, size_t stride, size_t n_rows, size_t words, size_t width,
                       uint32_t *out)
{
    const uint32_t *from = rows;

    for (size_t p = 0; p < words; p += 16) {
        size_t n = words - p < 16 ? words - p : 16;

        for (size_t r = 0; r < width; r += 16)
            interleave_block(from, stride, n_rows, r, p, n, width, out);
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
    kernels->count_at_least = count_at_least;
    kernels->round_bf16 = round_bf16;
    kernels->round_int8 = round_int8;
    kernels->axpy = axpy;
    kernels->dots = dots;
    kernels->interleave = interleave;
    kernels->sparse_panel = sparse_panel;
}
