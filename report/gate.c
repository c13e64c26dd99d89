#include "report/gate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"
#include "report/words.h"

#define FOUND_CHARACTERS 40

static const char *const operators[] = {
    [GATE_ABOVE] = ">",    [GATE_AT_LEAST] = ">=", [GATE_BELOW] = "<",
    [GATE_AT_MOST] = "<=", [GATE_EQUAL] = "==",    [GATE_UNEQUAL] = "!=",
};

struct parser {
    struct gate *gate;
    const char *expression, *at;
    const char *const *names;
    struct error *err;
};

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

static void skip_spaces(struct parser *p)
{
    p->at += strspn(p->at, " \t\r\n");
}

static size_t column(const struct parser *p)
{
    return (size_t)(p->at - p->expression) + 1;
}

/* What stands here, for a message: a word, else one character. */
static size_t word_length(const struct parser *p)
{
    size_t n = strspn(p->at, letters);

    return n || !*p->at ? n : 1;
}

static enum status expected(const struct parser *p, const char *what)
{
    struct text found = {0};
    enum status st;

    if (!*p->at)
        return error_set(p->err, STATUS_INVALID, "column %zu: the expression ends, expected %s",
                         column(p), what);
    text_append_visible(&found, p->at, word_length(p), FOUND_CHARACTERS);
    st = error_set(p->err, STATUS_INVALID, "column %zu: found '%s', expected %s", column(p),
                   text_string(&found), what);
    text_release(&found);
    return st;
}

static bool take_word(struct parser *p, const char *word)
{
    size_t n = strlen(word);

    if (strspn(p->at, letters) != n || memcmp(p->at, word, n) != 0)
        return false;
    p->at += n;
    skip_spaces(p);
    return true;
}

static enum status add(struct parser *p, struct gate_node node, size_t *index)
{
    if (p->gate->n == GATE_NODES_MAX)
        return error_set(p->err, STATUS_INVALID, "column %zu: more than %d parts, expected fewer",
                         column(p), GATE_NODES_MAX);
    *index = p->gate->n;
    p->gate->nodes[p->gate->n++] = node;
    return STATUS_OK;
}

static enum status unknown_name(const struct parser *p, size_t length)
{
    const char *nearest = NULL;
    char name[64];
    size_t n = length < sizeof(name) ? length : sizeof(name) - 1;
    size_t best = n < 6 ? n / 2 + 1 : 4; /* of three letters one may be wrong, not three */

    memcpy(name, p->at, n);
    name[n] = '\0';
    for (size_t i = 0; p->names[i]; i++) {
        size_t d = text_distance(name, p->names[i]);

        if (d < best) {
            best = d;
            nearest = p->names[i];
        }
    }
    if (nearest)
        return error_set(p->err, STATUS_INVALID,
                         "column %zu: unknown measure '%s' (did you mean '%s'?)", column(p), name,
                         nearest);
    return error_set(p->err, STATUS_INVALID,
                     "column %zu: unknown measure '%s' (saerl audit --help lists them)", column(p),
                     name);
}

static enum status parse_measure(struct parser *p, const char **measure)
{
    size_t n = strspn(p->at, letters);

    if (n == 0 || strchr("0123456789", p->at[0]))
        return expected(p, "a measure, 'not' or '('");
    for (size_t i = 0; p->names[i]; i++) {
        if (strlen(p->names[i]) != n || memcmp(p->names[i], p->at, n) != 0)
            continue;
        *measure = p->names[i];
        p->at += n;
        skip_spaces(p);
        return STATUS_OK;
    }
    return unknown_name(p, n);
}

static enum status parse_operator(struct parser *p, enum gate_operator *op)
{
    size_t best = 0;

    for (size_t i = 0; i < sizeof(operators) / sizeof(*operators); i++) {
        size_t n = strlen(operators[i]);

        if (n > best && strncmp(p->at, operators[i], n) == 0) {
            best = n;
            *op = (enum gate_operator)i;
        }
    }
    if (best == 0)
        return expected(p, "one of > >= < <= == !=");
    p->at += best;
    skip_spaces(p);
    return STATUS_OK;
}

/* Decimal only: strtod() knows more than a condition should. */
static enum status parse_number(struct parser *p, struct gate_node *node)
{
    size_t n = strspn(p->at, "0123456789.eE+-");
    char *end;

    node->number = strtod(p->at, &end);
    if (end == p->at || (size_t)(end - p->at) > n || !isfinite(node->number))
        return expected(p, "a number");
    p->at = end;
    if (*p->at == '\0' || !strchr(letters, *p->at)) {
        skip_spaces(p);
        node->percent = *p->at == '%';
        p->at += node->percent;
        skip_spaces(p);
        return STATUS_OK;
    }
    return expected(p, "'%', 'and', 'or' or the end");
}

static enum status parse_comparison(struct parser *p, size_t *index)
{
    struct gate_node node = {.kind = GATE_COMPARISON};
    enum status st = parse_measure(p, &node.measure);

    if (!st)
        st = parse_operator(p, &node.op);
    if (!st)
        st = parse_number(p, &node);
    return st ? st : add(p, node, index);
}

static enum status parse_expression(struct parser *p, unsigned depth, size_t *index);

static enum status parse_factor(struct parser *p, unsigned depth, size_t *index)
{
    struct gate_node node = {.kind = GATE_NOT};
    enum status st;

