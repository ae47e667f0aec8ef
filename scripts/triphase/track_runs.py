# SPDX-License-Identifier: Apache-2.0
"""Reads a results file: Google Benchmark's JSON (ours is that), NVBench's, benchdnn's CSV.

    read_run(path) -> Run, with its KernelRows

What cannot be read is BadInput: one line with the file, what was expected and what was found. What
can be read but holds no time (an error, a NaN, a zero) is a row that says so, and is never dropped.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from triphase import track_foreign
from triphase.prose import printable
from triphase.statuses import RAN, STATUSES
from triphase.track_errors import BadInput
from triphase.track_rows import KernelRow, Run, bad_time, merge

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
AGGREGATE = re.compile(r"_(mean|median|stddev|cv|min|max|BigO|RMS)$")
SCHEMA = 1  # of our own files, the newest that is understood
MOST = int(sys.float_info.max)
FORMATS = "Google Benchmark's JSON, NVBench's JSON or benchdnn's CSV"
NO_REASON = "its program gave no reason"
TYPES = {str: "text", float: "a number", dict: "an object", list: "an array"}


def read_run(path: Path) -> Run:
    """The kernels of a file; BadInput if it is missing, cut short, foreign or without any row."""
    path = Path(path)
    try:
        content = path.read_bytes()  # once: it may be a pipe
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: expected {FORMATS}, found no UTF-8 text") from error
    if not text.strip():
        raise BadInput(f"{path}: expected {FORMATS}, found an empty file")
    run = _read_json(path, text) if text.lstrip()[0] in "{[" else track_foreign.csv_run(path, text)
    if not run.rows:
        raise BadInput(f"{path}: expected kernels, found none")
    for row in run.rows:
        if not row.name.isprintable():
            raise BadInput(f"{path}: expected names of printable characters, found {row.name!r}")
    return replace(run, content_hash=hashlib.sha256(content).hexdigest())


def _read_json(path: Path, text: str) -> Run:
    try:
        document = json.loads(text)  # NaN and Infinity pass: Google Benchmark itself writes them
    except RecursionError as error:
        raise BadInput(
            f"{path}: expected {FORMATS}, found JSON that is nested too deeply"
        ) from error
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path}: expected whole JSON, found: {error.msg} at line {error.lineno}, "
            f"column {error.colno}"
        ) from error
    except ValueError as error:  # an integer of thousands of digits
        raise BadInput(
            f"{path}: expected numbers below 2^1024, found one of thousands of digits"
        ) from error
    benchmarks = document.get("benchmarks") if isinstance(document, dict) else None
    if not isinstance(benchmarks, list):
        raise BadInput(f"{path}: expected {FORMATS}, found JSON without an array 'benchmarks'")
    if track_foreign.is_nvbench(document):
        return track_foreign.nvbench_run(path, document)
    context = document.get("context", {})
    if not isinstance(context, dict):
        raise BadInput(f"{path}: context: expected an object, found {_found(context)}")
    ours = context.get("triphase")
    schema = ours.get("schema") if isinstance(ours, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise BadInput(
            f"{path}: context.triphase.schema: expected {SCHEMA}, found {schema}: use the triphase "
            "that wrote it, or a newer one"
        )
    return Run(context, _google_rows(path, benchmarks))


def _google_rows(path: Path, benchmarks: list[Any]) -> list[KernelRow]:
    """Iterations, merged over repetitions; an aggregate counts where its iterations are absent."""
    iterations: list[KernelRow] = []
    aggregates: dict[str, dict[str, KernelRow]] = {}
    families: dict[str, Any] = {}
    names = {str(row.get("name")) for row in benchmarks if isinstance(row, dict)}
    for index, row in enumerate(benchmarks):
        where = f"{path}: benchmarks[{index}]"
        if not isinstance(row, dict):
            raise BadInput(f"{where}: expected an object, found {_found(row)}")
        name = _entry(where, row, "name", str)
        if not name:
            raise BadInput(f"{where}.name: expected text, found nothing")
        if (aggregate := _aggregate(row, name, names)) is not None:
            kind, of = aggregate
            if kind in ("median", "mean"):
                aggregates.setdefault(of, {})[kind] = _google_row(where, row, of)
            continue
        family = row.get("family_index")
        if families.setdefault(name, family) != family:
            raise BadInput(f"{where}.name: expected names that differ, found '{name}' twice")
        iterations.append(_google_row(where, row, name))
    rows = merge(iterations)
    known = {row.name for row in rows}
    return rows + [
        kinds.get("median", next(iter(kinds.values())))
        for of, kinds in aggregates.items()
        if of not in known
    ]


def _aggregate(row: dict[str, Any], name: str, names: set[str]) -> tuple[str, str] | None:
    """(mean, of which row), where this is a statistic over repetitions; else None.

    Files from before Google Benchmark 1.5 have no run_type: there, a name that ends like a
    statistic is one if the row that it would be of is in the file, or three such statistics are.
    """
    match = AGGREGATE.search(name)
    if "run_type" in row:
        if row["run_type"] != "aggregate":
            return None
        kind = row.get("aggregate_name") or (match[1] if match else "")
        return str(kind), str(row.get("run_name", name.removesuffix(f"_{kind}")))
    if match is None:
        return None
    of = name[: match.start()]
    three = {f"{of}_mean", f"{of}_median", f"{of}_stddev"}
    return (match[1], of) if of in names or three <= names else None


def _google_row(where: str, row: dict[str, Any], name: str) -> KernelRow:
    unit = row.get("time_unit", "ns")
    if not isinstance(unit, str) or unit not in SECONDS:
        raise BadInput(f"{where}.time_unit: expected one of {', '.join(SECONDS)}, found {unit!r}")
    known = ("name", "time_unit", "samples_s", "status", "reason")
    extra = {key: value for key, value in row.items() if key not in known}
    status, reason = _status(where, row)
    if status not in RAN:
        return KernelRow(name, unit, None, [], status, reason, extra)
    value = _entry(where, row, "median_s" if "median_s" in row else "real_time", float)
    value *= 1.0 if "median_s" in row else SECONDS[unit]
    samples = _entry(where, row, "samples_s", list) if "samples_s" in row else [value]
    for at, sample in enumerate(samples):
        _check(f"{where}.samples_s[{at}]", sample, float)
    for seconds in (value, *samples):
        if (wrong := bad_time(seconds)) is not None:
            return KernelRow(name, unit, None, [], "failed", wrong, extra)
    samples = [float(sample) for sample in samples]
    return KernelRow(name, unit, float(value), samples, status, reason, extra)


def _status(where: str, row: dict[str, Any]) -> tuple[str, str | None]:
    """As triphase says it, or as Google Benchmark does; with the reason."""
    if row.get("error_occurred") is True and "status" not in row:
        return "failed", printable(str(row.get("error_message") or NO_REASON))
    if row.get("skipped") is True and "status" not in row:
        return "skipped", printable(str(row.get("skip_message") or NO_REASON))
    status = row.get("status", "ok")
    if status not in STATUSES:
        raise BadInput(f"{where}.status: expected one of {', '.join(STATUSES)}, found {status!r}")
    if "fused_into" in row and "median_s" not in row:
        return "skipped", printable(f"computed within {row['fused_into']}")
    reason = row.get("reason") or row.get("error_message")
    return status, printable(str(reason)) if reason else None


def _entry(where: str, row: dict[str, Any], key: str, kind: type) -> Any:
    if key not in row:
        raise BadInput(f"{where}.{key}: expected {TYPES[kind]}, found nothing")
    return _check(f"{where}.{key}", row[key], kind)


def _check(where: str, value: Any, kind: type) -> Any:
    right = type(value) in (int, float) if kind is float else isinstance(value, kind)
    if not right:
        raise BadInput(f"{where}: expected {TYPES[kind]}, found {_found(value)}")
    if kind is float and isinstance(value, int) and abs(value) > MOST:
        raise BadInput(f"{where}: expected a number below 2^1024, found {_found(value)}")
    return value


def _found(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
