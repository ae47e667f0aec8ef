# SPDX-License-Identifier: Apache-2.0
"""The command line of scripts/track: finds a command's module, and turns failures into exit codes.

A command is a module with `configure(parser)`, which adds its arguments, and `run(options)`, which
returns the exit code. It is imported when it is called for, and not before.

Exit codes: 0 no slowdown, 1 something got slower, 2 bad usage or input, 3 inconclusive,
130 or 143 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from typing import NoReturn

from triphase.track_errors import BadInput, Stopped

COMMANDS = {  # name: module, what it answers
    "ab": ("ab", "did a kernel get slower from one binary to another? measures both in turns"),
    "compare": ("compare", "did a kernel get slower from one results file to another?"),
    "calibrate": ("calibrate", "how noisy is this machine, and how often would ab cry wolf here?"),
    "power": (
        "power",
        "how often do ab and other rules cry wolf, and which slowdowns do they see?",
    ),
    "add": ("history_add", "adds runs to the history, and finds what changed"),
    "history": ("history_show", "how has the speed of a kernel gone?"),
    "changes": ("history_changes", "when did a kernel's speed change, at which commit, how far?"),
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="scripts/track", description=__doc__.split("\n\n")[0])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Follows the speed of kernels: between two binaries, files or commits."
    parser.epilog = __doc__.split("\n\n")[-1]
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    called_for = next((word for word in argv if not word.startswith("-")), None)
    runs = {}
    for name, (module_name, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:])
        if name == called_for:
            module = importlib.import_module(f"triphase.{module_name}")
            command.description = module.__doc__
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            module.configure(command)
            runs[name] = module.run
    options = parser.parse_args(argv)
    return runs[options.command](options)


def _stop(number: int, _: object) -> NoReturn:
    raise Stopped(128 + number)


def run_main(argv: list[str] | None = None) -> int:
    """`main`, with every refusal as one line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        return main(argv)
    except BadInput as refusal:
        print(f"track: {refusal}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"track: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        return stopped.code


if __name__ == "__main__":
    sys.exit(run_main())
