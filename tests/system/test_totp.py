"""Authenticator apps and the other codes of this host, through real sshd, with oathtool as the app."""

import re
import secrets
import subprocess
import time
from pathlib import Path

import pytest

from tests.sandbox.running import Sandbox
from tests.system import bastion as bastions
from tests.system.bastion import Bastion
from tests.system.engine import BARE, Engine
from tests.system.terminal import Terminal

pytestmark = pytest.mark.system

ALONE = {"auth": "provider = totp\nmax_failures = 50\nmax_attempts = 1", "totp": "key = $"}
ENROLLING = {**ALONE, "auth": f"{ALONE['auth']}\nnot_enrolled = enrol"}
NOWHERE = {"https_proxy": "server = 127.0.0.1\nport = 9"}
"""A way to the service on which nobody listens."""


README = Path(__file__).resolve().parents[2] / "README.md"


def use(bastion: Bastion, mode: str = "key", **sections: str) -> None:
    """Configure the bastion with a key for its secrets."""
    key = subprocess.run(["/usr/bin/openssl", "rand", "-base64", "32"], capture_output=True, text=True, check=True)
    bastion.write("/etc/pam-starling/credentials/totp.key", key.stdout, "0600")
    bastion.configure(mode, **sections)


def code_of(secret: str, steps: int = 0, *options: str) -> str:
    """Have oathtool make a code, some steps from now."""
    then = f"--now=@{int(time.time()) + 30 * steps}"
    command = ["/usr/bin/oathtool", "--totp", "--base32", then, *options, "".join(secret.split())]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def fresh_step() -> None:
    """Wait for the beginning of a step, so that nothing that follows falls into two."""
    time.sleep(30 - time.time() % 30 if time.time() % 30 > 15 else 0)


def enrolled(bastion: Bastion, user: str) -> str:
    """Import an app for a user; tell its secret."""
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    bastion.write("/root/apps", f"otpauth://totp/{user}?secret={secret}\n", "0600")
    bastion.run("starlingctl", "totp", "import", "/root/apps")
    return secret


def in_as(terminal: Terminal, user: str) -> bool:
    return f"in as {user}" in terminal.text


def test_somebody_new_enrols_inside_the_first_login_and_a_code_is_good_once(bastion: Bastion) -> None:
    use(bastion, **ENROLLING)
    first = bastion.ssh("manual")
    first.await_text("Code that the app shows:")
    shown = first.text
    assert "You have no second factor yet" in shown
    assert shown.count("\N{FULL BLOCK}" * 37) >= 1
    found = re.search(r"or type in: ([A-Z2-7 ]+)", shown)
    assert found is not None
    secret = found[1]
    fresh_step()
    used = code_of(secret)
    first.type(used)
    assert first.await_end() == 0
    assert in_as(first, "manual")
    again = bastion.log_in("manual", used)
    assert not in_as(again, "manual")
    assert "One-time password:" in again.text
    assert bastion.audit()[-1]["STARLING_REASON"] == "code_reused"
    assert in_as(bastion.log_in("manual", code_of(secret, 1)), "manual")
    [event] = bastion.await_audit("enrolment")
    assert (event["STARLING_USER"], event["PRIORITY"]) == ("manual", "4")
    assert "".join(secret.split()) not in bastion.logged()
    assert not bastion.sandbox.log()


@pytest.mark.parametrize("kind", ["app", "recovery", "helpdesk"])
def test_ten_parallel_logins_with_one_code_are_one(bastion: Bastion, kind: str) -> None:
    use(bastion, **ALONE)
    secret = enrolled(bastion, "manual")
    make = {"recovery": ("recovery", "make"), "helpdesk": ("code", "issue")}.get(kind)
    issued = bastion.run("starlingctl", *make, "manual").splitlines()[0] if make else ""
    fresh_step()
    terminals = [bastion.ssh("manual") for _ in range(10)]
    for terminal in terminals:
        terminal.await_prompt(60)
    used = issued or code_of(secret)
    for terminal in terminals:
        terminal.type(used)
    for terminal in terminals:
        terminal.await_end(60)
    assert [in_as(terminal, "manual") for terminal in terminals].count(True) == 1


