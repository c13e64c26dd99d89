#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/label_table.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static void add(struct label_list *list, uint64_t latent, const char *label)
{
    assert_int_equal(label_list_append(list, latent, label, strlen(label), NULL), STATUS_OK);
}

/* Latents 1 and 4 of 6, out of order; one of them with an empty label first. */
static struct label_list sample(void)
{
    struct label_list list = {.d_sae = 6};

    list.origin.layout = mem_strdup("map");
    list.origin.model = mem_strdup("gpt2-small");
    list.origin.hook = mem_strdup("blocks.3.hook_resid_post");
    assert_true(list.origin.layout && list.origin.model && list.origin.hook);
    add(&list, 4, " \t");
    add(&list, 1, "d\u00e9j\u00e0 vu");
    add(&list, 4, "proofs");
    add(&list, 4, "lemmas");
    add(&list, 2, "");
    return list;
}

static const char *write_sample(const char *name)
{
    struct label_list list = sample();
    const char *path = scratch_path(name);
    struct label_counts counts;

    assert_int_equal(label_table_write(&list, path, &counts, NULL), STATUS_OK);
    label_list_release(&list);
    return path;
}

static void expect_label(const struct label_table *table, size_t latent, const char *expected)
{
    struct text label = {0};

    assert_int_equal(label_table_find(table, latent, &label, NULL), STATUS_OK);
    assert_string_equal(text_string(&label), expected);
    text_release(&label);
}

static void labels_written_are_found(void **state)
{
    struct label_list list = sample();
    const char *path = scratch_path("a.labels.safetensors");
    struct label_counts counts, read;
    struct label_table table;
    struct text json = {0};

    (void)state;
    assert_int_equal(label_table_write(&list, path, &counts, NULL), STATUS_OK);
    label_list_release(&list);
    assert_int_equal(label_table_open(&table, path, NULL), STATUS_OK);
    assert_int_equal(table.d_sae, 6);
    assert_int_equal(table.n_latents, 6);
    assert_string_equal(table.origin.layout, "map");
    assert_string_equal(table.origin.model, "gpt2-small");
    assert_null(table.origin.source);
    expect_label(&table, 0, "");
    expect_label(&table, 1, "d\u00e9j\u00e0 vu");
    expect_label(&table, 2, "");
    expect_label(&table, 4, "proofs");
    expect_label(&table, 5, "");
    expect_label(&table, 6, "");
    expect_label(&table, SIZE_MAX, "");
    assert_int_equal(label_table_find_json(&table, 1, &json, NULL), STATUS_OK);
    assert_int_equal(label_table_find_json(&table, 2, &json, NULL), STATUS_OK);
    assert_int_equal(label_table_find_json(NULL, 1, &json, NULL), STATUS_OK);
    assert_string_equal(text_string(&json), "\"d\u00e9j\u00e0 vu\"nullnull");
    assert_int_equal(label_table_count(&table, &read, NULL), STATUS_OK);
    assert_memory_equal(&counts, &read, sizeof(counts));
    assert_int_equal(read.labels, 5);
    assert_int_equal(read.empty, 2);
    assert_int_equal(read.latents, 2);
    assert_int_equal(read.several, 1);
    assert_int_equal(read.largest, 4);
    text_release(&json);
    label_table_close(&table);
}

/* What a reader with numpy relies on. */
static void tensors_are_as_described(void **state)
{
    static const int64_t expected[] = {0, 0, 10, 11, 11, 28, 28};
    struct safetensors file;
    char text[28];
    int64_t offsets[7];

    (void)state;
    assert_int_equal(safetensors_open(&file, write_sample("b.labels.safetensors"), NULL),
                     STATUS_OK);
    assert_int_equal(
        safetensors_read(&file, safetensors_find(&file, "offsets"), 0, 7, offsets, NULL),
        STATUS_OK);
    assert_memory_equal(offsets, expected, sizeof(expected));
    assert_int_equal(safetensors_find(&file, "text")->count, 28);
    assert_int_equal(safetensors_read(&file, safetensors_find(&file, "text"), 0, 28, text, NULL),
                     STATUS_OK);
    assert_memory_equal(text, "d\u00e9j\u00e0 vu\0\0 \t\0proofs\0lemmas", 28);
    assert_string_equal(safetensors_metadata_get(&file, "d_sae"), "6");
    safetensors_close(&file);
}

