#include "settings/setting.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/settings_sample.h"

static const struct setting_origin from_flag = {.word = "--set"};

static int set_up(void **state)
{
    static struct sample sample;

    sample = (struct sample){0};
    *state = &sample;
    return (int)settings_init(sample_schema, &sample, NULL);
}

static int tear_down(void **state)
{
    settings_release(sample_schema, *state);
    return 0;
}

static void set(struct sample *s, const char *key, const char *value)
{
    struct error err = {0};

    if (settings_set(sample_schema, s, key, value, from_flag, &err) != STATUS_OK)
        fail_msg("%s=%s: %s", key, value, err.message);
}

static void refuse(struct sample *s, const char *key, const char *value, const char *message)
{
    struct error err = {0};

    if (settings_set(sample_schema, s, key, value, from_flag, &err) != STATUS_INVALID)
        fail_msg("%s=%s was accepted", key, value);
    assert_string_equal(err.message, message);
}

static void settings_init_stores_defaults(void **state)
{
    const struct sample *s = *state;

    assert_int_equal(s->version, 1);
    assert_null(s->name);
    assert_true(s->seed == 42);
    assert_null(s->data.items);
    assert_string_equal(s->id, "id");
    assert_int_equal(s->pooling, 0);
    assert_null(s->overrides.format);
    assert_int_equal(s->overrides.k, 0);
    assert_true(isnan(s->overrides.threshold));
    assert_int_equal(s->clusters, 0);
    assert_true(s->idf);
    assert_true(s->mixing == 0.125);
    assert_int_equal(s->control, -1);
    assert_int_equal(s->window.n, 0);
    assert_null(s->window.items);
    assert_int_equal(s->ratios.n, 1);
    assert_true(s->ratios.items[0] == 0.5);
    assert_int_equal(s->extra, 2);
}

static void settings_set_reads_whole_numbers(void **state)
{
    struct sample *s = *state;

    set(s, "seed", "18446744073709551615");
    assert_true(s->seed == UINT64_MAX);
    set(s, "seed", " 0 ");
    assert_true(s->seed == 0);
    set(s, "clustering.clusters", "65536");
    assert_int_equal(s->clusters, 65536);
    set(s, "clustering.clusters", "auto");
    assert_int_equal(s->clusters, 0);
    set(s, "sae.k", "4294967295");
    assert_true(s->overrides.k == UINT32_MAX);
    set(s, "sae.k", "~");
    assert_int_equal(s->overrides.k, 0);
}

static void settings_set_refuses_other_whole_numbers(void **state)
{
    static const char *const others[] = {"abc", "0x10", "1.5",  "1e3", "1_000", "+1",
                                         "١",   "-",    "1 2",  "inf", "true",  "9a",
                                         "a9",  "0b1",  "0o17", "1,2", "--1"};
    struct sample *s = *state;

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        char message[128];

        snprintf(message, sizeof(message), "--set: seed: expected a whole number, found '%s'",
                 others[i]);
        refuse(s, "seed", others[i], message);
    }
    refuse(s, "seed", "", "--set: seed: expected a whole number, found nothing");
    refuse(s, "seed", "null", "--set: seed: expected a whole number, found null");
    refuse(s, "seed", "[1]", "--set: seed: expected a whole number, found a list");
    refuse(s, "seed", "{a: 1}",
           "--set: seed: expected a whole number, found a mapping (key: value)");
    refuse(s, "seed", "007",
           "--set: seed: expected a whole number, found '007' (write it without leading zeros)");
    refuse(s, "seed", "\"7\"",
           "--set: seed: expected a whole number, found the text '7' (a number stands without "
           "quotes)");
    refuse(s, "seed", "18446744073709551616",
           "--set: seed: 18446744073709551616 is above the maximum, 18446744073709551615");
    refuse(s, "seed", "-1", "--set: seed: -1 is below the minimum, 0");
    refuse(s, "sae.k", "4294967296", "--set: sae.k: 4294967296 is above the maximum, 4294967295");
    refuse(s, "clustering.clusters", "0", "--set: clustering.clusters: 0 is below the minimum, 1");
    refuse(s, "clustering.clusters", "65537",
           "--set: clustering.clusters: 65537 is above the maximum, 65536");
    refuse(s, "clustering.clusters", "many",
           "--set: clustering.clusters: expected a whole number, 1 to 65536, or auto, found "
           "'many'");
    refuse(s, "clustering.clusters", "null",
           "--set: clustering.clusters: expected a whole number, 1 to 65536, or auto, found null");
    assert_true(s->seed == 42);
}

