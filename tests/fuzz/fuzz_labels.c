/*
 * The first byte says what follows: 0, a file; 1, latents and the offsets and text of a table, so
 * that the fuzzer gets past the container; 2, rows of a Neuronpedia export. Rows that are accepted
 * make a table in which each label is found.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "formats/label_layouts.h"
#include "formats/label_table.h"
#include "tests/support/fuzz.h"

static const char *make_table(const uint8_t *data, size_t size)
{
    size_t offsets = ((size_t)data[0] + 1) * 8, text;
    struct text file = {0};
    const char *path;
    uint64_t length;

    data++;
    size--;
    text = size > offsets ? size - offsets : 0;
    text_append_n(&file, "\0\0\0\0\0\0\0\0", sizeof(length));
    text_appendf(&file,
                 "{\"__metadata__\":{\"format\":\"saerl.labels\",\"version\":\"1\"},"
                 "\"offsets\":{\"dtype\":\"I64\",\"shape\":[%zu],\"data_offsets\":[0,%zu]},"
                 "\"text\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}}",
                 offsets / 8, offsets, text, offsets, offsets + text);
    length = file.length - sizeof(length);
    memcpy(file.data, &length, sizeof(length));
    text_append_n(&file, (const char *)data, size);
    for (size_t i = size; i < offsets; i++)
        text_append_char(&file, '\0');
    path = fuzz_file(file.data, file.length);
    text_release(&file);
    return path;
}

static void look_at_table(const char *path)
{
    struct label_counts counts;
    struct label_table table;
    struct text label = {0};
    struct error err;

    if (label_table_open(&table, path, &err))
        return;
    for (size_t latent = 0; latent < table.n_latents && latent < 1000; latent++) {
        text_clear(&label);
        if (!label_table_find(&table, latent, &label, &err))
            FUZZ_CHECK(text_utf8_valid(text_string(&label), label.length) == label.length);
    }
    if (!label_table_count(&table, &counts, &err))
        FUZZ_CHECK(counts.latents <= counts.labels && counts.latents <= table.n_latents);
    text_release(&label);
    label_table_close(&table);
}

static void look_at_rows(const char *rows)
{
    struct label_list list = {.d_sae = 1000};
    char path[] = "/tmp/saerl-fuzz-XXXXXX";
    struct label_counts counts, again;
    struct label_table table;
    struct error err;

    if (!neuronpedia_read_file(&list, rows, &err)) {
        int fd = mkstemp(path);

        FUZZ_CHECK(fd >= 0);
        close(fd);
        FUZZ_CHECK(!label_table_write(&list, path, &counts, &err));
        FUZZ_CHECK(!label_table_open(&table, path, &err));
        FUZZ_CHECK(!label_table_count(&table, &again, &err));
        FUZZ_CHECK(counts.labels == list.n && !memcmp(&counts, &again, sizeof(counts)));
        label_table_close(&table);
        unlink(path);
    }
    label_list_release(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || data[0] > 2)
        return 0;
    if (data[0] == 2)
        look_at_rows(fuzz_file(data + 1, size - 1));
    else
        look_at_table(data[0] == 0 ? fuzz_file(data + 1, size - 1)
                                   : make_table(data + 1, size - 1));
    return 0;
}
