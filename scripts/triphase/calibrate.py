# SPDX-License-Identifier: Apache-2.0
"""How noisy is this machine, and how often would ab cry wolf here?

  scripts/track calibrate [--binary BINARY] [-- FLAGS]      measures, and stores the noise for ab
  scripts/track calibrate --pairs FILE                      of pairs that were recorded before

Runs one binary on both sides, in turns as ab does, and keeps every time. ab reads them: an effect
must exceed what equal binaries show here in 1 % of runs, kernel by kernel. Prints the rate of runs
of ab that would call any kernel slower though nothing has changed, drawn from the recorded pairs
with their drift and autocorrelation (scripts/triphase/gate_noise.py says how).

Exit codes: 0 done, 2 bad usage or a binary that fails, 130 or 143 interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from triphase import gate_noise
from triphase.ab import Progress
from triphase.gate import CONFIRMING, SCREENING, VERDICTS
from triphase.gate_calibration import calibration_path, equal_pairs
from triphase.gate_pairs import Record, read_record, write_record
from triphase.gate_processes import Pairs
from triphase.prose import percent
from triphase.track_arguments import (
    add_budget,
    add_floor,
    check_writable,
    command,
    duration,
    program,
    whole,
)
from triphase.track_errors import BadInput

BINARY = Path(__file__).resolve().parents[2] / "build" / "release" / "bin" / "triphase_kernels"
STARTUP = 0.02  # of a process: what it takes whatever it measures


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "scripts/track calibrate [--binary BINARY | --pairs FILE] [options] [-- FLAGS]"
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--binary", type=program, metavar="BINARY",
        help="(default: build/release/bin/triphase_kernels)",
    )  # fmt: skip
    source.add_argument("--pairs", type=Path, metavar="FILE", help="measures nothing, reads this")
    add_budget(parser, "10m")
    add_floor(parser)
    parser.add_argument(
        "--ab-budget", type=duration, default=120.0, metavar="TIME",
        help="the budget of ab for which the rate is estimated (default: 2m)",
    )  # fmt: skip
    parser.add_argument(
        "--trials", type=whole(100), default=2000, metavar="N",
        help="runs of ab that are drawn (default: 2000)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: where ab looks)")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(options: argparse.Namespace) -> int:
    check_writable(options.out)
    if options.pairs is not None:
        if options.flags:
            raise BadInput("--pairs: expected no flags for a binary, as none is started")
        path = options.pairs
        record = equal_pairs(read_record(path), path)
    else:
        record, stopped = measure(options)
        path = options.out or calibration_path(record.context, record.kernels)
        if stopped:
            print(f"track: interrupted; {keep(record, path)}", file=sys.stderr)
            return stopped
        record = usable(record)
        write_record(path, record)
    document = judge(record, options) | {"file": str(path)}
    print(json.dumps(document, indent=1) if options.format == "json" else render(document))
    return 0


def usable(record: Record) -> Record:
    """What may be stored: the kernels that every process measured, and pairs enough of them."""
    whole = record.complete()
    pairs = len(whole.log_ratios())
    if pairs < gate_noise.LEAST_PAIRS:
        raise BadInput(
            f"--budget: expected room for {gate_noise.LEAST_PAIRS} pairs of equal binaries, found "
            f"{pairs} measured within it, so that nothing was stored: give more time"
        )
    if not whole.kernels:
        raise BadInput(
            f"--binary: expected a kernel with a time in each of {len(record.processes)} "
            "processes, found none, so that nothing was stored"
        )
    for kernel in sorted(set(record.kernels) - set(whole.kernels)):
        print(f"track: left out: {kernel} had no time in some process", file=sys.stderr)
    return whole


def keep(record: Record, path: Path) -> str:
    """Stores pairs that were interrupted, if they suffice and are more than what is there."""
    try:
        record = usable(record)
    except BadInput:
        return "too few pairs were measured to be kept"
    try:
        there = len(equal_pairs(read_record(path), path).log_ratios())
    except BadInput:
        there = 0
    if there >= len(record.log_ratios()):
        return f"{path} keeps its {there} pairs, as fewer were measured"
    write_record(path, record)
    return f"the pairs so far are in {path}"


def measure(options: argparse.Namespace) -> tuple[Record, int]:
    """As many pairs as the budget has room for; with the exit code of a signal."""
    binary = options.binary or program_here()
    commands = {side: command(binary, options.flags) for side in ("base", "new")}
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="triphase-calibrate-") as scratch:
        pairs = Pairs(commands, Path(scratch), options.budget, equal=True, say=progress)
        pairs.say("first pair, all kernels")
        try:
            pairs.pilot()
            count = int(options.budget / pairs.pair_s) // 2 * 2
            if count < gate_noise.LEAST_PAIRS and pairs.elapsed_s < options.budget:
                pairs.pilot_again()
                count = int(pairs.room_s(CONFIRMING) / pairs.pair_s) // 2 * 2
            if count < gate_noise.LEAST_PAIRS:
                needed = math.ceil(1.1 * gate_noise.LEAST_PAIRS * pairs.pair_s)
                raise BadInput(
                    f"--budget: expected {needed}s or more for {gate_noise.LEAST_PAIRS} pairs of "
                    f"{pairs.pair_s:.3g} s, found {options.budget:g}s"
                )
            pairs.measure(np.ones(pairs.shape, bool), count, SCREENING)
        finally:
            progress.end()
    return pairs.record, pairs.stopped


def program_here() -> str:
    try:
        return program(str(BINARY))
    except argparse.ArgumentTypeError as error:
        raise BadInput(f"--binary: {error}; scripts/reproduce builds it") from error


def judge(record: Record, options: argparse.Namespace) -> dict[str, Any]:
    """The noise of each kernel, and the rates of false alarms with and without knowing it."""
    pairs = record.log_ratios()
    noise = gate_noise.noise_of(pairs)
    rates = {}
    for name, calibrated in (("calibrated", True), ("not_calibrated", False)):
        alarms = gate_noise.false_alarms(
            pairs, options.trials, process_s=record.process_s, budget_s=options.ab_budget,
            startup_s=STARTUP * record.process_s, floor=options.floor, calibrated=calibrated,
        )  # fmt: skip
        if alarms is not None:
            rates[name] = {
                verdict: dict(
                    zip(("rate", "low", "high"), gate_noise.rate(hits, options.trials), strict=True)
                )
                for verdict, hits in zip((VERDICTS[2], VERDICTS[0]), alarms, strict=True)
            }
    return {
        "pairs": len(pairs),
        "process_s": record.process_s,
        "ab_budget_s": options.ab_budget,
        "floor": options.floor,
        "trials": options.trials,
        "noise_of_12_pairs": dict(zip(record.kernels, noise(12).tolist(), strict=True)),
        "pair_sd": dict(zip(record.kernels, pairs.std(axis=0, ddof=1).tolist(), strict=True)),
        "false_alarms": rates,
    }


def render(document: dict[str, Any]) -> str:
    deviations = np.array(list(document["pair_sd"].values()))
    noise = np.array(list(document["noise_of_12_pairs"].values()))
    lines = [
        f"{document['pairs']} pairs of equal binaries, {len(noise)} kernels, "
        f"{document['process_s']:.3g} s a process.",
        f"One pair differs by {percent(np.median(deviations), 1)} (standard deviation, the median "
        f"over kernels; the worst {percent(deviations.max(), 1)});",
        f"twelve pairs show up to {percent(np.median(noise), 1)} in 99 % of runs (the worst kernel "
        f"{percent(noise.max(), 1)}). ab asks for more than that, and than its floor.",
        "",
    ]
    if not document["false_alarms"]:
        lines.append(
            f"A budget of {document['ab_budget_s']:g} s has no room for ab's first look here."
        )
    for name, rates in document["false_alarms"].items():
        rate, low, high = (percent(value, 2) for value in rates["slower"].values())
        faster = percent(rates["faster"]["rate"], 2)
        lines.append(
            f"False alarms of ab, {name.replace('_', ' ')}: {rate} of runs (95 %: {low} … {high}) "
            f"call a kernel slower; {faster} call one faster."
        )
    lines.append(f"Drawn: {document['trials']} runs of {document['ab_budget_s']:g} s.")
    return "\n".join([*lines, f"The pairs are in {document['file']}."])
