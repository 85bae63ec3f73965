"""What the spool took is there after anything; what was torn was promised to nobody."""

from __future__ import annotations

import asyncio
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
    assert list(spool.records(segment)) == places[:1]
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
    assert spool.collect([live], now=time.time()) == []
    assert spool.collect([live], now=late) == [old["segment"]]
    assert spool.read(live) == b"x" * 20
    assert spool.read(current) == b"x" * 30
    spool.close()
