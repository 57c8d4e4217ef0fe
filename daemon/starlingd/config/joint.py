"""Rules that join several keys, or that look at what a value names, in sentences an administrator understands.

Each rule is told to ``Notes`` with the keys it depends on, so that a key whose own value was refused or withheld
causes no second complaint. Nothing here may change a value.
"""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

from starlingd.config import directory, lists, questions
from starlingd.config.secrets import CREDENTIALS
from starlingd.config.sections import (
    ACCOUNT,
    AUTH,
    EXPLICIT_MAPPING,
    GRACE,
    HTTPS_PROXY,
    STARLING,
    TOTP,
    TRANSFORM,
)
from starlingd.config.spswords import service
from starlingd.core.rules import Bind, FailMode, Fallback, NotEnrolled, Provider, WithoutSecondFactor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlingd.config.problems import Notes
    from starlingd.config.schema import Values

MODULE_DEADLINE = 100
"""Seconds that the module gives a login of sshd unless its pam.d line says otherwise (DESIGN §4)."""
NUMBER = "{number}"


def check(values: Values, notes: Notes, read_file: Callable[[Path], bytes]) -> None:
    """Apply every rule."""
    _credential(values, notes)
    _hosts(values, notes)
    _ca_files(values, notes, read_file)
    _push_times(values, notes)
    _number(values, notes)
    _own_codes(values, notes)
    _prompting(values, notes)
    _account(values, notes)
    _grace(values, notes)
    _unreachable(values, notes)
    _unenrolled(values, notes)
    _enforcement(values, notes)
    _mapping(values, notes)
    _proxy(values, notes)
    lists.check(values, notes)
    directory.check(values, notes)
    questions.check(values, notes)


def _credential(values: Values, notes: Notes) -> None:
    form = values[STARLING]
    if notes.given("starling", "api_key") and notes.given("starling", "credential"):
        notes.problem("starling", "", "has a credential and an api_key, which are for different services: remove one")
    if values[AUTH].provider is Provider.STARLING and form.credential is None and form.api_key is None:
        notes.problem(
            "starling",
            "credential",
            'is missing: write "credential = $", and the client_id:client_secret that joining to Starling gave you into'
            f" {CREDENTIALS}/starling.credential",
            depends_on=[("auth", "provider"), ("starling", "api_key")],
        )


def _own_codes(values: Values, notes: Notes) -> None:
    auth, key = values[AUTH], values[TOTP].key_
    is_provider = auth.provider is Provider.TOTP
    if key is None and (is_provider or Fallback.TOTP in auth.fallback):
        notes.problem(
            "totp",
            "key",
            'is missing: write "key = $", and have starlingctl totp make-key make and keep it; where apps were enrolled'
            " before, they open with their old key alone, which starlingctl restore puts back",
            depends_on=[("auth", "provider"), ("auth", "fallback")],
        )
    if is_provider and auth.fallback:
        notes.warn("auth", "fallback", "has no effect with provider = totp: there is no service to fall back from")
    if is_provider and values[ACCOUNT].without_second_factor is WithoutSecondFactor.PUSH:
        notes.problem("account", "without_second_factor", "push needs provider = starling: write deny or allow")
    if is_provider and auth.fail_mode is FailMode.SAFE:
        notes.warn(
            "auth", "fail_mode", "safe has no effect with provider = totp: there is no service to be unreachable"
        )
    if is_provider and directory.provisioning(values) is not None:
        notes.warn("starling_auto_provision", "", "has no effect with provider = totp: nobody is enrolled in Starling")


