"""Message bytes on disk, before anybody is told that we have them.

Each process appends to segment files of its own. A record is a head with length and checksum, the
bytes, and an end mark; a torn last record is one that nobody was promised, and is left out when the
segment is read. All who wait while a sync is under way share the next one: with one waiter it costs
one sync, with a hundred still one. There is no timer.

    4 bytes "WPR1" · 8 bytes length · 4 bytes CRC-32 of the data · data · 4 bytes "END."
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import struct
import threading
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from mail.errors import PermanentError, TemporaryError
from mail.ids import uuid7

log = structlog.get_logger()

_HEAD = struct.Struct(">4sQI")
_MAGIC = b"WPR1"
_END = b"END."

SEGMENT_BYTES = 64 << 20
"""A segment that has grown to this is closed and a new one begun."""

BATCH_BYTES = 16 << 20
"""The most that one sync waits for."""

MARGIN_SECONDS = 3600.0
"""A segment younger than this is never removed: its places may still be on their way."""

NOT_NOW = "The message could not be stored now."

_Waiting = tuple[bytes, asyncio.AbstractEventLoop, "asyncio.Future[dict[str, Any]]"]


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

    async def append(self, data: bytes) -> dict[str, Any]:
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
        self._waiting.put((data, loop, done))
        return await done

    def read(self, place: Mapping[str, Any]) -> bytes:
        """The bytes at a place. Raises `PermanentError` if they are not what was kept."""
        name, offset, length = _place(place)
        try:
            with open(self._folder / name, "rb") as file:
                file.seek(offset)
                record = file.read(_HEAD.size + length + len(_END))
        except FileNotFoundError:
            raise PermanentError("A stored message is gone.", f"no segment {name}") from None
        except OSError as error:
            raise TemporaryError("A stored message can't be read now.", str(error)) from None
        data = _verified(record)
        if data is None or len(data) != length or zlib.crc32(data) != place["crc"]:
            raise PermanentError("A stored message is damaged.", f"{name} at {offset}")
        return data

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

    def records(self, segment: Path) -> Iterable[dict[str, Any]]:
        """The places of all whole records; ends at the first that is torn."""
        offset = 0
        with open(segment, "rb") as file:
            while head := file.read(_HEAD.size):
                if len(head) < _HEAD.size or not head.startswith(_MAGIC):
                    break
                _, length, crc = _HEAD.unpack(head)
                if file.tell() + length + len(_END) > segment.stat().st_size:
                    break
                rest = file.read(length + len(_END))
                if not rest.endswith(_END) or zlib.crc32(rest[:length]) != crc:
                    break
                yield _make_place(segment.name, offset, length, crc)
                offset += _HEAD.size + length + len(_END)

    def collect(self, keep: Iterable[Mapping[str, Any]], *, now: float) -> list[str]:
        """Removes segments that hold no place in `keep`; `now` is in seconds as files have it.

        Segments that a process has open, and young ones, stay.
        """
        live = {str(place["segment"]) for place in keep}
        removed = []
        for segment in self.segments():
            if segment.name in live or now - segment.stat().st_mtime < MARGIN_SECONDS:
                continue
            with open(segment, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue  # Another process, or this one, is writing to it.
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
                size += len(item[0])
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
        try:
            places = self._put([data for data, _, _ in batch])
        except Exception as error:  # Whoever waits has to hear of it, whatever it is.
            log.error("spool.failed", cause=str(error))
            # What was written half may stand before what comes next: begin anew.
            self._close_segment()
            for _, loop, done in batch:
                _call(loop, _fail, done, str(error))
            return
        for (_, loop, done), place in zip(batch, places, strict=True):
            _call(loop, _answer, done, place)

    def _put(self, batch: list[bytes]) -> list[dict[str, Any]]:
        if self._file < 0 or self._size >= self._segment_bytes:
            self._open_segment()
        places = []
        parts: list[bytes] = []
        offset = self._size
        for data in batch:
            crc = zlib.crc32(data)
            parts += (_HEAD.pack(_MAGIC, len(data), crc), data, _END)
            places.append(_make_place(self._name, offset, len(data), crc))
            offset += _HEAD.size + len(data) + len(_END)
        whole = memoryview(b"".join(parts))
        while whole:
            whole = whole[os.write(self._file, whole) :]
        os.fdatasync(self._file)
        self.syncs += 1
        self._size = offset
        return places

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


def _make_place(name: str, offset: int, length: int, crc: int) -> dict[str, Any]:
    return {"segment": name, "offset": offset, "length": length, "crc": crc}


def _place(place: Mapping[str, Any]) -> tuple[str, int, int]:
    name = str(place["segment"])
    if "/" in name or not name.endswith(".seg"):
        raise PermanentError("A stored message is damaged.", f"segment {name!r}")
    return name, int(place["offset"]), int(place["length"])


def _verified(record: bytes) -> bytes | None:
    if len(record) < _HEAD.size + len(_END):
        return None
    magic, length, crc = _HEAD.unpack_from(record)
    data = record[_HEAD.size : _HEAD.size + length]
    whole = magic == _MAGIC and record[_HEAD.size + length :] == _END
    return data if whole and zlib.crc32(data) == crc else None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _call(loop: asyncio.AbstractEventLoop, what: Any, *args: Any) -> None:
    with contextlib.suppress(RuntimeError):  # The loop has ended; nobody waits any more.
        loop.call_soon_threadsafe(what, *args)


def _answer(done: asyncio.Future[dict[str, Any]], place: dict[str, Any]) -> None:
    if not done.done():
        done.set_result(place)


def _fail(done: asyncio.Future[dict[str, Any]], cause: str) -> None:
    if not done.done():
        done.set_exception(TemporaryError(NOT_NOW, cause))
