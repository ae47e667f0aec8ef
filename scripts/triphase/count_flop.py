# SPDX-License-Identifier: Apache-2.0
"""How many FLOP does a GPU count in a training step, layer by layer, beside what formulas say?

Nsight Compute reads the GPU's counters while triphase_steps launches each of a step's groups once,
call by call and each under the name of its layers and phase. triphase_cost gives the formulas. A
group that computes several layers (a ReLU within a product, the updates of small parameters) is one
row, against the sum of what these layers' formulas say.

The JSON: `schema`, `date`, `ncu`, `gpu`, `counters` (what was read: `name`, `unit`, and the `flop`
that one counts) and `cases`. A case has `model`, `batch`, `dtype`, `optimizer`, `backend`, `status`
(ok, skipped or failed, with a `reason`), `rows`, `totals` by phase, and `ratio`, backward over
forward. A row has `layers`, `phase`, `flop` and `flop_executed` as everywhere, `flop_counted`,
`flop_counted_by` unit, `counted_over_executed`, and `kernels`, each with `name` and `flop_counted`;
`tensor_uncounted` is true where tensor cores did what no counter tells. What ran no kernel has no
`flop_counted`.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from triphase import ncu
from triphase.files import write_atomic
from triphase.ncu import CannotCount, Counter, Kernel, Ncu, Unreadable
from triphase.processes import ROOT, run
from triphase.prose import plain, si
from triphase.statuses import RAN
from triphase.stopping import run_command
from triphase.track_arguments import check_writable
from triphase.track_errors import BadInput

Row = dict[str, Any]
FORMULAS = ("flop", "flop_executed")
COUNTS = (*FORMULAS, "flop_counted")
BACKWARD = ("backward_data", "backward_weights")
PHASES = ("forward", *BACKWARD, "update")
AXES = ("model", "batch", "dtype", "optimizer")
NOTES = """\
Above 1 the GPU does more than a plain reference would: tiles reach beyond the edges, padding is
multiplied, a scaling follows each product. Below 1 it does what no counter sees: comparisons,
maxima, and special-function instructions, which divisions, exponentials, logarithms and square
roots are in part."""


# ---- joining


def join(cost: Mapping[str, Any], kernels: Iterable[Kernel]) -> list[Row]:
    """Rows by phase, then in the network's order: what kernels counted, beside the formulas."""
    formulas = {(x["name"], phase): c for x in cost["layers"] for phase, c in x["phases"].items()}
    by_group: dict[Any, list[Kernel]] = {}
    for kernel in kernels:
        if kernel.group:
            by_group.setdefault(kernel.group, []).append(kernel)
    for layers, phase in by_group:
        for layer in layers:
            if (layer, phase) not in formulas:
                raise Unreadable(
                    f"a kernel ran for {layer}, {phase}, of which triphase_cost knows nothing: "
                    "both programs must be of one build"
                )
    rows = []
    for phase in PHASES:
        order = [layer for layer, its_phase in formulas if its_phase == phase]
        for layers in united([set(group[0]) for group in by_group if group[1] == phase], order):
            own = [k for (group, its_phase), ks in by_group.items() for k in ks
                   if its_phase == phase and layers.issuperset(group)]  # fmt: skip
            row = _row([x for x in order if x in layers], phase, formulas, own)
            if own or row["flop_executed"]:
                rows.append(row)
    return rows


def united(sets: Iterable[set[str]], order: Iterable[str]) -> list[set[str]]:
    """The least sets that hold each of `sets` whole and each of `order` once, in that order."""
    result = [{name} for name in order]
    for some in sets:
        touched = [s for s in result if s & some]
        result[result.index(touched[0])] = set().union(*touched)
        result = [s for s in result if s not in touched[1:]]
    return result


def _row(layers: list[str], phase: str, formulas: Mapping[Any, Any], kernels: list[Kernel]) -> Row:
    row: Row = {"layers": layers, "phase": phase}
    row |= {key: sum(formulas[layer, phase][key] for layer in layers) for key in FORMULAS}
    if not kernels:
        return row
    row["flop_counted"] = sum(k.total for k in kernels)
    row["flop_counted_by"] = {
        unit: sum(k.flop.get(unit, 0) for k in kernels)
        for unit in dict.fromkeys(unit for k in kernels for unit in k.flop)
    }
    if row["flop_executed"]:
        row["counted_over_executed"] = row["flop_counted"] / row["flop_executed"]
    if any(k.tensor_uncounted for k in kernels):
        row["tensor_uncounted"] = True
    return row | {"kernels": [{"name": k.name, "flop_counted": k.total} for k in kernels]}


