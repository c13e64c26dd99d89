#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "curator/ledger_state.h"

void ledger_content_release(struct ledger_content *content)
{
    mem_free(content->indices);
    mem_free(content->values);
    *content = (struct ledger_content){0};
}

static enum status read_content(struct ledger_content *out, const struct statement *st,
                                struct error *err)
{
    enum status status = statement_verify(st, "contents", err);
    size_t n_indices, n_values;

    if (status)
        return status;
    *out = (struct ledger_content){
        .content = column_hash(st, 0),
        .prompt = column_hash(st, 1),
        .outcome = (unsigned char)column_i64(st, 2),
        .tokens_used = (uint32_t)column_i64(st, 3),
        .recon_mean = (float)column_double(st, 4),
        .recon_max = (float)column_double(st, 5),
        .n = column_u64(st, 6),
    };
    status = ledger_copy_bytes((void **)&out->indices, &n_indices, st, 7, err);
    if (!status)
        status = ledger_copy_bytes((void **)&out->values, &n_values, st, 8, err);
    if (!status && (n_indices / sizeof(*out->indices) != out->n || n_values != n_indices))
        status = error_set(err, STATUS_FORMAT, "contents: %zu latents in %zu and %zu bytes", out->n,
                           n_indices, n_values);
    return status;
}

static enum status find_content(struct ledger *ledger, const char *sql, struct hash128 key,
                                bool *found, struct ledger_content *out, struct error *err)
{
    struct statement *st = database_statement(ledger->db, sql, err);
    enum status status;

    if (!st)
        return database_status(ledger->db);
    bind_hash(st, key);
    status = statement_step(st, found, err);
    if (!status && *found)
        status = read_content(out, st, err);
    statement_reset(st); /* in LEDGER_READ it would hold on to the WAL */
    if (status) {
        ledger_content_release(out);
        *found = false;
    }
    return status;
}

#define SELECT_CONTENT                                                                             \
    "SELECT content, prompt, outcome, tokens_used, recon_mean, recon_max, n, latents, codes,"      \
    " checksum FROM contents"

enum status ledger_content_find(struct ledger *ledger, struct hash128 content,
                                struct hash128 prompt, bool *found, struct ledger_content *out,
                                struct error *err)
{
    static const char by_prompt[] = SELECT_CONTENT " WHERE prompt = ?";
    static const char by_content[] = SELECT_CONTENT " WHERE content = ?";
    enum status status = STATUS_OK;

    *found = false;
    *out = (struct ledger_content){0};
    if (ledger->mode != LEDGER_READ)
        status = ledger_ready(ledger, err);
    if (!status && (prompt.high || prompt.low))
        status = find_content(ledger, by_prompt, prompt, found, out, err);
    if (!status && !*found)
        status = find_content(ledger, by_content, content, found, out, err);
    return status;
}

enum status ledger_content_put(struct ledger *ledger, const struct ledger_content *content,
                               struct error *err)
{
    static const char sql[] =
        "INSERT OR IGNORE INTO contents(content, prompt, outcome, tokens_used, recon_mean,"
        " recon_max, n, latents, codes, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);

    if (status)
        return status;
    bind_hash(st, content->content);
    bind_hash_or_null(st, content->prompt);
    bind_i64(st, content->outcome);
    bind_i64(st, content->tokens_used);
    bind_double(st, (double)content->recon_mean);
    bind_double(st, (double)content->recon_max);
    bind_u64(st, content->n);
    bind_bytes(st, content->n ? (const void *)content->indices : "",
               content->n * sizeof(*content->indices));
    bind_bytes(st, content->n ? (const void *)content->values : "",
               content->n * sizeof(*content->values));
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_pool_add(struct ledger *ledger, int64_t run, const struct ledger_pooled *pooled,
                            struct error *err)
{
    static const char sql[] = "INSERT OR IGNORE INTO pool(run, sid, content, prompt, checksum)"
                              " VALUES (?, ?, ?, ?, ?)";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);

