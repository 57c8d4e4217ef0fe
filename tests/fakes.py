"""Fakes of the ports, for tests that need the outside to do as it is told. Each passes its port's contract suite."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING

from starlingd.core import grace
from starlingd.core.enrolment import LoopState
from starlingd.core.model import Account, Check, NotStarted, PushStatus, Started
from starlingd.core.otp import Over
from starlingd.core.records import FRESH
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from starlingd.core.enrolment import Contact, Enrolment
    from starlingd.core.failures import Failure
    from starlingd.core.grace import Entry, Key, Miss, Moment
    from starlingd.core.localcodes import HelpdeskCode, Recovery
    from starlingd.core.model import Push
    from starlingd.core.otp import Token
    from starlingd.core.records import Lease, Record
    from starlingd.core.rules import Grace

    StatusOrOutage = PushStatus | Unavailable

PEOPLE = {"alice": Account("alice", 1000), "ALICE": Account("alice", 1000), "root": Account("root", 0)}


@dataclass(frozen=True)
class Person:
    """Somebody the fake service knows: the right code, and what the polls of each push find.

    The last of ``statuses`` is found again and again. ``outages`` come first, one for each call about this person.
    """

    code: str = "123456"
    statuses: Sequence[StatusOrOutage] = (PushStatus.APPROVED,)
    outages: Sequence[Unavailable] = ()


@dataclass
class FakeSecondFactor:
    """A SecondFactor in memory, which knows ``people`` by identity. Safe from any thread.

    ``calls`` tells what was asked: ``("verify", identity, code)``, ``("push", identity, message)``,
    ``("poll", request)``. Requests are ``<identity>/<number>``. A call without time left is an outage, as it is with a
    real service; ``outage`` makes every call fail.
    """

    people: Mapping[str, Person] = field(default_factory=dict)
    outage: Unavailable | None = None
    calls: list[tuple[str, ...]] = field(default_factory=list)
    pushes: dict[str, Push] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._outages = {identity: list(person.outages) for identity, person in self.people.items()}
        self._statuses: dict[str, list[StatusOrOutage]] = {}

    def verify(self, identity: str, code: str, timeout: float) -> Check:
        """Compare the code with the person's."""
        with self._lock:
            self._called(("verify", identity, code), identity, timeout)
            person = self.people.get(identity)
            if person is None:
                return Check.NOT_ENROLLED
            return Check.RIGHT if code == person.code else Check.WRONG

    def start_push(self, identity: str, push: Push, timeout: float) -> Started | NotStarted:
        """Keep the push in ``pushes`` under its request."""
        with self._lock:
            self._called(("push", identity, push.message), identity, timeout)
            person = self.people.get(identity)
            if person is None:
                return NotStarted.NOT_ENROLLED
            request = f"{identity}/{len(self.pushes) + 1}"
            self.pushes[request] = push
            self._statuses[request] = list(person.statuses)
            return Started(request)

    def check_push(self, request: str, timeout: float) -> PushStatus:
        """Tell the next status of the push's script; a request that never was is over."""
        with self._lock:
            self._called(("poll", request), request.rpartition("/")[0], timeout)
            script = self._statuses.get(request)
            if script is None:
                return PushStatus.EXPIRED
            status = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(status, Unavailable):
            raise status
        return status

    def enrol(self, contact: Contact, timeout: float) -> str | None:
        """Enrol whoever has a number; the id follows from it."""
        with self._lock:
            self._called(("enrol", contact.phone, contact.email), contact.phone, timeout)
            return None if contact.phone == "+4900" else contact.phone.lstrip("+")

    def probe_token(self, timeout: float) -> None:
        """Fail as every call does while there is an outage."""
        with self._lock:
            self._called(("probe",), "", timeout)

    def _called(self, call: tuple[str, ...], identity: str, timeout: float) -> None:
        self.calls.append(call)
        if timeout <= 0:
            raise Unavailable("fake", Fault.BROKEN, "no time left")
        if self.outage:
            raise self.outage
        if self._outages.get(identity):
            raise self._outages[identity].pop(0)


