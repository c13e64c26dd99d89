/*
 * cli/serve_compute.c - requests of the COMPUTE lane: samples to vectors, vectors to scores.
 */
#include <string.h>

#include "base/mem.h"
#include "cli/serve.h"
#include "curator/curate.h"
#include "curator/labels.h"

static void encoded_free(void *p)
{
    struct encoded *encoded = p;

    if (!encoded)
        return;
    vectors_release(&encoded->vectors);
    mem_free(encoded->sids);
    message_out_release(&encoded->reply);
    mem_free(encoded);
}

static void count_vectors(struct serve *serve, const struct vectors *v)
{
    atomic_fetch_add_explicit(&serve->counters.known, v->n_known, memory_order_relaxed);
    atomic_fetch_add_explicit(&serve->counters.encoded, v->n_encoded, memory_order_relaxed);
    atomic_fetch_add_explicit(&serve->counters.tokens, v->tokens_encoded, memory_order_relaxed);
}

static void count_result(struct serve *serve, const struct curate_result *result)
{
    for (size_t i = 0; i < result->n; i++)
        atomic_fetch_add_explicit(&serve->counters.reasons[result->reason[i]], 1,
                                  memory_order_relaxed);
    atomic_fetch_add_explicit(&serve->counters.scored, result->n, memory_order_relaxed);
}

/* The recipe as `set` changes it: {"batches.order": "random"}. */
static enum status read_set(struct recipe *copy, const struct serve *serve,
                            const struct message *message, uint64_t batch_size, struct fault *fault,
                            struct error *err)
{
    const struct json *set = json_member(message->header, "set");
    size_t n = set ? json_length(set) : 0;
    struct recipe_override *overrides = mem_zalloc(n + 1, sizeof(*overrides));
    struct text *values = mem_zalloc(n + 1, sizeof(*values));
    struct error wrong = {0};
    enum status st = overrides && values ? STATUS_OK : error_nomem(err);
    char size[32];
    size_t i = 0;

    if (!st && set && json_type(set) != JSON_OBJECT) {
        fault_set(fault, E_BAD_HEADER, "set", "set is %s, expected an object of settings",
                  json_type_name(json_type(set)));
        goto out;
    }
    for (struct json_iterator it = json_iterate(set); !st && set && json_next(&it); i++) {
        size_t length;
        const char *string = json_string(it.value, &length);

        if (string)
            text_append_n(&values[i], string, length);
        else
            json_print(it.value, &values[i]);
        st = text_check(&values[i], err);
        overrides[i] = (struct recipe_override){
            .key = it.key, .value = text_string(&values[i]), .flag = "set"};
    }
    if (!st) {
        snprintf(size, sizeof(size), "%llu", (unsigned long long)batch_size);
        overrides[n] =
            (struct recipe_override){.key = "batches.size", .value = size, .flag = "batch_size"};
        st = curate_recipe(copy, serve->recipe, overrides, n + 1, &wrong);
    }
    if (st == STATUS_INVALID) {
        fault_set(fault, E_BAD_HEADER, "set", "%s", wrong.message);
        st = STATUS_OK;
    } else if (st && wrong.message[0]) {
        st = error_set(err, st, "%s", wrong.message);
    }
out:
    for (size_t v = 0; values && v < n; v++)
        text_release(&values[v]);
    mem_free(values);
    mem_free(overrides);
    return st;
}

/* The five tensors of SCORE; what they hold goes over to `out`. */
static void put_scores(struct message_out *out, struct curate_result *result)
{
    message_out_take(out, "quality", DTYPE_F32, result->n, (void **)&result->quality);
    message_out_take(out, "difficulty", DTYPE_F32, result->n, (void **)&result->difficulty);
    message_out_take(out, "cluster", DTYPE_I32, result->n, (void **)&result->cluster);
    message_out_take(out, "keep", DTYPE_U8, result->n, (void **)&result->keep);
    message_out_take(out, "reason", DTYPE_U8, result->n, (void **)&result->reason);
}

