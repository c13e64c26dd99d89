/*
 * curator/session_internal.h - what the files of curator/session.h share.
 */
#ifndef CURATOR_SESSION_INTERNAL_H
#define CURATOR_SESSION_INTERNAL_H

#include "curator/ledger.h"
#include "curator/prompt_map.h"
#include "curator/session.h"
#include "formats/features.h"

/* The rows to serve in one epoch, in order. */
struct serving_plan {
    const uint64_t *sids;    /* [n] */
    const float *difficulty; /* [n] NaN: none */
    const int32_t *cluster;  /* [n] -1: none */
    size_t n;
    uint64_t *owned_sids; /* NULL: the data set's own, shared by all runs */
    float *owned_difficulty;
    int32_t *owned_cluster;
};

/*
 * Where in its curriculum a run stands; `progress` of the ledger's run. Positions before `cursor`
 * were issued in this epoch; of those behind it the ones in `taken` were (feedback can prefer a
 * later candidate to an earlier one).
 */
struct progress {
    uint64_t epoch, cursor;
    unsigned char *taken; /* [n_taken] positions cursor, cursor + 1, ...: 1 issued */
    size_t n_taken;
    unsigned char *done;   /* [n_done] of the pool: issued or dropped in this epoch */
    size_t n_done;         /* as many as were planned over */
    uint64_t first_seq;    /* earlier batches did not come with the state that was restored */
    uint64_t planned_pool; /* size of the pool when the plan was made */
    uint64_t ended;        /* enum run_end */
    uint64_t attached;     /* ATTACH was said: what is not in the data set may be SUBMITted */
    double n0;             /* strength of the prior */
    uint64_t feedback_items, outside; /* rewards taken in; those outside [0, 1] */
};

enum run_end {
    RUN_GOES_ON,
    RUN_ENDED,      /* a full reply reached the end */
    RUN_ENDED_TOLD, /* a reply that was short, so the client knows */
};

/* What the latest refit left. A penalty that was searched for once is kept: the search takes
 * seconds, and a FETCH waits for it. */
struct refit {
    double *predicted; /* [n] difficulty of the data set's rows, or NULL: no refit yet */
    size_t n;
    double alpha, l1_ratio; /* of the latest fit; alpha 0: none */
    uint64_t n_fitted;      /* rows it was fitted on */
    uint64_t length;        /* with the length of a prompt as an extra column */
};

struct run_state {
    struct ledger_run record;
    struct progress progress;
    struct prompt_map prompts;
    struct serving_plan plan;
    bool planned;               /* plan belongs to the present epoch */
    bool plan_is_whole;         /* and is over all of the pool; false after a restart */
    bool plan_stored;           /* its own plan is in the ledger as blob "plan" */
    struct ledger_pooled *pool; /* [n_pool] */
    size_t n_pool, pool_capacity;
    struct prompt_map pooled; /* sid to index in pool, kept in last_seq */
    struct refit refit;
};

struct session {
    struct session_config config;
    struct ledger *ledger;
    struct run_state *runs;
    size_t n_runs, runs_capacity;
    struct session_name { /* active sessions */
        uint64_t id;
        char *run; /* name; the run itself is made at the first request that changes it */
    } * names;
    size_t n_names, names_capacity;
    struct encode_reference reference;
    char dataset[HASH128_HEX_SIZE]; /* hash of the data set's prompts, "" without */

    /* The data set's plan, shared by all runs. */
    struct serving_plan dataset_plan;
    struct features features; /* of the data set, for refits; only with online.target */
    unsigned char *has_vector;
    bool dirty; /* memory is ahead of what was committed: reload if the round fails */
    bool lost;  /* memory could not be reloaded: nothing may be answered from it */
};

/* Words a refusal; the message is cut to fit. */
void refuse(struct refusal *refusal, enum refusal_code code, const char *field, const char *format,
            ...) PRINTF_LIKE(4, 5);

/* Everything kept in memory, read from the ledger again. */
MUST_CHECK enum status session_load(struct session *session, struct error *err);

/* A batch from before the state that was restored from elsewhere. */
void refuse_unknown_seq(uint64_t seq, struct refusal *refusal);

/* The run a session belongs to, made if it is new. */
MUST_CHECK
enum status session_run_of(struct session *session, uint64_t id, struct run_state **run,
                           struct error *err);
/* The same without making it: NULL if it has no history yet. */
struct run_state *session_run_find(const struct session *session, uint64_t id);
const char *session_run_name(const struct session *session, uint64_t id);

/* record, progress included, to the ledger. */
MUST_CHECK enum status run_state_store(struct session *session, struct run_state *run,
                                       struct error *err);

void progress_release(struct progress *progress);
void progress_write(const struct progress *progress, struct text *out);
MUST_CHECK enum status progress_read(struct progress *progress, const void *bytes, size_t n,
                                     struct error *err);

/* Does the place lie inside a plan of n? */
bool progress_fits(const struct progress *progress, size_t n);

void refit_release(struct refit *refit);
void refit_write(const struct refit *refit, struct text *out);
/* STATUS_FORMAT also when it is not for `rows` rows. */
MUST_CHECK enum status refit_read(struct refit *refit, const void *bytes, size_t n, size_t rows,
                                  struct error *err);

void serving_plan_release(struct serving_plan *plan);
void serving_plan_write(const struct serving_plan *plan, struct text *out);
MUST_CHECK enum status serving_plan_read(struct serving_plan *plan, const void *bytes, size_t n,
                                         struct error *err);

/* What the difficulty model says of a prompt now; `planned` is what the plan said. */
double run_state_difficulty(const struct run_state *run, uint64_t sid, double planned);

/* Learn from all feedback, when that is due at `seq`. */
MUST_CHECK enum status run_state_refit(struct session *session, struct run_state *run, uint64_t seq,
                                       struct error *err);

/* Norm statistics for all later requests, durably; does nothing if there are some. */
MUST_CHECK enum status session_freeze(struct session *session,
                                      const struct encode_reference *reference, struct error *err);

/* Look for suspect references, into the ledger. */
MUST_CHECK enum status run_state_suspects(struct session *session, struct run_state *run,
                                          struct error *err);

#endif
