# SPDX-License-Identifier: Apache-2.0
"""scripts/track compare: two files, whose samples are not paired."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from triphase import compare, gate, track
from triphase.gate_pairs import Process, Record, write_record
from triphase.track_errors import BadInput

DATA = Path(__file__).resolve().parents[1] / "data" / "track"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPHASE_CACHE", str(tmp_path / "cache"))


def write(path: Path, **samples: Any) -> Path:
    """A file with repetitions of each kernel, in ns; or with the row that is given."""
    rows = []
    for name, times in samples.items():
        row = {"name": name, "run_type": "iteration", "time_unit": "ns"}
        given_row = isinstance(times, dict)
        rows += [row | times] if given_row else [row | {"real_time": time} for time in times]
    path.write_text(json.dumps({"context": {"num_cpus": 2, "caches": []}, "benchmarks": rows}))
    return path


def draws(middle: float, seed: int = 0, count: int = 20) -> list[float]:
    return list(middle * np.exp(np.random.default_rng(seed).normal(0, 0.01, count)))


def run(tmp_path: Path, capsys, base: dict, new: dict, *words: str) -> tuple[int, dict]:
    paths = [str(write(tmp_path / f"{name}.json", **rows))
             for name, rows in (("base", base), ("new", new))]  # fmt: skip
    code = track.main(["compare", *paths, "--format=json", *words])
    return code, json.loads(capsys.readouterr().out)


def verdicts(document: dict) -> dict[str, str]:
    return {row["kernel"]: row["verdict"] for row in document["rows"]}


# ---- statistics


def test_rank_sums_of_two_and_two():
    assert compare.rank_sum_chances(2, 2) * 6 == pytest.approx([1, 1, 2, 1, 1])


@pytest.mark.parametrize(("m", "n"), [(3, 3), (4, 4), (5, 9), (9, 9), (20, 20)])
def test_the_chances_of_rank_sums_are_those_of_scipy(m, n):
    tail = np.cumsum(compare.rank_sum_chances(m, n))
    base, new = np.arange(n) + 0.5, np.arange(m) - 100.0
    for above in range(min(m, n)):  # move values up, one by one: U counts what they pass
        values = new.copy()
        values[: above + 1] = np.arange(above + 1) + 0.75
        result = mannwhitneyu(values, base, alternative="less", method="exact")
        assert tail[int(result.statistic)] == pytest.approx(result.pvalue)


def test_the_shift_is_the_median_of_differences_and_four_each_are_bounded_by_the_extremes():
    base, new = np.array([0.0, 1, 2, 4]), np.array([1.0, 3, 8, 16])
    estimate, low, high = compare.two_sample_shift(base, new)
    differences = sorted(b - a for a in base for b in new)
    assert estimate == (differences[7] + differences[8]) / 2
    assert (low, high) == (differences[0], differences[-1])


def test_three_samples_a_side_have_no_interval():
    _, low, high = compare.two_sample_shift(np.arange(3.0), np.arange(3.0))
    assert (low, high) == (-math.inf, math.inf)


def test_the_approximation_for_many_samples_meets_the_exact_cut():
    exact = np.searchsorted(np.cumsum(compare.rank_sum_chances(25, 25)), 0.025, side="right")
    assert abs(compare.cut(25, 25) - exact) <= 1


SAMPLES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=9)


@given(SAMPLES, SAMPLES)
def test_swapping_files_mirrors_the_shift(base, new):
    there = compare.two_sample_shift(np.array(base), np.array(new))
    back = compare.two_sample_shift(np.array(new), np.array(base))
    assert there == (-back[0], -back[2], -back[1])


# ---- verdicts


@pytest.fixture
def calibrated(tmp_path):
    """--noise=FILE, by which one pair of equal binaries differs by 2 % (standard deviation)."""

    def write_noise(*kernels: str) -> str:
        pairs = [
            Process(side, "screening", pair, 0.0, 1.0, dict.fromkeys(kernels, seconds))
            for pair in range(20)
            for side, seconds in (("base", 1.0), ("new", math.exp(0.02 * (-1) ** pair)))
        ]
        write_record(tmp_path / "noise.json", Record(list(kernels), True, {}, {}, pairs))
        return f"--noise={tmp_path / 'noise.json'}"

    return write_noise


def test_verdicts_and_exit_codes(tmp_path, capsys, calibrated):
    base = {"slow": draws(100), "fast": draws(100), "equal": draws(100)}
    new = {"slow": draws(115, 1), "fast": draws(85, 1), "equal": draws(100, 1)}
    noise = calibrated(*base)
    code, document = run(tmp_path, capsys, base, new, noise)
    assert code == 1
    assert verdicts(document) == {"slow": "slower", "fast": "faster", "equal": "inconclusive"}
    assert "Unpaired files bear less than ab" in document["measured"]
    assert "known of 3 of 3 kernels." in document["measured"]
    code, document = run(tmp_path, capsys, new, base, noise)
    assert verdicts(document) == {"slow": "faster", "fast": "slower", "equal": "inconclusive"}
    assert run(tmp_path, capsys, base, base, noise, "--floor=6%")[0] == 0


def test_a_change_within_the_floor_is_no_slowdown(tmp_path, capsys, calibrated):
    base, new = {"k": draws(100)}, {"k": draws(109, 1)}
    assert run(tmp_path, capsys, base, new, calibrated("k"))[0] == 1
    assert run(tmp_path, capsys, base, new, calibrated("k"), "--floor=15%")[0] == 0


def test_many_kernels_need_more_evidence_than_one(tmp_path, capsys, calibrated):
    base, new = {"k": [100]}, {"k": [107]}  # 3.4 standard deviations: p = 0.0096
    assert verdicts(run(tmp_path, capsys, base, new, calibrated("k"))[1])["k"] == "slower"
    others = {f"other{at}": [100] for at in range(9)}
    noise = calibrated("k", *others)
    _, document = run(tmp_path, capsys, base | others, new | others, noise)
    assert verdicts(document)["k"] == "inconclusive"


def test_a_few_kernels_without_calibration_are_inconclusive(tmp_path, capsys):
    few = {f"k{at}": [100] for at in range(compare.FEWEST_KERNELS - 1)}
    code, document = run(tmp_path, capsys, few, few | {"k0": draws(200)})
    assert code == 3
    assert set(verdicts(document).values()) == {"inconclusive"}
    assert document["rows"][0]["low"] is document["rows"][0]["smallest_visible"] is None
    assert document["rows"][0]["change"] == pytest.approx(1.0, abs=0.01)
    assert "calibrate measures it, or use ab" in document["measured"]


def test_the_spread_over_enough_kernels_stands_in_for_a_calibration(tmp_path, capsys):
    base = {f"k{at}": [100] for at in range(9)}
    new = {f"k{at}": [100 * math.exp(0.02 * (-1) ** at)] for at in range(9)}
    code, document = run(tmp_path, capsys, base, new | {"k0": [130]})
    assert code == 1
    assert verdicts(document) == dict.fromkeys(base, "inconclusive") | {"k0": "slower"}
    assert "of the others taken from the spread over all kernels" in document["measured"]
    row = document["rows"][1]  # of Student's t with 8 degrees of freedom: 2.306 deviations
    reach = 2.306 * 1.4826 * 0.02
    assert row["high"] == pytest.approx(math.expm1(-0.02 + reach), rel=1e-3)


def test_a_drift_of_all_kernels_is_noise(tmp_path, capsys):
    base = {f"k{at}": [100] for at in range(40)}
    new = {name: [110] for name in base}
    assert run(tmp_path, capsys, base, new)[0] == 3


def test_calibrated_noise_and_scattered_samples_both_widen_the_interval():
    base, new = np.array([0.0, 1, 2, 4]), np.array([1.0, 3, 8, 16])
    _, low, high = compare.two_sample_shift(base, new)
    within = (high - low) / 2 / 1.959964
    decision = compare.decide([base], [new], np.array([3.0]), 0.02)
    half = (decision.high[0, 0] - decision.low[0, 0]) / 2
    assert half == pytest.approx(2.306004 * math.hypot(3.0, within))


def simulated(kernels: int, recorded: int, samples: int, slowed: float = 0.0):
    """(runs with a slower kernel, runs where the slowed one is): processes differ by 2 %.

    recorded: pairs of the calibration, 0 for none. samples: of each kernel and file, which scatter
    by 1 % within a process; a single one does not scatter.
    """
    rng = np.random.default_rng([kernels, recorded, samples])
    runs = 600 if samples == 1 else 100
    alarms = found = 0
    for _ in range(runs):
        pairs = rng.normal(0, 0.02, (2, recorded, kernels))
        between = np.sqrt(np.mean((pairs[0] - pairs[1]) ** 2, axis=0)) if recorded else math.nan
        levels = rng.normal(0, 0.02, (2, kernels))
        levels[1, 0] += math.log1p(slowed)
        scatter = rng.normal(0, 0.01 * (samples > 1), (2, kernels, samples))
        base, new = (list(side) for side in levels[:, :, None] + scatter)
        decision = compare.decide(base, new, np.broadcast_to(between, kernels), gate.FLOOR)
        slower = decision.verdict[0] == gate.SLOWER
        alarms, found = alarms + slower.any(), found + slower[0]
    return alarms / runs, found / runs


@pytest.mark.parametrize(
    ("kernels", "recorded", "samples"),
    [(8, 0, 1), (40, 0, 1), (158, 0, 1), (1, 20, 1), (8, 20, 1), (40, 34, 1), (158, 34, 1),
     (40, 0, 30), (40, 34, 30)],
)  # fmt: skip
def test_few_unchanged_files_alarm_and_a_clear_slowdown_is_found(kernels, recorded, samples):
    assert simulated(kernels, recorded, samples)[0] <= 0.05
    assert simulated(kernels, recorded, samples, slowed=0.3)[1] >= 0.95


@pytest.mark.parametrize("busy", ["base", "new"])
def test_nothing_is_concluded_of_a_kernel_that_others_disturbed(tmp_path, capsys, calibrated, busy):
    def row(middle: float, **more: Any) -> dict:
        samples = draws(middle)
        return {"real_time": middle * 1e9, "median_s": middle, "samples_s": samples} | more

    times = {"base": 1e-3, "new": 9e-3}
    files = {
        side: {"a": row(s, **({"disturbed": True} if side == busy else {})), "b": row(1e-3)}
        for side, s in times.items()
    }
    code, document = run(tmp_path, capsys, files["base"], files["new"], calibrated("a", "b"))
    assert verdicts(document)["a"] == "inconclusive"
    assert code == 3
    (note,) = [row["note"] for row in document["rows"] if row["kernel"] == "a"]
    assert "took a processor away" in note


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, None),
        ({"threads": 1}, "BASE computed on 2 threads, NEW on 1."),
        ({"environment": {"fingerprint": "b"}}, "of different machines"),
        ({"threads": None, "environment": "unknown"}, None),
    ],
)
def test_what_else_differs_is_told(tmp_path, capsys, changed, told):
    paths = []
    ours = {"schema": 1, "threads": 2, "environment": {"fingerprint": "a"}}
    for name, context in (("base", ours), ("new", ours | changed)):
        path = write(tmp_path / f"{name}.json", a=draws(1e6))
        document = json.loads(path.read_text())
        path.write_text(json.dumps(document | {"context": {"triphase": context}}))
        paths.append(str(path))
    track.main(["compare", *paths, "--format=json"])
    measured = json.loads(capsys.readouterr().out)["measured"]
    if told:
        assert told in measured
    else:
        assert "BASE" not in measured


def test_rows_that_differ_are_listed(tmp_path, capsys):
    same = {"name": "k", "real_time": 1.0, "time_unit": "us"}
    base = {"k": {"real_time": 1000.0}, "gone": [1], "broken": [1]}
    new = {"k": same, "added": [1], "broken": {"error_occurred": True, "error_message": "oops"}}
    code, document = run(tmp_path, capsys, base, new)
    listed = {row["kernel"]: row["what"] for row in document["not_compared"]}
    assert listed == {
        "k": "unit changed", "gone": "removed", "added": "added", "broken": "failed with new",
    }  # fmt: skip
    assert code == 1


def test_files_of_other_programs_are_compared(capsys):
    path = str(DATA / "benchdnn.csv")
    assert track.main(["compare", path, path]) == 3
    assert "inconclusive" in capsys.readouterr().out


def test_files_without_a_common_kernel_are_refused(tmp_path):
    base, new = write(tmp_path / "a.json", a=[1]), write(tmp_path / "b.json", b=[1])
    with pytest.raises(BadInput, match="expected a kernel of"):
        track.main(["compare", str(base), str(new)])


def test_many_samples_are_thinned_evenly(tmp_path, capsys):
    base = {"k": {"median_s": 1.0, "samples_s": list(np.linspace(1, 2, 5001))}}
    _, document = run(tmp_path, capsys, base, base)
    assert document["rows"][0]["pairs"] == compare.MOST_SAMPLES
