"""What a session's hands must do alike for users and strangers, and with a store that fails under them."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pytest

from starlingd.core.directory import Person
from starlingd.core.model import Check, NotStarted, PushStatus
from starlingd.core.rules import (
    ExemptResult,
    OnMappingFailure,
    Provisioning,
    Rules,
)
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, on_bastion
from tests.fakes_directory import POLICY, FakeDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

FAST = Rules(poll_interval=0)


class Held:
    """A store's worker that makes each call once it may go on, but none whose caller has gone."""

    name = "store"
    under_way = 0

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def run(self, wait: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, when it may go on."""
        assert wait > 0
        self.asked.set()
        await self.go_on.wait()
        return call(*args, **kwargs)

    def close(self) -> None:
        """End."""


def locked() -> Unavailable:
    """Make the outage of a state file that is locked."""
    return Unavailable("store", Fault.BROKEN, "database is locked")


@pytest.mark.parametrize(
    ("status", "result", "reason"),
    [
        (PushStatus.DENIED, "maxtries", "push_denied"),
        (PushStatus.APPROVED, "auth_err", "store_unavailable"),
    ],
)
def test_an_answered_push_is_asked_about_once_even_when_the_store_cannot_note_the_answer(
    status: PushStatus, result: str, reason: str
) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.store.outage = locked()
        bastion.provider.statuses = [PushStatus.PENDING, status]
        module = await bastion.call("authenticate")
        await module.answer("")
        done = await module.done()
        assert (done["result"], done["reason"]) == (result, reason)
        assert bastion.provider.calls == ["push alice 60", *["poll request-1"] * 2]

    on_bastion(test, FAST)


def test_a_stranger_meets_the_outage_that_the_last_poll_of_a_user_met() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.statuses = [Unavailable("starling", Fault.MISCONFIGURED, "401")]
        said = []
        for user in ("alice", "nobody-here"):
            module = await bastion.call("authenticate", user=user)
            await module.answer("")
            done = await module.done()
            said.append((done["result"], done["said"]))
        assert said[0] == said[1]
        assert bastion.provider.calls == ["push alice 60", "poll request-1"]

    on_bastion(test, FAST)


@pytest.mark.parametrize(("sent", "counted"), [(True, [("alice", False)]), (False, [])])
def test_a_push_whose_answer_is_lost_counts_if_it_may_have_reached_the_phone(
    sent: bool,  # noqa: FBT001  a parameter
    counted: list[tuple[str, bool]],
) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.outage = Unavailable("starling", Fault.BROKEN, "no answer before our own deadline")
        bastion.provider.outage.sent = sent
        module = await bastion.call("authenticate")
        await module.answer("")
        assert (await module.done())["reason"] == "service_error"
        await asyncio.gather(*bastion.host.errands)
        assert [(user, denied) for user, _, denied in bastion.store.failed_pushes] == counted
        assert bastion.host.pushes.reserve("alice", rules, time.monotonic()) is (NotStarted.LIMIT if sent else None)

    rules = replace(FAST, push_limit=1)
    on_bastion(test, rules)


def test_a_code_whose_login_hangs_up_while_it_is_checked_is_counted_on_disk_too() -> None:
    async def test(bastion: Bastion) -> None:
        checking, go_on = threading.Event(), threading.Event()

        def verify(*_: object) -> Check:
            checking.set()
            go_on.wait(5.0)
            return Check.WRONG

        bastion.provider.verify = verify  # type: ignore[method-assign]
        module = await bastion.call("authenticate")
        await module.answer("000000")
        await asyncio.to_thread(checking.wait, 5.0)
        module.hang_up()
        await bastion.settled()
        await asyncio.gather(*bastion.host.errands)
        go_on.set()
        assert [failure[0] for failure in bastion.store.wrong_codes] == ["alice"]

    on_bastion(test)


def test_a_wrong_code_whose_login_hangs_up_before_it_is_noted_is_on_disk_all_the_same() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate")
        assert (await module.receive())[0] == "ask"
        store = Held()
        bastion.host.pools = replace(bastion.host.pools, store=store)
        module.send("answer", text="000000")
        await asyncio.wait_for(store.asked.wait(), 5.0)
        module.hang_up()
        await bastion.settled()
        store.go_on.set()
        await asyncio.gather(*bastion.host.errands)
        assert [failure[0] for failure in bastion.store.wrong_codes] == ["alice"]

    on_bastion(test)


@pytest.mark.parametrize("user", ["alice", "nobody-here"])
def test_the_directory_is_asked_about_strangers_too_and_its_outage_refuses_both(user: str) -> None:
    async def test(bastion: Bastion) -> None:
        directory = FakeDirectory((Person("alice", "uid=alice", attributes={"employeenumber": ("7",)}),))
        assert bastion.host.current is not None
        bastion.host.current = replace(bastion.host.current, directory=directory)
        module = await bastion.call("authenticate", user=user)
        await module.answer("000000")  # he is asked
        module.hang_up()
        assert ("person", user) in directory.calls
        directory.outage = Unavailable("directory", Fault.BROKEN, "down")
        assert (await (await bastion.call("authenticate", user=user)).done())["reason"] == "directory_unavailable"

    on_bastion(
        test, Rules(directory=POLICY, mapping_attribute="employeeNumber", on_mapping_failure=OnMappingFailure.DENY)
    )


@pytest.mark.parametrize("recovered", [True, False])
def test_break_glass_needs_no_store_and_nobody_else_gets_in_without(recovered: bool) -> None:  # noqa: FBT001
    async def test(bastion: Bastion) -> None:
        bastion.store.outage = locked()
        bastion.host.recovered = recovered
        assert (await Connection(bastion, 1).log_in())["result"] == "success"
        assert [lease.user for lease in bastion.host.logins.leases] == ["alice"]
        refused = await bastion.call("authenticate", user="ALICE")
        if recovered:
            await refused.answer(RIGHT_CODE)
        assert (await refused.done())["reason"] == "store_unavailable"

    on_bastion(test, Rules(break_glass=frozenset({"alice"}), exempt_result=ExemptResult.SUCCESS))


def test_observing_enrols_nobody_and_tells_that_somebody_would_be() -> None:
    async def test(bastion: Bastion) -> None:
        alice = Person("alice", "uid=alice", attributes={"mail": ("alice@example.org",), "mobile": ("+493012345678",)})
        assert bastion.host.current is not None
        bastion.host.current = replace(bastion.host.current, directory=FakeDirectory((alice,)))
        assert (await (await bastion.call("authenticate")).done())["reason"] == "observed"
        assert bastion.provider.calls == []
        assert bastion.store.enrolled == {}
        assert "to be enrolled" in bastion.events()[0]["STARLING_EVIDENCE"]

    rules = Rules(directory=POLICY, provisioning=Provisioning("mail", "mobile"), observe_until=time.time() + 60)
    on_bastion(test, rules)
