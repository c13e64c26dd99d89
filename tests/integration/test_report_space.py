"""The report's sections on the SAE and on diversity: planted damage is found, sound data is not."""

import array
import json
import random
import shutil
import struct
import unittest

from saerl_case import DEMO, SaerlCase, read_jsonl, read_safetensors, write_jsonl, write_safetensors

OURS = {"sae", "diversity"}
WORDS = """time year people way day man thing woman life child world school state family student
group country problem hand part place case week company system program question work government
number night point home water room mother area money story fact month lot right study book eye job
word business issue side kind head house service friend father power hour game line end member law
car city community name president team minute idea body information back parent face others level
office door health person art war history party result change morning reason research girl guy
moment air teacher force education""".split()


def sentence(rng):
    return "Tell me how the %s of a %s would %s the %s when %d of them meet %d." % (
        *rng.choices(WORDS, k=4), rng.randrange(1000), rng.randrange(1000))


def keys_hit_at_random(rng):
    return " ".join(
        "".join(rng.choices("qzxjkvwpfgh", k=rng.randrange(6, 14))) for _ in range(12))


class ReportCase(SaerlCase):
    def report(self, *args):
        self.saerl("run", "recipe.yaml", "-o", "out", "-q", *args)
        return json.loads((self.dir / "out" / "report.json").read_text())

    def ours(self, report, *severities):
        return [f for f in report["findings"]
                if f["section"] in OURS and f["severity"] in severities]

    def assertClean(self, report):
        self.assertEqual(self.ours(report, "problem", "warning"), [])

    def assertFirst(self, report, code, severity):
        first = report["findings"][0]
        self.assertEqual((first["code"], first["severity"]), (code, severity), report["findings"])
        for member in ("title", "meaning", "advice"):
            self.assertTrue(first[member])
        return first


