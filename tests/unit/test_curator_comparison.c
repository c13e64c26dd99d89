#include "curator/comparison.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/histogram.h"
#include "formats/atomic_file.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static void near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("%.17g, expected %.17g", found, expected);
}

static void take(struct comparison_side *side, const char *text)
{
    struct json *report;
    struct error err = {0};

    assert_int_equal(json_parse(&report, text, strlen(text), NULL, NULL), STATUS_OK);
    if (comparison_side_take(side, &report, &err) != STATUS_OK)
        fail_msg("%s", err.message);
}

static void refuses(const char *text, const char *word)
{
    struct comparison_side side;
    struct json *report;
    struct error err = {0};

    assert_int_equal(json_parse(&report, text, strlen(text), NULL, NULL), STATUS_OK);
    assert_int_equal(comparison_side_take(&side, &report, &err), STATUS_FORMAT);
    assert_null(report);
    assert_null(side.report);
    if (!strstr(err.message, word))
        fail_msg("'%s' is not in: %s", word, err.message);
}

static void psi_is_what_a_pencil_gives(void **state)
{
    const double half[] = {0.5, 0.5}, fifth[] = {0.2, 0.8}, left[] = {1, 0}, right[] = {0, 1};

    (void)state;
    /* -0.3 ln 0.4 + 0.3 ln 1.6 */
    near(comparison_psi(half, fifth, 2, 1e12, 1e12), 0.41588830833596717, 1e-9);
    near(comparison_psi(fifth, half, 2, 1e12, 1e12), 0.41588830833596717, 1e-9);
    assert_true(comparison_psi(fifth, fifth, 2, 10, 10) == 0);
    /* Half a row more in each: (0.75, 0.25) and (0.25, 0.75). */
    near(comparison_psi(left, right, 2, 1, 1), log(3), 1e-12);
    assert_true(isfinite(comparison_psi(left, right, 2, 1e15, 1e15)));
}

static void chance_does_what_chi2_says(void **state)
{
    (void)state;
    /* The 0.9999 quantile of chi2 with 9 degrees is 33.72, with 1 15.14. */
    near(comparison_psi_noise(10, 20, 20), 3.372, 0.05);
    near(comparison_psi_noise(2, 10, 10), 3.03, 0.25);
    near(comparison_psi_noise(1, 10, 10), 3.03, 0.25);
}

/* One distribution of `n` values at equal steps. */
static struct sketch_distribution ramp(double n, double from, double step)
{
    struct sketch_distribution d = {.n = n};

    for (size_t i = 0; i < SKETCH_QUANTILES; i++)
        d.quantiles[i] = from + step * (double)i;
    return d;
}

static struct comparison_distribution compare(struct sketch_distribution before,
                                              struct sketch_distribution after)
{
    static struct comparison_side x, y;
    struct comparison c;
    struct comparison_distribution d;

    x = y = (struct comparison_side){0};
    x.distributions[SKETCH_WORDS] = before;
    y.distributions[SKETCH_WORDS] = after;
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_int_equal(c.n_distributions, 1);
    assert_string_equal(c.distributions[0].name, "words");
    assert_true(comparison_drift(&c) ==
                (c.distributions[0].psi > c.distributions[0].noise ? c.distributions[0].psi : 0));
    d = c.distributions[0];
    comparison_release(&c);
    return d;
}

static void bins_lie_between_deciles_of_the_baseline(void **state)
{
    struct comparison_distribution d = compare(ramp(1000, 0, 1), ramp(1000, 50, 1));

    (void)state;
    assert_int_equal(d.n_bins, 10);
    for (size_t i = 0; i < 10; i++) {
        near(d.edges[i], 10 * (double)i, 0);
        near(d.before[i], 0.1, 1e-12);
        near(d.after[i], i < 5 ? 0 : i < 9 ? 0.1 : 0.6, 1e-12);
    }
    near(d.edges[10], 150, 0);
    /* Five bins lose a tenth to half a row of 1005, the last one gains a half. */
    near(d.psi, 5 * (100.0 / 1005) * log(100.5 / 0.5) + 500.0 / 1005 * log(600.5 / 100.5), 1e-9);
    assert_true(d.psi > d.limit);
}

