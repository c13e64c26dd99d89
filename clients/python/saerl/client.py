"""Curator: the sidecar as a trainer sees it (docs/protocol.md).

Every call has one total deadline. A request that is repeated keeps its id, so the sidecar applies
it once. With on_failure="passthrough" training goes on without the sidecar: fetch() serves a
seeded local order and feedback waits on disk.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import random
import socket
import threading
import time
import weakref
from typing import (Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple,
                    Union)

import numpy as np

from . import wire
from .errors import CuratorError, SidecarAway, SidecarError
from .prompts import Prompt, canonical_prompt
from .spool import Record, Spool
from .transport import Deadline, Request, SessionLost, Transport, read_keys
from .wire import Array, Kind

log = logging.getLogger("saerl")

PIECE_BYTES = 2 << 20  # of activations in one SUBMIT; 1 to 4 MiB is the fastest size
SPOOL_BYTES_MAX = 64 << 20
GROUPS_REMEMBERED = 4096  # seqs whose rollouts are numbered here
BREAKER_FIRST_S, BREAKER_MAX_S, PROBE_S = 5.0, 300.0, 2.0


class Hello(NamedTuple):
    session: int
    version: str
    state: str
    next_seq: int
    frame_bytes_max: int
    credits: int  # bytes that may be on the way
    sae: Optional[Dict[str, Any]]
    dataset: Optional[Dict[str, Any]]  # rows, fingerprint
    config_hash: str


class Ping(NamedTuple):
    state: str  # starting, ready, draining
    uptime_s: float


class Attached(NamedTuple):
    matched: int
    unknown: int
    duplicates: int
    row: Array  # i64 [n]: data-set row, -1 unknown


class Submitted(NamedTuple):
    accepted: int
    rejected: int
    credit: int
    reason: Array  # u8 [B], see wire.REASONS


class Scores(NamedTuple):
    quality: Array  # f32 [B], NaN: not computed
    difficulty: Array
    cluster: Array  # i32 [B], -1: none
    keep: Array  # bool [B]
    reason: Array  # u8 [B]
    model: str  # "request": worked out on this request alone


class Plan(NamedTuple):
    n_batches: int
    order: Array  # u64 [kept], sids in training order
    batch_off: Array  # i64 [n_batches + 1]
    scores: Scores

    def batches(self) -> Iterator[Array]:
        for begin, end in zip(self.batch_off, self.batch_off[1:]):
            yield self.order[begin:end]


class Batch(NamedTuple):
    seq: int
    sid: Array  # u64 [n]
    epoch: int
    exhausted: bool
    fallback: bool  # not curated: served locally, or the sidecar says so
    local: bool  # served here, without the sidecar
    difficulty: Optional[Array] = None  # f32 [n]
    cluster: Optional[Array] = None  # i32 [n]
    n_rollouts: Optional[Array] = None  # i32 [n]

    @property
    def feedback_seq(self) -> int:
        """What other processes pass to feedback(): -1, which is not sent, for a local batch."""
        return -1 if self.local else self.seq


class Feedback(NamedTuple):
    accepted: int
    duplicate: int
    unknown: int
    rejected: int
    spooled: int = 0  # on disk, sent later
    local: int = 0  # for batches that were served locally: not sent


class Saved(NamedTuple):
    tag: str
    next_seq: int
    n_bytes: int
    hash: str
    state: Optional[bytes]


class Restored(NamedTuple):
    next_seq: int
    dropped_tail: int  # batches issued after the snapshot
    dropped_feedback: int = 0  # rollouts


_living: weakref.WeakSet[Curator] = weakref.WeakSet()
_clock_lock = threading.Lock()
_clock = 0


def _microseconds() -> int:
    """Wall clock, strictly rising in a process. Rises over restarts too, unless the clock is set
    back; below 2^53 until the year 2255."""
    global _clock
    with _clock_lock:
        _clock = max(time.time_ns() // 1000, _clock + 1)
        return _clock


class Curator:
    """One trainer process's link to the sidecar. Thread-safe; survives fork and pickle by becoming
    a client of its own on the other side.

      endpoint      ipc:///path or tcp://host:port
      run           the training run; batches and feedback belong to it
      rank          a label
      client        default: host-pid-random. One given by hand must be unique among live processes
      incarnation   default: the time. Of the same client the higher one fences the lower
      timeout_s     total deadline of a call; every method also takes its own
      on_failure    "error": raise SidecarAway. "passthrough": go on without (see the README)
      spool         folder for feedback while the sidecar is away; passthrough needs it
      dataset_rows  rows that the local order covers; default: what HELLO said
      local_seed    seed of the local order
      server_key, secret_key   CURVE: Z85 text, or files as `saerl keygen` writes them
    """

    def __init__(self, endpoint: str, run: str, *, rank: int = 0, client: Optional[str] = None,
                 incarnation: Optional[int] = None, timeout_s: float = 120.0,
                 on_failure: str = "error", spool: Optional[str] = None,
                 spool_bytes_max: int = SPOOL_BYTES_MAX, dataset_rows: Optional[int] = None,
                 local_seed: int = 0, server_key: Optional[str] = None,
                 secret_key: Optional[str] = None) -> None:
        if on_failure not in ("error", "passthrough"):
            raise ValueError("on_failure: %r, expected 'error' or 'passthrough'" % (on_failure,))
        if on_failure == "passthrough" and spool is None:
            raise ValueError("on_failure='passthrough' needs spool=FOLDER, where feedback waits")
        if not timeout_s > 0:
            raise ValueError("timeout_s: %r, expected more than 0" % (timeout_s,))
        self.endpoint, self.run, self.rank = endpoint, run, rank
        self.timeout_s, self.on_failure = float(timeout_s), on_failure
        self.local_seed = local_seed
        self._given_client = client
        self._spool_folder = None if spool is None else os.fspath(spool)
        self._spool_bytes_max = spool_bytes_max
        self._dataset_rows = dataset_rows
        self._given_keys = (server_key, secret_key)
        keys = read_keys(server_key, secret_key)
        self._transport = Transport(endpoint, keys)
        self.seq: Optional[int] = None  # what next_batch asks for next
        # Batches served locally: seq -> (first position of the local order, n), and those of
        # them whose number the sidecar has not given out yet.
        self._local: Dict[int, Tuple[int, int]] = {}
        self._owed: Dict[int, int] = {}
        self._cursor = 0
        # seq -> sid -> rollouts already numbered
        self._groups: collections.OrderedDict[int, Dict[int, int]] = collections.OrderedDict()
        self._start(client, incarnation)
        _living.add(self)

    def _start(self, client: Optional[str], incarnation: Optional[int]) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.client = client or "%s-%d-%08x" % (socket.gethostname(), self._pid,
                                                random.SystemRandom().getrandbits(32))
        self.incarnation = _microseconds() if incarnation is None else incarnation
        if not 0 <= self.incarnation <= wire.SESSION_MAX:
            raise ValueError("incarnation: %d, expected at most 2^53 - 1" % self.incarnation)
        # Request ids rise within a session, and a process that comes back under the same client and
        # incarnation comes back to its session: so they start at the time, too.
        self._request = _microseconds()
        self._session = 0
        self.info: Optional[Hello] = None
        self._closed = False
        self._breaker_until, self._breaker_wait = 0.0, BREAKER_FIRST_S
        self._drain_due = self._spool_folder is not None
        self._spool = None if self._spool_folder is None else Spool(
            self._spool_folder, self.run, self.client, self._spool_bytes_max)

    def _after_fork(self) -> None:
        """A copy in another process is another client; nothing of ours may touch the parent's."""
        self._transport.forget()
        if self._spool is not None:
            self._spool.forget()
        closed = self._closed
        self._start(self._derived_client(), None)
        self._closed = closed

    def _derived_client(self) -> Optional[str]:
        if self._given_client is None:
            return None
        return "%s.%d-%08x" % (self._given_client, os.getpid(), random.SystemRandom().getrandbits(32))

    def __getstate__(self) -> Dict[str, Any]:
        server_key, secret_key = self._given_keys
        return {
            "endpoint": self.endpoint, "run": self.run, "rank": self.rank,
            "timeout_s": self.timeout_s, "on_failure": self.on_failure,
            "spool": self._spool_folder, "spool_bytes_max": self._spool_bytes_max,
            "dataset_rows": self._dataset_rows, "local_seed": self.local_seed,
            "server_key": server_key, "secret_key": secret_key, "client": self._given_client,
            "seq": self.seq, "local": self.local_state(),
        }

    def __setstate__(self, state: Dict[str, Any]) -> None:
        state = dict(state)
        seq, local, client = state.pop("seq"), state.pop("local"), state.pop("client")
        self._given_client = client
        self.__init__(client=self._derived_client(), **state)  # type: ignore[misc]
        self._given_client = client
        self.seq = seq
        self.load_local_state(local)

    def __repr__(self) -> str:
        return "Curator(%r, run=%r, client=%r)" % (self.endpoint, self.run, self.client)

    def __enter__(self) -> Curator:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    # The link.

    @contextlib.contextmanager
    def _call(self, timeout_s: Optional[float]) -> Iterator[Deadline]:
        """The lock and the deadline of a call."""
        deadline = Deadline(self.timeout_s if timeout_s is None else timeout_s)
        if self._pid != os.getpid():  # a fork that Python was not told of
            self._after_fork()
        lock = self._lock
        if not lock.acquire(timeout=deadline.left()):
            raise SidecarAway("%s: another thread's call took all of %.3g s"
                              % (self.endpoint, deadline.seconds))
        try:
            if self._closed:
                raise CuratorError("the Curator is closed")
            yield deadline
        finally:
            lock.release()

    def _make(self, kind: Kind, header: Optional[Mapping[str, Any]] = None,
              tensors: Optional[Mapping[str, Array]] = None) -> Request:
        self._request += 1
        limit = self.info.frame_bytes_max if self.info else wire.FRAME_BYTES_MAX
        return Request(self._request, kind, header or {}, tensors or {}, limit)

    def _attempt_s(self, deadline: Deadline, kind: Kind) -> float:
        # What computes for long is not asked again soon: the answer is on its way.
        if kind in (Kind.SCORE, Kind.CURATE, Kind.SUBMIT, Kind.SAVE, Kind.RESTORE, Kind.ATTACH):
            return max(deadline.seconds / 2, 0.25)
        return min(max(deadline.seconds / 4, 0.25), 15.0)

    def _say_hello(self, deadline: Deadline) -> Hello:
        header = {"run": self.run, "rank": self.rank, "client": self.client,
                  "incarnation": self.incarnation}
        request = self._make(Kind.HELLO, header)
        self._transport.exchange([request], 0, deadline, self._attempt_s(deadline, Kind.HELLO), 1)
        assert request.reply is not None
        reply = _Reply(request.reply)
        limits = reply.get("limits", dict)
        self.info = Hello(
            session=reply.get("session", int), version=str(reply.header.get("version", "")),
            state=str(reply.header.get("state", "")), next_seq=reply.get("next_seq", int),
            frame_bytes_max=min(int(limits.get("frame", wire.FRAME_BYTES_MAX)), wire.FRAME_BYTES_MAX),
            credits=int(limits.get("credits", PIECE_BYTES)), sae=reply.header.get("sae"),
            dataset=reply.header.get("dataset"), config_hash=str(reply.header.get("config_hash", "")))
        self._session = self.info.session
        if self._spool is not None:
            self._drain_due = True
        return self.info

    def _exchange(self, requests: Sequence[Request], deadline: Deadline) -> None:
        """Fill in the replies, saying HELLO when there is no session."""
        lost = 0
        while True:
            if not self._session and requests[0].kind != Kind.PING:
                self._say_hello(deadline)
            window = self.info.credits if self.info else PIECE_BYTES
            try:
                self._transport.exchange(requests, self._session, deadline,
                                         self._attempt_s(deadline, requests[0].kind), window)
                break
            except SessionLost as error:
                self._session = 0
                if requests[0].kind == Kind.PING:
                    self._say_hello(deadline)
                lost += 1
                if lost > 1:  # a sidecar that forgets as fast as it is told
                    time.sleep(min(0.05 * lost, deadline.left()))
                if not deadline.left():
                    raise SidecarAway("%s: %s" % (self.endpoint, error)) from None
        self._breaker_until, self._breaker_wait = 0.0, BREAKER_FIRST_S

    def _ask(self, deadline: Deadline, kind: Kind, header: Optional[Mapping[str, Any]] = None,
             tensors: Optional[Mapping[str, Array]] = None) -> _Reply:
        request = self._make(kind, header, tensors)
        self._exchange([request], deadline)
        assert request.reply is not None
        return _Reply(request.reply)

    # When the sidecar is away.

    def _is_away(self, error: CuratorError) -> bool:
        return isinstance(error, SidecarAway) or (
            isinstance(error, SidecarError) and error.code == "E_INTERNAL")

    def _trip(self, error: CuratorError) -> None:
        """After a failure nobody waits for a while; then one probe of at most PROBE_S is made."""
        if self.on_failure != "passthrough":
            return
        log.warning("saerl: going on without the sidecar for %.0f s: %s", self._breaker_wait, error)
        self._breaker_until = time.monotonic() + self._breaker_wait
        self._breaker_wait = min(self._breaker_wait * 2, BREAKER_MAX_S)

    def _probe(self, deadline: Deadline) -> None:
        """Raise at once while the breaker is open; when its time is over, ask PING first."""
        if self.on_failure != "passthrough" or not self._breaker_until:
            return
        if time.monotonic() < self._breaker_until:
            raise _BreakerOpen("%s: was away, and is not asked again yet" % self.endpoint)
        short = Deadline(min(PROBE_S, deadline.left()))
        self._ask(short, Kind.PING)

    def _drain(self, deadline: Deadline) -> None:
        """Send what waits on disk. SidecarAway: some of it still waits."""
        spool = self._spool
        if spool is None or not (self._drain_due or spool.size):
            return
        if not self._session:
            self._say_hello(deadline)

        def send(record: Record) -> None:
            self._ask(deadline, Kind.FEEDBACK, record.header, record.tensors)

        spool.drain(send, adopt=self._drain_due)
        self._drain_due = False

    def _rows(self) -> Optional[int]:
        if self._dataset_rows is None and self.info is not None and self.info.dataset:
            return int(self.info.dataset["rows"])
        return self._dataset_rows

    def _local_order(self, start: int, n: int) -> Tuple[Array, int]:
        """Positions [start, start + n) of an endless order: a new permutation every epoch."""
        rows = self._rows()
        if not rows:
            raise CuratorError("no local order without dataset_rows: the sidecar has never been "
                               "there to tell it")
        parts: List[Array] = []
        at = start
        while at < start + n:
            epoch, inside = divmod(at, rows)
            order = np.random.Generator(np.random.PCG64([self.local_seed, epoch])).permutation(rows)
            part = order[inside:inside + start + n - at]
            parts.append(part)
            at += len(part)
        sid = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return sid.astype(np.uint64), start // rows

    def _serve_locally(self, seq: int, n: int) -> Batch:
        if seq not in self._local:
            if seq >= 0:
                self._local[seq] = (self._cursor, n)
                self._owed[seq] = n
            start = self._cursor
            sid, epoch = self._local_order(start, n)
            self._cursor += n
        else:
            start, n = self._local[seq]
            sid, epoch = self._local_order(start, n)
        return Batch(seq, sid, epoch, False, True, True)

    def _take_owed(self, deadline: Deadline, before: int) -> None:
        """Take the sidecar's batches of the numbers that were served locally, and pass them over:
        its numbering has no holes."""
        seqs = sorted(s for s in self._owed if s < before)
        for i in range(0, len(seqs), 64):
            for seq in seqs[i:i + 64]:
                try:
                    self._ask(deadline, Kind.FETCH, {"seq": seq, "n": self._owed[seq]})
                except SidecarError as error:
                    if error.retryable or self._is_away(error):
                        raise
                    log.warning("saerl: batch %d, which was served locally: %s", seq, error)
                del self._owed[seq]

    def local_state(self) -> Dict[str, Any]:
        """What a checkpoint has to keep of the batches that were served locally; JSON."""
        return {"cursor": self._cursor, "rows": self._rows(),
                "served": [[s, *v, int(s in self._owed)] for s, v in sorted(self._local.items())]}

    def load_local_state(self, state: Optional[Mapping[str, Any]]) -> None:
        self._local, self._owed = {}, {}
        self._cursor = int(state["cursor"]) if state else 0
        if state and self._dataset_rows is None:
            self._dataset_rows = state["rows"]
        for seq, start, n, owed in state["served"] if state else []:
            self._local[seq] = (start, n)
            if owed:
                self._owed[seq] = n

    # Calls.

    def hello(self, timeout_s: Optional[float] = None) -> Hello:
        """Open the session (every call does so when needed) and send what waits in the spool."""
        with self._call(timeout_s) as deadline:
            info = self._say_hello(deadline)
            self._breaker_until, self._breaker_wait = 0.0, BREAKER_FIRST_S
            self._drain(deadline)
            return info

    def ping(self, timeout_s: Optional[float] = None) -> Ping:
        with self._call(timeout_s) as deadline:
            reply = self._ask(deadline, Kind.PING)
            return Ping(reply.get("state", str), float(reply.header.get("uptime_s", 0)))

    def stats(self, timeout_s: Optional[float] = None) -> Dict[str, Any]:
        """The sidecar's counters; tensors, if there are any, as arrays under their names."""
        with self._call(timeout_s) as deadline:
            reply = self._ask(deadline, Kind.STATS)
            return {**reply.header, **reply.tensors}

    def attach(self, *, prompts: Optional[Sequence[Prompt]] = None, keys: Any = None,
               timeout_s: Optional[float] = None) -> Attached:
        """Which data-set row is each of the trainer's prompts? Texts or chats, or their keys."""
        if (prompts is None) == (keys is None):
            raise ValueError("attach: expected either prompts or keys")
        if prompts is not None:
            flat, offsets = wire.ragged([canonical_prompt(p) for p in prompts])
            n, tensors = len(prompts), {"prompts": flat, "prompts_off": offsets}
        else:
            array = wire.wire_array(keys, "u64")
            n, tensors = len(array), {"keys": array}
        with self._call(timeout_s) as deadline:
            reply = self._ask(deadline, Kind.ATTACH, {"n": n}, tensors)
            return Attached(reply.get("matched", int), reply.get("unknown", int),
                            reply.get("duplicates", int), reply.array("row", "i64", n))

    def submit(self, sid: Any, *, act: Any = None, act_off: Any = None, keep: Any = None,
               csr: Any = None, text: Optional[Sequence[str]] = None, tokens_used: Any = None,
               recon_mean: Any = None, recon_max: Any = None,
               timeout_s: Optional[float] = None) -> Submitted:
        """Activations or codes of samples, into the pool.

          act       [T, d] with act_off [B + 1] and maybe keep [T]; a list of [t, d]; or [B, d], pooled.
                    float32, float16 or torch's bfloat16; uint16 is taken for bfloat16's bits
          csr       (indptr [B + 1], indices, values), with maybe tokens_used, recon_mean, recon_max

        Sent in messages of about 2 MiB of whole samples, several on the way at once. When the
        sidecar refuses one, the others have still been taken: it can be sent again.
        """
        samples = _Samples(sid, act, act_off, keep, csr, text, tokens_used, recon_mean, recon_max)
        with self._call(timeout_s) as deadline:
            if not self._session:
                self._say_hello(deadline)
            requests = []
            counts = []
            for begin, end in samples.pieces(PIECE_BYTES):
                requests.append(self._make(Kind.SUBMIT, None, samples.tensors(begin, end)))
                counts.append(end - begin)
            if not requests:
                return Submitted(0, 0, self.info.credits if self.info else 0, np.zeros(0, np.uint8))
            self._exchange(requests, deadline)
            replies = [_Reply(r.reply) for r in requests if r.reply is not None]
            return Submitted(
                sum(r.get("accepted", int) for r in replies),
                sum(r.get("rejected", int) for r in replies),
                replies[-1].get("credit", int),
                np.concatenate([r.array("reason", "u8", n) for r, n in zip(replies, counts)]))

    def score(self, sid: Any, *, act: Any = None, act_off: Any = None, keep: Any = None,
              csr: Any = None, text: Optional[Sequence[str]] = None, tokens_used: Any = None,
              recon_mean: Any = None, recon_max: Any = None,
              timeout_s: Optional[float] = None) -> Scores:
        """Quality, difficulty, cluster; nothing is kept. One message: up to 64 MiB of `act`."""
        samples = _Samples(sid, act, act_off, keep, csr, text, tokens_used, recon_mean, recon_max)
        with self._call(timeout_s) as deadline:
            reply = self._ask(deadline, Kind.SCORE, None, samples.tensors(0, samples.n))
            return _scores(reply, samples.n)

    def curate(self, sid: Any, *, batch_size: int, set: Optional[Mapping[str, Any]] = None,
               act: Any = None, act_off: Any = None, keep: Any = None, csr: Any = None,
               text: Optional[Sequence[str]] = None, tokens_used: Any = None,
               recon_mean: Any = None, recon_max: Any = None,
               timeout_s: Optional[float] = None) -> Plan:
        """Score, filter and put into batches; nothing is kept. `set` overrides the recipe."""
        samples = _Samples(sid, act, act_off, keep, csr, text, tokens_used, recon_mean, recon_max)
        header: Dict[str, Any] = {"batch_size": int(batch_size)}
        if set:
            header["set"] = dict(set)
        with self._call(timeout_s) as deadline:
            reply = self._ask(deadline, Kind.CURATE, header, samples.tensors(0, samples.n))
            n_batches = reply.get("n_batches", int)
            return Plan(n_batches, reply.array("order", "u64"),
                        reply.array("batch_off", "i64", n_batches + 1), _scores(reply, samples.n))

    def fetch(self, seq: int, n: int, timeout_s: Optional[float] = None) -> Batch:
        """Batch number `seq` of n samples. Asked again, it is the same batch. Fewer samples, or none,
        come with `exhausted`: the recipe's last epoch is over.

        With passthrough and no sidecar it comes from a local order, `fallback` and `local` set. Its
        number stays local for good: feedback for it is not sent, and when the sidecar is back, its
        own batch of that number is passed over.
        """
        seq, n = int(seq), int(n)
        with self._call(timeout_s) as deadline:
            if seq in self._local or seq < 0:
                return self._serve_locally(seq, n)
            try:
                return self._fetch(seq, n, deadline)
            except _BreakerOpen:
                return self._serve_locally(seq, n)
            except CuratorError as error:
                if self.on_failure != "passthrough" or not self._is_away(error):
                    raise
                self._trip(error)
                return self._serve_locally(seq, n)

    def _fetch(self, seq: int, n: int, deadline: Deadline) -> Batch:
        self._probe(deadline)
        if not self._session:
            self._say_hello(deadline)
        try:
            self._drain(deadline.part(0.5))
        except SidecarAway:
            pass  # the rest waits for the next call
        self._take_owed(deadline, seq)
        try:
            reply = self._ask(deadline, Kind.FETCH, {"seq": seq, "n": n})
        except SidecarError as error:
            if error.code != "E_EXHAUSTED" or error.retryable:
                raise
            return Batch(seq, np.zeros(0, np.uint64), 0, True, False, False)
        sid = reply.array("sid", "u64")
        return Batch(reply.get("seq", int), sid, int(reply.header.get("epoch", 0)),
                     bool(reply.header.get("exhausted", False)),
                     bool(reply.header.get("fallback", False)), False,
                     reply.optional("difficulty", "f32", len(sid)),
                     reply.optional("cluster", "i32", len(sid)),
                     reply.optional("n_rollouts", "i32", len(sid)))

    def next_batch(self, n: int, timeout_s: Optional[float] = None) -> Batch:
        """fetch() with the number kept here: from next_seq of HELLO or of restore() on."""
        if self.seq is None:
            try:
                self.seq = (self.info or self.hello(timeout_s)).next_seq
            except CuratorError as error:
                if self.on_failure != "passthrough" or not self._is_away(error):
                    raise
                self._trip(error)
                return self.fetch(-1, n)
        batch = self.fetch(self.seq, n, timeout_s)
        self.seq += 1
        return batch

    def peek(self, k: int, timeout_s: Optional[float] = None) -> Array:
        """The plan's next sids of this epoch, u64, at most k; nothing is given out."""
        with self._call(timeout_s) as deadline:
            return self._ask(deadline, Kind.PEEK, {"k": int(k)}).array("sid", "u64")

    def feedback(self, seq: int, sid: Any, reward: Any, *, rollout: Any = None, length: Any = None,
                 answer: Any = None, policy_version: Optional[int] = None,
                 final: Optional[bool] = None, timeout_s: Optional[float] = None) -> Feedback:
        """Rewards of rollouts of batch `seq`: sid u64 [R], reward f32 [R].

        A rollout counts once by (seq, sid, rollout). Where `rollout` is not given it is the
        position among the sid's rollouts that this Curator has seen for the batch; processes that
        share a group must give it. When the sidecar is away and there is a spool, the feedback waits
        there and goes out, in order, before the next.
        """
        seq = int(seq)
        ids = np.atleast_1d(wire.wire_array(sid, "u64"))
        tensors = {"sid": ids, "reward": np.atleast_1d(wire.wire_array(reward, "f32"))}
        for name, value, dtype in (("rollout", rollout, "i32"), ("length", length, "i32"),
                                   ("answer", answer, "u64")):
            if value is not None:
                tensors[name] = np.atleast_1d(wire.wire_array(value, dtype))
        for name, array in tensors.items():
            if array.shape != ids.shape:
                raise ValueError("feedback: %s has shape %s, sid %s"
                                 % (name, array.shape, ids.shape))
        header: Dict[str, Any] = {"seq": seq}
        if policy_version is not None:
            header["policy_version"] = int(policy_version)
        if final is not None:
            header["final"] = bool(final)
        with self._call(timeout_s) as deadline:
            if seq < 0 or seq in self._local:
                return Feedback(0, 0, 0, 0, local=len(ids))
            # Numbered here, not by the sidecar, and before the first try: a record that was
            # applied and whose reply got lost is then the same record when it comes out of the spool.
            number = None
            if rollout is None:
                tensors["rollout"], number = self._number(seq, ids)
            result = self._send_feedback(header, tensors, deadline)
            if number is not None:
                number()
            return result

    def _number(self, seq: int, ids: Array) -> Tuple[Array, Callable[[], None]]:
        """Rollout numbers that go on from this group's last; the function makes them count."""
        group = self._groups.get(seq, {})
        seen: Dict[int, int] = {}
        rollout = np.empty(len(ids), np.int32)
        for i, sid in enumerate(ids.tolist()):
            at = seen.get(sid, group.get(sid, 0))
            rollout[i] = at
            seen[sid] = at + 1

        def keep() -> None:
            self._groups[seq] = {**group, **seen}
            self._groups.move_to_end(seq)
            while len(self._groups) > GROUPS_REMEMBERED:
                self._groups.popitem(last=False)

        return rollout, keep

    def _send_feedback(self, header: Dict[str, Any], tensors: Dict[str, Array],
                       deadline: Deadline) -> Feedback:
        try:
            self._probe(deadline)
            self._drain(deadline)
            reply = self._ask(deadline, Kind.FEEDBACK, header, tensors)
        except CuratorError as error:
            if self._spool is None or not self._is_away(error):
                raise
            self._spool.append(header, tensors)
            if not isinstance(error, _BreakerOpen):
                self._trip(error)
                if self.on_failure != "passthrough":
                    log.warning("saerl: feedback for batch %d waits in '%s': %s", header["seq"],
                                self._spool.path, error)
            return Feedback(0, 0, 0, 0, spooled=len(tensors["sid"]))
        return Feedback(reply.get("accepted", int), reply.get("duplicate", int),
                        reply.get("unknown", int), reply.get("rejected", int))

    def save(self, tag: str, *, consumed_seq: Optional[int] = None, inline: bool = False,
             timeout_s: Optional[float] = None) -> Saved:
        """A named snapshot of the curriculum, feedback that waits included.

          consumed_seq   batches below it are trained and may be retired
          inline         also bring the state here, for checkpoints that live elsewhere
        """
        header: Dict[str, Any] = {"tag": tag}
        if consumed_seq is not None:
            header["consumed_seq"] = int(consumed_seq)
        if inline:
            header["inline"] = True
        with self._call(timeout_s) as deadline:
            if not self._session:
                self._say_hello(deadline)
            self._drain(deadline)
            self._take_owed(deadline, 1 << 62)
            reply = self._ask(deadline, Kind.SAVE, header)
            state = reply.array("state", "u8").tobytes() if inline else None
            return Saved(reply.get("tag", str), reply.get("next_seq", int),
                         int(reply.header.get("bytes", 0)), str(reply.header.get("hash", "")), state)

    def restore(self, tag: Union[str, bytes, None] = None, *, state: Optional[bytes] = None,
                strict: Optional[bool] = None, timeout_s: Optional[float] = None) -> Restored:
        """Back to a snapshot, by tag or by the bytes that save(inline=True) brought.

        What was fetched and fed back since then is of a branch that is left: feedback for it that
        still waits is set aside, and batches count from next_seq.
        """
        if isinstance(tag, (bytes, bytearray, memoryview)):
            state, tag = bytes(tag), None
        if (tag is None) == (state is None):
            raise ValueError("restore: expected either a tag or a state")
        header: Dict[str, Any] = {} if tag is None else {"tag": tag}
        if strict is not None:
            header["strict"] = bool(strict)
        tensors = {} if state is None else {"state": np.frombuffer(state, np.uint8)}
        with self._call(timeout_s) as deadline:
            reply = self._ask(deadline, Kind.RESTORE, header, tensors)
            restored = Restored(reply.get("next_seq", int), int(reply.header.get("dropped_tail", 0)),
                                int(reply.header.get("dropped_feedback", 0)))
            if self._spool is not None:
                left = self._spool.abandon(restored.next_seq)
                if left:
                    log.warning("saerl: %d records of feedback are of the branch that was left; kept "
                                "in '%s'", left, self._spool.folder)
            self._drain_due = self._spool is not None  # what is kept may have got a file of its own
            self.load_local_state(None)
            self._groups.clear()
            self.seq = restored.next_seq
            return restored

    def shutdown(self, drain_ms: Optional[int] = None, timeout_s: Optional[float] = None) -> None:
        """Ask the sidecar to finish what is queued, within drain_ms if given, save and leave."""
        header = {} if drain_ms is None else {"drain_ms": int(drain_ms)}
        with self._call(timeout_s) as deadline:
            self._ask(deadline, Kind.SHUTDOWN, header)
            self._session = 0

    def close(self) -> None:
        """Say BYE if somebody listens, and let go of everything. May be called twice."""
        if self._pid != os.getpid():
            self._after_fork()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._session:
                    request = self._make(Kind.BYE)
                    self._transport.exchange([request], self._session, Deadline(0.2), 1.0, 1)
            except (CuratorError, SessionLost):
                pass
            finally:
                self._transport.close()
                if self._spool is not None:
                    self._spool.close()


