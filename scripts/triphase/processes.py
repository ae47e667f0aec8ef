# SPDX-License-Identifier: Apache-2.0
"""Runs other programs to their end: what they said, and why they failed. None outlives us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 1800.0  # after which a process counts as hung, where its caller knows no better


@dataclass(frozen=True)
class Finished:
    """A process that ended: its exit code (negative: the signal), and what it said.

    hung_s: the seconds after which it was ended, where it did not end by itself.
    """

    code: int
    out: str
    error: str
    hung_s: float | None = None

    @property
    def reason(self) -> str:
        if self.hung_s is not None:
            return f"the process did not end within {round(self.hung_s, 1):g} s"
        if self.code < 0:
            name = signal.Signals(-self.code).name
            killed = " (out of memory?)" if self.code == -signal.SIGKILL else ""
            return f"the process was ended by {name}{killed}"
        lines = [line.strip() for line in self.error.splitlines() if line.strip()]
        said = f": {lines[-1][:300]}" if lines else ""
        return f"the process ended with exit code {self.code}{said}"


def run(
    command: list[str], env: Mapping[str, str] | None = None, limit_s: float = LONGEST_S
) -> Finished:
    """Runs to the end; kills it and all that it started when it hangs, or we are interrupted.

    limit_s: seconds after which it counts as hung.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=error, env=env,
                start_new_session=True,
            )  # fmt: skip
        except OSError as failure:
            return Finished(127, "", f"{command[0]}: {failure.strerror}")
        hung_s = None
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            hung_s = limit_s
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for file in (out, error):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Finished(1 if hung_s else process.returncode, *texts, hung_s)
