"""What a session's hands must do alike for users and strangers, and with a store that fails under them."""

from __future__ import annotations

import pytest

from starlingd.core.model import PushStatus
from starlingd.core.rules import Rules
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import Bastion, on_bastion

FAST = Rules(poll_interval=0)


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
