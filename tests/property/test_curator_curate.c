/*
 * Requests against a frozen data set, over seeds: SCORE knows nothing of the other samples, CURATE
 * is a slow reading of docs/method.md, sections 2 to 5, and nothing depends on where in a request a
 * sample stands.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/curate.h"
#include "curator/sample.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/curate_sample.h"

enum {
    N_MAX = 90,
    SEEDS = 60,
};

static struct kernels kernels;
static uint64_t seed;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("seed %llu: %s", (unsigned long long)seed, #condition);                       \
    } while (0)

/* Rows of the data set, in any order and some of them several times. */
struct request {
    size_t n, which[N_MAX];
    struct csr x;
    unsigned char outcome[N_MAX];
    uint32_t tokens_used[N_MAX];
    float recon_mean[N_MAX], recon_max[N_MAX];
    struct hash128 prompts[N_MAX];
    uint64_t order[N_MAX];
};

static void gather(struct request *q, const struct curate_sample *s)
{
    assert_int_equal(csr_select(&q->x, csr_as_view(&s->data.x), q->which, q->n, NULL), STATUS_OK);
    for (size_t i = 0; i < q->n; i++) {
        size_t row = q->which[i];

        q->outcome[i] = s->data.has_vector[row] ? ENCODE_OK : ENCODE_NONFINITE;
        q->tokens_used[i] = s->data.tokens_used[row];
        q->recon_mean[i] = s->data.recon_mean[row];
        q->recon_max[i] = s->data.recon_max[row];
    }
}

static void draw(struct request *q, const struct curate_sample *s, struct rng *rng)
{
    q->n = rng_below(rng, N_MAX + 1);
    for (size_t i = 0; i < q->n; i++) {
        q->which[i] = rng_below(rng, PROBE_SAMPLE_ROWS);
        q->order[i] = rng_below(rng, UINT64_C(1) << 40) * 128 + i;
        q->prompts[i] = (struct hash128){0, rng_below(rng, 3) ? 0 : 1 + rng_below(rng, 12)};
    }
    gather(q, s);
}

/* The same samples, each with all that it has, elsewhere: sample i of `to` is at[i] of `from`. */
static void shuffle(struct request *to, const struct request *from, size_t *at,
                    const struct curate_sample *s, struct rng *rng)
{
    to->n = from->n;
    for (size_t i = 0; i < to->n; i++)
        at[i] = i;
    rng_shuffle(rng, at, to->n);
    for (size_t i = 0; i < to->n; i++) {
        to->which[i] = from->which[at[i]];
        to->order[i] = from->order[at[i]];
        to->prompts[i] = from->prompts[at[i]];
    }
    gather(to, s);
}

static struct curate_input input_of(const struct request *q)
{
    return (struct curate_input){
        .x = csr_as_view(&q->x),
        .outcome = q->outcome,
        .tokens_used = q->tokens_used,
        .recon_mean = q->recon_mean,
        .recon_max = q->recon_max,
        .prompts = q->prompts,
        .order = q->order,
    };
}

static struct curate_result curate(const struct curate_sample *s, const struct curate_input *input,
                                   const struct model *model, enum curate_rule rule)
{
    struct curate_result r;

    CHECK(!curate_score(&r, input, model, &s->recipe, rule, &kernels, NULL, NULL));
    return r;
}

static void draw_settings(struct curate_sample *s, struct rng *rng)
{
    static const char *const caps[] = {"0", "0.25", "0.5", "1"};
    static const char *const cosines[] = {"0.5", "0.8", "0.98", "1"};
    static const char *const orders[] = {"easy_to_hard", "hard_to_easy", "random", "none"};

    curate_sample_set(&s->recipe, "quality.max_drop_per_cluster", caps[rng_below(rng, 4)]);
    curate_sample_set(&s->recipe, "quality.action", rng_below(rng, 4) ? "drop" : "flag");
    curate_sample_set(&s->recipe, "dedup.exact.enabled", rng_below(rng, 4) ? "true" : "false");
    curate_sample_set(&s->recipe, "dedup.sae.enabled", rng_below(rng, 2) ? "true" : "false");
    curate_sample_set(&s->recipe, "dedup.sae.cosine", cosines[rng_below(rng, 4)]);
    curate_sample_set(&s->recipe, "difficulty.window", rng_below(rng, 2) ? "[0.1, 0.8]" : "null");
    curate_sample_set(&s->recipe, "batches.order", orders[rng_below(rng, 4)]);
    curate_sample_set(&s->recipe, "batches.drop_last", rng_below(rng, 2) ? "true" : "false");
}

