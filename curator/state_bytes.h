/*
 * curator/state_bytes.h - the sidecar's state as bytes and back: little-endian integers, floats by
 * their bits, arrays behind their length. What is read is untrusted: it may come from a checkpoint.
 */
#ifndef CURATOR_STATE_BYTES_H
#define CURATOR_STATE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

void state_put_u64(struct text *out, uint64_t x);
void state_put_double(struct text *out, double x);
void state_put_array(struct text *out, const void *items, size_t n, size_t size);
void state_put_string(struct text *out, const char *s);

/* Once something is missing or too long, `failed` stays set and all that follows is empty. */
struct state_reader {
    const unsigned char *bytes;
    size_t n; /* left */
    bool failed;
    bool out_of_memory;
};

uint64_t state_get_u64(struct state_reader *in);
double state_get_double(struct state_reader *in);

/* An array of elements of `size` bytes, to be mem_freed; *n of them. Never NULL on success. */
void *state_get_array(struct state_reader *in, size_t *n, size_t size);
char *state_get_string(struct state_reader *in); /* mem_free it; no zero bytes inside */

#endif
