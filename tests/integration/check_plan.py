#!/usr/bin/env python3
"""Is the plan of a finished run what docs/method.md, section 6, says?

    check_plan.py DIR [--data FILE]...

Works the plan out anew, with fractions, from scores.jsonl (row, kept, cluster, difficulty) and from
the seed and the `batches` settings in recipe.lock.yaml, and compares: batch and position in
scores.jsonl, batches.jsonl, the number of lines in kept.jsonl, and, given the data files in the
order of the run, its lines. Says "identical" (exit status 0), or where not (1). Python's standard
library only; nothing is shared with the program.
"""

import argparse
import json
import math
import os
import re
import sys
from fractions import Fraction

MASK = (1 << 64) - 1


class Difference(Exception):
    """What is not as it should be."""


def xxh3_64_of_row(row, seed):
    """XXH3-64 of a row number as 8 little-endian bytes."""
    swapped = int.from_bytes((seed & 0xFFFFFFFF).to_bytes(4, "little"), "big")
    seed ^= swapped << 32
    secret = int.from_bytes(bytes.fromhex("7c01812cf721ad1c"), "little")
    secret ^= int.from_bytes(bytes.fromhex("ded46de9839097db"), "little")
    low, high = row & 0xFFFFFFFF, row >> 32
    h = (high | low << 32) ^ ((secret - seed) & MASK)
    h ^= ((h << 49 | h >> 15) & MASK) ^ ((h << 24 | h >> 40) & MASK)
    h = h * 0x9FB21C651E98DF25 & MASK
    h ^= (h >> 35) + 8
    h = h * 0x9FB21C651E98DF25 & MASK
    return h ^ h >> 28


def read_settings(path):
    """The top-level `seed` and the `batches` section, in block or in flow style."""
    settings, inside = {}, False
    with open(path, encoding="utf-8") as file:
        for line in file:
            line = re.sub(r"(^|\s)#.*", "", line).rstrip()
            if not line:
                continue
            if not line.startswith(" "):
                key, _, value = line.partition(":")
                value = value.strip()
                inside = key == "batches"
                if key == "seed":
                    settings["seed"] = int(value)
                if not inside or not value:
                    continue
                pairs = value.strip("{}").split(",")
            elif inside:
                pairs = [line]
            else:
                continue
            for pair in pairs:
                name, _, setting = pair.partition(":")
                settings[name.strip()] = setting.strip().strip("\"'")
    wanted = ["seed", "size", "order", "grouping", "mixing", "mixing_chain", "drop_last"]
    for name in wanted:
        if name not in settings:
            raise Difference("%s: no '%s'" % (path, name))
    settings["size"] = int(settings["size"])
    settings["mixing"] = float(settings["mixing"])
    for name in ("mixing_chain", "drop_last"):
        settings[name] = settings[name] == "true"
    return settings