    if (depth == GATE_DEPTH_MAX)
        return error_set(p->err, STATUS_INVALID, "column %zu: more than %d levels, expected fewer",
                         column(p), GATE_DEPTH_MAX);
    if (take_word(p, "not")) {
        st = parse_factor(p, depth + 1, &node.left);
        return st ? st : add(p, node, index);
    }
    if (*p->at != '(')
        return parse_comparison(p, index);
    p->at++;
    skip_spaces(p);
    st = parse_expression(p, depth + 1, index);
    if (st)
        return st;
    if (*p->at != ')')
        return expected(p, "'and', 'or' or ')'");
    p->at++;
    skip_spaces(p);
    return STATUS_OK;
}

static enum status parse_conjunction(struct parser *p, unsigned depth, size_t *index)
{
    enum status st = parse_factor(p, depth, index);

    while (!st && take_word(p, "and")) {
        struct gate_node node = {.kind = GATE_AND, .left = *index};

        st = parse_factor(p, depth, &node.right);
        if (!st)
            st = add(p, node, index);
    }
    return st;
}

static enum status parse_expression(struct parser *p, unsigned depth, size_t *index)
{
    enum status st = parse_conjunction(p, depth, index);

    while (!st && take_word(p, "or")) {
        struct gate_node node = {.kind = GATE_OR, .left = *index};

        st = parse_conjunction(p, depth, &node.right);
        if (!st)
            st = add(p, node, index);
    }
    return st;
}

enum status gate_parse(struct gate *gate, const char *expression, const char *const *names,
                       struct error *err)
{
    struct parser p = {
        .gate = gate, .expression = expression, .at = expression, .names = names, .err = err};
    enum status st;

    *gate = (struct gate){0};
    skip_spaces(&p);
    st = parse_expression(&p, 0, &gate->root);
    if (!st && *p.at)
        st = expected(&p, "'and', 'or' or the end");
    if (st)
        *gate = (struct gate){0};
    return st;
}

/* What a comparison is about: a measure of a report. */
struct found {
    double value, of; /* NaN: not known; no such number */
};

static struct found find_measure(const struct json *measures, const char *name)
{
    const struct json *measure = json_member(measures, name);

    return (struct found){json_double(json_member(measure, "value")),
                          json_double(json_member(measure, "of"))};
}

static bool compare(double a, enum gate_operator op, double b)
{
    switch (op) {
    case GATE_ABOVE:
        return a > b;
    case GATE_AT_LEAST:
        return a >= b;
    case GATE_BELOW:
        return a < b;
    case GATE_AT_MOST:
        return a <= b;
    case GATE_EQUAL:
        return a == b;
    default:
        return a != b;
    }
}

/* Both sides of a percentage are multiplied out: 1 % of 300 is 3, with no rounding in between. */
static bool holds(const struct gate_node *node, const struct json *measures)
{
    struct found found = find_measure(measures, node->measure);
    double of = found.of > 0 ? found.of : 1;

    if (node->percent)
        return compare(100 * found.value, node->op, node->number * of);
    return compare(found.value, node->op, node->number);
}

static bool evaluate(const struct gate *gate, size_t index, const struct json *measures)
{
    const struct gate_node *node = &gate->nodes[index];

    switch (node->kind) {
    case GATE_NOT:
        return !evaluate(gate, node->left, measures);
    case GATE_AND:
        return evaluate(gate, node->left, measures) && evaluate(gate, node->right, measures);
    case GATE_OR:
        return evaluate(gate, node->left, measures) || evaluate(gate, node->right, measures);
    default:
        return holds(node, measures);
    }
}

static void append_comparison(struct text *out, const struct gate_node *node, bool so,
                              const struct json *measures)
{
    struct found found = find_measure(measures, node->measure);

    text_appendf(out, "%s%s %s ", so ? "" : "not ", node->measure, operators[node->op]);
    text_append_double(out, node->number);
    text_append(out, node->percent ? "%: " : ": ");
    words_append_number(out, found.value);
    if (found.of > 0) {
        text_append(out, " of ");
        words_append_number(out, found.of);
        text_append(out, " (");
        words_append_percent(out, found.value, found.of);
        text_append_char(out, ')');
    }
    text_append_char(out, '\n');
}

/* The comparisons that make part `index` of the expression what it is wanted to be. */
static void append_reasons(struct text *out, const struct gate *gate, size_t index, bool wanted,
                           const struct json *measures)
{
    const struct gate_node *node = &gate->nodes[index];

    switch (node->kind) {
    case GATE_NOT:
        append_reasons(out, gate, node->left, !wanted, measures);
        return;
    case GATE_AND:
    case GATE_OR:
        if (evaluate(gate, node->left, measures) == wanted)
            append_reasons(out, gate, node->left, wanted, measures);
        if (evaluate(gate, node->right, measures) == wanted)
            append_reasons(out, gate, node->right, wanted, measures);
        return;
    default:
        append_comparison(out, node, wanted, measures);
    }
}

enum status gate_evaluate(const struct gate *gate, const struct json *measures, bool *hit,
                          struct text *lines, struct error *err)
{
    *hit = false;
    for (size_t i = 0; i < gate->n; i++) {
        const struct gate_node *node = &gate->nodes[i];

        if (node->kind == GATE_COMPARISON && isnan(find_measure(measures, node->measure).value))
            return error_set(err, STATUS_FAILED,
                             "measure '%s' is not known of this data set: the report says why",
                             node->measure);
    }
    *hit = evaluate(gate, gate->root, measures);
    if (*hit)
        append_reasons(lines, gate, gate->root, true, measures);
    return text_check(lines, err);
}
