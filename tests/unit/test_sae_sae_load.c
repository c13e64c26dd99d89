#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "base/rng.h"
#include "formats/safetensors.h"
#include "sae/sae_load.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

enum {
    D_IN = 4,
    D_SAE = 8
};

/* The tensors of a small SAELens checkpoint; a test changes what it is about. */
struct parts {
    float w_enc[D_IN * D_SAE], b_enc[D_SAE], w_dec[D_SAE * D_IN], b_dec[D_IN], more[D_SAE];
    struct safetensors_item items[8];
    size_t n_items;
};

static void parts_init(struct parts *p)
{
    struct rng rng;

    *p = (struct parts){.n_items = 4};
    rng_init(&rng, 1, "test.parts", 0);
    for (size_t i = 0; i < D_IN * D_SAE; i++) {
        p->w_enc[i] = (float)rng_below(&rng, 9) - 4;
        p->w_dec[i] = (float)rng_below(&rng, 9) - 4;
    }
    for (size_t j = 0; j < D_SAE; j++) {
        p->b_enc[j] = (float)rng_below(&rng, 9) - 4;
        p->more[j] = (float)j / 4 - 0.5F;
    }
    for (size_t i = 0; i < D_IN; i++)
        p->b_dec[i] = (float)i;
    p->items[0] = (struct safetensors_item){"W_enc", DTYPE_F32, {2, {D_IN, D_SAE}}, p->w_enc};
    p->items[1] = (struct safetensors_item){"b_enc", DTYPE_F32, {1, {D_SAE}}, p->b_enc};
    p->items[2] = (struct safetensors_item){"W_dec", DTYPE_F32, {2, {D_SAE, D_IN}}, p->w_dec};
    p->items[3] = (struct safetensors_item){"b_dec", DTYPE_F32, {1, {D_IN}}, p->b_dec};
}

static void parts_add(struct parts *p, const char *name, enum dtype dtype, size_t n,
                      const void *data)
{
    struct shape shape = {.rank = n ? 1 : 0, .dims = {n}};

    p->items[p->n_items++] = (struct safetensors_item){name, dtype, shape, data};
}

static const char *inside(const char *folder, const char *name)
{
    static char joined[4][256];
    static int next;
    char *path = joined[next++ % 4];

    snprintf(path, sizeof(joined[0]), "%s/%s", folder, name);
    return path;
}

static void make_folder(const char *name)
{
    mkdir(scratch_path(name), 0755); /* it may be there */
}

static void write_text(const char *folder, const char *name, const char *contents)
{
    make_folder(folder);
    scratch_file(inside(folder, name), contents, strlen(contents));
}

static void write_weights(const char *folder, const char *name, const struct parts *p)
{
    make_folder(folder);
    assert_int_equal(
        safetensors_write(scratch_path(inside(folder, name)), p->items, p->n_items, NULL, 0, NULL),
        STATUS_OK);
}

/* cfg.json with d_in, d_sae and `members`. */
static const char *write_saelens(const char *folder, const struct parts *p, const char *members)
{
    char cfg[1024];

    snprintf(cfg, sizeof(cfg), "{\"d_in\": %d, \"d_sae\": %d, %s}", D_IN, D_SAE, members);
    write_text(folder, "cfg.json", cfg);
    write_weights(folder, "sae_weights.safetensors", p);
    return scratch_path(folder);
}

/* A folder "sae" with the usual tensors. */
static const char *saelens(const char *members)
{
    struct parts p;

    parts_init(&p);
    return write_saelens("sae", &p, members);
}

static const struct sae_overrides none = {.threshold = NAN, .norm_factor = NAN};

static void load(struct sae *sae, const char *path, const struct sae_overrides *overrides)
{
    struct error err = {0};

    if (sae_load(sae, path, overrides, SAE_READ_ALL, &err))
        fail_msg("%s", err.message);
}

static void refuse(const char *path, const struct sae_overrides *overrides, enum status expected,
                   const char *words)
{
    struct sae sae;
    struct error err = {0};
    enum status st = sae_load(&sae, path, overrides, SAE_READ_ALL, &err);

    if (st != expected || !strstr(err.message, words))
        fail_msg("status %d: '%s'; expected status %d with '%s'", st, err.message, expected, words);
    assert_null(sae.w_enc.data);
    assert_null(sae.path);
}

/* Settings and overrides ----------------------------------------------------------------------- */

static void sae_override_settings_leave_all_open(void **state)
{
    const struct setting_section schema[] = {{.path = "sae", .settings = sae_override_settings},
                                             {.path = NULL}};
    const struct setting_origin origin = {.word = "--set"};
    struct sae_overrides overrides = {0};

    (void)state;
    assert_int_equal(settings_init(schema, &overrides, NULL), STATUS_OK);
    assert_null(overrides.format);
    assert_int_equal(overrides.k, 0);
    assert_true(isnan(overrides.threshold) && isnan(overrides.norm_factor));
    assert_int_equal(settings_set(schema, &overrides, "sae.k", "32", origin, NULL), STATUS_OK);
    assert_int_equal(overrides.k, 32);
    assert_int_equal(settings_set(schema, &overrides, "sae.k", "0", origin, NULL), STATUS_INVALID);
    settings_release(schema, &overrides);
}

