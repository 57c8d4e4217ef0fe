"""A module's first packet becomes a Login, or a ProtocolError that says which field is wrong."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_starling.protocol import ProtocolError
from starlingd.core.model import Process
from starlingd.server.requests import LONGEST_DEADLINE, client_address, fold, parse_login

GOOD = {
    "v": "1",
    "user": "alice",
    "service": "sshd",
    "rhost": "198.51.100.7",
    "tty": "ssh",
    "conn": "198.51.100.7 50000 192.0.2.1 22",
    "authinfo": "publickey ssh-ed25519 AAAA",
    "first_factor": "",
    "ppid": "41",
    "start": "1000",
    "pstart": "900",
    "deadline": "99.5",
    "login": "",
}


def test_the_callers_pid_is_the_kernels_and_the_deadline_is_absolute() -> None:
    login = parse_login({**GOOD, "pid": "1"}, pid=42, now=1000.0)
    assert login.caller == Process(42, 1000)
    assert login.parent == Process(41, 900)
    assert math.isclose(login.deadline, 1099.5)
    assert login.client_ip == "198.51.100.7"


@pytest.mark.parametrize("field", ["v", "user", "service", "ppid", "start", "pstart", "deadline"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ProtocolError, match=field):
        parse_login({key: value for key, value in GOOD.items() if key != field}, 42, 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", "2"),
        ("v", "0"),
        ("v", "one"),
        ("ppid", "-1"),
        ("start", "1e3"),
        ("start", "٣"),
        ("pstart", "9" * 21),
        ("deadline", "nan"),
        ("deadline", "inf"),
        ("deadline", "0"),
        ("deadline", "-5"),
        ("deadline", str(LONGEST_DEADLINE + 1)),
        ("conn", "198.51.100.7 50000"),
        ("conn", "bastion 50000 192.0.2.1 22"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(field: str, value: str) -> None:
    with pytest.raises(ProtocolError):
        parse_login({**GOOD, field: value}, 42, 0.0)


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_an_address_has_one_form(written: str, folded: str) -> None:
    assert fold(written) == folded


@pytest.mark.parametrize("rhost", ["", "client.example.org", "192.0.2.1 or so", "192.0.2.300"])
def test_a_host_name_is_no_address(rhost: str) -> None:
    assert client_address("", rhost) == ""


def test_the_connections_numbers_win_over_rhost() -> None:
    assert client_address("192.0.2.9 1 192.0.2.1 22", "198.51.100.7") == "192.0.2.9"


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.text(max_size=40)))
def test_any_fields_make_a_login_or_a_protocol_error(changes: dict[str, str]) -> None:
    try:
        login = parse_login({**GOOD, **changes}, 42, 0.0)
    except ProtocolError:
        return
    assert login.user
    assert 0 < login.deadline <= LONGEST_DEADLINE
