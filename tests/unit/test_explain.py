"""Explain, over the control socket: what a login would find, without any trace of the question."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from starlingd.core.directory import Person
from starlingd.core.rules import Allow, Provisioning, Question, Rules, UserList, WithoutSecondFactor
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, Whole
from tests.fakes_directory import POLICY, FakeDirectory
from tests.unit.controlling import ADDRESS, CACHED, GRACE, KEY, ask, controlled

QUESTION = Question(1, "why", "Why?", required=True)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Offer a directory that others may enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.parametrize(
    ("request_", "rules", "outcome", "reason", "identity"),
    [
        pytest.param({}, Rules(), "second_factor", None, "alice", id="asked"),
        pytest.param({}, Rules(explicit_mapping={"alice": "555"}), "second_factor", None, "555", id="mapped"),
        pytest.param({}, Rules(append_domain="example.org"), "second_factor", None, "alice@example.org", id="domain"),
        pytest.param({"user": "root"}, Rules(), "deny", "root_not_permitted", None, id="root"),
        pytest.param({"user": "nobody-here"}, Rules(), "deny", "unknown_user", None, id="unknown"),
        pytest.param({"user": "a\0b\n"}, Rules(), "deny", "unknown_user", None, id="no name at all"),
        pytest.param({}, Rules(break_glass=frozenset({"alice"})), "exempt", "break_glass", None, id="break glass"),
        pytest.param(
            {},
            Rules(user_list=UserList("robots", Allow.NO_USER, frozenset({"alice"}))),
            "exempt",
            "exempt_user_list",
            None,
            id="exempt",
        ),
    ],
)
def test_explain_answers_one_object_of_the_documented_shape(
    directory: Path, request_: dict[str, str], rules: Rules, outcome: str, reason: str | None, identity: str | None
) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        result = (await ask(whole, "explain", **{"user": "alice", "from": ADDRESS, **request_}))["result"]
        assert list(result) == ["outcome", "reason", "rule", "identity", "steps"]
        assert (result["outcome"], result["reason"], result["identity"]) == (outcome, reason, identity)
        assert isinstance(result["rule"], str)
        assert result["steps"]
        for step in result["steps"]:
            assert list(step) == ["step", "result", "rule"]
            assert all(isinstance(text, str) for text in step.values())

    controlled(directory, test, rules)


@pytest.mark.parametrize(
    ("account", "rules", "outcome", "reason"),
    [
        (WithoutSecondFactor.DENY, Rules(), "deny", "no_second_factor"),
        (WithoutSecondFactor.PUSH, Rules(), "second_factor", None),
        (WithoutSecondFactor.ALLOW, Rules(), "exempt", "key_only_allowed"),
        (WithoutSecondFactor.DENY, Rules(break_glass=frozenset({"alice"})), "exempt", "break_glass"),
        (WithoutSecondFactor.ALLOW, Rules(questions=(QUESTION,)), "deny", "question_refused"),
    ],
)
def test_a_login_by_key_alone_is_explained_as_the_account_hook_decides_it(
    directory: Path, account: WithoutSecondFactor, rules: Rules, outcome: str, reason: str | None
) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        told = (await ask(whole, "explain", user="alice", by_key=True, **{"from": ADDRESS}))["result"]
        assert (told["outcome"], told["reason"]) == (outcome, reason)
        module = await Connection(bastion, 1).begin("account")
        done = await module.done()
        assert (done["result"] == "acct_denied") == (outcome == "deny")
        assert reason is None or done["reason"] == reason

    controlled(directory, test, replace(rules, without_second_factor=account))


def test_whoever_would_be_enrolled_by_logging_in_is_asked_has_no_id_yet_and_is_no_warning(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        alice = Person("alice", "uid=alice", attributes={"mail": ("alice@example.org",), "mobile": ("+493012345678",)})
        assert bastion.host.current is not None
        bastion.host.current = replace(bastion.host.current, directory=FakeDirectory((alice,)))
        told = (await ask(whole, "explain", user="alice"))["result"]
        assert (told["outcome"], told["identity"]) == ("second_factor", None)
        assert told["steps"][-1] == {
            "step": "mapping", "result": "(to be enrolled)", "rule": "starling_auto_provision"
        }  # fmt: skip

    controlled(directory, test, Rules(directory=POLICY, provisioning=Provisioning("mail", "mobile")))


def test_explain_tells_of_grace_the_limit_and_a_lock_out_as_a_login_would_find_them(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        async def told(**request: object) -> tuple[str, str | None, str]:
            result = (await ask(whole, "explain", user="alice", **{"from": ADDRESS, **request}))["result"]
            return result["outcome"], result["reason"], result["rule"]

        await Connection(bastion, 1).log_in(RIGHT_CODE)
        assert await told() == ("cached", "cached", "authentication_cache.reuse_limit")
        assert (await told(**{"from": "192.0.2.1"}))[0] == "second_factor"
        later = bastion.store.entries[KEY].authenticated.wall + 61
        assert (await told(at=later))[0] == "second_factor"
        assert (await told(at=0))[0] == "second_factor", "a time of zero is a time too"
        await Connection(bastion, 2).log_in()
        assert await told() == ("deny", "connection_limit", "connection_limit by=client_ip_gateway_user.limit")
        for number in (3, 4):
            await Connection(bastion, number, address="192.0.2.1").authenticate("000000", "111111", "222222")
        assert await told(**{"from": "192.0.2.1"}) == ("deny", "too_many_attempts", "auth.max_failures")

    controlled(directory, test, replace(CACHED, connection_limit=2))


@pytest.mark.parametrize(
    ("service", "required", "reason"),
    [("cron", True, "question_refused"), ("cron", False, "exempt_user_list"), ("sshd", True, "exempt_user_list")],
)
def test_explain_tells_of_a_question_that_nobody_can_be_asked(
    directory: Path,
    service: str,
    required: bool,  # noqa: FBT001
    reason: str,
) -> None:
    listed = UserList("robots", Allow.NO_USER, frozenset({"alice"}))
    rules = Rules(user_list=listed, questions=(Question(1, "why", "Why?", required=required),))

    async def test(bastion: Bastion, whole: Whole) -> None:
        result = (await ask(whole, "explain", user="alice", service=service, **{"from": ADDRESS}))["result"]
        assert result["reason"] == reason
        login = Connection(bastion, 1, service=service)
        assert (await login.authenticate(*["why"] * (service == "sshd")))["reason"] == reason

    controlled(directory, test, rules)


def test_explain_changes_nothing_and_calls_nobody(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        await Connection(bastion, 1).log_in(RIGHT_CODE)
        await Connection(bastion, 2, address="192.0.2.1").authenticate("000000", "111111", RIGHT_CODE)
        bastion.host.audit.flush()
        calls, events = list(bastion.provider.calls), list(bastion.log.events)
        kept, leases = deepcopy(vars(bastion.store)), bastion.host.logins.leases
        for user in ("alice", "root", "nobody-here"):
            for address in (ADDRESS, "192.0.2.1", "", "::1"):
                for at in (None, 1.0, 4e9):
                    assert "result" in await ask(whole, "explain", user=user, at=at, **{"from": address})
        bastion.host.audit.flush()
        assert vars(bastion.store) == kept
        assert (bastion.provider.calls, bastion.log.events, bastion.host.logins.leases) == (calls, events, leases)
        for _ in range(GRACE.reuse_limit):
            assert (await Connection(bastion, 3).authenticate())["reason"] == "cached"

    controlled(directory, test)


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        ({"user": ""}, "whose"),
        ({}, "whose"),
        ({"user": 5}, "user must be a text"),
        ({"user": "alice", "from": "example.org"}, "'example.org' is not an address"),
        ({"user": "alice", "from": "\x1b[2J"}, r"\x1b[2J"),
        ({"user": "alice", "from": ["::1"]}, "from must be a text"),
        ({"user": "alice", "service": {}, "tty": True}, "must be a text"),
        ({"user": "alice", "at": "tomorrow"}, "at must be a time"),
        ({"user": "alice", "at": True}, "at must be a time"),
        ({"user": "alice", "at": {}}, "at must be a time"),
        ({"user": "alice", "at": float("nan")}, "at must be a time"),
        ({"user": "alice", "at": float("inf")}, "at must be a time"),
        ({"user": "alice", "at": 10**400}, "at must be a time"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_a_word(
    directory: Path, request_: dict[str, object], word: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        answer = await ask(whole, "explain", **request_)
        assert list(answer) == ["error"]
        assert word in answer["error"]
        assert answer["error"].isprintable()

    controlled(directory, test)
    assert "bug" not in caplog.text


def test_an_outage_is_told(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        bastion.people.outage = Unavailable("nss", Fault.BROKEN, "sssd is down")
        assert await ask(whole, "explain", user="alice") == {"error": "nss: sssd is down"}

    controlled(directory, test)


def test_without_a_configuration_there_is_nothing_to_explain_and_root_may_reload(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        current = bastion.host.current
        bastion.host.current = None
        assert "no usable configuration" in (await ask(whole, "explain", user="alice"))["error"]
        assert (await ask(whole, "sessions list"))["result"] == []
        whole.loaded = (current, "ready")
        assert "result" in await ask(whole, "reload")
        assert "result" in await ask(whole, "explain", user="alice")

    controlled(directory, test)
