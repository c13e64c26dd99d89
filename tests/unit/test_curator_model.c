#include "curator/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/text.h"
#include "curator/batch_plan.h"
#include "curator/curate.h"
#include "curator/feature_view.h"
#include "curator/ledger.h"
#include "curator/model_file.h"
#include "curator/pipeline.h"
#include "formats/atomic_file.h"
#include "formats/features.h"
#include "formats/safetensors.h"
#include "linalg/cpu.h"
#include "scoring/probe.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_sample.h"
#include "tests/support/scratch.h"

#define BATCH ((size_t)16)

enum {
    N = 150,
    D_SAE = 40,
    D_IN = 8,
    TOPICS = 4,
    PER_TOPIC = 8,
    ENTRIES = PER_TOPIC + 1, /* the topic's latents, and one that tells how hard a row is */
};

static struct kernels kernels;

static int setup(void **state)
{
    kernels_init(&kernels, cpu_detect());
    return scratch_setup(state);
}

/* Row 7 repeats row 3. One difficulty in two is known. */
static void write_data(const char *path, const char *first_prompt)
{
    struct text out = {0};

    for (int row = 0; row < N; row++) {
        int same = row == 7 ? 3 : row;

        text_appendf(&out, "{\"id\":\"t-%d\",\"prompt\":\"%s %d\"", row,
                     row ? "task" : first_prompt, same);
        if (row % 2)
            text_appendf(&out, ",\"difficulty\":%.3f", (same * 37 % N) / (double)N);
        text_append(&out, "}\n");
    }
    assert_int_equal(atomic_file_write_all(path, text_string(&out), out.length, NULL), STATUS_OK);
    text_release(&out);
}

static void write_features(const char *path, const char *sae_hash, size_t d_sae)
{
    static int64_t indptr[N + 1];
    static uint32_t indices[N * ENTRIES], tokens_used[N];
    static float values[N * ENTRIES], recon[N];
    char hash[HASH128_HEX_SIZE], pooling[] = "max";
    struct features features = {.rows = N,
                                .d_sae = d_sae,
                                .indptr = indptr,
                                .indices = indices,
                                .values = values,
                                .tokens_used = tokens_used,
                                .recon_mean = recon,
                                .recon_max = recon,
                                .pooling = pooling};
    struct rng rng;

    rng_init(&rng, 1, "test", 0);
    for (uint32_t row = 0; row < N; row++) {
        size_t at = (size_t)row * ENTRIES;

        indptr[row] = (int64_t)at;
        tokens_used[row] = 5 + row % 9;
        recon[row] = (float)(row % 31) / 31;
        for (uint32_t i = 0; i < PER_TOPIC; i++) {
            indices[at + i] = row % TOPICS * PER_TOPIC + i;
            values[at + i] = 1 + (float)rng_double(&rng);
        }
        indices[at + PER_TOPIC] = TOPICS * PER_TOPIC;
        values[at + PER_TOPIC] = 0.1F + 8 * (float)(row * 37 % N) / (float)N;
    }
    indptr[N] = N * ENTRIES;
    if (sae_hash) {
        snprintf(hash, sizeof(hash), "%s", sae_hash);
        features.sae_hash = hash;
    }
    assert_int_equal(features_write(&features, path, NULL), STATUS_OK);
}

static void set(struct recipe *recipe, const char *key, const char *value)
{
    struct error err = {0};

    if (settings_set(recipe_schema, recipe, key, value, (struct setting_origin){.word = "test"},
                     &err))
        fail_msg("%s", err.message);
}

/* A data set with ready-made features, in files whose names begin with `name`. */
static void make_recipe(struct recipe *recipe, const char *name)
{
    char file[64];
    const char *path;

    assert_int_equal(recipe_init(recipe, NULL), STATUS_OK);
    snprintf(file, sizeof(file), "%s.jsonl", name);
    path = scratch_path(file);
    write_data(path, "task");
    set(recipe, "input.data", path);
    snprintf(file, sizeof(file), "%s.features.safetensors", name);
    path = scratch_path(file);
    write_features(path, NULL, D_SAE);
    set(recipe, "input.features", path);
    set(recipe, "input.fields.difficulty", "difficulty");
    set(recipe, "difficulty.fit_labels", "field");
    set(recipe, "quality.probe", "recon");
    set(recipe, "clustering.clusters", "4");
    set(recipe, "batches.size", "16");
    set(recipe, "batches.drop_last", "true");
}

static enum status open_with(struct model *model, struct recipe *recipe, const char *state,
                             struct workers *workers, struct error *err)
{
    const struct model_config config = {
        .recipe = recipe, .state = state, .kernels = &kernels, .workers = workers};

    return model_open(model, &config, err);
}

static enum status open_state(struct model *model, struct recipe *recipe, const char *state,
                              struct error *err)
{
    return open_with(model, recipe, state, NULL, err);
}