class Space(ReportCase):
    """Made-up feature stores: what clusters show."""

    D_SAE, LATENTS = 320, 14

    def write_store(self, topics, texts, recon=None, recipe="", clusters=8):
        """A row is of topic topics[i]: most latents of the topic, a few of all."""
        rng = random.Random(5)
        n, indptr, indices, values = len(topics), [0], [], []
        for topic in topics:
            own = range(20 + topic * self.LATENTS, 20 + (topic + 1) * self.LATENTS)
            row = set(rng.sample(own, self.LATENTS - 4)) | set(rng.sample(range(20), 3))
            row |= {rng.randrange(self.D_SAE) for _ in range(4)}
            indices += sorted(row)
            values += [rng.uniform(0.5, 3) for _ in row]
            indptr.append(len(indices))
        tensors = {
            "indptr": ("I64", [n + 1], indptr),
            "indices": ("U32", [len(indices)], indices),
            "values": ("F32", [len(values)], values),
        }
        if recon:
            tensors["recon_mean"] = tensors["recon_max"] = ("F32", [n], recon)
        write_safetensors(self.dir / "features.safetensors", tensors,
                          {"format": "saerl.features", "version": "1", "d_sae": str(self.D_SAE)})
        write_jsonl(self.dir / "data.jsonl",
                    [{"id": i, "prompt": text, "source": "source-%d" % (i % 3)}
                     for i, text in enumerate(texts)])
        (self.dir / "recipe.yaml").write_text(
            "version: 1\n"
            "input:\n  data: [data.jsonl]\n  features: features.safetensors\n"
            "  fields: {id: id, prompt: prompt, source: source}\n"
            "clustering: {clusters: %d, restarts: 3}\n%s" % (clusters, recipe))

    def mixture(self, n, topics=8):
        rng = random.Random(7)
        return [i % topics for i in range(n)], [sentence(rng) for _ in range(n)]

    def test_a_clean_mixture_is_clean(self):
        rng = random.Random(1)
        for n in (60, 300, 1200):
            topics, texts = self.mixture(n)
            self.write_store(topics, texts, [rng.lognormvariate(-1.8, 0.3) for _ in range(n)])
            report = self.report("--fresh")
            self.assertClean(report)
            self.assertEqual(report["verdict"]["state"], "ready", report["findings"])
            d = report["sections"]["diversity"]
            self.assertEqual((d["rows"], d["clusters"]), (n, 8))
            self.assertGreater(d["effective"], 7)
            self.assertGreater(d["silhouette"], 0.2)
            self.assertEqual(report["measures"]["clusters"]["value"], 8)
            self.assertEqual(report["sections"]["sae"]["suspicion"]["score"], 0)

    def test_what_the_sections_say_adds_up(self):
        topics, texts = self.mixture(400, topics=5)
        self.write_store(topics, texts, clusters=30, recipe="batches: {size: 16}\n")
        report = self.report()
        d, scores = report["sections"]["diversity"], read_jsonl(self.dir / "out" / "scores.jsonl")
        cluster = [s["cluster"] for s in scores]
        self.assertEqual(d["sizes"], sorted((cluster.count(c) for c in set(cluster)), reverse=True))
        self.assertEqual(d["largest_share"], d["sizes"][0] / 400)
        self.assertEqual(len(d["cards"]), min(24, d["clusters"]))
        self.assertEqual(d["cards_beyond"], d["clusters"] - len(d["cards"]))
        for card in d["cards"]:
            rows = [i for i, c in enumerate(cluster) if c == card["cluster"]]
            self.assertEqual(card["size"], len(rows))
            self.assertEqual(card["kept"], len(rows))
            self.assertEqual(card["share"], len(rows) / 400)
            self.assertIsNone(card["difficulty"])
            self.assertAlmostEqual(
                card["words_mean"], sum(len(texts[i].replace(".", "").split()) for i in rows)
                / len(rows), delta=0.51)
            self.assertEqual(card["garbage"], 0)
            names = ["source-%d" % (i % 3) for i in rows]
            self.assertEqual(names.count(card["source"]), max(map(names.count, names)))
            self.assertAlmostEqual(card["source_share"], names.count(card["source"]) / len(rows))
            for sample in card["central"] + card["edge"]:
                self.assertIn(sample["row"], rows)
            self.assertTrue(card["central"] and card["edge"])
            for latent in card["latents"]:
                self.assertGreater(latent["within"], latent["overall"])
        cells = d["map"]["cells"]
        self.assertEqual(sum(cell["n"] for cell in cells), 400)
        self.assertLessEqual(len(cells), 2500)
        self.assertAlmostEqual(d["map"]["dy"] / d["map"]["dx"], 3**0.5 / 2, places=3)

        sae = report["sections"]["sae"]
        tensors, _ = read_safetensors(self.dir / "features.safetensors")
        column = {}
        for row in range(400):
            for e in range(tensors["indptr"][row], tensors["indptr"][row + 1]):
                column.setdefault(tensors["indices"][e], {})[row] = tensors["values"][e]
        self.assertEqual(sae["silent"], self.D_SAE - len(column))
        self.assertEqual(sae["dead"], sae["silent"] / self.D_SAE)
        self.assertEqual(sum(sae["frequency"]["counts"]), len(column))
        self.assertEqual(sum(sae["active_latents"]["counts"]), 400)
        self.assertIsNone(sae["recon"])
        self.assertIsNone(sae["suspicion"]["score"])
        self.assertLessEqual(len(sae["cards"]), 20)
        self.assertEqual(len({card["latent"] for card in sae["cards"]}), len(sae["cards"]))
        for card in sae["cards"]:
            of = column[card["latent"]]
            self.assertEqual((card["rows"], card["share"]), (len(of), len(of) / 400))
            self.assertAlmostEqual(card["mean"], sum(of.values()) / len(of))
            self.assertAlmostEqual(card["max"], max(of.values()))
            self.assertEqual(sum(card["histogram"]["counts"]), len(of))
            top = sorted(of, key=lambda row: (-of[row], row))[: len(card["top"])]
            self.assertEqual([s["row"] for s in card["top"]], top)
            self.assertEqual([s["value"] for s in card["top"]], [of[row] for row in top])
        densest = [card["rows"] for card in sae["cards"] if card["why"] == "densest"]
        self.assertEqual(densest, sorted(map(len, column.values()), reverse=True)[:5])
        self.assertEqual(
            {card["why"] for card in sae["cards"]}, {"densest", "cluster"})

    def test_an_unreadable_cluster_comes_first(self):
        for n, share, severity in ((300, 10, "problem"), (1200, 40, "warning")):
            topics, texts = self.mixture(n, topics=7)
            rng = random.Random(3)
            bad = set(range(4, n, share))
            for i in bad:
                topics[i], texts[i] = 7, keys_hit_at_random(rng)
            self.write_store(topics, texts)
            report = self.report("--fresh")
            first = self.assertFirst(report, "garbage_cluster", severity)
            self.assertIn(str(len(bad)), first["title"])
            self.assertTrue({s["row"] for s in first["samples"]} <= bad)
            self.assertEqual(len(self.ours(report, "problem", "warning")), 1)
            # Told once, by what tells more.
            self.assertNotIn("garbage_text", [f["code"] for f in report["findings"]])
            card = next(c for c in report["sections"]["diversity"]["cards"]
                        if c["cluster"] == first["samples"][0]["cluster"])
            self.assertGreater(card["garbage"], 0.9)

    def test_unreadable_text_all_over_is_no_cluster(self):
        topics, texts = self.mixture(400)
        rng = random.Random(3)
        for i in rng.sample(range(400), 40):
            texts[i] = keys_hit_at_random(rng)
        self.write_store(topics, texts)
        report = self.report()
        self.assertClean(report)
        self.assertFirst(report, "garbage_text", "problem")

    def test_errors_far_outside_those_of_the_rest(self):
        topics, texts = self.mixture(400)
        rng = random.Random(2)
        recon = [rng.lognormvariate(-1.8, 0.3) * (6 if t == 3 else 1) for t in topics]
        self.write_store(topics, texts, recon)
        report = self.report()
        first = self.assertFirst(report, "garbage_cluster", "warning")
        self.assertTrue(all(topics[s["row"]] == 3 for s in first["samples"]))
        # A topic that is harder to read, but no other world; errors that all are the same.
        for recon in ([rng.lognormvariate(-1.8, 0.3) * (1.6 if t == 3 else 1) for t in topics],
                      [0.2 + 0.001 * (t == 3) for t in topics]):
            self.write_store(topics, texts, recon)
            self.assertClean(self.report("--fresh"))

    def test_one_cluster_that_outweighs_the_rest(self):
        topics, texts = self.mixture(500)
        topics = [0 if i % 10 < 7 else 1 + i % 7 for i in range(500)]
        self.write_store(topics, texts)
        # k-means would split it: codes that are all alike cannot be.
        tensors, metadata = read_safetensors(self.dir / "features.safetensors")
        rows = []
        for row, topic in enumerate(topics):
            span = range(tensors["indptr"][row], tensors["indptr"][row + 1])
            codes = {tensors["indices"][e]: tensors["values"][e] for e in span}
            rows.append({20 + j: 2.0 for j in range(self.LATENTS)} if topic == 0 else codes)
            rows[-1][row % 20] = 0.1
        indptr = [0]
        for row in rows:
            indptr.append(indptr[-1] + len(row))
        write_safetensors(
            self.dir / "features.safetensors",
            {
                "indptr": ("I64", [501], indptr),
                "indices": ("U32", [indptr[-1]], [j for row in rows for j in sorted(row)]),
                "values": ("F32", [indptr[-1]], [row[j] for row in rows for j in sorted(row)]),
            },
            metadata)
        self.write_recipe_clusters(8)
        report = self.report()
        first = self.assertFirst(report, "dominant_cluster", "warning")
        self.assertIn("70 %", first["title"])
        self.assertTrue(all(topics[s["row"]] == 0 for s in first["samples"]))
        self.assertEqual(report["measures"]["largest_cluster"]["value"], 0.7)
        # Of two clusters one is always the larger.
        self.write_recipe_clusters(2)
        self.assertClean(self.report("--fresh"))

    def write_recipe_clusters(self, clusters):
        recipe = self.dir / "recipe.yaml"
        head = recipe.read_text().split("clustering:")[0]
        recipe.write_text(head + "clustering: {clusters: %d, restarts: 3}\n" % clusters)

    def test_clusters_that_are_sources_are_noted(self):
        topics, texts = self.mixture(300, topics=3)
        self.write_store(topics, texts, clusters=3)
        report = self.report()
        self.assertClean(report)
        self.assertEqual([f["code"] for f in self.ours(report, "note")], ["clusters_are_sources"])
        self.assertGreater(report["sections"]["diversity"]["source_nmi"], 0.95)

    def test_codes_that_are_all_alike(self):
        n = 100
        rng = random.Random(1)
        self.write_store([0] * n, [sentence(rng) for _ in range(n)])
        write_safetensors(
            self.dir / "features.safetensors",
            {
                "indptr": ("I64", [n + 1], [4 * i for i in range(n + 1)]),
                "indices": ("U32", [4 * n], [3, 5, 8, 9] * n),
                "values": ("F32", [4 * n], [1.0, 2.0, 3.0, 4.0] * n),
            },
            {"format": "saerl.features", "version": "1", "d_sae": "320"})
        report = self.report()
        self.assertEqual({f["code"]: f["severity"] for f in self.ours(report, "note", "warning")},
                         {"dense_latents": "warning", "low_diversity": "note"})
        self.assertEqual(len(report["sections"]["diversity"]["map"]["cells"]), 1)

    def test_one_row_and_none(self):
        for n in (1, 2, 3):
            topics, texts = self.mixture(n)
            self.write_store(topics, texts, [0.2] * n)
            report = self.report("--fresh")
            self.assertClean(report)
            self.assertEqual(report["sections"]["diversity"]["rows"], n)
            self.assertEqual(sum(c["n"] for c in report["sections"]["diversity"]["map"]["cells"]),
                             n)
        self.write_store([0] * 3, ["the same"] * 3)
        tensors, metadata = read_safetensors(self.dir / "features.safetensors")
        write_safetensors(
            self.dir / "features.safetensors",
            {
                "indptr": ("I64", [4], [0, 0, 0, 0]),
                "indices": ("U32", [0], []),
                "values": ("F32", [0], []),
                "tokens_used": ("U32", [3], [0, 0, 0]),
            },
            metadata)
        self.saerl("audit", "data.jsonl", "--features", "features.safetensors", "-o", "audit", "-q")
        report = json.loads((self.dir / "audit" / "report.json").read_text())
        self.assertIn("absent", report["sections"]["diversity"])
        self.assertIsNone(report["measures"]["clusters"]["value"])
        self.assertEqual(report["measures"]["rejected"], {"value": 3, "of": 3})
        self.assertFirst(report, "rejected_vectors", "problem")

    def test_same_bytes_at_any_thread_count(self):
        topics, texts = self.mixture(900)
        self.write_store(topics, texts, [0.1 + 0.0001 * i for i in range(900)], clusters=40)
        found = []
        for threads in ("1", "2", "5"):
            self.report("--fresh", "--threads", threads)
            found.append((self.dir / "out" / "report.json").read_bytes())
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])

    def test_no_sample_is_shown_where_none_may_be(self):
        topics, texts = self.mixture(120, topics=7)
        for i in range(0, 120, 8):
            topics[i], texts[i] = 7, keys_hit_at_random(random.Random(i))
        self.write_store(topics, texts, recipe="output: {samples_in_report: 0}\n")
        report = self.report()
        self.assertFirst(report, "garbage_cluster", "problem")
        text = json.dumps([report["findings"], report["sections"]["sae"],
                           report["sections"]["diversity"]])
        self.assertNotIn('"text"', text)
        self.assertNotIn('"id"', text)
        self.assertNotIn("Tell me", text)


