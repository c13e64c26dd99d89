/*
 * report/section_repeat.c - how to get these numbers again: the command, what went in with its
 * hashes, the recipe with every value that was in effect, and how to cite it.
 */
#include <math.h>
#include <string.h>

#include "report/sections.h"

/* A text longer than html_text() takes, as it is: for files, not for samples. */
static void append_long(struct text *out, const char *s, size_t n)
{
    while (n > 0) {
        size_t part = n;

        if (part > HTML_TEXT_BYTES) {
            part = HTML_TEXT_BYTES;
            while (part > HTML_TEXT_BYTES - 4 && ((unsigned char)s[part] & 0xC0) == 0x80)
                part--;
        }
        html_text(out, s, part);
        s += part;
        n -= part;
    }
}

/* A block to copy from, whole or not at all. */
static void append_block(struct page *page, const struct json *node)
{
    size_t n, mark = page->out.length;
    const char *s = json_string(node, &n);

    if (!s)
        return;
    text_append(&page->out, "<pre class=\"copy\">");
    append_long(&page->out, s, n);
    text_append(&page->out, "</pre>\n");
    (void)page_keep(page, mark);
}

static void reading(struct text *out, const struct json *section)
{
    double seed = member_number(section, "seed");
    const char *program = member_string(section, "program");

    text_append(out, "The same inputs, recipe, seed");
    if (!isnan(seed))
        text_appendf(out, " (%.0f)", seed);
    text_append(out, " and version");
    if (program) {
        text_append(out, " (");
        html_line(out, program, strlen(program), HTML_NAME_WIDTH);
        text_append(out, ")");
    }
    text_append(out, " give the same bytes, at any number of threads.");
}

static void append_inputs(struct page *page, const struct json *inputs)
{
    static const struct column columns[] = {{"What", COLUMN_TEXT},
                                            {"File", COLUMN_TEXT},
                                            {"Bytes", COLUMN_NUMBER},
                                            {"XXH3-128", COLUMN_TEXT}};
    struct table table;

    if (json_length(inputs) == 0)
        return;
    page_heading(page, "What went in");
    table_begin(&table, page, "Inputs and their hashes", columns, 4);
    for (size_t i = 0; i < json_length(inputs) && table_row(&table); i++) {
        const struct json *input = json_element(inputs, i);

        table_name(&table, json_member(input, "role"));
        table_name(&table, json_member(input, "name"));
        table_count(&table, member_number(input, "bytes"));
        table_cell_begin(&table);
        text_append(&page->out, "<code class=\"hash\">");
        html_name(&page->out, json_member(input, "xxh3_128"));
        text_append(&page->out, "</code>");
        table_cell_end(&table);
    }
    table_end(&table);
}

static void body(struct page *page, const struct json *section)
{
    append_block(page, json_member(section, "command"));
    append_inputs(page, json_member(section, "inputs"));
    if (member_string(section, "recipe")) {
        page_fold_begin(page, "The recipe, every value that was in effect", NAN);
        append_block(page, json_member(section, "recipe"));
        page_fold_end(page);
    }
    if (member_string(section, "citation")) {
        page_heading(page, "Citation");
        append_block(page, json_member(section, "citation"));
    }
}

const struct section section_repeat = {
    .name = "repeat",
    .title = "Repeat it",
    .about =
        "<p>The recipe names every setting that can change a number here, also those that were "
        "left at their defaults. Save it, and <code>saerl run</code> takes it as it is; compare "
        "the hashes of the inputs first.</p>\n<p>How long each stage took, peak memory, the CPU "
        "and what "
        "multiplied matrices on it change no number and are not here: of a run, "
        "<code>manifest.json</code> beside this page has them, and <code>log.jsonl</code> what was "
        "said meanwhile.</p>",
    .reading = reading,
    .body = body,
};
