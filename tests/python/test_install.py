# SPDX-License-Identifier: Apache-2.0
"""What `cmake --install` leaves runs wherever it is copied to, without the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from binaries import FOLDER, NO_GPU, results, tiny_network

BUILD = FOLDER.parent
TOOLS = ("triphase_cost", "triphase_ceilings", "triphase_steps", "triphase_kernels")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (BUILD / "cmake_install.cmake").is_file():
        pytest.skip(f"{BUILD} is not where the binaries were built")
    folder = tmp_path_factory.mktemp("install")
    subprocess.run(
        ["cmake", "--install", BUILD, "--prefix", folder / "first"], check=True, capture_output=True
    )
    return Path(shutil.move(folder / "first", folder / "elsewhere"))


def output(installed: Path, tool: str, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "TRIPHASE_BENCHMARKS"} | NO_GPU
    ran = subprocess.run(
        [installed / "bin" / tool, *arguments],
        cwd=installed, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ran.stdout


def test_every_tool_has_its_libraries(installed: Path) -> None:
    own = {path.name for path in (installed / "lib").iterdir()}
    for tool in TOOLS:
        listed = subprocess.run(
            ["ldd", installed / "bin" / tool], capture_output=True, text=True, check=True
        ).stdout
        found = [
            line.split(" => ")[1].split(" (")[0] for line in listed.splitlines() if "=>" in line
        ]
        for path in map(Path, found):
            assert path.name not in own or path.resolve().is_relative_to(installed.resolve()), path
        assert "not found" not in listed


def test_its_own_models_and_suites_are_found(installed: Path) -> None:
    here = installed / "share" / "triphase"
    (here / "models" / "OnlyHere.json").write_text(json.dumps(tiny_network("OnlyHere")))
    assert "OnlyHere" in output(installed, "triphase_cost", "--model=OnlyHere")
    (here / "suites" / "quick.json").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        output(installed, "triphase_steps", "--suite=quick", "--dry_run")


def test_it_measures(installed: Path) -> None:
    out = installed / "steps.json"
    arguments = ["--model=MLP:inputs=4", "--time_per_case=0.01", "--ceilings=off"]
    output(installed, "triphase_steps", *arguments, f"--benchmark_out={out}")
    assert {row["status"] for row in results(out)["benchmarks"]} == {"ok"}
