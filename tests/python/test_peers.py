# SPDX-License-Identifier: Apache-2.0
"""scripts/peers without PyTorch: order, plan, merging, means, and what a user meets when all fails.

The programs that it starts are those of fake_peers, whose times are exact.
"""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_peers
import fake_steps
from contract import assert_contract
from triphase import (
    peers,
    peers_plot,
    peers_processes,
    peers_rows,
    peers_summary,
    peers_worker,
    processes,
)
from triphase import peers_schedule as schedule
from triphase.peers_schedule import (
    ALONE,
    CPU,
    DEVICES,
    GPU,
    OURS,
    PEERS,
    Backend,
    BadCase,
    Case,
    order,
    plan,
)
from triphase.records import SCHEMA_PATH, explain_invalid, load

ROOT = SCHEMA_PATH.parents[1]
EAGER, EAGER_TUNED = PEERS[:2]
COMPILED = next(backend for backend in PEERS if backend.compiled)
NAMES = [backend.name for backend in PEERS]


def case(model: str = "OneNet", batch: int = 64, dtype: str = "f32") -> Case:
    return Case(model, batch, fake_peers.cost(model, batch, dtype), dtype)


def answer(**changes) -> dict:
    phases = {"forward": [1.0, 2.0, 3.0], "backward": [2.0, 2.0, 9.0], "update": [1.0, 4.0, 3.0]}
    common = {"setup_s": 0.5, "cpu_share": 1.5, "warmup_steps": 2}
    return {"status": "unverified", "phases": phases, "involuntary_switches_per_s": 0} | (
        common | changes
    )


# ---- order and plan


@given(st.lists(st.integers(), unique=True, max_size=9), st.integers(0, 50))
def test_every_round_is_a_permutation_and_pairs_of_rounds_mirror(items, pair):
    first, second = order(items, 2 * pair), order(items, 2 * pair + 1)
    assert sorted(first) == sorted(items)
    assert second == first[::-1]


@given(st.integers(1, 9))
def test_everyone_comes_first_and_last_equally_often(n):
    items, rounds = list(range(n)), range(2 * n)
    assert sorted(order(items, r)[0] for r in rounds) == sorted([*items, *items])
    assert sorted(order(items, r)[-1] for r in rounds) == sorted([*items, *items])


def test_orders_of_three():
    assert [order("abc", r) for r in range(4)] == [list(o) for o in ("abc", "cba", "bca", "acb")]


def test_further_rounds_go_to_who_has_fewest_then_to_the_shortest():
    cost = {("a", 1): 10.0, ("b", 1): 3.0}
    assert plan({("a", 1): 0, ("b", 1): 0}, cost, 30, 3) == [
        ("a", 1), ("b", 1), ("b", 1), ("a", 1), ("b", 1)
    ]  # fmt: skip
    assert plan({("a", 1): 1, ("b", 1): 3}, cost, 10, 3) == [("a", 1)]
    assert plan({("a", 1): 1, ("b", 1): 3}, cost, 9, 3) == []


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abcd"), st.integers(1, 4)),
        st.tuples(st.integers(0, 4), st.floats(0.1, 100)),
    ),
    st.floats(-50, 500),
    st.integers(1, 6),
)
def test_a_plan_gives_all_a_first_round_and_else_keeps_to_time_and_rounds(state, left, rounds):
    done = {key: count for key, (count, _) in state.items()}
    cost = {key: seconds for key, (_, seconds) in state.items()}
    todo = plan(done, cost, left, rounds)
    first = [key for key, count in done.items() if count == 0]
    assert todo[: len(first)] == first
    further = todo[len(first) :]
    if further:
        assert sum(cost[key] for key in todo) <= left + 1e-6
    for key in set(further):
        assert done[key] + todo.count(key) <= rounds


def test_what_compiles_takes_part_in_every_second_round_but_never_in_none():
    assert [schedule.takes_part(COMPILED, r, 6) for r in range(4)] == [False, True, False, True]
    assert schedule.takes_part(COMPILED, 0, 1)
    assert all(schedule.takes_part(EAGER, r, 6) for r in range(4))


def test_channels_last_is_for_convolutions():
    last = next(b for b in PEERS if b.channels_last)
    assert schedule.suits(last, case("ConvNet"))
    assert not schedule.suits(last, case("OneNet"))


def test_each_peer_comes_as_installed_and_tuned():
    assert [b.tuned for b in PEERS] == [False, True] * 3
    assert NAMES[1::2] == [f"{name}-tuned" for name in NAMES[::2]]


def test_peers_are_named_alike_on_every_device():
    assert [backend.name for backend in GPU.peers] == NAMES
    assert [b.name for b in CPU.peers] == [ALONE.name, *NAMES]


# ---- cases


def test_a_case_is_a_model_at_batches():
    assert schedule.parse_case("OneNet@1,64") == [("OneNet", 1), ("OneNet", 64)]
    assert schedule.parse_case("a@b.json:n=1@2") == [("a@b.json:n=1", 2)]


@pytest.mark.parametrize("text", ["", "OneNet", "@4", "OneNet@", "OneNet@0", "OneNet@-1", "O@1,,2"])
def test_a_bad_case_is_refused(text):
    with pytest.raises(BadCase, match="MODEL@BATCH"):
        schedule.parse_case(text)


