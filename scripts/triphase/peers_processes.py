# SPDX-License-Identifier: Apache-2.0
"""Starts the processes of scripts/peers: triphase_cost, triphase_steps and PyTorch's worker.

Each gets the same number of threads and an environment without settings of glibc's allocator,
unless on the CPU the tuned way asks for them. What a process leaves is a file; what it says, is
kept for the reason of a row that failed. Nothing here knows of rounds, rows' statistics or output.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triphase.peers_rows import Row, alone_rows, not_run_rows, process_rows
from triphase.peers_schedule import (
    ALONE,
    CPU,
    GPU,
    TUNED,
    Backend,
    BadCase,
    Case,
    Device,
    model_file,
)
from triphase.processes import ROOT, run
from triphase.records import explain_invalid

SPARE_MEMORY = 0.9  # of what is available, as triphase_steps allows itself
SEED = 1
ALONE_REPETITIONS = 7  # each a mean over runs, of which a row keeps the median
FOREIGN = ("MALLOC_", "GLIBC_TUNABLES", "PYTHON")  # settings of the shell's, for nobody here


def environment(
    threads: int, backend: Backend, cache: Path, device: Device = CPU
) -> dict[str, str]:
    """Ours, with the threads; without a tuned allocator or a GPU unless this way has one."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    scripts = str(ROOT / "scripts")
    common = {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": scripts,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(cache),  # so that a later round need not compile again
    }
    if device is GPU:
        return ours | common
    on_the_cpu = {
        "CUDA_VISIBLE_DEVICES": "",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no helpers that compute beside the steps
    }
    return ours | common | on_the_cpu | (TUNED if backend.tuned else {})


def cost_of(binaries: Path, model: str, batch: int, dtype: str) -> Case:
    """What triphase_cost counts; BadCase, in its own words, where it refuses."""
    done = run([
        str(binaries / "triphase_cost"), f"--model={model}", f"--batch={batch}",
        f"--dtype={dtype}", "--format=json",
    ])  # fmt: skip
    if done.code:
        lines = done.error.strip().splitlines()
        raise BadCase(lines[-1].removeprefix("triphase_cost: ") if lines else done.reason)
    cost = json.loads(done.out)
    return Case(cost["model"], batch, cost, dtype)


def torch_versions(python: str, device: Device) -> tuple[dict[str, str], str | None]:
    """Of the interpreter's PyTorch; or nothing, and why it cannot run on the device."""
    done = run(
        [python, "-m", "triphase.peers_worker", device.name],
        environment(1, device.ours, Path(os.devnull), device),
    )
    try:
        answer = json.loads(done.out.splitlines()[-1])
        if "missing" in answer:
            return {}, f"{python} has {answer['missing']}"
        return dict(answer["versions"]), None
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}, f"{python} cannot run PyTorch: {done.reason}"


def available_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


@dataclass(frozen=True)
class Starter:
    """All that processes share: programs, threads, seconds of sampling, a scratch, the device."""

    binaries: Path
    python: str
    threads: int
    seconds: float
    scratch: Path
    device: Device = CPU

    def environment(self, backend: Backend) -> dict[str, str]:
        return environment(self.threads, backend, self.scratch / "compiled", self.device)

    def ours(
        self, case: Case, spec: str, *, verify: bool
    ) -> tuple[list[Row], dict[str, Any] | None]:
        """The rows of one triphase_steps, and the context of its file."""
        backend = self.device.ours
        out = self.scratch / "steps.json"
        out.unlink(missing_ok=True)
        done = run(
            [
                str(self.binaries / "triphase_steps"), f"--model={spec}", f"--batch={case.batch}",
                f"--dtype={case.dtype}", f"--backend={backend.name}",
                f"--threads={self.threads}", f"--seed={SEED}",
                f"--time_per_case={self.seconds}", "--precision=0.0001",
                f"--verify={'sampled' if verify else 'off'}", f"--benchmark_out={out}",
            ],
            self.environment(backend),
        )  # fmt: skip
        document = None
        with contextlib.suppress(OSError, ValueError):
            document = json.loads(out.read_text(encoding="utf-8"))
        if document is None or explain_invalid(document) or not document["benchmarks"]:
            return not_run_rows(case, backend, self.threads, "failed", done.reason), None
        return document["benchmarks"], document["context"]

    def alone(self, case: Case, spec: str) -> list[Row]:
        """The rows of one onednn_layers: layers alone, no step."""
        program = self.binaries / "onednn_layers"
        if not program.exists():
            reason = f"{program} is missing: it is built where oneDNN is"
            return not_run_rows(case, ALONE, self.threads, "skipped", reason)
        out = self.scratch / "layers.json"
        out.unlink(missing_ok=True)
        calls = 3 * len(case.cost["layers"])  # at most: a layer has three phases
        begin = time.monotonic()
        done = run(
            [
                str(program), f"--model={spec}", f"--batch={case.batch}",
                f"--threads={self.threads}", f"--benchmark_repetitions={ALONE_REPETITIONS}",
                f"--benchmark_min_time={self.seconds / calls / ALONE_REPETITIONS:.6f}",
                f"--benchmark_out={out}", "--benchmark_out_format=json",
            ],
            self.environment(ALONE),
        )  # fmt: skip
        try:
            document = json.loads(out.read_text(encoding="utf-8"))
            return alone_rows(case, self.threads, document, time.monotonic() - begin)
        except (OSError, ValueError, LookupError, TypeError) as error:
            reason = done.reason if done.code else f"no rows of layers in what it wrote: {error!r}"
            return not_run_rows(case, ALONE, self.threads, "failed", reason)

    def peer(self, case: Case, spec: str, backend: Backend) -> list[Row]:
        """The rows of one process of PyTorch."""
        needed, available = case.cost["memory_bytes"]["total"], available_memory()
        scarce = available is not None and needed > SPARE_MEMORY * available
        if scarce and self.device is CPU:
            reason = (
                f"needs {needed / 2**30:.3g} GiB or more, {available / 2**30:.3g} are available"
            )
            return not_run_rows(case, backend, self.threads, "skipped", reason)
        request, out = self.scratch / "request.json", self.scratch / "result.json"
        out.unlink(missing_ok=True)
        asked = {
            "file": str(model_file(spec).resolve()),
            "parameters": case.cost.get("model_parameters", {}),
            "parameter_count": case.cost["parameters"],
            "batch": case.batch,
            "threads": self.threads,
            "seconds": self.seconds,
            "seed": SEED,
            "device": self.device.name,
            "dtype": case.dtype,
            "compiled": backend.compiled,
            "channels_last": backend.channels_last,
            "tuned": backend.tuned,
        }
        request.write_text(json.dumps(asked), encoding="utf-8")
        done = run(
            [self.python, "-m", "triphase.peers_worker", str(request), str(out)],
            self.environment(backend),
        )
        answer = None
        with contextlib.suppress(OSError, ValueError):
            answer = json.loads(out.read_text(encoding="utf-8"))
        if answer is None:
            answer = {"status": "failed", "reason": done.reason}
        return process_rows(case, backend, self.threads, answer)
