"""./dev harness: a bastion, a directory and the sandbox that stay until ./dev harness down.

A process of its own holds them: it has the engine, and takes everything away when it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.composed import harness
from tests.sandbox.running import Sandbox
from tests.system import bastion as bastions
from tests.system import engine as engines
from tests.system import package

if TYPE_CHECKING:
    from tests.harness.composed import Harness

PLACE = engines.RUN / "harness"
HOLDER, USAGE, LOG, STATE = PLACE / "pid", PLACE / "usage", PLACE / "log", PLACE / "state"
DESCRIPTION = "Usage: ./dev harness [up | down | code NAME]"


def up() -> int:
    """Start it, if it does not run yet, and tell how to use it."""
    if _holder() is None:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(parents=True)
        print("Building the package and the images, then starting them; the first time that takes minutes.", flush=True)
        with LOG.open("wb") as log:
            command = [sys.executable, "-m", "tests.harness", "hold"]
            held = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        HOLDER.write_text(f"{held.pid} {_started(held.pid)}", encoding="ascii")
        while not USAGE.exists():
            if held.poll() is not None:
                print(LOG.read_text(encoding="utf-8", errors="replace")[-3000:])
                return 1
            time.sleep(0.2)
    print(USAGE.read_text(encoding="utf-8"))
    return 0


def down() -> int:
    """Take it away."""
    pid = _holder()
    if pid is None:
        print("The harness does not run.")
        return 1
    os.kill(pid, signal.SIGTERM)
    while _holder() is not None:
        time.sleep(0.1)
    shutil.rmtree(PLACE)
    print("Everything is taken away again.")
    return 0


def code(name: str) -> int:
    """Tell what somebody's app shows now."""
    if _holder() is None or not USAGE.exists():
        print("The harness does not run: ./dev harness")
        return 1
    sandbox = Sandbox(STATE / "sandbox")
    sandbox.await_readiness()
    if name not in sandbox.users:
        print(f"Nobody is called {name}. There are: {', '.join(sandbox.users)}")
        return 1
    print(sandbox.code_for(name))
    return 0


def hold() -> int:
    """Be the process that holds everything until it is told to end."""
    deb = package.build()
    with engines.engine() as engine:
        engines.build_image(engine, deb, bastions.people(), stages=(*engines.STAGES, engines.SERVICES_STAGE))
        with harness(engine, STATE) as started:
            _tell(usage(started))
            signal.pause()
    return 0


def usage(started: Harness) -> str:
    """Tell how to use each part."""
    bastion, directory, sandbox = started.bastion, started.directory, started.sandbox
    docker = f"docker -H unix://{bastion.engine.socket}"
    ssh = " ".join(bastion.command("ssh"))
    return f"""\
bastion     {bastion.address}: Debian with the package; sshd asks for a key, then for the second factor
  log in    {ssh} manual@{bastion.address}
  as        manual (you answer on the phone), approves, denies, never-answers, newcomer, …: docs/harness.md
  inside    {docker} exec -it {bastion.name} bash
  change    /etc/pam-starling/starling.conf in there, then: starlingctl check-config && starlingctl reload

phone       {sandbox.url}/phone/   (its certificate is the sandbox's own)
  a code    ./dev harness code manual

sandbox     {sandbox.url}: tokens, service, phone; inside the network it is https://sandbox
  key       {sandbox.state}/credential, api_key, ca.pem
  calls     curl -k {sandbox.url}/phone/log

directory   {directory.address}: slapd with StartTLS and ldaps; inside the network it is ldap://directory
  search    {docker} exec {directory.name} ldapsearch -Q -Y EXTERNAL -H ldapi://%2Fstate%2Fldapi -b dc=example,dc=org
  change    {docker} exec -i {directory.name} ldapmodify -Q -Y EXTERNAL -H ldapi://%2Fstate%2Fldapi < FILE.ldif

Take everything away: ./dev harness down
"""


def _end(*_: object) -> None:
    """End at the first signal; those that follow must not disturb what takes everything away."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def _tell(text: str) -> None:
    half = USAGE.with_suffix(".new")
    half.write_text(text, encoding="utf-8")
    half.replace(USAGE)


def _holder() -> int | None:
    """Tell the process that holds the harness, unless it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid, started = map(int, HOLDER.read_text(encoding="ascii").split())
        if _started(pid) == started:
            return pid
    return None


def _started(pid: int) -> int:
    """Tell when a process started, which tells it from a later one of the same number; raises once it has ended."""
    state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    if state == "Z":
        raise ProcessLookupError(pid)
    return int(fields[18])


def main(arguments: list[str]) -> int:
    """Do what is asked."""
    match arguments:
        case [] | ["up"]:
            return up()
        case ["down"]:
            return down()
        case ["code", name]:
            return code(name)
        case ["hold"]:
            signal.signal(signal.SIGTERM, _end)
            return hold()
        case _:
            print(DESCRIPTION)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
