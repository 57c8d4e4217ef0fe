"""Who is asked about whom, and what is a code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlingd.core.model import Account
from starlingd.core.policy import LONGEST_TYPED_CODE, code_in, identity_of, may_use_second_factor, might_be_code
from starlingd.core.rules import Rules
from tests.unit.script import ALICE, LOGIN, ROOT

RULES = Rules(explicit_mapping={"alice": "17", "bob": "", "example\\carol": "33", "dave": "44", "root": "1"})


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("123456", "123456"),
        ("123456789012", "123456789012"),
        (" 123 456 ", "123456"),
        ("\t123\u00a0456\n", "123456"),
        ("1 2 3 4 5 6 7 8 9 0 1 2 ", "123456789012"),
        ("12345", None),
        ("1234567890123", None),
        ("", None),
        ("      ", None),
        ("12345a", None),
        ("-123456", None),
        ("+123456", None),
        ("123456.0", None),
        ("1_234_567", None),
        ("1e123456", None),
        ("\u0661\u0662\u0663\u0664\u0665\u0666", None),
        ("\uff11\uff12\uff13\uff14\uff15\uff16", None),
        ("²³⁴⁵⁶⁷", None),
        ("123456\x00", None),
        ("123456\x1b[2J", None),
        ("123\u200b456", None),
        ("123456" + " " * 19, None),
        ("\u3000" * 7 + "123456", None),
    ],
)
def test_a_code_is_6_to_12_ascii_digits_in_at_most_24_bytes(typed: str, code: str | None) -> None:
    assert code_in(typed) == code


@settings(max_examples=500, deadline=None)
@given(typed=st.text(max_size=40) | st.text(" 0123456789", max_size=40))
def test_only_digits_leave_the_host_and_whatever_is_a_code_looks_like_one(typed: str) -> None:
    code = code_in(typed)
    if code is not None:
        assert set(code) <= set("0123456789")
        assert 6 <= len(code) <= 12
        assert might_be_code(typed)


@settings(max_examples=300, deadline=None)
@given(typed=st.text(max_size=40), filling=st.characters(codec="ascii"))
def test_how_long_an_answer_takes_depends_on_its_length_alone(typed: str, filling: str) -> None:
    assert might_be_code(typed) == might_be_code(filling * len(typed.encode()))


@pytest.mark.parametrize(
    ("length", "might"), [(0, False), (5, False), (6, True), (LONGEST_TYPED_CODE, True), (25, False)]
)
def test_the_lengths_that_might_be_a_code(length: int, *, might: bool) -> None:
    assert might_be_code("x" * length) is might


@pytest.mark.parametrize(
    ("account", "permit_root", "may"),
    [
        (None, False, False),
        (None, True, False),
        (ALICE, False, True),
        (ROOT, False, False),
        (ROOT, True, True),
        (Account("toor", 0), False, False),
        (Account("root", 1000), False, True),
    ],
    ids=str,
)
def test_an_account_that_exists_may_and_uid_0_only_where_permitted(
    account: Account | None, *, permit_root: bool, may: bool
) -> None:
    rules = replace(RULES, permit_root=permit_root)
    assert may_use_second_factor(account, rules) is may
    assert (identity_of(LOGIN, account, rules) is not None) is may


@pytest.mark.parametrize(
    ("user", "name", "identity"),
    [
        ("alice", "alice", "17"),
        ("ALICE", "alice", "17"),
        ("EXAMPLE\\alice", "alice", "17"),
        ("alice@example.org", "alice", "17"),
        ("alice", "EXAMPLE\\Alice", "17"),
        ("Example\\Carol", "carol", "33"),
        ("bob", "bob", "bob"),
        ("erin", "Erin", "Erin"),
        ("EXAMPLE\\dave", "Dave", "44"),
    ],
)
def test_each_spelling_of_an_account_is_one_identity(user: str, name: str, identity: str) -> None:
    assert identity_of(replace(LOGIN, user=user), Account(name, 1000), RULES) == identity


@pytest.mark.parametrize("user", ["root", "alice", "dave"])
def test_a_mapping_makes_nobody_somebody(user: str) -> None:
    login = replace(LOGIN, user=user)
    assert identity_of(login, None, RULES) is None
    assert identity_of(login, ROOT, RULES) is None
