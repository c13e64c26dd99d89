/*
 * cli/serve_state.c - requests of the STATE lane: HELLO to SHUTDOWN, and SUBMITs that are encoded.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cli/serve.h"

#define SEQ_MAX PROTOCOL_SESSION_MAX
#define BATCH_MAX ((uint64_t)1 << 20)  /* sids a FETCH or PEEK may ask for */
#define FEEDBACK_MAX ((size_t)1 << 22) /* rollouts in a request */
#define ATTACH_MAX ((size_t)1 << 23)   /* prompts in a request */
#define CLIENT_RETRY_MS 1000
#define DRAIN_MS 10000

/* One request on its way through. */
struct call {
    struct serve *serve;
    const struct message *message;
    uint64_t session, request;
    const struct frame *frames;
    size_t n_frames;
    struct hash128 digest; /* of a kind that is remembered */
    size_t bytes;
    const char *user;
    struct message_out *out;
    struct fault *fault;
    struct refusal refusal;
};

static const char *state_name(const struct serve *serve)
{
    return server_state_name(server_get_state(serve->server));
}

static bool refused(struct call *call)
{
    fault_from_refusal(call->fault, &call->refusal);
    return call->fault->code != E_NONE;
}

/* Of the kinds that take none. */
static bool no_tensors(struct call *call)
{
    static const char *const names[] = {NULL};

    return tensors_known(call->message, names, call->fault);
}

/* HELLO's answer to: who is this, and does it fit? */
static void print_hello(const struct serve *serve, const struct hello *hello, const char *run,
                        struct text *out)
{
    text_appendf(out, "\"session\":%llu,\"version\":\"%s\",\"protocol\":\"%d.%d\",\"run\":",
                 (unsigned long long)hello->session, SAERL_VERSION, PROTOCOL_MAJOR, PROTOCOL_MINOR);
    text_append_json_string(out, run, strlen(run));
    text_appendf(out, ",\"limits\":{\"frame\":%zu,\"header\":%zu,\"tensors\":%d,\"credits\":%llu}",
                 PROTOCOL_FRAME_BYTES_MAX, PROTOCOL_HEADER_BYTES_MAX, PROTOCOL_TENSORS_MAX,
                 (unsigned long long)serve->session_bytes);
    text_appendf(out, ",\"next_seq\":%llu,\"state\":\"%s\",\"sae\":",
                 (unsigned long long)hello->next_seq, state_name(serve));
    if (serve->has_sae) {
        text_appendf(out,
                     "{\"d_in\":%zu,\"d_sae\":%zu,\"hash\":\"%s\",\"formula\":", serve->sae.d_in,
                     serve->sae.d_sae, serve->sae_hash);
        text_append_json_string(out, serve->sae.formula, strlen(serve->sae.formula));
        text_append(out, "}");
    } else {
        text_append(out, "null");
    }
    text_append(out, ",\"dataset\":");
    if (serve->model.has_dataset)
        text_appendf(out, "{\"rows\":%zu,\"kept\":%zu,\"fingerprint\":\"%s\"}", serve->model.rows,
                     serve->model.n_order, session_dataset(serve->session));
    else
        text_append(out, "null");
    text_appendf(out, ",\"config_hash\":\"%s\",\"insecure\":%s", serve->config_hash,
                 serve->insecure ? "true" : "false");
}

static enum status do_hello(struct call *call, struct error *err)
{
    struct serve *serve = call->serve;
    char run[FIELD_STRING_MAX + 1], client[FIELD_STRING_MAX + 1];
    uint64_t incarnation = 0, rank = 0;
    struct hello hello = {0};
    enum status st;

