#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/archive.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* TEXT by gzip 1.12 -n, zstd 1.5.4 and xz 5.4.1, default levels. */
#define TEXT "{\"a\":1}\n{\"b\":2}\nlast"
static const unsigned char gz_bytes[] = {
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xab, 0x56, 0x4a, 0x54,
    0xb2, 0x32, 0xac, 0xe5, 0xaa, 0x56, 0x4a, 0x52, 0xb2, 0x32, 0xaa, 0xe5, 0xca, 0x49,
    0x2c, 0x2e, 0x01, 0x00, 0x22, 0x31, 0x31, 0x0a, 0x14, 0x00, 0x00, 0x00};
static const unsigned char zst_bytes[] = {0x28, 0xb5, 0x2f, 0xfd, 0x24, 0x14, 0xa1, 0x00, 0x00,
                                          0x7b, 0x22, 0x61, 0x22, 0x3a, 0x31, 0x7d, 0x0a, 0x7b,
                                          0x22, 0x62, 0x22, 0x3a, 0x32, 0x7d, 0x0a, 0x6c, 0x61,
                                          0x73, 0x74, 0x01, 0xb8, 0x25, 0xbe};
static const unsigned char xz_bytes[] = {
    0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01,
    0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x13, 0x7b, 0x22, 0x61, 0x22, 0x3a,
    0x31, 0x7d, 0x0a, 0x7b, 0x22, 0x62, 0x22, 0x3a, 0x32, 0x7d, 0x0a, 0x6c, 0x61, 0x73, 0x74, 0x00,
    0x56, 0x3d, 0x4f, 0xa5, 0x2f, 0x88, 0xc2, 0x99, 0x00, 0x01, 0x2c, 0x14, 0xf8, 0x0a, 0x6d, 0x03,
    0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a};

static const struct {
    const char *name;
    const unsigned char *bytes;
    size_t n;
} archives[] = {
    {"a.gz", gz_bytes, sizeof(gz_bytes)},
    {"a.zst", zst_bytes, sizeof(zst_bytes)},
    {"a.xz", xz_bytes, sizeof(xz_bytes)},
};

#define N_ARCHIVES (sizeof(archives) / sizeof(*archives))

/* Read in pieces of `piece` bytes; what was read is terminated by a zero byte. */
static enum status read_pieces(const char *path, size_t piece, char out[256], struct error *err)
{
    struct stream *stream;
    size_t used = 0, n = 0;
    enum status st = stream_open(&stream, path, err);

    if (st)
        return st;
    do {
        assert_true(used + piece < 256);
        st = stream_read(stream, out + used, piece, &n, err);
        used += st ? 0 : n;
    } while (!st && n > 0);
    if (!st) {
        /* The end stays the end. */
        assert_int_equal(stream_read(stream, out + used, piece, &n, err), STATUS_OK);
        assert_int_equal(n, 0);
    }
    out[used] = '\0';
    stream_close(stream);
    return st;
}

static enum status read_all(const char *name, const void *bytes, size_t n, char out[256],
                            struct error *err)
{
    return read_pieces(scratch_file(name, bytes, n), 100, out, err);
}

static void stream_reads_what_was_compressed(void **state)
{
    char out[256];

    (void)state;
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        const char *path = scratch_file(archives[i].name, archives[i].bytes, archives[i].n);

        assert_int_equal(read_pieces(path, 100, out, NULL), STATUS_OK);
        assert_string_equal(out, TEXT);
        assert_int_equal(read_pieces(path, 1, out, NULL), STATUS_OK);
        assert_string_equal(out, TEXT);
    }
    assert_int_equal(read_all("plain", TEXT, strlen(TEXT), out, NULL), STATUS_OK);
    assert_string_equal(out, TEXT);
    assert_int_equal(read_all("empty", "", 0, out, NULL), STATUS_OK);
    assert_string_equal(out, "");
}

static void stream_reads_through_members(void **state)
{
    char out[256], twice[256];

    (void)state;
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        size_t n = archives[i].n;

        memcpy(twice, archives[i].bytes, n);
        memcpy(twice + n, archives[i].bytes, n);
        assert_int_equal(read_all(archives[i].name, twice, 2 * n, out, NULL), STATUS_OK);
        assert_string_equal(out, TEXT TEXT);
        memset(twice + n, 'x', 20);
        assert_int_equal(read_all(archives[i].name, twice, n + 20, out, NULL), STATUS_FORMAT);
    }
    /* Zero bytes after a gzip member are padding. */
    memcpy(twice, gz_bytes, sizeof(gz_bytes));
    memset(twice + sizeof(gz_bytes), 0, 30);
    assert_int_equal(read_all("a.gz", twice, sizeof(gz_bytes) + 30, out, NULL), STATUS_OK);
    assert_string_equal(out, TEXT);
}

static void stream_refuses_every_truncation(void **state)
{
    char out[256];

    (void)state;
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        for (size_t n = 0; n < archives[i].n; n++) {
            struct error err = {0};

            if (read_all(archives[i].name, archives[i].bytes, n, out, &err) != STATUS_FORMAT)
                fail_msg("%s cut to %zu bytes was read", archives[i].name, n);
            assert_non_null(strstr(err.message, archives[i].name));
        }
    }
}

static void stream_never_returns_damaged_bytes(void **state)
{
    char out[256];

    (void)state;
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        for (size_t bit = 0; bit < 8 * archives[i].n; bit++) {
            unsigned char copy[128];

            memcpy(copy, archives[i].bytes, archives[i].n);
            copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
            /* Time and system in a gzip header may change without harm. */
            if (!read_all(archives[i].name, copy, archives[i].n, out, NULL))
                assert_string_equal(out, TEXT);
        }
    }
}

static void stream_refuses_what_its_name_denies(void **state)
{
    struct error err;
    char out[256];

    (void)state;
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        size_t other = (i + 1) % N_ARCHIVES;

        assert_int_equal(read_all(archives[i].name, TEXT, strlen(TEXT), out, &err), STATUS_FORMAT);
        assert_int_equal(
            read_all(archives[i].name, archives[other].bytes, archives[other].n, out, &err),
            STATUS_FORMAT);
    }
    assert_int_equal(read_pieces(scratch_path("absent.zst"), 10, out, &err), STATUS_IO);
    assert_int_equal(read_pieces("/tmp", 10, out, &err), STATUS_IO);
}

static void stream_survives_failing_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        const char *path = scratch_file(archives[i].name, archives[i].bytes, archives[i].n);
        size_t n = 0;

        do {
            struct stream *stream;
            enum status st;

            mem_fail_after(n++);
            st = stream_open(&stream, path, NULL);
            assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
            stream_close(stream);
        } while (mem_failed());
        mem_fail_after(SIZE_MAX);
        assert_true(n > 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_reads_what_was_compressed),
        cmocka_unit_test(stream_reads_through_members),
        cmocka_unit_test(stream_refuses_every_truncation),
        cmocka_unit_test(stream_never_returns_damaged_bytes),
        cmocka_unit_test(stream_refuses_what_its_name_denies),
        cmocka_unit_test(stream_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/archive", tests, scratch_setup, scratch_teardown);
}
