"""A writer of safetensors files: header length, JSON header, the tensors' bytes in its order."""

from __future__ import annotations

import json
import os
import struct
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from .wire import Array

# numpy's type -> the format's name; uint16 is bfloat16's bits, which numpy does not have.
NAMES = {"f4": "F32", "f2": "F16", "u2": "BF16", "i8": "I64", "u1": "U8"}


def write(path: str, tensors: Mapping[str, Sequence[Array]], metadata: Mapping[str, str]) -> int:
    """Each tensor as parts that are concatenated. Whole or not at all; the bytes written."""
    header: Dict[str, object] = {"__metadata__": dict(metadata)}
    order: List[Tuple[str, Sequence[Array]]] = list(tensors.items())
    end = 0
    for name, parts in order:
        first = parts[0]
        begin, end = end, end + sum(p.nbytes for p in parts)
        header[name] = {
            "dtype": NAMES[first.dtype.str[1:]],
            "shape": [sum(len(p) for p in parts), *first.shape[1:]],
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    aside = path + ".partial"
    with open(aside, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, parts in order:
            for part in parts:
                array = np.ascontiguousarray(part)
                file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    return 8 + len(text) + end
