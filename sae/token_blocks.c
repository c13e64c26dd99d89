#include "sae/token_blocks.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"

/* One block and the storage behind it. */
struct slot {
    struct token_block block;
    struct matrix x;
};

struct token_blocks {
    struct token_blocks_config config;
    const struct sae *sae;             /* of the workspaces; config.sae may be NULL all the same */
    struct slot *slots;                /* [n_workers] */
    struct sae_workspace **workspaces; /* [n_workers], all NULL without an SAE */
    size_t n_workers;
    size_t n_slots;       /* slots in use, those of a round */
    uint64_t at;          /* the first token not yet read */
    size_t n_ready, next; /* slots of this round; the one to hand out next */
};

enum status token_blocks_check_width(const struct sae *sae, const struct activations *activations,
                                     struct error *err)
{
    size_t d_in = activations_d_in(activations);

    if (sae->d_in == d_in)
        return STATUS_OK;
    return error_set(err, STATUS_INVALID,
                     "SAE '%s' reads activations %zu wide (d_in), those in '%s' are %zu wide",
                     sae->path ? sae->path : "(no name)", sae->d_in, activations_path(activations),
                     d_in);
}

static enum status slot_init(struct slot *slot, const struct token_blocks_config *config,
                             struct error *err)
{
    struct token_block *block = &slot->block;
    size_t n = config->block_tokens;
    enum status st = matrix_init(&slot->x, n, activations_d_in(config->activations), err);

    if (st)
        return st;
    block->state = mem_alloc(n, sizeof(*block->state));
    block->norm = mem_alloc(n, sizeof(*block->norm));
    block->row = mem_alloc(n, sizeof(*block->row));
    block->errors = mem_alloc(n, sizeof(*block->errors));
    if (!block->state || !block->norm || !block->row || !block->errors)
        return error_nomem(err);
    return STATUS_OK;
}

static void slot_release(struct slot *slot)
{
    matrix_release(&slot->x);
    mem_free(slot->block.state);
    mem_free(slot->block.norm);
    mem_free(slot->block.row);
    mem_free(slot->block.errors);
    csr_release(&slot->block.codes);
    *slot = (struct slot){0};
}

/* Room for a block of this config, that of an earlier one if it is enough. */
static enum status slot_reserve(struct slot *slot, const struct token_blocks_config *config,
                                struct error *err)
{
    enum status st;

    if (slot->x.rows >= config->block_tokens &&
        slot->x.cols == activations_d_in(config->activations))
        return STATUS_OK;
    slot_release(slot);
    st = slot_init(slot, config, err);
    if (st)
        slot_release(slot);
    return st;
}

void token_blocks_free(struct token_blocks *blocks)
{
    if (!blocks)
        return;
    for (size_t i = 0; blocks->slots && i < blocks->n_workers; i++)
        slot_release(&blocks->slots[i]);
    for (size_t i = 0; blocks->workspaces && i < blocks->n_workers; i++)
        sae_workspace_free(blocks->workspaces[i]);
    mem_free(blocks->slots);
    mem_free(blocks->workspaces);
    mem_free(blocks);
}

static enum status init_parts(struct token_blocks *b, const struct token_blocks_config *config,
                              struct error *err)
{
    enum status st = STATUS_OK;

    b->sae = config->sae;
    b->n_workers = workers_count(config->workers);
    b->slots = mem_zalloc(b->n_workers, sizeof(*b->slots));
    b->workspaces = mem_zalloc(b->n_workers, sizeof(struct sae_workspace *));
    if (!b->slots || !b->workspaces)
        return error_nomem(err);
    /* Any worker may take any slot, hence a workspace for each of them. */
    for (size_t i = 0; !st && config->sae && i < b->n_workers; i++)
        st = sae_workspace_new(&b->workspaces[i], config->sae, config->kernels, err);
    return st;
}

enum status token_blocks_begin(struct token_blocks *b, const struct token_blocks_config *config,
                               struct error *err)
{
    size_t n = config->block_tokens;
    uint64_t n_blocks = config->end / n + (config->end % n > 0);
    size_t n_slots = n_blocks < b->n_workers ? (size_t)n_blocks : b->n_workers;
    enum status st = STATUS_OK;

    assert(config->end == 0 || config->end <= activations_tokens(config->activations));
    assert(!config->sae || (config->sae == b->sae && n <= sae_block_tokens(config->sae)));
    assert(workers_count(config->workers) == b->n_workers);
    b->config = *config;
    b->at = 0;
    b->n_ready = b->next = 0;
    for (size_t i = 0; !st && i < n_slots; i++)
        st = slot_reserve(&b->slots[i], config, err);
    b->n_slots = st ? 0 : n_slots;
    if (st)
        b->config.end = 0;
    return st;
}

enum status token_blocks_new(struct token_blocks **blocks, const struct token_blocks_config *config,
                             struct error *err)
{
    struct token_blocks *b = mem_zalloc(1, sizeof(*b));
    enum status st;

