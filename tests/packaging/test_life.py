"""Installing, upgrading, removing and purging the package on a booted machine."""

import re

import pytest

from tests.packaging.conftest import NEWER
from tests.system.machine import Machine

LIB = "/usr/lib/pam-starling"
PAM_LINE = f"account requisite pam_python.so {LIB}/entry.py"
CONFIGURE = """
printf '[auth]\\nprovider = totp\\n[totp]\\nkey = $\\n' > /etc/pam-starling/starling.conf
starlingctl totp make-key --plain && systemctl restart starlingd.service
"""
ENABLE = "starlingctl pam enable sshd --mode key --confirm-within 1h --yes 2>&1"


def snapshot(machine: Machine, *folders: str) -> str:
    return machine.shell(
        f"find {' '.join(folders)} -type f -exec sha256sum {{}} + | sort -k2; find {' '.join(folders)} -ls"
    )


def show(machine: Machine, unit: str, *properties: str) -> dict[str, str]:
    printed = machine.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
    return dict(line.split("=", 1) for line in printed.splitlines())


def upgrade(machine: Machine) -> str:
    return machine.shell("DEBIAN_FRONTEND=noninteractive apt-get install -y -q /root/newer.deb 2>&1")


# --- installing ---------------------------------------------------------------------------------------------------


def test_installing_changes_no_pam_stack_no_sshd_and_no_account_of_a_person(machine: Machine) -> None:
    folders = ("/etc/pam.d", "/etc/ssh", "/etc/security", "/usr/share/pam-configs")
    before, people = snapshot(machine, *folders), machine.run("cat", "/etc/passwd")
    machine.shell("apt-get install -y -q --no-install-recommends /root/pam-starling.deb")
    assert snapshot(machine, *folders) == before
    [added] = set(machine.run("cat", "/etc/passwd").splitlines()) - set(people.splitlines())
    assert re.fullmatch(
        r"starlingd:[!x*]:\d{1,3}:\d{1,3}:pam-starling daemon:/var/lib/starlingd:/usr/sbin/nologin", added
    )


def test_installing_starts_the_socket_and_not_the_daemon(installed: Machine) -> None:
    assert installed.run("systemctl", "is-enabled", "starlingd.socket").strip() == "enabled"
    assert installed.run("systemctl", "is-active", "starlingd.socket").strip() == "active"
    assert show(installed, "starlingd.service", "ActiveState") == {"ActiveState": "inactive"}


def test_only_root_reaches_the_socket(installed: Machine) -> None:
    assert installed.shell("stat -c '%F %U:%G %a' /run/starlingd/pam.sock").strip() == "socket root:root 600"
    assert installed.shell("stat -c '%U:%G %a' /run/starlingd").strip() == "root:root 755"


def test_the_daemon_may_read_its_configuration_and_nobody_else_may(installed: Machine) -> None:
    assert installed.shell("stat -c '%U:%G %a' /etc/pam-starling/starling.conf").strip() == "root:starlingd 640"
    assert installed.shell("stat -c '%U:%G %a' /etc/pam-starling/credentials").strip() == "root:root 700"
    assert "starling-admin" in installed.run("getent", "group", "starling-admin")


def test_without_a_credential_the_daemon_is_up_and_says_what_is_missing(installed: Machine) -> None:
    installed.shell("systemctl start starlingd.service")
    state = show(installed, "starlingd.service", "ActiveState", "StatusText")
    assert state["ActiveState"] == "active"
    assert "credential" in state["StatusText"]


def test_the_module_is_whole_and_compiled_behind_one_symlink(installed: Machine) -> None:
    assert re.fullmatch(r"versions/\S+", installed.run("readlink", f"{LIB}/current").strip())
    sources = installed.shell(f"cd {LIB}/current/pam_starling && ls *.py").split()
    compiled = installed.shell(f"cd {LIB}/current/pam_starling/__pycache__ && ls").split()
    assert {name.partition(".")[0] for name in compiled} == {name.removesuffix(".py") for name in sources}
    assert {"login.py", "client.py", "protocol.py", "options.py"} <= set(sources)


def test_the_daemon_is_byte_compiled(installed: Machine) -> None:
    assert installed.shell(f"ls {LIB}/daemon/starlingd/__pycache__/main.*.pyc")


def test_what_is_installed_is_what_was_shipped(installed: Machine) -> None:
    assert installed.run("dpkg", "--verify", "pam-starling") == ""


