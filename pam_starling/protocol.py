"""The packets that the module and the daemon exchange: encode, decode, limits. The only module both sides share.

One SOCK_SEQPACKET packet is one message: UTF-8 fields ``key=value`` joined by NUL, of which ``op`` names the message.
Nothing is ever cut to fit; what does not fit is refused. It must never import anything: every import here is paid for
by each login of the machine.
"""

VERSION = 1
ACCEPTED_VERSIONS = (VERSION,)
"""Wire versions the daemon takes from a module: its own and, once there is one, the one before."""

MAX_PACKET = 16 * 1024
"""Largest packet, in bytes."""
MAX_FIELDS = 64
MAX_ANSWER = 128
"""Longest answer a user may type, in bytes of UTF-8."""
KEY_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")


class ProtocolError(Exception):
    """A packet that breaks the rules of this page. The text names the rule, never the packet's content."""


def encode(op: str, fields: "dict[str, str] | None" = None) -> bytes:
    """Make the packet of operation ``op``. Raises ProtocolError when it breaks a rule."""
    pairs = [("op", op), *(fields or {}).items()]
    packet = "\0".join(f"{key}={value}" for key, value in pairs).encode("utf-8", "surrogatepass")  # decode refuses them
    if decode(packet) != (op, fields or {}):
        raise ProtocolError("a value holds NUL, or a name is none")
    return packet


def decode(packet: bytes) -> "tuple[str, dict[str, str]]":
    """Take a packet apart into its operation and its other fields. Raises ProtocolError when it breaks a rule."""
    if not packet or len(packet) > MAX_PACKET:
        raise ProtocolError("packet empty or too long")
    try:
        parts = packet.decode("utf-8").split("\0")
    except UnicodeDecodeError:
        raise ProtocolError("packet is not UTF-8") from None
    if len(parts) > MAX_FIELDS:
        raise ProtocolError("too many fields")
    pairs = [part.partition("=") for part in parts]
    fields = {key: value for key, equals, value in pairs if equals and key and KEY_CHARACTERS.issuperset(key)}
    if len(fields) != len(parts):
        raise ProtocolError("malformed or repeated field")
    op = fields.pop("op", "")
    if not op:
        raise ProtocolError("packet without an operation")
    return op, fields
