# SPDX-License-Identifier: Apache-2.0
"""How long do the same training steps take in PyTorch, on this machine and beside ours?

For each case (a network, a batch size and a precision) triphase's own steps and PyTorch's are
measured in turns, each in a fresh process, in rounds whose order mirrors; on the CPU, or all of
them on one NVIDIA GPU. Writes steps.json (rows as everywhere, with backend pytorch-...),
peers.json, peers.md and a plot. Equal on both sides: threads, precision, flushed denormals (on the
CPU), SGD, shapes, loss, normal data. Not compared: how long it takes to start or to compile.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from triphase import peers_run
from triphase.peers_processes import Starter, cost_of, torch_versions
from triphase.peers_run import Run
from triphase.peers_schedule import ALONE, CPU, DEVICES, GPU, Backend, BadCase, Device, parse_case
from triphase.processes import ROOT
from triphase.statuses import RAN
from triphase.stopping import Stopped, run_command

TORCH = ROOT / "build" / "torch" / "bin" / "python"


class Refused(Exception):
    """Bad usage, or nothing can be done here: one line and exit code 2."""


# ---- command line


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/peers",
        description="Times the same training steps here and in PyTorch, in turns, on this machine.",
        epilog=f"Without --python: {TORCH.relative_to(ROOT)} where it exists (python3 -m venv "
        "build/torch && build/torch/bin/pip install torch numpy), else python3. Exit codes: 0 done "
        "(skipped ways are fine while something ran), 1 something failed, 2 bad usage or nothing "
        "can run, 130 or 143 interrupted, with the results so far kept.",
    )
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default=CPU.name,
        help=f"where the steps run: {CPU.name}, or {GPU.name} for the first NVIDIA GPU that "
        "CUDA_VISIBLE_DEVICES leaves (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        default="f32",
        metavar="TYPE,...",
        help="what to compute in, each for all cases: "
        + "; ".join(f"{', '.join(d.dtypes)} on {d.name}" for d in DEVICES.values())
        + " (default: %(default)s)",
    )
    parser.add_argument(
        "--case",
        action="append",
        metavar="MODEL@BATCH",
        help="a network at a batch size, or at several with commas, such as OneNet@1,64; may be "
        "repeated (default: "
        + "; ".join(f"on {d.name} {' '.join(d.cases)}" for d in DEVICES.values())
        + ")",
    )
    parser.add_argument(
        "--backends",
        metavar="NAME,...",
        help="the peers to run beside ours, which always runs (default: all, namely "
        f"{', '.join(peer.name for peer in CPU.peers)}; {ALONE.name} is of the CPU alone)",
    )
    parser.add_argument(
        "--rounds",
        type=_number(int, 1),
        default=6,
        metavar="N",
        help="at most so many rounds of each case; from 6 processes on there are intervals "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=_number(float, 0),
        default=25.0,
        metavar="M",
        help="begin no further round that would end later than this; the first round of each case "
        "always runs (default: %(default)g)",
    )
    parser.add_argument(
        "--seconds",
        type=_number(float, 0.001),
        default=1.0,
        metavar="S",
        help="time of sampling in each process, beyond which only what is missing of 5 steps is "
        "run, or of 7 in ours (default: %(default)g)",
    )
    parser.add_argument(
        "--threads",
        type=_number(int, 1),
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="threads that compute, in every process (default: the processors that may be used)",
    )
    parser.add_argument(
        "--python", metavar="PATH", help="the Python interpreter that has torch; see below"
    )
    parser.add_argument(
        "--bin",
        type=Path,
        default=ROOT / "build" / "release" / "bin",
        metavar="DIR",
        help="where triphase_steps and triphase_cost are (default: build/release/bin)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the results, without a steps.json yet "
        "(default: results/runs/<time>-peers)",
    )
    return parser.parse_args(argv)


def _number(kind: type, least: float) -> Any:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value < 1e6:
            whole = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {whole} of {least:g} or more, not '{text}'")
        return value

    return number


def _refuse(message: str) -> NoReturn:
    raise Refused(message)


def chosen_backends(text: str | None, device: Device) -> list[Backend]:
    """In the order of the device's peers; ours may be named, and runs anyway."""
    known = {backend.name: backend for backend in device.peers}
    names = known.keys() if text is None else _names(text) - {device.ours.name}
    if unknown := names - known.keys():
        raise Refused(f"--backends: no '{min(unknown)}'; there are {', '.join(known)}")
    return [backend for name, backend in known.items() if name in names]


