#include "tests/support/sae_folder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/text.h"
#include "formats/safetensors.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"
#include "tests/support/zip_sample.h"

const struct folder_numbers folder_numbers = {
    .w_enc = {{1, -2, 3, 0, 2, -1, 1, 4},
              {0, 1, -1, 2, 3, -3, 2, -2},
              {2, 2, 0, -1, 1, 1, -4, 1},
              {-1, 3, 1, 1, 0, 2, 1, -1}},
    .b_enc = {1, -1, 0, 2, -2, 1, 0, -1},
    .w_dec = {{3, 0, -4, 0},
              {0, 6, 0, 8},
              {0, 0, 5, 0},
              {10, 0, 0, 0},
              {0, 3, 4, 0},
              {-6, 0, 0, 8},
              {0, -5, 0, 0},
              {0, 0, -10, 0}},
    .b_dec = {1, 0, -2, 1},
    .threshold = {1, 2, 3, 0.5F, -1, 4, 2.5F, 0},
    .log_threshold = {0, 1, 2, 3, 1.5F, 0.5F, 2.5F, -1},
};

const float folder_w_enc_t[FOLDER_D_SAE * FOLDER_D_IN] = {
    1, 0, 2, -1, -2, 1,  2, 3, 3, -1, 0,  1, 0, 2,  -1, 1,
    2, 3, 1, 0,  -1, -3, 1, 2, 1, 2,  -4, 1, 4, -2, 1,  -1,
};

const float folder_w_dec_t[FOLDER_D_IN * FOLDER_D_SAE] = {
    3,  0, 0, 10, 0, -6, 0, 0,   0, 6, 0, 0, 3, 0, -5, 0,
    -4, 0, 5, 0,  4, 0,  0, -10, 0, 8, 0, 0, 0, 8, 0,  0,
};

void folder_add(struct folder_weights *weights, struct folder_item item)
{
    assert_true(weights->n < FOLDER_ITEMS_MAX);
    weights->items[weights->n++] = item;
}

void folder_vector(struct folder_weights *weights, const char *name, size_t n, const float *values)
{
    folder_add(weights,
               (struct folder_item){.name = name, .values = values, .rank = 1, .dims = {n}});
}

void folder_matrix(struct folder_weights *weights, const char *name, size_t rows, size_t cols,
                   const float *values)
{
    folder_add(weights, (struct folder_item){
                            .name = name, .values = values, .rank = 2, .dims = {rows, cols}});
}

void folder_remove(struct folder_weights *weights, const char *name)
{
    for (size_t i = 0; i < weights->n; i++) {
        if (strcmp(weights->items[i].name, name) == 0) {
            weights->items[i] = weights->items[--weights->n];
            return;
        }
    }
    fail_msg("no item '%s'", name);
}

static bool is_tensor(const struct folder_item *item)
{
    return item->values || item->integers;
}

static size_t count(const struct folder_item *item)
{
    size_t n = 1;

    for (size_t i = 0; i < item->rank; i++)
        n *= item->dims[i];
    return n;
}

static size_t bytes_of(const struct folder_item *item)
{
    return count(item) * (item->integers ? sizeof(*item->integers) : sizeof(*item->values));
}

static const void *data_of(const struct folder_item *item)
{
    return item->integers ? (const void *)item->integers : item->values;
}

static void make_folders(const char *path)
{
    char part[256];

    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
        mkdir(scratch_path(part), 0755); /* it may be there */
    }
}

static void write_safetensors(const struct folder_weights *weights, const char *path)
{
    struct safetensors_item items[FOLDER_ITEMS_MAX];
    size_t n = 0;

    for (size_t i = 0; i < weights->n; i++) {
        const struct folder_item *item = &weights->items[i];
        struct shape shape = {.rank = item->rank};

        if (!is_tensor(item))
            continue;
        for (size_t axis = 0; axis < item->rank; axis++)
            shape.dims[axis] = item->dims[axis];
        items[n++] = (struct safetensors_item){item->name, item->integers ? DTYPE_I64 : DTYPE_F32,
                                               shape, data_of(item)};
    }
    assert_int_equal(safetensors_write(scratch_path(path), items, n, NULL, 0, NULL), STATUS_OK);
}

