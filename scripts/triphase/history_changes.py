# SPDX-License-Identifier: Apache-2.0
"""Shows the change points of the history: at which run a kernel's level moved, and how far.

The first run after the change is named. percent is the step from the median before to the median
after, negative where it got faster, with its 95 % interval. Changes were found as runs were added.
"""

from __future__ import annotations

import argparse
import sys

from triphase.history_output import add_question, formatted

COLUMNS = (
    "kernel",
    "environment",
    "time",
    "commit",
    "from_s",
    "to_s",
    "percent",
    "ci95_low_percent",
    "ci95_high_percent",
    "clear_since",
)


configure = add_question


def run(options: argparse.Namespace) -> int:
    from triphase import history_query as query
    from triphase.history_db import reading
    from triphase.history_detect import MIN_RUNS

    with reading(options.db) as connection:
        chosen = query.chosen_series(connection, options.kernel)
        rows = query.changes_of(connection, chosen)
        most = query.most_runs(connection, chosen)
    if rows or options.format != "table":
        sys.stdout.write(formatted(rows, options.format, COLUMNS))
    elif most < MIN_RUNS:
        print(f"no change can be told: {MIN_RUNS} runs of a kernel are the fewest, found {most}")
    else:
        print("no change")
    return 0