def sums(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """By phase."""
    totals: dict[str, dict[str, int]] = {}
    for row in rows:
        total = totals.setdefault(row["phase"], dict.fromkeys(COUNTS, 0))
        for key in COUNTS:
            total[key] += row.get(key, 0)
    return totals


def ratios(totals: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Backward over forward."""
    found = {}
    for key in COUNTS:
        backward = sum(totals[phase][key] for phase in BACKWARD if phase in totals)
        if forward := totals.get("forward", {}).get(key):
            found[key] = backward / forward
    return found


# ---- counting


def cost_of(binaries: Path, case: Mapping[str, Any]) -> dict[str, Any]:
    """What triphase_cost says; BadInput, in its own words, where it refuses."""
    done = run([str(binaries / "triphase_cost"), *flags(case), "--format=json"])
    if done.code:
        lines = done.error.strip().splitlines()
        raise BadInput(lines[-1].removeprefix("triphase_cost: ") if lines else done.reason)
    return json.loads(done.out)


def flags(case: Mapping[str, Any]) -> list[str]:
    return [f"--{axis}={case[axis]}" for axis in AXES]


def count(
    tool: Ncu, counters: list[Counter], binaries: Path, case: Row, cost: Mapping[str, Any]
) -> tuple[Row, str | None]:
    """A case with its rows, and the GPU's name where it is known."""
    with tempfile.TemporaryDirectory(prefix="triphase-count-flop-") as scratch:
        report, steps = Path(scratch) / "report.ncu-rep", Path(scratch) / "steps.json"
        done = tool.profile(counters, report, [
            str(binaries / "triphase_steps"), *flags(case), "--backend=cuda", "--verify=off",
            "--ceilings=off", "--time_per_case=0.001", f"--benchmark_out={steps}",
        ])  # fmt: skip
        status, reason, gpu = _outcome(steps)
        try:
            kernels = tool.kernels(counters, report) if report.exists() else []
            rows = join(cost, kernels)
        except Unreadable as error:
            return case | {"status": "failed", "reason": str(error)}, gpu
    if any(kernel.group for kernel in kernels):
        totals = sums(rows)
        case = case | {"rows": rows, "totals": totals, "ratio": ratios(totals)}
    elif status in RAN:
        status, reason = "failed", "ncu tells of no kernel in which NVTX range it ran"
        if not kernels:
            reason = f"no kernel ran in an NVTX range of triphase's: {ncu.complaint(done)}"
    if status is None or (done.code and status in RAN):
        status, reason = "failed", ncu.complaint(done)
    if status in RAN:
        return case | {"status": "ok"}, gpu
    return case | {"status": status, "reason": reason}, gpu


def _outcome(steps: Path) -> tuple[str | None, str | None, str | None]:
    """Status, reason and GPU, as triphase_steps tells; absent where it left no file."""
    try:
        document = json.loads(steps.read_text(encoding="utf-8"))
        row = document["benchmarks"][0]
        versions = document["context"]["triphase"]["versions"]
        return row["status"], row.get("reason"), versions.get("gpu")
    except (OSError, ValueError, LookupError):
        return None, None, None


# ---- for people


def table(case: Row) -> str:
    title = ", ".join(str(case[axis]) for axis in AXES)
    lines = [f"{title}: {case['status']}" + (f": {case['reason']}" if "reason" in case else "")]
    if not case.get("rows"):
        return lines[0]
    cells = [("layers", "phase", "kernels", "flop", "executed", "counted", "/ executed", "by")]
    cells += [_cells("+".join(r["layers"]), r["phase"], r) for r in case["rows"]]
    cells += [_cells("all", phase, total) for phase, total in case["totals"].items()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = [
            cell.ljust(width) if at in (0, 1, 7) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    said = {"flop": "formula", "flop_executed": "executed", "flop_counted": "counted"}
    found = ", ".join(f"{plain(x)} {said[key]}" for key, x in case["ratio"].items())
    return "\n".join([*lines, f"backward over forward: {found}"])


def _cells(layers: str, phase: str, row: Row) -> tuple[str, ...]:
    counted = row.get("flop_counted")
    over = counted / row["flop_executed"] if counted is not None and row["flop_executed"] else None
    units = ", ".join(row.get("flop_counted_by", {}))
    if row.get("tensor_uncounted"):
        units = f"{units}, tensor cores uncounted".removeprefix(", ")
    return (
        layers if len(layers) <= 40 else f"{layers[:37]}...",
        phase,
        str(len(row["kernels"])) if "kernels" in row else "",
        *(si(row[key]).strip() for key in FORMULAS),
        "no kernel" if counted is None else si(counted).strip(),
        "" if over is None else plain(over),
        units,
    )


# ---- command line


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/count_flop",
        description="Sets the FLOP that a GPU's counters see in a training step beside those of "
        "the formulas, by layer and phase.",
        epilog="Lists are given with commas, and crossed. Exit codes: 0 done (skipped cases are "
        "fine while something ran), 1 a case failed, 2 bad usage or nothing can be counted here, "
        "130 or 143 interrupted.",
    )
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        help="a model of benchmarks/models, such as ConvNet, or a .json file; may be repeated",
    )
    parser.add_argument(
        "--batch", default="1", metavar="N,...", help="examples a step (default: %(default)s)"
    )
    parser.add_argument(
        "--dtype",
        default="f32",
        metavar="TYPE,...",
        help="element types, as triphase_steps knows them (default: %(default)s)",
    )
    parser.add_argument(
        "--optimizer",
        default="sgd",
        metavar="NAME,...",
        help="optimizers, as triphase_steps knows them (default: %(default)s)",
    )
    parser.add_argument(
        "--ncu",
        default="ncu",
        metavar="PROGRAM",
        help="Nsight Compute's command line (default: the ncu on PATH)",
    )
    parser.add_argument(
        "--bin",
        type=Path,
        default=ROOT / "build" / "release" / "bin",
        metavar="DIR",
        help="where triphase_steps and triphase_cost are (default: build/release/bin)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write everything there, as JSON (default: nowhere)",
    )
    return parser.parse_args(argv)


def _refuse(message: str) -> NoReturn:
    raise BadInput(message)


def cases(options: argparse.Namespace) -> list[Row]:
    lists = (options.batch.split(","), options.dtype.split(","), options.optimizer.split(","))
    crossed = itertools.product(options.model, *lists)
    return [dict(zip(AXES, values, strict=True)) for values in dict.fromkeys(crossed)]


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    for name in ("triphase_cost", "triphase_steps"):
        if not os.access(options.bin / name, os.X_OK):
            raise BadInput(f"{options.bin / name} is missing: scripts/reproduce builds it")
    check_writable(options.out)
    costs = [(case, cost_of(options.bin, case)) for case in cases(options)]
    tool = ncu.find(options.ncu)
    counters = tool.counters()
    document = {
        "schema": 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ncu": tool.version(),
        "gpu": None,
        "counters": [{"name": c.column, "unit": c.unit, "flop": c.flop} for c in counters],
        "cases": [],
    }
    for case, cost in costs:
        named = {axis: cost[axis] for axis in AXES} | {"backend": "cuda"}
        counted, gpu = count(tool, counters, options.bin, case, cost)
        document["gpu"] = document["gpu"] or gpu
        document["cases"].append(counted | named)
        print(table(document["cases"][-1]) + "\n", flush=True)
        if options.out:
            write_atomic(options.out, json.dumps(document, indent=1) + "\n")
    statuses = {case["status"] for case in document["cases"]}
    if "ok" in statuses:
        print(NOTES)
    if "failed" in statuses:
        return 1
    return 0 if "ok" in statuses else 2


def run_main(argv: list[str] | None = None) -> int:
    """`main`, with every refusal as one line."""
    refusals = (BadInput, CannotCount)
    kept = "what was counted so far stands"
    return run_command("count_flop", lambda: main(argv), refusals, "results", kept)


if __name__ == "__main__":
    sys.exit(run_main())
