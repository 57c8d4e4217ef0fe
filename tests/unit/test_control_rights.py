"""Who may use the control socket for what, as the kernel knows who asks."""

from __future__ import annotations

import asyncio
import grp
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from starlingd.core.model import Account, Process
from starlingd.server.host import Rights
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, Whole
from tests.unit.controlling import BOB, controlled, fill

OPERATORS, HELPDESK = "games", "users"
"""Two groups that every Debian has."""
NOBODY = 65534

CLIENT = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(sys.argv[2].encode() + b"\\n")
print(sock.makefile().readline(), end="")
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Offer a directory that others may enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def groups(*names: str) -> list[int]:
    return [grp.getgrnam(name).gr_gid for name in names]


async def ask_as(whole: Whole, extra: list[int], group: int, command: str, **more: object) -> dict[str, Any]:
    """Ask as somebody who is not root and in some groups."""
    whole.control.chmod(0o666)
    request = json.dumps({"command": command, "user": "alice", **more})
    done = await asyncio.to_thread(
        subprocess.run,
        ["/usr/bin/python3", "-c", CLIENT, str(whole.control), request],
        user=NOBODY,
        group=group,
        extra_groups=extra,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


READS = {"explain", "grace list", "sessions list", "provision plan", "provision look", "provision status", "user show"}
CHANGES = {"grace forget", "reload", "provision run", "provision stop", "provision renew"}
EVERY = READS | CHANGES | {"unlock"}
RIGHTS = Rights(frozenset({OPERATORS, "no-such-group"}), frozenset({HELPDESK}))


@pytest.mark.parametrize(
    ("group", "extra", "rights", "allowed"),
    [
        pytest.param("nogroup", (), RIGHTS, READS, id="no group"),
        pytest.param("nogroup", (), Rights(), READS, id="no group is named"),
        pytest.param("nogroup", ("daemon", "adm"), RIGHTS, READS, id="other groups"),
        pytest.param("nogroup", (OPERATORS,), RIGHTS, EVERY, id="an operator"),
        pytest.param(OPERATORS, (), RIGHTS, EVERY, id="an operator by the primary group"),
        pytest.param("nogroup", (HELPDESK,), RIGHTS, READS | {"unlock"}, id="the helpdesk"),
        pytest.param("nogroup", ("adm", HELPDESK, OPERATORS), RIGHTS, EVERY, id="both"),
        pytest.param("root", (), RIGHTS, READS, id="the group root is not root"),
    ],
)
def test_who_is_not_root_may_read_and_otherwise_what_his_groups_may(
    directory: Path, group: str, extra: tuple[str, ...], rights: Rights, allowed: set[str]
) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        fill(bastion, BOB)
        for command in sorted(EVERY):
            answer = await ask_as(whole, groups(*extra), groups(group)[0], command)
            if command in allowed and command.startswith("provision"):
                assert answer.get("error", "is not configured").endswith("is not configured"), (command, answer)
            elif command in allowed:
                assert "result" in answer, (command, answer)
            else:
                assert answer == {"error": "nobody may not do that: it needs root or a group named in [control]"}
        assert len(bastion.events("unlock")) == ("unlock" in allowed)
        assert len(bastion.events("reload")) == ("reload" in allowed)
        assert set(bastion.store.entries) == {BOB}
        assert {event["STARLING_BY"] for event in bastion.events("unlock")} <= {"nobody"}

    controlled(directory, test, rights=rights)


OPERATE, HELP = {"totp remove", "recovery make", "recovery remove"}, {"code issue", "code revoke", "unlock"}


@pytest.mark.parametrize(
    ("group", "allowed"), [("adm", set()), (HELPDESK, HELP), (OPERATORS, OPERATE | HELP)], ids=["no", "help", "operate"]
)
def test_codes_of_others_are_for_operators_and_the_helpdesk_and_those_of_root_for_root(
    directory: Path, group: str, allowed: set[str]
) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        for command in sorted(OPERATE | HELP):
            answer = await ask_as(whole, groups(group), NOBODY, command, valid=900)
            refused = str(answer.get("error", "")).startswith("nobody may not do that")
            assert refused == (command not in allowed), (command, answer)
            answer = await ask_as(whole, groups(group), NOBODY, command, valid=900, user="root")
            assert "root" in answer["error"], (command, answer)
        assert bool(bastion.events("code_issued")) == ("code issue" in allowed)

    controlled(directory, test, rights=RIGHTS)


def test_nobody_issues_a_code_for_themselves(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        bastion.people.look_up = lambda name: Account(name, NOBODY)  # type: ignore[method-assign]
        answer = await ask_as(whole, groups(OPERATORS), NOBODY, "code issue", valid=900)
        assert "for themselves" in answer["error"]
        assert not bastion.events("code_issued")
        assert "result" in await ask_as(whole, groups(OPERATORS), NOBODY, "recovery make")

    controlled(directory, test, rights=RIGHTS)


def test_only_root_may_say_that_a_login_is_a_test(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        for command in ("test begin", "test decisions"):
            assert await ask_as(whole, groups(OPERATORS), NOBODY, command) == {"error": "only root may test logins"}
            assert "error" in await ask_as(whole, [], NOBODY, command)
        assert bastion.host.trials.of(Process(1, 1)) is None

    controlled(directory, test, rights=RIGHTS)


def test_whoever_is_in_hundreds_of_groups_has_at_least_no_more_rights(directory: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        many = [*range(100_000, 100_600), *groups(OPERATORS)]
        assert "result" in await ask_as(whole, many, NOBODY, "sessions list")
        assert "error" in await ask_as(whole, many, NOBODY, "reload")

    controlled(directory, test, rights=RIGHTS)


def test_without_a_configuration_only_root_may_change_anything(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        bastion.host.current = None
        assert "error" in await ask_as(whole, groups(OPERATORS), NOBODY, "reload")
        assert "result" in await ask_as(whole, [], NOBODY, "sessions list")

    controlled(directory, test, rights=RIGHTS)


def test_a_slow_answer_about_groups_keeps_no_login_waiting(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, answer = threading.Event(), threading.Event()

    def slow(_: str) -> int:
        begun.set()
        answer.wait(5)
        return -1

    monkeypatch.setattr("starlingd.server.control._gid", slow)

    async def test(bastion: Bastion, whole: Whole) -> None:
        asking = asyncio.create_task(ask_as(whole, [], NOBODY, "reload"))
        assert await asyncio.to_thread(begun.wait, 5)
        assert (await Connection(bastion, 1).authenticate(RIGHT_CODE))["result"] == "success"
        answer.set()
        assert "error" in await asking

    controlled(directory, test, rights=Rights(frozenset({"slow"})))
