/*
 * cli/bench_cluster.h - `saerl bench cluster`.
 */
#ifndef CLI_BENCH_CLUSTER_H
#define CLI_BENCH_CLUSTER_H

#include "cli/cli.h"

/*
 * One assignment of sparse rows to centroids, and a whole k-means, against one cblas_sgemm of the
 * same rows, dense, with the same centroids, which assigns nothing. Labels that differ from the
 * largest entries of that product are counted: rounding may turn those that are all but equal.
 */
MUST_CHECK
enum status bench_cluster(struct cli *cli, const struct verb *verb, int argc, char **argv,
                          struct error *err);

#endif
