#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/json.h"
#include "tests/support/cmocka_headers.h"

#define LEAF "\xe2\x98\x98"

struct text_case {
    const char *text;
    size_t n;
};

#define CASE(s)                                                                                    \
    {                                                                                              \
        s, sizeof(s) - 1                                                                           \
    }

/* After github.com/nst/JSONTestSuite: y_ cases. */
static const struct text_case accepted[] = {
    CASE("[]"),
    CASE("{}"),
    CASE(" [ ] "),
    CASE("\t\n\r{}\n"),
    CASE("null"),
    CASE("true"),
    CASE("false"),
    CASE("0"),
    CASE("-0"),
    CASE("42"),
    CASE(" 42 "),
    CASE("\"\""),
    CASE("[0e1,0e+1,1E-2,-1.5e3,123.456e78]"),
    CASE("[1,null,true,\"x\",{},[]]"),
    CASE("[[[[]]]]"),
    CASE("{\"a\":{\"a\":[{\"a\":1}]}}"),
    CASE("{\"\":0}"),
    CASE("{\"a\\u0062\":1,\"c\":2}"),
    CASE("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"),
    CASE("[\"\\u0000\"]"),
    CASE("[\"\\uD834\\uDd1e\"]"),
    CASE("[\"a/*b*/c // d\"]"),
    CASE("[\"" LEAF "\x7f\"]"),
    CASE("[\"\xf4\x8f\xbf\xbf\"]"),
    CASE("[18446744073709551615,-9223372036854775808]"),
    CASE("[5e-324,1.7976931348623157e308,1e-999]"),
    CASE("{\"a\":[{\"a\":1},{\"a\":2}]}"),
    CASE("[\"{\\\"a\\\":1,\\\"a\\\":1}\"]"),
};

/* n_ cases, and the i_ cases that we refuse. */
static const struct text_case refused[] = {
    CASE(""),
    CASE(" "),
    CASE("["),
    CASE("]"),
    CASE("[1"),
    CASE("[1,"),
    CASE("[1,]"),
    CASE("[,1]"),
    CASE("[1,,2]"),
    CASE("[,]"),
    CASE("[1 2]"),
    CASE("[1]]"),
    CASE("[1}"),
    CASE("{]"),
    CASE("{"),
    CASE("{\"a\""),
    CASE("{\"a\":"),
    CASE("{\"a\":1"),
    CASE("{\"a\":1,"),
    CASE("{\"a\":1,}"),
    CASE("{,\"a\":1}"),
    CASE("{\"a\":1,,\"b\":2}"),
    CASE("{\"a\" 1}"),
    CASE("{\"a\":1 \"b\":2}"),
    CASE("{\"a\"::1}"),
    CASE("{\"a\":1:2}"),
    CASE("{1:2}"),
    CASE("{null:1}"),
    CASE("{a:1}"),
    CASE("{'a':1}"),
    CASE("['a']"),
    CASE("[\"a\":1]"),
    CASE(":"),
    CASE(","),
    CASE("\"a\":1"),
    CASE("[01]"),
    CASE("[-01]"),
    CASE("[00]"),
    CASE("[+1]"),
    CASE("[1.]"),
    CASE("[.5]"),
    CASE("[-]"),
    CASE("[1e]"),
    CASE("[1e+]"),
    CASE("[1.2.3]"),
    CASE("[1-2]"),
    CASE("[- 1]"),
    CASE("[0x1]"),
    CASE("[1e5.5]"),
    CASE("[1_000]"),
    CASE("[NaN]"),
    CASE("[Infinity]"),
    CASE("[-Infinity]"),
    CASE("[nan]"),
    CASE("[1e999]"),
    CASE("[-1e999]"),
    CASE("[18446744073709551616]"),
    CASE("[-9223372036854775809]"),
    CASE("[100000000000000000000]"),
    CASE("TRUE"),
    CASE("True"),
    CASE("nul"),
    CASE("nulls"),
    CASE("[tru]"),
    CASE("truefalse"),
    CASE("1 2"),
    CASE("{}{}"),
    CASE("[] x"),
    CASE("{} // end"),
    CASE("/* a */ {}"),
    CASE("[1/**/]"),
    CASE("# a\n{}"),
    CASE("\""),
    CASE("[\"a]"),
    CASE("[\"a\\\"]"),
    CASE("[\"\\x\"]"),
    CASE("[\"\\u12\"]"),
    CASE("[\"\\u12G4\"]"),
    CASE("[\"\\"),
    CASE("[\"\\u00"),
    CASE("[\"\n\"]"),
    CASE("[\"\t\"]"),
    CASE("[\"\x1f\"]"),
    CASE("[\"\0\"]"),
    CASE("[\0]"),
    CASE("{}\0"),
    CASE("[\"\\ud800\"]"),
    CASE("[\"\\udc00\"]"),
    CASE("[\"\\ud800\\u0041\"]"),
    CASE("[\"\\ud800\\ud800\"]"),
    CASE("[\"\xff\"]"),
    CASE("[\"\xc0\xaf\"]"),
    CASE("[\"\xed\xa0\x80\"]"),
    CASE("\xef\xbb\xbf{}"),
    CASE("\xff\xfe[\0]\0"),
    CASE("[\f]"),
    CASE("[\xc2\xa0]"),
    CASE("{\"a\\u0000\":1}"),
    CASE("{\"a\":1,\"a\":1}"),
    CASE("{\"a\":1,\"\\u0061\":2}"),
    CASE("{\"a\":1,\"b\":2,\"a\":null}"),
    CASE("[{\"x\":{\"k\":[],\"k\":{}}}]"),
};

