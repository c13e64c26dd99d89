#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static struct json *print(struct audit_sample *sample)
{
    audit_sample_forget_findings(sample);
    return audit_sample_print(sample, audit_sae);
}

static const struct finding *find(const struct audit_sample *sample, enum finding_code code)
{
    for (size_t i = 0; i < sample->audit.findings.n; i++) {
        if (sample->audit.findings.items[i].code == code)
            return &sample->audit.findings.items[i];
    }
    return NULL;
}

static void near(const struct json *root, const char *path, double expected)
{
    double found = audit_sample_number(root, path);

    if (!(fabs(found - expected) < 1e-6))
        fail_msg("%s: %.9g, expected %.9g", path, found, expected);
}

static void unknown(const struct json *root, const char *path)
{
    assert_true(isnan(audit_sample_number(root, path)));
}

/* As if encoded here, by an SAE of k 2 that explains `explained` of the variance. */
static void encode(struct audit_sample *sample, double explained, double l0)
{
    struct encode_summary *e = &sample->run.encode;

    mem_free(e->audit);
    mem_free(e->audit_json);
    *e = (struct encode_summary){
        .encoded = true,
        .reference = {.tokens = 1000, .median_norm = 5, .variance = 20},
        .tokens = 1100,
        .tokens_sink = 100,
        .tokens_encoded = 1000,
        .l0_median = l0,
        .l0_p95 = l0 + 1,
        .explained_variance = explained,
        .audit = mem_strdup("an audit line\nwarning: \"quoted\""),
        .audit_json =
            mem_strdup("\"declared_l0\":2,\"norm_expected\":null,\"d_in\":4,\"dense\":"
                       "0.25,\"sink_share\":0.5,\"model\":\"tiny\",\"hook\":\"blocks.3\""),
    };
    assert_true(e->audit && e->audit_json);
}

static void ready_made_codes_tell_what_they_can(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 70, 7);
    root = print(&sample);
    audit_sample_is_text(root, "lines.0",
                         "features were read ready-made: d_sae 8, pooling not known, SAE "
                         "00112233445566778899aabbccddeeff");
    unknown(root, "d_in");
    near(root, "d_sae", 8);
    near(root, "l0.median", 2);
    unknown(root, "l0.declared");
    unknown(root, "sinks.tokens");
    near(root, "silent", 0);
    near(root, "dead", 0);
    near(root, "dense", 1); /* each latent of ten of 70 and more is more than a tenth */
    near(root, "empty", 0);
    near(root, "suspicion.score", 0);
    /* Row i is off by i / 140, at 2 + i % 3 tokens. */
    {
        double error = 0, tokens = 0;

        for (int i = 0; i < 70; i++) {
            error += (2 + i % 3) * (i / 140.0);
            tokens += 2 + i % 3;
        }
        near(root, "explained_variance", 1 - error / tokens);
    }
    json_free(root);
    audit_sample_release(&sample);
}

static void cards_are_of_the_densest_and_of_what_sets_clusters_apart(void **state)
{
    struct audit_sample sample;
    const struct json *cards;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 70, 7);
    sample.run.features.values[2 * 30 + 1] = 9; /* row 30, latent 1 + 30 % 7 = 3 */
    sample.run.features.values[2 * 9 + 1] = -2; /* row 9, latent 3 as well */
    root = print(&sample);
    cards = audit_sample_at(root, "cards");
    assert_true(json_length(cards) >= 5);
    near(root, "cards.0.latent", 0);
    near(root, "cards.0.rows", 70);
    near(root, "cards.0.share", 1);
    audit_sample_is_text(root, "cards.0.why", "densest");
    unknown(root, "cards.0.weight");
    unknown(root, "cards.0.cluster");
    near(root, "cards.3.latent", 3); /* all others have ten rows: the lower first */
    near(root, "cards.3.rows", 10);
    near(root, "cards.3.mean", (8 + 9 - 2) / 10.0);
    near(root, "cards.3.max", 9);
    near(root, "cards.3.top.0.row", 30);
    near(root, "cards.3.top.0.value", 9);
    near(root, "cards.3.top.1.row", 2); /* of equal ones the first */
    for (size_t i = 5; i < json_length(cards); i++) {
        const struct json *card = json_element(cards, i);

        assert_string_equal(json_string(json_member(card, "why"), NULL), "cluster");
        assert_true(json_double(json_member(card, "cluster")) < 3);
    }
    json_free(root);
    /* A probe's weights, by size. */
    sample.run.difficulty.probe.d_sae = 8;
    sample.run.difficulty.probe.n_columns = 2;
    sample.run.difficulty.probe.columns = mem_alloc(2, sizeof(uint32_t));
    sample.run.difficulty.probe.weights = mem_alloc(2, sizeof(double));
    assert_true(sample.run.difficulty.probe.columns && sample.run.difficulty.probe.weights);
    sample.run.difficulty.probe.columns[0] = 6;
    sample.run.difficulty.probe.columns[1] = 7;
    sample.run.difficulty.probe.weights[0] = 0.5;
    sample.run.difficulty.probe.weights[1] = -2;
    root = print(&sample);
    audit_sample_is_text(root, "cards.5.why", "difficulty");
    near(root, "cards.5.latent", 7);
    near(root, "cards.5.weight", -2);
    near(root, "cards.6.latent", 6);
    json_free(root);
    audit_sample_release(&sample);
}

