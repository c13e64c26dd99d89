#include "report/html.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DASH "\xe2\x80\x93"
#define MINUS "\xe2\x88\x92"
#define NBSP "\xc2\xa0"
#define ELLIPSIS "\xe2\x80\xa6"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

/* ---- Text ---- */

enum lines {
    LINES_KEPT,  /* line feeds and tabs as they are */
    LINES_SHOWN, /* as escapes */
};

/* One character, or a piece of a run of escapes: *in_run says that <u> is open. NULL: without. */
static void append_character(struct text *out, const char *bytes, size_t n, enum lines lines,
                             size_t *length, bool *in_run)
{
    uint32_t c;
    bool visible = text_next_visible(bytes, n, length, &c);

    if (lines == LINES_KEPT && (c == '\n' || c == '\t'))
        visible = true;
    if (in_run && visible == *in_run) {
        text_append(out, visible ? "</u>" : "<u>");
        *in_run = !visible;
    }
    if (!visible)
        text_append_escape(out, c);
    else if (c == '<')
        text_append(out, "&lt;");
    else if (c == '>')
        text_append(out, "&gt;");
    else if (c == '&')
        text_append(out, "&amp;");
    else if (c == '"')
        text_append(out, "&quot;");
    else if (c == '\'')
        text_append(out, "&#39;");
    else
        text_append_n(out, bytes, *length);
}

/* The next span of [[begin, end], ...] that ends behind `at`; false if there is none. */
static bool next_span(const struct json *spans, size_t *i, size_t at, size_t *begin, size_t *end)
{
    for (; *i < json_length(spans); ++*i) {
        const struct json *span = json_element(spans, *i);
        uint64_t b, e;

        if (json_u64(json_element(span, 0), &b) && json_u64(json_element(span, 1), &e) && b < e &&
            e > at) {
            *begin = (size_t)b;
            *end = (size_t)e;
            return true;
        }
    }
    return false;
}

void html_marked(struct text *out, const char *bytes, size_t n, const struct json *spans)
{
    size_t at = 0, length, span = 0, begin = 0, end = 0;
    size_t start = out->length;
    bool run = false, marked = false;

    if (json_type(spans) != JSON_ARRAY || !next_span(spans, &span, 0, &begin, &end))
        begin = end = SIZE_MAX;
    while (at < n) {
        if (marked && at >= end) {
            text_append(out, run ? "</u></mark>" : "</mark>");
            marked = run = false;
        }
        while (!marked && at >= end && end != SIZE_MAX) {
            if (!next_span(spans, &span, at, &begin, &end))
                begin = end = SIZE_MAX;
        }
        if (!marked && at >= begin && at < end) {
            text_append(out, run ? "</u><mark>" : "<mark>");
            marked = true;
            run = false;
        }
        if (at >= HTML_TEXT_BYTES || out->length - start >= HTML_TEXT_BYTES_OUT)
            break;
        append_character(out, bytes + at, n - at, LINES_KEPT, &length, &run);
        at += length;
    }
    if (run)
        text_append(out, "</u>");
    if (marked)
        text_append(out, "</mark>");
    if (at < n)
        text_append(out, ELLIPSIS);
}

void html_text(struct text *out, const char *bytes, size_t n)
{
    html_marked(out, bytes, n, NULL);
}

void html_line(struct text *out, const char *bytes, size_t n, size_t width)
{
    bool run = false;
    size_t length;

    for (size_t i = 0; n > 0 && i < width; i++) {
        append_character(out, bytes, n, LINES_SHOWN, &length, &run);
        bytes += length;
        n -= length;
    }
    if (run)
        text_append(out, "</u>");
    if (n > 0)
        text_append(out, ELLIPSIS);
}

void html_plain(struct text *out, const char *bytes, size_t n, size_t width)
{
    size_t length;

    for (size_t i = 0; n > 0 && i < width; i++) {
        append_character(out, bytes, n, LINES_SHOWN, &length, NULL);
        bytes += length;
        n -= length;
    }
    if (n > 0)
        text_append(out, ELLIPSIS);
}

