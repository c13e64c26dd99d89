#include <stdint.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/reworded.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

#define EVEN UINT64_C(1)
#define ODD UINT64_C(2)

static void set_prompt(struct audit_sample *sample, size_t row, const char *prompt)
{
    struct dataset *data = &sample->run.data;
    struct sample *s = &data->samples[row];

    s->prompt = (struct span){data->text.length, strlen(prompt)};
    text_append(&data->text, prompt);
    assert_false(data->text.failed);
    s->prompt_hash = hash128(prompt, strlen(prompt));
}

/* `n` words that no other `number` has, those of `changed` replaced: bit w for word w. */
static void set_words(struct audit_sample *sample, size_t row, size_t number, size_t n,
                      uint64_t changed)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    struct text prompt = {0};

    for (size_t w = 0; w < n; w++) {
        size_t x = number;

        text_appendf(&prompt, "%sword%c", w ? " " : "", letters[w % 26]);
        for (size_t i = 0; i < 4; i++, x /= 26)
            text_append_char(&prompt, letters[x % 26]);
        if (changed >> w & 1)
            text_appendf(&prompt, "s");
    }
    set_prompt(sample, row, text_string(&prompt));
    text_release(&prompt);
}

/* Rows of twenty words that have nothing to do with each other. */
static void init(struct audit_sample *sample, size_t n)
{
    audit_sample_init(sample, n, 4);
    for (size_t row = 0; row < n; row++)
        set_words(sample, row, row, 20, 0);
}

static const struct reworded_row *row_of(const struct reworded *found, size_t row)
{
    for (size_t i = 0; i < found->n; i++)
        if (found->rows[i].row == row)
            return &found->rows[i];
    return NULL;
}

static void assert_row(const struct audit_sample *sample, size_t row, uint64_t sources,
                       size_t partner)
{
    struct reworded found;
    const struct reworded_row *r;

    assert_int_equal(reworded_find(&found, &sample->audit, NULL), STATUS_OK);
    r = row_of(&found, row);
    assert_non_null(r);
    assert_int_equal(r->sources, sources);
    assert_int_equal(r->partner, partner);
    reworded_release(&found);
}

static void a_few_words_changed_are_the_same(void **state)
{
    struct audit_sample sample;

    (void)state;
    init(&sample, 12);
    assert_row(&sample, 3, 0, NO_ROW);
    set_words(&sample, 3, 6, 20, UINT64_C(1) << 9);
    assert_row(&sample, 3, EVEN, 6);
    assert_row(&sample, 6, ODD, 3);
    set_words(&sample, 3, 6, 20, UINT64_C(1) << 5 | UINT64_C(1) << 14);
    assert_row(&sample, 3, EVEN, 6);
    /* Every fifth word: three fifths and no run of four that stays. */
    set_words(&sample, 3, 6, 20, UINT64_C(0x8421) << 3);
    assert_row(&sample, 3, 0, NO_ROW);
    /* Of two that say the same the one that says more of it. */
    set_words(&sample, 3, 6, 20, UINT64_C(1) << 5 | UINT64_C(1) << 14);
    set_words(&sample, 5, 6, 20, UINT64_C(1) << 9);
    assert_row(&sample, 6, ODD, 5);
    audit_sample_release(&sample);
}

static void another_number_or_sign_is_another_task(void **state)
{
    static const char *const prompts[] = {
        "a lorry brings %s crates of plums to the market where a clerk stacks them into towers",
        "a lorry brings %s boxes of plums to the market where a clerk stacks them into towers",
    };
    static const char *const numbers[][2] = {
        {"17", "18"}, {"17", "1.7"}, {"17", "17 or 18"}, {"x + y", "x - y"}, {"b2", "b3"}};
    struct audit_sample sample;

    (void)state;
    init(&sample, 4);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        for (size_t same = 0; same < 2; same++) {
            for (size_t row = 0; row < 2; row++) {
                const char *at = strstr(prompts[row], "%s");
                char *prompt = text_format("%.*s%s%s", (int)(at - prompts[row]), prompts[row],
                                           numbers[i][same ? 0 : row], at + 2);

                assert_non_null(prompt);
                set_prompt(&sample, row, prompt);
                mem_free(prompt);
            }
            assert_row(&sample, 0, same ? ODD : 0, same ? 1 : NO_ROW);
        }
    }
    audit_sample_release(&sample);
}

static void few_words_are_too_few(void **state)
{
    struct audit_sample sample;

    (void)state;
    init(&sample, 4);
    for (size_t n = 0; n < 14; n++) {
        set_words(&sample, 0, 7, n, 0);
        set_words(&sample, 1, 7, n, 0);
        assert_row(&sample, 0, n < 12 ? 0 : ODD, n < 12 ? NO_ROW : 1);
    }
    audit_sample_release(&sample);
}

/* What all rows of a source have around their task is no part of it, its numbers neither. */
static void an_instruction_around_it_does_not_count(void **state)
{
    struct audit_sample sample;

    (void)state;
    init(&sample, 40);
    for (size_t row = 0; row < 40; row++) {
        struct text prompt = {0};

        set_words(&sample, row, row / 2, 20, 0);
        if (row % 2)
            text_append(&prompt, "Work in at most 12 steps, check each of them, then give the "
                                 "result alone in a box. ");
        text_append_n(&prompt, run_prompt(&sample.run, row).bytes,
                      run_prompt(&sample.run, row).length);
        if (row % 2)
            text_append(&prompt, " And remember that there are at most 12 steps, not 13!");
        set_prompt(&sample, row, text_string(&prompt));
        text_release(&prompt);
    }
    for (size_t row = 0; row < 40; row += 9)
        assert_row(&sample, row, row % 2 ? EVEN : ODD, row ^ 1);
    audit_sample_release(&sample);
}

