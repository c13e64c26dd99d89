#include <math.h>
#include <string.h>

#include "formats/tensor.h"
#include "tests/support/cmocka_headers.h"

static void dtype_names_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        enum dtype dtype;

        assert_true(dtype_parse(&dtype, dtype_name((enum dtype)i)));
        assert_int_equal(dtype, i);
        assert_in_range(dtype_size(dtype), 1, 8);
    }
    assert_false(dtype_parse(&(enum dtype){0}, "f32"));
    assert_false(dtype_parse(&(enum dtype){0}, ""));
}

static void shape_count_sees_overflow(void **state)
{
    struct shape shape = {2, {(uint64_t)1 << 32, (uint64_t)1 << 32}};
    uint64_t count;

    (void)state;
    assert_false(shape_count(&shape, &count));
    shape = (struct shape){3, {(uint64_t)1 << 32, (uint64_t)1 << 32, 0}};
    assert_true(shape_count(&shape, &count));
    assert_int_equal(count, 0);
    shape = (struct shape){0};
    assert_true(shape_count(&shape, &count));
    assert_int_equal(count, 1);
    shape = (struct shape){2, {(uint64_t)1 << 63, 1}};
    assert_true(shape_count(&shape, &count));
    assert_true(count == (uint64_t)1 << 63);
}

static void shape_text_fits_the_largest(void **state)
{
    struct shape shape = {TENSOR_RANK_MAX, {0}};
    char text[SHAPE_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < TENSOR_RANK_MAX; i++)
        shape.dims[i] = UINT64_MAX;
    assert_int_equal(strlen(shape_text(&shape, text)), 8 * 20 + 7 * 2 + 2);
    assert_string_equal(shape_text(&(struct shape){2, {1536, 16384}}, text), "[1536, 16384]");
    assert_string_equal(shape_text(&(struct shape){0}, text), "[]");
}

/* What binary16 means, from its definition. */
static double f16_value(unsigned h)
{
    int exponent = (h >> 10) & 31;
    double fraction = (h & 1023) / 1024.0;
    double x = exponent ? ldexp(1 + fraction, exponent - 15) : ldexp(fraction, -14);

    if (exponent == 31)
        x = fraction > 0 ? (double)NAN : (double)INFINITY;
    return h & 0x8000 ? -x : x;
}

static void halves_convert_exactly(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        unsigned char bytes[3] = {0, (unsigned char)h, (unsigned char)(h >> 8)};
        uint32_t bits = h << 16, back;
        double wide, expected = f16_value(h);
        float x;

        tensor_to_f32(DTYPE_F16, bytes + 1, 1, &x);
        tensor_to_f64(DTYPE_F16, bytes + 1, 1, &wide);
        if (isnan(expected)) {
            assert_true(isnan(x) && isnan(wide));
        } else {
            assert_true((double)x == expected && wide == expected);
            assert_int_equal(!!signbit(x), h >> 15);
        }
        tensor_to_f32(DTYPE_BF16, bytes + 1, 1, &x);
        memcpy(&back, &x, sizeof(back));
        assert_int_equal(back, bits);
    }
}

/* Many at once go another way than one by one. */
static void halves_convert_alike_in_bulk(void **state)
{
    enum {
        N = 65536,
    };
    static unsigned char bytes[2 * N + 1];
    static float all[N];
    const enum dtype dtypes[] = {DTYPE_F16, DTYPE_BF16};
    uint32_t a, b;
    float one;

    (void)state;
    for (unsigned h = 0; h < N; h++) {
        bytes[2 * h + 1] = (unsigned char)h;
        bytes[2 * h + 2] = (unsigned char)(h >> 8);
    }
    for (size_t d = 0; d < 2; d++) {
        tensor_to_f32(dtypes[d], bytes + 1, N, all);
        for (size_t h = 0; h < N; h++) {
            tensor_to_f32(dtypes[d], bytes + 1 + 2 * h, 1, &one);
            memcpy(&a, &all[h], sizeof(a));
            memcpy(&b, &one, sizeof(b));
            assert_int_equal(a, b);
        }
    }
}

static void wide_floats_round(void **state)
{
    const double in[] = {0.1, 1e300, -1e-300};
    const float narrow[] = {0.1F, -2};
    double wide[3];
    float out[3];

    (void)state;
    tensor_to_f32(DTYPE_F64, in, 3, out);
    assert_true(out[0] == 0.1F && isinf(out[1]) && out[2] == 0);
    tensor_to_f64(DTYPE_F64, in, 3, wide);
    assert_memory_equal(wide, in, sizeof(in));
    tensor_to_f32(DTYPE_F32, narrow, 2, out);
    assert_memory_equal(out, narrow, sizeof(narrow));
    tensor_to_f64(DTYPE_F32, narrow, 2, wide);
    assert_true(wide[0] == (double)0.1F && wide[1] == -2);
    tensor_to_f32(DTYPE_F32, NULL, 0, NULL);
    assert_true(dtype_is_float(DTYPE_BF16));
    assert_false(dtype_is_float(DTYPE_C64));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtype_names_read_back),        cmocka_unit_test(shape_count_sees_overflow),
        cmocka_unit_test(shape_text_fits_the_largest),  cmocka_unit_test(halves_convert_exactly),
        cmocka_unit_test(halves_convert_alike_in_bulk), cmocka_unit_test(wide_floats_round),
    };

    return cmocka_run_group_tests_name("formats/tensor", tests, NULL, NULL);
}
