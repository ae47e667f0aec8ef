# SPDX-License-Identifier: Apache-2.0
"""Where does each network's step take longest, and where does it lose most against its bounds?

What a row loses is its time beyond roofline_s, which its bound allows. triphase_steps --explain
says it of every layer and phase; here are the largest of each case.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import polars as pl

from triphase.prose import percent, si
from triphase.records import Case, Records

CASES = 12  # shown, the longest

Row = dict[str, Any]


class Largest(NamedTuple):
    """Of a case the row of a layer's phase that takes longest, and the one that loses most."""

    case: str
    step_s: float
    longest: Row
    loses_most: Row | None  # None where no ceilings are known, or nothing is lost


def largest(records: Records) -> list[Largest]:
    """The longest cases that have rows of layers, the longest first."""
    ran = records.steps.filter(pl.col("median_s") > 0).sort("median_s", descending=True)
    found = (of_case(records.case(name)) for name in ran["case"])
    return list(itertools.islice(filter(None, found), CASES))


def of_case(case: Case) -> Largest | None:
    rows = [row for layer in case.layers.values() for row in layer.values() if row["median_s"]]
    if not rows:
        return None
    worst = max(rows, key=lost_s)
    return Largest(
        f"{case}, {case.optimizer}",
        case.step["median_s"],
        max(rows, key=lambda row: row["median_s"]),
        worst if lost_s(worst) > 0 else None,
    )


def lost_s(row: Row) -> float:
    """Seconds beyond what the bound allows; 0 where none is known."""
    return 0.0 if row["roofline_s"] is None else max(0.0, row["median_s"] - row["roofline_s"])


def section(records: Records) -> list[str]:
    """For findings.md; nothing where no layer was timed."""
    if not (found := largest(records)):
        return []
    lines = [
        "",
        "### Where the time goes",
        "",
        "Of each case the phase of a layer that takes longest, and the one that loses most: its "
        "time beyond what its bound allows. `triphase_steps --explain` lists them all.",
        "",
        "| case | step | longest | of the step | loses most | beyond its bound | of the step |",
        "|---|--:|---|--:|---|--:|--:|",
    ]
    for one in found:
        cells = [
            one.case,
            f"{si(one.step_s)}s",
            f"{one.longest['layer']} {one.longest['phase']}",
            percent(one.longest["median_s"] / one.step_s),
        ]
        if (worst := one.loses_most) is None:
            cells += ["–"] * 3
        else:
            cells += [
                f"{worst['layer']} {worst['phase']}",
                f"{si(lost_s(worst))}s ({worst['bound']})",
                percent(lost_s(worst) / one.step_s),
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
