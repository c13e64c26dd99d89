#include "curator/batch_plan.h"

#include <stddef.h>

static const char *const order_names[] = {"easy_to_hard", "hard_to_easy", "random", "none", NULL};
static const char *const grouping_names[] = {"cluster", "spread", "none", NULL};

const struct setting plan_settings[] = {
    {.name = "size",
     .type = SETTING_U32,
     .offset = offsetof(struct plan_config, size),
     .fallback = "128",
     .min = 1,
     .max = 1 << 24,
     .help = "prompts in a batch (B)"},
    {.name = "order",
     .type = SETTING_ENUM,
     .offset = offsetof(struct plan_config, order),
     .fallback = "easy_to_hard",
     .names = order_names,
     .help = "order of the samples: by difficulty, seeded random, or that of the rows"},
    {.name = "grouping",
     .type = SETTING_ENUM,
     .offset = offsetof(struct plan_config, grouping),
     .fallback = "cluster",
     .names = grouping_names,
     .help = "batches of one cluster, batches spread over all clusters, or clusters ignored"},
    {.name = "mixing",
     .type = SETTING_DOUBLE,
     .offset = offsetof(struct plan_config, mixing),
     .fallback = "0.125",
     .min = 0,
     .max = 1,
     .help = "share of a batch exchanged with its neighbour, never more than half of it"},
    {.name = "mixing_chain",
     .type = SETTING_BOOL,
     .offset = offsetof(struct plan_config, mixing_chain),
     .fallback = "false",
     .help = "then exchange also between the batches (1,2), (3,4), ..."},
    {.name = "drop_last",
     .type = SETTING_BOOL,
     .offset = offsetof(struct plan_config, drop_last),
     .fallback = "false",
     .help = "leave the last, short batch out of the plan"},
    {.name = NULL},
};
