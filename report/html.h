/*
 * report/html.h - pieces of the page: escaped text, numbers for people, sample cards, tables.
 *
 * Whatever comes from the JSON goes through html_text(), html_line() or a function that says it
 * does. Titles, captions, labels and "words" are plain text and are escaped here, from whomever
 * they come; only parameters that say HTML are taken as that. Everything is a byte string that
 * grows: nothing here fails by itself, page->out.failed says it at the end. Members of the JSON may
 * be missing or of another type: what is not a number is shown as a dash, what is not a string as
 * nothing.
 *
 * No style attributes (the Content-Security-Policy would refuse them), no address in href or src
 * but "#id".
 *
 *     <section> frame, reading, "what is this?"      report.c, from the table of sections
 *       page_sample(), table_begin() ..., page_fold_begin() ...     this file
 *       chart_histogram() ...                                       report/chart.h
 */
#ifndef REPORT_HTML_H
#define REPORT_HTML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"
#include "formats/json.h"

/* Of one text of a data set: bytes looked at, and bytes of HTML that they may become. A report cuts
 * its texts at 400 bytes; what comes from elsewhere is cut here. */
#define HTML_TEXT_BYTES 600
#define HTML_TEXT_BYTES_OUT 6000
/* Characters of a name: an id, a source, the label of a latent. */
#define HTML_NAME_WIDTH 60

struct page {
    struct text out;
    const struct json *report; /* the whole of it: a section may look at others, findings too */
    size_t limit;              /* what out.length may reach in this section: page_keep() */
    size_t left_out;           /* things that did not fit; the section's end says so */
    unsigned ids;              /* given to charts so far */
    const char *figure_title, *figure_sentence; /* of the open figure, or of a chart without one */
};

/*
 * One section of the page, a const object in report/section_<name>.c. report.c opens it with its
 * heading, its reading and its fold-out, calls `body`, and closes it. Where the JSON has {"absent":
 * "..."} that sentence is all that is shown, and neither function is called.
 */
struct section {
    const char *name;  /* of the JSON; the id of the section too */
    const char *title; /* "Funnel" */
    const char *about; /* "What is this?" as HTML of our own, with its <p> */
    /* One sentence that says what the section comes to, as HTML; may append nothing. */
    void (*reading)(struct text *out, const struct json *section);
    void (*body)(struct page *page, const struct json *section);
};

/* ---- Text ---- */

/*
 * Text from outside as HTML: < > & " ' become references; what cannot be seen or turns the
 * direction of writing is shown as its escape in <u>; at most HTML_TEXT_BYTES of it, then "...".
 * Line feeds and tabs stay: meant for elements of class "text", which keep them.
 */
void html_text(struct text *out, const char *bytes, size_t n);

/* The same on one line of at most `width` characters; line feeds are escapes too. */
void html_line(struct text *out, const char *bytes, size_t n, size_t width);

/*
 * html_line() without elements, for attributes, <title> and SVG: a browser that meets <u> there
 * takes it for the end of the drawing.
 */
void html_plain(struct text *out, const char *bytes, size_t n, size_t width);

/* html_line() of our own prose with settings, "a.b: value", and options, "--a", as <code>. */
void html_prose(struct text *out, const char *words, size_t n);
/* The same as a sentence: a capital first, a full stop last. */
void html_sentence(struct text *out, const char *words, size_t n);

/* html_line() of a JSON string or number; nothing if it is neither. */
void html_name(struct text *out, const struct json *node);

/*
 * html_text() with bytes marked: `spans` is [[begin, end], ...], ascending; what is no such list is
 * no mark. Offsets inside a character are moved to its end.
 */
void html_marked(struct text *out, const char *bytes, size_t n, const struct json *spans);

/* ---- Numbers for people: text_appendf(out, "%s of %s", number_count(a).s, ...) ---- */

struct number {
    char s[40]; /* safe in HTML */
};

