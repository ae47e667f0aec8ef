# SPDX-License-Identifier: Apache-2.0
"""A results file of any program, as the commands of scripts/track see it: named times in seconds.

Knows no file format; track_runs and track_foreign read those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from triphase.intervals import hull
from triphase.statuses import RAN, STATUSES

OF_SAMPLES = ("ci95_low_s", "ci95_high_s", "sample_count")  # what repetitions differ in


@dataclass(frozen=True)
class KernelRow:
    """One kernel of one file.

    value_s    its time in seconds: the median over repetitions; None where it has none
    samples_s  all times that the file holds of it, in seconds and in the order of the file
    unit       in which the file wrote times: ns, us, ms or s
    status     ok, unverified (not checked against a reference), skipped or failed
    reason     why it has no time
    extra      the other entries of its row (of the first repetition, but for those of samples)
    """

    name: str
    unit: str
    value_s: float | None
    samples_s: list[float] = field(default_factory=list)
    status: str = "ok"
    reason: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def disturbed(self) -> bool:
        """Whether others took the processors away meanwhile, as triphase's rows tell."""
        return self.extra.get("disturbed") is True

    @property
    def interval_s(self) -> tuple[float, float] | None:
        """The 95 % interval of its time, in seconds, as the file gives it."""
        ends = [number(self.extra.get(f"ci95_{side}_s")) for side in ("low", "high")]
        return None if None in ends else tuple(ends)

    @property
    def sample_count(self) -> int:
        """How many samples its time rests on: the file may hold fewer of them."""
        told = number(self.extra.get("sample_count"))
        if not self.samples_s:
            return 0
        return int(told) if told is not None and 1 <= told < 2**53 else len(self.samples_s)


@dataclass(frozen=True)
class Run:
    """The context of a file, and its kernels in the order of the file; names are unique.

    content_hash: SHA-256 of the file's bytes, in hexadecimal digits; empty where there is no file.
    """

    context: dict[str, Any]
    rows: list[KernelRow]
    content_hash: str = ""

    @property
    def ours(self) -> dict[str, Any]:
        """What triphase's own files say beside; empty of others."""
        found = self.context.get("triphase")
        return found if isinstance(found, dict) else {}

    @property
    def times(self) -> dict[str, float]:
        """Seconds by name, of the rows that have a time."""
        return {row.name: row.value_s for row in self.rows if row.value_s is not None}


def number(value: Any) -> float | None:
    """A finite number as a float; None for all else that a file may hold in its place."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer that no float holds
        return None


def bad_time(seconds: float) -> str | None:
    """Why this is not a time; None if it is one. Its logarithm must exist."""
    if math.isfinite(seconds) and seconds > 0:
        return None
    return f"its time is {seconds:g}, expected a positive number"


def merge(repetitions: Iterable[KernelRow]) -> list[KernelRow]:
    """One row a name: the median of repetitions, all their samples, the worst of their statuses.

    The interval is from the lowest end to the highest; there is none where a repetition has none.
    """
    by_name: dict[str, list[KernelRow]] = {}
    for row in repetitions:
        by_name.setdefault(row.name, []).append(row)
    return [rows[0] if len(rows) == 1 else _merged(rows) for rows in by_name.values()]


def _merged(rows: list[KernelRow]) -> KernelRow:
    first = rows[0]
    worst = max(rows, key=lambda row: STATUSES.index(row.status))
    values = [row.value_s for row in rows if row.value_s is not None]
    ran = worst.status in RAN and values
    extra = {key: value for key, value in first.extra.items() if key not in OF_SAMPLES}
    if any(row.disturbed for row in rows):
        extra["disturbed"] = True
    if ran and (ends := hull([row.interval_s for row in rows])):
        extra |= {"ci95_low_s": ends[0], "ci95_high_s": ends[1]}
    if ran and any("sample_count" in row.extra for row in rows):
        extra["sample_count"] = sum(row.sample_count for row in rows)
    return KernelRow(
        first.name,
        first.unit,
        median(values) if ran else None,
        [sample for row in rows for sample in row.samples_s] if ran else [],
        worst.status,
        worst.reason,
        extra,
    )