static void scores_of_two_models_are_not_compared(void **state)
{
    struct comparison_side x = {0}, y = {0};
    struct comparison c;

    (void)state;
    x.distributions[SKETCH_QUALITY] = ramp(1000, 0, 1);
    y.distributions[SKETCH_QUALITY] = ramp(1000, 50, 1);
    x.distributions[SKETCH_QUALITY].model = "m";
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_int_equal(c.n_distributions, 0);
    assert_int_equal(c.n_not_compared, 1);
    assert_string_equal(c.not_compared[0], "quality");
    assert_true(isnan(comparison_drift(&c)));
    comparison_release(&c);
    y.distributions[SKETCH_QUALITY].model = "m";
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_int_equal(c.n_distributions, 1);
    assert_int_equal(c.n_not_compared, 0);
    assert_true(comparison_drift(&c) > 1);
    comparison_release(&c);
}

static void the_same_data_do_not_drift(void **state)
{
    struct comparison_distribution d = compare(ramp(7, -3, 0.1), ramp(7, -3, 0.1));

    (void)state;
    assert_true(d.psi == 0);
}

static void a_value_of_its_own_gets_a_bin(void **state)
{
    struct sketch_distribution five = ramp(300, 5, 0), six = ramp(300, 6, 0),
                               four = ramp(300, 4, 0);
    struct comparison_distribution d = compare(five, six);

    (void)state;
    assert_int_equal(d.n_bins, 2);
    assert_true(d.before[0] == 1 && d.after[0] == 0 && d.after[1] == 1);
    assert_true(d.psi > d.limit);
    d = compare(five, four);
    assert_int_equal(d.n_bins, 2);
    assert_true(d.edges[0] == 4 && d.edges[1] == 5);
    assert_true(d.before[0] == 0 && d.after[0] == 1 && d.before[1] == 1);
    d = compare(five, five);
    assert_int_equal(d.n_bins, 1);
    assert_true(d.psi == 0);
}

static void whole_numbers_have_whole_edges(void **state)
{
    struct sketch_distribution before = ramp(2000, 0, 0), after;
    struct comparison_distribution d;

    (void)state;
    for (size_t i = 0; i < SKETCH_QUANTILES; i++)
        before.quantiles[i] = i < 49 ? 2 : i < 63 ? 3 : i < 92 ? 4 : 5;
    after = before;
    after.quantiles[48] = 3;
    d = compare(before, after);
    assert_int_equal(d.n_bins, 4);
    for (size_t i = 0; i <= 4; i++)
        near(d.edges[i], i < 4 ? 2 + (double)i : 5, 0);
    near(d.before[0], 0.485, 1e-12);
    near(d.after[0], 0.475, 1e-12);
    near(d.before[1], 0.14, 1e-12);
    near(d.before[3], 0.085, 1e-12);
}

/* Quantiles of n draws of a standard normal, moved by `shift`, rounded to multiples of `grain`. */
static struct sketch_distribution draw(struct rng *rng, size_t n, double shift, double grain)
{
    struct sketch_distribution d = {.n = (double)n};
    double *values = mem_alloc(n, sizeof(*values)), *sorted;
    size_t m;

    assert_non_null(values);
    for (size_t i = 0; i < n; i++) {
        values[i] = shift - 6;
        for (size_t j = 0; j < 12; j++)
            values[i] += rng_double(rng);
        if (grain > 0)
            values[i] = grain * round(values[i] / grain);
    }
    assert_int_equal(quantiles_sort(&sorted, &m, values, n, NULL), STATUS_OK);
    for (size_t i = 0; i < SKETCH_QUANTILES; i++)
        d.quantiles[i] = quantile(sorted, m, (double)i / (SKETCH_QUANTILES - 1));
    mem_free(values);
    mem_free(sorted);
    return d;
}