static void sae_load_takes_k_only_where_there_is_one(void **state)
{
    struct sae_overrides k3 = none, k9 = none;
    struct sae sae;

    (void)state;
    k3.k = 3;
    k9.k = 9;
    refuse(saelens("\"architecture\": \"standard\""), &k3, STATUS_INVALID,
           "sae.k: this SAE is relu");
    load(&sae, saelens("\"architecture\": \"topk\", \"k\": 2"), &k3);
    assert_int_equal(sae.k, 3);
    assert_string_equal(sae.formula, "x - b_dec, relu, top 3 per token");
    sae_release(&sae);
    refuse(scratch_path("sae"), &k9, STATUS_FORMAT, "k is 9, expected an integer from 1 to 8");
    load(&sae, saelens("\"architecture\": \"topk\""), &k3);
    assert_int_equal(sae.k, 3);
    sae_release(&sae);
    refuse(scratch_path("sae"), NULL, STATUS_INVALID, "set sae.k");
    refuse(saelens("\"architecture\": \"topk\", \"k\": 2.5"), NULL, STATUS_FORMAT, "k is 2.5");
    refuse(saelens("\"architecture\": \"topk\", \"k\": -1"), NULL, STATUS_FORMAT, "k is -1");
    refuse(saelens("\"architecture\": \"topk\", \"k\": \"8\""), NULL, STATUS_FORMAT,
           "cfg.json: k: a string, expected a number");
    load(&sae, saelens("\"architecture\": \"topk\", \"k\": 2.0"), NULL);
    assert_int_equal(sae.k, 2);
    sae_release(&sae);
}

static void sae_load_takes_a_threshold_only_where_there_is_one(void **state)
{
    struct sae_overrides half = none;
    struct sae sae;

    (void)state;
    half.threshold = 0.5;
    refuse(saelens("\"architecture\": \"topk\", \"k\": 2"), &half, STATUS_INVALID,
           "sae.threshold: this SAE is topk");
    refuse(saelens("\"architecture\": \"jumprelu\""), NULL, STATUS_INVALID, "set sae.threshold");
    load(&sae, scratch_path("sae"), &half);
    assert_float_equal(sae.threshold[7], 0.5, 0);
    assert_string_equal(sae.formula, "x - b_dec, jumprelu above 0.5");
    sae_release(&sae);
}

static void sae_load_multiplies_x_by_norm_factor(void **state)
{
    struct sae_overrides twice = none, zero = none;
    struct sae plain, scaled;

    (void)state;
    twice.norm_factor = 2;
    zero.norm_factor = 0;
    load(&plain, saelens("\"architecture\": \"standard\""), NULL);
    load(&scaled, scratch_path("sae"), &twice);
    for (size_t i = 0; i < D_IN * D_SAE; i++) {
        assert_float_equal(scaled.w_enc.data[i], 2 * plain.w_enc.data[i], 0);
        assert_float_equal(scaled.w_dec.data[i], plain.w_dec.data[i] / 2, 0);
    }
    for (size_t j = 0; j < D_SAE; j++)
        assert_float_equal(scaled.b_enc[j], plain.b_enc[j], 0);
    assert_float_equal(scaled.b_dec[3], plain.b_dec[3] / 2, 0);
    sae_release(&plain);
    sae_release(&scaled);
    refuse(scratch_path("sae"), &zero, STATUS_INVALID, "sae.norm_factor");
    refuse(saelens("\"architecture\": \"standard\", \"normalize_activations\": \"layer_norm\""),
           &twice, STATUS_INVALID, "sae.norm_factor");
}

static void sae_load_refuses_an_unknown_format_with_the_nearest(void **state)
{
    struct sae_overrides wrong = none, other = none;
    char sealens[] = "sealens", sparsify[] = "sparsify";

    (void)state;
    wrong.format = sealens;
    other.format = sparsify;
    refuse(saelens("\"architecture\": \"standard\""), &wrong, STATUS_INVALID,
           "(did you mean 'saelens'?)");
    refuse(scratch_path("sae"), &other, STATUS_FORMAT, "no file in it fits that");
    refuse(scratch_path("sae/sae_weights.safetensors"), &other, STATUS_FORMAT,
           "tensor 'encoder.weight' is missing; there are 'W_enc', 'b_enc', 'W_dec', 'b_dec'");
}

/* SAELens -------------------------------------------------------------------------------------- */

