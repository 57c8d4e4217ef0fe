"""Exact copies of what a change replaces, and the units that put them back by themselves.

The order is what makes it safe: copies first, then the units that put them back, and only then the change. What puts
back (``etc/undo/restore.sh``) is a shell script beside the copies, which needs neither us nor the daemon. A second copy
lies beside each file that is replaced, on the same file system: to put it back is a rename, which needs no space.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from starlingd.cli.pam.places import SERVICES, TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlingd.cli.pam.places import Done, Places

SYSTEMCTL = "/usr/bin/systemctl"
NEAREST = 2.0
"""Seconds to the restore time at least when a change begins; what begins later could be put back half-way."""
LONGEST_RUN = 10.0
"""Seconds that a run of the script is waited for; its unit tries again 5 s after one that failed."""
AT_REST = frozenset({"inactive", "failed"})
UNDER_WAY = frozenset({"activating", "active", "reloading", "deactivating"})
"""What systemctl says of the unit that runs the script. Anything else is no answer, as from a bus that is down."""


class Failed(Exception):  # noqa: N818  it says what the text is
    """Something on this host did not do what it should; the sentence says what."""


@dataclass(frozen=True)
class Edit:
    """A file and what it becomes; ``before`` is None when there is none yet."""

    name: str
    path: Path
    before: bytes | None
    after: bytes


@dataclass(frozen=True)
class State:
    """What was switched on, and until when it waits to be confirmed (wall-clock seconds)."""

    service: str
    mode: str
    emergency_group: str | None
    enabled: float
    restore_at: float


class Undo:
    """The way back for one service."""

    def __init__(self, service: str, places: Places, run: Callable[..., Done]) -> None:
        assert service in SERVICES  # noqa: S101  it becomes part of a shell script
        self.service = service
        self.name = f"pam-starling-undo-{service}"
        self.places = places
        self.folder = places.undo / service
        self._run = run

    # --- what is there ----------------------------------------------------------------------------------------------

    def state(self) -> State | None:
        """Tell what is switched on; None when nothing is. Raises Failed when that is not readable."""
        try:
            return State(**json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise Failed(f"{self.folder}/state.json: {error}") from None

    @property
    def pending(self) -> bool:
        """Whether it is put back unless somebody confirms."""
        return (self.folder / "pending").exists()

    @property
    def armed(self) -> bool:
        """Whether the timer has been told to put it back."""
        return os.path.lexists(self.places.units / "timers.target.wants" / f"{self.name}.timer")

    @property
    def put_back(self) -> float | None:
        """When it was put back by itself the last time, if that was the end of it."""
        try:
            return self._beside("put-back").stat().st_mtime
        except OSError:
            return None

    def files(self) -> list[Edit]:
        """Tell the files that were changed: what they were, and what we made of them."""
        return [
            Edit(written.name, self._target(written.name), self._before(written.name), written.read_bytes())
            for written in sorted((self.folder / "written").glob("*"))
        ]

    def changed(self) -> list[Edit]:
        """Tell the files that are not any more as we wrote them; ``before`` is what they are now."""
        now = [Edit(file.name, file.path, contents(file.path), file.after) for file in self.files()]
        return [file for file in now if file.before != file.after]

    def active(self) -> tuple[float, int] | None:
        """Tell since when the change counts: wall-clock seconds, and clock ticks since boot."""
        try:
            wall, ticks = (self.folder / "active").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return None
        return float(wall), int(ticks)

    # --- what is done -----------------------------------------------------------------------------------------------

    def keep(self, state: State, edits: list[Edit]) -> None:
        """Keep copies of what ``edits`` will replace, complete before they are found in their place.

        If it fails, whoever asked has to take away what there is already: ``restore`` if need be, then forget_leavings.
        """
        self.places.undo.mkdir(mode=0o755, exist_ok=True)
        self.forget_leavings()
        new = self._beside("new")
        self._fill_folder(new, state, edits)
        new.rename(self.folder)
        os.sync()  # copies, names and all: a power cut may come at any time

    def _fill_folder(self, new: Path, state: State, edits: list[Edit]) -> None:
        for folder in (new, new / "before", new / "written"):
            folder.mkdir(mode=0o755)
        for edit in edits:
            self._copy(edit, new / "before")
            if edit.before is not None:
                self._copy_to(edit, hidden(edit.path, "before"))
            _write(new / "written" / edit.name, edit.after)
        _write(new / "restore", b"#!/bin/sh\n" + self._fill("restore.sh", state).encode())
        _write(new / "state.json", json.dumps(asdict(state), indent=2).encode() + b"\n")
        _write(new / "pending", b"")

    def arm(self, state: State) -> None:
        """Have systemd put it back, in time and at boot. Raises Failed unless it says that it will."""
        # A timer that is still loaded from before would keep its own time. Mostly there is none, and both say so.
        self._run(SYSTEMCTL, "stop", f"{self.name}.timer")
        self._run(SYSTEMCTL, "reset-failed", f"{self.name}.service")
        for kind in ("service", "timer"):
            text = self._fill(f"undo.{kind}", state)
            replace(self.places.units / f"{self.name}.{kind}", text.encode())
        self._systemctl("daemon-reload")
        self._systemctl("enable", f"{self.name}.service")
        self._systemctl("enable", "--now", f"{self.name}.timer")
        self._systemctl("is-active", f"{self.name}.timer")
        os.sync()

    def see_time_left(self, state: State) -> None:
        """See that the restore time is not so near that the change could be put back half-way. Raises Failed."""
        left = state.restore_at - time.time()
        if left < NEAREST:
            raise Failed(
                f"nothing is changed: {left:.0f} seconds are left to confirm it; allow more (--confirm-within)"
            )

    def see_it_waits(self) -> None:
        """See that it has not been put back, nor is being put back, since it was armed. Raises Failed.

        Asked in this order: a run that begins after the first question finds all that was changed before it.
        """
        if self._says() != "inactive" or not self.pending or not (self.places.units / f"{self.name}.timer").exists():
            raise Failed(f"{self.service} was put back before the change was complete; allow more (--confirm-within)")

    def count_from_now(self) -> None:
        """Remember that the change counts from now on: only a login after this moment proves anything."""
        ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")) + 1
        replace(self.folder / "active", f"{time.time()} {ticks}\n".encode("ascii"))

    def restore(self) -> None:
        """Put it back now, by the very script that would do so by itself; what it moves away stays. Raises Failed."""
        done = self._run("/bin/sh", str(self.folder / "restore"), "now")
        if self.folder.exists():
            raise Failed(f"{self.service} is not put back: {done.output}")

    def reload_sshd(self) -> None:
        """Wait until sshd has read its configuration anew; one that does not run need not."""
        self._systemctl("try-reload-or-restart", "ssh.service")

    def disarm(self) -> None:
        """Keep the change: nothing puts it back any more but ``restore``. Raises Failed."""
        said = self._says()
        if said not in AT_REST:
            raise Failed(self._why_not_kept(said))
        (self.folder / "pending").unlink(missing_ok=True)
        # The timer may have fired in this very moment; what begins later finds nothing pending any more.
        said = self._await_script()
        if said in UNDER_WAY or not self.folder.exists() or self.changed():
            raise Failed(self._being_put_back)
        if said not in AT_REST:
            _write(self.folder / "pending", b"")
            raise Failed(self._why_not_kept(said))
        try:
            # Before the units go: what a power cut made pending again, nothing would put back without them.
            _sync_folder(self.folder)
            self._take_units_away()
        except (Failed, OSError) as error:
            raise Failed(f"the change is kept, but its units are not taken away: {error}") from None

    def _why_not_kept(self, said: str) -> str:
        if said in UNDER_WAY:
            return self._being_put_back
        return f"{self.service} is not confirmed: systemd does not say whether it is being put back; try again ({said})"

    @property
    def _being_put_back(self) -> str:
        return f"{self.service} is being put back in this moment; see starlingctl pam status"

    def instead_of_before(self, name: str, data: bytes) -> None:
        """Have ``restore`` put back this text, in the mode and owner of what was there."""
        for copy in (self.folder / "before" / name, hidden(self._target(name), "before")):
            if copy.exists():
                replace(copy, data)

    def replaced(self, name: str) -> Path | None:
        """Tell where there lies what a file was when it was put back; None where nothing does. It is a leaving."""
        places = (self._beside(f"replaced-{name}"), hidden(self._target(name), "gone"))
        return next((left for left in places if left.exists()), None)

    def keep_replaced(self) -> dict[str, Path]:
        """Keep what the files were when they were put back, under names that nothing of ours removes; tell where."""
        kept = {}
        for name in ("pam", "sshd"):
            left = self.replaced(name)
            if left is not None:
                beside = left.parent == self.places.undo
                kept[name] = _free(self._beside(f"kept-{name}") if beside else hidden(self._target(name), "kept"))
                left.rename(kept[name])
        return kept

    def forget_leavings(self) -> None:
        """Remove what a change left that is over, but for what ``keep_replaced`` kept. Raises OSError."""
        if self._beside("gone").exists():
            self._await_script()  # which moves its own units there last
        for left in self.places.undo.glob(f"{self.service}.*"):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            elif not left.name.startswith(f"{self.service}.kept-"):
                left.unlink()
        units = [self.places.units / f"{self.name}.{kind}" for kind in ("service", "timer")]
        for path in (self.places.pam(self.service), *([self.places.snippet] if self.service == "sshd" else []), *units):
            for word in ("before", "undo", "gone", "new"):
                hidden(path, word).unlink(missing_ok=True)
            hidden(hidden(path, "before"), "new").unlink(missing_ok=True)

    # --- ways -------------------------------------------------------------------------------------------------------

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(f"{self.service}.{suffix}")

    def _target(self, name: str) -> Path:
        return self.places.snippet if name == "sshd" else self.places.pam(self.service)

    def _before(self, name: str) -> bytes | None:
        return contents(self.folder / "before" / name)

    def _copy(self, edit: Edit, folder: Path) -> None:
        if edit.before is None and not edit.path.exists():
            _write(folder / f"{edit.name}.absent", b"")
            return
        self._copy_to(edit, folder / edit.name)

    def _copy_to(self, edit: Edit, copy: Path) -> None:
        done = self._run("/bin/cp", "-a", str(edit.path), str(copy))
        if done.status or contents(copy) != edit.before:
            raise Failed(f"{edit.path} cannot be copied: {done.output or 'it changed meanwhile'}")

    def _says(self) -> str:
        """Tell what systemd says of the unit that puts it back."""
        return self._run(SYSTEMCTL, "is-active", f"{self.name}.service").output

    def _await_script(self) -> str:
        """Let a run that is under way come to its end, within reason; tell what systemd says then."""
        ends = time.monotonic() + LONGEST_RUN
        while (said := self._says()) in UNDER_WAY and time.monotonic() < ends:
            time.sleep(0.2)
        return said

    def _take_units_away(self) -> None:
        self._systemctl("stop", f"{self.name}.timer")
        units, stamps = self.places.units, self.places.stamps
        for kind, target in (("service", "multi-user"), ("timer", "timers")):
            unit = f"{self.name}.{kind}"
            for left in (units / unit, units / f"{target}.target.wants" / unit, stamps / f"stamp-{unit}"):
                left.unlink(missing_ok=True)
        self._systemctl("daemon-reload")

    def _systemctl(self, *arguments: str) -> None:
        done = self._run(SYSTEMCTL, *arguments)
        if done.status:
            raise Failed(f"systemctl {' '.join(arguments)}: {done.output}")

    def _fill(self, template: str, state: State) -> str:
        when = datetime.fromtimestamp(state.restore_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        values = {
            "SERVICE": self.service,
            "NAME": self.name,
            "UNDO": str(self.places.undo),
            "UNITS": str(self.places.units),
            "STAMPS": str(self.places.stamps),
            "PAM_FILE": str(self.places.pam(self.service)),
            "SNIPPET": str(self.places.snippet),
            "WHEN": when,
            "SECONDS": f"{state.restore_at - state.enabled:.0f}",
        }
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text


def hidden(path: Path, word: str) -> Path:
    """Tell a name beside a file that neither PAM nor sshd reads; the restore script knows the same names."""
    return path.with_name(f".{path.name}.pam-starling-{word}")


def _free(path: Path) -> Path:
    """Tell a name that nothing has yet: this one, or this one with a number."""
    names = (path if number == 1 else path.with_name(f"{path.name}.{number}") for number in count(1))
    return next(name for name in names if not os.path.lexists(name))


def contents(path: Path) -> bytes | None:
    """Read a file; None when there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def replace(path: Path, data: bytes) -> None:
    """Give a file new contents at once, complete or not at all; its mode, owner and attributes stay."""
    new = hidden(path, "new")
    new.unlink(missing_ok=True)
    try:
        _write(new, b"")
        if path.exists():
            _resemble(new, path)
        _write(new, data)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, and those off it that are gone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _resemble(new: Path, path: Path) -> None:
    status = path.stat()
    os.chown(new, status.st_uid, status.st_gid)
    shutil.copystat(path, new)  # mode, and extended attributes: access control lists, labels


def _write(path: Path, data: bytes) -> None:
    """Write a file and have it on the disk; one that is new is for everybody to read, and root's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
