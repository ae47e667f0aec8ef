# SPDX-License-Identifier: Apache-2.0
"""What all plots share: type sizes, colours, the caption, and writing PNG, SVG and offline HTML.

Colours are Okabe and Ito's, which differ also to colour-blind eyes; marks differ in shape as well.
A plot's own file holds its one question; `draw` runs it for every setting in a file.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Callable, Iterator
from pathlib import Path

import altair as alt
import polars as pl
import vl_convert

from triphase.files import write_atomic
from triphase.records import Records, load

Build = Callable[[Records], alt.TopLevelMixin]

FORMATS = ("png", "svg", "html")
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, BLACK, GREY = "#56B4E9", "#CC79A7", "#000000", "#6b6b6b"
PALETTE = [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK]
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right"]
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
PHASES = {  # in the order of a step, alike in every plot
    "forward": BLUE,
    "backward_data": ORANGE,
    "backward_weights": VERMILLION,
    "update": GREEN,
    "recompute": SKY,
    "all_reduce": PURPLE,
}
HOLLOW = {"filled": False, "size": 150, "strokeWidth": 1.5, "opacity": 1}  # a ratio of FLOP
FONT = "Arial, Liberation Sans, Helvetica, sans-serif"


class NothingToPlot(Exception):
    """These records do not hold what the plot shows; the message says what is missing."""


def counted_optimizer(steps: pl.DataFrame) -> pl.DataFrame:
    """The rows of SGD, as the post counts; of the first optimizer where there is no SGD."""
    lower = pl.col("optimizer").str.to_lowercase()
    sgd = steps.filter(lower == "sgd")
    if steps.is_empty():
        raise NothingToPlot("no whole steps")
    return steps.filter(optimizer=steps["optimizer"][0]) if sgd.is_empty() else sgd


def caption(records: Records, rows: pl.DataFrame, key: str) -> list[str]:
    """How to read the marks; on what they were measured, and when; what is to be doubted.

    `rows` are the steps of the cases that are shown.
    """
    dtypes = " and ".join(dict.fromkeys(setting.dtype for setting in records.settings))
    setting = records.settings[0]._replace(dtype=dtypes)
    optimizers = " and ".join(
        OPTIMIZERS.get(o.lower(), o) for o in rows["optimizer"].unique(maintain_order=True)
    )
    origin = f"{records.machine}; {setting}, {optimizers}; {records.context['date'][:10]}"
    return [key, origin, *doubts(rows)]


def doubts(steps: pl.DataFrame) -> list[str]:
    """A line on the cases that ran disturbed or unverified; none where none did."""
    ran = steps.filter(pl.col("median_s").is_not_null())
    doubtful = {
        "disturbed by other programs": ran["disturbed"].sum(),
        "not verified": (ran["status"] == "unverified").sum(),
    }
    found = [
        f"{count} of {len(ran)} cases {'was' if count == 1 else 'were'} {how}"
        for how, count in doubtful.items()
        if count
    ]
    return ["; ".join(found)] if found else []


def titled(chart: alt.TopLevelMixin, text: str, subtitle: list[str]) -> alt.TopLevelMixin:
    """The chart with its heading and the type sizes of all plots."""
    title = alt.TitleParams(
        text,
        subtitle=subtitle,
        anchor="start",
        fontSize=18,
        subtitleFontSize=13,
        subtitleColor=GREY,
        subtitlePadding=6,
        offset=14,
        font=FONT,
        subtitleFont=FONT,
    )
    return (
        chart.properties(title=title, padding=16, background="white")
        .configure(font=FONT)
        .configure_axis(
            labelFontSize=13,
            titleFontSize=14,
            titleFontWeight="normal",
            titlePadding=10,
            gridColor="#e8e8e8",
            domainColor=GREY,
            tickColor=GREY,
            labelLimit=260,
        )
        .configure_legend(
            labelFontSize=13,
            titleFontSize=13,
            titleFontWeight="normal",
            symbolSize=110,
            symbolOpacity=1,
            labelLimit=320,
            rowPadding=4,
        )
        .configure_header(labelFontSize=14, titleFontSize=14, labelFontWeight="bold")
        .configure_view(stroke=None)
    )


def intervals(rows: pl.DataFrame, point: str) -> pl.DataFrame:
    """Rows with `low` and `high`: a ratio's 95 % interval, or its point where there is none."""
    return rows.with_columns(
        low=pl.col(f"{point}_ci95_low").fill_null(pl.col(point)),
        high=pl.col(f"{point}_ci95_high").fill_null(pl.col(point)),
    )


