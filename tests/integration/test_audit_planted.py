"""One thing planted in a clean pool is found and told first; a clean pool is called clean."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from planted import Pool, deadened_sae, permuted_activations, scaled_activations  # noqa: E402
from saerl_case import DEMO, SaerlCase  # noqa: E402

SIZES = (300, 1200)


class Planted(SaerlCase):
    def audit(self, *args):
        self.saerl("audit", self.dir / "data.jsonl", "-o", self.dir / "audit", *args)
        report = json.loads((self.dir / "audit" / "report.json").read_text())
        self.told = ["%s %s: %s" % (f["severity"], f["code"], f["title"]) for f in report["findings"]]
        return report

    def pool(self, n, plant, *args, seed=1):
        pool = Pool(n, seed)
        if plant:
            plant(pool)
        pool.write(self.dir)
        return self.audit("--features", self.dir / "features.safetensors", *args)

    def found_first(self, code, report):
        self.assertTrue(report["findings"], "nothing was found")
        self.assertEqual(report["findings"][0]["code"], code, self.told)
        self.assertEqual(report["findings"][0]["severity"], "problem", self.told)
        self.assertEqual(report["verdict"]["state"], "not_ready")

    def found_at_all_sizes(self, code, plant):
        for n in SIZES:
            with self.subTest(n=n):
                self.found_first(code, self.pool(n, plant, seed=n))

    def test_a_clean_pool_gets_a_clean_verdict(self):
        for n in SIZES:
            for seed in (1, 2):
                with self.subTest(n=n, seed=seed):
                    report = self.pool(n, None, seed=seed)
                    bad = [f for f in report["findings"] if f["severity"] != "note"]
                    self.assertEqual(bad, [], self.told)
                    self.assertEqual(report["verdict"]["state"], "ready")

    def test_clean_against_a_benchmark_that_is_not_in_it(self):
        def plant(pool):
            pool.leaked_items(self.dir, leaked=0)

        report = self.pool(600, plant, "--against", self.dir / "bench.jsonl")
        self.assertEqual(report["verdict"]["state"], "ready", self.told)
        self.assertEqual(report["measures"]["contaminated"], {"value": 0, "of": 600})

    def test_clean_as_text_alone(self):
        Pool(600).write(self.dir)
        report = self.audit()
        self.assertEqual(report["verdict"]["state"], "ready", self.told)
        self.assertEqual(report["vectors"], 0)

    def test_duplicated_source(self):
        self.found_at_all_sizes("duplicated_source", Pool.duplicated_source)

    def test_duplicated_source_by_text_alone(self):
        pool = Pool(600)
        pool.duplicated_source()
        pool.write(self.dir)
        report = self.audit()
        self.found_first("duplicated_source", report)
        title = report["findings"][0]["title"]
        self.assertIn("delta", title)
        self.assertIn("alpha", title)
        self.assertTrue(report["findings"][0]["samples"])

    def test_duplicated_source_in_other_words(self):
        pool = Pool(600)
        pool.reworded_source()
        pool.write(self.dir)
        report = self.audit()
        self.found_first("duplicated_source", report)
        self.assertIn("'delta' is a copy of 'alpha' but for a few words", report["findings"][0]["title"])

    def test_a_template_with_other_numbers_is_clean(self):
        pool = Pool(600)
        pool.one_template()
        pool.write(self.dir)
        report = self.audit()
        self.assertEqual(report["verdict"]["state"], "ready", self.told)
        self.assertGreater(report["measures"]["near_duplicates"]["value"], 300)  # what the filter would take

    def test_leaked_benchmark_items(self):
        for n in SIZES:
            with self.subTest(n=n):
                report = self.pool(n, lambda p: p.leaked_items(self.dir), "--against", self.dir / "bench.jsonl")
                self.found_first("leaked_items", report)
                self.assertEqual(report["measures"]["contaminated"]["value"], 8)
                self.assertIn("bench", report["findings"][0]["title"])

    def test_difficulty_the_wrong_way_round(self):
        self.found_at_all_sizes("difficulty_contradicted", Pool.reversed_difficulty)

    def test_difficulty_of_other_rows(self):
        self.found_at_all_sizes("difficulty_unrelated", Pool.shuffled_difficulty)

    def test_difficulty_that_is_length(self):
        self.found_at_all_sizes("length_confound", Pool.length_as_difficulty)

    def test_difficulty_that_is_a_count_of_words(self):
        pool = Pool(600)
        pool.words_as_difficulty()
        pool.write(self.dir)
        report = self.audit()
        self.assertIn("length_confound", " ".join(self.told))
        self.assertEqual(report["sections"]["difficulty"]["length_unit"], "words")

    def test_garbage_that_repeats_itself(self):
        pool = Pool(600)
        pool.repeated_words()
        pool.write(self.dir)
        self.found_first("garbage_text", self.audit())

    def test_a_cluster_of_garbage(self):
        self.found_at_all_sizes("garbage_cluster", Pool.garbage)

    def test_features_of_an_sae_that_hardly_fires(self):
        self.found_at_all_sizes("dead_sae", Pool.dead_features)

    def test_features_of_five_latents(self):
        self.found_first("dead_sae", self.pool(300, Pool.five_latents))

    def demo_audit(self, activations, sae):
        (self.dir / "data.jsonl").write_bytes((DEMO / "tasks.jsonl").read_bytes())
        return self.audit("--activations", activations, "--sae", sae)

    def test_activations_of_another_layer(self):
        permuted_activations(DEMO / "activations.safetensors", self.dir / "acts.safetensors")
        self.found_first("wrong_layer", self.demo_audit(self.dir / "acts.safetensors", DEMO / "sae"))

    def test_activations_of_another_scale(self):
        scaled_activations(DEMO / "activations.safetensors", self.dir / "acts.safetensors", 0.5)
        report = self.demo_audit(self.dir / "acts.safetensors", DEMO / "sae")
        self.assertGreater(report["features"]["sae"]["explained_variance"], 0.8)  # which hides it
        self.assertEqual(report["findings"][0]["code"], "wrong_layer", self.told)

    def test_an_sae_that_is_dead(self):
        deadened_sae(DEMO / "sae", self.dir / "sae")
        self.found_first("dead_sae", self.demo_audit(DEMO / "activations.safetensors", self.dir / "sae"))

    def test_the_right_layer_is_not_suspected(self):
        report = self.demo_audit(DEMO / "activations.safetensors", DEMO / "sae")
        self.assertNotIn("sae", [f["section"] for f in report["findings"] if f["severity"] != "note"], self.told)


if __name__ == "__main__":
    unittest.main()
