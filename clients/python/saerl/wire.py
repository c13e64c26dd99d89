"""Wire protocol 1.0: frames to messages and back (docs/protocol.md). Pure: no socket, no clock.

    [envelope 32 B] [JSON header] [tensor 0] ... [tensor k-1]            little-endian throughout

    0     4 5 6    8         16            24          28     32
    SRLW  1 0 kind session   request id    n_tensors   flags

numpy has no bfloat16: a bf16 tensor is an array of uint16 that holds its bits, both ways.
"""

from __future__ import annotations

import enum
import json
import struct
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

import numpy as np

MAGIC = b"SRLW"
MAJOR, MINOR = 1, 0
ENVELOPE = struct.Struct("<4sBBHQQII")

HEADER_BYTES_MAX = 1 << 20
HEADER_DEPTH_MAX = 16
FRAME_BYTES_MAX = 64 << 20
TENSORS_MAX = 32
RANK_MAX = 4
SESSION_MAX = (1 << 53) - 1

Frame = Union[bytes, memoryview]
Array = Any  # numpy.ndarray; numpy before 1.22 cannot say of what


class Kind(enum.IntEnum):
    HELLO = 1
    PING = 2
    STATS = 3
    ATTACH = 4
    SUBMIT = 10
    SCORE = 11
    CURATE = 12
    FETCH = 20
    PEEK = 21
    FEEDBACK = 30
    SAVE = 40
    RESTORE = 41
    BYE = 50
    SHUTDOWN = 51


FLAG_REPLY, FLAG_ERROR, FLAG_RETRY = 1, 2, 4

# dtype on the wire -> numpy's, and back.
DTYPES = {
    "f32": "<f4",
    "f16": "<f2",
    "bf16": "<u2",
    "u8": "|u1",
    "i32": "<i4",
    "u32": "<u4",
    "i64": "<i8",
    "u64": "<u8",
}
NAMES = {np.dtype(v).newbyteorder("=").str[1:]: k for k, v in DTYPES.items()}

REASONS = (
    "none",
    "malformed",
    "no_tokens",
    "nonfinite",
    "zero_activation",
    "duplicate",
    "near_duplicate",
    "sae_duplicate",
    "contaminated",
    "low_quality",
    "difficulty_window",
    "unknown_sid",
)


class WireError(ValueError):
    """Bytes that are no message of ours, or a message that cannot be sent."""


class Envelope(NamedTuple):
    kind: int
    session: int
    request: int
    n_tensors: int
    flags: int
    major: int = MAJOR
    minor: int = MINOR

    def pack(self) -> bytes:
        return ENVELOPE.pack(MAGIC, self.major, self.minor, self.kind, self.session, self.request,
                             self.n_tensors, self.flags)

    @classmethod
    def unpack(cls, raw: Frame) -> Envelope:
        if len(raw) != ENVELOPE.size:
            raise WireError("envelope: %d bytes, expected %d" % (len(raw), ENVELOPE.size))
        magic, major, minor, kind, session, request, n_tensors, flags = ENVELOPE.unpack(raw)
        if magic != MAGIC:
            raise WireError("envelope: magic %r, expected %r" % (magic, MAGIC))
        return cls(kind, session, request, n_tensors, flags, major, minor)


class Message(NamedTuple):
    envelope: Envelope
    header: Dict[str, Any]
    tensors: Dict[str, Array]


def wire_dtype(array: Array) -> str:
    name = NAMES.get(array.dtype.str[1:])
    if name is None:
        raise WireError("dtype %s does not travel; expected one of %s (uint16 is bf16's bits)"
                        % (array.dtype, " ".join(DTYPES)))
    return name


