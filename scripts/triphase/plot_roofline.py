# SPDX-License-Identifier: Apache-2.0
"""How near does each phase come to what arithmetic and memory allow?

The roofline (Williams, Waterman and Patterson, 2009), one panel a phase. A mark is one case's whole
network; lines are ceilings that were measured on this machine: the peaks of two kernels, and what
reading from a level allows, or, beside updates, reading and writing in place. A mark above the
slope of the memory found bytes in a cache; one below all lines is held up by something else, or by
the part of its layers that is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from triphase import charts
from triphase.expectations import phase_rows
from triphase.prose import si
from triphase.records import Records, run_main

NAME = "roofline"
PHASES = ("forward", "backward_data", "backward_weights", "update")
DASHES = {"gemm": [1, 0], "convolution": [8, 3], "L2": [2, 3], "L3": [6, 3], "memory": [1, 0]}
ROOFS, SLOPES = ("gemm", "convolution"), ("L2", "L3", "memory")
NAMED = 6  # marks of a panel that get a label, where there is room
WIDTH, HEIGHT = 430, 320
SIZE = 13  # of the type, in pixels


@dataclass(frozen=True)
class Ceiling:
    of: str
    value: float  # FLOP/s of a roof, bytes/s of a slope
    moved_by: str = "read"  # the kernel whose bytes a slope counts

    @property
    def label(self) -> str:
        what = f"{self.of} peak" if self.of in ROOFS else f"{self.moved_by} {self.of}"
        return f"{what} {si(self.value)}{'FLOP/s' if self.of in ROOFS else 'B/s'}"


@dataclass(frozen=True)
class Frame:
    """What all panels show: intensity from left to right, FLOP/s from bottom to top."""

    left: float
    right: float
    bottom: float
    top: float

    def pixel(self, intensity: float, flop_per_s: float) -> tuple[float, float]:
        """From the lower left corner."""
        across = math.log(intensity / self.left) / math.log(self.right / self.left)
        up = math.log(flop_per_s / self.bottom) / math.log(self.top / self.bottom)
        return across * WIDTH, up * HEIGHT

    @property
    def slope_degrees(self) -> float:
        """Of a bandwidth's line, against the horizontal."""
        x, y = self.pixel(self.left * 10, self.bottom * 10)
        return math.degrees(math.atan2(y, x))


def build(records: Records) -> alt.TopLevelMixin:
    reading = known_ceilings(records)
    updating = known_ceilings(records, "update")
    if not any(ceiling.of in SLOPES for ceiling in updating):
        updating = reading
    ceilings = [*reading, *updating]
    if not ceilings:
        raise charts.NothingToPlot("no ceilings are known here; triphase_ceilings measures them")
    marks = points(records)
    if marks.is_empty():
        raise charts.NothingToPlot("no phase with FLOP ran")
    frame = framed(marks, ceilings)
    order, _, shapes = charts.families(marks["network"], ("LinearNet", "OneNet", "ConvNet"))
    present = [phase for phase in PHASES if phase in marks["phase"]]
    panels = [
        panel(
            marks.filter(phase=phase),
            phase,
            updating if phase == "update" else reading,
            frame,
            (order, shapes),
        )
        for phase in present
    ]
    chart = alt.concat(*panels, columns=2, spacing=28)
    steps = records.steps.filter(pl.col("median_s").is_not_null())
    key = (
        "marks: one phase of a case (network ×batch size); lines: ceilings measured on this machine"
    )
    caption = charts.caption(records, steps, key)
    return charts.titled(chart, "Roofline by phase", [*caption, *speed(steps)])


def known_ceilings(records: Records, moved_by: str = "read") -> list[Ceiling]:
    """The peaks of arithmetic in the setting's dtype, and the bandwidths of a kernel by level.

    Of a level that was measured in several working sets a cache's is that of the smallest, which it
    holds for certain, and memory's that of the largest, of which no cache holds any.
    """
    setting = records.settings[0]
    dtype = "f32" if moved_by == "update" else setting.dtype  # in which updates compute
    found: dict[str, Ceiling] = {}
    for rate in sorted(records.ceilings(setting), key=lambda rate: rate["working_set_bytes"]):
        if rate["kernel"] in ROOFS and rate.get("dtype") == dtype:
            found[rate["kernel"]] = Ceiling(rate["kernel"], rate["value"])
        elif rate["kernel"] == moved_by and (level := rate.get("level")) in SLOPES:
            smallest = None if level == "memory" else found.get(level)
            found[level] = smallest or Ceiling(level, rate["value"], moved_by)
    return [found[of] for of in DASHES if of in found]


