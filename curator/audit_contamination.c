/*
 * curator/audit_contamination.c - section `contamination` of a report: what of which benchmark
 * stands in the data, and whether that is more than chance.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "curator/audit_shown.h"

/*
 * An item that was copied is there whole, in whatever frame of other words. One that is there by
 * half may be a copy that is written otherwise, or another question of the same family: MATH holds
 * many that differ in their numbers alone. Of less than half, nothing can be answered.
 */
#define COVERED_WHOLE 0.9
#define COVERED_HALF 0.5

/* So many items of a file, and so large a part of it, are not a family resemblance. */
#define ITEMS_MANY 10
#define ITEMS_SHARE 0.05

/* What was found of one file. */
struct tally {
    size_t rows_hit;    /* share an n-gram */
    size_t rows_false;  /* of them, likely by chance */
    size_t items_hit;   /* items that the others share most with */
    size_t items_half;  /* of them, those of which half or more is there */
    size_t items_whole; /* of them, those that are there */
};

struct section {
    struct audit *audit;
    const struct benchmark_overlap *overlap;
    struct text *names;          /* [n_files] */
    struct tally *tallies;       /* [n_files] */
    struct row_hit *best;        /* [n_best] of each row the hit that says most, best first */
    size_t n_best, n_best_false; /* those that are likely false come last */
};

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* The last part of a path; the second of a name is "name (2)". */
static void name_files(struct section *s)
{
    for (size_t i = 0; i < s->overlap->n_files; i++) {
        size_t n_same = 1;

        audit_file_words(s->overlap->files[i].path, &s->names[i]);
        for (size_t j = 0; j < i; j++)
            n_same += strcmp(last_part(s->overlap->files[j].path),
                             last_part(s->overlap->files[i].path)) == 0;
        if (n_same > 1)
            text_appendf(&s->names[i], " (%zu)", n_same);
    }
}

static int compare_row_hits(const void *pa, const void *pb)
{
    const struct row_hit *a = pa, *b = pb;

    if (benchmark_hit_stronger(&a->hit, &b->hit))
        return -1;
    if (benchmark_hit_stronger(&b->hit, &a->hit))
        return 1;
    return (a->row > b->row) - (a->row < b->row);
}

static enum status tally_hits(struct section *s, struct error *err)
{
    const struct benchmark_overlap *overlap = s->overlap;
    unsigned char *hit_items = mem_zalloc(overlap->n_items, 1);

    if (!hit_items)
        return error_nomem(err);
    for (size_t i = 0; i < overlap->n_hits; i++) {
        const struct row_hit *h = &overlap->hits[i];
        struct tally *tally = &s->tallies[h->hit.file];

        tally->rows_hit++;
        if (h->hit.likely_false) {
            tally->rows_false++;
        } else {
            int level = h->hit.covered >= COVERED_WHOLE  ? 3
                        : h->hit.covered >= COVERED_HALF ? 2
                                                         : 1;
            unsigned char *seen = &hit_items[h->hit.item];

            tally->items_hit += *seen < 1;
            tally->items_half += *seen < 2 && level >= 2;
            tally->items_whole += *seen < 3 && level == 3;
            *seen = *seen > level ? *seen : (unsigned char)level;
        }
        if (i == 0 || overlap->hits[i - 1].row != h->row)
            s->best[s->n_best++] = *h;
        else if (benchmark_hit_stronger(&h->hit, &s->best[s->n_best - 1].hit))
            s->best[s->n_best - 1] = *h;
    }
    for (size_t i = 0; i < s->n_best; i++)
        s->n_best_false += s->best[i].hit.likely_false;
    if (s->n_best > 0)
        qsort(s->best, s->n_best, sizeof(*s->best), compare_row_hits);
    mem_free(hit_items);
    return STATUS_OK;
}

static bool many_items(const struct section *s, size_t file, size_t n)
{
    return n >= ITEMS_MANY && (double)n >= ITEMS_SHARE * (double)s->overlap->files[file].n;
}

static bool leaked(const struct section *s, size_t file)
{
    return s->tallies[file].items_whole > 0 || many_items(s, file, s->tallies[file].items_half);
}

static const char *verdict_of(const struct section *s, size_t file)
{
    const struct tally *tally = &s->tallies[file];

    if (leaked(s, file))
        return "leaked";
    if (tally->rows_hit > tally->rows_false)
        return "partial";
    return tally->rows_hit ? "likely_false" : "clean";
}

static void print_files(const struct section *s, struct text *out)
{
    text_append(out, ",\"against\":[");
    for (size_t i = 0; i < s->overlap->n_files; i++) {
        const struct tally *tally = &s->tallies[i];

        text_append(out, i ? ",{\"name\":" : "{\"name\":");
        text_append_json_string(out, text_string(&s->names[i]), s->names[i].length);
        text_appendf(out,
                     ",\"items\":%zu,\"items_hit\":%zu,\"rows_hit\":%zu,\"rows_likely_false\":%zu,"
                     "\"verdict\":\"%s\"}",
                     s->overlap->files[i].n, tally->items_hit, tally->rows_hit, tally->rows_false,
                     verdict_of(s, i));
    }
    text_append_char(out, ']');
}

