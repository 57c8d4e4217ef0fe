"""The fingerprint of the key that opened an ssh connection, from sshd's SSH_AUTH_INFO_0.

For a certificate it is that of the certified key (SEMANTICS §4): a renewed certificate is the same identity.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

PUBLIC_KEY = "publickey"
CERTIFICATE = "-cert-v01@openssh.com"

# How many fields of a certificate, after its type and nonce, are the certified key (PROTOCOL.certkeys of OpenSSH).
_KEY_FIELDS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}


def fingerprint(auth_info: str) -> str:
    """Find ``SHA256:…`` of the last public key in SSH_AUTH_INFO_0; empty when there is none that can be read."""
    # At \n alone, as sshd ends its lines: what a client says of itself may hold other ends of lines.
    for line in reversed(auth_info.split("\n")):
        words = line.split()
        if len(words) > 2 and words[0] == PUBLIC_KEY:  # noqa: PLR2004  method, type, key
            return _of_blob(words[1], words[2])
    return ""


def _of_blob(kind: str, encoded: str) -> str:
    try:
        blob = base64.b64decode(encoded, validate=True)
        if CERTIFICATE in kind:
            blob = _certified_key(kind.replace(CERTIFICATE, ""), blob)
    except (binascii.Error, ValueError):
        return ""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def _certified_key(kind: str, blob: bytes) -> bytes:
    """Rebuild the plain key that a certificate certifies; raises ValueError for one that cannot be read."""
    name = f"{kind.removesuffix('@openssh.com')}@openssh.com" if kind.startswith("sk-") else kind
    if name not in _KEY_FIELDS:
        raise ValueError("unknown kind of certificate")
    _, rest = _take(blob)  # the certificate's type
    _, rest = _take(rest)  # its nonce
    key = _put(name.encode("ascii"))
    for _ in range(_KEY_FIELDS[name]):
        field, rest = _take(rest)
        key += _put(field)
    return key


def _take(data: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length:
        raise ValueError("too short")
    return data[4 : 4 + length], data[4 + length :]


def _put(field: bytes) -> bytes:
    return len(field).to_bytes(4, "big") + field
