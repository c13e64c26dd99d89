/*
 * report/section_verdict.c - the answer first: may one train on this, and what is wrong with it.
 */
#include <math.h>
#include <string.h>

#include "report/sections.h"

void verdict_body(struct page *page)
{
    (void)page;
}
