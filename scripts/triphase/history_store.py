# SPDX-License-Identifier: Apache-2.0
"""Adds runs to a history, takes them out, and keeps its change points up to date.

    add(connection, runs) -> which of them, and which of their environments, are new
    remove(connection, ids)

What is stored depends on which runs were added and not on their order: change points are those that
reading all runs in order of time gives. Reading a series goes on where it left off; a run that is
older than some that are there makes it go back to that run, and no further.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)  # fmt: skip

from triphase import history_detect as detect
from triphase import history_tables as db
from triphase.history_calibration import from_json, stored_limit, to_json
from triphase.history_runs import Environment, HistoryRun, without_clock

BEGINNING = -(2**63)  # before any run

Key = tuple[int, int]  # (time, run_id): the order of runs
Seen = tuple[Key, float]  # a point as change detection sees it, in seconds


class Claim(NamedTuple):
    """A change by its first run after, and by the run that made it clear."""

    at: Key
    found_at: Key


class Added(NamedTuple):
    """Ids of the runs that were not there yet, and the environments that had no run before."""

    runs: set[int]
    environments: list[Environment]


def add(connection: Connection, runs: Sequence[HistoryRun]) -> Added:
    """Stores the runs that are not there yet, and the change points of their series."""
    ids = [run.id for run in runs]
    there = set(connection.scalars(select(db.runs.c.id).where(db.among(db.runs.c.id, ids))))
    new = {run.id: run for run in runs if run.id not in there}
    unknown = []
    for environment, group in _by_environment(new.values()).items():
        if (environment_id := _environment_id(connection, environment)) is None:
            environment_id = _begin_environment(connection, environment)
            unknown.append(environment)
        _join_units(connection, environment_id)
        series = _series_ids(connection, environment_id, group)
        _insert(connection, environment_id, group, series)
        touched = {series[point.name] for run in group for point in run.points}
        detect_from(connection, environment_id, min(run.time for run in group), touched)
    return Added(set(new), unknown)


def remove(connection: Connection, ids: set[int]) -> None:
    """Takes these runs out, with series and environments that have no others.

    What is left is what adding the others alone would have given.
    """
    points, series, runs = db.points, db.series, db.runs
    firsts = connection.execute(
        select(runs.c.environment_id, func.min(runs.c.time))
        .where(db.among(runs.c.id, ids))
        .group_by(runs.c.environment_id)
    ).all()
    of_them = db.among(points.c.run_id, ids)
    touched = set(connection.scalars(select(points.c.series_id).where(of_them).distinct()))
    connection.execute(delete(db.samples).where(db.among(db.samples.c.run_id, ids)))
    connection.execute(delete(points).where(of_them))
    for environment_id, first in firsts:
        detect_from(connection, environment_id, first, touched)
    connection.execute(delete(runs).where(db.among(runs.c.id, ids)))
    empty = ~exists().where(points.c.series_id == series.c.id)
    connection.execute(delete(series).where(db.among(series.c.id, touched), empty))
    table = db.environments
    unused = ~exists().where(runs.c.environment_id == table.c.id)
    touched_environments = db.among(table.c.id, [id_ for id_, _ in firsts])
    connection.execute(delete(table).where(touched_environments, unused))


def changes_clear_at(connection: Connection, run_ids: set[int]) -> list[tuple[str, float]]:
    """(kernel, ratio of levels) of the changes that these runs made clear, by kernel."""
    found = (
        select(db.series.c.name, db.changes.c.ratio)
        .join_from(db.changes, db.series, db.series.c.id == db.changes.c.series_id)
        .where(db.among(db.changes.c.found_run_id, run_ids), db.STANDS)
        .order_by(db.series.c.name, db.changes.c.time)
    )
    return [tuple(row) for row in connection.execute(found)]


def detect_from(
    connection: Connection, environment_id: int, time: int, touched: set[int] | None = None
) -> None:
    """Finds the changes that became clear at `time` or later; those before it stand.

    touched: the series to read, all of the environment if None.
    """
    limit = from_json(
        connection.scalar(
            select(db.environments.c.calibration).where(db.environments.c.id == environment_id)
        )
    )
    chosen = select(db.series.c.id).where(db.series.c.environment_id == environment_id)
    if touched is not None:
        chosen = chosen.where(db.among(db.series.c.id, touched))
    of_chosen = db.changes.c.series_id.in_(chosen)
    connection.execute(delete(db.changes).where(of_chosen, db.changes.c.found_time >= time))
    known: dict[int, list[Claim]] = defaultdict(list)
    columns = db.changes.c
    for row in connection.execute(
        select(
            columns.series_id,
            columns.time,
            columns.run_id,
            columns.found_time,
            columns.found_run_id,
        )
        .where(of_chosen)
        .order_by(columns.series_id, columns.time, columns.run_id)
    ):
        known[row[0]].append(Claim((row[1], row[2]), (row[3], row[4])))
    claims: dict[int, list[Claim]] = {}
    for series_id, seen in _read(connection, since(chosen, time, detect.WINDOW)):
        before = known[series_id]
        found = _found(seen, time, before, limit)
        if found or before:
            claims[series_id] = before + found
    _store_sizes(connection, claims, time)


def _found(seen: list[Seen], time: int, before: list[Claim], limit: detect.Limit) -> list[Claim]:
    """The changes that became clear at `time` or later."""
    keys = [key for key, _ in seen]
    read = sum(key[0] < time for key in keys)
    start = keys.index(before[-1].at) if before and before[-1].at >= keys[0] else 0
    new = detect.changes([seconds for _, seconds in seen], limit, start, read)
    return [Claim(keys[change.index], keys[change.found_at]) for change in new]


def since(chosen: Select, time: int, runs: int) -> Select:
    """Points that ran, of `time` and later, and so many before it, by series and time.

    One statement for all series, since a statement for each would take longer than all the rest.
    """
    points, earlier = db.points, db.points.alias()
    first = (
        select(earlier.c.time)
        .where(
            earlier.c.series_id == db.series.c.id,
            earlier.c.time < time,
            earlier.c.median_s.is_not(None),
        )
        .order_by(earlier.c.time.desc())
        .limit(1)
        .offset(runs - 1)
        .scalar_subquery()
    )
    return (
        select(points.c.series_id, points.c.time, points.c.run_id, points.c.median_s)
        .join_from(db.series, points, points.c.series_id == db.series.c.id)
        .where(db.series.c.id.in_(chosen), points.c.median_s.is_not(None))
        .where(points.c.time >= func.coalesce(first, BEGINNING))
        .order_by(points.c.series_id, points.c.time, points.c.run_id)
    )


def _read(connection: Connection, statement: Select) -> Iterator[tuple[int, list[Seen]]]:
    for series_id, rows in groupby(connection.execute(statement).all(), lambda row: row[0]):
        yield series_id, [((row[1], row[2]), row[3]) for row in rows]


def _store_sizes(connection: Connection, claims: dict[int, list[Claim]], time: int) -> None:
    """Writes the claims whose size runs of `time` and later can move: new ones and near ones.

    A size rests on a window on each side of its change, and ends at the next one, which lies at
    most a window before `time`.
    """
    chosen = select(db.series.c.id).where(db.among(db.series.c.id, claims))
    rows = []
    for series_id, seen in _read(connection, since(chosen, time, 3 * detect.WINDOW)):
        place = {key: i for i, (key, _) in enumerate(seen)}
        seconds = [value for _, value in seen]
        newest = sum(key[0] < time for key, _ in seen)
        within = [claim for claim in claims[series_id] if claim.at in place]
        starts = [place[claim.at] for claim in within]
        for claim, left, at, right in zip(
            within, [0, *starts], starts, [*starts[1:], len(seen)], strict=False
        ):
            if at > newest - 2 * detect.WINDOW:
                found = place[claim.found_at] + 1
                size = _size(seconds[left:at], seconds[at:right], found - at)
                rows.append(_change_row(series_id, claim, size))
    if rows:
        key = ("series_id", "time", "run_id")
        same = [db.changes.c[name] == bindparam(f"of_{name}") for name in key]
        connection.execute(
            delete(db.changes).where(*same),
            [{f"of_{name}": row[name] for name in key} for row in rows],
        )
        connection.execute(insert(db.changes), rows)


def _size(before: Sequence[float], after: Sequence[float], clear: int) -> detect.Size:
    """Of the level after the change; of its first `clear` runs, which made it clear, where the
    whole level says no more that it moved: it may have moved back, which is not clear yet."""
    whole = detect.size(before, after)
    return whole if whole.moved else detect.size(before, after[:clear])


def _change_row(series_id: int, claim: Claim, size: detect.Size) -> dict[str, Any]:
    return {
        "series_id": series_id,
        "time": claim.at[0],
        "run_id": claim.at[1],
        "found_time": claim.found_at[0],
        "found_run_id": claim.found_at[1],
        **asdict(size),
    }


def _by_environment(runs: Iterable[HistoryRun]) -> dict[Environment, list[HistoryRun]]:
    groups = defaultdict(list)
    for run in runs:
        groups[run.environment].append(run)
    return groups


def _environment_id(connection: Connection, environment: Environment) -> int | None:
    """Where there is none yet, that of an older history which differs by a clock alone goes on."""
    table = db.environments
    same = select(table.c.id).where(table.c.fingerprint == environment.fingerprint)
    if (found := connection.scalar(same)) is not None:
        return found
    newest = select(func.max(db.runs.c.time)).where(db.runs.c.environment_id == table.c.id)
    older = select(table.c.id, table.c.description).order_by(newest.scalar_subquery().desc())
    return next(
        (
            id_
            for id_, description in connection.execute(older)
            if without_clock(description) == environment
        ),
        None,
    )


def _begin_environment(connection: Connection, environment: Environment) -> int:
    return connection.execute(
        insert(db.environments).values(
            fingerprint=environment.fingerprint,
            description=environment.description,
            calibration=to_json(stored_limit()),
            calibrated_on="AR(1) noise",
        )
    ).inserted_primary_key[0]


def _join_units(connection: Connection, environment_id: int) -> None:
    """Older histories began another series where a kernel's unit changed: those become one."""
    table = db.series
    of_name: dict[str, list[int]] = defaultdict(list)
    known = select(table.c.name, table.c.id).where(table.c.environment_id == environment_id)
    for name, id_ in connection.execute(known.order_by(table.c.id)):
        of_name[name].append(id_)
    several = {first: others for first, *others in of_name.values() if others}
    for first, others in several.items():
        for part in (db.points, db.samples):
            moved = update(part).where(db.among(part.c.series_id, others))
            connection.execute(moved.values(series_id=first))
        of_them = db.among(db.changes.c.series_id, [first, *others])
        connection.execute(delete(db.changes).where(of_them))
        connection.execute(delete(table).where(db.among(table.c.id, others)))
    if several:
        detect_from(connection, environment_id, BEGINNING, set(several))


