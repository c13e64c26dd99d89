/*
 * cli/feature_input.h - a feature store opened for a verb.
 */
#ifndef CLI_FEATURE_INPUT_H
#define CLI_FEATURE_INPUT_H

#include "base/error.h"
#include "formats/features.h"

struct feature_input {
    struct features features;
    unsigned char *has_vector; /* [rows] */
};

MUST_CHECK
enum status feature_input_open(struct feature_input *input, const char *path, struct error *err);
void feature_input_release(struct feature_input *input);

#endif
