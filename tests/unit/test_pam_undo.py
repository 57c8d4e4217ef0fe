"""The way back: complete before the change, exact, run by a shell script that needs nothing of ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from starlingd.cli.pam import change
from starlingd.cli.pam.places import Done, Places, run
from starlingd.cli.pam.stack import Mode, Unfit, with_ours
from starlingd.cli.pam.undo import Failed, Undo, contents

STOCK = b"# mine: \xff\n@include common-auth\n@include common-account\n"
TOOLS = ("cp", "mv", "rm")


@dataclass
class Host:
    """A host in a folder: real files, real cp, mv and rm, and a systemctl that only writes down what it was asked."""

    root: Path
    fails: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def places(self) -> Places:
        """Its paths."""
        return Places(self.root)

    def undo(self, service: str = "sshd") -> Undo:
        """Its way back."""
        return Undo(service, self.places, self.run)

    def run(self, *command: str) -> Done:
        """Run shell and cp for real, the script with nothing else to find; systemctl only when it must not fail."""
        if command[0].endswith("systemctl"):
            self.asked.append(" ".join(command[1:]))
            if command[1:] == ("is-active", f"{self.undo().name}.service"):
                return Done(3, "inactive")
            return Done(1, "no") if self.fails and self.fails in self.asked[-1] else Done(0, "")
        if command[0] == "/bin/sh":
            return self.restore(*command[2:])
        return run(*command)

    def restore(self, *words: str) -> Done:
        """Run the restore script with the tools it may use and no others."""
        script = self.undo().folder / "restore"
        text = script.read_text(encoding="utf-8").replace("PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={self.tools}")
        copy = self.root / "restore"
        copy.write_text(text, encoding="utf-8")
        done = subprocess.run(["/bin/sh", str(copy), *words], capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout + done.stderr)

    @property
    def tools(self) -> Path:
        """The only PATH that the script gets."""
        return self.root / "bin"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Offer a host with a stock sshd."""
    made = Host(tmp_path)
    for folder in ("etc/pam.d", "etc/ssh/sshd_config.d", "var/lib", "etc/systemd/system", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    made.places.pam("sshd").write_bytes(STOCK)
    made.places.pam("sshd").chmod(0o640)
    for tool in TOOLS:
        (made.tools / tool).symlink_to(f"/bin/{tool}")
    (made.tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/systemctl\n', encoding="ascii")
    (made.tools / "systemctl").chmod(0o755)
    return made


def enable(host: Host, seconds: int = 600) -> Undo:
    """Switch sshd on in key mode."""
    undo = host.undo()
    edits = change.plan("sshd", Mode.KEY, None, host.places)
    change.apply(undo, change.new_state("sshd", Mode.KEY, None, seconds), edits)
    return undo


def look(host: Host) -> list[tuple[str, int, int, bytes]]:
    """Tell all files of the host that a change may touch."""
    files = sorted(file for file in (host.root / "etc").rglob("*") if not file.is_dir())
    return [(str(file), file.stat().st_mode, file.stat().st_mtime_ns, file.read_bytes()) for file in files]


def test_what_is_switched_on_is_what_was_planned(host: Host) -> None:
    enable(host)
    assert contents(host.places.pam("sshd")) == with_ours(STOCK.decode(errors="surrogateescape"), Mode.KEY).encode(
        errors="surrogateescape"
    )
    assert b"AuthenticationMethods publickey,keyboard-interactive:pam" in (contents(host.places.snippet) or b"")


def test_the_mode_of_a_changed_file_stays(host: Host) -> None:
    enable(host)
    assert host.places.pam("sshd").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("words", [(), ("now",)])
def test_what_is_not_confirmed_comes_back_to_the_byte_mode_and_time(host: Host, words: tuple[str, ...]) -> None:
    before = look(host)
    undo = enable(host)
    assert look(host) != before
    assert host.restore(*words).status == 0
    assert look(host) == before
    assert not undo.folder.exists()
    assert "try-reload-or-restart ssh.service" in (host.root / "systemctl").read_text(encoding="ascii")


def test_what_is_confirmed_is_not_put_back_by_itself(host: Host) -> None:
    undo = enable(host)
    (undo.folder / "pending").unlink()
    now = contents(host.places.pam("sshd"))
    assert host.restore().status == 0
    assert contents(host.places.pam("sshd")) == now
    assert host.places.snippet.exists()
    assert undo.state() is not None


def test_confirming_takes_the_units_away_and_keeps_the_way_back(host: Host) -> None:
    before = look(host)
    undo = enable(host)
    undo.disarm()
    assert not list(host.places.units.iterdir())
    assert not undo.pending
    undo.restore()
    assert look(host) == before


def test_the_way_back_is_armed_before_anything_is_changed(host: Host) -> None:
    host.fails = "enable --now"
    before = look(host)
    with pytest.raises(Failed, match="systemctl enable --now"):
        enable(host)
    assert look(host) == before


@pytest.mark.parametrize("step", ["daemon-reload", "is-active", "try-reload-or-restart"])
def test_a_step_that_fails_leaves_everything_as_it_was(host: Host, step: str) -> None:
    host.fails = step
    before = look(host)
    with pytest.raises(Failed, match=step):
        enable(host)
    assert look(host) == before
    assert not list(host.places.undo.glob("*/*"))


def test_without_a_copy_nothing_is_taken_away(host: Host) -> None:
    undo = enable(host)
    (undo.folder / "before/pam").unlink()
    now = contents(host.places.pam("sshd"))
    done = host.restore()
    assert done.status == 1
    assert "no copy" in done.output
    assert contents(host.places.pam("sshd")) == now
    assert undo.pending


def test_an_interrupted_restore_can_be_run_again(host: Host) -> None:
    before = look(host)
    undo = enable(host)
    host.places.snippet.unlink()
    host.places.pam("sshd").unlink()
    assert host.restore().status == 0
    assert look(host) == before
    assert not undo.folder.exists()


def test_a_copy_that_is_not_what_was_planned_changes_nothing(host: Host) -> None:
    edits = change.plan("sshd", Mode.KEY, None, host.places)
    host.places.pam("sshd").write_bytes(STOCK + b"# since\n")
    before = look(host)
    with pytest.raises(Failed, match="changed meanwhile"):
        change.apply(host.undo(), change.new_state("sshd", Mode.KEY, None, 60), edits)
    assert look(host) == before
    assert host.undo().state() is None
    assert not list(host.places.undo.iterdir())


def test_the_timer_names_an_absolute_time_and_survives_a_boot(host: Host) -> None:
    undo = enable(host)
    timer = (host.places.units / f"{undo.name}.timer").read_text(encoding="ascii")
    assert "OnCalendar=20" in timer
    assert "UTC\n" in timer
    assert "Persistent=true" in timer


def test_the_service_comes_before_sshd_and_every_console(host: Host) -> None:
    undo = enable(host)
    service = (host.places.units / f"{undo.name}.service").read_text(encoding="ascii")
    [before] = [line for line in service.splitlines() if line.startswith("Before=")]
    assert {"ssh.service", "ssh.socket", "systemd-user-sessions.service"} <= set(before.partition("=")[2].split())
    assert f"enable {undo.name}.service" in host.asked


def test_no_place_holder_is_left_in_what_is_written(host: Host) -> None:
    undo = enable(host)
    written = [undo.folder / "restore", *(file for file in host.places.units.iterdir())]
    assert not [file for file in written if "@" in file.read_text(encoding="ascii").replace("$@", "")]


def test_what_somebody_changed_since_is_shown_and_can_be_kept(host: Host) -> None:
    undo = enable(host)
    with host.places.pam("sshd").open("ab") as stream:
        stream.write(b"account required pam_access.so\n")
    assert "+account required pam_access.so" in change.changes_since(undo)
    change.take_ours_out(undo)
    change.take_back(undo, keep_replaced=True)
    assert contents(host.places.pam("sshd")) == STOCK + b"account required pam_access.so\n"


def test_what_somebody_put_back_by_hand_is_no_change(host: Host) -> None:
    undo = enable(host)
    host.places.pam("sshd").write_bytes(STOCK)
    host.places.snippet.unlink()
    assert change.changes_since(undo) == []
    change.take_back(undo)
    assert contents(host.places.pam("sshd")) == STOCK


def test_a_file_changed_by_hand_before_it_is_put_back_is_kept_beside(host: Host) -> None:
    enable(host)
    with host.places.pam("sshd").open("ab") as stream:
        stream.write(b"# somebody's\n")
    host.restore()
    assert (contents(host.places.undo / "sshd.replaced-pam") or b"").endswith(b"# somebody's\n")


def make_link(host: Host) -> None:
    host.places.pam("sshd").rename(host.root / "real")
    host.places.pam("sshd").symlink_to(host.root / "real")


FAULTS: dict[str, tuple[Callable[[Host], object], str]] = {
    "a link": (make_link, "symbolic link"),
    "missing": (lambda host: host.places.pam("sshd").unlink(), "not there"),
    "a snippet": (lambda host: host.places.snippet.write_bytes(b""), "is there already"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_put_back_exactly_is_not_changed(host: Host, fault: str) -> None:
    plant, words = FAULTS[fault]
    plant(host)
    with pytest.raises(Unfit, match=words):
        change.plan("sshd", Mode.KEY, None, host.places)


def test_status_tells_how_things_are(host: Host) -> None:
    assert change.report(host.undo())["state"] == "off"
    undo = enable(host)
    assert change.report(undo)["state"] == "pending"
    undo.disarm()
    assert change.report(undo)["state"] == "on"
    change.take_back(undo)
    assert (change.report(undo)["state"], change.report(undo)["put_back"]) == ("off", None)
    enable(host)
    host.restore()
    assert change.report(undo)["put_back"] is not None
    enable(host)
    assert change.report(undo)["put_back"] is None


def test_the_difference_that_is_shown_is_the_one_that_is_made(host: Host) -> None:
    [edit, snippet] = change.plan("sshd", Mode.KEY, None, host.places)
    shown = change.difference(edit.before, edit.after, edit.path)
    assert "-@include common-auth" in shown
    assert change.difference(snippet.before, snippet.after, snippet.path)[0] == "--- /dev/null"


def test_a_damaged_state_is_an_error_and_not_off(host: Host) -> None:
    undo = enable(host)
    (undo.folder / "state.json").write_text("{", encoding="ascii")
    with pytest.raises(Failed, match=r"state\.json"):
        change.report(undo)


def test_the_restore_script_is_plain_shell(host: Host) -> None:
    undo = enable(host)
    checked = subprocess.run(["/bin/dash", "-n", str(undo.folder / "restore")], capture_output=True, check=False)
    assert checked.stderr == b""
    assert checked.returncode == 0
