#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "sae/encode.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_sample.h"
#include "tests/support/scratch.h"

enum {
    D_IN = 24,
    D_SAE = 100,
    N_SAMPLES = 40
};

static struct kernels kernels;

/* Ragged samples of arbitrary numbers: sums depend on their order, so that bits tell. */
struct pile {
    float *x;
    unsigned char *keep;
    int64_t offsets[N_SAMPLES + 1];
    size_t n_tokens;
};

static struct pile make_pile(void)
{
    struct pile pile = {.offsets = {0}};
    struct rng rng;

    rng_init(&rng, 5, "test", 0);
    for (size_t s = 0; s < N_SAMPLES; s++) {
        pile.n_tokens += (size_t)rng_below(&rng, 60);
        pile.offsets[s + 1] = (int64_t)pile.n_tokens;
    }
    pile.x = malloc(pile.n_tokens * D_IN * sizeof(*pile.x));
    pile.keep = malloc(pile.n_tokens);
    assert_true(pile.x && pile.keep);
    for (size_t i = 0; i < pile.n_tokens * D_IN; i++)
        pile.x[i] = (float)(2 * rng_double(&rng) - 1);
    for (size_t t = 0; t < pile.n_tokens; t++)
        pile.keep[t] = rng_below(&rng, 8) > 0;
    pile.x[700 * D_IN] = NAN;
    pile.keep[700] = 1;
    return pile;
}

static void pile_release(struct pile *pile)
{
    free(pile->x);
    free(pile->keep);
}

/* Samples [first, last) as a file. */
static const char *write_part(const struct pile *pile, const char *name, size_t first, size_t last)
{
    int64_t offsets[N_SAMPLES + 1];

    for (size_t s = first; s <= last; s++)
        offsets[s - first] = pile->offsets[s] - pile->offsets[first];
    return activations_sample_write(
        name, &(struct activations_sample){.x = pile->x + pile->offsets[first] * D_IN,
                                           .n_tokens = (size_t)offsets[last - first],
                                           .d_in = D_IN,
                                           .dtype = DTYPE_F32,
                                           .offsets = offsets,
                                           .n_samples = last - first,
                                           .keep = pile->keep + pile->offsets[first]});
}

static struct activations *open_files(const char *const *paths, size_t n)
{
    struct activations *activations;

    assert_int_equal(activations_open(&activations, paths, n, ACTIVATIONS_NO_LAYER, NULL),
                     STATUS_OK);
    return activations;
}

static void assert_same(const struct encode_result *a, const struct encode_result *b)
{
    size_t n = a->codes.rows;

    assert_int_equal(n, b->codes.rows);
    assert_memory_equal(a->codes.indptr, b->codes.indptr, (n + 1) * sizeof(int64_t));
    assert_memory_equal(a->codes.indices, b->codes.indices, csr_nnz(&a->codes) * sizeof(uint32_t));
    assert_memory_equal(a->codes.values, b->codes.values, csr_nnz(&a->codes) * sizeof(float));
    assert_memory_equal(a->tokens_used, b->tokens_used, n * sizeof(uint32_t));
    assert_memory_equal(a->outcome, b->outcome, n);
    assert_memory_equal(a->recon_mean, b->recon_mean, n * sizeof(float));
    assert_memory_equal(a->recon_max, b->recon_max, n * sizeof(float));
    assert_true(a->reference.median_norm == b->reference.median_norm);
    assert_true(a->reference.variance == b->reference.variance);
    assert_true(a->explained_variance == b->explained_variance);
    assert_true(a->l0_median == b->l0_median && a->l0_p95 == b->l0_p95);
}

