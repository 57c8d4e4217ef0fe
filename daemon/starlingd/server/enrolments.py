"""Enrols people when they log in: the directory's number and address, the service's id, one call at a time.

However many logins of a person run in parallel, the service is asked once. Nothing here may let anybody in, nor log a
number or an address.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from starlingd.core.enrolment import BLOCKED, NO_SAY, TO_BE_ENROLLED, Contact, Enrolled, Enrolment, judge
from starlingd.core.model import Reason

if TYPE_CHECKING:
    from starlingd.core.directory import Person
    from starlingd.core.rules import Provisioning
    from starlingd.ports import Phones, SecondFactor, Store
    from starlingd.server.audit import Audit
    from starlingd.server.workers import Workers

STORE_WAIT = 10.0

log = logging.getLogger("starlingd.enrolments")


@dataclass(frozen=True, slots=True)
class Service:
    """Who enrols: a provider, the workers that its calls run in, and the seconds that one may take."""

    provider: SecondFactor
    workers: Workers
    seconds: float

    async def enrol(self, contact: Contact) -> str | None:
        """Enrol a contact, as SecondFactor says."""
        return await self.workers.run(self.seconds + 1.0, self.provider.enrol, contact, self.seconds)


class Enrolments:
    """What is known of who is enrolled, and the way to enrol somebody."""

    def __init__(self, store: Store, workers: Workers, phones: Phones, audit: Audit) -> None:
        self._store = store
        self._workers = workers
        self._phones = phones
        self._audit = audit
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A lock lives as long as somebody holds it or waits for it."""

    async def of(self, user: str, person: Person | None, rule: Provisioning, service: Service) -> Enrolled:
        """Tell whom to ask about for the canonical ``user``, enrolling them if need be. Raises Unavailable."""
        contact = self.contact(person, rule)
        if not isinstance(contact, Contact):
            return await self._unless_blocked(user, contact)
        async with self._alone(user):
            kept = await self._workers.run(STORE_WAIT, self._store.enrolment, user)
            known = judge(kept, contact, rule, time.time())
            return known or await self._enrol(user, contact, rule, service, kept)

    async def anew(self, user: str, person: Person | None, rule: Provisioning, service: Service) -> Enrolled:
        """Enrol the canonical ``user`` whatever is known of them, as an administrator says. Raises Unavailable.

        The old enrolment is there until the new one takes its place.
        """
        contact = self.contact(person, rule)
        if not isinstance(contact, Contact):
            return contact
        async with self._alone(user):
            return await self._enrol(user, contact, rule, service, None)

    async def look(self, user: str, person: Person | None, rule: Provisioning) -> Enrolled:
        """Tell what ``of`` would, without enrolling anybody; who is not enrolled yet has an identity that says so."""
        contact = self.contact(person, rule)
        if not isinstance(contact, Contact):
            return await self._unless_blocked(user, contact)
        kept = await self._workers.run(STORE_WAIT, self._store.enrolment, user)
        return judge(kept, contact, rule, time.time()) or Enrolled(TO_BE_ENROLLED, is_new=True)

    async def disown(self, user: str) -> None:
        """Note that the service does not know the id of ``user``; what cannot be noted is asked again next time."""
        kept = await self._workers.run(STORE_WAIT, self._store.enrolment, user)
        if kept is not None:
            await self._workers.run(STORE_WAIT, self._store.save_enrolment, replace(kept, disowned=time.time()))

    async def _unless_blocked(self, user: str, said: Enrolled) -> Enrolled:
        """Refuse whoever is blocked, also without a number or an address, which people may be able to delete."""
        kept = await self._workers.run(STORE_WAIT, self._store.enrolment, user)
        return BLOCKED if kept is not None and kept.blocked else said

    def contact(self, person: Person | None, rule: Provisioning) -> Contact | Enrolled:
        """Find the person's contact, or tell why there is none that can be used."""
        if person is None:
            return Enrolled(reason=Reason.PROVISIONING_FAILED, note="the directory does not know the user")
        if not person.may_log_in:
            return Enrolled(reason=Reason.ACCOUNT_DISABLED, note=f"the directory's entry is {person.standing}")
        for attribute in (rule.email_attribute, rule.phone_attribute):
            if attribute.lower() in person.unusable:
                return Enrolled(reason=Reason.PROVISIONING_FAILED, note=f"{attribute} has a value that is no text")
        email, phone = person.first(rule.email_attribute).strip(), person.first(rule.phone_attribute)
        if not email or not phone:
            return NO_SAY
        number = self._phones.normalise(phone, rule.default_region)
        if number is None:
            return Enrolled(reason=Reason.PROVISIONING_FAILED, note=f"{rule.phone_attribute} is no telephone number")
        return Contact(number, email, person.first(rule.display_name_attribute))

    def _alone(self, user: str) -> asyncio.Lock:
        """Tell the lock under which ``user`` is enrolled."""
        return self._under_way.setdefault(user, asyncio.Lock())

    async def _enrol(
        self, user: str, contact: Contact, rule: Provisioning, service: Service, kept: Enrolment | None
    ) -> Enrolled:
        identity = await service.enrol(contact)
        if identity is None:
            attributes = f"{rule.email_attribute} or {rule.phone_attribute}"
            return Enrolled(reason=Reason.PROVISIONING_FAILED, note=f"the service does not take {attributes}")
        made = Enrolment(user, identity, contact.phone, contact.email, time.time(), seen=kept.seen if kept else 0.0)
        owner = await self._workers.run(STORE_WAIT, self._store.save_enrolment, made)
        if owner != user:
            return Enrolled(reason=Reason.PROVISIONING_FAILED, note="the service's id is bound to another user")
        self._audit.enrolment(user, identity)
        return Enrolled(identity, is_new=kept is None)
