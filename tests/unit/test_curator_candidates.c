#include "curator/candidates.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/ledger_sample.h"
#include "tests/support/sae_sample.h"
#include "tests/support/scratch.h"

enum {
    D_IN = 6,
    D_SAE = 40,
    N = 16,
    TOKENS_MAX = 8, /* of a sample */
    T_MAX = N * TOKENS_MAX,

    /* Samples that are not like the others. */
    EMPTY = 2,
    WITH_SINK = 3,
    BAD = 5,    /* its first token is not finite */
    SILENT = 7, /* its first token is all zero */
    MASKED = 9, /* by the mask, if it is used */
};

static struct kernels kernels;

static const struct encode_reference no_reference;

/* An SAE, and a ledger that is open for writing too. */
struct world {
    struct sae sae;
    struct ledger *writer;
    char state[300];
    struct candidates_encoder_config config;
};

static void world_init(struct world *w, const char *name)
{
    *w = (struct world){.writer = NULL};
    snprintf(w->state, sizeof(w->state), "%s", scratch_path(name));
    sae_sample_init(&w->sae, D_IN, D_SAE, ACTIVATION_TOPK, 5, 1);
    w->writer = ledger_sample_open(w->state);
    w->config = (struct candidates_encoder_config){.sae = &w->sae,
                                                   .d_sae = D_SAE,
                                                   .pooling = POOLING_MEAN,
                                                   .sink_norm = 10,
                                                   .reconstruct = true,
                                                   .state = w->state,
                                                   .kernels = &kernels};
}

static void world_release(struct world *w)
{
    ledger_close(w->writer);
    sae_release(&w->sae);
}

static struct candidates_encoder *open_encoder(const struct world *w)
{
    struct candidates_encoder *encoder;

    assert_int_equal(candidates_encoder_new(&encoder, &w->config, NULL), STATUS_OK);
    return encoder;
}

/* Numbers that every dtype holds. Norms differ, so that a reference tells whose it is. */
struct pile {
    float x[T_MAX * D_IN];
    unsigned char keep[T_MAX];
    int64_t offsets[N + 1];
};

static void pile_init(struct pile *pile)
{
    struct rng rng;

    memset(pile, 0, sizeof(*pile));
    rng_init(&rng, 1, "test", 0);
    for (size_t i = 0; i < N; i++) {
        size_t begin = (size_t)pile->offsets[i], n = 2 + (size_t)rng_below(&rng, TOKENS_MAX - 1);
        float *x = pile->x + begin * D_IN;

        n = i == EMPTY ? 0 : n;
        pile->offsets[i + 1] = (int64_t)(begin + n);
        for (size_t j = 0; j < n * D_IN; j++)
            x[j] = (1 + (float)rng_below(&rng, 127)) / (rng_below(&rng, 2) ? 32 : -32);
        for (size_t t = 0; t < n; t++)
            pile->keep[begin + t] = i != MASKED && (t < 2 || rng_below(&rng, 4) > 0);
        if (i == BAD)
            x[1] = NAN;
        for (size_t j = 0; j < D_IN; j++) {
            if (i == SILENT)
                x[j] = 0;
            if (i == WITH_SINK)
                x[D_IN + j] *= 64;
        }
    }
}

enum mask {
    NO_MASK,
    MASK,
};

/* Some of the pile's samples as a trainer sends them. */
struct request {
    float x[T_MAX * D_IN]; /* what is in `bytes` */
    unsigned char bytes[T_MAX * D_IN * sizeof(float) + 1];
    unsigned char keep[T_MAX];
    int64_t offsets[N + 1];
    struct hash128 prompts[N];
    struct candidates candidates;
};

static void append_token(struct request *r, size_t at, const struct pile *pile, size_t token)
{
    memcpy(r->x + at * D_IN, pile->x + token * D_IN, D_IN * sizeof(float));
    r->keep[at] = pile->keep[token];
}

static void request_init(struct request *r, const struct pile *pile, enum candidates_form form,
                         enum mask mask, enum dtype dtype, const size_t *which, size_t n)
{
    size_t tokens = 0;

    memset(r, 0, sizeof(*r));
    for (size_t i = 0; i < n; i++) {
        size_t begin = (size_t)pile->offsets[which[i]], end = (size_t)pile->offsets[which[i] + 1];

        if (form == CANDIDATES_POOLED) { /* one that is nobody else's, of the empty one too */
            begin = which[i] == EMPTY ? (size_t)pile->offsets[N] - 1 : begin;
            end = begin + 1;
        }
        for (size_t t = begin; t < end; t++)
            append_token(r, tokens++, pile, t);
        r->offsets[i + 1] = (int64_t)tokens;
        r->prompts[i] = (struct hash128){.high = 1, .low = which[i]};
    }
    for (size_t j = 0; j < tokens * D_IN; j++) {
        uint16_t narrow = dtype == DTYPE_F32 ? 0 : activations_sample_narrow(dtype, r->x[j]);

        memcpy(r->bytes + 1 + j * dtype_size(dtype),
               dtype == DTYPE_F32 ? (const void *)&r->x[j] : &narrow, dtype_size(dtype));
    }
    r->candidates = (struct candidates){.form = form,
                                        .n = n,
                                        .dtype = dtype,
                                        .act = r->bytes + 1, /* an odd address */
                                        .d_in = D_IN,
                                        .prompts = r->prompts};
    if (form == CANDIDATES_TOKENS) {
        r->candidates.offsets = r->offsets;
        r->candidates.keep = mask == MASK ? r->keep : NULL;
    }
}

