# SPDX-License-Identifier: Apache-2.0
"""Draws the history of kernels: each run with its interval, the levels, and where they changed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from triphase.history_output import UNITS, add_db, add_kernel
from triphase.history_runs import microseconds
from triphase.track_errors import BadInput

if TYPE_CHECKING:
    import altair as alt

FORMATS = ("png", "svg", "html")
MOST_SERIES = 12  # in one picture
WIDTH, HEIGHT = 760, 240  # of a panel, in pixels; and so below
LABEL_SIZE, LABEL_ROW, LABEL_GAP = 13, 17, 14
LETTER = 7.6  # of a bold label, on the average and a little more
MOST_ROWS = 4  # of labels, one above the other

Row = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    add_kernel(parser, required=True)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=f"ends with .{', .'.join(FORMATS)}"
    )
    add_db(parser)


def run(options: argparse.Namespace) -> int:
    form = options.out.suffix.removeprefix(".")
    if form not in FORMATS:
        raise BadInput(
            f"--out: expected a file that ends with .{', .'.join(FORMATS)}, found {options.out}"
        )
    from triphase import charts
    from triphase import history_query as query
    from triphase.history_db import reading

    with reading(options.db) as connection:
        chosen = query.chosen_series(connection, options.kernel)
        rows = query.history(connection, chosen)
        changes = query.changes_of(connection, chosen)
    for path in charts.save(build(rows, changes), options.out.with_suffix(""), (form,)):
        print(path)
    return 0


def build(rows: list[Row], changes: list[Row]) -> alt.TopLevelMixin:
    """A panel for each series, from what `history` and `changes` say of them."""
    import altair as alt

    from triphase import charts
    from triphase.history_query import kernels

    ran = [row for row in rows if row["median_s"] is not None]
    panels = kernels(ran)
    if not panels:
        raise BadInput("--kernel: expected runs with a time, found none that ran")
    if len(panels) > MOST_SERIES:
        raise BadInput(
            f"--kernel: expected at most {MOST_SERIES} series in one picture, found {len(panels)}"
        )

    def of(some: list[Row], panel: tuple[str, str]) -> list[Row]:
        return [row for row in some if (row["kernel"], row["environment"]) == panel]

    drawn = [
        _panel(of(ran, panel), of(changes, panel)).properties(
            title=alt.TitleParams(
                panel[0], subtitle=f"environment {panel[1]}", anchor="start", fontSize=14
            )
        )
        for panel in panels
    ]
    key = "marks: runs with their 95 % intervals; lines: levels (medians); dashed: change points"
    first, last = min(row["time"] for row in ran), max(row["time"] for row in ran)
    heading = "History of kernels" if len(panels) > 1 else "History of a kernel"
    return charts.titled(
        alt.vconcat(*drawn, spacing=28), heading, [key, f"{first[:10]} to {last[:10]}, UTC"]
    )


def levels(rows: list[Row], changes: list[Row]) -> list[Row]:
    """From when to when a level lasted, and the median of its runs; one more than changes."""
    starts = ["", *(change["time"] for change in changes), "~"]  # before and after any ISO time
    found = []
    for start, end in pairwise(starts):
        within = [row for row in rows if start <= row["time"] < end]
        if within:
            seconds = median(row["median_s"] for row in within)
            found.append({"start": within[0]["time"], "end": within[-1]["time"], "level": seconds})
    return found


def label_rows(places: Sequence[float], texts: Sequence[str]) -> list[int]:
    """In which row each label stands, from 0 at the top, so that none hides another.

    places: where labels begin, in pixels and ascending. A row is taken where the labels before it
    have ended; where none has of MOST_ROWS, the one that ends first.
    """
    ends: list[float] = []
    rows = []
    for place, text in zip(places, texts, strict=True):
        row = next((at for at, end in enumerate(ends) if end <= place), len(ends))
        if row == MOST_ROWS:
            row = ends.index(min(ends))
        ends[row : row + 1] = [place + LETTER * len(text) + LABEL_GAP]
        rows.append(row)
    return rows


def _labels(changes: list[Row], rows: list[Row]) -> list[Row]:
    """Size and commit of each change, and its row; rows: the runs, whose times span the panel."""
    first, last = (microseconds(rows[at]["time"], "") for at in (0, -1))
    texts = [f"{c['percent']:+.1f} % {(c['commit'] or '')[:7]}".rstrip() for c in changes]
    places = [
        WIDTH * (microseconds(change["time"], "") - first) / max(last - first, 1)
        for change in changes
    ]
    return [
        {"time": change["time"], "text": text, "slower": change["percent"] > 0, "row": row}
        for change, text, row in zip(changes, texts, label_rows(places, texts), strict=True)
    ]


def _panel(rows: list[Row], changes: list[Row]) -> alt.LayerChart:
    import altair as alt
    import polars as pl

    from triphase import charts

    highest = max(row["ci95_high_s"] or row["median_s"] for row in rows)
    unit, size = next((u for u in UNITS if highest >= u[1]), UNITS[-1])
    runs = pl.DataFrame(
        [
            {
                "time": row["time"],
                "value": row["median_s"] / size,
                "low": (row["ci95_low_s"] or row["median_s"]) / size,
                "high": (row["ci95_high_s"] or row["median_s"]) / size,
                "commit": row["commit"] or "",
            }
            for row in rows
        ]
    )
    lasted = pl.DataFrame([{**x, "level": x["level"] / size} for x in levels(rows, changes)])
    labels = _labels(changes, rows)
    moved = pl.DataFrame(
        labels,
        schema={"time": pl.String, "text": pl.String, "slower": pl.Boolean, "row": pl.Int64},
    )
    low, high = runs["low"].min(), runs["high"].max()
    room = max(high - low, 0.02 * high)  # a level line in the middle, where nothing ever moved
    written = LABEL_ROW * (1 + max((label["row"] for label in labels), default=0)) + 8
    above = max(0.22, 1.1 * written / (HEIGHT - written))  # of the room: labels hide no mark
    scale = alt.Scale(domain=[max(0, low - 0.1 * room), high + above * room], nice=False)
    y_of = {name: alt.Y(f"{name}:Q", title=f"time ({unit})", scale=scale) for name in runs.columns}
    x = alt.X("time:T", title=None, scale=alt.Scale(type="utc"), axis=_dates(rows))
    colour = alt.condition("datum.slower", alt.value(charts.VERMILLION), alt.value(charts.GREEN))
    base = alt.Chart(runs)
    return alt.layer(
        alt.Chart(moved).mark_rule(strokeDash=[5, 4], strokeWidth=1.5).encode(x=x, color=colour),
        base.mark_rule(strokeWidth=1.5, color=charts.SKY).encode(x=x, y=y_of["low"], y2="high:Q"),
        base.mark_point(filled=True, size=34, color=charts.BLUE, opacity=1).encode(
            x=x, y=y_of["value"], tooltip=["time", "value", "low", "high", "commit"]
        ),
        alt.Chart(lasted)
        .mark_rule(strokeWidth=2.5, color=charts.BLACK)
        .encode(
            x=alt.X("start:T", title=None, axis=_dates(rows)),
            x2="end:T",
            y=alt.Y("level:Q", title=f"time ({unit})"),
        ),
        *(
            alt.Chart(moved.filter(pl.col("row") == row))
            .mark_text(align="left", dx=6, baseline="top", fontSize=LABEL_SIZE, fontWeight="bold")
            .encode(x=x, y=alt.value(4 + LABEL_ROW * row), text="text:N", color=colour)
            for row in sorted(set(moved["row"]))
        ),
    ).properties(width=WIDTH, height=HEIGHT)


def _dates(rows: list[Row]) -> alt.Axis:
    """Days, or minutes where all runs are of one day."""
    import altair as alt

    one_day = rows[0]["time"][:10] == rows[-1]["time"][:10]
    form = "%H:%M" if one_day else "%Y-%m-%d"
    return alt.Axis(format=form, tickCount=8, labelOverlap=True)
