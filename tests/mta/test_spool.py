"""What the spool took is there after anything; what was torn was promised to nobody."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mail.errors import PermanentError, TemporaryError
from mta.spool import MARGIN_SECONDS, Spool


async def test_what_was_kept_is_read_back_by_another_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    places = await asyncio.gather(*(spool.append(b"mail %d" % n * 50) for n in range(100)))
    other = Spool(tmp_path)
    assert [other.read(place) for place in places] == [b"mail %d" % n * 50 for n in range(100)]
    assert spool.syncs < 50  # Those who waited shared a sync.
    spool.close()


async def test_full_segments_are_followed_by_new_ones(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=150)
    places = [await spool.append(b"x" * 80) for _ in range(4)]
    assert len(spool.segments()) == 2
    assert all(spool.read(place) == b"x" * 80 for place in places)
    spool.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(1, 60))
def test_a_torn_last_record_is_left_out(tmp_path: Path, cut: int) -> None:
    async def fill() -> list[dict[str, object]]:
        spool = Spool(tmp_path)
        places = [await spool.append(data) for data in (b"first", b"second" * 10)]
        spool.close()
        return places

    places = asyncio.run(fill())
    segment = tmp_path / str(places[0]["segment"])
    segment.write_bytes(segment.read_bytes()[:-cut])
    spool = Spool(tmp_path)
    assert [kept.place for kept in spool.records(segment)] == places[:1]
    assert spool.read(places[0]) == b"first"
    with pytest.raises(PermanentError):
        spool.read(places[1])
    segment.unlink()


async def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    place = await spool.append(b"a letter")
    spool.close()
    segment = tmp_path / place["segment"]
    segment.write_bytes(segment.read_bytes().replace(b"letter", b"lettes"))
    with pytest.raises(PermanentError, match="damaged"):
        spool.read(place)


async def test_a_disk_that_takes_nothing_is_said_to_the_sender(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder)
    folder.mkdir()
    folder.rmdir()
    folder.write_text("in the way")
    with pytest.raises(TemporaryError):
        await spool.append(b"x")


async def test_only_segments_without_live_places_go(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=1)
    old, live, current = [await spool.append(b"x" * n) for n in (10, 20, 30)]
    late = time.time() + 2 * MARGIN_SECONDS
    assert spool.collect([live["segment"]], now=time.time()) == []
    assert spool.collect([live["segment"]], now=late) == [old["segment"]]
    assert spool.read(live) == b"x" * 20
    assert spool.read(current) == b"x" * 30
    spool.close()


async def test_noted_records_come_out_in_order_and_are_found_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=400)
    seen: list[tuple[bytes, bytes, object]] = []
    spool.sink = lambda kept: seen.extend((k.note, k.data, k.memo) for k in kept)
    await asyncio.gather(
        *(spool.append(b"m%d" % n * 9, b"n%d" % n if n % 3 else b"", memo=n) for n in range(30))
    )
    expected = [(b"n%d" % n, b"m%d" % n * 9) for n in range(30) if n % 3]
    assert [(note, data) for note, data, _ in seen] == expected
    assert [memo for _, _, memo in seen] == [n for n in range(30) if n % 3]
    spool.close()
    again = [k for segment in spool.segments() for k in spool.records(segment)]
    assert [(k.note, k.data) for k in again if k.note] == expected
    middle = again[10]
    later = spool.records(tmp_path / middle.segment, start=middle.end)
    following = [k for k in again[11:] if k.segment == middle.segment]
    assert [k.place for k in later] == [k.place for k in following]


async def test_what_was_refused_is_not_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    first = await spool.append(b"first", b"note")
    real = os.fdatasync

    def broken(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(TemporaryError):
        await spool.append(b"refused", b"note")
    monkeypatch.setattr(os, "fdatasync", real)
    last = await spool.append(b"last", b"note")
    spool.close()
    found = [k.data for segment in spool.segments() for k in spool.records(segment)]
    assert found == [b"first", b"last"]
    assert first["segment"] != last["segment"]
