#include "curator/ledger_schema.h"

/*
 * STRICT: a value of another type than its column's is an error when written. The order of columns
 * is the order of the checksum. What is found by its own key lies in it (WITHOUT ROWID): a
 * request's feedback is one stretch of the file.
 */
const char *const ledger_schema[] = {
    "CREATE TABLE identity(id INTEGER PRIMARY KEY, lineage INTEGER NOT NULL, created TEXT NOT NULL,"
    " version TEXT NOT NULL, config_hash TEXT NOT NULL, recipe TEXT NOT NULL,"
    " sae_hash TEXT NOT NULL, dataset TEXT NOT NULL, checksum BLOB NOT NULL) STRICT",
    "CREATE TABLE commits(id INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT",
    "CREATE TABLE facts(name TEXT NOT NULL UNIQUE, value TEXT NOT NULL, checksum BLOB NOT NULL)"
    " STRICT",
    "CREATE TABLE runs(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, next_seq INTEGER NOT "
    "NULL,"
    " consumed_seq INTEGER NOT NULL, event INTEGER NOT NULL, branch INTEGER NOT NULL,"
    " progress BLOB, checksum BLOB NOT NULL) STRICT",
    "CREATE TABLE blobs(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, name TEXT NOT NULL,"
    " bytes BLOB NOT NULL, checksum BLOB NOT NULL, UNIQUE(run, name)) STRICT",
    "CREATE TABLE sessions(id INTEGER PRIMARY KEY, run TEXT NOT NULL, client TEXT NOT NULL,"
    " incarnation INTEGER NOT NULL, opened TEXT NOT NULL, pruned INTEGER NOT NULL,"
    " checksum BLOB NOT NULL, UNIQUE(run, client, incarnation)) STRICT",
    "CREATE TABLE replies(session INTEGER NOT NULL, request INTEGER NOT NULL, digest BLOB NOT NULL,"
    " kind INTEGER NOT NULL, header TEXT, bytes BLOB, checksum BLOB NOT NULL,"
    " PRIMARY KEY(session, request)) STRICT, WITHOUT ROWID",
    "CREATE TABLE batches(run INTEGER NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL,"
    " prompts INTEGER NOT NULL, wanted INTEGER NOT NULL, exhausted INTEGER NOT NULL,"
    " fallback INTEGER NOT NULL, items TEXT NOT NULL, checksum BLOB NOT NULL,"
    " PRIMARY KEY(run, seq)) STRICT, WITHOUT ROWID",
    "CREATE TABLE feedback(run INTEGER NOT NULL, seq INTEGER NOT NULL, sid INTEGER NOT NULL,"
    " last_event INTEGER NOT NULL, rollouts INTEGER NOT NULL, reward_sum REAL NOT NULL,"
    " reward_min REAL NOT NULL, reward_max REAL NOT NULL, items TEXT NOT NULL,"
    " checksum BLOB NOT NULL, PRIMARY KEY(run, seq, sid)) STRICT, WITHOUT ROWID",
    "CREATE INDEX feedback_event ON feedback(run, last_event)",
    "CREATE TABLE prompts(run INTEGER NOT NULL, slot INTEGER NOT NULL, sid INTEGER NOT NULL,"
    " a REAL NOT NULL,"
    " b REAL NOT NULL, group_count INTEGER NOT NULL, rollouts INTEGER NOT NULL,"
    " reward_sum REAL NOT NULL, flat_groups INTEGER NOT NULL, flat_reward REAL NOT NULL,"
    " last_seq INTEGER NOT NULL, checksum BLOB NOT NULL, PRIMARY KEY(run, slot))"
    " STRICT, WITHOUT ROWID",
    "CREATE TABLE snapshots(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, tag TEXT NOT NULL,"
    " next_seq INTEGER NOT NULL, consumed_seq INTEGER NOT NULL, event INTEGER NOT NULL,"
    " hash BLOB NOT NULL, saved TEXT NOT NULL, tag_check INTEGER NOT NULL, state BLOB NOT NULL,"
    " checksum BLOB NOT NULL, UNIQUE(run, tag)) STRICT",
    "CREATE TABLE contents(id INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE,"
    " prompt BLOB UNIQUE, outcome INTEGER NOT NULL, tokens_used INTEGER NOT NULL, recon_mean REAL,"
    " recon_max REAL, n INTEGER NOT NULL, latents BLOB NOT NULL, codes BLOB NOT NULL,"
    " checksum BLOB NOT NULL) STRICT",
    "CREATE TABLE pool(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, sid INTEGER NOT NULL,"
    " content BLOB NOT NULL, prompt BLOB, checksum BLOB NOT NULL, UNIQUE(run, sid, content)) "
    "STRICT",
    "CREATE TABLE dataset(row INTEGER PRIMARY KEY, key TEXT NOT NULL, id TEXT NOT NULL,"
    " kept INTEGER NOT NULL, cluster INTEGER, quality REAL, difficulty REAL, position INTEGER,"
    " checksum BLOB NOT NULL) STRICT",
    "CREATE TABLE suspects(run INTEGER NOT NULL, sid INTEGER NOT NULL, answer TEXT NOT NULL,"
    " rollouts INTEGER NOT NULL, agreeing INTEGER NOT NULL, neighbour_rate REAL,"
    " checksum BLOB NOT NULL, PRIMARY KEY(run, sid)) STRICT, WITHOUT ROWID",
    "CREATE TABLE rewinds(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, branch INTEGER NOT NULL,"
    " at TEXT NOT NULL, next_seq INTEGER NOT NULL, event INTEGER NOT NULL, batches INTEGER NOT "
    "NULL,"
    " rollouts INTEGER NOT NULL, checksum BLOB NOT NULL, UNIQUE(run, branch)) STRICT",
    "CREATE TABLE abandoned_batches(id INTEGER PRIMARY KEY, run INTEGER NOT NULL,"
    " branch INTEGER NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL,"
    " prompts INTEGER NOT NULL, wanted INTEGER NOT NULL, exhausted INTEGER NOT NULL,"
    " fallback INTEGER NOT NULL, items TEXT NOT NULL, checksum BLOB NOT NULL) STRICT",
    "CREATE TABLE abandoned_feedback(id INTEGER PRIMARY KEY, run INTEGER NOT NULL,"
    " branch INTEGER NOT NULL, seq INTEGER NOT NULL, sid INTEGER NOT NULL,"
    " last_event INTEGER NOT NULL, rollouts INTEGER NOT NULL, reward_sum REAL NOT NULL,"
    " reward_min REAL NOT NULL, reward_max REAL NOT NULL, items TEXT NOT NULL,"
    " checksum BLOB NOT NULL) STRICT",
    "CREATE TABLE abandoned_snapshots(id INTEGER PRIMARY KEY, run INTEGER NOT NULL,"
    " branch INTEGER NOT NULL, tag TEXT NOT NULL, next_seq INTEGER NOT NULL,"
    " consumed_seq INTEGER NOT NULL, event INTEGER NOT NULL, hash BLOB NOT NULL,"
    " saved TEXT NOT NULL, checksum BLOB NOT NULL) STRICT",

    "CREATE VIEW prompt_progress AS SELECT r.name AS run, p.sid AS sid,"
    " json_extract(d.id, '$') AS id, d.key AS key, d.cluster AS cluster,"
    " d.difficulty AS predicted_difficulty, p.group_count AS groups, p.rollouts AS rollouts,"
    " p.reward_sum / nullif(p.rollouts, 0) AS mean_reward, p.a / (p.a + p.b) AS posterior_mean,"
    " sqrt(p.a * p.b / (p.a + p.b + 1)) / (p.a + p.b) AS posterior_sd,"
    " p.flat_groups AS flat_groups, p.last_seq AS last_seq"
    " FROM prompts p JOIN runs r ON r.id = p.run LEFT JOIN dataset d ON d.row = p.sid",
    "CREATE VIEW cluster_pass_rate AS SELECT run, cluster, count(*) AS prompts,"
    " sum(rollouts) AS rollouts, sum(mean_reward * rollouts) / nullif(sum(rollouts), 0)"
    " AS mean_reward, avg(posterior_mean) AS posterior_mean,"
    " avg(predicted_difficulty) AS predicted_difficulty FROM prompt_progress"
    " GROUP BY run, cluster",
    "CREATE VIEW batch_prompts AS SELECT r.name AS run, b.seq AS seq, i.key AS position,"
    " json_extract(i.value, '$[0]') AS sid, json_extract(i.value, '$[1]') AS difficulty,"
    " json_extract(i.value, '$[2]') AS cluster"
    " FROM batches b JOIN runs r ON r.id = b.run, json_each(b.items) i",
    "CREATE VIEW rollouts AS SELECT r.name AS run, f.seq AS seq, f.sid AS sid,"
    " json_extract(i.value, '$[0]') AS rollout, json_extract(i.value, '$[1]') AS reward,"
    " json_extract(i.value, '$[2]') AS length, json_extract(i.value, '$[3]') AS answer,"
    " json_extract(i.value, '$[4]') AS event"
    " FROM feedback f JOIN runs r ON r.id = f.run, json_each(f.items) i",
    "CREATE VIEW batch_reward AS SELECT r.name AS run, f.seq AS seq, count(*) AS prompts,"
    " sum(f.rollouts) AS rollouts, sum(f.reward_sum) / sum(f.rollouts) AS mean_reward,"
    " avg(f.reward_min = f.reward_max) AS zero_variance"
    " FROM feedback f JOIN runs r ON r.id = f.run GROUP BY r.name, f.seq",
    "CREATE VIEW suspect_reference AS SELECT r.name AS run, s.sid AS sid,"
    " json_extract(d.id, '$') AS id, s.answer AS answer, s.rollouts AS rollouts,"
    " s.agreeing AS agreeing, 1.0 * s.agreeing / s.rollouts AS share,"
    " s.neighbour_rate AS neighbour_rate"
    " FROM suspects s JOIN runs r ON r.id = s.run LEFT JOIN dataset d ON d.row = s.sid",
    NULL,
};

