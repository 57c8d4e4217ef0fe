"""starlingctl provision and user show against a daemon: tables, JSON, exit statuses, and who may do what."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from starlingd.cli.main import main
from starlingd.core.directory import Person
from starlingd.core.provisioning import Loop
from starlingd.core.rules import Allow, GroupList, Provisioning, Rules
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import Bastion, Whole
from tests.fakes_directory import POLICY, FakeDirectory, FakeGroup
from tests.unit.controlling import ask, controlled, starlingctl

RULES = Rules(provisioning=Provisioning("mail", "mobile"), directory=POLICY, groups=GroupList(Allow.NO_USER, ("idle",)))
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def someone(name: str, phone: str = "+44 20 7946 0001") -> Person:
    """Make a person."""
    attributes = {"mail": (f"{phone[-4:]}@example.org",), "mobile": (phone,)}
    return Person(name, f"uid={name}", attributes=attributes)


def provisioned(
    directory: Path,
    test: Callable[[Bastion, Whole, FakeDirectory], Awaitable[None]],
) -> None:
    """Run a test with a daemon that knows alice, eve and a group."""

    async def run(bastion: Bastion, whole: Whole) -> None:
        people = (someone("alice"), someone(f"eve{ESCAPE}", "+44 20 7946 0002"), someone("mute", ""))
        staff = FakeGroup("staff", "cn=staff", frozenset(person.name for person in people))
        known = FakeDirectory(people, (staff, FakeGroup("idle", "cn=idle")))
        assert bastion.host.current
        loop = Loop(("staff",), rate_limit=10**7)
        bastion.host.current = replace(bastion.host.current, directory=known, loop=loop)
        await test(bastion, whole, known)

    controlled(directory, run, RULES)


def test_a_plan_and_a_run_show_the_difference_as_a_table(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole, _: FakeDirectory) -> None:
        plan = await starlingctl(whole, "provision", "plan")
        assert plan.exit_code == 0
        assert "\x1b" not in plan.output
        rows = [line.rstrip().split(maxsplit=2) for line in plan.output.splitlines()]
        assert rows[0] == ["user", "action", "why"]
        assert rows[1:4] == [
            ["alice", "create"],
            ["eve\\x1b]0;owned\\x07\\x1b[2J", "create"],
            ["mute", "unusable", "number or address is missing"],
        ]
        assert "3 members (2 create, 1 unusable): complete" in plan.output
        assert not bastion.provider.calls
        done = await starlingctl(whole, "provision", "run", "--json")
        assert done.exit_code == 0
        assert json.loads(done.output)["counts"] == {"create": 2, "unusable": 1}
        assert len(bastion.provider.calls) == 2
        again = json.loads((await starlingctl(whole, "provision", "status", "--json")).output)
        assert again["run"]["outcome"] == "complete"
        assert again["kept"]["members"] == 3

    provisioned(tmp_path, test)


def test_one_user_is_looked_at_and_enrolled_anew(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole, known: FakeDirectory) -> None:
        assert (await starlingctl(whole, "provision", "plan", "alice")).output == "alice: create\n"
        assert (await starlingctl(whole, "provision", "status", "alice")).output.endswith("is not enrolled\n")
        enrolled = await starlingctl(whole, "provision", "run", "alice")
        assert enrolled.output == "alice is enrolled as 442079460001\n"
        status = await starlingctl(whole, "provision", "status", "alice")
        assert status.output.startswith("alice: nothing\nis enrolled as 442079460001 since ")
        known.everybody = (someone("alice", "+44 20 7946 0009"),)
        plan = await starlingctl(whole, "provision", "plan", "alice")
        assert plan.output == "alice: changed (number or address changed since enrolment)\n"
        told = json.loads((await starlingctl(whole, "provision", "status", "alice", "--json")).output)
        assert told["action"] == "changed"
        del told["enrolment"]["made"]  # a time, whose digits may be anything
        assert "7946" not in json.dumps(told).replace("442079460001", "")
        await starlingctl(whole, "provision", "run", "alice")
        kept = bastion.store.enrolment("alice")
        assert kept is not None
        assert kept.phone == "+442079460009"
        unknown = await starlingctl(whole, "provision", "run", "nobody")
        assert (unknown.exit_code, "does not know this user" in unknown.output) == (1, True)

    provisioned(tmp_path, test)


def test_some_groups_are_looked_at_whatever_the_configuration_says(tmp_path: Path) -> None:
    async def test(_: Bastion, whole: Whole, __: FakeDirectory) -> None:
        for command in ("plan", "status"):
            told = await starlingctl(whole, "provision", command, "--group", "staff")
            assert "3 members" in told.output
        missing = await starlingctl(whole, "provision", "plan", "--group", "nowhere")
        assert (missing.exit_code, "there is no group 'nowhere'" in missing.output) == (1, True)
        empty = await starlingctl(whole, "provision", "run", "--group", "idle")
        assert (empty.exit_code, "nobody is in the groups" in empty.output) == (1, True)
        both = await starlingctl(whole, "provision", "run", "alice", "--group", "idle")
        assert both.exit_code == 2

    provisioned(tmp_path, test)


def test_ctrl_c_ends_a_run_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bastion: Bastion, whole: Whole, _: FakeDirectory) -> None:
        bastion.provider.outage = Unavailable("starling", Fault.RATE_LIMITED, "429")

        def interrupted(_: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("starlingd.cli.provision.time.sleep", interrupted)
        result = await starlingctl(whole, "provision", "run")
        assert result.exit_code == 1
        assert "stopped; the next run goes on" in result.output

    provisioned(tmp_path, test)


def test_a_broken_off_run_of_an_earlier_daemon_is_told(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole, _: FakeDirectory) -> None:
        assert (await starlingctl(whole, "provision", "status")).output == "there was no run since the daemon started\n"
        bastion.store.loop = replace(bastion.store.loop, started=5.0, complete=False)
        assert "did not come to its end" in (await starlingctl(whole, "provision", "status")).output

    provisioned(tmp_path, test)


@pytest.mark.parametrize("groups", ["staff", [1], [""], {"a": 1}])
def test_groups_that_are_none_are_refused(tmp_path: Path, groups: object) -> None:
    async def test(_: Bastion, whole: Whole, __: FakeDirectory) -> None:
        assert await ask(whole, "provision plan", groups=groups) == {"error": "groups must be names"}

    provisioned(tmp_path, test)


def test_user_show_tells_what_is_known_and_masks_what_is_private(tmp_path: Path) -> None:
    async def test(_: Bastion, whole: Whole, known: FakeDirectory) -> None:
        known.groups = (*known.groups[:1], FakeGroup("idle", "cn=idle", frozenset({"alice"})))
        await starlingctl(whole, "provision", "run", "alice")
        shown = await starlingctl(whole, "user", "show", "ALICE")
        assert shown.exit_code == 0
        for part in (
            "account     alice, uid 1000",
            "exempt_ldap_group",
            "uid=alice (active)",
            "in the group idle",
            "in the group staff",
            "id 442079460001 since",
            "+44…01",
            "grace       none",
            "sessions    none",
        ):
            assert part in shown.output
        assert "+442079460001" not in shown.output
        assert "0001@example.org" not in shown.output
        missing = await starlingctl(whole, "user", "show", "nobody-here")
        assert (missing.exit_code, "there is no account" in missing.output) == (1, True)

    provisioned(tmp_path, test)


def test_without_a_daemon_each_says_so() -> None:
    for arguments in (["provision", "plan"], ["provision", "run"], ["provision", "status"], ["user", "show", "a"]):
        result = CliRunner().invoke(main, ["--socket", "/nonexistent", *arguments])
        assert result.exit_code == 3
