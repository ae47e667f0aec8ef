# SPDX-License-Identifier: Apache-2.0
"""What the machine's ceilings let each phase expect, set against what was measured.

Rows carry roofline_s (the least time that ceilings allow their calls, nothing fitted), a bound
(what sets most of it) and predicted_s (fitted on other networks). Here are their errors and shares
over a file, and the sentence by which a time ratio departs from its FLOP ratio. It measures nothing
and judges no claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from triphase.prose import percent, plain
from triphase.records import Case, Records

PHASES = ("forward", "backward_data", "backward_weights", "update", "step")
BOUNDS = ("compute", "L1", "L2", "L3", "memory", "latency")
NEAR = 1.1  # the factor within which two ratios are called alike in an explanation
Row = dict[str, Any]


def phase_rows(records: Records) -> pl.DataFrame:
    """Every plain case that ran, by phase: the rows of whole networks, with the step."""
    cases = records.steps.filter(pl.col("median_s").is_not_null())["case"]
    return records.rows.filter(
        pl.col("layer").is_null(), pl.col("phase").is_in(PHASES), pl.col("median_s") > 0
    ).join(cases.to_frame().with_row_index("order"), on="case", maintain_order="right")


def predictions(records: Records) -> pl.DataFrame:
    """Those rows that were predicted, with `error` = |predicted / measured - 1|."""
    return (
        phase_rows(records)
        .filter(pl.col("predicted_s") > 0)
        .with_columns(error=(pl.col("predicted_s") / pl.col("median_s") - 1).abs())
    )


def errors(records: Records) -> list[Row]:
    """By phase: how many rows were predicted, and the median and 90th percentile of their error."""
    known = predictions(records)
    found = []
    for phase in PHASES:
        error = known.filter(phase=phase)["error"]
        if len(error):
            median, p90 = (error.quantile(q, interpolation="linear") for q in (0.5, 0.9))
            found.append({"phase": phase, "rows": len(error), "median": median, "p90": p90})
    return found


def bound_shares(records: Records) -> dict[str, dict[str, float]]:
    """By phase, the share of its time in rows of each bound; the shares of a phase sum to 1.

    By layer where a case has layer rows, else by the whole phase. Every case counts alike, lest the
    longest speak for all.
    """
    sums: dict[str, dict[str, float]] = {}
    for name in phase_rows(records)["case"].unique(maintain_order=True):
        case = records.case(name)
        rows = [row for layer in case.layers.values() for row in layer.values()]
        rows = [row for row in rows if row["bound"]] or list(case.phases.values())
        for phase in PHASES:
            some = [r for r in rows if r["bound"] and r["median_s"] and _within(r["phase"], phase)]
            whole = sum(row["median_s"] for row in some)
            for row in some:
                into = sums.setdefault(phase, dict.fromkeys(BOUNDS, 0.0))
                into[row["bound"]] += row["median_s"] / whole
    return {
        phase: {bound: share / sum(shares.values()) for bound, share in shares.items()}
        for phase, shares in sums.items()
    }


def above_ceiling(records: Records) -> tuple[int, float] | None:
    """How many rows of layers ran above their ceiling, and by what factor at most; None if none."""
    excess = records.rows.filter(pl.col("layer").is_not_null())["above_ceiling"].drop_nulls()
    return (len(excess), excess.max()) if len(excess) else None


def _within(phase: str, whole: str) -> bool:
    return phase in PHASES[:-1] if whole == "step" else phase == whole


# ---- why a ratio of times departs from its ratio of FLOP


class Part(NamedTuple):
    """Rows that an explanation speaks of as one, and their layers', which tell bounds apart."""

    name: str
    rows: Sequence[Row]
    layers: Sequence[Row] = ()


def part(case: Case, phase: str, name: str = "") -> Part:
    rows = [case.phases[phase]] if phase in case.phases else []
    layers = [layer[phase] for layer in case.layers.values() if phase in layer]
    return Part(name or phase, rows, layers)


def near(a: float, b: float) -> bool:
    return max(a, b) / min(a, b) < NEAR


def departure(
    lower: Sequence[Part],
    upper: Sequence[Part],
    flop: float | None,
    time: float | None,
    scale: float = 1.0,
) -> str:
    """By what bounds, and how far by the prediction, upper / lower / scale is not `flop` in time.

    Empty where it is so (to NEAR), or where the rows have no bounds.
    """
    if not flop or not time or near(time, flop):
        return ""
    text = limits([*lower, *upper])
    if not text:
        return ""
    allowed, predicted = (quotient(c, lower, upper, scale) for c in ("roofline_s", "predicted_s"))
    gives = [] if allowed is None else [f"bounds alone give {plain(allowed)}"]
    if predicted is not None:
        gives.append(f"the prediction gives {plain(predicted)}, {account(flop, time, predicted)}")
    return "; ".join([text, *gives])


def limits(parts: Sequence[Part]) -> str:
    """`forward is bound by L3 and takes 1.9 times its arithmetic, update by memory and 41 times`.

    Empty where a part's bound is not known.
    """
    known = [limit(one) for one in parts if one.rows]
    if not known or None in known:
        return ""
    (name, by, times), *others = known
    first = f"{name} is bound {by}" + (f" and takes {times} its arithmetic" if times else "")
    rest = (f"{name} {by}" + (f" and {times}" if times else "") for name, by, times in others)
    return ", ".join([first, *rest])


def limit(part: Part) -> tuple[str, str, str] | None:
    """A part's name, what bounds it (mostly, if not to NEAR all), its time over arithmetic's."""
    if any(row["bound"] is None or row["median_s"] is None for row in part.rows):
        return None
    time_s: dict[str, float] = {}
    for row in [row for row in part.layers if row["bound"] and row["median_s"]] or part.rows:
        time_s[row["bound"]] = time_s.get(row["bound"], 0.0) + row["median_s"]
    whole = sum(row["median_s"] for row in part.rows)
    if not whole:
        return None
    bound = max(time_s, key=lambda b: time_s[b])
    by = f"by {bound}" if sum(time_s.values()) < NEAR * time_s[bound] else f"mostly by {bound}"
    arithmetic_s = [row["arithmetic_s"] for row in part.rows]
    known = None not in arithmetic_s and sum(arithmetic_s)
    return part.name, by, f"{whole / sum(arithmetic_s):.3g} times" if known else ""


def quotient(
    column: str, lower: Sequence[Part], upper: Sequence[Part], scale: float = 1.0
) -> float | None:
    """Sum of a column over upper / lower / scale; None where a row lacks it."""
    above, below = ([row[column] for one in parts for row in one.rows] for parts in (upper, lower))
    if not above or None in above or None in below or not sum(below):
        return None
    return sum(above) / sum(below) / scale


def account(flop: float, time: float, predicted: float) -> str:
    """How much of the way from the number in FLOP to that in time the prediction goes.

    The two differ: a share of nothing would say nothing.
    """
    share = (predicted - flop) / (time - flop)
    if share < 0:
        return "which points the other way"
    return f"{percent(share)} of the departure" if share < 2 else f"{share:.2g} times the departure"
