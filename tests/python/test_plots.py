# SPDX-License-Identifier: Apache-2.0
"""The plots: files that open anywhere, made of the rows' numbers; none without data."""

from __future__ import annotations

import dataclasses
import functools
import re
import struct
from html.parser import HTMLParser

import altair as alt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_steps
from fake_steps import case_rows, ceilings, document, expected, skipped_rows
from triphase import (
    charts,
    plot,
    plot_ratio_by_batch,
    plot_roofline,
    plot_speedup_by_dtype,
    plot_time_by_phase_and_layer,
)
from triphase.records import build

PLOTS = list(plot.PLOTS)


@pytest.fixture(scope="module")
def records_for(full_records):
    """What a plot has something to show of: the full document, or cases in two precisions."""
    both = build(document(*two_dtypes("OneNet", 1), *two_dtypes("ConvNet", 4)))
    return lambda name: both if plot.across(plot.PLOTS[name]) else full_records


def two_dtypes(model: str, batch: int) -> list[list]:
    return [expected(case_rows(model, batch, dtype=dtype)) for dtype in ("f32", "bf16")]


@pytest.fixture(scope="module")
def drawn(records_for, tmp_path_factory):
    """Every plot of the full document, drawn once."""
    folder = tmp_path_factory.mktemp("plots")
    for name, module in plot.PLOTS.items():
        across = plot.across(module)
        for done in charts.draw(name, module.build, records_for(name), folder, across=across):
            assert not isinstance(done, str), done
    return folder


def spec(name: str, *groups) -> dict:
    return plot.PLOTS[name].build(build(document(*groups))).to_dict()


def values(chart: dict) -> list[dict]:
    """Every row of every data set in a chart."""
    return [row for rows in chart["datasets"].values() for row in rows]


def test_plots_are_named_after_their_modules():
    for name, module in plot.PLOTS.items():
        assert module.__name__ == f"triphase.plot_{name}"
        assert module.__doc__.splitlines()[0].endswith("?")


@pytest.mark.parametrize("name", PLOTS)
def test_a_png_is_whole_and_large_enough_to_read(name, drawn):
    data = (drawn / f"{name}.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1000
    assert height > 600


@pytest.mark.parametrize("name", PLOTS)
def test_an_svg_has_marks_and_text_of_13_pixels_or_more(name, drawn):
    text = (drawn / f"{name}.svg").read_text()
    assert text.startswith("<svg")
    assert text.count("<path") > 10
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)px"', text)]
    assert sizes
    assert min(sizes) >= 13