    if (!field_string(call->message, "run", FIELD_REQUIRED, run, call->fault) ||
        !field_string(call->message, "client", FIELD_OPTIONAL, client, call->fault) ||
        !field_u64(call->message, "rank", FIELD_OPTIONAL, SEQ_MAX, &rank, call->fault) ||
        !field_u64(call->message, "incarnation", FIELD_OPTIONAL, SEQ_MAX, &incarnation,
                   call->fault) ||
        !no_tensors(call))
        return STATUS_OK;
    st = session_hello(serve->session, run, client, incarnation, &hello, &call->refusal, err);
    if (!st && !refused(call)) {
        /* What the fenced ones left waiting is behind this HELLO and will find itself fenced. */
        for (size_t i = 0; i < hello.n_older; i++)
            server_session_fence(serve->server, hello.older[i]);
        if (mem_grow((void **)&serve->greeted, &serve->greeted_capacity, serve->n_greeted + 1,
                     sizeof(*serve->greeted)))
            serve->greeted[serve->n_greeted++] = hello.session;
        else
            st = error_nomem(err);
        if (!st)
            st = server_session_add(serve->server, hello.session, call->user, err);
        if (st == STATUS_CONFLICT) {
            fault_set(call->fault, E_CONFLICT, "client", "%s", err->message);
            st = STATUS_OK;
        } else if (!st)
            print_hello(serve, &hello, run, &call->out->header);
    }
    mem_free(hello.older);
    return st;
}

static void print_counter(struct text *out, const char *name, const atomic_ullong *x)
{
    text_appendf(out, "%s\"%s\":%llu", out->length ? "," : "", name,
                 atomic_load_explicit(x, memory_order_relaxed));
}

static void print_reason_counts(const struct serve *serve, struct text *out)
{
    const char *comma = "";

    text_append(out, ",\"reasons\":{");
    for (int r = 1; r < REASON_COUNT; r++) {
        text_appendf(out, "%s\"%s\":%llu", comma, reason_name((enum reason)r),
                     atomic_load_explicit(&serve->counters.reasons[r], memory_order_relaxed));
        comma = ",";
    }
    text_append(out, "}");
}

static enum status do_stats(struct call *call, struct error *err)
{
    const struct serve *serve = call->serve;
    struct text *out = &call->out->header;
    struct server_counters c;

    (void)err;
    if (!no_tensors(call))
        return STATUS_OK;
    server_counters(serve->server, &c);
    text_appendf(out, "\"state\":\"%s\",\"uptime_s\":%.3f,\"requests\":%llu,\"replies\":%llu",
                 state_name(serve), c.uptime_s, (unsigned long long)c.received,
                 (unsigned long long)c.replies);
    text_appendf(out, ",\"errors\":%llu,\"busy\":%llu,\"dropped_garbage\":%llu",
                 (unsigned long long)c.errors, (unsigned long long)c.busy,
                 (unsigned long long)c.dropped_garbage);
    text_appendf(out, ",\"dropped_replies\":%llu,\"recycled\":%llu",
                 (unsigned long long)c.dropped_replies, (unsigned long long)c.recycled);
    text_appendf(out, ",\"bytes_in\":%llu,\"bytes_out\":%llu,\"queued_bytes\":%llu",
                 (unsigned long long)c.bytes_in, (unsigned long long)c.bytes_out,
                 (unsigned long long)c.queued_bytes);
    text_appendf(out, ",\"queued_state\":%llu,\"queued_compute\":%llu,\"sessions\":%llu",
                 (unsigned long long)c.queued[LANE_STATE],
                 (unsigned long long)c.queued[LANE_COMPUTE], (unsigned long long)c.sessions);
    print_counter(out, "samples_submitted", &serve->counters.submitted);
    print_counter(out, "samples_scored", &serve->counters.scored);
    print_counter(out, "samples_encoded", &serve->counters.encoded);
    print_counter(out, "samples_known", &serve->counters.known);
    print_counter(out, "tokens_encoded", &serve->counters.tokens);
    print_counter(out, "feedback_accepted", &serve->counters.feedback[0]);
    print_counter(out, "feedback_duplicate", &serve->counters.feedback[1]);
    print_counter(out, "feedback_unknown", &serve->counters.feedback[2]);
    print_counter(out, "feedback_rejected", &serve->counters.feedback[3]);
    print_reason_counts(serve, out);
    text_append(out, ",");
    session_stats(serve->session, out);
    return STATUS_OK;
}