/* Matrices are stored in Fortran order. */
static void write_npz(const struct folder_weights *weights, const char *path)
{
    struct zip_item items[FOLDER_ITEMS_MAX];
    struct text arrays[FOLDER_ITEMS_MAX] = {0}, file = {0};
    char names[FOLDER_ITEMS_MAX][64];

    for (size_t i = 0; i < weights->n; i++) {
        const struct folder_item *item = &weights->items[i];
        size_t rows = item->dims[0], cols = item->rank == 2 ? item->dims[1] : 0;
        float columns[FOLDER_D_IN * FOLDER_D_SAE];

        assert_true(item->values && count(item) <= FOLDER_D_IN * FOLDER_D_SAE);
        for (size_t e = 0; e < count(item); e++)
            columns[cols ? e % cols * rows + e / cols : e] = item->values[e];
        npy_append(&arrays[i], "<f4", rows, cols, columns, bytes_of(item));
        snprintf(names[i], sizeof(names[i]), "%s.npy", item->name);
        items[i] = (struct zip_item){
            .name = names[i], .bytes = text_string(&arrays[i]), .n = arrays[i].length};
    }
    zip_append(&file, items, weights->n);
    scratch_file(path, text_string(&file), file.length);
    for (size_t i = 0; i < weights->n; i++)
        text_release(&arrays[i]);
    text_release(&file);
}

static void pickle_item(struct text *pickle, const struct folder_item *item, size_t i)
{
    char key[24];
    struct pickle_view view = {.storage_class = item->integers ? "LongStorage" : "FloatStorage",
                               .key = key,
                               .n_elements = (int64_t)count(item),
                               .rank = item->rank};
    int64_t stride = 1;

    snprintf(key, sizeof(key), "%zu", i);
    if (item->string) {
        pickle_string(pickle, item->string);
        return;
    }
    if (!is_tensor(item)) {
        uint64_t bits;

        memcpy(&bits, &item->number, sizeof(bits));
        text_append_char(pickle, 'G');
        for (int shift = 56; shift >= 0; shift -= 8)
            text_append_char(pickle, (char)(bits >> shift));
        return;
    }
    for (size_t axis = item->rank; axis-- > 0;) {
        view.dims[axis] = (int64_t)item->dims[axis];
        view.strides[axis] = stride;
        stride *= (int64_t)item->dims[axis];
    }
    pickle_tensor(pickle, &view);
}

/* The dict of what follows `prefix`; dicts in it where a name has a further '/'. */
static void pickle_dict(struct text *pickle, const struct folder_weights *weights,
                        const char *prefix)
{
    char done[256] = "";

    text_append(pickle, "}(");
    for (size_t i = 0; i < weights->n; i++) {
        const char *name = weights->items[i].name, *slash;
        char inner[128], marked[160];

        if (strncmp(name, prefix, strlen(prefix)) != 0)
            continue;
        name += strlen(prefix);
        slash = strchr(name, '/');
        if (!slash) {
            pickle_string(pickle, name);
            pickle_item(pickle, &weights->items[i], i);
            continue;
        }
        snprintf(inner, sizeof(inner), "%.*s", (int)(slash - name), name);
        snprintf(marked, sizeof(marked), "/%s/", inner);
        if (strstr(done, marked))
            continue;
        strncat(done, marked, sizeof(done) - strlen(done) - 1);
        pickle_string(pickle, inner);
        snprintf(marked, sizeof(marked), "%s%s/", prefix, inner);
        pickle_dict(pickle, weights, marked);
    }
    text_append_char(pickle, 'u');
}

static void write_torch(const struct folder_weights *weights, const char *path)
{
    struct zip_item items[FOLDER_ITEMS_MAX + 1];
    char names[FOLDER_ITEMS_MAX][32];
    struct text pickle = {0}, file = {0};
    size_t n = 0;

    text_append(&pickle, "\x80\x02");
    pickle_dict(&pickle, weights, "");
    text_append_char(&pickle, '.');
    items[n++] =
        (struct zip_item){.name = "x/data.pkl", .bytes = text_string(&pickle), .n = pickle.length};
    for (size_t i = 0; i < weights->n; i++) {
        if (!is_tensor(&weights->items[i]))
            continue;
        snprintf(names[i], sizeof(names[i]), "x/data/%zu", i);
        items[n++] = (struct zip_item){.name = names[i],
                                       .bytes = data_of(&weights->items[i]),
                                       .n = bytes_of(&weights->items[i])};
    }
    zip_append(&file, items, n);
    scratch_file(path, text_string(&file), file.length);
    text_release(&pickle);
    text_release(&file);
}

