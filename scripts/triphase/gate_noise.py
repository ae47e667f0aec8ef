# SPDX-License-Identifier: Apache-2.0
"""What a machine's own noise does to the gate: judged on pairs of equal binaries (A/A).

Runs of the gate are drawn from the recorded pairs by a stationary bootstrap over time (Politis and
Romano 1994): blocks of consecutive rounds, all kernels of a time together, so that drift within a
block, autocorrelation and what kernels share stay as they were. A round is base, new, new, base, so
that an effect of the order cancels as it does in a measurement. The sign of a block is drawn too:
both sides are the same file, so that base and new may be exchanged, for all kernels of the block at
once. Nothing is centred.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from triphase import gate
from triphase.gate import Floats, Mask

QUANTILE = 0.99  # of what equal binaries show: the noise that an effect must exceed
RESAMPLES = 1000
LEAST_PAIRS = 20  # of a record that a machine may be judged by
SEED = 1


class Resampled:
    """A gate.Source of runs drawn from recorded pairs, with a clock that charges for processes.

    pairs      log-ratios of equal binaries in the order of time: [recorded, kernels]
    process_s  what a process of all kernels takes, of which startup_s does not depend on them
    slowed     what is added to each trial's kernels, in logarithms: [trials, kernels] or 0
    """

    def __init__(
        self, pairs: Floats, trials: int, rng: np.random.Generator, *,
        process_s: float = 0.0, budget_s: float = np.inf, startup_s: float = 0.0,
        slowed: Floats | float = 0.0,
    ) -> None:  # fmt: skip
        rounds = len(pairs) // 2
        self.rounds = pairs[: 2 * rounds].reshape(rounds, 2, -1)
        self.shape = (trials, pairs.shape[1])
        self.rng = rng
        self.block = block_length(rounds)
        self.process_s, self.startup_s, self.budget_s = process_s, startup_s, budget_s
        self.slowed = np.broadcast_to(slowed, self.shape)
        self.elapsed_s = np.zeros(trials)
        self.at = rng.integers(rounds, size=trials)
        self.sign = rng.choice([-1.0, 1.0], size=trials)

    def fits(self, wanted: Mask, pairs: int, stage: str) -> Mask:
        return self.elapsed_s + self._cost(wanted, pairs) <= gate.end_of(stage, self.budget_s)

    def measure(self, wanted: Mask, pairs: int, stage: str) -> Floats:
        self.elapsed_s += self._cost(wanted, pairs)
        drawn = [self._next_round() for _ in range(-(-pairs // 2))]
        both = np.concatenate(drawn, axis=1)[:, :pairs]  # [trials, pairs, kernels]
        return both.transpose(0, 2, 1) + self.slowed[:, :, None]

    def _cost(self, wanted: Mask, pairs: int) -> Floats:
        share = wanted.sum(axis=1) / self.shape[1]
        process = self.startup_s + share * (self.process_s - self.startup_s)
        return np.where(share > 0, 2 * pairs * process, 0.0)

    def _next_round(self) -> Floats:
        """The next of each trial's block, or the first of a new block: [trials, 2, kernels]."""
        trials, rounds = self.shape[0], len(self.rounds)
        drawn = self.rounds[self.at] * self.sign[:, None, None]
        jump = self.rng.random(trials) < 1 / self.block
        self.at = np.where(jump, self.rng.integers(rounds, size=trials), (self.at + 1) % rounds)
        self.sign = np.where(jump, self.rng.choice([-1.0, 1.0], size=trials), self.sign)
        return drawn


def block_length(rounds: int) -> float:
    """The mean length of a block: the cube root is the best order for a variance."""
    return max(2.0, round(rounds ** (1 / 3)))


def noise_of(pairs: Floats) -> Callable[[int], Floats]:
    """noise(n): the relative change that n pairs of equal binaries exceed in 1 % of runs.

    [kernels]. pairs: log-ratios of equal binaries in the order of time, [recorded, kernels].
    """

    @functools.cache
    def noise(n: int) -> Floats:
        source = Resampled(pairs, RESAMPLES, np.random.default_rng([SEED, n]))
        drawn = source.measure(np.ones(source.shape, bool), n, gate.SCREENING)
        estimate = gate.shift(drawn.reshape(-1, n)).estimate.reshape(source.shape)
        return np.expm1(np.quantile(np.abs(estimate), QUANTILE, axis=0))

    return noise


def for_kernels(
    noise: Callable[[int], Floats], known: Sequence[str], kernels: Sequence[str]
) -> Callable[[int], Floats]:
    """The noise of these kernels, in their order; 0 for those that are not known."""
    place = {kernel: at for at, kernel in enumerate(known)}

    def chosen(n: int) -> Floats:
        values = noise(n)
        return np.array([values[place[k]] if k in place else 0.0 for k in kernels])

    return chosen


def rate(hits: int, trials: int) -> tuple[float, float, float]:
    """A rate with its 95 % interval (Clopper and Pearson 1934)."""
    interval = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    return hits / trials, interval.low, interval.high


def false_alarms(
    pairs: Floats, trials: int, *, process_s: float, budget_s: float, startup_s: float,
    floor: float, calibrated: bool, seed: int = SEED,
) -> tuple[int, int] | None:  # fmt: skip
    """(runs that call any kernel slower, those that call any faster), of runs of equal binaries.

    None where the budget has no room for a first look.
    """
    first = gate.first_look(pairs.shape[1], 2 * process_s, budget_s)
    if not first:
        return None
    source = Resampled(
        pairs, trials, np.random.default_rng(seed),
        process_s=process_s, budget_s=budget_s, startup_s=startup_s,
    )  # fmt: skip
    noise = noise_of(pairs) if calibrated else gate.no_noise
    verdict = gate.decide(source, first, floor, noise).verdict
    slower, faster = (int((verdict == v).any(axis=1).sum()) for v in (gate.SLOWER, gate.FASTER))
    return slower, faster
