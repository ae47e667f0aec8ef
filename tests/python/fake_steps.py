# SPDX-License-Identifier: Apache-2.0
"""Makes steps.json documents that keep the contract, with numbers that can be checked by hand.

FLOP and bytes follow from shapes, by formulas of their own (not the C++ side's). Times are made up:
FLOP over a speed per phase plus bytes over a bandwidth, so they are known exactly. Nothing here was
measured, and nothing here may be published as if it had been.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import random
from typing import Any

Row = dict[str, Any]
FORWARD, DATA, WEIGHTS, UPDATE = "forward", "backward_data", "backward_weights", "update"
UPDATE_FLOP = {"sgd": 2, "adam": 13}
UPDATE_BYTES = {"sgd": 12, "adam": 28}
FLOP_PER_S = {FORWARD: 300e9, DATA: 250e9, WEIGHTS: 200e9, UPDATE: 300e9}
BYTES_PER_S = 20e9
PEAK_FLOP_PER_S = {"gemm": 400e9, "convolution": 320e9}  # ceilings, which no phase reaches
READ_BYTES_PER_S = {"L1": 800e9, "L2": 200e9, "L3": 80e9, "memory": 25e9}
PREDICTED = {FORWARD: 1.0, DATA: 1.1, WEIGHTS: 0.8, UPDATE: 1.5}  # predicted over median time


@dataclasses.dataclass(frozen=True)
class Layer:
    """A contraction of `macs` multiply-adds per example, or (weights 0) an element-wise layer."""

    name: str
    kind: str
    inputs: int  # elements per example
    outputs: int
    weights: int = 0
    biases: int = 0
    macs: int = 0
    terms: int = 0  # length of one dot product of the forward pass

    def phases(self, batch: int, first: bool, optimizer: str) -> dict[str, dict[str, int]]:
        x, y, w = batch * self.inputs, batch * self.outputs, self.weights
        macs = batch * self.macs
        if not w:
            executed = {FORWARD: y, DATA: x}
            return {p: cost(0, n, 4 * (x + y)) for p, n in executed.items()}
        reads = 4 * (x + y + w)
        costs = {
            FORWARD: cost(
                2 * macs, 2 * macs - y + (y if self.biases else 0), reads + 4 * self.biases
            ),
            DATA: cost(2 * macs, 2 * macs - x, reads),
            WEIGHTS: cost(2 * macs, 2 * macs - w, reads + 4 * self.biases),
        }
        if first:
            del costs[DATA]
        count = w + self.biases
        costs[UPDATE] = cost(
            *2 * (UPDATE_FLOP[optimizer] * count,), UPDATE_BYTES[optimizer] * count
        )
        return costs


def cost(flop: int, executed: int, moved: int) -> dict[str, int]:
    return {"flop": flop, "flop_unpadded": flop, "flop_executed": executed, "traffic_bytes": moved}


def linear(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(
        name, "linear", inputs, outputs, inputs * outputs, outputs, inputs * outputs, inputs
    )


def conv(name: str, channels: int, filters: int, kernel: int, size: int, out: int) -> Layer:
    weights = filters * channels * kernel * kernel
    inputs, outputs = channels * size * size, filters * out * out
    return Layer(
        name, "conv2d", inputs, outputs, weights, 0, weights * out * out, weights // filters
    )


def relu(name: str, elements: int) -> Layer:
    return Layer(name, "relu", elements, elements)


def fully_connected(inputs: int) -> list[Layer]:
    return [
        linear("fc1", inputs, 4096),
        relu("relu1", 4096),
        linear("fc2", 4096, 128),
        relu("relu2", 128),
        linear("fc3", 128, 10),
        Layer("loss", "softmax_cross_entropy", 10, 1),
    ]


def convolutional(depth: int) -> list[Layer]:
    middle = [
        layer
        for i in range(depth)
        for layer in (conv(f"conv.{i}", 32, 32, 3, 55, 55), relu(f"relu.{i}", 32 * 55 * 55))
    ]
    return [
        conv("conv1", 3, 32, 7, 224, 112),
        relu("relu1", 32 * 112 * 112),
        *middle,
        conv("conv2", 32, 64, 7, 55, 28),
        relu("relu2", 64 * 28 * 28),
        linear("fc1", 64, 10),
        Layer("loss", "softmax_cross_entropy", 10, 1),
    ]


def network(model: str) -> list[Layer]:
    name, _, value = model.partition(":")
    number = int(value.partition("=")[2] or 0)
    return {
        "LinearNet": lambda: fully_connected(150528),
        "OneNet": lambda: fully_connected(1),
        "MLP": lambda: fully_connected(number),
        "ConvNet": lambda: convolutional(0),
        "DeeperConvNet": lambda: convolutional(number),
        "ResNet18": lambda: convolutional(8),
    }[name]()


def seconds(costs: dict[str, int], phase: str) -> float:
    return costs["flop"] / FLOP_PER_S[phase] + costs["traffic_bytes"] / BYTES_PER_S


def case_rows(
    model: str,
    batch: int,
    optimizer: str = "sgd",
    *,
    backend: str = "onednn",
    dtype: str = "f32",
    samples: int = 30,
    noise: float = 0.02,
    intervals: bool = True,
    fuse: tuple[str, ...] = (),
    layer_rows: bool = True,
    seed: int = 1,
) -> list[Row]:
    """The rows of one case that ran: its phases, `backward`, `step`, and its layers' phases."""
    layers = network(model)
    first = next(layer.name for layer in layers if layer.weights)
    base = _identity(model, batch, optimizer, backend, dtype)
    random_ = random.Random(f"{seed}/{model}/{batch}/{optimizer}/{backend}")
    wobble = [math.exp(random_.gauss(0, noise)) for _ in range(samples)]

    rows, sums, times = [], {}, {}
    for layer in layers:
        for phase, costs in layer.phases(batch, layer.name == first, optimizer).items():
            phase_sum = sums.setdefault(phase, cost(0, 0, 0))
            for key, value in costs.items():
                phase_sum[key] += value
            fused = layer.name in fuse
            taken = 0.0 if fused else seconds(costs, phase)
            mine = [taken * w * math.exp(random_.gauss(0, noise)) for w in wobble]
            times[phase] = [
                a + b for a, b in zip(times.get(phase, [0] * samples), mine, strict=True)
            ]
            row = _row(base, phase, costs, None if fused else mine, intervals, layer.name)
            row["layer_kind"] = layer.kind
            if fused:
                row["fused_into"] = layers[layers.index(layer) - 1].name
            if layer_rows:
                rows.append(row)

    for name, parts in (("backward", (DATA, WEIGHTS)), ("step", (FORWARD, DATA, WEIGHTS, UPDATE))):
        known = [p for p in parts if p in times]
        sums[name] = {k: sum(sums[p][k] for p in known) for k in sums[FORWARD]}
        times[name] = [sum(t) for t in zip(*(times[p] for p in known), strict=True)]
    phases = [_row(base, p, sums[p], times[p], intervals) for p in sums]
    phases[-1] |= _ratios(sums, times, intervals) | {
        "first_layer_share": 2
        * batch
        * next(x.macs for x in layers if x.name == first)
        / sums[FORWARD]["flop"],
        "parameter_count": sum(x.weights + x.biases for x in layers),
        "marking_overhead": 1.01,
        "verified_ops": len(layers) * 3,
        "max_error_over_bound": 0.25,
    }
    return phases + rows


