/*
 * curator/measures.c - the table of measures.
 */
#include "curator/measures.h"

#include <stddef.h>

const struct measure measures[] = {
    {"rows", MEASURE_ROWS, "rows read"},
    {"kept", MEASURE_ROWS, "rows that the filter keeps"},
    {"malformed", MEASURE_ROWS, "rows that could not be read"},
    {"empty", MEASURE_ROWS, "prompts without text"},
    {"garbage", MEASURE_ROWS, "prompts that do not look like language, mathematics or code"},
    {"duplicates", MEASURE_ROWS, "exact and near duplicates of an earlier row"},
    {"exact_duplicates", MEASURE_ROWS, "exact duplicates of an earlier row"},
    {"near_duplicates", MEASURE_ROWS, "near duplicates of an earlier row"},
    {"conflicting", MEASURE_ROWS, "rows with the prompt of another row and another answer"},
    {"contaminated", MEASURE_ROWS, "rows that share text with a benchmark (needs --against)"},
    {"rejected", MEASURE_ROWS, "rows whose activations were refused"},
    {"low_quality", MEASURE_ROWS, "rows below the quality threshold"},
    {"zero_variance", MEASURE_ROWS, "rows whose rewards are all equal, of those with rewards"},
    {"all_solved", MEASURE_ROWS, "rows that were solved each time, of those with rewards"},
    {"never_solved", MEASURE_ROWS, "rows that were never solved, of those with rewards"},
    {"difficulty_spearman", MEASURE_NUMBER, "of predicted against labelled difficulty"},
    {"difficulty_length_spearman", MEASURE_NUMBER, "of length against labelled difficulty"},
    {"quality_spearman", MEASURE_NUMBER, "of predicted against labelled quality"},
    {"clusters", MEASURE_NUMBER, "clusters"},
    {"effective_clusters", MEASURE_NUMBER, "exp of the entropy of the cluster sizes"},
    {"largest_cluster", MEASURE_NUMBER, "share of the largest cluster"},
    {"explained_variance", MEASURE_NUMBER, "of the activations by the SAE"},
    {"dead_latents", MEASURE_NUMBER, "share of latents that never fired"},
    {"dense_latents", MEASURE_NUMBER, "share of latents in more than a tenth of tokens or samples"},
    {"l0", MEASURE_NUMBER, "median of active latents, a token or a sample"},
    {"problems", MEASURE_NUMBER, "findings of severity problem"},
    {"warnings", MEASURE_NUMBER, "findings of severity warning"},
    {"drift", MEASURE_NUMBER, "largest PSI against the baseline (needs --baseline)"},
    {NULL, MEASURE_NUMBER, NULL},
};
