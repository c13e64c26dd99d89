"""Bad input: a clear one-line error or a defined result, no crash, nothing half-written."""

import gzip
import json
import os
import subprocess
import unittest

from saerl_case import PROGRAM, SOURCE, SaerlCase, read_jsonl, write_jsonl, write_safetensors

FIXTURES = SOURCE.parent / "shared" / "fixtures" / "sae"


class Data(SaerlCase):
    def run_lines(self, *lines, code=0, settings=()):
        self.write_world(len(lines))
        (self.dir / "data.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        return self.saerl("run", "recipe.yaml", "-o", "out", *settings, code=code)

    def test_malformed_lines_are_named(self):
        good = b'{"prompt":"fine"}'
        bad = [
            b'{"prompt":"\xff"}',
            b'{"prompt":"a","prompt":"b"}',
            b'{"prompt":NaN}',
            b'{"prompt":"x"} trailing',
            b"[" * 100000,
            b'{"prompt":' * 50000,
            b'{"prompt":"unclosed',
            b'{"prompt":"\x00"}',
            b'{"prompt":"x","n":1e999}',
            b"",
            b"null",
            b'\xef\xbb\xbf{"prompt":"x"}',
        ]
        for line in bad:
            done = self.run_lines(good, line, code=3)
            error = done.stderr.splitlines()[-1]
            self.assertIn("data.jsonl:2: row 1: ", error, line[:40])
            self.assertLess(len(error), 600)
            self.assertFalse((self.dir / "out").exists())
        settings = ("--set", "on_error.max_bad=%d" % len(bad), "--set", "on_error.action=skip")
        self.run_lines(good, *bad, settings=settings)
        scores = read_jsonl(self.dir / "out" / "scores.jsonl")
        self.assertEqual([s["reason"] for s in scores], [None] + ["malformed"] * len(bad))

    def test_a_line_of_any_length_costs_no_memory(self):
        self.write_world(2)
        with gzip.open(self.dir / "data.jsonl.gz", "wb", compresslevel=1) as file:
            file.write(b'{"prompt":"fine"}\n{"prompt":"')
            for _ in range(256):
                file.write(b"x" * (1 << 20))
            file.write(b'"}\n')
        recipe = (self.dir / "recipe.yaml").read_text().replace("data.jsonl", "data.jsonl.gz")
        (self.dir / "recipe.yaml").write_text(recipe)
        process = subprocess.Popen(
            [PROGRAM, "run", "recipe.yaml", "-o", "out"], cwd=self.dir, stderr=subprocess.PIPE
        )
        words = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        self.assertEqual(process.returncode, 3, words)
        self.assertIn("268435469 bytes", words)
        self.assertLess(usage.ru_maxrss, 200 * 1024)

    def test_damaged_archives(self):
        self.write_world(2)
        whole = gzip.compress((self.dir / "data.jsonl").read_bytes() * 1000)
        for name, content in {
            "cut": whole[: len(whole) // 2],
            "none": b"",
            "text": b"hello",
        }.items():
            path = self.dir / (name + ".jsonl.gz")
            path.write_bytes(content)
            self.refuses(
                name + ".jsonl.gz",
                "run",
                "recipe.yaml",
                "-o",
                "out",
                "--set",
                "input.data=[%s]" % path,
                code=1,
            )

    def test_counts_and_files_that_are_not_there(self):
        self.write_world(3)
        write_jsonl(self.dir / "data.jsonl", [{"prompt": "x%d" % i} for i in range(4)])
        self.refuses(["3 samples", "4 rows"], "run", "recipe.yaml", "-o", "out", code=1)
        self.refuses("matches no file", "run", "recipe.yaml", "--set", "input.data=[no*.jsonl]")
        self.refuses("gone.jsonl", "run", "recipe.yaml", "--set", "input.data=[gone.jsonl]", code=1)
        self.refuses(
            ["Parquet", "to_json"],
            "run",
            "recipe.yaml",
            "-o",
            "out",
            "--set",
            "input.data=[x.parquet]",
            code=1,
        )
        os.mkfifo(self.dir / "pipe.jsonl")
        for path in ("/dev/zero", "pipe.jsonl", "."):
            self.refuses(
                "not a regular file",
                "run",
                "recipe.yaml",
                "-o",
                "out",
                "--set",
                "input.data=[%s]" % path,
                code=1,
                timeout=10,
            )
        (self.dir / "empty.jsonl").write_text("")
        self.refuses(
            "no rows",
            "run",
            "recipe.yaml",
            "-o",
            "out",
            "--set",
            "input.data=[empty.jsonl]",
            code=1,
        )
        self.assertEqual([p.name for p in self.dir.glob("out*")], [])

    def test_lying_activations(self):
        def acts(tensors, words, code=1):
            self.write_world(2)
            write_safetensors(self.dir / "acts.safetensors", tensors)
            self.refuses(words, "run", "recipe.yaml", "-o", "out", code=code)

        x = ("F32", [4, 8], [1.0] * 32)
        acts({"activations": x, "offsets": ("I64", [3], [0, 5, 4])}, "offsets")
        acts({"activations": x, "offsets": ("I64", [3], [1, 2, 4])}, "offsets")
        acts({"activations": x, "offsets": ("I64", [3], [0, 2, 3])}, "offsets")
        acts({"activations": x, "offsets": ("I64", [3], [-1, 2, 4])}, "offsets")
        acts(
            {"activations": x, "offsets": ("I64", [3], [0, 2, 4]), "keep": ("U8", [3], [1] * 3)},
            "keep",
        )
        acts({"other": x}, "activations")
        acts({"activations": ("F32", [32], [1.0] * 32)}, "activations")
        acts({"activations": ("U8", [4, 8], [1] * 32)}, "activations")
        whole = (self.dir / "acts.safetensors").read_bytes()
        (self.dir / "acts.safetensors").write_bytes(whole[:-1])
        self.refuses("acts.safetensors", "run", "recipe.yaml", "-o", "out", code=1)


class Recipes(SaerlCase):
    def test_yaml_that_is_refused(self):
        self.write_world(2)
        bomb = "a: &a [x,x]\n" + "".join(
            "%s: &%s [*%s,*%s]\n" % (b, b, a, a) for a, b in zip("abcdefgh", "bcdefghi")
        )
        for text in (
            bomb,
            "name: &x y\n",
            "name: *x\n",
            "name: !!str y\n",
            "<<: {}\n",
            "---\nversion: 1\n",
            "name: {\n",
            "\tname: x\n",
            "name: \xff\n".encode("latin-1"),
            "[" * 1000,
            "input: " + "{input: " * 40 + "x" + "}" * 40,
            "seed: 1\nseed: 2\n",
            "seed: -1\n",
            "seed: 1.5\n",
            "seed: [1]\n",
            "seed: {a: 1}\n",
            "batches: 3\n",
            "name: " + "x" * 300000,
            "quality: {keep_top: 2}\n",
            "quality: {rule: min_score}\n",
            "difficulty: {window: [0.9, 0.1]}\n",
            "output: {report: [pdf]}\n",
        ):
            self.write_recipe("")
            path = self.dir / "recipe.yaml"
            raw = text if isinstance(text, bytes) else text.encode()
            path.write_bytes(path.read_bytes() + raw)
            done = self.saerl("run", "recipe.yaml", "-o", "out", code=2)
            self.assertIn("recipe.yaml", done.stderr, text[:40])
            self.assertFalse((self.dir / "out").exists())
        path.write_text("input: {data: [data.jsonl]}\n")
        self.refuses("version", "run", "recipe.yaml")


@unittest.skipUnless(FIXTURES.is_dir(), "the shared fixtures are not here")
class Fixtures(SaerlCase):
    """Files that say of themselves whether they are sound."""

    def test_hostile_files_get_the_verdict_they_deserve(self):
        manifest = json.loads((FIXTURES / "manifest.json").read_text())
        judged = 0
        for entry in manifest["hostile"]:
            if entry["kind"] not in ("safetensors", "folder", "pt"):
                continue
            done = subprocess.run(
                [PROGRAM, "show", FIXTURES / entry["path"]],
                capture_output=True,
                text=True,
                timeout=5,
            )
            self.assertIn(done.returncode, (0, 1), entry)
            if entry["expect"] != "either":
                self.assertEqual(
                    done.returncode == 0, entry["expect"] == "accept", (entry, done.stderr)
                )
            if done.returncode:
                self.assertTrue(done.stderr.startswith("saerl: "), entry)
                self.assertEqual(len(done.stderr.splitlines()), 1)
            judged += 1
        self.assertGreater(judged, 75)

    def test_torch_files_are_listed(self):
        path = FIXTURES / "cases" / "openai_topk" / "8.pt"
        shown = json.loads(self.saerl("show", path, "--json").stdout)
        self.assertEqual(shown["kind"], "torch")
        tensors = {t["name"]: (t["dtype"], t["shape"]) for t in shown["tensors"]}
        self.assertEqual(tensors["encoder.weight"], ("F32", [256, 48]))
        self.assertEqual(tensors["stats_last_nonzero"], ("I64", [256]))
        self.assertEqual(
            shown["values"],
            {
                "activation": "TopK",
                "activation_state_dict/k": 8,
                "activation_state_dict/postact_fn": "ReLU",
            },
        )
        words = self.saerl("show", path).stdout
        self.assertIn('activation                       "TopK"', words)

    def test_names_do_not_reach_the_terminal_as_commands(self):
        write_safetensors(self.dir / "a.safetensors", {"a\x1b[31m\n": ("U8", [1], [0])})
        self.assertIn("  a?[31m? ", self.saerl("show", "a.safetensors").stdout)

    def test_a_model_is_shown_and_one_bit_of_it_matters(self):
        raw = (SOURCE / "tests" / "fuzz" / "corpus" / "model" / "probe").read_bytes()
        path = self.dir / "model.safetensors"
        path.write_bytes(raw)
        told = json.loads(self.saerl("show", "model.safetensors", "--json").stdout)
        self.assertEqual(told["kind"], "sidecar model")
        self.assertEqual([told["rows"], told["kept"], told["in_batches"]], [4, 2, 2])
        self.assertEqual([told["quality"], told["difficulty"]], ["probe", "length"])
        self.assertEqual(told["pooling"], "max")
        words = self.saerl("show", "model.safetensors").stdout
        self.assertIn("rows 4, kept 2, in batches 2; ", words)
        (self.dir / "ledger.db").touch()  # the folder is a sidecar's state
        self.assertIn("rows 4, kept 2, in batches 2; ", self.saerl("show", ".").stdout)
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        self.refuses("damaged", "show", "model.safetensors", code=1)
        path.unlink()
        self.refuses("sqlite3 -readonly ./ledger.db", "show", ".", code=1)

    def test_files_of_another_kind_are_named(self):
        whole = (FIXTURES / "hostile" / "safetensors" / "ok_plain.safetensors").read_bytes()
        for name, content, words in (
            ("a.pt", whole, "name it .safetensors"),
            ("a.bin", b"\x80\x02}.", "a plain pickle"),
            ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ):
            (self.dir / name).write_bytes(content)
            self.refuses([name, words], "show", name, code=1)


if __name__ == "__main__":
    unittest.main()
