"""From settings to the SecondFactor they ask for. No logic but the choice lives here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlingd.adapters.starling import Starling
from starlingd.adapters.subscription import Subscription

if TYPE_CHECKING:
    from starlingd.config import Settings
    from starlingd.ports import SecondFactor


def starling(settings: Settings, http_timeout: float, pool_size: int) -> SecondFactor:
    """Make the cloud service's provider: by its credential, or by the older subscription key; raises Unavailable."""
    form = settings.starling
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
