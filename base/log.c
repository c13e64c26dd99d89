#include "base/log.h"

#include <assert.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};

    return names[level];
}

void log_add_sink(struct log *log, struct log_sink sink)
{
    assert(log->n_sinks < LOG_SINKS_MAX);
    log->sinks[log->n_sinks++] = sink;
}

/* Will a line of n bytes go out at once? A pipe that can be written takes PIPE_BUF bytes; one that
 * nobody reads any more takes none. */
static bool has_room(FILE *file, size_t n)
{
    struct pollfd fd = {.fd = fileno(file), .events = POLLOUT};

    return n <= PIPE_BUF && poll(&fd, 1, 0) == 1 && (fd.revents & ~POLLOUT) == 0;
}

/* One call, one write: events of several threads do not mix. A log that cannot be written must not
 * end the work it tells about. `lost` events are told of in the line. */
static void write_line(const struct log_sink *sink, const struct text *line, unsigned lost)
{
    flockfile(sink->file); /* or another thread could fill the room that was found */
    if (!sink->lost || has_room(sink->file, line->length)) {
        fwrite(text_string(line), 1, line->length, sink->file);
        fflush(sink->file);
        /* Relaxed: a number, which orders nothing. */
        if (lost > 0)
            atomic_fetch_sub_explicit(sink->lost, lost, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(sink->lost, 1, memory_order_relaxed);
    }
    funlockfile(sink->file);
}

static void write_event(const struct log *log, enum log_level level, const char *event,
                        const char *members, const char *format, va_list args)
{
    struct text message = {0}, line = {0};

    text_append_va(&message, format, args);
    for (int i = 0; i < log->n_sinks; i++) {
        const struct log_sink *sink = &log->sinks[i];
        unsigned lost = sink->lost ? atomic_load_explicit(sink->lost, memory_order_relaxed) : 0;

        if (level < sink->level)
            continue;
        text_clear(&line);
        if (sink->format == LOG_FORMAT_TEXT) {
            text_append(&line, sink->prefix ? sink->prefix : "");
            if (level >= LOG_WARNING)
                text_appendf(&line, "%s: ", level_name(level));
            text_append_n(&line, text_string(&message), message.length);
            if (lost > 0)
                text_appendf(&line, " (events lost before this: %u)", lost);
        } else {
            char now[32];

            clock_utc(now, sizeof(now));
            text_appendf(&line,
                         "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\",\"message\":", now,
                         level_name(level), event);
            text_append_json_string(&line, text_string(&message), message.length);
            if (members && *members)
                text_appendf(&line, ",%s", members);
            if (lost > 0)
                text_appendf(&line, ",\"lost\":%u", lost);
            text_append(&line, "}");
        }
        text_append_char(&line, '\n');
        write_line(sink, &line, lost);
    }
    text_release(&message);
    text_release(&line);
}

void log_event(const struct log *log, enum log_level level, const char *event, const char *format,
               ...)
{
    va_list args;

    if (!log)
        return;
    va_start(args, format);
    write_event(log, level, event, NULL, format, args);
    va_end(args);
}

void log_json(const struct log *log, enum log_level level, const char *event, const char *members,
              const char *format, ...)
{
    va_list args;

    if (!log)
        return;
    va_start(args, format);
    write_event(log, level, event, members, format, args);
    va_end(args);
}

void log_lines(const struct log *log, enum log_level level, const char *event, const char *lines)
{
    while (*lines) {
        size_t n = strcspn(lines, "\n");

        log_event(log, level, event, "%.*s", (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}
