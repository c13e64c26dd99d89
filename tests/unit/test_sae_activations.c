#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "formats/safetensors.h"
#include "sae/activations.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_sample.h"
#include "tests/support/scratch.h"

enum {
    D_IN = 5,
    TOKENS = 12
};

static const int64_t offsets[] = {0, 3, 3, 8, 12};
static float numbers[TOKENS * D_IN];

static struct activations_sample sample(void)
{
    for (size_t i = 0; i < TOKENS * D_IN; i++)
        numbers[i] = (float)i / 4;
    return (struct activations_sample){.x = numbers,
                                       .n_tokens = TOKENS,
                                       .d_in = D_IN,
                                       .dtype = DTYPE_F32,
                                       .offsets = offsets,
                                       .n_samples = 4};
}

static void check_refusal(const char *const *paths, size_t n, enum status expected,
                          const char *words)
{
    struct activations *activations;
    struct error err = {0};

    assert_int_equal(activations_open(&activations, paths, n, &err), expected);
    assert_null(activations);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not contain '%s'", err.message, words);
}

/* A .npy of this header and `n` floats. */
static const char *npy(const char *name, const char *header, size_t n)
{
    unsigned char bytes[2048] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    size_t length = strlen(header);

    bytes[8] = (unsigned char)length;
    bytes[9] = (unsigned char)(length >> 8);
    memcpy(bytes + 10, header, length);
    for (size_t i = 0; i < n; i++) {
        float value = (float)i;

        memcpy(bytes + 10 + length + 4 * i, &value, 4);
    }
    return scratch_file(name, bytes, 10 + length + 4 * n);
}

static void activations_give_samples_and_tokens(void **state)
{
    const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    const unsigned char mask[TOKENS] = {1, 0, 1, 1, 2, 0, 1, 1, 1, 255, 0, 1};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct activations_sample s = sample();
        struct activations *a;
        const char *path;
        uint64_t begin, end;

        s.dtype = dtypes[k];
        s.keep = mask;
        s.model = "tiny";
        s.hook = "blocks.3";
        path = activations_sample_write("acts.safetensors", &s);
        assert_int_equal(activations_open(&a, &path, 1, NULL), STATUS_OK);
        assert_int_equal(activations_samples(a), 4);
        assert_int_equal(activations_tokens(a), TOKENS);
        assert_int_equal(activations_d_in(a), D_IN);
        assert_false(activations_pooled(a));
        assert_string_equal(activations_model(a), "tiny");
        assert_string_equal(activations_hook(a), "blocks.3");
        assert_string_equal(activations_path(a), path);
        for (size_t i = 0; i < 4; i++) {
            activations_range(a, i, &begin, &end);
            assert_int_equal(begin, offsets[i]);
            assert_int_equal(end, offsets[i + 1]);
        }
        for (size_t first = 0; first <= TOKENS; first++) {
            for (size_t n = 0; first + n <= TOKENS; n++) {
                float x[TOKENS * D_IN];
                unsigned char keep[TOKENS];

                assert_int_equal(activations_read(a, first, n, x, keep, NULL), STATUS_OK);
                if (n)
                    assert_memory_equal(x, numbers + first * D_IN, n * D_IN * sizeof(*x));
                for (size_t t = 0; t < n; t++)
                    assert_int_equal(keep[t], mask[first + t] != 0);
            }
        }
        activations_close(a);
    }
}

static void activations_without_offsets_are_one_row_a_sample(void **state)
{
    struct activations_sample s = sample();
    struct activations *a;
    uint64_t begin, end;
    const char *path;

    (void)state;
    s.offsets = NULL;
    path = activations_sample_write("pooled.safetensors", &s);
    assert_int_equal(activations_open(&a, &path, 1, NULL), STATUS_OK);
    assert_true(activations_pooled(a));
    assert_int_equal(activations_samples(a), TOKENS);
    activations_range(a, 7, &begin, &end);
    assert_int_equal(begin, 7);
    assert_int_equal(end, 8);
    assert_null(activations_model(a));
    activations_close(a);
}

