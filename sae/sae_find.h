/*
 * sae/sae_find.h - where in a folder the SAE is.
 */
#ifndef SAE_SAE_FIND_H
#define SAE_SAE_FIND_H

#include "base/error.h"
#include "base/text.h"
#include "sae/sae_scheme.h"

#define SAE_FIND_DEPTH 8

struct sae_found {
    struct sae_files files;
    const struct sae_scheme *schemes[SAE_SCHEMES_MAX]; /* [n_schemes] that claim the file */
    size_t n_schemes; /* 0: its name says nothing, its tensors must decide */
};

void sae_found_release(struct sae_found *found);

/*
 * `path` is a weights file, or a folder searched to SAE_FIND_DEPTH for exactly one: names that
 * begin with a dot are skipped, links are followed, each folder is entered once. In a folder a
 * weights file that no scheme claims by its name is opened for the names of its tensors; one that
 * is not an SAE, or cannot be read, is no obstacle if there is an SAE beside it. `only` narrows the
 * schemes to one and is taken at its word for a file; NULL for all.
 *
 * STATUS_INVALID: several, listed. STATUS_UNSUPPORTED: only families we do not read, one of them
 * named. STATUS_FORMAT: none; the message says what is there.
 */
MUST_CHECK
enum status sae_find(struct sae_found *found, const char *path, const struct sae_scheme *only,
                     struct error *err);

/* "'x.pt' looks like ..., which this version does not read". */
enum status sae_refuse_unread(const struct sae_files *files, const struct sae_scheme *scheme,
                              struct error *err);

/* "'a', 'b' and 3 more": what a folder holds, in the order of names. */
void sae_find_list(const char *folder, struct text *out);

#endif
