#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "ipc/message.h"
#include "tests/support/cmocka_headers.h"

/* A message as its peer would write it; frames point wherever a case wants them. */
struct sample {
    unsigned char envelope[PROTOCOL_ENVELOPE_BYTES];
    struct frame frames[MESSAGE_FRAMES_MAX + 1];
    size_t n;
};

static void sample_envelope(struct sample *s, struct envelope envelope)
{
    envelope.major = PROTOCOL_MAJOR;
    envelope_write(&envelope, s->envelope);
    s->frames[0] = (struct frame){s->envelope, sizeof(s->envelope)};
}

/* One tensor [n] of bytes, described by `header`. */
static void sample_init(struct sample *s, const char *header, const void *bytes, size_t n)
{
    *s = (struct sample){.n = 3};
    sample_envelope(s, (struct envelope){.kind = KIND_SUBMIT, .session = 5, .n_tensors = 1});
    s->frames[1] = (struct frame){header, strlen(header)};
    s->frames[2] = (struct frame){bytes, n};
}

static enum protocol_error sample_read(const struct sample *s, struct message *message,
                                       struct fault *fault)
{
    enum protocol_error e;

    *fault = (struct fault){0};
    e = message_read_envelope(message, s->frames, s->n, fault);
    if (!e)
        e = message_read_body(message, s->frames, s->n, fault);
    assert_int_equal(e, fault->code);
    return e;
}

static void sample_refuse(const struct sample *s, enum protocol_error code, const char *field,
                          const char *words)
{
    struct message message;
    struct fault fault;

    sample_read(s, &message, &fault);
    if (fault.code != code || strcmp(fault.field, field) != 0 || !strstr(fault.message, words))
        fail_msg("found %s '%s' (%s), expected %s '%s' (%s)", protocol_error_name(fault.code),
                 fault.field, fault.message, protocol_error_name(code), field, words);
    message_release(&message);
    assert_null(message.header);
}

static const uint64_t sids[3] = {7, UINT64_MAX, 9};
static const float rewards[2] = {0.5f, -1.0f};

static enum status build(struct message_out *out, struct error *err)
{
    enum status st;

    text_append(&out->header, "\"seq\":3");
    st = message_out_copy(out, "sid", DTYPE_U64, 3, sids, err);
    if (!st)
        st = message_out_copy(out, "reward", DTYPE_F32, 2, rewards, err);
    if (!st)
        st = message_out_copy(out, "empty", DTYPE_I64, 0, NULL, err);
    return st ? st : message_out_finish(out, err);
}

static void sample_of(struct sample *s, const struct message_out *out)
{
    *s = (struct sample){.n = out->n_tensors + 2};
    sample_envelope(s, (struct envelope){.kind = KIND_FEEDBACK,
                                         .session = 5,
                                         .request = 8,
                                         .n_tensors = (uint32_t)out->n_tensors});
    s->frames[1] = (struct frame){text_string(&out->header), out->header.length};
    for (size_t i = 0; i < out->n_tensors; i++)
        s->frames[i + 2] = (struct frame){out->tensors[i].data, out->tensors[i].bytes};
}

static void message_built_is_read_back(void **state)
{
    struct message_out out = {0};
    struct message message;
    struct sample sample;
    struct fault fault;
    uint64_t seq;

    (void)state;
    assert_int_equal(build(&out, NULL), STATUS_OK);
    assert_string_equal(text_string(&out.header),
                        "{\"seq\":3,\"tensors\":[{\"name\":\"sid\",\"dtype\":\"u64\",\"shape\":[3]}"
                        ",{\"name\":\"reward\",\"dtype\":\"f32\",\"shape\":[2]},{\"name\":\"empty\""
                        ",\"dtype\":\"i64\",\"shape\":[0]}]}");
    sample_of(&sample, &out);
    assert_int_equal(sample_read(&sample, &message, &fault), E_NONE);
    assert_int_equal(message.envelope.kind, KIND_FEEDBACK);
    assert_int_equal(message.envelope.request, 8);
    assert_true(json_u64(json_member(message.header, "seq"), &seq) && seq == 3);
    assert_int_equal(message.n_tensors, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(tensor_u64(message_tensor(&message, "sid"), i) == sids[i]);
    assert_true(tensor_f32(message_tensor(&message, "reward"), 1) == rewards[1]);
    assert_int_equal(message_tensor(&message, "empty")->count, 0);
    assert_null(message_tensor(&message, "Sid"));
    message_release(&message);
    message_out_release(&out);
}

static void a_header_without_members_or_tensors_is_an_object(void **state)
{
    struct message_out out = {0};
    struct message message;
    struct sample sample;
    struct fault fault;

    (void)state;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(message_out_finish(&out, NULL), STATUS_OK);
        assert_string_equal(text_string(&out.header), "{\"tensors\":[]}");
        sample_of(&sample, &out);
        assert_int_equal(sample_read(&sample, &message, &fault), E_NONE);
        assert_int_equal(message.n_tensors, 0);
        message_release(&message);
        message_out_clear(&out);
    }
    message_out_release(&out);
}

