"""The older service of the sandbox: STARLING-API §2, for JSON bodies and form fields alike.

Clients of this wire look for the literal bytes ``"token":"is valid"``, so every answer is compact JSON.
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.sandbox.behaviours import BEHAVIOURS, POLL, START, VERIFY, User

if TYPE_CHECKING:
    from tests.sandbox.service import Handle, Service

LONGEST_MESSAGE = 200
LIFETIME = 120
UNKNOWN = frozenset({"402", "404", "60016"})
_FIELD = re.compile(r"([a-z_]+)\[([^\]]*)\]")


def answer(content: dict[str, Any], status: int = 200) -> web.Response:
    """Make an answer without any blanks."""
    text = json.dumps(content, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def refused(status: int, **errors: str) -> web.Response:
    """Say no."""
    return answer({"errors": errors, "success": False}, status)


async def fields(request: web.Request) -> dict[str, Any]:
    """Read JSON, or a form whose ``a[b]`` is ``{"a": {"b": …}}``."""
    if request.content_type == "application/json":
        return dict(await request.json())
    read: dict[str, Any] = {}
    for name, value in (await request.post()).items():
        nested = _FIELD.fullmatch(name)
        if nested:
            read.setdefault(nested[1], {})[nested[2]] = value
        else:
            read[name] = value
    return read


class Subscription:
    """The calls; users, pushes and faults are the joined service's."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: web.Request) -> web.Response:
        """Create a user, or find the one that is known under this telephone and address."""
        if not self._authorised(request):
            return refused(401, message="Invalid API key")
        user = (await fields(request)).get("user", {})
        phone, country, address = (str(user.get(name, "")) for name in ("cellphone", "country_code", "email"))
        digits = re.sub(r"[ ().-]", "", phone)
        if not re.fullmatch(r"[0-9]{5,14}", digits) or not re.fullmatch(r"[0-9]{1,3}", country) or "@" not in address:
            return refused(400, message="User was not valid")
        made = User.make(f"+{country}{digits} {address}", "manual")
        self._service.users.setdefault(made.id, made)
        return answer({"success": True, "user": {"id": int(made.id)}})

    async def status(self, request: web.Request) -> web.Response:
        """Tell about a user."""

        async def tell(_: web.Request, user: User) -> web.Response:
            status = {"authy_id": int(user.id), "confirmed": True, "registered": True, "devices": ["android"]}
            return answer({"status": status, "success": True})

        return await self._answer(request, "", self._user(request), tell)

    async def verify(self, request: web.Request) -> web.Response:
        """Check a code."""
        code = request.match_info["code"]
        request["entry"]["code"] = code

        async def check(_: web.Request, user: User) -> web.Response:
            if user.totp.verify(code, valid_window=1):
                return answer({"success": True, "token": "is valid"})
            return refused(401, token="is invalid")

        return await self._answer(request, VERIFY, self._user(request), check)

    async def ring(self, request: web.Request) -> web.Response:
        """Send a message or call: users of the app need neither."""

        async def ignore(_: web.Request, __: User) -> web.Response:
            return answer({"success": True, "ignored": True, "device": "android"})

        return await self._answer(request, "", self._user(request), ignore)

    async def start(self, request: web.Request) -> web.Response:
        """Send a push to a phone."""

        async def push(request: web.Request, user: User) -> web.Response:
            read = await fields(request)
            message, details = read.get("message", ""), read.get("details") or {}
            if not message or len(message) > LONGEST_MESSAGE or not isinstance(details, dict):
                return refused(400, message="message cannot be blank or too long")
            number = BEHAVIOURS[user.behaviour].fault == "numeric"
            id_ = str(secrets.randbelow(10**15)) if number else str(uuid.uuid4())
            self._service.ring(id_, user, message, details, float(read.get("seconds_to_expire") or LIFETIME))
            return answer({"approval_request": {"uuid": int(id_) if number else id_}, "success": True})

        return await self._answer(request, START, self._user(request), push)

    async def poll(self, request: web.Request) -> web.Response:
        """Tell how a push stands."""
        kept = self._service.requests.get(request.match_info["id"])

        async def tell(request: web.Request, _: User) -> web.Response:
            status = self._service.requests[request.match_info["id"]].now()
            return answer({"approval_request": {"status": status, "uuid": request.match_info["id"]}, "success": True})

        return await self._answer(request, POLL, kept.user if kept else None, tell)

    def _user(self, request: web.Request) -> User | None:
        user = self._service.users.get(request.match_info["id"])
        request["entry"]["user"] = user.name if user else None
        return user

    async def _answer(self, request: web.Request, call: str, user: User | None, handle: Handle) -> web.Response:
        if not self._authorised(request):
            return refused(401, message="Invalid API key")
        behaviour = BEHAVIOURS[user.behaviour] if user else None
        if user is None or behaviour is None:
            return refused(404, message="not found")
        if behaviour.fault and call in behaviour.calls:
            if behaviour.fault in UNKNOWN:
                return refused(404, message="not found")
            fault = await self._service.fault(request, behaviour.fault, (user.id, call))
            if fault is not None and not behaviour.fault.startswith("revoke"):  # there are no tokens here
                return fault
        return await handle(request, user)

    def _authorised(self, request: web.Request) -> bool:
        return secrets.compare_digest(request.headers.get("X-Authy-API-Key", ""), self._service.api_key)


def routes(service: Service) -> list[web.RouteDef]:
    """Tell the calls of STARLING-API §2."""
    made = Subscription(service)
    return [
        web.post("/protected/json/users/new", made.create),
        web.get("/protected/json/users/{id}/status", made.status),
        web.get("/protected/json/verify/{code}/{id}", made.verify),
        web.get("/protected/json/{way:sms|call}/{id}", made.ring),
        web.post("/onetouch/json/users/{id}/approval_requests", made.start),
        web.get("/onetouch/json/approval_requests/{id}", made.poll),
    ]