static void encode_does_not_depend_on_threads_or_files(void **state)
{
    const struct encode_config config = {
        .pooling = POOLING_MEAN, .sink_norm = 1.2, .reconstruct = true};
    struct pile pile = make_pile();
    struct encode_result first = {0};
    const char *paths[3];
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 9, 1);
    for (size_t files = 1; files <= 3; files += 2) {
        if (files == 1) {
            paths[0] = write_part(&pile, "whole.safetensors", 0, N_SAMPLES);
        } else {
            paths[0] = write_part(&pile, "a.safetensors", 0, 11);
            paths[1] = write_part(&pile, "b.safetensors", 11, 12);
            paths[2] = write_part(&pile, "c.safetensors", 12, N_SAMPLES);
        }
        for (unsigned threads = 0; threads <= 4; threads++) { /* 0: none of ours at all */
            struct activations *activations = open_files(paths, files);
            struct workers *workers = NULL;
            struct encode_result result;

            if (threads)
                assert_int_equal(workers_new(&workers, threads, NULL, NULL), STATUS_OK);
            assert_int_equal(encode_run(&result, &sae, activations, &config, &kernels, workers,
                                        NULL, NULL, NULL),
                             STATUS_OK);
            if (first.codes.rows == 0) {
                first = result;
                assert_true(result.tokens_sink > 10 && result.tokens_rejected > 0);
                assert_true(csr_nnz(&result.codes) > 1000);
            } else {
                assert_same(&first, &result);
                encode_result_release(&result);
            }
            workers_free(workers);
            activations_close(activations);
        }
    }
    encode_result_release(&first);
    sae_release(&sae);
    pile_release(&pile);
}

