#include "curator/state_bytes.h"

#include <string.h>

#include "base/mem.h"

void state_put_u64(struct text *out, uint64_t x)
{
    char bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(x >> (8 * i));
    text_append_n(out, bytes, sizeof(bytes));
}

void state_put_double(struct text *out, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    state_put_u64(out, bits);
}

void state_put_array(struct text *out, const void *items, size_t n, size_t size)
{
    state_put_u64(out, n);
    if (n)
        text_append_n(out, items, n * size);
}

void state_put_string(struct text *out, const char *s)
{
    state_put_array(out, s, strlen(s), 1);
}

uint64_t state_get_u64(struct state_reader *in)
{
    uint64_t x = 0;

    if (in->failed || in->n < 8) {
        in->failed = true;
        return 0;
    }
    for (int i = 8; i-- > 0;)
        x = x << 8 | in->bytes[i];
    in->bytes += 8;
    in->n -= 8;
    return x;
}

double state_get_double(struct state_reader *in)
{
    uint64_t bits = state_get_u64(in);
    double x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

void *state_get_array(struct state_reader *in, size_t *n, size_t size)
{
    uint64_t count = state_get_u64(in);
    void *items;

    *n = 0;
    if (in->failed || count > in->n / size) {
        in->failed = true;
        return NULL;
    }
    items = mem_alloc((size_t)count, size);
    if (!items) {
        in->failed = in->out_of_memory = true;
        return NULL;
    }
    memcpy(items, in->bytes, (size_t)count * size);
    in->bytes += (size_t)count * size;
    in->n -= (size_t)count * size;
    *n = (size_t)count;
    return items;
}

char *state_get_string(struct state_reader *in)
{
    uint64_t count = state_get_u64(in);
    char *s;

    if (in->failed || count > in->n || memchr(in->bytes, 0, (size_t)count)) {
        in->failed = true;
        return NULL;
    }
    s = mem_strndup((const char *)in->bytes, (size_t)count);
    if (!s) {
        in->failed = in->out_of_memory = true;
        return NULL;
    }
    in->bytes += count;
    in->n -= (size_t)count;
    return s;
}
