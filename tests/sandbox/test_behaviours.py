"""What each named user makes the service answer, seen on the wire by somebody who is not our own client."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.sandbox import running
from tests.sandbox.behaviours import BEHAVIOURS
from tests.sandbox.service import TOKEN_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.running import Sandbox

PATIENCE = 20.0
BRIEF = 1.0
PUSH = {"message": "Login to bastion", "secondsToExpire": 60, "details": {"Number": "42"}}
GOOD = "200"

TWICE = {
    # each call twice: start, poll, verify
    "manual": ("200 200", "pending pending", "200 200"),
    "approves": ("200 200", "approved approved", "200 200"),
    "approves-after-5": ("200 200", "pending pending", "200 200"),
    "denies": ("200 200", "denied denied", "200 200"),
    "never-answers": ("200 200", "pending pending", "200 200"),
    "expires-at-once": ("200 200", "expired expired", "200 200"),
    "expires-by-402": ("200 200", "402 402", "200 200"),
    "unknown": ("404 404", "", "404 404"),
    "unknown-60016": ("60016 60016", "", "60016 60016"),
    "unknown-status": ("200 200", "queued queued", "200 200"),
    "500-then-ok": ("200 200", "500 approved", "500 200"),
    "500": ("500 500", "", "500 500"),
    "503-then-ok": ("200 200", "503 approved", "503 200"),
    "503": ("503 503", "", "503 503"),
    "malformed": ("no-json no-json", "", "no-json no-json"),
    "html": ("no-json no-json", "", "no-json no-json"),
    "429-seconds": ("429-in-2 200", "429-in-2 approved", "429-in-2 200"),
    "429-date": ("429-at 200", "429-at approved", "429-at 200"),
    "429": ("429-in-1 429-in-1", "", "429-in-1 429-in-1"),
    "reset": ("reset reset", "", "reset reset"),
    "stale-token": ("200 200", "401 approved", "401 200"),
    "numeric-ids": ("200 200", "approved approved", "200 200"),
}
SLOW = {"slow", "black-hole"}
BY_THE_CLOCK = SLOW | {"approves-after-2"}


@dataclass
class Client:
    """Speaks STARLING-API §1 in so many words; tells each answer in one word."""

    sandbox: Sandbox
    http: requests.Session
    request: Any = field(default=None)

    def token(self, credential: str = "") -> requests.Response:
        """Get a token, and use it from now on."""
        client_id, _, secret = (credential or self.sandbox.credential).partition(":")
        form = {"grant_type": "client_credentials"}
        answer = self.http.post(self.sandbox.url + TOKEN_PATH, form, auth=(client_id, secret), timeout=PATIENCE)
        if answer.ok:
            self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return answer

    def start(self, name: str, seconds: int = 60) -> str:
        """Start a push."""
        path = f"/v1/Users/{self.sandbox.users[name].id}/approvalrequests"
        return self._call("POST", path, {**PUSH, "secondsToExpire": seconds})

    def poll(self) -> str:
        """Ask how the last push stands."""
        return self._call("GET", f"/v1/ApprovalRequests/{self.request}")

    def verify(self, name: str, code: str = "", timeout: float = PATIENCE) -> str:
        """Check what the user's app shows, or another code."""
        path = f"/v1/Users/{self.sandbox.users[name].id}/verify?tokenResponse={code or self.sandbox.code_for(name)}"
        return self._call("GET", path, timeout=timeout)

    def _call(self, method: str, path: str, body: object = None, timeout: float = PATIENCE) -> str:
        try:
            answer = self.http.request(method, self.sandbox.url + path, json=body, timeout=timeout)
        except requests.ConnectionError:
            return "reset"
        if answer.status_code == 401:
            self.token()
        if answer.status_code == 429:
            return _told_to_wait(answer.headers["Retry-After"], answer.headers["Date"])
        return self._good(answer) if answer.ok else _refused(answer)

    def _good(self, answer: requests.Response) -> str:
        try:
            told = answer.json()
        except requests.JSONDecodeError:
            return "no-json"
        self.request = told.get("id", self.request)
        return str(told.get("status", answer.status_code))