def _series_ids(
    connection: Connection, environment_id: int, runs: list[HistoryRun]
) -> dict[str, int]:
    """Ids by name of all series of the environment, those of these runs among them."""
    table = db.series
    known = select(table.c.name, table.c.id).where(table.c.environment_id == environment_id)
    ids = dict(connection.execute(known).all())
    units = {point.name: point.unit for run in runs[::-1] for point in run.points}
    if missing := sorted(units.keys() - ids.keys()):
        rows = [{"name": n, "unit": units[n], "environment_id": environment_id} for n in missing]
        connection.execute(insert(table), rows)
        ids = dict(connection.execute(known).all())
    return ids


def _insert(
    connection: Connection,
    environment_id: int,
    runs: list[HistoryRun],
    series: dict[str, int],
) -> None:
    run_rows, point_rows, sample_rows = [], [], []
    for run in runs:
        run_rows.append(
            {
                "id": run.id,
                "content_hash": run.content_hash,
                "environment_id": environment_id,
                "time": run.time,
                "commit_id": run.commit,
                "label": run.label,
            }
        )
        for point in run.points:
            row = dict(vars(point))
            del row["unit"]
            key = {"series_id": series[row.pop("name")], "run_id": run.id}
            if stored := row.pop("samples_s"):
                sample_rows.append({**key, "samples_s": stored})
            point_rows.append({**key, "time": run.time, **row})
    for table, rows in ((db.runs, run_rows), (db.points, point_rows), (db.samples, sample_rows)):
        if rows:
            connection.execute(insert(table), rows)
