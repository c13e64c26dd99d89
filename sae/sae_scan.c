#include "sae/sae_scan.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Bounds below and above a float32 that was rounded, with room to spare. */
static float lower(float x)
{
    return x - fabsf(x) * 0x1p-22f - FLT_MIN;
}

static float upper(float x)
{
    return x + fabsf(x) * 0x1p-22f + FLT_MIN;
}

/* One token's scores in a span: a pre-activation is within `margin` of them. */
struct scores {
    const float *c;
    size_t first, n; /* latents */
    uint32_t token;
    float margin;
};

/* topk: raise the cut-off to the k-th largest lower bound and keep what may reach it. Exact values
 * are their own bounds: no more than k are kept. */
static void prune_topk(const struct sae *sae, struct sae_workspace *ws, uint32_t t)
{
    struct candidates *candidates = &ws->candidates[t];

    if (candidates->n <= sae->k)
        return;
    ws->cutoff[t] = candidate_kth_largest(ws->kernels, candidates->least, candidates->n, sae->k);
    if (ws->is_exact[t])
        candidates_keep_largest(candidates, ws->kernels, sae->k);
    else
        candidates_keep(candidates, ws->cutoff[t]);
}

/* groupmax: keep what may be the largest of its group. */
static void prune_groupmax(const struct sae *sae, struct sae_workspace *ws, uint32_t t)
{
    struct candidates *candidates = &ws->candidates[t];
    const float *best = ws->best + t * sae->k;
    size_t n = 0;

    for (size_t i = 0; i < candidates->n; i++) {
        if (candidates->most[i] < best[sae_group_of(sae, candidates->latent[i])])
            continue;
        candidates->least[n] = candidates->least[i];
        candidates->most[n] = candidates->most[i];
        candidates->latent[n++] = candidates->latent[i];
    }
    candidates->n = n;
}

void sae_scan_prune(const struct sae *sae, struct sae_workspace *ws, uint32_t t)
{
    if (sae->activation == ACTIVATION_GROUPMAX)
        prune_groupmax(sae, ws, t);
    else
        prune_topk(sae, ws, t);
}

/* Once k more have come a new cut-off keeps out half of those that the old one lets in. */
static void set_prune_at(const struct sae *sae, struct candidates *candidates)
{
    candidates->prune_at = candidates->n + sae->k + 32;
    if (candidates->prune_at > candidates->max)
        candidates->prune_at = candidates->max;
}

/* The cut-offs of 0 are the relu after selection. */
void sae_scan_clear(const struct sae *sae, struct sae_workspace *ws, uint32_t t)
{
    if (!sae->k)
        return;
    ws->candidates[t].n = 0;
    set_prune_at(sae, &ws->candidates[t]);
    ws->cutoff[t] = 0;
    ws->overflowed[t] = 0;
    if (ws->best)
        memset(ws->best + t * sae->k, 0, sae->k * sizeof(*ws->best));
}

/* Take a latent whose value lies between two bounds as a candidate. False: no room. */
static bool add_candidate(const struct sae *sae, struct sae_workspace *ws, uint32_t t,
                          uint32_t latent, float least, float most)
{
    struct candidates *candidates = &ws->candidates[t];

    if (candidates->n == candidates->prune_at) {
        sae_scan_prune(sae, ws, t);
        set_prune_at(sae, candidates);
    }
    if (candidates->n == candidates->max)
        return false;
    candidates->least[candidates->n] = least > 0 ? least : 0;
    candidates->most[candidates->n] = most;
    candidates->latent[candidates->n++] = latent;
    return true;
}

static bool add_topk(const struct sae *sae, struct sae_workspace *ws, const struct scores *s)
{
    const float *size = s->c;
    uint32_t t = s->token;
    bool exact = ws->is_exact[t];
    size_t n_found;

    if (sae->activation == ACTIVATION_TOPK_SIGNED) {
        for (size_t l = 0; l < s->n; l++)
            ws->magnitude[l] = fabsf(s->c[l]);
        size = ws->magnitude;
    }
    n_found = ws->kernels->find_above(size, s->n, lower(ws->cutoff[t] - s->margin), ws->found);
    for (size_t i = 0; i < n_found; i++) {
        uint32_t l = ws->found[i];
        float least = exact ? size[l] : lower(size[l] - s->margin);
        float most = exact ? size[l] : upper(size[l] + s->margin);

        /* The cut-off may have risen since; and what is not positive never fires. */
        if (most < ws->cutoff[t] || !(most > 0))
            continue;
        if (!add_candidate(sae, ws, t, (uint32_t)(s->first + l), least, most))
            return false;
    }
    return true;
}

static bool add_groupmax(const struct sae *sae, struct sae_workspace *ws, const struct scores *s)
{
    float *best = ws->best + s->token * sae->k;
    bool exact = ws->is_exact[s->token];

    for (size_t l = 0; l < s->n; l++) {
        uint32_t latent = (uint32_t)(s->first + l);
        float *group = &best[sae_group_of(sae, latent)];
        float least = exact ? s->c[l] : lower(s->c[l] - s->margin);
        float most = exact ? s->c[l] : upper(s->c[l] + s->margin);

        /* Of exact equals the first is taken. */
        if (exact ? most <= *group : most < *group)
            continue;
        *group = least > *group ? least : *group;
        if (!add_candidate(sae, ws, s->token, latent, least, most))
            return false;
    }
    return true;
}

