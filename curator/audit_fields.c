/*
 * curator/audit_fields.c - section `fields` of a report: what the rows hold, and which of them hold
 * nothing that could be trained on.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "curator/columns.h"
#include "curator/histogram.h"

/* Different problems of malformed rows told, in order of appearance. */
#define PROBLEMS_MAX 20
#define LENGTH_BINS 24
#define VALUE_BINS 20

/* A malformed row in a hundred is no stray line but a fault of what wrote the file; with a quarter
 * gone the rest is no longer the data set that was meant. */
#define MALFORMED_WARNING 0.01
#define MALFORMED_PROBLEM 0.25
/* Empty prompts are told from the first one on; one in a thousand deserves a look, since rewards of
 * nothing are noise, and one in ten is a tenth of all rollouts. */
#define EMPTY_WARNING 0.001
#define EMPTY_PROBLEM 0.1
/* Of readable text in a hundred languages, formulas and programs at most one in a thousand is taken
 * for garbage (tests/unit/test_curator_text_measure.c): five in a thousand are there. */
#define GARBAGE_WARNING 0.005
#define GARBAGE_PROBLEM 0.05
#define GARBAGE_ROWS_MIN 3
/*
 * Far longer than the rest: beyond the upper quartile of the logarithms of the lengths by three
 * times their spread (Tukey's outer fence: four in a million of log-normal lengths), where spread
 * is at least a factor of 1.5, and 500 characters, which no trainer cuts. They are a warning if a
 * quarter of all text is in them.
 */
#define LONG_FENCE 3
#define LONG_SPREAD_MIN 1.5
#define LONG_CHARACTERS_MIN 500
#define LONG_TEXT_WARNING 0.25

static bool is_malformed(const struct audit *audit, size_t row)
{
    return audit->run->data.samples[row].problem.length > 0;
}

static bool is_kept(const struct audit *audit, size_t row)
{
    return verdict_alive(&audit->run->verdicts[row]);
}

struct field_count {
    const char *name, *path;
    size_t present;
};

static void append_map(const struct audit *audit, struct text *out)
{
    const struct run *run = audit->run;
    const struct dataset *data = &run->data;
    size_t difficulty = 0;

    for (size_t row = 0; row < data->n; row++) {
        const struct sample *s = &data->samples[row];

        difficulty += !isnan(s->difficulty) && !s->difficulty_from_rewards;
    }
    const struct field_count fields[] = {
        {"id", run->recipe->input.fields.id, data->n_id},
        {"prompt", run->recipe->input.fields.prompt, data->n - data->n_malformed},
        {"answer", run->recipe->input.fields.answer, data->n_answer},
        {"source", run->recipe->input.fields.source, data->n_source},
        {"quality", run->recipe->input.fields.quality, data->n_quality},
        {"difficulty", run->recipe->input.fields.difficulty, difficulty},
        {"rewards", run->recipe->input.fields.rewards, data->n_rewards},
    };

    text_append(out, ",\"map\":[");
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        text_appendf(out, "%s{\"field\":\"%s\"", i ? "," : "", fields[i].name);
        audit_member_text(out, "path", fields[i].path);
        if (fields[i].path)
            text_appendf(out, ",\"present\":%zu,\"missing\":%zu}", fields[i].present,
                         data->n - fields[i].present);
        else
            text_append(out, ",\"present\":null,\"missing\":null}");
    }
    text_append_char(out, ']');
}

/*
 * Summary and histogram of values [n], NaN where there is none. A tail that would press everything
 * else into a bin or two is left to "above": the bins then end after 99 % of the values.
 */
static enum status append_length(const char *unit, const double *values, size_t n, struct text *out,
                                 struct error *err)
{
    struct histogram h;
    double *sorted = NULL, p99;
    size_t m = 0, shown;
    enum status st = quantiles_sort(&sorted, &m, values, n, err);

