/* Bytes of a probe file. What is accepted can be saved, and reads back the same. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "scoring/probe.h"
#include "tests/support/fuzz.h"

static void check_round_trip(const struct probe *probe)
{
    char path[] = "/tmp/saerl-fuzz-XXXXXX";
    int fd = mkstemp(path);
    struct probe back;
    struct text before = {0}, after = {0};
    struct error err;

    FUZZ_CHECK(fd >= 0);
    close(fd);
    FUZZ_CHECK(!probe_save(probe, path, &err));
    FUZZ_CHECK(!probe_load(&back, path, &err));
    FUZZ_CHECK(back.n_columns == probe->n_columns && back.n_extras == probe->n_extras);
    for (size_t k = 0; k < probe->n_columns; k++) {
        FUZZ_CHECK(back.columns[k] == probe->columns[k]);
        FUZZ_CHECK(back.weights[k] == probe->weights[k]);
    }
    probe_print_json(probe, &before);
    probe_print_json(&back, &after);
    FUZZ_CHECK(!strcmp(text_string(&before), text_string(&after)));
    text_release(&before);
    text_release(&after);
    probe_release(&back);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct probe probe;
    struct error err;

    if (probe_load(&probe, fuzz_file(data, size), &err))
        return 0;
    for (size_t k = 0; k < probe.n_columns; k++) {
        FUZZ_CHECK(probe.columns[k] < probe.d_sae);
        FUZZ_CHECK(isfinite(probe.weights[k]));
    }
    check_round_trip(&probe);
    probe_release(&probe);
    return 0;
}
