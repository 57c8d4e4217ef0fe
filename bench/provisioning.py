"""A plan of the provisioning loop: its time, its LDAP searches and its memory, for 2,000 and for 20,000 people.

The daemon is the real one, the directory a real slapd over StartTLS. A tenth of the time per person in the larger
directory is what linear means: the ratio of the two times next to the ratio of the two sizes.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.load.provisioned import provisioned

SIZES = (2_000, 20_000)
GOAL = 200
"""MiB that the daemon may take."""
PATIENCE = 600.0


@dataclass(frozen=True)
class Found:
    """What a plan took: seconds, pages of the directory, MiB."""

    seconds: float
    pages: int
    memory: float


def measure(size: int) -> Found:
    """Plan for that many people, none of whom is enrolled."""
    with (
        tempfile.TemporaryDirectory(prefix="pam-starling-bench", dir="/var/tmp") as folder,
        provisioned(Path(folder), size) as daemon,
    ):
        daemon.start()
        searches, began = daemon.slapd.did("SEARCH"), time.monotonic()
        daemon.ask("provision plan")
        run = daemon.finish(plan=True, patience=PATIENCE)
        seconds = time.monotonic() - began
        if (run["outcome"], run["counts"]) != ("complete", {"create": size}):
            raise SystemExit(f"the plan did not find everybody: {run}")
        return Found(seconds, daemon.slapd.did("SEARCH") - searches, daemon.memory())


def main() -> None:
    """Measure and report."""
    print("\nA plan of the provisioning loop, slapd over StartTLS, nobody enrolled yet\n")
    print("| people | seconds | LDAP searches (pages of 500 and the group) | most memory | goal |")
    print("|---|---|---|---|---|")
    found = {size: measure(size) for size in SIZES}
    for size, plan in found.items():
        print(f"| {size:,} | {plan.seconds:.2f} | {plan.pages} | {plan.memory:.0f} MiB | {GOAL} MiB |")
    small, large = SIZES
    ratio = found[large].seconds / found[small].seconds
    print(f"\nten times the people take {ratio:.1f} times as long (linear: {large / small:.0f})")


if __name__ == "__main__":
    main()