static void an_index_tells_none_from_the_first(void **state)
{
    struct {
        int64_t layer;
    } x = {0};
    const struct setting rows[] = {
        {.name = "layer",
         .type = SETTING_INDEX,
         .fallback = "null",
         .empty = "null",
         .help = "which"},
        {.name = NULL},
    };
    const struct setting_section schema[] = {{"", "one", rows, 0}, {0}};
    struct text out = {0};
    struct error err;

    (void)state;
    assert_int_equal(settings_init(schema, &x, NULL), STATUS_OK);
    assert_int_equal(x.layer, -1);
    settings_print_yaml(schema, &x, &out);
    assert_string_equal(text_string(&out), "layer: null\n");
    assert_int_equal(settings_set(schema, &x, "layer", "0", from_flag, NULL), STATUS_OK);
    assert_int_equal(x.layer, 0);
    text_clear(&out);
    settings_print_yaml(schema, &x, &out);
    assert_string_equal(text_string(&out), "layer: 0\n");
    assert_int_equal(settings_set(schema, &x, "layer", "4294967295", from_flag, NULL), STATUS_OK);
    assert_int_equal(x.layer, UINT32_MAX);
    assert_int_equal(settings_set(schema, &x, "layer", "-1", from_flag, &err), STATUS_INVALID);
    assert_string_equal(err.message, "--set: layer: -1 is below the minimum, 0");
    assert_int_equal(settings_set(schema, &x, "layer", "4294967296", from_flag, NULL),
                     STATUS_INVALID);
    assert_int_equal(settings_set(schema, &x, "layer", "1.5", from_flag, NULL), STATUS_INVALID);
    assert_int_equal(settings_set(schema, &x, "layer", "null", from_flag, NULL), STATUS_OK);
    assert_int_equal(x.layer, -1);
    text_release(&out);
}

static void settings_set_reads_numbers(void **state)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"1", 1},         {"-1.5", -1.5},
                 {".5", 0.5},      {"5.", 5},
                 {"1e-3", 1e-3},   {"1E+2", 100},
                 {"-0", 0},        {"0.1", 0.1},
                 {"1e300", 1e300}, {"4.9e-324", 4.9406564584124654e-324}};
    struct sample *s = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        set(s, "sae.threshold", cases[i].text);
        if (s->overrides.threshold != cases[i].value)
            fail_msg("%s gave %g", cases[i].text, s->overrides.threshold);
    }
    set(s, "sae.threshold", "null");
    assert_true(isnan(s->overrides.threshold));
}

static void settings_set_refuses_other_numbers(void **state)
{
    static const char *const others[] = {"nan", ".nan", "inf",  ".inf", "0x1p3", "1e",  "e1",
                                         ".",   "-",    "1..2", "1.5f", "1,5",   "1 2", "+1"};
    struct sample *s = *state;

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        char message[128];

        snprintf(message, sizeof(message),
                 "--set: output.mixing: expected a number, 0 to 1, found '%s'", others[i]);
        refuse(s, "output.mixing", others[i], message);
    }
    refuse(s, "sae.threshold", "1e999", "--set: sae.threshold: 1e999 is too large for a number");
    refuse(s, "output.mixing", "1.01", "--set: output.mixing: 1.01 is above the maximum, 1");
    refuse(s, "output.mixing", "-0.5", "--set: output.mixing: -0.5 is below the minimum, 0");
    refuse(s, "dedup.near.jaccard", "0", "--set: dedup.near.jaccard: 0 is below the minimum, 0.01");
}

static void settings_set_reads_true_and_false_only(void **state)
{
    struct sample *s = *state;

    set(s, "clustering.idf", "false");
    assert_false(s->idf);
    set(s, "clustering.idf", "true");
    assert_true(s->idf);
    refuse(s, "clustering.idf", "yes",
           "--set: clustering.idf: expected true or false, found 'yes' (write true, without "
           "quotes)");
    refuse(s, "clustering.idf", "Off",
           "--set: clustering.idf: expected true or false, found 'Off' (write false, without "
           "quotes)");
    refuse(s, "clustering.idf", "'true'",
           "--set: clustering.idf: expected true or false, found the text 'true' (write true, "
           "without quotes)");
    refuse(s, "clustering.idf", "1", "--set: clustering.idf: expected true or false, found '1'");
}

