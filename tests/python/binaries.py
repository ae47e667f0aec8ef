# SPDX-License-Identifier: Apache-2.0
"""Runs the built binaries, and says what every refusal and every results file must look like."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from contract import assert_contract

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("TRIPHASE_BIN") or ROOT / "build" / "release" / "bin")
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # so that a machine that has one gives the same rows

Json = dict[str, Any]


def binary(name: str) -> Path:
    path = FOLDER / name
    assert path.is_file(), f"{path} is missing: run scripts/test, which builds it"
    return path


def start(name: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [binary(name), *map(_argument, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        env=os.environ | NO_GPU,
    )


def run(name: str, *arguments: object, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    process = start(name, *arguments)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _argument(argument: object) -> str | bytes:
    return argument if isinstance(argument, bytes) else str(argument)


def assert_refused(process: subprocess.CompletedProcess[str], *words: object) -> None:
    """Exit code 2 and one line that holds `words`; nothing on standard output."""
    assert process.returncode == 2, (process.returncode, process.stderr[-500:])
    assert process.stdout == ""
    assert process.stderr.endswith("\n")
    assert process.stderr.count("\n") == 1, process.stderr
    assert len(process.stderr) < 3000
    assert process.stderr.startswith(f"{Path(os.fsdecode(process.args[0])).name}: ")
    for word in ("terminate called", "Traceback", "Sanitizer", "std::", "nlohmann"):
        assert word not in process.stderr
    for word in words:
        assert str(word) in process.stderr, process.stderr


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def parse(text: str) -> Any:
    """RFC 8259: no NaN and no Infinity, which Python would take."""
    return json.loads(text, parse_constant=_refuse_constant)


def results(path: Path, own: tuple[str, ...] = ()) -> Json:
    """A results file, which keeps to results/schema.json."""
    document = parse(path.read_text(encoding="utf-8"))
    assert_contract(document, own=own)
    return document


def write_model(folder: Path, content: Any, name: str = "model.json") -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def tiny_network(name: str = "Tiny", width: int = 8) -> Json:
    return {
        "name": name,
        "input": {"shape": [4], "dtype": "f32"},
        "loss": {"kind": "softmax_cross_entropy"},
        "layers": [
            {"name": "fc1", "kind": "linear", "out_features": width},
            {"name": "relu1", "kind": "relu"},
            {"name": "fc2", "kind": "linear", "out_features": 3},
        ],
    }


# What every binary that runs benchmarks refuses, and words of its line.
REFUSED_FLAGS: dict[str, tuple[list[object], list[str]]] = {
    "unknown_flag": (["--model=OneNet", "--frobnicate"], ["--frobnicate"]),
    "unknown_model": (["--model=Nope"], ["model: expected", "OneNet", "found 'Nope'"]),
    "batch_0": (["--model=OneNet", "--batch=0"], ["batch: expected an integer from 1", "found 0"]),
    "backend": (["--model=OneNet", "--backend=foo"], ["onednn, cuda or reference", "'foo'"]),
    "dtype": (["--model=OneNet", "--dtype=f99"], ["one of f32, tf32, bf16, f16", "'f99'"]),
    "loss_scale_0": (
        ["--model=OneNet", "--dtype=f16", "--loss_scale=0"],
        ["a power of two", "'0'"],
    ),
    "loss_scale_huge": (
        ["--model=OneNet", "--dtype=f16", "--loss_scale=33554432"],
        ["from 1 to 16777216", "'33554432'"],
    ),
    "loss_scale_nan": (["--model=OneNet", "--dtype=f16", "--loss_scale=nan"], ["a power of two"]),
    "loss_scale_in_f32": (
        ["--model=OneNet", "--loss_scale=2"],
        ["--loss_scale: expected --dtype=f16", "found no case in f16"],
    ),
    "loss_scale_of_suite": (
        ["--suite=smoke", "--loss_scale=2"],
        ["--loss_scale: expected --dtype=f16, found no case in f16"],
    ),
    "optimizer": (["--model=OneNet", "--optimizer=sdg"], ["one of sgd", "'sdg'"]),
    "threads_0": (["--model=OneNet", "--threads=0"], ["--threads"]),
    "verify": (["--model=OneNet", "--verify=maybe"], ["--verify", "maybe"]),
    "memory_word": (["--model=OneNet", "--max_memory=lots"], ["--max_memory: expected", "'lots'"]),
    **{
        f"seed_{seed}": (
            ["--model=OneNet", f"--seed={seed}"],
            ["--seed: expected a whole number from 0 to 18446744073709551615", f"'{seed}'"],
        )
        for seed in ("-1", 2**64, "1.5", "one")
    },
    "batch_of_suite": (["--suite=smoke", "--batch=0"], [": --batch: expected an integer from 1"]),
    "dtype_of_suite": (["--suite=smoke", "--dtype=f99"], [": dtype: expected one of f32, tf32"]),
    "optimizer_of_suite": (["--suite=smoke", "--optimizer=foo"], [": optimizer: expected one of"]),
    "too_many_of_suite": (["--suite=smoke", "--batch=1:99999:+1"], ["at most 100000 cases"]),
    "parameter_twice": (["--model=MLP:inputs=1,inputs=2"], ["each parameter once", "'inputs'"]),
    "context_twice": (["--model=OneNet", "--benchmark_context=a=1,b=2,a=3"], ["each key once"]),
    "model_folder": ([f"--model={ROOT}/benchmarks.json"], ["expected a file", "No such file"]),
    "resume_without_file": (["--model=OneNet", "--resume"], ["--resume: expected --benchmark_out"]),
    "filter": (["--model=OneNet", "--benchmark_filter=("], ["--benchmark_filter", "regular"]),
    "repetitions_0": (["--model=OneNet", "--benchmark_repetitions=0"], ["from 1 to 10000", "'0'"]),
    "format": (["--model=OneNet", "--benchmark_format=csv"], ["console or json", "'csv'"]),
    "out_format": (
        ["--model=OneNet", "--benchmark_out_format=csv"],
        ["json, found 'csv'"],
    ),
    "no_value": (["--model=OneNet", "--benchmark_filter", "MLP"], ["--benchmark_filter=VALUE"]),
    "no_such_flag": (["--model=OneNet", "--benchmark_perf=1"], ["--benchmark_perf", "--help"]),
    "context": (["--model=OneNet", "--benchmark_context=novalue"], ["key=value", "'novalue'"]),
    "benchmark_flag": (["--model=OneNet", "--benchmark_frobnicate=1"], ["--benchmark_frobnicate"]),
}
