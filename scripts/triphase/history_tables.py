# SPDX-License-Identifier: Apache-2.0
"""The tables of a history, alike in SQLite and PostgreSQL. What they hold, and in which order.

    environments ─< series ─< points >─ runs          a point is one kernel in one run
                       └──< changes    └─< samples    kept apart: most questions do not read them

Times of runs are UTC in microseconds since 1970, durations are seconds. A run's id comes from the
hash of its file, so ids, and with them the order of runs of one time, do not depend on the order in
which runs were added.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    or_,
)

VERSION = 1  # of these tables; counted up by whoever changes them
MARK = "triphase_history"  # a database with this table is ours

METADATA = MetaData()

mark = Table(MARK, METADATA, Column("version", Integer, primary_key=True, autoincrement=False))

environments = Table(
    "environments",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", String(16), nullable=False, unique=True),
    Column("description", Text, nullable=False),  # JSON: what the fingerprint is of
    Column("calibration", Text, nullable=False),  # JSON: history_detect.Limit
    Column("calibrated_on", Text, nullable=False),  # what it comes from, in words
)

series = Table(
    "series",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("unit", String(16), nullable=False),  # of its first file; all that is kept is seconds
    Column("environment_id", ForeignKey("environments.id"), nullable=False),
    # One series a kernel; the unit stands here since older versions began another for each, which
    # history_store joins.
    UniqueConstraint("name", "unit", "environment_id"),
)

runs = Table(
    "runs",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("content_hash", String(64), nullable=False, unique=True),
    Column("environment_id", ForeignKey("environments.id"), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("commit_id", Text),
    Column("label", Text),
    Index("runs_by_time", "time"),
)

# In SQLite the key is where the rows lie: one kernel's points are neighbours on disk, by time.
points = Table(
    "points",
    METADATA,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("time", BigInteger, primary_key=True),  # the run's
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("median_s", Float(53)),  # null where it did not run
    Column("low_s", Float(53)),
    Column("high_s", Float(53)),
    Column("sample_count", Integer, nullable=False),
    Index("points_by_run", "run_id", "series_id"),
    sqlite_with_rowid=False,
)

samples = Table(
    "samples",
    METADATA,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("samples_s", LargeBinary, nullable=False),  # float64, little-endian, thinned evenly
    sqlite_with_rowid=False,
)

changes = Table(
    "changes",
    METADATA,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("time", BigInteger, primary_key=True),  # of the first run after the change
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("found_time", BigInteger, nullable=False),  # of the run that made it clear
    Column("found_run_id", ForeignKey("runs.id"), nullable=False),
    Column("before_s", Float(53), nullable=False),
    Column("after_s", Float(53), nullable=False),
    Column("ratio", Float(53), nullable=False),
    Column("ratio_low", Float(53), nullable=False),
    Column("ratio_high", Float(53), nullable=False),
    sqlite_with_rowid=False,
)

# A change whose interval holds no change, neither by its whole level nor by the runs that made it
# clear, is not spoken of. The level that began with it is still where reading went on.
STANDS = or_(changes.c.ratio_low > 1, changes.c.ratio_high < 1)


def among(column: Column, ids: Iterable[int]) -> ColumnElement[bool]:
    """`column IN (ids)`, written out: databases bind no more than some ten thousand parameters."""
    return column.in_(bindparam(None, list(ids), expanding=True, literal_execute=True))
