#!/usr/bin/env python3
"""Counts test cases in meson's testlog.json: "PASSED FAILED SKIPPED".

A program that writes TAP (cmocka does when asked) or is a Python unittest counts as many cases as
it reports, any other counts one by its exit status. A program that ends badly has failed once more than it could say.
"""

import json
import re
import sys

TAP_LINE = re.compile(r"^(not )?ok \d+ - .*?(# SKIP.*)?$")
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
UNITTEST_END = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$", re.MULTILINE)
BAD_ENDS = {"FAIL", "TIMEOUT", "ERROR", "INTERRUPT", "UNEXPECTEDPASS"}


def count_unittest(output):
    """(passed, failed, skipped) of a Python unittest, or None."""
    ran = UNITTEST_RAN.search(output)
    end = UNITTEST_END.search(output, ran.end()) if ran else None
    if not end:
        return None
    counts = {name.strip(): int(n) for name, n in re.findall(r"([a-z ]+)=(\d+)", end.group(1) or "")}
    failed = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpected successes"))
    skipped = counts.get("skipped", 0)
    # One test may fail in several subtests.
    return max(int(ran.group(1)) - failed - skipped, 0), failed, skipped


def count_cases(result, stdout, stderr=""):
    """(passed, failed, skipped) of one test program."""
    passed = failed = skipped = 0
    unittest = count_unittest(stderr) or count_unittest(stdout)
    if unittest:
        passed, failed, skipped = unittest
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


def count(test):
    return count_cases(test["result"], test.get("stdout", ""), test.get("stderr", ""))


def main(paths):
    total = [0, 0, 0]
    programs = 0
    for path in paths:
        with open(path, encoding="utf-8") as log:
            for line in log:
                test = json.loads(line)
                programs += 1
                for i, n in enumerate(count(test)):
                    total[i] += n
    if programs == 0:
        print("count_cases.py: no test ran", file=sys.stderr)
        return 1
    print(*total)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
