/*
 * sae/sae_config.h - typed access to the JSON configuration beside a weights file.
 *
 * Python writes these files: NaN and Infinity are allowed, integers may appear as floats, and an
 * absent key and a null mean the same. A value of a wrong type is STATUS_FORMAT; messages name file
 * and key.
 */
#ifndef SAE_SAE_CONFIG_H
#define SAE_SAE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "formats/json.h"
#include "sae/sae_scheme.h"

struct sae_config {
    const char *name; /* "cfg.json", for messages */
    struct json *root;
};

/* The file must be an object. A missing file says what is there instead. */
MUST_CHECK
enum status sae_config_open(struct sae_config *config, const struct sae_files *files,
                            const char *name, struct error *err);
void sae_config_close(struct sae_config *config); /* accepts all zero */

/* The member of `object`, or NULL if absent or null; `object` may be NULL. */
const struct json *sae_config_member(const struct json *object, const char *key);

/* 0 if absent. */
MUST_CHECK
enum status sae_config_size(const struct sae_config *config, const struct json *object,
                            const char *key, size_t *size, struct error *err);

/* NaN if absent. */
MUST_CHECK
enum status sae_config_number(const struct sae_config *config, const struct json *object,
                              const char *key, double *number, struct error *err);

MUST_CHECK
enum status sae_config_flag(const struct sae_config *config, const struct json *object,
                            const char *key, bool fallback, bool *flag, struct error *err);

/* NULL if absent; borrowed from the configuration. */
MUST_CHECK
enum status sae_config_string(const struct sae_config *config, const struct json *object,
                              const char *key, const char **string, struct error *err);

/* A copy of the first of `keys` [n] that is a string in `object`; NULL if there is none. */
MUST_CHECK
enum status sae_config_copy(const struct json *object, const char *const *keys, size_t n,
                            char **string, struct error *err);

#endif
