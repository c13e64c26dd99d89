#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/features.h"
#include "formats/safetensors.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* Three rows, the second empty. */
static int64_t indptr[] = {0, 2, 2, 3};
static uint32_t indices[] = {1, 7, 0};
static float values[] = {0.5F, 2, 1e-30F};
static uint64_t keys[] = {UINT64_MAX, 0, 42};
static uint32_t tokens_used[] = {9, 0, 1};
static float recon[] = {0.25F, 0, 1};

static struct features sample(void)
{
    return (struct features){
        .rows = 3,
        .d_sae = 8,
        .indptr = indptr,
        .indices = indices,
        .values = values,
        .keys = keys,
        .tokens_used = tokens_used,
        .recon_mean = recon,
        .sae_hash = "0123456789abcdef0123456789abcdef",
        .pooling = "max",
        .pooled_input = true,
    };
}

static void features_written_are_read_back(void **state)
{
    const struct features written = sample();
    const char *path = scratch_path("a.features.safetensors");
    struct features f;

    (void)state;
    assert_int_equal(features_write(&written, path, NULL), STATUS_OK);
    assert_int_equal(features_read(&f, path, NULL), STATUS_OK);
    assert_int_equal(f.rows, 3);
    assert_int_equal(f.d_sae, 8);
    assert_memory_equal(f.indptr, indptr, sizeof(indptr));
    assert_memory_equal(f.indices, indices, sizeof(indices));
    assert_memory_equal(f.values, values, sizeof(values));
    assert_memory_equal(f.keys, keys, sizeof(keys));
    assert_memory_equal(f.tokens_used, tokens_used, sizeof(tokens_used));
    assert_memory_equal(f.recon_mean, recon, sizeof(recon));
    assert_null(f.recon_max);
    assert_string_equal(f.sae_hash, written.sae_hash);
    assert_string_equal(f.pooling, "max");
    assert_true(f.pooled_input);
    assert_true(features_has_vector(&f, 0));
    assert_false(features_has_vector(&f, 1));
    features_release(&f);
    assert_null(f.indptr);
}

static void features_may_be_empty(void **state)
{
    const struct features written = {.rows = 0, .d_sae = 1, .indptr = indptr};
    const char *path = scratch_path("empty.features.safetensors");
    struct features f;

    (void)state;
    assert_int_equal(features_write(&written, path, NULL), STATUS_OK);
    assert_int_equal(features_read(&f, path, NULL), STATUS_OK);
    assert_int_equal(f.rows, 0);
    assert_null(f.keys);
    assert_null(f.sae_hash);
    assert_false(f.pooled_input);
    features_release(&f);
}

/* A store by hand, to be made wrong in one place at a time. */
struct store {
    struct safetensors_metadata metadata[4];
    struct safetensors_item items[7];
    size_t n_metadata, n_items;
};

static struct store sound_store(void)
{
    return (struct store){
        .metadata = {{"format", "saerl.features"}, {"version", "1"}, {"d_sae", "8"}},
        .n_metadata = 3,
        .items =
            {
                {"indptr", DTYPE_I64, {1, {4}}, indptr},
                {"indices", DTYPE_U32, {1, {3}}, indices},
                {"values", DTYPE_F32, {1, {3}}, values},
                {"keys", DTYPE_U64, {1, {3}}, keys},
                {"tokens_used", DTYPE_U32, {1, {3}}, tokens_used},
                {"recon_mean", DTYPE_F32, {1, {3}}, recon},
                {"recon_max", DTYPE_F32, {1, {3}}, recon},
            },
        .n_items = 7,
    };
}

static void check_store(const struct store *store, enum status expected, const char *words)
{
    const char *path = scratch_path("made.features.safetensors");
    struct error err = {0};
    struct features f;

    assert_int_equal(safetensors_write(path, store->items, store->n_items, store->metadata,
                                       store->n_metadata, NULL),
                     STATUS_OK);
    assert_int_equal(features_read(&f, path, &err), expected);
    if (!strstr(err.message, words))
        fail_msg("%s: expected %s", err.message, words);
    if (expected) {
        assert_non_null(strstr(err.message, "made.features.safetensors"));
        assert_null(f.indptr);
    }
    features_release(&f);
}

static void features_need_few_tensors(void **state)
{
    struct store store = sound_store();

    (void)state;
    check_store(&store, STATUS_OK, "");
    store.n_items = 3;
    check_store(&store, STATUS_OK, "");
    store.n_items = 2;
    check_store(&store, STATUS_FORMAT, "tensor 'values' is missing");
}

