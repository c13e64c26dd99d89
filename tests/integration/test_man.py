"""The manual page names what `--help` names: every verb, every option, and no more."""

import re
import subprocess
import unittest

from saerl_case import PROGRAM, SOURCE

PAGE = (SOURCE / "man" / "saerl.1.scd").read_text()


def output(*args):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=60).stdout


def verbs():
    return re.findall(r"^  ([a-z]+)  +\S", output("--help"), re.MULTILINE)


def subjects():
    return re.findall(r"^  ([a-z0-9]+)  +\S", output("bench", "--help"), re.MULTILINE)


class Man(unittest.TestCase):
    def test_help_lists_verbs(self):
        self.assertIn("run", verbs())

    def test_page_has_the_verbs_and_no_others(self):
        section = PAGE[PAGE.index("# VERBS") : PAGE.index("# OPTIONS")]
        expected = [v for v in verbs() if v != "bench"] + ["bench"] * len(subjects()) + ["saerl"]
        self.assertEqual(re.findall(r"^\*([a-z]+)\* ", section, re.MULTILINE), expected)

    def test_page_has_the_subjects_of_bench_and_no_others(self):
        self.assertIn("cluster", subjects())
        self.assertEqual(re.findall(r"^\*bench\* \*([a-z0-9]+)\*", PAGE, re.MULTILINE), subjects())

    def test_page_has_the_options_and_no_others(self):
        known = set(re.findall(r"--[a-z][a-z0-9-]*", output("--help")))
        for verb in verbs():
            known |= set(re.findall(r"--[a-z][a-z0-9-]*", output(verb, "--help")))
        for subject in subjects():
            known |= set(re.findall(r"--[a-z][a-z0-9-]*", output("bench", subject, "--help")))
        self.assertEqual(set(re.findall(r"--[a-z][a-z0-9-]*", PAGE)), known)


if __name__ == "__main__":
    unittest.main()
