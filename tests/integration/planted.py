"""A small pool of prompts that has nothing wrong with it, and ways to plant one thing that is.

Prompts of eight subjects, in words that mean nothing; sparse features in which a subject, a
difficulty and a quality can be seen; eight rewards a prompt drawn from its difficulty; three
sources that share all subjects. Standard library only, the same for one seed.
"""

import array
import json
import pathlib
import random
import struct

from saerl_case import write_jsonl, write_safetensors

SUBJECTS = 8
D_SAE = 512
SYLLABLES = ["ka", "lo", "mi", "ren", "sta", "tor", "vel", "dan", "pu", "che", "fir", "gol", "hun", "jas", "bri"]
COMMON = "the of a and in to is that it for on with as how many find what if then each are there value".split()


def word(rng):
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))


class Pool:
    """rows: what goes into data.jsonl; codes: a dict latent -> value a row; and two more columns."""

    def __init__(self, n, seed=1):
        self.rng = rng = random.Random(seed)
        self.words = [[word(rng) for _ in range(60)] for _ in range(SUBJECTS)]
        self.rows, self.codes, self.recon, self.true = [], [], [], []
        for i in range(n):
            self.add("task-%05d" % i, rng.choice(["alpha", "beta", "gamma"]), rng.randrange(SUBJECTS))

    def text(self, subject, n_words):
        rng = self.rng
        words = [
            rng.choice(COMMON) if rng.random() < 0.4 else str(rng.randint(2, 999)) if rng.random() < 0.15
            else rng.choice(self.words[subject])
            for _ in range(n_words)
        ]
        return " ".join(words).capitalize() + "?"

    def add(self, name, source, subject, text=None, codes=None, recon=None):
        rng = self.rng
        d, q = rng.betavariate(1.6, 1.6), rng.random()
        solved = [float(rng.random() > d) for _ in range(8)]
        self.rows.append({
            "id": name,
            "prompt": text or self.text(subject, rng.randint(14, 45)),
            "answer": str(rng.randint(0, 99999)),
            "source": source,
            "rewards": solved,
            "difficulty": round(min(max(d + rng.gauss(0, 0.05), 0), 1), 4),
            "quality": round(min(max(q + rng.gauss(0, 0.1), 0), 1), 4),
        })
        self.codes.append(codes or self.code(subject, d, q))
        self.recon.append(recon or max(rng.gauss(0.18, 0.02), 0.05))
        self.true.append(d)

    def code(self, subject, d, q):
        """Latents 0..79: subjects, ten each. 80..89: difficulty. 90..99: quality. The rest: whatever."""
        rng, code = self.rng, {}
        for j in range(10):
            if rng.random() < 0.7:
                code[10 * subject + j] = rng.lognormvariate(0.6, 0.4)
        for j in range(10):
            if rng.random() < 0.75:
                code[80 + j] = 0.2 + 3 * max(d + rng.gauss(0, 0.15), 0)
            if rng.random() < 0.75:
                code[90 + j] = 0.2 + 3 * max(q + rng.gauss(0, 0.15), 0)
        for _ in range(15):
            code[rng.randrange(100, D_SAE)] = rng.lognormvariate(0, 0.5)
        return code

    def write(self, folder):
        folder = pathlib.Path(folder)
        indptr, indices, values = [0], [], []
        for code in self.codes:
            for latent in sorted(code):
                indices.append(latent)
                values.append(code[latent])
            indptr.append(len(indices))
        n = len(self.rows)
        write_jsonl(folder / "data.jsonl", self.rows)
        write_safetensors(
            folder / "features.safetensors",
            {
                "indptr": ("I64", [n + 1], indptr),
                "indices": ("U32", [len(indices)], indices),
                "values": ("F32", [len(values)], values),
                "tokens_used": ("U32", [n], [max(1, len(r["prompt"]) // 4) for r in self.rows]),
                "recon_mean": ("F32", [n], self.recon),
                "recon_max": ("F32", [n], [3 * r for r in self.recon]),
            },
            {"format": "saerl.features", "version": "1", "d_sae": str(D_SAE), "pooling": "max"},
        )

    # What can be planted, each alone.

    def duplicated_source(self, share=0.25):
        """A source `delta` whose prompts are those of alpha, some with a word changed."""
        alpha = [i for i, r in enumerate(self.rows) if r["source"] == "alpha"]
        for k, i in enumerate(alpha[: int(share * len(self.rows))]):
            text = self.rows[i]["prompt"]
            if k % 2:
                text = text.replace("?", " please?")
            self.add("copy-%05d" % k, "delta", 0, text=text, codes=dict(self.codes[i]))
            self.rows[-1]["answer"] = self.rows[i]["answer"]

    def reworded_source(self):
        """The same with two words of each replaced: no near duplicates."""
        self.duplicated_source()
        for row in self.rows:
            if row["source"] != "delta":
                continue
            words = row["prompt"].split(" ")
            spoken = [i for i, w in enumerate(words) if w.isalpha()]
            for i in self.rng.sample(spoken[1:], 2):
                words[i] = "plain" + words[i][:1]
            row["prompt"] = " ".join(words)

    def one_template(self):
        """Nothing is wrong with it: sums to find, in a long frame."""
        rng = self.rng
        for row in self.rows:
            row["prompt"] = (
                "%d, %d, %d: make %d of them. You can use the signs of arithmetic and "
                "each number can only be used once. Show your work, then return the final answer between two tags, "
                "as one equation that a program can read and without any words around it, such as the one below."
                % tuple(rng.randint(2, 99) for _ in range(4))
            )

    def leaked_items(self, folder, leaked=8):
        """bench.jsonl of 60 items; some of them stand in the data, in a frame of other words."""
        items = [self.text(k % SUBJECTS, 30) for k in range(60)]
        write_jsonl(pathlib.Path(folder) / "bench.jsonl", [{"question": t} for t in items])
        for k, i in enumerate(self.rng.sample(range(len(self.rows)), leaked)):
            self.rows[i]["prompt"] = "Solve this: " + items[7 * k % 60] + " Give a number."

    def reversed_difficulty(self):
        for row in self.rows:
            row["difficulty"] = round(1 - row["difficulty"], 4)

    def shuffled_difficulty(self):
        """No rewards beside it: only the features can tell."""
        column = [row["difficulty"] for row in self.rows]
        self.rng.shuffle(column)
        for row, d in zip(self.rows, column):
            row["difficulty"] = d
            del row["rewards"]

    def length_as_difficulty(self):
        longest = max(len(r["prompt"]) for r in self.rows)
        for row in self.rows:
            d = len(row["prompt"]) / longest + self.rng.gauss(0, 0.03)
            row["difficulty"] = round(min(max(d, 0), 1), 4)
            del row["rewards"]

    def words_as_difficulty(self):
        """Words of a letter or of nine, in two bytes each or in one: no count of bytes tells how many."""
        for row in self.rows:
            n, letters = self.rng.randint(6, 60), self.rng.randint(1, 9)
            alphabet = self.rng.choice(["abcdefgh", "абвгдежз"])
            row["prompt"] = " ".join("".join(self.rng.choices(alphabet, k=letters)) for _ in range(n))
            row["difficulty"] = n / 60
            del row["rewards"]

    def repeated_words(self, share=0.08):
        """One word over and over: most of these are near duplicates of each other, too."""
        for i in self.rng.sample(range(len(self.rows)), int(share * len(self.rows))):
            self.rows[i]["prompt"] = " ".join([self.rng.choice(["ha", "ok", "no no"])] * self.rng.randint(20, 80))

    def five_latents(self):
        """All that fires, of so many that codes for most of them could not be expected."""
        for i in range(len(self.codes)):
            self.codes[i] = {j: self.rng.lognormvariate(0, 0.3) for j in range(5) if self.rng.random() < 0.8}

    def garbage(self, share=0.08):
        """Key smashing, with latents and a reconstruction error of its own."""
        letters = "asdfghjklqwertyuiopzxcvbnm;[]{}#@!$"
        for k in range(int(share * len(self.rows))):
            text = "".join(self.rng.choice(letters) for _ in range(self.rng.randint(60, 200)))
            codes = {400 + j: self.rng.lognormvariate(1.2, 0.3) for j in range(14) if self.rng.random() < 0.9}
            self.add("junk-%05d" % k, self.rng.choice(["alpha", "beta", "gamma"]), 0, text=text, codes=codes,
                     recon=self.rng.gauss(0.75, 0.05))

    def dead_features(self):
        """What an encoder gives that hardly ever fires."""
        for i, code in enumerate(self.codes):
            self.codes[i] = {j: x for j, x in code.items() if j < 4}


def permuted_activations(source, path):
    """The same numbers, each token's coordinates in another order: a rotation, as another layer is."""
    tensors, metadata = _raw(source)
    dtype, shape, data = tensors["activations"]
    d_in, values = shape[1], array.array("H", data)
    order = list(range(d_in))
    random.Random(5).shuffle(order)
    turned = array.array("H", bytes(len(data)))
    for t in range(shape[0]):
        begin = t * d_in
        for j, k in enumerate(order):
            turned[begin + j] = values[begin + k]
    tensors["activations"] = (dtype, shape, turned.tobytes())
    _write_raw(path, tensors, metadata)


def scaled_activations(source, path, factor):
    """As of a layer whose norms are others, or with a scale left out."""
    tensors, metadata = _raw(source)
    dtype, shape, data = tensors["activations"]
    assert dtype == "F16"
    values = struct.unpack("<%de" % (len(data) // 2), data)
    tensors["activations"] = (dtype, shape, struct.pack("<%de" % len(values), *(factor * x for x in values)))
    _write_raw(path, tensors, metadata)


def deadened_sae(source, folder):
    """A copy of a SAELens folder in which all but a handful of latents can never fire."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    (folder / "cfg.json").write_bytes((pathlib.Path(source) / "cfg.json").read_bytes())
    tensors, metadata = _raw(pathlib.Path(source) / "sae_weights.safetensors")
    dtype, shape, data = tensors["b_enc"]
    assert dtype == "F32"
    n = shape[0]
    values = list(struct.unpack("<%df" % n, data))
    values[12:] = [-1e4] * (n - 12)
    tensors["b_enc"] = (dtype, shape, struct.pack("<%df" % n, *values))
    _write_raw(folder / "sae_weights.safetensors", tensors, metadata)


def _raw(path):
    raw = pathlib.Path(path).read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + n])
    metadata = header.pop("__metadata__", None)
    return {
        name: (e["dtype"], e["shape"], raw[8 + n + e["data_offsets"][0] : 8 + n + e["data_offsets"][1]])
        for name, e in header.items()
    }, metadata


def _write_raw(path, tensors, metadata):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)
