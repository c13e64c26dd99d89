#include "curator/candidates.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sae/activations.h"

struct candidates_encoder {
    struct candidates_encoder_config config;
    struct encoder *encoder; /* NULL without an SAE */
    struct ledger *reader;
};

void vectors_release(struct vectors *v)
{
    csr_release(&v->x);
    mem_free(v->outcome);
    mem_free(v->tokens_used);
    mem_free(v->recon_mean);
    mem_free(v->recon_max);
    mem_free(v->content);
    mem_free(v->prompts);
    *v = (struct vectors){0};
}

struct curate_input vectors_input(const struct vectors *v, const uint64_t *order)
{
    return (struct curate_input){.x = csr_as_view(&v->x),
                                 .outcome = v->outcome,
                                 .tokens_used = v->tokens_used,
                                 .recon_mean = v->recon_mean,
                                 .recon_max = v->recon_max,
                                 .pooled = v->pooled,
                                 .prompts = v->prompts,
                                 .order = order};
}

struct ledger_content vectors_content(const struct vectors *v, size_t i)
{
    int64_t begin = v->x.indptr[i];
    size_t n = (size_t)(v->x.indptr[i + 1] - begin);

    return (struct ledger_content){.content = v->content[i],
                                   .prompt = v->prompts ? v->prompts[i] : (struct hash128){0},
                                   .outcome = v->outcome[i],
                                   .tokens_used = v->tokens_used ? v->tokens_used[i] : 0,
                                   .recon_mean = v->recon_mean ? v->recon_mean[i] : NAN,
                                   .recon_max = v->recon_max ? v->recon_max[i] : NAN,
                                   .indices = n ? v->x.indices + begin : NULL, /* may be NULL */
                                   .values = n ? v->x.values + begin : NULL,
                                   .n = n};
}

enum status candidates_encoder_new(struct candidates_encoder **out,
                                   const struct candidates_encoder_config *config,
                                   struct error *err)
{
    struct candidates_encoder *e = mem_zalloc(1, sizeof(*e));
    enum status st = STATUS_OK;

    *out = NULL;
    if (!e)
        return error_nomem(err);
    e->config = *config;
    st = ledger_open(&e->reader, config->state, NULL, LEDGER_READ, NULL, err);
    if (!st && config->sae)
        st = encoder_new(&e->encoder, config->sae, config->kernels, config->workers, err);
    if (st) {
        candidates_encoder_free(e);
        return st;
    }
    *out = e;
    return STATUS_OK;
}

void candidates_encoder_free(struct candidates_encoder *e)
{
    if (!e)
        return;
    encoder_free(e->encoder);
    ledger_close(e->reader);
    mem_free(e);
}

void candidates_encoder_refer(struct candidates_encoder *e,
                              const struct encode_reference *reference)
{
    if (reference->tokens)
        e->config.reference = *reference;
}

/* Tokens of sample i. */
static void sample_range(const struct candidates *c, size_t i, size_t *begin, size_t *end)
{
    *begin = c->form == CANDIDATES_TOKENS ? (size_t)c->offsets[i] : i;
    *end = c->form == CANDIDATES_TOKENS ? (size_t)c->offsets[i + 1] : i + 1;
}

/* Of all that the vector depends on, but for the SAE and its settings, which are the state's. */
static enum status hash_contents(struct hash128 *content, const struct candidates *c,
                                 struct error *err)
{
    size_t width = c->d_in * dtype_size(c->dtype);
    struct hasher *hasher;

    for (size_t i = 0; i < c->n; i++) {
        int32_t kind[4] = {(int32_t)c->form, (int32_t)c->dtype};
        size_t begin, end;

        /* What is there, so that no part can pass for another. */
        sample_range(c, i, &begin, &end);
        kind[2] = (int32_t)(end - begin);
        kind[3] = (c->keep != NULL) | (c->tokens_used != NULL) << 1 | (c->recon_max != NULL) << 2 |
                  (c->recon_mean != NULL) << 3;
        hasher = hasher_new();
        if (!hasher)
            return error_nomem(err);
        hasher_update(hasher, kind, sizeof(kind));
        if (c->form == CANDIDATES_SPARSE) {
            struct sparse_row row = csr_view_row(c->x, i);
            uint32_t tokens_used = c->tokens_used ? c->tokens_used[i] : 0;

            hasher_update(hasher, row.indices, row.n * sizeof(*row.indices));
            hasher_update(hasher, row.values, row.n * sizeof(*row.values));
            hasher_update(hasher, &tokens_used, sizeof(tokens_used));
            if (c->recon_max)
                hasher_update(hasher, &c->recon_max[i], sizeof(*c->recon_max));
            if (c->recon_mean)
                hasher_update(hasher, &c->recon_mean[i], sizeof(*c->recon_mean));
        } else if (end > begin) { /* without any token `act` may be NULL */
            hasher_update(hasher, c->act + begin * width, (end - begin) * width);
            if (c->keep)
                hasher_update(hasher, c->keep + begin, end - begin);
        }
        content[i] = hasher_digest(hasher);
        hasher_free(hasher);
    }
    return STATUS_OK;
}

