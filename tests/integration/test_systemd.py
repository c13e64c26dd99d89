"""The unit in configs/systemd: sound, closed as far as it can be, and not too far for the program.

Needs systemd-analyze (package systemd), but no running systemd; the system calls need strace, too.
"""

import os
import re
import shutil
import subprocess
import unittest

from saerl_case import PROGRAM, SOURCE, SaerlCase

UNIT = SOURCE / "configs" / "systemd" / "saerl@.service"
EXPOSURE_MAX = 1.5
# OpenBLAS asks for it to place memory, and goes on without.
REFUSED = {"mbind"}

ANALYZE = shutil.which("systemd-analyze")
STRACE = shutil.which("strace")


def settings(name):
    return re.findall(r"^%s=(.*)$" % name, UNIT.read_text(), re.MULTILINE)


@unittest.skipUnless(ANALYZE, "systemd-analyze is not here")
class Unit(SaerlCase):
    def write_unit(self, change=lambda text: text):
        path = self.dir / "saerl@math.service"
        path.write_text(change(UNIT.read_text()))
        return path

    def analyze(self, *args):
        return subprocess.run(
            [ANALYZE, *map(str, args)], capture_output=True, text=True, timeout=60
        )

    def exposure(self, path):
        done = self.analyze("security", "--offline=true", "--no-pager", path)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        self.assertTrue(found, done.stdout + done.stderr)
        return float(found.group(1))

    def test_is_understood(self):
        # The program is not installed here, so it is named by its path.
        def here(text):
            return text.replace("ExecStart=saerl ", "ExecStart=%s " % PROGRAM)

        done = self.analyze("verify", "--man=no", self.write_unit(here))
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
        done = self.analyze(
            "verify", "--man=no", self.write_unit(lambda t: here(t) + "[Service]\nProtectHom=1\n")
        )
        self.assertIn("ProtectHom", done.stderr)

    def test_exposure_is_low(self):
        self.assertLessEqual(self.exposure(self.write_unit()), EXPOSURE_MAX)
        opened = self.write_unit(lambda t: re.sub(r"(?m)^(SystemCall|Protect).*\n", "", t))
        self.assertGreater(self.exposure(opened), EXPOSURE_MAX)

    def allowed_calls(self):
        """What the lines of SystemCallFilter leave."""
        sets, name = {}, None
        for line in self.analyze("syscall-filter", "--no-pager").stdout.splitlines():
            word = line.strip()
            if line.startswith("@"):
                name = word
                sets[name] = []
            elif name and word and not word.startswith("#"):
                sets[name].append(word)

        def expand(word):
            if not word.startswith("@"):
                return {word}
            return set().union(*(expand(w) for w in sets[word]))

        allowed = set()
        for line in settings("SystemCallFilter"):
            for word in line.lstrip("~").split():
                if line.startswith("~"):
                    allowed -= expand(word)
                else:
                    allowed |= expand(word)
        return allowed

    def calls(self, *args):
        """What the program calls, and how it asks for memory."""
        trace = self.dir / "trace"
        done = subprocess.run(
            [STRACE, "-f", "-o", str(trace), PROGRAM, *args],
            capture_output=True,
            text=True,
            cwd=self.dir,
            timeout=300,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        )
        if "ptrace" in done.stderr and done.returncode:
            self.skipTest("strace may not trace here")
        self.assertEqual(done.returncode, 0, done.stderr)
        text = trace.read_text(errors="replace")
        return set(re.findall(r"(?m)^\d+ +([a-z0-9_]+)\(", text)), text

    @unittest.skipUnless(STRACE, "strace is not here")
    def test_program_gets_by_with_the_calls_that_are_left(self):
        calls, text = self.calls("demo", "--threads", "2")
        self.assertIn("openat", calls)
        self.assertEqual(calls - self.allowed_calls() - REFUSED, set())
        for line in re.findall(r"(?m)^.*(?:mmap|mprotect)\(.*$", text):
            self.assertFalse("PROT_WRITE" in line and "PROT_EXEC" in line, line)

    def test_what_libzmq_cannot_do_without_is_left(self):
        # It aborts when the policy of its threads cannot be set.
        self.assertIn("sched_setscheduler", self.allowed_calls())
        self.assertNotIn("setpriority", self.allowed_calls())
        self.assertNotIn("reboot", self.allowed_calls())


class Text(unittest.TestCase):
    def test_keeps_secrets_out_of_cores(self):
        self.assertEqual(settings("LimitCORE"), ["0"])

    def test_reloads_by_signal(self):
        self.assertEqual(settings("ExecReload"), ["kill -HUP $MAINPID"])


if __name__ == "__main__":
    unittest.main()
