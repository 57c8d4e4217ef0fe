"""Accounts from NSS, through getpwnam_r: Python's pwd module cannot tell "no such user" from "could not find out".

Nothing here may take an error for an answer: a directory that is down must not turn a user into a stranger, nor a
stranger into nobody's business.

What glibc says (nss/getXXbyYY_r.c): 0 with an entry is a find; 0 without one means that the last service asked said
NOTFOUND; everything else, ENOENT and ESRCH too, is the errno that a service left when it could not tell (getpwnam(3)
lists those two as "not found" for other systems). A service that fails without setting errno makes glibc return the
errno from before the call: hence ``_NO_ERRNO_LEFT``, without which it would look like "no such user".

What glibc hides: with ``passwd: sss files`` an outage of sss is forgotten when files says NOTFOUND. The service that
may be down must stand last in nsswitch.conf, as Debian's packages put it, or have ``[UNAVAIL=return]`` after it. A
service whose module is not installed is skipped as if it were not there, unless nothing else was asked.
"""

from __future__ import annotations

import ctypes
import errno
import unicodedata

from starlingd.core.model import Account, Fault, Unavailable

LONGEST_NAME = 256
"""Bytes of a user name; a longer one is nobody's."""
FIRST_BUFFER = 1024
LARGEST_BUFFER = 1 << 20

_NO_ERRNO_LEFT = errno.ELIBACC
"""What errno is before each call; getpwnam_r hands it back when a failing service sets none."""


class _Passwd(ctypes.Structure):
    """Struct passwd of glibc, <pwd.h>."""

    _fields_ = (
        ("pw_name", ctypes.c_char_p),
        ("pw_passwd", ctypes.c_char_p),
        ("pw_uid", ctypes.c_uint32),
        ("pw_gid", ctypes.c_uint32),
        ("pw_gecos", ctypes.c_char_p),
        ("pw_dir", ctypes.c_char_p),
        ("pw_shell", ctypes.c_char_p),
    )


_getpwnam_r = ctypes.CDLL(None, use_errno=True).getpwnam_r
_getpwnam_r.restype = ctypes.c_int
_getpwnam_r.argtypes = (
    ctypes.c_char_p,
    ctypes.POINTER(_Passwd),
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.POINTER(_Passwd)),
)


class NssAccounts:
    """The host's accounts. Thread-safe: every call has its own buffer."""

    def look_up(self, name: str) -> Account | None:
        """Find an account and its canonical name; raises Unavailable when NSS could not tell."""
        if not _may_be_a_name(name):
            return None
        size = FIRST_BUFFER
        while size <= LARGEST_BUFFER:
            error, account = _ask(name.encode(), size)
            if error != errno.ERANGE:
                break
            size *= 4
        if error:
            raise Unavailable("nss", Fault.BROKEN, f"getpwnam_r: {errno.errorcode.get(error, error)}")
        return account


def _ask(name: bytes, size: int) -> tuple[int, Account | None]:
    entry, buffer, result = _Passwd(), ctypes.create_string_buffer(size), ctypes.POINTER(_Passwd)()
    ctypes.set_errno(_NO_ERRNO_LEFT)
    error: int = _getpwnam_r(name, entry, buffer, size, result)
    if error or not result:
        return error, None
    return 0, Account(entry.pw_name.decode("utf-8", "surrogateescape"), entry.pw_uid)


def _may_be_a_name(name: str) -> bool:
    """Sort out what no account is called, before it reaches a service that may be less careful."""
    if "/" in name or any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        return False
    return 0 < len(name.encode()) <= LONGEST_NAME