static enum status read_attach(struct call *call, struct attach *attach, struct hash128 **hashes,
                               uint64_t **keys, struct error *err)
{
    static const char *const names[] = {"prompts", "prompts_off", "keys", NULL};
    const struct tensor *prompts, *off, *t;
    int64_t *offsets;

    if (!tensors_known(call->message, names, call->fault))
        return STATUS_OK;
    t = tensor_vector(call->message, "keys", DTYPE_U64, FIELD_OPTIONAL, SIZE_MAX, call->fault);
    if (call->fault->code)
        return STATUS_OK;
    if (t && (message_tensor(call->message, "prompts") ||
              message_tensor(call->message, "prompts_off"))) {
        fault_set(call->fault, E_BAD_TENSOR, "keys",
                  "both 'keys' and 'prompts' are there, expected one of them");
        return STATUS_OK;
    }
    if (t) {
        attach->n = t->count;
        *keys = mem_alloc(t->count, sizeof(**keys));
        if (!*keys)
            return error_nomem(err);
        for (size_t i = 0; i < t->count; i++)
            (*keys)[i] = tensor_u64(t, i);
        attach->keys = *keys;
        return STATUS_OK;
    }
    prompts =
        tensor_vector(call->message, "prompts", DTYPE_U8, FIELD_REQUIRED, SIZE_MAX, call->fault);
    off = prompts ? tensor_vector(call->message, "prompts_off", DTYPE_I64, FIELD_REQUIRED, SIZE_MAX,
                                  call->fault)
                  : NULL;
    if (!off)
        return STATUS_OK;
    if (off->count == 0) {
        fault_set(call->fault, E_BAD_TENSOR, "prompts_off", "prompts_off is empty, expected n + 1");
        return STATUS_OK;
    }
    attach->n = off->count - 1;
    offsets = mem_alloc(off->count, sizeof(*offsets));
    *hashes = mem_alloc(attach->n, sizeof(**hashes));
    if (!offsets || !*hashes) {
        mem_free(offsets);
        return error_nomem(err);
    }
    for (size_t i = 0; i < off->count; i++)
        offsets[i] = tensor_i64(off, i);
    if (offsets_sound(offsets, attach->n, prompts->bytes, "prompts_off", call->fault)) {
        for (size_t i = 0; i < attach->n; i++)
            (*hashes)[i] =
                hash128(prompts->data + offsets[i], (size_t)(offsets[i + 1] - offsets[i]));
    }
    attach->prompts = *hashes;
    mem_free(offsets);
    return STATUS_OK;
}

static enum status do_attach(struct call *call, struct error *err)
{
    struct attach attach = {0};
    struct hash128 *hashes = NULL;
    uint64_t *keys = NULL, counts[3] = {0};
    int64_t *rows = NULL;
    uint64_t n = UINT64_MAX;
    enum status st = STATUS_OK;

    if (field_u64(call->message, "n", FIELD_OPTIONAL, ATTACH_MAX, &n, call->fault))
        st = read_attach(call, &attach, &hashes, &keys, err);
    if (!st && !call->fault->code && n != UINT64_MAX && n != attach.n)
        fault_set(call->fault, E_BAD_TENSOR, attach.keys ? "keys" : "prompts_off",
                  "%zu prompts, but the header's n is %llu", attach.n, (unsigned long long)n);
    if (!st && !call->fault->code && attach.n > ATTACH_MAX)
        fault_set(call->fault, E_TOO_LARGE, "n", "%zu prompts, expected at most %zu", attach.n,
                  ATTACH_MAX);
    if (st || call->fault->code)
        goto out;
    rows = mem_alloc(attach.n, sizeof(*rows));
    st = rows ? session_attach(call->serve->session, call->session, &attach, rows, counts,
                               &call->refusal, err)
              : error_nomem(err);
    if (st || refused(call))
        goto out;
    text_appendf(&call->out->header, "\"matched\":%llu,\"unknown\":%llu,\"duplicates\":%llu",
                 (unsigned long long)counts[0], (unsigned long long)counts[1],
                 (unsigned long long)counts[2]);
    message_out_take(call->out, "row", DTYPE_I64, attach.n, (void **)&rows);
out:
    mem_free(rows);
    mem_free(hashes);
    mem_free(keys);
    return st;
}

