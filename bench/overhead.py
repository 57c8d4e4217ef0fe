"""What one ``authenticate`` costs, whole process: an empty pam_python module, ours, and the common C modules.

The candidates take turns within one run, so that whatever else the machine does hits all alike. Reported are medians of
CPU and wall time of ``pamtester … authenticate`` and the ratio to the empty pam_python module.
"""

import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
ROUNDS = 150
PREFIX = "pam-starling-bench"
EMPTY = """
def pam_sm_authenticate(pamh, flags, argv):
    return 0
def pam_sm_setcred(pamh, flags, argv):
    return 0
"""
OATH_KEY = "3132333435363738393031323334353637383930"


@dataclass
class Candidate:
    """One PAM line under test; ``answer`` makes what is typed."""

    name: str
    line: str
    answer: str = ""
    user: str = "root"
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def service(self) -> str:
        """The private PAM service of this candidate."""
        return f"{PREFIX}-{self.name.replace('_', '-')}"

    def run(self) -> None:
        """Authenticate once, in a process of its own, and note what it cost."""
        began = time.perf_counter()
        process = subprocess.Popen(  # the only arguments are ours
            ["/usr/bin/pamtester", self.service, self.user, "authenticate"],
            env={"PATH": "/usr/bin"},  # as sshd's: no PYTHONPATH that every import would search first
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # a module that asks nothing may have ended by now
            process.stdin.write(self.answer.encode() + b"\n")
            process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{self.name}: pamtester refused; the measurement would be of something else")
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.wall.append(time.perf_counter() - began)


def install(lib: Path) -> Path:
    """Lay the module out as the package and its postinst do, byte-compiled, and tell where ``entry.py`` is."""
    version = lib / "versions" / "bench"
    (version / "pam_starling").mkdir(parents=True)
    shutil.copy(TREE / "pam_starling" / "entry.py", lib)
    for name in ("__init__", "protocol", "options", "client", "login"):
        shutil.copy(TREE / "pam_starling" / f"{name}.py", version / "pam_starling")
    compileall = ["/usr/bin/python3", "-I", "-m", "compileall", "-q", str(version / "pam_starling")]
    subprocess.run(compileall, check=True, timeout=60)
    (lib / "current").symlink_to("versions/bench")
    return lib / "entry.py"


def candidates(work: Path, socket: Path) -> list[Candidate]:
    """Make the lines to compare."""
    (work / "empty.py").write_text(EMPTY, encoding="ascii")
    return [
        Candidate("pam_permit", "auth required pam_permit.so"),
        Candidate("empty_pam_python", f"auth required pam_python.so {work / 'empty.py'}"),
        ours(install(work / "lib"), socket),
        *others(work),
    ]


def ours(entry: Path, socket: Path) -> Candidate:
    """Make our line, with a daemon of the benchmark's."""
    own = Candidate("pam_starling", "")
    own.line = f"auth required pam_python.so {entry} services={own.service} socket={socket}"
    return own


def others(work: Path) -> list[Candidate]:
    """Make the lines of the two common modules for one-time codes."""
    # HOTP without a second use check would not authenticate twice; these two use time-based codes with a wide window.
    google = work / "google"
    google.write_text('GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n" WINDOW_SIZE 21\n" TOTP_AUTH\n', encoding="ascii")
    google.chmod(0o600)
    oath = work / "oath"
    oath.write_text(f"HOTP root - {OATH_KEY}\n", encoding="ascii")
    oath.chmod(0o600)
    return [
        Candidate(
            "pam_google_authenticator",
            f"auth required pam_google_authenticator.so secret={google} user=root no_increment_hotp",
        ),
        Candidate("pam_oath", f"auth required pam_oath.so usersfile={oath} window=20 digits=6"),
    ]


def refresh_answers(all_candidates: list[Candidate], round_number: int) -> None:
    """Make the codes of this round."""
    for candidate in all_candidates:
        if candidate.name == "pam_google_authenticator":
            candidate.answer = _oathtool("--totp", "-b", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
        if candidate.name == "pam_oath":
            candidate.answer = _oathtool("--hotp", "-c", str(round_number), OATH_KEY)


def _oathtool(*arguments: str) -> str:
    return subprocess.run(["/usr/bin/oathtool", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def services(all_candidates: list[Candidate]) -> Iterator[None]:
    """Make the private PAM services, and take them away again whatever happens."""
    files = [Path("/etc/pam.d") / candidate.service for candidate in all_candidates]
    try:
        for file, candidate in zip(files, all_candidates, strict=True):
            file.write_text(candidate.line + "\n", encoding="ascii")
        yield
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def report(all_candidates: list[Candidate]) -> None:
    """Print the table README quotes."""
    base = next(candidate for candidate in all_candidates if candidate.name == "empty_pam_python")
    print(f"\n{ROUNDS} interleaved runs of `pamtester … authenticate`, medians; ratio to an empty pam_python module\n")
    print("| module | CPU ms | wall ms | CPU ratio | wall ratio |\n|---|---|---|---|---|")
    for candidate in all_candidates:
        cpu, wall = statistics.median(candidate.cpu), statistics.median(candidate.wall)
        ratios = f"{cpu / statistics.median(base.cpu):.2f} | {wall / statistics.median(base.wall):.2f}"
        print(f"| {candidate.name} | {cpu * 1000:.1f} | {wall * 1000:.1f} | {ratios} |")


def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        work = Path(folder)
        socket = work / f"{secrets.token_hex(4)}.sock"
        everybody = candidates(work, socket)
        daemon = subprocess.Popen(
            ["/usr/bin/python3", str(TREE / "bench" / "allow_daemon.py"), str(socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert daemon.stdout is not None
            if daemon.stdout.readline() != b"ready\n":
                sys.exit("the daemon of the benchmark did not start")
            with services(everybody):
                for round_number in range(ROUNDS):
                    refresh_answers(everybody, round_number)
                    for candidate in everybody:
                        candidate.run()
        finally:
            daemon.communicate(timeout=10)
        report(everybody)


if __name__ == "__main__":
    main()
