/*
 * cli/label_names.h - a table of labels for the verbs that name latents, and what they say of one.
 */
#ifndef CLI_LABEL_NAMES_H
#define CLI_LABEL_NAMES_H

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "formats/label_table.h"

/* All zero: there is no table, and no latent has a name. */
struct label_names {
    struct label_table table;
};

/* `path` NULL: none. Errors as label_table_open and label_table_check; what the check only warns of
 * is logged. */
MUST_CHECK
enum status label_names_open(struct label_names *names, const char *path,
                             const struct label_target *target, const struct log *log,
                             struct error *err);

/*
 * For the latents of a finished run or audit: the table at `path`, which must be good, or with NULL
 * the one that the run's recipe names, which may have gone since: then a warning is logged. d_sae 0
 * and sae_hash NULL: not known. Errors as label_names_open().
 */
MUST_CHECK
enum status label_names_open_folder(struct label_names *names, const char *dir, const char *path,
                                    size_t d_sae, const char *sae_hash, const struct log *log,
                                    struct error *err);
void label_names_close(struct label_names *names);

/* For a person: two spaces and the label made fit for a terminal, or nothing. */
MUST_CHECK
enum status label_names_append(const struct label_names *names, size_t latent, struct text *out,
                               struct error *err);

/* For a program: ,"label":"..." or ,"label":null. */
MUST_CHECK
enum status label_names_append_json(const struct label_names *names, size_t latent,
                                    struct text *out, struct error *err);

/* What a table holds and which SAE it belongs to: lines for a person, or members of a JSON object,
 * each with a comma before it. d_sae 0: not known. */
void label_names_describe(const struct label_counts *counts, const struct label_origin *origin,
                          size_t d_sae, int json, struct text *out);

#endif
