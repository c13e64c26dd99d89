/*
 * sae/sae_scheme.h - one published family of checkpoints: how to recognise it, how to read it.
 *
 * A scheme turns configuration and tensor names into one canonical description; what is common to
 * all of them (sizes, folding, finiteness, hashing) is done by sae_load.c on that description:
 *
 *     a = z_scale * row_scale * ((norm(x) * x_scale - subtract) W_enc + b_enc)
 *     z = activation(a)
 *
 * A new family is a new file with a struct sae_scheme, and a line in sae_schemes.
 */
#ifndef SAE_SAE_SCHEME_H
#define SAE_SAE_SCHEME_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "sae/sae.h"
#include "sae/tensor_source.h"

/* A weights file and where it lies. */
struct sae_files {
    char *path;       /* the weights file */
    char *folder;     /* its folder, "." at least */
    const char *name; /* last part of `path` */
};

MUST_CHECK
enum status sae_files_init(struct sae_files *files, const char *path, struct error *err);
void sae_files_release(struct sae_files *files);

/* Is there a file `name` (may be "../name") relative to the folder? */
bool sae_files_beside(const struct sae_files *files, const char *name);

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
    double x_scale;       /* NaN: sae.norm_factor is needed */
    const char *subtract; /* [d_in] */
    const char *w_enc;
    enum weight_layout w_enc_layout;
    const char *b_enc; /* [d_sae] */
    double z_scale;
    enum row_scale row_scale;

    enum activation activation;
    double k;              /* topk, topk_signed, groupmax; NaN: sae.k is needed */
    const char *threshold; /* jumprelu: [d_sae], or one element for all */
    enum threshold_form threshold_form;
    double threshold_value; /* jumprelu: that one element, where it is known; NaN without a
                             * tensor: sae.threshold is needed */
    bool k_instead;         /* batch top-k: sae.k may replace the threshold */
    const char *b_gate, *r_mag, *b_mag; /* gated: [d_sae] */

    const char *w_dec;
    enum weight_layout w_dec_layout;
    const char *b_dec; /* [d_out] */
    enum sae_target target;

    double declared_l0; /* NaN: unknown; k where there is one */
    char *model, *hook; /* owned; NULL: unknown */
    struct text warnings;
};

/* Nothing known, nothing scaled, relu. */
void sae_description_init(struct sae_description *description);
void sae_description_release(struct sae_description *description);

/* A line for the user. printf-like. */
void sae_warn(struct sae_description *description, const char *format, ...) PRINTF_LIKE(2, 3);

struct sae_scheme {
    const char *name;   /* the value of sae.format */
    const char *family; /* for people */

    /* Is this the weights file of such an SAE, by its name and the files beside it? */
    bool (*detect)(const struct sae_files *files);

    /* The same by tensor names, for a file whose own name says nothing; may be NULL. */
    bool (*fits)(const struct sae_files *files, const struct tensor_source *source);

    /* Fill an initialised description. NULL: a family that we recognise but do not read. */
    enum status (*describe)(const struct sae_files *files, const struct tensor_source *source,
                            struct sae_description *description, struct error *err);
};

extern const struct sae_scheme *const sae_schemes[]; /* NULL-terminated */

extern const struct sae_scheme sae_scheme_saelens;
extern const struct sae_scheme sae_scheme_sparsify;

#endif
