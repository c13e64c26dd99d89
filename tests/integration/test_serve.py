"""`saerl serve`: the protocol's promises, on a running sidecar."""

import json
import random
import signal
import struct
import time
import unittest

from saerl_case import read_jsonl, read_safetensors
from sidecar_case import Peer, Sidecar, SidecarCase, tensor

DATASET = (
    "clustering: {clusters: 3}\n"
    "batches: {size: 8, order: none}\n"
    "serve: {epochs: %s}\n"
)
POOL = (
    "version: 1\n"
    "sae: {path: sae}\n"
    "clustering: {clusters: 2}\n"
    "batches: {size: 4, order: none, grouping: none}\n"
)


class Serve(SidecarCase):
    def dataset(self, n=60, epochs="null", recipe=""):
        self.write_world(n, recipe=DATASET % epochs + recipe)

    def pool(self, recipe=POOL):
        self.write_world(4)
        (self.dir / "recipe.yaml").write_text(recipe)

    def activations(self, rows, tokens=2):
        """`act` and `act_off` of rows of the world's activations."""
        data, _ = read_safetensors(self.dir / "acts.safetensors")
        width = tokens * self.D_IN
        values = [x for row in rows for x in data["activations"][row * width : (row + 1) * width]]
        return [
            tensor("act", "f32", values, [len(rows) * tokens, self.D_IN]),
            tensor("act_off", "i64", [tokens * i for i in range(len(rows) + 1)]),
        ]

    def twice(self, peer, *request):
        """The same answer again, byte for byte, NaN included; how often it was asked."""
        answers = []
        for _ in range(2):
            peer.send(*request)
            answers.append(peer.receive_raw()[1:])
        self.assertEqual(answers[0], answers[1])
        return len(answers)

    def random_samples(self, sids, seed=1, tokens=2):
        numbers = random.Random(seed)
        values = [numbers.gauss(0.3, 1) for _ in range(len(sids) * tokens * self.D_IN)]
        return [
            tensor("sid", "u64", sids),
            tensor("act", "f32", values, [len(sids) * tokens, self.D_IN]),
            tensor("act_off", "i64", [tokens * i for i in range(len(sids) + 1)]),
        ]


