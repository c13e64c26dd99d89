/*
 * curator/run_features.c - one sparse vector a sample: encoded and pooled here, or read ready-made.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/feature_view.h"
#include "curator/pipeline.h"
#include "curator/run.h"
#include "formats/atomic_file.h"
#include "formats/json.h"
#include "sae/sae_load.h"
#include "sae/sae_stats.h"

#define SUMMARY_BYTES_MAX ((size_t)256 << 20)

/* "tiny-lm" and "tiny-lm (4 layers, d 128)" are one: a name may carry a description. */
static bool same_model(const char *a, const char *b)
{
    size_t n = strcspn(a, " "), m = strcspn(b, " ");

    return n == m && memcmp(a, b, n) == 0;
}

enum status pipeline_check_hook(const struct sae *sae, const struct activations *activations,
                                const struct recipe *recipe, const struct log *log,
                                struct error *err)
{
    const char *hook = activations_hook(activations), *model = activations_model(activations);

    if (hook && sae->hook && strcmp(hook, sae->hook) != 0 && !recipe->sae.force_hook)
        return error_set(err, STATUS_INVALID,
                         "activations were taken at hook '%s', the SAE belongs to '%s' "
                         "(sae.force_hook: true to go on all the same)",
                         hook, sae->hook);
    if (model && sae->model && !same_model(model, sae->model))
        log_event(log, LOG_WARNING, "model",
                  "activations come from model '%s', the SAE was trained on '%s'", model,
                  sae->model);
    return STATUS_OK;
}

enum status pipeline_check_input(bool pooled, const char *path, const struct recipe *recipe,
                                 struct error *err)
{
    if (!pooled || recipe->sae.input != SAE_INPUT_TOKENS)
        return STATUS_OK;
    return error_set(err, STATUS_INVALID,
                     "'%s' holds one vector a sample, sae.input: tokens expects those of tokens",
                     path);
}

enum status pipeline_prepare_sae(struct sae *sae, const struct recipe *recipe,
                                 const struct kernels *kernels, struct workers *workers,
                                 const struct log *log, struct error *err)
{
    enum sae_precision wanted = (enum sae_precision)recipe->sae.precision;
    enum status st = sae_prepare(sae, wanted, kernels, workers, err);

    if (st)
        return st;
    log_event(log, LOG_DEBUG, "encoder", "latents are found by %s products, then computed exactly",
              sae_engine(sae));
    if (wanted == SAE_FAST && sae_engine_precision(sae) != SAE_FAST)
        log_event(log, LOG_WARNING, "encoder",
                  "sae.precision: fast: nothing on this CPU is faster than what is exact (%s), "
                  "which is used",
                  sae_engine(sae));
    return STATUS_OK;
}

static enum status describe(struct encode_summary *summary, const struct sae *sae,
                            const struct sae_stats *stats, struct error *err)
{
    struct text line = {0}, json = {0};
    enum status st;

    sae_describe(sae, stats, &line);
    sae_describe_json(sae, stats, &json);
    st = text_check(&line, err);
    if (!st)
        st = text_check(&json, err);
    if (!st) {
        summary->audit = mem_strdup(text_string(&line));
        summary->audit_json = mem_strdup(text_string(&json));
        if (!summary->audit || !summary->audit_json)
            st = error_nomem(err);
    }
    text_release(&line);
    text_release(&json);
    return st;
}

/* The result's arrays become the feature store's: nothing is copied. */
static enum status adopt(struct run *run, struct encode_result *result, const struct sae *sae,
                         const struct activations *activations, struct error *err)
{
    struct features *f = &run->features;
    char hex[HASH128_HEX_SIZE];

    hash128_hex(sae->hash, hex);
    *f = (struct features){
        .rows = result->codes.rows,
        .d_sae = result->codes.cols,
        .indptr = result->codes.indptr,
        .indices = result->codes.indices,
        .values = result->codes.values,
        .tokens_used = result->tokens_used,
        .recon_mean = result->recon_mean,
        .recon_max = result->recon_max,
        .sae_hash = mem_strdup(hex),
        .pooling = mem_strdup(pooling_names[run->recipe->sae.pooling]),
        .pooled_input = activations_pooled(activations),
    };
    memcpy(run->outcome, result->outcome, f->rows);
    run->encode = (struct encode_summary){
        .encoded = true,
        .reference = result->reference,
        .tokens = result->tokens,
        .tokens_masked = result->tokens_masked,
        .tokens_sink = result->tokens_sink,
        .tokens_encoded = result->tokens_encoded,
        .tokens_rejected = result->tokens_rejected,
        .l0_median = result->l0_median,
        .l0_p95 = result->l0_p95,
        .explained_variance = result->explained_variance,
        .engine = sae_engine(sae),
        .audit = run->encode.audit,
        .audit_json = run->encode.audit_json,
    };
    mem_free(result->outcome);
    mem_free(result->active);
    *result = (struct encode_result){0};
    return f->sae_hash && f->pooling ? STATUS_OK : error_nomem(err);
}