def families(
    names: pl.Series, first: tuple[str, ...] = ()
) -> tuple[list[str], alt.Scale, alt.Scale]:
    """The networks in a fixed order, with the colour and the shape of each: 49 pairs of them."""
    present = names.unique(maintain_order=True).to_list()
    order = [n for n in first if n in present] + sorted(n for n in present if n not in first)
    rounds = [divmod(i, len(PALETTE)) for i in range(len(order))]
    return (
        order,
        alt.Scale(domain=order, range=[PALETTE[i] for _, i in rounds]),
        alt.Scale(domain=order, range=[SHAPES[(i + turn) % len(SHAPES)] for turn, i in rounds]),
    )


def ratio_y(rows: pl.DataFrame, columns: list[str], title: str) -> Callable[[str], alt.Y]:
    """The axis of ratios, the same for every mark of a plot: give it a column, get its encoding.

    Linear from 0, so that ratios can be read as lengths; by powers of two where one is far off.
    """
    highest = max(rows[column].max() or 0 for column in columns)
    if highest <= 10:
        scale = alt.Scale(domain=[0, max(3.5, highest * 1.05)], nice=False)
    else:
        scale = alt.Scale(type="log", base=2, nice=True)
    axis = alt.Axis(labelExpr="format(datum.value, '~g') + ':1'", tickCount=5)
    return lambda column: alt.Y(f"{column}:Q", title=title, scale=scale, axis=axis)


def timed_points(
    base: alt.Chart,
    x: alt.X,
    y: Callable[[str], alt.Y],
    point: str,
    family: str = "model_name",
    *,
    colour: alt.Color,
    shape: alt.Shape,
) -> alt.LayerChart:
    """Measured ratios: a mark of the network's shape before its interval, where that is wider."""
    timed = base.transform_filter(f"isValid(datum.{point})")
    bars = timed.mark_rule(strokeWidth=2.5, opacity=1)
    marks = timed.mark_point(filled=True, size=95, opacity=1, stroke="white", strokeWidth=1)
    return alt.layer(
        bars.encode(x=x, y=y("low"), y2="high:Q", color=colour),
        marks.encode(
            x=x, y=y(point), color=colour, shape=shape, tooltip=[family, point, "low", "high"]
        ),
    )


def save(chart: alt.TopLevelMixin, stem: Path, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """Writes stem.png, stem.svg and stem.html; the HTML holds its scripts and fetches nothing."""
    with alt.data_transformers.disable_max_rows():  # all lie in the file, however many
        spec = chart.to_dict()
    render: dict[str, Callable[[], str | bytes]] = {
        "png": lambda: vl_convert.vegalite_to_png(spec, scale=2),
        "svg": lambda: vl_convert.vegalite_to_svg(spec),
        "html": lambda: _page(vl_convert.vegalite_to_html(spec, bundle=True), spec),
    }
    return [write_atomic(stem.with_name(f"{stem.name}.{form}"), render[form]()) for form in formats]


def _page(page: str, spec: dict) -> str:
    """A browser's tab wants a title, and the text its encoding."""
    title = html.escape(spec["title"]["text"])
    return page.replace("<head>", f'<head>\n<meta charset="UTF-8">\n<title>{title}</title>', 1)


def draw(
    name: str,
    build: Build,
    records: Records,
    out: Path,
    formats: tuple[str, ...] = FORMATS,
    *,
    across: tuple[str, ...] = (),
) -> Iterator[Path | str]:
    """The files of a plot, or a line that says why there is none; for every setting a set.

    Settings that differ in the fields of `across` alone are drawn together.
    """
    for suffix, part in records.split(across):
        stem = f"{name}.{suffix}" if suffix else name
        try:
            yield from save(build(part), out / stem, formats)
        except NothingToPlot as reason:
            yield f"{stem}: not drawn, {reason}"


def main(
    name: str,
    build: Build,
    about: str | None,
    argv: list[str] | None = None,
    *,
    across: tuple[str, ...] = (),
) -> int:
    """The command line of every plot."""
    parser = argparse.ArgumentParser(prog=f"triphase.plot_{name}", description=about)
    parser.add_argument("steps", type=Path, metavar="steps.json")
    parser.add_argument("--out", type=Path, default=Path(), help="folder (default: this one)")
    parser.add_argument("--format", default=",".join(FORMATS), help="some of png,svg,html")
    options = parser.parse_args(argv)
    formats = tuple(options.format.split(","))
    if unknown := set(formats) - set(FORMATS):
        parser.error(f"--format: {', '.join(sorted(unknown))} is none of {', '.join(FORMATS)}")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out: expected a folder, found a file: {options.out}")
    for line in draw(name, build, load(options.steps), options.out, formats, across=across):
        print(line)
    return 0
