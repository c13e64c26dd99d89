#include <math.h>
#include <string.h>

#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static struct json *print(struct audit_sample *sample)
{
    return audit_sample_print(sample, audit_curriculum);
}

static void near(const struct json *root, const char *path, double expected)
{
    double found = audit_sample_number(root, path);

    if (!(fabs(found - expected) < 1e-12))
        fail_msg("%s: %.17g, expected %.17g", path, found, expected);
}

static void batches_are_told_one_by_one(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 10, 4);
    root = print(&sample);
    near(root, "batches", 3);
    near(root, "size", 4);
    near(root, "of_one_cluster", 0);
    near(root, "unbatched", 0);
    audit_sample_is_text(root, "order", "easy_to_hard");
    near(root, "timeline.per_point", 1);
    assert_int_equal(json_length(audit_sample_at(root, "timeline.batch")), 3);
    near(root, "timeline.batch.2", 2);
    /* Rows 4 to 7 have difficulties 0.5 to 0.8, qualities 0.4 to 0.7, clusters 1 2 0 1. */
    near(root, "timeline.difficulty.1", 0.65);
    near(root, "timeline.low.1", 0.5);
    near(root, "timeline.high.1", 0.8);
    near(root, "timeline.quality.1", 0.55);
    near(root, "timeline.clusters.1", 3);
    near(root, "timeline.entropy.1", 1.5);
    /* The last batch has rows 8 and 9, of clusters 2 and 0. */
    near(root, "timeline.clusters.2", 2);
    near(root, "timeline.entropy.2", 1);
    assert_int_equal(sample.audit.findings.n, 0);
    json_free(root);
    audit_sample_release(&sample);
}

static void the_map_counts_each_row_of_a_batch_once(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 10, 4);
    root = print(&sample);
    near(root, "map.batches_per_column", 1);
    /* Cluster 1 is in batches 0, 1 and 1 (rows 1, 4, 7), 2 in 0, 1 and 2, 0 in 0, 0, 1 and 2. */
    assert_int_equal(json_length(audit_sample_at(root, "map.clusters")), 3);
    near(root, "map.clusters.0", 1);
    near(root, "map.clusters.1", 0);
    near(root, "map.clusters.2", 2);
    near(root, "map.counts.0.0", 1);
    near(root, "map.counts.0.1", 2);
    near(root, "map.counts.0.2", 1);
    near(root, "map.counts.2.0", 0);
    near(root, "map.counts.2.1", 1);
    json_free(root);
    audit_sample_release(&sample);
}

static void a_large_plan_stays_small(void **state)
{
    enum {
        N = 4001
    };
    struct audit_sample sample;
    const struct json *map;
    struct json *root;
    size_t sum = 0;

    (void)state;
    audit_sample_init(&sample, N, 1);
    sample.run.clusters.k = 100;
    for (size_t i = 0; i < N; i++)
        sample.run.cluster[i] = i % 2 ? (uint32_t)(i % 100) : (uint32_t)(i % 6);
    root = print(&sample);
    near(root, "timeline.per_point", 3);
    assert_int_equal(json_length(audit_sample_at(root, "timeline.entropy")), 1334);
    near(root, "timeline.batch.1333", 3999);
    /* Three batches of one row each: of one cluster, and averaged. */
    near(root, "timeline.clusters.5", 1);
    near(root, "timeline.entropy.5", 0);
    near(root, "timeline.difficulty.1", 5.0 / N);
    near(root, "timeline.low.1", 4.0 / N);
    map = audit_sample_at(root, "map");
    assert_int_equal(json_length(json_member(map, "clusters")), 41);
    near(root, "map.clusters.40", -1);
    assert_in_range(json_length(json_member(map, "counts")), 100, 120);
    for (size_t i = 0; i < json_length(json_member(map, "counts")); i++) {
        const struct json *column = json_element(json_member(map, "counts"), i);

        assert_int_equal(json_length(column), 41);
        for (size_t j = 0; j < 41; j++)
            sum += (size_t)json_double(json_element(column, j));
    }
    assert_int_equal(sum, N);
    json_free(root);
    audit_sample_release(&sample);
}

static void three_batches_are_shown(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 900, 300);
    root = print(&sample);
    assert_int_equal(json_length(audit_sample_at(root, "shown")), 3);
    audit_sample_is_text(root, "shown.0.which", "first");
    audit_sample_is_text(root, "shown.1.which", "middle");
    audit_sample_is_text(root, "shown.2.which", "last");
    near(root, "shown.2.batch", 2);
    assert_int_equal(json_length(audit_sample_at(root, "shown.1.samples")), 256);
    near(root, "shown.1.beyond", 44);
    near(root, "shown.1.samples.7.row", 307);
    json_free(root);

    sample.recipe.output.samples_in_report = 0;
    root = print(&sample);
    assert_int_equal(json_length(audit_sample_at(root, "shown.1.samples")), 0);
    near(root, "shown.1.beyond", 300);
    json_free(root);
    audit_sample_release(&sample);

    audit_sample_init(&sample, 2, 1);
    root = print(&sample);
    assert_int_equal(json_length(audit_sample_at(root, "shown")), 2);
    json_free(root);
    audit_sample_release(&sample);
}

