#include "tests/support/audit_sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "tests/support/cmocka_headers.h"

#define D_SAE 8
#define K 3

static struct span append(struct text *text, const char *s)
{
    struct span span = {text->length, strlen(s)};

    text_append(text, s);
    return span;
}

static void make_rows(struct run *run, size_t n)
{
    struct dataset *data = &run->data;

    data->samples = mem_zalloc(n, sizeof(*data->samples));
    run->verdicts = mem_zalloc(n, sizeof(*run->verdicts));
    assert_true(data->samples && run->verdicts);
    data->n = data->n_id = data->n_source = data->n_rewards = data->rows_total = n;
    for (size_t i = 0; i < n; i++) {
        struct sample *s = &data->samples[i];
        char *id = text_format("\"r%zu\"", i);

        assert_non_null(id);
        s->id = append(&data->text, id);
        s->source = append(&data->text, i % 2 ? "odd" : "even");
        s->prompt.begin = data->text.length;
        for (size_t word = 0; word < 1 + i % 5; word++)
            text_appendf(&data->text, "%sw%zu", word ? " " : "", i);
        s->prompt.length = data->text.length - s->prompt.begin;
        s->key = hash64(data->text.data + s->prompt.begin, s->prompt.length, 0);
        s->quality = s->difficulty = NAN;
        s->pass_rate = (double)(i % 5) / 4;
        s->n_rewards = 4;
        s->prompt_hash = hash128(data->text.data + s->prompt.begin, s->prompt.length);
        run->verdicts[i] = (struct verdict){.stage = STAGE_PLAN,
                                            .partner = NO_ROW,
                                            .nearest = NO_ROW,
                                            .value = NAN,
                                            .threshold = NAN};
        mem_free(id);
    }
    assert_false(data->text.failed);
}

static void make_features(struct run *run, size_t n)
{
    struct features *f = &run->features;

    *f = (struct features){
        .rows = n,
        .d_sae = D_SAE,
        .indptr = mem_alloc(n + 1, sizeof(*f->indptr)),
        .indices = mem_alloc(2 * n, sizeof(*f->indices)),
        .values = mem_alloc(2 * n, sizeof(*f->values)),
        .tokens_used = mem_alloc(n, sizeof(*f->tokens_used)),
        .recon_mean = mem_alloc(n, sizeof(*f->recon_mean)),
        .sae_hash = mem_strdup("00112233445566778899aabbccddeeff"),
    };
    run->has_vector = mem_alloc(n, 1);
    run->outcome = mem_zalloc(n, 1);
    assert_true(f->indptr && f->indices && f->values && f->tokens_used && f->recon_mean &&
                f->sae_hash && run->has_vector && run->outcome);
    f->indptr[0] = 0;
    for (size_t i = 0; i < n; i++) {
        f->indptr[i + 1] = (int64_t)(2 * i + 2);
        f->indices[2 * i] = 0;
        f->indices[2 * i + 1] = (uint32_t)(1 + i % (D_SAE - 1));
        f->values[2 * i] = f->values[2 * i + 1] = 1;
        f->tokens_used[i] = (uint32_t)(2 + i % 3);
        f->recon_mean[i] = (float)i / (2 * (float)n);
        run->has_vector[i] = 1;
    }
}

static void make_scores(struct run *run, size_t n)
{
    run->quality.values = mem_alloc(n, sizeof(double));
    run->difficulty.values = mem_alloc(n, sizeof(double));
    run->cluster = mem_alloc(n, sizeof(*run->cluster));
    run->similarity = mem_zalloc(n, sizeof(*run->similarity));
    assert_true(run->quality.values && run->difficulty.values && run->cluster && run->similarity);
    run->quality.active = run->difficulty.active = true;
    run->quality.source = run->difficulty.source = "fit";
    for (size_t i = 0; i < n; i++) {
        run->quality.values[i] = (double)i / (double)n;
        run->difficulty.values[i] = (double)(i + 1) / (double)n;
        run->cluster[i] = (uint32_t)(i % K);
    }
    run->clusters.n = n;
    run->clusters.k = K;
    run->clusters.effective = K;
    run->clusters.converged = true;
    run->clusters.source_nmi = 0;
}

