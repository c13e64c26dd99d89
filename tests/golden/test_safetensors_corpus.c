#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "formats/safetensors.h"
#include "tests/support/cmocka_headers.h"

static const char *folder;

/* Files of one fault each; `words` are part of the refusal, NULL for the sound ones. */
static const struct {
    const char *name;
    const char *words;
} expectations[] = {
    {"ok_plain", NULL},
    {"ok_unpadded_header", NULL},
    {"ok_trailing_spaces", NULL},
    {"ok_metadata", NULL},
    {"ok_order_differs", NULL},
    {"ok_scalar_and_empty", NULL},
    {"ok_escaped_name", NULL},
    {"ok_no_tensors", NULL},
    {"empty_file", "0 bytes, too short"},
    {"short_length", "4 bytes, too short"},
    {"header_over_100mb", "the limit is 100000000"},
    {"header_beyond_file", "in a file of 10 bytes"},
    {"header_length_overflow", "the limit is 100000000"},
    {"not_json", "header, which begins at byte 8"},
    {"not_utf8", "not UTF-8"},
    {"leading_space", "does not begin with '{'"},
    {"array_header", "does not begin with '{'"},
    {"deep_nesting", "does not begin with '{'"},
    {"duplicate_key", "comes twice"},
    {"overlap", "expected"},
    {"hole", "expected"},
    {"not_from_zero", ""},
    {"trailing_bytes", "follow the last tensor"},
    {"truncated", "data_offsets"},
    {"shape_size_mismatch", "data_offsets span"},
    {"shape_product_overflow", "beyond 64 bits"},
    {"negative_dim", "not an integer of at least 0"},
    {"fractional_dim", "not an integer"},
    {"exponent_dim", "not an integer"},
    {"offsets_reversed", "data_offsets"},
    {"offsets_three", "not two integers"},
    {"unknown_dtype", "unknown dtype"},
    {"missing_dtype", "dtype is absent"},
    {"metadata_not_string", "expected a string"},
    {"pointer_file", "git-lfs pointer"},
};

#define N_EXPECTATIONS (sizeof(expectations) / sizeof(*expectations))

static void safetensors_files_are_judged_as_expected(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_EXPECTATIONS; i++) {
        struct safetensors file;
        struct error err = {0};
        enum status st;
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s.safetensors", folder, expectations[i].name);
        st = safetensors_open(&file, path, &err);
        if (!expectations[i].words) {
            if (st)
                fail_msg("%s", err.message);
        } else {
            if (st != STATUS_FORMAT)
                fail_msg("%s: status %d: %s", path, (int)st, err.message);
            assert_non_null(strstr(err.message, path));
            if (!strstr(err.message, expectations[i].words))
                fail_msg("%s: expected '%s'", err.message, expectations[i].words);
        }
        safetensors_close(&file);
    }
}

static void safetensors_files_all_have_an_expectation(void **state)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    size_t n = 0;

    (void)state;
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        n += strstr(entry->d_name, ".safetensors") != NULL;
    closedir(dir);
    assert_int_equal(n, N_EXPECTATIONS);
}

static void safetensors_names_and_shapes_are_right(void **state)
{
    const struct safetensors_tensor *tensor;
    struct safetensors file;
    char path[4096];

    (void)state;
    snprintf(path, sizeof(path), "%s/ok_escaped_name.safetensors", folder);
    assert_int_equal(safetensors_open(&file, path, NULL), STATUS_OK);
    assert_non_null(safetensors_find(&file, "W_enc"));
    safetensors_close(&file);

    snprintf(path, sizeof(path), "%s/ok_scalar_and_empty.safetensors", folder);
    assert_int_equal(safetensors_open(&file, path, NULL), STATUS_OK);
    assert_int_equal(file.n_tensors, 2);
    for (size_t i = 0; i < file.n_tensors; i++) {
        tensor = &file.tensors[i];
        assert_int_equal(tensor->count, tensor->shape.rank == 0 ? 1 : 0);
    }
    safetensors_close(&file);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_files_are_judged_as_expected),
        cmocka_unit_test(safetensors_files_all_have_an_expectation),
        cmocka_unit_test(safetensors_names_and_shapes_are_right),
    };

    folder = argc > 1 ? argv[1] : "tests/fuzz/corpus/safetensors";
    return cmocka_run_group_tests_name("safetensors corpus", tests, NULL, NULL);
}
