#include "curator/cluster_latents.h"

#include "base/mem.h"

/* What a pass over the rows needs, all zero between clusters. */
struct counting {
    size_t *order;  /* [rows in clusters], cluster by cluster */
    size_t *begin;  /* [k + 1] */
    uint64_t *all;  /* [d_sae] rows in which a latent is active */
    uint64_t *here; /* [d_sae] the same within one cluster */
    uint32_t *seen; /* [d_sae] latents with here > 0 */
};

static enum status counting_init(struct counting *c, struct csr_view x, uint32_t k,
                                 struct error *err)
{
    *c = (struct counting){
        .order = mem_alloc(x.rows, sizeof(*c->order)),
        .begin = mem_zalloc((size_t)k + 1, sizeof(*c->begin)),
        .all = mem_zalloc(x.cols, sizeof(*c->all)),
        .here = mem_zalloc(x.cols, sizeof(*c->here)),
        .seen = mem_alloc(x.cols, sizeof(*c->seen)),
    };
    return c->order && c->begin && c->all && c->here && c->seen ? STATUS_OK : error_nomem(err);
}

static void counting_release(struct counting *c)
{
    mem_free(c->order);
    mem_free(c->begin);
    mem_free(c->all);
    mem_free(c->here);
    mem_free(c->seen);
}

/* Rows by cluster, and how often each latent is active in all of them. */
static void count_all(struct counting *c, struct csr_view x, const uint32_t *cluster, uint32_t k)
{
    for (size_t row = 0; row < x.rows; row++) {
        if (cluster[row] < k)
            c->begin[cluster[row] + 1]++;
    }
    for (uint32_t i = 0; i < k; i++)
        c->begin[i + 1] += c->begin[i];
    for (size_t row = 0; row < x.rows; row++) {
        struct sparse_row code = csr_view_row(x, row);

        if (cluster[row] >= k)
            continue;
        c->order[c->begin[cluster[row]]++] = row;
        for (size_t e = 0; e < code.n; e++)
            c->all[code.indices[e]] += code.values[e] != 0;
    }
    /* Each begin has moved to the end of its cluster, where the next one begins. */
    for (uint32_t i = k; i > 0; i--)
        c->begin[i] = c->begin[i - 1];
    c->begin[0] = 0;
}

static bool goes_before(const struct cluster_latent *a, const struct cluster_latent *b)
{
    double x = a->within - a->overall, y = b->within - b->overall;

    return x > y || (x == y && a->latent < b->latent);
}

static void offer(struct cluster_latents *latents, struct cluster_latent one)
{
    size_t at = latents->n;

    if (one.within <= one.overall)
        return;
    while (at > 0 && goes_before(&one, &latents->items[at - 1]))
        at--;
    if (at == CLUSTER_LATENTS_MAX)
        return;
    if (latents->n < CLUSTER_LATENTS_MAX)
        latents->n++;
    for (size_t i = latents->n - 1; i > at; i--)
        latents->items[i] = latents->items[i - 1];
    latents->items[at] = one;
}

static void look_at_cluster(struct cluster_latents *latents, struct counting *c, struct csr_view x,
                            uint32_t cluster, size_t n_all)
{
    size_t begin = c->begin[cluster], end = c->begin[cluster + 1], n_seen = 0;

    for (size_t i = begin; i < end; i++) {
        struct sparse_row code = csr_view_row(x, c->order[i]);

        for (size_t e = 0; e < code.n; e++) {
            if (code.values[e] != 0 && c->here[code.indices[e]]++ == 0)
                c->seen[n_seen++] = code.indices[e];
        }
    }
    for (size_t i = 0; i < n_seen; i++) {
        uint32_t latent = c->seen[i];

        offer(latents, (struct cluster_latent){
                           .latent = latent,
                           .within = (double)c->here[latent] / (double)(end - begin),
                           .overall = (double)c->all[latent] / (double)n_all,
                       });
        c->here[latent] = 0;
    }
}

enum status cluster_latents_find(struct cluster_latents *latents, struct csr_view x,
                                 const uint32_t *cluster, uint32_t k, struct error *err)
{
    struct counting c;
    enum status st = counting_init(&c, x, k, err);

    if (!st)
        count_all(&c, x, cluster, k);
    for (uint32_t i = 0; i < k; i++) {
        latents[i] = (struct cluster_latents){0};
        if (!st)
            look_at_cluster(&latents[i], &c, x, i, c.begin[k]);
    }
    counting_release(&c);
    return st;
}
