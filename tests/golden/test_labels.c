/*
 * Argument 1: a folder with manifest.json, whose member `labels` says what is where and what comes
 * out of it; tests/golden/labels and ../shared/fixtures/sae are such folders.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "formats/json.h"
#include "formats/label_import.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static const char *root;
static struct json *manifest;
static const struct json *labels;

static const char *member(const char *key)
{
    size_t n;
    const char *s = json_string(json_member(labels, key), &n);

    assert_non_null(s);
    return s;
}

static const char *path_of(const char *key)
{
    static char path[1024];

    snprintf(path, sizeof(path), "%s/%s/%s", root, member("dir"), member(key));
    return path;
}

static void import(struct label_list *list, const char *key)
{
    struct error err;

    if (label_import(list, path_of(key), NULL, &err))
        fail_msg("%s", err.message);
}

/* Every description of every latent, in the export's order, and nothing else. */
static void neuronpedia_gives_every_description(void **state)
{
    const struct json *all = json_member(labels, "all_descriptions");
    struct label_list list = {0};
    struct label_counts counts;
    const char *path = scratch_path("np.labels.safetensors");
    size_t n = 0;

    (void)state;
    import(&list, "neuronpedia");
    assert_int_equal(label_table_write(&list, path, &counts, NULL), STATUS_OK); /* sorts */
    for (size_t i = 0; i < list.n; i++) {
        uint32_t latent = list.items[i].latent;
        const char *found = text_string(&list.text) + list.items[i].begin;
        const char *expected;
        char key[16];
        size_t length;

        snprintf(key, sizeof(key), "%u", latent);
        n = i && list.items[i - 1].latent == latent ? n + 1 : 0;
        expected = json_string(json_element(json_member(all, key), n), &length);
        assert_non_null(expected);
        assert_string_equal(found, expected);
    }
    n = 0;
    for (struct json_iterator it = json_iterate(all); json_next(&it);)
        n += json_length(it.value);
    assert_int_equal(list.n, n);
    assert_int_equal(counts.labels, n);
    assert_string_equal(list.origin.model, "tiny");
    assert_string_equal(list.origin.source, "3-res-256");
    assert_string_equal(list.origin.hook, "blocks.3.hook_resid_post");
    label_list_release(&list);
}

static void neuronpedia_of_another_sae_is_refused(void **state)
{
    struct label_list list = {0};
    uint64_t d_sae;
    struct error err;

    (void)state;
    assert_true(json_u64(json_member(labels, "d_sae"), &d_sae));
    list.d_sae = (size_t)d_sae;
    assert_int_equal(label_import(&list, path_of("neuronpedia"), NULL, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "latent 256, but the SAE has 256"));
    label_list_release(&list);
}

static void expect_first(struct label_list *list, uint32_t latent, const char *expected)
{
    const char *path = scratch_path("one.labels.safetensors");
    struct label_counts counts;
    struct label_table table;
    struct text label = {0};

    assert_int_equal(label_table_write(list, path, &counts, NULL), STATUS_OK);
    assert_int_equal(label_table_open(&table, path, NULL), STATUS_OK);
    assert_int_equal(label_table_find(&table, latent, &label, NULL), STATUS_OK);
    assert_string_equal(text_string(&label), expected);
    text_release(&label);
    label_table_close(&table);
}

static void delphi_and_a_map_give_theirs(void **state)
{
    struct label_list list = {0};

    (void)state;
    import(&list, "delphi");
    assert_int_equal(list.n, 1);
    assert_string_equal(list.origin.hook, "layers.3");
    expect_first(&list, 7, "newlines after a step");
    label_list_release(&list);
    import(&list, "map");
    assert_int_equal(list.n, 2);
    expect_first(&list, 0, "equals signs in algebraic equations");
    expect_first(&list, 7, "newlines after a step");
    label_list_release(&list);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neuronpedia_gives_every_description),
        cmocka_unit_test(neuronpedia_of_another_sae_is_refused),
        cmocka_unit_test(delphi_and_a_map_give_theirs),
    };
    char path[1024];
    int failed;

    if (argc != 2)
        return 1;
    root = argv[1];
    snprintf(path, sizeof(path), "%s/manifest.json", root);
    if (access(path, R_OK) != 0) {
        fprintf(stderr, "%s is not there: skipped\n", path);
        return 77;
    }
    if (json_parse_file(&manifest, path, (size_t)16 << 20, NULL, NULL))
        return 1;
    labels = json_member(manifest, "labels");
    failed = cmocka_run_group_tests_name("labels", tests, scratch_setup, scratch_teardown);
    json_free(manifest);
    return failed;
}
