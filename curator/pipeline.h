/*
 * curator/pipeline.h - a whole filtering run: recipe in, run folder out.
 */
#ifndef CURATOR_PIPELINE_H
#define CURATOR_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "base/workers.h"
#include "curator/dataset.h"
#include "curator/input_cache.h"
#include "curator/recipe.h"
#include "linalg/kernels.h"
#include "sae/encode.h"
#include "sae/sae_stats.h"

enum pipeline_mode {
    PIPELINE_RUN,
    PIPELINE_FRESH,   /* replace an existing run */
    PIPELINE_DRY_RUN, /* check everything, compute and write nothing */
    PIPELINE_STATE,   /* as RUN, inside a state folder: messages advise a new state */
};

/*
 * Called when everything is computed and written, before the folder is whole: what fails here fails
 * the run, which then resumes from its stages. `run` is curator/run.h's.
 */
struct run;
typedef enum status pipeline_done(void *context, const struct run *run, struct error *err);

/* A report as JSON to one as HTML: report_html(). */
typedef enum status pipeline_render(struct text *html, const char *json, size_t n,
                                    struct error *err);

struct pipeline_config {
    struct recipe *recipe; /* borrowed; globs in it are expanded */
    const char *output;    /* -o, or NULL for output.dir */
    enum pipeline_mode mode;
    struct log *log; /* may be NULL; log.jsonl is attached to it while the run lasts */
    const struct kernels *kernels;
    struct workers *workers;
    encode_progress *progress; /* may be NULL */
    void *progress_context;
    struct input_cache *cache; /* of input hashes, may be NULL */
    pipeline_render *render;   /* of report.html; NULL: none is written */
    pipeline_done *done;       /* may be NULL; with it, idf and centroids are kept for it */
    void *done_context;
};

/*
 * Run a recipe. `report` (may be NULL) gets the report as JSON; where the run is finished already,
 * `words` says so and the report is that of the folder, or empty if output.report left it out. A
 * dry run has pipeline_check() fill both. STATUS_CANCELED keeps finished stages for the next run.
 * The folder appears whole or not at all.
 */
MUST_CHECK
enum status pipeline_run(const struct pipeline_config *config, struct text *words,
                         struct text *report, struct error *err);

/* What an audit begins with in place of the defaults of a recipe: the checks on, and nothing that
 * could fail for what is worth telling. Ends with key NULL. */
struct audit_default {
    const char *key, *value;
};
extern const struct audit_default audit_defaults[];

/* `recipe` has its own defaults, and gets those of an audit. */
MUST_CHECK
enum status pipeline_audit_defaults(struct recipe *recipe, struct error *err);

/* Once the recipe is read: a probe that was given takes the place of a fit by default. */
void pipeline_audit_prefer_probes(struct recipe *recipe);

struct pipeline_audit {
    const char *baseline; /* folder of an earlier report, or NULL */
    const char *command;  /* as typed, for the report, or NULL */
    bool guessed;         /* input.fields were guessed from the data */
};

/*
 * Look at a data set and report, JSON into `report` (docs/report.md); no run folder is made and
 * config->output, mode, render and done are not looked at. Activations and features may be missing.
 * Labels that nothing can be fitted on, malformed rows and ids that repeat are told, not failed
 * for.
 */
MUST_CHECK
enum status pipeline_audit(const struct pipeline_config *config, const struct pipeline_audit *what,
                           struct text *report, struct error *err);

/*
 * Validate a recipe and every file it names: shapes, counts, SAE audit, memory estimate. `out` gets
 * lines for a person, `json` (may be NULL) the same as a JSON object.
 */
MUST_CHECK
enum status pipeline_check(const struct pipeline_config *config, struct text *out,
                           struct text *json, struct error *err);

/* The lock file: the recipe with every default spelled out and globs expanded. */
MUST_CHECK
enum status pipeline_print_lock(struct text *lock, const struct recipe *recipe, struct error *err);

/* Does the recipe say all that a run needs, and each thing once? STATUS_INVALID names the key. */
MUST_CHECK
enum status pipeline_check_recipe(const struct recipe *recipe, struct error *err);

/*
 * sae_prepare() as the recipe wants it, told to the log; where the CPU has nothing for `fast`,
 * codes are exact, with a warning. STATUS_NOMEM, STATUS_CANCELED, STATUS_IO.
 */
MUST_CHECK
enum status pipeline_prepare_sae(struct sae *sae, const struct recipe *recipe,
                                 const struct kernels *kernels, struct workers *workers,
                                 const struct log *log, struct error *err);

/*
 * Metadata `hook` of activations against the SAE's own: STATUS_INVALID where both are known and
 * differ, unless sae.force_hook. Another `model` is a warning.
 */
MUST_CHECK
enum status pipeline_check_hook(const struct sae *sae, const struct activations *activations,
                                const struct recipe *recipe, const struct log *log,
                                struct error *err);

/* STATUS_INVALID for activations or features of one vector a sample where sae.input is tokens. */
MUST_CHECK
enum status pipeline_check_input(bool pooled, const char *path, const struct recipe *recipe,
                                 struct error *err);

/*
 * What a run will hold in memory at its peak, in bytes, to the nearest guess: data, weights, codes
 * as if those of a sample's tokens did not overlap, scratch.
 */
struct memory_estimate {
    uint64_t data, weights, features, scratch, total;
};

struct memory_estimate pipeline_memory(const struct dataset *data, const struct sae *sae,
                                       const struct sae_stats *stats,
                                       const struct activations *activations, unsigned threads);

/* STATUS_FAILED above resources.memory; with `auto` a warning above what the machine has. */
MUST_CHECK
enum status pipeline_check_memory(const struct memory_estimate *estimate,
                                  const struct recipe *recipe, const struct log *log,
                                  struct error *err);

#endif
