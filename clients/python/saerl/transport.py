"""One DEALER at a time, total deadlines and retries. Knows messages, not what they mean.

A retry opens a new socket and repeats the request id, so that whatever the old connection still
holds can neither arrive twice nor be taken for an answer.
"""

from __future__ import annotations

import collections
import itertools
import math
import os
import random
import time
import weakref
from typing import Any, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import wire
from .errors import KeyNotAllowed, SidecarAway, SidecarError

CURVE_TEXT = 40  # characters of a key in Z85

_addresses = itertools.count()
_inherited: List[Any] = []  # sockets of a parent process, never touched again

# What the monitor tells, and the words for it in an error.
_NO_HANDSHAKE = ("connected, but the handshake does not end; is the sidecar stopped, does one side only use "
                 "CURVE, is server_key right?")
_NOTES = {
    zmq.EVENT_CONNECT_RETRIED: "nobody listens there",
    zmq.EVENT_CONNECTED: _NO_HANDSHAKE,
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "connected",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: _NO_HANDSHAKE,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: _NO_HANDSHAKE,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the handshake is refused",
    zmq.EVENT_DISCONNECTED: "the connection was closed",
}


class SessionLost(Exception):
    """E_NO_SESSION: the sidecar has restarted; HELLO, then repeat."""


class Deadline:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self.at - time.monotonic())

    def part(self, share: float) -> Deadline:
        return Deadline(self.left() * share)


class Request:
    def __init__(self, request: int, kind: wire.Kind, header: Mapping[str, Any],
                 tensors: Mapping[str, wire.Array], frame_bytes_max: int) -> None:
        self.id = request
        self.kind = kind
        self.n_tensors = len(tensors)
        self.body = wire.body_frames(header, tensors, frame_bytes_max)
        self.bytes = wire.ENVELOPE.size + sum(len(f) for f in self.body)
        self.tries = 0
        self.not_before = 0.0
        self.reply: Optional[wire.Message] = None
        self.busy: Optional[SidecarError] = None

    def frames(self, session: int) -> List[wire.Frame]:
        flags = wire.FLAG_RETRY if self.tries else 0
        envelope = wire.Envelope(int(self.kind), session, self.id, self.n_tensors, flags)
        return [envelope.pack(), *self.body]


class Keys(NamedTuple):
    server: bytes
    public: bytes
    secret: bytes


def read_keys(server_key: Optional[str], secret_key: Optional[str]) -> Optional[Keys]:
    """Keys are Z85 text or files that hold it, as `saerl keygen` writes them."""
    if server_key is None and secret_key is None:
        return None
    if server_key is None or secret_key is None:
        raise ValueError("CURVE needs both, server_key and secret_key")
    server = _read_key(server_key, "server_key", private=False)
    secret = _read_key(secret_key, "secret_key", private=True)
    return Keys(server, zmq.curve_public(secret), secret)


def _read_key(value: str, name: str, private: bool) -> bytes:
    value = os.fspath(value)
    if os.path.exists(value):
        if private and os.stat(value).st_mode & 0o077:
            raise ValueError("%s: '%s' can be read by others; chmod 600" % (name, value))
        with open(value, encoding="ascii") as file:
            key = file.read().strip()
        where = "'%s'" % value
    else:
        key, where = value, "the text given"
    if len(key) != CURVE_TEXT:
        raise ValueError("%s: %s has %d characters and is no file, expected %d of Z85"
                         % (name, where, len(key), CURVE_TEXT))
    return key.encode("ascii")


class _Handles:
    """What has to be closed, in order. Held outside of the Transport too: a Curator that nobody
    closes is then closed when it is collected, or at exit, where ZeroMQ left to itself would wait
    for sockets that are collected later than their context."""

    def __init__(self) -> None:
        self.context: Any = None
        self.socket: Any = None
        self.monitor: Any = None

    def close_socket(self) -> None:
        if self.socket is not None:
            self.socket.disable_monitor()
            self.monitor.close(0)
            self.socket.close(0)
        self.socket = self.monitor = None

    def close(self) -> None:
        self.close_socket()
        if self.context is not None:
            self.context.term()
            self.context = None


