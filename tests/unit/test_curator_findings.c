#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/findings.h"
#include "tests/support/cmocka_headers.h"

static struct finding *add(struct findings *findings, enum finding_code code,
                           enum finding_severity severity, double share, int number)
{
    struct finding *f = findings_add(findings, code, severity, share, "what it means", "what to do",
                                     NULL, "finding %d", number);

    assert_non_null(f);
    return f;
}

static void each_code_has_its_own_name(void **state)
{
    (void)state;
    for (int a = 0; a < FINDING_CODE_COUNT; a++) {
        assert_non_null(finding_code_name((enum finding_code)a));
        assert_non_null(finding_code_section((enum finding_code)a));
        for (int b = 0; b < a; b++)
            assert_string_not_equal(finding_code_name((enum finding_code)a),
                                    finding_code_name((enum finding_code)b));
    }
}

static void the_worst_comes_first(void **state)
{
    static const char *const expected[] = {"finding 4", "finding 2", "finding 7",
                                           "finding 6", "finding 3", "finding 1",
                                           "finding 9", "finding 5", "finding 8"};
    struct findings findings = {0};

    (void)state;
    add(&findings, FINDING_LONG_PROMPTS, FINDING_NOTE, 0.9, 1);
    add(&findings, FINDING_DUPLICATES, FINDING_PROBLEM, 0.1, 2);
    add(&findings, FINDING_WRONG_LAYER, FINDING_WARNING, NAN, 3);
    add(&findings, FINDING_WRONG_LAYER, FINDING_PROBLEM, NAN, 4);
    add(&findings, FINDING_FEW_LABELS, FINDING_NOTE, NAN, 5);
    /* Of one code the larger share, and what has none comes last, as it was added. */
    add(&findings, FINDING_DROPPED_SOURCE, FINDING_PROBLEM, 0.2, 6);
    add(&findings, FINDING_DROPPED_SOURCE, FINDING_PROBLEM, 0.6, 7);
    add(&findings, FINDING_FEW_LABELS, FINDING_NOTE, NAN, 8);
    add(&findings, FINDING_FEW_LABELS, FINDING_NOTE, 0.3, 9);
    findings_sort(&findings);
    assert_int_equal(findings.n, 9);
    for (size_t i = 0; i < findings.n; i++)
        assert_string_equal(findings.items[i].title, expected[i]);
    findings_release(&findings);
    assert_int_equal(findings.n, 0);
    findings_sort(&findings);
}

static void dropped_ones_leave_the_others_in_order(void **state)
{
    struct findings findings = {0};

    (void)state;
    findings_drop(&findings, FINDING_DUPLICATES);
    add(&findings, FINDING_DUPLICATES, FINDING_NOTE, NAN, 1);
    add(&findings, FINDING_DEAD_SAE, FINDING_NOTE, NAN, 2);
    add(&findings, FINDING_DUPLICATES, FINDING_NOTE, NAN, 3);
    add(&findings, FINDING_UNBATCHED, FINDING_NOTE, NAN, 4);
    assert_int_equal(finding_show(&findings.items[2], 7, NULL, "note %d", 1), STATUS_OK);
    findings_drop(&findings, FINDING_DUPLICATES);
    assert_int_equal(findings.n, 2);
    assert_string_equal(findings.items[0].title, "finding 2");
    assert_string_equal(findings.items[1].title, "finding 4");
    findings_drop(&findings, FINDING_DUPLICATES);
    assert_int_equal(findings.n, 2);
    findings_release(&findings);
}

static void a_finding_shows_so_many_samples_and_no_more(void **state)
{
    struct findings findings = {0};
    struct finding *f = add(&findings, FINDING_MALFORMED, FINDING_WARNING, 0.5, 1);

    (void)state;
    for (size_t row = 0; row < FINDING_ROWS_MAX + 3; row++)
        assert_int_equal(finding_show(f, row, NULL, row % 2 ? "row %zu" : NULL, row), STATUS_OK);
    assert_int_equal(f->n_rows, FINDING_ROWS_MAX);
    assert_int_equal(f->rows[5].row, 5);
    assert_string_equal(f->rows[5].note, "row 5");
    assert_null(f->rows[6].note);
    assert_string_equal(f->meaning, "what it means");
    assert_string_equal(f->advice, "what to do");
    findings_release(&findings);
}

static void findings_survive_failing_allocations(void **state)
{
    bool failed = true;

    (void)state;
    for (size_t allowed = 0; failed; allowed++) {
        struct findings findings = {0};
        struct finding *f = NULL;
        enum status st = STATUS_OK;
        struct error err = {0};

        mem_fail_after(allowed);
        for (int i = 0; i < 20 && !st; i++) {
            f = findings_add(&findings, FINDING_DUPLICATES, FINDING_NOTE, 0, "m", "a", &err, "%d",
                             i);
            st = f ? finding_show(f, 1, &err, "note %d", i) : STATUS_NOMEM;
        }
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        assert_int_equal(err.message[0] != '\0', failed);
        if (!failed)
            assert_int_equal(findings.n, 20);
        findings_sort(&findings);
        findings_release(&findings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_code_has_its_own_name),
        cmocka_unit_test(the_worst_comes_first),
        cmocka_unit_test(dropped_ones_leave_the_others_in_order),
        cmocka_unit_test(a_finding_shows_so_many_samples_and_no_more),
        cmocka_unit_test(findings_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/findings", tests, NULL, NULL);
}