    if (st)
        return st;
    p99 = quantile(sorted, m, 0.99);
    shown = m;
    if (m > 0 && sorted[m - 1] > 3 * p99) {
        while (shown > 0 && sorted[shown - 1] > p99)
            shown--;
    }
    histogram_init_for_counts(&h, sorted, shown, LENGTH_BINS);
    histogram_fill(&h, sorted, m);
    text_appendf(out, "{\"unit\":\"%s\",\"summary\":", unit);
    summary_print(sorted, m, out);
    text_append(out, ",\"histogram\":");
    histogram_print(&h, out);
    text_appendf(out, ",\"above\":%llu}", (unsigned long long)h.above);
    mem_free(sorted);
    return STATUS_OK;
}

static enum status append_lengths(const struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    double *values = mem_alloc(run->data.n, sizeof(*values));
    enum status st;

    if (!values)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++)
        values[row] = is_malformed(audit, row) ? NAN : (double)audit->texts[row].words;
    text_append(out, ",\"length\":");
    st = append_length("words", values, run->data.n, out, err);
    text_append(out, ",\"tokens\":");
    if (!st && run->features.tokens_used && run->features.rows == run->data.n) {
        for (size_t row = 0; row < run->data.n; row++)
            values[row] = run->has_vector[row] ? (double)run->features.tokens_used[row] : NAN;
        st = append_length("tokens", values, run->data.n, out, err);
    } else {
        text_append(out, "null");
    }
    mem_free(values);
    return st;
}

static bool same_problem(const struct dataset *data, size_t a, size_t b)
{
    struct span x = data->samples[a].problem, y = data->samples[b].problem;

    return x.length == y.length &&
           memcmp(dataset_bytes(data, x), dataset_bytes(data, y), x.length) == 0;
}

/* Each message once, with the first row that has it and how many do. */
static void append_problems(const struct audit *audit, struct text *out)
{
    const struct dataset *data = &audit->run->data;
    size_t first[PROBLEMS_MAX], rows[PROBLEMS_MAX], n = 0, beyond = 0;

    for (size_t row = 0; row < data->n && audit_samples_max(audit) > 0; row++) {
        size_t i = 0;

        if (!is_malformed(audit, row))
            continue;
        while (i < n && !same_problem(data, first[i], row))
            i++;
        if (i == PROBLEMS_MAX) {
            beyond++;
            continue;
        }
        if (i == n) {
            first[n] = row;
            rows[n++] = 0;
        }
        rows[i]++;
    }
    text_append(out, ",\"problems\":[");
    for (size_t i = 0; i < n; i++) {
        struct span problem = data->samples[first[i]].problem;

        text_appendf(out, "%s{\"row\":%zu,\"problem\":", i ? "," : "", first[i]);
        text_append_json_string(out, dataset_bytes(data, problem), problem.length);
        text_appendf(out, ",\"rows\":%zu}", rows[i]);
    }
    text_appendf(out, "],\"problems_beyond\":%zu", beyond);
}

struct mean {
    double sum;
    size_t n;
};

static void mean_add(struct mean *mean, double x)
{
    if (isnan(x))
        return;
    mean->sum += x;
    mean->n++;
}

static double mean_value(const struct mean *mean)
{
    return mean->sum / (double)mean->n;
}

struct source_means {
    size_t rows, kept;
    struct mean words, difficulty, quality, pass_rate;
};

/* What is predicted of a row, or else its label. */
static double value_of(const struct score *score, double label, size_t row)
{
    return score->active && score->values ? score->values[row] : label;
}

