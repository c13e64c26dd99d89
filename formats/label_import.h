/*
 * formats/label_import.h - labels as others publish them, into the list a label table is made of.
 *
 *     Neuronpedia   .../SOURCE/explanations/batch-N.jsonl.gz, beside ../source.jsonl
 *     delphi        HOOK_latentN.txt, each one JSON string
 *     map           one JSON object {"index": "label"}
 *
 * All of them number latents in text, in no useful order, with gaps, repeats and empty labels.
 */
#ifndef FORMATS_LABEL_IMPORT_H
#define FORMATS_LABEL_IMPORT_H

#include "base/error.h"
#include "formats/label_table.h"

/*
 * `path` is a map, a batch, the folder of one export, or a parent in which exactly one lies, at
 * most 4 levels below. `list` comes with d_sae if that is known, and its origin is filled in.
 * `hook` (NULL: not said) chooses among delphi's, and is noted where the export does not say it.
 *
 * STATUS_FORMAT names file and line: a row that is no label, a latent that the SAE does not have,
 * rows of two SAEs, no label at all. STATUS_INVALID: several exports or hooks (listed), or another
 * hook than the export's. STATUS_IO, STATUS_NOMEM. The list is for label_list_release() whatever
 * the status.
 */
MUST_CHECK
enum status label_import(struct label_list *list, const char *path, const char *hook,
                         struct error *err);

#endif
