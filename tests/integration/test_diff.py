"""`saerl diff A B` and `saerl audit --baseline`: two finished folders, side by side."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from planted import Pool  # noqa: E402
from saerl_case import SaerlCase, read_jsonl, write_jsonl  # noqa: E402


class Diff(SaerlCase):
    N = 40

    def rows(self):
        return [
            {"id": "s%d" % i, "prompt": "what is %d plus %d" % (i, i * i), "source": "ab"[i % 2]}
            for i in range(self.N)
        ]

    def run_over(self, rows, out, *more, fields="id: id, prompt: prompt, source: source"):
        self.write_world(len(rows), rows=rows)
        self.write_recipe(
            "batches: {size: 8}\nclustering: {clusters: 3}\noutput: {samples_in_report: 2}\n"
        )
        recipe = (self.dir / "recipe.yaml").read_text()
        (self.dir / "recipe.yaml").write_text(
            recipe.replace("acts.safetensors]}", "acts.safetensors], fields: {%s}}" % fields)
        )
        self.saerl("run", "recipe.yaml", "-o", out, *more)

    def kept(self, out):
        return {row["id"] for row in read_jsonl(self.dir / out / "scores.jsonl") if row["kept"]}

    def diff(self, a="a", b="b", *more, **options):
        return self.saerl("diff", a, b, *more, **options).stdout

    def test_equal_folders_say_so_in_one_line(self):
        self.run_over(self.rows(), "a")
        self.run_over(self.rows(), "b", "--threads", "1")
        self.assertEqual(self.diff(), "equal: a and b\n")
        told = json.loads(self.diff("a", "b", "--json"))
        self.assertTrue(told["equal_reports"])
        self.assertEqual(told["findings"], [])
        self.assertEqual(told["latents"], [])
        self.assertEqual({d["psi"] for d in told["distributions"]}, {0})
        self.assertEqual(
            told["changed"], {"gained": 0, "lost": 0, "entered": 0, "left": 0, "samples": []}
        )

    def test_what_the_numbers_do_not_show_is_said_to_be_there(self):
        self.run_over(self.rows(), "a")
        self.run_over(self.rows(), "b", "--set", "dedup.near.jaccard=0.9")
        self.assertRegex(self.diff(), r"^equal in verdict, .*: a and b\n$")

    def test_samples_that_changed_side_have_their_reason(self):
        rows = self.rows()
        rows[9]["prompt"] = rows[3]["prompt"]
        self.run_over(rows, "a")
        rows = self.rows()
        rows[8]["prompt"] = rows[2]["prompt"]
        rows[30] = {"id": "new", "prompt": "something else", "source": "a"}
        self.run_over(rows, "b")
        words = self.diff()
        self.assertIn('"s8" (row 8 of B): kept -> left out, exact duplicate', words)
        self.assertIn('"s9" (row 9 of B): left out, exact duplicate -> kept', words)
        self.assertIn('1 entered: only in B\n    "new" (row 30 of B): kept', words)
        self.assertIn('1 left: only in A\n    "s30" (row 30 of A): kept', words)
        told = json.loads(self.diff("a", "b", "--json"))["changed"]
        by_change = {}
        for sample in told["samples"]:
            by_change.setdefault(sample["change"], set()).add(sample["id"])
        both = {"s%d" % i for i in range(self.N) if i != 30}
        self.assertEqual(by_change["gained"], (self.kept("b") - self.kept("a")) & both)
        self.assertEqual(by_change["lost"], (self.kept("a") - self.kept("b")) & both)
        self.assertEqual(by_change["entered"], {"new"})
        self.assertEqual(by_change["left"], {"s30"})
        self.assertEqual([told[c] for c in ("gained", "lost", "entered", "left")], [1] * 4)
        self.assertEqual(
            [s["after"] for s in told["samples"] if s["change"] == "lost"],
            [{"row": 8, "kept": False, "reason": "duplicate"}],
        )
        # The other way round gained is lost.
        back = json.loads(self.diff("b", "a", "--json"))["changed"]
        self.assertEqual(
            {s["id"] for s in back["samples"] if s["change"] == "lost"}, by_change["gained"]
        )

    def test_a_long_list_is_cut_for_people_only(self):
        self.run_over(self.rows(), "a")
        self.run_over(self.rows()[:20], "b")
        words = self.diff()
        self.assertIn("20 left: only in A", words)
        self.assertIn("and 10 more, which --json lists", words)
        self.assertEqual(words.count(" of A): kept"), 10)
        told = json.loads(self.diff("a", "b", "--json"))
        self.assertEqual(len(told["changed"]["samples"]), 20)
        self.assertEqual((told["before"]["rows"], told["after"]["rows"]), (40, 20))

    def test_without_ids_prompts_tell_samples_apart(self):
        fields = "id: null, prompt: prompt"
        rows = self.rows()
        self.run_over(rows, "a", fields=fields)
        self.run_over(rows[1:] + rows[:1], "b", fields=fields)
        told = json.loads(self.diff("a", "b", "--json"))["changed"]
        self.assertEqual(told["samples"], [])
        # And where one side has ids.
        self.run_over(rows[:30], "c")
        told = json.loads(self.diff("a", "c", "--json"))["changed"]
        self.assertEqual([told[c] for c in ("gained", "lost", "entered", "left")], [0, 0, 0, 10])

    def test_sources_and_lengths_that_moved_are_listed(self):
        self.run_over(self.rows(), "a")
        rows = self.rows()
        for row in rows:
            row["source"] = "c"
            row["prompt"] += " and then some more words, please, and be quick about it"
        self.run_over(rows, "b")
        words = self.diff()
        self.assertRegex(words, r"words +\d[\d.]*  another population")
        self.assertIn("0.00 % -> 100.00 %  c\n", words)
        self.assertIn("sources, by share of the rows (divergence 1 bits)  another", words)

    def test_what_data_say_cannot_do_anything(self):
        rows = self.rows()
        rows[3]["id"] = "x\x1b[31m\u202e\nred"
        rows[3]["source"] = "\x1b]0;title\x07"
        self.run_over(rows, "a")
        rows[8]["prompt"] = rows[3]["prompt"]
        rows[3], rows[8] = rows[8], rows[3]
        rows[3]["source"] = "other"
        self.run_over(rows, "b")
        done = self.diff()
        for sign in "\x1b\u202e\x07":
            self.assertNotIn(sign, done)
        self.assertIn("lost", done)
        self.assertIn("u001b[31m", done)

    def test_folders_that_cannot_be_compared(self):
        self.run_over(self.rows(), "a")
        self.refuses(["b/report.json", "there is none"], "diff", "a", "b", code=1)
        self.refuses(["report.json"], "diff", "a", "data.jsonl", code=1)
        (self.dir / "b").mkdir()
        report = json.loads((self.dir / "a" / "report.json").read_text())
        report["version"] = 1
        (self.dir / "b" / "report.json").write_text(json.dumps(report))
        self.refuses(["b/report.json", "version 1, expected 2"], "diff", "a", "b", code=1)
        self.refuses(["b/report.json", "version 1"], "diff", "b", "a", code=1)
        self.refuses("an argument is missing", "diff", "a", code=2)

    def test_latents_that_moved_have_names(self):
        rows = self.rows()
        self.run_over(rows, "a")
        names = {str(i): "latent of %d" % i for i in range(self.D_SAE)}
        (self.dir / "names.json").write_text(json.dumps(names))
        self.saerl("labels", "import", "names.json", "-o", "n.labels.safetensors", "--sae", "sae")
        flat = [1.0 if j % 2 else -1.0 for i in range(2 * self.N) for j in range(self.D_IN)]
        self.write_world(self.N, rows=rows, values=flat)
        self.saerl("run", "recipe.yaml", "-o", "b", "--set", "batches.size=8")
        told = json.loads(self.diff("a", "b", "--json", "--labels-table", "n.labels.safetensors"))
        self.assertTrue(told["latents"])
        for latent in told["latents"]:
            self.assertEqual(latent["label"], "latent of %d" % latent["latent"])
            self.assertGreaterEqual(latent["z"], 5)
        words = self.diff("a", "b", "--labels-table", "n.labels.safetensors")
        first = told["latents"][0]["latent"]
        self.assertIn("latent %d  latent of %d\n" % (first, first), words)


class Baseline(SaerlCase):
    def write(self, name, n=400, more=""):
        write_jsonl(
            self.dir / name,
            [
                {"id": "s%d" % i, "prompt": "what is " + "%d plus " % i * (1 + i % 7) + "1" + more}
                for i in range(n)
            ],
        )

    def audit(self, data, out, *more):
        fields = ("--set", "input.fields.id=id", "--set", "input.fields.prompt=prompt")
        self.saerl("audit", data, "-o", out, *fields, *more)
        return json.loads((self.dir / out / "report.json").read_text())

    def drift(self, report):
        return [f for f in report["findings"] if f["code"] == "drift"]

    def test_the_same_data_do_not_drift(self):
        self.write("a.jsonl")
        self.audit("a.jsonl", "first")
        report = self.audit("a.jsonl", "second", "--baseline", "first")
        self.assertEqual(self.drift(report), [])
        self.assertEqual(report["measures"]["drift"]["value"], 0)
        section = report["sections"]["baseline"]
        self.assertIsNone(section["changed"])
        self.assertEqual(section["folder"], "first")
        for number in section["numbers"]:
            self.assertEqual(number["before"], number["after"], number["name"])

    def test_longer_prompts_do(self):
        self.write("a.jsonl")
        self.write("b.jsonl", more=" , and say why in so many words as you can think of")
        self.audit("a.jsonl", "first")
        report = self.audit("b.jsonl", "second", "--baseline", "first")
        (finding,) = self.drift(report)
        self.assertEqual(finding["severity"], "warning")
        self.assertRegex(finding["title"], r"^Unlike the baseline, by PSI: words \d")
        self.assertGreater(report["measures"]["drift"]["value"], 0.25)
        words = self.saerl("diff", "first", "second").stdout
        self.assertIn("came warning: Unlike the baseline", words)

    def test_a_tenth_of_the_rows_does_not(self):
        self.write("a.jsonl")
        self.write("b.jsonl", n=40)
        self.audit("a.jsonl", "first")
        self.assertEqual(self.drift(self.audit("b.jsonl", "x", "--baseline", "first")), [])

    def test_a_report_tells_how_to_repeat_it_wherever_it_lies(self):
        self.write("a.jsonl")
        x = self.audit("a.jsonl", "x", "--threads", "1")
        y = self.audit(self.dir / "a.jsonl", "elsewhere", "--threads", "2")
        self.assertEqual(x, y)
        repeat = x["sections"]["repeat"]
        self.assertNotIn(str(self.dir), json.dumps(x))
        self.assertEqual([i["name"] for i in repeat["inputs"]], ["a.jsonl"])
        self.assertIn("saerl audit a.jsonl", repeat["command"])
        self.assertIn("2605.27354", repeat["citation"])

    def pool(self, n, seed, out, *more, plant=None):
        pool = Pool(n, seed)
        if plant:
            plant(pool)
        pool.write(self.dir)
        features = ("--features", "features.safetensors")
        self.saerl("audit", "data.jsonl", *features, "-o", out, *more)
        return json.loads((self.dir / out / "report.json").read_text())

    def test_another_draw_of_one_population_does_not_drift(self):
        for n in (300, 1200):
            self.pool(n, 1, "base")
            report = self.pool(n, 2, "other", "--baseline", "base")
            section = report["sections"]["baseline"]
            self.assertEqual(self.drift(report), [], section["distributions"])
            # Each has a probe of its own: what they predict is no sample of one thing.
            self.assertEqual(section["not_compared"], ["quality", "difficulty"])

    def test_what_is_planted_is_named_first(self):
        def reconstructed_worse(pool):
            pool.recon = [1.5 * x for x in pool.recon]

        def one_source(pool):
            for row in pool.rows:
                row["source"] = "alpha"

        def all_solved(pool):
            for row in pool.rows:
                row["rewards"] = [1.0] * len(row["rewards"])

        plants = {"recon": reconstructed_worse, "sources": one_source, "pass_rate": all_solved}
        for n in (300, 1200):
            self.pool(n, 1, "base")
            for name, plant in plants.items():
                with self.subTest(n=n, name=name):
                    report = self.pool(n, 2, "other", "--baseline", "base", plant=plant)
                    (finding,) = self.drift(report)
                    self.assertRegex(finding["title"], "by PSI: %s [\\d.]+$" % name.replace("_", " "))


if __name__ == "__main__":
    unittest.main()