static void saelens_batch_topk_needs_its_threshold(void **state)
{
    const char *cfg = "\"architecture\": \"batchtopk\", \"k\": 2.5";
    const double unset[] = {-1, 0};
    const double threshold = 0.8125;
    struct sae_overrides k3 = none, half = none, both = none;
    struct parts p;
    struct sae sae;

    (void)state;
    k3.k = both.k = 3;
    half.threshold = both.threshold = 0.5;
    for (size_t i = 0; i < 3; i++) {
        parts_init(&p);
        if (i)
            parts_add(&p, "topk_threshold", DTYPE_F64, 0, &unset[i - 1]);
        write_saelens("sae", &p, cfg);
        refuse(scratch_path("sae"), NULL, STATUS_INVALID, "set sae.threshold, or sae.k");
    }
    load(&sae, scratch_path("sae"), &k3);
    assert_int_equal(sae.activation, ACTIVATION_TOPK);
    assert_int_equal(sae.k, 3);
    sae_release(&sae);
    load(&sae, scratch_path("sae"), &half);
    assert_int_equal(sae.activation, ACTIVATION_JUMPRELU);
    assert_float_equal(sae.threshold[0], 0.5, 0);
    assert_float_equal(sae.declared_l0, 2.5, 0);
    sae_release(&sae);
    refuse(scratch_path("sae"), &both, STATUS_INVALID, "exclude each other");

    parts_init(&p);
    parts_add(&p, "topk_threshold", DTYPE_F64, 0, &threshold);
    load(&sae, write_saelens("sae", &p, cfg), NULL);
    assert_float_equal(sae.threshold[D_SAE - 1], 0.8125, 0);
    assert_string_equal(sae.formula, "x - b_dec, jumprelu above 0.8125");
    sae_release(&sae);
}

static void saelens_decoder_norms_are_folded_both_ways(void **state)
{
    struct parts p;
    struct sae sae;

    (void)state;
    parts_init(&p);
    memset(p.w_dec, 0, sizeof(p.w_dec));
    for (size_t j = 1; j < D_SAE; j++) /* norms 0, 5, 10, 15, ... */
        p.w_dec[j * D_IN] = 3 * (float)j, p.w_dec[j * D_IN + 2] = -4 * (float)j;
    load(&sae,
         write_saelens("sae", &p,
                       "\"architecture\": \"topk\", \"k\": 2, "
                       "\"rescale_acts_by_decoder_norm\": true"),
         NULL);
    for (size_t j = 0; j < D_SAE; j++) {
        float bias = p.b_enc[j];

        for (size_t i = 0; i < D_IN; i++) {
            assert_float_equal(sae.w_enc.data[j * D_IN + i], p.w_enc[i * D_SAE + j] * 5 * (float)j,
                               0);
            bias -= p.b_dec[i] * p.w_enc[i * D_SAE + j];
        }
        assert_float_equal(sae.b_enc[j], bias * 5 * (float)j, 0);
        if (j) {
            assert_float_equal(sae.w_dec.data[j * D_IN], 0.6F, 0);
            assert_float_equal(sae.w_dec.data[j * D_IN + 2], -0.8F, 0);
        } else { /* a row of norm 0: its latent never fires */
            assert_float_equal(sae.w_dec.data[0], 0, 0);
        }
    }
    sae_release(&sae);
}

static void saelens_expected_average_needs_its_factor(void **state)
{
    const char *cfg =
        "\"architecture\": \"standard\", \"normalize_activations\": \"expected_average_only_in\"";
    struct sae_overrides quarter = none;
    struct sae sae;

    (void)state;
    quarter.norm_factor = 0.25;
    refuse(saelens(cfg), NULL, STATUS_INVALID, "set sae.norm_factor");
    load(&sae, scratch_path("sae"), &quarter);
    assert_string_equal(sae.formula, "0.25 x - b_dec, relu");
    sae_release(&sae);
    write_text("sae", "activation_scaler.json", "{\"scaling_factor\": null}");
    refuse(scratch_path("sae"), NULL, STATUS_INVALID, "set sae.norm_factor");
    write_text("sae", "activation_scaler.json", "{\"scaling_factor\": 0}");
    refuse(scratch_path("sae"), NULL, STATUS_FORMAT, "activation_scaler.json: scaling_factor: 0");
    write_text("sae", "activation_scaler.json", "{\"scaling_factor\": 0.5}");
    load(&sae, saelens("\"normalize_activations\": true"), NULL);
    assert_string_equal(sae.formula, "0.5 x - b_dec, relu");
    sae_release(&sae);
    load(&sae, scratch_path("sae"), &quarter); /* what the user says wins */
    assert_string_equal(sae.formula, "0.25 x - b_dec, relu");
    sae_release(&sae);
    assert_int_equal(unlink(scratch_path("sae/activation_scaler.json")), 0);
}

