/*
 * 64-bit Arm: what the compiler does not make of the scalar kernels by itself. See
 * linalg/kernels.h for what each kernel computes.
 */
#include <arm_neon.h>
#include <string.h>

#include "linalg/kernels_internal.h"

/* One row after another; lanes[l] are lanes 2 l and 2 l + 1. Products are exact, hence a fused
 * addition rounds like one that is not. */
static inline void dots_step(const float *w, const float *x, float64x2_t lanes[DOTS_LANES / 2])
{
#pragma GCC unroll 4
    for (int q = 0; q < DOTS_LANES / 4; q++) {
        float32x4_t a = vld1q_f32(w + 4 * q), b = vld1q_f32(x + 4 * q);

        lanes[2 * q] =
            vfmaq_f64(lanes[2 * q], vcvt_f64_f32(vget_low_f32(a)), vcvt_f64_f32(vget_low_f32(b)));
        lanes[2 * q + 1] = vfmaq_f64(lanes[2 * q + 1], vcvt_high_f64_f32(a), vcvt_high_f64_f32(b));
    }
}

static double dot_double(const float *w, const float *x, size_t d)
{
    float64x2_t lanes[DOTS_LANES / 2];
    double stored[DOTS_LANES];
    size_t p = 0;

    for (int l = 0; l < DOTS_LANES / 2; l++)
        lanes[l] = vdupq_n_f64(0);
    for (; d - p >= DOTS_LANES; p += DOTS_LANES)
        dots_step(w + p, x + p, lanes);
    if (p < d) {
        float rest[2][DOTS_LANES] = {{0}};

        memcpy(rest[0], w + p, (d - p) * sizeof(float));
        memcpy(rest[1], x + p, (d - p) * sizeof(float));
        dots_step(rest[0], rest[1], lanes);
    }
    for (int l = 0; l < DOTS_LANES / 2; l++)
        vst1q_f64(stored + 2 * l, lanes[l]);
    return dots_reduce(stored);
}

static void dots(const float *w, const float *const *x, size_t n, size_t d, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dot_double(w, x[i], d);
}

static size_t find_above(const float *x, size_t n, float threshold, uint32_t *found)
{
    const float32x4_t t = vdupq_n_f32(threshold);
    size_t count = 0;
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        uint32x4_t low = vcgtq_f32(vld1q_f32(x + i), t);
        uint32x4_t high = vcgtq_f32(vld1q_f32(x + i + 4), t);

        if (vmaxvq_u32(vorrq_u32(low, high)) == 0)
            continue; /* almost always: codes are sparse */
        for (size_t l = 0; l < 8; l++) {
            if (x[i + l] > threshold)
                found[count++] = (uint32_t)(i + l);
        }
    }
    for (; i < n; i++) {
        if (x[i] > threshold)
            found[count++] = (uint32_t)i;
    }
    return count;
}

void kernels_init_neon(struct kernels *kernels)
{
    kernels->name = "neon";
    kernels->find_above = find_above;
    kernels->dots = dots;
}
