"""The phone: a page for people, and the same by plain calls for tests. A test tool: nothing here asks who you are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from tests.sandbox.behaviours import BEHAVIOURS

if TYPE_CHECKING:
    from tests.sandbox.service import Service

PAGE = Path(__file__).with_name("phone.html")


def routes(service: Service) -> list[web.RouteDef]:  # noqa: C901  one small function for each call
    """Tell the phone's calls."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE.read_text(encoding="utf-8"), content_type="text/html")

    async def pending(_: web.Request) -> web.Response:
        waiting = [push.shown() for push in service.requests.values() if push.now() == "pending"]
        return web.json_response(waiting)

    async def answer(request: web.Request) -> web.Response:
        push = service.requests.get(request.match_info["id"])
        if push is None or push.now() != "pending":
            return web.json_response({"error": "nothing to answer"}, status=404)
        push.status = {"approve": "approved", "deny": "denied"}[request.match_info["answer"]]
        return web.json_response({"status": push.status})

    async def log(_: web.Request) -> web.Response:
        return web.json_response(service.log)

    async def tokens(_: web.Request) -> web.Response:
        return web.json_response(sorted(service.given))

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(dict(service.counts))

    async def forget(_: web.Request) -> web.Response:
        service.log.clear()
        service.counts.clear()
        service.done_once.clear()
        service.requests.clear()
        return web.json_response({})

    async def add(request: web.Request) -> web.Response:
        body = await request.json()
        if body["behaviour"] not in BEHAVIOURS:
            return web.json_response({"error": "no such behaviour"}, status=400)
        user = service.add(body["name"], body["behaviour"])
        return web.json_response({"id": user.id, "secret": user.secret})

    return [
        web.get("/phone/", page),
        web.get("/phone/pending", pending),
        web.post("/phone/{answer:approve|deny}/{id}", answer),
        web.get("/phone/log", log),
        web.get("/phone/tokens", tokens),
        web.get("/phone/stats", stats),
        web.post("/phone/forget", forget),
        web.post("/phone/users", add),
    ]
