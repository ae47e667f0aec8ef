# SPDX-License-Identifier: Apache-2.0
"""The rules of other tools by which one results file is slower than another, for comparison. Pure.

Each takes the times of REPETITIONS processes a side, base: and new: [trials, kernels, repetitions],
and says which kernels it would call slower: [trials, kernels]. The repetitions of a side run one
after the other, as these tools have them: the base's file is made first, then the new one's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import mannwhitneyu

from triphase.gate import Floats, Mask

REPETITIONS = 9  # what compare.py asks for its test (UTEST_OPTIMAL_REPETITIONS)


def compare_py(base: Floats, new: Floats) -> Mask:
    """Google Benchmark's tools/compare.py, its U test: two-sided p < 0.05, by SciPy's default.

    It prints p and never fails a build; the alarm is where the median of new is the higher, too.
    """
    p = mannwhitneyu(new, base, alternative="two-sided", axis=-1).pvalue
    return (p < 0.05) & (np.median(new, axis=-1) > np.median(base, axis=-1))


def threshold(limit: float) -> Callable[[Floats, Floats], Mask]:
    """Two files and a threshold: the median of new exceeds that of base by more than the limit."""

    def rule(base: Floats, new: Floats) -> Mask:
        return np.median(new, axis=-1) > (1 + limit) * np.median(base, axis=-1)

    return rule


def nvbench(base: Floats, new: Floats) -> Mask:
    """NVBench's nvbench_compare.py: SLOW where the means differ by more than the smaller noise.

    Noise is the relative standard deviation (over n - 1) of a file's samples, which there are those
    of one process; here they are its repetitions.
    """
    was, now = base.mean(axis=-1), new.mean(axis=-1)
    noise = np.minimum(base.std(axis=-1, ddof=1) / was, new.std(axis=-1, ddof=1) / now)
    return (now - was) / was > noise


RULES: dict[str, Callable[[Floats, Floats], Mask]] = {
    "compare.py": compare_py,
    "threshold 5 %": threshold(0.05),
    "threshold 10 %": threshold(0.10),
    "NVBench": nvbench,
}
