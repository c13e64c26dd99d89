/*
 * sae/sae_scheme.h - one published family of checkpoints: how to recognise it, how to read it.
 *
 * A scheme turns configuration and tensor names into one canonical description; what is common to
 * all of them (sizes, folding, finiteness, hashing) is done by sae_load.c on that description:
 *
 *     a = z_scale * row_scale * ((norm(x) * x_scale - subtract) W_enc + b_enc)
 *     z = activation(a)
 *
 * where z_scale is 1 / x_scale for families that report latents on the scale of x, else 1.
 *
 * A new family is a new file with a struct sae_scheme, and a line in sae_schemes.
 *
 * A scheme is recognised by the set of files first (detect). Where that leaves several, or the
 * name of a file says nothing, the names of its tensors decide (fits). Shapes never do.
 */
#ifndef SAE_SAE_SCHEME_H
#define SAE_SAE_SCHEME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "sae/sae.h"
#include "sae/sae_files.h"
#include "sae/tensor_source.h"

/* Orientation of a weight matrix. It comes from the scheme, never from the shape: a square SAE is
 * legal. "Feature" is a component of x (or, for the decoder, of x_hat). */
enum weight_layout {
    WEIGHT_FEATURES_LATENTS, /* [d_in, d_sae] */
    WEIGHT_LATENTS_FEATURES, /* [d_sae, d_in] */
};

/* What a latent is multiplied by, on top of z_scale. */
enum row_scale {
    ROW_SCALE_NONE,
    ROW_SCALE_DECODER_NORM, /* L2 norm of the latent's row of W_dec */
};

/* How a threshold tensor is stored. */
enum threshold_form {
    THRESHOLD_PLAIN,
    THRESHOLD_LOG,
};

/* What a threshold is compared with. */
enum threshold_space {
    THRESHOLD_OF_LATENT,   /* z as it is reported */
    THRESHOLD_OF_SCALED,   /* z before it was brought back to the scale of x (unscale) */
    THRESHOLD_OF_STRENGTH, /* z times the L2 norm of the latent's row of W_dec */
};

/* What x_scale was chosen for: what it brings the average |x| of training to. */
enum scaled_norm {
    SCALED_NORM_UNKNOWN, /* x_scale is something else, or there is none */
    SCALED_NORM_ROOT,    /* sqrt(d_in) */
    SCALED_NORM_UNIT,
};

/* What the decoder gives back. */
enum sae_target {
    SAE_TARGET_INPUT, /* x itself */
    SAE_TARGET_OTHER, /* transcoder: another place of the model */
};

/*
 * Names of tensors are constants of the scheme; NULL says that there is none. Numbers that the
 * files leave open are NaN, and sae_load.c asks for the setting that closes the gap.
 */
struct sae_description {
    size_t d_in, d_sae, d_out; /* as configured; 0: as the tensors say */

    enum sae_norm norm;
    double x_scale; /* NaN: sae.norm_factor is needed */
    enum scaled_norm scaled_norm;
    const char *subtract; /* [d_in] */
    const char *w_enc;
    enum weight_layout w_enc_layout;
    const char *b_enc; /* [d_sae] */
    bool unscale;      /* z is divided by x_scale again: latents on the scale of x */
    enum row_scale row_scale;
    size_t n_active; /* latents from here on never fire; 0: all may */

    enum activation activation;
    double k;              /* topk, topk_signed, groupmax; NaN: sae.k is needed */
    const char *threshold; /* jumprelu: [d_sae], or one element for all */
    enum threshold_form threshold_form;
    enum threshold_space threshold_space;
    double threshold_value; /* jumprelu: that one element, where it is known; NaN without a
                             * tensor: sae.threshold is needed */
    bool k_instead;         /* batch top-k: sae.k may replace the threshold */
    const char *question;   /* how to ask for what the activation lacks; NULL: in general words */
    const char *spare;      /* a tensor that decides elsewhere, and is there to no purpose */
    const char *b_gate, *r_mag, *b_mag; /* gated: [d_sae] */

    const char *w_dec;
    enum weight_layout w_dec_layout;
    const char *b_dec; /* [d_out] */
    enum sae_target target;

    double declared_l0;   /* NaN: unknown; k where there is one */
    char *model, *hook;   /* owned; NULL: unknown */
    struct text detected; /* why it was taken for this family: a clause */
    struct text warnings;
};

/* Nothing known, nothing scaled, relu. */
void sae_description_init(struct sae_description *description);
void sae_description_release(struct sae_description *description);

/* A line for the user. printf-like. */
void sae_warn(struct sae_description *description, const char *format, ...) PRINTF_LIKE(2, 3);

/* Another clause of why it was taken for this family. printf-like. */
void sae_detected(struct sae_description *description, const char *format, ...) PRINTF_LIKE(2, 3);

/* Width of x by the encoder's shape; 0 if it has not two dimensions or is not there. */
size_t sae_description_d_in(const struct sae_description *description,
                            const struct tensor_source *source);

/* Has it a tensor of what decides in other families, a threshold, k or groups? Then it is not one
 * of those that have nothing but weights and biases under the same names. */
bool sae_decides_more(const struct tensor_source *source);

struct sae_scheme {
    const char *name;   /* the value of sae.format */
    const char *family; /* for people */
    const char *needs;  /* the configuration without which it cannot be read, or NULL */

    /* Is this the weights file of such an SAE, by its name and the files beside it? May be NULL. */
    bool (*detect)(const struct sae_files *files);

    /* Is it one of several files of the same SAE, and a better one lies beside it? Asked in a
     * search only; may be NULL. */
    bool (*outranked)(const struct sae_files *files);

    /* The same as detect by tensor names, for a file whose own name says nothing. */
    bool (*fits)(const struct sae_files *files, const struct tensor_source *source);

    /* Fill an initialised description; may enter a dict of the source. NULL: a family that we
     * recognise but do not read. */
    enum status (*describe)(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *description, struct error *err);
};

#define SAE_SCHEMES_MAX 24
extern const struct sae_scheme *const sae_schemes[SAE_SCHEMES_MAX]; /* NULL-terminated */

extern const struct sae_scheme sae_scheme_saelens;
extern const struct sae_scheme sae_scheme_sparsify;
extern const struct sae_scheme sae_scheme_dictionary_learning;
extern const struct sae_scheme sae_scheme_gemma_scope;
extern const struct sae_scheme sae_scheme_gemma_scope_2;
extern const struct sae_scheme sae_scheme_llama_scope;
extern const struct sae_scheme sae_scheme_llama_scope_r1;
extern const struct sae_scheme sae_scheme_llamascopium;
extern const struct sae_scheme sae_scheme_qwen_scope;
extern const struct sae_scheme sae_scheme_goodfire;
extern const struct sae_scheme sae_scheme_goodfire_r1;
extern const struct sae_scheme sae_scheme_qresearch;
extern const struct sae_scheme sae_scheme_openai;
extern const struct sae_scheme sae_scheme_circuit_tracer;
extern const struct sae_scheme sae_scheme_hook_z;

#endif
