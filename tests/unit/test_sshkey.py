"""The fingerprint of the key that opened a connection, next to what ``ssh-keygen -lf`` says of the same key."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlingd.core.sshkey import fingerprint

KINDS = {
    "ed25519": ["-t", "ed25519"],
    "rsa": ["-t", "rsa", "-b", "2048"],
    "ecdsa-256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-521": ["-t", "ecdsa", "-b", "521"],
}


def ssh_keygen(*arguments: str | Path) -> str:
    return subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offer a directory with a key and a certificate of each kind, and the authority that signed them."""
    place = tmp_path_factory.mktemp("keys")
    ssh_keygen("-q", "-t", "ed25519", "-N", "", "-f", place / "ca")
    for kind, arguments in KINDS.items():
        ssh_keygen("-q", *arguments, "-N", "", "-C", "a comment", "-f", place / kind)
        ssh_keygen("-q", "-s", place / "ca", "-I", "an id", "-n", "alice", place / f"{kind}.pub")
    return place


def auth_info(public: Path) -> str:
    """Make the line of SSH_AUTH_INFO_0 that sshd writes for a key or a certificate."""
    kind, blob, *_ = public.read_text().split()
    return f"publickey {kind} {blob}\n"


def oracle(public: Path) -> str:
    """Tell what ssh-keygen calls a key: for a certificate, the key that it certifies."""
    return ssh_keygen("-lf", public).split()[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_keys_fingerprint_is_the_one_ssh_keygen_tells(keys: Path, kind: str) -> None:
    assert fingerprint(auth_info(keys / f"{kind}.pub")) == oracle(keys / f"{kind}.pub")


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_has_the_fingerprint_of_the_certified_key(keys: Path, kind: str) -> None:
    certificate = keys / f"{kind}-cert.pub"
    assert "-cert-v01@openssh.com" in certificate.read_text()
    assert fingerprint(auth_info(certificate)) == oracle(keys / f"{kind}.pub") == oracle(certificate)


def test_a_renewed_certificate_is_the_same_identity(keys: Path, tmp_path: Path) -> None:
    public = tmp_path / "renewed.pub"
    public.write_text((keys / "ed25519.pub").read_text())
    ssh_keygen("-q", "-s", keys / "ca", "-I", "another id", "-z", "7", "-V", "+1d", "-n", "alice,bob", public)
    renewed = tmp_path / "renewed-cert.pub"
    assert renewed.read_text() != (keys / "ed25519-cert.pub").read_text()
    assert fingerprint(auth_info(renewed)) == oracle(keys / "ed25519.pub")


def wire(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("sk-ssh-ed25519", [b"p" * 32, b"ssh:"]),
        ("sk-ecdsa-sha2-nistp256", [b"nistp256", b"\x04" + b"p" * 64, b"ssh:"]),
    ],
)
def test_keys_in_hardware_have_the_fingerprint_ssh_keygen_tells(kind: str, fields: list[bytes], tmp_path: Path) -> None:
    """Without hardware the keys are put together by PROTOCOL.u2f and PROTOCOL.certkeys."""
    plain = wire(f"{kind}@openssh.com".encode(), *fields)
    name = f"{kind}-cert-v01@openssh.com"
    rest = b"\0" * 8 + b"\0\0\0\1" + wire(b"id", wire(b"alice"), b"") + b"\0" * 16 + wire(b"", b"", b"", b"ca", b"sig")
    certificate = wire(name.encode(), b"n" * 32, *fields) + rest
    public = tmp_path / "key.pub"
    if kind == "sk-ssh-ed25519":  # any 32 bytes are such a key; a point on the curve is not made by hand
        public.write_text(f"{kind}@openssh.com {base64.b64encode(plain).decode()}\n")
        assert fingerprint(auth_info(public)) == oracle(public)
    assert fingerprint(f"publickey {name} {base64.b64encode(certificate).decode()}") == fingerprint(
        f"publickey {kind}@openssh.com {base64.b64encode(plain).decode()}"
    )


def test_of_several_keys_the_last_one_counts(keys: Path) -> None:
    first, last = auth_info(keys / "rsa.pub"), auth_info(keys / "ed25519-cert.pub")
    assert fingerprint(first + last + "keyboard-interactive/pam\n") == oracle(keys / "ed25519.pub")


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_what_a_client_says_of_itself_is_no_line_of_its_own(keys: Path, separator: str) -> None:
    """Only a line feed ends a line of sshd, which writes a client's words of a host-based login into one."""
    key = auth_info(keys / "rsa.pub").strip()
    forged = f'hostbased ssh-ed25519 AAAA client user "x{separator}{key} ", client host "y"'
    assert fingerprint(f"{forged}\n") == ""
    assert fingerprint(auth_info(keys / "ed25519.pub") + forged) == oracle(keys / "ed25519.pub")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "password\n",
        "keyboard-interactive/pam\n",
        "publickey",
        "publickey ssh-ed25519",
        "publickey ssh-ed25519 !!!",
        "publickey ssh-ed25519 AAA",
        "publickey ssh-ed25519 ÄÖÜ=",
        "publickeys ssh-ed25519 AAAA",
        "hostbased ssh-ed25519 AAAA",
        "publickey ssh-ed25519-cert-v01@openssh.com AAAA",
        "publickey ssh-ed25519-cert-v01@openssh.com AAAAAf8=",
        "publickey made-up-cert-v01@openssh.com AAAAAA==",
    ],
)
def test_what_is_no_key_has_no_fingerprint(text: str) -> None:
    assert fingerprint(text) == ""


def test_a_certificate_that_is_cut_short_has_none_before_its_key_is_whole(keys: Path) -> None:
    for kind in KINDS:
        name, blob, *_ = (keys / f"{kind}-cert.pub").read_text().split()
        whole, found = base64.b64decode(blob), oracle(keys / f"{kind}.pub")
        for length in range(len(whole)):
            assert fingerprint(f"publickey {name} {base64.b64encode(whole[:length]).decode()}") in {"", found}


@settings(max_examples=300)
@given(text=st.text(max_size=60), blob=st.binary(max_size=80))
def test_nothing_raises_and_a_fingerprint_is_43_letters_of_base64(text: str, blob: bytes) -> None:
    encoded = base64.b64encode(blob).decode()
    for words in (text, f"ssh-rsa {encoded}", f"ssh-rsa-cert-v01@openssh.com {encoded}"):
        found = fingerprint(f"publickey {words}")
        assert found == "" or (found.startswith("SHA256:") and len(found) == len("SHA256:") + 43)