static size_t span_of(const char *s, size_t n, const char *set)
{
    size_t length = 0;

    while (length < n && s[length] && strchr(set, s[length]))
        length++;
    return length;
}

/* Bytes of the "[0, 0.8]" or the "true" that a setting is set to; 0: it is only named. */
static size_t value_length(const char *s, size_t n)
{
    size_t length = span_of(s, n, LOWER DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ_+-.");

    if (n > 0 && s[0] == '[') {
        const char *end = memchr(s, ']', n);

        return end ? (size_t)(end - s) + 1 : 0;
    }
    while (length > 0 && s[length - 1] == '.')
        length--;
    return length;
}

/* Bytes of the setting or option that begins here; 0: none does. Parts of one letter are an
 * abbreviation's. */
static size_t setting_length(const char *s, size_t n)
{
    size_t length, part, value;
    bool dotted = false;

    if (n > 2 && s[0] == '-' && s[1] == '-') {
        part = span_of(s + 2, n - 2, LOWER "-");
        return part > 0 ? part + 2 : 0;
    }
    length = span_of(s, n, LOWER "_");
    while (length > 1 && n - length > 1 && s[length] == '.') {
        part = span_of(s + length + 1, n - length - 1, LOWER "_");
        if (part < 2)
            break;
        length += 1 + part;
        dotted = true;
    }
    if (!dotted)
        return 0;
    if (n - length > 2 && s[length] == ':' && s[length + 1] == ' ') {
        value = value_length(s + length + 2, n - length - 2);
        if (value > 0)
            length += 2 + value;
    }
    return length;
}

void html_prose(struct text *out, const char *words, size_t n)
{
    size_t at = 0, begin = 0, end = n < HTML_TEXT_BYTES ? n : HTML_TEXT_BYTES;

    while (at < end) {
        bool word = at == 0 || words[at - 1] == ' ' || words[at - 1] == '(';
        size_t length = word ? setting_length(words + at, end - at) : 0;

        if (length == 0) {
            at++;
            continue;
        }
        html_line(out, words + begin, at - begin, HTML_TEXT_BYTES);
        text_append(out, "<code>");
        html_line(out, words + at, length, HTML_TEXT_BYTES);
        text_append(out, "</code>");
        at += length;
        begin = at;
    }
    html_line(out, words + begin, n - begin, end - begin);
}

void html_sentence(struct text *out, const char *words, size_t n)
{
    bool small = n > 0 && words[0] >= 'a' && words[0] <= 'z' && setting_length(words, n) == 0;

    if (small)
        text_append_char(out, (char)(words[0] - 'a' + 'A'));
    html_prose(out, words + small, n - small);
    if (n > 0 && !memchr(".!?:", words[n - 1], 4))
        text_append_char(out, '.');
}

void html_name(struct text *out, const struct json *node)
{
    size_t n;
    const char *s = json_string(node, &n);

    if (s)
        html_line(out, s, n, HTML_NAME_WIDTH);
    else if (json_type(node) == JSON_INTEGER || json_type(node) == JSON_NUMBER)
        json_print(node, out); /* an id: no thousands */
}

/* ---- Numbers ---- */

/* Digits of a rounded number in groups of three. */
static struct number grouped(double x)
{
    struct number number = {{0}};
    char digits[32];
    size_t n, at = 0;

    snprintf(digits, sizeof(digits), "%.0f", fabs(x));
    n = strlen(digits);
    if (x < 0 && strcmp(digits, "0") != 0) {
        memcpy(number.s, MINUS, strlen(MINUS));
        at = strlen(MINUS);
    }
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            number.s[at++] = ',';
        number.s[at++] = digits[i];
    }
    return number;
}

static struct number dash(void)
{
    return (struct number){DASH};
}

