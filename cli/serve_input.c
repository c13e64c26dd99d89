/*
 * cli/serve_input.c - tensors and header members of requests, checked.
 */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cli/serve.h"

#define SAMPLES_MAX ((size_t)1 << 20) /* of a request */

void fault_from_error(struct fault *fault, enum status st, const struct error *err)
{
    switch (st) {
    case STATUS_NOMEM:
        fault_set(fault, E_BUSY, NULL, "out of memory");
        fault->retry_after_ms = 1000;
        break;
    case STATUS_CANCELED:
        fault_set(fault, E_BUSY, NULL, "the sidecar is being stopped");
        fault->retry_after_ms = 1000;
        break;
    case STATUS_IO:
        fault_set(fault, E_IO, NULL, "%s", err->message);
        fault->retry_after_ms = 1000;
        break;
    default:
        fault_set(fault, E_INTERNAL, NULL, "%s", err->message);
        break;
    }
}

void fault_from_refusal(struct fault *fault, const struct refusal *refusal)
{
    static const enum protocol_error codes[] = {
        [REFUSAL_NONE] = E_NONE,
        [REFUSAL_HEADER] = E_BAD_HEADER,
        [REFUSAL_TENSOR] = E_BAD_TENSOR,
        [REFUSAL_FENCED] = E_FENCED,
        [REFUSAL_RUN] = E_RUN_MISMATCH,
        [REFUSAL_SAE] = E_SAE_MISMATCH,
        [REFUSAL_DATASET] = E_DATASET_MISMATCH,
        [REFUSAL_SEQ_GAP] = E_SEQ_GAP,
        [REFUSAL_SEQ_RETIRED] = E_SEQ_RETIRED,
        [REFUSAL_EXHAUSTED] = E_EXHAUSTED,
        [REFUSAL_CONFLICT] = E_CONFLICT,
        [REFUSAL_STATE_VERSION] = E_STATE_VERSION,
        [REFUSAL_NO_SNAPSHOT] = E_NO_SNAPSHOT,
        [REFUSAL_TOO_LARGE] = E_TOO_LARGE,
        [REFUSAL_BUSY] = E_BUSY,
    };

    if (refusal->code == REFUSAL_NONE)
        return;
    fault_set(fault, codes[refusal->code], refusal->field, "%s", refusal->message);
    fault->retry_after_ms = refusal->retry_after_ms;
}

static void refuse_number(const struct json *node, const char *name, struct fault *fault)
{
    int64_t x;

    if (json_i64(node, &x))
        fault_set(fault, E_BAD_HEADER, name, "%s is %" PRId64 ", expected an integer from 0 on",
                  name, x);
    else if (json_type(node) == JSON_NUMBER)
        fault_set(fault, E_BAD_HEADER, name, "%s is the number %g, expected an integer from 0 on",
                  name, json_double(node));
    else
        fault_set(fault, E_BAD_HEADER, name, "%s is %s, expected an integer from 0 on", name,
                  json_type_name(json_type(node)));
}

bool field_u64(const struct message *message, const char *name, enum field_need need, uint64_t max,
               uint64_t *value, struct fault *fault)
{
    const struct json *node = json_member(message->header, name);

    if (!node && need == FIELD_OPTIONAL)
        return true;
    if (!node)
        fault_set(fault, E_BAD_HEADER, name, "%s is missing: expected an integer", name);
    else if (!json_u64(node, value))
        refuse_number(node, name, fault);
    else if (*value > max)
        fault_set(fault, E_BAD_HEADER, name, "%s is %llu, expected at most %llu", name,
                  (unsigned long long)*value, (unsigned long long)max);
    return fault->code == E_NONE;
}

bool field_bool(const struct message *message, const char *name, bool *value, struct fault *fault)
{
    const struct json *node = json_member(message->header, name);

    if (!node)
        return true;
    if (json_type(node) != JSON_BOOL)
        fault_set(fault, E_BAD_HEADER, name, "%s is %s, expected true or false", name,
                  json_type_name(json_type(node)));
    *value = json_bool(node);
    return fault->code == E_NONE;
}

