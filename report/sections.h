/*
 * report/sections.h - the sections of the page, in order.
 */
#ifndef REPORT_SECTIONS_H
#define REPORT_SECTIONS_H

#include "report/html.h"

extern const struct section section_funnel, section_difficulty, section_quality, section_diversity,
    section_duplicates, section_contamination, section_sae, section_curriculum, section_fields,
    section_baseline, section_repeat;

/* In the order of the page; a NULL ends it. */
extern const struct section *const sections[];

/* The first section: state, figures and findings, from the whole report. */
void verdict_body(struct page *page);

#endif