static bool row_finite(struct sparse_row row)
{
    for (size_t e = 0; e < row.n; e++) {
        if (!isfinite(row.values[e]))
            return false;
    }
    return true;
}

/* Features as they came. A row that is not finite is turned down by itself. */
static enum status take_sparse(struct vectors *v, const struct candidates *c, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < c->n; i++) {
        struct sparse_row row = csr_view_row(c->x, i);
        bool finite = row_finite(row) && (!c->recon_mean || isfinite(c->recon_mean[i])) &&
                      (!c->recon_max || isfinite(c->recon_max[i]));

        v->outcome[i] = ENCODE_OK;
        if (!finite)
            v->outcome[i] = ENCODE_NONFINITE;
        else if (c->tokens_used && c->tokens_used[i] == 0)
            v->outcome[i] = ENCODE_NO_TOKENS;
        if (v->outcome[i] != ENCODE_OK)
            row = (struct sparse_row){0};
        st = csr_append(&v->x, row, err);
        if (v->tokens_used)
            v->tokens_used[i] = c->tokens_used[i];
        if (v->recon_mean)
            v->recon_mean[i] = c->recon_mean[i];
        if (v->recon_max)
            v->recon_max[i] = c->recon_max[i];
    }
    return st;
}

/* The samples that must be encoded: all of them in place, or copied behind one another. */
struct missing {
    size_t *which; /* [n] */
    size_t n;
    unsigned char *act, *keep; /* copies, or NULL: all are missing */
    int64_t *offsets;
};

static void missing_release(struct missing *m)
{
    mem_free(m->which);
    mem_free(m->act);
    mem_free(m->keep);
    mem_free(m->offsets);
}

static enum status gather(struct missing *m, const struct candidates *c, struct error *err)
{
    size_t width = c->d_in * dtype_size(c->dtype), tokens = 0, begin, end;

    for (size_t i = 0; i < m->n; i++) {
        sample_range(c, m->which[i], &begin, &end);
        tokens += end - begin;
    }
    m->act = mem_alloc(tokens, width);
    m->keep = mem_alloc(tokens, 1);
    m->offsets = mem_alloc(m->n + 1, sizeof(*m->offsets));
    if (!m->act || !m->keep || !m->offsets)
        return error_nomem(err);
    tokens = 0;
    m->offsets[0] = 0;
    for (size_t i = 0; i < m->n; i++) {
        sample_range(c, m->which[i], &begin, &end);
        m->offsets[i + 1] = (int64_t)(tokens + end - begin);
        if (begin == end)
            continue;
        memcpy(m->act + tokens * width, c->act + begin * width, (end - begin) * width);
        if (c->keep)
            memcpy(m->keep + tokens, c->keep + begin, end - begin);
        tokens += end - begin;
    }
    return STATUS_OK;
}

static enum status wrap(struct activations **activations, const struct missing *m,
                        const struct candidates *c, struct error *err)
{
    const int64_t *offsets = m->offsets ? m->offsets : c->offsets;
    bool tokens = c->form == CANDIDATES_TOKENS;
    const struct activations_memory memory = {
        .name = "act",
        .dtype = c->dtype,
        .x = m->act ? m->act : c->act,
        .tokens = tokens ? (uint64_t)offsets[m->n] : m->n,
        .d_in = c->d_in,
        .offsets = tokens ? offsets : NULL,
        .samples = m->n,
        .keep = c->keep ? (m->keep ? m->keep : c->keep) : NULL,
    };

    return activations_wrap(activations, &memory, err);
}

static enum status encode_missing(struct candidates_encoder *e, struct encode_result *result,
                                  const struct missing *m, const struct candidates *c,
                                  struct error *err)
{
    const struct encode_config config = {
        .pooling = e->config.pooling,
        .sink_norm = e->config.sink_norm,
        .reconstruct = e->config.reconstruct,
        .reference = &e->config.reference,
    };
    struct activations *activations = NULL;
    enum status st = wrap(&activations, m, c, err);

    if (!st)
        st = encoder_run(e->encoder, result, activations, &config, e->config.progress,
                         e->config.progress_context, err);
    activations_close(activations);
    return st;
}

/* What the ledger knows of each sample; found [n]. */
static void look_up(struct candidates_encoder *e, const struct vectors *v,
                    const struct candidates *c, enum candidates_use use,
                    struct ledger_content *known, unsigned char *found)
{
    for (size_t i = 0; i < c->n; i++) {
        struct hash128 prompt = {0};
        bool is_known = false;

        if (use == CANDIDATES_KEPT && c->prompts)
            prompt = c->prompts[i];
        if (ledger_content_find(e->reader, v->content[i], prompt, &is_known, &known[i], NULL))
            is_known = false;
        found[i] = is_known;
    }
}

/* Known and encoded samples in the order of the request. */
static enum status merge(struct vectors *v, const struct encode_result *result,
                         const struct ledger_content *known, const unsigned char *found,
                         struct error *err)
{
    struct csr_view codes = csr_as_view(&result->codes);
    enum status st = STATUS_OK;
    size_t at = 0;

