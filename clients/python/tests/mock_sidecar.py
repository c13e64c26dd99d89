"""A sidecar of the protocol's letter in a thread of the test: docs/protocol.md over a fixed plan.

State outlives restart(), as the real one's does; sessions and the reply cache do not. What goes
wrong on the way is told by the test: lose(kind, times), busy(kind, times), forget(), delay_s.
"""

import hashlib
import json
import threading

import numpy as np
import zmq

from saerl import wire
from saerl.wire import Kind

RETRYABLE = {"E_BUSY"}


class Refused(Exception):
    def __init__(self, code, message="", field=None, retry_after_ms=None):
        super().__init__("%s: %s" % (code, message))
        self.reply = {"code": code, "message": message, "field": field,
                      "retryable": code in RETRYABLE, "retry_after_ms": retry_after_ms}


def plan_sid(position, rows):
    """The plan: an order with no step in common with a local one."""
    return (position * 7 + 3) % rows


class MockSidecar:
    def __init__(self, endpoint, rows=1000, d_in=8, credits=1 << 20, epochs=None, keys=None,
                 allow=()):
        self.endpoint, self.rows, self.d_in, self.credits = endpoint, rows, d_in, credits
        self.epochs = epochs
        self._keys, self._allow = keys, allow
        self.lock = threading.Lock()
        # Durable.
        self.journal = {}  # run -> [(seq, n, start)]
        self.retired = {}  # run -> seqs below it
        self.feedback = {}  # (run, seq, sid, rollout) -> reward
        self.feedback_order = []
        self.pool = {}  # sid -> content hash
        self.snapshots = {}  # tag -> state
        self.highest = {}  # (run, client) -> incarnation
        self.next_session = 1
        # Gone with the process.
        self.sessions = {}
        self.cache = {}
        # What the test looks at and what it orders.
        self.received = []  # (kind, session, request, flags)
        self.losses, self.busies = {}, {}
        self.delay_s = 0.0
        self.in_flight_max = self.replies_held = 0
        self.hold = 0  # answer SUBMITs only in groups of this many
        self.state = "ready"
        self._thread = self._context = None
        self.start()

    # Life.

    def start(self):
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._auth = None
        if self._keys:
            from zmq.auth.thread import ThreadAuthenticator

            self._auth = ThreadAuthenticator(self._context)
            self._auth.start()
            self._auth.configure_curve_callback("saerl", credentials_provider=self)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        if self._keys:
            self._socket.curve_server = True
            self._socket.curve_secretkey = self._keys[1]
            self._socket.zap_domain = b"saerl"
        self._socket.bind(self.endpoint)
        if self.endpoint.endswith(":*"):
            self.endpoint = self._socket.last_endpoint.decode()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def callback(self, domain, key):
        """Of the authenticator."""
        return key in self._allow

    def stop(self):
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        if self._auth:
            self._auth.stop()
        self._context.destroy(0)
        self._thread = None

    def restart(self):
        self.stop()
        self.sessions, self.cache = {}, {}
        self.start()

    def forget(self):
        """Sessions are lost, connections stay."""
        with self.lock:
            self.sessions, self.cache = {}, {}

    def lose(self, kind, times=1):
        """Work is done, replies never leave."""
        self.losses[kind] = times

    def busy(self, kind, times=1, retry_after_ms=20):
        self.busies[kind] = [times, retry_after_ms]

    def kinds(self):
        return [Kind(k).name for k, *_ in self.received]

    # The loop.

    def _loop(self):
        held = []
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        while not self._stop.is_set():
            if not poller.poll(20):
                for reply in held:
                    self._socket.send_multipart(reply)
                held = []
                continue
            frames = self._socket.recv_multipart()
            if self.delay_s and self._stop.wait(self.delay_s):
                break
            with self.lock:
                reply, kind = self._answer(frames[1:])
            if reply is None:
                continue
            if self.hold and kind == Kind.SUBMIT:
                held.append([frames[0], *reply])
                self.in_flight_max = max(self.in_flight_max, len(held))
                if len(held) < self.hold:
                    continue
                for one in reversed(held):  # the order of replies is not the order of requests
                    self._socket.send_multipart(one)
                held = []
                continue
            self._socket.send_multipart([frames[0], *reply])

    def _answer(self, frames):
        delimiter = [b""] if frames and not frames[0] else []
        try:
            envelope = wire.Envelope.unpack(frames[len(delimiter)])
        except (wire.WireError, IndexError):
            return None, None
        kind = envelope.kind
        self.received.append((kind, envelope.session, envelope.request, envelope.flags))
        try:
            header, tensors = self._checked(frames)
            cached = kind in (Kind.SUBMIT, Kind.FETCH, Kind.FEEDBACK, Kind.SAVE, Kind.RESTORE)
            digest = hashlib.blake2b(b"".join(bytes(f) for f in frames[len(delimiter) + 1:])).digest()
            key = (envelope.session, envelope.request)
            if cached and key in self.cache:
                if self.cache[key][0] != digest:
                    raise Refused("E_CONFLICT", "request %d again, with other content" % key[1])
                out = self.cache[key][1]
            else:
                out = getattr(self, "_" + Kind(kind).name.lower())(envelope, header, tensors)
                if cached:
                    self.cache[key] = (digest, out)
            flags, (head, arrays) = wire.FLAG_REPLY, out
        except Refused as refused:
            flags, head, arrays = wire.FLAG_REPLY | wire.FLAG_ERROR, refused.reply, {}
        if self.losses.get(kind, 0) > 0:
            self.losses[kind] -= 1
            return None, kind
        arrays = {k: wire.wire_array(v) for k, v in arrays.items()}
        reply = [bytes(f) for f in wire.encode(kind, envelope.session, envelope.request, flags, head,
                                               arrays)]
        return delimiter + reply, kind

    def _checked(self, frames):
        try:
            message = wire.decode(frames)
        except wire.WireError as error:
            raise Refused("E_BAD_HEADER", str(error)) from None
        envelope = message.envelope
        if envelope.kind not in list(Kind):
            raise Refused("E_UNKNOWN_OP")
        if envelope.kind not in (Kind.HELLO, Kind.PING) or envelope.session:
            session = self.sessions.get(envelope.session)
            if session is None and envelope.kind != Kind.HELLO:
                raise Refused("E_NO_SESSION", "say HELLO")
            if session and self.highest[session[:2]] > session[2]:
                raise Refused("E_FENCED", "a newer incarnation has taken over")
        left = self.busies.get(envelope.kind)
        if left and left[0] > 0:
            left[0] -= 1
            raise Refused("E_BUSY", "later", None, left[1])
        return message.header, message.tensors

    def _run(self, envelope):
        return self.sessions[envelope.session][0]

    def _next_seq(self, run):
        return len(self.journal.get(run, []))

    # Requests.

    def _hello(self, envelope, header, tensors):
        if envelope.session:
            raise Refused("E_BAD_HEADER", "HELLO has session 0")
        run, client, incarnation = header["run"], header["client"], header["incarnation"]
        if incarnation < self.highest.get((run, client), 0):
            raise Refused("E_FENCED", "incarnation %d" % incarnation)
        self.highest[run, client] = incarnation
        for number, known in self.sessions.items():
            if known == (run, client, incarnation):
                break
        else:
            number = self.next_session
            self.next_session += 1
            self.sessions[number] = (run, client, incarnation)
        return {"session": number, "version": "mock", "limits": {"frame": wire.FRAME_BYTES_MAX,
                                                                  "credits": self.credits},
                "run": run, "protocol": "1.0", "next_seq": self._next_seq(run), "state": self.state,
                "sae": {"d_in": self.d_in, "d_sae": 64, "hash": "0" * 32, "formula": "relu"},
                "dataset": {"rows": self.rows, "kept": self.rows, "fingerprint": "f"}, "config_hash": "c"}, {}

    def _ping(self, envelope, header, tensors):
        return {"state": self.state, "uptime_s": 1.5}, {}

    def _stats(self, envelope, header, tensors):
        return {"feedback": len(self.feedback)}, {}

    def _attach(self, envelope, header, tensors):
        if "keys" in tensors:
            texts = [str(k).encode() for k in tensors["keys"].tolist()]
        else:
            flat, off = tensors["prompts"].tobytes(), tensors["prompts_off"].tolist()
            texts = [flat[a:b] for a, b in zip(off, off[1:])]
        if header["n"] != len(texts):
            raise Refused("E_BAD_TENSOR", "n")
        # Row i of the data set is the prompt "row i".
        row = [int(t[4:]) if t.startswith(b"row ") and int(t[4:]) < self.rows else -1 for t in texts]
        known = [r for r in row if r >= 0]
        return {"matched": len(known), "unknown": len(row) - len(known),
                "duplicates": len(known) - len(set(known))}, {"row": np.array(row, np.int64)}

    def _width(self, tensors):
        if "act" in tensors and tensors["act"].shape[1] != self.d_in:
            raise Refused("E_BAD_TENSOR", "act: %d wide, expected %d"
                          % (tensors["act"].shape[1], self.d_in), "act")

    def _samples(self, tensors):
        """(sid, content hash, reason) of each."""
        self._width(tensors)
        sids = tensors["sid"].tolist()
        offsets = tensors.get("act_off", tensors.get("indptr", np.arange(len(sids) + 1))).tolist()
        rows = tensors["act"] if "act" in tensors else tensors["values"]
        for i, sid in enumerate(sids):
            part = rows[offsets[i]:offsets[i + 1]]
            values = wire.bf16_to_f32(part) if part.dtype == np.uint16 else part
            reason = 3 if not np.all(np.isfinite(values)) else 2 if not len(part) else 0
            yield sid, hashlib.blake2b(part.tobytes()).digest(), reason

    def _submit(self, envelope, header, tensors):
        reason = []
        for sid, content, why in self._samples(tensors):
            if not why:
                self.pool[sid] = content
            reason.append(why)
        rejected = sum(r != 0 for r in reason)
        return {"accepted": len(reason) - rejected, "rejected": rejected,
                "credit": self.credits}, {"reason": np.array(reason, np.uint8)}

    def _score(self, envelope, header, tensors):
        reason = np.array([why for _, _, why in self._samples(tensors)], np.uint8)
        n = len(reason)
        return {"model": "dataset"}, {
            "quality": np.full(n, 0.5, np.float32), "difficulty": np.arange(n, dtype=np.float32),
            "cluster": np.zeros(n, np.int32), "keep": (reason == 0).astype(np.uint8),
            "reason": reason}

    def _curate(self, envelope, header, tensors):
        head, arrays = self._score(envelope, header, tensors)
        order = tensors["sid"][arrays["keep"] != 0]
        size = header["batch_size"]
        off = np.array([*range(0, len(order), size), len(order)], np.int64)
        return {**head, "n_batches": len(off) - 1, "set": header.get("set")}, {
            **arrays, "order": order, "batch_off": off}

    def _batch(self, run, seq, n, start):
        total = None if self.epochs is None else self.epochs * self.rows
        count = n if total is None else max(0, min(n, total - start))
        sid = np.array([plan_sid(start + i, self.rows) for i in range(count)], np.uint64)
        return {"seq": seq, "epoch": start // self.rows, "exhausted": count < n,
                "fallback": False}, {
            "sid": sid, "difficulty": np.linspace(0, 1, count, dtype=np.float32),
            "cluster": (sid % 5).astype(np.int32)}

    def _fetch(self, envelope, header, tensors):
        run, seq, n = self._run(envelope), header["seq"], header["n"]
        journal = self.journal.setdefault(run, [])
        if n < 1:
            raise Refused("E_BAD_HEADER", "n: %d, expected at least 1" % n, "n")
        if seq < self.retired.get(run, 0):
            raise Refused("E_SEQ_RETIRED", "seq %d" % seq)
        start = journal[-1][2] + journal[-1][1] if journal else 0
        if seq >= len(journal) and self.epochs is not None and start > self.epochs * self.rows:
            raise Refused("E_EXHAUSTED", "the last epoch is over")
        if seq > len(journal):
            raise Refused("E_SEQ_GAP", "seq %d, next is %d" % (seq, len(journal)))
        if seq == len(journal):
            journal.append((seq, n, start))
        if journal[seq][1] != n:
            raise Refused("E_CONFLICT", "seq %d was asked with n %d" % (seq, journal[seq][1]))
        return self._batch(run, *journal[seq])

    def _peek(self, envelope, header, tensors):
        journal = self.journal.get(self._run(envelope), [])
        start = journal[-1][2] + journal[-1][1] if journal else 0
        return {}, {"sid": np.array([plan_sid(start + i, self.rows) for i in range(header["k"])],
                                    np.uint64)}

    def _feedback(self, envelope, header, tensors):
        run, seq = self._run(envelope), header["seq"]
        journal = self.journal.get(run, [])
        if seq >= len(journal) or seq < 0:
            raise Refused("E_SEQ_GAP", "seq %d was never fetched" % seq)
        known = set(self._batch(run, *journal[seq])[1]["sid"].tolist())
        count = {"accepted": 0, "duplicate": 0, "unknown": 0, "rejected": 0}
        for i, (sid, reward) in enumerate(zip(tensors["sid"].tolist(), tensors["reward"].tolist())):
            rollout = int(tensors["rollout"][i]) if "rollout" in tensors else (envelope.session,
                                                                               envelope.request, i)
            key = (run, seq, sid, rollout)
            if sid not in known:
                count["unknown"] += 1
            elif not np.isfinite(reward):
                count["rejected"] += 1
            elif key in self.feedback:
                count["duplicate"] += 1
            else:
                self.feedback[key] = reward
                self.feedback_order.append(key)
                count["accepted"] += 1
        return count, {}

    def _save(self, envelope, header, tensors):
        run = self._run(envelope)
        state = json.dumps([self.journal.get(run, []),
                            [[*k[1:], v] for k, v in self.feedback.items() if k[0] == run]]).encode()
        self.snapshots[header["tag"]] = state
        if "consumed_seq" in header:
            self.retired[run] = max(self.retired.get(run, 0), header["consumed_seq"])
        out = {"tag": header["tag"], "next_seq": self._next_seq(run), "bytes": len(state),
               "hash": hashlib.blake2b(state, digest_size=16).hexdigest()}
        return out, {"state": np.frombuffer(state, np.uint8)} if header.get("inline") else {}

    def _restore(self, envelope, header, tensors):
        run = self._run(envelope)
        if "tag" in header:
            if header["tag"] not in self.snapshots:
                raise Refused("E_NO_SNAPSHOT", header["tag"])
            state = self.snapshots[header["tag"]]
        else:
            state = tensors["state"].tobytes()
        try:
            journal, feedback = json.loads(state)
        except ValueError:
            raise Refused("E_BAD_TENSOR", "no state of a sidecar", "state") from None
        dropped = self._next_seq(run) - len(journal)
        self.journal[run] = [tuple(j) for j in journal]
        lost = max(sum(k[0] == run for k in self.feedback) - len(feedback), 0)
        self.feedback = {k: v for k, v in self.feedback.items() if k[0] != run}
        self.feedback.update({(run, *k): v for *k, v in feedback})
        return {"next_seq": len(journal), "dropped_tail": max(dropped, 0), "dropped_feedback": lost}, {}

    def _bye(self, envelope, header, tensors):
        self.sessions.pop(envelope.session, None)
        return {}, {}

    def _shutdown(self, envelope, header, tensors):
        self._stop.set()
        return {}, {}
