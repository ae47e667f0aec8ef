# SPDX-License-Identifier: Apache-2.0
"""A history under two writers, a kill, a full disk, damage, and databases that are not for us.

Each time: nothing lost, nothing half-written, one line on stderr, exit code 2.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import histories
from triphase import track
from triphase.history_db import reading
from triphase.history_query import history
from triphase.records import SCHEMA_PATH

SCRIPTS = SCHEMA_PATH.parents[1] / "scripts"


def command(*words, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_track(*words, **options) -> tuple[int, str]:
    """Exit code and stderr."""
    process = command("-m", "triphase.track", *words, **options)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def refused(place: Path | str, *words) -> str:
    """What a command in this process says as it refuses; in one line and without a trace."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = track.run_main([*map(str, words), "--db", str(place)])
    assert (code, said.getvalue().count("\n")) == (2, 1)
    return said.getvalue()


def kernels_by_day(place: Path) -> list[tuple[str, str]]:
    with reading(str(place)) as connection:
        return sorted((row["time"][:10], row["kernel"]) for row in history(connection, None))


@pytest.fixture
def filled(tmp_path) -> Path:
    place = tmp_path / "h.db"
    assert (
        track.run_main(["add", str(histories.write(tmp_path, 0, {"k": 1e-3})), "--db", str(place)])
        == 0
    )
    return place


def big(folder: Path, day: int, kernels: int = 2000) -> Path:
    return histories.write(folder, day, {f"kernel{i:05d}": 1e-3 for i in range(kernels)})


def test_two_writers_at_once_are_both_in(tmp_path):
    place = tmp_path / "h.db"  # made by whoever is first
    files = [big(tmp_path, day, 300) for day in range(3)]
    processes = [command("-m", "triphase.track", "add", file, "--db", place) for file in files]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    assert len(kernels_by_day(place)) == 3 * 300


KILLED = """
import os, signal, sys
from triphase import history_store, track

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

history_store.detect_from = die  # by then points and samples are written, and nothing is committed
from sqlalchemy import event
from sqlalchemy.engine import Engine

@event.listens_for(Engine, "connect")
def small_cache(raw, _):  # so that half of the transaction is in the file already
    raw.execute("PRAGMA cache_size = 10")

sys.exit(track.run_main(sys.argv[1:]))
"""


def test_a_killed_writer_leaves_nothing_of_its_run(tmp_path, filled):
    before = kernels_by_day(filled)
    size = filled.stat().st_size
    file = big(tmp_path, 1)
    process = command("-c", KILLED, "add", file, "--db", filled)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert filled.stat().st_size > 2 * size  # it had begun to write
    assert kernels_by_day(filled) == before
    assert run_track("add", file, "--db", filled) == (0, "")
    assert len(kernels_by_day(filled)) == len(before) + 2000


