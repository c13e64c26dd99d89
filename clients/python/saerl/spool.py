"""Feedback that waits on disk for a sidecar that is away.

A folder holds one file for each client that ever had to wait, appended to and synced a record at
a time:

    [u32 bytes] [u32 crc32] [frames of a FEEDBACK, each u32 bytes + content]    little-endian

The owner holds a lock on its file, so a file without a lock belongs to a process that has died;
whoever finds it sends it. Sending twice is harmless: a record carries (seq, sid, rollout), which
the sidecar counts once.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import struct
import zlib
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from . import wire
from .errors import SidecarError, SpoolFull

RECORD = struct.Struct("<II")
LENGTH = struct.Struct("<I")
SUFFIX = ".feedback"

# Refusals that no repetition cures and that say nothing about the other records.
ABOUT_THE_RECORD = {"E_BAD_HEADER", "E_BAD_TENSOR", "E_CONFLICT", "E_SEQ_GAP", "E_SEQ_RETIRED",
                    "E_TOO_LARGE", "E_UNKNOWN_SID"}

log = logging.getLogger("saerl")


class Record(NamedTuple):
    header: Dict[str, Any]
    tensors: Dict[str, wire.Array]


def pack_record(header: Mapping[str, Any], tensors: Mapping[str, wire.Array]) -> bytes:
    frames = wire.encode(wire.Kind.FEEDBACK, 0, 0, 0, header, tensors)
    body = b"".join(LENGTH.pack(len(f)) + bytes(f) for f in frames)
    return RECORD.pack(len(body), zlib.crc32(body)) + body


def unpack_body(body: bytes) -> Record:
    frames, at = [], 0
    while at < len(body):
        if at + LENGTH.size > len(body):
            raise wire.WireError("a frame's length is cut off")
        (n,) = LENGTH.unpack_from(body, at)
        at += LENGTH.size
        if n > len(body) - at:
            raise wire.WireError("a frame is cut off")
        frames.append(body[at:at + n])
        at += n
    message = wire.decode(frames)
    return Record(message.header, message.tensors)


def read_records(raw: bytes) -> Iterator[Tuple[int, Record]]:
    """(offset after it, record) of each whole record; WireError where one is damaged.

    What an interrupted append left at the end is no record: its feedback() never returned.
    """
    at = 0
    while at + RECORD.size <= len(raw):
        n, crc = RECORD.unpack_from(raw, at)
        end = at + RECORD.size + n
        if end > len(raw):
            return
        body = raw[at + RECORD.size:end]
        if zlib.crc32(body) != crc:
            raise wire.WireError("byte %d: a record's checksum is wrong" % at)
        yield end, unpack_body(body)
        at = end


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _append_whole(path: str, raw: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, raw)
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, raw: bytes) -> None:
    view = memoryview(raw)
    while view:
        view = view[os.write(fd, view):]


class Spool:
    """One client's file, and those of the dead. Not thread-safe; Curator holds its lock."""

    def __init__(self, folder: str, run: str, client: str, bytes_max: int) -> None:
        self.folder = os.fspath(folder)
        self.bytes_max = bytes_max
        self._prefix = hashlib.blake2b(run.encode(), digest_size=6).hexdigest()
        name = "%s.%s%s" % (self._prefix, re.sub(r"[^\w.-]", "_", client)[:128], SUFFIX)
        self.path = os.path.join(self.folder, name)
        self._fd: Optional[int] = None
        self._size = 0
        self._sent: Dict[str, int] = {}  # path -> bytes of it that were answered
        self._warned = False
        os.makedirs(self.folder, mode=0o700, exist_ok=True)

    @property
    def size(self) -> int:
        """Bytes that wait in this client's own file."""
        return self._size

    def _open(self) -> int:
        if self._fd is None:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                raise SpoolFull("spool '%s': another process has this client's file"
                                % self.path) from None
            self._size = self._cut_tail(fd)
            self._fd = fd
            _sync_folder(self.folder)
        return self._fd

    def _cut_tail(self, fd: int) -> int:
        """A file of an earlier process with this client's name: keep its whole records."""
        raw = _read_fd(fd)
        end = 0
        try:
            for end, _ in read_records(raw):
                pass
        except wire.WireError:
            return len(raw)  # drain() sets the damage aside
        if end < len(raw):
            os.ftruncate(fd, end)
        return end

    def append(self, header: Mapping[str, Any], tensors: Mapping[str, wire.Array]) -> None:
        """Durable on return. SpoolFull: nothing was written."""
        raw = pack_record(header, tensors)
        fd = self._open()
        if self._size + len(raw) > self.bytes_max:
            raise SpoolFull("spool '%s': %d bytes wait and %d more do not fit spool_bytes_max, %d; "
                            "this feedback was not kept"
                            % (self.path, self._size, len(raw), self.bytes_max))
        try:
            _write_all(fd, raw)
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, self._size)
            raise
        self._size += len(raw)
        if self._size > self.bytes_max * 0.8 and not self._warned:
            self._warned = True
            log.error("spool '%s': %d of %d bytes are full; feedback will be refused soon",
                      self.path, self._size, self.bytes_max)

    def orphans(self) -> List[str]:
        """Files of this run that may have no owner any more, oldest first."""
        found = []
        try:
            for entry in os.scandir(self.folder):
                if entry.name.startswith(self._prefix + ".") and entry.name.endswith(SUFFIX) \
                        and entry.path != self.path:
                    found.append((entry.stat().st_mtime_ns, entry.path))
        except OSError:
            return []
        return [path for _, path in sorted(found)]

    def _orphan_files(self) -> Iterator[Tuple[str, int]]:
        """(path, locked descriptor) of files whose owner has died; each is closed after use."""
        for path in self.orphans():
            try:
                fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path, fd
            except BlockingIOError:
                pass  # its owner lives
            finally:
                os.close(fd)

    def drain(self, send: Callable[[Record], None], adopt: bool) -> None:
        """Send what waits, in order: with `adopt` that of dead processes first, then our own.

        What the sidecar refuses for good is set aside, never dropped. Any other exception of
        `send` ends the drain; what was not sent stays.
        """
        for path, fd in self._orphan_files() if adopt else ():
            self._drain_file(path, fd, send)
            os.unlink(path)
        if self._fd is None and os.path.exists(self.path):
            self._open()
        if self._fd is not None and self._size:
            self._drain_file(self.path, self._fd, send)
            self._size = 0
            self._warned = False

    def _drain_file(self, path: str, fd: int, send: Callable[[Record], None]) -> None:
        raw = _read_fd(fd)
        done = self._sent.get(path, 0)
        try:
            for length, record in read_records(raw[done:]):
                try:
                    send(record)
                except SidecarError as error:
                    if error.code not in ABOUT_THE_RECORD:
                        raise
                    log.error("spool '%s': the sidecar refuses feedback for seq %s: %s; it is kept in "
                              "'%s.refused'", path, record.header.get("seq"), error, path)
                    _append_whole(path + ".refused", pack_record(*record))
                self._sent[path] = done + length
        except wire.WireError as error:
            log.error("spool '%s': %s; the rest is kept in '%s.damaged'", path, error, path)
            _append_whole(path + ".damaged", raw[self._sent.get(path, 0):])
        os.ftruncate(fd, 0)
        os.fsync(fd)
        self._sent.pop(path, None)

    def abandon(self, next_seq: int) -> int:
        """After a RESTORE: what waits for batches from `next_seq` on is of the branch that was
        left, whose numbers are given out again. Set aside; returns how many records."""
        n = sum(self._abandon_in(path, fd, next_seq) for path, fd in self._orphan_files())
        if self._fd is not None and self._size:
            n += self._abandon_in(self.path, self._fd, next_seq)
            self._size = os.fstat(self._fd).st_size
        return n

    def _abandon_in(self, path: str, fd: int, next_seq: int) -> int:
        kept, left, n = b"", b"", 0
        try:
            for _, record in read_records(_read_fd(fd)[self._sent.get(path, 0):]):
                if int(record.header["seq"]) >= next_seq:
                    left += pack_record(*record)
                    n += 1
                else:
                    kept += pack_record(*record)
        except wire.WireError:
            return 0  # drain() sets the damage aside
        if not left:
            return 0
        _append_whole(path + ".abandoned", left)
        if kept:
            # As a file without an owner first: a crash between the two steps doubles, and that is
            # harmless, where the other order would lose.
            _append_whole("%s-kept%s" % (path[:-len(SUFFIX)], SUFFIX), kept)
            _sync_folder(self.folder)
        os.ftruncate(fd, 0)
        os.fsync(fd)
        self._sent.pop(path, None)
        return n

    def forget(self) -> None:
        """In a forked child: the file is the parent's, and so is the lock on it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        if self._fd is not None:
            if self._size == 0:
                os.unlink(self.path)
            os.close(self._fd)
            self._fd = None


def _read_fd(fd: int) -> bytes:
    parts: List[bytes] = []
    at = 0
    while True:
        part = os.pread(fd, 1 << 20, at)
        if not part:
            return b"".join(parts)
        parts.append(part)
        at += len(part)