/* A copy of exactly n bytes, so that reading past the end shows under a sanitizer. */
static enum status parse_exact(struct json **out, const char *bytes, size_t n,
                               const struct json_options *options, struct error *err)
{
    char *copy = malloc(n ? n : 1);
    enum status st;

    assert_non_null(copy);
    memcpy(copy, bytes, n);
    st = json_parse(out, copy, n, options, err);
    free(copy);
    return st;
}

static void json_accepts_what_the_grammar_has(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(accepted) / sizeof(*accepted); i++) {
        struct error err = {0};
        struct json *root;

        if (parse_exact(&root, accepted[i].text, accepted[i].n, NULL, &err))
            fail_msg("%s: %s", accepted[i].text, err.message);
        json_free(root);
    }
}

static void json_refuses_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        struct error err = {0};
        struct json *root;

        if (parse_exact(&root, refused[i].text, refused[i].n, NULL, &err) != STATUS_FORMAT)
            fail_msg("case %zu: %s was accepted", i, refused[i].text);
        assert_null(root);
        assert_true(strlen(err.message) > 0);
    }
}

static void check_message(const char *text, const struct json_options *options,
                          const char *expected)
{
    struct error err = {0};
    struct json *root;

    assert_int_equal(parse_exact(&root, text, strlen(text), options, &err), STATUS_FORMAT);
    assert_string_equal(err.message, expected);
}

static void json_errors_tell_where(void **state)
{
    (void)state;
    check_message("[\"ab\xff\"]", NULL, "byte 4: not UTF-8");
    check_message("{\"a\": 01}", NULL, "byte 6: number with a leading zero");
    check_message("{\"k\": 1, \"b\": {}, \"k\": 2}", NULL, "byte 19: key 'k' comes twice");
    check_message("[18446744073709551616]", NULL, "byte 1: integer beyond 64 bits");
    check_message("[1e999]", NULL, "number beyond the range of a double: 1e999");
    check_message("[[[[]]]]", &(struct json_options){.depth_max = 3},
                  "byte 3: nested deeper than 3");
    check_message("[1,2", NULL, "byte 4: unfinished JSON");
    check_message("[] 2", NULL, "byte 3: unexpected character");
    check_message("['a']", NULL, "byte 1: unexpected '''");
}