static void chance_is_no_drift_and_a_shift_is(void **state)
{
    static const size_t sizes[] = {12, 60, 300, 3000};

    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct rng rng;

        rng_init(&rng, seed, "drift", 0);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
            for (size_t j = 0; j < 3; j++) {
                double grain = (double)j / 2;
                struct sketch_distribution x = draw(&rng, sizes[i], 0, grain);
                struct comparison_distribution d = compare(x, draw(&rng, sizes[i], 0, grain));

                if (d.psi > d.limit)
                    fail_msg("seed %u, %zu draws: PSI %g above %g", (unsigned)seed, sizes[i], d.psi,
                             d.limit);
                d = compare(x, draw(&rng, sizes[i], 1, grain));
                if (sizes[i] >= 300 && !(d.psi > d.limit))
                    fail_msg("seed %u, %zu draws, shifted: PSI %g", (unsigned)seed, sizes[i],
                             d.psi);
            }
        }
    }
}

static void sources_are_shares_of_all_rows(void **state)
{
    struct comparison_side x, y;
    struct comparison c;

    (void)state;
    take(&x, "{\"rows\":100,\"sketch\":{\"sources\":[{\"source\":\"a\",\"rows\":50},"
             "{\"source\":\"b\",\"rows\":50}],\"sources_beyond\":0}}");
    take(&y, "{\"rows\":100,\"sketch\":{\"sources\":[{\"source\":\"a\",\"rows\":100}]}}");
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_int_equal(c.sources.n, 2);
    near(c.sources.js, 0.31127812445913283, 1e-12);
    near(comparison_drift(&c), c.sources.psi, 0);
    assert_true(c.sources.psi > c.sources.limit);
    comparison_release(&c);
    comparison_side_close(&y);

    /* New, and rows without any. */
    take(&y, "{\"rows\":200,\"sketch\":{\"sources\":[{\"source\":\"c\",\"rows\":150}]}}");
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_int_equal(c.sources.n, 4);
    near(c.sources.after[2], 0.75, 0);
    assert_null(c.sources.names[3].name);
    near(c.sources.after[3], 0.25, 1e-12);
    near(c.sources.js, 1, 1e-12);
    comparison_release(&c);
    comparison_side_close(&y);

    /* "b" may be among those that are not listed. */
    take(&y, "{\"rows\":200,\"sketch\":{\"sources\":[{\"source\":\"a\",\"rows\":100}],"
             "\"sources_beyond\":3}}");
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_int_equal(c.sources.n, 2);
    near(c.sources.js, 0, 0);
    near(c.sources.psi, 0, 1e-4);
    comparison_release(&c);
    comparison_side_close(&y);

    /* One side's rows have no sources: nothing to compare. */
    take(&y, "{\"rows\":200,\"sketch\":{\"sources\":null}}");
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_int_equal(c.sources.n, 0);
    assert_true(isnan(comparison_drift(&c)));
    comparison_release(&c);
    comparison_side_close(&x);
    comparison_side_close(&y);
}

static void latents_move_beyond_chance(void **state)
{
    struct comparison_side x, y;
    struct comparison c;

    (void)state;
    take(&x, "{\"rows\":1000,\"sketch\":{\"latents\":{\"rows\":1000,\"d_sae\":64,\"sae_hash\":"
             "\"h\",\"latent\":[1,2,5,7],\"count\":[100,100,1000,80]}}}");
    take(&y, "{\"rows\":1000,\"sketch\":{\"latents\":{\"rows\":1000,\"d_sae\":64,\"sae_hash\":"
             "\"h\",\"latent\":[1,2,3,5],\"count\":[200,150,90,1000]}}}");
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_true(c.same_sae);
    assert_int_equal(c.n_latents, 3);
    assert_int_equal(c.latents[0].latent, 3);
    near(c.latents[0].before, 0, 0);
    near(c.latents[0].after, 0.09, 0);
    assert_int_equal(c.latents[1].latent, 7);
    assert_int_equal(c.latents[2].latent, 1);
    near(c.latents[2].z, 0.1 / sqrt(0.15 * 0.85 * 0.002), 1e-9);
    comparison_release(&c);

    /* Of one SAE only if both say so. */
    y.latents.sae_hash = NULL;
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_false(c.same_sae);
    assert_int_equal(c.n_latents, 0);
    comparison_release(&c);
    comparison_side_close(&x);
    comparison_side_close(&y);
}

