#!/usr/bin/env python3
"""Plans of real runs, in every order and grouping, against check_plan.py."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

import check_plan
from saerl_case import DEMO, PROGRAM, SaerlCase

ORDERS = ("easy_to_hard", "hard_to_easy", "random", "none")
GROUPINGS = ("cluster", "spread", "none")


class Plan(SaerlCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.home = pathlib.Path(tempfile.mkdtemp(prefix="saerl-plan-"))
        cls.addClassCleanup(shutil.rmtree, cls.home, ignore_errors=True)
        subprocess.run(
            [PROGRAM, "demo", str(cls.home / "demo")], capture_output=True, timeout=300, check=True
        )

    def test_the_demo(self):
        check_plan.check(self.home / "demo" / "out", [DEMO / "tasks.jsonl"])

    def test_every_order_and_grouping(self):
        recipe = self.home / "demo" / "recipe.yaml"
        probes = []  # those of the demo: plans need no fit of their own
        for name in ("quality", "difficulty"):
            probe = self.home / "demo" / "out" / (name + ".probe.safetensors")
            probes += ["--set", "%s.probe=%s" % (name, probe), "--set", name + ".fit_labels=null"]
        for i, order in enumerate(ORDERS):
            for j, grouping in enumerate(GROUPINGS):
                settings = {
                    "size": (32, 7, 100)[(i + j) % 3],
                    "order": order,
                    "grouping": grouping,
                    "mixing": (0.125, 0.5)[(i + j) % 2],
                    "mixing_chain": ("true", "false")[i % 2],
                    "drop_last": ("true", "false")[j % 2],
                }
                flags = list(probes)
                for name, value in settings.items():
                    flags += ["--set", "batches.%s=%s" % (name, value)]
                out = self.dir / ("%s-%s" % (order, grouping))
                with self.subTest(**settings):
                    self.saerl("run", recipe, "-o", out, "--seed", 2**63 + i, *flags)
                    check_plan.check(out, [DEMO / "tasks.jsonl"])


if __name__ == "__main__":
    unittest.main()
