"""Audit events: one place that turns what happened into fields (SEMANTICS §12), and one thread that writes them.

They are written in order, off the event loop. A value is never a code, a token or a telephone number; nothing here is
given one.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from starlingd.core.model import Factor, Outcome, Reason
from starlingd.server.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlingd.core.model import Login, Verdict
    from starlingd.core.records import Lease, Record
    from starlingd.ports import AuditLog

MOST_WAITING = 20_000
"""Events that may wait for a log that hangs; further ones go to stderr."""


_LOUD = frozenset({Reason.BREAK_GLASS, Reason.FAIL_OPEN})
"""What raises an event of its own, at warning level, each time."""


class Audit:
    """The daemon's audit trail."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self.counts = Counts()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._places = threading.BoundedSemaphore(MOST_WAITING)

    def login(self, login: Login, user: str, login_id: str, verdict: Verdict, *, observing: bool) -> None:
        """Write how a login was decided; ``user`` is the canonical name where there is one.

        ``observing`` says that the rules are only tried out.
        """
        fields = {
            "OUTCOME": verdict.outcome,
            "REASON": verdict.reason,
            "USER": user,
            "CLIENT_IP": login.client_ip,
            "SERVICE": login.service,
            "LOGIN": login_id,
            "FACTOR": verdict.factor,
            "RULE": verdict.rule,
            "EVIDENCE": " ".join(f"{key}={value}" for key, value in verdict.evidence.items()),
            "MODE": "test" if login.is_test else "observe" if observing else "",
            **{f"ANSWER_{key.upper()}": answer for key, answer in verdict.answers.items()},
        }
        message = f"login of {user} from {login.client_ip or login.tty}: {verdict.reason}"
        if login.is_test:
            self._write("login", f"only a test: {message}", fields)
            return
        self.counts.add(verdict)
        self._write("login", message, fields)
        if verdict.reason in _LOUD:
            self._write(str(verdict.reason), message, fields, warning=True)

    def session(self, event: str, user: str, service: str, record: Record | Lease | None, reason: Reason) -> None:
        """Write that a session opened, was refused, or closed; address and factor come from the record only."""
        fields = {
            "OUTCOME": Outcome.ALLOW if record else Outcome.DENY,
            "REASON": reason,
            "USER": user,
            "CLIENT_IP": record.client_ip if record else "",
            "SERVICE": service,
            "LOGIN": record.login_id if record else "",
            "FACTOR": record.factor if record else Factor.NONE,
        }
        self._write(event, f"{event} of {user}: {reason}", fields)

    def provisioning(self, sentence: str, counts: Mapping[str, int], *, complete: bool) -> None:
        """Write how a run of the provisioning loop ended."""
        told = " ".join(f"{action}={count}" for action, count in sorted(counts.items()))
        fields = {"OUTCOME": Outcome.ALLOW if complete else Outcome.DENY, "EVIDENCE": told}
        self._write("provisioning", f"provisioning: {sentence}", fields, warning=not complete)

    def enrolment(self, user: str, identity: str) -> None:
        """Write that somebody was enrolled with the service."""
        fields = {"OUTCOME": Outcome.ALLOW, "USER": user, "IDENTITY": identity}
        self._write("enrolment", f"{user} was enrolled", fields, warning=True)

    def app(self, user: str, by: str, what: str, client_ip: str = "", login_id: str = "") -> None:
        """Write that somebody's codes of this host came or went, who wanted that, and in which login if in one."""
        fields = {"OUTCOME": Outcome.ALLOW, "USER": user, "BY": by, "EVIDENCE": what}
        fields |= {"CLIENT_IP": client_ip, "LOGIN": login_id}
        self._write("enrolment", f"{user}: {what}, by {by}", fields, warning=True)

    def code_issued(self, user: str, by: str, valid: float) -> None:
        """Write that a helpdesk code was issued, and by whom."""
        fields = {"OUTCOME": Outcome.ALLOW, "USER": user, "BY": by, "EVIDENCE": f"valid={valid:.0f}"}
        self._write("code_issued", f"a code for {user} was issued by {by}", fields, warning=True)

    def unlock(self, user: str, by: str) -> None:
        """Write that somebody's wrong codes were forgotten, and who wanted that."""
        fields = {"OUTCOME": Outcome.ALLOW, "USER": user, "BY": by}
        self._write("unlock", f"{user} was unlocked by {by}", fields, warning=True)

    def reload(self, sentence: str, *, taken: bool) -> None:
        """Write what a reload changed, or why it was refused."""
        reason = "reloaded" if taken else Reason.MISCONFIGURED
        fields = {"OUTCOME": Outcome.ALLOW if taken else Outcome.DENY, "REASON": reason}
        self._write("reload", sentence, fields, warning=not taken)

    def flush(self) -> None:
        """Wait until everything so far is written."""
        self._writer.submit(bool).result()

    def close(self) -> None:
        """Write what still waits, and end."""
        self._writer.shutdown(wait=True)

    def _write(self, event: str, message: str, fields: Mapping[str, str], *, warning: bool = False) -> None:
        if event != "login":
            self.counts.events[event, fields.get("OUTCOME", "")] += 1
        full = {"STARLING_EVENT": event, **{f"STARLING_{name}": text for name, text in fields.items() if text}}
        if not self._places.acquire(blocking=False):
            sys.stderr.write(f"audit log hangs; not written: {full!a}\n")
            return
        self._writer.submit(self._write_now, message, full, warning=warning)

    def _write_now(self, message: str, fields: Mapping[str, str], *, warning: bool) -> None:
        try:
            self._log.write(message, fields, warning=warning)
        finally:
            self._places.release()
