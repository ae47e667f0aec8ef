# SPDX-License-Identifier: Apache-2.0
"""Reads NVBench's JSON and the performance lines of oneDNN's benchdnn.

NVBench (its json_printer): benchmarks, each with states; a state has a name, is_skipped and
summaries. Since file version 1 a summary is {tag, data: [{name, type, value}]} with numbers as
text; before, an object by title with `values`. benchdnn (its doc/knobs_perf_report.md): a line
'Output template: perf,...' names the fields of the lines 'perf,...' after it; times are in ms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triphase.prose import printable
from triphase.track_errors import BadInput
from triphase.track_rows import KernelRow, Run, bad_time, merge

# The time of a state, best first: isolated launches on the GPU, else a benchmark of the CPU alone.
NVBENCH_TIMES = (
    "nv/cold/time/gpu/median",
    "nv/cold/time/gpu/mean",
    "Average GPU Time (Cold)",
    "nv/cpu_only/time/cpu/median",
    "nv/cpu_only/time/cpu/mean",
)
TEMPLATE = "Output template: "
BENCHDNN_TIMES = ("%-time%", "%time%", "%0time%")  # the least, which is the default; else the mean
# What tells problems apart; not the implementation, so that a faster one is the same kernel.
BENCHDNN_IDENTITY = ("%engine%", "%driver%", "%name%", "%dir%", "%cfg%", "%attr%", "%desc%",
                     "%DESC%", "%prb%")  # fmt: skip
MANY_FIELDS = ("%prb%", "%desc%", "%DESC%")  # may hold commas, so that it takes what is left
NOT_RUN = re.compile(r"^\d+:(?P<what>SKIPPED|UNIMPLEMENTED|FAILED|INVALID_ARGUMENTS)(?P<rest>.*)$")


def is_nvbench(document: dict[str, Any]) -> bool:
    rows = document["benchmarks"]
    return "context" not in document and any(isinstance(r, dict) and "states" in r for r in rows)


def nvbench_run(path: Path, document: dict[str, Any]) -> Run:
    context = {key: document[key] for key in ("meta", "devices") if key in document}
    rows = []
    for index, benchmark in enumerate(document["benchmarks"]):
        where = f"{path}: benchmarks[{index}]"
        if not isinstance(benchmark, dict) or not isinstance(benchmark.get("name"), str):
            raise BadInput(f"{where}: expected an object with a name, found none")
        states = benchmark.get("states") or []
        if not isinstance(states, list):
            raise BadInput(f"{where}.states: expected an array, found {type(states).__name__}")
        for number, state in enumerate(states):
            rows.append(_nvbench_row(f"{where}.states[{number}]", benchmark["name"], state))
    names = [row.name for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"{path}: expected states that differ, found '{twice}' twice")
    return Run(context, rows)


def _nvbench_row(where: str, benchmark: str, state: Any) -> KernelRow:
    if not isinstance(state, dict):
        raise BadInput(f"{where}: expected an object, found {state!r}")
    label = state.get("name", state.get("description")) or ""
    name = f"{benchmark}/{label}" if label else benchmark
    if state.get("is_skipped"):
        reason = printable(str(state.get("skip_reason") or "its program gave no reason"))
        return KernelRow(name, "s", None, [], "skipped", reason)
    summaries = state.get("summaries")
    try:
        values = dict(_nvbench_values(summaries))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{where}.summaries: expected NVBench's summaries, found {error}") from error
    seconds = next((values[tag] for tag in NVBENCH_TIMES if tag in values), None)
    if seconds is None:
        return KernelRow(name, "s", None, [], "failed", f"it has none of {NVBENCH_TIMES[1]} …")
    if (wrong := bad_time(seconds)) is not None:
        return KernelRow(name, "s", None, [], "failed", wrong, values)
    return KernelRow(name, "s", seconds, [seconds], extra=values)


def _nvbench_values(summaries: Any) -> Iterator[tuple[str, float]]:
    """(tag, number) of each summary that is a number."""
    if isinstance(summaries, dict):  # before file version 1
        pairs = [(title, summary["values"]) for title, summary in summaries.items()]
    else:
        pairs = [(summary["tag"], summary.get("data") or []) for summary in summaries or []]
    for tag, data in pairs:
        for item in data:
            if item["name"] == "value" and item["type"] in ("float64", "int64"):
                yield tag, float("nan") if item["value"] is None else float(item["value"])


def csv_run(path: Path, text: str) -> Run:
    """The problems that benchdnn measured, and those that it did not run."""
    template: list[str] = []
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}: line {number}"
        if line.startswith(TEMPLATE):
            template = line.removeprefix(TEMPLATE).strip().split(",")
        elif line.startswith("perf,"):
            if not template:
                raise BadInput(
                    f"{where}: expected a line '{TEMPLATE}perf,...' before it, found none"
                )
            rows.append(_benchdnn_row(where, template, line.split(",")))
        elif (match := NOT_RUN.match(line)) is not None:
            status = "failed" if match["what"] in ("FAILED", "INVALID_ARGUMENTS") else "skipped"
            said, _, problem = match["rest"].partition("__REPRO:")
            reason = printable(" ".join([match["what"].lower().replace("_", " "), *said.split()]))
            if problem.strip():
                rows.append(KernelRow(problem.strip(), "ms", None, [], status, reason))
    if not rows:
        raise BadInput(
            f"{path}: expected Google Benchmark's JSON, NVBench's JSON or benchdnn's CSV, "
            "found text without lines 'perf,...'"
        )
    return Run({"executable": "benchdnn"}, merge(rows))


def _benchdnn_row(where: str, template: list[str], fields: list[str]) -> KernelRow:
    surplus = len(fields) - len(template)
    wide = next((at for at, name in enumerate(template) if name in MANY_FIELDS), None)
    if surplus < 0 or (surplus > 0 and wide is None):
        raise BadInput(
            f"{where}: expected {len(template)} fields as in the template, found {len(fields)}"
        )
    if surplus > 0:
        fields = [
            *fields[:wide], ",".join(fields[wide : wide + surplus + 1]),
            *fields[wide + surplus + 1 :],
        ]  # fmt: skip
    entries = dict(zip(template, fields, strict=True))
    name = " ".join(entries[key] for key in BENCHDNN_IDENTITY if entries.get(key))
    time = next((key for key in BENCHDNN_TIMES if key in entries), None)
    if not name or time is None:
        raise BadInput(f"{where}: expected a template with a problem and %-time%, found neither")
    try:
        seconds = float(entries[time]) / 1e3
    except ValueError as error:
        found = entries[time]
        raise BadInput(f"{where}: {time}: expected milliseconds, found '{found}'") from error
    if (wrong := bad_time(seconds)) is not None:
        return KernelRow(name, "ms", None, [], "failed", wrong, entries)
    return KernelRow(name, "ms", seconds, [seconds], extra=entries)
