#include "curator/beta.h"

#include <math.h>
#include <stdbool.h>

#include "base/portable_math.h"

double beta_draw_open(struct rng *rng)
{
    return ((double)(rng_u64(rng) >> 12) + 0.5) * 0x1p-52; /* 53 bits: exact */
}

/* The polar method (Marsaglia and Bray 1964). Its second normal is not kept: no state. */
double beta_draw_normal(struct rng *rng)
{
    double x, y, s;

    do {
        x = 2 * beta_draw_open(rng) - 1;
        y = 2 * beta_draw_open(rng) - 1;
        s = x * x + y * y;
    } while (s >= 1 || s == 0);
    return x * sqrt(-2 * portable_log(s) / s);
}

double beta_draw_log_gamma(struct rng *rng, double shape)
{
    double boost = 0, d, c;

    if (shape < 1) {
        boost = portable_log(beta_draw_open(rng)) / shape;
        shape += 1;
    }
    d = shape - 1.0 / 3;
    c = 1 / sqrt(9 * d);
    for (;;) {
        double x = beta_draw_normal(rng), v = 1 + c * x, u;

        if (v <= 0)
            continue;
        v = v * v * v;
        u = beta_draw_open(rng);
        if (u < 1 - 0.0331 * (x * x) * (x * x) ||
            portable_log(u) < 0.5 * x * x + d * (1 - v + portable_log(v)))
            return portable_log(d * v) + boost;
    }
}

double beta_draw(struct rng *rng, double a, double b)
{
    double x = beta_draw_log_gamma(rng, a), y = beta_draw_log_gamma(rng, b);

    return 1 / (1 + portable_exp(y - x));
}

/* A product of so many factors, each below 2^10 for the a and b that occur, stays finite. */
#define FACTORS_MAX 64

static bool is_small_count(double n)
{
    return n <= FACTORS_MAX && n == floor(n);
}

/* a (a + 1) ... (a + n - 1) = Gamma(a + n) / Gamma(a) */
static double rising(double a, double n)
{
    double product = 1;

    for (int i = 0; i < (int)n; i++)
        product *= a + i;
    return product;
}

double beta_log_likelihood(double a, double b, double solved, double failed)
{
    if (solved + failed <= FACTORS_MAX && is_small_count(solved) && is_small_count(failed)) {
        double above = rising(a, solved) * rising(b, failed);
        double below = rising(a + b, solved + failed);

        if (above > 0 && isfinite(below))
            return portable_log(above / below);
    }
    return portable_log_gamma(a + solved) - portable_log_gamma(a) + portable_log_gamma(b + failed) -
           portable_log_gamma(b) - portable_log_gamma(a + b + solved + failed) +
           portable_log_gamma(a + b);
}
