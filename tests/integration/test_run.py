"""`saerl run` from end to end: outputs, repeatability, resume, defined results at the edges."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import unittest

from saerl_case import (
    DEMO,
    PROGRAM,
    SOURCE,
    VOLATILE,
    SaerlCase,
    folder_bytes,
    read_jsonl,
    read_safetensors,
    write_jsonl,
    write_safetensors,
)

RUN_FILES = {
    "kept.jsonl",
    "batches.jsonl",
    "scores.jsonl",
    "dropped.jsonl",
    "ids/kept.txt",
    "ids/dropped.txt",
    "report.json",
    "recipe.lock.yaml",
    "features.safetensors",
}


class Demo(SaerlCase):
    """The bundled pool; slow parts share one run."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        import pathlib
        import shutil
        import tempfile

        cls.home = pathlib.Path(tempfile.mkdtemp(prefix="saerl-demo-"))
        cls.addClassCleanup(shutil.rmtree, cls.home, ignore_errors=True)
        done = subprocess.run(
            [PROGRAM, "demo", str(cls.home / "demo")], capture_output=True, text=True, timeout=300
        )
        cls.demo_code, cls.demo_out, cls.demo_err = done.returncode, done.stdout, done.stderr
        cls.out = cls.home / "demo" / "out"

    def test_writes_every_file(self):
        self.assertEqual(self.demo_code, 0, self.demo_err)
        self.assertLessEqual(RUN_FILES | {"quality.probe.safetensors"}, set(folder_bytes(self.out)))
        for name in VOLATILE:
            self.assertTrue((self.out / name).is_file())
        self.assertFalse((self.home / "demo" / "out.partial").exists())
        self.assertFalse((self.home / "demo" / "out.partial.lock").exists())
        self.assertEqual(
            folder_bytes(self.home / "demo")["tasks.jsonl"], (DEMO / "tasks.jsonl").read_bytes()
        )

    def test_figures_are_those_of_the_method(self):
        auc = float(re.search(r"AUC (0\.\d+); of", self.demo_out).group(1))
        rho = float(
            re.search(r"ranks held-out rewards with Spearman (0\.\d+)", self.demo_out).group(1)
        )
        nmi = float(re.search(r"with NMI (0\.\d+)", self.demo_out).group(1))
        self.assertGreaterEqual(auc, 0.73)
        self.assertGreaterEqual(rho, 0.48)
        self.assertGreaterEqual(nmi, 0.55)

    def test_files_agree_with_each_other(self):
        rows = (self.home / "demo" / "tasks.jsonl").read_bytes().splitlines(keepends=True)
        scores = read_jsonl(self.out / "scores.jsonl")
        dropped = read_jsonl(self.out / "dropped.jsonl")
        batches = read_jsonl(self.out / "batches.jsonl")
        order = [row for batch in batches for row in batch["rows"]]
        self.assertEqual([s["row"] for s in scores], list(range(len(rows))))
        self.assertEqual(sorted(order), [s["row"] for s in scores if s["kept"]])
        self.assertEqual(
            b"".join(rows[row] for row in order), (self.out / "kept.jsonl").read_bytes()
        )
        self.assertEqual([d["row"] for d in dropped], [s["row"] for s in scores if not s["kept"]])
        self.assertEqual(
            (self.out / "ids/kept.txt").read_text().split(), [scores[row]["id"] for row in order]
        )
        self.assertEqual(
            (self.out / "ids/dropped.txt").read_text().split(), [d["id"] for d in dropped]
        )
        for b, batch in enumerate(batches):
            self.assertEqual(batch["batch"], b)
            self.assertEqual(batch["ids"], [scores[row]["id"] for row in batch["rows"]])
            for row in batch["rows"]:
                self.assertEqual(scores[row]["batch"], b)
                self.assertEqual(scores[row]["position"], order.index(row))
        for s in scores:
            self.assertEqual(s["difficulty"] * 2**24 % 1, 0)
            self.assertIsNotNone(s["quality"])
        tensors, metadata = read_safetensors(self.out / "features.safetensors")
        self.assertEqual(metadata["format"], "saerl.features")
        self.assertEqual(tensors["keys"], tuple(int(s["key"], 16) for s in scores))
        manifest = json.loads((self.out / "manifest.json").read_text())
        self.assertEqual(manifest["counts"]["kept"], len(order))
        report = json.loads((self.out / "report.json").read_text())
        self.assertEqual(sum(stage["dropped"] for stage in report["funnel"]), len(dropped))

    def test_plan_is_recomputed_independently(self):
        check = SOURCE / "tests" / "integration" / "check_plan.py"
        done = subprocess.run(
            [sys.executable, check, self.out], capture_output=True, text=True, timeout=300
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_same_bytes_at_any_thread_count_and_from_the_lock(self):
        first = folder_bytes(self.out)
        recipe = self.home / "demo" / "recipe.yaml"
        for threads in (1, 3):
            self.saerl("run", recipe, "-o", self.dir / str(threads), "--threads", threads)
            self.assertEqual(first, folder_bytes(self.dir / str(threads)))
        self.saerl("run", self.out / "recipe.lock.yaml", "-o", self.dir / "again")
        self.assertEqual(first, folder_bytes(self.dir / "again"))

    def test_finished_folder_is_left_as_it_is(self):
        recipe = self.home / "demo" / "recipe.yaml"
        before = os.stat(self.out / "manifest.json").st_mtime_ns
        done = self.saerl("run", recipe, "-o", self.out)
        self.assertIn("finished already", done.stdout)
        self.assertEqual(os.stat(self.out / "manifest.json").st_mtime_ns, before)
        self.refuses(
            ["other inputs or another recipe", "--fresh"],
            "run",
            recipe,
            "-o",
            self.out,
            "--seed",
            7,
            code=5,
        )

    def test_explain_tells_the_life_of_a_sample(self):
        scores = read_jsonl(self.out / "scores.jsonl")
        for sample in (
            next(s for s in scores if s["kept"]),
            next(s for s in scores if not s["kept"]),
        ):
            told = json.loads(self.saerl("explain", self.out, sample["id"], "--json").stdout)
            for key in (
                "row",
                "id",
                "kept",
                "quality",
                "difficulty",
                "cluster",
                "batch",
                "position",
            ):
                self.assertEqual(told[key], sample[key])
            self.assertEqual(told["dropped"] is None, sample["kept"])
            self.assertEqual(len(told["neighbours"]), 5)
            words = self.saerl("explain", self.out, sample["id"]).stdout
            self.assertIn(sample["id"], words)
            if sample["kept"]:
                self.assertIsNone(told["why"])
                self.assertNotIn("  why", words)
            else:
                self.assertIn("  why         " + told["why"] + "\n", words)
                self.assertNotIn("{", words)
        duplicate = next(s for s in scores if s["reason"] == "duplicate")
        told = json.loads(self.saerl("explain", self.out, duplicate["id"], "--json").stdout)
        self.assertEqual(told["why"], f"the same prompt as row {told['dropped']['partner']}")
        low = next(s for s in scores if s["reason"] == "low_quality")
        told = json.loads(self.saerl("explain", self.out, low["id"], "--json").stdout)
        self.assertRegex(told["why"], r"^quality \d\.\d+ is below the threshold, \d\.\d+$")
        self.refuses("no sample with id 'nobody'", "explain", self.out, "nobody")
        self.refuses("not a finished run", "explain", self.dir, "x", code=1)

    def kill_when(self, path, signal_number, out):
        """Start a run and send the signal once `path` exists."""
        process = subprocess.Popen(
            [
                PROGRAM,
                "run",
                self.home / "demo" / "recipe.yaml",
                "-o",
                out,
                "--set",
                "clustering.restarts=60",
                "--threads",
                "1",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 120
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        self.assertIsNone(process.poll(), "the run ended before it could be interrupted")
        process.send_signal(signal_number)
        _, words = process.communicate(timeout=120)
        return process.returncode, words

    def test_resume_repeats_no_finished_stage(self):
        recipe = self.home / "demo" / "recipe.yaml"
        settings = ("--set", "clustering.restarts=60")
        self.saerl("run", recipe, "-o", self.dir / "whole", *settings)
        for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
            out = self.dir / ("killed-%d" % number)
            stage = self.dir / (out.name + ".partial") / ".stages" / "mark-encode"
            got, words = self.kill_when(stage, number, out)
            self.assertEqual(got, code)
            self.assertFalse(out.exists())
            if number != signal.SIGKILL:
                self.assertIn("run the same command again", words)
            self.refuses("interrupted run of other inputs", "run", recipe, "-o", out, code=5)
            self.saerl("run", recipe, "-o", out, *settings)
            times = json.loads((out / "manifest.json").read_text())["times"]
            self.assertTrue(next(t for t in times if t["stage"] == "encode")["resumed"])
            self.assertEqual(folder_bytes(self.dir / "whole"), folder_bytes(out))


class Edges(SaerlCase):
    """Defined results where there is hardly any data."""

    def run_world(self, *more, code=0):
        return self.saerl("run", "recipe.yaml", "-o", "out", *more, code=code)

    def scores(self):
        return read_jsonl(self.dir / "out" / "scores.jsonl")

    def test_one_row(self):
        self.write_world(1)
        self.run_world()
        self.assertEqual(
            [(s["kept"], s["cluster"], s["batch"], s["position"]) for s in self.scores()],
            [(True, 0, 0, 0)],
        )

    def test_fewer_rows_than_a_batch(self):
        self.write_world(5)
        self.run_world("--set", "batches.size=64")
        batches = read_jsonl(self.dir / "out" / "batches.jsonl")
        self.assertEqual([sorted(b["rows"]) for b in batches], [[0, 1, 2, 3, 4]])
        self.refuses(
            "batch", "run", "recipe.yaml", "-o", "none", "--set", "batches.drop_last=true", code=1
        )
        self.assertFalse((self.dir / "none").exists())

    def test_all_duplicates(self):
        self.write_world(6, rows=[{"prompt": "same", "answer": i % 2} for i in range(6)])
        self.run_world("--set", "input.fields.answer=answer")
        scores = self.scores()
        self.assertEqual([s["kept"] for s in scores], [True] + [False] * 5)
        dropped = read_jsonl(self.dir / "out" / "dropped.jsonl")
        self.assertEqual({(d["reason"], d["partner"]) for d in dropped}, {("duplicate", 0)})
        self.assertEqual({tuple(s["flags"]) for s in scores}, {("conflicting_answer",)})
        self.saerl(
            "run",
            "recipe.yaml",
            "-o",
            "both",
            "--set",
            "input.fields.answer=answer",
            "--set",
            "dedup.exact.on=prompt+answer",
        )
        kept = [s["row"] for s in read_jsonl(self.dir / "both" / "scores.jsonl") if s["kept"]]
        self.assertEqual(kept, [0, 1])

    def test_equal_vectors_are_one_cluster(self):
        self.write_world(4, values=[1.0] * (4 * 2 * 8))
        self.run_world("--set", "clustering.clusters=3")
        self.assertEqual([s["cluster"] for s in self.scores()], [0, 0, 0, 0])

    def test_constant_labels(self):
        rows = [{"id": i, "prompt": "p%d" % i, "q": 1, "d": 0.5} for i in range(40)]
        self.write_world(40, rows=rows)
        settings = [
            "--set",
            "input.fields.quality=q",
            "--set",
            "quality.fit_labels=field",
            "--set",
            "input.fields.difficulty=d",
            "--set",
            "difficulty.fit_labels=field",
        ]
        self.refuses(
            ["difficulty proxy refused", "difficulty.force: true", "batches.order: random"],
            "run",
            "recipe.yaml",
            "-o",
            "out",
            *settings,
            code=1
        )
        self.run_world(*settings, "--set", "difficulty.force=true")
        self.assertEqual({s["difficulty"] for s in self.scores()}, {0.5})

    def test_rejected_samples_are_named(self):
        values = [1.0 + (i % 5) for i in range(6 * 2 * 8)]
        values[1 * 16 + 3] = math.nan
        values[2 * 16 + 3] = math.inf
        values[3 * 16 : 3 * 16 + 8] = [0.0] * 8
        self.write_world(6, values=values)
        self.run_world()
        self.assertEqual(
            [s["reason"] for s in self.scores()],
            [None, "nonfinite", "nonfinite", "zero_activation", None, None],
        )
        tensors, _ = read_safetensors(self.dir / "out" / "features.safetensors")
        self.assertEqual(tensors["tokens_used"][1:4], (0, 0, 0))
        self.assertEqual([s["quality"] for s in self.scores()], [None] * 6)
        for row, why in (1, "NaN or infinity"), (3, "all zero"):
            words = self.saerl("explain", self.dir / "out", f"row:{row}").stdout
            self.assertIn(why, words)
            self.assertIn("\n  neighbours  none\n", words)

    def test_a_run_ends_with_what_it_took_and_where_to_look(self):
        self.write_world(6)
        words = self.run_world().stdout
        self.assertRegex(words, r"\ntook {10}\d+\.\d s, \d+ MB of memory at the peak\n")
        self.assertRegex(words, r"\nreport {8}out/report\.html\n")
        self.assertRegex(words, r"\nrepeat {8}saerl run out/recipe\.lock\.yaml -o DIR\n$")
        again = self.run_world().stdout
        self.assertIn("finished already", again)
        self.assertNotIn("\ntook ", again)
        self.saerl("run", self.dir / "out/recipe.lock.yaml", "-o", self.dir / "again")
        for name in "report.json", "report.html", "kept.jsonl", "batches.jsonl":
            self.assertEqual(
                (self.dir / "again" / name).read_bytes(), (self.dir / "out" / name).read_bytes()
            )

    def test_no_difficulty_is_said_aloud(self):
        self.write_world(6)
        done = self.run_world()
        self.assertIn("batches are in row order", done.stderr)
        self.assertEqual(
            json.loads((self.dir / "out/report.json").read_text())["plan"]["order"], "none"
        )

    def test_limit_is_in_the_lock(self):
        self.write_world(9)
        self.run_world("--limit", 4)
        self.assertEqual(len(self.scores()), 4)
        self.saerl("run", "out/recipe.lock.yaml", "-o", "again")
        self.assertEqual(folder_bytes(self.dir / "out"), folder_bytes(self.dir / "again"))

    def test_malformed_rows(self):
        self.write_world(4)
        path = self.dir / "data.jsonl"
        lines = path.read_text().splitlines()
        lines[2] = '{"id":2,"prompt":'
        path.write_text("\n".join(lines) + "\n")
        self.refuses(
            ["data.jsonl:3: row 2", "on_error.max_bad"], "run", "recipe.yaml", "-o", "out", code=3
        )
        self.assertFalse((self.dir / "out").exists())
        self.assertFalse((self.dir / "out.partial").exists())
        self.run_world("--set", "on_error.max_bad=1", "--set", "on_error.action=quarantine")
        self.assertEqual((self.dir / "out/quarantine.jsonl").read_text(), lines[2] + "\n")
        self.assertEqual(self.scores()[2]["reason"], "malformed")
        self.assertEqual([s["kept"] for s in self.scores()], [True, True, False, True])
        # It has no id to be called by.
        told = self.saerl("explain", "out", "row:2").stdout
        self.assertTrue(told.startswith("row 2: left out\n"), told)
        self.assertIn("why         malformed row: ", told)

    def test_a_flag_is_not_the_reason_of_a_later_drop(self):
        """A row flagged for benchmark overlap has no tokens: nothing was compared for that drop."""
        leaked = "a leaked item that is long enough to be found by its words in any order now"
        values = [1.0, 2, 3, 4, 5, 6, 7, 8] * 6 + [0.0] * 16
        self.write_world(4, rows=[{"prompt": p} for p in ("a", "b", "c", leaked)], values=values)
        write_jsonl(self.dir / "bench.jsonl", [{"question": leaked}])
        self.run_world(
            "--set",
            "decontaminate.against=[bench.jsonl]",
            "--set",
            "decontaminate.action=flag",
        )
        (dropped,) = read_jsonl(self.dir / "out" / "dropped.jsonl")
        self.assertEqual((dropped["row"], dropped["reason"]), (3, "zero_activation"))
        self.assertEqual(
            (dropped["value"], dropped["threshold"], dropped["partner"]), (None, None, None)
        )

    def test_json_of_a_finished_run_is_its_report(self):
        self.write_world(6)
        first = self.run_world("--json").stdout
        self.assertEqual(first, (self.dir / "out" / "report.json").read_text())
        self.assertEqual(self.run_world("--json").stdout, first)

    def test_a_file_named_like_a_glob(self):
        self.write_world(3)
        os.rename(self.dir / "data.jsonl", self.dir / "data[1].jsonl")
        self.run_world("--set", "input.data=['data[1].jsonl']")
        self.assertEqual(len(self.scores()), 3)

    def test_result_does_not_depend_on_places_or_threads(self):
        self.write_world(9)
        self.run_world()
        self.run_world("--set", "resources.threads=1")
        moved = self.dir / "moved"
        moved.mkdir()
        for name in ("data.jsonl", "acts.safetensors", "sae", "recipe.yaml", "out"):
            (self.dir / name).rename(moved / name)
        done = self.saerl("run", moved / "recipe.yaml", "-o", moved / "out")
        self.assertIn("finished already", done.stdout)

    def test_flags_stand_side_by_side(self):
        rows = [{"prompt": "item number %d" % i, "q": i % 2} for i in range(20)]
        self.write_world(20, rows=rows)
        write_jsonl(self.dir / "bench.jsonl", [{"text": rows[3]["prompt"]}])
        self.run_world(
            "--set",
            "decontaminate.against=[bench.jsonl]",
            "--set",
            "decontaminate.action=flag",
            "--set",
            "quality.probe=recon",
            "--set",
            "quality.action=flag",
            "--set",
            "quality.keep_top=0",
            "--set",
            "quality.max_drop_per_cluster=1",
        )
        self.assertEqual(self.scores()[3]["flags"], ["contaminated", "low_quality"])
        self.assertTrue(all(s["kept"] for s in self.scores()))
        reasons = [s["reason"] for s in self.scores()]
        self.assertEqual(reasons, ["contaminated" if i == 3 else "low_quality" for i in range(20)])

    def test_folders_of_others_survive(self):
        self.write_world(4)
        (self.dir / "g.partial").mkdir()
        (self.dir / "g.partial" / "mine").write_text("precious")
        for more in ((), ("--fresh",)):
            self.refuses("not ours", "run", "recipe.yaml", "-o", "g", *more, code=5)
        self.assertEqual((self.dir / "g.partial" / "mine").read_text(), "precious")
        (self.dir / "target").write_text("precious")
        (self.dir / "h.partial.lock").symlink_to("target")
        self.refuses("h.partial.lock", "run", "recipe.yaml", "-o", "h", code=1)
        self.assertEqual((self.dir / "target").read_text(), "precious")
        (self.dir / "real").mkdir()
        (self.dir / "link").symlink_to("real")
        self.saerl("run", "recipe.yaml", "-o", "link")
        self.assertTrue((self.dir / "real" / "kept.jsonl").is_file())

    def test_a_sign_makes_another_problem(self):
        rows = [
            {"prompt": p}
            for p in (
                "What is x if x + 3 = 10 ?",
                "What is x if x - 3 = 10 ?",
                "Compute 1.5 * 2",
                "Compute 1 5 / 2",
            )
        ]
        self.write_world(4, rows=rows)
        self.run_world("--set", "dedup.near.enabled=true")
        self.assertTrue(all(s["kept"] for s in self.scores()))

    def test_weak_probes_are_said_aloud(self):
        rows = [
            {"prompt": "p%d" % i, "q": (i * 7919) % 2, "d": (i * 104729 % 97) / 97}
            for i in range(60)
        ]
        self.write_world(60, rows=rows)
        done = self.run_world(
            "--set",
            "input.fields.quality=q",
            "--set",
            "quality.fit_labels=field",
            "--set",
            "input.fields.difficulty=d",
            "--set",
            "difficulty.fit_labels=field",
            "--set",
            "controls.permute_features=true",
            "--set",
            "batches.order=random",
            "--set",
            "difficulty.window=[0,0.5]",
            "--set",
            "input.fields.answer=nope",
        )
        self.assertIn("difficulty.window goes by it all the same", done.stderr)
        self.assertIn("input.fields.answer: no row has 'nope'", done.stderr)

    def test_pooled_vectors_meet_no_probe_of_tokens_unasked(self):
        rows = [{"prompt": "p%d" % i, "q": i % 3 / 2} for i in range(60)]
        fit = ["--set", "input.fields.quality=q", "--set", "quality.fit_labels=field"]
        self.write_world(60, rows=rows)
        self.run_world(*fit, "--set", "sae.input=tokens")
        (probe,) = (self.dir / "out").rglob("quality.probe.safetensors")
        self.assertEqual(read_safetensors(probe)[1]["input"], "tokens")
        values = [((i * 37 + j * 11) % 19 - 6) / 4 for i in range(60) for j in range(8)]
        write_safetensors(self.dir / "acts.safetensors", {"activations": ("F32", [60, 8], values)})
        apply = ["recipe.yaml", "--set", "quality.probe=%s" % probe]
        tokens = ["--set", "sae.input=tokens"]
        self.refuses("'%s'" % (self.dir / "acts.safetensors"), "run", "-o", "new", *apply, *tokens)
        for verb in (["check"], ["run", "-o", "pooled"]):
            self.refuses(["quality.probe", "of tokens", "sae.input: pooled"], *verb, *apply)
            self.refuses("one vector a sample, sae.input: tokens", *verb, *apply, *tokens)
            self.saerl(*verb, *apply, "--set", "sae.input=pooled")
        # Where nothing was fitted on tokens they are as good as any, and a probe says what it saw.
        self.saerl("run", "recipe.yaml", "-o", "own", *fit)
        (own,) = (self.dir / "own").rglob("quality.probe.safetensors")
        self.assertEqual(read_safetensors(own)[1]["input"], "pooled")
        for name, setting in (("f", []), ("g", tokens)):
            args = ["--set", "input.activations=[]", "--set", "sae.path=null"]
            args += ["--set", "input.features=own/features.safetensors", *setting]
            if setting:
                self.refuses("sae.input: tokens", "run", "recipe.yaml", "-o", name, *args)
            else:
                self.saerl("run", "recipe.yaml", "-o", name, *args)

    TEXT = (
        "version: 1\n"
        "input: {data: [data.jsonl], fields: {difficulty: hard}}\n"
        "decontaminate: {against: [bench.jsonl]}\n"
        "batches: {size: 2, grouping: none, order: none}\n"
    )

    def text_world(self):
        """Row 2 is row 0 again, row 3 is in the benchmark."""
        leaked = "a leaked item that is long enough to be found by its words in any order now"
        prompts = ["first", "second", "first", leaked, "third", "fourth"]
        write_jsonl(
            self.dir / "data.jsonl",
            [{"id": i, "prompt": p, "hard": 1 - i / 10} for i, p in enumerate(prompts)],
        )
        write_jsonl(self.dir / "bench.jsonl", [{"question": leaked}])
        (self.dir / "recipe.yaml").write_text(self.TEXT)

    def test_text_alone(self):
        self.text_world()
        self.assertIn("vectors      none", self.saerl("check", "recipe.yaml").stdout)
        self.run_world()
        files = folder_bytes(self.dir / "out")
        self.assertLessEqual(RUN_FILES - {"features.safetensors"}, set(files))
        self.assertNotIn("features.safetensors", files)
        self.assertEqual(
            [b["rows"] for b in read_jsonl(self.dir / "out" / "batches.jsonl")], [[0, 1], [4, 5]]
        )
        for score in self.scores():
            self.assertEqual(
                [score[k] for k in ("quality", "difficulty", "cluster")], [None, None, None]
            )
        dropped = {d["row"]: d for d in read_jsonl(self.dir / "out" / "dropped.jsonl")}
        self.assertEqual(
            {row: d["reason"] for row, d in dropped.items()}, {2: "duplicate", 3: "contaminated"}
        )
        told = self.saerl("explain", "out", "2").stdout
        self.assertIn("the same prompt as row 0", told)
        self.assertIn("text and labels only", told)
        self.saerl("run", "out/recipe.lock.yaml", "-o", "again", "--threads", "1")
        again = folder_bytes(self.dir / "again")
        for name in set(files) - VOLATILE:
            self.assertEqual(files[name], again[name], name)

    def test_text_alone_by_a_difficulty_of_its_own(self):
        self.text_world()
        by_label = ["--set", "controls.difficulty=label", "--set", "batches.order=easy_to_hard"]
        self.run_world(*by_label)
        self.assertEqual(
            [b["rows"] for b in read_jsonl(self.dir / "out" / "batches.jsonl")], [[5, 4], [1, 0]]
        )

    def test_what_needs_vectors_is_refused_on_text_alone(self):
        """Never skipped: activations may only have been forgotten."""
        self.text_world()
        for setting in (
            "sae.path=sae",
            "sae.labels=labels.jsonl",
            "dedup.sae.enabled=true",
            "quality.probe=recon",
            "quality.fit_labels=field",
            "difficulty.probe=probe.safetensors",
            "difficulty.fit_labels=field",
            "difficulty.window=[0, 0.5]",
            "clustering.clusters=3",
            "controls.permute_features=true",
            "controls.difficulty=length",
            "batches.grouping=cluster",
            "batches.grouping=spread",
            "batches.order=easy_to_hard",
            "batches.order=hard_to_easy",
        ):
            done = self.saerl("run", "recipe.yaml", "-o", "out", "--set", setting, code=2)
            self.assertIn("input.activations: missing", done.stderr)
            self.assertIn(setting.split("=")[0], done.stderr)
        done = self.saerl("serve", "recipe.yaml", "--state", "state", code=2)
        self.assertIn("input.activations: missing", done.stderr)
        self.assertFalse((self.dir / "out").exists())

    def test_sidelined_stages(self):
        """Near duplicates, benchmark overlap and SAE duplicates, each with reason and partner."""
        words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
        rows = [
            {"prompt": words},
            {"prompt": words + " fifteen"},
            {"prompt": "alpha beta gamma"},
            {
                "prompt": "a leaked item that is long enough to be found by its words in any order now"
            },
            {"prompt": "delta"},
            {"prompt": "epsilon"},
        ]
        self.write_world(6, rows=rows)
        write_jsonl(
            self.dir / "bench.jsonl", [{"question": "unrelated"}, {"question": rows[3]["prompt"]}]
        )
        self.run_world(
            "--set",
            "dedup.near.enabled=true",
            "--set",
            "dedup.near.jaccard=0.7",
            "--set",
            "decontaminate.against=[bench.jsonl]",
        )
        dropped = {d["row"]: d for d in read_jsonl(self.dir / "out" / "dropped.jsonl")}
        self.assertEqual(set(dropped), {1, 3})
        self.assertEqual((dropped[1]["reason"], dropped[1]["partner"]), ("near_duplicate", 0))
        self.assertAlmostEqual(dropped[1]["value"], 10 / 11)
        self.assertEqual(dropped[3]["reason"], "contaminated")
        self.assertIn("bench.jsonl", dropped[3]["partner"])

        self.write_world(
            4, values=([1.0, 2, 3, 4, 5, 6, 7, 8] * 2) * 2 + [3.0, -1, 2, 0, 1, 1, 4, 2] * 4
        )
        self.saerl("run", "recipe.yaml", "-o", "nearby", "--set", "dedup.sae.enabled=true")
        dropped = {d["row"]: d for d in read_jsonl(self.dir / "nearby" / "dropped.jsonl")}
        self.assertEqual(
            {row: (d["reason"], d["partner"]) for row, d in dropped.items()},
            {1: ("sae_duplicate", 0), 3: ("sae_duplicate", 2)},
        )


if __name__ == "__main__":
    unittest.main()