    if (status)
        return status;
    bind_i64(st, run);
    bind_u64(st, pooled->sid);
    bind_hash(st, pooled->content);
    bind_hash_or_null(st, pooled->prompt);
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_pool(struct ledger *ledger, int64_t run, struct ledger_pooled **pooled,
                        size_t *n, struct error *err)
{
    static const char sql[] = "SELECT run, sid, content, prompt, checksum FROM pool WHERE run = ?"
                              " ORDER BY id";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);
    size_t capacity = 0;

    *pooled = NULL;
    *n = 0;
    if (status)
        return status;
    bind_i64(st, run);
    for (bool row = true; !status && row;) {
        status = statement_step(st, &row, err);
        if (status || !row)
            break;
        status = statement_verify(st, "pool", err);
        if (!status && !mem_grow((void **)pooled, &capacity, *n + 1, sizeof(**pooled)))
            status = error_nomem(err);
        if (!status)
            (*pooled)[(*n)++] = (struct ledger_pooled){
                .sid = column_u64(st, 1),
                .content = column_hash(st, 2),
                .prompt = column_hash(st, 3),
            };
    }
    statement_reset(st);
    if (status) {
        mem_free(*pooled);
        *pooled = NULL;
        *n = 0;
    }
    return status;
}

enum status ledger_pool_cut(struct ledger *ledger, int64_t run, size_t keep, struct error *err)
{
    static const char sql[] = "DELETE FROM pool WHERE run = ?1 AND id >="
                              " (SELECT id FROM pool WHERE run = ?1 ORDER BY id LIMIT 1 OFFSET ?2)";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);

    if (status)
        return status;
    bind_i64(st, run);
    bind_u64(st, keep);
    return statement_run(st, err);
}

static enum status put_row(struct ledger *ledger, const struct ledger_row *row, struct error *err)
{
    static const char sql[] = "INSERT INTO dataset VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    struct statement *st = database_statement(ledger->db, sql, err);
    char key[17];

    if (!st)
        return database_status(ledger->db);
    snprintf(key, sizeof(key), "%016llx", (unsigned long long)row->key);
    bind_u64(st, row->row);
    bind_string(st, key);
    bind_string(st, row->id);
    bind_i64(st, row->kept);
    bind_i64_or_null(st, row->cluster);
    bind_double(st, row->quality);
    bind_double(st, row->difficulty);
    bind_i64_or_null(st, row->position);
    bind_checksum(st);
    return statement_run(st, err);
}

/* Tells a data set from another, so that a start need not write it again. */
static void digest_rows(const struct ledger_row *rows, size_t n, char hex[HASH128_HEX_SIZE])
{
    struct hash128 hash = {.high = n};

    for (size_t i = 0; i < n; i++) {
        struct {
            struct hash128 before;
            uint64_t row, key, kept, id;
            int64_t cluster, position;
            double quality, difficulty;
        } link = {.before = hash,
                  .row = rows[i].row,
                  .key = rows[i].key,
                  .kept = rows[i].kept,
                  .id = hash64(rows[i].id, strlen(rows[i].id), 0),
                  .cluster = rows[i].cluster,
                  .position = rows[i].position,
                  .quality = isnan(rows[i].quality) ? (double)NAN : rows[i].quality,
                  .difficulty = isnan(rows[i].difficulty) ? (double)NAN : rows[i].difficulty};

        hash = hash128(&link, sizeof(link));
    }
    hash128_hex(hash, hex);
}

enum status ledger_rows_put(struct ledger *ledger, const struct ledger_row *rows, size_t n,
                            struct error *err)
{
    static const char fact[] = "dataset rows"; /* no caller's: theirs have no blanks */
    char digest[HASH128_HEX_SIZE], *there;
    enum status status = ledger_value_get(ledger, fact, &there, err);
    bool same;

    if (status)
        return status;
    digest_rows(rows, n, digest);
    same = there && strcmp(there, digest) == 0;
    mem_free(there);
    if (same)
        return STATUS_OK;
    status = database_script(ledger->db, "DELETE FROM dataset", err);
    for (size_t i = 0; !status && i < n; i++)
        status = put_row(ledger, &rows[i], err);
    if (!status)
        status = ledger_value_put(ledger, fact, digest, err);
    return status;
}
