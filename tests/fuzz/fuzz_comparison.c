/*
 * Two reports, a zero byte between them; one alone is compared with itself. What is accepted
 * compares to finite numbers and prints as JSON.
 */
#include <math.h>
#include <string.h>

#include "base/text.h"
#include "curator/comparison.h"
#include "tests/support/fuzz.h"

static bool open_side(struct comparison_side *side, const uint8_t *data, size_t size)
{
    struct json *report;
    struct error err;

    return !json_parse(&report, (const char *)data, size, NULL, &err) &&
           !comparison_side_take(side, &report, &err);
}

static void look_at(const struct comparison *c)
{
    struct text out = {0};
    struct json *root;

    for (size_t i = 0; i < c->n_distributions; i++) {
        const struct comparison_distribution *d = &c->distributions[i];

        FUZZ_CHECK(d->n_bins > 0 && d->n_bins <= COMPARISON_BINS_MAX);
        FUZZ_CHECK(d->psi > -1e-9 && isfinite(d->psi) && d->limit >= COMPARISON_PSI_DRIFT);
        for (size_t bin = 0; bin < d->n_bins; bin++)
            FUZZ_CHECK(d->edges[bin] <= d->edges[bin + 1] && d->before[bin] > -1e-9 &&
                       d->after[bin] > -1e-9);
    }
    FUZZ_CHECK(c->sources.js >= 0 && c->sources.js < 1 + 1e-9 && isfinite(c->sources.psi));
    for (size_t i = 0; i < c->n_latents; i++)
        FUZZ_CHECK(c->latents[i].z > 0);
    text_append(&out, "{\"first\":0");
    comparison_print(c, &out);
    text_append_char(&out, '}');
    FUZZ_CHECK(!json_parse(&root, text_string(&out), out.length, NULL, NULL));
    json_free(root);
    text_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct comparison_side x, y;
    static struct comparison c;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t first = zero ? (size_t)(zero - data) : size;
    struct error err;

    x = y = (struct comparison_side){0};
    if (open_side(&x, data, first)) {
        if (!zero && !comparison_make(&c, &x, &x, &err)) {
            look_at(&c);
            FUZZ_CHECK(!(comparison_drift(&c) > 0) && c.n_latents == 0);
            comparison_release(&c);
        }
        if (zero && open_side(&y, zero + 1, size - first - 1) &&
            !comparison_make(&c, &x, &y, &err)) {
            look_at(&c);
            comparison_release(&c);
        }
    }
    comparison_side_close(&x);
    comparison_side_close(&y);
    return 0;
}