bool field_string(const struct message *message, const char *name, enum field_need need,
                  char value[FIELD_STRING_MAX + 1], struct fault *fault)
{
    const struct json *node = json_member(message->header, name);
    const char *s;
    size_t n = 0;

    value[0] = 0;
    if (!node && need == FIELD_OPTIONAL)
        return true;
    s = json_string(node, &n);
    if (!node)
        fault_set(fault, E_BAD_HEADER, name, "%s is missing: expected a string", name);
    else if (!s)
        fault_set(fault, E_BAD_HEADER, name, "%s is %s, expected a string", name,
                  json_type_name(json_type(node)));
    else if (n > FIELD_STRING_MAX || memchr(s, 0, n))
        fault_set(fault, E_BAD_HEADER, name,
                  "%s has %zu bytes, expected at most %d and no zero byte", name, n,
                  FIELD_STRING_MAX);
    else if (n == 0 && need == FIELD_REQUIRED)
        fault_set(fault, E_BAD_HEADER, name, "%s is empty", name);
    if (fault->code != E_NONE || !s)
        return false;
    memcpy(value, s, n);
    value[n] = 0;
    return true;
}

bool tensors_known(const struct message *message, const char *const *names, struct fault *fault)
{
    for (size_t t = 0; t < message->n_tensors; t++) {
        size_t i = 0;

        while (names[i] && strcmp(names[i], message->tensors[t].name) != 0)
            i++;
        if (!names[i]) {
            fault_set(fault, E_BAD_TENSOR, message->tensors[t].name,
                      "tensor '%s' is not one of %s's", message->tensors[t].name,
                      protocol_kind_name(message->envelope.kind));
            return false;
        }
    }
    return true;
}

static void describe(const struct tensor *t, struct text *out)
{
    char shape[SHAPE_TEXT_MAX];

    text_appendf(out, "%s %s", message_dtype_name(t->dtype), shape_text(&t->shape, shape));
}

/* "tensor 'sid' is f32 [3], expected u64 [4]" */
static void wrong_tensor(struct fault *fault, const struct tensor *t, const char *expected)
{
    struct text found = {0};

    describe(t, &found);
    fault_set(fault, E_BAD_TENSOR, t->name, "tensor '%s' is %s, expected %s", t->name,
              text_string(&found), expected);
    text_release(&found);
}

const struct tensor *tensor_vector(const struct message *message, const char *name,
                                   enum dtype dtype, enum field_need need, size_t n,
                                   struct fault *fault)
{
    const struct tensor *t = message_tensor(message, name);
    char expected[64];

    if (!t) {
        if (need == FIELD_REQUIRED)
            fault_set(fault, E_BAD_TENSOR, name, "tensor '%s' is missing", name);
        return NULL;
    }
    if (t->dtype == dtype && t->shape.rank == 1 && (n == SIZE_MAX || t->count == n))
        return t;
    if (n == SIZE_MAX)
        snprintf(expected, sizeof(expected), "%s of one dimension", message_dtype_name(dtype));
    else
        snprintf(expected, sizeof(expected), "%s [%zu]", message_dtype_name(dtype), n);
    wrong_tensor(fault, t, expected);
    return NULL;
}

void serve_input_release(struct serve_input *input)
{
    mem_free(input->sids);
    mem_free(input->offsets);
    csr_release(&input->sparse);
    mem_free(input->tokens_used);
    mem_free(input->recon_mean);
    mem_free(input->recon_max);
    mem_free(input->prompts);
    *input = (struct serve_input){0};
}

/* An aligned copy; the elements are little-endian, as this machine's are. */
static void *aligned(const struct tensor *t)
{
    void *copy = mem_alloc(t->count, dtype_size(t->dtype));

    if (copy && t->bytes)
        memcpy(copy, t->data, t->bytes);
    return copy;
}

bool offsets_sound(const int64_t *offsets, size_t n, size_t end, const char *name,
                   struct fault *fault)
{
    if (offsets[0] != 0) {
        fault_set(fault, E_BAD_TENSOR, name, "%s[0] is %lld, expected 0", name,
                  (long long)offsets[0]);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (offsets[i + 1] < offsets[i]) {
            fault_set(fault, E_BAD_TENSOR, name, "%s[%zu] is %lld, below %lld before it", name,
                      i + 1, (long long)offsets[i + 1], (long long)offsets[i]);
            return false;
        }
    }
    if ((uint64_t)offsets[n] != end) {
        fault_set(fault, E_BAD_TENSOR, name, "%s ends at %lld, expected %zu", name,
                  (long long)offsets[n], end);
        return false;
    }
    return true;
}

static enum status read_texts(struct serve_input *input, const struct message *message, size_t n,
                              struct fault *fault, struct error *err)
{
    const struct tensor *text =
        tensor_vector(message, "text", DTYPE_U8, FIELD_OPTIONAL, SIZE_MAX, fault);
    const struct tensor *off;
    int64_t *offsets;

