/*
 * The kernels of every level this CPU has, beside the scalar ones: median of REPEATS timings, their
 * spread (half the distance between the quartiles) and the ratio to scalar. The levels take turns,
 * so that a busy machine slows them all.
 *
 *     meson test -C build --benchmark -v
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "linalg/cpu.h"
#include "linalg/kernels.h"

enum {
    N = 16384,     /* a row of pre-activations */
    D_IN = 2048,   /* a row of activations */
    ENTRIES = 512, /* of a sparse row */
    LEVELS = 3,
    REPEATS = 21,
    ROUNDS = 50 /* calls a timing */
};

struct data {
    float *x, *y, *thresholds, *panel, *values;
    uint32_t *indices, *found;
    float out[KERNELS_PANEL];
    double sink; /* results go here, so that no call can be left out */
};

typedef void run_kernel(const struct kernels *kernels, struct data *data);

static void run_find_above(const struct kernels *kernels, struct data *data)
{
    data->sink += (double)kernels->find_above(data->x, N, 0.97f, data->found);
}

static void run_find_above_each(const struct kernels *kernels, struct data *data)
{
    data->sink +=
        (double)kernels->find_above_each(data->x, data->thresholds, 0.01f, N, data->found);
}

static void run_axpy(const struct kernels *kernels, struct data *data)
{
    kernels->axpy(1e-6f, data->x, data->y, D_IN);
    data->sink += (double)data->y[0];
}

static void run_dots(const struct kernels *kernels, struct data *data)
{
    const float *row = data->thresholds;

    kernels->dots(data->x, &row, 1, D_IN, data->out);
    data->sink += (double)data->out[0];
}

static void run_sparse_panel(const struct kernels *kernels, struct data *data)
{
    kernels->sparse_panel(data->indices, data->values, ENTRIES, data->panel, data->out);
    data->sink += (double)data->out[0];
}

static const struct {
    const char *name;
    run_kernel *run;
} benches[] = {
    {"find_above", run_find_above},
    {"find_above_each", run_find_above_each},
    {"axpy", run_axpy},
    {"dots", run_dots},
    {"sparse_panel", run_sparse_panel},
};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static float *numbers(struct rng *rng, size_t n, double scale)
{
    float *x = mem_alloc_aligned(n, sizeof(*x));

    if (!x)
        exit(1);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * (2 * rng_double(rng) - 1));
    return x;
}

static void measure(size_t bench, const struct kernels *levels, size_t n_levels, struct data *data)
{
    double seconds[LEVELS][REPEATS];
    double scalar = 0;

    for (size_t r = 0; r < REPEATS; r++) {
        for (size_t l = 0; l < n_levels; l++) {
            double start = clock_seconds();

            for (int i = 0; i < ROUNDS; i++)
                benches[bench].run(&levels[l], data);
            seconds[l][r] = (clock_seconds() - start) / ROUNDS;
        }
    }
    for (size_t l = 0; l < n_levels; l++) {
        double median, spread;

        qsort(seconds[l], REPEATS, sizeof(double), compare_doubles);
        median = seconds[l][REPEATS / 2];
        spread = (seconds[l][REPEATS * 3 / 4] - seconds[l][REPEATS / 4]) / 2;
        if (l == 0)
            scalar = median;
        printf("%-16s %-7s %9.3f us +- %6.3f   %5.2f x scalar\n", benches[bench].name,
               levels[l].name, 1e6 * median, 1e6 * spread, scalar / median);
    }
}

int main(void)
{
    const char *const names[LEVELS] = {"scalar", "avx2", "avx512"};
    unsigned flags = cpu_detect();
    struct kernels levels[LEVELS];
    struct data data = {0};
    size_t n_levels = 0;
    struct rng rng;

    for (size_t l = 0; l < LEVELS; l++) {
        unsigned wanted = cpu_flags_up_to(names[l]);

        if ((flags & wanted) == wanted)
            kernels_init(&levels[n_levels++], wanted);
    }
    rng_init(&rng, 1, "bench", 0);
    data.x = numbers(&rng, N, 1);
    data.y = numbers(&rng, N, 1);
    data.thresholds = numbers(&rng, N, 1);
    data.values = numbers(&rng, ENTRIES, 1);
    data.panel = numbers(&rng, (size_t)N * KERNELS_PANEL, 1);
    data.found = mem_alloc(N, sizeof(*data.found));
    data.indices = mem_alloc(ENTRIES, sizeof(*data.indices));
    if (!data.found || !data.indices)
        return 1;
    /* Thresholds near the top: a few percent of the latents fire. */
    for (size_t i = 0; i < N; i++)
        data.thresholds[i] = 0.95f + 0.05f * data.thresholds[i];
    for (size_t e = 0; e < ENTRIES; e++)
        data.indices[e] = (uint32_t)(e * (N / ENTRIES));
    for (size_t b = 0; b < sizeof(benches) / sizeof(benches[0]); b++)
        measure(b, levels, n_levels, &data);
    mem_free(data.x);
    mem_free(data.y);
    mem_free(data.thresholds);
    mem_free(data.values);
    mem_free(data.panel);
    mem_free(data.found);
    mem_free(data.indices);
    return data.sink > 0 ? 0 : 1;
}
