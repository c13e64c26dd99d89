/*
 * curator/audit_cards.c - how a report shows a sample; what must not be shown is not.
 */
#include <math.h>
#include <string.h>

#include "curator/audit.h"
#include "curator/audit_shown.h"
#include "curator/field_path.h"
#include "formats/json.h"

/* Of a source's name in a sentence. */
#define SOURCE_WORDS_BYTES 60

size_t audit_samples_max(const struct audit *audit)
{
    return audit->run->recipe->output.samples_in_report;
}

bool audit_may_show(const struct audit *audit, const char *field)
{
    const struct string_list *redact = &audit->run->recipe->output.redact;

    if (audit_samples_max(audit) == 0 && strcmp(field, "source") != 0)
        return false;
    for (size_t i = 0; i < redact->n; i++) {
        if (strcmp(redact->items[i], field) == 0)
            return false;
    }
    return true;
}

/* Never in the middle of a character. `bytes` are valid UTF-8. */
static size_t cut(const char *bytes, size_t n, size_t bytes_max)
{
    if (n <= bytes_max)
        return n;
    n = bytes_max;
    while (n > 0 && ((unsigned char)bytes[n] & 0xC0) == 0x80)
        n--;
    return n;
}

void audit_prompt_text(const struct audit *audit, size_t row, size_t bytes_max, struct text *out,
                       size_t *clipped)
{
    struct span prompt = audit->run->data.samples[row].prompt;
    const char *s = dataset_bytes(&audit->run->data, prompt);
    size_t n = cut(s, prompt.length, bytes_max);

    *clipped = prompt.length - n;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == 0x1F) /* role, text */
            text_append(out, ": ");
        else if (s[i] != 0x1E) /* one message, the next */
            text_append_char(out, s[i]);
        else if (i + 1 < n)
            text_append_char(out, '\n');
    }
}

void audit_name(const char *bytes, size_t n, struct text *out)
{
    text_append_json_string(out, bytes, cut(bytes, n, AUDIT_NAME_BYTES));
}

void audit_source_name(const struct audit *audit, size_t source, struct text *out)
{
    struct span name;

    if (source >= audit->n_sources || !audit_may_show(audit, "source")) {
        text_append(out, "null");
        return;
    }
    name = audit->source_names[source];
    audit_name(dataset_bytes(&audit->run->data, name), name.length, out);
}

void audit_file_words(const char *path, struct text *out)
{
    size_t end = strlen(path), begin, valid;

    while (end > 1 && path[end - 1] == '/')
        end--;
    begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    /* Names of files are bytes; JSON is UTF-8. */
    while ((valid = text_utf8_valid(path + begin, end - begin)) < end - begin) {
        text_append_n(out, path + begin, valid);
        text_append(out, "\xef\xbf\xbd");
        begin += valid + 1;
    }
    text_append_n(out, path + begin, end - begin);
}

void audit_file_name(const char *path, struct text *out)
{
    struct text name = {0};

    audit_file_words(path, &name);
    text_append_json_string(out, text_string(&name), name.length);
    out->failed |= name.failed;
    text_release(&name);
}

void audit_source_words(const struct audit *audit, size_t source, struct text *out)
{
    struct span name;
    const char *s;

    if (source >= audit->n_sources || !audit_may_show(audit, "source")) {
        text_appendf(out, "source %zu", source + 1);
        return;
    }
    name = audit->source_names[source];
    s = dataset_bytes(&audit->run->data, name);
    text_append_char(out, '\'');
    text_append_n(out, s, cut(s, name.length, SOURCE_WORDS_BYTES));
    text_append(out, name.length > SOURCE_WORDS_BYTES ? "...'" : "'");
}

void audit_absent(struct text *out, const char *why)
{
    text_append(out, "{\"absent\":");
    text_append_json_string(out, why, strlen(why));
    text_append_char(out, '}');
}

void audit_member(struct text *out, const char *name, double x)
{
    text_appendf(out, ",\"%s\":", name);
    text_append_double(out, x);
}

void audit_member_text(struct text *out, const char *name, const char *s)
{
    text_appendf(out, ",\"%s\":", name);
    if (s)
        text_append_json_string(out, s, strlen(s));
    else
        text_append(out, "null");
}

enum status audit_label(const struct audit *audit, uint32_t latent, struct text *out,
                        struct error *err)
{
    struct text label = {0};
    enum status st = STATUS_OK;

    if (audit->labels)
        st = label_table_find(audit->labels, latent, &label, err);
    if (!st)
        st = text_check(&label, err);
    if (!st && label.length)
        audit_name(label.data, label.length, out);
    else if (!st)
        text_append(out, "null");
    text_release(&label);
    return st;
}

static void append_texts(const struct audit *audit, size_t row, const struct shown_text *shown,
                         size_t bytes_max, struct text *out)
{
    struct text prompt = {0};
    size_t clipped = 0;

    if (!audit_may_show(audit, "prompt")) {
        text_append(out, ",\"text\":null,\"clipped\":0");
        return;
    }
    if (shown) {
        text_append(out, ",\"text\":");
        shown_text_print(shown, out, &clipped);
        text_appendf(out, ",\"clipped\":%zu", clipped);
        return;
    }
    audit_prompt_text(audit, row, bytes_max, &prompt, &clipped);
    text_append(out, ",\"text\":");
    text_append_json_string(out, text_string(&prompt), prompt.length);
    text_appendf(out, ",\"clipped\":%zu", clipped);
    out->failed |= prompt.failed;
    text_release(&prompt);
}

