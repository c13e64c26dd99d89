"""The verbs on their own: encode, fit, score, cluster, show, check; options and help."""

import json
import math
import unittest

from saerl_case import DEMO, SaerlCase, read_jsonl, read_safetensors, write_jsonl, write_safetensors


class Encode(SaerlCase):
    def encode(self, *more, code=0):
        return self.saerl(
            "encode",
            "--sae",
            "sae",
            "--activations",
            "acts.safetensors",
            "-o",
            "f.safetensors",
            *more,
            code=code
        )

    def test_relu_by_hand(self):
        self.write_world(5, tokens=3)
        told = json.loads(self.encode("--json", "--pooling", "sum").stdout)
        tensors, metadata = read_safetensors(self.dir / "f.safetensors")
        acts, _ = read_safetensors(self.dir / "acts.safetensors")
        sae, _ = read_safetensors(self.dir / "sae" / "sae_weights.safetensors")
        x, w, b = acts["activations"], sae["W_enc"], sae["b_enc"]
        self.assertEqual(told["rows"], 5)
        self.assertEqual(told["tokens_encoded"], 15)
        self.assertEqual(metadata["pooling"], "sum")
        self.assertEqual(metadata["d_sae"], str(self.D_SAE))
        for row in range(5):
            begin, end = tensors["indptr"][row : row + 2]
            got = dict(zip(tensors["indices"][begin:end], tensors["values"][begin:end]))
            for latent in range(self.D_SAE):
                expected = 0.0
                for t in range(row * 3, row * 3 + 3):
                    pre = b[latent] + sum(
                        x[t * self.D_IN + i] * w[i * self.D_SAE + latent] for i in range(self.D_IN)
                    )
                    expected += max(pre, 0.0)
                self.assertAlmostEqual(got.get(latent, 0.0), expected, places=4)
        self.assertEqual(tensors["keys"], (0,) * 5)
        self.assertEqual(tensors["tokens_used"], (3,) * 5)

    def test_tokens_gives_a_row_each(self):
        self.write_world(4, tokens=3)
        self.encode("--tokens", "--no-recon")
        tensors, _ = read_safetensors(self.dir / "f.safetensors")
        self.assertEqual(len(tensors["indptr"]), 13)
        self.assertNotIn("recon_mean", tensors)

    def test_keys_come_from_the_data(self):
        self.write_world(4)
        self.encode("--data", "data.jsonl")
        tensors, _ = read_safetensors(self.dir / "f.safetensors")
        self.assertEqual(len(set(tensors["keys"])), 4)
        write_jsonl(self.dir / "data.jsonl", [{"prompt": "x"}] * 3)
        self.refuses(
            ["4 samples", "3 rows"],
            "encode",
            "--sae",
            "sae",
            "--activations",
            "acts.safetensors",
            "-o",
            "g",
            "--data",
            "data.jsonl",
            code=1,
        )
        self.assertFalse((self.dir / "g").exists())

    def test_files_are_concatenated(self):
        self.write_world(4)
        self.encode()
        whole, _ = read_safetensors(self.dir / "f.safetensors")
        acts, _ = read_safetensors(self.dir / "acts.safetensors")
        for part, (begin, end) in {"a": (0, 1), "b": (1, 4)}.items():
            values = acts["activations"][begin * 16 : end * 16]
            write_safetensors(
                self.dir / (part + ".safetensors"),
                {
                    "activations": ("F32", [2 * (end - begin), 8], values),
                    "offsets": ("I64", [end - begin + 1], [2 * i for i in range(end - begin + 1)]),
                },
            )
        self.saerl(
            "encode",
            "--sae",
            "sae",
            "--activations",
            "a.safetensors",
            "b.safetensors",
            "-o",
            "f.safetensors",
        )
        parts, _ = read_safetensors(self.dir / "f.safetensors")
        self.assertEqual(whole, parts)

    def test_widths_and_hooks_must_agree(self):
        self.write_world(2)
        write_safetensors(
            self.dir / "wide.safetensors", {"activations": ("F32", [2, 9], [1.0] * 18)}
        )
        self.refuses(
            ["9", "8"],
            "encode",
            "--sae",
            "sae",
            "--activations",
            "wide.safetensors",
            "-o",
            "f",
            code=2,
        )
        cfg = self.dir / "sae" / "cfg.json"
        config = json.loads(cfg.read_text())
        config["metadata"] = {"hook_name": "blocks.1.hook_resid_post", "model_name": "m"}
        cfg.write_text(json.dumps(config))
        acts, _ = read_safetensors(self.dir / "acts.safetensors")
        write_safetensors(
            self.dir / "acts.safetensors",
            {
                "activations": ("F32", [4, 8], acts["activations"]),
                "offsets": ("I64", [3], [0, 2, 4]),
            },
            {"hook": "blocks.2.hook_resid_post", "model": "other"},
        )
        self.refuses(
            ["blocks.2.hook_resid_post", "blocks.1.hook_resid_post", "sae.force_hook"],
            "encode",
            "--sae",
            "sae",
            "--activations",
            "acts.safetensors",
            "-o",
            "f",
        )
        done = self.encode("--set", "sae.force_hook=true")
        self.assertIn("model 'other'", done.stderr)

    def test_no_samples_at_all(self):
        self.write_world(1)
        write_safetensors(self.dir / "acts.safetensors", {"activations": ("F32", [0, 8], [])})
        self.encode()
        tensors, _ = read_safetensors(self.dir / "f.safetensors")
        self.assertEqual(tensors["indptr"], (0,))

    def test_heads_are_flattened(self):
        self.write_world(4)
        self.encode("--tokens")
        flat, _ = read_safetensors(self.dir / "f.safetensors")
        acts, _ = read_safetensors(self.dir / "acts.safetensors")
        write_safetensors(
            self.dir / "acts.safetensors", {"activations": ("F32", [8, 2, 4], acts["activations"])}
        )
        self.encode("--tokens")
        heads, _ = read_safetensors(self.dir / "f.safetensors")
        self.assertEqual(flat["values"], heads["values"])

    def test_settings_without_effect_are_refused(self):
        self.write_world(2)
        self.refuses(
            "no effect",
            "encode",
            "--sae",
            "sae",
            "--activations",
            "acts.safetensors",
            "-o",
            "f",
            "--set",
            "batches.size=3",
        )


