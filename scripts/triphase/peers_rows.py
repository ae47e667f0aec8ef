# SPDX-License-Identifier: Apache-2.0
"""From what the processes of scripts/peers measured to rows of steps.json. Pure.

`process_rows` writes what PyTorch's worker says as rows of one process, as triphase_steps writes
its own; `merge` makes one row of a row's processes. A merged median is the median of the processes'
medians, and its interval comes from the spread between processes: what changes from one process to
the next, memory layout above all, is no part of an interval within one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from triphase.medians import lower_rank, thinned
from triphase.peers_schedule import ALONE, Backend, Case

Row = dict[str, Any]

PHASES = ("forward", "backward", "update", "step")
MOST_SAMPLES = 2000  # in a merged row
MOST_PROCESS_SAMPLES = 200  # in a row of one process, as triphase_steps keeps
COUNTS = ("flop", "flop_unpadded", "flop_executed", "traffic_bytes")
_INTERVALS = (
    *("ci95_low_s", "ci95_high_s", "ratio_time_ci95_low", "ratio_time_ci95_high"),
    *("ratio_time_with_update_ci95_low", "ratio_time_with_update_ci95_high"),
)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """A 95 % interval of the median, from order statistics; None below 6 values.

    Processes are independent, whatever their order: they are not thinned by their correlation, as
    samples of one are (medians.interval).
    """
    if (rank := lower_rank(len(values))) == 0:
        return None
    ordered = sorted(values)
    return ordered[rank - 1], ordered[-rank]


def _identity(case: Case, backend: Backend, phase: str, threads: int) -> Row:
    cost = case.cost
    run = f"{case.model}/batch:{case.batch}/dtype:{case.dtype}/optimizer:sgd/backend:{backend.name}"
    return {
        "name": f"{run}/{phase}/real_time", "run_name": f"{run}/{phase}/real_time",
        "run_type": "iteration", "repetitions": 1, "repetition_index": 0, "threads": threads,
        "iterations": 0, "real_time": 0.0, "cpu_time": 0.0, "time_unit": "ns",
        "model": case.model, "model_name": case.model.partition(":")[0],
        "model_parameters": dict(cost.get("model_parameters", {})), "phase": phase,
        "batch": case.batch, "dtype": case.dtype, "optimizer": "sgd", "backend": backend.name,
    }  # fmt: skip


def _counts(cost: Mapping[str, Any], phase: str) -> Row:
    """The counted columns of a phase; those of `backward` and `step` are sums."""
    parts = {
        "backward": ("backward_data", "backward_weights"),
        "step": ("forward", "backward_data", "backward_weights", "update"),
    }.get(phase, (phase,))
    totals = cost["totals"]
    counts: Row = {c: sum(totals[p][c] for p in parts if p in totals) for c in COUNTS}
    if phase == "step":
        counts |= {f"ratio_{kind}": value for kind, value in cost["ratio"].items()}
        counts["parameter_count"] = cost["parameters"]
        if "first_layer_share" in cost:
            counts["first_layer_share"] = cost["first_layer_share"]
    return counts


def _times(samples: Sequence[float], cpu_share: float) -> Row:
    middle = statistics.median(samples)
    return {
        "iterations": len(samples),
        "real_time": middle * 1e9,
        "cpu_time": middle * 1e9 * cpu_share,
        "median_s": middle,
        "min_s": min(samples),
        "mad_s": statistics.median(abs(s - middle) for s in samples),
        "samples_s": thinned(samples, MOST_PROCESS_SAMPLES),
        "sample_count": len(samples),
    }


def process_rows(
    case: Case, backend: Backend, threads: int, answer: Mapping[str, Any]
) -> list[Row]:
    """The rows of one process: its phases, paired, and the step.

    The step is what they add up to, unless the answer times it by another clock: then the sum is
    `device_step_s`.
    """
    status = answer["status"]
    if status in ("skipped", "failed"):
        return not_run_rows(case, backend, threads, status, answer["reason"])
    series = {phase: list(answer["phases"][phase]) for phase in PHASES[:3]}
    sums = [sum(parts) for parts in zip(*series.values(), strict=True)]
    series["step"] = list(answer["phases"].get("step", sums))
    rows = []
    for phase in PHASES:
        samples = series[phase]
        row = _identity(case, backend, phase, threads) | _counts(case.cost, phase)
        row |= {"status": status, "setup_s": answer["setup_s"]}
        row |= _times(samples, answer["cpu_share"])
        rows.append(row)
    over = [
        (b / f, (b + u) / f)
        for f, b, u in zip(*(series[p] for p in PHASES[:3]), strict=True)
        if f > 0
    ]
    rows[-1] |= {
        "ratio_time": statistics.median(plain for plain, _ in over),
        "ratio_time_with_update": statistics.median(with_update for _, with_update in over),
        "warmup_steps": answer["warmup_steps"],
        "involuntary_switches_per_s": answer["involuntary_switches_per_s"],
    }
    if "step" in answer["phases"]:
        rows[-1] |= {
            "device_step_s": statistics.median(sums),
            "runs_per_sample": answer["runs_per_sample"],
        }
    return rows


def alone_rows(
    case: Case, threads: int, document: Mapping[str, Any], process_s: float
) -> list[Row]:
    """What onednn_layers wrote in a process of `process_s`, as rows of layers.

    Set-up is what the process did beside the runs that are in its rows. LookupError, ValueError or
    TypeError where the document is something else.
    """
    layers = {layer["name"]: layer for layer in case.cost["layers"]}
    samples: dict[tuple[str, str], list[float]] = {}
    shares, labels, errors = [], {}, {}
    measured_s = 0.0
    for benchmark in document["benchmarks"]:
        if benchmark["run_type"] != "iteration":
            continue
        _, layer, phase, _ = benchmark["run_name"].rsplit("/", 3)
        key = (layer.removeprefix("layer:"), phase)
        if benchmark.get("error_occurred"):
            errors[key] = benchmark["error_message"]
            continue
        if benchmark["time_unit"] != "ns" or not benchmark["real_time"] > 0:
            raise ValueError(f"{benchmark['name']}: no time in ns")
        samples.setdefault(key, []).append(benchmark["real_time"] * 1e-9)
        measured_s += samples[key][-1] * benchmark["iterations"]
        labels[key] = benchmark["label"]
        shares.append(benchmark["cpu_time"] / benchmark["real_time"])
    rows = []
    for key in dict.fromkeys([*samples, *errors]):
        layer, phase = key
        row = _identity(case, ALONE, phase, threads) | {"layer": layer}
        row["name"] = row["name"].replace(f"/{phase}/", f"/layer:{layer}/{phase}/")
        row["run_name"] = row["name"]
        row |= {count: layers[layer]["phases"][phase][count] for count in COUNTS}
        if key in errors:
            row |= {
                "status": "skipped",
                "reason": errors[key],
                "error_occurred": True,
                "error_message": f"skipped: {errors[key]}",
            }
        else:
            row |= {"status": "unverified", "reason": "a peer's", "implementation": labels[key]}
            row |= _times(samples[key], statistics.median(shares))
            row["setup_s"] = max(0.0, process_s - measured_s)
        rows.append(row)
    if not rows:
        raise ValueError("no rows")
    return rows


def not_run_rows(case: Case, backend: Backend, threads: int, status: str, reason: str) -> list[Row]:
    """Nothing vanishes: the same rows, which say why they have no times."""
    return [
        _identity(case, backend, phase, threads)
        | _counts(case.cost, phase)
        | {
            "status": status,
            "reason": reason,
            "error_occurred": True,
            "error_message": f"{status}: {reason}",
        }
        for phase in PHASES
    ]


def merge(processes: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of one case and backend: one for each row of its processes.

    Where a process did not run, the whole did not: its rows stand alone, with their reason.
    """
    for rows in processes:
        if any(row["status"] in ("skipped", "failed") for row in rows):
            return [dict(row) for row in rows]
    by_name: dict[str, list[Row]] = {}
    for rows in processes:
        for row in rows:
            by_name.setdefault(row["name"], []).append(row)
    return [_merge_row(rows) for rows in by_name.values()]


