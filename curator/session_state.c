/*
 * curator/session_state.c - SAVE and RESTORE: a run's state by tag, or as bytes that travel in the
 * trainer's own checkpoint.
 *
 *     "SAERLST1"  what it belongs to  how far it is  prompts  batches and rollouts  pool  vectors
 *     XXH3-128 of all before it
 *
 * docs/state.md has the letter. Batches and vectors are only in bytes that travel: the ledger has
 * them already. The same state has the same bytes, also after a restart.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/session_internal.h"
#include "curator/state_bytes.h"

#define STATE_MAGIC "SAERLST1"
#define STATE_MAGIC_BYTES 8

/* Sequence and event numbers are below: what the protocol can say. */
#define NUMBER_MAX ((uint64_t)1 << 53)

static void put_hash(struct text *out, struct hash128 hash)
{
    state_put_u64(out, hash.high);
    state_put_u64(out, hash.low);
}

static struct hash128 get_hash(struct state_reader *in)
{
    struct hash128 hash;

    hash.high = state_get_u64(in);
    hash.low = state_get_u64(in);
    return hash;
}

static void put_prompts(struct text *out, const struct prompt_map *map)
{
    state_put_u64(out, map->n);
    for (size_t i = 0; i < map->n; i++) {
        const struct ledger_prompt *p = &map->prompts[i];

        state_put_u64(out, p->sid);
        state_put_double(out, p->a);
        state_put_double(out, p->b);
        state_put_u64(out, p->groups);
        state_put_u64(out, p->rollouts);
        state_put_double(out, p->reward_sum);
        state_put_u64(out, p->flat_groups);
        state_put_double(out, (double)p->flat_reward);
        state_put_u64(out, p->last_seq);
    }
}

/* Records of `size` bytes at least: a count that cannot be true is refused before it allocates. */
static size_t get_count(struct state_reader *in, size_t size)
{
    uint64_t n = state_get_u64(in);

    if (n > in->n / size)
        in->failed = true;
    return in->failed ? 0 : (size_t)n;
}

static enum status get_prompts(struct state_reader *in, struct ledger_prompt **prompts, size_t *n,
                               struct error *err)
{
    *n = get_count(in, 72);
    *prompts = mem_alloc(*n, sizeof(**prompts));
    if (!*prompts)
        return error_nomem(err);
    for (size_t i = 0; i < *n; i++) {
        struct ledger_prompt *p = &(*prompts)[i];

        p->slot = i;
        p->sid = state_get_u64(in);
        p->a = state_get_double(in);
        p->b = state_get_double(in);
        p->groups = state_get_u64(in);
        p->rollouts = state_get_u64(in);
        p->reward_sum = state_get_double(in);
        p->flat_groups = (uint32_t)state_get_u64(in);
        p->flat_reward = (float)state_get_double(in);
        p->last_seq = state_get_u64(in);
        in->failed |= !(p->a > 0 && p->b > 0) || !isfinite(p->a) || !isfinite(p->b) ||
                      !isfinite(p->reward_sum) || !isfinite(p->flat_reward);
    }
    return STATUS_OK;
}

static enum status put_rollouts(void *context, uint64_t sid, uint64_t seq,
                                const struct ledger_rollout *rollouts, size_t n, struct error *err)
{
    struct text *out = context;

    (void)seq;
    (void)err;
    state_put_u64(out, 1);
    state_put_u64(out, sid);
    state_put_u64(out, n);
    for (size_t i = 0; i < n; i++) {
        state_put_u64(out, (uint32_t)rollouts[i].rollout);
        state_put_double(out, (double)rollouts[i].reward);
        state_put_u64(out, (uint32_t)rollouts[i].length);
        state_put_u64(out, rollouts[i].answer);
    }
    return STATUS_OK;
}

