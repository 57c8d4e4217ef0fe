"""Clients that are not OpenSSH: what they may send is their choice, not ours."""

import paramiko
import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    "answer", ["1" * 100_000, "é" * 65, "123456;654321", "\x1b[2J123456"], ids=lambda text: str(len(text))
)
def test_an_answer_of_any_size_is_refused_and_reaches_nobody(bastion: Bastion, sandbox: Sandbox, answer: str) -> None:
    before = len(sandbox.log())
    transport = paramiko.Transport((bastion.address, 22))
    try:
        transport.start_client(timeout=20)
        key = paramiko.Ed25519Key.from_private_key_file(str(bastion.work / "id"))
        assert transport.auth_publickey("manual", key) == ["keyboard-interactive"]
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_interactive("manual", lambda *_: [answer])
    finally:
        transport.close()
    assert bastion.await_audit()[0]["STARLING_OUTCOME"] == "deny"
    assert len(sandbox.log()) == before
    assert not bastion.audit("session_open")