static void encode_keeps_pooled_rows_whatever_their_norm(void **state)
{
    const struct encode_config config = {.pooling = POOLING_MEAN, .sink_norm = 2};
    float x[6][2] = {{1, 0}, {0, 1}, {100, 1}, {0, 0}, {1, 1}, {NAN, 1}};
    struct encode_result result;
    struct activations *activations;
    struct sae sae;
    const char *path;

    (void)state;
    sae_sample_init(&sae, 2, 5, ACTIVATION_RELU, 0, 1);
    path = activations_sample_write(
        "pooled.safetensors",
        &(struct activations_sample){.x = x[0], .n_tokens = 6, .d_in = 2, .dtype = DTYPE_F32});
    activations = open_files(&path, 1);
    assert_int_equal(
        encode_run(&result, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
        STATUS_OK);
    assert_int_equal(result.codes.rows, 6);
    assert_int_equal(result.tokens_sink, 0);
    assert_int_equal(result.tokens_encoded, 4);
    assert_int_equal(result.outcome[2], ENCODE_OK);
    assert_int_equal(result.outcome[3], ENCODE_ZERO_ACTIVATION);
    assert_int_equal(result.outcome[5], ENCODE_NONFINITE);
    assert_null(result.recon_mean);
    assert_true(isnan(result.explained_variance));
    encode_result_release(&result);
    activations_close(activations);
    sae_release(&sae);
}

static void encode_measures_the_first_reference_tokens(void **state)
{
    enum {
        FIRST = ENCODE_REFERENCE_TOKENS - 3,
        LATER = 5000,
        T = FIRST + LATER
    };
    const struct encode_config config = {.pooling = POOLING_MAX};
    /* A bad sample in front, one that crosses the limit, one behind it. */
    const int64_t offsets[] = {0, 2, FIRST, FIRST + 4000, T};
    float *x = malloc(T * sizeof(*x));
    struct activations *activations;
    struct encode_result result;
    struct sae sae;
    const char *path;

    (void)state;
    assert_non_null(x);
    for (size_t t = 0; t < T; t++)
        x[t] = t % 2 ? 1 : 3;
    x[0] = NAN;
    x[1] = 1e6F;
    for (size_t t = ENCODE_REFERENCE_TOKENS + 2; t < T; t++)
        x[t] = 1000; /* beyond the limit: without the bad sample it lies two tokens later */
    sae_sample_init(&sae, 1, 3, ACTIVATION_RELU, 0, 1);
    path = activations_sample_write("long.safetensors",
                                    &(struct activations_sample){.x = x,
                                                                 .n_tokens = T,
                                                                 .d_in = 1,
                                                                 .dtype = DTYPE_F32,
                                                                 .offsets = offsets,
                                                                 .n_samples = 4});
    activations = open_files(&path, 1);
    assert_int_equal(
        encode_run(&result, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
        STATUS_OK);
    assert_int_equal(result.reference.tokens, ENCODE_REFERENCE_TOKENS);
    assert_true(result.reference.median_norm == 2); /* as many ones as threes */
    assert_true(fabs(result.reference.variance - 1) < 1e-12);
    assert_int_equal(result.outcome[0], ENCODE_NONFINITE);
    assert_int_equal(result.tokens_rejected, 2);
    encode_result_release(&result);
    activations_close(activations);
    free(x);
    sae_release(&sae);
}

static void encode_rejects_codes_out_of_range(void **state)
{
    const struct encode_config config = {.pooling = POOLING_MAX, .reconstruct = true};
    float x[5][2] = {{1, 1}, {3e38F, 3e38F}, {1, 2}, {-1e38F, 1e38F}, {-2e38F, 3e38F}};
    const int64_t offsets[] = {0, 1, 2, 3, 4, 5};
    struct activations *activations;
    struct encode_result result;
    struct sae sae;
    const char *path;

    (void)state;
    sae_sample_init(&sae, 2, 3, ACTIVATION_RELU, 0, 1);
    for (size_t j = 0; j < 3; j++) { /* the sum overflows, or both terms do in either direction */
        sae.w_enc.data[j * sae.w_enc.stride] = 2;
        sae.w_enc.data[j * sae.w_enc.stride + 1] = 2;
    }
    path = activations_sample_write("huge.safetensors",
                                    &(struct activations_sample){.x = x[0],
                                                                 .n_tokens = 5,
                                                                 .d_in = 2,
                                                                 .dtype = DTYPE_F32,
                                                                 .offsets = offsets,
                                                                 .n_samples = 5});
    activations = open_files(&path, 1);
    assert_int_equal(
        encode_run(&result, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
        STATUS_OK);
    assert_int_equal(result.outcome[0], ENCODE_OK);
    assert_int_equal(result.outcome[1], ENCODE_NONFINITE);
    assert_int_equal(result.outcome[3], ENCODE_OK);
    assert_int_equal(result.outcome[4], ENCODE_NONFINITE);
    for (size_t e = 0; e < csr_nnz(&result.codes); e++)
        assert_true(isfinite(result.codes.values[e]));
    for (size_t i = 0; i < 5; i++)
        assert_true(isfinite(result.recon_mean[i]) && isfinite(result.recon_max[i]));
    encode_result_release(&result);
    activations_close(activations);
    sae_release(&sae);
}

static void encode_takes_files_without_samples(void **state)
{
    const int64_t offsets[] = {0};
    struct encode_config config = {.pooling = POOLING_MAX, .reconstruct = true};
    struct activations *activations;
    struct encode_result result;
    struct sae sae;
    const char *path;

    (void)state;
    sae_sample_init(&sae, 3, 4, ACTIVATION_RELU, 0, 1);
    path = activations_sample_write(
        "none.safetensors",
        &(struct activations_sample){.d_in = 3, .dtype = DTYPE_F32, .offsets = offsets});
    activations = open_files(&path, 1);
    for (int tokens = 0; tokens < 2; tokens++) {
        config.tokens = tokens == 1;
        assert_int_equal(
            encode_run(&result, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
            STATUS_OK);
        assert_int_equal(result.codes.rows, 0);
        assert_int_equal(result.codes.cols, 4);
        assert_true(isnan(result.l0_median));
        encode_result_release(&result);
    }
    activations_close(activations);
    sae_release(&sae);
}

static void encode_refuses_another_width(void **state)
{
    const struct encode_config config = {.pooling = POOLING_MAX};
    const float x[2] = {1, 2};
    struct activations *activations;
    struct encode_result result;
    struct error err = {0};
    struct sae sae;
    const char *path;

    (void)state;
    sae_sample_init(&sae, 3, 4, ACTIVATION_RELU, 0, 1);
    path = activations_sample_write(
        "two.safetensors",
        &(struct activations_sample){.x = x, .n_tokens = 1, .d_in = 2, .dtype = DTYPE_F32});
    activations = open_files(&path, 1);
    assert_int_equal(
        encode_run(&result, &sae, activations, &config, &kernels, NULL, NULL, NULL, &err),
        STATUS_INVALID);
    assert_non_null(strstr(err.message, "SAE 'sample.safetensors' reads activations 3 wide"));
    assert_non_null(strstr(err.message, "two.safetensors' are 2 wide"));
    assert_null(result.outcome);
    activations_close(activations);
    sae_release(&sae);
}

struct watch {
    struct cancel *cancel;
    size_t stop_at; /* samples after which to cancel */
    size_t done, total, calls;
};

static void note_progress(void *context, size_t done, size_t total)
{
    struct watch *watch = context;

    assert_true(done >= watch->done && done <= total);
    watch->done = done;
    watch->total = total;
    watch->calls++;
    if (done >= watch->stop_at)
        atomic_store_explicit(&watch->cancel->signal, 2, memory_order_relaxed);
}

static void encode_reports_progress_and_stops_on_request(void **state)
{
    const struct encode_config config = {.pooling = POOLING_MAX};
    struct pile pile = make_pile();
    const char *path = write_part(&pile, "whole.safetensors", 0, N_SAMPLES);
    struct activations *activations = open_files(&path, 1);
    struct cancel cancel = {0};
    struct watch watch = {.cancel = &cancel, .stop_at = SIZE_MAX};
    struct encode_result result;
    struct workers *workers;
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 9, 1);
    assert_int_equal(workers_new(&workers, 2, &cancel, NULL), STATUS_OK);
    assert_int_equal(encode_run(&result, &sae, activations, &config, &kernels, workers,
                                note_progress, &watch, NULL),
                     STATUS_OK);
    assert_int_equal(watch.done, N_SAMPLES);
    assert_int_equal(watch.total, N_SAMPLES);
    assert_true(watch.calls > 2);
    encode_result_release(&result);

    watch = (struct watch){.cancel = &cancel, .stop_at = 1};
    assert_int_equal(encode_run(&result, &sae, activations, &config, &kernels, workers,
                                note_progress, &watch, NULL),
                     STATUS_CANCELED);
    assert_null(result.outcome);
    assert_int_equal(
        encode_run(&result, &sae, activations, &config, &kernels, workers, NULL, NULL, NULL),
        STATUS_CANCELED);
    workers_free(workers);
    activations_close(activations);
    sae_release(&sae);
    pile_release(&pile);
}

static void encode_survives_failing_allocations(void **state)
{
    const struct encode_config config = {
        .pooling = POOLING_MEAN, .sink_norm = 10, .reconstruct = true};
    struct pile pile = make_pile();
    const char *path = write_part(&pile, "whole.safetensors", 0, N_SAMPLES);
    struct activations *activations = open_files(&path, 1);
    bool done = false;
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 9, 1);
    for (size_t allowed = 0; !done; allowed++) {
        struct encode_result result;
        enum status st;

        mem_fail_after(allowed);
        st = encode_run(&result, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        assert_true(done == (result.outcome != NULL));
        encode_result_release(&result);
    }
    activations_close(activations);
    sae_release(&sae);
    pile_release(&pile);
}

/* Samples [first, last) as a request brings them; offsets [N_SAMPLES + 1] and the bytes stay the
 * caller's. */
static struct activations *wrap_part(const struct pile *pile, int64_t *offsets, size_t first,
                                     size_t last)
{
    struct activations *activations;

    for (size_t s = first; s <= last; s++)
        offsets[s - first] = pile->offsets[s] - pile->offsets[first];
    assert_int_equal(activations_wrap(&activations,
                                      &(struct activations_memory){
                                          .dtype = DTYPE_F32,
                                          .x = pile->x + pile->offsets[first] * D_IN,
                                          .tokens = (uint64_t)offsets[last - first],
                                          .d_in = D_IN,
                                          .offsets = offsets,
                                          .samples = last - first,
                                          .keep = pile->keep + pile->offsets[first],
                                      },
                                      NULL),
                     STATUS_OK);
    return activations;
}

/* One encoder serves requests of any size, in any order, at any number of threads, and gives what a
 * run over the file gives. */
static void encoder_gives_requests_the_codes_of_the_file(void **state)
{
    const size_t parts[][2] = {{0, N_SAMPLES}, {12, 13},       {3, 3},
                               {20, 37},       {0, N_SAMPLES}, {39, 40}};
    const struct encode_reference frozen = {.tokens = 500, .median_norm = 2.8, .variance = 7.5};
    struct encode_config config = {
        .pooling = POOLING_MEAN, .sink_norm = 1.1, .reconstruct = true, .reference = &frozen};
    struct pile pile = make_pile();
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 9, 1);
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct workers *workers;
        struct encoder *encoder;

        assert_int_equal(workers_new(&workers, threads, NULL, NULL), STATUS_OK);
        assert_int_equal(encoder_new(&encoder, &sae, &kernels, workers, NULL), STATUS_OK);
        for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
            const char *path = write_part(&pile, "part.safetensors", parts[i][0], parts[i][1]);
            struct activations *file = open_files(&path, 1);
            int64_t offsets[N_SAMPLES + 1];
            struct activations *request = wrap_part(&pile, offsets, parts[i][0], parts[i][1]);
            struct encode_result expected, result;

            assert_int_equal(
                encode_run(&expected, &sae, file, &config, &kernels, NULL, NULL, NULL, NULL),
                STATUS_OK);
            assert_int_equal(encoder_run(encoder, &result, request, &config, NULL, NULL, NULL),
                             STATUS_OK);
            if (parts[i][1] > parts[i][0] + 1)
                assert_same(&expected, &result);
            assert_int_equal(result.codes.rows, parts[i][1] - parts[i][0]);
            assert_int_equal(csr_nnz(&result.codes), csr_nnz(&expected.codes));
            assert_int_equal(result.reference.tokens, frozen.tokens);
            assert_true(result.reference.variance == frozen.variance);
            if (i == 0)
                assert_true(result.tokens_sink > 10 && result.tokens_rejected > 0);
            encode_result_release(&expected);
            encode_result_release(&result);
            activations_close(request);
            activations_close(file);
        }
        encoder_free(encoder);
        workers_free(workers);
    }
    sae_release(&sae);
    pile_release(&pile);
}

