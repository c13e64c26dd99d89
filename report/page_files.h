/*
 * report/page_files.h - what the page is dressed with, put into the program by page_files.py.
 */
#ifndef REPORT_PAGE_FILES_H
#define REPORT_PAGE_FILES_H

#include <stddef.h>

struct page_file {
    const char *bytes;
    size_t n;
};

extern const struct page_file page_style, page_script;
/* uPlot, with its licence; empty in a build without it (option uplot). */
extern const struct page_file page_uplot_style, page_uplot_script;

/* Content-Security-Policy: nothing but these, by their hashes. */
extern const char page_policy[];

#endif
