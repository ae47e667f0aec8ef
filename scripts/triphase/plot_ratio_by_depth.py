# SPDX-License-Identifier: Apache-2.0
"""Does depth bring the backward-forward ratio to 2:1, in FLOP and in time?

DeeperConvNet(N) over its number of intermediate convolutions, or, without it, the network that ran
at most values of its parameter `depth`. Without the update, which is negligible there. At the one
batch size that most depths share, so that only depth varies.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from triphase import charts
from triphase.records import Records, run_main

NAME = "ratio_by_depth"
FIRST = "DeeperConvNet"  # the study's
FLOP, TIME = "ratio_flop", "ratio_time"


def build(records: Records) -> alt.TopLevelMixin:
    steps = charts.counted_optimizer(records.steps).filter(
        pl.col("depth").is_not_null(), pl.col(FLOP).is_not_null()
    )
    network = deepest(steps)
    steps = steps.filter(model_name=network)
    batch = most_common_batch(steps)
    steps = steps.filter(batch=batch)
    rows = charts.intervals(steps, TIME).select(
        "model", "depth", FLOP, TIME, "low", "high",
        weights=pl.when("shared").then(pl.lit("one shared")).otherwise(pl.lit("independent")),
    )  # fmt: skip
    depths = rows["depth"].unique().sort().to_list()
    order, colours, shapes = charts.families(rows["weights"], ("independent", "one shared"))
    legend = alt.Legend() if len(order) > 1 else None
    title = "intermediate weights"
    colour = alt.Color("weights:N", title=title, scale=colours, sort=order, legend=legend)
    shape = alt.Shape("weights:N", title=title, scale=shapes, sort=order, legend=legend)
    x = alt.X(
        "depth:Q",
        title=f"{'intermediate convolutions' if network == FIRST else 'depth'} N "
        "(logarithmic above 1)",
        scale=alt.Scale(
            type="symlog", constant=1, domain=[-0.2, depths[-1] * 1.15 + 0.2], nice=False
        ),
        axis=alt.Axis(values=depths, grid=False, format="d", labelOverlap="greedy"),
    )
    y = charts.ratio_y(rows, [FLOP, "high"], "backward / forward")

    base = alt.Chart(rows)
    limit = alt.Chart(pl.DataFrame({"two": [2.0]}))
    chart = alt.layer(
        limit.mark_rule(strokeDash=[6, 4], color=charts.GREY).encode(y=y("two")),
        base.mark_line(strokeWidth=2, point=charts.HOLLOW).encode(x=x, y=y(FLOP), color=colour),
        charts.timed_points(base, x, y, TIME, "model", colour=colour, shape=shape),
    ).properties(width=640, height=360)
    key = (
        "line and hollow: FLOP; filled: measured time, 95 % interval where wider; "
        "dashed: the limit 2:1"
    )
    heading = f"Backward-forward ratio by depth: {network}(N), batch {batch}"
    return charts.titled(chart, heading, charts.caption(records, steps, key))


def deepest(steps: pl.DataFrame) -> str:
    """The study's network if it ran at two depths or more, else that of most depths."""
    depths = steps.group_by("model_name", maintain_order=True).agg(pl.col("depth").n_unique())
    several = dict(depths.filter(pl.col("depth") > 1).iter_rows())
    if not several:
        raise charts.NothingToPlot("no network ran at two values of a parameter 'depth' or more")
    return FIRST if FIRST in several else max(several, key=lambda name: several[name])


def most_common_batch(steps: pl.DataFrame) -> int:
    """The batch size that ran at most depths; the largest of equals."""
    ran = steps.filter(pl.col(TIME).is_not_null())
    some = steps if ran.is_empty() else ran
    counts = some.group_by("batch").agg(pl.col("depth").n_unique())
    return counts.sort("depth", "batch")["batch"][-1]


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__))
