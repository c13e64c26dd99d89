/*
 * sae/activation.h - from pre-activations to latents: the registry of activation functions.
 *
 * relu        z = max(a, 0)
 * tanh_relu   z = tanh(max(a, 0))                                   (SAELens up to v5)
 * jumprelu    z = a if a > threshold and a > 0, else 0              (arXiv 2407.14435; strict)
 * topk        the k largest a, then relu; ties to the lower latent  (arXiv 2406.04093)
 * topk_signed the k largest |a|, sign kept                          (sparsify, summer 2024)
 * groupmax    the largest relu(a) of each of k contiguous groups    (sparsify)
 * gated       relu(exp(r_mag) a + b_mag) where a + b_gate > 0       (arXiv 2404.16014)
 */
#ifndef SAE_ACTIVATION_H
#define SAE_ACTIVATION_H

enum activation {
    ACTIVATION_RELU,
    ACTIVATION_TANH_RELU,
    ACTIVATION_JUMPRELU,
    ACTIVATION_TOPK,
    ACTIVATION_TOPK_SIGNED,
    ACTIVATION_GROUPMAX,
    ACTIVATION_GATED,
    ACTIVATION_COUNT,
};

const char *activation_name(enum activation activation);

#endif
