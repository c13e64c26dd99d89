#include "curator/feature_view.h"

struct csr_view feature_view(const struct features *features)
{
    return (struct csr_view){
        .rows = features->rows,
        .cols = features->d_sae,
        .indptr = features->indptr,
        .indices = features->indices,
        .values = features->values,
    };
}

struct probe_input feature_probe_input(const struct features *features,
                                       const unsigned char *has_vector)
{
    return (struct probe_input){
        .x = feature_view(features),
        .has_vector = has_vector,
        .tokens_used = features->tokens_used,
        .recon_mean = features->recon_mean,
        .recon_max = features->recon_max,
        .groups = features->keys,
    };
}
