# SPDX-License-Identifier: Apache-2.0
"""Numbers as sentences and labels say them. What they mean is the business of who says it."""

from __future__ import annotations

import math


def show(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"


def si(value: float) -> str:
    """Three digits, a space and an SI prefix, ready for a unit: 3.4e11 is '340 G'."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} "
    power = min(max(math.floor(math.log10(abs(value)) / 3 + 1e-12), -4), 5)
    return f"{value / 1000.0**power:.3g} {'pnµm kMGTP'[power + 4].strip()}"


def plain(value: float) -> str:
    """A ratio: two decimals, or two digits where those would hide it."""
    return f"{value:z.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:z.{decimals}f} %"


def printable(text: str) -> str:
    """The text in one line, with what would move or colour a terminal's cursor written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
