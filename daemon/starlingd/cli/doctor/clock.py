"""Findings about this host's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlingd.cli.doctor.finding import error, note, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlingd.cli.doctor.finding import Finding

OFF, FAR_OFF = 10.0, 60.0
"""Seconds: what the Date header (whole seconds) and a slow line cannot explain; what makes codes fail."""
ADVICE = "timedatectl; timedatectl set-ntp true"


def check(offset: float | None) -> Iterator[Finding]:
    """Compare this host's clock with the service's; ``offset`` is ours less theirs, in seconds."""
    if offset is None:
        yield note("clock.unknown", "the service's clock could not be read")
    elif abs(offset) > OFF:
        ahead = "ahead of" if offset > 0 else "behind"
        yield (error if abs(offset) > FAR_OFF else warning)(
            "clock.offset",
            f"this host's clock is {abs(offset):.0f} s {ahead} the service's: codes, tokens and times go wrong",
            ADVICE,
        )


def check_own(synchronised: bool | None) -> Iterator[Finding]:  # noqa: FBT001  it is what was seen
    """Tell whether this host's clock is kept right, where nobody else's is there to compare it with."""
    if synchronised is None:
        yield note("clock.unknown", "whether this host's clock is kept right could not be found out", "timedatectl")
    elif not synchronised:
        yield warning(
            "clock.unsynchronised",
            "nothing keeps this host's clock right: the codes of apps fail once it is half a minute off",
            ADVICE,
        )
