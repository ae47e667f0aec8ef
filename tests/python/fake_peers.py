# SPDX-License-Identifier: Apache-2.0
"""Stands in for the programs that scripts/peers starts, with made-up times.

A folder of small programs (triphase_cost, triphase_steps, onednn_layers and an interpreter with
PyTorch), which call this file again. Times are exact: the peers take
SLOWER[backend] times as long as ours in every phase, and on a GPU their step LAUNCHING times as
long as its phases. `fake.json` in the folder makes them fail:

    {"cost": "line to stderr"}              triphase_cost refuses
    {"steps": "skip" | "fail" | "die"}      triphase_steps has no memory, finds an error, crashes
    {"layers": "skip" | "die"}              onednn_layers has no memory, crashes
    {"torch": "missing" | "broken" | "no GPU"}  the interpreter's torch, or that it finds no GPU
    {"worker": {"compiled": ANSWER}}        what a worker says instead, by `which`; "die" kills it
    {"hang": true}                          a worker writes `started` and waits
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import fake_steps  # noqa: E402

SLOWER = {"eager": 2.0, "channels_last": 1.5, "compiled": 4.0}
TUNED = 0.5  # of that
LAUNCHING = 1.25
ALONE = 0.25  # of our layers' times: what onednn_layers says
KNOWN = ("LinearNet", "OneNet", "ConvNet", "DeeperConvNet:depth=10")


def install(folder: Path, **faults: Any) -> Path:
    """triphase_cost, triphase_steps and python in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fake.json").write_text(json.dumps(faults))
    for name in ("triphase_cost", "triphase_steps", "onednn_layers", "python"):
        path = folder / name
        command = f'"{sys.executable}" "{HERE / "fake_peers.py"}" "{folder}" {name}'
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)
    return folder


def cost(model: str, batch: int, dtype: str = "f32") -> dict[str, Any]:
    """What triphase_cost says of a network of fake_steps."""
    rows = fake_steps.case_rows(model, batch, samples=1, intervals=False)
    counts = ("flop", "flop_unpadded", "flop_executed", "traffic_bytes")
    totals = {
        row["phase"]: {key: row[key] for key in counts}
        for row in rows
        if "layer" not in row and row["phase"] not in ("backward", "step")
    }
    layers = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "phases": {
                row["phase"]: {key: row[key] for key in counts}
                for row in rows
                if row.get("layer") == layer.name
            },
        }
        for layer in fake_steps.network(model)
    ]
    step = next(row for row in rows if row["phase"] == "step")
    ratio = {key: step[f"ratio_{key}"] for key in RATIOS}
    memory = dict.fromkeys(("parameters", "gradients", "optimizer_state", "activations"), 1)
    return {
        "schema": 1, "model": model, "model_parameters": step["model_parameters"], "batch": batch,
        "dtype": dtype, "optimizer": "sgd", "parameters": step["parameter_count"],
        "first_layer_share": step["first_layer_share"], "layers": layers, "totals": totals,
        "ratio": ratio, "memory_bytes": memory | {"total": 4},
    }  # fmt: skip


RATIOS = ("flop", "flop_with_update", "bytes", "bytes_with_update")


def flags(arguments: list[str]) -> dict[str, str]:
    return dict(a.removeprefix("--").split("=", 1) for a in arguments)


def cost_program(faults: dict[str, Any], arguments: list[str]) -> int:
    asked = flags(arguments)
    if "cost" in faults or asked["model"] not in KNOWN:
        reason = faults.get("cost", f"no model '{asked['model']}'")
        print(f"triphase_cost: {reason}", file=sys.stderr)
        return 2
    print(json.dumps(cost(asked["model"], int(asked["batch"]), asked["dtype"])))
    return 0


def steps_program(faults: dict[str, Any], arguments: list[str]) -> int:
    asked = flags(arguments)
    model, batch = asked["model"], int(asked["batch"])
    how = {"backend": asked["backend"], "dtype": asked["dtype"]}
    match faults.get("steps"):
        case "die":
            print("terminate called", file=sys.stderr)
            os.kill(os.getpid(), signal.SIGKILL)
        case "skip":
            rows = fake_steps.skipped_rows(model, batch, "needs 9 GiB", **how)
        case "fail":
            rows = fake_steps.skipped_rows(model, batch, "fc1 is wrong", status="failed", **how)
        case _:
            rows = fake_steps.case_rows(model, batch, samples=8, noise=0, **how)
            if asked["verify"] == "off":
                rows = [row | {"status": "unverified", "reason": "--verify=off"} for row in rows]
    Path(asked["benchmark_out"]).write_text(json.dumps(fake_steps.document(rows)))
    return 0


