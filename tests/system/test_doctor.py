"""Doctor on a real bastion: nothing above a note on a good one, and each planted fault by its name."""

import contextlib
import json
import shlex
from collections.abc import Iterator

import pytest

from tests.sandbox.running import Sandbox
from tests.system import bastion as bastions
from tests.system.bastion import ENTRY, Bastion
from tests.system.engine import Engine

pytestmark = pytest.mark.system

CONF, SSHD, PAM = "/etc/pam-starling/starling.conf", "/etc/ssh/sshd_config.d/00-starling.conf", "/etc/pam.d/sshd"
LIB = "/usr/lib/pam-starling"
USED = f"{LIB}/current/pam_starling/login.py"
CREDENTIAL = "/etc/pam-starling/credentials/starling.credential"


@pytest.fixture(scope="module")
def good(engine: Engine, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    """Offer one bastion in key mode; whoever plants a fault takes it away."""
    with bastions.bastion(engine, sandbox, tmp_path_factory.mktemp("doctor"), "doctor") as started:
        started.configure("key")
        yield started


def doctor(bastion: Bastion, *arguments: str) -> dict[str, str]:
    """Tell the severity of each finding by its id."""
    found = json.loads(bastion.run("starlingctl", "doctor", "--json", *arguments, check=False))
    return {finding["id"]: finding["severity"] for finding in found}


@contextlib.contextmanager
def planted(bastion: Bastion, script: str, files: str, undo: str = "true") -> Iterator[None]:
    """Run a script that changes ``files``; afterwards put them back and run ``undo``."""
    names = " ".join(map(shlex.quote, files.split()))
    bastion.shell(f"rm -f /root/kept.tar; tar -cPf /root/kept.tar {names or '--files-from /dev/null'}")
    try:
        bastion.shell(script)
        yield
    finally:
        bastion.shell(f"tar -xpPf /root/kept.tar && {undo}")


def first_in(file: str, line: str) -> str:
    return f"printf '%s\\n' {shlex.quote(line)} | cat - {file} > /root/new && cat /root/new > {file}"


def edit(file: str, expression: str) -> str:
    return f"cp {file} /root/old && sed -i {shlex.quote(expression)} {file} && ! cmp -s {file} /root/old"


def sshd(line: str, finding: str) -> tuple[str, str, str, str]:
    return first_in(SSHD, line), SSHD, "true", finding


def pam(script: str, finding: str) -> tuple[str, str, str, str]:
    return script, PAM, "true", finding


OURS = "/^auth.*entry.py/"
RESTART = "systemctl reset-failed; systemctl restart starlingd.socket starlingd-control.socket starlingd.service"
FAULTS = {
    "no PAM": sshd("UsePAM no", "sshd.use-pam"),
    "passwords": sshd("PasswordAuthentication yes", "sshd.password-authentication"),
    "nobody is asked": (
        f"printf 'Match User approves\\n KbdInteractiveAuthentication no\\n' >> {SSHD}",
        SSHD,
        "true",
        "sshd.kbd-interactive",
    ),
    "nobody can log in": sshd("KbdInteractiveAuthentication no", "sshd.config"),  # sshd refuses methods that are off
    "any method": sshd("AuthenticationMethods any", "sshd.methods-any"),
    "an alternative": sshd(
        "AuthenticationMethods publickey publickey,keyboard-interactive:pam", "sshd.methods-skip"
    ),
    "no key": sshd("AuthenticationMethods keyboard-interactive:pam", "sshd.methods-no-key"),
    "GSSAPI": sshd("GSSAPIAuthentication yes", "sshd.gssapi"),
    "host-based": sshd("HostbasedAuthentication yes", "sshd.hostbased"),
    "root": sshd("PermitRootLogin yes", "sshd.root"),
    "a short LoginGraceTime": sshd("LoginGraceTime 30", "sshd.grace-time"),
    "a small MaxStartups": (edit(SSHD, "s/^MaxStartups.*/MaxStartups 3/"), SSHD, "true", "sshd.max-startups"),
    "a line sshd does not take": sshd("NoSuchOption yes", "sshd.config"),
    "a Match block": (
        f"printf 'Match User approves\\n AuthenticationMethods publickey\\n' >> {SSHD}",
        SSHD,
        "true",
        "sshd.methods-skip",
    ),
    "a Match block of addresses": (
        f"printf 'Match Address 192.168.1.*\\n AuthenticationMethods publickey\\n' >> {SSHD}",
        SSHD,
        "true",
        "sshd.methods-skip",
    ),
    "an sshd that does not run": (
        "systemctl stop ssh.service",
        "",
        "systemctl reset-failed; systemctl start ssh.service",
        "sshd.stopped",
    ),
    "sufficient before ours": pam(first_in(PAM, "auth sufficient pam_rootok.so"), "pam.passed-over"),
    "a jump over ours": pam(first_in(PAM, "auth [success=9 default=ignore] pam_rootok.so"), "pam.passed-over"),
    "ours optional": pam(edit(PAM, f"{OURS}s/requisite/optional/"), "pam.control"),
    "no pam_permit": pam(edit(PAM, "/pam_permit.so/d"), "pam.permit"),
    "first_factor in key mode": pam(edit(PAM, f"{OURS}s/$/ first_factor=before/"), "pam.first-factor"),
    "account not first": pam(first_in(PAM, "@include common-account"), "pam.account-first"),
    "session not first": pam(first_in(PAM, "session required pam_env.so"), "pam.session-first"),
    "no account line": pam(edit(PAM, "/^account.*entry.py/d"), "pam.account-missing"),
    "not switched on": pam(edit(PAM, "/entry.py/d"), "pam.off"),
    "su": (first_in("/etc/pam.d/su", f"auth required {ENTRY}"), "/etc/pam.d/su", "true", "pam.setuid"),
    "common-auth": (
        first_in("/etc/pam.d/common-auth", f"auth required {ENTRY}"),
        "/etc/pam.d/common-auth",
        "true",
        "pam.common",
    ),
    "entry.py of somebody": (f"chown approves {LIB}/entry.py", f"{LIB}/entry.py", "true", "files.owner"),
    "entry.py for all": (f"chmod 666 {LIB}/entry.py", f"{LIB}/entry.py", "true", "files.writable"),
    "an import for all": (
        f"chmod o+w {LIB}/current/pam_starling/login.py",
        "",
        f"chmod o-w {LIB}/current/pam_starling/login.py",
        "files.writable",
    ),
    "half a module": (
        f"mv {LIB}/current/pam_starling/client.py /root/",
        "",
        f"mv /root/client.py {LIB}/current/pam_starling/",
        "files.missing",
    ),
    "an older module": (f"echo '# older' >> {USED}", USED, "true", "files.version"),
    "pam_python.so for all": (
        "chmod o+w /lib/security/pam_python.so",
        "",
        "chmod o-w /lib/security/pam_python.so",
        "files.writable",
    ),
    "a readable credential": (f"chmod 644 {CREDENTIAL}", CREDENTIAL, "true", "files.credentials"),
    "an open folder": (
        "chmod 755 /etc/pam-starling/credentials",
        "",
        "chmod 700 /etc/pam-starling/credentials",
        "files.credentials",
    ),
    "a state for all": (
        "chmod 644 /var/lib/starlingd/state.db",
        "",
        "chmod 600 /var/lib/starlingd/state.db",
        "files.state",
    ),
    "a full disk": (
        "mount -t tmpfs -o size=1m,uid=$(id -u starlingd),mode=700 tmpfs /var/lib/starlingd",
        "",
        "umount /var/lib/starlingd",
        "state.space",
    ),
    "a socket for all": ("chmod 666 /run/starlingd/pam.sock", "", "chmod 600 /run/starlingd/pam.sock", "socket.mode"),
    "no control socket": ("rm /run/starlingd/control.sock", "", RESTART, "socket.missing"),
    "a stopped daemon": (
        "systemctl stop starlingd.socket starlingd-control.socket starlingd.service",
        "",
        RESTART,
        "daemon.inactive",
    ),
    "misconfigured": (
        edit(CONF, "s|^service_url.*|service_url = nonsense|") + "; systemctl restart starlingd",
        CONF,
        "systemctl restart starlingd",
        "daemon.misconfigured",
    ),
    "a problem not yet loaded": (
        edit(CONF, "s|^service_url.*|service_url = nonsense|"),
        CONF,
        "true",
        "config.problem",
    ),
    "a name that is none": (
        edit(CONF, "s|^service_url.*|service_url = https://no-such-host.invalid|"),
        CONF,
        "true",
        "service.name",
    ),
    "nobody listens": (
        edit(CONF, "s|^token_url.*|token_url = https://127.0.0.1:9|"),
        CONF,
        "true",
        "service.unreachable",
    ),
    "an authority that is not theirs": (edit(CONF, "/^ca_file/d"), CONF, "true", "service.refused"),
    "fail open": (first_in(CONF, "[auth]\nfail_mode = safe"), CONF, "true", "config.auth.fail_mode"),
    "only observing": (
        first_in(CONF, "[auth]\nenforce = observe until 2099-01-01"),
        CONF,
        "true",
        "config.auth.enforce",
    ),
}  # fmt: skip


def test_nothing_above_a_note_is_said_of_a_good_bastion(good: Bastion) -> None:
    found = doctor(good)
    assert set(found.values()) <= {"note"}, found
    assert good.shell("starlingctl doctor > /dev/null; echo $?").strip() == "0"
    assert set(doctor(good, "--user", f"approves@{good.engine.gateway}", "--user", "root").values()) <= {"note"}


def test_nothing_at_all_is_said_where_sshd_has_its_own_limits(good: Bastion) -> None:
    with planted(good, edit(SSHD, "s/^MaxStartups.*/MaxStartups 10:30:100/"), SSHD):
        assert doctor(good) == {}
        assert "all is well" in good.run("starlingctl", "doctor")


def test_a_match_block_that_nobody_is_known_for_is_told(good: Bastion) -> None:
    with planted(good, f"printf 'Match Group nobodys-group\\n PermitTTY no\\n' >> {SSHD}", SSHD):
        assert doctor(good) == {"sshd.match-untried": "note"}


@pytest.mark.parametrize(("script", "files", "undo", "finding"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found(good: Bastion, script: str, files: str, undo: str, finding: str) -> None:
    with planted(good, script, files, undo):
        found = doctor(good)
        assert found.get(finding) in {"error", "warning"}, found
        if finding == "pam.off":
            screen = good.shell("starlingctl doctor; echo status $?")
            assert "status 1" in screen
            assert "starlingctl pam enable sshd" in screen


def test_everything_is_as_before(good: Bastion) -> None:
    assert set(doctor(good).values()) <= {"note"}
