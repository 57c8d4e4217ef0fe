"""Who is asked, about whom, and why: the order of SEMANTICS §1 as plain functions of values.

``decide`` is told what is known and returns either a Plan or the next fact it needs, so that a login costs no look-up
that its rules do not ask for, and ``explain`` goes the same way without side effects. Nothing here may do I/O; nothing
here lets anybody in but an explicit rule or a grace entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlingd.core import grace
from starlingd.core.enrolment import NO_SAY, TO_BE_ENROLLED, Enrolled
from starlingd.core.model import Account, Reason
from starlingd.core.rules import Allow, OnMappingFailure, Provider

if TYPE_CHECKING:
    from starlingd.core.directory import Membership
    from starlingd.core.model import Login
    from starlingd.core.rules import Rules

CODE_LENGTHS = range(6, 13)
"""How many digits a one-time code has (SEMANTICS §13)."""
LONGEST_TYPED_CODE = 24
"""Longest answer, in bytes, that may still be a code with blanks in it."""

ROOT_RULE = "auth.permit_root"
USER_LIST_RULE = "whitelist source=user_list"
NETWORK_RULE = "whitelist source=network"
GROUP_RULE = "whitelist source=ldap_server_group"
LIMIT_RULE = "connection_limit by=client_ip_gateway_user.limit"
GRACE_RULE = "authentication_cache"
EXPLICIT_RULE = "usermapping source=explicit"
DIRECTORY_RULE = "usermapping source=ldap_server"
PROVISIONING_RULE = "starling_auto_provision"
PROVIDER_RULE = "auth.provider"
DOMAIN_RULE = "username_transform.append_domain"

EXEMPTIONS = frozenset({Reason.BREAK_GLASS, Reason.EXEMPT_USER_LIST, Reason.EXEMPT_NETWORK, Reason.EXEMPT_LDAP_GROUP})
"""Why somebody is let in without being asked, whoever he is."""

DISABLED = "the directory's entry is disabled or has expired"
NO_APP = "has no authenticator app"
NOT_DIGITS = "the identity is not all digits, as Starling's ids are"

_CODE = re.compile(r"[0-9]{6,12}", re.ASCII)


class Fact(Enum):
    """What ``decide`` may have to be told."""

    ACCOUNT = "account"
    GROUP = "group"
    SESSIONS = "sessions"
    GRACE = "grace"
    MAPPED = "mapped"
    ENROLLED = "enrolled"


@dataclass(frozen=True, slots=True)
class Groups:
    """Which groups the login name and the account's own name are in; None where the directory could not tell.

    ``refused`` says that the directory's entry is disabled or expired.
    """

    found: tuple[Membership | None, ...] = (None,)
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Mapped:
    """The directory's identity of a user, or "". ``refused`` says that the entry is disabled or expired."""

    identity: str = ""
    refused: bool = False
    failed: bool = False
    """The directory could not be asked, and on_mapping_failure says to go on all the same."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a login so far; ``told`` names the facts that are, since each may be None or empty.

    ``account`` is None when there certainly is none. ``groups`` and ``mapped`` are what the directory says.
    ``sessions`` counts the user's open ones from the same place. ``entry`` is the grace entry as it is after this
    reuse, or why there is none.
    """

    told: frozenset[Fact] = frozenset()
    account: Account | None = None
    groups: Groups = field(default_factory=Groups)
    sessions: int = 0
    entry: grace.Entry | grace.Miss = grace.Miss.OFF
    mapped: Mapped = field(default_factory=Mapped)
    enrolled: Enrolled = NO_SAY


