#include <string.h>

#include "ipc/protocol.h"
#include "tests/support/cmocka_headers.h"

static const struct envelope fetch = {
    .major = 1,
    .minor = 0,
    .kind = KIND_FETCH,
    .session = UINT64_C(0x0102030405060708),
    .request = UINT64_C(0xa1a2a3a4a5a6a7a8),
    .n_tensors = 0x11121314,
    .flags = FLAG_REPLY | FLAG_RETRY,
};

static void envelope_lies_as_documented(void **state)
{
    static const unsigned char expected[PROTOCOL_ENVELOPE_BYTES] = {
        'S',  'R',  'L',  'W',  1,    0,    20,   0,    8,    7,    6,    5,    4, 3, 2, 1,
        0xa8, 0xa7, 0xa6, 0xa5, 0xa4, 0xa3, 0xa2, 0xa1, 0x14, 0x13, 0x12, 0x11, 5, 0, 0, 0,
    };
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];

    (void)state;
    envelope_write(&fetch, bytes);
    assert_memory_equal(bytes, expected, sizeof(expected));
}

static void envelope_is_read_at_any_address(void **state)
{
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES + 8];

    (void)state;
    for (size_t shift = 0; shift < 8; shift++) {
        struct envelope read = {0};

        envelope_write(&fetch, bytes + shift);
        assert_true(envelope_read(&read, bytes + shift, PROTOCOL_ENVELOPE_BYTES));
        assert_int_equal(read.major, fetch.major);
        assert_int_equal(read.minor, fetch.minor);
        assert_int_equal(read.kind, fetch.kind);
        assert_true(read.session == fetch.session);
        assert_true(read.request == fetch.request);
        assert_int_equal(read.n_tensors, fetch.n_tensors);
        assert_int_equal(read.flags, fetch.flags);
    }
}

static void envelope_of_another_length_or_magic_is_not_ours(void **state)
{
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES + 1] = {0};
    struct envelope read;

    (void)state;
    envelope_write(&fetch, bytes);
    for (size_t n = 0; n <= sizeof(bytes); n++)
        assert_int_equal(envelope_read(&read, bytes, n), n == PROTOCOL_ENVELOPE_BYTES);
    assert_false(envelope_read(&read, NULL, 0));
    for (size_t i = 0; i < 4; i++) {
        bytes[i] ^= 0x20;
        assert_false(envelope_read(&read, bytes, PROTOCOL_ENVELOPE_BYTES));
        bytes[i] ^= 0x20;
    }
}

static void every_code_has_a_name_that_finds_it(void **state)
{
    (void)state;
    assert_string_equal(protocol_error_name(E_NONE), "");
    for (int e = E_NONE + 1; e < PROTOCOL_ERROR_COUNT; e++) {
        const char *name = protocol_error_name((enum protocol_error)e);

        assert_memory_equal(name, "E_", 2);
        assert_int_equal(protocol_error_find(name), e);
    }
    assert_int_equal(protocol_error_find(""), E_NONE);
    assert_int_equal(protocol_error_find("E_BUSY "), E_NONE);
}

static void kinds_outside_the_table_are_unknown(void **state)
{
    size_t n = 0;

    (void)state;
    for (unsigned kind = 0; kind <= UINT16_MAX; kind++) {
        if (protocol_kind_known(kind))
            n++;
        else
            assert_string_equal(protocol_kind_name(kind), "?");
    }
    assert_int_equal(n, 14);
    assert_string_equal(protocol_kind_name(KIND_FEEDBACK), "FEEDBACK");
    assert_false(protocol_kind_known(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelope_lies_as_documented),
        cmocka_unit_test(envelope_is_read_at_any_address),
        cmocka_unit_test(envelope_of_another_length_or_magic_is_not_ours),
        cmocka_unit_test(every_code_has_a_name_that_finds_it),
        cmocka_unit_test(kinds_outside_the_table_are_unknown),
    };

    return cmocka_run_group_tests_name("ipc/protocol", tests, NULL, NULL);
}
