# SPDX-License-Identifier: Apache-2.0
"""How often do ab and other rules cry wolf, and which slowdowns do they see?

  scripts/track power [--pairs FILE] [--out DIR]

Draws runs from pairs of equal binaries that calibrate recorded; without a record, from made-up
noise: a slow autocorrelated drift that all kernels share, and noise of each kernel's own. Scales it
to several levels, slows one kernel down, and counts. Beside ab (its very code decides): Google
Benchmark's compare.py, thresholds on two files, and NVBench's rule (power_rules.py has them), with
9 fresh processes a side, one side after the other. Writes power.json, power.md and a plot.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triphase import charts, gate, gate_noise, plot_power
from triphase.files import write_atomic
from triphase.gate import Floats, Mask
from triphase.gate_calibration import equal_pairs
from triphase.gate_pairs import read_record
from triphase.gate_report import grid
from triphase.power_rules import REPETITIONS, RULES
from triphase.prose import percent
from triphase.track_arguments import add_floor, whole
from triphase.track_errors import BadInput

EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10)  # of one kernel; 0: nothing changed
DEVIATIONS = (0.005, 0.01, 0.02, 0.04)  # of a pair's log-ratio
BUDGETS_S = (120.0, 300.0)
GATES = {"ab": True, "ab, not calibrated": False}
DETECTION_SHARE = 4  # a rate of detection, near 1, needs fewer trials than one of false alarms
STARTUP_S = 0.1  # of a process: what it takes whatever it measures
ROUND = 4  # processes: base, new, new, base
LEAST_DEVIATION = 1e-12  # of a pair's log-ratio; below is rounding
SYNTHETIC = {"rounds": 250, "drift": 0.95, "shared": 0.3}
SEED = 1


@dataclass(frozen=True)
class Setting:
    """What a row of the result was drawn from. log_times: [processes, kernels], as they ran."""

    log_times: Floats
    process_s: float
    floor: float
    trials: int


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="what calibrate recorded")
    parser.add_argument(
        "--kernels", type=whole(2), default=40, metavar="N",
        help="of the made-up noise (default: 40)",
    )  # fmt: skip
    parser.add_argument(
        "--trials", type=whole(20), default=2000, metavar="N",
        help="runs where nothing has changed; a quarter of it for each slowdown (default: 2000)",
    )  # fmt: skip
    parser.add_argument(
        "--process-s", type=float, default=5.0, metavar="SECONDS",
        help="that one process takes (default: 5)",
    )  # fmt: skip
    add_floor(parser)
    parser.add_argument("--out", type=Path, default=Path("power"), metavar="DIR")


def run(options: argparse.Namespace) -> int:
    if not STARTUP_S < options.process_s < 1e5:
        raise BadInput(f"--process-s: expected more than {STARTUP_S}, found {options.process_s:g}")
    if options.pairs is not None:
        record = equal_pairs(read_record(options.pairs), options.pairs)
        log_times, source = record.log_times(), f"recorded pairs ({options.pairs.name})"
    else:
        log_times, source = synthetic(options.kernels), "made-up noise, an AR(1) drift"
    log_times = noisy(log_times)
    refuse_long(options.process_s, log_times.shape[1])
    setting = Setting(log_times, options.process_s, options.floor, options.trials)
    document = {
        "source": source,
        "processes": len(log_times),
        "kernels": log_times.shape[1],
        "process_s": options.process_s,
        "floor": options.floor,
        "rates": simulate(setting),
    }
    text, plot = markdown(document), plot_power.build(document)
    write_atomic(options.out / "power.json", json.dumps(document, indent=1) + "\n")
    write_atomic(options.out / "power.md", text)
    charts.save(plot, options.out / "power")
    print(text)
    print(f"wrote {options.out}/power.json, .md, .png, .svg and .html")
    return 0


def noisy(log_times: Floats) -> Floats:
    """Those kernels whose pairs differ at all, as no others can be scaled: [processes, kernels]."""
    varies = pairs_of(log_times).std(axis=0, ddof=1) > LEAST_DEVIATION
    if not varies.any():
        raise BadInput("--pairs: expected a kernel whose times differ, found none")
    if not varies.all():
        print(
            f"track: left out: {np.sum(~varies)} of {varies.size} kernels, "
            "whose times never differ",
            file=sys.stderr,
        )
    return log_times[:, varies]


def refuse_long(process_s: float, kernels: int) -> None:
    """BadInput where no budget has room for a first look."""
    most = gate.end_of(gate.SCREENING, max(BUDGETS_S)) / gate.least_pairs(kernels) / 2
    if process_s > most:
        raise BadInput(
            f"--process-s: expected at most {math.floor(10 * most) / 10:g}, so that "
            f"{max(BUDGETS_S):g} s have room for {gate.least_pairs(kernels)} pairs of {kernels} "
            f"kernels, found {process_s:g}"
        )


def synthetic(kernels: int) -> Floats:
    """Logarithms of times with AR(1) drift: [processes, kernels]; scaled later."""
    rng = np.random.default_rng(SEED)
    processes = ROUND * SYNTHETIC["rounds"]
    drift = np.zeros(processes)
    for at in range(1, processes):
        drift[at] = SYNTHETIC["drift"] * drift[at - 1] + SYNTHETIC["shared"] * rng.normal()
    return rng.normal(size=(processes, kernels)) + drift[:, None]


# ---- simulation


def simulate(setting: Setting) -> list[dict[str, Any]]:
    """Rates of all rules at all levels of noise, budgets and slowdowns; on all processors."""
    tasks = list(itertools.product(DEVIATIONS, (None, *BUDGETS_S)))
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = pool.map(_task, itertools.repeat(setting), *zip(*tasks, strict=True))
        return [row for part in parts for row in part]


def _task(setting: Setting, deviation: float, budget_s: float | None) -> list[dict[str, Any]]:
    """The rates of ab within a budget; of the other rules where there is none."""
    log_times = scaled(setting.log_times, deviation)
    if budget_s is None:
        return list(_rivals(setting, log_times, deviation))
    return list(_gates(setting, pairs_of(log_times), deviation, budget_s))


def pairs_of(log_times: Floats) -> Floats:
    """log(new / base) of processes that ran base, new, new, base: [pairs, kernels]."""
    whole_rounds = log_times[: len(log_times) // ROUND * ROUND]
    rounds = whole_rounds.reshape(-1, ROUND, log_times.shape[1])
    first, second = rounds[:, 1] - rounds[:, 0], rounds[:, 2] - rounds[:, 3]
    return np.stack([first, second], axis=1).reshape(-1, log_times.shape[1])


def scaled(log_times: Floats, deviation: float) -> Floats:
    """Each kernel's times about their mean, so that its pairs have this standard deviation."""
    centred = log_times - log_times.mean(axis=0)
    return centred * (deviation / pairs_of(centred).std(axis=0, ddof=1))


