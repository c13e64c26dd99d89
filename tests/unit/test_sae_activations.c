#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

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

    assert_int_equal(activations_open(&activations, paths, n, ACTIVATIONS_NO_LAYER, &err),
                     expected);
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
        assert_int_equal(activations_open(&a, &path, 1, ACTIVATIONS_NO_LAYER, NULL), STATUS_OK);
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
    assert_int_equal(activations_open(&a, &path, 1, ACTIVATIONS_NO_LAYER, NULL), STATUS_OK);
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
    assert_int_equal(activations_open(&a, &path, 1, ACTIVATIONS_NO_LAYER, NULL), STATUS_OK);
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
    assert_int_equal(activations_open(&a, paths, 3, ACTIVATIONS_NO_LAYER, NULL), STATUS_OK);
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
    const struct safetensors_item other = {"embeddings", DTYPE_F32, {2, {4, 3}}, x};
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
        {{other, split},
         2,
         "no tensor 'activations' or 'hidden_states', found 'embeddings', 'offsets'"},
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

enum {
    LAYERS = 3
};

/* A file as vLLM writes it: vector l of token t holds first + 16 l + t, then half more each. */
static const char *states_file(const char *name, enum dtype dtype, size_t n_tokens, float first)
{
    static float x[TOKENS * LAYERS * D_IN];
    static uint16_t narrow[TOKENS * LAYERS * D_IN];
    static int64_t ids[TOKENS];
    const char *path = scratch_path(name);
    const struct safetensors_item items[] = {
        {"hidden_states",
         dtype,
         {3, {n_tokens, LAYERS, D_IN}},
         dtype == DTYPE_F32 ? (const void *)x : narrow},
        {"token_ids", DTYPE_I64, {1, {n_tokens}}, ids},
    };

    for (size_t i = 0; i < n_tokens * LAYERS * D_IN; i++) {
        size_t token = i / (LAYERS * D_IN), layer = i / D_IN % LAYERS;

        x[i] = first + (float)(16 * layer + token) + (float)(i % D_IN) / 2;
        if (dtype != DTYPE_F32)
            narrow[i] = activations_sample_narrow(dtype, x[i]);
    }
    write_items(path, items, 2);
    return path;
}

static void states_give_one_layer_of_a_sample_a_file(void **state)
{
    const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        const char *paths[] = {states_file("a.safetensors", dtypes[k], 4, 0),
                               states_file("b.safetensors", dtypes[k], 0, 0),
                               states_file("c.safetensors", dtypes[k], 3, 10)};

        for (int64_t layer = 0; layer < LAYERS; layer++) {
            struct activations *a;
            unsigned char keep[7];
            float x[7 * D_IN];
            uint64_t begin, end;

            assert_int_equal(activations_open(&a, paths, 3, layer, NULL), STATUS_OK);
            assert_int_equal(activations_samples(a), 3);
            assert_int_equal(activations_tokens(a), 7);
            assert_int_equal(activations_d_in(a), D_IN);
            assert_false(activations_pooled(a));
            activations_range(a, 1, &begin, &end);
            assert_true(begin == 4 && end == 4);
            activations_range(a, 2, &begin, &end);
            assert_true(begin == 4 && end == 7);
            assert_int_equal(activations_read(a, 0, 7, x, keep, NULL), STATUS_OK);
            for (size_t t = 0; t < 7; t++) {
                float first = t < 4 ? (float)t : 10 + (float)(t - 4);

                assert_int_equal(keep[t], 1);
                for (size_t i = 0; i < D_IN; i++)
                    assert_true(x[t * D_IN + i] == first + 16 * (float)layer + (float)i / 2);
            }
            activations_close(a);
        }
    }
}

static void states_of_one_layer_need_no_choice(void **state)
{
    static const float x[24] = {1, 2, 3};
    static const int64_t ends[] = {0, 1, 4};
    static const int32_t ids[4] = {0};
    const struct safetensors_item flat[] = {{"hidden_states", DTYPE_F32, {2, {4, 3}}, x},
                                            {"token_ids", DTYPE_I32, {1, {4}}, ids}};
    const struct safetensors_item split[] = {{"hidden_states", DTYPE_F32, {3, {4, 1, 3}}, x},
                                             {"offsets", DTYPE_I64, {1, {3}}, ends}};
    struct activations *a;
    uint64_t begin, end;
    const char *path;

    (void)state;
    path = scratch_path("flat.safetensors");
    write_items(path, flat, 2);
    assert_int_equal(activations_open(&a, &path, 1, ACTIVATIONS_NO_LAYER, NULL), STATUS_OK);
    assert_int_equal(activations_samples(a), 1);
    assert_int_equal(activations_d_in(a), 3);
    activations_close(a);
    assert_int_equal(activations_open(&a, &path, 1, 0, NULL), STATUS_OK);
    activations_close(a);

    path = scratch_path("split.safetensors");
    write_items(path, split, 2);
    assert_int_equal(activations_open(&a, &path, 1, ACTIVATIONS_NO_LAYER, NULL), STATUS_OK);
    assert_int_equal(activations_samples(a), 2);
    activations_range(a, 1, &begin, &end);
    assert_true(begin == 1 && end == 4);
    activations_close(a);
}

