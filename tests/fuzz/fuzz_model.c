/*
 * Bytes of a model file. Any tensors and metadata are sealed first, so that what lies behind the
 * seal is reached; what is accepted can be saved, and reads back the same.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "curator/batch_plan.h"
#include "curator/model_file.h"
#include "tests/support/fuzz.h"

#define FILE_BYTES_MAX ((uint64_t)1 << 20)

/* The file with the seal that it should have; false if it is no container at all. */
static int seal(const char *from, const char *to)
{
    struct safetensors file;
    struct safetensors_metadata *metadata;
    struct safetensors_item *items;
    struct hash128 hash;
    char content[HASH128_HEX_SIZE], key[] = "content";
    size_t n = 0;

    if (safetensors_open(&file, from, NULL))
        return 0;
    if (file.file_bytes > FILE_BYTES_MAX) {
        safetensors_close(&file);
        return 0;
    }
    FUZZ_CHECK(!model_file_hash(&hash, &file, NULL));
    hash128_hex(hash, content);
    items = calloc(file.n_tensors + 1, sizeof(*items));
    metadata = calloc(file.n_metadata + 1, sizeof(*metadata));
    FUZZ_CHECK(items && metadata);
    for (size_t i = 0; i < file.n_metadata; i++)
        if (strcmp(file.metadata[i].key, key) != 0)
            metadata[n++] = file.metadata[i];
    metadata[n++] = (struct safetensors_metadata){key, content};
    for (size_t i = 0; i < file.n_tensors; i++) {
        const struct safetensors_tensor *t = &file.tensors[i];
        void *data = malloc((size_t)t->bytes + 1);

        FUZZ_CHECK(data && !safetensors_read(&file, t, 0, (size_t)t->count, data, NULL));
        items[i] = (struct safetensors_item){t->name, t->dtype, t->shape, data};
    }
    FUZZ_CHECK(!safetensors_write(to, items, file.n_tensors, metadata, n, NULL));
    for (size_t i = 0; i < file.n_tensors; i++)
        free((void *)(uintptr_t)items[i].data);
    free(items);
    free(metadata);
    safetensors_close(&file);
    return 1;
}

static void check_rows(const struct model *model)
{
    FUZZ_CHECK(model->n_order > 0 && model->n_order <= model->rows);
    for (size_t i = 0; i < model->n_order; i++)
        FUZZ_CHECK(model->order[i] < model->rows && model->kept[model->order[i]] == 1);
    for (size_t row = 0; row < model->rows; row++) {
        FUZZ_CHECK(strlen(model->ids[row]) > 0);
        FUZZ_CHECK(model->cluster_of[row] < model->k || model->cluster_of[row] == PLAN_NO_CLUSTER);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char sealed[] = "/tmp/saerl-fuzz-XXXXXX", saved[] = "/tmp/saerl-fuzz-XXXXXX";
    const char *path = fuzz_file(data, size);
    struct model model, back;
    int fds[2] = {mkstemp(sealed), mkstemp(saved)};

    FUZZ_CHECK(fds[0] >= 0 && fds[1] >= 0);
    close(fds[0]);
    close(fds[1]);
    if (!model_load(&model, path, NULL)) {
        check_rows(&model);
        model_release(&model);
    }
    if (seal(path, sealed) && !model_load(&model, sealed, NULL)) {
        check_rows(&model);
        FUZZ_CHECK(!model_save(&model, saved, NULL));
        FUZZ_CHECK(!model_load(&back, saved, NULL));
        FUZZ_CHECK(back.rows == model.rows && back.k == model.k);
        FUZZ_CHECK(!memcmp(back.order, model.order, model.n_order * sizeof(*model.order)));
        FUZZ_CHECK(hash128_equal(back.fingerprint, model.fingerprint));
        model_release(&back);
        model_release(&model);
    }
    unlink(sealed);
    unlink(saved);
    return 0;
}
