# SPDX-License-Identifier: Apache-2.0
"""What is done with intervals, whoever measured them."""

from __future__ import annotations

from collections.abc import Sequence


def hull(intervals: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The least interval that holds them all; none where one is unknown."""
    if None in intervals:
        return None
    lows, highs = zip(*intervals, strict=True)
    return min(lows), max(highs)
