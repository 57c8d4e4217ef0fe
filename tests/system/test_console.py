"""The console: real `login` on a pseudo-terminal, where there is no address and the tty stands for it."""

import json
import time
from collections.abc import Iterator

import pytest

from starlingd.cli.pam.stack import Mode, with_ours
from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion
from tests.system.machine import PATIENCE
from tests.system.terminal import Terminal

pytestmark = pytest.mark.system

PAM = "/etc/pam.d/login"
OURS = "Press Enter for push notification"
LIMIT = "connection_limit by=client_ip_gateway_user"


@pytest.fixture
def console(bastion: Bastion) -> Iterator[Bastion]:
    """Offer the bastion with the second factor after the password at its console."""
    stock = bastion.run("cat", PAM)
    bastion.write(PAM, with_ours(stock, Mode.PASSWORD))
    yield bastion
    bastion.shell("pkill -9 -x login || true")
    bastion.write(PAM, stock)
    bastion.shell("systemctl start starlingd.socket starlingd-control.socket")


def reconfigure(bastion: Bastion, starling: str = "", **sections: str) -> None:
    bastion.write_configuration(starling, **sections)
    bastion.shell("systemctl restart starlingd.service")


def sit_down(bastion: Bastion, user: str, password: str = "") -> Terminal:
    """Type a name and a password at a console of one's own."""
    docker = ["/usr/bin/docker", "-H", f"unix://{bastion.engine.socket}", "exec", "-it", bastion.name]
    terminal = Terminal.run([*docker, "script", "-qec", "login", "/dev/null"])
    bastion.terminals.append(terminal)
    terminal.await_text("login: ")
    terminal.type(user)
    terminal.await_prompt()
    terminal.type(password or f"Unix-password-of-{user}")
    return terminal


def is_out(terminal: Terminal) -> bool:
    """Tell whether login has refused: it asks for another name, or has ended because there may be no more tries."""
    return not terminal.await_text_or_end("Login incorrect") or "login: " in terminal.text


def log_in(bastion: Bastion, user: str, answer: str) -> Terminal:
    terminal = sit_down(bastion, user)
    terminal.await_prompt()
    terminal.type(answer)
    return terminal


def is_in(terminal: Terminal, user: str) -> bool:
    """Tell whether there is a shell of this user, by what it answers."""
    terminal.await_text(f"{user}@bastion:")
    terminal.type("echo in as $(id -un) on $(tty)")
    terminal.await_text(f"in as {user} on /dev/pts/")
    return True


def sessions(bastion: Bastion) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(bastion.run("starlingctl", "sessions", "list", "--json"))
    return found


def await_nothing(bastion: Bastion) -> None:
    """Wait until no login, no session, no record and no grace entry is left."""
    ends = time.monotonic() + PATIENCE
    counts = "select (select count(*) from records) + (select count(*) from sessions) + (select count(*) from grace)"
    look = f"pgrep -x login; sqlite3 /var/lib/starlingd/state.db '{counts}'"
    while (found := bastion.shell(look, check=False).split()) != ["0"]:
        assert time.monotonic() < ends, found
        time.sleep(0.1)


def test_a_push_is_told_where_it_comes_from_and_lets_in(console: Bastion, sandbox: Sandbox) -> None:
    terminal = log_in(console, "manual", "")
    push = sandbox.await_push()
    assert push["details"]["Client IP"] == "N/A"
    assert push["details"]["Protocol"] == "login"
    sandbox.approve(push["id"])
    assert is_in(terminal, "manual")
    [event] = console.await_audit()
    assert (event["STARLING_REASON"], event["STARLING_SERVICE"]) == ("push_approved", "login")
    assert "STARLING_CLIENT_IP" not in event
    [session] = sessions(console)
    assert (session["client_ip"], session["service"]) == ("", "login")
    assert f"on {session['tty']}" in terminal.text  # PAM_TTY, as login has it
    terminal.type("exit")
    terminal.await_end()
    [closed] = console.await_audit("session_close")
    assert closed["STARLING_LOGIN"] == event["STARLING_LOGIN"]
    await_nothing(console)


def test_a_code_lets_in(console: Bastion, sandbox: Sandbox) -> None:
    assert is_in(log_in(console, "manual", sandbox.code_for("manual")), "manual")


