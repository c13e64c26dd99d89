"""`saerl audit` from outside: what it takes, what it writes and refuses, gates and exit codes.

What it finds is in test_audit_planted.py.
"""

import gzip
import json
import os
import random
import re
import signal
import subprocess
import time
import unittest

from saerl_case import DEMO, PROGRAM, SaerlCase, folder_bytes, write_jsonl, write_safetensors

WORDS = (
    "the a number sum of two three apples pears and has buys sells how many remain when each "
    "triangle circle area side length find value expression if x equals y plus minus times"
).split()
SECTIONS = {
    "fields", "funnel", "difficulty", "quality", "diversity", "duplicates", "contamination",
    "sae", "curriculum", "baseline", "repeat",
}


def sentence(rng, n=14):
    return " ".join(rng.choice(WORDS) for _ in range(n)).capitalize() + "?"


def rows(n, seed=0):
    rng = random.Random(seed)
    return [
        {"question": sentence(rng), "answer": str(rng.randrange(99)), "uid": "task-%d" % i}
        for i in range(n)
    ]


class AuditCase(SaerlCase):
    def audit(self, *args, data="data.jsonl", **more):
        return self.saerl("audit", data, *args, **more)

    def report(self, folder="saerl-audit"):
        return json.loads((self.dir / folder / "report.json").read_text())

    def write_rows(self, rows, name="data.jsonl"):
        write_jsonl(self.dir / name, rows)