static void saelens_reads_both_kinds_of_threshold(void **state)
{
    struct parts p;
    struct sae sae;

    (void)state;
    parts_init(&p);
    parts_add(&p, "log_threshold", DTYPE_F32, D_SAE, p.more);
    load(&sae, write_saelens("sae", &p, "\"architecture\": \"jumprelu\""), NULL);
    for (size_t j = 0; j < D_SAE; j++)
        assert_float_equal(sae.threshold[j], exp((double)p.more[j]), 1e-6);
    sae_release(&sae);
    p.items[4].name = "threshold";
    load(&sae, write_saelens("sae", &p, "\"architecture\": \"jumprelu\""), NULL);
    for (size_t j = 0; j < D_SAE; j++)
        assert_float_equal(sae.threshold[j], fmaxf(p.more[j], 0), 0);
    assert_null(sae.warnings);
    sae_release(&sae);
    load(&sae, write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL);
    assert_string_equal(sae.warnings, "tensor 'threshold' is present but relu does not use it");
    sae_release(&sae);
}

static void sae_load_warns_of_a_k_that_relu_has_no_use_for(void **state)
{
    struct parts p;
    struct sae sae;

    (void)state;
    parts_init(&p);
    load(&sae,
         write_saelens("k", &p,
                       "\"architecture\": \"standard\", "
                       "\"activation_fn_kwargs\": {\"k\": 4}"),
         NULL);
    assert_int_equal(sae.activation, ACTIVATION_RELU);
    assert_non_null(strstr(sae.warnings, "activation_fn_kwargs has k 4"));
    sae_release(&sae);
}

static void saelens_names_what_it_does_not_read(void **state)
{
    static const char *const architectures[] = {"temporal", "matching_pursuit", "clt", "crosscoder",
                                                "",         "Standard"};
    char cfg[128], words[128];

    (void)state;
    for (size_t i = 0; i < sizeof(architectures) / sizeof(architectures[0]); i++) {
        snprintf(cfg, sizeof(cfg), "\"architecture\": \"%s\"", architectures[i]);
        snprintf(words, sizeof(words), "architecture '%s' is not", architectures[i]);
        refuse(saelens(cfg), NULL, STATUS_UNSUPPORTED, words);
    }
    refuse(saelens("\"sae_lens_version\": \"6.1.0\""), NULL, STATUS_FORMAT,
           "architecture is missing");
    refuse(saelens("\"activation_fn_str\": \"gelu\""), NULL, STATUS_UNSUPPORTED, "'gelu'");
    refuse(saelens("\"architecture\": \"gated\", \"activation_fn_str\": \"tanh-relu\""), NULL,
           STATUS_UNSUPPORTED, "'tanh-relu' with architecture 'gated'");
    refuse(saelens("\"normalize_activations\": \"batch\""), NULL, STATUS_UNSUPPORTED,
           "normalize_activations 'batch'");
    refuse(saelens("\"apply_b_dec_to_input\": 1"), NULL, STATUS_FORMAT,
           "apply_b_dec_to_input: an integer, expected true or false");
    refuse(saelens("\"architecture\": 3"), NULL, STATUS_FORMAT,
           "architecture: an integer, expected a string");
    refuse(saelens("\"architecture\": \"gated\""), NULL, STATUS_FORMAT,
           "tensor 'b_gate' is missing");
    write_text("sae", "cfg.json", "[]");
    refuse(scratch_path("sae"), NULL, STATUS_FORMAT, "cfg.json: an array, expected an object");
}

/* Tensors -------------------------------------------------------------------------------------- */

static void sae_load_counts_values_that_are_not_finite(void **state)
{
    struct parts p;

    (void)state;
    parts_init(&p);
    p.w_enc[2 * D_SAE + 7] = NAN;
    p.w_enc[3 * D_SAE] = INFINITY;
    p.w_enc[3 * D_SAE + 1] = -INFINITY;
    refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_FORMAT,
           "W_enc: 3 of 32 values are not finite, first at row 2, column 7");
    parts_init(&p);
    p.w_dec[5 * D_IN + 1] = NAN;
    refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_FORMAT,
           "W_dec: 1 of 32 values are not finite, first at row 5, column 1");
    parts_init(&p);
    p.b_dec[3] = NAN;
    refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_FORMAT,
           "b_dec: 1 of 4 values are not finite, first at index 3");
}

static void sae_load_refuses_what_float32_cannot_hold(void **state)
{
    struct sae_overrides huge = none;
    double wide[D_IN * D_SAE] = {1, 1e39};
    struct parts p;

    (void)state;
    parts_init(&p);
    p.items[0].dtype = DTYPE_F64;
    p.items[0].data = wide;
    refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_FORMAT,
           "W_enc: 1 of 32 values are not finite, first at row 0, column 1");
    huge.norm_factor = 3e38;
    refuse(saelens("\"architecture\": \"standard\""), &huge, STATUS_FORMAT, "do not fit float32");
}