static enum status append_sources(const struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    struct source_means *means = mem_zalloc(audit->n_sources + 1, sizeof(*means));

    if (!means)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        const struct sample *s = &run->data.samples[row];
        struct source_means *m;

        if (audit->source_of[row] == AUDIT_NO_SOURCE)
            continue;
        m = &means[audit->source_of[row]];
        m->rows++;
        m->kept += is_kept(audit, row);
        mean_add(&m->words, is_malformed(audit, row) ? NAN : (double)audit->texts[row].words);
        mean_add(&m->difficulty, value_of(&run->difficulty, s->difficulty, row));
        mean_add(&m->quality, value_of(&run->quality, s->quality, row));
        mean_add(&m->pass_rate, s->pass_rate);
    }
    text_append(out, ",\"sources\":[");
    for (size_t i = 0; i < audit->n_sources; i++) {
        text_append(out, i ? ",{\"source\":" : "{\"source\":");
        audit_source_name(audit, i, out);
        text_appendf(out, ",\"rows\":%zu,\"kept\":%zu", means[i].rows, means[i].kept);
        audit_member(out, "words_mean", mean_value(&means[i].words));
        audit_member(out, "difficulty_mean", mean_value(&means[i].difficulty));
        audit_member(out, "quality_mean", mean_value(&means[i].quality));
        audit_member(out, "pass_rate_mean", mean_value(&means[i].pass_rate));
        text_append_char(out, '}');
    }
    text_appendf(out, "],\"sources_beyond\":%zu", audit->sources_beyond);
    mem_free(means);
    return STATUS_OK;
}

/* How many rows have something the matter with them, and how many of those are kept. */
struct oddities {
    size_t read, kept; /* rows, of any kind */
    size_t empty, empty_kept;
    size_t garbage, garbage_kept;
    size_t oddity[TEXT_ODDITY_COUNT]; /* of the garbage */
    double long_limit;                /* characters from which a prompt is far longer */
    size_t n_long, longest;
    double text, long_text; /* characters, of all and of the long ones */
};

static bool is_long(const struct oddities *odd, const struct audit_text *text)
{
    return (double)text->characters > odd->long_limit;
}

static enum status find_long_limit(const struct audit *audit, double *limit, struct error *err)
{
    const struct dataset *data = &audit->run->data;
    double *logs = mem_alloc(data->n, sizeof(*logs)), *sorted = NULL, upper, spread;
    size_t n = 0;
    enum status st;

    if (!logs)
        return error_nomem(err);
    for (size_t row = 0; row < data->n; row++)
        logs[row] = is_malformed(audit, row) || audit->texts[row].empty
                        ? NAN
                        : log((double)audit->texts[row].characters);
    st = quantiles_sort(&sorted, &n, logs, data->n, err);
    if (!st) {
        upper = quantile(sorted, n, 0.75);
        spread = fmax(upper - quantile(sorted, n, 0.25), log(LONG_SPREAD_MIN));
        *limit = n ? fmax(exp(upper + LONG_FENCE * spread), LONG_CHARACTERS_MIN) : INFINITY;
    }
    mem_free(sorted);
    mem_free(logs);
    return st;
}

static void count_oddities(const struct audit *audit, struct oddities *odd)
{
    for (size_t row = 0; row < audit->run->data.n; row++) {
        const struct audit_text *text = &audit->texts[row];
        bool kept = is_kept(audit, row);

        if (is_malformed(audit, row))
            continue;
        odd->read++;
        odd->kept += kept;
        odd->empty += text->empty;
        odd->empty_kept += text->empty && kept;
        odd->text += text->characters;
        if (audit_is_garbage(text)) {
            odd->garbage++;
            odd->garbage_kept += kept;
            odd->oddity[text->oddity]++;
        }
        if (is_long(odd, text)) {
            odd->n_long++;
            odd->long_text += text->characters;
            if (text->characters > odd->longest)
                odd->longest = text->characters;
        }
    }
}

static double share(size_t n, size_t of)
{
    return of ? (double)n / (double)of : 0;
}