static void request_all(struct request *r, const struct pile *pile, enum candidates_form form,
                        enum mask mask, enum dtype dtype)
{
    size_t which[N];

    for (size_t i = 0; i < N; i++)
        which[i] = i;
    request_init(r, pile, form, mask, dtype, which, N);
}

/* Two samples, masked, as F32. */
static void request_pair(struct request *r, const struct pile *pile, size_t a, size_t b)
{
    request_init(r, pile, CANDIDATES_TOKENS, MASK, DTYPE_F32, (const size_t[]){a, b}, 2);
}

/* What a run makes of the same numbers. */
static void encode_plainly(struct encode_result *result, const struct world *w,
                           const struct request *r, const struct encode_reference *reference)
{
    const struct encode_config config = {.pooling = w->config.pooling,
                                         .sink_norm = w->config.sink_norm,
                                         .reconstruct = true,
                                         .reference = reference};
    const struct candidates *c = &r->candidates;
    const struct activations_memory memory = {.dtype = DTYPE_F32,
                                              .x = r->x,
                                              .tokens =
                                                  c->offsets ? (uint64_t)c->offsets[c->n] : c->n,
                                              .d_in = D_IN,
                                              .offsets = c->offsets,
                                              .samples = c->n,
                                              .keep = c->keep};
    struct activations *activations;

    assert_int_equal(activations_wrap(&activations, &memory, NULL), STATUS_OK);
    assert_int_equal(
        encode_run(result, &w->sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
        STATUS_OK);
    activations_close(activations);
}

static struct vectors encode(struct candidates_encoder *encoder, const struct candidates *c,
                             enum candidates_use use)
{
    struct error err = {0};
    struct vectors v;

    if (candidates_encode(encoder, &v, c, use, &err))
        fail_msg("%s", err.message);
    assert_int_equal(v.n, c->n);
    assert_int_equal(v.x.rows, c->n);
    assert_int_equal(v.x.cols, D_SAE);
    assert_true(v.pooled == (c->form == CANDIDATES_POOLED));
    if (c->form != CANDIDATES_SPARSE)
        assert_int_equal(v.n_known + v.n_encoded, c->n);
    assert_true((v.prompts != NULL) == (c->prompts != NULL));
    if (v.prompts && c->n)
        assert_memory_equal(v.prompts, c->prompts, c->n * sizeof(*v.prompts));
    return v;
}

static void assert_rows_equal(const struct csr *a, const struct csr *b)
{
    assert_int_equal(a->rows, b->rows);
    assert_memory_equal(a->indptr, b->indptr, (a->rows + 1) * sizeof(*a->indptr));
    if (csr_nnz(a) == 0)
        return;
    assert_memory_equal(a->indices, b->indices, csr_nnz(a) * sizeof(*a->indices));
    assert_memory_equal(a->values, b->values, csr_nnz(a) * sizeof(*a->values));
}

static void assert_reference(struct encode_reference a, struct encode_reference b)
{
    assert_int_equal(a.tokens, b.tokens);
    assert_true(a.median_norm == b.median_norm && a.variance == b.variance);
}

static void assert_plain(const struct vectors *v, const struct encode_result *result)
{
    assert_rows_equal(&v->x, &result->codes);
    assert_memory_equal(v->outcome, result->outcome, v->n);
    assert_memory_equal(v->tokens_used, result->tokens_used, v->n * sizeof(*v->tokens_used));
    assert_memory_equal(v->recon_mean, result->recon_mean, v->n * sizeof(*v->recon_mean));
    assert_memory_equal(v->recon_max, result->recon_max, v->n * sizeof(*v->recon_max));
    assert_int_equal(v->tokens_encoded, result->tokens_encoded);
    assert_reference(v->reference, result->reference);
}

static void assert_same(const struct vectors *a, const struct vectors *b)
{
    assert_rows_equal(&a->x, &b->x);
    assert_memory_equal(a->outcome, b->outcome, a->n);
    assert_memory_equal(a->tokens_used, b->tokens_used, a->n * sizeof(*a->tokens_used));
    assert_memory_equal(a->recon_mean, b->recon_mean, a->n * sizeof(*a->recon_mean));
    assert_memory_equal(a->recon_max, b->recon_max, a->n * sizeof(*a->recon_max));
    assert_memory_equal(a->content, b->content, a->n * sizeof(*a->content));
    assert_reference(a->reference, b->reference);
}

static void assert_empty(const struct vectors *v)
{
    assert_int_equal(v->n, 0);
    assert_int_equal(v->x.rows, 0);
    assert_true(!v->x.indptr && !v->x.indices && !v->x.values);
    assert_true(!v->outcome && !v->tokens_used && !v->recon_mean && !v->recon_max);
    assert_true(!v->content && !v->prompts);
}

static void put(struct world *w, const struct ledger_content *content)
{
    assert_int_equal(ledger_begin(w->writer, NULL), STATUS_OK);
    assert_int_equal(ledger_content_put(w->writer, content, NULL), STATUS_OK);
    assert_int_equal(ledger_commit(w->writer, NULL), STATUS_OK);
}

static void put_all(struct world *w, const struct vectors *v)
{
    for (size_t i = 0; i < v->n; i++) {
        struct ledger_content content = vectors_content(v, i);

        put(w, &content);
    }
}

/* One of the forms, dtypes and masks; at an odd address, then at an even one. */
static void compare_with_a_run(const struct world *w, const struct pile *pile,
                               enum candidates_form form, enum mask mask, enum dtype dtype,
                               const struct encode_reference *reference)
{
    struct candidates_encoder *encoder = open_encoder(w);
    struct vectors odd, even;
    struct encode_result expected;
    struct request r;

    request_all(&r, pile, form, mask, dtype);
    encode_plainly(&expected, w, &r, reference);
    assert_true(csr_nnz(&expected.codes) > 50);
    assert_true(form == CANDIDATES_POOLED || expected.tokens_sink > 0);
    candidates_encoder_refer(encoder, reference);
    odd = encode(encoder, &r.candidates, CANDIDATES_ONCE);
    assert_plain(&odd, &expected);
    assert_int_equal(odd.n_encoded, N);
    assert_true(odd.lasting == (reference->tokens > 0));
    memmove(r.bytes, r.bytes + 1, sizeof(r.bytes) - 1);
    r.candidates.act = r.bytes;
    even = encode(encoder, &r.candidates, CANDIDATES_ONCE);
    assert_same(&odd, &even);
    vectors_release(&odd);
    vectors_release(&even);
    encode_result_release(&expected);
    candidates_encoder_free(encoder);
}

static void activations_become_what_a_run_makes_of_them(void **unused)
{
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const struct encode_reference references[] = {
        {.tokens = 0}, {.tokens = 64, .median_norm = 5.5, .variance = 31.25}};
    struct pile pile;
    struct world w;

    (void)unused;
    world_init(&w, "plain");
    pile_init(&pile);
    for (size_t d = 0; d < 3; d++) {
        for (size_t r = 0; r < 2; r++) {
            compare_with_a_run(&w, &pile, CANDIDATES_TOKENS, MASK, dtypes[d], &references[r]);
            compare_with_a_run(&w, &pile, CANDIDATES_TOKENS, NO_MASK, dtypes[d], &references[r]);
            compare_with_a_run(&w, &pile, CANDIDATES_POOLED, NO_MASK, dtypes[d], &references[r]);
        }
    }
    world_release(&w);
}

/* Each sample becomes known by a request of its own; the whole must not change by that. */
static void learn_one_by_one(struct world *w, const struct pile *pile, enum candidates_form form,
                             uint64_t seed)
{
    struct candidates_encoder *encoder = open_encoder(w);
    struct encode_result expected;
    struct vectors first, again;
    struct request whole, single;
    uint64_t tokens;
    size_t order[N];
    struct rng rng;

    rng_init(&rng, seed, "test.order", 0);
    for (size_t i = 0; i < N; i++)
        order[i] = i;
    rng_shuffle(&rng, order, N);
    request_all(&whole, pile, form, MASK, DTYPE_BF16);
    encode_plainly(&expected, w, &whole, NULL);
    candidates_encoder_refer(encoder, &expected.reference);
    first = encode(encoder, &whole.candidates, CANDIDATES_ONCE);
    assert_plain(&first, &expected);
    tokens = first.tokens_encoded;
    for (size_t known = 1; known <= N; known++) {
        struct vectors v;

        request_init(&single, pile, form, MASK, DTYPE_BF16, &order[known - 1], 1);
        v = encode(encoder, &single.candidates, CANDIDATES_ONCE);
        put_all(w, &v);
        tokens -= v.tokens_encoded;
        vectors_release(&v);
        again = encode(encoder, &whole.candidates, known % 2 ? CANDIDATES_ONCE : CANDIDATES_KEPT);
        assert_same(&first, &again);
        assert_int_equal(again.n_known, known);
        assert_int_equal(again.tokens_encoded, tokens);
        assert_true(again.lasting);
        vectors_release(&again);
    }
    assert_int_equal(tokens, 0);
    vectors_release(&first);
    encode_result_release(&expected);
    candidates_encoder_free(encoder);
}

static void what_is_known_changes_neither_order_nor_bytes(void **unused)
{
    struct pile pile;

    (void)unused;
    pile_init(&pile);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct world w;
        char name[32];

        print_message("seed %d\n", (int)seed);
        snprintf(name, sizeof(name), "known-%d", (int)seed);
        world_init(&w, name);
        learn_one_by_one(&w, &pile, seed % 2 ? CANDIDATES_TOKENS : CANDIDATES_POOLED, seed);
        world_release(&w);
    }
}

