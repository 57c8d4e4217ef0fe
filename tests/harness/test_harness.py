"""The harness for others: its services find one another, and its usage says what is there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.__main__ import usage
from tests.harness.composed import Harness, harness
from tests.system import bastion as bastions
from tests.system.engine import SERVICES_STAGE, Engine, build_image

pytestmark = pytest.mark.system

INTO_NIGHT = """\
dn: cn=night,ou=Groups,dc=example,dc=org
changetype: modify
add: member
member: uid=manual,ou=People,dc=example,dc=org
"""
"""night is a member of exempt."""


@pytest.fixture
def started(engine: Engine, deb: Path, tmp_path: Path) -> Iterator[Harness]:
    build_image(engine, deb, bastions.people(), stages=(SERVICES_STAGE,))
    with harness(engine, tmp_path) as services:
        yield services
        for terminal in services.bastion.terminals:
            terminal.close()


def test_its_people_are_mapped_enrolled_and_exempted_by_its_directory_and_can_log_in(started: Harness) -> None:
    bastion, sandbox = started.bastion, started.sandbox
    assert "in as manual" in bastion.log_in("manual", sandbox.code_for("manual")).text
    assert "in as approves" in bastion.log_in("approves", "").text
    assert "in as ldapper" in bastion.log_in("ldapper").text
    newcomer = bastion.ssh("newcomer")
    newcomer.await_prompt()
    newcomer.type("")
    sandbox.approve(sandbox.await_push()["id"])
    assert newcomer.await_end() == 0
    reasons = [event["STARLING_REASON"] for event in bastion.await_audit("login", 4)]
    assert reasons == ["code_verified", "push_approved", "exempt_ldap_group", "push_approved"]


def test_what_it_says_of_its_use_can_be_typed(started: Harness) -> None:
    lines = [line.strip() for line in usage(started).splitlines()]
    [search] = [line.removeprefix("search") for line in lines if line.startswith("search")]
    found = subprocess.run(search, shell=True, capture_output=True, text=True, check=True).stdout
    assert "dn: uid=newcomer,ou=People,dc=example,dc=org" in found
    [change] = [line.removeprefix("change").split("<")[0] for line in lines if "ldapmodify" in line]
    subprocess.run(change, shell=True, input=INTO_NIGHT, text=True, check=True, capture_output=True)
    assert "would be let in without a second factor" in started.bastion.run("starlingctl", "explain", "manual")
    [calls] = [line.removeprefix("calls") for line in lines if line.startswith("calls")]
    assert subprocess.run(calls, shell=True, capture_output=True, text=True, check=True).stdout.startswith("[")