static void check_layer_refusal(const char *const *paths, size_t n, int64_t layer,
                                enum status expected, const char *words)
{
    struct activations *a;
    struct error err = {0};

    assert_int_equal(activations_open(&a, paths, n, layer, &err), expected);
    assert_null(a);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not contain '%s'", err.message, words);
}

static void states_need_a_layer_that_is_there(void **state)
{
    struct activations_sample s = sample();
    const char *states = states_file("states.safetensors", DTYPE_F32, 4, 0);
    const char *tokens = activations_sample_write("tokens.safetensors", &s);

    (void)state;
    check_layer_refusal(&states, 1, ACTIVATIONS_NO_LAYER, STATUS_INVALID,
                        "have 3 layers: input.layer, from 0 to 2, must say which");
    check_layer_refusal(&states, 1, 3, STATUS_INVALID, "input.layer: 3, but activations");
    check_layer_refusal(&states, 1, 3, STATUS_INVALID, "have 3 layers, counted from 0");
    check_layer_refusal(&tokens, 1, 0, STATUS_INVALID, "have no layers ('hidden_states' do)");
}

static void states_that_are_not_what_they_say_are_refused(void **state)
{
    static const float x[24] = {0};
    static const int64_t ids[5] = {0};
    const struct safetensors_item good = {"hidden_states", DTYPE_F32, {3, {4, 2, 3}}, x};
    const struct safetensors_item deep = {"hidden_states", DTYPE_F32, {4, {1, 4, 2, 3}}, x};
    const struct safetensors_item whole = {"hidden_states", DTYPE_I32, {3, {4, 2, 3}}, x};
    const struct safetensors_item none = {"hidden_states", DTYPE_F32, {3, {4, 0, 3}}, x};
    const struct safetensors_item flat = {"hidden_states", DTYPE_F32, {3, {4, 2, 0}}, x};
    const struct safetensors_item more = {"token_ids", DTYPE_I64, {1, {5}}, ids};
    const struct safetensors_item square = {"token_ids", DTYPE_I64, {2, {2, 2}}, ids};
    const struct safetensors_item real = {"token_ids", DTYPE_F32, {1, {4}}, ids};
    const struct {
        struct safetensors_item items[2];
        size_t n;
        const char *words;
    } bad[] = {
        {{deep}, 1, "hidden_states: shape [1, 4, 2, 3], expected [tokens, layers, hidden]"},
        {{whole}, 1, "activations are I32, expected F32, F16 or BF16"},
        {{none}, 1, "hidden_states: shape [4, 0, 3] is out of range"},
        {{flat}, 1, "hidden_states: shape [4, 2, 0] is out of range"},
        {{good, more}, 2, "tensor 'token_ids': I64 [5], expected I64 [4]"},
        {{good, square}, 2, "tensor 'token_ids': I64 [2, 2], expected I64 [4]"},
        {{good, real}, 2, "tensor 'token_ids': F32 [4], expected I64 [4]"},
    };
    const char *paths[2];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *path = scratch_path("bad.safetensors");

        write_items(path, bad[i].items, bad[i].n);
        check_layer_refusal(&path, 1, 0, STATUS_FORMAT, bad[i].words);
    }
    paths[0] = scratch_path("two.safetensors");
    write_items(paths[0], &good, 1);
    paths[1] = scratch_path("three.safetensors");
    write_items(paths[1], &(struct safetensors_item){"hidden_states", DTYPE_F32, {3, {1, 3, 3}}, x},
                1);
    check_layer_refusal(paths, 2, 0, STATUS_FORMAT, "three.safetensors' have 3 layers");
}

static void a_file_whose_writer_holds_its_lock_is_refused(void **state)
{
    const char *states = states_file("busy.safetensors", DTYPE_F32, 4, 0);
    int fd = open(scratch_file("busy.safetensors.lock", "", 0), O_WRONLY);
    struct activations *a;

    (void)state;
    assert_true(fd >= 0);
    /* The lock file that a finished write leaves behind means nothing. */
    assert_int_equal(activations_open(&a, &states, 1, 1, NULL), STATUS_OK);
    activations_close(a);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    check_layer_refusal(&states, 1, 1, STATUS_IO, "busy.safetensors' is still being written");
    close(fd);
    assert_int_equal(activations_open(&a, &states, 1, 1, NULL), STATUS_OK);
    activations_close(a);
}

