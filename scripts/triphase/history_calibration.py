# SPDX-License-Identifier: Apache-2.0
"""How strong must evidence be, so that few series without a change show one?

    python -m triphase.history_calibration OUT.json     makes history_limit.json anew (a minute)

No nominal p-value: series without a change are read run by run, as history reads them, and the
limit is the strength that the stated share of them exceeds within the horizon. There are two
sources: `model_limit` simulates noise that is correlated more than most machines' (AR(1)), and is
where every environment begins; `fitted` resamples an environment's own noise in blocks, once it has
a history: the residuals of its series around their levels.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from triphase.files import write_atomic
from triphase.history_detect import MIN_RUNS, WINDOW, Limit, evidence

RATE = 0.05  # of series without a change, that show one ...
HORIZON = 100  # ... within so many runs
CORRELATION = 0.6  # of the model's noise: less correlated noise shows fewer false changes
SERIES = 1000
SEED = 20261122
BLOCK = 50  # runs that stay together in resampling: more than are looked back over
STORED = Path(__file__).with_name("history_limit.json")


def ar1(generator: np.random.Generator, correlation: float, runs: int) -> np.ndarray:
    """[runs] of noise with variance 1 and lag-1 correlation, stationary from its first value on."""
    noise = generator.standard_normal(runs)
    noise[1:] *= np.sqrt(1 - correlation**2)
    for i in range(1, runs):
        noise[i] += correlation * noise[i - 1]
    return noise


def model_series(correlation: float, series: int, seed: int) -> list[np.ndarray]:
    """Logarithms of times with 1 % of AR(1) noise and no change; series of [HORIZON]."""
    generator = np.random.default_rng([seed, round(1000 * correlation)])
    return [0.01 * ar1(generator, correlation, HORIZON) for _ in range(series)]


def strongest(logs: np.ndarray) -> float:
    """The strongest evidence that a series of logarithms shows at any of its runs."""
    ends = range(MIN_RUNS, len(logs) + 1)
    return max(evidence(logs[max(0, end - WINDOW) : end]).strength for end in ends)


def limit_from(unchanged: Iterable[np.ndarray], rate: float = RATE) -> Limit:
    """The strength that so many of the series without a change exceed; each of [HORIZON]."""
    strengths = [strongest(logs) for logs in unchanged]
    return Limit(float(np.quantile(strengths, 1 - rate)), rate, HORIZON)


def model_limit(series: int = SERIES) -> Limit:
    """The limit of an environment of which nothing is known."""
    return limit_from(model_series(CORRELATION, series, SEED))


def resampled(residuals: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[HORIZON] of a series' noise: blocks of residuals from random places, end joined to start."""
    starts = generator.integers(len(residuals), size=-(-HORIZON // BLOCK))
    places = (starts[:, None] + np.arange(BLOCK)) % len(residuals)
    return residuals[places].ravel()[:HORIZON]


def fitted(residuals: list[np.ndarray], series: int = SERIES, rate: float = RATE) -> Limit:
    """The limit for an environment, of whose series these are the residuals, an array each."""
    generator = np.random.default_rng(SEED)
    sources = (residuals[i % len(residuals)] for i in range(series))
    return limit_from((resampled(source, generator) for source in sources), rate)


def to_json(limit: Limit) -> str:
    return json.dumps(asdict(limit))


def from_json(text: str) -> Limit:
    return Limit(**json.loads(text))


def stored_limit() -> Limit:
    """That of the model, as `main` has written it."""
    return from_json(STORED.read_text())


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python -m triphase.history_calibration OUT.json", file=sys.stderr)
        return 2
    write_atomic(Path(argv[0]), to_json(model_limit()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