static void settings_set_names_the_nearest_value(void **state)
{
    struct sample *s = *state;

    set(s, "sae.pooling", "sum");
    assert_int_equal(s->pooling, 2);
    refuse(s, "sae.pooling", "maxx",
           "--set: sae.pooling: unknown value 'maxx' (did you mean 'max'?)");
    refuse(s, "sae.pooling", "median",
           "--set: sae.pooling: unknown value 'median' (did you mean 'mean'?)");
    refuse(s, "sae.pooling", "attention",
           "--set: sae.pooling: expected one of max, mean, sum, found 'attention'");
    refuse(s, "sae.pooling", "null",
           "--set: sae.pooling: expected one of max, mean, sum, found null");
    set(s, "difficulty.control", "length");
    assert_int_equal(s->control, 1);
    set(s, "difficulty.control", "null");
    assert_int_equal(s->control, -1);
}

static void settings_set_reads_text(void **state)
{
    struct sample *s = *state;

    set(s, "name", "a: b # c");
    assert_string_equal(s->name, "a: b # c");
    set(s, "name", "'it''s'");
    assert_string_equal(s->name, "it's");
    set(s, "name", "\"tab\\t\\u00e9\"");
    assert_string_equal(s->name, "tab\t\xc3\xa9");
    set(s, "name", "\"null\"");
    assert_string_equal(s->name, "null");
    set(s, "name", "null");
    assert_null(s->name);
    set(s, "name", "42");
    assert_string_equal(s->name, "42");
    set(s, "name", "");
    assert_null(s->name);
    set(s, "name", "\"\"");
    assert_string_equal(s->name, "");
    set(s, "sae.format", "saelens");
    assert_string_equal(s->overrides.format, "saelens");
    set(s, "sae.format", "\"auto\"");
    assert_null(s->overrides.format);
    refuse(s, "name", "[a]", "--set: name: expected text, or null, found a list");
    refuse(s, "name", "\"a\\0b\"", "--set: name: text with a zero byte");
    refuse(s, "name", "a\xff", "--set: name: not UTF-8");
    refuse(s, "name", "'open",
           "--set: name: not valid YAML: found unexpected end of stream while scanning a quoted "
           "scalar");
    refuse(s, "name", "'a' 'b'",
           "--set: name: not valid YAML: did not find expected <document start>");
    refuse(s, "input.fields.id", "null", "--set: input.fields.id: expected text, found null");
}

static void settings_set_reads_lists(void **state)
{
    struct sample *s = *state;

    set(s, "output.redact", "[a, 'b, c', \"d\"]");
    assert_int_equal(s->redact.n, 3);
    assert_string_equal(s->redact.items[1], "b, c");
    set(s, "output.redact", "prompt");
    assert_int_equal(s->redact.n, 1);
    set(s, "output.redact", "[]");
    assert_int_equal(s->redact.n, 0);
    assert_null(s->redact.items);
    set(s, "difficulty.window", "[0, 0.6]");
    assert_int_equal(s->window.n, 2);
    assert_true(s->window.items[1] == 0.6);
    refuse(s, "difficulty.window", "[0]", "--set: difficulty.window: 1 item, expected 2");
    refuse(s, "difficulty.window", "[]", "--set: difficulty.window: 0 items, expected 2");
    refuse(s, "difficulty.window", "[0, 2]", "--set: difficulty.window: 2 is above the maximum, 1");
    refuse(s, "difficulty.window", "[0, [1]]",
           "--set: difficulty.window: expected 2 numbers, 0 to 1, or null, found a list");
    refuse(s, "difficulty.window", "[0, 1",
           "--set: difficulty.window: not valid YAML: did not find expected ',' or ']' while "
           "parsing a flow sequence");
    assert_int_equal(s->window.n, 2);
    set(s, "difficulty.window", "null");
    assert_int_equal(s->window.n, 0);
    set(s, "difficulty.extra", "[recon, length]");
    assert_int_equal(s->extra, 3);
    set(s, "difficulty.extra", "recon");
    assert_int_equal(s->extra, 1);
    set(s, "difficulty.extra", "[]");
    assert_int_equal(s->extra, 0);
    refuse(s, "difficulty.extra", "[lenght]",
           "--set: difficulty.extra: unknown value 'lenght' (did you mean 'length'?)");
    refuse(s, "output.redact", "[*a]",
           "--set: output.redact: aliases are not supported; text that begins with '*' needs "
           "quotes");
    refuse(s, "output.redact", "[*.jsonl]",
           "--set: output.redact: aliases are not supported; text that begins with '*' needs "
           "quotes");
    refuse(s, "output.redact", "[&a b]",
           "--set: output.redact: anchors are not supported, found '&a'; use 'extends'");
    refuse(s, "output.redact", "[!!str b]",
           "--set: output.redact: tags are not supported, found 'tag:yaml.org,2002:str'");
}

