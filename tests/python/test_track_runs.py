# SPDX-License-Identifier: Apache-2.0
"""Results files of three programs, as scripts/track reads them (tests/data/track)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_steps
from triphase.track_errors import BadInput
from triphase.track_rows import KernelRow, merge
from triphase.track_runs import read_run

DATA = Path(__file__).resolve().parents[1] / "data" / "track"


def write(folder: Path, content: Any) -> Path:
    path = folder / "run.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def google(**row: Any) -> dict[str, Any]:
    return {"name": "k", "run_type": "iteration", "real_time": 2.0, "time_unit": "ns"} | row


def rows_of(folder: Path, *rows: dict[str, Any]) -> dict[str, KernelRow]:
    path = write(folder, {"context": {"num_cpus": 2}, "benchmarks": list(rows)})
    return {row.name: row for row in read_run(path).rows}


# ---- Google Benchmark


def test_repetitions_are_the_samples_and_statistics_are_no_kernels():
    run = read_run(DATA / "google_benchmark_1.7.json")
    document = json.loads((DATA / "google_benchmark_1.7.json").read_text())
    assert [row.name for row in run.rows] == [
        "sum/4096/min_time:0.050", "sum/65536/min_time:0.050",
        "product/4096/min_time:0.050/real_time", "product/65536/min_time:0.050/real_time",
        "broken",
    ]  # fmt: skip
    times = [
        row["real_time"] * 1e-6
        for row in document["benchmarks"]
        if row["name"] == "product/4096/min_time:0.050/real_time"
    ]
    row = run.rows[2]
    assert (row.samples_s, row.value_s, row.unit) == (times, sorted(times)[1], "us")
    assert run.context["num_cpus"] == 2


def test_a_row_with_an_error_has_no_time_and_its_reason():
    broken = read_run(DATA / "google_benchmark_1.7.json").rows[-1]
    assert (broken.status, broken.value_s, broken.samples_s) == ("failed", None, [])
    assert broken.reason == "no such device"


def test_files_without_run_type_are_read_alike(tmp_path):
    new = read_run(DATA / "google_benchmark_1.7.json")
    document = json.loads((DATA / "google_benchmark_1.7.json").read_text())
    for row in document["benchmarks"]:
        for key in ("run_type", "run_name", "aggregate_name", "repetition_index"):
            row.pop(key, None)
    old = read_run(write(tmp_path, document))
    assert [(r.name, r.samples_s, r.status) for r in old.rows] == [
        (r.name, r.samples_s, r.status) for r in new.rows
    ]


def test_a_kernel_whose_name_ends_like_a_statistic_is_a_kernel(tmp_path):
    old = {"name": "reduce_mean", "real_time": 5, "time_unit": "ns"}
    assert list(rows_of(tmp_path, old)) == ["reduce_mean"]
    assert list(rows_of(tmp_path, google(name="reduce_mean"), google(name="reduce"))) == [
        "reduce_mean", "reduce",
    ]  # fmt: skip


def test_where_there_are_only_statistics_the_median_is_the_time(tmp_path):
    aggregate = {"run_type": "aggregate", "run_name": "k", "time_unit": "ms"}
    rows = rows_of(
        tmp_path,
        aggregate | {"name": "k_mean", "aggregate_name": "mean", "real_time": 9.0},
        aggregate | {"name": "k_median", "aggregate_name": "median", "real_time": 8.0},
        aggregate | {"name": "k_cv", "aggregate_name": "cv", "real_time": 0.1},
    )
    assert list(rows) == ["k"]
    assert rows["k"].value_s == pytest.approx(8e-3)


@pytest.mark.parametrize(("unit", "seconds"), [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1)])
def test_times_are_seconds_whatever_the_unit(tmp_path, unit, seconds):
    row = rows_of(tmp_path, google(real_time=3, time_unit=unit))["k"]
    assert row.value_s == pytest.approx(3 * seconds)
    assert row.unit == unit


@pytest.mark.parametrize("time", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_time_becomes_a_failed_row(tmp_path, time):
    row = rows_of(tmp_path, google(real_time=time))["k"]
    assert (row.status, row.value_s) == ("failed", None)
    assert "expected a positive number" in row.reason


def test_a_number_that_no_float_holds_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"real_time: expected a number below 2\^1024, found 1000"):
        rows_of(tmp_path, google(real_time=10**400))


def test_nan_in_another_entry_does_no_harm(tmp_path):
    row = rows_of(tmp_path, google(bytes_per_second=float("nan")))["k"]
    assert row.status == "ok"


def test_two_benchmarks_of_one_name_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"benchmarks\[1\].name: expected names that differ"):
        rows_of(tmp_path, google(family_index=0), google(family_index=1))


def test_a_skipped_row_says_why(tmp_path):
    row = rows_of(tmp_path, google(skipped=True, skip_message="no AVX-512"))["k"]
    assert (row.status, row.reason) == ("skipped", "no AVX-512")


# ---- triphase


def test_our_samples_and_statuses_are_kept(tmp_path):
    rows = fake_steps.case_rows("OneNet", 64, samples=8)
    rows += fake_steps.skipped_rows("LinearNet", 1024, "needs 9 GiB")
    run = read_run(write(tmp_path, fake_steps.document(rows)))
    by_name = {row.name: row for row in run.rows}
    timed = next(row for row in rows if row.get("samples_s"))
    read = by_name[timed["name"]]
    assert read.samples_s == timed["samples_s"]
    assert read.value_s == timed["median_s"]
    skipped = by_name[rows[-1]["name"]]
    assert (skipped.status, skipped.reason, skipped.value_s) == ("skipped", "needs 9 GiB", None)


def test_a_layer_that_another_computes_has_no_time_and_is_no_failure(tmp_path):
    row = rows_of(tmp_path, google(real_time=0.0, status="ok", fused_into="fc1"))["k"]
    assert (row.status, row.reason) == ("skipped", "computed within fc1")


def test_a_bad_sample_fails_its_row(tmp_path):
    row = rows_of(tmp_path, google(median_s=1.0, samples_s=[1.0, 0.0]))["k"]
    assert row.status == "failed"


def test_the_worst_of_repetitions_counts():
    good, bad = KernelRow("k", "s", 1.0, [1.0]), KernelRow("k", "s", None, [], "failed", "wrong")
    assert merge([good, bad, good]) == [KernelRow("k", "s", None, [], "failed", "wrong")]
    assert merge([good, good]) == [KernelRow("k", "s", 1.0, [1.0, 1.0])]


def test_repetitions_have_one_interval_around_all_of_theirs():
    def row(value, low, high, **more):
        extra = {"ci95_low_s": low, "ci95_high_s": high, "sample_count": 30, "op": "relu"}
        return KernelRow("k", "s", value, [value], extra=extra | more)

    (merged,) = merge([row(1.0, 0.9, 1.1), row(3.0, 2.5, 3.5, sample_count=7), row(2.0, 1.9, 2.1)])
    assert (merged.value_s, merged.interval_s, merged.sample_count) == (2.0, (0.9, 3.5), 67)
    assert merged.extra["op"] == "relu"
    (merged,) = merge([row(1.0, 0.9, 1.1), KernelRow("k", "s", 2.0, [2.0, 2.1])])
    assert (merged.interval_s, merged.sample_count) == (None, 32)


def test_an_integer_of_thousands_of_digits_is_refused(tmp_path):
    path = write(tmp_path, f'{{"benchmarks": [{{"name": "k", "real_time": {"9" * 5000}}}]}}')
    with pytest.raises(BadInput, match="found one of thousands of digits"):
        read_run(path)


@pytest.mark.parametrize(
    "told",
    [
        {"error_occurred": True, "error_message": "a\n\x1b[2Jb\ud800"},
        {"skipped": True, "skip_message": "a\n\x1b[2Jb\ud800"},
        {"status": "failed", "reason": "a\n\x1b[2Jb\ud800"},
    ],
)
def test_reasons_are_one_line_of_printable_characters(tmp_path, told):
    assert rows_of(tmp_path, google(**told))["k"].reason == r"a\n\x1b[2Jb\ud800"


# ---- NVBench and benchdnn


def test_nvbench_states_are_kernels():
    rows = {row.name: row for row in read_run(DATA / "nvbench_1.json").rows}
    assert rows["copy/Device=0 Elements=2^20"].value_s == 0.0010034715
    assert rows["copy/Device=0 Elements=2^40"].reason == "out of memory"
    assert rows["copy/Device=0 Elements=2^22"].status == "failed"
    assert rows["copy/Device=0 Elements=2^23"].status == "failed"
    assert rows["host"].value_s == 0.25


def test_nvbench_before_version_1_is_read():
    assert read_run(DATA / "nvbench_0.json").times == {"copy/Elements=2^20": 0.002}


def test_benchdnn_problems_are_kernels_whatever_computes_them():
    rows = {row.name: row for row in read_run(DATA / "benchdnn.csv").rows}
    first = 'cpu "resnet:ip1" --ip --dir=FWD_B --stag=ab,ba mb112oc1000ic2048n"resnet:ip1"'
    assert rows[first].value_s == pytest.approx(0.521729e-3)
    assert rows[first].extra["%impl%"] == "brg:avx512_core"
    second = 'cpu "resnet:ip2" --ip --dir=FWD_B mb1oc1000ic2048n"resnet:ip2"'
    assert rows[second].samples_s == [0.25e-3, 0.75e-3]
    assert rows["cpu --ip mb2oc2ic2"].status == "failed"
    skipped = rows["--ip mb1000000oc1000000ic1000000"]
    assert (skipped.status, skipped.reason) == ("skipped", "skipped (Not enough memory)")
    assert rows["--ip mb3oc3ic3"].status == "failed"


# ---- refusals


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "found an empty file"),
        ("  \n", "found an empty file"),
        ("hello", "found text without lines 'perf,...'"),
        ("perf,cpu,1\n", "line 1: expected a line 'Output template"),
        ("Output template: perf,%-time%,%prb%\nperf,x,k\n", "expected milliseconds, found 'x'"),
        ("Output template: perf,%-time%\nperf,1,2\n", "line 2: expected 2 fields"),
        ('{"benchmarks": [', "expected whole JSON"),
        ("[1]", "without an array 'benchmarks'"),
        ("[" * 100000, "nested too deeply"),
        ({"benchmarks": 3}, "without an array 'benchmarks'"),
        ({"benchmarks": []}, "expected kernels, found none"),
        ({"benchmarks": [3]}, "benchmarks[0]: expected an object, found 3"),
        ({"benchmarks": [{"name": 3}]}, "benchmarks[0].name: expected text, found 3"),
        ({"benchmarks": [{"name": ""}]}, "benchmarks[0].name: expected text"),
        ({"benchmarks": [{"name": "k"}]}, "real_time: expected a number, found nothing"),
        ({"benchmarks": [google(real_time="3")]}, 'real_time: expected a number, found "3"'),
        ({"benchmarks": [google(real_time=True)]}, "real_time: expected a number, found true"),
        ({"benchmarks": [google(time_unit="h")]}, "time_unit: expected one of ns, us, ms, s"),
        ({"benchmarks": [google(status="fine")]}, "status: expected one of ok"),
        ({"benchmarks": [google(samples_s=[1, ""])]}, 'samples_s[1]: expected a number, found ""'),
        ({"benchmarks": [google(samples_s=3)]}, "samples_s: expected an array, found 3"),
        ({"context": [], "benchmarks": [google()]}, "context: expected an object"),
        ({"benchmarks": [{"name": "b", "states": [3]}]}, "states[0]: expected an object"),
        ({"benchmarks": [{"name": "b", "states": [{"summaries": [{}]}]}]}, "NVBench's summaries"),
        ({"benchmarks": [{"name": "b", "states": [{"is_skipped": True}] * 2}]}, "found 'b' twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, content, says):
    path = write(tmp_path, content)
    with pytest.raises(BadInput) as refusal:
        read_run(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_and_a_binary_file_are_refused(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        read_run(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(BadInput, match="no UTF-8 text"):
        read_run(tmp_path / "binary")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["name", "run_type", "real_time", "time_unit", "samples_s", "states", "summaries",
             "tag", "data", "status", "median_s", "family_index"]
        ), inner, max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip


@given(rows=st.lists(ANY_JSON, max_size=4))
def test_any_json_is_read_or_refused(tmp_path_factory, rows):
    path = write(tmp_path_factory.mktemp("any"), {"benchmarks": rows})
    try:
        run = read_run(path)
    except BadInput:
        return
    assert all((row.value_s is None) == (row.status in ("skipped", "failed")) for row in run.rows)