def expected(rows: list[Row]) -> list[Row]:
    """The rows with what a machine of known ceilings adds: bounds at its peak and its memory.

    Arithmetic at the gemm peak, bytes at the memory's bandwidth; predictions are off by PREDICTED.
    """
    result = []
    for row in rows:
        if "median_s" not in row:
            result.append(row)
            continue
        same = [r for r in rows if r["run_name"] == row["run_name"] and "median_s" in r]
        parts = {r["phase"]: r for r in same if r.get("layer") == row.get("layer")}
        phases = {"backward": (DATA, WEIGHTS), "step": tuple(PREDICTED)}.get(
            row["phase"], (row["phase"],)
        )
        compute_s = row["flop"] / PEAK_FLOP_PER_S["gemm"]
        memory_s = row["traffic_bytes"] / READ_BYTES_PER_S["memory"]
        more: Row = {
            "traffic_bytes_planned": row["traffic_bytes"],
            "roofline_s": max(compute_s, memory_s),
            "bound": "compute" if compute_s > memory_s else "memory",
            "predicted_s": sum(parts[p]["median_s"] * PREDICTED[p] for p in phases if p in parts),
        }
        if row["phase"] == "step":
            more["mfu"] = row["flop"] / row["median_s"] / PEAK_FLOP_PER_S["gemm"]
            more["machine_speed"] = {"arithmetic": 1.0, "cache": 0.9, "memory": 1.1}
        result.append(row | more)
    return result