def _hosts(values: Values, notes: Notes) -> None:
    form = values[STARLING]
    if form.api_key is not None:
        for name in ("environment", "service_url", "token_url"):
            if notes.given("starling", name):
                notes.warn("starling", name, "has no effect: api_key selects the older service; remove it")
        return
    if form.api_url is not None:
        notes.warn(
            "starling", "api_url", "has no effect without api_key: remove it", depends_on=[("starling", "api_key")]
        )
    both = [("starling", "service_url"), ("starling", "token_url")]
    if form.service_url and form.token_url and notes.given("starling", "environment"):
        notes.warn("starling", "environment", "has no effect, since both URLs are set: remove it", depends_on=both)
    if bool(form.service_url) != bool(form.token_url):
        given, other = ("service_url", "token_url") if form.service_url else ("token_url", "service_url")
        notes.warn(
            "starling",
            given,
            f"is set without {other}: the other host is still the vendor's; set both, or check that this is meant",
            depends_on=both,
        )


def _ca_files(values: Values, notes: Notes, read_file: Callable[[Path], bytes]) -> None:
    _ca_file(STARLING.name, values[STARLING].ca_file, notes, read_file)
    for name, form in values.each(directory.POLICY).items():
        _ca_file(f"{directory.POLICY.name} {name}", form.ca_file, notes, read_file)


def _ca_file(section: str, path: Path | None, notes: Notes, read_file: Callable[[Path], bytes]) -> None:
    if path is None:
        return
    try:
        content = read_file(path)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError):
        notes.refuse(section, "ca_file", "holds no certificate that can be read: name a file in PEM form")
    except OSError as error:
        notes.refuse(section, "ca_file", f"cannot be read: {error.strerror}; name a readable PEM file")


def _push_times(values: Values, notes: Notes) -> None:
    form = values[STARLING]
    if form.rest_poll_interval is not None and form.rest_poll_interval >= form.timeout:
        notes.problem(
            "starling",
            "rest_poll_interval",
            f"must be less than timeout ({form.timeout} seconds), or no answer is ever seen",
            depends_on=[("starling", "timeout")],
        )
    for section, key, seconds in (
        ("starling", "timeout", form.timeout),
        ("account", "push_timeout", values[ACCOUNT].push_timeout),
    ):
        if seconds > MODULE_DEADLINE:
            notes.warn(
                section,
                key,
                f"is longer than the {MODULE_DEADLINE} seconds that a login has in all: raise deadline= on the pam.d"
                " line, and sshd's LoginGraceTime above it",
            )


def _number(values: Values, notes: Notes) -> None:
    """Have the number both in the prompt and on the phone, or in neither."""
    form = values[AUTH]
    depends = [("auth", "push_number")]
    if form.push_number and form.prompt is not None and NUMBER not in form.prompt:
        notes.warn(
            "auth",
            "prompt",
            f"does not show the number that the phone shows: write {NUMBER} into it, or push_number = no",
            depends_on=depends,
        )
    for key, text in (("prompt", form.prompt), ("push_message", form.push_message)):
        if not form.push_number and NUMBER in (text or ""):
            notes.problem(
                "auth", key, f"holds {NUMBER}, but push_number = no: remove one of the two", depends_on=depends
            )


def _prompting(values: Values, notes: Notes) -> None:
    form = values[AUTH]
    foreign = [name for name in form.interactive_protocols if not service(name)]
    if foreign:
        notes.warn("auth", "interactive_protocols", f"{', '.join(foreign)}: not applicable here, and left out")
    if len(foreign) == len(form.interactive_protocols):
        notes.warn("auth", "interactive_protocols", "leaves no service that can prompt: everybody gets a push at once")
    if form.disable_echo:
        notes.warn(
            "auth",
            "disable_echo",
            "is dangerous while sshd has PasswordAuthentication yes: sshd then answers such a prompt with the user's"
            " password; set it to no there",
        )


def _account(values: Values, notes: Notes) -> None:
    if values[ACCOUNT].without_second_factor is WithoutSecondFactor.ALLOW:
        notes.warn(
            "account",
            "without_second_factor",
            "lets in whoever has a public key, without a second factor: write push or deny unless this is meant",
        )


