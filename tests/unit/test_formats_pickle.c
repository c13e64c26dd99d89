#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/pickle.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/zip_sample.h"

static const struct pickle_view view = {.storage_class = "HalfStorage",
                                        .key = "7",
                                        .n_elements = 12,
                                        .offset = 2,
                                        .rank = 2,
                                        .dims = {2, 3},
                                        .strides = {1, 4}};

/* From a copy of its exact size, so that reading past the end shows under a sanitizer. */
static enum status parse(const char *bytes, size_t n, char **copy, struct pickle *pickle,
                         struct error *err)
{
    *copy = malloc(n + !n);
    assert_non_null(*copy);
    if (n)
        memcpy(*copy, bytes, n);
    return pickle_parse(pickle, *copy, n, err);
}

static const struct pickle_value *item(const struct pickle *pickle,
                                       const struct pickle_value *container, size_t i)
{
    assert_true(i < container->items.n);
    return &pickle->values[container->items.ids[i]];
}

static bool is_string(const struct pickle_value *value, const char *string)
{
    return value->type == PICKLE_STRING && value->string.n == strlen(string) &&
           memcmp(value->string.bytes, string, value->string.n) == 0;
}

static void pickle_values_of_every_kind_are_read(void **state)
{
    static const char bytes[] = "\x80\2](NK\xffM\xff\xffJ\xfe\xff\xff\xff\x8a\0\x8a\1\x80\x8a\x8"
                                "\1\2\3\4\5\6\7\x80G\x3f\xe0\0\0\0\0\0\0\x88\x89X\2\0\0\0\xc3\xa9"
                                ")K\1\x85K\1K\2\x86K\1K\2K\3\x87(K\1K\2K\3K\4t}e.";
    static const int64_t integers[] = {255, 65535, -2, 0, -128, -0x7ff8f9fafbfcfdff};
    const struct pickle_value *root;
    struct pickle pickle;
    char *copy;

    (void)state;
    assert_int_equal(parse(bytes, sizeof(bytes) - 1, &copy, &pickle, NULL), STATUS_OK);
    root = &pickle.values[pickle.root];
    assert_int_equal(root->type, PICKLE_LIST);
    assert_int_equal(root->items.n, 17);
    assert_int_equal(item(&pickle, root, 0)->type, PICKLE_NONE);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(item(&pickle, root, 1 + i)->type, PICKLE_INTEGER);
        assert_true(item(&pickle, root, 1 + i)->integer == integers[i]);
    }
    assert_int_equal(item(&pickle, root, 7)->type, PICKLE_FLOAT);
    assert_true(item(&pickle, root, 7)->number == 0.5);
    assert_int_equal(item(&pickle, root, 8)->integer, 1);
    assert_int_equal(item(&pickle, root, 9)->integer, 0);
    assert_true(is_string(item(&pickle, root, 10), "\xc3\xa9"));
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(item(&pickle, root, 11 + i)->type, PICKLE_TUPLE);
        assert_int_equal(item(&pickle, root, 11 + i)->items.n, i);
    }
    assert_int_equal(item(&pickle, root, 16)->type, PICKLE_DICT);
    pickle_release(&pickle);
    pickle_release(&pickle);
    free(copy);
}

static void pickle_dicts_take_one_item_or_many(void **state)
{
    /* {1: 2}, filled with 3: 4 and 5: 6, and the same once more from the memo. */
    static const char bytes[] = "\x80\2}q\0K\1K\2s(K\3K\4K\5K\6uh\0\x86.";
    const struct pickle_value *root;
    struct pickle pickle;
    char *copy;

    (void)state;
    assert_int_equal(parse(bytes, sizeof(bytes) - 1, &copy, &pickle, NULL), STATUS_OK);
    root = &pickle.values[pickle.root];
    assert_int_equal(root->type, PICKLE_TUPLE);
    assert_ptr_equal(item(&pickle, root, 0), item(&pickle, root, 1));
    assert_int_equal(item(&pickle, root, 0)->items.n, 6);
    assert_int_equal(item(&pickle, item(&pickle, root, 0), 5)->integer, 6);
    pickle_release(&pickle);
    free(copy);
}

/* An OrderedDict with a tensor, a parameter and `_metadata`. */
static void append_state_dict(struct text *bytes)
{
    text_append_n(bytes, "\x80\2", 2);
    text_append(bytes, "ccollections\nOrderedDict\n)R(");
    pickle_string(bytes, "w");
    pickle_tensor(bytes, &view);
    pickle_string(bytes, "p");
    text_append(bytes, "ctorch._utils\n_rebuild_parameter\n");
    pickle_tensor(bytes, &view);
    text_append(bytes, "\x88"
                       "ccollections\nOrderedDict\n)R\x87Ru}");
    pickle_string(bytes, "_metadata");
    text_append(bytes, "}sb.");
}

