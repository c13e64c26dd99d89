#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/safetensors.h"
#include "scoring/probe.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/probe_sample.h"
#include "tests/support/scratch.h"

struct fixture {
    struct probe_sample sample;
    struct probe probe;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    struct probe_input input;

    assert_non_null(fixture);
    probe_sample_init(&fixture->sample, 1);
    input = probe_sample_input(&fixture->sample);
    assert_int_equal(
        probe_fit(&fixture->probe, &input, fixture->sample.quality, &config, NULL, NULL, NULL),
        STATUS_OK);
    fixture->probe.kind = mem_strdup("quality");
    fixture->probe.sae_hash = mem_strdup("00112233445566778899aabbccddeeff");
    fixture->probe.pooling = mem_strdup("max");
    fixture->probe.input = mem_strdup("tokens");
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    probe_release(&fixture->probe);
    probe_sample_release(&fixture->sample);
    free(fixture);
    return 0;
}

static void assert_same_bits(const double *a, const double *b, size_t n)
{
    assert_memory_equal(a, b, n * sizeof(*a));
}

static void probe_load_gives_back_what_was_saved(void **state)
{
    const struct fixture *fixture = *state;
    const struct probe *saved = &fixture->probe;
    struct probe_input input = probe_sample_input(&fixture->sample);
    struct probe loaded;
    struct text before = {0}, after = {0};
    double scores[2][PROBE_SAMPLE_ROWS];
    const char *path = scratch_path("a.probe.safetensors");

    assert_int_equal(probe_save(saved, path, NULL), STATUS_OK);
    assert_int_equal(probe_load(&loaded, path, NULL), STATUS_OK);
    assert_int_equal(loaded.model, saved->model);
    assert_int_equal(loaded.raw, saved->raw);
    assert_int_equal(loaded.d_sae, saved->d_sae);
    assert_int_equal(loaded.n_columns, saved->n_columns);
    assert_same_bits(loaded.weights, saved->weights, saved->n_columns);
    assert_int_equal(loaded.n_extras, 3);
    assert_same_bits(&loaded.alpha, &saved->alpha, 1);
    assert_same_bits(&loaded.objective, &saved->objective, 1);
    assert_same_bits(&loaded.max_df, &saved->max_df, 1);
    assert_int_equal(loaded.min_df, saved->min_df);
    assert_int_equal(loaded.seed, saved->seed);
    assert_string_equal(loaded.kind, "quality");
    assert_string_equal(loaded.sae_hash, saved->sae_hash);
    assert_string_equal(loaded.pooling, "max");
    assert_string_equal(loaded.input, "tokens");
    assert_null(loaded.labels_hash);
    probe_print_json(saved, &before);
    probe_print_json(&loaded, &after);
    assert_string_equal(text_string(&before), text_string(&after));

    assert_int_equal(probe_predict(saved, &input, scores[0], NULL), STATUS_OK);
    assert_int_equal(probe_predict(&loaded, &input, scores[1], NULL), STATUS_OK);
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++) {
        assert_int_equal(isnan(scores[0][i]), !fixture->sample.has_vector[i]);
        if (fixture->sample.has_vector[i])
            assert_same_bits(&scores[0][i], &scores[1][i], 1);
    }
    text_release(&after);
    text_release(&before);
    probe_release(&loaded);
}

static void probe_without_weights_and_extras_survives_a_file(void **state)
{
    const struct fixture *fixture = *state;
    struct probe_input input = probe_sample_input(&fixture->sample);
    struct probe_config config = probe_sample_config(PROBE_ELASTIC_NET);
    double labels[PROBE_SAMPLE_ROWS], scores[PROBE_SAMPLE_ROWS];
    struct probe probe, loaded;
    const char *path = scratch_path("constant.probe.safetensors");

    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
        labels[i] = 0.1;
    assert_int_equal(probe_fit(&probe, &input, labels, &config, NULL, NULL, NULL), STATUS_OK);
    assert_int_equal(probe_save(&probe, path, NULL), STATUS_OK);
    assert_int_equal(probe_load(&loaded, path, NULL), STATUS_OK);
    assert_int_equal(loaded.n_columns, 0);
    assert_true(isnan(loaded.alpha));
    assert_string_equal(loaded.notes, probe.notes);
    assert_int_equal(probe_predict(&loaded, &input, scores, NULL), STATUS_OK);
    assert_same_bits(&scores[0], &labels[0], 1);
    probe_release(&loaded);
    probe_release(&probe);
}

/* A copy of the file with the first `from` replaced by `to`, of the same length, in the header. */
static const char *with_change(const char *path, const char *from, const char *to)
{
    size_t n, length = strlen(from);
    char *bytes = scratch_read(path, &n), *at;
    const char *changed;

    assert_int_equal(strlen(to), length);
    at = memmem(bytes, n, from, length);
    assert_non_null(at);
    memcpy(at, to, length);
    changed = scratch_file("changed.probe.safetensors", bytes, n);
    free(bytes);
    return changed;
}

static void assert_refused(const char *path, const char *word)
{
    struct probe probe;
    struct error err = {0};

    if (probe_load(&probe, path, &err) != STATUS_FORMAT)
        fail_msg("a file that should say '%s' was not refused: %s", word, err.message);
    if (!strstr(err.message, word))
        fail_msg("'%s' does not say '%s'", err.message, word);
    assert_null(probe.weights);
    assert_int_equal(probe.n_columns, 0);
}

