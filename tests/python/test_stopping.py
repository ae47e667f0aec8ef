# SPDX-License-Identifier: Apache-2.0
"""How a command ends: exit code 1 means what it means to a gate, and nothing else."""

from __future__ import annotations

import pytest

from triphase.stopping import run_command


class Refused(Exception):
    pass


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Refused("a file: is missing"), "track: a file: is missing\n"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), "track: a.json: No such"),
        (ModuleNotFoundError("No module named 'numpy'"), "'numpy': scripts/setup installs"),
        (ZeroDivisionError("division by zero"), "track: stopped by a fault of its own, as above\n"),
    ],
)
def test_whatever_is_thrown_ends_with_code_2(capsys, fault, told):
    def main() -> int:
        raise fault

    assert run_command("track", main, (Refused,), "output") == 2
    said = capsys.readouterr().err
    assert told in said
    assert ("Traceback" in said) == isinstance(fault, ZeroDivisionError)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_verdict_is_the_exit_code(code):
    assert run_command("track", lambda: code, (), "output") == code
