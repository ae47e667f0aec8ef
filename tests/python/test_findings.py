# SPDX-License-Identifier: Apache-2.0
"""The findings: exact numbers on documents whose numbers are known, and the rule of the verdict."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_steps
from fake_steps import DATA, FORWARD, UPDATE, WEIGHTS, case_rows, document, expected, skipped_rows
from triphase import findings, measures, medians
from triphase.claims import CLAIMS
from triphase.measures import Measured, growth_ci95, paired, per_parameter, ratio
from triphase.picking import NotMeasured, at_depth
from triphase.prose import percent, plain, si
from triphase.records import build, explain_invalid

CLAIM_IDS = [claim.id for claim in CLAIMS]
NOT_MEASURED = "not measured"


def by_id(*groups, ceilings=None) -> dict[str, findings.Finding]:
    return {f["id"]: f for f in findings.build(build(document(*groups, ceilings=ceilings)))}


@pytest.fixture(scope="module")
def full_findings(full_records):
    return {f["id"]: f for f in findings.build(full_records)}


def test_there_is_one_finding_per_claim_in_the_order_of_the_claims(full_findings):
    assert list(full_findings) == CLAIM_IDS
    assert len(set(CLAIM_IDS)) == len(CLAIM_IDS)


def test_findings_keep_their_contract(full_findings):
    assert explain_invalid(list(full_findings.values()), "findings") is None


@pytest.mark.parametrize("key", ["id", "claimed", "flop", "time_ci95", "verdict", "explanation"])
def test_the_contract_of_findings_misses(key, full_findings):
    some = [{k: v for k, v in f.items() if k != key} for f in full_findings.values()]
    assert key in explain_invalid(some, "findings")


@pytest.mark.parametrize(
    ("id_", "flop"),
    [
        ("first-dominates-small-batch", 2.0009),
        ("others-dominate-small-batch", 3.0003),
        ("no-depth-below-two", 1.5714),
        ("depth-converges", 1.9151),
        ("sgd-flop-per-parameter", 2.0),
        ("adam-flop-per-parameter", 13.0),
        ("first-layer", 1.0),
        ("other-layers", 2.0),
    ],
)
def test_nominal_flop_are_those_of_the_shapes(id_, flop, full_findings):
    assert full_findings[id_]["flop"] == pytest.approx(flop, abs=5e-5)


def test_an_outer_product_has_no_additions_so_executed_ratios_at_batch_1_are_lower(full_findings):
    one = full_findings["others-dominate-small-batch"]
    linear = full_findings["first-dominates-small-batch"]
    assert one["flop_executed"] == pytest.approx(2.49, abs=0.01)
    assert linear["flop_executed"] == pytest.approx(1.501, abs=0.01)


def test_the_posts_18_flop_per_parameter_are_a_named_alternative(full_findings):
    small, large = (full_findings[f"adam-{x}"] for x in ("exceeds-three", "large-batch"))
    assert small["alternatives"]["flop_at_18_per_parameter"] == pytest.approx(11.0642, abs=5e-5)
    expected = (2_110_464 * 256 + 18 * 533_898) / (1_059_328 * 256)
    assert large["alternatives"]["flop_at_18_per_parameter"] == expected


def test_time_and_bytes_are_those_of_the_rows():
    found = by_id(case_rows("OneNet", 1, noise=0.0))["others-dominate-small-batch"]
    sums = phase_sums("OneNet", 1)
    moved = {p: costs["traffic_bytes"] for p, costs in sums.items()}
    assert found["bytes"] == (moved[DATA] + moved[WEIGHTS] + moved[UPDATE]) / moved[FORWARD]
    time = {p: fake_steps.seconds(costs, p) for p, costs in sums.items()}
    expected = (time[DATA] + time[WEIGHTS] + time[UPDATE]) / time[FORWARD]
    assert found["time"] == pytest.approx(expected, rel=1e-12)


def phase_sums(model: str, batch: int) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    layers = fake_steps.network(model)
    for layer in layers:
        for phase, costs in layer.phases(batch, layer is layers[0], "sgd").items():
            into = sums.setdefault(phase, dict.fromkeys(costs, 0))
            for key, value in costs.items():
                into[key] += value
    return sums


def test_a_memory_bound_ratio_is_explained_by_bytes_where_no_ceilings_are_known(full_findings):
    found = by_id(case_rows("OneNet", 1))["others-dominate-small-batch"]
    assert "follows the byte ratio 4.87 and not the FLOP ratio 3.00" in found["explanation"]
    assert found["verdict"] == "flop: confirmed; time: departs"
    bounded = full_findings["others-dominate-small-batch"]
    assert bounded["verdict"] == found["verdict"]
    assert "byte ratio" not in bounded["explanation"]


def test_a_ratio_that_departs_is_explained_by_bounds_and_prediction():
    rows = expected(case_rows("OneNet", 1, noise=0))
    found = by_id(rows, ceilings=fake_steps.ceilings())["others-dominate-small-batch"]
    sums = phase_sums("OneNet", 1)
    time = {p: fake_steps.seconds(costs, p) for p, costs in sums.items()}
    slow = {p: time[p] * 400e9 / sums[p]["flop"] for p in sums}
    above = (DATA, WEIGHTS, UPDATE)
    predicted = sum(time[p] * fake_steps.PREDICTED[p] for p in above) / time[FORWARD]
    share = (predicted - found["flop"]) / (found["time"] - found["flop"])
    assert found["explanation"] == (
        f"OneNet batch 1: 3.00 in FLOP and 4.87 in bytes is {found['time']:.2f} in time: "
        f"forward is bound by memory and takes {slow[FORWARD]:.3g} times its arithmetic, "
        f"backward_data by memory and {slow[DATA]:.3g} times, "
        f"backward_weights by memory and {slow[WEIGHTS]:.3g} times, "
        f"update by memory and {slow[UPDATE]:.3g} times; bounds alone give 4.87; "
        f"the prediction gives {predicted:.2f}, {100 * share:.0f} % of the departure; "
        "counted as executed operations the ratio is 2.49."
    )


def test_without_a_prediction_the_bounds_stand_alone():
    rows = expected(case_rows("OneNet", 1))
    for row in rows:
        row.pop("predicted_s", None)
    explanation = by_id(rows)["others-dominate-small-batch"]["explanation"]
    assert "bounds alone give 4.87; counted as" in explanation
    assert "prediction" not in explanation


def test_a_time_ratio_that_follows_flop_needs_no_bounds(full_findings):
    found = full_findings["first-dominates-large-batch"]
    assert "bound by" in full_findings["first-dominates-small-batch"]["explanation"]
    follows = [f for f in full_findings.values() if "time follows FLOP" in f["explanation"]]
    assert follows
    assert all("bound by" not in f["explanation"] for f in follows)
    assert found["verdict"].startswith("flop: confirmed")


def test_update_growth_and_change_are_explained_too(full_findings):
    update = full_findings["conv-update-negligible"]["explanation"]
    assert "update by memory" in update
    assert "% of the departure" in update
    growth = full_findings["passes-grow-with-batch"]["explanation"]
    assert "; batch 1 is bound by memory and takes " in growth
    assert ", batch 256 by compute and " in growth
    assert "; in the prediction from " in full_findings["onenet-over-batch"]["explanation"]


def test_old_files_are_explained_as_before_in_every_finding(full):
    for row in full["benchmarks"]:
        for key in ("roofline_s", "bound", "predicted_s", "mfu", "machine_speed"):
            row.pop(key, None)
    del full["context"]["triphase"]["ceilings"]
    old = build(full)
    found = findings.build(old)
    assert not any("bound" in f["explanation"] for f in found)
    assert not any("prediction" in f["explanation"] for f in found)
    assert "Predictions" not in findings.markdown(found, old)


def test_the_markdown_tells_the_errors_and_bounds_by_phase():
    rows = expected(case_rows("OneNet", 1, noise=0)) + expected(case_rows("OneNet", 4, noise=0))
    some = build(document(rows, ceilings=fake_steps.ceilings()))
    text = findings.markdown(findings.build(some), some)
    section = text.split("### Predictions and bounds\n")[1]
    assert "fitted to 1376 rows of 64 cases" in section
    assert "(there: median 20 %, 90th percentile 50 %)" in section
    assert "| forward | 2 | 0 % | 0 % | memory 100 % |" in section
    assert "| backward_data | 2 | 10 % | 10 % | memory 100 % |" in section
    assert "| update | 2 | 50 % | 50 % | memory 100 % |" in section


def test_the_markdown_tells_bands_and_how_to_read_a_reason(full_records, full_findings):
    text = findings.markdown(list(full_findings.values()), full_records)
    assert "| Ratios with SGD lie between 1:1 and 3:1 | 1:1 to 3:1 | 0.9 to 3.3 |" in text
    assert "| With Adam the ratio may exceed 3:1 in niche settings | > 3:1 | from 3.3 |" in text
    assert findings.READING in text


def test_phases_above_their_ceiling_are_counted(full):
    layers = [row for row in full["benchmarks"] if "layer" in row and row.get("median_s")]
    told = "ran above their ceiling"
    assert told not in findings.markdown([], build(full))
    for row, excess in zip(layers[:3], (1.25, 1.5, 1.125), strict=True):
        row["above_ceiling"] = excess
    text = "\n".join(findings.expectations_section(build(full)))
    assert f"3 phases of layers {told}, by up to 50 %" in text


def test_of_several_cases_each_way_of_counting_names_its_own():
    here = {"flop_executed": None, "why": "it waits"}
    cases = [
        Measured("A", flop=3.0, bytes=2.5, time=2.0, **here),
        Measured("B", flop=2.0, bytes=5.0, time=0.5, **here),
    ]
    found = measures.worst(cases, (0.9, 3.3))
    assert (found.flop, found.flop_executed, found.bytes, found.time) == (3, None, 5, 0.5)
    assert found.why == (
        "the strongest case against 0.9 to 3.3 is A in FLOP; B in bytes, time. B: it waits"
    )


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ((5.08, (5.08, 5.09)), (5.5, (2.9, 6.1)), "departs"),
        ((0.5, (0.4, 0.6)), (9.0, None), "departs"),
        ((5.0, (4.0, 6.0)), (4.5, (3.9, 5.1)), "departs"),
        ((2.5, (1.0, 3.4)), (3.2, (3.1, 3.3)), "inconclusive"),
        ((2.0, None), (3.2, (3.1, 3.3)), "inconclusive"),
        ((0.8, (0.7, 1.0)), (3.35, (3.2, 3.5)), "inconclusive"),
        ((3.2, (3.1, 3.3)), (1.3, (1.2, 1.4)), "confirmed"),
    ],
)
def test_the_strongest_case_against_a_band_is_judged(one, other, verdict):
    def case(name: str, time: float, ci95: tuple[float, float] | None) -> Measured:
        return Measured(name, None, None, None, why="", time=time, time_ci95=ci95)

    for cases in (one, other), (other, one):
        named = [case(name, *given) for name, given in zip("AB", cases, strict=True)]
        found = measures.worst(named, (0.9, 3.3))
        assert (found.time, found.time_ci95) == one
        assert findings.agreement((0.9, 3.3), found.time, found.time_ci95) == verdict


ratios = st.floats(0.1, 10)
timed = st.tuples(ratios, ratios, ratios).map(sorted).map(lambda s: (s[1], (s[0], s[2])))


@given(st.lists(timed | st.tuples(ratios, st.none()), min_size=1, max_size=6))
def test_all_lie_in_a_band_if_the_worst_does_and_one_departs_if_the_worst_does(known):
    band = (0.9, 3.3)
    each = [findings.agreement(band, *one) for one in known]
    found = max(known, key=lambda one: measures.against(*one, band))
    expected = next(v for v in ("departs", "inconclusive", "confirmed") if v in each)
    assert findings.agreement(band, *found) == expected


def test_flop_of_the_passes_grow_with_the_batch_and_those_of_the_update_do_not(full_findings):
    assert full_findings["passes-grow-with-batch"]["flop"] == 1
    assert full_findings["update-constant-over-batch"]["flop"] == 1
    share = full_findings["linear-update-matters"]["flop"]
    assert full_findings["large-batch-dilutes-update"]["flop"] == pytest.approx(share / 256)


def test_the_changes_over_the_batch_are_minus_one_minus_one_and_zero(full_findings):
    flops = [full_findings[f"{n}-over-batch"]["flop"] for n in ("linearnet", "onenet", "convnet")]
    assert flops == pytest.approx([-1, -1, 0], abs=0.02)


def test_a_fused_away_relu_keeps_its_operations_and_has_no_time(full_findings):
    found = full_findings["relu-and-loss-negligible"]
    assert found["flop"] is None
    assert 0 < found["flop_executed"] < 0.01
    assert found["time"] is None
    assert found["verdict"] == "flop: confirmed; time: not measured"
    assert "relu1 fused away" in found["explanation"]


def test_a_relu_with_a_time_of_its_own_has_a_share_of_time():
    found = by_id(case_rows("ConvNet", 4))["relu-and-loss-negligible"]
    assert 0 < found["time"] < 1


def test_without_rows_each_claim_is_not_measured_and_says_what_to_run():
    found = by_id(skipped_rows("Unknown", 1, "no such device"))
    assert list(found) == CLAIM_IDS
    for finding in found.values():
        assert finding["verdict"] == NOT_MEASURED
        assert finding["time"] is None
        assert "run `triphase_steps --" in finding["explanation"]


def test_a_skipped_large_batch_is_given_as_the_reason():
    found = by_id(case_rows("LinearNet", 1), skipped_rows("LinearNet", 1024, "needs 14.9 GiB"))
    explanation = found["first-dominates-large-batch"]["explanation"]
    assert "batch 1024 was skipped: needs 14.9 GiB" in explanation


def test_a_small_largest_batch_does_not_pass_for_large():
    found = by_id(case_rows("LinearNet", 1), case_rows("LinearNet", 16))
    assert found["first-dominates-large-batch"]["verdict"] == NOT_MEASURED


def test_without_layer_rows_only_the_layers_claims_are_not_measured():
    found = by_id(*(case_rows("LinearNet", b, layer_rows=False) for b in (1, 64)))
    assert found["first-layer"]["verdict"] == NOT_MEASURED
    assert found["first-dominates-small-batch"]["verdict"].startswith("flop: confirmed")


def test_without_an_interval_time_is_inconclusive():
    found = by_id(case_rows("OneNet", 1, samples=3, intervals=False))
    finding = found["others-dominate-small-batch"]
    assert finding["time_ci95"] is None
    assert finding["verdict"] == "flop: confirmed; time: inconclusive"


def test_cases_that_others_disturbed_are_named(full_records):
    assert findings.disturbed(full_records) == ""
    busy = [row | {"disturbed": True} for row in case_rows("OneNet", 1)]
    records = build(document(busy, case_rows("OneNet", 4)))
    text = findings.disturbed(records)
    assert text.startswith("In 1 of 2 cases other programs took a processor away")
    assert "OneNet/batch:1/" in text
    assert "OneNet/batch:4/" not in text
    assert text in findings.markdown(findings.build(records), records)


@pytest.mark.parametrize("phase", [None, FORWARD, DATA, WEIGHTS, UPDATE, "step"])
@pytest.mark.parametrize("of_samples", [True, False])
def test_times_of_zero_are_no_fault(phase, of_samples, full):
    for row in full["benchmarks"]:
        if "median_s" in row and phase in (None, row["phase"]):
            row |= {"median_s": 0.0, "ci95_low_s": 0.0, "ci95_high_s": 0.0}
            if of_samples:
                row["samples_s"] = [0.0] * len(row["samples_s"])
    records = build(full)
    found = findings.build(records)
    assert [f["id"] for f in found] == CLAIM_IDS
    assert "nan" not in findings.markdown(found, records).lower()


def test_cases_that_were_not_verified_are_named(full_records, write_steps, monkeypatch, capsys):
    assert findings.unverified(full_records) == ""
    off = [row | {"status": "unverified"} for row in case_rows("OneNet", 1)]
    content = document(off, case_rows("OneNet", 4), skipped_rows("OneNet", 16, "memory"))
    records = build(content)
    text = findings.unverified(records)
    assert text == (
        "In 1 of 2 cases no result was compared with float64, as `--verify=off` asks: "
        "OneNet/batch:1/dtype:f32/optimizer:sgd/backend:onednn."
    )
    found = findings.build(records)
    assert f"**Not all was verified.** {text}" in findings.markdown(found, records)
    monkeypatch.setattr("sys.argv", ["findings", str(write_steps(content))])
    assert findings.main() == 0
    assert capsys.readouterr().out.endswith(f"\n\nNot all was verified. {text}\n")


def test_several_settings_give_findings_with_their_setting_in_the_id():
    found = by_id(case_rows("OneNet", 1), case_rows("OneNet", 1, backend="cuda"))
    assert len(found) == 2 * len(CLAIMS)
    assert found["range@cuda-f32-t2"]["setting"] == "cuda, f32"
    assert explain_invalid(list(found.values()), "findings") is None


def test_a_skipped_case_with_flop_and_no_time_is_judged_by_flop_alone():
    rows = case_rows("OneNet", 1, layer_rows=False)
    reason = {"status": "skipped", "reason": "dry run", "error_message": "dry run"}
    zero = {"error_occurred": True, "real_time": 0, "cpu_time": 0, "median_s": 0} | reason
    found = by_id([row | zero for row in rows])["others-dominate-small-batch"]
    assert found["verdict"] == "flop: confirmed; time: not measured"
    assert "dry run" in found["explanation"]


def test_deep_means_ten_or_more(full_records):
    shallow = build(document(*(case_rows(f"DeeperConvNet:depth={n}", 1) for n in (0, 9))))
    assert at_depth(shallow, "DeeperConvNet", deepest=False).step["depth"] == 0
    with pytest.raises(NotMeasured, match="10 or more"):
        at_depth(shallow, "DeeperConvNet", deepest=True)
    assert at_depth(full_records, "DeeperConvNet", deepest=True).step["depth"] == 20


def test_a_large_batch_does_not_pass_for_small():
    id_ = "convolutions-small-batch"
    large = by_id(case_rows("DeeperConvNet:depth=10", 8))[id_]
    assert large["verdict"] == NOT_MEASURED
    assert "depth=10 that ran here is 8, and small means 4 or less; run" in large["explanation"]
    small = by_id(*(case_rows("DeeperConvNet:depth=10", batch) for batch in (4, 8)))[id_]
    assert small["case"] == "DeeperConvNet:depth=10 batch 4"


def test_an_unknown_parameter_count_is_not_measured():
    rows = case_rows("OneNet", 1)
    for row in rows:
        row.pop("parameter_count", None)
    with pytest.raises(NotMeasured, match="parameter count"):
        per_parameter(build(document(rows)).cases("OneNet")[0])


def test_the_ratio_of_the_rows_is_the_ratio_that_the_step_tells(full_records):
    for name in ("LinearNet", "OneNet", "ConvNet", "DeeperConvNet", "MLP"):
        for case in full_records.cases(name):
            assert ratio(case, update=False).flop == pytest.approx(case.step["ratio_flop"])
            with_update = ratio(case, update=True).flop
            assert with_update == pytest.approx(case.step["ratio_flop_with_update"])


def test_paired_is_the_median_of_ratios_and_not_the_ratio_of_medians():
    upper = {"median_s": 2.0, "samples_s": [[1.0, 2.0, 30.0]]}
    lower = {"median_s": 2.0, "samples_s": [[4.0, 1.0, 2.0]]}
    assert paired([upper], [lower]) == (2.0, None)
    assert paired([upper, upper], [lower]) == (4.0, None)


def test_a_paired_ratio_has_the_interval_of_its_samples():
    ratios = [2.3, 1.9, 2.1, 2.2, 1.8, 2.0]
    upper = {"median_s": 2.05, "samples_s": [ratios]}
    lower = {"median_s": 1.0, "samples_s": [[1.0] * 6]}
    assert paired([upper], [lower]) == (pytest.approx(2.05), medians.interval(ratios))


def test_repetitions_count_alike_whatever_their_number_of_samples():
    lower = {"median_s": 1.0, "samples_s": [[1.0] * 40, [1.0] * 7, [1.0] * 6]}
    seven, six = [2.9, 3.1, 3.0, 3.3, 2.7, 3.2, 2.8], [3.2, 2.8, 3.1, 2.9, 3.3, 2.7]
    upper = {"median_s": 3.0, "samples_s": [[1.0] * 40, seven, six]}
    assert paired([upper], [lower]) == (pytest.approx(3.0), (1.0, 3.3))
    upper["samples_s"][2], lower["samples_s"][2] = six[:3], [1.0] * 3
    assert paired([upper], [lower]) == (pytest.approx(3.0), None)


def test_growth_has_the_intervals_of_both_ends():
    small = {"median_s": 1.0, "ci95_low_s": 1 / 1.03, "ci95_high_s": 1.03}
    large = {"median_s": 8.0, "ci95_low_s": 8 / 1.04, "ci95_high_s": 8 * 1.04}
    low, high = growth_ci95(small, large, 4.0)
    both = math.hypot(math.log(1.03), math.log(1.04))
    assert low == pytest.approx(2 * math.exp(-both))
    assert high == pytest.approx(2 * math.exp(both))
    assert growth_ci95(small, large | {"ci95_low_s": None}, 4.0) is None


def test_unpaired_samples_fall_back_to_medians():
    upper = {"median_s": 3.0, "samples_s": [[1.0, 3.0, 30.0]]}
    for samples in ([[2.0]], [[]], [], [[1.0, 1.0, 1.0]] * 2):
        assert paired([upper], [{"median_s": 2.0, "samples_s": samples}]) == (1.5, None)


def test_a_missing_or_fused_row_has_no_paired_ratio():
    row = {"median_s": 1.0, "samples_s": [[1.0]]}
    assert paired([row], [None]).value is None
    assert paired([row | {"median_s": None}], [row]).value is None
    assert paired([row], [row | {"samples_s": [[0.0]]}]).value is None


@pytest.mark.parametrize(
    ("value", "ci95", "verdict"),
    [
        (2.0, None, "inconclusive"),
        (3.0, None, "inconclusive"),
        (1.8, (1.8, 2.2), "confirmed"),
        (2.0, (1.9, 2.1), "confirmed"),
        (2.0, (1.7, 2.1), "inconclusive"),
        (2.0, (1.7, 2.3), "inconclusive"),
        (3.0, (2.5, 3.5), "departs"),
        (1.0, (0.5, 1.5), "departs"),
        (None, None, NOT_MEASURED),
    ],
)
def test_the_rule(value, ci95, verdict):
    assert findings.agreement((1.8, 2.2), value, ci95) == verdict


def test_an_open_band_has_no_upper_end():
    assert findings.agreement((3.3, math.inf), 1e9, (1e9, 1e9)) == "confirmed"


interval = st.tuples(*[st.floats(-10, 10)] * 2).map(lambda pair: tuple(sorted(pair)))


@given(band=interval, ci95=interval)
def test_an_interval_is_either_inside_or_outside_or_across(band, ci95):
    inside = band[0] <= ci95[0] and ci95[1] <= band[1]
    apart = ci95[1] < band[0] or band[1] < ci95[0]
    expected = "confirmed" if inside else "departs" if apart else "inconclusive"
    assert findings.agreement(band, ci95[0], ci95) == expected


@given(value=st.floats(-10, 10), band=interval)
def test_flop_are_never_inconclusive(value, band):
    assert findings.agreement(band, value, (value, value)) in ("confirmed", "departs")


def test_every_verdict_of_the_table_is_in_the_markdown(full_records, full_findings):
    text = findings.markdown(list(full_findings.values()), full_records)
    for finding in full_findings.values():
        assert f"| {finding['claim']} | {finding['claimed']} |" in text
        assert finding["explanation"] in text
    assert "needs 14.9 GiB" in text.split("## Not run")[1]
    assert "nan" not in text.lower()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_table_keeps_to_the_terminal(width, full_findings):
    text = findings.table(list(full_findings.values()), width=width, colour=False)
    assert max(map(len, text.splitlines())) <= width
    assert "\033" not in text


def test_colour_adds_nothing_but_colour(full_findings):
    some = list(full_findings.values())
    plain = findings.table(some, width=120, colour=False)
    coloured = findings.table(some, width=120, colour=True)
    assert "\033[33mdeparts" in coloured
    for code in findings.COLOURS.values():
        coloured = coloured.replace(f"\033[{code}m", "")
    stripped = [line.rstrip() for line in coloured.replace("\033[0m", "").splitlines()]
    assert stripped == plain.splitlines()


def test_no_color_and_no_terminal_are_plain(full_findings, monkeypatch):
    some = list(full_findings.values())
    assert "\033" not in findings.terminal_table(some)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033" in findings.terminal_table(some)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in findings.terminal_table(some)


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.4e11, "340 G"), (45e9, "45 G"), (0.0123, "12.3 m"), (5.0, "5 "), (0.0, "0 "), (1e3, "1 k")],
)
def test_si_prefixes(value, text):
    assert si(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(2.0, "2.00"), (0.0204, "0.02"), (0.0124, "0.012"), (0, "0.00")]
)
def test_small_ratios_keep_two_digits(value, text):
    assert plain(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.237, "24 %"), (1.45, "145 %"), (-0.001, "0 %")])
def test_percentages(share, text):
    assert percent(share) == text
