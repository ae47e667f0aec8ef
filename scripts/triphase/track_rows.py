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

from triphase.statuses import RAN, STATUSES


@dataclass(frozen=True)
class KernelRow:
    """One kernel of one file.

    value_s    its time in seconds: the median over repetitions; None where it has none
    samples_s  all times that the file holds of it, in seconds and in the order of the file
    unit       in which the file wrote times: ns, us, ms or s
    status     ok, unverified (not checked against a reference), skipped or failed
    reason     why it has no time
    extra      the other entries of its row (of the first repetition)
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


@dataclass(frozen=True)
class Run:
    """The context of a file, and its kernels in the order of the file; names are unique."""

    context: dict[str, Any]
    rows: list[KernelRow]

    @property
    def ours(self) -> dict[str, Any]:
        """What triphase's own files say beside; empty of others."""
        found = self.context.get("triphase")
        return found if isinstance(found, dict) else {}

    @property
    def times(self) -> dict[str, float]:
        """Seconds by name, of the rows that have a time."""
        return {row.name: row.value_s for row in self.rows if row.value_s is not None}


def bad_time(seconds: float) -> str | None:
    """Why this is not a time; None if it is one. Its logarithm must exist."""
    if math.isfinite(seconds) and seconds > 0:
        return None
    return f"its time is {seconds:g}, expected a positive number"


def merge(repetitions: Iterable[KernelRow]) -> list[KernelRow]:
    """One row a name: the median of repetitions, all their samples, the worst of their statuses."""
    by_name: dict[str, list[KernelRow]] = {}
    for row in repetitions:
        by_name.setdefault(row.name, []).append(row)
    return [rows[0] if len(rows) == 1 else _merged(rows) for rows in by_name.values()]


def _merged(rows: list[KernelRow]) -> KernelRow:
    first = rows[0]
    worst = max(rows, key=lambda row: STATUSES.index(row.status))
    values = [row.value_s for row in rows if row.value_s is not None]
    ran = worst.status in RAN and values
    return KernelRow(
        first.name,
        first.unit,
        median(values) if ran else None,
        [sample for row in rows for sample in row.samples_s] if ran else [],
        worst.status,
        worst.reason,
        first.extra | ({"disturbed": True} if any(row.disturbed for row in rows) else {}),
    )
