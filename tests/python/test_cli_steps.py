# SPDX-License-Identifier: Apache-2.0
"""triphase_steps end to end: every case gives its rows, and the exit code says what happened."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
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

PHASES = {"forward", "backward_data", "backward_weights", "update", "backward", "step"}


def steps(*arguments: object, seconds: float = 0.02) -> subprocess.CompletedProcess[str]:
    return run("triphase_steps", f"--time_per_case={seconds}", *arguments)


def step_rows(document: Json) -> list[Json]:
    rows = document["benchmarks"]
    return [row for row in rows if row["phase"] == "step" and "layer" not in row]


def statuses(document: Json) -> list[str]:
    return [row["status"] for row in step_rows(document)]


# --- What is asked --------------------------------------------------------------------------------

BAD_FLAGS: dict[str, tuple[list[object], list[str]]] = REFUSED_FLAGS | {
    "nothing": ([], ["expected --suite=NAME or --model=NAME, found neither"]),
    "unknown_suite": (["--suite=nope"], ["suite: expected", "smoke", "found 'nope'"]),
    "missing_suite": (["--suite=nowhere/a.json"], ["nowhere/a.json: expected a file"]),
    "batch_word": (["--model=OneNet", "--batch=abc"], ["--batch: expected an integer", "'abc'"]),
    "batch_negative": (["--model=OneNet", "--batch=-4"], ["batch: expected", "found -4"]),
    "batch_fraction": (["--model=OneNet", "--batch=1.5"], ["--batch: expected an integer"]),
    "batch_empty": (["--model=OneNet", "--batch="], ["--batch"]),
    "batch_comma": (["--model=OneNet", "--batch=1,"], ["--batch: expected"]),
    "batch_no_step": (["--model=OneNet", "--batch=1:8"], ["from:to:*factor", "'1:8'"]),
    "batch_step": (["--model=OneNet", "--batch=1:8:3"], ["from:to:*factor", "'1:8:3'"]),
    "batch_factor_1": (["--model=OneNet", "--batch=1:8:*1"], ["a range that grows", "'1:8:*1'"]),
    "batch_step_0": (["--model=OneNet", "--batch=1:8:+0"], ["a range that grows"]),
    "batch_falls": (["--model=OneNet", "--batch=8:1:*2"], ["a range that grows"]),
    "batch_from_0": (["--model=OneNet", "--batch=0:8:*2"], ["a range that grows"]),
    "batch_long": (["--model=OneNet", "--batch=1:99999999:+1"], ["at most 100000 values"]),
    "batch_huge": (["--model=OneNet", "--batch=99999999999999999999"], ["--batch: expected"]),
    "batch_overflows": (
        ["--model=OneNet", f"--batch=1:{2**63 - 1}:*2"],
        ["batch: expected an integer from 1 to", "found "],
    ),
    "batch_too_large": (["--model=ConvNet", f"--batch={2**40}"], ["expected sizes below 2^63"]),
    "backend_empty": (["--model=OneNet", "--backend="], ["--backend"]),
    "threads_many": (["--model=OneNet", "--threads=100000"], ["--threads"]),
    "memory_negative": (["--model=OneNet", "--max_memory=-1GB"], ["--max_memory: expected"]),
    "memory_0": (["--model=OneNet", "--max_memory=0"], ["--max_memory: expected"]),
    "memory_huge": (["--model=OneNet", "--max_memory=99999999TB"], ["from 1 byte to 9 EB"]),
    "memory_long": (["--model=OneNet", "--max_memory=" + "9" * 100_000], ["--max_memory"]),
    "time_0": (["--model=OneNet", "--time_per_case=0"], ["--time_per_case"]),
    "time_nan": (["--model=OneNet", "--time_per_case=nan"], ["--time_per_case"]),
    "interval_nan": (["--model=OneNet", "--interval=nan"], ["--interval: expected a number"]),
    "interval": (["--model=OneNet", "--interval=2"], ["--interval"]),
    "interval_by_its_old_name": (["--model=OneNet", "--precision=bf16"], ["--interval"]),
    "filter_range": (["--model=OneNet", "--benchmark_filter=[z-a]"], ["--benchmark_filter"]),
    "filter_long": (["--model=OneNet", "--benchmark_filter=" + "(" * 60_000], ["at most 1000"]),
    "filter_of_nothing": (
        ["--model=OneNet", "--benchmark_filter=Nope"],
        ["--benchmark_filter: expected a pattern that matches a case, found 'Nope'"],
    ),
    "repetitions_word": (["--model=OneNet", "--benchmark_repetitions=x"], ["_repetitions", "'x'"]),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_wrong_flags_are_refused_in_one_line(case: str) -> None:
    arguments, words = BAD_FLAGS[case]
    assert_refused(steps(*arguments), *words)


BAD_SUITES: dict[str, tuple[object, list[str]]] = {
    "object": ({}, ["$: expected a list of entries"]),
    "empty": ([], ["$: expected a list of entries, one at least"]),
    "number": ([3], ["$[0]: expected an object, found 3"]),
    "no_model": ([{"batch": 1}], ["$[0].model: expected", "found nothing"]),
    "unknown_model": ([{"model": "Nope"}], ["model: expected", "'Nope'"]),
    "unknown_key": ([{"model": "OneNet", "batches": 1}], ["$[0].batches: expected only the keys"]),
    "batch_0": ([{"model": "OneNet", "batch": [1, 0]}], ["$[0].batch: expected", "found 0"]),
    "batch_empty": ([{"model": "OneNet", "batch": []}], ["$[0].batch: expected at least one"]),
    "batch_text": ([{"model": "OneNet", "batch": "four"}], ["$[0].batch: expected", '"four"']),
    "batch_range": ([{"model": "OneNet", "batch": "1:8"}], ["$[0].batch: expected", "'1:8'"]),
    "optimizer": ([{"model": "OneNet", "optimizer": 3}], ["$[0].optimizer: expected a string"]),
    "optimizer_unknown": ([{"model": "OneNet", "optimizer": "sdg"}], ["one of sgd", "'sdg'"]),
    "dtype": ([{"model": "OneNet", "dtype": "f99"}], ["one of f32", "'f99'"]),
    "parameters": ([{"model": "MLP", "parameters": 3}], ["$[0].parameters: expected an object"]),
    "parameter": (
        [{"model": "MLP", "parameters": {"depth": 3}}],
        ["depth: expected one of inputs"],
    ),
    "parameter_text": ([{"model": "MLP", "parameters": {"inputs": "x"}}], ["inputs: expected"]),
    "key_twice": ('[{"model": "OneNet", "batch": 1, "batch": 2}]', ["each key of an object once"]),
    "late": (
        [{"model": "OneNet"}, {"model": "OneNet", "optimizer": "adam", "dtype": "f99"}],
        ["suite.json: $[1]: dtype: expected"],
    ),
    "too_many": (
        [{"model": "OneNet", "batch": "1:1000:+1", "optimizer": ["sgd"] * 200}],
        ["$[0]: expected at most 100000 cases"],
    ),
}


@pytest.mark.parametrize("case", BAD_SUITES)
def test_wrong_suites_are_refused_with_path_expected_and_found(tmp_path: Path, case: str) -> None:
    suite, words = BAD_SUITES[case]
    path = write_model(tmp_path, suite, "suite.json")
    assert_refused(steps(f"--suite={path}"), "expected ", ", found ", *words)


def test_two_networks_of_one_name_are_refused(tmp_path: Path) -> None:
    first = write_model(tmp_path, tiny_network(width=8), "first.json")
    second = write_model(tmp_path, tiny_network(width=9), "second.json")
    process = steps(f"--model={first}", f"--model={second}")
    assert_refused(process, "Tiny", "second.json")


def test_one_case_asked_for_twice_is_one_case(tiny: Path, backend: str) -> None:
    process = steps(
        f"--model={tiny}",
        f"--model={tiny}",
        "--batch=2,2",
        f"--backend={backend}",
        "--benchmark_list_tests",
    )
    assert process.stdout.count("\n") == 1


@pytest.mark.parametrize("flag", ["--benchmark_list_tests", "--dry_run"])
def test_a_signal_ends_what_only_lists(flag: str) -> None:
    process = start("triphase_steps", "--model=MLP", "--batch=1:100000:+1", flag)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "triphase_steps: interrupted; nothing written\n"


def test_a_reader_that_leaves_loses_no_results(tiny: Path, tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.json"
    flags = f"--model={tiny} --backend={backend} --time_per_case=0.01 --benchmark_out={out}"
    command = f"{binary('triphase_steps')} {flags} --benchmark_format=json | true"
    subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)
    assert statuses(results(out)) == ["ok"]
    assert not out.with_name("out.json.journal").exists()


def test_what_finds_no_room_leaves_the_journal_and_says_so(
    tiny: Path, tmp_path: Path, backend: str
) -> None:
    out = tmp_path / "out.json"
    flags = f"--model={tiny} --backend={backend} --time_per_case=0.01 --benchmark_out={out}"
    command = f"{binary('triphase_steps')} {flags} --benchmark_repetitions=2"

    def run_within(size: float) -> subprocess.CompletedProcess[str]:
        limited = f"ulimit -f {int(size / 1024)}; trap '' XFSZ; {command}"
        return subprocess.run(
            ["bash", "-c", limited], capture_output=True, text=True, check=False, timeout=60
        )

    assert run_within(1e9).returncode == 0
    size = out.stat().st_size
    out.unlink()
    done = run_within(0.9 * size)  # room for the journal alone, which is written without spaces
    assert done.returncode == 2
    assert "Tiny" in done.stdout  # the table
    assert f"{out}: expected a file that can be written" in done.stderr.splitlines()[-1]
    assert f"kept in {out}.journal" in done.stderr.splitlines()[-1]
    assert not out.exists()
    out.with_name("out.json.journal").unlink()
    done = run_within(0.5 * size)
    assert done.returncode == 2
    assert "what was measured before is kept in it" in done.stderr.splitlines()[-1]
    assert out.with_name("out.json.journal").exists()


def test_flags_of_no_effect_are_noted_and_have_none(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    none = ["--benchmark_min_time=0.5", "--benchmark_min_warmup_time=0.3", "--benchmark_color"]
    process = steps(f"--model={tiny}", "--backend=reference", f"--benchmark_out={out}", *none)
    assert process.returncode == 0
    for flag in none:
        name = flag.partition("=")[0]
        assert f"{name} is of no effect here; --help lists the flags that are\n" in process.stderr
    assert [row["repetition_index"] for row in step_rows(results(out))] == [0]


@pytest.mark.parametrize(
    ("variable", "flag"),
    [
        ("BENCHMARK_FILTER=batch:2/", "--benchmark_filter=batch:2/"),
        ("BENCHMARK_REPETITIONS=2", "--benchmark_repetitions=2"),
        ("BENCHMARK_LIST_TESTS=true", "--benchmark_list_tests"),
        ("BENCHMARK_FORMAT=json", "--benchmark_format=json"),
        ("BENCHMARK_MIN_WARMUP_TIME=0.2", None),
        ("BENCHMARK_REPORT_AGGREGATES_ONLY=1", None),
    ],
)
def test_the_environment_stands_in_for_a_flag_that_is_not_given(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, flag: str | None
) -> None:
    def outcome(*extra: str) -> tuple[int, list[str], list[tuple[str, int]]]:
        out = tmp_path / "out.json"
        out.unlink(missing_ok=True)
        process = steps(
            f"--model={tiny}", "--batch=1,2", "--backend=reference", "--verify=off",
            f"--benchmark_out={out}", *extra,
        )  # fmt: skip
        rows = step_rows(results(out)) if out.exists() else []
        kinds = [line.split(":")[0] for line in process.stdout.splitlines() if "/batch" in line]
        return process.returncode, kinds, [(row["name"], row["repetition_index"]) for row in rows]

    wanted = outcome(*([flag] if flag else []))
    monkeypatch.setenv(*variable.split("="))
    assert outcome() == wanted


def test_a_results_file_named_by_the_environment_is_written_and_a_flag_goes_before_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHMARK_OUT", str(tmp_path / "variable.json"))
    usual = ["--backend=reference", "--verify=off", f"--model={tiny}"]
    assert steps(*usual).returncode == 0
    assert statuses(results(tmp_path / "variable.json")) == ["unverified"]
    (tmp_path / "variable.json").unlink()
    assert steps(*usual, f"--benchmark_out={tmp_path / 'flag.json'}").returncode == 0
    assert {path.name for path in tmp_path.glob("*.json")} == {tiny.name, "flag.json"}


def test_a_wrong_value_in_the_environment_is_refused_by_its_variable(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHMARK_REPETITIONS", "none")  # Google Benchmark says so as well
    process = steps(f"--model={tiny}")
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    assert last == "triphase_steps: BENCHMARK_REPETITIONS: expected an integer, found 'none'"


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_a_file_that_a_run_is_writing_is_left_to_it(
    tiny: Path, tmp_path: Path, resume: tuple[str, ...]
) -> None:
    out = tmp_path / "out.json"
    usual = [f"--model={tiny}", "--backend=reference", "--verify=off", f"--benchmark_out={out}"]
    first = start("triphase_steps", *usual, "--batch=1,2,4,8", "--time_per_case=30")
    try:
        journal = out.with_name("out.json.journal")
        while not journal.exists() and first.poll() is None:
            time.sleep(0.01)
        assert_refused(steps(*usual, *resume), journal, "a run that goes on now")
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate()
    assert first.returncode == 130
    assert steps(*usual).returncode == 2  # by now that of an unfinished run


def test_a_suite_finds_models_beside_itself(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_network("Beside"), "beside.json")
    suite = write_model(tmp_path, [{"model": "beside.json", "batch": 2}], "suite.json")
    listed = steps(f"--suite={suite}", "--benchmark_list_tests")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("Beside/batch:2/")


def test_the_description_of_models_has_every_kind_and_its_example_runs(tmp_path: Path) -> None:
    text = (ROOT / "benchmarks" / "models" / "README.md").read_text()
    example = write_model(tmp_path, text.split("```json")[1].split("```")[0])
    assert run("triphase_cost", f"--model={example}:width=8,depth=2").returncode == 0
    for what in ("layers", "loss"):
        wrong = tiny_network()
        where = wrong["loss"] if what == "loss" else wrong["layers"][0]
        where["kind"] = "nothing"
        refused = run("triphase_cost", f"--model={write_model(tmp_path, wrong)}").stderr
        for kind in refused.split("one of ")[1].split(", found")[0].split(", "):
            assert f"`{kind}`" in text, kind


def test_what_flags_give_takes_the_place_of_a_suites_own(tmp_path: Path) -> None:
    suite = write_model(
        tmp_path,
        [
            {"model": "OneNet", "batch": [1, 4], "optimizer": ["sgd", "adam"]},
            {"model": "MLP:inputs=4", "batch": 2, "dtype": "bf16"},
        ],
        "suite.json",
    )

    def cases(*flags: str) -> set[str]:
        listed = steps(f"--suite={suite}", "--benchmark_list_tests", *flags)
        assert listed.returncode == 0, listed.stderr
        lines = [line.removesuffix("/backend:onednn") for line in listed.stdout.splitlines()]
        assert len(set(lines)) == len(lines)
        return set(lines)

    def name(model: str, batch: int, dtype: str, optimizer: str) -> str:
        return f"{model}/batch:{batch}/dtype:{dtype}/optimizer:{optimizer}"

    one, mlp = "OneNet", "MLP:inputs=4"
    of_one = [(batch, optimizer) for batch in (1, 4) for optimizer in ("sgd", "adam")]
    assert cases("--dtype=f32,f16") == {
        name(*case)
        for dtype in ("f32", "f16")
        for case in [(one, b, dtype, o) for b, o in of_one] + [(mlp, 2, dtype, "sgd")]
    }
    assert len(cases("--batch=1:9999:+1", "--optimizer=sgd", "--dtype=f32")) == 2 * 9999
    assert cases("--batch=3", "--optimizer=momentum") == {
        name(one, 3, "f32", "momentum"),
        name(mlp, 3, "bf16", "momentum"),
    }


def test_help_lists_the_flags() -> None:
    process = run("triphase_steps", "--help")
    assert process.returncode == 0
    for flag in ("--suite", "--model", "--batch", "--verify", "--max_memory", "--benchmark_filter"):
        assert flag in process.stdout


# --- Selection ------------------------------------------------------------------------------------


def test_list_tests_prints_exactly_the_case_names(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}",
        "--batch=1:8:*2",
        "--backend=reference,cuda",
        "--optimizer=sgd,adam",
        "--benchmark_list_tests",
        f"--benchmark_out={out}",
    )
    assert process.returncode == 0
    assert process.stderr == ""
    assert process.stdout.splitlines() == [
        f"Tiny/batch:{batch}/dtype:f32/optimizer:{optimizer}/backend:{backend}"
        for batch in (1, 2, 4, 8)
        for optimizer in ("sgd", "adam")
        for backend in ("reference", "cuda")
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("batch:2/", ["2"]),
        ("-batch:2/", ["1", "12"]),
        ("batch:(1|2)/", ["1", "2"]),
        ("^Tiny", ["1", "2", "12"]),
        ("all", ["1", "2", "12"]),
        ("", ["1", "2", "12"]),
    ],
)
def test_the_filter_works_on_case_names(tiny: Path, pattern: str, kept: list[str]) -> None:
    process = steps(
        f"--model={tiny}",
        "--batch=1,2,12",
        f"--benchmark_filter={pattern}",
        "--benchmark_list_tests",
    )
    names = process.stdout.splitlines()
    assert [name.split("/")[1] for name in names] == [f"batch:{batch}" for batch in kept]


def test_only_filtered_cases_run(tiny: Path, tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}",
        "--batch=1,2",
        f"--backend={backend}",
        "--benchmark_filter=batch:2",
        f"--benchmark_out={out}",
    )
    assert process.returncode == 0
    assert {row["batch"] for row in results(out)["benchmarks"]} == {2}


def test_a_dry_run_lists_and_writes_no_file(tiny: Path, tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}", f"--backend={backend},cuda", "--dry_run", f"--benchmark_out={out}"
    )
    assert process.returncode == 0
    assert f"Tiny/batch:1/dtype:f32/optimizer:sgd/backend:{backend}" in process.stdout
    assert "skipped: " in process.stdout
    assert "1 of 2 cases would run" in process.stdout
    assert list(tmp_path.iterdir()) == [tiny]


# --- Rows -----------------------------------------------------------------------------------------


def test_a_case_has_a_row_for_each_phase_and_each_layer(
    tiny: Path, tmp_path: Path, backend: str
) -> None:
    out = tmp_path / "out.json"
    process = steps(f"--model={tiny}", f"--backend={backend}", f"--benchmark_out={out}")
    assert process.returncode == 0
    rows = results(out)["benchmarks"]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["phase"] for row in rows if "layer" not in row} == PHASES
    assert {row["layer"] for row in rows if "layer" in row} == {"fc1", "relu1", "fc2", "loss"}
    assert len({row["name"] for row in rows}) == len(rows)
    assert list(tmp_path.glob("out.json*")) == [out]  # neither journal nor temporary file is left
    assert str(out) in process.stdout


def test_repetitions_give_a_row_each(tiny: Path, tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}",
        f"--backend={backend}",
        "--benchmark_repetitions=2",
        f"--benchmark_out={out}",
    )
    assert process.returncode == 0
    rows = results(out)["benchmarks"]
    assert {row["repetitions"] for row in rows} == {2}
    for phase in PHASES:
        of_phase = [row for row in rows if row["phase"] == phase and "layer" not in row]
        assert [row["repetition_index"] for row in of_phase] == [0, 1]
        assert of_phase[0]["name"] == of_phase[1]["name"]


def test_context_takes_keys_and_values(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    steps(
        f"--model={tiny}",
        "--backend=reference",
        "--benchmark_context=branch=main,note=a=b",
        "--benchmark_context=host_name=other",
        f"--benchmark_out={out}",
    )
    context = results(out, ("context.branch", "context.note"))["context"]
    assert context["branch"] == "main"
    assert context["note"] == "a=b"
    assert context["host_name"] != "other"  # what is known is not overwritten


def test_json_on_standard_output_is_the_file(tiny: Path, tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}",
        f"--backend={backend},cuda",
        "--benchmark_format=json",
        f"--benchmark_out={out}",
    )
    assert process.returncode == 0
    document = parse(process.stdout)
    assert_contract(document)
    assert document == results(out)


def test_unverified_rows_say_so(tiny: Path, tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}", f"--backend={backend}", "--verify=off", f"--benchmark_out={out}"
    )
    assert process.returncode == 0
    assert statuses(results(out)) == ["unverified"]


def test_full_verification_passes(tiny: Path, tmp_path: Path, backend: str) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}", f"--backend={backend}", "--verify=full", f"--benchmark_out={out}"
    )
    assert process.returncode == 0
    row = step_rows(results(out))[0]
    assert row["status"] == "ok"
    assert row["verified_ops"] > 10


def test_threads_are_recorded(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    steps(f"--model={tiny}", "--backend=reference", "--threads=1", f"--benchmark_out={out}")
    assert {row["threads"] for row in results(out)["benchmarks"]} == {1}


@pytest.mark.parametrize("dtype", ["tf32", "bf16", "f16"])
def test_every_dtype_of_the_reference_is_verified_and_named(
    tiny: Path, tmp_path: Path, dtype: str
) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}", "--backend=reference", f"--dtype=f32,{dtype}", f"--benchmark_out={out}"
    )
    assert process.returncode == 0, process.stderr
    rows = results(out)["benchmarks"]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["dtype"] for row in rows} == {"f32", dtype}
    assert all(f"/dtype:{row['dtype']}/" in row["name"] for row in rows)
    step = {row["dtype"]: row for row in rows if row["phase"] == "step"}
    assert step[dtype]["flop"] == step["f32"]["flop"]
    assert (step[dtype]["traffic_bytes"] < step["f32"]["traffic_bytes"]) == (dtype != "tf32")
    assert "dtype, optimizer" in process.stdout
    assert f"{dtype}, sgd" in process.stdout


def test_the_losses_scale_is_said_in_f16_and_named_where_it_is_not_the_usual_one(
    tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    flags = (f"--model={tiny}", "--backend=reference", "--dtype=bf16,f16", f"--benchmark_out={out}")
    rows = {}
    for scale in (1024, 1):
        process = steps(*flags, *([] if scale == 1024 else [f"--loss_scale={scale}"]))
        assert process.returncode == 0, process.stderr
        rows[scale] = [row for row in results(out)["benchmarks"] if row["phase"] == "update"]
        for row in rows[scale]:
            assert row.get("loss_scale") == (scale if row["dtype"] == "f16" else None)
            assert ("/loss_scale:" in row["name"]) == (row["dtype"] == "f16" and scale == 1)
    assert any("/backend:reference/loss_scale:1/update/" in row["name"] for row in rows[1])
    usual, plain = (
        next(row["flop_executed"] for row in rows[scale] if row["dtype"] == "f16")
        for scale in (1024, 1)
    )
    assert usual > plain


# --- What cannot run ------------------------------------------------------------------------------

NOT_HERE: dict[str, tuple[list[str], str]] = {
    "memory": (["--backend=reference", "--max_memory=100B"], "needs at least "),
    "cuda": (["--backend=cuda"], "CUDA"),
    "tf32": (["--backend=onednn", "--dtype=tf32"], "oneDNN"),
}


@pytest.mark.parametrize("case", NOT_HERE)
def test_where_nothing_can_run_rows_say_why_and_the_exit_code_is_2(
    tiny: Path, tmp_path: Path, case: str
) -> None:
    arguments, why = NOT_HERE[case]
    out = tmp_path / "out.json"
    process = steps(f"--model={tiny}", *arguments, f"--benchmark_out={out}")
    assert process.returncode == 2
    assert "nothing of what was asked could run here" in process.stderr
    rows = results(out)["benchmarks"]
    assert {row["phase"] for row in rows} >= PHASES - {"backward_data"}
    assert {row["status"] for row in rows} == {"skipped"}
    assert {row["error_occurred"] for row in rows} == {True}
    assert all(why.lower() in row["reason"].lower() for row in rows)


def test_rows_skipped_for_memory_are_fine_while_something_ran(
    tiny: Path, tmp_path: Path, backend: str
) -> None:
    out = tmp_path / "out.json"
    process = steps(
        f"--model={tiny}",
        "--model=OneNet",
        f"--backend={backend}",
        "--max_memory=1MB",
        f"--benchmark_out={out}",
    )
    assert process.returncode == 0
    assert statuses(results(out)) == ["ok", "skipped"]


def test_rows_skipped_for_a_missing_device_are_fine_while_something_ran(
    tiny: Path, tmp_path: Path, backend: str
) -> None:
    out = tmp_path / "out.json"
    process = steps(f"--model={tiny}", f"--backend={backend},cuda", f"--benchmark_out={out}")
    assert process.returncode == 0
    assert statuses(results(out)) == ["ok", "skipped"]


# --- Where the file goes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["missing/out.json", "model.json/out.json", "folder", "/proc/out.json", "/dev/full"]
)
def test_a_place_that_cannot_be_written_is_told(tiny: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    before = set(tmp_path.rglob("*"))
    out = tmp_path / place  # an absolute place stays itself
    process = steps(f"--model={tiny}", "--backend=reference", f"--benchmark_out={out}")
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    assert last.startswith(f"triphase_steps: {out}")
    assert "expected a file" in last
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flag", ["--benchmark_list_tests", "--dry_run", "--benchmark_format=json"])
def test_a_full_disk_below_standard_output_is_told(tiny: Path, flag: str) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [
                binary("triphase_steps"),
                f"--model={tiny}",
                "--backend=reference",
                "--time_per_case=0.02",
                flag,
            ],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    assert last.startswith("triphase_steps: standard output: expected a file that can be written")


def test_an_earlier_file_is_replaced_as_a_whole(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("x" * 1_000_000)
    assert steps(f"--model={tiny}", "--backend=reference", f"--benchmark_out={out}").returncode == 0
    results(out)


# --- Interruption ---------------------------------------------------------------------------------

BATCHES = (1, 2, 3, 4)


@dataclass(frozen=True)
class Interrupted:
    """A run of four cases that a signal ended in the second, and the flags that go on with it."""

    number: signal.Signals
    code: int
    stderr: str
    folder: Path
    flags: list[str]

    def copy(self, folder: Path) -> Path:
        for path in self.folder.glob("out.json*"):
            shutil.copy(path, folder)
        return folder / "out.json"


@pytest.fixture(scope="module", params=[signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def interrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, backend: str
) -> Interrupted:
    folder = tmp_path_factory.mktemp("interrupted")
    model = write_model(folder, tiny_network())
    out = folder / "out.json"
    journal = folder / "out.json.journal"
    flags = [
        f"--model={model}",
        "--batch=" + ",".join(map(str, BATCHES)),
        f"--backend={backend}",
        "--time_per_case=0.4",
        "--interval=0.0001",
    ]
    process = start("triphase_steps", *flags, f"--benchmark_out={out}")
    end = time.monotonic() + 60
    while not journal.exists() or journal.read_text().count("\n") < 2:  # a header and a case
        assert time.monotonic() < end, "no case is in the journal after a minute"
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(request.param)
    _, stderr = process.communicate(timeout=60)
    return Interrupted(request.param, process.returncode, stderr, folder, flags)


def test_a_signal_ends_the_run_with_its_exit_code(interrupted: Interrupted) -> None:
    assert interrupted.code == 128 + interrupted.number
    assert "--resume goes on" in interrupted.stderr


def test_after_a_signal_the_file_has_every_case(interrupted: Interrupted) -> None:
    rows = step_rows(results(interrupted.folder / "out.json"))
    assert [row["batch"] for row in rows] == list(BATCHES)
    assert rows[0]["status"] == "ok"
    assert [row["status"] for row in rows[2:]] == ["skipped"] * 2
    assert all("interrupted" in row["reason"] for row in rows[2:])


def test_after_a_signal_the_journal_is_kept(interrupted: Interrupted) -> None:
    lines = (interrupted.folder / "out.json.journal").read_text().splitlines()
    header, *entries = map(parse, lines)
    assert header["run"]["seed"] == 1
    assert [entry["case"].split("/")[1] for entry in entries] == ["batch:1"]


def test_resume_measures_only_what_is_missing(interrupted: Interrupted, tmp_path: Path) -> None:
    out = interrupted.copy(tmp_path)
    earlier = step_rows(results(out))
    process = run("triphase_steps", *interrupted.flags, f"--benchmark_out={out}", "--resume")
    assert process.returncode == 0
    rows = step_rows(results(out))
    assert [row["batch"] for row in rows] == list(BATCHES)
    assert [row["status"] for row in rows] == ["ok"] * len(BATCHES)
    assert rows[0]["samples_s"] == earlier[0]["samples_s"]
    assert not out.with_name("out.json.journal").exists()


def test_a_journal_whose_last_line_is_cut_is_gone_on_with(
    interrupted: Interrupted, tmp_path: Path
) -> None:
    out = interrupted.copy(tmp_path)
    journal = out.with_name("out.json.journal")
    first = journal.read_text().splitlines()[1]
    journal.write_text(journal.read_text() + first.replace("batch:1", "batch:3")[: len(first) // 2])
    samples = step_rows(results(out))[0]["samples_s"]
    flags = [*interrupted.flags, "--benchmark_filter=batch:[13]/"]
    process = run("triphase_steps", *flags, f"--benchmark_out={out}", "--resume")
    assert process.returncode == 0
    rows = step_rows(results(out))
    assert [(row["batch"], row["status"]) for row in rows] == [(1, "ok"), (3, "ok")]
    assert rows[0]["samples_s"] == samples


def test_an_unfinished_run_is_not_overwritten_without_resume(
    interrupted: Interrupted, tmp_path: Path
) -> None:
    out = interrupted.copy(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    process = run("triphase_steps", *interrupted.flags, f"--benchmark_out={out}")
    assert_refused(process, f"{out}.journal", "an unfinished run", "--resume")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("flag", ["--seed=2", "--threads=7", "--verify=off", "--interval=0.5"])
def test_a_journal_of_other_flags_is_refused(
    interrupted: Interrupted, tmp_path: Path, flag: str
) -> None:
    out = interrupted.copy(tmp_path)
    name = flag.split("=")[0]
    flags = [given for given in interrupted.flags if not given.startswith(name)]
    process = run("triphase_steps", *flags, flag, f"--benchmark_out={out}", "--resume")
    assert_refused(process, f"{out}.journal", "the same machine and flags")


@pytest.mark.parametrize("content", ["", "{}\n", "not json\n", '{"run": 3'])
def test_a_journal_of_something_else_is_refused(tiny: Path, tmp_path: Path, content: str) -> None:
    journal = tmp_path / "out.json.journal"
    journal.write_text(content)
    process = steps(f"--model={tiny}", f"--benchmark_out={tmp_path / 'out.json'}", "--resume")
    assert_refused(process, str(journal), "expected a journal of this program")
    assert journal.read_text() == content


@pytest.mark.parametrize(
    "line",
    ['{"rows": []}', '{"case": 3, "repetition": 0, "rows": []}', '{"case": "a", "rows": 3}', "[]"],
)
def test_a_damaged_line_of_a_journal_is_left_out(
    interrupted: Interrupted, tmp_path: Path, line: str
) -> None:
    out = interrupted.copy(tmp_path)
    journal = out.with_name("out.json.journal")
    journal.write_text(journal.read_text() + line + "\n")
    flags = [*interrupted.flags, "--benchmark_filter=batch:1/"]
    process = run("triphase_steps", *flags, f"--benchmark_out={out}", "--resume")
    assert process.returncode == 0, process.stderr
    assert statuses(results(out)) == ["ok"]


def test_resume_without_a_journal_is_a_run(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    process = steps(f"--model={tiny}", "--backend=reference", f"--benchmark_out={out}", "--resume")
    assert process.returncode == 0
    assert statuses(results(out)) == ["ok"]


def test_finished_results_are_not_gone_on_with(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    flags = [f"--model={tiny}", "--backend=reference", f"--benchmark_out={out}"]
    assert steps(*flags).returncode == 0
    before = out.read_bytes()
    for tool in ("triphase_steps", "triphase_kernels"):
        assert_refused(run(tool, *flags, "--resume"), out, "results and no journal; leave --resume")
    assert out.read_bytes() == before


def test_a_changed_network_is_not_gone_on_with(interrupted: Interrupted, tmp_path: Path) -> None:
    out = interrupted.copy(tmp_path)
    wider = write_model(tmp_path, tiny_network(width=9))
    flags = [f"--model={wider}", *interrupted.flags[1:], "--benchmark_filter=batch:1/"]
    process = run("triphase_steps", *flags, f"--benchmark_out={out}", "--resume")
    assert process.returncode == 0
    assert step_rows(results(out))[0]["parameter_count"] == 9 * 4 + 9 + 3 * 9 + 3