class Sae(ReportCase):
    """The demo's SAE and activations, and what becomes of them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        raw = (DEMO / "activations.safetensors").read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + size])
        header.pop("__metadata__", None)
        data = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            kind = {"F16": "e", "F32": "f", "I64": "q"}[entry["dtype"]]
            count = (end - begin) // struct.calcsize("<" + kind)
            data[name] = struct.unpack("<%d%s" % (count, kind), raw[8 + size + begin : 8 + size + end])
        cls.offsets = data.pop("offsets")
        ((_, cls.flat),) = data.items()
        cls.lines = (DEMO / "tasks.jsonl").read_bytes().splitlines(keepends=True)
        cls.d_in = 128

    def write_demo(self, n, change=None, offsets=None, clusters=10):
        """The first n tasks. `change` gets the activations of one token and what it is of."""
        d = self.d_in
        flat = array.array("f", self.flat[: self.offsets[n] * d])
        if change:
            for sample in range(n):
                for token in range(self.offsets[sample], self.offsets[sample + 1]):
                    x = change(list(flat[token * d : (token + 1) * d]), sample, token)
                    flat[token * d : (token + 1) * d] = array.array("f", x)
        self.write_activations(flat, self.offsets[: n + 1])
        (self.dir / "data.jsonl").write_bytes(b"".join(self.lines[:n]))
        if not (self.dir / "sae").exists():
            shutil.copytree(DEMO / "sae", self.dir / "sae")
        (self.dir / "recipe.yaml").write_text(
            "version: 1\n"
            "input:\n  data: [data.jsonl]\n  activations: [acts.safetensors]\n"
            "  fields: {id: id, prompt: prompt, source: source}\n"
            "sae: {path: sae}\nclustering: {clusters: %d}\n" % clusters)

    def write_activations(self, flat, offsets):
        write_safetensors(
            self.dir / "acts.safetensors",
            {
                "activations": ("F32", [len(flat) // self.d_in, self.d_in], list(flat)),
                "offsets": ("I64", [len(offsets)], list(offsets)),
            })

    def change_sae(self, change):
        path = self.dir / "sae" / "sae_weights.safetensors"
        raw = path.read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + size])
        tensors, metadata = read_safetensors(path)
        tensors = {name: list(values) for name, values in tensors.items()}
        change(tensors)
        write_safetensors(
            path, {name: ("F32", header[name]["shape"], values)
                   for name, values in tensors.items()}, metadata)

    def test_its_own_layer_is_clean(self):
        for n in (60, 400):
            self.write_demo(n)
            report = self.report("--fresh")
            self.assertClean(report)
            sae = report["sections"]["sae"]
            self.assertEqual(sae["suspicion"], {"score": 0, "reasons": []})
            self.assertEqual((sae["d_in"], sae["d_sae"]), (128, 1024))
            self.assertEqual(sae["l0"], {"median": 16, "p95": 16, "declared": 16})
            self.assertGreater(sae["explained_variance"], 0.9)
            self.assertEqual(sum(sae["recon"]["counts"]) + sae["recon_beyond"], n)
            self.assertTrue(sae["lines"][0].startswith("saelens topk"))

    def test_activations_from_elsewhere_come_first(self):
        order = random.Random(1).sample(range(128), 128)
        rng = random.Random(2)
        shift = [rng.gauss(0, 2) for _ in range(128)]
        others = {
            "another basis": lambda x, *_: [x[j] for j in order],
            "a tenth": lambda x, *_: [v / 10 for v in x],
            "another mean": lambda x, *_: [v + s for v, s in zip(x, shift)],
            "noise": lambda x, *_: [rng.gauss(0, 2) for _ in x],
        }
        for name, change in others.items():
            with self.subTest(name):
                self.write_demo(200, change)
                report = self.report("--fresh")
                first = self.assertFirst(report, "wrong_layer", "problem")
                self.assertIn("explained variance", first["title"])
                self.assertEqual(report["verdict"]["state"], "not_ready")
                sae = report["sections"]["sae"]
                self.assertGreaterEqual(sae["suspicion"]["score"], 0.75)
                self.assertTrue(sae["suspicion"]["reasons"])
                worst = [s["row"] for s in first["samples"]]
                tensors, _ = read_safetensors(self.dir / "out" / "features.safetensors")
                recon = tensors["recon_mean"]
                self.assertEqual(worst, sorted(range(200), key=lambda r: (-recon[r], r))[:5])

    def test_features_tell_it_too(self):
        order = random.Random(1).sample(range(128), 128)
        for change in (None, lambda x, *_: [x[j] for j in order]):
            self.write_demo(200, change)
            encoded = self.report("--fresh")["sections"]["sae"]["explained_variance"]
            shutil.copy(self.dir / "out" / "features.safetensors", self.dir)
            recipe = (self.dir / "recipe.yaml").read_text()
            (self.dir / "recipe.yaml").write_text(
                recipe.replace("activations: [acts.safetensors]", "features: features.safetensors")
                .replace("sae: {path: sae}\n", ""))
            report = self.report("--fresh")
            sae = report["sections"]["sae"]
            self.assertAlmostEqual(sae["explained_variance"], encoded, places=5)
            self.assertIn("ready-made", sae["lines"][0])
            self.assertIsNone(sae["l0"]["declared"])
            if change:
                self.assertFirst(report, "wrong_layer", "problem")
            else:
                self.assertClean(report)

    def test_one_vector_a_sample_is_no_reason_to_worry(self):
        d, n = self.d_in, 400
        self.write_demo(n)
        for pick in ("mean", "last"):
            pooled = []
            for i in range(n):
                tokens = range(self.offsets[i], self.offsets[i + 1])
                if pick == "last":
                    pooled += self.flat[tokens[-1] * d : (tokens[-1] + 1) * d]
                    continue
                for j in range(d):
                    pooled.append(sum(self.flat[t * d + j] for t in tokens) / len(tokens))
            write_safetensors(self.dir / "acts.safetensors", {"activations": ("F32", [n, d], pooled)})
            self.assertClean(self.report("--fresh"))

    def test_a_dead_sae_comes_first(self):
        def most_die(tensors):
            tensors["b_enc"][50:] = [-1e4] * (1024 - 50)

        def all_die(tensors):
            tensors["b_enc"][:] = [-1e4] * 1024

        self.write_demo(400)
        self.change_sae(most_die)
        first = self.assertFirst(self.report("--fresh"), "dead_sae", "problem")
        self.assertIn("95.1 %", first["title"])
        self.change_sae(all_die)
        report = self.report("--fresh")
        first = self.assertFirst(report, "dead_sae", "problem")
        self.assertIn("400 of 400", first["title"])
        self.assertEqual(report["measures"]["dead_latents"]["value"], 1)

    def test_vectors_that_were_refused(self):
        bad = set(range(3, 300, 20))

        def change(x, sample, token):
            if sample not in bad:
                return x
            return [0.0] * 128 if sample % 40 == 3 else [float("nan")] * 128

        self.write_demo(300, change)
        report = self.report()
        self.assertEqual([f["code"] for f in self.ours(report, "problem", "warning")],
                         ["rejected_vectors"])
        found = self.ours(report, "warning")[0]
        self.assertTrue({s["row"] for s in found["samples"]} <= bad)
        self.assertEqual({s["note"] for s in found["samples"]},
                         {"an activation is NaN or infinite",
                          "the activation of a token is all zero"})
        self.assertEqual(report["measures"]["rejected"], {"value": 15, "of": 300})
        # One is a note.
        self.write_demo(300, lambda x, sample, token: [float("inf")] * 128 if sample == 9 else x)
        report = self.report("--fresh")
        self.assertClean(report)
        self.assertEqual([f["title"] for f in self.ours(report, "note")],
                         ["The activations of 1 sample (0.333 %) cannot be used"])

    def test_text_alone_has_no_such_sections(self):
        self.write_demo(60)
        self.saerl("audit", "data.jsonl", "-o", "audit", "-q")
        report = json.loads((self.dir / "audit" / "report.json").read_text())
        for section in OURS:
            self.assertIn("input.features", report["sections"][section]["absent"])
        for name in ("clusters", "explained_variance", "dead_latents", "l0", "rejected"):
            self.assertIsNone(report["measures"][name]["value"])


if __name__ == "__main__":
    unittest.main()
