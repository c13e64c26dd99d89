#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sae/sae_files.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static struct sae_files files_of(const char *path)
{
    struct sae_files files;

    assert_int_equal(sae_files_init(&files, path, NULL), STATUS_OK);
    return files;
}

static void sae_files_splits_a_path(void **state)
{
    static const struct {
        const char *path, *folder, *name;
    } rows[] = {
        {"a/b/c.pt", "a/b", "c.pt"},
        {"c.pt", ".", "c.pt"},
        {"/c.pt", "/", "c.pt"},
        {"a//c.pt", "a/", "c.pt"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sae_files files = files_of(rows[i].path);

        assert_string_equal(files.folder, rows[i].folder);
        assert_string_equal(files.name, rows[i].name);
        sae_files_release(&files);
    }
}

static void sae_files_under_takes_the_innermost_match(void **state)
{
    static const char *const layers[] = {"layer_*", "embedding"}, *const none[] = {"none*"};
    struct sae_files files = files_of("/r/embedding/layer_1/layer_22/x//params.npz");
    char part[SAE_FILES_PART_MAX];

    (void)state;
    assert_true(sae_files_under(&files, layers, 2, part));
    assert_string_equal(part, "layer_22");
    assert_true(sae_files_under(&files, layers + 1, 1, part));
    assert_string_equal(part, "embedding");
    assert_false(sae_files_under(&files, none, 1, part));
    assert_string_equal(part, "");
    sae_files_release(&files);
}

/* A relative path says less than where it leads to. */
static void sae_files_under_resolves_a_path(void **state)
{
    static const char *const patterns[] = {"deep_*"};
    char part[SAE_FILES_PART_MAX], cwd[1024];
    struct sae_files files;

    (void)state;
    folder_write_text("deep_1/in/x.txt", "x");
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_int_equal(chdir(scratch_path("deep_1/in")), 0);
    files = files_of("x.txt");
    assert_true(sae_files_under(&files, patterns, 1, part));
    assert_string_equal(part, "deep_1");
    sae_files_release(&files);
    assert_int_equal(chdir(cwd), 0);
}

static void sae_files_torch_goes_by_the_ending(void **state)
{
    static const char *const torch[] = {"a.pt", "a.pth", "a.bin"}, *const others[] = {"apt", "a.p"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct sae_files files = files_of(torch[i]);

        assert_true(sae_files_torch(&files));
        sae_files_release(&files);
    }
    for (size_t i = 0; i < 2; i++) {
        struct sae_files files = files_of(others[i]);

        assert_false(sae_files_torch(&files));
        sae_files_release(&files);
    }
}

static void sae_name_number_reads_what_follows_a_key(void **state)
{
    (void)state;
    assert_float_equal(sae_name_number("SAE-Res-Qwen3-8B-Base-W64K-L0_50", "L0_"), 50, 0);
    assert_float_equal(sae_name_number("average_l0_82", "l0_"), 82, 0);
    assert_float_equal(sae_name_number("L0_7", "L0_"), 7, 0);
    assert_float_equal(sae_name_number("XL0_9-L0_8x", "L0_"), 8, 0);
    assert_true(isnan(sae_name_number("layer_22_width_16k_l0_medium", "l0_")));
    assert_true(isnan(sae_name_number("L0_", "L0_")));
    assert_true(isnan(sae_name_number("", "L0_")));
    assert_true(isnan(sae_name_number("L0_99999999999999999999", "L0_")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sae_files_splits_a_path),
        cmocka_unit_test(sae_files_under_takes_the_innermost_match),
        cmocka_unit_test(sae_files_under_resolves_a_path),
        cmocka_unit_test(sae_files_torch_goes_by_the_ending),
        cmocka_unit_test(sae_name_number_reads_what_follows_a_key),
    };

    return cmocka_run_group_tests_name("sae/sae_files", tests, scratch_setup, scratch_teardown);
}
