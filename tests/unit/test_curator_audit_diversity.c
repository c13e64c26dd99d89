#include <math.h>
#include <string.h>

#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static struct json *print(struct audit_sample *sample)
{
    audit_sample_forget_findings(sample);
    return audit_sample_print(sample, audit_diversity);
}

static void near(const struct json *root, const char *path, double expected)
{
    double found = audit_sample_number(root, path);

    if (!(fabs(found - expected) < 1e-6))
        fail_msg("%s: %.9g, expected %.9g", path, found, expected);
}

/* `rows` rows at cluster c, one cluster after another; each has two latents of its own. */
static void assign(struct audit_sample *sample, const size_t *rows, uint32_t k)
{
    struct run *run = &sample->run;
    double entropy = 0;
    size_t at = 0;

    for (uint32_t c = 0; c < k; c++) {
        for (size_t i = 0; i < rows[c]; i++, at++) {
            run->cluster[at] = c;
            run->features.indices[2 * at] = 2 * c;
            run->features.indices[2 * at + 1] = 2 * c + 1;
            run->features.values[2 * at] = (float)(1 + i % 3);
            run->similarity[at] = 1 / (float)(1 + i);
        }
    }
    assert_int_equal(at, run->data.n);
    for (uint32_t c = 0; c < k; c++) {
        double share = (double)rows[c] / (double)at;

        entropy -= share * log(share);
    }
    run->features.d_sae = 2 * k;
    run->clusters.k = k;
    run->clusters.effective = exp(entropy);
    /* Of all rows the same, in other order: errors of no cluster stand apart. */
    for (size_t i = 0; i < at; i++)
        run->features.recon_mean[i] = (float)(0.1 + 0.02 * (double)(i * 7 % 5));
}

static const struct finding *only(const struct audit_sample *sample)
{
    assert_int_equal(sample->audit.findings.n, 1);
    return &sample->audit.findings.items[0];
}

static void clusters_cards_and_map_agree(void **state)
{
    static const size_t rows[] = {20, 40, 30};
    struct audit_sample sample;
    struct json *root;
    double cells = 0;

    (void)state;
    audit_sample_init(&sample, 90, 9);
    assign(&sample, rows, 3);
    sample.run.verdicts[25].stage = STAGE_QUALITY; /* of cluster 1 */
    root = print(&sample);
    near(root, "rows", 90);
    near(root, "clusters", 3);
    near(root, "largest_share", 40 / 90.0);
    near(root, "sizes.0", 40);
    near(root, "sizes.2", 20);
    assert_true(audit_sample_number(root, "silhouette") > 0.8);
    near(root, "silhouette_rows", 90);
    near(root, "cards_beyond", 0);
    near(root, "cards.0.cluster", 1);
    near(root, "cards.0.size", 40);
    near(root, "cards.0.kept", 39);
    near(root, "cards.0.source_share", 0.5);
    near(root, "cards.0.latents.0.latent", 2);
    near(root, "cards.0.latents.0.within", 1);
    near(root, "cards.0.central.0.row", 20);
    near(root, "cards.0.central.2.row", 22);
    near(root, "cards.0.edge.0.row", 59);
    near(root, "cards.1.cluster", 2);
    /* Difficulty of rows 60 .. 89 is 61/90 .. 90/90: three from 0.6 on, then nine a tenth. */
    near(root, "cards.1.difficulty.5", 0);
    near(root, "cards.1.difficulty.6", 2);
    near(root, "cards.1.difficulty.7", 9);
    near(root, "cards.1.difficulty.9", 10);
    near(root, "cards.1.mean_difficulty", (61 + 90) / 2.0 / 90);
    for (size_t i = 0; i < json_length(audit_sample_at(root, "map.cells")); i++)
        cells += json_double(json_member(json_element(audit_sample_at(root, "map.cells"), i), "n"));
    assert_true(cells == 90);
    assert_int_equal(sample.audit.findings.n, 0);
    json_free(root);
    audit_sample_release(&sample);
}

static void the_largest_clusters_and_those_told_have_cards(void **state)
{
    struct audit_sample sample;
    size_t rows[40];
    struct json *root;
    bool told = false;

    (void)state;
    for (size_t c = 0; c < 40; c++)
        rows[c] = c == 39 ? 25 : 30;
    audit_sample_init(&sample, 39 * 30 + 25, 8);
    assign(&sample, rows, 40);
    for (size_t i = 39 * 30; i < sample.run.data.n; i++)
        sample.run.features.recon_mean[i] = 3; /* the smallest stands apart */
    root = print(&sample);
    assert_int_equal(json_length(audit_sample_at(root, "cards")), 24);
    near(root, "cards_beyond", 16);
    near(root, "cards.0.cluster", 0);
    near(root, "cards.22.cluster", 22);
    near(root, "cards.23.cluster", 39);
    assert_int_equal(only(&sample)->code, FINDING_GARBAGE_CLUSTER);
    assert_int_equal(only(&sample)->severity, FINDING_WARNING);
    assert_int_equal(only(&sample)->rows[0].row, 39 * 30);
    json_free(root);
    /* Nobody trains on rows that were dropped; fewer than twenty are no distribution. */
    for (size_t i = 39 * 30; i < sample.run.data.n; i++)
        sample.run.verdicts[i].stage = STAGE_QUALITY;
    root = print(&sample);
    assert_int_equal(only(&sample)->severity, FINDING_NOTE);
    json_free(root);
    for (size_t i = 39 * 30 + 19; i < sample.run.data.n; i++)
        sample.run.cluster[i] = 0;
    root = print(&sample);
    for (size_t i = 0; i < sample.audit.findings.n; i++)
        told |= sample.audit.findings.items[i].code == FINDING_GARBAGE_CLUSTER;
    assert_false(told);
    json_free(root);
    audit_sample_release(&sample);
}

