# SPDX-License-Identifier: Apache-2.0
"""The interval of a median: exact ranks, and the same as the C++ side finds in the kept run."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triphase import medians
from triphase.records import SCHEMA_PATH

KEPT = SCHEMA_PATH.parent / "baselines" / "quick" / "steps.json"


@pytest.mark.parametrize(("n", "rank"), [(1, 0), (5, 0), (6, 1), (8, 1), (9, 2), (20, 6), (50, 18)])
def test_ranks_are_those_of_the_binomial_distribution(n, rank):
    assert medians.lower_rank(n) == rank


def test_six_independent_samples_give_their_hull_and_five_none():
    assert medians.interval([2.3, 1.9, 2.1, 2.2, 1.8, 2.0]) == (1.8, 2.3)
    assert medians.interval([2.3, 1.9, 2.1, 2.2, 1.8]) is None


@pytest.mark.parametrize(
    ("most", "kept"),
    [(3, [8, 5, 2]), (1, [5]), (9, [*range(9, 0, -1)]), (100, [*range(9, 0, -1)]), (0, [])],
)
def test_samples_are_thinned_as_in_cpp(most, kept):
    assert medians.thinned(range(9, 0, -1), most) == kept


@given(st.lists(st.integers(), max_size=300), st.integers(1, 100))
def test_thinning_keeps_the_order(values, most):
    thin = medians.thinned(values, most)
    assert len(thin) == min(len(values), most)
    left = iter(values)
    assert all(value in left for value in thin)


def test_a_drift_leaves_few_independent_samples():
    assert medians.interval([float(i) for i in range(20)]) is None


@given(st.lists(st.floats(0.5, 2), min_size=1, max_size=60))
def test_an_interval_lies_around_the_median_and_within_the_samples(samples):
    found = medians.interval(samples)
    middle = sorted(samples)[len(samples) // 2]
    if found is not None:
        assert min(samples) <= found[0] <= middle <= found[1] <= max(samples)


def test_nineteen_intervals_in_twenty_hold_the_median_of_what_they_are_drawn_from():
    draw = random.Random(1)
    hits = 0
    for _ in range(2000):
        low, high = medians.interval([draw.gauss(0, 1) for _ in range(25)]) or (-9.0, 9.0)
        hits += low <= 0 <= high
    assert hits >= 0.93 * 2000


def test_they_are_the_intervals_of_the_rows_of_a_kept_run():
    """Where a row holds all of its samples, which the other implementation has seen as well."""
    compared = 0
    for row in json.loads(KEPT.read_text())["benchmarks"]:
        if len(row.get("samples_s", [])) != row.get("sample_count"):
            continue
        found = medians.interval(row["samples_s"])
        kept = (row["ci95_low_s"], row["ci95_high_s"]) if "ci95_low_s" in row else None
        assert found == kept, row["name"]
        compared += 1
    assert compared > 100
