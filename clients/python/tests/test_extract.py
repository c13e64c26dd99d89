"""saerl.extract on a small model: against one prompt at a time, over interruptions, into saerl."""

import contextlib
import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import unittest

from support import PACKAGE, FolderCase, need

need("numpy", "zmq", "torch")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from mock_sidecar import MockSidecar  # noqa: E402
from tiny_model import TinyModel, TinyTokenizer, naive  # noqa: E402

from saerl import Curator, wire  # noqa: E402
from saerl.extract import ExtractError, extract, main, read_prompts, stream  # noqa: E402

torch.set_num_threads(1)

KINDS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "U8": np.uint8}
PROMPTS = ["abc", "a longer prompt than the first", "x", "", "two words", "abc",
           "something of middling length", "zz"]


def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + n])
    assert n % 8 == 0
    metadata = header.pop("__metadata__")
    tensors, end = {}, 0
    for name, entry in header.items():
        assert entry["data_offsets"][0] == end
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(raw[8 + n + begin:8 + n + end],
                                      KINDS[entry["dtype"]]).reshape(entry["shape"])
    assert len(raw) == 8 + n + end
    return tensors, metadata


def read_all(paths):
    """What the program makes of several files: rows of each prompt, and their keep."""
    rows, keep = [], []
    for path in paths:
        tensors, _ = read_safetensors(path)
        for begin, end in zip(tensors["offsets"], tensors["offsets"][1:]):
            rows.append(tensors["activations"][begin:end])
            keep.append(tensors["keep"][begin:end].tolist())
    return rows, keep