def _merge_row(rows: Sequence[Row]) -> Row:
    merged = {key: value for key, value in rows[0].items() if key not in _INTERVALS}
    if any(row["status"] == "ok" for row in rows):  # checked once, which holds for them all
        merged["status"] = "ok"
        merged.pop("reason", None)
    for key in ("verified_ops", "verified_elements", "max_error_over_bound", "runs_per_sample"):
        if key in merged:
            merged[key] = max(row.get(key, 0) for row in rows)
    timed = [row for row in rows if "median_s" in row]
    if not timed:
        return merged
    merged.pop("fused_into", None)
    medians = [row["median_s"] for row in timed]
    middle = statistics.median(medians)
    samples = [sample for row in timed for sample in row["samples_s"]]
    shares = [row["cpu_time"] / row["real_time"] for row in timed if row["real_time"] > 0]
    merged |= {
        "iterations": sum(row["sample_count"] for row in timed),
        "real_time": middle * 1e9,
        "cpu_time": middle * 1e9 * (statistics.median(shares) if shares else 0),
        "median_s": middle,
        "min_s": min(row["min_s"] for row in timed),
        "mad_s": statistics.median(abs(sample - middle) for sample in samples),
        "samples_s": thinned(samples, MOST_SAMPLES),
        "sample_count": sum(row["sample_count"] for row in timed),
        "process_count": len(timed),
        "process_medians_s": medians,
    }
    if found := interval(medians):
        merged["ci95_low_s"], merged["ci95_high_s"] = found
    for key in ("ratio_time", "ratio_time_with_update"):
        ratios = [row[key] for row in timed if key in row]
        if ratios:
            merged[key] = statistics.median(ratios)
            if found := interval(ratios):
                merged[f"{key}_ci95_low"], merged[f"{key}_ci95_high"] = found
    for key in ("setup_s", "marking_overhead", "involuntary_switches_per_s", "device_step_s"):
        values = [row[key] for row in timed if key in row]
        if values:
            merged[key] = statistics.median(values)
    for key in ("warmup_steps", "steady", "stop_reason", "family_index"):
        merged.pop(key, None)  # of one process, and not of the whole
    merged.pop("per_family_instance_index", None)
    return merged
