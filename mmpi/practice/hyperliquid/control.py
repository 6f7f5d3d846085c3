"""The practice server's own endpoints, for whoever practises: /control/*, which no venue has.

Invariant: only this machine is answered; nothing here counts against a limit, is delayed or meets a fault.
It must not know how the server does what is asked.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec
from aiohttp import web

from mmpi.errors import ConfigError
from mmpi.practice.hyperliquid.messages import Json, encode
from mmpi.practice.hyperliquid.venue import Venue

LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
FORM: Final = '{"faults": ["NAME:key=value,...", ...]} and, if wanted, "seed": NUMBER'


class FaultSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /control/fault: the set that takes the place of the present one."""

    faults: list[str]
    seed: int | None = None


class Controlled(Protocol):
    """What the endpoints control."""

    def faults(self) -> Json:
        """Return the set of faults and how often each has struck."""
        ...

    def set_faults(self, texts: Sequence[str], seed: int | None) -> None:
        """Replace the set; ConfigError if one cannot be read, and the set stays."""
        ...

    def cut_all(self) -> int:
        """Close every socket now; return how many there were."""
        ...


def routes(venue: Venue, server: Controlled) -> list[web.RouteDef]:
    """Return the routes of /control."""

    async def set_faults(request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=FaultSet)
            server.set_faults(wanted.faults, wanted.seed)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise web.HTTPBadRequest(text=f"not {FORM}: {error}") from None
        except ConfigError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return _json(server.faults())

    async def close(_request: web.Request) -> web.Response:
        return _json({"closed": server.cut_all()})

    return [
        web.get("/control/orders", _for_this_machine(_shown(venue.live_orders))),
        web.get("/control/placed", _for_this_machine(_shown(venue.placed_log))),
        web.get("/control/fills", _for_this_machine(_shown(venue.fill_log))),
        web.get("/control/state", _for_this_machine(_shown(venue.states))),
        web.get("/control/fault", _for_this_machine(_shown(server.faults))),
        web.post("/control/fault", _for_this_machine(set_faults)),
        web.post("/control/close", _for_this_machine(close)),
    ]


Handler = Callable[[web.Request], Awaitable[web.Response]]


def _shown(ask: Callable[[], object]) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return _json(ask())

    return handler


def _for_this_machine(handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.Response:
        if request.remote not in LOOPBACK:
            raise web.HTTPForbidden(text="/control is for this machine only")
        return await handler(request)

    return guarded


def _json(answer: object) -> web.Response:
    return web.Response(body=encode(answer), content_type="application/json")