static enum status do_submit(struct call *call, const struct encoded *encoded, struct error *err)
{
    const struct vectors *v = &encoded->vectors;
    struct ledger_content *contents = mem_alloc(v->n, sizeof(*contents));
    unsigned char *reason = mem_zalloc(v->n, 1);
    struct submission submission = {
        .n = v->n, .sids = encoded->sids, .vectors = contents, .reference = &v->reference};
    size_t accepted = 0;
    enum status st = contents && reason ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < v->n; i++)
        contents[i] = vectors_content(v, i);
    if (!st)
        st = session_submit(call->serve->session, call->session, &submission, reason,
                            &call->refusal, err);
    if (!st && !refused(call)) {
        for (size_t i = 0; i < v->n; i++) {
            accepted += reason[i] == REASON_NONE;
            atomic_fetch_add_explicit(&call->serve->counters.reasons[reason[i]], 1,
                                      memory_order_relaxed);
        }
        atomic_fetch_add_explicit(&call->serve->counters.submitted, v->n, memory_order_relaxed);
        text_appendf(&call->out->header, "\"accepted\":%zu,\"rejected\":%zu", accepted,
                     v->n - accepted);
        message_out_take(call->out, "reason", DTYPE_U8, v->n, (void **)&reason);
    }
    mem_free(contents);
    mem_free(reason);
    return st;
}

/* CURATE is answered already; what it encoded is kept for the next one. */
static enum status do_keep(struct call *call, struct encoded *encoded, struct error *err)
{
    const struct vectors *v = &encoded->vectors;
    struct ledger_content *contents = mem_alloc(v->n, sizeof(*contents));
    enum status st = contents ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < v->n; i++)
        contents[i] = vectors_content(v, i);
    if (!st)
        st = session_keep(call->serve->session, &v->reference, contents, v->n, err);
    mem_free(contents);
    if (!st) {
        *call->out = encoded->reply;
        encoded->reply = (struct message_out){0};
    }
    return st;
}

static enum status do_fetch(struct call *call, struct error *err)
{
    struct ledger_batch batch = {0};
    uint64_t seq = 0, n = 0;
    enum status st;

    if (!field_u64(call->message, "seq", FIELD_REQUIRED, SEQ_MAX, &seq, call->fault) ||
        !field_u64(call->message, "n", FIELD_REQUIRED, BATCH_MAX, &n, call->fault))
        return STATUS_OK;
    if (n == 0)
        fault_set(call->fault, E_BAD_HEADER, "n", "n is 0, expected at least 1");
    if (n == 0 || !no_tensors(call))
        return STATUS_OK;
    st = session_fetch(call->serve->session, call->session, seq, (size_t)n, &batch, &call->refusal,
                       err);
    if (!st && !refused(call)) {
        text_appendf(&call->out->header,
                     "\"seq\":%llu,\"epoch\":%llu,\"exhausted\":%s,\"fallback\":%s",
                     (unsigned long long)batch.seq, (unsigned long long)batch.epoch,
                     batch.exhausted ? "true" : "false", batch.fallback ? "true" : "false");
        message_out_take(call->out, "sid", DTYPE_U64, batch.n, (void **)&batch.sids);
        message_out_take(call->out, "difficulty", DTYPE_F32, batch.n, (void **)&batch.difficulty);
        message_out_take(call->out, "cluster", DTYPE_I32, batch.n, (void **)&batch.cluster);
    }
    ledger_batch_release(&batch);
    return st;
}

static enum status do_peek(struct call *call, struct error *err)
{
    uint64_t k = 0;
    uint64_t *sids;
    size_t n = 0;
    enum status st;

    if (!field_u64(call->message, "k", FIELD_REQUIRED, BATCH_MAX, &k, call->fault) ||
        !no_tensors(call))
        return STATUS_OK;
    sids = mem_alloc((size_t)k, sizeof(*sids));
    st = sids ? session_peek(call->serve->session, call->session, (size_t)k, sids, &n, err)
              : error_nomem(err);
    if (!st)
        message_out_take(call->out, "sid", DTYPE_U64, n, (void **)&sids);
    mem_free(sids);
    return st;
}

