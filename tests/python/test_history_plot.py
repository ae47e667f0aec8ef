# SPDX-License-Identifier: Apache-2.0
"""The picture of a history: what it holds, and that it is written in each format or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import histories
from triphase import history_plot, history_query, track
from triphase.history_db import reading
from triphase.track_errors import BadInput


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    times = histories.step(30, 15)
    files = [
        histories.write(folder, d, {"a": s, "b": None if d == 3 else 2e-3}, commit=f"c{d}")
        for d, s in enumerate(times)
    ]
    assert track.run_main(["add", *map(str, files), "--db", str(folder / "h.db")]) == 0
    return folder / "h.db"


def rows_and_changes(place: Path) -> tuple[list, list]:
    with reading(str(place)) as connection:
        return (
            history_query.history(connection, None),
            history_query.changes_of(connection, None),
        )


def test_a_level_lasts_from_change_to_change(place):
    rows, changes = rows_and_changes(place)
    before, after = history_plot.levels([row for row in rows if row["kernel"] == "a"], changes)
    assert (before["start"][:10], before["end"][:10]) == ("2026-01-01", "2026-01-15")
    assert (after["start"][:10], after["end"][:10]) == ("2026-01-16", "2026-01-30")
    assert (before["level"], after["level"]) == pytest.approx((1e-3, 1.1e-3))


def test_every_series_has_a_panel_and_every_change_its_size_and_commit(place):
    spec = json.dumps(history_plot.build(*rows_and_changes(place)).to_dict())
    for title in ('"a"', '"b"'):
        assert f'"text": {title}' in spec
    assert spec.count('"+10.0 % c15"') == 1
    assert "time (ms)" in spec


def ends(places: list[float], texts: list[str]) -> list[float]:
    return [
        place + history_plot.LETTER * len(text) for place, text in zip(places, texts, strict=True)
    ]


@given(st.lists(st.tuples(st.integers(0, 760), st.sampled_from(["+1.0 %", "-15.4 % e48d814"]))))
def test_labels_of_one_row_do_not_overlap_while_rows_are_left(labels):
    labels.sort()
    places, texts = [place for place, _ in labels], [text for _, text in labels]
    rows = history_plot.label_rows(places, texts)
    assert set(rows) == set(range(max(rows, default=-1) + 1))
    assert max(rows, default=0) < history_plot.MOST_ROWS
    for at, end in enumerate(ends(places, texts)):
        follows = [other for other in range(at + 1, len(rows)) if rows[other] == rows[at]]
        if follows and places[follows[0]] < end:  # then no row was free
            last = {rows[before]: before for before in range(follows[0])}
            assert len(last) == history_plot.MOST_ROWS


def test_close_changes_are_told_one_above_the_other():
    places = [75.0, 160.0, 245.0, 330.0, 415.0]
    assert history_plot.label_rows(places, ["-15.4 % e48d814"] * 5) == [0, 1, 0, 1, 0]
    assert history_plot.label_rows([0.0, 1.0], ["+1.0 %"] * 2) == [0, 1]


def test_labels_of_two_rows_stand_in_two_heights(place):
    rows, (change,) = rows_and_changes(place)
    both = [change, {**change, "time": "2026-01-18T00:00:00Z", "commit": "0123456789"}]
    spec = json.dumps(history_plot.build([r for r in rows if r["kernel"] == "a"], both).to_dict())
    assert '"+10.0 % 0123456"' in spec
    assert '{"value": 4}' in spec
    assert f'{{"value": {4 + history_plot.LABEL_ROW}}}' in spec


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("svg", b"<svg")])
def test_a_plot_is_written_in_the_format_of_its_name(place, tmp_path, form, start):
    out = tmp_path / f"speed.{form}"
    assert track.run_main(["plot", "--kernel", "*", "--out", str(out), "--db", str(place)]) == 0
    assert out.read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_another_format_is_refused(place, tmp_path, capsys):
    out = tmp_path / "speed.pdf"
    assert track.run_main(["plot", "--kernel", "a", "--out", str(out), "--db", str(place)]) == 2
    assert capsys.readouterr().err == (
        f"track: --out: expected a file that ends with .png, .svg, .html, found {out}\n"
    )


def test_too_many_series_are_refused(place):
    rows, _ = rows_and_changes(place)
    many = [{**rows[0], "kernel": f"k{i}"} for i in range(history_plot.MOST_SERIES + 1)]
    with pytest.raises(BadInput, match="expected at most 12 series in one picture, found 13"):
        history_plot.build(many, [])


def test_kernels_that_never_ran_cannot_be_drawn(place):
    rows, _ = rows_and_changes(place)
    with pytest.raises(BadInput, match="found none that ran"):
        history_plot.build([{**rows[0], "median_s": None}], [])
