"""No code, token or credential is to be found where it does not belong."""

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion

pytestmark = pytest.mark.system


def test_nothing_secret_is_in_the_journal_the_process_table_or_the_state(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("key", logging="log_level = debug", auth="max_attempts = 1")
    code, wrong = sandbox.code_for("manual"), "918273"
    waiting = bastion.ssh("never-answers")
    waiting.await_prompt()
    waiting.type("")
    assert "in as manual" in bastion.log_in("manual", code).text
    for user in ("manual", "malformed", "reset", "slow"):
        assert "in as" not in bastion.log_in(user, wrong, options=("-o", "NumberOfPasswordPrompts=1")).text
    client_id, client_secret = sandbox.credential.split(":")
    journal = bastion.logged()
    processes = bastion.shell("ps axeww; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")
    state = bastion.shell("cat /var/lib/starlingd/* | tr -cd '[:print:]'")
    assert "starlingd" in journal
    assert "starlingd" in processes
    for place in (journal, processes, state):
        for secret in (code, wrong, client_secret, *sandbox.tokens()):
            assert secret not in place
    assert client_id not in processes