/* Column list and as many question marks, the checksum's included. */
#define TABLE(name, columns, parameters, key, n_keys)                                              \
    {                                                                                              \
        name, "SELECT " columns ", checksum FROM " name,                                           \
            "INSERT OR IGNORE INTO " name "(" columns ", checksum) VALUES (" parameters ")", key,  \
            n_keys                                                                                 \
    }

const struct ledger_table ledger_tables[] = {
    TABLE("identity", "id, lineage, created, version, config_hash, recipe, sae_hash, dataset",
          "?, ?, ?, ?, ?, ?, ?, ?, ?", "id", 1),
    TABLE("facts", "name, value", "?, ?, ?", "rowid", 1),
    TABLE("runs", "id, name, next_seq, consumed_seq, event, branch, progress",
          "?, ?, ?, ?, ?, ?, ?, ?", "id", 1),
    TABLE("blobs", "run, name, bytes", "?, ?, ?, ?", "rowid", 1),
    TABLE("sessions", "id, run, client, incarnation, opened, pruned", "?, ?, ?, ?, ?, ?, ?", "id",
          1),
    TABLE("replies", "session, request, digest, kind, header, bytes", "?, ?, ?, ?, ?, ?, ?",
          "session, request", 2),
    TABLE("batches", "run, seq, epoch, prompts, wanted, exhausted, fallback, items",
          "?, ?, ?, ?, ?, ?, ?, ?, ?", "run, seq", 2),
    TABLE("feedback",
          "run, seq, sid, last_event, rollouts, reward_sum, reward_min, reward_max, items",
          "?, ?, ?, ?, ?, ?, ?, ?, ?, ?", "run, seq, sid", 3),
    TABLE("prompts",
          "run, slot, sid, a, b, group_count, rollouts, reward_sum, flat_groups, flat_reward, "
          "last_seq",
          "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?", "run, slot", 2),
    TABLE("snapshots", "run, tag, next_seq, consumed_seq, event, hash, saved, tag_check, state",
          "?, ?, ?, ?, ?, ?, ?, ?, ?, ?", "rowid", 1),
    TABLE("contents",
          "content, prompt, outcome, tokens_used, recon_mean, recon_max, n, latents, codes",
          "?, ?, ?, ?, ?, ?, ?, ?, ?, ?", "rowid", 1),
    TABLE("pool", "run, sid, content, prompt", "?, ?, ?, ?, ?", "rowid", 1),
    TABLE("dataset", "row, key, id, kept, cluster, quality, difficulty, position",
          "?, ?, ?, ?, ?, ?, ?, ?, ?", "row", 1),
    TABLE("suspects", "run, sid, answer, rollouts, agreeing, neighbour_rate", "?, ?, ?, ?, ?, ?, ?",
          "run, sid", 2),
    TABLE("rewinds", "run, branch, at, next_seq, event, batches, rollouts",
          "?, ?, ?, ?, ?, ?, ?, ?", "rowid", 1),
    TABLE("abandoned_batches",
          "run, branch, seq, epoch, prompts, wanted, exhausted, fallback, items",
          "?, ?, ?, ?, ?, ?, ?, ?, ?, ?", "rowid", 1),
    TABLE("abandoned_feedback",
          "run, branch, seq, sid, last_event, rollouts, reward_sum, reward_min, reward_max, items",
          "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?", "rowid", 1),
    TABLE("abandoned_snapshots", "run, branch, tag, next_seq, consumed_seq, event, hash, saved",
          "?, ?, ?, ?, ?, ?, ?, ?, ?", "rowid", 1),
};

const size_t ledger_n_tables = sizeof(ledger_tables) / sizeof(*ledger_tables);

const struct ledger_small_table ledger_small_tables[] = {
    {"runs",
     "SELECT id, name, next_seq, consumed_seq, event, branch, progress, checksum FROM runs"},
    {"sessions", "SELECT id, run, client, incarnation, opened, pruned, checksum FROM sessions"},
    {"blobs", "SELECT run, name, bytes, checksum FROM blobs"},
    {"facts", "SELECT name, value, checksum FROM facts"},
    {"rewinds",
     "SELECT run, branch, at, next_seq, event, batches, rollouts, checksum FROM rewinds"},
    {NULL, NULL},
};
