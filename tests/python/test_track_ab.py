# SPDX-License-Identifier: Apache-2.0
"""scripts/track ab: what it runs, what it says, and how it ends. It runs fake_benchmark."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_benchmark import KERNELS, clock_of, install, start_here
from triphase import gate, gate_processes, gate_report, track
from triphase.gate_filter import filter_of, registered
from triphase.gate_pairs import read_record
from triphase.stopping import Stopped
from triphase.track_arguments import duration
from triphase.track_errors import BadInput
from triphase.track_rows import KernelRow, Run

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(KERNELS)
SLOWED = NAMES[1]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPHASE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def ab(tmp_path, monkeypatch, capsys):
    """Runs ab on programs with these traits: (exit code, stdout, stderr, what --out has)."""
    monkeypatch.setattr(gate_processes, "run", start_here)

    def run(base=None, new=None, *more: str, budget: str = "1h"):
        programs = {
            "base": install(tmp_path, "base", **(base or {})),
            "new": install(tmp_path, "new", **(new or {})),
        }
        out = tmp_path / "pairs.json"
        words = [f"--{side}={path}" for side, path in programs.items()]
        try:
            code = track.main(["ab", *words, f"--budget={budget}", f"--out={out}", *more])
        except BadInput as refusal:
            code = 2
            print(refusal, file=sys.stderr)
        said = capsys.readouterr()
        document = json.loads(out.read_text()) if out.exists() else {}
        return code, said.out, said.err, document

    return run


def verdicts(document: dict) -> dict[str, str]:
    return {row["kernel"]: row["verdict"] for row in document["rows"]}


def calls(tmp_path: Path, name: str) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / f"{name}.calls").read_text().splitlines()]


# ---- verdicts and exit codes


def test_equal_binaries_are_the_same_and_exit_0(ab):
    code, out, _, document = ab()
    assert code == 0
    assert verdicts(document) == dict.fromkeys(NAMES, "same")
    assert "5 same." in out
    assert "The noise of this machine is not known" in out


def test_a_slower_kernel_is_named_and_exits_1(ab):
    code, out, _, document = ab(None, {"slower": {SLOWED: 1.1}})
    assert code == 1
    assert verdicts(document) == dict.fromkeys(NAMES, "same") | {SLOWED: "slower"}
    assert out.splitlines()[2].split()[0] == SLOWED
    row = next(row for row in document["rows"] if row["kernel"] == SLOWED)
    assert row["low"] < 0.1 < row["high"]
    assert 0.02 < row["smallest_visible"] < 0.03


def test_noise_that_cannot_be_read_is_refused_before_anything_is_measured(ab, tmp_path):
    code, _, err, document = ab(None, None, f"--noise={tmp_path}/none.json")
    assert (code, document) == (2, {})
    assert f"{tmp_path}/none.json: No such file" in err
    assert not (tmp_path / "base.calls").exists()


def test_a_faster_kernel_exits_0(ab):
    code, _, _, document = ab({"slower": {SLOWED: 1.1}})
    assert code == 0
    assert verdicts(document)[SLOWED] == "faster"


def test_what_cannot_be_compared_is_listed(ab):
    new = {
        "vanishes": [NAMES[0]], "broken": {NAMES[2]: "no such device"}, "unit": "us",
        "kernels": KERNELS | {"added": 1.0},
    }  # fmt: skip
    code, out, _, document = ab(None, new)
    assert code == 1
    listed = {row["kernel"]: (row["what"], row["reason"]) for row in document["not_compared"]}
    assert listed[NAMES[0]] == ("removed", None)
    assert listed[NAMES[2]] == ("failed with new", "no such device")
    assert listed["added"] == ("added", None)
    assert listed[NAMES[1]] == ("unit changed", "from ns to us; compared in seconds")
    assert set(verdicts(document)) == {NAMES[1], NAMES[3], NAMES[4]}
    assert "3 same; 3 not compared." in out


def test_a_kernel_that_vanished_is_inconclusive(ab):
    assert ab(None, {"vanishes": [NAMES[0]]})[0] == 3


def test_a_kernel_that_fails_on_both_sides_is_no_news(ab):
    broken = {"broken": {NAMES[2]: "no such device"}}
    code, _, _, document = ab(broken, broken)
    assert code == 0
    assert document["not_compared"][0]["what"] == "failed with both"


def test_noise_that_hides_a_large_slowdown_is_inconclusive(ab, monkeypatch):
    monkeypatch.setattr(gate, "MOST_PAIRS", 12)
    code, _, _, document = ab({"noise": 0.2}, {"noise": 0.2})
    assert code == 3
    assert "inconclusive" in verdicts(document).values()


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"verdict": "inconclusive", "high": 0.049}, 0),
        ({"verdict": "inconclusive", "high": 0.05}, 3),
        ({"verdict": "inconclusive", "high": None}, 3),
        ({"verdict": "same", "high": 0.01}, 0),
        ({"verdict": "faster", "high": -0.1}, 0),
        ({"verdict": "slower", "high": 0.1}, 1),
        ({"verdict": "failed", "high": None, "failed_with": "new"}, 1),
        ({"verdict": "failed", "high": None, "failed_with": "base"}, 3),
        ({"verdict": "failed", "high": 0.01, "failed_with": "both"}, 3),
    ],
)
def test_exit_codes_of_verdicts(row, code):
    assert gate_report.exit_code([row], [], 0.02) == code


def test_a_row_that_was_skipped_with_new_alone_is_inconclusive():
    base = Run({}, [KernelRow("k", "s", 1.0)])
    new = Run({}, [KernelRow("k", "s", None, [], "skipped", "needs 9 GiB")])
    listed = gate_report.not_compared(base, new)
    assert listed == [{"kernel": "k", "what": "skipped with new", "reason": "needs 9 GiB"}]
    assert gate_report.exit_code([], listed, 0.02) == 3
    assert gate_report.exit_code([], gate_report.not_compared(new, base), 0.02) == 0


# ---- what runs


def test_sides_mirror_from_pair_to_pair(ab, tmp_path):
    ab()
    record = read_record(tmp_path / "pairs.json")
    assert [p.side for p in record.processes[:8]] == ["base", "new", "new", "base"] * 2
    assert [p.pair for p in record.processes[:8]] == [0, 0, 1, 1, 2, 2, 3, 3]
    starts = [p.start_s for p in record.processes]
    assert starts == sorted(starts)


def test_only_the_suspects_are_confirmed(ab, tmp_path):
    ab(None, {"slower": {SLOWED: 1.1}})
    of_new = calls(tmp_path, "new")
    assert len(of_new) == 24
    assert not any("benchmark_filter" in flag for call in of_new[:12] for flag in call)
    assert all(call[-1] == "--benchmark_filter=^(kernel/1)" for call in of_new[12:])
    confirming = [
        p for p in read_record(tmp_path / "pairs.json").processes if p.stage != "screening"
    ]
    assert all(list(p.times_s) == [SLOWED] for p in confirming)


def test_a_program_whose_filter_takes_other_names_runs_whole(ab, tmp_path):
    code, _, _, document = ab(None, {"slower": {SLOWED: 1.1}, "no_filter": True})
    assert code == 1
    assert verdicts(document)[SLOWED] == "slower"
    filtered = [call for call in calls(tmp_path, "new") if "benchmark_filter" in call[-1]]
    assert len(filtered) == 1


def test_flags_go_to_both_binaries(ab, tmp_path):
    ab(None, None, "--", "--threads=1", "--benchmark_min_time=0.1")
    for name in ("base", "new"):
        assert all(call[:2] == ["--threads=1", "--benchmark_min_time=0.1"]
                   for call in calls(tmp_path, name))  # fmt: skip


def test_a_program_whose_rows_have_longer_names_is_filtered_by_those_it_lists(ab, tmp_path):
    kernels = {f"{name}/hot/real_time": seconds for name, seconds in KERNELS.items()}
    traits = {"kernels": kernels, "suffix": "/hot/real_time"}
    slowed = f"{SLOWED}/hot/real_time"
    code, _, _, document = ab(traits, traits | {"slower": {slowed: 1.1}})
    assert (code, verdicts(document)[slowed]) == (1, "slower")
    assert calls(tmp_path, "new")[-1][-1] == "--benchmark_filter=^(kernel/1)"


def test_a_filter_of_the_users_does_not_let_ours_match_more(ab, tmp_path):
    slower = {"slower": {SLOWED: 1.1}}
    _, _, _, document = ab(None, slower, "--", "--benchmark_filter=/[13]:")
    assert verdicts(document) == {SLOWED: "slower", NAMES[3]: "same"}
    assert calls(tmp_path, "new")[-1][-1] == "--benchmark_filter=^(kernel/1)"


LINES = st.text(st.characters(exclude_characters="\n"), max_size=8)


@given(st.sets(LINES, min_size=1, max_size=4), st.sets(LINES, max_size=4))
def test_a_filter_matches_its_names_and_no_other(wanted, others):
    pattern = re.compile(filter_of(wanted, [*wanted, *others]))
    assert all(pattern.search(name) for name in wanted)
    assert not any(pattern.search(name) for name in others - wanted)


def test_a_row_belongs_to_the_longest_name_that_is_listed():
    listed = ["relu", "relu/8", "relu/8/forward"]
    assert registered("relu/8/forward/hot/real_time", listed) == "relu/8/forward"
    assert registered("relu/8", listed) == "relu/8"
    assert registered("relu/9/cold", listed) == "relu"
    assert registered("reluctant/9", listed) == "reluctant/9"


def test_every_time_is_kept(ab, tmp_path):
    _, _, _, document = ab()
    record = read_record(tmp_path / "pairs.json")
    assert record.log_ratios().shape == (12, 5)
    first = record.processes[0].times_s[NAMES[0]], record.processes[1].times_s[NAMES[0]]
    assert record.log_ratios()[0, 0] == pytest.approx(math.log(first[1] / first[0]))
    assert document["settings"]["floor"] == 0.02


# ---- what goes wrong


@pytest.mark.parametrize(
    ("traits", "says"),
    [
        ({"fails": 7}, "wrote no results: the process ended with exit code 7: no such device"),
        ({"truncated": True}, "left no whole results (expected whole JSON"),
        ({"kernels": {}}, "left no whole results (expected kernels, found none)"),
        ({"kernels": {"other": 1.0}}, "expected a kernel with a time on both sides, found none"),
    ],
)
def test_a_binary_that_fails_exits_2_in_one_line(ab, tmp_path, traits, says):
    code, out, err, _ = ab(None, traits)
    assert (code, out) == (2, "")
    assert says in err.splitlines()[-1]
    if "fails" in traits:
        assert str(tmp_path / "new") in err


def test_a_binary_that_fails_later_leaves_the_pairs_before(ab, tmp_path):
    code, _, err, _ = ab(None, {"fails": 7, "fails_at": 5})
    assert code == 2
    assert "no such device" in err
    assert len(read_record(tmp_path / "pairs.json").log_ratios()) == 5


@pytest.mark.parametrize(("process", "side", "code"), [(12, "base", 3), (11, "new", 1)])
def test_a_kernel_that_breaks_on_the_way_is_failed(ab, monkeypatch, process, side, code):
    started = []

    def breaks(command, **more):
        started.append(command)
        name = Path(command[0])
        if len(started) == process:
            traits = json.loads(name.with_suffix(".json").read_text())
            name.with_suffix(".json").write_text(json.dumps(traits | {"broken": {SLOWED: "hot"}}))
        return start_here(command, **more)

    monkeypatch.setattr(gate_processes, "run", breaks)
    exits, out, _, document = ab()
    assert exits == code
    assert verdicts(document) == dict.fromkeys(NAMES, "same") | {SLOWED: "failed"}
    assert document["rows"][1]["failed_with"] == side
    assert f"FAILED (with {side}: hot (pair 6))" in out


def breaks_from(monkeypatch, kernel: str, process: int, *sides: str) -> None:
    """From that process on (counted from 1) the kernel fails on these sides."""
    started = []

    def run(command, **more):
        started.append(command)
        traits = Path(command[0]).with_suffix(".json")
        if len(started) >= process and Path(command[0]).name in sides:
            broken = {"broken": {kernel: "hot"}}
            traits.write_text(json.dumps(json.loads(traits.read_text()) | broken))
        return start_here(command, **more)

    monkeypatch.setattr(gate_processes, "run", run)


@pytest.mark.parametrize("process", range(3, 9))  # base, new, new, base, base, new ...
def test_a_kernel_that_fails_on_both_sides_from_then_on_is_not_blamed_on_new(
    ab, monkeypatch, process
):
    breaks_from(monkeypatch, SLOWED, process, "base", "new")
    code, out, _, document = ab()
    assert code == 3
    assert document["rows"][1]["failed_with"] == "both"
    assert "FAILED (with both: hot (pair" in out


def test_a_kernel_that_fails_on_both_sides_from_the_first_new_process_on_is_not_blamed_on_new(
    ab, monkeypatch
):
    breaks_from(monkeypatch, SLOWED, 2, "base", "new")
    code, _, _, document = ab()
    assert code == 3
    (row,) = document["not_compared"]
    assert (row["kernel"], row["what"]) == (SLOWED, "failed with new, then with base")
    assert set(verdicts(document)) == {*NAMES} - {SLOWED}


def test_a_kernel_that_fails_with_new_from_its_first_process_on_exits_1(ab, monkeypatch):
    breaks_from(monkeypatch, SLOWED, 2, "new")
    code, _, _, document = ab()
    assert (code, document["not_compared"][0]["what"]) == (1, "failed with new")


def test_a_suspect_that_fails_with_new_while_it_is_confirmed_exits_1(ab, monkeypatch):
    breaks_from(monkeypatch, SLOWED, 26, "new")
    code, out, _, document = ab(None, {"slower": {SLOWED: 1.1}})
    assert (code, verdicts(document)[SLOWED]) == (1, "failed")
    assert "FAILED (with new: hot (pair 1))" in out
    assert "did not agree" not in out


def test_a_binary_that_is_replaced_while_it_is_measured_is_refused(ab, monkeypatch, tmp_path):
    def replaces(command, **more):
        finished = start_here(command, **more)
        if "new" in command[0]:
            install(tmp_path, "new").touch()
        return finished

    monkeypatch.setattr(gate_processes, "run", replaces)
    code, _, err, _ = ab()
    assert code == 2
    assert f"--new: {tmp_path / 'new'} was replaced while it was measured" in err


def test_a_budget_that_is_too_small_says_what_is_needed(ab):
    code, _, err, _ = ab(budget="0.001s")
    assert code == 2
    assert re.search(r"--budget: expected \d+s or more, as 5 kernels need 7 pairs", err)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: COMMAND"),
        (["ab"], "required: --base, --new"),
        (["ab", "--base=/none", "--new=/none"], "expected a program, found none at '/none'"),
        (["ab", "--budget=soon"], "expected a time such as 90s, 2m or 1h, found 'soon'"),
        (["ab", "--floor=-1"], "expected percent above 0"),
        (["ab", "--floor=nan"], "expected percent above 0"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["compare", "a", "b", "--", "--x"], "expected nothing after --, found '--x'"),
    ],
)
def test_bad_usage_is_refused_in_one_line(words, says):
    with pytest.raises(BadInput) as refusal:
        track.main(words)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unwritable_out_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(
        gate_processes, "run", lambda *_, **__: pytest.fail("a process was started")
    )
    program = install(tmp_path, "base")
    with pytest.raises(BadInput, match="--out: expected a file that can be written"):
        track.main(["ab", f"--base={program}", f"--new={program}", f"--out={tmp_path}"])


# ---- interruption


def test_an_interruption_keeps_and_judges_the_pairs_so_far(ab, monkeypatch, tmp_path):
    started = []

    def interrupted(command, **more):
        started.append(command)
        if len(started) == 16:
            raise Stopped(130)
        return start_here(command, **more)

    monkeypatch.setattr(gate_processes, "run", interrupted)
    code, out, err, _ = ab()
    assert code == 130
    assert "interrupted; what was measured is in" in err
    assert len(read_record(tmp_path / "pairs.json").log_ratios()) == 7
    assert "7" in out.splitlines()[2].split()


def test_an_interruption_in_the_first_pair_judges_nothing(ab, monkeypatch):
    def interrupted(_, **more):
        raise Stopped(143)

    monkeypatch.setattr(gate_processes, "run", interrupted)
    code, out, err, document = ab()
    assert (code, out, document) == (143, "", {})
    assert "interrupted before a pair was measured" in err


def test_an_out_that_takes_nothing_is_named_after_the_verdict(ab):
    code, out, err, _ = ab(None, {"slower": {SLOWED: 1.1}}, "--out=/dev/full")
    assert code == 2
    assert "1 slower, 4 same." in out
    assert "--out: /dev/full: No space left on device" in err


def test_an_out_that_takes_nothing_hides_no_refusal(ab):
    code, _, err, _ = ab(None, {"fails": 7, "fails_at": 5}, "--out=/dev/full")
    assert code == 2
    assert "no such device; --out: /dev/full: No space left on device" in err


# ---- time


def test_one_slow_first_process_refuses_no_budget_that_suffices(ab, monkeypatch):
    clock_of(monkeypatch, lambda n: 30.0 if n == 0 else 1.0)
    code, _, _, document = ab(budget="70s")
    assert code == 0
    assert document["rows"][0]["pairs"] == 12


def test_a_budget_that_a_slow_first_process_used_up_is_refused(ab, monkeypatch):
    clock_of(monkeypatch, lambda n: 30.0 if n == 0 else 1.0)
    code, _, err, _ = ab(budget="40s")
    assert code == 2
    assert "as 5 kernels need 7 pairs of 2 s; found 40s" in err


def test_that_sixty_four_pairs_are_the_most_is_said(ab):
    noisy = {"noise": 0.2}
    _, _, _, document = ab(noisy, noisy)
    assert document["rows"][0]["verdict"] == "inconclusive"
    assert "at most 64 pairs, whatever the budget" in document["measured"]
    _, _, _, document = ab()
    assert "whatever the budget" not in document["measured"]


@pytest.mark.parametrize(("seconds", "budget", "limit"), [(1, 50, 60), (1, 90, 90), (9, 90, 180)])
def test_a_process_hangs_after_twenty_times_the_pilot_the_budget_or_a_minute(
    tmp_path, seconds, budget, limit
):
    pairs = gate_processes.Pairs({"base": ["b"], "new": ["n"]}, tmp_path, budget)
    pairs.pair_s = 2 * seconds
    assert pairs.limit_s == limit


def test_a_binary_that_hangs_is_ended_and_its_side_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gate_processes, "SHORTEST_LIMIT_S", 0.01)
    monkeypatch.setattr(gate_processes, "LIMIT_PROCESSES", 0)
    base, new = install(tmp_path, "base"), install(tmp_path, "new", hangs_at=0)
    code = track.run_main(["ab", f"--base={base}", f"--new={new}", "--budget=2s"])
    assert code == 2
    assert f"--new: '{new}': the process did not end within 2 s" in capsys.readouterr().err


def test_a_signal_ends_a_binary_that_hangs(tmp_path):
    base = install(tmp_path, "base")
    new = install(tmp_path, "new", hangs_at=2)
    words = [f"--base={base}", f"--new={new}", f"--out={tmp_path / 'pairs.json'}"]
    process = subprocess.Popen(
        [ROOT / "scripts" / "track", "ab", *words], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    while not (tmp_path / "new.started").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in err
    assert len(read_record(tmp_path / "pairs.json").log_ratios()) == 2


# ---- formats


def test_json_is_the_document_and_markdown_a_table(ab):
    slower = {"slower": {SLOWED: 1.1}}
    _, out, _, document = ab(None, slower, "--format=json")
    assert json.loads(out)["rows"] == document["rows"]
    _, out, _, _ = ab(None, slower, "--format=markdown")
    assert "| **slower** |" in out
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1.5h", 5400), ("2 min", 120)]
)
def test_times_on_the_command_line(text, seconds):
    assert duration(text) == seconds
