# SPDX-License-Identifier: Apache-2.0
"""The report of a run directory: what it leaves there, and that it leaves nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import fake_steps
from contract import assert_contract
from triphase import report
from triphase.files import write_atomic
from triphase.records import SCHEMA_PATH, BadRecords, load

KEPT = SCHEMA_PATH.parent / "baselines"
WRAPPER = SCHEMA_PATH.parents[1] / "scripts" / "report"


def run(path, monkeypatch) -> int:
    monkeypatch.setattr("sys.argv", ["report", str(path)])
    return report.main()


def test_a_run_directory_gets_findings_and_every_plot(write_steps, full, monkeypatch, capsys):
    folder = write_steps(full).parent
    assert run(folder, monkeypatch) == 0
    written = {path.name for path in folder.iterdir()} - {"steps.json"}
    plots = set(report.PLOTS) - {"speedup_by_dtype"}  # all is in f32
    assert written == {"findings.json", "findings.md"} | {
        f"{name}.{form}" for name in plots for form in ("png", "svg", "html")
    }
    found = json.loads((folder / "findings.json").read_text())
    assert_contract(found, "findings")
    printed = capsys.readouterr().out
    for name in written:
        assert str(folder / name) in printed
    assert "not run  LinearNet/batch:1024" in printed
    assert "no plot  speedup_by_dtype: not drawn" in printed
    assert "\033" not in printed


def test_the_report_changes_nothing_in_steps_json(write_steps, full, monkeypatch):
    path = write_steps(full)
    before = path.read_bytes()
    run(path.parent, monkeypatch)
    assert path.read_bytes() == before


def test_the_readme_of_the_kept_runs_tells_what_they_are():
    text = " ".join((KEPT / "README.md").read_text().split())
    for folder in KEPT.iterdir():
        assert folder.is_file() or f"`{folder.name}`" in text
    peers = json.loads((KEPT / "peers" / "peers.json").read_text())
    settings, versions = peers["settings"], peers["versions"]
    rounds = max(case["ours"]["rounds"] for case in peers["cases"])
    assert (
        f"`peers` is a run of `scripts/peers --minutes {settings['minutes']:g}` on such a machine, "
        f"with PyTorch {versions['torch'].rpartition('.')[0]}: {len(peers['cases'])} cases in up "
        f"to {('no', 'one', 'two', 'three', 'four', 'five', 'six')[rounds]} rounds each"
    ) in text
    recorded, synthetic = (
        json.loads((KEPT / f"power_{kind}" / "power.json").read_text())
        for kind in ("recorded", "synthetic")
    )
    assert f"{recorded['processes']} processes of {recorded['kernels']} kernels" in text
    assert f"made-up noise with a drift, of {synthetic['kernels']} kernels" in text


def test_a_run_of_which_nothing_ran_is_reported_all_the_same(write_steps, monkeypatch, capsys):
    rows = fake_steps.skipped_rows("OneNet", 1, "no such device", backend="cuda")
    folder = write_steps(fake_steps.document(rows)).parent
    assert run(folder, monkeypatch) == 0
    assert {p.name for p in folder.iterdir()} == {"steps.json", "findings.json", "findings.md"}
    printed = capsys.readouterr().out
    assert printed.count("no plot  ") == len(report.PLOTS)
    assert "no such device" in printed


def test_the_report_says_what_its_times_are_to_be_doubted_for(write_steps, monkeypatch, capsys):
    doubtful = {"status": "unverified", "disturbed": True}
    rows = [row | doubtful for row in fake_steps.case_rows("OneNet", 1)]
    assert run(write_steps(fake_steps.document(rows)).parent, monkeypatch) == 0
    printed = capsys.readouterr().out
    for heading in (
        "The machine was busy. In 1 of 1 cases",
        "Not all was verified. In 1 of 1 cases",
    ):
        assert heading in printed


def test_two_reports_of_one_file_give_the_same_findings(write_steps, full):
    path = write_steps(full)
    first, second = (report.findings.build(load(path)) for _ in range(2))
    assert first == second


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "findings.md", "old")

    def fail(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_file_whole(tmp_path):
    path = write_atomic(tmp_path / "new folder" / "a.txt", "a long text")
    assert write_atomic(path, b"short").read_bytes() == b"short"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_write_keeps_permissions_and_follows_a_link(tmp_path):
    path = write_atomic(tmp_path / "a.txt", "old")
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to("a.txt")
    assert write_atomic(link, "new") == link
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_written_into_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert write_atomic(pipe, "content") == pipe
    assert os.read(reader, 100) == b"content"
    os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(IsADirectoryError, match=f"'{tmp_path}'"):
        write_atomic(tmp_path, "content")


def test_nothing_is_replaced_where_something_cannot_be(write_steps, full, monkeypatch):
    folder = write_steps(full).parent
    (folder / "findings.json").write_text("old")
    (folder / "findings.md").mkdir()
    with pytest.raises(BadRecords, match=r"findings\.md: expected a file to replace"):
        run(folder, monkeypatch)
    assert (folder / "findings.json").read_text() == "old"


def test_a_reader_that_has_read_enough_is_no_error(write_steps, full):
    command = f"{WRAPPER} {write_steps(full).parent} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


def test_a_file_that_finds_no_room_is_named(write_steps, full):
    folder = write_steps(full).parent
    command = f"ulimit -f 8; exec {WRAPPER} {folder}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"triphase: {folder}/findings.json: File too large\n"
    assert [path.name for path in folder.iterdir()] == ["steps.json"]


def test_a_closed_standard_output_is_no_traceback(write_steps, full):
    command = f"{WRAPPER} {write_steps(full).parent} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_links_that_lead_to_each_other_are_told(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        write_atomic(tmp_path / "a", "content")


def test_a_full_disk_below_standard_output_is_told_and_the_files_are_whole(write_steps, full):
    folder = write_steps(full).parent
    with Path("/dev/full").open("w") as disk:
        done = subprocess.run(
            [WRAPPER, folder], stdout=disk, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "triphase: standard output: No space left on device\n"
    assert (folder / "findings.md").is_file()
    assert (folder / f"{list(report.PLOTS)[-1]}.html").is_file()


def test_the_wrapper_exits_2_with_one_line_on_bad_input(tmp_path):
    file = tmp_path / "a file"
    file.touch()
    for run in (tmp_path, file, tmp_path / "missing"):
        done = subprocess.run([WRAPPER, run], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert "steps.json" in done.stderr
