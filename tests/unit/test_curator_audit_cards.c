#include <string.h>

#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

/* A row as it stood in the file, with an answer under reward.truth. */
static void set_line(struct audit_sample *sample, size_t row, const char *line)
{
    struct text *text = &sample->run.data.text;
    struct sample *s = &sample->run.data.samples[row];

    s->line = (struct span){text->length, strlen(line)};
    text_append(text, line);
    assert_false(text->failed);
    s->has_answer = true;
    if (!sample->recipe.input.fields.answer)
        sample->recipe.input.fields.answer = mem_strdup("reward.truth");
    assert_non_null(sample->recipe.input.fields.answer);
}

static struct json *card(const struct audit_sample *sample, size_t row)
{
    struct text out = {0};
    struct json *root;

    audit_card(&sample->audit, row, NULL, &out);
    assert_int_equal(json_parse(&root, text_string(&out), out.length, NULL, NULL), STATUS_OK);
    text_release(&out);
    return root;
}

static void assert_answer(const struct audit_sample *sample, size_t row, const char *expected)
{
    struct json *root = card(sample, row);

    assert_true(json_has(root, "answer"));
    if (expected)
        audit_sample_is_text(root, "answer", expected);
    else
        assert_null(json_member(root, "answer"));
    json_free(root);
}

static void a_sample_shows_its_answer(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 4, 4);
    assert_answer(&sample, 0, NULL); /* no field for it */
    set_line(&sample, 0, "{\"reward\":{\"truth\":\"\\\"4\\\"\\n\"}}");
    set_line(&sample, 1, "{\"reward\":{\"truth\":{\"a\":[1,2.50]}}}");
    set_line(&sample, 2, "{\"reward\":{\"truth\":17}}");
    assert_answer(&sample, 0, "\"4\"\n");
    assert_answer(&sample, 1, "{\"a\":[1,2.50]}");
    assert_answer(&sample, 2, "17");
    assert_answer(&sample, 3, NULL);
    assert_int_equal(string_list_append(&sample.recipe.output.redact, "answer", NULL), STATUS_OK);
    assert_answer(&sample, 0, NULL);
    audit_sample_release(&sample);
}

static void a_long_answer_is_cut_on_a_character(void **state)
{
    struct audit_sample sample;
    struct text line = {0}, expected = {0};

    (void)state;
    audit_sample_init(&sample, 4, 4);
    text_append(&line, "{\"reward\":{\"truth\":\"");
    for (int i = 0; i < 100; i++)
        text_append(&line, "\xe2\x82\xac"); /* three bytes each: 66 of them fit */
    text_append(&line, "\"}}");
    for (int i = 0; i < AUDIT_ANSWER_BYTES / 3; i++)
        text_append(&expected, "\xe2\x82\xac");
    set_line(&sample, 0, text_string(&line));
    assert_answer(&sample, 0, text_string(&expected));
    text_release(&line);
    text_release(&expected);
    audit_sample_release(&sample);
}

static void a_long_source_is_cut_on_a_character(void **state)
{
    struct audit_sample sample;
    struct text words = {0}, name = {0};

    (void)state;
    audit_sample_init(&sample, 4, 4);
    text_append_char(&name, 'a');
    for (int i = 0; i < 40; i++)
        text_append(&name, "\xc3\xa9"); /* the limit of 60 bytes is in the middle of one */
    sample.audit.source_names[0] = (struct span){sample.run.data.text.length, name.length};
    text_append_n(&sample.run.data.text, text_string(&name), name.length);
    audit_source_words(&sample.audit, 0, &words);
    assert_int_equal(text_utf8_valid(text_string(&words), words.length), words.length);
    assert_memory_equal(text_string(&words) + 1, text_string(&name), 59);
    assert_string_equal(text_string(&words) + 60, "...'");
    text_clear(&words);
    assert_int_equal(string_list_append(&sample.recipe.output.redact, "source", NULL), STATUS_OK);
    audit_source_words(&sample.audit, 0, &words);
    assert_string_equal(text_string(&words), "source 1");
    text_release(&words);
    text_release(&name);
    audit_sample_release(&sample);
}

static void cards_survive_failing_allocations(void **state)
{
    struct audit_sample sample;
    bool failed = true;

    (void)state;
    audit_sample_init(&sample, 4, 4);
    set_line(&sample, 0, "{\"reward\":{\"truth\":[1,2]}}");
    for (size_t allowed = 0; failed; allowed++) {
        struct text out = {0};
        enum status st;

        mem_fail_after(allowed);
        audit_card(&sample.audit, 0, "a note", &out);
        st = text_check(&out, NULL);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        text_release(&out);
    }
    audit_sample_release(&sample);
}

/* 59 bytes and half of a character are no text. */
static void names_are_cut_on_a_character(void **state)
{
    struct audit_sample sample;
    struct text name = {0}, words = {0}, *text;

    (void)state;
    audit_sample_init(&sample, 2, 2);
    text = &sample.run.data.text;
    sample.audit.source_names[0] = (struct span){text->length, 59 + 2 * 100};
    text_appendf(text, "%059d", 0);
    for (int i = 0; i < 100; i++)
        text_append(text, "\u00e9");
    audit_source_words(&sample.audit, 0, &words);
    assert_int_equal(words.length, 1 + 59 + 3 + 1);
    assert_int_equal(text_utf8_valid(text_string(&words), words.length), words.length);
    audit_source_name(&sample.audit, 0, &name);
    assert_int_equal(name.length, 1 + 59 + 2 * 70 + 1);
    assert_int_equal(text_utf8_valid(text_string(&name), name.length), name.length);
    text_release(&name);
    text_release(&words);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_shows_its_answer),
        cmocka_unit_test(a_long_answer_is_cut_on_a_character),
        cmocka_unit_test(a_long_source_is_cut_on_a_character),
        cmocka_unit_test(cards_survive_failing_allocations),
        cmocka_unit_test(names_are_cut_on_a_character),
    };

    return cmocka_run_group_tests_name("curator/audit_cards", tests, NULL, NULL);
}
