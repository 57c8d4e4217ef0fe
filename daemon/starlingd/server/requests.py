"""What a module's first packet says, parsed at the border into the core's types.

Nothing behind this page looks into a packet's fields. The caller's pid never comes from the packet: the kernel says it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pam_starling.protocol import ACCEPTED_VERSIONS, ProtocolError
from starlingd.core.model import Login, Process
from starlingd.core.sshkey import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_DEADLINE = 600.0
LONGEST_NUMBER = 20
CONNECTION_PARTS = 4
"""SSH_CONNECTION: client address, client port, server address, server port."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A packet's fields; each method takes one by name and says what is wrong with it."""

    values: Mapping[str, str]

    def text(self, name: str) -> str:
        """Take a text, empty when absent."""
        return self.values.get(name, "")

    def required(self, name: str) -> str:
        """Take a text that must be there."""
        value = self.text(name)
        if not value:
            raise ProtocolError(f"{name} is missing")
        return value

    def number(self, name: str) -> int:
        """Take a non-negative decimal number."""
        value = self.required(name)
        if not (value.isascii() and value.isdigit() and len(value) <= LONGEST_NUMBER):
            raise ProtocolError(f"{name} is not a number")
        return int(value)

    def seconds(self, name: str) -> float:
        """Take a positive number of seconds, which may have a fraction."""
        try:
            value = float(self.required(name))
        except ValueError:
            raise ProtocolError(f"{name} is not a number of seconds") from None
        if not 0 < value <= LONGEST_DEADLINE:
            raise ProtocolError(f"{name} is out of range")
        return value


def parse_login(values: Mapping[str, str], pid: int, now: float) -> Login:
    """Make a Login of a first packet; ``pid`` is the peer's, ``now`` monotonic seconds. Raises ProtocolError."""
    fields = Fields(values)
    if fields.number("v") not in ACCEPTED_VERSIONS:
        raise ProtocolError("unknown version")
    connection = fields.text("conn")
    return Login(
        user=fields.required("user"),
        service=fields.required("service"),
        client_ip=client_address(connection, fields.text("rhost")),
        tty=fields.text("tty"),
        connection=connection,
        auth_info=fields.text("authinfo"),
        ssh_key=fingerprint(fields.text("authinfo")),
        first_factor=fields.text("first_factor"),
        caller=Process(pid, fields.number("start")),
        parent=Process(fields.number("ppid"), fields.number("pstart")),
        deadline=now + fields.seconds("deadline"),
        login_id=fields.text("login"),
    )


def client_address(connection: str, rhost: str) -> str:
    """Find the client's numeric address: SSH_CONNECTION's, else PAM_RHOST if it is one, else none.

    IPv4-mapped addresses are folded to IPv4 and zone ids dropped (SEMANTICS §13). Raises ProtocolError for a
    connection that has no address, since sshd always writes one.
    """
    if not connection:
        try:
            return fold(rhost)
        except ValueError:
            return ""
    parts = connection.split()
    try:
        return fold(parts[0] if len(parts) == CONNECTION_PARTS else "")
    except ValueError:
        raise ProtocolError("conn is not a connection") from None


def fold(address: str) -> str:
    """Write a numeric address in its one form; raises ValueError when it is none."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
