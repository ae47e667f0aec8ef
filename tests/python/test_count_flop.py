# SPDX-License-Identifier: Apache-2.0
"""scripts/count_flop with the ncu of fake_ncu, whose counts are made up: no GPU has been counted.

Formulas are those of the real triphase_cost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binaries
import fake_ncu
from triphase import count_flop, ncu
from triphase.ncu import CannotCount, Kernel, Unreadable

FFMA = "smsp__sass_thread_inst_executed_op_ffma_pred_on"
TENSOR = "sm__ops_path_tensor"


def chosen(chip: str | list[str]) -> dict[str, tuple[str, int]]:
    return {c.name: (c.unit, c.flop) for c in ncu.choose(fake_ncu.names(chip))}


def kernels(*launches: fake_ncu.Launch, chip: str = "h100") -> list[Kernel]:
    counters = ncu.choose(fake_ncu.names(chip))
    return ncu.parse(fake_ncu.table(launches, [c.column for c in counters]), counters)


# ---- counters


def test_an_instruction_counts_what_it_does():
    flop = {name.split("_op_")[1].split("_")[0]: n for name, (u, n) in chosen("b200").items() if u
            and "_op_" in name and "pred_on" in name}  # fmt: skip
    assert flop == {
        "dadd": 1, "dmul": 1, "dfma": 2, "fadd": 1, "fmul": 1, "ffma": 2,
        "fadd2": 2, "fmul2": 2, "ffma2": 4, "hadd": 2, "hmul": 2, "hfma": 4,
    }  # fmt: skip


def test_packed_f32_is_counted_only_where_there_is_some():
    assert not [name for name in chosen("h100") if "ffma2" in name]


def test_of_tensor_counters_those_are_chosen_that_count_everything_once():
    a100 = [name for name in chosen("a100") if name.startswith(TENSOR)]
    assert a100 == [
        f"{TENSOR}_src_bf16_dst_fp32", f"{TENSOR}_src_fp16_dst_fp16",
        f"{TENSOR}_src_fp16_dst_fp32", f"{TENSOR}_src_fp64", f"{TENSOR}_src_tf32_dst_fp32",
    ]  # fmt: skip
    h100 = [name for name in chosen("h100") if name.startswith(TENSOR)]
    assert h100 == [
        f"{TENSOR}_src_bf16_dst_fp32", f"{TENSOR}_src_fp16", f"{TENSOR}_src_fp64",
        f"{TENSOR}_src_tf32_dst_fp32",
    ]  # fmt: skip


def test_where_a_total_is_missing_its_parts_stand_in():
    b200 = [name for name in chosen("b200") if name.startswith(TENSOR)]
    assert b200 == [
        f"{TENSOR}_op_hmma_src_fp16_dst_fp32", f"{TENSOR}_op_utchmma_src_fp16_dst_fp32",
        f"{TENSOR}_src_bf16_dst_fp32_sparsity_off", f"{TENSOR}_src_bf16_dst_fp32_sparsity_on",
    ]  # fmt: skip
    assert ncu.tensor_counters([f"{TENSOR}_op_hgmma_src_fp16{s}" for s in fake_ncu.BOTH]) == [
        f"{TENSOR}_op_hgmma_src_fp16"
    ]


def test_a_gpu_without_the_least_counters_is_refused_by_their_name():
    with pytest.raises(CannotCount, match=FFMA):
        ncu.choose([name for name in fake_ncu.CHIPS["h100"] if name != FFMA])


def test_without_tensor_counters_the_rest_is_counted():
    assert {unit for unit, _ in chosen(fake_ncu.SCALAR).values()} == {"f64", "f32", "f16"}


# ---- the table


def test_counts_become_flop_by_unit():
    counts = {"ffma_": 1_234_567, "fadd_": 10, "hfma": 3, "src_bf16": 4096, "dmul": 5}
    (kernel,) = kernels((fake_ncu.ranges("fc1/forward"), "gemm", counts))
    assert kernel.flop == {"f64": 5, "f32": 2_469_144, "f16": 12, "tensor": 4096}
    assert kernel.total == 5 + 2_469_144 + 12 + 4096
    assert kernel.name == "gemm"


def test_packed_instructions_add_to_the_single_ones():
    (kernel,) = kernels(((), "gemm", {"ffma_": 7, "ffma2_": 100, "fmul2_": 1}), chip="b200")
    assert kernel.flop == {"f32": 14 + 400 + 2}


def test_a_group_is_found_within_a_librarys_own_ranges():
    inner = [*fake_ncu.ranges("conv.3+relu.3/backward_data"), "cublasLt:cublasLtMatmul"]
    outside = ["<default domain>:triphase"]
    found = kernels((inner, "a", {}), (outside, "b", {}), ((), "c", {}))
    group = (("conv.3", "relu.3"), "backward_data")
    assert [kernel.group for kernel in found] == [group, None, None]


def test_tensor_cores_that_no_counter_tells_of_are_noticed():
    used = {"inst_executed_pipe_tensor": 64}
    found = kernels(((), "a", used), ((), "b", used | {"src_bf16": 1}), ((), "c", {"ffma_": 1}),
                    ((), "d", used | {"hfma": 1}))  # fmt: skip
    assert [kernel.tensor_uncounted for kernel in found] == [True, False, False, False]


def test_a_report_of_nothing_has_no_kernels():
    assert ncu.parse("==WARNING== No kernels were profiled.\n", []) == []


TABLE = [(fake_ncu.ranges("fc1/forward"), "a", {"ffma_": 1_000}), ((), "b,c", {"fadd_": 12})]


def test_a_table_that_is_cut_off_anywhere_gives_no_wrong_count():
    counters = ncu.choose(fake_ncu.CHIPS["a100"])
    text = fake_ncu.table(TABLE, [c.column for c in counters])
    whole = ncu.parse(text, counters)
    assert len(whole) == 2
    for length in range(len(text)):
        try:
            found = ncu.parse(text[:length], counters)
        except Unreadable:
            continue
        assert found == whole[: len(found)], length


@pytest.mark.parametrize("value", ["", "n/a", "nan", "inf", "-1", "12 K"])
def test_a_count_that_is_no_number_is_refused_by_name(value):
    counters = ncu.choose(fake_ncu.SCALAR)
    text = fake_ncu.table([((), "gemm", {"ffma_": 77})], [c.column for c in counters])
    with pytest.raises(Unreadable, match=rf"{FFMA}\.sum of gemm: '{value}'"):
        ncu.parse(text.replace('"77"', f'"{value}"'), counters)


def test_a_column_that_is_missing_is_refused_by_name():
    counters = ncu.choose(fake_ncu.SCALAR)
    text = fake_ncu.table([], [c.column for c in counters if c.name != FFMA])
    with pytest.raises(Unreadable, match=f"no column '{FFMA}"):
        ncu.parse(text, counters)


# ---- joining

PHASES = ("forward", "backward_data", "backward_weights", "update")


def cost(**layers: dict[str, tuple[int, int]]) -> dict:
    return {
        "layers": [
            {"name": name, "phases": {p: {"flop": f, "flop_executed": e}
                                      for p, (f, e) in phases.items()}}
            for name, phases in layers.items()
        ]
    }  # fmt: skip


def kernel(layers: str, phase: str, flop: int, name: str = "k") -> Kernel:
    return Kernel(name, (tuple(layers.split("+")), phase), {"f32": flop} if flop else {})


NETWORK = cost(
    fc1={"forward": (200, 195), "backward_weights": (200, 180), "update": (20, 20)},
    relu1={"forward": (0, 10), "backward_data": (0, 10)},
    flatten={"forward": (0, 0)},
    fc2={"forward": (60, 58), "backward_data": (60, 50), "update": (6, 6)},
)


def test_what_is_fused_is_set_against_the_sum_of_its_layers():
    rows = count_flop.join(NETWORK, [kernel("fc1+relu1", "forward", 210)])
    assert rows[0] == {
        "layers": ["fc1", "relu1"], "phase": "forward", "flop": 200, "flop_executed": 205,
        "flop_counted": 210, "flop_counted_by": {"f32": 210},
        "counted_over_executed": 210 / 205, "kernels": [{"name": "k", "flop_counted": 210}],
    }  # fmt: skip


def test_the_kernels_of_a_group_add_up_and_groups_that_share_a_layer_are_one_row():
    ran = [
        kernel("fc1", "forward", 190, "split"),
        kernel("fc1", "forward", 5, "sum"),
        kernel("fc1+relu1", "forward", 1),
        kernel("fc2", "forward", 58),
        kernel("fc2+fc1", "update", 26),
    ]
    rows = count_flop.join(NETWORK, ran)
    counted = {(tuple(r["layers"]), r["phase"]): r.get("flop_counted") for r in rows}
    assert counted == {
        (("fc1", "relu1"), "forward"): 196,
        (("fc2",), "forward"): 58,
        (("relu1",), "backward_data"): None,
        (("fc2",), "backward_data"): None,
        (("fc1",), "backward_weights"): None,
        (("fc1", "fc2"), "update"): 26,
    }
    assert [k["name"] for k in rows[0]["kernels"]] == ["split", "sum", "k"]


def test_what_costs_nothing_and_runs_nothing_has_no_row_else_it_has():
    assert ["flatten"] not in [r["layers"] for r in count_flop.join(NETWORK, [])]
    (row,) = (r for r in count_flop.join(NETWORK, [kernel("flatten", "forward", 3)])
              if r["layers"] == ["flatten"])  # fmt: skip
    assert row["flop_counted"] == 3
    assert "counted_over_executed" not in row


def test_a_kernel_that_counts_nothing_is_a_count_of_nothing():
    rows = count_flop.join(NETWORK, [kernel("relu1", "backward_data", 0)])
    (row,) = (r for r in rows if r["phase"] == "backward_data" and r["layers"] == ["relu1"])
    assert (row["flop_counted"], row["counted_over_executed"]) == (0, 0)


@pytest.mark.parametrize("group", [("conv9", "forward"), ("fc1", "backward_data"), ("fc1", "x")])
def test_a_kernel_of_something_unknown_is_refused(group):
    with pytest.raises(Unreadable, match="both programs must be of one build"):
        count_flop.join(NETWORK, [kernel(*group, 1)])


def test_ratios_are_backward_over_forward():
    ran = [kernel("fc1+relu1", "forward", 200), kernel("fc2", "forward", 100),
           kernel("fc2", "backward_data", 150), kernel("fc1", "backward_weights", 300),
           kernel("fc1+fc2", "update", 26)]  # fmt: skip
    totals = count_flop.sums(count_flop.join(NETWORK, ran))
    assert totals["forward"] == {"flop": 260, "flop_executed": 263, "flop_counted": 300}
    assert count_flop.ratios(totals) == {
        "flop": 260 / 260, "flop_executed": 240 / 263, "flop_counted": 1.5
    }  # fmt: skip


@given(st.lists(st.sets(st.integers(0, 9), min_size=1), max_size=8))
def test_united_sets_part_the_whole_and_hold_each_set(sets):
    found = count_flop.united(sets, range(10))
    assert sorted(x for part in found for x in part) == list(range(10))
    assert [min(part) for part in found] == sorted(min(part) for part in found)
    for some in sets:
        assert sum(bool(some & part) for part in found) == 1
    assert len(found) == 10 or any(len(some) > 1 for some in sets)


# ---- whole runs


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No GPU, where there is one; and a run sets handlers, which are not to outlive its test."""
    for key, value in binaries.NO_GPU.items():
        monkeypatch.setenv(key, value)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