def test_a_model_is_a_stem_in_any_case_or_a_file():
    assert schedule.model_file("deeperconvnet:depth=10").name == "DeeperConvNet.json"
    assert schedule.model_file("some/Own.json:n=2") == Path("some/Own.json")
    with pytest.raises(BadCase, match="no model 'Nothing'"):
        schedule.model_file("Nothing")


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_the_default_cases_are_models_that_exist(device):
    for text in device.cases:
        for model, _ in schedule.parse_case(text):
            assert schedule.model_file(model).is_file()


def test_a_case_in_words_leaves_out_f32():
    assert str(case()) == "OneNet batch 64"
    assert str(case(dtype="bf16")) == "OneNet batch 64, bf16"


# ---- rows of one process, and merged


def test_the_rows_of_a_process_pair_up_and_add_up():
    rows = {r["phase"]: r for r in peers_rows.process_rows(case(), EAGER, 2, answer())}
    assert list(rows) == ["forward", "backward", "update", "step"]
    assert rows["step"]["samples_s"] == [4.0, 8.0, 15.0]
    assert rows["step"]["median_s"] == 8.0
    assert rows["step"]["mad_s"] == 4.0
    assert rows["step"]["cpu_time"] == 8e9 * 1.5
    assert rows["step"]["ratio_time"] == 2.0  # of 2, 1 and 3
    assert rows["step"]["ratio_time_with_update"] == 3.0  # of 3, 3 and 4
    assert rows["backward"]["flop"] == sum(
        case().cost["totals"][p]["flop"] for p in ("backward_data", "backward_weights")
    )
    assert rows["step"]["ratio_flop"] == case().cost["ratio"]["flop"]
    assert rows["step"]["parameter_count"] == case().cost["parameters"]
    name = "OneNet/batch:64/dtype:f32/optimizer:sgd/backend:pytorch-eager/forward/real_time"
    assert rows["forward"]["name"] == name


def test_a_step_that_another_clock_timed_is_not_the_sum_of_its_phases():
    timed = answer(runs_per_sample=7)
    timed["phases"] = timed["phases"] | {"step": [5.0, 9.0, 16.0]}
    rows = peers_rows.process_rows(case(dtype="bf16"), EAGER, 2, timed)
    step = rows[-1]
    assert (step["median_s"], step["device_step_s"], step["runs_per_sample"]) == (9.0, 8.0, 7)
    assert step["ratio_time"] == 2.0
    assert step["dtype"] == "bf16"
    assert step["name"].startswith("OneNet/batch:64/dtype:bf16/optimizer:sgd/")
    merged = peers_rows.merge([rows, rows])[-1]
    assert (merged["median_s"], merged["device_step_s"], merged["runs_per_sample"]) == (9, 8, 7)
    assert explain_invalid(fake_steps.document(rows)) is None


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_rows_of_a_process_that_did_not_run_keep_the_schema(status):
    rows = peers_rows.process_rows(case(), EAGER, 2, {"status": status, "reason": "why"})
    assert {row["status"] for row in rows} == {status}
    assert explain_invalid(fake_steps.document(rows)) is None


def with_medians(*medians: float) -> list[dict]:
    """Merged rows of processes whose step takes so long, by phase."""
    processes = [
        peers_rows.process_rows(
            case(), EAGER, 2,
            answer(phases={"forward": [m / 4] * 5, "backward": [m / 2] * 5, "update": [m / 4] * 5}),
        )
        for m in medians
    ]  # fmt: skip
    return peers_rows.merge(processes)


def test_a_merged_median_is_the_median_of_the_processes():
    step = with_medians(1, 8, 2)[-1]
    assert step["median_s"] == 2
    assert step["process_medians_s"] == [1, 8, 2]
    assert step["process_count"] == 3
    assert step["sample_count"] == step["iterations"] == len(step["samples_s"]) == 15
    assert step["min_s"] == 1
    assert "ci95_low_s" not in step
    assert "ratio_time_ci95_low" not in step


def test_from_six_processes_on_there_is_an_interval():
    step = with_medians(6, 1, 5, 2, 4, 3)[-1]
    assert (step["ci95_low_s"], step["median_s"], step["ci95_high_s"]) == (1, 3.5, 6)
    assert step["ratio_time_ci95_low"] == step["ratio_time_ci95_high"] == 2


@pytest.mark.parametrize(("n", "k"), [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (20, 6), (100, 40)])
def test_intervals_are_those_of_the_sign_test(n, k):
    assert peers_rows.interval(list(range(1, n + 1))) == (k, n + 1 - k)


@pytest.mark.parametrize("n", range(6))
def test_fewer_than_six_have_none(n):
    assert peers_rows.interval([1.0] * n) is None


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=20))
def test_a_merged_row_lies_within_its_processes_and_keeps_the_schema(medians):
    rows = with_medians(*medians)
    assert explain_invalid(fake_steps.document(rows)) is None
    step = rows[-1]
    assert min(medians) * 0.999 <= step["median_s"] <= max(medians) * 1.001
    assert step.get("ci95_low_s", 0) <= step["median_s"] <= step.get("ci95_high_s", math.inf)


def test_what_failed_once_has_no_time():
    good = peers_rows.process_rows(case(), EAGER, 2, answer())
    bad = peers_rows.process_rows(case(), EAGER, 2, {"status": "failed", "reason": "why"})
    rows = peers_rows.merge([good, bad, good])
    assert {row["reason"] for row in rows} == {"why"}
    assert all("median_s" not in row for row in rows)


