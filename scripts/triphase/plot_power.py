# SPDX-License-Identifier: Apache-2.0
"""Which slowdowns of one kernel does each rule see, and how often does it cry wolf?

Drawn from power.json. At 0 on the left: runs with any alarm where nothing has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from triphase import charts
from triphase.prose import percent

LEFT_OUT = ("ab, not calibrated",)  # beside ab it would hide it; power.md has it
WIDTH, HEIGHT = 220, 200


def build(document: Mapping[str, Any]) -> alt.TopLevelMixin:
    budgets = sorted({row["budget_s"] for row in document["rates"] if row["budget_s"]})
    rows = pl.DataFrame(
        [
            {
                "rule": row["rule"],
                "noise": f"noise {percent(row['pair_sd'], 1)}",
                "budget": f"{budget / 60:g} minutes",
                "effect": row["effect"],
                "rate": row["rate"],
                "low": row["low"],
                "high": row["high"],
            }
            for row in document["rates"]
            for budget in budgets
            if row["budget_s"] in (None, budget) and row["rule"] not in LEFT_OUT
        ]
    )
    rules = rows["rule"].unique(maintain_order=True).to_list()
    rules.sort(key=lambda rule: rule != "ab")
    colour = alt.Color(
        "rule:N", title="rule", sort=rules,
        scale=alt.Scale(domain=rules, range=charts.PALETTE[: len(rules)]),
    )  # fmt: skip
    shape = alt.Shape(
        "rule:N", title="rule", sort=rules,
        scale=alt.Scale(domain=rules, range=charts.SHAPES[: len(rules)]),
    )  # fmt: skip
    x = alt.X("effect:Q", title="slowdown of one kernel", axis=alt.Axis(format="%", tickCount=6))
    y = alt.Y(
        "rate:Q", title="runs that say so", scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", tickCount=5),
    )  # fmt: skip
    base = alt.Chart(rows).properties(width=WIDTH, height=HEIGHT)
    tooltip = ["rule", "noise", "budget", "effect", "rate", "low", "high"]
    layers = alt.layer(
        base.transform_filter("datum.effect > 0")  # a false alarm is another question
        .mark_line(strokeWidth=2)
        .encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
    )
    chart = layers.facet(
        column=alt.Column("noise:N", title=None),
        row=alt.Row("budget:N", title="time of ab"),
    )
    key = "at 0: runs with a false alarm on any kernel; else runs that name the slowed kernel"
    about = (
        f"{document['kernels']} kernels, {document['process_s']:g} s a process; "
        f"{document['source']}; noise: standard deviation of a pair"
    )
    return charts.titled(chart, "Slowdowns found, by rule", [key, about])
