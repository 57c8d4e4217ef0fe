"""Single values: each parser takes what it promises, and refuses the rest without repeating it."""

import contextlib
import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlingd.config import days, values
from starlingd.config.sections import DEFINITION, LogLevel
from starlingd.config.values import Unfit
from starlingd.core.rules import Bind, NotEnrolled, Unenrolled

Parser = Callable[[str], object]

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
whole = values.integer(1, 10)
time = values.seconds(1, 100_000)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.boolean, "yes", True),
        (values.boolean, "On", True),
        (values.boolean, "0", False),
        (whole, "10", 10),
        (time, "90", 90),
        (time, "90s", 90),
        (time, "15m", 900),
        (time, "12 h", 43200),
        (time, "1d", 86400),
        (time, "1.5m", 90),
        (values.fraction(0.1, 60), "2.5", 2.5),
        (values.choice(LogLevel), "WARNING", LogLevel.WARNING),
        (values.text, "one\ntwo {any} 50%", "one\ntwo {any} 50%"),
        (values.template("a", "b"), "x {a} } {b}{", "x {a} } {b}{"),
        (values.word, "Staging-2", "staging-2"),
        (values.words, "a, b,,c ,", ("a", "b", "c")),
        (values.host, "Proxy.example.org", "proxy.example.org"),
        (values.host, "192.0.2.1", "192.0.2.1"),
        (values.host, "2001:DB8::1", "[2001:db8::1]"),
        (values.host, "[2001:db8::1]", "[2001:db8::1]"),
        (values.https_origin, "https://Example.org", "https://example.org"),
        (values.https_origin, "HTTPS://example.org:8443/", "https://example.org:8443"),
        (values.https_origin, "https://[::1]:8443", "https://[::1]:8443"),
        (values.absolute_path, "/etc/ca.pem", Path("/etc/ca.pem")),
        (values.identity, "", ""),
        (values.choices(Bind), "USER,ssh_key", frozenset({Bind.USER, Bind.SSH_KEY})),
        (values.words, "a\nb, c", ("a", "b", "c")),
        (values.names, "", ()),
        (values.networks, "", ()),
        (values.networks, "192.0.2.7, 10.0.0.0/8", (ip_network("192.0.2.7/32"), ip_network("10.0.0.0/8"))),
        (values.networks, "2001:db8::/32\n::/0", (ip_network("2001:db8::/32"), ip_network("::/0"))),
        (values.networks, "::ffff:192.0.2.0/120, ::ffff:0:0/96", (ip_network("192.0.2.0/24"), ip_network("0.0.0.0/0"))),
        (values.groups, "", ()),
        (values.groups, "a b,, c\nd ,", ("a b", "c", "d")),
        (values.groups, ' "cn=a, ou=b" , "x, y", z', ("cn=a, ou=b", "x, y", "z")),
        (values.attribute, "employeeNumber", "employeeNumber"),
        (values.attribute, "1.2.840.113556", "1.2.840.113556"),
        (values.dn, "cn=a\\, b, dc=x", "cn=a\\, b, dc=x"),
        (values.search_filter("user"), "(&(a=b)(c={user}))", "(&(a=b)(c={user}))"),
        (
            values.directory_uris,
            "ldap://A:389, ldaps://[::1], ldapi://%2Fs",
            ("ldap://a:389", "ldaps://[::1]", "ldapi://%2Fs"),
        ),
        (values.directory_uris, "ldapi://%2Frun%2Fldapi", ("ldapi://%2Frun%2Fldapi",)),
        (values.domain, "", ""),
        (values.domain, "example.org", "example.org"),
        (values.answer_key, "Ticket_1", "Ticket_1"),
        (values.pattern, r"(?i)[a-z]{2,5}-\d+", r"(?i)[a-z]{2,5}-\d+"),
        (values.region, "de", "DE"),
        (days.unenrolled, "Enrol", Unenrolled(NotEnrolled.ENROL)),
        (days.enforcement, "Yes", 0.0),
        (days.enforcement, "observe  until 1970-01-01", 86400.0),
        (days.unenrolled, "allow_until 1970-01-01", Unenrolled(NotEnrolled.ALLOW_UNTIL, 86400.0)),
    ],
)
def test_a_value_that_fits_is_given_its_type(parse: Parser, text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (values.boolean, "maybe", "yes or no"),
        (values.boolean, "", "yes or no"),
        (whole, "0", "from 1 to 10"),
        (whole, "-1", "from 1 to 10"),
        (whole, "11", "from 1 to 10"),
        (whole, "1.0", "whole number"),
        (whole, "٣", "whole number"),
        (whole, "9" * 5000, "whole number"),
        (time, "-5", "negative"),
        (time, "0", "from 1 to 100000 seconds"),
        (time, "2d", "from 1 to 100000 seconds"),
        (time, "5 weeks", "unit"),
        (time, "1h30m", "unit"),
        (time, "15M", "unit"),
        (time, "1.5", "fraction"),
        (time, "nan", "unit"),
        (values.fraction(0.1, 60), "0", "from 0.1 to 60 seconds"),
        (values.fraction(0.1, 60), "inf", "unit"),
        (values.choice(LogLevel), "loud", "debug or info or warning"),
        (values.text, "", "empty"),
        (values.text, "é" * 251, "500 bytes"),
        (values.line, "a\nb", "one line"),
        (values.template("gateway", "user"), "{usr}", "did you mean {user}"),
        (values.template("gateway", "user"), "{}", "{gateway}, {user} only"),
        (values.word, "a.b", "word"),
        (values.word, "", "word"),
        (values.words, " , ", "empty"),
        (values.host, "http://proxy", "alone"),
        (values.host, "proxy:3128", "alone"),
        (values.host, "a..b", "alone"),
        (values.host, "", "alone"),
        (values.host, "a" * 254, "alone"),
        (values.host, "fe80::1%eth0", "alone"),
        (values.https_origin, "http://example.org", "must begin with https://"),
        (values.https_origin, "example.org", "https://HOST"),
        (values.https_origin, "ftp://example.org", "https://HOST"),
        (values.https_origin, "https://", "https://HOST"),
        (values.https_origin, "https://user:pw@example.org", "nothing more"),
        (values.https_origin, "https://example.org/v1", "nothing more"),
        (values.https_origin, "https://example.org?", "nothing more"),
        (values.https_origin, "https://example.org/#", "nothing more"),
        (values.https_origin, "https://example.org:0", "nothing more"),
        (values.https_origin, "https://example.org:99999", "https://HOST"),
        (values.https_origin, "https://[::1", "https://HOST"),
        (values.https_origin, "https://exam\nple.org", "nothing more"),
        (values.https_origin, "https://exämple.org", "https://HOST"),
        (values.absolute_path, "ca.pem", "beginning with /"),
        (values.absolute_path, "", "empty"),
        (values.choices(Bind), "user, host", "must be user or client_ip"),
        (values.networks, "192.0.2.1/24", "item 1"),
        (values.networks, "10.0.0.0/8, 10.0.0.1-10.0.0.9", "item 2"),
        (values.networks, "fe80::%eth0/64", "item 1"),
        (values.groups, "cn=a,dc=b", "double quotes"),
        (values.groups, 'a "b"', "quote out of place"),
        (values.groups, '"cn=a,dc=b', "quote out of place"),
        (values.groups, '"cn=a" "cn=b"', "quote out of place"),
        (values.groups, '"cn=,dc=b"', "distinguished name"),
        (values.attribute, "mail;lang-de", "one attribute"),
        (values.attribute, "mail,cn", "one attribute"),
        (values.dn, "example.org", "distinguished name"),
        (values.dn, "cn=a\\", "distinguished name"),
        (values.search_filter("user"), "(uid=alice)", "must hold {user}"),
        (values.search_filter("user"), "uid={user}", "in parentheses"),
        (values.search_filter("user"), "(a={user})(b=c)", "in parentheses"),
        (values.search_filter("user"), "(a={user})x", "in parentheses"),
        (values.search_filter("user"), "(a={usr})", "did you mean {user}?"),
        (values.directory_uris, "dc.example.org", "ldap://HOST"),
        (values.directory_uris, "ldap://u:p@dc", "ldap://HOST"),
        (values.directory_uris, "ldap://dc/dc=x", "ldap://HOST"),
        (values.directory_uris, "ldap://", "ldap://HOST"),
        (values.directory_uris, "ldap://dc:0", "ldap://HOST"),
        (values.directory_uris, "ldapi:///run/ldapi", "ldapi://%2FSOCKET"),
        (values.directory_uris, "ldapi://", "ldapi://%2FSOCKET"),
        (values.directory_uris, "ldap://[::1", "ldap://HOST"),
        (values.domain, "a@b", "must not contain @"),
        (values.domain, "a b", "a domain alone"),
        (values.answer_key, "otp", "must not be otp"),
        (values.answer_key, "a-b", "letters, digits and _"),
        (values.pattern, "(", "no regular expression"),
        (values.pattern, "a\nb", "one line"),
        (values.region, "DEU", "two letters"),
        (days.unenrolled, "allow_until 2030-02-30", "2030-12-31"),
        (days.enforcement, "observe until 2030-02-30", "2030-12-31"),
        (days.enforcement, "observe", "2030-12-31"),
        (days.enforcement, "no", "2030-12-31"),
        (days.enforcement, "2030-12-31", "2030-12-31"),
        (days.unenrolled, "allow_until", "2030-12-31"),
        (days.unenrolled, "deny 2030-01-01", "2030-12-31"),
        (values.secret, "", "not empty"),
        (values.vault_key, "", "32 random bytes in base64"),
        (values.vault_key, " \n", "32 random bytes in base64"),
        (values.vault_key, f"{KEY} x", "32 random bytes in base64"),
        (values.secret, "a\nb", "one line"),
        (values.credential, "onlyone", "client_id:client_secret"),
        (values.credential, ":secret", "client_id:client_secret"),
        (values.credential, "id:", "client_id:client_secret"),
        (values.credential, "id:sec ret", "client_id:client_secret"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_to_write(parse: Parser, text: str, said: str) -> None:
    with pytest.raises(Unfit, match=re.escape(said)):
        parse(text)


def test_a_credential_is_cut_at_its_first_colon() -> None:
    credential = values.credential("id:se:cret")
    assert (credential.client_id, credential.client_secret.reveal()) == ("id", "se:cret")
    assert "se:cret" not in repr(credential)


PARSERS = [key.parse for section in DEFINITION for key in section.definitions()]


@given(st.sampled_from(PARSERS), st.text())
def test_a_parser_gives_a_value_or_says_unfit_and_nothing_else(parse: Parser, text: str) -> None:
    with contextlib.suppress(Unfit):
        assert parse(text) is not None
