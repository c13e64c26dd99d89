"""A running sidecar, and peers that speak to it with the standard library alone: honest ones by
Peer.call(), others by whatever bytes they like.

Peer speaks ZMTP 3.0 (rfc.zeromq.org/spec/23) as a DEALER over a Unix socket, without libzmq: so it
can stop in the middle of anything.
"""

import json
import os
import resource
import signal
import socket
import struct
import subprocess
import time

from saerl_case import PROGRAM, SaerlCase

KINDS = {
    "HELLO": 1, "PING": 2, "STATS": 3, "ATTACH": 4, "SUBMIT": 10, "SCORE": 11, "CURATE": 12,
    "FETCH": 20, "PEEK": 21, "FEEDBACK": 30, "SAVE": 40, "RESTORE": 41, "BYE": 50, "SHUTDOWN": 51,
}
REPLY, ERROR, RETRY = 1, 2, 4
ENVELOPE = struct.Struct("<4sBBHQQII")
CODES = {"f32": "f", "u8": "B", "i32": "i", "u32": "I", "i64": "q", "u64": "Q"}
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)


class Refused(Exception):
    """An error reply."""

    def __init__(self, header):
        super().__init__("%s: %s" % (header["code"], header["message"]))
        self.code = header["code"]
        self.header = header


def pack(dtype, values):
    """Numbers of a flat list as a tensor's bytes."""
    return struct.pack("<%d%s" % (len(values), CODES[dtype]), *values)


