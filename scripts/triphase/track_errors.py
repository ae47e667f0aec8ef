# SPDX-License-Identifier: Apache-2.0
"""The two ways in which a command of scripts/track ends early."""

from __future__ import annotations


class BadInput(Exception):
    """Bad usage or a file that cannot be used: one line that says what, and exit code 2."""


class Stopped(BaseException):
    """A signal asks to end; `code` is the exit code, 130 or 143."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
