#!/usr/bin/env python3
"""count_cases.py counts what TAP, unittest and bare exit statuses say."""

import unittest

from count_cases import count_cases

TAP = "TAP version 13\n1..3\nok 1 - a_fact\nok 2 - another # SKIP\nnot ok 3 - a_lie\n"


class CountCasesTest(unittest.TestCase):
    def test_tap_cases_are_counted(self):
        self.assertEqual(count_cases("FAIL", TAP), (1, 1, 1))

    def test_a_plain_program_is_one_case(self):
        self.assertEqual(count_cases("OK", "hello\n"), (1, 0, 0))
        self.assertEqual(count_cases("SKIP", ""), (0, 0, 1))
        self.assertEqual(count_cases("TIMEOUT", ""), (0, 1, 0))

    def test_a_crash_after_good_cases_is_a_failure(self):
        self.assertEqual(count_cases("FAIL", "ok 1 - a_fact\n"), (1, 1, 0))


    def test_unittest_cases_are_counted(self):
        tail = "-----\nRan 7 tests in 0.1s\n\n"
        self.assertEqual(count_cases("OK", "", tail + "OK (skipped=2)\n"), (5, 0, 2))
        self.assertEqual(count_cases("FAIL", "", tail + "FAILED (failures=1, errors=2)\n"), (4, 3, 0))
        self.assertEqual(count_cases("OK", "", tail + "OK\n"), (7, 0, 0))


if __name__ == "__main__":
    unittest.main()
