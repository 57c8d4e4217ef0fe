"""Rules on the wire: exemptions, the fail mode, questions and lock-outs, from the module's packets to the audit."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from starlingd.core.grace import Entry, Key
from starlingd.core.rules import (
    Allow,
    Bind,
    ExemptResult,
    FailMode,
    Grace,
    NetworkList,
    Question,
    Rules,
    UserList,
)
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, on_bastion

GRACE = Grace(soft_timeout=60, hard_timeout=600, reuse_limit=2)
EXEMPT = Rules(user_list=UserList("robots", Allow.NO_USER, frozenset({"alice"})), grace=GRACE)
CACHED = Rules(grace=GRACE, poll_interval=0)
KEY = Key("alice", "198.51.100.7", "", "")
UNREACHABLE = Unavailable("starling", Fault.UNREACHABLE, "no route to host")


# Exemptions


def test_an_exempt_login_is_ignored_by_the_module_and_has_its_session() -> None:
    async def test(bastion: Bastion) -> None:
        alice = Connection(bastion, 1)
        done = await alice.authenticate()
        assert (done["result"], done["reason"], done["said"]) == ("ignore", "exempt_user_list", "")
        login = done["env.PAM_STARLING_LOGIN"]
        assert (await alice.hook("account", login))["result"] == "success"
        assert (await alice.hook("open_session", login))["result"] == "success"
        assert (await alice.hook("close_session", login))["result"] == "success"
        assert bastion.provider.calls == []
        [event] = bastion.events()
        assert event["STARLING_OUTCOME"] == "ignore"
        assert event["STARLING_FACTOR"] == "none"
        assert event["STARLING_RULE"] == "user_list robots"
        assert event["WARNING"] == "False"
        assert [event["STARLING_LOGIN"] for event in bastion.events("session_close")] == [login]

    on_bastion(test, EXEMPT)


def test_an_exempt_login_can_be_a_success_of_its_own() -> None:
    async def test(bastion: Bastion) -> None:
        done = await Connection(bastion, 1).authenticate()
        assert (done["result"], done["reason"]) == ("success", "exempt_user_list")
        assert bastion.events()[0]["STARLING_OUTCOME"] == "allow"

    on_bastion(test, replace(EXEMPT, exempt_result=ExemptResult.SUCCESS))


def test_who_is_exempt_by_one_spelling_only_is_asked() -> None:
    async def test(bastion: Bastion) -> None:
        done = await Connection(bastion, 1, user="ALICE").authenticate(RIGHT_CODE)
        assert done["reason"] == "code_verified"

    on_bastion(test, EXEMPT)


def test_a_network_exempts_whoever_comes_from_it_and_nobody_else() -> None:
    async def test(bastion: Bastion) -> None:
        inside = await Connection(bastion, 1, address="::ffff:203.0.113.5").authenticate()
        assert inside["reason"] == "exempt_network"
        outside = await Connection(bastion, 2).authenticate(RIGHT_CODE)
        assert outside["reason"] == "code_verified"

    on_bastion(test, Rules(networks=NetworkList(Allow.NO_USER, (ip_network("203.0.113.0/24"),))))


def test_an_exempt_login_by_key_alone_passes_the_account_hook() -> None:
    async def test(bastion: Bastion) -> None:
        alice = Connection(bastion, 1)
        done = await alice.hook("account", "")
        assert done["reason"] == "exempt_user_list"
        assert (await alice.hook("open_session", done["env.PAM_STARLING_LOGIN"]))["result"] == "success"

    on_bastion(test, EXEMPT)


def test_an_exempt_login_earns_no_grace_and_drops_what_its_user_had() -> None:
    async def test(bastion: Bastion) -> None:
        assert bastion.host.current
        other = replace(KEY, client_ip="192.0.2.99")
        bob = replace(KEY, user="bob")
        await Connection(bastion, 1).log_in(RIGHT_CODE)
        entry = bastion.store.entries[KEY]
        bastion.store.entries |= {other: entry, bob: entry}
        bastion.host.current = replace(bastion.host.current, rules=EXEMPT)
        assert (await Connection(bastion, 2).log_in())["reason"] == "exempt_user_list"
        assert set(bastion.store.entries) == {bob}

    on_bastion(test, CACHED)


def test_an_exempt_login_whose_key_is_unknown_drops_its_users_grace_too() -> None:
    bound = replace(GRACE, bind=frozenset({Bind.USER, Bind.SSH_KEY}))

    async def test(bastion: Bastion) -> None:
        entry_key = Key("alice", "", "SHA256:abc", "")
        moment = bastion.host.moment()
        bastion.store.entries[entry_key] = Entry("1000 alice", moment, moment)
        await Connection(bastion, 1).log_in()
        assert bastion.store.entries == {}

    on_bastion(test, replace(EXEMPT, grace=bound))


def test_breaking_the_glass_is_loud_and_stands_before_no_full_house() -> None:
    async def test(bastion: Bastion) -> None:
        for number in range(3):
            assert (await Connection(bastion, number).log_in())["result"] == "success"
        assert len(bastion.host.logins.leases) == 3
        loud = bastion.events("break_glass")
        assert [event["WARNING"] for event in loud] == ["True"] * 3
        assert {event["STARLING_USER"] for event in loud} == {"alice"}
        assert {event["STARLING_REASON"] for event in bastion.events()} == {"break_glass"}

    on_bastion(test, Rules(break_glass=frozenset({"alice"}), connection_limit=1))


# The fail mode


def test_failing_open_is_loud_and_earns_no_grace() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.outage = UNREACHABLE
        alice = Connection(bastion, 1)
        opened = await alice.log_in(RIGHT_CODE)
        assert (opened["result"], opened["reason"]) == ("success", "fail_open")
        [event] = bastion.events("fail_open")
        assert (event["WARNING"], event["STARLING_USER"], event["STARLING_OUTCOME"]) == ("True", "alice", "allow")
        assert bastion.store.entries == {}
        assert "probe" in bastion.provider.calls

    on_bastion(test, replace(CACHED, fail_mode=FailMode.SAFE))


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(Rules(), id="secure"),
        pytest.param(Rules(fail_mode=FailMode.SAFE, fail_open_users=frozenset({"bob"})), id="for others"),
    ],
)
def test_an_unreachable_service_lets_nobody_else_in(rules: Rules) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.outage = UNREACHABLE
        done = await Connection(bastion, 1).authenticate(RIGHT_CODE)
        assert (done["result"], done["reason"]) == ("auth_err", "unreachable")
        assert done["said"] == "The second-factor service cannot be reached"
        assert bastion.events("fail_open") == []

    on_bastion(test, rules)


# Questions

TICKET = Question(
    1, "ticket", "Ticket?", disable_echo=False, required=True, pattern="[A-Z]+-[0-9]+", audit=True, export=True
)
SECRET = Question(2, "pet", "Your pet?")


def test_answers_go_where_the_question_says_and_nowhere_else() -> None:
    async def test(bastion: Bastion) -> None:
        module = await Connection(bastion, 1).begin()
        await module.answer(RIGHT_CODE)
        assert await module.answer("OPS-7") == "Ticket? "
        assert await module.answer("Rex the dog") == "Your pet? "
        done = await module.done()
        assert done["result"] == "success"
        assert done["env.PAM_STARLING_ANSWER_TICKET"] == "OPS-7"
        assert "env.PAM_STARLING_ANSWER_PET" not in done
        [event] = bastion.events()
        assert event["STARLING_ANSWER_TICKET"] == "OPS-7"
        assert "Rex" not in str(bastion.log.events)

    on_bastion(test, Rules(questions=(TICKET, SECRET)))


def test_echo_follows_the_question() -> None:
    async def test(bastion: Bastion) -> None:
        module = await Connection(bastion, 1).begin()
        await module.answer(RIGHT_CODE)
        styles = []
        for _ in range(2):
            op, fields = await module.receive()
            assert op == "ask"
            styles.append(fields["style"])
            module.send("answer", text="OPS-7")
        assert styles == ["echo_on", "echo_off"]
        assert (await module.done())["result"] == "success"

    on_bastion(test, Rules(questions=(TICKET, SECRET)))


def test_a_wrong_answer_is_asked_again_and_in_the_end_refused() -> None:
    async def test(bastion: Bastion) -> None:
        done = await Connection(bastion, 1).authenticate(RIGHT_CODE, "", "ops-7", "OPS-7x")
        assert (done["result"], done["reason"]) == ("auth_err", "question_refused")
        assert "env.PAM_STARLING_LOGIN" not in done
        assert bastion.store.kept == {}
        assert bastion.events()[0]["STARLING_RULE"] == "question_1"

    on_bastion(test, Rules(questions=(TICKET,)))


def test_answers_use_up_no_attempts() -> None:
    async def test(bastion: Bastion) -> None:
        done = await Connection(bastion, 1).authenticate("000000", "111111", RIGHT_CODE, "x", "y", "OPS-1")
        assert done["result"] == "success"

    on_bastion(test, Rules(questions=(TICKET,)))


def test_exempt_and_cached_users_are_asked_their_questions_too() -> None:
    async def test(bastion: Bastion) -> None:
        assert bastion.host.current
        assert (await Connection(bastion, 1).log_in(RIGHT_CODE, "OPS-1"))["reason"] == "code_verified"
        assert (await Connection(bastion, 2).authenticate("OPS-2"))["reason"] == "cached"
        exempt = replace(EXEMPT, questions=(TICKET,))
        bastion.host.current = replace(bastion.host.current, rules=exempt)
        done = await Connection(bastion, 3).authenticate("OPS-3")
        assert (done["reason"], done["env.PAM_STARLING_ANSWER_TICKET"]) == ("exempt_user_list", "OPS-3")

    on_bastion(test, replace(CACHED, questions=(TICKET,)))


def test_a_login_that_cannot_be_asked_fails_a_required_question() -> None:
    async def test(bastion: Bastion) -> None:
        done = await Connection(bastion, 1).hook("account", "")
        assert (done["result"], done["reason"]) == ("acct_denied", "question_refused")

    on_bastion(test, replace(EXEMPT, questions=(TICKET,)))


@pytest.mark.parametrize("answer", ["x" * 129, "ö" * 65])
def test_an_answer_that_is_too_long_is_a_broken_module(answer: str) -> None:
    async def test(bastion: Bastion) -> None:
        done = await Connection(bastion, 1).authenticate(RIGHT_CODE, answer)
        assert (done["result"], done["reason"]) == ("auth_err", "protocol_error")

    on_bastion(test, Rules(questions=(SECRET,)))


def test_an_answer_is_data_in_the_environment_and_in_the_log() -> None:
    hostile = "a=b\n\x1b[2J%s{0}ö"

    async def test(bastion: Bastion) -> None:
        done = await Connection(bastion, 1).authenticate(RIGHT_CODE, hostile)
        assert done["env.PAM_STARLING_ANSWER_WHY"] == hostile
        assert bastion.events()[0]["STARLING_ANSWER_WHY"] == hostile

    on_bastion(test, Rules(questions=(Question(1, "why", "Why?", audit=True, export=True),)))


# Lock-outs


def test_wrong_codes_count_across_connections_and_services_and_a_right_one_is_not_looked_at_then() -> None:
    async def test(bastion: Bastion) -> None:
        await Connection(bastion, 1).authenticate("000000", "111111", "222222")
        await Connection(bastion, 2, service="login").authenticate("333333", "444444", RIGHT_CODE)
        calls = list(bastion.provider.calls)
        assert calls == ["verify alice"] * 5
        done = await Connection(bastion, 3).authenticate(RIGHT_CODE)
        assert (done["result"], done["reason"]) == ("maxtries", "too_many_attempts")
        assert done["said"] == "Too many attempts; try again later"
        pushed = await Connection(bastion, 4).authenticate("")
        assert pushed["reason"] == "too_many_attempts"
        assert bastion.provider.calls == calls
        elsewhere = await Connection(bastion, 5, address="198.51.100.8").authenticate(RIGHT_CODE)
        assert elsewhere["result"] == "success"
        assert len(bastion.store.wrong_codes) == 5

    on_bastion(test, Rules())


def test_a_stranger_sees_the_same_and_is_kept_nowhere() -> None:
    async def test(bastion: Bastion) -> None:
        said: dict[str, list[str]] = {}
        for user in ("alice", "nobody-here", "root"):
            for number in range(3):
                module = await Connection(bastion, number, user=user, address=f"192.0.2.{len(said) + 1}").begin()
                packets = []
                for code in ("000000", "111111", "222222"):
                    op, fields = await module.receive()
                    while op == "say":
                        packets.append(fields["text"])
                        op, fields = await module.receive()
                    if op == "done":
                        packets.append(fields["result"])
                        break
                    packets.append(fields["style"])
                    module.send("answer", text=code)
                else:
                    done = await module.done()
                    packets += [done["result"], done["said"]]
                said.setdefault(user, []).extend(packets)
        assert said["alice"] == said["nobody-here"] == said["root"]
        assert "Too many attempts; try again later" in said["alice"]
        assert {user for user, *_ in bastion.store.wrong_codes} == {"alice", "root"}, "who has an account"

    on_bastion(test)


def test_a_locked_user_still_has_the_grace_that_was_earned() -> None:
    async def test(bastion: Bastion) -> None:
        await Connection(bastion, 1).log_in(RIGHT_CODE)
        for number in (2, 3):
            store_entry = bastion.store.entries.pop(KEY)
            await Connection(bastion, number).authenticate("000000", "111111", "222222")
            bastion.store.entries[KEY] = store_entry
        assert (await Connection(bastion, 4).log_in())["reason"] == "cached"

    on_bastion(test, CACHED)