class Extract(FolderCase):
    def setUp(self):
        super().setUp()
        self.model, self.tokenizer = TinyModel(), TinyTokenizer()
        self.out = str(self.dir / "acts")

    def extract(self, prompts=PROMPTS, layer=1, **more):
        more.setdefault("out", self.out)
        return extract(more.pop("model", self.model), more.pop("tokenizer", self.tokenizer), prompts,
                       layer, **more)

    def test_is_what_one_prompt_at_a_time_gives(self):
        for layer, site in ((0, "resid_post"), (2, "resid_post"), (1, "resid_pre"), (-1, "resid_post")):
            with self.subTest(layer=layer, site=site):
                rows, keep = read_all(self.extract(layer=layer, site=site, batch_tokens=40, shard_prompts=3,
                                                   out="%s%d%s" % (self.out, layer, site)))
                self.assertEqual(len(rows), len(PROMPTS))
                for prompt, row, kept in zip(PROMPTS, rows, keep):
                    ids = self.tokenizer(prompt)["input_ids"]
                    expected = naive(self.model, ids, layer % 3, site).numpy()
                    self.assertEqual(row.shape, expected.shape)
                    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-6)
                    self.assertEqual(kept, [0] + [1] * len(prompt))

    def test_padding_does_not_matter(self):
        alone = [self.extract([p], out=str(self.dir / ("alone%d" % i))) for i, p in enumerate(PROMPTS)]
        together = read_all(self.extract(batch_tokens=10000))[0]
        for paths, row in zip(alone, together):
            np.testing.assert_allclose(read_all(paths)[0][0], row, rtol=1e-4, atol=1e-6)

    def test_blocks_behind_the_hook_are_not_run(self):
        self.extract(layer=0)
        self.assertGreater(self.model.model.layers[0].calls, 0)
        self.assertEqual(self.model.model.layers[1].calls, 0)
        self.assertEqual(len(self.model.model.layers[0]._forward_hooks), 0)

    def test_a_chat_template_is_used_and_its_marks_are_not_kept(self):
        chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"}]
        rows, keep = read_all(self.extract(["hi", chat], tokenizer=TinyTokenizer("template")))
        self.assertEqual(keep, [[0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0]])
        never = self.extract(["hi"], tokenizer=TinyTokenizer("t"), chat="never", out=self.out + "2")
        self.assertEqual(len(read_all(never)[0][0]), 3)
        with self.assertRaisesRegex(ExtractError, "no chat template"):
            self.extract([chat], out=self.out + "3")

    def test_says_model_and_hook(self):
        (path,) = self.extract()
        self.assertEqual(read_safetensors(path)[1], {"model": "tiny", "hook": "blocks.1.hook_resid_post"})
        (path,) = self.extract(layer=None, hook="model.layers.1", out=self.out + "2")
        self.assertEqual(read_safetensors(path)[1]["hook"], "model.layers.1")
        (path,) = self.extract(hook_name="layers.1", model_name="m", out=self.out + "3")
        self.assertEqual(read_safetensors(path)[1], {"model": "m", "hook": "layers.1"})

    def test_dtypes_are_the_models_own_or_as_told(self):
        want = read_all(self.extract())[0][1]
        for dtype, kind in (("float16", np.float16), ("bfloat16", np.uint16), ("float32", np.float32)):
            got = read_all(self.extract(dtype=dtype, out=self.out + dtype))[0][1]
            self.assertEqual(got.dtype, kind)
            values = wire.bf16_to_f32(got) if kind == np.uint16 else got
            np.testing.assert_allclose(values, want, rtol=1e-2, atol=1e-3)
        got = read_all(self.extract(model=TinyModel().to(torch.bfloat16), out=self.out + "own"))[0][1]
        self.assertEqual(got.dtype, np.uint16)

    def test_an_interruption_changes_no_byte(self):
        whole = self.extract(shard_prompts=2)
        for stop_at in (1, 2, 3, 5):
            folder = self.dir / ("stopped%d" % stop_at)
            real, left = self.model.forward, [stop_at]

            def stopping(*a, **k):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return real(*a, **k)

            self.model.forward = stopping
            with self.assertRaises(KeyboardInterrupt):
                self.extract(shard_prompts=2, out=str(folder), batch_tokens=20)
            self.model.forward = real
            (folder / "part-00003.safetensors").write_bytes(b"half")  # not in the index
            before = self.model.forwards
            again = self.extract(shard_prompts=2, out=str(folder), batch_tokens=20)
            self.assertLessEqual(self.model.forwards - before, 6)
            fresh = self.extract(shard_prompts=2, out=str(folder) + "fresh", batch_tokens=20)
            for a, b in zip(again, fresh):
                self.assertEqual(pathlib.Path(a).read_bytes(), pathlib.Path(b).read_bytes())
            self.assertEqual(len(again), len(whole))
            self.assertEqual((folder / "index.json").read_bytes(),
                             pathlib.Path(str(folder) + "fresh", "index.json").read_bytes())
            before = self.model.forwards
            self.extract(shard_prompts=2, out=str(folder), batch_tokens=20)
            self.assertEqual(self.model.forwards, before)

    def test_a_folder_of_something_else_is_refused(self):
        self.extract(shard_prompts=4)
        for words, more in (("prompts_hash", dict(prompts=[*PROMPTS[:-1], "other"])),
                            ("weights", dict(model=TinyModel(seed=1))), ("hook", dict(layer=0)),
                            ("dtype", dict(dtype="float16")), ("shard_prompts", dict(shard_prompts=5)),
                            ("site", dict(site="resid_pre", hook_name="blocks.1.hook_resid_post"))):
            with self.subTest(words), self.assertRaisesRegex(ExtractError, "%s is" % words):
                self.extract(**{"shard_prompts": 4, **more})
        path = pathlib.Path(self.out, "part-00001.safetensors")
        path.write_bytes(path.read_bytes()[:-1])
        with self.assertRaisesRegex(ExtractError, "bytes, the index says"):
            self.extract(shard_prompts=4)
        os.unlink(os.path.join(self.out, "index.json"))
        with self.assertRaisesRegex(ExtractError, "not a folder of this command"):
            self.extract(shard_prompts=4)

    def test_broken_rows_are_refused_with_their_prompt(self):
        for value, words in ((0.0, "all zeros"), (float("nan"), "not finite"), (1e6, "not finite as float16")):
            def broken(_module, _args, output, value=value):
                x = output[0].clone()
                if x.shape[1] > 12:
                    x[-1, 2] = value
                return (x, None)

            handle = self.model.model.layers[1].register_forward_hook(broken)
            try:
                with self.assertRaisesRegex(ExtractError, "prompt 1: token 2 of 31 is %s" % words):
                    self.extract(dtype="float16" if value == 1e6 else "auto", out=self.out + words[-5:])
            finally:
                handle.remove()

    def test_a_model_of_another_shape_needs_a_path(self):
        with self.assertRaisesRegex(ExtractError, "layer 7: model.layers has 3"):
            self.extract(layer=7)
        with self.assertRaisesRegex(ExtractError, "no module 'model.blocks.1'"):
            self.extract(layer=None, hook="model.blocks.1")
        bare = torch.nn.Sequential(torch.nn.Linear(2, 2))
        with self.assertRaisesRegex(ExtractError, "give hook="):
            self.extract(model=bare)

    def test_streams_into_a_sidecar(self):
        mock = MockSidecar("ipc://%s/s" % self.dir)
        self.addCleanup(mock.stop)
        prompts = [p for p in PROMPTS if p]
        sids = [10 * i for i in range(len(prompts))]
        with Curator(mock.endpoint, "run", timeout_s=20) as curator:
            told = stream(self.model, self.tokenizer, prompts, 1, curator, sids, chunk_prompts=3, text=True)
        self.assertEqual((told.accepted, told.rejected, told.reason.tolist()), (7, 0, [0] * 7))
        self.assertEqual(sorted(mock.pool), sids)
        self.assertEqual(mock.pool[0], mock.pool[40])  # equal prompts, in different chunks


