# SPDX-License-Identifier: Apache-2.0
"""How does the backward-forward ratio change with the batch size, in FLOP and in time?

Lines: nominal FLOP with the update above, as the post counts. Filled marks: the same ratio of
measured time, with its 95 % interval. Shaded: the range that the post predicts.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from triphase import charts
from triphase.records import Records, run_main

NAME = "ratio_by_batch"
FIRST = ("LinearNet", "OneNet", "ConvNet")  # the study's, in its order
POST_RANGE = {"from": [1.0], "to": [3.0]}
STEP = 1.07  # by which the networks' marks are set apart sideways, lest they hide each other,
APART = 1.3  # and all together at most
FLOP, TIME = "ratio_flop_with_update", "ratio_time_with_update"


def build(records: Records) -> alt.TopLevelMixin:
    steps = charts.counted_optimizer(records.steps).filter(pl.col(FLOP).is_not_null())
    networks, left_out = swept(steps)
    steps = steps.filter(pl.col("model").is_in(networks))
    rows = charts.intervals(steps, TIME).select("model", "batch", FLOP, TIME, "low", "high")
    batches = rows["batch"].unique().sort().to_list()
    order, colours, shapes = charts.families(rows["model"], FIRST)
    colour = alt.Color("model:N", title="network", scale=colours, sort=order)
    shape = alt.Shape("model:N", title="network", scale=shapes, sort=order)
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
    step = min(STEP, APART ** (1 / max(1, len(order) - 1)))
    apart = base.transform_calculate(
        batch=f"datum.batch * pow({step}, indexof({order}, datum.model) - {(len(order) - 1) / 2})"
    )
    predicted = alt.Chart(pl.DataFrame(POST_RANGE)).mark_rect(color=charts.SKY, opacity=0.16)
    chart = alt.layer(
        predicted.encode(y=y("from"), y2="to:Q"),
        base.mark_line(strokeWidth=2, point=charts.HOLLOW).encode(x=x, y=y(FLOP), color=colour),
        charts.timed_points(apart, x, y, TIME, "model", colour=colour, shape=shape),
    ).properties(width=640, height=400)
    key = "lines and hollow: FLOP; filled: measured time, side by side at a batch size, with its "
    key += "95 % interval; shaded: 1:1 to 3:1 (post)"
    key += f"; {left_out} more networks are not shown" if left_out else ""
    caption = charts.caption(records, steps, key)
    return charts.titled(chart, "Backward-forward ratio by batch size", caption)


def swept(steps: pl.DataFrame) -> tuple[list[str], int]:
    """The networks at two batch sizes or more, or the study's; and how many find no colour."""
    batches = pl.col("batch").n_unique().over("model")
    study = pl.col("model_name").is_in(FIRST)
    names = steps.filter((batches > 1) | study)["model"].unique(maintain_order=True).to_list()
    if not names:
        raise charts.NothingToPlot("no network ran at two batch sizes or more")
    names.sort(key=lambda name: name not in FIRST)  # stable
    return names[: len(charts.PALETTE)], max(0, len(names) - len(charts.PALETTE))


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__))
