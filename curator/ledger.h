/*
 * curator/ledger.h - the sidecar's durable state: one SQLite database a person can open and ask.
 *
 *     STATE/ledger.db     WAL, synchronous FULL: a committed transaction survives power loss
 *     STATE/ledger.mark   how many transactions were acknowledged: without it a damaged WAL would
 *                         look like a short one
 *     STATE/lock          flock, and the pid of whoever holds it
 *
 * Schema, views and what may be asked: docs/state.md. Whoever holds a ledger holds STATE/lock. One
 * thread, but a second ledger opened with LEDGER_READ may look up contents from another one. Every
 * call but the open ones and begin, commit, rollback happens inside a transaction. After a failed
 * commit or a rollback the caller reloads what it keeps in memory: the database is the truth.
 *
 * STATUS_IO: disk full, read-only, an I/O error (SQLite's words in the message). STATUS_FORMAT at
 * any time: a row is damaged. ledger_broken() tells those after which the process must leave, since
 * what was written cannot be known.
 *
 * Numbers of 64 bits without sign are stored as SQLite's signed ones: sids, keys and incarnations
 * from 2^63 on look negative there. Sequence, request and event numbers stay below 2^63.
 */
#ifndef CURATOR_LEDGER_H
#define CURATOR_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"

struct ledger;

enum ledger_mode {
    LEDGER_WRITE,
    LEDGER_READ,    /* a second connection, for ledger_content_find only */
    LEDGER_SALVAGE, /* move a damaged database aside, keep every row that can still be read */
};

/*
 * What the state belongs to. A state of another identity is STATUS_CONFLICT, naming the first line
 * of the recipe (or the input) that differs. NULL in LEDGER_READ.
 */
struct ledger_identity {
    const char *config_hash; /* 32 hex digits: all that plan and scores depend on */
    const char *recipe;      /* the lock, YAML, only for naming what differs */
    const char *sae_hash;    /* "" without */
    const char *dataset;     /* fingerprint, "" without */
};

/*
 * Creates `dir` (0700, parents by the umask); an existing one keeps its mode, files are 0600.
 *
 * STATUS_CONFLICT: locked (names the pid), or another identity. STATUS_FORMAT: damaged, or gone
 * although there was one, with the one command that would salvage it; a newer schema is
 * STATUS_UNSUPPORTED. Up to 64 MiB the whole database is looked through, beyond that its schema and
 * the small tables are. LEDGER_SALVAGE leaves a sound database as it is, else says in the log what
 * could be kept; the damaged files stay as ledger.db.damaged-1, -2, ...
 */
MUST_CHECK
enum status ledger_open(struct ledger **ledger, const char *dir,
                        const struct ledger_identity *identity, enum ledger_mode mode,
                        const struct log *log, struct error *err);
void ledger_close(struct ledger *ledger); /* checkpoints; accepts NULL */

/*
 * For whoever is about to put something into `dir`: is there a ledger of another configuration?
 * Takes no lock and changes nothing. One that cannot be read is not judged here: ledger_open() says
 * what is wrong with it.
 */
MUST_CHECK
enum status ledger_look(const char *dir, const char *config_hash, bool *other, struct error *err);

MUST_CHECK enum status ledger_begin(struct ledger *ledger, struct error *err);
MUST_CHECK enum status ledger_commit(struct ledger *ledger, struct error *err);
void ledger_rollback(struct ledger *ledger);

/*
 * A savepoint inside the transaction: back to the latest mark, which stays. After STATUS_IO from
 * undo nothing of the transaction is left (SQLite gave it up, on a full disk for one).
 */
MUST_CHECK enum status ledger_mark(struct ledger *ledger, struct error *err);
MUST_CHECK enum status ledger_undo(struct ledger *ledger, struct error *err);

bool ledger_broken(const struct ledger *ledger);

/* A random number drawn when the state was made: tells one state's history from another's. */
uint64_t ledger_lineage(const struct ledger *ledger);

