"""Runs the benchmarks and prints one table each: ``./dev bench [NAME …]``."""

import sys

from bench import black_hole, grace, overhead, provisioning, ssh, totp, waiting

ALL = {
    "overhead": overhead.main,
    "waiting": waiting.main,
    "black_hole": black_hole.main,
    "grace": grace.main,
    "ssh": ssh.main,
    "provisioning": provisioning.main,
    "totp": totp.main,
}


def main() -> None:
    """Run the benchmarks that are named, or all of them."""
    names = sys.argv[1:] or list(ALL)
    if unknown := [name for name in names if name not in ALL]:
        sys.exit(f"no benchmark {unknown[0]}; there are: {', '.join(ALL)}")
    for name in names:
        ALL[name]()


if __name__ == "__main__":
    main()
