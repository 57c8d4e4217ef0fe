"""Reading a file that an administrator names: a regular one, of bounded size, looked at through one descriptor.

It must never hang (on a FIFO) or fill the memory (from a device).
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class File:
    """What was read, and who may read and write it: ``mode`` and ``owner`` are those of the file that was read."""

    content: bytes
    mode: int
    owner: int


def read(path: Path, longest: int) -> File:
    """Read a whole file; raises OSError (its strerror is a sentence for people) for anything but a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = stream.read(longest + 1)
    if len(content) > longest:
        raise OSError(errno.EFBIG, f"more than {longest} bytes")
    return File(content, status.st_mode, status.st_uid)
