"""The terminal: says who is logging in, shows what the daemon tells it to show, returns what the daemon decided.

It decides nothing. Each hook has a fixed set of results it may return; whatever else happens is its refusal, one line
in the log, and one sentence where a person is watching.
"""

import posix
import time

from pam_starling import protocol
from pam_starling.client import Client, ClientGone, DaemonUnavailable, Refusal, describe, find_connection
from pam_starling.options import OptionError, Options

# Linux-PAM's return values, <security/_pam_types.h>. Never a bool: False is PAM_SUCCESS (FIELD-FACTS 2).
PAM_SUCCESS = 0
PAM_PERM_DENIED = 6
PAM_AUTH_ERR = 7
PAM_MAXTRIES = 11
PAM_SESSION_ERR = 14
PAM_IGNORE = 25

RESULTS = {
    "authenticate": {
        "success": PAM_SUCCESS,
        "ignore": PAM_IGNORE,
        "auth_err": PAM_AUTH_ERR,
        "maxtries": PAM_MAXTRIES,
    },
    "account": {"success": PAM_SUCCESS, "ignore": PAM_IGNORE, "acct_denied": PAM_PERM_DENIED},
    "open_session": {"success": PAM_SUCCESS, "session_err": PAM_SESSION_ERR},
    "close_session": {"success": PAM_SUCCESS},
}
REFUSALS = {
    "authenticate": PAM_AUTH_ERR,
    "account": PAM_PERM_DENIED,
    "open_session": PAM_SESSION_ERR,
    "close_session": PAM_SUCCESS,
}
"""What each hook returns when nothing better is known. Closing a session grants nothing."""

GRACE = 3
"""Seconds after the deadline in which the daemon may still answer."""
LOGIN_VARIABLE = "PAM_STARLING_LOGIN"
_VARIABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class NoAnswer(Refusal):
    """The application refused the conversation, or its answer cannot be used."""

    sentence = "Authentication failed"


def run(hook: str, pamh, arguments: "list[str]") -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Run one hook to its PAM result. Anything unexpected is the hook's refusal, told to the log and the user."""
    try:
        result = RESULTS[hook].get(_ask_daemon(hook, pamh, arguments))
        if result is None:
            raise DaemonUnavailable("the daemon gave a result that this hook cannot have")
    except (Refusal, OptionError) as refusal:
        _log(f"{hook}: refused: {refusal}")
        if hook != "close_session" and not isinstance(refusal, ClientGone):
            _show(pamh, pamh.PAM_ERROR_MSG, getattr(refusal, "sentence", Refusal.sentence))
        return REFUSALS[hook]
    return result


def give_up(hook: str, error: BaseException) -> int:
    """Tell the log about a bug and return the hook's refusal; the last guard in ``entry`` calls this."""
    _log(f"{hook}: refused because of a bug: {type(error).__name__}")
    return REFUSALS[hook]


def _ask_daemon(hook: str, pamh, arguments: "list[str]") -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Connect, say who is logging in, and follow the daemon to its verdict: the name of a result."""
    service = pamh.service or ""
    options = Options(service, arguments)
    if service not in options.services:
        raise Refusal(f"the PAM service {service!a} is not among services=")
    deadline = time.monotonic() + options.deadline + GRACE
    fields, watched = _describe_login(pamh, hook, service, options)
    terminal = _Terminal(pamh)
    for last_try in (False, True):
        client = Client(options.socket, options.connect_timeout, deadline, watched)
        try:
            fields["deadline"] = f"{deadline - GRACE - time.monotonic():.3f}"
            client.send(hook, fields)
            return terminal.follow(client)
        except DaemonUnavailable:
            if last_try or terminal.has_asked:
                raise
        finally:
            client.close()
    raise DaemonUnavailable("unreachable")


def _describe_login(pamh, hook: str, service: str, options: Options):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Collect what the daemon is told: (fields, descriptor of the client's connection or None)."""
    try:
        user = pamh.get_user(None)
        rhost, tty = pamh.rhost or "", pamh.tty or ""
        announced = _variable(pamh, "SSH_CONNECTION")
    except (pamh.exception, UnicodeError) as error:
        raise NoAnswer("cannot tell who is logging in: " + describe(error)) from None
    parent = posix.getppid()
    fields = {
        "v": str(protocol.VERSION),
        "user": user or "",
        "service": service,
        "rhost": rhost,
        "tty": tty,
        "ppid": str(parent),
        "start": _start_time("self"),
        "pstart": _start_time(str(parent)),
        "login": _variable(pamh, LOGIN_VARIABLE),
    }
    if hook not in ("authenticate", "account"):
        return fields, None
    watched, connection = find_connection(announced, rhost) if service != "login" else (None, "")
    fields["conn"] = connection
    fields["authinfo"] = _variable(pamh, "SSH_AUTH_INFO_0")
    fields["first_factor"] = options.first_factor
    return fields, watched


