/*
 * tests/support/section_page.h - the page of a report that has nothing but one section.
 */
#ifndef TESTS_SUPPORT_SECTION_PAGE_H
#define TESTS_SUPPORT_SECTION_PAGE_H

#include "base/text.h"

/* Ends the test on failure. `html` holds the section's part of the page, from its heading to its
 * end; the caller releases it. */
void section_page(struct text *html, const char *name, const char *json);

/* End the test, showing the section, if it lacks these words, or holds them. */
void section_holds(const struct text *html, const char *words);
void section_lacks(const struct text *html, const char *words);

#endif
