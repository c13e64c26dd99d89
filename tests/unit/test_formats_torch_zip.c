#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/torch_zip.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"
#include "tests/support/zip_sample.h"

#define N_STORED 120

/* Storage "0": the floats 0, 1, 2, ... */
static const float *stored(void)
{
    static float values[N_STORED];

    for (size_t i = 0; i < N_STORED; i++)
        values[i] = (float)i;
    return values;
}

/* A file of this pickle and storage "0", with more members. */
static const char *make(const struct text *pickle, const struct zip_item *more, size_t n_more)
{
    struct zip_item items[4] = {
        {.name = "m/data.pkl", .bytes = pickle->data, .n = pickle->length},
        {.name = "m/data/0", .bytes = stored(), .n = N_STORED * sizeof(float)},
    };
    struct text file = {0};
    const char *path;

    assert_true(n_more <= 2);
    if (n_more)
        memcpy(items + 2, more, n_more * sizeof(*more));
    zip_append(&file, items, 2 + n_more);
    path = scratch_file("m.pt", file.data, file.length);
    text_release(&file);
    return path;
}

static const struct pickle_view whole = {.storage_class = "FloatStorage",
                                         .key = "0",
                                         .n_elements = N_STORED,
                                         .rank = 1,
                                         .dims = {N_STORED},
                                         .strides = {1}};

static const char *make_bare(const struct pickle_view *view)
{
    struct text pickle = {0};
    const char *path;

    text_append_n(&pickle, "\x80\2", 2);
    pickle_tensor(&pickle, view);
    text_append_char(&pickle, '.');
    path = make(&pickle, NULL, 0);
    text_release(&pickle);
    return path;
}

/* What the file is refused for. */
static const char *refusal(const char *path, enum status expected)
{
    static struct error err;
    struct torch_zip file;

    err = (struct error){0};
    assert_int_equal(torch_zip_open(&file, path, &err), expected);
    assert_null(file.tensors);
    assert_non_null(strstr(err.message, "m.pt"));
    return err.message;
}

/* Every element, read in pieces of all lengths, against the definition of a strided view. */
static void check_elements(const struct pickle_view *view, enum torch_order order)
{
    const struct torch_tensor *tensor;
    struct torch_zip file;
    float out[N_STORED * 2];

    assert_int_equal(torch_zip_open(&file, make_bare(view), NULL), STATUS_OK);
    assert_int_equal(file.n_tensors, 1);
    tensor = torch_zip_find(&file, "");
    assert_non_null(tensor);
    assert_int_equal(tensor->order, order);
    assert_true(tensor->count <= N_STORED * 2);
    for (uint64_t step = 1; step <= tensor->count; step++) {
        for (uint64_t first = 0; first < tensor->count; first += step) {
            uint64_t left = tensor->count - first;

            assert_int_equal(torch_zip_read(&file, tensor, first,
                                            (size_t)(left < step ? left : step), out + first, NULL),
                             STATUS_OK);
        }
        for (uint64_t i = 0; i < tensor->count; i++) {
            int64_t element = view->offset;
            uint64_t rest = i;

            for (size_t k = 0; k < view->rank; k++) {
                size_t d = order == TORCH_ORDER_ROWS ? view->rank - 1 - k : k;

                element += (int64_t)(rest % (uint64_t)view->dims[d]) * view->strides[d];
                rest /= (uint64_t)view->dims[d];
            }
            if (out[i] != (float)element)
                fail_msg("element %" PRIu64 ": %g, expected %" PRId64, i, (double)out[i], element);
        }
    }
    assert_int_equal(torch_zip_read(&file, tensor, tensor->count, 1, out, NULL), STATUS_INVALID);
    assert_int_equal(torch_zip_check(&file, NULL), STATUS_OK);
    torch_zip_close(&file);
}