/* A batch, then each of its prompts that has feedback behind a 1, then a 0. */
static enum status put_batch(struct text *out, struct session *session, int64_t run, uint64_t seq,
                             bool *found, struct error *err)
{
    struct ledger_batch batch = {0};
    enum status st = ledger_batch_get(session->ledger, run, seq, found, &batch, err);

    if (st || !*found)
        return st;
    state_put_u64(out, 1);
    state_put_u64(out, batch.seq);
    state_put_u64(out, batch.epoch);
    state_put_u64(out, batch.n_wanted);
    state_put_u64(out, (batch.exhausted ? 1u : 0u) | (batch.fallback ? 2u : 0u));
    state_put_array(out, batch.sids, batch.n, sizeof(*batch.sids));
    state_put_array(out, batch.difficulty, batch.n, sizeof(*batch.difficulty));
    state_put_array(out, batch.cluster, batch.n, sizeof(*batch.cluster));
    ledger_batch_release(&batch);
    st = ledger_feedback_batch(session->ledger, run, seq, put_rollouts, out, err);
    state_put_u64(out, 0);
    return st;
}

static enum status put_batches(struct text *out, struct session *session,
                               const struct run_state *run, struct error *err)
{
    uint64_t begin = run->record.consumed_seq, next = run->record.next_seq;
    enum status st = STATUS_OK;
    bool found;

    if (next > begin + SESSION_STATE_BATCHES)
        begin = next - SESSION_STATE_BATCHES;
    if (begin < run->progress.first_seq)
        begin = run->progress.first_seq;
    for (uint64_t seq = begin; !st && seq < next; seq++)
        st = put_batch(out, session, run->record.id, seq, &found, err);
    state_put_u64(out, 0);
    return st;
}

static void put_vector(struct text *out, const struct ledger_content *c)
{
    put_hash(out, c->content);
    put_hash(out, c->prompt);
    state_put_u64(out, c->outcome);
    state_put_u64(out, c->tokens_used);
    state_put_double(out, (double)c->recon_mean);
    state_put_double(out, (double)c->recon_max);
    state_put_array(out, c->indices, c->n, sizeof(*c->indices));
    state_put_array(out, c->values, c->n, sizeof(*c->values));
}

static enum status put_vectors(struct text *out, struct session *session,
                               const struct run_state *run, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < run->n_pool; i++) {
        struct ledger_content content = {0};
        bool found = false;

        st = ledger_content_find(session->ledger, run->pool[i].content, run->pool[i].prompt, &found,
                                 &content, err);
        if (!st && found) {
            state_put_u64(out, 1);
            put_vector(out, &content);
        }
        ledger_content_release(&content);
        if (out->length > SESSION_STATE_BYTES_MAX)
            break;
    }
    return st;
}

enum carried {
    CARRIED_NOT, /* stays in the ledger */
    CARRIED,     /* with batches, rollouts and the pool's vectors */
};

static enum status write_state(struct text *out, struct session *session,
                               const struct run_state *run, enum carried carried, struct error *err)
{
    struct text part = {0};
    enum status st = STATUS_OK;

    text_append_n(out, STATE_MAGIC, STATE_MAGIC_BYTES);
    state_put_string(out, run->record.name);
    state_put_string(out, session->config.config_hash);
    state_put_string(out, session->config.sae_hash);
    state_put_string(out, session->dataset);
    state_put_u64(out, ledger_lineage(session->ledger));
    state_put_u64(out, run->record.branch);
    state_put_u64(out, run->record.next_seq);
    state_put_u64(out, run->record.consumed_seq);
    state_put_u64(out, run->record.event);
    state_put_u64(out, session->reference.tokens);
    state_put_double(out, session->reference.median_norm);
    state_put_double(out, session->reference.variance);
    state_put_u64(out, run->n_pool);
    progress_write(&run->progress, &part);
    state_put_array(out, part.data, part.length, 1);
    text_clear(&part);
    if (run->plan.owned_sids)
        serving_plan_write(&run->plan, &part);
    state_put_array(out, part.data, part.length, 1);
    text_clear(&part);
    if (run->refit.n)
        refit_write(&run->refit, &part);
    state_put_array(out, part.data, part.length, 1);
    text_release(&part);
    put_prompts(out, &run->prompts);
    if (carried == CARRIED)
        st = put_batches(out, session, run, err);
    else
        state_put_u64(out, 0);
    for (size_t i = 0; i < run->n_pool; i++) {
        state_put_u64(out, run->pool[i].sid);
        put_hash(out, run->pool[i].content);
        put_hash(out, run->pool[i].prompt);
    }
    if (!st && carried == CARRIED)
        st = put_vectors(out, session, run, err);
    state_put_u64(out, 0);
    if (!st)
        st = text_check(out, err);
    if (!st) {
        put_hash(out, hash128(out->data, out->length));
        st = text_check(out, err);
    }
    return st;
}

