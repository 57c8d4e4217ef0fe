"""The terminal: says who is logging in, shows what the daemon tells it to show, returns what the daemon decided.

It decides nothing. Each hook has a fixed set of results it may return; whatever else happens raises, which ``entry``
turns into the hook's refusal and one line in the log. It must never keep ``pamh``, which ends with the login.
"""

import posix
import time

from pam_starling import protocol
from pam_starling.client import Client, Refusal, find_connection
from pam_starling.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
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
FAILED = "Authentication failed"
"""The sentence where not the second factor is at fault but the application, or what somebody typed."""


def run(hook: str, pamh: "Handle", arguments: "list[str]") -> int:
    """Run one hook to its PAM result; raises Refusal, after telling whoever is watching, when there is none."""
    try:
        try:
            return _ask_daemon(hook, pamh, arguments)
        except protocol.ProtocolError as error:
            raise Refusal(f"a packet to or from the daemon breaks the rules: {error}") from None
        except UnicodeError:
            raise Refusal("what the application or its user says is not UTF-8", FAILED) from None
        except pamh.exception as error:
            raise Refusal(f"the application refused: {error}", FAILED) from None
    except Refusal as refusal:  # a name that lived longer would, with the traceback, keep pamh
        if refusal.sentence and hook != "close_session":
            _show(pamh, STYLES["say", "error"], refusal.sentence)
        raise


def _ask_daemon(hook: str, pamh: "Handle", arguments: "list[str]") -> int:
    options = Options(pamh.service or "", arguments)
    deadline = time.monotonic() + options.deadline
    fields, watched = _describe_login(hook, pamh, options)
    for _ in range(3):  # a daemon that goes away before anybody was asked anything: one restart may follow another
        client = Client(watched)
        try:
            client.connect(options.socket, min(deadline, time.monotonic() + options.connect_timeout))
            client.send(hook, {**fields, "deadline": f"{deadline - time.monotonic():.3f}"})
            return _follow(hook, pamh, client, deadline + GRACE)
        except ConnectionError:
            if client.has_asked:
                break
        finally:
            client.close()
    raise Refusal("the daemon closed the connection")


def _describe_login(hook: str, pamh: "Handle", options: Options) -> "tuple[dict[str, str], int | None]":
    """Collect what the daemon is told, and the descriptor of the client's connection or None."""
    parent = str(posix.getppid())
    fields = {
        "v": str(protocol.VERSION),
        "user": pamh.get_user(None) or "",
        "service": options.service,
        "rhost": pamh.rhost or "",
        "tty": pamh.tty or "",
        "ppid": parent,
        "start": _start_time("self"),
        "pstart": _start_time(parent),
        "login": pamh.env.get("PAM_STARLING_LOGIN", ""),
    }
    watched = None
    if hook in ("authenticate", "account"):
        fields["first_factor"] = options.first_factor
        fields["authinfo"] = pamh.env.get("SSH_AUTH_INFO_0", "")
        if options.service != "login":
            watched, fields["conn"] = find_connection(pamh.env.get("SSH_CONNECTION", ""), fields["rhost"])
    return fields, watched


def _follow(hook: str, pamh: "Handle", client: Client, until: float) -> int:
    """Show and ask what the daemon says until it is done; return its result."""
    while True:
        op, fields = client.receive(until)
        if op == "done":
            return _conclude(hook, pamh, client, fields)
        style, text = STYLES.get((op, fields.get("style", ""))), fields.get("text")
        if style is None or text is None:
            raise Refusal("the daemon sent something unknown")
        if op == "say":
            _show(pamh, style, text)
        else:
            client.has_asked = True
            client.send("answer", {"text": _ask(pamh, style, text)})


def _conclude(hook: str, pamh: "Handle", client: Client, fields: "dict[str, str]") -> int:
    """Return the daemon's result, if it is one of this hook's and the client is still there to have it."""
    result = RESULTS[hook].get(fields.get("result", ""))
    variables = {key.removeprefix("env."): value for key, value in fields.items() if key.startswith("env.")}
    if result is None:
        raise Refusal("the daemon gave a result that this hook cannot have")
    if not all(name.startswith("PAM_STARLING_") for name in variables):
        raise Refusal("the daemon wants to set a variable that is not ours")
    client.wait(0)
    for name, value in variables.items():
        pamh.env[name] = value
    return result


def _ask(pamh: "Handle", style: int, text: str) -> str:
    """Ask the person, who may be a program: nothing about the answer is certain, not even that there is one."""
    answer = pamh.conversation(pamh.Message(style, text)).resp
    if answer is None:
        raise Refusal("the application gave no answer", FAILED)
    if len(answer.encode()) > protocol.MAX_ANSWER:
        raise Refusal(f"too_long: an answer of more than {protocol.MAX_ANSWER} bytes", FAILED)
    return answer


def _show(pamh: "Handle", style: int, text: str) -> None:
    """Show a text; an application that does not want to see it changes nothing."""
    try:
        pamh.conversation(pamh.Message(style, text))
    except (pamh.exception, UnicodeError):
        return


def _start_time(pid: str) -> str:
    """Tell a process's start time, field 22 of its stat; the name before it may hold blanks and brackets."""
    with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123  pathlib is dear
        return stat.read().rpartition(b")")[2].split()[19].decode()
