#include "sae/sae_cache.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static const struct hash128 key = {1, 2};

static struct sae_cache_array arrays_of(const char *text, size_t bytes)
{
    return (struct sae_cache_array){text, bytes};
}

static void sae_cache_gives_back_what_was_stored(void **state)
{
    struct sae_cache_array stored[] = {arrays_of("first", 5), arrays_of(NULL, 0),
                                       arrays_of("third", 6)};
    struct sae_cache_array sizes[] = {arrays_of(NULL, 5), arrays_of(NULL, 0), arrays_of(NULL, 6)};
    struct sae_cache cache;
    bool found;

    (void)state;
    assert_int_equal(
        sae_cache_open(&cache, &found, scratch_path("cache"), key, "a b", sizes, 3, NULL),
        STATUS_OK);
    assert_false(found);
    assert_int_equal(sae_cache_store(scratch_path("cache"), key, "a b", stored, 3, NULL),
                     STATUS_OK);
    assert_int_equal(
        sae_cache_open(&cache, &found, scratch_path("cache"), key, "a b", sizes, 3, NULL),
        STATUS_OK);
    assert_true(found);
    assert_memory_equal(sizes[0].data, "first", 5);
    assert_null(sizes[1].data);
    assert_memory_equal(sizes[2].data, "third", 6);
    assert_int_equal((size_t)sizes[2].data % MEM_ALIGNMENT, 0);
    sae_cache_close(&cache);
    sae_cache_close(&cache);
}

static const char *stored_file(void)
{
    return scratch_path("cache/00000000000000010000000000000002-a-b.saerl");
}

/* Another key, name or size, and any fault of the file itself: as good as absent. */
static void sae_cache_does_not_find_what_is_not_the_same(void **state)
{
    struct sae_cache_array stored = arrays_of("first", 5), sizes = arrays_of(NULL, 5);
    struct sae_cache_array longer = arrays_of(NULL, 6);
    const struct hash128 other = {1, 3};
    struct sae_cache cache;
    bool found = true;
    int fd;

    (void)state;
    assert_int_equal(sae_cache_store(scratch_path("cache"), key, "a b", &stored, 1, NULL),
                     STATUS_OK);
    assert_false(
        sae_cache_open(&cache, &found, scratch_path("cache"), other, "a b", &sizes, 1, NULL) ||
        found);
    assert_false(
        sae_cache_open(&cache, &found, scratch_path("cache"), key, "a c", &sizes, 1, NULL) ||
        found);
    assert_false(
        sae_cache_open(&cache, &found, scratch_path("cache"), key, "a b", &longer, 1, NULL) ||
        found);
    for (off_t at = 0; at < 4096 + 5; at += at == 119 ? 4096 - 119 : at < 4096 ? 7 : 1) {
        unsigned char byte = 0;

        fd = open(stored_file(), O_RDWR);
        assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_false(
            sae_cache_open(&cache, &found, scratch_path("cache"), key, "a b", &sizes, 1, NULL) ||
            found);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
    }
    assert_int_equal(truncate(stored_file(), 5000), 0);
    assert_false(
        sae_cache_open(&cache, &found, scratch_path("cache"), key, "a b", &sizes, 1, NULL) ||
        found);
}

static void sae_cache_store_says_where_it_cannot(void **state)
{
    struct sae_cache_array stored = arrays_of("first", 5);
    struct error err = {0};

    (void)state;
    assert_int_equal(sae_cache_store("/dev/null/cache", key, "a", &stored, 1, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "/dev/null"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sae_cache_gives_back_what_was_stored),
        cmocka_unit_test(sae_cache_does_not_find_what_is_not_the_same),
        cmocka_unit_test(sae_cache_store_says_where_it_cannot),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