static void the_surest_thirty_latents_are_listed(void **state)
{
    uint32_t latents[50], before[50] = {0}, after[50];
    struct comparison_side x = {0}, y = {0};
    struct comparison c;

    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        latents[i] = i;
        after[i] = 100 + (i < 20 ? i : 20);
    }
    x.latents.latents = y.latents.latents = latents;
    x.latents.counts = before;
    y.latents.counts = after;
    x.latents.n = y.latents.n = 50;
    x.latents.rows = y.latents.rows = 1000;
    x.latents.sae_hash = y.latents.sae_hash = "h";
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_int_equal(c.n_latents, COMPARISON_LATENTS_MAX);
    for (uint32_t i = 0; i < COMPARISON_LATENTS_MAX; i++)
        assert_int_equal(c.latents[i].latent, 20 + i);
    comparison_release(&c);
}

static void numbers_stand_side_by_side(void **state)
{
    struct comparison_side x, y;
    struct comparison c;
    struct text out = {0};

    (void)state;
    take(&x,
         "{\"rows\":3,\"sketch\":{},\"measures\":{\"rows\":{\"value\":3,\"of\":null},"
         "\"kept\":{\"value\":2,\"of\":3},\"drift\":{\"value\":1},\"unheard_of\":{\"value\":1}}}");
    take(&y, "{\"rows\":4,\"sketch\":{},\"measures\":{\"rows\":{\"value\":4,\"of\":null},"
             "\"l0\":{\"value\":null}}}");
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    comparison_print(&c, &out);
    assert_string_equal(
        text_string(&out),
        ",\"numbers\":[{\"name\":\"rows\",\"before\":3,\"after\":4},{\"name\":"
        "\"kept\",\"before\":2,\"after\":null},{\"name\":\"l0\",\"before\":null,"
        "\"after\":null}],\"distributions\":[],\"not_compared\":[],\"sources\":null");
    text_release(&out);
    comparison_release(&c);
    comparison_side_close(&x);
    comparison_side_close(&y);
}

/* Ids, keys and fates: "id:key:k" or "id:key:d"; an empty id or key is none. */
static void set_rows(struct comparison_side *side, struct comparison_row *rows,
                     const char *const *words)
{
    *side = (struct comparison_side){.rows = rows};
    for (; words[side->n_rows]; side->n_rows++) {
        const char *word = words[side->n_rows];
        size_t n = strcspn(word, ":");
        struct comparison_row *row = &rows[side->n_rows];
        char *end;

        *row = (struct comparison_row){.id = word, .id_length = n};
        row->has_key = word[n + 1] != ':';
        row->key = strtoull(word + n + 1, &end, 16);
        row->kept = end[1] == 'k';
    }
}

static void changes_are(const char *const *before, const char *const *after, const char *expected)
{
    struct comparison_row rows[2][8];
    struct comparison_side x, y;
    struct comparison c;
    struct text found = {0};

    set_rows(&x, rows[0], before);
    set_rows(&y, rows[1], after);
    assert_int_equal(comparison_make(&c, &x, &y, NULL), STATUS_OK);
    assert_true(c.rows_known);
    for (int change = 0; change < COMPARISON_CHANGE_COUNT; change++) {
        for (size_t i = 0; i < c.changed[change].n; i++) {
            const struct comparison_pair *pair = &c.changed[change].pairs[i];

            text_appendf(&found, "%s %d %d;", comparison_change_names[change],
                         pair->before == NO_ROW ? -1 : (int)pair->before,
                         pair->after == NO_ROW ? -1 : (int)pair->after);
        }
    }
    assert_string_equal(text_string(&found), expected);
    text_release(&found);
    comparison_release(&c);
}

static void samples_are_matched_by_id(void **state)
{
    const char *const before[] = {"\"a\":1:k", "\"b\":2:d", "7:3:k", "\"gone\":4:d", "::d", NULL};
    const char *const after[] = {"\"b\":9:k", "\"7\":3:k", "\"a\":1:d", "::d", NULL};

    (void)state;
    changes_are(before, before, "");
    changes_are(before, after, "gained 1 0;lost 0 2;entered -1 1;left 2 -1;left 3 -1;");
}