def test_a_writer_waits_for_another_and_says_so_if_it_lasts(tmp_path, filled, monkeypatch):
    monkeypatch.setattr("triphase.history_db.BUSY_S", 0.05)
    other = sqlite3.connect(filled, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    said = refused(filled, "add", histories.write(tmp_path, 1, {"k": 1e-3}))
    other.close()
    assert "another command has held it" in said
    assert len(kernels_by_day(filled)) == 1


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("a small tmpfs cannot be mounted here (it takes root)")
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


def test_a_full_disk_loses_nothing(tmp_path, small_disk):
    place = small_disk / "h.db"
    run = histories.write(tmp_path, 0, {"k": 1e-3})
    assert run_track("add", run, "--db", place) == (0, "")
    before = kernels_by_day(place)
    said = refused(place, "add", big(tmp_path, 1))
    assert said == (
        f"track: {place}: the disk is full, nothing was changed: free some space, then try again\n"
    )
    assert kernels_by_day(place) == before
    with contextlib.closing(sqlite3.connect(place)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_limit_on_file_size_loses_nothing(tmp_path, filled):
    before = kernels_by_day(filled)
    code, err = run_track(
        *("add", big(tmp_path, 1), "--db", filled),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    assert (code, err.count("\n")) == (2, 1)
    assert f"track: {filled}: " in err
    assert kernels_by_day(filled) == before


def test_a_first_run_on_a_full_disk_leaves_a_place_to_try_again(tmp_path, small_disk):
    place = small_disk / "h.db"
    refused(place, "add", big(tmp_path, 1))
    assert run_track("add", histories.write(tmp_path, 0, {"k": 1e-3}), "--db", place) == (0, "")


def test_a_file_that_is_no_database_is_refused_and_untouched(tmp_path, filled):
    place = tmp_path / "notes.txt"
    place.write_text("remember the milk\n" * 100)
    run = histories.write(tmp_path, 1, {"k": 1e-3})
    for words in (["add", run], ["history"], ["changes"]):
        assert "is no SQLite database, or a damaged one" in refused(place, *words)
    assert place.read_text() == "remember the milk\n" * 100


def test_a_damaged_history_is_refused_in_one_line(tmp_path, filled):
    assert run_track("add", big(tmp_path, 1), "--db", filled) == (0, "")
    content = bytearray(filled.read_bytes())
    page = 4096
    content[page : len(content)] = bytes(len(content) - page)  # all but the first page
    filled.write_bytes(content)
    said = refused(filled, "history")
    assert "is damaged: restore a copy" in said
    assert filled.read_bytes() == content


def test_a_history_that_was_cut_short_is_refused_in_one_line(tmp_path, filled):
    assert run_track("add", big(tmp_path, 1), "--db", filled) == (0, "")
    content = filled.read_bytes()[: filled.stat().st_size // 2]
    filled.write_bytes(content)
    refused(filled, "history")
    refused(filled, "add", histories.write(tmp_path, 2, {"k": 1e-3}))


def test_another_programs_database_is_refused_and_untouched(tmp_path):
    place = tmp_path / "other.db"
    other = sqlite3.connect(place)
    other.execute("CREATE TABLE runs (id INTEGER)")
    other.commit()
    other.close()
    before = place.read_bytes()
    run = histories.write(tmp_path, 1, {"k": 1e-3})
    for words in (["add", run], ["history"], ["recalibrate"]):
        assert "expected a history, found another program's tables (runs)" in refused(place, *words)
    assert place.read_bytes() == before


def test_a_newer_history_is_refused_with_its_version(tmp_path, filled):
    newer = sqlite3.connect(filled)
    newer.execute("UPDATE triphase_history SET version = 7")
    newer.commit()
    newer.close()
    before = filled.read_bytes()
    run = histories.write(tmp_path, 1, {"k": 1e-3})
    for words in (["add", run], ["history"]):
        assert "expected a history of version 1, found version 7" in refused(filled, *words)
    assert filled.read_bytes() == before


AS_NOBODY = """
import os, sys
from triphase import track

mine, place, run = sys.argv[1:]
# Root may write everywhere, so it becomes nobody; but loads what nobody may not read before that.
for words in (["add", run], ["history"]):
    assert track.run_main([*words, "--db", mine]) == 0
if os.getuid() == 0:
    os.setuid(65534)
codes = [track.run_main([*words, "--db", place]) for words in (["add", run], ["history"])]
sys.exit(f"codes {codes}")
"""


def test_a_history_that_may_not_be_written_can_be_read(filled, tmp_path):
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are for their owner alone
        Path(folder).chmod(0o755)
        place = Path(shutil.copy(filled, Path(folder) / "h.db"))
        run = shutil.copy(histories.write(tmp_path, 1, {"k": 1e-3}), folder)
        place.chmod(0o444)
        before = place.read_bytes()
        process = command("-c", AS_NOBODY, tmp_path / "mine.db", place, run)
        _, err = process.communicate(timeout=60)
        assert err == (
            f"track: {place}: cannot be written, nothing was changed: change its permissions\n"
            "codes [2, 0]\n"
        )
        assert place.read_bytes() == before


def test_a_place_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    run = histories.write(tmp_path, 1, {"k": 1e-3})
    assert "cannot be made: " in refused(tmp_path / "file" / "h.db", "add", run)
    assert "cannot be opened" in refused(tmp_path, "add", run)


def test_questions_make_no_history(tmp_path):
    place = tmp_path / "none.db"
    for words in (["history"], ["changes"]):
        assert "expected a history, found no file: 'add' makes one" in refused(place, *words)
    assert not place.exists()
    place.write_bytes(b"")
    assert "expected a history, found it empty" in refused(place, "history")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("", "--db: expected a file or postgresql://..., found ''"),
        (":memory:", "--db: expected a file or postgresql://..., found ':memory:'"),
        ("mysql://host/name", "--db: expected a file or postgresql://..., found mysql://"),
        (
            "postgresql://me:secret@host:abc/x",
            "--db: expected a file or postgresql://..., found 'postgresql://***@host:abc/x'",
        ),
    ],
)
def test_other_databases_are_refused(place, said):
    assert refused(place, "history") == f"track: {said}\n"


def test_an_unreachable_server_is_one_line_without_the_password(tmp_path):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    run = histories.write(tmp_path, 1, {"k": 1e-3})
    place = "postgresql://me:secret@127.0.0.1:1/none"
    for words in (["add", run], ["history"]):
        said = refused(place, *words)
        assert said.startswith("track: postgresql://me:***@127.0.0.1:1/none: ")
        assert "refused" in said
        assert "secret" not in said


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # importing it now fails
    said = refused("postgresql://me@127.0.0.1:1/none", "history")
    assert "expected the Python package psycopg, found none" in said
    assert "scripts/postgresql-requirements.txt" in said


def test_an_interrupted_add_leaves_nothing(tmp_path, filled):
    stopped = KILLED.replace("SIGKILL", "SIGINT")
    process = command("-c", stopped, "add", big(tmp_path, 1), "--db", filled)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert len(kernels_by_day(filled)) == 1
