"""One version, told in three places."""

import configparser
import re
from pathlib import Path

from starlingd import VERSION

TREE = Path(__file__).resolve().parents[2]


def test_setup_and_package_have_the_version_that_the_daemon_tells() -> None:
    setup = configparser.ConfigParser()
    setup.read(TREE / "setup.cfg", encoding="utf-8")
    packaged = re.match(r"pam-starling \(([^)]+)\)", (TREE / "debian/changelog").read_text(encoding="utf-8"))
    assert setup["metadata"]["version"] == VERSION
    assert packaged is not None
    assert packaged[1] == VERSION
