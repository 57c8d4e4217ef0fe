"""The provider's calls as the service sees them, and what its answers become."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from starlingd.core.model import Check, NotStarted, Push, PushStatus, Started
from starlingd.ports import Fault, SecondFactor, Unavailable
from tests.unit.starling_peer import TOKEN_PATH, Authority, Seen, http, scripted, talking

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.adapters.starling import Starling
    from tests.unit.starling_peer import Reaction

PUSH = Push("Login to héron", (("Gateway", "heron.example"), ("Number", "42")), 60)
UNKNOWN_USER = {"errorMessage": {"errorCode": 60016, "message": "User doesn't exist"}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def api_calls(seen: list[Seen]) -> list[Seen]:
    return [request for request in seen if request.target != TOKEN_PATH]


def fault_of(call: Callable[[], object]) -> Fault:
    with pytest.raises(Unavailable) as caught:
        call()
    assert caught.value.port == "starling"
    return caught.value.fault


def test_it_is_a_second_factor(authority: Authority) -> None:
    with talking(authority, scripted(http(200))) as (starling, _):
        provider: SecondFactor = starling
        assert provider.verify("7", "123456", 5.0) is Check.RIGHT


def test_the_requests_are_those_of_the_service(authority: Authority) -> None:
    answer = scripted(http(200), http(201, {"id": "r 1"}), http(200, {"status": "approved"}))
    with talking(authority, answer, user_agent="pam-starling/9") as (starling, peer):
        assert starling.verify("7", "123456", 5.0) is Check.RIGHT
        assert starling.start_push("7", PUSH, 5.0) == Started("r 1")
        assert starling.check_push("r 1", 5.0) is PushStatus.APPROVED
    token, verify, push, status = peer.seen
    assert (token.method, token.target) == ("POST", TOKEN_PATH)
    assert token.headers["authorization"] == "Basic Y2xpZW50OlRoZVNlY3JldA=="
    assert token.body == b"grant_type=client_credentials"
    assert token.headers["content-type"] == "application/x-www-form-urlencoded"
    assert (verify.method, verify.target) == ("GET", "/v1/Users/7/verify?tokenResponse=123456")
    assert (push.method, push.target) == ("POST", "/v1/Users/7/approvalrequests")
    assert json.loads(push.body) == {
        "message": "Login to héron",
        "secondsToExpire": 60,
        "details": {"Gateway": "heron.example", "Number": "42"},
    }
    assert list(json.loads(push.body)["details"]) == ["Gateway", "Number"]
    assert (status.method, status.target) == ("GET", "/v1/ApprovalRequests/r%201")
    assert {seen.headers["authorization"] for seen in (verify, push, status)} == {"Bearer TheToken"}
    assert {seen.headers["user-agent"] for seen in peer.seen} == {"pam-starling/9"}
    assert peer.connections == 1


@pytest.mark.parametrize(
    ("identity", "segment"),
    [
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a/../b", "a%2F..%2Fb"),
        ("a?b#c&d", "a%3Fb%23c%26d"),
        ("a%2Fb", "a%252Fb"),
        ("zoë@example.org", "zo%C3%AB%40example.org"),
        ("a b+c", "a%20b%2Bc"),
        ("a\r\nX: 1\x00", "a%0D%0AX%3A%201%00"),
        ("\udcff", "%ED%B3%BF"),
    ],
)
def test_an_identity_is_one_path_segment_whatever_it_holds(authority: Authority, identity: str, segment: str) -> None:
    with talking(authority, scripted(http(200))) as (starling, peer):
        starling.verify(identity, "1 2&3", 5.0)
    assert peer.seen[-1].target == f"/v1/Users/{segment}/verify?tokenResponse=1%202%263"


def test_an_empty_identity_is_nobodys_and_never_sent(authority: Authority) -> None:
    with talking(authority, scripted(http(200))) as (starling, peer):
        assert starling.verify("", "123456", 5.0) is Check.NOT_ENROLLED
        assert starling.start_push("", PUSH, 5.0) is NotStarted.NOT_ENROLLED
    assert peer.seen == []


@pytest.mark.parametrize("reaction", [http(404), http(400, UNKNOWN_USER), http(401, UNKNOWN_USER), http(404, b"<p>")])
def test_404_and_60016_mean_not_enrolled(authority: Authority, reaction: Reaction) -> None:
    with talking(authority, scripted(reaction)) as (starling, peer):
        assert starling.verify("7", "123456", 5.0) is Check.NOT_ENROLLED
        assert starling.start_push("7", PUSH, 5.0) is NotStarted.NOT_ENROLLED
    assert len(api_calls(peer.seen)) == 2


@pytest.mark.parametrize("status", [s for s in PushStatus if s is not PushStatus.UNKNOWN])
def test_each_documented_status_is_known(authority: Authority, status: PushStatus) -> None:
    with talking(authority, scripted(http(200, {"status": status.value}))) as (starling, _):
        assert starling.check_push("r", 5.0) is status


def test_402_on_a_poll_means_expired(authority: Authority) -> None:
    with talking(authority, scripted(http(402))) as (starling, _):
        assert starling.check_push("r", 5.0) is PushStatus.EXPIRED


def test_an_unknown_status_is_waited_for_and_logged_once(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [http(200, {"status": status}) for status in ("parked", "parked", "Approved", "\x1b[2J\n", "x" * 41)]
    with talking(authority, scripted(*answers)) as (starling, _):
        assert {starling.check_push("r", 5.0) for _ in answers} == {PushStatus.UNKNOWN}
    words = [record.getMessage().split(" is ")[0] for record in caplog.records if record.levelname == "WARNING"]
    assert words == ["push status parked", "push status Approved", "push status (not a word)"]


@pytest.mark.parametrize(
    ("reaction", "fault"),
    [
        (http(400), Fault.BROKEN),
        (http(403), Fault.BROKEN),
        (http(500), Fault.BROKEN),
        (http(302, None, {"Location": "https://localhost:1/"}), Fault.BROKEN),
        (http(204), Fault.BROKEN),
        (http(502, b"<html>" * 20_000), Fault.UNREACHABLE),
        (http(503), Fault.UNREACHABLE),
        (http(504), Fault.UNREACHABLE),
        (http(429), Fault.RATE_LIMITED),
    ],
)
def test_other_statuses_are_outages_in_every_call(authority: Authority, reaction: Reaction, fault: Fault) -> None:
    with talking(authority, scripted(reaction)) as (starling, peer):
        assert fault_of(lambda: starling.verify("7", "123456", 5.0)) is fault
        assert fault_of(lambda: starling.start_push("7", PUSH, 5.0)) is fault
        assert fault_of(lambda: starling.check_push("r", 5.0)) is fault
    assert len(api_calls(peer.seen)) == 3


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"id": null, "status": 1.5}', b"<html>", b"[" * 65_000, b"\x00", b"x" * 70_000],
)
def test_a_success_without_what_was_asked_for_is_an_outage(authority: Authority, body: bytes) -> None:
    with talking(authority, scripted(http(200, body))) as (starling, _):
        assert fault_of(lambda: starling.start_push("7", PUSH, 5.0)) is Fault.BROKEN
        assert fault_of(lambda: starling.check_push("r", 5.0)) is Fault.BROKEN


def test_a_429_says_for_how_long(authority: Authority) -> None:
    limited = [
        http(429, None, {"Retry-After": "17"}),
        http(429, None, {"Retry-After": "Thu, 01 Jan 1970 00:00:30 GMT"}),
    ]
    with talking(authority, scripted(*limited), wall_clock=lambda: 5.0) as (starling, _):
        for seconds in (17.0, 25.0):
            with pytest.raises(Unavailable) as caught:
                starling.check_push("r", 5.0)
            assert caught.value.retry_after == seconds


def test_a_429_to_the_token_request_says_for_how_long(authority: Authority) -> None:
    limited = http(429, None, {"Retry-After": "17"})
    with talking(authority, scripted(http(200), token=limited)) as (starling, _), pytest.raises(Unavailable) as caught:
        starling.check_push("r", 5.0)
    assert (caught.value.fault, caught.value.retry_after) == (Fault.RATE_LIMITED, 17.0)


def test_credentials_that_are_refused_are_a_misconfiguration(authority: Authority) -> None:
    with talking(authority, scripted(http(200), token=http(401))) as (starling, peer):
        assert fault_of(lambda: starling.verify("7", "123456", 5.0)) is Fault.MISCONFIGURED
        assert fault_of(lambda: starling.probe_token(5.0)) is Fault.MISCONFIGURED
    assert api_calls(peer.seen) == []


def test_a_probe_makes_its_own_token_request(authority: Authority) -> None:
    with talking(authority, scripted(http(200))) as (starling, peer):
        starling.verify("7", "123456", 5.0)
        starling.probe_token(5.0)
        starling.probe_token(5.0)
    assert [seen.target for seen in peer.seen].count(TOKEN_PATH) == 3


class Issuer:
    """A service that issues numbered tokens and takes only one of them; the only right code is 111111."""

    def __init__(self, accepted: str, lifetime: int = 300) -> None:
        self.accepted = accepted
        self.lifetime = lifetime
        self.issued = 0

    def __call__(self, seen: Seen) -> Reaction:
        """Answer a request."""
        if seen.target == TOKEN_PATH:
            self.issued += 1
            return http(200, {"access_token": f"token{self.issued}", "expires_in": self.lifetime})
        if seen.headers["authorization"] != f"Bearer {self.accepted}":
            return http(401, {"errorMessage": "Token is invalid"})
        if "verify" in seen.target:
            return http(200 if seen.target.endswith("=111111") else 401)
        return http(200, {"id": "r", "status": "pending"})


def test_a_stale_token_is_renewed_once_and_the_call_repeated(authority: Authority) -> None:
    issuer = Issuer("token1")
    with talking(authority, issuer) as (starling, peer):
        for number, call in enumerate(
            [
                lambda: starling.verify("7", "111111", 5.0),
                lambda: starling.start_push("7", PUSH, 5.0),
                lambda: starling.check_push("r", 5.0),
            ],
            start=1,
        ):
            assert call() in {Check.RIGHT, Started("r"), PushStatus.PENDING}
            assert issuer.issued == number
            issuer.accepted = f"token{number + 1}"
    assert len(api_calls(peer.seen)) == 5


def test_a_token_may_be_stale_from_the_start(authority: Authority) -> None:
    issuer = Issuer("token2")
    with talking(authority, issuer) as (starling, _):
        assert starling.verify("7", "111111", 5.0) is Check.RIGHT
    assert issuer.issued == 2


def test_a_wrong_code_is_wrong_after_one_renewal_and_one_repetition(authority: Authority) -> None:
    with talking(authority, scripted(http(401))) as (starling, peer):
        assert starling.verify("7", "222222", 5.0) is Check.WRONG
    assert [seen.target == TOKEN_PATH for seen in peer.seen] == [True, False, True, False]


def test_a_new_token_that_the_service_refuses_is_a_misconfiguration(authority: Authority) -> None:
    with talking(authority, Issuer("none of them")) as (starling, _):
        assert fault_of(lambda: starling.start_push("7", PUSH, 5.0)) is Fault.MISCONFIGURED
        assert fault_of(lambda: starling.check_push("r", 5.0)) is Fault.MISCONFIGURED


def test_who_types_a_wrong_code_cannot_make_the_service_look_unreachable(authority: Authority) -> None:
    script = [http(200), http(401)]
    tokens = [http(200, {"access_token": "a", "expires_in": 300}), http(503)]

    def answer(seen: Seen) -> Reaction:
        return (tokens if seen.target == TOKEN_PATH else script).pop(0)

    with talking(authority, answer) as (starling, _):
        assert starling.verify("7", "111111", 5.0) is Check.RIGHT
        assert fault_of(lambda: starling.verify("7", "222222", 5.0)) is Fault.BROKEN


def test_a_token_is_kept_until_10_seconds_before_it_expires(authority: Authority) -> None:
    clock, issuer = Clock(), Issuer("token1", lifetime=300)
    with talking(authority, issuer, clock=clock) as (starling, _):
        starling.check_push("r", 5.0)
        clock.now += 289.9
        starling.check_push("r", 5.0)
        assert issuer.issued == 1
        issuer.accepted = "token2"
        clock.now += 0.2
        starling.check_push("r", 5.0)
    assert issuer.issued == 2


def test_a_token_too_short_lived_to_keep_is_used_once(authority: Authority) -> None:
    issuer = Issuer("token1", lifetime=5)
    with talking(authority, issuer) as (starling, peer):
        assert starling.verify("7", "111111", 5.0) is Check.RIGHT
        issuer.accepted = "token2"
        assert starling.verify("7", "111111", 5.0) is Check.RIGHT
    assert len(peer.seen) == 4


def test_64_threads_share_one_token_request_and_their_connections(authority: Authority) -> None:
    together = threading.Barrier(64)

    def call(starling: Starling) -> PushStatus:
        together.wait(30)
        return [starling.check_push("r", 30.0) for _ in range(5)][-1]

    issuer = Issuer("token1")
    with (
        talking(authority, issuer, http_timeout=30.0) as (starling, peer),
        ThreadPoolExecutor(64) as pool,
    ):
        assert set(pool.map(call, [starling] * 64)) == {PushStatus.PENDING}
    assert issuer.issued == 1
    assert len(api_calls(peer.seen)) == 320
    assert peer.connections <= 65


def test_64_threads_with_the_same_stale_token_renew_it_once(authority: Authority) -> None:
    issuer = Issuer("token1")
    with talking(authority, issuer, http_timeout=30.0) as (starling, _), ThreadPoolExecutor(64) as pool:
        starling.check_push("r", 30.0)
        issuer.accepted = "token2"
        assert set(pool.map(starling.check_push, ["r"] * 64, [30.0] * 64)) == {PushStatus.PENDING}
    assert issuer.issued == 2


def test_who_waits_for_a_token_is_bound_by_their_own_deadline_only(authority: Authority) -> None:
    asked, release = threading.Event(), threading.Event()

    def answer(seen: Seen) -> Reaction:
        if seen.target == TOKEN_PATH:
            asked.set()
            assert release.wait(30)
            return http(200, {"access_token": "a", "expires_in": 300})
        return http(200, {"status": "denied"})

    with talking(authority, answer, http_timeout=30.0) as (starling, peer), ThreadPoolExecutor(1) as pool:
        patient = pool.submit(starling.check_push, "r", 30.0)
        assert asked.wait(30)
        assert fault_of(lambda: starling.check_push("r", 0.05)) is Fault.BROKEN
        release.set()
        assert patient.result() is PushStatus.DENIED
    assert [seen.target for seen in peer.seen].count(TOKEN_PATH) == 1
