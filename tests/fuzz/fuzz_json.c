/* What is accepted can be printed, and the print is accepted and prints the same. */
#include <string.h>

#include "base/text.h"
#include "formats/json.h"
#include "tests/support/fuzz.h"

static void walk(const struct json *node)
{
    uint64_t u;
    int64_t i;

    (void)json_double(node);
    (void)json_u64(node, &u);
    (void)json_i64(node, &i);
    for (size_t e = 0; e < json_length(node); e++)
        walk(json_element(node, e));
    for (struct json_iterator it = json_iterate(node); json_next(&it);) {
        FUZZ_CHECK(strlen(it.key) == it.key_length);
        FUZZ_CHECK(json_member(node, it.key) == it.value);
        walk(it.value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct json_options lenient = {
        .depth_max = 8, .allow_nan = true, .allow_duplicates = true};
    struct text first = {0}, second = {0};
    struct json *root;
    struct error err;

    if (!json_parse(&root, (const char *)data, size, &lenient, &err)) {
        walk(root);
        json_free(root);
    }
    if (!json_parse(&root, (const char *)data, size, NULL, &err)) {
        walk(root);
        json_print(root, &first);
        json_free(root);
        FUZZ_CHECK(!json_parse(&root, text_string(&first), first.length, NULL, &err));
        json_print(root, &second);
        json_free(root);
        FUZZ_CHECK(!strcmp(text_string(&first), text_string(&second)));
    }
    text_release(&first);
    text_release(&second);
    return 0;
}
