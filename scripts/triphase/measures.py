# SPDX-License-Identifier: Apache-2.0
"""The numbers that the post's claims are about, computed from rows; nothing is typed in by hand.

Each measure takes cases and returns one `Measured`: the same number counted as nominal FLOP, as
executed operations, as bytes and as time, with a clause that says from further numbers of those
rows why time lies where it does. It judges no claim; of several cases it takes the strongest
against a band. Missing rows raise NotMeasured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from triphase.expectations import NEAR, Part, account, departure, limits, near, part, quotient
from triphase.intervals import hull
from triphase.medians import interval
from triphase.picking import NotMeasured
from triphase.prose import plain, show, si
from triphase.records import BACKWARD, Case, Records, total

PASSES = ("forward", "backward_data", "backward_weights")
POST_ADAM_FLOP = 18  # the post's count per parameter, kept as a named alternative to ours

Row = dict[str, Any]
Band = tuple[float, float]  # closed


class Timed(NamedTuple):
    """A ratio of times, and its 95 % interval where there are samples enough for one."""

    value: float | None
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Measured:
    """One number, counted in four ways. None: not measured that way."""

    case: str
    flop: float | None
    flop_executed: float | None
    bytes: float | None
    why: str
    time: float | None = None
    time_ci95: tuple[float, float] | None = None
    timed: bool = True  # False where a time would mean nothing
    alternatives: dict[str, float] = field(default_factory=dict)


def counts(of: Callable[[str], float | None]) -> dict[str, float | None]:
    """One formula over the three columns that are counted rather than timed."""
    return {"flop": of("flop"), "flop_executed": of("flop_executed"), "bytes": of("traffic_bytes")}


def divide(upper: float | None, lower: float | None) -> float | None:
    return None if upper is None or not lower else upper / lower


def subtract(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def ratio(case: Case, *, update: bool) -> Measured:
    """Backward over forward, paired in time; `update` adds the update above, as the post does."""
    phases = (*BACKWARD, "update") if update else BACKWARD
    key = "ratio_time_with_update" if update else "ratio_time"
    low, high = case.step.get(f"{key}_ci95_low"), case.step.get(f"{key}_ci95_high")
    measured = Measured(
        case=str(case),
        **counts(
            lambda c: divide(total(case.phases, c, *phases), total(case.phases, c, "forward"))
        ),
        why="",
        time=case.step.get(key),
        time_ci95=None if low is None or high is None else (low, high),
    )
    return replace(measured, why=_explain_ratio(case, measured, phases))


def _explain_ratio(case: Case, measured: Measured, phases: Iterable[str]) -> str:
    """Which of FLOP, bounds, bytes or uneven speeds the time ratio follows, to NEAR.

    The identity behind it: time ratio = FLOP ratio x forward FLOP/s / backward FLOP/s.
    """
    flop, moved, time = measured.flop, measured.bytes, measured.time
    if not time or not flop or not moved:
        return f"{case} has no times here: {case.step.get('reason') or 'its step did not run'}"
    rates = ", ".join(filter(None, (rate(case, phase) for phase in ("forward", *phases))))
    if near(time, flop):
        text = f"time follows FLOP, with {rates}"
    elif bounds := departure(*_parts(case, phases), flop, time):
        text = f"{flop:.2f} in FLOP and {moved:.2f} in bytes is {time:.2f} in time: {bounds}"
    elif near(time, moved):
        text = (
            f"the time ratio {time:.2f} follows the byte ratio {moved:.2f} and not the FLOP ratio "
            f"{flop:.2f}, and {_intensities(case, ('forward', *phases))}"
        )
    else:
        text = f"uneven speeds turn {flop:.2f} in FLOP into {time:.2f} in time: {rates}"
    executed = measured.flop_executed
    if executed and not near(executed, flop):
        text += f"; counted as executed operations the ratio is {executed:.2f}"
    return text


def _parts(case: Case, phases: Iterable[str]) -> tuple[list[Part], list[Part]]:
    """What is below and what is above the line of a ratio."""
    return [part(case, "forward")], [part(case, phase) for phase in phases]


def rate(case: Case, phase: str) -> str:
    """How fast a phase runs, in words: by FLOP, but the update by bytes, which it is made of."""
    column, unit = ("traffic_bytes", "B/s") if phase == "update" else ("flop", "FLOP/s")
    speed = divide(total(case.phases, column, phase), total(case.phases, "median_s", phase))
    return f"{phase} at {si(speed)}{unit}" if speed else ""


def intensity(case: Case, phase: str) -> float | None:
    """FLOP per byte of compulsory traffic."""
    return divide(total(case.phases, "flop", phase), total(case.phases, "traffic_bytes", phase))


def _intensities(case: Case, phases: Iterable[str]) -> str:
    known = ((phase, intensity(case, phase)) for phase in phases)
    parts = [f"{show(x)} in {phase}" for phase, x in known if x is not None]
    return f"FLOP per byte are {', '.join(parts)}"


def update_share(case: Case) -> Measured:
    """Update over forward: what the weight update adds to the ratio."""
    update, forward = case.phases.get("update"), case.phases.get("forward")
    time, ci95 = paired([update], [forward])
    numbers = counts(
        lambda c: divide(total(case.phases, c, "update"), total(case.phases, c, "forward"))
    )
    why = _intensities(case, ("forward", "update"))
    if time is not None:
        why += f", so {show(numbers['flop'])} in FLOP is {show(time)} in time"
    if bounds := departure(*_parts(case, ["update"]), numbers["flop"], time):
        why += f": {bounds}"
    return Measured(str(case), **numbers, time=time, time_ci95=ci95, why=why)


def paired(upper: list[Row | None], lower: list[Row | None]) -> Timed:
    """Median over steps of sum(upper) / sum(lower); of medians where samples do not pair up.

    Of repetitions the median, and the hull of their intervals. Nothing if a row is missing, fused
    away or did not run.
    """
    rows = [*upper, *lower]
    if not upper or not lower or any(row is None or row["median_s"] is None for row in rows):
        return Timed(None)
    samples = [row["samples_s"] for row in rows]
    lengths = {tuple(map(len, of_row)) for of_row in samples}
    if len(lengths) != 1 or not all(*lengths):
        samples = [[[row["median_s"]]] for row in rows]
    known = [_paired(steps, len(upper)) for steps in zip(*samples, strict=True)]
    if Timed(None) in known:
        return Timed(None)
    return Timed(statistics.median(one.value for one in known), hull([one.ci95 for one in known]))


def _paired(samples: Sequence[Sequence[float]], cut: int) -> Timed:
    """Of one repetition, whose first `cut` series stand above the line."""
    ratios = [divide(sum(s[:cut]), sum(s[cut:])) for s in zip(*samples, strict=True)]
    return Timed(None) if None in ratios else Timed(statistics.median(ratios), interval(ratios))


def change(small_case: Case, large_case: Case) -> Measured:
    """Ratio with update at the larger batch minus that at the smaller.

    The two are separate measurements, so the half-widths of their intervals add in squares.
    """
    small, large = ratio(small_case, update=True), ratio(large_case, update=True)
    time, ci95 = subtract(large.time, small.time), None
    if time is not None and small.time_ci95 and large.time_ci95:
        down = math.hypot(large.time - large.time_ci95[0], small.time_ci95[1] - small.time)
        up = math.hypot(large.time_ci95[1] - large.time, small.time - small.time_ci95[0])
        ci95 = (time - down, time + up)
    return Measured(
        case=f"{small_case} to {large_case.batch}",
        flop=subtract(large.flop, small.flop),
        flop_executed=subtract(large.flop_executed, small.flop_executed),
        bytes=subtract(large.bytes, small.bytes),
        time=time,
        time_ci95=ci95,
        why=(
            f"the ratio goes from {show(small.flop)} to {show(large.flop)} in FLOP, from "
            f"{show(small.bytes)} to {show(large.bytes)} in bytes and from {show(small.time)} to "
            f"{show(large.time)} in time{_explain_change(small_case, large_case, small, large)}"
        ),
    )


def _explain_change(small_case: Case, large_case: Case, small: Measured, large: Measured) -> str:
    """What the prediction makes of the change, where a ratio's time departs from its FLOP."""
    parts = [_parts(case, (*BACKWARD, "update")) for case in (small_case, large_case)]
    before, after = (quotient("predicted_s", *both) for both in parts)
    ratios = (small.flop, large.flop, small.time, large.time)
    if before is None or after is None or not all(ratios):
        return ""
    if near(small.time, small.flop) and near(large.time, large.flop):
        return ""
    flop, time = large.flop - small.flop, large.time - small.time
    text = f"; in the prediction from {plain(before)} to {plain(after)}"
    if abs(time - flop) < (NEAR - 1) * small.flop:
        return text
    return f"{text}, {account(flop, time, after - before)}"


