"""SIGKILL at random moments, with an account kept outside of all that the sidecar acknowledged.

SAERL_KILLS is how many times it is killed: 15 unless set, scripts/sidecar_kills.sh sets it. Clients
of several runs fetch, feed back, submit, save and restore all the while, and repeat what was not
answered. At the end the sidecar's ledger must hold what was acknowledged, all of it, once.
"""

import collections
import json
import os
import random
import sqlite3
import threading
import time
import unittest

from sidecar_case import ERROR, Peer, Refused, RETRY, Sidecar, SidecarCase, tensor

KILLS = int(os.environ.get("SAERL_KILLS", "15"))
SEED = int(os.environ.get("SAERL_SEED", "1"))
RUNS = 3
PROMPTS, BATCH = 400, 8
PATIENCE_S = 60


class Run:
    """What the clients of one run were told."""

    def __init__(self, name):
        self.name = name
        self.gate = threading.Lock()  # held by who changes what feedback means: SAVE, RESTORE
        self.batches = {}  # seq -> frames of the reply
        self.sids = {}  # seq -> sids
        self.counted = collections.Counter()  # (seq, sid, rollout, reward)
        self.consumed = 0
        self.saved = []  # (tag, next_seq, consumed, counted)

    @property
    def next_seq(self):
        return len(self.batches)


class Client(threading.Thread):
    """One client: every call is repeated until it is answered."""

    def __init__(self, world, run, name, seed):
        super().__init__(daemon=True)
        self.world, self.run_state, self.client = world, run, name
        self.random = random.Random(seed)
        self.peer = None
        self.request = time.time_ns()
        self.calls = self.repeats = 0
        self.error = None

    def connect(self):
        peer = Peer(self.world.path, timeout=PATIENCE_S)
        try:
            peer.hello(run=self.run_state.name, client=self.client)
        except BaseException:
            peer.close()
            raise
        self.peer = peer

    def call(self, kind, header, tensors=(), raw=False):
        self.request += 1
        self.calls += 1
        end = time.monotonic() + PATIENCE_S
        flags = 0
        while time.monotonic() < end and not self.world.given_up:
            try:
                if self.peer is None:
                    self.connect()
                self.peer.send(kind, header, tensors, request=self.request, flags=flags)
                if not raw:
                    return self.peer.receive()
                reply = self.peer.receive_raw()
                if reply[0][7] & ERROR:
                    raise Refused(json.loads(reply[1]))
                return reply
            except Refused as refused:
                if not refused.header["retryable"]:
                    raise
                time.sleep(0.01)
            except OSError:
                if self.peer:
                    self.peer.close()
                self.peer = None
                time.sleep(0.005)
            if flags == 0:
                self.repeats += 1
            flags = RETRY
        raise TimeoutError("%s of %s was not answered in %d s" % (kind, self.client, PATIENCE_S))

    def run(self):
        try:
            while not self.world.stop.is_set():
                self.step()
        except BaseException as error:  # told by the main thread
            self.error = error
        finally:
            if self.peer:
                self.peer.close()

    def check(self, condition, *what):
        if not condition:
            raise AssertionError("%s of run %s: %s" % (self.client, self.run_state.name, what))


class Trainer(Client):
    def step(self):
        dice = self.random.random()
        if dice < 0.35 or not self.run_state.batches:
            self.fetch()
        elif dice < 0.85:
            self.feed()
        elif dice < 0.93:
            self.again()
        elif dice < 0.98 or not self.run_state.saved:
            self.save()
        else:
            self.restore()

    def fetch(self):
        run = self.run_state
        seq = run.next_seq
        _, header, bodies = self.call("FETCH", {"seq": seq, "n": BATCH}, raw=True)
        run.sids[seq] = [int.from_bytes(bodies[0][i : i + 8], "little") for i in range(0, 8 * BATCH, 8)]
        run.batches[seq] = (header, bodies)

    def again(self):
        run = self.run_state
        seq = self.random.randrange(max(run.consumed, run.next_seq - 50), run.next_seq)
        _, header, bodies = self.call("FETCH", {"seq": seq, "n": BATCH}, raw=True)
        self.check((header, bodies) == run.batches[seq], "batch", seq, "has changed", header)

    def feed(self):
        with self.run_state.gate:
            feed(self, self.random.randrange(max(0, self.run_state.next_seq - 20), self.run_state.next_seq))

    def save(self):
        run = self.run_state
        with run.gate:
            tag = "tag-%d" % self.random.randrange(4)
            consumed = max(run.consumed, run.next_seq - 100)
            header, _ = self.call("SAVE", {"tag": tag, "consumed_seq": consumed})
            self.check(header["next_seq"] == run.next_seq, "SAVE", header, run.next_seq)
            run.consumed = consumed
            run.saved = [s for s in run.saved if s[0] != tag]
            run.saved.append((tag, run.next_seq, consumed, run.counted.copy()))

    def restore(self):
        run = self.run_state
        with run.gate:
            at = self.random.randrange(len(run.saved))
            tag, next_seq, consumed, counted = run.saved[at]
            header, _ = self.call("RESTORE", {"tag": tag})
            self.check(header["next_seq"] == next_seq, "RESTORE", header, next_seq)
            dropped = sum(run.counted.values()) - sum(counted.values())
            self.check(header["dropped_feedback"] == dropped, "RESTORE", header, dropped)
            for seq in range(next_seq, run.next_seq):
                del run.batches[seq], run.sids[seq]
            run.counted = counted.copy()
            # What was saved later stands on what is gone.
            run.saved = run.saved[: at + 1]
            run.consumed = consumed  # of that moment, too


