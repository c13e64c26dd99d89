#!/usr/bin/env python3
"""examples/grpo: a real GRPO loop, its sidecar and trainer killed in mid-run, ends where an
undisturbed one does. Skips where torch, numpy or pyzmq are missing."""

import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM = os.environ["PROGRAM"]
EXAMPLE = pathlib.Path(os.environ["CHECKOUT"]) / "examples" / "grpo"
STEPS = 14  # the fewest that have both kills

sys.path.insert(0, str(EXAMPLE))
import tasks  # noqa: E402


def python_with_torch():
    """An interpreter that has what the example needs: this one, or the system's."""
    for python in (sys.executable, "/usr/bin/python3"):
        if shutil.which(python):
            done = subprocess.run(
                [python, "-c", "import numpy, torch, zmq"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
            if done.returncode == 0:
                return python
    return None


class Tasks(unittest.TestCase):
    def test_answers_are_right_and_fit(self):
        rng = random.Random(3)
        kinds = set()
        for _ in range(5000):
            prompt, answer, level = tasks.draw(rng)
            kind, body = prompt[0], prompt[1:-1]
            kinds.add((kind, level))
            if kind == "A":
                self.assertEqual(int(answer), sum(map(int, body.split("+"))), prompt)
            elif kind == "M":
                numbers = [int(n) for n in body.split(",")]
                self.assertIn(int(answer), numbers)
                self.assertTrue(all(int(answer) >= n for n in numbers), prompt)
            elif kind == "R":
                self.assertEqual(list(answer), [body[-1 - i] for i in range(len(body))])
            elif kind == "S":
                self.assertEqual(sorted(body), list(answer))
            else:
                self.assertEqual(body, answer)
            self.assertEqual(prompt[-1], "=")
            self.assertLessEqual(len(prompt), tasks.PROMPT_MAX)
            self.assertLess(len(answer), tasks.ANSWER_MAX)
            self.assertEqual(tasks.decode(tasks.encode(answer) + [tasks.END, tasks.PAD]), answer)
        self.assertEqual(len(kinds), 5 * tasks.LEVELS)

    def test_what_has_no_end_is_no_answer(self):
        self.assertIsNone(tasks.decode(tasks.encode("12")))
        self.assertEqual(tasks.verify("12", tasks.decode(tasks.encode("12"))), 0.0)

    def test_drawn_tasks_are_distinct(self):
        rng = random.Random(4)
        first = [t[0] for t in tasks.draw_distinct(rng, 300)]
        second = [t[0] for t in tasks.draw_distinct(rng, 300, known=first)]
        self.assertEqual(len(set(first + second)), 600)


class Loop(unittest.TestCase):
    def setUp(self):
        self.python = python_with_torch()
        if not self.python:
            self.skipTest("no Python with torch, numpy and zmq (python3-torch python3-numpy "
                          "python3-zmq)")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="saerl-test-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def test_a_killed_run_ends_where_an_undisturbed_one_does(self):
        # A group of its own: if the time is over, what it started ends with it.
        run = subprocess.Popen(
            [self.python, "-B", EXAMPLE / "run.py", "--program", PROGRAM, "--steps", str(STEPS),
             "--dir", self.dir],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        try:
            said = run.communicate(timeout=540)[0]
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, 9)
            said = run.communicate()[0]
            self.fail("not done after 540 s:\n%s" % said)
        self.assertEqual(run.returncode, 0, said)
        self.assertIn("the same %d batches, the same weights" % STEPS, said)
        # Both kills happened, and the second cost steps that had to be done again.
        self.assertEqual(said.count("kill -9"), 2, said)
        dropped = re.search(r"resumed at (\d+); the sidecar dropped (\d+) batches", said)
        self.assertIsNotNone(dropped, said)
        self.assertGreater(int(dropped.group(2)), 0)
        # The warm model can be improved, or the example shows nothing.
        before, after = re.findall(r"held out: ([0-9.]+) right, from ([0-9.]+)", said)[-1][::-1]
        self.assertGreater(float(after), float(before))


if __name__ == "__main__":
    unittest.main()
