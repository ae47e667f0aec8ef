# SPDX-License-Identifier: Apache-2.0
"""Is the backward-forward ratio 2 minus the first layer's share of the forward FLOP?

In FLOP it is, exactly; time is set beside it. Every network takes part, at its largest batch that
ran, without the update.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from triphase import charts
from triphase.records import Records, run_main

NAME = "ratio_by_share"
FLOP, TIME = "ratio_flop", "ratio_time"


def build(records: Records) -> alt.TopLevelMixin:
    steps = charts.counted_optimizer(records.steps).filter(
        pl.col("first_layer_share").is_not_null(), pl.col(FLOP).is_not_null()
    )
    if steps.is_empty():
        raise charts.NothingToPlot("no step tells its first layer's share")
    steps = largest_batches(steps)
    rows = charts.intervals(steps, TIME).select(
        "model", "model_name", "batch", "first_layer_share", FLOP, TIME, "low", "high"
    )
    order, colours, shapes = charts.families(rows["model_name"], ("LinearNet", "OneNet", "ConvNet"))
    colour = alt.Color("model_name:N", title="network", scale=colours, sort=order)
    shape = alt.Shape("model_name:N", title="network", scale=shapes, sort=order)
    x = alt.X(
        "first_layer_share:Q",
        title="first layer's share of the forward FLOP",
        scale=alt.Scale(domain=[-0.02, 1.02], nice=False),
        axis=alt.Axis(format="%", grid=False, values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
    )
    y = charts.ratio_y(rows, [FLOP, "high"], "backward / forward")

    base = alt.Chart(rows)
    law = alt.Chart(pl.DataFrame({"first_layer_share": [0.0, 1.0], "law": [2.0, 1.0]}))
    chart = alt.layer(
        law.mark_line(strokeDash=[6, 4], strokeWidth=1.5, color=charts.GREY).encode(
            x=x, y=y("law")
        ),
        base.mark_point(**charts.HOLLOW).encode(x=x, y=y(FLOP), color=colour, shape=shape),
        charts.timed_points(base, x, y, TIME, "model", colour=colour, shape=shape),
    ).properties(width=640, height=400)
    key = "dashed: 2 − share; hollow: FLOP; filled: measured time, 95 % interval where wider"
    heading = "Backward-forward ratio by the first layer's share, largest batch of each network"
    return charts.titled(chart, heading, charts.caption(records, steps, key))


def largest_batches(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per network: the largest batch that ran, or the largest if none ran."""
    return rows.sort(pl.col(TIME).is_not_null(), "batch").unique("model", keep="last").sort("model")


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__))