def points(records: Records) -> pl.DataFrame:
    """FLOP per byte and FLOP/s of each case and phase that has any FLOP, padded taps left out.

    Optimizers differ in the update alone, so the passes are shown with the first of them.
    """
    moved = pl.coalesce("traffic_bytes_planned", "traffic_bytes")
    counted = charts.counted_optimizer(records.steps)["optimizer"][0]
    shown = (pl.col("phase") == "update") | (pl.col("optimizer") == counted)
    return (
        phase_rows(records)
        .filter(pl.col("phase").is_in(PHASES), pl.col("flop_unpadded") > 0, moved > 0, shown)
        .select(
            "phase", "model", "batch", "optimizer", "bound",
            network="model_name",
            intensity=pl.col("flop_unpadded") / moved,
            flop_per_s=pl.col("flop_unpadded") / pl.col("median_s"),
        )
        .with_columns(name=pl.struct(pl.all()).map_elements(short, return_dtype=pl.String))
    )  # fmt: skip


def short(row: dict[str, Any]) -> str:
    """`DeeperConvNet(depth=20) ×4`, `OneNet ×1 Adam`: what a label says of a case."""
    name, _, parameters = row["model"].partition(":")
    optimizer = row["optimizer"].lower()
    other = "" if optimizer == "sgd" else f" {charts.OPTIMIZERS.get(optimizer, optimizer)}"
    return f"{name}{f'({parameters})' if parameters else ''} ×{row['batch']}{other}"


def speed(steps: pl.DataFrame) -> list[str]:
    """A line on why a mark may lie above its roof, where the machine's speed is known."""
    speeds = steps["arithmetic_speed"].drop_nulls()
    if speeds.is_empty():
        return []
    ends = dict.fromkeys(f"{speed:.2f}" for speed in (speeds.min(), speeds.max()))
    return [
        f"the machine's arithmetic ran at {' to '.join(ends)} times the speed that it had when the "
        "ceilings were measured"
    ]


def framed(marks: pl.DataFrame, ceilings: list[Ceiling]) -> Frame:
    roofs = [c.value for c in ceilings if c.of in ROOFS]
    slowest = min((c.value for c in ceilings if c.of in SLOPES), default=None)
    ridge = [max(roofs) / slowest] if roofs and slowest else []
    return Frame(
        left=marks["intensity"].min() / 2,
        right=2 * max([marks["intensity"].max(), *ridge]),
        bottom=marks["flop_per_s"].min() / 2,
        top=2.6 * max([marks["flop_per_s"].max(), *roofs]),
    )


def panel(
    marks: pl.DataFrame,
    phase: str,
    ceilings: list[Ceiling],
    frame: Frame,
    networks: tuple[list[str], alt.Scale],
) -> alt.LayerChart:
    order, shapes = networks
    x = alt.X(
        "intensity:Q",
        title="FLOP per byte (padded taps left out, planned traffic)",
        scale=alt.Scale(type="log", domain=[frame.left, frame.right], nice=False),
        axis=alt.Axis(format="~g", tickCount=6, labelOverlap="greedy"),
    )
    y = alt.Y(
        "flop_per_s:Q",
        title="FLOP/s reached",
        scale=alt.Scale(type="log", domain=[frame.bottom, frame.top], nice=False),
        axis=alt.Axis(format="~s", tickCount=5, labelOverlap="greedy"),
    )
    rows = marks.to_dicts()
    spots = [frame.pixel(row["intensity"], row["flop_per_s"]) for row in rows]
    lines: list[alt.Chart] = []
    texts: list[Text] = []
    for ceiling in ceilings:
        if ends := segment(ceiling, ceilings, frame):
            data = pl.DataFrame(ends, schema=["intensity", "flop_per_s"], orient="row")
            line = alt.Chart(data).mark_line(strokeWidth=1.6, strokeDash=DASHES[ceiling.of])
            lines.append(line.encode(x=x, y=y, color=alt.value(charts.GREY)))
            texts.append(beside(ceiling, ceilings, ends, frame, spots, texts))
    taken = [box for text in texts for box in text.boxes]
    for roof in (c.value for c in ceilings if c.of in ROOFS):
        _, height = frame.pixel(frame.left, roof)
        taken.append((0, height - 3, WIDTH, height + 3))
    layers = [*lines, *(part for text in texts for part in text.drawn())]
    tooltip = ["model", "batch", "optimizer", "bound", "intensity", "flop_per_s"]
    # Grey below, for a legend that is of no phase; the phase's colour over it.
    for colour in (charts.GREY, charts.PHASES[phase]):
        dots = alt.Chart(marks).mark_point(
            filled=True, size=80, opacity=1, stroke="white", strokeWidth=0.8, color=colour
        )
        named = alt.Shape("network:N", title="network", scale=shapes, sort=order)
        layers.append(dots.encode(x=x, y=y, shape=named, tooltip=tooltip))
    layers += [part for text in labels(rows, spots, taken) for part in text.drawn()]
    title = alt.TitleParams(phase, fontSize=14, anchor="start", offset=6)
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)


def segment(ceiling: Ceiling, ceilings: list[Ceiling], frame: Frame) -> list[tuple[float, float]]:
    """A ceiling's two ends: slopes end at the highest roof, roofs start at the steepest."""
    roofs = [c.value for c in ceilings if c.of in ROOFS]
    slopes = [c.value for c in ceilings if c.of in SLOPES]
    if ceiling.of in ROOFS:
        start = max(frame.left, ceiling.value / max(slopes)) if slopes else frame.left
        return [(start, ceiling.value), (frame.right, ceiling.value)]
    start = max(frame.left, frame.bottom / ceiling.value)
    end = min(frame.right, max(roofs, default=frame.top) / ceiling.value)
    return [(i, i * ceiling.value) for i in (start, end)] if start < end else []