class Probes(SaerlCase):
    """On the bundled pool: fit, then score; the figures agree with each other."""

    def setUp(self):
        super().setUp()
        self.saerl(
            "encode",
            "--sae",
            DEMO / "sae",
            "--activations",
            DEMO / "activations.safetensors",
            "-o",
            "f.safetensors",
            "--data",
            DEMO / "tasks.jsonl",
            "-q",
        )
        tasks = read_jsonl(DEMO / "tasks.jsonl")
        write_jsonl(
            self.dir / "sound.jsonl",
            [{"id": t["id"], "label": t["sound"]} for t in tasks if "sound" in t],
        )
        write_jsonl(
            self.dir / "hard.jsonl",
            [
                {"row": i, "label": 1 - sum(t["rewards"]) / len(t["rewards"])}
                for i, t in enumerate(tasks)
                if "rewards" in t
            ],
        )

    def test_quality_then_score(self):
        told = json.loads(
            self.saerl(
                "fit",
                "quality",
                "--features",
                "f.safetensors",
                "--labels",
                "sound.jsonl",
                "--data",
                DEMO / "tasks.jsonl",
                "-o",
                "q.probe.safetensors",
                "--json",
            ).stdout
        )
        self.assertEqual(told["n"], 500)
        for key in ("spearman", "r2", "mae", "length_spearman", "nonzero", "objective"):
            self.assertIsInstance(told[key], (int, float))
        self.saerl(
            "score",
            "--probe",
            "q.probe.safetensors",
            "--features",
            "f.safetensors",
            "-o",
            "scores.jsonl",
        )
        scores = read_jsonl(self.dir / "scores.jsonl")
        self.assertEqual([s["row"] for s in scores], list(range(2000)))
        self.assertTrue(all(math.isfinite(s["score"]) for s in scores))
        again = self.saerl(
            "score", "--probe", "q.probe.safetensors", "--features", "f.safetensors", "-o", "-"
        ).stdout
        self.assertEqual(again, (self.dir / "scores.jsonl").read_text())
        self.assertIn("probe", self.saerl("show", "q.probe.safetensors").stdout)
        self.refuses(
            "quality probe",
            "run",
            self.recipe("difficulty: {probe: %s}" % (self.dir / "q.probe.safetensors")),
            "-o",
            "out",
        )

    def recipe(self, more):
        path = self.dir / "recipe.yaml"
        path.write_text(
            "version: 1\ninput: {data: [%s], features: f.safetensors}\n%s\n"
            % (DEMO / "tasks.jsonl", more)
        )
        return path

    def test_fixed_penalty_is_not_searched(self):
        told = json.loads(
            self.saerl(
                "fit",
                "difficulty",
                "--features",
                "f.safetensors",
                "--labels",
                "hard.jsonl",
                "-o",
                "d.safetensors",
                "--raw",
                "--alpha",
                "0.01",
                "--l1-ratio",
                "0.7",
                "--json",
            ).stdout
        )
        self.assertEqual((told["alpha"], told["l1_ratio"]), (0.01, 0.7))

    def test_missing_columns_are_named(self):
        tensors, metadata = read_safetensors(self.dir / "f.safetensors")
        write_safetensors(
            self.dir / "own.safetensors",
            {
                "indptr": ("I64", [2001], tensors["indptr"]),
                "indices": ("U32", [len(tensors["indices"])], tensors["indices"]),
                "values": ("F32", [len(tensors["values"])], tensors["values"]),
            },
            {"format": "saerl.features", "version": "1", "d_sae": "1024"},
        )
        self.refuses(
            ["recon_m", "--extra"],
            "fit",
            "quality",
            "--features",
            "own.safetensors",
            "--labels",
            "hard.jsonl",
            "-o",
            "p",
        )
        self.refuses(
            ["tokens_used", "--extra"],
            "fit",
            "difficulty",
            "--features",
            "own.safetensors",
            "--labels",
            "hard.jsonl",
            "-o",
            "p",
        )
        self.saerl(
            "fit",
            "difficulty",
            "--features",
            "own.safetensors",
            "--labels",
            "hard.jsonl",
            "-o",
            "p",
            "--extra",
            "none",
        )

    def test_cluster(self):
        told = json.loads(
            self.saerl(
                "cluster",
                "--features",
                "f.safetensors",
                "-k",
                "14",
                "-o",
                "c.jsonl",
                "--restarts",
                "2",
                "--json",
            ).stdout
        )
        rows = read_jsonl(self.dir / "c.jsonl")
        self.assertEqual(len(rows), 2000)
        self.assertEqual(sum(told["sizes"]), 2000)
        for c, size in enumerate(told["sizes"]):
            self.assertEqual(sum(r["cluster"] == c for r in rows), size)
        first = []
        for r in rows:
            if r["cluster"] not in first:
                first.append(r["cluster"])
        self.assertEqual(first, list(range(14)))
        two = self.saerl(
            "cluster",
            "--features",
            "f.safetensors",
            "-k",
            "14",
            "-o",
            "d.jsonl",
            "--restarts",
            "2",
            "--json",
            "--threads",
            "2",
        ).stdout
        self.assertEqual(json.loads(two), told)
        streamed = self.saerl("cluster", "--features", "f.safetensors", "-k", "14", "-o", "-", "-q")
        self.assertEqual(len([json.loads(line) for line in streamed.stdout.splitlines()]), 2000)


