# SPDX-License-Identifier: Apache-2.0
"""How long a step takes elsewhere, over how long it takes here: peers.json and peers.md. Pure.

Two processes of one round ran within a minute or so of each other, which makes their ratio better
known than either time; so a ratio is the median over rounds of the ratio of the two medians.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from triphase.peers_rows import PHASES, Row
from triphase.peers_schedule import ALONE, OURS, PEERS, Backend, in_dtype, title

# seconds[case][backend][round][phase]: the median of one process
Seconds = Mapping[str, Mapping[str, Mapping[int, Mapping[str, float]]]]
Json = dict[str, Any]

TABLE = ("step", *(phase for phase in PHASES if phase != "step"))  # its columns
BUSY = 100  # involuntary switches a second, as triphase_steps warns
BUSY_TEXT = (
    "other programs took processors away, so that neither times nor ratios are to be trusted; "
    "run again when it is idle."
)
MEANS_KEY = (
    "After ×÷ the geometric standard deviation; in brackets least and greatest. Means over other "
    "cases are other means: a peer that ran in fewer cases is not to be held against the rest."
)
LAYER_PHASES = ("forward", "backward_data", "backward_weights")
LAYERS_KEY = (
    "Above 1 a layer takes longer within our step, where caches hold what training leaves in them, "
    "than the library's call that has them to itself. Geometric means over the case's layers."
)
FASTEST = {False: "fastest as installed", True: "fastest tuned"}


def paired_ratio(
    peer: Mapping[int, Mapping[str, float]], ours: Mapping[int, Mapping[str, float]], phase: str
) -> Json | None:
    """Of one phase, over the rounds in which both ran; None if there is none."""
    ratios = [
        peer[round_][phase] / ours[round_][phase]
        for round_ in sorted(peer.keys() & ours.keys())
        if phase in peer[round_] and ours[round_].get(phase, 0) > 0
    ]
    if not ratios:
        return None
    return {
        "median": statistics.median(ratios),
        "min": min(ratios),
        "max": max(ratios),
        "rounds": len(ratios),
    }


def geometric(values: Sequence[float]) -> Json:
    """Mean and standard deviation of the logarithms, raised again; no deviation of one value."""
    logs = [math.log(value) for value in values]
    result = {
        "cases": len(values),
        "mean": math.exp(statistics.fmean(logs)),
        "min": min(values),
        "max": max(values),
    }
    if len(values) > 1:
        result["deviation"] = math.exp(statistics.stdev(logs))
    return result


def build_case(
    identity: Json,
    seconds: Mapping[str, Mapping[int, Mapping[str, float]]],
    not_run: Mapping[str, tuple[str, str]],
    backends: Iterable[Backend],
    ours: Backend = OURS,
) -> Json:
    """One case: our step, each peer's, their ratio, and who is fastest."""
    here = seconds.get(ours.name, {})
    result: Json = identity | {"ours": _times(here) | _reason(not_run.get(ours.name))}
    peers = []
    for backend in backends:
        times = seconds.get(backend.name, {})
        if not times and backend.name not in not_run:
            continue
        peer: Json = {"backend": backend.name, "tuned": backend.tuned} | _times(times)
        peer |= _reason(not_run.get(backend.name))
        ratios = {phase: paired_ratio(times, here, phase) for phase in PHASES}
        peer["ratio"] = {phase: ratio for phase, ratio in ratios.items() if ratio}
        peers.append(peer)
    result["peers"] = peers
    for tuned, name in FASTEST.items():
        ran = [p for p in peers if p["tuned"] == tuned and "step" in p["ratio"]]
        if ran:
            best = min(ran, key=lambda peer: peer["ratio"]["step"]["median"])
            result[name.replace(" ", "_")] = best["backend"]
    return result


def _times(by_round: Mapping[int, Mapping[str, float]]) -> Json:
    times = {
        f"{phase}_s": statistics.median(t[phase] for t in by_round.values() if phase in t)
        for phase in PHASES
        if any(phase in t for t in by_round.values())
    }
    return {"rounds": len(by_round)} | times


def _reason(not_run: tuple[str, str] | None) -> Json:
    return {"status": not_run[0], "reason": not_run[1]} if not_run else {"status": "ran"}


