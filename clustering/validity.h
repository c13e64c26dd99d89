/*
 * clustering/validity.h - how good a clustering is.
 */
#ifndef CLUSTERING_VALIDITY_H
#define CLUSTERING_VALIDITY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Normalised mutual information, arithmetic mean of the entropies (scikit-learn's default).
 * a, b [n] labels of any value. 1 when both have one class. */
MUST_CHECK
enum status validity_nmi(double *nmi, const uint32_t *a, const uint32_t *b, size_t n,
                         struct error *err);

/* exp(entropy of sizes): 1 if all is in one cluster, k if even. */
double validity_effective_clusters(const uint64_t *sizes, size_t k);

#endif
