# SPDX-License-Identifier: Apache-2.0
"""How does the backward-forward ratio change with the batch size, in FLOP and in time?

Lines: nominal FLOP with the update above, as the post counts. Marks: the same ratio of measured
time, with its 95 % interval. Shaded: the range that the post predicts.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from triphase import charts
from triphase.records import Records, run_main

NAME = "ratio_by_batch"
NETWORKS = ("LinearNet", "OneNet", "ConvNet")
POST_RANGE = {"from": [1.0], "to": [3.0]}
STEP = 1.07  # by which the networks' marks are set apart sideways, lest they hide each other
FLOP, TIME = "ratio_flop_with_update", "ratio_time_with_update"


def build(records: Records) -> alt.TopLevelMixin:
    rows = charts.counted_optimizer(records.steps).filter(
        pl.col("model_name").is_in(NETWORKS), pl.col(FLOP).is_not_null()
    )
    if rows.is_empty():
        raise charts.NothingToPlot(f"no steps of {', '.join(NETWORKS)}")
    rows = charts.intervals(rows, TIME).select("model_name", "batch", FLOP, TIME, "low", "high")
    batches = rows["batch"].unique().sort().to_list()
    order, colours, shapes = charts.families(rows["model_name"], NETWORKS)
    colour = alt.Color("model_name:N", title="network", scale=colours, sort=order)
    shape = alt.Shape("model_name:N", title="network", scale=shapes, sort=order)
    x = alt.X(
        "batch:Q",
        title="batch size (examples per step)",
        scale=alt.Scale(
            type="log", base=2, domain=[batches[0] / 1.25, batches[-1] * 1.25], nice=False
        ),
        axis=alt.Axis(values=batches, grid=False, format="d", labelOverlap="greedy"),
    )
    y = charts.ratio_y(rows, [FLOP, "high"], "(backward + update) / forward")

    base = alt.Chart(rows)
    apart = base.transform_calculate(
        batch=f"datum.batch * pow({STEP}, indexof({order}, datum.model_name) - 1)"
    )
    predicted = alt.Chart(pl.DataFrame(POST_RANGE)).mark_rect(color=charts.SKY, opacity=0.16)
    chart = alt.layer(
        predicted.encode(y=y("from"), y2="to:Q"),
        base.mark_line(strokeWidth=2).encode(x=x, y=y(FLOP), color=colour),
        charts.timed_points(apart, x, y, TIME, colour=colour, shape=shape),
    ).properties(width=640, height=400)
    key = "lines: FLOP; marks: measured time, 95 % interval where wider; shaded: 1:1 to 3:1 (post)"
    caption = charts.caption(records, charts.counted_optimizer(records.steps), key)
    return charts.titled(chart, "Backward-forward ratio by batch size", caption)


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__))
