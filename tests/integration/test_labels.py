"""Names of latents from import to report, the audit of `show`, and vLLM's hidden states."""

import fcntl
import gzip
import json
import math
import os
import struct
import subprocess
import unittest

from saerl_case import PROGRAM, SOURCE, SaerlCase, folder_bytes, read_safetensors
from saerl_case import write_safetensors

GOLDEN = SOURCE / "tests" / "golden" / "labels"


def write_table_bytes(path, tensors, metadata):
    """As write_safetensors, for text."""
    header, data = {"__metadata__": metadata}, b""
    for name, (dtype, shape, raw) in tensors.items():
        end = len(data) + len(raw)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), end]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Labels(SaerlCase):
    def labels_of(self, path):
        """latent -> list of labels, as docs/formats.md says."""
        tensors, metadata = read_safetensors(path)
        offsets, text = tensors["offsets"], bytes(tensors["text"])
        found = {}
        for i, (begin, end) in enumerate(zip(offsets, offsets[1:])):
            if end > begin:
                found[i] = [label.decode() for label in text[begin:end].split(b"\0")[:-1]]
        return found, metadata

    def write_map(self, labels, name="map.json"):
        (self.dir / name).write_text(json.dumps(labels))

    def test_neuronpedia_to_a_table_that_python_reads(self):
        done = self.saerl("labels", "import", GOLDEN / "v1", "-o", "a.labels.safetensors", "--json")
        told = json.loads(done.stdout)
        expected = json.loads((GOLDEN / "manifest.json").read_text())["labels"]["all_descriptions"]
        found, metadata = self.labels_of(self.dir / "a.labels.safetensors")
        self.assertEqual({str(k): v for k, v in found.items()}, expected)
        self.assertEqual(metadata["format"], "saerl.labels")
        self.assertEqual(metadata["source"], "3-res-256")
        self.assertNotIn("d_sae", metadata)
        self.assertEqual(told["labels"], 9)
        self.assertEqual(told["latents"], 7)
        self.assertEqual(told["empty"], 1)
        self.assertEqual(told["several"], 1)
        self.assertEqual(told["largest"], 256)
        self.assertIsNone(told["d_sae"])
        first = (self.dir / "a.labels.safetensors").read_bytes()
        self.saerl("labels", "import", GOLDEN / "v1" / "tiny", "-o", "a.labels.safetensors")
        self.assertEqual((self.dir / "a.labels.safetensors").read_bytes(), first)

    def test_the_wrong_export_is_refused(self):
        self.refuses(
            ["batch-1.jsonl.gz':2", "latent 256", "has 256"],
            "labels", "import", GOLDEN / "v1", "-o", "a", "--d-sae", "256", code=1,
        )
        self.assertFalse((self.dir / "a").exists())
        self.saerl("labels", "import", GOLDEN / "v1", "-o", "a", "--d-sae", "257")
        self.write_world(2)
        self.refuses(
            ["latent 100", "has 16"],
            "labels", "import", GOLDEN / "v1", "-o", "b", "--sae", "sae", code=1,
        )
        self.refuses(
            "labels of an SAE with 257 latents, this one has 16",
            "show", "sae", "--labels-table", "a", code=1,
        )

    def test_usage(self):
        self.refuses(["export", "import PATH"], "labels", "export", GOLDEN, "-o", "a")
        self.refuses("-o is missing", "labels", "import", GOLDEN)
        self.refuses("both", "labels", "import", GOLDEN, "-o", "a", "--sae", "s", "--d-sae", "1")
        self.refuses(
            ["2 exports", "'delphi'", "'v1/tiny/3-res-256/explanations'"],
            "labels", "import", GOLDEN, "-o", "a",
        )
        self.refuses("above", "labels", "import", GOLDEN, "-o", "a", "--d-sae", "99999999999")

    def test_delphi_needs_a_hook_where_there_are_several(self):
        folder = self.dir / "explanations"
        folder.mkdir()
        for hook in ("layers.3", "layers.10"):
            for latent in (10, 9):
                (folder / ("%s_latent%d.txt" % (hook, latent))).write_text(
                    json.dumps("%s of %d" % (hook, latent))
                )
        self.refuses(["'layers.10', 'layers.3'", "--hook"], "labels", "import", ".", "-o", "a")
        self.saerl("labels", "import", ".", "-o", "a.labels.safetensors", "--hook", "layers.10")
        found, metadata = self.labels_of(self.dir / "a.labels.safetensors")
        self.assertEqual(found, {9: ["layers.10 of 9"], 10: ["layers.10 of 10"]})
        self.assertEqual(metadata["hook"], "layers.10")

    def test_show_tells_what_a_table_is(self):
        self.write_map({"3": "three\u202e\n", "1": None, "2": ""})
        self.saerl("labels", "import", "map.json", "-o", "a.labels.safetensors", "--d-sae", "16")
        told = json.loads(self.saerl("show", "a.labels.safetensors", "--json").stdout)
        self.assertEqual(told["kind"], "labels")
        self.assertEqual(told["d_sae"], 16)
        self.assertEqual(told["labels"], 3)
        self.assertEqual(told["latents"], 1)
        self.assertEqual(told["examples"], [{"latent": 3, "label": "three\u202e\n"}])
        words = self.saerl("show", "a.labels.safetensors").stdout
        self.assertIn("three\\u202e\\n", words)
        self.assertNotIn("\u202e", words)

    def test_a_table_that_lies_is_refused(self):
        meta = {"format": "saerl.labels", "version": "1"}
        for offsets in ([0, 9], [3, 1], [-1, 1], [0, 2]):
            write_table_bytes(
                self.dir / "bad.labels.safetensors",
                {
                    "offsets": ("I64", [2], struct.pack("<2q", *offsets)),
                    "text": ("U8", [3], b"ab\0"),
                },
                meta,
            )
            self.refuses("latent 0", "show", "bad.labels.safetensors", code=1)

    def run_demo_world(self, *more, out="out", code=0):
        return self.saerl("run", "recipe.yaml", "-o", out, "-q", *more, code=code)

    def test_run_explain_and_show_name_latents(self):
        self.write_world(30)
        self.write_map({str(i): "latent \x07 %d" % i for i in range(0, 16, 2)})
        self.saerl("labels", "import", "map.json", "-o", "a.labels.safetensors", "--sae", "sae")
        self.run_demo_world("--set", "sae.labels=a.labels.safetensors")
        report = json.loads((self.dir / "out" / "report.json").read_text())
        listed = report["features"]["sae"]["densest"] + [
            latent for cluster in report["clusters"]["each"] for latent in cluster["latents"]
        ]
        self.assertTrue(listed)
        for entry in listed:
            label = None if entry["latent"] % 2 else "latent \x07 %d" % entry["latent"]
            self.assertEqual(entry["label"], label)

        told = json.loads(self.saerl("explain", "out", "row:3", "--json").stdout)
        self.assertTrue(told["latents"])
        for entry in told["latents"]:
            label = None if entry["latent"] % 2 else "latent \x07 %d" % entry["latent"]
            self.assertEqual(entry["label"], label)
        words = self.saerl("explain", "out", "row:3").stdout
        self.assertIn("  latent \\x07 ", words)
        self.assertNotIn("\x07", words)

        (self.dir / "a.labels.safetensors").rename(self.dir / "b.labels.safetensors")
        done = self.saerl("explain", "out", "row:3")
        self.assertIn("without names", done.stderr)
        self.assertIn(
            "latent \\x07",
            self.saerl("explain", "out", "row:3", "--labels-table", "b.labels.safetensors").stdout,
        )
        gone = ["--labels-table", "a.labels.safetensors"]
        self.refuses("No such file", "explain", "out", "row:3", *gone, code=1)
        shown = json.loads(
            self.saerl(
                "show", "sae", "--activations", "acts.safetensors", "--labels-table",
                "b.labels.safetensors", "--json",
            ).stdout
        )
        self.assertEqual(shown["densest"], report["features"]["sae"]["densest"])

    def test_labels_change_the_report_and_nothing_else(self):
        self.write_world(30)
        self.write_map({"0": "zero"})
        self.saerl("labels", "import", "map.json", "-o", "a.labels.safetensors")
        self.run_demo_world()
        self.run_demo_world("--set", "sae.labels=a.labels.safetensors", out="named")
        plain, named = folder_bytes(self.dir / "out"), folder_bytes(self.dir / "named")
        changed = {name for name in plain if plain[name] != named[name]}
        self.assertEqual(changed, {"recipe.lock.yaml", "report.html", "report.json"})
        # What is read is part of what a run is: its report would be another one.
        self.refuses(
            "other inputs",
            "run", "recipe.yaml", "-o", "out", "--set", "sae.labels=a.labels.safetensors", code=5,
        )
        self.saerl("run", "named/recipe.lock.yaml", "-o", "again", "-q")
        self.assertEqual(folder_bytes(self.dir / "again"), named)

    def test_check_and_run_refuse_labels_of_another_sae(self):
        self.write_world(4)
        self.write_map({"16": "one too many"})
        self.saerl("labels", "import", "map.json", "-o", "a.labels.safetensors")
        for verb in (["check", "recipe.yaml"], ["run", "recipe.yaml", "-o", "out"]):
            self.refuses(
                ["sae.labels", "latent 16", "has 16"],
                *verb, "--set", "sae.labels=a.labels.safetensors"
            )
        self.write_map({"15": "the last"})
        self.saerl("labels", "import", "map.json", "-o", "a.labels.safetensors")
        done = self.saerl("check", "recipe.yaml", "--set", "sae.labels=a.labels.safetensors")
        self.assertIn("1 of 16 latents have one", done.stdout)

    def test_a_gzip_that_ends_early_is_an_error(self):
        folder = self.dir / "explanations"
        folder.mkdir()
        whole = gzip.compress(b'{"index":"0","description":"x"}\n' * 100)
        (folder / "batch-0.jsonl.gz").write_bytes(whole[:-12])
        self.refuses("batch-0.jsonl.gz", "labels", "import", ".", "-o", "a", code=1)
        self.assertFalse((self.dir / "a").exists())


