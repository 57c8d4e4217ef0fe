"""The directory of the harness: a slapd in a container, with an entry for each account of the bastion."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from starlingd.core.rules import DirectorySchema
from tests.directory.population import Group, Population, Someone
from tests.directory.slapd import Slapd
from tests.sandbox.behaviours import BEHAVIOURS, User
from tests.system.bastion import unix_name

NAME = "directory"
PEOPLE = Population(
    people=(
        *(Someone(unix_name(name), notes=(User.make(name, name).id.encode(),)) for name in BEHAVIOURS),
        Someone("newcomer", ("newcomer@example.org",), ("+44 20 7946 0018",), "New Comer"),
        Someone("ldapper"),
    ),
    groups=(
        Group("exempt", (), ("night",)),
        Group("night", ("ldapper",)),
        Group("staff", ("newcomer", "manual", "approves")),
    ),
)


def main() -> None:
    """Serve until SIGTERM; the folder named gets the authority to trust."""
    slapd = Slapd(
        Path(sys.argv[1]), DirectorySchema.RFC2307BIS, PEOPLE, host="0.0.0.0", ports=(389, 636), names=(NAME,)
    )
    # As the container's first process it gets no signal that it does not ask for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    slapd.start()
    try:
        signal.pause()
    finally:
        slapd.stop()


if __name__ == "__main__":
    main()