def test_our_rows_keep_layers_and_fused_ones_and_drop_intervals_within_a_process():
    processes = [fake_steps.case_rows("ConvNet", 4, fuse=("relu1",), seed=s) for s in (1, 2)]
    rows = peers_rows.merge(processes)
    assert [row["name"] for row in rows] == [row["name"] for row in processes[0]]
    assert explain_invalid(fake_steps.document(rows)) is None
    fused = [row for row in rows if "fused_into" in row]
    assert fused
    assert all("median_s" not in row for row in fused)
    assert not any("ci95_low_s" in row or "ratio_time_ci95_low" in row for row in rows)
    one, two = (p[0]["median_s"] for p in processes)
    assert rows[0]["median_s"] == statistics.median([one, two])


def test_one_verified_process_verifies_the_others():
    ok = fake_steps.case_rows("OneNet", 4)
    unverified = [row | {"status": "unverified", "reason": "--verify=off"} for row in ok]
    for both in ([ok, unverified], [unverified, ok]):
        rows = peers_rows.merge(both)
        assert {row["status"] for row in rows} == {"ok"}
        assert not any("reason" in row for row in rows)
    assert {row["status"] for row in peers_rows.merge([unverified])} == {"unverified"}


# ---- ratios and means


def test_a_ratio_is_paired_by_round():
    peer = {0: {"step": 2.0}, 1: {"step": 30.0}, 2: {"step": 9.0}}
    ours = {0: {"step": 1.0}, 1: {"step": 10.0}, 3: {"step": 1.0}}
    assert peers_summary.paired_ratio(peer, ours, "step") == {
        "median": 2.5, "min": 2.0, "max": 3.0, "rounds": 2
    }  # fmt: skip
    assert peers_summary.paired_ratio(peer, {}, "step") is None
    assert peers_summary.paired_ratio(peer, ours, "update") is None


def test_geometric_means():
    mean = peers_summary.geometric([1.0, 4.0])
    assert mean["mean"] == 2.0
    assert mean["deviation"] == pytest.approx(math.exp(math.sqrt(2) * math.log(2)), rel=1e-15)
    assert (mean["min"], mean["max"], mean["cases"]) == (1.0, 4.0, 2)
    assert peers_summary.geometric([3.0]) == {
        "cases": 1, "mean": pytest.approx(3.0), "min": 3.0, "max": 3.0
    }  # fmt: skip


positive = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30)


@given(positive, st.floats(1e-2, 1e2))
def test_a_geometric_mean_scales_inverts_and_lies_between(values, factor):
    mean = peers_summary.geometric(values)
    assert mean["min"] * 0.999999 <= mean["mean"] <= mean["max"] * 1.000001
    scaled = peers_summary.geometric([factor * value for value in values])
    assert scaled["mean"] == pytest.approx(factor * mean["mean"])
    assert scaled["deviation"] == pytest.approx(mean["deviation"])
    inverse = peers_summary.geometric([1 / value for value in values])
    assert inverse["mean"] == pytest.approx(1 / mean["mean"])
    assert mean["deviation"] >= 1


def times(step: float) -> dict[int, dict[str, float]]:
    return {0: {"step": step, "forward": step / 2}}


def test_the_fastest_is_chosen_among_those_as_installed_and_among_those_tuned():
    seconds = {"onednn": times(1), NAMES[0]: times(3), NAMES[1]: times(2), NAMES[4]: times(2.5)}
    not_run = {NAMES[5]: ("skipped", "no compiler")}
    identity = {"model": "M", "batch": 1, "dtype": "f32"}
    found = peers_summary.build_case(identity, seconds, not_run, PEERS)
    assert found["fastest_as_installed"] == NAMES[4]
    assert found["fastest_tuned"] == NAMES[1]
    assert [peer["backend"] for peer in found["peers"]] == [NAMES[0], NAMES[1], NAMES[4], NAMES[5]]
    assert found["peers"][-1]["reason"] == "no compiler"
    means = {mean["backend"]: mean["phases"] for mean in peers_summary.means([found, found])}
    assert means["fastest as installed"]["step"]["mean"] == pytest.approx(2.5)
    assert means["fastest tuned"]["forward"]["mean"] == pytest.approx(2)
    assert means["fastest tuned"]["step"]["cases"] == 2
    assert means["fastest tuned"]["step"]["deviation"] == 1
    assert NAMES[5] not in means


def test_means_are_apart_by_dtype():
    cases = [one_case("A", "f32", onednn=1, pytorch_eager=2), one_case("A", "f16", onednn=1)]
    cases.append(one_case("B", "f16", onednn=1, pytorch_eager=8))
    means = [mean for mean in peers_summary.means(cases) if mean["backend"] == NAMES[0]]
    assert [(mean["dtype"], mean["phases"]["step"]["mean"]) for mean in means] == [
        ("f32", pytest.approx(2)), ("f16", pytest.approx(8))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.5e-7, "0.25 µs"), (1.234e-5, "12.3 µs"), (0.9996e-3, "1 ms"), (0.1234, "123 ms"),
     (0.9999, "1 s"), (3.456, "3.46 s"), (1234.5, "1234 s")],
)  # fmt: skip
def test_seconds_for_people(value, text):
    assert peers_summary.seconds_text(value) == text


