# SPDX-License-Identifier: Apache-2.0
"""Change points of one kernel's history: at which run did its level move?

Knows numbers, and nothing of databases. The statistic is Apache Otava's (E-divisive with means,
Matteson and James 2014, doi:10.1080/01621459.2013.849605), through its calculator on a plain array.
Its nominal p-values are not used: they assume that runs are independent, which they are not. A
change is claimed where the statistic, reduced by the autocorrelation that this very series shows,
exceeds a limit that is calibrated on series without a change (history_calibration.py).

Runs are read in order, and what is claimed at a run rests on it and on runs before it. So adding a
run asks one question about the last WINDOW runs, and gives what reading all runs anew would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from otava.change_point_divisive.calculator import PairDistanceCalculator

WINDOW = 40  # runs that are looked back over: the statistic's cost is quadratic in them
MIN_RUNS = 12  # of one level, or of two: with fewer, a step and autocorrelation look alike
CLIP = 4.0  # in noise scales: one run that is far off must not pass for a new level
MIN_NOISE = 1e-3  # relative: below, clocks and rounding speak, and nobody acts on it


@dataclass(frozen=True)
class Evidence:
    """For a change of level within some runs: how strong it is, and the first run after it."""

    strength: float
    index: int


@dataclass(frozen=True)
class Limit:
    """The strength beyond which a change is claimed: `rate` is the share of series without a change
    that are to show one within `horizon` runs."""

    strength: float
    rate: float
    horizon: int


@dataclass(frozen=True)
class Change:
    """The level moved at run `index` (its first run after), which was clear at run `found_at`."""

    index: int
    found_at: int


def noise_scale(logs: np.ndarray) -> float:
    """Standard deviation from successive differences, which a change of level moves once only.

    Differences beyond three medians count as three. For independent normal noise the mean absolute
    difference is 2/sqrt(pi) standard deviations.
    """
    steps = np.abs(logs[1:] - logs[:-1])
    mean = float(np.minimum(steps, 3 * middle(steps)).mean())
    return max(mean * float(np.sqrt(np.pi)) / 2, MIN_NOISE)


def middle(values: np.ndarray) -> float:
    """The median; np.median takes ten times as long for so few values."""
    ordered = np.sort(values)
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def evidence(logs: np.ndarray) -> Evidence:
    """Where the logarithms of times divide best in two, and how strong that is.

    Otava's statistic is that of independent runs, in noise scales. Runs whose residuals around both
    levels have lag-1 correlation r are worth (1 - r) / (1 + r) as many independent ones (AR(1)).
    """
    scaled = (logs - middle(logs)) / noise_scale(logs)
    scaled = np.minimum(np.maximum(scaled, -CLIP), CLIP)
    best = PairDistanceCalculator(scaled).get_next_candidate([slice(0, None)])
    index = int(best.index)
    worth = independent_share(correlation(scaled[:index], scaled[index:]))
    return Evidence(float(best.qhat) * worth, index)


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Lag-1 correlation of the residuals around two levels, one after the other."""
    rest = np.concatenate([left - left.mean(), right - right.mean()])
    power = float(rest @ rest)
    return float(rest[1:] @ rest[:-1]) / power if power > 0 else 0.0


def independent_share(correlation: float) -> float:
    """How many independent runs a run is worth, by the lag-1 correlation of AR(1) noise."""
    bounded = min(max(correlation, 0.0), 0.95)
    return (1 - bounded) / (1 + bounded)


def changes(times: Sequence[float], limit: Limit, start: int = 0, read: int = 0) -> list[Change]:
    """All changes of a series of times in seconds, as they became clear run by run.

    To go on with a series: `start` is where the present level began, `read` how many runs were
    read. Then times may be the last part of the series, of at least WINDOW runs before `read`;
    where the level began before that part, `start` is 0.
    """
    logs = np.log(np.asarray(times, dtype=np.float64))
    found = []
    for end in range(read, len(logs)):
        first = max(start, end + 1 - WINDOW)
        if end + 1 - first < MIN_RUNS:
            continue
        seen = evidence(logs[first : end + 1])
        if seen.strength > limit.strength:
            start = first + seen.index
            found.append(Change(start, end))
    return found


@dataclass(frozen=True)
class Size:
    """Levels before and after a change in seconds (medians), their ratio and its interval."""

    before_s: float
    after_s: float
    ratio: float
    ratio_low: float
    ratio_high: float

    @property
    def moved(self) -> bool:
        """Whether the interval holds a change alone."""
        return self.ratio_low > 1 or self.ratio_high < 1


def size(before: Sequence[float], after: Sequence[float], confidence: float = 0.95) -> Size:
    """How far the level moved, from at most WINDOW runs on each side.

    The interval is normal, on logarithms: a median's standard error is sqrt(pi/2) of the mean's,
    and correlated runs are worth fewer. Residuals around two fitted levels are correlated too
    little, by about (1 + 3r) / n a level (Kendall 1954), which is put back.
    """
    left, right = np.log(before[-WINDOW:]), np.log(after[:WINDOW])
    runs = len(left) + len(right)
    shown = correlation(left, right)
    worth = independent_share(shown + 2 * (1 + 3 * shown) / runs)
    squares = left.var() * len(left) + right.var() * len(right)
    deviation = max(float(np.sqrt(squares / max(runs - 2, 1))), MIN_NOISE)
    error = deviation * np.sqrt(np.pi / 2 * (1 / len(left) + 1 / len(right)) / worth)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    levels = middle(left), middle(right)
    step = levels[1] - levels[0]
    return Size(*(float(np.exp(x)) for x in (*levels, step, step - reach, step + reach)))