    if (fault->code != E_NONE)
        return STATUS_OK;
    off = tensor_vector(message, "text_off", DTYPE_I64, text ? FIELD_REQUIRED : FIELD_OPTIONAL,
                        n + 1, fault);
    if (fault->code != E_NONE)
        return STATUS_OK;
    if (off && !text)
        fault_set(fault, E_BAD_TENSOR, "text", "text_off comes without the tensor 'text'");
    if (!text || !off)
        return STATUS_OK;
    offsets = aligned(off);
    input->prompts = mem_alloc(n, sizeof(*input->prompts));
    if (!offsets || !input->prompts) {
        mem_free(offsets);
        return error_nomem(err);
    }
    if (offsets_sound(offsets, n, text->bytes, "text_off", fault)) {
        for (size_t i = 0; i < n; i++)
            input->prompts[i] =
                hash128(text->data + offsets[i], (size_t)(offsets[i + 1] - offsets[i]));
        input->candidates.prompts = input->prompts;
    }
    mem_free(offsets);
    return STATUS_OK;
}

/* What belongs to the other form of samples would be ignored, and its sender misled. */
static bool none_of(const struct message *message, const char *const *names, const char *form,
                    struct fault *fault)
{
    for (; *names; names++) {
        if (!message_tensor(message, *names))
            continue;
        fault_set(fault, E_BAD_TENSOR, *names, "tensor '%s' does not go with '%s'", *names, form);
        return false;
    }
    return true;
}

static enum status read_dense(struct serve_input *input, const struct serve *serve,
                              const struct message *message, const struct tensor *act, size_t n,
                              struct fault *fault, struct error *err)
{
    struct candidates *c = &input->candidates;
    static const char *const others[] = {"indices",    "values",    "tokens_used",
                                         "recon_mean", "recon_max", NULL};
    const struct tensor *off, *keep;
    char expected[64];

    if (!none_of(message, others, "act", fault))
        return STATUS_OK;
    if (!serve->has_sae) {
        fault_set(fault, E_SAE_MISMATCH, "act",
                  "the sidecar's recipe names no SAE (sae.path): send features (indptr, indices, "
                  "values)");
        return STATUS_OK;
    }
    snprintf(expected, sizeof(expected), "f32, f16 or bf16 [.., %zu]", serve->sae.d_in);
    if ((act->dtype != DTYPE_F32 && act->dtype != DTYPE_F16 && act->dtype != DTYPE_BF16) ||
        act->shape.rank != 2 || act->shape.dims[1] != serve->sae.d_in) {
        wrong_tensor(fault, act, expected);
        return STATUS_OK;
    }
    c->dtype = act->dtype;
    c->act = act->data;
    c->d_in = serve->sae.d_in;
    off = tensor_vector(message, "act_off", DTYPE_I64, FIELD_OPTIONAL, n + 1, fault);
    if (fault->code != E_NONE)
        return STATUS_OK;
    if (!off) {
        c->form = CANDIDATES_POOLED;
        snprintf(expected, sizeof(expected), "[%zu, %zu] (or act_off for tokens)", n, c->d_in);
        if (act->shape.dims[0] != n)
            wrong_tensor(fault, act, expected);
        else if (message_tensor(message, "keep"))
            fault_set(fault, E_BAD_TENSOR, "keep", "a mask of tokens comes without act_off");
        return STATUS_OK;
    }
    c->form = CANDIDATES_TOKENS;
    c->offsets = input->offsets = aligned(off);
    if (!input->offsets)
        return error_nomem(err);
    if (!offsets_sound(input->offsets, n, (size_t)act->shape.dims[0], "act_off", fault))
        return STATUS_OK;
    keep =
        tensor_vector(message, "keep", DTYPE_U8, FIELD_OPTIONAL, (size_t)act->shape.dims[0], fault);
    c->keep = keep ? keep->data : NULL;
    return STATUS_OK;
}

/* Rows without their explicit zeros. */
static enum status read_rows(struct serve_input *input, const int64_t *indptr,
                             const uint32_t *indices, const float *values, size_t n, size_t d_sae,
                             struct fault *fault, struct error *err)
{
    uint32_t *kept = mem_alloc((size_t)indptr[n], sizeof(*kept));
    float *kept_values = mem_alloc((size_t)indptr[n], sizeof(*kept_values));
    enum status st = kept && kept_values ? STATUS_OK : error_nomem(err);

    csr_clear(&input->sparse, d_sae);
    for (size_t i = 0; !st && i < n; i++) {
        size_t m = 0;

        for (int64_t e = indptr[i]; e < indptr[i + 1]; e++) {
            if (indices[e] >= d_sae || (e > indptr[i] && indices[e] <= indices[e - 1])) {
                fault_set(fault, E_BAD_TENSOR, "indices",
                          "indices[%lld], sample %zu, is %u: expected ascending ones below %zu",
                          (long long)e, i, indices[e], d_sae);
                goto out;
            }
            if (values[e] == 0)
                continue;
            kept[m] = indices[e];
            kept_values[m++] = values[e];
        }
        st = csr_append(&input->sparse,
                        (struct sparse_row){.indices = kept, .values = kept_values, .n = m}, err);
    }
out:
    mem_free(kept);
    mem_free(kept_values);
    return st;
}