static void every_dtype_is_read_at_any_address(void **state)
{
    static const struct {
        const char *name;
        enum dtype dtype;
    } dtypes[] = {
        {"f32", DTYPE_F32}, {"f16", DTYPE_F16}, {"bf16", DTYPE_BF16}, {"u8", DTYPE_U8},
        {"i32", DTYPE_I32}, {"u32", DTYPE_U32}, {"i64", DTYPE_I64},   {"u64", DTYPE_U64},
    };
    unsigned char bytes[6 * 8 + 8];
    char header[128];

    (void)state;
    memset(bytes, 0xff, sizeof(bytes));
    for (size_t i = 0; i < 8; i++) {
        for (size_t shift = 0; shift < 8; shift++) {
            struct message message;
            struct sample sample;
            struct fault fault;
            const struct tensor *t = &message.tensors[0];

            snprintf(header, sizeof(header),
                     "{\"tensors\":[{\"name\":\"x\",\"dtype\":\"%s\",\"shape\":[1,2,1,3]}]}",
                     dtypes[i].name);
            sample_init(&sample, header, bytes + shift, 6 * dtype_size(dtypes[i].dtype));
            assert_int_equal(sample_read(&sample, &message, &fault), E_NONE);
            assert_int_equal(t->dtype, dtypes[i].dtype);
            assert_int_equal(t->count, 6);
            assert_int_equal(t->shape.rank, 4);
            assert_ptr_equal(t->data, bytes + shift);
            assert_string_equal(message_dtype_name(t->dtype), dtypes[i].name);
            if (t->dtype == DTYPE_U64)
                assert_true(tensor_u64(t, 5) == UINT64_MAX);
            if (t->dtype == DTYPE_I64)
                assert_true(tensor_i64(t, 5) == -1);
            if (t->dtype == DTYPE_I32)
                assert_true(tensor_i32(t, 5) == -1);
            if (t->dtype == DTYPE_F32)
                assert_true(tensor_f32(t, 5) != tensor_f32(t, 5));
            message_release(&message);
        }
    }
}

static void tensors_may_have_no_elements_and_no_dimensions(void **state)
{
    static const struct {
        const char *shape;
        size_t count;
    } cases[] = {
        {"[]", 1}, {"[0]", 0}, {"[0,7]", 0}, {"[18446744073709551615,18446744073709551615,0]", 0}};
    char header[160];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct message message;
        struct sample sample;
        struct fault fault;

        snprintf(header, sizeof(header),
                 "{\"tensors\":[{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":%s}]}", cases[i].shape);
        sample_init(&sample, header, cases[i].count ? rewards : NULL, 4 * cases[i].count);
        assert_int_equal(sample_read(&sample, &message, &fault), E_NONE);
        assert_int_equal(message.tensors[0].count, cases[i].count);
        message_release(&message);
    }
}