/* Opened and closed again. */
static void must_open(struct recipe *recipe, const char *state)
{
    struct model model;
    struct error err = {0};

    if (open_state(&model, recipe, state, &err))
        fail_msg("%s", err.message);
    model_release(&model);
}

static void must_refuse(struct recipe *recipe, const char *state, enum status status,
                        const char *words)
{
    struct model model;
    struct error err = {0};

    assert_int_equal(open_state(&model, recipe, state, &err), status);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not say '%s'", err.message, words);
    assert_null(model.keys);
}

static void same_file(const char *a, const char *b)
{
    size_t n, m;
    char *x = scratch_read(a, &n), *y = scratch_read(b, &m);

    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static char *in_state(const char *state, const char *name)
{
    char *path = text_format("%s/%s", state, name);

    assert_non_null(path);
    return path;
}

static void a_model_is_what_the_run_found(void **unused)
{
    static const char *const files[] = {"kept.jsonl",       "batches.jsonl",
                                        "scores.jsonl",     "dropped.jsonl",
                                        "ids/kept.txt",     "ids/dropped.txt",
                                        "report.json",      "features.safetensors",
                                        "recipe.lock.yaml", "difficulty.probe.safetensors"};
    char *state = text_format("%s", scratch_path("found/state"));
    char *plain = text_format("%s", scratch_path("found/run"));
    struct recipe recipe;
    struct model model;
    struct text summary = {0};
    struct pipeline_config config = {.recipe = &recipe, .output = plain, .kernels = &kernels};
    struct stat info;
    size_t kept = 0;

    (void)unused;
    assert_int_equal(mkdir(scratch_path("found"), 0700), 0);
    make_recipe(&recipe, "found");
    set(&recipe, "output.dir", "elsewhere");
    set(&recipe, "serve.state", "elsewhere");
    assert_int_equal(open_state(&model, &recipe, state, NULL), STATUS_OK);
    assert_int_equal(stat(state, &info), 0);
    assert_true((info.st_mode & 0777) == 0700);

    /* The folder is that of `run`. */
    assert_int_equal(pipeline_run(&config, &summary, NULL, NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char *a = text_format("%s/dataset/%s", state, files[i]);
        char *b = text_format("%s/%s", plain, files[i]);

        same_file(a, b);
        mem_free(a);
        mem_free(b);
    }

    assert_true(model.has_dataset);
    assert_int_equal(model.rows, N);
    assert_int_equal(model.d_sae, D_SAE);
    assert_string_equal(model.pooling, "max");
    assert_string_equal(model.sae_hash, "");
    assert_int_equal(model.quality_source, MODEL_SCORE_RECON);
    assert_int_equal(model.difficulty_source, MODEL_SCORE_PROBE);
    assert_string_equal(model.difficulty.kind, "difficulty");
    assert_int_equal(model.k, TOPICS);
    assert_non_null(model.idf);
    assert_true(!isnan(model.quality_threshold));
    assert_true(isnan(model.window[0]) && isnan(model.window[1]));
    for (size_t row = 0; row < N; row++)
        kept += model.kept[row];
    /* Leftovers of drop_last are kept, and in no batch. */
    assert_int_equal(model.n_order, kept - kept % BATCH);
    assert_true(kept > model.n_order);
    assert_int_equal(model.reason[7], REASON_DUPLICATE);
    assert_int_equal(model.cluster_of[7], PLAN_NO_CLUSTER);
    assert_true(hash128_equal(model.prompts[7], model.prompts[3]));
    assert_string_equal(model.ids[12], "\"t-12\"");
    text_release(&summary);
    model_release(&model);
    recipe_release(&recipe);
    mem_free(state);
    mem_free(plain);
}

/* idf and centroids belong to the clusters: every row of S is nearest to its own. */
static void centroids_are_of_the_clusters(void **unused)
{
    struct recipe recipe;
    struct features features;
    struct model model;

    (void)unused;
    make_recipe(&recipe, "near");
    assert_int_equal(open_state(&model, &recipe, scratch_path("near"), NULL), STATUS_OK);
    assert_int_equal(model_features(&features, &model, scratch_path("near"), NULL), STATUS_OK);
    assert_int_equal(features.rows, N);
    for (size_t row = 0; row < N; row++) {
        double best = -1;
        uint32_t nearest = 0;

        if (model.cluster_of[row] == PLAN_NO_CLUSTER)
            continue;
        for (uint32_t c = 0; c < model.k; c++) {
            const float *centroid = matrix_view_row(matrix_as_view(&model.centroids), c);
            double sum = 0;

            for (int64_t i = features.indptr[row]; i < features.indptr[row + 1]; i++)
                sum += log1p((double)features.values[i]) * (double)model.idf[features.indices[i]] *
                       (double)centroid[features.indices[i]];
            if (sum > best) {
                best = sum;
                nearest = c;
            }
        }
        assert_int_equal(nearest, model.cluster_of[row]);
    }
    features_release(&features);
    model_release(&model);
    recipe_release(&recipe);
}

static void check_curated(const struct model *model, const struct curate_input *input,
                          const struct recipe *recipe, enum curate_rule rule)
{
    bool flag = recipe->quality.action == ACTION_FLAG;
    struct curate_result r;
    struct batch_plan plan;
    size_t flagged = 0;

    assert_int_equal(curate_score(&r, input, model, recipe, rule, &kernels, NULL, NULL), STATUS_OK);
    for (size_t row = 0; row < N; row++) {
        assert_memory_equal(&r.difficulty_exact[row], &model->difficulty_of[row], sizeof(double));
        assert_true(r.quality[row] == (float)model->quality_of[row]);
        if (model->cluster_of[row] != PLAN_NO_CLUSTER)
            assert_int_equal((uint32_t)r.cluster[row], model->cluster_of[row]);
        if (rule == CURATE_SCORE)
            continue;
        assert_int_equal((uint32_t)r.cluster[row], model->cluster_of[row]);
        assert_int_equal(r.keep[row], model->kept[row]);
        if (r.keep[row] && r.reason[row] == REASON_LOW_QUALITY) {
            flagged++; /* a run notes that beside the reason */
            assert_int_equal(model->reason[row], REASON_NONE);
            continue;
        }
        assert_int_equal(r.reason[row], model->reason[row]);
    }
    if (rule == CURATE_FILTER) {
        assert_int_equal(flagged > 0, flag);
        assert_int_equal(curate_plan(&plan, input, &r, recipe, NULL), STATUS_OK);
        assert_int_equal(plan.batches[plan.n_batches - 1].end, model->n_order);
        assert_memory_equal(plan.order, model->order, model->n_order * sizeof(*plan.order));
        batch_plan_release(&plan);
    }
    curate_result_release(&r);
}

/* The data set as one request: what the run found, to the bit, in both of its metrics. */
static void the_data_set_as_a_request_is_curated_as_the_run_did(void **unused)
{
    static const char *const names[] = {"again", "flagged"};

    (void)unused;
    for (size_t variant = 0; variant < 2; variant++) {
        size_t counts[REASON_COUNT] = {0};
        struct curate_input input;
        struct features features;
        struct recipe recipe;
        struct model model;

        make_recipe(&recipe, names[variant]);
        set(&recipe, "difficulty.window", "[0.05, 0.9]");
        set(&recipe, "dedup.sae.enabled", "true");
        set(&recipe, "dedup.sae.cosine", "0.993");
        set(&recipe, "quality.max_drop_per_cluster", "0.1");
        if (variant) {
            set(&recipe, "quality.action", "flag");
            set(&recipe, "clustering.metric", "euclidean");
            set(&recipe, "clustering.idf", "false");
        }
        assert_int_equal(open_state(&model, &recipe, scratch_path(names[variant]), NULL),
                         STATUS_OK);
        assert_int_equal(model_features(&features, &model, scratch_path(names[variant]), NULL),
                         STATUS_OK);
        for (size_t row = 0; row < N; row++)
            counts[model.reason[row]]++;
        assert_true(counts[REASON_DUPLICATE] && counts[REASON_SAE_DUPLICATE] &&
                    counts[REASON_DIFFICULTY_WINDOW]);
        assert_int_equal(counts[REASON_LOW_QUALITY] > 0, variant == 0);
        input = (struct curate_input){
            .x = feature_view(&features),
            .tokens_used = features.tokens_used,
            .recon_mean = features.recon_mean,
            .recon_max = features.recon_max,
            .prompts = model.prompts,
        };
        check_curated(&model, &input, &recipe, CURATE_SCORE);
        check_curated(&model, &input, &recipe, CURATE_FILTER);
        features_release(&features);
        model_release(&model);
        recipe_release(&recipe);
    }
}

static void a_second_start_loads_and_writes_nothing(void **unused)
{
    char *model_path = in_state(scratch_path("second"), "model.safetensors");
    char *folder = in_state(scratch_path("second"), "dataset");
    char *copy = text_format("%s", scratch_path("second.copy"));
    struct recipe recipe;
    struct model model;
    struct stat before, after;

    (void)unused;
    make_recipe(&recipe, "second");
    must_open(&recipe, scratch_path("second"));
    assert_int_equal(stat(model_path, &before), 0);

    /* What plan and scores do not depend on may change. */
    set(&recipe, "serve.bind", "tcp://127.0.0.1:5555");
    set(&recipe, "serve.epochs", "3");
    set(&recipe, "online.target", "thompson");
    set(&recipe, "metrics.listen", "127.0.0.1:9464");
    set(&recipe, "resources.threads", "3");
    set(&recipe, "output.dir", "elsewhere");
    set(&recipe, "name", "another");
    assert_int_equal(open_state(&model, &recipe, scratch_path("second"), NULL), STATUS_OK);
    assert_int_equal(stat(model_path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    /* What was loaded is what was written. */
    assert_int_equal(model_save(&model, copy, NULL), STATUS_OK);
    same_file(model_path, copy);
    model_release(&model);

    /* The plan is served without its folder, which is not made again; only refits miss it. */
    assert_int_equal(directory_remove(folder, NULL), STATUS_OK);
    must_open(&recipe, scratch_path("second"));
    assert_int_not_equal(access(folder, F_OK), 0);
    recipe_release(&recipe);
    mem_free(model_path);
    mem_free(folder);
    mem_free(copy);
}

static void another_recipe_is_a_conflict(void **unused)
{
    char *state = text_format("%s", scratch_path("other"));
    char *model = in_state(state, "model.safetensors");
    struct recipe recipe;
    struct stat before, after;
    char hex[2][HASH128_HEX_SIZE];
    struct hash128 hash;

    (void)unused;
    make_recipe(&recipe, "other");
    must_open(&recipe, state);
    assert_int_equal(stat(model, &before), 0);

    set(&recipe, "clustering.clusters", "5");
    must_refuse(&recipe, state, STATUS_CONFLICT, "clustering.clusters was 4, now 5");
    must_refuse(&recipe, state, STATUS_CONFLICT, "name a new folder");
    set(&recipe, "clustering.clusters", "4");
    set(&recipe, "batches.order", "random");
    must_refuse(&recipe, state, STATUS_CONFLICT, "batches.order was easy_to_hard, now random");
    set(&recipe, "batches.order", "easy_to_hard");
    must_open(&recipe, state);

    assert_int_equal(hash_file(&hash, NULL, recipe.input.data.items[0], NULL), STATUS_OK);
    hash128_hex(hash, hex[0]);
    write_data(recipe.input.data.items[0], "mask"); /* of the same size */
    assert_int_equal(hash_file(&hash, NULL, recipe.input.data.items[0], NULL), STATUS_OK);
    hash128_hex(hash, hex[1]);
    must_refuse(&recipe, state, STATUS_CONFLICT, hex[0]);
    must_refuse(&recipe, state, STATUS_CONFLICT, hex[1]);
    must_refuse(&recipe, state, STATUS_CONFLICT, "input.data");
    write_data(recipe.input.data.items[0], "task");
    must_open(&recipe, state);

    assert_int_equal(stat(model, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    string_list_release(&recipe.input.data);
    set(&recipe, "input.features", "null");
    set(&recipe, "difficulty.fit_labels", "null");
    must_refuse(&recipe, state, STATUS_CONFLICT, "serves a data set");
    recipe_release(&recipe);
    mem_free(model);
    mem_free(state);
}

/* It would be the state of neither from then on. */
static void the_ledger_of_another_recipe_gets_no_model(void **unused)
{
    char *state = text_format("%s", scratch_path("pool"));
    char *model = text_format("%s/model.safetensors", state);
    char *ledger_file = text_format("%s/ledger.db", state);
    char hex[HASH128_HEX_SIZE];
    struct ledger_identity identity = {
        .config_hash = "0123456789abcdef0123456789abcdef",
        .recipe = "version: 1\n",
        .sae_hash = "",
        .dataset = "",
    };
    struct ledger *ledger;
    struct error err = {0};
    struct recipe recipe;
    struct model opened;
    bool other = true;

    (void)unused;
    make_recipe(&recipe, "beside");
    must_open(&recipe, scratch_path("beside"));
    assert_int_equal(open_state(&opened, &recipe, scratch_path("beside"), NULL), STATUS_OK);
    hash128_hex(opened.fingerprint, hex);
    model_release(&opened);

    assert_int_equal(ledger_open(&ledger, state, &identity, LEDGER_WRITE, NULL, NULL), STATUS_OK);
    must_refuse(&recipe, state, STATUS_CONFLICT, "serves what was SUBMITted");
    ledger_close(ledger);
    must_refuse(&recipe, state, STATUS_CONFLICT, "name a new folder");
    assert_int_not_equal(access(model, F_OK), 0);

    /* Its own is no reason: the model was removed, and is made again. */
    assert_int_equal(unlink(ledger_file), 0);
    assert_int_equal(unlink(scratch_path("pool/ledger.mark")), 0);
    identity.config_hash = hex;
    assert_int_equal(ledger_open(&ledger, state, &identity, LEDGER_WRITE, NULL, NULL), STATUS_OK);
    ledger_close(ledger);
    must_open(&recipe, state);
    assert_int_equal(access(model, F_OK), 0);

    /* What cannot be read is told by who opens it to write. */
    assert_int_equal(unlink(model), 0);
    assert_int_equal(truncate(ledger_file, 5000), 0);
    assert_int_equal(ledger_look(state, "", &other, &err), STATUS_OK);
    assert_false(other);
    assert_int_equal(err.message[0], '\0');
    recipe_release(&recipe);
    mem_free(ledger_file);
    mem_free(model);
    mem_free(state);
}

static void a_moved_input_is_the_same(void **unused)
{
    char *moved = text_format("%s", scratch_path("moved.somewhere.jsonl"));
    struct recipe recipe;

    (void)unused;
    make_recipe(&recipe, "moved");
    must_open(&recipe, scratch_path("moved"));
    assert_int_equal(rename(recipe.input.data.items[0], moved), 0);
    set(&recipe, "input.data", moved);
    must_open(&recipe, scratch_path("moved"));
    recipe_release(&recipe);
    mem_free(moved);
}

/* A build that fails at its very end; what it computed is there for the next. */
static void an_interrupted_build_resumes(void **unused)
{
    char *state = text_format("%s", scratch_path("resumed"));
    char *in_the_way = in_state(state, "recipe.lock.yaml");
    char *model = in_state(state, "model.safetensors");
    char *whole = text_format("%s/model.safetensors", scratch_path("whole"));
    char *manifest = in_state(state, "dataset/manifest.json");
    struct recipe recipe;
    char *text;
    size_t n;

    (void)unused;
    make_recipe(&recipe, "resumed");
    must_open(&recipe, scratch_path("whole"));
    assert_int_equal(mkdir(state, 0700), 0);
    assert_int_equal(mkdir(in_the_way, 0700), 0);
    must_refuse(&recipe, state, STATUS_IO, "recipe.lock.yaml");
    assert_int_not_equal(access(model, F_OK), 0);
    assert_int_equal(rmdir(in_the_way), 0);
    must_open(&recipe, state);
    text = scratch_read(manifest, &n);
    assert_non_null(strstr(text, "\"stage\":\"clusters\",\"seconds\":"));
    assert_non_null(strstr(text, "\"resumed\":true"));
    free(text);
    same_file(model, whole);
    recipe_release(&recipe);
    mem_free(state);
    mem_free(in_the_way);
    mem_free(model);
    mem_free(whole);
    mem_free(manifest);
}

/* Killed between the model and the folder's last name. */
static void a_folder_that_is_all_but_whole_is_made_whole(void **unused)
{
    char *state = text_format("%s", scratch_path("killed"));
    char *model = in_state(state, "model.safetensors");
    char *folder = in_state(state, "dataset"), *partial = in_state(state, "dataset.partial");
    struct recipe recipe;
    struct stat before, after;

    (void)unused;
    make_recipe(&recipe, "killed");
    must_open(&recipe, state);
    assert_int_equal(stat(model, &before), 0);
    assert_int_equal(rename(folder, partial), 0);
    must_open(&recipe, state);
    assert_int_equal(access(folder, F_OK), 0);
    assert_int_not_equal(access(partial, F_OK), 0);
    assert_int_equal(stat(model, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    /* The other way round cannot have been a crash. */
    assert_int_equal(unlink(model), 0);
    must_refuse(&recipe, state, STATUS_CONFLICT, "finished run without");
    set(&recipe, "clustering.clusters", "5");
    must_refuse(&recipe, state, STATUS_CONFLICT, "name a new state folder");
    recipe_release(&recipe);
    mem_free(state);
    mem_free(model);
    mem_free(folder);
    mem_free(partial);
}

static void threads_do_not_change_a_bit(void **unused)
{
    char *one = text_format("%s/model.safetensors", scratch_path("one"));
    char *three = text_format("%s/model.safetensors", scratch_path("three"));
    struct workers *workers = NULL;
    struct recipe recipe;
    struct model model;

    (void)unused;
    make_recipe(&recipe, "threads");
    must_open(&recipe, scratch_path("one"));
    assert_int_equal(workers_new(&workers, 3, NULL, NULL), STATUS_OK);
    assert_int_equal(open_with(&model, &recipe, scratch_path("three"), workers, NULL), STATUS_OK);
    same_file(one, three);
    model_release(&model);
    workers_free(workers);
    recipe_release(&recipe);
    mem_free(one);
    mem_free(three);
}

static void a_damaged_model_is_refused(void **unused)
{
    char *state = text_format("%s", scratch_path("damaged"));
    char *path = in_state(state, "model.safetensors");
    struct recipe recipe;
    struct model model;
    size_t n, header = 0;
    char *bytes;

    (void)unused;
    make_recipe(&recipe, "damaged");
    must_open(&recipe, state);
    bytes = scratch_read(path, &n);
    for (size_t i = 0; i < 8; i++)
        header |= (size_t)(unsigned char)bytes[i] << 8 * i;
    assert_true(header + 8 < n);
    for (size_t i = 0; i < n; i += i < header + 8 ? 1 : 41) {
        bytes[i] ^= (char)(1 << i % 8);
        scratch_file("flipped", bytes, n);
        if (model_load(&model, scratch_path("flipped"), NULL) == STATUS_OK)
            fail_msg("byte %zu of %zu is not looked at", i, n);
        assert_null(model.keys);
        bytes[i] ^= (char)(1 << i % 8);
    }
    for (size_t i = 0; i < n; i += 1 + i / 7) {
        scratch_file("cut", bytes, i);
        assert_int_not_equal(model_load(&model, scratch_path("cut"), NULL), STATUS_OK);
    }
    scratch_file("sound", bytes, n);
    assert_int_equal(model_load(&model, scratch_path("sound"), NULL), STATUS_OK);
    model_release(&model);

    bytes[n - 1] ^= 1;
    assert_int_equal(atomic_file_write_all(path, bytes, n, NULL), STATUS_OK);
    must_refuse(&recipe, state, STATUS_FORMAT, "damaged");
    free(bytes);
    recipe_release(&recipe);
    mem_free(path);
    mem_free(state);
}

static void nothing_leaks_when_memory_is_short(void **unused)
{
    struct recipe recipe;
    enum status st = STATUS_NOMEM;
    struct model model;

    (void)unused;
    make_recipe(&recipe, "nomem");
    must_open(&recipe, scratch_path("nomem"));
    for (size_t n = 0; st; n++) {
        char *state = text_format("%s", scratch_path("nomem"));

        mem_fail_after(n);
        st = open_state(&model, &recipe, state, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        assert_true(st == STATUS_OK || !model.keys);
        assert_true(n < 5000);
        mem_free(state);
    }
    model_release(&model);
    recipe_release(&recipe);
}

/* Wherever a first start fails, the next one goes on; what comes out is the same. */
static void a_build_short_of_memory_can_be_gone_on_with(void **unused)
{
    char *state = text_format("%s", scratch_path("short"));
    char *path = in_state(state, "model.safetensors");
    char *whole = text_format("%s/model.safetensors", scratch_path("short.whole"));
    char *copy = text_format("%s", scratch_path("short.copy"));
    enum status st = STATUS_NOMEM;
    struct recipe recipe;
    struct model model;
    struct error err = {0};

    (void)unused;
    make_recipe(&recipe, "short");
    for (size_t n = 0; st; n += 1 + n / 8) {
        mem_fail_after(n);
        st = open_state(&model, &recipe, state, &err);
        mem_fail_after(SIZE_MAX);
        if (st != STATUS_OK && st != STATUS_NOMEM)
            fail_msg("allocation %zu: %s", n, err.message);
        assert_true(n < 1000000);
    }
    model_release(&model);
    assert_int_equal(open_state(&model, &recipe, scratch_path("short.whole"), NULL), STATUS_OK);
    same_file(path, whole);

    st = STATUS_NOMEM;
    for (size_t n = 0; st; n++) {
        mem_fail_after(n);
        st = model_save(&model, copy, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        if (access(copy, F_OK) == 0) /* whole, or not there */
            same_file(copy, whole);
    }
    same_file(copy, whole);
    model_release(&model);
    recipe_release(&recipe);
    mem_free(state);
    mem_free(path);
    mem_free(whole);
    mem_free(copy);
}

/* In the layout of circuit_tracer; the file's path. */
static const char *write_sae(const char *folder, size_t d_sae)
{
    static float weights[2 * D_SAE * D_IN], bias[2 * D_SAE];
    const struct shape matrix = {2, {d_sae, D_IN}};
    const struct safetensors_item items[] = {
        {"W_enc", DTYPE_F32, matrix, weights},
        {"W_dec", DTYPE_F32, matrix, weights},
        {"b_enc", DTYPE_F32, {1, {d_sae}}, bias},
        {"b_dec", DTYPE_F32, {1, {D_IN}}, bias},
    };
    char name[64];
    const char *path;
    struct rng rng;

    rng_init(&rng, d_sae, folder, 0);
    for (size_t i = 0; i < d_sae * D_IN; i++)
        weights[i] = (float)rng_double(&rng) - 0.5F;
    assert_int_equal(directory_make(scratch_path(folder), NULL), STATUS_OK);
    snprintf(name, sizeof(name), "%s/layer_3.safetensors", folder);
    path = scratch_path(name);
    assert_int_equal(safetensors_write(path, items, 4, NULL, 0, NULL), STATUS_OK);
    return path;
}

static void ready_features_must_be_of_the_sae(void **unused)
{
    struct recipe recipe;
    struct model model;
    char hex[HASH128_HEX_SIZE], other[] = "00112233445566778899aabbccddeeff";
    struct hash128 hash;
    char *path = text_format("%s", write_sae("sae", D_SAE));

    (void)unused;
    make_recipe(&recipe, "ready");
    set(&recipe, "sae.path", scratch_path("sae"));
    assert_int_equal(hash_file(&hash, NULL, path, NULL), STATUS_OK);
    hash128_hex(hash, hex);

    write_features(recipe.input.features, other, D_SAE);
    must_refuse(&recipe, scratch_path("ready"), STATUS_INVALID, other);
    must_refuse(&recipe, scratch_path("ready"), STATUS_INVALID, hex);
    write_features(recipe.input.features, NULL, D_SAE + 1);
    must_refuse(&recipe, scratch_path("ready"), STATUS_INVALID, "has 41 latents");
    write_features(recipe.input.features, hex, D_SAE);
    assert_int_equal(open_state(&model, &recipe, scratch_path("ready"), NULL), STATUS_OK);
    assert_string_equal(model.sae_hash, hex);
    assert_non_null(model.formula);
    model_release(&model);

    /* Scores of requests are by the SAE: another one is a conflict even with ready features. */
    write_features(recipe.input.features, NULL, D_SAE);
    must_open(&recipe, scratch_path("ready.unknown"));
    write_sae("sae2", D_SAE);
    set(&recipe, "sae.path", scratch_path("sae2"));
    must_refuse(&recipe, scratch_path("ready.unknown"), STATUS_CONFLICT, "sae: hash");
    recipe_release(&recipe);
    mem_free(path);
}

static void activations_are_encoded_once(void **unused)
{
    static float x[2 * N * D_IN];
    static int64_t offsets[N + 1];
    struct activations_sample sample = {.x = x,
                                        .n_tokens = (size_t)2 * N,
                                        .d_in = D_IN,
                                        .dtype = DTYPE_F32,
                                        .offsets = offsets,
                                        .n_samples = N};
    struct recipe recipe;
    struct features features;
    struct model model;
    struct rng rng;

    (void)unused;
    rng_init(&rng, 5, "test", 0);
    activations_sample_fill(&rng, x, (size_t)2 * N, D_IN);
    for (int row = 0; row <= N; row++)
        offsets[row] = 2 * row;
    make_recipe(&recipe, "encoded");
    write_sae("sae", D_SAE);
    set(&recipe, "sae.path", scratch_path("sae"));
    set(&recipe, "input.features", "null");
    set(&recipe, "input.activations", activations_sample_write("a.safetensors", &sample));
    set(&recipe, "difficulty.fit_labels", "null");
    set(&recipe, "controls.difficulty", "length");
    set(&recipe, "quality.probe", "null");
    set(&recipe, "difficulty.window", "[0, 0.9]");
    assert_int_equal(open_state(&model, &recipe, scratch_path("encoded"), NULL), STATUS_OK);
    assert_int_equal(model.reference.tokens, 2 * N);
    assert_true(model.reference.median_norm > 0 && model.reference.variance > 0);
    assert_string_equal(model.pooling, "max");
    assert_int_equal(strlen(model.sae_hash), HASH128_HEX_SIZE - 1);
    assert_int_equal(model.quality_source, MODEL_SCORE_NONE);
    assert_int_equal(model.difficulty_source, MODEL_SCORE_LENGTH);
    assert_true(model.window[0] == 2 && model.window[1] == 2);
    assert_false(model.pooled_input);

    assert_int_equal(model_features(&features, &model, scratch_path("encoded"), NULL), STATUS_OK);
    assert_int_equal(features.rows, N);
    features_release(&features);
    model_release(&model);
    recipe_release(&recipe);
}

/* The last bit of a value: still a number, and one that nobody would notice. */
static void features_that_changed_on_disk_are_refused(void **unused)
{
    struct recipe recipe;
    struct features features;
    struct error err = {0};
    struct model model;
    char path[512];
    FILE *file;
    int byte;

    (void)unused;
    make_recipe(&recipe, "other_features");
    assert_int_equal(open_state(&model, &recipe, scratch_path("other_features"), NULL), STATUS_OK);
    snprintf(path, sizeof(path), "%s/dataset/features.safetensors", scratch_path("other_features"));
    file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -100, SEEK_END), 0);
    byte = fgetc(file);
    assert_int_equal(fseek(file, -100, SEEK_END), 0);
    assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(model_features(&features, &model, scratch_path("other_features"), &err),
                     STATUS_FORMAT);
    assert_non_null(strstr(err.message, "features.safetensors: XXH3-128"));
    assert_non_null(strstr(err.message, model.features));
    assert_int_equal(features.rows, 0);
    model_release(&model);
    recipe_release(&recipe);
}

static void write_probe(const char *path, const char *kind, size_t d_sae)
{
    uint32_t columns[] = {1, 3};
    double weights[] = {0.5, -1};
    char word[16];
    struct probe probe = {.model = PROBE_RIDGE,
                          .d_sae = d_sae,
                          .columns = columns,
                          .weights = weights,
                          .n_columns = 2,
                          .nonzero = 2,
                          .folds = 5,
                          .max_df = 1,
                          .kind = word};

    snprintf(word, sizeof(word), "%s", kind);
    assert_int_equal(probe_save(&probe, path, NULL), STATUS_OK);
}

static void without_a_data_set_there_are_probes(void **unused)
{
    static const char *const keys[] = {"input.activations", "input.features", "quality.fit_labels",
                                       "difficulty.fit_labels", "decontaminate.against"};
    char *quality = text_format("%s", scratch_path("q.probe.safetensors"));
    char *difficulty = text_format("%s", scratch_path("d.probe.safetensors"));
    char *file = in_state(scratch_path("probes"), "model.safetensors");
    struct recipe recipe;
    struct model model;

    (void)unused;
    write_probe(quality, "quality", D_SAE);
    write_probe(difficulty, "difficulty", D_SAE);
    write_sae("sae", D_SAE);
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        assert_int_equal(recipe_init(&recipe, NULL), STATUS_OK);
        set(&recipe, keys[i], quality);
        must_refuse(&recipe, scratch_path("probes"), STATUS_INVALID, keys[i]);
        recipe_release(&recipe);
    }
    assert_int_equal(recipe_init(&recipe, NULL), STATUS_OK);
    must_open(&recipe, scratch_path("probes")); /* nothing at all: pool, then plan */
    set(&recipe, "quality.probe", quality);
    set(&recipe, "difficulty.probe", difficulty);
    assert_int_equal(open_state(&model, &recipe, scratch_path("probes"), NULL), STATUS_OK);
    assert_false(model.has_dataset);
    assert_int_equal(model.d_sae, D_SAE);
    assert_int_equal(model.quality_source, MODEL_SCORE_PROBE);
    assert_int_equal(model.quality.n_columns, 2);
    assert_int_equal(model.difficulty_source, MODEL_SCORE_PROBE);
    assert_true(isnan(model.quality_threshold) != 0);
    assert_int_not_equal(access(file, F_OK), 0);
    model_release(&model);

    set(&recipe, "sae.path", scratch_path("sae"));
    assert_int_equal(open_state(&model, &recipe, scratch_path("probes"), NULL), STATUS_OK);
    assert_int_equal(strlen(model.sae_hash), HASH128_HEX_SIZE - 1);
    assert_string_equal(model.pooling, "max");
    model_release(&model);

    write_probe(difficulty, "difficulty", D_SAE + 1);
    must_refuse(&recipe, scratch_path("probes"), STATUS_INVALID, "difficulty.probe");
    set(&recipe, "sae.path", "null");
    must_refuse(&recipe, scratch_path("probes"), STATUS_INVALID, "difficulty.probe");
    write_probe(difficulty, "quality", D_SAE);
    must_refuse(&recipe, scratch_path("probes"), STATUS_INVALID, "holds a quality probe");
    set(&recipe, "quality.probe", "recon");
    set(&recipe, "difficulty.probe", "null");
    set(&recipe, "controls.difficulty", "label");
    must_refuse(&recipe, scratch_path("probes"), STATUS_INVALID, "controls.difficulty");
    set(&recipe, "controls.difficulty", "length");
    assert_int_equal(open_state(&model, &recipe, scratch_path("probes"), NULL), STATUS_OK);
    assert_int_equal(model.quality_source, MODEL_SCORE_RECON);
    assert_int_equal(model.difficulty_source, MODEL_SCORE_LENGTH);
    model_release(&model);
    recipe_release(&recipe);
    mem_free(quality);
    mem_free(difficulty);
    mem_free(file);
}

static void text_alone_is_nothing_to_serve(void **unused)
{
    struct recipe recipe;

    (void)unused;
    make_recipe(&recipe, "text");
    set(&recipe, "input.features", "null");
    must_refuse(&recipe, scratch_path("text"), STATUS_INVALID, "input.activations: missing");
    assert_int_not_equal(access(scratch_path("text"), F_OK), 0);
    recipe_release(&recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_what_the_run_found),
        cmocka_unit_test(centroids_are_of_the_clusters),
        cmocka_unit_test(features_that_changed_on_disk_are_refused),
        cmocka_unit_test(the_data_set_as_a_request_is_curated_as_the_run_did),
        cmocka_unit_test(a_second_start_loads_and_writes_nothing),
        cmocka_unit_test(another_recipe_is_a_conflict),
        cmocka_unit_test(the_ledger_of_another_recipe_gets_no_model),
        cmocka_unit_test(a_moved_input_is_the_same),
        cmocka_unit_test(an_interrupted_build_resumes),
        cmocka_unit_test(a_folder_that_is_all_but_whole_is_made_whole),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(a_damaged_model_is_refused),
        cmocka_unit_test(nothing_leaks_when_memory_is_short),
        cmocka_unit_test(a_build_short_of_memory_can_be_gone_on_with),
        cmocka_unit_test(ready_features_must_be_of_the_sae),
        cmocka_unit_test(activations_are_encoded_once),
        cmocka_unit_test(without_a_data_set_there_are_probes),
        cmocka_unit_test(text_alone_is_nothing_to_serve),
    };

    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