static void without_d_sae_the_largest_latent_ends_the_table(void **state)
{
    struct label_list list = {0};
    struct label_counts counts;
    struct label_table table;
    const char *path = scratch_path("c.labels.safetensors");

    (void)state;
    add(&list, 7, "seven");
    assert_int_equal(label_list_append(&list, 3, "a\0b", 3, NULL), STATUS_OK);
    assert_int_equal(label_table_write(&list, path, &counts, NULL), STATUS_OK);
    assert_int_equal(label_table_open(&table, path, NULL), STATUS_OK);
    assert_int_equal(table.d_sae, 0);
    assert_int_equal(table.n_latents, 8);
    expect_label(&table, 7, "seven");
    expect_label(&table, 3, "a\ufffdb");
    label_table_close(&table);
    label_list_release(&list);
}

static void latents_that_the_sae_lacks_are_refused(void **state)
{
    struct label_list list = {.d_sae = 256};
    struct error err;

    (void)state;
    assert_int_equal(label_list_append(&list, 256, "x", 1, &err), STATUS_FORMAT);
    assert_string_equal(err.message,
                        "latent 256, but the SAE has 256: these are the labels of another");
    list.d_sae = 0;
    assert_int_equal(label_list_append(&list, LABEL_LATENTS_MAX, "x", 1, &err), STATUS_FORMAT);
    assert_int_equal(label_list_append(&list, UINT64_MAX, "x", 1, &err), STATUS_FORMAT);
    assert_int_equal(list.n, 0);
    label_list_release(&list);
}

static void refuse_table(const int64_t *offsets, size_t n, const char *text, size_t n_text,
                         const char *d_sae, const char *words)
{
    const struct safetensors_item items[] = {{"offsets", DTYPE_I64, {1, {n}}, offsets},
                                             {"text", DTYPE_U8, {1, {n_text}}, text}};
    const struct safetensors_metadata metadata[] = {{(char *)"format", (char *)"saerl.labels"},
                                                    {(char *)"version", (char *)"1"},
                                                    {(char *)"d_sae", (char *)d_sae}};
    const char *path = scratch_path("bad.labels.safetensors");
    struct label_counts counts;
    struct label_table table;
    struct error err = {0};
    enum status st;

    assert_int_equal(safetensors_write(path, items, 2, metadata, d_sae ? 3 : 2, NULL), STATUS_OK);
    st = label_table_open(&table, path, &err);
    if (!st)
        st = label_table_count(&table, &counts, &err);
    label_table_close(&table);
    assert_int_equal(st, STATUS_FORMAT);
    if (!strstr(err.message, words) || !strstr(err.message, "bad.labels.safetensors"))
        fail_msg("'%s' does not contain '%s'", err.message, words);
}

static void tables_that_lie_are_refused(void **state)
{
    (void)state;
    refuse_table((int64_t[]){0, 2, 1}, 3, "a\0b", 4, NULL,
                 "offsets of latent 1: 2 to 1 in 4 bytes");
    refuse_table((int64_t[]){0, 5}, 2, "abc", 4, NULL, "offsets of latent 0: 0 to 5 in 4 bytes");
    refuse_table((int64_t[]){-8, 4}, 2, "abc", 4, NULL, "offsets of latent 0: 184467440737095516");
    refuse_table((int64_t[]){0, 3}, 2, "abc", 4, NULL,
                 "byte 0 of the text does not end with a zero");
    refuse_table((int64_t[]){0, 4}, 2,
                 "a\xff"
                 "b",
                 4, NULL, "latent 0: byte 1 of the text is not UTF-8");
    refuse_table((int64_t[]){0, 4}, 2, "abc", 4, "2", "d_sae is 2, but there are offsets for 1");
    refuse_table((int64_t[]){0, 4}, 2, "abc", 4, "1x", "d_sae is 1x");
    refuse_table((int64_t[]){0, 4}, 2, "abc", 4, "", "d_sae is ,");
    refuse_table((int64_t[]){0, 4}, 2, "abc", 4, "99999999999999999999999", "d_sae is 9999");
    refuse_table(NULL, 0, "abc", 4, NULL, "tensor 'offsets': I64 [0], expected I64 [latents + 1]");
}