static size_t item_number(const struct section *s, const struct benchmark_hit *hit)
{
    return hit->item - s->overlap->files[hit->file].first;
}

static enum status print_hit(const struct section *s, const struct row_hit *h, const char *comma,
                             struct text *out, struct error *err)
{
    const struct benchmark_overlap *overlap = s->overlap;
    size_t begin = overlap->text_begins[h->hit.item], end = overlap->text_begins[h->hit.item + 1];
    struct text_view item_text = {text_string(&overlap->texts) + begin, end - begin};
    const struct text *name = &s->names[h->hit.file];
    bool show = audit_may_show(s->audit, "prompt");
    struct shown_text sample = {0}, item = {0};
    size_t clipped = 0;
    enum status st = shown_text_prompt(&sample, s->audit, h->row, err);

    if (!st)
        st = shown_text_plain(&item, item_text, err);
    if (!st && show)
        st = shown_texts_mark_shared(&sample, &item, s->audit->run->recipe->decontaminate.ngram,
                                     err);
    if (!st) {
        text_appendf(out, "%s{\"sample\":", comma);
        audit_card_shown(s->audit, h->row, NULL, &sample, out);
        text_append(out, ",\"benchmark\":");
        text_append_json_string(out, text_string(name), name->length);
        text_appendf(out, ",\"item\":%zu,\"item_text\":", item_number(s, &h->hit));
        /* The item says what the prompt says. */
        if (show)
            shown_text_print(&item, out, &clipped);
        else
            text_append(out, "null");
        text_appendf(out, ",\"item_clipped\":%zu,\"shared\":%zu", clipped, h->hit.shared);
        audit_member(out, "covered", h->hit.covered);
        text_append(out, ",\"spans\":{\"sample\":");
        shown_text_print_spans(&sample, out);
        text_append(out, ",\"item\":");
        shown_text_print_spans(&item, out);
        text_appendf(out, "},\"likely_false\":%s}", h->hit.likely_false ? "true" : "false");
    }
    shown_text_release(&sample);
    shown_text_release(&item);
    return st;
}

/* The best hits; the last place is for one that is likely false, if there are any, so that both
 * kinds can be judged. */
static enum status print_hits(const struct section *s, struct text *out, struct error *err)
{
    size_t max = audit_samples_max(s->audit), n_true = s->n_best - s->n_best_false;
    const char *comma = "";
    enum status st = STATUS_OK;

    if (max > s->n_best)
        max = s->n_best;
    text_append(out, ",\"hits\":[");
    for (size_t i = 0; !st && i < max; i++) {
        bool last = i + 1 == max && i > 0 && s->n_best_false > 0 && n_true > i;

        st = print_hit(s, &s->best[last ? n_true : i], comma, out, err);
        comma = ",";
    }
    text_append_char(out, ']');
    return st;
}

/* Rows of a file's hits, `likely_false` or not, those first that have half of an item. */
static enum status show_rows(const struct section *s, struct finding *f, size_t file,
                             bool likely_false, struct error *err)
{
    enum status st = STATUS_OK;

    for (int half = 1; half >= 0; half--)
        for (size_t i = 0; !st && i < s->overlap->n_hits; i++) {
            const struct row_hit *h = &s->overlap->hits[i];

            if (h->hit.file != file || h->hit.likely_false != likely_false ||
                (h->hit.covered >= COVERED_HALF) != half)
                continue;
            if (likely_false)
                st = finding_show(f, h->row, err, "as in item %zu of %s", item_number(s, &h->hit),
                                  text_string(&s->names[file]));
            else
                st = finding_show(f, h->row, err, "item %zu of %s, %.0f %% of it",
                                  item_number(s, &h->hit), text_string(&s->names[file]),
                                  100 * h->hit.covered);
        }
    return st;
}

static double share_of(const struct section *s, size_t rows)
{
    return s->overlap->rows ? (double)rows / (double)s->overlap->rows : NAN;
}

static enum status tell_of_items(struct section *s, size_t file, struct error *err)
{
    const struct tally *tally = &s->tallies[file];
    size_t rows = tally->rows_hit - tally->rows_false;
    const char *name = text_string(&s->names[file]);
    enum status st = STATUS_OK;
    struct finding *f;

