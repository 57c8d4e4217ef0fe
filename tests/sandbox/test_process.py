"""The sandbox as its users start it: a process with a port and a folder, and codes like the app's."""

import json
import socket
import ssl
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import running
from tests.sandbox.behaviours import BEHAVIOURS, STEP
from tests.sandbox.running import EXECUTABLE, Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with running.sandbox() as started:
        yield started


def test_it_starts_as_the_manual_says_and_writes_what_a_client_needs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(EXECUTABLE), "--listen", f"127.0.0.1:{port}", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert str(port) in process.stdout.readline()
            users = json.loads((tmp_path / "users.json").read_text(encoding="utf-8"))
            assert set(BEHAVIOURS) <= set(users)
            assert all({"id", "secret", "behaviour"} <= set(user) for user in users.values())
            assert all(user["id"].isdigit() for user in users.values())
            client_id, _, secret = (tmp_path / "credential").read_text(encoding="utf-8").partition(":")
            assert client_id
            assert secret
            assert stat.S_IMODE((tmp_path / "credential").stat().st_mode) == 0o600
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/phone/pending", context=context) as reply:
                assert json.load(reply) == []
        finally:
            process.terminate()


@pytest.mark.parametrize("name", ["manual", "approves"])
def test_its_codes_are_those_of_oathtool_with_the_apps_step(sandbox: Sandbox, name: str) -> None:
    secret = sandbox.users[name].secret
    shown = {sandbox.code_for(name)}
    command = ["/usr/bin/oathtool", "--totp", "-s", f"{STEP}s", "-b", secret]
    by_oathtool = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    shown.add(sandbox.code_for(name))  # the minute may end in between
    assert by_oathtool in shown


def test_without_its_authority_nobody_trusts_it(sandbox: Sandbox) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{sandbox.url}/phone/pending")


@pytest.mark.parametrize("path", ["/v1/Users/1/verify?tokenResponse=123456", "/v1/ApprovalRequests/x"])
def test_without_a_token_it_says_401(sandbox: Sandbox, path: str) -> None:
    context = ssl.create_default_context(cafile=str(sandbox.ca_file))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{sandbox.url}{path}", context=context)
    assert refused.value.code == 401
    refused.value.close()
