# SPDX-License-Identifier: Apache-2.0
"""What the gate says: one row a kernel, what could not be compared, and the exit code. Pure.

Exit codes, the first that holds:
1  a kernel is slower; or failed with the new binary alone
3  inconclusive: a slowdown of 2.5 times the floor (5 % by default) cannot be excluded of some
   kernel; or a kernel has no time any more with the new binary
0  else: an inconclusive kernel whose interval ends below that is listed, and does not fail a build
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from triphase import gate
from triphase.gate import Decision, Floats
from triphase.prose import percent
from triphase.statuses import RAN
from triphase.track_rows import Run

LARGE = 2.5  # times the floor: a slowdown that an inconclusive kernel must exclude
ORDER = ("slower", "failed", "inconclusive", "faster", "same")
FAILED_LATER = "failed with new, then with base"
Rows = list[dict[str, Any]]


def kernel_rows(
    kernels: list[str], times: Mapping[str, Mapping[str, float]], decision: Decision,
    visible: list[float | None], noise: Floats,
) -> Rows:  # fmt: skip
    """The kernels of a single trial. times: seconds by side and kernel. noise, visible: relative.

    change, low and high are relative: 0.05 is 5 % slower; absent where they are not known.
    """
    rows = []
    for at, kernel in enumerate(kernels):
        low, high = float(decision.low[0, at]), float(decision.high[0, at])
        rows.append(
            {
                "kernel": kernel,
                "verdict": gate.VERDICTS[decision.verdict[0, at]],
                "change": relative(float(decision.estimate[0, at])),
                "low": relative(low),
                "high": relative(high),
                "pairs": int(decision.pairs[0, at]),
                "smallest_visible": visible[at],
                "noise": float(noise[at]) or None,
                "base_s": times["base"].get(kernel),
                "new_s": times["new"].get(kernel),
                "note": "suspected, but fresh pairs did not agree"
                if decision.unconfirmed[0, at] and decision.verdict[0, at] == gate.INCONCLUSIVE
                else None,
            }
        )
    return rows


def relative(logarithm: float) -> float | None:
    """Of a ratio's logarithm what it differs from one by; none where no float holds it."""
    most = math.log(sys.float_info.max)
    return math.expm1(logarithm) if -math.inf < logarithm < most else None


def not_compared(base: Run, new: Run) -> Rows:
    """Kernels that lack a time on a side, and those whose unit changed (which are compared)."""
    rows = {"base": {r.name: r for r in base.rows}, "new": {r.name: r for r in new.rows}}
    listed = []
    for name in dict.fromkeys([*rows["base"], *rows["new"]]):
        was, now = rows["base"].get(name), rows["new"].get(name)
        if was is None or now is None:
            present = now or was
            what = "added" if was is None else "removed"
            status = None if present.status in RAN else present.status
            listed.append(_listed(name, what, " ".join(filter(None, (status, present.reason)))))
        elif was.value_s is None or now.value_s is None:
            what = "failed" if "failed" in (was.status, now.status) else "skipped"
            with_base, with_new = was.value_s is not None, now.value_s is not None
            where = "with new" if with_base else "with base" if with_new else "with both"
            reason = (was if with_new else now).reason
            listed.append(_listed(name, f"{what} {where}", reason or ""))
        elif was.unit != now.unit:
            reason = f"from {was.unit} to {now.unit}; compared in seconds"
            listed.append(_listed(name, "unit changed", reason))
    return listed


def on_both_sides(listed: Rows, lost: Mapping[str, Collection[str]]) -> Rows:
    """Those that failed with new in the first pair, told apart by whether base failed later.

    lost: the sides on which a kernel had no time once.
    """
    return [
        row | {"what": FAILED_LATER}
        if row["what"] == "failed with new" and "base" in lost.get(row["kernel"], ())
        else row
        for row in listed
    ]


