"""Real ssh logins through the installed package: who gets in, who does not, and what is written down."""

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion, unix_name

pytestmark = pytest.mark.system


def reasons(bastion: Bastion) -> list[str]:
    return [event["STARLING_REASON"] for event in bastion.audit()]


def test_an_approved_push_lets_in(bastion: Bastion) -> None:
    terminal = bastion.log_in("approves", "")
    assert "in as approves" in terminal.text
    [event] = bastion.await_audit()
    assert event["STARLING_REASON"] == "push_approved"
    assert event["STARLING_FACTOR"] == "push"
    [opened] = bastion.await_audit("session_open")
    assert opened["STARLING_LOGIN"] == event["STARLING_LOGIN"]
    [closed] = bastion.await_audit("session_close")
    assert closed["STARLING_LOGIN"] == event["STARLING_LOGIN"]


def test_a_right_code_lets_in(bastion: Bastion, sandbox: Sandbox) -> None:
    terminal = bastion.log_in("manual", sandbox.code_for("manual"))
    assert "in as manual" in terminal.text
    assert reasons(bastion) == ["code_verified"]


def test_a_code_with_blanks_is_a_code(bastion: Bastion, sandbox: Sandbox) -> None:
    code = sandbox.code_for("manual")
    assert "in as manual" in bastion.log_in("manual", f" {code[:3]} {code[3:]} ").text


def test_wrong_then_right_lets_in(bastion: Bastion, sandbox: Sandbox) -> None:
    code = sandbox.code_for("manual")
    terminal = bastion.log_in("manual", "000000" if code != "000000" else "111111", code)
    assert "Authentication failed" in terminal.text
    assert "in as manual" in terminal.text


def test_the_phone_shows_the_number_of_the_prompt_and_where_the_login_comes_from(
    bastion: Bastion, sandbox: Sandbox
) -> None:
    terminal = bastion.ssh("manual")
    prompt = terminal.await_prompt()
    terminal.type("")
    push = sandbox.await_push()
    assert f"(number {push['details']['Number']})" in prompt
    assert list(push["details"]) == ["Gateway", "Gateway User", "Client IP", "Protocol", "Number"]
    assert push["details"]["Gateway User"] == "manual"
    assert push["details"]["Client IP"] == bastion.engine.gateway
    sandbox.approve(push["id"])
    assert terminal.await_end() == 0


def test_a_denied_push_is_final(bastion: Bastion) -> None:
    terminal = bastion.log_in("denies", "", options=("-o", "NumberOfPasswordPrompts=5"))
    assert "in as" not in terminal.text
    assert terminal.text.count("Press Enter") == 1
    assert reasons(bastion)[0] == "push_denied"


def test_an_expired_push_may_be_tried_again(bastion: Bastion, sandbox: Sandbox) -> None:
    terminal = bastion.log_in("expires-at-once", "", sandbox.code_for("expires-at-once"))
    assert "in as expires-at-once" in terminal.text


def test_a_push_that_nobody_answers_ends_in_time(bastion: Bastion) -> None:
    bastion.configure("key", starling="timeout = 6", auth="max_attempts = 1")
    terminal = bastion.log_in("never-answers", "")
    assert "in as" not in terminal.text
    assert reasons(bastion)[0] in {"push_timeout", "push_expired"}


def test_three_wrong_codes_end_the_connection_whatever_the_client_wants(bastion: Bastion, sandbox: Sandbox) -> None:
    terminal = bastion.ssh("manual", "-o", "NumberOfPasswordPrompts=50")
    for _ in range(3):
        terminal.await_prompt()
        terminal.type("000000")
    terminal.await_text("Authentication failed\n\n")
    terminal.kill()
    assert terminal.text.count("Press Enter") == 3
    [event] = bastion.audit()
    assert event["STARLING_REASON"] == "wrong_code"
    assert event["STARLING_EVIDENCE"] == "failures=wrong_code,wrong_code,wrong_code"
    # A 401 may mean a stale token: each code is asked about twice, and never a fourth one.
    assert sum("verify" in call["path"] for call in sandbox.log()) == 6


@pytest.mark.parametrize("answer", ["letters", "12 34", "1234567890123", "\x1b[31m123456", "x" * 900])
def test_what_is_no_code_never_reaches_the_service(bastion: Bastion, sandbox: Sandbox, answer: str) -> None:
    terminal = bastion.ssh("manual")
    terminal.await_prompt()
    terminal.type(answer.replace("\x1b", "\x16\x1b"))  # Ctrl-V: the terminal is to take the next one literally
    terminal.await_text("ailed", 20)
    terminal.kill()
    assert not any("verify" in call["path"] for call in sandbox.log())


def test_bytes_that_are_not_utf8_are_refused(bastion: Bastion, sandbox: Sandbox) -> None:
    terminal = bastion.ssh("manual")
    terminal.await_prompt()
    terminal.type(b"\xff\xfe123456")
    terminal.await_text("ailed", 20)
    terminal.kill()
    assert not any("verify" in call["path"] for call in sandbox.log())
    assert not any("Traceback" in str(entry.get("MESSAGE")) for entry in bastion.journal())


@pytest.mark.parametrize("user", ["who-is-this", "root"])
def test_unknown_users_and_root_see_the_prompt_and_cause_no_call(bastion: Bastion, sandbox: Sandbox, user: str) -> None:
    bastion.configure("key", sshd="Match all\nAuthenticationMethods keyboard-interactive:pam\n")
    terminal = bastion.ssh(user, key=False)
    assert "Press Enter for push notification (number " in terminal.await_prompt()
    terminal.type("123456")
    terminal.await_text("Authentication failed", 20)
    terminal.kill()
    assert sandbox.log() == []


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("500", "service_error"),
        ("503", "unreachable"),
        ("malformed", "service_error"),
        ("html", "service_error"),
        ("reset", "unreachable"),
        ("unknown", "not_enrolled"),
        ("unknown-60016", "not_enrolled"),
    ],
)
def test_a_service_that_misbehaves_lets_nobody_in(bastion: Bastion, behaviour: str, reason: str) -> None:
    bastion.configure("key", auth="max_attempts = 1")
    user = unix_name(behaviour)
    terminal = bastion.ssh(user, "-o", "NumberOfPasswordPrompts=1")
    terminal.await_prompt()
    terminal.type("")
    event = bastion.await_audit()[0]
    terminal.kill()
    assert event["STARLING_REASON"] == reason
    assert event["STARLING_OUTCOME"] == "deny"


@pytest.mark.parametrize(
    "behaviour", ["500-then-ok", "503-then-ok", "429-seconds", "429-date", "slow", "stale-token", "numeric-ids"]
)
def test_a_service_that_recovers_lets_in(bastion: Bastion, behaviour: str) -> None:
    user = unix_name(behaviour)
    assert f"in as {user}" in bastion.log_in(user, "").text
