/*
 * tests/support/curate_sample.h - a small data set, and what a run over it would have frozen.
 */
#ifndef TESTS_SUPPORT_CURATE_SAMPLE_H
#define TESTS_SUPPORT_CURATE_SAMPLE_H

#include <stdint.h>

#include "clustering/kmeans.h"
#include "curator/curate.h"
#include "linalg/kernels.h"
#include "tests/support/probe_sample.h"

struct curate_sample {
    struct probe_sample data;
    struct recipe recipe;                     /* defaults; the window is off */
    struct model model;                       /* two ridge probes, a threshold, 4 clusters */
    uint32_t cluster[PROBE_SAMPLE_ROWS];      /* that the fit gave; UINT32_MAX without a vector */
    double quality_scores[PROBE_SAMPLE_ROWS]; /* as the probes predict them */
    double difficulty_scores[PROBE_SAMPLE_ROWS];
};

/* Ends the test on failure. `metric`: enum kmeans_metric. */
void curate_sample_init(struct curate_sample *sample, uint64_t seed, int metric,
                        const struct kernels *kernels);
void curate_sample_release(struct curate_sample *sample);

/* All rows of the data set as one request. */
struct curate_input curate_sample_input(const struct curate_sample *sample);

/* The same without a data set: probes alone. Nothing in it is owned. */
struct model curate_sample_without_dataset(const struct curate_sample *sample);

void curate_sample_set(struct recipe *recipe, const char *key, const char *value);

#endif
