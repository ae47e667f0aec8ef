# SPDX-License-Identifier: Apache-2.0
"""The tools with --backend=cuda end to end, on a fake GPU (tests/fake_gpu).

Its clock counts: a millisecond an operation, and half of one more where it is launched alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import binaries
from binaries import Json, results, write_model
from triphase.records import load

FAKE = binaries.FOLDER.parent / "fake_gpu"
MS = 1e-3

pytestmark = pytest.mark.skipif(
    not (FAKE / "libcudnn.so.9").is_file(), reason="this build has no GPU backend with convolutions"
)

NETWORK: Json = {
    "name": "Small",
    "input": {"shape": [2, 4, 4]},
    "loss": {"kind": "softmax_cross_entropy"},
    "layers": [
        {"name": "conv", "kind": "conv2d", "out_channels": 3, "kernel": 2},
        {"name": "relu", "kind": "relu"},
        {"name": "flatten", "kind": "flatten"},
        {"name": "fc", "kind": "linear", "out_features": 3},
    ],
}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_model(tmp_path, NETWORK)


def run_faked(
    tool: str, *arguments: object, fail: str = "", idle: bool = False, folder: Path = FAKE
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"FAKE_GPU_FAIL": fail} if fail else {})
    environment |= {"FAKE_GPU_IDLE": "1"} if idle else {}
    process = subprocess.run(
        [folder / f"triphase_{tool}", *map(str, arguments), "--backend=cuda"],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        timeout=120,
    )
    assert "not allowed" not in process.stderr
    return process


def steps(
    out_folder: Path, *arguments: object, code: int = 0, seconds: float = 0.02, **how: Any
) -> tuple[list[Json], subprocess.CompletedProcess[str]]:
    """The rows of whole steps, of a results file that keeps to the schema."""
    out = out_folder / "steps.json"
    process = run_faked(
        "steps", *arguments, f"--time_per_case={seconds}", f"--benchmark_out={out}", **how
    )
    assert process.returncode == code, process.stderr
    rows = results(out)["benchmarks"]
    return [row for row in rows if row["phase"] == "step"], process


def test_every_precision_is_measured_and_verified(tmp_path: Path, network: Path) -> None:
    rows, process = steps(
        tmp_path, f"--model={network}", "--batch=2,5", "--dtype=f32,tf32,bf16,f16"
    )
    assert [row["status"] for row in rows] == ["ok"] * 8
    for row in rows:
        assert row["verified_elements"] > 0
        assert row["max_error_over_bound"] <= 1
        assert row["threads"] == 1
        assert "involuntary_switches_per_s" not in row  # which would not matter
        assert (row["device_clock_hz"], row["device_memory_clock_hz"]) == (1.98e9, 2.619e9)
        assert row["throttled_share"] == 1
        assert row["throttled_by"] == ["hardware thermal slowdown", "power cap"]
    assert "busy" not in process.stdout
    assert load(tmp_path / "steps.json").machine == "host in a GPU's place"


def test_times_are_the_devices(tmp_path: Path) -> None:
    rows, _ = steps(tmp_path, "--model=OneNet", "--batch=1", seconds=0.5)
    row = rows[0]
    # Forward three products and the loss; backward the loss's gradient, two
    # ReLUs, a product a layer for its weights and another where data has a gradient; one update.
    assert row["median_s"] == pytest.approx((4 + 8 + 1) * MS)
    assert (row["ci95_low_s"], row["ci95_high_s"]) == (row["median_s"], row["median_s"])
    assert row["marking_overhead"] == pytest.approx(1)
    assert row["launch_overhead"] == pytest.approx(1.5)
    document = results(tmp_path / "steps.json")["benchmarks"]
    phases = {r["phase"]: r["median_s"] for r in document if "layer" not in r}
    assert phases["forward"] == pytest.approx(4 * MS)
    assert phases["backward"] == pytest.approx(8 * MS)
    assert phases["update"] == pytest.approx(1 * MS)
    layers = [r["real_time"] for r in document if "layer" in r]
    assert sum(layers) == pytest.approx(row["real_time"])


def test_without_memory_a_case_is_skipped_and_the_next_one_runs(
    tmp_path: Path, network: Path
) -> None:
    wide = {"layers": [{"name": "fc", "kind": "linear", "out_features": 40000}]}
    big = write_model(
        tmp_path, NETWORK | wide | {"name": "Big", "input": {"shape": [100000]}}, "big.json"
    )
    rows, _ = steps(tmp_path, f"--model={big}", f"--model={network}", "--batch=2")
    assert [row["status"] for row in rows] == ["skipped", "ok"]
    assert re.fullmatch(
        r"needs at least [\d.]+ GiB of memory, 14.4 GiB may be used", rows[0]["reason"]
    )
    # CUDA may have less in one piece than it says.
    rows, _ = steps(tmp_path, f"--model={network}", "--batch=2,4", fail="cudaMalloc:8:2")
    assert sorted(row["status"] for row in rows) == ["ok", "skipped"]
    reason = next(row["reason"] for row in rows if row["status"] == "skipped")
    assert re.fullmatch(
        r"needs \d+\.?\d* \w+ of GPU memory in one piece, of which [\d.]+ GiB are free "
        r"\(cudaMalloc: out of memory \(cudaErrorMemoryAllocation\)\)",
        reason,
    )


@pytest.mark.parametrize("which", [40, 400, 900])
def test_a_lost_device_ends_the_run_and_what_was_measured_is_kept(
    tmp_path: Path, network: Path, which: int
) -> None:
    rows, _ = steps(
        tmp_path,
        f"--model={network}",
        "--batch=2,4,6,8",
        fail=f"cudaStreamSynchronize:{which}:719",
        code=1,
    )
    found = [row["status"] for row in rows]
    lost = found.index("failed")
    assert found == ["ok"] * lost + ["failed"] + ["skipped"] * (3 - lost)
    assert "the device is lost for this process" in rows[lost]["reason"]
    for row in rows[lost:]:
        assert "unspecified launch failure (cudaErrorLaunchFailure)" in row["reason"]


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("cudaGetDeviceCount:1:100", "no GPU is to be seen (cudaGetDeviceCount: no CUDA-capable"),
        ("cudaGetDeviceCount:1:35", "update the driver"),
        ("cudaFuncGetAttributes:1:209", "no code for the host in a GPU's place of compute"),
        ("cudaDriverGetVersion:1:999", "cudaDriverGetVersion: unknown error (cudaErrorUnknown)"),
        ("cudaMalloc:1:2", "cudaMalloc: out of memory (cudaErrorMemoryAllocation)"),
        ("cublasLtCreate:1:1", "cublasLtCreate: the library could not be initialised"),
    ],
)
def test_a_gpu_that_cannot_be_used_says_why(
    tmp_path: Path, network: Path, fail: str, words: str
) -> None:
    rows, _ = steps(tmp_path, f"--model={network}", fail=fail, code=2)
    assert [row["status"] for row in rows] == ["skipped"]
    assert words in rows[0]["reason"]
    assert "\n" not in rows[0]["reason"]


@pytest.mark.parametrize("fail", ["cublasLtMatmul:1:3", "cudnnBackendExecute:1:4004"])
def test_another_way_serves_where_one_has_no_memory(
    tmp_path: Path, network: Path, fail: str
) -> None:
    rows, _ = steps(tmp_path, f"--model={network}", fail=fail)
    assert [row["status"] for row in rows] == ["ok"]


def test_without_convolutions_linear_networks_run_on(tmp_path: Path, network: Path) -> None:
    mlp = write_model(tmp_path, binaries.tiny_network(), "mlp.json")
    folder = tmp_path / "bin"  # libraries are looked for beside the program
    folder.mkdir()
    for name in ("triphase_steps", "libcublasLt.so.13", "libnvidia-ml.so.1"):
        shutil.copy(FAKE / name, folder)
    for name in ("libcudnn.so.9", "libcudnn.so"):  # or one that is installed would be found
        (folder / name).touch()
    rows, _ = steps(tmp_path, f"--model={network}", f"--model={mlp}", "--batch=2", folder=folder)
    assert [row["status"] for row in rows] == ["skipped", "ok"]
    assert "CUDA backend: no way to run a convolution: cuDNN 9 cannot" in rows[0]["reason"]
    assert "too short): install it from NVIDIA" in rows[0]["reason"]


def test_tf32_that_the_environment_forbids_has_no_row(
    tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    rows, _ = steps(tmp_path, f"--model={network}", "--batch=2", "--dtype=f32,tf32")
    assert [row["status"] for row in rows] == ["ok", "skipped"]
    assert rows[1]["reason"].endswith("compute it in f32: unset that")


def test_a_product_tells_its_algorithm(tmp_path: Path, network: Path) -> None:
    steps(tmp_path, f"--model={network}", "--batch=2")
    rows = results(tmp_path / "steps.json")["benchmarks"]
    ran = [row["implementation"] for row in rows if "implementation" in row]
    assert any("cublaslt:algo13/tile?/stages?/cluster2/custom?/splitk?" in name for name in ran)


def test_kernels_are_timed_hot_and_cold(tmp_path: Path, network: Path) -> None:
    out = tmp_path / "kernels.json"
    process = run_faked(
        "kernels",
        f"--model={network}",
        "--batch=2",
        "--time_per_kernel=0.01",
        f"--benchmark_out={out}",
    )
    assert process.returncode == 0, process.stderr
    rows = results(out)["benchmarks"]
    assert {row["cache"] for row in rows} == {"hot", "cold"}
    assert {row["status"] for row in rows} == {"ok"}
    # In f32 cuDNN's fake fuses nothing, so that bias and ReLU take a kernel of their own.
    several = {"conv2d+add_bias+relu": 2}
    for row in rows:
        expected = several.get(row["name"].split("/")[0], 1) * MS
        assert row["median_s"] == pytest.approx(expected, rel=1e-6), row["name"]


def test_ceilings_are_by_the_devices_clock_and_steps_are_set_against_them(
    tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPHASE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "ceilings.json"
    sizes = {"inputs": 50, "first": 40, "second": 30}
    cases = [
        {"model": "CalibrationMLP", "batch": [2, 8], "parameters": sizes},
        {"model": "CalibrationMLP", "batch": 3, "parameters": sizes | {"first": 90}},
    ]
    suite = write_model(tmp_path, cases, "suite.json")
    process = run_faked(
        "ceilings",
        "--time_per_group=0.001",
        "--time_per_case=0.01",
        f"--calibration={suite}",
        f"--out={out}",
        idle=True,
    )
    assert process.returncode == 0, process.stderr
    rates = binaries.parse(out.read_text())["rates"]
    values = {(rate["kernel"], rate.get("dtype", "")): rate["value"] for rate in rates}
    assert values["call", ""] == pytest.approx(MS)
    assert values["fork_join", ""] == pytest.approx(MS)
    products = {dtype: value for (kernel, dtype), value in values.items() if kernel == "gemm"}
    assert set(products) == {"f32", "tf32", "bf16", "f16"}
    rows, _ = steps(tmp_path, f"--model={network}", "--batch=2", f"--ceilings={out}")
    assert rows[0]["mfu"] == pytest.approx(
        rows[0]["flop"] / rows[0]["median_s"] / products["f32"], rel=1e-3
    )
