/*
 * cli/demo.c - `saerl demo`: a small real data set, curated; then judged by what the run never saw.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/demo_data.h"
#include "cli/recipe_args.h"
#include "curator/run_record.h"
#include "clustering/validity.h"
#include "curator/pipeline.h"
#include "report/report.h"
#include "formats/atomic_file.h"
#include "formats/json.h"
#include "formats/jsonl.h"
#include "scoring/metrics.h"

static enum status write_file(const char *dir, const struct demo_file *file, int fresh,
                              const struct log *log, struct error *err)
{
    size_t n = (size_t)(file->end - file->begin);
    char *path = text_format("%s/%s", dir, file->path);
    struct hash128 found;
    enum status st;

    if (!path)
        return error_nomem(err);
    if (!fresh && access(path, F_OK) == 0) {
        st = hash_file(&found, NULL, path, err);
        if (!st && !hash128_equal(found, hash128(file->begin, n)))
            log_event(log, LOG_WARNING, "demo",
                      "%s differs from the bundled one: kept as it is (--fresh restores it)", path);
        mem_free(path);
        return st;
    }
    st = directory_make_parent(path, err);
    if (!st)
        st = atomic_file_write_all(path, file->begin, n, err);
    mem_free(path);
    return st;
}

/* A folder of somebody else's is not written into. */
static enum status write_demo(const char *dir, int fresh, const struct log *log, struct error *err)
{
    char *recipe = text_format("%s/recipe.yaml", dir);
    enum status st = STATUS_OK;

    if (!recipe)
        return error_nomem(err);
    if (access(dir, F_OK) == 0 && access(recipe, F_OK) != 0)
        st = error_set(err, STATUS_CONFLICT, "%s: exists and is not a demo folder: name another",
                       dir);
    mem_free(recipe);
    for (size_t i = 0; !st && demo_files[i].path; i++)
        st = write_file(dir, &demo_files[i], fresh, log, err);
    return st;
}

#define FAMILIES_MAX 64
#define FAMILY_NAME_MAX 32

/* What truth.jsonl knows of the rows. */
struct truth {
    uint32_t *family;        /* [n] numbered by first appearance */
    double *damaged;         /* [n] 0 or 1 */
    double *pass_rate;       /* [n] */
    unsigned char *labelled; /* [n] the run saw its rewards */
    size_t n;
    char families[FAMILIES_MAX][FAMILY_NAME_MAX];
    uint32_t n_families;
};

static void truth_release(struct truth *t)
{
    mem_free(t->family);
    mem_free(t->damaged);
    mem_free(t->pass_rate);
    mem_free(t->labelled);
}

static enum status find_family(struct truth *t, const char *name, uint32_t *family,
                               struct error *err)
{
    uint32_t f = 0;

    while (f < t->n_families && strcmp(t->families[f], name) != 0)
        f++;
    if (f == FAMILIES_MAX || strlen(name) >= FAMILY_NAME_MAX)
        return error_set(err, STATUS_FORMAT, "family '%s': one too many, or too long a name", name);
    if (f == t->n_families)
        snprintf(t->families[t->n_families++], FAMILY_NAME_MAX, "%s", name);
    *family = f;
    return STATUS_OK;
}

static enum status read_truth_line(struct truth *t, size_t row, const struct jsonl_line *line,
                                   struct error *err)
{
    struct json *json = NULL;
    const char *family, *damage;
    size_t n;
    enum status st = jsonl_parse(&json, line, err);

    if (st)
        return st;
    family = json_string(json_member(json, "family"), &n);
    damage = json_string(json_member(json, "damage"), &n);
    t->pass_rate[row] = json_double(json_member(json, "pass_rate"));
    if (!family || !damage || isnan(t->pass_rate[row])) {
        st = error_set(err, STATUS_FORMAT, "row %zu: family, damage or pass_rate is missing", row);
    } else {
        st = find_family(t, family, &t->family[row], err);
        t->damaged[row] = strcmp(damage, "none") != 0;
        t->labelled[row] = json_bool(json_member(json, "labelled"));
    }
    json_free(json);
    return st;
}

static enum status read_truth(struct truth *t, const char *path, size_t n, struct error *err)
{
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    bool end = false;
    size_t row = 0;
    enum status st;

    *t = (struct truth){
        .family = mem_alloc(n, sizeof(uint32_t)),
        .damaged = mem_alloc(n, sizeof(double)),
        .pass_rate = mem_alloc(n, sizeof(double)),
        .labelled = mem_alloc(n, 1),
        .n = n,
    };
    if (!t->family || !t->damaged || !t->pass_rate || !t->labelled)
        return error_nomem(err);
    st = jsonl_open(&reader, &path, 1, err);
    while (!st) {
        st = jsonl_next(reader, &line, &end, err);
        if (st || end)
            break;
        if (row == n)
            st = error_set(err, STATUS_FORMAT, "%s: more rows than the run's %zu", path, n);
        else
            st = read_truth_line(t, row++, &line, err);
    }
    if (!st && row != n)
        st = error_set(err, STATUS_FORMAT, "%s: %zu rows, the run has %zu", path, row, n);
    jsonl_close(reader);
    return st;
}

/* Figures over the rows whose labels the run did not see. */
static enum status judge(const struct run_record *record, const struct truth *truth,
                         struct text *out, struct error *err)
{
    size_t n = record->n, m = 0, clustered = 0, damaged = 0, dropped = 0, dropped_damaged = 0;
    double *badness = mem_alloc(n, sizeof(double)), *damage = mem_alloc(n, sizeof(double));
    double *difficulty = mem_alloc(n, sizeof(double)), *failure = mem_alloc(n, sizeof(double));
    uint32_t *cluster = mem_alloc(n, sizeof(uint32_t)), *family = mem_alloc(n, sizeof(uint32_t));
    double auc = NAN, rho = NAN, nmi = NAN;
    enum status st = STATUS_OK;

