#!/usr/bin/python3
"""`saerl encode` against PyTorch on one CPU thread: torch_encode.py PROGRAM [--rounds N] [--tokens N]

PyTorch computes topk(relu(x @ W + b)) in float32 and is timed around just that, in blocks of
whichever of a few sizes it is fastest with. Our side is the whole program on the same tokens, less
the same program on one token, so that loading and preparing the SAE falls out; reading the tokens
and writing their codes does not.

Rounds alternate between all of it. Figures are medians, of wall time and of CPU time, which suffers
less from a machine that is not idle. Latents are compared token by token: where the two sets differ,
the latents in question have to lie closer to the k-th than float32 can tell apart, which is decided
in float64. With `sae.precision=exact` anything else is exit status 1.

Both sides have the same OpenBLAS kernel. OpenBLAS 0.3.21 takes its slowest on CPUs that it does not
know, so that without OPENBLAS_CORETYPE in the environment it is chosen here, by the CPU's flags.
Exit status 77 without PyTorch or NumPy.
"""

import argparse
import ctypes
import json
import os
import re
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SKIP = 77
D_IN, D_SAE, K = 1536, 16384, 64
BLOCKS = (128, 512, 2048)
PRECISIONS = ("exact", "fast")


def cpu_flags():
    match = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1).split() if match else []


