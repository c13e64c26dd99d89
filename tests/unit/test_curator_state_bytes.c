#include "curator/state_bytes.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"

static struct state_reader reader_of(const struct text *text)
{
    return (struct state_reader){.bytes = (const unsigned char *)text->data, .n = text->length};
}

static void state_bytes_read_back_what_was_written(void **state)
{
    const uint32_t items[] = {3, 0, UINT32_MAX};
    struct text text = {0};
    struct state_reader in;
    uint32_t *read;
    char *string;
    size_t n;

    (void)state;
    state_put_u64(&text, UINT64_MAX - 1);
    state_put_double(&text, -0.1);
    state_put_array(&text, items, 3, sizeof(*items));
    state_put_string(&text, "name");
    state_put_array(&text, NULL, 0, 8);
    in = reader_of(&text);
    assert_true(state_get_u64(&in) == UINT64_MAX - 1);
    assert_true(state_get_double(&in) == -0.1);
    read = state_get_array(&in, &n, sizeof(*read));
    assert_int_equal(n, 3);
    assert_memory_equal(read, items, sizeof(items));
    mem_free(read);
    string = state_get_string(&in);
    assert_string_equal(string, "name");
    mem_free(string);
    mem_free(state_get_array(&in, &n, 8));
    assert_int_equal(n, 0);
    assert_false(in.failed);
    assert_int_equal(in.n, 0);
    text_release(&text);
}

static void state_bytes_refuse_every_cut(void **state)
{
    struct text text = {0};
    size_t n;

    (void)state;
    state_put_array(&text, "abcdef", 6, 1);
    state_put_u64(&text, 9);
    for (size_t cut = 0; cut < text.length; cut++) {
        struct state_reader in = {.bytes = (const unsigned char *)text.data, .n = cut};

        mem_free(state_get_array(&in, &n, 1));
        state_get_u64(&in);
        assert_true(in.failed);
    }
    text_release(&text);
}

static void state_bytes_believe_no_count_beyond_what_is_left(void **state)
{
    struct text text = {0};
    struct state_reader in;
    size_t n = 1;

    (void)state;
    state_put_u64(&text, UINT64_MAX / 8);
    in = reader_of(&text);
    assert_null(state_get_array(&in, &n, 8));
    assert_true(in.failed);
    assert_false(in.out_of_memory);
    assert_int_equal(n, 0);
    in = reader_of(&text);
    assert_null(state_get_string(&in));
    text_clear(&text);
    state_put_array(&text, "a\0b", 3, 1);
    in = reader_of(&text);
    assert_null(state_get_string(&in));
    assert_true(in.failed);
    text_release(&text);
}

static void state_bytes_tell_short_memory_from_damage(void **state)
{
    struct text text = {0};
    struct state_reader in;
    size_t n;

    (void)state;
    state_put_string(&text, "abc");
    mem_fail_after(0);
    in = reader_of(&text);
    assert_null(state_get_array(&in, &n, 1));
    mem_fail_after(SIZE_MAX);
    assert_true(in.out_of_memory);
    text_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_bytes_read_back_what_was_written),
        cmocka_unit_test(state_bytes_refuse_every_cut),
        cmocka_unit_test(state_bytes_believe_no_count_beyond_what_is_left),
        cmocka_unit_test(state_bytes_tell_short_memory_from_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
