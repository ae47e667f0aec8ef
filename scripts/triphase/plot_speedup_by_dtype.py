# SPDX-License-Identifier: Apache-2.0
"""How much faster than in f32 is each phase, of each layer, in another precision?

Above: the phases of the cases that ran in f32 and in the other precision. Below: those of the
layers of the longest cases. Right of 1 is faster, left of it slower. Ticks: the same ratio of the
times that the bounds allow, where the machine's ceilings are known in both precisions. Cases run
one after another, so a change of the machine's speed between them is in a bar.
"""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from triphase import charts
from triphase.records import Records, run_main

NAME = "speedup_by_dtype"
ACROSS = ("dtype",)
USUAL = "f32"
PHASES = {**charts.PHASES, "step": charts.GREY}
CASE = ["model", "batch", "optimizer", "backend", "threads"]  # which runs in several precisions
CASES = 8  # the longest, as are those of
PANELS = 4
LAYERS = 6
LANE = 8  # pixels of a bar


def build(records: Records) -> alt.TopLevelMixin:
    pairs = speedups(records)
    if pairs.is_empty():
        raise charts.NothingToPlot(f"no case ran in {USUAL} and in another precision")
    by_phase = pairs.filter(pl.col("layer").is_null())
    by_layer = pairs.filter(pl.col("layer").is_not_null())
    steps = by_phase.filter(phase="step")
    cases = longest(steps, "case", CASES)
    chart = bars(by_phase, "case", cases, width=600)
    panels = [
        bars(rows, "layer", longest(rows, "layer", LAYERS), width=280, title=case)
        for case in longest(steps, "case", PANELS)
        if len(rows := by_layer.filter(case=case))
    ]
    if panels:
        chart = alt.vconcat(chart, alt.concat(*panels, columns=2, spacing=28), spacing=36)
    key = f"time in {USUAL} / time; the longest {len(cases)} of {len(steps)} cases"
    if panels:
        key += f", and of layers the longest {LAYERS} at most"
    if pairs["allowed"].is_not_null().any():
        key += "; black ticks: as the bounds allow"
    both = records.steps.join(steps, on=CASE, how="semi", maintain_order="left")
    caption = charts.caption(records, both, key)
    return charts.titled(chart, f"Speedup over {USUAL} by phase and by layer", caption)


def speedups(records: Records) -> pl.DataFrame:
    """Every phase, and every layer's, timed in both: `speedup`, and what the bounds `allow`."""
    same = [*CASE, "layer", "phase"]
    rows = records.rows.filter(
        pl.col("case").is_in(records.steps["case"].to_list()),
        pl.col("phase").is_in(list(PHASES)),
        pl.col("median_s") > 0,
    ).select(*same, "dtype", "median_s", "roofline_s")
    usual, other = rows.filter(dtype=USUAL).drop("dtype"), rows.filter(pl.col("dtype") != USUAL)
    ratio = {"speedup": "median_s", "allowed": "roofline_s"}
    optimizer = pl.col("optimizer").replace(charts.OPTIMIZERS)
    return usual.join(
        other, on=same, suffix="_other", nulls_equal=True, maintain_order="right"
    ).with_columns(
        *(
            (pl.col(column) / pl.col(f"{column}_other")).alias(name)
            for name, column in ratio.items()
        ),
        case=pl.format("{} ×{} {}, {}", "model", "batch", optimizer, "dtype"),
    )


def longest(rows: pl.DataFrame, of: str, count: int) -> list[str]:
    """The values of a column whose rows take longest in f32, in the order that they have."""
    sums = rows.group_by(of, maintain_order=True).agg(pl.col("median_s").sum())
    chosen = set(sums.sort("median_s", descending=True)[of].head(count))
    return [value for value in sums[of] if value in chosen]


def bars(
    rows: pl.DataFrame, by: str, order: list[str], *, width: int, title: str | None = None
) -> alt.LayerChart:
    """A lane for each phase of each of `order`, from 1 to its speedup, on a logarithmic axis."""
    rows = rows.filter(pl.col(by).is_in(order)).select(by, "phase", "speedup", "allowed")
    present = [phase for phase in PHASES if phase in set(rows["phase"])]
    ticks = powers_of_two([*rows["speedup"], *rows["allowed"].drop_nulls()])
    fraction, whole = "(datum.value < 1 ? '1/' : '')", "max(datum.value, 1 / datum.value)"
    y = alt.Y(f"{by}:N", title=None, sort=order, scale=alt.Scale(paddingInner=0.25))
    lane = alt.YOffset("phase:N", scale=alt.Scale(domain=present))
    colour = alt.Color(
        "phase:N",
        title=None,
        scale=alt.Scale(domain=present, range=[PHASES[phase] for phase in present]),
        legend=None if title else alt.Legend(orient="top", columns=len(present)),
    )
    x = alt.X(
        "speedup:Q",
        title=f"times as fast as in {USUAL}",
        scale=alt.Scale(type="log", domain=[0.9 * ticks[0], 1.1 * ticks[-1]], nice=False),
        axis=alt.Axis(values=ticks, labelExpr=f"{fraction} + format({whole}, '~g') + '×'"),
    )
    base = alt.Chart(rows)
    speedup = base.mark_bar().encode(
        x=x, x2=alt.datum(1), y=y, yOffset=lane, color=colour,
        tooltip=[by, "phase", "speedup", "allowed"],
    )  # fmt: skip
    allowed = (
        base.transform_filter("isValid(datum.allowed)")
        .mark_tick(color=charts.BLACK, thickness=1.5, size=LANE)
        .encode(x="allowed:Q", y=y, yOffset=lane)
    )
    one = alt.Chart().mark_rule(color=charts.GREY).encode(x=alt.datum(1))
    return (
        alt.layer(speedup, allowed, one)
        .resolve_scale(color="independent")
        .properties(
            width=width,
            height=alt.Step(LANE),
            title=alt.TitleParams(title or "", fontSize=14, anchor="start", offset=6),
        )
    )


def powers_of_two(values: list[float]) -> list[float]:
    """At most nine or so ticks around 1 that span the values; 1/2 and 2 at least."""
    down = max(1, math.ceil(-math.log2(min(values))))
    up = max(1, math.ceil(math.log2(max(values))))
    step = math.ceil((down + up) / 8)
    return [2.0 ** (step * i) for i in range(-math.ceil(down / step), math.ceil(up / step) + 1)]


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__, across=ACROSS))
