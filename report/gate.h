/*
 * report/gate.h - conditions on the measures of a report: `saerl audit --fail-on`.
 *
 *     duplicates > 1% or contaminated > 0
 *     not (explained_variance >= 0.7 and l0 < 200)
 *
 *     expression = conjunction { "or" conjunction }
 *     conjunction = factor { "and" factor }
 *     factor = "not" factor | "(" expression ")" | comparison
 *     comparison = measure ( ">" | ">=" | "<" | "<=" | "==" | "!=" ) number [ "%" ]
 *
 * A percentage is of the number that the measure is counted among ("of" in the report), else of 1.
 * A measure that is not known (null) makes the whole expression an error, never a pass.
 */
#ifndef REPORT_GATE_H
#define REPORT_GATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

#define GATE_NODES_MAX 128
#define GATE_DEPTH_MAX 32

struct json;

enum gate_operator {
    GATE_ABOVE,
    GATE_AT_LEAST,
    GATE_BELOW,
    GATE_AT_MOST,
    GATE_EQUAL,
    GATE_UNEQUAL,
};

struct gate_node {
    enum gate_kind {
        GATE_COMPARISON,
        GATE_NOT,
        GATE_AND,
        GATE_OR,
    } kind;
    size_t left, right; /* of AND and OR; NOT has `left` */
    const char *measure;
    enum gate_operator op;
    double number;
    bool percent;
};

/* Owns nothing; `measure` is borrowed from the list of names. */
struct gate {
    struct gate_node nodes[GATE_NODES_MAX];
    size_t n, root;
};

/*
 * `names` (NULL-terminated) are the measures there are. STATUS_INVALID with the column and what was
 * expected, for an unknown name with the nearest.
 */
MUST_CHECK
enum status gate_parse(struct gate *gate, const char *expression, const char *const *names,
                       struct error *err);

/*
 * Hold `measures`, that member of a report, against the gate. *hit: the expression is true; `lines`
 * then has a line for each comparison that made it so, with the value found. STATUS_FAILED: a
 * measure is not known.
 */
MUST_CHECK
enum status gate_evaluate(const struct gate *gate, const struct json *measures, bool *hit,
                          struct text *lines, struct error *err);

#endif