static void submit_goes_by_the_text_and_score_by_the_content(void **unused)
{
    const struct encode_reference frozen = {.tokens = 64, .median_norm = 5.5, .variance = 31.25};
    struct candidates_encoder *encoder;
    struct encode_result expected;
    struct vectors first, v;
    struct request a, b;
    struct pile pile;
    struct world w;

    (void)unused;
    world_init(&w, "text");
    pile_init(&pile);
    w.config.reference = frozen;
    encoder = open_encoder(&w);
    request_pair(&a, &pile, 0, 1);
    first = encode(encoder, &a.candidates, CANDIDATES_KEPT);
    put_all(&w, &first);

    /* Other activations of the same texts: another dtype, layer or machine. */
    request_pair(&b, &pile, 12, 13);
    memcpy(b.prompts, a.prompts, sizeof(b.prompts));
    v = encode(encoder, &b.candidates, CANDIDATES_KEPT);
    assert_int_equal(v.n_known, 2);
    assert_same(&first, &v);
    vectors_release(&v);
    encode_plainly(&expected, &w, &b, &frozen);
    v = encode(encoder, &b.candidates, CANDIDATES_ONCE);
    assert_int_equal(v.n_known, 0);
    assert_plain(&v, &expected);
    vectors_release(&v);

    /* One text is known, the other is none. */
    b.prompts[1] = (struct hash128){0};
    v = encode(encoder, &b.candidates, CANDIDATES_KEPT);
    assert_int_equal(v.n_known, 1);
    assert_true(hash128_equal(v.content[0], first.content[0]));
    assert_false(hash128_equal(v.content[1], first.content[1]));
    assert_int_equal(v.tokens_encoded, expected.tokens_used[1]);
    vectors_release(&v);
    encode_result_release(&expected);

    /* The same activations by another text, or none. */
    for (int use = CANDIDATES_ONCE; use <= CANDIDATES_KEPT; use++) {
        a.candidates.prompts = a.prompts;
        a.prompts[0].low = a.prompts[1].low = 1000;
        v = encode(encoder, &a.candidates, (enum candidates_use)use);
        assert_int_equal(v.n_known, 2);
        assert_same(&first, &v);
        vectors_release(&v);
        a.candidates.prompts = NULL;
        v = encode(encoder, &a.candidates, (enum candidates_use)use);
        assert_int_equal(v.n_known, 2);
        assert_same(&first, &v);
        vectors_release(&v);
    }
    vectors_release(&first);
    candidates_encoder_free(encoder);
    world_release(&w);
}