class Fetches(HTMLParser):
    """Collects what a browser would load, and whether scripts stand in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline_scripts = 0

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[k] for k in ("src", "href") if found.get(k)]
        self.inline_scripts += tag == "script" and "src" not in found


@pytest.mark.parametrize("name", PLOTS)
def test_html_fetches_nothing_and_holds_its_scripts(name, drawn):
    page = (drawn / f"{name}.html").read_text()
    fetches = Fetches()
    fetches.feed(page)
    assert fetches.addresses == []
    assert fetches.inline_scripts >= 1
    assert not re.search(r"\bimport\s*\(?['\"]https?:", page)
    assert len(page) > 300_000
    assert "<title>" in page


@pytest.mark.parametrize("name", PLOTS)
def test_the_caption_names_machine_threads_dtype_optimizer_and_date(name, records_for):
    title = plot.PLOTS[name].build(records_for(name)).to_dict()["title"]
    line = title["subtitle"][1]
    for part in ("Made-up CPU", "2 threads", "f32", "SGD", "2025-11-22"):
        assert part in line


@pytest.mark.parametrize("name", PLOTS)
def test_the_caption_counts_the_cases_that_are_to_be_doubted(name, records_for):
    plain = records_for(name)

    def caption(**changes: pl.Expr) -> str:
        records = dataclasses.replace(plain, rows=plain.rows.with_columns(**changes))
        return "\n".join(plot.PLOTS[name].build(records).to_dict()["title"]["subtitle"])

    assert "disturbed" not in caption()
    assert "verified" not in caption()
    assert re.search(r"^(\d+) of \1 cases were disturbed", caption(disturbed=pl.lit(True)), re.M)
    status = pl.col("status").replace({"ok": "unverified"})
    assert re.search(r"^(\d+) of \1 cases were not verified$", caption(status=status), re.M)


def test_the_doubts_of_a_caption_are_of_the_cases_that_it_shows():
    disturbed = [row | {"disturbed": True} for row in case_rows("OneNet", 1)]
    unverified = [row | {"status": "unverified"} for row in case_rows("OneNet", 4)]
    groups = [disturbed, unverified, case_rows("OneNet", 16), skipped_rows("OneNet", 64, "memory")]
    assert spec("ratio_by_batch", *groups)["title"]["subtitle"][-1] == (
        "1 of 3 cases was disturbed by other programs; 1 of 3 cases was not verified"
    )
    assert len(spec("ratio_by_share", *groups)["title"]["subtitle"]) == 2  # batch 16 alone


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_without_data_says_so_in_one_line_and_writes_nothing(name, tmp_path):
    nothing = build(document(skipped_rows("Unknown", 1, "no such device")))
    done = list(charts.draw(name, plot.PLOTS[name].build, nothing, tmp_path))
    assert len(done) == 1
    assert done[0].startswith(f"{name}: not drawn, ")
    assert list(tmp_path.iterdir()) == []


def test_by_batch_shows_the_flop_ratio_with_update_and_the_time_with_its_interval():
    rows = case_rows("OneNet", 1) + case_rows("OneNet", 64)
    steps = [row for row in rows if row["phase"] == "step"]
    shown = [v for v in values(spec("ratio_by_batch", rows)) if "batch" in v]
    for step, value in zip(steps, shown, strict=True):
        assert value["batch"] == step["batch"]
        assert value["ratio_flop_with_update"] == step["ratio_flop_with_update"]
        assert value["ratio_time_with_update"] == step["ratio_time_with_update"]
        assert value["low"] == step["ratio_time_with_update_ci95_low"]
        assert value["high"] == step["ratio_time_with_update_ci95_high"]


def test_by_batch_has_its_ticks_at_the_batch_sizes():
    chart = spec("ratio_by_batch", *(case_rows("OneNet", b) for b in (1, 3, 48)))
    assert '"values": [1, 3, 48]' in str(chart).replace("'", '"')


def renamed(rows: list, name: str) -> list:
    """The rows as those of another network, without the parameters of the first."""
    old = rows[0]["model"]
    return [
        row | {"model": name, "model_name": name, "name": row["name"].replace(old, name, 1)}
        for row in rows
    ]


def test_by_batch_shows_any_network_that_ran_at_two_batches():
    own = [renamed(case_rows("OneNet", batch), "Own") for batch in (2, 8)]
    once = renamed(case_rows("OneNet", 4), "Once")
    chart = spec("ratio_by_batch", *own, once, case_rows("ConvNet", 1))
    shown = [(v["model"], v["batch"]) for v in values(chart) if "batch" in v]
    assert sorted(shown) == [("ConvNet", 1), ("Own", 2), ("Own", 8)]
    with pytest.raises(charts.NothingToPlot, match="at two batch sizes"):
        spec("ratio_by_batch", once)


def test_by_batch_says_how_many_networks_find_no_colour():
    names = [f"Net{i}" for i in range(len(charts.PALETTE) + 2)]
    groups = [renamed(case_rows("OneNet", batch), name) for name in names for batch in (1, 2)]
    chart = spec("ratio_by_batch", *groups)
    assert len({v["model"] for v in values(chart) if "batch" in v}) == len(charts.PALETTE)
    assert "2 more networks are not shown" in chart["title"]["subtitle"][0]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_marks_of_a_batch_lie_around_it_side_by_side(count):
    names = [f"Net{i}" for i in range(count)]
    groups = [renamed(case_rows("OneNet", batch), name) for name in names for batch in (4, 64)]
    text = str(spec("ratio_by_batch", *groups))
    step, middle = re.search(r"pow\(([\d.]+), indexof\(.*?\) - ([\d.]+)\)", text).groups()
    ends = [float(step) ** (at - float(middle)) for at in (0, count - 1)]
    assert ends[0] * ends[1] == pytest.approx(1)
    assert ends[1] / ends[0] <= plot_ratio_by_batch.APART + 1e-9


def test_no_two_of_49_networks_have_the_same_colour_and_shape():
    _, colours, shapes = charts.families(pl.Series([f"Net{i}" for i in range(49)]))
    pairs = zip(colours.to_dict()["range"], shapes.to_dict()["range"], strict=True)
    assert len(set(pairs)) == 49


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("ratio_by_batch", [case_rows("OneNet", 1)]),
        (
            "ratio_by_depth",
            [case_rows("DeeperConvNet:depth=0", 1), case_rows("DeeperConvNet:depth=2", 4)],
        ),
        ("ratio_by_share", [case_rows("OneNet", 1)]),
    ],
)
def test_a_lone_ratio_in_flop_has_a_hollow_mark(name, groups, tmp_path):
    chart = plot.PLOTS[name].build(build(document(*groups)))
    (path,) = charts.save(chart, tmp_path / name, ("svg",))
    points = re.findall(r'<path [^>]*aria-roledescription="point"[^>]*>', path.read_text())
    assert [" fill=" in point for point in points] == [False, True]  # FLOP, and time over it
    assert "hollow: FLOP" in chart.to_dict()["title"]["subtitle"][0]


def test_without_an_interval_the_bar_has_no_length():
    rows = case_rows("OneNet", 1, samples=3, intervals=False)
    (shown,) = [v for v in values(spec("ratio_by_batch", rows)) if "batch" in v]
    assert shown["low"] == shown["high"] == shown["ratio_time_with_update"]


def test_a_skipped_batch_without_flop_is_left_out():
    chart = spec("ratio_by_batch", case_rows("OneNet", 1), skipped_rows("OneNet", 4, "memory"))
    assert [v["batch"] for v in values(chart) if "batch" in v] == [1]


@pytest.mark.parametrize(("highest", "scale"), [(5.2, None), (11.1, "log")])
def test_ratios_far_off_are_shown_on_a_logarithmic_axis(highest, scale):
    rows = case_rows("OneNet", 1)
    for row in rows:
        if row["phase"] == "step":
            row["ratio_time_with_update"] = row["ratio_time_with_update_ci95_high"] = highest
    chart = spec("ratio_by_batch", rows)
    axis = chart["layer"][1]["encoding"]["y"]["scale"]
    assert axis.get("type") == scale
    if not scale:
        assert axis["domain"][1] > highest


def test_by_depth_only_depth_varies():
    groups = [case_rows(f"DeeperConvNet:depth={n}", b) for n in (0, 2) for b in (1, 4)]
    groups.append(case_rows("DeeperConvNet:depth=5", 4))
    chart = spec("ratio_by_depth", *groups)
    assert chart["title"]["text"].endswith("batch 4")
    assert [v["depth"] for v in values(chart) if "depth" in v] == [0, 2, 5]


def test_by_depth_shows_another_network_where_the_studys_is_not():
    own = []
    for depth in (1, 3):
        rows = renamed(case_rows(f"DeeperConvNet:depth={depth}", 2), f"Own:depth={depth}")
        own.append(
            [row | {"model_name": "Own", "model_parameters": {"depth": depth}} for row in rows]
        )
    chart = spec("ratio_by_depth", *own)
    assert "Own(N), batch 2" in chart["title"]["text"]
    assert [v["depth"] for v in values(chart) if "depth" in v] == [1, 3]
    with pytest.raises(charts.NothingToPlot, match="two values of a parameter 'depth'"):
        spec("ratio_by_depth", own[0])


def test_by_depth_keeps_shared_and_independent_weights_apart():
    groups = [case_rows(f"DeeperConvNet:depth={n}", 4) for n in (0, 2)]
    shared = case_rows("DeeperConvNet:depth=2", 4, seed=2)
    for row in shared:
        row["model"] = "DeeperConvNet:depth=2,share_weights=true"
        row["model_parameters"] = {"depth": 2, "share_weights": True}
        row["name"] = row["name"].replace("depth=2", "depth=2,share_weights=true")
    shown = values(spec("ratio_by_depth", *groups, shared))
    weights = [v["weights"] for v in shown if "weights" in v]
    assert sorted(weights) == ["independent", "independent", "one shared"]


def test_by_share_lies_on_two_minus_share_in_flop(full_records):
    chart = plot.PLOTS["ratio_by_share"].build(full_records).to_dict()
    shown = [v for v in values(chart) if "model" in v]
    assert len(shown) == 3 + 6 + 9 + 1
    for value in shown:
        assert value["ratio_flop"] == pytest.approx(2 - value["first_layer_share"], abs=1e-12)


def test_by_share_takes_the_largest_batch_that_ran():
    groups = [case_rows("OneNet", 1), case_rows("OneNet", 16)]
    shown = values(spec("ratio_by_share", *groups, skipped_rows("OneNet", 64, "memory")))
    assert [v["batch"] for v in shown if "batch" in v] == [16]


def test_shares_of_a_step_sum_to_one(full_records):
    for case in plot_time_by_phase_and_layer.representatives(full_records):
        parts = plot_time_by_phase_and_layer.phase_times(case)
        assert sum(part["share"] for part in parts) == pytest.approx(1)


def test_a_fused_away_layer_has_no_bar(full_records):
    case = full_records.cases("ConvNet")[0]
    layers = {row["layer"] for row in plot_time_by_phase_and_layer.layer_times(case)}
    assert "relu2" in layers
    assert "relu1" not in layers


def test_the_small_layers_of_a_deep_network_are_summed_and_lose_no_time(full_records):
    case = full_records.cases("DeeperConvNet")[-1]
    rows = plot_time_by_phase_and_layer.layer_times(case)
    assert len({row["layer"] for row in rows}) == plot_time_by_phase_and_layer.LAYERS
    whole = sum(row["median_s"] for layer in case.layers.values() for row in layer.values())
    assert sum(row["ms"] for row in rows) == pytest.approx(whole * 1e3)


def test_without_layer_rows_the_phases_are_drawn_alone():
    chart = spec("time_by_phase_and_layer", case_rows("OneNet", 1, layer_rows=False))
    assert "vconcat" not in chart
    assert {v["phase"] for v in values(chart)} == {"forward", *fake_steps_phases()}


def fake_steps_phases() -> set[str]:
    return {fake_steps.DATA, fake_steps.WEIGHTS, fake_steps.UPDATE}


NEW = ("roofline", "predicted")


@pytest.mark.parametrize("name", NEW)
def test_a_file_from_before_the_ceilings_is_not_drawn_and_says_so_in_one_line(name, tmp_path):
    old = build(document(case_rows("OneNet", 1)))
    (done,) = charts.draw(name, plot.PLOTS[name].build, old, tmp_path)
    assert done.startswith(f"{name}: not drawn, ")
    assert list(tmp_path.iterdir()) == []


def test_a_roofline_without_predictions_is_drawn_and_predictions_without_ceilings_are():
    rows = expected(case_rows("OneNet", 1))
    plot.PLOTS["predicted"].build(build(document(rows)))
    for row in rows:
        row.pop("predicted_s", None)
    bounded = build(document(rows, ceilings=ceilings()))
    plot.PLOTS["roofline"].build(bounded)
    with pytest.raises(charts.NothingToPlot):
        plot.PLOTS["predicted"].build(bounded)


def test_the_roofline_has_a_mark_per_case_and_phase_at_its_intensity_and_speed():
    rows = expected(case_rows("OneNet", 1)) + expected(case_rows("ConvNet", 4))
    for row in rows:
        if row["phase"] == "forward" and row["model"] == "OneNet":
            row["traffic_bytes_planned"] = row["flop"] // 2
        if row["phase"] == "update":
            del row["traffic_bytes_planned"]  # as plans that tell none
        if row["model"] == "ConvNet" and row["phase"] == "backward_data":
            row["flop_unpadded"] = row["flop"] // 4
    marks = plot_roofline.points(build(document(rows, ceilings=ceilings()))).to_dicts()
    by_phase = {(r["model"], r["phase"]): r for r in rows if "layer" not in r}
    assert len(marks) == 2 * 4
    for mark in marks:
        row = by_phase[mark["model"], mark["phase"]]
        moved = row.get("traffic_bytes_planned", row["traffic_bytes"])
        assert mark["intensity"] == row["flop_unpadded"] / moved
        assert mark["flop_per_s"] == row["flop_unpadded"] / row["median_s"]
        if (mark["model"], mark["phase"]) == ("OneNet", "forward"):
            assert mark["intensity"] == 2.0


def test_updates_are_set_against_updating_and_the_passes_against_reading():
    known = ceilings()
    rates = known["onednn"]["rates"]
    reads = [rate for rate in rates if rate["kernel"] == "read"]
    rates += [rate | {"kernel": "update", "value": 2 * rate["value"]} for rate in reads]
    records = build(document(case_rows("OneNet", 1), ceilings=known))
    slopes = [
        c for c in plot_roofline.known_ceilings(records, "update") if c.of in plot_roofline.SLOPES
    ]
    assert [c.value for c in slopes] == [
        2 * c.value for c in plot_roofline.known_ceilings(records) if c.of in plot_roofline.SLOPES
    ]
    drawn = str(plot_roofline.build(records).to_dict())
    for what in ("read", "update"):
        assert f"'{what} memory " in drawn


def test_the_roofline_shows_another_optimizer_in_the_update_alone():
    groups = [expected(case_rows("OneNet", 1, optimizer)) for optimizer in ("sgd", "adam")]
    marks = plot_roofline.points(build(document(*groups, ceilings=ceilings())))
    adam = marks.filter(optimizer="adam")
    assert adam["phase"].to_list() == ["update"]
    assert adam["name"].to_list() == ["OneNet ×1 Adam"]
    assert adam["intensity"].to_list() == [13 / 28]


def test_the_roofs_are_of_the_dtype_and_the_slopes_of_reading(full_records):
    known = plot_roofline.known_ceilings(full_records)
    assert [c.label for c in known] == [
        "gemm peak 400 GFLOP/s",
        "convolution peak 320 GFLOP/s",
        "read L2 200 GB/s",
        "read L3 80 GB/s",
        "read memory 25 GB/s",
    ]


@pytest.mark.parametrize(
    ("speeds", "text"),
    [((1.09, 1.091), " ran at 1.09 times "), ((0.92, 1.09), " ran at 0.92 to 1.09 times ")],
)
def test_the_roofline_tells_the_speeds_of_the_machine(speeds, text):
    groups = [expected(case_rows("OneNet", batch)) for batch in (1, 4)]
    for rows, speed in zip(groups, speeds, strict=True):
        for row in rows:
            if "machine_speed" in row:
                row["machine_speed"]["arithmetic"] = speed
    line = plot_roofline.speed(build(document(*groups)).steps)
    assert text in line[0]
    assert plot_roofline.speed(build(document(case_rows("OneNet", 1))).steps) == []


def test_slopes_end_at_the_highest_roof_and_roofs_start_at_the_steepest_slope():
    known = [plot_roofline.Ceiling("gemm", 400e9), plot_roofline.Ceiling("memory", 25e9)]
    frame = plot_roofline.Frame(left=0.1, right=1000, bottom=1e9, top=1e12)
    roof, slope = (plot_roofline.segment(c, known, frame) for c in known)
    assert roof == [(16, 400e9), (1000, 400e9)]
    assert slope == [(0.1, 2.5e9), (16, 400e9)]


@pytest.mark.parametrize(
    "kernels", [("gemm",), ("read",), ("gemm", "convolution"), ("read", "gemm")]
)
@pytest.mark.parametrize("cases", [[("OneNet", 1)], [("ConvNet", 4), ("LinearNet", 64)]])
def test_a_roofline_is_drawn_from_what_ceilings_there_are(kernels, cases, tmp_path):
    known = ceilings()
    rates = known["onednn"]["rates"]
    known["onednn"]["rates"] = [rate for rate in rates if rate["kernel"] in kernels]
    rows = [expected(case_rows(*case)) for case in cases]
    chart = plot_roofline.build(build(document(*rows, ceilings=known)))
    assert charts.save(chart, tmp_path / "roofline", ("svg",))


def test_ceilings_of_another_dtype_or_without_rates_give_no_lines():
    known = ceilings()
    known["onednn"]["rates"] = [r for r in known["onednn"]["rates"] if r.get("dtype") == "bf16"]
    rows = expected(case_rows("OneNet", 1))
    with pytest.raises(charts.NothingToPlot):
        plot_roofline.build(build(document(rows, ceilings=known)))


def test_labels_of_bandwidths_that_nearly_agree_lie_apart():
    known = [plot_roofline.Ceiling("gemm", 220e9)]
    known += [
        plot_roofline.Ceiling(*pair) for pair in [("L2", 208e9), ("L3", 193e9), ("memory", 30e9)]
    ]
    frame = plot_roofline.Frame(left=0.1, right=250, bottom=1e9, top=600e9)
    placed: list[plot_roofline.Text] = []
    for ceiling in known:
        ends = plot_roofline.segment(ceiling, known, frame)
        text = plot_roofline.beside(ceiling, known, ends, frame, [], placed)
        covered = [box for other in placed for box in other.boxes]
        assert plot_roofline.hits(text, covered) == 0, ceiling.label
        placed.append(text)


positions = st.tuples(
    st.floats(0, plot_roofline.WIDTH, width=32), st.floats(0, plot_roofline.HEIGHT, width=32)
)


@given(st.lists(positions, min_size=1, max_size=30))
def test_no_name_lies_over_another_or_over_a_mark(spots):
    rows = [
        {"name": f"Net ×{i}", "intensity": x, "flop_per_s": y} for i, (x, y) in enumerate(spots)
    ]
    placed = plot_roofline.labels(rows, spots, [])
    assert len(placed) <= plot_roofline.NAMED
    boxes = [(text.text, box) for text in placed for box in text.boxes]
    for name, box in boxes:
        others = [other for text, other in boxes if text != name]
        for other in [*others, *map(plot_roofline.around, spots)]:
            assert not plot_roofline.overlap(box, other)


def test_the_predictions_plot_tells_the_errors_by_phase_and_for_the_step():
    chart = spec("predicted", expected(case_rows("OneNet", 1, noise=0)))
    shown = {v["phase"]: v for v in values(chart) if "phase" in v}
    assert shown.pop("step")["text"].startswith("step: ")
    assert sorted(v["text"] for v in shown.values()) == [
        "backward_data: 10 %, 10 % (1)",
        "backward_weights: 20 %, 20 % (1)",
        "forward: 0 %, 0 % (1)",
        "update: 50 %, 50 % (1)",
    ]
    assert shown["update"]["predicted"] == pytest.approx(1.5 * shown["update"]["measured"])


def test_ticks_of_time_have_a_space_before_their_unit(tmp_path, full_records):
    (path,) = charts.draw(
        "predicted", plot.PLOTS["predicted"].build, full_records, tmp_path, ("svg",)
    )
    text = path.read_text()
    for tick in (">100 µs<", ">10 ms<", ">1 s<"):
        assert tick in text


def test_a_plot_per_setting_has_the_setting_in_its_file_name(tmp_path):
    both = build(document(case_rows("OneNet", 1), case_rows("OneNet", 1, backend="cuda")))
    name = "ratio_by_batch"
    done = list(charts.draw(name, plot.PLOTS[name].build, both, tmp_path, ("svg",)))
    assert [path.name for path in done] == [f"{name}.onednn-f32-t2.svg", f"{name}.cuda-f32-t2.svg"]


def test_a_speedup_is_the_time_in_f32_over_the_time_in_the_other_precision():
    f32, bf16 = two_dtypes("OneNet", 4)
    for row in bf16:
        if "median_s" in row and row["phase"] == "update":
            row["median_s"] *= 2
            row["roofline_s"] /= 4
    pairs = plot_speedup_by_dtype.speedups(build(document(f32, bf16))).to_dicts()
    timed = [row for row in f32 if "median_s" in row and row["phase"] != "backward"]
    assert len(pairs) == len(timed)
    assert {pair["case"] for pair in pairs} == {"OneNet ×4 SGD, bf16"}
    for pair in pairs:
        update = pair["phase"] == "update"
        assert pair["speedup"] == pytest.approx(0.5 if update else 1)
        assert pair["allowed"] == pytest.approx(4 if update else 1)


def test_a_case_in_one_precision_alone_has_no_speedup():
    alone = build(document(case_rows("OneNet", 1), case_rows("OneNet", 4, dtype="bf16")))
    with pytest.raises(charts.NothingToPlot, match="in f32 and in another precision"):
        plot_speedup_by_dtype.build(alone)


def test_speedups_without_ceilings_are_drawn_without_ticks():
    plain = [case_rows("OneNet", 1, dtype=dtype) for dtype in ("f32", "bf16")]
    subtitles = [
        plot_speedup_by_dtype.build(build(document(*groups))).to_dict()["title"]["subtitle"][0]
        for groups in (plain, two_dtypes("OneNet", 1))
    ]
    assert ["ticks" in subtitle for subtitle in subtitles] == [False, True]


def test_precisions_are_compared_in_one_plot_and_backends_apart(tmp_path):
    groups = two_dtypes("OneNet", 1)
    module = plot.PLOTS["speedup_by_dtype"]
    draw = functools.partial(
        charts.draw, module.NAME, module.build, out=tmp_path, formats=("svg",), across=module.ACROSS
    )
    assert [p.name for p in draw(build(document(*groups)))] == ["speedup_by_dtype.svg"]
    groups += [case_rows("OneNet", 1, dtype=dtype, backend="cuda") for dtype in ("f32", "bf16")]
    assert [p.name for p in draw(build(document(*groups)))] == [
        "speedup_by_dtype.onednn-t2.svg",
        "speedup_by_dtype.cuda-t2.svg",
    ]


@given(st.lists(st.floats(1e-6, 1e6), min_size=1))
def test_ticks_of_speedups_span_all_and_are_few(values):
    ticks = plot_speedup_by_dtype.powers_of_two(values)
    assert ticks[0] <= min(0.5, *values)
    assert ticks[-1] >= max(2, *values)
    assert 1 in ticks
    assert len(ticks) <= 11


def test_any_steps_json_can_be_drawn_by_name(write_steps, full, tmp_path, capsys):
    path = write_steps(full)
    module = plot.PLOTS["ratio_by_share"]
    out = tmp_path / "out"
    argv = [str(path), "--out", str(out), "--format", "svg"]
    assert charts.main(module.NAME, module.build, module.__doc__, argv) == 0
    assert [p.name for p in out.iterdir()] == ["ratio_by_share.svg"]
    assert "ratio_by_share.svg" in capsys.readouterr().out


def test_a_file_in_the_folders_place_is_bad_usage(write_steps, full, tmp_path, capsys):
    module = plot.PLOTS["ratio_by_share"]
    path = write_steps(full)
    with pytest.raises(SystemExit) as left:
        charts.main(module.NAME, module.build, None, [str(path), "--out", str(path)])
    assert left.value.code == 2
    assert f"--out: expected a folder, found a file: {path}" in capsys.readouterr().err


def test_plots_of_many_rows_are_drawn(tmp_path):
    rows = pl.DataFrame({"x": range(6000)})
    chart = charts.titled(alt.Chart(rows).mark_point().encode(x="x:Q"), "Many", [])
    (path,) = charts.save(chart, tmp_path / "many", ("svg",))
    assert path.read_text().count('role="graphics-symbol"') >= 6000


def test_an_unknown_format_is_bad_usage(write_steps, full, capsys):
    module = plot.PLOTS["ratio_by_share"]
    with pytest.raises(SystemExit) as left:
        charts.main(module.NAME, module.build, None, [str(write_steps(full)), "--format", "gif"])
    assert left.value.code == 2
    assert "gif" in capsys.readouterr().err