static void make_plan(struct run *run, size_t n, uint32_t size)
{
    struct plan_row *rows = mem_alloc(n, sizeof(*rows));
    const struct plan_config config = {
        .size = size, .order = PLAN_EASY_TO_HARD, .grouping = PLAN_GROUP_NONE};

    run->position = mem_alloc(n, sizeof(*run->position));
    run->batch = mem_alloc(n, sizeof(*run->batch));
    assert_true(rows && run->position && run->batch);
    for (size_t i = 0; i < n; i++) {
        rows[i] = (struct plan_row){.row = i, .cluster = run->cluster[i]};
        assert_int_equal(plan_difficulty(&rows[i].difficulty, run->difficulty.values[i], NULL),
                         STATUS_OK);
        run->position[i] = i;
        run->batch[i] = (uint32_t)(i / size);
    }
    assert_int_equal(batch_plan_make(&run->plan, rows, n, &config, 0, NULL), STATUS_OK);
    run->order_used = PLAN_EASY_TO_HARD;
    mem_free(rows);
}

static void rank_sources(struct audit *audit, size_t n)
{
    audit->source_of = mem_alloc(n, sizeof(*audit->source_of));
    assert_non_null(audit->source_of);
    audit->n_sources = n > 1 ? 2 : n;
    for (size_t i = 0; i < n; i++) {
        audit->source_of[i] = (uint32_t)(i % 2);
        audit->source_names[i % 2] = audit->run->data.samples[i].source;
        audit->source_rows[i % 2]++;
    }
}

void audit_sample_init(struct audit_sample *sample, size_t n, uint32_t size)
{
    struct run *run = &sample->run;

    *sample = (struct audit_sample){0};
    assert_int_equal(recipe_init(&sample->recipe, NULL), STATUS_OK);
    sample->recipe.batches.size = size;
    run->recipe = &sample->recipe;
    run->folder = &sample->folder;
    run->quality_threshold = run->window[0] = run->window[1] = NAN;
    make_rows(run, n);
    make_features(run, n);
    make_scores(run, n);
    make_plan(run, n, size);
    sample->audit.run = run;
    rank_sources(&sample->audit, n);
    assert_int_equal(audit_measure_texts(&sample->audit, NULL), STATUS_OK);
}

void audit_sample_forget_vectors(struct audit_sample *sample)
{
    struct run *run = &sample->run;

    features_release(&run->features);
    batch_plan_release(&run->plan);
    run->folder = NULL;
    run->quality.active = run->difficulty.active = false;
    run->quality.source = run->difficulty.source = NULL;
    run->clusters.n = run->clusters.k = 0;
    run->order_used = PLAN_NONE;
    for (size_t i = 0; i < run->data.n; i++) {
        run->has_vector[i] = 0;
        run->quality.values[i] = run->difficulty.values[i] = NAN;
        run->cluster[i] = run->batch[i] = PLAN_NO_CLUSTER;
        run->position[i] = NO_ROW;
    }
}

void audit_sample_forget_findings(struct audit_sample *sample)
{
    findings_release(&sample->audit.findings);
    text_release(&sample->audit.measures);
}

void audit_sample_release(struct audit_sample *sample)
{
    audit_release(&sample->audit);
    run_release(&sample->run);
    recipe_release(&sample->recipe);
}

struct json *audit_sample_print(struct audit_sample *sample, audit_section *section)
{
    struct text out = {0};
    struct json *root;
    struct error err = {0};

    if (section(&sample->audit, &out, &err) != STATUS_OK)
        fail_msg("%s", err.message);
    if (json_parse(&root, text_string(&out), out.length, NULL, &err) != STATUS_OK)
        fail_msg("%s: %s", err.message, text_string(&out));
    text_release(&out);
    return root;
}

void audit_sample_fail_allocations(struct audit_sample *sample, audit_section *section)
{
    bool failed = true;

    for (size_t n = 0; failed; n++) {
        struct text out = {0};
        struct error err = {0};
        enum status st;

        audit_sample_forget_findings(sample);
        mem_fail_after(n);
        st = section(&sample->audit, &out, &err);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        if (!st && failed)
            st = out.failed || sample->audit.measures.failed ? STATUS_NOMEM : STATUS_OK;
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        text_release(&out);
    }
}

const struct json *audit_sample_at(const struct json *root, const char *path)
{
    while (root && *path) {
        size_t n = strcspn(path, ".");
        char key[64];

        assert_true(n < sizeof(key));
        memcpy(key, path, n);
        key[n] = '\0';
        root = json_type(root) == JSON_ARRAY ? json_element(root, strtoul(key, NULL, 10))
                                             : json_member(root, key);
        path += n + (path[n] == '.');
    }
    return root;
}

double audit_sample_number(const struct json *root, const char *path)
{
    return json_double(audit_sample_at(root, path));
}

void audit_sample_is_text(const struct json *root, const char *path, const char *text)
{
    size_t n;
    const char *s = json_string(audit_sample_at(root, path), &n);

    assert_non_null(s);
    assert_string_equal(s, text);
}