static void json_refuses_deep_nesting_at_once(void **state)
{
    size_t n = 100000;
    char *text = malloc(6 * n);
    struct json *root;

    (void)state;
    assert_non_null(text);
    memset(text, '[', n);
    assert_int_equal(json_parse(&root, text, n, NULL, NULL), STATUS_FORMAT);
    for (size_t i = 0; i < n; i++)
        memcpy(text + 5 * i, "{\"a\":", 5);
    assert_int_equal(json_parse(&root, text, 5 * n, NULL, NULL), STATUS_FORMAT);
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    assert_int_equal(json_parse(&root, text, 128, NULL, NULL), STATUS_OK);
    json_free(root);
    memset(text, ']', n);
    assert_int_equal(json_parse(&root, text, n, NULL, NULL), STATUS_FORMAT);
    free(text);
}

static void json_refuses_huge_trees(void **state)
{
    size_t n = 6000000;
    char *text = malloc(n);
    struct error err;
    struct json *root;

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < n; i += 3)
        memcpy(text + i, i ? ",{}" : "[{}", 3);
    text[n - 1] = ']';
    assert_int_equal(json_parse(&root, text, n, NULL, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "so many values in 6000000 bytes"));
    free(text);
}

static void json_options_loosen(void **state)
{
    const struct json_options nan = {.allow_nan = true};
    const struct json_options last = {.allow_duplicates = true};
    const char *text = "[NaN, Infinity, -Infinity, 1e999]";
    struct json *root;
    uint64_t x;

    (void)state;
    assert_int_equal(json_parse(&root, text, strlen(text), &nan, NULL), STATUS_OK);
    assert_true(isnan(json_double(json_element(root, 0))));
    assert_true(json_double(json_element(root, 1)) > 1e308);
    assert_true(json_double(json_element(root, 2)) < -1e308);
    assert_int_equal(json_type(json_element(root, 3)), JSON_NUMBER);
    json_free(root);
    assert_int_equal(json_parse(&root, "[nan]", 5, &nan, NULL), STATUS_FORMAT);
    assert_int_equal(json_parse(&root, "[+Infinity]", 11, &nan, NULL), STATUS_FORMAT);

    text = "{\"a\": 1, \"a\": 2}";
    assert_int_equal(json_parse(&root, text, strlen(text), &last, NULL), STATUS_OK);
    assert_true(json_u64(json_member(root, "a"), &x));
    assert_int_equal(x, 2);
    json_free(root);
}

static void json_gives_values(void **state)
{
    const char *text = "{\"u\":18446744073709551615,\"i\":-9223372036854775808,\"d\":0.5,"
                       "\"m\":9223372036854775807,\"s\":\"a\\u0000b\",\"t\":true,\"n\":null,"
                       "\"l\":[1,2,3],\"o\":{}}";
    const char *const keys[] = {"u", "i", "d", "m", "s", "t", "n", "l", "o"};
    struct json *root;
    const char *s;
    uint64_t u;
    int64_t i;
    size_t n;

    (void)state;
    assert_int_equal(json_parse(&root, text, strlen(text), NULL, NULL), STATUS_OK);
    assert_true(json_u64(json_member(root, "u"), &u));
    assert_true(u == UINT64_MAX);
    assert_false(json_i64(json_member(root, "u"), &i));
    assert_true(json_i64(json_member(root, "i"), &i));
    assert_true(i == INT64_MIN);
    assert_false(json_u64(json_member(root, "i"), &u));
    assert_true(json_i64(json_member(root, "m"), &i));
    assert_true(i == INT64_MAX);
    assert_true(json_double(json_member(root, "u")) == 18446744073709551616.0);
    assert_true(json_double(json_member(root, "d")) == 0.5);
    assert_false(json_u64(json_member(root, "d"), &u));
    assert_true(isnan(json_double(json_member(root, "s"))));
    s = json_string(json_member(root, "s"), &n);
    assert_int_equal(n, 3);
    assert_memory_equal(s, "a\0b", 3);
    assert_null(json_string(json_member(root, "u"), &n));
    assert_true(json_bool(json_member(root, "t")));
    assert_false(json_bool(json_member(root, "l")));
    assert_null(json_member(root, "n"));
    assert_null(json_member(root, "absent"));
    assert_null(json_member(NULL, "u"));
    assert_null(json_member(json_member(root, "l"), "u"));
    assert_int_equal(json_length(json_member(root, "l")), 3);
    assert_int_equal(json_length(json_member(root, "s")), 0);
    assert_null(json_element(json_member(root, "l"), 3));
    assert_null(json_element(root, 0));
    assert_string_equal(json_type_name(json_type(root)), "an object");

    n = 0;
    for (struct json_iterator it = json_iterate(root); json_next(&it); n++) {
        assert_string_equal(it.key, keys[n]);
        assert_int_equal(it.key_length, 1);
    }
    assert_int_equal(n, 9);
    for (struct json_iterator it = json_iterate(NULL); json_next(&it);)
        fail();
    json_free(root);
}

