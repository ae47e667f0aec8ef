# SPDX-License-Identifier: Apache-2.0
"""Times training steps of one network in PyTorch: one process, one case, one way to run it.

    python -m triphase.peers_worker cpu|cuda                 prints the versions, or what is missing
    python -m triphase.peers_worker REQUEST.json RESULT.json

scripts/peers starts it with the interpreter that has torch; neither knows the other's libraries.
A step is written as in PyTorch's own quickstart:

    loss = cross_entropy(network(x), target)     forward
    loss.backward()                              backward
    optimizer.step(); optimizer.zero_grad()      update; gradients are set to None, and so freed

On the CPU a sample is one step. Marks lie between the three, so that phases are paired and add up
to the step. The compiled way compiles network and loss, backward with them; the optimizer stays
eager.

On a GPU, to which Python only hands work, a sample is a row of steps that takes about ROW_S,
without waiting between them, as in training. The step is wall time over their number, the GPU
synchronised before the row and at its end; so launching counts where the GPU waits for it, and
synchronising, which training does not do in each step, hardly at all. Phases lie between CUDA
events in the row's last step, the GPU's waiting for Python included. The compiled way compiles the
optimizer's step as well, apart, so that the marks keep their places. All data are on the GPU from
the beginning.

Setting up, compiling and warming up are in no sample.
"""

from __future__ import annotations

import itertools
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
LEAST_WARM_UP = 1  # beside the steps that set up
LEAST_SAMPLES = 5
WARM_UP_SHARE = 0.25  # of the seconds that sampling may take, before it
ROW_S = 0.01  # beside which synchronising with a GPU once is little
PHASES = ("forward", "backward", "update")

# step(mark): runs one; the loss, and what `mark` gave before, between and after the three phases.
Step = Callable[[Callable[[], Any]], tuple[Any, list[Any]]]


class CannotRun(Exception):
    """This way is not to be had here; the message says why. The row is skipped, not failed."""


def versions(device: str) -> dict[str, str]:
    import torch

    found = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if device == "cpu":
        return found
    if torch.version.cuda is None:
        raise CannotRun(f"PyTorch {torch.__version__}, built without CUDA")
    if not torch.cuda.is_available():
        raise CannotRun(f"PyTorch {torch.__version__}, which finds no GPU that it can use")
    return found | {
        "torch_cuda": torch.version.cuda,
        "torch_cudnn": str(torch.backends.cudnn.version()),
        "torch_gpu": torch.cuda.get_device_name(),
    }


def make_step(request: dict[str, Any]) -> Step:
    """Network, data and optimizer on the device, and some first steps."""
    import torch

    from triphase import pytorch_model

    device, dtype, compiled = (request[key] for key in ("device", "dtype", "compiled"))
    on_gpu = device == "cuda"
    narrow = {"bf16": torch.bfloat16, "f16": torch.float16}.get(dtype)
    torch.set_flush_denormal(True)  # before there are threads, which take it over from this one
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    if on_gpu:
        # torch.compile reads these too, which raises where the newer fp32_precision was set.
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.benchmark = request["tuned"]
    # One block, repeated: drawing each of LinearNet's weights anew would take seconds.
    block = torch.randn(2**20, device=device).clamp_(-3, 3)

    def fill(_: str, parameter: Any, fan_in: int) -> None:
        flat = parameter.view(-1)
        for begin in range(0, flat.numel(), block.numel()):
            part = flat[begin : begin + block.numel()]
            part.copy_(block[: part.numel()])
        flat.div_(math.sqrt(fan_in))

    try:
        file, given = Path(request["file"]), request["parameters"]
        network, shape, classes = pytorch_model.build(file, given, torch.float32, fill, device)
    except pytorch_model.Unsupported as reason:
        raise CannotRun(str(reason)) from reason
    count = sum(parameter.numel() for parameter in network.parameters())
    if count != request["parameter_count"]:
        raise AssertionError(f"{count} parameters here and {request['parameter_count']} there")
    x = torch.randn(request["batch"], *shape, device=device)
    target = torch.randint(classes, (request["batch"],), device=device)
    if request["channels_last"]:
        network = network.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    fused = {"fused": True} if on_gpu and request["tuned"] and not compiled else {}
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, **fused)

    def loss_of(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(x), target)

    def mixed_loss_of(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, dtype=narrow):
            return loss_of(x, target)

    def step_optimizer() -> None:
        optimizer.step()

    new_step, forward, update = nothing, mixed_loss_of if narrow else loss_of, optimizer.step
    if compiled:
        mode = "max-autotune" if on_gpu and request["tuned"] else None
        forward = torch.compile(forward, dynamic=False, mode=mode)
        if on_gpu:
            update = torch.compile(step_optimizer, dynamic=False, mode=mode)
            # Gradients are handed from one CUDA graph to the next, and live until this is called.
            new_step = torch.compiler.cudagraph_mark_step_begin

    def step(mark: Callable[[], Any]) -> tuple[torch.Tensor, list[Any]]:
        new_step()
        begin = mark()
        loss = forward(x, target)
        after_forward = mark()
        loss.backward()
        after_backward = mark()
        update()
        optimizer.zero_grad()
        return loss, [begin, after_forward, after_backward, mark()]

    first_steps(step, compiled, 3 if on_gpu else 1)  # one runs, one records graphs, one replays
    return step


