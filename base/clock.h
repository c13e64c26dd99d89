/*
 * base/clock.h - time.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>

/* Seconds on the monotonic clock; only differences mean something. */
double clock_seconds(void);

/* The present as "2026-11-22T19:38:00.123Z" (UTC). `size` must be at least 25. */
void clock_utc(char *buffer, size_t size);

#endif