def growth(small: Case, large: Case, phase: str, *, per_example: bool = False) -> Measured:
    """One phase at the larger batch over the same at the smaller; per example if so asked."""
    scale = large.batch / small.batch if per_example else 1.0
    rows = [case.phases.get(phase) for case in (small, large)]
    if None in rows:
        raise NotMeasured(f"{small} and {large} lack rows of the {phase}")

    def over(column: str) -> float | None:
        return divide(rows[1][column], rows[0][column] and rows[0][column] * scale)

    time, ci95 = over("median_s"), growth_ci95(*rows, scale)
    why = (
        f"the {phase} does {show(intensity(small, phase))} FLOP per byte at batch {small.batch} "
        f"and {show(intensity(large, phase))} at {large.batch}"
    )
    if time is not None:
        why += f", and takes {si(rows[0]['median_s'])}s and {si(rows[1]['median_s'])}s"
    ends = ([part(case, phase, f"batch {case.batch}")] for case in (small, large))
    if bounds := departure(*ends, over("flop"), time, scale):
        why += f"; {bounds}"
    return Measured(f"{small} to {large.batch}", **counts(over), time=time, time_ci95=ci95, why=why)


def growth_ci95(below: Row, above: Row, scale: float) -> tuple[float, float] | None:
    """Of a ratio of two separate measurements: in logarithms, half-widths add in squares."""
    ends = ("median_s", "ci95_low_s", "ci95_high_s")
    if not all(row[end] for row in (below, above) for end in ends):
        return None
    (b, b_low, b_high), (a, a_low, a_high) = ([row[end] for end in ends] for row in (below, above))
    down = math.hypot(math.log(a / a_low), math.log(b_high / b))
    up = math.hypot(math.log(a_high / a), math.log(b / b_low))
    return a / b / scale * math.exp(-down), a / b / scale * math.exp(up)


