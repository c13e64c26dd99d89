#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/curate.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/curate_sample.h"

enum {
    N = 50,
};

/* A result by hand: what curate_plan looks at. */
struct case_ {
    struct curate_input input;
    struct curate_result result;
    struct recipe recipe;
    uint64_t order[N];
    double difficulty[N];
    int32_t cluster[N];
    unsigned char keep[N];
};

static void case_init(struct case_ *c)
{
    *c = (struct case_){.input = {.x = {.rows = N}}};
    assert_int_equal(recipe_init(&c->recipe, NULL), STATUS_OK);
    curate_sample_set(&c->recipe, "batches.size", "4");
    for (size_t i = 0; i < N; i++) {
        c->order[i] = (i * 37 + 11) % 101 + 1000000; /* distinct, not ascending */
        c->difficulty[i] = (double)(i * 7 % 23) / 16;
        c->cluster[i] = (int32_t)(i * 5 % 3) - 1; /* -1: in none */
        c->keep[i] = i % 6 != 5;
    }
    c->input.order = c->order;
    c->result = (struct curate_result){
        .n = N, .keep = c->keep, .cluster = c->cluster, .difficulty_exact = c->difficulty};
}

/* The plan of batch_plan_make over rows named by `order`, its rows named by sample. */
static void check(const struct case_ *c, const struct plan_config *config)
{
    struct plan_row rows[N];
    size_t sample_of[200], n = 0;
    struct batch_plan expected, plan;

    for (uint64_t row = 0; row < 2000000; row++) { /* ascending by row */
        if (row == 200)
            row = 1000000;
        for (size_t i = 0; i < N; i++) {
            if ((c->input.order ? c->order[i] : i) != row || !c->keep[i])
                continue;
            sample_of[n] = i;
            rows[n] = (struct plan_row){.row = row, .cluster = (uint32_t)c->cluster[i]};
            if (!isnan(c->difficulty[i]))
                assert_int_equal(plan_difficulty(&rows[n].difficulty, c->difficulty[i], NULL),
                                 STATUS_OK);
            n++;
        }
        if (row == 1000200)
            break;
    }
    assert_int_equal(batch_plan_make(&expected, rows, n, config, c->recipe.seed, NULL), STATUS_OK);
    assert_int_equal(curate_plan(&plan, &c->input, &c->result, &c->recipe, NULL), STATUS_OK);
    assert_int_equal(plan.n, n);
    assert_int_equal(plan.n_batches, expected.n_batches);
    for (size_t b = 0; b < plan.n_batches; b++) {
        assert_int_equal(plan.batches[b].begin, expected.batches[b].begin);
        assert_int_equal(plan.batches[b].end, expected.batches[b].end);
        assert_int_equal(plan.batches[b].cluster, expected.batches[b].cluster);
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;

        while (rows[at].row != expected.order[i])
            at++;
        assert_int_equal(plan.order[i], sample_of[at]);
    }
    batch_plan_release(&plan);
    batch_plan_release(&expected);
}

static void the_plan_is_that_of_the_kept_rows(void **state)
{
    static const char *const orders[] = {"easy_to_hard", "hard_to_easy", "random", "none"};
    static const char *const groupings[] = {"cluster", "spread", "none"};
    struct case_ c;

    (void)state;
    case_init(&c);
    for (size_t o = 0; o < 4; o++) {
        for (size_t g = 0; g < 3; g++) {
            curate_sample_set(&c.recipe, "batches.order", orders[o]);
            curate_sample_set(&c.recipe, "batches.grouping", groupings[g]);
            c.input.order = c.order;
            check(&c, &c.recipe.batches);
            c.input.order = NULL;
            check(&c, &c.recipe.batches);
        }
    }
    recipe_release(&c.recipe);
}

static void without_difficulty_rows_stand_in_their_order(void **state)
{
    struct plan_config none;
    struct case_ c;

    (void)state;
    case_init(&c);
    for (size_t i = 0; i < N; i++)
        c.difficulty[i] = (double)NAN;
    none = c.recipe.batches;
    none.order = PLAN_NONE;
    check(&c, &none);
    curate_sample_set(&c.recipe, "batches.order", "random");
    check(&c, &c.recipe.batches);
    recipe_release(&c.recipe);
}

static void fewer_than_a_batch_is_no_error(void **state)
{
    struct batch_plan plan;
    struct case_ c;

    (void)state;
    case_init(&c);
    curate_sample_set(&c.recipe, "batches.drop_last", "true");
    memset(c.keep, 0, N);
    assert_int_equal(curate_plan(&plan, &c.input, &c.result, &c.recipe, NULL), STATUS_OK);
    assert_int_equal(plan.n, 0);
    assert_int_equal(plan.n_batches, 0);
    batch_plan_release(&plan);

    c.keep[7] = c.keep[30] = c.keep[31] = 1; /* of 4 */
    c.difficulty[7] = 3;
    c.difficulty[30] = 2;
    c.difficulty[31] = 1;
    assert_int_equal(curate_plan(&plan, &c.input, &c.result, &c.recipe, NULL), STATUS_OK);
    assert_int_equal(plan.n_batches, 0);
    assert_int_equal(plan.n, 3);
    assert_int_equal(plan.order[0], 31);
    assert_int_equal(plan.order[1], 30);
    assert_int_equal(plan.order[2], 7);
    batch_plan_release(&plan);
    curate_sample_set(&c.recipe, "batches.drop_last", "false");
    assert_int_equal(curate_plan(&plan, &c.input, &c.result, &c.recipe, NULL), STATUS_OK);
    assert_int_equal(plan.n_batches, 1);
    batch_plan_release(&plan);
    recipe_release(&c.recipe);
}

static void the_plan_survives_failing_allocations(void **state)
{
    bool done = false;
    struct case_ c;

    (void)state;
    case_init(&c);
    for (size_t allowed = 0; !done; allowed++) {
        struct batch_plan plan;
        enum status st;

        mem_fail_after(allowed);
        st = curate_plan(&plan, &c.input, &c.result, &c.recipe, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        assert_true(done == (plan.order != NULL));
        batch_plan_release(&plan);
    }
    recipe_release(&c.recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_is_that_of_the_kept_rows),
        cmocka_unit_test(without_difficulty_rows_stand_in_their_order),
        cmocka_unit_test(fewer_than_a_batch_is_no_error),
        cmocka_unit_test(the_plan_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/curate_plan", tests, NULL, NULL);
}