static void without_ids_samples_are_matched_by_key(void **state)
{
    /* The first side has ids of its own, the other one keys. */
    const char *const before[] = {"\"a\":1:k", "\"b\":2:k", "\"c\":2:d", "\"d\":2:d", NULL};
    const char *const after[] = {"\"0000000000000002\":2:k", "\"0000000000000001\":1:d",
                                 "\"0000000000000002\":2:k", "\"0000000000000005\":5:k", NULL};
    const char *const keys[] = {"\"0000000000000002\":2:k", "\"0000000000000002\":2:d",
                                "\"0000000000000002\":2:d", NULL};

    (void)state;
    /* Of three rows of one key the first two meet the two there are. */
    changes_are(before, after, "gained 2 2;lost 0 1;entered -1 3;left 3 -1;");
    changes_are(after, before, "gained 1 0;lost 2 2;entered -1 3;left 3 -1;");
    changes_are(keys, keys, "");
    changes_are(keys, after, "gained 1 2;entered -1 1;entered -1 3;left 2 -1;");
}

static void damaged_sketches_are_refused(void **state)
{
    (void)state;
    refuses("[]", "'rows' and 'sketch'");
    refuses("{\"rows\":1}", "'rows' and 'sketch'");
    refuses("{\"rows\":-1,\"sketch\":{}}", "'rows' and 'sketch'");
    refuses("{\"rows\":1,\"sketch\":{\"distributions\":[{\"name\":\"words\",\"n\":1,"
            "\"quantiles\":[1,2]}]}}",
            "'words'");
    refuses("{\"rows\":1,\"sketch\":{\"sources\":[{\"source\":\"a\",\"rows\":2}]}}", "source 0");
    refuses("{\"rows\":1,\"sketch\":{\"sources\":[{\"source\":null,\"rows\":1}]}}", "source 0");
    refuses("{\"rows\":1,\"sketch\":{\"latents\":{\"rows\":1,\"latent\":[1],\"count\":[]}}}",
            "as many counts");
    refuses("{\"rows\":1,\"sketch\":{\"latents\":{\"rows\":1,\"latent\":[2,2],\"count\":[1,1]}}}",
            "entry 1");
    refuses("{\"rows\":1,\"sketch\":{\"latents\":{\"rows\":1,\"latent\":[1],\"count\":[2]}}}",
            "entry 0");
    refuses("{\"rows\":1,\"sketch\":{\"latents\":{\"rows\":1,\"latent\":[-1],\"count\":[1]}}}",
            "entry 0");
}

static const char *write(const char *folder, const char *name, const char *text)
{
    char *path = text_format("%s/%s", folder, name);

    assert_non_null(path);
    assert_int_equal(directory_make(scratch_path(folder), NULL), STATUS_OK);
    scratch_file(path, text, strlen(text));
    mem_free(path);
    return scratch_path(folder);
}

static void folder_is_refused(const char *folder, enum status expected, const char *word)
{
    struct comparison_side side;
    struct error err = {0};

    assert_int_equal(comparison_side_open(&side, folder, &err), expected);
    if (!strstr(err.message, word) || !strstr(err.message, folder))
        fail_msg("'%s' is not in: %s", word, err.message);
}

static void folders_without_a_report_are_refused(void **state)
{
    (void)state;
    folder_is_refused(scratch_path("nowhere"), STATUS_IO, "report.json: there is none");
    folder_is_refused(write("other", "report.json", "{\"format\":\"saerl.run\",\"version\":2}"),
                      STATUS_FORMAT, "'saerl.run'");
    folder_is_refused(write("empty", "report.json", "null"), STATUS_FORMAT, "format is missing");
    folder_is_refused(write("old", "report.json", "{\"format\":\"saerl.report\",\"version\":1}"),
                      STATUS_UNSUPPORTED, "version 1, expected 2");
    folder_is_refused(write("new", "report.json", "{\"format\":\"saerl.report\",\"version\":3}"),
                      STATUS_UNSUPPORTED, "version 3, expected 2");
    folder_is_refused(write("bare", "report.json", "{\"format\":\"saerl.report\",\"version\":2}"),
                      STATUS_FORMAT, "'rows' and 'sketch'");
    folder_is_refused(write("torn", "report.json", "{\"format\":\"saerl.rep"), STATUS_FORMAT,
                      "byte");
}

