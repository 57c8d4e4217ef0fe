"""Logs one user in again and again until its standard input ends, then prints what it saw as JSON.

Usage: login_worker.py SOCKET USER. It speaks the wire as the module does: a connection that breaks off is nobody's
login, and what the daemon answered must hold after a restart.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from pathlib import Path

from pam_starling.protocol import decode, encode

PATIENCE = 30.0
ADDRESS = "198.51.100.7"


class Lost(Exception):  # noqa: N818  it is what it is called
    """The daemon was killed before it answered."""


def call(path: str, operation: str, user: str, login: str = "") -> dict[str, str]:
    """Make one call; raises Lost."""
    start = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    fields = {"v": "1", "user": user, "service": "sshd", "ppid": "1", "pstart": "1", "start": start, "deadline": "60"}
    fields |= {"rhost": ADDRESS, "tty": "ssh", "conn": f"{ADDRESS} 50000 192.0.2.1 22", "login": login}
    fields["authinfo"] = "publickey ssh-ed25519 AAAA"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(path)
            while True:
                data = sock.recv(65536)
                if not data:
                    raise Lost
                op, answer = decode(data)
                if op == "hello":
                    sock.send(encode(operation, fields))
                elif op == "done":
                    return answer
                elif op == "ask":
                    return {"result": "asked"}
    except (ConnectionResetError, BrokenPipeError):
        raise Lost from None


def log_in(path: str, user: str, tally: dict[str, list[str] | int]) -> None:
    """Log in once, from the first question to the end of the session."""
    tally["cycles"] += 1
    try:
        answer = call(path, "authenticate", user)
    except Lost:
        tally["lost"] += 1
        return
    if answer.get("reason") != "cached":
        tally["refused"].append(f"authenticate: {answer}")
        return
    try:
        opened = call(path, "open_session", user, answer["env.PAM_STARLING_LOGIN"])
    except Lost:
        tally["unknown"] += 1
        return
    if opened["result"] != "success":
        tally["refused"].append(f"open_session: {opened}")
        return
    tally["opened"] += 1
    try:
        call(path, "close_session", user)
    except Lost:
        tally["lost"] += 1


def main() -> None:
    """Log in until told to stop."""
    path, user = sys.argv[1:]
    tally: dict[str, list[str] | int] = {"cycles": 0, "opened": 0, "unknown": 0, "lost": 0, "refused": []}
    while not select.select([sys.stdin], [], [], 0)[0]:
        log_in(path, user, tally)
    print(json.dumps(tally))


if __name__ == "__main__":
    main()
