# SPDX-License-Identifier: Apache-2.0
"""The times of the processes of a gate's run, in the order in which they ran; and their file.

A record is what `ab --out` and `calibrate` write, and what `calibrate --pairs` and `power` read:
every process with its side, its pair, when it began and the time of each kernel, none averaged.
"""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triphase.files import write_atomic
from triphase.gate import CONFIRMING, SCREENING
from triphase.track_errors import BadInput
from triphase.track_rows import number

SCHEMA = 1
SIDES = ("base", "new")


@dataclass(frozen=True)
class Process:
    """One process: side base or new; stage screening or confirming; pair counts within its stage.

    start_s is since the run began. times_s: seconds by kernel, those that it measured.
    """

    side: str
    stage: str
    pair: int
    start_s: float
    wall_s: float
    times_s: dict[str, float]


@dataclass
class Record:
    """Processes in the order in which they ran. `equal`: both sides are the same binary (A/A)."""

    kernels: list[str]
    equal: bool
    context: dict[str, Any] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def log_ratios(self, stage: str = SCREENING) -> NDArray[np.float64]:
        """log(new / base) of the whole pairs of a stage: [pairs, kernels]; NaN where absent."""
        times: dict[tuple[str, int], dict[str, float]] = {
            (process.side, process.pair): process.times_s
            for process in self.processes
            if process.stage == stage
        }
        pairs = sorted(pair for side, pair in times if side == "new" and ("base", pair) in times)
        nan = math.nan
        return np.array(
            [
                [
                    math.log(
                        times["new", pair].get(kernel, nan) / times["base", pair].get(kernel, nan)
                    )
                    for kernel in self.kernels
                ]
                for pair in pairs
            ]
        ).reshape(len(pairs), len(self.kernels))

    def log_times(self) -> NDArray[np.float64]:
        """Of screening's processes, in the order in which they ran: [processes, kernels]."""
        rows = [
            [process.times_s.get(kernel, math.nan) for kernel in self.kernels]
            for process in self.processes
            if process.stage == SCREENING
        ]
        return np.log(np.array(rows).reshape(len(rows), len(self.kernels)))

    def complete(self) -> Record:
        """Only the kernels that every process measured."""
        kernels = [k for k in self.kernels if all(k in p.times_s for p in self.processes)]
        return Record(kernels, self.equal, self.context, self.commands, self.processes)

    @property
    def process_s(self) -> float:
        """Seconds that a process of all kernels takes, on the average."""
        walls = [process.wall_s for process in self.processes if process.stage == SCREENING]
        return sum(walls) / len(walls) if walls else 0.0


def write_record(path: Path, record: Record, **more: Any) -> Path:
    """Replaces the file as a whole. `more` stands beside the record, such as the verdicts."""
    document = {
        "schema": SCHEMA,
        "kind": "pairs",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **asdict(record),
        **more,
    }
    return write_atomic(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> Record:
    """BadInput, in one line, where the file is not what write_record wrote."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: expected recorded pairs as JSON, found: {error}") from error
    expected = f"recorded pairs of schema {SCHEMA} (ab --out and calibrate write them)"
    if not isinstance(document, dict) or document.get("kind") != "pairs":
        raise BadInput(f"{path}: expected {expected}, found another document")
    if document.get("schema") != SCHEMA:
        raise BadInput(f"{path}: expected {expected}, found schema {document.get('schema')!r}")
    try:
        processes = [Process(**process) for process in document["processes"]]
        record = Record(
            [str(kernel) for kernel in document["kernels"]], document["equal"] is True,
            dict(document["context"]), dict(document["commands"]), processes,
        )  # fmt: skip
        for at, process in enumerate(processes):
            _check(process, at)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: expected {expected}, found a damaged one: {error}") from error
    return record


def _check(process: Process, at: int) -> None:
    if process.side not in SIDES or process.stage not in (SCREENING, CONFIRMING):
        raise ValueError(f"processes[{at}] has side {process.side!r}, stage {process.stage!r}")
    if not isinstance(process.times_s, dict):
        raise ValueError(f"processes[{at}].times_s is no object")
    for kernel, seconds in process.times_s.items():
        if (number(seconds) or 0.0) <= 0:
            raise ValueError(f"processes[{at}].times_s[{kernel!r}] is no positive number")
    if type(process.pair) is not int or number(process.start_s) is None:
        raise ValueError(f"processes[{at}] has no pair or no start_s")
    if (number(process.wall_s) or 0.0) <= 0:
        raise ValueError(f"processes[{at}].wall_s is no positive number")