def layers_program(faults: dict[str, Any], arguments: list[str]) -> int:
    """Google Benchmark's rows of calls that take ALONE of what our layers take, thrice each."""
    if faults.get("layers") == "die":
        print("Illegal instruction", file=sys.stderr)
        return 3
    asked = flags(arguments)
    model, batch = asked["model"], int(asked["batch"])
    benchmarks = []
    for row in fake_steps.case_rows(model, batch, samples=8, noise=0):
        if "layer" not in row or not row["flop"] or row["phase"] == "update":
            continue
        name = f"{model}/batch:{batch}/dtype:f32/layer:{row['layer']}/{row['phase']}/real_time"
        time_ns = ALONE * row["median_s"] * 1e9
        common = {"name": name, "run_name": name, "time_unit": "ns", "label": "jit"}
        ran = {"run_type": "iteration", "iterations": 4, "real_time": time_ns, "cpu_time": time_ns}
        benchmarks += [common | ran] * 3
        benchmarks.append(common | ran | {"run_type": "aggregate", "aggregate_name": "mean"})
        if faults.get("layers") == "skip":
            benchmarks = [
                b | {"error_occurred": True, "error_message": "needs 9 GB"} for b in benchmarks
            ]
    Path(asked["benchmark_out"]).write_text(json.dumps({"benchmarks": benchmarks}))
    return 0


def python_program(folder: Path, faults: dict[str, Any], arguments: list[str]) -> int:
    assert arguments[:2] == ["-m", "triphase.peers_worker"], arguments
    if len(arguments) == 3:
        gpu = {"torch_gpu": "Made-up GPU"} if arguments[2] == "cuda" else {}
        match faults.get("torch"):
            case "broken":
                print("Illegal instruction", file=sys.stderr)
                return 3
            case "missing":
                answer = {"missing": "no PyTorch (No module named 'torch')"}
            case "no GPU":
                answer = {"missing": "PyTorch 9.9, which finds no GPU"}
            case _:
                answer = {"versions": {"torch": "9.9"} | gpu}
        print(json.dumps(answer))
        return 0
    request, result = map(Path, arguments[2:])
    asked = json.loads(request.read_text())
    if faults.get("hang"):
        (folder / "started").touch()
        time.sleep(60)
    which = "compiled" if asked["compiled"] else "eager"
    which = "channels_last" if asked["channels_last"] else which
    on_gpu = asked["device"] == "cuda"
    allocator = os.environ.get("MALLOC_TOP_PAD_") == "268435456"
    assert allocator == (asked["tuned"] and not on_gpu)
    answer = faults.get("worker", {}).get(which)
    if answer == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if answer is None:
        model = next(m for m in KNOWN if m.partition(":")[0] == Path(asked["file"]).stem)
        rows = fake_steps.case_rows(model, asked["batch"], samples=8, noise=0)
        factor = SLOWER[which] * (TUNED if asked["tuned"] else 1)
        phases = {
            row["phase"]: [factor * s for s in row["samples_s"]]
            for row in rows
            if "layer" not in row and row["phase"] in ("forward", "backward", "update")
        }
        answer = {
            "status": "unverified", "phases": phases, "setup_s": 0.1, "cpu_share": 1.5,
            "warmup_steps": 3, "involuntary_switches_per_s": 0.0,
        }  # fmt: skip
        if on_gpu:
            phases["step"] = [LAUNCHING * sum(s) for s in zip(*phases.values(), strict=True)]
            answer["runs_per_sample"] = 7
    result.write_text(json.dumps(answer))
    return 0


def main(folder: str, program: str, *arguments: str) -> int:
    faults = json.loads((Path(folder) / "fake.json").read_text())
    if program == "triphase_cost":
        return cost_program(faults, list(arguments))
    if program == "triphase_steps":
        return steps_program(faults, list(arguments))
    if program == "onednn_layers":
        return layers_program(faults, list(arguments))
    return python_program(Path(folder), faults, list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