def test_a_busy_machine_and_an_interruption_are_said_at_the_top(tmp_path):
    _, out = start(tmp_path, "--rounds", "1", "--case", "OneNet@1", "--backends", NAMES[0])
    _, summary = documents(out)
    assert summary["involuntary_switches_per_s"] == 0
    assert "busy" not in peers_summary.markdown(summary)
    busy = summary | {"involuntary_switches_per_s": 101.0, "complete": False}
    top = peers_summary.markdown(busy).partition("## By case")[0]
    assert "**The machine was busy:**" in top
    assert "**This run was interrupted.**" in top


# ---- the worker's sampling, which needs no torch


class Clock:
    """Time that only steps take."""

    def __init__(self, step_s: float) -> None:
        self.now, self.step_s, self.steps = 0.0, step_s, 0

    def __call__(self) -> float:
        return self.now

    def step(self, mark) -> tuple[None, list[float]]:
        begin, self.steps = self.now, self.steps + 1
        self.now += self.step_s
        return None, [begin + self.step_s * share for share in (0, 0.25, 0.75, 1)]


@pytest.mark.parametrize(("step_s", "samples", "warm_up"), [(0.125, 8, 2), (1.0, 5, 1), (60, 5, 1)])
def test_a_worker_samples_for_its_seconds_and_at_least_five_steps(step_s, samples, warm_up):
    clock = Clock(step_s)
    found = peers_worker.sample(clock.step, 1.0, clock)
    assert found["warmup_steps"] == warm_up
    assert clock.steps == warm_up + samples
    assert found["phases"] == {
        "forward": [step_s / 4] * samples,
        "backward": [step_s / 2] * samples,
        "update": [step_s / 4] * samples,
    }


class Gpu:
    """A GPU to which a step hands three kernels: Python's time and its own, by an exact clock."""

    def __init__(self, launch_s: float, kernel_s: float, synchronize_s: float) -> None:
        self.launch_s, self.kernel_s, self.synchronize_s = launch_s, kernel_s, synchronize_s
        self.host = self.done = 0.0  # now, and when the GPU ends what it was handed
        self.steps = 0

    def clock(self) -> float:
        return self.host

    def step(self, mark) -> tuple[None, list]:
        self.steps += 1
        marks = [mark()]
        for _ in range(3):
            self.host += self.launch_s
            self.done = max(self.done, self.host) + self.kernel_s
            marks.append(mark())
        return None, marks

    def synchronize(self) -> None:
        self.host = max(self.host, self.done) + self.synchronize_s

    def Event(self, *, enable_timing: bool) -> GpuEvent:  # noqa: N802
        assert enable_timing
        return GpuEvent(self)


class GpuEvent:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def record(self) -> None:
        self.s = max(self.gpu.host, self.gpu.done)

    def elapsed_time(self, later: GpuEvent) -> float:
        return (later.s - self.s) * 1e3


def test_a_gpu_that_is_kept_busy_hides_launching_and_a_row_of_steps_synchronising():
    gpu = Gpu(launch_s=2**-14, kernel_s=2**-12, synchronize_s=2**-14)
    found = peers_worker.sample_on_gpu(gpu.step, 0.125, gpu.clock, gpu)
    step_s = 3 * gpu.kernel_s
    alone_s = gpu.launch_s + step_s + gpu.synchronize_s
    count = found["runs_per_sample"]
    assert count == math.ceil(peers_worker.ROW_S / alone_s)
    samples = len(found["phases"]["step"])
    assert samples == math.ceil(0.125 / (count * step_s + 2 * gpu.launch_s))
    assert set(found["phases"]["step"]) == {step_s + (alone_s - step_s) / count}
    for phase in peers_worker.PHASES:
        assert found["phases"][phase] == pytest.approx([gpu.kernel_s] * samples)
    assert gpu.steps == found["warmup_steps"] + samples * count


def test_a_gpu_that_waits_for_launches_shows_them_in_step_and_phases():
    gpu = Gpu(launch_s=2**-10, kernel_s=2**-14, synchronize_s=0)
    found = peers_worker.sample_on_gpu(gpu.step, 0.125, gpu.clock, gpu)
    assert found["phases"]["step"][0] == pytest.approx(3 * gpu.launch_s, rel=0.02)
    assert found["phases"]["backward"][0] == pytest.approx(gpu.launch_s)


def test_a_long_step_on_a_gpu_is_a_sample_of_its_own():
    gpu = Gpu(launch_s=2**-10, kernel_s=1.0, synchronize_s=0)
    found = peers_worker.sample_on_gpu(gpu.step, 1.0, gpu.clock, gpu)
    assert (found["runs_per_sample"], found["warmup_steps"], gpu.steps) == (1, 1, 6)
    assert found["phases"]["step"] == pytest.approx([3 + gpu.launch_s] * 5)


def test_the_worker_says_that_torch_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert peers_worker.main(["cpu"]) == 0
    assert "torch" in json.loads(capsys.readouterr().out)["missing"]


def torch_with(cuda: str | None, *, gpu: bool) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        __version__="9.9",
        version=types.SimpleNamespace(cuda=cuda),
        cuda=types.SimpleNamespace(is_available=lambda: gpu, get_device_name=lambda: "Made-up GPU"),
        backends=types.SimpleNamespace(cudnn=types.SimpleNamespace(version=lambda: 91000)),
    )


