# SPDX-License-Identifier: Apache-2.0
"""Shared documents: made once, copied for each test that changes them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import fake_steps
from binaries import run, tiny_network, write_model
from triphase import records

# No test asserts how long anything takes, on machines that others use as well.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def pristine() -> dict[str, Any]:
    return fake_steps.full_document()


@pytest.fixture
def full(pristine: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(pristine)


@pytest.fixture(scope="session")
def full_records(pristine: dict[str, Any]) -> records.Records:
    return records.build(pristine)


@pytest.fixture
def write_steps(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a document, or raw text, as steps.json in a fresh run directory."""

    def write(content: Any) -> Path:
        path = tmp_path / "steps.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture(scope="session")
def backend() -> str:
    """One that this build has."""
    process = run("triphase_steps", "--model=OneNet", "--backend=onednn", "--dry_run")
    return "onednn" if " runs " in process.stdout else "reference"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The file of a network whose steps take microseconds."""
    return write_model(tmp_path, tiny_network())
