# SPDX-License-Identifier: Apache-2.0
"""The gate's statistics against SciPy and by hand, and its decisions on constructed pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from triphase import gate
from triphase.gate import FAILED, FASTER, INCONCLUSIVE, SAME, SLOWER

# ---- statistics

LOG_RATIOS = st.lists(st.floats(-0.5, 0.5, allow_subnormal=False), min_size=1, max_size=20)


def shift_of(values: list[float]) -> gate.Shift:
    return gate.shift(np.array([values], float))


def test_signed_rank_sums_of_three():
    assert gate.signed_rank_tail(3) * 8 == pytest.approx([8, 7, 6, 5, 3, 2, 1])


@pytest.mark.parametrize("n", [1, 2, 5, 6, 12, 18, 27])
def test_p_values_are_those_of_scipy(n):
    values = np.random.default_rng(n).normal(0.3, 1, (100, n))
    shift = gate.shift(values)
    for ours, side in ((shift.p_above, "greater"), (shift.p_below, "less"), (shift.p, "two-sided")):
        theirs = wilcoxon(values, axis=1, alternative=side, method="exact").pvalue
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_the_estimate_is_the_median_of_means_of_two():
    assert shift_of([1, 2, 4]).estimate == 2.25  # of 1, 1.5, 2, 2.5, 3, 4


def test_six_pairs_are_bounded_by_their_least_and_greatest_and_five_by_nothing():
    six, five = shift_of([3, 1, 4, 1.5, 9, 2.6]), shift_of([3, 1, 4, 1.5, 9])
    assert (six.low, six.high) == (1, 9)
    assert (five.low, five.high) == (-math.inf, math.inf)


def test_twelve_pairs_leave_thirteen_means_out_at_each_end():
    values = np.random.default_rng(1).normal(size=12)
    means = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    shift = shift_of(list(values))
    # P(W <= 13) = 87/4096 = 2.1 %, and P(W <= 14) = 2.6 %: the tables' value
    assert (shift.low[0], shift.high[0]) == pytest.approx((means[13], means[-14]))


def test_equal_times_are_no_change():
    shift = shift_of([0.0] * 12)
    assert (shift.estimate, shift.low, shift.high, shift.p) == (0, 0, 0, 1)


def test_no_pairs_say_nothing():
    shift = gate.shift(np.empty((2, 0)))
    assert np.isnan(shift.estimate).all()
    assert (shift.p == 1).all()


@given(LOG_RATIOS)
def test_the_interval_excludes_zero_exactly_where_p_is_at_most_5_percent(values):
    shift = shift_of(values)
    if 0 not in [a + b for i, a in enumerate(values) for b in values[i:]]:  # no ties with zero
        assert ((shift.low > 0) | (shift.high < 0))[0] == (shift.p[0] <= 0.05 + 1e-12)


@given(LOG_RATIOS)
def test_swapping_base_and_new_mirrors_the_shift(values):
    there, back = shift_of(values), shift_of([-value for value in values])
    assert there.estimate == -back.estimate
    assert (there.low, there.high) == (-back.high, -back.low)
    assert (there.p_above, there.p_below) == (back.p_below, back.p_above)


@given(LOG_RATIOS, st.randoms())
def test_the_order_of_pairs_changes_nothing(values, random):
    shuffled = random.sample(values, len(values))
    assert vars(shift_of(values)) == vars(shift_of(shuffled))


def test_many_rows_are_judged_as_each_alone(monkeypatch):
    values = np.random.default_rng(2).normal(size=(7, 9))
    together = gate.shift(values)
    monkeypatch.setattr(gate, "CHUNK", 1)
    for name, column in vars(gate.shift(values)).items():
        assert (column == vars(together)[name]).all()


def test_looks_together_spend_the_level_and_no_more():
    assert sum(gate.spending(look) for look in range(50)) == pytest.approx(0.2)
    assert gate.spending(0) == 0.1


def test_below_ten_pairs_forty_kernels_can_not_be_told_from_chance():
    assert gate.least_pairs(40) == 10
    for pairs, possible in ((9, False), (10, True)):
        p = shift_of([1.0] * pairs).p[0]
        assert (40 * p <= gate.spending(0)) == possible


@pytest.mark.parametrize(
    ("kernels", "pair_s", "budget_s", "pairs"),
    [(40, 10, 120, 11), (40, 10, 300, 12), (40, 1, 120, 12), (40, 12, 120, 0), (5000, 1, 120, 18)],
)
def test_the_first_look_comes_when_it_can_tell_and_the_budget_allows(
    kernels, pair_s, budget_s, pairs
):
    assert gate.first_look(kernels, pair_s, budget_s) == pairs


def test_the_smallest_visible_effect_grows_with_noise_kernels_looks_and_thresholds():
    def seen(width=0.02, pairs=18, look=1, kernels=40, thresholds=(0.02, 0.02)):
        return gate.smallest_visible(width, pairs, look, kernels, thresholds)

    plain = seen()
    assert plain < seen(width=0.03)
    assert plain < seen(kernels=100)
    assert plain < seen(look=3)
    assert plain < seen(thresholds=(0.05, 0.02))
    assert plain < seen(thresholds=(0.02, 0.05))
    assert seen(width=1e-9) == pytest.approx(0.02)  # without noise, the floor


def test_too_few_pairs_see_nothing():
    assert gate.smallest_visible(0.02, 9, 0, 40, (0.02, 0.02)) is None
    assert gate.smallest_visible(0.02, 10, 0, 40, (0.02, 0.02)) is not None
    assert gate.smallest_visible(0.02, 10, 1, 40, (0.02, 0.02)) is None
    assert gate.smallest_visible(math.inf, 12, 0, 40, (0.02, 0.02)) is None


class Simulated:
    """A gate.Source of normal pairs, whose first kernel is slowed. budget: pairs of all kernels."""

    def __init__(self, trials, kernels, deviation, budget, slowed=0.0):
        self.shape = (trials, kernels)
        self.rng = np.random.default_rng([kernels, budget, round(1000 * deviation)])
        self.deviation, self.budget = deviation, budget
        self.slowed = np.zeros((1, kernels, 1))
        self.slowed[0, 0] = math.log1p(slowed)
        self.used = np.zeros(trials)

    def fits(self, wanted, pairs, stage):
        return self.used + pairs * wanted.mean(axis=1) <= gate.end_of(stage, self.budget)

    def measure(self, wanted, pairs, stage):
        self.used += pairs * wanted.mean(axis=1)
        noise = self.rng.normal(0, self.deviation, (*self.shape, pairs)).astype(float)
        return noise + self.slowed


# With room for one more look of what is undecided there is more than one chance: at most 1.
@pytest.mark.parametrize(
    ("kernels", "deviation", "budget", "most"),
    [(40, 0.02, 14, 0.93), (40, 0.04, 14, 0.93), (40, 0.04, 24, 0.93), (100, 0.02, 14, 0.93),
     (5, 0.02, 14, 0.93), (40, 0.01, 14, 1), (40, 0.02, 24, 1), (40, 0.04, 60, 1)],
)  # fmt: skip
def test_what_a_run_sees_is_found_nine_times_in_ten(kernels, deviation, budget, most):
    first = gate.first_look(kernels, 1.0, budget)
    unchanged = decide(Simulated(300, kernels, deviation, budget), first)
    seen = [
        gate.smallest_visible(
            unchanged.width[at, 0], unchanged.screened[at, 0], unchanged.look[at, 0], kernels,
            (gate.FLOOR, gate.FLOOR),
        )
        for at in range(300)
    ]  # fmt: skip
    slowed = Simulated(1000, kernels, deviation, budget, float(np.median(seen)))
    found = (decide(slowed, first).verdict[:, 0] == SLOWER).mean()
    assert 0.87 <= found <= most  # a rate of 90 % has a standard error of 1 %


# ---- decisions


class Constructed:
    """A gate.Source that measures a level for each kernel, in screening and in confirming.

    Notes what it was asked for: (stage, kernels, pairs).
    """

    def __init__(
        self, screening, confirming=None, *, most=1000, interrupted_at=None, fresh_spread=0.001
    ):
        self.given = {"screening": screening, "confirming": confirming or screening}
        self.shape = (1, len(screening))
        self.most, self.interrupted_at = most, interrupted_at
        # An interval of no width would tell too much.
        self.spread = {"screening": 0.001, "confirming": fresh_spread}
        self.asked: list[tuple[str, list[int], int]] = []
        self.used = dict.fromkeys(self.given, 0)
        self.rng = np.random.default_rng(0)

    def fits(self, wanted, pairs, stage):
        return np.array([sum(self.used.values()) + pairs <= self.most])

    def measure(self, wanted, pairs, stage):
        self.asked.append((stage, list(np.nonzero(wanted[0])[0]), pairs))
        self.used[stage] += pairs
        if self.interrupted_at is not None:
            pairs = min(pairs, self.interrupted_at)
        levels = np.array(self.given[stage], float)
        wiggle = self.spread[stage] * np.linspace(-1, 1, pairs)
        return (levels[:, None] + wiggle)[None]


UP, DOWN = math.log(1.05), math.log(0.95)


def decide(source, first=12, **more):
    return gate.decide(source, first, **more)


def test_a_slowdown_that_fresh_pairs_confirm_is_slower():
    source = Constructed([UP, 0, DOWN])
    decision = decide(source)
    assert list(decision.verdict[0]) == [SLOWER, SAME, FASTER]
    assert source.asked == [("screening", [0, 1, 2], 12), ("confirming", [0, 2], 12)]
    assert np.exp(decision.estimate[0]) == pytest.approx([1.05, 1, 0.95])


def test_a_slowdown_that_fresh_pairs_do_not_confirm_stays_open_and_is_looked_at_again():
    source = Constructed([UP, 0], [0, 0], most=60)
    decision = decide(source)
    assert list(decision.verdict[0]) == [INCONCLUSIVE, SAME]
    assert list(decision.unconfirmed[0]) == [True, False]
    assert source.asked == [
        ("screening", [0, 1], 12), ("confirming", [0], 12),
        ("screening", [0], 6), ("confirming", [0], 18),
        ("screening", [0], 9), ("confirming", [0], 6),
    ]  # fmt: skip


def test_fresh_pairs_must_exceed_the_floor_too():
    assert decide(Constructed([UP], [math.log(1.019)])).verdict[0, 0] == INCONCLUSIVE
    assert decide(Constructed([UP], [math.log(1.022)])).verdict[0, 0] == SLOWER


def test_fresh_pairs_of_both_signs_confirm_nothing():
    decision = decide(Constructed([UP], most=24, fresh_spread=0.5))
    assert decision.verdict[0, 0] == INCONCLUSIVE
    assert decision.unconfirmed[0, 0]


def test_what_is_within_the_floor_is_the_same_however_significant():
    assert decide(Constructed([math.log(1.015)])).verdict[0, 0] == SAME
    assert decide(Constructed([math.log(1.015)]), floor=0.01).verdict[0, 0] == SLOWER


def test_an_effect_below_the_machines_noise_is_open():
    def noise(pairs):
        return np.array([0.06, 0.04])

    decision = decide(Constructed([UP, UP], most=30), noise=noise)
    assert list(decision.verdict[0]) == [INCONCLUSIVE, SLOWER]


def test_too_few_pairs_decide_nothing():
    assert decide(Constructed([UP] + [0] * 39, most=9), first=9).verdict[0, 0] == INCONCLUSIVE


def test_looks_grow_by_half_and_end():
    source = Constructed([UP], [0])
    decide(source)
    looks = np.cumsum([pairs for stage, _, pairs in source.asked if stage == "screening"])
    assert list(looks) == [12, 18, 27, 41, 62]


def test_suspects_are_confirmed_with_fewer_pairs_where_time_is_short():
    source = Constructed([UP] * 40, most=12)
    assert (decide(source).verdict == SLOWER).all()
    assert source.asked[1] == ("confirming", list(range(40)), gate.LEAST_FRESH)


def test_a_kernel_that_fails_in_one_process_is_failed_and_the_others_go_on():
    assert list(decide(Constructed([UP, math.nan, 0])).verdict[0]) == [SLOWER, FAILED, SAME]


def test_a_suspect_that_fails_in_fresh_pairs_is_failed():
    decision = decide(Constructed([UP, UP], [math.nan, UP], most=30))
    assert list(decision.verdict[0]) == [FAILED, SLOWER]
    assert not decision.unconfirmed.any()


def test_fresh_pairs_that_were_interrupted_have_not_disagreed():
    class Interrupted(Constructed):
        def measure(self, wanted, pairs, stage):
            return super().measure(wanted, pairs if stage == "screening" else 3, stage)

    decision = decide(Interrupted([UP, 0], most=24))
    assert list(decision.verdict[0]) == [INCONCLUSIVE, SAME]
    assert not decision.unconfirmed.any()


def test_an_interruption_is_judged_with_the_pairs_so_far():
    decision = decide(Constructed([0.0, UP], interrupted_at=7))
    assert list(decision.screened[0]) == [7, 7]
    assert decision.verdict[0, 0] == SAME


def test_nothing_fits_and_nothing_is_decided():
    decision = decide(Constructed([UP], most=0))
    assert decision.verdict[0, 0] == INCONCLUSIVE
    assert decision.pairs[0, 0] == 0


EFFECTS = st.lists(
    st.sampled_from([0.0, 0.015, UP, DOWN, -0.015, 0.02, 0.2]), min_size=1, max_size=6
)


@given(EFFECTS, EFFECTS)
@settings(max_examples=40)
def test_swapping_base_and_new_swaps_verdicts(screening, confirming):
    confirming = (confirming * 6)[: len(screening)]
    there = decide(Constructed(screening, confirming, most=40)).verdict[0]
    back = decide(Constructed([-x for x in screening], [-x for x in confirming], most=40)).verdict[
        0
    ]
    mirrored = {SLOWER: FASTER, FASTER: SLOWER}
    assert list(back) == [mirrored.get(verdict, verdict) for verdict in there]


@given(EFFECTS, st.randoms())
@settings(max_examples=40)
def test_the_order_of_kernels_changes_nothing(effects, random):
    order = random.sample(range(len(effects)), len(effects))
    plain = decide(Constructed(effects, most=40)).verdict[0]
    permuted = decide(Constructed([effects[at] for at in order], most=40)).verdict[0]
    assert list(permuted) == [plain[at] for at in order]


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=9), st.lists(st.integers(0, 2)))
def test_the_correction_within_trials_is_that_of_each_alone(p, cuts):
    trials = np.sort(np.array((cuts * 9 + [0] * 9)[: len(p)]))
    corrected = gate._corrected(np.array(p), trials)
    for trial in set(trials):
        alone = gate._corrected(
            np.array(p)[trials == trial], np.zeros((trials == trial).sum(), int)
        )
        assert list(corrected[trials == trial]) == list(alone)
