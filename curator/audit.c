/*
 * curator/audit.c - the sections of a report put together, and the verdict on top.
 */
#include "curator/audit.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/measures.h"

void audit_release(struct audit *audit)
{
    findings_release(&audit->findings);
    text_release(&audit->measures);
    mem_free(audit->source_of);
    audit->source_of = NULL;
    mem_free(audit->texts);
    audit->texts = NULL;
}

void audit_measure(struct audit *audit, const char *name, double value, size_t of)
{
    const struct measure *m = measures;

    while (m->name && strcmp(m->name, name) != 0)
        m++;
    assert(m->name);
    text_appendf(&audit->measures, "%s\"%s\":{\"value\":", audit->measures.length ? "," : "", name);
    text_append_double(&audit->measures, value);
    if (of)
        text_appendf(&audit->measures, ",\"of\":%zu}", of);
    else
        text_append(&audit->measures, ",\"of\":null}");
}

enum status audit_taken_out(const struct audit *audit, struct finding *finding, struct error *err)
{
    char *meaning;

    if (!audit->run->folder || finding->severity == FINDING_NOTE)
        return STATUS_OK;
    meaning = text_format("%s What this run keeps is without these rows.", finding->meaning);
    if (!meaning)
        return error_nomem(err);
    mem_free(finding->meaning);
    finding->meaning = meaning;
    finding->severity--;
    return STATUS_OK;
}

/* A name met in the data: the first row tells which came first. */
struct source_tally {
    struct span name;
    size_t first, rows;
};

