# SPDX-License-Identifier: Apache-2.0
"""What a history keeps: every run once, environments apart, alike in any order of adding."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select

import histories
from triphase import (
    history_calibration,
    history_detect,
    history_noise,
    history_query,
    history_runs,
    history_store,
    history_tables,
)
from triphase.history_calibration import stored_limit
from triphase.history_db import reading, writing
from triphase.track_errors import BadInput

RUNS = 30


def parsed(tmp_path, day, times, **context):
    return history_runs.read(histories.write(tmp_path, day, times, **context), None, None, None)


@pytest.fixture(scope="session")
def thirty_runs(tmp_path_factory):
    """Runs of two kernels: one with a step at run 15, one that is missing or failed at times."""
    folder = tmp_path_factory.mktemp("runs")
    stepped = histories.step(RUNS, 15)
    steady = histories.step(RUNS, RUNS, before=2e-3)
    runs = []
    for i in range(RUNS):
        day = i if i < 20 else 20 + (i - 20) // 2  # from then on, two runs at each time
        times = {"stepped": stepped[i]}
        if i % 7 != 3:
            times["steady"] = None if i % 11 == 5 else steady[i]
        runs.append(parsed(folder, day, times, commit=f"c{i}"))
    return runs


def dump(place) -> tuple[list, list]:
    with reading(str(place)) as connection:
        return (
            history_query.history(connection, None),
            history_query.changes_of(connection, None),
        )


def add(place, *runs) -> history_store.Added:
    with writing(str(place), make=True) as connection:
        return history_store.add(connection, runs)


def test_a_run_is_kept_with_its_commit_median_interval_and_samples(tmp_path):
    run = parsed(tmp_path, 0, {"k": 1e-3}, commit="abc", label="main")
    add(tmp_path / "h.db", run)
    (row,), changes = dump(tmp_path / "h.db")
    assert row == {
        "kernel": "k",
        "environment": run.environment.fingerprint,
        "time": "2026-01-01T00:00:00Z",
        "commit": "abc",
        "label": "main",
        "median_s": 1e-3,
        "ci95_low_s": 1e-3 * 0.99,
        "ci95_high_s": 1e-3 * 1.01,
        "samples": 3,
        "status": "ok",
        "reason": None,
    }
    assert changes == []
    with reading(str(tmp_path / "h.db")) as connection:
        stored = connection.scalar(select(history_tables.samples.c.samples_s))
    assert history_runs.unpack(stored) == [1e-3 * 0.995, 1e-3, 1e-3 * 1.005]


def test_a_kernel_that_did_not_run_is_kept_with_its_reason(tmp_path):
    add(tmp_path / "h.db", parsed(tmp_path, 0, {"k": None}))
    (row,), _ = dump(tmp_path / "h.db")
    assert (row["status"], row["reason"], row["median_s"]) == ("failed", "no such device", None)


def test_a_file_added_twice_changes_nothing(tmp_path, thirty_runs):
    place = tmp_path / "h.db"
    added = add(place, *thirty_runs)
    assert added == ({run.id for run in thirty_runs}, [thirty_runs[0].environment])
    before = dump(place)
    content = place.read_bytes()
    assert add(place, *thirty_runs[3:5]) == (set(), [])
    assert dump(place) == before
    assert place.read_bytes() == content


def test_the_change_is_that_of_the_step(tmp_path, thirty_runs):
    add(tmp_path / "h.db", *thirty_runs)
    _, (change,) = dump(tmp_path / "h.db")
    assert (change["kernel"], change["commit"]) == ("stepped", "c15")
    assert change["from_s"] == pytest.approx(1e-3, rel=0.01)
    assert change["percent"] == pytest.approx(10, abs=1)
    assert change["ci95_low_percent"] < 10 < change["ci95_high_percent"]


def test_a_change_whose_interval_holds_no_change_is_not_spoken_of(tmp_path, thirty_runs):
    place = tmp_path / "h.db"
    add(place, *thirty_runs)
    assert len(dump(place)[1]) == 1
    with writing(str(place)) as connection:
        connection.execute(history_tables.changes.update().values(ratio_low=0.99, ratio_high=1.2))
        assert history_store.changes_clear_at(connection, {run.id for run in thirty_runs}) == []
    assert dump(place)[1] == []
    with reading(str(place)) as connection:
        assert [row["last_change_percent"] for row in history_query.overview(connection)] == (
            [None, None]
        )


@pytest.mark.parametrize("back", [4, 8, 12, 20])
def test_a_change_that_was_found_is_not_hidden_by_a_move_back_that_is_not_clear_yet(tmp_path, back):
    rng = np.random.default_rng(back)
    level = np.log([1.0] * 30 + [1.2] * 13 + [1.0] * back)
    noise = {f"k{i}": 0.005 * history_calibration.ar1(rng, 0.3, len(level)) for i in range(40)}
    times = {name: np.exp(level + x) for name, x in noise.items()}
    runs = [
        parsed(tmp_path, day, {name: float(seconds[day]) for name, seconds in times.items()})
        for day in range(len(level))
    ]
    add(tmp_path / "h.db", *runs[:43])
    add(tmp_path / "h.db", *runs[43:])
    _, told = dump(tmp_path / "h.db")
    claims = {
        (name, f"{runs[change.index].time}")
        for name, seconds in times.items()
        for change in history_detect.changes(seconds, stored_limit())
    }
    assert len(claims) >= 40
    assert {
        (row["kernel"], f"{history_runs.microseconds(row['time'], '')}") for row in told
    } == claims


@settings(max_examples=12)
@given(order=st.randoms(use_true_random=False), cuts=st.sets(st.integers(1, RUNS - 1), max_size=6))
def test_runs_added_in_any_order_and_any_groups_give_the_same_history(
    tmp_path_factory, thirty_runs, order: random.Random, cuts
):
    folder = tmp_path_factory.mktemp("order")
    add(folder / "whole.db", *thirty_runs)
    shuffled = list(thirty_runs)
    order.shuffle(shuffled)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), RUNS], strict=True):
        add(folder / "parts.db", *shuffled[start:end])
    assert dump(folder / "parts.db") == dump(folder / "whole.db")


@settings(max_examples=20)
@given(gone=st.sets(st.integers(0, RUNS - 1), min_size=1, max_size=RUNS - 1))
def test_what_is_left_of_removed_runs_is_what_the_others_alone_give(
    tmp_path_factory, thirty_runs, gone
):
    folder = tmp_path_factory.mktemp("removed")
    add(folder / "all.db", *thirty_runs)
    with writing(str(folder / "all.db")) as connection:
        history_store.remove(connection, {thirty_runs[i].id for i in gone})
    add(folder / "others.db", *(run for i, run in enumerate(thirty_runs) if i not in gone))
    assert dump(folder / "all.db") == dump(folder / "others.db")


@settings(max_examples=12)
@given(gone=st.integers(1, 90), seed=st.integers(0, 99))
def test_the_newest_runs_removed_from_several_levels_leave_what_was_before(
    tmp_path_factory, gone, seed
):
    folder = tmp_path_factory.mktemp("levels")
    noise = np.exp(0.01 * np.random.default_rng(seed).standard_normal(120))
    times = 1e-3 * noise * np.repeat([1, 1.05, 1.12], [40, 25, 55])
    runs = [parsed(folder, day, {"k": float(seconds)}) for day, seconds in enumerate(times)]
    add(folder / "all.db", *runs)
    with writing(str(folder / "all.db")) as connection:
        history_store.remove(connection, {run.id for run in runs[-gone:]})
    add(folder / "others.db", *runs[:-gone])
    assert dump(folder / "all.db") == dump(folder / "others.db")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-31", 86_400),
        ("2026-01-31T12", 3600),
        ("2026-01-31 12:34", 60),
        ("2026-01-31T12:34+02:00", 60),
        ("20260131T123456Z", 1),
        ("2026-01-31T12:34:56", 1),
        ("2026-01-31T12:34:56.5Z", 1e-6),
    ],
)
def test_a_time_means_what_it_is_written_to(text, seconds):
    first, end = history_runs.span(text, "--time")
    assert first == history_runs.microseconds(text, "--time")
    assert end - first == seconds * 1e6


def test_removing_leaves_other_environments_and_no_empty_ones(tmp_path):
    place = tmp_path / "h.db"
    mine = [parsed(tmp_path, d, {"k": s}) for d, s in enumerate(histories.step(40, 20))]
    theirs = [
        parsed(tmp_path, d + 1, {"k": s}, host_name="theirs")
        for d, s in enumerate(histories.step(40, 20))
    ]
    add(place, *mine, *theirs)
    assert len(dump(place)[1]) == 2
    with writing(str(place)) as connection:
        history_store.remove(connection, {run.id for run in mine})
        for table, rows in (("environments", 1), ("series", 1), ("runs", 40), ("samples", 40)):
            count = f"SELECT count(*) FROM {table}"
            assert connection.exec_driver_sql(count).scalar() == rows, table
    add(tmp_path / "theirs.db", *theirs)
    assert dump(place) == dump(tmp_path / "theirs.db")
    with writing(str(place)) as connection:
        history_store.remove(connection, {run.id for run in theirs})
    assert dump(place) == ([], [])
    assert add(place, mine[0]).environments == [mine[0].environment]


def test_adding_run_by_run_over_several_levels_gives_what_adding_all_gives(tmp_path):
    times = histories.step(70, 20) + histories.step(60, 30, before=0.9e-3, after=1.3e-3)
    runs = [parsed(tmp_path, day, {"k": seconds}) for day, seconds in enumerate(times)]
    add(tmp_path / "whole.db", *runs)
    for start in range(0, len(runs), 3):
        add(tmp_path / "parts.db", *runs[start : start + 3])
    whole = dump(tmp_path / "whole.db")
    assert [change["time"][:10] for change in whole[1]] == [
        "2026-01-21",
        "2026-03-12",
        "2026-04-11",
    ]
    assert dump(tmp_path / "parts.db") == whole


def test_of_two_runs_at_one_time_the_first_by_id_makes_a_change_clear(tmp_path):
    times = histories.step(40, 25)
    (change,) = history_detect.changes(times, stored_limit())
    runs = [parsed(tmp_path, day, {"k": times[day]}) for day in range(change.found_at)]
    at = change.found_at
    twins = [parsed(tmp_path, at, {"k": times[at]}, commit=commit) for commit in ("x", "y")]
    first, second = sorted(twins, key=lambda run: run.id)
    add(tmp_path / "h.db", *runs, second)
    add(tmp_path / "h.db", first)
    _, (found,) = dump(tmp_path / "h.db")
    assert found["clear_since_commit"] == first.commit


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("host_name", "other"),
        ("num_cpus", 4),
        ("library_build_type", "debug"),
    ],
)
def test_another_host_begins_a_new_series(tmp_path, key, value):
    add(
        tmp_path / "h.db",
        parsed(tmp_path, 0, {"k": 1e-3}),
        parsed(tmp_path, 1, {"k": 1e-3}, **{key: value}),
    )
    rows, _ = dump(tmp_path / "h.db")
    assert len({row["environment"] for row in rows}) == 2


def test_another_gpu_begins_a_new_series():
    first, second = ({"devices": [{"name": name, "id": 0}]} for name in ("H100", "H200"))
    assert history_runs.environment_of(first) != history_runs.environment_of(second)
    later = {"devices": [{"name": "H100", "id": 1}]}
    assert history_runs.environment_of(first) == history_runs.environment_of(later)


def test_a_clock_that_wavers_is_the_same_host(tmp_path):
    runs = [parsed(tmp_path, day, {"k": 1e-3}, mhz_per_cpu=10**day) for day in range(1, 5)]
    runs.append(parsed(tmp_path, 6, {"k": 1e-3}, mhz_per_cpu=10**400))
    assert len({run.environment for run in runs}) == 1


def test_a_machine_that_is_named_is_one_whatever_its_containers_are_called(tmp_path):
    def of(name, **context):
        path = histories.write(tmp_path, 0, {"k": 1e-3}, **context)
        return history_runs.read(path, None, None, None, name).environment

    assert of("runner", host_name="4f2a") == of("runner", host_name="9c01")
    assert of("runner") != of("other")
    assert of("runner", num_cpus=4) != of("runner", num_cpus=8)
    ours = {"environment": {"fingerprint": "a"}, "threads": 2}
    other = {"environment": {"fingerprint": "b"}, "threads": 2}
    assert of("runner", triphase=ours) == of("runner", triphase=other)


def test_an_older_history_whose_environments_hold_a_clock_goes_on(tmp_path):
    place = tmp_path / "h.db"
    add(place, parsed(tmp_path, 0, {"k": 1e-3}))
    old = json.dumps({**json.loads(parsed(tmp_path, 0, {"k": 1e-3}).environment.description),
                      "ghz_per_cpu": 2.0}, sort_keys=True)  # fmt: skip
    fingerprint = history_runs.Environment(old).fingerprint
    with writing(str(place)) as connection:
        changed = history_tables.environments.update()
        connection.execute(changed.values(description=old, fingerprint=fingerprint))
    assert add(place, parsed(tmp_path, 1, {"k": 1e-3})).environments == []
    rows, _ = dump(place)
    assert [row["environment"] for row in rows] == [fingerprint] * 2


def in_unit(tmp_path, day, seconds, unit, per_second):
    document = histories.document(day, {"k": seconds})
    (row,) = document["benchmarks"]
    document["benchmarks"] = [
        {"name": "k", "time_unit": unit, "real_time": row["median_s"] * per_second}
    ]
    path = tmp_path / f"{unit}{day}.json"
    path.write_text(json.dumps(document))
    return history_runs.read(path, None, None, None)


def runs_with_a_new_unit(tmp_path):
    times = histories.step(40, 20, after=1.2e-3)
    units = [("ns", 1e9)] * 20 + [("us", 1e6)] * 20
    return [in_unit(tmp_path, d, s, *units[d]) for d, s in enumerate(times)]


def test_a_new_unit_of_time_goes_on_with_the_series(tmp_path):
    place = tmp_path / "h.db"
    add(place, *runs_with_a_new_unit(tmp_path))
    with reading(str(place)) as connection:
        assert history_query.most_runs(connection, None) == 40
    _, (change,) = dump(place)
    assert change["percent"] == pytest.approx(20, abs=1)


def test_an_older_history_that_was_split_by_units_is_joined(tmp_path):
    place, runs = tmp_path / "h.db", runs_with_a_new_unit(tmp_path)
    add(tmp_path / "whole.db", *runs)
    add(place, *runs[:39])
    with contextlib.closing(sqlite3.connect(place)) as old, old:  # as it was before
        old.executescript(
            """
            INSERT INTO series SELECT 2, name, 'us', environment_id FROM series;
            UPDATE samples SET series_id = 2 WHERE run_id IN
              (SELECT run_id FROM points ORDER BY time LIMIT -1 OFFSET 20);
            DELETE FROM changes;
            """
        )
        late = old.execute("SELECT time FROM points ORDER BY time LIMIT 1 OFFSET 20").fetchone()
        old.execute("UPDATE points SET series_id = 2 WHERE time >= ?", late)
    assert dump(place)[1] == []
    add(place, runs[39])
    assert dump(place) == dump(tmp_path / "whole.db")
    with contextlib.closing(sqlite3.connect(place)) as joined:
        assert joined.execute("SELECT count(*) FROM series").fetchone() == (1,)
        assert joined.execute("SELECT count(DISTINCT series_id) FROM samples").fetchone() == (1,)


@pytest.mark.parametrize(
    "change",
    [{"threads": 4}, {"versions": {"onednn": "3.3"}}, {"environment": {"fingerprint": "b"}}],
)
def test_another_machine_library_or_thread_count_begins_a_new_series(change):
    ours = {"threads": 2, "versions": {"onednn": "3.2"}, "environment": {"fingerprint": "a"}}
    first = history_runs.environment_of({"triphase": ours})
    assert history_runs.environment_of({"triphase": {**ours, "settings": 1}}) == first
    assert history_runs.environment_of({"triphase": {**ours, **change}}) != first


def test_a_release_of_the_code_that_is_followed_begins_none():
    def of(version):
        versions = {"triphase": version, "onednn": "3.2"}
        return history_runs.environment_of({"triphase": {"environment": {}, "versions": versions}})

    assert of("0.1.0") == of("0.2.0")


def test_environments_have_changes_of_their_own(tmp_path):
    runs = []
    for day, seconds in enumerate(histories.step(40, 20)):
        # Alternating hosts that differ by a factor: neither ever changes but at the step.
        runs.append(parsed(tmp_path, 2 * day, {"k": seconds}))
        runs.append(parsed(tmp_path, 2 * day + 1, {"k": 3 * seconds}, host_name="slow"))
    add(tmp_path / "h.db", *runs)
    _, changes = dump(tmp_path / "h.db")
    assert sorted(change["time"][:10] for change in changes) == ["2026-02-10", "2026-02-11"]


@given(st.lists(st.floats(allow_nan=False)))
def test_samples_survive_being_packed(samples):
    assert history_runs.unpack(history_runs.pack(samples)) == samples


@given(st.integers(-(10**15), 10**15))
def test_a_time_survives_being_written(time):
    assert history_runs.microseconds(history_runs.iso_time(time), "") == time


@pytest.mark.parametrize(
    ("text", "same"),
    [("2026-01-01", "2026-01-01T00:00:00Z"), ("2026-01-01T02:00+02:00", "2026-01-01T00:00:00Z")],
)
def test_a_time_without_a_zone_is_utc(text, same):
    assert history_runs.iso_time(history_runs.microseconds(text, "")) == same


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:00:00-23:00"])
def test_a_time_that_no_zone_can_tell_is_refused(text):
    with pytest.raises(BadInput, match=f"date: expected a year from 2 to 9998, found '{text[:4]}"):
        history_runs.microseconds(text, "date")


def test_a_file_without_a_date_asks_for_a_time(tmp_path):
    document = histories.document(0, {"k": 1e-3})
    del document["context"]["date"]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document))
    with pytest.raises(
        BadInput, match=r"context\.date: expected a time, found nothing: give --time"
    ):
        history_runs.read(path, None, None, None)
    assert history_runs.read(path, "2026-05-01", None, None).time == 1777593600000000


def test_recalibration_takes_the_noise_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(history_noise, "FEWEST_SERIES", 2)
    times = [histories.step(70, at) for at in (35, 70)]
    runs = [parsed(tmp_path, d, {"a": times[0][d], "b": times[1][d]}) for d in range(70)]
    place = tmp_path / "h.db"
    add(place, *runs)
    with writing(str(place)) as connection:
        noise = history_noise.residuals(connection, 1, None)
        (said,) = history_noise.recalibrate(connection, 0.05, resamples=10)
    # The step is no noise, and the wobble around both levels is the same.
    assert [len(rest) for rest in noise] == [70, 70]
    assert max(abs(noise[0])) < 0.01
    assert "(2 series resampled)" in said
    _, changes = dump(place)
    assert [change["time"][:10] for change in changes] == ["2026-02-05"]
    with reading(str(place)) as connection:
        table = history_tables.environments
        limit, source = connection.execute(select(table.c.calibration, table.c.calibrated_on)).one()
    assert source == "the residuals of its 2 series"
    assert json.loads(limit)["rate"] == 0.05


def test_noise_of_recorded_runs_is_that_of_their_label_around_one_level(tmp_path, monkeypatch):
    monkeypatch.setattr(history_noise, "FEWEST_RUNS", 3)
    runs = [
        parsed(tmp_path, day, {"k": seconds}, label="same" if 28 <= day < 32 else "main")
        for day, seconds in enumerate(histories.step(60, 30))
    ]
    add(tmp_path / "h.db", *runs)
    with reading(str(tmp_path / "h.db")) as connection:
        (rest,) = history_noise.residuals(connection, 1, "same")
    logs = np.log(histories.step(60, 30)[28:32])
    assert rest.tolist() == (logs - np.median(logs)).tolist()


def test_recalibration_leaves_short_histories_alone(tmp_path, thirty_runs):
    add(tmp_path / "h.db", *thirty_runs)
    with writing(str(tmp_path / "h.db")) as connection:
        (said,) = history_noise.recalibrate(connection, 0.05)
    assert "kept its limit: expected 20 series of 60 runs, found 0" in said


def plans(connection) -> list[str]:
    """Collects how SQLite goes about each SELECT from now on."""
    seen: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def explain(_connection, cursor, statement, parameters, _context, _many):
        if statement.lstrip().startswith("SELECT"):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            seen.extend(row[3] for row in cursor.fetchall())

    return seen


def test_questions_about_one_kernel_read_no_whole_table(tmp_path, thirty_runs):
    add(tmp_path / "h.db", *thirty_runs)
    with reading(str(tmp_path / "h.db")) as connection:
        seen = plans(connection)
        chosen = history_query.chosen_series(connection, "stepped")
        assert len(history_query.history(connection, chosen)) == RUNS
        assert len(history_query.changes_of(connection, chosen)) == 1
    assert seen
    assert not [step for step in seen if step.startswith("SCAN")]
    assert any("SEARCH points USING PRIMARY KEY (series_id=?)" in step for step in seen)


def test_adding_a_run_reads_no_whole_table(tmp_path, thirty_runs):
    add(tmp_path / "h.db", *thirty_runs[:-1])
    with writing(str(tmp_path / "h.db")) as connection:
        seen = plans(connection)
        history_store.add(connection, thirty_runs[-1:])
    assert any("SEARCH points USING PRIMARY KEY (series_id=? AND time>?)" in step for step in seen)
    assert not [step for step in seen if step.startswith("SCAN points")]
    assert not [step for step in seen if step.startswith(("SCAN runs", "SCAN samples"))]
