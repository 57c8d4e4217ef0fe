"""Findings about /etc/pam.d: the order and controls around our lines, and who else reaches a Python module."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from starlingd.cli.doctor.finding import error, note, warning
from starlingd.cli.doctor.stacks import Rule, of_kind, reaches, rules
from starlingd.cli.pam.stack import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from starlingd.cli.doctor.finding import Finding

PASSWORDS = frozenset(
    f"pam_{name}.so"
    for name in (
        *("unix", "sss", "ldap", "krb5", "winbind", "userdb", "pwdfile", "tacplus", "radius", "ccreds"),
        *("systemd_home", "fprintd", "vas3", "centrifydc", "lsass"),
    )
)
"""Modules that are a first factor."""
SETUID = frozenset({"su", "su-l", "sudo", "sudo-i", "passwd", "chsh", "chfn", "newgrp", "polkit-1", "doas", "other"})
"""Services of setuid programs, and of whatever has no file of its own; those that are found are added."""
ALIASES = {"su": ("su", "su-l"), "sudo": ("sudo", "sudo-i"), "pkexec": ("polkit-1",), "at": ("atd",)}
SERVICES = ("sshd", "login")
FIRST = {
    "account": "its first account line, before @include common-account (or an expired password hides ours)",
    "session": "its first session line, before every pam_env (which reads a file of the user's)",
}


def mode_of(files: Mapping[str, str], service: str) -> Mode | None:
    """Tell the mode that a service's lines mean; None where none of its lines is ours."""
    auth = of_kind(files, service, "auth")
    ours = _first_of_ours(auth)
    if ours is None:
        has_any = any(rule.is_ours for rule in rules(files, service))
        return Mode.KEY_PUSH if has_any else None
    before = auth[: auth.index(ours)]
    return Mode.PASSWORD if any(PurePath(rule.module).name in PASSWORDS for rule in before) else Mode.KEY


def check(files: Mapping[str, str], setuid_programs: Iterable[str]) -> Iterator[Finding]:
    """Check all services. ``files`` is the text of each file in /etc/pam.d by name."""
    yield from _setuid(files, setuid_programs)
    if not any(mode_of(files, service) for service in SERVICES):
        yield warning(
            "pam.off", "neither sshd nor login asks for the second factor", "starlingctl pam enable sshd --mode key"
        )
    for service in SERVICES:
        mode = mode_of(files, service)
        if mode is not None:
            yield from _service(files, service, mode)
    yield from _other_services(files)


def _setuid(files: Mapping[str, str], programs: Iterable[str]) -> Iterator[Finding]:
    named = {alias for program in programs for alias in ALIASES.get(program, (program,))}
    for service in sorted((SETUID | named) & files.keys()):
        for rule in rules(files, service):
            if rule.is_python:
                yield error(
                    "pam.setuid",
                    f"{rule.place}: pam_python is reached from {service}, whose program runs as root in an environment "
                    "of its caller's",
                    f"take the line out of {rule.place.partition(':')[0]}; our lines belong into sshd and login alone",
                )
                break
    for name in sorted(files):
        if name.startswith("common-") and any(rule.is_python for rule in rules({name: files[name]}, name)):
            yield error(
                "pam.common",
                f"/etc/pam.d/{name} runs pam_python, and su, sudo and others include it",
                f"move the line from /etc/pam.d/{name} to /etc/pam.d/sshd",
            )


def _service(files: Mapping[str, str], service: str, mode: Mode) -> Iterator[Finding]:
    for kind in ("auth", "account", "session"):
        stack = of_kind(files, service, kind)
        ours = _first_of_ours(stack)
        if ours is not None:
            yield from _line(stack, ours, service)
        elif kind != "auth":
            yield error(
                f"pam.{kind}-missing",
                f"/etc/pam.d/{service} has no {kind} line of ours: "
                + ("a login by public key alone passes unasked" if kind == "account" else "no session is counted"),
                f"starlingctl pam disable {service}; starlingctl pam enable {service} --mode {mode.value}",
            )
    if service == "login" and mode is not Mode.PASSWORD:
        yield error("pam.login-mode", "/etc/pam.d/login asks for no password before the second factor")
    yield from _auth(of_kind(files, service, "auth"), service, mode)


def _first_of_ours(stack: list[Rule]) -> Rule | None:
    return next((rule for rule in stack if rule.is_ours), None)


