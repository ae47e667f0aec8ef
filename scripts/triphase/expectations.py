# SPDX-License-Identifier: Apache-2.0
"""What the machine's ceilings let each phase expect, set against what was measured.

Rows carry a bound (what limits them), roofline_s (the time that it allows, nothing fitted) and
predicted_s (fitted on other networks). Here are their errors and shares over a file, and the
sentence by which a time ratio departs from its FLOP ratio. It measures nothing and judges no claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from triphase.records import Case, Records, total

PHASES = ("forward", "backward_data", "backward_weights", "update", "step")
BOUNDS = ("compute", "L1", "L2", "L3", "memory", "latency")
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


def _within(phase: str, whole: str) -> bool:
    return phase in PHASES[:-1] if whole == "step" else phase == whole


def explain_ratio(
    case: Case, phases: Iterable[str], flop: float, time: float, lower: Sequence[str] = ("forward",)
) -> str:
    """Why time(phases) / time(lower) is not flop(phases) / flop(lower), by bounds and prediction.

    Empty where the rows have no bounds.
    """
    upper = [phase for phase in phases if phase in case.phases]
    limits = [limit(case, phase) for phase in (*lower, *upper)]
    if not upper or "" in limits:
        return ""
    text = ", ".join(limits)
    allowed = quotient(case, "roofline_s", upper, lower)
    predicted = quotient(case, "predicted_s", upper, lower)
    if allowed is not None:
        text += f"; bounds alone would give {allowed:.2f}"
    if predicted is not None:
        text += f"; {account(flop, time, predicted)}"
    return text


def limit(case: Case, phase: str) -> str:
    """`forward is bound by L3 and takes 1.9 times its arithmetic`; empty where it is not known."""
    row, peak = case.phases.get(phase, {}), case.step.get("peak_flop_per_s")
    if not row.get("bound"):
        return ""
    text = f"{phase} is bound by {row['bound']}"
    if peak and row["flop"] and row["median_s"]:
        text += f" and takes {row['median_s'] * peak / row['flop']:.3g} times its arithmetic"
    return text


def quotient(case: Case, column: str, upper: Iterable[str], lower: Iterable[str]) -> float | None:
    """Sum of a column over some phases over that of others; None where one is missing."""
    sums = [
        None if any(total(case.phases, column, p) is None for p in phases)
        else total(case.phases, column, *phases)
        for phases in (tuple(upper), tuple(lower))
    ]  # fmt: skip
    return sums[0] / sums[1] if sums[0] is not None and sums[1] else None


def account(flop: float, time: float, predicted: float) -> str:
    """How much of the way from the ratio in FLOP to that in time the predicted ratio goes."""
    text = f"the prediction gives {predicted:.2f}, measured {time:.2f}"
    if abs(time - flop) < 0.005:
        return text
    share = (predicted - flop) / (time - flop)
    if share < 0:
        return f"{text}: it points the other way from {flop:.2f} in FLOP"
    return f"{text}: {share:.0%} of the departure from {flop:.2f} in FLOP".replace("%", " %")