static void envelopes_are_checked_in_the_protocols_order(void **state)
{
    struct envelope envelope = {.kind = 9, .n_tensors = 33};
    static unsigned char zeros[PROTOCOL_FRAME_BYTES_MAX + 1];
    struct message message;
    struct sample s;

    (void)state;
    /* Everything is wrong at once; one thing after the other is put right. */
    s = (struct sample){.n = 1};
    sample_refuse(&s, E_BAD_FRAME, "", "no envelope: 0 bytes");
    s.n = 0;
    sample_refuse(&s, E_BAD_FRAME, "", "no envelope: 0 bytes");
    s.n = 1;
    sample_envelope(&s, envelope);
    s.envelope[4] = 2;
    sample_refuse(&s, E_PROTO_VERSION, "", "version 2.0, expected 1.x");
    s.envelope[4] = 1;
    s.envelope[5] = 9;
    sample_refuse(&s, E_UNKNOWN_OP, "", "kind 9");
    envelope.kind = KIND_SUBMIT;
    sample_envelope(&s, envelope);
    sample_refuse(&s, E_TOO_LARGE, "", "more than 32 tensors");
    envelope.n_tensors = 1;
    sample_envelope(&s, envelope);
    s.n = MESSAGE_FRAMES_MAX + 1;
    sample_refuse(&s, E_TOO_LARGE, "", "more than 32 tensors");
    s.n = 1;
    sample_refuse(&s, E_BAD_FRAME, "", "1 frame, expected");
    s.n = 2;
    sample_refuse(&s, E_BAD_FRAME, "", "n_tensors is 1, but 0 frames");
    s.n = 4;
    sample_refuse(&s, E_BAD_FRAME, "", "n_tensors is 1, but 2 frames");
    s.n = 3;
    s.frames[1] = (struct frame){zeros, PROTOCOL_HEADER_BYTES_MAX + 1};
    s.frames[2] = (struct frame){zeros, sizeof(zeros)};
    sample_refuse(&s, E_TOO_LARGE, "", "header of 1048577 bytes, at most 1048576");
    s.frames[1].n--;
    sample_refuse(&s, E_TOO_LARGE, "", "tensor 0 of 67108865 bytes, at most 67108864");
    s.frames[2].n--;
    assert_int_equal(message_read_envelope(&message, s.frames, 3, NULL), E_NONE);
    sample_refuse(&s, E_BAD_HEADER, "", "the header: byte 0");
}

#define DEEP "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]"

