# SPDX-License-Identifier: Apache-2.0
"""Writes the history for other programs.

github-action-benchmark   customSmallerIsBetter JSON, of the newest run
bencher                   Bencher Metric Format JSON, of the newest run, latency in nanoseconds
otava-csv                 a column for each kernel, with FILE.yaml, by which Apache Otava reads it
parquet                   every run of every kernel, samples too, for Polars, pandas and DuckDB
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triphase.history_output import add_db, add_kernel

FORMATS = ("github-action-benchmark", "bencher", "otava-csv", "parquet")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    add_kernel(parser)
    add_db(parser)


def run(options: argparse.Namespace) -> int:
    from triphase import history_formats as formats
    from triphase import history_query as query
    from triphase.files import write_atomic
    from triphase.history_db import reading

    with reading(options.db) as connection:
        of_one_run = options.to in ("github-action-benchmark", "bencher")
        rows = formats.rows(
            connection,
            query.chosen_series(connection, options.kernel),
            query.newest_run(connection) if of_one_run else None,
        )
    if options.to == "parquet":
        files = {options.out: formats.parquet(rows)}
    elif options.to == "otava-csv":
        table, dropped = formats.otava_csv(rows)
        if dropped:
            print(f"left out: {dropped} runs of other environments or without all of the kernels")
        config = options.out.with_name(f"{options.out.name}.yaml")
        files = {options.out: table, config: formats.otava_config(options.out, table)}
    elif options.to == "bencher":
        files = {options.out: formats.bencher(rows)}
    else:
        files = {options.out: formats.github_action_benchmark(rows)}
    for path, content in files.items():
        print(write_atomic(path, content))
    return 0
