"""A running sidecar held to the letter of docs/protocol.md: who may send which tensor, which error
comes first, what a refused request leaves behind; plans worked out anew; bad places to start in.
"""

import os
import resource
import struct
import subprocess
import time
import unittest

import check_plan
from saerl_case import PROGRAM, read_jsonl, read_safetensors
from sidecar_case import SidecarCase, tensor

POOL = (
    "version: 1\n"
    "sae: {path: sae}\n"
    "clustering: {clusters: 2}\n"
    "batches: {size: 4, order: none, grouping: none}\n"
)


def features(sids, rows, **columns):
    """Tensors of features: rows of (index, value)."""
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    flat = [entry for row in rows for entry in row]
    return [
        tensor("sid", "u64", sids),
        tensor("indptr", "i64", offsets),
        tensor("indices", "u32", [i for i, _ in flat]),
        tensor("values", "f32", [v for _, v in flat]),
    ] + [
        tensor(name, "u32" if name == "tokens_used" else "f32", values)
        for name, values in columns.items()
    ]


class Requests(SidecarCase):
    def dataset(self, n=30, recipe=""):
        self.write_world(
            n, recipe="clustering: {clusters: 3}\nbatches: {size: 8, order: none}\n" + recipe
        )

    def test_a_column_that_a_probe_needs_is_missed_at_submit(self):
        self.write_world(4)
        (self.dir / "recipe.yaml").write_text(POOL + "quality: {probe: recon}\n")
        peer = self.start().peer()
        rows = [[(0, 1.0), (3, 0.5)], [(1, 2.0)], [(2, 1.0)]]
        good = features([1, 2, 3], rows, tokens_used=[4, 4, 4], recon_max=[0.1, 0.2, 0.3],
                        recon_mean=[0.1, 0.1, 0.1])
        peer.call("SUBMIT", {}, good)
        found = self.refused("E_BAD_TENSOR", peer.call, "SUBMIT", {}, features([4], [[(5, 1.0)]]))
        self.assertEqual(found["field"], "recon_max")
        self.assertEqual(len(peer.fetch(0, 2)[1]["sid"]), 2)
        self.assertEqual(peer.call("STATS")[0]["run_states"]["run"]["pool"], 3)

    def test_rows_without_entries_are_samples(self):
        self.write_world(4)
        (self.dir / "recipe.yaml").write_text(POOL)
        peer = self.start().peer()
        empty = features([1, 2], [[], []], tokens_used=[3, 3])
        self.assertEqual(peer.call("SUBMIT", {}, empty)[0]["accepted"], 2)
        zeros = features([3, 4], [[(2, 0.0)], [(2, -0.0), (7, 1.0)]], tokens_used=[3, 3])
        self.assertEqual(peer.call("SUBMIT", {}, zeros)[0]["accepted"], 2)
        self.assertEqual(sorted(peer.fetch(0, 4)[1]["sid"]), [1, 2, 3, 4])

    def test_a_tensor_of_no_use_is_refused(self):
        self.dataset()
        peer = self.start().peer()
        stray = tensor("stray", "u8", b"x")
        for kind, header in [
            ("STATS", {}), ("FETCH", {"seq": 0, "n": 1}), ("PEEK", {"k": 1}),
            ("SAVE", {"tag": "t"}), ("RESTORE", {"tag": "t"}), ("BYE", {}), ("SHUTDOWN", {}),
            ("HELLO", {"run": "run", "client": "client", "rank": 0, "incarnation": 1}),
        ]:
            found = self.refused("E_BAD_TENSOR", peer.call, kind, header, [stray])
            self.assertEqual(found["field"], "stray", kind)
        one = [tensor("sid", "u64", [1]), tensor("act", "f32", [1.0] * 8, [1, 8]),
               tensor("act_off", "i64", [0, 1])]
        for extra in (tensor("recon_max", "f32", [1.0]), tensor("values", "f32", [1.0])):
            found = self.refused("E_BAD_TENSOR", peer.call, "SCORE", {}, one + [extra])
            self.assertEqual(found["field"], extra[0])
        found = self.refused("E_BAD_TENSOR", peer.call, "SCORE", {},
                             features([1], [[(1, 1.0)]]) + [tensor("keep", "u8", [1])])
        self.assertEqual(found["field"], "keep")
        self.refused("E_BAD_TENSOR", peer.call, "ATTACH", {"n": 1},
                     [tensor("keys", "u64", [1]), tensor("prompts", "u8", b"a"),
                      tensor("prompts_off", "i64", [0, 1])])
        self.assertEqual(peer.hello()["next_seq"], 0)

    def test_the_header_is_judged_before_the_tensors(self):
        self.dataset()
        peer = self.start().peer()
        stray = [tensor("stray", "u8", b"x")]
        for kind, header, field in [
            ("RESTORE", {"tag": "t", "strict": "yes"}, "strict"),
            ("FETCH", {"seq": 0, "n": 0}, "n"),
            ("SAVE", {"tag": 7}, "tag"),
            ("FEEDBACK", {"seq": 9, "final": 1}, "final"),
            ("CURATE", {"batch_size": 0}, "batch_size"),
            ("CURATE", {"batch_size": 1, "set": []}, "set"),
        ]:
            found = self.refused("E_BAD_HEADER", peer.call, kind, header, stray)
            self.assertEqual(found["field"], field)

    def test_request_ids_have_an_end(self):
        self.dataset()
        peer = self.start().peer()
        last = (1 << 63) - 1
        self.assertEqual(peer.call("FETCH", {"seq": 0, "n": 2}, request=last)[0]["seq"], 0)
        peer.send("FETCH", {"seq": 1, "n": 2}, request=last + 1)
        envelope, _, _ = peer.receive_raw()
        self.assertEqual(envelope[5], last + 1)
        self.refused("E_BAD_FRAME", peer.call, "FETCH", {"seq": 1, "n": 2}, request=last + 1)
        self.assertEqual(peer.call("PING", request=last + 1)[0]["state"], "ready")
        self.assertEqual(peer.hello()["next_seq"], 1)

    def test_stats_of_many_runs_stay_within_a_header(self):
        self.dataset()
        peer = self.start().peer()
        n = 400  # each name takes 1524 bytes, twice
        for i in range(n):
            peer.hello(run="\x01" * 252 + "%04d" % i)
            peer.fetch(0, 1)
        peer.send("STATS")
        _, raw, _ = peer.receive_raw()
        self.assertLess(len(raw), 1 << 20)
        stats = peer.call("STATS")[0]
        self.assertEqual(stats["runs"][-1][-4:], "0399")
        self.assertEqual(len(stats["runs"]) + stats["runs_left_out"], n)
        self.assertEqual(list(stats["run_states"]), stats["runs"])


