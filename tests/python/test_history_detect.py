# SPDX-License-Identifier: Apache-2.0
"""Change points: where they are found, how far they went, and how often where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otava.analysis import compute_change_points

import histories
from triphase import history_calibration as calibration
from triphase.history_detect import MIN_RUNS, WINDOW, Change, Limit, changes, evidence, size

LIMIT = calibration.stored_limit()


def test_a_step_is_found_at_its_first_run():
    found = changes(histories.step(40, 25), LIMIT)
    assert [change.index for change in found] == [25]


def test_steps_up_and_down_are_both_found():
    times = histories.step(40, 20) + histories.step(20, 0, after=0.9e-3)
    assert [change.index for change in changes(times, LIMIT)] == [20, 40]


def test_a_step_is_claimed_only_by_runs_after_it():
    times = histories.step(40, 25)
    (change,) = changes(times, LIMIT)
    assert changes(times[: change.found_at], LIMIT) == []
    assert changes(times[: change.found_at + 1], LIMIT) == [change]


def test_one_run_that_is_ten_times_slower_is_no_change():
    times = histories.step(60, 60)
    times[30] *= 10
    assert changes(times, LIMIT) == []


def test_times_that_never_differ_have_no_change():
    assert changes([1e-3] * 60, LIMIT) == []


def test_the_smallest_steps_of_a_clock_are_no_change():
    assert changes([1e-3] * 30 + [1.0001e-3] * 30, LIMIT) == []


def test_fewer_runs_than_the_minimum_say_nothing():
    assert changes([1e-3] * 5 + [1.0] * (MIN_RUNS - 6), LIMIT) == []


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.integers(1, 79), st.floats(0.8, 1.3))
def test_going_on_with_a_series_finds_what_reading_it_whole_finds(seed, read, ratio):
    noise = calibration.ar1(np.random.default_rng(seed), 0.3, 80)
    times = 1e-3 * np.exp(0.01 * noise) * np.where(np.arange(80) < 45, 1, ratio)
    whole = changes(times, LIMIT)
    known = [change for change in whole if change.found_at < read]
    offset = max(0, read - WINDOW)
    start = max(known[-1].index - offset, 0) if known else 0
    rest = changes(times[offset:], LIMIT, start, read - offset)
    moved = [Change(change.index + offset, change.found_at + offset) for change in rest]
    assert known + moved == whole


@settings(max_examples=12)
@given(st.floats(1e-9, 1e3))
def test_evidence_does_not_depend_on_the_unit(scale):
    logs = np.log(histories.step(30, 20))
    assert evidence(logs + np.log(scale)).strength == pytest.approx(evidence(logs).strength)


def test_the_size_of_a_step_is_that_of_its_medians():
    found = size([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert (found.before_s, found.after_s, found.ratio) == pytest.approx((2.0, 5.0, 2.5))
    assert found.ratio_low < 2.5 < found.ratio_high


def test_a_size_looks_at_a_window_on_each_side():
    far = size([9.0] * 50 + [1.0] * WINDOW, [2.0] * WINDOW + [9.0] * 50)
    assert far == size([1.0] * WINDOW, [2.0] * WINDOW)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_interval_of_a_size_holds_the_true_step(correlation):
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        times = np.exp(0.01 * calibration.ar1(generator, correlation, 60))
        found = size(times[:30], times[30:] * 1.05)
        held += found.ratio_low <= 1.05 <= found.ratio_high
    assert 0.90 <= held / 400 <= 0.99


@pytest.fixture(scope="module")
def unchanged() -> dict[float, np.ndarray]:
    """The strongest evidence of 60 series of 100 runs without a change, by their correlation."""
    return {
        correlation: np.array(
            [calibration.strongest(x) for x in calibration.model_series(correlation, 60, 1)]
        )
        for correlation in (0.5, 0.8)
    }


def own_limit(correlation: float, resamples: int) -> Limit:
    """Calibrated on a history of unchanged code: 100 kernels in 100 runs, none of the tested."""
    recorded = calibration.model_series(correlation, 100, 2)
    return calibration.fitted([x - np.median(x) for x in recorded], resamples)


def test_nominal_p_values_find_changes_in_most_series_without_one():
    # Otava itself at its default p = 0.001; what the limits below are for.
    series = calibration.model_series(0.5, 100, 1)
    found = [bool(compute_change_points(list(1 + x), max_pvalue=0.001)[0]) for x in series]
    assert np.mean(found) > 0.5


def test_the_first_limit_keeps_the_stated_rate_under_correlated_noise(unchanged):
    assert np.mean(unchanged[0.5] > LIMIT.strength) <= LIMIT.rate


def test_the_first_limit_lets_strongly_correlated_noise_through(unchanged):
    # It is calibrated for 0.6; this is why histories have limits of their own.
    assert np.mean(unchanged[0.8] > LIMIT.strength) > 3 * LIMIT.rate


@pytest.mark.parametrize(("correlation", "resamples"), [(0.5, 60), (0.8, 100)])
def test_a_limit_from_own_noise_has_the_stated_rate(unchanged, correlation, resamples):
    rate = np.mean(unchanged[correlation] > own_limit(correlation, resamples).strength)
    assert 0.01 <= rate <= 0.10


def test_the_stored_limit_is_exceeded_by_about_its_rate_of_the_series_it_was_made_from():
    series = calibration.model_series(calibration.CORRELATION, 25, calibration.SEED)
    exceeded = np.mean([calibration.strongest(x) > LIMIT.strength for x in series])
    assert (LIMIT.rate, LIMIT.horizon) == (calibration.RATE, calibration.HORIZON)
    assert 0 < exceeded <= 0.10


def test_a_series_shows_a_change_exactly_if_its_strongest_evidence_exceeds_the_limit():
    shown = []
    for logs in calibration.model_series(0.8, 8, 3):
        shown.append(bool(changes(np.exp(logs), LIMIT)))
        assert shown[-1] == (calibration.strongest(logs) > LIMIT.strength)
    assert set(shown) == {True, False}


def test_a_limit_is_the_strength_that_the_rate_exceeds():
    series = calibration.model_series(0.0, 8, 5)
    strengths = [calibration.strongest(x) for x in series]
    limit = calibration.limit_from(series, 0.25)
    assert sum(strength > limit.strength for strength in strengths) == 2


def test_a_limit_survives_being_stored():
    assert calibration.from_json(calibration.to_json(LIMIT)) == LIMIT


def test_resampling_keeps_blocks_together():
    drawn = calibration.resampled(np.arange(70.0), np.random.default_rng(3))
    assert len(drawn) == calibration.HORIZON
    steps = np.diff(drawn) % 70
    assert np.sum(steps != 1) <= calibration.HORIZON // calibration.BLOCK