static enum status encode(struct run *run, struct error *err)
{
    const struct recipe *recipe = run->recipe;
    struct activations *activations = NULL;
    struct encode_result result = {0};
    struct memory_estimate memory;
    struct sae_stats stats = {0};
    struct sae sae = {0};
    const struct encode_config config = {
        .pooling = (enum pooling)recipe->sae.pooling,
        .sink_norm = recipe->sae.sink_norm,
        .reconstruct = true,
        .samples_max = run->data.n,
    };
    enum status st;

    st = activations_open(&activations, (const char *const *)recipe->input.activations.items,
                          recipe->input.activations.n, recipe->input.layer, err);
    if (!st)
        st = pipeline_check_input(activations_pooled(activations), activations_path(activations),
                                  recipe, err);
    if (!st && activations_samples(activations) != run->data.rows_total)
        st = error_set(err, STATUS_FORMAT,
                       "activations hold %zu samples, the data set has %llu rows: they must agree",
                       activations_samples(activations), (unsigned long long)run->data.rows_total);
    if (!st)
        st = sae_load(&sae, recipe->sae.path, &recipe->sae.overrides, SAE_READ_ALL, err);
    if (!st)
        st = pipeline_check_hook(&sae, activations, recipe, run->log, err);
    if (!st)
        st = pipeline_prepare_sae(&sae, recipe, run->kernels, run->workers, run->log, err);
    if (!st)
        st = sae_stats_measure(&stats, &sae, activations, recipe->sae.sink_norm, run->kernels,
                               run->workers, err);
    if (!st)
        st = describe(&run->encode, &sae, &stats, err);
    if (!st) {
        memory =
            pipeline_memory(&run->data, &sae, &stats, activations, workers_count(run->workers));
        st = pipeline_check_memory(&memory, recipe, run->log, err);
    }
    if (!st) {
        log_event(run->log, LOG_INFO, "sae", "%s", run->encode.audit);
        st = encode_run(&result, &sae, activations, &config, run->kernels, run->workers,
                        run->progress, run->progress_context, err);
    }
    if (!st)
        st = adopt(run, &result, &sae, activations, err);
    encode_result_release(&result);
    sae_release(&sae);
    activations_close(activations);
    return st;
}

/* input.features: a store of the user's own, or one written by `encode`. */
static enum status read_ready_made(struct run *run, struct error *err)
{
    struct features *f = &run->features;
    enum status st = features_read(f, run->recipe->input.features, err);

    if (!st)
        st = pipeline_check_input(f->pooled_input, run->recipe->input.features, run->recipe, err);
    if (st)
        return st;
    if (f->rows != run->data.rows_total)
        return error_set(err, STATUS_FORMAT,
                         "%s: the feature store has %zu rows, the data set %llu: they must agree",
                         run->recipe->input.features, f->rows,
                         (unsigned long long)run->data.rows_total);
    f->rows = run->data.n; /* input.limit */
    for (size_t row = 0; row < f->rows; row++)
        run->outcome[row] = features_has_vector(f, row) ? ENCODE_OK : ENCODE_NO_TOKENS;
    return STATUS_OK;
}

/* Keys go into the store so that it can be joined with the data again. */
static enum status set_keys(struct run *run, struct error *err)
{
    struct features *f = &run->features;

    mem_free(f->keys);
    f->keys = mem_alloc(f->rows, sizeof(*f->keys));
    if (!f->keys)
        return error_nomem(err);
    for (size_t row = 0; row < f->rows; row++)
        f->keys[row] = run->data.samples[row].key;
    return STATUS_OK;
}

