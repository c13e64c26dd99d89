/*
 * The lock file reads back: print(parse(print(x))) = print(x) for random x, text as nasty as can
 * be. The same for single values through settings_set().
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/text.h"
#include "settings/setting.h"
#include "settings/yaml.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/settings_sample.h"

#define N_SEEDS 400

static const char *const pieces[] = {
    "a",
    "b c",
    "null",
    "~",
    "true",
    "-",
    "- ",
    "#",
    " #",
    ": ",
    ":",
    "\"",
    "'",
    "\\",
    "\n",
    "\t",
    "\r",
    "{",
    "}",
    "[",
    "]",
    ",",
    "*x",
    "&x",
    "!",
    "%",
    "@",
    "`",
    "|",
    ">",
    "0",
    "1e5",
    ".",
    "..",
    "/",
    "\x01",
    "\x7f",
    "\xc2\x85",
    "\xe2\x80\xa8",
    "\xef\xbb\xbf",
    "yes",
    "---",
    "...",
    "?",
    "<<",
    "$",
    "\xc3\xa9",
    "\xf0\x9f\x98\x80",
    "auto",
    "0x10",
    "\\u0041",
    "\xc2\xa0",
    "\xef\xbf\xbe",
    "recon",
    "  ",
    "=",
};

static char *random_text(struct rng *rng)
{
    struct text t = {0};
    uint64_t n = rng_below(rng, 6);

    for (uint64_t i = 0; i < n; i++)
        text_append(&t, pieces[rng_below(rng, sizeof(pieces) / sizeof(*pieces))]);
    return t.data ? t.data : mem_strdup("");
}

/* As paths are once read: absolute, without "." and the like. */
static char *random_path(struct rng *rng)
{
    struct text t = {0};
    uint64_t n = 1 + rng_below(rng, 4);

    if (rng_below(rng, 8) == 0)
        return mem_strdup("-");
    for (uint64_t i = 0; i < n; i++) {
        char *part = random_text(rng);

        if (!strchr(part, '/') && *part && strcmp(part, ".") != 0 && strcmp(part, "..") != 0) {
            text_append_char(&t, '/');
            text_append(&t, part);
        }
        mem_free(part);
    }
    return t.data ? t.data : mem_strdup("/");
}

static double random_double(struct rng *rng, const struct setting *row)
{
    double x = rng_double(rng);

    if (row->min == 0 && row->max == 0)
        return ldexp(x - 0.5, (int)rng_below(rng, 600) - 300);
    return row->min + x * (row->max - row->min);
}

static uint64_t random_whole(struct rng *rng, const struct setting *row)
{
    uint64_t x = rng_u64(rng) >> rng_below(rng, 64);
    uint64_t low = (uint64_t)row->min, high = UINT64_MAX;

    if (row->max > 0)
        high = (uint64_t)row->max;
    else if (row->type == SETTING_U32 || row->type == SETTING_INDEX)
        high = UINT32_MAX;
    return x < low ? low : x > high ? high : x;
}

static void random_value(struct rng *rng, const struct setting *row, void *section)
{
    void *place = (char *)section + row->offset;
    bool empty = row->empty && rng_below(rng, 4) == 0;
    size_t n_names = 0;
    size_t n;

    while (row->names && row->names[n_names])
        n_names++;
    n = row->length_min == row->length_max ? row->length_min : 0;
    if (n == 0)
        n = row->length_min + rng_below(rng, 4);
    if (empty)
        n = 0;
    switch (row->type) {
    case SETTING_BOOL:
        *(bool *)place = rng_below(rng, 2) != 0;
        break;
    case SETTING_U32:
        *(uint32_t *)place = empty ? 0 : (uint32_t)random_whole(rng, row);
        break;
    case SETTING_U64:
        *(uint64_t *)place = empty ? 0 : random_whole(rng, row);
        break;
    case SETTING_INDEX:
        *(int64_t *)place = empty ? -1 : (int64_t)random_whole(rng, row);
        break;
    case SETTING_DOUBLE:
        *(double *)place = empty ? (double)NAN : random_double(rng, row);
        break;
    case SETTING_ENUM:
        *(int *)place = empty ? -1 : (int)rng_below(rng, n_names);
        break;
    case SETTING_ENUMS:
        *(uint32_t *)place = (uint32_t)rng_below(rng, UINT64_C(1) << n_names);
        break;
    case SETTING_STRING:
    case SETTING_PATH:
        mem_free(*(char **)place);
        *(char **)place = empty                          ? NULL
                          : row->type == SETTING_STRING  ? random_text(rng)
                          : n_names && rng_below(rng, 2) ? mem_strdup(row->names[0])
                                                         : random_path(rng);
        break;
    case SETTING_STRINGS:
    case SETTING_PATHS:
        string_list_release(place);
        for (size_t i = 0; i < n; i++) {
            char *item = row->type == SETTING_STRINGS ? random_text(rng) : random_path(rng);

            assert_int_equal(string_list_append(place, item, NULL), STATUS_OK);
            mem_free(item);
        }
        break;
    case SETTING_DOUBLES:
        double_list_release(place);
        if (n) {
            struct double_list list = {.items = mem_alloc(n, sizeof(double)), .n = n};

            assert_non_null(list.items);
            for (size_t i = 0; i < n; i++)
                list.items[i] = random_double(rng, row);
            *(struct double_list *)place = list;
        }
        break;
    }
}

