#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "formats/atomic_file.h"
#include "formats/label_import.h"
#include "formats/label_layouts.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* "a/b/c" below the scratch directory, folders made. */
static const char *put(const char *name, const char *bytes)
{
    char folder[512];
    char *slash;

    snprintf(folder, sizeof(folder), "%s", scratch_path(name));
    slash = strrchr(folder, '/');
    assert_non_null(slash);
    *slash = '\0';
    assert_int_equal(directory_make(folder, NULL), STATUS_OK);
    return scratch_file(name, bytes, strlen(bytes));
}

/* "4:proofs|1:" for the list as it stands. */
static void expect_list(const struct label_list *list, const char *expected)
{
    struct text found = {0};

    for (size_t i = 0; i < list->n; i++)
        text_appendf(&found, "%s%u:%s", i ? "|" : "", list->items[i].latent,
                     text_string(&list->text) + list->items[i].begin);
    assert_string_equal(text_string(&found), expected);
    text_release(&found);
}

static void expect(const char *path, const char *hook, const char *expected)
{
    struct label_list list = {0};
    struct error err = {0};

    if (label_import(&list, path, hook, &err))
        fail_msg("%s", err.message);
    expect_list(&list, expected);
    label_list_release(&list);
}

static void refuse(const char *path, const char *hook, enum status expected, const char *words)
{
    struct label_list list = {.d_sae = 100};
    struct error err = {0};

    assert_int_equal(label_import(&list, path, hook, &err), expected);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not contain '%s'", err.message, words);
    label_list_release(&list);
}

static void an_index_is_decimal_digits(void **state)
{
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x1",
                                      "1.0",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    uint64_t x;

    (void)state;
    assert_true(label_parse_index("0", 1, &x) && x == 0);
    assert_true(label_parse_index("0042", 4, &x) && x == 42);
    assert_true(label_parse_index("18446744073709551615", 20, &x) && x == UINT64_MAX);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(label_parse_index(bad[i], strlen(bad[i]), &x));
}

static void names_of_files_tell_layouts(void **state)
{
    (void)state;
    assert_true(neuronpedia_is_batch("batch-0.jsonl.gz"));
    assert_true(neuronpedia_is_batch("batch-12.jsonl"));
    assert_false(neuronpedia_is_batch("batch-.jsonl"));
    assert_false(neuronpedia_is_batch("batch-1.json"));
    assert_false(neuronpedia_is_batch("batch-1.jsonl.gz.part"));
    assert_true(delphi_is_label("layers.3_latent7.txt"));
    assert_true(delphi_is_label("a_latents_latent12.txt"));
    assert_false(delphi_is_label("_latent7.txt"));
    assert_false(delphi_is_label("layers.3_latent.txt"));
    assert_false(delphi_is_label("layers.3_latent7.json"));
}

static void neuronpedia_is_read_by_number_not_by_name(void **state)
{
    struct label_list list = {0};

    (void)state;
    put("np/v1/m/3-res/source.jsonl",
        "{\"id\":\"2-res\",\"modelId\":\"m\",\"saelensSaeId\":\"blocks.2.hook_x\"}\n"
        "{\"id\":\"3-res\",\"modelId\":\"m\",\"saelensRelease\":\"r\","
        "\"saelensSaeId\":\"blocks.3.hook_x\"}\n");
    put("np/v1/m/3-res/features/batch-0.jsonl", "not for us");
    put("np/v1/m/3-res/explanations/batch-10.jsonl",
        "{\"modelId\":\"m\",\"layer\":\"3-res\",\"index\":\"0\",\"description\":\"later\"}\n");
    put("np/v1/m/3-res/explanations/batch-2.jsonl",
        "{\"modelId\":\"m\",\"layer\":\"3-res\",\"index\":\"0\",\"description\":\"first\"}\n"
        "{\"modelId\":\"m\",\"layer\":\"3-res\",\"index\":17,\"description\":null}\n");
    expect(scratch_path("np"), NULL, "0:first|17:|0:later");
    expect(scratch_path("np/v1/m/3-res/"), NULL, "0:first|17:|0:later");
    expect(scratch_path("np/v1/m/3-res/explanations"), NULL, "0:first|17:|0:later");
    expect(scratch_path("np/v1/m/3-res/explanations/batch-10.jsonl"), NULL, "0:later");
    assert_int_equal(label_import(&list, scratch_path("np"), NULL, NULL), STATUS_OK);
    assert_string_equal(list.origin.layout, "neuronpedia");
    assert_string_equal(list.origin.model, "m");
    assert_string_equal(list.origin.source, "3-res");
    assert_string_equal(list.origin.release, "r");
    assert_string_equal(list.origin.sae_id, "blocks.3.hook_x");
    assert_string_equal(list.origin.hook, "blocks.3.hook_x");
    label_list_release(&list);
    refuse(scratch_path("np"), "blocks.4.hook_x", STATUS_INVALID,
           "the labels belong to hook 'blocks.3.hook_x', not 'blocks.4.hook_x'");
}