static void json_prints_what_it_read(void **state)
{
    const char *text = "{\"a\":[1,-2,0.10,1E5,1.0,18446744073709551615,123456789.123456789e-3],"
                       "\"b\":\"/ " LEAF " \\\"\\\\\\n\\u0001\",\"c\":{\"d\":null,\"e\":true}}";
    struct text out = {0};
    struct json *root;

    (void)state;
    assert_int_equal(json_parse(&root, text, strlen(text), NULL, NULL), STATUS_OK);
    json_print(root, &out);
    assert_string_equal(text_string(&out), text);
    text_clear(&out);
    json_print(NULL, &out);
    assert_string_equal(text_string(&out), "null");
    text_release(&out);
    json_free(root);
}

static void json_reads_files(void **state)
{
    char path[] = "/tmp/saerl-test-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    struct error err;
    struct json *root;

    (void)state;
    assert_non_null(file);
    fputs("{\"k\": [1, 2}", file);
    fclose(file);
    assert_int_equal(json_parse_file(&root, path, 1000, NULL, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "byte 11"));
    assert_int_equal(json_parse_file(&root, path, 11, NULL, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "more than 11 bytes"));
    assert_int_equal(json_parse_file(&root, "/tmp", 11, NULL, &err), STATUS_IO);
    assert_int_equal(json_parse_file(&root, "/dev/null", 11, NULL, &err), STATUS_IO);
    remove(path);
    assert_int_equal(json_parse_file(&root, path, 11, NULL, &err), STATUS_IO);
}

static void json_survives_failing_allocation(void **state)
{
    const char *text = "{\"a\":[1,2,{\"b\":\"c\"}],\"k\":1,\"k\":2}";
    size_t n;

    (void)state;
    for (n = 0;; n++) {
        struct error err = {0};
        struct json *root;
        enum status st;

        mem_fail_after(n);
        st = json_parse(&root, text, strlen(text), NULL, &err);
        assert_int_equal(st, STATUS_FORMAT);
        assert_non_null(strstr(err.message, "comes twice"));
        if (!mem_failed())
            break;
    }
    mem_fail_after(SIZE_MAX);
    assert_true(n > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_accepts_what_the_grammar_has),
        cmocka_unit_test(json_refuses_the_rest),
        cmocka_unit_test(json_errors_tell_where),
        cmocka_unit_test(json_refuses_deep_nesting_at_once),
        cmocka_unit_test(json_refuses_huge_trees),
        cmocka_unit_test(json_options_loosen),
        cmocka_unit_test(json_gives_values),
        cmocka_unit_test(json_prints_what_it_read),
        cmocka_unit_test(json_reads_files),
        cmocka_unit_test(json_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/json", tests, NULL, NULL);
}