class Helper(Client):
    """A second process of the run that only feeds back."""

    def step(self):
        with self.run_state.gate:
            if self.run_state.next_seq:
                feed(self, self.random.randrange(max(0, self.run_state.next_seq - 20), self.run_state.next_seq))
        time.sleep(0.001)


def feed(client, seq):
    """Rewards for some of a batch. Numbered rollouts are drawn from a few, so that they come twice."""
    run = client.run_state
    sids = run.sids[seq]
    numbered = client.random.random() < 0.8
    items = []
    for sid in client.random.sample(sids, client.random.randrange(1, BATCH + 1)):
        for rollout in range(client.random.randrange(1, 5)):
            number = client.random.randrange(12) if numbered else -1
            items.append((sid, float(client.random.random() < 0.5), number))
    tensors = [
        tensor("sid", "u64", [i[0] for i in items]),
        tensor("reward", "f32", [i[1] for i in items]),
    ]
    if numbered:
        tensors.append(tensor("rollout", "i32", [i[2] for i in items]))
    header, _ = client.call("FEEDBACK", {"seq": seq}, tensors)
    known = {key[:3] for key in run.counted}
    accepted = duplicate = 0
    for sid, reward, number in items:
        if number >= 0 and (seq, sid, number) in known:
            duplicate += 1
            continue
        known.add((seq, sid, number))
        run.counted[(seq, sid, number, reward)] += 1
        accepted += 1
    told = (header["accepted"], header["duplicate"], header["unknown"], header["rejected"])
    client.check(told == (accepted, duplicate, 0, 0), "FEEDBACK", told, (accepted, duplicate))


class Submitter(Client):
    """Samples for the pool of a run of its own."""

    def step(self):
        if not self.run_state.sids:
            # Only whoever has attached to the data set may add to it.
            self.call("ATTACH", {}, [tensor("keys", "u64", [1])])
        n = self.random.randrange(1, 6)
        first = PROMPTS + len(self.run_state.sids)  # below are the rows of the data set
        sids = list(range(first, first + n))
        values = [self.random.gauss(0.3, 1) for _ in range(2 * n * self.world.D_IN)]
        header, out = self.call("SUBMIT", {}, [
            tensor("sid", "u64", sids),
            tensor("act", "f32", values, [2 * n, self.world.D_IN]),
            tensor("act_off", "i64", [2 * i for i in range(n + 1)]),
        ])
        self.check(header["accepted"] == n, "SUBMIT", header, out)
        self.run_state.sids.update((sid, True) for sid in sids)
        time.sleep(0.002)