static void settings_set_makes_paths_absolute(void **state)
{
    struct sample *s = *state;
    char current[PATH_MAX], expected[PATH_MAX + 32];

    assert_non_null(getcwd(current, sizeof(current)));
    set(s, "difficulty.probe", "./a//b/");
    snprintf(expected, sizeof(expected), "%s/a/b", current);
    assert_string_equal(s->probe, expected);
    set(s, "difficulty.probe", "recon");
    assert_string_equal(s->probe, "recon");
    set(s, "input.data", "*.jsonl");
    snprintf(expected, sizeof(expected), "%s/*.jsonl", current);
    assert_string_equal(s->data.items[0], expected);
    set(s, "input.data", "[-, /x]");
    assert_string_equal(s->data.items[0], "-");
    assert_string_equal(s->data.items[1], "/x");
    refuse(s, "input.data", "['']",
           "--set: input.data: expected a list of paths, found the text ''");
    refuse(s, "input.data", "[null]", "--set: input.data: expected a list of paths, found null");
}

static void settings_set_names_the_nearest_key(void **state)
{
    struct sample *s = *state;

    refuse(s, "clusterin", "1", "--set: unknown key 'clusterin' (did you mean 'clustering'?)");
    refuse(s, "sae.poling", "1", "--set: unknown key 'sae.poling' (did you mean 'sae.pooling'?)");
    refuse(s, "pooling", "1", "--set: unknown key 'pooling' (did you mean 'sae.pooling'?)");
    refuse(s, "sea.pooling", "1", "--set: unknown key 'sea.pooling' (did you mean 'sae.pooling'?)");
    refuse(s, "sed", "1", "--set: unknown key 'sed' (did you mean 'seed'?)");
    refuse(s, "dedup.nearest.jaccard", "1",
           "--set: unknown key 'dedup.nearest.jaccard' (did you mean 'dedup.near.jaccard'?)");
    refuse(s, "whatever.else", "1", "--set: unknown key 'whatever.else'");
    refuse(s, "", "1",
           "--set: unknown key nothing, expected one of version, name, seed, input, sae, dedup, "
           "clustering, difficulty, output");
    refuse(s, "sae.width", "1",
           "--set: unknown key 'sae.width', expected one of pooling, format, k, threshold");
    refuse(s, "sae", "1", "--set: sae: is a section, expected one of its keys");
    refuse(s, "dedup", "1", "--set: dedup: is a section, expected one of its keys");
    refuse(s, "sae.", "1", "--set: unknown key 'sae.' (did you mean 'sae'?)");
}

static void settings_environment_reaches_keys(void **state)
{
    char *const good[] = {"PATH=/bin", "SAERL_SEED=7", "SAERL_DEDUP_NEAR_JACCARD=0.5",
                          "saerl_seed=9", "SAERL_sae_k=3",
                          /* like no key: somebody else's */
                          "SAERL_INSTALL_ROOT=/opt", "SAERL_=1", NULL};
    static const struct {
        const char *entry, *message;
    } bad[] = {
        {"SAERL_SED=1", "environment: no setting is called SAERL_SED (did you mean SAERL_SEED?)"},
        {"SAERL_SEED=x", "SAERL_SEED: seed: expected a whole number, found 'x'"},
    };
    struct sample *s = *state;

    assert_int_equal(settings_set_environment(sample_schema, s, good, NULL), STATUS_OK);
    assert_true(s->seed == 7);
    assert_true(s->jaccard == 0.5);
    assert_int_equal(s->overrides.k, 3);
    assert_int_equal(settings_set_environment(sample_schema, s, NULL, NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        char entry[64];
        char *const environment[] = {entry, NULL};
        struct error err = {0};

        snprintf(entry, sizeof(entry), "%s", bad[i].entry);
        assert_int_equal(settings_set_environment(sample_schema, s, environment, &err),
                         STATUS_INVALID);
        assert_string_equal(err.message, bad[i].message);
    }
}

static void setting_nearest_knows_its_limits(void **state)
{
    static const char *const names[] = {"easy_to_hard", "hard_to_easy", "random", "none", NULL};

    (void)state;
    assert_string_equal(setting_nearest("easytohard", names), "easy_to_hard");
    assert_string_equal(setting_nearest("rand", names), "random");
    assert_string_equal(setting_nearest("non", names), "none");
    assert_null(setting_nearest("x", names));
    assert_null(setting_nearest("", names));
    assert_null(setting_nearest("sorted", names));
}

static void string_list_grows(void **state)
{
    struct string_list list = {0};

    (void)state;
    assert_int_equal(string_list_append(&list, "a", NULL), STATUS_OK);
    assert_int_equal(string_list_append(&list, "b", NULL), STATUS_OK);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.items[1], "b");
    string_list_release(&list);
    assert_null(list.items);
}