class Bench(SaerlCase):
    """What does not depend on the machine's speed."""

    SMALL = ("--tokens", "70", "--d-in", "96", "--d-sae", "700", "-k", "9", "--repeats", "3")

    def test_encode_compares_all_ways_with_exact_codes(self):
        for activation in ("topk", "relu", "jumprelu", "gated"):
            for data in ("gaussian", "sae", "outliers"):
                told = json.loads(
                    self.saerl(
                        "bench",
                        "encode",
                        *self.SMALL,
                        "--activation",
                        activation,
                        "--data",
                        data,
                        "--threads",
                        "2",
                        "--json"
                    ).stdout
                )
                self.assertEqual(told["tokens"], 70)
                self.assertEqual(told["threads"], 2)
                names = [r["name"] for r in told["results"]]
                self.assertEqual(names[0], "sgemm, no selection")
                self.assertIn("f32 blas, exact", names)
                chosen = [r["precision"] for r in told["results"] if r.get("chosen")]
                self.assertIn(sorted(chosen), (["exact"], ["exact", "fast"]))
                for r in told["results"]:
                    self.assertGreater(r["median_seconds"], 0)
                    self.assertGreaterEqual(r["median_seconds"], r["min_seconds"])
                for r in told["results"][1:]:
                    self.assertGreater(r["codes"], 0)
                    if r["precision"] == "exact":
                        self.assertEqual((r["missing"], r["extra"]), (0, 0))

    def bench(self, subject, *args):
        """What holds for all subjects but encode: results by name."""
        told = json.loads(
            self.saerl("bench", subject, *args, "--repeats", "3", "--seed", "5", "--json").stdout
        )
        self.assertEqual((told["repeats"], told["seed"]), (3, 5))
        self.assertTrue(told["cpu"] and told["blas"])
        against = "speed_against_" + ("dense" if subject == "fit" else "sgemm")
        for r in told["results"]:
            self.assertGreater(r["min_seconds"], 0)
            self.assertGreaterEqual(r["median_seconds"], r["min_seconds"])
            self.assertGreater(r[against], 0)
        self.assertEqual(told["results"][0][against], 1)
        text = self.saerl("bench", subject, *args, "--repeats", "1").stdout
        for r in told["results"]:
            self.assertIn("\n%s " % r["name"], text)
        return told, {r["name"]: r for r in told["results"]}

    def test_cluster_finds_the_labels_of_the_dense_product(self):
        shape = ("-n", "200", "--d-sae", "700", "-L", "20", "-k", "6")
        for threads in (1, 2):
            told, results = self.bench("cluster", *shape, "--threads", str(threads))
            self.assertEqual(told["threads"], threads)
            sizes = [told[name] for name in ("rows", "d_sae", "l0", "k")]
            self.assertEqual(sizes, [200, 700, 20, 6])
            self.assertEqual(told["labels_off"], 0)
            self.assertEqual(
                list(results), ["sgemm, dense", "assignment", "k-means, start and all passes"]
            )
            whole = results["k-means, start and all passes"]
            self.assertGreaterEqual(whole["passes"], 1)
            self.assertAlmostEqual(
                whole["speed_of_a_pass"] / whole["speed_against_sgemm"], whole["passes"]
            )
        told, _ = self.bench("cluster", "-n", "1", "--d-sae", "1", "-L", "1", "-k", "1")
        self.assertEqual(told["k"], 1)

    def test_fit_predicts_as_the_dense_regression(self):
        for shape in (("-n", "60", "--d-sae", "300"), ("-n", "90", "--d-sae", "40")):
            told, results = self.bench("fit", *shape, "-L", "9", "--threads", "2")
            self.assertLess(told["ridge_difference"], 1e-9)
            self.assertEqual(
                [r["fits"] for r in told["results"]], [1, 1, 5 * (34 + 1) + 1, 5 * (50 + 1) + 1]
            )
            self.assertIn("elastic net, cross-validated", results)
        self.bench("fit", "-n", "2", "--d-sae", "1", "-L", "1")

    def test_e2e_goes_through_all_stages(self):
        told, results = self.bench(
            "e2e",
            *("--tokens", "325", "--sample-tokens", "2", "--d-in", "40", "--d-sae", "90"),
            *("-k", "5", "--threads", "2")
        )
        self.assertEqual((told["tokens"], told["samples"]), (325, 162))
        self.assertEqual((told["clusters"], told["batches"]), (2, 2))
        fits = ["fit quality, ridge", "fit difficulty, elastic net"]
        stages = ["encode and pool", "cluster", *fits, "score", "plan"]
        self.assertEqual(list(results), ["sgemm of the encoder", *stages, "all stages"])
        longest = max(results[s]["min_seconds"] for s in stages)
        self.assertGreaterEqual(results["all stages"]["min_seconds"], longest)
        self.bench(
            "e2e",
            *("--tokens", "2", "--sample-tokens", "1", "--d-in", "1", "--d-sae", "2", "-k", "1")
        )

    def test_help_tells_the_subjects(self):
        whole = self.saerl("bench", "--help").stdout
        for subject in ("encode", "cluster", "fit", "e2e"):
            self.assertIn("\n  %s " % subject, whole)
            told = self.saerl("bench", subject, "--help")
            self.assertTrue(told.stdout.startswith("usage: saerl bench %s " % subject))
            self.assertIn("--repeats N", told.stdout)
            self.assertLessEqual(max(map(len, told.stdout.splitlines())), 120)

    def test_refuses_what_makes_no_sense(self):
        self.refuses("unknown subject 'cooking'", "bench", "cooking")
        self.refuses("-n: 0, expected 1 to", "bench", "cluster", "-n", "0")
        self.refuses("-k: 9, expected 1 to 8", "bench", "cluster", "-n", "8", "-k", "9")
        self.refuses("-L: 9, expected 1 to 8", "bench", "cluster", "--d-sae", "8", "-L", "9")
        self.refuses("-n: 1, expected 2 to", "bench", "fit", "-n", "1")
        self.refuses("-L: 0, expected 1 to 8", "bench", "fit", "--d-sae", "8", "-L", "0")
        self.refuses("--repeats: 1001, expected 1 to 1000", "bench", "fit", "--repeats", "1001")
        self.refuses("--tokens: 1, expected 2 to", "bench", "e2e", "--tokens", "1")
        self.refuses(
            "--sample-tokens: 5, expected 1 to 4",
            *("bench", "e2e", "--tokens", "9", "--sample-tokens", "5")
        )
        self.refuses("-k: 8, expected 1 to 7", "bench", "e2e", "--d-sae", "8", "-k", "8")
        self.refuses("did you mean '--d-sae'?", "bench", "e2e", "--d-sea", "8")
        self.refuses("unexpected argument 'x'", "bench", "fit", "x")

    def test_refuses_sizes_beyond_the_memory(self):
        million, latents = str(1 << 20), str(1 << 22)
        for subject in (
            ("encode", "--tokens", million),
            ("cluster", "-n", million),
            ("fit", "-n", million),
            ("e2e", "--tokens", million),
        ):
            self.refuses(
                "bench %s: these sizes need" % subject[0], "bench", *subject, "--d-sae", latents
            )

    def test_encode_refuses_what_makes_no_sense(self):
        self.refuses("--tokens: 0, expected 1 to", "bench", "encode", "--tokens", "0")
        self.refuses("-k: 700, expected 1 to 699", "bench", "encode", "--d-sae", "700", "-k", "700")
        self.refuses("expected gaussian|sae|outliers", "bench", "encode", "--data", "cooked")


