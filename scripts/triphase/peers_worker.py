# SPDX-License-Identifier: Apache-2.0
"""Times training steps of one network in PyTorch: one process, one case, one way to run it.

    python -m triphase.peers_worker                          prints the versions, or what is missing
    python -m triphase.peers_worker REQUEST.json RESULT.json

scripts/peers starts it with the interpreter that has torch; neither knows the other's libraries.
A sample is one whole step as PyTorch's own quickstart writes it:

    loss = cross_entropy(network(x), target)     forward
    loss.backward()                              backward
    optimizer.step(); optimizer.zero_grad()      update; gradients are set to None, and so freed

Marks lie between the three, so that phases are paired and add up to the step. Setting up, compiling
and warming up are not in the samples. The compiled way compiles network and loss, backward with
them; the optimizer stays eager.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from triphase.files import write_atomic

LEARNING_RATE = 1e-12  # as triphase_steps: the update is computed, and the data do not drift
LEAST_WARM_UP = 1  # beside the step that sets up
LEAST_SAMPLES = 5
WARM_UP_SHARE = 0.25  # of the seconds that sampling may take, before it
PHASES = ("forward", "backward", "update")

Step = Callable[[], tuple[float, float, float, float]]


class CannotRun(Exception):
    """This way is not to be had here; the message says why. The row is skipped, not failed."""


def versions() -> dict[str, str]:
    import torch

    return {"torch": torch.__version__, "python": sys.version.split()[0]}


def make_step(request: dict[str, Any]) -> Step:
    """Network, data and optimizer; the result runs one step and gives its four time stamps."""
    import torch

    from triphase import pytorch_model

    torch.set_flush_denormal(True)  # before there are threads, which take it over from this one
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    # One block, repeated: drawing each of LinearNet's weights anew would take seconds.
    block = torch.randn(2**20).clamp_(-3, 3)

    def fill(_: str, parameter: Any, fan_in: int) -> None:
        flat = parameter.view(-1)
        for begin in range(0, flat.numel(), block.numel()):
            part = flat[begin : begin + block.numel()]
            part.copy_(block[: part.numel()])
        flat.div_(math.sqrt(fan_in))

    try:
        file, given = Path(request["file"]), request["parameters"]
        network, shape, classes = pytorch_model.build(file, given, torch.float32, fill)
    except pytorch_model.Unsupported as reason:
        raise CannotRun(str(reason)) from reason
    count = sum(parameter.numel() for parameter in network.parameters())
    if count != request["parameter_count"]:
        raise AssertionError(f"{count} parameters here and {request['parameter_count']} there")
    x = torch.randn(request["batch"], *shape)
    target = torch.randint(classes, (request["batch"],))
    if request["channels_last"]:
        network = network.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)

    def loss_of(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(x), target)

    if request["compiled"]:
        loss_of = torch.compile(loss_of, dynamic=False)
    clock = time.perf_counter

    def step() -> tuple[float, float, float, float]:
        begin = clock()
        loss = loss_of(x, target)
        after_forward = clock()
        loss.backward()
        after_backward = clock()
        optimizer.step()
        optimizer.zero_grad()
        return begin, after_forward, after_backward, clock()

    first_loss(loss_of, x, target, request["compiled"])
    return step


def first_loss(loss_of: Callable, x: Any, target: Any, compiled: bool) -> None:
    """Compiles, where asked for; and what is timed must at least compute something."""
    try:
        loss = loss_of(x, target)
        loss.backward()
    except Exception as error:
        if not compiled:
            raise
        text = " ".join(str(error).partition("\n\n")[0].split())  # advice follows the empty line
        raise CannotRun(f"torch.compile: {type(error).__name__}: {text[:200]}") from error
    if not math.isfinite(loss.item()):
        raise AssertionError(f"the loss is {loss.item()}")


def sample(step: Step, seconds: float, clock: Callable[[], float]) -> dict[str, Any]:
    """Warm up, then steps until the seconds are over, though at least LEAST_SAMPLES."""
    begin, warm_up = clock(), 0
    while warm_up < LEAST_WARM_UP or clock() - begin < WARM_UP_SHARE * seconds:
        step()
        warm_up += 1
    stamps = []
    begin = clock()
    while len(stamps) < LEAST_SAMPLES or clock() - begin < seconds:
        stamps.append(step())
    phases = {p: [s[i + 1] - s[i] for s in stamps] for i, p in enumerate(PHASES)}
    return {"warmup_steps": warm_up, "phases": phases}


def measure(request: dict[str, Any]) -> dict[str, Any]:
    begin = time.perf_counter()
    step = make_step(request)
    setup_s = time.perf_counter() - begin
    wall, cpu, switches = time.perf_counter(), time.process_time(), involuntary_switches()
    result = sample(step, request["seconds"], time.perf_counter)
    wall = time.perf_counter() - wall
    return result | {
        "status": "unverified",
        "setup_s": setup_s,
        "cpu_share": (time.process_time() - cpu) / wall,
        "involuntary_switches_per_s": (involuntary_switches() - switches) / wall,
    }


def involuntary_switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def main(arguments: list[str]) -> int:
    if not arguments:
        try:
            answer = {"versions": versions()}
        except ImportError as error:
            answer = {"missing": str(error)}
        print(json.dumps(answer))
        return 0
    request, result = map(Path, arguments)
    try:
        answer = measure(json.loads(request.read_text(encoding="utf-8")))
    except CannotRun as reason:
        answer = {"status": "skipped", "reason": str(reason)}
    except Exception as error:
        text = " ".join(str(error).split())
        answer = {"status": "failed", "reason": f"{type(error).__name__}: {text[:300]}"}
    write_atomic(result, json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