static void sae_load_checks_every_tensor(void **state)
{
    static const char *const words[] = {
        "tensor 'W_enc': shape [4, 7] means d_sae 7, but the configuration says 8",
        "tensor 'b_enc': shape [7], expected [8]",
        "tensor 'W_dec': shape [8, 3], expected [8, 4]",
        "tensor 'b_dec': shape [3], expected [4]",
    };
    struct parts p;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        parts_init(&p);
        p.items[i].shape.dims[p.items[i].shape.rank - 1]--;
        refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_FORMAT,
               words[i]);
        parts_init(&p);
        p.items[i].dtype = DTYPE_I32;
        refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_FORMAT,
               ": I32, expected F16, BF16, F32 or F64");
    }
    parts_init(&p);
    p.items[0].shape = (struct shape){3, {2, 2, D_SAE}};
    refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_UNSUPPORTED,
           "crosscoders");
    parts_init(&p);
    p.items[0].shape.dims[0] = 0;
    refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_FORMAT,
           "d_in is out of range");
    parts_init(&p);
    p.items[3].name = "b_pre";
    refuse(write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL, STATUS_FORMAT,
           "tensor 'b_dec' is missing; there are 'W_enc', 'b_enc', 'W_dec', 'b_pre'");
}

static void sae_load_does_without_a_decoder(void **state)
{
    struct parts p;
    struct sae sae;

    (void)state;
    parts_init(&p);
    p.items[2] = p.items[3];
    p.n_items = 3;
    load(&sae, write_saelens("sae", &p, "\"architecture\": \"standard\""), NULL);
    assert_null(sae.w_dec.data);
    assert_false(sae.reconstructs);
    sae_release(&sae);
    refuse(write_saelens("sae", &p,
                         "\"architecture\": \"topk\", \"k\": 2, "
                         "\"rescale_acts_by_decoder_norm\": true"),
           NULL, STATUS_FORMAT, "tensor 'W_dec' is missing");
}

