"""What must be true before anything is changed: the daemon answers, the module reaches it, the mode makes sense.

Each check raises with what is wrong and what to do: Unfit, unless it says otherwise.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd import config
from starlingd.cli.daemon import moment, try_to_ask
from starlingd.cli.doctor.facts import pam_files
from starlingd.cli.doctor.pam import mode_of
from starlingd.cli.keeping import KeptSecrets
from starlingd.cli.pam.access import comes_through_sshd, has_password, members, people
from starlingd.cli.pam.stack import MODULE, Mode, Unfit, emergency_group, uses_module
from starlingd.core.rules import WithoutSecondFactor

if TYPE_CHECKING:
    import pwd
    from collections.abc import Callable

    from starlingd.cli.pam.places import Done, Places
    from starlingd.core.model import Process

PROBE_SERVICE = "pam-starling-check"
JOURNALCTL = "/usr/bin/journalctl"
LOGGED_WITHIN = 5.0
"""Seconds for the daemon and the journal to write a line."""
PROBE = """
import ctypes, sys
# PyDLL: the module's interpreter is this one, which must hold its lock while libpam runs.
pam = ctypes.PyDLL("libpam.so.0")
converse = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 3)
class Conversation(ctypes.Structure):
    _fields_ = [("function", converse), ("data", ctypes.c_void_p)]
refuse = Conversation(converse(lambda *_: 19), None)
handle = ctypes.c_void_p()
service, user = (word.encode() for word in sys.argv[1:])
if pam.pam_start(service, user, ctypes.byref(refuse), ctypes.byref(handle)):
    sys.exit(100)
print("result", pam.pam_acct_mgmt(handle, 0), flush=True)
"""
"""In a process of its own: a module that crashes must not take us with it."""


def fits(service: str, mode: Mode) -> None:
    """See that a mode can be meant for a service."""
    if service == "login" and mode is not Mode.PASSWORD:
        raise Unfit(f"{mode.value} mode is for sshd: at the console there is no key. Take --mode password")
    if mode is not Mode.KEY_PUSH:
        return
    try:
        rules = config.read(config.FILE, KeptSecrets()).rules
    except config.ConfigError as error:
        raise Unfit(f"{config.FILE} has problems; see starlingctl check-config") from error
    if rules.without_second_factor is not WithoutSecondFactor.PUSH:
        raise Unfit(
            "in key-push mode every login comes by key alone, and those are refused: write "
            f"without_second_factor = push into the section [account] of {config.FILE}, then starlingctl reload"
        )


def group_exists(group: str | None) -> None:
    """See that somebody is in the group that is to pass."""
    if group is not None and not members(group):
        raise Unfit(f"nobody is in the group {group}")


def daemon_answers() -> None:
    """See that the daemon runs and has a configuration that it can use. Raises NoAnswer."""
    try_to_ask("explain", user="root", service="sshd")


def daemon_asks() -> None:
    """See that the daemon does not only observe: then no login has a second factor, and none could confirm."""
    until = try_to_ask("status")["observe_until"]
    if until:
        raise Unfit(
            f"the daemon only observes until {moment(until)}, so that no login could confirm the change. Enable and "
            f"confirm first, then observe: write enforce = yes into the section [auth] of {config.FILE}, then "
            "starlingctl reload; once it is confirmed, write there what it says now"
        )


def module_answers(places: Places, run: Callable[..., Done]) -> None:
    """See that the module, in a PAM service of its own, has the daemon refuse somebody who does not exist."""
    service = places.pam(PROBE_SERVICE)
    user = f"starling-check-{secrets.token_hex(6)}"
    try:
        service.write_text(f"account requisite {MODULE} services={PROBE_SERVICE}\n", encoding="ascii")
        done = run("/usr/bin/python3", "-I", "-c", PROBE, PROBE_SERVICE, user)
    finally:
        service.unlink(missing_ok=True)
    result = done.output.rpartition("result ")[2]
    if done.status or not result.isdecimal():
        raise Unfit(f"the module does not run in a PAM service of its own: {done.output or f'status {done.status}'}")
    if result == "0":
        raise Unfit(f"the module let {user} in, who does not exist: this must never be, and nothing is changed")
    reason = _logged_reason(user, run)
    if reason != "unknown_user":
        raise Unfit(f"the module refuses, but not as the daemon should decide: {reason}; see journalctl -t starlingd")


def _logged_reason(user: str, run: Callable[..., Done]) -> str:
    """Tell the reason that the daemon logged for this user's login; it may get there after the verdict."""
    ends = time.monotonic() + LOGGED_WITHIN
    while True:
        found = run(JOURNALCTL, "-o", "json", "-n", "1", "--no-pager", "STARLING_EVENT=login", f"STARLING_USER={user}")
        try:
            return str(json.loads(found.output)["STARLING_REASON"])
        except (ValueError, KeyError, TypeError):
            if time.monotonic() > ends:
                return "the daemon logged nothing"
        time.sleep(0.2)