class Ending(StrEnum):
    """How a plan ends, as ``explain`` prints it (SEMANTICS §12)."""

    EXEMPT = "exempt"
    CACHED = "cached"
    SECOND_FACTOR = "second_factor"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Decided:
    """One step of a plan: what was looked at, what came out, and the rule that says so."""

    step: str
    result: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with a login; ``reason`` is None where a second factor has yet to say.

    ``identity`` is whom the service would be asked about. ``rule`` is the section and key that decided.
    """

    ending: Ending
    reason: Reason | None
    rule: str = ""
    identity: str | None = None
    steps: tuple[Decided, ...] = field(default=())


def decide(login: Login, known: Known, rules: Rules) -> Plan | Fact:
    """Follow the order of SEMANTICS §1 and DESIGN §5.3 as far as what is known leads."""
    return _Walk(login, known, rules).go()


@dataclass(slots=True)
class _Walk:
    """One way through the order; each method is a gate that ends the way, asks for a fact, or lets pass (None)."""

    login: Login
    known: Known
    rules: Rules
    steps: list[Decided] = field(default_factory=list)

    def go(self) -> Plan | Fact:
        if Fact.ACCOUNT not in self.known.told:
            return Fact.ACCOUNT
        account = self.known.account
        if account is None:
            return self._end(Ending.DENY, Reason.UNKNOWN_USER, "account", "unknown")
        self._note("account", f"{account.name}, uid {account.uid}")
        names = (self.login.user, account.name)
        if all(name in self.rules.break_glass for name in names):
            return self._end(
                Ending.EXEMPT, Reason.BREAK_GLASS, "break_glass", "exempt", f"{USER_LIST_RULE}.break_glass"
            )
        if account.uid == 0 and not self.rules.permit_root:
            return self._end(Ending.DENY, Reason.ROOT_NOT_PERMITTED, "root", "not permitted", ROOT_RULE)
        exemption = self._exempted_by(names)
        if isinstance(exemption, Fact):
            return exemption
        return self._limit() or exemption or self._grace(account) or self._map(account)

    def _exempted_by(self, names: tuple[str, str]) -> Plan | Fact | None:
        """Look at both sources and ours, the user list first; either one exempts (SEMANTICS §5)."""
        listed = self.rules.user_list
        if listed is not None:
            if all(_turns(listed.allow, _names(name, listed.allow, listed.excepted)) for name in names):
                return self._end(
                    Ending.EXEMPT, Reason.EXEMPT_USER_LIST, "user_list", "exempt", f"user_list {listed.name}"
                )
            self._note("user_list", "not exempt", f"user_list {listed.name}")
        if self.rules.networks is not None:
            if _is_in_exempt_network(self.login.client_ip, self.rules):
                return self._end(Ending.EXEMPT, Reason.EXEMPT_NETWORK, "network", "exempt", NETWORK_RULE)
            self._note("network", "not exempt", NETWORK_RULE)
        return self._exempted_by_group()

    def _exempted_by_group(self) -> Plan | Fact | None:
        if self.rules.groups is None:
            return None
        if Fact.GROUP not in self.known.told:
            return Fact.GROUP
        groups = self.known.groups
        if groups.refused:
            return self._end(Ending.DENY, Reason.ACCOUNT_DISABLED, "ldap_group", DISABLED, GROUP_RULE)
        allow, names = self.rules.groups.allow, [found.group for found in groups.found if found and found.group]
        named = f" ({', '.join(dict.fromkeys(names))})" if names else ""
        if any(found is None for found in groups.found):
            self._note("ldap_group", "not exempt: the directory could not tell", GROUP_RULE)
        elif all(found and _exempts(found, allow) for found in groups.found):
            return self._end(Ending.EXEMPT, Reason.EXEMPT_LDAP_GROUP, "ldap_group", f"exempt{named}", GROUP_RULE)
        else:
            self._note("ldap_group", f"not exempt{named}", GROUP_RULE)
        return None

    def _limit(self) -> Plan | Fact | None:
        """Refuse before anybody's phone rings; the slot itself is taken with the verdict (DESIGN §5)."""
        limit = self.rules.connection_limit
        if not limit:
            return None
        if Fact.SESSIONS not in self.known.told:
            return Fact.SESSIONS
        result = f"{self.known.sessions} of {limit} sessions open"
        if self.known.sessions >= limit:
            return self._end(Ending.DENY, Reason.CONNECTION_LIMIT, "connection_limit", result, LIMIT_RULE)
        self._note("connection_limit", result, LIMIT_RULE)
        return None

    def _grace(self, account: Account) -> Plan | Fact | None:
        key = grace_key(self.login, account, self.rules)
        if key is grace.Miss.OFF:
            return None
        if isinstance(key, grace.Miss):
            self._note("grace", f"ask: {key}", f"{GRACE_RULE}.bind")
            return None
        if Fact.GRACE not in self.known.told:
            return Fact.GRACE
        entry = self.known.entry
        if isinstance(entry, grace.Entry):
            result = f"hit, {_times(entry.reuses)} reused"
            return self._end(Ending.CACHED, Reason.CACHED, "grace", result, f"{GRACE_RULE}.reuse_limit")
        self._note("grace", f"ask: {entry}", GRACE_RULE)
        return None

    def _map(self, account: Account) -> Plan | Fact:
        if self.rules.provider is Provider.TOTP:
            self._note("provider", "this host's own codes", PROVIDER_RULE)
            return Plan(Ending.SECOND_FACTOR, None, PROVIDER_RULE, account.name, tuple(self.steps))
        explicit = explicit_identity(self.login, account, self.rules)
        if explicit is not None:
            return self._ask(explicit, EXPLICIT_RULE)
        return self._enrol() or self._map_otherwise(account)

    def _enrol(self) -> Plan | Fact | None:
        """Take the id that provisioning has or makes; without a number and an address it has no say."""
        if self.rules.provisioning is None:
            return None
        if Fact.ENROLLED not in self.known.told:
            return Fact.ENROLLED
        enrolled = self.known.enrolled
        if enrolled.reason is not None:
            return self._end(Ending.DENY, enrolled.reason, "provisioning", enrolled.note, PROVISIONING_RULE)
        if enrolled.identity:
            return self._ask(enrolled.identity, PROVISIONING_RULE)
        self._note("provisioning", "skipped: no number or no address", PROVISIONING_RULE)
        return None

    def _map_otherwise(self, account: Account) -> Plan | Fact:
        if not self.rules.mapping_attribute:
            return self._ask(account.name, "")
        return self._map_by_directory(account)

    def _map_by_directory(self, account: Account) -> Plan | Fact:
        if Fact.MAPPED not in self.known.told:
            return Fact.MAPPED
        mapped = self.known.mapped
        if mapped.refused:
            return self._end(Ending.DENY, Reason.ACCOUNT_DISABLED, "mapping", DISABLED, DIRECTORY_RULE)
        if mapped.identity:
            return self._ask(mapped.identity, DIRECTORY_RULE)
        if self.rules.on_mapping_failure is OnMappingFailure.KEEP:
            return self._ask(account.name, "auth.on_mapping_failure")
        return self._end(Ending.DENY, Reason.MAPPING_FAILED, "mapping", "nothing found", DIRECTORY_RULE)

    def _ask(self, mapped: str, rule: str) -> Plan:
        identity = with_domain(mapped, self.rules)
        self._note("mapping", identity, rule)
        if identity != mapped:
            self._note("append_domain", identity, DOMAIN_RULE)
        if not (identity == TO_BE_ENROLLED or is_starling_id(identity)):
            self._note("warning", NOT_DIGITS, rule)
        return Plan(Ending.SECOND_FACTOR, None, rule, identity, tuple(self.steps))

    def _note(self, step: str, result: str, rule: str = "") -> None:
        self.steps.append(Decided(step, result, rule))

    def _end(self, ending: Ending, reason: Reason, step: str, result: str, rule: str = "") -> Plan:
        self._note(step, result, rule)
        return Plan(ending, reason, rule, None, tuple(self.steps))


