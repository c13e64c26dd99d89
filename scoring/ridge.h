/*
 * scoring/ridge.h - ridge regression on sparse columns, all penalties at once.
 *
 *     minimise |y - X w - E c|^2 + alpha |w|^2            (scikit-learn's Ridge)
 *
 * With P = I - Q Q' the solution is w = (X'P X + alpha I)^-1 X'P y = X'P (P X X'P + alpha I)^-1 P
 * y; the smaller of the two systems is solved. One Krylov space serves every alpha, because adding
 * alpha I does not change it: Lanczos with full reorthogonalisation turns the system into a
 * tridiagonal one, T + alpha I, which costs next to nothing to solve. In at most min(n, d) steps
 * this is a direct method, as stable as a tridiagonal reduction by reflections; well-conditioned
 * problems stop far earlier. Where the basis would take too much memory it is restarted from the
 * residual, which all penalties have in common up to a factor (Simoncini 2003, "Restarted full
 * orthogonalization method for shifted linear systems").
 */
#ifndef SCORING_RIDGE_H
#define SCORING_RIDGE_H

#include "scoring/design.h"

/*
 * Fits for path->alphas, in any order. Tolerance: residual of the system, relative to its right
 * hand side. Iterations: Lanczos steps, shared by all penalties. STATUS_NOMEM or what a visit
 * returned. Cost of k steps: k passes over X, and k^2 min(n, d).
 */
MUST_CHECK
enum status ridge_path(const struct design *design, const struct linear_path *path,
                       struct error *err);

/* The same with a basis of at most `basis_max` >= 1 vectors; ridge_path takes 128 MiB of them. */
MUST_CHECK
enum status ridge_path_restarted(const struct design *design, const struct linear_path *path,
                                 size_t basis_max, struct error *err);

#endif
