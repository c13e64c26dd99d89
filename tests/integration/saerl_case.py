"""What the integration tests share: run the program, write its inputs with the standard library.

The program's path is in PROGRAM, the checkout's in CHECKOUT (tests/integration/meson.build).
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["PROGRAM"]
SOURCE = pathlib.Path(os.environ["CHECKOUT"])
DEMO = SOURCE / "examples" / "demo"
CONVERTERS = {"F32": "f", "F64": "d", "I64": "q", "U64": "Q", "U32": "I", "U8": "B"}

# Files that tell of this one execution: times, memory, host.
VOLATILE = {"manifest.json", "log.jsonl"}


def write_safetensors(path, tensors, metadata=None):
    """tensors: name -> (dtype, shape, flat list of numbers)."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, values) in tensors.items():
        raw = struct.pack("<%d%s" % (len(values), CONVERTERS[dtype]), *values)
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    """name -> flat tuple of numbers; and the metadata."""
    raw = pathlib.Path(path).read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + n])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        kind = CONVERTERS[entry["dtype"]]
        count = (end - begin) // struct.calcsize("<" + kind)
        tensors[name] = struct.unpack("<%d%s" % (count, kind), raw[8 + n + begin : 8 + n + end])
    return tensors, metadata


def write_jsonl(path, rows):
    pathlib.Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_jsonl(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def folder_bytes(path):
    """name -> bytes of all that must be the same in a repeated run."""
    path = pathlib.Path(path)
    return {
        str(f.relative_to(path)): f.read_bytes()
        for f in sorted(path.rglob("*"))
        if f.is_file() and f.name not in VOLATILE
    }


class SaerlCase(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="saerl-test-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def saerl(self, *args, code=0, env=None, timeout=300):
        """Run the program; the exit code must be `code`, and an error one line."""
        done = subprocess.run(
            [PROGRAM, *map(str, args)],
            capture_output=True,
            text=True,
            cwd=self.dir,
            timeout=timeout,
            env={**os.environ, **(env or {})},
        )
        self.assertEqual(done.returncode, code, "saerl %s\n%s%s" % (args, done.stdout, done.stderr))
        if code:
            errors = [line for line in done.stderr.splitlines() if line.startswith("saerl: ")]
            self.assertEqual(len(errors), 1, done.stderr)
        return done

    def refuses(self, words, *args, code=2, **more):
        """Exits with `code`, and the error holds each of `words`."""
        done = self.saerl(*args, code=code, **more)
        error = done.stderr.splitlines()[-1]
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, error)
        return done

    # A small world of its own: 8-dimensional activations, a 16-latent ReLU SAE.
    D_IN, D_SAE = 8, 16

    def write_world(self, n, tokens=2, rows=None, recipe="", values=None):
        """data.jsonl, acts.safetensors, sae/ and recipe.yaml for n samples of `tokens` tokens."""
        d_in, d_sae = self.D_IN, self.D_SAE
        write_jsonl(
            self.dir / "data.jsonl",
            rows or [{"id": i, "prompt": "sample %d" % i} for i in range(n)],
        )
        if values is None:
            values = [
                ((i * 37 + j * 11 + (i // 7) * (j % 3)) % 19 - 6) / 4
                for i in range(n * tokens)
                for j in range(d_in)
            ]
        write_safetensors(
            self.dir / "acts.safetensors",
            {
                "activations": ("F32", [n * tokens, d_in], values),
                "offsets": ("I64", [n + 1], [i * tokens for i in range(n + 1)]),
            },
        )
        sae = self.dir / "sae"
        sae.mkdir(exist_ok=True)
        (sae / "cfg.json").write_text(
            json.dumps(
                {
                    "architecture": "standard",
                    "d_in": d_in,
                    "d_sae": d_sae,
                    "dtype": "float32",
                    "apply_b_dec_to_input": True,
                    "normalize_activations": "none",
                }
            )
        )
        w = [((i * 13 + j * 7) % 11 - 5) / 8 for i in range(d_in) for j in range(d_sae)]
        write_safetensors(
            sae / "sae_weights.safetensors",
            {
                "W_enc": ("F32", [d_in, d_sae], w),
                "b_enc": ("F32", [d_sae], [-0.25] * d_sae),
                "W_dec": ("F32", [d_sae, d_in], w),
                "b_dec": ("F32", [d_in], [0.0] * d_in),
            },
        )
        self.write_recipe(recipe)

    def write_recipe(self, more=""):
        (self.dir / "recipe.yaml").write_text(
            "version: 1\n"
            "input: {data: [data.jsonl], activations: [acts.safetensors]}\n"
            "sae: {path: sae}\n" + more
        )
