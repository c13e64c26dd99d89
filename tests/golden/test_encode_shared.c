/*
 * Data sets that are too large to carry along: argument 1 is a folder with activations.safetensors
 * and sae/. Without it: skipped, exit status 77. What must hold whatever the numbers are.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "sae/encode.h"
#include "sae/sae_load.h"
#include "sae/sae_stats.h"
#include "tests/support/cmocka_headers.h"

static const char *root;
static char data_path[1024];

static void assert_same(const struct encode_result *a, const struct encode_result *b)
{
    size_t n = a->codes.rows;

    assert_int_equal(n, b->codes.rows);
    assert_memory_equal(a->codes.indptr, b->codes.indptr, (n + 1) * sizeof(int64_t));
    assert_memory_equal(a->codes.indices, b->codes.indices, csr_nnz(&a->codes) * sizeof(uint32_t));
    assert_memory_equal(a->codes.values, b->codes.values, csr_nnz(&a->codes) * sizeof(float));
    if (a->recon_mean)
        assert_memory_equal(a->recon_mean, b->recon_mean, n * sizeof(float));
}

static void shared_data_encode_alike_with_any_threads(void **state)
{
    const struct encode_config config = {
        .pooling = POOLING_MAX, .sink_norm = 10, .reconstruct = true};
    const char *file = data_path;
    struct activations *activations;
    struct encode_result results[2];
    struct sae_stats stats;
    struct text line = {0};
    struct kernels kernels;
    char path[1024];
    struct sae sae;

    (void)state;
    kernels_init(&kernels, cpu_detect());
    snprintf(path, sizeof(path), "%s/sae", root);
    assert_int_equal(sae_load(&sae, path, NULL, SAE_READ_ALL, NULL), STATUS_OK);
    assert_int_equal(activations_open(&activations, &file, 1, ACTIVATIONS_NO_LAYER, NULL),
                     STATUS_OK);
    for (unsigned i = 0; i < 2; i++) {
        struct encode_result *r = &results[i];
        struct workers *workers;

        assert_int_equal(workers_new(&workers, 1 + i, NULL, NULL), STATUS_OK);
        assert_int_equal(
            encode_run(r, &sae, activations, &config, &kernels, workers, NULL, NULL, NULL),
            STATUS_OK);
        workers_free(workers);
        assert_int_equal(r->tokens, r->tokens_masked + r->tokens_sink + r->tokens_encoded +
                                        r->tokens_rejected);
        assert_true(r->tokens_encoded > 0 && r->reference.tokens > 0);
        assert_true(r->l0_median > 0 && r->l0_p95 >= r->l0_median);
        assert_true(r->explained_variance > 0 && r->explained_variance < 1);
    }
    assert_same(&results[0], &results[1]);
    assert_int_equal(sae_stats_measure(&stats, &sae, activations, 10, &kernels, NULL, NULL),
                     STATUS_OK);
    sae_describe(&sae, &stats, &line);
    print_message("%s\n", text_string(&line));
    assert_null(strchr(text_string(&line), '\n')); /* nothing to warn of */
    text_release(&line);
    encode_result_release(&results[0]);
    encode_result_release(&results[1]);
    activations_close(activations);
    sae_release(&sae);
}

static void encode_tokens(const struct activations *activations, const char *level,
                          enum sae_precision precision, struct encode_result *result)
{
    const struct encode_config config = {.sink_norm = 10, .tokens = true};
    struct kernels kernels;
    char path[1024];
    struct sae sae;

    kernels_init(&kernels, level ? cpu_flags_up_to(level) : cpu_detect());
    snprintf(path, sizeof(path), "%s/sae", root);
    assert_int_equal(sae_load(&sae, path, NULL, SAE_READ_ENCODER, NULL), STATUS_OK);
    assert_int_equal(sae_prepare(&sae, precision, &kernels, NULL, NULL), STATUS_OK);
    print_message("%s: %s\n", level ? level : "this CPU", sae_engine(&sae));
    assert_int_equal(
        encode_run(result, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
        STATUS_OK);
    sae_release(&sae);
}

/* Entries that only one of two has. */
static size_t count_differences(struct csr_view a, struct csr_view b)
{
    size_t n = 0;

    for (size_t t = 0; t < a.rows; t++) {
        struct sparse_row x = csr_view_row(a, t), y = csr_view_row(b, t);
        size_t i = 0, j = 0;

        while (i < x.n || j < y.n) {
            if (i < x.n && j < y.n && x.indices[i] == y.indices[j]) {
                i++;
                j++;
            } else {
                n++;
                if (j == y.n || (i < x.n && x.indices[i] < y.indices[j]))
                    i++;
                else
                    j++;
            }
        }
    }
    return n;
}

/* `exact` is the same bits at every level of the CPU; `fast` leaves out or adds less than one entry
 * in 100,000. */
static void shared_data_encode_alike_with_any_engine(void **state)
{
    static const char *const levels[] = {"scalar",     "neon",       "avx2", "avx512",
                                         "avx512vnni", "avx512bf16", "amx"};
    struct encode_result exact, other;
    struct activations *activations;
    const char *file = data_path;
    size_t differences;

    (void)state;
    assert_int_equal(activations_open(&activations, &file, 1, ACTIVATIONS_NO_LAYER, NULL),
                     STATUS_OK);
    encode_tokens(activations, "scalar", SAE_EXACT, &exact);
    for (size_t i = 1; i < sizeof(levels) / sizeof(levels[0]); i++) {
        unsigned flags = cpu_flags_up_to(levels[i]);

        if ((cpu_detect() & flags) != flags)
            continue;
        encode_tokens(activations, levels[i], SAE_EXACT, &other);
        assert_same(&exact, &other);
        encode_result_release(&other);
    }
    encode_tokens(activations, NULL, SAE_FAST, &other);
    differences = count_differences(csr_as_view(&exact.codes), csr_as_view(&other.codes));
    print_message("fast: %zu of %zu entries differ\n", differences, csr_nnz(&exact.codes));
    assert_true((double)differences < 1e-5 * (double)csr_nnz(&exact.codes));
    encode_result_release(&other);
    encode_result_release(&exact);
    activations_close(activations);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_data_encode_alike_with_any_threads),
        cmocka_unit_test(shared_data_encode_alike_with_any_engine),
    };

    if (argc != 2)
        return 2;
    root = argv[1];
    snprintf(data_path, sizeof(data_path), "%s/activations.safetensors", root);
    if (access(data_path, R_OK)) {
        printf("skipped: no %s\n", data_path);
        return 77;
    }
    blas_init();
    return cmocka_run_group_tests_name("golden/encode_shared", tests, NULL, NULL);
}
