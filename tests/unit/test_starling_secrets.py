"""No code, token, credential or password is ever in an exception, a log line or a repr, whatever happens."""

from __future__ import annotations

import gc
import logging
import traceback
from typing import TYPE_CHECKING

import pytest
import urllib3.connectionpool

from starlingd.adapters.starling.tokens import Token
from starlingd.core.model import Push
from starlingd.ports import Unavailable
from starlingd.web.https import Answer, Ask
from starlingd.web.line import parse_proxy
from tests.unit.starling_peer import TOKEN_PATH, Authority, Greeter, Peer, http, provider, scripted

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.adapters.starling import Starling
    from tests.unit.starling_peer import Reaction, Seen

CODE = "24681357"
SECRETS = (CODE, "TheToken", "TheSecret", "TheProxyPassword", "VGhlU2VjcmV0", "Y2xpZW50OlRoZVNlY3JldA")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def echo(seen: Seen) -> Reaction:
    """Be a service that repeats what it was told, in the place where it is most likely to be logged."""
    if seen.target == TOKEN_PATH:
        return http(200, {"access_token": "TheToken", "expires_in": 300})
    told = seen.target + seen.headers["authorization"]
    return http(400, {"errorMessage": {"errorCode": told, "status": told}, "status": told}, {"X": told})


EVERYTHING: list[Callable[[Seen], Reaction]] = [
    echo,
    scripted(http(200, {"status": CODE * 3})),
    scripted(http(401)),
    scripted(http(500)),
    scripted(b""),
    scripted(b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 0\r\n\r\n"),
    scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"),
    scripted(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"),
    scripted(b"junk\r\n\r\n"),
    scripted(http(302, None, {"Location": "http://localhost:1/"})),
    scripted(http(200), token=http(401)),
    scripted(http(200), token=http(200, {"access_token": "TheToken\n"})),
    scripted(http(200), token=b"junk\r\n\r\n"),
]


def outages(starling: Starling) -> list[Unavailable]:
    """Make every call; give what it raised."""
    raised = []
    for call in (
        lambda: starling.verify("7", CODE, 0.2),
        lambda: starling.start_push("7", Push("Login", (), 60), 0.2),
        lambda: starling.check_push("r", 0.2),
        lambda: starling.probe_token(0.2),
        lambda: starling.verify("7", CODE, 0.0),
    ):
        try:
            call()
        except Unavailable as outage:
            raised.append(outage)
    return raised


def assert_clean(starling: Starling, raised: list[Unavailable], log: str) -> None:
    texts = [log, repr(starling), str(starling)]
    for outage in raised:
        assert outage.__cause__ is None
        assert outage.__context__ is None
        texts += [repr(outage), str(outage), repr(vars(outage)), "".join(traceback.format_exception(outage))]
    for secret in SECRETS:
        assert not [text for text in texts if secret in text]


@pytest.mark.parametrize("answer", EVERYTHING)
def test_no_answer_brings_a_secret_out(
    authority: Authority, answer: Callable[[Seen], Reaction], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Peer(answer, authority.tls) as peer, provider(authority.file, peer.url) as starling:
        raised = outages(starling)
    assert raised
    assert_clean(starling, raised, caplog.text)
    assert "/verify" in caplog.text or "/token" in caplog.text


def test_no_outage_brings_a_secret_out(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    user = "http://user:TheProxyPassword@"
    with Peer(lambda _: http(407), None) as proxy, Greeter() as plain:
        ways = [
            (f"{user}127.0.0.1:{proxy.port}", "https://localhost:9"),
            (None, plain.url),
            (None, "https://localhost:9"),
        ]
        for way, url in ways:
            with provider(authority.file, url, proxy=way) as starling:
                raised = outages(starling)
            assert len(raised) == 5
            assert_clean(starling, raised, caplog.text)


def test_the_log_names_the_call_but_not_whom_it_is_about(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Peer(scripted(http(200)), authority.tls) as peer, provider(authority.file, peer.url) as starling:
        starling.verify("jane.doe", CODE, 5.0)
    assert {record.name for record in caplog.records} == {"starlingd.starling"}
    assert "GET /v1/Users/{id}/verify: status 200 after " in caplog.text
    assert "jane.doe" not in caplog.text


def test_the_http_libraries_have_lost_their_voice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    urllib3.connectionpool.log.debug("https://localhost/verify?tokenResponse=%s", CODE)
    urllib3.connectionpool.log.critical("https://localhost/verify?tokenResponse=%s", CODE)
    logging.getLogger("requests.anything").error("https://localhost/verify?tokenResponse=%s", CODE)
    assert caplog.records == []


def test_no_repr_of_a_part_shows_a_secret(authority: Authority) -> None:
    with Peer(scripted(http(200)), authority.tls) as peer, provider(authority.file, peer.url) as starling:
        starling.verify("7", CODE, 5.0)
        parts = [
            thing
            for thing in gc.get_objects()
            if str(type(thing).__module__).startswith(("starlingd.adapters.starling", "starlingd.web"))
        ]
    parts += [
        Token("TheToken", 0.0),
        Ask("GET", f"https://x/?tokenResponse={CODE}", {"Authorization": "Bearer TheToken"}, CODE.encode()),
        Answer(200, "", b'{"access_token": "TheToken"}'),
        parse_proxy("http://user:TheProxyPassword@proxy"),
    ]
    assert len(parts) > 8
    for secret in SECRETS:
        assert not [part for part in parts if secret in repr(part)]
