#include <math.h>
#include <string.h>

#include "formats/safetensors.h"
#include "sae/tensor_reader.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static const signed char i8[] = {-128};
static const unsigned char u8[] = {255};
static const int32_t i32[] = {-1, 2147483647};
static const int64_t i64[] = {-4, 1099511627776, 0};
static const float f32[] = {0.5F};
static const double f64[] = {INFINITY};

static void open_numbers(struct tensor_source *source)
{
    const struct safetensors_item items[] = {
        {"i8", DTYPE_I8, {0}, i8},          {"u8", DTYPE_U8, {1, {1}}, u8},
        {"i32", DTYPE_I32, {1, {2}}, i32},  {"i64", DTYPE_I64, {1, {3}}, i64},
        {"f32", DTYPE_F32, {0}, f32},       {"f64", DTYPE_F64, {0}, f64},
        {"none", DTYPE_F32, {1, {0}}, f32}, {"bool", DTYPE_BOOL, {0}, u8},
    };

    assert_int_equal(safetensors_write(scratch_path("numbers.safetensors"), items,
                                       sizeof(items) / sizeof(items[0]), NULL, 0, NULL),
                     STATUS_OK);
    assert_int_equal(tensor_source_open(source, scratch_path("numbers.safetensors"), NULL),
                     STATUS_OK);
}

static void tensor_numbers_reads_every_kind(void **state)
{
    struct tensor_source source;
    double x[3];
    size_t n;

    (void)state;
    open_numbers(&source);
    assert_int_equal(tensor_numbers(&source, "i64", x, 3, &n, NULL), STATUS_OK);
    assert_int_equal(n, 3);
    assert_true(x[0] == -4 && x[1] == 0x1p40 && x[2] == 0);
    assert_int_equal(tensor_numbers(&source, "i32", x, 3, &n, NULL), STATUS_OK);
    assert_true(n == 2 && x[0] == -1 && x[1] == 2147483647);
    assert_int_equal(tensor_number(&source, "i8", x, NULL), STATUS_OK);
    assert_true(x[0] == -128);
    assert_int_equal(tensor_number(&source, "u8", x, NULL), STATUS_OK);
    assert_true(x[0] == 255);
    assert_int_equal(tensor_number(&source, "f32", x, NULL), STATUS_OK);
    assert_true(x[0] == 0.5);
    assert_int_equal(tensor_number(&source, "absent", x, NULL), STATUS_OK);
    assert_true(isnan(x[0]));
    tensor_source_close(&source);
}

static void tensor_numbers_refuses_the_rest(void **state)
{
    static const struct {
        const char *name, *words;
    } rows[] = {
        {"i32", "tensor 'i32': 2 elements, expected 1"},
        {"f64", "f64: 1 of 1 values are not finite"},
        {"none", "tensor 'none': no elements, expected 1"},
        {"bool", "tensor 'bool': BOOL, expected numbers"},
    };
    struct tensor_source source;
    double x;

    (void)state;
    open_numbers(&source);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct error err = {0};

        assert_int_equal(tensor_number(&source, rows[i].name, &x, &err), STATUS_FORMAT);
        if (!strstr(err.message, rows[i].words))
            fail_msg("'%s', expected '%s'", err.message, rows[i].words);
    }
    tensor_source_close(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensor_numbers_reads_every_kind),
        cmocka_unit_test(tensor_numbers_refuses_the_rest),
    };

    return cmocka_run_group_tests_name("sae/tensor_reader", tests, scratch_setup, scratch_teardown);
}