/* Small values by name: the frozen norm statistics and the like. *value NULL: not there; mem_free
 * it. */
MUST_CHECK enum status ledger_value_get(struct ledger *ledger, const char *key, char **value,
                                        struct error *err);
MUST_CHECK enum status ledger_value_put(struct ledger *ledger, const char *key, const char *value,
                                        struct error *err);

/*
 * Sessions. The number for (run, client, incarnation), made if new (1, 2, ...); *highest is the
 * highest incarnation ever seen of that (run, client), the new one included if it is.
 * older [n_older] are the sessions of lower incarnations, to be fenced; mem_free it.
 */
MUST_CHECK
enum status ledger_session(struct ledger *ledger, const char *run, const char *client,
                           uint64_t incarnation, uint64_t *session, uint64_t *highest,
                           uint64_t **older, size_t *n_older, struct error *err);

/* Replies for retries: at least the newest LEDGER_REPLIES a session, at most an eighth more. */
#define LEDGER_REPLIES 1024

struct ledger_reply {
    struct hash128 digest; /* of the request */
    uint16_t kind;
    char *header;         /* JSON members; NULL: the kind answers a retry by itself */
    unsigned char *bytes; /* of its one u8 tensor, or NULL */
    size_t n_bytes;
};
void ledger_reply_release(struct ledger_reply *reply);

enum ledger_reply_state {
    LEDGER_REPLY_NEW,     /* never seen */
    LEDGER_REPLY_KNOWN,   /* *reply holds what was answered */
    LEDGER_REPLY_TOO_OLD, /* below the window: cannot be told from one that was applied */
};
MUST_CHECK
enum status ledger_reply_find(struct ledger *ledger, uint64_t session, uint64_t request,
                              enum ledger_reply_state *state, struct ledger_reply *reply,
                              struct error *err);
/* STATUS_INVALID: `request` is 2^63 or more. */
MUST_CHECK
enum status ledger_reply_put(struct ledger *ledger, uint64_t session, uint64_t request,
                             const struct ledger_reply *reply, struct error *err);

/* Runs: the curriculum of one trainer. `progress` is opaque here: where in the plan it stands. */
struct ledger_run {
    int64_t id; /* 0: not in the ledger yet */
    char *name;
    uint64_t next_seq, consumed_seq;
    uint64_t event;  /* feedback requests, and SUBMITs that added to the pool, applied so far */
    uint64_t branch; /* rewinds so far: ledger_rewind() counts it, ledger_run_put() leaves it */
    void *progress;
    size_t n_progress;
};
void ledger_run_release(struct ledger_run *run);
MUST_CHECK
enum status ledger_runs(struct ledger *ledger, struct ledger_run **runs, size_t *n,
                        struct error *err);
/* Insert (id 0: it is set) or update all but name and branch. */
MUST_CHECK
enum status ledger_run_put(struct ledger *ledger, struct ledger_run *run, struct error *err);

/* Larger pieces of a run's state, opaque here, by name: "plan", "refit". n 0 removes it. */
MUST_CHECK
enum status ledger_blob_put(struct ledger *ledger, int64_t run, const char *name, const void *bytes,
                            size_t n, struct error *err);
/* *bytes NULL: none; mem_free it. STATUS_FORMAT: its checksum does not hold. */
MUST_CHECK
enum status ledger_blob_get(struct ledger *ledger, int64_t run, const char *name, void **bytes,
                            size_t *n, struct error *err);

/* Issued batches. */
struct ledger_batch {
    uint64_t seq, epoch;
    size_t n, n_wanted; /* sids there are, and how many were asked for */
    bool exhausted, fallback;
    uint64_t *sids;    /* [n] */
    float *difficulty; /* [n] */
    int32_t *cluster;  /* [n] */
};
void ledger_batch_release(struct ledger_batch *batch);
/* *found false: no such batch. STATUS_FORMAT: its checksum does not hold, or it is not there
 * although the run's next_seq is beyond it. */
