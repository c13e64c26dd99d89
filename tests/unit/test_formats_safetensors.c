#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/safetensors.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* A file of this header and `data` bytes of data. */
static const char *make_file(const char *header, size_t data)
{
    static char bytes[4096];
    uint64_t n = strlen(header);

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &n, sizeof(n));
    memcpy(bytes + 8, header, n);
    return scratch_file("made.safetensors", bytes, 8 + n + data);
}

static void check_refusal(const char *header, size_t data, enum status expected, const char *words)
{
    struct safetensors file;
    struct error err = {0};

    assert_int_equal(safetensors_open(&file, make_file(header, data), &err), expected);
    if (!strstr(err.message, words))
        fail_msg("%s does not contain: %s", err.message, words);
    assert_non_null(strstr(err.message, "made.safetensors"));
    assert_null(file.path);
}

static void safetensors_written_are_read_back(void **state)
{
    const float f32[6] = {1, -2, 3.5F, 0, -0.0F, 1e-30F};
    const uint16_t bf16[2] = {0x3f80, 0xc000};
    const uint16_t f16[4] = {0x3c00, 0x0001, 0xfbff, 0x7c00};
    const double f64[2] = {0.1, -1e300};
    const int64_t i64 = -7;
    const struct safetensors_item items[] = {
        {"weights", DTYPE_F32, {2, {2, 3}}, f32}, {"b", DTYPE_BF16, {1, {2}}, bf16},
        {"h", DTYPE_F16, {3, {1, 4, 1}}, f16},    {"none", DTYPE_F32, {2, {0, 5}}, NULL},
        {"wide", DTYPE_F64, {1, {2}}, f64},       {"scalar \"\xc3\xa9\"", DTYPE_I64, {0}, &i64},
    };
    struct safetensors_metadata metadata[] = {{"format", "x"}, {"note", "line\nbreak"}};
    const char *path = scratch_path("round.safetensors");
    const struct safetensors_tensor *tensor;
    struct safetensors file;
    char *first, *second;
    size_t n, m;
    int64_t scalar;
    float out[6];

    (void)state;
    assert_int_equal(safetensors_write(path, items, 6, metadata, 2, NULL), STATUS_OK);
    first = scratch_read(path, &n);
    assert_int_equal(safetensors_write(path, items, 6, metadata, 2, NULL), STATUS_OK);
    second = scratch_read(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(first, second, n);
    assert_int_equal(first[0] % 8, 0);
    free(first);
    free(second);

    assert_int_equal(safetensors_open(&file, path, NULL), STATUS_OK);
    assert_int_equal(file.n_tensors, 6);
    assert_string_equal(safetensors_metadata_get(&file, "note"), "line\nbreak");
    assert_null(safetensors_metadata_get(&file, "absent"));
    assert_null(safetensors_find(&file, "absent"));
    tensor = safetensors_find(&file, "weights");
    assert_int_equal(tensor->shape.rank, 2);
    assert_int_equal(tensor->shape.dims[1], 3);
    assert_int_equal(safetensors_read_f32(&file, tensor, 1, 5, out, NULL), STATUS_OK);
    assert_memory_equal(out, f32 + 1, 5 * sizeof(float));
    assert_int_equal(safetensors_read_f32(&file, tensor, 2, 5, out, NULL), STATUS_INVALID);
    assert_int_equal(safetensors_read_f32(&file, tensor, UINT64_MAX, 1, out, NULL), STATUS_INVALID);
    assert_int_equal(safetensors_read_f32(&file, safetensors_find(&file, "b"), 0, 2, out, NULL),
                     STATUS_OK);
    assert_true(out[0] == 1 && out[1] == -2);
    assert_int_equal(safetensors_read_f32(&file, safetensors_find(&file, "h"), 0, 4, out, NULL),
                     STATUS_OK);
    assert_true(out[0] == 1 && out[1] == 0x1p-24F && out[2] == -65504 && isinf(out[3]));
    assert_int_equal(safetensors_read_f32(&file, safetensors_find(&file, "wide"), 0, 2, out, NULL),
                     STATUS_OK);
    assert_true(out[0] == 0.1F && isinf(out[1]));
    assert_int_equal(safetensors_read_f32(&file, safetensors_find(&file, "none"), 0, 0, out, NULL),
                     STATUS_OK);
    tensor = safetensors_find(&file, "scalar \"\xc3\xa9\"");
    assert_int_equal(tensor->count, 1);
    assert_int_equal(safetensors_read(&file, tensor, 0, 1, &scalar, NULL), STATUS_OK);
    assert_int_equal(scalar, -7);
    assert_int_equal(safetensors_read_f32(&file, tensor, 0, 1, out, NULL), STATUS_FORMAT);
    safetensors_close(&file);
    safetensors_close(&file);
}

static void safetensors_errors_tell_what_was_found(void **state)
{
    (void)state;
    check_refusal("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
                  STATUS_FORMAT, "tensor 'a': F32 [2] takes 8 bytes, data_offsets span 4");
    check_refusal("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
                  STATUS_FORMAT, "unknown dtype 'F33'");
    check_refusal("{\"a\":{\"dtype\":\"F4\",\"shape\":[8],\"data_offsets\":[0,4]}}", 4,
                  STATUS_UNSUPPORTED, "dtype F4");
    check_refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],"
                  "\"data_offsets\":[0,1]}}",
                  1, STATUS_UNSUPPORTED, "9 dimensions, at most 8");
    check_refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],"
                  "\"data_offsets\":[0,0]}}",
                  0, STATUS_FORMAT, "beyond 64 bits");
    check_refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                  "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
                  3, STATUS_FORMAT, "tensor 'b' begins at byte 2 of the data, expected 1");
    check_refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 3,
                  STATUS_FORMAT, "2 bytes follow the last tensor");
    check_refusal("{\"a\":1}", 0, STATUS_FORMAT, "tensor 'a': is an integer, expected an object");
    check_refusal("{\"a\":{},\"a\":{}}", 0, STATUS_FORMAT, "key 'a' comes twice");
    check_refusal("{\"__metadata__\":{\"k\":1}}", 0, STATUS_FORMAT,
                  "'k' is an integer, expected a string");
    check_refusal("{\"a\":[[[[[]]]]]}", 0, STATUS_FORMAT, "nested deeper than 4");
}

