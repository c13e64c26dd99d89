#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/archive.h"
#include "formats/zip.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"
#include "tests/support/zip_sample.h"

static const struct zip_item two[] = {
    {.name = "b/second", .bytes = "0123456789", .n = 10},
    {.name = "a", .bytes = "", .n = 0},
};

static const char *write_text(const char *name, const struct text *file)
{
    return scratch_file(name, file->data, file->length);
}

/* The message of the refusal, which must be of this status. */
static const char *refusal(const struct text *file, enum status expected)
{
    static struct error err;
    struct zip zip;

    err = (struct error){0};
    assert_int_equal(zip_open(&zip, write_text("refused.zip", file), &err), expected);
    assert_null(zip.members);
    assert_non_null(strstr(err.message, "refused.zip"));
    return err.message;
}

static void check_two(const struct text *file)
{
    const struct zip_member *member;
    char bytes[10];
    struct zip zip;

    assert_int_equal(zip_open(&zip, write_text("two.zip", file), NULL), STATUS_OK);
    assert_int_equal(zip.n_members, 2);
    assert_null(zip_find(&zip, "b"));
    member = zip_find(&zip, "a");
    assert_non_null(member);
    assert_int_equal(member->bytes, 0);
    member = zip_find(&zip, "b/second");
    assert_non_null(member);
    assert_int_equal(member->bytes, 10);
    assert_int_equal(zip_read(&zip, member, 3, 7, bytes, NULL), STATUS_OK);
    assert_memory_equal(bytes, "3456789", 7);
    assert_int_equal(zip_read(&zip, member, 3, 8, bytes, NULL), STATUS_INVALID);
    assert_int_equal(zip_read(&zip, member, 11, 0, bytes, NULL), STATUS_INVALID);
    zip_close(&zip);
    zip_close(&zip);
}

static void zip_members_are_found_by_the_directory(void **state)
{
    struct text file = {0};

    (void)state;
    zip_append(&file, two, 2);
    check_two(&file);
    text_clear(&file);
    zip64_append(&file, two, 2);
    check_two(&file);
    text_release(&file);
}

static void zip_end_record_is_told_from_a_comment(void **state)
{
    static const char comment[] = "hello PK\5\6 trap PK\5\6";
    struct text file = {0};

    (void)state;
    zip_append(&file, two, 2);
    file.data[file.length - 2] = sizeof(comment) - 1;
    text_append(&file, comment);
    check_two(&file);
    text_append_char(&file, '!');
    assert_non_null(strstr(refusal(&file, STATUS_FORMAT), "no end record"));
    text_release(&file);
}

static void zip_without_members_is_sound(void **state)
{
    struct text file = {0};
    struct zip zip;

    (void)state;
    zip_append(&file, NULL, 0);
    assert_int_equal(zip_open(&zip, write_text("none.zip", &file), NULL), STATUS_OK);
    assert_null(zip_find(&zip, ""));
    zip_close(&zip);
    text_release(&file);
}

/* Offsets in a file of `two`: its directory is 46 + 8 and 46 + 1 bytes, its end 22. */
#define ENTRY(file) ((file)->length - 22 - 47 - 54)
#define END(file) ((file)->length - 22)