def layer_ratio(case: Case, *, first: bool) -> Measured:
    """Backward over forward of the first layer, or of all others, by those with nominal FLOP."""
    layers = {
        name: rows
        for name, rows in case.layers.items()
        if total(rows, "flop", "forward") and (not total(rows, "flop", "backward_data")) == first
    }
    if not layers:
        raise NotMeasured(f"{case} has no layer rows here")
    phases = ("backward_weights",) if first else ("backward_data", "backward_weights")

    def summed(column: str, *phases: str) -> float | None:
        values = [total(rows, column, *phases) for rows in layers.values()]
        return None if None in values else sum(values)

    def speed(*phases: str) -> float | None:
        return divide(summed("flop", *phases), summed("median_s", *phases))

    backward = [rows.get(phase) for rows in layers.values() for phase in phases]
    time, ci95 = paired(backward, [rows.get("forward") for rows in layers.values()])
    why = "no input gradient is asked for" if first else "the input gradient doubles the work"
    if time is None:
        why += "; a part has no time of its own (fused away, or not marked)"
    elif None not in (speeds := [speed("forward"), speed(*phases)]):
        why += f"; forward runs at {si(speeds[0])}FLOP/s and backward at {si(speeds[1])}FLOP/s"
    numbers = counts(lambda c: divide(summed(c, *phases), summed(c, "forward")))
    of = {p: Part(p, [rows[p] for rows in layers.values() if p in rows]) for p in PASSES}
    if bounds := departure([of["forward"]], [of[p] for p in phases], numbers["flop"], time):
        why += f"; {bounds}"
    where = f"{case}, {' + '.join(layers)}"
    return Measured(where, **numbers, time=time, time_ci95=ci95, why=why)


def elementwise_share(case: Case) -> Measured:
    """ReLU and loss over all layers, forward and backward.

    The nominal count leaves element-wise work out, so executed operations stand in for FLOP.
    """
    words = ("relu", "loss", "entropy")
    rows = [row for layer in case.layers.values() for p, row in layer.items() if p in PASSES]
    small = [row for row in rows if any(w in (row["layer_kind"] or "").lower() for w in words)]
    if not small:
        raise NotMeasured(f"{case} has no layer rows of ReLU or loss here")

    def over(column: str) -> float | None:
        parts, whole = [row[column] for row in small], [row[column] for row in rows]
        return None if None in parts or None in whole else divide(sum(parts), sum(whole))

    fused = list(dict.fromkeys(row["layer"] for row in small if row["median_s"] is None))
    why = "nominal FLOP leave these layers out by definition, so executed operations are judged"
    if fused:
        why += f"; {', '.join(fused)} fused away, without a time"
    time, ci95 = paired(small, [case.phases[p] for p in PASSES if p in case.phases])
    if time is not None and (bound := limits([Part("this work", small)])):
        why += f"; {bound}"
    numbers = counts(over) | {"flop": None}
    return Measured(str(case), **numbers, time=time, time_ci95=ci95, why=why)


