# SPDX-License-Identifier: Apache-2.0
"""Opens a history: an SQLite file, or a PostgreSQL database that a team shares. Knows no kernel.

    with writing(place) as connection: ...    one transaction: all of it is kept, or nothing
    with reading(place) as connection: ...    one state of the history, whatever is added meanwhile

Whatever goes wrong with the database is BadInput: one line with the place and what to do.

SQLite keeps its default rollback journal, rather than a write-ahead log: between commands a history
is then one file, which can be copied, cached by CI and kept on a network drive. A writer takes the
lock as it begins, so that two of them wait for each other and never fail half-way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from triphase.history_tables import MARK, METADATA, VERSION, mark
from triphase.track_errors import BadInput

BUSY_S = 30  # how long a command waits for another that is writing
CONNECT_S = 10
WRITERS_LOCK = 0x74726970686173  # of PostgreSQL's advisory locks: one writer at a time

# What SQLite says: what that means for a user.
_SQLITE_SAYS = {
    "file is not a database": "is no SQLite database, or a damaged one: restore a copy",
    "malformed": "is damaged: restore a copy, or salvage it with 'sqlite3 FILE .recover'",
    "disk is full": "the disk is full, nothing was changed: free some space, then try again",
    "disk I/O error": "the disk refused to write or read, nothing was changed: is it full?",
    "readonly database": "cannot be written, nothing was changed: change its permissions",
    "unable to open database file": "cannot be opened: check that its folder exists and is yours",
    "database is locked": f"another command has held it for {BUSY_S} s: try again",
}


def default_place() -> str:
    """TRIPHASE_HISTORY, else triphase/history.db below XDG's folder for data."""
    if place := os.environ.get("TRIPHASE_HISTORY"):
        return place
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(data) / "triphase" / "history.db")


@contextmanager
def writing(place: str, *, make: bool = False) -> Iterator[Connection]:
    """A transaction that is committed at the end, and leaves nothing where it fails.

    make: whether to make a history where there is none, which is refused else.
    """
    url = _url(place)
    if not make:
        _refuse_missing(url)
    if url.get_backend_name() == "sqlite":
        _make_folder(Path(url.database))
    with _clear_errors(url), _engine(url, "BEGIN IMMEDIATE").begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})"))
        if not _is_ours(connection, url):
            if not make:
                raise _empty(url)
            METADATA.create_all(connection)
            connection.execute(mark.insert().values(version=VERSION))
        yield connection


@contextmanager
def reading(place: str) -> Iterator[Connection]:
    """A transaction that sees one state and changes nothing."""
    url = _url(place)
    _refuse_missing(url)
    with _clear_errors(url), _engine(url, "BEGIN").connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        if not _is_ours(connection, url):
            raise _empty(url)
        yield connection


def _refuse_missing(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and not Path(url.database).exists():
        raise BadInput(f"{url.database}: expected a history, found no file: 'add' makes one")


def _empty(url: URL) -> BadInput:
    return BadInput(f"{_name(url)}: expected a history, found it empty: 'add' fills it")


def _url(place: str) -> URL:
    if place in ("", ":memory:"):  # which SQLite forgets at the end
        raise BadInput(f"--db: expected a file or postgresql://..., found {place!r}")
    if "://" not in place:
        return URL.create("sqlite", database=place)
    try:
        url = make_url(place)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        shown = re.sub("//[^/]*@", "//***@", place)  # it may hold a password
        raise BadInput(f"--db: expected a file or postgresql://..., found {shown!r}") from error
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise BadInput(f"--db: expected a file or postgresql://..., found {url.drivername}://")
    return url.set(drivername="postgresql+psycopg")


def _name(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path.parent}: cannot be made: {error.strerror}") from error


def _engine(url: URL, begin: str) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(
                url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_S}
            )
        except ModuleNotFoundError as error:
            raise BadInput(
                f"{_name(url)}: expected the Python package psycopg, found none: "
                "scripts/postgresql-requirements.txt says how to install it"
            ) from error
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_S})
    # Python's sqlite3 would begin transactions where it sees fit, and not for CREATE TABLE.
    event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _is_ours(connection: Connection, url: URL) -> bool:
    """Whether a history is there; False where nothing is; BadInput where something else is."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return False
    if MARK not in tables:
        raise BadInput(
            f"{_name(url)}: expected a history, found another program's tables "
            f"({', '.join(sorted(tables)[:3])}): give another place with --db"
        )
    version = connection.execute(select(mark.c.version)).scalar()
    if version != VERSION:
        raise BadInput(
            f"{_name(url)}: expected a history of version {VERSION}, found version {version}: "
            "use the triphase that wrote it, or a newer one"
        )
    return True


@contextmanager
def _clear_errors(url: URL) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        for part, meaning in _SQLITE_SAYS.items():
            if url.get_backend_name() == "sqlite" and part in said:
                raise BadInput(f"{_name(url)}: {meaning}") from error
        raise BadInput(f"{_name(url)}: the database refused: {said[:300]}") from error