/* A rollout number below 0 is nobody's: it is turned down as an item, not as a request. */
static int32_t rollout_number(const struct tensor *rollout, size_t i)
{
    int32_t number = rollout ? tensor_i32(rollout, i) : -1;

    return rollout && number < 0 ? INT32_MIN : number;
}

static enum status do_feedback(struct call *call, struct error *err)
{
    static const char *const names[] = {"sid", "reward", "rollout", "length", "answer", NULL};
    const struct message *m = call->message;
    const struct tensor *sid = NULL, *reward = NULL, *rollout = NULL, *length = NULL,
                        *answer = NULL;
    struct feedback feedback = {0};
    struct feedback_counts counts = {0};
    struct ledger_rollout *rollouts;
    uint64_t policy_version = 0;
    bool final = false;
    uint64_t *sids;
    enum status st;

    if (!field_u64(m, "seq", FIELD_REQUIRED, SEQ_MAX, &feedback.seq, call->fault) ||
        !field_u64(m, "policy_version", FIELD_OPTIONAL, UINT64_MAX, &policy_version, call->fault) ||
        !field_bool(m, "final", &final, call->fault) || !tensors_known(m, names, call->fault))
        return STATUS_OK;
    sid = tensor_vector(m, "sid", DTYPE_U64, FIELD_REQUIRED, SIZE_MAX, call->fault);
    if (sid)
        reward = tensor_vector(m, "reward", DTYPE_F32, FIELD_REQUIRED, sid->count, call->fault);
    if (!sid || !reward)
        return STATUS_OK;
    rollout = tensor_vector(m, "rollout", DTYPE_I32, FIELD_OPTIONAL, sid->count, call->fault);
    if (!call->fault->code)
        length = tensor_vector(m, "length", DTYPE_I32, FIELD_OPTIONAL, sid->count, call->fault);
    if (!call->fault->code)
        answer = tensor_vector(m, "answer", DTYPE_U64, FIELD_OPTIONAL, sid->count, call->fault);
    if (call->fault->code)
        return STATUS_OK;
    if (sid->count > FEEDBACK_MAX) {
        fault_set(call->fault, E_TOO_LARGE, "sid",
                  "%zu rollouts in a request, expected at most %zu", sid->count, FEEDBACK_MAX);
        return STATUS_OK;
    }
    feedback.n = sid->count;
    sids = mem_alloc(feedback.n, sizeof(*sids));
    rollouts = mem_alloc(feedback.n, sizeof(*rollouts));
    st = sids && rollouts ? STATUS_OK : error_nomem(err);
    for (size_t i = 0; !st && i < feedback.n; i++) {
        int32_t tokens = length ? tensor_i32(length, i) : -1;

        sids[i] = tensor_u64(sid, i);
        rollouts[i] = (struct ledger_rollout){.rollout = rollout_number(rollout, i),
                                              .reward = tensor_f32(reward, i),
                                              .length = tokens < 0 ? -1 : tokens,
                                              .answer = answer ? tensor_u64(answer, i) : 0};
    }
    feedback.sids = sids;
    feedback.rollouts = rollouts;
    if (!st)
        st = session_feedback(call->serve->session, call->session, &feedback, &counts,
                              &call->refusal, err);
    if (!st && !refused(call)) {
        const uint64_t told[4] = {counts.accepted, counts.duplicate, counts.unknown,
                                  counts.rejected};

        text_appendf(&call->out->header,
                     "\"accepted\":%llu,\"duplicate\":%llu,\"unknown\":%llu,\"rejected\":%llu",
                     (unsigned long long)counts.accepted, (unsigned long long)counts.duplicate,
                     (unsigned long long)counts.unknown, (unsigned long long)counts.rejected);
        for (int i = 0; i < 4; i++)
            atomic_fetch_add_explicit(&call->serve->counters.feedback[i], told[i],
                                      memory_order_relaxed);
    }
    mem_free(sids);
    mem_free(rollouts);
    return st;
}

