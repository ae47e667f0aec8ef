# SPDX-License-Identifier: Apache-2.0
"""How long do a history's questions take among a million points?

    python -m triphase.history_speed [KERNELS] [RUNS]      by default 1000 kernels in 1000 runs

Makes a history of noise in a temporary folder (a minute, 300 MB), asks each question as a user
would, in a process of its own, and prints a line for each: seconds of the process, and of the work
alone, in a process that runs already.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from triphase import history_query as query
from triphase import history_store, history_tables
from triphase.history_calibration import stored_limit, to_json
from triphase.history_db import reading, writing
from triphase.history_runs import environment_of, microseconds, pack, read

SAMPLES = 20
START = datetime(2024, 1, 1, tzinfo=UTC)
CONTEXT = {"host_name": "host", "num_cpus": 2, "mhz_per_cpu": 2000, "library_build_type": "release"}


def main(argv: list[str]) -> int:
    kernels, runs = (int(word) for word in (argv + ["1000", "1000"][len(argv) :])[:2])
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "history.db")
        fill(place, kernels, runs, generator)
        size = Path(place).stat().st_size / 1e6
        print(f"{kernels * runs} points of {kernels} kernels, {size:.0f} MB")
        for words in (["history"], ["changes"]):
            for chosen in (["--kernel", kernel_name(kernels // 2)], []):
                process = timed(lambda w=words + chosen: track(place, *w))
                work = timed(lambda w=words, c=chosen: asked(place, w, c))
                print(f"{' '.join(words + chosen):60}{process:6.2f} s, work {work:6.3f} s")
        paths = [Path(folder) / f"run{i}.json" for i in range(2)]
        for i, path in enumerate(paths):
            path.write_text(json.dumps(document(runs + i, kernels, generator)))
        process = timed(lambda: track(place, "add", str(paths[0])))
        work = timed(lambda: add(place, paths[1]))
        print(f"{'add':60}{process:6.2f} s, work {work:6.3f} s")
    return 0


def asked(place: str, words: list[str], chosen: list[str]) -> None:
    with reading(place) as connection:
        ids = query.chosen_series(connection, chosen[1] if chosen else None)
        if words == ["changes"]:
            query.changes_of(connection, ids)
        elif chosen:
            query.history(connection, ids)
        else:
            query.overview(connection)


def add(place: str, path: Path) -> None:
    run = read(path, None, None, None)
    with writing(place, make=True) as connection:
        history_store.add(connection, [run])


def timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def track(place: str, *words: str) -> None:
    command = [sys.executable, "-m", "triphase.track", *words, "--db", place]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


def kernel_name(i: int) -> str:
    return f"Net/batch:64/layer:fc{i}/forward/real_time"


def document(run: int, kernels: int, generator: np.random.Generator) -> dict[str, Any]:
    """A results file of Google Benchmark's form, with samples."""
    times = 1e-3 * np.exp(0.01 * generator.standard_normal((kernels, SAMPLES)))
    return {
        "context": {**CONTEXT, "date": (START + timedelta(hours=run)).isoformat()},
        "benchmarks": [
            {
                "name": kernel_name(i),
                "run_type": "iteration",
                "time_unit": "ns",
                "real_time": float(np.median(row)) * 1e9,
                "median_s": float(np.median(row)),
                "ci95_low_s": float(row.min()),
                "ci95_high_s": float(row.max()),
                "samples_s": row.tolist(),
            }
            for i, row in enumerate(times)
        ],
    }


def fill(place: str, kernels: int, runs: int, generator: np.random.Generator) -> None:
    """A history of noise, written at once; each tenth kernel has a change."""
    environment = environment_of(CONTEXT)
    table = history_tables
    with writing(place, make=True) as connection:
        connection.execute(
            insert(table.environments).values(
                id=1,
                fingerprint=environment.fingerprint,
                description=environment.description,
                calibration=to_json(stored_limit()),
                calibrated_on="AR(1) noise",
            )
        )
        series = [
            {"id": i, "name": kernel_name(i), "unit": "ns", "environment_id": 1}
            for i in range(kernels)
        ]
        connection.execute(insert(table.series), series)
        times = [microseconds((START + timedelta(hours=r)).isoformat(), "") for r in range(runs)]
        for run, at in enumerate(times):
            connection.execute(
                insert(table.runs),
                [{"id": run, "content_hash": f"{run:064x}", "environment_id": 1, "time": at}],
            )
            medians = (1e-3 * np.exp(0.01 * generator.standard_normal(kernels))).tolist()
            connection.execute(
                insert(table.points),
                [
                    {
                        "series_id": i,
                        "time": at,
                        "run_id": run,
                        "status": "ok",
                        "median_s": median,
                        "low_s": 0.99 * median,
                        "high_s": 1.01 * median,
                        "sample_count": SAMPLES,
                    }
                    for i, median in enumerate(medians)
                ],
            )
            connection.execute(
                insert(table.samples),
                [
                    {"series_id": i, "run_id": run, "samples_s": pack([median] * SAMPLES)}
                    for i, median in enumerate(medians)
                ],
            )
        run = runs // 2
        change = {"time": times[run], "run_id": run, "found_time": times[run], "found_run_id": run}
        levels = {"before_s": 1e-3, "after_s": 1.1e-3}
        size = {"ratio": 1.1, "ratio_low": 1.09, "ratio_high": 1.11}
        connection.execute(
            insert(table.changes),
            [{"series_id": i, **change, **levels, **size} for i in range(0, kernels, 10)],
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