static float *random_floats(size_t n)
{
    float *x = malloc(n * sizeof(*x));
    struct rng rng;

    assert_non_null(x);
    rng_init(&rng, n, "test.floats", 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_double(&rng) - 0.5F;
    return x;
}

/* Matrices of more than one tile, wide, tall and transposed. */
static void sae_load_reads_large_matrices_in_tiles(void **state)
{
    static const size_t sizes[][2] = {{2, 300001}, {300, 1501}, {1500, 301}};

    (void)state;
    for (size_t s = 0; s < 2 * sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t d_in = sizes[s / 2][0], d_sae = sizes[s / 2][1];
        bool transposed = s % 2;
        float *w_enc = random_floats(d_in * d_sae), *w_dec = random_floats(d_in * d_sae);
        float *b_enc = random_floats(d_sae), *b_dec = random_floats(d_in);
        const struct safetensors_item items[] = {
            {transposed ? "encoder.weight" : "W_enc",
             DTYPE_F32,
             {2, {transposed ? d_sae : d_in, transposed ? d_in : d_sae}},
             w_enc},
            {transposed ? "encoder.bias" : "b_enc", DTYPE_F32, {1, {d_sae}}, b_enc},
            {"W_dec", DTYPE_F32, {2, {d_sae, d_in}}, w_dec},
            {"b_dec", DTYPE_F32, {1, {d_in}}, b_dec},
        };
        struct sae sae;

        write_text("large", "cfg.json",
                   transposed ? "{\"k\": 1}" : "{\"architecture\": \"standard\"}");
        assert_int_equal(
            safetensors_write(scratch_path("large/large.safetensors"), items, 4, NULL, 0, NULL),
            STATUS_OK);
        load(&sae, scratch_path("large/large.safetensors"), NULL);
        assert_int_equal(sae.d_in, d_in);
        assert_int_equal(sae.d_sae, d_sae);
        for (size_t j = 0; j < d_sae; j++) {
            double bias = (double)b_enc[j];

            for (size_t i = 0; i < d_in; i++) {
                float w = transposed ? w_enc[j * d_in + i] : w_enc[i * d_sae + j];

                if (sae.w_enc.data[j * sae.w_enc.stride + i] != w ||
                    sae.w_dec.data[j * sae.w_dec.stride + i] != w_dec[j * d_in + i])
                    fail_msg("case %zu: weight %zu, %zu", s, i, j);
                bias -= (double)b_dec[i] * (double)w;
            }
            if (sae.b_enc[j] != (float)bias)
                fail_msg("case %zu: bias %zu", s, j);
        }
        sae_release(&sae);
        free(w_enc);
        free(w_dec);
        free(b_enc);
        free(b_dec);
    }
    assert_int_equal(unlink(scratch_path("large/large.safetensors")), 0);
}

/* sparsify ------------------------------------------------------------------------------------- */

static const char *write_sparsify(const char *folder, const char *cfg)
{
    struct parts p;

    parts_init(&p);
    p.items[0] =
        (struct safetensors_item){"encoder.weight", DTYPE_F32, {2, {D_SAE, D_IN}}, p.w_enc};
    p.items[1].name = "encoder.bias";
    write_text(folder, "cfg.json", cfg);
    write_weights(folder, "sae.safetensors", &p);
    return scratch_path(folder);
}

static void sparsify_reads_its_configuration(void **state)
{
    struct sae sae;

    (void)state;
    make_folder("run");
    write_text("run", "config.json", "{\"sae\": {}, \"model\": \"tiny\"}");
    load(&sae,
         write_sparsify("run/layers.3", "{\"k\": 2, \"d_in\": 4, \"num_latents\": 0, "
                                        "\"expansion_factor\": 2}"),
         NULL);
    assert_string_equal(sae.model, "tiny");
    assert_string_equal(sae.hook, "layers.3");
    assert_true(sae.reconstructs);
    sae_release(&sae);
    write_text("run", "config.json", "{\"model\": \"of another program\", \"transcode\": true}");
    load(&sae, scratch_path("run/layers.3"), NULL);
    assert_null(sae.model);
    assert_true(sae.reconstructs);
    sae_release(&sae);
    load(&sae, write_sparsify("mine", "{\"k\": 2}"), NULL);
    assert_null(sae.hook);
    sae_release(&sae);
    refuse(write_sparsify("mine", "{\"k\": 2, \"d_in\": 4, \"expansion_factor\": 3}"), NULL,
           STATUS_FORMAT, "means d_sae 8, but the configuration says 12");
    refuse(write_sparsify("mine", "{\"k\": 3, \"activation\": \"groupmax\"}"), NULL, STATUS_FORMAT,
           "groupmax needs equal groups and d_sae is 8");
    refuse(write_sparsify("mine", "{\"k\": 3, \"activation\": \"softmax\"}"), NULL,
           STATUS_UNSUPPORTED, "activation 'softmax'");
    refuse(write_sparsify("mine", "{}"), NULL, STATUS_INVALID, "set sae.k");
}

/* Search --------------------------------------------------------------------------------------- */

static void remove_at_end(const char *name)
{
    assert_int_equal(unlink(scratch_path(name)), 0);
}

static void sae_load_finds_the_one_sae_of_a_folder(void **state)
{
    struct parts p;
    struct sae sae;

    (void)state;
    parts_init(&p);
    make_folder("find");
    make_folder("find/a");
    write_text("find", "README.md", "x");
    write_text("find/a", "cfg.json", "{}");
    write_text("find/a", "optimizer_state.pt", "x");
    refuse(scratch_path("find"), NULL, STATUS_FORMAT,
           "no SAE in it: found 'README.md', 'a/cfg.json', 'a/optimizer_state.pt'; expected");
    write_text("find/a", "sae_model.pt", "x");
    refuse(scratch_path("find"), NULL, STATUS_FORMAT, "optimizer_state.pt': 1 bytes");
    write_weights("find/a", "sparsity.safetensors", &p);
    write_saelens("find/a/sae", &p, "\"architecture\": \"standard\"");
    load(&sae, scratch_path("find"), NULL);
    assert_string_equal(sae.path, scratch_path("find/a/sae/sae_weights.safetensors"));
    sae_release(&sae);

    /* Hidden folders are not looked into; links are, but not in circles. */
    write_saelens("find/.cache", &p, "\"architecture\": \"standard\"");
    assert_int_equal(symlink("..", scratch_path("find/a/up")), 0);
    assert_int_equal(symlink("nowhere", scratch_path("find/a/dangling")), 0);
    load(&sae, scratch_path("find"), NULL);
    sae_release(&sae);
    make_folder("linked");
    assert_int_equal(symlink("../find/a/sae", scratch_path("linked/sae")), 0);
    load(&sae, scratch_path("linked"), NULL);
    sae_release(&sae);

    write_sparsify("find/a/layers.3", "{\"k\": 2}");
    refuse(scratch_path("find"), NULL, STATUS_INVALID,
           "2 SAEs in it, name one of them: 'a/layers.3/sae.safetensors', "
           "'a/sae/sae_weights.safetensors'");
    refuse(scratch_path("find/"), NULL, STATUS_INVALID, ": 'a/layers.3/sae.safetensors', ");
    remove_at_end("find/a/up");
    remove_at_end("find/a/dangling");
    remove_at_end("linked/sae");
}

static void sae_load_searches_to_depth_8(void **state)
{
    struct text path = {0};
    struct parts p;
    struct sae sae;

    (void)state;
    parts_init(&p);
    text_append(&path, "deep");
    make_folder(text_string(&path));
    for (int depth = 1; depth <= 8; depth++) {
        text_append(&path, "/d");
        make_folder(text_string(&path));
    }
    write_saelens(text_string(&path), &p, "\"architecture\": \"standard\"");
    load(&sae, scratch_path("deep"), NULL);
    sae_release(&sae);
    remove_at_end(inside(text_string(&path), "cfg.json"));
    remove_at_end(inside(text_string(&path), "sae_weights.safetensors"));
    text_append(&path, "/d");
    write_saelens(text_string(&path), &p, "\"architecture\": \"standard\"");
    refuse(scratch_path("deep"), NULL, STATUS_FORMAT, "no SAE in it: found no files");
    text_release(&path);
}

static void sae_load_says_what_is_wrong_with_a_path(void **state)
{
    struct sae_overrides saelens_named = none;
    char name[] = "saelens";
    struct parts p;

    (void)state;
    saelens_named.format = name;
    parts_init(&p);
    refuse(scratch_path("absent"), NULL, STATUS_IO, "No such file");
    write_text("odd", "notes.txt", "x");
    refuse(scratch_path("odd/notes.txt"), NULL, STATUS_UNSUPPORTED, "not a .safetensors file");
    write_weights("odd", "l12.safetensors", &p);
    refuse(scratch_path("odd/l12.safetensors"), NULL, STATUS_INVALID,
           "its tensors fit saelens (cfg.json is missing) and circuit_tracer; set sae.format");
    refuse(scratch_path("odd/l12.safetensors"), &saelens_named, STATUS_FORMAT,
           "cfg.json is missing beside l12.safetensors; there are 'l12.safetensors', 'notes.txt'; "
           "it comes "
           "from the same folder and says what tensors cannot");
    p.items[0].name = "activations";
    write_weights("odd", "l12.safetensors", &p);
    refuse(scratch_path("odd/l12.safetensors"), NULL, STATUS_FORMAT,
           "not an SAE by its tensors ('activations', 'b_enc', 'W_dec', 'b_dec')");
    write_text("odd", "l12.safetensors", "version https://git-lfs.github.com/spec/v1\noid x\n");
    refuse(scratch_path("odd/l12.safetensors"), NULL, STATUS_FORMAT, "git-lfs pointer");
}

/* A tensor of terabytes in a file of holes. */
static void sae_load_refuses_more_than_the_machine_has(void **state)
{
    const char header[] = "{\"W_enc\":{\"dtype\":\"F32\",\"shape\":[1073741824,1024],"
                          "\"data_offsets\":[0,4398046511104]},"
                          "\"b_enc\":{\"dtype\":\"F32\",\"shape\":[1024],"
                          "\"data_offsets\":[4398046511104,4398046515200]}}";
    uint64_t n = sizeof(header) - 1;
    char bytes[8 + sizeof(header)];

    (void)state;
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, n);
    write_text("holes", "cfg.json",
               "{\"architecture\": \"standard\", \"apply_b_dec_to_input\": false}");
    scratch_file("holes/sae_weights.safetensors", bytes, 8 + n);
    if (truncate(scratch_path("holes/sae_weights.safetensors"), (off_t)(8 + n + 4398046515200)) !=
        0)
        skip(); /* not every file system takes such files */
    refuse(scratch_path("holes"), NULL, STATUS_NOMEM, "weights need 4096.0 GiB");
    assert_int_equal(unlink(scratch_path("holes/sae_weights.safetensors")), 0);
}

