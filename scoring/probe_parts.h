/*
 * scoring/probe_parts.h - a probe as tensors and metadata: of a file of its own (probe_save), or of
 * one that holds more, where `prefix` stands before every name.
 */
#ifndef SCORING_PROBE_PARTS_H
#define SCORING_PROBE_PARTS_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "formats/safetensors.h"
#include "scoring/probe.h"

#define PROBE_ITEMS_MAX 4
#define PROBE_METADATA_MAX 15
#define PROBE_NAME_MAX 48 /* of a tensor or a key, prefix included */

/* For safetensors_write. Points into itself and into the probe: neither may move meanwhile. */
struct probe_parts {
    struct safetensors_item items[PROBE_ITEMS_MAX];
    size_t n_items;
    struct safetensors_metadata metadata[PROBE_METADATA_MAX];
    size_t n_metadata;

    char names[PROBE_ITEMS_MAX][PROBE_NAME_MAX], keys[PROBE_METADATA_MAX][PROBE_NAME_MAX];
    struct text values[PROBE_METADATA_MAX];
    double extras[PROBE_EXTRA_COLUMNS_MAX][3];
};

MUST_CHECK
enum status probe_parts_init(struct probe_parts *parts, const struct probe *probe,
                             const char *prefix, struct error *err);
void probe_parts_release(struct probe_parts *parts); /* accepts all zero */

/* The probe whose names in `file` begin with `prefix`; checks and errors as probe_load. */
MUST_CHECK
enum status probe_parts_read(struct probe *probe, const struct safetensors *file,
                             const char *prefix, struct error *err);

#endif