def slowdowns(trials: int, kernels: int, effect: float) -> tuple[Floats, np.ndarray]:
    """[trials, kernels], in logarithms; and which kernel is the slowed one: [trials]."""
    slowed = np.random.default_rng(SEED).integers(kernels, size=trials)
    shifts = np.zeros((trials, kernels))
    shifts[np.arange(trials), slowed] = np.log1p(effect)
    return shifts, slowed


def _gates(
    setting: Setting, pairs: Floats, deviation: float, budget_s: float
) -> Iterator[dict[str, Any]]:
    kernels = pairs.shape[1]
    first = gate.first_look(kernels, 2 * setting.process_s, budget_s)
    if not first:
        return
    known = gate_noise.noise_of(pairs)
    for (name, calibrated), effect in itertools.product(GATES.items(), EFFECTS):
        trials = trials_of(setting, effect)
        shifts, slowed = slowdowns(trials, kernels, effect)
        source = gate_noise.Resampled(
            pairs, trials, np.random.default_rng(SEED), process_s=setting.process_s,
            budget_s=budget_s, startup_s=STARTUP_S, slowed=shifts,
        )  # fmt: skip
        noise = known if calibrated else gate.no_noise
        decision = gate.decide(source, first, setting.floor, noise)
        row = _rate(name, deviation, effect, decision.verdict == gate.SLOWER, slowed)
        yield row | {
            "budget_s": budget_s,
            "median_s": float(np.median(source.elapsed_s)),
            "longest_s": float(source.elapsed_s.max()),
            "inconclusive": float((decision.verdict == gate.INCONCLUSIVE).mean()),
        }


