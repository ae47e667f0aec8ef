# SPDX-License-Identifier: Apache-2.0
"""The noise of an environment, from its history: what is left of series without their levels.

    recalibrate(connection, rate) -> a line for each environment

Between two change points the code is taken to be unchanged (A/A). Where a change was missed, it
counts as noise, and makes the limit higher. Where noise was taken for a change, it is left out, and
the limit comes out lower: so noise and changes are found in turns, a few times. Runs that were
recorded of the same code, under a label, need no turns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby

import numpy as np
from sqlalchemy import Connection, select, update

from triphase.history_calibration import SERIES, fitted, to_json
from triphase.history_detect import WINDOW
from triphase.history_store import BEGINNING, detect_from, since
from triphase.history_tables import STANDS, changes, environments, points, runs, series

FEWEST_SERIES = 20  # with fewer, the share that the rate speaks of is a handful
FEWEST_RUNS = 60
TURNS = 3


def recalibrate(
    connection: Connection, rate: float, unchanged: str | None = None, resamples: int = SERIES
) -> Iterator[str]:
    """Gives each environment with enough history its own limit, and finds its changes anew.

    unchanged: the label of runs of the same code, from which alone the noise is taken.
    """
    known = connection.execute(select(environments)).all()
    if not known:
        yield "no limit was set: the history holds no runs"
    for environment in known:
        noise = residuals(connection, environment.id, unchanged)
        if len(noise) < FEWEST_SERIES:
            yield (
                f"{environment.fingerprint}: kept its limit: expected {FEWEST_SERIES} series of "
                f"{FEWEST_RUNS} runs, found {len(noise)}"
            )
            continue
        for _ in range(TURNS if unchanged is None else 1):
            noise = residuals(connection, environment.id, unchanged)
            limit = fitted(noise, resamples, rate)
            connection.execute(
                update(environments)
                .where(environments.c.id == environment.id)
                .values(
                    calibration=to_json(limit),
                    calibrated_on=f"the residuals of its {len(noise)} series",
                )
            )
            detect_from(connection, environment.id, BEGINNING)
        yield (
            f"{environment.fingerprint}: a change is now evidence beyond {limit.strength:.1f}, "
            f"as {100 * rate:g} % of series without a change show in {limit.horizon} runs "
            f"({len(noise)} series resampled)"
        )


def residuals(
    connection: Connection, environment_id: int, unchanged: str | None
) -> list[np.ndarray]:
    """Logarithms of times around the median of their level; an array for each long series."""
    chosen = select(series.c.id).where(series.c.environment_id == environment_id)
    columns = changes.c
    known = select(columns.series_id, columns.time, columns.run_id)
    seen = since(chosen, BEGINNING, WINDOW)
    starts = defaultdict(set)
    if unchanged is None:
        for series_id, *run in connection.execute(
            known.where(columns.series_id.in_(chosen), STANDS)
        ):
            starts[series_id].add(tuple(run))
    else:
        seen = seen.where(points.c.run_id.in_(select(runs.c.id).where(runs.c.label == unchanged)))
    found = []
    for series_id, rows in groupby(connection.execute(seen).all(), lambda row: row[0]):
        level, levels = -1, defaultdict(list)
        for _, time, run_id, seconds in rows:
            level += (time, run_id) in starts[series_id]
            levels[level].append(np.log(seconds))
        rest = [np.array(logs) - np.median(logs) for logs in levels.values()]
        if sum(map(len, rest)) >= FEWEST_RUNS:
            found.append(np.concatenate(rest))
    return found
