# SPDX-License-Identifier: Apache-2.0
"""Writes files whole or not at all: a temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path


def write_atomic(path: Path, content: str | bytes) -> Path:
    """Replaces the file; a reader sees the old content or the new, never half of it.

    A device or a pipe is written into, since it cannot be replaced; of a link, what it leads to is
    replaced. Raises OSError with the path.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return path
    try:
        place = path.resolve()
    except RuntimeError as loop:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from loop
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(stat.S_IMODE(place.stat().st_mode) if place.exists() else _new_mode())
        temporary.replace(place)
    except OSError as error:  # which names no file where writing fails
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _new_mode() -> int:
    """The permissions of a new file, which mkstemp's are not."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
