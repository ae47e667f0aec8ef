# SPDX-License-Identifier: Apache-2.0
"""Sets the limit of change points by a history's own noise, and finds the changes anew.

Every environment begins with a limit for noise that is correlated more than most machines', so that
quiet machines see changes late. Here each environment's own noise takes its place: its series
around their levels; or, with --unchanged, runs that were recorded for it. They are resampled in
blocks. Takes minutes for an environment, and half a millisecond for a point.
"""

from __future__ import annotations

import argparse

from triphase.history_output import add_db


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate",
        type=float,
        default=0.05,
        help="the share of series without a change that may show one within 100 runs "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--unchanged",
        metavar="LABEL",
        help="take the noise from the runs with this label alone, which all ran the same code",
    )
    add_db(parser)


def run(options: argparse.Namespace) -> int:
    from triphase import history_noise
    from triphase.history_db import writing
    from triphase.track_errors import BadInput

    if not 0 < options.rate < 0.5:
        raise BadInput(f"--rate: expected a share between 0 and 0.5, found {options.rate:g}")
    with writing(options.db) as connection:
        for line in history_noise.recalibrate(connection, options.rate, options.unchanged):
            print(line)
    return 0