    assert(config->block_tokens > 0);
    *blocks = NULL;
    if (!b)
        return error_nomem(err);
    st = init_parts(b, config, err);
    if (!st)
        st = token_blocks_begin(b, config, err);
    if (st) {
        token_blocks_free(b);
        return st;
    }
    *blocks = b;
    return STATUS_OK;
}

/*
 * |x|^2. Squares of float neither overflow nor vanish in double: the sum is finite if and only if
 * all of x is, and 0 if and only if all of x is. Four sums, so that one addition need not wait for
 * the one before.
 */
static double squared_norm(const float *x, size_t n)
{
    double sum[4] = {0};
    size_t i = 0;

    for (; n - i >= 4; i += 4) {
        for (size_t lane = 0; lane < 4; lane++)
            sum[lane] += (double)x[i + lane] * (double)x[i + lane];
    }
    for (; i < n; i++)
        sum[0] += (double)x[i] * (double)x[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static enum token_state judge(double norm, double norm_max)
{
    if (!isfinite(norm))
        return TOKEN_NONFINITE;
    if (norm == 0)
        return TOKEN_ZERO;
    return norm > norm_max ? TOKEN_SINK : TOKEN_USED;
}

/* Decide on every token and move those to be encoded to the front of x. */
static void judge_block(struct slot *slot, double norm_max)
{
    struct token_block *block = &slot->block;
    size_t d_in = slot->x.cols;
    size_t rows = 0;

    for (size_t t = 0; t < block->n; t++) {
        const float *x = slot->x.data + t * d_in;

        if (!block->state[t]) {
            block->state[t] = TOKEN_MASKED;
            continue;
        }
        block->norm[t] = sqrt(squared_norm(x, d_in));
        block->state[t] = (unsigned char)judge(block->norm[t], norm_max);
        if (block->state[t] != TOKEN_USED)
            continue;
        if (rows != t)
            memcpy(slot->x.data + rows * d_in, x, d_in * sizeof(*x));
        block->row[t] = (uint32_t)rows++;
    }
    block->x = matrix_view_rows(matrix_as_view(&slot->x), 0, rows);
}

/* Finite activations far out can still leave the range of float in the product. */
static void judge_codes(struct token_block *block)
{
    for (size_t t = 0; t < block->n; t++) {
        struct sparse_row code;

        if (block->state[t] != TOKEN_USED)
            continue;
        code = csr_view_row(csr_as_view(&block->codes), block->row[t]);
        for (size_t e = 0; e < code.n; e++) {
            if (!isfinite(code.values[e]))
                block->state[t] = TOKEN_NONFINITE;
        }
    }
}

static enum status encode_block(const struct token_blocks *b, struct token_block *block,
                                struct sae_workspace *ws, struct error *err)
{
    const struct sae *sae = b->config.sae;
    enum status st;

    csr_clear(&block->codes, sae->d_sae);
    if (block->x.rows == 0)
        return STATUS_OK;
    st = sae_encode(sae, block->x, ws, &block->codes, err);
    if (st)
        return st;
    judge_codes(block);
    if (b->config.reconstruct)
        sae_reconstruction_errors(sae, block->x, csr_as_view(&block->codes), ws, block->errors);
    return STATUS_OK;
}

static enum status fill_slots(void *context, unsigned worker, size_t begin, size_t end,
                              struct error *err)
{
    const struct token_blocks *b = context;
    enum status st = STATUS_OK;

    for (size_t i = begin; !st && i < end; i++) {
        struct token_block *block = &b->slots[i].block;

        /* `state` takes the mask first, then what becomes of the tokens it lets through. */
        st = activations_read(b->config.activations, block->begin, block->n, b->slots[i].x.data,
                              block->state, err);
        if (st)
            break;
        judge_block(&b->slots[i], b->config.norm_max);
        if (b->config.sae)
            st = encode_block(b, block, b->workspaces[worker], err);
    }
    return st;
}

static enum status run_round(struct token_blocks *b, struct error *err)
{
    b->next = 0;
    b->n_ready = 0;
    while (b->n_ready < b->n_slots && b->at < b->config.end) {
        struct token_block *block = &b->slots[b->n_ready++].block;
        uint64_t left = b->config.end - b->at;

        block->begin = b->at;
        block->n = left < b->config.block_tokens ? (size_t)left : b->config.block_tokens;
        b->at += block->n;
    }
    return workers_run(b->config.workers, b->n_ready, 1, fill_slots, b, err);
}

enum status token_blocks_next(struct token_blocks *blocks, const struct token_block **block,
                              struct error *err)
{
    *block = NULL;
    if (blocks->next == blocks->n_ready) {
        enum status st;

        if (blocks->at == blocks->config.end)
            return STATUS_OK;
        st = run_round(blocks, err);
        if (st)
            return st;
    }
    *block = &blocks->slots[blocks->next++].block;
    return STATUS_OK;
}
