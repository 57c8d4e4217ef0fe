"""Who may confirm a change: whoever came in through it since, with a second factor of their own, and nobody else."""

import os
from typing import Any

import pytest

from starlingd.cli.pam.confirming import Since, ancestors, objection
from starlingd.core.model import Factor, Process
from starlingd.server.processes import is_alive

SINCE = Since(wall=1000.0, ticks=500)
CHAIN = [Process(40, 900), Process(30, 800), Process(1, 1)]
PROOF = {"pid": 30, "start": 800, "since": 1010.0, "service": "sshd", "factor": "push"}


def judge(service: str = "sshd", **changes: object) -> str | None:
    session: dict[str, Any] = PROOF | changes
    return objection([session], CHAIN, service, SINCE)


@pytest.mark.parametrize("factor", ["push", "code", "totp"])
def test_a_session_since_the_change_with_a_factor_of_ones_own_confirms(factor: str) -> None:
    assert judge(factor=factor) is None


@pytest.mark.parametrize("factor", [Factor.RECOVERY, Factor.HELPDESK, Factor.NONE])
def test_any_other_factor_does_not(factor: Factor) -> None:
    assert "without a fresh second factor" in (judge(factor=factor) or "")


def test_a_login_that_was_only_observed_is_told_why() -> None:
    assert "only observes ([auth] enforce)" in (judge(factor=Factor.NONE) or "")


@pytest.mark.parametrize("elsewhere", [{"pid": 31}, {"start": 801}])
def test_a_session_of_another_process_or_of_a_pid_that_was_given_anew_does_not(elsewhere: dict[str, int]) -> None:
    assert "does not run inside a session" in (judge(**elsewhere) or "")


def test_without_any_session_it_says_where_to_confirm() -> None:
    assert "tmux" in (objection([], CHAIN, "sshd", SINCE) or "")


@pytest.mark.parametrize("older", [{"since": 999.0}, {"start": 499}])
def test_a_session_or_a_connection_from_before_does_not(older: dict[str, float]) -> None:
    chain = [Process(30, 499), *CHAIN]
    assert "older than the change" in (objection([PROOF | older], chain, "sshd", SINCE) or "")


def test_at_the_console_the_process_is_older_than_the_login() -> None:
    chain = [Process(30, 499)]
    assert objection([PROOF | {"start": 499, "service": "login"}], chain, "login", SINCE) is None


def test_a_session_through_another_service_proves_nothing() -> None:
    assert "came in through sshd" in (judge("login") or "")


def test_one_session_that_proves_it_is_enough() -> None:
    nested = [PROOF | {"factor": "none"}, PROOF | {"pid": 40, "start": 900}]
    assert objection(nested, CHAIN, "sshd", SINCE) is None


def test_the_ancestors_are_this_process_and_its_parents_alive_up_to_the_first() -> None:
    chain = ancestors()
    assert [process.pid for process in chain[:2]] == [os.getpid(), os.getppid()]
    assert all(is_alive(process) for process in chain)
