"""Seals the secrets of authenticator apps: ChaCha20-Poly1305 (RFC 8439) by python3-cryptography.

A box opens only with its key and for the user it was made for, so that nobody who can write the state file can give one
user another one's app. It must never write a key or a secret anywhere, nor say why a box does not open in more words
than these.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from starlingd.ports import Fault, Unavailable

PORT = "totp"
KEY_BYTES = 32
_ID_BYTES, _NONCE_BYTES = 8, 12
_PURPOSE = b"pam-starling totp 1\0"


def new_key() -> str:
    """Make a key, as a line of the key file has it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class Vault:
    """``ports.Vault`` with the keys of a key file: base64 of 32 bytes each, in lines; the first seals, all open.

    Raises Unavailable(MISCONFIGURED) for a text that holds no key, or something else.
    """

    def __init__(self, text: str) -> None:
        keys = [_decoded(line) for line in text.split()]
        if not keys:
            raise _misconfigured("the key file holds no key")
        self._ciphers = {_id(key): ChaCha20Poly1305(key) for key in keys}
        self._first = _id(keys[0])

    def seal(self, user: str, secret: bytes) -> bytes:
        """Put a secret of ``user`` into a box."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._first + nonce + self._ciphers[self._first].encrypt(nonce, secret, _PURPOSE + user.encode())

    def open(self, user: str, box: bytes) -> bytes:
        """Take the secret out of a box of ``user``. Raises Unavailable(MISCONFIGURED) for every box that is not one."""
        cipher = self._ciphers.get(box[:_ID_BYTES])
        if cipher is None:
            raise _misconfigured("a secret was sealed with a key that the key file does not hold")
        nonce, sealed = box[_ID_BYTES : _ID_BYTES + _NONCE_BYTES], box[_ID_BYTES + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, sealed, _PURPOSE + user.encode())
        except (InvalidTag, ValueError):
            outage = _misconfigured("a sealed secret was changed, or is somebody else's")
        raise outage

    def is_current(self, box: bytes) -> bool:
        """Tell whether the box was sealed with the first key."""
        return box[:_ID_BYTES] == self._first


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"key id\0" + key).digest()[:_ID_BYTES]


def _decoded(line: str) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise _misconfigured("a line of the key file is not 32 bytes in base64") from None
    return key


def _misconfigured(detail: str) -> Unavailable:
    return Unavailable(PORT, Fault.MISCONFIGURED, detail)
