# SPDX-License-Identifier: Apache-2.0
"""How well is a median known, from one series of samples in the order that they were taken?

As src/stats/interval.h has it, for what is computed from samples here: order statistics around the
median, their ranks spread as for the effective number of samples. It says nothing of what differs
from one process to the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

CONFIDENCE = 0.95


def interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the median; None below 6 effective samples."""
    n = len(samples)
    effective = int(n / autocorrelation_time(np.sign(np.subtract(samples, np.median(samples)))))
    rank = lower_rank(effective)
    if rank == 0:
        return None
    share = ((effective + 1) / 2 - rank) / effective  # of the samples, between median and end
    low = max(1, math.floor((n + 1) / 2 - n * share)) - 1
    ordered = sorted(samples)
    return ordered[low], ordered[n - 1 - low]


def thinned(samples: Sequence[float], most: int) -> list[float]:
    """At most so many, from the middles of equal stretches, in their order (src/stats/order.h).

    Series of one length are thinned alike, so that pairs stay pairs.
    """
    n, kept = len(samples), min(len(samples), most)
    return [samples[(2 * i + 1) * n // (2 * kept)] for i in range(kept)]


def lower_rank(n: int) -> int:
    """The largest rank r (from 1) with P(Binomial(n, ½) < r) <= 2.5 %; 0 if there is none."""
    below = binom.cdf(np.arange(n + 1), n, 0.5)
    return int(np.searchsorted(below, (1 - CONFIDENCE) / 2, side="right"))


def autocorrelation_time(series: np.ndarray) -> float:
    """Samples per independent one: Geyer's initial monotone sequence (1992)."""
    centred = series - series.mean()
    covariance = np.correlate(centred, centred, "full")[len(series) - 1 :]
    if covariance[0] == 0:
        return 1.0
    pairs = covariance[: len(series) // 2 * 2].reshape(-1, 2).sum(axis=1)
    pairs = np.minimum.accumulate(pairs)
    total = pairs[np.cumprod(pairs > 0, dtype=bool)].sum()
    return max(1.0, 2 * total / covariance[0] - 1)
