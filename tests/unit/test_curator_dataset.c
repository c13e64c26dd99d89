#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "curator/dataset.h"
#include "curator/labels.h"
#include "tests/support/cmocka_headers.h"

static char path[] = "/tmp/test_dataset_XXXXXX.jsonl";

static int make_file(void **state)
{
    int fd = mkstemps(path, 6);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_rows(const char *rows)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(rows, file);
    fclose(file);
}

/* Read `rows` with settings "key=value|key=value". */
static enum status read_rows(struct dataset *data, const char *rows, const char *settings,
                             struct error *err)
{
    struct recipe recipe;
    char copy[512];
    char *rest = copy, *pair;
    enum status st;

    write_rows(rows);
    assert_int_equal(recipe_init(&recipe, NULL), STATUS_OK);
    snprintf(copy, sizeof(copy), "%s", settings);
    while ((pair = strsep(&rest, "|")) && *pair) {
        char *equals = strchr(pair, '=');

        *equals = '\0';
        assert_int_equal(settings_set(recipe_schema, &recipe, pair, equals + 1,
                                      (struct setting_origin){.word = "test"}, NULL),
                         STATUS_OK);
    }
    assert_int_equal(string_list_append(&recipe.input.data, path, NULL), STATUS_OK);
    st = dataset_read(data, &recipe, NULL, err);
    recipe_release(&recipe);
    return st;
}

static void dataset_keys_follow_the_canonical_prompt(void **state)
{
    static const char chat[] = "user\x1fWhat is 2+2?\x1e"
                               "assistant\x1f\x1e";
    struct dataset data;

    (void)state;
    assert_int_equal(
        read_rows(&data,
                  "{\"prompt\":\"What is 2+2?\"}\n"
                  "{\"prompt\":[{\"role\":\"user\",\"content\":\"What is 2+2?\"},"
                  "{\"role\":\"assistant\",\"content\":null}]}\n"
                  "{\"prompt\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What "
                  "is \"},\"2+2?\"]},{\"role\":\"assistant\"}]}\n",
                  "", NULL),
        STATUS_OK);
    assert_int_equal(data.n, 3);
    assert_true(data.samples[0].key == hash64("What is 2+2?", 12, 0));
    assert_true(data.samples[1].key == hash64(chat, sizeof(chat) - 1, 0));
    assert_true(data.samples[2].key == data.samples[1].key);
    dataset_release(&data);
}

static void dataset_keeps_the_type_of_ids(void **state)
{
    struct dataset data;
    char key[19];

    (void)state;
    assert_int_equal(read_rows(&data,
                               "{\"id\":17,\"prompt\":\"a\"}\n{\"id\":\"17\",\"prompt\":\"b\"}\n"
                               "{\"prompt\":\"c\"}\n{\"id\":18446744073709551615,\"prompt\":\"d\"}",
                               "", NULL),
                     STATUS_OK);
    assert_memory_equal(dataset_bytes(&data, data.samples[0].id), "17", 2);
    assert_memory_equal(dataset_bytes(&data, data.samples[1].id), "\"17\"", 4);
    snprintf(key, sizeof(key), "\"%016llx\"", (unsigned long long)data.samples[2].key);
    assert_memory_equal(dataset_bytes(&data, data.samples[2].id), key, 18);
    assert_memory_equal(dataset_bytes(&data, data.samples[3].id), "18446744073709551615", 20);
    dataset_release(&data);
}

static void dataset_refuses_repeated_ids(void **state)
{
    struct dataset data;
    struct error err = {0};

    (void)state;
    assert_int_equal(
        read_rows(&data, "{\"id\":1,\"prompt\":\"a\"}\n{\"id\":1,\"prompt\":\"b\"}\n", "", &err),
        STATUS_FORMAT);
    assert_string_equal(err.message, "row 1: id 1 repeats that of row 0");
    /* Ids that are keys repeat with their prompts, which is no error. */
    assert_int_equal(read_rows(&data, "{\"prompt\":\"a\"}\n{\"prompt\":\"a\"}\n", "", NULL),
                     STATUS_OK);
    dataset_release(&data);
}

static void dataset_sorts_rows_by_prompt(void **state)
{
    struct dataset data;
    size_t rows[] = {4, 3, 2, 1, 0}, at[5];

    (void)state;
    assert_int_equal(read_rows(&data,
                               "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n{\"prompt\":\"a\"}\n"
                               "{\"prompt\":\"c\"}\n{\"prompt\":\"a\"}\n",
                               "", NULL),
                     STATUS_OK);
    assert_int_equal(dataset_sort_by_prompt(&data, rows, 5, NULL), STATUS_OK);
    for (size_t i = 0; i < 5; i++)
        at[rows[i]] = i;
    assert_int_equal(at[2], at[0] + 1);
    assert_int_equal(at[4], at[2] + 1);
    dataset_release(&data);
}