def _refused(answer: requests.Response) -> str:
    try:
        message = answer.json()["errorMessage"]
    except requests.JSONDecodeError:
        return str(answer.status_code)
    known = isinstance(message, dict) and answer.status_code == 400
    return str(message["errorCode"] if known else answer.status_code)


def _told_to_wait(value: str, said: str) -> str:
    if value.isdigit():
        return f"429-in-{value}"
    left = (parsedate_to_datetime(value) - parsedate_to_datetime(said)).total_seconds()
    return "429-at" if 0 < left <= 3 else f"429 {value}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running.sandbox() as started:
        yield started


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    sandbox.forget()
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(sandbox.ca_file)
        made = Client(sandbox, http)
        assert made.token().json()["expires_in"] == 3600
        yield made


def test_every_behaviour_is_looked_at() -> None:
    assert set(TWICE) | BY_THE_CLOCK == set(BEHAVIOURS)


@pytest.mark.parametrize("name", TWICE)
def test_what_the_service_answers(client: Client, name: str) -> None:
    started, polled, verified = (words.split() for words in TWICE[name])
    assert [client.start(name) for _ in started] == started
    assert [client.poll() for _ in polled] == polled
    assert [client.verify(name) for _ in verified] == verified


def test_ids_are_texts_but_for_one(client: Client) -> None:
    client.start("approves")
    assert isinstance(client.request, str)
    client.start("numeric-ids")
    assert isinstance(client.request, int)


def test_who_approves_after_a_while_does_it_then(client: Client) -> None:
    began = time.monotonic()
    client.start("approves-after-2")
    while (status := client.poll()) == "pending":
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.05)
    assert status == "approved"
    assert time.monotonic() - began >= 2


def test_an_unanswered_push_expires_when_it_was_asked_to(client: Client) -> None:
    client.start("never-answers", seconds=1)
    began = time.monotonic()
    while (status := client.poll()) == "pending":
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.05)
    assert status == "expired"
    assert client.sandbox.pending() == []


def test_the_slow_answer_late_and_the_black_hole_never(client: Client) -> None:
    for name in SLOW:
        with pytest.raises(requests.ReadTimeout):
            client.verify(name, timeout=BRIEF)
    began = time.monotonic()
    assert client.verify("slow") == GOOD
    assert time.monotonic() - began >= 2


@pytest.mark.parametrize("code", ["000000", "12345", "", "abcdef", "1234567"])
def test_only_the_app_s_code_is_right(client: Client, code: str) -> None:
    shown = client.sandbox.users["manual"].totp
    near = {shown.at(time.time() + offset) for offset in (-60, 0, 60)}
    wrong = code if code and code not in near else "999999999"
    assert client.verify("manual", wrong) == "401"


def test_a_code_of_two_minutes_ago_is_wrong(client: Client) -> None:
    totp = client.sandbox.users["manual"].totp
    old = totp.at(time.time() - 180)
    assert client.verify("manual", old) == "401" or old == totp.now()


def test_only_the_credential_yields_a_token(client: Client) -> None:
    assert client.token(f"{client.sandbox.credential}x").status_code == 401
    assert client.token("nobody:nothing").status_code == 401


def test_a_person_is_created_once_and_found_again(client: Client) -> None:
    def create(phone: str, address: str) -> requests.Response:
        body = {"phone": phone, "email": address, "displayName": "Alice"}
        return client.http.post(client.sandbox.url + "/v1/Users", json=body, timeout=PATIENCE)

    first, again = (create("+15551234567", "alice@example.org").json()["id"] for _ in range(2))
    assert first == again
    assert create("+15551234568", "alice@example.org").json()["id"] != first
    for phone, address in (("5551234567", "alice@example.org"), ("+15551234567", "nowhere"), ("+1", "a@example.org")):
        assert create(phone, address).status_code == 400
