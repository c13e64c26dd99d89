#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/atomic_file.h"
#include "formats/json.h"
#include "report/report_folder.h"
#include "tests/support/cmocka_headers.h"

static char root[] = "/tmp/test_report_folder_XXXXXX";
static char target[64];

static int make_root(void **state)
{
    (void)state;
    if (!mkdtemp(root))
        return -1;
    snprintf(target, sizeof(target), "%s/deep/audit", root);
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    return directory_remove(root, NULL) ? -1 : 0;
}

static enum status write_report(const char *path, const char *name, struct error *err)
{
    struct text html = {0}, json = {0};
    enum status st;

    text_appendf(&html, "<p>%s", name);
    text_appendf(&json, "{\"kind\":\"audit\",\"name\":\"%s\"}\n", name);
    st = text_check(&html, err) || text_check(&json, err)
             ? STATUS_NOMEM
             : report_folder_write(path, &html, &json, err);
    text_release(&html);
    text_release(&json);
    return st;
}

static void assert_report(const char *path, const char *name)
{
    char file[96], html[32] = "", expected[32];
    struct json *root_node = NULL;
    FILE *stream;
    size_t n;

    snprintf(file, sizeof(file), "%s/report.json", path);
    assert_int_equal(json_parse_file(&root_node, file, 1000, NULL, NULL), STATUS_OK);
    assert_string_equal(json_string(json_member(root_node, "name"), &n), name);
    json_free(root_node);
    snprintf(file, sizeof(file), "%s/report.html", path);
    stream = fopen(file, "re");
    assert_non_null(stream);
    assert_non_null(fgets(html, sizeof(html), stream));
    fclose(stream);
    snprintf(expected, sizeof(expected), "<p>%s", name);
    assert_string_equal(html, expected);
}

static void an_earlier_audit_is_replaced(void **state)
{
    char slashes[80], link_path[80], parent[80];

    (void)state;
    assert_int_equal(report_folder_check(target, NULL), STATUS_OK);
    assert_int_equal(write_report(target, "one", NULL), STATUS_OK);
    assert_report(target, "one");
    snprintf(slashes, sizeof(slashes), "%s//", target);
    assert_int_equal(write_report(slashes, "two", NULL), STATUS_OK);
    assert_report(target, "two");
    /* A link stays one. */
    snprintf(link_path, sizeof(link_path), "%s/link", root);
    assert_int_equal(symlink(target, link_path), 0);
    assert_int_equal(write_report(link_path, "three", NULL), STATUS_OK);
    assert_report(target, "three");
    assert_int_equal(unlink(link_path), 0);
    /* Nothing is left aside: the parent can be removed with the folder gone. */
    assert_int_equal(directory_remove(target, NULL), STATUS_OK);
    snprintf(parent, sizeof(parent), "%s/deep", root);
    assert_int_equal(rmdir(parent), 0);
}

static void refuse(const char *words)
{
    struct error err = {0};

    assert_int_equal(report_folder_check(target, &err), STATUS_CONFLICT);
    if (!strstr(err.message, words))
        fail_msg("%s", err.message);
    err = (struct error){0};
    assert_int_equal(write_report(target, "mine", &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, words));
}

static void put(const char *name, const char *bytes)
{
    char path[96];

    snprintf(path, sizeof(path), "%s/%s", target, name);
    assert_int_equal(atomic_file_write_all(path, bytes, strlen(bytes), NULL), STATUS_OK);
}

static void what_is_no_audit_is_named_and_stays(void **state)
{
    char path[96];

    (void)state;
    assert_int_equal(directory_make(target, NULL), STATUS_OK);
    put("kept.jsonl", "{}\n");
    refuse("the folder holds 'kept.jsonl'");
    snprintf(path, sizeof(path), "%s/kept.jsonl", target);
    assert_int_equal(unlink(path), 0);
    put("report.html", "<p>");
    refuse("holds no report.json");
    put("report.json", "{\"kind\":\"run\"}");
    refuse("report.json is not that of an audit");
    put("report.json", "{");
    refuse("report.json is not that of an audit");
    assert_int_equal(directory_remove(target, NULL), STATUS_OK);
    assert_int_equal(atomic_file_write_all(target, "x", 1, NULL), STATUS_OK);
    refuse("there is a file");
    assert_int_equal(unlink(target), 0);
}

static void an_empty_folder_is_filled(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(directory_make(target, NULL), STATUS_OK);
    assert_int_equal(write_report(target, "one", NULL), STATUS_OK);
    assert_report(target, "one");
    assert_int_equal(directory_remove(target, NULL), STATUS_OK);
    assert_int_equal(report_folder_check("", &err), STATUS_INVALID);
}

/* Short of memory there is the old report or the new one, never half of either. */
static void failing_allocations_leave_a_whole_report(void **state)
{
    enum status st = STATUS_NOMEM;

    (void)state;
    assert_int_equal(write_report(target, "old", NULL), STATUS_OK);
    for (size_t allowed = 0; st && allowed < 1000; allowed++) {
        mem_fail_after(allowed);
        st = write_report(target, "new", NULL);
        mem_fail_after(SIZE_MAX);
        if (st)
            assert_report(target, "old");
    }
    assert_int_equal(st, STATUS_OK);
    assert_report(target, "new");
    assert_int_equal(directory_remove(target, NULL), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_earlier_audit_is_replaced),
        cmocka_unit_test(what_is_no_audit_is_named_and_stays),
        cmocka_unit_test(an_empty_folder_is_filled),
        cmocka_unit_test(failing_allocations_leave_a_whole_report),
    };

    return cmocka_run_group_tests_name("report/report_folder", tests, make_root, remove_root);
}