def _rivals(setting: Setting, log_times: Floats, deviation: float) -> Iterator[dict[str, Any]]:
    """They take consecutive processes as they ran, from anywhere in the record."""
    kernels, window = log_times.shape[1], 2 * REPETITIONS
    for (name, rule), effect in itertools.product(RULES.items(), EFFECTS):
        trials = trials_of(setting, effect)
        rng = np.random.default_rng(SEED)
        begin = rng.integers(len(log_times) - window + 1, size=trials)
        runs = log_times[begin[:, None] + np.arange(window)].transpose(0, 2, 1)
        shifts, slowed = slowdowns(trials, kernels, effect)
        base, new = runs[..., :REPETITIONS], runs[..., REPETITIONS:] + shifts[..., None]
        row = _rate(name, deviation, effect, rule(np.exp(base), np.exp(new)), slowed)
        yield row | {"budget_s": None, "median_s": window * setting.process_s}


def trials_of(setting: Setting, effect: float) -> int:
    return setting.trials // DETECTION_SHARE if effect else setting.trials


def _rate(
    rule: str, deviation: float, effect: float, slower: Mask, slowed: np.ndarray
) -> dict[str, Any]:
    """Runs with any alarm, where nothing has changed; else those that name the slowed kernel."""
    hits = slower[np.arange(len(slowed)), slowed] if effect else slower.any(axis=1)
    rate, low, high = gate_noise.rate(int(hits.sum()), len(hits))
    return {
        "rule": rule, "pair_sd": deviation, "effect": effect, "trials": len(hits),
        "rate": rate, "low": low, "high": high,
    }  # fmt: skip


# ---- text


def markdown(document: dict[str, Any]) -> str:
    """False alarms, then what is found at each level of noise."""
    others = 2 * REPETITIONS * document["process_s"]
    rows = [row | {"label": _label(row)} for row in document["rates"]]
    alarms = [row for row in rows if not row["effect"]]
    lines = [
        "# What the gate sees, and what it makes up",
        "",
        f"{document['kernels']} kernels, {document['process_s']:g} s a process; "
        f"{document['processes']} processes of {document['source']}, scaled so that a pair has the "
        f"noise (standard deviation) named. Rules other than ab have {2 * REPETITIONS} processes "
        f"({others:g} s). In brackets: the 95 % interval (Clopper-Pearson).",
        "",
        f"## Nothing has changed: runs with an alarm, of {alarms[0]['trials']}",
        "",
        *_rates_table(alarms, "pair_sd", lambda x: f"noise {percent(x, 1)}", _with_interval),
    ]
    for deviation in DEVIATIONS:
        found = [row for row in rows if row["effect"] and row["pair_sd"] == deviation]
        lines += [
            "",
            f"## Noise {percent(deviation, 1)}: runs that name the slowed kernel, "
            f"of {found[0]['trials']}",
            "",
            *_rates_table(found, "effect", lambda x: f"slower by {percent(x)}", _rate_alone),
        ]
    return "\n".join([*lines, ""])


def _label(row: dict[str, Any]) -> str:
    return (
        row["rule"] if row["budget_s"] is None else f"{row['rule']}, {row['budget_s'] / 60:g} min"
    )


def _with_interval(row: dict[str, Any]) -> str:
    rate, low, high = (percent(row[key], 2) for key in ("rate", "low", "high"))
    return f"{rate} ({low} to {high})"


def _rate_alone(row: dict[str, Any]) -> str:
    return percent(row["rate"], 1)


def _rates_table(
    rows: list[dict[str, Any]], key: str, title: Callable[[float], str],
    cell: Callable[[dict[str, Any]], str],
) -> list[str]:  # fmt: skip
    columns = sorted({row[key] for row in rows})
    by = {(row["label"], row[key]): cell(row) for row in rows}
    labels = sorted({row["label"] for row in rows}, key=lambda label: (label[:2] != "ab", label))
    body = [[label, *(by[label, column] for column in columns)] for label in labels]
    header = ["rule", *(title(column) for column in columns)]
    return grid(header, body, markdown=True, right=range(1, len(header)))
