"""The directory: the sections that say how it is asked and what for (SEMANTICS §6 to §8), and their rules.

Nothing here may connect to it. An option that needs a directory and has none is an error, never a guess.
"""

# ruff: noqa: RUF009  key() makes fields, as dataclasses.field does
from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlingd.config import lists, values
from starlingd.config.schema import Section, key
from starlingd.core.provisioning import Loop, OnLeaving
from starlingd.core.rules import WELCOME, DirectoryPolicy, DirectorySchema, OnChange, Provisioning, Tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlingd.config.problems import Notes
    from starlingd.config.schema import Values
    from starlingd.config.secrets import Secret

USER_FILTERS = {
    DirectorySchema.AD: "(&(objectCategory=person)(objectClass=user)(sAMAccountName={user}))",
    DirectorySchema.RFC2307: "(&(objectClass=posixAccount)(uid={user}))",
    DirectorySchema.RFC2307BIS: "(&(objectClass=posixAccount)(uid={user}))",
}
GROUP_FILTERS = {
    DirectorySchema.AD: "(&(objectCategory=group)(member:1.2.840.113556.1.4.1941:={dn}))",
    DirectorySchema.RFC2307: "(&(objectClass=posixGroup)(memberUid={user}))",
    DirectorySchema.RFC2307BIS: "(&(objectClass=groupOfNames)(member={dn}))",
}
MEMORY_TTL = 3600


@dataclass(frozen=True, slots=True)
class DirectoryForm:
    """Values of [ldap_server]."""

    name: str | None = key(values.line, None, "which [ldap_server_policy NAME] is asked")


@dataclass(frozen=True, slots=True)
class PolicyForm:
    """Values of [ldap_server_policy NAME]; ``tls`` that is None follows from ``uri``, filters from ``schema``."""

    uri: tuple[str, ...] = key(values.directory_uris, (), "addresses, tried in order")
    base_dn: str | None = key(values.dn, None, "below which entry it is searched")
    bind_dn: str | None = key(values.line, None, "who asks")
    bind_password: Secret | None = key(values.secret, None, "the password of bind_dn", secret=True)
    tls: Tls | None = key(values.choice(Tls), None, "how the connection is protected")
    ca_file: Path | None = key(values.absolute_path, None, "trust only the authorities in this PEM file")
    schema: DirectorySchema | None = key(values.choice(DirectorySchema), None, "how it tells who is in which group")
    user_filter: str | None = key(values.search_filter("user"), None, "finds a user's entry")
    group_filter: str | None = key(values.search_filter("user", "dn"), None, "finds a user's groups")
    timeout: float = key(values.fraction(0.1, 60), 5.0, "seconds that one question to it may take")
    pool_size: int = key(values.integer(1, 64), 8, "connections at once")
    insecure: bool = key(values.boolean, default=False, meaning="allow tls = none over a network")


@dataclass(frozen=True, slots=True)
class DirectoryMappingForm:
    """Values of [usermapping source=ldap_server]."""

    user_attribute: str | None = key(values.attribute, None, "the attribute that holds the Starling id")


@dataclass(frozen=True, slots=True)
class ProvisioningForm:
    """Values of [starling_auto_provision]."""

    email_attribute: str | None = key(values.attribute, None, "the attribute of the e-mail address")
    phone_attribute: str | None = key(values.attribute, None, "the attribute of the telephone number")
    display_name_attribute: str = key(values.attribute, "displayName", "the attribute of the name to show")
    default_region: str = key(values.region, "", "country of national telephone numbers (ISO 3166)")
    on_change: OnChange = key(values.choice(OnChange), OnChange.REFUSE, "what a changed number or address means")
    welcome: str = key(values.text, WELCOME, "what a new person is told")


@dataclass(frozen=True, slots=True)
class LoopForm:
    """Values of [provisioning]."""

    groups: tuple[str, ...] = key(values.groups, (), "groups whose members are enrolled ahead of time")
    interval: float = key(values.seconds(60, 30 * 86400), 3600, "seconds from one run to the next")
    rate_limit: int = key(values.integer(1, 6000), 60, "people enrolled in a minute at most")
    on_leaving: OnLeaving = key(values.choice(OnLeaving), OnLeaving.KEEP, "what becomes of who leaves the groups")
    dry_run: bool = key(values.boolean, default=False, meaning="only report")
    max_errors: int = key(values.integer(1, 10_000), 10, "errors after which a run stops")
    max_shrink: int = key(values.integer(0, 100), 20, "percent of the members that may be missing at once")