struct number number_count(double n)
{
    struct number number;

    if (!isfinite(n))
        return dash();
    if (fabs(n) < 1e15)
        return grouped(n);
    snprintf(number.s, sizeof(number.s), "%s%.3g", n < 0 ? MINUS : "", fabs(n));
    return number;
}

struct number number_share(double share)
{
    double percent = 100 * fabs(share);
    const char *sign = share < 0 ? MINUS : "";
    struct number number;
    int decimals = 1;

    if (!isfinite(share))
        return dash();
    if (percent > 0 && percent < 0.01) {
        snprintf(number.s, sizeof(number.s), "%sunder 0.01" NBSP "%%", sign);
        return number;
    }
    /* Almost none and almost all must not be taken for none and all. */
    if ((percent > 0 && percent < 0.1) || (percent > 99.9 && percent < 100))
        decimals = 2;
    if (percent == 0 || percent == 100)
        decimals = 0;
    if (percent > 99.99 && percent < 100)
        percent = 99.99;
    if (percent < 1e6)
        snprintf(number.s, sizeof(number.s), "%s%.*f" NBSP "%%", sign, decimals, percent);
    else
        snprintf(number.s, sizeof(number.s), "%s%.3g" NBSP "%%", sign, percent);
    return number;
}

struct number number_value(double x)
{
    double size = fabs(x);
    struct number number;
    int decimals = size < 0.01 ? 4 : size < 0.1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0;

    if (!isfinite(x))
        return dash();
    if (size == 0)
        return (struct number){"0"};
    if (size >= 1000 && size < 1e15)
        return grouped(x);
    if (size < 0.0005 || size >= 1e15)
        snprintf(number.s, sizeof(number.s), "%s%.2g", x < 0 ? MINUS : "", size);
    else
        snprintf(number.s, sizeof(number.s), "%s%.*f", x < 0 ? MINUS : "", decimals, size);
    return number;
}

struct number number_score(double x)
{
    struct number number;

    if (!(fabs(x) < 10))
        return number_value(x);
    snprintf(number.s, sizeof(number.s), "%s%.2f", x <= -0.005 ? MINUS : "", fabs(x));
    return number;
}

struct number number_plain(double x)
{
    return x == floor(x) ? number_count(x) : number_value(x);
}

struct number number_interval(const struct json *interval)
{
    double lo = json_double(json_element(interval, 0)), hi = json_double(json_element(interval, 1));
    struct number number = {""};

    if (json_type(interval) == JSON_ARRAY && isfinite(lo) && isfinite(hi))
        snprintf(number.s, sizeof(number.s), "%.15s to %.15s", number_score(lo).s,
                 number_score(hi).s);
    return number;
}

/* ---- JSON ---- */

double member_number(const struct json *object, const char *name)
{
    return json_double(json_member(object, name));
}

const char *member_string(const struct json *object, const char *name)
{
    size_t n;

    return json_string(json_member(object, name), &n);
}

size_t json_numbers(const struct json *array, double *x, size_t max)
{
    size_t n = json_type(array) == JSON_ARRAY ? json_length(array) : 0;

    if (n > max)
        n = max;
    for (size_t i = 0; i < n; i++)
        x[i] = json_double(json_element(array, i));
    return n;
}

/* ---- Page ---- */

static void append_plain(struct text *out, const char *words)
{
    html_line(out, words, strlen(words), HTML_TEXT_BYTES);
}

bool page_keep(struct page *page, size_t mark)
{
    if (page->out.length <= page->limit)
        return true;
    page->out.length = mark;
    page->out.data[mark] = '\0';
    page->left_out++;
    return false;
}

/* With a capital, as labels begin. */
static void append_capital(struct text *out, const char *words)
{
    if (*words >= 'a' && *words <= 'z')
        text_append_char(out, (char)(*words++ - 'a' + 'A'));
    append_plain(out, words);
}