class Plans(SidecarCase):
    def test_curate_plans_as_the_method_says(self):
        n = 60
        numbers = [(i * i * 31 + i * 7) % 97 / 97 for i in range(n)]
        self.write_world(n, recipe=(
            "clustering: {clusters: 4}\nbatches: {size: 8}\n"
            "difficulty: {fit_labels: labels.jsonl, force: true, extra: []}\n"))
        with open(self.dir / "labels.jsonl", "w", encoding="utf-8") as file:
            file.writelines('{"id": %d, "label": %r}\n' % item for item in enumerate(numbers))
        self.saerl("run", "recipe.yaml", "-o", "out")
        scores = read_jsonl(self.dir / "out" / "scores.jsonl")
        data, _ = read_safetensors(self.dir / "acts.safetensors")
        samples = [
            tensor("sid", "u64", [1000 + i for i in range(n)]),
            tensor("act", "f32", list(data["activations"]), [2 * n, self.D_IN]),
            tensor("act_off", "i64", list(range(0, 2 * n + 1, 2))),
        ]
        peer = self.start().peer()
        cases = [(8, 0.125, False, False), (7, 0.3, True, True), (5, 0.5, True, False),
                 (1, 0.0, False, True), (n + 1, 0.25, False, False), (n + 1, 0.25, False, True)]
        for order in ("easy_to_hard", "hard_to_easy", "random", "none"):
            for grouping in ("cluster", "none", "spread"):
                for size, mixing, chain, drop_last in cases:
                    settings = {"order": order, "grouping": grouping, "mixing": mixing,
                                "mixing_chain": chain, "drop_last": drop_last}
                    override = {"batches." + key: value for key, value in settings.items()}
                    header, out = peer.call(
                        "CURATE", {"batch_size": size, "set": dict(override, seed=7)}, samples)
                    rows = [
                        check_plan.Row(
                            {"row": i, "cluster": out["cluster"][i],
                             "difficulty": scores[i]["difficulty"]},
                            dict(settings, seed=7))
                        for i in range(n) if out["keep"][i]
                    ]
                    plan, rest = check_plan.make_plan(rows, dict(settings, seed=7, size=size))
                    offsets = [0]
                    for _, batch in plan:
                        offsets.append(offsets[-1] + len(batch))
                    said = (order, grouping, size)
                    expected = [1000 + row for _, batch in plan for row in batch]
                    expected += [1000 + row for row in rest]
                    self.assertEqual(list(out["order"]), expected, said)
                    self.assertEqual(list(out["batch_off"]), offsets, said)
                    self.assertEqual(header["n_batches"], len(plan), said)
        for i in range(n):
            self.assertEqual(out["difficulty"][i], struct.unpack(
                "f", struct.pack("f", scores[i]["difficulty"]))[0])
            self.assertEqual(out["cluster"][i], scores[i]["cluster"])


class Start(SidecarCase):
    def test_an_address_that_is_no_socket_is_left_alone(self):
        self.write_world(8)
        before = sorted(self.dir.iterdir())
        self.refuses(["serve.bind", "data.jsonl", "no socket"], "serve", "recipe.yaml", "--state",
                     "state", "--bind", "ipc://%s/data.jsonl" % self.dir)
        self.assertEqual(sorted(self.dir.iterdir()), before)

    def test_a_key_that_cannot_be_read_is_named(self):
        self.write_world(8, recipe=(
            "serve: {bind: \"tcp://127.0.0.1:0\", curve: {secret_key: no.secret, "
            "allow: [no.public]}}\n"))
        self.refuses(["serve.curve.secret_key", "no.secret"], "serve", "recipe.yaml", code=1)

    def test_closed_streams_are_nobody_elses(self):
        self.write_world(8)
        process = subprocess.Popen(
            ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh", PROGRAM, "serve", "recipe.yaml",
             "--state", "state", "--bind", "ipc://%s/run/s.sock" % self.dir],
            cwd=self.dir,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        end = time.monotonic() + 60
        while not (self.dir / "run" / "s.sock").exists() and time.monotonic() < end:
            time.sleep(0.02)
        streams = [os.readlink("/proc/%d/fd/%d" % (process.pid, fd)) for fd in range(3)]
        self.assertEqual(streams, ["/dev/null"] * 3)
        process.terminate()
        self.assertIn(process.wait(60), (0, 143))  # 143: it was still starting

    def test_a_file_limit_is_an_error_with_words(self):
        self.write_world(40)
        done = subprocess.run(
            [PROGRAM, "serve", "recipe.yaml", "--state", "state", "--bind",
             "ipc://%s/run/s.sock" % self.dir],
            cwd=self.dir, capture_output=True, text=True, timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("File too large", done.stderr.splitlines()[-1])


if __name__ == "__main__":
    unittest.main()
