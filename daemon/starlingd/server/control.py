"""The control socket: what starlingctl asks of the daemon. One JSON object in a line, one in a line back.

Who asks is what the kernel says (SO_PEERCRED, SO_PEERGROUPS). Whoever can open the socket may read; what changes
something needs root or a group named in ``[control]``. Nothing here may let anybody in, or show a secret.
"""

from __future__ import annotations

import asyncio
import grp
import json
import logging
import pwd
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from starlingd.core.grace import Moment
from starlingd.core.model import Login, Process
from starlingd.ports import Unavailable
from starlingd.server.explain import explain, plan_fields
from starlingd.server.requests import fold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlingd.core.grace import Entry, Key
    from starlingd.core.records import Lease
    from starlingd.server.host import Current, Host

LONGEST_REQUEST = 64 * 1024
PATIENCE = 10.0
"""Seconds a client may take to say what it wants, and the daemon to look something up."""
LATEST = 1e12
"""The latest time that can be asked about, in seconds since 1970."""
MOST_CLIENTS = 64
"""Connections at a time of others than root: readers of this socket must not use up what logins need."""
SO_PEERGROUPS = 59
"""<asm-generic/socket.h>; Python has no name for it."""
LONGEST_GROUPS = 1024
"""Bytes that Python's getsockopt takes at most: 256 groups; whoever is in more has the rights of none."""
_CREDENTIALS = struct.Struct("3i")

log = logging.getLogger("starlingd.control")
Request = dict[str, Any]
Command = Callable[["Request", "Peer"], Awaitable[object]]


class Refused(Exception):  # noqa: N818  it is what it is called
    """Why a request is not done; the text is for whoever asked."""


class Right(Enum):
    """What a command needs."""

    READ = "read"
    OPERATE = "operate"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks, as the kernel knows them."""

    uid: int
    groups: frozenset[int]

    def look_up_name(self) -> str:
        """Tell the login name, or the uid where there is none. Blocks."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"

    def may(self, right: Right, current: Current | None) -> bool:
        """Tell whether this peer has a right; root has all. Blocks."""
        if self.uid == 0 or right is Right.READ:
            return True
        if current is None:
            return False
        rights = current.rights
        names = rights.operators | rights.helpdesk if right is Right.HELP else rights.operators
        return any(_gid(name) in self.groups for name in names)


