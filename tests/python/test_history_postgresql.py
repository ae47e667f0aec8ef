# SPDX-License-Identifier: Apache-2.0
"""A history in PostgreSQL answers as one in SQLite does: with a server started for the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

import histories
from test_history_robust import command, refused, run_track
from triphase import history_query, history_tables, track
from triphase.history_db import reading, writing


def server_program(name: str) -> str | None:
    """initdb or postgres: on PATH, or where Debian keeps them."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(debian[-1]) if debian else shutil.which(name)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an empty server on a socket in a folder of its own."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    initdb, postgres = server_program("initdb"), server_program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    # The server refuses to be root, and a socket's path must be short.
    user = 65534 if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    if user is not None:
        os.chown(folder, user, user)
    data = folder / "data"
    quiet = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    made = [initdb, "-D", data, "-U", "tester", "-A", "trust", "-N", "--locale=C", "-E", "UTF8"]
    subprocess.run(made, check=True, **quiet)
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", folder]
    process = subprocess.Popen([postgres, "-D", data, *options], text=True, **quiet)
    try:
        for line in process.stderr:
            if "ready to accept connections" in line:
                break
        else:
            pytest.fail("the server ended before it was ready")
        yield f"postgresql://tester@/postgres?host={folder}"
    finally:
        process.terminate()
        process.communicate(timeout=30)
        shutil.rmtree(folder)


@pytest.fixture
def place(server) -> Iterator[str]:
    """A database of this test alone."""
    import psycopg

    with contextlib.closing(psycopg.connect(server, autocommit=True)) as connection:
        connection.execute("CREATE DATABASE history")
        yield server.replace("/postgres?", "/history?")
        connection.execute("DROP DATABASE history WITH (FORCE)")


@pytest.fixture
def files(tmp_path) -> list[Path]:
    times = histories.step(30, 15)
    return [
        histories.write(tmp_path, day, {"a": seconds, "b": None if day == 3 else 2e-3})
        for day, seconds in enumerate(times)
    ]


def add(place: str | Path, *files: Path) -> None:
    assert track.run_main(["add", *map(str, files), "--db", str(place)]) == 0


def dump(place: str | Path) -> tuple[list, list, list]:
    with reading(str(place)) as connection:
        return (
            history_query.overview(connection),
            history_query.history(connection, None),
            history_query.changes_of(connection, None),
        )


def test_postgresql_and_sqlite_hold_the_same(place, tmp_path, files):
    for some in (files[20:], files[:7], files[7:20]):
        add(place, *some)
    add(tmp_path / "h.db", *files)
    overview, history, changes = dump(place)
    assert (overview, history, changes) == dump(tmp_path / "h.db")
    assert (len(overview), len(history), len(changes)) == (2, 60, 1)


def test_removed_runs_leave_what_the_others_give(place, tmp_path, files):
    add(place, *files)
    words = [
        "remove",
        *map(str, files[14:18]),
        "--db",
        place,
    ]  # where a change was found among them
    assert track.run_main(words) == 0
    add(tmp_path / "h.db", *files[:14], *files[18:])
    assert dump(place) == dump(tmp_path / "h.db")
    assert track.run_main(["remove", *map(str, files[:14] + files[18:]), "--db", place]) == 0
    assert dump(place) == ([], [], [])


def test_an_older_history_that_was_split_by_units_is_joined(place, tmp_path, files):
    import psycopg

    add(place, *files[:29])
    with contextlib.closing(psycopg.connect(place, autocommit=True)) as old:  # as it was before
        old.execute("INSERT INTO series SELECT id + 100, name, 'us', environment_id FROM series")
        for table in ("points", "samples"):
            old.execute(
                f"UPDATE {table} SET series_id = series_id + 100"
                " WHERE run_id IN (SELECT id FROM runs ORDER BY time OFFSET 20)"
            )
        old.execute("DELETE FROM changes")
    assert len(dump(place)[0]) == 4
    add(place, files[29])
    add(tmp_path / "h.db", *files)
    assert dump(place) == dump(tmp_path / "h.db")


def test_a_file_added_twice_is_kept_once(place, files, capsys):
    add(place, *files)
    before = dump(place)
    capsys.readouterr()
    add(place, files[3])
    assert capsys.readouterr().out == f"{files[3]}: is in the history already, nothing changed\n"
    assert dump(place) == before


def test_writers_at_once_are_all_in(place, files):
    processes = [
        command("-m", "triphase.track", "add", file, "--db", place) for file in files[:2]
    ]  # the first of them makes the tables
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    assert len(dump(place)[1]) == 4


def test_a_writer_that_fails_leaves_nothing(place, files, monkeypatch):
    add(place, *files[:2])
    before = dump(place)
    monkeypatch.setattr("triphase.history_store.detect_from", lambda *_: 1 / 0)
    assert track.run_main(["add", *map(str, files[2:]), "--db", place]) == 2
    assert dump(place) == before


def test_questions_cannot_change_a_history(place, files):
    add(place, *files[:2])
    with pytest.raises(Exception, match="read-only transaction"), reading(place) as connection:
        connection.exec_driver_sql("DELETE FROM samples")


def test_more_kernels_than_a_statement_may_have_parameters_can_be_asked_for(place, files):
    add(place, *files[:2])
    ids = history_tables.among(history_tables.series.c.id, range(70_000))  # PostgreSQL: 65535
    with reading(place) as connection:
        assert len(connection.scalars(select(history_tables.series.c.name).where(ids)).all()) == 2


def test_another_programs_database_is_refused_and_untouched(place, files):
    import psycopg

    with contextlib.closing(psycopg.connect(place, autocommit=True)) as connection:
        connection.execute("CREATE TABLE invoices (id int)")
        said = refused(place, "add", files[0])
        assert "expected a history, found another program's tables (invoices)" in said
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(tables).fetchall() == [("invoices",)]


def test_a_newer_history_is_refused_with_its_version(place, files):
    add(place, files[0])
    with writing(place) as connection:
        connection.exec_driver_sql("UPDATE triphase_history SET version = 7")
    assert "expected a history of version 1, found version 7" in refused(place, "history")


def test_a_database_that_is_not_there_is_one_line(place, files):
    said = refused(place.replace("/history?", "/elsewhere?"), "add", files[0])
    assert 'database "elsewhere" does not exist' in said
    assert run_track("history", "--db", place)[0] == 2  # empty: nothing was added