static enum status do_save(struct call *call, struct error *err)
{
    char tag[FIELD_STRING_MAX + 1], hex[HASH128_HEX_SIZE];
    uint64_t consumed_seq = UINT64_MAX;
    struct text state = {0};
    struct saved saved = {0};
    bool inlined = false;
    enum status st;

    if (!field_string(call->message, "tag", FIELD_REQUIRED, tag, call->fault) ||
        !field_u64(call->message, "consumed_seq", FIELD_OPTIONAL, SEQ_MAX, &consumed_seq,
                   call->fault) ||
        !field_bool(call->message, "inline", &inlined, call->fault) || !no_tensors(call))
        return STATUS_OK;
    st = session_save(call->serve->session, call->session, tag, consumed_seq, &saved,
                      inlined ? &state : NULL, &call->refusal, err);
    if (!st && !refused(call)) {
        text_append(&call->out->header, "\"tag\":");
        text_append_json_string(&call->out->header, tag, strlen(tag));
        hash128_hex(saved.hash, hex);
        text_appendf(&call->out->header, ",\"next_seq\":%llu,\"bytes\":%llu,\"hash\":\"%s\"",
                     (unsigned long long)saved.next_seq, (unsigned long long)saved.bytes, hex);
        if (inlined)
            st = message_out_copy(call->out, "state", DTYPE_U8, state.length, state.data, err);
    }
    text_release(&state);
    return st;
}

static enum status do_restore(struct call *call, struct error *err)
{
    static const char *const names[] = {"state", NULL};
    char tag[FIELD_STRING_MAX + 1];
    struct restored restored = {0};
    const struct tensor *state;
    bool strict = true, tagged;
    enum status st;

    tagged = json_member(call->message->header, "tag") != NULL;
    if (!field_bool(call->message, "strict", &strict, call->fault) ||
        !field_string(call->message, "tag", tagged ? FIELD_REQUIRED : FIELD_OPTIONAL, tag,
                      call->fault) ||
        !tensors_known(call->message, names, call->fault))
        return STATUS_OK;
    state = tensor_vector(call->message, "state", DTYPE_U8, FIELD_OPTIONAL, SIZE_MAX, call->fault);
    if (call->fault->code)
        return STATUS_OK;
    if (tagged == (state != NULL)) {
        fault_set(call->fault, E_BAD_HEADER, "tag",
                  tagged ? "both a tag and a tensor 'state' are there, expected one of them"
                         : "neither a tag nor a tensor 'state' is there");
        return STATUS_OK;
    }
    st = session_restore(call->serve->session, call->session, tagged ? tag : NULL,
                         state ? state->data : NULL, state ? state->bytes : 0,
                         strict ? RESTORE_STRICT : RESTORE_LOOSE, &restored, &call->refusal, err);
    if (!st && !refused(call))
        text_appendf(
            &call->out->header, "\"next_seq\":%llu,\"dropped_tail\":%llu,\"dropped_feedback\":%llu",
            (unsigned long long)restored.next_seq, (unsigned long long)restored.dropped_batches,
            (unsigned long long)restored.dropped_rollouts);
    return st;
}

static enum status do_shutdown(struct call *call)
{
    uint64_t drain_ms = DRAIN_MS;

    if (field_u64(call->message, "drain_ms", FIELD_OPTIONAL, 3600000, &drain_ms, call->fault) &&
        no_tensors(call)) {
        log_event(call->serve->log, LOG_INFO, "shutdown", "a client asked for it");
        /* 0 is "at once", which to the server is the shortest time. */
        server_drain(call->serve->server, drain_ms ? (unsigned)drain_ms : 1);
    }
    return STATUS_OK;
}

/* Kinds whose answer is kept for retries, so that nothing is applied twice. */
static bool is_remembered(unsigned kind)
{
    return kind == KIND_SUBMIT || kind == KIND_FETCH || kind == KIND_FEEDBACK ||
           kind == KIND_SAVE || kind == KIND_RESTORE || kind == KIND_ATTACH;
}