@dataclass(frozen=True, slots=True)
class MemoryCacheForm:
    """Values of [memory_cache]."""

    prefix: str = key(values.identity, "", "accepted, and not used")
    ttl: int = key(values.seconds(0, 30 * 86400), MEMORY_TTL, "seconds for which a disowned id is remembered")


DIRECTORY = Section("ldap_server", DirectoryForm, "which directory is asked")
POLICY = Section("ldap_server_policy", PolicyForm, "a directory", named=True)
DIRECTORY_MAPPING = Section("usermapping source=ldap_server", DirectoryMappingForm, "Starling ids from the directory")
PROVISIONING = Section("starling_auto_provision", ProvisioningForm, "enrolment from the directory")
LOOP = Section("provisioning", LoopForm, "enrolment ahead of time")
MEMORY_CACHE = Section("memory_cache", MemoryCacheForm, "what is remembered", aliases=("memory-cache",))


def policy(found: Values) -> DirectoryPolicy | None:
    """Make the directory's policy, of valid values."""
    name = found[DIRECTORY].name
    form = found.each(POLICY).get(name or "")
    if name is None or form is None or form.schema is None or form.base_dn is None:
        return None
    return DirectoryPolicy(
        name=name,
        uri=form.uri,
        base_dn=form.base_dn,
        schema=form.schema,
        tls=form.tls or _natural_tls(form),
        user_filter=form.user_filter or USER_FILTERS[form.schema],
        group_filter=form.group_filter or GROUP_FILTERS[form.schema],
        bind_dn=form.bind_dn or "",
        bind_password="" if form.bind_password is None else form.bind_password.reveal(),
        ca_file=str(form.ca_file or ""),
        timeout=form.timeout,
        pool_size=form.pool_size,
        insecure=form.insecure,
    )


def loop(found: Values) -> Loop | None:
    """Make the rule of the provisioning loop; None when it is off."""
    form = found[LOOP]
    if not form.groups:
        return None
    return Loop(
        groups=form.groups,
        interval=form.interval,
        rate_limit=form.rate_limit,
        on_leaving=form.on_leaving,
        dry_run=form.dry_run,
        max_errors=form.max_errors,
        max_shrink=form.max_shrink / 100,
    )


def provisioning(found: Values) -> Provisioning | None:
    """Make the rule of enrolment; None when it is off."""
    form = found[PROVISIONING]
    if form.email_attribute is None or form.phone_attribute is None:
        return None
    return Provisioning(
        email_attribute=form.email_attribute,
        phone_attribute=form.phone_attribute,
        display_name_attribute=form.display_name_attribute,
        default_region=form.default_region,
        on_change=form.on_change,
        welcome=form.welcome,
        forget_after=found[MEMORY_CACHE].ttl,
    )


def check(found: Values, notes: Notes) -> None:
    """Apply every rule about directories."""
    policies = found.each(POLICY)
    for name, form in policies.items():
        _policy(f"{POLICY.name} {name}", form, notes)
    named = found[DIRECTORY].name
    lists.check_name(DIRECTORY.name, named, POLICY, policies, notes)
    for other in policies:
        if other != named:
            notes.warn(f"{POLICY.name} {other}", "", "is not used: name it in [ldap_server], or remove it")
    _needed(found, notes)
    _loop(found, notes)
    _halves(found, notes)
    _owners(found, notes)


def _policy(section: str, form: PolicyForm, notes: Notes) -> None:
    for name, missing in (("uri", not form.uri), ("base_dn", not form.base_dn), ("schema", not form.schema)):
        if missing:
            notes.problem(section, name, "is missing: no directory can be asked without it")
    if form.bind_dn is not None and form.bind_password is None:
        notes.problem(
            section,
            "bind_password",
            'is missing: write "bind_password = $", or remove bind_dn for an anonymous connection',
            depends_on=[(section, "bind_dn")],
        )
    if form.bind_password is not None and form.bind_dn is None:
        notes.problem(section, "bind_dn", "is missing: a password needs one", depends_on=[(section, "bind_password")])
    _protected(section, form, notes)


