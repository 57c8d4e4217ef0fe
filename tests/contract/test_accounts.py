"""What every Accounts keeps to, asked of the fake and of NSS on this machine."""

from __future__ import annotations

import pwd
from dataclasses import dataclass

import pytest

from starlingd.adapters.nss import NssAccounts
from starlingd.core.model import Account
from starlingd.ports import Accounts
from tests.fakes import People


@dataclass(frozen=True)
class World:
    """Accounts, and somebody who certainly exists there besides root."""

    accounts: Accounts
    somebody: Account


@pytest.fixture(params=["fake", "nss"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return World(People(), Account("alice", 1000))
    entry = pwd.getpwnam("nobody")
    return World(NssAccounts(), Account(entry.pw_name, entry.pw_uid))


def test_an_account_is_found_under_its_own_name(world: World) -> None:
    assert world.accounts.look_up(world.somebody.name) == world.somebody


def test_root_is_uid_0(world: World) -> None:
    assert world.accounts.look_up("root") == Account("root", 0)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "nobody-of-this-name",
        "../../etc/passwd",
        "root\x00",
        "\x00",
        "root\n",
        "root:x:0:0",
        "root ",
        " root",
        "-",
        "+",
        "*",
        "%s%n",
        "zoë",
        "zo\udcff",
        "zo\ud800e",
        "a" * 256,
        "a" * 257,
        "é" * 200,
        "a" * 100_000,
    ],
)
def test_hostile_names_are_nobodys(world: World, name: str) -> None:
    assert world.accounts.look_up(name) is None
