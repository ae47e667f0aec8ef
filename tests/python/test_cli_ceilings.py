# SPDX-License-Identifier: Apache-2.0
"""triphase_ceilings, and what triphase_steps makes of its file. No rate is checked."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import binaries

Json = dict[str, Any]
QUICK = ["--time_per_group=0.001", "--time_per_case=0.01", "--threads=1", "--max_memory=512MiB"]
SMALL = [
    {
        "model": "CalibrationMLP",
        "batch": [2, 8],
        "parameters": {"inputs": 50, "first": 40, "second": 30},
    },
    {
        "model": "CalibrationMLP",
        "batch": 3,
        "parameters": {"inputs": 20, "first": 60, "second": 10},
    },
]

pytestmark = pytest.mark.skipif(
    binaries.run("triphase_steps", "--model=MLP", "--dry_run").stdout.count("no oneDNN backend")
    > 0,
    reason="this build has no backend with ceilings",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPHASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ceilings with a calibration on three small cases."""
    folder = tmp_path_factory.mktemp("ceilings")
    suite = folder / "suite.json"
    suite.write_text(json.dumps(SMALL))
    out = folder / "ceilings.json"
    process = binaries.run("triphase_ceilings", *QUICK, f"--calibration={suite}", f"--out={out}")
    assert process.returncode == 0, process.stderr
    assert "prediction: fitted to" in process.stdout
    return out


def steps(*arguments: object) -> Any:
    return binaries.run(
        "triphase_steps",
        "--model=OneNet",
        "--batch=4",
        "--threads=1",
        "--time_per_case=0.05",
        *arguments,
    )


def rates(document: Json) -> dict[tuple[str, str], Json]:
    return {(r["kernel"], r.get("level", r.get("dtype", ""))): r for r in document["rates"]}


def test_a_file_holds_every_kind_of_ceiling_with_its_unit(measured: Path) -> None:
    document = binaries.parse(measured.read_text())
    found = rates(document)
    assert found["gemm", "f32"]["unit"] == "FLOP/s"
    assert found["convolution", "f32"]["value"] > 0
    for level in ("L1", "L2", "L3"):
        for kernel in ("read", "write", "copy", "update"):
            assert found[kernel, level]["unit"] == "B/s"
        assert found["load", level]["unit"] == "s"
    assert found["fork_join", ""]["unit"] == "s"
    for rate in document["rates"]:
        assert rate["value"] > 0
        assert rate["threads"] == 1
        if "ci95_low" in rate:
            assert rate["ci95_low"] <= rate["value"] <= rate["ci95_high"]
    assert document["calibration"]["cases"] == 3
    families = document["calibration"]["factors"]
    assert set(families) >= {"update sgd", "relu_backward"}
    assert any(family.startswith("linear forward") for family in families)


def test_the_prediction_can_be_fitted_in_other_types(tmp_path: Path) -> None:
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps(SMALL))
    out = tmp_path / "ceilings.json"
    flags = [f"--calibration={suite}", f"--out={out}", "--dtype=f32,bf16"]
    process = binaries.run("triphase_ceilings", *QUICK, *flags)
    assert process.returncode == 0, process.stderr
    calibration = json.loads(out.read_text())["calibration"]
    in_bf16 = {family for family in calibration["factors"] if " in bf16" in family}
    if not in_bf16:  # a processor on which the library has none
        assert calibration["cases"] == 3
        return
    assert calibration["cases"] == 6
    assert {"update sgd in bf16", "update sgd"} <= calibration["factors"].keys()
    rows = tmp_path / "steps.json"
    steps(f"--ceilings={out}", "--dtype=bf16", f"--benchmark_out={rows}")
    whole = next(r for r in binaries.results(rows)["benchmarks"] if r["phase"] == "step")
    assert whole["predicted_s"] > 0


def test_levels_that_need_more_memory_are_left_out(measured: Path) -> None:
    assert ("read", "memory") not in rates(json.loads(measured.read_text()))