/* Whatever a few wrong bytes make of the files: an answer, and nothing left behind. */
static void sae_load_survives_mangled_files(void **state)
{
    static const char *const names[] = {"sae/cfg.json", "sae/sae_weights.safetensors"};
    char *original[2], *mangled;
    struct sae_overrides k3 = none;
    size_t n[2];

    (void)state;
    k3.k = 3;
    saelens("\"architecture\": \"topk\", \"k\": 2, \"normalize_activations\": \"none\", "
            "\"rescale_acts_by_decoder_norm\": true, \"metadata\": {\"hook_name\": \"h\"}");
    for (int i = 0; i < 2; i++)
        original[i] = scratch_read(scratch_path(names[i]), &n[i]);
    for (uint64_t seed = 0; seed < 600; seed++) {
        int i = (int)(seed % 2);
        size_t length = n[i], span = n[i] < 400 ? n[i] : 400; /* the header, of the weights */
        struct sae sae;
        struct rng rng;

        rng_init(&rng, seed, "test.mangle", 0);
        mangled = malloc(n[i]);
        assert_non_null(mangled);
        memcpy(mangled, original[i], n[i]);
        for (uint64_t j = rng_below(&rng, 4); j < 4; j++)
            mangled[rng_below(&rng, span)] = rng_below(&rng, 2)
                                                 ? (char)rng_below(&rng, 256)
                                                 : "{}[]\",:0123456789-e.ntf"[rng_below(&rng, 22)];
        if (rng_below(&rng, 8) == 0)
            length = rng_below(&rng, n[i]);
        scratch_file(names[i], mangled, length);
        if (sae_load(&sae, scratch_path("sae"), seed % 3 ? NULL : &k3, SAE_READ_ALL, NULL))
            assert_null(sae.w_enc.data);
        sae_release(&sae);
        scratch_file(names[i], original[i], n[i]);
        free(mangled);
    }
    free(original[0]);
    free(original[1]);
}

/* Memory --------------------------------------------------------------------------------------- */