void page_heading(struct page *page, const char *title)
{
    text_append(&page->out, "<h3>");
    append_plain(&page->out, title);
    text_append(&page->out, "</h3>\n");
}

void page_fold_begin(struct page *page, const char *title, double count)
{
    text_append(&page->out, "<details><summary>");
    append_plain(&page->out, title);
    if (!isnan(count))
        text_appendf(&page->out, " <span class=\"count\">%s</span>", number_count(count).s);
    text_append(&page->out, "</summary>\n");
}

void page_fold_end(struct page *page)
{
    text_append(&page->out, "</details>\n");
}

void page_columns_begin(struct page *page)
{
    text_append(&page->out, "<div class=\"columns\">\n");
}

void page_columns_end(struct page *page)
{
    text_append(&page->out, "</div>\n");
}

void page_tiles_begin(struct page *page)
{
    text_append(&page->out, "<dl class=\"tiles\">\n");
}

void page_tile(struct page *page, const char *value, const char *label, const char *note)
{
    text_append(&page->out, "<div><dt>");
    append_capital(&page->out, label);
    text_appendf(&page->out, "</dt><dd>%s", value);
    if (note)
        text_appendf(&page->out, "<small class=\"of\">%s</small>", note);
    text_append(&page->out, "</dd></div>\n");
}

void page_tiles_end(struct page *page)
{
    text_append(&page->out, "</dl>\n");
}

/* ---- Samples ---- */

static bool is_redacted(const struct json *sample, const char *field)
{
    const struct json *list = json_member(sample, "redacted");

    for (size_t i = 0; i < json_length(list); i++) {
        size_t n;
        const char *s = json_string(json_element(list, i), &n);

        if (s && strcmp(s, field) == 0)
            return true;
    }
    return false;
}

/* Its name as words: "low_quality" is for programs. */
static void append_reason(struct text *out, const struct json *reason)
{
    size_t start = out->length;

    html_name(out, reason);
    for (size_t i = start; i < out->length; i++) {
        if (out->data[i] == '_')
            out->data[i] = ' ';
    }
}

/* Id, or the row where there is none; source; kept or why not. */
static void sample_head(struct text *out, const struct json *sample, const char *label)
{
    const struct json *kept = json_member(sample, "kept");
    const struct json *id = json_member(sample, "id");
    size_t n;

    text_append(out, "<p class=\"head\">");
    if (label) {
        text_append(out, "<b>");
        html_line(out, label, strlen(label), HTML_NAME_WIDTH);
        text_append(out, "</b> ");
    }
    text_append(out, "<code>");
    if (json_type(id) != JSON_NULL)
        html_name(out, id);
    else
        text_appendf(out, "row %s", number_count(member_number(sample, "row")).s);
    text_append(out, "</code>");
    if (json_string(json_member(sample, "source"), &n)) {
        text_append(out, " <span class=\"chip\">");
        html_name(out, json_member(sample, "source"));
        text_append(out, "</span>");
    }
    if (json_type(kept) == JSON_BOOL && !json_bool(kept)) {
        text_append(out, " <span class=\"chip dropped\">dropped");
        if (member_string(sample, "reason")) {
            text_append(out, ": ");
            append_reason(out, json_member(sample, "reason"));
        }
        text_append(out, "</span>");
    }
    text_append(out, "</p>\n");
}

static void sample_text(struct text *out, const struct json *sample, const struct json *spans)
{
    double clipped = member_number(sample, "clipped");
    size_t n;
    const char *s = json_string(json_member(sample, "text"), &n);

    if (s) {
        text_append(out, "<p class=\"text\">");
        html_marked(out, s, n, spans);
        text_append(out, "</p>\n");
        if (clipped > 0)
            text_appendf(out, "<p class=\"clipped\">%s more bytes</p>\n", number_count(clipped).s);
    } else if (is_redacted(sample, "prompt")) {
        text_append(out, "<p class=\"none\">The recipe keeps prompts out of reports.</p>\n");
    } else {
        text_append(out, "<p class=\"none\">No text.</p>\n");
    }
    s = json_string(json_member(sample, "answer"), &n);
    if (s) {
        text_append(out, "<p class=\"answer\"><b>Answer</b> ");
        html_line(out, s, n, HTML_TEXT_BYTES / 2);
        text_append(out, "</p>\n");
    }
}

