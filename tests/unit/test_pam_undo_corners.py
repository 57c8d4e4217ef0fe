"""The way back at bad moments: a full disk, a time that ends while the change is made, a run that was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from starlingd.cli.pam import change
from starlingd.cli.pam import undo as undoing
from starlingd.cli.pam.stack import Mode
from starlingd.cli.pam.undo import Edit, Failed, Undo, contents, hidden
from tests.unit.pam_host import STOCK, Host, make_host

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
    assert host.asked[-1] == "try-reload-or-restart ssh.service"


def test_a_run_that_is_under_way_when_the_change_is_complete_does_so_too(host: Host) -> None:
    before = host.texts()

    class Firing(Undo):
        def count_from_now(self) -> None:
            super().count_from_now()
            host.is_firing = True

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
