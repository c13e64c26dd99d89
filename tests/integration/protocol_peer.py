"""A sidecar of a few lines, for tests of clients: answers what a dictionary says, and remembers
what it was asked."""

import json
import struct
import threading

import zmq_sockets as zmq

HELLO, PING, STATS, FETCH, PEEK, SAVE, BYE, SHUTDOWN = 1, 2, 3, 20, 21, 40, 50, 51
REPLY, ERROR = 1, 2
ENVELOPE = struct.Struct("<4sBBHQQII")
FORMATS = {"u64": "Q", "f32": "f", "i32": "i"}


class Fault(Exception):
    """For an answer: Fault("E_BUSY", "words", retry_after_ms)."""


class Asked:
    def __init__(self, kind, session, request, flags, header):
        self.kind, self.session, self.request = kind, session, request
        self.flags, self.header = flags, header
        self.run = None


class ProtocolPeer:
    """`answers`: kind -> header, or (header, {name: (dtype, values)}), or a Fault, or a function
    of what was Asked that returns one of them; None is no answer."""

    def __init__(self, endpoint, answers):
        self.answers, self.asked, self.runs = answers, [], {}
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.bind(endpoint)
        self.running = True
        self.thread = threading.Thread(target=self.main, daemon=True)
        self.thread.start()

    def close(self):
        self.running = False
        self.thread.join(30)
        self.socket.close()
        self.context.term()

    def kinds(self):
        return [asked.kind for asked in self.asked]

    def main(self):
        while self.running:
            if self.socket.poll(10):
                self.serve(*self.socket.recv_multipart())

    def hello(self, asked):
        session = len(self.runs) + 1
        self.runs[session] = asked.header["run"]
        return {"session": session, "state": "ready"}

    def serve(self, routing, envelope, header, *_tensors):
        magic, major, _, kind, session, request, _, flags = ENVELOPE.unpack(envelope)
        assert (magic, major) == (b"SRLW", 1)
        asked = Asked(kind, session, request, flags, json.loads(header))
        asked.run = self.runs.get(session)
        self.asked.append(asked)
        answer = self.answers.get(kind, self.hello if kind == HELLO else {})
        if kind != HELLO and asked.run is None and kind not in self.answers.get("free", ()):
            answer = Fault("E_NO_SESSION", "no such session", 0)
        if callable(answer):
            answer = answer(asked)
        if answer is None:
            return
        flags, tensors = REPLY, {}
        if isinstance(answer, Fault):
            code, message, wait = answer.args
            flags |= ERROR
            answer = {
                "code": code,
                "message": message,
                "field": "",
                "retryable": wait > 0,
                "retry_after_ms": wait,
            }
        elif isinstance(answer, tuple):
            answer, tensors = answer
        frames = [
            struct.pack("<%d%s" % (len(values), FORMATS[dtype]), *values)
            for dtype, values in tensors.values()
        ]
        described = [
            {"name": name, "dtype": dtype, "shape": [len(values)]}
            for name, (dtype, values) in tensors.items()
        ]
        self.socket.send_multipart(
            [
                routing,
                ENVELOPE.pack(b"SRLW", 1, 0, kind, session, request, len(frames), flags),
                json.dumps({**answer, "tensors": described}).encode(),
                *frames,
            ]
        )