/* As it stands in the row; one that would fill pages becomes a string, cut. */
static void append_id(const struct audit *audit, struct span id, struct text *out)
{
    const char *bytes = dataset_bytes(&audit->run->data, id);
    struct json *node = NULL;
    const char *s;
    size_t n;

    if (id.length <= AUDIT_NAME_BYTES) {
        text_append_n(out, bytes, id.length);
        return;
    }
    /* It was read before: nothing but memory can be short. */
    out->failed |= json_parse(&node, bytes, id.length, NULL, NULL) != STATUS_OK;
    s = json_string(node, &n);
    audit_name(s ? s : bytes, s ? n : id.length, out);
    json_free(node);
}

/* The text of a string, the JSON of anything else, cut. */
static void append_cut_answer(const struct json *node, struct text *out)
{
    struct text json = {0};
    size_t n = 0;
    const char *s = json_string(node, &n);

    if (!s) {
        json_print(node, &json);
        s = text_string(&json);
        n = json.length;
    }
    text_append_json_string(out, s, cut(s, n, AUDIT_ANSWER_BYTES));
    out->failed |= json.failed;
    text_release(&json);
}

/* Only a hash of it is kept (curator/dataset.h): few samples are shown, their rows are read again.
 */
static void append_answer(const struct audit *audit, size_t row, struct text *out)
{
    const struct dataset *data = &audit->run->data;
    const struct sample *s = &data->samples[row];
    struct field_path path = {0};
    struct json *line = NULL;
    const struct json *node = NULL;
    enum status st = STATUS_OK;

    text_append(out, ",\"answer\":");
    if (s->has_answer && audit_may_show(audit, "answer")) {
        st = field_path_init(&path, audit->run->recipe->input.fields.answer, NULL);
        if (!st)
            st = json_parse(&line, dataset_bytes(data, s->line), s->line.length, NULL, NULL);
        node = field_path_find(&path, line);
    }
    if (node)
        append_cut_answer(node, out);
    else
        text_append(out, "null");
    /* The row was read before by the same path: nothing but memory can be short. */
    out->failed |= st != STATUS_OK;
    json_free(line);
    field_path_release(&path);
}

static void append_redacted(const struct audit *audit, struct text *out)
{
    static const char *const fields[] = {"id", "source", "prompt", "answer"};
    const char *comma = "";

    if (audit->run->recipe->output.redact.n == 0)
        return;
    text_append(out, ",\"redacted\":[");
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        if (audit_may_show(audit, fields[i]))
            continue;
        text_appendf(out, "%s\"%s\"", comma, fields[i]);
        comma = ",";
    }
    text_append_char(out, ']');
}

static void append_card(const struct audit *audit, size_t row, const char *note,
                        const struct shown_text *shown, size_t bytes_max, struct text *out)
{
    const struct run *run = audit->run;
    const struct sample *s = &run->data.samples[row];
    const struct verdict *v = &run->verdicts[row];

    text_appendf(out, "{\"row\":%zu,\"id\":", row);
    if (s->id.length && audit_may_show(audit, "id"))
        append_id(audit, s->id, out);
    else
        text_append(out, "null");
    text_append(out, ",\"source\":");
    if (s->source.length && audit_may_show(audit, "source"))
        audit_name(dataset_bytes(&run->data, s->source), s->source.length, out);
    else
        text_append(out, "null");
    append_texts(audit, row, shown, bytes_max, out);
    append_answer(audit, row, out);
    text_appendf(out, ",\"kept\":%s,\"reason\":", verdict_alive(v) ? "true" : "false");
    if (v->reason == REASON_NONE)
        text_append(out, "null");
    else
        text_appendf(out, "\"%s\"", reason_name(v->reason));
    audit_member(out, "quality", run->quality.values ? run->quality.values[row] : NAN);
    audit_member(out, "difficulty", run->difficulty.values ? run->difficulty.values[row] : NAN);
    audit_member(out, "pass_rate", s->pass_rate);
    if (run->cluster && run->cluster[row] != PLAN_NO_CLUSTER)
        text_appendf(out, ",\"cluster\":%u", run->cluster[row]);
    else
        text_append(out, ",\"cluster\":null");
    if (run->batch && run->batch[row] != PLAN_NO_CLUSTER)
        text_appendf(out, ",\"batch\":%u", run->batch[row]);
    else
        text_append(out, ",\"batch\":null");
    audit_member_text(out, "note", note);
    append_redacted(audit, out);
    text_append_char(out, '}');
}

void audit_card(const struct audit *audit, size_t row, const char *note, struct text *out)
{
    append_card(audit, row, note, NULL, AUDIT_TEXT_BYTES, out);
}

void audit_card_cut(const struct audit *audit, size_t row, const char *note, size_t bytes_max,
                    struct text *out)
{
    append_card(audit, row, note, NULL, bytes_max, out);
}

void audit_card_shown(const struct audit *audit, size_t row, const char *note,
                      const struct shown_text *shown, struct text *out)
{
    append_card(audit, row, note, shown, AUDIT_TEXT_BYTES, out);
}

void audit_cards(const struct audit *audit, const char *name, const struct best *rows, size_t n,
                 struct text *out)
{
    size_t max = audit_samples_max(audit);

    text_appendf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < n && i < max; i++) {
        if (i)
            text_append_char(out, ',');
        audit_card(audit, rows[i].item, NULL, out);
    }
    text_append_char(out, ']');
}
