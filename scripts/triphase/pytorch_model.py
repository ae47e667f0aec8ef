# SPDX-License-Identifier: Apache-2.0
"""A network of benchmarks/models as a PyTorch module, from its JSON alone.

Nothing of triphase's C++ runs here, which makes it an opinion from outside for
scripts/make_pytorch_losses and a fair opponent for scripts/peers. Chains of the layer kinds below
are known; whatever else a file asks for is Unsupported, and never left out in silence. Imports
torch, which neither building nor testing triphase needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

# fill(name, tensor, fan_in): sets the initial values of one parameter, in place.
Fill = Callable[[str, torch.Tensor, int], None]


class Unsupported(Exception):
    """The file asks for what is not translated here; the message says what."""


def expanded(
    layers: list[dict[str, Any]], parameters: dict[str, Any], owner: str = ""
) -> list[tuple[str, dict[str, Any]]]:
    """Repeats unrolled: (name of the layer that owns the weights, attributes) in order."""

    def value(given: Any) -> Any:
        is_parameter = isinstance(given, str) and given.startswith("$")
        return parameters[given[1:]] if is_parameter else given

    result = []
    for layer in layers:
        if "repeat" not in layer:
            attributes = {key: value(given) for key, given in layer.items()}
            result.append((layer["name"] + owner, attributes))
            continue
        for i in range(value(layer["repeat"])):
            shared = value(layer.get("share_weights", False))
            inner_owner = f"{owner}.0" if shared else f"{owner}.{i}"
            result += expanded(layer["layers"], parameters, inner_owner)
    return result


def module_of(attributes: dict[str, Any], in_features: int) -> nn.Module:
    """One layer; channels or features of its input are known by then."""
    kind = attributes["kind"]
    known = {"name", "kind", "out_features", "out_channels", "bias"}
    known |= {"kernel", "kernel_size", "stride", "padding"}
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
    file: Path, given: dict[str, Any], dtype: torch.dtype, fill: Fill
) -> tuple[nn.Sequential, torch.Size, int]:
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

    owners: dict[str, nn.Module] = {}
    modules: list[nn.Module] = []
    with torch.device("meta"):
        x = torch.empty((1, *shape))
        for owner, attributes in expanded(model["layers"], parameters):
            module = owners.get(owner)
            if module is None:
                module = owners[owner] = module_of(attributes, x.shape[1])
            modules.append(module)
            x = module(x)
    for owner, module in owners.items():
        module.to(dtype).to_empty(device="cpu")
        for name, parameter in module.named_parameters():
            fill(f"{owner}.{name}", parameter.data, module.weight[0].numel())
    return nn.Sequential(*modules), shape, x.shape[1]
