/*
 * curator/pipeline_audit.c - the stages of a run over a recipe made from the command line, for the
 * sake of its report.
 */
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "curator/audit.h"
#include "curator/field_guess.h"
#include "curator/comparison.h"
#include "curator/pipeline.h"
#include "curator/run.h"

/*
 * Labelled rows that a probe is fitted on. The elastic net takes 2 s of one core for 5,000 rows of
 * 64 latents in 16,384, 5 s for 10,000 and minutes for 100,000; a rank correlation of 5,000 rows is
 * known to +-0.03, which is as close as anybody reads it. Every labelled row is still held against
 * its prediction.
 */
#define FIT_ROWS_MAX 5000

const struct audit_default audit_defaults[] = {
    {"dedup.near.enabled", "true"},   {"decontaminate.action", "flag"},
    {"on_error.action", "skip"},      {"on_error.max_bad", "18446744073709551615"},
    {"quality.fit_labels", "field"},  {"difficulty.fit_labels", "field"},
    {"difficulty.force", "true"},     {"clustering.fit_rows", "20000"},
    {"clustering.auto_batches", "0"}, {NULL, NULL},
};

enum status pipeline_audit_defaults(struct recipe *recipe, struct error *err)
{
    enum status st = field_guess_open(recipe, err);

    for (const struct audit_default *d = audit_defaults; !st && d->key; d++)
        st = settings_set(recipe_schema, recipe, d->key, d->value,
                          (struct setting_origin){.word = "audit"}, err);
    return st;
}

/* An audit without a name is called by what it looks at. */
static enum status name_by_data(struct recipe *recipe, struct error *err)
{
    const char *first, *slash;

    if (recipe->name || recipe->input.data.n == 0)
        return STATUS_OK;
    first = recipe->input.data.items[0];
    slash = strrchr(first, '/');
    if (slash && slash[1])
        first = slash + 1;
    if (recipe->input.data.n == 1)
        recipe->name = mem_strdup(first);
    else
        recipe->name = text_format("%s and %zu more", first, recipe->input.data.n - 1);
    return recipe->name ? STATUS_OK : error_nomem(err);
}

static void prefer_probe(const char *probe, char **fit_labels)
{
    if (!probe || !*fit_labels || strcmp(*fit_labels, "field") != 0)
        return;
    mem_free(*fit_labels);
    *fit_labels = NULL;
}

void pipeline_audit_prefer_probes(struct recipe *recipe)
{
    prefer_probe(recipe->quality.probe, &recipe->quality.fit_labels);
    prefer_probe(recipe->difficulty.probe, &recipe->difficulty.fit_labels);
}

/* A folder that is no report is better known before the work than after it. */
static enum status check_baseline(const char *dir, struct error *err)
{
    struct comparison_side side = {0};
    enum status st = dir ? comparison_side_open(&side, dir, err) : STATUS_OK;

    comparison_side_close(&side);
    return st ? error_wrap(err, st, "--baseline") : STATUS_OK;
}

enum status pipeline_audit(const struct pipeline_config *config, const struct pipeline_audit *what,
                           struct text *report, struct error *err)
{
    struct run run = {
        .recipe = config->recipe,
        .log = config->log,
        .kernels = config->kernels,
        .workers = config->workers,
        .progress = config->progress,
        .progress_context = config->progress_context,
        .fit_rows_max = FIT_ROWS_MAX,
    };
    struct audit audit = {
        .run = &run,
        .baseline = what->baseline,
        .command = what->command,
        .guessed = what->guessed,
    };
    enum status st = check_baseline(what->baseline, err);

    if (!st)
        st = name_by_data(config->recipe, err);
    if (!st)
        st = run_prepare(&run, config, err);
    if (!st)
        st = run_stages(&run, err);
    if (!st && cancel_requested(workers_cancel(config->workers)))
        st = error_set(err, STATUS_CANCELED, "interrupted");
    if (!st) {
        audit.labels = run_labels(&run);
        st = audit_report_json(&audit, report, err);
    }
    audit_release(&audit);
    run_release(&run);
    return st;
}