static void random_sample(struct sample *s, uint64_t seed)
{
    struct rng rng;

    *s = (struct sample){0};
    assert_int_equal(settings_init(sample_schema, s, NULL), STATUS_OK);
    rng_init(&rng, seed, "test.settings", 0);
    for (const struct setting_section *section = sample_schema; section->path; section++) {
        for (const struct setting *row = section->settings; row->name; row++)
            random_value(&rng, row, (char *)s + section->offset);
    }
}

static void write_text(const char *path, const struct text *text)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(text->data, 1, text->length, file), text->length);
    assert_int_equal(fclose(file), 0);
}

static void a_printed_document_reads_back(void **state)
{
    char path[] = "/tmp/saerl-print-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        struct text once = {0}, twice = {0};
        struct error err = {0};
        struct sample x, y = {0};

        random_sample(&x, seed);
        settings_print_yaml(sample_schema, &x, &once);
        write_text(path, &once);
        assert_int_equal(settings_init(sample_schema, &y, NULL), STATUS_OK);
        if (yaml_read_settings(path, sample_schema, &y, &err) != STATUS_OK)
            fail_msg("seed %llu: %s\n%s", (unsigned long long)seed, err.message, once.data);
        settings_print_yaml(sample_schema, &y, &twice);
        if (strcmp(once.data, twice.data) != 0)
            fail_msg("seed %llu:\n%s\nreads as\n%s", (unsigned long long)seed, once.data,
                     twice.data);
        text_release(&once);
        text_release(&twice);
        settings_release(sample_schema, &x);
        settings_release(sample_schema, &y);
    }
    assert_int_equal(unlink(path), 0);
}

static void set_back(const struct setting_section *section, const struct setting *row,
                     const struct sample *x, struct sample *y, uint64_t seed)
{
    const struct setting_origin origin = {.word = "test"};
    struct text key = {0}, once = {0}, twice = {0};
    struct error err = {0};

    text_appendf(&key, "%s%s%s", section->path, *section->path ? "." : "", row->name);
    setting_print(row, (const char *)x + section->offset, &once);
    if (settings_set(sample_schema, y, key.data, once.data, origin, &err) != STATUS_OK)
        fail_msg("seed %llu: %s: %s", (unsigned long long)seed, once.data, err.message);
    setting_print(row, (const char *)y + section->offset, &twice);
    if (strcmp(once.data, twice.data) != 0)
        fail_msg("seed %llu: %s: %s reads as %s", (unsigned long long)seed, key.data, once.data,
                 twice.data);
    text_release(&key);
    text_release(&once);
    text_release(&twice);
}

static void a_printed_value_reads_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        struct sample x, y = {0};

        random_sample(&x, seed);
        assert_int_equal(settings_init(sample_schema, &y, NULL), STATUS_OK);
        for (const struct setting_section *s = sample_schema; s->path; s++) {
            for (const struct setting *row = s->settings; row->name; row++)
                set_back(s, row, &x, &y, seed);
        }
        settings_release(sample_schema, &x);
        settings_release(sample_schema, &y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_printed_document_reads_back),
        cmocka_unit_test(a_printed_value_reads_back),
    };

    return cmocka_run_group_tests_name("settings/print, properties", tests, NULL, NULL);
}
