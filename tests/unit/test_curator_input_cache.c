#include "curator/input_cache.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

#define SECOND INT64_C(1000000000)

static char path[128], cache_path[128];

static int setup(void **state)
{
    int rc = scratch_setup(state);

    strncpy(path, scratch_path("input"), sizeof(path) - 1);
    strncpy(cache_path, scratch_path("inputs.json"), sizeof(cache_path) - 1);
    return rc;
}

static struct hash128 ask(struct input_cache *cache)
{
    struct hash128 hash = {0, 0};
    uint64_t n = 0;

    assert_int_equal(input_cache_hash(cache, path, &hash, &n, NULL), STATUS_OK);
    assert_int_equal(n, 5);
    return hash;
}

/* The file was hashed a while after it had been written: ten seconds of waiting, without. */
static void grow_old(struct input_cache *cache)
{
    for (size_t i = 0; i < cache->n; i++)
        cache->entries[i].hashed += 10 * SECOND;
}

static void save_and_load(struct input_cache *cache)
{
    assert_int_equal(input_cache_save(cache, cache_path, NULL), STATUS_OK);
    input_cache_release(cache);
    assert_int_equal(input_cache_load(cache, cache_path, NULL), STATUS_OK);
}

static void what_is_as_it_was_is_not_read_again(void **state)
{
    struct input_cache cache = {0};
    struct hash128 first;

    (void)state;
    scratch_file("input", "first", 5);
    first = ask(&cache);
    assert_true(hash128_equal(first, hash128("first", 5)));
    assert_int_equal(cache.n_read, 1);
    grow_old(&cache);
    save_and_load(&cache);
    assert_int_equal(cache.n, 1);
    assert_true(hash128_equal(ask(&cache), first));
    assert_int_equal(cache.n_read, 0);

    /* Used, it is saved again; not asked for, it is forgotten. */
    save_and_load(&cache);
    assert_int_equal(cache.n, 1);
    save_and_load(&cache);
    assert_int_equal(cache.n, 0);
    input_cache_release(&cache);
}

static void another_time_or_inode_is_read_again(void **state)
{
    const struct timespec long_ago[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    struct input_cache cache = {0};
    char other[128];

    (void)state;
    scratch_file("input", "first", 5);
    ask(&cache);
    grow_old(&cache);
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    ask(&cache);
    assert_int_equal(cache.n_read, 2);

    grow_old(&cache);
    ask(&cache);
    assert_int_equal(cache.n_read, 2);
    strncpy(other, scratch_file("other", "again", 5), sizeof(other) - 1);
    other[sizeof(other) - 1] = '\0';
    assert_int_equal(rename(other, path), 0);
    assert_true(hash128_equal(ask(&cache), hash128("again", 5)));
    assert_int_equal(cache.n_read, 3);
    input_cache_release(&cache);
}

/* Written, hashed and written again in one tick of the clock: nothing that stat tells differs. */
static void what_had_just_changed_is_not_trusted(void **state)
{
    struct input_cache cache = {0};
    struct input_cache_entry *entry;

    (void)state;
    scratch_file("input", "first", 5);
    ask(&cache);
    entry = &cache.entries[0];
    entry->hash = hash128("stale", 5);
    entry->hashed = entry->stamp.changed + 2 * SECOND - 1;
    assert_true(hash128_equal(ask(&cache), hash128("first", 5)));
    assert_int_equal(cache.n_read, 2);

    entry->hash = hash128("stale", 5);
    entry->hashed = entry->stamp.changed + 2 * SECOND;
    assert_true(hash128_equal(ask(&cache), hash128("stale", 5)));
    assert_int_equal(cache.n_read, 2);

    /* Of the same size, within the two seconds, as a user would do it. */
    assert_int_equal(unlink(path), 0);
    scratch_file("input", "first", 5);
    ask(&cache);
    scratch_file("input", "other", 5);
    assert_true(hash128_equal(ask(&cache), hash128("other", 5)));
    input_cache_release(&cache);
}

static void a_cache_that_cannot_be_read_is_empty(void **state)
{
    static const char no_hash[] =
        "{\"format\":\"saerl.inputs\",\"version\":1,\"files\":[{\"path\":\"/a\",\"bytes\":1,"
        "\"inode\":1,\"mtime_ns\":1,\"ctime_ns\":1,\"hashed_ns\":9000000000,\"xxh3_128\":\"0g\"}]}";
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"format\":\"saerl.inputs\",\"version\":2,\"files\":[]}",
        "{\"format\":\"saerl.inputs\",\"version\":1,\"files\":{}}",
        "{\"format\":\"saerl.inputs\",\"version\":1,\"files\":[{\"path\":\"/a\"},3,null]}",
        no_hash,
    };
    struct input_cache cache = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        scratch_file("inputs.json", texts[i], strlen(texts[i]));
        assert_int_equal(input_cache_load(&cache, cache_path, NULL), STATUS_OK);
        assert_int_equal(cache.n, 0);
    }
    assert_int_equal(unlink(cache_path), 0);
    assert_int_equal(input_cache_load(&cache, cache_path, NULL), STATUS_OK);
    assert_int_equal(cache.n, 0);
    input_cache_release(&cache);
}

static void nothing_leaks_when_memory_is_short(void **state)
{
    enum status st = STATUS_NOMEM;
    struct input_cache cache = {0};

    (void)state;
    scratch_file("input", "first", 5);
    ask(&cache);
    save_and_load(&cache);
    input_cache_release(&cache);
    for (size_t n = 0; st; n++) {
        struct hash128 hash;
        uint64_t bytes;

        mem_fail_after(n);
        st = input_cache_load(&cache, cache_path, NULL);
        if (!st)
            st = input_cache_hash(&cache, path, &hash, &bytes, NULL);
        if (!st)
            st = input_cache_save(&cache, cache_path, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        input_cache_release(&cache);
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_as_it_was_is_not_read_again),
        cmocka_unit_test(another_time_or_inode_is_read_again),
        cmocka_unit_test(what_had_just_changed_is_not_trusted),
        cmocka_unit_test(a_cache_that_cannot_be_read_is_empty),
        cmocka_unit_test(nothing_leaks_when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