static void check_failing_allocations(const char *path)
{
    enum status st;

    for (size_t n = 0;; n++) {
        struct sae sae;
        struct error err = {0};

        mem_fail_after(n);
        st = sae_load(&sae, path, NULL, SAE_READ_ALL, &err);
        if (st && st != STATUS_NOMEM)
            fail_msg("%zu allocations: status %d, '%s'", n, st, err.message);
        if (!st)
            assert_false(mem_failed());
        else
            assert_null(sae.path);
        sae_release(&sae);
        if (!st)
            break;
        assert_true(n < 1000);
    }
    mem_fail_after(SIZE_MAX);
}

static void sae_load_survives_failing_allocations(void **state)
{
    struct parts p;

    (void)state;
    parts_init(&p);
    parts_add(&p, "threshold", DTYPE_F32, D_SAE, p.more);
    check_failing_allocations(
        write_saelens("memory", &p,
                      "\"architecture\": \"jumprelu\", \"rescale_acts_by_decoder_norm\": true, "
                      "\"metadata\": {\"model_name\": \"m\", \"hook_name\": \"h\"}"));
    check_failing_allocations(
        write_saelens("memory", &p, "\"architecture\": \"standard\", \"hook_point\": \"h\""));
    p.items[4].name = "b_gate";
    parts_add(&p, "r_mag", DTYPE_F32, D_SAE, p.more);
    parts_add(&p, "b_mag", DTYPE_F32, D_SAE, p.more);
    check_failing_allocations(write_saelens("memory", &p, "\"architecture\": \"gated\""));
    make_folder("memory/run");
    write_text("memory/run", "config.json", "{\"sae\": {}, \"model\": \"tiny\"}");
    check_failing_allocations(
        write_sparsify("memory/run/layers.3", "{\"k\": 2, \"signed\": true}"));
}

static void sae_load_notes_hash_and_size(void **state)
{
    struct hash128 hash;
    struct parts p;
    struct sae sae;

    (void)state;
    load(&sae, saelens("\"architecture\": \"standard\", \"dtype\": \"float32\""), NULL);
    assert_int_equal(hash_file(&hash, NULL, scratch_path("sae/sae_weights.safetensors"), NULL),
                     STATUS_OK);
    assert_true(hash128_equal(hash, sae.hash));
    assert_int_equal(sae.weights_bytes, (2 * D_IN * D_SAE + D_IN + D_SAE) * sizeof(float));
    assert_string_equal(sae.dtype, "F32");
    assert_string_equal(sae.scheme, "saelens");
    assert_true(isnan(sae.declared_l0));
    sae_release(&sae);

    /* The facts alone do not look at a single weight. */
    parts_init(&p);
    p.w_enc[0] = NAN;
    write_saelens("sae", &p, "\"architecture\": \"topk\", \"k\": 2");
    assert_int_equal(sae_load(&sae, scratch_path("sae"), NULL, SAE_READ_FACTS, NULL), STATUS_OK);
    assert_int_equal(sae.d_in, D_IN);
    assert_int_equal(sae.d_sae, D_SAE);
    assert_int_equal(sae.k, 2);
    assert_string_equal(sae.formula, "x - b_dec, relu, top 2 per token");
    assert_null(sae.w_enc.data);
    sae_release(&sae);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sae_override_settings_leave_all_open),
        cmocka_unit_test(sae_load_takes_k_only_where_there_is_one),
        cmocka_unit_test(sae_load_takes_a_threshold_only_where_there_is_one),
        cmocka_unit_test(sae_load_multiplies_x_by_norm_factor),
        cmocka_unit_test(sae_load_refuses_an_unknown_format_with_the_nearest),
        cmocka_unit_test(saelens_batch_topk_needs_its_threshold),
        cmocka_unit_test(saelens_decoder_norms_are_folded_both_ways),
        cmocka_unit_test(saelens_expected_average_needs_its_factor),
        cmocka_unit_test(saelens_reads_both_kinds_of_threshold),
        cmocka_unit_test(saelens_names_what_it_does_not_read),
        cmocka_unit_test(sae_load_counts_values_that_are_not_finite),
        cmocka_unit_test(sae_load_refuses_what_float32_cannot_hold),
        cmocka_unit_test(sae_load_checks_every_tensor),
        cmocka_unit_test(sae_load_does_without_a_decoder),
        cmocka_unit_test(sae_load_reads_large_matrices_in_tiles),
        cmocka_unit_test(sparsify_reads_its_configuration),
        cmocka_unit_test(sae_load_finds_the_one_sae_of_a_folder),
        cmocka_unit_test(sae_load_searches_to_depth_8),
        cmocka_unit_test(sae_load_says_what_is_wrong_with_a_path),
        cmocka_unit_test(sae_load_refuses_more_than_the_machine_has),
        cmocka_unit_test(sae_load_survives_mangled_files),
        cmocka_unit_test(sae_load_warns_of_a_k_that_relu_has_no_use_for),
        cmocka_unit_test(sae_load_survives_failing_allocations),
        cmocka_unit_test(sae_load_notes_hash_and_size),
    };

    return cmocka_run_group_tests_name("sae/sae_load", tests, scratch_setup, scratch_teardown);
}