enum status session_save(struct session *session, uint64_t id, const char *tag,
                         uint64_t consumed_seq, struct saved *saved, struct text *state,
                         struct refusal *refusal, struct error *err)
{
    struct ledger_snapshot snapshot = {0};
    struct text kept = {0};
    struct run_state *run = session_run_find(session, id);
    uint64_t next = run ? run->record.next_seq : 0;
    enum status st;

    if (consumed_seq != UINT64_MAX && consumed_seq > next) {
        refuse(refusal, REFUSAL_SEQ_GAP, "consumed_seq",
               "consumed_seq %llu is ahead of the next seq, %llu", (unsigned long long)consumed_seq,
               (unsigned long long)next);
        return STATUS_OK;
    }
    st = session_run_of(session, id, &run, err);
    if (st)
        return st;
    session->dirty = true;
    if (consumed_seq != UINT64_MAX && consumed_seq > run->record.consumed_seq)
        run->record.consumed_seq = consumed_seq;
    st = run_state_store(session, run, err);
    if (!st)
        st = write_state(&kept, session, run, CARRIED_NOT, err);
    if (!st && state)
        st = write_state(state, session, run, CARRIED, err);
    if (!st && state && state->length > SESSION_STATE_BYTES_MAX) {
        refuse(
            refusal, REFUSAL_TOO_LARGE, "inline",
            "the state takes %zu bytes, at most %zu fit into a frame: SAVE by tag without inline",
            state->length, SESSION_STATE_BYTES_MAX);
        text_release(&kept);
        text_clear(state);
        return session_undo(session, err);
    }
    snapshot.next_seq = run->record.next_seq;
    snapshot.consumed_seq = run->record.consumed_seq;
    snapshot.event = run->record.event;
    snapshot.state = kept.data;
    snapshot.n_state = kept.length;
    if (!st) {
        const struct text *told = state && state->length ? state : &kept;

        snapshot.hash = hash128(kept.data, kept.length);
        *saved = (struct saved){.next_seq = run->record.next_seq,
                                .bytes = told->length,
                                .hash = hash128(told->data, told->length)};
        st = ledger_snapshot_put(session->ledger, run->record.id, tag, &snapshot, err);
    }
    text_release(&kept);
    return st;
}

/* A state that was read, up to its prompts; `in` stands at the batches. */
struct incoming {
    char *run, *config_hash, *sae_hash, *dataset;
    uint64_t lineage, branch, next_seq, consumed_seq, event, n_pool;
    struct encode_reference reference;
    struct progress progress;
    struct serving_plan own; /* what `plan` says, if it is not empty */
    void *plan, *refit;
    size_t n_plan, n_refit;
    struct ledger_prompt *prompts;
    size_t n_prompts;
    uint64_t first_batch; /* lowest seq that came along */
    struct state_reader in;
};

static void incoming_release(struct incoming *s)
{
    mem_free(s->run);
    mem_free(s->config_hash);
    mem_free(s->sae_hash);
    mem_free(s->dataset);
    progress_release(&s->progress);
    serving_plan_release(&s->own);
    mem_free(s->plan);
    mem_free(s->refit);
    mem_free(s->prompts);
}

static enum status bad_state(const struct incoming *s, struct refusal *refusal, struct error *err)
{
    if (s->in.out_of_memory)
        return error_nomem(err);
    refuse(refusal, REFUSAL_TENSOR, "state", "the state's parts do not fit together");
    return STATUS_OK;
}

/* What would not be refused where it is used. */
static bool numbers_sound(const struct incoming *s)
{
    return s->next_seq < NUMBER_MAX && s->event < NUMBER_MAX && s->consumed_seq <= s->next_seq &&
           s->progress.first_seq <= s->next_seq && s->progress.epoch < NUMBER_MAX &&
           (!s->reference.tokens ||
            (isfinite(s->reference.median_norm) && s->reference.median_norm > 0)) &&
           (!s->n_plan || progress_fits(&s->progress, s->own.n));
}

static enum status read_state(struct incoming *s, const unsigned char *bytes, size_t n,
                              struct refusal *refusal, struct error *err)
{
    struct state_reader hash = {0};
    size_t n_progress = 0;
    void *progress;
    enum status st = STATUS_OK;

