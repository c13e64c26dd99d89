#include <string.h>

#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static void set(struct recipe *recipe, const char *key, const char *value)
{
    assert_int_equal(settings_set(recipe_schema, recipe, key, value,
                                  (struct setting_origin){.word = "test"}, NULL),
                     STATUS_OK);
}

static void add_input(struct run *run, const char *path)
{
    void *files = run->inputs.files;

    assert_true(
        mem_grow(&files, &run->inputs.capacity, run->inputs.n + 1, sizeof(*run->inputs.files)));
    run->inputs.files = files;
    run->inputs.files[run->inputs.n++] =
        (struct input_file){.path = mem_strdup(path), .role = "input.data", .bytes = 7};
}

static const char *recipe_of(const struct json *root)
{
    size_t n;

    return json_string(json_member(root, "recipe"), &n);
}

static void paths_are_cut_to_their_last_part(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 2, 1);
    set(&sample.recipe, "input.data", "[/srv/someone/a.jsonl, /data/*.jsonl]");
    set(&sample.recipe, "sae.path", "/models/sae/");
    set(&sample.recipe, "quality.probe", "recon");
    set(&sample.recipe, "serve.bind", "ipc:///srv/someone/socket");
    add_input(&sample.run, "/srv/someone/a.jsonl");
    add_input(&sample.run, "odd\xff\xfename");
    root = audit_sample_print(&sample, audit_repeat);
    assert_non_null(strstr(recipe_of(root), "data: [a.jsonl, \"*.jsonl\"]\n"));
    assert_non_null(strstr(recipe_of(root), "  path: sae\n"));
    assert_non_null(strstr(recipe_of(root), "  probe: recon\n"));
    assert_null(strchr(recipe_of(root), '/'));
    assert_int_equal(json_length(json_member(root, "inputs")), 2);
    audit_sample_is_text(root, "inputs.0.name", "a.jsonl");
    audit_sample_is_text(root, "inputs.0.role", "input.data");
    audit_sample_is_text(root, "inputs.0.xxh3_128", "00000000000000000000000000000000");
    audit_sample_is_text(root, "inputs.1.name", "odd\xef\xbf\xbd\xef\xbf\xbdname");
    assert_true(audit_sample_number(root, "inputs.0.bytes") == 7);
    /* The recipe of the run is as it was. */
    assert_string_equal(sample.recipe.sae.path, "/models/sae");
    json_free(root);
    audit_sample_release(&sample);
}

static void what_cannot_change_the_report_is_not_in_it(void **state)
{
    struct audit_sample sample;
    struct text x = {0}, y = {0};

    (void)state;
    audit_sample_init(&sample, 2, 1);
    assert_int_equal(audit_repeat(&sample.audit, &x, NULL), STATUS_OK);
    set(&sample.recipe, "output.dir", "/elsewhere");
    set(&sample.recipe, "resources.threads", "7");
    set(&sample.recipe, "resources.memory", "1000000");
    set(&sample.recipe, "serve.bind", "ipc:///x");
    set(&sample.recipe, "metrics.listen", "127.0.0.1:1");
    set(&sample.recipe, "online.forgetting", "0.5");
    assert_int_equal(audit_repeat(&sample.audit, &y, NULL), STATUS_OK);
    assert_string_equal(text_string(&x), text_string(&y));
    text_clear(&y);
    set(&sample.recipe, "batches.size", "9");
    assert_int_equal(audit_repeat(&sample.audit, &y, NULL), STATUS_OK);
    assert_non_null(strstr(text_string(&y), "size: 9"));
    text_release(&x);
    text_release(&y);
    audit_sample_release(&sample);
}

static void the_command_is_the_one_that_was_typed(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 2, 1);
    root = audit_sample_print(&sample, audit_repeat);
    audit_sample_is_text(root, "command", "saerl run recipe.lock.yaml");
    json_free(root);
    sample.audit.command = "saerl audit /srv/x/a.jsonl b.jsonl --set sae.path=/srv/x/sae/ --seed 3";
    root = audit_sample_print(&sample, audit_repeat);
    audit_sample_is_text(root, "command",
                         "saerl audit a.jsonl b.jsonl --set sae.path=sae/ --seed 3");
    json_free(root);
    audit_sample_release(&sample);
}

static void the_paper_is_named(void **state)
{
    struct audit_sample sample;
    struct json *root;
    size_t n;

    (void)state;
    audit_sample_init(&sample, 2, 1);
    sample.recipe.seed = UINT64_MAX;
    root = audit_sample_print(&sample, audit_repeat);
    assert_non_null(strstr(json_string(json_member(root, "citation"), &n), "arXiv:2605.27354"));
    audit_sample_is_text(root, "program", "saerl " SAERL_VERSION);
    assert_true(audit_sample_number(root, "seed") == 18446744073709551615.0);
    json_free(root);
    audit_sample_release(&sample);
}

static void repeat_survives_failing_allocation(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 2, 1);
    set(&sample.recipe, "input.data", "[/srv/someone/a.jsonl]");
    add_input(&sample.run, "/srv/someone/a.jsonl");
    audit_sample_fail_allocations(&sample, audit_repeat);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_cut_to_their_last_part),
        cmocka_unit_test(what_cannot_change_the_report_is_not_in_it),
        cmocka_unit_test(the_command_is_the_one_that_was_typed),
        cmocka_unit_test(the_paper_is_named),
        cmocka_unit_test(repeat_survives_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