/* What an audit does where ids repeat: as if the field were not there. */
static void dataset_goes_by_keys_once_ids_are_forgotten(void **state)
{
    struct dataset data, plain;

    (void)state;
    assert_int_equal(
        read_rows(&data, "{\"id\":1,\"prompt\":\"a\"}\n{\"id\":2,\"prompt\":\"b\"}\n", "", NULL),
        STATUS_OK);
    assert_int_equal(dataset_forget_ids(&data, NULL), STATUS_OK);
    assert_int_equal(read_rows(&plain, "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n", "", NULL),
                     STATUS_OK);
    assert_true(data.ids_repeat);
    assert_int_equal(data.n_id, 0);
    for (size_t row = 0; row < 2; row++) {
        struct span id = data.samples[row].id, expected = plain.samples[row].id;

        assert_int_equal(id.length, expected.length);
        assert_memory_equal(dataset_bytes(&data, id), dataset_bytes(&plain, expected), id.length);
    }
    dataset_release(&data);
    dataset_release(&plain);
}

static void dataset_reads_labels(void **state)
{
    struct dataset data;

    (void)state;
    assert_int_equal(
        read_rows(&data,
                  "{\"p\":\"a\",\"x\":{\"q\":true},\"r\":[1,0,0,1]}\n"
                  "{\"p\":\"b\",\"x\":{\"q\":0.25},\"r\":[],\"level\":\"Level 4\"}\n"
                  "{\"p\":\"c\",\"level\":\"Level ?\"}\n"
                  "{\"p\":\"d\",\"r\":[false,true],\"level\":null}\n",
                  "input.fields.prompt=p|input.fields.quality=x.q|input.fields.rewards=r|"
                  "input.fields.difficulty=level|input.difficulty_scale.range=[1, 5]",
                  NULL),
        STATUS_OK);
    assert_true(data.samples[0].quality == 1 && data.samples[1].quality == 0.25);
    assert_true(isnan(data.samples[2].quality));
    assert_true(data.samples[0].difficulty == 0.5);
    assert_true(data.samples[1].difficulty == 0.75); /* the column goes before rewards */
    assert_true(isnan(data.samples[2].difficulty));
    assert_true(data.samples[3].difficulty == 0.5);
    assert_int_equal(data.n_labels_without_number, 1);
    assert_int_equal(data.n_quality, 2);
    assert_int_equal(data.n_difficulty, 3);
    dataset_release(&data);

    assert_int_equal(read_rows(&data, "{\"prompt\":\"a\",\"d\":0.75}\n",
                               "input.fields.difficulty=d|input.difficulty_scale.higher_is=easier",
                               NULL),
                     STATUS_OK);
    assert_true(data.samples[0].difficulty == 0.25);
    dataset_release(&data);
}

static void dataset_keeps_rewards_beside_a_column(void **state)
{
    struct dataset data;

    (void)state;
    assert_int_equal(read_rows(&data,
                               "{\"prompt\":\"a\",\"d\":0.9,\"r\":[1,0.5,0]}\n"
                               "{\"prompt\":\"b\",\"d\":null,\"r\":[true,true]}\n"
                               "{\"prompt\":\"c\",\"d\":0.2,\"r\":[]}\n"
                               "{\"prompt\":\"d\",\"d\":0.3,\"r\":[-2]}\n"
                               "{\"prompt\":\"e\",\"r\":[1],\"d\":{}}",
                               "input.fields.difficulty=d|input.fields.rewards=r|"
                               "on_error.max_bad=1",
                               NULL),
                     STATUS_OK);
    assert_true(data.samples[0].difficulty == 0.9 && data.samples[0].pass_rate == 0.5);
    assert_int_equal(data.samples[0].n_rewards, 3);
    assert_false(data.samples[0].rewards_equal);
    assert_false(data.samples[0].difficulty_from_rewards);
    assert_true(data.samples[1].difficulty == 0 && data.samples[1].pass_rate == 1);
    assert_true(data.samples[1].rewards_equal && data.samples[1].difficulty_from_rewards);
    assert_true(isnan(data.samples[2].pass_rate) && data.samples[2].difficulty == 0.2);
    assert_int_equal(data.samples[2].n_rewards, 0);
    assert_true(data.samples[3].pass_rate == -2 && data.samples[3].rewards_equal);
    /* A malformed row has no labels at all. */
    assert_true(isnan(data.samples[4].pass_rate) && isnan(data.samples[4].difficulty));
    assert_int_equal(data.samples[4].n_rewards, 0);
    assert_int_equal(data.n_rewards, 3);
    assert_true(data.reward_min == -2 && data.reward_max == 1);
    dataset_release(&data);
}

