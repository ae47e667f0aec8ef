# SPDX-License-Identifier: Apache-2.0
"""How often is ab right, in real runs on this machine?

  scripts/track trials --base BINARY --new BINARY [--slower REGEX] [--runs 20] [-- FLAGS FOR BOTH]

Runs ab again and again and counts. Two equal binaries give its rate of false alarms. For a known
slowdown build the new one with -DTRIPHASE_PLANT=KIND:PHASE:PERCENT, and tell with --slower which
kernels it slows: it counts as found where one of them is called slower, and as a false alarm where
another one is. `power` draws thousands of runs from recorded noise; this is the check on it.

Exit codes: 0 done, 2 bad usage or a binary that fails, 130 or 143 interrupted, with the runs so
far.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triphase import ab
from triphase.files import write_atomic
from triphase.gate_noise import rate
from triphase.gate_processes import Pairs
from triphase.prose import percent
from triphase.stopping import Stopped
from triphase.track_arguments import (
    add_binaries,
    add_budget,
    add_floor,
    add_noise,
    check_writable,
    commands,
    whole,
)
from triphase.track_errors import BadInput


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "scripts/track trials --base BINARY --new BINARY [options] [-- FLAGS FOR BOTH]"
    add_binaries(parser)
    parser.add_argument(
        "--slower", type=pattern, metavar="REGEX",
        help="the kernels that the new binary slows; without it, none",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=whole(1), default=20, metavar="N", help="of ab (default: 20)"
    )
    add_budget(parser, "2m")
    add_floor(parser)
    add_noise(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="keeps the verdicts of each run")


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"expected a regular expression, found '{text}': {error}"
        ) from error


def run(options: argparse.Namespace) -> int:
    check_writable(options.out)
    runs: list[dict[str, Any]] = []
    stopped = 0
    for number in range(options.runs):
        print(f"track: run {number + 1} of {options.runs}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="triphase-trials-") as scratch:
            pairs = Pairs(commands(options), Path(scratch), options.budget)
            try:
                document = ab.judge(pairs, options)
            except Stopped as stop:
                stopped = stop.code
            except BadInput as refusal:  # as where the machine has become too slow for the budget
                if not runs:
                    raise
                print(f"track: run {number + 1} was refused: {refusal}", file=sys.stderr)
                stopped = 2
            stopped = stopped or pairs.stopped
        if stopped:
            break
        verdicts = {row["kernel"]: row["verdict"] for row in document["rows"]}
        runs.append({"elapsed_s": pairs.elapsed_s, "verdicts": verdicts})
        counts = count(runs, options.slower)  # refuses a pattern of no kernel, after the first run
        if options.out is not None:
            result = {"commands": commands(options), "settings": ab.settings(options), "runs": runs}
            write_atomic(options.out, json.dumps(result | counts) + "\n")
    if runs:
        print(render(counts, options.slower))
    return stopped


def count(runs: Sequence[dict[str, Any]], slower: re.Pattern[str] | None) -> dict[str, Any]:
    """Runs with a false alarm; and, where a slowdown was planted, runs that found it."""
    kernels = list(runs[0]["verdicts"])
    planted = {kernel for kernel in kernels if slower is not None and slower.search(kernel)}
    if slower is not None and not planted:
        raise BadInput(f"--slower: expected a pattern of a kernel, '{slower.pattern}' fits none")
    called = [{k for k, v in run["verdicts"].items() if v == "slower"} for run in runs]
    result = {
        "kernels": len(kernels),
        "planted": sorted(planted),
        "false_alarm": _rate(sum(bool(names - planted) for names in called), len(runs)),
    }
    if planted:
        result["found"] = _rate(sum(bool(names & planted) for names in called), len(runs))
    return result


def _rate(hits: int, runs: int) -> dict[str, float]:
    share, low, high = rate(hits, runs)
    return {"hits": hits, "runs": runs, "rate": share, "low": low, "high": high}


def render(counts: dict[str, Any], slower: re.Pattern[str] | None) -> str:
    def line(what: str, of: dict[str, float]) -> str:
        interval = f"{percent(of['low'], 1)} … {percent(of['high'], 1)}"
        return f"{what}: {of['hits']} of {of['runs']} runs (95 %: {interval})"

    lines = [line(f"a false alarm among {counts['kernels']} kernels", counts["false_alarm"])]
    if "found" in counts:
        lines.append(line(f"found '{slower.pattern}' slower", counts["found"]))
    return "\n".join(lines)
