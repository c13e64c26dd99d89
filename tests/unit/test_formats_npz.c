#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/npz.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"
#include "tests/support/zip_sample.h"

static const float values[6] = {1, 2, 3, 4, 5, 6};

struct sample {
    struct text vector, matrix, deflated, file;
};

/* b, 6 floats; "w", 2 x 3 in Fortran order, deflated; and what is no array. */
static const char *make(struct sample *s)
{
    const char *path;

    npy_append(&s->vector, "<f4", 6, 0, values, sizeof(values));
    npy_append(&s->matrix, "<f4", 2, 3, values, sizeof(values));
    deflate_append(&s->deflated, s->matrix.data, s->matrix.length);
    zip_append(&s->file,
               (const struct zip_item[]){
                   {.name = "w.npy",
                    .bytes = s->matrix.data,
                    .n = s->matrix.length,
                    .method = 8,
                    .stored = s->deflated.data,
                    .n_stored = s->deflated.length},
                   {.name = "b.npy", .bytes = s->vector.data, .n = s->vector.length},
                   {.name = "readme", .bytes = "words", .n = 5},
               },
               3);
    path = scratch_file("sample.npz", s->file.data, s->file.length);
    return path;
}

static void release(struct sample *s)
{
    text_release(&s->vector);
    text_release(&s->matrix);
    text_release(&s->deflated);
    text_release(&s->file);
}

static void npz_arrays_are_read_in_any_order(void **state)
{
    const struct npz_array *w, *b;
    struct sample s = {0};
    struct npz file;
    float out[6];

    (void)state;
    assert_int_equal(npz_open(&file, make(&s), NULL), STATUS_OK);
    assert_int_equal(file.n_arrays, 2);
    assert_null(npz_find(&file, "readme"));
    w = npz_find(&file, "w");
    b = npz_find(&file, "b");
    assert_non_null(w);
    assert_non_null(b);
    assert_true(w->header.fortran_order);
    assert_int_equal(w->header.shape.dims[1], 3);
    for (uint64_t first = 0; first < 6; first++) {
        /* Forward within one, and back and forth between both. */
        assert_int_equal(npz_read(&file, w, first, 1, out, NULL), STATUS_OK);
        assert_true(out[0] == values[first]);
        assert_int_equal(npz_read(&file, b, 5 - first, 1, out, NULL), STATUS_OK);
        assert_true(out[0] == values[5 - first]);
    }
    assert_int_equal(npz_read(&file, w, 0, 6, out, NULL), STATUS_OK);
    assert_memory_equal(out, values, sizeof(values));
    assert_int_equal(npz_read(&file, w, 1, 6, out, NULL), STATUS_INVALID);
    npz_close(&file);
    npz_close(&file);
    release(&s);
}

static void npz_damage_is_found_by_the_checksum(void **state)
{
    struct sample s = {0};
    struct error err;
    struct npz file;
    float out[6];
    char *last;

    (void)state;
    make(&s);
    /* A bit of b's last value; the member is short, so that reading its header reads it all. */
    last = memmem(s.file.data, s.file.length, s.vector.data, s.vector.length);
    assert_non_null(last);
    last[s.vector.length - 1] ^= 1;
    assert_int_equal(npz_open(&file, scratch_file("damaged.npz", s.file.data, s.file.length), &err),
                     STATUS_FORMAT);
    assert_non_null(strstr(err.message, "member 'b.npy': checksum"));
    last[s.vector.length - 1] ^= 1;

    /* Damage that comes after the file was opened. */
    assert_int_equal(npz_open(&file, scratch_file("damaged.npz", s.file.data, s.file.length), NULL),
                     STATUS_OK);
    last[s.vector.length - 1] ^= 1;
    scratch_file("damaged.npz", s.file.data, s.file.length);
    assert_int_equal(npz_read(&file, npz_find(&file, "b"), 0, 5, out, NULL), STATUS_OK);
    assert_int_equal(npz_read(&file, npz_find(&file, "b"), 5, 1, out, &err), STATUS_FORMAT);
    assert_int_equal(npz_read(&file, npz_find(&file, "b"), 4, 1, out, NULL), STATUS_OK);
    npz_close(&file);
    release(&s);
}

static void npz_refuses_what_it_cannot_read(void **state)
{
    static const struct {
        const char *descr;
        size_t n;
        enum status status;
        const char *words;
    } cases[] = {
        {"<f4", 23, STATUS_FORMAT, "array 'x': 23 bytes of data, F32 [6] takes 24"},
        {"<f4", 20, STATUS_FORMAT, "takes 24"},
        {">f4", 24, STATUS_UNSUPPORTED, "big-endian"},
        {"|O", 24, STATUS_UNSUPPORTED, "Python objects"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct text array = {0}, zip = {0};
        struct error err = {0};
        struct npz file;

        npy_append(&array, cases[i].descr, 6, 0, values, cases[i].n);
        zip_append(&zip,
                   &(struct zip_item){.name = "x.npy", .bytes = array.data, .n = array.length}, 1);
        assert_int_equal(npz_open(&file, scratch_file("x.npz", zip.data, zip.length), &err),
                         cases[i].status);
        if (!strstr(err.message, cases[i].words) || !strstr(err.message, "x.npz"))
            fail_msg("%s", err.message);
        text_release(&array);
        text_release(&zip);
    }
}

static void npz_survives_failing_allocation(void **state)
{
    struct sample s = {0};
    const char *path = make(&s);
    size_t allowed = 0;

    (void)state;
    do {
        struct npz file;
        enum status st;
        float out[6];

        mem_fail_after(allowed++);
        st = npz_open(&file, path, NULL);
        for (size_t i = 0; !st && i < file.n_arrays; i++)
            st = npz_read(&file, &file.arrays[i], 0, 6, out, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        npz_close(&file);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(allowed > 8);
    release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npz_arrays_are_read_in_any_order),
        cmocka_unit_test(npz_damage_is_found_by_the_checksum),
        cmocka_unit_test(npz_refuses_what_it_cannot_read),
        cmocka_unit_test(npz_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/npz", tests, scratch_setup, scratch_teardown);
}