static bool same_bits(double a, double b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}

static void check_score_alone(const struct curate_sample *s, const struct request *q,
                              const struct curate_result *whole)
{
    const struct curate_input input = input_of(q);
    struct curate_result r = curate(s, &input, &s->model, CURATE_SCORE);

    for (size_t i = 0; i < q->n; i++) {
        size_t row = q->which[i];

        CHECK(same_bits(r.difficulty_exact[i], whole->difficulty_exact[row]));
        CHECK(memcmp(&r.quality[i], &whole->quality[row], sizeof(float)) == 0);
        CHECK(memcmp(&r.difficulty[i], &whole->difficulty[row], sizeof(float)) == 0);
        CHECK(r.cluster[i] == whole->cluster[row]);
        CHECK(r.keep[i] == whole->keep[row]);
        CHECK(r.reason[i] == whole->reason[row]);
    }
    curate_result_release(&r);
}

static double cosine_of(struct sparse_row a, struct sparse_row b)
{
    return sparse_row_dot(a, b) / sqrt(sparse_row_norm2(a) * sparse_row_norm2(b));
}

/* Reasons by the book: samples one after another in their order, each against those before it. */
static void slow_filter(enum reason *reason, const struct curate_sample *s, const struct request *q)
{
    const struct recipe *recipe = &s->recipe;
    struct csr_view x = csr_as_view(&q->x);
    size_t sorted[N_MAX];
    bool in[N_MAX], low[N_MAX] = {false};

    for (size_t i = 0; i < q->n; i++) {
        size_t at = 0;

        for (size_t j = 0; j < q->n; j++)
            at += q->order[j] < q->order[i];
        sorted[at] = i;
        reason[i] = q->outcome[i] == ENCODE_OK ? REASON_NONE : REASON_NONFINITE;
    }
    for (size_t a = 0; recipe->dedup.exact.enabled && a < q->n; a++) {
        for (size_t b = 0; b < a; b++) {
            size_t i = sorted[a], j = sorted[b];

            if (reason[i] == REASON_NONE && reason[j] == REASON_NONE && q->prompts[i].low &&
                q->prompts[i].low == q->prompts[j].low)
                reason[i] = REASON_DUPLICATE;
        }
    }
    for (size_t a = 0; recipe->dedup.sae.enabled && a < q->n; a++) {
        for (size_t b = 0; b < a; b++) {
            size_t i = sorted[a], j = sorted[b];

            if (reason[i] == REASON_NONE && reason[j] == REASON_NONE &&
                s->cluster[q->which[i]] == s->cluster[q->which[j]] &&
                cosine_of(csr_view_row(x, i), csr_view_row(x, j)) >= recipe->dedup.sae.cosine)
                reason[i] = REASON_SAE_DUPLICATE;
        }
    }
    for (size_t i = 0; i < q->n; i++) {
        in[i] = reason[i] == REASON_NONE;
        low[i] = in[i] && s->quality_scores[q->which[i]] < s->model.quality_threshold;
    }
    for (size_t i = 0; i < q->n; i++) {
        uint32_t cluster = s->cluster[q->which[i]];
        double mine = s->quality_scores[q->which[i]];
        size_t members = 0, worse = 0;

        for (size_t j = 0; j < q->n; j++) {
            double other = s->quality_scores[q->which[j]];

            if (!in[j] || s->cluster[q->which[j]] != cluster)
                continue;
            members++;
            worse += low[j] && (other < mine || (other == mine && q->order[j] > q->order[i]));
        }
        if (low[i] && (double)worse < floor(recipe->quality.max_drop_per_cluster * (double)members))
            reason[i] = REASON_LOW_QUALITY;
    }
    for (size_t i = 0; recipe->difficulty.window.n && i < q->n; i++) {
        double d = rint(s->difficulty_scores[q->which[i]] * 0x1p24) / 0x1p24;

        if (in[i] && (reason[i] == REASON_NONE || recipe->quality.action == ACTION_FLAG) &&
            (d < s->model.window[0] || d > s->model.window[1]))
            reason[i] = REASON_DIFFICULTY_WINDOW;
    }
}

