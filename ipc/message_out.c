#include "ipc/message.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

bool fault_retryable(const struct fault *fault)
{
    switch (fault->code) {
    case E_BUSY:
    case E_IO:
    case E_NO_SESSION:
        return true;
    case E_EXHAUSTED: /* a pool without samples may get some; the end of the last epoch stays one */
        return fault->retry_after_ms > 0;
    default:
        return false;
    }
}

/* Peers choose names and we cut what is too long: what leaves is printable and UTF-8 all the same.
 */
static void sanitise(char *s)
{
    size_t n = strlen(s);
    size_t valid;

    while ((valid = text_utf8_valid(s, n)) < n)
        s[valid] = '?';
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c < 0x20 || c == 0x7f)
            *s = '?';
    }
}

enum protocol_error fault_set(struct fault *fault, enum protocol_error code, const char *field,
                              const char *format, ...)
{
    va_list args;

    *fault = (struct fault){.code = code};
    snprintf(fault->field, sizeof(fault->field), "%s", field ? field : "");
    sanitise(fault->field);
    va_start(args, format);
    vsnprintf(fault->message, sizeof(fault->message), format, args);
    va_end(args);
    sanitise(fault->message);
    return code;
}

void message_out_clear(struct message_out *out)
{
    for (size_t i = 0; i < out->n_tensors; i++)
        mem_free(out->tensors[i].data);
    out->n_tensors = 0;
    text_clear(&out->header);
}

void message_out_release(struct message_out *out)
{
    message_out_clear(out);
    text_release(&out->header);
}

void message_out_take(struct message_out *out, const char *name, enum dtype dtype, size_t n,
                      void **data)
{
    struct message_out_tensor *t = &out->tensors[out->n_tensors];

    assert(out->n_tensors < PROTOCOL_TENSORS_MAX && strlen(name) <= PROTOCOL_NAME_BYTES_MAX);
    *t = (struct message_out_tensor){
        .dtype = dtype,
        .shape = {.rank = 1, .dims = {n}},
        .data = *data,
        .bytes = n * dtype_size(dtype),
    };
    memcpy(t->name, name, strlen(name));
    out->n_tensors++;
    *data = NULL;
}

enum status message_out_copy(struct message_out *out, const char *name, enum dtype dtype, size_t n,
                             const void *data, struct error *err)
{
    void *copy = mem_alloc(n, dtype_size(dtype));

    if (!copy)
        return error_nomem(err);
    if (n)
        memcpy(copy, data, n * dtype_size(dtype));
    message_out_take(out, name, dtype, n, &copy);
    return STATUS_OK;
}

enum status message_out_finish(struct message_out *out, struct error *err)
{
    struct text *header = &out->header;
    char shape[SHAPE_TEXT_MAX];
    enum status st;

    text_append(header, header->length ? ",\"tensors\":[" : "\"tensors\":[");
    for (size_t i = 0; i < out->n_tensors; i++) {
        const struct message_out_tensor *t = &out->tensors[i];

        text_append(header, i ? ",{\"name\":" : "{\"name\":");
        text_append_json_string(header, t->name, strlen(t->name));
        text_appendf(header, ",\"dtype\":\"%s\",\"shape\":%s}", message_dtype_name(t->dtype),
                     shape_text(&t->shape, shape));
    }
    text_append(header, "]}?"); /* the last byte makes room for the brace in front */
    st = text_check(header, err);
    if (st)
        return st;
    memmove(header->data + 1, header->data, header->length - 1);
    header->data[0] = '{';
    return STATUS_OK;
}

void message_out_fault(struct message_out *out, const struct fault *fault)
{
    struct text *header = &out->header;

    message_out_clear(out);
    text_appendf(header, "\"code\":\"%s\",\"message\":", protocol_error_name(fault->code));
    text_append_json_string(header, fault->message, strlen(fault->message));
    text_append(header, ",\"field\":");
    text_append_json_string(header, fault->field, strlen(fault->field));
    text_appendf(header, ",\"retryable\":%s,\"retry_after_ms\":%u",
                 fault_retryable(fault) ? "true" : "false", fault->retry_after_ms);
}