static void torch_views_of_any_strides_are_read(void **state)
{
    static const struct {
        enum torch_order order;
        int64_t offset;
        size_t rank;
        int64_t dims[4], strides[4];
    } cases[] = {
        {TORCH_ORDER_ROWS, 0, 1, {120}, {1}},
        {TORCH_ORDER_ROWS, 119, 0, {0}, {0}},
        {TORCH_ORDER_ROWS, 0, 1, {0}, {1}},
        {TORCH_ORDER_ROWS, 20, 2, {10, 10}, {10, 1}},
        {TORCH_ORDER_COLUMNS, 20, 2, {10, 10}, {1, 10}},
        {TORCH_ORDER_COLUMNS, 0, 2, {4, 30}, {1, 4}},
        {TORCH_ORDER_COLUMNS, 0, 3, {2, 3, 4}, {1, 2, 6}},
        {TORCH_ORDER_ROWS, 0, 3, {2, 1, 4}, {4, 77, 1}}, /* nobody steps along the 77 */
        {TORCH_ORDER_ROWS, 5, 2, {5, 7}, {10, 1}},       /* part of the rows */
        {TORCH_ORDER_COLUMNS, 5, 2, {7, 5}, {1, 10}},    /* the same, transposed */
        {TORCH_ORDER_ROWS, 0, 1, {40}, {3}},
        {TORCH_ORDER_ROWS, 1, 2, {6, 4}, {20, 4}},
        {TORCH_ORDER_ROWS, 0, 3, {2, 3, 4}, {12, 1, 3}},
        {TORCH_ORDER_ROWS, 3, 4, {2, 2, 2, 2}, {1, 40, 8, 20}},
        {TORCH_ORDER_COLUMNS, 3, 2, {3, 30}, {0, 1}}, /* expanded */
        {TORCH_ORDER_ROWS, 3, 2, {30, 3}, {1, 0}},
        {TORCH_ORDER_ROWS, 7, 1, {150}, {0}},
        {TORCH_ORDER_ROWS, 0, 2, {50, 3}, {2, 1}}, /* rows that overlap */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct pickle_view view = whole;

        view.offset = cases[i].offset;
        view.rank = cases[i].rank;
        memcpy(view.dims, cases[i].dims, sizeof(cases[i].dims));
        memcpy(view.strides, cases[i].strides, sizeof(cases[i].strides));
        check_elements(&view, cases[i].order);
    }
}

/* Strides longer than a window, and a storage longer than one. */
static void torch_large_views_are_gathered(void **state)
{
    enum {
        N = 40000
    };
    static const struct {
        int64_t dims[2], strides[2];
    } cases[] = {{{100, 390}, {400, 1}}, {{390, 100}, {1, 400}}, {{20, 20}, {1, 2000}},
                 {{19, 21}, {2000, 7}},  {{7, 7}, {2000, 4000}}, {{2, 150}, {20000, 133}}};
    static uint16_t numbers[N];

    (void)state;
    for (size_t i = 0; i < N; i++)
        numbers[i] = (uint16_t)i;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct pickle_view view = {
            .storage_class = "HalfStorage", .key = "big", .n_elements = N, .rank = 2};
        struct text pickle = {0};
        const char *path;
        struct torch_zip file;
        const struct torch_tensor *t;
        static uint16_t out[N];

        memcpy(view.dims, cases[i].dims, sizeof(cases[i].dims));
        memcpy(view.strides, cases[i].strides, sizeof(cases[i].strides));
        text_append_n(&pickle, "\x80\2", 2);
        pickle_tensor(&pickle, &view);
        text_append_char(&pickle, '.');
        path = make(
            &pickle,
            &(struct zip_item){.name = "m/data/big", .bytes = numbers, .n = sizeof(numbers)}, 1);
        assert_int_equal(torch_zip_open(&file, path, NULL), STATUS_OK);
        t = &file.tensors[0];
        assert_int_equal(torch_zip_read(&file, t, 0, (size_t)t->count, out, NULL), STATUS_OK);
        for (uint64_t k = 0; k < t->count; k++) {
            bool by_rows = t->order == TORCH_ORDER_ROWS;
            uint64_t fast = t->shape.dims[by_rows ? 1 : 0];
            uint64_t element =
                k / fast * t->strides[by_rows ? 0 : 1] + k % fast * t->strides[by_rows ? 1 : 0];

            assert_int_equal(out[k], element);
        }
        torch_zip_close(&file);
        text_release(&pickle);
    }
}