static void sample_scores(struct text *out, const struct json *sample)
{
    static const struct {
        const char *name, *words;
        bool whole;
    } scores[] = {
        {"difficulty", "difficulty", false},
        {"pass_rate", "pass rate", false},
        {"quality", "quality", false},
        {"cluster", "cluster", true},
        {"batch", "batch", true},
    };
    size_t shown = 0;

    for (size_t i = 0; i < sizeof(scores) / sizeof(*scores); i++) {
        double x = member_number(sample, scores[i].name);

        if (isnan(x))
            continue;
        text_append(out, shown++ ? " " : "<p class=\"scores\">");
        text_appendf(out, "<span>%s <b>%s</b></span>", scores[i].words,
                     scores[i].whole ? number_count(x).s : number_score(x).s);
    }
    if (shown)
        text_append(out, "</p>\n");
}

bool page_sample(struct page *page, const struct json *sample, const char *label,
                 const struct json *spans)
{
    struct text *out = &page->out;
    size_t mark = out->length, n;
    const char *note = json_string(json_member(sample, "note"), &n);

    if (json_type(sample) != JSON_OBJECT)
        return true;
    text_append(out, "<div class=\"sample\">\n");
    sample_head(out, sample, label);
    if (note) {
        text_append(out, "<p class=\"note\">");
        html_line(out, note, n, HTML_TEXT_BYTES / 2);
        text_append(out, "</p>\n");
    }
    sample_text(out, sample, spans);
    sample_scores(out, sample);
    text_append(out, "</div>\n");
    return page_keep(page, mark);
}

void page_samples(struct page *page, const char *title, const struct json *list)
{
    size_t n = json_type(list) == JSON_ARRAY ? json_length(list) : 0;
    size_t mark = page->out.length;

    if (n == 0)
        return;
    page_fold_begin(page, title, (double)n);
    text_append(&page->out, "<div class=\"samples\">\n");
    for (size_t i = 0; i < n; i++) {
        if (page_sample(page, json_element(list, i), NULL, NULL))
            continue;
        /* What remains is not tried: a smaller one would look as if it came next. */
        page->left_out += n - i - 1;
        break;
    }
    text_append(&page->out, "</div>\n");
    page_fold_end(page);
    page_keep(page, mark);
}

void page_latent(struct text *out, const struct json *latent)
{
    text_append(out, "<code>");
    html_name(out, json_member(latent, "latent"));
    text_append(out, "</code>");
    if (member_string(latent, "label")) {
        text_append_char(out, ' ');
        html_name(out, json_member(latent, "label"));
    }
}

/* ---- Tables ---- */

void table_begin(struct table *table, struct page *page, const char *caption,
                 const struct column *columns, size_t n_columns)
{
    struct text *out = &page->out;

    *table = (struct table){.page = page, .columns = columns, .n_columns = n_columns};
    text_append(out, "<div class=\"scroll\"><table><caption>");
    append_plain(out, caption);
    text_append(out, "</caption>\n<thead><tr>");
    for (size_t i = 0; i < n_columns; i++) {
        text_append(out, columns[i].kind == COLUMN_NUMBER ? "<th scope=\"col\" class=\"num\">"
                                                          : "<th scope=\"col\">");
        html_line(out, columns[i].title, strlen(columns[i].title), HTML_NAME_WIDTH);
        text_append(out, "</th>");
    }
    text_append(out, "</tr></thead>\n<tbody>\n");
}

