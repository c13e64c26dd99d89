"""As much of pyzmq as the tests need, on the libzmq that the program itself is linked with."""

import ctypes
import ctypes.util

POLLIN = 1
DEALER, ROUTER = 5, 6
LINGER, RCVTIMEO = 17, 27
CURVE_PUBLICKEY, CURVE_SECRETKEY, CURVE_SERVERKEY = 48, 49, 50
_SNDMORE = 2

_lib = ctypes.CDLL(ctypes.util.find_library("zmq") or "libzmq.so.5", use_errno=True)
for _name, _result in [
    ("zmq_ctx_new", ctypes.c_void_p),
    ("zmq_socket", ctypes.c_void_p),
    ("zmq_msg_data", ctypes.c_void_p),
    ("zmq_msg_size", ctypes.c_size_t),
    ("zmq_strerror", ctypes.c_char_p),
]:
    getattr(_lib, _name).restype = _result


class ZMQError(Exception):
    pass


class Again(ZMQError):
    """RCVTIMEO passed."""


class _PollItem(ctypes.Structure):
    _fields_ = [
        ("socket", ctypes.c_void_p),
        ("fd", ctypes.c_int),
        ("events", ctypes.c_short),
        ("revents", ctypes.c_short),
    ]


def _check(result):
    if result == -1:
        code = _lib.zmq_errno()
        raise (Again if code == 11 else ZMQError)(_lib.zmq_strerror(code).decode())
    return result


class Socket:
    def __init__(self, context, kind):
        self.handle = ctypes.c_void_p(_lib.zmq_socket(context, kind))

    def setsockopt(self, option, value):
        if isinstance(value, bytes):
            _check(_lib.zmq_setsockopt(self.handle, option, value, ctypes.c_size_t(len(value))))
        else:
            _check(_lib.zmq_setsockopt(self.handle, option, ctypes.byref(ctypes.c_int(value)), 4))

    def bind(self, endpoint):
        _check(_lib.zmq_bind(self.handle, endpoint.encode()))

    def connect(self, endpoint):
        _check(_lib.zmq_connect(self.handle, endpoint.encode()))

    def send_multipart(self, frames):
        for i, frame in enumerate(frames):
            flags = _SNDMORE if i + 1 < len(frames) else 0
            _check(_lib.zmq_send(self.handle, bytes(frame), ctypes.c_size_t(len(frame)), flags))

    def recv_multipart(self):
        frames, more = [], 1
        while more:
            message = ctypes.create_string_buffer(64)
            _lib.zmq_msg_init(message)
            _check(_lib.zmq_msg_recv(message, self.handle, 0))
            size = _lib.zmq_msg_size(message)
            frames.append(ctypes.string_at(_lib.zmq_msg_data(message), size) if size else b"")
            more = _lib.zmq_msg_more(message)
            _lib.zmq_msg_close(message)
        return frames

    def poll(self, timeout, flags=POLLIN):
        item = _PollItem(self.handle, 0, flags, 0)
        return _check(_lib.zmq_poll(ctypes.byref(item), 1, ctypes.c_long(int(timeout))))

    def close(self, linger=0):
        self.setsockopt(LINGER, linger)
        _lib.zmq_close(self.handle)


def curve_keypair():
    """Public and secret key, as text with a zero byte behind it."""
    public, secret = ctypes.create_string_buffer(41), ctypes.create_string_buffer(41)
    _check(_lib.zmq_curve_keypair(public, secret))
    return public.raw, secret.raw


class Context:
    _shared = None

    def __init__(self):
        self.handle = ctypes.c_void_p(_lib.zmq_ctx_new())

    @classmethod
    def instance(cls):
        cls._shared = cls._shared or cls()
        return cls._shared

    def socket(self, kind):
        return Socket(self.handle, kind)

    def term(self):
        _lib.zmq_ctx_term(self.handle)
