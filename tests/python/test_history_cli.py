# SPDX-License-Identifier: Apache-2.0
"""The commands add, history, changes and recalibrate of scripts/track, as a user sees them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import threading
from pathlib import Path

import pytest

import histories
from triphase import history_output, track
from triphase.history_db import default_place


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "data" / "history.db"
    monkeypatch.setenv("TRIPHASE_HISTORY", str(path))
    return path


@pytest.fixture
def files(tmp_path) -> list[Path]:
    times = histories.step(30, 15)
    return [
        histories.write(tmp_path, day, {"net/a": seconds, "net/b": 2e-3}, commit=f"c{day}")
        for day, seconds in enumerate(times)
    ]


def run(capsys, *words) -> tuple[int, str, str]:
    code = track.run_main([str(word) for word in words])
    return code, *capsys.readouterr()


@pytest.fixture
def filled(place, files, capsys) -> Path:
    run(capsys, "add", *files)
    return place


def test_add_says_what_it_added_and_what_changed(place, files, capsys):
    code, out, _ = run(capsys, "add", *files)
    assert code == 0
    assert out.splitlines()[0] == f"{files[0]}: added, 2 kernels, 2026-01-01T00:00:00Z"
    assert out.splitlines()[-2].startswith("series begin in environment ")
    assert '"host_name": "host"' in out.splitlines()[-2]
    assert out.splitlines()[-1] == "changed: net/a: +10.0 %"
    assert place.exists()


def test_add_says_that_the_machine_was_busy(place, files, capsys):
    document = json.loads(files[0].read_text())
    document["benchmarks"][0]["disturbed"] = True
    files[0].write_text(json.dumps(document))
    _, out, _ = run(capsys, "add", files[0], files[1])
    busy = [line for line in out.splitlines() if "busy" in line]
    assert busy == [
        f"{files[0]}: the machine was busy while 1 of them were measured; "
        "scripts/track remove takes a run out again"
    ]


def test_add_says_that_a_file_is_there_already(filled, files, capsys):
    code, out, _ = run(capsys, "add", files[0], "--commit", "other")
    assert (code, out) == (0, f"{files[0]}: is in the history already, nothing changed\n")


def test_a_run_is_added_from_a_pipe_as_from_its_file(place, files, capsys):
    def through(path: Path, number: int) -> Path:
        pipe = path.with_name(f"pipe{number}")
        os.mkfifo(pipe)
        threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes())).start()
        return pipe

    for at in (0, 1):
        code, out, _ = run(capsys, "add", through(files[at], at))
        assert (code, "added, 2 kernels" in out) == (0, True)
    code, out, _ = run(capsys, "add", files[0])
    assert "is in the history already" in out
    _, out, _ = run(capsys, "history", "--kernel", "net/a", "--format", "json")
    assert [row["commit"] for row in json.loads(out)] == ["c0", "c1"]


@pytest.mark.parametrize("place", ["", ":memory:"])
def test_a_place_that_keeps_nothing_is_refused(files, capsys, place):
    code, out, err = run(capsys, "add", files[0], "--db", place)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_the_machine_can_be_named(place, files, capsys):
    _, out, _ = run(capsys, "add", files[0], "--machine", "runner 1")
    assert '"host_name": "runner 1"' in out
    assert run(capsys, "add", files[1], "--machine", " ")[0] == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"sample_count": math.nan}, {"sample_count": "many"}, {"sample_count": [3]},
        {"sample_count": 2**70}, {"ci95_high_s": 10**400}, {"ci95_low_s": math.inf},
        {"ci95_high_s": "high"}, {"ci95_low_s": True},
    ],
)  # fmt: skip
def test_what_is_no_number_beside_a_time_is_left_out(place, files, capsys, changed):
    document = json.loads(files[0].read_text())
    document["benchmarks"][0] |= changed
    files[0].write_text(json.dumps(document))
    assert run(capsys, "add", files[0])[0] == 0
    code, out, _ = run(capsys, "history", "--kernel", "net/a", "--format", "json")
    (row,) = json.loads(out)
    assert (code, row["samples"]) == (0, 3)
    has_interval = "sample_count" in changed
    assert (row["ci95_low_s"] is not None, row["ci95_high_s"] is not None) == (has_interval,) * 2


def test_half_characters_are_written_out(place, tmp_path, capsys):
    path = histories.write(tmp_path, 0, {"net/a": 1.0, "net/b": None}, commit="a\ud800b")
    document = json.loads(path.read_text())
    document["benchmarks"][1]["error_message"] = "x\udfffy"
    path.write_text(json.dumps(document))
    assert run(capsys, "add", path, "--label", "l\udc80")[0] == 0
    _, out, _ = run(capsys, "history", "--kernel", "*", "--format", "json")
    first, second = json.loads(out)
    assert (first["commit"], first["label"]) == ("a\\ud800b", "l\\udc80")
    assert second["reason"] == "x\\udfffy"
    assert run(capsys, "history", "--kernel", "k\udc80")[0] == 2
    assert run(capsys, "remove", "--label", "l\udc80")[0] == 0


def test_an_emptied_history_says_so(place, files, tmp_path, capsys):
    run(capsys, "add", files[0])
    run(capsys, "remove", files[0])
    assert run(capsys, "recalibrate")[:2] == (
        0, "no limit was set: the history holds no runs\n",
    )  # fmt: skip
    out = tmp_path / "h.parquet"
    code, _, err = run(capsys, "export", "--to", "parquet", "--out", out)
    assert (code, err, out.exists()) == (
        2, "track: --kernel: expected runs in the history, found none\n", False,
    )  # fmt: skip


def test_one_file_named_twice_is_added_once(place, files, capsys):
    code, out, _ = run(capsys, "add", files[0], files[0])
    assert code == 0
    assert [line.split(": ")[1].split(",")[0] for line in out.splitlines()[:2]] == [
        "added",
        "is in the history already",
    ]


def test_runs_are_removed_by_file_time_or_label(filled, files, capsys):
    def left() -> list[str]:
        _, out, _ = run(capsys, "history", "--kernel", "net/a", "--format", "json")
        return [row["time"][8:10] for row in json.loads(out)]

    code, out, _ = run(capsys, "remove", files[0], files[1], files[0])
    told = "removed: the run of 2026-01-01T00:00:00Z\nremoved: the run of 2026-01-02T00:00:00Z\n"
    assert (code, out) == (0, told)
    assert left()[0] == "03"
    code, out, _ = run(capsys, "remove", "--time", "2026-01-03 00:00")
    assert (code, out) == (0, "removed: the run of 2026-01-03T00:00:00Z\n")
    run(capsys, "add", files[0], "--label", "busy\x1b[2J")
    assert left()[:2] == ["01", "04"]
    assert run(capsys, "remove", "--label", "busy\x1b[2J", "--time", "2026-01-02")[0] == 2
    code, out, _ = run(capsys, "remove", "--label", "busy\x1b[2J", "--time", "2026-01-01")
    assert (code, out) == (0, "removed: the run of 2026-01-01T00:00:00Z, busy\\x1b[2J\n")
    assert left()[0] == "04"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected results files, --time or --label, found none of them"),
        (
            ["day000.json", "--label", "x"],
            "expected results files or --time and --label, found both",
        ),
        (["--label", "busy"], "--label busy: expected a run of the history, found none"),
        (["--time", "2020-01-01"], "--time 2020-01-01: expected a run of the history, found none"),
        (["--time", "soon"], "--time: expected a time"),
        (["missing.json"], "missing.json: No such file"),
    ],
)
def test_what_is_not_there_is_not_removed(filled, capsys, words, said):
    code, out, err = run(capsys, "remove", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_where_one_run_is_not_there_none_is_removed(filled, files, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    other = histories.write(tmp_path / "other", 77, {"net/a": 1.0})
    code, out, err = run(capsys, "remove", files[0], other)
    assert (code, out) == (2, "")
    assert f"{other}: expected a run of the history, found none of its content" in err
    _, out, _ = run(capsys, "history", "--kernel", "net/a", "--format", "json")
    assert len(json.loads(out)) == len(files)


@pytest.mark.parametrize("command", [["recalibrate"], ["remove", "--label", "busy"]])
def test_what_changes_a_history_makes_none(place, capsys, command):
    code, out, err = run(capsys, *command)
    assert (code, out) == (2, "")
    assert "expected a history, found no file: 'add' makes one" in err
    assert not place.parent.exists()


def test_a_run_without_any_time_is_refused(place, tmp_path, capsys):
    path = histories.write(tmp_path, 0, {"net/a": None})
    code, _, err = run(capsys, "add", path)
    assert (code, place.exists()) == (2, False)
    assert f"{path}: expected a kernel with a time, found none among its rows" in err


def test_a_file_of_a_newer_schema_is_refused(place, tmp_path, capsys):
    path = histories.write(tmp_path, 0, {"net/a": 1.0}, triphase={"schema": 99})
    code, _, err = run(capsys, "add", path)
    assert (code, place.exists()) == (2, False)
    assert "context.triphase.schema: expected 1, found 99" in err


def test_nothing_that_moves_a_terminals_cursor_is_printed(place, tmp_path, capsys):
    path = histories.write(tmp_path, 0, {"net/\x1b[2Ja": 1.0})
    code, _, err = run(capsys, "add", path)
    assert (code, err.count("\n"), "\x1b" in err) == (2, 1, False)
    assert "expected names of printable characters" in err
    path = histories.write(tmp_path, 0, {"net/a": 1.0}, label="x\x1b]0;y\x07")
    run(capsys, "add", path)
    _, out, _ = run(capsys, "history", "--kernel", "net/a")
    assert "x\\x1b]0;y\\x07" in out
    assert "\x1b" not in out


def test_commit_label_and_time_can_be_given(place, files, capsys):
    run(
        capsys, "add", files[0], "--commit", "abc", "--label", "main", "--time", "2025-05-06T07:08Z"
    )
    _, out, _ = run(capsys, "history", "--kernel", "net/a", "--format", "json")
    (row,) = json.loads(out)
    assert (row["commit"], row["label"], row["time"]) == ("abc", "main", "2025-05-06T07:08:00Z")


def test_where_one_file_is_refused_none_is_added(place, files, capsys):
    files[2].write_text(files[2].read_text()[:-20])
    code, out, err = run(capsys, "add", *files)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"track: {files[2]}: expected whole JSON")
    assert not place.exists()


def test_a_time_that_is_none_is_refused(place, files, capsys):
    code, _, err = run(capsys, "add", files[0], "--time", "yesterday")
    assert code == 2
    assert err == "track: --time: expected a time as 2026-01-31T12:00Z, found 'yesterday'\n"


def test_history_is_a_line_for_each_kernel(filled, capsys):
    _, out, _ = run(capsys, "history")
    head, first, second = out.splitlines()
    assert (
        " ".join(head.split())
        == "kernel environment runs first last newest median last change percent"
    )
    assert first.split()[:1] + first.split()[2:] == (
        ["net/a", "30", "2026-01-01", "00:00", "2026-01-30", "00:00", "1.095", "ms", "+10.0", "%"]
    )
    assert second.split()[-1] == "-"


def test_history_of_a_pattern_is_every_run(filled, capsys):
    _, out, _ = run(capsys, "history", "--kernel", "net/*", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["kernel"], row["commit"]) for row in rows] == [
        (kernel, f"c{day}") for kernel in ("net/a", "net/b") for day in range(30)
    ]
    assert [float(row["median_s"]) for row in rows[:30]] == histories.step(30, 15)


def test_json_and_csv_of_changes_hold_the_same(filled, capsys):
    _, as_json, _ = run(capsys, "changes", "--format", "json")
    _, as_csv, _ = run(capsys, "changes", "--format", "csv")
    (row,) = json.loads(as_json)
    (line,) = csv.DictReader(io.StringIO(as_csv))
    assert {k: "" if v is None else str(v) for k, v in row.items()} == line
    assert row["commit"] == "c15"
    assert row["clear_since"] > row["time"]


def test_too_few_runs_for_a_change_are_said(place, files, capsys):
    run(capsys, "add", *files[:11])
    code, out, _ = run(capsys, "changes")
    told = "no change can be told: 12 runs of a kernel are the fewest, found 11\n"
    assert (code, out) == (0, told)
    run(capsys, "add", files[11])
    assert run(capsys, "changes")[1] == "no change\n"


def test_no_change_is_said_and_is_empty_for_programs(filled, capsys):
    assert run(capsys, "changes", "--kernel", "net/b")[:2] == (0, "no change\n")
    assert run(capsys, "changes", "--kernel", "net/b", "--format", "json")[:2] == (0, "[]\n")
    assert run(capsys, "changes", "--kernel", "net/b", "--format", "csv")[:2] == (0, "")


def test_an_unknown_kernel_is_refused_with_the_nearest(filled, capsys):
    code, out, err = run(capsys, "changes", "--kernel", "net/bb")
    assert (code, out) == (2, "")
    assert err == (
        "track: --kernel: expected one of 2 kernels, found none that matches 'net/bb': "
        "the nearest is 'net/b'\n"
    )


def test_a_name_with_signs_of_patterns_is_taken_as_it_stands(place, tmp_path, capsys):
    path = histories.write(tmp_path, 0, {"sum[n=4]*": 1e-3, "sumn": 1e-3})
    run(capsys, "add", path)
    _, out, _ = run(capsys, "history", "--kernel", "sum[n=4]*", "--format", "json")
    assert [row["kernel"] for row in json.loads(out)] == ["sum[n=4]*"]


def test_recalibrate_wants_a_share(filled, capsys):
    code, _, err = run(capsys, "recalibrate", "--rate", "5")
    assert (code, err) == (2, "track: --rate: expected a share between 0 and 0.5, found 5\n")


def test_recalibrate_says_what_it_lacks(filled, capsys):
    code, out, _ = run(capsys, "recalibrate")
    assert code == 0
    assert "kept its limit: expected 20 series of 60 runs, found 0" in out


def test_the_default_place_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRIPHASE_HISTORY", raising=False)
    assert default_place() == str(tmp_path / "xdg" / "triphase" / "history.db")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_place() == str(tmp_path / ".local" / "share" / "triphase" / "history.db")
    monkeypatch.setenv("TRIPHASE_HISTORY", "/elsewhere.db")
    assert default_place() == "/elsewhere.db"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.0, "1 s"), (0.0123456, "12.35 ms"), (9.9e-5, "99 us"), (1e-9, "1 ns"), (1e-12, "0.001 ns")],
)
def test_durations_carry_a_fitting_unit(seconds, text):
    assert history_output.duration(seconds) == text
