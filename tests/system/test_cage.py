"""The daemon's cage: its score, and that what it was seen to do is what its AppArmor profile gives."""

import re
from pathlib import Path

import pytest

from tests.sandbox.running import Sandbox
from tests.system import apparmor
from tests.system.bastion import Bastion
from tests.system.engine import has_apparmor

pytestmark = pytest.mark.system

DROP_IN = "/run/systemd/system/starlingd.service.d"
STATE = "/var/lib/starlingd"
TRACES = f"{STATE}/trace"
RELOADS = f"{STATE}/reload-trace"
STRACE = "/usr/bin/strace -D -ff -qq -y -s 300 -e trace=%%file,%%network,mmap,fcntl -o"
TRACED = f"""[Service]
ExecStart=
ExecStart={STRACE} {TRACES} /usr/sbin/starlingd
ExecReload=
ExecReload={STRACE} {RELOADS} /bin/kill -HUP $MAINPID
SystemCallFilter=
NotifyAccess=all
"""
_OPEN = re.compile(r'^(?:openat\(\S+?, |open\(|creat\()"([^"]+)", (\S+?)[,)].* = \d')
_CHANGE = re.compile(
    r'^(?:unlink|unlinkat|rename|renameat2?|mkdir|mkdirat|chmod|fchmodat|rmdir|symlink)\(.*?"(/[^"]+)".* = 0'
)
_EXECUTE = re.compile(r'^execve\("([^"]+)".* = 0')
_MAP = re.compile(r"^mmap\(.*PROT_EXEC.*\d+<(/[^>]+)>.* = 0x")
_LOCK = re.compile(r"^fcntl\(\d+<(/[^>]+)>, F_(?:OFD_)?SETLKW?,.* = 0")
_UNIX = re.compile(r'^(?:connect|sendto|sendmsg)\(.*sun_path="(/[^"]+)".* = \d')
_SOCKET = re.compile(r"^socket\(AF_(\w+), SOCK_(\w+)")


def used(line: str) -> tuple[str, str] | None:
    """Tell a path, a folder's with its slash, and the permissions that this call used, or nothing."""
    if opened := _OPEN.match(line):
        flags = opened[2]
        path = opened[1].replace("/proc/self/", "/proc/1/") + (
            "/" if "O_DIRECTORY" in flags or opened[1] == STATE else ""
        )
        return path, "rw" if "O_RDWR" in flags else "w" if "O_WRONLY" in flags else "r"
    for pattern, wanted in ((_CHANGE, "w"), (_EXECUTE, "x"), (_MAP, "m"), (_LOCK, "k"), (_UNIX, "w")):
        if found := pattern.match(line):
            return found[1], wanted
    return None


def after_start(trace: list[str]) -> list[str]:
    """Leave out how the program itself was started, which systemd does before the cage counts."""
    return trace[next(i for i, line in enumerate(trace) if _EXECUTE.match(line)) + 1 :]


def test_its_score_is_what_was_promised(bastion: Bastion) -> None:
    said = bastion.shell("systemd-analyze security --no-pager --threshold=15 starlingd.service; echo status $?")
    assert "status 0" in said, said[-2000:]


def test_the_kernel_that_has_apparmor_enforces_the_profile(bastion: Bastion) -> None:
    label = bastion.shell("cat /proc/$(systemctl show -P MainPID starlingd.service)/attr/current", check=False).strip()
    assert label == ("starlingd (enforce)" if has_apparmor() else "")


def test_what_it_does_is_what_its_profile_gives(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.shell(f"mkdir -p {DROP_IN}")
    bastion.write(f"{DROP_IN}/trace.conf", TRACED)
    bastion.write_configuration(
        metrics="listen = /run/starlingd-metrics/metrics.sock",
        authentication_cache="reuse_limit = 1",
        auth="permit_root = yes",
    )
    try:
        bastion.shell("systemctl daemon-reload && systemctl restart starlingd.service")
        assert "in as approves" in bastion.log_in("approves", "").text
        assert "in as manual" in bastion.log_in("manual", sandbox.code_for("manual")).text
        assert "in as" not in bastion.log_in("u503", "", options=("-o", "NumberOfPasswordPrompts=1")).text
        bastion.shell(
            "starlingctl status && starlingctl user show manual && starlingctl grace list && starlingctl reload"
        )
        bastion.shell("systemctl reload starlingd.service")
        bastion.await_audit("reload", count=2)
        bastion.shell("systemctl stop starlingd.service")
        traces = after_start(bastion.shell(f"cat $(ls -v {TRACES}.*)").splitlines())
        reloading = after_start(bastion.shell(f"cat $(ls -v {RELOADS}.*)").splitlines())
    finally:
        bastion.shell(f"rm -rf {DROP_IN} {STATE}/*trace.*; systemctl daemon-reload; systemctl start starlingd.service")
    profile = apparmor.load()
    seen = {found for line in traces + reloading if (found := used(line)) and found[0].startswith("/")}
    assert (f"{STATE}/state.db", "k") in seen
    assert any(path.endswith("/state.db-wal") and "w" in wanted for path, wanted in seen)
    assert {(path, wanted) for path, wanted in seen if not profile.allows(path, wanted)} == set()
    sockets = {(match[1].lower(), match[2].lower()) for line in traces if (match := _SOCKET.match(line))}
    assert ("inet", "stream") in sockets
    assert {made for made in sockets if not profile.allows_socket(*made)} == set()


def test_the_profile_that_is_installed_is_this_one(bastion: Bastion) -> None:
    assert bastion.run("cat", "/etc/apparmor.d/starlingd") == Path(apparmor.PROFILE).read_text(encoding="utf-8")