class Accounted(SidecarCase):
    """Clients that work through what happens to the sidecar, and the comparison at the end."""

    def setUp(self):
        super().setUp()
        self.stop = threading.Event()
        self.given_up = False
        self.random = random.Random(SEED)
        self.path = self.dir / "run" / "s.sock"
        self.write_world(PROMPTS, recipe="clustering: {clusters: 3}\nbatches: {size: 8, order: none}\n")
        self.sidecar = self.start()
        self.addCleanup(lambda: self.sidecar.process.poll() is None and self.sidecar.kill())
        self.sidecar.wait_ready()
        self.runs = [Run("run-%d" % i) for i in range(RUNS)]
        self.pool = Run("pool")
        self.clients = [Trainer(self, run, "rank-0", SEED + i) for i, run in enumerate(self.runs)]
        self.clients += [Helper(self, run, "rank-1", SEED + 100 + i) for i, run in enumerate(self.runs)]
        self.clients.append(Submitter(self, self.pool, "rank-0", SEED + 200))

    def start(self):
        return Sidecar(self.dir, self.dir / "recipe.yaml", wait=False)

    def calls(self):
        return sum(c.calls for c in self.clients)

    def wait_for_anyone(self, before):
        """Until some call went through since: the sidecar serves again."""
        end = time.monotonic() + PATIENCE_S
        while self.calls() <= before + 2:
            self.check_clients()
            self.assertLess(time.monotonic(), end, "nobody is served: %s" % self.sidecar.said()[-2000:])
            time.sleep(0.002)

    def check_clients(self):
        for client in self.clients:
            if client.error:
                raise client.error

    def under_load(self, cycles, what, happens):
        """`happens(cycle)` again and again while all clients work; then they finish what they are at
        and everything is compared."""
        for client in self.clients:
            client.start()
        began = time.monotonic()
        try:
            for cycle in range(cycles):
                happens()
                self.check_clients()
                if cycles > 50 and (cycle + 1) % (cycles // 10) == 0:
                    print("%d of %d %s, %d calls, %.0f s" % (cycle + 1, cycles, what, self.calls(),
                                                             time.monotonic() - began), flush=True)
            self.wait_for_anyone(self.calls())
        except BaseException:
            self.given_up = True
            raise
        finally:
            self.stop.set()
            for client in self.clients:
                client.join(PATIENCE_S)
        self.check_clients()
        self.assertFalse(any(client.is_alive() for client in self.clients))
        self.compare()
        print("%d %s, %d calls of which %d were repeated; kept: %d rollouts, %d samples, %d batches"
              % (cycles, what, self.calls(), sum(c.repeats for c in self.clients),
                 sum(sum(r.counted.values()) for r in self.runs), len(self.pool.sids),
                 sum(r.next_seq for r in self.runs)))
        self.assertEqual(self.sidecar.stop(), 0, self.sidecar.said()[-2000:])
        self.compare_ledger()

    def compare(self):
        """Asked over the wire: batches are the same, and all feedback is a duplicate."""
        for run in self.runs:
            peer = self.sidecar.peer(run=run.name, client="auditor")
            self.assertEqual(peer.hello(run=run.name, client="auditor")["next_seq"], run.next_seq)
            for seq in range(run.next_seq):
                peer.send("FETCH", {"seq": seq, "n": BATCH})
                if seq < run.consumed:
                    self.refused("E_SEQ_RETIRED", peer.receive)
                else:
                    self.assertEqual(peer.receive_raw()[1:], run.batches[seq], seq)
            by_seq = collections.defaultdict(list)
            for seq, sid, rollout, reward in run.counted:
                if rollout >= 0:
                    by_seq[seq].append((sid, reward, rollout))
            for seq, items in by_seq.items():
                told = peer.feedback(seq, items)
                self.assertEqual((told["accepted"], told["duplicate"]), (0, len(items)), (run.name, seq))
            peer.close()

    def compare_ledger(self):
        """Read from the database: what is counted is what was acknowledged."""
        database = sqlite3.connect("file:%s?mode=ro" % (self.dir / "state" / "ledger.db"), uri=True)
        self.addCleanup(database.close)
        self.assertEqual(database.execute("PRAGMA integrity_check").fetchone(), ("ok",))
        for run in self.runs:
            found = collections.Counter()
            for seq, sid, rollout, reward in database.execute(
                "SELECT seq, sid, rollout, reward FROM rollouts WHERE run = ?", (run.name,)
            ):
                found[(seq, sid, -1 if rollout is None else rollout, reward)] += 1
            lost = run.counted - found
            extra = found - run.counted
            self.assertFalse(lost, "acknowledged, but lost: %s" % list(lost.items())[:5])
            self.assertFalse(extra, "never acknowledged, or counted twice: %s" % list(extra.items())[:5])
            batches = [r[0] for r in database.execute(
                "SELECT seq FROM batches b JOIN runs r ON r.id = b.run WHERE r.name = ? ORDER BY seq", (run.name,))]
            self.assertEqual(batches[-1:], [run.next_seq - 1])
        pooled = [r[0] for r in database.execute(
            "SELECT sid FROM pool p JOIN runs r ON r.id = p.run WHERE r.name = 'pool' ORDER BY sid")]
        self.assertEqual(pooled, sorted(self.pool.sids))


class Kills(Accounted):
    def kill(self):
        if self.random.random() < 0.15:
            # Still starting: recovery is interrupted.
            time.sleep(self.random.uniform(0, 0.08))
        else:
            self.wait_for_anyone(self.calls())
            time.sleep(self.random.uniform(0, 0.3))
        self.assertIsNone(self.sidecar.process.poll(), self.sidecar.said()[-2000:])
        self.sidecar.kill()
        self.sidecar = self.start()

    def test_what_was_acknowledged_is_there_once(self):
        self.under_load(KILLS, "kills", self.kill)


if __name__ == "__main__":
    unittest.main()
