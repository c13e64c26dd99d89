#include <string.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/section_page.h"

#define BINS "\"edges\":[0,0.5,1],\"before\":[0.5,0.5],\"after\":[0.1,0.9]"

/* A limit above the customary one is what chance does with few rows. */
static void baseline_names_what_moved_by_more_than_its_limit(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "baseline",
                 "{\"name\":\"old\",\"rows\":[100,200],\"distributions\":["
                 "{\"name\":\"words\",\"psi\":0.4,\"limit\":0.25," BINS "},"
                 "{\"name\":\"recon\",\"psi\":0.4,\"limit\":0.5," BINS "}]}");
    section_holds(&html, "<b>old</b> (100 rows then, 200 now) these moved: words of a prompt.");
    section_holds(&html, "PSI 0.40: moved");
    section_holds(&html, "PSI 0.40: hardly moved");
    text_release(&html);
    section_page(&html, "baseline", "{\"name\":null,\"rows\":null,\"distributions\":[]}");
    section_holds(&html, "an earlier report nothing can be compared.");
    text_release(&html);
}

static void baseline_tells_what_another_model_computed(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "baseline", "{\"not_compared\":[\"quality\",\"<b>\",7]}");
    section_holds(&html, "another model computed the scores: quality, &lt;b&gt;, .</p>");
    text_release(&html);
    section_page(&html, "baseline", "{\"not_compared\":[]}");
    section_lacks(&html, "another model");
    text_release(&html);
}

static void baseline_leaves_out_bins_that_do_not_fit_their_edges(void **state)
{
    static const char *const bad[] = {
        "\"edges\":[0,1],\"before\":[0.5,0.5],\"after\":[0.1,0.9]",
        "\"edges\":[0],\"before\":[],\"after\":[]",
        "\"edges\":null,\"before\":[1],\"after\":[1]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct text json = {0}, html = {0};

        text_appendf(&json, "{\"distributions\":[{\"name\":\"words\",\"psi\":1,%s}]}", bad[i]);
        section_page(&html, "baseline", text_string(&json));
        section_lacks(&html, "<svg");
        text_release(&json);
        text_release(&html);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(baseline_names_what_moved_by_more_than_its_limit),
        cmocka_unit_test(baseline_tells_what_another_model_computed),
        cmocka_unit_test(baseline_leaves_out_bins_that_do_not_fit_their_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
