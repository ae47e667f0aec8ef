# SPDX-License-Identifier: Apache-2.0
"""The machine's noise: records of pairs, resampling, what calibrate stores and ab finds again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fake_benchmark import KERNELS, clock_of, install, start_here
from triphase import calibrate, gate, gate_noise, gate_processes, track
from triphase.gate_calibration import (
    cache_folder,
    calibration_path,
    find_noise,
    machine_of,
    noise_between_processes,
)
from triphase.gate_pairs import Process, Record, read_record, write_record
from triphase.stopping import Stopped
from triphase.track_errors import BadInput

CONTEXT = {"num_cpus": 2, "caches": []}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPHASE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gate_processes, "run", start_here)


def record_of(log_ratios: np.ndarray, *, equal: bool = True) -> Record:
    """A record with these log-ratios: [pairs, kernels]; base always takes 1 s."""
    kernels = [f"k{at}" for at in range(log_ratios.shape[1])]
    processes = []
    for pair, row in enumerate(log_ratios):
        for side in ("base", "new") if pair % 2 == 0 else ("new", "base"):
            times = {
                k: math.exp(x) if side == "new" else 1.0 for k, x in zip(kernels, row, strict=True)
            }
            processes.append(Process(side, "screening", pair, float(pair), 1.0, times))
    return Record(kernels, equal, dict(CONTEXT), {}, processes)


def normal_pairs(pairs: int = 40, kernels: int = 3, deviation: float = 0.02) -> np.ndarray:
    return np.random.default_rng(7).normal(0, deviation, (pairs, kernels))


# ---- records


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = record_of(normal_pairs())
    write_record(tmp_path / "r.json", record, rows=[])
    assert read_record(tmp_path / "r.json") == record
    np.testing.assert_allclose(record.log_ratios(), normal_pairs(), atol=1e-15)


def test_scaling_all_times_changes_no_ratio():
    record = record_of(normal_pairs())
    scaled = Record(
        record.kernels, True, {}, {},
        [Process(p.side, p.stage, p.pair, 0.0, 1.0, {k: 3e-7 * t for k, t in p.times_s.items()})
         for p in record.processes],
    )  # fmt: skip
    np.testing.assert_allclose(scaled.log_ratios(), record.log_ratios(), atol=1e-12)


def test_a_time_that_is_absent_is_nan_and_its_kernel_is_not_complete():
    record = record_of(normal_pairs())
    del record.processes[5].times_s["k1"]
    assert np.isnan(record.log_ratios()).sum() == 1
    assert record.complete().kernels == ["k0", "k2"]


def test_half_a_pair_is_no_pair():
    record = record_of(normal_pairs())
    record.processes.pop()
    assert record.log_ratios().shape == (39, 3)


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", '{"kind": "pairs", "schema": 2}', '{"kind": "pairs", "schema": 1}',
        '{"kind": "pairs", "schema": 1, "kernels": [], "equal": true, "context": {},'
        ' "commands": {}, "processes": [{"side": "left"}]}',
        '{"kind": "pairs", "schema": 1, "kernels": ["k"], "equal": true, "context": {},'
        ' "commands": {}, "processes": [{"side": "base", "stage": "screening", "pair": 0,'
        ' "start_s": 0, "wall_s": 1, "times_s": {"k": -1}}]}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(BadInput) as refusal:
        read_record(path)
    assert str(refusal.value).startswith(f"{path}: expected")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"times_s": [1.0]}, {"times_s": {"k0": 10**400}}, {"times_s": {"k0": 0}}, {"wall_s": 0},
        {"wall_s": -1}, {"wall_s": 10**400}, {"wall_s": None}, {"start_s": "x"}, {"pair": 0.5},
        {"times_s": {"k0": True}}, {"stage": "screening", "side": None},
    ],
)  # fmt: skip
def test_a_record_with_what_is_no_time_is_refused_in_one_line(tmp_path, capsys, changed):
    path = write_record(tmp_path / "r.json", record_of(normal_pairs()))
    document = json.loads(path.read_text())
    document["processes"][3] |= changed
    path.write_text(json.dumps(document))
    assert track.run_main(["calibrate", f"--pairs={path}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"track: {path}: expected recorded pairs of schema 1")
    assert said.count("\n") == 1


# ---- resampling


def test_resampled_runs_are_blocks_of_rounds_with_a_common_sign():
    pairs = np.arange(1, 41, dtype=float)[:, None] * [1, 100]  # pair number in two kernels
    source = gate_noise.Resampled(pairs, 200, np.random.default_rng(0))
    drawn = source.measure(np.ones((200, 2), bool), 12, "screening")
    assert drawn.shape == (200, 2, 12)
    assert (drawn[:, 1] == 100 * drawn[:, 0]).all()
    rounds = drawn[:, 0].reshape(200, 6, 2)
    assert (np.abs(rounds[..., 1]) == np.abs(rounds[..., 0]) + 1).all()
    assert (np.abs(rounds[..., 0]) % 2 == 1).all()
    follows = np.abs(rounds[:, 1:, 0]) == np.abs(rounds[:, :-1, 0]) % 40 + 2
    assert 0.5 < follows.mean() < 0.8  # blocks of 3 rounds on the average: 2/3 go on
    assert 0.4 < (drawn[:, 0, 0] > 0).mean() < 0.6


def test_a_second_stage_goes_on_where_the_first_ended():
    pairs = np.arange(1, 4001, dtype=float)[:, None]
    source = gate_noise.Resampled(pairs, 100, np.random.default_rng(0))
    everything = np.ones((100, 1), bool)
    first = source.measure(everything, 12, "screening")[:, 0, -1]
    second = source.measure(everything, 2, "confirming")[:, 0, 0]
    assert (np.abs(second) == np.abs(first) + 1).mean() > 0.7  # blocks are 13 rounds long


def test_the_clock_charges_for_what_is_measured():
    source = gate_noise.Resampled(
        normal_pairs(kernels=4), 2, np.random.default_rng(0),
        process_s=5.0, startup_s=1.0, budget_s=100.0,
    )  # fmt: skip
    wanted = np.array([[True] * 4, [True, False, False, False]])
    source.measure(wanted, 5, "screening")
    assert list(source.elapsed_s) == [50, 20]
    assert list(source.fits(wanted, 5, "screening")) == [False, True]  # of 92 s
    assert list(source.fits(wanted, 5, "confirming")) == [True, True]  # of 100 s


def test_noise_is_what_equal_binaries_show_in_99_of_100_runs():
    noise = gate_noise.noise_of(normal_pairs(20000, 2, 0.02))
    for n in (12, 48):  # 15 % is 3.5 standard errors of this quantile of 1000 resamples
        expected = 2.5758 * 0.02 / math.sqrt(n)
        np.testing.assert_allclose(np.log1p(noise(n)), expected, rtol=0.15)


def test_autocorrelated_pairs_are_noisier_than_independent_ones():
    independent = normal_pairs(2000, 1)
    correlated = independent.copy()
    for at in range(1, 2000):
        correlated[at] += 0.9 * correlated[at - 1]
    correlated *= independent.std() / correlated.std()
    noise = [gate_noise.noise_of(pairs)(12)[0] for pairs in (independent, correlated)]
    assert noise[1] > 1.5 * noise[0]


def test_rates_have_the_interval_of_clopper_and_pearson():
    assert gate_noise.rate(0, 2000) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 2000)))
    assert gate_noise.rate(5, 10)[1:] == pytest.approx((0.1871, 0.8129), abs=1e-4)


def test_false_alarms_are_rare_and_slowdowns_are_seen():
    pairs = normal_pairs(400, 40, 0.02)
    at = {"process_s": 5.0, "budget_s": 120.0, "startup_s": 0.1, "floor": 0.02}
    slower, faster = gate_noise.false_alarms(pairs, 400, calibrated=False, **at)
    assert slower + faster <= 4
    slowed = np.zeros((200, 40))
    slowed[:, 3] = math.log(1.05)
    source = gate_noise.Resampled(
        pairs, 200, np.random.default_rng(1), process_s=5.0, budget_s=120.0, startup_s=0.1,
        slowed=slowed,
    )  # fmt: skip
    decision = gate.decide(source, 11)
    assert (decision.verdict[:, 3] == gate.SLOWER).mean() >= 0.95
    assert source.elapsed_s.max() <= 120


def test_a_budget_without_room_for_a_look_has_no_rate():
    assert gate_noise.false_alarms(
        normal_pairs(), 10, process_s=50.0, budget_s=120.0, startup_s=0.1, floor=0.02,
        calibrated=True,
    ) is None  # fmt: skip


# ---- calibrations


def test_a_machine_is_told_by_triphases_fingerprint_or_by_its_processors():
    assert machine_of({"triphase": {"environment": {"fingerprint": "abc"}}}) == "abc"
    ours = machine_of(CONTEXT | {"host_name": "a", "date": "today"})
    assert ours == machine_of(CONTEXT | {"host_name": "b"})
    assert ours != machine_of(CONTEXT | {"num_cpus": 3})


def test_the_cache_is_that_of_the_ceilings(monkeypatch):
    monkeypatch.delenv("TRIPHASE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/triphase")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "triphase"


def test_noise_is_found_by_kernel_and_unknown_kernels_have_none():
    record = record_of(normal_pairs())
    write_record(calibration_path(CONTEXT, record.kernels), record)
    found = find_noise(CONTEXT, ["k2", "new", "k0"], None)
    assert found.known == 2
    noise = gate_noise.noise_of(record.log_ratios())(12)
    assert list(found.noise(12)) == [noise[2], 0, noise[0]]
    assert find_noise(CONTEXT | {"num_cpus": 3}, ["k0"], None).source is None


def test_the_file_that_knows_most_kernels_is_taken():
    few, many = record_of(normal_pairs(kernels=2)), record_of(normal_pairs(kernels=3))
    for record in (many, few):
        write_record(calibration_path(CONTEXT, record.kernels), record)
    assert find_noise(CONTEXT, many.kernels, None).known == 3


def test_a_record_of_two_binaries_or_of_few_pairs_calibrates_nothing(tmp_path):
    for record, says in (
        (record_of(normal_pairs(), equal=False), "found an ab run"),
        (record_of(normal_pairs(19)), "expected 20 pairs of equal binaries or more, found 19"),
    ):
        write_record(tmp_path / "r.json", record)
        with pytest.raises(BadInput, match=says):
            find_noise(CONTEXT, ["k0"], tmp_path / "r.json")


def test_noise_between_processes_is_the_root_mean_square_of_pairs(tmp_path):
    record = record_of(normal_pairs())
    write_record(tmp_path / "r.json", record)
    found = noise_between_processes(tmp_path / "r.json", ["k1", "other"], CONTEXT)
    assert found[0] == pytest.approx(np.sqrt(np.mean(normal_pairs()[:, 1] ** 2)))
    assert np.isnan(found[1])


def test_stored_files_that_cannot_be_used_are_left_out_with_a_warning(tmp_path, capsys):
    good = record_of(normal_pairs(kernels=2))
    place = calibration_path(CONTEXT, good.kernels)
    write_record(place, good)
    broken = place.with_name(f"{place.stem.rpartition('-')[0]}-broken.json")
    broken.write_text(place.read_text()[:-50])
    assert find_noise(CONTEXT, good.kernels, None).known == 2
    assert capsys.readouterr().err.startswith(f"track: left out: {broken}: expected recorded pairs")
    with pytest.raises(BadInput, match="expected recorded pairs as JSON"):
        find_noise(CONTEXT, good.kernels, broken)


def calibrated(tmp_path: Path, *words: str) -> int:
    program = install(tmp_path, "program", noise=0.01)
    return track.main(["calibrate", f"--binary={program}", "--trials=100", *words])


def limit_pairs(monkeypatch, pairs: int) -> None:
    """The budget as a number of pairs: fake programs take no time worth speaking of."""
    plain = gate_processes.Pairs.pilot

    def pilot(self):
        plain(self)
        self.pair_s = self.budget_s / pairs * 1.0001

    monkeypatch.setattr(gate_processes.Pairs, "pilot", pilot)
    monkeypatch.setattr(gate_processes.Pairs, "pilot_again", lambda _: None)


def test_calibrate_stores_what_ab_finds(tmp_path, capsys, monkeypatch):
    limit_pairs(monkeypatch, 25)
    assert calibrated(tmp_path, "--format=json", "--ab-budget=1h", "--budget=1h") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["pairs"] == 24
    assert document["false_alarms"]["calibrated"]["slower"]["rate"] <= 0.02
    assert Path(document["file"]).parent == tmp_path / "cache"
    limit_pairs(monkeypatch, 50)
    install(tmp_path, "other", noise=0.01)
    words = [f"--base={tmp_path / 'program'}", f"--new={tmp_path / 'other'}", "--budget=1h"]
    track.main(["ab", *words])
    assert "Noise: known of 5 of 5 kernels" in capsys.readouterr().out


def test_recorded_pairs_are_judged_without_a_binary(tmp_path, capsys):
    write_record(tmp_path / "r.json", record_of(normal_pairs()))
    words = ["calibrate", f"--pairs={tmp_path / 'r.json'}", "--trials=100"]
    assert track.main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("40 pairs of equal binaries, 3 kernels, 1 s a process.")
    assert "False alarms of ab, calibrated: 0.00 % of runs (95 %: 0.00 % … 3.62 %)" in out
    with pytest.raises(BadInput, match="expected no flags"):
        track.main([*words, "--", "--threads=1"])


def test_a_budget_below_twenty_pairs_is_refused(tmp_path, monkeypatch):
    limit_pairs(monkeypatch, 19)
    with pytest.raises(BadInput, match=r"--budget: expected \d+s or more for 20 pairs"):
        calibrated(tmp_path, "--budget=1h")


def test_a_budget_that_ends_before_twenty_pairs_is_named(tmp_path, monkeypatch, capsys):
    clock_of(monkeypatch, lambda n: 1.0 if n < 2 else 9.0)
    program = install(tmp_path, "program")
    assert track.run_main(["calibrate", f"--binary={program}", "--budget=60s"]) == 2
    assert "--budget: expected room for 20 pairs of equal binaries, found 6 measured" in (
        capsys.readouterr().err
    )
    assert not cache_folder().exists()


def interrupt_at(monkeypatch, process: int) -> None:
    started = []

    def interrupted(command, **more):
        started.append(command)
        if len(started) == process:
            raise Stopped(130)
        return start_here(command, **more)

    monkeypatch.setattr(gate_processes, "run", interrupted)


def test_an_interrupted_calibration_keeps_pairs_that_suffice(tmp_path, monkeypatch, capsys):
    limit_pairs(monkeypatch, 60)
    interrupt_at(monkeypatch, 45)
    assert calibrated(tmp_path, "--budget=1h") == 130
    path = calibration_path(CONTEXT, list(KERNELS))
    assert len(read_record(path).log_ratios()) == 22
    assert f"interrupted; the pairs so far are in {path}" in capsys.readouterr().err
    interrupt_at(monkeypatch, 30)
    assert calibrated(tmp_path, "--budget=1h") == 130
    assert "too few pairs were measured to be kept" in capsys.readouterr().err


def test_an_interrupted_calibration_does_not_replace_a_longer_one(tmp_path, monkeypatch, capsys):
    limit_pairs(monkeypatch, 60)
    assert calibrated(tmp_path, "--budget=1h") == 0
    path = calibration_path(CONTEXT, list(KERNELS))
    before = path.read_bytes()
    interrupt_at(monkeypatch, 100)
    assert calibrated(tmp_path, "--budget=1h") == 130
    assert f"{path} keeps its 58 pairs, as fewer were measured" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("kernels", [1, 2])
def test_a_kernel_that_once_had_no_time_is_not_stored(tmp_path, monkeypatch, capsys, kernels):
    limit_pairs(monkeypatch, 25)
    names = list(KERNELS)[:kernels]
    traits = {"kernels": dict.fromkeys(names, 1.0)}
    program = install(tmp_path, "program", **traits)
    started = []

    def fails_once(command, **more):
        started.append(command)
        broken = {"broken": {names[0]: "out of luck"}} if len(started) == 9 else {}
        (tmp_path / "program.json").write_text(json.dumps(traits | broken))
        return start_here(command, **more)

    monkeypatch.setattr(gate_processes, "run", fails_once)
    code = track.run_main(["calibrate", f"--binary={program}", "--trials=100", "--budget=1h"])
    said = capsys.readouterr().err
    if kernels == 1:
        assert (code, cache_folder().exists()) == (2, False)
        assert "expected a kernel with a time in each of 48 processes, found none" in said
    else:
        assert code == 0
        assert read_record(calibration_path(CONTEXT, names)).kernels == names[1:]
        assert f"left out: {names[0]} had no time in some process" in said


def test_without_a_binary_calibrate_says_what_builds_it(monkeypatch, tmp_path):
    monkeypatch.setattr(calibrate, "BINARY", tmp_path / "none")
    with pytest.raises(BadInput, match="scripts/reproduce builds it"):
        track.main(["calibrate"])
