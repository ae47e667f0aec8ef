# SPDX-License-Identifier: Apache-2.0
"""Did a kernel get slower from one results file to another? Weaker than ab, which measures anew.

  scripts/track compare BASE.json NEW.json

Reads Google Benchmark's JSON (and triphase's), NVBench's and benchdnn's CSV. For each kernel: the
Hodges-Lehmann shift of the logarithms of its samples (the median of all differences) with the
Mann-Whitney interval, p-values corrected over kernels by Benjamini and Hochberg. Two files are two
processes, and processes of one binary differ: the interval is widened by the most that calibrate
has seen two of them differ on this machine, and a warning stands where that is not known. Of a
kernel that was measured while others took the processors away nothing is concluded. Nothing is
measured again to confirm.

Exit codes: as of ab: 0 no slowdown, 1 slower, 2 bad input, 3 inconclusive.
"""

from __future__ import annotations

import argparse
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control, mannwhitneyu, norm

from triphase import gate, gate_report
from triphase.ab import render
from triphase.gate import Decision, Floats
from triphase.gate_calibration import between_processes, fingerprint_in
from triphase.medians import thinned
from triphase.track_arguments import add_floor, add_format, add_noise
from triphase.track_errors import BadInput
from triphase.track_rows import Run
from triphase.track_runs import read_run

ALPHA = 0.05
DISTURBED = "other programs took a processor away while it was measured"
MOST_SAMPLES = 200  # of a kernel and side; beyond, evenly thinned: neighbours tell the same
WARNING = (
    "Unpaired files bear less than ab: drift of the machine between them looks like a change, "
    "and nothing was measured again."
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", type=Path, metavar="BASE")
    parser.add_argument("new", type=Path, metavar="NEW")
    add_floor(parser)
    add_noise(parser)
    add_format(parser)


def run(options: argparse.Namespace) -> int:
    base, new = read_run(options.base), read_run(options.new)
    kernels = [name for name in base.times if name in new.times]
    if not kernels:
        raise BadInput(
            f"{options.new}: expected a kernel of {options.base} with a time, found none"
        )
    between = between_processes(options.noise, kernels, base.context)
    document = judge(base, new, kernels, between, options.floor)
    print(render(document, options.format))
    return document["exit_code"]


def judge(base: Run, new: Run, kernels: list[str], between: Floats, floor: float) -> dict[str, Any]:
    """The verdicts, as ab writes them. between: [kernels], in logarithms; NaN where not known."""
    decision = decide(samples_of(base, kernels), samples_of(new, kernels), between, floor)
    visible = [gate.visible(w, math.log1p(floor), w / 2) for w in decision.width[0]]
    noise = np.expm1(np.nan_to_num(between))
    times = {"base": base.times, "new": new.times}
    rows = gate_report.kernel_rows(kernels, times, decision, visible, noise)
    disturbed = {row.name for row in [*base.rows, *new.rows] if row.disturbed}
    for row in rows:
        if row["kernel"] in disturbed:
            row |= {"verdict": gate.VERDICTS[gate.INCONCLUSIVE], "note": DISTURBED}
    listed = gate_report.not_compared(base, new)
    known = int(np.isfinite(between).sum())
    told = f"The noise between processes is known of {known} of {len(kernels)} kernels" + (
        "." if known else "; scripts/track calibrate measures it."
    )
    return {
        "rows": rows,
        "not_compared": listed,
        "summary": gate_report.summary(rows, listed),
        "measured": " ".join([*differences(base, new), told, WARNING]),
        "exit_code": gate_report.exit_code(rows, listed, floor),
    }


def differences(base: Run, new: Run) -> list[str]:
    """What else than the code may have changed times, as triphase's files tell."""
    told = []
    was, now = (run.ours.get("threads") for run in (base, new))
    if None not in (was, now) and was != now:
        told.append(f"BASE computed on {was} threads, NEW on {now}.")
    was, now = (fingerprint_in(run.context) for run in (base, new))
    if None not in (was, now) and was != now:
        told.append("BASE and NEW are of different machines or systems.")
    return told


def samples_of(run: Run, kernels: list[str]) -> list[Floats]:
    """Logarithms of each kernel's samples, at most MOST_SAMPLES of them."""
    rows = {row.name: row for row in run.rows}
    chosen = []
    for kernel in kernels:
        samples = rows[kernel].samples_s or [rows[kernel].value_s]
        chosen.append(np.log(thinned(samples, MOST_SAMPLES)))
    return chosen


def decide(base: list[Floats], new: list[Floats], between: Floats, floor: float) -> Decision:
    """One trial. A change must be significant, beyond the floor, and beyond `between`.

    Too few samples for an interval leave a kernel open, unless `between` is known: it stands in.
    """
    result = Decision.empty((1, len(base)))
    shifts = [two_sample_shift(was, now) for was, now in zip(base, new, strict=True)]
    estimate, low, high = np.array(shifts).T
    p = np.array([mannwhitneyu(*both).pvalue for both in zip(new, base, strict=True)])
    by_noise = np.isinf(low) & np.isfinite(between)
    wider = np.nan_to_num(between)
    result.estimate[0] = estimate
    result.low[0] = np.where(by_noise, estimate, low) - wider
    result.high[0] = np.where(by_noise, estimate, high) + wider
    result.width[0] = result.high[0] - result.low[0]
    result.pairs[0] = [min(len(was), len(now)) for was, now in zip(base, new, strict=True)]
    significant = (false_discovery_control(np.nan_to_num(p, nan=1.0)) <= ALPHA) | by_noise
    excludes_zero = (result.low[0] > 0) | (result.high[0] < 0)
    limit = math.log1p(floor)
    result.verdict[0, (result.low[0] > -limit) & (result.high[0] < limit)] = gate.SAME
    changed = excludes_zero & significant & (np.abs(estimate) > limit)
    result.verdict[0, changed] = np.where(estimate[changed] > 0, gate.SLOWER, gate.FASTER)
    return result


def two_sample_shift(base: Floats, new: Floats) -> tuple[float, float, float]:
    """The median of all differences new - base, and its 95 % Mann-Whitney interval.

    Unbounded where there are too few samples. Hollander, Wolfe and Chicken (2014), section 4.
    """
    differences = np.sort((new[:, None] - base[None, :]).ravel())
    outside = cut(len(base), len(new))
    estimate = float(np.median(differences))
    if outside == 0:
        return estimate, -math.inf, math.inf
    return estimate, float(differences[outside - 1]), float(differences[-outside])


@functools.cache
def cut(m: int, n: int) -> int:
    """How many differences lie outside each end of the interval, the end itself included.

    The largest c with P(U <= c - 1) <= 2.5 %, exact to 20 samples a side, else by the normal
    approximation with its correction for continuity.
    """
    tail = (1 - gate.CONFIDENCE) / 2
    if max(m, n) > 20:
        error = math.sqrt(m * n * (m + n + 1) / 12)
        return max(0, math.floor(m * n / 2 - 0.5 + norm.ppf(tail) * error) + 1)
    below = np.cumsum(rank_sum_chances(m, n))
    return int(np.searchsorted(below, tail, side="right"))


@functools.cache
def rank_sum_chances(m: int, n: int) -> Floats:
    """P(U = u) for u = 0 ... mn of Mann and Whitney's U under the null (their recurrence, 1947)."""
    if m == 0 or n == 0:
        return np.ones(1)
    chances = np.zeros(m * n + 1)
    chances[n:] += m / (m + n) * rank_sum_chances(m - 1, n)
    chances[: m * (n - 1) + 1] += n / (m + n) * rank_sum_chances(m, n - 1)
    return chances
