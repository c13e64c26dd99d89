/*
 * The reference every other variant is tested against.
 */
#include <math.h>
#include <string.h>

#include "linalg/kernels_internal.h"

static size_t find_above(const float *x, size_t n, float threshold, uint32_t *found)
{
    size_t count = 0;

    /* Store first, count after: no branch to mispredict. count <= i keeps it inside `found`. */
    for (size_t i = 0; i < n; i++) {
        found[count] = (uint32_t)i;
        count += x[i] > threshold;
    }
    return count;
}

static size_t find_above_each(const float *x, const float *thresholds, float margin, size_t n,
                              uint32_t *found)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        found[count] = (uint32_t)i;
        count += x[i] > thresholds[i] - margin;
    }
    return count;
}

static void axpy(float a, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

/* fmaf, and not x * y + z, whatever the compiler would make of it. */
static float dot_lanes(const float *w, const float *x, size_t d)
{
    float lanes[DOTS_LANES] = {0};
    size_t p = 0;

    for (; d - p >= DOTS_LANES; p += DOTS_LANES) {
        for (size_t l = 0; l < DOTS_LANES; l++)
            lanes[l] = fmaf(w[p + l], x[p + l], lanes[l]);
    }
    for (size_t l = 0; p + l < d; l++)
        lanes[l] = fmaf(w[p + l], x[p + l], lanes[l]);
    return dots_reduce(lanes, DOTS_LANES);
}

static void dots(const float *w, const float *const *x, size_t n, size_t d, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dot_lanes(w, x[i], d);
}

static void interleave(const void *rows, size_t stride, size_t n_rows, size_t words, size_t width,
                       uint32_t *out)
{
    const uint32_t *from = rows;

    for (size_t p = 0; p < words; p++) {
        for (size_t r = 0; r < width; r++)
            out[p * width + r] = r < n_rows ? from[r * stride + p] : 0;
    }
}

static size_t count_at_least(const float *x, size_t n, float least)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += x[i] >= least;
    return count;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits, sign, magnitude;

    memcpy(&bits, &x, sizeof(bits));
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    magnitude = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    magnitude = magnitude > KERNELS_BF16_MAX ? KERNELS_BF16_MAX : magnitude;
    magnitude = magnitude < KERNELS_BF16_MIN ? 0 : magnitude;
    return (uint16_t)(sign | magnitude);
}

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

static void round_bf16(const float *x, size_t n, uint16_t *out, double *squares, double *errors)
{
    for (size_t i = 0; i < n; i++) {
        double error;

        out[i] = to_bf16(x[i]);
        error = (double)x[i] - (double)from_bf16(out[i]);
        *squares += (double)x[i] * (double)x[i];
        *errors += error * error;
    }
}

static int32_t round_int8(const float *x, size_t n, float scale, float inverse, int offset,
                          unsigned char *out, double *squares, double *errors)
{
    const float to_integer = 0x1.8p23f; /* adding it leaves no bits for a fraction */
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        int32_t q = (int32_t)(x[i] * inverse + to_integer - to_integer);
        double error;

        q = q > 127 ? 127 : q < -127 ? -127 : q;
        sum += q;
        out[i] = (unsigned char)(q + offset);
        error = (double)x[i] - (double)scale * (double)q;
        *squares += (double)x[i] * (double)x[i];
        *errors += error * error;
    }
    return sum;
}

static void sparse_panel(const uint32_t *indices, const float *values, size_t n, const float *panel,
                         float *out)
{
    for (size_t j = 0; j < KERNELS_PANEL; j++)
        out[j] = 0;
    for (size_t e = 0; e < n; e++) {
        const float *row = panel + (size_t)indices[e] * KERNELS_PANEL;

        for (size_t j = 0; j < KERNELS_PANEL; j++)
            out[j] += values[e] * row[j];
    }
}

void kernels_init_scalar(struct kernels *kernels)
{
    *kernels = (struct kernels){
        .name = "scalar",
        .find_above = find_above,
        .find_above_each = find_above_each,
        .count_at_least = count_at_least,
        .axpy = axpy,
        .dots = dots,
        .round_bf16 = round_bf16,
        .round_int8 = round_int8,
        .interleave = interleave,
        .sparse_panel = sparse_panel,
    };
}