    for (size_t i = 0; !st && i < v->n; i++) {
        if (found[i]) {
            st = csr_append(&v->x,
                            (struct sparse_row){.indices = known[i].indices,
                                                .values = known[i].values,
                                                .n = known[i].n},
                            err);
            v->outcome[i] = known[i].outcome;
            v->tokens_used[i] = known[i].tokens_used;
            if (v->recon_mean) {
                v->recon_mean[i] = known[i].recon_mean;
                v->recon_max[i] = known[i].recon_max;
            }
            v->content[i] = known[i].content;
            continue;
        }
        assert(result->outcome); /* what was not known was encoded */
        st = csr_append(&v->x, csr_view_row(codes, at), err);
        v->outcome[i] = result->outcome[at];
        v->tokens_used[i] = result->tokens_used[at];
        if (v->recon_mean) {
            v->recon_mean[i] = result->recon_mean[at];
            v->recon_max[i] = result->recon_max[at];
        }
        at++;
    }
    return st;
}

static enum status take_dense(struct candidates_encoder *e, struct vectors *v,
                              const struct candidates *c, enum candidates_use use,
                              struct error *err)
{
    struct ledger_content *known = mem_zalloc(c->n, sizeof(*known));
    unsigned char *found = mem_zalloc(c->n, 1);
    struct missing missing = {.which = mem_alloc(c->n, sizeof(*missing.which))};
    struct encode_result result = {0};
    enum status st = known && found && missing.which ? STATUS_OK : error_nomem(err);

    /* Before the statistics are frozen a vector depends on the rest of its request. */
    if (!st && e->config.reference.tokens)
        look_up(e, v, c, use, known, found);
    for (size_t i = 0; !st && i < c->n; i++) {
        if (!found[i])
            missing.which[missing.n++] = i;
    }
    if (!st && missing.n && missing.n < c->n)
        st = gather(&missing, c, err);
    if (!st && missing.n) {
        st = encode_missing(e, &result, &missing, c, err);
        v->tokens_encoded = result.tokens_encoded;
        v->reference = result.reference;
    } else if (!st) {
        v->reference = e->config.reference;
    }
    if (!st)
        st = merge(v, &result, known, found, err);
    v->lasting = e->config.reference.tokens > 0;
    v->n_encoded = missing.n;
    v->n_known = c->n - missing.n;
    /* Whoever is next is encoded by the same; the ledger says it durably when this one is applied.
     */
    if (!st && use == CANDIDATES_KEPT && !e->config.reference.tokens)
        e->config.reference = v->reference;
    encode_result_release(&result);
    for (size_t i = 0; known && i < c->n; i++)
        ledger_content_release(&known[i]);
    mem_free(known);
    mem_free(found);
    missing_release(&missing);
    return st;
}

static enum status allocate(const struct candidates_encoder *e, struct vectors *v,
                            const struct candidates *c, struct error *err)
{
    bool sparse = c->form == CANDIDATES_SPARSE;
    bool tokens_used = !sparse || c->tokens_used;
    bool errors = !sparse && e->config.reconstruct && e->config.sae->reconstructs;
    bool recon_mean = sparse ? c->recon_mean != NULL : errors;
    bool recon_max = sparse ? c->recon_max != NULL : errors;

    *v = (struct vectors){.n = c->n, .pooled = c->form == CANDIDATES_POOLED};
    csr_clear(&v->x, e->config.d_sae);
    v->outcome = mem_zalloc(c->n, 1);
    v->content = mem_alloc(c->n, sizeof(*v->content));
    if (c->prompts)
        v->prompts = mem_alloc(c->n, sizeof(*v->prompts));
    if (tokens_used)
        v->tokens_used = mem_alloc(c->n, sizeof(*v->tokens_used));
    if (recon_mean)
        v->recon_mean = mem_alloc(c->n, sizeof(*v->recon_mean));
    if (recon_max)
        v->recon_max = mem_alloc(c->n, sizeof(*v->recon_max));
    if (!v->outcome || !v->content || (c->prompts && !v->prompts) ||
        (tokens_used && !v->tokens_used) || (recon_mean && !v->recon_mean) ||
        (recon_max && !v->recon_max))
        return error_nomem(err);
    if (c->prompts)
        memcpy(v->prompts, c->prompts, c->n * sizeof(*v->prompts));
    return STATUS_OK;
}

enum status candidates_encode(struct candidates_encoder *e, struct vectors *v,
                              const struct candidates *c, enum candidates_use use,
                              struct error *err)
{
    enum status st;

    *v = (struct vectors){0};
    if (c->form != CANDIDATES_SPARSE && !e->encoder)
        return error_set(err, STATUS_UNSUPPORTED,
                         "activations need an SAE, and the recipe names none (sae.path)");
    st = allocate(e, v, c, err);
    if (!st)
        st = hash_contents(v->content, c, err);
    if (!st)
        v->sent = hash128(v->content, c->n * sizeof(*v->content));
    if (!st)
        st = c->form == CANDIDATES_SPARSE ? take_sparse(v, c, err) : take_dense(e, v, c, use, err);
    if (st)
        vectors_release(v);
    return st;
}