/* The same prompt but for one blank in all rows: nothing is a row's own. */
static void a_template_of_many_rows_says_nothing(void **state)
{
    struct audit_sample sample;

    (void)state;
    init(&sample, 40);
    for (size_t row = 0; row < 40; row++)
        set_words(&sample, row, 7, 20, UINT64_C(1) << row % 20);
    for (size_t row = 0; row < 40; row += 9)
        assert_row(&sample, row, 0, NO_ROW);
    audit_sample_release(&sample);
}

static void rows_of_its_own_source_are_told_unless_they_are_copies(void **state)
{
    struct audit_sample sample;

    (void)state;
    init(&sample, 12);
    set_words(&sample, 3, 6, 20, UINT64_C(1) << 9);
    set_words(&sample, 2, 6, 20, UINT64_C(1) << 13);
    assert_row(&sample, 6, EVEN | ODD, 3);
    set_words(&sample, 2, 6, 20, 0);
    assert_row(&sample, 6, ODD, 3);
    /* Alone in its source, nothing is beside it. */
    set_words(&sample, 2, 6, 20, UINT64_C(1) << 13);
    set_words(&sample, 3, 3, 20, 0);
    assert_row(&sample, 6, EVEN, NO_ROW);
    audit_sample_release(&sample);
}

static void rows_without_source_or_text_are_left_out(void **state)
{
    struct audit_sample sample;
    struct reworded found;

    (void)state;
    init(&sample, 12);
    set_words(&sample, 3, 6, 20, 0);
    sample.audit.source_of[3] = AUDIT_NO_SOURCE;
    assert_row(&sample, 6, 0, NO_ROW);
    sample.audit.source_of[3] = 1;
    sample.run.data.samples[3].problem = (struct span){0, 1};
    assert_row(&sample, 6, 0, NO_ROW);
    assert_int_equal(reworded_find(&found, &sample.audit, NULL), STATUS_OK);
    assert_int_equal(found.n, 11);
    assert_null(row_of(&found, 3));
    reworded_release(&found);
    for (size_t row = 0; row < 12; row++)
        sample.audit.source_of[row] = AUDIT_NO_SOURCE;
    assert_int_equal(reworded_find(&found, &sample.audit, NULL), STATUS_OK);
    assert_int_equal(found.n, 0);
    reworded_release(&found);
    for (size_t row = 0; row < 12; row++) {
        sample.audit.source_of[row] = (uint32_t)(row % 2);
        set_prompt(&sample, row, row % 3 ? "" : "two words");
    }
    assert_row(&sample, 6, 0, NO_ROW);
    audit_sample_release(&sample);
}

/* 256 of the 1,000 even rows, the ten odd ones all, and all rows are searched for their like. */
static void a_large_source_is_looked_at_here_and_there(void **state)
{
    struct audit_sample sample;
    struct reworded found;
    size_t last = 0, even = 0, reworded = 0;

    (void)state;
    init(&sample, 1010);
    for (size_t row = 0; row < 1010; row++)
        sample.audit.source_of[row] = row >= 1000;
    for (size_t row = 1000; row < 1010; row++)
        set_words(&sample, row, 100 * (row - 1000) + 7, 20, UINT64_C(1) << 9);
    assert_int_equal(reworded_find(&found, &sample.audit, NULL), STATUS_OK);
    assert_int_equal(found.n, 266);
    for (size_t i = 0; i < found.n; i++) {
        size_t row = found.rows[i].row;

        assert_true(row >= last && row - last <= 4);
        last = row;
        even += row < 1000;
        if (row < 1000)
            continue;
        reworded++;
        assert_int_equal(found.rows[i].sources, EVEN);
        assert_int_equal(found.rows[i].partner, 100 * (row - 1000) + 7);
    }
    assert_int_equal(even, 256);
    assert_int_equal(reworded, 10);
    reworded_release(&found);
    audit_sample_release(&sample);
}

static void rows_survive_failing_allocations(void **state)
{
    struct audit_sample sample;
    struct reworded found;
    enum status st = STATUS_NOMEM;
    size_t n = 0;

    (void)state;
    init(&sample, 12);
    set_words(&sample, 3, 6, 20, UINT64_C(1) << 9);
    for (; st; n++) {
        struct error err = {0};

        mem_fail_after(n);
        st = reworded_find(&found, &sample.audit, &err);
        assert_true(mem_failed() == (st != STATUS_OK));
        if (st) {
            assert_int_equal(st, STATUS_NOMEM);
            assert_true(err.message[0] != '\0');
            assert_null(found.rows);
            assert_int_equal(found.n, 0);
        }
    }
    mem_fail_after(SIZE_MAX);
    assert_true(n > 8);
    assert_int_equal(row_of(&found, 3)->partner, 6);
    reworded_release(&found);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_words_changed_are_the_same),
        cmocka_unit_test(another_number_or_sign_is_another_task),
        cmocka_unit_test(few_words_are_too_few),
        cmocka_unit_test(an_instruction_around_it_does_not_count),
        cmocka_unit_test(a_template_of_many_rows_says_nothing),
        cmocka_unit_test(rows_of_its_own_source_are_told_unless_they_are_copies),
        cmocka_unit_test(rows_without_source_or_text_are_left_out),
        cmocka_unit_test(a_large_source_is_looked_at_here_and_there),
        cmocka_unit_test(rows_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/reworded", tests, NULL, NULL);
}