class Control:
    """Answers on ``sock``; ``reload`` takes the configuration anew and tells whether it was taken, and a sentence.

    ``more`` are commands by name, with the right that each needs.
    """

    def __init__(
        self,
        host: Host,
        sock: socket.socket,
        reload: Callable[[], tuple[bool, str]],
        more: Mapping[str, tuple[Right, Command]] | None = None,
    ) -> None:
        self._host = host
        self._sock = sock
        self._reload = reload
        self._serving = 0
        self._commands: Mapping[str, tuple[Right, Command]] = {
            "explain": (Right.READ, self._explain),
            "grace list": (Right.READ, self._list_grace),
            "grace forget": (Right.OPERATE, self._forget_grace),
            "sessions list": (Right.READ, self._list_sessions),
            "unlock": (Right.HELP, self._unlock),
            "reload": (Right.OPERATE, self._reload_now),
            **(more or {}),
        }

    async def run(self) -> None:
        """Answer for ever."""
        # The socket is systemd's: from Python 3.13 on asyncio would try to remove it.
        ours: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        server = await asyncio.start_unix_server(self._serve, sock=self._sock, limit=LONGEST_REQUEST, **ours)
        try:
            await asyncio.Event().wait()  # not serve_forever: from Python 3.12 on its end waits for every client's
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving += 1
        try:
            async with asyncio.timeout(PATIENCE * 3):
                peer = _peer_of(writer.get_extra_info("socket"))
                if self._serving > MOST_CLIENTS and peer.uid != 0:
                    log.warning("a control connection of uid %d was refused: there are %d", peer.uid, MOST_CLIENTS)
                    return
                answer = await self._answer(await reader.readline(), peer)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("a control connection ended early: %s", type(error).__name__)
        finally:
            self._serving -= 1
            writer.close()

    async def _answer(self, line: bytes, peer: Peer) -> Request:
        try:
            request = json.loads(line)
            right, command = self._commands[request["command"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"error": "this daemon does not know that request; is it the same version as starlingctl?"}
        try:
            await self._permit(peer, right)
            return {"result": await command(request, peer)}
        except Refused as refused:
            return {"error": str(refused)}
        except Unavailable as outage:
            return {"error": f"{outage.port}: {outage.detail}"}
        except Exception:
            log.exception("a bug ended a control request")
            return {"error": "internal error; the daemon's log has it"}

    async def _permit(self, peer: Peer, right: Right) -> None:
        """Refuse a peer without a right. NSS says what groups are: it may be slow, and must not keep logins waiting."""
        accounts = self._host.pools.accounts
        if not await accounts.run(PATIENCE, peer.may, right, self._host.current):
            name = await accounts.run(PATIENCE, peer.look_up_name)
            raise Refused(f"{name} may not do that: it needs root or a group named in [control]")

    def _current(self) -> Current:
        if self._host.current is None:
            raise Refused("the daemon has no usable configuration and denies every login; see starlingctl check-config")
        return self._host.current

    async def _explain(self, request: Request, _: Peer) -> object:
        current, now = self._current(), self._host.moment()
        wall = _time(request, now.wall)
        at = Moment(wall, now.boottime + wall - now.wall, now.boot)
        by_key = request.get("by_key") is True
        plan = await explain(self._host, current, hypothetical(request), at, by_key=by_key)
        return {**plan_fields(plan), "steps": [asdict(step) for step in plan.steps]}

    async def _list_grace(self, request: Request, _: Peer) -> object:
        return [grace_fields(key, entry) for key, entry in await self._entries(request)]

    async def _forget_grace(self, request: Request, _: Peer) -> object:
        keys = [key for key, _ in await self._entries(request)]
        await self._host.pools.store.run(PATIENCE, self._host.store.forget_grace, keys)
        return {"forgotten": len(keys)}

    async def _entries(self, request: Request) -> list[tuple[Key, Entry]]:
        user, place = await self._canonical(text_of(request, "user")), _address(request)
        kept = await self._host.pools.store.run(PATIENCE, self._host.store.grace_entries)
        return [
            (key, entry) for key, entry in kept if user in ("", key.user) and place in ("", key.client_ip)
        ]  # fmt: skip

    async def _canonical(self, user: str) -> str:
        """Tell the name that entries are kept under; an account that is gone still has those it had."""
        try:
            account = await self._host.pools.accounts.run(PATIENCE, self._host.accounts.look_up, user)
        except Unavailable:
            return user
        return account.name if account else user

    async def _list_sessions(self, _: Request, __: Peer) -> object:
        return [session_fields(lease) for lease in self._host.logins.leases]

    async def _unlock(self, request: Request, peer: Peer) -> object:
        user = text_of(request, "user")
        account = await self._host.pools.accounts.run(PATIENCE, self._host.accounts.look_up, user)
        if account is None:
            raise Refused(f"there is no account {user!a}")
        if account.uid == 0 and peer.uid != 0:
            raise Refused("only root may do that for uid 0")
        by = await self._host.pools.accounts.run(PATIENCE, peer.look_up_name)
        await self._host.pools.store.run(PATIENCE, self._host.store.forget_failures, account.name)
        counted = self._host.guesses.unlock(account.name)
        self._host.audit.unlock(account.name, by)
        return {"user": account.name, "had_failures": counted}

    async def _reload_now(self, _: Request, __: Peer) -> object:
        taken, sentence = self._reload()
        if not taken:
            raise Refused(sentence)
        return {"sentence": sentence}


def _peer_of(sock: socket.socket) -> Peer:
    _, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, LONGEST_GROUPS)
    except OSError:
        packed = b""
    return Peer(uid, frozenset({gid, *struct.unpack(f"{len(packed) // 4}I", packed)}))


def _gid(group: str) -> int:
    """Find a group's number; -1, which nobody is in, where there is none."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return -1


def text_of(request: Request, name: str) -> str:
    """Take a text of a request, empty when absent."""
    text = request.get(name) or ""
    if not isinstance(text, str):
        raise Refused(f"{name} must be a text")
    return text


def _time(request: Request, now: float) -> float:
    wall = request.get("at")
    if wall is None:
        return now
    if type(wall) not in {int, float} or not 0 <= wall <= LATEST:
        raise Refused("at must be a time, in seconds since 1970")
    return float(wall)


def _address(request: Request) -> str:
    given = text_of(request, "from")
    try:
        return fold(given) if given else ""
    except ValueError:
        raise Refused(f"{given!a} is not an address") from None


def hypothetical(request: Request) -> Login:
    """Make the login that a request asks about; its processes and its deadline mean nothing."""
    user = text_of(request, "user")
    if not user:
        raise Refused("whose login?")
    nobody = Process(0, 0)
    return Login(
        user=user,
        service=text_of(request, "service") or "sshd",
        client_ip=_address(request),
        tty=text_of(request, "tty"),
        connection="",
        auth_info="",
        first_factor="",
        caller=nobody,
        parent=nobody,
        deadline=0.0,
        login_id="",
        ssh_key=text_of(request, "key"),
    )


def grace_fields(key: Key, entry: Entry) -> Request:
    """Tell a grace entry as SEMANTICS §12 has it."""
    return {
        "user": key.user,
        "client_ip": key.client_ip,
        "ssh_key": key.ssh_key,
        "service": key.service,
        "last_authenticated": entry.authenticated.wall,
        "last_used": entry.used.wall,
        "reuse_count": entry.reuses,
    }


def session_fields(lease: Lease) -> Request:
    """Tell an open session."""
    return {
        "user": lease.user,
        "client_ip": lease.client_ip,
        "service": lease.service,
        "tty": lease.tty,
        "pid": lease.process.pid,
        "start": lease.process.start,
        "since": lease.since,
        "login": lease.login_id,
        "factor": lease.factor,
    }
