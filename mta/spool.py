"""Message bytes on disk, before anybody is told that we have them.

Each process appends to segment files of its own. A record is a head with lengths and checksum, a
note, the bytes, and an end mark; a torn last record is one that nobody was promised, and is left
out when the segment is read. All who wait while a sync is under way share the next one: with one
waiter it costs one sync, with a hundred still one. There is no timer.

    4 bytes "WPR2" · 4 bytes length of the note · 8 bytes length of the data
    4 bytes CRC-32 of both · note · data · 4 bytes "END."

The note says what the message leads to (who sent it to whom). Whoever appends with a note is told
so at once, and the `Sorter` moves what it leads to into the tables afterwards. Records without a
note belong to a row that somebody else writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from mail.errors import PermanentError, TemporaryError
from mail.ids import uuid7
from mta import metrics

log = structlog.get_logger()

_SYNC_SECONDS = metrics.sync_seconds()
_SYNC_RECORDS = metrics.sync_records()

_HEAD = struct.Struct(">4sIQI")
_MAGIC = b"WPR2"
_END = b"END."

SEGMENT_BYTES = 64 << 20
"""A segment that has grown to this is closed and a new one begun."""

BATCH_BYTES = 16 << 20
"""The most that one sync waits for."""

MARGIN_SECONDS = 3600.0
"""A segment younger than this is never removed: its places may still be on their way."""

NOT_NOW = "The message could not be stored now."


@dataclass(frozen=True, slots=True)
class Kept:
    """A record that is on disk. `end` is where the next one begins; `memo` is the appender's."""

    place: dict[str, Any]
    end: int
    note: bytes
    data: bytes
    memo: Any = None

    @property
    def segment(self) -> str:
        """The file's name."""
        return str(self.place["segment"])


@dataclass(slots=True)
class _Waiting:
    data: bytes
    note: bytes
    memo: Any
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[dict[str, Any]]