static void print_summary(const struct run *run, struct text *out)
{
    const struct encode_summary *e = &run->encode;
    const char *comma = "";

    text_appendf(out, "{\"encoded\":%s", e->encoded ? "true" : "false");
    text_appendf(out, ",\"tokens\":%llu,\"tokens_masked\":%llu,\"tokens_sink\":%llu",
                 (unsigned long long)e->tokens, (unsigned long long)e->tokens_masked,
                 (unsigned long long)e->tokens_sink);
    text_appendf(out, ",\"tokens_encoded\":%llu,\"tokens_rejected\":%llu",
                 (unsigned long long)e->tokens_encoded, (unsigned long long)e->tokens_rejected);
    text_appendf(out, ",\"reference_tokens\":%llu", (unsigned long long)e->reference.tokens);
    text_append(out, ",\"median_norm\":");
    text_append_double(out, e->reference.median_norm);
    text_append(out, ",\"variance\":");
    text_append_double(out, e->reference.variance);
    text_append(out, ",\"l0_median\":");
    text_append_double(out, e->l0_median);
    text_append(out, ",\"l0_p95\":");
    text_append_double(out, e->l0_p95);
    text_append(out, ",\"explained_variance\":");
    text_append_double(out, e->explained_variance);
    text_append(out, ",\"audit\":");
    text_append_json_string(out, e->audit ? e->audit : "", e->audit ? strlen(e->audit) : 0);
    text_append(out, ",\"audit_json\":");
    text_append_json_string(out, e->audit_json ? e->audit_json : "",
                            e->audit_json ? strlen(e->audit_json) : 0);
    text_append(out, ",\"outcome\":[");
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->outcome[row] == ENCODE_OK)
            continue;
        text_appendf(out, "%s[%zu,%d]", comma, row, run->outcome[row]);
        comma = ",";
    }
    text_append(out, "]}\n");
}

static uint64_t member_u64(const struct json *root, const char *key)
{
    uint64_t x = 0;

    return json_u64(json_member(root, key), &x) ? x : 0;
}

static char *member_string(const struct json *root, const char *key)
{
    size_t n;
    const char *s = json_string(json_member(root, key), &n);

    return s && n ? mem_strndup(s, n) : NULL;
}

static enum status load_summary(struct run *run, const char *path, struct error *err)
{
    struct encode_summary *e = &run->encode;
    struct json *root = NULL;
    const struct json *outcomes;
    enum status st = json_parse_file(&root, path, SUMMARY_BYTES_MAX, NULL, err);

    if (st)
        return st;
    *e = (struct encode_summary){
        .encoded = json_bool(json_member(root, "encoded")),
        .tokens = member_u64(root, "tokens"),
        .tokens_masked = member_u64(root, "tokens_masked"),
        .tokens_sink = member_u64(root, "tokens_sink"),
        .tokens_encoded = member_u64(root, "tokens_encoded"),
        .tokens_rejected = member_u64(root, "tokens_rejected"),
        .reference.tokens = member_u64(root, "reference_tokens"),
        .reference.median_norm = json_double(json_member(root, "median_norm")),
        .reference.variance = json_double(json_member(root, "variance")),
        .l0_median = json_double(json_member(root, "l0_median")),
        .l0_p95 = json_double(json_member(root, "l0_p95")),
        .explained_variance = json_double(json_member(root, "explained_variance")),
        .audit = member_string(root, "audit"),
        .audit_json = member_string(root, "audit_json"),
    };
    memset(run->outcome, ENCODE_OK, run->data.n);
    outcomes = json_member(root, "outcome");
    for (size_t i = 0; i < json_length(outcomes); i++) {
        const struct json *pair = json_element(outcomes, i);
        uint64_t row, code;

        if (!json_u64(json_element(pair, 0), &row) || !json_u64(json_element(pair, 1), &code) ||
            row >= run->data.n || code < ENCODE_NO_TOKENS || code > ENCODE_ZERO_ACTIVATION) {
            st = error_set(err, STATUS_FORMAT, "%s: outcome %zu is not [row, code]", path, i);
            break;
        }
        run->outcome[row] = (unsigned char)code;
    }
    json_free(root);
    return st;
}

/* A control experiment: every vector goes to another sample. */
static enum status permute(struct run *run, struct error *err)
{
    struct features *f = &run->features;
    size_t n = f->rows, m = 0;
    size_t *from = mem_alloc(n, sizeof(*from)), *with = mem_alloc(n, sizeof(*with));
    uint32_t *tokens_used = mem_alloc(n, sizeof(*tokens_used));
    float *recon_mean = mem_alloc(n, sizeof(*recon_mean));
    float *recon_max = mem_alloc(n, sizeof(*recon_max));
    struct csr shuffled = {0};
    struct rng rng;
    enum status st;