def test_a_wrong_password_never_gets_as_far_as_the_service(console: Bastion, sandbox: Sandbox) -> None:
    terminal = sit_down(console, "manual", "not the password")
    terminal.await_text("Login incorrect")
    assert OURS not in terminal.text
    assert console.audit() == []
    assert sandbox.log() == []


@pytest.mark.parametrize(
    ("user", "answer", "sentence", "reason"),
    [
        ("manual", "000000", "Authentication failed", "wrong_code"),
        ("manual", "letters", "Authentication failed", "not_a_code"),
        ("denies", "", "Authentication failed", "push_denied"),
        ("u503", "", "The second-factor service cannot be reached", "unreachable"),
        ("u500", "", "The second factor does not work at the moment", "service_error"),
        ("unknown", "", "Authentication failed", "not_enrolled"),
        ("expires-at-once", "", "The push notification was not answered in time", "push_expired"),
    ],
)
def test_each_refusal_has_its_sentence(console: Bastion, user: str, answer: str, sentence: str, reason: str) -> None:
    reconfigure(console, auth="max_attempts = 1")
    terminal = log_in(console, user, answer)
    terminal.await_text(sentence)
    assert is_out(terminal)
    assert not sessions(console)
    event = console.await_audit()[0]
    assert (event["STARLING_REASON"], event["STARLING_OUTCOME"]) == (reason, "deny")


def test_a_push_that_nobody_answers_ends_before_login_does(console: Bastion) -> None:
    reconfigure(console, "timeout = 6", auth="max_attempts = 1")
    terminal = log_in(console, "never-answers", "")
    terminal.await_text("The push notification was not answered in time")


def test_without_a_daemon_it_is_refused_at_once(console: Bastion) -> None:
    console.shell("systemctl stop starlingd.socket starlingd-control.socket starlingd.service")
    began = time.monotonic()
    terminal = sit_down(console, "manual")
    terminal.await_text("The second factor is not available")
    assert is_out(terminal)
    assert OURS not in terminal.text
    assert time.monotonic() - began < 10  # login itself waits for about three seconds after a failure


def test_the_grace_period_is_of_the_tty(console: Bastion, sandbox: Sandbox) -> None:
    reconfigure(console, authentication_cache="reuse_limit = 3\nsoft_timeout = 1h\nhard_timeout = 1h")
    first = log_in(console, "manual", sandbox.code_for("manual"))
    assert is_in(first, "manual")
    [held] = sessions(console)
    again = sit_down(console, "manual")
    assert OURS in again.await_prompt()  # another tty
    first.type("exit")
    first.await_end()
    console.await_audit("session_close")
    third = sit_down(console, "manual")  # the first free tty, which is the first one's
    assert is_in(third, "manual")
    assert OURS not in third.text
    assert console.audit()[-1]["STARLING_REASON"] == "cached"
    assert {session["tty"] for session in sessions(console)} == {held["tty"]}
    [entry] = json.loads(console.run("starlingctl", "grace", "list", "--json"))
    assert (entry["client_ip"], entry["reuse_count"]) == (held["tty"], 1)


def test_the_limit_is_of_the_tty(console: Bastion, sandbox: Sandbox) -> None:
    reconfigure(console, **{LIMIT: "limit = 1"})
    first = log_in(console, "manual", sandbox.code_for("manual"))
    assert is_in(first, "manual")
    [held] = sessions(console)
    elsewhere = sit_down(console, "manual")
    assert OURS in elsewhere.await_prompt()
    answers = "Unix-password-of-manual\\n\\n"
    said = console.shell(
        f"printf '{answers}' | pamtester -I tty={held['tty']} login manual authenticate 2>&1", check=False
    )
    assert "Too many parallel sessions from your address (1 open)" in said
    assert console.audit()[-1]["STARLING_REASON"] == "connection_limit"


@pytest.mark.parametrize("when", ["at the prompt", "during a push"])
def test_a_hang_up_leaves_nothing(console: Bastion, sandbox: Sandbox, when: str) -> None:
    reconfigure(console, authentication_cache="reuse_limit = 3")
    terminal = sit_down(console, "never-answers")
    terminal.await_prompt()
    if when == "during a push":
        terminal.type("")
        sandbox.await_push()
    console.shell("kill -9 $(pgrep -x script)")  # the other end of the terminal is gone
    [event] = console.await_audit()
    assert event["STARLING_REASON"] == "hung_up"
    await_nothing(console)
