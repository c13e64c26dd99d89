#include "tests/support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/atomic_file.h"
#include "tests/support/cmocka_headers.h"

static char directory[] = "/tmp/saerl-test-XXXXXX";

int scratch_setup(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

int scratch_teardown(void **state)
{
    (void)state;
    return directory_remove(directory, NULL) ? -1 : 0;
}

const char *scratch_path(const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

const char *scratch_file(const char *name, const void *bytes, size_t n)
{
    const char *path = scratch_path(name);
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(n ? fwrite(bytes, 1, n, file) : 0, n);
    assert_int_equal(fclose(file), 0);
    return path;
}

char *scratch_read(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    size_t size = 0;
    char *bytes;

    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, size, file), size);
    bytes[size] = '\0';
    fclose(file);
    if (n)
        *n = size;
    return bytes;
}