    if (leaked(s, file))
        f = findings_add(&s->audit->findings, FINDING_LEAKED_ITEMS, FINDING_PROBLEM,
                         share_of(s, rows),
                         "A model that is trained on these rows has seen the benchmark: its score "
                         "there measures memory.",
                         s->audit->run->recipe->decontaminate.action == ACTION_DROP
                             ? "decontaminate.action: drop leaves these rows out of what is kept. "
                               "Look where they came from, since an item that was rewritten shares "
                               "no run of words and is not found."
                             : "Leave the rows out: decontaminate.against with "
                               "decontaminate.action: drop does. Then look where they came from, "
                               "since an item that was rewritten shares no run of words and is not "
                               "found.",
                         err, "%s row%s share%s text with %s: %s of its %s items (%.0f %%)",
                         text_count(rows).s, rows == 1 ? "" : "s", rows == 1 ? "s" : "", name,
                         text_count(tally->items_hit).s, text_count(s->overlap->files[file].n).s,
                         100 * (double)tally->items_hit / (double)s->overlap->files[file].n);
    else
        f = findings_add(
            &s->audit->findings, FINDING_LEAKED_ITEMS,
            tally->items_half || many_items(s, file, tally->items_hit) ? FINDING_WARNING
                                                                       : FINDING_NOTE,
            share_of(s, rows),
            "A run of words is common to both and found in few other items, but no item is there "
            "as a whole: a question of the same family with other numbers, a passage that both "
            "quote, or an item that was rewritten.",
            "Look at the hits side by side. decontaminate.action: drop leaves such rows out; a "
            "larger decontaminate.ngram asks for longer runs.",
            err, "%s row%s share%s part of an item with %s (%s of its %s items)",
            text_count(rows).s, rows == 1 ? "" : "s", rows == 1 ? "s" : "", name,
            text_count(tally->items_hit).s, text_count(s->overlap->files[file].n).s);
    if (!f)
        return STATUS_NOMEM;
    if (s->audit->run->recipe->decontaminate.action == ACTION_DROP)
        st = audit_taken_out(s->audit, f, err);
    return st ? st : show_rows(s, f, file, false, err);
}

static enum status tell_of_boilerplate(struct section *s, size_t file, struct error *err)
{
    size_t rows = s->tallies[file].rows_false;
    struct finding *f = findings_add(
        &s->audit->findings, FINDING_LEAKED_ITEMS, FINDING_NOTE, share_of(s, rows),
        "What they share is common to many items or to many rows, or is a whole item of fewer than "
        "eight words: an instruction, a stock phrase, a question that anybody asks.",
        "If decontaminate.action: drop leaves out too many rows for that, raise "
        "decontaminate.ngram, or keep them with action: flag.",
        err, "%s row%s share%s only stock phrases with %s", text_count(rows).s,
        rows == 1 ? "" : "s", rows == 1 ? "s" : "", text_string(&s->names[file]));

    return f ? show_rows(s, f, file, true, err) : STATUS_NOMEM;
}

static enum status section_init(struct section *s, struct error *err)
{
    s->names = mem_zalloc(s->overlap->n_files, sizeof(*s->names));
    s->tallies = mem_zalloc(s->overlap->n_files, sizeof(*s->tallies));
    s->best = mem_alloc(s->overlap->n_hits, sizeof(*s->best));
    if (!s->names || !s->tallies || !s->best)
        return error_nomem(err);
    name_files(s);
    for (size_t i = 0; i < s->overlap->n_files; i++) {
        enum status st = text_check(&s->names[i], err);

        if (st)
            return st;
    }
    return tally_hits(s, err);
}

static void section_release(struct section *s)
{
    for (size_t i = 0; s->names && i < s->overlap->n_files; i++)
        text_release(&s->names[i]);
    mem_free(s->names);
    mem_free(s->tallies);
    mem_free(s->best);
}

enum status audit_contamination(struct audit *audit, struct text *out, struct error *err)
{
    const struct recipe *recipe = audit->run->recipe;
    struct section s = {.audit = audit, .overlap = &audit->run->overlap};
    enum status st;

    if (recipe->decontaminate.against.n == 0) {
        audit_measure(audit, "contaminated", NAN, 0);
        audit_absent(out, "no benchmark was given to compare with: --against FILE, or "
                          "decontaminate.against in a recipe");
        return STATUS_OK;
    }
    st = section_init(&s, err);
    if (!st) {
        audit_measure(audit, "contaminated", (double)s.n_best, s.overlap->rows);
        text_appendf(out,
                     "{\"ngram\":%u,\"action\":\"%s\",\"rows\":%zu,\"rows_hit\":%zu,"
                     "\"rows_likely_false\":%zu",
                     recipe->decontaminate.ngram,
                     recipe->decontaminate.action == ACTION_DROP ? "drop" : "flag", s.overlap->rows,
                     s.n_best, s.n_best_false);
        print_files(&s, out);
        st = print_hits(&s, out, err);
        text_append_char(out, '}');
    }
    for (size_t i = 0; !st && i < s.overlap->n_files; i++) {
        if (s.tallies[i].rows_hit > s.tallies[i].rows_false)
            st = tell_of_items(&s, i, err);
        if (!st && s.tallies[i].rows_false > 0)
            st = tell_of_boilerplate(&s, i, err);
    }
    section_release(&s);
    return st;
}