class _BreakerOpen(SidecarAway):
    """Nobody was asked."""


class _Reply:
    """A reply's fields, or an error that names the one that is missing."""

    def __init__(self, message: wire.Message) -> None:
        self.name = Kind(message.envelope.kind).name
        self.header = message.header
        self.tensors = message.tensors

    def get(self, name: str, kind: Any) -> Any:
        value = self.header.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) and kind is int:
            raise CuratorError("reply to %s: '%s' is %r, expected %s"
                               % (self.name, name, value, kind.__name__))
        return value

    def optional(self, name: str, dtype: str, n: Optional[int] = None) -> Optional[Array]:
        return self.array(name, dtype, n) if name in self.tensors else None

    def array(self, name: str, dtype: str, n: Optional[int] = None) -> Array:
        array = self.tensors.get(name)
        if array is None:
            raise CuratorError("reply to %s: tensor '%s' is missing" % (self.name, name))
        if wire.wire_dtype(array) != dtype or array.ndim != 1 or n is not None and len(array) != n:
            raise CuratorError("reply to %s: tensor '%s' is %s %s, expected %s [%s]"
                               % (self.name, name, wire.wire_dtype(array), list(array.shape), dtype,
                                  "n" if n is None else n))
        return array


def _scores(reply: _Reply, n: int) -> Scores:
    return Scores(reply.array("quality", "f32", n), reply.array("difficulty", "f32", n),
                  reply.array("cluster", "i32", n), reply.array("keep", "u8", n).astype(bool),
                  reply.array("reason", "u8", n), str(reply.header.get("model", "")))


