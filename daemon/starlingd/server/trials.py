"""Logins that only try the stack out (``starlingctl login-test``): decided like any other, and let in nowhere.

Root names a process over the control socket, and for as long as that process lives whatever it asks on the PAM socket
is a trial: written down as a test, without a record, a slot or a grace entry, so that no session can ever follow. What
users can write, such as the PAM environment, has no say in it.

A daemon that was restarted knows no trial. Whatever else comes of one it then knows by the login id, and refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlingd.server import processes

if TYPE_CHECKING:
    from starlingd.core.model import Login, Process, Reason, Verdict

PREFIX = "test-"
"""How the login id of a trial begins; a login that has one and is no trial any more is refused."""
MOST_TRIALS = 16
"""Trials at a time."""
MOST_DECISIONS = 16
"""Decisions that are kept of one."""


@dataclass(slots=True)
class Trial:
    """What was decided about the logins of one process."""

    decisions: list[dict[str, str]] = field(default_factory=list)
    _let_in: dict[tuple[str, str, str], Reason] = field(default_factory=dict)

    def note(self, operation: str, login: Login, login_id: str, verdict: Verdict) -> None:
        """Keep a decision, for whoever began the trial and for the account hook of this trial."""
        told = {
            "step": operation,
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "rule": verdict.rule,
            "login": login_id,
            **{key: text for key, text in verdict.evidence.items() if key in {"would", "failures", "seen_as", "needs"}},
        }
        self.decisions = [*self.decisions, told][-MOST_DECISIONS:]
        if verdict.lets_in:
            self._let_in[login_id, login.user, login.service] = verdict.reason

    def passed(self, login: Login) -> Reason | None:
        """Tell why this login was let in before in this trial, if it was."""
        return self._let_in.get((login.login_id, login.user, login.service))


class Trials:
    """The trials under way, by process."""

    def __init__(self) -> None:
        self._trials: dict[Process, Trial] = {}

    def begin(self, process: Process) -> bool:
        """Make a living process's logins trials; False where there are too many, or no such process."""
        for other in [other for other in self._trials if not processes.is_alive(other)]:
            del self._trials[other]
        if len(self._trials) >= MOST_TRIALS or not processes.is_alive(process):
            return False
        self._trials[process] = Trial()
        return True

    def of(self, process: Process) -> Trial | None:
        """Find the trial of a process."""
        return self._trials.get(process)
