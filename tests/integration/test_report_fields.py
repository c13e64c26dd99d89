"""Sections `fields` and `funnel` of a run's report, and its answers: planted rows are counted and told."""

import json
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from planted import Pool  # noqa: E402
from saerl_case import SaerlCase, write_jsonl  # noqa: E402

N = 400
GARBAGE = [
    "sdkfj wqpoeri zxmcnv qpwoei lskdjf hgjdk xcvzmn",
    "SGVsbG8gd29ybGQhIFRoaXMgaXMgYSB0ZXN0IG9mIGJhc2U2NCBlbmNvZGluZw==",
    "\u00d0\u00a1\u00d0\u00ba\u00d0\u00be\u00d0\u00bb\u00d1\u008c\u00d0\u00ba\u00d0\u00be "
    "\u00d0\u00b1\u00d1\u0083\u00d0\u00b4\u00d0\u00b5\u00d1\u0082",
    "test test test test test test test test test",
    "<div><br><br><span class='x'></span>&nbsp;&nbsp;</div><p></p>",
]
RECIPE = """version: 1
name: planted
input:
  data: [data.jsonl]
  features: features.safetensors
  fields: {prompt: prompt, answer: answer, source: source, quality: quality, rewards: rewards}
on_error: {action: skip, max_bad: 1000}
quality: {fit_labels: field, keep_top: 0.9}
difficulty: {fit_labels: field, force: true}
clustering: {clusters: 8}
batches: {size: 16}
output: {dir: out, samples_in_report: 6}
"""


