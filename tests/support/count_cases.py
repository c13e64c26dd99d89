#!/usr/bin/env python3
"""Counts test cases in meson's testlog.json: "PASSED FAILED SKIPPED".

A program that writes TAP (cmocka does when asked) counts as many cases as it reports, any other
counts one by its exit status. A program that ends badly has failed once more than it could say.
"""

import json
import re
import sys

TAP_LINE = re.compile(r"^(not )?ok \d+ - .*?(# SKIP.*)?$")
BAD_ENDS = {"FAIL", "TIMEOUT", "ERROR", "INTERRUPT", "UNEXPECTEDPASS"}


def count_cases(result, stdout):
    """(passed, failed, skipped) of one test program."""
    passed = failed = skipped = 0
    for line in stdout.splitlines():
        match = TAP_LINE.match(line)
        if not match:
            continue
        if match.group(2):
            skipped += 1
        elif match.group(1):
            failed += 1
        else:
            passed += 1
    if result in BAD_ENDS:
        return passed, max(failed, 1), skipped
    if result == "SKIP":
        return passed, failed, max(skipped, 1)
    if passed + failed + skipped == 0:
        passed = 1
    return passed, failed, skipped


def main(paths):
    total = [0, 0, 0]
    programs = 0
    for path in paths:
        with open(path, encoding="utf-8") as log:
            for line in log:
                test = json.loads(line)
                programs += 1
                for i, n in enumerate(count_cases(test["result"], test.get("stdout", ""))):
                    total[i] += n
    if programs == 0:
        print("count_cases.py: no test ran", file=sys.stderr)
        return 1
    print(*total)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
