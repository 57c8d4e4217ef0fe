"""The way back at bad moments: a full disk, a time that ends while it is made, a command that is killed, no answer."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from starlingd.cli.pam import change
from starlingd.cli.pam import undo as undoing
from starlingd.cli.pam.stack import Mode
from starlingd.cli.pam.undo import Edit, Failed, Undo, contents, hidden
from tests.unit.pam_host import STOCK, Host, make_host

SILENT = "Failed to connect to bus"
MOVE = 'case "$2:$3" in {root}/etc/*:{root}/var/*) exit 1 ;; esac; exec /bin/mv "$@"'
"""A mv that cannot copy to another file system."""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Offer a host with a stock sshd and login."""
    return make_host(tmp_path)


# --- a full disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["sshd", "login"])
def test_where_nothing_can_be_written_it_is_put_back_all_the_same(host: Host, service: str) -> None:
    before = host.texts()
    host.enable(service)
    host.replace_tool("cp", ': > "$3"; exit 1')
    host.replace_tool("mv", MOVE.format(root=host.root))
    assert host.restore(service=service).status == 0
    left = {path: data for path, data in host.texts().items() if "pam-starling-undo-" not in path}
    left.pop(str(hidden(host.places.snippet, "gone")), None)
    assert left == before
    assert host.undo(service).state() is None


def test_a_snippet_that_could_only_be_moved_aside_is_none_for_sshd_and_goes_with_the_next_change(host: Host) -> None:
    host.enable()
    host.replace_tool("mv", MOVE.format(root=host.root))
    host.restore()
    assert not list(host.places.snippet.parent.glob("[!.]*"))
    assert hidden(host.places.snippet, "gone").exists()
    host.enable()
    assert not hidden(host.places.snippet, "gone").exists()


def test_a_copy_that_was_cut_short_is_never_taken_for_what_was_there(host: Host) -> None:
    host.enable()
    with host.places.pam("sshd").open("ab") as stream:
        stream.write(b"# somebody's\n")
    host.replace_tool("cp", ': > "$3"; exit 1')
    host.restore()
    assert host.undo().replaced("pam") is None


def test_that_it_was_put_back_may_stay_unwritten_but_is_done_once_only(host: Host) -> None:
    before = host.look()
    undo = host.enable()
    (host.places.undo / "sshd.put-back").mkdir()
    done = host.restore()
    assert done.status == 0
    assert "sshd is as it was before" in done.output
    assert host.look() == before
    assert not undo.pending


# --- the time ends while the change is made -----------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["--now", "is-active pam-starling-undo-sshd.timer", "try-reload-or-restart"])
def test_a_time_that_ends_while_the_change_is_made_leaves_everything_as_it_was(host: Host, moment: str) -> None:
    before = host.texts()
    host.fires = moment
    with pytest.raises((Failed, OSError)):
        host.enable()
    assert host.texts() == before
    assert host.undo().state() is None