void folder_write_weights(const struct folder_weights *weights, const char *path)
{
    make_folders(path);
    if (text_ends_with(path, ".safetensors"))
        write_safetensors(weights, path);
    else if (text_ends_with(path, ".npz"))
        write_npz(weights, path);
    else
        write_torch(weights, path);
}

void folder_write_text(const char *path, const char *contents)
{
    make_folders(path);
    scratch_file(path, contents, strlen(contents));
}

const struct sae_overrides folder_no_overrides = {.threshold = NAN, .norm_factor = NAN};

void folder_load(struct sae *sae, const char *path, const struct sae_overrides *overrides)
{
    struct error err = {0};

    if (sae_load(sae, scratch_path(path), overrides, SAE_READ_ALL, &err))
        fail_msg("%s", err.message);
}

void folder_refuse(const char *path, const struct sae_overrides *overrides, enum status expected,
                   const char *words)
{
    struct sae sae;
    struct error err = {0};
    enum status st = sae_load(&sae, scratch_path(path), overrides, SAE_READ_ALL, &err);

    if (st != expected || !strstr(err.message, words))
        fail_msg("status %d: '%s'; expected status %d with '%s'", st, err.message, expected, words);
    assert_null(sae.w_enc.data);
    assert_null(sae.path);
}

void folder_fail_allocations(const char *path, const struct sae_overrides *overrides)
{
    enum status st = STATUS_NOMEM;

    for (size_t n = 0; st; n++) {
        struct sae sae;
        struct error err = {0};

        mem_fail_after(n);
        st = sae_load(&sae, scratch_path(path), overrides, SAE_READ_ALL, &err);
        if (st && st != STATUS_NOMEM)
            fail_msg("%zu allocations: status %d, '%s'", n, st, err.message);
        if (!st)
            assert_false(mem_failed());
        else
            assert_null(sae.path);
        sae_release(&sae);
        assert_true(n < 1000);
    }
    mem_fail_after(SIZE_MAX);
}

void folder_mangle(const char *path, const char *file, const struct sae_overrides *overrides)
{
    size_t n;
    char *original = scratch_read(scratch_path(file), &n);
    char *mangled = malloc(n);

    assert_non_null(mangled);
    for (uint64_t seed = 0; seed < 300; seed++) {
        size_t length = n;
        struct sae sae;
        struct rng rng;

        rng_init(&rng, seed, "test.mangle", 0);
        memcpy(mangled, original, n);
        for (uint64_t i = rng_below(&rng, 4); i < 4; i++)
            mangled[rng_below(&rng, n)] = rng_below(&rng, 2)
                                              ? (char)rng_below(&rng, 256)
                                              : "{}[]\",:0123456789-e.ntf"[rng_below(&rng, 22)];
        if (rng_below(&rng, 8) == 0)
            length = rng_below(&rng, n);
        scratch_file(file, mangled, length);
        if (sae_load(&sae, scratch_path(path), overrides, SAE_READ_ALL, NULL))
            assert_null(sae.w_enc.data);
        sae_release(&sae);
    }
    scratch_file(file, original, n);
    free(original);
    free(mangled);
}

static const float tokens[][FOLDER_D_IN] = {
    {1, 0, 0, 0}, {0, 1, -1, 2}, {2, -1, 3, 0.5F}, {-3, 1, 0.25F, 1}, {0, 0, 0, 0}, {8, -7, 6, 5},
};

/* Exact but for a scale that is no power of two. */
static void check_near(double found, double expected, const char *what, size_t t, size_t i)
{
    if (!(fabs(found - expected) <= 1e-5 * (1 + fabs(expected))))
        fail_msg("%s of token %zu at %zu: %.9g, expected %.9g", what, t, i, found, expected);
}

