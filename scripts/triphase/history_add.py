# SPDX-License-Identifier: Apache-2.0
"""Adds runs to the history, and finds what changed.

All files are read before anything is written, and written in one step: where one is refused, none
is added. A file that is there already, to the byte, is left alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triphase.history_output import add_db


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="results files")
    parser.add_argument("--commit", help="of the code that ran (default: as the file says)")
    parser.add_argument(
        "--label", help="a word for it, such as a branch (default: as the file says)"
    )
    parser.add_argument(
        "--machine", type=named, metavar="NAME",
        help="where it ran (default: as the file says; a container's name is new each time)",
    )  # fmt: skip
    parser.add_argument("--time", help="when it ran, ISO 8601 (default: the file's date)")
    add_db(parser)


def named(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a machine's name, found nothing")
    return text


def run(options: argparse.Namespace) -> int:
    from triphase import history_runs, history_store
    from triphase.history_db import writing
    from triphase.track_errors import BadInput

    read = [
        (
            path,
            history_runs.read(path, options.time, options.commit, options.label, options.machine),
        )
        for path in options.runs
    ]
    for path, run in read:
        if all(point.median_s is None for point in run.points):
            raise BadInput(f"{path}: expected a kernel with a time, found none among its rows")
    with writing(options.db, make=True) as connection:
        added = history_store.add(connection, [run for _, run in read])
        found = history_store.changes_clear_at(connection, added.runs)
    new = set(added.runs)
    for path, run in read:
        if run.id in new:
            new.discard(run.id)  # the same content may be named twice
            print(f"{path}: added, {len(run.points)} kernels, {history_runs.iso_time(run.time)}")
            if run.disturbed:
                print(
                    f"{path}: the machine was busy while {run.disturbed} of them were measured; "
                    "scripts/track remove takes a run out again"
                )
        else:
            print(f"{path}: is in the history already, nothing changed")
    for environment in added.environments:
        print(f"series begin in environment {environment.fingerprint}: {environment.description}")
    for kernel, ratio in found:
        print(f"changed: {kernel}: {100 * (ratio - 1):+.1f} %")
    return 0
