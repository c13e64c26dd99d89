#include <string.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/section_page.h"

#define BENCHMARK                                                                                  \
    "{\"name\":\"math500.jsonl\",\"items\":500,\"items_hit\":44,\"rows_hit\":57},"                 \
    "{\"name\":\"<i>.jsonl\",\"items\":0,\"items_hit\":0,\"rows_hit\":0}"

static void contamination_says_which_benchmark_suffers_most(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "contamination",
                 "{\"ngram\":13,\"rows\":9000,\"rows_hit\":60,\"rows_likely_false\":3,\"against\":"
                 "[" BENCHMARK "],\"hits\":[]}");
    section_holds(&html, "<b>57</b> of 9,000 rows hold text of a benchmark");
    section_holds(&html,
                  "the worst is math500.jsonl, 44 of its 500 items; 3 match one only by chance");
    section_holds(&html, "&lt;i&gt;.jsonl");
    assert_true(strstr(text_string(&html), "</table>") < strstr(text_string(&html), "</figure>"));
    section_lacks(&html, "<i>.jsonl");
    text_release(&html);
    section_page(&html, "contamination",
                 "{\"ngram\":13,\"rows\":5,\"rows_hit\":0,\"against\":[" BENCHMARK "]}");
    section_holds(&html, "None of 5 rows shares 13 words in a row with a benchmark.");
    text_release(&html);
}

static void contamination_shows_both_texts_with_what_they_share(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "contamination",
                 "{\"ngram\":13,\"rows\":90,\"rows_hit\":60,\"against\":[" BENCHMARK "],\"hits\":["
                 "{\"sample\":{\"row\":7,\"text\":\"so: find x\"},\"benchmark\":\"math500.jsonl\","
                 "\"item\":0,\"item_text\":\"find x now\",\"shared\":1,"
                 "\"spans\":{\"sample\":[[4,10]],\"item\":[[0,6]]},\"likely_false\":true}]}");
    section_holds(&html, "so: <mark>find x</mark>");
    section_holds(&html, "<mark>find x</mark> now");
    section_holds(&html, "1 run of 13 words shared");
    section_holds(&html, "item 0");
    section_holds(&html, "likely false");
    section_holds(&html, "1 of 60 rows are shown");
    text_release(&html);
}

static void contamination_hides_what_must_not_be_shown(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "contamination",
                 "{\"ngram\":13,\"rows\":1,\"hits\":[{\"sample\":{\"row\":7,\"text\":null,"
                 "\"redacted\":[\"prompt\"]},\"item\":3,\"item_text\":null,\"spans\":null,"
                 "\"likely_false\":false}]}");
    section_holds(&html, "keeps prompts out of reports");
    section_holds(&html, "Its text is not shown");
    section_lacks(&html, "<mark>");
    section_lacks(&html, "class=\"chip false\"");
    text_release(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contamination_says_which_benchmark_suffers_most),
        cmocka_unit_test(contamination_shows_both_texts_with_what_they_share),
        cmocka_unit_test(contamination_hides_what_must_not_be_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
