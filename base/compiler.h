/*
 * base/compiler.h - the attributes we use, in one place.
 */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

/* The result must be looked at: every status is handled or returned. */
#define MUST_CHECK __attribute__((warn_unused_result))

/* printf-like: `fmt` is the index of the format, `args` of the first argument, from 1. */
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Runs before main(), with no other thread there yet. */
#define AT_LOAD __attribute__((constructor))

/* A vector type of so many bytes: arrays of it stay in registers where those of __m512i do not. */
#define VECTOR_BYTES(n) __attribute__((vector_size(n)))

/* For exact products and sums of 64-bit numbers; gcc and clang have it on every 64-bit target. */
__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

#endif
