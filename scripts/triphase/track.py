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
import sys
from typing import NoReturn

from triphase.stopping import run_command
from triphase.track_errors import BadInput

COMMANDS = {  # name: module, what it answers
    "ab": ("ab", "did a kernel get slower from one binary to another? measures both in turns"),
    "compare": ("compare", "did a kernel get slower from one results file to another?"),
    "calibrate": ("calibrate", "how noisy is this machine, and how often would ab cry wolf here?"),
    "power": (
        "power",
        "how often do ab and other rules cry wolf, and which slowdowns do they see?",
    ),
    "trials": ("trials", "how often is ab right, in real runs on this machine?"),
    "add": ("history_add", "adds runs to the history, and finds what changed"),
    "remove": ("history_remove", "takes runs out of the history again"),
    "history": ("history_show", "how has the speed of a kernel gone?"),
    "changes": ("history_changes", "when did a kernel's speed change, at which commit, how far?"),
    "recalibrate": ("history_recalibrate", "sets the limit of changes by a history's own noise"),
    "plot": ("history_plot", "draws the history of kernels"),
    "export": ("history_export", "writes the history for other programs"),
}


TAKES_FLAGS = (
    "ab",
    "calibrate",
    "trials",
)  # whatever follows -- goes to the binaries that they start


class OneLine(argparse.ArgumentParser):
    """Refuses bad usage as all else is refused: in one line."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} ({self.prog} --help tells more)")


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    words, flags = split(words)
    called_for = next((word for word in words if not word.startswith("-")), None)
    about = "Follows the speed of kernels: between two binaries, files or commits."
    parser = OneLine(
        prog="scripts/track", description=about, epilog=__doc__.split("\n\n")[-1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = None
    for name, (module_name, question) in COMMANDS.items():
        command = commands.add_parser(name, help=question)
        if name == called_for:
            module = importlib.import_module(f"triphase.{module_name}")
            command.description = module.__doc__
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            module.configure(command)
            run = module.run
    options = parser.parse_args(words)
    if flags and options.command not in TAKES_FLAGS:
        raise BadInput(f"{options.command}: expected nothing after --, found '{flags[0]}'")
    options.flags = flags
    return run(options)


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first --, and after it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def run_main(argv: list[str] | None = None) -> int:
    """`main`, with every refusal as one line."""
    return run_command("track", lambda: main(argv), (BadInput,), "output")


if __name__ == "__main__":
    sys.exit(run_main())