STEP = [
    (fake_ncu.ranges("fc1+relu1/forward"), "gemm_relu", {"ffma_": 100}),
    (fake_ncu.ranges("fc2/forward"), "gemm", {"src_bf16": 96, "inst_executed_pipe_tensor": 1}),
    (fake_ncu.ranges("loss/forward"), "reduce", {"fadd_": 3, "fmul_": 4}),
    (fake_ncu.ranges("fc2/backward_data"), "gemm", {"ffma_": 200}),
    (fake_ncu.ranges("fc1+fc2/update"), "sgd", {"ffma_": 67}),
]


def start(tiny: Path, *extra: str, **says) -> int:
    tool = fake_ncu.install(tiny.parent / "fake", **({"launches": STEP} | says))
    common = ["--model", str(tiny), "--ncu", str(tool), "--bin", str(binaries.FOLDER)]
    return count_flop.run_main([*common, *extra])


def written(folder: Path) -> dict:
    return binaries.parse((folder / "flop.json").read_text())


def test_a_whole_run_sets_counts_beside_formulas(tiny, tmp_path, capsys):
    assert start(tiny, "--out", str(tmp_path / "flop.json"), "--batch", "2") == 0
    document = written(tmp_path)
    assert document["gpu"] == fake_ncu.GPU
    assert document["ncu"] == "Version 9999.1 (made up)"
    assert {"name": f"{FFMA}.sum", "unit": "f32", "flop": 2} in document["counters"]
    (case,) = document["cases"]
    assert [case[key] for key in ("model", "batch", "dtype", "optimizer", "backend", "status")] == [
        "Tiny", 2, "f32", "sgd", "cuda", "ok"
    ]  # fmt: skip
    rows = {("+".join(row["layers"]), row["phase"]): row for row in case["rows"]}
    first = rows["fc1+relu1", "forward"]
    fc1, relu1 = 2 * 8 * 4 * 2, 2 * 8  # K and K − 1, and a bias; a comparison
    assert (first["flop"], first["flop_executed"]) == (fc1, fc1 + relu1)
    assert (first["flop_counted"], first["counted_over_executed"]) == (200, 200 / (fc1 + relu1))
    assert rows["fc2", "forward"]["flop_counted_by"] == {"tensor": 96}
    assert "flop_counted" not in rows["fc1", "backward_weights"]
    assert rows["fc1+fc2", "update"]["flop_counted"] == 2 * 67 == rows["fc1+fc2", "update"]["flop"]
    assert case["totals"]["forward"]["flop_counted"] == 200 + 96 + 7
    assert case["ratio"]["flop_counted"] == 400 / 303
    out = capsys.readouterr().out
    assert "Tiny, 2, f32, sgd: ok" in out
    assert "fc1+relu1" in out
    assert "no kernel" in out
    assert "1.32 counted" in out
    assert "comparisons" in out


