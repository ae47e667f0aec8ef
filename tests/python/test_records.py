# SPDX-License-Identifier: Apache-2.0
"""Loading: what is refused and how, and what becomes of rows."""

from __future__ import annotations

import json
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_steps
from triphase import records
from triphase.records import BadRecords, Setting, build, load

KEPT = records.SCHEMA_PATH.parent / "baselines" / "quick" / "steps.json"


def refusal(path) -> str:
    with pytest.raises(BadRecords) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_file_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "steps.json")


def test_truncated_json_is_refused_at_its_line(write_steps, full):
    text = json.dumps(full, indent=1)
    assert "not whole JSON" in refusal(write_steps(text[: len(text) // 2]))


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"context": {}}', '{"benchmarks": []}'])
def test_foreign_json_is_refused(write_steps, text):
    assert "not a triphase result" in refusal(write_steps(text))


def test_an_empty_file_is_refused(write_steps):
    assert "line 1, column 1" in refusal(write_steps(""))


def test_another_programs_google_benchmark_json_is_refused(write_steps, full):
    del full["context"]["triphase"]
    assert "not a triphase result" in refusal(write_steps(full))


def test_a_newer_schema_is_refused_by_number_even_if_nothing_else_fits(write_steps):
    message = refusal(write_steps({"context": {"triphase": {"schema": 2}}}))
    assert "newer" in message
    assert "schema 2" in message


def test_a_row_that_stands_twice_is_refused_and_its_repetitions_are_not(write_steps, full):
    row = full["benchmarks"][0]
    full["benchmarks"].append(row)
    assert f"expected each row once, found twice: {row['name']}" in refusal(write_steps(full))
    full["benchmarks"][-1] = row | {"repetition_index": 1}
    load(write_steps(full))


def test_a_name_that_moves_a_terminals_cursor_is_refused(write_steps, full):
    full["benchmarks"][0]["name"] = "\x1b[2J" + full["benchmarks"][0]["name"]
    assert "expected names of printable characters, found '\\x1b[2J" in refusal(write_steps(full))


def test_nan_is_refused(write_steps, full):
    full["benchmarks"][0]["median_s"] = float("nan")
    assert "NaN" in refusal(write_steps(full))


def test_binary_is_refused(tmp_path):
    path = tmp_path / "steps.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal(path)


def test_no_rows_are_refused(write_steps):
    assert "no rows" in refusal(write_steps(fake_steps.document()))


def test_a_row_that_leaves_the_contract_is_refused_with_its_path(write_steps, full):
    full["benchmarks"][3]["phase"] = "sideways"
    assert "$.benchmarks[3].phase" in refusal(write_steps(full))


@given(st.text(max_size=40))
def test_no_text_does_more_than_be_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("run") / "steps.json"
    path.write_text(text, encoding="utf-8", errors="replace")
    refusal(path)


def test_cases_are_sorted_by_batch_and_leave_out_what_did_not_run(full_records):
    assert [c.batch for c in full_records.cases("LinearNet")] == [1, 4, 16, 64, 256]
    assert full_records.not_run["batch"].to_list() == [1024]


def test_names_are_found_in_any_letter_case(full_records):
    assert len(full_records.cases("linearnet", "SGD")) == 5


def test_a_case_holds_its_phases_and_its_layers(full_records):
    case = full_records.cases("ConvNet")[0]
    assert set(case.phases) == {
        *("forward", "backward_data", "backward_weights", "update", "backward", "step")
    }
    assert set(case.layers["conv1"]) == {"forward", "backward_weights", "update"}
    assert case.layers["relu1"]["forward"]["fused_into"] == "conv1"
    assert case.layers["relu1"]["forward"]["median_s"] is None


def test_a_skipped_row_has_no_time(full_records):
    row = full_records.not_run.row(0, named=True)
    assert row["median_s"] is None
    assert "14.9 GiB" in row["reason"]


def test_depth_and_name_are_read_from_the_spec_where_their_keys_are_absent(full):
    for row in full["benchmarks"]:
        del row["model_name"], row["model_parameters"]
    cases = build(full).cases("DeeperConvNet")
    assert [case.step["depth"] for case in cases] == [0, 1, 2, 5, 10, 20]


def test_repetitions_merge_to_the_median_and_the_hull_of_the_intervals():
    rows = [
        row | {"repetition_index": i, "repetitions": 3}
        for i in range(3)
        for row in fake_steps.case_rows("OneNet", 1, samples=9)
    ]
    steps = [row for row in rows if row["phase"] == "step"]
    for row, middle in zip(steps, (4.0, 7.0, 5.0), strict=True):
        row |= {"ratio_time": middle}
        row |= {"ratio_time_ci95_low": middle - 0.5, "ratio_time_ci95_high": middle + 0.25}
    merged = build(fake_steps.document(rows)).steps.row(0, named=True)
    assert merged["ratio_time"] == 5.0
    assert (merged["ratio_time_ci95_low"], merged["ratio_time_ci95_high"]) == (3.5, 7.25)
    assert merged["samples_s"] == [step["samples_s"] for step in steps]


def test_where_a_repetition_has_no_interval_there_is_none():
    first, second = (
        [row | {"repetition_index": i, "repetitions": 2} for row in rows]
        for i, rows in enumerate(
            fake_steps.case_rows("OneNet", 1, samples=9, intervals=has) for has in (True, False)
        )
    )
    merged = build(fake_steps.document(first, second)).rows.filter(phase="step").row(0, named=True)
    assert merged["ratio_time"] is not None
    ends = ("ci95_low_s", "ci95_high_s", "ratio_time_ci95_low", "ratio_time_with_update_ci95_high")
    assert [merged[end] for end in ends] == [None] * 4


@given(
    st.lists(
        st.tuples(st.floats(1, 9), st.none() | st.tuples(st.floats(0, 1), st.floats(0, 1))),
        min_size=1,
        max_size=5,
    )
)
def test_a_merged_interval_holds_its_median(repetitions):
    rows = []
    for i, (middle, reach) in enumerate(repetitions):
        (row,) = [r for r in fake_steps.case_rows("OneNet", 1, samples=3, intervals=False)
                  if r["phase"] == "step"]  # fmt: skip
        row |= {"repetition_index": i, "ratio_time": middle}
        if reach:
            low, high = middle - reach[0], middle + reach[1]
            row |= {"ratio_time_ci95_low": low, "ratio_time_ci95_high": high}
        rows.append(row)
    merged = build(fake_steps.document(rows)).steps.row(0, named=True)
    low, high = merged["ratio_time_ci95_low"], merged["ratio_time_ci95_high"]
    assert (low is None) == any(reach is None for _, reach in repetitions)
    assert low is None or low <= merged["ratio_time"] <= high


def test_the_worst_status_of_the_repetitions_wins():
    rows = fake_steps.case_rows("OneNet", 1)
    worse = fake_steps.skipped_rows("OneNet", 1, "wrong", status="failed")
    merged = build(fake_steps.document(rows, worse))
    assert merged.not_run["reason"].to_list() == ["wrong"]
    assert merged.steps["median_s"].to_list() == [None]
    assert merged.steps["ratio_time"].to_list() == [None]


def test_a_variant_with_further_axes_does_not_replace_the_plain_case():
    plain, other = (fake_steps.case_rows("OneNet", 1, seed=seed) for seed in (1, 2))
    for row in other:
        row["name"] = row["name"].replace("backend:onednn", "backend:onednn/recompute:all")
    merged = build(fake_steps.document(other, plain))
    assert len(merged.cases("OneNet")) == 1
    assert "recompute" not in merged.cases("OneNet")[0].step["case"]


def test_ceilings_are_those_of_the_settings_backend_and_threads(full_records):
    rates = full_records.ceilings(Setting("onednn", "f32", 2))
    levels = {rate["level"]: rate["value"] for rate in rates if rate["kernel"] == "read"}
    assert levels == {"L1": 800e9, "L2": 200e9, "L3": 80e9, "memory": 25e9}
    assert full_records.ceilings(Setting("onednn", "f32", 1)) == []
    assert full_records.ceilings(Setting("cuda", "f32", 2)) == []


def padded(rows: list, kind: str, keep: float) -> list:
    """The rows with so much of the FLOP of a kind of layer left outside of its padding."""
    return [
        row | {"flop_unpadded": row["flop"] * keep} if row.get("layer_kind") == kind else row
        for row in rows
    ]


def test_arithmetic_takes_its_unpadded_flop_at_the_peak_of_its_kernel_dtype_and_speed():
    rows = padded(
        fake_steps.expected(fake_steps.case_rows("ConvNet", 4, dtype="bf16")), "conv2d", 0.25
    )
    for row in rows:
        if "machine_speed" in row:
            row["machine_speed"]["arithmetic"] = 0.5
    case = build(fake_steps.document(rows, ceilings=fake_steps.ceilings())).case(
        rows[0]["run_name"]
    )
    given = {(row["layer"], row["phase"]): row["flop"] for row in rows if "layer" in row}
    conv, product, update = 320e9 * 4 * 0.5, 400e9 * 4 * 0.5, 400e9 * 0.5
    for phase in ("forward", "backward_weights"):
        row = case.layers["conv2"][phase]
        assert row["arithmetic_s"] == pytest.approx(given["conv2", phase] / 4 / conv)
        row = case.layers["fc1"][phase]
        assert row["arithmetic_s"] == pytest.approx(given["fc1", phase] / product)
    row = case.layers["conv2"]["update"]
    assert row["arithmetic_s"] == pytest.approx(given["conv2", "update"] / 4 / update)
    assert case.layers["relu1"]["forward"]["arithmetic_s"] == 0


def test_a_networks_arithmetic_is_the_sum_of_its_layers(full):
    for row in full["benchmarks"]:
        if "machine_speed" in row:
            row["machine_speed"]["arithmetic"] = 0.5
    case = build(full).cases("ConvNet")[0]
    for phase in ("forward", "backward_data", "backward_weights", "update"):
        layers = [rows[phase]["arithmetic_s"] for rows in case.layers.values() if phase in rows]
        assert case.phases[phase]["arithmetic_s"] == pytest.approx(sum(layers))
    assert [case.phases[phase]["arithmetic_s"] for phase in ("backward", "step")] == [None, None]
    rows = fake_steps.case_rows("ConvNet", 4, layer_rows=False)
    (alone,) = build(fake_steps.document(rows, ceilings=fake_steps.ceilings())).cases("ConvNet")
    assert {row["arithmetic_s"] for row in alone.phases.values()} == {None}


def test_arithmetic_of_other_threads_or_dtypes_than_have_ceilings_is_unknown():
    for known in (fake_steps.ceilings(threads=1), {"cuda": fake_steps.ceilings()["onednn"]}):
        rows = fake_steps.expected(fake_steps.case_rows("OneNet", 1))
        merged = build(fake_steps.document(rows, ceilings=known))
        assert merged.rows["arithmetic_s"].unique().to_list() == [None]


def test_no_row_of_a_kept_run_takes_less_than_its_arithmetic_by_convention():
    """Where compute bounds a layer, roofline_s, which another implementation has found, is it."""
    rows = load(KEPT).rows.filter(pl.col("layer").is_not_null(), pl.col("roofline_s").is_not_null())
    computing = rows.filter(bound="compute")
    assert len(computing) > 100
    assert computing["arithmetic_s"].to_list() == pytest.approx(computing["roofline_s"].to_list())
    assert (rows["arithmetic_s"] <= rows["roofline_s"] * (1 + 1e-12)).all()


@pytest.mark.parametrize("ceilings", [{}, None])
def test_a_file_from_before_the_ceilings_has_none(ceilings):
    document = fake_steps.document(fake_steps.case_rows("OneNet", 1))
    if ceilings is None:
        del document["context"]["triphase"]["ceilings"]
    old = build(document)
    assert old.ceilings(old.settings[0]) == []
    step = old.cases("OneNet")[0].step
    unknown = ("roofline_s", "predicted_s", "bound", "arithmetic_s", "arithmetic_speed")
    assert [step[key] for key in unknown] == [None] * len(unknown)


def test_settings_are_kept_apart_and_those_where_nothing_ran_do_not_count():
    both = build(
        fake_steps.document(
            fake_steps.case_rows("OneNet", 1),
            fake_steps.case_rows("OneNet", 1, backend="reference"),
            fake_steps.skipped_rows("OneNet", 1, "no such device", backend="cuda"),
        )
    )
    assert both.settings == [Setting("onednn", "f32", 2), Setting("reference", "f32", 2)]
    for suffix, part in both.split():
        assert part.rows["backend"].unique().to_list() == [suffix.split("-")[0]]


@pytest.mark.parametrize("module", ["findings", "plot_ratio_by_batch", "report"])
def test_bad_input_is_exit_code_2_and_one_line(module, tmp_path):
    target = tmp_path if module == "report" else tmp_path / "steps.json"
    scripts = records.SCHEMA_PATH.parents[1] / "scripts"
    done = subprocess.run(
        [sys.executable, "-m", f"triphase.{module}", str(target)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"PYTHONPATH": str(scripts), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("triphase: ")
    assert done.stderr.count("\n") == 1
