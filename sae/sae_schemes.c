/*
 * The registry, and the families that we recognise in order to say so, but do not read.
 */
#include <fnmatch.h>
#include <string.h>

#include "sae/sae_scheme.h"

static bool named(const struct sae_files *files, const char *pattern)
{
    return fnmatch(pattern, files->name, 0) == 0;
}

static bool detect_npz(const struct sae_files *files)
{
    return named(files, "*.npz");
}

static bool detect_gemma_scope_2(const struct sae_files *files)
{
    return named(files, "params.safetensors");
}

static bool detect_llama_scope(const struct sae_files *files)
{
    return (named(files, "*.safetensors") || named(files, "*.pt")) &&
           (sae_files_beside(files, "hyperparams.json") ||
            sae_files_beside(files, "../hyperparams.json"));
}

static bool detect_openmoss(const struct sae_files *files)
{
    return named(files, "sae_weights.safetensors") && sae_files_beside(files, "config.json") &&
           !sae_files_beside(files, "cfg.json");
}

static bool detect_circuit_tracer(const struct sae_files *files)
{
    return named(files, "layer_*.safetensors") && (sae_files_beside(files, "config.yaml") ||
                                                   sae_files_beside(files, "wandb-config.yaml") ||
                                                   sae_files_beside(files, "wanb-config.yaml"));
}

static bool detect_dictionary_learning(const struct sae_files *files)
{
    return named(files, "ae.pt");
}

/* What training leaves beside the weights is not the SAE. */
static bool detect_torch(const struct sae_files *files)
{
    return (named(files, "*.pt") || named(files, "*.pth")) && !named(files, "*optim*") &&
           !named(files, "*state*") && !named(files, "*scheduler*");
}

static const struct sae_scheme gemma_scope = {
    .name = "gemma_scope", .family = "Gemma Scope (.npz)", .detect = detect_npz};
static const struct sae_scheme gemma_scope_2 = {.name = "gemma_scope_2",
                                                .family = "Gemma Scope 2 (params.safetensors)",
                                                .detect = detect_gemma_scope_2};
static const struct sae_scheme llama_scope = {.name = "llama_scope",
                                              .family = "Llama Scope (hyperparams.json)",
                                              .detect = detect_llama_scope};
static const struct sae_scheme openmoss = {
    .name = "openmoss",
    .family = "an OpenMOSS SAE (config.json with sae_weights.safetensors)",
    .detect = detect_openmoss};
static const struct sae_scheme circuit_tracer = {
    .name = "circuit_tracer",
    .family = "a circuit-tracer transcoder (config.yaml with layer_N.safetensors)",
    .detect = detect_circuit_tracer};
static const struct sae_scheme dictionary_learning = {.name = "dictionary_learning",
                                                      .family = "dictionary_learning (ae.pt)",
                                                      .detect = detect_dictionary_learning};
static const struct sae_scheme torch = {
    .name = "torch", .family = "a PyTorch file (.pt, .pth)", .detect = detect_torch};

const struct sae_scheme *const sae_schemes[] = {
    &sae_scheme_saelens, &sae_scheme_sparsify, &gemma_scope,         &gemma_scope_2, &llama_scope,
    &openmoss,           &circuit_tracer,      &dictionary_learning, &torch,         NULL,
};
