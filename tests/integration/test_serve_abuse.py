"""Strangers that do all they can to a sidecar, and an honest client that must not notice.

SAERL_ABUSE=long does everything in full (scripts/sidecar_abuse.sh), else a slice of each. After
each kind of abuse a line tells how the honest client fared and what the sidecar holds; memory and
descriptors must be back, and memory never above what the sidecar said at its start.
"""

import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

CHECKOUT = pathlib.Path(os.environ.setdefault("CHECKOUT", str(pathlib.Path(__file__).parents[2])))
import zmq_sockets  # noqa: E402
from saerl_case import PROGRAM  # noqa: E402
from sidecar_case import GREETING, Peer, Refused, Sidecar, SidecarCase  # noqa: E402

LONG = os.environ.get("SAERL_ABUSE") == "long"
SEED = int(os.environ.get("SAERL_SEED", "1"))
MARGIN = 64 << 20  # of memory that may stay
SERVED_S = 30  # the longest an honest call may take, whatever happens
CLIENT_S = 5  # then an honest client tries again
SETTLE_S = 30


def honest(path):
    """The honest client, a process of its own: its times are not those of the abusers here. A line
    "SECONDS TRIES" for each call, until stdin ends."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    peer, seq = None, 0
    calls = [
        lambda: peer.call("PING"),
        lambda: peer.call("STATS"),
        lambda: peer.fetch(0, 4),
        lambda: peer.feedback(0, [(0, 1.0, 0)]),
    ]
    while True:
        begin, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                if peer is None:
                    peer = Peer(path, timeout=CLIENT_S)
                    peer.request = time.time_ns()
                    peer.hello(run="honest", client="honest")
                calls[seq % len(calls)]()
                break
            except Refused as refused:
                if not refused.header["retryable"]:
                    raise
                time.sleep(refused.header["retry_after_ms"] / 1000)
            except OSError:
                if peer:
                    peer.close()
                peer = None
                time.sleep(0.01)
        seq += 1
        print("%.6f %d" % (time.monotonic() - begin, tries), flush=True)
        time.sleep(0.004)


class Honest:
    def __init__(self, path):
        self.times, self.tries = [], 0
        self.process = subprocess.Popen([sys.executable, "-B", __file__, "honest", str(path)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.last = time.monotonic()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            seconds, tries = line.split()
            self.times.append(float(seconds))
            self.tries += int(tries)
            self.last = time.monotonic()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()


class Watched(SidecarCase):
    """What the sidecar's process holds."""

    def status(self, name):
        text = pathlib.Path("/proc/%d/status" % self.sidecar.process.pid).read_text()
        return int(re.search(r"^%s:\s+(\d+) kB" % name, text, re.MULTILINE).group(1)) << 10

    def rss(self):
        return self.status("VmRSS")

    def fds(self):
        return len(os.listdir("/proc/%d/fd" % self.sidecar.process.pid))

    def announced(self):
        return int(re.search(r"at most (\d+) MiB", self.sidecar.said()).group(1)) << 20

    def is_back(self):
        """A sanitizer, known by terabytes of address space, keeps what was freed: it says nothing."""
        sanitized = self.status("VmSize") > 1 << 40
        return (sanitized or self.rss() <= self.base_rss + MARGIN) and self.fds() <= self.base_fds + 2

    def check_memory(self, most, now, what):
        if self.status("VmSize") > 1 << 40:
            return
        self.assertLessEqual(most, self.announced())
        self.assertLessEqual(now, self.base_rss + MARGIN, "memory did not come back after " + what)