static void settings_copy_shares_nothing(void **state)
{
    struct sample *s = *state;
    struct sample copy = {0};
    struct text before = {0}, after = {0};

    assert_int_equal(settings_set(sample_schema, s, "name", "a name", from_flag, NULL), STATUS_OK);
    assert_int_equal(settings_set(sample_schema, s, "input.data", "[a, b]", from_flag, NULL),
                     STATUS_OK);
    assert_int_equal(
        settings_set(sample_schema, s, "difficulty.window", "[0.25, 1]", from_flag, NULL),
        STATUS_OK);
    assert_int_equal(settings_set(sample_schema, s, "clustering.clusters", "7", from_flag, NULL),
                     STATUS_OK);
    settings_print_yaml(sample_schema, s, &before);
    assert_int_equal(settings_copy(sample_schema, &copy, s, NULL), STATUS_OK);
    /* Twice: what the copy held is released. */
    assert_int_equal(settings_copy(sample_schema, &copy, s, NULL), STATUS_OK);
    assert_ptr_not_equal(copy.name, s->name);
    assert_ptr_not_equal(copy.data.items, s->data.items);
    assert_ptr_not_equal(copy.window.items, s->window.items);
    assert_int_equal(settings_set(sample_schema, s, "name", "another", from_flag, NULL), STATUS_OK);
    s->window.items[0] = 0.5;
    settings_print_yaml(sample_schema, &copy, &after);
    assert_int_equal(text_check(&after, NULL), STATUS_OK);
    assert_string_equal(text_string(&before), text_string(&after));
    text_release(&before);
    text_release(&after);
    settings_release(sample_schema, &copy);
}

/* Every case that may run out of memory, at every allocation it makes. */
static enum status all_of_it(struct sample *s)
{
    char *const environment[] = {"SAERL_INPUT_DATA=[a, b]", NULL};
    struct sample copy = {0};
    enum status st = settings_init(sample_schema, s, NULL);

    if (!st)
        st = settings_set(sample_schema, s, "output.redact", "[a, b]", from_flag, NULL);
    if (!st)
        st = settings_set(sample_schema, s, "difficulty.window", "[0, 1]", from_flag, NULL);
    if (!st)
        st = settings_set_environment(sample_schema, s, environment, NULL);
    if (!st)
        st = settings_resolve_paths(sample_schema, s, "/base", NULL);
    if (!st && settings_set(sample_schema, s, "sed", "1", from_flag, NULL) == STATUS_NOMEM)
        st = STATUS_NOMEM;
    if (!st)
        st = settings_copy(sample_schema, &copy, s, NULL);
    settings_release(sample_schema, &copy);
    return st;
}

static void settings_survive_failing_allocation(void **state)
{
    enum status st = STATUS_NOMEM;

    (void)state;
    for (size_t n = 0; st == STATUS_NOMEM; n++) {
        struct sample s = {0};

        mem_fail_after(n);
        st = all_of_it(&s);
        mem_fail_after(SIZE_MAX);
        settings_release(sample_schema, &s);
    }
    assert_int_equal(st, STATUS_OK);
}

#define WITH_SAMPLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SAMPLE(settings_init_stores_defaults),
        WITH_SAMPLE(settings_set_reads_whole_numbers),
        WITH_SAMPLE(settings_set_refuses_other_whole_numbers),
        WITH_SAMPLE(settings_set_reads_numbers),
        WITH_SAMPLE(settings_set_refuses_other_numbers),
        WITH_SAMPLE(settings_set_reads_true_and_false_only),
        WITH_SAMPLE(settings_set_names_the_nearest_value),
        WITH_SAMPLE(settings_set_reads_text),
        WITH_SAMPLE(settings_set_reads_lists),
        WITH_SAMPLE(settings_set_makes_paths_absolute),
        WITH_SAMPLE(settings_set_names_the_nearest_key),
        WITH_SAMPLE(settings_environment_reaches_keys),
        WITH_SAMPLE(settings_copy_shares_nothing),
        cmocka_unit_test(an_index_tells_none_from_the_first),
        cmocka_unit_test(setting_nearest_knows_its_limits),
        cmocka_unit_test(string_list_grows),
        cmocka_unit_test(settings_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("settings/setting", tests, NULL, NULL);
}
