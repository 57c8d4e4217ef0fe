"""The Starling-shaped service: STARLING-API §1 over HTTP, and nothing that page does not know.

Everything is in memory. Faults are chosen by the user (``behaviours``); the phone and the tests' own calls are in
``phone``.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
import secrets
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from tests.sandbox.behaviours import BEHAVIOURS, POLL, START, VERIFY, User

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

TOKEN_LIFETIME = 3600
LONGEST_LOG = 100_000
RETRY_AFTER = 2
Handle = Callable[[web.Request, User], Awaitable[web.Response]]
TOKEN_PATH = "/auth/realms/StarlingClients/protocol/openid-connect/token"


@dataclass
class Request:
    """One push, as the phone sees it."""

    id: str
    user: User
    message: str
    details: dict[str, str]
    expires: float
    answers_at: float
    status: str = "pending"

    def now(self) -> str:
        """Tell the status as of now."""
        behaviour = BEHAVIOURS[self.user.behaviour]
        if self.status == "pending" and time.monotonic() >= self.answers_at:
            self.status = {"approve": "approved", "deny": "denied", "expire": "expired", "strange": "queued"}.get(
                behaviour.push, "pending"
            )
        if self.status == "pending" and time.monotonic() >= self.expires:
            self.status = "expired"
        return self.status

    def shown(self) -> dict[str, object]:
        """Tell what the phone shows."""
        left = max(0, round(self.expires - time.monotonic()))
        return {"id": self.id, "user": self.user.name, "message": self.message, "details": self.details, "left": left}


@dataclass
class Service:
    """The state of the sandbox."""

    client_id: str = field(default_factory=lambda: secrets.token_hex(8))
    client_secret: str = field(default_factory=lambda: secrets.token_hex(16))
    api_key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    users: dict[str, User] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    given: list[str] = field(default_factory=list)
    log: list[dict[str, object]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    done_once: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name in BEHAVIOURS:
            self.add(name, name)

    def add(self, name: str, behaviour: str) -> User:
        """Enrol a user by name."""
        user = User.make(name, behaviour)
        self.users[user.id] = user
        return user

    def described(self) -> dict[str, dict[str, str]]:
        """Tell each user by name, as users.json does."""
        return {user.name: asdict(user) for user in self.users.values()}

    def routes(self) -> list[web.RouteDef]:
        """Tell the calls of STARLING-API §1."""
        return [
            web.post(TOKEN_PATH, self.token),
            web.post("/v1/Users", self.create),
            web.get("/v1/Users/{id}/verify", self.verify),
            web.post("/v1/Users/{id}/approvalrequests", self.start),
            web.get("/v1/ApprovalRequests/{id}", self.poll),
        ]

    async def token(self, request: web.Request) -> web.Response:
        """Give a token for the client credentials."""
        expected = b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        form = await request.post()
        good = request.headers.get("Authorization") == f"Basic {expected}"
        if not good or form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "invalid_client"}, status=401)
        token = secrets.token_urlsafe(24)
        self.tokens.add(token)
        self.given.append(token)
        return web.json_response({"access_token": token, "expires_in": TOKEN_LIFETIME})

    async def create(self, request: web.Request) -> web.Response:
        """Create a user, or find the one that is known under this telephone and address."""
        if not self._authorised(request):
            return _error(401, "Token is invalid")
        body = await request.json()
        phone, address = str(body.get("phone", "")), str(body.get("email", ""))
        if not re.fullmatch(r"\+[0-9]{6,15}", phone) or "@" not in address:
            return _error(400, "bad e-mail or telephone")
        user = User.make(f"{phone} {address}", "manual")
        self.users.setdefault(user.id, user)
        return web.json_response({"id": user.id})

    async def verify(self, request: web.Request) -> web.Response:
        """Check a code."""
        user = self.users.get(request.match_info["id"])
        request["entry"].update(user=user.name if user else None, code=request.query.get("tokenResponse", ""))
        return await self._answer(request, VERIFY, user, self._verify)

    async def start(self, request: web.Request) -> web.Response:
        """Send a push to a phone."""
        user = self.users.get(request.match_info["id"])
        request["entry"]["user"] = user.name if user else None
        return await self._answer(request, START, user, self._start)

    async def poll(self, request: web.Request) -> web.Response:
        """Tell how a push stands."""
        push = self.requests.get(request.match_info["id"])
        request["entry"]["user"] = push.user.name if push else None
        if push is None and self._authorised(request):
            return _error(402, "no such request")
        return await self._answer(request, POLL, push.user if push else None, self._poll)

    async def _answer(self, request: web.Request, call: str, user: User | None, handle: Handle) -> web.Response:
        if not self._authorised(request):
            return _error(401, "Token is invalid")
        if user is None:
            return _error(404, {"errorCode": 60016, "message": "User doesn't exist"})
        behaviour = BEHAVIOURS[user.behaviour]
        if behaviour.fault and call in behaviour.calls:
            fault = await self.fault(request, behaviour.fault, (user.id, call))
            if fault is not None:
                return fault
        return await handle(request, user)

    async def _verify(self, request: web.Request, user: User) -> web.Response:
        if user.totp.verify(request.query.get("tokenResponse", ""), valid_window=1):
            return web.json_response({"success": True})
        return _error(401, "Token is invalid")

    async def _start(self, request: web.Request, user: User) -> web.Response:
        body = await request.json()
        numeric = BEHAVIOURS[user.behaviour].fault == "numeric"
        id_ = str(secrets.randbelow(10**15)) if numeric else secrets.token_hex(12)
        self.ring(id_, user, body["message"], body["details"], body["secondsToExpire"])
        return web.json_response({"id": int(id_) if numeric else id_})

    def ring(self, id_: str, user: User, message: str, details: dict[str, str], lifetime: float) -> None:
        """Show a push on a user's phone for ``lifetime`` seconds."""
        now = time.monotonic()
        answers_at = now + BEHAVIOURS[user.behaviour].after
        self.requests[id_] = Request(id_, user, message, details, now + lifetime, answers_at)

    async def _poll(self, request: web.Request, _: User) -> web.Response:
        return web.json_response({"status": self.requests[request.match_info["id"]].now()})

    async def fault(self, request: web.Request, fault: str, who: tuple[str, str]) -> web.Response | None:
        """Do what is wrong with this user; None when, after all, nothing is."""
        if fault.endswith(" once"):
            if who in self.done_once:
                return None
            self.done_once.add(who)
        if fault.startswith("slow"):
            await asyncio.sleep(float(fault.split()[1]))
            return None
        if fault == "reset" and request.transport is not None:
            request.transport.abort()
        if fault.startswith("revoke"):
            self.tokens.clear()
            return _error(401, "Token is invalid")
        return _ANSWERS[fault.removesuffix(" once")]() if fault.removesuffix(" once") in _ANSWERS else None

    def _authorised(self, request: web.Request) -> bool:
        return request.headers.get("Authorization", "").removeprefix("Bearer ") in self.tokens