class _Terminal:
    """Renders the daemon's packets on the PAM conversation of one call."""

    def __init__(self, pamh) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        self._pamh = pamh
        self.has_asked = False

    def follow(self, client: Client) -> str:
        """Show and ask what the daemon says until it is done; return the name of its result."""
        while True:
            op, fields = client.receive()
            if op == "say":
                error = fields.get("style") == "error"
                _show(self._pamh, self._pamh.PAM_ERROR_MSG if error else self._pamh.PAM_TEXT_INFO, fields["text"])
            elif op == "ask":
                self.has_asked = True
                client.send("answer", {"text": self._ask(fields.get("style", ""), fields.get("text", ""))})
            elif op == "done":
                client.check_client()
                self._export(fields)
                return fields.get("result", "")
            else:
                raise DaemonUnavailable("the daemon sent something unknown")

    def _ask(self, style: str, text: str) -> str:
        pamh = self._pamh
        echo = pamh.PAM_PROMPT_ECHO_ON if style == "echo_on" else pamh.PAM_PROMPT_ECHO_OFF
        try:
            answer = pamh.conversation(pamh.Message(echo, text)).resp
        except UnicodeError:
            raise NoAnswer("the answer is not UTF-8") from None
        except pamh.exception as error:
            raise NoAnswer("the application refused the conversation: " + describe(error)) from None
        if type(answer) is not str:
            raise NoAnswer("the application gave no answer")
        try:
            too_long = len(answer.encode()) > protocol.MAX_ANSWER
        except UnicodeError:
            raise NoAnswer("the answer is not UTF-8") from None
        if too_long:
            raise NoAnswer("too_long: the answer is longer than an answer may be")
        return answer

    def _export(self, fields: "dict[str, str]") -> None:
        for key, value in fields.items():
            if not key.startswith("env."):
                continue
            name = key[4:]
            if not name.startswith("PAM_STARLING_") or not _VARIABLE.issuperset(name):
                raise DaemonUnavailable("the daemon wants to set a variable that is not ours")
            self._pamh.env[name] = value


def _show(pamh, style: int, text: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Show a text; an application that does not want to see it changes nothing."""
    try:
        pamh.conversation(pamh.Message(style, text))
    except (pamh.exception, UnicodeError):
        return


def _variable(pamh, name: str) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
    try:
        return pamh.env[name] or ""
    except KeyError:
        return ""


def _start_time(pid: str) -> str:
    """Tell a process's start time, field 22 of its stat; the name before it may hold blanks and brackets."""
    try:
        descriptor = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            stat = posix.read(descriptor, 4096)
        finally:
            posix.close(descriptor)
        return stat.rpartition(b")")[2].split()[19].decode("ascii")
    except (OSError, IndexError) as error:
        raise Refusal("cannot read a process's start time: " + describe(error)) from None


def _log(text: str) -> None:
    import syslog  # noqa: PLC0415  only refusals pay for it

    syslog.openlog("pam_starling", syslog.LOG_PID, syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_WARNING, text)
    syslog.closelog()