static void activations_read_npy(void **state)
{
    const char *path =
        npy("acts.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }  \n", 6);
    const char *fortran =
        npy("fortran.npy", "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }  \n", 6);
    const char *flat =
        npy("flat.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }  \n", 6);
    struct activations *a;
    unsigned char keep[2];
    float x[4];

    (void)state;
    assert_int_equal(activations_open(&a, &path, 1, NULL), STATUS_OK);
    assert_true(activations_pooled(a));
    assert_int_equal(activations_samples(a), 3);
    assert_int_equal(activations_d_in(a), 2);
    assert_int_equal(activations_read(a, 1, 2, x, keep, NULL), STATUS_OK);
    assert_true(x[0] == 2 && x[3] == 5 && keep[0] == 1 && keep[1] == 1);
    activations_close(a);
    check_refusal(&fortran, 1, STATUS_FORMAT, "numpy.ascontiguousarray");
    check_refusal(&flat, 1, STATUS_FORMAT, "shape [6], expected [tokens, d_in]");
}

static void activations_of_several_files_are_one_sequence(void **state)
{
    const unsigned char mask[TOKENS] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
    const int64_t none[] = {0};
    struct activations_sample s = sample();
    struct activations *a;
    const char *paths[3];
    float x[2 * TOKENS * D_IN];
    unsigned char keep[2 * TOKENS];
    uint64_t begin, end;

    (void)state;
    s.model = "tiny";
    paths[0] = activations_sample_write("first.safetensors", &s);
    s.n_tokens = 0;
    s.offsets = none;
    s.n_samples = 0;
    paths[1] = activations_sample_write("none.safetensors", &s);
    s = sample();
    s.keep = mask;
    s.hook = "blocks.1";
    s.dtype = DTYPE_F16;
    paths[2] = activations_sample_write("second.safetensors", &s);
    assert_int_equal(activations_open(&a, paths, 3, NULL), STATUS_OK);
    assert_int_equal(activations_samples(a), 8);
    assert_int_equal(activations_tokens(a), 2 * TOKENS);
    assert_string_equal(activations_model(a), "tiny");
    assert_string_equal(activations_hook(a), "blocks.1");
    activations_range(a, 3, &begin, &end);
    assert_int_equal(begin, 8);
    assert_int_equal(end, 12);
    activations_range(a, 6, &begin, &end);
    assert_int_equal(begin, 15);
    assert_int_equal(end, 20);
    for (size_t first = 0; first < 2 * TOKENS; first += 5) {
        size_t n = 2 * TOKENS - first;

        assert_int_equal(activations_read(a, first, n, x, keep, NULL), STATUS_OK);
        for (size_t t = 0; t < n; t++) {
            size_t token = first + t;

            assert_memory_equal(x + t * D_IN, numbers + token % TOKENS * D_IN, D_IN * sizeof(*x));
            assert_int_equal(keep[t], token < TOKENS ? 1 : mask[token - TOKENS]);
        }
    }
    activations_close(a);
}

static void activations_that_do_not_match_are_refused(void **state)
{
    struct activations_sample s = sample();
    const char *tokens = activations_sample_write("tokens.safetensors", &s);
    const char *paths[2];
    char first[512];

    (void)state;
    snprintf(first, sizeof(first), "%s", tokens);
    paths[0] = first;
    s.offsets = NULL;
    paths[1] = activations_sample_write("pooled.safetensors", &s);
    check_refusal(paths, 2, STATUS_FORMAT, "they do not mix");
    check_refusal(paths, 2, STATUS_FORMAT, "pooled.safetensors' hold one row a sample");
    check_refusal(paths, 2, STATUS_FORMAT, "tokens.safetensors' one row a token");
    s = sample();
    s.d_in = 4;
    paths[1] = activations_sample_write("narrow.safetensors", &s);
    check_refusal(paths, 2, STATUS_FORMAT, "narrow.safetensors' are 4 wide");
    check_refusal(paths, 2, STATUS_FORMAT, "tokens.safetensors' before it 5");
    s = sample();
    s.hook = "blocks.1";
    paths[0] = activations_sample_write("one.safetensors", &s);
    s.hook = "blocks.2";
    paths[1] = activations_sample_write("two.safetensors", &s);
    check_refusal(paths, 2, STATUS_FORMAT, "from hook 'blocks.2'");
}