static void dataset_counts_malformed_rows(void **state)
{
    static const char rows[] = "{\"prompt\":\"a\"}\n"
                               "{\"prompt\":\n"
                               "\n"
                               "{\"prompt\":17}\n"
                               "[]\n"
                               "{\"prompt\":\"b\",\"id\":[1]}\n"
                               "{\"prompt\":\"\xff\"}\n"
                               "{\"question\":\"c\"}\n"
                               "{\"prompt\":\"d\"}";
    struct dataset data;
    struct error err = {0};

    (void)state;
    assert_int_equal(read_rows(&data, rows, "on_error.max_bad=7", NULL), STATUS_OK);
    assert_int_equal(data.n, 9);
    assert_int_equal(data.n_malformed, 7);
    for (size_t row = 0; row < 9; row++)
        assert_int_equal(data.samples[row].problem.length > 0, row > 0 && row < 8);
    assert_int_equal(data.samples[8].line.length, 14);
    dataset_release(&data);

    assert_int_equal(read_rows(&data, rows, "on_error.max_bad=6", &err), STATUS_BAD_ROWS);
    assert_non_null(strstr(err.message, ":8: row 7: prompt: field 'prompt' is missing"));
    assert_null(data.samples);
    assert_int_equal(read_rows(&data, rows, "", &err), STATUS_BAD_ROWS);
    assert_non_null(strstr(err.message, ":2: row 1: "));
    assert_int_equal(read_rows(&data, rows, "on_error.action=skip|on_error.max_bad=1", &err),
                     STATUS_BAD_ROWS);
    assert_non_null(strstr(err.message, ":3: row 2: "));
}

static void dataset_limit_counts_all_rows(void **state)
{
    struct dataset data;

    (void)state;
    assert_int_equal(
        read_rows(&data, "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\nbad\n", "input.limit=2", NULL),
        STATUS_OK);
    assert_int_equal(data.n, 2);
    assert_int_equal(data.rows_total, 3);
    dataset_release(&data);
}

static void dataset_without_rows_is_an_error(void **state)
{
    struct dataset data;

    (void)state;
    assert_int_equal(read_rows(&data, "", "", NULL), STATUS_FORMAT);
}

static void labels_go_by_id_or_row(void **state)
{
    struct dataset data;
    struct error err = {0};
    double labels[3];
    size_t unknown;

    (void)state;
    assert_int_equal(read_rows(&data,
                               "{\"id\":\"x\",\"prompt\":\"a\"}\n{\"id\":5,\"prompt\":\"b\"}\n"
                               "{\"prompt\":\"c\"}\n",
                               "", NULL),
                     STATUS_OK);
    write_rows("{\"id\":\"x\",\"label\":true}\n{\"id\":5,\"label\":-2.5}\n"
               "{\"id\":\"5\",\"label\":1}\n{\"row\":2,\"label\":null}\n");
    assert_int_equal(labels_read(labels, 3, &unknown, path, &data, NULL), STATUS_OK);
    assert_true(labels[0] == 1 && labels[1] == -2.5 && isnan(labels[2]));
    assert_int_equal(unknown, 1);
    write_rows("{\"row\":0,\"label\":1}\n{\"id\":\"x\",\"label\":0}\n");
    assert_int_equal(labels_read(labels, 3, &unknown, path, &data, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, ":2: a second label for row 0"));
    write_rows("{\"row\":3,\"label\":1}\n");
    assert_int_equal(labels_read(labels, 3, &unknown, path, &data, NULL), STATUS_FORMAT);
    write_rows("{\"id\":\"x\",\"label\":1}\n");
    assert_int_equal(labels_read(labels, 3, &unknown, path, NULL, NULL), STATUS_INVALID);
    dataset_release(&data);
}

static void dataset_survives_failing_allocation(void **state)
{
    enum status st;

    (void)state;
    for (size_t allowed = 0;; allowed++) {
        struct recipe recipe = {0};
        struct dataset data = {0};

        write_rows("{\"id\":\"x\",\"prompt\":\"a\",\"answer\":[1]}\n{\"prompt\":\"b\"}\n");
        assert_int_equal(recipe_init(&recipe, NULL), STATUS_OK);
        assert_int_equal(string_list_append(&recipe.input.data, path, NULL), STATUS_OK);
        mem_fail_after(allowed);
        st = dataset_read(&data, &recipe, NULL, NULL);
        mem_fail_after(SIZE_MAX);
        recipe_release(&recipe);
        if (!st) {
            dataset_release(&data);
            break;
        }
        assert_int_equal(st, STATUS_NOMEM);
        assert_null(data.samples);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dataset_keys_follow_the_canonical_prompt),
        cmocka_unit_test(dataset_keeps_the_type_of_ids),
        cmocka_unit_test(dataset_refuses_repeated_ids),
        cmocka_unit_test(dataset_sorts_rows_by_prompt),
        cmocka_unit_test(dataset_goes_by_keys_once_ids_are_forgotten),
        cmocka_unit_test(dataset_reads_labels),
        cmocka_unit_test(dataset_keeps_rewards_beside_a_column),
        cmocka_unit_test(dataset_counts_malformed_rows),
        cmocka_unit_test(dataset_limit_counts_all_rows),
        cmocka_unit_test(dataset_without_rows_is_an_error),
        cmocka_unit_test(labels_go_by_id_or_row),
        cmocka_unit_test(dataset_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/dataset", tests, make_file, remove_file);
}
