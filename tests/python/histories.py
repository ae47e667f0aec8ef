# SPDX-License-Identifier: Apache-2.0
"""Results files to make histories of: Google Benchmark's JSON with times that a test chooses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HOST = {"host_name": "host", "num_cpus": 2, "mhz_per_cpu": 2000, "library_build_type": "release"}
START = datetime(2026, 1, 1, tzinfo=UTC)


def document(day: int, times: dict[str, float | None], **context: Any) -> dict[str, Any]:
    """A file of the day with these medians in seconds; None is a kernel that did not run."""
    rows = []
    for name, seconds in times.items():
        row: dict[str, Any] = {"name": name, "run_type": "iteration", "time_unit": "ns"}
        if seconds is None:
            row |= {"error_occurred": True, "error_message": "no such device", "real_time": 0.0}
        else:
            row |= {
                "real_time": seconds * 1e9,
                "median_s": seconds,
                "ci95_low_s": seconds * 0.99,
                "ci95_high_s": seconds * 1.01,
                "samples_s": [seconds * 0.995, seconds, seconds * 1.005],
            }
        rows.append(row)
    date = (START + timedelta(days=day)).isoformat()
    return {"context": {"date": date, **HOST, **context}, "benchmarks": rows}


def write(folder: Path, day: int, times: dict[str, float | None], **context: Any) -> Path:
    path = folder / f"day{day:03d}.json"
    path.write_text(json.dumps(document(day, times, **context)))
    return path


def step(runs: int, at: int, before: float = 1e-3, after: float = 1.1e-3) -> list[float]:
    """Times that move by a half per cent around a level that moves at a run."""
    wobble = [1.0, 1.004, 0.997, 1.002, 0.995]
    return [(before if i < at else after) * wobble[i % 5] for i in range(runs)]
