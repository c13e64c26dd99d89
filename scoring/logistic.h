/*
 * scoring/logistic.h - logistic regression on sparse columns, along a path of penalties.
 *
 *     minimise sum_i log(1 + exp(-s_i m_i)) + alpha / 2 |w|^2,   m = X w + E c,  s_i = 2 y_i - 1
 *
 * which is scikit-learn's LogisticRegression with C = 1 / alpha, its objective divided by C.
 * Newton's method; each step by conjugate gradients, solved only as well as the distance from the
 * optimum deserves (Dembo, Eisenstat, Steihaug 1982), and shortened until the objective falls.
 */
#ifndef SCORING_LOGISTIC_H
#define SCORING_LOGISTIC_H

#include "scoring/design.h"

/*
 * Fits for path->alphas; labels 0 and 1. Predictions are log-odds. Tolerance: length of the
 * gradient, relative to that at the best constant or 1, as far as rounding allows. Iterations:
 * Newton steps, at most path->iterations_max (0: 100) for each penalty. Extras that tell the
 * labels apart without fail have no finite solution: then `converged` is false. With labels of one
 * kind only, w = 0 and the intercept is log((n_1 + 1/2) / (n_0 + 1/2)), converged.
 * STATUS_NOMEM or what a visit returned.
 */
MUST_CHECK
enum status logistic_path(const struct design *design, const struct linear_path *path,
                          struct error *err);

/* -log of the probability that log-odds m give to label y; and that of label 1. */
double logistic_loss(double m, double y);
double logistic_probability(double m);

#endif