/* In the ledger under the content of the request's sample 0, and easily told from its vector. */
static void put_false(struct world *w, const struct vectors *v)
{
    struct ledger_content content = vectors_content(v, 0);

    content.tokens_used = 99;
    content.n = 0;
    put(w, &content);
}

static void the_first_submit_freezes_the_statistics(void **unused)
{
    const struct encode_reference durable = {.tokens = 7, .median_norm = 0.25, .variance = 2};
    struct candidates_encoder *encoder;
    struct encode_result expected, later;
    struct request a, b, none;
    struct pile pile;
    struct vectors v;
    struct world w;

    (void)unused;
    world_init(&w, "freeze");
    pile_init(&pile);
    encoder = open_encoder(&w);
    request_pair(&a, &pile, 0, WITH_SINK);
    request_pair(&b, &pile, 12, 13);
    request_pair(&none, &pile, EMPTY, BAD);
    encode_plainly(&expected, &w, &a, NULL);
    encode_plainly(&later, &w, &b, &expected.reference);

    /* Until then nothing is looked up, and neither SCORE nor what has no norm freezes anything. */
    v = encode(encoder, &a.candidates, CANDIDATES_ONCE);
    assert_plain(&v, &expected);
    put_false(&w, &v);
    vectors_release(&v);
    v = encode(encoder, &none.candidates, CANDIDATES_KEPT);
    assert_int_equal(v.reference.tokens, 0);
    vectors_release(&v);
    none.candidates.n = 0;
    v = encode(encoder, &none.candidates, CANDIDATES_KEPT);
    vectors_release(&v);
    candidates_encoder_refer(encoder, &no_reference);
    for (int use = CANDIDATES_ONCE; use <= CANDIDATES_KEPT; use++) {
        v = encode(encoder, &a.candidates, (enum candidates_use)use);
        assert_int_equal(v.n_known, 0);
        assert_false(v.lasting);
        assert_plain(&v, &expected);
        vectors_release(&v);
    }

    v = encode(encoder, &a.candidates, CANDIDATES_ONCE);
    assert_int_equal(v.n_known, 1);
    assert_int_equal(v.tokens_used[0], 99);
    assert_true(v.lasting);
    vectors_release(&v);
    candidates_encoder_refer(encoder, &no_reference); /* the first is not durable yet */
    v = encode(encoder, &b.candidates, CANDIDATES_KEPT);
    assert_plain(&v, &later);
    assert_true(v.lasting);
    assert_reference(v.reference, expected.reference);
    vectors_release(&v);

    candidates_encoder_refer(encoder, &durable);
    v = encode(encoder, &b.candidates, CANDIDATES_KEPT);
    assert_reference(v.reference, durable);
    assert_true(v.tokens_encoded < later.tokens_encoded); /* nearly all are sinks by that norm */
    vectors_release(&v);
    encode_result_release(&expected);
    encode_result_release(&later);
    candidates_encoder_free(encoder);
    world_release(&w);
}

