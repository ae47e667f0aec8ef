# SPDX-License-Identifier: Apache-2.0
"""Did a kernel get slower from one results file to another? Weaker than ab, which measures anew.

  scripts/track compare BASE.json NEW.json

Reads Google Benchmark's JSON (and triphase's), NVBench's and benchdnn's CSV. For each kernel: the
Hodges-Lehmann shift of the logarithms of its samples (the median of all differences). Two files are
two processes, and processes of one binary differ: by how much, calibrate has seen on this machine;
without a calibration the spread of the shifts over the kernels tells it, where there are enough of
them, and where nothing tells it nothing is concluded. To it comes what the samples scatter. A
kernel is slower (or faster) where its shift exceeds the floor and is significant by that noise,
corrected over all kernels by Benjamini and Hochberg: so at most some 5 % of unchanged files alarm,
however many kernels they have. Of a kernel that was measured while others took the processors away
nothing is concluded. Nothing is measured again to confirm.

Exit codes: as of ab: 0 no slowdown, 1 slower, 2 bad input, 3 inconclusive.
"""

from __future__ import annotations

import argparse
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control, norm
from scipy.stats import t as student

from triphase import gate, gate_report
from triphase.ab import render
from triphase.gate import Decision, Floats
from triphase.gate_calibration import fingerprint_in, noise_between_processes
from triphase.medians import thinned
from triphase.track_arguments import add_floor, add_format, add_noise
from triphase.track_errors import BadInput
from triphase.track_rows import Run
from triphase.track_runs import read_run

ALPHA = 0.05
# Degrees of freedom of Student's t, as which noise is taken: kernels are unequally noisy, and
# processes now and then far off, so that its tails are heavier than a normal distribution's.
FREEDOM = 8
FEWEST_KERNELS = 8  # whose spread tells the noise between two files
LEAST_NOISE = 1e-3  # below, clocks and rounding speak
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
    between = noise_between_processes(options.noise, kernels, base.context)
    document = judge(base, new, kernels, between, options.floor)
    print(render(document, options.format))
    return document["exit_code"]


def judge(base: Run, new: Run, kernels: list[str], between: Floats, floor: float) -> dict[str, Any]:
    """The verdicts, as ab writes them. between: as in `decide`."""
    decision = decide(samples_of(base, kernels), samples_of(new, kernels), between, floor)
    beyond = must_exceed(gate.standard_error(decision.width[0]))
    visible = [
        gate.visible(width, math.log1p(floor), limit)
        for width, limit in zip(decision.width[0], beyond, strict=True)
    ]
    noise = np.where(np.isfinite(beyond), np.expm1(beyond), 0.0)
    times = {"base": base.times, "new": new.times}
    rows = gate_report.kernel_rows(kernels, times, decision, visible, noise)
    disturbed = {row.name for row in [*base.rows, *new.rows] if row.disturbed}
    for row in rows:
        if row["kernel"] in disturbed:
            row |= {"verdict": gate.VERDICTS[gate.INCONCLUSIVE], "note": DISTURBED}
    listed = gate_report.not_compared(base, new)
    return {
        "rows": rows,
        "not_compared": listed,
        "summary": gate_report.summary(rows, listed),
        "measured": " ".join([*differences(base, new), noise_known(between), WARNING]),
        "exit_code": gate_report.exit_code(rows, listed, floor),
    }


def noise_known(between: Floats) -> str:
    """Where the noise between processes comes from, or what to do where nothing tells it."""
    known, kernels = int(np.isfinite(between).sum()), len(between)
    told = f"The noise between processes is known of {known} of {kernels} kernels"
    if known == kernels:
        return f"{told}."
    if kernels >= FEWEST_KERNELS:
        return (
            f"{told}, of the others taken from the spread over all kernels; "
            "scripts/track calibrate measures it."
        )
    return (
        f"{told}, and fewer than {FEWEST_KERNELS} kernels do not tell it, so that of the others "
        "nothing is concluded: scripts/track calibrate measures it, or use ab."
    )


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
    """One trial. A change must be significant, corrected over the kernels, and beyond the floor.

    between: standard deviation of log(new / base) of single processes of equal binaries, [kernels];
    NaN where it was not calibrated. `width` of the result is that of a normal 95 % interval.
    """
    result = Decision.empty((1, len(base)))
    shifts = [two_sample_shift(was, now) for was, now in zip(base, new, strict=True)]
    estimate, low, high = np.array(shifts).T
    deviation = np.hypot(noise_between(between, estimate), within_processes(high - low))
    reach = student.isf((1 - gate.CONFIDENCE) / 2, FREEDOM) * deviation
    result.estimate[0] = estimate
    result.low[0], result.high[0] = estimate - reach, estimate + reach
    result.width[0] = 2 * norm.isf((1 - gate.CONFIDENCE) / 2) * deviation
    result.pairs[0] = [min(len(was), len(now)) for was, now in zip(base, new, strict=True)]
    p = 2 * student.sf(np.abs(estimate) / deviation, FREEDOM)
    limit = math.log1p(floor)
    result.verdict[0, (result.low[0] > -limit) & (result.high[0] < limit)] = gate.SAME
    changed = (false_discovery_control(p) <= ALPHA) & (np.abs(estimate) > limit)
    result.verdict[0, changed] = np.where(estimate[changed] > 0, gate.SLOWER, gate.FASTER)
    return result


def noise_between(between: Floats, estimate: Floats) -> Floats:
    """Standard deviations between processes as they were calibrated; else the spread over kernels.

    The spread is about no change (1.4826 times the median distance is a normal distribution's
    standard deviation), so that a drift of all kernels is noise. Infinite where nothing tells it.
    """
    enough = len(estimate) >= FEWEST_KERNELS
    spread = 1.4826 * float(np.median(np.abs(estimate))) if enough else math.inf
    return np.maximum(np.where(np.isnan(between), spread, between), LEAST_NOISE)


def within_processes(width: Floats) -> Floats:
    """The standard error of shifts by their intervals; 0 where too few samples have none, so that
    the noise between processes stands in for it."""
    return np.where(np.isfinite(width), gate.standard_error(width), 0.0)


def must_exceed(deviation: Floats) -> Floats:
    """The shift at which one kernel alone, of all of these, is significant; in logarithms."""
    return student.isf(ALPHA / 2 / len(deviation), FREEDOM) * deviation


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
