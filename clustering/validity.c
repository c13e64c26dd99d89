#include "clustering/validity.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

struct pair {
    uint32_t a, b;
};

static int compare_pairs(const void *px, const void *py)
{
    const struct pair *x = px, *y = py;

    if (x->a != y->a)
        return x->a < y->a ? -1 : 1;
    return (x->b > y->b) - (x->b < y->b);
}

static int compare_b(const void *px, const void *py)
{
    const struct pair *x = px, *y = py;

    return (x->b > y->b) - (x->b < y->b);
}

static double entropy_term(size_t count, size_t n)
{
    double p = (double)count / (double)n;

    return -p * log(p);
}

enum status validity_nmi(double *nmi, const uint32_t *a, const uint32_t *b, size_t n,
                         struct error *err)
{
    struct pair *pairs = mem_alloc(n, sizeof(*pairs));
    double entropy_a = 0, entropy_b = 0, joint = 0, information;

    if (!pairs)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
        pairs[i] = (struct pair){.a = a[i], .b = b[i]};
    qsort(pairs, n, sizeof(*pairs), compare_pairs);
    for (size_t i = 0, of_a = 0, of_ab = 0; i < n; i++) {
        int last_of_a = i + 1 == n || pairs[i + 1].a != pairs[i].a;

        of_a++;
        of_ab++;
        if (last_of_a || pairs[i + 1].b != pairs[i].b) {
            joint += entropy_term(of_ab, n);
            of_ab = 0;
        }
        if (last_of_a) {
            entropy_a += entropy_term(of_a, n);
            of_a = 0;
        }
    }
    qsort(pairs, n, sizeof(*pairs), compare_b);
    for (size_t i = 0, of_b = 0; i < n; i++) {
        of_b++;
        if (i + 1 == n || pairs[i + 1].b != pairs[i].b) {
            entropy_b += entropy_term(of_b, n);
            of_b = 0;
        }
    }
    mem_free(pairs);
    /* I = H(a) + H(b) - H(a, b); with one class each both entropies are 0. */
    information = fmax(0, entropy_a + entropy_b - joint);
    *nmi = entropy_a + entropy_b > 0 ? fmin(1, 2 * information / (entropy_a + entropy_b)) : 1;
    return STATUS_OK;
}

double validity_effective_clusters(const uint64_t *sizes, size_t k)
{
    double n = 0, entropy = 0;

    for (size_t c = 0; c < k; c++)
        n += (double)sizes[c];
    for (size_t c = 0; c < k; c++) {
        double p = (double)sizes[c] / n;

        if (sizes[c] > 0)
            entropy -= p * log(p);
    }
    return exp(entropy);
}
