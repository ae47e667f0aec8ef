# SPDX-License-Identifier: Apache-2.0
"""How long does a step take in each peer, over ours, case by case?

Drawn from peers.json, which holds ratios paired by round; the other plots draw rows of steps.json.
Marks: the median over rounds, with the least and the greatest of them. The line at 1 is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from triphase import charts
from triphase.charts import NothingToPlot
from triphase.peers_schedule import PEERS, title
from triphase.peers_summary import dtypes

TUNED = "-tuned"
COLOURS = dict(zip((b.name for b in PEERS if not b.tuned), charts.PALETTE, strict=False))
HOW = ["as installed", "tuned"]
TICKS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64]


def points(document: Mapping[str, Any]) -> pl.DataFrame:
    """One row per case and peer that ran beside ours."""
    rows = [
        {
            "case": title(case),
            "peer": peer["backend"].removesuffix(TUNED),
            "how": HOW[peer["tuned"]],
            "ratio": peer["ratio"]["step"]["median"],
            "low": peer["ratio"]["step"]["min"],
            "high": peer["ratio"]["step"]["max"],
        }
        for case in document["cases"]
        for peer in case["peers"]
        if "step" in peer["ratio"]
    ]
    if not rows:
        raise NothingToPlot("no peer ran beside ours")
    return pl.DataFrame(rows)


def build(document: Mapping[str, Any]) -> alt.TopLevelMixin:
    rows = points(document)
    ran = set(rows["peer"])
    peers = [b.name for b in PEERS if not b.tuned and b.name in ran]
    cases = rows["case"].unique(maintain_order=True).to_list()
    slots = [f"{peer}, {how}" for peer in peers for how in HOW]
    rows = rows.with_columns(slot=pl.format("{}, {}", "peer", "how"))
    low, high = min(rows["low"].min(), 1) / 1.1, max(rows["high"].max(), 1) * 1.1
    scale = alt.Scale(type="log", base=2, domain=[low, high], nice=False)
    axis = alt.Axis(values=[t for t in TICKS if low <= t <= high], format="~g")
    heading = "step time over ours (above 1: the peer takes longer)"

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=heading, scale=scale, axis=axis)

    y = alt.Y("case:N", title=None, sort=cases, axis=alt.Axis(grid=True, labelLimit=260))
    offset = alt.YOffset("slot:N", sort=slots, scale=alt.Scale(domain=slots, paddingOuter=0.6))
    colour = alt.Color(
        "peer:N",
        title="peer",
        sort=peers,
        scale=alt.Scale(domain=peers, range=[COLOURS[peer] for peer in peers]),
    )
    shape = alt.Shape(
        "how:N",
        title="settings",
        sort=HOW,
        scale=alt.Scale(domain=HOW, range=["circle", "triangle-up"]),
    )
    base = alt.Chart(rows).encode(y=y, yOffset=offset)
    one = alt.Chart(pl.DataFrame({"one": [1.0]})).mark_rule(color=charts.BLACK, strokeWidth=2)
    chart = alt.layer(
        one.encode(x=x("one")),
        base.mark_rule(strokeWidth=2.5).encode(x=x("low"), x2="high:Q", color=colour),
        base.mark_point(filled=True, size=80, opacity=1, stroke="white", strokeWidth=0.8).encode(
            x=x("ratio"),
            color=colour,
            shape=shape,
            tooltip=["case", "slot", "ratio", "low", "high"],
        ),
    ).properties(width=640, height=alt.Step(7))
    torch = document["versions"].get("torch")
    by = f"; PyTorch {torch}" if torch else ""
    ours = document["backends"][0]["about"]
    setting = f"{document['threads']} threads, {dtypes(document['cases'])}, SGD{by}"
    return charts.titled(
        chart,
        "A training step in PyTorch, over ours",
        [
            f"marks: median over rounds, least to greatest; line: {ours}",
            f"{document['machine']}; {setting}; {document['date'][:10]}",
        ],
    )