@pytest.mark.parametrize("which", [0, 1])
def test_one_that_ends_between_the_last_look_and_a_step_does_so_too(
    host: Host, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    before, begun = host.texts(), []

    def replace(path: Path, data: bytes) -> None:
        begun.append(path)
        if len(begun) == which + 1:
            host.restore()
        undoing.replace(path, data)

    monkeypatch.setattr(change, "replace", replace)
    with pytest.raises((Failed, OSError)):
        host.enable()
    assert host.texts() == before
    assert [asked for asked in host.asked if "is-active" not in asked][-1] == "try-reload-or-restart ssh.service"


def test_a_run_that_is_under_way_when_the_change_is_complete_does_so_too(host: Host) -> None:
    before = host.texts()

    class Firing(Undo):
        def count_from_now(self) -> None:
            super().count_from_now()
            host.says = ["activating", "activating", "inactive"]

    undo = Firing("sshd", host.places, host.run)
    edits = change.plan("sshd", Mode.KEY, None, host.places)
    with pytest.raises(Failed, match="put back before the change was complete"):
        change.apply(undo, change.new_state("sshd", Mode.KEY, None, 600), edits)
    assert host.texts() == before


def test_with_too_little_time_left_nothing_is_begun(host: Host) -> None:
    before = host.look()
    with pytest.raises(Failed, match="--confirm-within"):
        host.enable(seconds=1)
    assert host.look() == before


def test_what_somebody_else_wrote_meanwhile_is_not_overwritten_from_memory(host: Host) -> None:
    edits = [Edit("pam", host.places.pam("sshd"), STOCK, b"ours\n")]
    host.places.pam("sshd").write_bytes(b"somebody's\n")
    change._give_up(host.undo(), edits)  # noqa: SLF001
    assert contents(host.places.pam("sshd")) == b"somebody's\n"


# --- interrupted, and again ---------------------------------------------------------------------------------------


def test_what_is_put_back_goes_away_in_one_step_and_the_next_change_removes_it(host: Host) -> None:
    undo = host.enable()
    host.restore()
    assert not undo.folder.exists()
    assert (host.places.undo / "sshd.gone/before/pam").read_bytes() == STOCK
    host.enable()
    assert not (host.places.undo / "sshd.gone").exists()


def test_a_folder_that_cannot_be_moved_away_is_not_put_back_twice_and_can_be_disabled(host: Host) -> None:
    before = host.look()
    undo = host.enable()
    (host.places.undo / "sshd.gone/x").mkdir(parents=True)
    host.restore()
    assert host.look() == before
    assert not undo.pending
    host.places.pam("sshd").write_bytes(b"since\n")
    host.restore()
    assert contents(host.places.pam("sshd")) == b"since\n"


def test_the_script_of_a_change_that_is_over_does_nothing(host: Host) -> None:
    host.enable()
    host.restore()
    before = host.look()
    assert host.run_script(host.places.undo / "sshd.gone/restore", "now").status == 0
    assert host.look() == before


def test_after_disabling_nothing_is_left_of_it(host: Host) -> None:
    undo = host.enable()
    undo.disarm()
    change.take_back(undo)
    assert list(host.places.undo.iterdir()) == []
    assert not [path for path in host.texts() if "starling" in path]


def test_an_enable_that_was_interrupted_leaves_nothing_that_stops_the_next(host: Host) -> None:
    hidden(host.places.pam("sshd"), "before").write_bytes(b"old\n")
    (host.places.undo / "sshd.new/before").mkdir(parents=True)
    before = {path: data for path, data in host.texts().items() if "-before" not in path}
    host.enable()
    host.restore()
    assert host.texts() == before


def killed(host: Host) -> Undo:
    """Leave what a command leaves that was killed with its copies made, and nothing else."""
    undo = host.undo()
    state = change.new_state("sshd", Mode.KEY, None, 600)
    undo.keep(state, change.plan("sshd", Mode.KEY, None, host.places))
    return undo


def test_an_interrupt_while_the_copies_go_to_the_disk_leaves_everything_as_it_was(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host.look()

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        host.enable()
    assert host.look() == before
    assert list(host.places.undo.iterdir()) == []


def test_a_change_that_was_never_made_is_not_said_to_wait_and_can_be_disabled(host: Host) -> None:
    before = host.look()
    undo = killed(host)
    told = change.report(undo)
    assert (told["state"], told["restore_at"], told["changed"]) == ("unfinished", None, [])
    change.take_back(undo)
    assert host.look() == before
    assert change.report(undo)["state"] == "off"


def test_one_that_was_armed_already_is_said_to_be_put_back(host: Host) -> None:
    undo = killed(host)
    wants = host.places.units / "timers.target.wants"
    wants.mkdir()
    (wants / f"{undo.name}.timer").symlink_to(host.places.units / f"{undo.name}.timer")
    assert change.report(undo)["restore_at"] is not None


def test_a_folder_that_lost_its_state_is_not_run_when_another_change_fails(host: Host) -> None:
    undo = host.enable()
    (undo.folder / "state.json").unlink()
    host.places.snippet.unlink()
    host.places.pam("sshd").write_bytes(STOCK)
    with pytest.raises(OSError, match="not empty"):
        host.enable()
    assert undo.pending


def test_what_a_kill_left_of_a_file_that_was_being_written_goes_with_the_change(host: Host) -> None:
    undo = host.enable()
    pam, timer = host.places.pam("sshd"), host.places.units / f"{undo.name}.timer"
    left = [hidden(path, "new") for path in (pam, host.places.snippet, timer, hidden(pam, "before"))]
    for path in left:
        path.write_bytes(b"")
    undo.disarm()
    change.take_back(undo)
    assert not [path for path in left if path.exists()]


# --- systemd does not answer, or has something left from before ---------------------------------------------------


@pytest.mark.parametrize(("says", "words"), [(SILENT, "does not say .*; try again"), ("activating", "is being put")])
def test_while_it_may_be_being_put_back_it_goes_on_waiting_untouched(host: Host, says: str, words: str) -> None:
    undo = host.enable()
    before = host.look()
    host.says = [says]
    with pytest.raises(Failed, match=words):
        undo.disarm()
    assert undo.pending
    assert host.look() == before


def test_where_systemd_stops_answering_in_between_it_waits_again_and_can_be_confirmed_later(host: Host) -> None:
    undo = host.enable()
    host.says = ["inactive", SILENT]
    with pytest.raises(Failed, match="sshd is not confirmed"):
        undo.disarm()
    assert undo.pending
    host.says = ["inactive"]
    undo.disarm()
    assert not undo.pending


def test_a_script_that_failed_does_not_stop_anybody_from_confirming(host: Host) -> None:
    undo = host.enable()
    host.says = ["failed"]
    undo.disarm()
    assert change.report(undo)["state"] == "on"


def test_a_run_that_begins_when_nothing_is_pending_any_more_is_let_end(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = host.enable()
    host.says = ["inactive", "activating", "inactive"]
    monkeypatch.setattr(time, "sleep", lambda _: None)
    undo.disarm()
    assert not list(host.places.units.iterdir())


def test_that_it_is_confirmed_is_on_the_disk_before_the_units_go(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    undo = host.enable()
    synced = []

    def fsync(descriptor: int) -> None:
        folder = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((folder, undo.pending, len(list(host.places.units.iterdir()))))

    monkeypatch.setattr(os, "fsync", fsync)
    undo.disarm()
    assert (undo.folder, False, 2) in synced


@pytest.mark.parametrize("fails", ["", "stop", "reset-failed"])
def test_units_that_are_left_from_before_are_stopped_before_the_new_ones_start(host: Host, fails: str) -> None:
    host.fails = fails
    undo = host.enable()
    starts = host.asked.index(f"enable --now {undo.name}.timer")
    assert {f"stop {undo.name}.timer", f"reset-failed {undo.name}.service"} <= set(host.asked[:starts])


def test_what_a_run_still_moves_things_into_is_removed_after_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    undo = host.enable()
    there = []
    monkeypatch.setattr(time, "sleep", lambda _: there.append((host.places.undo / "sshd.gone").exists()))
    host.says = ["activating", "deactivating", "inactive"]
    change.take_back(undo)
    assert there == [True, True]
    assert list(host.places.undo.iterdir()) == []


def test_a_run_that_does_not_end_is_not_waited_for_for_ever(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    undo = host.enable()
    monkeypatch.setattr(undoing, "LONGEST_RUN", 0.0)
    host.says = ["activating"]
    change.take_back(undo)
    assert undo.state() is None


def test_what_is_in_use_while_it_is_removed_does_not_make_a_failure_of_what_is_put_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = host.enable()

    def in_use(_: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "in use")

    monkeypatch.setattr(shutil, "rmtree", in_use)
    change.take_back(undo)
    assert undo.state() is None
    monkeypatch.undo()
    host.enable()
    assert not (host.places.undo / "sshd.gone").exists()


# --- login --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("now",)])
def test_login_comes_back_to_the_byte_mode_and_time_and_sshd_is_left_alone(host: Host, words: tuple[str, ...]) -> None:
    before = host.look()
    undo = host.enable("login")
    assert host.look() != before
    assert not host.places.snippet.exists()
    assert host.restore(*words, service="login").status == 0
    assert host.look() == before
    assert not undo.folder.exists()
    assert "ssh.service" not in (host.root / "systemctl").read_text(encoding="ascii")


def test_login_is_confirmed_and_disabled_while_sshd_stays_on(host: Host) -> None:
    host.enable().disarm()
    now = host.look()
    login = host.enable("login")
    login.disarm()
    change.take_back(login)
    assert host.look() == now
    assert change.report(host.undo())["state"] == "on"