static void check_token(const struct sae *sae, size_t t, const struct csr *codes,
                        struct sae_workspace *ws, const struct folder_formula *formula)
{
    struct sparse_row row = csr_view_row(csr_as_view(codes), 0);
    double z[FOLDER_D_SAE], x_hat[FOLDER_D_IN], expected = 0, error;
    size_t e = 0;

    formula->encode(tokens[t], z);
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        bool fires = e < row.n && row.indices[e] == j;

        assert_int_equal(fires, z[j] != 0);
        check_near(fires ? (double)row.values[e++] : 0, z[j], "latent", t, j);
    }
    if (!formula->decode)
        return;
    formula->decode(z, x_hat);
    for (size_t i = 0; i < FOLDER_D_IN; i++)
        expected += ((double)tokens[t][i] - x_hat[i]) * ((double)tokens[t][i] - x_hat[i]);
    sae_reconstruction_errors(
        sae,
        (struct matrix_view){
            .data = tokens[t], .rows = 1, .cols = FOLDER_D_IN, .stride = FOLDER_D_IN},
        csr_as_view(codes), ws, &error);
    check_near(error, expected, "error", t, 0);
}

static void check_tokens(const struct sae *sae, const struct folder_formula *formula)
{
    struct sae_workspace *ws;
    struct kernels kernels;
    struct csr codes = {0};

    blas_init();
    kernels_init(&kernels, cpu_detect());
    assert_int_equal(sae->d_in, FOLDER_D_IN);
    assert_int_equal(sae->d_sae, FOLDER_D_SAE);
    assert_true(strlen(sae->detected) > 0);
    assert_int_equal(sae_workspace_new(&ws, sae, &kernels, NULL), STATUS_OK);
    for (size_t t = 0; t < sizeof(tokens) / sizeof(tokens[0]); t++) {
        struct matrix_view x = {
            .data = tokens[t], .rows = 1, .cols = FOLDER_D_IN, .stride = FOLDER_D_IN};

        assert_int_equal(sae_encode(sae, x, ws, &codes, NULL), STATUS_OK);
        check_token(sae, t, &codes, ws, formula);
    }
    sae_workspace_free(ws);
    csr_release(&codes);
}

void folder_check(const char *path, const struct sae_overrides *overrides,
                  const struct folder_formula *formula)
{
    struct sae sae;

    folder_load(&sae, path, overrides);
    assert_int_equal(sae.reconstructs, formula->decode != NULL);
    check_tokens(&sae, formula);
    sae_release(&sae);
}

void folder_check_latents(const char *path, const struct sae_overrides *overrides,
                          void (*encode)(const float *x, double *z))
{
    const struct folder_formula formula = {.encode = encode};
    struct sae sae;

    folder_load(&sae, path, overrides);
    check_tokens(&sae, &formula);
    sae_release(&sae);
}

double folder_pre_activation(const float *x, double scale, const float *subtract, size_t j)
{
    double a = (double)folder_numbers.b_enc[j];

    for (size_t i = 0; i < FOLDER_D_IN; i++)
        a += (scale * (double)x[i] - (subtract ? (double)subtract[i] : 0)) *
             (double)folder_numbers.w_enc[i][j];
    return a;
}

void folder_decode(const double *z, double scale, double *x_hat)
{
    for (size_t i = 0; i < FOLDER_D_IN; i++) {
        x_hat[i] = (double)folder_numbers.b_dec[i];
        for (size_t j = 0; j < FOLDER_D_SAE; j++)
            x_hat[i] += z[j] * (double)folder_numbers.w_dec[j][i];
        x_hat[i] /= scale;
    }
}

void folder_top_k(double *z, size_t k)
{
    bool kept[FOLDER_D_SAE] = {false};

    for (; k > 0; k--) {
        size_t best = FOLDER_D_SAE;

        for (size_t j = 0; j < FOLDER_D_SAE; j++)
            if (!kept[j] && z[j] > 0 && (best == FOLDER_D_SAE || z[j] > z[best]))
                best = j;
        if (best == FOLDER_D_SAE)
            break;
        kept[best] = true;
    }
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        if (!kept[j])
            z[j] = 0;
}
