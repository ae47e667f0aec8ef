# SPDX-License-Identifier: Apache-2.0
"""What ceilings let expect: errors, shares of bounds, and the sentence on a departure."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fake_steps import DATA, FORWARD, UPDATE, WEIGHTS, case_rows, document, expected, skipped_rows
from triphase import expectations
from triphase.expectations import Part, account, departure, limits, near, quotient
from triphase.records import build


def row(median_s: float | None, bound: str | None = "L3", **more) -> dict:
    known = {"median_s": median_s, "bound": bound, "arithmetic_s": 0.5, "phase": FORWARD}
    if median_s is not None:
        known |= {"roofline_s": median_s / 2, "predicted_s": median_s * 1.25}
    return known | more


def test_errors_are_relative_to_the_measured_time_by_phase_and_for_the_step():
    groups = [expected(case_rows("OneNet", batch, noise=0)) for batch in (1, 4, 16)]
    for group, factor in zip(groups, (0.5, 1.1, 1.4), strict=True):
        for one in group:
            if one["phase"] == FORWARD:
                one["predicted_s"] = one["median_s"] * factor
    found = {e["phase"]: e for e in expectations.errors(build(document(*groups)))}
    assert list(found) == [FORWARD, DATA, WEIGHTS, UPDATE, "step"]
    assert [found[p]["rows"] for p in found] == [3] * 5
    assert found[FORWARD]["median"] == pytest.approx(0.4)
    assert found[FORWARD]["p90"] == pytest.approx(0.4 + 0.8 * 0.1)  # type 7: linear between
    for phase, error in ((DATA, 0.1), (WEIGHTS, 0.2), (UPDATE, 0.5)):
        assert found[phase]["median"] == pytest.approx(error)
        assert found[phase]["p90"] == pytest.approx(error)


def test_rows_without_prediction_time_or_case_do_not_count():
    rows = expected(case_rows("OneNet", 1))
    for one in rows:
        if one["phase"] == UPDATE:
            del one["predicted_s"]
    some = build(document(rows, skipped_rows("OneNet", 4, "memory"), case_rows("OneNet", 16)))
    found = {e["phase"]: e["rows"] for e in expectations.errors(some)}
    assert found == {FORWARD: 1, DATA: 1, WEIGHTS: 1, "step": 1}
    old = build(document(case_rows("OneNet", 1)))
    assert expectations.errors(old) == []
    assert expectations.bound_shares(old) == {}


def bounded(batch: int, bounds: dict[str, str], *, layer_rows: bool) -> list[dict]:
    """A case whose rows are bound as told, by layer, or by phase where it has no layers."""
    rows = expected(case_rows("OneNet", batch, layer_rows=layer_rows, noise=0))
    for one in rows:
        if "bound" in one:
            one["bound"] = bounds.get(one.get("layer", one["phase"]), "compute")
    return rows


def test_shares_of_bounds_weigh_layers_by_their_time():
    rows = bounded(1, {"fc1": "L2", "fc2": "memory"}, layer_rows=True)
    shares = expectations.bound_shares(build(document(rows)))
    times = {one["layer"]: one["median_s"] for one in rows
             if one["phase"] == UPDATE and "layer" in one}  # fmt: skip
    whole = sum(times.values())
    assert shares[UPDATE]["L2"] == pytest.approx(times["fc1"] / whole)
    assert shares[UPDATE]["memory"] == pytest.approx(times["fc2"] / whole)
    assert shares[UPDATE]["compute"] == pytest.approx(times["fc3"] / whole)
    for phase in expectations.PHASES:
        assert sum(shares[phase].values()) == pytest.approx(1)


def test_every_case_counts_alike_in_the_shares():
    short = bounded(1, {FORWARD: "L3"}, layer_rows=False)
    long = bounded(256, {FORWARD: "compute"}, layer_rows=False)
    shares = expectations.bound_shares(build(document(short, long)))
    assert shares[FORWARD] == dict.fromkeys(expectations.BOUNDS, 0.0) | {"L3": 0.5, "compute": 0.5}


def test_a_departure_names_each_bound_its_slowness_and_the_share_that_is_predicted():
    lower = [Part("forward", [row(1.0)])]
    upper = [Part("backward_data", [row(1.0)]), Part("update", [row(3.0, "memory")])]
    assert departure(lower, upper, 2.0, 4.0) == (
        "forward is bound by L3 and takes 2 times its arithmetic, backward_data by L3 and 2 times, "
        "update by memory and 6 times; bounds alone give 4.00; "
        "the prediction gives 4.00, 100 % of the departure"
    )


def test_a_departure_that_is_none_or_unknown_has_no_words():
    lower, upper = [Part("forward", [row(1.0)])], [Part("update", [row(2.0)])]
    assert departure(lower, upper, 2.0, 2.05) == ""
    assert departure(lower, upper, None, 2.0) == ""
    assert departure(lower, upper, 2.0, None) == ""
    assert departure(lower, [Part("update", [row(2.0, None)])], 1.0, 2.0) == ""
    assert departure([], [], 1.0, 2.0) == ""


def test_a_part_of_several_rows_is_bound_by_where_most_of_its_time_goes():
    part = Part("forward", [row(1.0, "L2"), row(3.0, "memory"), row(0.5, "L2")])
    text = "forward is bound mostly by memory and takes 3 times its arithmetic"
    assert limits([part]) == text
    assert limits([part, Part("update", [])]) == text


def test_a_phase_is_bound_by_what_bounds_most_of_its_layers_time():
    phase = row(8.0, "compute")  # so the sum of the least times of its calls
    layers = [row(3.0, "compute"), row(4.5, "memory"), row(None, None), row(0.5, None)]
    assert limits([Part("forward", [phase], layers)]) == (
        "forward is bound mostly by memory and takes 16 times its arithmetic"
    )
    most = [row(9.5, "compute"), row(0.5, "memory")]
    for alike in (layers[:1], layers[2:], [], most):
        assert limits([Part("forward", [phase], alike)]).startswith("forward is bound by compute ")
    rows = bounded(1, {"fc2": "L2", FORWARD: "compute"}, layer_rows=True)
    (case,) = build(document(rows)).cases("OneNet")
    assert limits([expectations.part(case, FORWARD)]) == "forward is bound by L2"


@pytest.mark.parametrize("arithmetic_s", [[None, 1.0], [0.0, 0.0]])
def test_without_arithmetic_there_is_no_word_of_it(arithmetic_s):
    rows = [row(1.0, arithmetic_s=one) for one in arithmetic_s]
    assert limits([Part("forward", rows)]) == "forward is bound by L3"


def test_a_quotient_needs_every_row():
    lower, upper = [Part("a", [row(1.0), row(3.0)])], [Part("b", [row(2.0)]), Part("c", [row(6.0)])]
    assert quotient("predicted_s", lower, upper) == 2.0
    assert quotient("predicted_s", lower, upper, scale=4.0) == 0.5
    lacking = [Part("b", [row(2.0, predicted_s=None)])]
    assert quotient("predicted_s", lower, lacking) is None
    assert quotient("predicted_s", lacking, upper) is None
    assert quotient("predicted_s", lower, []) is None


@pytest.mark.parametrize(
    ("flop", "time", "predicted", "text"),
    [
        (2.0, 1.45, 1.52, "87 % of the departure"),
        (3.0, 4.0, 5.0, "2 times the departure"),
        (3.0, 4.0, 3.0, "0 % of the departure"),
        (3.0, 4.0, 2.5, "which points the other way"),
        (-1.0, -3.0, -2.0, "50 % of the departure"),
    ],
)
def test_the_account(flop, time, predicted, text):
    assert account(flop, time, predicted) == text


ratios = st.floats(0.01, 100)


@given(flop=ratios, time=ratios)
def test_a_perfect_prediction_accounts_for_all_of_a_departure(flop, time):
    lower = [Part("forward", [row(1.0, predicted_s=1.0)])]
    upper = [Part("update", [row(time, predicted_s=time)])]
    text = departure(lower, upper, flop, time)
    assert (text == "") == near(time, flop)
    assert not text or text.endswith(", 100 % of the departure")


@given(a=ratios, b=ratios)
@example(a=1.1, b=1.0)
def test_nearness_is_symmetric(a, b):
    assert near(a, b) == near(b, a)