static void pickle_state_dicts_hold_tensors(void **state)
{
    const struct pickle_tensor *tensor;
    const struct pickle_value *root;
    struct text bytes = {0};
    struct pickle pickle;
    char *copy;

    (void)state;
    append_state_dict(&bytes);
    assert_int_equal(parse(bytes.data, bytes.length, &copy, &pickle, NULL), STATUS_OK);
    root = &pickle.values[pickle.root];
    assert_int_equal(root->type, PICKLE_DICT);
    assert_int_equal(root->items.n, 4);
    assert_true(is_string(item(&pickle, root, 0), "w"));
    assert_int_equal(item(&pickle, root, 1)->type, PICKLE_TENSOR);
    assert_int_equal(item(&pickle, root, 3)->type, PICKLE_TENSOR);
    tensor = &pickle.tensors[item(&pickle, root, 3)->tensor];
    assert_int_equal(tensor->storage.dtype, DTYPE_F16);
    assert_int_equal(tensor->storage.n_elements, 12);
    assert_int_equal(tensor->storage.key.n, 1);
    assert_int_equal(tensor->offset, 2);
    assert_int_equal(tensor->shape.rank, 2);
    assert_int_equal(tensor->shape.dims[1], 3);
    assert_int_equal(tensor->strides[1], 4);
    pickle_release(&pickle);
    free(copy);
    text_release(&bytes);
}

static void pickle_refuses_what_torch_does_not_write(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        enum status status;
        const char *words;
    } cases[] = {
#define CASE(bytes, status, words) {bytes, sizeof(bytes) - 1, status, words}
        CASE("", STATUS_FORMAT, "does not begin"),
        CASE("N.", STATUS_FORMAT, "does not begin"),
        CASE("\x80\2", STATUS_FORMAT, "without a STOP"),
        CASE("\x80\2.", STATUS_FORMAT, "0 values at the end"),
        CASE("\x80\2NN.", STATUS_FORMAT, "2 values at the end"),
        CASE("\x80\2N.N", STATUS_FORMAT, "1 bytes after the end"),
        CASE("\x80\4N.", STATUS_UNSUPPORTED, "protocol 4, expected 2"),
        CASE("\x80\2\x93.", STATUS_UNSUPPORTED, "byte 2: opcode 0x93"),
        CASE("\x80\2cos\nsystem\n.", STATUS_UNSUPPORTED, "global 'os.system'"),
        CASE("\x80\2c__builtin__\neval\n.", STATUS_UNSUPPORTED, "'__builtin__.eval'"),
        CASE("\x80\2"
             "ctorch\nload\n.",
             STATUS_UNSUPPORTED, "'torch.load'"),
        CASE("\x80\2"
             "ctorch\nQInt8Storage\n.",
             STATUS_UNSUPPORTED, "'torch.QInt8Storage'"),
        CASE("\x80\2"
             "ctorch\nload",
             STATUS_FORMAT, "does not end"),
        CASE("\x80\2"
             "c\xff\n\n",
             STATUS_FORMAT, "not UTF-8"),
        CASE("\x80\2R", STATUS_FORMAT, "2 values expected on the stack, 0"),
        CASE("\x80\2K\1)R", STATUS_FORMAT, "a call of an integer"),
        CASE("\x80\2"
             "ctorch\nFloatStorage\n)R",
             STATUS_FORMAT, "a call of a class"),
        CASE("\x80\2"
             "ccollections\nOrderedDict\n]\x85R",
             STATUS_UNSUPPORTED, "OrderedDict of arguments"),
        CASE("\x80\2"
             "ccollections\nOrderedDict\n]R",
             STATUS_FORMAT, "a call with a list"),
        CASE("\x80\2"
             "ctorch._utils\n_rebuild_parameter\nNNN\x87R",
             STATUS_FORMAT, "a parameter"),
        CASE("\x80\2"
             "ctorch._utils\n_rebuild_tensor_v2\n)R",
             STATUS_FORMAT, "a tensor of 0 arguments"),
        CASE("\x80\2"
             "ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR",
             STATUS_FORMAT, "a tensor of None"),
        CASE("\x80\2NQ", STATUS_FORMAT, "not a tuple of 5"),
        CASE("\x80\2(NNNNNtQ", STATUS_FORMAT, "expected the class"),
        CASE("\x80\2(N"
             "ctorch\nFloatStorage\nNNNtQ",
             STATUS_FORMAT, "without a key"),
        CASE("\x80\2t", STATUS_FORMAT, "no mark"),
        CASE("\x80\2N\x86", STATUS_FORMAT, "2 values expected"),
        CASE("\x80\2N(\x85", STATUS_FORMAT, "1 values expected on the stack, 0"),
        CASE("\x80\2N(.", STATUS_FORMAT, "at the end"),
        CASE("\x80\2(Nu", STATUS_FORMAT, "2 values expected"),
        CASE("\x80\2}(Nu", STATUS_FORMAT, "an even number"),
        CASE("\x80\2](NNu", STATUS_FORMAT, "a list to be filled, expected a dict"),
        CASE("\x80\2}Na", STATUS_FORMAT, "a dict to be filled, expected a list"),
        CASE("\x80\2NNb", STATUS_UNSUPPORTED, "attributes"),
        CASE("\x80\2h\7", STATUS_FORMAT, "memo number 7"),
        CASE("\x80\2Nq\1h\0", STATUS_FORMAT, "memo number 0"),
        CASE("\x80\2Nr\xff\xff\xff\x7f", STATUS_FORMAT, "memo number 2147483647"),
        CASE("\x80\2q\0", STATUS_FORMAT, "1 values expected"),
        CASE("\x80\2X\xff\xff\xff\x7f"
             "abc",
             STATUS_FORMAT, "2147483647 bytes expected, 3 are left"),
        CASE("\x80\2X\1\0\0\0\xff.", STATUS_FORMAT, "not UTF-8"),
        CASE("\x80\2X\1\0\0\0\0.", STATUS_FORMAT, "zero byte"),
        CASE("\x80\2\x8a\x9"
             "123456789.",
             STATUS_UNSUPPORTED, "an integer of 9 bytes"),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct error err = {0};
        struct pickle pickle;
        char *copy;
        enum status st = parse(cases[i].bytes, cases[i].n, &copy, &pickle, &err);

        if (st != cases[i].status || !strstr(err.message, cases[i].words))
            fail_msg("%zu: %d %s, expected '%s'", i, (int)st, err.message, cases[i].words);
        assert_null(pickle.values);
        free(copy);
    }
}