def _listed(kernel: str, what: str, reason: str) -> dict[str, Any]:
    return {"kernel": kernel, "what": what, "reason": reason or None}


def exit_code(rows: Rows, listed: Rows, floor: float) -> int:
    lost = {row["what"] for row in listed}
    if any(got_worse(row) for row in rows) or "failed with new" in lost:
        return 1
    if lost & {"removed", "skipped with new", FAILED_LATER} or any(
        open_question(row, floor) for row in rows
    ):
        return 3
    return 0


def got_worse(row: Mapping[str, Any]) -> bool:
    return row["verdict"] == "slower" or row.get("failed_with") == "new"


def open_question(row: Mapping[str, Any], floor: float) -> bool:
    """Has it no verdict, and may it have become much slower, as one that failed may?"""
    if row["verdict"] == "failed":
        return True
    high = row["high"]
    return row["verdict"] == "inconclusive" and (high is None or high >= LARGE * floor)


def summary(rows: Rows, listed: Rows) -> str:
    """`1 slower, 38 same, 1 inconclusive; 2 not compared`"""
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ORDER}
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    apart = sum(row["what"] != "unit changed" for row in listed)
    return (text or "nothing compared") + (f"; {apart} not compared" if apart else "")


# ---- text


def table(rows: Rows, listed: Rows, *, markdown: bool = False) -> str:
    """Rows by verdict, the largest change first; then what is not compared, with why."""
    ordered = sorted(rows, key=lambda r: (ORDER.index(r["verdict"]), -abs(r["change"] or 0)))
    header = ["kernel", "change", "95 % interval", "pairs", "sees", "verdict"]
    body = [
        [
            row["kernel"],
            _percent(row["change"]),
            _interval(row),
            str(row["pairs"]),
            "nothing" if row["smallest_visible"] is None else percent(row["smallest_visible"], 1),
            _verdict(row, markdown) + (f" ({row['note']})" if row["note"] else ""),
        ]
        for row in ordered
    ]
    lines = grid(header, body, markdown=markdown, right=range(1, 5)) if body else []
    if listed:
        lines += ["", "Not compared, or not as before:", *([""] if markdown else [])]
        cells = [[row["kernel"], row["what"], row["reason"] or ""] for row in listed]
        lines += grid(["kernel", "what", "why"], cells, markdown=markdown, right=())
    return "\n".join(lines)


def grid(
    header: list[str], body: list[list[str]], *, markdown: bool, right: Collection[int]
) -> list[str]:
    """The lines of a table, in columns or as Markdown; `right` lists the columns of numbers."""
    if markdown:
        body = [[cell.replace("|", "\\|") for cell in line] for line in body]
        rule = ["---:" if at in right else "---" for at in range(len(header))]
        return [f"| {' | '.join(line)} |" for line in (header, rule, *body)]
    widths = [max(len(line[at]) for line in (header, *body)) for at in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, *body)
    ]


def _verdict(row: Mapping[str, Any], markdown: bool) -> str:
    if row["verdict"] in ("slower", "failed"):
        return f"**{row['verdict']}**" if markdown else row["verdict"].upper()
    return row["verdict"]


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:+.1f} %"


def _interval(row: Mapping[str, Any]) -> str:
    return f"{_percent(row['low'])} … {_percent(row['high'])}"


def noise_line(known: int, kernels: int, source: str | None) -> str:
    if source is None:
        return (
            "The noise of this machine is not known, so that only the floor holds: "
            "scripts/track calibrate measures it, once."
        )
    return f"Noise: known of {known} of {kernels} kernels, from {source}."


def thresholds(noise: Any, pairs: np.ndarray, kernels: int) -> Floats:
    """The noise at each kernel's own number of pairs: [kernels]."""
    values = np.zeros(kernels)
    for count in np.unique(pairs):
        here = pairs == count
        values[here] = np.broadcast_to(noise(int(count)) if count else 0.0, (kernels,))[here]
    return values
