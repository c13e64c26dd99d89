/*
 * report/section_curriculum.c - batches in order.
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

const struct section section_curriculum = {
    .name = "curriculum",
    .title = "Curriculum and batches",
    .about = "",
    .reading = reading,
    .body = body,
};
