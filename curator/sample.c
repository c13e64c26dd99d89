#include "curator/sample.h"

#include <assert.h>

const char *reason_name(enum reason reason)
{
    static const char *const names[REASON_COUNT] = {
        [REASON_NONE] = "none",
        [REASON_MALFORMED] = "malformed",
        [REASON_NO_TOKENS] = "no_tokens",
        [REASON_NONFINITE] = "nonfinite",
        [REASON_ZERO_ACTIVATION] = "zero_activation",
        [REASON_DUPLICATE] = "duplicate",
        [REASON_NEAR_DUPLICATE] = "near_duplicate",
        [REASON_SAE_DUPLICATE] = "sae_duplicate",
        [REASON_CONTAMINATED] = "contaminated",
        [REASON_LOW_QUALITY] = "low_quality",
        [REASON_DIFFICULTY_WINDOW] = "difficulty_window",
    };

    assert(reason < REASON_COUNT);
    return names[reason];
}

const char *stage_name(enum stage stage)
{
    static const char *const names[STAGE_COUNT] = {
        [STAGE_PARSE] = "parse",
        [STAGE_EXACT_DUPLICATES] = "exact_duplicates",
        [STAGE_NEAR_DUPLICATES] = "near_duplicates",
        [STAGE_DECONTAMINATE] = "decontaminate",
        [STAGE_ENCODE] = "encode",
        [STAGE_SAE_DUPLICATES] = "sae_duplicates",
        [STAGE_QUALITY] = "quality",
        [STAGE_WINDOW] = "window",
        [STAGE_PLAN] = "plan",
    };

    assert(stage < STAGE_COUNT);
    return names[stage];
}