static void samples_that_have_no_vector_say_why(void **unused)
{
    static const size_t which[] = {EMPTY, BAD, 0, SILENT, MASKED};
    static const unsigned char tokens[] = {ENCODE_NO_TOKENS, ENCODE_NONFINITE, ENCODE_OK,
                                           ENCODE_ZERO_ACTIVATION, ENCODE_NO_TOKENS};
    static const unsigned char pooled[] = {ENCODE_OK, ENCODE_NONFINITE, ENCODE_OK,
                                           ENCODE_ZERO_ACTIVATION, ENCODE_OK};
    struct candidates_encoder *encoder;
    struct pile pile;
    struct world w;

    (void)unused;
    world_init(&w, "outcomes");
    pile_init(&pile);
    encoder = open_encoder(&w);
    for (int form = CANDIDATES_TOKENS; form <= CANDIDATES_POOLED; form++) {
        const unsigned char *expected = form == CANDIDATES_TOKENS ? tokens : pooled;
        struct request r;
        struct vectors v;

        request_init(&r, &pile, (enum candidates_form)form, MASK, DTYPE_F16, which, 5);
        v = encode(encoder, &r.candidates, CANDIDATES_ONCE);
        assert_memory_equal(v.outcome, expected, 5);
        for (size_t i = 0; i < 5; i++) {
            struct ledger_content content = vectors_content(&v, i);

            assert_true((content.n > 0) == (expected[i] == ENCODE_OK));
            assert_true((content.tokens_used > 0) == (expected[i] == ENCODE_OK));
            assert_int_equal(content.outcome, expected[i]);
        }
        vectors_release(&v);
    }
    candidates_encoder_free(encoder);
    world_release(&w);
}

static void requests_may_be_of_nothing(void **unused)
{
    static const int64_t offsets[4], indptr[4];
    static const struct hash128 prompts[] = {{1, 2}, {3, 4}};
    const struct encode_reference frozen = {.tokens = 64, .median_norm = 5.5, .variance = 31.25};
    struct candidates_encoder *encoder;
    struct vectors v;
    struct world w;

    (void)unused;
    world_init(&w, "nothing");
    encoder = open_encoder(&w);
    for (int i = 0; i < 2; i++) {
        for (int form = CANDIDATES_TOKENS; form <= CANDIDATES_SPARSE; form++) {
            struct candidates c = {.form = (enum candidates_form)form,
                                   .dtype = DTYPE_F32,
                                   .d_in = D_IN,
                                   .offsets = offsets,
                                   .x = {.cols = D_SAE, .indptr = indptr}};

            v = encode(encoder, &c, CANDIDATES_KEPT);
            assert_int_equal(v.tokens_encoded, 0);
            assert_int_equal(vectors_input(&v, NULL).x.rows, 0);
            vectors_release(&v);
            if (form == CANDIDATES_POOLED)
                continue;
            c.n = c.x.rows = 3; /* samples, but nothing in them */
            v = encode(encoder, &c, CANDIDATES_KEPT);
            for (size_t s = 0; s < 3; s++) {
                assert_int_equal(v.outcome[s],
                                 form == CANDIDATES_TOKENS ? ENCODE_NO_TOKENS : ENCODE_OK);
                assert_int_equal(vectors_content(&v, s).n, 0);
            }
            vectors_release(&v);
        }
        candidates_encoder_refer(encoder, &frozen);
    }

    /* One of them is known, so that the other is set apart. */
    put(&w, &(struct ledger_content){.prompt = prompts[0], .tokens_used = 99});
    v = encode(encoder,
               &(struct candidates){.form = CANDIDATES_TOKENS,
                                    .n = 2,
                                    .dtype = DTYPE_F32,
                                    .d_in = D_IN,
                                    .offsets = offsets,
                                    .prompts = prompts},
               CANDIDATES_KEPT);
    assert_true(v.n_known == 1 && v.tokens_used[0] == 99);
    assert_true(v.outcome[1] == ENCODE_NO_TOKENS && v.tokens_used[1] == 0);
    vectors_release(&v);
    candidates_encoder_free(encoder);
    world_release(&w);
}

enum {
    ROWS = 7
};

/* Rows 2 and 3 are not finite, nor are the errors of 4 and 5; 6 is of no tokens. */
struct features {
    int64_t indptr[ROWS + 1];
    uint32_t indices[8], tokens_used[ROWS];
    float values[8], recon_mean[ROWS], recon_max[ROWS];
    struct candidates candidates;
};

static void features_init(struct features *f)
{
    *f = (struct features){.indptr = {0, 2, 2, 4, 5, 6, 7, 8},
                           .indices = {3, 39, 0, 1, 5, 6, 7, 8},
                           .tokens_used = {3, 1, 4, 1, 5, 9, 0},
                           .values = {1.5F, -2, 1, INFINITY, NAN, 1, 1, 1},
                           .recon_mean = {0.5F, 0, 0.25F, 1, NAN, 1, 1},
                           .recon_max = {0.75F, 0, 0.5F, 1, 1, INFINITY, 1}};
    f->candidates = (struct candidates){.form = CANDIDATES_SPARSE,
                                        .n = ROWS,
                                        .x = {.rows = ROWS,
                                              .cols = D_SAE,
                                              .indptr = f->indptr,
                                              .indices = f->indices,
                                              .values = f->values},
                                        .tokens_used = f->tokens_used,
                                        .recon_mean = f->recon_mean,
                                        .recon_max = f->recon_max};
}

