#!/usr/bin/env python3
"""Reports as docs/report.md has them, made up: report_sample.py KIND > report.json

    healthy    nothing to find
    problems   something of every finding
    hostile    texts and names that try to be more than text
    huge       more of everything than a page of 2 MB can hold
    text_only  no vectors: sections that say why they are absent

Seeded: the same bytes every time. Standard library only.
"""

import json
import math
import random
import sys

SOURCES = ["gsm8k", "deepmath", "olympiad", "numina-cn", "aops-forum"]
PROBLEMS = [
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?",
    "Let $f(x) = x^3 - 3x + 1$. Find the sum of the squares of its real roots.",
    "Find all primes $p$ such that $p^2 + 2$ is also prime.",
    "A train leaves at 9:15 and travels 240 km at 80 km/h.\nAt what time does it arrive?",
    "In triangle $ABC$, $AB = 13$, $BC = 14$, $CA = 15$. Let $D$ be the foot of the altitude from "
    "$A$. Compute $AD$.",
    "How many ways are there to tile a $2 \\times 10$ board with dominoes?",
    "Evaluate $\\int_0^{\\pi/2} \\frac{\\sin x}{\\sin x + \\cos x}\\,dx$.",
    "The sum of two numbers is 31 and their difference is 7. What is the larger number?",
]
LABELS = ["arithmetic word problems", "modular arithmetic", "definite integrals", "triangle geometry",
          "counting with dominoes", "LaTeX fractions", "primes", "units of time", None]
HOSTILE = [
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "\u202egnp.exe\u2069\u2066 turned",
    "nul \u0000 bell \u0007 escape \u001b[2J",
    "</style><style>body{display:none}</style>",
    "<!--", "]]>", "&lt;already&gt; &amp;amp;", "javascript:alert(1)", "https://example.org/x?a=1&b=2",
    "\ufeff\u200e\u2028\U000e0041 invisible",
    "=HYPERLINK(\"x\")", "a" * 1000, "\u0301" * 300, "\u0001" * 400, "\"'<>&" * 80, "",
    "line\nfeed\r\ttab", "\u6570\u5b66\u9898" * 40, "\U0001f600" * 50,
]


