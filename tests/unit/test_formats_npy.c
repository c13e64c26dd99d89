#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/npy.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* An array file of this version, header and data; *n is its size. */
static char *make_array(int version, const char *literal, const void *data, size_t data_bytes,
                        size_t *n)
{
    static char bytes[2048];
    uint32_t length = (uint32_t)strlen(literal);
    size_t start = version == 1 ? 10 : 12;

    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (char)version;
    bytes[7] = 0;
    memcpy(bytes + 8, &length, start - 8);
    memcpy(bytes + start, literal, length);
    if (data_bytes)
        memcpy(bytes + start + length, data, data_bytes);
    *n = start + length + data_bytes;
    return bytes;
}

static enum status parse(int version, const char *literal, struct npy_header *header,
                         struct error *err)
{
    size_t n;
    char *bytes = make_array(version, literal, NULL, 0, &n), *copy = malloc(n);
    enum status st;

    /* A copy of its exact size, so that reading past the end shows under a sanitizer. */
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    st = npy_parse_header(header, copy, n, err);
    free(copy);
    return st;
}

static void npy_headers_of_all_versions_are_read(void **state)
{
    struct npy_header header;

    (void)state;
    for (int version = 1; version <= 3; version++) {
        assert_int_equal(parse(version,
                               "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n",
                               &header, NULL),
                         STATUS_OK);
        assert_int_equal(header.dtype, DTYPE_F32);
        assert_int_equal(header.shape.rank, 2);
        assert_int_equal(header.shape.dims[1], 4);
        assert_int_equal(header.count, 12);
        assert_false(header.fortran_order);
    }
    assert_int_equal(
        parse(1, "{\"shape\":(7L,),\"descr\":\"|b1\",\"fortran_order\":True}", &header, NULL),
        STATUS_OK);
    assert_int_equal(header.dtype, DTYPE_BOOL);
    assert_true(header.fortran_order);
    assert_int_equal(header.count, 7);
    assert_int_equal(parse(1, "{'descr':'<u8','fortran_order':False,'shape':()}", &header, NULL),
                     STATUS_OK);
    assert_int_equal(header.count, 1);
    assert_int_equal(parse(1, "{'descr':'<f2','fortran_order':False,'shape':(0,5)}", &header, NULL),
                     STATUS_OK);
    assert_int_equal(header.count, 0);
}