static void headers_that_lie_are_refused(void **state)
{
    static const struct {
        const char *header, *field, *words;
    } cases[] = {
        {"", "", "the header"},
        {"{", "", "the header"},
        {"[]", "", "the header is an array, expected an object"},
        {"null", "", "the header is null"},
        {"{} x", "", "the header: byte 3"},
        {"{\"x\":NaN}", "", "NaN"},
        {"{\"x\":-Infinity}", "", "Infinity"},
        {"{\"x\":1,\"x\":2}", "", "'x' comes twice"},
        {"{\"x\":" DEEP "}", "", "nested deeper than 16"},
        {"{\"x\":\"\xff\"}", "", "not UTF-8"},
        {"{}", "tensors", "tensors is not there"},
        {"{\"tensors\":null}", "tensors", "tensors is null"},
        {"{\"tensors\":{}}", "tensors", "tensors is an object, expected an array"},
        {"{\"tensors\":[]}", "tensors", "0 elements, but 1 frames"},
        {"{\"tensors\":[{},{}]}", "tensors", "2 elements, but 1 frames"},
        {"{\"tensors\":[3]}", "tensors[0]", "tensors[0] is a"},
        {"{\"tensors\":[{}]}", "tensors[0].name", "tensors[0].name is not there"},
        {"{\"tensors\":[{\"name\":1}]}", "tensors[0].name", "expected a string"},
        {"{\"tensors\":[{\"name\":\"x\"}]}", "tensors[0].dtype", "is not there"},
        {"{\"tensors\":[{\"name\":\"x\",\"dtype\":null}]}", "tensors[0].dtype", "is null"},
        {"{\"tensors\":[{\"name\":\"x\",\"dtype\":\"f\"}]}", "tensors[0].shape", "is not there"},
        {"{\"tensors\":[{\"name\":\"x\",\"dtype\":\"f\",\"shape\":2}]}", "tensors[0].shape",
         "expected an array"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct sample sample;

        sample_init(&sample, cases[i].header, rewards, 8);
        sample_refuse(&sample, E_BAD_HEADER, cases[i].field, cases[i].words);
    }
}

static void a_small_header_of_a_huge_tree_is_refused(void **state)
{
    struct text header = {0};
    struct sample sample;

    (void)state;
    text_append(&header, "{\"tensors\":[],\"x\":[");
    for (size_t i = 0; i < 100000; i++)
        text_append(&header, "{},");
    text_append(&header, "{}]}");
    sample_init(&sample, text_string(&header), rewards, 8);
    sample_refuse(&sample, E_BAD_HEADER, "", "more than 16 MiB of memory");
    text_release(&header);
}

#define NAME_31 "abcdefghijklmnopqrstuvwxyz01234"

static void tensors_that_lie_are_refused(void **state)
{
    static const struct {
        const char *name, *dtype, *shape, *field, *words;
    } cases[] = {
        {"", "f32", "[2]", "tensors[0].name", "0 bytes, expected 1 to 31"},
        {NAME_31 "5", "f32", "[2]", "tensors[0].name", "32 bytes, expected 1 to 31"},
        {"a\\u0000b", "f32", "[2]", "tensors[0].name", "zero byte"},
        {"a\\n", "F32", "[2]", "a?", "tensor 'a?': dtype 'F32', expected one of f32"},
        {"x", "", "[2]", "x", "dtype ''"},
        {"x", "f64", "[1]", "x", "dtype 'f64'"},
        {"x", "f32\\u0000", "[2]", "x", "dtype"},
        {"x", "f32", "[1,1,1,1,2]", "x", "5 dimensions, at most 4"},
        {"x", "f32", "[-2]", "x", "dimension 0 is not an integer of 0 or more"},
        {"x", "f32", "[1,2.0]", "x", "dimension 1"},
        {"x", "f32", "[\"2\"]", "x", "dimension 0"},
        {"x", "f32", "[null]", "x", "dimension 0"},
        {"x", "f32", "[4294967296,4294967296]", "x", "more bytes than 64 bits can count"},
        {"x", "f32", "[4611686018427387906]", "x", "more bytes than 64 bits can count"},
        {"x", "u8", "[4611686018427387906]", "x", "8 bytes, expected 4611686018427387906 of u8"},
        {"x", "f32", "[3]", "x", "tensor 'x': its frame has 8 bytes, expected 12 of f32 [3]"},
        {"x", "f32", "[]", "x", "8 bytes, expected 4 of f32 []"},
        {"x", "f32", "[0]", "x", "8 bytes, expected 0 of f32 [0]"},
        {NAME_31, "f32", "[1]", NAME_31, "expected 4"},
    };
    char header[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct sample sample;

        snprintf(header, sizeof(header),
                 "{\"tensors\":[{\"name\":\"%s\",\"dtype\":\"%s\",\"shape\":%s}]}", cases[i].name,
                 cases[i].dtype, cases[i].shape);
        sample_init(&sample, header, rewards, 8);
        sample_refuse(&sample, E_BAD_TENSOR, cases[i].field, cases[i].words);
    }
}

static void a_name_comes_once_and_the_header_before_the_tensors(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample,
                "{\"tensors\":[{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[2]},"
                "{\"name\":\"x\",\"dtype\":\"f32\",\"shape\":[2]}]}",
                rewards, 8);
    sample_envelope(&sample, (struct envelope){.kind = KIND_SUBMIT, .n_tensors = 2});
    sample.frames[sample.n++] = sample.frames[2];
    sample_refuse(&sample, E_BAD_TENSOR, "x", "tensor 'x' comes twice");
    sample.frames[1].data = "{\"tensors\":[{\"name\":\"x\",\"dtype\":\"bad\",\"shape\":[2]},{}]}";
    sample.frames[1].n = strlen(sample.frames[1].data);
    sample_refuse(&sample, E_BAD_HEADER, "tensors[1].name", "not there");
}

