# SPDX-License-Identifier: Apache-2.0
"""A history in the formats of other programs: rows in, the content of a file out.

github-action-benchmark and Bencher keep histories of their own, a run at a time: they get the
newest run. Otava wants a table without gaps: it gets those runs of the newest run's environment
that have all of the kernels. Parquet holds everything.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select

from triphase.history_query import points_of
from triphase.history_runs import iso_time, unpack
from triphase.history_tables import points, samples
from triphase.track_errors import BadInput

Row = dict[str, Any]


def rows(connection: Connection, chosen: Select | None, run: int | None = None) -> list[Row]:
    """Points with their samples, in the order of `history`: all, or those of a run."""
    statement = (
        points_of(chosen)
        .add_columns(samples.c.samples_s)
        .outerjoin(
            samples,
            (samples.c.series_id == points.c.series_id) & (samples.c.run_id == points.c.run_id),
        )
    )
    if run is not None:
        statement = statement.where(points.c.run_id == run)
    return [
        {
            "kernel": row.name,
            "unit": row.unit,
            "environment": row.fingerprint,
            "run": row.run_id,
            "time": row.time,
            "commit": row.commit_id,
            "label": row.label,
            "status": row.status,
            "reason": row.reason,
            "median_s": row.median_s,
            "ci95_low_s": row.low_s,
            "ci95_high_s": row.high_s,
            "sample_count": row.sample_count,
            "samples_s": unpack(row.samples_s or b""),
        }
        for row in connection.execute(statement)
    ]


def github_action_benchmark(rows: list[Row]) -> str:
    """Its tool 'customSmallerIsBetter': name, unit, value, and text for range and extra."""
    entries = []
    for row in _timed(rows):
        entry = {"name": row["kernel"], "unit": "s", "value": row["median_s"]}
        if row["ci95_low_s"] is not None:
            entry["range"] = f"{row['ci95_low_s']:.6g} to {row['ci95_high_s']:.6g}"
        entry["extra"] = f"{row['sample_count']} samples, environment {row['environment']}"
        entries.append(entry)
    return json.dumps(entries, indent=1, allow_nan=False) + "\n"


def bencher(rows: list[Row]) -> str:
    """Bencher Metric Format: kernel, measure, and its value with bounds; latency is in ns there."""
    metrics = {}
    for row in _timed(rows):
        metric = {"value": row["median_s"] * 1e9}
        if row["ci95_low_s"] is not None:
            metric["lower_value"] = row["ci95_low_s"] * 1e9
            metric["upper_value"] = row["ci95_high_s"] * 1e9
        metrics[row["kernel"]] = {"latency": metric}
    return json.dumps(metrics, indent=1, allow_nan=False) + "\n"


def otava_csv(rows: list[Row]) -> tuple[str, int]:
    """Columns time, commit and one for each kernel, in seconds; and how many runs were left out."""
    timed = _timed(rows)
    environment = max(timed, key=lambda row: (row["time"], row["run"]))["environment"]
    runs: dict[tuple[int, int], Row] = {}
    for row in timed:
        run = runs.setdefault((row["time"], row["run"]), {"commit": row["commit"] or ""})
        if row["environment"] == environment:
            run[f"kernel {row['kernel']}"] = row["median_s"]
    columns = sorted({key for run in runs.values() for key in run} - {"commit"})
    whole = {key: run for key, run in sorted(runs.items()) if len(run) == len(columns) + 1}
    if not whole:
        raise BadInput(
            "otava-csv: expected a run that has all of the kernels, found none: choose by --kernel"
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time", "commit", *(column.removeprefix("kernel ") for column in columns)])
    for (time, _), run in whole.items():
        writer.writerow([iso_time(time), run["commit"], *(repr(run[c]) for c in columns)])
    return text.getvalue(), len(runs) - len(whole)


def _timed(rows: list[Row]) -> list[Row]:
    """The rows with a time; BadInput where there is none."""
    timed = [row for row in rows if row["median_s"] is not None]
    if not timed:
        raise BadInput("--kernel: expected kernels with a time, found none")
    return timed


def otava_config(path: Path, table: str) -> str:
    """What Otava is to know of such a file; YAML, of which JSON is a part."""
    kernels = next(csv.reader(io.StringIO(table)))[2:]
    metrics = {k: {"column": k, "direction": -1, "scale": 1} for k in kernels}
    test = {
        "type": "csv",
        "file": str(path.resolve()),
        "time_column": "time",
        "attributes": ["commit"],
        "metrics": metrics,
        "csv_options": {"delimiter": ",", "quotechar": '"'},
    }
    return json.dumps({"tests": {"history": test}}, indent=1) + "\n"


def parquet(rows: list[Row]) -> bytes:
    """Every point; time is a UTC time stamp in microseconds, samples_s a list."""
    import polars as pl

    if not rows:
        raise BadInput("--kernel: expected runs in the history, found none")
    text, number = pl.String, pl.Float64
    schema = {
        **dict.fromkeys(rows[0], text),
        **dict.fromkeys(("median_s", "ci95_low_s", "ci95_high_s"), number),
        **dict.fromkeys(("run", "sample_count"), pl.Int64),
        "time": pl.Datetime("us", "UTC"),
        "samples_s": pl.List(number),
    }
    content = io.BytesIO()
    pl.DataFrame(rows, schema=schema).write_parquet(content)
    return content.getvalue()