/* relu and its kin: the pairs that may fire. */
static enum status add_firing(const struct sae *sae, struct sae_workspace *ws,
                              const struct scores *s, struct error *err)
{
    enum status st = STATUS_OK;
    size_t n_found;

    if (sae->threshold)
        n_found = ws->kernels->find_above_each(s->c, sae->threshold + s->first, upper(s->margin),
                                               s->n, ws->found);
    else
        n_found = ws->kernels->find_above(s->c, s->n, -upper(s->margin), ws->found);
    for (size_t i = 0; i < n_found && !st; i++)
        st = exact_add_pair(&ws->exact, (uint32_t)(s->first + ws->found[i]), s->token, err);
    return st;
}

/* What a latent gives at its exact pre-activation; 0 if it does not fire. */
static float activate(const struct sae *sae, uint32_t latent, float a)
{
    if (sae->threshold && !(a > sae->threshold[latent]))
        return 0;
    if (sae->activation == ACTIVATION_GATED)
        a = sae->r_mag[latent] * a + sae->b_mag[latent];
    if (!(a > 0))
        return 0;
    return sae->activation == ACTIVATION_TANH_RELU && isfinite(a) ? tanhf(a) : a;
}

/* The pairs of a span, which come by token, become hits. */
static enum status settle_span(const struct sae *sae, struct sae_workspace *ws,
                               struct matrix_view x, size_t span, size_t n_latents,
                               struct error *err)
{
    size_t *end = ws->hits_end + span * ws->rows_max;
    enum status st = exact_settle_pairs(&ws->exact, sae, x, span * ws->span, n_latents, err);
    size_t i = 0;

    if (st)
        return st;
    if (!code_list_reserve(&ws->hits, ws->hits.n + ws->exact.n_pairs))
        return error_nomem(err);
    for (size_t t = 0; t < ws->rows_max; t++) {
        for (; i < ws->exact.n_pairs && ws->exact.pairs[i].token == t; i++) {
            float z = activate(sae, ws->exact.pairs[i].latent, ws->exact.pairs[i].value);

            if (z > 0) {
                ws->hits.latents[ws->hits.n] = ws->exact.pairs[i].latent;
                ws->hits.values[ws->hits.n++] = z;
            }
        }
        end[t] = ws->hits.n;
    }
    ws->exact.n_pairs = 0;
    return STATUS_OK;
}

static enum status add_scores(const struct sae *sae, struct sae_workspace *ws,
                              const struct scores *s, struct error *err)
{
    bool fits;

    if (!sae->k)
        return add_firing(sae, ws, s, err);
    if (ws->overflowed[s->token])
        return STATUS_OK;
    fits = sae_selects_topk(sae) ? add_topk(sae, ws, s) : add_groupmax(sae, ws, s);
    ws->overflowed[s->token] = !fits;
    return STATUS_OK;
}

/* The tokens ws->which [n] that are computed exactly, into ws->tokens. Returns how many. */
static size_t list_exact_tokens(struct sae_workspace *ws, struct matrix_view x, size_t n)
{
    size_t n_exact = 0;

    for (size_t i = 0; i < n; i++) {
        if (ws->is_exact[ws->which[i]])
            ws->tokens[n_exact++] = matrix_view_row(x, ws->which[i]);
    }
    return n_exact;
}

/* The scores of one span, for all tokens ws->which [n], `n_exact` of them in ws->tokens. */
static enum status scan_span(const struct sae *sae, struct sae_workspace *ws, size_t n,
                             size_t n_exact, size_t span, size_t n_latents, struct error *err)
{
    size_t first = span * ws->span, stride = 0, at = 0;
    enum status st = STATUS_OK;
    const float *c = NULL;

    if (n_exact < n)
        c = prefilter_scores(sae->prefilter, ws->block, span, &stride);
    exact_score_span(&ws->exact, sae, ws->tokens, n_exact, first, n_latents);
    for (size_t i = 0; i < n && !st; i++) {
        uint32_t t = ws->which[i];
        struct scores s = {.first = first, .n = n_latents, .token = t};

        if (ws->is_exact[t]) {
            s.c = ws->exact.scores.data + at++ * ws->exact.scores.stride;
        } else {
            s.c = c + t * stride;
            s.margin = prefilter_margin(sae->prefilter, ws->block, t, span);
        }
        st = add_scores(sae, ws, &s, err);
    }
    return st;
}

enum status sae_scan(const struct sae *sae, struct sae_workspace *ws, struct matrix_view x,
                     size_t n, struct error *err)
{
    size_t n_exact = list_exact_tokens(ws, x, n);
    enum status st = STATUS_OK;

    for (size_t span = 0; span < ws->n_spans && !st; span++) {
        size_t left = sae->d_sae - span * ws->span;
        size_t n_latents = left < ws->span ? left : ws->span;

        st = scan_span(sae, ws, n, n_exact, span, n_latents, err);
        if (!st && !sae->k)
            st = settle_span(sae, ws, x, span, n_latents, err);
    }
    return st;
}
