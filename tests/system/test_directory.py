"""The directory through real sshd: a real slapd beside the bastion exempts, maps and enrols, and never by accident."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from starlingd.core.rules import DirectorySchema
from tests.directory.population import SECRET, Group, Population, Someone
from tests.directory.slapd import BASE, READER, Slapd, dn_of, group_dn, running
from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion
from tests.system.engine import Engine

pytestmark = pytest.mark.system

STAFF = Group("staff", ("newcomer", "approves"))
GROUPS = (
    Group("exempt", ("denies",), ("nested",)),
    Group("nested", ("approves", "manual")),
    STAFF,
    Group("night", ("watch",)),
)
PEOPLE = Population(
    people=(
        Someone("approves"),
        Someone("manual"),
        Someone("denies", expires=12000),
        Someone("newcomer", ("newcomer@example.org",), ("+44 20 7946 0018",), "New Comer"),
        Someone("ldapper", notes=(b"not-a-number",)),
        Someone("watch", ("watch@example.org",), ("+44 20 7946 0019",)),
    ),
    groups=GROUPS,
)
BY_GROUP = "whitelist source=ldap_server_group"
PROVISIONING = "email_attribute = mail\nphone_attribute = mobile"


@pytest.fixture
def slapd(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    place = tmp_path_factory.mktemp("slapd")
    with running(place, DirectorySchema.RFC2307BIS, PEOPLE, host=engine.gateway) as started:
        yield started


def use(bastion: Bastion, slapd: Slapd, mode: str = "key", **sections: str) -> None:
    """Configure the bastion with this directory."""
    policy = f"uri = ldap://{slapd.host}:{slapd.port}\nbase_dn = {BASE}\nbind_dn = {READER}\nbind_password = $\n"
    policy += "schema = rfc2307bis\ntls = starttls\nca_file = /etc/pam-starling/ldap-ca.pem\ntimeout = 5"
    bastion.write("/etc/pam-starling/ldap-ca.pem", slapd.ca_file.read_text(encoding="ascii"))
    secret = "'/etc/pam-starling/credentials/ldap_server_policy corp.bind_password'"
    bastion.run("sh", "-c", f"cat > {secret} && chmod 600 {secret}", text=SECRET)
    bastion.configure(mode, **{"ldap_server": "name = corp", "ldap_server_policy corp": policy, **sections})


def modify(slapd: Slapd, ldif: str) -> None:
    """Change the directory, as its administrator."""
    command = ["/usr/sbin/slapmodify", "-f", str(slapd.place / "slapd.conf")]
    slapd.stop()
    subprocess.run(command, input=ldif, text=True, check=True, capture_output=True)
    slapd.start()


def reasons(bastion: Bastion) -> list[str]:
    return [event["STARLING_REASON"] for event in bastion.audit()]


def explain(bastion: Bastion, user: str) -> dict[str, object]:
    explained: dict[str, object] = json.loads(bastion.run("starlingctl", "explain", "--json", user))
    return explained


def test_a_member_of_a_nested_group_is_exempt_until_removed_and_whoever_has_expired_is_refused(
    bastion: Bastion, slapd: Slapd
) -> None:
    use(bastion, slapd, **{BY_GROUP: "allow = no_user\nexcept = exempt"})
    assert "in as approves" in bastion.log_in("approves").text
    assert explain(bastion, "approves")["reason"] == "exempt_ldap_group"
    assert "in as denies" not in bastion.log_in("denies", options=("-o", "NumberOfPasswordPrompts=1")).text
    assert reasons(bastion) == ["exempt_ldap_group", "account_disabled"]
    # The directory does not know this one: asked, in whichever direction the list reads.
    use(bastion, slapd, **{BY_GROUP: "allow = all_users\nexcept = exempt"})
    unknown = bastion.ssh("never-answers")
    assert "Press Enter" in unknown.await_prompt()
    use(bastion, slapd, **{BY_GROUP: "allow = no_user\nexcept = exempt"})
    removal = f"dn: {group_dn(GROUPS[1])}\nchangetype: modify\ndelete: member\nmember: {dn_of('approves')}\n"
    modify(slapd, removal)
    asked = bastion.ssh("approves")
    assert "Press Enter" in asked.await_prompt()


def test_a_directory_that_is_down_or_slow_exempts_nobody(bastion: Bastion, slapd: Slapd, sandbox: Sandbox) -> None:
    for allow in ("no_user", "all_users"):
        use(bastion, slapd, **{BY_GROUP: f"allow = {allow}\nexcept = exempt"})
        slapd.stop()
        assert "in as manual" in bastion.log_in("manual", sandbox.code_for("manual")).text
        assert reasons(bastion) == ["code_verified"]
        slapd.start()


def test_an_explicit_mapping_wins_and_otherwise_the_directorys_counts(bastion: Bastion, slapd: Slapd) -> None:
    use(bastion, slapd, **{"usermapping source=ldap_server": "user_attribute = description"})
    assert explain(bastion, "approves")["identity"] == bastion.sandbox.users["approves"].id
    assert explain(bastion, "ldapper")["identity"] == "not-a-number"
    refused = bastion.log_in("newcomer", options=("-o", "NumberOfPasswordPrompts=1"))
    assert "in as" not in refused.text
    assert reasons(bastion) == ["mapping_failed"]
    slapd.stop()
    bastion.log_in("ldapper", options=("-o", "NumberOfPasswordPrompts=1"))
    assert reasons(bastion)[-1] == "directory_unavailable"


def test_somebody_with_a_number_and_an_address_is_enrolled_by_logging_in_and_stays_who_they_are(
    bastion: Bastion, slapd: Slapd, sandbox: Sandbox
) -> None:
    use(bastion, slapd, starling_auto_provision=PROVISIONING)
    terminal = bastion.ssh("newcomer")
    terminal.await_text("You are new here")
    terminal.await_prompt()
    terminal.type("")
    sandbox.approve(sandbox.await_push()["id"])
    assert terminal.await_end() == 0
    [event] = bastion.await_audit("enrolment")
    assert event["STARLING_USER"] == "newcomer"
    created = [call for call in sandbox.log() if call["path"] == "/v1/Users"]
    assert len(created) == 1
    again = bastion.ssh("newcomer")
    assert "Press Enter" in again.await_prompt()
    assert "You are new here" not in again.text
    again.close()
    bastion.terminals.remove(again)
    dn = dn_of("newcomer")
    modify(slapd, f"dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: +44 20 7946 0099\n")
    moved = bastion.log_in("newcomer", options=("-o", "NumberOfPasswordPrompts=1"))
    assert "Press Enter" not in moved.text
    assert reasons(bastion)[-1] == "provisioning_changed"
    assert "mobile" in bastion.audit()[-1]["STARLING_EVIDENCE"]
    assert not re.search("7946 ?00", bastion.logged())


def test_a_group_is_enrolled_ahead_of_time_and_who_leaves_it_is_refused(
    bastion: Bastion, slapd: Slapd, sandbox: Sandbox
) -> None:
    loop = "groups = staff, night\nrate_limit = 6000\non_leaving = block\nmax_shrink = 50"
    use(bastion, slapd, starling_auto_provision=PROVISIONING, provisioning=loop)
    bastion.run("systemctl", "restart", "starlingd.service")  # the loop itself begins ten seconds later
    planned = bastion.run("starlingctl", "provision", "plan")
    assert re.search(r"^newcomer +create", planned, re.MULTILINE)
    assert re.search(r"^approves +unusable +number or address is missing", planned, re.MULTILINE)
    ran = json.loads(bastion.run("starlingctl", "provision", "run", "--json"))
    assert (ran["outcome"], ran["counts"]) == ("complete", {"create": 2, "unusable": 1})
    shown = bastion.run("starlingctl", "user", "show", "newcomer")
    assert "in the group staff" in shown
    assert re.search(r"^event +\S+ \S+ enrolment allow", shown, re.MULTILINE)
    first = bastion.ssh("newcomer")
    assert "Press Enter" in first.await_prompt()
    assert "You are new here" not in first.text
    first.type("")
    sandbox.approve(sandbox.await_push()["id"])
    assert first.await_end() == 0
    assert len([call for call in sandbox.log() if call["path"] == "/v1/Users"]) == 2
    modify(slapd, f"dn: {group_dn(STAFF)}\nchangetype: modify\ndelete: member\nmember: {dn_of('newcomer')}\n")
    ran = json.loads(bastion.run("starlingctl", "provision", "run", "--json"))
    assert [(found["user"], found["action"]) for found in ran["differences"] if found["action"] == "block"] == [
        ("newcomer", "block")
    ]
    refused = bastion.log_in("newcomer", options=("-o", "NumberOfPasswordPrompts=1"))
    assert "in as" not in refused.text
    assert reasons(bastion)[-1] == "blocked"
    [begun, ended] = bastion.await_audit("provisioning", 2)
    assert (begun["STARLING_EVIDENCE"], ended["STARLING_EVIDENCE"]) == (
        "create=2 unusable=1",
        "block=1 nothing=1 unusable=1",
    )
