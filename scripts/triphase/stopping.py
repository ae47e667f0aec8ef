# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as an exception, so that a command keeps what it has before it ends; and how a
command ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from triphase.prose import printable


class Stopped(BaseException):
    """A signal asks to end; `code` is the exit code, 130 or 143."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def stop_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise Stopped."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def run_command(
    name: str,
    main: Callable[[], int],
    refusals: tuple[type[Exception], ...],
    written: str,
    kept: str = "",
) -> int:
    """The exit code of `main`; a refusal, and an operating system's, is one line and 2. So is a
    fault of the program, with where it lies.

    `written`: what could not be written or read where the system names no file. `kept`: what to
    say of the results where a signal ended it.
    """
    stop_on_signals()
    try:
        return _until_read(main)
    except refusals as refusal:
        print(f"{name}: {printable(str(refusal))}", file=sys.stderr)
        return 2
    except OSError as error:
        place = printable(str(error.filename or written))
        print(f"{name}: {place}: {error.strerror}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"{name}: {error}: scripts/setup installs what is missing", file=sys.stderr)
        return 2
    except Exception:  # a fault of this program; 1 would say that something is slower, or wrong
        traceback.print_exc()
        print(f"{name}: stopped by a fault of its own, as above", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if kept:
            print(f"{name}: interrupted; {kept}", file=sys.stderr)
        return stopped.code


def _until_read(main: Callable[[], int]) -> int:
    """Runs main and flushes what it printed; it is no error if its reader has read enough."""
    code = 0
    try:
        code = main()
        if sys.stdout is not None:  # as it is where the caller closed it
            sys.stdout.flush()
    except BrokenPipeError:
        _print_nothing_more()
    except OSError as error:
        if error.filename is None:  # of standard output, or else Python tries it again at its end
            _print_nothing_more()
        raise
    return code


def _print_nothing_more() -> None:
    with contextlib.suppress(OSError, AttributeError):  # standard output may be no file, or closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(number: int, _: object) -> NoReturn:
    raise Stopped(128 + number)