MUST_CHECK
enum status ledger_batch_get(struct ledger *ledger, int64_t run, uint64_t seq, bool *found,
                             struct ledger_batch *batch, struct error *err);
/* STATUS_INVALID: there is one. A difficulty that is not finite comes back as NaN. */
MUST_CHECK
enum status ledger_batch_put(struct ledger *ledger, int64_t run, const struct ledger_batch *batch,
                             struct error *err);

/* Feedback: one rollout. */
struct ledger_rollout {
    int32_t rollout; /* -1: not numbered, never a duplicate */
    float reward;
    int32_t length;  /* tokens, -1: not told */
    uint64_t answer; /* hash of the extracted answer, 0: none */
};

#define LEDGER_ROLLOUTS_MAX 65536 /* of one prompt in one batch */

/* What became of a rollout. */
enum ledger_rollout_fate {
    LEDGER_ROLLOUT_DUPLICATE = 0, /* its number was there already */
    LEDGER_ROLLOUT_ADDED = 1,
    LEDGER_ROLLOUT_REFUSED = 2, /* reward not finite, number below -1, or LEDGER_ROLLOUTS_MAX */
};

/*
 * Add rollouts [n] of one prompt in one batch. fate [n] is one of enum ledger_rollout_fate each.
 * *first: nothing was known of (run, seq, sid) before.
 * Cost: what is there is read again, so that a prompt's rollouts are best sent together.
 */
MUST_CHECK
enum status ledger_feedback_add(struct ledger *ledger, int64_t run, uint64_t seq, uint64_t sid,
                                uint64_t event, const struct ledger_rollout *rollouts, size_t n,
                                unsigned char *fate, bool *first, struct error *err);

/*
 * Every rollout of a run, by (sid, seq), each prompt's in the order they came. Borrowed until the
 * visit returns; a visit that fails ends it. It may read other parts of the ledger.
 * Cost: the table is read once for each 2 million rollouts; that many are in memory.
 */
typedef enum status ledger_rollout_visit(void *context, uint64_t sid, uint64_t seq,
                                         const struct ledger_rollout *rollouts, size_t n,
                                         struct error *err);
MUST_CHECK
enum status ledger_feedback_each(struct ledger *ledger, int64_t run, ledger_rollout_visit *visit,
                                 void *context, struct error *err);

/* The same for one batch, ascending by sid. */
MUST_CHECK
enum status ledger_feedback_batch(struct ledger *ledger, int64_t run, uint64_t seq,
                                  ledger_rollout_visit *visit, void *context, struct error *err);

/* What is known of a prompt: the Beta posterior over its pass rate (docs/method.md, section 7). */
struct ledger_prompt {
    /* Its place in the table, counted from 0 as prompts are first heard of. Batches come again in
     * the order of the plan, so that their prompts lie side by side: by sid, each would dirty a
     * page of its own. */
    uint64_t slot;
    uint64_t sid;
    double a, b;
    uint64_t groups, rollouts;
    double reward_sum;
    uint32_t flat_groups; /* in a row whose rewards were all the same */
    float flat_reward;    /* what they were in the last group */
    uint64_t last_seq;
};
MUST_CHECK
enum status ledger_prompt_put(struct ledger *ledger, int64_t run,
                              const struct ledger_prompt *prompt, struct error *err);
MUST_CHECK
enum status ledger_prompts(struct ledger *ledger, int64_t run, struct ledger_prompt **prompts,
                           size_t *n, struct error *err);

/* Snapshots: `state` is opaque here. */
struct ledger_snapshot {
    uint64_t next_seq, consumed_seq, event;
    struct hash128 hash; /* of state */
    void *state;
    size_t n_state;
};
void ledger_snapshot_release(struct ledger_snapshot *snapshot);
MUST_CHECK
enum status ledger_snapshot_put(struct ledger *ledger, int64_t run, const char *tag,
                                const struct ledger_snapshot *snapshot, struct error *err);
