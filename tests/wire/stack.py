"""A PAM stack of one line, ours, which real applications run through the real pam_python.

Each application gets a mount namespace of its own, with a /etc/pam.d that holds nothing but the test's service, and a
/dev/log at which the test listens: nothing on the machine is changed, and tests can run beside one another.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

TREE = Path(__file__).resolve().parents[2]
ENTRY = TREE / "pam_starling" / "entry.py"
APPLICATION = Path(__file__).with_name("application.py")
PATIENCE = 20
PRIVATE = """
mount --bind /dev/null "$1/dev/null"
mount --rbind "$1/dev" /dev
mount --bind "$1/pam.d" /etc/pam.d
shift
exec "$@"
"""

SUCCESSES = {"successfully authenticated", "account management done.", "successfully opened a session"}
SUCCESSES |= {"session has successfully been closed.", "credential info has successfully been set."}
SUCCESS = "success"
AUTH_ERR = "Authentication failure"
PERM_DENIED = "Permission denied"
MAXTRIES = "Have exhausted maximum number of retries for service"
SESSION_ERR = "Cannot make/remove an entry for the specified session"
IGNORE = "Module is unknown"
AFTER_IGNORE = "[default=die] pam_debug.so auth=module_unknown acct=module_unknown prechauthtok=module_unknown"
"""libpam shows no application a PAM_IGNORE; the line after ours answers what no hook of ours does."""

UNAVAILABLE = "The second factor is not available; try again later or ask your administrator"
FAILED = "Authentication failed"


@dataclass(frozen=True)
class Outcome:
    """What came of a call: the last result, all that was shown (prompts too), and the lines in the log."""

    result: str
    shown: str
    log: list[str]


class Stack:
    """One PAM service, named ``service``, whose every hook is ours and whose every result is told as it is."""

    def __init__(self, service: str = "pam-starling-test") -> None:
        self.service = service
        self.directory = Path(tempfile.mkdtemp(prefix="pam-starling-test-"))
        self.socket = self.directory / "pam.sock"
        self._log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for name in ("dev", "pam.d"):
            (self.directory / name).mkdir()
        (self.directory / "dev" / "null").touch()
        self._log.bind(str(self.directory / "dev" / "log"))
        self.configure(f"services={self.service}", f"socket={self.socket}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        shutil.rmtree(self.directory)

    def configure(self, *arguments: str, entry: Path = ENTRY) -> None:
        """Write the pam.d line with these arguments."""
        ours = f"[success=done ignore=ignore default=die] pam_python.so {entry} {' '.join(arguments)}"
        for name, lines in ((self.service, (ours, AFTER_IGNORE)), ("other", ("required pam_deny.so",))):
            stack = [f"{kind} {line}\n" for kind in ("auth", "account", "session", "password") for line in lines]
            (self.directory / "pam.d" / name).write_text("".join(stack), encoding="utf-8")

    def option(self, *arguments: str) -> None:
        """Write the pam.d line with these arguments after the two that every test needs."""
        self.configure(f"services={self.service}", f"socket={self.socket}", *arguments)

    def command(self, *operations: str, user: str | bytes = "alice", options: Sequence[str | bytes] = ()) -> list[Any]:
        """Tell the command that runs pamtester; ``options`` are its own, such as ``-Irhost=...``."""
        return self.private("pamtester", *options, self.service, user, *operations)

    def private(self, *command: Any) -> list[Any]:  # noqa: ANN401  text or bytes, as subprocess has it
        """Tell the command that runs ``command`` in a namespace of its own."""
        return ["unshare", "--mount", "sh", "-ec", PRIVATE, "private", self.directory, *command]

    def run(
        self,
        *operations: str,
        user: str | bytes = "alice",
        typed: bytes = b"",
        options: Sequence[str | bytes] = (),
        descriptors: Sequence[int] = (),
    ) -> Outcome:
        """Run pamtester to its end, with ``typed`` as its input."""
        command = self.command(*operations or ("authenticate",), user=user, options=options)
        done = subprocess.run(
            command,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            env={},
            pass_fds=descriptors,
            check=False,
        )
        return self.outcome(done.stdout.decode())

    def outcome(self, output: str) -> Outcome:
        """Read what pamtester wrote: its own words are the result, all others were shown by the module."""
        own = re.findall(r"pamtester: (.*)\n", output)
        assert own, f"pamtester died: {output}"
        shown = re.sub(r"pamtester: .*\n|\w+=module_unknown\n", "", output).strip()
        return Outcome(SUCCESS if own[-1] in SUCCESSES else own[-1], shown, self.log())

    def talk(self, answer: str | None, operation: str = "authenticate", **others: str) -> dict[str, Any]:
        """Run the application whose conversation gives ``answer``, as application.py has it."""
        asked = json.dumps(
            {"service": self.service, "user": "alice", "operation": operation, "answer": answer} | others
        )
        command = self.private("/usr/bin/python3", "-I", str(APPLICATION), asked)
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, env={}, check=True)
        assert not done.stderr, done.stderr.decode()
        return {**json.loads(done.stdout), "log": self.log()}

    def log(self) -> list[str]:
        """Tell the lines that came to the log since the last time, of whoever wrote them."""
        lines = []
        while True:
            try:
                datagram = self._log.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return lines
            lines.append(re.sub(r"^<\d+>\w+ +\d+ [\d:]+ ", "", datagram.decode()))
