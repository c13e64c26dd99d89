/*
 * curator/beta.h - the Beta distribution: draws from it, and the likelihood of counts under it.
 *
 * The same bits on every machine (base/portable_math.h says why that matters).
 */
#ifndef CURATOR_BETA_H
#define CURATOR_BETA_H

#include "base/rng.h"

/*
 * A draw from Beta(a, b), a and b above 0: X / (X + Y) of X ~ Gamma(a), Y ~ Gamma(b), each by the
 * method of Marsaglia and Tsang 2000, "A simple method for generating gamma variables"; below shape
 * 1 by their section 6, Gamma(a) = Gamma(a + 1) U^(1/a). Kept as logarithms: with a = b = 0.01 both
 * are often below the smallest double, and their quotient is not. The rounds of a rejection are not
 * bounded, as in rng_below(): one is accepted with a probability above 0.95.
 */
double beta_draw(struct rng *rng, double a, double b);

/* One step further down, for tests: log of a draw from Gamma(shape, 1), and a standard normal. */
double beta_draw_log_gamma(struct rng *rng, double shape);
double beta_draw_normal(struct rng *rng);

/* u in (0, 1): the middle of one of 2^53 equal intervals but for rounding, never 0 or 1. */
double beta_draw_open(struct rng *rng);

/*
 * log of B(a + solved, b + failed) / B(a, b): the likelihood of so many solved and failed rollouts,
 * in one order, of a prompt whose pass rate is Beta(a, b). Counts may be fractions.
 */
double beta_log_likelihood(double a, double b, double solved, double failed);

#endif