/* A sample is the same whatever else is in the request, once the reference is frozen. */
static void encode_with_a_reference_looks_at_one_sample_at_a_time(void **state)
{
    const struct encode_reference frozen = {.tokens = 9, .median_norm = 2.8, .variance = 7.5};
    const struct encode_config config = {
        .pooling = POOLING_MAX, .sink_norm = 1.1, .reconstruct = true, .reference = &frozen};
    struct pile pile = make_pile();
    int64_t offsets[N_SAMPLES + 1], single[N_SAMPLES + 1];
    struct activations *all = wrap_part(&pile, offsets, 0, N_SAMPLES);
    struct encode_result together;
    struct encoder *encoder;
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_RELU, 0, 1);
    assert_int_equal(encoder_new(&encoder, &sae, &kernels, NULL, NULL), STATUS_OK);
    assert_int_equal(encoder_run(encoder, &together, all, &config, NULL, NULL, NULL), STATUS_OK);
    for (size_t s = 0; s < N_SAMPLES; s++) {
        struct activations *one = wrap_part(&pile, single, s, s + 1);
        struct sparse_row a = csr_view_row(csr_as_view(&together.codes), s), b;
        struct encode_result alone;

        assert_int_equal(encoder_run(encoder, &alone, one, &config, NULL, NULL, NULL), STATUS_OK);
        b = csr_view_row(csr_as_view(&alone.codes), 0);
        assert_int_equal(a.n, b.n);
        if (a.n) {
            assert_memory_equal(a.indices, b.indices, a.n * sizeof(*a.indices));
            assert_memory_equal(a.values, b.values, a.n * sizeof(*a.values));
        }
        assert_int_equal(alone.outcome[0], together.outcome[s]);
        assert_int_equal(alone.tokens_used[0], together.tokens_used[s]);
        assert_true(alone.recon_mean[0] == together.recon_mean[s]);
        assert_true(alone.recon_max[0] == together.recon_max[s]);
        encode_result_release(&alone);
        activations_close(one);
    }
    encode_result_release(&together);
    encoder_free(encoder);
    activations_close(all);
    sae_release(&sae);
    pile_release(&pile);
}