def ceilings(threads: int = 2) -> Row:
    """context.triphase.ceilings of the made-up machine, with a calibration."""

    def rate(kernel: str, unit: str, value: float, **more: Any) -> Row:
        numbers = {"value": value, "ci95_low": value * 0.9, "ci95_high": value * 1.1, "best": value}
        size = {"threads": threads, "working_set_bytes": 1 << 20}
        return {"kernel": kernel} | more | size | {"unit": unit} | numbers | {"passes": 7}

    rates = [
        rate("fork_join", "s", 1e-6, shape="an empty parallel region"),
        rate("call", "s", 1e-6, dtype="f32", shape="1x16x16"),
        *(
            rate(kernel, "FLOP/s", value * factor, dtype=dtype, shape="made up")
            for kernel, value in PEAK_FLOP_PER_S.items()
            for dtype, factor in (("f32", 1), ("bf16", 4))
        ),
        *(rate("read", "B/s", value, level=level) for level, value in READ_BYTES_PER_S.items()),
        rate("load", "s", 1e-7, level="memory"),
        rate("gauge_memory", "B/s", 30e9),
    ]
    calibration = {"cases": 64, "rows": 1376, "median_error": 0.2, "p90_error": 0.5}
    return {
        "onednn": {
            "schema": 1, "backend": "onednn", "threads": threads, "fingerprint": "made-up",
            "measured_at": "2025-11-22T09:00:00+00:00", "rates": rates,
            "calibration": calibration | {"factors": {"update": [1.0, 0.0, 0.5]}},
        }
    }  # fmt: skip


def skipped_rows(
    model: str,
    batch: int,
    reason: str,
    *,
    status: str = "skipped",
    optimizer: str = "sgd",
    backend: str = "onednn",
    dtype: str = "f32",
) -> list[Row]:
    """A case that did not run: its step row says why."""
    row = _identity(model, batch, optimizer, backend, dtype)
    row |= {
        "name": f"{row['run_name']}/step/real_time",
        "phase": "step",
        "iterations": 0,
        "real_time": 0,
        "cpu_time": 0,
        "samples_s": [],
        "sample_count": 0,
        "status": status,
        "reason": reason,
        "error_occurred": True,
        "error_message": reason,
    }
    return [row]


def _identity(model: str, batch: int, optimizer: str, backend: str, dtype: str) -> Row:
    name, _, value = model.partition(":")
    key, _, number = value.partition("=")
    return {
        "run_name": f"{model}/batch:{batch}/dtype:{dtype}/optimizer:{optimizer}/backend:{backend}",
        "run_type": "iteration", "repetitions": 1, "repetition_index": 0, "threads": 2,
        "time_unit": "ns", "model": model, "model_name": name,
        "model_parameters": {key: int(number)} if key else {},
        "batch": batch, "dtype": dtype, "optimizer": optimizer, "backend": backend, "status": "ok",
    }  # fmt: skip


