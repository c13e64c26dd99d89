/*
 * The example of docs/protocol.md: a request and its reply, byte by byte. Without arguments it is
 * printed; with a file name the file must hold it as it is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "ipc/message.h"

#define BYTES_A_LINE 16

static const uint64_t sids[] = {11, 42};
static const float difficulties[] = {0.25f, 0.5f};
static const int32_t clusters[] = {3, 0};

static void check(enum status st)
{
    if (st)
        abort();
}

static void print_bytes(struct text *out, const void *bytes, size_t n, size_t width)
{
    const unsigned char *b = bytes;

    text_append(out, "  ");
    for (size_t i = 0; i < width; i++) {
        if (i < n)
            text_appendf(out, "%02x ", b[i]);
        else
            text_append(out, "   ");
    }
}

static void print_field(struct text *out, const unsigned char **at, size_t n, const char *words)
{
    print_bytes(out, *at, n, 8);
    text_appendf(out, " %s\n", words);
    *at += n;
}

static void print_envelope(struct text *out, const struct envelope *envelope)
{
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];
    const unsigned char *at = bytes;
    char words[64];

    envelope_write(envelope, bytes);
    text_append(out, "frame 0, 32 bytes: the envelope\n");
    print_field(out, &at, 4, "magic SRLW");
    print_field(out, &at, 2, "version 1.0");
    snprintf(words, sizeof(words), "kind %u, %s", envelope->kind,
             protocol_kind_name(envelope->kind));
    print_field(out, &at, 2, words);
    snprintf(words, sizeof(words), "session %llu", (unsigned long long)envelope->session);
    print_field(out, &at, 8, words);
    snprintf(words, sizeof(words), "request %llu", (unsigned long long)envelope->request);
    print_field(out, &at, 8, words);
    snprintf(words, sizeof(words), "%u tensors", envelope->n_tensors);
    print_field(out, &at, 4, words);
    print_field(out, &at, 4, envelope->flags & FLAG_REPLY ? "flags: reply" : "flags: none");
}

/* Bytes with what they spell beside them. */
static void print_header(struct text *out, const struct text *header)
{
    const char *s = text_string(header);

    text_appendf(out, "frame 1, %zu bytes: the header\n", header->length);
    for (size_t i = 0; i < header->length; i += BYTES_A_LINE) {
        size_t left = header->length - i;
        size_t n = left < BYTES_A_LINE ? left : BYTES_A_LINE;

        print_bytes(out, s + i, n, BYTES_A_LINE);
        text_append_char(out, ' ');
        text_append_n(out, s + i, n);
        text_append_char(out, '\n');
    }
}

static void print_tensors(struct text *out, const struct message_out *message)
{
    for (size_t i = 0; i < message->n_tensors; i++) {
        const struct message_out_tensor *t = &message->tensors[i];
        const unsigned char *at = t->data;
        size_t size = dtype_size(t->dtype);
        char words[32];

        text_appendf(out, "frame %zu, %zu bytes: %s\n", i + 2, t->bytes, t->name);
        for (size_t e = 0; e < t->bytes / size; e++) {
            if (t->dtype == DTYPE_U64)
                snprintf(words, sizeof(words), "%llu", (unsigned long long)sids[e]);
            else if (t->dtype == DTYPE_F32)
                snprintf(words, sizeof(words), "%g", (double)difficulties[e]);
            else
                snprintf(words, sizeof(words), "%d", clusters[e]);
            print_field(out, &at, size, words);
        }
    }
}

static void print_message(struct text *out, struct message_out *message, uint32_t flags)
{
    const struct envelope envelope = {
        .major = PROTOCOL_MAJOR,
        .minor = PROTOCOL_MINOR,
        .kind = KIND_FETCH,
        .session = 7,
        .request = 1000,
        .n_tensors = (uint32_t)message->n_tensors,
        .flags = flags,
    };

    check(message_out_finish(message, NULL));
    print_envelope(out, &envelope);
    print_header(out, &message->header);
    print_tensors(out, message);
    message_out_clear(message);
}

static void print_example(struct text *out)
{
    struct message_out message = {0};

    text_append(out, "The request: samples for seq 0, two of them\n\n");
    text_append(&message.header, "\"seq\":0,\"n\":2");
    print_message(out, &message, 0);
    text_append(out, "\nThe reply\n\n");
    text_append(&message.header, "\"seq\":0,\"epoch\":0,\"exhausted\":false,\"fallback\":false");
    check(message_out_copy(&message, "sid", DTYPE_U64, 2, sids, NULL));
    check(message_out_copy(&message, "difficulty", DTYPE_F32, 2, difficulties, NULL));
    check(message_out_copy(&message, "cluster", DTYPE_I32, 2, clusters, NULL));
    print_message(out, &message, FLAG_REPLY);
    message_out_release(&message);
}

static int find_in(const char *path, const char *example)
{
    FILE *file = fopen(path, "rb");
    struct text all = {0};
    char buffer[4096];
    size_t n;
    int found;

    if (!file) {
        perror(path);
        return 1;
    }
    while ((n = fread(buffer, 1, sizeof(buffer), file)) > 0)
        text_append_n(&all, buffer, n);
    fclose(file);
    found = strstr(text_string(&all), example) != NULL;
    text_release(&all);
    if (!found)
        fprintf(stderr, "%s: its example is not what tests/lint/protocol_example prints\n", path);
    return !found;
}

int main(int argc, char **argv)
{
    struct text out = {0};
    int rc = 0;

    print_example(&out);
    check(text_check(&out, NULL));
    if (argc > 1)
        rc = find_in(argv[1], text_string(&out));
    else
        fputs(text_string(&out), stdout);
    text_release(&out);
    return rc;
}
