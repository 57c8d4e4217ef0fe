"""Text on its way into filters and out of directories, and what an entry's numbers mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import compile_filter, parse_filter

from starlingd.adapters.ldap.link import Entry
from starlingd.adapters.ldap.schemas import SCHEMAS, compared, sid
from starlingd.adapters.ldap.words import LONGEST_VALUE, escape, same_dn, text
from starlingd.config.directory import GROUP_FILTERS, USER_FILTERS
from starlingd.core.directory import Person, Standing
from starlingd.core.rules import DirectorySchema
from tests.directory.ldif import escaped

AD, OLD = SCHEMAS[DirectorySchema.AD], SCHEMAS[DirectorySchema.RFC2307]
DAY = 86400
FILETIME_1970 = 116444736000000000
WORDS = st.text(st.characters(exclude_categories=["Cs"]))


@given(WORDS)
def test_an_escaped_value_reaches_the_server_as_it_is(value: str) -> None:
    parsed = parse_filter(f"(uid={escape(value)})", None, False, False, None, False)
    match = compile_filter(parsed.elements[0])["equalityMatch"]
    assert bytes(match["assertionValue"]) == value.encode()
    assert str(match["attributeDesc"]) == "uid"


@given(WORDS)
def test_an_escaped_value_has_nothing_that_means_anything(value: str) -> None:
    assert not set(escape(value)) & set("()*&|!=<>~: \0")


def test_what_is_no_text_cannot_be_escaped() -> None:
    with pytest.raises(UnicodeEncodeError):
        escape("zo\udcff")


@given(st.binary())
def test_what_comes_out_can_be_printed(value: bytes) -> None:
    read = text(value)
    assert read is None or (read.encode() == value and all(each.isprintable() or each == " " for each in _ascii(read)))


def _ascii(read: str) -> str:
    return "".join(each for each in read if each.isascii())


@pytest.mark.parametrize(
    "value",
    [b"\x1b[31m", b"\x00", b"a\nb", b"\x7f", b"\xc2\x9b31m", b"\xff", "\u202e".encode(), "\u2028".encode(),
     b"x" * (LONGEST_VALUE + 1), b"\xed\xa0\x80", "\ue000".encode()],
)  # fmt: skip
def test_what_could_do_harm_does_not_come_out(value: bytes) -> None:
    assert text(value) is None


@pytest.mark.parametrize("value", ["", " ", "Zürich", "Ünal", "山田", "x" * LONGEST_VALUE, "a\u00a0b", "נועה"])
def test_decent_text_comes_out(value: str) -> None:
    assert text(value.encode()) == (value if len(value.encode()) <= LONGEST_VALUE else None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("UID=Alice, OU=People,dc=example", "uid=alice,ou=people,DC=Example"),
        ("cn=a\\, b,dc=x", "cn=a\\2c b,dc=x"),
        ("cn=a\\2C b,dc=x", "CN=A\\,  B,DC=x"),
        ("cn=a+uid=b,dc=x", "uid=b + cn=a,dc=x"),
        ("cn=Z\\c3\\bcrich,dc=x", "cn=zürich,dc=x"),
        ("cn=a\\20b,dc=x", "cn=a b,dc=x"),
    ],
)
def test_two_spellings_of_a_dn_are_one(one: str, other: str) -> None:
    assert same_dn(one) == same_dn(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cn=a\\,dc=x", "cn=a,dc=x"),
        ("cn=a\\+b,dc=x", "cn=a+b,dc=x"),
        ("cn=a\\=b,dc=x", "cn=a,b,dc=x"),
        ("cn=a,dc=x", "uid=a,dc=x"),
        ("cn=a,dc=x", "cn=a,dc=x,dc=y"),
        ("cn=a\\5c2cb,dc=x", "cn=a\\2cb,dc=x"),
        ("cn=a\\ff,dc=x", "cn=a\\fe,dc=x"),
    ],
)
def test_two_dns_are_two(one: str, other: str) -> None:
    assert same_dn(one) != same_dn(other)


@given(WORDS, WORDS)
def test_different_names_have_different_dns(one: str, other: str) -> None:
    same = " ".join(one.casefold().split()) == " ".join(other.casefold().split())
    assert (same_dn(f"cn={escaped(one)},dc=x") == same_dn(f"cn={escaped(other)},dc=x")) == same


@given(st.text())
def test_any_dn_can_be_compared(dn: str) -> None:
    assert same_dn(dn) == same_dn(dn)


# What an entry's numbers mean


def entry(**values: bytes) -> Entry:
    return Entry("cn=x", {name.lower(): (value,) for name, value in values.items()})


def filetime(seconds: int) -> bytes:
    return str(FILETIME_1970 + seconds * 10_000_000).encode()


@pytest.mark.parametrize(
    ("standing", "values"),
    [
        (Standing.ACTIVE, {"userAccountControl": b"512"}),
        (Standing.ACTIVE, {"userAccountControl": b"66048", "accountExpires": b"0"}),
        (Standing.ACTIVE, {"userAccountControl": b"512", "accountExpires": b"9223372036854775807"}),
        (Standing.ACTIVE, {"userAccountControl": b"512", "accountExpires": filetime(100 * DAY + 1)}),
        (Standing.EXPIRED, {"userAccountControl": b"512", "accountExpires": filetime(100 * DAY)}),
        (Standing.EXPIRED, {"userAccountControl": b"512", "accountExpires": b"1"}),
        (Standing.DISABLED, {"userAccountControl": b"514"}),
        (Standing.DISABLED, {"userAccountControl": b"514", "accountExpires": b"1"}),
        (Standing.UNCLEAR, {}),
        (Standing.UNCLEAR, {"userAccountControl": b""}),
        (Standing.UNCLEAR, {"userAccountControl": b"0x200"}),
        (Standing.UNCLEAR, {"userAccountControl": b"512", "accountExpires": b"never"}),
        (Standing.UNCLEAR, {"userAccountControl": b"512", "accountExpires": b"9" * 400}),
    ],
)
def test_standing_in_active_directory(standing: Standing, values: dict[str, bytes]) -> None:
    assert AD.standing(entry(**values), 100.0 * DAY) is standing


@pytest.mark.parametrize(
    ("standing", "values"),
    [
        (Standing.ACTIVE, {}),
        (Standing.ACTIVE, {"shadowExpire": b"-1"}),
        (Standing.ACTIVE, {"shadowExpire": b"101"}),
        (Standing.EXPIRED, {"shadowExpire": b"100"}),
        (Standing.EXPIRED, {"shadowExpire": b"0"}),
        (Standing.UNCLEAR, {"shadowExpire": b"soon"}),
        (Standing.UNCLEAR, {"shadowExpire": "\u0661".encode()}),
    ],
)
def test_standing_elsewhere(standing: Standing, values: dict[str, bytes]) -> None:
    assert OLD.standing(entry(**values), 100.0 * DAY) is standing


@pytest.mark.parametrize("standing", [each for each in Standing if each is not Standing.ACTIVE])
def test_only_active_accounts_may_log_in(standing: Standing) -> None:
    assert not Person("alice", "cn=alice", standing).may_log_in
    assert Person("alice", "cn=alice").may_log_in


def test_a_security_identifier_is_written_as_people_write_it() -> None:
    assert sid(bytes.fromhex("010500000000000515000000574d5129c26bbd02d4a77b9bf4010000")) == (
        "S-1-5-21-693194071-45968322-2608572372-500"
    )


@pytest.mark.parametrize("value", [None, b"", b"\x01", b"\x01\x05" + bytes(6), b"S-1-5-21-1-2-3-500"])
def test_what_is_no_security_identifier(value: bytes | None) -> None:
    assert sid(value) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_an_identifier_or_none(value: bytes) -> None:
    found = sid(value)
    assert found is None or found.startswith("S-")


@pytest.mark.parametrize("schema", DirectorySchema)
def test_default_filters_show_what_they_compare(schema: DirectorySchema) -> None:
    assert compared(USER_FILTERS[schema], "user") == (SCHEMAS[schema].name,)
    listed = compared(GROUP_FILTERS[schema], "dn") + compared(GROUP_FILTERS[schema], "user")
    assert listed == {"ad": (), "rfc2307": ("memberUid",), "rfc2307bis": ("member",)}[schema]
