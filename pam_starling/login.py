"""The terminal: says who is logging in, shows what the daemon tells it to show, returns what the daemon decided.

It decides nothing. Each hook has a fixed set of results it may return; whatever else happens raises, which ``entry``
turns into the hook's refusal and one line in the log. It must never keep ``pamh``, which ends with the login.
"""

import posix
import time

from pam_starling import protocol
from pam_starling.client import Client, DaemonLost, DaemonUnavailable, Refusal, describe, find_connection
from pam_starling.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_starling.handle import Handle

RESULTS = {
    "authenticate": {"success": 0, "auth_err": 7, "maxtries": 11, "ignore": 25},
    "account": {"success": 0, "acct_denied": 6, "ignore": 25},
    "open_session": {"success": 0, "session_err": 14},
    "close_session": {"success": 0},
}
"""What the daemon may answer each hook, and what that is in Linux-PAM, <security/_pam_types.h>.

A denied account is PAM_PERM_DENIED: sshd treats all refusals of the account alike, and login shows the user this
one's "Permission denied", where PAM_ACCT_EXPIRED would tell him that his account has expired.
"""
STYLES = {("ask", "echo_off"): 1, ("ask", "echo_on"): 2, ("say", "error"): 3, ("say", "info"): 4}
"""What the daemon may have us show, and what that is in a PAM conversation."""
GRACE = 3
"""Seconds after the deadline in which the daemon, which keeps it, may still answer."""
_VARIABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class NoAnswer(Refusal):
    """The application refused the conversation, or its answer cannot be used."""

    sentence = "Authentication failed"


def run(hook: str, pamh: "Handle", arguments: "list[str]") -> int:
    """Run one hook to its PAM result; raises Refusal, after telling whoever is watching, when there is none."""
    try:
        return _ask_daemon(hook, pamh, arguments)
    except Refusal as refusal:
        if refusal.sentence and hook != "close_session":
            _show(pamh, STYLES["say", "error"], refusal.sentence)
        raise


def _ask_daemon(hook: str, pamh: "Handle", arguments: "list[str]") -> int:
    options = Options(_text(pamh, lambda: pamh.service), arguments)
    deadline = time.monotonic() + options.deadline
    fields, watched = _describe_login(hook, pamh, options)
    while True:
        client = Client(options.socket, options.connect_timeout, deadline + GRACE, watched)
        try:
            client.send(hook, {**fields, "deadline": f"{deadline - time.monotonic():.3f}"})
            return _follow(hook, pamh, client)
        except DaemonLost:
            if client.has_asked or "again" in fields:
                raise
            fields["again"] = "yes"
        finally:
            client.close()


def _describe_login(hook: str, pamh: "Handle", options: Options) -> "tuple[dict[str, str], int | None]":
    """Collect what the daemon is told, and the descriptor of the client's connection or None."""
    parent = str(posix.getppid())
    fields = {
        "v": str(protocol.VERSION),
        "user": _text(pamh, lambda: pamh.get_user(None)),
        "service": options.service,
        "rhost": _text(pamh, lambda: pamh.rhost),
        "tty": _text(pamh, lambda: pamh.tty),
        "ppid": parent,
        "start": _start_time("self"),
        "pstart": _start_time(parent),
        "login": _text(pamh, lambda: pamh.env["PAM_STARLING_LOGIN"]),
    }
    watched = None
    if hook in ("authenticate", "account"):
        fields["first_factor"] = options.first_factor
        fields["authinfo"] = _text(pamh, lambda: pamh.env["SSH_AUTH_INFO_0"])
        announced = _text(pamh, lambda: pamh.env["SSH_CONNECTION"])
        if options.service != "login":
            watched, fields["conn"] = find_connection(announced, fields["rhost"])
    return fields, watched


def _follow(hook: str, pamh: "Handle", client: Client) -> int:
    """Show and ask what the daemon says until it is done; return its result."""
    while True:
        op, fields = client.receive()
        if op == "done":
            return _conclude(hook, pamh, client, fields)
        style, text = STYLES.get((op, fields.get("style", ""))), fields.get("text")
        if style is None or text is None:
            raise DaemonUnavailable("the daemon sent something unknown")
        if op == "say":
            _show(pamh, style, text)
        else:
            client.has_asked = True
            client.send("answer", {"text": _ask(pamh, style, text)})


def _conclude(hook: str, pamh: "Handle", client: Client, fields: "dict[str, str]") -> int:
    """Return the daemon's result, if it is one of this hook's and the client is still there to have it."""
    result = RESULTS[hook].get(fields.get("result", ""))
    variables = {key[len("env.") :]: value for key, value in fields.items() if key.startswith("env.")}
    if result is None:
        raise DaemonUnavailable("the daemon gave a result that this hook cannot have")
    if not all(name.startswith("PAM_STARLING_") and _VARIABLE.issuperset(name) for name in variables):
        raise DaemonUnavailable("the daemon wants to set a variable that is not ours")
    client.check_client()
    for name, value in variables.items():
        pamh.env[name] = value
    return result


def _ask(pamh: "Handle", style: int, text: str) -> str:
    """Ask the person, who may be a program: nothing about the answer is certain, not even that there is one."""
    try:
        answer = pamh.conversation(pamh.Message(style, text)).resp
        too_long = answer is not None and len(answer.encode()) > protocol.MAX_ANSWER
    except UnicodeError:
        raise NoAnswer("the answer is not UTF-8") from None
    except pamh.exception as error:
        raise NoAnswer("the application refused the conversation: " + describe(error)) from None
    if answer is None or too_long:
        raise NoAnswer("too_long: an answer of more than 128 bytes" if too_long else "the application gave no answer")
    return answer


def _show(pamh: "Handle", style: int, text: str) -> None:
    """Show a text; an application that does not want to see it changes nothing."""
    try:
        pamh.conversation(pamh.Message(style, text))
    except (pamh.exception, UnicodeError):
        return


def _text(pamh: "Handle", read: "Callable[[], str | None]") -> str:
    """Read what the application says about the login, which may be nothing."""
    try:
        return read() or ""
    except KeyError:
        return ""
    except UnicodeError:
        raise NoAnswer("what the application says about the login is not UTF-8") from None
    except pamh.exception as error:
        raise NoAnswer("the application does not say who is logging in: " + describe(error)) from None


def _start_time(pid: str) -> str:
    """Tell a process's start time, field 22 of its stat; the name before it may hold blanks and brackets."""
    descriptor = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(descriptor, 4096).rpartition(b")")[2].split()[19].decode("ascii")
    finally:
        posix.close(descriptor)
