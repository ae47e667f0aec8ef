# SPDX-License-Identifier: Apache-2.0
"""Stands in for Nsight Compute's ncu and, beneath it, for triphase_steps on a GPU.

Everything that it says is made up after Nsight Compute's documentation, and nothing was recorded
from a GPU: names of counters, the raw page as CSV, errors. `fake.json` in its folder says what it
does:

    {"chip": "a100" | "h100" | "b200" | []}   whose counters it has, or a list of names
    {"launches": [[RANGES, KERNEL, {OP: COUNT}], ...]}       what it counts; a report is its table
    {"row": {"status": "skipped", "reason": ...}}            what triphase_steps says; null: nothing
    {"says": [LINE, ...], "code": N}                         as it profiles; without "launches"
                                                             there is no report
    {"cut": N}                                               characters that the table ends short of
    {"pass": true}                                           it runs the program, and counts nothing
    {"hang": true}                                           it writes `started` and waits
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RANGE_COLUMN = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"
GPU = "NVIDIA Made-up 9000"

SCALAR = [
    f"smsp__sass_thread_inst_executed_op_{kind}{op}_pred_on"
    for kind in "dfh"
    for op in ("add", "mul", "fma")
]
PACKED = [f"smsp__sass_thread_inst_executed_op_f{op}2_pred_on" for op in ("add", "mul", "fma")]
TENSOR = "sm__ops_path_tensor"
BOTH = ("", "_sparsity_off", "_sparsity_on")
OTHERS = [
    "gpu__time_duration", "dram__bytes_read", f"{TENSOR}_src_int8", f"{TENSOR}_src_fp8",
    "smsp__sass_thread_inst_executed_op_fp32_pred_on",
]  # fmt: skip
CHIPS = {
    "a100": [
        *SCALAR, *OTHERS, "sm__inst_executed_pipe_tensor", f"{TENSOR}_src_fp64",
        *(f"{TENSOR}_src_{types}{sparsity}" for sparsity in BOTH
          for types in ("bf16_dst_fp32", "fp16_dst_fp16", "fp16_dst_fp32", "tf32_dst_fp32")),
    ],
    "h100": [
        *SCALAR, *OTHERS, "sm__inst_executed_pipe_tensor", f"{TENSOR}_src_fp64",
        f"{TENSOR}_src_bf16_dst_fp32", f"{TENSOR}_src_fp16", f"{TENSOR}_src_tf32_dst_fp32",
        *(f"{TENSOR}_op_{op}_src_bf16_dst_fp32{sparsity}" for op in ("hmma", "hgmma")
          for sparsity in BOTH),
        *(f"{TENSOR}_op_hgmma_src_fp16{sparsity}" for sparsity in BOTH[1:]),
    ],
    "b200": [
        *SCALAR, *PACKED, *OTHERS, "sm__inst_executed_pipe_tensor_subpipe_hmma",
        *(f"{TENSOR}_src_bf16_dst_fp32{sparsity}" for sparsity in BOTH[1:]),
        *(f"{TENSOR}_op_{op}_src_fp16_dst_fp32{sparsity}" for op in ("hmma", "utchmma")
          for sparsity in BOTH),
    ],
}  # fmt: skip

Launch = tuple[Sequence[str], str, Mapping[str, int]]


def install(folder: Path, **says: Any) -> Path:
    """The program."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fake.json").write_text(json.dumps(says))
    path = folder / "ncu"
    command = f'"{sys.executable}" "{HERE / "fake_ncu.py"}" "{folder}"'
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


def table(launches: Iterable[Launch], columns: Sequence[str]) -> str:
    """A raw page as CSV. Counts are by parts of a counter's name: "ffma", "src_bf16"."""
    fixed = ["ID", "Process ID", "Process Name", "Host Name", RANGE_COLUMN, "Kernel Name",
             "Context", "Stream", "Block Size", "Grid Size", "Device", "CC"]  # fmt: skip
    rows = [[*fixed, *columns], [*[""] * len(fixed), *["inst"] * len(columns)]]
    for number, (ranges, kernel, counts) in enumerate(launches):
        stack = "  ".join(f'"{name}:none:none:none:none:none:none"' for name in ranges)
        values = [
            f"{sum(n for part, n in counts.items() if part in column.split('.')[0]):,}"
            for column in columns
        ]
        rows.append([
            str(number), "71", "triphase_steps", "127.0.0.1", f"71  {stack}" if stack else "",
            kernel, "1", "7", "(256, 1, 1)", "(8, 1, 1)", "0", "9.0", *values,
        ])  # fmt: skip
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue()


def ranges(group: str) -> list[str]:
    """The NVTX ranges around a group's kernels."""
    return ["<default domain>:triphase", f"<default domain>:triphase[{group}]"]


def names(chip: str | list[str]) -> list[str]:
    return CHIPS[chip] if isinstance(chip, str) else chip


def profile(folder: Path, says: dict[str, Any], arguments: list[str]) -> int:
    value = dict(itertools.pairwise(arguments))
    program = arguments.index(next(a for a in arguments if a.endswith("triphase_steps")))
    (folder / "arguments.json").write_text(json.dumps(arguments))
    for line in ["==PROF== Connected to process 71 (triphase_steps)", *says.get("says", [])]:
        print(line, flush=True)
    if says.get("hang"):
        (folder / "started").touch()
        time.sleep(60)
    if says.get("pass"):
        return subprocess.run(arguments[program:], check=False).returncode
    row = says.get("row", {"status": "unverified", "reason": "--verify=off"})
    if row is not None:
        out = next(a for a in arguments if a.startswith("--benchmark_out=")).partition("=")[2]
        context = {"triphase": {"versions": {"gpu": GPU}}}
        Path(out).write_text(json.dumps({"context": context, "benchmarks": [row]}))
    if "launches" in says:
        text = table(says["launches"], value["--metrics"].split(","))
        Path(value["--export"]).write_text(text[: len(text) - says.get("cut", 0)])
    return says.get("code", 0)


def main(folder: str, *arguments: str) -> int:
    says = json.loads((Path(folder) / "fake.json").read_text())
    if arguments[0] == "--version":
        print("NVIDIA (R) Nsight Compute Command Line Profiler\nVersion 9999.1 (made up)")
    elif arguments[0] == "--query-metrics":
        print("Device Made-up (MU100)\n")
        for name in names(says.get("chip", "h100")):
            print(f"{name:<60}Counter     inst    # of what its name says")
    elif arguments[0] == "--import":
        print("==WARNING== something that does no harm")
        print(Path(arguments[1]).read_text(), end="")
    else:
        return profile(Path(folder), says, list(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