class Show(SaerlCase):
    def test_densities_are_measured_published_or_unknown(self):
        self.write_world(20)
        self.assertIn("--activations measures them", self.saerl("show", "sae").stdout)
        told = json.loads(self.saerl("show", "sae", "--json").stdout)
        self.assertIsNone(told["densities"])
        self.assertNotIn("densest", told)

        logs = [-10.0] * self.D_SAE
        logs[7], logs[2] = -0.5, -1.0
        write_safetensors(
            self.dir / "sae" / "sparsity.safetensors", {"sparsity": ("F32", [self.D_SAE], logs)}
        )
        told = json.loads(self.saerl("show", "sae", "--json").stdout)
        self.assertEqual(told["densities"], "sparsity.safetensors")
        self.assertEqual([d["latent"] for d in told["densest"]], [7, 2, 0, 1, 3, 4, 5, 6, 8, 9])
        self.assertAlmostEqual(told["densest"][0]["frequency"], math.sqrt(0.1), places=6)
        self.assertIn("from sparsity.safetensors", self.saerl("show", "sae").stdout)

        done = self.saerl("show", "sae", "--activations", "acts.safetensors", "--json")
        told = json.loads(done.stdout)
        self.assertEqual(told["densities"], "activations")
        self.assertEqual(len(told["densest"]), 10)
        activations = ["--activations", "acts.safetensors"]
        self.saerl("encode", "--sae", "sae", *activations, "-o", "f", "--tokens")
        tensors, _ = read_safetensors(self.dir / "f")
        for entry in told["densest"]:
            active = tensors["indices"].count(entry["latent"])
            self.assertAlmostEqual(entry["frequency"], active / 40)
        words = self.saerl("show", "sae", *activations).stdout
        for word in ("L0 ", "explained variance", "dead", "dense", "sqrt(d_in)", "sinks"):
            self.assertIn(word, words)

    def test_a_file_of_no_use_beside_the_weights_is_a_warning(self):
        self.write_world(2)
        write_safetensors(
            self.dir / "sae" / "sparsity.safetensors", {"sparsity": ("F32", [2], [-1.0, -2.0])}
        )
        done = self.saerl("show", "sae")
        self.assertIn("expected [16]", done.stderr)
        self.assertIn("not known", done.stdout)