    if (n < STATE_MAGIC_BYTES + 16 || memcmp(bytes, STATE_MAGIC, STATE_MAGIC_BYTES - 1) != 0) {
        refuse(refusal, REFUSAL_TENSOR, "state", "%zu bytes that are no state of a sidecar", n);
        return STATUS_OK;
    }
    if (bytes[STATE_MAGIC_BYTES - 1] != STATE_MAGIC[STATE_MAGIC_BYTES - 1]) {
        refuse(refusal, REFUSAL_STATE_VERSION, "state",
               "a state of version '%c', this program reads version 1",
               bytes[STATE_MAGIC_BYTES - 1] >= ' ' && bytes[STATE_MAGIC_BYTES - 1] < 127
                   ? bytes[STATE_MAGIC_BYTES - 1]
                   : '?');
        return STATUS_OK;
    }
    hash = (struct state_reader){.bytes = bytes + n - 16, .n = 16};
    if (!hash128_equal(get_hash(&hash), hash128(bytes, n - 16))) {
        refuse(refusal, REFUSAL_TENSOR, "state",
               "the checksum at the end of %zu bytes does not hold: damaged or cut off", n);
        return STATUS_OK;
    }
    s->in =
        (struct state_reader){.bytes = bytes + STATE_MAGIC_BYTES, .n = n - STATE_MAGIC_BYTES - 16};
    s->run = state_get_string(&s->in);
    s->config_hash = state_get_string(&s->in);
    s->sae_hash = state_get_string(&s->in);
    s->dataset = state_get_string(&s->in);
    s->lineage = state_get_u64(&s->in);
    s->branch = state_get_u64(&s->in);
    s->next_seq = state_get_u64(&s->in);
    s->consumed_seq = state_get_u64(&s->in);
    s->event = state_get_u64(&s->in);
    s->first_batch = s->next_seq;
    s->reference.tokens = state_get_u64(&s->in);
    s->reference.median_norm = state_get_double(&s->in);
    s->reference.variance = state_get_double(&s->in);
    s->n_pool = state_get_u64(&s->in);
    progress = state_get_array(&s->in, &n_progress, 1);
    s->plan = state_get_array(&s->in, &s->n_plan, 1);
    s->refit = state_get_array(&s->in, &s->n_refit, 1);
    if (!s->in.failed)
        st = progress_read(&s->progress, progress, n_progress, err);
    if (!st && !s->in.failed && s->n_plan)
        st = serving_plan_read(&s->own, s->plan, s->n_plan, err);
    if (st == STATUS_FORMAT || !numbers_sound(s)) {
        s->in.failed = true;
        st = STATUS_OK;
    }
    if (!st && !s->in.failed)
        st = get_prompts(&s->in, &s->prompts, &s->n_prompts, err);
    mem_free(progress);
    return !st && s->in.failed ? bad_state(s, refusal, err) : st;
}

static const char *or_none(const char *hash)
{
    return *hash ? hash : "none";
}

/* Does the state belong here? */
static void check_state(const struct session *session, const struct incoming *s, const char *run,
                        enum restore_mode mode, struct refusal *refusal)
{
    const struct session_config *config = &session->config;

    if (strcmp(s->sae_hash, config->sae_hash) != 0)
        refuse(refusal, REFUSAL_SAE, "state",
               "the state was made with the SAE %s, this sidecar runs %s", or_none(s->sae_hash),
               or_none(config->sae_hash));
    else if (strcmp(s->dataset, session->dataset) != 0)
        refuse(refusal, REFUSAL_DATASET, "state",
               "the state was made with the data set %s, this sidecar serves %s",
               or_none(s->dataset), or_none(session->dataset));
    else if (mode == RESTORE_STRICT && strcmp(s->run, run) != 0)
        refuse(refusal, REFUSAL_RUN, "state",
               "the state is that of run '%s', this is '%s' (strict: false takes it)", s->run, run);
    else if (mode == RESTORE_STRICT && strcmp(s->config_hash, config->config_hash) != 0)
        refuse(refusal, REFUSAL_CONFLICT, "state",
               "the state was made under the recipe %s, this sidecar runs %s (strict: false takes "
               "it)",
               s->config_hash, config->config_hash);
}

/* Does the ledger hold everything that happened in this run since the state was taken? What it
 * keeps by tag is of its own past: what was not went when the run went back beyond it. */