/* Those that answer a repeated request by themselves: only that it is the same is remembered. A
 * state that travels is too large to be kept; SAVE to the same tag makes it again. */
static bool answers_again(unsigned kind, const struct message_out *out)
{
    return kind == KIND_FETCH || kind == KIND_ATTACH || (kind == KIND_SAVE && out->n_tensors);
}

/* This request is over when its answer arrives: its own bytes are free again then. */
static void append_credit(struct call *call)
{
    uint64_t credit = call->bytes;

    if (call->message->envelope.kind != KIND_SUBMIT)
        return;
    credit += server_session_credit(call->serve->server, call->session);
    text_appendf(&call->out->header, ",\"credit\":%llu", (unsigned long long)credit);
}

static enum status dispatch(struct call *call, struct encoded *encoded, struct error *err)
{
    switch ((enum protocol_kind)call->message->envelope.kind) {
    case KIND_HELLO:
        return do_hello(call, err);
    case KIND_STATS:
        return do_stats(call, err);
    case KIND_ATTACH:
        return do_attach(call, err);
    case KIND_SUBMIT:
        return do_submit(call, encoded, err);
    case KIND_FETCH:
        return do_fetch(call, err);
    case KIND_PEEK:
        return do_peek(call, err);
    case KIND_FEEDBACK:
        return do_feedback(call, err);
    case KIND_SAVE:
        return do_save(call, err);
    case KIND_RESTORE:
        return do_restore(call, err);
    case KIND_BYE:
        if (!no_tensors(call))
            return STATUS_OK;
        session_bye(call->serve->session, call->session);
        server_session_remove(call->serve->server, call->session);
        return STATUS_OK;
    case KIND_SHUTDOWN:
        return do_shutdown(call);
    case KIND_CURATE:
        return do_keep(call, encoded, err);
    case KIND_PING:
    case KIND_SCORE:
        break;
    }
    fault_set(call->fault, E_UNKNOWN_OP, NULL, "kind %u", call->message->envelope.kind);
    return STATUS_OK;
}

/* The answer that a repeated request got. */
static enum status answer_again(struct call *call, struct ledger_reply *reply, struct error *err)
{
    enum status st = STATUS_OK;

    text_append(&call->out->header, reply->header);
    if (reply->bytes)
        st = message_out_copy(call->out, "reason", DTYPE_U8, reply->n_bytes, reply->bytes, err);
    append_credit(call);
    return st;
}

static enum status remember(struct call *call, struct error *err)
{
    unsigned kind = call->message->envelope.kind;
    const struct message_out *out = call->out;
    struct ledger_reply reply = {.digest = call->digest, .kind = (uint16_t)kind};
    char header[] = "";

    if (!answers_again(kind, out)) {
        reply.header = out->header.data ? out->header.data : header;
        if (out->n_tensors) {
            reply.bytes = out->tensors[0].data;
            reply.n_bytes = out->tensors[0].bytes;
        }
    }
    return session_remember(call->serve->session, call->session, call->request, &reply, err);
}

static enum status answer(struct call *call, struct encoded *encoded, struct error *err)
{
    unsigned kind = call->message->envelope.kind;
    struct ledger_reply reply = {0};
    bool known = false;
    enum status st = STATUS_OK;

    if (is_remembered(kind) && call->request > INT64_MAX) {
        fault_set(call->fault, E_BAD_FRAME, "request", "request id %llu, expected one below 2^63",
                  (unsigned long long)call->request);
        return STATUS_OK;
    }
    if (is_remembered(kind))
        call->digest = kind == KIND_SUBMIT ? encoded->digest
                                           : message_digest(call->frames, call->n_frames, NULL);
    if (is_remembered(kind))
        st = session_replay(call->serve->session, call->session, call->request, call->digest,
                            &known, &reply, &call->refusal, err);
    if (!st && !refused(call) && known && reply.header) {
        st = answer_again(call, &reply, err);
        ledger_reply_release(&reply);
        return st;
    }
    ledger_reply_release(&reply);
    if (st || call->fault->code)
        return st;
    st = dispatch(call, encoded, err);
    if (!st && !call->fault->code && is_remembered(kind) && !known)
        st = remember(call, err);
    if (!st && !call->fault->code)
        append_credit(call);
    return st;
}