static void what_was_encoded_here_is_judged_by_its_tokens(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 40, 4);
    encode(&sample, 0.8, 2);
    root = print(&sample);
    audit_sample_is_text(root, "lines.0", "an audit line");
    audit_sample_is_text(root, "lines.1", "warning: \"quoted\"");
    near(root, "d_in", 4);
    near(root, "l0.median", 2);
    near(root, "l0.declared", 2);
    near(root, "dense", 0.25);
    near(root, "sinks.tokens", 100);
    near(root, "sinks.share", 0.5);
    near(root, "explained_variance", 0.8);
    near(root, "suspicion.score", 0);
    assert_null(find(&sample, FINDING_WRONG_LAYER));
    json_free(root);

    encode(&sample, 0.1, 2);
    root = print(&sample);
    assert_int_equal(find(&sample, FINDING_WRONG_LAYER)->severity, FINDING_PROBLEM);
    assert_non_null(strstr(find(&sample, FINDING_WRONG_LAYER)->title, "0.10"));
    assert_non_null(
        strstr(find(&sample, FINDING_WRONG_LAYER)->advice, "(model tiny, hook point blocks.3)"));
    assert_int_equal(find(&sample, FINDING_WRONG_LAYER)->rows[0].row, 39);
    assert_int_equal(json_length(audit_sample_at(root, "suspicion.reasons")), 1);
    json_free(root);

    encode(&sample, NAN, 9); /* no decoder: L0 alone */
    root = print(&sample);
    assert_int_equal(find(&sample, FINDING_WRONG_LAYER)->severity, FINDING_PROBLEM);
    assert_non_null(strstr(find(&sample, FINDING_WRONG_LAYER)->title, "L0 9, declared 2"));
    json_free(root);

    encode(&sample, NAN, 0.5); /* hardly any latent fires, and that is why */
    root = print(&sample);
    assert_int_equal(find(&sample, FINDING_DEAD_SAE)->severity, FINDING_PROBLEM);
    json_free(root);
    audit_sample_release(&sample);
}

static void empty_vectors_are_told_by_their_share(void **state)
{
    static const struct {
        size_t empty;
        int severity; /* -1: none */
    } cases[] = {{0, -1},
                 {4, -1},
                 {5, FINDING_WARNING},
                 {49, FINDING_WARNING},
                 {50, FINDING_PROBLEM},
                 {100, FINDING_PROBLEM}};

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        struct audit_sample sample;
        const struct finding *found;
        struct json *root;

        audit_sample_init(&sample, 100, 10);
        for (size_t i = 0; i < cases[c].empty; i++)
            sample.run.features.values[2 * i] = sample.run.features.values[2 * i + 1] = 0;
        root = print(&sample);
        near(root, "empty", (double)cases[c].empty);
        found = find(&sample, FINDING_DEAD_SAE);
        assert_int_equal(found ? (int)found->severity : -1, cases[c].severity);
        if (found)
            assert_int_equal(found->n_rows, cases[c].empty < 64 ? cases[c].empty : 64);
        json_free(root);
        audit_sample_release(&sample);
    }
}

/* The same few latents of very many: `d_sae` is raised, the codes stay. */
static void silent_latents_count_only_where_others_had_time_to_fire(void **state)
{
    struct audit_sample sample;
    const struct finding *found;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 2000, 10);
    sample.run.features.d_sae = 160; /* 4000 codes: 25 a latent */
    root = print(&sample);
    near(root, "dead", 152 / 160.0);
    found = find(&sample, FINDING_DEAD_SAE);
    assert_non_null(found);
    assert_int_equal(found->severity, FINDING_PROBLEM); /* 8 alive for 2 a sample */
    json_free(root);
    sample.run.features.d_sae = 4000; /* one a latent: most would be silent anyway */
    root = print(&sample);
    assert_non_null(found = find(&sample, FINDING_DEAD_SAE));
    assert_int_equal(found->severity, FINDING_PROBLEM); /* but 200 would not */
    json_free(root);
    sample.run.data.n = sample.run.features.rows = 40; /* too few codes to light a hundred */
    root = print(&sample);
    assert_null(find(&sample, FINDING_DEAD_SAE));
    json_free(root);
    audit_sample_release(&sample);
}

