#include "curator/audit_labels.h"

#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static const char members[] =
    "\"scheme\":\"s\",\"l0\":1.50,\"densest\":[{\"latent\":2,\"frequency\":0.5},"
    "{\"latent\":0,\"frequency\":0.25}],\"warnings\":[]";

static void expect(const struct label_table *table, const char *expected)
{
    struct text out = {0};

    assert_int_equal(audit_add_labels(members, table, &out, NULL), STATUS_OK);
    assert_string_equal(text_string(&out), expected);
    text_release(&out);
}

static void write_table(const char *path)
{
    struct label_list list = {0};
    struct label_counts counts;

    assert_int_equal(label_list_append(&list, 2, "say \"x\"", 7, NULL), STATUS_OK);
    assert_int_equal(label_table_write(&list, path, &counts, NULL), STATUS_OK);
    label_list_release(&list);
}

static void only_the_densest_get_a_label(void **state)
{
    const char *path = scratch_path("a.labels.safetensors");
    struct label_table table;
    struct text out = {0};

    (void)state;
    expect(NULL, "\"scheme\":\"s\",\"l0\":1.50,\"densest\":[{\"latent\":2,\"frequency\":0.5,"
                 "\"label\":null},{\"latent\":0,\"frequency\":0.25,\"label\":null}],"
                 "\"warnings\":[]");
    write_table(path);
    assert_int_equal(label_table_open(&table, path, NULL), STATUS_OK);
    expect(&table, "\"scheme\":\"s\",\"l0\":1.50,\"densest\":[{\"latent\":2,\"frequency\":0.5,"
                   "\"label\":\"say \\\"x\\\"\"},{\"latent\":0,\"frequency\":0.25,"
                   "\"label\":null}],\"warnings\":[]");
    label_table_close(&table);
    assert_int_equal(audit_add_labels("\"scheme\":\"s\"", NULL, &out, NULL), STATUS_OK);
    assert_string_equal(text_string(&out), "\"scheme\":\"s\"");
    text_release(&out);
}

static void a_long_label_is_cut(void **state)
{
    const char *path = scratch_path("c.labels.safetensors");
    static char name[3000];
    struct label_table table;
    struct audit audit = {.labels = &table};
    struct label_list list = {0};
    struct label_counts counts;
    struct text out = {0};

    (void)state;
    memset(name, 'a', sizeof(name));
    assert_int_equal(label_list_append(&list, 2, name, sizeof(name), NULL), STATUS_OK);
    assert_int_equal(label_table_write(&list, path, &counts, NULL), STATUS_OK);
    label_list_release(&list);
    assert_int_equal(label_table_open(&table, path, NULL), STATUS_OK);
    assert_int_equal(audit_label(&audit, 2, &out, NULL), STATUS_OK);
    assert_int_equal(out.length, AUDIT_NAME_BYTES + 2);
    text_clear(&out);
    assert_int_equal(audit_label(&audit, 1, &out, NULL), STATUS_OK);
    assert_string_equal(text_string(&out), "null");
    text_release(&out);
    label_table_close(&table);
}

static void audit_labels_survive_failing_allocation(void **state)
{
    const char *path = scratch_path("b.labels.safetensors");
    struct label_table table;
    size_t n = 0;

    (void)state;
    write_table(path);
    assert_int_equal(label_table_open(&table, path, NULL), STATUS_OK);
    do {
        struct text out = {0};
        enum status st;

        mem_fail_after(n++);
        st = audit_add_labels(members, &table, &out, NULL);
        if (!st)
            st = text_check(&out, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        text_release(&out);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    label_table_close(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_densest_get_a_label),
        cmocka_unit_test(a_long_label_is_cut),
        cmocka_unit_test(audit_labels_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/audit_labels", tests, scratch_setup,
                                       scratch_teardown);
}
