/*
 * The reference every other variant is tested against.
 */
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
        y[i] += a * x[i];
}

static float dot(const float *x, const float *y, size_t n)
{
    float sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static double dot_double(const float *w, const float *x, size_t d)
{
    double lanes[DOTS_LANES] = {0};
    size_t p = 0;

    for (; d - p >= DOTS_LANES; p += DOTS_LANES) {
        for (size_t l = 0; l < DOTS_LANES; l++)
            lanes[l] += (double)w[p + l] * (double)x[p + l];
    }
    for (size_t l = 0; p + l < d; l++)
        lanes[l] += (double)w[p + l] * (double)x[p + l];
    return dots_reduce(lanes);
}

static void dots(const float *w, const float *const *x, size_t n, size_t d, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = dot_double(w, x[i], d);
}

static void interleave(const uint32_t *rows, size_t stride, size_t n_rows, size_t words,
                       size_t width, uint32_t *out)
{
    for (size_t p = 0; p < words; p++) {
        for (size_t r = 0; r < width; r++)
            out[p * width + r] = r < n_rows ? rows[r * stride + p] : 0;
    }
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
        .axpy = axpy,
        .dot = dot,
        .dots = dots,
        .interleave = interleave,
        .sparse_panel = sparse_panel,
    };
}