def _turns(allow: Allow, excepted: bool) -> bool:  # noqa: FBT001  the table of SEMANTICS §5, as it stands there
    return excepted == (allow is Allow.NO_USER)


def _exempts(found: Membership, allow: Allow) -> bool:
    """Tell whether a membership exempts; with a group that does not exist nobody is known to be in none."""
    return _turns(allow, bool(found.group)) and not (allow is Allow.ALL_USERS and found.missing)


def _names(name: str, allow: Allow, excepted: frozenset[str]) -> bool:
    """Tell whether the list names somebody; where that means "must be asked", no spelling of a name escapes it."""
    if allow is Allow.NO_USER:
        return name in excepted
    return name.casefold() in {other.casefold() for other in excepted}


def _is_in_exempt_network(client_ip: str, rules: Rules) -> bool:
    """Tell whether the address exempts; a login without one (a console) is never exempted by it."""
    if rules.networks is None or not client_ip:
        return False
    address = ip_address(client_ip)
    return _turns(rules.networks.allow, any(address in network for network in rules.networks.excepted))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def survives(key: grace.Key, old: Rules, new: Rules) -> bool:
    """Tell whether a grace entry is still good after a reload: not if it exempts, or no longer exempts, its user.

    What the mapping and the account have become is part of the entry's basis, which is compared when it is used.
    """
    if old.groups != new.groups or old.grace.bind != new.grace.bind:
        return False
    return _exempt_by_configuration(key, old) == _exempt_by_configuration(key, new)