static void features_are_taken_as_they_come(void **unused)
{
    static const unsigned char outcome[] = {ENCODE_OK,        ENCODE_OK,        ENCODE_NONFINITE,
                                            ENCODE_NONFINITE, ENCODE_NONFINITE, ENCODE_NONFINITE,
                                            ENCODE_NO_TOKENS};
    struct candidates_encoder *encoder;
    struct ledger_content content;
    struct curate_input input;
    struct features f;
    struct vectors v;
    struct world w;

    (void)unused;
    world_init(&w, "features");
    w.config.sae = NULL;
    w.config.reference = (struct encode_reference){.tokens = 64, .median_norm = 5, .variance = 1};
    encoder = open_encoder(&w);
    features_init(&f);
    v = encode(encoder, &f.candidates, CANDIDATES_KEPT);
    assert_memory_equal(v.outcome, outcome, ROWS);
    assert_int_equal(csr_nnz(&v.x), 2);
    assert_memory_equal(v.x.indices, f.indices, 2 * sizeof(uint32_t));
    assert_memory_equal(v.x.values, f.values, 2 * sizeof(float));
    assert_memory_equal(v.tokens_used, f.tokens_used, sizeof(f.tokens_used));
    assert_memory_equal(v.recon_mean, f.recon_mean, sizeof(f.recon_mean));
    assert_memory_equal(v.recon_max, f.recon_max, sizeof(f.recon_max));
    assert_int_equal(v.n_encoded, 0);
    assert_int_equal(v.reference.tokens, 0);
    content = vectors_content(&v, 0);
    assert_true(content.n == 2 && content.indices[1] == 39 && content.values[0] == 1.5F);
    assert_true(content.tokens_used == 3 && content.recon_max == 0.75F);
    assert_true(hash128_equal(content.prompt, (struct hash128){0}));

    /* Nothing of it is looked up: what came is what counts. */
    put_false(&w, &v);
    vectors_release(&v);
    v = encode(encoder, &f.candidates, CANDIDATES_KEPT);
    assert_true(v.n_known == 0 && v.tokens_used[0] == 3);
    vectors_release(&v);

    /* What was not told stays untold. */
    f.candidates.tokens_used = NULL;
    f.candidates.recon_mean = f.candidates.recon_max = NULL;
    v = encode(encoder, &f.candidates, CANDIDATES_ONCE);
    assert_true(!v.tokens_used && !v.recon_mean && !v.recon_max);
    assert_int_equal(v.outcome[2], ENCODE_NONFINITE);
    assert_int_equal(v.outcome[3], ENCODE_NONFINITE);
    assert_int_equal(v.outcome[4], ENCODE_OK);
    assert_int_equal(v.outcome[6], ENCODE_OK);
    content = vectors_content(&v, 6);
    assert_true(content.n == 1 && content.tokens_used == 0);
    assert_true(isnan(content.recon_mean) && isnan(content.recon_max));
    input = vectors_input(&v, NULL);
    assert_true(!input.tokens_used && !input.recon_mean && !input.recon_max && !input.pooled);
    vectors_release(&v);
    candidates_encoder_free(encoder);
    world_release(&w);
}

/* Contents that all differ. */
struct contents {
    struct candidates_encoder *encoder;
    struct hash128 seen[32];
    size_t n;
};

/* Of the first sample. */
static struct hash128 content_of(struct candidates_encoder *encoder, const struct candidates *c)
{
    struct vectors v = encode(encoder, c, CANDIDATES_ONCE);
    struct hash128 content = v.content[0];

    vectors_release(&v);
    return content;
}

static void add_content(struct contents *all, const struct candidates *c)
{
    struct hash128 content = content_of(all->encoder, c);

    for (size_t i = 0; i < all->n; i++) {
        if (hash128_equal(all->seen[i], content))
            fail_msg("content %zu is that of %zu", all->n, i);
    }
    assert_true(all->n < 32);
    all->seen[all->n++] = content;
}

static void add_dense_contents(struct contents *all, const struct pile *pile)
{
    static const size_t which[] = {0, 1};
    struct request r;

    request_init(&r, pile, CANDIDATES_TOKENS, MASK, DTYPE_F16, which, 2);
    assert_true(r.offsets[1] > 2);
    memset(r.keep, 1, sizeof(r.keep));
    add_content(all, &r.candidates);
    r.keep[0] = 0;
    add_content(all, &r.candidates);
    r.keep[0] = 1;
    r.keep[r.offsets[1] - 1] = 0;
    add_content(all, &r.candidates);
    r.candidates.keep = NULL; /* nor is no mask one that keeps all */
    add_content(all, &r.candidates);
    r.candidates.dtype = DTYPE_BF16; /* the same bytes */
    add_content(all, &r.candidates);
    r.candidates.dtype = DTYPE_F16;
    r.bytes[1 + 2 * D_IN] ^= 1;
    add_content(all, &r.candidates);
    r.bytes[1 + 2 * D_IN] ^= 1;
    r.offsets[1]--; /* the last token is the next sample's */
    add_content(all, &r.candidates);
    r.offsets[1] = 1;
    add_content(all, &r.candidates);
    r.candidates.form = CANDIDATES_POOLED;
    add_content(all, &r.candidates);
}

