#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "curator/field_guess.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* Rows of one data set: `format` with the row number for each %d (three at most), and a float. */
static const char *write_rows(const char *name, const char *format, int n)
{
    const char *path = scratch_path(name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    for (int i = 0; i < n; i++) {
        for (const char *s = format; *s; s++) {
            if (*s == '#') /* different in each row */
                fprintf(f, "%d", i);
            else if (*s == '@') /* a few values, again and again */
                fprintf(f, "%d", i % 5 + 1);
            else if (*s == '~') /* in [0, 1] */
                fprintf(f, "%.3f", (double)(i % 64) / 64);
            else
                fputc(*s, f);
        }
        fputc('\n', f);
    }
    fclose(f);
    return path;
}

/* Nothing is told yet. */
static void init(struct recipe *recipe)
{
    assert_int_equal(recipe_init(recipe, NULL), STATUS_OK);
    assert_int_equal(field_guess_open(recipe, NULL), STATUS_OK);
}

/* What is guessed; the recipe is the caller's to release. */
static enum status guess(struct recipe *recipe, const char *path, struct text *said,
                         struct error *err)
{
    return field_guess(recipe, &path, 1, said, err);
}

struct expected {
    const char *id, *prompt, *answer, *source, *quality, *difficulty, *rewards;
    double low, high;
    int higher_is;
};

static void assert_path(const char *found, const char *expected)
{
    if (!expected)
        assert_null(found);
    else
        assert_string_equal(found, expected);
}

static void assert_guess(const char *name, const char *format, struct expected e)
{
    struct recipe recipe = {0};
    struct text said = {0};
    struct error err = {0};

    init(&recipe);
    if (guess(&recipe, write_rows(name, format, 40), &said, &err))
        fail_msg("%s: %s", name, err.message);
    assert_path(recipe.input.fields.id, e.id);
    assert_path(recipe.input.fields.prompt, e.prompt);
    assert_path(recipe.input.fields.answer, e.answer);
    assert_path(recipe.input.fields.source, e.source);
    assert_path(recipe.input.fields.quality, e.quality);
    assert_path(recipe.input.fields.difficulty, e.difficulty);
    assert_path(recipe.input.fields.rewards, e.rewards);
    if (e.difficulty) {
        assert_true(recipe.input.difficulty_scale.range.items[0] == e.low);
        assert_true(recipe.input.difficulty_scale.range.items[1] == e.high);
        assert_int_equal(recipe.input.difficulty_scale.higher_is, e.higher_is);
    }
    assert_int_equal(recipe_check(&recipe, NULL), STATUS_OK);
    text_release(&said);
    recipe_release(&recipe);
}

static void field_guess_knows_published_data_sets(void **state)
{
    (void)state;
    assert_guess("gsm8k", "{\"question\":\"q #\",\"answer\":\"so #### #\"}",
                 (struct expected){.prompt = "question", .answer = "answer"});
    assert_guess(
        "math",
        "{\"problem\":\"p #\",\"level\":\"Level @\",\"type\":\"Algebra\","
        "\"solution\":\"s\"}",
        (struct expected){
            .prompt = "problem", .answer = "solution", .difficulty = "level", .low = 1, .high = 5});
    assert_guess("deepmath",
                 "{\"question\":\"q #\",\"final_answer\":\"a\",\"difficulty\":@.5,\"topic\":\"A\","
                 "\"r1_solution_1\":\"s\"}",
                 (struct expected){.prompt = "question",
                                   .answer = "final_answer",
                                   .difficulty = "difficulty",
                                   .low = 1,
                                   .high = 10});
    assert_guess("dapo",
                 "{\"data_source\":\"math_dapo\",\"prompt\":[{\"role\":\"user\",\"content\":\"q "
                 "#\"}],\"ability\":\"MATH\",\"reward_model\":{\"ground_truth\":\"@\",\"style\":"
                 "\"rule\"},\"extra_info\":{\"index\":\"id-@\"}}",
                 (struct expected){.prompt = "prompt",
                                   .answer = "reward_model.ground_truth",
                                   .source = "data_source"});
    assert_guess("bigmath",
                 "{\"problem\":\"p #\",\"answer\":\"@\",\"source\":\"s@\",\"domain\":[\"a\"],"
                 "\"llama8b_solve_rate\":~}",
                 (struct expected){.prompt = "problem",
                                   .answer = "answer",
                                   .source = "source",
                                   .difficulty = "llama8b_solve_rate",
                                   .low = 0,
                                   .high = 1,
                                   .higher_is = SCALE_EASIER});
    assert_guess("skywork",
                 "{\"data_source\":\"s@\",\"prompt\":[{\"role\":\"user\",\"content\":\"q #\"}],"
                 "\"reward_model\":{\"ground_truth\":\"[1]\"},\"extra_info\":{\"index\":#,"
                 "\"model_difficulty\":{\"DeepSeek-R1-Distill-Qwen-1.5B\":1@,\"X-7B\":3}}}",
                 (struct expected){
                     .id = "extra_info.index",
                     .prompt = "prompt",
                     .answer = "reward_model.ground_truth",
                     .source = "data_source",
                     .difficulty = "extra_info.model_difficulty.\"DeepSeek-R1-Distill-Qwen-1.5B\"",
                     .low = 0,
                     .high = 16});
    assert_guess("openr1",
                 "{\"problem\":\"p #\",\"solution\":\"s\",\"answer\":\"@\",\"source\":\"s@\","
                 "\"uuid\":\"u#\",\"generations\":[\"a\",\"b\"],\"correctness_math_verify\":[true,"
                 "false],\"messages\":[{\"role\":\"user\",\"content\":\"p #\"}]}",
                 (struct expected){.id = "uuid",
                                   .prompt = "problem",
                                   .answer = "answer",
                                   .source = "source",
                                   .rewards = "correctness_math_verify"});
}

static void field_guess_judges_by_what_stands_there(void **state)
{
    (void)state;
    /* With nothing else to be the prompt, one that all rows repeat is. */
    assert_guess("same", "{\"question\":\"Solve this.\",\"answer\":\"4\"}",
                 (struct expected){.prompt = "question", .answer = "answer"});
    /* An instruction for all rows is not the prompt, and ids that repeat are none. */
    assert_guess("alpaca",
                 "{\"instruction\":\"Solve this.\",\"input\":\"q #\",\"output\":\"o\",\"id\":@}",
                 (struct expected){.prompt = "input", .answer = "output"});
    /* A list under the name of a rate is of rewards. */
    assert_guess("lists", "{\"id\":#,\"prompt\":\"q #\",\"pass_rate\":[1,0,~]}",
                 (struct expected){.id = "id", .prompt = "prompt", .rewards = "pass_rate"});
    /* Rewards beyond [0, 1], constant labels, a source of its own for each row. */
    assert_guess("odd",
                 "{\"prompt\":\"q #\",\"rewards\":[-1,1],\"quality\":1,\"difficulty\":\"?\","
                 "\"source\":\"http://#\"}",
                 (struct expected){.prompt = "prompt"});
    /* Percent; a scale that is nobody's. */
    assert_guess("percent", "{\"prompt\":\"q #\",\"pass_rate\":@0}",
                 (struct expected){.prompt = "prompt",
                                   .difficulty = "pass_rate",
                                   .low = 0,
                                   .high = 100,
                                   .higher_is = SCALE_EASIER});
    assert_guess(
        "elo", "{\"prompt\":\"q #\",\"difficulty\":@00}",
        (struct expected){.prompt = "prompt", .difficulty = "difficulty", .low = 100, .high = 500});
    /* Only one column can be the prompt. */
    assert_guess("own", "{\"Frage\":\"q #\",\"nr\":#}", (struct expected){.prompt = "Frage"});
}

static void field_guess_leaves_what_was_asked_for(void **state)
{
    const char *path = write_rows("asked",
                                  "{\"question\":\"q #\",\"text\":\"t #\",\"level\":@,\"uid\":#,"
                                  "\"rewards\":[0,1]}",
                                  40);
    struct recipe recipe = {0};
    struct text said = {0};

    (void)state;
    init(&recipe);
    mem_free(recipe.input.fields.prompt);
    recipe.input.fields.prompt = mem_strdup("text");
    recipe.input.fields.rewards = mem_strdup("rewards");
    assert_int_equal(guess(&recipe, path, &said, NULL), STATUS_OK);
    assert_string_equal(recipe.input.fields.prompt, "text");
    assert_string_equal(recipe.input.fields.id, "uid");
    assert_null(recipe.input.fields.difficulty); /* it would overrule the rewards */
    assert_null(strstr(text_string(&said), "prompt:"));
    recipe_release(&recipe);

    init(&recipe);
    recipe.input.difficulty_scale.range.items[1] = 7;
    assert_int_equal(guess(&recipe, path, &said, NULL), STATUS_OK);
    assert_string_equal(recipe.input.fields.difficulty, "level");
    assert_true(recipe.input.difficulty_scale.range.items[0] == 0);
    assert_true(recipe.input.difficulty_scale.range.items[1] == 7);
    recipe_release(&recipe);
    text_release(&said);
}

static void field_guess_says_why(void **state)
{
    struct recipe recipe = {0};
    struct text said = {0};

    (void)state;
    init(&recipe);
    assert_int_equal(guess(&recipe,
                           write_rows("why",
                                      "{\"id\":@,\"problem\":\"q #\",\"level\":\"Level @\","
                                      "\"quality\":1}",
                                      40),
                           &said, NULL),
                     STATUS_OK);
    assert_string_equal(
        text_string(&said),
        "prompt: 'problem' (a string in 40 of 40 rows)\n"
        "id: none ('id' repeats); rows go by the key of their prompt\n"
        "answer: none\nsource: none\nquality: none ('quality' is the same in all rows)\n"
        "difficulty: 'level' (a string in 40 of 40 rows), range 1 to 5, higher is harder\n"
        "rewards: none\n");
    text_release(&said);
    recipe_release(&recipe);
}

/* Later rows are harder than the first thousand: the scale has to hold them too. */
static void field_guess_reads_on_for_the_range(void **state)
{
    const char *path = scratch_path("sorted");
    struct recipe recipe = {0};
    struct text said = {0};
    FILE *f = fopen(path, "w");

    (void)state;
    assert_non_null(f);
    for (int i = 0; i < 3000; i++)
        fprintf(f, "{\"prompt\":\"q %d\",\"difficulty\":%d}\n", i, i < 1500 ? i % 3 : 9);
    fclose(f);
    init(&recipe);
    assert_int_equal(guess(&recipe, path, &said, NULL), STATUS_OK);
    assert_true(recipe.input.difficulty_scale.range.items[1] == 10);
    recipe_release(&recipe);

    init(&recipe);
    recipe.input.limit = 1200; /* what is not read says nothing */
    assert_int_equal(guess(&recipe, path, &said, NULL), STATUS_OK);
    assert_true(recipe.input.difficulty_scale.range.items[1] == 5);
    recipe_release(&recipe);
    text_release(&said);
}

static void assert_refused(const char *path, enum status expected, const char *words)
{
    struct recipe recipe = {0};
    struct text said = {0};
    struct error err = {0};

    init(&recipe);
    assert_int_equal(guess(&recipe, path, &said, &err), expected);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not have '%s'", err.message, words);
    text_release(&said);
    recipe_release(&recipe);
}

static void field_guess_refuses_what_has_no_prompt(void **state)
{
    (void)state;
    assert_refused(write_rows("none", "{\"a\":\"x #\",\"b\":\"y\",\"c\":1}", 3), STATUS_FORMAT,
                   "rows have: a, b, c;");
    assert_refused(write_rows("array", "[{\"prompt\":\"x\"}]", 1), STATUS_FORMAT,
                   "no row is a JSON object: found an array");
    assert_refused(write_rows("empty", "", 0), STATUS_FORMAT,
                   "no row is a JSON object: there is none");
    assert_refused("-", STATUS_INVALID, "standard input");
    assert_refused(scratch_path("absent"), STATUS_IO, "absent");
}

static void field_guess_passes_over_malformed_rows(void **state)
{
    const char *path = scratch_path("damaged");
    struct recipe recipe = {0};
    struct text said = {0};
    FILE *f = fopen(path, "w");

    (void)state;
    assert_non_null(f);
    fputs("{\"prompt\":\n\n[]\n{\"prompt\":\"a\",\"id\":1}\nnull\n{\"prompt\":\"b\",\"id\":2}\n",
          f);
    fclose(f);
    init(&recipe);
    assert_int_equal(guess(&recipe, path, &said, NULL), STATUS_OK);
    assert_non_null(strstr(text_string(&said), "id: 'id' (an integer in 2 of 2 rows)"));
    text_release(&said);
    recipe_release(&recipe);
}

/* They are left out of the data as well, and say nothing of the rows that are in it. */
static void field_guess_passes_over_rows_that_are_too_long(void **state)
{
    const char *path = scratch_path("long");
    FILE *f = fopen(path, "w");
    struct recipe recipe = {0};
    struct text said = {0};

    (void)state;
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)FIELD_GUESS_BYTES, SEEK_SET), 0);
    fputs("\n{\"question\":\"how many\"}\n", f);
    assert_int_equal(fclose(f), 0);
    init(&recipe);
    assert_int_equal(guess(&recipe, path, &said, NULL), STATUS_OK);
    assert_string_equal(recipe.input.fields.prompt, "question");
    text_release(&said);
    recipe_release(&recipe);
}

