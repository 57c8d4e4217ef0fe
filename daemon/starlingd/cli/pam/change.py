"""Switching on and off: what would change, in full, and then all of it or nothing."""

from __future__ import annotations

import difflib
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from starlingd.cli.doctor import facts, pam
from starlingd.cli.doctor.finding import Severity
from starlingd.cli.pam import sshd
from starlingd.cli.pam.stack import Unfit, uses_module, with_ours, without_ours
from starlingd.cli.pam.undo import Edit, State, contents, replace

if TYPE_CHECKING:
    from pathlib import Path

    from starlingd.cli.pam.places import Places
    from starlingd.cli.pam.stack import Mode
    from starlingd.cli.pam.undo import Undo


def plan(service: str, mode: Mode, group: str | None, places: Places) -> list[Edit]:
    """Tell what would become of which file. Raises Unfit."""
    edits = [_pam_edit(places, service, mode, group)]
    if service == "sshd":
        if contents(places.snippet) is not None:
            raise Unfit(f"{places.snippet} is there already: take it away first")
        edits.append(Edit("sshd", places.snippet, None, sshd.snippet(mode).encode("ascii")))
    return edits


def _pam_edit(places: Places, service: str, mode: Mode, group: str | None) -> Edit:
    path = places.pam(service)
    before = contents(path)
    if before is None or path.is_symlink():
        raise Unfit(f"{path} is {'a symbolic link' if path.is_symlink() else 'not there'}")
    try:
        after = with_ours(_text(before), mode, group)
    except Unfit as unfit:
        raise Unfit(f"{path}: {unfit}") from None
    _see_it_holds(facts.pam_files(path.parent), service, after)
    return Edit("pam", path, before, after.encode("utf-8", "surrogateescape"))


def _see_it_holds(files: dict[str, str], service: str, text: str) -> None:
    """See that doctor finds no error in a service with our lines, through all it includes, that is not there now."""
    now = set(pam.check(files, ()))
    for finding in pam.check(files | {service: text}, ()):
        if finding.severity is Severity.ERROR and finding not in now:
            raise Unfit(f"with our lines in it, it would not do: {finding.reason}; {finding.advice}")


def difference(before: bytes | None, after: bytes | None, path: object) -> list[str]:
    """Give the unified diff of a file's two states; None is no file."""
    old, new = (_text(data or b"").splitlines() for data in (before, after))
    names = ["/dev/null" if data is None else str(path) for data in (before, after)]
    return list(difflib.unified_diff(old, new, names[0], names[1], lineterm=""))


def apply(undo: Undo, state: State, edits: list[Edit]) -> None:
    """Make the change, with its way back in place before it. If anything fails, all is put back, and it raises.

    The way back may be taken at any time, also before the first step: the disk is slow, the machine was suspended. Then
    it must not happen that the change is made after it, and stays.
    """
    try:
        undo.keep(state, edits)
        undo.arm(state)
        undo.see_time_left(state)
        undo.see_it_waits()
        for edit in edits:
            replace(edit.path, edit.after)
        if undo.service == "sshd":
            undo.reload_sshd()
        undo.count_from_now()
        undo.see_it_waits()
    except BaseException:
        _give_up(undo, edits)
        raise


def _give_up(undo: Undo, edits: list[Edit]) -> None:
    """Put all back by the script, and from memory what it has left: it may have run before the change was made."""
    if (undo.folder / "state.json").exists():
        undo.restore()
    left = [edit for edit in edits if contents(edit.path) == edit.after]
    for edit in left:
        if edit.before is None:
            edit.path.unlink()
        else:
            replace(edit.path, edit.before)
    if left and undo.service == "sshd":
        undo.reload_sshd()
    _tidy(undo)


def _tidy(undo: Undo) -> None:
    """Remove what is over. What resists, such as a folder that is still in use, the next change removes, or says so."""
    with suppress(OSError):
        undo.forget_leavings()


def changed_since(undo: Undo) -> list[Edit]:
    """Tell the files that somebody changed since we did, except back; ``before`` is what they are now."""
    return [file for file in undo.changed() if not _is_back(undo, file)]


def take_back(undo: Undo, *, keep_replaced: bool = False) -> dict[str, Path]:
    """Put everything back, and forget what was there meanwhile, or tell where each file is kept. Raises Failed."""
    undo.restore()
    if undo.service == "sshd":
        undo.reload_sshd()
    kept = undo.keep_replaced() if keep_replaced else {}
    _tidy(undo)
    return kept


def take_ours_out(undo: Undo) -> None:
    """Have ``take_back`` leave what others changed since, and take only our own lines away. Raises Unfit."""
    for file in undo.changed():
        if file.name == "pam" and file.before is not None:
            text = without_ours(_text(file.before))
            if uses_module(text):
                raise Unfit(f"{file.path} has lines of pam-starling outside the marks: take them away by hand")
            undo.instead_of_before("pam", text.encode("utf-8", "surrogateescape"))


def report(undo: Undo) -> dict[str, object]:
    """Tell how things are with one service, for machines. Raises Failed."""
    state = undo.state()
    stack = _text(contents(undo.places.pam(undo.service)) or b"")
    word = "on"
    if state is None:
        word = "by_hand" if uses_module(stack) else "off"
    elif undo.pending:
        word = "pending" if undo.active() else "unfinished"
    waits = word == "pending" or (word == "unfinished" and undo.armed)
    changed = changed_since(undo) if word == "unfinished" else undo.changed()
    return {
        "service": undo.service,
        "state": word,
        "mode": state.mode if state else None,
        "emergency_group": state.emergency_group if state else None,
        "enabled": state.enabled if state else None,
        "restore_at": state.restore_at if state and waits else None,
        "changed": [str(file.path) for file in changed],
        "put_back": undo.put_back if state is None else None,
    }


def new_state(service: str, mode: Mode, group: str | None, seconds: int) -> State:
    """Describe a change that begins now."""
    now = time.time()
    return State(service, mode.value, group, now, now + seconds)


def _is_back(undo: Undo, file: Edit) -> bool:
    return any(kept.name == file.name and kept.before == file.before for kept in undo.files())


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
