/*
 * cli/bench_encode.h - `saerl bench encode`.
 */
#ifndef CLI_BENCH_ENCODE_H
#define CLI_BENCH_ENCODE_H

#include "cli/cli.h"

/*
 * Encode and sparsify against one cblas_sgemm of the same shape, which selects nothing: every
 * product that this CPU has, exact, and `fast`. What each leaves out or adds, compared with codes
 * computed exactly throughout, is counted and printed beside its speed.
 */
MUST_CHECK
enum status bench_encode(struct cli *cli, const struct verb *verb, int argc, char **argv,
                         struct error *err);

#endif
