# SPDX-License-Identifier: Apache-2.0
"""Measures pairs with two binaries, in turns: base, new, new, base, each time in a fresh process.

Any program that takes Google Benchmark's flags serves. So the machine's drift meets both sides
alike, and what is drawn anew at each start of a process (addresses, pages) is drawn for each pair.
Decides nothing: it is a gate.Source. An interruption ends it, with the pairs so far.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from triphase import gate
from triphase.gate import Floats, Mask
from triphase.gate_filter import filter_of, registered
from triphase.gate_pairs import SIDES, Process, Record
from triphase.processes import run
from triphase.stopping import Stopped
from triphase.track_errors import BadInput
from triphase.track_rows import Run
from triphase.track_runs import read_run

LONGEST_FILTER = 1000  # characters: triphase's programs refuse a longer one
SHORTEST_LIMIT_S = 60.0  # no process counts as hung before
LIMIT_PROCESSES = 20  # nor before so many times what one takes
SLACK = 1.25  # of the budget, after which a look that was begun is cut short


class Pairs:
    """One trial of the gate. `record` is what ran; `stopped` the exit code of a signal, or 0."""

    def __init__(
        self, commands: dict[str, list[str]], scratch: Path, budget_s: float, *,
        equal: bool = False, say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.commands, self.budget_s, self.say, self.clock = commands, budget_s, say, clock
        self.out = scratch / "benchmark.json"
        self.record = Record([], equal, commands=commands)
        self.runs: dict[str, Run] = {}  # the first of each side
        self.shape = (1, 0)
        self.stopped = 0
        self.pair_s = 0.0
        self.filters = True
        # Kernel: the sides on which it had no time once, and why at first.
        self.lost: dict[str, dict[str, str]] = {}
        self.files = {side: _identity(command[0]) for side, command in commands.items()}
        self.listed: list[str] | None = None  # what the base registers, once it is needed
        self.overhead = 1.0  # of filtered processes: real time over the share of their kernels
        self.began = clock()
        self.unused: list[dict[str, dict[str, float]]] = []  # pairs that no look has had yet

    def pilot(self) -> None:
        """The first pair: tells which kernels have a time on both sides, and what a pair costs."""
        began = self.clock()
        pair = self._pair(0, gate.SCREENING, None)
        self.pair_s = self.clock() - began
        self.record.context = self.runs["base"].context
        self.record.kernels = [name for name in pair["base"] if name in pair["new"]]
        self.shape = (1, len(self.record.kernels))
        self.unused.append(pair)

    def pilot_again(self) -> None:
        """A second pair: what a pair costs, where the first was slow, as a first start may be."""
        began = self.clock()
        self.unused.append(self._pair(1, gate.SCREENING, self.record.kernels))
        self.pair_s = min(self.pair_s, self.clock() - began)

    def room_s(self, stage: str) -> float:
        """Seconds that a stage has for pairs, those measured already at what a pair costs now."""
        left = gate.end_of(stage, self.budget_s) - (self.clock() - self.began)
        return left + len(self.unused) * self.pair_s

    @property
    def limit_s(self) -> float:
        """After how many seconds a process counts as hung."""
        return max(SHORTEST_LIMIT_S, LIMIT_PROCESSES * self.pair_s / 2, self.budget_s)

    def fits(self, wanted: Mask, pairs: int, stage: str) -> Mask:
        share = float(wanted.mean())
        cost = (pairs - len(self.unused)) * self.pair_s * share
        cost *= self.overhead if share < 1 else 1.0
        ends = self.clock() - self.began + cost
        return np.array([not self.stopped and ends <= gate.end_of(stage, self.budget_s)])

    def measure(self, wanted: Mask, pairs: int, stage: str) -> Floats:
        names = [name for name, asked in zip(self.record.kernels, wanted[0], strict=True) if asked]
        done = self.unused
        self.unused = []
        number = sum(process.stage == stage for process in self.record.processes) // 2
        began, before = self.clock(), len(done)
        try:
            while len(done) < pairs and not self.stopped:
                late = self.clock() - self.began > SLACK * self.budget_s
                if stage == gate.SCREENING and late:
                    break
                self.say(f"{stage}: pair {len(done) + 1} of {pairs}, {_count(len(names))}")
                done.append(self._pair(number, stage, names))
                number += 1
        except Stopped as stopped:
            self.stopped = stopped.code
        if len(done) > before and len(names) < self.shape[1]:
            each = (self.clock() - began) / (len(done) - before)
            self.overhead = max(1.0, each / self.pair_s / len(names) * self.shape[1])
        ratios = np.full((1, self.shape[1], len(done)), np.nan)
        for at, pair in enumerate(done):
            for kernel, name in enumerate(self.record.kernels):
                if name in pair["base"] and name in pair["new"]:
                    ratios[0, kernel, at] = math.log(pair["new"][name] / pair["base"][name])
        return ratios

    @property
    def elapsed_s(self) -> float:
        return self.clock() - self.began

    def _pair(
        self, number: int, stage: str, names: list[str] | None
    ) -> dict[str, dict[str, float]]:
        """Times by side and kernel; the order of sides mirrors from pair to pair."""
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        processes = [self._process(side, number, stage, names) for side in order]
        self.record.processes += processes
        return {process.side: process.times_s for process in processes}

    def _process(self, side: str, pair: int, stage: str, names: list[str] | None) -> Process:
        start, pattern = self.clock(), self._filter(names)
        try:
            measured = self._start(side, pattern)
        except BadInput:
            if pattern is None:
                raise
            measured = None
        if pattern is not None and (
            measured is None or not set(names or ()) & measured.times.keys()
        ):
            self.filters = False  # its flag takes other names than its rows have: measure all
            measured = self._start(side, None)
        end = self.clock()
        self.runs.setdefault(side, measured)
        for name in self._known() if pattern is None else names:
            if name not in measured.times:
                self.lost.setdefault(name, {}).setdefault(side, _why(name, measured, pair))
        return Process(side, stage, pair, start - self.began, end - start, measured.times)

    def _known(self) -> dict[str, None]:
        """The kernels that had a time in the first process of a side."""
        return dict.fromkeys(name for run in self.runs.values() for name in run.times)

    def _filter(self, names: list[str] | None) -> str | None:
        """The value of the flag; None where all kernels are wanted, or it cannot be used."""
        if not self.filters or names is None or len(names) == self.shape[1]:
            return None
        if self.listed is None:
            # All of them, whatever filter the flags for both have: ours comes after it and counts.
            ask = ["--benchmark_filter=all", "--benchmark_list_tests=true"]
            listing = run([*self.commands["base"], *ask], limit_s=self.limit_s)
            names_listed = [line for line in listing.out.splitlines() if line]
            self.listed = self.record.kernels if listing.code else names_listed
        pattern = filter_of({registered(name, self.listed) for name in names}, self.listed)
        return pattern if len(pattern) <= LONGEST_FILTER else None

    def _start(self, side: str, pattern: str | None) -> Run:
        self.out.unlink(missing_ok=True)
        if _identity(self.commands[side][0]) != self.files[side]:
            raise BadInput(f"--{side}: {self.commands[side][0]} was replaced while it was measured")
        command = [
            *self.commands[side],
            f"--benchmark_out={self.out}",
            "--benchmark_out_format=json",
            *([] if pattern is None else [f"--benchmark_filter={pattern}"]),
        ]
        finished = run(command, limit_s=self.limit_s)
        shown = shlex.join(self.commands[side])
        if finished.hung_s is not None:
            raise BadInput(f"--{side}: '{shown}': {finished.reason}")
        if not self.out.exists():
            raise BadInput(
                f"--{side}: '{shown}' wrote no results: {finished.reason}"
                + ("" if finished.code else " (expected a program with Google Benchmark's flags)")
            )
        try:
            measured = read_run(self.out)
        except BadInput as error:
            wrong = str(error).removeprefix(f"{self.out}: ")
            raise BadInput(
                f"--{side}: '{shown}' left no whole results ({wrong}); {finished.reason}"
            ) from error
        failed = any(row.status == "failed" for row in measured.rows)
        if finished.code and not failed:
            raise BadInput(f"--{side}: '{shown}': {finished.reason}")
        return measured


def _identity(program: str) -> tuple[int, int, int] | None:
    """Tells whether a file is still the one that it was; None where there is none."""
    try:
        status = Path(program).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _why(name: str, measured: Run, pair: int) -> str:
    """Why a kernel that had a time before has none in this process."""
    row = next((row for row in measured.rows if row.name == name), None)
    reason = "it has no row" if row is None else row.reason or row.status
    return f"{reason} (pair {pair + 1})"


def _count(kernels: int) -> str:
    return f"{kernels} kernel{'s' * (kernels != 1)}"