static void npy_refuses_other_headers(void **state)
{
    static const struct {
        const char *literal;
        enum status status;
        const char *words;
    } cases[] = {
        {"", STATUS_FORMAT, "expected '{'"},
        {"{", STATUS_FORMAT, "expected a string"},
        {"{}", STATUS_FORMAT, "is missing"},
        {"{'descr':'<f4','fortran_order':False}", STATUS_FORMAT, "is missing"},
        {"{'descr':'<f4','fortran_order':False,'shape':(1,)", STATUS_FORMAT, "expected"},
        {"{'descr':'<f4','fortran_order':False,'shape':(1,)}x", STATUS_FORMAT, "something after"},
        {"{'descr':'<f4','fortran_order':False,'shape':(1)}", STATUS_FORMAT, "found a number"},
        {"{'descr':'<f4','fortran_order':False,'shape':[1]}", STATUS_FORMAT, "expected a tuple"},
        {"{'descr':'<f4','fortran_order':False,'shape':(-1,)}", STATUS_FORMAT, "at least 0"},
        {"{'descr':'<f4','fortran_order':False,'shape':(1 2)}", STATUS_FORMAT, "expected ','"},
        {"{'descr':'<f4','fortran_order':False,'shape':(,)}", STATUS_FORMAT, "expected an integer"},
        {"{'descr':'<f4','fortran_order':False,'shape':(1.0,)}", STATUS_FORMAT, "expected"},
        {"{'descr':'<f4','fortran_order':False,'shape':(18446744073709551616,)}", STATUS_FORMAT,
         "beyond 64 bits"},
        {"{'descr':'<f4','fortran_order':False,'shape':(4611686018427387904,)}", STATUS_FORMAT,
         "beyond 64 bits"},
        {"{'descr':'<f4','fortran_order':False,'shape':(4294967296,4294967296)}", STATUS_FORMAT,
         "beyond 64 bits"},
        {"{'descr':'<f4','fortran_order':False,'shape':(1,1,1,1,1,1,1,1,1)}", STATUS_UNSUPPORTED,
         "more than 8 dimensions"},
        {"{'descr':'<f4','fortran_order':0,'shape':(1,)}", STATUS_FORMAT, "True or False"},
        {"{'descr':'<f4','descr':'<f4','fortran_order':False,'shape':(1,)}", STATUS_FORMAT,
         "comes twice"},
        {"{'descr':'<f4','fortran_order':False,'shape':(1,),'x':1}", STATUS_FORMAT,
         "unknown key 'x'"},
        {"{'descr':'<f4' 'fortran_order':False,'shape':(1,)}", STATUS_FORMAT, "expected ','"},
        {"{'descr':__import__('os').system('true'),'fortran_order':False,'shape':(1,)}",
         STATUS_FORMAT, "expected a string"},
        {"{'descr':'>f4','fortran_order':False,'shape':(1,)}", STATUS_UNSUPPORTED, "big-endian"},
        {"{'descr':'|O','fortran_order':False,'shape':(1,)}", STATUS_UNSUPPORTED, "Python objects"},
        {"{'descr':'|V2','fortran_order':False,'shape':(1,)}", STATUS_UNSUPPORTED, "'|V2'"},
        {"{'descr':[('a','<f4')],'fortran_order':False,'shape':(1,)}", STATUS_UNSUPPORTED,
         "structures"},
        {"{'descr':'\\x3cf4','fortran_order':False,'shape':(1,)}", STATUS_FORMAT, "escapes"},
        {"{'descr':'<f4", STATUS_FORMAT, "unfinished"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct npy_header header;
        struct error err = {0};

        assert_int_equal(parse(1, cases[i].literal, &header, &err), cases[i].status);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s: %s", cases[i].literal, err.message);
    }
}

static void npy_refuses_broken_beginnings(void **state)
{
    const char *literal = "{'descr':'<f4','fortran_order':False,'shape':(1,)}";
    struct npy_header header;
    size_t n;
    char *bytes = make_array(2, literal, NULL, 0, &n);

    (void)state;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(npy_parse_header(&header, bytes, i, NULL), STATUS_FORMAT);
    assert_int_equal(npy_parse_header(&header, bytes, n, NULL), STATUS_OK);
    assert_int_equal(header.header_bytes, n);
    bytes[6] = 4;
    assert_int_equal(npy_parse_header(&header, bytes, n, NULL), STATUS_UNSUPPORTED);
    bytes[6] = 2;
    memset(bytes + 8, 0xff, 4);
    assert_int_equal(npy_parse_header(&header, bytes, n, NULL), STATUS_FORMAT);
    bytes[0] = 'P';
    assert_int_equal(npy_parse_header(&header, bytes, n, NULL), STATUS_FORMAT);
}

static void npy_files_are_read(void **state)
{
    const char *literal = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }\n";
    const double data[4] = {1, 2.5, -3, 0.1};
    struct error err;
    struct npy file;
    const char *path;
    float out[4];
    size_t n;
    char *bytes = make_array(1, literal, data, sizeof(data), &n);

    (void)state;
    path = scratch_file("a.npy", bytes, n);
    assert_int_equal(npy_open(&file, path, NULL), STATUS_OK);
    assert_int_equal(npy_read_f32(&file, 1, 3, out, NULL), STATUS_OK);
    assert_true(out[0] == 2.5F && out[1] == -3 && out[2] == 0.1F);
    assert_int_equal(npy_read_f32(&file, 2, 3, out, NULL), STATUS_INVALID);
    scratch_file("a.npy", bytes, n - 1);
    assert_int_equal(npy_read_f32(&file, 3, 1, out, NULL), STATUS_IO);
    npy_close(&file);
    npy_close(&file);

    assert_int_equal(npy_open(&file, path, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "31 bytes of data from byte 70 on, F64 [2, 2] takes 32"));
    bytes[n] = 0;
    scratch_file("a.npy", bytes, n + 1);
    assert_int_equal(npy_open(&file, path, &err), STATUS_FORMAT);
    assert_int_equal(npy_open(&file, scratch_path("absent.npy"), &err), STATUS_IO);

    bytes = make_array(1, "{'descr':'<i4','fortran_order':False,'shape':(1,)}", "abcd", 4, &n);
    path = scratch_file("b.npy", bytes, n);
    assert_int_equal(npy_open(&file, path, NULL), STATUS_OK);
    assert_int_equal(npy_read_f32(&file, 0, 1, out, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "dtype I32, expected F32, F16 or F64"));
    npy_close(&file);
}

static void npy_open_survives_failing_allocation(void **state)
{
    size_t n, allowed = 0;
    char *bytes =
        make_array(1, "{'descr':'<u4','fortran_order':False,'shape':(1,)}", "abcd", 4, &n);
    const char *path = scratch_file("c.npy", bytes, n);

    (void)state;
    do {
        struct npy file;
        enum status st;

        mem_fail_after(allowed++);
        st = npy_open(&file, path, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        npy_close(&file);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(allowed > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy_headers_of_all_versions_are_read),
        cmocka_unit_test(npy_refuses_other_headers),
        cmocka_unit_test(npy_refuses_broken_beginnings),
        cmocka_unit_test(npy_files_are_read),
        cmocka_unit_test(npy_open_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/npy", tests, scratch_setup, scratch_teardown);
}
