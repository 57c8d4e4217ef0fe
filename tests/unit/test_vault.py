"""The vault: a box opens with its key and for its user, and otherwise says why in words without a secret."""

from __future__ import annotations

import base64

import pytest

from starlingd.adapters.vault import Vault, new_key
from starlingd.ports import Fault, Unavailable

OLD, NEW = new_key(), new_key()
SECRET = b"\0the secret of alice"


def refused(vault: Vault, user: str, box: bytes) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        vault.open(user, box)
    assert (caught.value.port, caught.value.fault) == ("totp", Fault.MISCONFIGURED)
    assert "alice" not in str(caught.value)
    return caught.value


def test_what_is_sealed_comes_back_for_the_same_user() -> None:
    vault = Vault(NEW)
    box = vault.seal("alice", SECRET)
    assert vault.open("alice", box) == SECRET
    assert SECRET not in box
    assert vault.seal("alice", SECRET) != box, "a nonce is used once"


def test_a_box_opens_for_nobody_else() -> None:
    vault = Vault(NEW)
    assert "somebody else's" in refused(vault, "bob", vault.seal("alice", SECRET)).detail


def test_a_box_that_was_changed_anywhere_does_not_open() -> None:
    vault = Vault(NEW)
    box = vault.seal("alice", SECRET)
    for index in range(len(box)):
        refused(vault, "alice", box[:index] + bytes([box[index] ^ 1]) + box[index + 1 :])
        refused(vault, "alice", box[:index])


def test_after_a_rotation_old_boxes_open_and_new_ones_are_sealed_with_the_first_key() -> None:
    box = Vault(OLD).seal("alice", SECRET)
    both = Vault(f"{NEW}\n{OLD}\n")
    assert both.open("alice", box) == SECRET
    assert not both.is_current(box)
    assert both.is_current(both.seal("alice", SECRET))
    assert "does not hold" in refused(Vault(NEW), "alice", box).detail


@pytest.mark.parametrize("text", ["", "\n", "no base64!", base64.b64encode(b"short").decode(), f"{NEW}\nx"])
def test_a_file_that_holds_something_else_is_misconfigured(text: str) -> None:
    with pytest.raises(Unavailable) as caught:
        Vault(text)
    assert caught.value.fault is Fault.MISCONFIGURED
