# SPDX-License-Identifier: Apache-2.0
"""scripts/track power: the rules of other tools by hand, and a small seeded simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from triphase import gate, gate_noise, plot_power, power, power_rules, track
from triphase.track_errors import BadInput


def files(new_over_base: float, spread: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Nine times a side of one kernel in one trial: evenly spread, new in the same order."""
    base = 1 + spread * np.linspace(-1, 1, 9)[None, None]
    return base, new_over_base * base


@pytest.mark.parametrize(
    ("rule", "ratio", "spread", "slower"),
    [
        ("compare.py", 1.02, 0.01, True),  # overlap is small: p < 0.05
        ("compare.py", 1.002, 0.01, False),
        ("compare.py", 0.9, 0.01, False),  # significant, but faster
        ("threshold 5 %", 1.051, 0.5, True),
        ("threshold 5 %", 1.049, 0.0, False),
        ("threshold 10 %", 1.051, 0.0, False),
        ("threshold 10 %", 1.101, 0.0, True),
        ("NVBench", 1.01, 0.01, True),  # the noise is 0.68 %
        ("NVBench", 1.006, 0.01, False),
        ("NVBench", 0.9, 0.01, False),
    ],
)
def test_the_rules_of_other_tools(rule, ratio, spread, slower):
    assert power_rules.RULES[rule](*files(ratio, spread)).item() == slower


def test_nvbench_takes_the_smaller_noise():
    calm, wild = 1 + 0.001 * np.linspace(-1, 1, 9), 1.01 + 0.5 * np.linspace(-1, 1, 9)
    assert power_rules.nvbench(calm[None, None], wild[None, None]).item()


def test_pairs_of_processes_that_ran_base_new_new_base():
    log_times = np.array([[1.0], [3.0], [7.0], [2.0], [0.0], [0.5], [0.25], [1.0], [9.0]])
    assert list(power.pairs_of(log_times)[:, 0]) == [2, 5, 0.5, -0.75]


def test_scaled_noise_has_the_deviation_asked_for_and_keeps_its_shape():
    log_times = power.synthetic(3)
    scaled = power.scaled(log_times, 0.02)
    np.testing.assert_allclose(power.pairs_of(scaled).std(axis=0, ddof=1), 0.02)
    ratio = scaled / (log_times - log_times.mean(axis=0))
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape))


def test_a_slowdown_is_of_one_kernel_a_trial():
    shifts, slowed = power.slowdowns(50, 4, 0.05)
    assert ((shifts != 0).sum(axis=1) == 1).all()
    assert shifts[np.arange(50), slowed] == pytest.approx(math.log(1.05))


def test_the_gates_own_code_decides(monkeypatch):
    asked = []
    monkeypatch.setattr(gate, "decide", lambda *given: asked.append(given) or gate.Decision.empty(
        given[0].shape))  # fmt: skip
    setting = power.Setting(power.synthetic(3), 5.0, 0.02, 20)
    rows = list(power._gates(setting, power.pairs_of(setting.log_times), 0.02, 120.0))
    assert len(asked) == len(rows) == len(power.EFFECTS) * len(power.GATES)
    assert all(isinstance(source, gate_noise.Resampled) for source, *_ in asked)


def test_the_simulation_writes_its_rates_a_table_and_a_plot(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(power, "DEVIATIONS", (0.01,))
    monkeypatch.setattr(power, "EFFECTS", (0.0, 0.05))
    monkeypatch.setattr(power, "BUDGETS_S", (120.0,))
    words = ["power", "--trials=80", "--kernels=8", f"--out={tmp_path / 'p'}"]
    assert track.main(words) == 0
    document = json.loads((tmp_path / "p" / "power.json").read_text())
    rate = {(row["rule"], row["effect"]): row["rate"] for row in document["rates"]}
    assert rate["ab", 0.0] == 0
    assert rate["ab", 0.05] == 1
    assert rate["compare.py", 0.0] > 0.1
    assert rate["compare.py", 0.05] == 1
    assert rate["threshold 10 %", 0.05] == 0
    text = (tmp_path / "p" / "power.md").read_text()
    assert "| ab, 2 min |" in text
    assert text in capsys.readouterr().out
    for form in ("png", "svg", "html"):
        assert (tmp_path / "p" / f"power.{form}").stat().st_size > 1000
    layers = plot_power.build(document).to_dict()
    assert layers["facet"].keys() == {"column", "row"}


def test_processes_that_no_budget_has_room_for_are_refused_and_nothing_is_written(tmp_path):
    words = ["power", "--trials=20", "--kernels=40", f"--out={tmp_path / 'p'}"]
    with pytest.raises(BadInput, match=r"--process-s: expected at most 13\.8, .*10 pairs of 40"):
        track.main([*words, "--process-s=15"])
    assert not (tmp_path / "p").exists()
    power.refuse_long(13.8, 40)
    assert gate.first_look(40, 2 * 13.8, max(power.BUDGETS_S)) == 10
    assert gate.first_look(40, 2 * 13.81, max(power.BUDGETS_S)) == 0


def test_kernels_whose_times_never_differ_are_left_out(capsys):
    log_times = power.synthetic(3)
    log_times[:, 1] = math.log(3e-6)
    assert (power.noisy(log_times) == log_times[:, [0, 2]]).all()
    assert "left out: 1 of 3 kernels, whose times never differ" in capsys.readouterr().err
    with pytest.raises(BadInput, match="expected a kernel whose times differ, found none"):
        power.noisy(log_times[:, [1, 1]])


def test_a_process_must_take_time():
    with pytest.raises(BadInput, match="--process-s: expected more than"):
        track.main(["power", "--process-s=0"])
