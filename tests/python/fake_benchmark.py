# SPDX-License-Identifier: Apache-2.0
"""Stands in for programs with Google Benchmark's flags: small scripts with made-up times.

`install(folder, name, **traits)` writes one. Times do not depend on the machine: each process draws
them from a generator that is seeded by the name and the number of processes started before.

    kernels    names and seconds                 slower    factor by kernel
    noise      standard deviation of logarithms  fails     exit code, with a line on stderr
    fails_at   from which process on             hangs_at  the process that writes `started`, waits
    truncated  cuts its JSON                     vanishes  kernels that are missing after a process
    broken     error by kernel                   unit      time_unit
    no_filter  its flag matches nothing          context   of its JSON
    suffix     what rows have behind the name of their benchmark
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ != "__main__":  # as a program it starts fast, with nothing but Python
    from triphase import gate_processes
    from triphase.processes import Finished

KERNELS = {f"kernel/{i}:n(2+{i})": (i + 1) * 1e-3 for i in range(5)}
UNITS = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0}


def install(folder: Path, name: str, **traits: Any) -> Path:
    path = folder / name
    path.with_suffix(".json").write_text(json.dumps({"kernels": KERNELS} | traits))
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{__file__}" "{path}" "$@"\n')
    path.chmod(0o755)
    return path


def start_here(command: list[str], **_: Any) -> Finished:
    """Runs a program of `install` without a process, which would take long."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(*command)
    return Finished(code, out.getvalue(), error.getvalue())


def clock_of(monkeypatch: Any, seconds: Callable[[int], float]) -> None:
    """The n-th process (from 0) takes seconds(n) by the clock of Pairs, and no time else."""
    now, started = [0.0], []

    def run(command: list[str], **more: Any) -> Finished:
        now[0] += seconds(len(started))
        started.append(command)
        return start_here(command, **more)

    monkeypatch.setattr(gate_processes, "run", run)
    plain = gate_processes.Pairs.__init__
    monkeypatch.setattr(
        gate_processes.Pairs, "__init__",
        lambda self, *given, **more: plain(self, *given, clock=lambda: now[0], **more),
    )  # fmt: skip


def main(me: str, *arguments: str) -> int:
    traits = json.loads(Path(me).with_suffix(".json").read_text())
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    pattern = flags.get("benchmark_filter", "").replace("all", "")
    if "benchmark_list_tests" in flags:
        names = (name.removesuffix(traits.get("suffix", "")) for name in traits["kernels"])
        print("\n".join(name for name in names if re.search(pattern, name)))
        return 0
    counter = Path(f"{me}.count")
    number = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(number + 1))
    with Path(f"{me}.calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if traits.get("hangs_at") == number:
        Path(f"{me}.started").touch()
        time.sleep(60)
    if "fails" in traits and number >= traits.get("fails_at", 0):
        print("warming up\nno such device", file=sys.stderr)
        return traits["fails"]
    text = json.dumps(document(traits, pattern, f"{Path(me).name}/{number}"))
    if traits.get("truncated"):
        text = text[: len(text) // 2]
    Path(flags["benchmark_out"]).write_text(text)
    return 0


def document(traits: dict[str, Any], pattern: str, seed: str) -> dict[str, Any]:
    draw = random.Random(seed)
    unit = traits.get("unit", "ns")
    rows = []
    for name, seconds in traits["kernels"].items():
        seconds *= traits.get("slower", {}).get(name, 1.0)
        seconds *= math.exp(draw.gauss(0, traits.get("noise", 0.005)))
        matches = re.search(pattern, name.removesuffix(traits.get("suffix", ""))) and not (
            pattern and traits.get("no_filter")
        )
        if not matches or name in traits.get("vanishes", ()):
            continue
        row = {"name": name, "run_name": name, "run_type": "iteration", "repetitions": 1,
               "repetition_index": 0, "iterations": 9, "real_time": seconds * UNITS[unit],
               "cpu_time": seconds * UNITS[unit], "time_unit": unit}  # fmt: skip
        if name in traits.get("broken", {}):
            row |= {"error_occurred": True, "error_message": traits["broken"][name]}
        rows.append(row)
    context = {"num_cpus": 2, "caches": []} | traits.get("context", {})
    return {"context": context, "benchmarks": rows}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