def _row(
    base: Row,
    phase: str,
    costs: dict[str, int],
    samples: list[float] | None,
    intervals: bool,
    layer: str | None = None,
) -> Row:
    prefix = f"/layer:{layer}" if layer else ""
    row = base | {"name": f"{base['run_name']}{prefix}/{phase}/real_time", "phase": phase} | costs
    if layer:
        row["layer"] = layer
    if samples is None:
        return row | {"iterations": 0, "real_time": 0, "cpu_time": 0}
    middle, low, high = summary(samples)
    row |= {
        "iterations": len(samples),
        "real_time": middle * 1e9,
        "cpu_time": middle * 1e9,
        "median_s": middle,
        "min_s": min(samples),
        "samples_s": samples,
        "mad_s": summary([abs(s - middle) for s in samples])[0],
        "sample_count": len(samples),
        "setup_s": 0.5,
        "implementation": "made up",
    }
    return row | ({"ci95_low_s": low, "ci95_high_s": high} if intervals else {})


def _ratios(sums: dict[str, dict[str, int]], times: dict[str, list[float]], intervals: bool) -> Row:
    forward, backward, update = sums[FORWARD], sums["backward"], sums[UPDATE]
    ratios: Row = {}
    for kind, key in (("flop", "flop"), ("bytes", "traffic_bytes")):
        ratios[f"ratio_{kind}"] = backward[key] / forward[key]
        ratios[f"ratio_{kind}_with_update"] = (backward[key] + update[key]) / forward[key]
    pairs = list(zip(times[FORWARD], times["backward"], times[UPDATE], strict=True))
    for key, samples in (
        ("ratio_time", [b / f for f, b, _ in pairs]),
        ("ratio_time_with_update", [(b + u) / f for f, b, u in pairs]),
    ):
        middle, low, high = summary(samples)
        ratios |= {key: middle}
        ratios |= {f"{key}_ci95_low": low, f"{key}_ci95_high": high} if intervals else {}
    return ratios


def summary(samples: list[float]) -> tuple[float, float, float]:
    """Median, and the order statistics about a 95 % interval of it away."""
    ordered, n = sorted(samples), len(samples)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    reach = round(0.98 * math.sqrt(n))
    return middle, ordered[max(0, n // 2 - reach)], ordered[min(n - 1, n // 2 + reach)]


def document(*groups: list[Row], ceilings: Row | None = None) -> dict[str, Any]:
    context = {
        "date": "2025-11-22T10:00:00+00:00", "host_name": "nowhere", "executable": "triphase_steps",
        "num_cpus": 2, "mhz_per_cpu": 2600, "cpu_scaling_enabled": False,
        "caches": [{"type": "Data", "level": 1, "size": 49152, "num_sharing": 1}],
        "load_avg": [0.1, 0.2, 0.3], "library_build_type": "release", "json_schema_version": 1,
        "triphase": {
            "schema": 1, "versions": {"triphase": "0.1.0", "onednn": "3.2"}, "isa": "avx512",
            "threads": 2, "affinity": "0-1", "smt": False, "numa": 1,
            "environment": {"fingerprint": "made-up", "cpu": "Made-up CPU"},
            "ceilings": ceilings or {},
        },
    }  # fmt: skip
    return copy.deepcopy({"context": context, "benchmarks": [r for g in groups for r in g]})


def full_document() -> dict[str, Any]:
    """Enough for every plot and finding, with a case skipped for memory and a fused-away ReLU.

    Its machine's ceilings are known.
    """
    groups = [
        *(case_rows(m, b) for m in ("LinearNet", "OneNet") for b in (1, 4, 16, 64, 256)),
        *(case_rows("ConvNet", b, fuse=("relu1",)) for b in (1, 4, 16)),
        *(case_rows(f"DeeperConvNet:depth={n}", 4) for n in (0, 1, 2, 5, 10, 20)),
        *(case_rows(f"MLP:inputs={n}", 64) for n in (1, 4, 16, 64, 128, 256, 1024, 4096, 16384)),
        *(case_rows("OneNet", b, "adam") for b in (1, 256)),
        case_rows("ResNet18", 4),
        skipped_rows("LinearNet", 1024, "needs 14.9 GiB, and 8 GiB are allowed"),
    ]
    return document(*map(expected, groups), ceilings=ceilings())
