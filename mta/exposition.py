"""How measures get from all processes to one page that Prometheus reads.

Each process writes its values every few seconds into a file of its own in the data folder, whole
and renamed into place. Whoever serves the page reads all files. Every series carries the label
`process`: when one process starts again, its counters begin at 0 and those of the others go on,
which is how rates stay right. A file whose process is gone is removed.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mta.instruments import Family, Instruments

log = structlog.get_logger()

EVERY_SECONDS = 5.0
STALE_SECONDS = 60.0
"""A process that has not written for so long is taken for dead, even if its id lives on."""

MAX_FILE_BYTES = 4 << 20
CONTENT_TYPE = CONTENT_TYPE_LATEST


def folder_of(data: Path) -> Path:
    """Where the files lie."""
    return data / "metrics"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The values of one process, and when it wrote them (seconds since 1970)."""

    process: str
    at: float
    values: Mapping[str, Any]


def write(folder: Path, process: str, instruments: Instruments, *, at: float) -> None:
    """Writes this process's values. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    content = {"pid": os.getpid(), "at": at, "values": instruments.snapshot()}
    path = folder / f"{process}.json"
    fresh = folder / f".{process}.{os.getpid()}"
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(path)


async def keep_writing(
    folder: Path, process: str, instruments: Instruments, *, every: float = EVERY_SECONDS
) -> None:
    """Writes until cancelled, and removes the file then."""
    warned = False
    try:
        while True:
            try:
                write(folder, process, instruments, at=time.time())
                warned = False
            except OSError as error:  # A full disk stops no mail for want of a number.
                if not warned:
                    log.warning("metrics.not_written", cause=str(error))
                warned = True
            await asyncio.sleep(every)
    finally:
        (folder / f"{process}.json").unlink(missing_ok=True)


def read(folder: Path, *, now: float) -> list[Snapshot]:
    """The values of all processes that live. Removes the files of those that are gone."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                continue
            content = json.loads(path.read_text(encoding="utf-8"))
            pid, at, values = int(content["pid"]), float(content["at"]), content["values"]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("metrics.not_read", file=path.name, cause=str(error)[:200])
            continue
        if now - at > STALE_SECONDS or not _lives(pid):
            path.unlink(missing_ok=True)
            continue
        found.append(Snapshot(path.stem, at, values))
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Page(Collector):
    def __init__(
        self,
        families: Mapping[str, Family[Any]],
        snapshots: Iterable[Snapshot],
        depths: Mapping[str, float],
    ) -> None:
        self._families, self._snapshots, self._depths = families, list(snapshots), depths

    def collect(self) -> Iterable[Metric]:
        """Every family with the values of each process."""
        for family in self._families.values():
            yield self._metric(family)
        depth = GaugeMetricFamily(
            "waypost_queue_deliveries", "Deliveries in the queue by state.", labels=["state"]
        )
        for state, count in sorted(self._depths.items()):
            depth.add_metric([state], count)
        yield depth
        age = GaugeMetricFamily(
            "waypost_process_written_seconds",
            "When a process wrote its values, in seconds since 1970.",
            labels=["process"],
        )
        for snapshot in self._snapshots:
            age.add_metric([snapshot.process], snapshot.at)
        yield age

    def _metric(self, family: Family[Any]) -> Metric:
        labels = ["process", *family.labels]
        if family.kind == "histogram":
            spread = HistogramMetricFamily(family.name, family.text, labels=labels)
            for names, (counts, total) in self._samples(family):
                running, buckets = 0, []
                for bound, count in zip((*family.bounds, None), counts, strict=True):
                    running += count
                    buckets.append(("+Inf" if bound is None else repr(bound), running))
                spread.add_metric(names, buckets=buckets, sum_value=total)
            return spread
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name, family.text, labels=labels)
        for names, value in self._samples(family):
            metric.add_metric(names, value)
        return metric

    def _samples(self, family: Family[Any]) -> Iterable[tuple[list[str], Any]]:
        for snapshot in self._snapshots:
            for values, sample in snapshot.values.get(family.name, ()):
                if len(values) != len(family.labels):
                    continue  # A process of another version, during an upgrade.
                if family.kind == "histogram" and len(sample[0]) != len(family.bounds) + 1:
                    continue
                yield [snapshot.process, *values], sample


def page(
    instruments: Instruments, snapshots: Iterable[Snapshot], depths: Mapping[str, float]
) -> bytes:
    """The text that Prometheus reads. `depths`: deliveries in the queue by state."""
    return generate_latest(_Page(instruments.families, snapshots, depths))
