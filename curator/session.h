/*
 * curator/session.h - the sidecar's memory of its trainers: sessions, runs, issued batches,
 * feedback, snapshots (docs/protocol.md, docs/state.md).
 *
 * A run is one trainer's curriculum: a plan (that of the data set, or over what it SUBMITted), how
 * far it was served, and what rewards said. Everything is in the ledger; what is kept in memory is
 * read from it, at start and again after a transaction that failed. One thread, that of the STATE
 * lane. Requests are handled inside a round:
 *
 *     session_begin()  { session_mark(), a request }*  session_commit(), then the replies leave
 *
 * A request that is turned down is an outcome, not an error: STATUS_OK with a refusal that has a
 * code. Any other status means that nothing of the request may stay: session_undo().
 *
 * Files: session.c (open, rounds, sessions), session_pool.c (ATTACH, SUBMIT), session_plan.c (plans
 * and FETCH), session_feedback.c, session_state.c (SAVE, RESTORE), session_suspects.c;
 * session_internal.h is what they share.
 */
#ifndef CURATOR_SESSION_H
#define CURATOR_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "curator/ledger.h"
#include "curator/model.h"
#include "curator/recipe.h"
#include "linalg/kernels.h"
#include "sae/encode.h"

/* Why a request is turned down. The protocol's error codes, which ipc/ owns, mirror these. */
enum refusal_code {
    REFUSAL_NONE,
    REFUSAL_HEADER, /* a header key: `field` */
    REFUSAL_TENSOR,
    REFUSAL_FENCED,
    REFUSAL_RUN,
    REFUSAL_SAE,
    REFUSAL_DATASET,
    REFUSAL_SEQ_GAP,
    REFUSAL_SEQ_RETIRED,
    REFUSAL_EXHAUSTED,
    REFUSAL_CONFLICT,
    REFUSAL_STATE_VERSION,
    REFUSAL_NO_SNAPSHOT,
    REFUSAL_TOO_LARGE,
    REFUSAL_BUSY,
};

struct refusal {
    enum refusal_code code;
    char field[32];
    char message[400];
    uint32_t retry_after_ms; /* 0: trying again will not help */
};

struct session_config {
    const struct recipe *recipe;
    const struct model *model;
    const char *state;       /* folder */
    const char *config_hash; /* of all that plan and scores depend on */
    const char *lock;        /* the recipe as YAML, with every default */
    const char *sae_hash;    /* "" without */
    enum ledger_mode mode;   /* LEDGER_WRITE or LEDGER_SALVAGE */
    const struct kernels *kernels;
    const struct log *log;
};

struct session;

/* What it points to is borrowed. Errors as ledger_open. */
MUST_CHECK
enum status session_open(struct session **session, const struct session_config *config,
                         struct error *err);
void session_close(struct session *session); /* accepts NULL */

/* Rounds. After a commit that failed everything is as before the round. */
MUST_CHECK enum status session_begin(struct session *session, struct error *err);
MUST_CHECK enum status session_mark(struct session *session, struct error *err);
MUST_CHECK enum status session_undo(struct session *session, struct error *err);
MUST_CHECK enum status session_commit(struct session *session, struct error *err);
/* Give the round up: everything is as before it. */
MUST_CHECK enum status session_cancel(struct session *session, struct error *err);
bool session_broken(const struct session *session); /* the process must leave */

/* Fingerprint of the data set's prompts, 32 hex digits; "" without. */
const char *session_dataset(const struct session *session);

/* HELLO. `older` [n_older] are the sessions it fences; mem_free it. */
struct hello {
    uint64_t session, next_seq;
    uint64_t *older;
    size_t n_older;
};
MUST_CHECK
enum status session_hello(struct session *session, const char *run, const char *client,
                          uint64_t incarnation, struct hello *hello, struct refusal *refusal,
                          struct error *err);

/* Replies that were given, by session and request id; `known` false: it is new. */
MUST_CHECK
enum status session_replay(struct session *session, uint64_t id, uint64_t request,
                           struct hash128 digest, bool *known, struct ledger_reply *reply,
                           struct refusal *refusal, struct error *err);
MUST_CHECK
enum status session_remember(struct session *session, uint64_t id, uint64_t request,
                             const struct ledger_reply *reply, struct error *err);