static void other_files_are_refused(void **state)
{
    static const uint64_t zeros[2] = {0};
    const struct safetensors_item items[] = {{"offsets", DTYPE_U64, {1, {2}}, zeros},
                                             {"text", DTYPE_U8, {1, {0}}, zeros},
                                             {"offsets", DTYPE_I64, {1, {2}}, zeros},
                                             {"text", DTYPE_I8, {1, {0}}, zeros}};
    struct safetensors_metadata metadata[] = {{(char *)"format", (char *)"saerl.labels"},
                                              {(char *)"version", (char *)"2"}};
    const char *path = scratch_path("other.safetensors");
    struct label_table table;
    struct error err;

    (void)state;
    assert_int_equal(safetensors_write(path, items, 1, metadata, 2, NULL), STATUS_OK);
    assert_int_equal(label_table_open(&table, path, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "no tensor 'text'"));
    assert_int_equal(safetensors_write(path, items, 2, metadata, 2, NULL), STATUS_OK);
    assert_int_equal(label_table_open(&table, path, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "tensor 'offsets': U64 [2]"));
    assert_int_equal(safetensors_write(path, items + 2, 2, metadata, 2, NULL), STATUS_OK);
    assert_int_equal(label_table_open(&table, path, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "tensor 'text': I8 [0], expected U8 [bytes]"));
    assert_int_equal(safetensors_write(path, items + 1, 2, metadata, 2, NULL), STATUS_OK);
    assert_int_equal(label_table_open(&table, path, &err), STATUS_UNSUPPORTED);
    assert_non_null(strstr(err.message, "version 2, expected 1"));
    assert_int_equal(safetensors_write(path, items + 1, 2, NULL, 0, NULL), STATUS_OK);
    assert_int_equal(label_table_open(&table, path, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "not a table of labels (format is absent"));
    assert_null(table.map);
    assert_int_equal(label_table_open(&table, scratch_path("absent"), &err), STATUS_IO);
}

/* The mapping is longer than the file then, and touching it would end the process. */
static void a_file_that_shrinks_is_an_error(void **state)
{
    const char *path = write_sample("shrinks.labels.safetensors");
    struct label_counts counts;
    struct label_table table;
    struct text label = {0};
    struct error err;

    (void)state;
    assert_int_equal(label_table_open(&table, path, NULL), STATUS_OK);
    expect_label(&table, 4, "proofs");
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(label_table_find(&table, 4, &label, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "has shrunk to 0 bytes"));
    assert_int_equal(label_table_count(&table, &counts, NULL), STATUS_IO);
    assert_int_equal(label.length, 0);
    label_table_close(&table);
}

/* Our own writer never shrinks a file that somebody has mapped. */
static void a_table_written_anew_leaves_readers_alone(void **state)
{
    struct label_table table;

    (void)state;
    assert_int_equal(label_table_open(&table, write_sample("again.labels.safetensors"), NULL),
                     STATUS_OK);
    write_sample("again.labels.safetensors");
    expect_label(&table, 4, "proofs");
    label_table_close(&table);
}

static void check_target(const struct label_table *table, struct label_target target,
                         enum status expected, const char *words)
{
    struct text warnings = {0};
    struct error err = {0};