def test_a_file_that_is_there_is_shown_and_not_measured_again(measured: Path) -> None:
    before = measured.read_bytes()
    process = binaries.run("triphase_ceilings", "--threads=1", f"--out={measured}", "--format=json")
    assert process.returncode == 0
    assert json.loads(process.stdout) == json.loads(before)
    assert measured.read_bytes() == before
    process = binaries.run("triphase_ceilings", "--threads=1", f"--out={measured}")
    at = json.loads(before)["measured_at"]
    assert f"measured at {at}, kept in {measured}; --remeasure measures anew" in process.stdout


@pytest.mark.parametrize("flag", QUICK[:2] + QUICK[3:] + ["--calibration=off"])
def test_flags_of_measuring_are_refused_where_a_file_is_only_shown(
    measured: Path, flag: str
) -> None:
    process = binaries.run("triphase_ceilings", "--threads=1", f"--out={measured}", flag)
    words = (f"{flag.split('=')[0]}: expected --remeasure beside it", measured)
    binaries.assert_refused(process, *words)


def test_ceilings_of_a_busy_machine_are_said_not_to_be_trusted(
    measured: Path, tmp_path: Path
) -> None:
    document = json.loads(measured.read_text())
    assert document["involuntary_switches_per_s"] >= 0
    busy = tmp_path / "busy.json"
    busy.write_text(json.dumps(document | {"involuntary_switches_per_s": 5000}))
    told = "not to be trusted, as other programs took a processor away 5000 times a second"
    assert told in steps(f"--ceilings={busy}").stderr
    idle = tmp_path / "idle.json"
    idle.write_text(json.dumps(document | {"involuntary_switches_per_s": 5}))
    assert "trusted" not in steps(f"--ceilings={idle}").stderr


def test_by_default_the_file_is_found_by_the_steps(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    process = steps(f"--benchmark_out={out}")
    assert process.returncode == 0
    assert "no ceilings are known" in process.stderr
    assert json.loads(out.read_text())["context"]["triphase"]["ceilings"] == {}

    assert binaries.run("triphase_ceilings", *QUICK, "--calibration=off").returncode == 0
    assert len(list(cache.glob("ceilings-*-onednn-1threads.json"))) == 1
    process = steps(f"--benchmark_out={out}")
    assert "no ceilings are known" not in process.stderr
    document = binaries.results(out)
    assert "onednn" in document["context"]["triphase"]["ceilings"]
    for row in document["benchmarks"]:
        if "median_s" in row:
            assert "predicted_s" not in row  # nothing was calibrated
            assert row["bound"] in {"compute", "L1", "L2", "L3", "memory", "latency"}


def test_rows_carry_prediction_bound_and_mfu(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    process = steps(f"--benchmark_out={out}", f"--ceilings={measured}")
    assert process.returncode == 0, process.stderr
    rows = {
        (r.get("layer", ""), r["phase"]): r
        for r in binaries.results(out)["benchmarks"]
        if "median_s" in r
    }
    for row in rows.values():
        assert row["predicted_s"] > 0
        assert row["roofline_s"] > 0
    phases = ("forward", "backward_data", "backward_weights", "update")
    whole = rows["", "step"]
    assert whole["predicted_s"] == pytest.approx(sum(rows["", p]["predicted_s"] for p in phases))
    layers = sum(
        r["predicted_s"] for (layer, phase), r in rows.items() if layer and phase == "forward"
    )
    assert layers == pytest.approx(rows["", "forward"]["predicted_s"])
    of_layers = [r["roofline_s"] for (layer, _), r in rows.items() if layer]
    assert whole["roofline_s"] == pytest.approx(sum(of_layers))  # none runs beside another
    ceiling = rates(json.loads(measured.read_text()))["gemm", "f32"]["value"]
    assert whole["mfu"] > 0
    if "machine_speed" not in whole:
        assert whole["mfu"] == pytest.approx(whole["flop"] / whole["median_s"] / ceiling)


def test_a_journal_of_other_ceilings_is_refused(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps.json"
    flags = (f"--benchmark_out={out}", f"--ceilings={measured}")
    assert steps(*flags).returncode == 0
    settings = binaries.results(out)["context"]["triphase"]["settings"]
    assert settings["ceilings"] == {"onednn": json.loads(measured.read_text())["measured_at"]}
    journal = tmp_path / "steps.json.journal"
    for ceilings, code in ((settings["ceilings"], 0), ({}, 2), ({"onednn": "2020-01-01"}, 2)):
        journal.write_text(json.dumps({"run": settings | {"ceilings": ceilings}}) + "\n")
        process = steps(*flags, "--resume")
        assert process.returncode == code, process.stderr
        assert ("the same machine and flags" in process.stderr) == (code == 2)


def test_explain_names_the_biggest_loss(measured: Path) -> None:
    process = steps(f"--ceilings={measured}", "--explain")
    assert process.returncode == 0
    assert "biggest loss: " in process.stdout
    for word in ("of its ceiling", "bound", "predicted", "fc2"):
        assert word in process.stdout
    told = "run triphase_ceilings --backend=onednn --threads=1 first"
    assert told in steps("--ceilings=off", "--explain").stdout


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: "{", ["ceilings.json", "JSON"]),
        (lambda d: json.dumps([]), ["ceilings.json", "schema"]),
        (lambda d: json.dumps(d | {"schema": 7}), ["/schema", "schema 3", "7"]),
        (lambda d: json.dumps(d | {"rates": "none"}), ["/rates", "a list"]),
        (lambda d: json.dumps(d | {"fingerprint": "0"}), ["another machine"]),
        (lambda d: json.dumps(d | {"threads": 64}), ["1 thread", "64 threads"]),
    ],
)
def test_a_file_that_is_no_use_is_refused(
    measured: Path, tmp_path: Path, spoil: Any, words: list[str]
) -> None:
    bad = tmp_path / "ceilings.json"
    bad.write_text(spoil(json.loads(measured.read_text())))
    binaries.assert_refused(steps(f"--ceilings={bad}"), *words)