static void add_sparse_contents(struct contents *all)
{
    struct features f;

    features_init(&f);
    add_content(all, &f.candidates);
    f.indices[0]++;
    add_content(all, &f.candidates);
    f.values[0]++;
    add_content(all, &f.candidates);
    f.tokens_used[0]++;
    add_content(all, &f.candidates);
    f.recon_max[0]++;
    add_content(all, &f.candidates);
    f.recon_mean[0]++;
    add_content(all, &f.candidates);
    f.recon_mean[0] = f.recon_max[0];
    f.candidates.recon_max = NULL;
    add_content(all, &f.candidates);
    f.candidates.recon_max = f.recon_max;
    f.candidates.recon_mean = NULL; /* nor is one error the other */
    add_content(all, &f.candidates);
    f.candidates.recon_max = NULL;
    f.tokens_used[0] = 0;
    add_content(all, &f.candidates);
    f.candidates.tokens_used = NULL; /* nor is an untold number none */
    add_content(all, &f.candidates);
    f.indptr[1] = 1;
    add_content(all, &f.candidates);
}

static void contents_differ_with_all_that_counts(void **unused)
{
    struct contents all = {.n = 0};
    struct request pair, other;
    struct hash128 a;
    struct pile pile;
    struct vectors v;
    struct world w;

    (void)unused;
    world_init(&w, "contents");
    pile_init(&pile);
    all.encoder = open_encoder(&w);
    add_dense_contents(&all, &pile);
    add_sparse_contents(&all);
    assert_int_equal(all.n, 20);

    /* And with nothing else: neither its place in the request, nor its neighbours, nor its text. */
    request_pair(&pair, &pile, 4, 1);
    a = content_of(all.encoder, &pair.candidates);
    request_pair(&other, &pile, 1, 4);
    other.candidates.prompts = NULL;
    v = encode(all.encoder, &other.candidates, CANDIDATES_ONCE);
    assert_true(hash128_equal(a, v.content[1]));
    vectors_release(&v);
    candidates_encoder_free(all.encoder);
    world_release(&w);
}

static void activations_need_an_sae(void **unused)
{
    struct candidates_encoder *encoder;
    struct error err = {0};
    struct request r;
    struct pile pile;
    struct vectors v;
    struct world w;

    (void)unused;
    world_init(&w, "without");
    pile_init(&pile);
    w.config.sae = NULL;
    encoder = open_encoder(&w);
    for (int form = CANDIDATES_TOKENS; form <= CANDIDATES_POOLED; form++) {
        request_all(&r, &pile, (enum candidates_form)form, MASK, DTYPE_F32);
        assert_int_equal(candidates_encode(encoder, &v, &r.candidates, CANDIDATES_KEPT, &err),
                         STATUS_UNSUPPORTED);
        assert_non_null(strstr(err.message, "sae.path"));
        assert_empty(&v);
    }
    candidates_encoder_free(encoder);
    world_release(&w);
}

/* Changes one bit of these values in a ledger that nobody has open. */
static void damage(const char *name, const float *values, size_t n)
{
    size_t n_bytes, size = n * sizeof(*values), found = 0;
    char *bytes = scratch_read(scratch_path(name), &n_bytes);

    for (size_t at = 0; at + size <= n_bytes; at++) {
        if (memcmp(bytes + at, values, size) == 0) {
            bytes[at + 1] = (char)(bytes[at + 1] ^ 4);
            found++;
        }
    }
    assert_true(found > 0);
    scratch_file(name, bytes, n_bytes);
    free(bytes);
}

static void what_the_lookup_fails_at_is_encoded(void **unused)
{
    struct candidates_encoder *encoder;
    struct ledger_content content;
    struct vectors first, again;
    struct request r;
    struct pile pile;
    struct world w;

    (void)unused;
    world_init(&w, "damaged");
    pile_init(&pile);
    w.config.reference = (struct encode_reference){.tokens = 64, .median_norm = 5, .variance = 1};
    encoder = open_encoder(&w);
    request_pair(&r, &pile, 0, 1);
    first = encode(encoder, &r.candidates, CANDIDATES_KEPT);
    put_all(&w, &first);
    candidates_encoder_free(encoder);
    ledger_close(w.writer);
    w.writer = NULL;
    content = vectors_content(&first, 1);
    damage("damaged/ledger.db", content.values, content.n);
    encoder = open_encoder(&w);
    for (int use = CANDIDATES_ONCE; use <= CANDIDATES_KEPT; use++) {
        again = encode(encoder, &r.candidates, (enum candidates_use)use);
        assert_int_equal(again.n_known, 1);
        assert_same(&first, &again);
        vectors_release(&again);
    }
    vectors_release(&first);
    candidates_encoder_free(encoder);
    world_release(&w);
}

