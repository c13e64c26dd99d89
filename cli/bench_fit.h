/*
 * cli/bench_fit.h - `saerl bench fit`.
 */
#ifndef CLI_BENCH_FIT_H
#define CLI_BENCH_FIT_H

#include "cli/cli.h"

/*
 * Ridge regression at one penalty, and the fits of `saerl fit` with cross-validation, against the
 * textbook way on the same rows, dense: the smaller Gram matrix by cblas_dsyrk, plus the penalty,
 * and a Cholesky factorisation. How far the two ridge regressions predict differently is printed.
 */
MUST_CHECK
enum status bench_fit(struct cli *cli, const struct verb *verb, int argc, char **argv,
                      struct error *err);

#endif
