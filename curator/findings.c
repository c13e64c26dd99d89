/*
 * curator/findings.c - the table of codes, and the list of what was found.
 */
#include "curator/findings.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>

#include "base/mem.h"

const char *const finding_severity_names[] = {"note", "warning", "problem", NULL};

static const struct {
    const char *name, *section;
} codes[FINDING_CODE_COUNT] = {
    [FINDING_WRONG_LAYER] = {"wrong_layer", "sae"},
    [FINDING_DEAD_SAE] = {"dead_sae", "sae"},
    [FINDING_LEAKED_ITEMS] = {"leaked_items", "contamination"},
    [FINDING_DUPLICATED_SOURCE] = {"duplicated_source", "duplicates"},
    [FINDING_DIFFICULTY_CONTRADICTED] = {"difficulty_contradicted", "difficulty"},
    [FINDING_LENGTH_CONFOUND] = {"length_confound", "difficulty"},
    [FINDING_DIFFICULTY_UNRELATED] = {"difficulty_unrelated", "difficulty"},
    [FINDING_MALFORMED] = {"malformed_rows", "fields"},
    [FINDING_EMPTY_PROMPTS] = {"empty_prompts", "fields"},
    [FINDING_GARBAGE_CLUSTER] = {"garbage_cluster", "diversity"},
    [FINDING_GARBAGE_TEXT] = {"garbage_text", "fields"},
    [FINDING_DUPLICATES] = {"duplicates", "duplicates"},
    [FINDING_GIANT_GROUP] = {"giant_group", "duplicates"},
    [FINDING_CONFLICTING_ANSWERS] = {"conflicting_answers", "duplicates"},
    [FINDING_ZERO_VARIANCE] = {"zero_variance", "difficulty"},
    [FINDING_DRIFT] = {"drift", "baseline"},
    [FINDING_REJECTED_VECTORS] = {"rejected_vectors", "sae"},
    [FINDING_DENSE_LATENTS] = {"dense_latents", "sae"},
    [FINDING_QUALITY_UNRELATED] = {"quality_unrelated", "quality"},
    [FINDING_UNCALIBRATED] = {"uncalibrated", "difficulty"},
    [FINDING_LABELS_OUT_OF_SCALE] = {"labels_out_of_scale", "difficulty"},
    [FINDING_DOMINANT_CLUSTER] = {"dominant_cluster", "diversity"},
    [FINDING_LOW_DIVERSITY] = {"low_diversity", "diversity"},
    [FINDING_CLUSTERS_ARE_SOURCES] = {"clusters_are_sources", "diversity"},
    [FINDING_DROPPED_SOURCE] = {"dropped_source", "funnel"},
    [FINDING_UNORDERED] = {"unordered", "curriculum"},
    [FINDING_MIXED_SCALES] = {"mixed_scales", "difficulty"},
    [FINDING_LONG_PROMPTS] = {"long_prompts", "fields"},
    [FINDING_FEW_LABELS] = {"few_labels", "difficulty"},
    [FINDING_UNBATCHED] = {"unbatched", "curriculum"},
};

const char *finding_code_name(enum finding_code code)
{
    return codes[code].name;
}

const char *finding_code_section(enum finding_code code)
{
    return codes[code].section;
}

static void finding_release(struct finding *f)
{
    mem_free(f->title);
    mem_free(f->meaning);
    mem_free(f->advice);
    for (size_t i = 0; i < f->n_rows; i++)
        mem_free(f->rows[i].note);
}

void findings_release(struct findings *findings)
{
    for (size_t i = 0; i < findings->n; i++)
        finding_release(&findings->items[i]);
    mem_free(findings->items);
    *findings = (struct findings){0};
}

static char *format(const char *words, va_list args)
{
    struct text text = {0};
    char *copy;

    text_append_va(&text, words, args);
    copy = text.failed ? NULL : mem_strdup(text_string(&text));
    text_release(&text);
    return copy;
}

struct finding *findings_add(struct findings *findings, enum finding_code code,
                             enum finding_severity severity, double share, const char *meaning,
                             const char *advice, struct error *err, const char *title, ...)
{
    struct finding finding = {.code = code, .severity = severity, .share = share};
    void *items = findings->items;
    va_list args;

    assert(code < FINDING_CODE_COUNT);
    va_start(args, title);
    finding.title = format(title, args);
    va_end(args);
    finding.meaning = mem_strdup(meaning);
    finding.advice = mem_strdup(advice);
    if (!finding.title || !finding.meaning || !finding.advice ||
        !mem_grow(&items, &findings->capacity, findings->n + 1, sizeof(finding))) {
        finding_release(&finding);
        error_nomem(err);
        return NULL;
    }
    findings->items = items;
    findings->items[findings->n] = finding;
    return &findings->items[findings->n++];
}

enum status finding_show(struct finding *finding, size_t row, struct error *err, const char *note,
                         ...)
{
    struct finding_row *shown = &finding->rows[finding->n_rows];

    if (finding->n_rows == FINDING_ROWS_MAX)
        return STATUS_OK;
    *shown = (struct finding_row){.row = row};
    if (note) {
        va_list args;

        va_start(args, note);
        shown->note = format(note, args);
        va_end(args);
        if (!shown->note)
            return error_nomem(err);
    }
    finding->n_rows++;
    return STATUS_OK;
}

void findings_drop(struct findings *findings, enum finding_code code)
{
    size_t n = 0;

    for (size_t i = 0; i < findings->n; i++) {
        if (findings->items[i].code == code)
            finding_release(&findings->items[i]);
        else
            findings->items[n++] = findings->items[i];
    }
    findings->n = n;
}

static bool comes_before(const struct finding *a, const struct finding *b)
{
    if (a->severity != b->severity)
        return a->severity > b->severity;
    if (a->code != b->code)
        return a->code < b->code;
    return fmax(0, a->share) > fmax(0, b->share); /* fmax() takes NaN for nothing */
}

void findings_sort(struct findings *findings)
{
    for (size_t i = 1; i < findings->n; i++) {
        struct finding f = findings->items[i];
        size_t j = i;

        for (; j > 0 && comes_before(&f, &findings->items[j - 1]); j--)
            findings->items[j] = findings->items[j - 1];
        findings->items[j] = f;
    }
}
