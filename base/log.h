/*
 * base/log.h - levelled events with key=value pairs.
 *
 * Modules describe what happened; the sinks decide how it looks. A program attaches sinks (stderr,
 * log.jsonl); library code holds a `struct log *`, which may be NULL: then nothing is said.
 * Events are written whole, so that sinks may be shared by threads.
 *
 *     log_event(log, LOG_INFO, "encode", "rows=%zu seconds=%.3f", rows, seconds);
 *
 * `event` is a short constant name; the rest is a sentence or key=value pairs for a person. An
 * event may carry JSON members as well, for programs: log_json().
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdio.h>

#include "base/error.h"

enum log_level {
    LOG_DEBUG,
    LOG_INFO,
    LOG_WARNING,
    LOG_ERROR,
};

enum log_format {
    LOG_FORMAT_TEXT,
    LOG_FORMAT_JSON,
};

#define LOG_SINKS_MAX 2

struct log_sink {
    FILE *file; /* borrowed */
    enum log_level level;
    enum log_format format;
    const char *prefix; /* before each text line, "saerl: " or "" */

    /* NULL: wait for who reads `file`. Else never wait: an event that a full pipe has no room for,
     * or longer than PIPE_BUF, is counted here and the next one tells of it. */
    atomic_uint *lost;
};

struct log {
    struct log_sink sinks[LOG_SINKS_MAX];
    int n_sinks;
};

void log_add_sink(struct log *log, struct log_sink sink);

void log_event(const struct log *log, enum log_level level, const char *event, const char *format,
               ...) PRINTF_LIKE(4, 5);

/* An event for each line of `lines`. */
void log_lines(const struct log *log, enum log_level level, const char *event, const char *lines);

/* As log_event; `members` are further JSON members, "\"rows\":3,\"seconds\":0.1". Text sinks print
 * the message only. */
void log_json(const struct log *log, enum log_level level, const char *event, const char *members,
              const char *format, ...) PRINTF_LIKE(5, 6);

#endif