def test_what_is_started_names_the_case_and_counts_only_the_named_step(tiny, tmp_path):
    assert start(tiny, "--batch", "3", "--optimizer", "adam") == 0
    arguments = json.loads((tmp_path / "fake" / "arguments.json").read_text())
    at = next(i for i, a in enumerate(arguments) if a.endswith("triphase_steps"))
    own, program = arguments[:at], arguments[at:]
    assert own[own.index("--nvtx-include") + 1] == "triphase/"
    assert f"{FFMA}.sum" in own[own.index("--metrics") + 1].split(",")
    for flag in (f"--model={tiny}", "--batch=3", "--optimizer=adam", "--backend=cuda"):
        assert flag in program


def test_triphase_steps_takes_the_flags_that_it_is_started_with(tiny, tmp_path, capsys):
    """By the real program, which has no GPU here."""
    code = start(tiny, "--out", str(tmp_path / "flop.json"), **{"pass": True})
    assert code == 2
    (case,) = written(tmp_path)["cases"]
    assert case["status"] == "skipped"
    assert "rows" not in case
    assert f"skipped: {case['reason']}" in capsys.readouterr().out


def test_cases_are_crossed_and_each_is_told(tiny, tmp_path):
    options = ["--batch", "1,2,1", "--optimizer", "sgd,adam", "--out", str(tmp_path / "flop.json")]
    assert start(tiny, *options) == 0
    found = [(case["batch"], case["optimizer"]) for case in written(tmp_path)["cases"]]
    assert found == [(1, "sgd"), (1, "adam"), (2, "sgd"), (2, "adam")]