def test_a_command_is_not_led_astray_by_the_directory_it_is_called_in(installed: Machine) -> None:
    installed.shell(
        "mkdir /tmp/trap && cd /tmp/trap && echo 'raise SystemExit(99)' > starlingd.py && cp starlingd.py click.py"
    )
    assert "check-config" in installed.shell("cd /tmp/trap && PYTHONPATH=/tmp/trap starlingctl --help")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("starlingctl pam en", ["enable"]),
        ("starlingctl pro", ["provision"]),
        ("starlingctl grace ", ["forget", "list"]),
        ("starlingctl totp enrol --re", ["--replace"]),
    ],
)
def test_bash_completes_commands_and_options(installed: Machine, typed: str, offered: list[str]) -> None:
    words = typed.split(" ")
    script = (
        ". /usr/share/bash-completion/completions/starlingctl\n"
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}) COMP_CWORD={len(words) - 1}\n"
        "compopt() { :; }\n_starlingctl\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    assert sorted(installed.run("bash", text=script).split()) == offered


# --- upgrading ----------------------------------------------------------------------------------------------------


def test_an_upgrade_leaves_the_socket_alone_and_restarts_the_daemon(installed: Machine) -> None:
    installed.shell("systemctl start starlingd.service")
    before = show(installed, "starlingd.socket", "InvocationID"), installed.shell("stat -c %i /run/starlingd/pam.sock")
    daemon = show(installed, "starlingd.service", "MainPID")
    upgrade(installed)
    after = show(installed, "starlingd.socket", "InvocationID"), installed.shell("stat -c %i /run/starlingd/pam.sock")
    assert after == before
    assert show(installed, "starlingd.service", "MainPID") != daemon
    assert show(installed, "starlingd.service", "ActiveState") == {"ActiveState": "active"}


def test_an_upgrade_does_not_start_a_daemon_that_was_not_running(installed: Machine) -> None:
    upgrade(installed)
    assert show(installed, "starlingd.service", "ActiveState") == {"ActiveState": "inactive"}
    assert show(installed, "starlingd.socket", "ActiveState") == {"ActiveState": "active"}


def test_an_upgrade_switches_to_the_new_module_and_keeps_the_old_one_for_logins_under_way(installed: Machine) -> None:
    old = installed.run("readlink", "-f", f"{LIB}/current").strip()
    upgrade(installed)
    new = installed.run("readlink", "-f", f"{LIB}/current").strip()
    assert NEWER in installed.run("cat", f"{new}/pam_starling/__init__.py")
    assert NEWER not in installed.run("cat", f"{old}/pam_starling/__init__.py")
    assert "login.py" in installed.run("ls", f"{old}/pam_starling")


def test_upgrades_do_not_pile_up_old_modules(installed: Machine) -> None:
    for package in ("newer", "pam-starling", "newer"):
        installed.shell(f"dpkg -i /root/{package}.deb")
    assert len(installed.run("ls", f"{LIB}/versions").split()) == 2


def test_an_upgrade_keeps_the_administrators_configuration_and_its_mode(installed: Machine) -> None:
    installed.shell("echo '# mine' >> /etc/pam-starling/starling.conf")
    installed.write("/etc/pam-starling/credentials/starling.credential", "id:secret", "0600")
    upgrade(installed)
    assert installed.run("tail", "-n1", "/etc/pam-starling/starling.conf") == "# mine\n"
    assert installed.shell("stat -c '%U:%G %a' /etc/pam-starling/starling.conf").strip() == "root:starlingd 640"
    assert installed.run("cat", "/etc/pam-starling/credentials/starling.credential") == "id:secret"


def test_an_upgrade_does_not_need_a_configuration_that_the_administrator_took_away(installed: Machine) -> None:
    installed.shell("rm /etc/pam-starling/starling.conf")
    upgrade(installed)
    assert installed.run("dpkg-query", "-Wf", "${db:Status-Status} ${Version}", "pam-starling") == f"installed {NEWER}"
    installed.shell("test ! -e /etc/pam-starling/starling.conf")


def test_an_upgrade_leaves_a_socket_off_that_the_administrator_switched_off(installed: Machine) -> None:
    installed.shell("systemctl disable --now starlingd.socket")
    upgrade(installed)
    assert installed.run("systemctl", "is-enabled", "starlingd.socket", check=False).strip() == "disabled"


# --- removing -----------------------------------------------------------------------------------------------------


