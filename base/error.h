/*
 * base/error.h - status codes and one-line messages.
 *
 * What can fail returns enum status and takes `struct error *err` last. `err` may be NULL and is
 * untouched on success. A message is complete enough to print as it is: the thing, what was found,
 * what was expected. Context is put in front on the way up, outermost first.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/compiler.h"

/* One per reaction of the caller, not one per cause. */
enum status {
    STATUS_OK = 0,
    STATUS_INVALID,     /* the request: usage, recipe, settings. Exit code 2. */
    STATUS_FORMAT,      /* the bytes of a file are not what they should be. Exit code 1. */
    STATUS_IO,          /* the system refused: open, read, write, rename. Exit code 1. */
    STATUS_NOMEM,       /* an allocation failed. Exit code 1. */
    STATUS_UNSUPPORTED, /* sound, but not something we do. Exit code 1. */
    STATUS_FAILED,      /* the computation has no acceptable result. Exit code 1. */
    STATUS_BAD_ROWS,    /* more malformed rows than on_error.max_bad. Exit code 3. */
    STATUS_GATE,        /* done, and a --fail-on condition is true of it. Exit code 4. */
    STATUS_CONFLICT,    /* locked, or other inputs than those in place. Exit code 5. */
    STATUS_UNREACHABLE, /* nobody answers at the endpoint. Exit code 75. */
    STATUS_CANCELED,    /* SIGINT or SIGTERM; state is saved. Exit code 130 or 143. */
};

struct error {
    char message[512];  /* one line for a person, outermost context first */
    const char *origin; /* our own file:line, for the log */
};

/* Word an error. Returns `status`, so that it can be returned at once. */
#define error_set(err, status, ...) error_set_at(err, status, ERROR_ORIGIN, __VA_ARGS__)

/* Put "context: " in front of a message already there. Returns `status`. */
#define error_wrap(err, status, ...) error_wrap_at(err, status, ERROR_ORIGIN, __VA_ARGS__)

#define ERROR_STRING_(x) #x
#define ERROR_STRING(x) ERROR_STRING_(x)
#define ERROR_ORIGIN __FILE__ ":" ERROR_STRING(__LINE__)

enum status error_set_at(struct error *err, enum status status, const char *origin,
                         const char *format, ...) PRINTF_LIKE(4, 5);
enum status error_wrap_at(struct error *err, enum status status, const char *origin,
                          const char *format, ...) PRINTF_LIKE(4, 5);

#ifdef __clang_analyzer__
/* The analyzer does not look into error.c and would go on as if a status might come back as OK. */
#undef error_set
#undef error_wrap
#define error_set(err, status, ...) (error_set_at(err, status, ERROR_ORIGIN, __VA_ARGS__), (status))
#define error_wrap(err, status, ...)                                                               \
    (error_wrap_at(err, status, ERROR_ORIGIN, __VA_ARGS__), (status))
#endif

/* The one message for a failed allocation. */
#define error_nomem(err) error_set(err, STATUS_NOMEM, "out of memory")

#endif