def _line(stack: list[Rule], ours: Rule, service: str) -> Iterator[Finding]:
    """Check our line itself, and what stands before it."""
    if not denies(ours):
        yield error(
            "pam.control",
            f"{ours.place}: with the control {ours.control} a refusal does not refuse",
            f"write: {ours.kind} requisite pam_python.so …",
        )
    if ours.dashed:
        yield error(
            "pam.dash", f"{ours.place}: with - before it, a missing pam_python.so is no refusal", "take the - away"
        )
    at = stack.index(ours)
    for number, rule in enumerate(stack[:at]):
        yield from _before(rule, ours, at - number, service)
    if ours.kind in FIRST and any(not _is_emergency(rule) for rule in stack[:at]):
        first = next(rule for rule in stack if not _is_emergency(rule))
        yield error(
            f"pam.{ours.kind}-first",
            f"{first.place}: {PurePath(first.module).name} comes before our {ours.kind} line ({ours.place})",
            f"make ours in /etc/pam.d/{service} {FIRST[ours.kind]}",
        )
    if ours.within:
        yield error("pam.substack", f"{ours.place}: our line is in a substack, which others can end early")


def denies(rule: Rule) -> bool:
    """Tell whether a refusal of this line's module refuses the login."""
    others = {
        action for result, action in rule.actions.items() if result not in {"success", "new_authtok_reqd", "ignore"}
    }
    return (
        rule.actions.get("success") == "ok"
        and rule.actions.get("default") in {"bad", "die"}
        and rule.actions.get("ignore", "ignore") == "ignore"
        and others <= {"bad", "die"}
    )


def _before(rule: Rule, ours: Rule, distance: int, service: str) -> Iterator[Finding]:
    if _is_emergency(rule) and distance == 1:
        yield warning(
            "pam.emergency-group",
            f"{rule.place}: members of the group {rule.arguments[-1]} pass without a second factor ({rule.kind})",
            f"to end it: starlingctl pam disable {service}, then enable it without --emergency-group",
        )
    elif not rule.within and rule.leaps(distance):
        yield error(
            "pam.passed-over",
            f"{rule.place}: {PurePath(rule.module).name} with {rule.control} can pass over our line ({ours.place})",
            "write required instead, or put it after ours",
        )
    if rule.within and PurePath(rule.module).name in PASSWORDS and ours.kind == "auth":
        yield error(
            "pam.first-factor-substack",
            f"{rule.place} is in a substack: a wrong password does not end there, and the second factor is asked for",
            "write @include instead of substack",
        )


def _is_emergency(rule: Rule) -> bool:
    return (
        PurePath(rule.module).name == "pam_succeed_if.so"
        and rule.actions == {"success": "1", "default": "ignore"}
        and rule.arguments[-3:-1] == ("user", "ingroup")
    )


def _auth(stack: list[Rule], service: str, mode: Mode) -> Iterator[Finding]:
    """Check what is special to auth: the first factor's argument, and a success for users who are exempt."""
    ours = _first_of_ours(stack)
    if ours is None:
        return
    says_before = "first_factor=before" in ours.arguments
    if mode is Mode.PASSWORD and not says_before:
        yield error(
            "pam.first-factor",
            f"{ours.place}: a password is asked before our line, which does not say first_factor=before",
            "write first_factor=before at its end; for key mode put it in the place of @include common-auth",
        )
    if mode is Mode.KEY and says_before:
        yield error(
            "pam.first-factor",
            f"{ours.place} says first_factor=before, but nothing before it asks for a password",
            "take first_factor=before away; for password mode put the line directly after @include common-auth",
        )
    if mode is Mode.PASSWORD and reaches(stack, ours, PASSWORDS):
        yield error(
            "pam.first-factor-goes-on",
            f"{ours.place}: after a wrong password, or without any, the stack can go on to our line: a stranger would "
            "be asked for the second factor, and where people enrol inside the login, be given one",
            "have a wrong password end the stack before our line: auth [success=1 default=ignore] for the module that "
            "checks it, then auth requisite pam_deny.so, as in Debian's own common-auth (pam-auth-update writes it)",
        )
    after = stack[stack.index(ours) + 1 :]
    if mode is Mode.KEY and not any(denies(rule) and not rule.is_python for rule in after):
        yield error(
            "pam.permit",
            f"/etc/pam.d/{service}: nothing follows our auth line, so an exempt user finds no success and is refused",
            f"write after {ours.place}: auth required pam_permit.so",
        )
    for rule in after:
        if mode is Mode.KEY and PurePath(rule.module).name in PASSWORDS:
            yield note("pam.password-after", f"{rule.place}: after the second factor a password is asked, too")
            break


def deadline_of(files: Mapping[str, str], service: str, default: int) -> int:
    """Tell the seconds that our longest line of a service may take."""
    words = (word for rule in rules(files, service) if rule.is_ours for word in rule.arguments)
    found = [int(value) for word in words if (value := word.removeprefix("deadline=")) != word and value.isdecimal()]
    return max(found, default=default)


def _other_services(files: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(files.keys() - set(SERVICES)):
        ours = next((rule for rule in rules(files, name) if rule.is_ours), None)
        if ours is not None and not name.startswith("common-"):
            yield warning(
                "pam.other-service",
                f"{ours.place}: {name} is a service that nobody has tried our module with; it leaks in long processes",
                f"take the line out of {ours.place.partition(':')[0]}",
            )
