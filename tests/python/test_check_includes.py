# SPDX-License-Identifier: Apache-2.0
"""Builds small source trees and checks which of their includes scripts/check_includes refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_includes"
FOLDERS = ["core", "optimizers", "ops", "program", "layers", "model", "stats", "measure", "report"]
FOLDERS += ["backends", "backends/reference", "backends/onednn", "backends/cuda", "bin"]


def check(root: Path) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A header a.h in every folder that the project has; none includes anything."""
    for folder in FOLDERS:
        (tmp_path / "src" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / folder / "a.h").write_text("#pragma once\n")
    (tmp_path / "benchmarks").mkdir()
    return tmp_path


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n")


ALLOWED = [
    ("src/core/b.cpp", '"core/a.h"'),
    ("src/core/b.cpp", "<vector>"),
    ("src/optimizers/b.cpp", '"core/a.h"'),
    ("src/ops/b.cpp", '"optimizers/a.h"'),
    ("src/program/b.cpp", '"ops/a.h"'),
    ("src/layers/b.cpp", '"program/a.h"'),
    ("src/layers/b.cpp", "<nlohmann/json.hpp>"),
    ("src/model/b.cpp", '"layers/a.h"'),
    ("src/backends/b.cpp", '"program/a.h"'),
    ("src/backends/onednn/b.cpp", '"backends/a.h"'),
    ("src/backends/onednn/b.cpp", '"a.h"'),
    ("src/backends/onednn/b.cpp", '"../a.h"'),
    ("src/backends/onednn/b.cpp", '"backends/onednn/a.h"'),
    ("src/backends/onednn/b.cpp", "<oneapi/dnnl/dnnl.hpp>"),
    ("src/backends/cuda/b.cu", "<cublas_v2.h>"),
    ("src/stats/b.cpp", '"core/a.h"'),
    ("src/measure/b.cpp", '"backends/a.h"'),
    ("src/measure/b.cpp", '"backends/reference/a.h"'),
    ("src/measure/b.cpp", '"stats/a.h"'),
    ("src/report/b.cpp", '"measure/a.h"'),
    ("src/report/b.cpp", '"model/a.h"'),
    ("src/bin/b.cpp", '"backends/onednn/a.h"'),
    ("benchmarks/b.cpp", '"backends/cuda/a.h"'),
    ("benchmarks/b.cpp", "<benchmark/benchmark.h>"),
]

REFUSED = [
    ("src/core/b.cpp", '"ops/a.h"', "core may not include ops"),
    ("src/core/b.cpp", "<nlohmann/json.hpp>", "the standard library alone"),
    ("src/optimizers/b.cpp", '"ops/a.h"', "optimizers may not include ops"),
    ("src/ops/b.cpp", '"program/a.h"', "ops may not include program"),
    ("src/program/b.cpp", '"layers/a.h"', "program may not include layers"),
    ("src/layers/b.cpp", '"model/a.h"', "layers may not include model"),
    ("src/layers/b.cpp", '"backends/a.h"', "layers may not include backends"),
    ("src/model/b.cpp", '"backends/a.h"', "model may not include backends"),
    ("src/backends/b.h", '"layers/a.h"', "backends may not include layers"),
    ("src/backends/b.h", '"backends/onednn/a.h"', "backends may not include backends/onednn"),
    ("src/backends/onednn/b.cpp", '"model/a.h"', "backends/onednn may not include model"),
    ("src/backends/onednn/b.cpp", '"../cuda/a.h"', "may not include backends/cuda"),
    ("src/backends/onednn/b.cpp", '"backends/reference/a.h"', "may not include backends/reference"),
    ("src/backends/reference/b.cpp", "<dnnl.hpp>", "in src/backends/onednn/ alone"),
    ("src/backends/onednn/b.cpp", "<cuda_runtime.h>", "in src/backends/cuda/ alone"),
    ("src/backends/b.h", '"dnnl.hpp"', "in src/backends/onednn/ alone"),
    ("src/measure/b.cpp", '"backends/cuda/a.h"', "measure may not include backends/cuda"),
    ("src/measure/b.cpp", '"model/a.h"', "measure may not include model"),
    ("src/measure/b.cpp", "<benchmark/benchmark.h>", "in benchmarks/ alone"),
    ("src/stats/b.cpp", '"measure/a.h"', "stats may not include measure"),
    ("src/report/b.cpp", '"bin/a.h"', "report may not include bin"),
    ("benchmarks/b.cpp", "<dnnl.hpp>", "in src/backends/onednn/ alone"),
    ("src/bin/b.cpp", "<gtest/gtest.h>", "in tests/ alone"),
]


@pytest.mark.parametrize(("file", "target"), ALLOWED)
def test_passes_an_include_that_points_the_right_way(tree: Path, file: str, target: str) -> None:
    write(tree, file, f"#include {target}")
    assert check(tree)[0] == 0


@pytest.mark.parametrize(("file", "target", "message"), REFUSED)
def test_refuses_an_include_that_points_back(
    tree: Path, file: str, target: str, message: str
) -> None:
    write(tree, file, "// a comment", f"  #  include {target}")
    code, lines = check(tree)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"{file}:2: ")
    assert message in lines[0]


def test_angle_brackets_do_not_hide_a_folder_of_the_project(tree: Path) -> None:
    write(tree, "src/ops/b.cpp", "#include <program/a.h>")
    assert check(tree) == (1, ["src/ops/b.cpp:1: ops may not include program (program/a.h)"])


def test_names_every_violation_of_every_file(tree: Path) -> None:
    write(tree, "src/core/b.h", '#include "ops/a.h"', "", '#include "model/a.h"')
    write(tree, "src/stats/b.h", '#include "ops/a.h"')
    code, lines = check(tree)
    assert code == 1
    assert [line.split(": ")[0] for line in lines] == [
        "src/core/b.h:1",
        "src/core/b.h:3",
        "src/stats/b.h:1",
    ]


def test_an_include_in_a_comment_is_none(tree: Path) -> None:
    write(tree, "src/core/b.h", '// #include "ops/a.h"', "/*", '#include "ops/a.h"', "*/")
    assert check(tree)[0] == 0


def test_lines_count_on_below_a_block_comment(tree: Path) -> None:
    write(tree, "src/core/b.h", "/*", "*/", '#include "ops/a.h"')
    assert check(tree)[1][0].startswith("src/core/b.h:3: ")


def test_a_folder_without_a_place_in_the_order_is_refused(tree: Path) -> None:
    write(tree, "src/helpers/b.h", "#pragma once")
    code, lines = check(tree)
    assert code == 1
    assert "src/helpers/b.h:1: folder 'helpers'" in lines[0]


def test_a_folder_without_sources_is_bad_usage(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert done.returncode == 2
    assert "src" in done.stderr


def test_the_project_itself_passes() -> None:
    assert check(SCRIPT.parents[1])[0] == 0
