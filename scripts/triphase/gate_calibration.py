# SPDX-License-Identifier: Apache-2.0
"""Where the noise of a machine is kept, and what is known of these kernels on this machine.

A calibration is a record of pairs of equal binaries (gate_pairs), one file for each machine and set
of kernels: noise-<machine>-<kernels>.json in $TRIPHASE_CACHE, or $XDG_CACHE_HOME/triphase, or
~/.cache/triphase, beside the machine's ceilings. The machine is told by the fingerprint that
triphase writes; without one, by its processors and caches, as Google Benchmark writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triphase import gate, gate_noise
from triphase.gate import Floats
from triphase.gate_pairs import Record, read_record
from triphase.prose import printable
from triphase.track_errors import BadInput


@dataclass(frozen=True)
class Noise:
    """noise(n): the relative change that n pairs of equal binaries show, [kernels].

    `known`: of how many kernels; 0 elsewhere. `source`: the file, None where there is none.
    """

    noise: Callable[[int], Floats | float]
    known: int
    source: Path | None


UNKNOWN = Noise(gate.no_noise, 0, None)


def cache_folder() -> Path:
    """Where triphase_ceilings keeps its files as well."""
    if folder := os.environ.get("TRIPHASE_CACHE"):
        return Path(folder)
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "triphase"
    return Path.home() / ".cache" / "triphase"


def fingerprint_in(context: dict[str, Any]) -> str | None:
    """A machine's, as triphase's files tell it; None in others'."""
    ours = context.get("triphase")
    environment = ours.get("environment") if isinstance(ours, dict) else None
    found = environment.get("fingerprint") if isinstance(environment, dict) else None
    return found if isinstance(found, str) else None


def machine_of(context: dict[str, Any]) -> str:
    """A machine's name in file names: 16 hexadecimal digits."""
    if (found := fingerprint_in(context)) is not None:
        return found
    return _digest({key: context.get(key) for key in ("num_cpus", "caches")})


def calibration_path(context: dict[str, Any], kernels: Iterable[str]) -> Path:
    return cache_folder() / f"noise-{machine_of(context)}-{_digest(sorted(kernels))}.json"


def find_noise(context: dict[str, Any], kernels: list[str], given: Path | None) -> Noise:
    """What is known of these kernels here: of `given`, or of the file that knows most of them.

    A stored file that cannot be used is left out, with a warning; a given one is refused.
    """
    if given is not None:
        return noise_from(given, kernels)
    best = UNKNOWN
    for path in sorted(cache_folder().glob(f"noise-{machine_of(context)}-*.json")):
        try:
            found = noise_from(path, kernels)
        except BadInput as unusable:
            print(f"track: left out: {printable(str(unusable))}", file=sys.stderr)
            continue
        best = max(best, found, key=lambda noise: noise.known)
    return best


def noise_from(path: Path, kernels: list[str]) -> Noise:
    record = read_record(path)
    return of_record(record, kernels, path)


def of_record(record: Record, kernels: list[str], path: Path) -> Noise:
    """BadInput where the record is no calibration: of two binaries, or of too few pairs."""
    record = equal_pairs(record, path)
    known = sum(kernel in record.kernels for kernel in kernels)
    noise = gate_noise.noise_of(record.log_ratios())
    return Noise(gate_noise.for_kernels(noise, record.kernels, kernels), known, path)


def equal_pairs(record: Record, path: Path) -> Record:
    """The kernels of a calibration that were measured in every process."""
    if not record.equal:
        raise BadInput(f"{path}: expected pairs of equal binaries (calibrate), found an ab run")
    record = record.complete()
    pairs = len(record.log_ratios())
    if not record.kernels or pairs < gate_noise.LEAST_PAIRS:
        raise BadInput(
            f"{path}: expected {gate_noise.LEAST_PAIRS} pairs of equal binaries or more, "
            f"found {pairs} of {len(record.kernels)} kernels"
        )
    return record


def noise_between_processes(
    path: Path | None, kernels: list[str], context: dict[str, Any]
) -> Floats:
    """The standard deviation of log(new / base) of single processes of equal binaries.

    About zero, as both sides are the same. [kernels]; NaN where it is not known.
    """
    found = find_noise(context, kernels, path)
    if found.source is None:
        return np.full(len(kernels), np.nan)
    record = equal_pairs(read_record(found.source), found.source)
    deviations = np.sqrt(np.mean(record.log_ratios() ** 2, axis=0))
    by_kernel = dict(zip(record.kernels, deviations, strict=True))
    return np.array([by_kernel.get(kernel, np.nan) for kernel in kernels])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