class Abuse(Watched):
    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        self.write_world(60, recipe="clustering: {clusters: 3}\nbatches: {size: 8, order: none}\n")
        self.sidecar = Sidecar(self.dir, self.dir / "recipe.yaml")
        self.addCleanup(self.sidecar.__exit__)
        self.path = self.sidecar.path
        self.honest = Honest(self.path)
        self.addCleanup(self.honest.close)
        self.wait_served()
        self.base_rss, self.base_fds = self.rss(), self.fds()

    def wait_served(self, calls=3):
        """A few honest calls from now on."""
        n, end = len(self.honest.times), time.monotonic() + SERVED_S
        while len(self.honest.times) < n + calls:
            self.assertIsNone(self.sidecar.process.poll(), self.sidecar.said()[-2000:])
            self.assertIsNone(self.honest.process.poll(), "the honest client gave up")
            self.assertLess(time.monotonic(), end, "the honest client is not served any more")
            time.sleep(0.01)

    def abuse(self, name, what):
        """One kind of abuse; `what` returns peers to hold on to and words on what was done."""
        first, tries, begin = len(self.honest.times), self.honest.tries, time.monotonic()
        held, words = what()
        self.wait_served()
        high = self.rss()
        for peer in held:
            peer.close()
        seconds = time.monotonic() - begin
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end and not self.is_back():
            time.sleep(0.1)
        self.wait_served()
        times = sorted(self.honest.times[first:])
        repeated = self.honest.tries - tries - len(times)
        print("%-10s %-34s %5.1f s; honest: %5d calls, p50 %.1f p99 %.1f max %.0f ms, %d repeated; "
              "RSS %d -> %d MiB, fds %d"
              % (name, words, seconds, len(times), 1e3 * times[len(times) // 2], 1e3 * times[len(times) * 99 // 100],
                 1e3 * times[-1], repeated, high >> 20, self.rss() >> 20, self.fds()), flush=True)
        self.assertLess(times[-1], SERVED_S)
        self.check_memory(self.status("VmHWM"), self.rss(), name)
        self.assertLessEqual(self.fds(), self.base_fds + 2, "descriptors did not come back after " + name)

    def stranger(self, handshake=True):
        """A connection, or None when the sidecar has no place for it at the moment."""
        for _ in range(200):
            try:
                return Peer(self.path, timeout=2, handshake=handshake)
            except OSError:
                time.sleep(0.01)
        self.fail("nobody can connect any more")

    def push(self, peer, raw):
        """False when the other side hung up or does not read."""
        try:
            peer.sock.sendall(raw)
            return True
        except OSError:
            return False

    # Kinds of abuse.

    def storm(self):
        n = 100000 if LONG else 3000
        for i in range(n):
            kind = i % 10
            peer = self.stranger(handshake=kind == 0)
            if kind < 5:
                self.push(peer, GREETING[: self.random.randrange(1, 64)] if kind else b"\x00\x05")
            peer.close()
        return [], "%d connections" % n

    def silent(self):
        peers = [self.stranger(handshake=i % 2 == 0) for i in range(200)]
        time.sleep(3 if LONG else 0.5)
        return peers, "200 silent peers"

    def flood(self):
        """Requests as fast as they go, without a session; replies are read."""
        end, sent = time.monotonic() + (20 if LONG else 2), 0
        peers = [self.stranger() for _ in range(4)]
        raw = b"".join(Peer.frame(f, more) for f, more in zip(peers[0].frames_of("STATS"), (True, False)))
        for peer in peers:
            threading.Thread(target=self.drink, args=(peer,), daemon=True).start()
        while time.monotonic() < end:
            for peer in peers:
                sent += 50 * self.push(peer, raw * 50)
        return peers, "%d requests" % sent

    @staticmethod
    def drink(peer):
        try:
            while peer.sock.recv(1 << 20):
                pass
        except OSError:
            pass

    def garbage(self):
        n, peers = 20000 if LONG else 1000, [self.stranger() for _ in range(10)]
        template = peers[0].frames_of("FETCH", {"seq": 0, "n": 1})
        for i in range(n):
            frames = [self.random.randbytes(self.random.randrange(80)) for _ in range(self.random.randrange(1, 40))]
            if i % 3 == 0:
                # Nearly right: a few bits of a request.
                frames = [bytearray(f) for f in template]
                for _ in range(3):
                    frame = self.random.choice(frames)
                    frame[self.random.randrange(len(frame))] ^= 1 << self.random.randrange(8)
            peer = peers[i % len(peers)]
            if not self.push(peer, b"".join(Peer.frame(bytes(f), k + 1 < len(frames)) for k, f in enumerate(frames))):
                peer.close()
                peers[i % len(peers)] = self.stranger()
        return peers, "%d messages" % n

    def halves(self):
        n, peers = 2000 if LONG else 200, []
        for i in range(n):
            peer = self.stranger()
            raw = b"".join(Peer.frame(f, more) for f, more in zip(peer.frames_of("PING"), (True, False)))
            self.push(peer, raw[: self.random.randrange(1, len(raw))])
            if i % 2:
                peer.close()
            else:
                peers.append(peer)
            if len(peers) > 200:
                peers.pop(0).close()
        return peers, "%d half messages" % n

    def probes(self):
        n, peers = 3000 if LONG else 300, []
        texts = [b"E", b"\x00", b"\xff", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /metrics HTTP/1.0\r\n\r\n",
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", bytes(64), b"SSH-2.0-x\r\n", b"\x80\x04\x95"]
        for i in range(n):
            peer = self.stranger(handshake=False)
            self.push(peer, texts[i % len(texts)])
            peers.append(peer)
            if len(peers) > 100:
                peers.pop(0).close()
        return peers, "%d probes of one byte, HTTP, TLS" % n

    def endless(self):
        """One message that never ends; ZeroMQ holds it where no limit counts."""
        limit, sent, cut = (3 << 30) if LONG else (600 << 20), 0, 0
        chunk = Peer.frame(bytes(1 << 18), True)
        peers = [self.stranger()]
        end = time.monotonic() + (60 if LONG else 8)
        while sent < limit and time.monotonic() < end:
            if self.push(peers[0], chunk):
                sent += len(chunk)
            else:
                cut += 1
                peers[0].close()
                peers[0] = self.stranger()
        return peers, "%d MiB, cut off %d times" % (sent >> 20, cut)

    def oversized(self):
        peers, n = [], 40 if LONG else 4
        for i in range(n):
            peer = self.stranger()
            size = [1 << 40, (1 << 63) - 1, (73 << 20), (65 << 20)][i % 4]
            self.push(peer, bytes([3]) + size.to_bytes(8, "big"))
            for _ in range(min(size, 80 << 20) >> 20):
                if not self.push(peer, bytes(1 << 20)):
                    break
            peers.append(peer)
            if len(peers) > 4:
                peers.pop(0).close()
        return peers, "%d frames of 65 MiB to 2^63" % n

    def deaf(self):
        """Asks and never reads; with a session, so that replies are large."""
        peers, sent = [], 0
        for i in range(8):
            peer = self.stranger()
            peer.hello(run="deaf", client="deaf-%d" % i)
            raw = b"".join(Peer.frame(f, more) for f, more in zip(peer.frames_of("PEEK", {"k": 1000}), (True, False)))
            peer.sock.setblocking(False)
            for _ in range(20000 if LONG else 4000):
                if not self.push(peer, raw):
                    break
                sent += 1
            peers.append(peer)
        time.sleep(1)
        return peers, "%d requests, nothing read" % sent

    def test_an_honest_client_does_not_notice(self):
        for name in ("storm", "silent", "flood", "garbage", "halves", "probes", "endless", "oversized", "deaf"):
            self.abuse(name, getattr(self, name))
        print("at most %d MiB resident, %d MiB were announced" % (self.status("VmHWM") >> 20, self.announced() >> 20))
        self.assertEqual(self.sidecar.stop(), 0, self.sidecar.said()[-2000:])


class Keys(Watched):
    """Over TCP nobody gets in whose key is not on the list, whatever it tries."""

    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        self.write_world(60, recipe="clustering: {clusters: 3}\nbatches: {size: 8, order: none}\n")
        for name in ("server", "trainer", "stranger"):
            self.saerl("keygen", name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.endpoint = "tcp://127.0.0.1:%d" % self.port
        recipe = (self.dir / "recipe.yaml").read_text()
        (self.dir / "recipe.yaml").write_text(
            recipe + "serve: {curve: {secret_key: server.secret, allow: ['%s/trainer.public']}}\n" % self.dir)
        self.sidecar = Sidecar(self.dir, self.dir / "recipe.yaml", "--bind", self.endpoint, wait=False)
        self.addCleanup(self.sidecar.__exit__)
        self.served, self.slowest = 0, 0.0
        end = time.monotonic() + 60
        while "ready after" not in self.sidecar.said():
            self.assertIsNone(self.sidecar.process.poll(), self.sidecar.said())
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def ping(self, key, code=0, seconds=SERVED_S):
        begin = time.monotonic()
        self.saerl("ctl", self.endpoint, "ping", "--server-key", "server.public", "--key", key, "--timeout", seconds,
                   code=code)
        return time.monotonic() - begin

    def honest(self):
        self.slowest = max(self.slowest, self.ping("trainer.secret"))
        self.served += 1

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def greeting(self, mechanism):
        return b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)

    def push(self, sock, raw):
        try:
            sock.sendall(raw)
            return True
        except OSError:
            return False

    def strangers(self, n):
        """Keys made for the moment, through the library's own handshake. Answers they got."""
        server = (self.dir / "server.public").read_text().split()[-1].encode() + b"\0"
        context, answers = zmq_sockets.Context(), 0
        request = Peer.frames_of(Peer.__new__(Peer), "PING", request=1, session=0)
        sockets = []
        for i in range(n):
            public, secret = zmq_sockets.curve_keypair()
            peer = context.socket(zmq_sockets.DEALER)
            peer.setsockopt(zmq_sockets.CURVE_SERVERKEY, server)
            peer.setsockopt(zmq_sockets.CURVE_PUBLICKEY, public)
            peer.setsockopt(zmq_sockets.CURVE_SECRETKEY, secret)
            peer.connect(self.endpoint)
            peer.send_multipart(request)
            sockets.append(peer)
            if len(sockets) == 50 or i + 1 == n:
                end = time.monotonic() + 0.3
                while time.monotonic() < end:
                    answers += any([peer.poll(0) for peer in sockets])
                    time.sleep(0.05)
                for peer in sockets:
                    peer.close()
                sockets = []
        context.term()
        return answers

    def test_only_listed_keys_get_in(self):
        self.honest()
        self.base_rss, self.base_fds = self.rss(), self.fds()
        n = 5000 if LONG else 100
        self.assertEqual(self.strangers(n), 0)
        self.honest()
        self.ping("stranger.secret", code=75, seconds=1)
        print("%d unlisted keys: none let in" % n)

        n, held = 2000 if LONG else 200, []
        ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
        ready = bytes([4, len(ready)]) + ready
        ping = b"".join(Peer.frame(f, more) for f, more in
                        zip(Peer.frames_of(Peer.__new__(Peer), "PING", request=1, session=0), (True, False)))
        hello = b"\x05HELLO\x01\x00" + bytes(72) + self.random.randbytes(32 + 8 + 80)
        tries = [
            self.greeting(b"NULL") + ready + ping,
            self.greeting(b"PLAIN") + b"\x04\x08\x05HELLO\x00\x00" + ready + ping,
            self.greeting(b"CURVE") + bytes([4, len(hello)]) + hello + ready + ping,
            self.greeting(b"CURVE") + ping,
            self.greeting(b"CURVE"),
            b"\x01\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"E", b"",
        ]
        heard = 0
        for i in range(n):
            sock = self.connect()
            self.push(sock, tries[i % len(tries)])
            held.append(sock)
            if len(held) > 100:
                heard += self.hear(held.pop(0))
            if i % 100 == 0:
                self.honest()
        heard += sum(self.hear(sock) for sock in held)
        self.assertEqual(heard, 0)
        print("%d connections without CURVE or with a broken handshake: none let in" % n)

        # Commands of the handshake are held before anybody is known.
        held, sent, high = [self.connect() for _ in range(8)], 0, 0
        end = time.monotonic() + (30 if LONG else 3)
        for sock in held:
            self.push(sock, self.greeting(b"CURVE") + b"\x06" + (60 << 20).to_bytes(8, "big"))
        while time.monotonic() < end:
            for i, sock in enumerate(held):
                if self.push(sock, bytes(1 << 20)):
                    sent += 1
                    continue
                sock.close()
                held[i] = self.connect()
                self.push(held[i], self.greeting(b"CURVE") + b"\x06" + (60 << 20).to_bytes(8, "big"))
            high = max(high, self.rss())
        self.honest()
        for sock in held:
            sock.close()
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end and not self.is_back():
            time.sleep(0.1)
        print("%d MiB of handshakes by 8 peers: RSS %d -> %d MiB of %d announced, fds %d; honest: %d of %d "
              "served, at most %.0f ms" % (sent, high >> 20, self.rss() >> 20, self.announced() >> 20, self.fds(),
                                           self.served, self.served, 1e3 * self.slowest))
        self.check_memory(high, self.rss(), "handshakes")
        self.assertLessEqual(self.fds(), self.base_fds + 2)
        self.assertEqual(self.sidecar.stop(), 0, self.sidecar.said()[-2000:])

    def hear(self, sock):
        """Whether the request got an answer: more than a greeting and an ERROR command."""
        sock.settimeout(0.01)
        got = b""
        try:
            while len(got) < 4096:
                more = sock.recv(4096)
                if not more:
                    break
                got += more
        except OSError:
            pass
        sock.close()
        return b"SRLW" in got


if __name__ == "__main__":
    if sys.argv[1:2] == ["honest"]:
        honest(sys.argv[2])
    unittest.main()
