#include "sae/densest.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/safetensors.h"

#define TENSOR "sparsity"

void densest_offer(struct densest *densest, uint32_t latent, double frequency)
{
    size_t at = densest->n;

    while (at > 0 && densest->frequency[at - 1] < frequency)
        at--;
    if (at == DENSEST_MAX)
        return;
    if (densest->n < DENSEST_MAX)
        densest->n++;
    for (size_t i = densest->n - 1; i > at; i--) {
        densest->latent[i] = densest->latent[i - 1];
        densest->frequency[i] = densest->frequency[i - 1];
    }
    densest->latent[at] = latent;
    densest->frequency[at] = frequency;
}

static enum status read_logs(struct densest *densest, const struct safetensors *file, size_t d_sae,
                             struct error *err)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, TENSOR);
    char shape[SHAPE_TEXT_MAX];
    float logs[4096];

    if (!tensor)
        return error_set(err, STATUS_FORMAT, "no tensor '" TENSOR "'");
    if (tensor->shape.rank != 1 || tensor->count != d_sae)
        return error_set(err, STATUS_FORMAT, "tensor '" TENSOR "': shape %s, expected [%zu]",
                         shape_text(&tensor->shape, shape), d_sae);
    for (size_t first = 0; first < d_sae; first += sizeof(logs) / sizeof(*logs)) {
        size_t left = d_sae - first, most = sizeof(logs) / sizeof(*logs);
        size_t n = left < most ? left : most;
        enum status st = safetensors_read_f32(file, tensor, first, n, logs, err);

        if (st)
            return st;
        for (size_t i = 0; i < n; i++) {
            if (!(logs[i] <= 0))
                return error_set(err, STATUS_FORMAT,
                                 "tensor '" TENSOR "': latent %zu has %g, expected the log10 of a "
                                 "frequency",
                                 first + i, (double)logs[i]);
            densest_offer(densest, (uint32_t)(first + i), pow(10, (double)logs[i]));
        }
    }
    return STATUS_OK;
}

enum status densest_read(struct densest *densest, bool *found, const struct sae *sae,
                         struct error *err)
{
    const char *slash = sae->path ? strrchr(sae->path, '/') : NULL;
    int folder = slash ? (int)(slash - sae->path + 1) : 0;
    char *path = text_format("%.*s" DENSEST_FILE, folder, sae->path ? sae->path : "");
    struct safetensors file = {0};
    enum status st = STATUS_OK;

    *densest = (struct densest){0};
    *found = false;
    if (!path)
        return error_nomem(err);
    if (access(path, F_OK) == 0) {
        st = safetensors_open(&file, path, err);
        if (!st) {
            st = read_logs(densest, &file, sae->d_sae, err);
            if (st)
                error_wrap(err, st, "'%s'", path);
        }
        *found = !st;
    }
    if (st)
        *densest = (struct densest){0};
    safetensors_close(&file);
    mem_free(path);
    return st;
}