MUST_CHECK
enum status ledger_snapshot_get(struct ledger *ledger, int64_t run, const char *tag, bool *found,
                                struct ledger_snapshot *snapshot, struct error *err);

/*
 * Go back: batches from next_seq on and rollouts of events after `event` leave for the tables
 * abandoned_batches and abandoned_feedback (kept for audits, never counted), and the prompts table
 * is replaced by `prompts` [n]. Snapshots of a later moment go as well: what they stand on is gone.
 * The run's branch is counted up; its other numbers are for ledger_run_put().
 */
MUST_CHECK
enum status ledger_rewind(struct ledger *ledger, int64_t run, uint64_t next_seq, uint64_t event,
                          const struct ledger_prompt *prompts, size_t n, uint64_t *dropped_batches,
                          uint64_t *dropped_rollouts, struct error *err);

/*
 * Does the moment (next_seq, event) of branch `branch` lie on the run's present history? Not if the
 * run went back beyond it since: for snapshots that a trainer kept itself.
 */
MUST_CHECK
enum status ledger_reaches(struct ledger *ledger, int64_t run, uint64_t branch, uint64_t next_seq,
                           uint64_t event, bool *reaches, struct error *err);

/* Contents: what an encoded sample became, by what was encoded. */
struct ledger_content {
    struct hash128 content; /* of activations and mask (or the features, as given) */
    struct hash128 prompt;  /* of the prompt's text; zero: none */
    unsigned char outcome;  /* enum encode_outcome */
    uint32_t tokens_used;
    float recon_mean, recon_max; /* NaN: not computed */
    uint32_t *indices;           /* [n] */
    float *values;               /* [n] */
    size_t n;
};
void ledger_content_release(struct ledger_content *content);
/* By prompt if it is not zero and is there, else by content. Also in LEDGER_READ, without a
 * transaction. */
MUST_CHECK
enum status ledger_content_find(struct ledger *ledger, struct hash128 content,
                                struct hash128 prompt, bool *found, struct ledger_content *out,
                                struct error *err);
/* Nothing happens if its content or its prompt is there. */
MUST_CHECK
enum status ledger_content_put(struct ledger *ledger, const struct ledger_content *content,
                               struct error *err);

/* The pool: what a run SUBMITted, in order of arrival. (sid, content) twice counts once. */
struct ledger_pooled {
    uint64_t sid;
    struct hash128 content, prompt; /* as in ledger_content */
};
MUST_CHECK
enum status ledger_pool_add(struct ledger *ledger, int64_t run, const struct ledger_pooled *pooled,
                            struct error *err);
/* Newest last. */
MUST_CHECK
enum status ledger_pool(struct ledger *ledger, int64_t run, struct ledger_pooled **pooled,
                        size_t *n, struct error *err);

/* Only the first `keep` stay: back to an earlier state. */
MUST_CHECK
enum status ledger_pool_cut(struct ledger *ledger, int64_t run, size_t keep, struct error *err);

/* The data set's rows, for the views; where they are there already, nothing is written. */
struct ledger_row {
    uint64_t row, key;
    const char *id; /* JSON text */
    bool kept;
    int32_t cluster;            /* -1: none */
    double quality, difficulty; /* NaN: none */
    int64_t position;           /* in the plan, -1: none */
};
MUST_CHECK
enum status ledger_rows_put(struct ledger *ledger, const struct ledger_row *rows, size_t n,
                            struct error *err);

/* Suspect references (docs/method.md, section 7), replaced as a whole. */
struct ledger_suspect {
    uint64_t sid, answer;
    uint32_t rollouts, agreeing;
    double neighbour_rate; /* pass rate of its SAE neighbours */
};
MUST_CHECK
enum status ledger_suspects_put(struct ledger *ledger, int64_t run,
                                const struct ledger_suspect *suspects, size_t n, struct error *err);

uint64_t ledger_bytes(const struct ledger *ledger); /* of database and WAL */

#endif
