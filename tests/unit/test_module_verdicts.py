"""No packet of a peer's makes a hook return anything but what it says, exactly: ``done`` and a result of that hook."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pam_starling import login, protocol
from pam_starling.client import Refusal
from pam_starling.protocol import ProtocolError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESULTS = {
    "authenticate": {"success": 0, "auth_err": 7, "maxtries": 11, "ignore": 25},
    "account": {"success": 0, "acct_denied": 6, "ignore": 25},
    "open_session": {"success": 0, "session_err": 14},
    "close_session": {"success": 0},
}
PATIENCE = 20


class ConversationError(Exception):
    """What pam_python raises when the application refuses."""


class Application:
    """A pamh whose user answers every prompt with a code."""

    exception = ConversationError
    rhost, tty = "", "tty1"

    def __init__(self, service: str | None = "login") -> None:
        self.service = service
        self.env: dict[str, str] = {}

    def get_user(self, _: str | None) -> str:
        """Tell the user."""
        return "alice"

    def Message(self, style: int, text: str) -> object:  # noqa: N802  pam_python's name
        """Make a message as libpam could carry it."""
        assert 1 <= style <= 4
        assert "\0" not in text
        return object()

    def conversation(self, _: object) -> SimpleNamespace:
        """Answer."""
        return SimpleNamespace(resp="123456")


class Speaker:
    """A daemon that says one packet to everybody, and hangs up."""

    def __init__(self, path: Path) -> None:
        self.packet = b""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._path = path
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.packet = b""
        with self._listener, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as last:
            last.connect(str(self._path))
            self._thread.join(PATIENCE)

    def _serve(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with sock:
                if not self.packet:
                    return
                sock.settimeout(PATIENCE)
                sock.send(encode("hello", {"v": "1"}))
                sock.recv(65536)
                sock.send(self.packet)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Speaker, Path]]:
    path = tmp_path_factory.mktemp("speaker") / "pam.sock"
    with Speaker(path) as made:
        yield made, path


WORDS = ["done", "ask", "say", "hello", "error", "success", "ignore", "auth_err", "acct_denied", "session_err", "0", ""]
KEYS = ["op", "result", "Result", "reason", "style", "text", "env.PAM_STARLING_LOGIN", "env.PATH", "env."]
FIELD = st.tuples(st.sampled_from(KEYS), st.sampled_from([*WORDS, "echo_on", "info"]))
MADE = st.lists(FIELD, min_size=1, max_size=6).map(
    lambda fields: "\0".join(f"{key}={value}" for key, value in fields).encode()
)
DONE = st.sampled_from([name for names in RESULTS.values() for name in names]).map(
    lambda result: encode("done", {"result": result})
)
DAMAGED = st.builds(
    lambda packet, at, junk, skip: packet[:at] + junk + packet[at + skip :],
    DONE,
    st.integers(0, 30),
    st.binary(max_size=2),
    st.integers(0, 3),
)
PACKETS = (st.binary(min_size=1, max_size=40) | MADE | DONE | DAMAGED).filter(bool)


def allowed(hook: str, packet: bytes) -> int | None:
    """Tell the only result that ``hook`` may return for ``packet``."""
    try:
        op, fields = decode(packet)
    except ProtocolError:
        return None
    if op != "done" or any(key.startswith("env.") and not key.startswith("env.PAM_STARLING_") for key in fields):
        return None
    return RESULTS[hook].get(fields.get("result", ""))


@settings(derandomize=True, max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(RESULTS)), PACKETS)
def test_only_done_with_a_result_of_the_hook_is_a_result(
    speaker: tuple[Speaker, Path], hook: str, packet: bytes
) -> None:
    daemon, path = speaker
    daemon.packet = packet
    pamh, expected = Application(), allowed(hook, packet)
    if expected is None:
        with pytest.raises(Refusal):
            login.run(hook, pamh, [f"socket={path}"])  # type: ignore[arg-type]
        assert not pamh.env
    else:
        result = login.run(hook, pamh, [f"socket={path}"])  # type: ignore[arg-type]
        assert (type(result), result) == (int, expected)


def test_a_client_who_hangs_up_while_the_verdict_is_read_is_not_let_in(
    speaker: tuple[Speaker, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a late success sshd opens a session for nobody; the wait for the verdict is over by then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, (address, port) = listener.accept()

    def read_slowly(packet: bytes) -> tuple[str, dict[str, str]]:
        if packet == speaker[0].packet:
            client.close()
        return decode(packet)

    speaker[0].packet = encode("done", {"result": "success", "env.PAM_STARLING_LOGIN": "id-1"})
    pamh = Application("sshd")
    pamh.env["SSH_CONNECTION"] = f"{address} {port} 127.0.0.1 {server.getsockname()[1]}"
    monkeypatch.setattr(protocol, "decode", read_slowly)
    with server, pytest.raises(Refusal) as refusal:
        login.run("account", pamh, [f"socket={speaker[1]}"])  # type: ignore[arg-type]
    assert refusal.value.why == "the client hung up"
    assert "PAM_STARLING_LOGIN" not in pamh.env


def test_an_application_without_a_service_is_refused() -> None:
    with pytest.raises(Refusal) as refusal:
        login.run("authenticate", Application(None), ["services=login,"])  # type: ignore[arg-type]
    assert refusal.value.why == "the PAM service  is not among services="
