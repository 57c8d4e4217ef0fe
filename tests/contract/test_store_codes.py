"""What every Store keeps to about authenticator apps, recovery codes and helpdesk codes: each code is used up once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from starlingd.core.localcodes import HelpdeskCode, Recovery
from starlingd.core.model import Check
from starlingd.core.otp import Algorithm, Over, Token
from starlingd.ports import Fault, Store, Unavailable

ALICE = Token("alice", b"\0box", Algorithm.SHA512, 8, 60, 1_700_000_000.25, used=7, drift=-2)
CODE = HelpdeskCode("alice", b"salt", b"digest", "root (uid 0)", 1234.5, "boot-1", 900.0)
KEPT = Recovery(b"salt", frozenset({b"one", b"two"}))


def accept(token: Token) -> tuple[Check, Token]:
    return Check.RIGHT, replace(token, used=token.used + 1)


def test_a_new_store_knows_no_code(store: Store) -> None:
    assert store.token("alice") is None
    assert store.tokens() == []
    assert store.recovery("alice") is None
    assert store.helpdesk_code("alice") is None
    assert store.use_token("alice", accept) is Check.NOT_ENROLLED
    assert store.use_recovery("alice", b"one") is None
    assert store.use_helpdesk_code("alice", b"digest") is None


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_an_app_comes_back_as_it_was(store: Store, algorithm: Algorithm) -> None:
    token = replace(ALICE, algorithm=algorithm)
    assert store.save_token(token, Over.NO_APP)
    assert store.token("alice") == token
    assert store.had_second_factor("alice")


def test_an_app_is_replaced_only_when_that_is_meant(store: Store) -> None:
    other = replace(ALICE, box=b"other")
    store.save_token(ALICE, Over.NO_APP)
    assert not store.save_token(other, Over.NO_APP)
    assert store.token("alice") == ALICE
    assert store.save_token(other, Over.ANY)
    assert store.tokens() == [other]


def test_apps_are_told_by_user_and_forgotten_one_by_one(store: Store) -> None:
    for name in ("carol", "alice", "bob"):
        store.save_token(replace(ALICE, user=name), Over.NO_APP)
    assert store.forget_token("bob")
    assert not store.forget_token("bob")
    assert [token.user for token in store.tokens()] == ["alice", "carol"]


def test_using_an_app_keeps_what_the_judge_makes_of_it(store: Store) -> None:
    store.save_token(ALICE, Over.NO_APP)
    assert store.use_token("alice", accept) is Check.RIGHT
    assert store.use_token("alice", lambda token: (Check.WRONG, token)) is Check.WRONG
    assert store.token("alice") == replace(ALICE, used=8)


def test_a_judge_that_cannot_tell_keeps_nothing(store: Store) -> None:
    store.save_token(ALICE, Over.NO_APP)

    def cannot(_: Token) -> tuple[Check, Token]:
        raise Unavailable("totp", Fault.MISCONFIGURED, "no key")

    with pytest.raises(Unavailable) as caught:
        store.use_token("alice", cannot)
    assert caught.value.port == "totp"
    assert store.token("alice") == ALICE
    assert store.use_token("alice", accept) is Check.RIGHT


def test_all_apps_are_sealed_anew(store: Store) -> None:
    for name in ("carol", "alice", "bob"):
        store.save_token(replace(ALICE, user=name), Over.NO_APP)

    def seal(token: Token) -> Token:
        return replace(token, box=token.user.encode())

    assert store.reseal_tokens(seal, "", 2) == ["alice", "bob"]
    assert store.reseal_tokens(seal, "bob", 2) == ["carol"]
    assert store.reseal_tokens(seal, "carol", 2) == []
    assert [token.box for token in store.tokens()] == [b"alice", b"bob", b"carol"]


def test_whoever_ever_had_a_second_factor_is_no_newcomer(store: Store) -> None:
    store.save_recovery("alice", KEPT)
    assert not store.save_token(ALICE, Over.NOTHING)
    assert store.token("alice") is None
    assert store.save_token(replace(ALICE, user="bob"), Over.NOTHING)
    assert store.forget_token("bob")
    assert not store.save_token(replace(ALICE, user="bob"), Over.NOTHING)
    assert store.save_token(ALICE, Over.NO_APP)


def test_recovery_and_helpdesk_codes_are_forgotten(store: Store) -> None:
    assert not store.forget_recovery("alice")
    assert not store.forget_helpdesk_code("alice")
    store.save_recovery("alice", KEPT)
    store.save_helpdesk_code(CODE)
    assert store.forget_recovery("alice")
    assert store.forget_helpdesk_code("alice")
    assert store.recovery("alice") is None
    assert store.helpdesk_code("alice") is None


def test_a_recovery_code_is_used_up_and_the_others_are_left(store: Store) -> None:
    store.save_recovery("alice", KEPT)
    store.save_recovery("bob", KEPT)
    assert store.recovery("alice") == KEPT
    assert store.use_recovery("alice", b"three") is None
    assert store.use_recovery("alice", b"one") == 1
    assert store.use_recovery("alice", b"one") is None
    assert store.recovery("alice") == Recovery(b"salt", frozenset({b"two"}))
    assert store.use_recovery("alice", b"two") == 0
    assert store.recovery("alice") is None
    assert store.recovery("bob") == KEPT


def test_new_recovery_codes_void_the_old_ones(store: Store) -> None:
    store.save_recovery("alice", KEPT)
    store.save_recovery("alice", Recovery(b"other", frozenset({b"new"})))
    assert store.use_recovery("alice", b"one") is None
    assert store.recovery("alice") == Recovery(b"other", frozenset({b"new"}))


def test_a_helpdesk_code_is_used_up_and_replaced(store: Store) -> None:
    store.save_helpdesk_code(CODE)
    assert store.helpdesk_code("alice") == CODE
    assert store.use_helpdesk_code("alice", b"other") is None
    assert store.use_helpdesk_code("alice", b"digest") == CODE
    assert store.use_helpdesk_code("alice", b"digest") is None
    store.save_helpdesk_code(CODE)
    store.save_helpdesk_code(replace(CODE, digest=b"newer"))
    assert store.use_helpdesk_code("alice", b"digest") is None
    assert store.use_helpdesk_code("alice", b"newer") == replace(CODE, digest=b"newer")


def test_whoever_was_given_an_app_or_recovery_codes_ever_had_a_second_factor(store: Store) -> None:
    store.save_helpdesk_code(CODE)
    assert not store.had_second_factor("alice")
    store.save_recovery("alice", KEPT)
    store.save_token(replace(ALICE, user="bob"), Over.NO_APP)
    assert store.forget_token("bob")
    assert store.had_second_factor("alice")
    assert store.had_second_factor("bob")