class ReportFields(SaerlCase):
    def setUp(self):
        super().setUp()
        self.pool = Pool(N)
        for i in range(0, N, 4):
            self.pool.rows[i]["source"] = "delta"

    def report(self, *args, recipe=RECIPE, lines=None):
        self.pool.write(self.dir)
        if lines is not None:
            (self.dir / "data.jsonl").write_text("".join(lines))
        (self.dir / "recipe.yaml").write_text(recipe)
        self.saerl("run", self.dir / "recipe.yaml", "-o", self.dir / "out", "--fresh", *args)
        text = (self.dir / "out" / "report.json").read_bytes()
        report = json.loads(text)
        self.findings = {f["code"]: f for f in report["findings"]}
        return report, text

    def planted(self):
        """Lines of data.jsonl with eight malformed, six empty and ten garbage rows."""
        rows = [dict(r) for r in self.pool.rows]
        for k, i in enumerate(range(100, 110)):
            rows[i]["prompt"] = GARBAGE[k % 5] + (" " + GARBAGE[k % 5] if k >= 5 else "")
        for k, i in enumerate(range(200, 206)):
            rows[i]["prompt"] = " " * k
        lines = [json.dumps(r) + "\n" for r in rows]
        for k, i in enumerate(range(300, 308)):
            if k < 5:
                rows[i].pop("prompt")
                lines[i] = json.dumps(rows[i]) + "\n"
            else:
                lines[i] = lines[i][:40] + "\n"
        return lines

    def test_clean_rows(self):
        report, _ = self.report()
        self.assertFalse({"malformed_rows", "empty_prompts", "garbage_text"} & set(self.findings))
        fields = report["sections"]["fields"]
        self.assertEqual((fields["rows"], fields["malformed"], fields["guessed"]), (N, 0, False))
        self.assertEqual(
            {m["field"]: m["path"] for m in fields["map"]},
            dict(id="id", prompt="prompt", answer="answer", source="source", quality="quality",
                 difficulty=None, rewards="rewards"))
        self.assertEqual(fields["columns_of"], N)
        types = {c["path"]: c["types"] for c in fields["columns"]}
        for path in ("id", "prompt", "answer", "source"):
            self.assertEqual(types[path], {"string": N})
        self.assertEqual(types["rewards"], {"list": N})
        self.assertEqual(sum(types["difficulty"].values()), N)  # 0.5 is a number, 0 an integer
        self.assertLessEqual(set(types["difficulty"]), {"number", "integer"})
        self.assertEqual(fields["problems"], [])
        rows = [s["rows"] for s in fields["sources"]]
        self.assertEqual((len(rows), rows), (4, sorted(rows, reverse=True)))
        self.assertEqual(sum(fields["tokens"]["histogram"]["counts"]), N)
        self.assertEqual(sum(fields["length"]["histogram"]["counts"]) + fields["length"]["above"], N)

    def test_means_of_sources_are_those_of_their_rows(self):
        report, _ = self.report()
        for source in report["sections"]["fields"]["sources"]:
            rows = [r for r in self.pool.rows if r["source"] == source["source"]]
            self.assertEqual(source["rows"], len(rows))
            rate = sum(sum(r["rewards"]) / 8 for r in rows) / len(rows)
            self.assertAlmostEqual(source["pass_rate_mean"], rate, 9)

    def test_planted_rows_are_counted_and_shown(self):
        report, _ = self.report(lines=self.planted())
        measures = report["measures"]
        self.assertEqual(measures["malformed"], {"value": 8, "of": N})
        self.assertEqual(measures["empty"], {"value": 6, "of": N})
        self.assertEqual(measures["garbage"], {"value": 10, "of": N})
        self.assertEqual(measures["rows"]["value"], N)
        self.assertEqual(measures["kept"], {"value": report["kept"], "of": N})

        bad = self.findings["malformed_rows"]
        self.assertEqual(bad["severity"], "warning")  # 2 %
        self.assertEqual([s["row"] for s in bad["samples"]], list(range(300, 306)))
        self.assertIn("'prompt' is missing", bad["samples"][0]["note"])
        self.assertEqual(bad["samples"][0]["reason"], "malformed")
        empty = self.findings["empty_prompts"]
        self.assertTrue(empty["title"].startswith("6 prompts without text"))
        self.assertLessEqual({s["row"] for s in empty["samples"]}, set(range(200, 206)))
        garbage = self.findings.get("garbage_text") or self.findings["garbage_cluster"]
        self.assertNotEqual(garbage["severity"], "note")

        fields = report["sections"]["fields"]
        self.assertEqual((fields["malformed"], len(fields["problems"])), (8, 2))
        self.assertEqual((fields["problems"][0]["row"], fields["problems"][0]["rows"]), (300, 5))
        self.assertEqual(fields["columns_of"], N - 3)
        self.assertEqual({c["path"]: c["types"] for c in fields["columns"]}["prompt"],
                         {"string": N - 8})
        notes = {s["row"]: s["note"] for s in fields["odd"]}
        self.assertEqual(len(notes), 6)
        self.assertEqual(notes[100], "letters in no language's order")

    def test_the_funnel_adds_up_for_every_source(self):
        report, _ = self.report(lines=self.planted())
        funnel = report["sections"]["funnel"]
        self.assertEqual(funnel["rows"], N)
        self.assertEqual(funnel["stages"], report["funnel"])
        for i, stage in enumerate(funnel["stages"]):
            parts = [s["dropped"][i] for s in funnel["by_source"] + [funnel["others"]]]
            self.assertEqual(sum(parts), stage["dropped"], stage)
        # Rows that could not be read name no source.
        self.assertEqual(funnel["others"]["dropped"][0], 8)
        for s in funnel["by_source"]:
            self.assertEqual(s["rows"], s["kept"] + sum(s["dropped"]))

    def test_a_source_that_the_filter_takes(self):
        for i, row in enumerate(self.pool.rows):
            if row["source"] == "delta" and i % 3:
                row["quality"] = 0.01 * (i % 7)
                self.pool.codes[i] = {j: 3.0 for j in range(90, 100)}
            else:
                row["quality"] = 0.6 + 0.01 * (i % 7)
        self.report(recipe=RECIPE.replace("keep_top: 0.9", "keep_top: 0.83, max_drop_per_cluster: 1"))
        dropped = self.findings["dropped_source"]
        self.assertIn("'delta'", dropped["title"])
        self.assertIn("quality", dropped["title"])
        self.assertEqual(dropped["severity"], "warning")
        self.assertTrue(all(s["source"] == "delta" for s in dropped["samples"]))

    def test_answers_of_samples(self):
        for i, row in enumerate(self.pool.rows):
            row["answer"] = {"value": i, "steps": "x" * 300} if i % 2 else "\u20ac" * 100
        report, text = self.report()
        samples = report["sections"]["curriculum"]["shown"][0]["samples"]
        self.assertTrue(samples)
        for s in samples:
            whole = self.pool.rows[s["row"]]["answer"]
            if not isinstance(whole, str):
                whole = json.dumps(whole, separators=(",", ":"))
            self.assertTrue(whole.startswith(s["answer"]))
            self.assertIn(len(s["answer"].encode()), (198, 200))
        redacted = RECIPE.replace("samples_in_report: 6", "samples_in_report: 6, redact: [answer]")
        report, text = self.report(recipe=redacted)
        self.assertNotIn(b"xxxxxxxx", text)
        for s in report["sections"]["curriculum"]["shown"][0]["samples"]:
            self.assertIsNone(s["answer"])
            self.assertEqual(s["redacted"], ["answer"])

    def test_nothing_of_a_sample_where_none_are_asked_for(self):
        lines = self.planted()
        report, text = self.report(recipe=RECIPE.replace("samples_in_report: 6", "samples_in_report: 0"),
                                   lines=lines)
        fields = report["sections"]["fields"]
        self.assertEqual((fields["odd"], fields["problems"]), ([], []))
        self.assertEqual(fields["malformed"], 8)
        self.assertNotIn(b"task-0", text)
        self.assertNotIn(b"sdkfj", text)

    def test_the_same_bytes_at_any_number_of_threads(self):
        lines = self.planted()
        _, one = self.report("--threads", "1", lines=lines)
        _, three = self.report("--threads", "3", lines=lines)
        self.assertEqual(one, three)