# ---- where text has room: pixels from a panel's lower left corner


Spot = tuple[float, float]
Box = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True)
class Text:
    """A line of text from a point on, the middle of its height there; boxes are what it covers."""

    text: str
    x: float
    y: float
    degrees: float = 0.0
    colour: str = charts.BLACK

    @property
    def boxes(self) -> list[Box]:
        """Squares along it, since it may be turned."""
        across, up = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        half, length = 0.6 * SIZE, text_width(self.text)
        steps = [half + i * SIZE for i in range(max(1, math.ceil((length - 2 * half) / SIZE) + 1))]
        middles = [(self.x + s * across, self.y + s * up) for s in steps]
        return [(x - half, y - half, x + half, y + half) for x, y in middles]

    def drawn(self) -> list[alt.Chart]:
        """The text on a white halo that keeps it apart from the lines."""
        base = alt.Chart(pl.DataFrame({"label": [self.text]})).encode(
            x=alt.value(self.x), y=alt.value(HEIGHT - self.y)
        )
        style = {"text": self.text, "align": "left", "baseline": "middle", "fontSize": SIZE}
        style["angle"] = (360 - self.degrees) % 360
        halo = base.mark_text(**style, stroke="white", strokeWidth=4, opacity=0.85)
        return [halo, base.mark_text(**style, color=self.colour)]


def text_width(text: str) -> float:
    return 0.56 * SIZE * len(text)


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def around(spot: Spot) -> Box:
    """What a mark covers."""
    return spot[0] - 5, spot[1] - 5, spot[0] + 5, spot[1] + 5


def beside(
    ceiling: Ceiling,
    ceilings: list[Ceiling],
    ends: list[tuple[float, float]],
    frame: Frame,
    spots: list[Spot],
    placed: list[Text],
) -> Text:
    """A ceiling's label: of roofs above them all; of a slope along it, over no label that is placed
    where that can be had, and where fewest marks are.
    """
    length = text_width(ceiling.label)
    if ceiling.of in ROOFS:
        roofs = sorted(c.value for c in ceilings if c.of in ROOFS)
        _, highest = frame.pixel(frame.right, roofs[-1])
        up = highest + 0.9 * SIZE + 1.25 * SIZE * roofs.index(ceiling.value)
        return Text(ceiling.label, WIDTH - length - 4, up, colour=charts.GREY)
    below = ceiling.value == min(c.value for c in ceilings if c.of in SLOPES)
    degrees = frame.slope_degrees
    across, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offs = [-0.8 * SIZE] if below else [0.8 * SIZE, -0.8 * SIZE]
    (left, bottom), (right, top) = (frame.pixel(*end) for end in ends)
    room = max(0.0, math.hypot(right - left, top - bottom) - length - 2 * SIZE)
    candidates = [
        Text(
            ceiling.label,
            left + (SIZE + share * room) * across - off * up,
            bottom + (SIZE + share * room) * up + off * across,
            degrees,
            charts.GREY,
        )
        for off in offs
        for share in (0.03, 0.97, 0.85, 0.75, 0.5, 0.25)
    ]
    labelled = [box for text in placed for box in text.boxes]
    marked = [around(spot) for spot in spots]
    return min(candidates, key=lambda text: (hits(text, labelled), hits(text, marked)))


def hits(text: Text, others: list[Box]) -> int:
    return sum(any(overlap(box, other) for box in text.boxes) for other in others)


def labels(rows: list[dict[str, Any]], spots: list[Spot], taken: list[Box]) -> list[Text]:
    """Names of a few marks, none over a text or another mark: slowest, fastest, then from the ends
    of the intensities inwards.
    """
    by_speed = sorted(range(len(rows)), key=lambda i: rows[i]["flop_per_s"])
    by_intensity = sorted(range(len(rows)), key=lambda i: (rows[i]["intensity"], spots[i]))
    inwards = [i for pair in zip(by_intensity, reversed(by_intensity), strict=True) for i in pair]
    taken = [*taken, *map(around, spots)]
    placed: dict[str, Text] = {}
    for i in dict.fromkeys([by_speed[0], by_speed[-1], *inwards]):
        name, (x, y) = rows[i]["name"], spots[i]
        right, left = x + 8, x - 8 - text_width(name)
        up, down = y + 0.9 * SIZE, y - 0.9 * SIZE
        for start, middle in ((right, y), (left, y), (right, down), (left, up), (right, up)):
            text = Text(name, start, middle)
            inside = 0 <= start <= WIDTH - text_width(name)
            free = not any(overlap(box, other) for box in text.boxes for other in taken)
            if inside and free and name not in placed and len(placed) < NAMED:
                placed[name] = text
                taken += text.boxes
    return list(placed.values())


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__))
