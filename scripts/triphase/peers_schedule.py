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
DEFAULT_CASES = [
    f"{model}@1,16,64,256" for model in ("LinearNet", "OneNet", "ConvNet", "DeeperConvNet:depth=10")
]
# So that glibc neither maps memory anew for each tensor nor gives it back after each step.
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
COMPILED_EVERY = 2  # rounds: a compiling process takes far longer to start

T = TypeVar("T")
Key = tuple[str, int]  # of a case: model and batch


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
_PEERS = (
    Backend("pytorch-eager", "PyTorch as its quickstart writes it"),
    Backend(
        "pytorch-eager-channels-last",
        "the same with network and input in channels-last layout",
        channels_last=True,
    ),
    Backend(
        "pytorch-compile",
        "torch.compile of network and loss, backward with them; the optimizer stays eager",
        compiled=True,
    ),
)
PEERS = tuple(
    backend
    for peer in _PEERS
    for backend in (
        peer,
        Backend(
            f"{peer.name}-tuned",
            f"{peer.about}; glibc told to keep its memory",
            peer.compiled,
            peer.channels_last,
            tuned=True,
        ),
    )
)


@dataclass(frozen=True)
class Case:
    """A network at a batch size, and what triphase_cost counts of it."""

    model: str  # as triphase spells it: DeeperConvNet:depth=10
    batch: int
    cost: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return self.model, self.batch

    def __str__(self) -> str:
        return f"{self.model} batch {self.batch}"

    @property
    def convolves(self) -> bool:
        return any(layer["kind"] == "conv2d" for layer in self.cost["layers"])


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
