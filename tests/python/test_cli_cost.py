# SPDX-License-Identifier: Apache-2.0
"""triphase_cost end to end: any file and any flag gives an answer, or exit code 2 and one line."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binaries import ROOT, Json, assert_refused, binary, parse, run, tiny_network, write_model
from contract import assert_contract


def cost(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run("triphase_cost", *arguments, timeout_s=20)


def network(*layers: Json, **changes: Any) -> Json:
    return tiny_network() | {"layers": list(layers)} | changes


def linear(**changes: Any) -> Json:
    return {"name": "fc", "kind": "linear", "out_features": 4} | changes


def conv(**changes: Any) -> Json:
    return {"name": "conv", "kind": "conv2d", "out_channels": 4, "kernel": 3} | changes


def image(*layers: Json) -> Json:
    return network(*layers, input={"shape": [3, 8, 8]}, loss={"kind": "mean_square"})


# --- What is right --------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_cost_json_keeps_to_the_schema(tmp_path: Path, optimizer: str) -> None:
    model = write_model(tmp_path, tiny_network())
    process = cost(f"--model={model}", "--batch=5", f"--optimizer={optimizer}", "--format=json")
    assert process.returncode == 0
    assert process.stderr == ""
    document = parse(process.stdout)
    assert_contract(document, "cost")
    assert document["parameters"] == 8 * 4 + 8 + 3 * 8 + 3
    assert document["totals"]["forward"]["flop"] == 2 * 5 * (8 * 4 + 3 * 8)


def test_several_steps_are_a_list_in_json_and_a_line_each_in_the_table(tmp_path: Path) -> None:
    model = write_model(tmp_path, tiny_network())
    flags = [f"--model={model}", "--batch=1,4", "--optimizer=sgd,adam", "--dtype=f32,bf16"]
    documents = parse(cost(*flags, "--format=json").stdout)
    alone = [
        parse(
            cost(
                flags[0], f"--batch={b}", f"--optimizer={o}", f"--dtype={d}", "--format=json"
            ).stdout
        )
        for b in (1, 4)
        for o in ("sgd", "adam")
        for d in ("f32", "bf16")
    ]
    assert documents == alone
    for document in documents:
        assert_contract(document, "cost")
    header, _, *lines = cost(*flags).stdout.splitlines()
    assert header.split()[:5] == ["model", "batch", "dtype", "optimizer", "parameters"]
    described = [line.split()[:4] for line in lines[: len(alone)]]
    keys = ("model", "batch", "dtype", "optimizer")
    assert described == [[str(document[key]) for key in keys] for document in alone]
    ratios = [float(line.split()[-4]) for line in lines[: len(alone)]]
    assert ratios == pytest.approx([document["ratio"]["flop"] for document in alone], abs=5e-5)


def test_a_step_that_is_asked_for_twice_is_counted_once(tmp_path: Path) -> None:
    model = f"--model={write_model(tmp_path, tiny_network())}"
    once = parse(cost(model, "--format=json").stdout)
    assert parse(cost(model, model, "--batch=1,1", "--format=json").stdout) == [once]


def test_a_suite_is_counted_whole(tmp_path: Path) -> None:
    write_model(tmp_path, tiny_network())
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps([{"model": "model.json", "batch": "1:16:*4", "optimizer": "adam"}]))
    documents = parse(cost(f"--suite={suite}", "--format=json").stdout)
    assert [(d["batch"], d["optimizer"]) for d in documents] == [
        (1, "adam"),
        (4, "adam"),
        (16, "adam"),
    ]


@pytest.mark.parametrize(("dtype", "width"), [("f32", 4), ("tf32", 4), ("bf16", 2), ("f16", 2)])
def test_dtypes_change_bytes_and_no_flop(tmp_path: Path, dtype: str, width: int) -> None:
    model = write_model(tmp_path, network(linear()))  # 4 inputs, 4 outputs, a bias
    process = cost(f"--model={model}", "--batch=5", f"--dtype={dtype}", "--format=json")
    document = parse(process.stdout)
    assert_contract(document, "cost")
    assert document["dtype"] == dtype
    totals = document["totals"]
    assert totals["forward"]["flop"] == 2 * 5 * 4 * 4
    fc = document["layers"][0]["phases"]
    # x, w and the product; the product, the bias and their sum
    assert fc["forward"]["traffic_bytes"] == width * ((20 + 16 + 20) + (20 + 4 + 20))
    # Per parameter w, its gradient and the new w; in mixed precision that once more, and its copy.
    copies = 4 + 2 if width == 2 else 0
    assert fc["update"]["traffic_bytes"] == 20 * (4 + width + 4 + copies)
    assert document["parameters"] == 20
    assert document["memory_bytes"]["parameters"] == 20 * (4 + (width if width == 2 else 0))
    assert document["memory_bytes"]["gradients"] == 20 * width
    # SGD's two operations; in f16 gradients are divided by the loss's scale before.
    assert fc["update"]["flop"] == 20 * 2
    assert fc["update"]["flop_executed"] == 20 * (3 if dtype == "f16" else 2)
    assert document.get("loss_scale") == (1024 if dtype == "f16" else None)
    table = cost(f"--model={model}", "--batch=5", f"--dtype={dtype}").stdout
    assert f"batch 5, {dtype}, sgd" in table
    assert ("loss times 1024" in table) == (dtype == "f16")


@pytest.mark.parametrize("name", ["OneNet", "onenet", "ONENET"])
def test_model_names_ignore_case(name: str) -> None:
    assert (
        cost(f"--model={name}", "--format=json").stdout
        == cost("--model=OneNet", "--format=json").stdout
    )


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/models").glob("*.json")))
def test_every_model_of_the_repository_has_a_cost(path: Path) -> None:
    document = parse(cost(f"--model={path}", "--batch=2", "--format=json").stdout)
    assert_contract(document, "cost")


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    model = write_model(tmp_path, b"\xef\xbb\xbf" + json.dumps(tiny_network()).encode())
    assert cost(f"--model={model}").returncode == 0


def test_layers_may_be_listed_in_any_order(tmp_path: Path) -> None:
    count = 5000
    chain = [
        linear(name=f"fc{i}", inputs=[f"fc{i - 1}" if i else "input"])
        for i in reversed(range(count))
    ]
    process = cost(f"--model={write_model(tmp_path, network(*chain))}", "--format=json")
    names = [layer["name"] for layer in parse(process.stdout)["layers"]]
    assert names[:count] == [f"fc{i}" for i in range(count)]


# --- Flags ----------------------------------------------------------------------------------------

BAD_FLAGS: dict[str, tuple[list[object], list[str]]] = {
    "no_model": ([], ["expected --model=NAME or --suite=NAME, found neither"]),
    "unknown_model": (
        ["--model=Nope"],
        ["model: expected", "ConvNet, DeeperConvNet", "OneNet", "found 'Nope'"],
    ),
    "missing_file": (["--model=nowhere/net.json"], ["nowhere/net.json: expected a file, found"]),
    "empty_model": (["--model="], ["--model: expected a value, as --model=VALUE, found none"]),
    "empty_model_before_another_flag": (
        ["--model=", "--batch=2"],
        ["--model: expected a value, as --model=VALUE, found none"],
    ),
    "unknown_flag": (["--model=OneNet", "--frobnicate=3"], ["--frobnicate"]),
    "unknown_suite": (["--suite=Nope"], ["suite: expected", "quick", "found 'Nope'"]),
    "too_many_steps": (["--model=OneNet", "--batch=1:200000:+1"], ["at most 100000 values"]),
    "stray_word": (["--model=OneNet", "stray"], ["stray"]),
    "line_break": (["--model=One\nNet"], ["One\\nNet"]),
    "not_utf_8": ([b"--model=\xff\xfe"], ["expected a .json file or one of"]),
    "very_long": (["--model=" + "a" * 100_000], ["expected a .json file or one of", " ... "]),
    "batch_0": (["--model=OneNet", "--batch=0"], ["batch: expected an integer from 1", "found 0"]),
    "batch_negative": (["--model=OneNet", "--batch=-1"], ["batch: expected", "found -1"]),
    "batch_word": (["--model=OneNet", "--batch=abc"], ["--batch", "abc"]),
    "batch_fraction": (["--model=OneNet", "--batch=3.5"], ["--batch", "3.5"]),
    "batch_2_to_62": (["--model=OneNet", f"--batch={2**62}"], ["batch: expected", str(2**62)]),
    "batch_2_to_70": (["--model=OneNet", f"--batch={2**70}"], ["batch"]),
    "batch_overflows": (["--model=ConvNet", f"--batch={2**40}"], ["expected sizes below 2^63"]),
    "optimizer": (["--model=OneNet", "--optimizer=sdg"], ["one of sgd, momentum", "found 'sdg'"]),
    "dtype": (
        ["--model=OneNet", "--dtype=f64"],
        ["dtype: expected one of f32, tf32, bf16, f16, found 'f64'"],
    ),
    "loss_scale_3": (
        ["--model=OneNet", "--dtype=f16", "--loss_scale=3"],
        ["--loss_scale", "a power of two from 1 to 16777216", "'3'"],
    ),
    "loss_scale_in_bf16": (
        ["--model=OneNet", "--dtype=bf16", "--loss_scale=2"],
        ["--loss_scale: expected --dtype=f16, found no case in f16"],
    ),
    "format": (["--model=OneNet", "--format=yaml"], ["--format", "yaml"]),
    "parameters_none": (["--model=MLP:"], ["name=value after the colon", "found nothing"]),
    "parameter_without_value": (["--model=MLP:inputs"], ["name=integer", "found 'inputs'"]),
    "parameter_fraction": (["--model=MLP:inputs=1.5"], ["name=integer", "found 'inputs=1.5'"]),
    "parameter_empty": (["--model=MLP:inputs="], ["name=integer", "found 'inputs='"]),
    "parameter_list": (["--model=MLP:inputs=[1]"], ["name=integer", "found 'inputs=[1]'"]),
    "parameter_boolean": (["--model=MLP:inputs=true"], ["inputs: expected an integer", "true"]),
    "parameter_unknown": (["--model=MLP:depth=3"], ["depth: expected one of inputs", "unknown"]),
    "parameter_0": (["--model=MLP:inputs=0"], ["$.input.shape[0]: expected an integer", "found 0"]),
    "parameter_huge": (["--model=MLP:inputs=1e30"], ["name=integer", "found 'inputs=1e30'"]),
    "parameter_2_to_62": ([f"--model=MLP:inputs={2**62}"], ["$.input.shape[0]", str(2**62)]),
    "parameter_deep": (
        ["--model=MLP:inputs=" + "[" * 50_000 + "]" * 50_000],
        ["model MLP", " ... "],
    ),
    "depth_negative": (["--model=DeeperConvNet:depth=-1"], ["repeat: expected", "found -1"]),
    "depth_huge": (["--model=DeeperConvNet:depth=1000000000"], ["repeat", "found 1000000000"]),
    "share_number": (["--model=DeeperConvNet:share_weights=1"], ["true or false", "found 1"]),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_wrong_flags_are_refused_in_one_line(case: str) -> None:
    arguments, words = BAD_FLAGS[case]
    assert_refused(cost(*arguments), *words)


def test_help_lists_the_flags() -> None:
    process = cost("--help")
    assert process.returncode == 0
    for flag in ("--model", "--batch", "--dtype", "--loss_scale", "--optimizer", "--format"):
        assert flag in process.stdout


def test_a_full_disk_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [binary("triphase_cost"), "--model=OneNet"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    process.stdout = ""
    assert_refused(process, "standard output: expected a file that can be written", "No space left")


# --- Models that are JSON, and wrong --------------------------------------------------------------

SIZES: dict[str, Any] = {
    "zero": 0,
    "negative": -3,
    "fraction": 3.5,
    "whole_float": 3.0,
    "1e30": 1e30,
    "2_to_62": 2**62,
    "2_to_64": 2**64,
    "negative_huge": -(2**64),
    "text": "4",
    "null": None,
    "true": True,
    "list": [4],
    "object": {},
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("$.layers[0].out_features", lambda n: network(linear(out_features=n))),
        ("$.input.shape[1]", lambda n: network(linear(), input={"shape": [4, n]})),
        ("$.layers[0].out_channels", lambda n: image(conv(out_channels=n))),
        ("$.layers[0].kernel", lambda n: image(conv(kernel=n))),
        ("$.layers[0].stride[0]", lambda n: image(conv(stride=[n, 1]))),
        ("$.layers[0].groups", lambda n: image(conv(groups=n))),
        ("$.layers[1].repeat", lambda n: network(linear(), {"repeat": n, "layers": [linear()]})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_are_integers_in_range(
    tmp_path: Path, path: str, model: Callable[[Any], Json], size: str
) -> None:
    if path.endswith("repeat") and size == "zero":
        return  # that many times is none, and allowed
    if path.endswith("kernel") and size == "list":
        path = "$.layers[0].kernel: expected an integer or a pair"
    process = cost(f"--model={write_model(tmp_path, model(SIZES[size]))}")
    assert_refused(process, "model.json", path, "expected an integer", "found ")


BAD_MODELS: dict[str, tuple[Any, list[str]]] = {
    "no_object": ([1, 2], ["$: expected an object, found a list of 2"]),
    "number": (3, ["$: expected an object, found 3"]),
    "empty_object": ({}, ["$.name: expected a string, found nothing"]),
    "name_number": (network(linear(), name=3), ["$.name: expected a non-empty string, found 3"]),
    "name_empty": (network(linear(), name=""), ["$.name: expected a non-empty string"]),
    "name_slash": (network(linear(), name="a/b"), ["$.name: expected", "letters", 'found "a/b"']),
    "name_nul": (network(linear(), name="a\0b"), ["$.name: expected", "letters", r"a\u0000b"]),
    "name_long": (network(linear(), name="a" * 1_000_000), ["$.name: expected at most 200"]),
    "layer_name_long": (
        network(linear(name="a" * 1_000_000)),
        ["$.layers[0].name: expected at most 200"],
    ),
    "layer_name_break": (network(linear(name="a\nb")), ["$.layers[0].name: expected", r"a\nb"]),
    "layer_name_input": (network(linear(name="input")), ["neither input nor loss", '"input"']),
    "layer_name_missing": (network({"kind": "relu"}), ["$.layers[0].name: expected a string"]),
    "no_layers": (network(), ["$.layers: expected at least one layer, found none"]),
    "layers_object": (network(linear(), layers={}), ["$.layers: expected a list of layers"]),
    "layer_number": (network(7), ["$.layers[0]: expected an object, found 7"]),
    "no_parameters": (
        network({"name": "relu", "kind": "relu"}, loss={"kind": "mean_square"}),
        ["$.loss: expected a layer with parameters, found none"],
    ),
    "unknown_kind": (
        network(linear(kind="lstm")),
        ["$.layers[0].kind: expected one of linear, conv2d", "found 'lstm'"],
    ),
    "unknown_loss": (
        network(linear(), loss={"kind": "hinge"}),
        ["$.loss.kind: expected one of softmax_cross_entropy, mean_square, found 'hinge'"],
    ),
    "unknown_key": (
        network(linear(out_feature=3)),
        ["$.layers[0].out_feature: expected only the keys", "out_features", "an unknown key"],
    ),
    "unknown_key_break": (network(linear(**{"a\nb": 3})), [r"$.layers[0].a\nb: expected only"]),
    "unknown_key_above": (network(linear(), version=2), ["$.version: expected only the keys"]),
    "unknown_dtype": (
        network(linear(), input={"shape": [4], "dtype": "f99"}),
        ["$.input.dtype: expected f32, found 'f99'"],
    ),
    "cycle": (
        network(linear(name="a", inputs=["b"]), linear(name="b", inputs=["a"])),
        ["$.layers[0].inputs: expected no cycle, found one through 'a'"],
    ),
    "own_input": (network(linear(inputs=["fc"])), ["expected no cycle", "'fc'"]),
    "dangling_input": (
        network(linear(inputs=["ghost"])),
        ["$.layers[0].inputs: expected names of layers, or input", "ghost"],
    ),
    "too_many_inputs": (
        network(linear(inputs=["input", "input"])),
        ["$.layers[0].inputs: expected a list of 1 names, found a list of 2"],
    ),
    "inputs_text": (network(linear(inputs="input")), ["$.layers[0].inputs: expected a list of 1"]),
    "inputs_number": (network(linear(inputs=[3])), ["expected names of layers, found 3"]),
    "add_without_inputs": (
        network(linear(), {"name": "sum", "kind": "add"}),
        ["$.layers[1].inputs: expected 2 names, found nothing"],
    ),
    "unread_layer": (
        network(linear(name="a"), linear(name="b", inputs=["input"])),
        ["$.layers[0]: expected a layer that another reads", "'a'"],
    ),
    "duplicate_name": (
        network(linear(), linear()),
        ["$.layers[1].name: expected a new name, found 'fc' again"],
    ),
    "rank": (
        network(conv()),
        ["$.layers[0]: expected an input [N, C, H, W], found shape"],
    ),
    "rank_of_loss": (
        network(conv(), input={"shape": [3, 8, 8]}),
        ["$.loss: expected an input [N, K], found shape"],
    ),
    "features": (
        network(linear(in_features=5)),
        ["$.layers[0]: expected an input of 5 features, found shape"],
    ),
    "channels": (image(conv(in_channels=5)), ["$.layers[0]: expected channels", "5 of them"]),
    "groups": (image(conv(groups=2)), ["$.layers[0]: expected channels divided by 2 groups"]),
    "kernel_too_large": (image(conv(kernel=9)), ["$.layers[0]: expected"]),
    "two_kernels": (image(conv(kernel_size=3)), ["expected one of kernel and kernel_size"]),
    "pool_padding": (
        image({"name": "pool", "kind": "max_pool2d", "kernel": 3, "padding": 2}),
        ["$.layers[0].padding: expected at most half of the kernel, found 2"],
    ),
    "sum_of_shapes": (
        network(
            linear(name="a"),
            linear(name="b", out_features=5),
            {"name": "sum", "kind": "add", "inputs": ["a", "b"]},
        ),
        ["$.layers[2]: expected"],
    ),
    "bias_number": (network(linear(bias=1)), ["$.layers[0].bias: expected true or false, found 1"]),
    "shape_empty": (
        network(linear(), input={"shape": []}),
        ["$.input.shape: expected a list of 1 to 6 extents, found a list of 0"],
    ),
    "shape_long": (network(linear(), input={"shape": [1] * 7}), ["$.input.shape: expected a list"]),
    "shape_text": (network(linear(), input={"shape": "4"}), ["$.input.shape: expected a list"]),
    "input_overflows": (
        network(linear(), input={"shape": [2**40, 2**40]}),
        ["$.input.shape: expected sizes below 2^63"],
    ),
    "weights_overflow": (
        network(linear(out_features=2**40), linear(name="b", out_features=2**40)),
        ["expected sizes below 2^63"],
    ),
    "repeat_of_nothing": (
        network(linear(), {"repeat": 100_000, "layers": [{"repeat": 100_000, "layers": []}]}),
        ["layers: expected at least one layer, found none"],
    ),
    "repeat_of_zero_repeats": (
        network(
            linear(),
            {"repeat": 100_000, "layers": [{"repeat": 0, "layers": [linear(name="a")]}]},
        ),
        ["expected at most 100000 layers and repeats, found more"],
    ),
    "repeats_multiply": (
        network({"repeat": 1000, "layers": [{"repeat": 1000, "layers": [linear()]}]}),
        ["expected at most 100000 layers and repeats, found more"],
    ),
    "repeat_billion": (
        network({"repeat": 10**9, "layers": [linear()]}),
        ["$.layers[0].repeat: expected an integer from 0 to 100000, found 1000000000"],
    ),
    "repeat_without_layers": (network({"repeat": 2}), ["$.layers[0].layers: expected a list"]),
    "repeat_with_kind": (
        network({"repeat": 2, "kind": "relu", "layers": [linear()]}),
        ["$.layers[0].kind: expected only the keys", "an unknown key"],
    ),
    "shared_shapes_differ": (
        network({"repeat": 2, "share_weights": True, "layers": [linear(out_features=7)]}),
        ["expected shared weights of one shape"],
    ),
    "unknown_parameter": (
        network(linear(out_features="$width")),
        ["$.layers[0].out_features: expected a parameter of this model, found '$width'"],
    ),
    "parameter_text": (
        network(linear(), parameters={"depth": "3"}),
        ["$.parameters.depth: expected an integer or a boolean"],
    ),
    "parameters_list": (network(linear(), parameters=[1]), ["$.parameters: expected an object"]),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_wrong_models_are_refused_with_path_expected_and_found(tmp_path: Path, case: str) -> None:
    model, words = BAD_MODELS[case]
    process = cost(f"--model={write_model(tmp_path, model)}")
    assert_refused(process, "expected ", ", found ", *words)


# --- Files that are no JSON, or not only ----------------------------------------------------------


def deep(depth: int, where: str) -> str:
    brackets = "[" * depth + "]" * depth
    return {
        "top": brackets,
        "attribute": json.dumps(network(linear(padding="@"))).replace('"@"', brackets),
        "parameter": json.dumps(network(linear(), parameters={"a": "@"})).replace('"@"', brackets),
        "open": "[" * depth,
        "objects": '{"a":' * depth + "1" + "}" * depth,
        "repeats": '{"name": "n", "layers": '
        + '[{"repeat": 1, "layers": ' * depth
        + "[]"
        + "}]" * depth
        + "}",
    }[where]


@pytest.mark.parametrize("depth", [100, 100_000, 600_000])
@pytest.mark.parametrize("where", ["top", "attribute", "parameter", "open", "objects", "repeats"])
def test_deep_nesting_is_refused_and_does_not_use_up_the_stack(
    tmp_path: Path, where: str, depth: int
) -> None:
    model = write_model(tmp_path, deep(depth, where))
    assert_refused(cost(f"--model={model}"), str(model), "at most 64 deep, found deeper ones")


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "nul": b"\0" * 1000,
    "elf": b"\x7fELF\x02\x01\x01\0\0\0",
    "all_bytes": bytes(range(256)) * 20,
    "utf_16": json.dumps(tiny_network()).encode("utf-16"),
    "not_utf_8_name": json.dumps(tiny_network("@")).encode().replace(b"@", b"\xff\xfe"),
    "cut_utf_8": b'{"name": "\xe2\x82"}',
    "surrogate": b'{"name": "\\ud800"}',
    "two_documents": b"{}{}",
    "trailing_comma": b'{"name": "n",}',
    "comment": b"// a network\n{}",
    "nan": b'{"name": NaN}',
    "infinity": b'{"name": Infinity}',
    "beyond_double": b'{"name": 1e400}',
    "long_number": b'{"name": 1' + b"0" * 100_000 + b"}",
    "line_breaks": b"{\n\n\n\nx\n}",
}


@pytest.mark.parametrize("case", GARBAGE)
def test_what_is_no_json_is_refused(tmp_path: Path, case: str) -> None:
    model = write_model(tmp_path, GARBAGE[case])
    assert_refused(cost(f"--model={model}"), str(model), "expected valid JSON, found ")


def test_json_cut_short_is_refused_at_every_byte(tmp_path: Path) -> None:
    text = json.dumps(network(linear()))
    for length in range(0, len(text) - 1, 3):
        model = write_model(tmp_path, text[:length])
        assert_refused(cost(f"--model={model}"), "expected valid JSON", f"column {length + 1}")


def test_a_file_of_a_gigabyte_is_refused_unread(tmp_path: Path) -> None:
    model = tmp_path / "huge.json"
    with model.open("wb") as file:
        file.truncate(10**9)  # sparse: takes no space
    process = cost(f"--model={model}")
    assert_refused(process, str(model), "at most 16 MiB of JSON, found 1000000000 bytes")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    folder = tmp_path / "folder.json"
    folder.mkdir()
    assert_refused(cost(f"--model={folder}"), str(folder), "expected a file")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_model(tmp_path: Path, path: str) -> None:
    link = tmp_path / "device.json"
    link.symlink_to(path)
    assert_refused(cost(f"--model={link}"), str(link), "expected a file")


# --- Mutations ------------------------------------------------------------------------------------

SEEDS: list[Json] = [
    json.loads((ROOT / "benchmarks/models/DeeperConvNet.json").read_text()),
    tiny_network(),
    image(
        conv(name="a", padding=1),
        {"name": "norm", "kind": "batch_norm2d"},
        {"name": "pool", "kind": "avg_pool2d", "kernel": 3, "stride": 1, "padding": 1},
        {"name": "sum", "kind": "add", "inputs": ["a", "pool"]},
        {"name": "flatten", "kind": "flatten"},
        linear(),
    ),
]

VALUES = st.one_of(
    st.sampled_from([0, -1, 1, 2, 3, 7, 2**31, 2**40, 2**62, 2**63, 2**64, 1e30, 0.5, 1e-320]),
    st.sampled_from(
        ["", "input", "loss", "$depth", "$", "relu", "add", "conv2d", "fc1", "\n", "é"]
    ),
    st.sampled_from([None, True, False, [], {}, [1], [1, 2], [[]], {"kind": "relu", "name": "x"}]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) within."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for key in keys for place in [(value, key), *places(value[key])]]


@st.composite
def mutated_networks(draw: st.DrawFn) -> Json:
    model = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        all_places = places(model)
        if not all_places:
            break
        container, key = draw(st.sampled_from(all_places))
        match draw(st.sampled_from(["replace", "delete", "copy", "rename"])):
            case "replace":
                container[key] = draw(VALUES)
            case "delete":
                del container[key]
            case "copy":
                other, other_key = draw(st.sampled_from(all_places))
                if other_key in other if isinstance(other, dict) else other_key < len(other):
                    container[key] = copy.deepcopy(other[other_key])
            case "rename" if isinstance(container, dict):
                container[draw(st.text(max_size=5))] = container.pop(key)
    return model


@settings(
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(model=mutated_networks(), batch=st.sampled_from([1, 2, 2**40]))
def test_mutated_models_have_a_cost_or_are_refused(tmp_path: Path, model: Json, batch: int) -> None:
    path = write_model(tmp_path, model)
    process = cost(f"--model={path}", f"--batch={batch}", "--format=json")
    if process.returncode != 0:
        assert_refused(process, "expected ", ", found ")
        return
    assert_contract(parse(process.stdout), "cost")


@settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.sampled_from([json.dumps(seed).encode() for seed in SEEDS]),
    position=st.floats(0, 1),
    cut=st.integers(0, 20),
    inserted=st.binary(max_size=8),
)
def test_mutated_bytes_have_a_cost_or_are_refused(
    tmp_path: Path, seed: bytes, position: float, cut: int, inserted: bytes
) -> None:
    at = int(position * len(seed))
    path = write_model(tmp_path, seed[:at] + inserted + seed[at + cut :])
    process = cost(f"--model={path}", "--format=json")
    if process.returncode != 0:
        assert_refused(process)