static void features_metadata_is_checked(void **state)
{
    static const struct {
        size_t i;
        char *value;
        enum status status;
        const char *words;
    } cases[] = {
        {0, "saerl.probe", STATUS_FORMAT, "not a feature store"},
        {1, "2", STATUS_UNSUPPORTED, "'version' is '2', expected '1'"},
        {2, "0", STATUS_FORMAT, "expected a number from 1"},
        {2, "-8", STATUS_FORMAT, "'d_sae' is '-8'"},
        {2, "8 ", STATUS_FORMAT, "'d_sae'"},
        {2, "", STATUS_FORMAT, "'d_sae'"},
        {2, "33554433", STATUS_FORMAT,
         "'d_sae' is '33554433', expected a number from 1 to 33554432"},
        {2, "18446744073709551624", STATUS_FORMAT, "'d_sae'"},
        {2, "7", STATUS_FORMAT, "row 0, entry 1: latent 7, but d_sae is 7"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct store store = sound_store();

        store.metadata[cases[i].i].value = cases[i].value;
        check_store(&store, cases[i].status, cases[i].words);
    }
    for (size_t i = 0; i < 3; i++) {
        struct store store = sound_store();

        store.metadata[i].key = "other";
        check_store(&store, STATUS_FORMAT, store.metadata[i].value[0] == '8' ? "d_sae" : "is ''");
    }
    struct store store = sound_store();

    store.metadata[store.n_metadata++] = (struct safetensors_metadata){"sae_hash", "xyz"};
    check_store(&store, STATUS_FORMAT, "'sae_hash' is 'xyz'");
}

static void features_contents_are_checked(void **state)
{
    static int64_t falls[] = {0, 2, 1, 3}, late[] = {1, 2, 2, 3}, low[] = {-1, 2, 2, 3},
                   high[] = {0, 2, 2, 4}, huge[] = {0, INT64_MAX, INT64_MAX, 3};
    static uint32_t wide[] = {1, 8, 0}, same[] = {1, 1, 0}, back[] = {7, 1, 0};
    static float nan_value[] = {0.5F, NAN, 1}, inf_value[] = {0.5F, 1, INFINITY};
    static const struct {
        size_t i;
        struct safetensors_item item;
        const char *words;
    } cases[] = {
        {0, {"indptr", DTYPE_I64, {1, {4}}, falls}, "row 1: indptr falls from 2 to 1"},
        {0, {"indptr", DTYPE_I64, {1, {4}}, late}, "indptr begins with 1"},
        {0, {"indptr", DTYPE_I64, {1, {4}}, low}, "indptr begins with -1"},
        {0, {"indptr", DTYPE_I64, {1, {4}}, high}, "indptr ends with 4, there are 3"},
        {0, {"indptr", DTYPE_I64, {1, {4}}, huge}, "row 2: indptr falls"},
        {0, {"indptr", DTYPE_I64, {1, {3}}, indptr}, "indptr ends with 2, there are 3"},
        {0, {"indptr", DTYPE_I64, {1, {0}}, NULL}, "'indptr' is empty"},
        {0, {"indptr", DTYPE_I32, {1, {4}}, indptr}, "'indptr': dtype I32, expected I64"},
        {0, {"indptr", DTYPE_I64, {2, {2, 2}}, indptr}, "'indptr': shape [2, 2], expected [4]"},
        {1, {"indices", DTYPE_U32, {1, {3}}, wide}, "row 0, entry 1: latent 8, but d_sae is 8"},
        {1, {"indices", DTYPE_U32, {1, {3}}, same}, "row 0, entry 1: latent 1 after 1"},
        {1, {"indices", DTYPE_U32, {1, {3}}, back}, "row 0, entry 1: latent 1 after 7"},
        {1, {"indices", DTYPE_I32, {1, {3}}, indices}, "'indices': dtype I32, expected U32"},
        {2, {"values", DTYPE_F32, {1, {3}}, nan_value}, "row 0, entry 1: the value is not finite"},
        {2, {"values", DTYPE_F32, {1, {3}}, inf_value}, "row 2, entry 0: the value is not finite"},
        {2, {"values", DTYPE_F32, {1, {2}}, values}, "'values': shape [2], expected [3]"},
        {2, {"values", DTYPE_F16, {1, {3}}, values}, "'values': dtype F16, expected F32"},
        {3, {"keys", DTYPE_U64, {1, {2}}, keys}, "'keys': shape [2], expected [3]"},
        {4, {"tokens_used", DTYPE_U64, {1, {3}}, keys}, "'tokens_used': dtype U64"},
        {5, {"recon_mean", DTYPE_F32, {1, {3}}, nan_value}, "row 1: recon_mean is not finite"},
        {6, {"recon_max", DTYPE_F32, {1, {3}}, inf_value}, "row 2: recon_max is not finite"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct store store = sound_store();

        store.items[cases[i].i] = cases[i].item;
        check_store(&store, STATUS_FORMAT, cases[i].words);
    }
}

static void features_that_cannot_be_read_are_not_written(void **state)
{
    const char *path = scratch_path("never.features.safetensors");
    float bad[] = {1, NAN, 1};
    struct features f = sample();
    struct error err;

    (void)state;
    f.values = bad;
    assert_int_equal(features_write(&f, path, &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "row 0, entry 1"));
    f = sample();
    f.d_sae = 0;
    assert_int_equal(features_write(&f, path, &err), STATUS_INVALID);
    assert_int_equal(features_read(&f, path, &err), STATUS_IO);
}

static void features_read_survives_failing_allocation(void **state)
{
    const struct features written = sample();
    const char *path = scratch_path("b.features.safetensors");
    size_t n = 0;

    (void)state;
    assert_int_equal(features_write(&written, path, NULL), STATUS_OK);
    do {
        struct features f;
        enum status st;

        mem_fail_after(n++);
        st = features_read(&f, path, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        features_release(&f);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_written_are_read_back),
        cmocka_unit_test(features_may_be_empty),
        cmocka_unit_test(features_need_few_tensors),
        cmocka_unit_test(features_metadata_is_checked),
        cmocka_unit_test(features_contents_are_checked),
        cmocka_unit_test(features_that_cannot_be_read_are_not_written),
        cmocka_unit_test(features_read_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/features", tests, scratch_setup, scratch_teardown);
}