def test_recovery_and_helpdesk_codes_are_good_for_one_login_each(bastion: Bastion) -> None:
    use(bastion, **ALONE)
    made = bastion.run("starlingctl", "recovery", "make", "manual").splitlines()[0]
    terminal = bastion.log_in("manual", made)
    assert in_as(terminal, "manual")
    assert "You have 9 recovery codes left" in terminal.text
    assert not in_as(bastion.log_in("manual", made), "manual")
    issued = bastion.run("starlingctl", "code", "issue", "manual", "--valid", "1h").splitlines()[0]
    assert in_as(bastion.log_in("manual", issued), "manual")
    assert not in_as(bastion.log_in("manual", issued), "manual")
    factors = [event["STARLING_FACTOR"] for event in bastion.audit() if event["STARLING_OUTCOME"] == "allow"]
    assert factors == ["recovery", "helpdesk"]
    [event] = bastion.audit("code_issued")
    assert event["STARLING_BY"] == "root (uid 0)"


def test_apps_of_google_authenticator_and_of_pam_oath_go_on_working(bastion: Bastion) -> None:
    use(bastion, **ALONE)
    bastion.shell(
        "su manual -c 'google-authenticator -t -d -f -r 3 -R 30 -w 3 -Q NONE -C -s /home/manual/.google_authenticator'"
    )
    theirs = bastion.run("head", "-n1", "/home/manual/.google_authenticator").strip()
    imported = bastion.run("starlingctl", "totp", "import", "/home/manual/.google_authenticator")
    assert re.search(r"1 +manual +imported", imported)
    assert in_as(bastion.log_in("manual", code_of(theirs)), "manual")
    key = secrets.token_hex(20)
    users = f"HOTP/T30/6\tapproves\t-\t{key}\nHOTP/T60/8\tdenies\t-\t{key}\n"
    bastion.write("/root/users.oath", users, "0600")
    rewritten_by_pam_oath(bastion, "approves", oath_code(key))
    imported = bastion.run("starlingctl", "totp", "import", "/root/users.oath")
    assert len(re.findall(r" imported", imported)) == 2
    assert in_as(bastion.log_in("approves", oath_code(key, 1)), "approves")
    assert in_as(bastion.log_in("denies", oath_code(key, 0, "--time-step-size=60s", "--digits=8")), "denies")


def oath_code(key: str, steps: int = 0, *options: str) -> str:
    """Have oathtool make a code of a secret in hexadecimal, some steps of 30 s from now."""
    then = f"--now=@{int(time.time()) + 30 * steps}"
    command = ["/usr/bin/oathtool", "--totp", then, *options, key]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def rewritten_by_pam_oath(bastion: Bastion, user: str, code: str) -> None:
    """Have pam_oath take a code of somebody, upon which it writes its users file anew."""
    service = "auth required pam_oath.so usersfile=/root/users.oath window=2\n"
    bastion.write("/etc/pam.d/oath-check", f"{service}account required pam_permit.so\n")
    bastion.run("pamtester", "oath-check", user, "authenticate", text=f"{code}\n")
    bastion.run("rm", "/etc/pam.d/oath-check")
    written = bastion.run("cat", "/root/users.oath")
    assert re.search(rf"^HOTP/T30/6\t{user}\t-\t[0-9a-f]+\t\d+\t{code}\t\S+$", written, re.MULTILINE), written


def test_while_the_service_cannot_be_reached_the_app_stands_in(bastion: Bastion) -> None:
    use(bastion, auth="fallback = totp, recovery", totp="key = $", **NOWHERE)
    secret = enrolled(bastion, "manual")
    terminal = bastion.ssh("manual")
    terminal.await_prompt()
    terminal.type("")
    terminal.await_text(
        "The second-factor service cannot be reached. Code of your authenticator app, or a recovery code:"
    )
    terminal.type(code_of(secret))
    assert terminal.await_end() == 0
    assert in_as(terminal, "manual")
    event = bastion.audit()[-1]
    assert (event["STARLING_FACTOR"], event["STARLING_REASON"]) == ("totp", "code_verified")


