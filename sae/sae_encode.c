#include <assert.h>
#include <math.h>
#include <string.h>

#include "sae/sae.h"
#include "sae/sae_scan.h"
#include "sae/sae_workspace.h"
#include "sae/token_norm.h"

/* Fewer tokens than this are not worth a prefilter: the weights are read once either way. */
#define PREFILTER_TOKENS_MIN 4

static struct matrix_view prepare_tokens(const struct sae *sae, struct matrix_view x,
                                         struct sae_workspace *ws)
{
    if (sae->norm == SAE_NORM_NONE)
        return x;
    for (size_t t = 0; t < x.rows; t++)
        token_norm_apply(sae, matrix_view_row(x, t), ws->x.data + t * ws->x.stride);
    return matrix_view_rows(matrix_as_view(&ws->x), 0, x.rows);
}

/* Which tokens the prefilter is for. */
static void start_block(const struct sae *sae, struct sae_workspace *ws, struct matrix_view x)
{
    bool prefilter = ws->block && x.rows >= PREFILTER_TOKENS_MIN;

    ws->exact.n_pairs = ws->hits.n = 0;
    if (prefilter)
        prefilter_tokens(sae->prefilter, ws->block, x);
    for (uint32_t t = 0; t < x.rows; t++) {
        ws->which[t] = t;
        ws->is_exact[t] = !prefilter || !prefilter_holds(sae->prefilter, ws->block, t);
        sae_scan_clear(sae, ws, t);
    }
}

/* Tokens that the prefilter left with too many candidates. Returns how many are in ws->which. */
static size_t restart_overflowed(const struct sae *sae, struct sae_workspace *ws, size_t rows)
{
    size_t n = 0;

    for (uint32_t t = 0; t < rows; t++) {
        if (!ws->overflowed[t])
            continue;
        ws->which[n++] = t;
        ws->is_exact[t] = 1;
        sae_scan_clear(sae, ws, t);
    }
    return n;
}

/* The values of all candidates that are left, token by token. */
static enum status settle_candidates(const struct sae *sae, struct sae_workspace *ws,
                                     struct matrix_view x, struct error *err)
{
    enum status st = STATUS_OK;

    for (uint32_t t = 0; t < x.rows; t++) {
        sae_scan_prune(sae, ws, t);
        for (size_t i = 0; i < ws->candidates[t].n && !st; i++)
            st = exact_add_pair(&ws->exact, ws->candidates[t].latent[i], t, err);
    }
    return st ? st : exact_settle_pairs(&ws->exact, sae, x, 0, sae->d_sae, err);
}

/* The k largest of a token's pairs [n], ascending by latent, into the row. */
static size_t select_topk(const struct sae *sae, struct sae_workspace *ws, uint32_t t,
                          const struct exact_pair *pairs, size_t n)
{
    bool both_signs = sae->activation == ACTIVATION_TOPK_SIGNED;
    struct candidates *candidates = &ws->candidates[t]; /* their room serves once more */
    size_t at = 0;

    if (n == 0)
        return 0;
    candidates->n = 0;
    for (size_t i = 0; i < n; i++) {
        float size = both_signs ? fabsf(pairs[i].value) : pairs[i].value;

        if (!(size > 0))
            continue;
        candidates->least[candidates->n] = candidates->most[candidates->n] = size;
        candidates->latent[candidates->n++] = pairs[i].latent;
    }
    candidates_keep_largest(candidates, ws->kernels, sae->k);
    for (size_t i = 0; i < candidates->n; i++) {
        while (pairs[at].latent != candidates->latent[i])
            at++;
        ws->row.latents[i] = pairs[at].latent;
        ws->row.values[i] = pairs[at].value;
    }
    return candidates->n;
}

/* The largest of each group, the first of equals. */
static size_t select_groupmax(const struct sae *sae, struct sae_workspace *ws,
                              const struct exact_pair *pairs, size_t n)
{
    size_t kept = 0, group = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        if (!(pairs[i].value > 0))
            continue;
        if (sae_group_of(sae, pairs[i].latent) != group)
            kept++;
        else if (pairs[i].value <= ws->row.values[kept - 1])
            continue;
        group = sae_group_of(sae, pairs[i].latent);
        ws->row.latents[kept - 1] = pairs[i].latent;
        ws->row.values[kept - 1] = pairs[i].value;
    }
    return kept;
}

static size_t row_hits(const struct sae_workspace *ws, size_t row, uint32_t *latents, float *values)
{
    size_t n = 0;

    for (size_t p = 0; p < ws->n_spans; p++) {
        size_t segment = p * ws->rows_max + row;
        size_t begin = segment ? ws->hits_end[segment - 1] : 0;
        size_t count = ws->hits_end[segment] - begin;

        if (latents && count) {
            memcpy(latents + n, ws->hits.latents + begin, count * sizeof(*latents));
            memcpy(values + n, ws->hits.values + begin, count * sizeof(*values));
        }
        n += count;
    }
    return n;
}

static enum status append_row(struct sae_workspace *ws, size_t n, struct csr *codes,
                              struct error *err)
{
    const struct sparse_row row = {.indices = ws->row.latents, .values = ws->row.values, .n = n};

    return csr_append(codes, row, err);
}

/* Codes from settled pairs, which come by token. */
static enum status append_selected(const struct sae *sae, struct sae_workspace *ws, size_t rows,
                                   struct csr *codes, struct error *err)
{
    enum status st = STATUS_OK;
    size_t begin = 0;

    if (!code_list_reserve(&ws->row, sae->k))
        return error_nomem(err);
    for (uint32_t t = 0; t < rows && !st; t++) {
        const struct exact_pair *own = ws->exact.n_pairs ? ws->exact.pairs + begin : NULL;
        size_t n_own = 0;
        size_t n;

        while (begin + n_own < ws->exact.n_pairs && own[n_own].token == t)
            n_own++;
        n = sae_selects_topk(sae) ? select_topk(sae, ws, t, own, n_own)
                                  : select_groupmax(sae, ws, own, n_own);
        st = append_row(ws, n, codes, err);
        begin += n_own;
    }
    return st;
}

static enum status append_hits(struct sae_workspace *ws, size_t rows, struct csr *codes,
                               struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t t = 0; t < rows && !st; t++) {
        size_t n = row_hits(ws, t, NULL, NULL);

        if (!code_list_reserve(&ws->row, n))
            return error_nomem(err);
        row_hits(ws, t, ws->row.latents, ws->row.values);
        st = append_row(ws, n, codes, err);
    }
    return st;
}

static enum status encode_block(const struct sae *sae, struct matrix_view x,
                                struct sae_workspace *ws, struct csr *codes, struct error *err)
{
    size_t n_again;
    enum status st;

    start_block(sae, ws, x);
    st = sae_scan(sae, ws, x, x.rows, err);
    if (st)
        return st;
    if (!sae->k)
        return append_hits(ws, x.rows, codes, err);
    n_again = restart_overflowed(sae, ws, x.rows);
    if (n_again)
        st = sae_scan(sae, ws, x, n_again, err);
    if (!st)
        st = settle_candidates(sae, ws, x, err);
    return st ? st : append_selected(sae, ws, x.rows, codes, err);
}

enum status sae_encode(const struct sae *sae, struct matrix_view x, struct sae_workspace *ws,
                       struct csr *codes, struct error *err)
{
    enum status st;

    assert(x.cols == sae->d_in && x.rows <= ws->rows_max);
    csr_clear(codes, sae->d_sae);
    st = encode_block(sae, prepare_tokens(sae, x, ws), ws, codes, err);
    if (st)
        csr_clear(codes, sae->d_sae);
    return st;
}