static void a_canceled_request_leaves_nothing(void **unused)
{
    struct cancel cancel = {0};
    struct candidates_encoder *encoder;
    struct workers *workers;
    struct request r;
    struct pile pile;
    struct vectors v;
    struct world w;

    (void)unused;
    world_init(&w, "canceled");
    pile_init(&pile);
    assert_int_equal(workers_new(&workers, 2, &cancel, NULL), STATUS_OK);
    w.config.workers = workers;
    encoder = open_encoder(&w);
    request_all(&r, &pile, CANDIDATES_TOKENS, MASK, DTYPE_F32);
    atomic_store_explicit(&cancel.signal, 15, memory_order_relaxed);
    assert_int_equal(candidates_encode(encoder, &v, &r.candidates, CANDIDATES_KEPT, NULL),
                     STATUS_CANCELED);
    assert_empty(&v);
    atomic_store_explicit(&cancel.signal, 0, memory_order_relaxed);
    v = encode(encoder, &r.candidates, CANDIDATES_ONCE);
    assert_false(v.lasting); /* it froze nothing */
    vectors_release(&v);
    candidates_encoder_free(encoder);
    workers_free(workers);
    world_release(&w);
}

/* Until enough allocations are allowed; `expected` is what comes of it then. */
static void starve(struct candidates_encoder *encoder, const struct candidates *c,
                   const struct vectors *expected)
{
    bool done = false;
    size_t allowed = 0;

    for (; !done; allowed++) {
        struct vectors v;
        enum status st;

        mem_fail_after(allowed);
        st = candidates_encode(encoder, &v, c, CANDIDATES_KEPT, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        if (done) {
            assert_int_equal(v.n_known, expected->n_known);
            assert_true(v.lasting == expected->lasting);
            assert_same(expected, &v);
        } else {
            assert_empty(&v);
        }
        vectors_release(&v);
    }
    assert_true(allowed > 8);
}

static void short_memory_leaves_nothing(void **unused)
{
    struct candidates_encoder *encoder;
    struct vectors half, whole, v;
    struct request a, b;
    struct features f;
    struct pile pile;
    bool done = false;
    struct world w;

    (void)unused;
    world_init(&w, "memory");
    pile_init(&pile);
    request_pair(&a, &pile, 0, 12);
    request_all(&b, &pile, CANDIDATES_TOKENS, MASK, DTYPE_F16);

    /* The first SUBMIT: what fails freezes nothing, so that the next one measures for itself. */
    encoder = open_encoder(&w);
    whole = encode(encoder, &b.candidates, CANDIDATES_ONCE);
    starve(encoder, &b.candidates, &whole);
    v = encode(encoder, &a.candidates, CANDIDATES_ONCE);
    assert_reference(v.reference, whole.reference);
    vectors_release(&v);
    vectors_release(&whole);

    /* Some are known, some are not. */
    request_init(&a, &pile, CANDIDATES_TOKENS, MASK, DTYPE_F16, (const size_t[]){0, 7, 12}, 3);
    half = encode(encoder, &a.candidates, CANDIDATES_KEPT);
    put_all(&w, &half);
    whole = encode(encoder, &b.candidates, CANDIDATES_KEPT);
    assert_int_equal(whole.n_known, 3);
    starve(encoder, &b.candidates, &whole);
    vectors_release(&whole);
    vectors_release(&half);

    v = encode(encoder, &a.candidates, CANDIDATES_KEPT);
    assert_int_equal(v.n_known, 3);
    starve(encoder, &a.candidates, &v);
    vectors_release(&v);

    features_init(&f);
    v = encode(encoder, &f.candidates, CANDIDATES_KEPT);
    starve(encoder, &f.candidates, &v);
    vectors_release(&v);
    candidates_encoder_free(encoder);

    for (size_t allowed = 0; !done; allowed++) {
        enum status st;

        mem_fail_after(allowed);
        st = candidates_encoder_new(&encoder, &w.config, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        assert_true(done == (encoder != NULL));
        candidates_encoder_free(encoder);
    }
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_become_what_a_run_makes_of_them),
        cmocka_unit_test(what_is_known_changes_neither_order_nor_bytes),
        cmocka_unit_test(submit_goes_by_the_text_and_score_by_the_content),
        cmocka_unit_test(the_first_submit_freezes_the_statistics),
        cmocka_unit_test(samples_that_have_no_vector_say_why),
        cmocka_unit_test(requests_may_be_of_nothing),
        cmocka_unit_test(features_are_taken_as_they_come),
        cmocka_unit_test(contents_differ_with_all_that_counts),
        cmocka_unit_test(activations_need_an_sae),
        cmocka_unit_test(what_the_lookup_fails_at_is_encoded),
        cmocka_unit_test(a_canceled_request_leaves_nothing),
        cmocka_unit_test(short_memory_leaves_nothing),
    };

    blas_init();
    kernels_init(&kernels, cpu_detect());
    return cmocka_run_group_tests_name("curator/candidates", tests, scratch_setup,
                                       scratch_teardown);
}
