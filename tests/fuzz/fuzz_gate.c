/*
 * Expressions of --fail-on. What is accepted can be evaluated, and `not (x)` is the opposite of x.
 */
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/json.h"
#include "report/gate.h"
#include "tests/support/fuzz.h"

static const char *const names[] = {"rows", "duplicates", "l0", NULL};
static const char measures[] = "{\"rows\":{\"value\":300,\"of\":null},"
                               "\"duplicates\":{\"value\":3,\"of\":300},"
                               "\"l0\":{\"value\":16.5,\"of\":null}}";

static bool evaluate(const struct gate *gate, const struct json *root)
{
    struct text lines = {0};
    bool hit;

    FUZZ_CHECK(gate_evaluate(gate, root, &hit, &lines, NULL) == STATUS_OK);
    FUZZ_CHECK(hit == (lines.length > 0));
    text_release(&lines);
    return hit;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *expression = mem_strndup((const char *)data, size < 2000 ? size : 2000);
    char *opposite = expression ? text_format("not (%s)", expression) : NULL;
    struct json *root = NULL;
    struct error err = {0};
    struct gate gate, other;

    FUZZ_CHECK(opposite != NULL);
    FUZZ_CHECK(json_parse(&root, measures, strlen(measures), NULL, NULL) == STATUS_OK);
    if (gate_parse(&gate, expression, names, &err) != STATUS_OK)
        FUZZ_CHECK(err.message[0] && !strchr(err.message, '\n') && gate.n == 0);
    else if (gate_parse(&other, opposite, names, NULL) == STATUS_OK) /* not too long, too deep */
        FUZZ_CHECK(evaluate(&gate, root) != evaluate(&other, root));
    json_free(root);
    mem_free(opposite);
    mem_free(expression);
    return 0;
}
