#include "tests/support/probe_sample.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "tests/support/cmocka_headers.h"

/* One sample's latents; `signal` is what the labels follow. */
static void append_row(struct csr *x, struct rng *rng, double *signal)
{
    uint32_t indices[PROBE_SAMPLE_LATENTS];
    float values[PROBE_SAMPLE_LATENTS];
    struct sparse_row row = {.indices = indices, .values = values};

    *signal = 0;
    for (uint32_t j = 0; j < PROBE_SAMPLE_LATENTS; j++) {
        double value;

        if (rng_double(rng) > 0.3)
            continue;
        value = 0.1 + 3 * rng_double(rng);
        indices[row.n] = j;
        values[row.n++] = (float)value;
        if (j < 6)
            *signal += (j % 2 ? 0.2 : -0.2) * value;
    }
    assert_int_equal(csr_append(x, row, NULL), STATUS_OK);
}

void probe_sample_init(struct probe_sample *sample, uint64_t seed)
{
    struct rng rng;

    memset(sample, 0, sizeof(*sample));
    rng_init(&rng, seed, "probe.sample", 0);
    csr_clear(&sample->x, PROBE_SAMPLE_LATENTS);
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++) {
        double signal, recon, noise;

        append_row(&sample->x, &rng, &signal);
        recon = 0.2 + rng_double(&rng);
        noise = 0.3 * (rng_double(&rng) - 0.5);
        sample->has_vector[i] = i != 11 && i != 50;
        sample->tokens_used[i] = 5 + (uint32_t)rng_below(&rng, 40);
        sample->recon_mean[i] = (float)recon;
        sample->recon_max[i] = (float)(recon * (1 + rng_double(&rng)));
        sample->groups[i] = i == 20 ? 1000 + 3 : 1000 + i;
        sample->difficulty[i] =
            i % 7 == 0 ? NAN : 0.5 + signal + noise + 0.01 * (double)sample->tokens_used[i];
        sample->quality[i] = signal + noise > 0.3 * (recon - 0.7);
    }
}

void probe_sample_release(struct probe_sample *sample)
{
    csr_release(&sample->x);
}

struct probe_input probe_sample_input(const struct probe_sample *sample)
{
    return (struct probe_input){
        .x = csr_as_view(&sample->x),
        .has_vector = sample->has_vector,
        .tokens_used = sample->tokens_used,
        .recon_mean = sample->recon_mean,
        .recon_max = sample->recon_max,
        .groups = sample->groups,
    };
}

struct probe_config probe_sample_config(enum probe_model model)
{
    static const double l1_ratios[] = {0.5};

    return (struct probe_config){
        .model = model,
        .extra = PROBE_EXTRA_RECON | PROBE_EXTRA_LENGTH,
        .alpha = NAN,
        .l1_ratios = l1_ratios,
        .n_l1_ratios = 1,
        .folds = 5,
        .min_df = 5,
        .max_df = 0.9,
        .seed = 42,
    };
}