class _Samples:
    """The tensors of SUBMIT, SCORE and CURATE, checked, and cut at sample boundaries."""

    def __init__(self, sid: Any, act: Any, act_off: Any, keep: Any, csr: Any,
                 text: Optional[Sequence[str]], tokens_used: Any, recon_mean: Any,
                 recon_max: Any) -> None:
        self.sid = wire.wire_array(sid, "u64")
        if self.sid.ndim != 1:
            raise ValueError("sid: shape %s, expected [B]" % (self.sid.shape,))
        self.n = len(self.sid)
        if (act is None) == (csr is None):
            raise ValueError("expected either act or csr")
        self.act: Optional[Array] = None
        self.offsets: Optional[Array] = None  # of act's rows or of csr's entries
        self.flat: Dict[str, Array] = {}  # by row of act, or by entry
        self.per_sample: Dict[str, Array] = {}
        if act is not None:
            self._take_act(act, act_off, keep)
        else:
            self._take_csr(csr)
        for name, value, dtype in (("tokens_used", tokens_used, "u32"),
                                   ("recon_mean", recon_mean, "f32"), ("recon_max", recon_max, "f32")):
            if value is not None:
                if act is not None:
                    raise ValueError("%s goes with csr; of activations the sidecar works it out" % name)
                self._add(name, value, dtype)
        self.text: Optional[List[bytes]] = None
        if text is not None:
            self.text = [t.encode("utf-8") for t in text]
            if len(self.text) != self.n:
                raise ValueError("text: %d entries for %d sids" % (len(self.text), self.n))

    def _add(self, name: str, value: Any, dtype: str) -> None:
        array = wire.wire_array(value, dtype)
        if array.shape != (self.n,):
            raise ValueError("%s: shape %s for %d sids" % (name, array.shape, self.n))
        self.per_sample[name] = array

    def _set_offsets(self, name: str, offsets: Any, total: int) -> None:
        self.offsets = wire.wire_array(offsets, "i64")
        if self.offsets.shape != (self.n + 1,) or self.offsets[0] != 0 \
                or self.offsets[-1] != total or np.any(np.diff(self.offsets) < 0):
            raise ValueError("%s: expected %d numbers that rise from 0 to %d"
                             % (name, self.n + 1, total))

    def _take_act(self, act: Any, act_off: Any, keep: Any) -> None:
        if isinstance(act, (list, tuple)) and act_off is None and act and \
                getattr(act[0], "ndim", 0) == 2:
            parts = [wire.wire_array(a) for a in act]
            act_off = np.cumsum([0] + [len(p) for p in parts])
            act = np.concatenate(parts)
            if isinstance(keep, (list, tuple)) and keep and hasattr(keep[0], "__len__"):
                keep = np.concatenate([np.asarray(k) for k in keep])
        self.act = wire.wire_array(act)
        if self.act.ndim != 2 or wire.wire_dtype(self.act) not in ("f32", "f16", "bf16"):
            raise ValueError("act: %s %s, expected float [T, d] or [B, d]"
                             % (self.act.dtype, self.act.shape))
        if act_off is not None:
            self._set_offsets("act_off", act_off, len(self.act))
        elif len(self.act) != self.n:
            raise ValueError("act: %d rows for %d sids, and no act_off" % (len(self.act), self.n))
        if keep is not None:
            if act_off is None:
                raise ValueError("keep goes with act_off")
            self.flat["keep"] = wire.wire_array(np.asarray(keep) != 0, "u8")
            if self.flat["keep"].shape != (len(self.act),):
                raise ValueError("keep: shape %s for %d rows of act"
                                 % (self.flat["keep"].shape, len(self.act)))

    def _take_csr(self, csr: Any) -> None:
        if hasattr(csr, "indptr"):  # scipy's
            csr = (csr.indptr, csr.indices, csr.data)
        indptr, indices, values = csr
        self.flat["indices"] = wire.wire_array(indices, "u32")
        self.flat["values"] = wire.wire_array(values, "f32")
        if self.flat["indices"].shape != self.flat["values"].shape:
            raise ValueError("csr: %s indices, %s values"
                             % (self.flat["indices"].shape, self.flat["values"].shape))
        self._set_offsets("indptr", indptr, len(self.flat["values"]))

    def _bytes(self, begin: int, end: int) -> int:
        if self.offsets is None:
            assert self.act is not None
            return int(self.act[begin:end].nbytes)
        rows = int(self.offsets[end] - self.offsets[begin])
        if self.act is not None:
            return rows * int(self.act.shape[1]) * int(self.act.itemsize)
        return rows * 8

    def pieces(self, target: int) -> Iterator[Tuple[int, int]]:
        """[begin, end) of whole samples of about `target` bytes, at least one each."""
        begin = 0
        size = 0
        for i in range(self.n):
            one = self._bytes(i, i + 1)
            if i > begin and size + one > target:
                yield begin, i
                begin, size = i, 0
            size += one
        if self.n:
            yield begin, self.n

    def tensors(self, begin: int, end: int) -> Dict[str, Array]:
        out = {"sid": self.sid[begin:end]}
        if self.offsets is None:
            assert self.act is not None
            out["act"] = self.act[begin:end]
        else:
            first, last = int(self.offsets[begin]), int(self.offsets[end])
            if self.act is not None:
                out["act"] = self.act[first:last]
            out["act_off" if self.act is not None else "indptr"] = \
                self.offsets[begin:end + 1] - first
            for name, array in self.flat.items():
                out[name] = array[first:last]
        for name, array in self.per_sample.items():
            out[name] = array[begin:end]
        if self.text is not None:
            out["text"], out["text_off"] = wire.ragged(self.text[begin:end])
        return out


def _fork_all() -> None:
    for curator in list(_living):
        curator._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fork_all)
