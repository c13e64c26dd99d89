/*
 * 64-bit Arm: what the compiler does not make of the scalar kernels by itself. See
 * linalg/kernels.h for what each kernel computes.
 */
#include <arm_neon.h>
#include <string.h>

#include "linalg/kernels_internal.h"

/* Sixteen registers hold the 64 lanes. */
static inline void dots_step(const float *w, const float *x, float32x4_t lanes[DOTS_LANES / 4])
{
#pragma GCC unroll 16
    for (int q = 0; q < DOTS_LANES / 4; q++)
        lanes[q] = vfmaq_f32(lanes[q], vld1q_f32(w + 4 * q), vld1q_f32(x + 4 * q));
}

static float dot_lanes(const float *w, const float *x, size_t d)
{
    float32x4_t lanes[DOTS_LANES / 4];
    float stored[DOTS_LANES];
    size_t p = 0;

    for (int q = 0; q < DOTS_LANES / 4; q++)
        lanes[q] = vdupq_n_f32(0);
    for (; d - p >= DOTS_LANES; p += DOTS_LANES)
        dots_step(w + p, x + p, lanes);
    if (p < d) {
        float rest[2][DOTS_LANES] = {{0}};

        memcpy(rest[0], w + p, (d - p) * sizeof(float));
        memcpy(rest[1], x + p, (d - p) * sizeof(float));
        dots_step(rest[0], rest[1], lanes);
    }
    for (int q = 0; q < DOTS_LANES / 4; q++)
        vst1q_f32(stored + 4 * q, lanes[q]);
    return dots_reduce(stored, DOTS_LANES);
}

static void dots(const float *w, const float *const *x, size_t n, size_t d, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dot_lanes(w, x[i], d);
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