static void check_filter(const struct curate_sample *s, const struct request *q,
                         size_t counts[REASON_COUNT])
{
    const struct curate_input input = input_of(q);
    struct curate_result r = curate(s, &input, &s->model, CURATE_FILTER);
    enum reason expected[N_MAX];

    slow_filter(expected, s, q);
    for (size_t i = 0; i < q->n; i++) {
        bool flagged = expected[i] == REASON_LOW_QUALITY && s->recipe.quality.action == ACTION_FLAG;

        CHECK(r.reason[i] == expected[i]);
        CHECK(r.keep[i] == (expected[i] == REASON_NONE || flagged));
        counts[expected[i]]++;
    }
    curate_result_release(&r);
}

/* Who is kept and in which order, by sid, does not depend on where samples stand. */
static void check_shuffled(const struct curate_sample *s, const struct request *q,
                           const struct request *other, const size_t *at, const struct model *model)
{
    const struct curate_input inputs[] = {input_of(q), input_of(other)};
    struct curate_result r[2];
    struct batch_plan plan[2];

    for (size_t k = 0; k < 2; k++) {
        r[k] = curate(s, &inputs[k], model, CURATE_FILTER);
        CHECK(!curate_plan(&plan[k], &inputs[k], &r[k], &s->recipe, NULL));
    }
    for (size_t i = 0; i < q->n; i++) {
        CHECK(r[1].reason[i] == r[0].reason[at[i]]);
        CHECK(r[1].keep[i] == r[0].keep[at[i]]);
        CHECK(r[1].cluster[i] == r[0].cluster[at[i]]);
        CHECK(same_bits(r[1].difficulty_exact[i], r[0].difficulty_exact[at[i]]));
    }
    CHECK(plan[0].n == plan[1].n);
    CHECK(plan[0].n_batches == plan[1].n_batches);
    for (size_t p = 0; p < plan[0].n; p++) {
        CHECK(q->order[plan[0].order[p]] == other->order[plan[1].order[p]]);
        CHECK(r[0].keep[plan[0].order[p]]);
    }
    for (size_t k = 0; k < 2; k++) {
        batch_plan_release(&plan[k]);
        curate_result_release(&r[k]);
    }
}

static void requests_are_curated_by_the_book(void **state)
{
    size_t counts[REASON_COUNT] = {0};

    (void)state;
    for (seed = 1; seed <= SEEDS; seed++) {
        struct request q = {0}, other = {0};
        struct curate_sample s;
        struct curate_input input;
        struct curate_result whole;
        struct model own;
        size_t at[N_MAX];
        struct rng rng;

        rng_init(&rng, seed, "test.curate", 0);
        curate_sample_init(&s, seed, seed % 3 ? KMEANS_COSINE : KMEANS_EUCLIDEAN, &kernels);
        own = curate_sample_without_dataset(&s);
        for (size_t round = 0; round < 8; round++) {
            draw_settings(&s, &rng);
            input = curate_sample_input(&s);
            whole = curate(&s, &input, &s.model, CURATE_SCORE);
            draw(&q, &s, &rng);
            shuffle(&other, &q, at, &s, &rng);
            check_score_alone(&s, &q, &whole);
            check_filter(&s, &q, counts);
            check_shuffled(&s, &q, &other, at, &s.model);
            check_shuffled(&s, &q, &other, at, &own);
            curate_result_release(&whole);
        }
        csr_release(&q.x);
        csr_release(&other.x);
        curate_sample_release(&s);
    }
    assert_true(counts[REASON_NONE] > 500 && counts[REASON_DUPLICATE] > 100 &&
                counts[REASON_SAE_DUPLICATE] > 100 && counts[REASON_LOW_QUALITY] > 100 &&
                counts[REASON_DIFFICULTY_WINDOW] > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_curated_by_the_book),
    };

    blas_init();
    kernels_init(&kernels, cpu_detect());
    return cmocka_run_group_tests_name("curator/curate", tests, NULL, NULL);
}
