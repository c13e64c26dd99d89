#include "sae/sae_workspace.h"

#include "base/mem.h"

/* More codes than that in a block are not expected. */
#define BLOCK_CODES ((size_t)1 << 20)

/* Latents in a span without a prefilter. */
#define SPAN_LATENTS 256

bool code_list_reserve(struct code_list *list, size_t n)
{
    size_t grown = list->capacity;
    void *p = list->latents;
    bool ok = mem_grow(&p, &grown, n, sizeof(*list->latents));

    list->latents = p;
    if (!ok)
        return false;
    grown = list->capacity;
    p = list->values;
    ok = mem_grow(&p, &grown, n, sizeof(*list->values));
    list->values = p;
    if (ok)
        list->capacity = grown; /* counts only when both arrays have it */
    return ok;
}

static void code_list_release(struct code_list *list)
{
    mem_free(list->latents);
    mem_free(list->values);
}

bool sae_selects_topk(const struct sae *sae)
{
    return sae->activation == ACTIVATION_TOPK || sae->activation == ACTIVATION_TOPK_SIGNED;
}

size_t sae_group_of(const struct sae *sae, uint32_t latent)
{
    return latent / (sae->d_sae / sae->k);
}

void sae_workspace_free(struct sae_workspace *ws)
{
    if (!ws)
        return;
    prefilter_block_free(ws->block);
    exact_release(&ws->exact);
    matrix_release(&ws->x);
    mem_free(ws->x_hat);
    mem_free(ws->is_exact);
    mem_free(ws->overflowed);
    mem_free(ws->which);
    mem_free(ws->tokens);
    mem_free(ws->magnitude);
    mem_free(ws->found);
    mem_free(ws->candidates);
    mem_free(ws->least);
    mem_free(ws->most);
    mem_free(ws->latents);
    mem_free(ws->cutoff);
    mem_free(ws->best);
    code_list_release(&ws->hits);
    mem_free(ws->hits_end);
    code_list_release(&ws->row);
    mem_free(ws);
}

/* k, and room for those that a wide margin lets in. */
static size_t candidates_max(const struct sae *sae)
{
    size_t room = 7 * (size_t)sae->k + 448;
    size_t n = sae->k + (room < 4096 ? room : 4096);

    return n < sae->d_sae ? n : sae->d_sae;
}

static enum status allocate_candidates(struct sae_workspace *ws, const struct sae *sae,
                                       struct error *err)
{
    size_t rows = ws->rows_max, max = candidates_max(sae);

    ws->candidates = mem_alloc(rows, sizeof(*ws->candidates));
    ws->least = mem_alloc(rows, max * sizeof(*ws->least));
    ws->most = mem_alloc(rows, max * sizeof(*ws->most));
    ws->latents = mem_alloc(rows, max * sizeof(*ws->latents));
    ws->cutoff = mem_alloc(rows, sizeof(*ws->cutoff));
    if (!ws->candidates || !ws->least || !ws->most || !ws->latents || !ws->cutoff)
        return error_nomem(err);
    for (size_t t = 0; t < rows; t++)
        ws->candidates[t] = (struct candidates){.least = ws->least + t * max,
                                                .most = ws->most + t * max,
                                                .latent = ws->latents + t * max,
                                                .max = max};
    if (sae->activation != ACTIVATION_GROUPMAX)
        return STATUS_OK;
    ws->best = mem_alloc(rows, sae->k * sizeof(*ws->best));
    return ws->best ? STATUS_OK : error_nomem(err);
}

static enum status allocate_hits(struct sae_workspace *ws, struct error *err)
{
    ws->hits_end = mem_alloc(ws->n_spans, ws->rows_max * sizeof(*ws->hits_end));
    return ws->hits_end ? STATUS_OK : error_nomem(err);
}

static enum status allocate_scratch(struct sae_workspace *ws, const struct sae *sae,
                                    struct error *err)
{
    size_t rows = ws->rows_max;
    enum status st = exact_init(&ws->exact, sae, ws->kernels, rows, ws->span, err);

    if (!st && sae->norm != SAE_NORM_NONE)
        st = matrix_init(&ws->x, rows, sae->d_in, err);
    if (!st && sae->prefilter)
        st = prefilter_block_new(&ws->block, sae->prefilter, rows, err);
    if (st)
        return st;
    ws->is_exact = mem_alloc(rows, sizeof(*ws->is_exact));
    ws->overflowed = mem_alloc(rows, sizeof(*ws->overflowed));
    ws->which = mem_alloc(rows, sizeof(*ws->which));
    ws->tokens = mem_alloc(rows, sizeof(float *));
    ws->magnitude = mem_alloc(ws->span, sizeof(*ws->magnitude));
    ws->found = mem_alloc(ws->span, sizeof(*ws->found));
    ws->x_hat = mem_alloc_aligned(sae->reconstructs ? sae->d_out : 0, sizeof(*ws->x_hat));
    if (ws->is_exact && ws->overflowed && ws->which && ws->tokens && ws->magnitude && ws->found &&
        ws->x_hat)
        return STATUS_OK;
    return error_nomem(err);
}

size_t sae_scratch_bytes(const struct sae *sae)
{
    size_t rows = sae_block_tokens(sae);
    size_t codes = rows * (sae->k ? candidates_max(sae) : sae->d_sae);

    codes = codes < BLOCK_CODES ? codes : BLOCK_CODES;
    /* Tokens as read, normalised and packed; two spans of scores and one of weights; candidates,
     * pairs and codes, in arrays that may be half empty. */
    return ((3 * rows + SPAN_LATENTS) * sae->d_in + 2 * rows * SPAN_LATENTS) * sizeof(float) +
           64 * codes;
}

enum status sae_workspace_new(struct sae_workspace **out, const struct sae *sae,
                              const struct kernels *kernels, struct error *err)
{
    struct sae_workspace *ws = mem_zalloc(1, sizeof(*ws));
    enum status st;

    *out = NULL;
    if (!ws)
        return error_nomem(err);
    ws->kernels = kernels;
    ws->rows_max = sae_block_tokens(sae);
    ws->span = sae->prefilter ? prefilter_span(sae->prefilter) : SPAN_LATENTS;
    ws->n_spans = (sae->d_sae + ws->span - 1) / ws->span;
    st = allocate_scratch(ws, sae, err);
    if (!st)
        st = sae->k ? allocate_candidates(ws, sae, err) : allocate_hits(ws, err);
    if (st) {
        sae_workspace_free(ws);
        return st;
    }
    *out = ws;
    return STATUS_OK;
}
