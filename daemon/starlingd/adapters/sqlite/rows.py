"""Between the core's values and the rows of the state file. A row that makes no sense raises ValueError or KeyError."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from starlingd.core.enrolment import Enrolment
from starlingd.core.grace import Entry, Key, Moment
from starlingd.core.model import Factor, Process, Reason
from starlingd.core.otp import Algorithm, Token
from starlingd.core.records import Lease, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Row = dict[str, Any]
T = TypeVar("T")

log = logging.getLogger("starlingd.sqlite")


def readable(make: Callable[[Row], T], rows: Iterable[Row]) -> list[T]:
    """Make a value of each row; a row that makes no sense is none, and must not hide the others."""
    values = []
    for row in rows:
        try:
            values.append(make(row))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("a row of the state file makes no sense: %s", error)
    return values


def record_row(record: Record) -> Row:
    """Make the row of a record."""
    key = record.key
    return {
        "login_id": record.login_id,
        "user": record.user,
        "service": record.service,
        "caller_pid": record.caller.pid,
        "caller_start": record.caller.start,
        "parent_pid": record.parent.pid,
        "parent_start": record.parent.start,
        "client_ip": record.client_ip,
        "tty": record.tty,
        "auth_info": record.auth_info,
        "factor": str(record.factor),
        "reason": str(record.reason),
        "boot": record.boot,
        "made": record.made,
        "wall": record.wall,
        "basis": record.basis,
        "grace_key": json.dumps([key.user, key.client_ip, key.ssh_key, key.service]) if key else "",
    }


def record(row: Row) -> Record:
    """Make a record of its row."""
    values = dict(row)
    caller = Process(values.pop("caller_pid"), values.pop("caller_start"))
    parent = Process(values.pop("parent_pid"), values.pop("parent_start"))
    factor, reason = Factor(values.pop("factor")), Reason(values.pop("reason"))
    parts = values.pop("grace_key")
    key = Key(*json.loads(parts)) if parts else None
    return Record(caller=caller, parent=parent, factor=factor, reason=reason, key=key, **values)


def key_row(key: Key) -> Row:
    """Make the columns that name a grace entry."""
    return {"user": key.user, "client_ip": key.client_ip, "ssh_key": key.ssh_key, "service": key.service}


def key(row: Row) -> Key:
    """Make the key of a row that names a grace entry."""
    return Key(row["user"], row["client_ip"], row["ssh_key"], row["service"])


def entry_row(entry: Entry) -> Row:
    """Make the columns of a grace entry."""
    return {
        "basis": entry.basis,
        "authenticated_wall": entry.authenticated.wall,
        "authenticated_boottime": entry.authenticated.boottime,
        "authenticated_boot": entry.authenticated.boot,
        "used_wall": entry.used.wall,
        "used_boottime": entry.used.boottime,
        "used_boot": entry.used.boot,
        "reuses": entry.reuses,
    }


def entry(row: Row) -> Entry:
    """Make a grace entry of its row."""
    authenticated = Moment(row["authenticated_wall"], row["authenticated_boottime"], row["authenticated_boot"])
    used = Moment(row["used_wall"], row["used_boottime"], row["used_boot"])
    return Entry(row["basis"], authenticated, used, row["reuses"])


def reuse_row(login_id: str, key: Key, before: Entry, after: Entry) -> Row:
    """Make the row of a reuse that a login took: which entry it was, and its last use before and after."""
    moments = {"authenticated": after.authenticated, "used": after.used, "before": before.used}
    row: Row = {"login_id": login_id, **key_row(key)}
    for name, moment in moments.items():
        row |= {f"{name}_wall": moment.wall, f"{name}_boottime": moment.boottime, f"{name}_boot": moment.boot}
    return row


def lease_row(lease: Lease) -> Row:
    """Make the row of an open session."""
    return {
        "login_id": lease.login_id,
        "user": lease.user,
        "service": lease.service,
        "client_ip": lease.client_ip,
        "tty": lease.tty,
        "pid": lease.process.pid,
        "start": lease.process.start,
        "boot": lease.boot,
        "since": lease.since,
        "factor": str(lease.factor),
        "reason": str(lease.reason),
    }


def lease(row: Row) -> Lease:
    """Make an open session of its row."""
    values = dict(row)
    process = Process(values.pop("pid"), values.pop("start"))
    return Lease(process=process, factor=Factor(values.pop("factor")), reason=Reason(values.pop("reason")), **values)


def token_row(token: Token) -> Row:
    """Make the row of an authenticator app."""
    return {**asdict(token), "algorithm": str(token.algorithm)}


def token(row: Row) -> Token:
    """Make an authenticator app of its row."""
    return Token(**{**row, "algorithm": Algorithm(row["algorithm"])})


def enrolment(row: Row) -> Enrolment:
    """Make an enrolment of its row."""
    return Enrolment(**{**row, "blocked": bool(row["blocked"])})