FAILURES = {
    "driver": (
        {"says": ["==ERROR== Failed to profile \"gemm\"", "==WARNING== later"], "code": 9},
        "Failed to profile \"gemm\"",
    ),
    "nothing_ran": (
        {"launches": [], "says": ["==WARNING== No kernels were profiled."]},
        "no kernel ran in an NVTX range of triphase's: No kernels were profiled.",
    ),
    "no_ranges": (
        {"launches": [((), "gemm", {})]},
        "ncu tells of no kernel in which NVTX range it ran",
    ),
    "crash": ({"row": None, "code": 11}, "the process ended with exit code 11"),
    "wrong": (
        {"row": {"status": "failed", "reason": "fc1 is wrong"}, "code": 1}, "fc1 is wrong"
    ),
    "cut_off": ({"cut": 9}, "ncu's table is cut off"),
    "other_build": (
        {"launches": [(fake_ncu.ranges("conv9/forward"), "k", {})]}, "must be of one build"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("says", "reason"), FAILURES.values(), ids=FAILURES)
def test_what_fails_is_a_failed_case_with_its_reason(tiny, tmp_path, capsys, says, reason):
    assert start(tiny, "--out", str(tmp_path / "flop.json"), **says) == 1
    (case,) = written(tmp_path)["cases"]
    assert case["status"] == "failed"
    assert reason in case["reason"]
    assert reason in capsys.readouterr().out


def test_what_was_counted_before_a_failure_is_kept(tiny, tmp_path):
    row = {"status": "failed", "reason": "the GPU was lost"}
    assert start(tiny, "--out", str(tmp_path / "flop.json"), row=row, code=1) == 1
    (case,) = written(tmp_path)["cases"]
    assert case["reason"] == "the GPU was lost"
    assert case["rows"][0]["flop_counted"] == 200


def test_tensor_cores_without_a_counter_are_told(tiny, tmp_path, capsys):
    launches = [(fake_ncu.ranges("fc1/forward"), "gemm", {"inst_executed_pipe_tensor": 5})]
    assert start(tiny, "--out", str(tmp_path / "flop.json"), launches=launches) == 0
    assert written(tmp_path)["cases"][0]["rows"][0]["tensor_uncounted"] is True
    assert "tensor cores uncounted" in capsys.readouterr().out


FORBIDDEN = (
    "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU "
    "Performance Counters on the target device 0."
)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"says": [FORBIDDEN], "code": 1}, ["run as root", "NVreg_RestrictProfilingToAdminUsers"]),
        ({"chip": []}, ["names no counters of a GPU"]),
        ({"chip": ["gpu__time_duration"]}, ["has no counter", "fadd"]),
    ],
    ids=["permission", "no_counters", "unknown_counters"],
)
def test_where_nothing_can_be_counted_one_line_says_what_to_do(tiny, capsys, says, words):
    assert start(tiny, **says) == 2
    assert_one_line(capsys.readouterr(), words)


