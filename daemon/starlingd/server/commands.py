"""What starlingctl provision and starlingctl user ask of the daemon; ``control`` says who may."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlingd import VERSION
from starlingd.core.model import Process, Reason
from starlingd.ports import Unavailable
from starlingd.server.control import Refused, Right, grace_fields, hypothetical, session_fields, text_of
from starlingd.server.explain import explain, plan_fields
from starlingd.server.lookups import Lookups
from starlingd.server.provisioning import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.core.enrolment import Enrolment
    from starlingd.core.model import Login
    from starlingd.server.control import Command, Peer, Request
    from starlingd.server.decoy import Decoy
    from starlingd.server.host import Current, Host
    from starlingd.server.provisioning import ProvisioningLoop

PATIENCE = 10.0


class Commands:
    """The commands by name, each with the right that it needs."""

    def __init__(self, host: Host, loop: ProvisioningLoop, waiting: Callable[[], int]) -> None:
        self._host = host
        self._waiting = waiting
        self._loop = loop

    def all(self) -> dict[str, tuple[Right, Command]]:
        """Tell the commands."""
        return {
            "provision plan": (Right.READ, self._plan),
            "provision run": (Right.OPERATE, self._run),
            "provision stop": (Right.OPERATE, self._stop),
            "provision look": (Right.READ, self._look),
            "provision renew": (Right.OPERATE, self._renew),
            "provision status": (Right.READ, self._status),
            "user show": (Right.READ, self._show),
            "status": (Right.READ, self._tell),
            "test begin": (Right.OPERATE, self._begin_test),
            "test decisions": (Right.OPERATE, self._tell_test),
        }

    async def _plan(self, request: Request, _: Peer) -> object:
        if self._loop.plans.is_running:
            raise Refused("a plan is being made; see starlingctl provision status --plan")
        try:
            return self._loop.plan(_groups(request)).told(brief=True)
        except Stopped as why:
            raise Refused(str(why)) from None

    async def _run(self, request: Request, _: Peer) -> object:
        if self._loop.runs.is_running:
            raise Refused("a run is under way; see starlingctl provision status")
        accept = request.get("accept_shrink") is True
        try:
            return self._loop.start(dry=False, groups=_groups(request), accept_shrink=accept).told(brief=True)
        except Stopped as why:
            raise Refused(str(why)) from None

    async def _stop(self, _: Request, __: Peer) -> object:
        await self._loop.stop()
        return None

    async def _look(self, request: Request, _: Peer) -> object:
        try:
            difference, kept = await self._loop.look(text_of(request, "user"))
        except Stopped as why:
            raise Refused(str(why)) from None
        return difference.told() | {"enrolment": _enrolment(kept)}

    async def _renew(self, request: Request, _: Peer) -> object:
        user = text_of(request, "user")
        try:
            return {"user": user, "identity": await self._loop.renew(user)}
        except Stopped as why:
            raise Refused(str(why)) from None

    async def _status(self, request: Request, _: Peer) -> object:
        """Tell the last run or plan of this daemon, and when any daemon's last run began."""
        run = (self._loop.plans if request.get("plan") is True else self._loop.runs).last
        state = await self._host.pools.store.run(PATIENCE, self._host.store.provisioning_state)
        return {"run": run.told(brief=request.get("brief") is True) if run else None, "kept": asdict(state)}

    async def _tell(self, _: Request, __: Peer) -> object:
        host, current = self._host, self._host.current
        pools = (host.pools.provider, host.pools.directory, host.pools.accounts, host.pools.store)
        until = current.rules.observe_until if current else 0.0
        return {
            "version": VERSION,
            "started": host.started,
            "configuration": "configured" if current else "misconfigured: every login is denied",
            "waiting": self._waiting(),
            "sessions": len(host.logins.leases),
            "pools": {pool.name: pool.under_way for pool in pools},
            "health": {"service": _health(host.decoy), "directory": _health(host.directory_calls)},
            "today": host.audit.counts.today(),
            "observe_until": until if until > time.time() else 0.0,
        }

    async def _begin_test(self, request: Request, peer: Peer) -> object:
        if not self._host.trials.begin(_process(request, peer)):
            raise Refused("too many login tests are under way, or there is no such process")
        return {}

    async def _tell_test(self, request: Request, peer: Peer) -> object:
        trial = self._host.trials.of(_process(request, peer))
        return {"decisions": trial.decisions if trial else []}

    async def _show(self, request: Request, _: Peer) -> object:
        """Tell all that is known of a user; numbers and addresses are masked."""
        name, current = text_of(request, "user"), self._host.current
        account = await self._host.pools.accounts.run(PATIENCE, self._host.accounts.look_up, name)
        if account is None:
            raise Refused(f"there is no account {name!a}")
        entries = await self._host.pools.store.run(PATIENCE, self._host.store.grace_entries)
        kept = await self._host.pools.store.run(PATIENCE, self._host.store.enrolment, account.name)
        shown: dict[str, Any] = {
            "account": {"name": account.name, "uid": account.uid},
            "enrolment": _enrolment(kept),
            "grace": [grace_fields(key, entry) for key, entry in entries if key.user == account.name],
            "sessions": [session_fields(lease) for lease in self._host.logins.leases if lease.user == account.name],
        }
        if current is not None:
            shown["plan"] = await self._plan_of(name)
            shown["directory"] = await self._entry(name)
        return shown

    async def _plan_of(self, name: str) -> object:
        login: Login = hypothetical({"user": name})
        current = self._host.current
        if current is None:
            return None
        try:
            plan = await explain(self._host, current, login, self._host.moment())
        except Unavailable as outage:
            return {"outcome": "unavailable", "reason": f"{outage.port}: {outage.detail}"}
        return plan_fields(plan)

    async def _entry(self, name: str) -> object:
        current = self._host.current
        if current is None or current.directory is None:
            return None
        workers, ends = self._host.pools.directory, time.monotonic() + PATIENCE
        lookups = Lookups(current.directory, workers, current.rules, ends, self._host.directory_calls)
        try:
            person = await lookups.person(name)
        except Unavailable as outage:
            return {"error": f"{Reason.DIRECTORY_UNAVAILABLE}: {outage.detail}"}
        if person is None:
            return None
        provisioning = current.rules.provisioning
        hidden = {provisioning.phone_attribute.lower(), provisioning.email_attribute.lower()} if provisioning else set()
        attributes = {
            key: [mask(value) if key in hidden else value for value in values]
            for key, values in person.attributes.items()
        }
        return {
            "dn": person.dn,
            "standing": person.standing,
            "attributes": attributes,
            "groups": await self._groups_of(lookups, name),
        }

    async def _groups_of(self, lookups: Lookups, name: str) -> list[str]:
        """Tell which of the groups that the configuration names somebody is in."""
        current = self._host.current
        if current is None:
            return []
        named = [*(current.rules.groups.excepted if current.rules.groups else ()), *_loop_groups(current)]
        found = [await lookups.groups((name,), (group,)) for group in dict.fromkeys(named)]
        memberships = [membership for groups in found for membership in groups.found]
        return [membership.group for membership in memberships if membership is not None and membership.group]