def wire_array(value: Any, dtype: Union[str, None] = None) -> Array:
    """Contiguous, little-endian, of a dtype that travels; float64 becomes float32, bool u8.

    A torch tensor is taken too, from any device; of bfloat16 the bits.
    """
    if hasattr(value, "detach"):  # torch, which this package does not import
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            import torch

            value = value.contiguous().view(torch.int16).numpy().view(np.uint16)
        else:
            value = value.numpy()
    array = np.asarray(value)
    if dtype is not None:
        target = np.dtype(DTYPES[dtype])
        if array.size == 0:
            array = array.astype(target)
        elif target.kind == "f" and array.dtype.kind not in "fiub":
            raise WireError("%s values where %s is expected" % (array.dtype, dtype))
        elif target.kind in "iu" and array.dtype != target:
            array = _to_integers(array, target, dtype)
        array = array.astype(target, copy=False)
    elif array.dtype == np.float64:
        array = array.astype(np.float32)
    elif array.dtype == np.bool_:
        array = array.view(np.uint8)
    wire_dtype(array)
    array = np.ascontiguousarray(array) if array.ndim else array
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _to_integers(array: Array, target: Any, dtype: str) -> Array:
    # Not by numpy's rules: they make -1 a large unsigned number and 0.9 a 0.
    if array.dtype.kind == "f":
        if not np.all(np.isfinite(array)) or not np.all(array == np.floor(array)):
            raise WireError("not whole numbers where %s is expected" % dtype)
    elif array.dtype.kind == "O":
        # A list that mixes numbers above and below 2^63.
        if not all(isinstance(x, (int, np.integer)) for x in array.flat):
            raise WireError("not whole numbers where %s is expected" % dtype)
    elif array.dtype.kind not in "iub":
        raise WireError("%s values where %s is expected" % (array.dtype, dtype))
    info = np.iinfo(target)
    low, high = int(array.min()), int(array.max())
    if low < info.min or high > info.max:
        raise WireError("%d does not fit %s" % (low if low < info.min else high, dtype))
    return array.astype(target)


def encode_header(header: Mapping[str, Any], tensors: Mapping[str, Array]) -> bytes:
    if len(tensors) > TENSORS_MAX:
        raise WireError("%d tensors, at most %d" % (len(tensors), TENSORS_MAX))
    listed = []
    for name, array in tensors.items():
        if array.ndim > RANK_MAX:
            raise WireError("tensor '%s': rank %d, at most %d" % (name, array.ndim, RANK_MAX))
        listed.append({"name": name, "dtype": wire_dtype(array), "shape": list(array.shape)})
    try:
        text = json.dumps({**header, "tensors": listed}, allow_nan=False,
                          separators=(",", ":")).encode()
    except ValueError as error:
        raise WireError("header: %s" % error) from None
    if len(text) > HEADER_BYTES_MAX:
        raise WireError("header: %d bytes, at most %d" % (len(text), HEADER_BYTES_MAX))
    return text


def body_frames(header: Mapping[str, Any], tensors: Mapping[str, Array],
                frame_bytes_max: int = FRAME_BYTES_MAX) -> List[Frame]:
    """All frames but the envelope: what does not change when a request is repeated."""
    frames: List[Frame] = [encode_header(header, tensors)]
    for name, array in tensors.items():
        if array.nbytes > frame_bytes_max:
            raise WireError("tensor '%s': %d bytes, at most %d a frame; send it in parts"
                            % (name, array.nbytes, frame_bytes_max))
        if not array.flags.c_contiguous or array.dtype.byteorder == ">":
            array = wire_array(array)
        frames.append(memoryview(array.reshape(-1)).cast("B") if array.size else b"")
    return frames


def encode(kind: int, session: int, request: int, flags: int = 0,
           header: Union[Mapping[str, Any], None] = None,
           tensors: Union[Mapping[str, Array], None] = None) -> List[Frame]:
    tensors = tensors or {}
    envelope = Envelope(int(kind), session, request, len(tensors), flags)
    return [envelope.pack(), *body_frames(header or {}, tensors)]


def _refuse_constant(text: str) -> Any:
    raise WireError("header: %s is not JSON" % text)


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise WireError("header: a key is there twice")
    return made