static void safetensors_may_change_under_us(void **state)
{
    const char *path =
        make_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[100],\"data_offsets\":[0,100]}}", 100);
    struct safetensors file;
    struct error err;
    char bytes[100];

    (void)state;
    assert_int_equal(safetensors_open(&file, path, NULL), STATUS_OK);
    scratch_file("made.safetensors", "", 0);
    assert_int_equal(safetensors_read(&file, &file.tensors[0], 0, 100, bytes, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "100 more were expected"));
    safetensors_close(&file);
}

static void safetensors_open_refuses_directories(void **state)
{
    struct safetensors file;
    struct error err;

    (void)state;
    assert_int_equal(safetensors_open(&file, "/tmp", &err), STATUS_IO);
    assert_string_equal(err.message, "'/tmp': a directory, expected a regular file");
}

static void safetensors_never_holds_descriptor_zero(void **state)
{
    int saved = dup(STDIN_FILENO);
    struct safetensors file;

    (void)state;
    close(STDIN_FILENO);
    assert_int_equal(safetensors_open(&file, make_file("{}", 0), NULL), STATUS_OK);
    assert_true(file.fd > 0);
    safetensors_close(&file);
    if (saved >= 0) {
        dup2(saved, STDIN_FILENO);
        close(saved);
    }
}

static void safetensors_holds_many_tensors(void **state)
{
    size_t n = 70000;
    struct safetensors_item *items = calloc(n, sizeof(*items));
    char(*names)[16] = calloc(n, sizeof(*names));
    const char *path = scratch_path("many.safetensors");
    struct safetensors file;

    (void)state;
    assert_non_null(items);
    assert_non_null(names);
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "t%zu", i);
        items[i] = (struct safetensors_item){names[i], DTYPE_U8, {1, {1}}, "x"};
    }
    assert_int_equal(safetensors_write(path, items, n, NULL, 0, NULL), STATUS_OK);
    assert_int_equal(safetensors_open(&file, path, NULL), STATUS_OK);
    assert_int_equal(file.n_tensors, n);
    assert_string_equal(file.tensors[n - 1].name, "t69999");
    safetensors_close(&file);
    free(items);
    free(names);
}

static void safetensors_open_survives_failing_allocation(void **state)
{
    const char *path = make_file("{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"U8\","
                                 "\"shape\":[1],\"data_offsets\":[0,1]}}",
                                 1);
    size_t n = 0;

    (void)state;
    do {
        struct safetensors file;
        enum status st;

        mem_fail_after(n++);
        st = safetensors_open(&file, path, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        if (st)
            assert_null(file.path);
        safetensors_close(&file);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_written_are_read_back),
        cmocka_unit_test(safetensors_errors_tell_what_was_found),
        cmocka_unit_test(safetensors_may_change_under_us),
        cmocka_unit_test(safetensors_open_refuses_directories),
        cmocka_unit_test(safetensors_never_holds_descriptor_zero),
        cmocka_unit_test(safetensors_holds_many_tensors),
        cmocka_unit_test(safetensors_open_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/safetensors", tests, scratch_setup,
                                       scratch_teardown);
}