/* Of no tokens: there is nothing frozen yet. */
static void encode_measures_where_the_reference_is_of_no_tokens(void **state)
{
    const struct encode_reference none = {0};
    struct encode_config config = {.pooling = POOLING_MEAN, .sink_norm = 1.2, .reconstruct = true};
    struct pile pile = make_pile();
    int64_t offsets[N_SAMPLES + 1];
    struct activations *activations = wrap_part(&pile, offsets, 0, N_SAMPLES);
    struct encode_result a, b;
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 9, 1);
    assert_int_equal(encode_run(&a, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
                     STATUS_OK);
    config.reference = &none;
    assert_int_equal(encode_run(&b, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
                     STATUS_OK);
    assert_true(a.reference.tokens > 100);
    assert_same(&a, &b);
    encode_result_release(&a);
    encode_result_release(&b);
    activations_close(activations);
    sae_release(&sae);
    pile_release(&pile);
}

/* An encoder that an allocation failed is good for the next request. */
static void encoder_survives_failing_allocations(void **state)
{
    const struct encode_config config = {
        .pooling = POOLING_MEAN, .sink_norm = 10, .reconstruct = true};
    struct pile pile = make_pile();
    int64_t offsets[N_SAMPLES + 1];
    struct activations *activations = wrap_part(&pile, offsets, 0, N_SAMPLES);
    struct encode_result expected, result;
    struct encoder *encoder;
    bool done = false;
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 9, 1);
    assert_int_equal(
        encode_run(&expected, &sae, activations, &config, &kernels, NULL, NULL, NULL, NULL),
        STATUS_OK);
    assert_int_equal(encoder_new(&encoder, &sae, &kernels, NULL, NULL), STATUS_OK);
    for (size_t allowed = 0; !done; allowed++) {
        enum status st;

        mem_fail_after(allowed);
        st = encoder_run(encoder, &result, activations, &config, NULL, NULL, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        assert_true(done == (result.outcome != NULL));
        if (done)
            assert_same(&expected, &result);
        encode_result_release(&result);
    }
    done = false;
    for (size_t allowed = 0; !done; allowed++) {
        struct encoder *other;
        enum status st;

        mem_fail_after(allowed);
        st = encoder_new(&other, &sae, &kernels, NULL, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        assert_true(done == (other != NULL));
        encoder_free(other);
    }
    encode_result_release(&expected);
    encoder_free(encoder);
    activations_close(activations);
    sae_release(&sae);
    pile_release(&pile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_does_not_depend_on_threads_or_files),
        cmocka_unit_test(encode_keeps_pooled_rows_whatever_their_norm),
        cmocka_unit_test(encode_measures_the_first_reference_tokens),
        cmocka_unit_test(encode_rejects_codes_out_of_range),
        cmocka_unit_test(encode_takes_files_without_samples),
        cmocka_unit_test(encode_refuses_another_width),
        cmocka_unit_test(encode_reports_progress_and_stops_on_request),
        cmocka_unit_test(encode_survives_failing_allocations),
        cmocka_unit_test(encoder_gives_requests_the_codes_of_the_file),
        cmocka_unit_test(encode_with_a_reference_looks_at_one_sample_at_a_time),
        cmocka_unit_test(encode_measures_where_the_reference_is_of_no_tokens),
        cmocka_unit_test(encoder_survives_failing_allocations),
    };

    blas_init();
    kernels_init(&kernels, cpu_detect());
    return cmocka_run_group_tests_name("sae/encode", tests, scratch_setup, scratch_teardown);
}
