/*
 * The torch and NumPy files of the fuzz corpora: sound, or of one fault each, which is named. The
 * fixtures' own manifest agrees; files that it leaves to the reader ("either") are decided here.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "formats/npz.h"
#include "formats/torch_zip.h"
#include "tests/support/cmocka_headers.h"

static const char *corpora;

struct expectation {
    const char *name;
    const char *words; /* of the refusal; NULL for the sound ones */
};

static const struct expectation torch[] = {
    {"ok_plain", NULL},
    {"ok_no_descriptor", NULL},
    {"ok_zip64", NULL},
    {"ok_unaligned", NULL},
    {"ok_comment", NULL},
    {"ok_offset_view", NULL},
    {"ok_stride0", NULL},
    {"ok_nested_unused", NULL},
    {"os_system", "global 'os.system'"},
    {"builtins_eval", "global '__builtin__.eval'"},
    {"getattr_chain", "global '__builtin__.getattr'"},
    {"stack_global", "opcode 0x93"},
    {"unknown_opcode", "opcode 0xfe"},
    {"stack_underflow", "expected on the stack, 0 are there"},
    {"mark_missing", "no mark"},
    {"memo_missing", "memo number 7"},
    {"memo_huge_index", "memo number 2147483647"},
    {"string_beyond_stream", "2147483647 bytes expected"},
    {"no_stop", "without a STOP"},
    {"self_reference", "nested more than 32 deep"},
    {"storage_missing", "storage '9' is not in the file"},
    {"storage_key_traversal", "storage '../version' is not in the file"},
    {"view_past_end", "spans 16 elements of a storage of 8"},
    {"view_overflow", "beyond 64 bits"},
    {"negative_stride", "stride 0 is not an integer of at least 0"},
    {"rank_mismatch", "2 dimensions with 1 strides"},
    {"numel_lies", "storage of 1099511627776 F32"},
    {"unknown_storage", "global 'torch.QInt8Storage'"},
    {"big_endian", "big-endian"},
    {"deflated_storage", "is compressed"},
    {"no_data_pkl", "without STEM/data.pkl"},
    {"truncated", "no end record"},
    {"legacy_container", "torch.save(torch.load(p), p)"},
    {"entry_past_end", "reach into the directory"},
};

static const struct expectation npz[] = {
    {"ok_plain", NULL},
    {"ok_float16", NULL},
    {"ok_npy_v2", NULL},
    {"big_endian", "array 'W_enc': dtype '>f4': big-endian"},
    {"object_dtype", "Python objects"},
    {"missing_array", NULL}, /* nothing is wrong with the container */
    {"short_data", "28 bytes of data, F32 [2, 4] takes 32"},
    {"bad_magic", "does not begin with \\x93NUMPY"},
    {"header_beyond", "npy header of 65535 bytes"},
    {"header_code", "expected a string"},
    {"shape_overflow", "beyond 64 bits"},
    {"dim_disagree", NULL}, /* nor here */
    {"deflated_fortran", NULL},
};

#define N(expectations) (sizeof(expectations) / sizeof(*(expectations)))

static void check(const struct expectation *e, const char *path, enum status st,
                  const struct error *err)
{
    if (!e->words) {
        if (st)
            fail_msg("%s", err->message);
        return;
    }
    if (st != STATUS_FORMAT && st != STATUS_UNSUPPORTED)
        fail_msg("%s: status %d: %s", path, (int)st, err->message);
    if (!strstr(err->message, path) || !strstr(err->message, e->words))
        fail_msg("%s: expected '%s'", err->message, e->words);
}

static void torch_files_are_judged_as_expected(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(torch); i++) {
        struct error err = {0};
        struct torch_zip file;
        char path[4096];
        enum status st;

        snprintf(path, sizeof(path), "%s/torch_zip/%s", corpora, torch[i].name);
        st = torch_zip_open(&file, path, &err);
        if (!st)
            st = torch_zip_check(&file, &err);
        check(&torch[i], path, st, &err);
        torch_zip_close(&file);
    }
}

static void npz_files_are_judged_as_expected(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(npz); i++) {
        struct error err = {0};
        char path[4096];
        struct npz file;
        enum status st;

        snprintf(path, sizeof(path), "%s/npz/%s", corpora, npz[i].name);
        st = npz_open(&file, path, &err);
        for (size_t k = 0; !st && k < file.n_arrays; k++) {
            char bytes[4096];
            const struct npz_array *array = &file.arrays[k];

            assert_true(array->header.count * dtype_size(array->header.dtype) <= sizeof(bytes));
            st = npz_read(&file, array, 0, (size_t)array->header.count, bytes, &err);
        }
        check(&npz[i], path, st, &err);
        npz_close(&file);
    }
}

/* Files are there for more than this test: those whose names begin otherwise are the fuzzer's. */
static size_t count_files(const char *corpus, const char *except)
{
    struct dirent *entry;
    char path[4096];
    size_t n = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "%s/%s", corpora, corpus);
    dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        n += entry->d_name[0] != '.' && strncmp(entry->d_name, except, strlen(except)) != 0;
    closedir(dir);
    return n;
}

static void container_files_all_have_an_expectation(void **state)
{
    (void)state;
    assert_int_equal(count_files("torch_zip", "pickle_"), N(torch));
    assert_int_equal(count_files("npz", "array_"), N(npz));
}

static void torch_values_and_elements_are_right(void **state)
{
    const struct torch_tensor *w;
    struct torch_zip file;
    char path[4096];
    float out[8];

    (void)state;
    snprintf(path, sizeof(path), "%s/torch_zip/ok_nested_unused", corpora);
    assert_int_equal(torch_zip_open(&file, path, NULL), STATUS_OK);
    w = torch_zip_find(&file, "W_enc");
    assert_non_null(w);
    assert_int_equal(w->count, 8);
    assert_int_equal(torch_zip_read(&file, w, 0, 8, out, NULL), STATUS_OK);
    for (int i = 0; i < 8; i++)
        assert_true(out[i] == (float)i);
    assert_int_equal(file.n_values, 3);
    assert_string_equal(file.values[0].name, "cfg/k");
    assert_true(file.values[0].number == 8);
    torch_zip_close(&file);

    snprintf(path, sizeof(path), "%s/torch_zip/ok_offset_view", corpora);
    assert_int_equal(torch_zip_open(&file, path, NULL), STATUS_OK);
    assert_int_equal(torch_zip_read(&file, torch_zip_find(&file, "W_enc"), 0, 4, out, NULL),
                     STATUS_OK);
    for (int i = 0; i < 4; i++)
        assert_true(out[i] == (float)(4 + i));
    torch_zip_close(&file);

    snprintf(path, sizeof(path), "%s/torch_zip/ok_stride0", corpora);
    assert_int_equal(torch_zip_open(&file, path, NULL), STATUS_OK);
    w = torch_zip_find(&file, "W_enc");
    assert_int_equal(w->order, TORCH_ORDER_COLUMNS);
    assert_int_equal(torch_zip_read(&file, w, 0, 8, out, NULL), STATUS_OK);
    for (int i = 0; i < 8; i++)
        assert_true(out[i] == (float)(i / 2));
    torch_zip_close(&file);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_files_are_judged_as_expected),
        cmocka_unit_test(npz_files_are_judged_as_expected),
        cmocka_unit_test(container_files_all_have_an_expectation),
        cmocka_unit_test(torch_values_and_elements_are_right),
    };

    corpora = argc > 1 ? argv[1] : "tests/fuzz/corpus";
    return cmocka_run_group_tests_name("containers", tests, NULL, NULL);
}
