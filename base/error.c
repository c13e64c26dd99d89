#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A message is one line and printable: control bytes from file names or data become '?'. */
static void sanitise(char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c < 0x20 || c == 0x7f)
            *s = '?';
    }
}

enum status error_set_at(struct error *err, enum status status, const char *origin,
                         const char *format, ...)
{
    va_list args;

    if (!err)
        return status;
    va_start(args, format);
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    sanitise(err->message);
    err->origin = origin;
    return status;
}

enum status error_wrap_at(struct error *err, enum status status, const char *origin,
                          const char *format, ...)
{
    char inner[sizeof(err->message)];
    va_list args;
    size_t used;
    int n;

    (void)origin; /* the origin that helps is the innermost, which is there already */
    if (!err)
        return status;
    memcpy(inner, err->message, sizeof(inner));
    va_start(args, format);
    n = vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    used = n < 0 ? 0 : (size_t)n;
    if (used >= sizeof(err->message))
        used = sizeof(err->message) - 1;
    snprintf(err->message + used, sizeof(err->message) - used, ": %s", inner);
    sanitise(err->message);
    return status;
}
