/*
 * formats/label_layouts.h - the published layouts of labels, for formats/label_import.c.
 */
#ifndef FORMATS_LABEL_LAYOUTS_H
#define FORMATS_LABEL_LAYOUTS_H

#include <stdbool.h>

#include "base/error.h"
#include "formats/folder.h"
#include "formats/json.h"
#include "formats/label_table.h"

/* "batch-12.jsonl.gz", also plain, .zst and .xz. */
bool neuronpedia_is_batch(const char *name);

/* All batches of a folder, by number. */
MUST_CHECK
enum status neuronpedia_read_folder(struct label_list *list, const char *folder,
                                    const struct folder_names *names, struct error *err);
MUST_CHECK
enum status neuronpedia_read_file(struct label_list *list, const char *path, struct error *err);

/* "layers.3_latent7.txt". */
bool delphi_is_label(const char *name);

/* Those of one hook, which must be said where there are several. */
MUST_CHECK
enum status delphi_read_folder(struct label_list *list, const char *folder,
                               const struct folder_names *names, const char *hook,
                               struct error *err);

/* Decimal digits only. False for anything else and beyond 64 bits. */
bool label_parse_index(const char *text, size_t n, uint64_t *index);

/* A label that is a JSON string, or null for none. */
MUST_CHECK
enum status label_append_json(struct label_list *list, uint64_t latent, const struct json *label,
                              struct error *err);

#endif