static enum finding_severity severity_of(double x, double warning, double problem)
{
    return x >= problem ? FINDING_PROBLEM : x >= warning ? FINDING_WARNING : FINDING_NOTE;
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

/* Do most of the malformed rows lack a prompt, because input.fields.prompt is not where it is? */
static bool prompt_is_elsewhere(const struct dataset *data)
{
    static const char start[] = "prompt: ";
    size_t n = 0;

    for (size_t row = 0; row < data->n; row++) {
        struct span problem = data->samples[row].problem;

        n += problem.length >= sizeof(start) - 1 &&
             memcmp(dataset_bytes(data, problem), start, sizeof(start) - 1) == 0;
    }
    return 2 * n > data->n_malformed;
}

static enum status find_malformed(struct audit *audit, struct error *err)
{
    const struct dataset *data = &audit->run->data;
    double part = share(data->n_malformed, data->n);
    struct finding *finding;
    enum status st = STATUS_OK;

    if (data->n_malformed == 0)
        return STATUS_OK;
    finding = findings_add(
        &audit->findings, FINDING_MALFORMED,
        severity_of(part, MALFORMED_WARNING, MALFORMED_PROBLEM), part,
        "They are left out, and with them whatever they were meant to teach.",
        prompt_is_elsewhere(data)
            ? "Most of them have no prompt where input.fields.prompt says: set it to where the "
              "text is, or mend what writes the file."
            : "Mend what writes the file. A run goes on with on_error.action: quarantine, if "
              "on_error.max_bad allows as many: quarantine.jsonl has the lines then, "
              "dropped.jsonl the reason for each.",
        err, "%s row%s could not be read (%.3g %%)", text_count(data->n_malformed).s,
        plural(data->n_malformed), 100 * part);
    if (!finding)
        return STATUS_NOMEM;
    for (size_t row = 0; !st && row < data->n && finding->n_rows < FINDING_ROWS_MAX; row++) {
        struct span problem = data->samples[row].problem;

        if (problem.length)
            st = finding_show(finding, row, err, "%.*s", (int)problem.length,
                              dataset_bytes(data, problem));
    }
    return st;
}

/* Rows of one kind, those that are kept first; `note` names what a row shows, or gives NULL. */
static enum status show_rows(struct audit *audit, struct finding *finding,
                             const struct oddities *odd,
                             bool (*is_shown)(const struct oddities *, const struct audit_text *),
                             const char *(*note)(const struct audit_text *), struct error *err)
{
    enum status st = finding ? STATUS_OK : STATUS_NOMEM;

    for (int kept = 1; !st && kept >= 0; kept--) {
        for (size_t row = 0; !st && row < audit->run->data.n; row++) {
            const struct audit_text *text = &audit->texts[row];

            if (finding->n_rows == FINDING_ROWS_MAX)
                return STATUS_OK;
            if (is_malformed(audit, row) || is_kept(audit, row) != (kept == 1) ||
                !is_shown(odd, text))
                continue;
            st = note ? finding_show(finding, row, err, "%s", note(text))
                      : finding_show(finding, row, err, NULL);
        }
    }
    return st;
}

static bool shows_empty(const struct oddities *odd, const struct audit_text *text)
{
    (void)odd;
    return text->empty;
}

static bool shows_garbage(const struct oddities *odd, const struct audit_text *text)
{
    (void)odd;
    return audit_is_garbage(text);
}

static const char *note_oddity(const struct audit_text *text)
{
    return text_oddity_name((enum text_oddity)text->oddity);
}

/* What becomes of the rows that a title counts. */
static const char *kept_of(size_t n, size_t kept, char *words, size_t size)
{
    if (n == 1)
        return kept ? "which is kept" : "which is not kept";
    snprintf(words, size, "%s of them kept", kept ? text_count(kept).s : "none");
    return words;
}

static enum status find_empty(struct audit *audit, const struct oddities *odd, struct error *err)
{
    struct finding *finding;
    char kept[48];

    if (odd->empty == 0)
        return STATUS_OK;
    finding =
        findings_add(&audit->findings, FINDING_EMPTY_PROMPTS,
                     severity_of(share(odd->empty_kept, odd->kept), EMPTY_WARNING, EMPTY_PROBLEM),
                     share(odd->empty, audit->run->data.n),
                     "There is nothing to answer: whatever reward they get is noise.",
                     "Leave these rows out, or set input.fields.prompt to where the text is.", err,
                     "%s prompt%s without text, %s", text_count(odd->empty).s, plural(odd->empty),
                     kept_of(odd->empty, odd->empty_kept, kept, sizeof(kept)));
    return show_rows(audit, finding, odd, shows_empty, NULL, err);
}

static enum text_oddity commonest(const struct oddities *odd)
{
    int most = 0;