static void put_model(struct message_out *out, const struct curate_result *result)
{
    text_appendf(&out->header, "\"model\":\"%s\",\"quality_threshold\":",
                 result->own_model ? "request" : "dataset");
    text_append_double(&out->header, result->quality_threshold);
}

/* Order and batches of what is kept. */
static enum status put_plan(struct message_out *out, const struct batch_plan *plan,
                            const uint64_t *sids, struct error *err)
{
    uint64_t *order = mem_alloc(plan->n, sizeof(*order));
    int64_t *batch_off = mem_alloc(plan->n_batches + 1, sizeof(*batch_off));

    if (!order || !batch_off) {
        mem_free(order);
        mem_free(batch_off);
        return error_nomem(err);
    }
    for (size_t i = 0; i < plan->n; i++)
        order[i] = sids[plan->order[i]];
    batch_off[0] = 0;
    for (size_t b = 0; b < plan->n_batches; b++)
        batch_off[b + 1] = (int64_t)plan->batches[b].end;
    text_appendf(&out->header, ",\"n_batches\":%zu", plan->n_batches);
    message_out_take(out, "order", DTYPE_U64, plan->n, (void **)&order);
    message_out_take(out, "batch_off", DTYPE_I64, plan->n_batches + 1, (void **)&batch_off);
    return STATUS_OK;
}

static enum status score(struct serve *serve, const struct message *message,
                         const struct serve_input *input, const struct vectors *vectors,
                         const struct recipe *recipe, struct message_out *out, struct fault *fault,
                         struct error *err)
{
    bool curate = message->envelope.kind == KIND_CURATE;
    const struct curate_input in = vectors_input(vectors, NULL);
    struct curate_result result = {0};
    struct batch_plan plan = {0};
    struct error wrong = {0};
    enum status st =
        curate_score(&result, &in, &serve->model, recipe, curate ? CURATE_FILTER : CURATE_SCORE,
                     serve->kernels, serve->workers, &wrong);

    if (st == STATUS_INVALID) {
        fault_set(fault, result.field ? E_BAD_TENSOR : E_BAD_HEADER, result.field, "%s",
                  wrong.message);
        return STATUS_OK;
    }
    if (st)
        return error_set(err, st, "%s", wrong.message);
    if (curate)
        st = curate_plan(&plan, &in, &result, recipe, err);
    if (!st) {
        count_result(serve, &result);
        put_model(out, &result);
    }
    if (!st && curate)
        st = put_plan(out, &plan, input->sids, err);
    if (!st)
        put_scores(out, &result);
    batch_plan_release(&plan);
    curate_result_release(&result);
    return st;
}

/* One vector a sample where the recipe or its probes expect tokens: refused before it is encoded,
 * and before a SUBMIT gets into the pool, where nobody could say any more how it came about. */
static void check_pooled(const struct serve *serve, struct fault *fault)
{
    const struct model *model = &serve->model;
    int input = serve->recipe->sae.input;
    struct error err = {0};
    enum status st = STATUS_OK;

    if (input == SAE_INPUT_TOKENS)
        st = error_set(&err, STATUS_INVALID,
                       "act is one vector a sample (act_off is missing), sae.input: tokens expects "
                       "those of tokens");
    if (!st && model->quality_source == MODEL_SCORE_PROBE)
        st = labels_check_pooled(&model->quality, "quality.probe", input, &err);
    if (!st && model->difficulty_source == MODEL_SCORE_PROBE)
        st = labels_check_pooled(&model->difficulty, "difficulty.probe", input, &err);
    if (st)
        fault_set(fault, E_BAD_TENSOR, "act", "%s", err.message);
}

/* What the pool's plan will need: it is asked for now, as a FETCH could only fail. */
static enum status check_columns(const struct serve *serve, const struct vectors *vectors,
                                 struct fault *fault, struct error *err)
{
    const struct curate_input in = vectors_input(vectors, NULL);
    struct error wrong = {0};
    const char *field = NULL;
    enum status st = curate_check(&field, &in, &serve->model, serve->recipe, &wrong);

    if (st == STATUS_INVALID)
        fault_set(fault, E_BAD_TENSOR, field, "%s", wrong.message);
    else if (st)
        return error_set(err, st, "%s", wrong.message);
    return STATUS_OK;
}