static int compare_tallies(const void *a, const void *b)
{
    const struct source_tally *x = a, *y = b;

    if (x->rows != y->rows)
        return x->rows > y->rows ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static bool same_name(const struct run *run, struct span a, struct span b)
{
    return a.length == b.length &&
           memcmp(dataset_bytes(&run->data, a), dataset_bytes(&run->data, b), a.length) == 0;
}

/* Number the sources by first appearance: source_of[row], tallies [*n]. */
static enum status number_sources(struct audit *audit, struct source_tally **tallies, size_t *n,
                                  struct error *err)
{
    const struct run *run = audit->run;
    size_t n_slots = 64, capacity = 0;
    uint32_t *slots = NULL; /* open addressing: number + 1 */
    void *grown = NULL;
    enum status st = STATUS_OK;

    while (n_slots / 2 < run->data.n && n_slots < ((size_t)1 << 31))
        n_slots *= 2;
    slots = mem_zalloc(n_slots, sizeof(*slots));
    if (!slots)
        return error_nomem(err);
    for (size_t row = 0; !st && row < run->data.n; row++) {
        struct span name = run->data.samples[row].source;
        size_t slot;

        audit->source_of[row] = AUDIT_NO_SOURCE;
        if (name.length == 0)
            continue;
        slot = (size_t)hash64(dataset_bytes(&run->data, name), name.length, 0) & (n_slots - 1);
        while (slots[slot] && !same_name(run, (*tallies)[slots[slot] - 1].name, name))
            slot = (slot + 1) & (n_slots - 1);
        if (!slots[slot]) {
            grown = *tallies;
            if (!mem_grow(&grown, &capacity, *n + 1, sizeof(**tallies)))
                st = error_nomem(err);
            *tallies = grown;
            if (st)
                break;
            (*tallies)[*n] = (struct source_tally){.name = name, .first = row};
            slots[slot] = (uint32_t)++ * n;
        }
        (*tallies)[slots[slot] - 1].rows++;
        audit->source_of[row] = slots[slot] - 1;
    }
    mem_free(slots);
    return st;
}

static enum status rank_sources(struct audit *audit, struct error *err)
{
    struct source_tally *tallies = NULL;
    uint32_t *rank = NULL;
    size_t n = 0;
    enum status st;

    audit->source_of = mem_alloc(audit->run->data.n, sizeof(*audit->source_of));
    if (!audit->source_of)
        return error_nomem(err);
    st = number_sources(audit, &tallies, &n, err);
    if (!st) {
        rank = mem_alloc(n + 1, sizeof(*rank));
        st = rank ? STATUS_OK : error_nomem(err);
    }
    if (st)
        goto out;
    /* `first` finds the number again once the order has changed. */
    if (n > 1)
        qsort(tallies, n, sizeof(*tallies), compare_tallies);
    for (size_t i = 0; i < n; i++)
        rank[audit->source_of[tallies[i].first]] =
            i < AUDIT_SOURCES_MAX ? (uint32_t)i : AUDIT_NO_SOURCE;
    audit->n_sources = n < AUDIT_SOURCES_MAX ? n : AUDIT_SOURCES_MAX;
    audit->sources_beyond = n - audit->n_sources;
    for (size_t i = 0; i < audit->n_sources; i++) {
        audit->source_names[i] = tallies[i].name;
        audit->source_rows[i] = tallies[i].rows;
    }
    for (size_t row = 0; row < audit->run->data.n; row++) {
        if (audit->source_of[row] != AUDIT_NO_SOURCE)
            audit->source_of[row] = rank[audit->source_of[row]];
    }
out:
    mem_free(tallies);
    mem_free(rank);
    return st;
}

static void append_finding(const struct audit *audit, const struct finding *f, struct text *out)
{
    size_t max = audit_samples_max(audit);

    text_appendf(out, "{\"code\":\"%s\",\"severity\":\"%s\",\"section\":\"%s\"",
                 finding_code_name(f->code), finding_severity_names[f->severity],
                 finding_code_section(f->code));
    audit_member_text(out, "title", f->title);
    audit_member(out, "share", f->share);
    audit_member_text(out, "meaning", f->meaning);
    audit_member_text(out, "advice", f->advice);
    text_append(out, ",\"samples\":[");
    for (size_t i = 0; i < f->n_rows && i < max; i++) {
        if (i)
            text_append_char(out, ',');
        audit_card(audit, f->rows[i].row, f->rows[i].note, out);
    }
    text_append(out, "]}");
}

static size_t count_severity(const struct findings *findings, enum finding_severity severity)
{
    size_t n = 0;

    for (size_t i = 0; i < findings->n; i++)
        n += findings->items[i].severity == severity;
    return n;
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static void append_verdict(struct audit *audit, struct text *out)
{
    const struct findings *findings = &audit->findings;
    size_t problems = count_severity(findings, FINDING_PROBLEM);
    size_t warnings = count_severity(findings, FINDING_WARNING);

    text_append(out, ",\"verdict\":{\"state\":");
    if (problems)
        text_appendf(out,
                     "\"not_ready\",\"sentence\":\"Not ready: %zu problem%s to solve before "
                     "training",
                     problems, plural(problems));
    if (problems && warnings)
        text_appendf(out, ", %zu warning%s", warnings, plural(warnings));
    if (problems)
        text_append(out, ".\"}");
    else if (warnings)
        text_appendf(out,
                     "\"warnings\",\"sentence\":\"Ready with %zu warning%s: look at %s before "
                     "training.\"}",
                     warnings, plural(warnings), warnings == 1 ? "it" : "them");
    else
        text_append(out, "\"ready\",\"sentence\":\"Ready: nothing was found that stands against "
                         "training on this.\"}");
    text_append(out, ",\"findings\":[");
    for (size_t i = 0; i < findings->n; i++) {
        if (i)
            text_append_char(out, ',');
        append_finding(audit, &findings->items[i], out);
    }
    text_append_char(out, ']');
    audit_measure(audit, "problems", (double)problems, 0);
    audit_measure(audit, "warnings", (double)warnings, 0);
}

static enum status append_sections(struct audit *audit, struct text *out, struct error *err)
{
    static const struct {
        const char *name;
        audit_section *print;
    } sections[] = {
        {"fields", audit_fields},
        {"funnel", audit_funnel},
        {"difficulty", audit_difficulty},
        {"quality", audit_quality},
        {"diversity", audit_diversity},
        {"duplicates", audit_duplicates},
        {"contamination", audit_contamination},
        {"sae", audit_sae},
        {"curriculum", audit_curriculum},
        {"baseline", audit_baseline},
        {"repeat", audit_repeat},
    };
    enum status st = STATUS_OK;

    text_append(out, ",\"sections\":{");
    for (size_t i = 0; !st && i < sizeof(sections) / sizeof(*sections); i++) {
        text_appendf(out, "%s\"%s\":", i ? "," : "", sections[i].name);
        st = sections[i].print(audit, out, err);
    }
    text_append(out, "},\"sketch\":");
    return st ? st : audit_sketch(audit, out, err);
}

enum status audit_report_json(struct audit *audit, struct text *out, struct error *err)
{
    struct text sections = {0};
    enum status st = rank_sources(audit, err);

    if (!st)
        st = audit_measure_texts(audit, err);
    if (!st)
        st = append_sections(audit, &sections, err);
    if (!st)
        st = text_check(&sections, err);
    if (!st) {
        findings_sort(&audit->findings);
        text_appendf(out,
                     "{\"format\":\"saerl.report\",\"version\":2,\"program\":\"saerl %s\","
                     "\"kind\":\"%s\"",
                     SAERL_VERSION, audit->run->folder ? "run" : "audit");
        append_verdict(audit, out);
        text_appendf(out, ",\"measures\":{%s}", text_string(&audit->measures));
        text_append_n(out, text_string(&sections), sections.length);
        st = run_report_members(audit->run, out, err);
        text_append(out, "}\n");
    }
    if (!st)
        st = text_check(&audit->measures, err);
    if (!st)
        st = text_check(out, err);
    text_release(&sections);
    return st;
}
