# SPDX-License-Identifier: Apache-2.0
"""A network of benchmarks/models as a PyTorch module, from its JSON alone.

Nothing of triphase's C++ runs here, which makes it an opinion from outside for
scripts/make_pytorch_losses and a fair opponent for scripts/peers. Graphs of the layer kinds below
are known; whatever else a file asks for is Unsupported, and never left out in silence. Imports
torch, which neither building nor testing triphase needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

# fill(name, tensor, fan_in): sets the initial values of one parameter, in place.
Fill = Callable[[str, torch.Tensor, int], None]


class Unsupported(Exception):
    """The file asks for what is not translated here; the message says what."""


class Layer(NamedTuple):
    """One layer of the unrolled list; layers of one owner share their weights."""

    name: str
    owner: str
    attributes: dict[str, Any]
    inputs: list[str]


class Add(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class Graph(nn.Module):
    """Layers in the order of the list; each reads others by number, 0 being the input."""

    def __init__(self, modules: list[nn.Module], inputs: list[list[int]]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)
        self.inputs = inputs
        last_reader = {i: step for step, read in enumerate(inputs) for i in read}
        self.unread_after = [
            [i for i, s in last_reader.items() if s == step] for step in range(len(inputs))
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for step, module in enumerate(self.steps):
            values.append(module(*(values[i] for i in self.inputs[step])))
            for i in self.unread_after[step]:
                values[i] = None  # so that its memory is free as early as in a network by hand
        return values[-1]


def expanded(
    layers: list[dict[str, Any]],
    parameters: dict[str, Any],
    suffix: str = "",
    owner: str = "",
    outer: tuple[dict[str, str], ...] = ({"input": "input"},),
) -> list[Layer]:
    """Repeats unrolled, in order. A name means the layer of the innermost repeat that has one."""

    def value(given: Any) -> Any:
        is_parameter = isinstance(given, str) and given.startswith("$")
        return parameters[given[1:]] if is_parameter else given

    scopes = (
        *outer,
        {layer["name"]: layer["name"] + suffix for layer in layers if "name" in layer},
    )
    result: list[Layer] = []
    for layer in layers:
        if "repeat" not in layer:
            attributes = {key: value(given) for key, given in layer.items()}
            names = attributes.pop("inputs", [])
            found = [next(s[n] for s in reversed(scopes) if n in s) for n in names]
            result.append(Layer(layer["name"] + suffix, layer["name"] + owner, attributes, found))
            continue
        for i in range(value(layer["repeat"])):
            shared = value(layer.get("share_weights", False))
            inner_owner = f"{owner}.0" if shared else f"{owner}.{i}"
            result += expanded(layer["layers"], parameters, f"{suffix}.{i}", inner_owner, scopes)
    return result


def module_of(attributes: dict[str, Any], in_features: int) -> nn.Module:
    """One layer; channels or features of its input are known by then."""
    kind = attributes["kind"]
    known = {"name", "kind", "out_features", "out_channels", "bias"}
    known |= {"kernel", "kernel_size", "stride", "padding", "eps", "momentum"}
    if unknown := attributes.keys() - known:
        raise Unsupported(f"no '{min(unknown)}' of a layer ({attributes['name']}) in PyTorch yet")
    window = {
        "kernel_size": attributes.get("kernel", attributes.get("kernel_size")),
        "stride": attributes.get("stride", 1),
        "padding": attributes.get("padding", 0),
    }
    match kind:
        case "linear":
            out = attributes["out_features"]
            return nn.Linear(in_features, out, bias=attributes.get("bias", True))
        case "conv2d":
            out = attributes["out_channels"]
            return nn.Conv2d(in_features, out, bias=attributes.get("bias", True), **window)
        case "batch_norm2d":
            eps, momentum = attributes.get("eps", 1e-5), attributes.get("momentum", 0.1)
            return nn.BatchNorm2d(in_features, eps=eps, momentum=momentum)
        case "add":
            return Add()
        case "relu":
            return nn.ReLU()
        case "max_pool2d":
            return nn.MaxPool2d(**window)
        case "global_avg_pool2d":
            return nn.AdaptiveAvgPool2d(1)
        case "flatten":
            return nn.Flatten()
    raise Unsupported(f"no layer kind '{kind}' in PyTorch yet")


def build(
    file: Path, given: dict[str, Any], dtype: torch.dtype, fill: Fill, device: str = "cpu"
) -> tuple[nn.Module, torch.Size, int]:
    """The network with its initial values, the shape of one example, and the number of classes.

    `given` are the model's parameters that differ from the file's. Shapes are followed on the meta
    device, which holds no data, so that nothing large is made before it is filled.
    """
    model = json.loads(file.read_text(encoding="utf-8"))
    if model["loss"]["kind"] != "softmax_cross_entropy":
        raise Unsupported(f"no loss '{model['loss']['kind']}' in PyTorch yet")
    parameters = model.get("parameters", {}) | given
    extents = model["input"]["shape"]
    shape = torch.Size(parameters[e[1:]] if isinstance(e, str) else e for e in extents)

    layers = expanded(model["layers"], parameters)
    number = {"input": 0} | {layer.name: i + 1 for i, layer in enumerate(layers)}
    inputs = [[number[n] for n in layer.inputs] or [i] for i, layer in enumerate(layers)]
    if any(read >= i + 1 for i, of_layer in enumerate(inputs) for read in of_layer):
        raise Unsupported("no layers in PyTorch yet that are listed before what they read")
    owners: dict[str, nn.Module] = {}
    modules: list[nn.Module] = []
    with torch.device("meta"):
        values = [torch.empty((2, *shape))]  # two, since one alone cannot be normalised
        for layer, read in zip(layers, inputs, strict=True):
            module = owners.get(layer.owner)
            if module is None:
                module = module_of(layer.attributes, values[read[0]].shape[1])
                owners[layer.owner] = module
            modules.append(module)
            values.append(module(*(values[i] for i in read)))
    for owner, module in owners.items():
        module.to(dtype).to_empty(device=device)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # weight 1, bias 0, running mean 0 and variance 1
            continue
        for name, parameter in module.named_parameters():
            fill(f"{owner}.{name}", parameter.data, module.weight[0].numel())
    chain = all(read == [i] for i, read in enumerate(inputs))
    network = nn.Sequential(*modules) if chain else Graph(modules, inputs)
    return network, shape, values[-1].shape[1]