static void activations_offsets_are_checked(void **state)
{
    static const struct {
        int64_t offsets[5];
        const char *words;
    } bad[] = {
        {{1, 3, 3, 8, 12}, "offsets[0] is 1, expected 0"},
        {{0, 3, 2, 8, 12}, "offsets[2] is 2, less than the 3 before it"},
        {{0, 3, 3, -8, 12}, "offsets[3] is -8, less than the 3 before it"},
        {{0, 3, 3, 8, 11}, "offsets[4], the last, is 11, but there are 12 tokens"},
        {{0, 3, 3, 13, 12}, "offsets[3] is 13, but there are 12 tokens"},
        {{0, 3, 3, INT64_MAX, 12}, "offsets[3] is 9223372036854775807, but there are 12 tokens"},
        {{INT64_MIN, 3, 3, 8, 12}, "offsets[0] is -9223372036854775808, expected 0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct activations_sample s = sample();
        const char *path;

        s.offsets = bad[i].offsets;
        path = activations_sample_write("bad.safetensors", &s);
        check_refusal(&path, 1, STATUS_FORMAT, bad[i].words);
    }
}

static void write_items(const char *path, const struct safetensors_item *items, size_t n)
{
    assert_int_equal(safetensors_write(path, items, n, NULL, 0, NULL), STATUS_OK);
}

static void activations_tensors_are_checked(void **state)
{
    static const float x[24] = {0};
    static const int64_t ends[] = {0, 4};
    static const unsigned char mask[4] = {1, 1, 1, 1};
    const struct safetensors_item good = {"activations", DTYPE_F32, {2, {4, 3}}, x};
    const struct safetensors_item deep = {"activations", DTYPE_F32, {4, {1, 2, 2, 3}}, x};
    const struct safetensors_item whole = {"activations", DTYPE_I32, {2, {4, 3}}, x};
    const struct safetensors_item flat = {"activations", DTYPE_F32, {2, {4, 0}}, x};
    const struct safetensors_item split = {"offsets", DTYPE_I64, {1, {2}}, ends};
    const struct safetensors_item small = {"offsets", DTYPE_I32, {1, {2}}, ends};
    const struct safetensors_item empty = {"offsets", DTYPE_I64, {1, {0}}, ends};
    const struct safetensors_item keep = {"keep", DTYPE_U8, {1, {4}}, mask};
    const struct safetensors_item brief = {"keep", DTYPE_U8, {1, {3}}, mask};
    const struct safetensors_item other = {"hidden_states", DTYPE_F32, {2, {4, 3}}, x};
    const struct safetensors_item store = {"indptr", DTYPE_I64, {1, {2}}, ends};
    const struct {
        struct safetensors_item items[3];
        size_t n;
        const char *words;
    } bad[] = {
        {{deep}, 1, "shape [1, 2, 2, 3], expected [tokens, d_in] or"},
        {{whole}, 1, "activations are I32, expected F32, F16 or BF16"},
        {{flat}, 1, "shape [4, 0], d_in is out of range"},
        {{good, small}, 2, "tensor 'offsets': I32 [2], expected I64 [samples + 1]"},
        {{good, empty}, 2, "tensor 'offsets': I64 [0], expected I64 [samples + 1]"},
        {{good, split, brief}, 3, "tensor 'keep': U8 [3], expected U8 [4]"},
        {{good, keep}, 2, "tensor 'keep' without 'offsets'"},
        {{other, split}, 2, "no tensor 'activations', found 'hidden_states', 'offsets'"},
        {{store}, 1, "this is a feature store, already encoded"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *path = scratch_path("bad.safetensors");

        write_items(path, bad[i].items, bad[i].n);
        check_refusal(&path, 1, STATUS_FORMAT, bad[i].words);
        check_refusal(&path, 1, STATUS_FORMAT, "bad.safetensors");
    }
}

static void activations_name_a_missing_file(void **state)
{
    const char *path = scratch_path("absent.safetensors");

    (void)state;
    check_refusal(&path, 1, STATUS_IO, "absent.safetensors");
}

static void activations_open_survives_failing_allocations(void **state)
{
    struct activations_sample s = sample();
    const char *paths[2];
    bool done = false;

    (void)state;
    s.model = "tiny";
    s.hook = "blocks.1";
    paths[0] = activations_sample_write("one.safetensors", &s);
    paths[1] = paths[0];
    for (size_t allowed = 0; !done; allowed++) {
        struct activations *a;
        enum status st;

        mem_fail_after(allowed);
        st = activations_open(&a, paths, 2, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        assert_true(done == (a != NULL));
        activations_close(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_give_samples_and_tokens),
        cmocka_unit_test(activations_without_offsets_are_one_row_a_sample),
        cmocka_unit_test(activations_read_npy),
        cmocka_unit_test(activations_of_several_files_are_one_sequence),
        cmocka_unit_test(activations_that_do_not_match_are_refused),
        cmocka_unit_test(activations_offsets_are_checked),
        cmocka_unit_test(activations_tensors_are_checked),
        cmocka_unit_test(activations_name_a_missing_file),
        cmocka_unit_test(activations_open_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("sae/activations", tests, scratch_setup, scratch_teardown);
}
