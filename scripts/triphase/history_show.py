# SPDX-License-Identifier: Apache-2.0
"""Shows the history: a line for each kernel, or, with --kernel, each run of it."""

from __future__ import annotations

import argparse
import sys

from triphase.history_output import add_question, formatted

OVERVIEW = (
    "kernel",
    "environment",
    "runs",
    "first",
    "last",
    "newest_median_s",
    "last_change_percent",
)
RUNS = (
    "kernel",
    "environment",
    "time",
    "commit",
    "label",
    "median_s",
    "ci95_low_s",
    "ci95_high_s",
    "status",
)


configure = add_question


def run(options: argparse.Namespace) -> int:
    from triphase import history_query as query
    from triphase.history_db import reading

    with reading(options.db) as connection:
        if options.kernel is None:
            rows = query.overview(connection)
        else:
            rows = query.history(connection, query.chosen_series(connection, options.kernel))
    columns = OVERVIEW if options.kernel is None else RUNS
    sys.stdout.write(formatted(rows, options.format, columns))
    return 0
