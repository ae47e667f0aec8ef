# SPDX-License-Identifier: Apache-2.0
"""Which of a run's cases a claim is about; where it has none such, NotMeasured says what is
missing."""

from __future__ import annotations

from triphase.records import Case, Records

LARGE_BATCH = 64  # from here on an fc layer's update is at most 1/64 of its forward FLOP
SMALL_BATCH = 4  # up to here a batch counts as small
DEEP = 10  # intermediate convolutions from which DeeperConvNet counts as deep


class NotMeasured(Exception):
    """The rows do not hold what a claim needs; the message says what is missing."""


def pick(records: Records, name: str, optimizer: str = "sgd") -> list[Case]:
    """A network's cases, never none."""
    if cases := records.cases(name, optimizer):
        return cases
    raise NotMeasured(f"this run has no {name} with {optimizer}")


def at_batch_one(records: Records, name: str, optimizer: str = "sgd") -> Case:
    case = pick(records, name, optimizer)[0]
    if case.batch == 1:
        return case
    raise NotMeasured(f"the smallest batch of {name} that ran here is {case.batch}, not 1")


def at_large_batch(records: Records, name: str, optimizer: str = "sgd") -> Case:
    case = pick(records, name, optimizer)[-1]
    if case.batch >= LARGE_BATCH:
        return case
    raise NotMeasured(
        f"the largest batch of {name} that ran here is {case.batch}, and large means {LARGE_BATCH}"
        f" or more{_why_not_run(records, name)}"
    )


def batch_range(records: Records, name: str) -> tuple[Case, Case]:
    cases = pick(records, name)
    if cases[-1].batch >= 4 * cases[0].batch:
        return cases[0], cases[-1]
    raise NotMeasured(f"the batches of {name} that ran here span less than a factor of 4")


def at_depth(records: Records, name: str, *, deepest: bool) -> Case:
    """Without intermediate convolutions, or the deepest; at its largest batch."""
    return _of_depth(records, name, deepest=deepest)[-1]


def deep_at_small_batch(records: Records, name: str) -> Case:
    """The deepest, at its smallest batch."""
    case = _of_depth(records, name, deepest=True)[0]
    if case.batch <= SMALL_BATCH:
        return case
    raise NotMeasured(
        f"the smallest batch of {case.model} that ran here is {case.batch}, and small means "
        f"{SMALL_BATCH} or less"
    )


def _of_depth(records: Records, name: str, *, deepest: bool) -> list[Case]:
    """By batch size."""
    by_depth: dict[int, list[Case]] = {}
    for case in pick(records, name):
        if case.step["depth"] is not None:
            by_depth.setdefault(case.step["depth"], []).append(case)
    depth = max(by_depth, default=-1) if deepest else 0
    if depth in by_depth and (depth >= DEEP or not deepest):
        return by_depth[depth]
    wanted = f"{DEEP} or more" if deepest else "0"
    raise NotMeasured(f"{name} ran here with depths {sorted(by_depth)}, and this needs {wanted}")


def _why_not_run(records: Records, name: str) -> str:
    for row in records.not_run.filter(model_name=name).sort("batch").iter_rows(named=True):
        return f" (batch {row['batch']} was {row['status']}: {row['reason']})"
    return ""
