# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as an exception, so that a command keeps what it has before it ends."""

from __future__ import annotations

import signal
from typing import NoReturn


class Stopped(BaseException):
    """A signal asks to end; `code` is the exit code, 130 or 143."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def stop_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise Stopped."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number: int, _: object) -> NoReturn:
    raise Stopped(128 + number)
