/*
 * Argument 1: the folder tests/golden/pooling. See its README.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "sae/encode.h"
#include "sae/sae_load.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/npy_file.h"

enum {
    N = 5
};

static const char *root;

static const char *path_of(const char *name)
{
    static char path[1024];

    snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

/* Nothing expected was made for binary: it is where max is not zero. */
static struct npy_file read_expected(enum pooling pooling, const char *suffix)
{
    const char *name = pooling == POOLING_BINARY ? "max" : pooling_names[pooling];
    struct npy_file file;
    char path[64];

    snprintf(path, sizeof(path), "%s%s.npy", name, suffix);
    file = npy_file_read(path_of(path));
    for (size_t i = 0; pooling == POOLING_BINARY && i < file.rows * file.cols; i++)
        file.values[i] = file.values[i] != 0;
    return file;
}

static void check_codes(const struct csr *codes, const struct npy_file *expected)
{
    assert_int_equal(codes->rows, expected->rows);
    assert_int_equal(codes->cols, expected->cols);
    for (size_t i = 0; i < expected->rows; i++) {
        struct sparse_row row = csr_view_row(csr_as_view(codes), i);
        size_t e = 0;

        for (size_t j = 0; j < expected->cols; j++) {
            double want = expected->values[i * expected->cols + j];
            bool fires = e < row.n && row.indices[e] == j;
            double found = fires ? (double)row.values[e++] : 0;

            if (fires != (want != 0) || !(fabs(found - want) <= 1e-5 + 1e-4 * fabs(want)))
                fail_msg("sample %zu, latent %zu: %.9g, expected %.9g", i, j, found, want);
        }
    }
}

static void pooled_codes_are_those_of_the_fixture(void **state)
{
    const uint32_t used[2][N] = {{1, 3, 9, 13, 0}, {1, 3, 8, 12, 0}};
    const char *const suffix[2] = {"", "_nosink"};
    struct activations *activations;
    struct kernels kernels;
    char path[1024];
    const char *file = path;
    struct sae sae;

    (void)state;
    kernels_init(&kernels, cpu_detect());
    snprintf(path, sizeof(path), "%s", path_of("activations.safetensors"));
    assert_int_equal(activations_open(&activations, &file, 1, ACTIVATIONS_NO_LAYER, NULL),
                     STATUS_OK);
    assert_int_equal(sae_load(&sae, root, NULL, SAE_READ_ENCODER, NULL), STATUS_OK);
    for (int sinks = 0; sinks < 2; sinks++) {
        for (int pooling = 0; pooling < POOLING_COUNT_OF; pooling++) {
            struct encode_config config = {.pooling = (enum pooling)pooling,
                                           .sink_norm = sinks ? 10 : 0};
            struct npy_file expected = read_expected(config.pooling, suffix[sinks]);
            struct encode_result result;

            assert_int_equal(
                encode_run(&result, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
                STATUS_OK);
            check_codes(&result.codes, &expected);
            assert_memory_equal(result.tokens_used, used[sinks], sizeof(used[sinks]));
            for (size_t i = 0; i < N; i++)
                assert_int_equal(result.outcome[i], i == 4 ? ENCODE_NO_TOKENS : ENCODE_OK);
            assert_int_equal(result.tokens_sink, sinks ? 2 : 0);
            assert_int_equal(result.tokens_masked, 3);
            encode_result_release(&result);
            free(expected.values);
        }
    }
    sae_release(&sae);
    activations_close(activations);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pooled_codes_are_those_of_the_fixture),
    };

    if (argc != 2)
        return 2;
    root = argv[1];
    blas_init();
    return cmocka_run_group_tests_name("golden/pooling", tests, NULL, NULL);
}
