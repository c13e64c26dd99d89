#include "base/hash.h"

#include <string.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"

#define BYTES 4096

static unsigned char bytes[BYTES];

static int fill(void **state)
{
    (void)state;
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i * 31 + 7);
    return 0;
}

/* By libxxhash 0.8.1 without regard to the CPU: XXH3_64bits_withSeed() with seeds 0 and 42, and
 * XXH3_128bits(), of short, middle and long inputs. */
static void hashes_are_those_of_xxh3(void **state)
{
    static const struct {
        size_t n;
        uint64_t plain, seeded;
        const char *wide;
    } cases[] = {
        {0, 0x2d06800538d394c2, 0xb029411ff43d84d2, "99aa06d3014798d86001c324468d497f"},
        {1, 0x4c5cca45d0f4811f, 0xc72384329881f542, "495b62073ef70ca44c5cca45d0f4811f"},
        {16, 0x7e484c18d74895d0, 0x0126fe5707ca8f2b, "650fe308c566747df853dd94614dfa07"},
        {17, 0x208bde5ee2bed407, 0x7c41a57ae29003da, "18217300b5132d5a78c349fe81b2f26c"},
        {128, 0xf92b70eaa21a6288, 0x9a3b44e5f1d705d8, "b4f87b99d2db8a511e04fad9f0cacb4d"},
        {129, 0xf8f76713f2bb60fa, 0xb672f12eed8cd6b0, "6881633650cd8924c51bc887976aef63"},
        {240, 0xccc7375172c41f03, 0x4b05be6354f2e1c7, "de57aab31e77a2ff93e173833f75ab66"},
        {241, 0x0b3b630948ce4a00, 0x015f3bb61c188b1a, "92b991a7192f3f080b3b630948ce4a00"},
        {1024, 0x23bc880ebf0d29c6, 0x7123704382c38bc0, "4c17271c906df79223bc880ebf0d29c6"},
        {1025, 0xc09fdfbc398c7d82, 0x094359ff0bf72151, "70a4eb1b9691d77fc09fdfbc398c7d82"},
        {4096, 0xa3c19f8174cde0bb, 0x334b260cacb92ca4, "49d3842b33d51e8aa3c19f8174cde0bb"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char hex[HASH128_HEX_SIZE];

        assert_true(hash64(bytes, cases[i].n, 0) == cases[i].plain);
        assert_true(hash64(bytes, cases[i].n, 42) == cases[i].seeded);
        hash128_hex(hash128(bytes, cases[i].n), hex);
        assert_string_equal(hex, cases[i].wide);
    }
}

static void hash_of_pieces_is_that_of_the_whole(void **state)
{
    (void)state;
    for (size_t n = 0; n <= BYTES; n += n < 600 ? 1 : 97) {
        struct hasher *hasher = hasher_new();

        assert_non_null(hasher);
        for (size_t at = 0, piece; at < n; at += piece) {
            piece = 1 + (at * 7 + n) % 300;
            piece = piece < n - at ? piece : n - at;
            hasher_update(hasher, bytes + at, piece);
        }
        assert_true(hash128_equal(hasher_digest(hasher), hash128(bytes, n)));
        hasher_free(hasher);
    }
}

static void hash_reads_its_own_hexadecimal(void **state)
{
    struct hash128 h = hash128(bytes, 300), read = {0};
    char hex[HASH128_HEX_SIZE];

    (void)state;
    hash128_hex(h, hex);
    assert_true(hash128_parse(&read, hex));
    assert_true(hash128_equal(h, read));
    assert_false(hash128_parse(&read, "99aa06d3014798d86001c324468d497"));
    assert_false(hash128_parse(&read, "99aa06d3014798d86001c324468d497fF"));
    assert_false(hash128_parse(&read, "99AA06d3014798d86001c324468d497f"));
    assert_true(hash128_equal(h, read)); /* as it was */
}

static void hasher_survives_failing_allocation(void **state)
{
    (void)state;
    mem_fail_after(0);
    assert_null(hasher_new());
    mem_fail_after(SIZE_MAX);
    hasher_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_those_of_xxh3),
        cmocka_unit_test(hash_of_pieces_is_that_of_the_whole),
        cmocka_unit_test(hash_reads_its_own_hexadecimal),
        cmocka_unit_test(hasher_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("base/hash", tests, fill, NULL);
}
