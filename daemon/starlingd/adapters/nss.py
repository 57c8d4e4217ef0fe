"""Accounts from NSS, through getpwnam_r: Python's pwd module cannot tell "no such user" from "could not find out".

Nothing here may take an error for an answer: a directory that is down must not turn a user into a stranger, nor a
stranger into nobody's business.
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

# getpwnam(3): a missing entry may be reported by these instead of by a null result.
_NOT_FOUND = frozenset({0, errno.ENOENT, errno.ESRCH})


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
        encoded = name.encode("utf-8", "surrogateescape")
        if not _may_be_a_name(name) or not 0 < len(encoded) <= LONGEST_NAME:
            return None
        size = FIRST_BUFFER
        while size <= LARGEST_BUFFER:
            error, account = _ask(encoded, size)
            if error != errno.ERANGE:
                break
            size *= 4
        if error not in _NOT_FOUND:
            raise Unavailable("nss", Fault.BROKEN, f"getpwnam_r: {errno.errorcode.get(error, error)}")
        return account


def _ask(name: bytes, size: int) -> tuple[int, Account | None]:
    entry, buffer, result = _Passwd(), ctypes.create_string_buffer(size), ctypes.POINTER(_Passwd)()
    error: int = _getpwnam_r(name, entry, buffer, size, result)
    if error or not result:
        return error, None
    return 0, Account(entry.pw_name.decode("utf-8", "surrogateescape"), entry.pw_uid)


def _may_be_a_name(name: str) -> bool:
    return "/" not in name and not any(unicodedata.category(character) in {"Cc", "Cs"} for character in name)