def read_jsonl(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_lines(path):
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    return lines if lines[-1] else lines[:-1]


class Row:
    def __init__(self, score, settings):
        self.row = score["row"]
        self.cluster = score["cluster"]
        order = settings["order"]
        if order == "random":
            self.key = Fraction(xxh3_64_of_row(self.row, settings["seed"]))
        elif order == "none":
            self.key = Fraction(self.row)
        else:
            if score["difficulty"] is None:
                raise Difference("row %d: kept, but has no difficulty to go by" % self.row)
            self.key = Fraction(score["difficulty"])
            if (self.key * 2**24).denominator != 1:
                raise Difference("row %d: difficulty is no multiple of 2^-24" % self.row)
            if order == "hard_to_easy":
                self.key = -self.key

    def sort_key(self):
        return self.key, self.row


def mean(rows):
    return sum((row.key for row in rows), Fraction(0)) / len(rows)


def by_cluster(rows, settings):
    """Steps 1 to 4: full batches as (cluster, rows), and what is left for the short one."""
    size = settings["size"]
    members = {}
    for row in rows:
        if row.cluster is None:
            raise Difference("row %d: kept, but in no cluster" % row.row)
        members.setdefault(row.cluster, []).append(row)
    rounds, leftovers = [], []
    for cluster in sorted(members):
        in_order = sorted(members[cluster], key=Row.sort_key)
        n_chunks = len(in_order) // size
        for r in range(n_chunks):
            if r == len(rounds):
                rounds.append([])
            rounds[r].append((cluster, in_order[r * size : (r + 1) * size]))
        leftovers += in_order[n_chunks * size :]
    leftovers.sort(key=Row.sort_key)
    n_chunks = len(leftovers) // size
    pooled = [leftovers[i * size : (i + 1) * size] for i in range(n_chunks)]
    if settings["order"] == "random":
        stand = lambda chunk: (chunk[1][0].key, chunk[0])
    else:
        stand = lambda chunk: (mean(chunk[1]), chunk[0])
    means = [mean([row for _, chunk in chunks for row in chunk]) for chunks in rounds]
    joined = [sorted(chunks, key=stand) for chunks in rounds] or [[]]
    for chunk in pooled:
        distances = [abs(m - mean(chunk)) for m in means] or [0]
        joined[distances.index(min(distances))].append((None, chunk))
    batches = [batch for chunks in joined for batch in chunks]

    m = min(math.floor(settings["mixing"] * size + 0.5), size // 2)
    for first in (0, 1) if settings["mixing_chain"] else (0,):
        for b in range(first, len(batches) - 1, 2):
            left, right = batches[b][1], batches[b + 1][1]
            if m > 0:
                left[-m:], right[-m:] = right[-m:], left[-m:]
    return batches, leftovers[n_chunks * size :]


def spread(rows):
    members = {}
    for row in rows:
        if row.cluster is None:
            raise Difference("row %d: kept, but in no cluster" % row.row)
        members.setdefault(row.cluster, []).append(row)
    turns = [
        (turn, cluster, row)
        for cluster, group in members.items()
        for turn, row in enumerate(sorted(group, key=Row.sort_key))
    ]
    return [row for _, _, row in sorted(turns, key=lambda t: t[:2])]


def make_plan(rows, settings):
    """Batches as (cluster, row numbers), and the row numbers of no batch."""
    size = settings["size"]
    if settings["grouping"] == "cluster":
        batches, rest = by_cluster(rows, settings)
    else:
        if settings["grouping"] == "spread":
            in_order = spread(rows)
        else:
            in_order = sorted(rows, key=Row.sort_key)
        n = len(in_order) // size
        batches = [(None, in_order[b * size : (b + 1) * size]) for b in range(n)]
        rest = in_order[n * size :]
    if rest and not settings["drop_last"]:
        batches.append((None, rest))
        rest = []
    plan = [(cluster, [row.row for row in batch]) for cluster, batch in batches]
    return plan, [row.row for row in rest]


def compare(what, found, expected):
    if found != expected:
        raise Difference("%s: %r, expected %r" % (what, found, expected))


def check(folder, data=()):
    """Number of rows and batches of a plan that is right; Difference if it is not."""
    settings = read_settings(os.path.join(folder, "recipe.lock.yaml"))
    scores = read_jsonl(os.path.join(folder, "scores.jsonl"))
    plan, rest = make_plan([Row(score, settings) for score in scores if score["kept"]], settings)

    places, position = {}, 0
    for b, (_, rows) in enumerate(plan):
        for row in rows:
            places[row] = (b, position)
            position += 1
    for i, score in enumerate(scores):
        compare("scores.jsonl:%d: row" % (i + 1), score["row"], i)
        found = (score["batch"], score["position"])
        compare("row %d: (batch, position)" % i, found, places.get(i, (None, None)))

    batches = read_jsonl(os.path.join(folder, "batches.jsonl"))
    for b, (found, (cluster, rows)) in enumerate(zip(batches, plan)):
        compare("batches.jsonl:%d: batch" % (b + 1), found["batch"], b)
        compare("batch %d: cluster" % b, found["cluster"], cluster)
        compare("batch %d: rows" % b, found["rows"], rows)
        compare("batch %d: ids" % b, found["ids"], [scores[row]["id"] for row in rows])
    compare("batches.jsonl: batches", len(batches), len(plan))

    kept = read_lines(os.path.join(folder, "kept.jsonl"))
    order = [row for _, rows in plan for row in rows] + rest
    compare("kept.jsonl: lines", len(kept), len(order))
    if data:
        lines = [line for path in data for line in read_lines(path)]
        for i, row in enumerate(order):
            compare("kept.jsonl:%d: line (of row %d)" % (i + 1, row), kept[i], lines[row])
    return len(order), len(plan)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("--data", metavar="FILE", action="append", default=[])
    options = parser.parse_args(arguments)
    try:
        n_rows, n_batches = check(options.folder, options.data)
    except Difference as difference:
        print(difference)
        return 1
    print("identical: %d rows, %d batches" % (n_rows, n_batches))
    return 0


if __name__ == "__main__":
    sys.exit(main())
