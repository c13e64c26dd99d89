/*
 * report/section_difficulty.c - predicted against observed.
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

const struct section section_difficulty = {
    .name = "difficulty",
    .title = "Difficulty",
    .about = "",
    .reading = reading,
    .body = body,
};
