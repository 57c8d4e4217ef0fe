"""Enrols people when they log in: the directory's number and address, the service's id, one call at a time.

However many logins of a person run in parallel, the service is asked once. Nothing here may let anybody in, nor log a
number or an address.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from starlingd.core.enrolment import NO_SAY, Contact, Enrolled, Enrolment, judge
from starlingd.core.model import Reason

if TYPE_CHECKING:
    from starlingd.core.directory import Person
    from starlingd.core.rules import Provisioning
    from starlingd.ports import Phones, SecondFactor, Store
    from starlingd.server.audit import Audit
    from starlingd.server.workers import Workers

STORE_WAIT = 10.0

log = logging.getLogger("starlingd.enrolments")


class Enrolments:
    """What is known of who is enrolled, and the way to enrol somebody."""

    def __init__(self, store: Store, workers: Workers, phones: Phones, audit: Audit) -> None:
        self._store = store
        self._workers = workers
        self._phones = phones
        self._audit = audit
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A lock lives as long as somebody holds it or waits for it."""

    async def of(  # the parts of one enrolment
        self,
        user: str,
        person: Person | None,
        rule: Provisioning,
        provider: SecondFactor,
        calls: Workers,
        seconds: float,
    ) -> Enrolled:
        """Tell whom to ask about for the canonical ``user``, enrolling them if need be. Raises Unavailable.

        A call of ``provider`` runs in ``calls`` and may take ``seconds``.
        """
        contact = self.contact(person, rule)
        if not isinstance(contact, Contact):
            return contact
        lock = self._under_way.setdefault(user, asyncio.Lock())
        async with lock:
            return await self._enrolled(user, contact, rule, provider, calls, seconds)

    async def look(self, user: str, person: Person | None, rule: Provisioning) -> Enrolled:
        """Tell what ``of`` would, without enrolling anybody; who is not enrolled yet has an identity that says so."""
        contact = self.contact(person, rule)
        if not isinstance(contact, Contact):
            return contact
        kept = await self._workers.run(STORE_WAIT, self._store.enrolment, user)
        return judge(kept, contact, rule, time.time()) or Enrolled("(to be enrolled)", is_new=True)

    async def disown(self, user: str) -> None:
        """Note that the service does not know the id of ``user``; what cannot be noted is asked again next time."""
        kept = await self._workers.run(STORE_WAIT, self._store.enrolment, user)
        if kept is not None:
            await self._workers.run(STORE_WAIT, self._store.save_enrolment, replace(kept, disowned=time.time()))

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

    async def _enrolled(
        self, user: str, contact: Contact, rule: Provisioning, provider: SecondFactor, calls: Workers, seconds: float
    ) -> Enrolled:
        kept = await self._workers.run(STORE_WAIT, self._store.enrolment, user)
        known = judge(kept, contact, rule, time.time())
        if known is not None:
            return known
        identity = await calls.run(seconds + 1.0, provider.enrol, contact, seconds)
        if identity is None:
            attributes = f"{rule.email_attribute} or {rule.phone_attribute}"
            return Enrolled(reason=Reason.PROVISIONING_FAILED, note=f"the service does not take {attributes}")
        made = Enrolment(user, identity, contact.phone, contact.email, time.time())
        owner = await self._workers.run(STORE_WAIT, self._store.save_enrolment, made)
        if owner != user:
            return Enrolled(reason=Reason.PROVISIONING_FAILED, note="the service's id is bound to another user")
        self._audit.enrolment(user, identity)
        return Enrolled(identity, is_new=kept is None)
