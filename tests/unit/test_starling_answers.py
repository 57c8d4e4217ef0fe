"""What an answer of the service is taken for, without any network."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlingd.adapters.starling import answers, tokens
from starlingd.ports import Fault, Unavailable
from starlingd.web import replies
from starlingd.web.https import Answer

NOW = 1_795_000_000.0  # Wed, 18 Nov 2026 11:06:40 GMT


def reply(status: int, content: object = None) -> answers.Reply:
    body = content if isinstance(content, bytes) or content is None else json.dumps(content).encode()
    return answers.read(Answer(status, "", body))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Wed, 18 Nov 2026 11:07:10 GMT", 30.0),
        ("Wednesday, 18-Nov-26 11:07:10 GMT", 30.0),
        ("Wed, 18 Nov 2026 11:07:10 -0000", 30.0),
        ("Wed, 18 Nov 2026 13:07:10 +0200", 30.0),
        ("", replies.DEFAULT_RETRY_AFTER),
        ("soon", replies.DEFAULT_RETRY_AFTER),
        ("1.5", replies.DEFAULT_RETRY_AFTER),
        ("-3", replies.DEFAULT_RETRY_AFTER),
        ("٣", replies.DEFAULT_RETRY_AFTER),
        ("5, 10", replies.DEFAULT_RETRY_AFTER),
        ("0", replies.LEAST_RETRY_AFTER),
        ("Wed, 18 Nov 2020 11:07:10 GMT", replies.LEAST_RETRY_AFTER),
        ("9" * 5000, replies.MOST_RETRY_AFTER),
        ("Wed, 18 Nov 9999 11:07:10 GMT", replies.MOST_RETRY_AFTER),
    ],
)
def test_retry_after_is_read_in_both_forms_and_within_reason(header: str, seconds: float) -> None:
    assert replies.seconds_to_wait(header, NOW) == pytest.approx(seconds)


@given(st.text())
def test_no_retry_after_header_breaks_anything(header: str) -> None:
    assert replies.LEAST_RETRY_AFTER <= replies.seconds_to_wait(header, NOW) <= replies.MOST_RETRY_AFTER


@pytest.mark.parametrize("code", [60016, "60016"])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 503])
def test_the_error_code_counts_before_the_status(status: int, code: object) -> None:
    answer = reply(status, {"errorMessage": {"errorCode": code, "x": 1.5}})
    assert answer.unknown_user
    assert not answer.succeeded


def test_an_unknown_error_code_leaves_the_status_to_decide() -> None:
    assert reply(404, {"errorMessage": {"errorCode": 1}}).unknown_user
    assert not reply(400, {"errorMessage": {"errorCode": 1}}).unknown_user


@pytest.mark.parametrize("body", [b"", b"valid", b"{}", b"[]", b"true", b'"ok"', b'{"errorMessage": null, "a": NaN}'])
@pytest.mark.parametrize("status", [200, 201])
def test_200_and_201_are_success_whatever_harmless_body_they_have(status: int, body: bytes) -> None:
    assert reply(status, body).succeeded


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"<html><body>Back soon</body></html>",
        b'  {"id": ',
        b"[" * 60000,
        b'{"errorMessage": "Token is invalid"}',
        b'{"errorMessage": {"errorCode": 1}}',
        b"{\xff}",
        b'{"a\x00": 1}',
    ],
)
def test_a_success_whose_body_says_otherwise_is_none(body: bytes | None) -> None:
    assert not reply(200, body).succeeded


@pytest.mark.parametrize("status", [100, 202, 204, 206, 301, 302, 307, 400, 401, 402, 403, 500])
def test_nothing_else_is_success(status: int) -> None:
    assert not reply(status, {"id": "1", "status": "approved"}).succeeded


@given(st.binary())
def test_no_body_breaks_the_reading(body: bytes) -> None:
    assert answers.read(Answer(500, "", body)).status == 500


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345678901234567890123, "12345678901234567890123"), ("007", "007"), (0, "0"), ("ü/..", "ü/..")],
)
def test_an_id_is_its_string_or_its_decimal_text(value: object, text: str) -> None:
    assert reply(200, {"id": value}).text("id") == text


@pytest.mark.parametrize("value", ["", None, True, 1.5, [], {}, ["1"], "x" * (replies.MAX_TEXT + 1)])
def test_an_id_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(Unavailable) as caught:
        reply(200, {"id": value}).text("id")
    assert caught.value.fault is Fault.BROKEN


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (429, Fault.RATE_LIMITED),
        (502, Fault.UNREACHABLE),
        (503, Fault.UNREACHABLE),
        (504, Fault.UNREACHABLE),
        (200, Fault.BROKEN),
        (302, Fault.BROKEN),
        (400, Fault.BROKEN),
        (403, Fault.BROKEN),
        (407, Fault.BROKEN),
        (500, Fault.BROKEN),
        (501, Fault.BROKEN),
        (599, Fault.BROKEN),
    ],
)
def test_only_502_to_504_mean_unreachable(status: int, fault: Fault) -> None:
    assert answers.failure(reply(status, b"<html>"), NOW).fault is fault


def test_an_error_code_is_in_the_detail_only_if_it_is_a_number() -> None:
    assert answers.failure(reply(400, {"errorMessage": {"errorCode": 17}}), NOW).detail == "status 400, error 17"
    assert answers.failure(reply(400, {"errorMessage": {"errorCode": "\x1b[2J"}}), NOW).detail == "status 400"


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (400, Fault.MISCONFIGURED),
        (401, Fault.MISCONFIGURED),
        (403, Fault.MISCONFIGURED),
        (404, Fault.MISCONFIGURED),
        (429, Fault.RATE_LIMITED),
        (500, Fault.BROKEN),
        (503, Fault.UNREACHABLE),
        (302, Fault.BROKEN),
    ],
)
def test_a_token_request_that_is_refused_is_our_credentials_fault(status: int, fault: Fault) -> None:
    with pytest.raises(Unavailable) as caught:
        tokens.from_reply(reply(status, {"error": "invalid_client"}), 0.0, NOW)
    assert caught.value.fault is fault


@pytest.mark.parametrize(
    ("expires_in", "usable_until"),
    [(300, 390.0), ("300", 390.0), (10, 100.0), (0, 90.0), (None, 150.0), (10**30, 86490.0)],
)
def test_a_token_is_used_until_10_seconds_before_it_expires(expires_in: object, usable_until: float) -> None:
    token = tokens.from_reply(reply(200, {"access_token": "abc", "expires_in": expires_in}), 100.0, NOW)
    assert token.usable_until == pytest.approx(usable_until)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"access_token": ""},
        {"access_token": ["a"]},
        {"access_token": "a\r\nX-Evil: 1"},
        {"access_token": "a b"},
        {"access_token": "ü"},
        {"access_token": "a", "expires_in": -1},
        {"access_token": "a", "expires_in": "soon"},
        {"access_token": "a", "expires_in": True},
        {"access_token": "x" * 100_000},
    ],
)
def test_a_token_that_cannot_be_used_is_an_outage(content: object) -> None:
    with pytest.raises(Unavailable) as caught:
        tokens.from_reply(reply(200, content), 0.0, NOW)
    assert caught.value.fault is Fault.BROKEN
