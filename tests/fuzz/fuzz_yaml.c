/*
 * Recipes as bytes: the file reader; the first 300 bytes also as a value and as a key of --set.
 * What is accepted reads back as printed.
 */
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "settings/setting.h"
#include "settings/yaml.h"
#include "tests/support/fuzz.h"
#include "tests/support/settings_sample.h"

static void check_round_trip(const struct sample *sample)
{
    struct text once = {0}, twice = {0};
    struct sample again = {0};
    struct error err = {0};

    settings_print_yaml(sample_schema, sample, &once);
    FUZZ_CHECK(settings_init(sample_schema, &again, NULL) == STATUS_OK);
    FUZZ_CHECK(yaml_read_settings(fuzz_file(once.data, once.length), sample_schema, &again, &err) ==
               STATUS_OK);
    settings_print_yaml(sample_schema, &again, &twice);
    FUZZ_CHECK(strcmp(once.data, twice.data) == 0);
    settings_release(sample_schema, &again);
    text_release(&once);
    text_release(&twice);
}

/* An error is one line. */
static void check_message(const struct error *err)
{
    FUZZ_CHECK(err->message[0] && !strchr(err->message, '\n'));
}

static void check_file(const uint8_t *data, size_t size)
{
    struct sample sample = {0};
    struct error err = {0};

    FUZZ_CHECK(settings_init(sample_schema, &sample, NULL) == STATUS_OK);
    if (yaml_read_settings(fuzz_file(data, size), sample_schema, &sample, &err) == STATUS_OK)
        check_round_trip(&sample);
    else
        check_message(&err);
    settings_release(sample_schema, &sample);
}

static void check_values(const char *text)
{
    static const char *const keys[] = {"name",
                                       "seed",
                                       "input.data",
                                       "sae.k",
                                       "sae.pooling",
                                       "output.redact",
                                       "sae.format",
                                       "output.mixing",
                                       "difficulty.window",
                                       "clustering.idf",
                                       "difficulty.extra",
                                       "difficulty.probe"};
    const struct setting_origin origin = {.word = "--set"};
    struct sample sample = {0};

    FUZZ_CHECK(settings_init(sample_schema, &sample, NULL) == STATUS_OK);
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        struct error err = {0};

        if (settings_set(sample_schema, &sample, keys[i], text, origin, &err) != STATUS_OK)
            check_message(&err);
    }
    if (settings_set(sample_schema, &sample, text, "1", origin, NULL) != STATUS_OK)
        check_round_trip(&sample);
    settings_release(sample_schema, &sample);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = mem_strndup((const char *)data, size < 300 ? size : 300);

    FUZZ_CHECK(line != NULL);
    check_file(data, size);
    check_values(line);
    mem_free(line);
    return 0;
}