@dataclass
class MemoryStore:
    """A store in memory; ``outage`` makes every call fail."""

    kept: dict[str, Record] = field(default_factory=dict)
    failed_pushes: list[tuple[str, float, bool]] = field(default_factory=list)
    entries: dict[Key, Entry] = field(default_factory=dict)
    reuses: dict[str, tuple[Key, Entry, Entry]] = field(default_factory=dict)
    open: dict[str, Lease] = field(default_factory=dict)
    wrong_codes: list[Failure] = field(default_factory=list)
    enrolled: dict[str, Enrolment] = field(default_factory=dict)
    veterans: set[str] = field(default_factory=set)
    loop: LoopState = field(default_factory=LoopState)
    apps: dict[str, Token] = field(default_factory=dict)
    recoveries: dict[str, Recovery] = field(default_factory=dict)
    helpdesk: dict[str, HelpdeskCode] = field(default_factory=dict)
    outage: Exception | None = None

    def token(self, user: str) -> Token | None:
        """Tell an app."""
        self._fail()
        return self.apps.get(user)

    def tokens(self) -> list[Token]:
        """Tell all apps."""
        self._fail()
        return sorted(self.apps.values(), key=lambda token: token.user)

    def save_token(self, token: Token, over: Over) -> bool:
        """Keep an app."""
        self._fail()
        _must_be_text(token.user)
        if token.user in self.apps and over is not Over.ANY:
            return False
        if token.user in self.veterans and over is Over.NOTHING:
            return False
        self.apps[token.user] = token
        self.veterans.add(token.user)
        return True

    def forget_token(self, user: str) -> bool:
        """Forget an app."""
        self._fail()
        return self.apps.pop(user, None) is not None

    def use_token(self, user: str, judge: Callable[[Token], tuple[Check, Token]]) -> Check:
        """Check a code."""
        self._fail()
        if user not in self.apps:
            return Check.NOT_ENROLLED
        check, self.apps[user] = judge(self.apps[user])
        return check

    def reseal_tokens(self, seal: Callable[[Token], Token], after: str, most: int) -> list[str]:
        """Replace some apps."""
        self._fail()
        users = sorted(user for user in self.apps if user > after)[:most]
        self.apps |= {user: seal(self.apps[user]) for user in users}
        return users

    def forget_recovery(self, user: str) -> bool:
        """Forget recovery codes."""
        self._fail()
        return self.recoveries.pop(user, None) is not None

    def forget_helpdesk_code(self, user: str) -> bool:
        """Forget a helpdesk code."""
        self._fail()
        return self.helpdesk.pop(user, None) is not None

    def recovery(self, user: str) -> Recovery | None:
        """Tell what is kept of recovery codes."""
        self._fail()
        return self.recoveries.get(user)

    def save_recovery(self, user: str, kept: Recovery) -> None:
        """Keep recovery codes."""
        self._fail()
        _must_be_text(user)
        self.recoveries[user] = kept
        self.veterans.add(user)

    def use_recovery(self, user: str, digest: bytes) -> int | None:
        """Use up a recovery code."""
        self._fail()
        kept = self.recoveries.get(user)
        if kept is None or digest not in kept.digests:
            return None
        left = kept.digests - {digest}
        if left:
            self.recoveries[user] = replace(kept, digests=left)
        else:
            del self.recoveries[user]
        return len(left)

    def helpdesk_code(self, user: str) -> HelpdeskCode | None:
        """Tell a helpdesk code."""
        self._fail()
        return self.helpdesk.get(user)

    def save_helpdesk_code(self, code: HelpdeskCode) -> None:
        """Keep a helpdesk code."""
        self._fail()
        _must_be_text(code.user)
        self.helpdesk[code.user] = code

    def use_helpdesk_code(self, user: str, digest: bytes) -> HelpdeskCode | None:
        """Use up a helpdesk code."""
        self._fail()
        code = self.helpdesk.get(user)
        return self.helpdesk.pop(user) if code and code.digest == digest else None

    def save_record(self, record: Record) -> None:
        """Keep a record."""
        self._fail()
        _must_be_text(record.user)
        self.kept[record.login_id] = record

    def forget_records(self, login_ids: Iterable[str]) -> None:
        """Forget records."""
        self._fail()
        for login_id in login_ids:
            self.kept.pop(login_id, None)
            self._give_back(login_id)

    def records(self) -> list[Record]:
        """Tell all records."""
        self._fail()
        return list(self.kept.values())

    def give_back_orphans(self) -> None:
        """Give back what belongs to no record."""
        self._fail()
        for login_id in set(self.reuses) - set(self.kept):
            self._give_back(login_id)

    def _give_back(self, login_id: str) -> None:
        if login_id not in self.reuses:
            return
        key, before, after = self.reuses.pop(login_id)
        entry = self.entries.get(key)
        if entry and entry.authenticated == after.authenticated:
            used = before.used if entry.used == after.used else entry.used
            self.entries[key] = replace(entry, reuses=max(0, entry.reuses - 1), used=used)
        for other, (of, earlier, later) in self.reuses.items():
            if of == key and later.authenticated == after.authenticated and earlier.used == after.used:
                self.reuses[other] = (of, before, later)

    def open_session(self, lease: Lease, earned: tuple[Key, Entry] | None) -> None:
        """Turn a record into a session."""
        self._fail()
        _must_be_text(lease.user)
        self.kept.pop(lease.login_id, None)
        self.reuses.pop(lease.login_id, None)
        self.open[lease.login_id] = lease
        if lease.factor in FRESH:
            self.veterans.add(lease.user)
        if earned:
            self.entries[earned[0]] = earned[1]

    def close_sessions(self, login_ids: Iterable[str]) -> None:
        """Forget sessions."""
        self._fail()
        for login_id in login_ids:
            self.open.pop(login_id, None)

    def sessions(self) -> list[Lease]:
        """Tell all sessions."""
        self._fail()
        return list(self.open.values())

    def reuse(self, login_id: str, key: Key, basis: str, rule: Grace, now: Moment) -> Entry | Miss:
        """Take a reuse."""
        self._fail()
        before = self.entries.get(key)
        found = grace.judge(before, basis, rule, now)
        if before and isinstance(found, grace.Entry):
            self.entries[key] = found
            self.reuses[login_id] = (key, before, found)
        return found

    def grace_entry(self, key: Key) -> Entry | None:
        """Tell one entry."""
        self._fail()
        return self.entries.get(key)

    def grace_entries(self) -> list[tuple[Key, Entry]]:
        """Tell all entries."""
        self._fail()
        return sorted(self.entries.items(), key=lambda item: astuple(item[0]))

    def forget_grace(self, keys: Iterable[Key]) -> None:
        """Forget some entries."""
        self._fail()
        for key in keys:
            self.entries.pop(key, None)

    def forget_grace_of(self, user: str) -> None:
        """Forget a user's entries."""
        self.forget_grace([key for key in self.entries if key.user == user])

    def forget_grace_before(self, wall: float) -> None:
        """Forget old entries."""
        self.forget_grace([key for key, entry in self.entries.items() if entry.authenticated.wall < wall])

    def add_failure(self, user: str, place: str, at: float) -> None:
        """Keep a wrong code."""
        self._fail()
        self.wrong_codes.append((user, place, at, False))

    def clear_failures(self, user: str, place: str) -> None:
        """Clear the wrong codes of one place."""
        self._fail()
        self.wrong_codes = [(*failure[:3], failure[3] or failure[:2] == (user, place)) for failure in self.wrong_codes]

    def forget_failures(self, user: str) -> None:
        """Forget a user's wrong codes."""
        self._fail()
        self.wrong_codes = [failure for failure in self.wrong_codes if failure[0] != user]

    def failures(self, since: float) -> list[Failure]:
        """Tell the wrong codes."""
        self._fail()
        return sorted((failure for failure in self.wrong_codes if failure[2] > since), key=lambda failure: failure[2])

    def enrolment(self, user: str) -> Enrolment | None:
        """Tell how somebody is enrolled."""
        self._fail()
        return self.enrolled.get(user)

    def enrolments(self) -> list[Enrolment]:
        """Tell all enrolments."""
        self._fail()
        return [self.enrolled[user] for user in sorted(self.enrolled)]

    def save_enrolment(self, enrolment: Enrolment) -> str:
        """Keep an enrolment."""
        self._fail()
        owners = (kept.user for kept in self.enrolled.values() if kept.identity == enrolment.identity)
        owner = next(owners, enrolment.user)
        if owner == enrolment.user:
            self.enrolled[enrolment.user] = enrolment
            self.veterans.add(enrolment.user)
        return owner

    def forget_enrolment(self, user: str) -> None:
        """Forget how somebody is enrolled."""
        self._fail()
        self.enrolled.pop(user, None)

    def had_second_factor(self, user: str) -> bool:
        """Tell whether somebody ever had one."""
        self._fail()
        return user in self.veterans

    def enrolments_of(self, users: Iterable[str]) -> Mapping[str, Enrolment]:
        """Tell some enrolments."""
        self._fail()
        return {user: self.enrolled[user] for user in users if user in self.enrolled}

    def mark_seen(self, users: Iterable[str], at: float) -> None:
        """Note who was seen."""
        self._fail()
        for user in set(users) & set(self.enrolled):
            self.enrolled[user] = replace(self.enrolled[user], seen=at)

    def not_seen_since(self, at: float) -> list[str]:
        """Tell who was seen and is no more."""
        self._fail()
        return sorted(kept.user for kept in self.enrolled.values() if 0 < kept.seen < at and not kept.blocked)

    def block(self, users: Iterable[str], *, blocked: bool) -> None:
        """Block some."""
        self._fail()
        for user in set(users) & set(self.enrolled):
            self.enrolled[user] = replace(self.enrolled[user], blocked=blocked)

    def provisioning_state(self) -> LoopState:
        """Tell what the loop remembers."""
        self._fail()
        return self.loop

    def save_provisioning_state(self, state: LoopState) -> None:
        """Keep what the loop remembers."""
        self._fail()
        self.loop = state

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make the calls one transaction: what fails in the end never happened."""
        before = deepcopy({name: value for name, value in vars(self).items() if name != "outage"})
        try:
            self._fail()
            yield
        except BaseException:
            vars(self).update(before)
            raise

    def add_push_failure(self, user: str, at: float, *, denied: bool) -> None:
        """Keep a failure."""
        self._fail()
        self.failed_pushes.append((user, at, denied))

    def clear_push_failures(self, user: str) -> None:
        """Forget a user's failures."""
        self._fail()
        self.failed_pushes = [failure for failure in self.failed_pushes if failure[0] != user]

    def push_failures(self, since: float) -> Mapping[str, list[tuple[float, bool]]]:
        """Tell the failures."""
        self._fail()
        young: dict[str, list[tuple[float, bool]]] = {}
        for user, at, denied in sorted(self.failed_pushes, key=lambda failure: failure[1]):
            if at > since:
                young.setdefault(user, []).append((at, denied))
        return young

    def _fail(self) -> None:
        if self.outage:
            raise self.outage


def _must_be_text(name: str) -> None:
    """Fail as a store does with what cannot be written."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Unavailable("store", Fault.BROKEN, str(error)) from None


@dataclass
class People:
    """An account database of a few; ``outage`` makes it fail."""

    outage: Exception | None = None

    def look_up(self, name: str) -> Account | None:
        """Find one of the few."""
        if self.outage:
            raise self.outage
        return PEOPLE.get(name)


@dataclass
class AuditList:
    """An audit log that is a list."""

    events: list[dict[str, str]] = field(default_factory=list)

    def write(self, message: str, fields: Mapping[str, str], *, warning: bool = False) -> None:
        """Keep the event."""
        self.events.append({"MESSAGE": message, "WARNING": str(warning), **fields})
