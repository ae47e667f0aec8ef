# SPDX-License-Identifier: Apache-2.0
"""How does the backward-forward ratio change with the batch size, in FLOP and in time?

Lines: nominal FLOP with the update above, as the post counts. Points: the same ratio of measured
time, with its 95 % interval. Shaded: the range that the post predicts.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from triphase import charts
from triphase.records import Records, run_main

NAME = "ratio_by_batch"
NETWORKS = ("LinearNet", "OneNet", "ConvNet")
POST_RANGE = (1.0, 3.0)


def build(records: Records) -> alt.TopLevelMixin:
    rows = charts.counted_optimizer(records.steps).filter(
        pl.col("model_name").is_in(NETWORKS), pl.col("ratio_flop_with_update").is_not_null()
    )
    if rows.is_empty():
        raise charts.NothingToPlot(f"no steps of {', '.join(NETWORKS)}")
    rows = charts.intervals(rows, "ratio_time_with_update").with_columns(
        flop_label=pl.lit("FLOP"), time_label=pl.lit("time, with 95 % interval")
    )
    batches = rows["batch"].unique().sort().to_list()
    highest = max(rows["ratio_flop_with_update"].max(), rows["high"].max() or 0)
    x = alt.X(
        "batch:Q",
        title="batch size (examples per step)",
        scale=alt.Scale(type="log", base=2, domain=_with_margin(batches), nice=False),
        axis=alt.Axis(values=batches, grid=False, format="d"),
    )
    y_scale = charts.ratio_scale(highest)
    order, colours, shapes = charts.families(rows["model_name"], NETWORKS)
    colour = alt.Color("model_name:N", title="network", scale=colours, sort=order)
    shape = alt.Shape("model_name:N", title="network", scale=shapes, sort=order)
    how = alt.StrokeDash(
        "flop_label:N", title=None, legend=alt.Legend(symbolType="stroke", symbolStrokeColor="black")
    )

    base = alt.Chart(rows.select("model_name", "batch", "ratio_flop_with_update",
                                 "ratio_time_with_update", "low", "high", "flop_label", "time_label"))
    y_title = "(backward + update) / forward"
    y = alt.Y("ratio_flop_with_update:Q", title=y_title, scale=y_scale)
    band = (
        alt.Chart(pl.DataFrame({"low": [POST_RANGE[0]], "high": [POST_RANGE[1]]}))
        .mark_rect(color=charts.SKY, opacity=0.15)
        .encode(y=alt.Y("low:Q", scale=y_scale, title=y_title), y2="high:Q")
    )
    lines = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, strokeDash=how)
    timed = base.transform_filter("isValid(datum.ratio_time_with_update)")
    bars = timed.mark_rule(strokeWidth=2).encode(x=x, y="low:Q", y2="high:Q", color=colour)
    points = timed.mark_point(filled=True, size=110, opacity=1, stroke="white", strokeWidth=1).encode(
        x=x,
        y=alt.Y("ratio_time_with_update:Q", title=y_title, scale=y_scale),
        color=colour,
        shape=shape,
        tooltip=["model_name", "batch", "ratio_flop_with_update", "ratio_time_with_update", "low", "high"],
    )
    chart = alt.layer(band, lines, bars, points).properties(width=640, height=400)
    title = "Backward-forward ratio by batch size: FLOP and measured time"
    return charts.titled(chart, title, charts.caption(records, rows))


def _with_margin(batches: list[int]) -> list[float]:
    return [batches[0] / 1.25, batches[-1] * 1.25]


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__))
