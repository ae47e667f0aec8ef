# SPDX-License-Identifier: Apache-2.0
"""How often ab is right in real runs: counted exactly, on programs whose times are made up."""

from __future__ import annotations

import json
import re

import pytest

from fake_benchmark import KERNELS, install, start_here
from triphase import gate_processes, track, trials
from triphase.track_errors import BadInput

FIRST, SECOND = list(KERNELS)[:2]


def runs(*slower: tuple[str, ...]) -> list[dict]:
    return [
        {"verdicts": {k: "slower" if k in names else "same" for k in KERNELS}} for names in slower
    ]


def test_without_a_planted_slowdown_any_slower_kernel_is_a_false_alarm():
    found = trials.count(runs((), (FIRST,), (FIRST, SECOND), ()), None)
    assert (found["false_alarm"]["hits"], found["false_alarm"]["runs"]) == (2, 4)
    assert "found" not in found


def test_what_was_planted_is_found_and_what_was_not_is_a_false_alarm():
    found = trials.count(runs((), (FIRST,), (FIRST, SECOND)), re.compile(re.escape(FIRST)))
    assert found["planted"] == [FIRST]
    assert found["found"]["hits"] == 2
    assert found["false_alarm"]["hits"] == 1


def test_no_alarm_in_fifty_runs_bounds_the_rate_by_seven_percent():
    found = trials.count(runs(*[()] * 50), None)["false_alarm"]
    assert (found["rate"], found["low"]) == (0, 0)
    assert found["high"] == pytest.approx(1 - 0.025 ** (1 / 50))  # Clopper and Pearson


@pytest.fixture
def start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gate_processes, "run", start_here)

    def start(*more: str, **new) -> tuple[int, str, dict | None]:
        base, changed = install(tmp_path, "base"), install(tmp_path, "new", **new)
        out = tmp_path / "trials.json"
        words = [f"--base={base}", f"--new={changed}", "--runs=2", "--budget=1h", f"--out={out}"]
        code = track.run_main(["trials", *words, *more])
        said = capsys.readouterr()
        return code, said.out + said.err, json.loads(out.read_text()) if out.exists() else None

    return start


def test_equal_programs_raise_no_alarm(start):
    code, said, kept = start()
    assert code == 0
    assert f"a false alarm among {len(KERNELS)} kernels: 0 of 2 runs (95 %: 0.0 % … 84.2 %)" in said
    assert [set(run["verdicts"].values()) for run in kept["runs"]] == [{"same"}] * 2


def test_a_kernel_that_is_ten_percent_slower_is_found(start):
    code, said, kept = start(f"--slower=^{re.escape(FIRST)}$", slower={FIRST: 1.1})
    assert code == 0
    assert "slower: 2 of 2 runs" in said
    assert kept["found"]["hits"] == 2
    assert kept["false_alarm"]["hits"] == 0


def test_a_run_that_is_refused_keeps_the_count_of_those_before(start, monkeypatch):
    judge, calls = trials.ab.judge, []

    def once(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise BadInput("the budget is too short")
        return judge(*arguments)

    monkeypatch.setattr(trials.ab, "judge", once)
    code, said, kept = start()
    assert code == 2
    assert "run 2 was refused: the budget is too short" in said
    assert "0 of 1 runs" in said
    assert len(kept["runs"]) == 1


@pytest.mark.parametrize("words", [["--slower=("], ["--slower=nothing of the kind"], ["--runs=0"]])
def test_bad_usage_is_one_line(start, words):
    code, said, _ = start(*words)
    assert code == 2
    assert said.splitlines()[-1].startswith("track: ")


def test_a_pattern_of_no_kernel_is_refused_after_the_first_run(start, monkeypatch):
    judged = []
    judge = trials.ab.judge
    monkeypatch.setattr(trials.ab, "judge", lambda *given: judged.append(1) or judge(*given))
    code, said, kept = start("--slower=^nosuch", "--runs=5")
    assert (code, len(judged), kept) == (2, 1, None)
    assert "--slower: expected a pattern of a kernel, '^nosuch' fits none" in said


def test_a_program_that_fails_ends_the_trials(start):
    code, said, kept = start(fails=3)
    assert code == 2
    assert "exit code 3" in said
    assert kept is None
