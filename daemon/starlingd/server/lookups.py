"""What one login's plan asks of the directory: groups that exempt, attributes that map. One entry is read once.

A directory that cannot tell never exempts anybody (SEMANTICS §5), and costs a login at most its own time-out, in a
pool of its own.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar

from starlingd.core.policy import Groups, Mapped
from starlingd.core.rules import OnMappingFailure
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.core.directory import Membership, Person
    from starlingd.core.rules import Rules
    from starlingd.ports import Directory
    from starlingd.server.decoy import Decoy
    from starlingd.server.workers import Workers

MARGIN = 1.0
"""Seconds that the pool gets on top of a call's own time."""

log = logging.getLogger("starlingd.lookups")
T = TypeVar("T")


class Lookups:
    """The look-ups of one login, which must be over at ``deadline``, monotonic seconds.

    All of them together last no longer than the directory's time-out.
    """

    def __init__(
        self, directory: Directory | None, workers: Workers, rules: Rules, deadline: float, watch: Decoy
    ) -> None:
        self._watch = watch
        self._directory = directory
        self._workers = workers
        self._rules = rules
        self._deadline = deadline
        self._spent = 0.0
        self._people: dict[str, Person | None] = {}

    async def groups(self, names: tuple[str, ...], groups: tuple[str, ...]) -> Groups:
        """Tell, for each spelling of the user's name, which of ``groups`` it is in; None where nobody can tell."""
        try:
            people = [await self.person(name) for name in names]
            found = [await self._membership(person, groups) for person in people]
        except Unavailable as outage:
            log.warning("nobody is exempt by group: %s", outage)
            return Groups((None,) * len(names))
        return Groups(tuple(found), any(person is not None and not person.may_log_in for person in people))

    async def identity(self, name: str, attribute: str) -> Mapped:
        """Tell the first value of the user's ``attribute``. Raises Unavailable."""
        person = await self.person(name)
        if person is None:
            return Mapped()
        return Mapped(person.first(attribute), not person.may_log_in)

    async def person(self, name: str) -> Person | None:
        """Find the user's entry, with every attribute that the rules name. Raises Unavailable."""
        if name not in self._people:
            self._people[name] = await self._ask(lambda known, left: known.person(name, self._attributes(), left))
        return self._people[name]

    async def of_stranger(self, name: str) -> None:
        """Look up somebody without an account, for nothing: others are looked up, and that takes its time.

        Raises Unavailable where somebody with an account would be refused because the directory cannot tell.
        """
        if self._directory is None:
            return
        rules = self._rules
        try:
            await self.person(name)
        except Unavailable:
            mapped = rules.mapping_attribute and rules.on_mapping_failure is OnMappingFailure.DENY
            if mapped or rules.provisioning is not None:
                raise

    async def _membership(self, person: Person | None, groups: tuple[str, ...]) -> Membership | None:
        """Tell a person's groups; somebody whom the directory does not know is in none, and exempt by none."""
        if person is None:
            return None
        return await self._ask(lambda known, left: known.membership(person, groups, left))

    async def _ask(self, question: Callable[[Directory, float], T]) -> T:
        directory, policy = self._directory, self._rules.directory
        if directory is None or policy is None:
            raise Unavailable("directory", Fault.MISCONFIGURED, "no directory is configured")
        began = time.monotonic()
        left = min(policy.timeout - self._spent, self._deadline - began)
        if left <= 0:
            raise Unavailable("directory", Fault.BUSY, "no time is left for it")
        try:
            with self._watch.observe("directory"):
                return await self._workers.run(left + MARGIN, question, directory, left)
        finally:
            self._spent += time.monotonic() - began

    def _attributes(self) -> tuple[str, ...]:
        rules, provisioning = self._rules, self._rules.provisioning
        names = [rules.mapping_attribute]
        if provisioning is not None:
            names += [provisioning.email_attribute, provisioning.phone_attribute, provisioning.display_name_attribute]
        return tuple(dict.fromkeys(filter(None, names)))
