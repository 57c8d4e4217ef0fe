"""Every login pays for what the module imports: near nothing beyond an empty pam_python module."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.wire import stack as pam
from tests.wire.peer import HELLO, READ, SUCCESS, Peer
from tests.wire.stack import ENTRY, TREE, Stack

if TYPE_CHECKING:
    from pathlib import Path

OURS = {"pam_starling"} | {f"pam_starling.{name}" for name in ("client", "login", "options", "protocol")}
ALLOWED = {"_socket", "os", "posix", "select", "sys", "syslog", "time"}
EMPTY = "def pam_sm_authenticate(pamh, flags, argv):\n    return 0\n"
TELL = """
import sys

def telling(hook):
    def told(pamh, flags, argv):
        result = hook(pamh, flags, argv)
        with open({file!r}, "w") as file:
            file.write(repr(sorted(sys.modules)).replace("'", '"'))
        return result
    return told

pam_sm_authenticate = telling(pam_sm_authenticate)
"""


def modules_after(stack: Stack, source: str, directory: Path, expected: str) -> set[str]:
    """Run authenticate of a module with this source; tell what is imported when it returns."""
    entry, told = directory / "entry.py", directory / "modules"
    entry.write_text(source + TELL.format(file=str(told)), encoding="utf-8")
    stack.configure(f"services={stack.service}", f"socket={stack.socket}", entry=entry)
    assert stack.run().result == expected
    return set(json.loads(told.read_text(encoding="utf-8")))


@pytest.mark.parametrize("is_refused", [False, True])
def test_the_module_imports_next_to_nothing(stack: Stack, tmp_path: Path, *, is_refused: bool) -> None:
    (tmp_path / "current").symlink_to(TREE)
    empty = modules_after(stack, EMPTY, tmp_path, pam.SUCCESS)
    source = ENTRY.read_text(encoding="utf-8")
    if is_refused:
        ours = modules_after(stack, source, tmp_path, pam.AUTH_ERR)
    else:
        with Peer(stack.socket, [HELLO, READ, SUCCESS]):
            ours = modules_after(stack, source, tmp_path, pam.SUCCESS)
    assert ours - empty <= OURS | ALLOWED
    assert ours - empty >= OURS
