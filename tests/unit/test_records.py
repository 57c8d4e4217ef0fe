"""Which later call belongs to which login: every wrong claimant, and the whole matrix of them (DESIGN §5)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlingd.core.model import Factor, Process, Reason
from starlingd.core.records import LIFETIME, Claim, Record, belongs

BOOT, MADE = "4f3c", 5000.0
LISTENER, MONITOR, CHILD = Process(1, 10), Process(40, 400), Process(50, 500)
RECORD = Record(
    login_id="login-1",
    user="alice",
    service="sshd",
    caller=CHILD,
    parent=MONITOR,
    client_ip="198.51.100.7",
    tty="ssh",
    auth_info="publickey ssh-ed25519 AAAA",
    factor=Factor.PUSH,
    reason=Reason.PUSH_APPROVED,
    boot=BOOT,
    made=MADE,
)
CLAIM = Claim("login-1", "alice", "sshd", MONITOR)


@pytest.mark.parametrize("caller", [MONITOR, CHILD], ids=["the monitor opens the session", "login is one process"])
def test_the_recorded_caller_and_its_parent_may_claim(caller: Process) -> None:
    assert belongs(replace(CLAIM, caller=caller), RECORD, BOOT, MADE + 1)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"login_id": "login-2"}, id="another login's id"),
        pytest.param({"login_id": ""}, id="no id"),
        pytest.param({"login_id": "LOGIN-1"}, id="the id in other letters"),
        pytest.param({"user": "bob"}, id="another user"),
        pytest.param({"user": "Alice"}, id="another spelling than the canonical name"),
        pytest.param({"user": ""}, id="a user nss does not know"),
        pytest.param({"service": "login"}, id="another service"),
        pytest.param({"caller": Process(41, 410)}, id="another connection's monitor"),
        pytest.param({"caller": LISTENER}, id="the listener, which all connections share"),
        pytest.param({"caller": Process(40, 401)}, id="the monitor's pid, used again"),
        pytest.param({"caller": Process(50, 499)}, id="the child's pid, from before"),
        pytest.param({"caller": Process(40, 500)}, id="the monitor's pid with the child's start"),
        pytest.param({"caller": Process(50, 400)}, id="the child's pid with the monitor's start"),
        pytest.param({"caller": Process(400, 40)}, id="pid and start exchanged"),
    ],
)
def test_a_wrong_claimant_gets_nothing(wrong: dict[str, object]) -> None:
    assert not belongs(replace(CLAIM, **wrong), RECORD, BOOT, MADE + 1)  # type: ignore[arg-type]


def test_a_sibling_with_the_same_parent_gets_nothing() -> None:
    """Key-only logins and the password path run in monitors, all children of one listener: parents never match."""
    record = replace(RECORD, caller=MONITOR, parent=LISTENER)
    sibling = replace(CLAIM, caller=Process(41, 410))
    assert belongs(CLAIM, record, BOOT, MADE)
    assert not belongs(sibling, record, BOOT, MADE)


@pytest.mark.parametrize("boot", ["4f3d", "", "4F3C"])
def test_a_record_of_another_boot_belongs_to_nobody(boot: str) -> None:
    assert not belongs(CLAIM, RECORD, boot, MADE + 1)


@pytest.mark.parametrize(
    ("age", "fresh"),
    [(0.0, True), (1.0, True), (LIFETIME, True), (LIFETIME + 0.01, False), (-0.01, False), (-1e9, False), (1e9, False)],
)
def test_a_record_is_good_from_its_making_for_its_lifetime_and_never_when_the_clock_ran_back(
    age: float, *, fresh: bool
) -> None:
    assert belongs(CLAIM, RECORD, BOOT, MADE + age) is fresh


@pytest.mark.parametrize("now", [float("nan"), float("inf"), float("-inf")])
def test_a_clock_that_makes_no_sense_lets_nobody_in(now: float) -> None:
    assert not belongs(CLAIM, RECORD, BOOT, now)


# Small pools of everything, so that near misses are common.
processes = st.builds(Process, st.integers(40, 43), st.integers(400, 402))
names = st.sampled_from(["alice", "bob", "Alice", ""])
ids = st.sampled_from(["login-1", "login-2", ""])
services = st.sampled_from(["sshd", "login"])
boots = st.sampled_from([BOOT, "other"])
records = st.builds(
    replace, st.just(RECORD), login_id=ids, user=names, service=services, caller=processes, parent=processes, boot=boots
)
claims = st.builds(Claim, login_id=ids, user=names, service=services, caller=processes)


@settings(max_examples=2000)
@given(claim=claims, record=records, boot=boots, age=st.floats(-LIFETIME, 2 * LIFETIME))
def test_a_call_belongs_to_a_login_only_if_all_agrees(claim: Claim, record: Record, boot: str, age: float) -> None:
    agrees = [
        claim.login_id == record.login_id,
        claim.user == record.user,
        claim.service == record.service,
        (claim.caller.pid, claim.caller.start)
        in {(record.caller.pid, record.caller.start), (record.parent.pid, record.parent.start)},
        boot == record.boot,
        0 <= age <= LIFETIME,
    ]
    assert belongs(claim, replace(record, made=0.0), boot, age) == all(agrees)


def others(value: str) -> st.SearchStrategy[str]:
    """Make any text but this one."""
    return st.text().filter(lambda text: text != value)


strangers = st.builds(Process, st.integers(0), st.integers(0)).filter(lambda process: process not in {MONITOR, CHILD})
wrong_claims = st.one_of(
    st.builds(replace, st.just(CLAIM), login_id=others("login-1")),
    st.builds(replace, st.just(CLAIM), user=others("alice")),
    st.builds(replace, st.just(CLAIM), service=others("sshd")),
    st.builds(replace, st.just(CLAIM), caller=strangers),
)


@settings(max_examples=500)
@given(claim=wrong_claims, age=st.floats(0, LIFETIME - 1))
def test_one_disagreement_is_enough(claim: Claim, age: float) -> None:
    assert belongs(CLAIM, RECORD, BOOT, MADE + age)
    assert not belongs(claim, RECORD, BOOT, MADE + age)