def test_a_restart_forgets_no_used_code_and_a_rotated_key_no_app(bastion: Bastion) -> None:
    use(bastion, **ALONE)
    secret = enrolled(bastion, "manual")
    fresh_step()
    used = code_of(secret)
    assert in_as(bastion.log_in("manual", used), "manual")
    before = bastion.run("cat", "/etc/pam-starling/credentials/totp.key")
    said = bastion.run("starlingctl", "totp", "rotate-key", "--plain")
    assert "1 secrets are sealed with the new key" in said
    after = bastion.run("cat", "/etc/pam-starling/credentials/totp.key")
    assert len(after.split()) == 1
    assert after != before
    assert not in_as(bastion.log_in("manual", used), "manual")
    assert in_as(bastion.log_in("manual", code_of(secret, 1)), "manual")


def test_a_backup_brings_apps_and_key_back_to_a_host_that_lost_both(bastion: Bastion) -> None:
    use(bastion, **ALONE)
    secret = enrolled(bastion, "manual")
    bastion.write("/root/passphrase", "correct horse battery staple\n", "0600")
    bastion.run("rm", "-f", "/root/saved")
    bastion.run("starlingctl", "backup", "--passphrase-file", "/root/passphrase", "/root/saved")
    bastion.shell("systemctl stop starlingd.service; rm -r /var/lib/starlingd /etc/pam-starling/credentials/totp.key")
    restored = bastion.run(
        "starlingctl", "restore", "--yes", "--plain", "--passphrase-file", "/root/passphrase", "/root/saved"
    )
    assert "put back" in restored
    assert bastion.shell("stat -c '%U %a' /var/lib/starlingd/state.db").strip() == "starlingd 600"
    assert in_as(bastion.log_in("manual", code_of(secret)), "manual")


def test_a_restore_beneath_a_rotated_key_keeps_logins_working(bastion: Bastion) -> None:
    use(bastion, **ALONE)
    secret = enrolled(bastion, "manual")
    bastion.write("/root/passphrase", "correct horse battery staple\n", "0600")
    bastion.run("rm", "-f", "/root/saved")
    bastion.run("starlingctl", "backup", "--passphrase-file", "/root/passphrase", "/root/saved")
    bastion.run("starlingctl", "totp", "rotate-key", "--plain")
    rotated = bastion.run("cat", "/etc/pam-starling/credentials/totp.key").strip()
    bastion.run("starlingctl", "totp", "remove", "manual")
    restoring = ("starlingctl", "restore", "--yes", "--plain", "--passphrase-file", "/root/passphrase", "/root/saved")
    assert "/var/lib/starlingd/state.db.before-restore" in bastion.run(*restoring)
    assert bastion.run("cat", "/etc/pam-starling/credentials/totp.key").split()[1:] == [rotated]
    assert in_as(bastion.log_in("manual", code_of(secret)), "manual")
    units = ("starlingd.socket", "starlingd-control.socket", "starlingd.service")
    assert bastion.run("systemctl", "is-active", *units).split() == ["active"] * 3
    used = bastion.run("sqlite3", "/var/lib/starlingd/state.db", "select used > 0 from tokens where user = 'manual'")
    assert used.strip() == "1", "the running daemon writes another file"


