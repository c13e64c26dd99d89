#include "sae/sae.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "sae/prefilter.h"
#include "sae/sae_workspace.h"
#include "sae/token_norm.h"

#define BLOCK_TOKENS 512
#define BLOCK_TOKENS_MIN 64
#define BLOCK_ENTRIES ((size_t)1 << 22)

/* What lies in the map is not ours to free. */
static void release_cache(struct sae *sae)
{
    if (sae->cache.mapped) {
        sae->w_enc.data = sae->w_dec.data = NULL;
        sae->b_enc = sae->threshold = sae->r_mag = sae->b_mag = sae->b_dec = NULL;
    }
    sae_cache_close(&sae->cache);
    mem_free(sae->cache_dir);
}

void sae_release(struct sae *sae)
{
    prefilter_free(sae->prefilter);
    release_cache(sae);
    matrix_release(&sae->w_enc);
    matrix_release(&sae->w_dec);
    mem_free(sae->b_enc);
    mem_free(sae->threshold);
    mem_free(sae->r_mag);
    mem_free(sae->b_mag);
    mem_free(sae->b_dec);
    mem_free(sae->scheme);
    mem_free(sae->detected);
    mem_free(sae->path);
    mem_free(sae->formula);
    mem_free(sae->dtype);
    mem_free(sae->model);
    mem_free(sae->hook);
    mem_free(sae->warnings);
    *sae = (struct sae){0};
}

enum status sae_prepare(struct sae *sae, enum sae_precision precision,
                        const struct kernels *kernels, struct workers *workers, struct error *err)
{
    const struct product *product = prefilter_choose(kernels->cpu_flags, sae->d_in, &precision);

    assert(!sae->prefilter);
    return prefilter_new(&sae->prefilter, sae, product, precision, kernels, workers, err);
}

const char *sae_engine(const struct sae *sae)
{
    return sae->prefilter ? prefilter_name(sae->prefilter) : "exact";
}

enum sae_precision sae_engine_precision(const struct sae *sae)
{
    return sae->prefilter ? prefilter_precision(sae->prefilter) : SAE_EXACT;
}

size_t sae_packed_bytes(const struct sae *sae)
{
    return sae->prefilter ? prefilter_bytes(sae->prefilter) : 0;
}

size_t sae_block_tokens(const struct sae *sae)
{
    size_t row_entries = sae->k ? sae->k : sae->d_sae;
    size_t rows = BLOCK_ENTRIES / row_entries;

    if (rows < BLOCK_TOKENS_MIN)
        rows = BLOCK_TOKENS_MIN;
    return rows < BLOCK_TOKENS ? rows : BLOCK_TOKENS;
}

size_t sae_block_for(const struct sae *sae, uint64_t tokens, unsigned threads)
{
    size_t most = sae_block_tokens(sae);
    uint64_t share = (tokens + threads - 1) / threads;

    if (share >= most)
        return most;
    return share < BLOCK_TOKENS_MIN ? BLOCK_TOKENS_MIN : (size_t)share;
}

void sae_reconstruction_errors(const struct sae *sae, struct matrix_view x, struct csr_view codes,
                               struct sae_workspace *ws, double *errors)
{
    assert(sae->reconstructs && x.cols == sae->d_out && x.rows == codes.rows);
    for (size_t t = 0; t < x.rows; t++) {
        const float *token = matrix_view_row(x, t);
        struct sparse_row code = csr_view_row(codes, t);
        struct token_norm norm = token_norm_measure(sae, token);
        double sum = 0;

        memcpy(ws->x_hat, sae->b_dec, sae->d_out * sizeof(*ws->x_hat));
        for (size_t e = 0; e < code.n; e++)
            ws->kernels->axpy(code.values[e], sae->w_dec.data + code.indices[e] * sae->w_dec.stride,
                              ws->x_hat, sae->d_out);
        for (size_t i = 0; i < sae->d_out; i++) {
            double x_hat = norm.shift + norm.scale * (double)ws->x_hat[i];
            double difference = (double)token[i] - x_hat;

            sum += difference * difference;
        }
        errors[t] = sum;
    }
}
