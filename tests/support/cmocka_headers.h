/* cmocka.h needs these before it, in this order. */
#ifndef TESTS_SUPPORT_CMOCKA_HEADERS_H
#define TESTS_SUPPORT_CMOCKA_HEADERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