def chosen_dtypes(text: str, device: Device) -> list[str]:
    names = _names(text)
    if unknown := names - set(device.dtypes):
        known = f"--device={device.name} has {', '.join(device.dtypes)}"
        raise Refused(f"--dtype: no '{min(unknown)}'; {known}")
    if not names:
        raise Refused(f"--dtype: expected some of {', '.join(device.dtypes)}")
    return [dtype for dtype in device.dtypes if dtype in names]


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")} - {""}


def interpreter(given: str | None) -> str:
    if given is None:
        return str(TORCH) if TORCH.exists() else "python3"
    if shutil.which(given) is None:
        raise Refused(f"--python: {given} is missing or no program")
    return given


def check_binaries(folder: Path) -> None:
    for name in ("triphase_cost", "triphase_steps"):
        if not os.access(folder / name, os.X_OK):
            raise Refused(f"{folder / name} is missing: scripts/reproduce builds it")


def prepare_out(given: Path | None) -> Path:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H%M%SZ")
    out = given or ROOT / "results" / "runs" / f"{now}-peers"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Refused(f"the folder {out} cannot be written: {error.strerror}") from error
    if (out / "steps.json").exists():
        raise Refused(f"{out / 'steps.json'} exists: name another folder with --out")
    return out


def exit_code(run: Run) -> int:
    """1 if a row failed, 2 if nothing ran, else 0."""
    statuses = {
        row["status"] for by_round in run.rows.values() for p in by_round.values() for row in p
    }
    if "failed" in statuses:
        return 1
    return 0 if statuses & set(RAN) else 2


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    check_binaries(options.bin)
    device = DEVICES[options.device]
    backends = chosen_backends(options.backends, device)
    dtypes = chosen_dtypes(options.dtype, device)
    python = interpreter(options.python)
    wanted = [case for text in options.case or device.cases for case in parse_case(text)]
    cases, specs = [], {}
    for (spec, batch), dtype in itertools.product(dict.fromkeys(wanted), dtypes):
        case = cost_of(options.bin, spec, batch, dtype)
        if case.key not in specs:
            specs[case.key] = spec
            cases.append(case)
    out = prepare_out(options.out)
    recorded = ("device", "dtype", "rounds", "minutes", "seconds", "threads")
    settings = {k: getattr(options, k) for k in recorded}
    run = Run(device, cases, backends, options.threads, settings)
    code = 0
    try:
        with tempfile.TemporaryDirectory(prefix="triphase-peers-") as scratch:
            starter = Starter(
                options.bin, python, options.threads, options.seconds, Path(scratch), device
            )
            if any(backend is not ALONE for backend in backends):
                run.versions, missing = torch_versions(python, device)
                if missing:
                    print(f"PyTorch is skipped: {missing}", flush=True)
                    peers_run.skip_peers(run, missing)
            peers_run.measure(run, starter, specs, out)
    except Stopped as stopped:
        print("interrupted; what was measured so far is kept", file=sys.stderr)
        code = stopped.code
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # writing takes a moment, and is not to be cut short
    if run.context is None:
        with contextlib.suppress(OSError):
            out.rmdir()
        print("peers: nothing was measured", file=sys.stderr)
        return code or max(2, exit_code(run))
    peers_run.write_steps(run, out)
    written = peers_run.write_summary(run, out)
    print("\n" + (out / "peers.md").read_text(encoding="utf-8"))
    for path in [out / "steps.json", *written]:
        print(f"wrote    {path}")
    return code or exit_code(run)


def run_main(argv: list[str] | None = None) -> int:
    """`main`, with every refusal as one line."""
    return run_command("peers", lambda: main(argv), (Refused, BadCase), "results")


if __name__ == "__main__":
    sys.exit(run_main())