class GuessedFields(SaerlCase):
    """What the audit makes of rows as data sets publish them."""

    def audit(self, rows, *args, code=0):
        write_jsonl(self.dir / "data.jsonl", rows)
        done = self.saerl("audit", self.dir / "data.jsonl", "-o", self.dir / "audit", *args, code=code)
        if code:
            return done, None
        report = json.loads((self.dir / "audit" / "report.json").read_text())
        return done, {m["field"]: m["path"] for m in report["sections"]["fields"]["map"]}

    def questions(self, n=60):
        rng = random.Random(3)
        words = "how many apples does each of the children have after they share a basket".split()
        return ["%s %d?" % (" ".join(rng.sample(words, 9)), i) for i in range(n)]

    def test_rows_for_verl_whose_index_repeats(self):
        rows = [{"data_source": "math", "prompt": [{"role": "user", "content": q}],
                 "reward_model": {"ground_truth": str(i)}, "extra_info": {"index": i % 20}}
                for i, q in enumerate(self.questions())]
        done, fields = self.audit(rows)
        self.assertEqual(fields["prompt"], "prompt")
        self.assertEqual(fields["answer"], "reward_model.ground_truth")
        self.assertEqual(fields["source"], "data_source")
        self.assertIsNone(fields["id"])
        self.assertIn("prompt: 'prompt' (a chat list in 60 of 60 rows)", done.stderr)
        self.assertIn("id: none ('extra_info.index' repeats)", done.stderr)

    def test_levels_and_solve_rates_get_their_scale(self):
        rows = [{"problem": q, "level": "Level %d" % (i % 5 + 1), "solution": str(i)}
                for i, q in enumerate(self.questions())]
        done, fields = self.audit(rows)
        self.assertEqual(fields["difficulty"], "level")
        self.assertIn("range 1 to 5, higher is harder", done.stderr)
        rows = [{"problem": q, "answer": str(i), "llama8b_solve_rate": i / 60}
                for i, q in enumerate(self.questions())]
        done, fields = self.audit(rows)
        self.assertEqual(fields["difficulty"], "llama8b_solve_rate")
        self.assertIn("range 0 to 1, higher is easier", done.stderr)

    def test_no_prompt_is_an_error_that_lists_the_columns(self):
        done, _ = self.audit([{"left": "a", "right": "b"}] * 3, code=1)
        self.assertIn("left, right", done.stderr)


if __name__ == "__main__":
    unittest.main()
