# SPDX-License-Identifier: Apache-2.0
"""A run of scripts/peers: its rounds, what they measured so far, and the files made of that.

Every process's rows are kept; steps.json, peers.json, peers.md and the plot are functions of them.
steps.json is written after each round, so that whatever ends a run leaves what was measured.
"""

from __future__ import annotations

import contextlib
import copy
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triphase import peers_plot, peers_summary
from triphase.charts import save
from triphase.files import write_atomic
from triphase.peers_processes import Starter
from triphase.peers_rows import PHASES, Row, merge, not_run_rows
from triphase.peers_schedule import (
    ALONE,
    GPU,
    Backend,
    Case,
    Device,
    Key,
    order,
    plan,
    suits,
    takes_part,
)

GUESS_S = 6.0  # that a process takes beside its sampling, until one has been seen
NOT_REACHED = "the run ended before its turn; --minutes gives more time"


@dataclass
class Run:
    """What has been measured so far; only ever added to."""

    device: Device
    cases: list[Case]
    backends: list[Backend]
    threads: int
    settings: dict[str, Any]  # of the command line, for the record
    versions: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] | None = None
    rows: dict[tuple[Key, str], dict[int, list[Row]]] = field(default_factory=dict)
    complete: bool = False

    @property
    def rounds(self) -> int:
        return self.settings["rounds"]

    def of(self, case: Case, backend: Backend) -> dict[int, list[Row]]:
        return self.rows.setdefault((case.key, backend.name), {})

    def ended(self, case: Case, backend: Backend) -> tuple[str, str] | None:
        """Why this way is not tried again: it was skipped or failed."""
        for rows in self.of(case, backend).values():
            for row in rows:
                if row["status"] in ("skipped", "failed"):
                    return row["status"], row["reason"]
        return None

    def steps_document(self) -> dict[str, Any]:
        """steps.json: every case and backend, whatever happened."""
        rows: list[Row] = []
        for case in self.cases:
            for backend in [self.device.ours, *(b for b in self.backends if suits(b, case))]:
                processes = [p for _, p in sorted(self.of(case, backend).items())]
                rows += merge(processes) or not_run_rows(
                    case, backend, self.threads, "skipped", NOT_REACHED
                )
        for index, row in enumerate(rows):
            row["family_index"], row["per_family_instance_index"] = index, 0
        context = copy.deepcopy(self.context) | {"executable": "scripts/peers"}
        context["triphase"]["versions"] |= self.versions
        context["triphase"].setdefault("settings", {})["peers"] = self.settings
        return {"context": context, "benchmarks": rows}

    def peers_document(self) -> dict[str, Any]:
        """peers.json: ratios, the fastest, and means over the cases."""
        assert self.context is not None
        cases = []
        for case in self.cases:
            here = [b for b in self.backends if b is not ALONE and suits(b, case)]
            seconds, not_run = {}, {}
            for backend in [self.device.ours, *here]:
                if ended := self.ended(case, backend):
                    not_run[backend.name] = ended
                elif by_round := self.of(case, backend):
                    seconds[backend.name] = {r: medians(rows) for r, rows in by_round.items()}
                else:
                    not_run[backend.name] = ("skipped", NOT_REACHED)
            built = peers_summary.build_case(
                case.identity, seconds, not_run, here, self.device.ours
            )
            if ALONE in self.backends:
                alone, ours = self.of(case, ALONE), self.of(case, self.device.ours)
                built |= peers_summary.layers_alone(alone, ours, self.ended(case, ALONE))
            cases.append(built)
        environment = self.context["triphase"]["environment"]
        switches = self.involuntary_switches_per_s()
        return {
            "schema": 1,
            "date": self.context["date"],
            "machine": self.gpu or environment.get("cpu") or self.context["host_name"],
            "device": self.device.name,
            "environment": environment["fingerprint"],
            "threads": self.threads,
            "versions": self.context["triphase"]["versions"] | self.versions,
            "settings": self.settings,
            "complete": self.complete,
            "backends": [
                {"name": b.name, "about": b.about} for b in [self.device.ours, *self.backends]
            ],
            "notes": list(self.device.notes),
            "cases": cases,
            "means": peers_summary.means(cases),
        } | ({} if switches is None else {"involuntary_switches_per_s": switches})

    @property
    def gpu(self) -> str | None:
        """The GPU's name, where steps run on one that either side has found."""
        if self.device is not GPU or self.context is None:
            return None
        return self.versions.get("torch_gpu") or self.context["triphase"]["versions"].get("gpu")

    def involuntary_switches_per_s(self) -> float | None:
        """How often other programs took a processor away: the median over all processes."""
        key = "involuntary_switches_per_s"
        processes = (rows for by_round in self.rows.values() for rows in by_round.values())
        found = [row[key] for rows in processes for row in rows if key in row]
        return statistics.median(found) if found else None


