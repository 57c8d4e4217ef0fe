"""Doctor's questions to the service and the directory: what comes of each answer, and of none."""

from __future__ import annotations

import time
from email.utils import formatdate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from starlingd import providers
from starlingd.adapters.starling import Starling
from starlingd.cli.doctor import outside
from starlingd.cli.doctor.outside import NOBODY, Outside, ask
from starlingd.config.secrets import Secret
from starlingd.config.settings import Settings, StarlingSettings
from starlingd.core.model import Fault, Unavailable
from starlingd.core.rules import Provider, Rules
from tests.fakes_directory import POLICY, FakeDirectory
from tests.unit.starling_peer import Authority, Greeter, Peer, http, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlingd.core.rules import DirectoryPolicy
    from starlingd.ports import SecondFactor
    from tests.unit.starling_peer import Reaction

REFUSED = Unavailable("directory", Fault.UNREACHABLE, "refused")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the connections that doctor leaves to the end of its process."""
    made: list[SecondFactor] = []

    def make(*arguments: Any) -> SecondFactor:  # noqa: ANN401  those of providers.make
        made.append(providers.make(*arguments))
        return made[-1]

    monkeypatch.setattr(outside, "providers", SimpleNamespace(make=make))
    yield
    for provider in made:
        assert isinstance(provider, Starling)
        provider.close()


def settings(url: str, ca_file: Path | None, proxy: str | None = None, rules: Rules | None = None) -> Settings:
    service = StarlingSettings("client", Secret("TheSecret"), url, url, ca_file, 5.0)
    return Settings(service, proxy, "info", rules or Rules(), ())


def offset(authority: Authority, answer: Reaction) -> float | None:
    """Tell what doctor finds of our clock and that of a service which answers like this."""
    with Peer(scripted(answer), authority.tls) as service:
        found = ask(settings(service.url, authority.file)).offset
        assert {seen.method for seen in service.seen if seen.target == "/"} == {"HEAD"}
    return found


def dated(wall: float) -> Reaction:
    return http(404, headers={"Date": formatdate(wall, usegmt=True)})


@pytest.mark.parametrize("ahead", [0, 100, -100])
def test_our_clock_is_compared_with_the_services(authority: Authority, ahead: int) -> None:
    found = offset(authority, dated(time.time() - ahead))
    assert found is not None
    assert abs(found - ahead) < 5


@pytest.mark.parametrize(
    "answer",
    [http(200), http(200, headers={"Date": "yesterday"}), http(200, headers={"Date": ""}), b"", b"nonsense\r\n\r\n"],
    ids=["no date", "no such date", "an empty date", "hung up", "not HTTP"],
)
def test_a_service_without_a_date_leaves_it_open(authority: Authority, answer: bytes) -> None:
    assert offset(authority, answer) is None


def test_a_service_that_cannot_be_trusted_tells_no_time(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path)
    with Peer(scripted(dated(0.0)), stranger.tls) as service:
        found = ask(settings(service.url, authority.file))
    assert found.offset is None
    assert found.token is not None
    with Greeter() as service:
        assert ask(settings(service.url, authority.file)).offset is None


def test_the_proxy_is_the_way_to_the_clock_and_gets_its_password(authority: Authority) -> None:
    with Peer(lambda _: http(407), None) as proxy:
        found = ask(settings("https://service.invalid", authority.file, f"http://jane:pw@127.0.0.1:{proxy.port}"))
    assert found.offset is None
    assert found.names == {}  # the proxy's is the only name that this host must know
    assert {seen.target for seen in proxy.seen} == {"service.invalid:443"}
    assert {seen.headers.get("proxy-authorization") for seen in proxy.seen} == {"Basic amFuZTpwdw=="}


def test_a_good_service_is_nothing_to_tell(authority: Authority) -> None:
    with Peer(scripted(dated(time.time())), authority.tls) as service:
        found = ask(settings(service.url, authority.file))
    assert (found.names, found.token, found.directory) == ({}, None, None)


@pytest.mark.parametrize("outage", [None, REFUSED])
def test_the_directory_is_asked_for_somebody_whom_it_need_not_know(
    monkeypatch: pytest.MonkeyPatch, outage: Unavailable | None
) -> None:
    directory = FakeDirectory(outage=outage)
    made: list[DirectoryPolicy] = []

    def make(policy: DirectoryPolicy) -> FakeDirectory:
        made.append(policy)
        return directory

    monkeypatch.setattr(outside, "LdapDirectory", make)
    rules = Rules(provider=Provider.TOTP, directory=POLICY)
    assert ask(Settings(None, None, "info", rules, ())) == Outside(directory=outage)
    assert made == [POLICY]
    assert directory.calls == [("person", NOBODY)]


def test_what_is_not_configured_is_not_asked() -> None:
    assert ask(Settings(None, None, "info", Rules(provider=Provider.TOTP), ())) == Outside()