struct number number_count(double n);     /* 1,234; a dash for what is not finite */
struct number number_share(double share); /* 69.3 %; "under 0.01 %" */
struct number number_value(double x);     /* 0.62, 12.3, 1,234: three digits that matter */
struct number number_score(double x);     /* 0.62, 0.07: what lies between -1 and 1 */
struct number number_plain(double x);     /* whole numbers as counts, others as values */
/* "0.50 to 0.63" of a JSON array of two scores; "" of anything else. */
struct number number_interval(const struct json *interval);

/* ---- JSON that may be anything ---- */

/* A number of object[name]; NaN if it is none. */
double member_number(const struct json *object, const char *name);
/* A string of object[name], zero-terminated; NULL if it is none. */
const char *member_string(const struct json *object, const char *name);
/* An array of numbers as doubles, NaN for what is none, at most `max`; how many. */
size_t json_numbers(const struct json *array, double *x, size_t max);

/* ---- Page ---- */

/*
 * Bytes are bounded thing by thing: take a mark, append the thing, keep it or take it back.
 *
 *     size_t mark = page->out.length;
 *     ... a card, all of it ...
 *     if (!page_keep(page, mark)) break;
 *
 * Sample cards, rows of tables and charts do so themselves.
 */
bool page_keep(struct page *page, size_t mark);

/* <h3> */
void page_heading(struct page *page, const char *title);

/* <details>; `count` NaN: none is shown. */
void page_fold_begin(struct page *page, const char *title, double count);
void page_fold_end(struct page *page);

/* Two or more charts or lists side by side where there is room. */
void page_columns_begin(struct page *page);
void page_columns_end(struct page *page);

/* A line of figures: tiles_begin, tile..., tiles_end. `value` is HTML, `note` HTML or NULL. */
void page_tiles_begin(struct page *page);
void page_tile(struct page *page, const char *value, const char *label, const char *note);
void page_tiles_end(struct page *page);

/*
 * A sample as a card: text, source, id, scores, what became of it, its note. False if it did not
 * fit. `spans` marks bytes of its text; NULL: none. `label` stands over the card ("kept",
 * "benchmark item"), or NULL.
 */
bool page_sample(struct page *page, const struct json *sample, const char *label,
                 const struct json *spans);

/* A list of samples under a fold-out: "Easiest (5)". Nothing if there are none. */
void page_samples(struct page *page, const char *title, const struct json *list);

/* The name of a latent: "1234 - label", or its number alone. */
void page_latent(struct text *out, const struct json *latent);

/* ---- Tables: sortable by script; a filter box where they are long ---- */

enum column_kind {
    COLUMN_TEXT,
    COLUMN_NUMBER, /* right-aligned */
};

struct column {
    const char *title; /* "" for a column of marks */
    enum column_kind kind;
};

struct table {
    struct page *page;
    const struct column *columns;
    size_t n_columns;
    size_t at;   /* cells of the row so far */
    size_t mark; /* where the row begins */
    size_t rows, left_out;
    bool in_row;
};

/*
 * The caption is needed: it is what a screen reader says. The first cell of a
 * row is its heading. Cells missing at a row's end are added empty.
 */
void table_begin(struct table *table, struct page *page, const char *caption,
                 const struct column *columns, size_t n_columns);
bool table_row(struct table *table); /* begins a row; false: there is no room for more */
void table_count(struct table *table, double n);
void table_share(struct table *table, double share);
void table_value(struct table *table, double x);
void table_score(struct table *table, double x);
void table_plain(struct table *table, double x);
/* A field of a heat table: its number on a colour by `part`, 0 .. 1, of the most; NaN: none. */
void table_heat(struct table *table, const char *number, double part);
void table_name(struct table *table, const struct json *node); /* html_name() */
void table_words(struct table *table, const char *words);
void table_cell_begin(struct table *table); /* HTML of the caller's between the two */
void table_cell_end(struct table *table);
void table_end(struct table *table);

/* Latents with their weights in a probe, under a fold-out: nothing if there are none. */
void page_weights(struct page *page, const char *title, const char *caption,
                  const struct json *latents);
/* The same unfolded, to stand beside a chart in page_columns_begin(). */
void page_weights_beside(struct page *page, const char *title, const char *caption,
                         const struct json *latents);

#endif