def _depth(value: Any, limit: int) -> bool:
    """Is `value` nested no deeper than `limit`?"""
    if isinstance(value, dict):
        return limit > 0 and all(_depth(v, limit - 1) for v in value.values())
    if isinstance(value, list):
        return limit > 0 and all(_depth(v, limit - 1) for v in value)
    return True


def parse_header(raw: Frame) -> Dict[str, Any]:
    if len(raw) > HEADER_BYTES_MAX:
        raise WireError("header: %d bytes, at most %d" % (len(raw), HEADER_BYTES_MAX))
    try:
        header = json.loads(bytes(raw).decode("utf-8"), parse_constant=_refuse_constant,
                            object_pairs_hook=_unique)
    except WireError:
        raise
    except RecursionError:
        raise WireError("header: nested deeper than %d" % HEADER_DEPTH_MAX) from None
    except ValueError as error:
        raise WireError("header: %s" % error) from None
    if not isinstance(header, dict):
        raise WireError("header: %s, expected an object" % type(header).__name__)
    if not _depth(header, HEADER_DEPTH_MAX):
        raise WireError("header: nested deeper than %d" % HEADER_DEPTH_MAX)
    return header


def _tensor(entry: Any, frame: Frame) -> Tuple[str, Array]:
    if not isinstance(entry, dict):
        raise WireError("tensors: an entry is no object")
    name, dtype, shape = entry.get("name"), entry.get("dtype"), entry.get("shape")
    if not isinstance(name, str):
        raise WireError("tensors: a name is no string")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError("tensor '%s': dtype %r, expected one of %s" % (name, dtype, " ".join(DTYPES)))
    if not isinstance(shape, list) or len(shape) > RANK_MAX or not all(
            type(n) is int and n >= 0 for n in shape):
        raise WireError("tensor '%s': shape %r" % (name, shape))
    kind = np.dtype(DTYPES[dtype])
    count = 1
    for n in shape:
        count *= n  # Python's integers do not wrap
    if count * kind.itemsize != len(frame):
        raise WireError("tensor '%s': %d bytes, %s %s is %d"
                        % (name, len(frame), dtype, shape, count * kind.itemsize))
    # A copy: small frames arrive unaligned, and a view would keep a whole receive buffer alive.
    return name, np.frombuffer(frame, kind).reshape(shape).copy()


def decode(frames: Sequence[Frame]) -> Message:
    """The message in `frames`; WireError says what is wrong. A leading empty frame is skipped."""
    if frames and len(frames[0]) == 0:
        frames = frames[1:]
    if not frames:
        raise WireError("no frames")
    envelope = Envelope.unpack(frames[0])
    if envelope.major != MAJOR:
        raise WireError("version %d.%d, expected %d.x" % (envelope.major, envelope.minor, MAJOR))
    if len(frames) < 2 or envelope.n_tensors != len(frames) - 2:
        raise WireError("%d frames, the envelope says %d tensors" % (len(frames), envelope.n_tensors))
    header = parse_header(frames[1])
    listed = header.pop("tensors", None)
    if not isinstance(listed, list) or len(listed) != envelope.n_tensors:
        raise WireError("tensors: the header lists %s, there are %d"
                        % (len(listed) if isinstance(listed, list) else "none", envelope.n_tensors))
    tensors: Dict[str, Array] = {}
    for entry, frame in zip(listed, frames[2:]):
        name, array = _tensor(entry, frame)
        if name in tensors:
            raise WireError("tensor '%s' is there twice" % name)
        tensors[name] = array
    return Message(envelope, header, tensors)


def bf16_to_f32(bits: Array) -> Array:
    return (np.asarray(bits, np.uint16).astype(np.uint32) << 16).view(np.float32)


def f32_to_bf16(values: Array) -> Array:
    """To nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(nan, ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def ragged(parts: Sequence[bytes]) -> Tuple[Array, Array]:
    """A flat u8 array and the i64 offsets of its parts."""
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(p) for p in parts], out=offsets[1:])
    return np.frombuffer(b"".join(parts), np.uint8), offsets
