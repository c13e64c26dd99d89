#include "clustering/kmeans.h"

#include <stddef.h>

static const char *const metric_names[] = {"cosine", "euclidean", NULL};
static const char *const transform_names[] = {"log1p", "none", NULL};

const struct setting kmeans_settings[] = {
    {.name = "clusters",
     .type = SETTING_U32,
     .offset = offsetof(struct kmeans_config, clusters),
     .fallback = "auto",
     .empty = "auto",
     .min = 1,
     .max = 65536,
     .help = "number of clusters; auto: max(2, min(round(sqrt(N/2)), floor(N/4B)))"},
    {.name = "metric",
     .type = SETTING_ENUM,
     .offset = offsetof(struct kmeans_config, metric),
     .fallback = "cosine",
     .names = metric_names,
     .help = "cosine scales every row to unit length, euclidean leaves lengths as they are"},
    {.name = "transform",
     .type = SETTING_ENUM,
     .offset = offsetof(struct kmeans_config, transform),
     .fallback = "log1p",
     .names = transform_names,
     .help = "what is done to the pooled values first: sign(v) log(1 + |v|), or nothing"},
    {.name = "idf",
     .type = SETTING_BOOL,
     .offset = offsetof(struct kmeans_config, idf),
     .fallback = "true",
     .help = "weight each latent by log(N / samples it is active in)"},
    {.name = "max_iterations",
     .type = SETTING_U32,
     .offset = offsetof(struct kmeans_config, max_iterations),
     .fallback = "100",
     .min = 1,
     .max = 100000,
     .help = "iterations of Lloyd's algorithm at most"},
    {.name = "restarts",
     .type = SETTING_U32,
     .offset = offsetof(struct kmeans_config, restarts),
     .fallback = "1",
     .min = 1,
     .max = 1000,
     .help = "runs from different starts; the one of smallest inertia is taken"},
    {.name = NULL},
};