class Talk(SaerlCase):
    """Help, versions, usage errors, check."""

    VERBS = (
        "demo",
        "check",
        "run",
        "encode",
        "fit",
        "score",
        "cluster",
        "explain",
        "show",
        "labels",
        "bench",
    )

    def test_help_goes_to_stdout_and_fits(self):
        whole = self.saerl("--help")
        for verb in self.VERBS:
            self.assertIn("\n  %s " % verb, whole.stdout)
            done = self.saerl(verb, "--help")
            self.assertTrue(done.stdout.startswith("usage: saerl %s " % verb))
            self.assertEqual(done.stderr, "")
            self.assertLessEqual(max(map(len, done.stdout.splitlines())), 120)
        self.assertRegex(self.saerl("--version").stdout, r"^saerl \d+\.\d+\.\d+\n$")

    def test_usage_errors_suggest(self):
        self.refuses("did you mean 'cluster'?", "clutser")
        self.refuses("did you mean '--json'?", "show", "--jsno", "x")
        self.refuses("an argument is missing", "run")
        self.refuses("unexpected argument 'b'", "check", "a", "b")
        self.refuses("--alpha", "fit", "quality", "--alpha", "much")
        self.refuses("expected key=value", "run", "r", "--set", "novalue")
        self.refuses("--features is missing", "cluster", "-k", "3", "-o", "x")
        self.refuses("expected quality or difficulty", "fit", "size")

    def test_recipe_errors_point_at_the_place(self):
        self.write_world(3, recipe="sae2: {}\n")
        self.refuses(
            ["recipe.yaml:4:1", "unknown key 'sae2'", "did you mean 'sae'?"], "check", "recipe.yaml"
        )
        self.write_recipe("clustering: {clusters: 0}\n")
        self.refuses(
            ["recipe.yaml:4:24: clustering.clusters: 0 is below the minimum, 1"],
            "check",
            "recipe.yaml",
        )
        self.write_recipe()
        self.refuses(["batches.size", "expected"], "run", "recipe.yaml", "--set", "batches.size=x")
        self.refuses(["SAERL_BATCHES_SIZE"], "run", "recipe.yaml", env={"SAERL_BATCHES_SIZE": "x"})
        self.refuses("nothere.yaml", "run", "nothere.yaml")

    def test_precedence(self):
        self.write_world(8, recipe="seed: 1\nbatches: {size: 2}\n")
        self.saerl(
            "run",
            "recipe.yaml",
            "-o",
            "out",
            "--set",
            "batches.size=4",
            env={"SAERL_BATCHES_SIZE": "3", "SAERL_SEED": "9"},
        )
        lock = (self.dir / "out" / "recipe.lock.yaml").read_text()
        self.assertRegex(lock, r"\n *size: 4\n")
        self.assertRegex(lock, r"\nseed: 9\n")

    def test_check_and_dry_run_write_nothing(self):
        self.write_world(3)
        before = sorted(p.name for p in self.dir.iterdir())
        told = json.loads(self.saerl("check", "recipe.yaml", "--json").stdout)
        self.assertTrue(told["ok"])
        self.assertEqual(told["data"]["rows"], 3)
        self.assertEqual(told["activations"]["samples"], 3)
        self.assertEqual(told["sae"]["d_in"], 8)
        self.saerl("run", "recipe.yaml", "--dry-run", "-o", "out")
        self.assertEqual(sorted(p.name for p in self.dir.iterdir()), before)
        write_jsonl(self.dir / "data.jsonl", [{"prompt": "x"}] * 2)
        self.refuses(["3 samples", "2 rows"], "check", "recipe.yaml", code=1)

    def test_memory_is_kept_to(self):
        self.write_world(3)
        for verb in ("check", "run"):
            self.refuses(
                ["bytes of memory", "resources.memory allows 1000"],
                verb,
                "recipe.yaml",
                "--set",
                "resources.memory=1000",
                code=1,
            )
        self.saerl("run", "recipe.yaml", "-o", "out", "--set", "resources.memory=1000000000")

    def test_json_log(self):
        self.write_world(3)
        done = self.saerl("--log-format", "json", "run", "recipe.yaml", "-o", "out", "--json")
        for line in done.stderr.splitlines():
            self.assertIn("event", json.loads(line))
        self.assertEqual(json.loads(done.stdout)["rows"], 3)
        for line in (self.dir / "out" / "log.jsonl").read_text().splitlines():
            self.assertIn("message", json.loads(line))


if __name__ == "__main__":
    unittest.main()