class TextOnly(AuditCase):
    def test_a_file_is_enough(self):
        self.write_rows(rows(60))
        done = self.audit()
        report = self.report()
        self.assertEqual(
            sorted(f.name for f in (self.dir / "saerl-audit").iterdir()),
            ["report.html", "report.json"],
        )
        self.assertEqual((report["kind"], report["rows"], report["kept"]), ("audit", 60, 60))
        self.assertEqual(report["vectors"], 0)
        self.assertIsNone(report["features"])
        self.assertIsNone(report["clusters"])
        self.assertEqual(set(report["sections"]), SECTIONS)
        for name in ("diversity", "quality", "sae", "curriculum", "contamination", "baseline"):
            self.assertIn("absent", report["sections"][name], name)
        self.assertIn("60 rows in, 60 would be kept (100 %)", done.stdout)
        self.assertIn("only text and labels", done.stdout)
        self.assertIn(report["verdict"]["sentence"], done.stdout)
        self.assertIn("saerl-audit/report.html", done.stdout)
        html = (self.dir / "saerl-audit" / "report.html").read_text()
        self.assertEqual((html[:15], html[-8:]), ("<!doctype html>", "</html>\n"))
        self.assertTrue("data.jsonl" in html)

    def test_guesses_are_said_and_can_be_overruled(self):
        self.write_rows(rows(40))
        done = self.audit()
        self.assertIn("prompt: 'question'", done.stderr)
        self.assertIn("id: 'uid'", done.stderr)
        fields = self.report()["sections"]["fields"]
        self.assertTrue(fields["guessed"])
        self.assertIn("question", [f["path"] for f in fields["map"] if f["field"] == "prompt"])

        done = self.audit("--set", "input.fields.prompt=answer", "--set", "input.fields.id=null")
        self.assertNotIn("prompt: 'question'", done.stderr)
        fields = self.report()["sections"]["fields"]
        self.assertIn("answer", [f["path"] for f in fields["map"] if f["field"] == "prompt"])

        self.write_rows([{"n": 1}, {"n": 2}])
        self.refuses("prompt", "audit", "data.jsonl", "-o", "other", code=1)
        self.assertFalse((self.dir / "other").exists())

    def test_globs_and_compressed_files_are_one_data_set(self):
        for i in range(3):
            text = "".join(json.dumps(row) + "\n" for row in rows(20, seed=i))
            (self.dir / ("part-%d.jsonl.gz" % i)).write_bytes(gzip.compress(text.encode()))
        self.saerl("audit", "part-[01]*.gz", "part-2.jsonl.gz", "--set", "input.fields.id=null")
        report = self.report()
        self.assertEqual(report["rows"], 60)
        names = [i["name"] for i in report["sections"]["repeat"]["inputs"]]
        self.assertEqual(names, ["part-%d.jsonl.gz" % i for i in range(3)])
        self.saerl("audit", "part-*.gz", "--limit", "7", "--set", "input.fields.id=null")
        self.assertEqual(self.report()["rows"], 7)
        self.refuses("matches no file", "audit", "nothing-*.jsonl")

    def test_malformed_rows_are_told_not_failed_for(self):
        lines = [json.dumps(row) for row in rows(300)]
        for i in range(0, 300, 2):
            lines[i] = "{broken"
        (self.dir / "data.jsonl").write_text("\n".join(lines) + "\n")
        done = self.audit()
        report = self.report()
        self.assertEqual((report["rows"], report["kept"]), (300, 150))
        self.assertEqual(report["reasons"]["malformed"], 150)
        self.assertIn("malformed_rows", [f["code"] for f in report["findings"]])
        self.assertIn("130 more rows are malformed", done.stderr)
        # A bound can be set all the same.
        self.audit("--set", "on_error.max_bad=149", code=3)
        self.audit("--set", "on_error.max_bad=150")

    def test_long_names_are_cut(self):
        data = rows(90)
        for i, row in enumerate(data):
            row["uid"] = "%d" % i + "i" * 100000
            row["source"] = "%d" % (i % 45) + "\u00e9" * 100000
            row["m%d" % i + "n" * 100000] = 1
            if i % 2:
                row["question"] = data[i - 1]["question"]
        self.write_rows(data)
        self.audit("--set", "input.fields.id=uid", "--set", "input.fields.source=source")
        self.assertLess((self.dir / "saerl-audit" / "report.json").stat().st_size, 1000000)
        report = self.report()
        self.assertEqual(report["sections"]["fields"]["sources"][0]["source"], "0" + "\u00e9" * 99)
        self.assertIn('"id":"1' + "i" * 199 + '"', json.dumps(report, separators=(",", ":")))

    def test_ids_that_repeat_are_given_up(self):
        data = rows(30)
        data[7]["uid"] = data[3]["uid"]
        self.write_rows(data)
        done = self.audit("--set", "input.fields.id=uid")
        self.assertIn("repeats", done.stderr)
        self.assertEqual(self.report()["kept"], 30)
        self.assertTrue(self.report()["sections"]["fields"]["ids_repeat"])
        html = (self.dir / "saerl-audit" / "report.html").read_text()
        self.assertTrue("Ids repeat, so none are used" in html)
        # What is guessed is never an id that repeats.
        self.audit()
        self.assertFalse(self.report()["sections"]["fields"]["ids_repeat"])

    def test_what_is_told_is_not_guessed_over_even_if_it_is_the_default(self):
        data = [{"prompt": "q %d" % i, "text": "t %d" % i, "id": i // 2, "uuid": i} for i in range(30)]
        self.write_rows(data)
        done = self.audit("--set", "input.fields.id=id")
        self.assertTrue(self.report()["sections"]["fields"]["ids_repeat"])
        self.assertNotIn("uuid", done.stderr)
        done = self.audit("--set", "input.fields.id=null")
        self.assertFalse(self.report()["sections"]["fields"]["ids_repeat"])
        self.assertNotIn("'uuid'", done.stderr)

    def test_hardly_any_rows(self):
        for n in (1, 2):
            self.write_rows(rows(n))
            self.audit()
            self.assertEqual(self.report()["kept"], n)
        (self.dir / "data.jsonl").write_text('{"question": 3}\n{"question": "x y z"}\n')
        self.audit("--set", "input.fields.prompt=question")
        self.assertEqual(self.report()["kept"], 1)
        (self.dir / "data.jsonl").write_text('{"question": 3}\n')
        self.audit("--set", "input.fields.prompt=question")
        self.assertEqual(self.report()["kept"], 0)

    def test_a_prompt_that_is_nowhere(self):
        """Rows that could not be read for that still have what else they have."""
        self.write_rows(rows(20))
        done = self.audit("--set", "input.fields.prompt=nope")
        self.assertIn("row 0: prompt: field 'nope' is missing", done.stderr)
        self.assertNotIn("no row has", done.stderr)
        finding = self.report()["findings"][0]
        self.assertEqual(finding["title"], "20 rows could not be read (100 %)")
        self.assertIn("input.fields.prompt", finding["advice"])

    def test_json_prints_the_report(self):
        self.write_rows(rows(20))
        done = self.audit("--json")
        self.assertEqual(done.stdout, (self.dir / "saerl-audit" / "report.json").read_text())

    def test_colour_is_for_terminals(self):
        self.write_rows(rows(20))
        self.assertNotIn("\033", self.audit().stdout)
        self.assertIn("\033[1m", self.audit("--color", "always").stdout)

    def test_usage(self):
        self.write_rows(rows(5))
        self.refuses("an argument is missing", "audit")
        self.refuses("] [--baseline DIR]", "audit")
        self.refuses("sae.path", "audit", "data.jsonl", "--sae", "sae")
        self.refuses("sae.path", "audit", "data.jsonl", "--activations", "acts.safetensors")
        self.refuses("did you mean '--against'", "audit", "data.jsonl", "--agianst", "x")
        self.refuses("expected a file", "audit", "-")
        self.refuses("a report is a folder", "audit", "data.jsonl", "-o", "-")
        self.refuses(
            ["--baseline", "nowhere"], "audit", "data.jsonl", "--baseline", "nowhere", code=1
        )
        self.refuses("unknown key", "audit", "data.jsonl", "--set", "dedup.naer.enabled=true")
        self.assertFalse((self.dir / "saerl-audit").exists())
        self.assertFalse((self.dir / "-").exists())


class Vectors(AuditCase):
    def setUp(self):
        super().setUp()
        self.write_world(96, tokens=3, rows=rows(96))
        self.inputs = ["--activations", "acts.safetensors", "--sae", "sae"]

    def test_activations_and_sae(self):
        done = self.audit(*self.inputs)
        report = self.report()
        self.assertEqual(report["vectors"], 96)
        self.assertTrue(report["features"]["encoded"])
        self.assertGreater(report["clusters"]["count"], 0)
        self.assertNotIn("absent", report["sections"]["diversity"])
        self.assertNotIn("absent", report["sections"]["sae"])
        self.assertIn("vectors     96 of 96", done.stdout)
        self.assertIn("saelens relu", done.stderr)  # the SAE's audit line

    def test_features_in_place_of_them(self):
        self.saerl("encode", "--sae", "sae", "--activations", "acts.safetensors", "-o", "f.features")
        self.audit("--features", "f.features", "-o", "from-features")
        self.audit(*self.inputs, "-o", "encoded")
        from_features, encoded = self.report("from-features"), self.report("encoded")
        self.assertEqual(from_features["clusters"]["each"], encoded["clusters"]["each"])
        self.assertFalse(from_features["features"]["encoded"])

    def test_bare_features_do(self):
        """What a user may bring: no tokens, no reconstruction errors, no keys."""
        n, d_sae = 96, 12
        indices, values, indptr = [], [], [0]
        for i in range(n):
            for j in range(3):
                indices.append((i * 5 + j * 4) % d_sae)
            indices[-3:] = sorted(set(indices[-3:]))
            indptr.append(len(indices))
        values = [1.0 + (i % 7) for i in range(len(indices))]
        write_safetensors(
            self.dir / "mine.safetensors",
            {
                "indptr": ("I64", [n + 1], indptr),
                "indices": ("U32", [len(indices)], indices),
                "values": ("F32", [len(values)], values),
            },
            {"format": "saerl.features", "version": "1", "d_sae": str(d_sae)},
        )
        data = rows(n)
        for i, row in enumerate(data):
            row["sound"] = i % 5
            row["difficulty"] = (i * 7 % 11) / 10
        self.write_rows(data)
        self.audit("--features", "mine.safetensors", "--set", "input.fields.quality=sound")
        report = self.report()
        self.assertEqual(report["quality"]["source"], "fit")
        self.assertEqual(report["difficulty"]["source"], "fit")

    def test_labels_are_fitted_and_a_weak_proxy_is_no_failure(self):
        data = rows(96)
        rng = random.Random(5)
        for row in data:
            row["rewards"] = [float(rng.random() < 0.5) for _ in range(4)]
        self.write_rows(data)
        done = self.audit(*self.inputs)
        report = self.report()
        self.assertEqual(report["difficulty"]["source"], "fit")
        self.assertTrue(report["difficulty"]["forced"])
        self.assertEqual(report["sections"]["difficulty"]["rewards"]["rows"], 96)
        self.assertIn("TOO WEAK TO ORDER BY", done.stdout)
        # As in a run where that is asked for.
        self.audit(*self.inputs, "--set", "difficulty.force=false", code=1)

    def test_a_probe_takes_the_place_of_a_fit(self):
        data = rows(96)
        for i, row in enumerate(data):
            row["difficulty"] = (i * 7 % 11) / 10
        self.write_rows(data)
        write_jsonl(
            self.dir / "labels.jsonl",
            [{"row": i, "label": row["difficulty"]} for i, row in enumerate(data)],
        )
        self.saerl("encode", "--sae", "sae", "--activations", "acts.safetensors", "-o", "f.st")
        self.saerl(
            "fit", "difficulty", "--features", "f.st", "--labels", "labels.jsonl", "-o", "d.st"
        )
        self.audit("--features", "f.st", "--set", "difficulty.probe=d.st")
        self.assertEqual(self.report()["difficulty"]["source"], "probe")

    def test_labels_that_nothing_can_be_fitted_on(self):
        data = rows(96)
        data[3]["difficulty"] = 0.5
        self.write_rows(data)
        done = self.audit(*self.inputs, "--set", "input.fields.difficulty=difficulty")
        self.assertIsNone(self.report()["difficulty"])
        self.assertIn("no difficulty model", done.stderr)

    def test_count_must_agree(self):
        self.write_rows(rows(95))
        self.refuses(["96", "95"], "audit", "data.jsonl", *self.inputs, code=1)
        self.assertFalse((self.dir / "saerl-audit").exists())

    def test_rejected_activations_are_told(self):
        values = [((i * 7) % 13 - 6) / 4 for i in range(96 * 3 * self.D_IN)]
        values[5] = float("nan")
        self.write_world(96, tokens=3, rows=rows(96), values=values)
        self.audit(*self.inputs)
        self.assertEqual(self.report()["reasons"], {"nonfinite": 1})

    def test_the_same_bytes_at_any_number_of_threads(self):
        data = rows(96)
        for i, row in enumerate(data):
            row["source"] = "ab"[i % 2]
            row["rewards"] = [float(i % 3 > 0), 1.0, float(i % 5 > 1)]
        self.write_rows(data + [])
        self.audit(*self.inputs, "--threads", "1", "-o", "one")
        self.audit(*self.inputs, "--threads", "2", "-o", "two", "-q", "--color", "always")
        self.assertEqual(folder_bytes(self.dir / "one"), folder_bytes(self.dir / "two"))

    def test_memory_is_bounded_as_in_a_run(self):
        self.refuses(
            "resources.memory", "audit", "data.jsonl", *self.inputs,
            "--set", "resources.memory=1000", code=1,
        )

    def test_interrupted_nothing_is_left(self):
        self.write_world(96, tokens=3, rows=rows(96))
        data = rows(4000)
        for i, row in enumerate(data):
            row["question"] = row["question"] * (1 + i % 60)
        self.write_rows(data)
        process = subprocess.Popen(
            [PROGRAM, "audit", "data.jsonl", "-o", "cut"],
            cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        # Once the first stage is told, the next ones are at work.
        for line in process.stderr:
            if line.startswith("parse"):
                break
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, stderr)
        self.assertIn("interrupted: nothing was written to cut", stderr)
        self.assertEqual([p.name for p in self.dir.glob("cut*")], [])
        self.assertEqual(stdout, "")


class Against(AuditCase):
    def test_leaked_items_are_flagged_and_counted(self):
        data = rows(50)
        benchmark = [{"problem": sentence(random.Random(100 + i), 20)} for i in range(4)]
        data[11]["question"] = benchmark[2]["problem"]
        self.write_rows(data)
        self.write_rows(benchmark, "math.jsonl")
        self.write_rows([{"problem": "another thing altogether"}], "clean.jsonl")
        done = self.audit("--against", "math.jsonl", "clean.jsonl")
        report = self.report()
        self.assertEqual(report["kept"], 50)
        self.assertEqual(report["flags"]["contaminated"], 1)
        self.assertEqual(report["measures"]["contaminated"], {"value": 1, "of": 50})
        self.assertIn("math.jsonl 1", done.stdout)
        self.assertEqual(report["findings"][0]["code"], "leaked_items")
        self.assertEqual(report["verdict"]["state"], "not_ready")


class Gates(AuditCase):
    def setUp(self):
        super().setUp()
        data = rows(50)
        for i in range(5):
            data[40 + i]["question"] = data[i]["question"]
        self.write_rows(data)

    def test_a_gate_that_is_hit(self):
        done = self.audit("--fail-on", "rows > 1 and duplicates > 1%", code=4)
        self.assertIn("rows > 1: 50\n", done.stderr)
        self.assertIn("duplicates > 1%: 5 of 50 (10.0 %)\n", done.stderr)
        self.assertIn("saerl-audit/report.html", done.stderr.splitlines()[-1])
        # The report is there, and so is the summary.
        self.assertEqual(self.report()["rows"], 50)
        self.assertIn("50 rows in", done.stdout)
        self.audit("--fail-on", "not kept >= 46", code=4)
        json.loads(self.audit("--fail-on", "duplicates == 10%", "--json", code=4).stdout)

    def test_a_gate_that_is_not(self):
        self.audit("--fail-on", "duplicates > 10% or malformed > 0")
        self.audit("--fail-on", "(duplicates < 1 or exact_duplicates != 5) and rows > 1")

    def test_mistakes_cost_no_work(self):
        for expression, words in (
            ("duplicates >", "expected a number"),
            ("duplicate > 1", ["column 1", "did you mean 'duplicates'?"]),
            ("duplicates > 1 ) ", "column 16"),
            ("contaminated > 0", "not known without --against"),
            ("rows > 1 or drift > 0.2", "not known without --baseline"),
            ("l0 < 5", "--features"),
            ("explained_variance < 0.5", "--activations"),
        ):
            done = self.refuses(words, "audit", "data.jsonl", "--fail-on", expression)
            self.assertNotIn("parse:", done.stderr)
        self.assertFalse((self.dir / "saerl-audit").exists())

    def test_what_is_not_known_afterwards_is_a_failure(self):
        """No rewards: their variance is not 0, it is unknown. The report is written."""
        done = self.audit("--fail-on", "zero_variance > 5%", code=1)
        self.assertIn("'zero_variance' is not known", done.stderr)
        self.assertEqual(self.report()["rows"], 50)

    def test_help_lists_every_measure_of_the_report(self):
        text = self.saerl("audit", "--help").stdout
        self.audit()
        for name in self.report()["measures"]:
            self.assertRegex(text, r"(?m)^  %s " % name)

    def test_every_measure_is_in_the_report(self):
        text = self.saerl("audit", "--help").stdout
        listed = re.search(r"measures, for --fail-on.*?:\n(.*?)\n\n", text, re.S).group(1)
        names = {line.split()[0] for line in listed.splitlines()}
        self.audit()
        self.assertEqual(set(self.report()["measures"]), names)


class Folder(AuditCase):
    def setUp(self):
        super().setUp()
        self.write_rows(rows(20))

    def test_an_earlier_audit_is_replaced(self):
        self.audit("-o", "a/b")
        before = folder_bytes(self.dir / "a/b")
        self.write_rows(rows(21))
        self.audit("-o", "a/b/")
        self.assertNotEqual(folder_bytes(self.dir / "a/b"), before)
        self.assertEqual(sorted(folder_bytes(self.dir / "a/b")), ["report.html", "report.json"])
        self.assertEqual([p.name for p in (self.dir / "a").iterdir()], ["b"])
        (self.dir / "empty").mkdir()
        self.audit("-o", "empty")
        (self.dir / "link").symlink_to("empty")
        self.audit("-o", "link")
        self.assertTrue((self.dir / "link").is_symlink())

    def test_the_current_folder_can_be_replaced(self):
        (self.dir / "here").mkdir()
        for _ in range(2):
            done = subprocess.run(
                [PROGRAM, "audit", "../data.jsonl", "-o", ".", "-q"],
                cwd=self.dir / "here", capture_output=True, text=True, timeout=120,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(
                sorted(p.name for p in (self.dir / "here").iterdir()),
                ["report.html", "report.json"],
            )

    def test_anything_else_is_a_conflict_and_stays(self):
        (self.dir / "file").write_text("mine")
        self.refuses("there is a file", "audit", "data.jsonl", "-o", "file", code=5)
        (self.dir / "mine").mkdir()
        (self.dir / "mine" / "notes.txt").write_text("mine")
        done = self.refuses("'notes.txt'", "audit", "data.jsonl", "-o", "mine", code=5)
        self.assertNotIn("parse:", done.stderr)
        self.assertEqual([p.name for p in (self.dir / "mine").iterdir()], ["notes.txt"])
        (self.dir / "other").mkdir()
        (self.dir / "other" / "report.json").write_text('{"kind": "run"}')
        self.refuses("not that of an audit", "audit", "data.jsonl", "-o", "other", code=5)
        (self.dir / "other" / "report.json").rename(self.dir / "other" / "report.html")
        self.refuses("holds no report.json", "audit", "data.jsonl", "-o", "other", code=5)

    def test_a_run_is_not_replaced_and_has_a_summary_of_the_same_kind(self):
        self.write_world(64, rows=rows(64))
        self.write_recipe("batches: {size: 16}\n")
        recipe = (self.dir / "recipe.yaml").read_text()
        (self.dir / "recipe.yaml").write_text(
            recipe.replace("input: {", "input: {fields: {prompt: question, id: uid}, ")
        )
        done = self.saerl("run", "recipe.yaml", "-o", "out")
        self.assertIn("64 rows in, 64 kept (100 %)", done.stdout)
        self.assertIn("batches     4 of 16", done.stdout)
        for line in ("out/report.html", "out/kept.jsonl", "saerl explain out ID"):
            self.assertIn(line, done.stdout)
        again = self.saerl("run", "recipe.yaml", "-o", "out").stdout
        self.assertIn("finished already", again)
        self.assertIn(re.sub("took .*\n", "", done.stdout), again)
        self.refuses("out", "audit", "data.jsonl", "-o", "out", code=5)
        # Left as it is, a run without report.json cannot print one.
        page = ["run", "recipe.yaml", "-o", "page", "--set", "output.report=[html]"]
        self.assertIn("page/report.html", self.saerl(*page).stdout)
        self.assertIn("finished already", self.saerl(*page).stdout)
        self.refuses("no report.json", *page, "--json", code=1)


class Private(AuditCase):
    """What must not be shown is nowhere in either file."""

    def setUp(self):
        super().setUp()
        data = rows(96)
        for i, row in enumerate(data):
            row["question"] = "CANARYPROMPT " + row["question"] + " CANARYPROMPT%d" % i
            row["answer"] = "CANARYANSWER%d" % (i % 7)
            row["uid"] = "CANARYID%d" % i
            row["source"] = "CANARYSOURCE%d" % (i % 2)
            row["rewards"] = [0.0, float(i % 2)]
            row["other"] = "CANARYOTHER"
        data[44]["answer"] = {"CANARYANSWER": 1}
        # Pairs, conflicts and a leak: everything that lists samples has some.
        for i in range(8):
            data[80 + i]["question"] = data[i]["question"]
            data[88 + i]["question"] = data[i + 20]["question"] + " more"
        self.write_world(96, tokens=3, rows=data)
        lines = (self.dir / "data.jsonl").read_text().splitlines()
        lines[40] = '{"question": "CANARYBROKEN'
        lines[41] = '{"question": {"text": "CANARYSHAPE"}, "uid": "x"}'
        lines[42] = json.dumps({**data[42], "rewards": "CANARYREWARD"})
        (self.dir / "data.jsonl").write_text("\n".join(lines) + "\n")
        self.write_rows([{"question": data[5]["question"]}], "bench.jsonl")

    def read(self, *more):
        self.audit(
            "--activations", "acts.safetensors", "--sae", "sae", "--against", "bench.jsonl", *more,
        )
        return "".join(
            (self.dir / "saerl-audit" / name).read_text() for name in ("report.json", "report.html")
        )

    def canaries(self, text):
        return set(re.findall(r"CANARY[A-Z]+", text))

    def test_all_is_there_otherwise(self):
        found = self.canaries(self.read())
        self.assertLessEqual({"CANARYPROMPT", "CANARYANSWER", "CANARYID", "CANARYSOURCE"}, found)

    def test_no_samples_no_text(self):
        # Names of sources stand in tables, not in samples.
        self.assertLessEqual(
            self.canaries(self.read("--set", "output.samples_in_report=0")), {"CANARYSOURCE"}
        )

    def test_redacted_fields_are_nowhere(self):
        text = self.read("--set", "output.redact=[prompt, answer, id, source]")
        self.assertEqual(self.canaries(text), set())

    def test_each_field_can_be_redacted_by_itself(self):
        for field in ("prompt", "answer", "id", "source"):
            with self.subTest(field):
                found = self.canaries(self.read("--set", "output.redact=[%s]" % field))
                self.assertNotIn("CANARY" + field.upper(), found)


if __name__ == "__main__":
    unittest.main()
