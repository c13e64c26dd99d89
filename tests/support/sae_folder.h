/*
 * tests/support/sae_folder.h - the files of a small published SAE, for a test to change one thing.
 *
 * d_in 4, d_sae 8; weights are small integers, so that results are exact. The functions end the
 * test on failure.
 */
#ifndef TESTS_SUPPORT_SAE_FOLDER_H
#define TESTS_SUPPORT_SAE_FOLDER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "sae/sae_load.h"

enum {
    FOLDER_D_IN = 4,
    FOLDER_D_SAE = 8,
    FOLDER_ITEMS_MAX = 16,
};

/* One SAE to look names up in: element (i, j) of W_enc is w_enc[i][j], whatever layout a test
 * writes it in. */
struct folder_numbers {
    float w_enc[FOLDER_D_IN][FOLDER_D_SAE];
    float b_enc[FOLDER_D_SAE];
    float w_dec[FOLDER_D_SAE][FOLDER_D_IN]; /* rows of norm 5, 10, 5, 10, ... */
    float b_dec[FOLDER_D_IN];
    float threshold[FOLDER_D_SAE];
    float log_threshold[FOLDER_D_SAE];
};

extern const struct folder_numbers folder_numbers;

/* What is transposed is stored as [d_sae, d_in] or, for w_dec, as [d_in, d_sae]. */
extern const float folder_w_enc_t[FOLDER_D_SAE * FOLDER_D_IN];
extern const float folder_w_dec_t[FOLDER_D_IN * FOLDER_D_SAE];

/* A tensor, or, where `values` is NULL, what torch files hold beside them. "a/b" is b in a dict a.
 */
struct folder_item {
    const char *name;
    const float *values;
    size_t rank;
    size_t dims[3];
    const int64_t *integers; /* instead of values */
    const char *string;      /* beside the tensors, instead of `number` */
    double number;
};

struct folder_weights {
    struct folder_item items[FOLDER_ITEMS_MAX];
    size_t n;
};

void folder_add(struct folder_weights *weights, struct folder_item item);
void folder_vector(struct folder_weights *weights, const char *name, size_t n, const float *values);
void folder_matrix(struct folder_weights *weights, const char *name, size_t rows, size_t cols,
                   const float *values);
void folder_remove(struct folder_weights *weights, const char *name);

/* Below the scratch directory, folders made as needed. The container goes by the name: .npz,
 * .safetensors, else torch; only torch files hold items that are no tensors. */
void folder_write_weights(const struct folder_weights *weights, const char *path);
void folder_write_text(const char *path, const char *contents);

extern const struct sae_overrides folder_no_overrides;

/* Load the SAE at a path below the scratch directory. */
void folder_load(struct sae *sae, const char *path, const struct sae_overrides *overrides);

/* Refused with this status, and these words in the message; nothing is left behind. */
void folder_refuse(const char *path, const struct sae_overrides *overrides, enum status expected,
                   const char *words);

/* Allocations that fail one after the other leave nothing behind. */
void folder_fail_allocations(const char *path, const struct sae_overrides *overrides);

/* Whatever a few wrong bytes make of `file`: an answer about `path`, and nothing left behind. The
 * bytes are put right again. */
void folder_mangle(const char *path, const char *file, const struct sae_overrides *overrides);

/* What a family computes, spelt out. decode NULL: a transcoder, or without a decoder. */
struct folder_formula {
    void (*encode)(const float *x, double *z);      /* [d_in] to [d_sae] */
    void (*decode)(const double *z, double *x_hat); /* back, z as it is reported */
};

/* Loads, and gives the latents and reconstruction errors of the formula on a few tokens. */
void folder_check(const char *path, const struct sae_overrides *overrides,
                  const struct folder_formula *formula);

/* The same of its latents alone. */
void folder_check_latents(const char *path, const struct sae_overrides *overrides,
                          void (*encode)(const float *x, double *z));

/* For formulas: ((scale x - subtract) W_enc + b_enc) of folder_numbers at latent j; `subtract` may
 * be NULL. */
double folder_pre_activation(const float *x, double scale, const float *subtract, size_t j);

/* (z W_dec + b_dec) / scale */
void folder_decode(const double *z, double scale, double *x_hat);

/* All but the k largest positive ones become 0; ties go to the lower latent. */
void folder_top_k(double *z, size_t k);

#endif
