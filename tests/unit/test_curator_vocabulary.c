#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "curator/vocabulary.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static void set_prompt(struct audit_sample *sample, size_t row, const char *prompt)
{
    struct dataset *data = &sample->run.data;

    data->samples[row].prompt = (struct span){data->text.length, strlen(prompt)};
    text_append(&data->text, prompt);
    assert_false(data->text.failed);
}

static size_t count(const struct audit_sample *sample, size_t max)
{
    size_t n = 99;

    assert_int_equal(vocabulary_count(&n, &sample->run, max, NULL), STATUS_OK);
    return n;
}

static void words_digits_and_signs_count_once(void **state)
{
    static const struct {
        const char *prompts[2];
        size_t n;
    } cases[] = {
        {{"", " \t\n\x7f"}, 0},
        {{"one two", "Two ONE"}, 2},
        {{"x12", "21 x"}, 3},
        {{"a+b", "b - a"}, 4},
        {{"\xc3\xa9t\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd", "\xc3\xa9t\xc3\xa9"}, 2},
        /* The first 64 bytes are the same. */
        {{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"},
         1},
    };

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        struct audit_sample sample;

        audit_sample_init(&sample, 2, 4);
        for (size_t row = 0; row < 2; row++)
            set_prompt(&sample, row, cases[c].prompts[row]);
        assert_int_equal(count(&sample, 100), cases[c].n);
        audit_sample_release(&sample);
    }
}

static void counting_ends_at_the_limit(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 40, 4); /* "w" and the digits of 0 to 39 */
    assert_int_equal(count(&sample, 1000), 11);
    for (size_t max = 0; max < 11; max++)
        assert_int_equal(count(&sample, max), max);
    sample.run.data.n = 0;
    assert_int_equal(count(&sample, 1000), 0);
    sample.run.data.n = 40;
    for (size_t row = 1; row < 40; row++)
        sample.run.data.samples[row].problem = (struct span){0, 1};
    assert_int_equal(count(&sample, 1000), 2); /* "w0" */
    audit_sample_release(&sample);
}

static void a_failing_allocation_is_told(void **state)
{
    struct audit_sample sample;
    struct error err = {0};
    size_t n = 99;

    (void)state;
    audit_sample_init(&sample, 4, 4);
    mem_fail_after(0);
    assert_int_equal(vocabulary_count(&n, &sample.run, 10, &err), STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
    assert_true(err.message[0] != '\0');
    assert_int_equal(n, 0);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_digits_and_signs_count_once),
        cmocka_unit_test(counting_ends_at_the_limit),
        cmocka_unit_test(a_failing_allocation_is_told),
    };

    return cmocka_run_group_tests_name("curator/vocabulary", tests, NULL, NULL);
}
