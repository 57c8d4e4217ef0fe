"""Single values: each parser takes what it promises, and refuses the rest without repeating it."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlingd.config import values
from starlingd.config.sections import DEFINITION, LogLevel
from starlingd.config.values import Unfit

Parser = Callable[[str], object]

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
        (values.secret, "", "not empty"),
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
