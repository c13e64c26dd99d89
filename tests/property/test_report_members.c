/*
 * Members of a report may be missing or of any type: whatever stands where, the page is whole. Its
 * elements are closed in order, it has no element or attribute but our own, no number in it is nan,
 * and it keeps its bound.
 *
 *     test_report_members REPORT.json
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"
#include "formats/json.h"
#include "report/report.h"
#include "tests/support/cmocka_headers.h"

#define N_SEEDS 200
#define DEPTH_MAX 64

static struct json *sample;

static const char *const others[] = {
    "null",
    "0",
    "-1",
    "1e308",
    "-1e308",
    "18446744073709551615",
    "0.5",
    "true",
    "\"\"",
    "\"text\"",
    "\"</script></style><img src=x onerror=alert(1)>&amp;\\u202e\\u0007'\\\"\"",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "[[3,1],[0,999999],[1,2],[-1,5],[2,\"x\"]]",
    "[1,0,-1]",
    "[{\"a\":1}]",
    "{\"edges\":[0,1,2],\"counts\":[1]}",
    "{\"edges\":[2,1,0],\"counts\":[1,2]}",
    "{\"edges\":[0,0,0],\"counts\":[0,0]}",
    "{\"edges\":[0,1],\"series\":[{\"name\":\"<b>\",\"counts\":[-1]}]}",
};

#define N_OTHERS (sizeof(others) / sizeof(*others))

/* `node` with some of what is in it left out or replaced, one of `one_in` nodes. */
static void print_damaged(const struct json *node, struct rng *rng, uint64_t one_in,
                          struct text *out)
{
    const char *comma = "";

    if (rng_below(rng, one_in) == 0) {
        text_append(out, others[rng_below(rng, N_OTHERS)]);
        return;
    }
    if (json_type(node) == JSON_ARRAY) {
        text_append_char(out, '[');
        for (size_t i = 0; i < json_length(node); i++) {
            if (rng_below(rng, 4 * one_in) == 0)
                continue;
            text_append(out, comma);
            print_damaged(json_element(node, i), rng, one_in, out);
            comma = ",";
        }
        text_append_char(out, ']');
    } else if (json_type(node) == JSON_OBJECT) {
        text_append_char(out, '{');
        for (struct json_iterator it = json_iterate(node); json_next(&it);) {
            if (rng_below(rng, 4 * one_in) == 0)
                continue;
            text_append(out, comma);
            text_append_json_string(out, it.key, it.key_length);
            text_append_char(out, ':');
            print_damaged(it.value, rng, one_in, out);
            comma = ",";
        }
        text_append_char(out, '}');
    } else {
        json_print(node, out);
    }
}

static bool is_one_of(const char *name, size_t n, const char *const *names)
{
    for (size_t i = 0; names[i]; i++) {
        if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
            return true;
    }
    return false;
}

static const char *const voids[] = {"meta", "input", "br", "hr", "!doctype", NULL};
/* What a text of the data set could bring and we never write. */
static const char *const foreign[] = {"img", "a\"", "iframe", "object", "base", "link", NULL};

struct element {
    const char *name;
    size_t n;
};

/* One tag at `s`; NULL, with a word on it, if something is wrong. */
static const char *take_tag(const char *s, struct element *open, size_t *depth)
{
    bool closing = s[1] == '/';
    const char *name = s + 1 + closing, *end = name, *quote;
    size_t n;

    while (*end && !isspace((unsigned char)*end) && *end != '>' && *end != '/')
        end++;
    n = (size_t)(end - name);
    if (n == 0 || is_one_of(name, n, foreign)) {
        print_error("an element of the data set: %.60s\n", s);
        return NULL;
    }
    for (; *end && *end != '>'; end++) {
        if (*end != '"')
            continue;
        quote = strchr(end + 1, '"');
        if (!quote || memchr(end + 1, '<', (size_t)(quote - end - 1)) ||
            strncmp(end + 1, "nan", 3) == 0 || strncmp(end + 1, "-nan", 4) == 0 ||
            strncmp(end + 1, "inf", 3) == 0) {
            print_error("a bad attribute: %.200s\n", s);
            return NULL;
        }
        end = quote;
    }
    if (*end != '>') {
        print_error("a tag without an end: %.60s\n", s);
        return NULL;
    }
    if (closing) {
        if (*depth == 0 || open[*depth - 1].n != n || memcmp(open[*depth - 1].name, name, n) != 0) {
            print_error("</%.*s> closes <%.*s>: %.200s\n", (int)n, name,
                        *depth ? (int)open[*depth - 1].n : 0, *depth ? open[*depth - 1].name : "",
                        s);
            return NULL;
        }
        --*depth;
    } else if (end[-1] != '/' && !is_one_of(name, n, voids)) {
        assert_true(*depth < DEPTH_MAX);
        open[(*depth)++] = (struct element){name, n};
        /* What is inside of these two is no markup. */
        if (is_one_of(name, n, (const char *const[]){"script", "style", NULL})) {
            end = strstr(end, name[1] == 'c' ? "</script" : "</style");
            return end;
        }
    }
    return end + 1;
}

static bool is_whole(const char *html)
{
    struct element open[DEPTH_MAX];
    size_t depth = 0;

    while ((html = strchr(html, '<'))) {
        html = take_tag(html, open, &depth);
        if (!html)
            return false;
    }
    if (depth)
        print_error("<%.*s> is not closed\n", (int)open[depth - 1].n, open[depth - 1].name);
    return depth == 0;
}

static void report_page_is_whole_whatever_stands_where(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        struct text json = {0}, html = {0};
        struct error err;
        struct rng rng;

        rng_init(&rng, seed, "report_members", 0);
        /* From one fault in a section to faults all over. */
        text_append(&json, "{\"format\":\"saerl.report\",\"version\":2");
        for (struct json_iterator it = json_iterate(sample); json_next(&it);) {
            if (strcmp(it.key, "format") == 0 || strcmp(it.key, "version") == 0)
                continue;
            text_append_char(&json, ',');
            text_append_json_string(&json, it.key, it.key_length);
            text_append_char(&json, ':');
            if (seed == 0 || strcmp(it.key, "sections") != 0) {
                print_damaged(it.value, &rng, seed ? 20 + (seed % 7) * 50 : UINT32_MAX, &json);
                continue;
            }
            text_append(&json, "{\"nothing\":0");
            for (struct json_iterator s = json_iterate(it.value); json_next(&s);) {
                text_append_char(&json, ',');
                text_append_json_string(&json, s.key, s.key_length);
                text_append_char(&json, ':');
                print_damaged(s.value, &rng, 20 + (seed % 7) * 50, &json);
            }
            text_append_char(&json, '}');
        }
        text_append_char(&json, '}');
        if (report_html(&html, text_string(&json), json.length, &err))
            fail_msg("seed %llu: %s", (unsigned long long)seed, err.message);
        if (html.length > REPORT_HTML_BYTES_MAX || strlen(html.data) != html.length ||
            !is_whole(html.data))
            fail_msg("seed %llu: the page of %zu bytes is not whole", (unsigned long long)seed,
                     html.length);
        text_release(&json);
        text_release(&html);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(report_page_is_whole_whatever_stands_where),
    };
    struct error err;
    int failed;

    if (argc != 2 || json_parse_file(&sample, argv[1], (size_t)1 << 26, NULL, &err)) {
        fprintf(stderr, "usage: test_report_members REPORT.json\n");
        return 2;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_free(sample);
    return failed;
}