def medians(rows: list[Row]) -> dict[str, float]:
    """Of one process, by phase of the whole network."""
    return {
        row["phase"]: row["median_s"]
        for row in rows
        if row["phase"] in PHASES and "layer" not in row and row.get("median_s")
    }


def skip_peers(run: Run, reason: str) -> None:
    """No PyTorch can run at all."""
    for case in run.cases:
        for backend in run.backends:
            if backend is not ALONE and suits(backend, case):
                rows = not_run_rows(case, backend, run.threads, "skipped", reason)
                run.of(case, backend)[0] = rows


# ---- measuring


def run_round(
    run: Run, starter: Starter, case: Case, spec: str, round_: int, process_s: dict
) -> None:
    """One process for each way that still takes part; a line says what came of it."""
    here = [b for b in run.backends if suits(b, case) and takes_part(b, round_, run.rounds)]
    found: dict[str, list[Row]] = {}
    for backend in order([run.device.ours, *here], round_):
        if run.ended(case, backend):
            continue
        begin = time.monotonic()
        if backend is run.device.ours:
            rows, context = starter.ours(case, spec, verify=round_ == 0)
            run.context = run.context or context
        elif backend is ALONE:
            rows = starter.alone(case, spec)
        else:
            rows = starter.peer(case, spec, backend)
        run.of(case, backend)[round_] = found[backend.name] = rows
        process_s[case.key, backend.name] = time.monotonic() - begin
    print(
        "  " + "; ".join(line(run, name, rows, found) for name, rows in found.items()), flush=True
    )


def line(run: Run, name: str, rows: list[Row], found: dict[str, list[Row]]) -> str:
    """One process in words: its step, and that over ours."""
    step = medians(rows).get("step")
    if name == ALONE.name and any("layer" in row for row in rows):
        return f"{name} {len(rows)} calls"
    if step is None:
        return f"{name} {rows[0]['status']}: {rows[0].get('reason', 'no times')}"
    ours = medians(found.get(run.device.ours.name, [])).get("step")
    over = f" ({step / ours:.2f})" if ours and name != run.device.ours.name else ""
    return f"{name} {peers_summary.seconds_text(step)}{over}"


def round_cost(run: Run, case: Case, round_: int, process_s: dict, seconds: float) -> float:
    """How long the case's next round takes, by what its processes took."""
    here = [b for b in run.backends if suits(b, case) and takes_part(b, round_, run.rounds)]
    return sum(
        process_s.get((case.key, b.name), seconds + GUESS_S * (4 if b.compiled else 1))
        for b in [run.device.ours, *here]
        if not run.ended(case, b)
    )


def measure(run: Run, starter: Starter, specs: dict[Key, str], out: Path) -> None:
    """Rounds until all are done or no further one ends in time; writes after each."""
    begin = time.monotonic()
    done = {case.key: 0 for case in run.cases}
    by_key = {case.key: case for case in run.cases}
    process_s: dict[tuple[Key, str], float] = {}
    while True:
        left_s = 60 * run.settings["minutes"] - (time.monotonic() - begin)
        cost = {
            key: round_cost(run, by_key[key], done[key], process_s, starter.seconds) for key in done
        }
        going = {k: n for k, n in done.items() if cost[k] > 0}
        todo = plan(going, cost, left_s, run.rounds)
        if not todo:
            break
        key = todo[0]
        expected = sum(cost[k] for k in todo)
        print(
            f"[about {max(1, round(expected / 60))} min left] {by_key[key]}, round {done[key] + 1}"
        )
        run_round(run, starter, by_key[key], specs[key], done[key], process_s)
        done[key] += 1
        write_steps(run, out)
    run.complete = True


def write_steps(run: Run, out: Path) -> None:
    if run.context is not None:
        write_atomic(out / "steps.json", json.dumps(run.steps_document()) + "\n")


def write_summary(run: Run, out: Path) -> list[Path]:
    """peers.json, peers.md and the plot, where there is something to compare."""
    document = run.peers_document()
    written = [
        write_atomic(out / "peers.json", json.dumps(document, indent=1) + "\n"),
        write_atomic(out / "peers.md", peers_summary.markdown(document)),
    ]
    with contextlib.suppress(peers_plot.NothingToPlot):
        written += save(peers_plot.build(document), out / "peers")
    return written
