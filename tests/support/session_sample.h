/*
 * tests/support/session_sample.h - models made by hand for a session to serve: of a small data set,
 * and of none, for what is SUBMITted. Without cmocka: fuzz targets use it too.
 *
 * The functions end the program on failure.
 */
#ifndef TESTS_SUPPORT_SESSION_SAMPLE_H
#define TESTS_SUPPORT_SESSION_SAMPLE_H

#include "curator/ledger.h"
#include "curator/session.h"

enum {
    SESSION_SAMPLE_ROWS = 40, /* of the data set; every tenth is dropped */
    SESSION_SAMPLE_KEPT = 36,
    SESSION_SAMPLE_LATENTS = 16,
};

/* Rows kept in descending order, hard to easy; two clusters. */
void session_sample_dataset(struct model *model);
/* Only as wide as the vectors. */
void session_sample_pool(struct model *model);
void session_sample_release(struct model *model);

/* Defaults, plan order as it comes. Released by recipe_release. */
void session_sample_recipe(struct recipe *recipe);
void session_sample_set(struct recipe *recipe, const char *key, const char *value);

/* The data set's features where the session looks for them, for online.target. Makes `state`. */
void session_sample_features(const char *state);

/* A vector that is a function of `seed`; `indices` and `values` have room for LATENTS. */
struct ledger_content session_sample_vector(uint64_t seed, uint32_t *indices, float *values);

#endif
