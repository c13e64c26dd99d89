"""What repeats and what is leaked, in the report of `saerl run`: planted, and not there."""

import json
import pathlib
import random
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from saerl_case import SaerlCase, write_jsonl, write_safetensors  # noqa: E402

FIELDS = "{id: id, prompt: prompt, answer: answer, source: source}"
PHRASE = " where m and n are relatively prime positive integers. Find the value of m + n."


class Report(SaerlCase):
    """Rows of 18 to 30 words that mean nothing, in two sources, and features beside them."""

    def rows(self, n, seed=1):
        rng = self.rng = random.Random(seed)
        return [
            {
                "id": "t%d" % i,
                "prompt": self.prompt(),
                "answer": str(rng.randrange(1000)),
                "source": rng.choice(["left", "right"]),
            }
            for i in range(n)
        ]

    def prompt(self, words=None):
        n = words or self.rng.randint(18, 30)
        return " ".join("w%d" % self.rng.randrange(3000) for _ in range(n)) + "?"

    def benchmark(self, n=100, words=30, name="bench.jsonl"):
        items = [{"question": self.prompt(words)} for _ in range(n)]
        write_jsonl(self.dir / name, items)
        return [item["question"] for item in items]

    def run_report(self, rows, recipe="", *args):
        n, d_sae = len(rows), 16
        write_jsonl(self.dir / "data.jsonl", rows)
        latents = [sorted({i % d_sae, (i * 7 + 3) % d_sae, (i // 16) % d_sae}) for i in range(n)]
        begins = [0]
        for row in latents:
            begins.append(begins[-1] + len(row))
        write_safetensors(
            self.dir / "features.safetensors",
            {
                "indptr": ("I64", [n + 1], begins),
                "indices": ("U32", [begins[-1]], [j for row in latents for j in row]),
                "values": ("F32", [begins[-1]], [1 + j / 7 for row in latents for j in row]),
                "tokens_used": ("U32", [n], [20] * n),
                "recon_mean": ("F32", [n], [0.2] * n),
                "recon_max": ("F32", [n], [0.5] * n),
            },
            {
                "format": "saerl.features",
                "version": "1",
                "d_sae": str(d_sae),
                "pooling": "max",
            },
        )
        (self.dir / "recipe.yaml").write_text(
            "version: 1\n"
            "input: {data: [data.jsonl], features: features.safetensors, fields: %s}\n"
            "clustering: {clusters: 4}\n%s" % (FIELDS, recipe)
        )
        self.saerl("run", "recipe.yaml", "--fresh", "-o", "out", *args)
        raw = (self.dir / "out" / "report.json").read_bytes()
        report = json.loads(raw)
        self.told = ["%s %s: %s" % (f["severity"], f["code"], f["title"]) for f in report["findings"]]
        return report

    def finding(self, report, code):
        found = [f for f in report["findings"] if f["code"] == code]
        self.assertEqual(len(found), 1, self.told)
        return found[0]

    def assert_quiet(self, report, *sections):
        loud = [
            f for f in report["findings"] if f["section"] in sections and f["severity"] != "note"
        ]
        self.assertEqual(loud, [], self.told)

    def marked(self, text, spans):
        """The marked pieces; spans ascend, do not meet and end on characters."""
        raw, pieces, last = text.encode(), [], -1
        for begin, end in spans:
            self.assertLess(last, begin)
            self.assertLess(begin, end)
            self.assertLessEqual(end, len(raw))
            pieces.append(raw[begin:end].decode())
            last = end
        return pieces

    NEAR = "dedup: {near: {enabled: true}}\n"


class Duplicates(Report):
    def test_clean_data_has_no_finding(self):
        for n in (1, 40, 300, 2000):
            with self.subTest(n=n):
                report = self.run_report(self.rows(n, seed=n), self.NEAR)
                self.assertEqual(
                    [f for f in report["findings"] if f["section"] in ("duplicates", "contamination")],
                    [],
                    self.told,
                )
                section = report["sections"]["duplicates"]
                self.assertEqual(section["exact"], {"rows": 0, "groups": 0, "largest": 0})
                self.assertEqual(section["near"]["rows"], 0)
                self.assertIsNone(section["sae"])
                self.assertEqual(report["measures"]["duplicates"], {"value": 0, "of": n})
                self.assertEqual(report["measures"]["contaminated"], {"value": None, "of": None})
                self.assertIn("--against", report["sections"]["contamination"]["absent"])

    def test_a_handful_is_a_note(self):
        rows = self.rows(300)
        rows[200]["prompt"] = rows[3]["prompt"]
        rows[201]["prompt"] = "So " + rows[4]["prompt"]
        report = self.run_report(rows, self.NEAR)
        self.assertEqual(self.finding(report, "duplicates")["severity"], "note")
        self.assert_quiet(report, "duplicates")
        pairs = report["sections"]["duplicates"]["pairs"]
        self.assertEqual(sorted(p["kind"] for p in pairs), ["exact", "near"])
        near = next(p for p in pairs if p["kind"] == "near")
        self.assertEqual((near["kept"]["row"], near["dropped"]["row"]), (4, 201))
        self.assertEqual(self.marked(near["kept"]["text"], near["spans"]["kept"]), [])
        self.assertEqual(self.marked(near["dropped"]["text"], near["spans"]["dropped"]), ["So"])

    def test_near_duplicates_that_are_not_looked_for_are_not_known(self):
        report = self.run_report(self.rows(40))
        self.assertIsNone(report["sections"]["duplicates"]["near"])
        self.assertEqual(report["measures"]["duplicates"]["value"], None)
        self.assertEqual(report["measures"]["exact_duplicates"]["value"], 0)

    def copied_source(self, n, first):
        """A source `copy` of a third of the rows; before or after what it copies."""
        rows = self.rows(n)
        copies = []
        for k, row in enumerate([r for r in rows if r["source"] == "left"][: n // 3]):
            prompt = row["prompt"] if k % 2 else row["prompt"] + " Please."
            copies.append({**row, "id": "c%d" % k, "prompt": prompt, "source": "copy"})
        return copies + rows if first else rows + copies

    def test_a_copied_source_is_found_wherever_it_stands(self):
        for n in (300, 1500):
            for first in (False, True):
                with self.subTest(n=n, first=first):
                    report = self.run_report(self.copied_source(n, first), self.NEAR)
                    finding = self.finding(report, "duplicated_source")
                    # The run has left the copies out; an audit would call it a problem.
                    self.assertEqual(finding["severity"], "warning")
                    self.assertIn("What this run keeps is without these rows.", finding["meaning"])
                    self.assertTrue(finding["title"].startswith("'copy' is a copy of 'left': 100 %"))
                    self.assertEqual({s["source"] for s in finding["samples"]}, {"copy"})
                    self.assertNotIn("duplicates:", " ".join(self.told))
                    pair = report["sections"]["duplicates"]["between_sources"][0]
                    self.assertEqual((pair["a"], pair["b"], pair["share"]), ("copy", "left", 1))

    def test_a_copied_source_is_told_with_what_the_named_one_has_of_it(self):
        """60 of its 100 rows are in one source, 30 more in another."""
        rows = self.rows(400)
        left, right = ([r for r in rows if r["source"] == s] for s in ("left", "right"))
        for k, row in enumerate(left[:60] + right[:30]):
            rows.append({**row, "id": "c%d" % k, "source": "copy"})
        rows += [{**r, "id": "n%d" % k, "source": "copy"} for k, r in enumerate(self.rows(410)[400:])]
        report = self.run_report(rows)
        self.assertIn(
            "'copy' is a copy of 'left': 60 % of its rows (60 of 100) are there too",
            self.finding(report, "duplicated_source")["title"],
        )

    def test_a_source_in_which_all_is_twice_is_not_blamed_on_another(self):
        rows = self.rows(300)
        for k in range(150):
            rows.append({**rows[k], "id": "d%d" % k, "source": "twice"})
            rows[k]["source"] = "twice"
        for k in range(2):  # and two rows that another source has as well
            rows.append({**rows[k], "id": "e%d" % k, "source": "left"})
        for k in range(300, 450):
            rows.append({**rows[k], "id": "f%d" % k})
        report = self.run_report(rows, self.NEAR)
        finding = self.finding(report, "duplicated_source")
        self.assertIn("'twice' repeats itself: 67 %", finding["title"])
        self.assertNotIn("left", finding["title"])

    def test_a_template_is_one_giant_group(self):
        rows = self.rows(300)
        frame = self.prompt(60)
        for k in range(0, 300, 4):
            rows[k]["prompt"] = frame + " case %s%s" % (chr(97 + k // 26), chr(97 + k % 26))
        report = self.run_report(rows, self.NEAR)
        finding = self.finding(report, "giant_group")
        self.assertEqual(finding["severity"], "problem")
        self.assertIn("75 rows (25 %)", finding["title"])
        self.assertNotIn("duplicates:", " ".join(self.told))
        pair = report["sections"]["duplicates"]["pairs"][0]
        self.assertEqual((pair["kind"], pair["group"]), ("near", 75))
        self.assertEqual(self.marked(pair["kept"]["text"], pair["spans"]["kept"]), ["aa"])
        self.assertEqual(self.marked(pair["dropped"]["text"], pair["spans"]["dropped"]), ["ae"])

    def test_a_template_with_other_numbers_is_no_copy(self):
        rows = self.rows(300)
        frame = self.prompt(60)
        for k in range(0, 300, 4):
            rows[k]["prompt"] = frame + " case %d" % k
        report = self.run_report(rows, self.NEAR)
        finding = self.finding(report, "duplicates")
        self.assertEqual(finding["title"], "74 rows are an earlier one with other numbers")
        self.assertEqual(finding["severity"], "problem")  # a quarter of the data, left out
        self.assertNotIn("giant_group", " ".join(self.told))

    def test_a_difference_far_back_is_shown(self):
        rows = self.rows(40)
        frame = self.prompt(200)
        rows[1]["prompt"] = frame + " here"
        rows[2]["prompt"] = frame + " there \u00e9"
        report = self.run_report(rows, self.NEAR)
        (pair,) = report["sections"]["duplicates"]["pairs"]
        for side, words in (("kept", ["here"]), ("dropped", ["there \u00e9"])):
            text = pair[side]["text"]
            self.assertTrue(text.startswith("..."))
            self.assertLessEqual(len(text.encode()), 403)
            self.assertEqual(self.marked(text, pair["spans"][side]), words)

    def test_conflicting_answers(self):
        rows = self.rows(300)
        for k in range(4):
            rows[200 + k] = {**rows[k], "id": "c%d" % k, "answer": "%d and more" % k}
        report = self.run_report(rows)
        finding = self.finding(report, "conflicting_answers")
        self.assertEqual(finding["severity"], "warning")
        self.assertIn("8 rows", finding["title"])
        conflicts = report["sections"]["duplicates"]["conflicts"]
        self.assertEqual([(c["a"]["row"], c["b"]["row"]) for c in conflicts][:2], [(0, 200), (1, 201)])
        for conflict in conflicts:
            self.assertEqual(conflict["a"]["text"], conflict["b"]["text"])
            self.assertNotEqual(conflict["a"]["answer"], conflict["b"]["answer"])
        self.assertEqual(report["measures"]["conflicting"]["value"], 8)

    def test_redacted_prompts_are_nowhere(self):
        rows = self.copied_source(300, False)
        self.run_report(rows, self.NEAR + "output: {redact: [prompt, source]}\n")
        text = (self.dir / "out" / "report.json").read_text()
        for row in rows:
            self.assertNotIn(row["prompt"][:30], text)
        self.assertIn("source 3 is a copy of source", text)
        report = self.run_report(rows, self.NEAR + "output: {samples_in_report: 0}\n")
        self.assertEqual(report["sections"]["duplicates"]["pairs"], [])
        self.assertEqual(self.finding(report, "duplicated_source")["samples"], [])

    def test_the_same_bytes_at_any_number_of_threads(self):
        rows = self.copied_source(300, False)
        items = self.benchmark()
        for k in range(5):
            rows[k]["prompt"] = items[k]
        recipe = self.NEAR + "decontaminate: {against: [bench.jsonl]}\n"
        self.run_report(rows, recipe, "--threads", "1")
        one = (self.dir / "out" / "report.json").read_bytes()
        self.run_report(rows, recipe, "--threads", "3")
        self.assertEqual(one, (self.dir / "out" / "report.json").read_bytes())


class Contamination(Report):
    AGAINST = "decontaminate: {against: [bench.jsonl], action: %s}\n"

    def test_a_benchmark_that_is_not_in_the_data(self):
        rows = self.rows(300)
        self.benchmark()
        report = self.run_report(rows, self.AGAINST % "drop")
        self.assert_quiet(report, "contamination")
        self.assertEqual(report["measures"]["contaminated"], {"value": 0, "of": 300})
        self.assertEqual(
            report["sections"]["contamination"]["against"],
            [
                {
                    "name": "bench.jsonl",
                    "items": 100,
                    "items_hit": 0,
                    "rows_hit": 0,
                    "rows_likely_false": 0,
                    "verdict": "clean",
                }
            ],
        )

    def test_leaked_items_are_found_whatever_is_done_with_them(self):
        for n in (300, 1500):
            for action in ("drop", "flag"):
                with self.subTest(n=n, action=action):
                    rows = self.rows(n)
                    items = self.benchmark()
                    for k in range(6):
                        rows[k * 9]["prompt"] = "Now: " + items[k * 11] + " Answer in words."
                    report = self.run_report(rows, self.AGAINST % action)
                    finding = report["findings"][0]
                    severity = {"drop": "warning", "flag": "problem"}[action]
                    self.assertEqual((finding["code"], finding["severity"]), ("leaked_items", severity))
                    self.assertEqual(
                        finding["title"],
                        "6 rows share text with bench.jsonl: 6 of its 100 items (6 %)",
                    )
                    # What the run has done is not asked for again.
                    self.assertEqual("drop leaves these rows out" in finding["advice"], action == "drop")
                    self.assertEqual(finding["samples"][1]["note"], "item 11 of bench.jsonl, 100 % of it")
                    self.assertEqual(report["measures"]["contaminated"]["value"], 6)
                    section = report["sections"]["contamination"]
                    self.assertEqual(section["against"][0]["verdict"], "leaked")
                    self.assertEqual(len(section["hits"]), 5)
                    for hit in section["hits"]:
                        self.assertEqual(hit["item_text"], items[hit["item"]])
                        (same,) = self.marked(hit["sample"]["text"], hit["spans"]["sample"])
                        self.assertEqual([same], self.marked(hit["item_text"], hit["spans"]["item"]))
                        self.assertEqual(same + "?", items[hit["item"]])
                        self.assertFalse(hit["likely_false"])

    def test_part_of_an_item_is_a_warning_or_a_note(self):
        for words, severity in ((40, "warning"), (16, "note")):
            with self.subTest(words=words):
                rows = self.rows(300)
                items = self.benchmark(words=60)
                rows[3]["prompt"] += " " + " ".join(items[8].split()[9 : 9 + words])
                report = self.run_report(rows, self.AGAINST % "flag")
                self.assertEqual(self.finding(report, "leaked_items")["severity"], severity)
                section = report["sections"]["contamination"]
                self.assertEqual(section["against"][0]["verdict"], "partial")
                self.assertFalse(section["hits"][0]["likely_false"])

    def test_a_phrase_of_many_items_is_likely_false(self):
        for n in (300, 1500):
            with self.subTest(n=n):
                rows = self.rows(n)
                items = self.benchmark()
                write_jsonl(
                    self.dir / "bench.jsonl",
                    [{"question": q + PHRASE * (k % 10 == 0)} for k, q in enumerate(items)],
                )
                for k in range(0, n, 20):
                    rows[k]["prompt"] += PHRASE
                report = self.run_report(rows, self.AGAINST % "flag")
                self.assertEqual(self.finding(report, "leaked_items")["severity"], "note")
                section = report["sections"]["contamination"]
                self.assertEqual(section["against"][0]["verdict"], "likely_false")
                self.assertEqual(section["against"][0]["rows_hit"], n // 20)
                self.assertEqual(section["rows_likely_false"], n // 20)
                self.assertTrue(all(hit["likely_false"] for hit in section["hits"]))
                self.assertEqual(report["measures"]["contaminated"]["value"], n // 20)

    def test_a_phrase_of_many_rows_is_likely_false(self):
        rows = self.rows(600)
        items = self.benchmark()
        write_jsonl(
            self.dir / "bench.jsonl",
            [{"question": q + PHRASE * (k == 5)} for k, q in enumerate(items)],
        )
        for k in range(0, 600, 20):
            rows[k]["prompt"] += PHRASE
        report = self.run_report(rows, self.AGAINST % "flag")
        self.assertEqual(self.finding(report, "leaked_items")["severity"], "note")
        # One that has the item as well is no false alarm.
        rows[20]["prompt"] = items[5] + PHRASE
        report = self.run_report(rows, self.AGAINST % "flag")
        codes = [(f["severity"], f["code"]) for f in report["findings"]]
        self.assertEqual(codes[0], ("problem", "leaked_items"))
        hits = report["sections"]["contamination"]["hits"]
        self.assertEqual((hits[0]["sample"]["row"], hits[0]["item"]), (20, 5))
        self.assertEqual([hit["likely_false"] for hit in hits], [False] + [True] * 4)

    def test_a_short_question_that_anybody_asks_is_likely_false(self):
        rows = self.rows(300)
        self.benchmark()
        with open(self.dir / "bench.jsonl", "a") as out:
            out.write(json.dumps({"question": "What is 2 + 2?"}) + "\n")
        rows[7]["prompt"] = "what is 2 + 2"
        report = self.run_report(rows, self.AGAINST % "flag")
        self.assertEqual(self.finding(report, "leaked_items")["severity"], "note")
        (hit,) = report["sections"]["contamination"]["hits"]
        self.assertTrue(hit["likely_false"])
        self.assertEqual(self.marked(hit["item_text"], hit["spans"]["item"]), ["What is 2 + 2"])

    def test_a_match_far_back_is_shown(self):
        rows = self.rows(300)
        items = self.benchmark()
        rows[5]["prompt"] = self.prompt(200) + " " + items[3]
        report = self.run_report(rows, self.AGAINST % "drop")
        (hit,) = report["sections"]["contamination"]["hits"]
        self.assertTrue(hit["sample"]["text"].startswith("..."))
        self.assertEqual(
            self.marked(hit["sample"]["text"], hit["spans"]["sample"]), [items[3].rstrip("?")]
        )

    def test_several_benchmarks_of_one_name(self):
        rows = self.rows(300)
        (self.dir / "more").mkdir()
        items = self.benchmark()
        write_jsonl(self.dir / "more" / "bench.jsonl", [{"question": items[4]}] * 32)
        rows[9]["prompt"] = items[4]
        report = self.run_report(
            rows, "decontaminate: {against: [bench.jsonl, more/bench.jsonl]}\n"
        )
        against = report["sections"]["contamination"]["against"]
        self.assertEqual([a["name"] for a in against], ["bench.jsonl", "bench.jsonl (2)"])
        self.assertEqual([a["rows_hit"] for a in against], [1, 1])
        self.assertEqual([a["items_hit"] for a in against], [1, 1])
        self.assertEqual([a["verdict"] for a in against], ["leaked", "leaked"])
        self.assertEqual(report["measures"]["contaminated"]["value"], 1)
        self.assertNotIn("more/", json.dumps(report["sections"]["contamination"]))

    def test_a_redacted_prompt_hides_the_item(self):
        rows = self.rows(300)
        items = self.benchmark()
        rows[5]["prompt"] = items[3]
        self.run_report(rows, self.AGAINST % "drop" + "output: {redact: [prompt]}\n")
        self.assertNotIn(items[3][:30], (self.dir / "out" / "report.json").read_text())


if __name__ == "__main__":
    unittest.main()