/* ATTACH: rows [n] of the data set, or -1, for prompts given by content hash or by key. */
struct attach {
    const struct hash128 *prompts; /* [n], or NULL */
    const uint64_t *keys;          /* [n], or NULL */
    size_t n;
};
MUST_CHECK
enum status session_attach(struct session *session, uint64_t id, const struct attach *attach,
                           int64_t *rows, uint64_t counts[3], struct refusal *refusal,
                           struct error *err);

/* SUBMIT, encoded: reason [n] gets 0 for what joined the pool (or was there already). Refused as
 * busy if it was encoded by other statistics than those that are in force by now. */
struct submission {
    size_t n;
    const uint64_t *sids;                     /* [n] */
    const struct ledger_content *vectors;     /* [n] */
    const struct encode_reference *reference; /* that they were encoded by; NULL: none was needed */
};
MUST_CHECK
enum status session_submit(struct session *session, uint64_t id,
                           const struct submission *submission, unsigned char *reason,
                           struct refusal *refusal, struct error *err);

/* Vectors worth keeping that nobody SUBMITted; not those of statistics that are not durable. */
MUST_CHECK
enum status session_keep(struct session *session, const struct encode_reference *reference,
                         const struct ledger_content *vectors, size_t n, struct error *err);

/* The statistics that the first SUBMIT froze, or that of the data set; tokens 0: none yet. */
struct encode_reference session_reference(const struct session *session);

/* FETCH: the batch of `seq`, made and in the ledger if it is new. */
MUST_CHECK
enum status session_fetch(struct session *session, uint64_t id, uint64_t seq, size_t n,
                          struct ledger_batch *batch, struct refusal *refusal, struct error *err);

/* PEEK: the next k sids of the plan, *n <= k of them. */
MUST_CHECK
enum status session_peek(struct session *session, uint64_t id, size_t k, uint64_t *sids, size_t *n,
                         struct error *err);

struct feedback {
    uint64_t seq;
    size_t n;
    const uint64_t *sids;                  /* [n] */
    const struct ledger_rollout *rollouts; /* [n]; those with a reward that is not finite or a
                                              number below -1 are refused here */
};
struct feedback_counts {
    uint64_t accepted, duplicate, unknown, rejected;
};
MUST_CHECK
enum status session_feedback(struct session *session, uint64_t id, const struct feedback *feedback,
                             struct feedback_counts *counts, struct refusal *refusal,
                             struct error *err);

/*
 * SAVE: the state under `tag`; consumed_seq UINT64_MAX: not told. `state` (may be NULL) gets the
 * bytes that carry it elsewhere, at most SESSION_STATE_BYTES_MAX. They hold the batches from
 * consumed_seq on, at most the newest SESSION_STATE_BATCHES, with their rollouts; older ones are
 * known to this ledger only.
 */
#define SESSION_STATE_BYTES_MAX ((size_t)64 << 20)
#define SESSION_STATE_BATCHES 256
struct saved {
    uint64_t next_seq, bytes;
    struct hash128 hash;
};
MUST_CHECK
enum status session_save(struct session *session, uint64_t id, const char *tag,
                         uint64_t consumed_seq, struct saved *saved, struct text *state,
                         struct refusal *refusal, struct error *err);

enum restore_mode {
    RESTORE_STRICT, /* only into the same run under the same recipe */
    RESTORE_LOOSE,  /* another run name or recipe is accepted; another data set or SAE never */
};
struct restored {
    uint64_t next_seq, dropped_batches, dropped_rollouts;
};
/* By tag, or (tag NULL) from bytes [n]. */
MUST_CHECK
enum status session_restore(struct session *session, uint64_t id, const char *tag,
                            const void *bytes, size_t n, enum restore_mode mode,
                            struct restored *restored, struct refusal *refusal, struct error *err);

void session_bye(struct session *session, uint64_t id);

/* STATS: JSON members, without braces. */
void session_stats(const struct session *session, struct text *out);

/* For metrics: one line a run. */
struct session_run_figures {
    const char *name;
    uint64_t next_seq, consumed_seq, feedback_items, prompts_seen, pool;
    double pass_rate; /* posterior mean over the prompts seen; NaN without */
};
size_t session_runs(const struct session *session); /* and figures of the i-th */
struct session_run_figures session_run(const struct session *session, size_t i);

#endif
