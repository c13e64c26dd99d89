/*
 * formats/label_table.h - names for the latents of one SAE, in a file that is mapped, not read.
 *
 * A safetensors file that safetensors + numpy open without us:
 *
 *     offsets I64 [n+1]   text U8 [bytes]
 *     metadata: format=saerl.labels version=1, and where known d_sae layout model source hook
 *               release sae_id sae_hash
 *
 * The labels of latent i are text[offsets[i] : offsets[i+1]], UTF-8, each ended by a zero byte;
 * there may be several, none, or empty ones. n is d_sae, or one more than the largest latent where
 * d_sae is not known.
 *
 * Opening costs the header, whatever the size; offsets and text are checked where they are looked
 * at. What a mapping risks is a file that shrinks under it. label_table_write() never does that to
 * a reader: it writes aside and renames, so that the mapped file stays what it was. For the rest,
 * the file's size is asked for again before each access, and a smaller one is an error; pointers
 * into the mapping never leave this file.
 */
#ifndef FORMATS_LABEL_TABLE_H
#define FORMATS_LABEL_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "formats/safetensors.h"

/* More latents than any published SAE has. */
#define LABEL_LATENTS_MAX ((uint64_t)1 << 25)

/* What the labels belong to. Strings are NULL where nothing is known. */
struct label_origin {
    char *layout; /* "neuronpedia", "delphi", "map" */
    char *model;
    char *source;  /* Neuronpedia's name of the SAE, "20-gemmascope-res-16k" */
    char *hook;    /* where the SAE reads */
    char *release; /* SAELens's name of the SAE, with sae_id */
    char *sae_id;
    char *sae_hash; /* XXH3-128 of the weights file, hex */
};

void label_origin_release(struct label_origin *origin);

/* Labels on their way into a table, in any order. */
struct label_list {
    struct label_entry {
        uint32_t latent;
        size_t begin; /* in text */
    } * items;
    size_t n, capacity;
    struct text text; /* each label ended by a zero byte */
    size_t d_sae;     /* 0: not known */
    struct label_origin origin;
};

void label_list_release(struct label_list *list);

/* A label of valid UTF-8; zero bytes in it become U+FFFD. STATUS_FORMAT: a latent that an SAE of
 * d_sae latents, or any at all, does not have; STATUS_NOMEM. */
MUST_CHECK
enum status label_list_append(struct label_list *list, uint64_t latent, const char *label, size_t n,
                              struct error *err);

struct label_counts {
    size_t labels;  /* all of them */
    size_t empty;   /* of nothing but white space */
    size_t latents; /* with a label that is not empty */
    size_t several; /* with more than one label */
    size_t largest; /* latent that has a label */
};

/* Labels of one latent stay in the order in which they came. Sorts the list. */
MUST_CHECK
enum status label_table_write(struct label_list *list, const char *path,
                              struct label_counts *counts, struct error *err);

struct label_table {
    struct safetensors file;
    const unsigned char *map; /* the whole file */
    size_t map_bytes;
    const struct safetensors_tensor *offsets, *text;
    size_t n_latents;           /* in the table */
    size_t d_sae;               /* 0: not known */
    struct label_origin origin; /* borrowed from the file */
};

/* STATUS_FORMAT, STATUS_UNSUPPORTED (another version), STATUS_IO, STATUS_NOMEM. */
MUST_CHECK
enum status label_table_open(struct label_table *table, const char *path, struct error *err);
void label_table_close(struct label_table *table); /* accepts all zero */

/*
 * Append the first label of a latent that is not empty; nothing where there is none or the latent
 * is beyond the table. STATUS_FORMAT: offsets or text are not as described; STATUS_IO: the file has
 * shrunk.
 */
MUST_CHECK
enum status label_table_find(const struct label_table *table, size_t latent, struct text *out,
                             struct error *err);

/* The same as a JSON string, or null. `table` may be NULL: no label at all. */
MUST_CHECK
enum status label_table_find_json(const struct label_table *table, size_t latent, struct text *out,
                                  struct error *err);

/* All of it, checked. */
MUST_CHECK
enum status label_table_count(const struct label_table *table, struct label_counts *counts,
                              struct error *err);

/* An SAE, as far as it is known: 0 and NULL are not compared. */
struct label_target {
    size_t d_sae;
    const char *model, *hook, *sae_hash;
};

/*
 * Do these labels belong to that SAE? STATUS_INVALID: another number of latents, other weights, or
 * a hook in another layer. What may be two spellings of one thing goes to `warnings`, a line each.
 */
MUST_CHECK
enum status label_table_check(const struct label_table *table, const struct label_target *target,
                              struct text *warnings, struct error *err);

/* The same for labels that are about to be written. */
MUST_CHECK
enum status label_origin_check(const struct label_origin *origin, const struct label_target *target,
                               struct text *warnings, struct error *err);

#endif