def assert_one_line(said, words) -> None:
    assert said.out == ""
    assert said.err.startswith("count_flop: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ncu=/nowhere/ncu"], ["/nowhere/ncu is missing", "Nsight Compute", "--ncu"]),
        (["--bin=/nowhere"], ["/nowhere/triphase_cost is missing", "scripts/reproduce"]),
        (["--model=Nope"], ["'Nope'"]),
        (["--batch=0"], ["batch", "found 0"]),
        (["--batch=1,"], ["batch"]),
        (["--dtype=f99"], ["f99"]),
        (["--optimizer=sdg"], ["sdg"]),
        (["--frobnicate"], ["--frobnicate"]),
        (["--out=/"], ["--out"]),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(tiny, capsys, arguments, words):
    assert start(tiny, *arguments) == 2
    assert_one_line(capsys.readouterr(), words)


def test_a_model_is_required(capsys):
    assert count_flop.run_main([]) == 2
    assert_one_line(capsys.readouterr(), ["--model"])


def test_help_has_a_sentence_for_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        count_flop.run_main(["--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for flag in ("--model", "--batch", "--dtype", "--optimizer", "--ncu", "--bin", "--out"):
        assert len(said.rpartition(f" {flag} ")[2].partition(" --")[0]) > 20, flag


def test_an_interrupted_run_ends_what_it_started(tiny, tmp_path):
    tool = fake_ncu.install(tmp_path / "fake", hang=True)
    command = [sys.executable, "-m", "triphase.count_flop", "--model", str(tiny), "--ncu",
               str(tool), "--bin", str(binaries.FOLDER)]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(binaries.ROOT / "scripts")}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 30
    while not (tmp_path / "fake" / "started").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "interrupted" in error
