# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands of scripts/track share, and how their values are read."""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path

from triphase import gate
from triphase.track_errors import BadInput

# Each kernel in five turns spread over the process, so that a slow moment of the machine, which
# lasts longer than a turn, cannot have one kernel to itself.
TURNS = {
    "triphase_kernels": (
        "--benchmark_repetitions=5",
        "--benchmark_enable_random_interleaving=true",
        "--time_per_kernel=0.006",
    )
}
SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def duration(text: str) -> float:
    """Seconds of 90, 90s, 2m or 1h."""
    match = re.fullmatch(r"([0-9.]+)\s*(s|m|min|h|)", text.strip())
    try:
        seconds = float(match[1]) * SECONDS[match[2]] if match else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < 1e7:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 2m or 1h, found '{text}'")
    return seconds


def percent(text: str) -> float:
    """0.02 of 2 or 2%."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(
            f"expected percent above 0 and below 100, such as 2, found '{text}'"
        )
    return value / 100


def whole(least: int) -> type:
    def number(text: str) -> int:
        value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
        if value < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of {least} or more, found '{text}'"
            )
        return value

    return number  # type: ignore[return-value]


def add_binaries(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", type=program, required=True, metavar="BINARY")
    parser.add_argument("--new", type=program, required=True, metavar="BINARY")


def add_floor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--floor", type=percent, default=gate.FLOOR, metavar="PERCENT",
        help="changes up to this are the same (default: 2)",
    )  # fmt: skip


def add_budget(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--budget", type=duration, default=duration(default), metavar="TIME",
        help=f"time for measuring, such as 90s or 5m (default: {default})",
    )  # fmt: skip


def add_noise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--noise", type=Path, metavar="FILE",
        help="the machine's noise as calibrate wrote it (default: what it stored of this machine)",
    )  # fmt: skip


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=("table", "json", "markdown"), default="table",
        help="of what is printed (default: table)",
    )  # fmt: skip


def program(text: str) -> str:
    """A file that can be run."""
    if not Path(text).is_file() or not os.access(text, os.X_OK):
        raise argparse.ArgumentTypeError(f"expected a program, found none at '{text}'")
    return str(Path(text).resolve())


def command(program: str, flags: list[str]) -> list[str]:
    """What is started: the program with the flags given, or with its TURNS where none are."""
    return [program, *(flags or TURNS.get(Path(program).name, ()))]


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """What is started for each of add_binaries."""
    return {side: command(getattr(options, side), options.flags) for side in ("base", "new")}


def check_writable(path: Path | None) -> None:
    """Before time is spent on what goes there."""
    if path is None:
        return
    folder = path.parent
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if path.is_dir() or not existing.is_dir() or not os.access(existing, os.W_OK):
        raise BadInput(f"--out: expected a file that can be written, found '{path}'")
