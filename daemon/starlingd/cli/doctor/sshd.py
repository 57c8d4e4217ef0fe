"""Findings about sshd's effective configuration, for one connection at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlingd.cli.doctor.finding import error, note, warning
from starlingd.cli.pam.stack import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlingd.cli.doctor.finding import Finding

SNIPPET = "/etc/ssh/sshd_config.d/00-pam-starling.conf"
FIRST_FACTOR = 20
"""Seconds that somebody may take for what comes before the second factor."""
FEW_STARTUPS = 10
"""Logins that may wait at once, or begin in a minute, below which people get no answer now and then."""
STOPPED = "Missing privilege separation directory"
"""What sshd -T says where sshd does not run: systemd makes that directory with the service."""
_ASKS = "keyboard-interactive"


@dataclass(frozen=True, slots=True)
class Times:
    """Our time-outs in seconds: how long a push may wait, and how long one call of the module may take."""

    push: int
    deadline: int
    permit_root: bool = False


def check(found: Mapping[str, str], mode: Mode, times: Times) -> Iterator[Finding]:
    """Check what ``sshd -T`` printed, each key in lower case with its value."""
    yield from _switches(found, mode)
    yield from _methods(found.get("authenticationmethods", "any"), mode)
    yield from _other_ways(found)
    yield from _root(found.get("permitrootlogin", "no"), mode, permitted=times.permit_root)
    yield from _grace_time(found.get("logingracetime", "120"), times)
    yield from _startups(found.get("maxstartups", "10:30:100"), times)
    yield from _penalties(found)


def unseen(said: str) -> Finding:
    """Tell why sshd's configuration could not be looked at; ``said`` is what sshd -T printed."""
    if STOPPED in said:
        return warning(
            "sshd.stopped",
            "sshd does not run, and its configuration was not looked at",
            "systemctl start ssh; then starlingctl doctor again",
        )
    return error("sshd.config", f"sshd does not take its configuration: {said}", "sshd -t")


def check_blocks(untried: Sequence[str]) -> Iterator[Finding]:
    """Tell the Match blocks that nobody is known for, so that what they set was not looked at."""
    for criteria in untried:
        yield note(
            "sshd.match-untried",
            f"the block Match {criteria} was not tried: it is not known here whom it is for",
            "starlingctl doctor --user NAME@ADDRESS, of somebody whom it is for",
        )


def _switches(found: Mapping[str, str], mode: Mode) -> Iterator[Finding]:
    if found.get("usepam") != "yes":
        yield error("sshd.use-pam", "UsePAM is not yes: sshd never asks our module", _write("UsePAM yes"))
    if found.get("passwordauthentication") != "no":
        yield error(
            "sshd.password-authentication",
            "PasswordAuthentication is not no: sshd answers our prompt with the Unix password, unseen",
            _write("PasswordAuthentication no"),
        )
    asks = found.get("kbdinteractiveauthentication", found.get("challengeresponseauthentication")) == "yes"
    if mode is not Mode.KEY_PUSH and not asks:
        yield error(
            "sshd.kbd-interactive",
            "KbdInteractiveAuthentication is not yes: nobody can be asked",
            _write("KbdInteractiveAuthentication yes"),
        )
    if mode is Mode.KEY_PUSH and asks:
        yield warning(
            "sshd.kbd-interactive",
            "KbdInteractiveAuthentication is not no, though in key-push mode nobody is to be asked",
            _write("KbdInteractiveAuthentication no"),
        )


def _methods(value: str, mode: Mode) -> Iterator[Finding]:
    """Each alternative is enough by itself, so that each must have every factor."""
    right = {
        Mode.KEY: "publickey,keyboard-interactive:pam",
        Mode.PASSWORD: "keyboard-interactive:pam",
        Mode.KEY_PUSH: "publickey",
    }[mode]
    advice = _write(f"AuthenticationMethods {right}")
    if value == "any":
        yield error(
            "sshd.methods-any", f"AuthenticationMethods is any: one method is enough in {mode.value} mode", advice
        )
        return
    for alternative in value.split():
        methods = [method.partition(":")[0] for method in alternative.split(",")]
        if mode is not Mode.KEY_PUSH and _ASKS not in methods:
            yield error(
                "sshd.methods-skip",
                f"AuthenticationMethods offers {alternative}, which skips the second factor",
                advice,
            )
        elif mode is not Mode.PASSWORD and "publickey" not in methods:
            yield error(
                "sshd.methods-no-key", f"AuthenticationMethods offers {alternative}, which needs no public key", advice
            )
        elif mode is Mode.KEY and methods.index(_ASKS) < methods.index("publickey"):
            yield warning(
                "sshd.methods-order",
                f"AuthenticationMethods offers {alternative}: anybody can push without a key",
                advice,
            )


