"""Packets: what is encoded comes out as it went in, and nothing else comes out at all."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pam_starling.protocol import MAX_FIELDS, MAX_PACKET, ProtocolError, decode, encode

KEYS = st.text(string.ascii_letters + string.digits + "_.", min_size=1, max_size=20).filter(lambda key: key != "op")
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)
FIELDS = st.dictionaries(KEYS, VALUES, max_size=MAX_FIELDS - 1)
OPERATIONS = VALUES.filter(bool)


@settings(derandomize=True)
@given(OPERATIONS, FIELDS)
def test_what_is_encoded_comes_out_as_it_went_in(op: str, fields: dict[str, str]) -> None:
    assert decode(encode(op, fields)) == (op, fields)


@settings(derandomize=True, max_examples=500)
@given(
    st.binary(max_size=60) | st.lists(st.sampled_from([b"op=done", b"a=", b"=", b"b", b"\0", b"\xff"])).map(b"".join)
)
@example(b"op=done\0op=done")
def test_whatever_comes_in_is_a_packet_or_breaks_the_rules(data: bytes) -> None:
    """There is one way to write each packet, but for the place of its operation."""
    try:
        op, fields = decode(data)
    except ProtocolError:
        return
    assert sorted(encode(op, fields).split(b"\0")) == sorted(data.split(b"\0"))


@settings(derandomize=True)
@given(OPERATIONS, FIELDS, st.data())
def test_no_part_of_a_packet_is_taken_for_the_whole_of_another_field(
    op: str, fields: dict[str, str], data: st.DataObject
) -> None:
    """A packet that lost its end keeps every field but the last as it was."""
    packet = encode(op, fields)
    part = packet[: data.draw(st.integers(0, len(packet) - 1))]
    try:
        cut_op, cut = decode(part)
    except ProtocolError:
        return
    whole = list(cut.items())[:-1]
    assert whole == list(fields.items())[: len(whole)]
    assert op.startswith(cut_op)


WRONG = [
    b"",
    b"\0",
    b"op=",
    b"op",
    b"a=1",
    b"op=a\0",
    b"\0op=a",
    b"op=a\0\0b=1",
    b"op=a\0b",
    b"op=a\0=1",
    b"op=a\0b=1\0b=1",
    b"op=a\0op=b",
    b"op=a\0b-c=1",
    b"op=a\0b =1",
    "op=a\0é=1".encode(),
    b"op=a\0b=\xff",
    b"op=a\0b=\xed\xa0\x80",
    b"op=a\0b=" + b"x" * MAX_PACKET,
    b"op=a" + b"".join(b"\0f%d=" % number for number in range(MAX_FIELDS)),
]


@pytest.mark.parametrize("packet", WRONG)
def test_a_packet_that_breaks_a_rule_is_refused(packet: bytes) -> None:
    with pytest.raises(ProtocolError) as error:
        decode(packet)
    assert len(str(error.value)) < 50


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("", {}),
        ("a\0b=1", {}),
        ("a", {"op": "b"}),
        ("a", {"": "1"}),
        ("a", {"b=": "1"}),
        ("a", {"b": "1\0c=2"}),
        ("a", {"b": "secret\ud800"}),
        ("a", {"b": "x" * MAX_PACKET}),
        ("a", {f"f{number}": "" for number in range(MAX_FIELDS)}),
    ],
)
def test_what_would_not_come_out_as_it_went_in_is_not_encoded(op: str, fields: dict[str, str]) -> None:
    with pytest.raises(ProtocolError) as error:
        encode(op, fields)
    assert "secret" not in str(error.value)


def test_the_largest_packet_passes() -> None:
    fields = {"text": "x" * (MAX_PACKET - len(b"op=say\0text="))}
    assert decode(encode("say", fields)) == ("say", fields)
    most = {f"f{number}": "" for number in range(MAX_FIELDS - 1)}
    assert decode(encode("say", most)) == ("say", most)
