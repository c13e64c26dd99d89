/*
 * curator/measures.c - the table of measures.
 */
#include "curator/measures.h"

#include <stddef.h>

const struct measure measures[] = {
    {"rows", MEASURE_ROWS, MEASURE_DATA, "rows read"},
    {"kept", MEASURE_ROWS, MEASURE_DATA, "rows that the filter keeps"},
    {"malformed", MEASURE_ROWS, MEASURE_DATA, "rows that could not be read"},
    {"empty", MEASURE_ROWS, MEASURE_DATA, "prompts without text"},
    {"garbage", MEASURE_ROWS, MEASURE_DATA,
     "prompts that do not look like language, mathematics or code"},
    {"duplicates", MEASURE_ROWS, MEASURE_DATA, "exact and near duplicates of an earlier row"},
    {"exact_duplicates", MEASURE_ROWS, MEASURE_DATA, "exact duplicates of an earlier row"},
    {"near_duplicates", MEASURE_ROWS, MEASURE_DATA, "near duplicates of an earlier row"},
    {"conflicting", MEASURE_ROWS, MEASURE_DATA,
     "rows with the prompt of another row and another answer"},
    {"contaminated", MEASURE_ROWS, MEASURE_AGAINST, "rows that share text with a benchmark"},
    {"rejected", MEASURE_ROWS, MEASURE_VECTORS, "rows whose activations were refused"},
    {"low_quality", MEASURE_ROWS, MEASURE_VECTORS, "rows below the quality threshold"},
    {"zero_variance", MEASURE_ROWS, MEASURE_DATA,
     "rows whose rewards are all equal, of those with two or more"},
    {"all_solved", MEASURE_ROWS, MEASURE_DATA,
     "rows that were solved each time, of those with rewards"},
    {"never_solved", MEASURE_ROWS, MEASURE_DATA,
     "rows that were never solved, of those with rewards"},
    {"difficulty_spearman", MEASURE_NUMBER, MEASURE_VECTORS,
     "of predicted against labelled difficulty"},
    {"difficulty_length_spearman", MEASURE_NUMBER, MEASURE_DATA,
     "of length against labelled difficulty"},
    {"quality_spearman", MEASURE_NUMBER, MEASURE_VECTORS, "of predicted against labelled quality"},
    {"clusters", MEASURE_NUMBER, MEASURE_VECTORS, "clusters"},
    {"effective_clusters", MEASURE_NUMBER, MEASURE_VECTORS,
     "exp of the entropy of the cluster sizes"},
    {"largest_cluster", MEASURE_NUMBER, MEASURE_VECTORS, "share of the largest cluster"},
    {"explained_variance", MEASURE_NUMBER, MEASURE_ACTIVATIONS, "of the activations by the SAE"},
    {"dead_latents", MEASURE_NUMBER, MEASURE_VECTORS, "share of latents that never fired"},
    {"dense_latents", MEASURE_NUMBER, MEASURE_VECTORS,
     "share of latents in more than a tenth of tokens or samples"},
    {"l0", MEASURE_NUMBER, MEASURE_VECTORS, "median of active latents, a token or a sample"},
    {"problems", MEASURE_NUMBER, MEASURE_DATA, "findings of severity problem"},
    {"warnings", MEASURE_NUMBER, MEASURE_DATA, "findings of severity warning"},
    {"drift", MEASURE_NUMBER, MEASURE_BASELINE, "largest PSI against the baseline, beyond chance"},
    {NULL, MEASURE_NUMBER, MEASURE_DATA, NULL},
};