def test_a_package_that_a_pam_stack_still_uses_is_not_removed(installed: Machine) -> None:
    installed.shell(f"sed -i '1i {PAM_LINE}' /etc/pam.d/sshd")
    refused = installed.shell("dpkg -r pam-starling 2>&1", check=False)
    assert "/etc/pam.d/sshd" in refused
    assert installed.run("dpkg-query", "-Wf", "${db:Status-Status}", "pam-starling") == "installed"
    assert installed.run("systemctl", "is-active", "starlingd.socket").strip() == "active"
    assert installed.run("ls", f"{LIB}/current/pam_starling/login.py")


@pytest.mark.parametrize(
    "by_hand",
    [
        f"sed -i '1i {PAM_LINE}' /etc/pam.d/login",
        f"sed -i '1i {PAM_LINE}' /etc/pam.d/sshd",
        "sed -i '/^# <<< pam-starling/d' /etc/pam.d/sshd",
    ],
    ids=["in another file", "outside our marks", "in place of our marks"],
)
def test_a_removal_that_is_refused_leaves_the_second_factor_on(installed: Machine, by_hand: str) -> None:
    installed.shell(CONFIGURE + ENABLE)
    installed.shell(by_hand)
    before = snapshot(installed, "/etc/pam.d", "/etc/ssh", "/var/lib/pam-starling-undo")
    assert "not removed" in installed.shell("dpkg -r pam-starling 2>&1", check=False)
    assert snapshot(installed, "/etc/pam.d", "/etc/ssh", "/var/lib/pam-starling-undo") == before
    assert f"{LIB}/entry.py" in installed.run("cat", "/etc/pam.d/sshd")
    assert installed.run("dpkg-query", "-Wf", "${db:Status-Status}", "pam-starling") == "installed"


def test_removing_switches_off_what_starlingctl_switched_on_whatever_copies_lie_beside_it(installed: Machine) -> None:
    before = installed.run("cat", "/etc/pam.d/sshd")
    installed.shell(CONFIGURE + ENABLE)
    installed.shell("cd /etc/pam.d && for copy in sshd.bak sshd~ sshd.dpkg-old; do cp sshd $copy; done")
    installed.shell("sed -i '$a # mine' /etc/pam.d/sshd")
    installed.shell("dpkg -r pam-starling")
    assert installed.run("cat", "/etc/pam.d/sshd") == f"{before}# mine\n"
    assert installed.shell("ls /var/lib/pam-starling-undo/sshd 2>/dev/null || true") == ""


def test_removing_ends_the_daemon_and_keeps_configuration_and_state(installed: Machine) -> None:
    installed.shell("systemctl start starlingd.service && apt-get remove -y -q pam-starling")
    assert installed.shell("pgrep -u starlingd || true") == ""
    assert installed.shell("ls /run/starlingd/pam.sock 2>/dev/null || true") == ""
    assert installed.shell(f"ls {LIB} 2>/dev/null || true") == ""
    assert installed.run("ls", "/etc/pam-starling/starling.conf", "/var/lib/starlingd")
    assert installed.run("systemctl", "is-system-running").strip() == "running"


def test_purging_leaves_nothing_but_the_system_account(installed: Machine) -> None:
    installed.shell("systemctl start starlingd.service && apt-get purge -y -q pam-starling")
    mentioned = installed.shell(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /root \\) -prune -o -iname '*starling*' -print"
    )
    assert mentioned == ""
    assert "starlingd" in installed.run(
        "getent", "passwd", "starlingd"
    )  # as Debian keeps them: its number is not reused


def test_purging_leaves_nothing_of_what_joining_kept(installed: Machine) -> None:
    installed.shell("echo id:secret | starlingctl join --without-check --restart --file -")
    added = "/etc/systemd/system/starlingd.service.d/pam-starling-starling.credential.conf"
    assert "LoadCredentialEncrypted=starling.credential:" in installed.run("cat", added)
    installed.shell("apt-get purge -y -q pam-starling")
    mentioned = installed.shell(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /root \\) -prune -o -iname '*starling*' -print"
    )
    assert mentioned == ""
    assert installed.run("systemctl", "is-system-running").strip() == "running"


@pytest.mark.parametrize("how", ["remove", "purge"])
def test_it_can_be_installed_again(installed: Machine, how: str) -> None:
    installed.shell(
        f"apt-get {how} -y -q pam-starling && apt-get install -y -q --no-install-recommends /root/newer.deb"
    )
    installed.shell("systemctl start starlingd.service")
    assert show(installed, "starlingd.service", "ActiveState") == {"ActiveState": "active"}
