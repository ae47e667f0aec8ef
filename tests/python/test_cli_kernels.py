# SPDX-License-Identifier: Apache-2.0
"""triphase_kernels end to end: every kernel gives its rows, hot and cold."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from binaries import (
    REFUSED_FLAGS,
    ROOT,
    Json,
    assert_refused,
    binary,
    parse,
    results,
    run,
    start,
    tiny_network,
    write_model,
)
from contract import assert_contract
from triphase.records import BadRecords, load
from triphase.track_runs import read_run

PHASES = {"forward", "backward_data", "backward_weights", "update"}


def kernels(*arguments: object, seconds: float = 0.002) -> subprocess.CompletedProcess[str]:
    return run("triphase_kernels", f"--time_per_kernel={seconds}", *arguments)


def rows_of(path: Path) -> list[Json]:
    return results(path)["benchmarks"]


def kernel_of(row: Json) -> str:
    """The row's name without the cache's state: a kernel as it is listed."""
    return row["name"].removesuffix(f"/{row['cache']}/real_time")


# --- What is asked --------------------------------------------------------------------------------

BAD_FLAGS: dict[str, tuple[list[object], list[str]]] = REFUSED_FLAGS | {
    "flag_of_steps": (["--model=OneNet", "--time_per_case=1"], ["--time_per_case"]),
    "unknown_suite": (["--suite=nope"], ["suite: expected", "kernels", "found 'nope'"]),
    "cache_word": (["--model=OneNet", "--cache=warm"], ["--cache", "warm"]),
    "cache_empty": (["--model=OneNet", "--cache="], ["--cache"]),
    "time_0": (["--model=OneNet", "--time_per_kernel=0"], ["--time_per_kernel"]),
    "time_nan": (
        ["--model=OneNet", "--time_per_kernel=nan"],
        ["--time_per_kernel: expected a number from 0.0001 to 1e+06, found 'nan'"],
    ),
    "filter_of_nothing": (
        ["--model=OneNet", "--benchmark_filter=Nope"],
        ["--benchmark_filter: expected a pattern that matches a kernel, found 'Nope'"],
    ),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_wrong_flags_are_refused_in_one_line(case: str) -> None:
    arguments, words = BAD_FLAGS[case]
    assert_refused(run("triphase_kernels", *arguments), *words)


def test_a_wrong_suite_is_refused_with_path_expected_and_found(tmp_path: Path) -> None:
    path = write_model(tmp_path, [{"model": "OneNet", "batches": 1}], "suite.json")
    assert_refused(kernels(f"--suite={path}"), "suite.json", "$[0].batches: expected only the keys")


def test_help_lists_the_flags() -> None:
    process = run("triphase_kernels", "--help")
    assert process.returncode == 0
    for flag in ("--suite", "--model", "--cache", "--time_per_kernel", "--benchmark_filter"):
        assert flag in process.stdout


def test_by_default_the_suite_of_kernels_is_taken() -> None:
    default = run("triphase_kernels", "--benchmark_list_tests")
    suite = run("triphase_kernels", "--suite=kernels", "--benchmark_list_tests")
    assert default.returncode == 0
    assert default.stdout == suite.stdout
    assert default.stdout.count("\n") * 2 >= 40  # hot and cold


# --- Selection ------------------------------------------------------------------------------------


def test_list_tests_prints_each_kernel_once(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    process = kernels(
        f"--model={tiny}",
        "--backend=reference",
        "--benchmark_list_tests",
        f"--benchmark_out={out}",
    )
    assert process.returncode == 0
    assert process.stderr == ""
    names = process.stdout.splitlines()
    assert len(set(names)) == len(names)
    assert "matmul/in:1x4,8x4/out:1x8/dtype:f32/backend:reference/forward" in names
    assert not out.exists()


@pytest.mark.parametrize(
    ("pattern", "phases", "layers"),
    [
        ("/update$", {"update"}, {"fc1", "fc2"}),
        ("^matmul", {"forward", "backward_data", "backward_weights"}, {"fc1", "fc2"}),
        ("Tiny/batch:2/.*/layer:fc2/backward_data", {"backward_data"}, {"fc2"}),
        ("layer:relu1/", {"forward", "backward_data"}, {"relu1"}),
        ("-Tiny/batch:2/", set(), set()),
    ],
)
def test_the_filter_knows_kernels_phases_and_models(
    tiny: Path, tmp_path: Path, pattern: str, phases: set[str], layers: set[str]
) -> None:
    out = tmp_path / "out.json"
    process = kernels(
        f"--model={tiny}",
        "--batch=2",
        "--backend=reference",
        f"--benchmark_filter={pattern}",
        f"--benchmark_out={out}",
    )
    if not phases:
        assert_refused(process, "expected a pattern that matches a kernel")
        return
    assert process.returncode == 0
    rows = rows_of(out)
    assert {row["phase"] for row in rows} == phases
    used = {use.split("/layer:")[1].split("/")[0] for row in rows for use in row["used_by"]}
    assert used == layers


def test_a_dry_run_lists_and_writes_no_file(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    process = kernels(
        f"--model={tiny}", "--backend=reference,cuda", "--dry_run", f"--benchmark_out={out}"
    )
    assert process.returncode == 0
    assert "matmul/in:1x4,8x4/out:1x8/dtype:f32/backend:reference/forward" in process.stdout
    assert "skipped: " in process.stdout
    assert "kernels would run" in process.stdout
    assert list(tmp_path.iterdir()) == [tiny]


# --- Rows -----------------------------------------------------------------------------------------


def test_each_kernel_has_a_row_hot_and_cold(tiny: Path, tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.json"
    process = kernels(f"--model={tiny}", f"--backend={backend}", f"--benchmark_out={out}")
    assert process.returncode == 0, process.stderr
    rows = rows_of(out)
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["phase"] for row in rows} == PHASES
    assert [row["cache"] for row in rows] == ["hot", "cold"] * (len(rows) // 2)
    assert [kernel_of(row) for row in rows[::2]] == [kernel_of(row) for row in rows[1::2]]
    assert len({row["name"] for row in rows}) == len(rows)
    # Warm-up drops the first run, and more where the first were slower.
    assert all(row["sample_count"] + row["warmup_steps"] > 7 for row in rows)
    assert all(row["runs_per_sample"] == 1 for row in rows[1::2])
    if backend == "onednn":
        assert all("proven_cold" in row for row in rows[1::2])
        assert results(out)["context"]["triphase"]["memory"][backend]["bytes_per_s"] > 0
    assert list(tmp_path.glob("out.json*")) == [out]  # neither journal nor temporary file is left
    assert str(out) in process.stdout


@pytest.mark.parametrize("cache", ["hot", "cold"])
def test_one_state_of_the_cache_can_be_chosen(tiny: Path, tmp_path: Path, cache: str) -> None:
    out = tmp_path / "out.json"
    flags = [f"--model={tiny}", "--backend=reference", f"--cache={cache}"]
    assert kernels(*flags, f"--benchmark_out={out}").returncode == 0
    assert {row["cache"] for row in rows_of(out)} == {cache}


def test_kernels_together_cost_what_the_step_costs(
    tiny: Path, tmp_path: Path, backend: str
) -> None:
    out = tmp_path / "out.json"
    flags = [f"--model={tiny}", "--batch=3", "--optimizer=adam"]
    assert kernels(*flags, f"--backend={backend}", f"--benchmark_out={out}").returncode == 0
    hot = [row for row in rows_of(out) if row["cache"] == "hot"]
    cost = parse(run("triphase_cost", *flags, "--format=json").stdout)
    for phase in PHASES:
        for key in ("flop", "flop_unpadded", "flop_executed", "traffic_bytes"):
            total = sum(row[key] * row["multiplicity"] for row in hot if row["phase"] == phase)
            assert total == cost["totals"][phase][key], (phase, key)


def test_names_do_not_depend_on_what_else_is_chosen(tiny: Path) -> None:
    def listed(*arguments: object) -> set[str]:
        process = kernels(*arguments, "--backend=reference", "--benchmark_list_tests")
        return set(process.stdout.splitlines())

    alone = listed(f"--model={tiny}", "--batch=2")
    assert alone < listed("--model=OneNet", f"--model={tiny}", "--batch=1,2")


def test_repetitions_give_a_row_each(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    flags = [f"--model={tiny}", "--backend=reference", "--benchmark_filter=^relu/"]
    kernels(*flags, "--benchmark_repetitions=2", f"--benchmark_out={out}")
    rows = rows_of(out)
    found = [(row["cache"], row["repetition_index"]) for row in rows]
    assert sorted(found) == [("cold", 0), ("cold", 1), ("hot", 0), ("hot", 1)]
    assert {row["repetitions"] for row in rows} == {2}


def test_repetitions_in_turns_share_a_setup_and_are_read_as_one_kernel(
    tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    turns = ["--benchmark_repetitions=3", "--benchmark_enable_random_interleaving=true"]
    kernels(f"--model={tiny}", "--backend=reference", *turns, f"--benchmark_out={out}")
    rows = rows_of(out)
    names = {row["name"] for row in rows}
    assert len(rows) == 3 * len(names)
    for name in names:
        of_name = [row for row in rows if row["name"] == name]
        assert {row["repetition_index"] for row in of_name} == {0, 1, 2}
        assert len({row["family_index"] for row in of_name}) == 1
        assert len({row["setup_s"] for row in of_name}) == 1
    assert {row.name for row in read_run(out).rows} == names


def test_json_on_standard_output_is_the_file(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    process = kernels(
        f"--model={tiny}",
        "--backend=reference,cuda",
        "--benchmark_format=json",
        "--benchmark_out_format=json",
        "--benchmark_context=branch=main",
        f"--benchmark_out={out}",
    )
    assert process.returncode == 0
    document = parse(process.stdout)
    own = ("context.branch",)
    assert_contract(document, own=own)
    assert document == results(out, own)
    assert document["context"]["branch"] == "main"
    assert document["context"]["executable"] == "triphase_kernels"


def test_unverified_rows_say_so(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    flags = [f"--model={tiny}", "--backend=reference", "--verify=off"]
    assert kernels(*flags, f"--benchmark_out={out}").returncode == 0
    assert {row["status"] for row in rows_of(out)} == {"unverified"}


def test_plots_of_steps_refuse_kernels(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    kernels(f"--model={tiny}", "--backend=reference", f"--benchmark_out={out}")
    with pytest.raises(BadRecords, match="kernels alone"):
        load(out)


def test_kernels_of_mixed_precision_say_what_they_keep_in_f32(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    process = kernels(
        f"--model={tiny}", "--backend=reference", "--dtype=bf16", f"--benchmark_out={out}"
    )
    assert process.returncode == 0, process.stderr
    rows = rows_of(out)
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["dtype"] for row in rows} == {"bf16"}
    names = [row["name"] for row in rows]
    assert all("/dtype:bf16/" in name for name in names)
    assert all(":f32" in name for name in names if name.startswith(("update/", "convert/")))
    assert not any(":f32" in name for name in names if name.startswith("matmul"))
    assert {"update", "convert"} <= {row["op"] for row in rows}


@pytest.mark.parametrize("scale", [1024, 64, 1])
def test_kernels_name_the_losses_scale_where_it_is_not_the_usual_one(
    tiny: Path, tmp_path: Path, scale: int
) -> None:
    out = tmp_path / "out.json"
    flags = (f"--model={tiny}", "--backend=reference", "--dtype=f16", f"--benchmark_out={out}")
    process = kernels(*flags, f"--loss_scale={scale}")
    assert process.returncode == 0, process.stderr
    assert {row["loss_scale"] for row in rows_of(out)} == {scale}
    names = [row["name"] for row in rows_of(out)]
    knowing = {"update", "softmax_cross_entropy_backward"} if scale != 1024 else set()
    assert {name.split("/")[0] for name in names if f"/loss_scale:{scale}/" in name} == knowing
    assert {name.split("/")[0] for name in names if "loss_scale" in name} == knowing


# --- What cannot run ------------------------------------------------------------------------------

NOT_HERE: dict[str, tuple[list[str], str]] = {
    "memory": (["--backend=reference", "--max_memory=8B"], "needs at least "),
    "cuda": (["--backend=cuda"], "CUDA"),
    "tf32": (["--backend=onednn", "--dtype=tf32"], "oneDNN"),
}


@pytest.mark.parametrize("case", NOT_HERE)
def test_where_nothing_can_run_rows_say_why_and_the_exit_code_is_2(
    tiny: Path, tmp_path: Path, case: str
) -> None:
    arguments, why = NOT_HERE[case]
    out = tmp_path / "out.json"
    flags = [f"--model={tiny}", "--benchmark_filter=^matmul"]
    process = kernels(*flags, *arguments, f"--benchmark_out={out}")
    assert process.returncode == 2
    assert "triphase_kernels: nothing of what was asked could run here" in process.stderr
    rows = rows_of(out)
    assert {row["cache"] for row in rows} == {"hot", "cold"}
    assert {row["status"] for row in rows} == {"skipped"}
    assert all(why.lower() in row["reason"].lower() for row in rows)


def test_rows_skipped_for_a_missing_device_are_fine_while_something_ran(
    tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    process = kernels(f"--model={tiny}", "--backend=reference,cuda", f"--benchmark_out={out}")
    assert process.returncode == 0
    assert {row["status"] for row in rows_of(out)} == {"ok", "skipped"}


# --- Where the file goes --------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["missing/out.json", "folder", "/proc/out.json", "/dev/full"])
def test_a_place_that_cannot_be_written_is_told(tiny: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    before = set(tmp_path.rglob("*"))
    out = tmp_path / place  # an absolute place stays itself
    process = kernels(f"--model={tiny}", "--backend=reference", f"--benchmark_out={out}")
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    assert last.startswith(f"triphase_kernels: {out}")
    assert "expected a file" in last
    assert set(tmp_path.rglob("*")) == before


def test_a_full_disk_below_standard_output_is_told(tiny: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [binary("triphase_kernels"), f"--model={tiny}", "--benchmark_list_tests"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    assert last.startswith("triphase_kernels: standard output: expected a file that can be written")


# --- Interruption ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_keeps_what_was_measured_and_resume_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    model = write_model(tmp_path, tiny_network())
    out = tmp_path / "out.json"
    journal = tmp_path / "out.json.journal"
    flags = [f"--model={model}", "--backend=reference", "--time_per_kernel=0.4"]
    process = start("triphase_kernels", *flags, f"--benchmark_out={out}")
    end = time.monotonic() + 60
    while not journal.exists() or journal.read_text().count("\n") < 2:  # a header and a kernel
        assert time.monotonic() < end, "no kernel is in the journal after a minute"
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "--resume goes on" in stderr
    rows = rows_of(out)
    listed = run("triphase_kernels", *flags, "--benchmark_list_tests").stdout.splitlines()
    assert [kernel_of(row) for row in rows[::2]] == listed
    assert rows[0]["status"] == "ok"
    assert rows[-1]["status"] == "skipped"
    assert "interrupted" in rows[-1]["reason"]

    refused = run("triphase_kernels", *flags, f"--benchmark_out={out}")
    assert_refused(refused, f"{out}.journal", "an unfinished run", "--resume")
    other = run("triphase_kernels", *flags, "--batch=2", f"--benchmark_out={out}", "--resume")
    assert_refused(other, f"{out}.journal", "the same machine and flags")

    goes_on = run("triphase_kernels", *flags, f"--benchmark_out={out}", "--resume")
    assert goes_on.returncode == 0
    finished = rows_of(out)
    assert {row["status"] for row in finished} == {"ok"}
    assert finished[0]["samples_s"] == rows[0]["samples_s"]
    assert not journal.exists()


# --- A planted slowdown ---------------------------------------------------------------------------

PLANTS: dict[str, tuple[str, int, str]] = {
    "none": ("", 0, ""),
    "kind": ("matmul:forward:20", 0, "matmul is slowed down on purpose by 20 % in forward"),
    "all": ("*:update:5.5", 0, "slowed down on purpose by 5.5 % in update"),
    "unknown_kind": ("matmull:forward:20", 1, "one of matmul, add_bias"),
    "unknown_phase": ("matmul:sideways:20", 1, "found 'sideways'"),
    "no_percent": ("matmul:forward", 1, "found 'matmul:forward'"),
    "negative": ("matmul:forward:-3", 1, "<kind of op, or *>:<phase>:<percent>"),
    "zero": ("matmul:forward:0", 1, "more than 0"),
    "huge": ("matmul:forward:10001", 1, "at most 10000"),
    "blank": ("matmul: forward:3", 1, "<kind of op, or *>:<phase>:<percent>"),
}


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
@pytest.mark.parametrize("case", PLANTS)
def test_configuring_checks_a_planted_slowdown(case: str) -> None:
    plant, code, words = PLANTS[case]
    script = ROOT / "src" / "backends" / "onednn" / "plant.cmake"
    process = subprocess.run(
        ["cmake", f"-DTRIPHASE_PLANT={plant}", "-P", script], capture_output=True, text=True
    )
    text = " ".join(process.stderr.split())
    assert process.returncode == code, text
    assert words in text
    assert bool(text) == bool(words)
