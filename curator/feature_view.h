/*
 * curator/feature_view.h - a feature store as what clustering and probes take; nothing is copied.
 */
#ifndef CURATOR_FEATURE_VIEW_H
#define CURATOR_FEATURE_VIEW_H

#include "formats/features.h"
#include "linalg/csr.h"
#include "scoring/probe.h"

/* [rows, d_sae] */
struct csr_view feature_view(const struct features *features);

/* has_vector [rows]. Rows of the same key share a fold. */
struct probe_input feature_probe_input(const struct features *features,
                                       const unsigned char *has_vector);

#endif