class HiddenStates(SaerlCase):
    LAYERS = 3

    def write_states(self, name, sample, tokens, layer):
        """The activations of write_world's sample in one layer, noise in the others."""
        acts, _ = read_safetensors(self.dir / "acts.safetensors")
        values = []
        for t in range(tokens):
            for l in range(self.LAYERS):
                begin = (sample * tokens + t) * self.D_IN
                row = acts["activations"][begin : begin + self.D_IN]
                values += row if l == layer else [100.0 + l] * self.D_IN
        write_safetensors(
            self.dir / name,
            {
                "hidden_states": ("F32", [tokens, self.LAYERS, self.D_IN], values),
                "token_ids": ("I64", [tokens], list(range(tokens))),
            },
        )

    def encode(self, out, *args, code=0, words=""):
        args = ["encode", "--sae", "sae", "-o", out, *args]
        return self.refuses(words, *args, code=code) if code else self.saerl(*args)

    def test_one_layer_of_a_file_a_request(self):
        self.write_world(12, tokens=2)
        (self.dir / "states").mkdir()
        for i in range(12):
            self.write_states("states/req-%02d.safetensors" % i, i, 2, layer=1)
        self.encode("plain", "--activations", "acts.safetensors")
        self.encode("states.f", "--activations", "states/*.safetensors", "--layer", "1")
        plain = read_safetensors(self.dir / "plain")
        self.assertEqual(plain, read_safetensors(self.dir / "states.f"))
        self.encode("set.f", "--activations", "states/*.safetensors", "--set", "input.layer=1")
        self.assertEqual((self.dir / "set.f").read_bytes(), (self.dir / "states.f").read_bytes())

        self.encode("x", "--activations", "states/*.safetensors", code=2,
                    words=["3 layers", "input.layer", "0 to 2"])
        self.encode("x", "--activations", "states/*.safetensors", "--layer", "3", code=2,
                    words=["input.layer: 3", "3 layers"])
        self.encode("x", "--activations", "states/*.safetensors", "--set", "input.layer=-1",
                    code=2, words=["input.layer", "below the minimum, 0"])
        self.encode("x", "--activations", "acts.safetensors", "--layer", "0", code=2,
                    words="no layers")
        self.assertFalse((self.dir / "x").exists())

        states = ["--set", "input.activations=[states/*.safetensors]"]
        self.saerl("run", "recipe.yaml", "-o", "a", "-q")
        self.saerl("run", "recipe.yaml", "-o", "b", "-q", *states, "--set", "input.layer=1")
        a, b = folder_bytes(self.dir / "a"), folder_bytes(self.dir / "b")
        # The report tells the recipe and its inputs.
        self.assertEqual({n for n in a if a[n] != b[n]},
                         {"recipe.lock.yaml", "report.html", "report.json"})
        self.saerl("check", "recipe.yaml", *states, "--set", "input.layer=1")
        self.refuses("input.layer", "check", "recipe.yaml", *states)
        # Another layer is another input: features of one are not taken for the other's.
        self.refuses(
            "other inputs",
            "run", "recipe.yaml", "-o", "b", *states, "--set", "input.layer=2", code=5,
        )
        told = json.loads(
            self.saerl(
                "show", "sae", "--set", "input.layer=1", "--json", "--activations",
                "states/*.safetensors",
            ).stdout
        )
        self.assertEqual(told["tokens"], 24)

    def test_thousands_of_files_need_few_descriptors(self):
        self.write_world(400, tokens=1)
        (self.dir / "states").mkdir()
        for i in range(400):
            self.write_states("states/req-%03d.safetensors" % i, i, 1, layer=2)
        command = "ulimit -n 40; exec $0 encode --sae sae --layer 2 -o f --activations states/*"
        done = subprocess.run(
            ["sh", "-c", command, PROGRAM], cwd=self.dir, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.encode("plain", "--activations", "acts.safetensors")
        self.assertEqual(read_safetensors(self.dir / "plain"), read_safetensors(self.dir / "f"))

    def test_a_file_that_is_still_being_written_is_an_error(self):
        self.write_world(1)
        self.write_states("req.safetensors", 0, 2, layer=0)
        lock = os.open(self.dir / "req.safetensors.lock", os.O_CREAT | os.O_WRONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.encode("x", "--activations", "req.safetensors", "--layer", "0", code=1,
                        words="still being written")
        finally:
            os.close(lock)
        # vLLM leaves the lock file where it is.
        self.encode("x", "--activations", "req.safetensors", "--layer", "0")

    def test_zeros_are_said_aloud(self):
        self.write_world(1)
        write_safetensors(
            self.dir / "zero.safetensors",
            {"hidden_states": ("F32", [2, 1, self.D_IN], [0.0] * 2 * self.D_IN)},
        )
        done = self.encode("x", "--activations", "zero.safetensors", "--json")
        self.assertEqual(json.loads(done.stdout)["samples"]["zero_activation"], 1)
        self.assertIn("not one token", done.stderr)


if __name__ == "__main__":
    unittest.main()
