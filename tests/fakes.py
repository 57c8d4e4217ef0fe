"""Fakes of the ports, for tests that need the outside to do as it is told. Each passes its port's contract suite."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlingd.core.model import Account, Check, NotStarted, PushStatus, Started
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from starlingd.core.model import Push
    from starlingd.core.records import Record

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
    failures: list[tuple[str, float, bool]] = field(default_factory=list)
    outage: Exception | None = None

    def save_record(self, record: Record) -> None:
        """Keep a record."""
        self._fail()
        self.kept[record.login_id] = record

    def forget_records(self, login_ids: Iterable[str]) -> None:
        """Forget records."""
        self._fail()
        for login_id in login_ids:
            self.kept.pop(login_id, None)

    def records(self) -> list[Record]:
        """Tell all records."""
        self._fail()
        return list(self.kept.values())

    def add_push_failure(self, user: str, at: float, *, denied: bool) -> None:
        """Keep a failure."""
        self._fail()
        self.failures.append((user, at, denied))

    def clear_push_failures(self, user: str) -> None:
        """Forget a user's failures."""
        self._fail()
        self.failures = [failure for failure in self.failures if failure[0] != user]

    def push_failures(self, since: float) -> Mapping[str, list[tuple[float, bool]]]:
        """Tell the failures."""
        self._fail()
        young: dict[str, list[tuple[float, bool]]] = {}
        for user, at, denied in sorted(self.failures, key=lambda failure: failure[1]):
            if at > since:
                young.setdefault(user, []).append((at, denied))
        return young

    def _fail(self) -> None:
        if self.outage:
            raise self.outage


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