def layers_alone(
    alone: Mapping[int, Sequence[Row]],
    ours: Mapping[int, Sequence[Row]],
    ended: tuple[str, str] | None,
) -> Json:
    """Our layers within their step over the library's calls alone, by phase and layer.

    The median over rounds of the ratio of two processes' medians, as for steps.
    """
    if ended:
        return {"layers_status": ended[0], "layers_reason": ended[1]}

    def times(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
        return {
            (row["layer"], row["phase"]): row["median_s"]
            for row in rows
            if "layer" in row and row.get("median_s")
        }

    ratios: dict[tuple[str, str], list[float]] = {}
    for round_ in sorted(alone.keys() & ours.keys()):
        theirs, here = times(alone[round_]), times(ours[round_])
        for key in theirs.keys() & here.keys():
            ratios.setdefault(key, []).append(here[key] / theirs[key])
    layers = [
        {"layer": layer, "phase": phase, "ratio": statistics.median(found)}
        for (layer, phase), found in sorted(ratios.items())
    ]
    return {"layers": layers}


def means(cases: Sequence[Json]) -> list[Json]:
    """For each dtype and peer, and for the fastest in each case: geometric means, by phase."""
    return [
        {"dtype": dtype} | mean
        for dtype in dict.fromkeys(case["dtype"] for case in cases)
        for mean in _means([case for case in cases if case["dtype"] == dtype])
    ]


def _means(cases: Sequence[Json]) -> list[Json]:
    series: dict[str, list[Json]] = {name: [] for name in FASTEST.values()}
    series |= {backend.name: [] for backend in PEERS}
    for case in cases:
        ratios = {peer["backend"]: peer["ratio"] for peer in case["peers"] if peer["ratio"]}
        for backend, ratio in ratios.items():
            series.setdefault(backend, []).append(ratio)
        for name in FASTEST.values():
            if best := case.get(name.replace(" ", "_")):
                series[name].append(ratios[best])
    result = []
    for name, ratios in series.items():
        phases = {
            phase: geometric([ratio[phase]["median"] for ratio in ratios if phase in ratio])
            for phase in PHASES
            if any(phase in ratio for ratio in ratios)
        }
        if phases:
            result.append({"backend": name, "phases": phases})
    return result


# ---- peers.md


def seconds_text(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if value >= scale * 0.9995:
            return f"{value / scale:.3g} {unit}" if value < 999.5 * scale else f"{value:.0f} s"
    return f"{value * 1e6:.3g} µs"


def ratio_text(ratio: Mapping[str, Any]) -> str:
    spread = f" ({ratio['min']:.2f}–{ratio['max']:.2f})" if ratio["rounds"] > 1 else ""
    return f"{ratio['median']:.2f}{spread}"


def mean_text(mean: Mapping[str, Any] | None) -> str:
    if mean is None:
        return "–"
    spread = f" ×÷ {mean['deviation']:.2f}" if "deviation" in mean else ""
    return f"{mean['mean']:.2f}{spread} ({mean['min']:.2f}–{mean['max']:.2f})"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in [heads, rule, *lines]]


def dtypes(cases: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(case["dtype"] for case in cases))


def markdown(document: Mapping[str, Any]) -> str:
    """The same for people: one table of steps, one of means, and what did not run."""
    cases, about = document["cases"], {b["name"]: b["about"] for b in document["backends"]}
    ours, *names = about
    ran = [
        n for n in names if any(p["backend"] == n and p["ratio"] for c in cases for p in c["peers"])
    ]
    switches = document.get("involuntary_switches_per_s", 0)
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    lines = [
        "# A training step in PyTorch, over the same step here",
        "",
        f"{document['machine']}; {document['threads']} threads, {dtypes(cases)}, SGD; {versions}; "
        f"{document['date'][:10]}.",
        *([] if document["complete"] else ["", "**This run was interrupted.**"]),
        *([] if switches <= BUSY else ["", f"**The machine was busy:** {BUSY_TEXT}"]),
        "",
        "Above 1 the peer takes longer. A ratio is the median over rounds of one process's median "
        "step over the other's; in brackets the least and the greatest of the rounds.",
        "",
        "## By case",
        "",
    ]
    rows = []
    for case in cases:
        ratios = {peer["backend"]: peer["ratio"].get("step") for peer in case["peers"]}
        best = {case.get(name.replace(" ", "_")) for name in FASTEST.values()}
        cells = [
            f"**{ratio_text(ratio)}**" if name in best else ratio_text(ratio) if ratio else "–"
            for name in ran
            for ratio in [ratios.get(name)]
        ]
        step = case["ours"].get("step_s")
        rows.append([title(case), "–" if step is None else seconds_text(step), *cells])
    lines += table(["case", f"{ours}, step", *ran], rows)
    lines += ["", "Bold: the fastest as installed and the fastest tuned of each case.", ""]
    if document["means"]:
        lines += ["## Geometric means over the cases", ""]
        lines += table(
            ["peer", "cases", *TABLE],
            (
                [
                    f"{mean['backend']}{in_dtype(mean)}",
                    str(max(phase["cases"] for phase in mean["phases"].values())),
                    *(mean_text(mean["phases"].get(phase)) for phase in TABLE),
                ]
                for mean in document["means"]
            ),
        )
        lines += ["", MEANS_KEY, ""]
    if rows := layer_lines(cases):
        lines += ["## Our layers within a step, over oneDNN's own call for each alone", ""]
        lines += table(["case", *LAYER_PHASES, "farthest behind"], rows)
        lines += ["", LAYERS_KEY, ""]
    lines += ["## What ran", ""]
    lines += [f"- `{name}`: {what}." for name, what in about.items()]
    lines += [f"- {line}" for line in document["notes"]]
    if not_run := reasons(cases, ours):
        lines += ["", "## What did not run", "", *(f"- {line}" for line in not_run)]
    return "\n".join(lines) + "\n"


def layer_lines(cases: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = []
    for case in cases:
        layers = case.get("layers", [])
        if not layers:
            continue
        cells = []
        for phase in LAYER_PHASES:
            ratios = [layer["ratio"] for layer in layers if layer["phase"] == phase]
            cells.append(mean_text(geometric(ratios)) if ratios else "–")
        worst = max(layers, key=lambda layer: layer["ratio"])
        said = f"{worst['layer']} {worst['phase']} {worst['ratio']:.2f}"
        lines.append([title(case), *cells, said])
    return lines


def reasons(cases: Sequence[Mapping[str, Any]], ours: str) -> list[str]:
    """Why what was asked for is missing, alike reasons in one line."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for case in cases:
        if "layers_reason" in case:
            key = (ALONE.name, case["layers_status"], case["layers_reason"])
            where.setdefault(key, []).append(title(case))
        for row in [{"backend": ours} | case["ours"], *case["peers"]]:
            if row["status"] != "ran":
                key = (row["backend"], row["status"], row["reason"])
                where.setdefault(key, []).append(title(case))
    return [
        f"{backend}, {status}: {reason} ({', '.join(titles)})"
        for (backend, status, reason), titles in where.items()
    ]