@pytest.mark.parametrize(
    ("cuda", "words"), [(None, "9.9, built without CUDA"), ("13.0", "9.9, which finds no GPU")]
)
def test_the_worker_says_that_torch_can_use_no_gpu(monkeypatch, capsys, cuda, words):
    monkeypatch.setitem(sys.modules, "torch", torch_with(cuda, gpu=False))
    assert peers_worker.main(["cuda"]) == 0
    assert words in json.loads(capsys.readouterr().out)["missing"]
    assert peers_worker.main(["cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"]["torch"] == "9.9"


def test_the_worker_names_the_gpu_and_torchs_libraries(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", torch_with("13.0", gpu=True))
    found = peers_worker.versions("cuda")
    assert (found["torch_gpu"], found["torch_cuda"], found["torch_cudnn"]) == (
        "Made-up GPU", "13.0", "91000"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "status"), [("OutOfMemoryError", "skipped"), ("AcceleratorError", "failed")]
)
def test_want_of_a_gpus_memory_is_no_failure(monkeypatch, tmp_path, name, status):
    def measure(_: dict) -> dict:
        raise type(name, (RuntimeError,), {})("CUDA out of memory")

    monkeypatch.setattr(peers_worker, "measure", measure)
    (tmp_path / "request").write_text("{}")
    assert peers_worker.main([str(tmp_path / "request"), str(tmp_path / "result")]) == 0
    assert json.loads((tmp_path / "result").read_text())["status"] == status


def test_a_worker_that_raises_says_so_in_its_result(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "request").write_text("{}")
    assert peers_worker.main([str(tmp_path / "request"), str(tmp_path / "result")]) == 0
    found = json.loads((tmp_path / "result").read_text())
    assert found["status"] == "failed"
    assert "torch" in found["reason"]


# ---- processes


def test_the_allocator_is_tuned_only_where_asked_for(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    plain = peers_processes.environment(3, EAGER, Path("cache"))
    tuned = peers_processes.environment(3, EAGER_TUNED, Path("cache"))
    assert plain["OMP_NUM_THREADS"] == "3"
    assert not [key for key in plain if key.startswith("MALLOC_")]
    assert dict(tuned.items() - plain.items()) == schedule.TUNED


def test_only_processes_of_the_gpu_see_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    cpu = peers_processes.environment(3, EAGER_TUNED, Path("cache"))
    gpu = peers_processes.environment(3, EAGER_TUNED, Path("cache"), GPU)
    assert (cpu["CUDA_VISIBLE_DEVICES"], gpu["CUDA_VISIBLE_DEVICES"]) == ("", "1")
    assert not gpu.keys() & schedule.TUNED.keys()


def test_a_process_that_hangs_is_killed_with_its_children():
    begin = time.monotonic()
    done = processes.run(["sh", "-c", "sleep 60 & sleep 60"], limit_s=0.3)
    assert time.monotonic() - begin < 50  # neither was waited for
    assert done.code != 0
    assert done.reason == "the process did not end within 0.3 s"


def test_a_program_that_cannot_start_is_a_reason():
    assert "No such file" in processes.run(["/nowhere/program"]).reason


def test_a_case_too_large_for_memory_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setattr(peers_processes, "available_memory", lambda: 4)
    starter = peers_processes.Starter(tmp_path, "python", 2, 1.0, tmp_path)
    rows = starter.peer(case(), "OneNet", EAGER)
    assert rows[0]["status"] == "skipped"
    assert "available" in rows[0]["reason"]


# ---- whole runs


@pytest.fixture(autouse=True)
def _signals():
    """A run sets handlers, which are not to outlive its test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(folder: Path, *extra: str, faults: dict | None = None) -> tuple[int, Path]:
    """Exit code and results' folder of a run with fake programs."""
    fake = fake_peers.install(folder / "fake", **(faults or {}))
    out = folder / "out"
    common = ["--bin", str(fake), "--python", str(fake / "python"), "--out", str(out)]
    if "--case" not in extra:
        extra = ("--case", "OneNet@64", "--case", "ConvNet@4", *extra)
    return peers.run_main([*common, "--threads", "2", *extra]), out


def documents(out: Path) -> tuple[dict, dict]:
    """steps.json and peers.json, which keep the schema."""
    steps = json.loads((out / "steps.json").read_text())
    summary = json.loads((out / "peers.json").read_text())
    assert_contract(steps)
    assert_contract(summary, "peers")
    assert not list(out.glob(".*")), "nothing half-written stays behind"
    return steps, summary


def statuses(steps: dict) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in steps["benchmarks"]:
        found.setdefault(row["backend"], set()).add(row["status"])
    return found


def test_a_whole_run_gives_the_exact_ratios(tmp_path, capsys):
    code, out = start(tmp_path, "--rounds", "2")
    assert code == 0
    steps, summary = documents(out)
    assert set(statuses(steps)) == {OURS.name, ALONE.name, *NAMES}
    assert statuses(steps)[OURS.name] == {"ok"}
    one, conv = summary["cases"]
    slower = fake_peers.SLOWER
    expected = [slower["eager"], slower["channels_last"], slower["compiled"]]
    expected = [f * t for f in expected for t in (1, fake_peers.TUNED)]
    assert [p["backend"] for p in conv["peers"]] == NAMES
    for phase in ("forward", "backward", "update", "step"):
        assert [p["ratio"][phase]["median"] for p in conv["peers"]] == pytest.approx(expected)
    assert [p["rounds"] for p in conv["peers"]] == [2, 2, 2, 2, 1, 1]
    assert [p["backend"] for p in one["peers"]] == [n for n in NAMES if "channels" not in n]
    assert one["fastest_as_installed"] == "pytorch-eager"
    assert conv["fastest_as_installed"] == "pytorch-eager-channels-last"
    assert conv["fastest_tuned"] == "pytorch-eager-channels-last-tuned"
    means = {m["backend"]: m["phases"]["step"] for m in summary["means"]}
    assert means["fastest as installed"]["mean"] == pytest.approx(math.sqrt(2.0 * 1.5))
    assert means["pytorch-compile"]["mean"] == pytest.approx(4)
    assert means["pytorch-compile"]["deviation"] == pytest.approx(1)
    assert summary["complete"]
    assert summary["versions"]["torch"] == "9.9"
    assert {p.name for p in out.iterdir()} == {
        "steps.json", "peers.json", "peers.md", "peers.png", "peers.svg", "peers.html"
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "min left] OneNet batch 64, round 1" in printed
    assert "; pytorch-eager " in printed
    assert " (2.00); " in printed
    assert "| ConvNet batch 4 |" in (out / "peers.md").read_text()


def test_a_run_on_a_gpu_gives_ratios_by_case_and_dtype(tmp_path):
    eager, compiled = NAMES[0], NAMES[5]
    more = ["--backends", f"{compiled},{eager}", "--rounds", "2"]
    code, out = start(tmp_path, "--device", "cuda", "--dtype", "bf16,f32", *more)
    assert code == 0
    steps, summary = documents(out)
    assert set(statuses(steps)) == {"cuda", eager, compiled}
    assert [(c["model"], c["dtype"]) for c in summary["cases"]] == [
        ("OneNet", "f32"), ("OneNet", "bf16"), ("ConvNet", "f32"), ("ConvNet", "bf16")
    ]  # fmt: skip
    expected = [fake_peers.SLOWER["eager"], fake_peers.SLOWER["compiled"] * fake_peers.TUNED]
    for case in summary["cases"]:
        ratios = [peer["ratio"] for peer in case["peers"]]
        assert [r["forward"]["median"] for r in ratios] == pytest.approx(expected)
        launching = [fake_peers.LAUNCHING * ratio for ratio in expected]
        assert [r["step"]["median"] for r in ratios] == pytest.approx(launching)
    bf16 = "ConvNet/batch:4/dtype:bf16/optimizer:sgd/backend"
    names = {row["name"] for row in steps["benchmarks"]}
    assert {f"{bf16}:{name}/step/real_time" for name in ("cuda", eager, compiled)} <= names
    assert summary["device"] == "cuda"
    assert summary["machine"] == "Made-up GPU"
    assert load(out / "steps.json").machine == "Made-up GPU"
    text = (out / "peers.md").read_text()
    assert "| ConvNet batch 4, bf16 | " in text
    assert f"| {compiled}, bf16 | 2 | " in text
    assert "| case | cuda, step | " in text
    assert "f32, bf16, SGD" in text
    assert (out / "peers.svg").exists()


def test_without_a_gpu_nothing_can_run_and_one_line_says_why(tmp_path, capsys):
    faults = {"torch": "no GPU", "steps": "skip"}
    code, out = start(tmp_path, "--device", "cuda", "--rounds", "1", faults=faults)
    assert code == 2
    steps, _ = documents(out)
    assert statuses(steps) == {name: {"skipped"} for name in ("cuda", *NAMES)}
    printed = capsys.readouterr().out
    assert printed.count("PyTorch is skipped: ") == 1
    assert "python has PyTorch 9.9, which finds no GPU\n" in printed


def test_layers_face_the_librarys_calls_alone(tmp_path):
    code, out = start(tmp_path, "--rounds", "2", "--backends", "onednn-alone")
    assert code == 0
    steps, summary = documents(out)
    for case in summary["cases"]:
        found = {(layer["layer"], layer["phase"]): layer["ratio"] for layer in case["layers"]}
        assert found.keys() >= {("fc1" if case["model"] == "OneNet" else "conv1", "forward")}
        assert list(found.values()) == pytest.approx([1 / fake_peers.ALONE] * len(found))
    rows = [row for row in steps["benchmarks"] if row["backend"] == "onednn-alone"]
    assert all(row["layer"] and row["process_count"] == 2 for row in rows)
    assert all(row["flop"] > 0 for row in rows if row["layer"].startswith("fc"))
    assert "| OneNet batch 64 | 4.00 " in (out / "peers.md").read_text()


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [("skip", None, "needs 9 GB"), ("die", "failed", "Illegal instruction")],
)
def test_calls_that_did_not_run_say_why(tmp_path, fault, status, reason):
    code, out = start(
        tmp_path, "--rounds", "1", "--backends", "onednn-alone", faults={"layers": fault}
    )
    assert code == (1 if status == "failed" else 0)
    steps, _ = documents(out)
    rows = [row for row in steps["benchmarks"] if row["backend"] == "onednn-alone"]
    assert rows
    assert all(reason in row["reason"] for row in rows)
    assert reason in (out / "peers.md").read_text()


def test_without_the_program_for_layers_the_rest_runs(tmp_path):
    fake = fake_peers.install(tmp_path / "fake")
    (fake / "onednn_layers").unlink()
    out = tmp_path / "out"
    common = ["--bin", str(fake), "--python", str(fake / "python"), "--out", str(out)]
    assert peers.run_main([*common, "--case", "OneNet@1", "--rounds", "1"]) == 0
    steps, _ = documents(out)
    assert statuses(steps)[ALONE.name] == {"skipped"}


def test_time_ratios_and_counts_are_in_the_peers_rows(tmp_path):
    _, out = start(tmp_path, "--rounds", "1", "--backends", "pytorch-eager")
    records = load(out / "steps.json")
    assert {s.backend for s in records.settings} == {"onednn", "pytorch-eager"}
    for model in ("OneNet", "ConvNet"):
        ours, theirs = records.steps.filter(model_name=model).iter_rows(named=True)
        assert theirs["ratio_time"] == pytest.approx(ours["ratio_time"])
        for column in ("flop", "traffic_bytes", "ratio_flop", "first_layer_share"):
            assert theirs[column] == pytest.approx(ours[column])


def test_the_report_draws_every_backend_apart(tmp_path):
    _, out = start(tmp_path, "--rounds", "1", "--backends", "onednn-alone,pytorch-eager")
    wrapper = ROOT / "scripts" / "report"
    done = subprocess.run([wrapper, out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for backend in ("onednn", "pytorch-eager"):
        assert (out / f"ratio_by_batch.{backend}-f32-t2.svg").is_file()


def test_six_rounds_give_intervals(tmp_path):
    code, out = start(
        tmp_path, "--rounds", "6", "--backends", "pytorch-eager", "--case", "OneNet@1"
    )
    assert code == 0
    steps, _ = documents(out)
    ends = [r for r in steps["benchmarks"] if r["phase"] == "step" and "layer" not in r]
    assert [r["process_count"] for r in ends] == [6, 6]
    assert all(r["ci95_low_s"] == pytest.approx(r["median_s"]) for r in ends)


def test_no_time_left_means_one_round(tmp_path):
    code, out = start(tmp_path, "--minutes", "0", "--rounds", "2")
    assert code == 0
    steps, summary = documents(out)
    assert statuses(steps)["pytorch-compile"] == {"skipped"}
    reasons = {p.get("reason") for c in summary["cases"] for p in c["peers"]}
    assert reasons == {None, "the run ended before its turn; --minutes gives more time"}


@pytest.mark.parametrize(
    ("torch", "words"), [("missing", "No module named 'torch'"), ("broken", "Illegal instruction")]
)
def test_without_torch_the_peers_are_skipped_and_ours_runs(tmp_path, capsys, torch, words):
    code, out = start(tmp_path, "--rounds", "1", faults={"torch": torch})
    assert code == 0
    steps, summary = documents(out)
    beside = {OURS.name: {"ok"}, ALONE.name: {"unverified"}}
    assert statuses(steps) == beside | {name: {"skipped"} for name in NAMES}
    assert all(words in p["reason"] for c in summary["cases"] for p in c["peers"])
    assert summary["means"] == []
    printed = capsys.readouterr().out
    assert printed.count("PyTorch is skipped: ") == 1
    assert words in printed
    assert not (out / "peers.svg").exists()


def test_where_compiling_does_not_work_the_rest_runs(tmp_path, capsys):
    reason = {"status": "skipped", "reason": "torch.compile: no g++"}
    code, out = start(tmp_path, "--rounds", "4", faults={"worker": {"compiled": reason}})
    assert code == 0
    steps, summary = documents(out)
    assert statuses(steps)["pytorch-compile"] == {"skipped"}
    assert statuses(steps)["pytorch-eager"] == {"unverified"}
    assert "pytorch-compile, skipped: torch.compile: no g++ (OneNet batch 64, ConvNet batch 4)" in (
        capsys.readouterr().out
    )
    assert all(p["rounds"] == 0 for p in summary["cases"][0]["peers"] if "compile" in p["backend"])


def test_a_worker_that_dies_is_a_failed_row_and_is_not_tried_again(tmp_path, capsys):
    code, out = start(tmp_path, "--rounds", "3", faults={"worker": {"channels_last": "die"}})
    assert code == 1
    steps, _ = documents(out)
    assert statuses(steps)["pytorch-eager-channels-last"] == {"failed"}
    assert statuses(steps)["pytorch-eager"] == {"unverified"}
    printed = capsys.readouterr().out
    assert printed.count("channels-last failed: the process was ended by SIGKILL") == 1


@pytest.mark.parametrize(
    ("fault", "code", "status", "reason"),
    [("skip", 0, "skipped", "needs 9 GiB"), ("fail", 1, "failed", "fc1 is wrong")],
)
def test_where_ours_does_not_run_the_peers_have_times_and_no_ratios(
    tmp_path, fault, code, status, reason
):
    found, out = start(tmp_path, "--rounds", "1", faults={"steps": fault})
    assert found == code
    steps, summary = documents(out)
    assert statuses(steps)[OURS.name] == {status}
    assert summary["cases"][0]["ours"]["reason"] == reason
    assert all(p["step_s"] > 0 and p["ratio"] == {} for c in summary["cases"] for p in c["peers"])


def test_where_ours_crashes_nothing_is_known_of_the_machine(tmp_path, capsys):
    code, out = start(tmp_path, "--rounds", "1", faults={"steps": "die"})
    assert code == 2
    assert "nothing was measured" in capsys.readouterr().err
    assert not out.exists()


# ---- refusals


def assert_refused(capsys, code: int, *words: str) -> None:
    printed = capsys.readouterr()
    assert code == 2
    assert printed.err.startswith("peers: ")
    assert printed.err.count("\n") == 1
    for word in words:
        assert word in printed.err, printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--case", "OneNet"], ["--case", "MODEL@BATCH", "'OneNet'"]),
        (["--case", "Nothing@1"], ["no model 'Nothing'"]),
        (["--rounds", "0"], ["--rounds", "whole number", "'0'"]),
        (["--rounds", "1.5"], ["--rounds", "'1.5'"]),
        (["--minutes", "nan"], ["--minutes", "'nan'"]),
        (["--seconds", "-1"], ["--seconds"]),
        (["--threads", "many"], ["--threads", "'many'"]),
        (["--backends", "tensorflow"], ["no 'tensorflow'", "pytorch-eager"]),
        (["--backends", "onednn-alone", "--device", "cuda"], ["no 'onednn-alone'"]),
        (["--device", "tpu"], ["--device", "'tpu'"]),
        (["--dtype", "bf16"], ["--dtype", "no 'bf16'", "--device=cpu has f32"]),
        (["--dtype", "f32,f64", "--device", "cuda"], ["no 'f64'", "f32, tf32, bf16, f16"]),
        (["--dtype", ","], ["--dtype", "f32"]),
        (["--python", "/nowhere/python"], ["--python", "/nowhere/python"]),
        (["--bin", "/nowhere"], ["/nowhere/triphase_cost", "scripts/reproduce"]),
        (["--nonsense"], ["--nonsense"]),
        (["--out"], ["--out"]),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(tmp_path, capsys, arguments, words):
    code, out = start(tmp_path, *arguments)
    assert_refused(capsys, code, *words)
    assert not out.exists()


def test_a_folder_with_results_is_not_written_over(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "steps.json").write_text("kept")
    code, out = start(tmp_path)
    assert_refused(capsys, code, "steps.json exists")
    assert (out / "steps.json").read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    code, _ = start(tmp_path)
    assert_refused(capsys, code, "cannot be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_leave_to_write_is_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(stat.S_IRUSR | stat.S_IXUSR)
    code, _ = start(tmp_path)
    assert_refused(capsys, code, "cannot be written")


def test_help_has_a_sentence_for_every_flag(capsys):
    with pytest.raises(SystemExit, match="0"):
        peers.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    flags = ("device", "dtype", "case", "backends", "rounds", "minutes", "seconds", "threads")
    for flag in (*flags, "python", "bin", "out"):
        assert f"--{flag} " in text


# ---- interruption


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_what_it_has(tmp_path, number, code):
    fake = fake_peers.install(tmp_path / "fake", hang=True)
    out = tmp_path / "out"
    arguments = ["--case", "OneNet@1", "--bin", fake, "--python", fake / "python", "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "triphase.peers", *arguments, "--threads", "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        if (fake / "started").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(number)
    printed, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert "interrupted" in error
    assert "Traceback" not in error
    steps, summary = documents(out)
    assert statuses(steps)[OURS.name] == {"ok"}
    assert statuses(steps)["pytorch-eager"] == {"skipped"}
    assert not summary["complete"]
    assert "interrupted" in printed


# ---- the plot


def summary_of(*cases: dict) -> dict:
    return {
        "cases": list(cases), "versions": {"torch": "9.9"}, "threads": 2, "machine": "Made-up CPU",
        "date": "2025-11-22T10:00:00+00:00",
        "backends": [{"name": OURS.name, "about": OURS.about}],
    }  # fmt: skip


def one_case(model: str, dtype: str = "f32", **steps: float) -> dict:
    seconds = {name.replace("_", "-"): times(step) for name, step in steps.items()}
    identity = {"model": model, "batch": 4, "dtype": dtype}
    return peers_summary.build_case(identity, seconds, {}, PEERS)


def test_the_plot_has_a_mark_for_each_peer_and_a_line_at_one():
    cases = [one_case(m, onednn=1, pytorch_eager=2, pytorch_eager_tuned=1.5) for m in "AB"]
    chart = peers_plot.build(summary_of(*cases)).to_dict()
    rows = [row for data in chart["datasets"].values() for row in data]
    assert {"one": 1.0} in rows
    marks = {(r["case"], r["how"]): r["ratio"] for r in rows if "ratio" in r}
    assert marks == {
        ("A batch 4", "as installed"): 2, ("A batch 4", "tuned"): 1.5,
        ("B batch 4", "as installed"): 2, ("B batch 4", "tuned"): 1.5,
    }  # fmt: skip


def test_the_plot_wants_a_peer():
    with pytest.raises(peers_plot.NothingToPlot):
        peers_plot.build(summary_of(one_case("A", onednn=1)))


def test_backends_are_told_apart_by_name_alone():
    assert len(set(NAMES)) == len(NAMES)
    assert all(isinstance(b, Backend) and b.about for b in (OURS, *PEERS))


def test_the_fakes_keep_the_contract():
    assert explain_invalid(fake_peers.cost("ConvNet", 4), "cost") is None
