/*
 * tests/support/probe_sample.h - a small random pool of samples with labels that a probe can learn.
 */
#ifndef TESTS_SUPPORT_PROBE_SAMPLE_H
#define TESTS_SUPPORT_PROBE_SAMPLE_H

#include <stdint.h>

#include "linalg/csr.h"
#include "scoring/probe.h"

enum {
    PROBE_SAMPLE_ROWS = 120,
    PROBE_SAMPLE_LATENTS = 60,
};

struct probe_sample {
    struct csr x;
    unsigned char has_vector[PROBE_SAMPLE_ROWS];
    uint32_t tokens_used[PROBE_SAMPLE_ROWS];
    float recon_mean[PROBE_SAMPLE_ROWS], recon_max[PROBE_SAMPLE_ROWS];
    uint64_t groups[PROBE_SAMPLE_ROWS];
    double difficulty[PROBE_SAMPLE_ROWS]; /* NaN in every seventh row */
    double quality[PROBE_SAMPLE_ROWS];    /* 0 or 1 */
};

/* Ends the test on failure. Rows 11 and 50 have no vector; row 20 is a copy of row 3. */
void probe_sample_init(struct probe_sample *sample, uint64_t seed);
void probe_sample_release(struct probe_sample *sample);

struct probe_input probe_sample_input(const struct probe_sample *sample);

/* A configuration that fits the sample: ridge with both extras, five folds. */
struct probe_config probe_sample_config(enum probe_model model);

#endif
