"""Whole ssh logins: what a grace hit adds to a login without the module, next to pam_google_authenticator's.

Real sshd in the booted bastion, a real client, a public key first in each case; the cases take turns in one run. Both
modules are in their grace period, so nobody is asked anything.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import running
from tests.system import bastion as bastions
from tests.system import engine as engines
from tests.system import package

if TYPE_CHECKING:
    from tests.system.bastion import Bastion

ROUNDS = 40
USER = "approves"
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
GOOGLE_FILE = f'{SECRET}\n" RATE_LIMIT 3 30\n" WINDOW_SIZE 17\n" DISALLOW_REUSE\n" TOTP_AUTH\n'
CACHE = "reuse_limit = -1\nsoft_timeout = 10h\nhard_timeout = 10h"
ALWAYS = "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
GOOGLE = f"auth required pam_google_authenticator.so grace_period=86400\n{ALWAYS}"


def stacks(bastion: Bastion) -> dict[str, str]:
    """Tell each case's /etc/pam.d/sshd: the same but for the module."""
    ours = "{} requisite pam_python.so /usr/lib/pam-starling/entry.py\n"
    own = "".join(ours.format(kind) for kind in ("auth", "account", "session")) + ALWAYS
    bastion.write(f"/home/{USER}/.google_authenticator", GOOGLE_FILE, "0400")
    bastion.shell(f"chown {USER}: /home/{USER}/.google_authenticator")
    return {
        "without a module": ALWAYS,
        "pam_starling, grace hit": own,
        "pam_google_authenticator, grace period": GOOGLE,
    }


def log_in(bastion: Bastion) -> float:
    """Log in once, unasked, and tell the seconds it took."""
    command = [*bastion.command("ssh", "-o", "NumberOfPasswordPrompts=1", "-T"), f"{USER}@{bastion.address}", "true"]
    began = time.perf_counter()
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"a login was refused: {done.stderr}{bastion.shell('journalctl -n 20 --no-pager')}")
    return took


def warm_up(bastion: Bastion, name: str) -> None:
    """Pass the second factor once, after which the grace period runs."""
    if "starling" in name:
        terminal = bastion.log_in(USER, "")
    elif "google" in name:
        code = bastion.run("oathtool", "--totp", "-b", SECRET).strip()
        terminal = bastion.ssh(USER)
        terminal.await_text("Verification code:")
        terminal.type(code)
        terminal.await_end()
    else:
        return
    if "in as" not in terminal.text:
        raise SystemExit(f"{name}: the first login failed:\n{terminal.text}")


def main() -> None:
    """Measure and report."""
    deb = package.build()
    times: dict[str, list[float]] = {}
    with engines.engine() as engine, tempfile.TemporaryDirectory(prefix="pam-starling-bench-") as folder:
        engines.build_image(engine, deb, bastions.people())
        with (
            running.sandbox(listen=f"{engine.gateway}:0") as sandbox,
            bastions.bastion(engine, sandbox, Path(folder)) as bastion,
        ):
            bastion.configure("key", authentication_cache=CACHE)
            cases = stacks(bastion)
            for name, stack in cases.items():
                bastion.write("/etc/pam.d/sshd", stack)
                warm_up(bastion, name)
            for _ in range(ROUNDS):
                for name, stack in cases.items():
                    bastion.write("/etc/pam.d/sshd", stack)
                    times.setdefault(name, []).append(log_in(bastion))
    report(times)


def report(times: dict[str, list[float]]) -> None:
    """Print the table README quotes."""
    base = statistics.median(times["without a module"])
    print(f"\n{ROUNDS} interleaved ssh logins of each, medians\n")
    print("| login | ms | added ms | ratio |\n|---|---|---|---|")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"| {name} | {median * 1000:.0f} | {(median - base) * 1000:.0f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