    for (int i = 1; i < TEXT_ODDITY_COUNT; i++) {
        if (odd->oddity[i] > odd->oddity[most])
            most = i;
    }
    return (enum text_oddity)most;
}

static enum status find_garbage(struct audit *audit, const struct oddities *odd, struct error *err)
{
    enum text_oddity most = commonest(odd);
    enum finding_severity severity;
    struct finding *finding;
    char *meaning, kept[48];
    size_t told;

    if (odd->garbage == 0)
        return STATUS_OK;
    /* An audit leaves nothing out: one word over and over is there, be it a copy as well. */
    told = audit->run->folder ? odd->garbage_kept : odd->garbage;
    severity = told < GARBAGE_ROWS_MIN
                   ? FINDING_NOTE
                   : severity_of(share(told, audit->run->folder ? odd->kept : odd->read),
                                 GARBAGE_WARNING, GARBAGE_PROBLEM);
    meaning = text_format("Most of them: %s (%zu). No policy can answer them, and a reward by "
                          "chance teaches the wrong thing.",
                          text_oddity_name(most), odd->oddity[most]);
    if (!meaning)
        return error_nomem(err);
    finding = findings_add(&audit->findings, FINDING_GARBAGE_TEXT, severity,
                           share(odd->garbage, audit->run->data.n), meaning,
                           "Read a few of them. If they are what they seem, leave them out before "
                           "training, and look for the step that made them.",
                           err, "%s prompt%s like no language, mathematics or code, %s",
                           text_count(odd->garbage).s, odd->garbage == 1 ? " looks" : "s look",
                           kept_of(odd->garbage, odd->garbage_kept, kept, sizeof(kept)));
    mem_free(meaning);
    return show_rows(audit, finding, odd, shows_garbage, note_oddity, err);
}

static enum status find_long(struct audit *audit, const struct oddities *odd, struct error *err)
{
    struct finding *finding;
    bool heavy = odd->long_text >= LONG_TEXT_WARNING * odd->text;

    if (odd->n_long == 0)
        return STATUS_OK;
    finding = findings_add(
        &audit->findings, FINDING_LONG_PROMPTS, heavy ? FINDING_WARNING : FINDING_NOTE,
        share(odd->n_long, audit->run->data.n),
        "Trainers cut or drop what exceeds their prompt length, and one such prompt makes its "
        "whole batch slow.",
        "Hold them against the trainer's prompt length (max_prompt_length and the like).", err,
        "%s prompt%s far longer than the rest, up to %s characters: %.0f %% of all text",
        text_count(odd->n_long).s, odd->n_long == 1 ? " is" : "s are", text_count(odd->longest).s,
        100 * odd->long_text / odd->text);
    return show_rows(audit, finding, odd, is_long, NULL, err);
}

/* One kind after the other, as many of each as there is room for. */
static void append_odd(const struct audit *audit, const struct oddities *odd, struct text *out)
{
    size_t max = audit_samples_max(audit), n = 0;

    text_append(out, ",\"odd\":[");
    for (int kind = 0; kind < 3; kind++) {
        size_t until = kind == 2 ? max : n + (max - n + 1) / (size_t)(3 - kind);

        for (size_t row = 0; row < audit->run->data.n && n < until; row++) {
            const struct audit_text *text = &audit->texts[row];
            bool garbage = audit_is_garbage(text);
            const char *note = kind == 0   ? note_oddity(text)
                               : kind == 1 ? "far longer than the rest"
                                           : "no text";

            if (is_malformed(audit, row) || !(kind == 0   ? garbage
                                              : kind == 1 ? is_long(odd, text) && !garbage
                                                          : text->empty))
                continue;
            if (n++)
                text_append_char(out, ',');
            audit_card(audit, row, note, out);
        }
    }
    text_append_char(out, ']');
}

static enum status find_all(struct audit *audit, const struct oddities *odd, struct error *err)
{
    size_t n = audit->run->data.n;
    enum status st = find_malformed(audit, err);