    if (!badness || !damage || !difficulty || !failure || !cluster || !family) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t row = 0; row < n; row++) {
        const struct run_row *r = &record->rows[row];

        if (r->cluster >= 0) {
            cluster[clustered] = (uint32_t)r->cluster;
            family[clustered++] = truth->family[row];
        }
        damaged += truth->damaged[row] > 0;
        if (r->reason && strcmp(r->reason, "low_quality") == 0) {
            dropped++;
            dropped_damaged += truth->damaged[row] > 0;
        }
        if (truth->labelled[row] || isnan(r->quality) || isnan(r->difficulty))
            continue;
        badness[m] = -r->quality;
        damage[m] = truth->damaged[row];
        difficulty[m] = r->difficulty;
        failure[m++] = 1 - truth->pass_rate[row];
    }
    st = metrics_auroc(&auc, badness, damage, m, err);
    if (!st)
        st = metrics_spearman(&rho, difficulty, failure, m, err);
    if (!st)
        st = validity_nmi(&nmi, cluster, family, clustered, err);
    if (st)
        goto out;
    text_appendf(out,
                 "\njudged by truth.jsonl, which the run never saw (%zu rows without labels)\n", m);
    text_appendf(out,
                 "  quality     finds damaged rows with AUC %.3f; of %zu dropped for it %zu "
                 "are damaged, %.0f %% against %.0f %% of all rows\n",
                 auc, dropped, dropped_damaged,
                 dropped ? 100.0 * (double)dropped_damaged / (double)dropped : 0.0,
                 100.0 * (double)damaged / (double)n);
    text_appendf(out, "  difficulty  ranks held-out rewards with Spearman %.3f\n", rho);
    text_appendf(out, "  clusters    match the %u task families with NMI %.3f\n", truth->n_families,
                 nmi);
    st = text_check(out, err);
out:
    mem_free(badness);
    mem_free(damage);
    mem_free(difficulty);
    mem_free(failure);
    mem_free(cluster);
    mem_free(family);
    return st;
}

static enum status judge_run(const char *dir, const char *output, struct text *out,
                             struct error *err)
{
    char *path = text_format("%s/truth.jsonl", dir);
    struct run_record record = {0};
    struct truth truth = {0};
    enum status st = path ? run_record_read(&record, output, err) : error_nomem(err);

    if (!st)
        st = read_truth(&truth, path, record.n, err);
    if (!st)
        st = judge(&record, &truth, out, err);
    truth_release(&truth);
    run_record_release(&record);
    mem_free(path);
    return st;
}

static enum status demo(struct cli *cli, const char *dir, const struct recipe_args *args, int fresh,
                        struct error *err)
{
    char *path = text_format("%s/recipe.yaml", dir), *output = text_format("%s/out", dir);
    struct recipe recipe = {0};
    struct text summary = {0}, report = {0};
    struct pipeline_config config = {
        .recipe = &recipe,
        .output = output,
        .mode = fresh ? PIPELINE_FRESH : PIPELINE_RUN,
        .log = &cli->log,
        .kernels = &cli->kernels,
        .progress = cli_progress,
        .progress_context = cli,
        .render = report_html,
    };
    enum status st = path && output ? write_demo(dir, fresh, &cli->log, err) : error_nomem(err);

    if (!st)
        st = recipe_args_load(&recipe, path, args, err);
    if (!st)
        st = cli_start_workers(cli, recipe.resources.threads, err);
    if (!st) {
        config.workers = cli->workers;
        st = pipeline_run(&config, &summary, &report, err);
        cli_progress_end(cli);
        if (st == STATUS_CONFLICT && err)
            error_set(err, st,
                      "%s holds a run of another recipe or one at work: name another folder, saerl "
                      "demo DIR, or replace it with --fresh",
                      output);
    }
    if (!st)
        st = cli_append_summary(cli, &report, &summary, err);
    if (!st)
        st = judge_run(dir, output, &summary, err);
    if (!st) {
        text_appendf(&summary,
                     "\nreport        %s/report.%s\nnext          saerl explain %s task-00006\n",
                     output, recipe.output.report & REPORT_HTML ? "html" : "json", output);
        st = cli_write(NULL, &summary, err);
    }
    text_release(&summary);
    text_release(&report);
    recipe_release(&recipe);
    mem_free(path);
    mem_free(output);
    return st;
}

static enum status demo_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                             struct error *err)
{
    const char **dir = mem_alloc((size_t)argc + 1, sizeof(*dir));
    enum option_outcome outcome;
    struct recipe_args args;
    int fresh = 0;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"set", 0, OPTION_REPEAT, &args.set, "a.b=v", NULL, "set a key of the demo's recipe"},
        {"fresh", 0, OPTION_FLAG, &fresh, NULL, NULL, "replace a run that is there"},
        {0},
    };

    if (!st && !dir)
        st = error_nomem(err);
    if (!st) {
        dir[0] = "saerl-demo";
        st = options_parse(cli, verb, rows, argc, argv, dir, 0, 1, &outcome, err);
    }
    if (!st && outcome == OPTIONS_GO) {
        st = cli_start(cli, err);
        if (!st)
            st = demo(cli, dir[0], &args, fresh, err);
    }
    recipe_args_release(&args);
    mem_free(dir);
    return st;
}

const struct verb verb_demo = {
    .name = "demo",
    .usage = "[DIR] [--set a.b=v] [--fresh]",
    .summary = "write a small real data set into DIR, run it, tell where the results are",
    .run = demo_verb,
};
