#include <string.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/section_page.h"

static void sae_says_first_that_the_layer_may_be_wrong(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "sae",
                 "{\"d_sae\":16384,\"l0\":{\"median\":64,\"p95\":80,\"declared\":64},"
                 "\"explained_variance\":0.05,\"suspicion\":{\"score\":0.9,\"reasons\":"
                 "[\"little <variance>\"]}}");
    section_holds(&html, "<p class=\"reading\"><b>These activations do not look like");
    section_holds(&html, "little &lt;variance&gt;");
    text_release(&html);
    section_page(&html, "sae",
                 "{\"d_sae\":16384,\"l0\":{\"median\":64},\"norm_median\":40,"
                 "\"explained_variance\":0.8,"
                 "\"suspicion\":{\"score\":0,\"reasons\":[]}}");
    section_holds(&html,
                  "A typical token has 64 of 16,384 latents, and the reconstruction explains "
                  "80.0\xc2\xa0% of the variance.");
    section_lacks(&html, "callout");
    text_release(&html);
}

static void sae_cards_hold_histogram_and_top_samples(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "sae",
                 "{\"cards\":[{\"latent\":123,\"label\":\"<primes>\",\"rows\":10,\"share\":0.01,"
                 "\"mean\":0.4,\"max\":2,\"why\":\"difficulty\",\"histogram\":{\"edges\":[0,1,2],"
                 "\"counts\":[3,7]},\"top\":[{\"row\":1,\"text\":\"is 7 & 9 prime\",\"value\":2},"
                 "{\"row\":2,\"text\":null,\"value\":1}]}]}");
    section_holds(&html, "123");
    section_holds(&html, "&lt;primes&gt;");
    section_holds(&html, "density <b>1.0\xc2\xa0%</b>");
    section_holds(&html, "is 7 &amp; 9 prime");
    section_holds(&html, "text not shown");
    section_holds(&html, "The table behind the chart");
    section_holds(&html, "width=\"48.0\"");
    section_holds(&html, "width=\"24.0\"");
    text_release(&html);
}

static void sae_of_nothing_known_is_no_nonsense(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "sae", "{\"cards\":[null,{}],\"l0\":7,\"lines\":[null,\"x\"]}");
    section_lacks(&html, "nan");
    section_lacks(&html, "null");
    text_release(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sae_says_first_that_the_layer_may_be_wrong),
        cmocka_unit_test(sae_cards_hold_histogram_and_top_samples),
        cmocka_unit_test(sae_of_nothing_known_is_no_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