def _other_ways(found: Mapping[str, str]) -> Iterator[Finding]:
    methods = found.get("authenticationmethods", "any")
    for key, method, option in (
        ("gssapiauthentication", "gssapi-with-mic", "GSSAPIAuthentication"),
        ("hostbasedauthentication", "hostbased", "HostbasedAuthentication"),
    ):
        if found.get(key) == "yes":
            make = error if methods == "any" or method in methods else warning
            yield make(
                f"sshd.{method.partition('-')[0]}",
                f"{option} is yes: a way in that has no second factor wherever AuthenticationMethods lets it",
                _write(f"{option} no"),
            )
    if found.get("kerberosauthentication") == "yes":
        yield warning(
            "sshd.kerberos", "KerberosAuthentication is yes: passwords go past PAM", _write("KerberosAuthentication no")
        )


def _root(value: str, mode: Mode, *, permitted: bool) -> Iterator[Finding]:
    if value == "yes":
        yield warning(
            "sshd.root",
            "PermitRootLogin is yes: everybody on the Internet guesses at root"
            + ("" if permitted else ", whom our [auth] permit_root = no refuses only afterwards"),
            _write("PermitRootLogin no"),
        )
    elif permitted and value != "no" and mode is not Mode.KEY_PUSH:
        yield note(
            "sshd.root-prompts",
            f"[auth] permit_root is yes, but with PermitRootLogin {value} sshd lets root answer no prompt",
        )


def _grace_time(value: str, times: Times) -> Iterator[Finding]:
    seconds = int(value) if value.isdecimal() else 120
    if seconds == 0:
        yield note("sshd.grace-time-none", "LoginGraceTime is 0: a client may stay for ever without logging in")
    elif seconds < times.push + FIRST_FACTOR:
        yield (error if seconds <= times.push else warning)(
            "sshd.grace-time",
            f"LoginGraceTime is {seconds} s, but a push may wait {times.push} s, and what comes first takes up to "
            f"{FIRST_FACTOR} s: sshd ends the login before the answer",
            _write(f"LoginGraceTime {max(120, times.push + 2 * FIRST_FACTOR)}"),
        )
    elif seconds < times.deadline:
        yield note(
            "sshd.grace-time-deadline",
            f"LoginGraceTime is {seconds} s, less than the {times.deadline} s that our module may take",
        )


def _startups(value: str, times: Times) -> Iterator[Finding]:
    start = value.partition(":")[0]
    if not start.isdecimal():
        return
    a_minute = int(start) * 60 // max(1, times.push)
    if min(int(start), a_minute) < FEW_STARTUPS:
        yield warning(
            "sshd.max-startups",
            f"MaxStartups is {value}: after {start} logins that wait at once sshd drops new ones; with pushes of up to "
            f"{times.push} s that may be {a_minute} logins a minute",
            _write("MaxStartups 100:30:200"),
        )


def _penalties(found: Mapping[str, str]) -> Iterator[Finding]:
    """OpenSSH 9.8 and later."""
    value = found.get("persourcepenalties", "no")
    if value != "no" and found.get("persourcepenaltyexemptlist", "none") == "none":
        yield note(
            "sshd.penalties",
            f"PerSourcePenalties is {value}: refusals and time-outs shut out an address for a while, and with it "
            "everybody behind the same router",
            _write("PerSourcePenaltyExemptList with the networks of your own"),
        )


def _write(line: str) -> str:
    return f"write into {SNIPPET}: {line}; then systemctl reload ssh"
