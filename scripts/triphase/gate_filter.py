# SPDX-License-Identifier: Apache-2.0
"""The value of --benchmark_filter that selects some of a program's benchmarks. Pure.

A row's name need not be its benchmark's: triphase_kernels registers `relu/...` and writes rows
`relu/.../hot/real_time`; --benchmark_list_tests tells what is registered. The flag takes POSIX
extended expressions, which find a match anywhere in a name.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Sequence

# What is special there. To escape anything else is an error, for some programs.
ESCAPES = str.maketrans({character: f"\\{character}" for character in r".[\()*+?{|^$"})


def registered(row: str, listed: Collection[str]) -> str:
    """The benchmark that wrote a row: the longest listed name that it is, or is below of."""
    name = row
    while name not in listed:
        name, slash, _ = name.rpartition("/")
        if not slash:
            return row
    return name


def filter_of(wanted: Collection[str], listed: Sequence[str]) -> str:
    """An expression that matches the wanted names, and none of the others that are listed.

    It holds no more of a name than tells it from those others, as programs limit its length.
    """
    others = sorted(set(listed) - set(wanted))
    parts = dict.fromkeys(_beginning(name, others) for name in wanted)
    return f"^({'|'.join(parts)})"


def _beginning(name: str, others: list[str]) -> str:
    """The shortest beginning of the name that none of the others (sorted) shares."""
    at = bisect.bisect(others, name)
    neighbours = others[max(0, at - 1) : at + 1]  # no other shares more than these
    shared = max((_shared(name, other) for other in neighbours), default=0)
    if shared == len(name):
        return f"{name.translate(ESCAPES)}$"
    return name[: shared + 1].translate(ESCAPES)


def _shared(a: str, b: str) -> int:
    """How many characters both begin with."""
    differs = (at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differs, min(len(a), len(b)))
