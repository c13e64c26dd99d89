/*
 * cli/serve.h - what the files of `saerl serve` share: the sidecar's parts and its two lanes.
 *
 *     serve.c           options, start, signals, drain
 *     serve_state.c     requests of the STATE lane: protocol to curator/session.h and back
 *     serve_compute.c   requests of the COMPUTE lane: SUBMIT, SCORE, CURATE
 *     serve_input.c     their tensors to struct candidates
 *     serve_metrics.c   the Prometheus text
 */
#ifndef CLI_SERVE_H
#define CLI_SERVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "curator/candidates.h"
#include "curator/recipe.h"
#include "curator/sample.h"
#include "curator/session.h"
#include "ipc/server.h"

/* Counted since the start; relaxed atomics, each a figure by itself. */
struct serve_counters {
    atomic_ullong scored, submitted, known, encoded, tokens;
    atomic_ullong reasons[REASON_COUNT + 1]; /* by reason code; the last is unknown_sid */
    atomic_ullong feedback[4];               /* accepted, duplicate, unknown, rejected */
};

struct serve {
    const struct recipe *recipe;
    const struct kernels *kernels;
    struct log *log;
    struct model model;
    struct sae sae;
    bool has_sae;
    size_t d_sae;
    char sae_hash[HASH128_HEX_SIZE], config_hash[HASH128_HEX_SIZE];
    struct session *session;            /* of the STATE lane */
    struct candidates_encoder *encoder; /* of the COMPUTE lane */
    struct workers *workers;            /* of the COMPUTE lane */
    struct server *server;
    const struct auth *auth; /* NULL without CURVE */
    atomic_uint log_lost;    /* events that stderr had no room for */
    bool insecure;           /* tcp without CURVE */
    uint64_t queue_bytes, session_bytes;
    struct serve_counters counters;

    atomic_bool storage_ok; /* the last round was written */
    bool round_failed;      /* of the STATE lane: nothing of this round will be applied */
    struct error round_error;
    uint64_t *greeted; /* [n_greeted] sessions of this round's HELLOs */
    size_t n_greeted, greeted_capacity;

    /* The norm statistics as of the last round, for the COMPUTE lane. */
    pthread_mutex_t reference_lock;
    struct encode_reference reference;

    /* The session's figures as of the last round, for the thread of the metrics. */
    pthread_mutex_t figures_lock;
    struct text figures; /* Prometheus lines of the runs */
    bool wants_figures;  /* somebody listens */
    double figures_at;   /* of the STATE lane */
};

/* The handler of both lanes; `context` is a struct serve. */
enum handle_outcome serve_handle(void *context, enum lane lane, struct request *request,
                                 struct message_out *out, struct fault *fault);
void serve_begin(void *context, enum lane lane);
void serve_end(void *context, enum lane lane, struct fault *fault);

enum handle_outcome serve_compute(struct serve *serve, struct request *request,
                                  struct message_out *out, struct fault *fault);

/*
 * What COMPUTE leaves to STATE: an encoded SUBMIT; or the answer to a CURATE and vectors that are
 * worth keeping, so that the next one need not encode them.
 */
struct encoded {
    struct vectors vectors;
    uint64_t *sids;           /* [n], SUBMIT */
    struct hash128 digest;    /* SUBMIT: message_digest */
    struct message_out reply; /* CURATE */
};

/* The samples of SUBMIT, SCORE and CURATE; arrays that had to be aligned or hashed are owned. */
struct serve_input {
    struct candidates candidates;
    uint64_t *sids; /* [n] */
    int64_t *offsets;
    struct csr sparse;
    uint32_t *tokens_used;
    float *recon_mean, *recon_max;
    struct hash128 *prompts;
};
void serve_input_release(struct serve_input *input);
/* Everything is checked; a fault names the tensor, what was found and what was expected. */
MUST_CHECK
enum status serve_input_read(struct serve_input *input, const struct serve *serve,
                             const struct message *message, struct fault *fault, struct error *err);

/* Header members. False with a fault: not there although required, or of another type or range. */
enum field_need {
    FIELD_OPTIONAL,
    FIELD_REQUIRED,
};
bool field_u64(const struct message *message, const char *name, enum field_need need, uint64_t max,
               uint64_t *value, struct fault *fault);
bool field_bool(const struct message *message, const char *name, bool *value, struct fault *fault);
/* At most 256 bytes without zero bytes, not empty if required; copied and terminated. */
#define FIELD_STRING_MAX 256
bool field_string(const struct message *message, const char *name, enum field_need need,
                  char value[FIELD_STRING_MAX + 1], struct fault *fault);

/* A 1-d tensor of a dtype; NULL with a fault, or without one if it is optional and not there. n
 * SIZE_MAX: any length. */
const struct tensor *tensor_vector(const struct message *message, const char *name,
                                   enum dtype dtype, enum field_need need, size_t n,
                                   struct fault *fault);
/* Only tensors named in `names` (NULL-terminated) may be there: a name that is not known is more
 * likely a mistake than something to be ignored. */
bool tensors_known(const struct message *message, const char *const *names, struct fault *fault);

/* Offsets [n + 1] from 0 to `end` that never descend. */
bool offsets_sound(const int64_t *offsets, size_t n, size_t end, const char *name,
                   struct fault *fault);

/* An error of ours as a fault. */
void fault_from_error(struct fault *fault, enum status st, const struct error *err);
void fault_from_refusal(struct fault *fault, const struct refusal *refusal);

/* The Prometheus text; any thread. */
void serve_print_metrics(struct serve *serve, struct text *out);
/* STATE lane: take the session's figures over. */
void serve_update_figures(struct serve *serve);

#endif
