/*
 * CURATE against the encoding that is in it, in turns:
 *
 *     sidecar_curate --endpoint E --sae PATH --file TOKENS --samples N [--length T] [--threads P]
 *                    [--repeats R] [--batch B] [--d-in D] [--fast] [--alone] [--frozen]
 *
 * TOKENS is bf16 [n, d_in]. With T, N samples of T tokens; without, N vectors. A turn is a CURATE
 * of samples the sidecar has never seen, the same one again, and the encoding alone: encoder_run()
 * (sae/encode.h) on the very bytes, by the same library with as many threads, weights loaded and
 * packed before; once without and once with the reconstruction errors that some probes read.
 * --frozen: by norm statistics measured before, as a sidecar encodes once it has its own; else they
 * are measured each time, as it does until then. --alone: only the encoding. Prints one JSON
 * object, times in milliseconds turn by turn.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "linalg/cpu.h"
#include "sae/encode.h"
#include "sae/sae_load.h"
#include "tests/bench/load_peer.h"

#define D_IN_MAX 65536
#define SINK_NORM 10 /* the default of sae.sink_norm */

struct options {
    const char *endpoint, *sae, *file;
    uint64_t samples, length, threads, repeats, batch, d_in;
    int fast, alone, frozen;
};

struct bench {
    const struct options *o;
    struct load_peer peer;
    struct kernels kernels;
    struct workers *workers;
    struct sae sae;
    struct encoder *encoder;
    struct encode_reference reference; /* of the first encoding; tokens 0: not yet */
    unsigned char *tokens;             /* bf16 [n_tokens, d_in], what the next turn sends */
    size_t n_tokens;
    int64_t *offsets; /* [samples + 1], or NULL */
    struct message_out out;
    uint64_t kept;
};

static enum status read_tokens(struct bench *b, struct error *err)
{
    FILE *f = fopen(b->o->file, "rb");
    size_t width = 2 * b->o->d_in, got = 0;

    b->n_tokens = b->o->samples * (b->o->length ? b->o->length : 1);
    b->tokens = f ? mem_alloc(b->n_tokens, width) : NULL;
    while (b->tokens && got < b->n_tokens) {
        size_t n = fread(b->tokens + got * width, width, b->n_tokens - got, f);

        if (n == 0 && got == 0)
            break;
        if (n == 0)
            rewind(f); /* a file that is short is taken again; the marks tell samples apart */
        got += n;
    }
    if (f)
        fclose(f);
    return got == b->n_tokens && got ? STATUS_OK
                                     : error_set(err, STATUS_IO, "%s: cannot be read", b->o->file);
}

static enum status bench_open(struct bench *b, struct error *err)
{
    const struct options *o = b->o;
    enum status st = read_tokens(b, err);

    kernels_init(&b->kernels, cpu_detect());
    if (o->length && !st) {
        b->offsets = mem_alloc(o->samples + 1, sizeof(*b->offsets));
        if (!b->offsets)
            return error_nomem(err);
        for (size_t i = 0; i <= o->samples; i++)
            b->offsets[i] = (int64_t)(i * o->length);
    }
    if (!st)
        st = workers_new(&b->workers, (unsigned)o->threads, NULL, err);
    if (!st)
        st = sae_load(&b->sae, o->sae, NULL, SAE_READ_ALL, err);
    if (!st)
        st = sae_prepare(&b->sae, o->fast ? SAE_FAST : SAE_EXACT, &b->kernels, b->workers, err);
    if (!st)
        st = encoder_new(&b->encoder, &b->sae, &b->kernels, b->workers, err);
    if (!st)
        st = o->alone
                 ? STATUS_OK
                 : load_peer_open(&b->peer, LOAD_SIDECAR, o->endpoint, "curate", "curate", err);
    return st;
}

static void bench_close(struct bench *b)
{
    load_peer_close(&b->peer);
    encoder_free(b->encoder);
    sae_release(&b->sae);
    workers_free(b->workers);
    message_out_release(&b->out);
    mem_free(b->offsets);
    mem_free(b->tokens);
}

/* Samples that were never there before: the first numbers of each, from 1 to 2 in bfloat16. */
static void mark_samples(struct bench *b, uint64_t turn)
{
    size_t step = 2 * b->o->d_in * (b->o->length ? b->o->length : 1);

    for (uint64_t i = 0; i < b->o->samples; i++) {
        unsigned char *row = b->tokens + i * step;
        uint64_t number = turn * b->o->samples + i;

        for (int k = 0; k < 4; k++) {
            row[2 * k] = (unsigned char)(0x80 | (number >> (7 * k) & 0x7f));
            row[2 * k + 1] = 0x3f;
        }
    }
}

static enum status make_request(struct bench *b, struct error *err)
{
    const struct options *o = b->o;
    uint64_t *sids = mem_alloc(o->samples, sizeof(*sids));
    enum status st = STATUS_OK;

    if (!sids)
        return error_nomem(err);
    for (uint64_t i = 0; i < o->samples; i++)
        sids[i] = i;
    message_out_clear(&b->out);
    text_appendf(&b->out.header, "\"batch_size\":%llu", (unsigned long long)o->batch);
    message_out_take(&b->out, "sid", DTYPE_U64, o->samples, (void **)&sids);
    st = message_out_copy(&b->out, "act", DTYPE_BF16, b->n_tokens * o->d_in, b->tokens, err);
    b->out.tensors[1].shape = (struct shape){.rank = 2, .dims = {b->n_tokens, o->d_in}};
    if (!st && b->offsets)
        st = message_out_copy(&b->out, "act_off", DTYPE_I64, o->samples + 1, b->offsets, err);
    return st;
}