static void probe_load_refuses_changed_metadata(void **state)
{
    const struct fixture *fixture = *state;
    static const struct {
        const char *from, *to, *word;
    } changes[] = {
        {"saerl.probe", "saerl.prose", "format"},
        {"\"version\":\"1\"", "\"version\":\"2\"", "version"},
        {"\"ridge\"", "\"fudge\"", "model"},
        {"unit_log1p", "unit_log1q", "features"},
        {"\"d_sae\":\"60\"", "\"d_sae\":\"6x\"", "d_sae"},
        {"\"d_sae\":\"60\"", "\"d_sae\":\"07\"", "d_sae"},
        {"\"d_sae\":\"60\"", "\"d_sae\":\"-1\"", "d_sae"},
        {"\"d_sae\":\"60\"", "\"d_sae\":\"10\"", "10"},
        {"recon_mean,recon_max", "recon_max,recon_mean", "extras"},
        {"recon_mean,recon_max", "recon_mean,recon_min", "extras"},
        {"recon_mean,recon_max,", "recon_max,,,,,,,,,,,,", "extras"},
        {"\"max_df\"", "\"xam_df\"", "max_df"},
        {"\"0.9\"", "\"nul\"", "max_df"},
        {"\"seed\":\"42\"", "\"seed\":\"4.\"", "seed"},
        {"calibration", "cali8ration", "calibration"},
        {"\\\"notes\\\":[", "\\\"notes\\\":{", "figures"},
        {"\\\"folds\\\":5", "\\\"folds\\\":-", "figures"},
        {"\\\"converged\\\":true", "\\\"converged\\\":null", "converged"},
        {"\"columns\"", "\"kolumns\"", "columns"},
        {"\"weights\"", "\"weight_\"", "weights"},
        {"\"intercept\"", "\"intercepd\"", "intercept"},
        {"\"extras\":{", "\"extraz\":{", "extras"},
        {"\"U32\"", "\"I32\"", "columns"},
    };

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const char *path = scratch_path("b.probe.safetensors");

        assert_int_equal(probe_save(&fixture->probe, path, NULL), STATUS_OK);
        assert_refused(with_change(path, changes[i].from, changes[i].to), changes[i].word);
    }
}

/* Save the fixture's probe with one number changed, which probe_save does not look at. */
static void probe_load_refuses_numbers_out_of_range(void **state)
{
    const struct fixture *fixture = *state;
    const char *path = scratch_path("c.probe.safetensors");
    struct probe *probe = (struct probe *)(uintptr_t)&fixture->probe;
    struct probe kept = *probe;
    double weight = probe->weights[1];
    uint32_t column = probe->columns[1];

    probe->weights[1] = NAN;
    assert_int_equal(probe_save(probe, path, NULL), STATUS_OK);
    assert_refused(path, "weights");
    probe->weights[1] = weight;
    probe->columns[1] = PROBE_SAMPLE_LATENTS;
    assert_int_equal(probe_save(probe, path, NULL), STATUS_OK);
    assert_refused(path, "columns");
    probe->columns[1] = probe->columns[0];
    assert_int_equal(probe_save(probe, path, NULL), STATUS_OK);
    assert_refused(path, "columns");
    probe->columns[1] = column;
    probe->extras[2].sd = 0;
    assert_int_equal(probe_save(probe, path, NULL), STATUS_OK);
    assert_refused(path, "extras");
    probe->extras[2].sd = INFINITY;
    assert_int_equal(probe_save(probe, path, NULL), STATUS_OK);
    assert_refused(path, "extras");
    *probe = kept;
    probe->intercept = INFINITY;
    assert_int_equal(probe_save(probe, path, NULL), STATUS_OK);
    assert_refused(path, "intercept");
    *probe = kept;
}

static void probe_load_survives_truncation_anywhere(void **state)
{
    const struct fixture *fixture = *state;
    const char *path = scratch_path("d.probe.safetensors");
    size_t n;
    char *bytes;

    assert_int_equal(probe_save(&fixture->probe, path, NULL), STATUS_OK);
    bytes = scratch_read(path, &n);
    for (size_t length = 0; length < n; length += 97) {
        struct probe probe;

        assert_int_equal(probe_load(&probe, scratch_file("short", bytes, length), NULL),
                         STATUS_FORMAT);
    }
    free(bytes);
}

static void probe_files_report_failed_allocations(void **state)
{
    const struct fixture *fixture = *state;
    const char *path = scratch_path("e.probe.safetensors");
    struct probe probe;
    enum status st;

    for (size_t allowed = 0;; allowed++) {
        mem_fail_after(allowed);
        st = probe_save(&fixture->probe, path, NULL);
        if (!mem_failed())
            break;
        assert_int_equal(st, STATUS_NOMEM);
    }
    mem_fail_after(SIZE_MAX);
    assert_int_equal(st, STATUS_OK);
    for (size_t allowed = 0;; allowed++) {
        mem_fail_after(allowed);
        st = probe_load(&probe, path, NULL);
        if (!mem_failed())
            break;
        assert_int_equal(st, STATUS_NOMEM);
        assert_null(probe.weights);
        assert_null(probe.notes);
    }
    mem_fail_after(SIZE_MAX);
    assert_int_equal(st, STATUS_OK);
    probe_release(&probe);
}

static int group_setup(void **state)
{
    return scratch_setup(state) || setup(state);
}

static int group_teardown(void **state)
{
    return teardown(state) || scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe_load_gives_back_what_was_saved),
        cmocka_unit_test(probe_without_weights_and_extras_survives_a_file),
        cmocka_unit_test(probe_load_refuses_changed_metadata),
        cmocka_unit_test(probe_load_refuses_numbers_out_of_range),
        cmocka_unit_test(probe_load_survives_truncation_anywhere),
        cmocka_unit_test(probe_files_report_failed_allocations),
    };

    return cmocka_run_group_tests_name("scoring/probe_file", tests, group_setup, group_teardown);
}