static enum status is_ours(bool *ours, struct session *session, const struct run_state *run,
                           const char *tag, const struct incoming *s, struct error *err)
{
    *ours = tag || (s->lineage == ledger_lineage(session->ledger) &&
                    strcmp(s->run, run->record.name) == 0 && s->branch <= run->record.branch &&
                    s->next_seq <= run->record.next_seq && s->event <= run->record.event &&
                    s->n_pool <= run->n_pool);
    if (!*ours || tag)
        return STATUS_OK;
    return ledger_reaches(session->ledger, run->record.id, s->branch, s->next_seq, s->event, ours,
                          err);
}

static enum status take_rollouts(struct session *session, struct run_state *run, struct incoming *s,
                                 uint64_t seq, struct error *err)
{
    enum status st = STATUS_OK;

    while (!st && state_get_u64(&s->in) == 1 && !s->in.failed) {
        uint64_t sid = state_get_u64(&s->in);
        size_t n = get_count(&s->in, 32);
        struct ledger_rollout *rollouts = mem_alloc(n, sizeof(*rollouts));
        unsigned char *fate = mem_alloc(n, 1);
        bool first;

        if (!fate || !rollouts)
            st = error_nomem(err);
        for (size_t i = 0; !st && i < n; i++) {
            rollouts[i].rollout = (int32_t)(uint32_t)state_get_u64(&s->in);
            rollouts[i].reward = (float)state_get_double(&s->in);
            rollouts[i].length = (int32_t)(uint32_t)state_get_u64(&s->in);
            rollouts[i].answer = state_get_u64(&s->in);
        }
        if (!st && !s->in.failed && n)
            st = ledger_feedback_add(session->ledger, run->record.id, seq, sid, s->event, rollouts,
                                     n, fate, &first, err);
        mem_free(fate);
        mem_free(rollouts);
    }
    return st;
}

static enum status take_batches(struct session *session, struct run_state *run, struct incoming *s,
                                struct error *err)
{
    uint64_t expected = 0;
    bool any = false;
    enum status st = STATUS_OK;

    while (!st && state_get_u64(&s->in) == 1 && !s->in.failed) {
        struct ledger_batch batch = {0};
        size_t n_difficulty, n_cluster;
        uint64_t flags;

        batch.seq = state_get_u64(&s->in);
        batch.epoch = state_get_u64(&s->in);
        batch.n_wanted = (size_t)state_get_u64(&s->in);
        flags = state_get_u64(&s->in);
        batch.exhausted = flags & 1;
        batch.fallback = (flags & 2) != 0;
        batch.sids = state_get_array(&s->in, &batch.n, sizeof(*batch.sids));
        batch.difficulty = state_get_array(&s->in, &n_difficulty, sizeof(*batch.difficulty));
        batch.cluster = state_get_array(&s->in, &n_cluster, sizeof(*batch.cluster));
        if (!any) /* the others follow it to the last */
            expected = s->first_batch = batch.seq;
        any = true;
        s->in.failed |= n_difficulty != batch.n || n_cluster != batch.n ||
                        batch.n > batch.n_wanted || batch.n_wanted > UINT32_MAX ||
                        batch.epoch >= NUMBER_MAX || batch.seq != expected ||
                        batch.seq >= s->next_seq;
        expected++;
        if (!s->in.failed)
            st = ledger_batch_put(session->ledger, run->record.id, &batch, err);
        if (!st && !s->in.failed)
            st = take_rollouts(session, run, s, batch.seq, err);
        ledger_batch_release(&batch);
    }
    s->in.failed |= any && expected != s->next_seq;
    return st;
}

static enum status take_vectors(struct session *session, struct incoming *s, struct error *err)
{
    enum status st = STATUS_OK;