/* One file a request makes thousands: more than a process may hold open. */
static void files_may_outnumber_descriptors(void **state)
{
    enum {
        FILES = 300
    };
    char *paths[FILES];
    float x[2 * FILES * D_IN];
    unsigned char keep[2 * FILES];
    struct activations *a;
    struct rlimit before;
    char name[32];

    (void)state;
    for (size_t i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "%03zu.safetensors", i);
        paths[i] = strdup(states_file(name, DTYPE_F32, 2, (float)i));
        assert_non_null(paths[i]);
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, before.rlim_max}), 0);
    assert_int_equal(activations_open(&a, (const char *const *)paths, FILES, 2, NULL), STATUS_OK);
    assert_int_equal(activations_samples(a), FILES);
    for (size_t repeat = 0; repeat < 2; repeat++) {
        assert_int_equal(activations_read(a, 0, 2 * FILES, x, keep, NULL), STATUS_OK);
        for (size_t t = 0; t < 2 * FILES; t++)
            assert_true(x[t * D_IN] == (float)(t / 2 + t % 2 + 32));
    }
    /* What has changed since is not read as if it had not. */
    assert_int_equal(truncate(paths[7], 100), 0);
    assert_int_equal(activations_read(a, 14, 1, x, keep, NULL), STATUS_IO);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    activations_close(a);
    for (size_t i = 0; i < FILES; i++) {
        unlink(paths[i]);
        free(paths[i]);
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
        st = activations_open(&a, paths, 2, ACTIVATIONS_NO_LAYER, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        assert_true(done == (a != NULL));
        activations_close(a);
    }
}

/* The sample as a request has it, one byte off any alignment. */
struct piece {
    unsigned char bytes[1 + TOKENS * D_IN * sizeof(float)];
    unsigned char offsets[1 + sizeof(offsets)];
    struct activations_memory memory;
};

static void piece_init(struct piece *piece, enum dtype dtype)
{
    sample(); /* fills `numbers` */
    for (size_t i = 0; i < TOKENS * D_IN; i++) {
        uint16_t narrow;

        if (dtype == DTYPE_F32) {
            memcpy(piece->bytes + 1 + 4 * i, &numbers[i], 4);
            continue;
        }
        narrow = activations_sample_narrow(dtype, numbers[i]);
        memcpy(piece->bytes + 1 + 2 * i, &narrow, 2);
    }
    memcpy(piece->offsets + 1, offsets, sizeof(offsets));
    piece->memory = (struct activations_memory){
        .name = "request 7",
        .dtype = dtype,
        .x = piece->bytes + 1,
        .tokens = TOKENS,
        .d_in = D_IN,
        .offsets = piece->offsets + 1,
        .samples = 4,
    };
}

static void activations_in_memory_read_as_from_a_file(void **state)
{
    const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    const unsigned char mask[TOKENS] = {1, 0, 1, 1, 2, 0, 1, 1, 1, 255, 0, 1};

    (void)state;
    for (size_t k = 0; k < 6; k++) {
        struct activations_sample s = sample();
        struct activations *a, *b;
        struct piece piece;
        const char *path;

        piece_init(&piece, dtypes[k % 3]);
        s.dtype = dtypes[k % 3];
        s.keep = piece.memory.keep = k < 3 ? mask : NULL;
        path = activations_sample_write("acts.safetensors", &s);
        assert_int_equal(activations_open(&a, &path, 1, ACTIVATIONS_NO_LAYER, NULL), STATUS_OK);
        assert_int_equal(activations_wrap(&b, &piece.memory, NULL), STATUS_OK);
        memset(piece.offsets, 255, sizeof(piece.offsets)); /* copied */
        assert_int_equal(activations_samples(b), 4);
        assert_int_equal(activations_tokens(b), TOKENS);
        assert_int_equal(activations_d_in(b), D_IN);
        assert_false(activations_pooled(b));
        assert_null(activations_model(b));
        assert_null(activations_hook(b));
        assert_string_equal(activations_path(b), "request 7");
        for (size_t i = 0; i < 4; i++) {
            uint64_t range[2], expected[2];

            activations_range(a, i, &expected[0], &expected[1]);
            activations_range(b, i, &range[0], &range[1]);
            assert_memory_equal(range, expected, sizeof(range));
        }
        for (size_t first = 0; first <= TOKENS; first++) {
            for (size_t n = 0; first + n <= TOKENS; n++) {
                float x[2][TOKENS * D_IN] = {{0}};
                unsigned char keep[2][TOKENS] = {{0}};

                assert_int_equal(activations_read(a, first, n, x[0], keep[0], NULL), STATUS_OK);
                assert_int_equal(activations_read(b, first, n, x[1], keep[1], NULL), STATUS_OK);
                assert_memory_equal(keep[0], keep[1], sizeof(keep[0]));
                /* What is masked is not converted: it stays 0 here, whatever the file has. */
                for (size_t t = 0; t < n; t++) {
                    if (!keep[0][t])
                        memset(x[0] + t * D_IN, 0, D_IN * sizeof(float));
                }
                assert_memory_equal(x[0], x[1], sizeof(x[0]));
            }
        }
        activations_close(a);
        activations_close(b);
    }
}