class Plan(Serve):
    """Fetching what the recipe's data set holds."""

    def test_hello_tells_who_is_there(self):
        self.dataset()
        peer = self.start().peer()
        hello = peer.hello()
        self.assertEqual(hello["next_seq"], 0)
        self.assertEqual(hello["state"], "ready")
        self.assertEqual(hello["sae"]["d_in"], self.D_IN)
        self.assertEqual(hello["sae"]["d_sae"], self.D_SAE)
        self.assertEqual(len(hello["sae"]["hash"]), 32)
        self.assertEqual(hello["dataset"]["rows"], 60)
        self.assertEqual(len(hello["config_hash"]), 32)
        self.assertEqual(hello["limits"]["frame"], 64 << 20)
        self.assertGreater(hello["limits"]["credits"], 0)
        self.assertEqual(peer.hello()["session"], hello["session"])
        self.assertNotEqual(peer.hello(client="other")["session"], hello["session"])

    def test_fetch_serves_the_plan_of_run(self):
        self.dataset()
        self.saerl("run", "recipe.yaml", "-o", "out")
        planned = [r for b in read_jsonl(self.dir / "out" / "batches.jsonl") for r in b["rows"]]
        scores = read_jsonl(self.dir / "out" / "scores.jsonl")
        peer = self.start().peer()
        served = []
        for seq in range(12):
            header, batch = peer.fetch(seq, 7)
            self.assertEqual(header["epoch"], 7 * seq // len(planned))
            self.assertFalse(header["exhausted"])
            self.assertEqual(batch["cluster"], tuple(scores[s]["cluster"] for s in batch["sid"]))
            served += batch["sid"]
        self.assertEqual(served, (planned * 2)[: len(served)])

    def test_the_same_seq_is_the_same_bytes(self):
        self.dataset()
        sidecar = self.start()
        peer = sidecar.peer()
        peer.send("FETCH", {"seq": 0, "n": 5})
        first = peer.receive_raw()
        peer.fetch(1, 5)
        peer.send("FETCH", {"seq": 0, "n": 5})
        self.assertEqual(peer.receive_raw()[1:], first[1:])
        sidecar.kill()
        peer = self.start().peer(client="another")
        peer.send("FETCH", {"seq": 0, "n": 5})
        self.assertEqual(peer.receive_raw()[1:], first[1:])
        self.assertEqual(peer.hello()["next_seq"], 2)

    def test_seqs_have_an_order(self):
        self.dataset()
        peer = self.start().peer()
        self.refused("E_SEQ_GAP", peer.fetch, 1, 4)
        peer.fetch(0, 4)
        self.refused("E_CONFLICT", peer.fetch, 0, 5)
        self.refused("E_SEQ_GAP", peer.feedback, 1, [(0, 1, 0)])
        self.refused("E_BAD_HEADER", peer.fetch, 1, 0)
        peer.fetch(1, 4)
        peer.call("SAVE", {"tag": "a", "consumed_seq": 1})
        self.refused("E_SEQ_RETIRED", peer.fetch, 0, 4)
        peer.fetch(1, 4)
        peer.call("SAVE", {"tag": "b", "consumed_seq": 0})
        self.refused("E_SEQ_RETIRED", peer.fetch, 0, 4)
        self.refused("E_SEQ_GAP", peer.call, "SAVE", {"tag": "c", "consumed_seq": 3})

    def test_the_end_of_the_epochs_is_told(self):
        self.dataset(n=20, epochs=2)
        peer = self.start().peer()
        header, batch = peer.fetch(0, 30)
        self.assertEqual((len(batch["sid"]), header["exhausted"]), (30, False))
        header, batch = peer.fetch(1, 10)
        self.assertEqual((len(batch["sid"]), header["exhausted"]), (10, True))
        header, batch = peer.fetch(2, 10)
        self.assertEqual((len(batch["sid"]), header["exhausted"]), (0, True))
        self.refused("E_EXHAUSTED", peer.fetch, 3, 10)
        self.assertEqual(peer.fetch(2, 10)[1]["sid"], ())
        other = peer.hello(run="short")
        self.assertEqual(other["next_seq"], 0)
        header, batch = peer.fetch(0, 50)
        self.assertEqual((len(batch["sid"]), header["exhausted"]), (40, True))
        self.assertFalse(self.refused("E_EXHAUSTED", peer.fetch, 1, 1)["retryable"])

    def test_peek_is_what_fetch_gives_next(self):
        self.dataset()
        peer = self.start().peer()
        peeked = peer.call("PEEK", {"k": 9})[1]["sid"]
        self.assertEqual(peer.fetch(0, 4)[1]["sid"], peeked[:4])
        self.assertEqual(peer.call("PEEK", {"k": 5})[1]["sid"], peeked[4:])

    def test_runs_do_not_see_each_other(self):
        self.dataset()
        sidecar = self.start()
        a, b = sidecar.peer(run="a"), sidecar.peer(run="b")
        first = a.fetch(0, 4)[1]["sid"]
        self.assertEqual(b.fetch(0, 4)[1]["sid"], first)
        self.assertEqual(a.feedback(0, [(first[0], 1, 0)])["accepted"], 1)
        self.assertEqual(b.feedback(0, [(first[0], 1, 0)])["accepted"], 1)
        self.assertEqual(sorted(a.call("STATS")[0]["runs"]), ["a", "b"])

    def test_attach_finds_rows_by_text_and_by_key(self):
        self.dataset()
        peer = self.start().peer()
        texts = [b"sample 3", b"nobody", b"sample 41", b"sample 3"]
        off = [0]
        for text in texts:
            off.append(off[-1] + len(text))
        header, out = peer.call(
            "ATTACH", {"n": 4},
            [tensor("prompts", "u8", b"".join(texts)), tensor("prompts_off", "i64", off)],
        )
        self.assertEqual(out["row"], (3, -1, 41, 3))
        self.assertEqual((header["matched"], header["unknown"], header["duplicates"]), (3, 1, 1))
        self.saerl("run", "recipe.yaml", "-o", "out")
        keys = [int(s["key"], 16) for s in read_jsonl(self.dir / "out" / "scores.jsonl")]
        header, out = peer.call(
            "ATTACH", {"n": 3}, [tensor("keys", "u64", [keys[7], 1, keys[9]])]
        )
        self.assertEqual(out["row"], (7, -1, 9))
        self.refused("E_BAD_TENSOR", peer.call, "ATTACH", {"n": 2}, [tensor("keys", "u64", [1])])

    def test_the_reports_of_the_data_set_are_as_the_recipe_wants_them(self):
        self.dataset()
        self.start().stop()
        dataset = self.dir / "state" / "dataset"
        for name in ("report.json", "report.html"):
            self.assertIn("sample 3", (dataset / name).read_text())
        self.write_recipe(DATASET % "null" + "output: {report: [json], redact: [prompt]}\n")
        self.start("--state", self.dir / "other").stop()
        dataset = self.dir / "other" / "dataset"
        self.assertNotIn("sample 3", (dataset / "report.json").read_text())
        self.assertFalse((dataset / "report.html").exists())

    def test_what_is_attached_may_be_added_to(self):
        self.dataset(n=16)
        sidecar = self.start()
        peer = sidecar.peer()
        samples = self.random_samples([100, 3, 101])
        self.refused("E_DATASET_MISMATCH", peer.call, "SUBMIT", {}, samples)
        peer.call("ATTACH", {"n": 0}, [tensor("keys", "u64", [])])
        header, out = peer.call("SUBMIT", {}, samples)
        self.assertEqual(out["reason"], (0, 5, 0))
        first = peer.fetch(0, 16)[1]["sid"]
        self.assertEqual(sorted(first), list(range(16)))
        sidecar.kill()
        peer = self.start().peer()
        second = peer.fetch(1, 18)[1]["sid"]
        self.assertEqual(sorted(second), list(range(16)) + [100, 101])


class Feedback(Serve):
    def test_every_rollout_counts_once(self):
        self.dataset()
        sidecar = self.start()
        peer = sidecar.peer()
        sids = peer.fetch(0, 4)[1]["sid"]
        items = [(sid, float(r % 2), r) for sid in sids for r in range(4)]
        counts = peer.feedback(0, items)
        self.assertEqual((counts["accepted"], counts["duplicate"]), (16, 0))
        counts = peer.feedback(0, items[:3] + [(sids[0], 1.0, 9), (999, 1.0, 0)])
        self.assertEqual((counts["accepted"], counts["duplicate"], counts["unknown"]), (1, 3, 1))
        counts = peer.feedback(0, [(sids[1], float("nan"), 7), (sids[1], 1.0, 8)])
        self.assertEqual((counts["accepted"], counts["rejected"]), (1, 1))
        sidecar.kill()
        counts = self.start().peer(client="other").feedback(0, items)
        self.assertEqual((counts["accepted"], counts["duplicate"]), (0, 16))

    def test_without_rollout_numbers_the_request_id_decides(self):
        self.dataset()
        sidecar = self.start()
        peer = sidecar.peer()
        sid = peer.fetch(0, 1)[1]["sid"][0]
        tensors = [tensor("sid", "u64", [sid, sid]), tensor("reward", "f32", [1.0, 0.0])]
        peer.send("FEEDBACK", {"seq": 0}, tensors, request=70)
        first = peer.receive_raw()
        peer.send("FEEDBACK", {"seq": 0}, tensors, request=70, flags=4)
        self.assertEqual(peer.receive_raw()[1:], first[1:])
        changed = [tensor("sid", "u64", [sid, sid]), tensor("reward", "f32", [1.0, 1.0])]
        self.refused("E_CONFLICT", peer.call, "FEEDBACK", {"seq": 0}, changed, request=70)
        sidecar.kill()
        peer = self.start().peer()
        peer.send("FEEDBACK", {"seq": 0}, tensors, request=70, flags=4)
        self.assertEqual(peer.receive_raw()[1:], first[1:])
        state = peer.call("STATS")[0]["run_states"]["run"]
        self.assertEqual(state["prompts_seen"], 1)
        self.assertEqual(peer.call("FEEDBACK", {"seq": 0}, tensors, request=71)[0]["accepted"], 2)

    def test_old_incarnations_are_fenced(self):
        self.dataset()
        sidecar = self.start()
        old = sidecar.peer(incarnation=5)
        old.fetch(0, 2)
        new = sidecar.peer(incarnation=6)
        self.refused("E_FENCED", old.fetch, 1, 2)
        self.refused("E_FENCED", old.hello, incarnation=5)
        self.assertEqual(new.fetch(1, 2)[0]["seq"], 1)
        self.assertEqual(sidecar.peer(client="second", incarnation=1).fetch(1, 2)[0]["seq"], 1)
        sidecar.kill()
        self.refused("E_FENCED", self.start().peer, incarnation=5)

    def test_feedback_changes_the_choice(self):
        self.dataset(n=64, recipe="online: {target: nearest, refit_every: 2}\n")
        sidecar = self.start()
        peer = sidecar.peer()
        seen = []
        for seq in range(8):
            sids = peer.fetch(seq, 8)[1]["sid"]
            seen += sids
            peer.feedback(seq, [(s, float((s + r) % 3 == 0), r) for s in sids for r in range(4)])
        self.assertEqual(sorted(seen), list(range(64)))
        second = [peer.fetch(seq, 8)[1]["sid"] for seq in range(8, 10)]
        sidecar.kill()
        peer = self.start().peer()
        again = [peer.fetch(seq, 8)[1]["sid"] for seq in range(8, 12)]
        self.assertEqual(again[:2], second)


class State(Serve):
    def trace(self, peer, begin, end):
        """Fetch and feed back [begin, end); what was served."""
        out = []
        for seq in range(begin, end):
            sids = peer.fetch(seq, 6)[1]["sid"]
            peer.feedback(seq, [(s, float((s * 7 + r + seq) % 3 == 0), r)
                                for s in sids for r in range(4)])
            out.append(sids)
        return out

    def test_restore_by_tag_repeats_what_followed(self):
        self.dataset(n=64, recipe="online: {target: thompson, refit_every: 3}\n")
        peer = self.start().peer()
        self.trace(peer, 0, 4)
        saved = peer.call("SAVE", {"tag": "step 4", "consumed_seq": 4})[0]
        self.assertEqual(saved["next_seq"], 4)
        after = self.trace(peer, 4, 9)
        header = peer.call("RESTORE", {"tag": "step 4"})[0]
        self.assertEqual((header["next_seq"], header["dropped_tail"]), (4, 5))
        self.assertEqual(peer.hello()["next_seq"], 4)
        self.assertEqual(self.trace(peer, 4, 9), after)
        self.refused("E_NO_SNAPSHOT", peer.call, "RESTORE", {"tag": "nobody's"})

    def test_an_inline_state_goes_anywhere(self):
        self.dataset(n=64, recipe="online: {target: nearest}\n")
        first = self.start()
        peer = first.peer()
        self.trace(peer, 0, 3)
        served = peer.fetch(3, 6)[1]["sid"]
        saved, out = peer.call("SAVE", {"tag": "t", "consumed_seq": 3, "inline": True})
        blob = bytes(out["state"])
        self.assertEqual(saved["bytes"], len(blob))
        after = [served] + self.trace(peer, 4, 7)
        first.kill()
        peer = self.start(state="elsewhere").peer()
        header = peer.call("RESTORE", {}, [tensor("state", "u8", blob)])[0]
        self.assertEqual(header["next_seq"], 4)
        self.assertEqual(peer.fetch(3, 6)[1]["sid"], served)
        self.refused("E_SEQ_RETIRED", peer.fetch, 2, 6)
        self.assertEqual([served] + self.trace(peer, 4, 7), after)
        header = peer.call("RESTORE", {}, [tensor("state", "u8", blob)])[0]
        self.assertEqual(header["dropped_tail"], 3)
        self.assertEqual([served] + self.trace(peer, 4, 7), after)

    def test_a_state_that_does_not_belong_is_refused(self):
        self.dataset()
        first = self.start()
        peer = first.peer()
        peer.fetch(0, 4)
        blob = bytes(peer.call("SAVE", {"tag": "t", "inline": True})[1]["state"])
        flipped = blob[:100] + bytes([blob[100] ^ 1]) + blob[101:]
        for damaged in (flipped, blob[:-1], b"", b"SAERLST1" + bytes(40)):
            self.refused("E_BAD_TENSOR", peer.call, "RESTORE", {},
                         [tensor("state", "u8", damaged)])
        other = bytearray(blob)
        other[7:8] = b"2"
        self.refused("E_STATE_VERSION", peer.call, "RESTORE", {},
                     [tensor("state", "u8", bytes(other))])
        self.refused("E_BAD_HEADER", peer.call, "RESTORE", {})
        peer.hello(run="second")
        self.refused("E_RUN_MISMATCH", peer.call, "RESTORE", {}, [tensor("state", "u8", blob)])
        loose = peer.call("RESTORE", {"strict": False}, [tensor("state", "u8", blob)])[0]
        self.assertEqual(loose["next_seq"], 1)
        first.kill()
        self.dataset(n=50)
        elsewhere = self.start(state="other")
        peer = elsewhere.peer()
        self.refused("E_DATASET_MISMATCH", peer.call, "RESTORE", {"strict": False},
                     [tensor("state", "u8", blob)])
        elsewhere.kill()
        self.pool()
        peer = self.start(state="pool").peer()
        found = self.refused("E_DATASET_MISMATCH", peer.call, "RESTORE", {},
                             [tensor("state", "u8", blob)])
        self.assertIn("serves none", found["message"])

    def test_kill_at_any_moment_loses_nothing_acknowledged(self):
        self.dataset(n=64, recipe="online: {target: nearest}\n")
        numbers = random.Random(7)
        accepted, batches, seq = {}, {}, 0
        sidecar = self.start()
        for _ in range(12):
            peer = sidecar.peer()
            stop = time.monotonic() + numbers.uniform(0.02, 0.25)
            doubt = None
            try:
                while time.monotonic() < stop:
                    batches[seq] = peer.fetch(seq, 4)[1]["sid"]
                    items = [(s, float(r % 2), r) for s in batches[seq] for r in range(3)]
                    doubt = items
                    counts = peer.feedback(seq, items)
                    self.assertEqual(counts["accepted"] + counts["duplicate"], 12)
                    accepted[seq] = items
                    doubt = None
                    seq += 1
            except (ConnectionError, OSError):
                pass
            sidecar.kill()
            sidecar = self.start()
            peer = sidecar.peer()
            for known, sids in batches.items():
                self.assertEqual(peer.fetch(known, 4)[1]["sid"], sids)
            for known, items in accepted.items():
                counts = peer.feedback(known, items)
                self.assertEqual((counts["accepted"], counts["duplicate"]), (0, 12))
            if doubt is not None:
                counts = peer.feedback(seq, doubt)
                self.assertIn((counts["accepted"], counts["duplicate"]), [(12, 0), (0, 12)])
        self.assertGreater(len(accepted), 12)

    def test_a_second_sidecar_is_turned_away(self):
        self.dataset()
        sidecar = self.start()
        second = Sidecar(self.dir, self.dir / "recipe.yaml", state="other", wait=False)
        self.addCleanup(second.__exit__)
        self.assertEqual(second.process.wait(60), 5)
        self.assertIn("pid %d" % sidecar.process.pid, second.said())
        third = self.saerl("serve", "recipe.yaml", "--state", "state", "--bind",
                           "ipc://%s/x/s.sock" % self.dir, code=5)
        self.assertIn(str(sidecar.process.pid), third.stderr)
        sidecar.peer().fetch(0, 3)

    def test_another_recipe_is_a_conflict_that_is_named(self):
        self.dataset()
        self.start().stop()
        text = (self.dir / "recipe.yaml").read_text().replace("size: 8", "size: 4")
        (self.dir / "recipe.yaml").write_text(text)
        done = self.saerl("serve", "recipe.yaml", "--state", "state", "--bind",
                          "ipc://%s/run/s.sock" % self.dir, code=5)
        self.assertIn("size", done.stderr)

    def test_a_pool_is_still_served_after_a_data_set_was_refused(self):
        self.pool()
        self.start().stop()
        pool = (self.dir / "recipe.yaml").read_text()
        self.dataset()
        done = self.saerl("serve", "recipe.yaml", "--state", "state", "--bind",
                          "ipc://%s/run/s.sock" % self.dir, code=5)
        self.assertIn("SUBMITted", done.stderr)
        (self.dir / "recipe.yaml").write_text(pool)
        self.start().stop()

    def test_sigterm_drains(self):
        self.dataset()
        sidecar = self.start()
        sidecar.peer().fetch(0, 3)
        self.assertEqual(sidecar.stop(), 0)
        sidecar = self.start()
        self.assertEqual(sidecar.peer().hello()["next_seq"], 1)
        peer = sidecar.peer()
        peer.call("SHUTDOWN", {"drain_ms": 500})
        self.assertEqual(sidecar.process.wait(30), 0)


class Pool(Serve):
    """No data set: what is SUBMITted is planned and served."""

    def test_submitted_samples_are_served_once_an_epoch(self):
        self.pool()
        sidecar = self.start()
        peer = sidecar.peer()
        self.assertIsNone(peer.hello()["dataset"])
        self.assertTrue(self.refused("E_EXHAUSTED", peer.fetch, 0, 2)["retryable"])
        header, out = peer.call("SUBMIT", {}, self.random_samples(list(range(10, 22))))
        self.assertEqual((header["accepted"], header["rejected"]), (12, 0))
        self.assertGreater(header["credit"], 0)
        self.assertEqual(out["reason"], (0,) * 12)
        first = peer.fetch(0, 8)[1]["sid"]
        sidecar.kill()
        sidecar = self.start()
        peer = sidecar.peer()
        self.assertEqual(peer.fetch(0, 8)[1]["sid"], first)
        second = peer.fetch(1, 4)[1]["sid"]
        self.assertEqual(sorted(first + second), list(range(10, 22)))
        header, third = peer.fetch(2, 12)
        self.assertEqual(header["epoch"], 1)
        self.assertEqual(sorted(third["sid"]), list(range(10, 22)))

    def test_many_epochs_of_a_small_pool_are_one_plan(self):
        self.pool(POOL + "quality: {probe: recon, keep_top: 0.75, max_drop_per_cluster: 1.0}\n")
        peer = self.start().peer()
        peer.call("SUBMIT", {}, self.random_samples([5, 6, 7, 8]))
        sids = peer.fetch(0, 3 * 40000)[1]["sid"]
        self.assertEqual(len(set(sids)), 3)
        self.assertEqual(sids, sids[:3] * 40000)
        self.assertEqual(peer.fetch(1, 3)[0]["epoch"], 40000)

    def test_bad_samples_are_refused_one_by_one(self):
        self.pool()
        peer = self.start().peer()
        d = self.D_IN
        values = [1.0] * d + [float("nan")] * d + [0.0] * d + [2.0] * d
        samples = [
            tensor("sid", "u64", [1, 2, 3, 4, 5]),
            tensor("act", "f32", values, [4, d]),
            tensor("act_off", "i64", [0, 1, 2, 3, 3, 4]),
        ]
        header, out = peer.call("SUBMIT", {}, samples)
        self.assertEqual(out["reason"], (0, 3, 4, 2, 0))
        self.assertEqual((header["accepted"], header["rejected"]), (2, 3))
        again = peer.call("SUBMIT", {}, samples)[1]["reason"]
        self.assertEqual(again, (0, 3, 4, 2, 0))
        other = [tensor("sid", "u64", [1]), tensor("act", "f32", [3.0] * d, [1, d])]
        self.assertEqual(peer.call("SUBMIT", {}, other)[1]["reason"], (5,))

    def test_one_vector_a_sample_is_refused_where_tokens_are_expected(self):
        self.pool(POOL.replace("{path: sae}", "{path: sae, input: tokens}"))
        peer = self.start().peer()
        pooled = [tensor("sid", "u64", [1]), tensor("act", "f32", [3.0] * self.D_IN, [1, self.D_IN])]
        for kind in "SUBMIT", "SCORE":
            found = self.refused("E_BAD_TENSOR", peer.call, kind, {}, pooled)
            self.assertEqual(found["field"], "act")
            self.assertIn("sae.input: tokens", found["message"])
        self.assertEqual(peer.call("SUBMIT", {}, self.random_samples([1]))[0]["accepted"], 1)

    def test_a_submission_that_comes_again_must_be_the_same(self):
        """To the last byte of each tensor, also where its texts were encoded before."""
        self.pool()
        sidecar = self.start()
        peer = sidecar.peer()
        texts = [tensor("text", "u8", b"onetwo"), tensor("text_off", "i64", [0, 3, 6])]
        peer.call("SUBMIT", {}, self.random_samples([8, 9], seed=5) + texts)
        keep = [tensor("keep", "u8", [1, 1, 1, 0])]
        sent = self.random_samples([1, 2]) + keep + texts
        peer.send("SUBMIT", {}, sent, request=70)
        first = peer.receive_raw()
        sidecar.kill()
        peer = self.start().peer()
        peer.send("SUBMIT", {}, sent, request=70, flags=4)
        self.assertEqual(peer.receive_raw()[1:], first[1:])
        sid, act, off = self.random_samples([1, 2])
        data = bytearray(act[3])
        data[-1] ^= 1
        others = [
            [sid, act[:3] + (bytes(data),), off] + keep + texts,
            [sid, act, tensor("act_off", "i64", [0, 1, 4])] + keep + texts,
            [sid, act, off, tensor("keep", "u8", [1, 1, 0, 0])] + texts,
            [sid, act, off] + texts,
            [sid, act, off] + keep,
            [tensor("sid", "u64", [1, 3]), act, off] + keep + texts,
            [sid, act, off] + keep + [tensor("text", "u8", b"onetwO"), texts[1]],
        ]
        for tensors in others:
            self.refused("E_CONFLICT", peer.call, "SUBMIT", {}, tensors, request=70)

    def test_a_known_prompt_is_not_encoded_again(self):
        self.pool()
        sidecar = self.start()
        peer = sidecar.peer()
        samples = self.random_samples([1, 2, 3])
        peer.call("SUBMIT", {}, samples)
        sidecar.kill()
        peer = self.start().peer(run="second")
        peer.call("SUBMIT", {}, samples)
        stats = peer.call("STATS")[0]
        self.assertEqual((stats["samples_known"], stats["samples_encoded"]), (3, 0))
        self.assertEqual(self.twice(peer, "SCORE", {}, samples), 2)
        self.assertEqual(peer.call("STATS")[0]["samples_encoded"], 0)

    def test_a_restored_pool_is_whole_elsewhere(self):
        self.pool()
        first = self.start()
        peer = first.peer()
        peer.call("SUBMIT", {}, self.random_samples(list(range(16))))
        peer.fetch(0, 4)
        blob = bytes(peer.call("SAVE", {"tag": "t", "inline": True})[1]["state"])
        after = [peer.fetch(seq, 4)[1]["sid"] for seq in (1, 2, 3)]
        first.kill()
        peer = self.start(state="elsewhere").peer()
        peer.call("RESTORE", {}, [tensor("state", "u8", blob)])
        self.assertEqual([peer.fetch(seq, 4)[1]["sid"] for seq in (1, 2, 3)], after)

    def test_curate_orders_what_it_keeps(self):
        self.pool(POOL + "quality: {probe: recon, rule: keep_top, keep_top: 0.75, "
                         "max_drop_per_cluster: 1.0}\n")
        peer = self.start().peer()
        samples = self.random_samples(list(range(100, 120)))
        header, out = peer.call("CURATE", {"batch_size": 5}, samples)
        self.assertEqual(header["model"], "request")
        self.assertEqual(sum(out["keep"]), 15)
        self.assertEqual(header["n_batches"], 3)
        self.assertEqual(out["batch_off"], (0, 5, 10, 15))
        kept = [100 + i for i in range(20) if out["keep"][i]]
        self.assertEqual(sorted(out["order"]), kept)
        self.assertEqual({r for k, r in zip(out["keep"], out["reason"]) if not k}, {9})
        worst = sorted(range(20), key=lambda i: out["quality"][i])[:5]
        self.assertEqual({i for i in range(20) if not out["keep"][i]}, set(worst))
        self.assertEqual(self.twice(peer, "CURATE", {"batch_size": 5}, samples), 2)
        changed = peer.call("CURATE", {"batch_size": 5, "set": {"quality.keep_top": 0.5}}, samples)
        self.assertEqual(sum(changed[1]["keep"]), 10)
        self.refused("E_BAD_HEADER", peer.call, "CURATE",
                     {"batch_size": 5, "set": {"sae.path": "/etc"}}, samples)
        self.refused("E_BAD_HEADER", peer.call, "CURATE", {}, samples)


class Score(Serve):
    def test_scores_are_those_of_the_run(self):
        self.dataset(recipe="quality: {probe: recon, rule: keep_top, keep_top: 0.8, "
                            "max_drop_per_cluster: 1.0}\n")
        self.saerl("run", "recipe.yaml", "-o", "out")
        told = read_jsonl(self.dir / "out" / "scores.jsonl")
        rows = [5, 17, 2, 44, 59, 30]
        peer = self.start().peer()
        header, out = peer.call("SCORE", {}, [tensor("sid", "u64", rows)] + self.activations(rows))
        self.assertEqual(header["model"], "dataset")
        for i, row in enumerate(rows):
            expected = struct.unpack("f", struct.pack("f", told[row]["quality"]))[0]
            self.assertEqual(out["quality"][i], expected)
            self.assertEqual(out["cluster"][i], told[row]["cluster"])
            self.assertEqual(bool(out["keep"][i]), told[row]["kept"])
            self.assertNotEqual(out["difficulty"][i], out["difficulty"][i])
        alone = peer.call("SCORE", {}, [tensor("sid", "u64", [1])] + self.activations([44]))[1]
        self.assertEqual(alone["quality"][0], out["quality"][3])

    def test_a_wrong_shape_is_named(self):
        self.dataset()
        peer = self.start().peer()
        sid = tensor("sid", "u64", [1, 2])
        wide = tensor("act", "f32", [1.0] * 18, [2, 9])
        found = self.refused("E_BAD_TENSOR", peer.call, "SCORE", {}, [sid, wide])
        self.assertEqual(found["field"], "act")
        self.assertIn("9", found["message"])
        self.assertIn("8", found["message"])
        act = tensor("act", "f32", [1.0] * 16, [2, 8])
        cases = [
            [act],
            [sid],
            [sid, act, tensor("kep", "u8", [1, 1])],
            [sid, act, tensor("keep", "u8", [1, 1])],
            [sid, act, tensor("act_off", "i64", [0, 2, 1])],
            [sid, act, tensor("act_off", "i64", [0, 1, 3])],
            [sid, act, tensor("act_off", "i64", [0, 2])],
            [tensor("sid", "i64", [1, 2]), act],
            [sid, tensor("act", "f64", b"\0" * 128, [2, 8])],
            [sid, act, tensor("text", "u8", b"ab"), tensor("text_off", "i64", [0, 1, 3])],
            [sid, tensor("indptr", "i64", [0, 1, 2]), tensor("indices", "u32", [3, 16]),
             tensor("values", "f32", [1.0, 1.0])],
            [sid, tensor("indptr", "i64", [0, 2, 2]), tensor("indices", "u32", [3, 3]),
             tensor("values", "f32", [1.0, 1.0])],
        ]
        for tensors in cases:
            self.refused("E_BAD_TENSOR", peer.call, "SCORE", {}, tensors)
        self.assertEqual(peer.call("PING")[0]["state"], "ready")


class Abuse(Serve):
    def test_a_wrong_number_is_named(self):
        self.dataset()
        peer = self.start().peer()
        for seq, words in (-1, "seq is -1,"), (0.5, "seq is the number 0.5,"), ("1", "a string"):
            found = self.refused("E_BAD_HEADER", peer.call, "FETCH", {"seq": seq, "n": 1})
            self.assertEqual(found["field"], "seq")
            self.assertIn(words, found["message"])

    def test_the_order_of_checks_is_the_protocols(self):
        self.dataset()
        sidecar = self.start()
        peer = sidecar.peer()
        self.refused("E_NO_SESSION", peer.call, "FETCH", {"seq": 0, "n": 1}, session=99)
        self.refused("E_NO_SESSION", peer.call, "PING", session=0)
        self.refused("E_UNKNOWN_OP", peer.call, 33)
        frames = peer.frames_of("PING")
        peer.send_frames([frames[0][:4] + b"\x02" + frames[0][5:], frames[1]])
        self.refused("E_PROTO_VERSION", peer.receive)
        peer.send_frames(frames + [b"more"])
        self.refused("E_BAD_FRAME", peer.receive)
        peer.send_frames([frames[0], b"{"])
        self.refused("E_BAD_HEADER", peer.receive)
        peer.send_frames([peer.frames_of("STATS")[0], b'{"x":NaN,"tensors":[]}'])
        self.refused("E_BAD_HEADER", peer.receive)
        peer.send_frames([peer.frames_of("STATS")[0], b"{}"])
        self.refused("E_BAD_HEADER", peer.receive)
        self.assertEqual(peer.call("PING")[0]["state"], "ready")

    def test_strangers_do_not_keep_an_honest_client_waiting(self):
        self.dataset()
        sidecar = self.start()
        honest = sidecar.peer()
        numbers = random.Random(3)
        silent = [Peer(sidecar.path) for _ in range(60)]
        probes = [b"E", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00", bytes(64),
                  numbers.randbytes(500)]
        for probe in probes:
            stranger = Peer(sidecar.path, handshake=False)
            stranger.sock.sendall(probe)
            silent.append(stranger)
        for i in range(30):
            junk = Peer(sidecar.path)
            junk.send_frames([numbers.randbytes(numbers.randrange(40)) for _ in range(1 + i % 5)])
            half = Peer(sidecar.path)
            half.sock.sendall(Peer.frame(honest.frames_of("PING")[0], True)[: 1 + i])
            silent += [junk, half]
            self.assertEqual(honest.call("PING")[0]["state"], "ready")
        self.assertEqual(honest.fetch(0, 3)[0]["seq"], 0)
        for peer in silent:
            peer.close()
        self.assertGreaterEqual(honest.call("STATS")[0]["dropped_garbage"], 20)

    def test_a_peer_that_never_reads_is_its_own_problem(self):
        self.dataset()
        sidecar = self.start()
        deaf, honest = sidecar.peer(client="deaf"), sidecar.peer()
        deaf.sock.setblocking(False)
        frames = b"".join(
            Peer.frame(f, more) for f, more in zip(deaf.frames_of("STATS"), (True, False))
        )
        sent = 0
        for _ in range(20000):
            try:
                deaf.sock.sendall(frames)
                sent += 1
            except BlockingIOError:
                break
            if sent % 100 == 0:
                honest.call("PING")
        self.assertEqual(honest.fetch(0, 3)[0]["seq"], 0)

    def test_more_peers_than_files_do_not_end_it(self):
        self.dataset()
        sidecar = self.start(descriptors=1024)
        crowd, end = [], time.monotonic() + 60
        while "all connections were closed" not in sidecar.said() and time.monotonic() < end:
            for _ in range(100):
                try:
                    crowd.append(Peer(sidecar.path, handshake=False, timeout=2))
                except OSError:  # it is just binding again
                    time.sleep(0.05)
            for peer in crowd[:-700]:
                peer.close()
            crowd = crowd[-700:]
        for peer in crowd:
            peer.close()
        self.assertIsNone(sidecar.process.poll(), sidecar.said())
        sidecar.wait_ready()
        self.assertEqual(sidecar.peer().fetch(0, 3)[0]["seq"], 0)
        self.assertIn("all connections were closed", sidecar.said())
        few = Sidecar(self.dir, self.dir / "recipe.yaml", state="few", descriptors=64, wait=False)
        self.addCleanup(few.__exit__)
        self.assertEqual(few.process.wait(60), 1)
        self.assertIn("ulimit -n", few.said())

    def test_a_frame_over_the_limit_is_told_so(self):
        self.dataset()
        peer = self.start().peer()
        big = bytes((64 << 20) + 8)
        envelope = peer.frames_of("STATS", tensors=[tensor("x", "u8", b"")])[0]
        header = json.dumps({"tensors": [{"name": "x", "dtype": "u8", "shape": [len(big)]}]})
        peer.send_frames([envelope, header.encode(), big])
        self.refused("E_TOO_LARGE", peer.receive)
        self.assertEqual(peer.call("PING")[0]["state"], "ready")


class Reload(Serve):
    def test_a_recipe_that_changes_the_plan_is_not_reloaded(self):
        self.dataset()
        sidecar = self.start()
        text = (self.dir / "recipe.yaml").read_text()
        (self.dir / "recipe.yaml").write_text(text.replace("size: 8", "size: 4"))
        sidecar.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while "nothing was changed" not in sidecar.said() and time.monotonic() < end:
            time.sleep(0.05)
        self.assertIn("nothing was changed", sidecar.said())
        sidecar.peer().fetch(0, 3)


if __name__ == "__main__":
    unittest.main()
