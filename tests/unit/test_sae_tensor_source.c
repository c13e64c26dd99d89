#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/safetensors.h"
#include "sae/tensor_source.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"
#include "tests/support/zip_sample.h"

static const float numbers[6] = {0, 1, 2, 3, 4, 5};

/* {"step": 3, "ae": {"w": [2, 3] transposed, "b": [3], "act": "TopK", "on": True}, "aex": b} */
static const char *make_torch(const char *name)
{
    const struct pickle_view w = {.storage_class = "FloatStorage",
                                  .key = "0",
                                  .n_elements = 6,
                                  .rank = 2,
                                  .dims = {2, 3},
                                  .strides = {1, 2}};
    const struct pickle_view b = {.storage_class = "FloatStorage",
                                  .key = "0",
                                  .n_elements = 6,
                                  .offset = 3,
                                  .rank = 1,
                                  .dims = {3},
                                  .strides = {1}};
    struct text pickle = {0}, file = {0};
    const char *path;

    text_append_n(&pickle, "\x80\2}(", 4);
    pickle_string(&pickle, "step");
    pickle_integer(&pickle, 3);
    pickle_string(&pickle, "ae");
    text_append(&pickle, "}(");
    pickle_string(&pickle, "w");
    pickle_tensor(&pickle, &w);
    pickle_string(&pickle, "b");
    pickle_tensor(&pickle, &b);
    pickle_string(&pickle, "act");
    pickle_string(&pickle, "TopK");
    pickle_string(&pickle, "on");
    text_append(&pickle, "\x88u");
    pickle_string(&pickle, "aex");
    pickle_tensor(&pickle, &b);
    text_append(&pickle, "u.");
    zip_append(
        &file,
        (const struct zip_item[]){{.name = "m/data.pkl", .bytes = pickle.data, .n = pickle.length},
                                  {.name = "m/data/0", .bytes = numbers, .n = sizeof(numbers)}},
        2);
    path = scratch_file(name, file.data, file.length);
    text_release(&pickle);
    text_release(&file);
    return path;
}

static const char *make_npz(void)
{
    struct text array = {0}, file = {0};
    const char *path;

    npy_append(&array, "<f4", 2, 3, numbers, sizeof(numbers));
    zip_append(&file, &(struct zip_item){.name = "w.npy", .bytes = array.data, .n = array.length},
               1);
    path = scratch_file("m.npz", file.data, file.length);
    text_release(&array);
    text_release(&file);
    return path;
}

static const char *make_safetensors(void)
{
    const char *path = scratch_path("m.safetensors");

    assert_int_equal(safetensors_write(path,
                                       &(struct safetensors_item){.name = "w",
                                                                  .dtype = DTYPE_F32,
                                                                  .shape = {2, {2, 3}},
                                                                  .data = numbers},
                                       1, NULL, 0, NULL),
                     STATUS_OK);
    return path;
}

static void check_matrix(struct tensor_source *source, enum tensor_order order)
{
    const struct tensor_entry *entry = tensor_source_find(source, "w");
    float out[4];

    assert_non_null(entry);
    assert_int_equal(entry->dtype, DTYPE_F32);
    assert_int_equal(entry->order, order);
    assert_int_equal(entry->count, 6);
    assert_int_equal(entry->shape.dims[1], 3);
    assert_int_equal(tensor_source_read(source, entry, 1, 4, out, NULL), STATUS_OK);
    assert_memory_equal(out, numbers + 1, sizeof(out));
    assert_int_equal(tensor_source_read(source, entry, 3, 4, out, NULL), STATUS_INVALID);
}

