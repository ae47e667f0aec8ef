# SPDX-License-Identifier: Apache-2.0
"""What a history answers: which kernels it knows, their runs, their changes. Changes nothing.

Every row is a plain dict with the same keys; rows are in the order of kernel, environment and time.
Times of runs are ISO 8601 in UTC, durations seconds; what is not known is None.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select

from triphase.history_runs import iso_time, storable
from triphase.history_tables import STANDS, among, changes, environments, points, runs, series
from triphase.track_errors import BadInput

Row = dict[str, Any]


def chosen_series(connection: Connection, pattern: str | None) -> Select | None:
    """The ids of the series of a kernel, or of all that a shell pattern matches; None means all.

    BadInput where there is none, with the nearest name that there is.
    """
    if pattern is None:
        return None
    pattern = storable(pattern)
    exact = select(series.c.id).where(series.c.name == pattern)
    if connection.scalar(exact.limit(1)) is not None:
        return exact
    known = connection.execute(select(series.c.id, series.c.name)).all()
    matching = [id_ for id_, name in known if fnmatchcase(name, pattern)]
    if matching:
        return select(series.c.id).where(among(series.c.id, matching))
    names = {name for _, name in known}
    near = difflib.get_close_matches(pattern, sorted(names)[:2000], n=1, cutoff=0)
    raise BadInput(
        f"--kernel: expected one of {len(names)} kernels, found none that matches {pattern!r}"
        + (f": the nearest is {near[0]!r}" if near else "")
    )


def overview(connection: Connection) -> list[Row]:
    """A row for each series: how many runs, since when, the newest, and the last change."""
    span = (
        select(
            points.c.series_id,
            func.count().label("runs"),
            func.min(points.c.time).label("first"),
            func.max(points.c.time).label("last"),
        )
        .group_by(points.c.series_id)
        .subquery()
    )
    newest = (
        select(
            series.c.id,
            series.c.name,
            environments.c.fingerprint,
            span.c.runs,
            span.c.first,
            span.c.last,
            points.c.median_s,
            points.c.low_s,
            points.c.high_s,
        )
        .join_from(span, series, series.c.id == span.c.series_id)
        .join(environments, environments.c.id == series.c.environment_id)
        .join(points, (points.c.series_id == span.c.series_id) & (points.c.time == span.c.last))
        .order_by(series.c.name, environments.c.fingerprint, series.c.unit, points.c.run_id)
    )
    last_change: dict[int, float] = {}
    by_time = select(changes.c.series_id, changes.c.ratio).where(STANDS).order_by(changes.c.time)
    for series_id, ratio in connection.execute(by_time):
        last_change[series_id] = percent(ratio)
    rows = {  # of two runs at one time, the last
        row.id: {
            "kernel": row.name,
            "environment": row.fingerprint,
            "runs": row.runs,
            "first": iso_time(row.first),
            "last": iso_time(row.last),
            "newest_median_s": row.median_s,
            "ci95_low_s": row.low_s,
            "ci95_high_s": row.high_s,
            "last_change_percent": last_change.get(row.id),
        }
        for row in connection.execute(newest)
    }
    return list(rows.values())


def history(connection: Connection, chosen: Select | None) -> list[Row]:
    """A row for each run of each series that is chosen, by kernel, environment and time."""
    return [
        {
            "kernel": row.name,
            "environment": row.fingerprint,
            "time": iso_time(row.time),
            "commit": row.commit_id,
            "label": row.label,
            "median_s": row.median_s,
            "ci95_low_s": row.low_s,
            "ci95_high_s": row.high_s,
            "samples": row.sample_count,
            "status": row.status,
            "reason": row.reason,
        }
        for row in connection.execute(points_of(chosen))
    ]


def points_of(chosen: Select | None) -> Select:
    """Points with their kernel, environment and run, in the order of `history`."""
    statement = (
        select(
            series.c.id.label("series_id"),
            series.c.name,
            series.c.unit,
            environments.c.fingerprint,
            points.c.time,
            points.c.run_id,
            runs.c.commit_id,
            runs.c.label,
            points.c.status,
            points.c.reason,
            points.c.median_s,
            points.c.low_s,
            points.c.high_s,
            points.c.sample_count,
        )
        .join_from(series, environments, environments.c.id == series.c.environment_id)
        .join(points, points.c.series_id == series.c.id)
        .join(runs, runs.c.id == points.c.run_id)
        .order_by(
            series.c.name,
            environments.c.fingerprint,
            series.c.unit,
            points.c.time,
            points.c.run_id,
        )
    )
    return statement if chosen is None else statement.where(series.c.id.in_(chosen))


def changes_of(connection: Connection, chosen: Select | None) -> list[Row]:
    """A row for each change of the series that are chosen, by kernel, environment and time."""
    clear = runs.alias()
    statement = (
        select(
            series.c.id.label("series_id"),
            series.c.name,
            environments.c.fingerprint,
            changes,
            runs.c.commit_id,
            runs.c.label,
            clear.c.commit_id.label("found_commit"),
        )
        .join_from(changes, series, series.c.id == changes.c.series_id)
        .join(environments, environments.c.id == series.c.environment_id)
        .join(runs, runs.c.id == changes.c.run_id)
        .join(clear, clear.c.id == changes.c.found_run_id)
        .where(STANDS)
        .order_by(series.c.name, environments.c.fingerprint, series.c.unit, changes.c.time)
    )
    if chosen is not None:
        statement = statement.where(changes.c.series_id.in_(chosen))
    return [
        {
            "kernel": row.name,
            "environment": row.fingerprint,
            "time": iso_time(row.time),
            "commit": row.commit_id,
            "label": row.label,
            "from_s": row.before_s,
            "to_s": row.after_s,
            "percent": percent(row.ratio),
            "ci95_low_percent": percent(row.ratio_low),
            "ci95_high_percent": percent(row.ratio_high),
            "clear_since": iso_time(row.found_time),
            "clear_since_commit": row.found_commit,
        }
        for row in connection.execute(statement)
    ]


def most_runs(connection: Connection, chosen: Select | None) -> int:
    """How many times one of these series ran, at most."""
    counts = select(func.count().label("runs")).where(points.c.median_s.is_not(None))
    if chosen is not None:
        counts = counts.where(points.c.series_id.in_(chosen))
    counts = counts.group_by(points.c.series_id).subquery()
    return connection.scalar(select(func.max(counts.c.runs))) or 0


def percent(ratio: float) -> float:
    return 100 * (ratio - 1)


def runs_of(
    connection: Connection,
    ids: Iterable[int] = (),
    span: tuple[int, int] | None = None,
    label: str | None = None,
) -> list[Any]:
    """The runs (id, time, label) with one of the ids, or of that span of time and label; by time.

    Where both are given, span (its end left out) and label must both fit.
    """
    wanted = [among(runs.c.id, ids)]
    given = [] if span is None else [runs.c.time >= span[0], runs.c.time < span[1]]
    if label is not None:
        given.append(runs.c.label == storable(label))
    if given:
        wanted.append(and_(*given))
    statement = select(runs.c.id, runs.c.time, runs.c.label).where(or_(*wanted))
    return list(connection.execute(statement.order_by(runs.c.time, runs.c.id)))


def newest_run(connection: Connection) -> int | None:
    """The id of the last run of the history; None where it holds none."""
    by_time = select(runs.c.id).order_by(runs.c.time.desc(), runs.c.id.desc())
    return connection.scalar(by_time.limit(1))


def kernels(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(kernel, environment) of rows, each once, in their order."""
    return list(dict.fromkeys((row["kernel"], row["environment"]) for row in rows))
