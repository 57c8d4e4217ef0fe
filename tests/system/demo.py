"""./dev demo: a real ssh login with a second factor, narrated.

With a terminal the bastion stays up until Enter; otherwise the demo ends by itself, with status 0 only if both logins
worked and left their audit records.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import running
from tests.system import bastion as bastions
from tests.system import engine as engines
from tests.system import package

if TYPE_CHECKING:
    from tests.sandbox.running import Sandbox
    from tests.system.bastion import Bastion

USER = "manual"
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a request to end, a terminal that was closed."""


def main() -> int:
    """Run the demo."""
    tell("Building the package")
    deb = package.build()
    tell(f"{deb.name}: {deb.stat().st_size // 1024} KiB")
    tell("Starting a container engine and booting a bastion with the package: systemd, sshd, starlingd")
    with engines.engine() as engine, tempfile.TemporaryDirectory(prefix="pam-starling-demo-") as folder:
        engines.build_image(engine, deb, bastions.people())
        with (
            running.sandbox(listen=f"{engine.gateway}:0") as sandbox,
            bastions.bastion(engine, sandbox, Path(folder)) as bastion,
        ):
            bastion.configure("key")
            log_in_by_push(bastion, sandbox)
            log_in_by_code(bastion, sandbox)
            show_audit(bastion)
            if sys.stdin.isatty():
                wait_for_enter(bastion, sandbox)
    tell("Everything is taken away again.")
    return 0


def log_in_by_push(bastion: Bastion, sandbox: Sandbox) -> None:
    """Log in by public key and a push, approved on the sandbox's phone."""
    tell(f"First login: public key, then a push.  $ ssh {USER}@{bastion.address}")
    terminal = bastion.ssh(USER, remote="echo Welcome to $(hostname), $(id -un). Your login is $PAM_STARLING_LOGIN")
    terminal.await_prompt()
    terminal.type("")
    push = sandbox.await_push()
    tell("The phone shows:")
    print(f"      {push['message']}")
    for label, text in push["details"].items():
        print(f"      {label + ':':14} {text}")
    tell("… and its owner approves.")
    sandbox.approve(push["id"])
    finish(terminal.await_end(), terminal.text)


def log_in_by_code(bastion: Bastion, sandbox: Sandbox) -> None:
    """Log in by public key and a one-time code."""
    code = sandbox.code_for(USER)
    tell(f"Second login: public key, then the one-time code that the app shows, {code}")
    terminal = bastion.ssh(USER, remote="echo Welcome back, $(id -un)")
    terminal.await_prompt()
    terminal.type(code)
    finish(terminal.await_end(), terminal.text)


def show_audit(bastion: Bastion) -> None:
    """Show the audit records that the two logins left."""
    tell("What the journal holds of it:")
    bastion.await_audit("session_close", 2)
    events = [entry for entry in bastion.journal() if "STARLING_EVENT" in entry]
    for event in events:
        fields = {key[9:].lower(): value for key, value in event.items() if key.startswith("STARLING_")}
        print("      " + " ".join(f"{key}={fields[key]}" for key in sorted(fields, key=_order)))
    found = [event["STARLING_REASON"] for event in events if event["STARLING_EVENT"] == "login"]
    if found != ["push_approved", "code_verified"]:
        sys.exit(f"the audit trail is not what the logins were: {found}")


def wait_for_enter(bastion: Bastion, sandbox: Sandbox) -> None:
    """Leave everything up for a person to try."""
    options = " ".join(bastion.command("ssh")[1:])
    tell("The bastion stays up. Try it:")
    print(f"      log in:  ssh {options} {USER}@{bastion.address}")
    print(f"      phone:   {sandbox.url}/phone/   (its certificate is the sandbox's own)")
    print(f"      a code:  users.json in {sandbox.state}")
    print(f"      inside:  docker -H unix://{bastion.engine.socket} exec -it {bastion.name} bash")
    with contextlib.suppress(EOFError):  # Ctrl-D
        input("\n    Press Enter to take it all away. ")


def finish(status: int, shown: str) -> None:
    """Show a dialogue; end the demo when the login failed."""
    print("".join(f"    | {line}\n" for line in shown.strip().splitlines()), end="")
    if status:
        sys.exit(f"the login failed with status {status}")


def tell(sentence: str) -> None:
    """Narrate."""
    print(f"\n==> {sentence}", flush=True)


def _order(key: str) -> int:
    known = ("event", "outcome", "reason", "user", "client_ip", "service", "factor", "login")
    return known.index(key) if key in known else len(known)


def interrupt(*_: object) -> None:
    """End the demo at the first signal; those that follow must not disturb what takes everything away."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    for ending in ENDINGS:
        signal.signal(ending, interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