    while (!st && state_get_u64(&s->in) == 1 && !s->in.failed) {
        struct ledger_content c = {0};
        size_t n_values;

        c.content = get_hash(&s->in);
        c.prompt = get_hash(&s->in);
        c.outcome = (unsigned char)state_get_u64(&s->in);
        c.tokens_used = (uint32_t)state_get_u64(&s->in);
        c.recon_mean = (float)state_get_double(&s->in);
        c.recon_max = (float)state_get_double(&s->in);
        c.indices = state_get_array(&s->in, &c.n, sizeof(*c.indices));
        c.values = state_get_array(&s->in, &n_values, sizeof(*c.values));
        for (size_t i = 0; !s->in.failed && i < c.n; i++)
            s->in.failed |= c.indices[i] >= session->config.model->d_sae ||
                            (i > 0 && c.indices[i] <= c.indices[i - 1]);
        s->in.failed |= n_values != c.n || c.outcome != ENCODE_OK;
        for (size_t i = 0; !s->in.failed && i < c.n; i++)
            s->in.failed = !isfinite(c.values[i]);
        if (!s->in.failed)
            st = ledger_content_put(session->ledger, &c, err);
        ledger_content_release(&c);
    }
    return st;
}

/* A pool without vectors could never be planned. */
static enum status check_vectors(struct session *session, struct incoming *s,
                                 const struct ledger_pooled *pool, size_t n, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && !s->in.failed && i < n; i++) {
        struct ledger_content content = {0};
        bool found = false;

        st = ledger_content_find(session->ledger, pool[i].content, pool[i].prompt, &found, &content,
                                 err);
        s->in.failed |= !st && !found;
        ledger_content_release(&content);
    }
    return st;
}

/* Everything of a state that this ledger has no history of. */
static enum status take_in(struct session *session, struct run_state *run, struct incoming *s,
                           struct error *err)
{
    struct ledger_pooled *pool = NULL;
    size_t n_pool = 0;
    enum status st = take_batches(session, run, s, err);

    if (s->n_pool > s->in.n / 40)
        s->in.failed = true;
    if (!st && !s->in.failed) {
        n_pool = (size_t)s->n_pool;
        pool = mem_alloc(n_pool, sizeof(*pool));
        if (!pool)
            st = error_nomem(err);
    }
    for (size_t i = 0; !st && i < n_pool; i++) {
        pool[i].sid = state_get_u64(&s->in);
        pool[i].content = get_hash(&s->in);
        pool[i].prompt = get_hash(&s->in);
    }
    if (!st && !s->in.failed)
        st = take_vectors(session, s, err);
    if (!st && !s->in.failed)
        st = check_vectors(session, s, pool, n_pool, err);
    if (!st)
        st = ledger_pool_cut(session->ledger, run->record.id, 0, err);
    for (size_t i = 0; !st && !s->in.failed && i < n_pool; i++)
        st = ledger_pool_add(session->ledger, run->record.id, &pool[i], err);
    mem_free(pool);
    return st;
}

/* The frozen statistics come along where there are none yet. */
static enum status take_reference(struct session *session, const struct incoming *s,
                                  struct error *err)
{
    if (session->reference.tokens || !s->reference.tokens)
        return STATUS_OK;
    return session_freeze(session, &s->reference, err);
}

static enum status check_refit(struct incoming *s, size_t rows, struct error *err)
{
    struct refit refit = {0};
    enum status st = s->n_refit ? refit_read(&refit, s->refit, s->n_refit, rows, err) : STATUS_OK;

    for (size_t i = 0; !st && i < refit.n; i++)
        s->in.failed |= isinf(refit.predicted[i]) != 0;
    if (!st && refit.n)
        s->in.failed |= !isfinite(refit.alpha) || refit.alpha < 0 || !(refit.l1_ratio >= 0) ||
                        !(refit.l1_ratio <= 1) || refit.n_fitted > rows;
    refit_release(&refit);
    s->in.failed |= st == STATUS_FORMAT;
    return st == STATUS_FORMAT ? STATUS_OK : st;
}

/* Do its parts fit together, and with the data set? */
static bool run_sound(const struct session *session, const struct run_state *run)
{
    const struct model *model = session->config.model;
    const struct progress *p = &run->progress;
    bool sound = p->planned_pool <= run->n_pool && p->n_done <= run->n_pool;

    for (size_t i = 0; sound && i < run->n_pool; i++) {
        uint64_t sid = run->pool[i].sid;

        sound = !(model->has_dataset && sid < model->rows) &&
                prompt_map_find(&run->pooled, sid)->last_seq == i;
    }
    for (size_t i = 0; sound && i < run->prompts.n; i++) {
        const struct ledger_prompt *prompt = &run->prompts.prompts[i];

        sound = prompt_map_find(&run->prompts, prompt->sid) == prompt;
    }
    for (size_t i = 0; sound && run->plan.owned_sids && i < run->plan.n; i++) {
        uint64_t sid = run->plan.sids[i];

        sound = (model->has_dataset && sid < model->rows) || prompt_map_find(&run->pooled, sid);
    }
    if (sound && model->has_dataset && !run->plan.owned_sids)
        sound = progress_fits(p, session->dataset_plan.n);
    return sound;
}

