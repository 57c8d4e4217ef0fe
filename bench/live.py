"""The real daemon as a process of its own, and what the kernel says it costs.

Its NSS has as many more users as a benchmark needs: it runs in a mount namespace of its own, over whose /etc/passwd
another file lies. Nothing else on the machine sees that file.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
OPEN_FILES = 16384
"""Of the daemon and of the crowd each; the packaged unit allows more."""
FIRST_UID = 20_000
PATIENCE = 20.0
TICKS = os.sysconf("SC_CLK_TCK")
RUN = f"import sys; sys.path[:0] = ['{TREE}', '{TREE}/daemon']; from starlingd.main import main; main()"
IN_NAMESPACE = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'


@dataclass(frozen=True)
class Live:
    """A running daemon. ``log`` is what it said."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def socket(self) -> Path:
        """Where modules connect."""
        return self.folder / "pam.sock"

    @property
    def log(self) -> str:
        """Tell what it logged."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def cpu(self) -> float:
        """Tell the CPU time used so far, all threads, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self, what: str = "VmRSS") -> float:
        """Tell the resident memory, or with ``VmHWM`` the most there was, in MiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024
        raise ValueError(what)

    def descriptors(self) -> int:
        """Count its open files."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())


def daemon(identities: dict[str, str], url: str, credential: str, ca_file: str) -> AbstractContextManager[Live]:
    """Start a daemon whose NSS has the users of ``identities`` too, mapped to those; all else is as by default."""
    return running(_configuration(identities, url, credential, ca_file), identities)


@contextmanager
def running(configuration: str, users: Iterable[str], fill: Callable[[Path], None] | None = None) -> Iterator[Live]:
    """Start a daemon whose NSS has these users too; ``fill`` may prepare its state file before."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, max(OPEN_FILES, _hard_limit())))
    with tempfile.TemporaryDirectory(prefix="pam-starling-bench-") as name:
        folder = Path(name)
        _write(folder / "starling.conf", configuration, 0o600)
        _write(folder / "passwd", Path("/etc/passwd").read_text(encoding="utf-8") + _passwd(users), 0o644)
        if fill is not None:
            fill(folder / "state.db")
        process = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("/bin/sh", "-c", IN_NAMESPACE, "sh", str(folder / "passwd")),
                *("/usr/bin/python3", "-I", "-c", RUN, "--config", str(folder / "starling.conf")),
                *("--state", str(folder / "state.db"), "--socket", str(folder / "pam.sock")),
            ],
            stderr=(folder / "log").open("wb"),
        )
        live = Live(process, folder)
        try:
            _await_socket(live)
            yield live
        finally:
            process.kill()
            process.wait(PATIENCE)


def _hard_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _configuration(identities: dict[str, str], url: str, credential: str, ca_file: str) -> str:
    starling = f"credential = {credential}\nservice_url = {url}\ntoken_url = {url}\nca_file = {ca_file}"
    mapping = "\n".join(f"{name} = {identity}" for name, identity in identities.items())
    return f"[starling]\n{starling}\n[usermapping source=explicit]\n{mapping}\n"


def _passwd(names: Iterable[str]) -> str:
    lines = (f"{name}:x:{FIRST_UID + n}:{FIRST_UID + n}::/nonexistent:/bin/sh" for n, name in enumerate(names))
    return "\n".join([*lines, ""])


def _await_socket(live: Live) -> None:
    ends = time.monotonic() + PATIENCE
    while "starlingd: ready" not in live.log:
        if live.process.poll() is not None or time.monotonic() > ends:
            sys.exit(f"the daemon did not start:\n{live.log}")
        time.sleep(0.02)
