# SPDX-License-Identifier: Apache-2.0
"""results/schema.json takes what keeps the contract, and refuses each way of leaving it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_steps
from triphase import records
from triphase.records import explain_invalid

Row = dict[str, Any]


def small() -> dict[str, Any]:
    return fake_steps.document(
        fake_steps.case_rows("OneNet", 1, fuse=("relu1",), samples=6),
        fake_steps.skipped_rows("LinearNet", 1024, "needs 14.9 GiB, and 8 GiB are allowed"),
        fake_steps.skipped_rows("OneNet", 2, "fc1: error 3 times the bound", status="failed"),
    )


def find(document: dict[str, Any], **wanted: Any) -> Row:
    for row in document["benchmarks"]:
        if all(row.get(key) == value for key, value in wanted.items()):
            return row
    raise LookupError(wanted)


def step(document: dict[str, Any]) -> Row:
    return find(document, phase="step", status="ok")


def forward(document: dict[str, Any]) -> Row:
    return find(document, phase="forward", layer=None)


def skipped(document: dict[str, Any]) -> Row:
    return find(document, status="skipped")


def fused(document: dict[str, Any]) -> Row:
    return find(document, layer="relu1", phase="forward")


def test_schema_is_itself_a_valid_schema():
    records.validator().check_schema(records.validator().schema)


def test_full_document_keeps_the_contract(full):
    assert explain_invalid(full) is None


def test_small_document_keeps_the_contract():
    assert explain_invalid(small()) is None


def test_rows_without_interval_keep_the_contract():
    rows = fake_steps.case_rows("OneNet", 1, samples=3, intervals=False)
    assert explain_invalid(fake_steps.document(rows)) is None


def test_unknown_keys_are_allowed_everywhere():
    document = small()
    for place in (document, document["context"], document["context"]["triphase"], step(document)):
        place["a_later_key"] = {"any": "value"}
    assert explain_invalid(document) is None


def test_a_step_whose_forward_has_no_flop_may_leave_its_flop_ratios_out():
    document = small()
    del step(document)["ratio_flop"], step(document)["ratio_flop_with_update"]
    assert explain_invalid(document) is None


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "real_time",
        "cpu_time",
        "iterations",
        "threads",
        "repetition_index",
        "run_type",
        "model",
        "phase",
        "batch",
        "dtype",
        "optimizer",
        "backend",
        "status",
        "median_s",
        "min_s",
        "mad_s",
        "samples_s",
        "sample_count",
        "setup_s",
        "flop",
        "flop_unpadded",
        "flop_executed",
        "traffic_bytes",
    ],
)
def test_a_timed_row_must_have(key):
    document = small()
    del forward(document)[key]
    assert key in explain_invalid(document)


@pytest.mark.parametrize(
    "key", ["ratio_bytes", "ratio_bytes_with_update", "ratio_time", "ratio_time_with_update"]
)
def test_a_step_row_must_have(key):
    document = small()
    del step(document)[key]
    assert key in explain_invalid(document)


@pytest.mark.parametrize("key", ["error_occurred", "error_message", "reason"])
def test_a_row_that_did_not_run_must_have(key):
    document = small()
    del skipped(document)[key]
    assert key in explain_invalid(document)


@pytest.mark.parametrize("key", ["schema", "versions", "isa", "threads", "environment"])
def test_context_triphase_must_have(key):
    document = small()
    del document["context"]["triphase"][key]
    assert key in explain_invalid(document)


@pytest.mark.parametrize(
    ("pick", "key", "value"),
    [
        (forward, "phase", "sideways"),
        (forward, "status", "fine"),
        (forward, "time_unit", "ms"),
        (forward, "run_type", "aggregate"),
        (forward, "batch", 0),
        (forward, "flop", -1),
        (forward, "flop", 1.5),
        (forward, "median_s", "1"),
        (forward, "median_s", None),
        (forward, "samples_s", []),
        (forward, "samples_s", [-1.0]),
        (forward, "sample_count", 0),
        (forward, "error_occurred", True),
        (forward, "name", "OneNet forward"),
        (step, "first_layer_share", 1.5),
        (skipped, "real_time", 3.0),
        (skipped, "cpu_time", 3.0),
        (skipped, "median_s", 3.0),
        (skipped, "error_occurred", False),
        (skipped, "reason", ""),
        (fused, "median_s", 1e-6),
        (fused, "real_time", 1000.0),
    ],
)
def test_a_wrong_value_is_refused(pick, key, value):
    document = small()
    pick(document)[key] = value
    assert explain_invalid(document) is not None


def test_half_an_interval_is_refused():
    document = small()
    del step(document)["ratio_time_ci95_high"]
    assert "ratio_time_ci95_high" in explain_invalid(document)


def test_the_complaint_is_one_line_with_the_path():
    document = small()
    forward(document)["samples_s"] = ["a\nb"] * 1000
    complaint = explain_invalid(document)
    assert complaint.startswith("$.benchmarks[0].samples_s")
    assert "\n" not in complaint
    assert len(complaint) < 250


@given(st.data())
def test_no_key_of_a_row_may_be_nan_or_text_where_a_number_is_due(data):
    document = small()
    row = step(document)
    numeric = [k for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)]
    row[data.draw(st.sampled_from(numeric))] = data.draw(st.sampled_from(["NaN", "", None, [], {}]))
    assert explain_invalid(document) is not None


def bounded() -> dict[str, Any]:
    """A case of a machine whose ceilings are known."""
    rows = fake_steps.expected(fake_steps.case_rows("OneNet", 1, fuse=("relu1",), samples=6))
    return fake_steps.document(rows, ceilings=fake_steps.ceilings())


def test_rows_with_bounds_and_predictions_keep_the_contract():
    assert explain_invalid(bounded()) is None


def test_a_row_may_have_a_bound_and_no_prediction():
    document = bounded()
    del forward(document)["predicted_s"]
    assert explain_invalid(document) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bound", "disk"),
        ("bound", None),
        ("roofline_s", 0),
        ("roofline_s", "1"),
        ("predicted_s", -1.0),
        ("mfu", -0.5),
        ("machine_speed", 1.0),
        ("machine_speed", {"arithmetic": 0.0}),
    ],
)
def test_a_wrong_bound_or_prediction_is_refused(key, value):
    document = bounded()
    step(document)[key] = value
    assert explain_invalid(document) is not None


@pytest.mark.parametrize("key", ["roofline_s", "bound"])
def test_a_bound_has_its_time_and_a_time_its_bound(key):
    document = bounded()
    del forward(document)[key]
    assert key in explain_invalid(document)


def test_the_file_of_ceilings_keeps_its_contract_with_and_without_calibration():
    (known,) = fake_steps.ceilings().values()
    assert explain_invalid(known, "ceilings") is None
    del known["calibration"]
    assert explain_invalid(known, "ceilings") is None


@pytest.mark.parametrize(
    "key", ["schema", "backend", "threads", "fingerprint", "measured_at", "rates"]
)
def test_ceilings_must_have(key):
    (known,) = fake_steps.ceilings().values()
    del known[key]
    assert key in explain_invalid(known, "ceilings")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unit", "GB/s"),
        ("value", 0),
        ("level", "L4"),
        ("threads", 0),
        ("kernel", ""),
        ("passes", 0),
        ("working_set_bytes", 1.5),
    ],
)
def test_a_wrong_ceiling_is_refused_alone_and_in_a_results_file(key, value):
    document = bounded()
    known = document["context"]["triphase"]["ceilings"]["onednn"]
    known["rates"][0][key] = value
    assert f"$.rates[0].{key}" in explain_invalid(known, "ceilings")
    assert explain_invalid(document) is not None


def test_half_a_ceilings_interval_is_refused():
    (known,) = fake_steps.ceilings().values()
    del known["rates"][0]["ci95_high"]
    assert "ci95_high" in explain_invalid(known, "ceilings")


COST = {
    "schema": 1,
    "model": "OneNet",
    "batch": 1,
    "dtype": "f32",
    "optimizer": "sgd",
    "parameters": 533898,
    "layers": [
        {
            "name": "fc1",
            "kind": "linear",
            "phases": {
                phase: {"flop": 8192, "flop_unpadded": 8192, "flop_executed": 1, "traffic_bytes": 4}
                for phase in ("forward", "backward_weights", "update")
            },
        }
    ],
    "totals": {
        "forward": {"flop": 8192, "flop_unpadded": 8192, "flop_executed": 1, "traffic_bytes": 4}
    },
    "ratio": {"flop": 1.9923, "bytes": 2.0},
    "memory_bytes": dict.fromkeys(
        ["parameters", "gradients", "optimizer_state", "activations", "total"], 16
    ),
}


def test_a_cost_document_keeps_its_contract():
    assert explain_invalid(COST, "cost") is None


@pytest.mark.parametrize("key", list(COST))
def test_a_cost_document_must_have(key):
    document = {k: v for k, v in COST.items() if k != key}
    assert key in explain_invalid(document, "cost")


def test_a_cost_document_has_no_other_phases():
    document = copy.deepcopy(COST)
    document["totals"]["sideways"] = document["totals"]["forward"]
    assert "sideways" in explain_invalid(document, "cost")