static void digest_is_of_kind_header_and_tensors_with_their_borders(void **state)
{
    static const char bytes[] = "abcdef";
    struct known_hash known;
    struct hash128 first;
    struct sample a, b;

    (void)state;
    sample_init(&a, "{}", bytes, 3);
    sample_envelope(&a, (struct envelope){.kind = KIND_SUBMIT, .session = 1, .request = 1});
    a.frames[a.n++] = (struct frame){bytes + 3, 3};
    first = message_digest(a.frames, a.n, NULL);

    b = a;
    sample_envelope(&b, (struct envelope){
                            .kind = KIND_SUBMIT, .session = 2, .request = 9, .flags = FLAG_RETRY});
    assert_true(hash128_equal(first, message_digest(b.frames, b.n, NULL)));

    b.frames[2].n = 4;
    b.frames[3] = (struct frame){bytes + 4, 2};
    assert_false(hash128_equal(first, message_digest(b.frames, b.n, NULL)));

    b = a;
    b.frames[1] = (struct frame){"{ }", 3};
    assert_false(hash128_equal(first, message_digest(b.frames, b.n, NULL)));

    b = a;
    sample_envelope(&b, (struct envelope){.kind = KIND_SCORE, .session = 1, .request = 1});
    assert_false(hash128_equal(first, message_digest(b.frames, b.n, NULL)));

    /* A hash that is known stands for a frame's bytes, and for no other's. */
    known = (struct known_hash){.data = bytes, .hash = hash128("abc", 3)};
    assert_true(hash128_equal(first, message_digest(a.frames, a.n, &known)));
    known.hash.low++;
    assert_false(hash128_equal(first, message_digest(a.frames, a.n, &known)));
    known.data = bytes + 1;
    assert_true(hash128_equal(first, message_digest(a.frames, a.n, &known)));

    /* An empty frame is not the same as none. */
    b = a;
    b.frames[b.n++] = (struct frame){NULL, 0};
    assert_false(hash128_equal(first, message_digest(b.frames, b.n, NULL)));
}

static void a_fault_is_told_and_read_back(void **state)
{
    struct message_out out = {0};
    struct message message;
    struct sample sample;
    struct fault fault, read;

    (void)state;
    for (int code = E_NONE + 1; code < PROTOCOL_ERROR_COUNT; code++) {
        assert_int_equal(build(&out, NULL), STATUS_OK);
        fault_set(&fault, (enum protocol_error)code, "sid", "a \"quoted\" %s", "thing");
        fault.retry_after_ms = code == E_BUSY ? 250 : 0;
        message_out_fault(&out, &fault);
        assert_int_equal(message_out_finish(&out, NULL), STATUS_OK);
        sample_of(&sample, &out);
        assert_int_equal(sample_read(&sample, &message, &read), E_NONE);
        assert_int_equal(message.n_tensors, 0);
        assert_int_equal(json_bool(json_member(message.header, "retryable")),
                         code == E_BUSY || code == E_IO || code == E_NO_SESSION);
        message_fault(&message, &read);
        assert_int_equal(read.code, code);
        assert_string_equal(read.field, "sid");
        assert_string_equal(read.message, "a \"quoted\" thing");
        assert_int_equal(read.retry_after_ms, fault.retry_after_ms);
        message_release(&message);
    }
    message_out_release(&out);
}

