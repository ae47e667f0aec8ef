# SPDX-License-Identifier: Apache-2.0
"""Nsight Compute (`ncu`): which counters of a GPU tell FLOP, how to start it, what its table says.

A counter of instructions is multiplied by the FLOP of one, as NVIDIA's own roofline sections do:
a fused multiply-add is 2, and an instruction on a packed pair (all half ones, and Blackwell's f32
ones on two) is twice that, whether or not the kernel has use for both. Counters of tensor cores
count FLOP. Counters' names differ between GPUs, so what there is, is asked for.

Nobody counts comparisons, maxima and conversions, nor special-function instructions; what a
division, exponential, logarithm or square root takes beside these is counted.
"""

from __future__ import annotations

import csv
import math
import os
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from triphase.processes import Finished, run

INSTRUCTIONS = {  # FLOP of a thread's instruction
    "f64": {"dadd": 1, "dmul": 1, "dfma": 2},
    "f32": {"fadd": 1, "fmul": 1, "ffma": 2, "fadd2": 2, "fmul2": 2, "ffma2": 4},
    "f16": {"hadd": 2, "hmul": 2, "hfma": 4},
}
REQUIRED = ("fadd", "fmul", "ffma")
TENSOR = re.compile(
    r"sm__ops_path_tensor(?P<op>_op_\w+?)?_src_(?P<source>fp64|tf32|bf16|fp16)"
    r"(?P<target>_dst_fp\d+)?(?P<sparsity>_sparsity_(?:on|off))?"
)
# Tells that tensor cores were at work, where none of the counters above says what they did.
TENSOR_INSTRUCTIONS = (
    "sm__inst_executed_pipe_tensor",
    "sm__inst_executed_pipe_tensor_subpipe_hmma",
)

# NVTX ranges: around all that is to be counted, and within, one around each group's kernels.
STEP = "triphase"
GROUP = re.compile(r"triphase\[([^\]]+)/(\w+)\]")  # triphase[fc1+relu1/forward]
FORBIDDEN = "ERR_NVGPUCTRPERM"


class CannotCount(Exception):
    """Nothing can be counted on this machine; the message says what to do."""


class Unreadable(Exception):
    """Nsight Compute counted something, and what it says of it cannot be used."""


@dataclass(frozen=True)
class Counter:
    """A counter of the GPU. `unit`: f64, f32, f16 or tensor; empty for what is no FLOP."""

    name: str
    unit: str
    flop: int  # of one

    @property
    def column(self) -> str:
        return f"{self.name}.sum"


@dataclass(frozen=True)
class Kernel:
    """One launch. `group`: the layers and the phase that it computes; absent outside any."""

    name: str
    group: tuple[tuple[str, ...], str] | None
    flop: dict[str, int]  # by unit, where any
    tensor_uncounted: bool = False

    @property
    def total(self) -> int:
        return sum(self.flop.values())


# ---- counters


def choose(available: Collection[str]) -> list[Counter]:
    """What to count, of the names that a GPU has."""
    counters = [
        Counter(f"smsp__sass_thread_inst_executed_op_{op}_pred_on", unit, flop)
        for unit, ops in INSTRUCTIONS.items()
        for op, flop in ops.items()
    ]
    for op in REQUIRED:
        name = next(c.name for c in counters if f"_{op}_" in c.name)
        if name not in available:
            raise CannotCount(f"this GPU, or this ncu, has no counter {name}")
    counters = [c for c in counters if c.name in available]
    counters += [Counter(name, "tensor", 1) for name in tensor_counters(available)]
    tell = next((name for name in TENSOR_INSTRUCTIONS if name in available), None)
    return counters + ([Counter(tell, "", 0)] if tell else [])


def tensor_counters(available: Iterable[str]) -> list[str]:
    """Names that together count every tensor operation once.

    A GPU has totals by type of source, parts of these by type of result, parts by kind of
    instruction, and each of them once more with and without sparsity; not every total exists.
    """
    found: dict[str, list[re.Match[str]]] = {}
    for match in filter(None, map(TENSOR.fullmatch, sorted(available))):
        found.setdefault(match["source"], []).append(match)
    chosen = []
    for matches in found.values():
        matches = [m for m in matches if not m["op"]] or matches
        for op in {m["op"]: None for m in matches}:
            parts = [m for m in matches if m["op"] == op]
            parts = [m for m in parts if not m["target"]] or parts
            whole = {m["target"] for m in parts if not m["sparsity"]}
            chosen += [m[0] for m in parts if not m["sparsity"] or m["target"] not in whole]
    return chosen


