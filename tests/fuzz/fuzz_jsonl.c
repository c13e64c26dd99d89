/*
 * The first byte chooses the ending of the name, the rest is the file. Lines and line feeds of a
 * plain file add up to its size.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/jsonl.h"
#include "tests/support/fuzz.h"

/* A few bytes can stand for gigabytes: enough is seen after these. */
#define BYTES_MAX ((size_t)4 << 20)

static char folder[] = "/tmp/saerl-fuzz-XXXXXX";
static char path[64];

static void remove_folder(void)
{
    unlink(path);
    rmdir(folder);
}

/* The path of a file that is a link to the bytes, since only the name tells how to read them. */
static void make_link(const char *target, const char *ending)
{
    static int made;

    if (!made) {
        FUZZ_CHECK(mkdtemp(folder) != NULL);
        atexit(remove_folder);
        made = 1;
    }
    unlink(path);
    snprintf(path, sizeof(path), "%s/x%s", folder, ending);
    FUZZ_CHECK(!symlink(target, path));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const endings[] = {"", ".gz", ".zst", ".xz"};
    const char *paths[] = {path};
    struct jsonl_reader *reader;
    struct jsonl_line line;
    struct error err;
    size_t bytes = 0;
    uint64_t rows = 0;
    bool end = false;

    if (size == 0 || data[0] >= sizeof(endings) / sizeof(*endings))
        return 0;
    make_link(fuzz_file(data + 1, size - 1), endings[data[0]]);
    FUZZ_CHECK(!jsonl_open(&reader, paths, 1, &err));
    while (bytes < BYTES_MAX && !jsonl_next(reader, &line, &end, &err) && !end) {
        FUZZ_CHECK(line.row == rows && line.line == rows + 1);
        FUZZ_CHECK(line.too_long || !memchr(line.bytes, '\n', line.length));
        bytes += line.length + 1;
        rows++;
    }
    if (data[0] == 0 && size > 1) {
        FUZZ_CHECK(end);
        FUZZ_CHECK(bytes == size - 1 + (data[size - 1] != '\n'));
    }
    jsonl_close(reader);
    return 0;
}
