"""From settings to the SecondFactor they ask for. No logic but the choice lives here."""

# ruff: noqa: ARG002  nobody looks at the arguments of a call that there is nobody for
from __future__ import annotations

from typing import TYPE_CHECKING

from starlingd.adapters.starling import Starling
from starlingd.adapters.subscription import Subscription
from starlingd.core.rules import Provider
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from starlingd.config import Settings
    from starlingd.config.settings import StarlingSettings
    from starlingd.core.enrolment import Contact
    from starlingd.core.model import Check, NotStarted, Push, PushStatus, Started
    from starlingd.ports import SecondFactor


class NoService:
    """Stands where this host is the provider: every call of a service is a fault of ours, and denies."""

    def verify(self, identity: str, code: str, timeout: float) -> Check:
        """Raise."""
        raise _none()

    def start_push(self, identity: str, push: Push, timeout: float) -> Started | NotStarted:
        """Raise."""
        raise _none()

    def check_push(self, request: str, timeout: float) -> PushStatus:
        """Raise."""
        raise _none()

    def enrol(self, contact: Contact, timeout: float) -> str | None:
        """Raise."""
        raise _none()

    def probe_token(self, timeout: float) -> None:
        """Raise."""
        raise _none()


def make(settings: Settings, pool_size: int, http_timeout: float | None = None) -> SecondFactor:
    """Make the provider that the settings ask for, with their time-out unless told another; raises Unavailable."""
    if settings.starling is None or settings.rules.provider is not Provider.STARLING:
        return NoService()
    return _starling(settings, settings.starling, http_timeout or settings.starling.http_timeout, pool_size)


def _starling(settings: Settings, form: StarlingSettings, http_timeout: float, pool_size: int) -> SecondFactor:
    """Make the cloud service's provider: by its credential, or by the older subscription key; raises Unavailable."""
    if form.api_key is not None:
        return Subscription(
            api_key=form.api_key.reveal(),
            api_url=form.service_url,
            ca_file=form.ca_file,
            http_timeout=http_timeout,
            proxy=settings.proxy,
            pool_size=pool_size,
        )
    return Starling(
        client_id=form.client_id,
        client_secret=form.client_secret.reveal(),
        service_url=form.service_url,
        token_url=form.token_url,
        ca_file=form.ca_file,
        http_timeout=http_timeout,
        proxy=settings.proxy,
        pool_size=pool_size,
    )


def _none() -> Unavailable:
    return Unavailable("starling", Fault.MISCONFIGURED, "[auth] provider = totp: there is no service")
