# SPDX-License-Identifier: Apache-2.0
"""Exports are read back by those they are for, or held against what those publish."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import histories
from triphase import history_formats, track
from triphase.records import SCHEMA_PATH

OTAVA = SCHEMA_PATH.parents[1] / "build" / "otava" / "bin" / "otava"

# customSmallerIsBetter, as github-action-benchmark's README documents it.
GITHUB_ACTION_BENCHMARK = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "properties": {
            "name": {"type": "string"},
            "unit": {"type": "string"},
            "value": {"type": "number"},
            "range": {"type": "string"},
            "extra": {"type": "string"},
        },
        "additionalProperties": False,
    },
}

# Bencher Metric Format, as Bencher's reference documents it.
BENCHER = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "type": "object",
            "required": ["value"],
            "properties": {
                "value": {"type": "number"},
                "lower_value": {"type": "number"},
                "upper_value": {"type": "number"},
            },
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def place(tmp_path, capsys) -> Path:
    """Thirty runs, a step at the sixteenth; at the fourth, kernel b does not run."""
    times = histories.step(30, 15)
    files = [
        histories.write(tmp_path, d, {"a": s, "b": None if d == 3 else 2e-3}, commit=f"c{d}")
        for d, s in enumerate(times)
    ]
    assert track.run_main(["add", *map(str, files), "--db", str(tmp_path / "h.db")]) == 0
    capsys.readouterr()
    return tmp_path / "h.db"


def export(place: Path, form: str, *words: str) -> Path:
    out = place.with_name(f"export.{form}")
    assert (
        track.run_main(["export", "--to", form, "--out", str(out), "--db", str(place), *words]) == 0
    )
    return out


def test_github_action_benchmark_gets_the_newest_run(place):
    entries = json.loads(export(place, "github-action-benchmark").read_text())
    jsonschema.validate(entries, GITHUB_ACTION_BENCHMARK)
    assert [(e["name"], e["unit"], e["value"]) for e in entries] == [
        ("a", "s", histories.step(30, 15)[29]),
        ("b", "s", 2e-3),
    ]
    assert entries[1]["range"] == "0.00198 to 0.00202"


def test_bencher_gets_the_newest_run_in_nanoseconds(place):
    metrics = json.loads(export(place, "bencher").read_text())
    jsonschema.validate(metrics, BENCHER)
    assert metrics["b"]["latency"] == pytest.approx(
        {"value": 2e6, "lower_value": 1.98e6, "upper_value": 2.02e6}
    )


def test_parquet_holds_every_point_and_polars_reads_it(place):
    frame = pl.read_parquet(export(place, "parquet"))
    assert frame.height == 60
    first = frame.row(0, named=True)
    assert first["time"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert first["samples_s"] == [1e-3 * 0.995, 1e-3, 1e-3 * 1.005]
    failed = frame.filter(pl.col("status") == "failed").row(0, named=True)
    assert (failed["kernel"], failed["commit"], failed["median_s"]) == ("b", "c3", None)
    assert (failed["reason"], failed["samples_s"]) == ("no such device", [])


seconds = st.floats(1e-12, 1e6)


@settings(max_examples=25)
@given(st.lists(st.tuples(seconds, st.lists(seconds, max_size=5)), min_size=1, max_size=5))
def test_parquet_keeps_values_to_the_last_bit(points):
    rows = [
        {
            **dict.fromkeys(("kernel", "unit", "environment", "commit", "label"), "x"),
            **dict.fromkeys(("reason", "ci95_low_s", "ci95_high_s")),
            "run": i,
            "time": i,
            "status": "ok",
            "median_s": median,
            "sample_count": 3,
            "samples_s": samples,
        }
        for i, (median, samples) in enumerate(points)
    ]
    frame = pl.read_parquet(history_formats.parquet(rows))
    assert list(zip(frame["median_s"], frame["samples_s"].to_list(), strict=True)) == points


def test_otava_gets_a_table_without_gaps(place, capsys):
    table = pl.read_csv(export(place, "otava-csv"))
    assert table.columns == ["time", "commit", "a", "b"]
    assert table["commit"].to_list() == [f"c{day}" for day in range(30) if day != 3]
    assert "left out: 1 runs of other environments or without all of the kernels" in (
        capsys.readouterr().out
    )


def test_otava_gets_all_runs_of_a_kernel_that_always_ran(place):
    table = pl.read_csv(export(place, "otava-csv", "--kernel", "a"))
    assert table["a"].to_list() == histories.step(30, 15)


@pytest.mark.skipif(
    not OTAVA.exists(),
    reason="Otava's command line is not installed: python3 -m venv build/otava && "
    "build/otava/bin/pip install apache-otava",
)
def test_otava_reads_its_table_and_finds_the_step(place):
    config = export(place, "otava-csv").with_name("export.otava-csv.yaml")
    words = [
        "analyze",
        "history",
        "--config-file",
        config,
        "--since",
        "2025-12-01",
        "--output",
        "json",
    ]
    done = subprocess.run([OTAVA, *words], capture_output=True, text=True, check=True)
    (change,) = json.loads(done.stdout)["history"]
    assert datetime.fromtimestamp(change["time"], UTC) == datetime(2026, 1, 16, tzinfo=UTC)
    assert [c["metric"] for c in change["changes"]] == ["a"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "parquet", "--kernel", "c"], "--kernel: expected one of 2 kernels"),
        (["--to", "parquet", "--out", "/dev/null/x"], "/dev/null"),
    ],
)
def test_an_export_that_cannot_be_made_is_one_line(place, capsys, words, said):
    out = place.with_name("out.parquet")
    code = track.run_main(["export", "--out", str(out), "--db", str(place), *words])
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert not out.exists()


def test_kernels_that_never_ran_cannot_be_exported(tmp_path, capsys):
    place = str(tmp_path / "h.db")
    track.run_main(["add", str(histories.write(tmp_path, 0, {"a": None, "b": 1.0})), "--db", place])
    words = ["--to", "bencher", "--kernel", "a", "--out", str(tmp_path / "x"), "--db", place]
    code = track.run_main(["export", *words])
    assert code == 2
    assert "expected kernels with a time, found none" in capsys.readouterr().err