    if (!st)
        st = find_empty(audit, odd, err);
    if (!st)
        st = find_garbage(audit, odd, err);
    if (!st)
        st = find_long(audit, odd, err);
    audit_measure(audit, "malformed", (double)audit->run->data.n_malformed, n);
    audit_measure(audit, "empty", (double)odd->empty, n);
    audit_measure(audit, "garbage", (double)odd->garbage, n);
    return st;
}

/* All members of the rows, but for those of what may not be shown. */
static enum status append_columns(const struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    const struct {
        const char *field, *path;
    } fields[] = {{"id", run->recipe->input.fields.id},
                  {"prompt", run->recipe->input.fields.prompt},
                  {"answer", run->recipe->input.fields.answer},
                  {"source", run->recipe->input.fields.source}};
    const char *closed[4];
    size_t n = 0;

    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        if (fields[i].path && !audit_may_show(audit, fields[i].field))
            closed[n++] = fields[i].path;
    }
    return columns_append(&run->data, closed, n, out, err);
}

/* ---- Labels ---- */

static double quality_of(const struct sample *s)
{
    return s->quality;
}

static double difficulty_of(const struct sample *s)
{
    return s->difficulty_from_rewards ? NAN : s->difficulty;
}

static double reward_of(const struct sample *s)
{
    return s->pass_rate;
}

/* What the fields with numbers hold, whether or not anything is learned from them. */
static enum status append_values(const struct audit *audit, struct text *out, struct error *err)
{
    static const struct {
        const char *field;
        double (*value)(const struct sample *);
    } fields[] = {{"quality", quality_of}, {"difficulty", difficulty_of}, {"rewards", reward_of}};
    const struct dataset *data = &audit->run->data;
    double *values = mem_alloc(data->n, sizeof(*values));
    const char *comma = "";

    if (!values)
        return error_nomem(err);
    text_append(out, ",\"values\":[");
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        struct histogram h;
        size_t n = 0;

        for (size_t row = 0; row < data->n; row++) {
            double x = fields[i].value(&data->samples[row]);

            if (isfinite(x))
                values[n++] = x;
        }
        if (n == 0)
            continue;
        histogram_init_for(&h, values, n, VALUE_BINS);
        histogram_fill(&h, values, n);
        text_appendf(out, "%s{\"field\":\"%s\",\"rows\":%zu,\"histogram\":", comma, fields[i].field,
                     n);
        histogram_print(&h, out);
        text_append_char(out, '}');
        comma = ",";
    }
    text_append_char(out, ']');
    mem_free(values);
    return STATUS_OK;
}

enum status audit_fields(struct audit *audit, struct text *out, struct error *err)
{
    const struct dataset *data = &audit->run->data;
    struct oddities odd = {0};
    enum status st = find_long_limit(audit, &odd.long_limit, err);

    if (st)
        return st;
    count_oddities(audit, &odd);
    text_appendf(out, "{\"guessed\":%s,\"ids_repeat\":%s,\"rows\":%zu,\"malformed\":%zu",
                 audit->guessed ? "true" : "false", data->ids_repeat ? "true" : "false", data->n,
                 data->n_malformed);
    append_map(audit, out);
    st = append_columns(audit, out, err);
    if (!st)
        st = append_lengths(audit, out, err);
    if (!st)
        st = append_values(audit, out, err);
    append_problems(audit, out);
    if (!st)
        st = append_sources(audit, out, err);
    if (!st)
        st = find_all(audit, &odd, err);
    append_odd(audit, &odd, out);
    text_append_char(out, '}');
    return st;
}