static void field_guess_survives_failing_allocations(void **state)
{
    const char *path = write_rows("memory",
                                  "{\"id\":#,\"question\":\"q #\",\"source\":\"s\",\"level\":\"@\","
                                  "\"rewards\":[0,1],\"extra_info\":{\"solve_rate\":~}}",
                                  6);
    bool failed = true;

    (void)state;
    for (size_t allowed = 0; failed; allowed++) {
        struct recipe recipe = {0};
        struct text said = {0};
        enum status st;

        init(&recipe);
        mem_fail_after(allowed);
        st = guess(&recipe, path, &said, NULL);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        text_release(&said);
        recipe_release(&recipe);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(field_guess_knows_published_data_sets),
        cmocka_unit_test(field_guess_judges_by_what_stands_there),
        cmocka_unit_test(field_guess_leaves_what_was_asked_for),
        cmocka_unit_test(field_guess_says_why),
        cmocka_unit_test(field_guess_reads_on_for_the_range),
        cmocka_unit_test(field_guess_refuses_what_has_no_prompt),
        cmocka_unit_test(field_guess_passes_over_malformed_rows),
        cmocka_unit_test(field_guess_passes_over_rows_that_are_too_long),
        cmocka_unit_test(field_guess_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/field_guess", tests, scratch_setup,
                                       scratch_teardown);
}