class Transport:
    """Not thread-safe: Curator holds its lock."""

    def __init__(self, endpoint: str, keys: Optional[Keys]) -> None:
        self.endpoint = endpoint
        self._keys = keys
        self._poller: Any = None
        self._take_handles()
        self._note = "nobody listens there"
        self.ignored = 0  # replies that nobody waits for any more

    def _take_handles(self) -> None:
        self._handles = _Handles()
        self._finalizer = weakref.finalize(self, self._handles.close)

    @property
    def _socket(self) -> Any:
        return self._handles.socket

    def _open(self) -> None:
        handles = self._handles
        if handles.context is None:
            handles.context = zmq.Context()
        socket = handles.socket = handles.context.socket(zmq.DEALER)
        monitor = handles.monitor = handles.context.socket(zmq.PAIR)
        monitor.linger = 0
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDHWM, 0),  # bounded by credit, in bytes
            (zmq.RCVHWM, 0),  # bounded by what was asked
            (zmq.MAXMSGSIZE, wire.FRAME_BYTES_MAX),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 1000),
            (zmq.HEARTBEAT_IVL, 5000),
            (zmq.HEARTBEAT_TIMEOUT, 20000),
            (zmq.HEARTBEAT_TTL, 20000),
        ):
            socket.setsockopt(option, value)
        if self._keys:
            socket.curve_serverkey = self._keys.server
            socket.curve_publickey = self._keys.public
            socket.curve_secretkey = self._keys.secret
        address = "inproc://saerl-monitor-%d" % next(_addresses)
        events = 0
        for event in _NOTES:
            events |= event
        socket.monitor(address, events)
        monitor.connect(address)
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(monitor, zmq.POLLIN)
        try:
            socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            self.reset()
            raise ValueError("endpoint '%s': %s" % (self.endpoint, error)) from None

    def reset(self) -> None:
        """Drop the socket; the next exchange opens another."""
        self._handles.close_socket()
        self._poller = None

    def close(self) -> None:
        self._poller = None
        self._handles.close()

    def forget(self) -> None:
        """In a forked child: neither close nor collect what the parent's threads serve."""
        self._finalizer.detach()
        _inherited.append((self._handles, self._poller))
        self._poller = None
        self._take_handles()

    def _watch(self) -> bool:
        """Read the monitor; true when the connection broke."""
        broken = False
        while self._handles.monitor.poll(0):
            event = recv_monitor_message(self._handles.monitor)
            kind = event["event"]
            # A failed handshake is followed by a closed connection and another try: those say less.
            if self._note != _NO_HANDSHAKE or kind not in (zmq.EVENT_DISCONNECTED,
                                                           zmq.EVENT_CONNECT_RETRIED):
                self._note = _NOTES.get(kind, self._note)
            if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH and event["value"] == 400:
                self.reset()
                raise KeyNotAllowed("%s: key not allowed: the sidecar's serve.curve.allow does not "
                                    "list our public key" % self.endpoint)
            broken |= kind == zmq.EVENT_DISCONNECTED
        return broken

    def _away(self, deadline: Deadline, waiting: Sequence[Request]) -> SidecarAway:
        first = waiting[0]
        if first.busy is not None:
            error = SidecarAway("%s: %s: still %s after %.3g s"
                                % (self.endpoint, first.kind.name, first.busy, deadline.seconds))
            error.__cause__ = first.busy
            return error
        return SidecarAway("%s: no answer to %s in %.3g s (%s)"
                           % (self.endpoint, first.kind.name, deadline.seconds, self._note))

    def exchange(self, requests: Sequence[Request], session: int, deadline: Deadline,
                 attempt_s: float, window: int) -> None:
        """Fill in `reply` of every request, several being on the way at once within `window` bytes.

        Raises SidecarAway at the deadline, SessionLost, KeyNotAllowed, or the first SidecarError
        that no repetition cures, once what was sent beside it has been answered.
        """
        waiting: Dict[int, Request] = {r.id: r for r in requests if r.reply is None}
        queue: Deque[Request] = collections.deque(waiting.values())
        flying: Dict[int, Request] = {}
        fatal: Optional[SidecarError] = None
        limit = window
        attempt_end = math.inf
        pause = 0.05
        quiet_until = 0.0

        while waiting:
            now = time.monotonic()
            if now >= deadline.at:
                self.reset()
                raise self._away(deadline, list(waiting.values()))
            if flying and now >= attempt_end:
                self._retry(queue, flying)
            if self._socket is None:
                self._open()
                limit = window
            wake = min(deadline.at, attempt_end if flying else math.inf)
            while queue and now >= quiet_until:
                request = queue[0]
                if request.not_before > now:
                    wake = min(wake, request.not_before)
                    break
                used = sum(r.bytes for r in flying.values())
                if flying and used + request.bytes > limit:
                    break
                if not self._send(request, session):
                    wake = min(wake, now + 0.01)
                    break
                queue.popleft()
                flying[request.id] = request
                attempt_end = now + attempt_s
                wake = min(deadline.at, attempt_end)
            if queue and now < quiet_until:
                wake = min(wake, quiet_until)

            self._poller.poll(max(0, math.ceil((wake - time.monotonic()) * 1000)))
            broken = self._watch()
            for message in self._receive():
                answered = self._match(message, flying, session)
                if answered is None:
                    continue
                attempt_end = time.monotonic() + attempt_s
                del flying[answered.id]
                if not message.envelope.flags & wire.FLAG_ERROR:
                    answered.reply = message
                    del waiting[answered.id]
                    credit = message.header.get("credit")
                    if isinstance(credit, int):
                        limit = min(window, credit + sum(r.bytes for r in flying.values()))
                    continue
                error = SidecarError(message.header)
                if error.code == "E_NO_SESSION":
                    for request in [answered, *flying.values()]:
                        request.tries += 1
                    self.reset()
                    raise SessionLost(str(error))
                if error.retryable and fatal is None:
                    answered.busy = error
                    answered.tries += 1
                    wait = (error.retry_after_ms / 1e3 or pause) * random.uniform(1.0, 1.5)
                    answered.not_before = time.monotonic() + wait
                    if answered.not_before >= deadline.at:
                        raise self._away(deadline, [answered])
                    queue.appendleft(answered)
                    continue
                del waiting[answered.id]
                if fatal is None:
                    fatal = error
                    for request in queue:
                        waiting.pop(request.id, None)
                    queue.clear()
            if broken and flying:
                # What was on the way is lost. Back off: a sidecar that dies of it should not be
                # fed at full speed.
                quiet_until = time.monotonic() + pause * random.uniform(0.5, 1.0)
                pause = min(pause * 2, 1.0)
                self._retry(queue, flying)
        if fatal is not None:
            raise fatal

    def _retry(self, queue: Deque[Request], flying: Dict[int, Request]) -> None:
        for request in sorted(flying.values(), key=lambda r: r.id, reverse=True):
            request.tries += 1
            queue.appendleft(request)
        flying.clear()
        self.reset()

    def _send(self, request: Request, session: int) -> bool:
        try:
            self._socket.send_multipart(request.frames(session), zmq.NOBLOCK, copy=False)
            return True
        except zmq.Again:
            return False

    def _receive(self) -> List[wire.Message]:
        messages: List[wire.Message] = []
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return messages
            try:
                messages.append(wire.decode([f.buffer for f in frames]))
            except wire.WireError:
                self.ignored += 1

    def _match(self, message: wire.Message, flying: Dict[int, Request],
               session: int) -> Optional[Request]:
        envelope = message.envelope
        request = flying.get(envelope.request)
        if request is None or not envelope.flags & wire.FLAG_REPLY \
                or envelope.kind != request.kind or envelope.session != session:
            self.ignored += 1  # late, to an earlier attempt or another session
            return None
        return request
