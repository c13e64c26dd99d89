/*
 * tests/support/audit_sample.h - a finished run made up, for the sections of a report to look at.
 *
 * Row i of n, all of them kept:
 *
 *     id "r<i>"   source "even" or "odd"   a prompt of 1 + i % 5 words   pass rate (i % 5) / 4
 *     quality i / n    difficulty (i + 1) / n    recon i / (2 n)    2 + i % 3 tokens
 *     latents 0 and 1 + i % 7 of 8    cluster i % 3 of 3
 *
 * The plan is easy to hard without regard to clusters: row i is at place i. Fields may be changed
 * as a test needs it. The functions end the test on failure.
 */
#ifndef TESTS_SUPPORT_AUDIT_SAMPLE_H
#define TESTS_SUPPORT_AUDIT_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "curator/audit.h"
#include "curator/run.h"
#include "formats/json.h"

struct audit_sample {
    struct recipe recipe;
    struct run_folder folder;
    struct run run;
    struct audit audit; /* of that run; sources are ranked, texts measured */
};

/* Batches of `size` rows, the last one as short as it must be. */
void audit_sample_init(struct audit_sample *sample, size_t n, uint32_t size);

/* As an audit of text alone: no vectors, scores, clusters and batches. */
void audit_sample_forget_vectors(struct audit_sample *sample);

void audit_sample_release(struct audit_sample *sample);

/* Take findings and measures back, so that a section can be printed again. */
void audit_sample_forget_findings(struct audit_sample *sample);

/* What the section prints, as a tree for json_free(). */
struct json *audit_sample_print(struct audit_sample *sample, audit_section *section);

/* Run the section with 0, 1, 2, ... allocations allowed until it passes. */
void audit_sample_fail_allocations(struct audit_sample *sample, audit_section *section);

/* "a.b.2.c" of a tree; NULL where there is none or null. */
const struct json *audit_sample_at(const struct json *root, const char *path);
double audit_sample_number(const struct json *root, const char *path);

/* The member must be this text. */
void audit_sample_is_text(const struct json *root, const char *path, const char *text);

#endif
