/*
 * scoring/elastic_net.h - ElasticNet on sparse columns, along a path of penalties.
 *
 *     minimise 1/(2n) |y - X w - E c|^2 + alpha l1_ratio |w|_1 + alpha (1 - l1_ratio) / 2 |w|^2
 *
 * as scikit-learn's ElasticNet has it (Zou and Hastie 2005). Coordinate descent with warm starts
 * (Friedman, Hastie, Tibshirani 2010), over a working set of columns that are not 0 or ought not to
 * be; columns that a duality-gap sphere proves to be 0 are never looked at again for that penalty
 * (Ndiaye et al. 2017, "Gap safe screening rules", arXiv 1611.05780); the same gap ends the work.
 * SAE columns are often much alike, and coordinates then creep: every few epochs a Newton step on
 * the nonzero weights, whose problem is linear while their signs stay, jumps ahead.
 */
#ifndef SCORING_ELASTIC_NET_H
#define SCORING_ELASTIC_NET_H

#include "scoring/design.h"

/*
 * Fits for path->alphas. Tolerance: duality gap, relative to the objective at w = 0. Iterations:
 * passes over the working set, at most path->iterations_max (0: 20,000) or the few of a last jump
 * above it for each penalty; the objective never rises from one to the next. Short of the limit
 * falls only pure lasso (l1_ratio 1) with a penalty so small that it nearly interpolates. With
 * l1_ratio 0 there is no bound on the gap: that is a ridge regression with penalty n alpha and is
 * solved as one. STATUS_NOMEM or what a visit returned. Cost of an epoch: the entries of the
 * working set; of a certificate: all entries; of a jump with up to 2,048 columns, k weights not 0:
 * k^3 / 3, after a Gram matrix [d, d] for the whole path.
 */
MUST_CHECK
enum status elastic_net_path(const struct design *design, const struct linear_path *path,
                             struct error *err);

/*
 * The smallest penalty with all weights 0: max |X'P y| / (n l1_ratio), where an l1_ratio below
 * 1e-3 counts as 1e-3, as glmnet has it: ridge has no such penalty. STATUS_NOMEM.
 */
MUST_CHECK
enum status elastic_net_alpha_max(double *alpha, const struct design *design, double l1_ratio,
                                  struct error *err);

#endif
