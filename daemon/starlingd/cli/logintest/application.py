"""A PAM application on a terminal: runs a service's stack for somebody and tells what each step came to.

A program of its own, so that a module that crashes takes nobody with it, and that the module finds its own package and
not the daemon's. Run by root as ``python3 -I application.py FD REQUEST``: REQUEST is JSON (service, user, rhost, tty,
steps), FD a socket on which it waits for a line before it begins, and writes a line of JSON for each step. It must
never open a session. The bindings are python-pam's, whose own ``authenticate`` can only send one password.
"""

from __future__ import annotations

import ctypes
import getpass
import json
import os
import signal
import socket
import sys
from ctypes.util import find_library
from typing import Any

from pam import __internals as bindings

LOCKED = ("pam_start", "pam_end", "pam_authenticate", "pam_acct_mgmt", "pam_set_item", "pam_strerror", "pam_getenv")
"""Calls that run modules, or whose handle they use."""
TRIAL = b"PAM_STARLING_LOGIN=test-"
"""What tells a daemon that was restarted, and knows of no trial any more, that this is no login either."""
STEPS = {"authenticate": "pam_authenticate", "account": "pam_acct_mgmt"}


class Authenticator(bindings.PamAuthenticator):  # type: ignore[misc]  # python-pam has no types
    """python-pam's bindings with the interpreter's lock held.

    pam_python runs in this very interpreter, and takes the lock for granted: bindings that let go of it crash.
    """

    def __init__(self) -> None:
        super().__init__()
        libpam = ctypes.PyDLL(find_library("pam"))
        for name in LOCKED:
            theirs, ours = getattr(self, name), getattr(libpam, name)
            ours.argtypes, ours.restype = theirs.argtypes, theirs.restype
            setattr(self, name, ours)


def show(text: str) -> None:
    """Write to the terminal what it would not act upon."""
    clean = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    sys.stderr.write(clean)
    sys.stderr.flush()


def respond(style: int, text: str) -> str | None:
    """Show a message and, for a prompt, return what was typed."""
    if style == bindings.PAM_PROMPT_ECHO_OFF and sys.stdin.isatty():
        return getpass.getpass(text)
    if style in {bindings.PAM_PROMPT_ECHO_ON, bindings.PAM_PROMPT_ECHO_OFF}:
        show(text)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")
    show(text + "\n")
    return None


def conversation(libc: Any) -> Any:  # noqa: ANN401  ctypes
    """Make the C function that libpam calls with messages; it answers PAM_CONV_ERR when there is nobody to answer."""
    libc.calloc.restype, libc.calloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
    libc.strdup.restype, libc.strdup.argtypes = ctypes.c_void_p, [ctypes.c_char_p]

    def converse(count: int, messages: Any, responses: Any, _: Any) -> int:  # noqa: ANN401  ctypes
        try:
            given = [(messages[i].contents.msg_style, messages[i].contents.msg or b"") for i in range(count)]
            answers = [respond(style, text.decode("utf-8", "replace")) for style, text in given]
            address = libc.calloc(count, ctypes.sizeof(bindings.PamResponse))
            filled = ctypes.cast(address, ctypes.POINTER(_Response))
            for i, answer in enumerate(answers):
                filled[i].resp = None if answer is None else libc.strdup(answer.encode())
            responses[0] = ctypes.cast(address, ctypes.POINTER(bindings.PamResponse))
        except Exception:  # noqa: BLE001  it is C that called
            return int(bindings.PAM_CONV_ERR)
        return int(bindings.PAM_SUCCESS)

    return bindings.conv_func(converse)


class _Response(ctypes.Structure):
    """python-pam's PamResponse, with an address that libpam will free in place of Python's bytes."""

    _fields_ = (("resp", ctypes.c_void_p), ("resp_retcode", ctypes.c_int))


def main() -> None:
    """Run the steps until one refuses."""
    if os.getresuid() != (0, 0, 0):
        sys.exit("login-test: only root may run a PAM stack")  # and no setuid program may ever lead here
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asked = json.loads(sys.argv[2])
    with socket.socket(fileno=int(sys.argv[1])) as parent, parent.makefile("rw") as lines:
        if not lines.readline():
            return
        pam = Authenticator()
        spoken = bindings.PamConv(conversation(pam.libc), None)
        pam.handle = bindings.PamHandle()
        started = pam.pam_start(
            asked["service"].encode(), asked["user"].encode(), ctypes.byref(spoken), ctypes.byref(pam.handle)
        )
        if started != bindings.PAM_SUCCESS:
            lines.write(json.dumps({"step": "start", "code": started, "text": "libpam does not start"}) + "\n")
            return
        for item, text in ((bindings.PAM_RHOST, asked["rhost"]), (bindings.PAM_TTY, asked["tty"])):
            if text:
                pam.pam_set_item(pam.handle, item, ctypes.cast(ctypes.c_char_p(text.encode()), ctypes.c_void_p))
        pam.pam_putenv(pam.handle, TRIAL)
        for step in asked["steps"]:
            pam.code = getattr(pam, STEPS[step])(pam.handle, 0)
            text = pam.pam_strerror(pam.handle, pam.code).decode()
            lines.write(json.dumps({"step": step, "code": pam.code, "text": text}) + "\n")
            lines.flush()
            if pam.code != bindings.PAM_SUCCESS:
                break
        pam.end()


if __name__ == "__main__":
    main()
