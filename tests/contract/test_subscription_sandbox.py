"""The older Starling service: our adapter beyond the contract of SecondFactor, and the public client, unchanged."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import requests

from devtools import machine
from starlingd.core.enrolment import Contact
from starlingd.core.model import Check, Push, PushStatus, Started
from starlingd.ports import Fault, Unavailable
from tests.contract.worlds import subscription_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlingd.adapters.subscription import Subscription
    from tests.sandbox.running import Sandbox

PATIENCE = 10.0
PUSH = Push("Login to héron", (("Gateway", "heron.example"), ("Client IP", "192.0.2.7"), ("Number", "42")), 60)


@pytest.fixture
def service(sandbox: Sandbox) -> Iterator[Subscription]:
    sandbox.forget()
    with subscription_at(sandbox) as made:
        yield made


def outage_of(call: Callable[[], object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        call()
    return caught.value


def request_of(started: object) -> str:
    assert isinstance(started, Started)
    return started.request


def test_the_phone_shows_the_push_and_decides(sandbox: Sandbox, service: Subscription) -> None:
    request = request_of(service.start_push(sandbox.users["manual"].id, PUSH, PATIENCE))
    (shown,) = sandbox.pending()
    assert (shown["id"], shown["message"]) == (request, "Login to héron")
    assert list(shown["details"].items()) == list(PUSH.details)
    assert shown["left"] in {59, 60}
    sandbox.approve(request)
    assert service.check_push(request, PATIENCE) is PushStatus.APPROVED


def test_a_message_is_cut_to_what_the_service_takes(sandbox: Sandbox, service: Subscription) -> None:
    service.start_push(sandbox.users["manual"].id, Push("é" * 201, (), 60), PATIENCE)
    assert sandbox.pending()[0]["message"] == "é" * 199 + "…"


def test_an_id_that_is_a_number_is_its_decimal_text(sandbox: Sandbox, service: Subscription) -> None:
    request = request_of(service.start_push(sandbox.users["numeric-ids"].id, PUSH, PATIENCE))
    assert request.isdigit()
    assert service.check_push(request, PATIENCE) is PushStatus.APPROVED


def test_nothing_but_digits_leaves_as_a_code_or_an_id(sandbox: Sandbox, service: Subscription) -> None:
    """Both are parts of a path here."""
    for code in ("12345", "1234567890123", "00 0+0&%0", "../../000000", "١٢٣٤٥٦"):
        assert service.verify(sandbox.users["manual"].id, code, PATIENCE) is Check.WRONG
    assert service.verify("../1", "123456", PATIENCE) is Check.NOT_ENROLLED
    assert sandbox.log() == []


def test_a_wrong_key_is_no_wrong_code(sandbox: Sandbox) -> None:
    with subscription_at(sandbox, api_key="another") as service:
        for call in (
            lambda: service.verify(sandbox.users["manual"].id, sandbox.code_for("manual"), PATIENCE),
            lambda: service.start_push(sandbox.users["manual"].id, PUSH, PATIENCE),
            lambda: service.probe_token(PATIENCE),
        ):
            assert outage_of(call).fault is Fault.MISCONFIGURED


def test_the_probe_asks_about_nobody(sandbox: Sandbox, service: Subscription) -> None:
    service.probe_token(PATIENCE)
    (entry,) = sandbox.log()
    assert (entry["path"], entry["user"]) == ("/protected/json/users/0/status", None)


def test_who_is_known_by_number_and_address_is_not_made_again(service: Subscription) -> None:
    contact = Contact("+4915112345678", "ann@example.org", "Ann")
    identity = service.enrol(contact, PATIENCE)
    assert identity is not None
    assert service.enrol(contact, PATIENCE) == identity
    assert isinstance(service.start_push(identity, PUSH, PATIENCE), Started)
    assert service.enrol(Contact("+4915112345678", "nobody"), PATIENCE) is None
    assert service.enrol(Contact("15112345678", "ann@example.org"), PATIENCE) is None


def test_a_stopped_service_is_unreachable(sandbox: Sandbox) -> None:
    with subscription_at(sandbox, api_url="https://127.0.0.1:9") as service:
        assert outage_of(lambda: service.probe_token(PATIENCE)).fault is Fault.UNREACHABLE


CLIENT = """
    import sys
    from authy import AuthyFormatException
    from authy.api import AuthyApiClient

    url, key, identity, code, wrong = sys.argv[1:]
    client = AuthyApiClient(key, url)
    user = client.users.create("bob@example.org", "151-987-6543", 49)
    assert user.ok() and user.id, user.errors()
    assert client.users.create("bob@example.org", "1519876543", 49).id == user.id
    assert not client.users.create("bob", "1", 49).ok()
    assert client.users.status(identity).content["status"]["authy_id"] == int(identity)
    assert not client.users.status(1).ok()
    assert client.tokens.verify(identity, code).ok()
    refused = client.tokens.verify(identity, wrong)
    assert not refused.ok() and refused.errors() == {"token": "is invalid"}, refused.errors()
    assert not AuthyApiClient("another", url).tokens.verify(identity, code).ok()
    assert client.users.request_sms(identity).ok() and client.users.request_call(identity).ignored()
    push = client.one_touch.send_request(int(identity), "Login", 60, {"Gateway": "heron"})
    assert push.ok() and push.status(), push.errors()
    state = client.one_touch.get_approval_status(push.get_uuid())
    print(state.content["approval_request"]["status"])
"""


def test_the_public_client_works_unchanged(sandbox: Sandbox) -> None:
    sandbox.forget()
    user, code = sandbox.users["approves"], sandbox.code_for("approves")
    wrong = code[:-1] + ("1" if code[-1] == "0" else "0")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CLIENT), sandbox.url, sandbox.api_key, user.id, code, wrong],
        env={"REQUESTS_CA_BUNDLE": str(sandbox.ca_file), "PYTHONPATH": str(machine.AUTHY)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "approved\n"), done.stderr


def test_the_older_form_of_that_client_posts_form_fields(sandbox: Sandbox) -> None:
    """And looks for these very bytes."""
    sandbox.forget()

    def call(method: str, path: str, **data: Any) -> requests.Response:  # noqa: ANN401  a form's
        headers = {"X-Authy-API-Key": sandbox.api_key}
        return requests.request(method, sandbox.url + path, headers=headers, verify=str(sandbox.ca_file), **data)

    form = {"user[email]": "c@example.org", "user[cellphone]": "5551234", "user[country_code]": "1"}
    made = call("POST", "/protected/json/users/new", data=form | {"send_install_link_via_sms": "false"}).json()
    identity = made["user"]["id"]
    push = {"message": "Login", "seconds_to_expire": "30", "details[Client IP]": "192.0.2.7"}
    assert call("POST", f"/onetouch/json/users/{identity}/approval_requests", data=push).json()["success"] is True
    assert sandbox.pending()[0]["details"] == {"Client IP": "192.0.2.7"}
    user = sandbox.users["manual"]
    checked = call("GET", f"/protected/json/verify/{sandbox.code_for('manual')}/{user.id}", params={"force": "true"})
    assert b'"token":"is valid"' in checked.content
