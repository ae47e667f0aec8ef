# SPDX-License-Identifier: Apache-2.0
"""Decides from pairs of times which kernels got slower, look by look. Knows no clock, no process.

A pair is one time with the base and one with the new binary, taken side by side; what is judged is
log(new / base). For each kernel: the Hodges-Lehmann shift of its pairs (the median of all means of
two of them) with Wilcoxon's signed-rank interval and p-value, exact under the null distribution.

A kernel passes two tests before it counts as slower (or faster, by the mirrored rule):

1. Screening. At look j = 1, 2, ... p-values, corrected over all kernels by Benjamini and Hochberg,
   are held against 0.2 / 2^j. So looks 1 to j spend 0.2 (1 - 2^-j), and all of them together no
   more than 0.2, whatever their dependence (a union bound) and whenever measuring ends. The shift
   must also exceed the floor and the machine's own noise.
2. Confirming. Fresh pairs of the suspects alone must say the same, at 0.05, corrected over the
   suspects, and again above floor and noise.

Where nothing has changed and pairs are independent, both together name any kernel in at most
0.2 x 0.05 = 1 % of runs. `decide` runs many trials at once: a measurement is one trial, a
simulation thousands, and both are judged by this code.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, norm

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SCREENING, CONFIRMING = "screening", "confirming"  # the two stages
LEVEL = {SCREENING: 0.2, CONFIRMING: 0.05}  # the error that each may spend
CONFIDENCE = 0.95  # of the intervals that are shown, and that make a kernel `same`
FLOOR = 0.02
FIRST_LOOK = 12  # pairs
GROWTH = 1.5  # of the pairs, from look to look
MOST_PAIRS = 64  # no further look: an effect as large as the floor would never be decided
LEAST_FRESH = 6  # pairs: one-sided, all of one sign have p = 1/64
RESERVE = 0.08  # of the budget: kept for confirming
POWER = 0.9  # with which the smallest visible effect would have been seen
DRAWN = 2000  # runs from which the smallest visible effect is taken
CHUNK = 2_000_000  # means of two that are held at once

FASTER, SAME, SLOWER, INCONCLUSIVE, FAILED = range(5)
VERDICTS = ("faster", "same", "slower", "inconclusive", "failed")


# ---- statistics


@functools.cache
def signed_rank_tail(n: int) -> Floats:
    """P(W >= w) for w = 0 ... n(n+1)/2: the null distribution of the signed-rank sum of n pairs.

    Each rank is in the sum or not, with equal chance (Wilcoxon 1945).
    """
    chance = np.ones(1)
    for rank in range(1, n + 1):
        with_rank = np.concatenate([np.zeros(rank), chance])
        chance = (np.pad(chance, (0, rank)) + with_rank) / 2
    return np.minimum(np.cumsum(chance[::-1])[::-1], 1.0)


@dataclass(frozen=True)
class Shift:
    """Of log-ratios, in logarithms: estimate and interval, with one-sided p-values. All: [N]."""

    estimate: Floats
    low: Floats
    high: Floats
    p_above: Floats  # for a shift above zero
    p_below: Floats

    @property
    def p(self) -> Floats:
        """Two-sided."""
        return np.minimum(1.0, 2 * np.minimum(self.p_above, self.p_below))


def shift(log_ratios: Floats, confidence: float = CONFIDENCE) -> Shift:
    """Hodges-Lehmann shift with the signed-rank interval.  log_ratios: [N, n], finite.

    Of the means of two (each with itself as well), W counts those above zero, a zero as a half;
    the interval is cut where W would be significant, and unbounded where n is too small for that.
    Ties and zeros are taken conservatively. Hollander, Wolfe and Chicken, Nonparametric Statistical
    Methods (2014), section 3.
    """
    count, n = log_ratios.shape
    if n == 0:
        nothing, one = np.full(count, np.nan), np.ones(count)
        return Shift(nothing, np.full(count, -np.inf), np.full(count, np.inf), one, one)
    first, second = np.triu_indices(n)
    means = len(first)
    tail = signed_rank_tail(n)
    cut = int(np.searchsorted(-tail, -(1 - confidence) / 2))  # the least w that is significant
    outside = means - cut + 1  # means beyond each end of the interval, itself included
    kth = sorted(
        {max(outside - 1, 0), (means - 1) // 2, means // 2, min(means - outside, means - 1)}
    )
    columns = np.empty((5, count))
    step = max(1, CHUNK // means)
    for at in range(0, count, step):
        part = log_ratios[at : at + step]
        pairs = (part[:, first] + part[:, second]) / 2
        above = (pairs > 0).sum(axis=1) + (pairs == 0).sum(axis=1) / 2
        pairs.partition(kth, axis=1)
        columns[0, at : at + step] = (pairs[:, (means - 1) // 2] + pairs[:, means // 2]) / 2
        columns[1, at : at + step] = pairs[:, outside - 1] if outside else -np.inf
        columns[2, at : at + step] = pairs[:, means - outside] if outside else np.inf
        columns[3, at : at + step] = tail[np.floor(above).astype(int)]
        columns[4, at : at + step] = tail[np.floor(means - above).astype(int)]
    return Shift(*columns)


def spending(look: int) -> float:
    """What look 0, 1, 2 ... spends of the level of screening; together they spend all of it."""
    return LEVEL[SCREENING] / 2 ** (look + 1)


def least_pairs(kernels: int, look: int = 0) -> int:
    """The fewest pairs by which one kernel of so many could be suspected: all of one sign."""
    return math.ceil(math.log2(2 * kernels / spending(look)))


def end_of(stage: str, budget_s: float) -> float:
    """When a stage must have ended, in seconds since the beginning."""
    return budget_s * (1 - RESERVE if stage == SCREENING else 1)


def first_look(kernels: int, pair_s: float, budget_s: float) -> int:
    """Pairs before the first look: 12 or more, fewer where the budget has no room, 0 if too few."""
    least = least_pairs(kernels)
    fitting = int(end_of(SCREENING, budget_s) / pair_s)
    return min(max(FIRST_LOOK, least + 1), fitting) if fitting >= least else 0


def fresh_pairs(pairs: int, kernels: int) -> int:
    """How many pairs are sure to confirm one suspect: as many as made it one, where the reserve has
    room for them whatever the budget is, else LEAST_FRESH."""
    return pairs if kernels * RESERVE >= 1 else min(pairs, LEAST_FRESH)


def smallest_visible(
    width: float, pairs: int, look: int, kernels: int, thresholds: tuple[float, float]
) -> float | None:
    """The slowdown (0.03 is 3 %) that would have been found with chance POWER.

    By screening so many pairs of one kernel of so many at that look, and by confirming with
    fresh_pairs; each estimate must pass its threshold (relative, of screening and of confirming)
    and its test its level. Pairs are taken as normal, of the deviation that the width of their
    interval tells. None: nothing at all.
    """
    tail = signed_rank_tail(pairs)
    significant = 2 * kernels * tail <= spending(look)
    if not significant.any() or not math.isfinite(width):
        return None
    fresh = fresh_pairs(pairs, kernels)
    confirmed = signed_rank_tail(fresh) <= LEVEL[CONFIRMING]
    if not confirmed.any():
        return None
    screening = _lacking(pairs, int(significant.argmax()), 0)
    confirming = _lacking(fresh, int(confirmed.argmax()), 1)
    deviation = width / screening.width
    needed = np.zeros(DRAWN)
    for stage, threshold in zip((screening, confirming), thresholds, strict=True):
        needed = np.maximum(needed, deviation * stage.of_rank_sum)
        needed = np.maximum(needed, math.log1p(threshold) - deviation * stage.estimate)
    return math.expm1(float(np.quantile(needed, POWER)))


@dataclass(frozen=True)
class _Lacking:
    """Of drawn pairs of deviation 1 and no shift: what shift W lacks to reach a sum; the estimates
    of their shift, both [DRAWN]; and the mean width of their interval."""

    of_rank_sum: Floats
    estimate: Floats
    width: float


@functools.cache
def _lacking(pairs: int, rank_sum: int, seed: int) -> _Lacking:
    """W reaches w where the w-th largest mean of two is above zero."""
    first, second = np.triu_indices(pairs)
    drawn = np.random.default_rng([seed, pairs]).normal(size=(DRAWN, pairs))
    found = shift(drawn)
    means = (drawn[:, first] + drawn[:, second]) / 2
    at = len(first) - rank_sum
    return _Lacking(
        -np.partition(means, at, axis=1)[:, at],
        found.estimate,
        float((found.high - found.low).mean()),
    )


def visible(width: float, *limits: float) -> float | None:
    """The slowdown whose estimate would exceed all limits with chance POWER, if it were normal.

    width and limits are logarithms; None where the interval is unbounded.
    """
    if not math.isfinite(width):
        return None
    return math.expm1(max(limits) + norm.isf(1 - POWER) * standard_error(width))


def standard_error(width: float) -> float:
    """Of an estimate with an interval of this width, if it were normal."""
    return width / 2 / norm.isf((1 - CONFIDENCE) / 2)


# ---- decision


class Source(Protocol):
    """Measures pairs: with processes, or from a record; `shape` is (trials, kernels)."""

    shape: tuple[int, int]

    def fits(self, wanted: Mask, pairs: int, stage: str) -> Mask:
        """[trials]: would so many pairs of the wanted kernels end in time?

        wanted: [trials, kernels]. SCREENING leaves RESERVE of the budget to CONFIRMING.
        """

    def measure(self, wanted: Mask, pairs: int, stage: str) -> Floats:
        """log(new / base): [trials, kernels, pairs]; NaN where a kernel failed.

        Fewer pairs than asked where it was interrupted.
        """


@dataclass
class Decision:
    """Of each kernel in each trial: [trials, kernels]. Estimates and intervals are logarithms.

    Where a slower or faster kernel was confirmed, they are those of the fresh pairs, which had no
    part in the suspicion. `unconfirmed`: a look suspected it, and as many fresh pairs as were asked
    for did not agree. A suspect that has no time in some fresh pair is failed, as in screening.
    """

    verdict: NDArray[np.int_]
    estimate: Floats
    low: Floats
    high: Floats
    pairs: NDArray[np.int_]
    screened: NDArray[np.int_]  # pairs at the last look
    width: Floats  # of the interval at the last look
    look: NDArray[np.int_]  # which one that was, from 0
    unconfirmed: Mask

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Decision:
        return cls(
            np.full(shape, INCONCLUSIVE), np.full(shape, np.nan), np.full(shape, -np.inf),
            np.full(shape, np.inf), np.zeros(shape, int), np.zeros(shape, int),
            np.full(shape, np.inf), np.zeros(shape, int), np.zeros(shape, bool),
        )  # fmt: skip

    def _take(self, where: Mask, values: Shift, pairs: int) -> None:
        self.estimate[where] = values.estimate
        self.low[where] = values.low
        self.high[where] = values.high
        self.pairs[where] = pairs


def no_noise(pairs: int) -> float:
    """Of a machine that was not calibrated: only the floor holds."""
    return 0.0


def decide(
    source: Source, first: int, floor: float = FLOOR,
    noise: Callable[[int], Floats | float] = no_noise,
) -> Decision:  # fmt: skip
    """Looks at `first` pairs, then at half as many more each time, until all is decided.

    Only kernels that are undecided are measured on. noise(n): the relative change (0.03 is 3 %)
    that n pairs of two equal binaries show on this machine, [kernels].
    """
    trials, kernels = source.shape
    result = Decision.empty(source.shape)
    series = np.empty((trials, kernels, 0))
    undecided = np.ones(source.shape, bool)
    active = np.ones(trials, bool)
    look, target = 0, first
    while True:
        asked = target - series.shape[2]
        active &= undecided.any(axis=1)
        active &= source.fits(undecided & active[:, None], asked, SCREENING)
        wanted = undecided & active[:, None]
        if not wanted.any():
            return result
        fresh = source.measure(wanted, asked, SCREENING)
        series = np.concatenate([series, fresh], axis=2)
        broken = wanted & np.isnan(series).any(axis=2)
        result.verdict[broken] = FAILED
        wanted &= ~broken
        pairs = series.shape[2]
        suspects = _screen(result, series, wanted, _threshold(floor, noise, pairs, kernels), look)
        same = wanted & _within(result, floor)
        result.verdict[same] = SAME
        _confirm(source, result, suspects, pairs, functools.partial(_threshold, floor, noise))
        undecided = result.verdict == INCONCLUSIVE
        look, target = look + 1, math.ceil(target * GROWTH)
        if fresh.shape[2] < asked or target > MOST_PAIRS:
            return result


def _threshold(floor: float, noise: Callable, pairs: int, kernels: int) -> Floats:
    """Which shift must be exceeded with so many pairs: [kernels]."""
    return np.broadcast_to(np.log1p(np.maximum(floor, noise(pairs))), (kernels,))


def _within(result: Decision, floor: float) -> Mask:
    limit = math.log1p(floor)
    return (result.low > -limit) & (result.high < limit)


def _screen(result: Decision, series: Floats, wanted: Mask, threshold: Floats, look: int) -> Mask:
    """The suspects at this look; keeps what it estimated."""
    values = shift(series[wanted])
    result._take(wanted, values, series.shape[2])
    result.screened[wanted] = series.shape[2]
    result.width[wanted] = values.high - values.low
    result.look[wanted] = look
    p = np.ones(wanted.shape)
    p[wanted] = values.p
    significant = false_discovery_control(p, axis=1) <= spending(look)
    estimate = np.where(wanted, result.estimate, 0.0)
    return wanted & significant & (np.abs(estimate) > threshold)


def _confirm(
    source: Source, result: Decision, suspects: Mask, pairs: int,
    threshold: Callable[[int, int], Floats],
) -> None:  # fmt: skip
    """Measures suspects anew: as many pairs as made them so, or LEAST_FRESH where time is short.

    These few are never left out, so that a run may exceed its budget by them.
    """
    ample = source.fits(suspects, pairs, CONFIRMING)
    for count, trials in ((pairs, ample), (min(pairs, LEAST_FRESH), ~ample)):
        again = suspects & trials[:, None]
        if not again.any():
            continue
        fresh = source.measure(again, count, CONFIRMING)
        broken = again & np.isnan(fresh).any(axis=2)
        result.verdict[broken] = FAILED
        again &= ~broken
        values = shift(fresh[again])
        slower = result.estimate[again] > 0
        p = np.where(slower, values.p_above, values.p_below)
        p = _corrected(p, np.nonzero(again)[0])
        limit = np.broadcast_to(threshold(fresh.shape[2], again.shape[1]), again.shape)[again]
        estimate = np.where(slower, values.estimate, -values.estimate)
        agrees = (p <= LEVEL[CONFIRMING]) & (estimate > limit)
        confirmed = np.zeros_like(again)
        confirmed[again] = agrees
        chosen = Shift(*(column[agrees] for column in vars(values).values()))
        result.verdict[confirmed] = np.where(slower[agrees], SLOWER, FASTER)
        result._take(confirmed, chosen, fresh.shape[2])
        if fresh.shape[2] == count:
            result.unconfirmed[again] = ~agrees


def _corrected(p: Floats, trials: NDArray[np.int_]) -> Floats:
    """Benjamini and Hochberg's correction, within each trial.  Both: [N], sorted by trial."""
    starts = np.nonzero(np.diff(trials, prepend=-1))[0]
    parts = np.split(p, starts[1:])
    return np.concatenate([false_discovery_control(part) for part in parts]) if len(p) else p