class Command(FolderCase):
    def run_main(self, *args):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(list(args))
            except SystemExit as error:
                code = error.code
        return code, out.getvalue(), err.getvalue()

    def write(self, rows):
        path = self.dir / "x.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return str(path)

    def test_reads_fields_and_names_the_line_that_lacks_one(self):
        path = self.write([{"a": {"p": "x"}}, {"a": {"p": [{"role": "user", "content": "y"}]}}, {"a": {}}])
        self.assertEqual(read_prompts(path, "a.p", 2), ["x", [{"role": "user", "content": "y"}]])
        code, _, err = self.run_main("--model", "m", "--data", path, "--prompt-field", "a.p", "--layer", "1",
                                     "-o", str(self.dir / "o"))
        self.assertEqual(code, 1)
        self.assertIn("x.jsonl:3: no field 'a.p'", err)
        self.assertEqual(len(err.splitlines()), 1)

    def test_usage(self):
        path = self.write([{"prompt": "x"}])
        self.assertEqual(self.run_main("--model", "m", "--data", path, "-o", "o")[0], 2)
        self.assertEqual(self.run_main("--model", "m", "--data", path, "--layer", "1", "--hook", "h",
                                       "-o", "o")[0], 2)

    def test_without_transformers_it_says_what_to_install(self):
        path = self.write([{"prompt": "x"}])
        code = "import sys; sys.modules['transformers'] = None\n" \
               "from saerl.extract import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run([sys.executable, "-B", "-c", code, "--model", "m", "--data", path, "--layer",
                               "1", "-o", str(self.dir / "o")], cwd=PACKAGE, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("needs torch and transformers", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


class IntoTheProgram(FolderCase):
    def test_saerl_reads_the_files(self):
        program = os.environ.get("PROGRAM")
        if not program or not os.path.exists(program):
            self.skipTest("no saerl program")
        paths = extract(TinyModel(), TinyTokenizer(), PROMPTS, 1, out=str(self.dir / "acts"), shard_prompts=3,
                        dtype="bfloat16")
        rng = np.random.default_rng(0)
        sae = self.dir / "sae"
        sae.mkdir()
        (sae / "cfg.json").write_text(json.dumps({
            "architecture": "standard", "d_in": 8, "d_sae": 16, "dtype": "float32",
            "apply_b_dec_to_input": True, "normalize_activations": "none", "model_name": "tiny",
            "hook_name": "blocks.1.hook_resid_post"}))
        from saerl import tensorfile

        w = rng.standard_normal((8, 16)).astype(np.float32)
        tensorfile.write(str(sae / "sae_weights.safetensors"),
                         {"W_enc": [w], "b_enc": [np.zeros(16, np.float32)],
                          "W_dec": [np.ascontiguousarray(w.T)], "b_dec": [np.zeros(8, np.float32)]}, {})
        def encode(files):
            return subprocess.run(
                [program, "encode", "--sae", str(sae), "--activations", *files, "-o",
                 str(self.dir / "f.features.safetensors"), "--sink-norm", "0", "--json"],
                capture_output=True, text=True, timeout=120)

        done = encode(paths)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["rows"], len(PROMPTS))
        self.assertNotIn("hook", done.stderr)
        elsewhere = extract(TinyModel(), TinyTokenizer(), PROMPTS, 2, out=str(self.dir / "other"))
        done = encode(elsewhere)
        self.assertEqual(done.returncode, 2)
        self.assertIn("blocks.2.hook_resid_post", done.stderr)


if __name__ == "__main__":
    unittest.main()