/* Activations are most of a SUBMIT, and are known by what they were looked up by: borders of
 * samples are in another tensor. */
static struct hash128 digest(const struct request *request, const struct vectors *vectors)
{
    const struct tensor *act = message_tensor(&request->message, "act");
    struct known_hash known = {0};

    if (act && act->bytes > 0)
        known = (struct known_hash){.data = act->data, .hash = vectors->sent};
    return message_digest(request->frames, request->n_frames, &known);
}

static enum status compute(struct serve *serve, struct request *request, struct serve_input *input,
                           struct encoded *encoded, struct recipe *copy, struct message_out *out,
                           struct fault *fault, struct error *err)
{
    const struct message *message = &request->message;
    unsigned kind = message->envelope.kind;
    const struct recipe *recipe = serve->recipe;
    uint64_t batch_size = 0;
    enum status st;

    if (kind == KIND_CURATE) {
        if (!field_u64(message, "batch_size", FIELD_REQUIRED, UINT32_MAX, &batch_size, fault))
            return STATUS_OK;
        if (batch_size == 0) {
            fault_set(fault, E_BAD_HEADER, "batch_size", "batch_size is 0, expected at least 1");
            return STATUS_OK;
        }
        st = read_set(copy, serve, message, batch_size, fault, err);
        if (st || fault->code)
            return st;
        recipe = copy;
    }
    st = serve_input_read(input, serve, message, fault, err);
    if (!st && !fault->code && input->candidates.form == CANDIDATES_POOLED)
        check_pooled(serve, fault);
    if (!st && !fault->code)
        st = candidates_encode(serve->encoder, &encoded->vectors, &input->candidates,
                               kind == KIND_SUBMIT ? CANDIDATES_KEPT : CANDIDATES_ONCE, err);
    if (st || fault->code)
        return st;
    count_vectors(serve, &encoded->vectors);
    if (kind == KIND_SUBMIT)
        st = check_columns(serve, &encoded->vectors, fault, err);
    if (st || fault->code)
        return st;
    if (kind == KIND_SUBMIT) {
        encoded->digest = digest(request, &encoded->vectors);
        encoded->sids = input->sids;
        input->sids = NULL;
        return STATUS_OK;
    }
    return score(serve, message, input, &encoded->vectors, recipe, out, fault, err);
}

/* Vectors that others can be spared; not while storage is in trouble, as scoring goes on then. */
static bool worth_keeping(const struct serve *serve, const struct request *request,
                          const struct vectors *v)
{
    return request->message.envelope.kind == KIND_CURATE && v->lasting && v->n_encoded > 0 &&
           atomic_load_explicit(&serve->storage_ok, memory_order_relaxed);
}

enum handle_outcome serve_compute(struct serve *serve, struct request *request,
                                  struct message_out *out, struct fault *fault)
{
    struct encoded *encoded = mem_zalloc(1, sizeof(*encoded));
    enum handle_outcome outcome = HANDLE_REPLY;
    struct serve_input input = {0};
    struct recipe copy = {0};
    struct error err = {0};
    enum status st = encoded ? compute(serve, request, &input, encoded, &copy, out, fault, &err)
                             : error_nomem(&err);

    if (st) {
        fault_from_error(fault, st, &err);
        if (st != STATUS_CANCELED)
            log_event(serve->log, LOG_ERROR, "request", "%s: %s",
                      protocol_kind_name(request->message.envelope.kind), err.message);
    } else if (!fault->code && worth_keeping(serve, request, &encoded->vectors)) {
        encoded->reply = *out;
        *out = (struct message_out){0};
        request->attachment = encoded;
        request->attachment_free = encoded_free;
        encoded = NULL;
        outcome = HANDLE_FORWARD;
    } else if (!fault->code && request->message.envelope.kind == KIND_SUBMIT) {
        request->attachment = encoded;
        request->attachment_free = encoded_free;
        encoded = NULL;
        outcome = HANDLE_FORWARD;
    }
    encoded_free(encoded);
    serve_input_release(&input);
    recipe_release(&copy);
    return outcome;
}
