#include "curator/labels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

#define N 1000

/* 1,000 rows of 250 contents; every tenth has no label, every hundredth no vector. */
struct sample_labels {
    uint64_t keys[N];
    double labels[N], chosen[N];
    unsigned char has_vector[N];
    struct features features;
    size_t n_chosen;
};

static void make(struct sample_labels *s)
{
    *s = (struct sample_labels){.features = {.rows = N, .keys = s->keys}};
    for (size_t row = 0; row < N; row++) {
        s->keys[row] = 1 + row % 250;
        s->labels[row] = row % 10 ? (double)row : NAN;
        s->has_vector[row] = row % 100 != 7;
    }
}

static void choose(struct sample_labels *s, size_t max, uint64_t seed)
{
    assert_int_equal(labels_choose(s->chosen, &s->n_chosen, s->labels, &s->features, s->has_vector,
                                   max, seed, NULL),
                     STATUS_OK);
}

static void labels_are_chosen_by_content(void **state)
{
    static struct sample_labels s, again;
    bool taken[251] = {false};
    size_t n = 0, differ = 0;

    (void)state;
    make(&s);
    choose(&s, 200, 1);
    for (size_t row = 0; row < N; row++) {
        if (isnan(s.chosen[row]))
            continue;
        assert_true(s.chosen[row] == s.labels[row] && s.has_vector[row]);
        taken[s.keys[row]] = true;
        n++;
    }
    assert_int_equal(n, s.n_chosen);
    assert_true(n > 190 && n <= 200);
    /* Copies stay together. */
    for (size_t row = 0; row < N; row++)
        assert_true(isnan(s.labels[row]) || !s.has_vector[row] ||
                    isnan(s.chosen[row]) == !taken[s.keys[row]]);
    /* The same content elsewhere in the data is the same choice; another seed is not. */
    make(&again);
    for (size_t row = 0; row < N; row++) {
        again.keys[row] = s.keys[N - 1 - row];
        again.labels[row] = s.labels[N - 1 - row];
        again.has_vector[row] = s.has_vector[N - 1 - row];
    }
    choose(&again, 200, 1);
    for (size_t row = 0; row < N; row++)
        assert_int_equal(isnan(again.chosen[row]), isnan(s.chosen[N - 1 - row]));
    choose(&again, 200, 2);
    for (size_t row = 0; row < N; row++)
        differ += isnan(again.chosen[row]) != isnan(s.chosen[N - 1 - row]);
    assert_true(differ > 100);
}

static void all_labels_are_chosen_where_there_are_few(void **state)
{
    static struct sample_labels s;

    (void)state;
    make(&s);
    choose(&s, N, 1);
    assert_int_equal(s.n_chosen, 890);
    /* Without keys each row is a content of its own. */
    s.features.keys = NULL;
    choose(&s, 100, 1);
    assert_int_equal(s.n_chosen, 100);
    /* A group that is too large is left out, not cut. */
    s.features.keys = s.keys;
    for (size_t row = 0; row < 900; row++)
        s.keys[row] = 1;
    choose(&s, 100, 1);
    assert_int_equal(s.n_chosen, 89);
}

static void predictions_come_back_as_they_were(void **state)
{
    const double predictions[] = {0.25, NAN, -1.5, 0.1 + 0.2};
    const char *path = scratch_path("p.safetensors");
    struct error err = {0};
    double read[4];

    (void)state;
    assert_int_equal(labels_save_predictions(predictions, 4, path, NULL), STATUS_OK);
    assert_int_equal(labels_load_predictions(read, 4, path, NULL), STATUS_OK);
    assert_memory_equal(read, predictions, sizeof(read));
    assert_int_equal(labels_load_predictions(read, 3, path, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "not the predictions for 3 rows"));
    assert_int_equal(labels_load_predictions(read, 4, scratch_path("none"), &err), STATUS_IO);
}

static void labels_choose_survives_failing_allocation(void **state)
{
    static struct sample_labels s;
    struct error err = {0};

    (void)state;
    make(&s);
    mem_fail_after(0);
    assert_int_equal(
        labels_choose(s.chosen, &s.n_chosen, s.labels, &s.features, s.has_vector, 10, 1, &err),
        STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
    assert_int_equal(s.n_chosen, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_chosen_by_content),
        cmocka_unit_test(all_labels_are_chosen_where_there_are_few),
        cmocka_unit_test(predictions_come_back_as_they_were),
        cmocka_unit_test(labels_choose_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/labels", tests, scratch_setup, scratch_teardown);
}