static void source_containers_are_told_by_their_names(void **state)
{
    static const char *const torch_names[] = {"m.pt", "m.pth", "m.bin"};
    struct tensor_source source;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(torch_names) / sizeof(*torch_names); i++) {
        assert_int_equal(tensor_source_open(&source, make_torch(torch_names[i]), NULL), STATUS_OK);
        assert_int_equal(source.n_entries, 3);
        assert_true(tensor_source_enter(&source, "ae"));
        check_matrix(&source, TENSOR_ORDER_COLUMNS);
        tensor_source_close(&source);
        tensor_source_close(&source);
    }
    assert_int_equal(tensor_source_open(&source, make_npz(), NULL), STATUS_OK);
    check_matrix(&source, TENSOR_ORDER_COLUMNS);
    assert_int_equal(source.n_values, 0);
    tensor_source_close(&source);
    assert_int_equal(tensor_source_open(&source, make_safetensors(), NULL), STATUS_OK);
    check_matrix(&source, TENSOR_ORDER_ROWS);
    tensor_source_close(&source);
    assert_int_equal(tensor_source_open(&source, "weights.gguf", &err), STATUS_UNSUPPORTED);
    assert_non_null(strstr(err.message, "weights.gguf: not a .safetensors file, nor .pt"));
}

static void source_values_are_beside_the_tensors(void **state)
{
    struct tensor_source source;

    (void)state;
    assert_int_equal(tensor_source_open(&source, make_torch("m.pt"), NULL), STATUS_OK);
    assert_int_equal(source.n_values, 3);
    assert_int_equal(tensor_source_value(&source, "step")->type, TENSOR_VALUE_NUMBER);
    assert_true(tensor_source_value(&source, "step")->number == 3);
    assert_null(tensor_source_value(&source, "step")->string);
    assert_int_equal(tensor_source_value(&source, "ae/act")->type, TENSOR_VALUE_STRING);
    assert_string_equal(tensor_source_value(&source, "ae/act")->string, "TopK");
    assert_int_equal(tensor_source_value(&source, "ae/on")->type, TENSOR_VALUE_BOOL);
    assert_true(tensor_source_value(&source, "ae/on")->number == 1);
    assert_null(tensor_source_value(&source, "act"));
    assert_null(tensor_source_value(&source, NULL));
    assert_null(tensor_source_find(&source, NULL));
    tensor_source_close(&source);
}

static void source_entering_a_dict_leaves_the_rest_behind(void **state)
{
    const struct tensor_entry *b;
    struct tensor_source source;
    float out[3];

    (void)state;
    assert_int_equal(tensor_source_open(&source, make_torch("m.pt"), NULL), STATUS_OK);
    assert_false(tensor_source_enter(&source, "a"));
    assert_false(tensor_source_enter(&source, "step"));
    assert_false(tensor_source_enter(&source, "ae/w"));
    assert_int_equal(source.n_entries, 3);
    assert_true(tensor_source_enter(&source, "ae"));
    assert_int_equal(source.n_entries, 2);
    assert_int_equal(source.n_values, 2);
    assert_null(tensor_source_find(&source, "aex"));
    assert_null(tensor_source_value(&source, "step"));
    assert_string_equal(tensor_source_value(&source, "act")->string, "TopK");
    b = tensor_source_find(&source, "b");
    assert_non_null(b);
    assert_int_equal(tensor_source_read(&source, b, 0, 3, out, NULL), STATUS_OK);
    assert_memory_equal(out, numbers + 3, sizeof(out));
    tensor_source_close(&source);
}

static void source_opening_survives_failing_allocation(void **state)
{
    const char *const paths[] = {make_torch("m.pt"), make_npz(), make_safetensors()};

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        size_t allowed = 0;

        do {
            struct tensor_source source;
            enum status st;

            mem_fail_after(allowed++);
            st = tensor_source_open(&source, paths[i], NULL);
            assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
            tensor_source_close(&source);
        } while (mem_failed());
        mem_fail_after(SIZE_MAX);
        assert_true(allowed > 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(source_containers_are_told_by_their_names),
        cmocka_unit_test(source_values_are_beside_the_tensors),
        cmocka_unit_test(source_entering_a_dict_leaves_the_rest_behind),
        cmocka_unit_test(source_opening_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("sae/tensor_source", tests, scratch_setup, scratch_teardown);
}
