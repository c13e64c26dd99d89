#include "curator/findings.h"

#include <math.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"

static void add(struct findings *findings, enum finding_code code, enum finding_severity severity,
                double share, const char *title)
{
    assert_non_null(
        findings_add(findings, code, severity, share, "meaning", "advice", NULL, "%s", title));
}

static void worst_come_first(void **state)
{
    struct findings findings = {0};

    (void)state;
    add(&findings, FINDING_UNBATCHED, FINDING_NOTE, NAN, "5");
    add(&findings, FINDING_DUPLICATES, FINDING_PROBLEM, 0.1, "3");
    add(&findings, FINDING_DUPLICATES, FINDING_PROBLEM, 0.2, "2");
    add(&findings, FINDING_WRONG_LAYER, FINDING_PROBLEM, NAN, "1");
    add(&findings, FINDING_WRONG_LAYER, FINDING_WARNING, NAN, "4");
    findings_sort(&findings);
    for (size_t i = 0; i < findings.n; i++)
        assert_int_equal(findings.items[i].title[0], '1' + (int)i);
    findings_release(&findings);
}

static void dropped_ones_leave_the_others_in_order(void **state)
{
    struct findings findings = {0};

    (void)state;
    findings_drop(&findings, FINDING_DUPLICATES);
    add(&findings, FINDING_DUPLICATES, FINDING_NOTE, NAN, "a");
    add(&findings, FINDING_DEAD_SAE, FINDING_NOTE, NAN, "b");
    add(&findings, FINDING_DUPLICATES, FINDING_NOTE, NAN, "c");
    add(&findings, FINDING_UNBATCHED, FINDING_NOTE, NAN, "d");
    assert_int_equal(finding_show(&findings.items[2], 7, NULL, "note %d", 1), STATUS_OK);
    findings_drop(&findings, FINDING_DUPLICATES);
    assert_int_equal(findings.n, 2);
    assert_string_equal(findings.items[0].title, "b");
    assert_string_equal(findings.items[1].title, "d");
    findings_drop(&findings, FINDING_DUPLICATES);
    assert_int_equal(findings.n, 2);
    findings_release(&findings);
}

static void samples_beyond_the_limit_are_left_out(void **state)
{
    struct findings findings = {0};

    (void)state;
    add(&findings, FINDING_DUPLICATES, FINDING_NOTE, NAN, "a");
    for (size_t i = 0; i < FINDING_ROWS_MAX + 3; i++)
        assert_int_equal(finding_show(&findings.items[0], i, NULL, NULL), STATUS_OK);
    assert_int_equal(findings.items[0].n_rows, FINDING_ROWS_MAX);
    assert_null(findings.items[0].rows[0].note);
    findings_release(&findings);
}

static void every_code_has_a_name_and_a_section(void **state)
{
    (void)state;
    for (int code = 0; code < FINDING_CODE_COUNT; code++) {
        assert_non_null(finding_code_name((enum finding_code)code));
        assert_non_null(finding_code_section((enum finding_code)code));
    }
}

static void findings_survive_failing_allocation(void **state)
{
    bool failed = true;

    (void)state;
    for (size_t n = 0; failed; n++) {
        struct findings findings = {0};
        struct finding *finding;
        enum status st = STATUS_NOMEM;

        mem_fail_after(n);
        finding = findings_add(&findings, FINDING_DEAD_SAE, FINDING_NOTE, NAN, "meaning", "advice",
                               NULL, "title %d", 1);
        if (finding)
            st = finding_show(finding, 3, NULL, "note %d", 2);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        findings_release(&findings);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worst_come_first),
        cmocka_unit_test(dropped_ones_leave_the_others_in_order),
        cmocka_unit_test(samples_beyond_the_limit_are_left_out),
        cmocka_unit_test(every_code_has_a_name_and_a_section),
        cmocka_unit_test(findings_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/findings", tests, NULL, NULL);
}