@pytest.mark.parametrize("text", ["", "{", '{"schema": 7}'])
def test_what_was_kept_and_is_damaged_stops_no_measuring_and_is_measured_anew(
    cache: Path, text: str
) -> None:
    measure = ["triphase_ceilings", *QUICK, "--calibration=off"]
    assert binaries.run(*measure).returncode == 0
    (kept,) = cache.glob("ceilings-*.json")
    kept.write_text(text)
    process = steps()
    assert process.returncode == 0
    assert "the ceilings that were kept cannot be read" in process.stderr
    assert "triphase_ceilings --remeasure" in process.stderr
    process = binaries.run(*measure)
    assert process.returncode == 0
    assert "is measured anew" in process.stderr
    assert json.loads(kept.read_text())["rates"]


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    binaries.assert_refused(steps(f"--ceilings={tmp_path}/none.json"), "--ceilings", "none.json")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend=abacus"], ["--backend", "abacus"]),
        (["--backend=reference", "--calibration=off"], ["--backend", "reference"]),
        (["--calibration=nowhere"], ["nowhere"]),
        (["--calibration=off", "--dtype=bf16"], ["--dtype: expected a calibration"]),
        (["--calibration=smoke", "--dtype=f32,f16"], ["--dtype: ", "f16"]),
        (["--threads=0"], ["--threads"]),
        (["--out=/proc/nowhere/x.json"], ["/proc/nowhere"]),
        (["--unknown"], ["--unknown"]),
    ],
)
def test_wrong_flags_are_refused(arguments: list[str], words: list[str]) -> None:
    binaries.assert_refused(binaries.run("triphase_ceilings", *QUICK, *arguments), *words)


def test_an_interrupted_run_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "ceilings.json"
    process = binaries.start(
        "triphase_ceilings", "--threads=1", "--max_memory=512MiB", f"--out={out}"
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing written" in err
    assert list(tmp_path.glob("ceilings.json*")) == []


def test_memory_for_no_ceiling_at_all_is_refused() -> None:
    process = binaries.run("triphase_ceilings", "--max_memory=1", "--calibration=off")
    words = ("--max_memory: expected enough for the smallest of the ceilings", "1 bytes")
    binaries.assert_refused(process, *words)


def test_a_size_that_is_none_is_refused() -> None:
    binaries.assert_refused(
        binaries.run("triphase_ceilings", "--max_memory=much"), "--max_memory", "much"
    )
