/*
 * sae/sae_load.h - checkpoints of the common training libraries to struct sae.
 *
 * A registry: each scheme (one file a family, sae/load_*.c) says whether a set of files is its own
 * and describes them in one canonical form; reading, folding, checking and hashing are common.
 * Detection goes by file names, configuration keys and tensor names, never by shape; two schemes
 * that fit, or a missing threshold, k or factor, is a refusal that says what to set.
 */
#ifndef SAE_SAE_LOAD_H
#define SAE_SAE_LOAD_H

#include "base/error.h"
#include "sae/sae.h"
#include "settings/setting.h"

enum sae_read {
    SAE_READ_FACTS,   /* sizes, formula, path and words: no weights, no hash; quick */
    SAE_READ_ENCODER, /* encode only: half the memory */
    SAE_READ_ALL,     /* and the decoder, for reconstruction errors; absent in the file is fine */
};

/* The `sae` settings that say what a file leaves open. */
struct sae_overrides {
    char *format;       /* scheme name, NULL for auto */
    uint32_t k;         /* 0: as the file says */
    double threshold;   /* NaN: as the file says */
    double norm_factor; /* NaN: as the file says; multiplies x */
    char *cache;        /* folder for what loading makes, NULL for none: see sae/sae_cache.h */
};

/* Rows for struct sae_overrides: format, k, threshold, norm_factor, cache. */
extern const struct setting sae_override_settings[];

/*
 * Load the SAE at `path`: a file, or a folder searched to depth 8 for exactly one.
 * `overrides` may be NULL. STATUS_INVALID: something must be set (the message says which key);
 * STATUS_FORMAT: the bytes are wrong; STATUS_UNSUPPORTED: a family we do not read, named;
 * STATUS_IO; STATUS_NOMEM. `sae` is all zero on failure.
 */
MUST_CHECK
enum status sae_load(struct sae *sae, const char *path, const struct sae_overrides *overrides,
                     enum sae_read read, struct error *err);

#endif