    if (!from || !with || !tokens_used || !recon_mean || !recon_max) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t row = 0; row < n; row++) {
        from[row] = row;
        if (run->outcome[row] == ENCODE_OK)
            with[m++] = row;
    }
    rng_init(&rng, run->recipe->seed, "controls.permute_features", 0);
    rng_shuffle(&rng, with, m);
    m = 0;
    for (size_t row = 0; row < n; row++) {
        if (run->outcome[row] == ENCODE_OK)
            from[row] = with[m++];
    }
    st = csr_select(&shuffled, feature_view(&run->features), from, n, err);
    if (st)
        goto out;
    mem_free(f->indptr);
    mem_free(f->indices);
    mem_free(f->values);
    f->indptr = shuffled.indptr;
    f->indices = shuffled.indices;
    f->values = shuffled.values;
    for (size_t row = 0; row < n; row++) {
        if (f->tokens_used)
            tokens_used[row] = f->tokens_used[from[row]];
        if (f->recon_mean)
            recon_mean[row] = f->recon_mean[from[row]];
        if (f->recon_max)
            recon_max[row] = f->recon_max[from[row]];
    }
    if (f->tokens_used)
        memcpy(f->tokens_used, tokens_used, n * sizeof(*tokens_used));
    if (f->recon_mean)
        memcpy(f->recon_mean, recon_mean, n * sizeof(*recon_mean));
    if (f->recon_max)
        memcpy(f->recon_max, recon_max, n * sizeof(*recon_max));
    log_event(run->log, LOG_WARNING, "control",
              "controls.permute_features: every vector was given to another sample");
out:
    mem_free(from);
    mem_free(with);
    mem_free(tokens_used);
    mem_free(recon_mean);
    mem_free(recon_max);
    return st;
}

static enum status compute(struct run *run, void *context, struct error *err)
{
    enum status st = run->recipe->input.features ? read_ready_made(run, err) : encode(run, err);

    (void)context;
    return st ? st : set_keys(run, err);
}

static enum status save(struct run *run, void *context, struct error *err)
{
    char *store = run_folder_stage(run->folder, "features.safetensors");
    char *summary = run_folder_stage(run->folder, "encode.json");
    struct text text = {0};
    enum status st = store && summary ? STATUS_OK : error_nomem(err);

    (void)context;
    if (!st)
        st = features_write(&run->features, store, err);
    if (!st) {
        print_summary(run, &text);
        st = text_check(&text, err);
    }
    if (!st)
        st = atomic_file_write_all(summary, text_string(&text), text.length, err);
    text_release(&text);
    mem_free(store);
    mem_free(summary);
    return st;
}

static enum status load(struct run *run, void *context, struct error *err)
{
    char *store = run_folder_stage(run->folder, "features.safetensors");
    char *summary = run_folder_stage(run->folder, "encode.json");
    enum status st = store && summary ? STATUS_OK : error_nomem(err);

    (void)context;
    if (!st)
        st = features_read(&run->features, store, err);
    if (!st)
        st = load_summary(run, summary, err);
    if (!st && run->features.rows != run->data.n)
        st = error_set(err, STATUS_FORMAT, "%s: %zu rows, the data set has %zu", store,
                       run->features.rows, run->data.n);
    if (!st) /* which codes do not depend on */
        st = pipeline_check_input(run->features.pooled_input, store, run->recipe, err);
    mem_free(store);
    mem_free(summary);
    return st;
}

/* Text alone: rows of no columns, for which nothing is dropped. */
static enum status no_vectors(struct run *run, struct error *err)
{
    struct features *f = &run->features;

    f->indptr = mem_zalloc(run->data.n + 1, sizeof(*f->indptr));
    if (!f->indptr)
        return error_nomem(err);
    f->rows = run->data.n;
    log_event(run->log, LOG_INFO, "encode",
              "no activations and no features: text and labels are looked at, nothing else");
    return set_keys(run, err);
}

enum status run_features(struct run *run, struct error *err)
{
    static const enum reason reasons[] = {
        [ENCODE_OK] = REASON_NONE,
        [ENCODE_NO_TOKENS] = REASON_NO_TOKENS,
        [ENCODE_NONFINITE] = REASON_NONFINITE,
        [ENCODE_ZERO_ACTIVATION] = REASON_ZERO_ACTIVATION,
    };
    const struct kept_stage stage = {
        .name = "encode", .key = run->encode_key, .load = load, .compute = compute, .save = save};
    enum status st;

    run->outcome = mem_zalloc(run->data.n, 1);
    run->has_vector = mem_zalloc(run->data.n, 1);
    if (!run->outcome || !run->has_vector)
        return error_nomem(err);
    if (!run_wants_vectors(run))
        return no_vectors(run, err);
    st = run_keep(run, &stage, NULL, err);
    if (!st)
        st = run_open_labels(run,
                             &(struct label_target){.d_sae = run->features.d_sae,
                                                    .sae_hash = run->features.sae_hash},
                             err);
    if (!st && run->recipe->controls.permute_features)
        st = permute(run, err);
    for (size_t row = 0; !st && row < run->data.n; row++) {
        run->has_vector[row] = run->outcome[row] == ENCODE_OK;
        if (!run->has_vector[row])
            run_drop(run, row, STAGE_ENCODE, reasons[run->outcome[row]]);
    }
    return st;
}
