"""Worlds in which the contract of SecondFactor is tested: a provider, and the people its service knows.

A world's people are named by what they do, so that one suite can ask the same of the fake and of a real adapter
that talks to its service.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlingd.adapters.starling import Starling
from starlingd.adapters.subscription import Subscription
from starlingd.core.model import PushStatus
from starlingd.ports import Fault, Unavailable
from tests.fakes import FakeSecondFactor, Person

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlingd.ports import SecondFactor
    from tests.sandbox.running import Sandbox


@dataclass(frozen=True)
class World:
    """A provider, the identity of each person by what they do, and a way to learn a person's code of this moment."""

    provider: SecondFactor
    identities: Mapping[str, str]
    code_of: Callable[[str], str]


def broken(fault: Fault, retry_after: float = 0.0) -> Unavailable:
    return Unavailable("fake", fault, "as the test wants it", retry_after)


FAKE_PEOPLE = {
    "approves": Person(statuses=(PushStatus.APPROVED,)),
    "denies": Person(statuses=(PushStatus.DENIED,)),
    "expires": Person(statuses=(PushStatus.EXPIRED,)),
    "never": Person(statuses=(PushStatus.PENDING,)),
    "strange": Person(statuses=(PushStatus.UNKNOWN,)),
    "broken-once": Person(outages=(broken(Fault.BROKEN),)),
    "malformed": Person(outages=(broken(Fault.BROKEN),) * 9),
    "limited-seconds": Person(outages=(broken(Fault.RATE_LIMITED, 2.0),) * 9),
    "limited-date": Person(outages=(broken(Fault.RATE_LIMITED, 2.0),) * 9),
    "resets": Person(outages=(broken(Fault.UNREACHABLE),) * 9),
}


@contextmanager
def fake_world() -> Iterator[World]:
    """Make the world of the fake."""
    people = {f"id of {name}": person for name, person in FAKE_PEOPLE.items()}
    identities = {name: f"id of {name}" for name in FAKE_PEOPLE} | {"unknown": "id of nobody"}
    yield World(FakeSecondFactor(people), identities, lambda name: FAKE_PEOPLE[name].code)


SANDBOX_PEOPLE = {
    "approves": "approves",
    "denies": "denies",
    "expires": "expires-at-once",
    "never": "never-answers",
    "strange": "unknown-status",
    "broken-once": "500-then-ok",
    "malformed": "malformed",
    "limited-seconds": "429-seconds",
    "limited-date": "429-date",
    "resets": "reset",
    "unknown": "unknown",
}


@contextmanager
def starling_at(sandbox: Sandbox, **options: float) -> Iterator[Starling]:
    """Make a Starling provider that talks to the sandbox."""
    client_id, _, client_secret = sandbox.credential.partition(":")
    starling = Starling(
        client_id=client_id,
        client_secret=client_secret,
        service_url=sandbox.url,
        token_url=sandbox.url,
        ca_file=sandbox.ca_file,
        **options,
    )
    try:
        yield starling
    finally:
        starling.close()


@contextmanager
def subscription_at(sandbox: Sandbox, **options: Any) -> Iterator[Subscription]:  # noqa: ANN401  Subscription's own
    """Make a provider that talks to the sandbox's older service."""
    given = {"api_key": sandbox.api_key, "api_url": sandbox.url, "ca_file": sandbox.ca_file}
    made = Subscription(**{**given, **options})
    try:
        yield made
    finally:
        made.close()


def sandbox_world(sandbox: Sandbox) -> AbstractContextManager[World]:
    """Make the world of the Starling adapter and the sandbox."""
    return _sandbox_world(sandbox, starling_at(sandbox))


def subscription_world(sandbox: Sandbox) -> AbstractContextManager[World]:
    """Make the world of the adapter of Starling's older service and the sandbox."""
    return _sandbox_world(sandbox, subscription_at(sandbox))


@contextmanager
def _sandbox_world(sandbox: Sandbox, made: AbstractContextManager[SecondFactor]) -> Iterator[World]:
    sandbox.forget()
    identities = {person: sandbox.users[name].id for person, name in SANDBOX_PEOPLE.items()}
    with made as provider:
        yield World(provider, identities, lambda person: sandbox.code_for(SANDBOX_PEOPLE[person]))
