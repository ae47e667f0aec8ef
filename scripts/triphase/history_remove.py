# SPDX-License-Identifier: Apache-2.0
"""Takes runs out of the history, as if they had never been added: those of a machine that was busy.

  scripts/track remove RUN.json...               the runs of these files
  scripts/track remove --time 2026-01-31T12:00Z  those of that minute (see 'history --kernel')
  scripts/track remove --label nightly           those with that label; --time narrows it

Changes are found anew from the first of them on. All are taken out in one step; where one is not
there, none is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triphase.history_output import add_db
from triphase.prose import printable


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN.json", help="results files")
    parser.add_argument(
        "--time", help="when they ran, ISO 8601: a day, a minute or a second, as it is written"
    )
    parser.add_argument("--label", help="the word that they were added with")
    add_db(parser)


def run(options: argparse.Namespace) -> int:
    from triphase import history_query, history_runs, history_store
    from triphase.history_db import writing
    from triphase.track_errors import BadInput

    if not options.runs and options.time is None and options.label is None:
        raise BadInput("remove: expected results files, --time or --label, found none of them")
    if options.runs and (options.time is not None or options.label is not None):
        raise BadInput("remove: expected results files or --time and --label, found both")
    ids = {history_runs.id_of(path): path for path in options.runs}
    span = None if options.time is None else history_runs.span(options.time, "--time")
    with writing(options.db) as connection:
        chosen = history_query.runs_of(connection, set(ids), span, options.label)
        found = {row.id for row in chosen}
        for id_, path in ids.items():
            if id_ not in found:
                raise BadInput(f"{path}: expected a run of the history, found none of its content")
        if not chosen:
            asked = f"--time {options.time}" if options.time is not None else ""
            asked += f" --label {options.label}" if options.label is not None else ""
            raise BadInput(f"{asked.strip()}: expected a run of the history, found none")
        history_store.remove(connection, found)
    for row in chosen:
        label = f", {printable(row.label)}" if row.label else ""
        print(f"removed: the run of {history_runs.iso_time(row.time)}{label}")
    return 0