static void unreadable_clusters_are_told_by_what_is_kept(void **state)
{
    static const size_t rows[] = {300, 12, 288};
    static const struct {
        size_t garbage, kept;
        int severity; /* -1: none */
    } cases[] = {{5, 12, -1},
                 {12, 12, FINDING_WARNING},
                 {12, 0, FINDING_NOTE},
                 {9, 12, -1},
                 {10, 12, FINDING_WARNING}};

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        struct audit_sample sample;
        struct json *root;

        audit_sample_init(&sample, 600, 10);
        assign(&sample, rows, 3);
        for (size_t i = 0; i < 600; i++)
            sample.audit.texts[i] = (struct audit_text){.words = 7};
        for (size_t i = 0; i < 12; i++) {
            sample.audit.texts[300 + i].garbage = i < cases[c].garbage ? 0.9F : 0.1F;
            if (i >= cases[c].kept)
                sample.run.verdicts[300 + i].stage = STAGE_QUALITY;
        }
        root = print(&sample);
        near(root, "cards.2.garbage", (double)cases[c].garbage / 12);
        near(root, "cards.0.words_mean", 7);
        if (cases[c].severity < 0)
            assert_int_equal(sample.audit.findings.n, 0);
        else
            assert_int_equal((int)only(&sample)->severity, cases[c].severity);
        json_free(root);
        audit_sample_release(&sample);
    }
}

/* Two clusters of 20 of 600 rows each: together more than one row in twenty. */
static void unreadable_clusters_weigh_together(void **state)
{
    static const size_t rows[] = {300, 20, 20, 260};

    (void)state;
    for (size_t n = 1; n <= 2; n++) {
        struct audit_sample sample;

        audit_sample_init(&sample, 600, 10);
        assign(&sample, rows, 4);
        for (size_t i = 0; i < 600; i++)
            sample.audit.texts[i] =
                (struct audit_text){.garbage = i >= 300 && i < 300 + 20 * n ? 0.9F : 0.1F};
        json_free(print(&sample));
        assert_int_equal(sample.audit.findings.n, n);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(sample.audit.findings.items[i].severity,
                             n == 1 ? FINDING_WARNING : FINDING_PROBLEM);
        audit_sample_release(&sample);
    }
}

static void one_cluster_may_be_large_among_few(void **state)
{
    static const size_t of_five[] = {80, 5, 5, 5, 5}, even_less[] = {79, 6, 5, 5, 5},
                        of_four[] = {80, 8, 6, 6}, of_two[] = {92, 8},
                        of_nine[] = {49, 9, 7, 7, 7, 7, 7, 4, 3},
                        of_eight[] = {50, 10, 10, 10, 5, 5, 5, 5};
    static const size_t thin[] = {41, 41, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const struct {
        const size_t *rows;
        uint32_t k;
        int code, severity;
    } cases[] = {{of_five, 5, FINDING_DOMINANT_CLUSTER, FINDING_WARNING},  {even_less, 5, -1, 0},
                 {of_eight, 8, FINDING_DOMINANT_CLUSTER, FINDING_WARNING}, {of_four, 4, -1, 0},
                 {of_two, 2, FINDING_DOMINANT_CLUSTER, FINDING_NOTE},      {of_nine, 9, -1, 0},
                 {thin, 20, FINDING_LOW_DIVERSITY, FINDING_NOTE}};

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        struct audit_sample sample;
        struct json *root;

        audit_sample_init(&sample, 100, 10);
        assign(&sample, cases[c].rows, cases[c].k);
        root = print(&sample);
        if (cases[c].code < 0) {
            assert_int_equal(sample.audit.findings.n, 0);
        } else {
            assert_int_equal((int)only(&sample)->code, cases[c].code);
            assert_int_equal((int)only(&sample)->severity, cases[c].severity);
        }
        json_free(root);
        audit_sample_release(&sample);
    }
}

static void few_rows_and_none_are_no_case(void **state)
{
    (void)state;
    for (size_t n = 1; n < 5; n++) {
        struct audit_sample sample;
        struct json *root;

        audit_sample_init(&sample, n, 1);
        sample.run.clusters.k = (uint32_t)(n < 3 ? n : 3);
        root = print(&sample);
        near(root, "rows", (double)n);
        assert_int_equal(sample.audit.findings.n, 0);
        json_free(root);
        audit_sample_forget_vectors(&sample);
        root = print(&sample);
        assert_non_null(audit_sample_at(root, "absent"));
        assert_non_null(
            strstr(text_string(&sample.audit.measures), "\"clusters\":{\"value\":null"));
        json_free(root);
        audit_sample_release(&sample);
    }
}

static void the_diversity_section_survives_failing_allocation(void **state)
{
    static const size_t rows[] = {200, 30, 10, 5, 5};
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 250, 10);
    assign(&sample, rows, 5);
    for (size_t i = 200; i < 230; i++)
        sample.run.features.recon_mean[i] = 2;
    sample.run.clusters.source_nmi = 0.95;
    audit_sample_fail_allocations(&sample, audit_diversity);
    assert_int_equal(sample.audit.findings.n, 3);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_cards_and_map_agree),
        cmocka_unit_test(the_largest_clusters_and_those_told_have_cards),
        cmocka_unit_test(unreadable_clusters_are_told_by_what_is_kept),
        cmocka_unit_test(unreadable_clusters_weigh_together),
        cmocka_unit_test(one_cluster_may_be_large_among_few),
        cmocka_unit_test(few_rows_and_none_are_no_case),
        cmocka_unit_test(the_diversity_section_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/audit_diversity", tests, NULL, NULL);
}