def per_parameter(case: Case) -> Measured:
    """What the update costs per parameter."""
    count = case.step.get("parameter_count")
    numbers = counts(lambda c: divide(total(case.phases, c, "update"), count))
    if numbers["flop"] is None:
        raise NotMeasured(f"{case} tells no parameter count, or has no update")
    why = (
        f"as it is computed here, {case.optimizer} takes {show(numbers['flop'])} FLOP and moves "
        f"{show(numbers['bytes'])} bytes per parameter"
    )
    return Measured(str(case), **numbers, why=why, timed=False)


def with_post_adam(case: Case) -> Measured:
    """The ratio with update, and beside it what the post's 18 FLOP per parameter would give."""
    measured = ratio(case, update=True)
    backward, forward = total(case.phases, "flop", *BACKWARD), total(case.phases, "flop", "forward")
    count = case.step.get("parameter_count")
    if backward is None or not forward or count is None:
        return measured
    value = (backward + POST_ADAM_FLOP * count) / forward
    return replace(
        measured,
        alternatives={f"flop_at_{POST_ADAM_FLOP}_per_parameter": value},
        why=f"{measured.why}; at {POST_ADAM_FLOP} FLOP per parameter the FLOP ratio is {value:.4g}",
    )


def worst(measured: list[Measured], band: Band) -> Measured:
    """Of several ratios, in each way of counting, the strongest case against a band."""
    if all(m.flop is None and m.time is None for m in measured):
        raise NotMeasured("none of these networks ran here")

    def worst_in(key: str) -> Measured | None:
        known = [m for m in measured if getattr(m, key) is not None]
        return max(known, key=lambda m: against(getattr(m, key), _ci95(m, key), band), default=None)

    flop, executed, moved, time = map(worst_in, ("flop", "flop_executed", "bytes", "time"))
    ways = (("FLOP", flop), ("executed operations", executed), ("bytes", moved), ("time", time))
    cases: dict[str, list[str]] = {}
    for way, one in ways:
        if one is not None:
            cases.setdefault(one.case, []).append(way)
    which = (f"{case} in {', '.join(found)}" for case, found in cases.items())
    why = f"the strongest case against {band[0]:g} to {band[1]:g} is {'; '.join(which)}"
    why += f". {time.case}: {time.why}" if time else ""
    return Measured(
        case=f"{len(measured)} case{'s' * (len(measured) != 1)}",
        flop=flop and flop.flop,
        flop_executed=executed and executed.flop_executed,
        bytes=moved and moved.bytes,
        why=why,
        time=time and time.time,
        time_ci95=time and time.time_ci95,
    )


def _ci95(measured: Measured, key: str) -> tuple[float, float] | None:
    """Counts are exact."""
    value = getattr(measured, key)
    return measured.time_ci95 if key == "time" else (value, value)


def against(
    value: float, ci95: tuple[float, float] | None, band: Band
) -> tuple[float, bool, float]:
    """How strong a case a number is against lying in a band; tuples that compare.

    First by how far the whole interval lies outside, then by whether any of it may, then by how far
    the number itself does (or is from doing so).
    """
    low, high = ci95 or (-math.inf, math.inf)
    apart = max(0.0, band[0] - high, low - band[1])
    across = low < band[0] or band[1] < high
    return apart, across, max(band[0] - value, value - band[1])


def all_ratios(records: Records, band: Band) -> Measured:
    """Every network with SGD, with the update."""
    return worst([ratio(case, update=True) for case in _cases_named(records, "")], band)


def resnets(records: Records, band: Band) -> Measured:
    return worst([ratio(case, update=False) for case in _cases_named(records, "resnet")], band)


def _cases_named(records: Records, start: str) -> list[Case]:
    names = records.steps["model_name"].unique(maintain_order=True)
    return [c for n in names if n.lower().startswith(start) for c in records.cases(n)]