def _error(status: int, message: object) -> web.Response:
    return web.json_response({"errorMessage": message}, status=status)


def _too_many(value: str) -> web.Response:
    return web.Response(status=429, headers={"Retry-After": value})


_ANSWERS = {
    "402": lambda: _error(402, "no such request"),
    "404": lambda: _error(404, "User doesn't exist"),
    "60016": lambda: _error(400, {"errorCode": 60016, "message": "User doesn't exist"}),
    "500": lambda: web.Response(status=500, text="Internal Server Error"),
    "503": lambda: web.Response(status=503, text="Service Unavailable"),
    "malformed": lambda: web.Response(text='{"status": "appro', content_type="application/json"),
    "html": lambda: web.Response(text="<h1>Sign in to the network</h1>", content_type="text/html"),
    "reset": lambda: web.Response(status=500),
    "429 seconds": lambda: _too_many(str(RETRY_AFTER)),
    "429 date": lambda: _too_many(email.utils.formatdate(time.time() + RETRY_AFTER, usegmt=True)),
    "429 for ever": lambda: _too_many("1"),
}


@web.middleware
async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log each call of the service; never a token."""
    service: Service = request.app["service"]
    entry: dict[str, object] = {"method": request.method, "path": request.path, "at": time.time()}
    request["entry"] = entry
    if request.path.startswith("/phone"):
        return await handler(request)
    resource = request.match_info.route.resource
    service.counts[f"{request.method} {resource.canonical if resource else None}"] += 1
    if len(service.log) < LONGEST_LOG:
        service.log.append(entry)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        entry["status"] = error.status
        raise
    except json.JSONDecodeError:
        response = _error(400, "not JSON")
    entry["status"] = response.status
    return response