static void several_exports_are_listed(void **state)
{
    const char *row = "{\"index\":\"0\",\"description\":\"x\"}\n";

    (void)state;
    put("many/s/explanations/batch-0.jsonl", row);
    put("many/s/explanations-gpt-4o-mini/batch-0.jsonl", row);
    put("many/labels/a_latent0.txt", "\"x\"");
    refuse(scratch_path("many"), NULL, STATUS_INVALID,
           "3 exports, 'labels', 's/explanations', 's/explanations-gpt-4o-mini': name one of them");
    expect(scratch_path("many/s/explanations-gpt-4o-mini"), NULL, "0:x");
    put("deep/1/2/3/4/explanations/batch-0.jsonl", row);
    refuse(scratch_path("deep"), NULL, STATUS_FORMAT, "no labels found");
    expect(scratch_path("deep/1"), NULL, "0:x");
}

static void neuronpedia_rows_are_checked(void **state)
{
    static const struct {
        const char *rows, *words;
    } bad[] = {
        {"[]\n", "x.jsonl':1: an array, expected an object"},
        {"{\"description\":\"x\"}\n", "no 'index'"},
        {"{\"index\":\"0\"}\n", "no 'description': not the row of an explanation"},
        {"{\"index\":\"-1\",\"description\":\"x\"}\n", "index is '-1', expected the number"},
        {"{\"index\":\"1e3\",\"description\":\"x\"}\n", "index is '1e3'"},
        {"{\"index\":1.5,\"description\":\"x\"}\n", "index is a number, expected"},
        {"{\"index\":\"0\",\"description\":[]}\n", "the label is an array, expected a string"},
        {"{\"index\":\"100\",\"description\":\"x\"}\n",
         "x.jsonl':1: latent 100, but the SAE has 100"},
        {"{\"index\":\"0\",\"description\":\"x\",\"modelId\":\"a\"}\n"
         "{\"index\":\"1\",\"description\":\"x\",\"modelId\":\"b\"}\n",
         "x.jsonl':2: modelId is 'b', 'a' before: an export is of one SAE"},
        {"{\"index\":\"0\",\"description\":\"x\",\"layer\":\"1-res\"}\n"
         "{\"index\":\"1\",\"description\":\"x\",\"layer\":\"2-res\"}\n",
         "x.jsonl':2: layer is '2-res'"},
        {"{\"index\":\"0\"", "x.jsonl':1"},
        {"", "not one label in it"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        refuse(put("x.jsonl", bad[i].rows), NULL, STATUS_FORMAT, bad[i].words);
    put("twice/batch-0.jsonl", "");
    put("twice/batch-00.jsonl", "");
    refuse(scratch_path("twice"), NULL, STATUS_FORMAT, "are the same batch");
    put("two/explanations/batch-0.jsonl",
        "{\"index\":\"0\",\"description\":\"x\",\"modelId\":\"a\",\"layer\":\"1-res\"}\n");
    put("two/source.jsonl", "{\"id\":\"1-res\",\"modelId\":\"b\"}\n");
    refuse(scratch_path("two"), NULL, STATUS_FORMAT, "modelId is 'b', 'a' before");
}

static void delphi_needs_one_hook(void **state)
{
    struct label_list list = {0};

    (void)state;
    put("delphi/layers.3_latent10.txt", "\"ten\"\n");
    put("delphi/layers.3_latent9.txt", "\"ni\\u00f1e\"");
    put("delphi/config.json", "{}");
    expect(scratch_path("delphi"), NULL, "9:ni\u00f1e|10:ten");
    put("delphi/layers.10_latent0.txt", "null");
    refuse(scratch_path("delphi"), NULL, STATUS_INVALID,
           "labels of several hooks, 'layers.10', 'layers.3': --hook must say which");
    refuse(scratch_path("delphi"), "layers.4", STATUS_INVALID,
           "no label of hook 'layers.4', found 'layers.10', 'layers.3'");
    expect(scratch_path("delphi"), "layers.3", "9:ni\u00f1e|10:ten");
    expect(scratch_path("delphi"), "layers.10", "0:");
    assert_int_equal(label_import(&list, scratch_path("delphi"), "layers.3", NULL), STATUS_OK);
    assert_string_equal(list.origin.hook, "layers.3");
    assert_string_equal(list.origin.layout, "delphi");
    label_list_release(&list);
    put("words/a_latent0.txt", "no JSON");
    refuse(scratch_path("words"), NULL, STATUS_FORMAT, "a_latent0.txt'");
    put("words/a_latent0.txt", "[\"x\"]");
    refuse(scratch_path("words"), NULL, STATUS_FORMAT, "the label is an array");
    refuse(scratch_path("words/a_latent0.txt"), NULL, STATUS_INVALID, "name its folder");
    put("words/a_latent0.txt", "\"x\"");
    put("words/a_latent100.txt", "\"x\"");
    refuse(scratch_path("words"), NULL, STATUS_FORMAT, "a_latent100.txt': latent 100, but");
}

static void a_map_is_one_object(void **state)
{
    (void)state;
    expect(put("map.json", "{\"7\":\"seven\",\"0\":null,\"12\":\"\"}"), "layers.1",
           "7:seven|0:|12:");
    refuse(put("map.json", "[\"a\"]"), NULL, STATUS_FORMAT, "an array, expected an object");
    refuse(put("map.json", "{\"x\":\"a\"}"), NULL, STATUS_FORMAT,
           "member 'x': expected the number of a latent");
    refuse(put("map.json", "{\"0\":1}"), NULL, STATUS_FORMAT,
           "member '0': the label is an integer");
    refuse(put("map.json", "{\"100\":\"a\"}"), NULL, STATUS_FORMAT, "member '100': latent 100");
    refuse(put("map.json", "{\"0\":\"a\",\"0\":\"b\"}"), NULL, STATUS_FORMAT, "map.json'");
    refuse(put("map.json", "{}"), NULL, STATUS_FORMAT, "not one label in it");
    refuse(put("map.csv", ""), NULL, STATUS_FORMAT, "expected a folder, a batch");
    refuse(scratch_path("absent"), NULL, STATUS_IO, "absent");
}

static void import_survives_failing_allocation(void **state)
{
    static const char *const names[] = {"np", "delphi", "map.json"};
    static const char *const hooks[] = {NULL, "layers.3", NULL};

    (void)state;
    put("map.json", "{\"7\":\"seven\"}");
    for (size_t i = 0; i < 3; i++) {
        const char *path = scratch_path(names[i]);
        size_t n = 0;

        do {
            struct label_list list = {0};
            enum status st;

            mem_fail_after(n++);
            st = label_import(&list, path, hooks[i], NULL);
            assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
            label_list_release(&list);
        } while (mem_failed());
        mem_fail_after(SIZE_MAX);
        assert_true(n > 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_is_decimal_digits),
        cmocka_unit_test(names_of_files_tell_layouts),
        cmocka_unit_test(neuronpedia_is_read_by_number_not_by_name),
        cmocka_unit_test(several_exports_are_listed),
        cmocka_unit_test(neuronpedia_rows_are_checked),
        cmocka_unit_test(delphi_needs_one_hook),
        cmocka_unit_test(a_map_is_one_object),
        cmocka_unit_test(import_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/label_import", tests, scratch_setup,
                                       scratch_teardown);
}
