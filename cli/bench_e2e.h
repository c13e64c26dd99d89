/*
 * cli/bench_e2e.h - `saerl bench e2e`.
 */
#ifndef CLI_BENCH_E2E_H
#define CLI_BENCH_E2E_H

#include "cli/cli.h"

/*
 * All a run does to activations in memory, with the defaults of a recipe: encode and pool, cluster,
 * fit and apply a probe of quality and one of difficulty, plan batches. Each stage, and all of them
 * together, against one cblas_sgemm of the tokens with the encoder, which is the least that can be
 * done with dense weights.
 */
MUST_CHECK
enum status bench_e2e(struct cli *cli, const struct verb *verb, int argc, char **argv,
                      struct error *err);

#endif
