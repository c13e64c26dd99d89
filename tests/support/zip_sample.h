/*
 * tests/support/zip_sample.h - zip files, npy arrays and pickles of torch.save, written by hand.
 */
#ifndef TESTS_SUPPORT_ZIP_SAMPLE_H
#define TESTS_SUPPORT_ZIP_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

/* Stored as it is, unless `method` and `stored` say otherwise. */
struct zip_item {
    const char *name;
    const void *bytes;
    size_t n;
    uint16_t method; /* 8: deflate, of which `stored` is the data */
    const void *stored;
    size_t n_stored;
};

/* As PyTorch writes it: sizes follow the data, those in the local headers are 0. */
void zip_append(struct text *file, const struct zip_item *items, size_t n);

/* The same with every size in zip64 fields. */
void zip64_append(struct text *file, const struct zip_item *items, size_t n);

/* n <= 65535 bytes as one uncompressed block of deflate data. */
void deflate_append(struct text *data, const void *bytes, size_t n);

/* A .npy array of one dimension, or of two in Fortran order if `columns` > 0. */
void npy_append(struct text *file, const char *descr, size_t rows, size_t columns, const void *data,
                size_t n);

/* Pickle opcodes: a string, an integer, a tensor. A pickle begins with "\x80\2", ends with '.'. */
void pickle_string(struct text *pickle, const char *string);
void pickle_integer(struct text *pickle, int64_t integer);

struct pickle_view {
    const char *storage_class; /* "FloatStorage" */
    const char *key;
    int64_t n_elements;
    int64_t offset;
    size_t rank;
    int64_t dims[9];
    int64_t strides[9];
};

void pickle_tensor(struct text *pickle, const struct pickle_view *view);

#endif
