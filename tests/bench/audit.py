#!/usr/bin/python3
"""How long `saerl audit` takes on a large pool, and a browser to open its report.

    tests/bench/audit.py PROGRAM [--samples N] [--labels] [--text-only] [--threads N] [--repeat N]

A pool of N prompts (100,000) in 24 subjects, features of 64 latents of 16,384 a sample, written
once to a temporary folder. Prints seconds (median and all), peak memory, sizes, and, where CHROMIUM
and PLAYWRIGHT are set as for tests/browser/test_report.mjs, the milliseconds until the report is
drawn. Needs numpy.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import statistics
import struct
import subprocess
import tempfile
import time

import numpy

D_SAE, ACTIVE, SUBJECTS = 16384, 64, 24


def write_pool(folder, n, labels, text_only):
    rng, words = numpy.random.default_rng(1), random.Random(1)
    syllables = "ka lo mi ren sta tor vel dan pu che fir gol hun jas bri nex ow ul".split()
    vocabulary = [
        ["".join(words.choices(syllables, k=words.randint(2, 4))) for _ in range(400)] for _ in range(SUBJECTS)
    ]
    common = "the of a and in to is that it for on with as how many find what if then each are there value".split()
    subject = rng.integers(0, SUBJECTS, n)
    difficulty = rng.beta(1.6, 1.6, n)
    with open(folder / "data.jsonl", "w", encoding="ascii") as out:
        for i in range(n):
            own = vocabulary[subject[i]]
            n_words = words.randint(15, 60)
            text = " ".join(words.choice(common if words.random() < 0.4 else own) for _ in range(n_words))
            row = {"id": i, "prompt": text, "source": "source-%d" % (i % 7), "answer": str(i)}
            if labels:
                row["rewards"] = [float(words.random() > difficulty[i]) for _ in range(8)]
            out.write(json.dumps(row) + "\n")
    if text_only:
        return
    own = rng.permutation(D_SAE)[: SUBJECTS * 200].reshape(SUBJECTS, 200)
    indices = numpy.empty((n, ACTIVE), numpy.uint32)
    for i in range(n):
        chosen = numpy.concatenate([own[subject[i]][rng.integers(0, 200, 48)], rng.integers(0, D_SAE, 80)])
        indices[i] = numpy.sort(numpy.unique(chosen)[rng.permutation(len(numpy.unique(chosen)))[:ACTIVE]])
    values = rng.lognormal(0, 0.5, (n, ACTIVE)).astype(numpy.float32)
    tensors = {
        "indptr": ("I64", [n + 1], numpy.arange(n + 1, dtype=numpy.int64) * ACTIVE),
        "indices": ("U32", [n * ACTIVE], indices.ravel()),
        "values": ("F32", [n * ACTIVE], values.ravel()),
        "tokens_used": ("U32", [n], rng.integers(20, 90, n).astype(numpy.uint32)),
        "recon_mean": ("F32", [n], rng.normal(0.18, 0.02, n).astype(numpy.float32)),
        "recon_max": ("F32", [n], rng.normal(0.5, 0.05, n).astype(numpy.float32)),
    }
    header = {"__metadata__": {"format": "saerl.features", "version": "1", "d_sae": str(D_SAE), "pooling": "max"}}
    at = 0
    for name, (dtype, shape, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "features.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, _, array in tensors.values():
            out.write(array.tobytes())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--samples", type=int, default=100000)
    parser.add_argument("--labels", action="store_true", help="eight rewards a row")
    parser.add_argument("--text-only", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_pool(folder, args.samples, args.labels, args.text_only)
        command = [args.program, "audit", str(folder / "data.jsonl"), "-o", str(folder / "audit")]
        command += ["--threads", str(args.threads)]
        if not args.text_only:
            command += ["--features", str(folder / "features.safetensors")]
        times = []
        for _ in range(args.repeat):
            start = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            times.append(time.monotonic() - start)
            if done.returncode:
                raise SystemExit(done.stderr)
        for line in done.stderr.splitlines():
            print("  " + line)
        report = json.loads((folder / "audit" / "report.json").read_text())
        print("%d samples, %s, %d threads: %.1f s (%s); peak %d MiB; report.html %d, report.json %d bytes; %s" % (
            args.samples, "text alone" if args.text_only else "features" + (" and labels" if args.labels else ""),
            args.threads, statistics.median(times), ", ".join("%.1f" % t for t in times),
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
            os.path.getsize(folder / "audit" / "report.html"), os.path.getsize(folder / "audit" / "report.json"),
            report["verdict"]["sentence"]))
        if os.environ.get("PLAYWRIGHT"):
            script = pathlib.Path(__file__).parent.parent / "browser" / "open_time.mjs"
            opened = subprocess.run(["node", str(script), str(folder / "audit" / "report.html")],
                                    capture_output=True, text=True, check=True)
            print("  report.html drawn after %s ms" % opened.stdout.strip())
        for f in report["findings"]:
            print("  %s %s: %s" % (f["severity"], f["code"], f["title"]))


if __name__ == "__main__":
    main()
