/*
 * tests/support/npy_file.h - expected arrays: '<f4' and '<f8' .npy files in C order, as double.
 *
 * Independent of formats/npy.h. The file is trusted; the functions end the test on failure.
 */
#ifndef TESTS_SUPPORT_NPY_FILE_H
#define TESTS_SUPPORT_NPY_FILE_H

#include <stddef.h>

struct npy_file {
    size_t rows, cols; /* cols: product of all dimensions but the first */
    double *values;    /* [rows, cols]; freed by free() */
};

struct npy_file npy_file_read(const char *path);

#endif
