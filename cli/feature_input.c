#include "cli/feature_input.h"

#include "base/mem.h"

enum status feature_input_open(struct feature_input *input, const char *path, struct error *err)
{
    enum status st;

    *input = (struct feature_input){0};
    st = features_read(&input->features, path, err);
    if (st)
        return st;
    input->has_vector = mem_alloc(input->features.rows, 1);
    if (!input->has_vector) {
        feature_input_release(input);
        return error_nomem(err);
    }
    for (size_t row = 0; row < input->features.rows; row++)
        input->has_vector[row] = features_has_vector(&input->features, row);
    return STATUS_OK;
}

void feature_input_release(struct feature_input *input)
{
    features_release(&input->features);
    mem_free(input->has_vector);
    *input = (struct feature_input){0};
}
