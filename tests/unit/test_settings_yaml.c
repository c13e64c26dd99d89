#include "settings/yaml.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/settings_sample.h"

/* Each test works in a folder of its own, where recipe.yaml is what the messages show. */
static char folder[64];

static int set_up(void **state)
{
    static struct sample sample;
    char name[] = "/tmp/saerl-yaml-XXXXXX";

    if (!mkdtemp(name) || chdir(name) != 0)
        return -1;
    if (!getcwd(folder, sizeof(folder)))
        return -1;
    sample = (struct sample){0};
    *state = &sample;
    return (int)settings_init(sample_schema, &sample, NULL);
}

static int tear_down(void **state)
{
    char command[128];

    settings_release(sample_schema, *state);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return chdir("/") != 0 || system(command) != 0;
}

static void write_bytes(const char *path, const char *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void write_file(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

static void accept(struct sample *s, const char *text)
{
    struct error err = {0};

    write_file("recipe.yaml", text);
    if (yaml_read_settings("recipe.yaml", sample_schema, s, &err) != STATUS_OK)
        fail_msg("%s\n%s", text, err.message);
}

static void refuse_n(struct sample *s, const char *text, size_t n, const char *message)
{
    struct error err = {0};

    write_bytes("recipe.yaml", text, n);
    if (yaml_read_settings("recipe.yaml", sample_schema, s, &err) != STATUS_INVALID)
        fail_msg("accepted: %s", text);
    assert_string_equal(err.message, message);
}

static void refuse(struct sample *s, const char *text, const char *message)
{
    refuse_n(s, text, strlen(text), message);
}

static void yaml_reads_a_recipe(void **state)
{
    struct sample *s = *state;
    char expected[128];

    accept(s, "\xef\xbb\xbf%YAML 1.1\n"
              "--- # one document\n"
              "version: 1\r\n"
              "name: a plain scalar\n"
              "'seed': 7\n"
              "input:\n"
              "  data: [train.jsonl, '*.zst', ../x, /abs/x, '-']\n"
              "  fields: {id: extra_info.\"a.b\"}\n"
              "sae: {pooling: mean, k: 32,\n"
              "  threshold:\t0.5} # a tab that does not indent does no harm\n"
              "dedup:\n"
              "  near:\n"
              "    jaccard: 0.9\n"
              "difficulty:\n"
              "  window:\n"
              "  - 0\n"
              "  - 0.6\n"
              "  probe: recon\n"
              "...\n");
    assert_string_equal(s->name, "a plain scalar");
    assert_true(s->seed == 7);
    assert_int_equal(s->data.n, 5);
    snprintf(expected, sizeof(expected), "%s/train.jsonl", folder);
    assert_string_equal(s->data.items[0], expected);
    snprintf(expected, sizeof(expected), "%s/*.zst", folder);
    assert_string_equal(s->data.items[1], expected);
    assert_string_equal(s->data.items[2], "/tmp/x");
    assert_string_equal(s->data.items[3], "/abs/x");
    assert_string_equal(s->data.items[4], "-");
    assert_string_equal(s->id, "extra_info.\"a.b\"");
    assert_int_equal(s->pooling, 1);
    assert_int_equal(s->overrides.k, 32);
    assert_true(s->overrides.threshold == 0.5);
    assert_true(s->jaccard == 0.9);
    assert_int_equal(s->window.n, 2);
    assert_string_equal(s->probe, "recon");
}

static void yaml_points_at_wrong_values(void **state)
{
    struct sample *s = *state;

    refuse(s,
           "# 1\n# 2\n# 3\n# 4\n# 5\n# 6\n# 7\n# 8\n# 9\nversion: 1\nname: x\nsae:\n"
           "    pooling:\n      maxx\n",
           "recipe.yaml:14:7: sae.pooling: unknown value 'maxx' (did you mean 'max'?)");
    refuse(s, "version: 1\nclustering: {clusters: 0}\n",
           "recipe.yaml:2:24: clustering.clusters: 0 is below the minimum, 1");
    refuse(s, "version: 1\nname: [\xc3\xa9, a]\n",
           "recipe.yaml:2:7: name: expected text, or null, found a list");
    refuse(s, "version: 1\nsae: {format: \xc3\xa9\xc3\xa9, k: x}\n",
           "recipe.yaml:2:22: sae.k: expected a whole number, 1 or more, or null, found 'x'");
    refuse(s, "version: 1\nseed:\n",
           "recipe.yaml:2:6: seed: expected a whole number, found "
           "nothing");
    refuse(s, "version: 1\nclustering:\n  idf: yes\n",
           "recipe.yaml:3:8: clustering.idf: expected true or false, found 'yes' (write true, "
           "without quotes)");
    refuse(s, "version: 1\ndifficulty:\n  window: [0, 1.5]\n",
           "recipe.yaml:3:15: difficulty.window: 1.5 is above the maximum, 1");
    refuse(s, "version: 1\ninput: {data: [a, {b: c}]}\n",
           "recipe.yaml:2:19: input.data: expected a list of paths, found a mapping (key: value)");
    refuse(s, "version: 1\nseed: {a: 1}\n",
           "recipe.yaml:2:7: seed: is a single setting, found a mapping (key: value)");
}

static void yaml_points_at_wrong_keys(void **state)
{
    struct sample *s = *state;

    refuse(s, "version: 1\n# note\nclusterin: 3\n",
           "recipe.yaml:3:1: unknown key 'clusterin' (did you mean 'clustering'?)");
    refuse(s, "version: 1\nsae: {poling: max}\n",
           "recipe.yaml:2:7: unknown key 'sae.poling' (did you mean 'sae.pooling'?)");
    refuse(s, "version: 1\nsae.pooling: max\n",
           "recipe.yaml:2:1: sae.pooling: a key within a section stands below 'sae:'");
    refuse(s, "version: 1\nsae: max\n",
           "recipe.yaml:2:6: sae: is a section, expected 'key: value' below it, found 'max'");
    refuse(s, "version: 1\nsae:\n",
           "recipe.yaml:2:5: sae: is a section, expected 'key: value' below it, found nothing");
    refuse(s, "version: 1\ndedup: [near]\n",
           "recipe.yaml:2:8: dedup: is a section, expected 'key: value' below it, found a list");
    refuse(s, "version: 1\nseed: 1\nname: x\n\"seed\": 2\n",
           "recipe.yaml:4:1: key 'seed' stands twice, first in line 2");
    refuse(s, "version: 1\nsae:\n  k: 1\n  k: 1\n",
           "recipe.yaml:4:3: sae: key 'k' stands twice, first in line 3");
    refuse(s, "version: 1\n[a]: 2\n", "recipe.yaml:2:1: a list as a key, expected a word");
    refuse(s, "version: 1\n? {a: b}\n: 2\n",
           "recipe.yaml:2:3: a mapping (key: value) as a key, expected a word");
    refuse(s, "version: 1\n'': 2\n", "recipe.yaml:2:1: the text '' as a key, expected a word");
    refuse(s, "version: 1\n<<: {seed: 1}\n",
           "recipe.yaml:2:1: merge keys ('<<') are not supported; use 'extends'");
}

static void yaml_requires_version_1(void **state)
{
    struct sample *s = *state;

    refuse(s, "", "recipe.yaml:1:1: the file is empty, expected 'version: 1'");
    refuse(s, "# nothing\n", "recipe.yaml:2:1: the file is empty, expected 'version: 1'");
    refuse(s, "seed: 1\n", "recipe.yaml:1:1: version: missing, expected 'version: 1'");
    refuse(s, "{}\n", "recipe.yaml:1:1: version: missing, expected 'version: 1'");
    refuse(s, "unknown: x\nversion: 2\n",
           "recipe.yaml:2:10: version: this program reads version 1, found '2'");
    refuse(s, "version: '1'\n",
           "recipe.yaml:1:10: version: this program reads version 1, found the text '1'");
    refuse(s, "[version, 1]\n",
           "recipe.yaml:1:1: expected 'version: 1' and more settings, found a list");
    refuse(s, "hello\n", "recipe.yaml:1:1: expected 'version: 1' and more settings, found 'hello'");
}

static void yaml_refuses_what_it_does_not_need(void **state)
{
    struct sample *s = *state;

    refuse(s, "version: 1\nname: &a x\n",
           "recipe.yaml:2:7: anchors are not supported, found '&a'; use 'extends'");
    refuse(s, "version: 1\nsae: &a {k: 1}\n",
           "recipe.yaml:2:6: anchors are not supported, found '&a'; use 'extends'");
    refuse(s, "version: 1\nname: *a\n",
           "recipe.yaml:2:7: aliases are not supported; text that begins with '*' needs quotes");
    refuse(s, "version: 1\ninput: {data: *.jsonl}\n",
           "recipe.yaml:2:15: aliases are not supported; text that begins with '*' needs quotes");
    refuse(s, "version: 1\nseed: !!int 1\n",
           "recipe.yaml:2:7: tags are not supported, found 'tag:yaml.org,2002:int'");
    refuse(s, "version: 1\nsae: !x {k: 1}\n",
           "recipe.yaml:2:6: tags are not supported, found '!x'");
    refuse(s, "%TAG !e! tag:e.org,2000:\n---\nversion: 1\n",
           "recipe.yaml:1:1: tags are not supported");
    refuse(s, "version: 1\n---\nversion: 1\n", "recipe.yaml:2:1: a second document, expected one");
    refuse(s, "version: 1\nsae:\n\tk: 1\n",
           "recipe.yaml:3:1: found a tab, expected spaces for indentation");
    refuse(s, "version: 1\nsae: {\n  \tk: 1}\n",
           "recipe.yaml:3:3: found a tab, expected spaces for indentation");
    refuse(s, "version: 1\nname: @x\n", "recipe.yaml:2:7: text that begins with '@' needs quotes");
    refuse(s, "version: 1\nname: \"a\n",
           "recipe.yaml:3:1: not valid YAML: found unexpected end of stream while scanning a "
           "quoted scalar");
    refuse(s, "version: 1\nsae: {k: 1\nseed: 3\n",
           "recipe.yaml:3:5: not valid YAML: did not find expected ',' or '}' while parsing a flow "
           "mapping");
    refuse(s, "version: 1\nname: a: b\n",
           "recipe.yaml:2:8: not valid YAML: mapping values are not allowed in this context");
    refuse(s, "version: 1\nname: \"\\q\"\n",
           "recipe.yaml:2:8: not valid YAML: found unknown escape character while parsing a quoted "
           "scalar");
    refuse(s, "version: 1\nname: \"a\\0\"\n", "recipe.yaml:2:7: text with a zero byte");
    refuse(s, "version: 1\nname: x\x01y\n",
           "recipe.yaml:2:8: not valid YAML: control characters are not allowed");
    refuse(s, "version: 1\nname: \xc3\xa9\xff\n", "recipe.yaml:2:8: byte 0xff is not UTF-8");
    refuse_n(s, "version: 1\nname: a\0b\n", 21,
             "recipe.yaml:2:8: not valid YAML: control characters are not allowed");
    refuse_n(s, "\xff\xfev\0", 4, "recipe.yaml:1:1: byte 0xff is not UTF-8");
}

static void yaml_bounds_depth_events_and_size(void **state)
{
    struct sample *s = *state;
    struct text text = {0};

    for (int i = 0; i < 32; i++)
        text_append_char(&text, '[');
    refuse(s, text_string(&text),
           "recipe.yaml:2:1: not valid YAML: did not find expected node content while parsing a "
           "flow node");
    text_append_char(&text, '[');
    refuse(s, text_string(&text), "recipe.yaml:1:33: nested deeper than 32 levels");
    for (int i = 0; i < 100000; i++)
        text_append(&text, i % 2 ? "[" : "{a: ");
    text.length = 200000;
    refuse_n(s, text_string(&text), text.length, "recipe.yaml:1:33: nested deeper than 32 levels");

    text_clear(&text);
    text_append(&text, "version: 1\nname: [");
    for (int i = 0; i < 10000; i++)
        text_append(&text, "a,");
    text_append(&text, "]\n");
    refuse(s, text_string(&text), "recipe.yaml:2:19994: more than 10000 YAML events");

    text_clear(&text);
    text_append(&text, "version: 1\n#");
    while (text.length < 256 << 10)
        text_append_char(&text, 'x');
    accept(s, text_string(&text));
    text_append_char(&text, 'x');
    refuse(s, text_string(&text), "recipe.yaml: larger than 256 KiB");
    text_release(&text);
}

static void yaml_reads_the_base_first(void **state)
{
    struct sample *s = *state;
    char expected[128];

    assert_int_equal(mkdir("base", 0700), 0);
    write_file("base/root.yaml", "version: 1\nseed: 1\nname: root\ninput: {data: [r.jsonl]}\n"
                                 "clustering: {clusters: 3}\n");
    write_file("base/mid.yaml", "name: mid\nversion: 1\nextends: root.yaml\n");
    accept(s, "version: 1\nseed: 5\nextends: base/mid.yaml\n");
    assert_true(s->seed == 5);
    assert_string_equal(s->name, "mid");
    assert_int_equal(s->clusters, 3);
    snprintf(expected, sizeof(expected), "%s/base/r.jsonl", folder);
    assert_string_equal(s->data.items[0], expected);

    write_file("base/root.yaml", "version: 1\nsed: 1\n");
    refuse(s, "version: 1\nextends: base/mid.yaml\n",
           "base/root.yaml:2:1: unknown key 'sed' (did you mean 'seed'?)");
}

static void yaml_refuses_endless_bases(void **state)
{
    struct sample *s = *state;

    refuse(s, "version: 1\nextends: nothing.yaml\n",
           "recipe.yaml:2:10: extends: nothing.yaml: No such file or directory");
    refuse(s, "version: 1\nextends: recipe.yaml\n",
           "recipe.yaml:2:10: extends: recipe.yaml: the recipe extends itself");
    write_file("b.yaml", "version: 1\nextends: ./recipe.yaml\n");
    refuse(s, "version: 1\nextends: b.yaml\n",
           "b.yaml:2:10: extends: ./recipe.yaml: the recipe extends itself");
    refuse(s, "version: 1\nextends: [b.yaml]\n",
           "recipe.yaml:2:10: extends: expected the path of a recipe, found a list");
    refuse(s, "version: 1\nextends: ~\n",
           "recipe.yaml:2:10: extends: expected the path of a recipe, found null");
    refuse(s, "version: 1\nextends: a\nextends: b\n",
           "recipe.yaml:2:10: extends: a: No such file or directory");
    for (char name[] = "0.yaml"; name[0] < '9'; name[0]++) {
        char text[64];

        snprintf(text, sizeof(text), "version: 1\nextends: %c.yaml\n", name[0] + 1);
        write_file(name, text);
    }
    write_file("8.yaml", "version: 1\n");
    accept(s, "version: 1\nextends: 2.yaml\n");
    refuse(s, "version: 1\nextends: 1.yaml\n",
           "7.yaml:2:10: extends: a chain of more than 8 recipes");
}

static void yaml_says_why_a_file_cannot_be_read(void **state)
{
    struct error err = {0};

    assert_int_equal(yaml_read_settings("none.yaml", sample_schema, *state, &err), STATUS_INVALID);
    assert_string_equal(err.message, "none.yaml: No such file or directory");
    assert_int_equal(yaml_read_settings("/", sample_schema, *state, &err), STATUS_INVALID);
    assert_string_equal(err.message, "/: Is a directory");
}

static void yaml_survives_failing_allocation(void **state)
{
    enum status st = STATUS_NOMEM;

    (void)state;
    write_file("b.yaml", "version: 1\nname: \"b\"\n");
    write_file("recipe.yaml", "version: 1\nextends: b.yaml\ninput: {data: [a, b]}\n"
                              "difficulty: {window: [0, 1], probe: x}\nseed: 3\n");
    for (size_t n = 0; st == STATUS_NOMEM; n++) {
        struct sample s = {0};

        assert_int_equal(settings_init(sample_schema, &s, NULL), STATUS_OK);
        mem_fail_after(n);
        st = yaml_read_settings("recipe.yaml", sample_schema, &s, NULL);
        mem_fail_after(SIZE_MAX);
        settings_release(sample_schema, &s);
    }
    assert_int_equal(st, STATUS_OK);
}

#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_FOLDER(yaml_reads_a_recipe),
        IN_A_FOLDER(yaml_points_at_wrong_values),
        IN_A_FOLDER(yaml_points_at_wrong_keys),
        IN_A_FOLDER(yaml_requires_version_1),
        IN_A_FOLDER(yaml_refuses_what_it_does_not_need),
        IN_A_FOLDER(yaml_bounds_depth_events_and_size),
        IN_A_FOLDER(yaml_reads_the_base_first),
        IN_A_FOLDER(yaml_refuses_endless_bases),
        IN_A_FOLDER(yaml_says_why_a_file_cannot_be_read),
        IN_A_FOLDER(yaml_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("settings/yaml", tests, NULL, NULL);
}
