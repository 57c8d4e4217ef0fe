"""NSS as glibc does it, with a private nsswitch.conf and passwd: "no such user" is never taken for "cannot tell"."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
PASSWD = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"

# Mounts are private to the child and end with it. $0 is the folder of the private files.
PRIVATE_FILES = 'for file in nsswitch.conf passwd; do mount --bind "$0/$file" "/etc/$file" || exit; done; exec "$@"'
NO_PASSWD = (
    'cp /etc/ld.so.cache "$0" && mount -t tmpfs none /etc && cp "$0/ld.so.cache" "$0/nsswitch.conf" /etc && exec "$@"'
)
LOOK_UP = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from starlingd.adapters.nss import NssAccounts
from starlingd.core.model import Unavailable

def look_up(name):
    try:
        account = NssAccounts().look_up(name)
    except Unavailable as outage:
        return [outage.port, outage.fault.value, outage.detail]
    return account and [account.name, account.uid]

with ThreadPoolExecutor(int(sys.argv[1])) as threads:
    print(json.dumps(list(threads.map(look_up, json.load(sys.stdin)))))
"""


@dataclass
class Accounts:
    """Looks names up in a child that sees ``passwd`` and this ``passwd:`` line of nsswitch.conf."""

    folder: Path

    def look_up(
        self, *names: str, services: str = "files", passwd: str = PASSWD, setup: str = PRIVATE_FILES, threads: int = 1
    ) -> list[list[str | int] | None]:
        """Tell [name, uid], None, or [port, fault, detail] for each name."""
        (self.folder / "nsswitch.conf").write_text(f"passwd: {services}\n")
        (self.folder / "passwd").write_bytes(passwd.encode("utf-8", "surrogateescape"))
        python = ["/usr/bin/python3", "-c", LOOK_UP, str(threads)]
        done = subprocess.run(
            ["/usr/bin/unshare", "-m", "sh", "-c", setup, self.folder, *python],
            input=json.dumps(names),
            env={"PYTHONPATH": f"{TREE}:{TREE / 'daemon'}", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        answers: list[list[str | int] | None] = json.loads(done.stdout)
        return answers


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path)


def cannot_tell(answer: list[str | int] | None) -> bool:
    return answer is not None and answer[:2] == ["nss", "broken"]


def test_a_stranger_is_nobody_and_a_user_is_found(accounts: Accounts) -> None:
    assert accounts.look_up("stranger", "alice", "root") == [None, ["alice", 1000], ["root", 0]]


def test_a_service_that_fails_after_files_makes_no_stranger_of_its_users(accounts: Accounts) -> None:
    """Hesiod has no configuration here: it fails with ENOENT, which getpwnam(3) counts as "not found"."""
    stranger, alice = accounts.look_up("stranger", "alice", services="files hesiod")
    assert stranger == ["nss", "broken", "getpwnam_r: ENOENT"]
    assert alice == ["alice", 1000]


def test_a_service_that_fails_without_an_errno_is_not_taken_for_no_such_user(accounts: Accounts) -> None:
    """A module that is not installed sets none; glibc then answers with the errno from before the call."""
    assert all(map(cannot_tell, accounts.look_up("stranger", "alice", services="uninstalled")))
    assert all(map(cannot_tell, accounts.look_up("stranger", "root", services="uninstalled [UNAVAIL=return] files")))


def test_without_a_passwd_file_nobody_is_a_stranger(accounts: Accounts) -> None:
    assert all(map(cannot_tell, accounts.look_up("stranger", "alice", setup=NO_PASSWD)))


def test_glibc_forgets_an_outage_before_a_service_that_answers(accounts: Accounts) -> None:
    """No caller of getpwnam_r can know better; the adapter's docstring says what to write in nsswitch.conf."""
    assert accounts.look_up("stranger", services="hesiod files") == [None]
    assert cannot_tell(accounts.look_up("stranger", services="hesiod [UNAVAIL=return] files")[0])


@pytest.mark.parametrize("length", [900, 5_000, 200_000])
def test_a_long_entry_gets_a_larger_buffer(accounts: Accounts, length: int) -> None:
    passwd = f"{PASSWD}long:x:1001:1001:{'g' * length}:/:/bin/sh\nlast:x:1002:1002::/:/bin/sh\n"
    assert accounts.look_up("long", "last", passwd=passwd) == [["long", 1001], ["last", 1002]]


def test_an_entry_beyond_every_buffer_is_an_error(accounts: Accounts) -> None:
    passwd = f"{PASSWD}long:x:1001:1001:{'g' * (1 << 20)}:/:/bin/sh\n"
    assert accounts.look_up("long", passwd=passwd) == [["nss", "broken", "getpwnam_r: ERANGE"]]


def test_the_largest_uid_is_itself(accounts: Accounts) -> None:
    assert accounts.look_up("big", passwd="big:x:4294967294:1::/:/bin/sh\n") == [["big", 4294967294]]


def test_a_name_that_is_not_utf_8_is_not_mistaken_for_another(accounts: Accounts) -> None:
    assert accounts.look_up("zoë", "zo", passwd="zo\udceb:x:1001:1001::/:/bin/sh\n") == [None, None]


def test_names_that_no_account_has_ask_no_service(accounts: Accounts) -> None:
    hostile = ["", "a/b", "../root", "root\n", "root\0", "\x7f", "\x85", "a" * 257, "é" * 129]
    assert accounts.look_up(*hostile, services="uninstalled") == [None] * len(hostile)


def test_5_000_look_ups_in_32_threads_are_not_mixed_up(accounts: Accounts) -> None:
    people = {f"user{number}": 2000 + number for number in range(50)}
    passwd = "".join(f"{name}:x:{uid}:1:{'g' * uid}:/:/bin/sh\n" for name, uid in people.items())
    names = [*people, "stranger"] * 100
    found = [[name, people[name]] if name in people else None for name in names]
    assert accounts.look_up(*names, passwd=passwd, threads=32) == found