static void activations_in_memory_without_offsets_are_pooled(void **state)
{
    struct activations_memory memory;
    struct activations *a;
    struct piece piece;
    uint64_t begin, end;

    (void)state;
    piece_init(&piece, DTYPE_F32);
    memory = piece.memory;
    memory.name = NULL;
    memory.offsets = NULL;
    memory.samples = 0;
    assert_int_equal(activations_wrap(&a, &memory, NULL), STATUS_OK);
    assert_true(activations_pooled(a));
    assert_int_equal(activations_samples(a), TOKENS);
    activations_range(a, 7, &begin, &end);
    assert_int_equal(begin, 7);
    assert_int_equal(end, 8);
    assert_string_equal(activations_path(a), "(memory)");
    activations_close(a);

    memory.tokens = 0;
    memory.x = NULL;
    assert_int_equal(activations_wrap(&a, &memory, NULL), STATUS_OK);
    assert_int_equal(activations_samples(a), 0);
    activations_close(a);
}

static void refuse_memory(const struct activations_memory *memory, const char *words)
{
    struct activations *a;
    struct error err = {0};

    assert_int_equal(activations_wrap(&a, memory, &err), STATUS_INVALID);
    assert_null(a);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not contain '%s'", err.message, words);
}

static void activations_in_memory_are_refused_with_both_numbers(void **state)
{
    static const struct {
        int64_t offsets[3];
        const char *words;
    } cases[] = {
        {{1, 3, 12}, "offsets[0] is 1, expected 0"},
        {{0, 4, 3}, "offsets[2] is 3, less than the 4 before it"},
        {{0, -4, 12}, "offsets[1] is -4, less than the 0 before it"},
        {{0, 4, 11}, "offsets[2], the last, is 11, but there are 12 tokens"},
        {{0, 13, 12}, "offsets[1] is 13, but there are 12 tokens"},
    };
    const unsigned char mask[TOKENS] = {1};
    struct activations_memory memory;
    struct piece piece;

    (void)state;
    piece_init(&piece, DTYPE_F32);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        memory = piece.memory;
        memory.offsets = cases[i].offsets;
        memory.samples = 2;
        refuse_memory(&memory, cases[i].words);
    }
    memory = piece.memory;
    memory.offsets = NULL;
    memory.keep = mask;
    refuse_memory(&memory, "'keep' without offsets");
    memory = piece.memory;
    memory.dtype = DTYPE_I32;
    refuse_memory(&memory, "activations are I32, expected F32, F16 or BF16");
    memory = piece.memory;
    memory.d_in = 0;
    refuse_memory(&memory, "activations: 0 wide");
}

static void activations_in_memory_survive_failing_allocations(void **state)
{
    struct piece piece;
    bool done = false;

    (void)state;
    piece_init(&piece, DTYPE_F32);
    for (size_t allowed = 0; !done; allowed++) {
        struct activations *a;
        enum status st;

        mem_fail_after(allowed);
        st = activations_wrap(&a, &piece.memory, NULL);
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
        cmocka_unit_test(states_give_one_layer_of_a_sample_a_file),
        cmocka_unit_test(states_of_one_layer_need_no_choice),
        cmocka_unit_test(states_need_a_layer_that_is_there),
        cmocka_unit_test(states_that_are_not_what_they_say_are_refused),
        cmocka_unit_test(a_file_whose_writer_holds_its_lock_is_refused),
        cmocka_unit_test(files_may_outnumber_descriptors),
        cmocka_unit_test(activations_name_a_missing_file),
        cmocka_unit_test(activations_open_survives_failing_allocations),
        cmocka_unit_test(activations_in_memory_read_as_from_a_file),
        cmocka_unit_test(activations_in_memory_without_offsets_are_pooled),
        cmocka_unit_test(activations_in_memory_are_refused_with_both_numbers),
        cmocka_unit_test(activations_in_memory_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("sae/activations", tests, scratch_setup, scratch_teardown);
}