/* What is durable now is what COMPUTE encodes by. */
static void publish_reference(struct serve *serve)
{
    pthread_mutex_lock(&serve->reference_lock);
    serve->reference = session_reference(serve->session);
    pthread_mutex_unlock(&serve->reference_lock);
}

static void take_reference(struct serve *serve)
{
    struct encode_reference reference;

    pthread_mutex_lock(&serve->reference_lock);
    reference = serve->reference;
    pthread_mutex_unlock(&serve->reference_lock);
    candidates_encoder_refer(serve->encoder, &reference);
}

void serve_begin(void *context, enum lane lane)
{
    struct serve *serve = context;

    if (lane == LANE_COMPUTE)
        take_reference(serve);
    if (lane != LANE_STATE)
        return;
    serve->round_error = (struct error){0};
    serve->round_failed = session_begin(serve->session, &serve->round_error) != STATUS_OK;
}

/* The whole round is off: what was applied in memory is forgotten, clients are told to try again.
 */
static void round_fault(struct serve *serve, struct fault *fault)
{
    fault_set(fault, E_IO, NULL, "nothing was applied, the state cannot be written: %s",
              serve->round_error.message);
    fault->retry_after_ms = CLIENT_RETRY_MS;
}

void serve_end(void *context, enum lane lane, struct fault *fault)
{
    struct serve *serve = context;
    struct error ignored = {0};

    if (lane != LANE_STATE)
        return;
    if (!serve->round_failed)
        serve->round_failed = session_commit(serve->session, &serve->round_error) != STATUS_OK;
    else if (session_cancel(serve->session, &ignored))
        log_event(serve->log, LOG_ERROR, "state", "%s", ignored.message);
    if (serve->round_failed) {
        round_fault(serve, fault);
        /* Their numbers will be given to others. */
        for (size_t i = 0; i < serve->n_greeted; i++) {
            session_bye(serve->session, serve->greeted[i]);
            server_session_remove(serve->server, serve->greeted[i]);
        }
        log_event(serve->log, LOG_ERROR, "state", "%s", serve->round_error.message);
        /* A full disk is waited out; only what cannot be known ends the process. */
        if (session_broken(serve->session))
            server_fail(serve->server, serve->round_error.message);
    }
    serve->n_greeted = 0;
    atomic_store_explicit(&serve->storage_ok, !serve->round_failed, memory_order_relaxed);
    if (!serve->round_failed)
        publish_reference(serve);
    serve_update_figures(serve);
}

enum handle_outcome serve_handle(void *context, enum lane lane, struct request *request,
                                 struct message_out *out, struct fault *fault)
{
    struct serve *serve = context;
    struct call call = {
        .serve = serve,
        .message = &request->message,
        .session = request->message.envelope.session,
        .request = request->message.envelope.request,
        .frames = request->frames,
        .n_frames = request->n_frames,
        .bytes = request->bytes,
        .user = request->user,
        .out = out,
        .fault = fault,
    };
    struct error err = {0};
    enum status st;

    if (lane == LANE_COMPUTE)
        return serve_compute(serve, request, out, fault);
    if (serve->round_failed) {
        round_fault(serve, fault);
        return HANDLE_REPLY;
    }
    st = session_mark(serve->session, &err);
    if (!st)
        st = answer(&call, request->attachment, &err);
    if (!st)
        return HANDLE_REPLY;
    log_event(serve->log, LOG_ERROR, "request", "%s: %s",
              protocol_kind_name(request->message.envelope.kind), err.message);
    fault_from_error(fault, st, &err);
    if (session_broken(serve->session) || session_undo(serve->session, &serve->round_error)) {
        serve->round_failed = true;
        if (!serve->round_error.message[0])
            serve->round_error = err;
    }
    return HANDLE_REPLY;
}