def _exempt_by_configuration(key: grace.Key, rules: Rules) -> tuple[bool, bool, bool]:
    listed = rules.user_list
    by_list = listed is not None and _turns(listed.allow, _names(key.user, listed.allow, listed.excepted))
    try:
        by_network = _is_in_exempt_network(key.client_ip, rules)
    except ValueError:  # a console's tty
        by_network = False
    return key.user in rules.break_glass, by_list, by_network


def place_of(login: Login) -> str:
    """Tell where a login comes from, for the limit and the grace key: its address, or the tty of a console."""
    return login.client_ip or login.tty


def grace_key(login: Login, account: Account, rules: Rules) -> grace.Key | grace.Miss:
    """Tell under which key this login's grace entry stands, or why it has none."""
    return grace.key_of(login, account.name, rules.grace)


def explicit_identity(login: Login, account: Account, rules: Rules) -> str | None:
    """Find the explicit mapping, which may name the user as typed or the account's own name (SEMANTICS §6)."""
    mapping = rules.explicit_mapping
    return mapping.get(login.user.lower()) or mapping.get(account.name.lower()) or None


def with_domain(identity: str, rules: Rules) -> str:
    """Append the domain unless the identity has one already."""
    return f"{identity}@{rules.append_domain}" if rules.append_domain and "@" not in identity else identity


def is_starling_id(identity: str) -> bool:
    """Tell whether Starling could have made this id: they are digits (SEMANTICS §6)."""
    return identity.isascii() and identity.isdigit()


def basis_of(login: Login, account: Account, rules: Rules) -> str:
    """Tell what a grace entry rests on besides its key: the account, and what the configuration makes of its name.

    When this text changes, the entry is no longer good. Which groups exempt is part of it, so that entries from before
    a change do not outlive a restart either. A change inside the directory is not seen here; there hard_timeout is the
    promise.
    """
    explicit = explicit_identity(login, account, rules)
    mapped = explicit or (f"ldap:{rules.mapping_attribute}" if rules.mapping_attribute else account.name)
    return f"{account.uid} {with_domain(mapped, rules)}{_groups_mark(rules)}"


def _groups_mark(rules: Rules) -> str:
    if rules.groups is None:
        return ""
    text = f"{rules.groups.allow} {','.join(rules.groups.excepted)}"
    return f" groups={sha256(text.encode()).hexdigest()[:16]}"


def code_in(answer: str) -> str | None:
    """Find the code in what was typed: blanks dropped, 6 to 12 ASCII digits, else None."""
    code = "".join(answer.split())
    fits = len(answer.encode()) <= LONGEST_TYPED_CODE and _CODE.fullmatch(code)
    return code if fits else None


def might_be_code(answer: str) -> bool:
    """Tell by its length alone whether an answer could have been a code.

    sshd replaces what unknown users type by junk of the same length, so only the length may decide how long a wrong
    answer takes (FIELD-FACTS 14).
    """
    return CODE_LENGTHS.start <= len(answer.encode()) <= LONGEST_TYPED_CODE