/* Bytes in to order out. */
static enum status curate(struct bench *b, double *ms, struct error *err)
{
    struct load_reply reply = {0};
    const struct tensor *order;
    double start;
    enum status st = make_request(b, err);

    start = clock_seconds();
    if (!st)
        st = load_peer_call(&b->peer, KIND_CURATE, &b->out, &reply, err);
    *ms = 1e3 * (clock_seconds() - start);
    order = st ? NULL : message_tensor(&reply.message, "order");
    b->kept = order ? order->count : 0;
    load_reply_release(&reply);
    return st;
}

enum errors {
    ERRORS_NOT,
    ERRORS_TOO,
};

static enum status encode(struct bench *b, enum errors errors, double *ms, struct error *err)
{
    const struct activations_memory memory = {.dtype = DTYPE_BF16,
                                              .x = b->tokens,
                                              .tokens = b->n_tokens,
                                              .d_in = b->o->d_in,
                                              .offsets = b->offsets,
                                              .samples = b->o->samples};
    const struct encode_config config = {.pooling = POOLING_MAX,
                                         .sink_norm = SINK_NORM,
                                         .reconstruct = errors == ERRORS_TOO,
                                         .reference = b->o->frozen ? &b->reference : NULL};
    struct activations *activations = NULL;
    struct encode_result result = {0};
    double start = clock_seconds();
    enum status st = activations_wrap(&activations, &memory, err);

    if (!st)
        st = encoder_run(b->encoder, &result, activations, &config, NULL, NULL, err);
    *ms = 1e3 * (clock_seconds() - start);
    if (!st && !b->reference.tokens)
        b->reference = result.reference;
    encode_result_release(&result);
    activations_close(activations);
    return st;
}

static enum status run(struct bench *b, struct error *err)
{
    double first = 0, again = 0, alone, errors;
    enum status st = bench_open(b, err);

    if (!st)
        printf("{\"engine\":\"%s\",\"threads\":%u,\"bytes\":%zu,\"turns\":[", sae_engine(&b->sae),
               workers_count(b->workers), b->n_tokens * 2 * b->o->d_in);
    /* Turn 0 warms up both sides and is not told. */
    for (uint64_t turn = 0; turn <= b->o->repeats && !st; turn++) {
        mark_samples(b, turn);
        if (!b->o->alone)
            st = curate(b, &first, err);
        if (!st && !b->o->alone)
            st = curate(b, &again, err);
        if (!st)
            st = encode(b, ERRORS_NOT, &alone, err);
        if (!st)
            st = encode(b, ERRORS_TOO, &errors, err);
        if (!st && turn > 0)
            printf("%s{\"first\":%.3f,\"again\":%.3f,\"alone\":%.3f,\"errors\":%.3f}",
                   turn > 1 ? "," : "", first, again, alone, errors);
    }
    if (!st)
        printf("],\"kept\":%llu}\n", (unsigned long long)b->kept);
    return st;
}

static bool read_options(struct options *o, int argc, char **argv)
{
    const struct option names[] = {
        {"endpoint", 1, NULL, 'e'},
        {"sae", 1, NULL, 'a'},
        {"file", 1, NULL, 'f'},
        {"samples", 1, NULL, 's'},
        {"length", 1, NULL, 'l'},
        {"threads", 1, NULL, 'p'},
        {"repeats", 1, NULL, 'r'},
        {"batch", 1, NULL, 'b'},
        {"d-in", 1, NULL, 'd'},
        {"fast", 0, NULL, 'q'},
        {"alone", 0, NULL, 'o'},
        {"frozen", 0, NULL, 'z'},
        {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        uint64_t x = optarg ? strtoull(optarg, NULL, 10) : 0;

        switch (c) {
        case 'e':
            o->endpoint = optarg;
            break;
        case 'a':
            o->sae = optarg;
            break;
        case 'f':
            o->file = optarg;
            break;
        case 's':
            o->samples = x;
            break;
        case 'l':
            o->length = x;
            break;
        case 'p':
            o->threads = x;
            break;
        case 'r':
            o->repeats = x;
            break;
        case 'b':
            o->batch = x;
            break;
        case 'd':
            o->d_in = x;
            break;
        case 'q':
            o->fast = 1;
            break;
        case 'o':
            o->alone = 1;
            break;
        case 'z':
            o->frozen = 1;
            break;
        default:
            return false;
        }
    }
    return (o->endpoint || o->alone) && o->sae && o->file && o->samples > 0 && o->threads > 0 &&
           o->d_in >= 4 && o->d_in <= D_IN_MAX && optind == argc;
}

int main(int argc, char **argv)
{
    struct options o = {.threads = 1, .repeats = 5, .batch = 64, .d_in = 1536};
    struct bench b = {.o = &o};
    struct error err = {0};
    enum status st;

    if (!read_options(&o, argc, argv)) {
        fprintf(stderr, "usage: see the top of tests/bench/sidecar_curate.c\n");
        return 2;
    }
    st = run(&b, &err);
    bench_close(&b);
    if (st)
        fprintf(stderr, "sidecar_curate: %s\n", err.message);
    return st ? 1 : 0;
}
