"""Every published SAE layout through `saerl encode`: the latents of its own library.

The fixtures are those of tests/golden/sae and, where it is there, ../shared; with NumPy at hand the
generator of ../shared makes the same layouts with other numbers as well.
"""

import ast
import importlib.util
import json
import pathlib
import struct
import subprocess
import sys
import unittest

from saerl_case import SOURCE, SaerlCase, read_safetensors

SHARED = SOURCE.parent / "shared" / "fixtures"
SEEDS = (1, 2, 3)


def read_npy(path):
    """Rows of a C-ordered float array; further axes are side by side."""
    raw = pathlib.Path(path).read_bytes()
    (n,) = struct.unpack("<H", raw[8:10])
    header = ast.literal_eval(raw[10 : 10 + n].decode())
    kind = {"<f4": "f", "<f8": "d"}[header["descr"]]
    count = (len(raw) - 10 - n) // struct.calcsize("<" + kind)
    flat = struct.unpack("<%d%s" % (count, kind), raw[10 + n :])
    width = count // header["shape"][0]
    return [flat[i : i + width] for i in range(0, count, width)]


class Layouts(SaerlCase):
    def encode(self, root, case, *more, code=0):
        """With the case's folder as it is published, and nothing said about it."""
        folder = root / case["dir"]
        return self.saerl(
            "encode",
            "--sae",
            folder,
            "--activations",
            folder / "x.npy",
            "--tokens",
            "--no-recon",
            "-o",
            "f.safetensors",
            *more,
            code=code
        )

    def check_latents(self, root, case, expected):
        tensors, _ = read_safetensors(self.dir / "f.safetensors")
        exact = case.get("exact", False)
        rows = read_npy(root / case["dir"] / expected)
        self.assertEqual(len(tensors["indptr"]), len(rows) + 1)
        for row, want in enumerate(rows):
            begin, end = tensors["indptr"][row : row + 2]
            got = dict(zip(tensors["indices"][begin:end], tensors["values"][begin:end]))
            self.assertEqual(sorted(got), [j for j, z in enumerate(want) if z != 0])
            for j, z in got.items():
                error = 0 if exact else case["atol"] + case["rtol"] * abs(want[j])
                self.assertLessEqual(abs(z - want[j]), error)

    def check_case(self, root, case):
        expected = "f.npy"
        if case["canonical"]["act"] == "batch_topk":
            done = self.encode(root, case, code=2)
            self.assertIn("set sae.k", done.stderr)
            self.encode(root, case, "--set", "sae.k=%d" % case["canonical"]["k"])
            expected = "f_per_token.npy"
        else:
            self.encode(root, case)
        if "f_relu" in case["expected"]:
            expected = "f_relu.npy"
        self.check_latents(root, case, expected)

    def check_all(self, root):
        manifest = json.loads((root / "manifest.json").read_text())
        for case in manifest["cases"]:
            with self.subTest(case["name"]):
                self.check_case(root, case)
        self.assertGreater(len(manifest["cases"]), 40)

    def test_bundled(self):
        self.check_all(SOURCE / "tests" / "golden" / "sae")

    def test_same_bytes_however_encoded(self):
        """Any CPU level, any number of threads, `fast` where margins are wide, the cache, empty
        and filled: one and the same feature store."""
        root = SOURCE / "tests" / "golden" / "sae"
        cases = json.loads((root / "manifest.json").read_text())["cases"]
        levels = ("scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx")
        ways = [["--cpu-mask", level] for level in levels]
        ways += [["--threads", "3"], ["--set", "sae.precision=fast"]]
        ways += [["--set", "sae.cache=kept"]] * 2
        for case in cases:
            if case["canonical"]["act"] == "batch_topk":
                continue
            with self.subTest(case["name"]):
                self.encode(root, case)
                expected = (self.dir / "f.safetensors").read_bytes()
                for way in ways:
                    self.encode(root, case, *way)
                    self.assertEqual((self.dir / "f.safetensors").read_bytes(), expected, way)
        self.assertTrue(list((self.dir / "kept").glob("*-weights.saerl")))

    @unittest.skipUnless(SHARED.exists(), "no ../shared")
    def test_shared(self):
        self.check_all(SHARED / "sae")

    @unittest.skipUnless(SHARED.exists() and importlib.util.find_spec("numpy"), "no NumPy")
    def test_other_numbers(self):
        for seed in SEEDS:
            root = self.dir / ("seed%d" % seed)
            subprocess.run(
                [sys.executable, SHARED / "make_sae_fixtures.py", root, "--seed", str(seed)],
                check=True,
                capture_output=True,
            )
            self.check_all(root)


if __name__ == "__main__":
    unittest.main()