def _protected(section: str, form: PolicyForm, notes: Notes) -> None:
    """Have addresses and ``tls`` agree, and nothing in the clear over a network."""
    schemes = {urlsplit(each).scheme for each in form.uri} - {"ldapi"}
    depends = [(section, "uri"), (section, "tls"), (section, "insecure")]
    if len(schemes) > 1:
        notes.problem(section, "uri", "mixes ldap:// and ldaps://: write one of the two", depends_on=depends)
    elif form.tls is not None and schemes and (form.tls is Tls.LDAPS) != (schemes == {"ldaps"}):
        advice = "write ldaps:// in uri" if form.tls is Tls.LDAPS else "write ldap:// in uri, or tls = ldaps"
        notes.problem(section, "tls", f"does not go with uri: {advice}", depends_on=depends)
    elif form.tls is Tls.NONE and not form.insecure and not all(map(_is_near, form.uri)):
        notes.problem(
            section,
            "tls",
            "must not be none over a network, where everybody on the way could read and change what is said: write"
            " starttls, or insecure = yes if that is meant",
            depends_on=depends,
        )


def _natural_tls(form: PolicyForm) -> Tls:
    schemes = {urlsplit(each).scheme for each in form.uri}
    return Tls.STARTTLS if "ldap" in schemes else Tls.LDAPS if "ldaps" in schemes else Tls.NONE


def _is_near(uri: str) -> bool:
    url = urlsplit(uri)
    if url.scheme == "ldapi":
        return True
    try:
        return ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        return url.hostname == "localhost"


def _uses(found: Values) -> Iterator[tuple[str, str]]:
    """Tell each section and key that needs a directory."""
    if found[lists.BY_GROUP].allow is not None:
        yield lists.BY_GROUP.name, "allow"
    if found[DIRECTORY_MAPPING].user_attribute is not None:
        yield DIRECTORY_MAPPING.name, "user_attribute"
    if provisioning(found) is not None:
        yield PROVISIONING.name, "phone_attribute"
    if found[LOOP].groups:
        yield LOOP.name, "groups"


def _needed(found: Values, notes: Notes) -> None:
    for section, name in _uses(found):
        if found[DIRECTORY].name is None:
            notes.problem(
                section,
                name,
                "needs a directory: write [ldap_server] with name, and [ldap_server_policy NAME]",
                depends_on=[(DIRECTORY.name, "name")],
            )


def _loop(found: Values, notes: Notes) -> None:
    if found[LOOP].groups and provisioning(found) is None:
        notes.problem(
            LOOP.name,
            "groups",
            "needs email_attribute and phone_attribute in [starling_auto_provision]",
            depends_on=[(PROVISIONING.name, "email_attribute"), (PROVISIONING.name, "phone_attribute")],
        )


def _halves(found: Values, notes: Notes) -> None:
    form = found[PROVISIONING]
    both = [(PROVISIONING.name, "email_attribute"), (PROVISIONING.name, "phone_attribute")]
    if (form.email_attribute is None) != (form.phone_attribute is None):
        _, missing = both[form.email_attribute is not None]
        notes.warn(
            PROVISIONING.name, missing, "is missing, so that nobody is enrolled: both are needed", depends_on=both
        )


def _owners(found: Values, notes: Notes) -> None:
    """Warn where, in a default Active Directory, people may write the attribute themselves (SEMANTICS §8)."""
    used = found.each(POLICY).get(found[DIRECTORY].name or "")
    if used is None or used.schema is not DirectorySchema.AD:
        return
    for section, name in _uses(found):
        if section not in {lists.BY_GROUP.name, LOOP.name}:
            notes.warn(
                section,
                name,
                "must not be writable by its owner, and in Active Directory many attributes (telephone numbers) are:"
                " whoever can change it with a stolen password moves the second factor; take that right away from SELF",
            )
