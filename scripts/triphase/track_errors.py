# SPDX-License-Identifier: Apache-2.0
"""How a command of scripts/track refuses."""

from __future__ import annotations


class BadInput(Exception):
    """Bad usage or a file that cannot be used: one line that says what, and exit code 2."""
