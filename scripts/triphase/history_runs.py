# SPDX-License-Identifier: Apache-2.0
"""A results file as history keeps it: what ran where, when, at which commit. Knows no database.

Series of two environments are never compared. An environment is the machine, the libraries and the
threads, as the file tells them; where it does not, it is what Google Benchmark says of the host:
its name, its processors and the library's build type. Not its clock, which many report as it was at
that moment. In containers the name is a new one each time, so that the machine may be given.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from triphase.medians import thinned
from triphase.track_errors import BadInput
from triphase.track_rows import KernelRow
from triphase.track_runs import read_run

KEPT_SAMPLES = 64
HOST_KEYS = ("host_name", "num_cpus", "library_build_type")


@dataclass(frozen=True)
class Environment:
    """What a time depends on beside the code; two runs are of one if `description` is the same."""

    description: str

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.description.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Point:
    """One kernel in one run; times in seconds, None where it did not run or nothing is known."""

    name: str
    unit: str
    status: str
    reason: str | None
    median_s: float | None
    low_s: float | None
    high_s: float | None
    sample_count: int
    samples_s: bytes


@dataclass(frozen=True)
class HistoryRun:
    """A file's content, when it was measured (microseconds since 1970, UTC), and of which code."""

    content_hash: str
    environment: Environment
    time: int
    commit: str | None
    label: str | None
    points: list[Point]
    disturbed: int = 0  # of them, how many were measured while the machine was busy; not kept

    @property
    def id(self) -> int:
        return _id(self.content_hash)


def read(
    path: Path, time: str | None, commit: str | None, label: str | None, machine: str | None = None
) -> HistoryRun:
    """A file for the history; BadInput where it cannot be read, or nothing tells when it ran."""
    run = read_run(path)
    ours = run.ours
    when = time or run.context.get("date")
    if when is None:
        raise BadInput(f"{path}: context.date: expected a time, found nothing: give --time")
    return HistoryRun(
        run.content_hash,
        environment_of(run.context, machine),
        microseconds(str(when), "--time" if time else f"{path}: context.date"),
        _text(commit) or _text(ours.get("commit")) or _text(run.context.get("commit")),
        _text(label) or _text(ours.get("label")) or _text(run.context.get("label")),
        [point_of(row) for row in run.rows],
        sum(row.disturbed for row in run.rows),
    )


def id_of(path: Path) -> int:
    """The id of the run that a file is or would be; BadInput where it cannot be read."""
    try:
        return _id(hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def _id(content_hash: str) -> int:
    """The first 63 bits of the hash: the same wherever, and whenever, the file is added."""
    return int(content_hash[:16], 16) >> 1


def environment_of(context: dict[str, Any], given: str | None = None) -> Environment:
    """Machine, libraries and threads. given: the machine's name, in place of the file's.

    triphase's own version is left out: its kernels are what is followed from one to the next.
    """
    ours = context.get("triphase")
    known: dict[str, Any]
    if isinstance(ours, dict) and isinstance(ours.get("environment"), dict):
        machine = given or ours["environment"].get("fingerprint", ours["environment"])
        versions = ours.get("versions")
        if isinstance(versions, dict):
            versions = {k: v for k, v in versions.items() if k != "triphase"}
        known = {"machine": machine, "versions": versions, "threads": ours.get("threads")}
    else:
        known = {key: context[key] for key in HOST_KEYS if key in context}
        if given:
            known["host_name"] = given
        if isinstance(devices := context.get("devices"), list):  # NVBench's GPUs
            known["devices"] = [d.get("name") for d in devices if isinstance(d, dict)]
    return Environment(json.dumps(known, sort_keys=True))


def without_clock(description: str) -> Environment:
    """An environment of an older history, which held the clock, as it is told now."""
    known = json.loads(description)
    known.pop("ghz_per_cpu", None)
    return Environment(json.dumps(known, sort_keys=True))


def microseconds(text: str, where: str) -> int:
    """ISO 8601 as microseconds since 1970; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{where}: expected a time as 2026-01-31T12:00Z, found {text!r}") from error
    if not 1 < moment.year < 9999:  # a zone may move it by a day, out of what datetime knows
        raise BadInput(f"{where}: expected a year from 2 to 9998, found {text!r}")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds


def span(text: str, where: str) -> tuple[int, int]:
    """What a time means, to the digit that it is written to: its first microsecond and its end.

    '2026-01-31' is a day, '2026-01-31T12:00Z' a minute, with seconds it is a second.
    """
    first = microseconds(text, where)
    clock = re.match(r"[\d:]*[.,]?", text.replace(" ", "T").partition("T")[2])[0]
    digits = sum(letter.isdigit() for letter in clock)
    seconds = {0: 86_400, 2: 3600, 4: 60}.get(digits, 1)
    return first, first + (1 if clock.endswith((".", ",")) else seconds * 1_000_000)


def iso_time(time: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC, whole seconds where they are whole."""
    return (
        datetime.fromtimestamp(time // 1_000_000, UTC)
        .replace(microsecond=time % 1_000_000)
        .isoformat()
        .replace("+00:00", "Z")
    )


def point_of(row: KernelRow) -> Point:
    """Median and interval as the file gives them; without an interval where the file has none."""
    low, high = row.interval_s if row.value_s is not None and row.interval_s else (None, None)
    return Point(
        row.name,
        row.unit,
        row.status,
        row.reason,
        row.value_s,
        low,
        high,
        row.sample_count,
        pack(thinned(row.samples_s, KEPT_SAMPLES)),
    )


def pack(samples: Sequence[float]) -> bytes:
    """float64, little-endian, on every machine."""
    values = array("d", samples)
    if _BIG_ENDIAN:
        values.byteswap()
    return values.tobytes()


def unpack(content: bytes) -> list[float]:
    values = array("d", content)
    if _BIG_ENDIAN:
        values.byteswap()
    return values.tolist()


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\0\1"


def storable(text: str) -> str:
    """Text that a database takes: half characters, which UTF-8 cannot hold, are written out."""
    return text.encode(errors="backslashreplace").decode()


def _text(value: Any) -> str | None:
    return storable(str(value)) if isinstance(value, str | int) and str(value) else None
