/* Values of an accepted pickle refer to what is there, and strings to the input. */
#include <string.h>

#include "base/text.h"
#include "formats/pickle.h"
#include "tests/support/fuzz.h"

struct input {
    const char *bytes;
    size_t n;
};

static void check_string(const struct input *input, const struct pickle_string *string)
{
    FUZZ_CHECK(string->bytes >= input->bytes && string->n <= input->n);
    FUZZ_CHECK((size_t)(string->bytes - input->bytes) <= input->n - string->n);
    FUZZ_CHECK(!memchr(string->bytes, 0, string->n));
    FUZZ_CHECK(text_utf8_valid(string->bytes, string->n) == string->n);
}

static void check_items(const struct pickle *pickle, const struct pickle_items *items)
{
    FUZZ_CHECK(items->n <= items->capacity);
    for (size_t i = 0; i < items->n; i++)
        FUZZ_CHECK(items->ids[i] < pickle->n_values);
}

static void check_tensor(const struct input *input, const struct pickle_tensor *tensor)
{
    check_string(input, &tensor->storage.key);
    FUZZ_CHECK(tensor->storage.dtype < DTYPE_COUNT && dtype_size(tensor->storage.dtype) > 0);
    FUZZ_CHECK(tensor->shape.rank <= TENSOR_RANK_MAX);
    FUZZ_CHECK(tensor->offset <= INT64_MAX && tensor->storage.n_elements <= INT64_MAX);
}

static void check_value(const struct input *input, const struct pickle *pickle,
                        const struct pickle_value *value)
{
    switch (value->type) {
    case PICKLE_STRING:
        check_string(input, &value->string);
        break;
    case PICKLE_DICT:
        FUZZ_CHECK(value->items.n % 2 == 0);
        check_items(pickle, &value->items);
        break;
    case PICKLE_LIST:
    case PICKLE_TUPLE:
        check_items(pickle, &value->items);
        break;
    case PICKLE_STORAGE:
        check_string(input, &value->storage.key);
        break;
    case PICKLE_TENSOR:
        FUZZ_CHECK(value->tensor < pickle->n_tensors);
        break;
    case PICKLE_BOOL:
        FUZZ_CHECK(value->integer == 0 || value->integer == 1);
        break;
    default:
        break;
    }
    FUZZ_CHECK(pickle_type_name(value->type) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct input input = {.bytes = (const char *)data, .n = size};
    struct error err = {0};
    struct pickle pickle;

    if (pickle_parse(&pickle, data, size, &err)) {
        FUZZ_CHECK(err.message[0] && !strchr(err.message, '\n'));
        FUZZ_CHECK(!pickle.values && !pickle.tensors);
        return 0;
    }
    FUZZ_CHECK(pickle.root < pickle.n_values && pickle.n_values <= size);
    for (size_t i = 0; i < pickle.n_values; i++)
        check_value(&input, &pickle, &pickle.values[i]);
    for (size_t i = 0; i < pickle.n_tensors; i++)
        check_tensor(&input, &pickle.tensors[i]);
    pickle_release(&pickle);
    return 0;
}