static void zip_refuses_lies(void **state)
{
    static const struct {
        size_t at; /* in the first directory entry */
        const char *bytes;
        size_t n;
        enum status status;
        const char *words;
    } cases[] = {
        {0, "PX", 2, STATUS_FORMAT, "entry 0 does not begin"},
        {8, "\1", 1, STATUS_UNSUPPORTED, "member 'b/second': encrypted"},
        {10, "\14", 1, STATUS_UNSUPPORTED, "method 12"},
        {20, "\11", 1, STATUS_FORMAT, "stored in 9 bytes"},
        {20, "\0\0\0\x70\0\0\0\x70", 8, STATUS_FORMAT, "reach into the directory"},
        {20, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, STATUS_FORMAT, "zip64 sizes are missing"},
        {28, "\xff\xff", 2, STATUS_FORMAT, "beyond the directory"},
        {42, "\1", 1, STATUS_FORMAT, "no local header at byte 1"},
        {42, "\0\0\0\x70", 4, STATUS_FORMAT, "its header at byte 1879048192"},
        {46, "c", 1, STATUS_FORMAT, "another name"},
        {47, "\xff", 1, STATUS_FORMAT, "not UTF-8"},
        {47, "\0", 1, STATUS_FORMAT, "not UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct text file = {0};
        const char *words;

        zip_append(&file, two, 2);
        memcpy(file.data + ENTRY(&file) + cases[i].at, cases[i].bytes, cases[i].n);
        words = refusal(&file, cases[i].status);
        if (!strstr(words, cases[i].words))
            fail_msg("%zu: %s", i, words);
        text_release(&file);
    }
}

static void zip_refuses_a_directory_that_is_not_there(void **state)
{
    struct text file = {0};

    (void)state;
    zip_append(&file, two, 2);
    file.data[END(&file) + 10] = 3;
    assert_non_null(strstr(refusal(&file, STATUS_FORMAT), "3 members in 101 bytes"));
    file.data[END(&file) + 10] = 2;
    file.data[END(&file) + 15] = 1;
    assert_non_null(strstr(refusal(&file, STATUS_FORMAT), "directory of 16777317 bytes"));
    memset(file.data + END(&file) + 12, 0xff, 8);
    assert_non_null(strstr(refusal(&file, STATUS_FORMAT), "zip64 end record is missing"));
    text_release(&file);

    zip64_append(&file, two, 2);
    file.data[END(&file) - 20 + 8] ^= 1; /* where the zip64 end record is */
    assert_non_null(strstr(refusal(&file, STATUS_FORMAT), "zip64 end record"));
    file.data[END(&file) - 20 + 8] ^= 1;
    file.data[END(&file) - 20 - 56 + 34] = 1; /* members */
    assert_non_null(strstr(refusal(&file, STATUS_UNSUPPORTED), "65538 members"));
    text_release(&file);
}

static void zip_refuses_overlaps_and_names_that_come_twice(void **state)
{
    const struct zip_item twice[] = {{.name = "a", .bytes = "x", .n = 1},
                                     {.name = "a", .bytes = "y", .n = 1}};
    struct text file = {0};

    (void)state;
    zip_append(&file, twice, 2);
    assert_non_null(strstr(refusal(&file, STATUS_FORMAT), "comes twice"));
    /* Both entries mean the first member. */
    memset(file.data + file.length - 22 - 4 - 1, 0, 4);
    assert_non_null(strstr(refusal(&file, STATUS_FORMAT), "overlap"));
    text_release(&file);
}

static void zip_says_what_else_a_file_is(void **state)
{
    static const struct {
        const char *start;
        size_t n;
        const char *words;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull"},
        {"\x0a\0\0\0\0\0\0\0{\"a\":1}    ", 19, "name it .safetensors"},
        {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15, "torch.save(torch.load"},
        {"\x80\x04.", 3, "a plain pickle"},
        {"\x93NUMPY\1\0", 8, "name it .npy"},
        {"<html>", 6, "a web page"},
        {"", 0, "0 bytes that do not begin"},
        {"PK\5\6", 4, "too short"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *path = scratch_file("else.zip", cases[i].start, cases[i].n);
        struct error err = {0};
        struct zip zip;

        assert_int_not_equal(zip_open(&zip, path, &err), STATUS_OK);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s", err.message);
    }
}

static void zip_files_cut_off_are_refused(void **state)
{
    struct text file = {0};
    struct zip zip;

    (void)state;
    zip64_append(&file, two, 2);
    for (size_t n = 0; n < file.length; n++)
        assert_int_not_equal(zip_open(&zip, scratch_file("cut.zip", file.data, n), NULL),
                             STATUS_OK);
    text_release(&file);
}

static void zip_open_survives_failing_allocation(void **state)
{
    struct text file = {0};
    const char *path;
    size_t allowed = 0;

    (void)state;
    zip_append(&file, two, 2);
    path = write_text("failing.zip", &file);
    do {
        struct zip zip;
        enum status st;

        mem_fail_after(allowed++);
        st = zip_open(&zip, path, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        zip_close(&zip);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(allowed > 4);
    text_release(&file);
}

/* Streams ------------------------------------------------------------------------------------ */

static enum status read_stream(const struct zip_item *item, size_t step, size_t n,
                               struct error *err)
{
    struct zip_stream *stream = NULL;
    struct text file = {0};
    struct zip zip;
    char bytes[64];
    enum status st;

    zip_append(&file, item, 1);
    st = zip_open(&zip, write_text("stream.zip", &file), err);
    if (!st)
        st = zip_stream_open(&stream, &zip, &zip.members[0], err);
    assert_true(n <= sizeof(bytes));
    for (size_t i = 0; !st && i < n; i += step)
        st = zip_stream_read(stream, bytes + i, n - i < step ? n - i : step, err);
    if (!st)
        assert_memory_equal(bytes, item->bytes, n);
    zip_stream_close(stream);
    zip_close(&zip);
    text_release(&file);
    return st;
}

static void zip_streams_give_stored_and_deflated_bytes(void **state)
{
    struct zip_item item = {.name = "m", .bytes = "0123456789abcdef", .n = 16};
    struct text data = {0};
    struct error err;

    (void)state;
    deflate_append(&data, item.bytes, item.n);
    for (item.method = 0; item.method <= 8; item.method = (uint16_t)(item.method + 8)) {
        item.stored = data.data;
        item.n_stored = data.length;
        for (size_t step = 1; step <= 16; step++)
            assert_int_equal(read_stream(&item, step, 16, NULL), STATUS_OK);
        assert_int_equal(read_stream(&item, 3, 9, NULL), STATUS_OK);
        assert_int_equal(read_stream(&item, 17, 17, &err), STATUS_FORMAT);
        assert_non_null(strstr(err.message, "member 'm': ends early"));
    }
    text_release(&data);
}

static void zip_streams_notice_damage(void **state)
{
    struct zip_item item = {.name = "m", .bytes = "0123456789abcdef", .n = 16, .method = 8};
    struct text data = {0};
    struct error err;

    (void)state;
    deflate_append(&data, "0123456789abcdeg", 16);
    item.stored = data.data;
    item.n_stored = data.length;
    assert_int_equal(read_stream(&item, 16, 16, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "checksum"));

    text_clear(&data);
    deflate_append(&data, item.bytes, 15);
    item.n_stored = data.length;
    assert_int_equal(read_stream(&item, 16, 16, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "end before its size"));

    text_clear(&data);
    deflate_append(&data, "0123456789abcdefg", 17);
    item.n_stored = data.length;
    assert_int_equal(read_stream(&item, 16, 16, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "go on after its size"));

    text_clear(&data);
    deflate_append(&data, item.bytes, 16);
    item.n_stored = data.length - 1;
    assert_int_equal(read_stream(&item, 16, 16, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "cut off"));

    data.data[0] = 7;
    item.n_stored = data.length;
    assert_int_equal(read_stream(&item, 16, 16, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "member 'm'"));

    data.data[0] = 1;
    text_append_char(&data, 0);
    item.stored = data.data;
    item.n_stored = data.length;
    assert_int_equal(read_stream(&item, 16, 16, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "go on after its size"));
    text_release(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zip_members_are_found_by_the_directory),
        cmocka_unit_test(zip_end_record_is_told_from_a_comment),
        cmocka_unit_test(zip_without_members_is_sound),
        cmocka_unit_test(zip_refuses_lies),
        cmocka_unit_test(zip_refuses_a_directory_that_is_not_there),
        cmocka_unit_test(zip_refuses_overlaps_and_names_that_come_twice),
        cmocka_unit_test(zip_says_what_else_a_file_is),
        cmocka_unit_test(zip_files_cut_off_are_refused),
        cmocka_unit_test(zip_open_survives_failing_allocation),
        cmocka_unit_test(zip_streams_give_stored_and_deflated_bytes),
        cmocka_unit_test(zip_streams_notice_damage),
    };

    return cmocka_run_group_tests_name("formats/zip", tests, scratch_setup, scratch_teardown);
}
