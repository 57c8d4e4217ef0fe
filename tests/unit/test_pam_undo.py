"""The way back: complete before the change, exact, run by a shell script that needs nothing of ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from starlingd.cli.pam import change
from starlingd.cli.pam.stack import Mode, Unfit, with_ours
from starlingd.cli.pam.undo import Failed, contents, hidden
from tests.unit.pam_host import STOCK, Host, make_host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Offer a host with a stock sshd."""
    return make_host(tmp_path)


def test_what_is_switched_on_is_what_was_planned(host: Host) -> None:
    host.enable()
    assert contents(host.places.pam("sshd")) == with_ours(STOCK.decode(errors="surrogateescape"), Mode.KEY).encode(
        errors="surrogateescape"
    )
    assert b"AuthenticationMethods publickey,keyboard-interactive:pam" in (contents(host.places.snippet) or b"")


def test_the_mode_of_a_changed_file_stays(host: Host) -> None:
    host.enable()
    assert host.places.pam("sshd").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("words", [(), ("now",)])
def test_what_is_not_confirmed_comes_back_to_the_byte_mode_and_time(host: Host, words: tuple[str, ...]) -> None:
    before = host.look()
    undo = host.enable()
    assert host.look() != before
    assert host.restore(*words).status == 0
    assert host.look() == before
    assert not undo.folder.exists()
    assert "try-reload-or-restart ssh.service" in (host.root / "systemctl").read_text(encoding="ascii")


def test_what_is_confirmed_is_not_put_back_by_itself(host: Host) -> None:
    undo = host.enable()
    (undo.folder / "pending").unlink()
    now = contents(host.places.pam("sshd"))
    assert host.restore().status == 0
    assert contents(host.places.pam("sshd")) == now
    assert host.places.snippet.exists()
    assert undo.state() is not None


def test_confirming_takes_the_units_away_and_keeps_the_way_back(host: Host) -> None:
    before = host.look()
    undo = host.enable()
    undo.disarm()
    assert not list(host.places.units.iterdir())
    assert not undo.pending
    undo.restore()
    assert host.look() == before


def test_the_copies_in_the_folder_do_when_the_one_beside_the_file_is_gone(host: Host) -> None:
    before = host.look()
    host.enable()
    hidden(host.places.pam("sshd"), "before").unlink()
    assert host.restore().status == 0
    assert host.look() == before


def test_the_way_back_is_armed_before_anything_is_changed(host: Host) -> None:
    host.fails = "enable --now"
    before = host.look()
    with pytest.raises(Failed, match="systemctl enable --now"):
        host.enable()
    assert host.look() == before


@pytest.mark.parametrize("step", ["daemon-reload", "is-active", "try-reload-or-restart"])
def test_a_step_that_fails_leaves_everything_as_it_was(host: Host, step: str) -> None:
    host.fails = step
    before = host.look()
    with pytest.raises(Failed, match=step):
        host.enable()
    assert host.look() == before
    assert not list(host.places.undo.glob("*/*"))


def test_without_a_copy_nothing_is_taken_away(host: Host) -> None:
    undo = host.enable()
    (undo.folder / "before/pam").unlink()
    hidden(host.places.pam("sshd"), "before").unlink()
    now = contents(host.places.pam("sshd"))
    done = host.restore()
    assert done.status == 1
    assert "no copy" in done.output
    assert contents(host.places.pam("sshd")) == now
    assert undo.pending


def test_an_interrupted_restore_can_be_run_again(host: Host) -> None:
    before = host.look()
    undo = host.enable()
    host.places.snippet.unlink()
    host.places.pam("sshd").unlink()
    assert host.restore().status == 0
    assert host.look() == before
    assert not undo.folder.exists()


def test_a_copy_that_is_not_what_was_planned_changes_nothing(host: Host) -> None:
    edits = change.plan("sshd", Mode.KEY, None, host.places)
    host.places.pam("sshd").write_bytes(STOCK + b"# since\n")
    before = host.look()
    with pytest.raises(Failed, match="changed meanwhile"):
        change.apply(host.undo(), change.new_state("sshd", Mode.KEY, None, 60), edits)
    assert host.look() == before
    assert host.undo().state() is None
    assert not list(host.places.undo.iterdir())


def test_the_timer_names_an_absolute_time_and_survives_a_boot(host: Host) -> None:
    undo = host.enable()
    timer = (host.places.units / f"{undo.name}.timer").read_text(encoding="ascii")
    assert "OnCalendar=20" in timer
    assert "UTC\n" in timer
    assert "Persistent=true" in timer


def test_the_service_comes_before_sshd_and_every_console(host: Host) -> None:
    undo = host.enable()
    service = (host.places.units / f"{undo.name}.service").read_text(encoding="ascii")
    [before] = [line for line in service.splitlines() if line.startswith("Before=")]
    assert {"ssh.service", "ssh.socket", "systemd-user-sessions.service"} <= set(before.partition("=")[2].split())
    assert f"enable {undo.name}.service" in host.asked


def test_no_place_holder_is_left_in_what_is_written(host: Host) -> None:
    undo = host.enable()
    written = [undo.folder / "restore", *(file for file in host.places.units.iterdir())]
    assert not [file for file in written if "@" in file.read_text(encoding="ascii").replace("$@", "")]


def test_what_somebody_changed_since_is_shown_and_can_be_kept(host: Host) -> None:
    undo = host.enable()
    with host.places.pam("sshd").open("ab") as stream:
        stream.write(b"account required pam_access.so\n")
    [pam] = change.changed_since(undo)
    assert "+account required pam_access.so" in change.difference(pam.after, pam.before, pam.path)
    change.take_ours_out(undo)
    change.take_back(undo, keep_replaced=True)
    assert contents(host.places.pam("sshd")) == STOCK + b"account required pam_access.so\n"


def test_what_somebody_put_back_by_hand_is_no_change(host: Host) -> None:
    undo = host.enable()
    host.places.pam("sshd").write_bytes(STOCK)
    host.places.snippet.unlink()
    assert change.changed_since(undo) == []
    change.take_back(undo)
    assert contents(host.places.pam("sshd")) == STOCK


def test_a_file_changed_by_hand_before_it_is_put_back_is_kept_beside(host: Host) -> None:
    host.enable()
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
    undo = host.enable()
    assert change.report(undo)["state"] == "pending"
    undo.disarm()
    assert change.report(undo)["state"] == "on"
    change.take_back(undo)
    assert (change.report(undo)["state"], change.report(undo)["put_back"]) == ("off", None)
    host.enable()
    host.restore()
    assert change.report(undo)["put_back"] is not None
    host.enable()
    assert change.report(undo)["put_back"] is None


def test_the_difference_that_is_shown_is_the_one_that_is_made(host: Host) -> None:
    [edit, snippet] = change.plan("sshd", Mode.KEY, None, host.places)
    shown = change.difference(edit.before, edit.after, edit.path)
    assert "-@include common-auth" in shown
    assert change.difference(snippet.before, snippet.after, snippet.path)[0] == "--- /dev/null"


def test_a_damaged_state_is_an_error_and_not_off(host: Host) -> None:
    undo = host.enable()
    (undo.folder / "state.json").write_text("{", encoding="ascii")
    with pytest.raises(Failed, match=r"state\.json"):
        change.report(undo)


def test_the_restore_script_is_plain_shell(host: Host) -> None:
    undo = host.enable()
    checked = subprocess.run(["/bin/dash", "-n", str(undo.folder / "restore")], capture_output=True, check=False)
    assert checked.stderr == b""
    assert checked.returncode == 0