class Maker:
    def __init__(self, kind):
        self.kind = kind
        self.random = random.Random("report " + kind)
        self.rows = {"healthy": 103022, "problems": 9000, "hostile": 700, "huge": 2000000,
                     "text_only": 5000}[kind]
        self.lists = {"huge": 60}.get(kind, 5)
        self.sources = SOURCES
        if kind == "hostile":
            self.sources = [s[:200] for s in HOSTILE[:12]]
        if kind == "huge":
            self.sources = [f"source-{i:03}" for i in range(40)]
        self.vectors = kind != "text_only"

    def text(self):
        if self.kind == "hostile":
            return self.random.choice(HOSTILE)
        text = self.random.choice(PROBLEMS)
        return (text + " ") * 3 if self.kind == "huge" else text

    def name(self):
        return self.random.choice(HOSTILE if self.kind == "hostile" else
                                  ["task", "item", "problem"])

    def sample(self, note=None, **more):
        r = self.random
        row = r.randrange(self.rows)
        kept = r.random() < 0.7
        text = self.text()[:400]
        sample = {"row": row, "id": f"{self.name()}-{row:06}", "source": r.choice(self.sources),
                  "text": text, "clipped": r.choice([0, 0, 120]), "answer": str(r.randrange(100)),
                  "kept": kept, "reason": None if kept else r.choice(["duplicate", "quality"]),
                  "quality": round(r.random(), 4), "difficulty": round(r.random(), 4),
                  "pass_rate": r.choice([None, 0.25, 0.75]), "cluster": r.randrange(64),
                  "batch": r.randrange(500) if kept else None, "note": note}
        if not self.vectors:
            sample.update(quality=None, difficulty=None, cluster=None)
        if self.kind == "hostile" and r.random() < 0.2:
            sample.update(text=None, redacted=["prompt"])
        sample.update(more)
        return sample

    def samples(self, note=None, n=None):
        return [self.sample(note) for _ in range(n or self.lists)]

    def bell(self, n, middle, width, total):
        weight = [math.exp(-((i + 0.5) / n - middle) ** 2 / (2 * width ** 2)) for i in range(n)]
        return [int(total * w / sum(weight) * self.random.uniform(0.9, 1.1)) for w in weight]

    def histogram(self, n, lo, hi, middle=0.5, width=0.2, names=None):
        edges = [round(lo + (hi - lo) * i / n, 6) for i in range(n + 1)]
        if not names:
            return {"edges": edges, "counts": self.bell(n, middle, width, self.rows)}
        return {"edges": edges,
                "series": [{"name": name, "counts": self.bell(n, middle + 0.05 * i, width, self.rows)}
                           for i, name in enumerate(names)]}

    def latent(self, **more):
        label = self.name() if self.kind == "hostile" else self.random.choice(LABELS)
        return {"latent": self.random.randrange(16384), "label": label, **more}

    def summary(self, mean, sd):
        return {"n": self.rows, "mean": mean, "sd": sd, "min": mean / 10, "p5": mean / 4,
                "p25": mean / 2, "p50": mean * 0.9, "p75": mean * 1.3, "p95": mean * 2.4,
                "max": mean * 31}

    def spans(self, text):
        return [[0, min(20, len(text.encode()))]] if text else []

    # Sections, in the order of docs/report.md.

    def fields(self):
        r = self.random
        rows = self.rows
        return {
            "guessed": True, "rows": rows, "malformed": 3 if self.kind != "healthy" else 0,
            "map": [{"field": f, "path": p, "present": rows - m, "missing": m} for f, p, m in
                    [("id", "id", 0), ("prompt", "question", 0), ("answer", "answer", 12),
                     ("source", "meta.source", 0), ("difficulty", None, rows)]],
            "columns_of": min(rows, 5000), "columns_beyond": 3, "problems_beyond": 0,
            "columns": [{"path": f"{self.name()}{i}", "types": {"string": rows - 10, "null": 10}}
                        for i in range(400 if self.kind == "huge" else 6)],
            "length": {"unit": "words", "summary": self.summary(61.2, 40.1),
                       "histogram": self.histogram(24, 0, 240, 0.2, 0.12)},
            "tokens": {"unit": "tokens", "summary": self.summary(110.4, 70.9),
                       "histogram": self.histogram(24, 0, 480, 0.2, 0.12)} if self.vectors else None,
            "problems": [{"row": 17 + i, "problem": self.name() + ": not an object", "rows": 1}
                         for i in range(0 if self.kind == "healthy" else 3)],
            "sources": [{"source": s, "rows": rows // (i + 2), "kept": rows // (i + 3),
                         "words_mean": r.uniform(30, 90), "difficulty_mean": r.random(),
                         "quality_mean": r.random(), "pass_rate_mean": None if i % 2 else r.random()}
                        for i, s in enumerate(self.sources)],
            "sources_beyond": 4 if self.kind == "huge" else 0,
            "odd": self.samples("half of it is one character repeated") if self.kind != "healthy" else [],
        }

    def funnel(self):
        stages, left = [], self.rows
        names = ["parse", "exact duplicates", "near duplicates", "contamination", "vectors",
                 "zero variance", "quality", "difficulty window", "limit"]
        shares = [0, 0.012, 0.033, 0.0006, 0, 0.17, 0.1, 0, 0]
        for name, share in zip(names, shares):
            dropped = int(left * share)
            stages.append({"stage": name, "in": left, "dropped": dropped})
            left -= dropped
        by_source = []
        for i, source in enumerate(self.sources):
            rows = self.rows // (i + 2)
            dropped = [int(rows * share * self.random.uniform(0.2, 2)) for share in shares]
            by_source.append({"source": source, "rows": rows, "kept": rows - sum(dropped),
                              "dropped": dropped})
        self.kept = left
        return {"rows": self.rows, "kept": left, "stages": stages, "by_source": by_source}

    def difficulty(self):
        r = self.random
        if not self.vectors:
            return {"absent": "no difficulty: there are neither labels nor vectors to fit them to; "
                              "input.fields.difficulty or input.fields.rewards would change it"}
        n = 24
        counts = [[int(400 * math.exp(-((x - y) / 5) ** 2) * r.random()) for x in range(n)]
                  for y in range(n)]
        edges = [i / n for i in range(n + 1)]
        return {
            "source": "fit", "label": "rewards", "labelled": self.rows, "spearman": 0.62,
            "interval": [0.6, 0.64], "length_spearman": 0.18, "r2": 0.41, "mae": 0.12,
            "forced": False, "window": [0.05, 0.95],
            "predicted": self.histogram(40, 0, 1, 0.45, 0.18),
            "observed": self.histogram(40, 0, 1, 0.5, 0.3),
            "scatter": {"x_edges": edges, "y_edges": edges, "counts": counts},
            "calibration": [{"n": 1000 + 200 * i, "predicted": (i + 0.5) / 10,
                             "observed": min(1, max(0, (i + 0.5) / 10 + r.uniform(-0.06, 0.06)))}
                            for i in range(10)],
            "rewards": {"rows": self.rows, "pass_rate": self.histogram(9, 0, 1, 0.6, 0.3),
                        "zero_variance": self.rows // 6, "all_solved": self.rows // 9,
                        "never_solved": self.rows // 18, "band": [0.1, 0.9],
                        "in_band": int(self.rows * 0.61)},
            "by_source": [{"source": s, "n": self.rows // (i + 2), "p5": 0.05 + 0.03 * (i % 9),
                           "p25": 0.2 + 0.04 * (i % 9), "p50": 0.35 + 0.05 * (i % 9),
                           "p75": 0.5 + 0.04 * (i % 9), "p95": 0.62 + 0.04 * (i % 9)}
                          for i, s in enumerate(self.sources)],
            "latents": [self.latent(weight=round(r.gauss(0, 0.1), 4)) for _ in range(12)],
            "easiest": self.samples(), "hardest": self.samples(),
            "surprises": self.samples("predicted 0.91, observed 0.10"),
        }

    def quality(self):
        if not self.vectors:
            return {"absent": "no quality: there are no vectors to score; activations or features "
                              "would change it"}
        q = sorted(min(1.0, max(0.0, self.random.gauss(0.62, 0.17))) for _ in range(201))
        return {
            "source": "fit", "labelled": 800, "spearman": 0.55, "auroc": 0.81,
            "length_spearman": -0.07, "r2": 0.3, "rule": "keep the top 90 %", "threshold": q[20],
            "scored": self.rows, "histogram": self.histogram(50, 0, 1, 0.62, 0.17),
            "quantiles": q, "dropped": self.rows // 10, "saved_by_cluster": 41,
            "latents": [self.latent(weight=round(self.random.gauss(0, 0.1), 4)) for _ in range(12)],
            "lowest": self.samples(), "borderline": self.samples(), "highest": self.samples(),
        }

    def diversity(self):
        r = self.random
        if not self.vectors:
            return {"absent": "no clusters: there are no vectors; activations or features would "
                              "change it"}
        k = 400 if self.kind == "huge" else 64
        sizes = sorted((int(self.rows / k * math.exp(r.gauss(0, 0.7))) for _ in range(k)), reverse=True)
        centres = [(r.gauss(0, 1), r.gauss(0, 0.8)) for _ in range(k)]
        n = 50 if self.kind == "huge" else 34
        dx = 6 / n
        dy = dx * math.sqrt(3) / 2
        cells = []
        for j in range(-n // 2, n // 2):
            for i in range(-n // 2, n // 2):
                x, y = (i + (j % 2) / 2) * dx, j * dy
                near = min(range(min(k, 64)), key=lambda c: (centres[c][0] - x) ** 2 +
                           (centres[c][1] - y) ** 2)
                density = sum(math.exp(-((c[0] - x) ** 2 + (c[1] - y) ** 2) / 0.05)
                              for c in centres[:64])
                if density > 0.3:
                    cells.append({"x": round(x, 4), "y": round(y, 4), "n": int(density * 40) + 1,
                                  "cluster": near, "share": round(r.uniform(0.4, 1), 3),
                                  "difficulty": round(r.random(), 3), "quality": round(r.random(), 3)})
        cards = []
        for c in range(k if self.kind == "huge" else 24):
            cards.append({
                "cluster": c, "size": sizes[c], "kept": int(sizes[c] * 0.7),
                "share": sizes[c] / self.rows, "mean_difficulty": r.random(),
                "mean_quality": r.random(), "difficulty": self.bell(10, r.random(), 0.2, sizes[c]),
                "recon_mean": r.random(), "words_mean": r.uniform(20, 90),
                "source": r.choice(self.sources), "source_share": r.random(),
                "garbage": 0.9 if self.kind == "problems" and c == 3 else 0.0,
                "latents": [self.latent(within=r.uniform(0.5, 1), overall=r.uniform(0, 0.2))
                            for _ in range(6)],
                "central": self.samples(n=3), "edge": self.samples(n=1)})
        return {"rows": self.rows, "clusters": k, "effective": k * 0.55,
                "largest_share": sizes[0] / self.rows, "source_nmi": 0.31, "silhouette": 0.12,
                "map": {"method": "first two principal components of the features", "dx": dx,
                        "dy": dy, "cells": cells},
                "sizes": sizes, "cards": cards, "cards_beyond": k - len(cards)}

    def duplicates(self):
        r = self.random
        pairs = []
        for i in range(40 if self.kind == "huge" else 8):
            a, b = self.sample(), self.sample(kept=False, reason="duplicate")
            pairs.append({"kind": ["exact", "near", "sae"][i % 3], "similarity": 1 - 0.02 * (i % 8),
                          "group": 2 + i, "kept": a, "dropped": b,
                          "spans": {"kept": self.spans(a["text"]), "dropped": self.spans(b["text"])}})
        return {
            "exact": {"rows": 1204, "groups": 400, "largest": 17},
            "near": {"rows": 3377, "groups": 812, "largest": 44, "jaccard": 0.8},
            "sae": {"rows": 91, "groups": 40, "largest": 5, "cosine": 0.98} if self.vectors else None,
            "conflicting": 12, "group_sizes": [{"size": s, "groups": 900 // s ** 2 + 1} for s in
                                               (2, 3, 4, 5, 8, 17, 44)],
            "between_sources": [{"a": r.choice(self.sources), "b": r.choice(self.sources),
                                 "rows": 400 // (i + 1), "share": 0.4 / (i + 1)}
                                for i in range(6)],
            "pairs": pairs,
            "conflicts": [{"a": self.sample(answer="4"), "b": self.sample(answer="5")}
                          for _ in range(3)]}

    def contamination(self):
        if self.kind == "text_only":
            return {"absent": "no benchmark was named; --against FILE or decontaminate.against "
                              "would change it"}
        hits = []
        for i in range(12 if self.kind != "healthy" else 0):
            sample, item = self.sample(), self.text()[:400]
            hits.append({"sample": sample, "benchmark": "math500.jsonl", "item": 17 * i,
                         "item_text": item, "item_clipped": 0, "shared": 13 + i,
                         "covered": round(0.9 ** i, 3),
                         "spans": {"sample": self.spans(sample["text"]), "item": self.spans(item)},
                         "likely_false": i % 5 == 4})
        hit = len(hits) > 0
        return {"ngram": 13, "action": "drop", "rows": self.rows, "rows_hit": 61 * hit,
                "rows_likely_false": 4 * hit,
                "against": [{"name": "math500.jsonl", "items": 500, "items_hit": 44 * hit,
                             "rows_hit": 49 * hit, "rows_likely_false": 0,
                             "verdict": "leaked" if hit else "clean"},
                            {"name": "aime24.jsonl", "items": 30, "items_hit": 3 * hit,
                             "rows_hit": 12 * hit, "rows_likely_false": 4 * hit,
                             "verdict": "partial" if hit else "clean"}],
                "hits": hits}

    def sae(self):
        r = self.random
        if not self.vectors:
            return {"absent": "no SAE: there are no activations; input.activations and sae.path "
                              "would change it"}
        cards = []
        n = 20 if self.kind != "huge" else 200
        for i in range(n):
            top = [self.sample(value=round(9 - 0.7 * j, 3)) for j in range(3)]
            cards.append(self.latent(rows=int(self.rows * r.random() ** 3), share=r.random() ** 3,
                                     mean=r.uniform(0.5, 3), max=r.uniform(4, 12),
                                     histogram=self.histogram(20, 0, 10, 0.1, 0.2),
                                     why=["densest", "difficulty", "quality", "cluster"][4 * i // n],
                                     weight=round(r.gauss(0, 0.5), 4) if 1 <= 4 * i // n <= 2 else None,
                                     cluster=i if 4 * i // n == 3 else None, top=top))
        return {"lines": ["L0 61 (p95 88), explained variance 0.81, dead 3.1 %"],
                "d_in": 1536, "d_sae": 16384, "l0": {"median": 61, "p95": 88, "declared": 64},
                "explained_variance": 0.81, "dead": 0.031, "dense": 0.0004,
                "sinks": {"tokens": 1021, "share": 0.004}, "norm_median": 41.2,
                "norm_expected": 40.1, "rejected": 0, "empty": 0, "recon_beyond": 2,
                "active_latents": self.histogram(30, 0, 600, 0.4, 0.15),
                "frequency": {"edges": [-5 + 0.25 * i for i in range(21)],
                              "counts": self.bell(20, 0.4, 0.2, 16384)},
                "silent": 512, "recon": self.histogram(30, 0, 1, 0.2, 0.1),
                "suspicion": {"score": 0.9 if self.kind == "problems" else 0.0,
                              "reasons": ["explained variance is 0.11", "L0 is 9 times the declared"]
                              if self.kind == "problems" else []},
                "cards": cards}

    def curriculum(self):
        r = self.random
        n = 2000 if self.kind == "huge" else 200
        mean = [0.15 + 0.7 * i / n + r.gauss(0, 0.02) for i in range(n)]
        clusters = list(range(20)) + [-1]
        columns = min(n, 100)
        return {
            "batches": n, "size": 128, "order": "easy_to_hard", "of_one_cluster": n // 2,
            "mixing": 0.2, "unbatched": 21,
            "timeline": {"batch": list(range(n)), "difficulty": mean,
                         "low": [m - 0.1 for m in mean], "high": [m + 0.12 for m in mean],
                         "entropy": [abs(r.gauss(1.2, 0.5)) for _ in range(n)],
                         "clusters": [r.randrange(1, 9) for _ in range(n)],
                         "quality": [r.gauss(0.6, 0.03) for _ in range(n)], "per_point": 1},
            "map": {"batches_per_column": n // columns, "clusters": clusters,
                    "counts": [[r.choice([0, 0, 0, 10, 60]) for _ in clusters]
                               for _ in range(columns)]},
            "shown": [{"which": w, "batch": b, "cluster": 3, "rows": 128,
                       "samples": self.samples(), "beyond": 128 - self.lists}
                      for w, b in (("first", 0), ("middle", n // 2), ("last", n - 1))]}

    def baseline(self):
        if self.kind in ("healthy", "text_only"):
            return {"absent": "no earlier report was named; --baseline DIR would change it"}
        return {
            "name": "run-2024-11", "program": "saerl 0.1.0", "rows": [self.rows - 900, self.rows],
            "numbers": [{"name": n, "before": a, "after": b} for n, a, b in
                        [("kept", 7001, 7400), ("duplicates", 100, 904), ("l0_median", 61, None)]],
            "distributions": [{"name": name, "psi": psi, "limit": 0.25,
                               "edges": [scale * (i / 10) ** 2 for i in range(11)],
                               "before": [0.1] * 10,
                               "after": [a / self.rows for a in self.bell(10, m, w, self.rows)]}
                              for name, psi, m, w, scale in [("difficulty", 0.31, 0.6, 0.3, 1),
                                                             ("words", 0.02, 0.5, 2, 400)]],
            "sources": {"js": 0.01, "psi": 0.05, "limit": 0.25,
                        "each": [{"source": s, "before": 0.2, "after": 0.15 + 0.02 * i}
                                 for i, s in enumerate(self.sources)] +
                        [{"source": None, "before": 0, "after": 0.05}]},
            "latents": [self.latent(before=0.01, after=0.08, z=9.1) for _ in range(8)],
            "changed": {"gained": 500, "lost": 101, "entered": 77, "left": 12,
                        "samples": self.samples("kept before, dropped now")}}

    def repeat(self):
        return {"command": "saerl audit tasks.jsonl --set note=" + self.name(),
                "recipe": "# saerl 0.1.0\nname: deepmath-v1\nseed: 42\ninput:\n  data: [tasks.jsonl]\n",
                "inputs": [{"role": "data", "name": self.name() + ".jsonl", "bytes": 124000123,
                            "xxh3_128": "0123456789abcdef0123456789abcdef"}],
                "program": "saerl 0.1.0", "seed": 42,
                "citation": "@misc{saerl, title = {saerl}, note = {curation by SAE features}}"}

    def findings(self):
        if self.kind in ("healthy",):
            return [{"code": "few_labels", "severity": "note", "section": "quality",
                     "title": "Quality was judged by 800 labels", "share": 0.008,
                     "meaning": "The interval of its correlation is wide.",
                     "advice": "Label 1,000 more, or leave quality.keep at its default.",
                     "samples": []}]
        if self.kind == "text_only":
            return [{"code": "unordered", "severity": "warning", "section": "curriculum",
                     "title": "There is nothing to order 5,000 samples by", "share": None,
                     "meaning": "Neither labels nor vectors are there: the batches are in the order "
                                "of the file.",
                     "advice": "Name a column with input.fields.difficulty.", "samples": []}]
        list_ = [
            ("wrong_layer", "problem", "sae", "Activations look as if they were of another layer"),
            ("leaked_items", "problem", "contamination", "61 samples share text with 53 items of 2 benchmarks"),
            ("duplicated_source", "problem", "duplicates", "aops-forum is, for 92 %, a copy of olympiad"),
            ("length_confound", "warning", "difficulty", "Difficulty is little more than length"),
            ("garbage_cluster", "warning", "diversity", "Cluster 3 holds 411 texts that are no language"),
            ("duplicates", "warning", "duplicates", "4,581 samples repeat another one"),
            ("zero_variance", "warning", "difficulty", "16.7 % of the groups have no reward variance"),
            ("malformed", "note", "fields", "3 rows could not be read"),
            ("few_labels", "note", "quality", "Quality was judged by 800 labels"),
        ]
        return [{"code": code, "severity": severity, "section": section,
                 "title": title if self.kind != "hostile" else title + " " + self.name(),
                 "share": round(self.random.random() / 5, 4),
                 "meaning": "Numbers that rest on this cannot be trusted, and a policy trained on it "
                            "would learn the wrong thing.",
                 "advice": "Set decontaminate.action: drop, or take the source out of input.data.",
                 "samples": self.samples("it shares 14 words with item 17")}
                for code, severity, section, title in list_]

    def report(self):
        sections = {name: getattr(self, name)() for name in
                    ["fields", "funnel", "difficulty", "quality", "diversity", "duplicates",
                     "contamination", "sae", "curriculum", "baseline", "repeat"]}
        findings = self.findings()
        worst = {f["severity"] for f in findings}
        state = "not_ready" if "problem" in worst else "warnings" if "warning" in worst else "ready"
        return {
            "format": "saerl.report", "version": 2, "kind": "audit", "program": "saerl 0.1.0",
            "name": HOSTILE[0] if self.kind == "hostile" else "deepmath-v1", "seed": 42,
            "rows": self.rows, "kept": self.kept, "vectors": self.rows if self.vectors else 0,
            "verdict": {"state": state,
                        "sentence": {"ready": "Nothing stands in the way of training on this.",
                                     "warnings": "Look at what follows before training on this.",
                                     "not_ready": "Do not train on this as it is."}[state]},
            "findings": findings,
            "measures": {"duplicates": {"value": 4581, "of": self.rows}},
            "sections": sections}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in ("healthy", "problems", "hostile", "huge", "text_only"):
        sys.exit(__doc__)
    json.dump(Maker(sys.argv[1]).report(), sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
