"""What /proc says about processes and this boot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlingd.core.model import Process

START_TIME_FIELD = 22
FIRST_FIELD_AFTER_NAME = 3


def boot_id() -> str:
    """Tell the id of this boot; it changes with every boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def is_alive(process: Process) -> bool:
    """Tell whether the process still lives, as the same one: its pid may have been reused."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The name in brackets may hold blanks and brackets; what follows the last one is numbers.
    fields = stat.rpartition(")")[2].split()
    return int(fields[START_TIME_FIELD - FIRST_FIELD_AFTER_NAME]) == process.start
