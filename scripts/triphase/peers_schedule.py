# SPDX-License-Identifier: Apache-2.0
"""What scripts/peers runs and in which order: cases, the ways to run them, rounds. Runs nothing.

A round of a case is one fresh process for each way to run it. Rounds mirror and rotate the order,
so that a machine that slows down or speeds up favours nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

MODELS = Path(__file__).resolve().parents[2] / "benchmarks" / "models"
# So that glibc neither maps memory anew for each tensor nor gives it back after each step.
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
COMPILED_EVERY = 2  # rounds: a compiling process takes far longer to start

T = TypeVar("T")
Key = tuple[str, int, str]  # of a case: model, batch and dtype


class BadCase(Exception):
    """A case that cannot be read; the message is one line."""


@dataclass(frozen=True)
class Backend:
    """One way to run a training step."""

    name: str
    about: str
    compiled: bool = False
    channels_last: bool = False
    tuned: bool = False


OURS = Backend("onednn", "triphase's own steps through oneDNN")
# No steps, but the same products and convolutions, so that a layer of ours has something to face.
ALONE = Backend(
    "onednn-alone",
    "oneDNN's own call for each product and convolution, alone, again and again in hot caches",
)


def _pytorch(compiled: str, tuned: str, compiled_tuned: str) -> tuple[Backend, ...]:
    """The ways that PyTorch runs a step, each as installed and tuned: named alike on any device."""
    eager = "PyTorch as its quickstart writes it"
    last = "the same with network and input in channels-last layout"
    ways = (
        ("pytorch-eager", eager, tuned, {}),
        ("pytorch-eager-channels-last", last, tuned, {"channels_last": True}),
        ("pytorch-compile", f"torch.compile of {compiled}", compiled_tuned, {"compiled": True}),
    )
    return tuple(
        backend
        for name, about, by, how in ways
        for backend in (
            Backend(name, about, **how),
            Backend(f"{name}-tuned", f"{about}; {by}", tuned=True, **how),
        )
    )


PEERS = _pytorch(
    "network and loss, backward with them; the optimizer stays eager",
    "glibc told to keep its memory",
    "glibc told to keep its memory",
)


@dataclass(frozen=True)
class Device:
    """Where steps run: what ours and the peers are there, and what can be asked for."""

    name: str  # as --device takes it, and PyTorch
    ours: Backend
    peers: tuple[Backend, ...]
    cases: tuple[str, ...]  # by default
    dtypes: tuple[str, ...]  # the first by default
    notes: tuple[str, ...]  # on what is compared


_FREED = "PyTorch frees its gradients in every step (zero_grad: set to None): counted as update"
_UNVERIFIED = (
    "PyTorch's rows are unverified here; scripts/make_pytorch_losses compares losses in float64"
)
CPU = Device(
    name="cpu",
    ours=OURS,
    peers=(ALONE, *PEERS),
    cases=tuple(
        f"{model}@1,16,64,256"
        for model in ("LinearNet", "OneNet", "ConvNet", "DeeperConvNet:depth=10")
    ),
    dtypes=("f32",),
    notes=(
        "tuned: the process has " + " ".join(f"{k}={v}" for k, v in TUNED.items()) + " set",
        _FREED,
        "onednn overwrites its gradients and is checked against float64 in its first process",
        "onednn-alone: a call has neither bias nor ReLU, which ours includes where they are fused",
        _UNVERIFIED,
    ),
)
GPU = Device(
    name="cuda",
    ours=Backend("cuda", "triphase's own steps through cuBLASLt and cuDNN, as one CUDA graph"),
    peers=_pytorch(
        "network and loss, backward with them, and of the optimizer's step",
        "cudnn.benchmark is on and the optimizer fused",
        "cudnn.benchmark is on and the mode max-autotune, which replays CUDA graphs",
    ),
    cases=(
        "LinearNet@1,64,1024,4096",
        "OneNet@1,1024,65536",
        "ConvNet@1,64,1024",
        "DeeperConvNet:depth=10@16",
    ),
    dtypes=("f32", "tf32", "bf16", "f16"),
    notes=(
        "cuda's times lie between events on the GPU; PyTorch's step is wall time, launching "
        "included: the mean over runs_per_sample steps in a row, the GPU idle before and after",
        "PyTorch's phases lie between events in the last of those steps, waiting for launches "
        "included, and add up to device_step_s rather than to the step",
        "f32: TF32 is off in products and convolutions; tf32: it is on in both; bf16 and f16: "
        "torch.autocast over weights in f32; in f16 cuda scales the loss by a fixed power of two, "
        "PyTorch not at all (no GradScaler)",
        _FREED,
        "cuda overwrites its gradients and is checked against float64 in its first process",
        _UNVERIFIED,
    ),
)
DEVICES = {device.name: device for device in (CPU, GPU)}


@dataclass(frozen=True)
class Case:
    """A network at a batch size in a precision, and what triphase_cost counts of it."""

    model: str  # as triphase spells it: DeeperConvNet:depth=10
    batch: int
    cost: Mapping[str, Any]
    dtype: str = "f32"

    @property
    def key(self) -> Key:
        return self.model, self.batch, self.dtype

    @property
    def identity(self) -> dict[str, Any]:
        return {"model": self.model, "batch": self.batch, "dtype": self.dtype}

    def __str__(self) -> str:
        return title(self.identity)

    @property
    def convolves(self) -> bool:
        return any(layer["kind"] == "conv2d" for layer in self.cost["layers"])


def title(case: Mapping[str, Any]) -> str:
    """A case in words; f32 is left out."""
    return f"{case['model']} batch {case['batch']}{in_dtype(case)}"


def in_dtype(case: Mapping[str, Any]) -> str:
    return "" if case["dtype"] == "f32" else f", {case['dtype']}"


def parse_case(text: str) -> list[tuple[str, int]]:
    """MODEL@BATCH[,BATCH...] as (model, batch)."""
    model, at, batches = text.rpartition("@")
    parts = batches.split(",")
    if not at or not model or not all(p.isascii() and p.isdigit() and int(p) > 0 for p in parts):
        raise BadCase(
            f"--case: expected MODEL@BATCH such as OneNet@64 or OneNet@1,64, not '{text}'"
        )
    return [(model, int(part)) for part in parts]


def model_file(spec: str, folder: Path = MODELS) -> Path:
    """The JSON of a model's spec: a file's path, or a stem of benchmarks/models in any case."""
    name = spec.partition(":")[0]
    if name.lower().endswith(".json"):
        return Path(name)
    for file in sorted(folder.glob("*.json")):
        if file.stem.lower() == name.lower():
            return file
    raise BadCase(f"no model '{name}' in {folder}")


def suits(backend: Backend, case: Case) -> bool:
    """Channels-last means something to convolutions alone."""
    return case.convolves or not backend.channels_last


def takes_part(backend: Backend, round_: int, rounds: int) -> bool:
    """What compiles waits until each case has had a round without it, if there are several."""
    return not backend.compiled or round_ % COMPILED_EVERY == min(rounds, COMPILED_EVERY) - 1


def order(backends: Sequence[T], round_: int) -> list[T]:
    """Rounds 0 and 1 mirror each other, so do 2 and 3, which begin one further on; and so forth."""
    if not backends:
        return []
    first = round_ // 2 % len(backends)
    rotated = [*backends[first:], *backends[:first]]
    return rotated[::-1] if round_ % 2 else rotated


def plan(
    done: Mapping[Key, int], round_s: Mapping[Key, float], left_s: float, rounds: int
) -> list[Key]:
    """Whose rounds still to run, in order, if a case's next round takes `round_s`.

    Every case gets its first round, whatever time is left. Further ones go to the case with the
    fewest rounds, of those to the shortest, as long as they end in time.
    """
    first = [key for key, count in done.items() if count == 0]
    counts = dict(done) | dict.fromkeys(first, 1)
    left_s -= sum(round_s[key] for key in first)
    result = list(first)
    while fits := [k for k, count in counts.items() if count < rounds and round_s[k] <= left_s]:
        key = min(fits, key=lambda k: (counts[k], round_s[k]))
        result.append(key)
        counts[key] += 1
        left_s -= round_s[key]
    return result
