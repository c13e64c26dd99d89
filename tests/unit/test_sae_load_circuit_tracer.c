#include <math.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static struct folder_weights transcoder_weights(void)
{
    struct folder_weights w = {0};

    folder_matrix(&w, "W_enc", FOLDER_D_SAE, FOLDER_D_IN, folder_w_enc_t);
    folder_vector(&w, "b_enc", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, "W_dec", FOLDER_D_SAE, FOLDER_D_IN, folder_numbers.w_dec[0]);
    folder_vector(&w, "b_dec", FOLDER_D_IN, folder_numbers.b_dec);
    return w;
}

static void encode(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = fmax(folder_pre_activation(x, 1, NULL, j), 0);
}

static const struct folder_formula formula = {encode, NULL};

static void check_detected(const char *path, const char *detected)
{
    struct sae sae;

    folder_load(&sae, path, NULL);
    assert_string_equal(sae.scheme, "circuit_tracer");
    assert_string_equal(sae.detected, detected);
    sae_release(&sae);
}

static void circuit_tracer_is_recognised_by_name(void **state)
{
    struct folder_weights w = transcoder_weights();

    (void)state;
    folder_write_weights(&w, "tracer/layer_3.safetensors");
    folder_check("tracer", NULL, &formula);
    check_detected("tracer", "the name layer_3.safetensors");
    folder_write_text("tracer/wanb-config.yaml", "d_model:\n  value: 4\n");
    check_detected("tracer", "wanb-config.yaml beside layer_3.safetensors");
    folder_write_text("tracer/config.yaml", "model_name: tiny\n");
    check_detected("tracer/layer_3.safetensors", "config.yaml beside layer_3.safetensors");
    folder_write_weights(&w, "tracer/layer_4.safetensors");
    folder_refuse("tracer", NULL, STATUS_INVALID,
                  "2 SAEs in it, name one of them: 'layer_3.safetensors', 'layer_4.safetensors'");
}

/* SAELens has the same names the other way round. */
static void circuit_tracer_or_saelens_is_not_guessed(void **state)
{
    struct folder_weights w = transcoder_weights();
    struct sae_overrides tracer = folder_no_overrides;
    char name[] = "circuit_tracer";

    (void)state;
    tracer.format = name;
    folder_write_weights(&w, "lone/l3.safetensors");
    folder_refuse("lone", NULL, STATUS_INVALID,
                  "its tensors fit saelens (cfg.json is missing) and circuit_tracer; set "
                  "sae.format");
    folder_check("lone", &tracer, &formula);
    folder_check("lone/l3.safetensors", &tracer, &formula);
    folder_write_text("lone/cfg.json", "{\"architecture\": \"standard\"}");
    folder_refuse("lone", NULL, STATUS_FORMAT, "tensor 'W_dec': shape [8, 4], expected [4, 8]");
}

static void circuit_tracer_refuses_thresholds(void **state)
{
    struct folder_weights w = transcoder_weights();

    (void)state;
    folder_vector(&w, "activation_function.threshold", FOLDER_D_SAE, folder_numbers.threshold);
    folder_write_weights(&w, "jump/layer_3.safetensors");
    folder_refuse("jump", NULL, STATUS_UNSUPPORTED, "only relu transcoders of this layout");
}

static void circuit_tracer_survives_failing_allocations(void **state)
{
    struct folder_weights w = transcoder_weights();

    (void)state;
    folder_write_weights(&w, "memory/layer_3.safetensors");
    folder_fail_allocations("memory", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(circuit_tracer_is_recognised_by_name),
        cmocka_unit_test(circuit_tracer_or_saelens_is_not_guessed),
        cmocka_unit_test(circuit_tracer_refuses_thresholds),
        cmocka_unit_test(circuit_tracer_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("sae/load_circuit_tracer", tests, scratch_setup,
                                       scratch_teardown);
}