def _groups(request: Request) -> tuple[str, ...]:
    """Take names of groups; none means those of the configuration."""
    groups = request.get("groups") or []
    if not isinstance(groups, list) or not all(isinstance(group, str) and group for group in groups):
        raise Refused("groups must be names")
    return tuple(groups)


def _loop_groups(current: Current) -> tuple[str, ...]:
    return current.loop.groups if current.loop else ()


def _enrolment(kept: Enrolment | None) -> dict[str, Any] | None:
    """Tell how somebody is enrolled; numbers and addresses are masked."""
    if kept is None:
        return None
    fields = {key: getattr(kept, key) for key in ("identity", "made", "disowned", "seen", "blocked")}
    return fields | {"phone": mask(kept.phone), "email": mask(kept.email)}


def _process(request: Request, peer: Peer) -> Process:
    """Take the process that root names; nobody else may say that a login is only a test."""
    pid, start = request.get("pid"), request.get("start")
    if peer.uid != 0:
        raise Refused("only root may test logins")
    if type(pid) is not int or type(start) is not int or pid <= 0:
        raise Refused("which process?")
    return Process(pid, start)


def _health(calls: Decoy) -> dict[str, Any] | None:
    """Tell how the last call went, and when by the wall clock."""
    last = calls.last()
    if last is None:
        return None
    ended = time.time() - (time.monotonic() - last.ended)
    return {"ended": ended, "seconds": last.seconds, "outage": last.outage.detail if last.outage else ""}


def mask(text: str) -> str:
    """Show the ends of a number or an address: enough to tell two apart, not enough to call."""
    return f"{text[:3]}…{text[-2:]}" if len(text) > 7 else "…"  # noqa: PLR2004