def tensor(name, dtype, values, shape=None):
    raw = values if isinstance(values, (bytes, bytearray)) else pack(dtype, values)
    size = struct.calcsize("<" + CODES[dtype]) if dtype in CODES else 2
    return (name, dtype, shape if shape is not None else [len(raw) // size], raw)


class Peer:
    """One connection. `path`: of the Unix socket. Request ids rise over all peers of the process:
    two of one (run, client, incarnation) share a session."""

    requests = 0

    def __init__(self, path, timeout=20, handshake=True):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.buffer = b""
        self.session = 0
        try:
            self.sock.connect(str(path))
            if handshake:
                self.handshake()
        except OSError:
            self.sock.close()
            raise

    def handshake(self):
        self.sock.sendall(GREETING)
        ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
        self.read(64)
        self.sock.sendall(bytes([4, len(ready)]) + ready)
        self.read_frame()

    def close(self):
        self.sock.close()

    def read(self, n):
        while len(self.buffer) < n:
            got = self.sock.recv(max(65536, n - len(self.buffer)))
            if not got:
                raise ConnectionError("the sidecar hung up")
            self.buffer += got
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def read_frame(self):
        """flags and body of the next frame; heartbeats are answered on the way."""
        while True:
            flags = self.read(1)[0]
            size = struct.unpack(">Q", self.read(8))[0] if flags & 2 else self.read(1)[0]
            body = self.read(size)
            if flags & 4 and body.startswith(b"\x04PING"):
                pong = b"\x04PONG" + body[7:]
                self.sock.sendall(bytes([4, len(pong)]) + pong)
                continue
            return flags, body

    @staticmethod
    def frame(body, more):
        head = struct.pack(">BQ", (1 if more else 0) | 2, len(body))
        return (head if len(body) > 255 else bytes([1 if more else 0, len(body)])) + body

    def send_frames(self, frames):
        raw = b"".join(self.frame(f, i + 1 < len(frames)) for i, f in enumerate(frames))
        self.sock.sendall(raw)

    def receive_frames(self):
        frames = []
        while True:
            flags, body = self.read_frame()
            frames.append(body)
            if not flags & 1:
                return frames

    def frames_of(self, kind, header=None, tensors=(), request=None, session=None, flags=0):
        header = dict(header or {})
        header["tensors"] = [
            {"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape, _ in tensors
        ]
        if request is None:
            Peer.requests += 1
            request = Peer.requests
        kind = KINDS.get(kind, kind)
        session = self.session if session is None else session
        envelope = ENVELOPE.pack(b"SRLW", 1, 0, kind, session, request, len(tensors), flags)
        return [envelope, json.dumps(header).encode()] + [raw for _, _, _, raw in tensors]

    def send(self, kind, header=None, tensors=(), **ids):
        self.send_frames(self.frames_of(kind, header, tensors, **ids))

    def receive_raw(self):
        """The next reply as it stands: envelope fields, header bytes, tensor bytes."""
        frames = self.receive_frames()
        return ENVELOPE.unpack(frames[0]), frames[1], frames[2:]

    def receive(self):
        """header and tensors (flat tuples) of the next reply."""
        envelope, raw, bodies = self.receive_raw()
        header = json.loads(raw)
        if envelope[7] & ERROR:
            raise Refused(header)
        out = {}
        for entry, body in zip(header["tensors"], bodies):
            code = CODES[entry["dtype"]]
            out[entry["name"]] = struct.unpack(
                "<%d%s" % (len(body) // struct.calcsize("<" + code), code), body
            )
        return header, out

    def call(self, kind, header=None, tensors=(), **ids):
        self.send(kind, header, tensors, **ids)
        return self.receive()

    def hello(self, run="run", client="client", incarnation=1):
        header, _ = self.call(
            "HELLO", {"run": run, "rank": 0, "client": client, "incarnation": incarnation},
            session=0,
        )
        self.session = header["session"]
        return header

    def fetch(self, seq, n):
        return self.call("FETCH", {"seq": seq, "n": n})

    def feedback(self, seq, items, **header):
        """items: (sid, reward, rollout)."""
        return self.call(
            "FEEDBACK",
            dict(header, seq=seq),
            [
                tensor("sid", "u64", [i[0] for i in items]),
                tensor("reward", "f32", [i[1] for i in items]),
                tensor("rollout", "i32", [i[2] for i in items]),
            ],
        )[0]


class Sidecar:
    """`saerl serve` as a process, ended by id."""

    def __init__(self, folder, recipe, *options, state="state", environment=None, wait=True,
                 descriptors=None):
        self.folder = folder
        self.peers = []
        self.path = folder / "run" / "s.sock"
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self.log_path = folder / "sidecar.log"
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", str(recipe), "--bind", "ipc://%s" % self.path,
             "--state", str(folder / state), *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=dict(os.environ, **(environment or {})),
            preexec_fn=None if descriptors is None else lambda: resource.setrlimit(
                resource.RLIMIT_NOFILE, (descriptors, descriptors)),
        )
        if wait:
            self.wait_ready()

    def said(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError("the sidecar ended: %s" % self.said())
            try:
                peer = Peer(self.path, timeout=5)
                try:
                    if peer.call("PING")[0]["state"] == "starting":
                        time.sleep(0.02)
                        continue
                except Refused:  # no session: it is ready
                    pass
                finally:
                    peer.close()
                return
            except (OSError, ConnectionError):
                time.sleep(0.02)
        raise AssertionError("not ready after %d s: %s" % (seconds, self.said()))

    def peer(self, **hello):
        """Said HELLO; closed with the sidecar."""
        peer = Peer(self.path)
        self.peers.append(peer)
        peer.hello(**hello)
        return peer

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.close()

    def close(self):
        for peer in self.peers:
            peer.close()
        self.log.close()

    def stop(self, number=signal.SIGTERM, seconds=30):
        """The exit status after a signal that asks to stop."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        finally:
            self.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.close()


class SidecarCase(SaerlCase):
    """SaerlCase has `self.dir`, a scratch folder."""

    def start(self, *options, **more):
        sidecar = Sidecar(self.dir, self.dir / "recipe.yaml", *options, **more)
        self.addCleanup(sidecar.__exit__)
        return sidecar

    def refused(self, code, call, *args, **kwargs):
        with self.assertRaises(Refused) as caught:
            call(*args, **kwargs)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception.header
