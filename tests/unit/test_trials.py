"""Logins that are only a test: decided and written down like any other, and let in nowhere."""

import os
import threading
from pathlib import Path

import pytest

from starlingd.cli.logintest import command
from starlingd.core.model import Account, Process, PushStatus
from starlingd.core.rules import Allow, Grace, Rules, UserList
from starlingd.server import processes
from starlingd.server.trials import MOST_TRIALS, PREFIX, Trials
from tests.daemon_under_test import RIGHT_CODE, Bastion, Whole, on_bastion
from tests.unit.controlling import CACHED, KEY, ask, controlled, fill

ME = Process(os.getpid(), int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]))
FAST = Rules(poll_interval=0, connection_limit=1, grace=Grace(soft_timeout=60, hard_timeout=600, reuse_limit=3))
EXEMPT = Rules(user_list=UserList("robots", Allow.NO_USER, frozenset({"alice"})))


async def authenticate(bastion: Bastion, answer: str | None, **fields: str) -> dict[str, str]:
    module = await bastion.call("authenticate", ME, **fields)
    if answer is not None:
        await module.answer(answer)
    return await module.done()


async def hook(bastion: Bastion, operation: str, login: str = "") -> dict[str, str]:
    return await (await bastion.call(operation, ME, login=login)).done()


@pytest.mark.parametrize("answer", [RIGHT_CODE, ""])
def test_a_right_answer_passes_authenticate_and_account_and_leaves_nothing(answer: str) -> None:
    async def test(bastion: Bastion) -> None:
        assert bastion.host.trials.begin(ME)
        done = await authenticate(bastion, answer)
        assert done["result"] == "success"
        assert (await hook(bastion, "account", done["env.PAM_STARLING_LOGIN"]))["result"] == "success"
        assert bastion.store.kept == {}
        assert bastion.host.logins.count("alice", "198.51.100.7") == 0
        assert bastion.host.audit.counts.total == {}
        [event] = bastion.events()
        assert (event["STARLING_MODE"], event["STARLING_OUTCOME"]) == ("test", "allow")

    on_bastion(test, FAST)


def test_no_session_can_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.host.trials.begin(ME)
        login = (await authenticate(bastion, RIGHT_CODE))["env.PAM_STARLING_LOGIN"]
        assert (await hook(bastion, "open_session", login))["result"] == "session_err"
        monkeypatch.setattr(processes, "is_alive", lambda _: False)
        bastion.host.trials.begin(ME)  # forgets those whose process is gone
        assert bastion.host.trials.of(ME) is None
        assert (await hook(bastion, "open_session", login))["result"] == "session_err"
        assert (bastion.store.open, bastion.store.entries) == ({}, {})

    on_bastion(test, FAST)


def test_a_real_record_of_its_process_opens_nothing_either() -> None:
    async def test(bastion: Bastion) -> None:
        login = (await authenticate(bastion, RIGHT_CODE))["env.PAM_STARLING_LOGIN"]
        bastion.host.trials.begin(ME)
        assert (await hook(bastion, "open_session", login))["result"] == "session_err"
        assert bastion.store.open == {}

    on_bastion(test, FAST)


def test_a_refusal_is_told_with_its_reason_and_rule() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.host.trials.begin(ME)
        bastion.provider.statuses = [PushStatus.DENIED]
        assert (await authenticate(bastion, ""))["result"] == "maxtries"
        trial = bastion.host.trials.of(ME)
        assert trial is not None
        assert [(told["step"], told["reason"]) for told in trial.decisions] == [("authenticate", "push_denied")]

    on_bastion(test, FAST)


def test_the_account_hook_alone_is_decided_as_for_a_key_alone() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.host.trials.begin(ME)
        assert (await hook(bastion, "account"))["reason"] == "no_second_factor"
        assert (await hook(bastion, "account", "a-login-of-somebody"))["reason"] == "no_second_factor"

    on_bastion(test, FAST)


def test_a_reuse_of_the_grace_period_is_given_back(tmp_path: Path) -> None:
    async def test(bastion: Bastion, _: Whole) -> None:
        fill(bastion, KEY)
        before = dict(bastion.store.entries)
        bastion.host.trials.begin(ME)
        done = await authenticate(bastion, None)
        assert (done["result"], done["reason"]) == ("success", "cached")
        await bastion.settled()
        await bastion.host.logins.sweep(lambda _: True)
        await bastion.host.pools.store.run(5, bool)  # what was to be forgotten went into the one store thread before
        assert bastion.store.entries == before

    controlled(tmp_path, test, CACHED)