def test_a_backup_finds_a_key_that_the_unit_is_handed_from_elsewhere(bastion: Bastion) -> None:
    use(bastion, **ALONE)
    enrolled(bastion, "manual")
    bastion.write("/root/passphrase", "correct horse battery staple\n", "0600")
    own = "/etc/systemd/system/starlingd.service.d/own.conf"
    save = "rm -f /root/saved; starlingctl backup --passphrase-file /root/passphrase /root/saved 2>&1"
    bastion.run("mkdir", "-p", "/etc/systemd/system/starlingd.service.d")
    bastion.write(own, "[Service]\nLoadCredential=totp.key:/root/own.key\n")
    bastion.shell("mv /etc/pam-starling/credentials/totp.key /root/own.key && systemctl daemon-reload")
    try:
        bastion.run("systemctl", "restart", "starlingd.service")
        assert "saved in /root/saved" in bastion.shell(save)
        again = bastion.shell("starlingctl totp make-key 2>&1", check=False)
        assert "there is a key already" in again
    finally:
        bastion.shell(f"rm {own}; systemctl daemon-reload; systemctl restart starlingd.service")
    assert "nothing is saved: there are apps (1), and their key is found nowhere" in bastion.shell(save, check=False)
    refused = bastion.shell("starlingctl totp make-key 2>&1", check=False)
    assert "the key that is lost and no other" in refused


def test_the_first_key_is_made_and_taken_into_use_by_one_command(bastion: Bastion) -> None:
    use(bastion, **ALONE)
    bastion.shell("rm /etc/pam-starling/credentials/totp.key; systemctl restart starlingd.service")
    assert not in_as(bastion.log_in("manual"), "manual")
    said = bastion.run("starlingctl", "totp", "make-key", "--plain")
    assert "kept in /etc/pam-starling/credentials/totp.key" in said
    bastion.run("systemctl", "restart", "starlingd.service")
    assert in_as(bastion.log_in("manual", code_of(enrolled(bastion, "manual"))), "manual")
    again = bastion.shell("starlingctl totp make-key --plain 2>&1", check=False)
    assert "there is a key already" in again


def test_the_readme_leads_to_a_login_without_any_account(
    engine: Engine, deb: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    chapter = README.read_text(encoding="utf-8").partition("## Without any account\n")[2].partition("\n## ")[0]
    commands = [line.partition("#")[0].strip() for line in re.findall(r"^    (.+)$", chapter, re.MULTILINE)]
    assert "write `provider = totp`" in chapter
    with bastions.bastion(engine, sandbox, tmp_path, "readme", BARE) as fresh:
        engine.docker("cp", str(deb), f"{fresh.name}:/root/")
        fresh.shell(
            "apt-get install -y -q /root/*.deb && useradd -m -s /bin/bash alice "
            "&& install -d -m 700 -o alice -g alice /home/alice/.ssh "
            "&& install -o alice -m 600 /root/key.pub /home/alice/.ssh/authorized_keys "
            "&& echo 'alice ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/alice "
            r"&& sed -i 's/^\[auth\]$/&\nprovider = totp/' /etc/pam-starling/starling.conf"
        )
        fresh.await_sshd()
        secret = type_commands(fresh, commands)
        terminal = fresh.ssh("alice", remote="sudo starlingctl pam confirm && echo in as $(id -un)")
        terminal.await_prompt()
        assert "`starlingctl pam confirm`" in chapter
        terminal.type(code_of(secret, 1))
        assert terminal.await_end() == 0, terminal.text
        assert in_as(terminal, "alice")


def type_commands(bastion: Bastion, commands: list[str]) -> str:
    """Type commands as root, answer what they ask, and tell the secret of the app that is enrolled on the way."""
    secret = ""
    for command in commands:
        docker = ["/usr/bin/docker", "-H", f"unix://{bastion.engine.socket}", "exec", "-it", bastion.name]
        terminal = Terminal.run([*docker, "sh", "-c", command])
        bastion.terminals.append(terminal)
        if command.startswith("starlingctl totp enrol"):
            terminal.await_text("Code that the app shows:")
            [secret] = re.findall(r"Secret: ([A-Z2-7 ]+)", terminal.text)
            fresh_step()
            terminal.type(code_of(secret))
        elif command.startswith("starlingctl pam enable"):
            terminal.await_text("Make this change? [y/N]:", 60)
            terminal.type("y")
        assert terminal.await_end(60) == 0, terminal.text
    return secret