def set_environment():
    """Before PyTorch is loaded, since OpenBLAS looks once."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    flags = cpu_flags()
    kernel = "SkylakeX" if "avx512f" in flags else "Haswell" if "avx2" in flags else None
    if kernel:
        os.environ.setdefault("OPENBLAS_CORETYPE", kernel)


set_environment()
try:
    import numpy
    import torch
except ImportError as missing:
    print("skipped: %s (Debian: python3-torch, python3-numpy)" % missing)
    sys.exit(SKIP)


def blas_name():
    """Of the library that PyTorch has loaded."""
    maps = Path("/proc/self/maps").read_text()
    path = re.search(r"\S*/libopenblas\S*|\S*openblas\S*/libblas\S*", maps)
    if not path:
        return "not OpenBLAS"
    corename = ctypes.CDLL(path.group(0)).openblas_get_corename
    corename.restype = ctypes.c_char_p
    return "OpenBLAS " + corename().decode()


def to_bf16(x):
    """float32 to the upper halves of its bits, to nearest even."""
    bits = x.view(numpy.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(numpy.uint16)


def from_bf16(halves):
    return (halves.astype(numpy.uint32) << 16).view(numpy.float32)


def make_weights(rng):
    """W [d_in, d_sae] of latents with norm 1, and b."""
    w = rng.standard_normal((D_SAE, D_IN), dtype=numpy.float32)
    w /= numpy.linalg.norm(w, axis=1, keepdims=True)
    b = 0.1 * rng.standard_normal(D_SAE, dtype=numpy.float32)
    return numpy.ascontiguousarray(w.T), b


def make_tokens(rng, w, n):
    """Noise, k latents of different strength and four dimensions far out, as cli/bench_sample.c."""
    latents = numpy.ascontiguousarray(w.T)
    x = rng.standard_normal((n, D_IN), dtype=numpy.float32)
    for row in x:
        strengths = 8 * numpy.exp(rng.standard_normal(K, dtype=numpy.float32) / 2)
        row += strengths @ latents[rng.integers(0, D_SAE, K)]
    for a in range(4):
        x[:, (a * 389 + 17) % D_IN] += 60 + 10 * rng.standard_normal(n, dtype=numpy.float32)
    return to_bf16(x)


def write_safetensors(path, tensors):
    """name -> (type, array)"""
    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors.values():
            out.write(array.tobytes())


def read_safetensors(path, name, dtype):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    begin, end = json.loads(data[8:8 + length])[name]["data_offsets"]
    return numpy.frombuffer(data[8 + length + begin:8 + length + end], dtype)


def write_sae(folder, w, b):
    folder.mkdir()
    write_safetensors(folder / "sae_weights.safetensors",
                      {"W_enc": ("F32", w), "b_enc": ("F32", b), "b_dec": ("F32", numpy.zeros(D_IN, numpy.float32))})
    config = {"architecture": "topk", "d_in": D_IN, "d_sae": D_SAE, "k": K, "dtype": "float32",
              "apply_b_dec_to_input": False, "normalize_activations": "none", "metadata": {"sae_lens_version": "6.0.0"}}
    (folder / "cfg.json").write_text(json.dumps(config))


def write_tokens(path, halves):
    offsets = numpy.array([0, len(halves)], numpy.int64)
    write_safetensors(path, {"activations": ("BF16", halves), "offsets": ("I64", offsets)})


class Cost(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float

    def __sub__(self, other):
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def median(costs):
    return Cost(*map(statistics.median, zip(*costs)))


def clock(who):
    usage = resource.getrusage(who)
    return Cost(time.perf_counter(), usage.ru_utime + usage.ru_stime)


class Saerl:
    """The program with one precision, and the files it is run on."""

    def __init__(self, program, folder, precision):
        self.program, self.folder, self.precision = program, folder, precision
        self.costs = {}  # tokens -> [Cost]

    def run(self, n_tokens):
        command = [self.program, "--threads", "1", "encode", "--sae", self.folder / "sae",
                   "--activations", self.folder / ("%d.safetensors" % n_tokens), "-o", self.codes(n_tokens),
                   "--no-recon", "--tokens", "--sink-norm", "0", "--set", "sae.precision=" + self.precision]
        start = clock(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.costs.setdefault(n_tokens, []).append(clock(resource.RUSAGE_CHILDREN) - start)
        if done.returncode:
            sys.exit("%s: exit status %d\n%s" % (" ".join(map(str, command)), done.returncode, done.stdout))

    def codes(self, n_tokens):
        return self.folder / ("%s.%d.features.safetensors" % (self.precision, n_tokens))

    def cost(self, n_tokens):
        return median([many - one for one, many in zip(self.costs[1], self.costs[n_tokens])])

    def rows(self, n_tokens):
        """Latents and values of each token."""
        path = self.codes(n_tokens)
        ends = read_safetensors(path, "indptr", "<i8")[1:-1]
        return (numpy.split(read_safetensors(path, "indices", "<u4"), ends),
                numpy.split(read_safetensors(path, "values", "<f4"), ends))


def torch_encode(x, w, b, block):
    """(cost, values, latents)"""
    values, latents = [], []
    start = clock(resource.RUSAGE_SELF)
    with torch.no_grad():
        for rows in torch.split(x, block):
            top = torch.topk(torch.relu(rows @ w + b), K)
            values.append(top.values)
            latents.append(top.indices)
    cost = clock(resource.RUSAGE_SELF) - start
    return cost, torch.cat(values).numpy(), torch.cat(latents).numpy()


def explained_by_rounding(x, w, b, ours, theirs):
    """Whether latents in one set only are no further from each other than float32 sums may be off."""
    odd = numpy.setxor1d(ours, theirs)
    terms = x.astype(numpy.float64)[:, None] * w[:, odd].astype(numpy.float64)
    exact = terms.sum(axis=0) + b[odd]
    bound = (D_IN + 2) * 2.0 ** -24 * (numpy.abs(terms).sum(axis=0) + numpy.abs(b[odd]))
    return len(ours) == len(theirs) and exact.max() - exact.min() <= 2 * bound.max()


def compare(x, w, b, rows, values, latents):
    """(tokens with the same latents, with others within rounding, with others; largest relative
    difference of a value)"""
    same = within = other = 0
    largest = 0.0
    for t, (indices, row) in enumerate(zip(*rows)):
        order = numpy.argsort(latents[t])
        theirs = latents[t][order]
        if numpy.array_equal(indices, theirs):
            same += 1
            largest = max(largest, float(numpy.max(numpy.abs(row / values[t][order] - 1))))
        elif explained_by_rounding(x[t], w, b, indices, theirs):
            within += 1
        else:
            other += 1
    return same, within, other, largest


def print_row(name, cost, baseline):
    # With few tokens a difference may drown in noise.
    times = ["%5.2f" % (b / c) if c > 0 else "    -" for b, c in zip(baseline or (), cost)]
    print("%-25s %7.0f ms %7.0f ms" % (name, 1e3 * cost.wall, 1e3 * cost.cpu), " " * 14, " ".join(times))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=4096)
    options = parser.parse_args()
    n = options.tokens
    if options.rounds < 1 or n < 2:
        parser.error("at least one round and two tokens")

    torch.set_num_threads(1)
    rng = numpy.random.default_rng(1)
    w, b = make_weights(rng)
    halves = make_tokens(rng, w, n)
    x = from_bf16(halves)
    tensors = torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b)
    print("%d tokens, d_in %d, d_sae %d, topk %d; one thread; PyTorch %s, %s, load %.1f"
          % (n, D_IN, D_SAE, K, torch.__version__, blas_name(), os.getloadavg()[0]))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sae(folder / "sae", w, b)
        for size in (1, n):
            write_tokens(folder / ("%d.safetensors" % size), halves[:size])
        engines = [Saerl(options.program, folder, precision) for precision in PRECISIONS]

        tried = {block: min(torch_encode(*tensors, block)[0] for _ in range(2)) for block in BLOCKS}
        block = min(tried, key=tried.get)
        engines[0].run(1)  # once for the page cache
        engines[0].costs.clear()
        costs = []
        for _ in range(options.rounds):
            cost, values, latents = torch_encode(*tensors, block)
            costs.append(cost)
            for engine in engines:
                engine.run(1)
                engine.run(n)

        baseline = median(costs)
        print("%32s %10s  times as fast: wall   CPU" % ("wall", "CPU"))
        print_row("torch, blocks of %d" % block, baseline, baseline)
        for engine in engines:
            print_row("saerl, " + engine.precision, engine.cost(n), baseline)
            print_row("    start with 1 token", median(engine.costs[1]), None)
        failed = False
        for engine in engines:
            same, within, other, largest = compare(x, w, b, engine.rows(n), values, latents)
            print("%s: same latents in %d of %d tokens, others within rounding in %d, others in %d; "
                  "values differ by at most %.1e of them" % (engine.precision, same, n, within, other, largest))
            failed |= engine.precision == "exact" and other > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