def test_an_exemption_is_seen_and_forgets_no_grace_entry(tmp_path: Path) -> None:
    async def test(bastion: Bastion, _: Whole) -> None:
        fill(bastion, KEY)
        bastion.host.trials.begin(ME)
        assert (await authenticate(bastion, None))["reason"] == "exempt_user_list"
        assert set(bastion.store.entries) == {KEY}

    controlled(tmp_path, test, EXEMPT)


def test_whoever_is_no_trial_is_a_login() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.host.trials.begin(ME)
        module = await bastion.call("authenticate", Process(ME.pid, ME.start + 1))  # the same pid, later
        await module.answer(RIGHT_CODE)
        login = (await module.done())["env.PAM_STARLING_LOGIN"]
        assert set(bastion.store.kept) == {login}
        assert all("STARLING_MODE" not in event for event in bastion.events())

    on_bastion(test, FAST)


@pytest.mark.parametrize("operation", ["authenticate", "account"])
@pytest.mark.parametrize("begun", [True, False], ids=["between the hooks", "before the first"])
def test_what_is_left_of_a_trial_after_a_restart_is_refused(operation: str, begun: bool) -> None:  # noqa: FBT001
    async def test(bastion: Bastion) -> None:
        login = PREFIX
        if begun:
            bastion.host.trials.begin(ME)
            login = (await authenticate(bastion, None))["env.PAM_STARLING_LOGIN"]
            assert login.startswith(PREFIX)
        bastion.host.trials = Trials()  # as the next daemon has it
        refused = await (await bastion.call(operation, ME, login=login)).done()
        assert (refused["result"] in {"auth_err", "acct_denied"}, refused["reason"]) == (True, "no_record")
        assert "env.PAM_STARLING_LOGIN" not in refused
        assert (await hook(bastion, "open_session", login))["result"] == "session_err"
        assert (bastion.store.kept, bastion.store.open) == ({}, {})
        assert bastion.host.logins.count("alice", "198.51.100.7") == 0

    on_bastion(test, EXEMPT)


def test_the_application_says_what_it_is_before_the_first_hook() -> None:
    assert f'b"PAM_STARLING_LOGIN={PREFIX}"' in command.APPLICATION.read_text(encoding="utf-8")


def test_a_session_is_closed_whatever_its_environment_says() -> None:
    async def test(bastion: Bastion) -> None:
        login = (await authenticate(bastion, None))["env.PAM_STARLING_LOGIN"]
        assert (await hook(bastion, "open_session", login))["result"] == "success"
        assert (await hook(bastion, "close_session", PREFIX))["reason"] == "exempt_user_list"
        assert bastion.host.logins.leases == []

    on_bastion(test, EXEMPT)


@pytest.mark.parametrize("trial", [True, False])
def test_a_daemon_that_stops_answers_a_trial_itself_for_the_next_one_would_let_it_in(
    monkeypatch: pytest.MonkeyPatch,
    trial: bool,  # noqa: FBT001
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def look_up(_: str) -> Account | None:
        begun.set()
        go_on.wait(5)
        return None

    async def test(bastion: Bastion) -> None:
        monkeypatch.setattr(bastion.people, "look_up", look_up)
        if trial:
            bastion.host.trials.begin(ME)
        module = await bastion.call("authenticate", ME)
        assert await bastion.host.pools.patterns.run(5, begun.wait, 5)
        for session in bastion.sessions.values():
            session.stop()
        op, fields = await module.receive()
        if trial:
            op, fields = await module.receive()  # after the sentence
        assert (op, fields.get("reason")) == (("done", "busy") if trial else ("", None))
        go_on.set()

    on_bastion(test, EXEMPT)


def test_trials_are_bounded_and_need_a_living_process(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = Trials()
    assert not trials.begin(Process(ME.pid, ME.start + 1))
    monkeypatch.setattr(processes, "is_alive", lambda _: True)
    assert [trials.begin(Process(pid, 1)) for pid in range(MOST_TRIALS + 1)] == [True] * MOST_TRIALS + [False]


def test_root_begins_one_over_the_control_socket_and_reads_what_was_decided(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        process = {"pid": ME.pid, "start": ME.start}
        assert await ask(whole, "test begin", **process) == {"result": {}}
        await authenticate(bastion, "654321")
        [decision] = (await ask(whole, "test decisions", **process))["result"]["decisions"]
        assert (decision["step"], decision["outcome"], decision["reason"]) == ("authenticate", "deny", "wrong_code")

    controlled(tmp_path, test, Rules(max_attempts=1))


@pytest.mark.parametrize("request_", [{}, {"pid": "1", "start": 1}, {"pid": -1, "start": 1}, {"pid": True, "start": 1}])
def test_a_request_that_names_no_process_is_refused(tmp_path: Path, request_: dict[str, object]) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        assert "error" in await ask(whole, "test begin", **request_)

    controlled(tmp_path, test)
