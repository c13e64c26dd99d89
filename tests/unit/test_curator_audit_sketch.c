#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static const struct json *distribution(const struct json *root, const char *name)
{
    const struct json *list = json_member(root, "distributions");

    for (size_t i = 0; i < json_length(list); i++) {
        size_t n;

        if (strcmp(json_string(json_member(json_element(list, i), "name"), &n), name) == 0)
            return json_element(list, i);
    }
    return NULL;
}

static void quantiles_are(const struct json *root, const char *name, double n, double low,
                          double median, double high)
{
    const struct json *d = distribution(root, name);

    if (!d)
        fail_msg("%s is missing", name);
    assert_true(audit_sample_number(d, "n") == n);
    assert_int_equal(json_length(json_member(d, "quantiles")), 101);
    assert_true(fabs(audit_sample_number(d, "quantiles.0") - low) < 1e-7);
    assert_true(fabs(audit_sample_number(d, "quantiles.50") - median) < 1e-7);
    assert_true(fabs(audit_sample_number(d, "quantiles.100") - high) < 1e-7);
}

static void distributions_are_of_all_rows(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 101, 10);
    sample.run.verdicts[3].stage = STAGE_QUALITY; /* left out, and in the sketch */
    root = audit_sample_print(&sample, audit_sketch);
    quantiles_are(root, "words", 101, 1, 3, 5);
    quantiles_are(root, "tokens", 101, 2, 3, 4);
    quantiles_are(root, "quality", 101, 0, 50.0 / 101, 100.0 / 101);
    quantiles_are(root, "difficulty", 101, 1.0 / 101, 51.0 / 101, 1);
    quantiles_are(root, "pass_rate", 101, 0, 0.5, 1);
    quantiles_are(root, "recon", 101, 0, 25.0 / 101, 50.0 / 101);
    quantiles_are(root, "active_latents", 101, 2, 2, 2);
    json_free(root);
    audit_sample_release(&sample);
}

static void labels_are_kept_beside_predictions(void **state)
{
    struct audit_sample sample;
    struct json *root;
    char model[64];
    size_t n;

    (void)state;
    audit_sample_init(&sample, 9, 3);
    for (size_t i = 0; i < 9; i++) {
        sample.run.data.samples[i].quality = (double)(i % 2);
        sample.run.data.samples[i].difficulty = (double)i / 8;
        sample.run.data.samples[i].difficulty_from_rewards = i >= 5;
    }
    root = audit_sample_print(&sample, audit_sketch);
    quantiles_are(root, "quality_label", 9, 0, 0, 1);
    quantiles_are(root, "difficulty_label", 5, 0, 0.25, 0.5);
    assert_null(json_member(distribution(root, "quality_label"), "model"));
    /* The scores say which model they are of. */
    audit_sample_is_text(distribution(root, "quality"), "model", "fit");
    json_free(root);
    sample.run.quality.probe.d_sae = 8;
    root = audit_sample_print(&sample, audit_sketch);
    snprintf(model, sizeof(model), "%s",
             json_string(json_member(distribution(root, "quality"), "model"), &n));
    assert_int_equal(strlen(model), 32);
    json_free(root);
    sample.run.quality.probe.intercept = 0.5;
    root = audit_sample_print(&sample, audit_sketch);
    assert_string_not_equal(json_string(json_member(distribution(root, "quality"), "model"), &n),
                            model);
    json_free(root);
    audit_sample_release(&sample);
}

static void sources_are_those_of_the_audit(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 5, 2);
    root = audit_sample_print(&sample, audit_sketch);
    audit_sample_is_text(root, "sources.0.source", "even");
    assert_true(audit_sample_number(root, "sources.0.rows") == 3);
    assert_true(audit_sample_number(root, "sources_beyond") == 0);
    json_free(root);
    assert_int_equal(settings_set(recipe_schema, &sample.recipe, "output.redact", "[source]",
                                  (struct setting_origin){.word = "test"}, NULL),
                     STATUS_OK);
    root = audit_sample_print(&sample, audit_sketch);
    assert_null(json_member(root, "sources"));
    json_free(root);
    audit_sample_release(&sample);
}

static void latents_count_samples(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 16, 4);
    sample.run.has_vector[2] = 0;      /* has latents 0 and 3 */
    sample.run.features.values[0] = 0; /* stored, but not active: latent 0 of row 0 */
    root = audit_sample_print(&sample, audit_sketch);
    assert_true(audit_sample_number(root, "latents.rows") == 15);
    assert_true(audit_sample_number(root, "latents.d_sae") == 8);
    audit_sample_is_text(root, "latents.sae_hash", "00112233445566778899aabbccddeeff");
    assert_int_equal(json_length(audit_sample_at(root, "latents.latent")), 8);
    for (int i = 0; i < 8; i++) {
        static const double counts[] = {14, 3, 3, 1, 2, 2, 2, 2};

        assert_true(json_double(json_element(audit_sample_at(root, "latents.latent"), (size_t)i)) ==
                    i);
        assert_true(json_double(json_element(audit_sample_at(root, "latents.count"), (size_t)i)) ==
                    counts[i]);
    }
    assert_true(audit_sample_number(distribution(root, "active_latents"), "quantiles.0") == 1);
    json_free(root);
    audit_sample_release(&sample);
}

static void text_alone_has_a_sketch(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 5, 2);
    audit_sample_forget_vectors(&sample);
    sample.run.data.samples[1].problem = (struct span){0, 1};
    root = audit_sample_print(&sample, audit_sketch);
    quantiles_are(root, "words", 4, 1, 3.5, 5);
    assert_null(distribution(root, "tokens"));
    assert_null(distribution(root, "quality"));
    assert_null(json_member(root, "latents"));
    json_free(root);
    audit_sample_release(&sample);
}

static void sketch_survives_failing_allocation(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 8, 2);
    audit_sample_fail_allocations(&sample, audit_sketch);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distributions_are_of_all_rows),
        cmocka_unit_test(labels_are_kept_beside_predictions),
        cmocka_unit_test(sources_are_those_of_the_audit),
        cmocka_unit_test(latents_count_samples),
        cmocka_unit_test(text_alone_has_a_sketch),
        cmocka_unit_test(sketch_survives_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