def nothing() -> None:
    pass


def first_steps(step: Step, compiled: bool, count: int) -> None:
    """Compiles, where asked for; and what is timed must at least compute something."""
    try:
        for _ in range(count - 1):
            step(nothing)
        loss = step(nothing)[0].item()
    except Exception as error:
        if not compiled or is_out_of_memory(error):
            raise
        text = " ".join(str(error).partition("\n\n")[0].split())  # advice follows the empty line
        raise CannotRun(f"torch.compile: {type(error).__name__}: {text[:200]}") from error
    if not math.isfinite(loss):
        raise AssertionError(f"the loss is {loss}")


def is_out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError"  # a GPU's; torch may not be imported here


def sample(step: Step, seconds: float, clock: Callable[[], float]) -> dict[str, Any]:
    """Warm up, then steps until the seconds are over, though at least LEAST_SAMPLES."""
    begin, warm_up = clock(), 0
    while warm_up < LEAST_WARM_UP or clock() - begin < WARM_UP_SHARE * seconds:
        step(clock)
        warm_up += 1
    stamps = []
    begin = clock()
    while len(stamps) < LEAST_SAMPLES or clock() - begin < seconds:
        stamps.append(step(clock)[1])
    phases = {p: [s[i + 1] - s[i] for s in stamps] for i, p in enumerate(PHASES)}
    return {"warmup_steps": warm_up, "phases": phases}


def sample_on_gpu(
    step: Step, seconds: float, clock: Callable[[], float], gpu: Any
) -> dict[str, Any]:
    """As `sample`, in rows of steps without waiting between them. `gpu` is torch.cuda."""

    def event() -> Any:
        made = gpu.Event(enable_timing=True)
        made.record()
        return made

    def row(count: int) -> tuple[float, list[float]]:
        """Seconds of a step by the clock, and of the last one's phases by events."""
        begin = clock()
        for _ in range(count - 1):
            step(nothing)
        events = step(event)[1]
        gpu.synchronize()
        wall = clock() - begin
        return wall / count, [a.elapsed_time(b) * 1e-3 for a, b in itertools.pairwise(events)]

    gpu.synchronize()
    begin, warm_up, step_s = clock(), 0, 0.0
    while warm_up < LEAST_WARM_UP or clock() - begin < WARM_UP_SHARE * seconds:
        step_s, _ = row(1)
        warm_up += 1
    count = max(1, math.ceil(ROW_S / step_s))
    samples = []
    begin = clock()
    while len(samples) < LEAST_SAMPLES or clock() - begin < seconds:
        samples.append(row(count))
    phases = {p: [by_events[i] for _, by_events in samples] for i, p in enumerate(PHASES)}
    phases["step"] = [wall for wall, _ in samples]
    return {"warmup_steps": warm_up, "phases": phases, "runs_per_sample": count}


def measure(request: dict[str, Any]) -> dict[str, Any]:
    begin = time.perf_counter()
    step = make_step(request)
    setup_s = time.perf_counter() - begin
    wall, cpu, switches = time.perf_counter(), time.process_time(), involuntary_switches()
    if request["device"] == "cuda":
        import torch

        result = sample_on_gpu(step, request["seconds"], time.perf_counter, torch.cuda)
    else:
        result = sample(step, request["seconds"], time.perf_counter)
    wall = time.perf_counter() - wall
    share = (time.process_time() - cpu) / wall
    if request["device"] == "cuda":
        share = 1.0  # as everywhere on a GPU, where cpu_time repeats real_time
    return result | {
        "status": "unverified",
        "setup_s": setup_s,
        "cpu_share": share,
        "involuntary_switches_per_s": (involuntary_switches() - switches) / wall,
    }


def involuntary_switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def main(arguments: list[str]) -> int:
    if len(arguments) == 1:
        try:
            answer = {"versions": versions(arguments[0])}
        except ImportError as error:
            answer = {"missing": f"no PyTorch ({error})"}
        except CannotRun as reason:
            answer = {"missing": str(reason)}
        print(json.dumps(answer))
        return 0
    request, result = map(Path, arguments)
    try:
        answer = measure(json.loads(request.read_text(encoding="utf-8")))
    except CannotRun as reason:
        answer = {"status": "skipped", "reason": str(reason)}
    except Exception as error:
        text = " ".join(str(error).split())
        status = "skipped" if is_out_of_memory(error) else "failed"
        answer = {"status": status, "reason": f"{type(error).__name__}: {text[:300]}"}
    write_atomic(result, json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
