"""The phone's page in a real headless Chromium: what a person sees, and what a click decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from starlingd.adapters.starling import Starling
from starlingd.core.model import Push, PushStatus, Started
from tests.sandbox import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sandbox.running import Sandbox

pytestmark = pytest.mark.browser

PATIENCE = 20
DETAILS = (("Gateway", "bastion.example.org"), ("Client IP", "198.51.100.7"), ("Number", "42"))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running.sandbox() as started:
        yield started


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    profile: Path = tmp_path_factory.mktemp("chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.accept_insecure_certs = True
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    service = webdriver.chrome.service.Service("/usr/bin/chromedriver")
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, sandbox: Sandbox) -> webdriver.Chrome:
    """Offer the page with nothing on it."""
    sandbox.forget()
    browser.get(f"{sandbox.url}/phone/")
    WebDriverWait(browser, PATIENCE).until(lambda shown: shown.find_element(By.ID, "empty").is_displayed())
    return browser


@pytest.fixture
def service(sandbox: Sandbox) -> Iterator[Starling]:
    """Offer our own client of the sandbox."""
    client_id, _, secret = sandbox.credential.partition(":")
    made = Starling(
        client_id=client_id,
        client_secret=secret,
        service_url=sandbox.url,
        token_url=sandbox.url,
        ca_file=str(sandbox.ca_file),
        http_timeout=10,
        proxy=None,
    )
    yield made
    made.close()


@pytest.fixture
def start(sandbox: Sandbox, service: Starling) -> Callable[..., str]:
    """Offer to send a push to the person who answers by hand; it tells the request."""

    def send(message: str = "Login to bastion", details: tuple[tuple[str, str], ...] = DETAILS) -> str:
        started = service.start_push(sandbox.users["manual"].id, Push(message, details, 60), 10)
        assert isinstance(started, Started)
        return started.request

    return send


def card(page: webdriver.Chrome) -> str:
    """Wait for a push on the page and tell its text."""
    WebDriverWait(page, PATIENCE).until(lambda shown: shown.find_elements(By.CLASS_NAME, "card"))
    return str(page.find_element(By.CLASS_NAME, "card").text)


def test_it_shows_message_number_details_and_the_time_left(page: webdriver.Chrome, start: Callable[..., str]) -> None:
    start()
    text = card(page)
    for expected in ("Login to bastion", "42", "Gateway", "bastion.example.org", "198.51.100.7", "seconds left"):
        assert expected in text
    assert page.find_element(By.CLASS_NAME, "number").text == "42"


@pytest.mark.parametrize(("button", "status"), [("approve", PushStatus.APPROVED), ("deny", PushStatus.DENIED)])
def test_a_click_decides_what_the_service_says(
    page: webdriver.Chrome, service: Starling, start: Callable[..., str], button: str, status: PushStatus
) -> None:
    request = start()
    card(page)
    assert service.check_push(request, 10) is PushStatus.PENDING
    page.find_element(By.CLASS_NAME, button).click()
    WebDriverWait(page, PATIENCE).until(lambda shown: shown.find_element(By.ID, "empty").is_displayed())
    assert service.check_push(request, 10) is status


def test_what_a_login_says_is_text_and_never_markup(page: webdriver.Chrome, start: Callable[..., str]) -> None:
    hostile = "<img src=x onerror='document.title=1'><script>document.title=1</script>"
    start(hostile, (("Gateway User", hostile),))
    assert card(page).count(hostile) == 2
    assert page.title == "Starling sandbox phone"
    assert not page.find_elements(By.CSS_SELECTOR, ".card img, .card script")