static void check_view(const struct pickle_view *refused, enum status status, const char *words)
{
    struct text bytes = {0};
    struct error err = {0};
    struct pickle pickle;
    enum status st;

    text_append_n(&bytes, "\x80\2", 2);
    pickle_tensor(&bytes, refused);
    text_append_char(&bytes, '.');
    st = pickle_parse(&pickle, bytes.data, bytes.length, &err);
    if (st != status || !strstr(err.message, words))
        fail_msg("%d %s, expected '%s'", (int)st, err.message, words);
    text_release(&bytes);
}

static void pickle_refuses_tensors_of_impossible_sizes(void **state)
{
    struct pickle_view refused = view;

    (void)state;
    refused.strides[1] = -1;
    check_view(&refused, STATUS_FORMAT, "stride 1 is not an integer of at least 0");
    refused = view;
    refused.dims[0] = -2;
    check_view(&refused, STATUS_FORMAT, "size 0");
    refused = view;
    refused.offset = -1;
    check_view(&refused, STATUS_FORMAT, "offset");
    refused = view;
    refused.n_elements = -1;
    check_view(&refused, STATUS_FORMAT, "number of elements");
    refused = view;
    refused.rank = 9;
    check_view(&refused, STATUS_UNSUPPORTED, "9 dimensions, at most 8");
}

static void pickle_cut_off_anywhere_is_refused(void **state)
{
    struct text bytes = {0};
    struct pickle pickle;
    char *copy;

    (void)state;
    append_state_dict(&bytes);
    for (size_t n = 0; n < bytes.length; n++) {
        assert_int_not_equal(parse(bytes.data, n, &copy, &pickle, NULL), STATUS_OK);
        free(copy);
    }
    text_release(&bytes);
}

static void pickle_counts_are_bounded(void **state)
{
    char *bytes = malloc(2 * PICKLE_OBJECTS_MAX);
    struct error err = {0};
    struct pickle pickle;

    (void)state;
    assert_non_null(bytes);
    for (int opcode = 0; opcode < 2; opcode++) {
        memset(bytes, opcode ? '(' : 'N', 2 * PICKLE_OBJECTS_MAX);
        memcpy(bytes, "\x80\2", 2);
        assert_int_equal(pickle_parse(&pickle, bytes, 2 * PICKLE_OBJECTS_MAX, &err),
                         STATUS_UNSUPPORTED);
        assert_non_null(strstr(err.message, "more than 1048576 values"));
    }
    free(bytes);
}

static void pickle_parse_survives_failing_allocation(void **state)
{
    struct text bytes = {0};
    size_t allowed = 0;

    (void)state;
    append_state_dict(&bytes);
    do {
        struct pickle pickle;
        enum status st;

        mem_fail_after(allowed++);
        st = pickle_parse(&pickle, bytes.data, bytes.length, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        pickle_release(&pickle);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(allowed > 6);
    text_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pickle_values_of_every_kind_are_read),
        cmocka_unit_test(pickle_dicts_take_one_item_or_many),
        cmocka_unit_test(pickle_state_dicts_hold_tensors),
        cmocka_unit_test(pickle_refuses_what_torch_does_not_write),
        cmocka_unit_test(pickle_refuses_tensors_of_impossible_sizes),
        cmocka_unit_test(pickle_cut_off_anywhere_is_refused),
        cmocka_unit_test(pickle_counts_are_bounded),
        cmocka_unit_test(pickle_parse_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/pickle", tests, NULL, NULL);
}