static const char report[] = "{\"format\":\"saerl.report\",\"version\":2,\"rows\":2,\"sketch\":{}}";

static const char *write_run(void)
{
    write("run", "report.json", report);
    return write("run", "scores.jsonl",
                 "{\"row\":0,\"id\":\"a\",\"key\":\"00000000000000ff\",\"kept\":true,\"stage\":"
                 "\"plan\",\"reason\":null}\n"
                 "{\"row\":1,\"id\":null,\"key\":null,\"kept\":false,\"stage\":\"parse\","
                 "\"reason\":\"malformed\"}\n");
}

static void runs_have_rows_and_audits_have_none(void **state)
{
    struct comparison_side side;

    (void)state;
    assert_int_equal(comparison_side_open(&side, write("audit", "report.json", report), NULL),
                     STATUS_OK);
    assert_null(side.rows);
    comparison_side_close(&side);
    assert_int_equal(comparison_side_open(&side, write_run(), NULL), STATUS_OK);
    assert_int_equal(side.n_rows, 2);
    assert_memory_equal(side.rows[0].id, "\"a\"", 3);
    assert_true(side.rows[0].has_key && side.rows[0].key == 255 && side.rows[0].kept);
    assert_null(side.rows[0].reason);
    assert_int_equal(side.rows[1].id_length, 0);
    assert_false(side.rows[1].has_key || side.rows[1].kept);
    assert_string_equal(side.rows[1].reason, "malformed");
    comparison_side_close(&side);
    folder_is_refused(write("run", "scores.jsonl", "{\"id\":1}\n"), STATUS_FORMAT,
                      "scores.jsonl:1: 'stage' is missing");
    /* Cut at the end of a line: what is left would be taken for samples that entered or left. */
    folder_is_refused(write("run", "scores.jsonl",
                            "{\"row\":0,\"id\":\"a\",\"key\":null,\"kept\":true,\"stage\":"
                            "\"plan\",\"reason\":null}\n"),
                      STATUS_FORMAT, "scores.jsonl: 1 rows, expected the 2 of report.json");
}

static void comparison_survives_failing_allocation(void **state)
{
    bool failed = true;

    (void)state;
    write_run();
    for (size_t n = 0; failed; n++) {
        struct comparison_side x, y = {0};
        struct comparison c = {0};
        enum status st;

        mem_fail_after(n);
        st = comparison_side_open(&x, scratch_path("run"), NULL);
        if (!st)
            st = comparison_side_open(&y, scratch_path("run"), NULL);
        if (!st) {
            y.rows[0].kept = false;
            y.rows[1].id = "\"new\"";
            y.rows[1].id_length = 5;
            st = comparison_make(&c, &x, &y, NULL);
        }
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        comparison_release(&c);
        comparison_side_close(&x);
        comparison_side_close(&y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(psi_is_what_a_pencil_gives),
        cmocka_unit_test(chance_does_what_chi2_says),
        cmocka_unit_test(bins_lie_between_deciles_of_the_baseline),
        cmocka_unit_test(scores_of_two_models_are_not_compared),
        cmocka_unit_test(the_same_data_do_not_drift),
        cmocka_unit_test(a_value_of_its_own_gets_a_bin),
        cmocka_unit_test(whole_numbers_have_whole_edges),
        cmocka_unit_test(chance_is_no_drift_and_a_shift_is),
        cmocka_unit_test(sources_are_shares_of_all_rows),
        cmocka_unit_test(latents_move_beyond_chance),
        cmocka_unit_test(the_surest_thirty_latents_are_listed),
        cmocka_unit_test(numbers_stand_side_by_side),
        cmocka_unit_test(samples_are_matched_by_id),
        cmocka_unit_test(without_ids_samples_are_matched_by_key),
        cmocka_unit_test(damaged_sketches_are_refused),
        cmocka_unit_test(folders_without_a_report_are_refused),
        cmocka_unit_test(runs_have_rows_and_audits_have_none),
        cmocka_unit_test(comparison_survives_failing_allocation),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
