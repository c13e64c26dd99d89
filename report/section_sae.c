/*
 * report/section_sae.c - is this the right SAE for these activations; latent cards.
 */
#include "report/sections.h"

static void reading(struct text *out, const struct json *section)
{
    (void)out;
    (void)section;
}

static void body(struct page *page, const struct json *section)
{
    (void)page;
    (void)section;
}

const struct section section_sae = {
    .name = "sae",
    .title = "SAE health",
    .about = "",
    .reading = reading,
    .body = body,
};