# --- another way in, while the daemon is down ------------------------------------------------------------------------


def way_in_besides_login(group: str | None, chain: list[Process], sshd: dict[str, str], places: Places) -> str:
    """Tell a way in that is left when the daemon fails and login asks; raises Unfit where none is shown to exist."""
    stack = _whole(places, "sshd")
    if not uses_module(stack) and any(_is_sshd(process) for process in chain):
        through_sshd = "sshd, through which you are logged in now, does not use pam-starling"
    else:
        mode = mode_of(pam_files(places.pam("sshd").parent), "sshd") or Mode.KEY
        through_sshd = _through_sshd(emergency_group(stack), mode, sshd)
    way = _at_the_console(group) or through_sshd
    if not way:
        raise Unfit(
            "if the daemon fails, nobody gets in at the console, and no other way in is shown to exist. Any of these "
            "would do: --emergency-group GROUP with a member who has a Unix password; this command in a session that "
            "came through sshd, while sshd does not use pam-starling; sshd with an emergency group that has a member "
            "with a key"
        )
    return way


def way_in_besides_sshd(group: str | None, mode: Mode, sshd: dict[str, str], places: Places) -> str | None:
    """Tell a way in that is left when the daemon fails and both ask; raises Unfit where none is shown to exist.

    None while login does not ask: then it is left as it is.
    """
    stack = _whole(places, "login")
    if not uses_module(stack):
        return None
    way = _at_the_console(emergency_group(stack)) or _through_sshd(group, mode, sshd)
    if not way:
        raise Unfit(
            "login asks for the second factor too: if the daemon fails, nobody gets in any more. Any of these would "
            "do: --emergency-group GROUP with a member who comes in through sshd in this mode; starlingctl pam disable "
            "login; login with an emergency group that has a member with a Unix password"
        )
    return way


def _at_the_console(group: str | None) -> str:
    """Name the members of login's emergency group who get in by password; empty where nobody does."""
    able = [person.pw_name for person in _members(group) if has_password(person.pw_name)]
    return f"{', '.join(able)} of {group}, by password at the console" if able else ""


def _through_sshd(group: str | None, mode: Mode, sshd: dict[str, str]) -> str:
    """Name the members of sshd's emergency group who get in through it; empty where nobody does."""
    able = [person.pw_name for person in _members(group) if comes_through_sshd(person, mode, sshd)]
    by = "password" if mode is Mode.PASSWORD else "key"
    return f"{', '.join(able)}, by {by} through sshd (its emergency group)" if able else ""


def _members(group: str | None) -> list[pwd.struct_passwd]:
    """Tell the members of a group who have a shell that lets them in."""
    among = members(group) if group else frozenset()
    return [person for person in people() if person.pw_name in among]


def _whole(places: Places, service: str) -> str:
    """Read a PAM service with what it includes from the common files."""
    files = [places.pam(service), *sorted(places.pam(service).parent.glob("common-*"))]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())


def _is_sshd(process: Process) -> bool:
    try:
        program = Path(f"/proc/{process.pid}/exe").readlink()
    except OSError:
        return False
    return str(program).removesuffix(" (deleted)") in {"/usr/sbin/sshd", "/usr/lib/openssh/sshd-session"}
