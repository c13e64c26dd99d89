#!/usr/bin/python3
"""The sidecar against what it is made of: sidecar.py PROGRAM [--only NAME...] [--json] [--long]

    ping       PING against bare ZeroMQ; both while 1 GB of activations is encoded
    ingest     SUBMITs with nothing to encode against bare ZeroMQ
    feedback   1,024 x 8 rewards at a time, durable; 8 clients at 1,000 requests a second
    curate     CURATE against the encoding alone, pooled and token by token
    step       all of a step: SUBMITs of 1,024 x 200 tokens and a FETCH (with --long only)
    start      the second start over 100,000 prompts

Sides that are compared run in turns, in processes of their own: figures of one line come from the
same minutes. Everything is made up (numpy): a top-k SAE of 1536 x 16384, tokens of noise, latents
and a few dimensions far out, prompts with features of 64 latents in 64 topics.

Beside PROGRAM's folder lie the programs that make the load: `meson test --benchmark sidecar` builds
them first. Exit status 77 without NumPy; figures are printed whatever they are.
"""

import argparse
import ctypes
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SKIP = 77
try:
    import numpy
except ImportError as missing:
    print("skipped: %s (Debian: python3-numpy)" % missing)
    sys.exit(SKIP)

CHECKOUT = Path(__file__).resolve().parents[2]
D_IN, D_SAE, K = 1536, 16384, 64
TOKENS, PROMPTS = 8192, 100_000
LENGTH, SAMPLES = 200, 3  # of a SUBMIT: 1.8 MB
GB = 10**9


def write_safetensors(path, tensors, metadata=None):
    """name -> (type, array)"""
    header, offset = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, array) in tensors.items():
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, array in tensors.values():
            out.write(array.tobytes())


