# SPDX-License-Identifier: Apache-2.0
"""Prints rows of a history: a table for eyes, JSON or CSV for programs. Asks nothing.

In a table durations carry a fitting unit; in JSON and CSV they are seconds in full precision, and
what is not known is null, or an empty field.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from triphase.history_db import default_place
from triphase.prose import printable

FORMATS = ("table", "json", "csv")
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def add_db(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db",
        default=default_place(),
        metavar="PLACE",
        help="the history: a file, or postgresql://user@host/name (default: %(default)s, as "
        "TRIPHASE_HISTORY and XDG_DATA_HOME say)",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=FORMATS, default="table")


def add_kernel(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    parser.add_argument(
        "--kernel",
        metavar="PATTERN",
        required=required,
        help="a kernel's name, or a shell pattern for whole names: '*conv1/forward*'",
    )


def add_question(parser: argparse.ArgumentParser) -> None:
    """Of which kernels, in which form, from where."""
    add_kernel(parser)
    add_format(parser)
    add_db(parser)


def formatted(rows: Sequence[dict[str, Any]], form: str, columns: Sequence[str]) -> str:
    """The rows as text that ends with a newline. columns: those of a table, and their order."""
    if form == "json":
        return json.dumps(rows, indent=1, allow_nan=False) + "\n"
    if form == "csv":
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return text.getvalue()
    cells = [[column.removesuffix("_s").replace("_", " ") for column in columns]]
    cells += [[_cell(column, row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            text.rjust(width) if _is_number(column) else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Four digits and a unit: 0.0123456 is '12.35 ms'."""
    unit, size = next((u for u in UNITS if seconds >= u[1]), UNITS[-1])
    return f"{seconds / size:.4g} {unit}"


def _is_number(column: str) -> bool:
    return column.endswith(("_s", "percent")) or column in ("runs", "samples")


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if column.endswith("_s"):
        return duration(value)
    if column.endswith("percent"):
        return f"{value:+.1f} %"
    if column in ("time", "first", "last", "clear_since"):
        return value[:16].replace("T", " ")
    return printable(value[:12] if "commit" in column else str(value))