static void shown_texts_are_short(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 1, 1);
    sample.run.data.samples[0].prompt.begin = sample.run.data.text.length;
    for (size_t i = 0; i < 100; i++)
        text_append(&sample.run.data.text, "\xc3\xa9");
    text_append(&sample.run.data.text, "end");
    sample.run.data.samples[0].prompt.length = 203;
    root = print(&sample);
    near(root, "shown.0.samples.0.clipped", 43);
    json_free(root);
    audit_sample_release(&sample);
}

static void without_a_plan_there_is_no_section(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 5, 2);
    audit_sample_forget_vectors(&sample);
    root = print(&sample);
    assert_non_null(json_member(root, "absent"));
    assert_int_equal(sample.audit.findings.n, 0);
    json_free(root);
    audit_sample_release(&sample);
}

/* All kept rows of no cluster and without scores, as with grouping none and order random. */
static void what_is_not_known_is_null(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 6, 2);
    sample.run.clusters.k = 0;
    sample.run.order_used = sample.recipe.batches.order = PLAN_RANDOM;
    for (size_t i = 0; i < 6; i++) {
        sample.run.cluster[i] = PLAN_NO_CLUSTER;
        sample.run.difficulty.values[i] = sample.run.quality.values[i] = NAN;
    }
    root = print(&sample);
    assert_null(audit_sample_at(root, "map"));
    assert_null(audit_sample_at(root, "timeline.entropy.0"));
    assert_null(audit_sample_at(root, "timeline.low.0"));
    assert_null(audit_sample_at(root, "timeline.difficulty.0"));
    assert_int_equal(sample.audit.findings.n, 0);
    json_free(root);
    audit_sample_release(&sample);
}

static void no_order_is_told(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 6, 2);
    sample.run.order_used = PLAN_NONE;
    json_free(print(&sample));
    assert_int_equal(sample.audit.findings.n, 1);
    assert_int_equal(sample.audit.findings.items[0].code, FINDING_UNORDERED);
    assert_int_equal(sample.audit.findings.items[0].severity, FINDING_NOTE);
    /* With labels at hand it is an oversight, in a run. */
    audit_sample_forget_findings(&sample);
    sample.run.data.n_difficulty = 5;
    json_free(print(&sample));
    assert_int_equal(sample.audit.findings.items[0].severity, FINDING_WARNING);
    assert_non_null(strstr(sample.audit.findings.items[0].title, "5 rows"));
    audit_sample_forget_findings(&sample);
    sample.run.folder = NULL;
    json_free(print(&sample));
    assert_int_equal(sample.audit.findings.items[0].severity, FINDING_NOTE);
    /* Row order that was asked for is fine. */
    audit_sample_forget_findings(&sample);
    sample.recipe.batches.order = PLAN_NONE;
    json_free(print(&sample));
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_release(&sample);
}

static void rows_of_no_batch_are_counted(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 10, 4);
    sample.run.plan.n_batches = 2; /* as drop_last leaves it */
    sample.run.batch[8] = sample.run.batch[9] = PLAN_NO_CLUSTER;
    root = print(&sample);
    near(root, "unbatched", 2);
    assert_int_equal(sample.audit.findings.n, 1);
    assert_int_equal(sample.audit.findings.items[0].code, FINDING_UNBATCHED);
    assert_int_equal(sample.audit.findings.items[0].n_rows, 2);
    assert_int_equal(sample.audit.findings.items[0].rows[0].row, 8);
    assert_string_equal(sample.audit.findings.items[0].title, "2 of 10 kept rows are in no batch");
    json_free(root);
    audit_sample_release(&sample);
}

static void curriculum_survives_failing_allocation(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 10, 4);
    sample.run.plan.n_batches = 2;
    sample.run.order_used = PLAN_NONE;
    audit_sample_fail_allocations(&sample, audit_curriculum);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_are_told_one_by_one),
        cmocka_unit_test(the_map_counts_each_row_of_a_batch_once),
        cmocka_unit_test(a_large_plan_stays_small),
        cmocka_unit_test(three_batches_are_shown),
        cmocka_unit_test(shown_texts_are_short),
        cmocka_unit_test(without_a_plan_there_is_no_section),
        cmocka_unit_test(what_is_not_known_is_null),
        cmocka_unit_test(no_order_is_told),
        cmocka_unit_test(rows_of_no_batch_are_counted),
        cmocka_unit_test(curriculum_survives_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