def to_bf16(x):
    """float32 to the upper halves of its bits, to nearest even."""
    bits = x.view(numpy.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(numpy.uint16)


class World:
    """The files, each made when it is first asked for."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.rng = numpy.random.default_rng(1)

    def run(self, *args):
        done = subprocess.run([self.program, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
        if done.returncode:
            sys.exit("saerl %s: exit status %d\n%s" % (" ".join(map(str, args)), done.returncode, done.stdout))

    def sae(self):
        path = self.folder / "sae"
        if not path.exists():
            path.mkdir()
            latents = self.rng.standard_normal((D_SAE, D_IN), dtype=numpy.float32)
            latents /= numpy.linalg.norm(latents, axis=1, keepdims=True)
            write_safetensors(path / "sae_weights.safetensors", {
                "W_enc": ("F32", numpy.ascontiguousarray(latents.T)),
                "b_enc": ("F32", numpy.zeros(D_SAE, numpy.float32)),
                "W_dec": ("F32", latents),
                "b_dec": ("F32", numpy.zeros(D_IN, numpy.float32)),
            })
            (path / "cfg.json").write_text(json.dumps({
                "architecture": "topk", "d_in": D_IN, "d_sae": D_SAE, "k": K, "dtype": "float32",
                "apply_b_dec_to_input": False, "normalize_activations": "none",
                "metadata": {"sae_lens_version": "6.0.0"},
            }))
            x = self.rng.standard_normal((TOKENS, D_IN), dtype=numpy.float32)
            for row in x:
                strengths = 8 * numpy.exp(self.rng.standard_normal(K, dtype=numpy.float32) / 2)
                row += strengths @ latents[self.rng.integers(0, D_SAE, K)]
            for a in range(4):
                x[:, (a * 389 + 17) % D_IN] += 60 + 10 * self.rng.standard_normal(TOKENS, dtype=numpy.float32)
            (self.folder / "tokens.bf16").write_bytes(to_bf16(x).tobytes())
        return path

    def tokens(self):
        self.sae()
        return self.folder / "tokens.bf16"

    def probes(self, name):
        """Fitted on features of the tokens, one or eight a sample; labels that say next to nothing."""
        each = 1 if name == "pooled" else 8
        n = TOKENS // each
        tensors = {"activations": ("BF16", numpy.fromfile(self.tokens(), numpy.uint16).reshape(TOKENS, D_IN))}
        if each > 1:
            tensors["offsets"] = ("I64", numpy.arange(0, TOKENS + 1, each, dtype=numpy.int64))
        write_safetensors(self.folder / "fit.safetensors", tensors)
        features = self.folder / (name + ".features.safetensors")
        self.run("encode", "--sae", self.sae(), "--activations", self.folder / "fit.safetensors", "-o", features)
        with open(self.folder / "labels.jsonl", "w") as out:
            for i, label in enumerate(self.rng.integers(0, 2, n)):
                out.write('{"row": %d, "label": %d}\n' % (i, label))
        extra = "none" if name == "pooled" else "recon,length"
        for kind, alpha in ("quality", "1"), ("difficulty", "0.001"):
            self.run("fit", kind, "--features", features, "--labels", self.folder / "labels.jsonl", "--extra", extra,
                     "--alpha", alpha, "--folds", "2", "-o", self.folder / ("%s.%s.probe.safetensors" % (name, kind)))

    def recipe(self, name, text):
        path = self.folder / (name + ".yaml")
        path.write_text("version: 1\nsae: {path: sae%s}\nresources: {threads: %d}\n"
                        % (", input: pooled" if name == "pooled" else "", os.cpu_count()) + text)
        return path

    def candidates(self, name):
        """A recipe without a data set: clusters are worked out on the request."""
        path = self.folder / (name + ".yaml")
        if not path.exists():
            self.probes(name)
            self.recipe(name, "clustering: {clusters: 16}\nbatches: {size: 64}\n"
                              "quality: {probe: %s.quality.probe.safetensors}\n"
                              "difficulty: {probe: %s.difficulty.probe.safetensors, force: true}\n" % (name, name))
        return path

    def prompts(self):
        """A recipe of PROMPTS prompts with features, clusters and a difficulty probe."""
        self.sae()
        n, per = PROMPTS, K
        topic = self.rng.integers(0, 64, n)
        favourite = self.rng.integers(0, D_SAE // per, (64, per))
        own = self.rng.integers(0, D_SAE // per, (n, per))
        indices = numpy.where(self.rng.random((n, per)) < 0.4, favourite[topic], own)
        indices += numpy.arange(per) * (D_SAE // per)
        values = numpy.exp(self.rng.standard_normal((n, per)) / 2).astype(numpy.float32)
        write_safetensors(self.folder / "prompts.features.safetensors", {
            "indptr": ("I64", numpy.arange(0, n * per + 1, per, dtype=numpy.int64)),
            "indices": ("U32", indices.astype(numpy.uint32).ravel()),
            "values": ("F32", values.ravel()),
            "tokens_used": ("U32", self.rng.integers(50, 400, n).astype(numpy.uint32)),
        }, {"format": "saerl.features", "version": "1", "d_sae": str(D_SAE), "pooling": "max"})
        hard = (topic / 64 + self.rng.random(n)) / 2
        with open(self.folder / "prompts.jsonl", "w") as out:
            for i in range(n):
                text = "Problem %d: find the %dth number of sequence %d, then explain in your own words why there " \
                       "is no other." % (i, i * 7 % 1000, topic[i])
                out.write(json.dumps({"id": i, "prompt": text, "difficulty": round(float(hard[i]), 4)}) + "\n")
        return self.recipe("prompts", "input:\n  data: [prompts.jsonl]\n  features: prompts.features.safetensors\n"
                                      "  fields: {difficulty: difficulty}\n"
                                      "clustering: {clusters: 64, max_iterations: 20}\nbatches: {size: 128}\n"
                                      "difficulty: {fit_labels: field, extra: [length], folds: 2}\n")


class Bench:
    def __init__(self, options, folder):
        self.program = Path(options.program).resolve()
        self.tools = self.program.parent / "tests" / "bench"
        self.world, self.folder, self.long = World(self.program, folder), folder, options.long
        self.figures = {}
        os.environ.update(PROGRAM=str(self.program), CHECKOUT=str(CHECKOUT))
        sys.path.insert(0, str(CHECKOUT / "tests" / "integration"))
        import sidecar_case
        self.case = sidecar_case

    def sidecar(self, name, recipe):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        started = self.case.Sidecar(folder, recipe, wait=False)
        started.wait_ready(600)
        if started.process.poll() is not None or "ready after" not in started.said():
            sys.exit("the sidecar is not ready: %s" % started.said())
        return started

    def endpoint(self, sidecar):
        return "ipc://%s" % sidecar.path

    def bare(self, what):
        """A ROUTER of the library alone: process and endpoint."""
        endpoint = "ipc://%s" % (self.folder / (what + ".sock"))
        process = subprocess.Popen([self.tools / "zmq_peer", what, endpoint], stdout=subprocess.PIPE)
        process.stdout.readline()
        return process, endpoint

    def command(self, tool, *args, **options):
        command = [str(self.tools / tool), *args]
        for name, value in options.items():
            name = "--" + name.replace("_", "-")
            command += [name] if value is True else [name, str(value)]
        return command

    def load(self, what, **options):
        return json.loads(subprocess.run(self.command("sidecar_load", what, **options), check=True,
                                         stdout=subprocess.PIPE).stdout)

    def tell(self, figure, goal, met, **values):
        self.figures[figure] = dict(values, goal=goal, met=bool(met))
        shown = ", ".join("%s %s" % (k.replace("_", " "), ("%.4g" % v) if isinstance(v, float) else v)
                          for k, v in values.items())
        print("%-22s %s\n%22s goal %s: %s" % (figure, shown, "", goal, "met" if met else "NOT MET"), flush=True)

    # The figures.

    def ping(self):
        sidecar = self.sidecar("ping", self.world.candidates("tokens"))
        echo, bare = self.bare("echo")
        ours, theirs = [], []
        for _ in range(10):
            theirs += self.load("ping", endpoint=bare, bare=True, count=2000)["times_us"]
            ours += self.load("ping", endpoint=self.endpoint(sidecar), count=2000)["times_us"]
        ratio = quantile(ours, 0.5) / quantile(theirs, 0.5)
        self.tell("ping, idle", "p50 <= 1.5 x bare ZeroMQ", ratio <= 1.5, n=len(ours),
                  p50_us=quantile(ours, 0.5), p99_us=quantile(ours, 0.99),
                  bare_p50_us=quantile(theirs, 0.5), bare_p99_us=quantile(theirs, 0.99), ratio=ratio)

        size = SAMPLES * LENGTH * D_IN * 2
        encode = subprocess.Popen(self.command(
            "sidecar_load", "submit", endpoint=self.endpoint(sidecar), file=self.world.tokens(), count=GB // size,
            samples=SAMPLES, length=LENGTH, window=64 << 20), stdout=subprocess.PIPE)
        time.sleep(0.5)
        ours, theirs = [], []
        while encode.poll() is None:
            ours.append(self.load("ping", endpoint=self.endpoint(sidecar), count=800, pause_us=2000)["times_us"])
            theirs.append(self.load("ping", endpoint=bare, bare=True, count=400, pause_us=2000)["times_us"])
        done = json.loads(encode.stdout.read())
        # The last of each may have gone on after the encoding.
        ours, theirs = sum(ours[:-1], []), sum(theirs[:-1], [])
        self.tell("ping, 1 GB encoded", "p99 <= 5 ms", quantile(ours, 0.99) <= 5000, n=len(ours),
                  p50_us=quantile(ours, 0.5), p99_us=quantile(ours, 0.99), max_us=max(ours),
                  bare_p99_us=quantile(theirs, 0.99), encode_s=done["seconds"],
                  tokens_per_s=done["accepted"] * LENGTH / done["seconds"])
        echo.kill()
        echo.wait()
        sidecar.stop()

    def ingest(self):
        sidecar = self.sidecar("ingest", self.world.candidates("tokens"))
        sink, bare = self.bare("sink")
        size = SAMPLES * LENGTH * D_IN * 2
        ours, theirs, first, count = [], [], 0, 2000  # 3.7 GB: a window takes a while to fill
        both = dict(file=self.world.tokens(), samples=SAMPLES, length=LENGTH, masked=True, window=64 << 20)
        for turn in range(8):
            b = self.load("submit", endpoint=bare, bare=True, count=count, **both)
            o = self.load("submit", endpoint=self.endpoint(sidecar), first=first, count=count, **both)
            first += count * SAMPLES
            if turn > 0:
                theirs.append(b["bytes"] / b["seconds"] / GB)
                ours.append(o["bytes"] / o["seconds"] / GB)
        ratios = [o / t for o, t in zip(ours, theirs)]
        self.tell("ingest", ">= 0.8 x bare ZeroMQ", quantile(ratios, 0.5) >= 0.8, turns=len(ours),
                  gb_per_s=quantile(ours, 0.5), bare_gb_per_s=quantile(theirs, 0.5), ratio=quantile(ratios, 0.5),
                  ratio_low=min(ratios), ratio_high=max(ratios), request_bytes=size)
        sink.kill()
        sink.wait()
        sidecar.stop()

    def disk(self):
        """fdatasync of four pages behind each other, under the state's own folder."""
        return self.load("sync", file=self.folder / "sync", count=1000, bytes=16384, pause_us=1000)["times_us"]

    def feedback(self):
        sidecar = self.sidecar("prompts", self.world.prompts())
        before = self.disk()
        big = self.load("feedback", endpoint=self.endpoint(sidecar), run="big", count=60, samples=1024, length=8)
        times = big["times_us"]
        disk = before + self.disk()
        self.tell("feedback, 1024 x 8", ">= 50/s, p99 <= 50 ms",
                  len(times) / big["seconds"] >= 50 and quantile(times, 0.99) <= 50e3, n=len(times),
                  per_s=len(times) / big["seconds"], p50_us=quantile(times, 0.5), p99_us=quantile(times, 0.99),
                  accepted=big["accepted"], disk_p50_us=quantile(disk, 0.5), disk_p99_us=quantile(disk, 0.99))
        small, disk = [], self.disk()
        for turn in range(3):
            r = self.load("offered", endpoint=self.endpoint(sidecar), run="small-%d" % turn, count=10240, clients=8,
                          rate=1000, length=8)
            if r["lost"]:
                sys.exit("%d requests were not answered" % r["lost"])
            small += r["times_us"]
            disk += self.disk()
        self.tell("feedback, 1000/s of 8", "p99 <= 5 ms", quantile(small, 0.99) <= 5000, n=len(small),
                  p50_us=quantile(small, 0.5), p99_us=quantile(small, 0.99), p999_us=quantile(small, 0.999),
                  max_us=max(small), disk_p50_us=quantile(disk, 0.5), disk_p99_us=quantile(disk, 0.99))
        sidecar.stop()

    def turns(self, sidecar, **options):
        out = subprocess.run(self.command("sidecar_curate", endpoint=self.endpoint(sidecar), sae=self.world.sae(),
                                          file=self.world.tokens(), threads=os.cpu_count(), **options), check=True,
                             stdout=subprocess.PIPE).stdout
        return json.loads(out)

    def compare(self, figure, limit, result):
        turns = result["turns"]
        first = [t["first"] / t["alone"] for t in turns]
        again = [t["again"] / t["alone"] for t in turns]
        errors = [t["first"] / t["errors"] for t in turns]
        self.tell(figure, "<= %g x the encoding alone" % limit, quantile(first, 0.5) <= limit, turns=len(turns),
                  engine=result["engine"], mb=result["bytes"] / 1e6,
                  curate_ms=quantile([t["first"] for t in turns], 0.5),
                  encode_alone_ms=quantile([t["alone"] for t in turns], 0.5), ratio=quantile(first, 0.5),
                  ratio_low=min(first), ratio_high=max(first), again_ratio=quantile(again, 0.5),
                  ratio_with_errors=quantile(errors, 0.5))

    def curate(self):
        sidecar = self.sidecar("pooled", self.world.candidates("pooled"))
        self.compare("curate 1024 vectors", 1.25, self.turns(sidecar, samples=1024, repeats=15))
        self.load("submit", endpoint=self.endpoint(sidecar), file=self.world.tokens(), count=1, samples=1024, length=0)
        self.compare("the same, kept", 1.25, self.turns(sidecar, samples=1024, repeats=15, frozen=True))
        sidecar.stop()
        sidecar = self.sidecar("curate", self.world.candidates("tokens"))
        self.load("submit", endpoint=self.endpoint(sidecar), file=self.world.tokens(), count=1, samples=8, length=200)
        self.compare("curate 64 x 200", 1.15, self.turns(sidecar, samples=64, length=200, repeats=15, frozen=True))
        sidecar.stop()

    def step(self):
        sidecar = self.sidecar("step", self.world.candidates("tokens"))
        peer = sidecar.peer(run="step")
        ours, theirs, fetches, prompts, per = [], [], [], 1024, 4
        for turn in range(2):
            alone = self.turns(sidecar, samples=prompts, length=200, repeats=1, alone=True)["turns"]
            theirs += [t["alone"] / 1e3 for t in alone]
            done = self.load("submit", endpoint=self.endpoint(sidecar), run="step", file=self.world.tokens(),
                             count=prompts // per, samples=per, length=200, window=64 << 20, first=turn * prompts)
            start = time.monotonic()
            peer.fetch(turn, prompts)
            fetches.append(time.monotonic() - start)
            ours.append(done["seconds"] + fetches[-1])
        ratios = [o / t for o, t in zip(ours, theirs)]
        self.tell("step, 1024 x 200", "<= 1.15 x the encoding alone", quantile(ratios, 0.5) <= 1.15, turns=len(ours),
                  step_s=quantile(ours, 0.5), fetch_s=quantile(fetches, 0.5), encode_alone_s=quantile(theirs, 0.5),
                  ratio=quantile(ratios, 0.5))
        sidecar.stop()

    def start(self):
        recipe = self.folder / "prompts.yaml"
        if not recipe.exists():
            recipe = self.world.prompts()
        self.sidecar("prompts", recipe).stop()
        seconds = []
        for _ in range(5):
            begin = time.monotonic()
            sidecar = self.sidecar("prompts", recipe)
            seconds.append(time.monotonic() - begin)
            sidecar.stop()
        said = re.findall(r"ready after ([0-9.]+) s", sidecar.said())
        self.tell("second start", "<= 2 s", max(seconds) <= 2, prompts=PROMPTS, n=len(seconds),
                  seconds=quantile(seconds, 0.5), seconds_max=max(seconds), logged_s=said[-1])


def quantile(values, q):
    """The value that a share q of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def libzmq_version():
    numbers = [ctypes.c_int() for _ in range(3)]
    ctypes.CDLL("libzmq.so.5").zmq_version(*map(ctypes.byref, numbers))
    return ".".join(str(n.value) for n in numbers)


def conditions():
    cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "libzmq": libzmq_version(), "load": os.getloadavg()[0], "d_in": D_IN, "d_sae": D_SAE, "k": K}


def main():
    names = ["ping", "ingest", "feedback", "curate", "step", "start"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("program")
    parser.add_argument("--only", action="append", choices=names)
    parser.add_argument("--json", action="store_true", help="and all figures as one line of JSON")
    parser.add_argument("--long", action="store_true", help="and a step of 1,024 prompts")
    parser.add_argument("--folder", help="where the files are made, in place of a temporary one: the disk counts")
    options = parser.parse_args()
    chosen = options.only or [n for n in names if n != "step" or options.long]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        bench = Bench(options, Path(name))
        bench.figures["conditions"] = conditions()
        version = subprocess.run([bench.program, "--version"], stdout=subprocess.PIPE, text=True).stdout
        print(version.strip())
        print(", ".join("%s %s" % item for item in bench.figures["conditions"].items()), flush=True)
        for figure in chosen:
            getattr(bench, figure)()
    if options.json:
        print(json.dumps(bench.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