static enum status read_sparse(struct serve_input *input, const struct serve *serve,
                               const struct message *message, size_t n, struct fault *fault,
                               struct error *err)
{
    const struct tensor *indptr =
        tensor_vector(message, "indptr", DTYPE_I64, FIELD_REQUIRED, n + 1, fault);
    static const char *const others[] = {"act_off", "keep", NULL};
    struct candidates *c = &input->candidates;
    const struct tensor *indices, *values = NULL, *column;
    uint32_t *columns = NULL;
    int64_t *begins = NULL;
    float *entries = NULL;
    enum status st = STATUS_OK;

    c->form = CANDIDATES_SPARSE;
    if (!none_of(message, others, "indptr", fault))
        return STATUS_OK;
    indices = indptr ? tensor_vector(message, "indices", DTYPE_U32, FIELD_REQUIRED, SIZE_MAX, fault)
                     : NULL;
    if (indices)
        values = tensor_vector(message, "values", DTYPE_F32, FIELD_REQUIRED, indices->count, fault);
    if (!values)
        return STATUS_OK;
    begins = aligned(indptr);
    columns = aligned(indices);
    entries = aligned(values);
    if (!begins || !columns || !entries)
        st = error_nomem(err);
    if (!st && offsets_sound(begins, n, indices->count, "indptr", fault))
        st = read_rows(input, begins, columns, entries, n, serve->d_sae, fault, err);
    mem_free(begins);
    mem_free(columns);
    mem_free(entries);
    if (st || fault->code != E_NONE)
        return st;
    c->x = csr_as_view(&input->sparse);
    column = tensor_vector(message, "tokens_used", DTYPE_U32, FIELD_OPTIONAL, n, fault);
    if (column)
        c->tokens_used = input->tokens_used = aligned(column);
    if (column && !input->tokens_used)
        return error_nomem(err);
    column = fault->code
                 ? NULL
                 : tensor_vector(message, "recon_mean", DTYPE_F32, FIELD_OPTIONAL, n, fault);
    if (column)
        c->recon_mean = input->recon_mean = aligned(column);
    if (column && !input->recon_mean)
        return error_nomem(err);
    column = fault->code ? NULL
                         : tensor_vector(message, "recon_max", DTYPE_F32, FIELD_OPTIONAL, n, fault);
    if (column)
        c->recon_max = input->recon_max = aligned(column);
    return column && !input->recon_max ? error_nomem(err) : STATUS_OK;
}

enum status serve_input_read(struct serve_input *input, const struct serve *serve,
                             const struct message *message, struct fault *fault, struct error *err)
{
    static const char *const names[] = {
        "sid",         "act",        "act_off",   "keep", "indptr",   "indices", "values",
        "tokens_used", "recon_mean", "recon_max", "text", "text_off", NULL,
    };
    const struct tensor *sid, *act = message_tensor(message, "act");
    enum status st;
    size_t n;

    *input = (struct serve_input){0};
    if (!tensors_known(message, names, fault))
        return STATUS_OK;
    sid = tensor_vector(message, "sid", DTYPE_U64, FIELD_REQUIRED, SIZE_MAX, fault);
    if (!sid)
        return STATUS_OK;
    n = sid->count;
    if (n > SAMPLES_MAX) {
        fault_set(fault, E_TOO_LARGE, "sid", "%zu samples in a request, expected at most %zu", n,
                  SAMPLES_MAX);
        return STATUS_OK;
    }
    if (act && message_tensor(message, "indptr")) {
        fault_set(fault, E_BAD_TENSOR, "indptr",
                  "both 'act' and features ('indptr') are there, expected one of them");
        return STATUS_OK;
    }
    if (!act && !message_tensor(message, "indptr")) {
        fault_set(fault, E_BAD_TENSOR, "act",
                  "neither activations ('act') nor features ('indptr') are there");
        return STATUS_OK;
    }
    input->candidates.n = n;
    input->sids = aligned(sid);
    if (!input->sids)
        return error_nomem(err);
    st = act ? read_dense(input, serve, message, act, n, fault, err)
             : read_sparse(input, serve, message, n, fault, err);
    if (!st && fault->code == E_NONE)
        st = read_texts(input, message, n, fault, err);
    return st;
}