    assert_int_equal(label_table_check(table, &target, &warnings, &err), expected);
    if (expected ? !strstr(err.message, words) : strcmp(text_string(&warnings), words) != 0)
        fail_msg("'%s' and '%s', expected '%s'", err.message, text_string(&warnings), words);
    text_release(&warnings);
}

static void labels_are_held_against_the_sae(void **state)
{
    struct label_table table;

    (void)state;
    assert_int_equal(label_table_open(&table, write_sample("d.labels.safetensors"), NULL),
                     STATUS_OK);
    check_target(&table, (struct label_target){0}, STATUS_OK, "");
    check_target(&table, (struct label_target){6, "openai/GPT2-small", table.origin.hook, "ff"},
                 STATUS_OK, "");
    check_target(&table, (struct label_target){.d_sae = 8}, STATUS_INVALID,
                 "labels of an SAE with 6 latents, this one has 8");
    check_target(&table, (struct label_target){.hook = "layers.4"}, STATUS_INVALID,
                 "the labels belong to layer 3 ('blocks.3.hook_resid_post'), the SAE to layer 4");
    check_target(&table, (struct label_target){.hook = "layers.3", .model = "gpt2-medium"},
                 STATUS_OK,
                 "the labels belong to hook 'blocks.3.hook_resid_post', the SAE to 'layers.3'\n"
                 "the labels belong to model 'gpt2-small', the SAE to 'gpt2-medium'\n");
    check_target(&table, (struct label_target){.hook = "gemma2.output"}, STATUS_OK,
                 "the labels belong to hook 'blocks.3.hook_resid_post', the SAE to "
                 "'gemma2.output'\n");
    table.origin.sae_hash = (char *)"0123";
    check_target(&table, (struct label_target){.sae_hash = "0124"}, STATUS_INVALID,
                 "the SAE with hash 0123, this one has 0124");
    table.origin.hook = NULL;
    table.origin.source = (char *)"12-res-256";
    check_target(&table, (struct label_target){.hook = "layers.3"}, STATUS_INVALID,
                 "layer 12 ('12-res-256')");
    table.d_sae = 0;
    check_target(&table, (struct label_target){.d_sae = 5}, STATUS_INVALID,
                 "a label for latent 5, but the SAE has 5");
    check_target(&table, (struct label_target){.d_sae = 7}, STATUS_OK, "");
    label_table_close(&table);
}

static enum status round_trip(const char *path)
{
    struct label_list list = {.d_sae = 6};
    struct label_table table = {0};
    struct label_counts counts;
    struct text label = {0};
    enum status st = STATUS_OK;

    for (uint64_t i = 0; !st && i < 6; i++)
        st = label_list_append(&list, 5 - i, "label", 5, NULL);
    if (!st)
        st = label_table_write(&list, path, &counts, NULL);
    if (!st)
        st = label_table_open(&table, path, NULL);
    if (!st)
        st = label_table_find_json(&table, 3, &label, NULL);
    if (!st)
        st = text_check(&label, NULL);
    text_release(&label);
    label_table_close(&table);
    label_list_release(&list);
    return st;
}

static void labels_survive_failing_allocation(void **state)
{
    const char *path = scratch_path("e.labels.safetensors");
    size_t n = 0;

    (void)state;
    do {
        enum status st;

        mem_fail_after(n++);
        st = round_trip(path);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_written_are_found),
        cmocka_unit_test(tensors_are_as_described),
        cmocka_unit_test(without_d_sae_the_largest_latent_ends_the_table),
        cmocka_unit_test(latents_that_the_sae_lacks_are_refused),
        cmocka_unit_test(tables_that_lie_are_refused),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(a_file_that_shrinks_is_an_error),
        cmocka_unit_test(a_table_written_anew_leaves_readers_alone),
        cmocka_unit_test(labels_are_held_against_the_sae),
        cmocka_unit_test(labels_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/label_table", tests, scratch_setup,
                                       scratch_teardown);
}