static void torch_views_outside_of_their_storage_are_refused(void **state)
{
    static const struct {
        int64_t n_elements, offset;
        int64_t dims[2], strides[2];
        enum status status;
        const char *words;
    } cases[] = {
        {120, 1, {10, 12}, {12, 1}, STATUS_FORMAT, "from element 1 on spans 120 elements"},
        {120, 121, {0, 1}, {1, 1}, STATUS_FORMAT, "from element 121"},
        {120, 0, {2, 2}, {INT64_MAX, 1}, STATUS_FORMAT, "spans 9223372036854775809"},
        {120, 0, {3, 3}, {INT64_MAX, INT64_MAX}, STATUS_FORMAT, "beyond 64 bits"},
        {120, 0, {INT64_MAX, 4}, {0, 0}, STATUS_FORMAT, "beyond 64 bits"},
        {120, 0, {1 << 20, 5}, {0, 1}, STATUS_UNSUPPORTED, "expands 480 bytes"},
        {1LL << 40, 0, {2, 2}, {2, 1}, STATUS_FORMAT, "member 'm/data/0' has 480 bytes"},
        {119, 0, {2, 2}, {2, 1}, STATUS_FORMAT, "storage of 119 F32"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct pickle_view view = whole;
        const char *words;

        view.n_elements = cases[i].n_elements;
        view.offset = cases[i].offset;
        view.rank = 2;
        memcpy(view.dims, cases[i].dims, sizeof(cases[i].dims));
        memcpy(view.strides, cases[i].strides, sizeof(cases[i].strides));
        words = refusal(make_bare(&view), cases[i].status);
        if (!strstr(words, cases[i].words))
            fail_msg("%zu: %s, expected '%s'", i, words, cases[i].words);
    }
}

static void append_tree(struct text *pickle)
{
    text_append_n(pickle, "\x80\2}(", 4);
    pickle_string(pickle, "ae");
    text_append(pickle, "}(");
    pickle_string(pickle, "w");
    pickle_tensor(pickle, &whole);
    pickle_string(pickle, "shared");
    pickle_tensor(pickle, &whole);
    text_append_char(pickle, 'u');
    pickle_string(pickle, "activation");
    pickle_string(pickle, "TopK");
    pickle_string(pickle, "steps");
    text_append(pickle, "](K\7N\x88G\x3f\xf8");
    text_append_n(pickle, "\0\0\0\0\0\0e", 7);
    text_append_n(pickle, "K\3K\4N\x88", 6); /* 3: 4, and a key that is None */
    text_append(pickle, "u.");
}

static void torch_names_are_joined(void **state)
{
    struct text pickle = {0};
    struct torch_zip file;

    (void)state;
    append_tree(&pickle);
    assert_int_equal(torch_zip_open(&file, make(&pickle, NULL, 0), NULL), STATUS_OK);
    assert_int_equal(file.n_tensors, 2);
    assert_string_equal(file.tensors[0].name, "ae/w");
    assert_string_equal(file.tensors[1].name, "ae/shared");
    assert_ptr_equal(file.tensors[0].storage, file.tensors[1].storage);
    assert_null(torch_zip_find(&file, "w"));
    assert_int_equal(file.n_values, 5);
    assert_string_equal(file.values[0].name, "activation");
    assert_string_equal(file.values[0].string, "TopK");
    assert_string_equal(file.values[1].name, "steps/0");
    assert_true(file.values[1].number == 7);
    assert_string_equal(file.values[2].name, "steps/2");
    assert_int_equal(file.values[2].type, PICKLE_BOOL);
    assert_true(file.values[3].number == 1.5);
    assert_string_equal(file.values[4].name, "3");
    assert_true(file.values[4].number == 4);
    torch_zip_close(&file);
    torch_zip_close(&file);
    text_release(&pickle);
}

static const char *make_pickle(const char *bytes, size_t n)
{
    struct text pickle = {0};
    const char *path;

    text_append_n(&pickle, bytes, n);
    path = make(&pickle, NULL, 0);
    text_release(&pickle);
    return path;
}

static void torch_trees_are_bounded(void **state)
{
    static const char itself[] = "\x80\2}q\0X\1\0\0\0ah\0s.";
    static const char twice[] = "\x80\2}(X\1\0\0\0aK\1X\1\0\0\0aK\2u.";
    static const char slash[] = "\x80\2}(X\1\0\0\0a}X\1\0\0\0bK\1sX\3\0\0\0a/bK\2u.";
    struct text pickle = {0};

    (void)state;
    assert_non_null(strstr(refusal(make_pickle(itself, sizeof(itself) - 1), STATUS_UNSUPPORTED),
                           "nested more than 32 deep"));
    assert_non_null(
        strstr(refusal(make_pickle(twice, sizeof(twice) - 1), STATUS_FORMAT), "'a' comes twice"));
    assert_non_null(
        strstr(refusal(make_pickle(slash, sizeof(slash) - 1), STATUS_FORMAT), "'a/b' comes twice"));

    /* 30 tuples, each of the one before twice: 2^30 leaves. */
    text_append_n(&pickle, "\x80\2K\1", 4);
    for (char i = 0; i < 30; i++)
        text_append_n(&pickle, (const char[]){'q', i, 'h', i, '\x86'}, 5);
    text_append_char(&pickle, '.');
    assert_non_null(
        strstr(refusal(make(&pickle, NULL, 0), STATUS_UNSUPPORTED), "more than 1048576 values"));
    text_release(&pickle);
}

static void torch_files_of_other_layouts_are_refused(void **state)
{
    const struct zip_item none = {.name = "readme", .bytes = "x", .n = 1};
    const struct zip_item big = {.name = "m/byteorder", .bytes = "big", .n = 3};
    const struct zip_item odd = {.name = "m/byteorder", .bytes = "little-endian-or-so", .n = 19};
    const struct zip_item little = {.name = "m/byteorder", .bytes = "little", .n = 6};
    const struct zip_item second = {.name = "n/data.pkl", .bytes = "x", .n = 1};
    struct text pickle = {0}, file = {0}, deflated = {0};
    struct torch_zip opened;

    (void)state;
    append_tree(&pickle);
    assert_int_equal(torch_zip_open(&opened, make(&pickle, &little, 1), NULL), STATUS_OK);
    torch_zip_close(&opened);
    assert_non_null(strstr(refusal(make(&pickle, &big, 1), STATUS_UNSUPPORTED), "big-endian"));
    assert_non_null(strstr(refusal(make(&pickle, &odd, 1), STATUS_FORMAT), "does not hold"));
    assert_non_null(strstr(refusal(make(&pickle, &second, 1), STATUS_FORMAT), "two pickles"));
    zip_append(&file, &none, 1);
    assert_non_null(strstr(refusal(scratch_file("m.pt", file.data, file.length), STATUS_FORMAT),
                           "without STEM/data.pkl"));
    text_clear(&file);
    zip_append(&file,
               &(struct zip_item){.name = "m/data.pkl", .bytes = pickle.data, .n = pickle.length},
               1);
    assert_non_null(strstr(refusal(scratch_file("m.pt", file.data, file.length), STATUS_FORMAT),
                           "storage '0' is not in the file"));
    text_clear(&file);
    deflate_append(&deflated, pickle.data, pickle.length);
    zip_append(&file,
               &(struct zip_item){.name = "m/data.pkl",
                                  .bytes = pickle.data,
                                  .n = pickle.length,
                                  .method = 8,
                                  .stored = deflated.data,
                                  .n_stored = deflated.length},
               1);
    assert_non_null(strstr(
        refusal(scratch_file("m.pt", file.data, file.length), STATUS_UNSUPPORTED), "zip -0"));
    text_release(&pickle);
    text_release(&file);
    text_release(&deflated);
}

static void torch_file_that_shrinks_is_an_error(void **state)
{
    struct torch_zip file;
    struct error err;
    float out[1];

    (void)state;
    assert_int_equal(torch_zip_open(&file, make_bare(&whole), NULL), STATUS_OK);
    scratch_file("m.pt", "PK", 2);
    assert_int_equal(torch_zip_read(&file, &file.tensors[0], 0, 1, out, &err), STATUS_IO);
    assert_int_equal(torch_zip_check(&file, &err), STATUS_IO);
    torch_zip_close(&file);
}

static void torch_open_survives_failing_allocation(void **state)
{
    struct text pickle = {0};
    const char *path;
    size_t allowed = 0;

    (void)state;
    append_tree(&pickle);
    path = make(&pickle, NULL, 0);
    do {
        struct torch_zip file;
        enum status st;

        mem_fail_after(allowed++);
        st = torch_zip_open(&file, path, NULL);
        if (!st)
            st = torch_zip_check(&file, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        torch_zip_close(&file);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(allowed > 20);
    text_release(&pickle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_views_of_any_strides_are_read),
        cmocka_unit_test(torch_large_views_are_gathered),
        cmocka_unit_test(torch_views_outside_of_their_storage_are_refused),
        cmocka_unit_test(torch_names_are_joined),
        cmocka_unit_test(torch_trees_are_bounded),
        cmocka_unit_test(torch_files_of_other_layouts_are_refused),
        cmocka_unit_test(torch_file_that_shrinks_is_an_error),
        cmocka_unit_test(torch_open_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/torch_zip", tests, scratch_setup, scratch_teardown);
}