def _grace(values: Values, notes: Notes) -> None:
    form = values[GRACE]
    off = [(GRACE.name, "reuse_limit")]
    for name in ("soft_timeout", "hard_timeout", "bind"):
        if form.reuse_limit == 0 and notes.given(GRACE.name, name):
            notes.warn(GRACE.name, name, "has no effect: reuse_limit = 0 means no grace period at all", depends_on=off)
    if Bind.USER not in form.bind:
        notes.problem(GRACE.name, "bind", "must name user: one user's second factor would let in all others")
    elif not form.bind & {Bind.CLIENT_IP, Bind.SSH_KEY}:
        notes.problem(GRACE.name, "bind", "must name client_ip or ssh_key: whoever has the password would be let in")


def _unreachable(values: Values, notes: Notes) -> None:
    form = values[AUTH]
    if form.fail_mode is FailMode.SAFE:
        whom = "those in fail_open_users" if form.fail_open_users else "everybody"
        notes.warn(
            "auth",
            "fail_mode",
            f"safe lets in {whom} without a second factor while the service cannot be reached: write secure unless this"
            " is meant",
            depends_on=[("auth", "fail_open_users")],
        )
    elif form.fail_open_users:
        notes.warn("auth", "fail_open_users", "has no effect: fail_mode is secure", depends_on=[("auth", "fail_mode")])


def _unenrolled(values: Values, notes: Notes) -> None:
    action, until = values[AUTH].not_enrolled.action, values[AUTH].not_enrolled.until
    if action is NotEnrolled.ALLOW_UNTIL and time.time() < until:
        notes.warn("auth", "not_enrolled", "until that day nobody needs a second factor whom Starling does not know")
    elif action is NotEnrolled.ALLOW_UNTIL:
        notes.warn(
            "auth",
            "not_enrolled",
            f"is over since {_moment(until)}: whom Starling does not know is refused; write deny or enrol",
        )
    own = values[AUTH].provider is Provider.TOTP
    if action is NotEnrolled.ENROL and not own and directory.provisioning(values) is None:
        notes.problem("auth", "not_enrolled", "enrol needs [starling_auto_provision] with both attributes")


def _enforcement(values: Values, notes: Notes) -> None:
    until = values[AUTH].enforce
    if time.time() < until:
        notes.warn("auth", "enforce", "until that day nobody is asked for a second factor")
    elif until:
        notes.warn("auth", "enforce", f"is over since {_moment(until)}: everybody is asked; write enforce = yes")


def _moment(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wall))


def _mapping(values: Values, notes: Notes) -> None:
    for user, identity in values[EXPLICIT_MAPPING].users:
        if identity and not (identity.isascii() and identity.isdigit()):
            notes.warn(EXPLICIT_MAPPING.name, user, "is mapped to something that is not all digits; Starling ids are")
    if not values[TRANSFORM].append_domain:
        return
    place = (TRANSFORM.name, "append_domain")
    if directory.provisioning(values) is not None:
        notes.problem(
            *place,
            "does not go with [starling_auto_provision]: Starling would be asked about an id with a domain; remove one",
        )
    else:
        notes.warn(*place, "makes identities that are not all digits; Starling ids are")


def _proxy(values: Values, notes: Notes) -> None:
    form = values[HTTPS_PROXY]
    given = any(section == HTTPS_PROXY.name and key for section, key in notes.lines)
    if form.enabled and given and form.server is None:
        notes.problem(
            HTTPS_PROXY.name,
            "server",
            "is missing: write the proxy's host name, or enabled = no",
            depends_on=[(HTTPS_PROXY.name, "enabled")],
        )
    if form.enabled and form.password is not None and form.username is None:
        notes.problem(
            HTTPS_PROXY.name,
            "username",
            "is missing: a password needs one",
            depends_on=[(HTTPS_PROXY.name, "enabled"), (HTTPS_PROXY.name, "password")],
        )
