#include <math.h>

#include "base/mem.h"
#include "base/text.h"
#include "settings/setting.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/settings_sample.h"

static const struct setting_origin from_test = {.word = "test"};

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

static void yaml_is_nested_in_schema_order(void **state)
{
    struct text out = {0};

    settings_print_yaml(sample_schema, *state, &out);
    assert_string_equal(text_string(&out), "version: 1\n"
                                           "name: null\n"
                                           "seed: 42\n"
                                           "input:\n"
                                           "  data: []\n"
                                           "  fields:\n"
                                           "    id: id\n"
                                           "sae:\n"
                                           "  pooling: max\n"
                                           "  format: auto\n"
                                           "  k: null\n"
                                           "  threshold: null\n"
                                           "dedup:\n"
                                           "  near:\n"
                                           "    jaccard: 0.8\n"
                                           "clustering:\n"
                                           "  clusters: auto\n"
                                           "  idf: true\n"
                                           "difficulty:\n"
                                           "  probe: null\n"
                                           "  window: null\n"
                                           "  ratios: [0.5]\n"
                                           "  extra: [length]\n"
                                           "  control: null\n"
                                           "output:\n"
                                           "  redact: []\n"
                                           "  mixing: 0.125\n");
    text_release(&out);
}

static void text_is_quoted_where_another_reader_might_misread_it(void **state)
{
    static const struct {
        const char *value, *printed;
    } cases[] = {
        {"train", "train"},
        {"/a/b-c_d.e+f", "/a/b-c_d.e+f"},
        {"", "\"\""},
        {"null", "\"null\""},
        {"True", "\"True\""},
        {"yes", "\"yes\""},
        {"NaN", "\"NaN\""},
        {"12", "\"12\""},
        {".5", "\".5\""},
        {"-x", "\"-x\""},
        {"- x", "\"- x\""},
        {"~", "\"~\""},
        {"a: b", "\"a: b\""},
        {"a #b", "\"a #b\""},
        {"*.jsonl", "\"*.jsonl\""},
        {" a ", "\" a \""},
        {"a\"\\b", "\"a\\\"\\\\b\""},
        {"a\nb\tc", "\"a\\nb\\tc\""},
        {"\x01\x7f", "\"\\u0001\\u007f\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbe", "\"\\u0085\\u2028\\ufeff\\ufffe\""},
    };
    const struct setting row = {.type = SETTING_STRING, .empty = "null"};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *value = cases[i].value;
        struct text out = {0};

        setting_print(&row, &value, &out);
        assert_string_equal(text_string(&out), cases[i].printed);
        text_release(&out);
    }
}

static void lists_and_sets_are_flow_sequences(void **state)
{
    struct sample *s = *state;
    struct text out = {0};

    assert_int_equal(
        settings_set(sample_schema, s, "input.data", "[/a, '/b c', '-']", from_test, NULL),
        STATUS_OK);
    setting_print(&sample_input[0], s, &out);
    assert_string_equal(text_string(&out), "[/a, \"/b c\", \"-\"]");
    text_clear(&out);
    s->extra = 3;
    setting_print(&sample_difficulty[3], s, &out);
    assert_string_equal(text_string(&out), "[recon, length]");
    text_clear(&out);
    s->extra = 0;
    setting_print(&sample_difficulty[3], s, &out);
    assert_string_equal(text_string(&out), "[]");
    text_release(&out);
}

static const struct setting_section two_sections[] = {
    {"clustering", "Groups", sample_clustering, 0},
    {"input", "Where samples come from", sample_input, 0},
    {0},
};

static void markdown_has_a_table_a_section(void **state)
{
    struct text out = {0};

    (void)state;
    settings_print_markdown(two_sections, &out);
    assert_string_equal(text_string(&out),
                        "\n## `clustering`\n\nGroups.\n\n"
                        "| key | default | takes | meaning |\n"
                        "| --- | --- | --- | --- |\n"
                        "| `clusters` | `auto` | a whole number, 1 to 65536, or auto | how many |\n"
                        "| `idf` | `true` | true or false | weights |\n"
                        "\n## `input`\n\nWhere samples come from.\n\n"
                        "| key | default | takes | meaning |\n"
                        "| --- | --- | --- | --- |\n"
                        "| `data` | `[]` | a list of paths | files \\| globs |\n");
    text_release(&out);
}

static void help_has_every_key(void **state)
{
    struct text out = {0};

    (void)state;
    settings_print_help(two_sections, &out);
    assert_string_equal(text_string(&out),
                        "  clustering.clusters = auto  (a whole number, 1 to 65536, or auto)\n"
                        "      how many\n"
                        "  clustering.idf = true  (true or false)\n"
                        "      weights\n"
                        "  input.data = []  (a list of paths)\n"
                        "      files | globs\n");
    text_release(&out);
}

static void printing_survives_failing_allocation(void **state)
{
    enum status st = STATUS_NOMEM;

    for (size_t n = 0; st == STATUS_NOMEM; n++) {
        struct text out = {0};

        mem_fail_after(n);
        settings_print_yaml(sample_schema, *state, &out);
        settings_print_markdown(sample_schema, &out);
        st = text_check(&out, NULL);
        assert_int_equal(st == STATUS_NOMEM, mem_failed());
        mem_fail_after(SIZE_MAX);
        text_release(&out);
    }
}

#define WITH_SAMPLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SAMPLE(yaml_is_nested_in_schema_order),
        cmocka_unit_test(text_is_quoted_where_another_reader_might_misread_it),
        WITH_SAMPLE(lists_and_sets_are_flow_sequences),
        cmocka_unit_test(markdown_has_a_table_a_section),
        cmocka_unit_test(help_has_every_key),
        WITH_SAMPLE(printing_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("settings/print", tests, NULL, NULL);
}