/* Forty latents fire, where all text is "w" and ten digits, then where it has fourteen parts. */
static void of_narrow_text_most_latents_know_nothing(void **state)
{
    struct audit_sample sample;

    (void)state;
    for (size_t more = 0; more < 4; more++) {
        const struct finding *found;
        struct features *f;

        audit_sample_init(&sample, 2000, 10);
        f = &sample.run.features;
        f->d_sae = 400;
        for (size_t i = 0; i < 2 * sample.run.data.n; i += 2) {
            f->indices[i] = (uint32_t)(i / 2 % 20);
            f->indices[i + 1] = 20 + (uint32_t)(i / 40 % 20);
        }
        for (size_t i = 0; i < more; i++) {
            struct span *prompt = &sample.run.data.samples[i].prompt;

            *prompt = (struct span){sample.run.data.text.length, 1};
            text_append_char(&sample.run.data.text, "xyz"[i]);
        }
        json_free(print(&sample));
        found = find(&sample, FINDING_DEAD_SAE);
        assert_non_null(found);
        assert_int_equal(found->severity, more < 3 ? FINDING_NOTE : FINDING_WARNING);
        audit_sample_release(&sample);
    }
}

static void refused_vectors_are_told_with_their_reason(void **state)
{
    struct audit_sample sample;
    const struct finding *found;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 200, 10);
    sample.run.outcome[7] = ENCODE_NONFINITE;
    sample.run.has_vector[7] = 0;
    root = print(&sample);
    found = find(&sample, FINDING_REJECTED_VECTORS);
    assert_int_equal(found->severity, FINDING_NOTE);
    assert_string_equal(found->title, "The activations of 1 sample (0.5 %) cannot be used");
    assert_int_equal(found->rows[0].row, 7);
    assert_string_equal(found->rows[0].note, "an activation is NaN or infinite");
    json_free(root);
    for (size_t i = 0; i < 100; i++) {
        sample.run.outcome[i] = ENCODE_ZERO_ACTIVATION;
        sample.run.has_vector[i] = 0;
    }
    root = print(&sample);
    assert_int_equal(find(&sample, FINDING_REJECTED_VECTORS)->severity, FINDING_PROBLEM);
    near(root, "rejected", 100);
    json_free(root);
    audit_sample_release(&sample);
}

static void text_alone_and_few_rows_are_no_case(void **state)
{
    (void)state;
    for (size_t n = 1; n < 4; n++) {
        struct audit_sample sample;
        struct json *root;

        audit_sample_init(&sample, n, 1);
        root = print(&sample);
        near(root, "silent", 8 - 1 - (double)n);
        json_free(root);
        /* Not one of them has a vector. */
        for (size_t i = 0; i < n; i++) {
            sample.run.has_vector[i] = 0;
            sample.run.outcome[i] = ENCODE_NO_TOKENS;
        }
        root = print(&sample);
        unknown(root, "dead");
        unknown(root, "explained_variance");
        assert_int_equal(json_length(audit_sample_at(root, "cards")), 0);
        json_free(root);
        audit_sample_forget_vectors(&sample);
        root = print(&sample);
        assert_non_null(audit_sample_at(root, "absent"));
        assert_int_equal(sample.audit.findings.n, 0);
        assert_non_null(strstr(text_string(&sample.audit.measures), "\"l0\":{\"value\":null"));
        json_free(root);
        audit_sample_release(&sample);
    }
}

static void the_sae_section_survives_failing_allocation(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 60, 6);
    encode(&sample, -1, 50);
    for (size_t i = 0; i < 30; i++)
        sample.run.features.values[2 * i] = sample.run.features.values[2 * i + 1] = 0;
    sample.run.outcome[59] = ENCODE_NONFINITE;
    sample.run.has_vector[59] = 0;
    audit_sample_fail_allocations(&sample, audit_sae);
    assert_true(sample.audit.findings.n >= 3);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_made_codes_tell_what_they_can),
        cmocka_unit_test(cards_are_of_the_densest_and_of_what_sets_clusters_apart),
        cmocka_unit_test(what_was_encoded_here_is_judged_by_its_tokens),
        cmocka_unit_test(empty_vectors_are_told_by_their_share),
        cmocka_unit_test(silent_latents_count_only_where_others_had_time_to_fire),
        cmocka_unit_test(of_narrow_text_most_latents_know_nothing),
        cmocka_unit_test(refused_vectors_are_told_with_their_reason),
        cmocka_unit_test(text_alone_and_few_rows_are_no_case),
        cmocka_unit_test(the_sae_section_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/audit_sae", tests, NULL, NULL);
}
