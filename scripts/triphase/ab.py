# SPDX-License-Identifier: Apache-2.0
"""Did a kernel get slower from one binary to another? Measures both in turns, and says so.

  scripts/track ab --base OLD/triphase_kernels --new NEW/triphase_kernels [-- FLAGS FOR BOTH]

triphase_kernels without flags measures each kernel in five turns spread over the process.

Any program with Google Benchmark's flags serves. Kernels that look slower (or faster) are measured
once more, alone, and count only if that confirms it. How it decides: scripts/triphase/gate.py.
Verdicts: slower, faster; same (the interval lies within the floor); inconclusive (what is left).

Exit codes: 0 no slowdown; 1 a kernel is slower, or fails with the new binary alone; 2 bad usage or
a binary that fails; 3 inconclusive, where a slowdown of 2.5 times the floor cannot be excluded or a
kernel has no time any more; 130 or 143 interrupted, with the results so far.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triphase import gate, gate_report
from triphase.gate_calibration import Noise, equal_pairs, find_noise
from triphase.gate_pairs import read_record, write_record
from triphase.gate_processes import Pairs
from triphase.stopping import Stopped
from triphase.track_arguments import (
    add_binaries,
    add_budget,
    add_floor,
    add_format,
    add_noise,
    check_writable,
    commands,
)
from triphase.track_errors import BadInput


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "scripts/track ab --base BINARY --new BINARY [options] [-- FLAGS FOR BOTH]"
    add_binaries(parser)
    add_budget(parser, "2m")
    add_floor(parser)
    add_noise(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="keeps every time and verdict")
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    check_writable(options.out)
    if options.noise is not None:
        # Refused before anything is measured.
        equal_pairs(read_record(options.noise), options.noise)
    progress = Progress()
    document: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="triphase-ab-") as scratch:
        pairs = Pairs(commands(options), Path(scratch), options.budget, say=progress)
        try:
            document = judge(pairs, options)
        except Stopped as stopped:
            pairs.stopped = stopped.code
        except BadInput as refusal:
            progress.end()
            keep(pairs, options, document, unless=refusal)
            raise
        progress.end()
    try:  # what was paid for is told first: the file may not take it
        if document:
            print(render(document, options.format), flush=True)
    finally:
        keep(pairs, options, document)
    if pairs.stopped:
        print(f"track: interrupted{kept(pairs, options)}", file=sys.stderr)
        return pairs.stopped
    return document["exit_code"]


def keep(
    pairs: Pairs, options: argparse.Namespace, document: dict[str, Any],
    unless: BadInput | None = None,
) -> None:  # fmt: skip
    """Writes --out, if something was measured; BadInput where it takes nothing.

    unless: a refusal that comes before, which then tells of both.
    """
    if options.out is None or not pairs.record.processes:
        return
    try:
        write_record(options.out, pairs.record, settings=settings(options), **document)
    except OSError as error:
        before = f"{unless}; " if unless else ""
        raise BadInput(f"{before}--out: {options.out}: {error.strerror}") from error


def kept(pairs: Pairs, options: argparse.Namespace) -> str:
    """Where what was measured is, after an interruption."""
    if not pairs.record.processes:
        return " before a pair was measured"
    return f"; what was measured is in {options.out}" if options.out else ""


def judge(pairs: Pairs, options: argparse.Namespace) -> dict[str, Any]:
    """Measures and decides; the verdicts as they stand in the file, with the exit code."""
    first = start(pairs, options.budget)
    kernels = pairs.record.kernels
    noise = find_noise(pairs.record.context, kernels, options.noise)
    decision = gate.decide(pairs, first, options.floor, noise.noise)
    limits = gate_report.thresholds(noise.noise, decision.screened[0], len(kernels))
    visible = smallest_visible(decision, noise.noise, options.floor)
    times = {side: run.times for side, run in pairs.runs.items()}
    rows = gate_report.kernel_rows(kernels, times, decision, visible, limits)
    for row in rows:
        if row["verdict"] == "failed":
            row["failed_with"], row["note"] = failure(pairs.lost[row["kernel"]])
    listed = gate_report.not_compared(pairs.runs["base"], pairs.runs["new"])
    listed = gate_report.on_both_sides(listed, pairs.lost)
    return {
        "rows": rows,
        "not_compared": listed,
        "summary": gate_report.summary(rows, listed),
        "measured": " ".join(
            [f"{describe(pairs)}.", *most_pairs(decision), known(noise, len(kernels))]
        ),
        "exit_code": gate_report.exit_code(rows, listed, options.floor),
    }


def smallest_visible(
    decision: gate.Decision, noise: Callable[[int], gate.Floats | float], floor: float
) -> list[float | None]:
    """For each kernel the slowdown that would have been found nine times in ten."""
    pairs, kernels = decision.screened[0], decision.screened.shape[1]
    fresh = np.array([gate.fresh_pairs(int(count), kernels) for count in pairs])
    limits = [
        np.maximum(floor, gate_report.thresholds(noise, counts, kernels))
        for counts in (pairs, fresh)
    ]
    return [
        gate.smallest_visible(width, int(count), int(look), kernels, thresholds)
        for width, count, look, *thresholds in zip(
            decision.width[0], pairs, decision.look[0], *limits, strict=True
        )
    ]


def failure(lost: Mapping[str, str]) -> tuple[str, str]:
    """(base, new or both: on which sides a kernel failed; a note that says it and why)."""
    side = "both" if len(lost) > 1 else next(iter(lost))
    return side, f"with {side}: {next(iter(lost.values()))}"


def start(pairs: Pairs, budget_s: float) -> int:
    """Measures the first pair; how many there shall be before the first look.

    Where they do not fit, a second pair is asked: one slow process refuses no budget.
    """
    pairs.say("first pair, all kernels")
    pairs.pilot()
    kernels = len(pairs.record.kernels)
    if not kernels:
        raise BadInput("--base and --new: expected a kernel with a time on both sides, found none")
    first = gate.first_look(kernels, pairs.pair_s, budget_s)
    if not first and pairs.elapsed_s < budget_s:
        pairs.pilot_again()
        first = gate.first_look(
            kernels, pairs.pair_s, pairs.room_s(gate.SCREENING) / (1 - gate.RESERVE)
        )
    if not first:
        least = gate.least_pairs(kernels)
        needed = math.ceil(least * pairs.pair_s / (1 - gate.RESERVE) * 1.1)
        raise BadInput(
            f"--budget: expected {needed}s or more, as {kernels} kernels need {least} pairs of "
            f"{pairs.pair_s:.3g} s; found {budget_s:g}s. Give more time, or select kernels "
            "with -- --benchmark_filter=REGEX"
        )
    return first


def describe(pairs: Pairs) -> str:
    ran = len(pairs.record.processes)
    alone = sum(process.stage == gate.CONFIRMING for process in pairs.record.processes)
    confirming = f", {alone} of them to confirm" if alone else ""
    return f"{ran} processes{confirming}, in {pairs.elapsed_s:.0f} s"


def most_pairs(decision: gate.Decision) -> list[str]:
    """Says so where it was not the budget that ended measuring."""
    last = decision.screened[decision.verdict == gate.INCONCLUSIVE].max(initial=0)
    if math.ceil(last * gate.GROWTH) <= gate.MOST_PAIRS:
        return []
    return [f"A kernel is measured in at most {gate.MOST_PAIRS} pairs, whatever the budget."]


def known(noise: Noise, kernels: int) -> str:
    return gate_report.noise_line(noise.known, kernels, str(noise.source) if noise.source else None)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    return {"budget_s": options.budget, "floor": options.floor, "levels": gate.LEVEL}


def render(document: dict[str, Any], form: str) -> str:
    if form == "json":
        return json.dumps(document, indent=1, allow_nan=False)
    table = gate_report.table(
        document["rows"], document["not_compared"], markdown=form == "markdown"
    )
    return "\n".join(["", table, "", f"{document['summary']}.", document["measured"]])


class Progress:
    """One line on stderr that is written over; on no terminal, a line a stage."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.last = ""

    def __call__(self, text: str) -> None:
        if self.live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif (stage := text.split(":")[0]) != self.last:
            print(f"track: {stage}", file=sys.stderr, flush=True)
            self.last = stage

    def end(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
