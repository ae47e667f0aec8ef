# SPDX-License-Identifier: Apache-2.0
"""Where does the time of a step go, by phase and by layer?

Above: one bar a case, the phases as shares of the step. Below: one panel a case, a bar a layer, in
milliseconds. The cases are the smallest and the largest batch of each network (and of DeeperConvNet
the deepest only). A layer that was fused away has no time and no bar; its time is in the layer that
it is fused into.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from triphase import charts
from triphase.charts import PHASES
from triphase.records import Case, Records, run_main

NAME = "time_by_phase_and_layer"
FIRST = ("LinearNet", "OneNet", "ConvNet", "DeeperConvNet")
CASES = 6
LAYERS = 8  # a panel's most; what takes less is summed in one bar


def build(records: Records) -> alt.TopLevelMixin:
    cases = representatives(records)
    if not cases:
        raise charts.NothingToPlot("no step ran")
    present = [p for p in PHASES if any(p in case.phases for case in cases)]
    colour = alt.Color(
        "phase:N",
        sort=present,
        scale=alt.Scale(domain=present, range=[PHASES[p] for p in present]),
        legend=alt.Legend(orient="top", title=None, columns=len(present)),
    )
    by_phase = pl.DataFrame([row for case in cases for row in phase_times(case)])
    labels = by_phase["case"].unique(maintain_order=True).to_list()
    chart = (
        alt.Chart(by_phase)
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X(
                "share:Q",
                title="share of the step's time",
                axis=alt.Axis(format="%", tickCount=5),
                scale=alt.Scale(domain=[0, 1]),
            ),
            y=alt.Y("case:N", title=None, sort=labels, axis=alt.Axis(labelLimit=0)),
            color=colour,
            order=alt.Order("order:Q"),
            tooltip=["case", "phase", "ms", "share"],
        )
        .properties(width=600, height=alt.Step(28))
    )
    panels = [panel(case, colour) for case in cases if any(layer_times(case))]
    if panels:
        chart = alt.vconcat(chart, alt.concat(*panels, columns=2, spacing=28), spacing=36)
    ran = records.steps["median_s"].count()
    caption = charts.caption(
        records,
        records.steps.filter(pl.col("case").is_in([case.step["case"] for case in cases])),
        f"medians of {len(cases)} of the {ran} cases that ran; a fused-away layer's time stands "
        "with the layer that it is fused into",
    )
    return charts.titled(chart, "Time of a training step by phase and by layer", caption)


def representatives(records: Records) -> list[Case]:
    """The smallest and the largest batch of the first few networks, as far as they ran."""
    names = records.steps["model_name"].unique(maintain_order=True).to_list()
    names.sort(key=lambda n: FIRST.index(n) if n in FIRST else len(FIRST))
    optimizer = charts.counted_optimizer(records.steps)["optimizer"][0]
    chosen: list[Case] = []
    for name in names:
        ran = [case for case in records.cases(name, optimizer) if case.step.get("median_s")]
        same = [case for case in ran if case.model == ran[-1].model]
        chosen += same if len(same) < 2 else [same[0], same[-1]]
    return chosen[:CASES]


def phase_times(case: Case) -> list[dict]:
    times = {p: case.phases[p]["median_s"] for p in PHASES if p in case.phases}
    known = {p: t for p, t in times.items() if t is not None}
    whole = sum(known.values())
    return [
        {"case": f"{case} ({milliseconds(case.step['median_s'])})", "phase": phase,
         "ms": time * 1e3, "share": time / whole, "order": order}
        for order, (phase, time) in enumerate(known.items())
        if whole
    ]  # fmt: skip


def layer_times(case: Case) -> list[dict]:
    """Milliseconds by layer and phase; the small layers of a deep network summed in one."""
    times = {
        layer: {p: rows[p]["median_s"] for p in PHASES if p in rows and rows[p]["median_s"]}
        for layer, rows in case.layers.items()
    }
    times = {layer: phases for layer, phases in times.items() if phases}
    by_size = sorted(times, key=lambda layer: -sum(times[layer].values()))
    shown = set(by_size if len(by_size) <= LAYERS else by_size[: LAYERS - 1])
    rest = f"{len(times) - len(shown)} other layers"
    return [
        {"layer": layer if layer in shown else rest, "phase": phase, "ms": seconds * 1e3,
         "order": list(PHASES).index(phase)}
        for layer, phases in times.items()
        for phase, seconds in phases.items()
    ]  # fmt: skip


def panel(case: Case, colour: alt.Color) -> alt.Chart:
    rows = pl.DataFrame(layer_times(case))
    layers = rows["layer"].unique(maintain_order=True).to_list()
    layers.sort(key=lambda layer: layer.endswith("other layers"))
    return (
        alt.Chart(rows, title=alt.TitleParams(str(case), fontSize=14, anchor="start", offset=6))
        .mark_bar()
        .encode(
            x=alt.X("sum(ms):Q", title="ms per step", axis=alt.Axis(tickCount=5)),
            y=alt.Y("layer:N", title=None, sort=layers),
            color=colour,
            order=alt.Order("order:Q"),
            tooltip=["layer", "phase", "sum(ms)"],
        )
        .properties(width=290, height=alt.Step(20))
    )


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


if __name__ == "__main__":
    run_main(lambda: charts.main(NAME, build, __doc__))