static enum status apply(struct session *session, struct run_state *run, const char *tag,
                         struct incoming *s, struct restored *restored, struct refusal *refusal,
                         struct error *err)
{
    const struct session_config *config = &session->config;
    uint64_t next_seq = run->record.next_seq, dropped;
    int64_t id = run->record.id;
    bool ours;
    enum status st = is_ours(&ours, session, run, tag, s, err);

    if (!st)
        st = check_refit(s, config->model->rows, err);
    if (!st && s->in.failed)
        return bad_state(s, refusal, err);

    if (!st)
        st = ledger_rewind(session->ledger, run->record.id, ours ? s->next_seq : 0,
                           ours ? s->event : 0, s->prompts, s->n_prompts, &dropped,
                           &restored->dropped_rollouts, err);
    restored->dropped_batches = next_seq > s->next_seq ? next_seq - s->next_seq : 0;
    if (!st && ours) /* what was SUBMITted since is not known yet at that moment */
        st = ledger_pool_cut(session->ledger, run->record.id, (size_t)s->n_pool, err);
    if (!st && !ours) {
        st = take_in(session, run, s, err);
        if (!st && s->in.failed)
            return bad_state(s, refusal, err);
        if (!st)
            st = take_reference(session, s, err);
    }
    if (!ours)
        s->progress.first_seq = s->first_batch;
    /* Another recipe's plan of the data set: its place says nothing about ours. */
    if (config->model->has_dataset && !s->n_plan && strcmp(s->config_hash, config->config_hash)) {
        s->progress.cursor = 0;
        s->progress.n_taken = 0;
    }
    if (!st)
        st = ledger_blob_put(session->ledger, run->record.id, "plan", s->plan, s->n_plan, err);
    if (!st)
        st = ledger_blob_put(session->ledger, run->record.id, "refit", s->refit, s->n_refit, err);
    if (st)
        return st;
    run->record.next_seq = s->next_seq;
    run->record.consumed_seq = s->consumed_seq;
    run->record.event = s->event;
    progress_release(&run->progress);
    run->progress = s->progress;
    s->progress = (struct progress){0};
    restored->next_seq = s->next_seq;
    st = run_state_store(session, run, err);
    if (!st)
        st = session_load(session, err);
    for (size_t i = 0; !st && i < session->n_runs; i++) {
        if (session->runs[i].record.id == id && !run_sound(session, &session->runs[i]))
            return bad_state(s, refusal, err);
    }
    return st;
}

enum status session_restore(struct session *session, uint64_t id, const char *tag,
                            const void *bytes, size_t n, enum restore_mode mode,
                            struct restored *restored, struct refusal *refusal, struct error *err)
{
    const char *name = session_run_name(session, id);
    struct run_state *run = session_run_find(session, id);
    struct ledger_snapshot snapshot = {0};
    struct incoming state = {0};
    bool found = !tag;
    enum status st = STATUS_OK;

    *restored = (struct restored){0};
    if (tag && run) {
        st = ledger_snapshot_get(session->ledger, run->record.id, tag, &found, &snapshot, err);
        bytes = snapshot.state;
        n = snapshot.n_state;
    }
    if (!st && !found)
        refuse(refusal, REFUSAL_NO_SNAPSHOT, "tag", "run '%s' has no snapshot '%s'", name, tag);
    if (!st && refusal->code == REFUSAL_NONE)
        st = read_state(&state, bytes, n, refusal, err);
    if (!st && refusal->code == REFUSAL_NONE && state.dataset) /* it was read to the end */
        check_state(session, &state, name, mode, refusal);
    if (!st && refusal->code == REFUSAL_NONE) {
        session->dirty = true;
        st = session_run_of(session, id, &run, err);
        if (!st)
            st = apply(session, run, tag, &state, restored, refusal, err);
        if (!st && refusal->code != REFUSAL_NONE)
            st = session_undo(session, err);
    }
    incoming_release(&state);
    ledger_snapshot_release(&snapshot);
    return st;
}
