/*
 * curator/inputs.h - the files a run reads: globs expanded, contents hashed.
 */
#ifndef CURATOR_INPUTS_H
#define CURATOR_INPUTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "curator/input_cache.h"
#include "curator/recipe.h"
#include "settings/setting.h"

struct input_file {
    char *path;
    const char *role; /* "data", "activations", "sae", ... */
    uint64_t bytes;
    struct hash128 hash; /* XXH3-128 of the contents */
};

struct inputs {
    struct input_file *files; /* in a fixed order: by role, then as listed */
    size_t n, capacity;
};

void inputs_release(struct inputs *inputs);

/*
 * Replace globs in input.data, input.activations and decontaminate.against by the files they match,
 * sorted by name; a file of just that name is taken as it is. STATUS_INVALID: a glob without a
 * match. STATUS_UNSUPPORTED: a Parquet file (with the command that converts it).
 */
MUST_CHECK
enum status inputs_expand(struct recipe *recipe, struct error *err);

/*
 * Hash everything the recipe reads; `sae_weights` is the file found in sae.path, or NULL. With a
 * cache (may be NULL) files that it knows are not read again.
 */
MUST_CHECK
enum status inputs_hash(struct inputs *inputs, const struct recipe *recipe, const char *sae_weights,
                        struct input_cache *cache, struct error *err);

/*
 * One number for "the same inputs and recipe": version, the recipe without what cannot change the
 * result (paths, output.dir, resources), how the SAE was understood (`formula`, NULL: none) and
 * every input's hash. A folder may move and the number of threads change.
 */
MUST_CHECK
enum status inputs_fingerprint(struct hash128 *fingerprint, const struct inputs *inputs,
                               const struct recipe *recipe, const char *formula, struct error *err);

/*
 * A copy that holds what plan and scores depend on and nothing else: paths are cleared (the hash of
 * a role says what was read), and so are name, resources, output, serve, metrics and online. It
 * borrows from `recipe`: never to be released, nor run.
 */
struct recipe inputs_essence(const struct recipe *recipe);

/*
 * The same for a state of the sidecar: of inputs_essence(), the formula and the inputs. Not of the
 * version: what was served stays what it is when the program is renewed.
 */
MUST_CHECK
enum status inputs_state_fingerprint(struct hash128 *fingerprint, const struct inputs *inputs,
                                     const struct recipe *recipe, const char *formula,
                                     struct error *err);

/* The same for what features depend on: data, activations, SAE, and the settings of encoding. */
MUST_CHECK
enum status inputs_encode_key(struct hash128 *key, const struct inputs *inputs,
                              const struct recipe *recipe, const char *formula, struct error *err);

#endif
