#include "tests/support/npy_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cmocka_headers.h"

struct npy_file npy_file_read(const char *path)
{
    struct npy_file array = {.rows = 0, .cols = 1};
    FILE *file = fopen(path, "rb");
    unsigned char start[10];
    char header[1024], *at;
    size_t length, size;

    if (!file)
        fail_msg("%s cannot be opened", path);
    assert_int_equal(fread(start, 1, sizeof(start), file), sizeof(start));
    length = (size_t)start[8] | (size_t)start[9] << 8;
    assert_true(length < sizeof(header));
    assert_int_equal(fread(header, 1, length, file), length);
    header[length] = '\0';
    size = strstr(header, "'<f8'") ? 8 : 4;
    at = strstr(header, "'shape': (");
    assert_non_null(at);
    at += strlen("'shape': (");
    array.rows = strtoul(at, &at, 10);
    while (*at == ',' && at[1] == ' ') {
        at += 2;
        array.cols *= strtoul(at, &at, 10);
    }
    array.values = calloc(array.rows * array.cols, sizeof(double));
    assert_non_null(array.values);
    for (size_t i = 0; i < array.rows * array.cols; i++) {
        unsigned char bytes[8];
        float single;

        assert_int_equal(fread(bytes, 1, size, file), size);
        if (size == 8) {
            memcpy(&array.values[i], bytes, sizeof(double));
        } else {
            memcpy(&single, bytes, sizeof(single));
            array.values[i] = (double)single;
        }
    }
    fclose(file);
    return array;
}
