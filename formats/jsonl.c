#include "formats/jsonl.h"

#include <string.h>

#include "base/mem.h"
#include "formats/archive.h"
#include "formats/json.h"

#define READ_BYTES ((size_t)256 << 10)

struct jsonl_reader {
    const char *const *paths;
    size_t n_paths, i_path; /* i_path: the file being read */
    struct stream *stream;  /* NULL between files */
    char *buffer;
    size_t capacity;
    size_t begin, end; /* bytes read and not yet given out */
    size_t searched;   /* no line feed in [begin, searched) */
    size_t dropped;    /* bytes of a line too long to keep, already thrown away */
    bool at_end;       /* of the file */
    uint64_t row, line;
};

enum status jsonl_open(struct jsonl_reader **reader, const char *const *paths, size_t n_paths,
                       struct error *err)
{
    struct jsonl_reader *r = mem_zalloc(1, sizeof(*r));

    *reader = NULL;
    if (!r)
        return error_nomem(err);
    r->paths = paths;
    r->n_paths = n_paths;
    *reader = r;
    return STATUS_OK;
}

void jsonl_close(struct jsonl_reader *reader)
{
    if (!reader)
        return;
    stream_close(reader->stream);
    mem_free(reader->buffer);
    mem_free(reader);
}

static enum status next_file(struct jsonl_reader *r, struct error *err)
{
    r->begin = r->end = r->searched = r->dropped = 0;
    r->at_end = false;
    r->line = 0;
    return stream_open(&r->stream, r->paths[r->i_path], err);
}

/* Make room and read more of the current file. */
static enum status fill(struct jsonl_reader *r, struct error *err)
{
    void *buffer = r->buffer;
    enum status st;
    size_t n;

    if (r->begin > 0) {
        memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
        r->end -= r->begin;
        r->searched -= r->begin;
        r->begin = 0;
    }
    if (!mem_grow(&buffer, &r->capacity, r->end + READ_BYTES, 1))
        return error_nomem(err);
    r->buffer = buffer;
    st = stream_read(r->stream, r->buffer + r->end, r->capacity - r->end, &n, err);
    if (st)
        return st;
    r->end += n;
    r->at_end = n == 0;
    return STATUS_OK;
}

/* Give out [begin, stop) and go on at `next`. */
static void give(struct jsonl_reader *r, size_t stop, size_t next, struct jsonl_line *line)
{
    size_t length = r->dropped + (stop - r->begin);
    bool too_long = length > JSONL_LINE_MAX;

    *line = (struct jsonl_line){
        .bytes = too_long ? "" : r->buffer + r->begin,
        .length = length,
        .too_long = too_long,
        .row = r->row++,
        .path = r->paths[r->i_path],
        .line = ++r->line,
    };
    r->begin = r->searched = next;
    r->dropped = 0;
}

/* False if more must be read first. */
static bool take_line(struct jsonl_reader *r, struct jsonl_line *line)
{
    const char *feed = NULL;

    if (r->searched < r->end)
        feed = memchr(r->buffer + r->searched, '\n', r->end - r->searched);
    if (feed) {
        size_t stop = (size_t)(feed - r->buffer);

        give(r, stop, stop + 1, line);
        return true;
    }
    r->searched = r->end;
    if (r->dropped + (r->end - r->begin) > JSONL_LINE_MAX) {
        r->dropped += r->end - r->begin;
        r->begin = r->searched = r->end;
    }
    if (r->at_end && (r->dropped > 0 || r->end > r->begin)) {
        give(r, r->end, r->end, line);
        return true;
    }
    return false;
}

enum status jsonl_next(struct jsonl_reader *reader, struct jsonl_line *line, bool *end,
                       struct error *err)
{
    struct jsonl_reader *r = reader;

    *line = (struct jsonl_line){0};
    *end = false;
    while (r->i_path < r->n_paths) {
        enum status st;

        if (r->stream) {
            if (take_line(r, line))
                return STATUS_OK;
            if (!r->at_end) {
                st = fill(r, err);
                if (st)
                    return st;
                continue;
            }
            stream_close(r->stream);
            r->stream = NULL;
            r->i_path++;
            continue;
        }
        st = next_file(r, err);
        if (st)
            return st;
    }
    *end = true;
    return STATUS_OK;
}

enum status jsonl_parse(struct json **value, const struct jsonl_line *line, struct error *err)
{
    *value = NULL;
    if (line->too_long)
        return error_set(err, STATUS_FORMAT, "the line has %zu bytes, the limit is %zu",
                         line->length, JSONL_LINE_MAX);
    return json_parse(value, line->bytes, line->length, NULL, err);
}