static void end_row(struct table *table)
{
    if (!table->in_row)
        return;
    while (table->at < table->n_columns)
        table_words(table, "");
    text_append(&table->page->out, "</tr>\n");
    table->in_row = false;
    if (page_keep(table->page, table->mark))
        table->rows++;
    else
        table->left_out++;
}

bool table_row(struct table *table)
{
    end_row(table);
    if (table->left_out)
        return false;
    table->mark = table->page->out.length;
    table->at = 0;
    table->in_row = true;
    text_append(&table->page->out, "<tr>");
    return true;
}

void table_cell_begin(struct table *table)
{
    bool number = table->at < table->n_columns && table->columns[table->at].kind == COLUMN_NUMBER;

    text_append(&table->page->out, table->at == 0 ? "<th scope=\"row\"" : "<td");
    text_append(&table->page->out, number ? " class=\"num\">" : ">");
}

void table_cell_end(struct table *table)
{
    text_append(&table->page->out, table->at == 0 ? "</th>" : "</td>");
    table->at++;
}

void table_words(struct table *table, const char *words)
{
    table_cell_begin(table);
    append_plain(&table->page->out, words);
    table_cell_end(table);
}

void table_count(struct table *table, double n)
{
    table_words(table, number_count(n).s);
}

void table_share(struct table *table, double share)
{
    table_words(table, number_share(share).s);
}

void table_value(struct table *table, double x)
{
    table_words(table, number_value(x).s);
}

void table_score(struct table *table, double x)
{
    table_words(table, number_score(x).s);
}

void table_plain(struct table *table, double x)
{
    table_words(table, number_plain(x).s);
}

void table_heat(struct table *table, const char *number, double part)
{
    int class = part >= 1 ? 9 : part > 0 ? (int)(10 * part) : -1;

    if (class < 0)
        text_appendf(&table->page->out, "<td class=\"num\">%s</td>", number);
    else
        text_appendf(&table->page->out, "<td class=\"num heat h%d\">%s</td>", class, number);
    table->at++;
}

void table_name(struct table *table, const struct json *node)
{
    table_cell_begin(table);
    html_name(&table->page->out, node);
    table_cell_end(table);
}

void table_end(struct table *table)
{
    end_row(table);
    text_append(&table->page->out, "</tbody></table></div>\n");
}

static void append_weights(struct page *page, const char *caption, const struct json *latents)
{
    static const struct column columns[] = {
        {"Latent", COLUMN_TEXT}, {"Weight", COLUMN_NUMBER}, {"Deviation", COLUMN_NUMBER}};
    size_t n = json_type(latents) == JSON_ARRAY ? json_length(latents) : 0;
    bool spread = !isnan(member_number(json_element(latents, 0), "spread"));
    struct table table;

    table_begin(&table, page, caption, columns, spread ? 3 : 2);
    for (size_t i = 0; i < n && table_row(&table); i++) {
        const struct json *latent = json_element(latents, i);

        table_cell_begin(&table);
        page_latent(&page->out, latent);
        table_cell_end(&table);
        table_value(&table, member_number(latent, "weight"));
        if (spread)
            table_value(&table, member_number(latent, "spread"));
    }
    table_end(&table);
}

void page_weights(struct page *page, const char *title, const char *caption,
                  const struct json *latents)
{
    size_t n = json_type(latents) == JSON_ARRAY ? json_length(latents) : 0;

    if (n == 0)
        return;
    page_fold_begin(page, title, (double)n);
    append_weights(page, caption, latents);
    page_fold_end(page);
}

void page_weights_beside(struct page *page, const char *title, const char *caption,
                         const struct json *latents)
{
    if (json_type(latents) != JSON_ARRAY || json_length(latents) == 0)
        return;
    text_append(&page->out, "<div>\n");
    page_heading(page, title);
    append_weights(page, caption, latents);
    text_append(&page->out, "</div>\n");
}
