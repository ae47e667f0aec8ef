# SPDX-License-Identifier: Apache-2.0
"""How well do the machine's ceilings predict the time of each phase?

Predicted over measured time, a mark for each phase of each case; the step's are hollow. The factors
of the prediction were fitted to other networks, so this is a test of it and no fit.
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import polars as pl

from triphase import charts
from triphase.expectations import PHASES, errors, predictions
from triphase.prose import percent
from triphase.records import Records, run_main

NAME = "predicted"
BAND = 0.25  # shaded: so far off is still of use to explain a ratio
SECONDS = r"replace(format(datum.value, '~s'), /([nµm]?)$/, ' $1') + 's'"  # 100 µs, 1 s
COLOURS = charts.PHASES | {"step": charts.BLACK}


def build(records: Records) -> alt.TopLevelMixin:
    rows = predictions(records).select(
        "phase", "model", "batch", "optimizer", "bound", "error",
        measured=pl.col("median_s"), predicted=pl.col("predicted_s"),
    )  # fmt: skip
    if rows.is_empty():
        dtype = records.settings[0].dtype
        more = "" if dtype == "f32" else f" --remeasure --dtype=f32,{dtype}"
        raise charts.NothingToPlot(
            f"no row has a prediction; triphase_ceilings{more} calibrates one"
        )
    texts = {error["phase"]: error_text(error) for error in errors(records)}
    rows = rows.with_columns(text=pl.col("phase").replace_strict(texts))
    low = min(rows["measured"].min(), rows["predicted"].min()) / 1.5
    high = max(rows["measured"].max(), rows["predicted"].max()) * 1.5

    few = math.log10(high / low) < 2
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    decades = [m * 10.0**power for power in powers for m in ((1, 2, 5) if few else (1,))]

    def axis(field: str, title: str) -> dict:
        scale = alt.Scale(type="log", domain=[low, high], nice=False)
        ticks = alt.Axis(labelExpr=SECONDS, values=decades)
        return {"shorthand": f"{field}:Q", "title": title, "scale": scale, "axis": ticks}

    x = alt.X(**axis("measured", "measured time, median"))
    y = alt.Y(**axis("predicted", "predicted time"))
    present = [phase for phase in PHASES if phase in texts]
    colour = alt.Color(
        "text:N",
        title=["phase: median error, 90th percentile", "(number of marks)"],
        legend=alt.Legend(titleLimit=400),
        sort=[texts[phase] for phase in present],
        scale=alt.Scale(
            domain=[texts[phase] for phase in present], range=[COLOURS[p] for p in present]
        ),
    )
    ends = [low, high]
    band = pl.DataFrame(
        {"measured": ends, "predicted": [m * (1 - BAND) for m in ends],
         "most": [m * (1 + BAND) for m in ends]}
    )  # fmt: skip
    shaded = alt.Chart(band).mark_area(color=charts.SKY, opacity=0.2, clip=True)
    equal = pl.DataFrame({"measured": ends, "predicted": ends})
    tooltip = ["model", "batch", "optimizer", "phase", "bound", "measured", "predicted", "error"]
    marks = alt.Chart(rows)
    chart = alt.layer(
        shaded.encode(x=x, y=y, y2="most:Q"),
        alt.Chart(equal).mark_line(color=charts.GREY, strokeDash=[6, 4]).encode(x=x, y=y),
        marks.transform_filter("datum.phase == 'step'")
        .mark_point(filled=False, size=110, strokeWidth=1.4)
        .encode(x=x, y=y, color=colour, tooltip=tooltip),
        marks.transform_filter("datum.phase != 'step'")
        .mark_point(filled=True, size=60, opacity=0.85, stroke="white", strokeWidth=0.8)
        .encode(x=x, y=y, color=colour, tooltip=tooltip),
    ).properties(width=480, height=480)
    steps = records.steps.filter(pl.col("median_s").is_not_null())
    key = (
        f"dashed: equal; shaded: ±{round(BAND * 100)} %; hollow: the whole step; "
        "error: |predicted / measured − 1|"
    )
    caption = charts.caption(records, steps, key)
    return charts.titled(chart, "Predicted and measured time by phase", caption)


def error_text(error: dict[str, Any]) -> str:
    """`forward: 12 %, 34 % (26)`"""
    median, p90 = percent(error["median"]), percent(error["p90"])
    return f"{error['phase']}: {median}, {p90} ({error['rows']})"


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__))