# ---- running it


@dataclass(frozen=True)
class Ncu:
    program: str

    def version(self) -> str:
        lines = self._run("--version").out.splitlines()
        return next((line.strip() for line in lines if line.startswith("Version")), "unknown")

    def counters(self) -> list[Counter]:
        """What the first GPU can count."""
        done = self._run("--query-metrics", "--devices", "0")
        available = set(re.findall(r"^\s*(\w+__\w+)", done.out, re.MULTILINE))
        if not available:
            raise CannotCount(f"{self.program} names no counters of a GPU: {complaint(done)}")
        return choose(available)

    def profile(self, counters: list[Counter], report: Path, command: list[str]) -> Finished:
        """Runs the command; counts what it launches in STEP. Clocks and caches stay as they are."""
        return self._run(
            "--nvtx", "--nvtx-include", f"{STEP}/", "--devices", "0",
            "--metrics", ",".join(c.column for c in counters),
            "--clock-control", "none", "--cache-control", "none",
            "--force-overwrite", "--export", str(report), *command,
        )  # fmt: skip

    def kernels(self, counters: list[Counter], report: Path) -> list[Kernel]:
        done = self._run("--import", str(report), "--csv", "--page", "raw", "--print-units", "base")
        if done.code:
            raise Unreadable(f"{self.program} cannot read its own report: {complaint(done)}")
        return parse(done.out, counters)

    def _run(self, *arguments: str) -> Finished:
        done = run([self.program, *arguments], os.environ | {"LC_ALL": "C"})
        if FORBIDDEN in done.out or FORBIDDEN in done.error:
            raise CannotCount(
                f"the driver keeps the GPU's counters to administrators ({FORBIDDEN}): run as "
                "root, or load its module with NVreg_RestrictProfilingToAdminUsers=0"
            )
        return done


def find(program: str) -> Ncu:
    path = shutil.which(program)
    if path is None:
        raise CannotCount(
            f"{program} is missing: it is part of NVIDIA Nsight Compute, which comes with CUDA's "
            "toolkit; install that, or name its ncu with --ncu"
        )
    return Ncu(path)


def complaint(done: Finished) -> str:
    """Why it did not count, in its own words."""
    lines = f"{done.out}\n{done.error}".splitlines()
    for mark in ("==ERROR==", "==WARNING=="):
        for line in lines:
            if line.startswith(mark):
                return line.removeprefix(mark).strip()
    return done.reason


# ---- its table


def parse(text: str, counters: list[Counter]) -> list[Kernel]:
    """The kernels of a raw page as CSV: names of columns, a line of units, a line a launch."""
    lines = text.splitlines(keepends=True)
    begin = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if begin is None:
        return []
    table = (line for line in lines[begin:] if not line.startswith("=="))
    try:
        head, *rows = csv.reader(table, strict=True)
    except csv.Error as error:
        raise Unreadable(f"ncu's table is cut off or no CSV: {error}") from error
    for name in ["Kernel Name", *(c.column for c in counters)]:
        if name not in head:
            raise Unreadable(f"ncu's table has no column '{name}'")
    kernels = []
    for row in rows:
        if len(row) != len(head):
            raise Unreadable(f"ncu's table is cut off: {len(row)} of {len(head)} columns")
        if row[0]:  # else the line of units
            kernels.append(_kernel(dict(zip(head, row, strict=True)), counters))
    return kernels


def _kernel(row: dict[str, str], counters: list[Counter]) -> Kernel:
    flop: dict[str, int] = {}
    tensor_instructions = 0
    for counter in counters:
        count = _number(row, counter.column)
        if not counter.unit:
            tensor_instructions = count
        elif count:
            flop[counter.unit] = flop.get(counter.unit, 0) + count * counter.flop
    # Libraries have ranges of their own, so the innermost need not be ours.
    named = next(filter(None, map(GROUP.search, row.values())), None)
    return Kernel(
        row["Kernel Name"],
        (tuple(named[1].split("+")), named[2]) if named else None,
        flop,
        # Half instructions on vectors may run there, too.
        tensor_uncounted=tensor_instructions > 0 and not flop.keys() & {"tensor", "f16"},
    )


def _number(row: dict[str, str], column: str) -> int:
    try:
        value = float(row[column].replace(",", ""))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise Unreadable(f"ncu counted no {column} of {row['Kernel Name']}: '{row[column]}'")
    return round(value)