class Spool:
    """Appends records durably and reads them back."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._starting = threading.Lock()
        self._file = -1
        self._name = ""
        self._size = 0
        self.syncs = 0
        self.sync_seconds = 0.0
        self.sink: Callable[[Sequence[Kept]], None] = lambda kept: None
        """Called in the loop with the records that have a note, in the order of the file."""

    async def append(self, data: bytes, note: bytes = b"", memo: Any = None) -> dict[str, Any]:
        """Keeps `data`; returns its place when it is on disk. The place goes into a JSON column.

        Raises `TemporaryError` if the disk does not take it.
        """
        if self._writer is None:
            try:
                self._start()
            except OSError as error:
                raise TemporaryError(NOT_NOW, str(error)) from None
        loop = asyncio.get_running_loop()
        done: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._waiting.put(_Waiting(data, note, memo, loop, done))
        return await done

    @property
    def folder(self) -> Path:
        """Where the segments lie."""
        return self._folder

    def read(self, place: Mapping[str, Any]) -> bytes:
        """The bytes at a place. Raises `PermanentError` if they are not what was kept."""
        name, offset = _checked(place)
        try:
            with open(self._folder / name, "rb") as file:
                file.seek(offset)
                found = _read_record(file.read, os.fstat(file.fileno()).st_size - offset)
        except FileNotFoundError:
            raise PermanentError("A stored message is gone.", f"no segment {name}") from None
        except OSError as error:
            raise TemporaryError("A stored message can't be read now.", str(error)) from None
        if found is None or found[2] != place["crc"]:
            raise PermanentError("A stored message is damaged.", f"{name} at {offset}")
        return found[1]

    def close(self) -> None:
        """Ends the writer after what waits is on disk."""
        with self._starting:
            writer, self._writer = self._writer, None
        if writer is not None:
            self._waiting.put(None)
            writer.join()

    def segments(self) -> list[Path]:
        """All segments of all processes, oldest first."""
        return sorted(self._folder.glob("*.seg"))

    def records(self, segment: Path, *, start: int = 0) -> Iterable[Kept]:
        """All whole records from an offset on; ends at the first that is torn."""
        offset = start
        with open(segment, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(offset)
            while found := _read_record(file.read, size - offset):
                note, data, crc = found
                end = offset + _HEAD.size + len(note) + len(data) + len(_END)
                yield Kept(_place(segment.name, offset, len(data), crc), end, note, data)
                offset = end

    @contextlib.contextmanager
    def abandoned(self, segment: Path) -> Iterator[bool]:
        """Whether no living process writes to this segment; nobody can while this is held."""
        with open(segment, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True

    def collect(self, keep: Iterable[str], *, now: float) -> list[str]:
        """Removes all segments but those named in `keep`; `now` is in seconds as files have it.

        Segments that a process has open, and young ones, stay.
        """
        live = set(keep)
        removed = []
        for segment in self.segments():
            if segment.name in live or now - segment.stat().st_mtime < MARGIN_SECONDS:
                continue
            with self.abandoned(segment) as free:
                if not free:
                    continue
                segment.unlink()
            removed.append(segment.name)
        if removed:
            _sync_folder(self._folder)
            log.info("spool.collected", segments=len(removed))
        return removed

    def _start(self) -> None:
        with self._starting:
            if self._writer is None:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._writer = threading.Thread(target=self._write, name="spool", daemon=True)
                self._writer.start()

    def _write(self) -> None:
        """The one thread that writes: takes all that wait, writes, syncs once, answers all."""
        going = True
        while going:
            batch: list[_Waiting] = []
            size = 0
            item = self._waiting.get()
            while True:
                if item is None:
                    going = False
                    break
                batch.append(item)
                size += len(item.data)
                if size >= BATCH_BYTES:
                    break
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(batch)
        self._close_segment()

    def _commit(self, batch: list[_Waiting]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        for item in batch:
            by_loop.setdefault(item.loop, []).append(item)
        for loop, items in by_loop.items():  # One in practice: a spool belongs to a process.
            try:
                kept = self._put(items)
            except Exception as error:  # Whoever waits has to hear of it, whatever it is.
                log.error("spool.failed", cause=str(error))
                self._abandon_segment()
                _call(loop, _fail, items, str(error))
            else:
                _call(loop, self._answer, items, kept)

    def _put(self, batch: Sequence[_Waiting]) -> list[Kept]:
        if self._file < 0 or self._size >= self._segment_bytes:
            self._open_segment()
        kept: list[Kept] = []
        parts: list[bytes] = []
        offset = self._size
        for item in batch:
            note, data = item.note, item.data
            crc = zlib.crc32(data, zlib.crc32(note))
            parts += (_HEAD.pack(_MAGIC, len(note), len(data), crc), note, data, _END)
            end = offset + _HEAD.size + len(note) + len(data) + len(_END)
            kept.append(
                Kept(_place(self._name, offset, len(data), crc), end, note, data, item.memo)
            )
            offset = end
        whole = memoryview(b"".join(parts))
        while whole:
            whole = whole[os.write(self._file, whole) :]
        started = time.perf_counter()
        os.fdatasync(self._file)
        took = time.perf_counter() - started
        self.sync_seconds += took
        self.syncs += 1
        _SYNC_SECONDS.observe(took)
        _SYNC_RECORDS.observe(len(batch))
        self._size = offset
        return kept

    def _answer(self, batch: Sequence[_Waiting], kept: Sequence[Kept]) -> None:
        """In the loop: those who waited are told, and the noted records go on to be sorted."""
        noted = [record for record in kept if record.note]
        if noted:
            self.sink(noted)
        for item, record in zip(batch, kept, strict=True):
            if not item.done.done():
                item.done.set_result(record.place)

    def _open_segment(self) -> None:
        self._close_segment()
        self._name = f"{uuid7()}-{os.getpid()}.seg"
        path = self._folder / self._name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(path, flags, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._size = 0
        _sync_folder(self._folder)

    def _close_segment(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1

    def _abandon_segment(self) -> None:
        """Cuts off what was refused, which may stand there half or whole, and begins anew."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
        self._close_segment()


def _place(name: str, offset: int, length: int, crc: int) -> dict[str, Any]:
    return {"segment": name, "offset": offset, "length": length, "crc": crc}


def _checked(place: Mapping[str, Any]) -> tuple[str, int]:
    name = str(place["segment"])
    if "/" in name or not name.endswith(".seg"):
        raise PermanentError("A stored message is damaged.", f"segment {name!r}")
    return name, int(place["offset"])


def _read_record(read: Callable[[int], bytes], room: int) -> tuple[bytes, bytes, int] | None:
    """Note, data and checksum of the record that begins here; None if there is no whole one."""
    head = read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, noted, length, crc = _HEAD.unpack(head)
    if magic != _MAGIC or _HEAD.size + noted + length + len(_END) > room:
        return None
    note, data = read(noted), read(length)
    whole = read(len(_END)) == _END and zlib.crc32(data, zlib.crc32(note)) == crc
    return (note, data, crc) if whole else None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _call(loop: asyncio.AbstractEventLoop, what: Any, *args: Any) -> None:
    with contextlib.suppress(RuntimeError):  # The loop has ended; nobody waits any more.
        loop.call_soon_threadsafe(what, *args)


def _fail(batch: Sequence[_Waiting], cause: str) -> None:
    for item in batch:
        if not item.done.done():
            item.done.set_exception(TemporaryError(NOT_NOW, cause))