static void fault_replies_of_others_are_taken_as_they_come(void **state)
{
    static const struct {
        const char *header;
        enum protocol_error code;
        uint32_t wait;
        const char *words;
    } cases[] = {
        {"{\"tensors\":[]}", E_INTERNAL, 0, "an error without a code: "},
        {"{\"code\":\"E_NEW\",\"message\":\"x\",\"tensors\":[]}", E_INTERNAL, 0, "E_NEW: x"},
        {"{\"code\":3,\"message\":[],\"tensors\":[]}", E_INTERNAL, 0, "without a code"},
        {"{\"code\":\"E_BUSY\",\"retry_after_ms\":-1,\"tensors\":[]}", E_BUSY, 0, ""},
        {"{\"code\":\"E_BUSY\",\"retry_after_ms\":5000000000,\"tensors\":[]}", E_BUSY, UINT32_MAX,
         ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct message message;
        struct sample sample;
        struct fault fault;

        sample_init(&sample, cases[i].header, NULL, 0);
        sample_envelope(&sample, (struct envelope){.kind = KIND_PING});
        sample.n = 2;
        assert_int_equal(sample_read(&sample, &message, &fault), E_NONE);
        message_fault(&message, &fault);
        assert_int_equal(fault.code, cases[i].code);
        assert_int_equal(fault.retry_after_ms, cases[i].wait);
        assert_non_null(strstr(fault.message, cases[i].words));
        message_release(&message);
    }
}

static void only_some_faults_are_worth_a_retry(void **state)
{
    struct fault fault = {.code = E_EXHAUSTED};

    (void)state;
    assert_false(fault_retryable(&fault));
    fault.retry_after_ms = 100;
    assert_true(fault_retryable(&fault));
    fault.code = E_CONFLICT;
    assert_false(fault_retryable(&fault));
}

static void a_fault_is_one_line_of_utf8(void **state)
{
    char name[600];
    struct fault fault;

    (void)state;
    /* Two bytes each: whatever the length of the buffer, one of the starts is cut in two. */
    for (size_t shift = 0; shift < 2; shift++) {
        memset(name, 'x', shift);
        for (size_t i = shift; i + 1 < sizeof(name); i += 2)
            memcpy(name + i, "\xc3\xa4", 2);
        name[sizeof(name) - 1] = '\0';
        fault_set(&fault, E_BAD_TENSOR, name, "%s", name);
        assert_int_equal(text_utf8_valid(fault.field, strlen(fault.field)), strlen(fault.field));
        assert_int_equal(text_utf8_valid(fault.message, strlen(fault.message)),
                         strlen(fault.message));
        assert_int_equal(strlen(fault.field), sizeof(fault.field) - 1);
        assert_int_equal(strlen(fault.message), sizeof(fault.message) - 1);
    }
    fault_set(&fault, E_IO, "a\nb", "\x1b[31m\xff%s", "\x7f");
    assert_string_equal(fault.field, "a?b");
    assert_string_equal(fault.message, "?[31m??");
    assert_int_equal(fault_set(&fault, E_IO, NULL, "x"), E_IO);
    assert_string_equal(fault.field, "");
}

static void building_survives_failing_allocation(void **state)
{
    size_t n = 0;
    bool failed;

    (void)state;
    do {
        struct message_out out = {0};
        struct fault fault = {.code = E_BUSY};
        enum status st;

        mem_fail_after(n++);
        st = build(&out, NULL);
        failed = mem_failed();
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        /* What is left can be built anew. */
        mem_fail_after(SIZE_MAX);
        message_out_fault(&out, &fault);
        assert_int_equal(message_out_finish(&out, NULL), STATUS_OK);
        assert_int_equal(out.n_tensors, 0);
        message_out_release(&out);
    } while (failed);
    assert_true(n > 4);
}

static void memory_taken_over_is_not_copied(void **state)
{
    struct message_out out = {0};
    void *data = mem_zalloc(6, sizeof(float));
    void *before = data;

    (void)state;
    message_out_take(&out, "act", DTYPE_F32, 6, &data);
    assert_null(data);
    assert_ptr_equal(out.tensors[0].data, before);
    assert_int_equal(out.tensors[0].bytes, 24);
    out.tensors[0].shape = (struct shape){.rank = 2, .dims = {2, 3}};
    assert_int_equal(message_out_finish(&out, NULL), STATUS_OK);
    assert_non_null(strstr(text_string(&out.header), "\"shape\":[2, 3]"));
    message_out_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_built_is_read_back),
        cmocka_unit_test(a_header_without_members_or_tensors_is_an_object),
        cmocka_unit_test(every_dtype_is_read_at_any_address),
        cmocka_unit_test(tensors_may_have_no_elements_and_no_dimensions),
        cmocka_unit_test(envelopes_are_checked_in_the_protocols_order),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(a_small_header_of_a_huge_tree_is_refused),
        cmocka_unit_test(tensors_that_lie_are_refused),
        cmocka_unit_test(a_name_comes_once_and_the_header_before_the_tensors),
        cmocka_unit_test(digest_is_of_kind_header_and_tensors_with_their_borders),
        cmocka_unit_test(a_fault_is_told_and_read_back),
        cmocka_unit_test(fault_replies_of_others_are_taken_as_they_come),
        cmocka_unit_test(only_some_faults_are_worth_a_retry),
        cmocka_unit_test(a_fault_is_one_line_of_utf8),
        cmocka_unit_test(building_survives_failing_allocation),
        cmocka_unit_test(memory_taken_over_is_not_copied),
    };

    return cmocka_run_group_tests_name("ipc/message", tests, NULL, NULL);
}
