#include "base/log.h"

#include <assert.h>
#include <stdarg.h>
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

static void write_event(const struct log *log, enum log_level level, const char *event,
                        const char *members, const char *format, va_list args)
{
    struct text message = {0}, line = {0};

    text_append_va(&message, format, args);
    for (int i = 0; i < log->n_sinks; i++) {
        const struct log_sink *sink = &log->sinks[i];

        if (level < sink->level)
            continue;
        text_clear(&line);
        if (sink->format == LOG_FORMAT_TEXT) {
            text_append(&line, sink->prefix ? sink->prefix : "");
            if (level >= LOG_WARNING)
                text_appendf(&line, "%s: ", level_name(level));
            text_append_n(&line, text_string(&message), message.length);
        } else {
            char now[32];

            clock_utc(now, sizeof(now));
            text_appendf(&line,
                         "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\",\"message\":", now,
                         level_name(level), event);
            text_append_json_string(&line, text_string(&message), message.length);
            if (members && *members)
                text_appendf(&line, ",%s", members);
            text_append(&line, "}");
        }
        text_append_char(&line, '\n');
        /* One call, one write: events of several threads do not mix. A log that cannot be
         * written must not end the work it tells about. */
        fwrite(text_string(&line), 1, line.length, sink->file);
        fflush(sink->file);
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
