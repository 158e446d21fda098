"""Positions: list, look up, close."""

from __future__ import annotations

from aiohttp import web

from mbats.simulator.account_wire import position_body
from mbats.simulator.errors import invalid, no_such
from mbats.simulator.rest.respond import answer, reply
from mbats.simulator.rest.view import RUNTIME, account_id, body, view


async def list_positions(request: web.Request) -> web.Response:
    """GET …/positions: of every pair that was ever traded."""
    seen = view(request)
    standing = seen.standing
    return answer(
        request, {"positions": [position_body(standing, each) for each in seen.account.positions.values()]} | seen.last_id
    )


async def list_open(request: web.Request) -> web.Response:
    """GET …/openPositions."""
    seen = view(request)
    standing, open_ = seen.standing, {trade.instrument for trade in seen.account.open.values()}
    found = [position_body(standing, each) for name, each in seen.account.positions.items() if name in open_]
    return answer(request, {"positions": found} | seen.last_id)


async def get_position(request: web.Request) -> web.Response:
    """GET …/positions/{instrument}, also when nothing of it is open any more."""
    seen, name = view(request), request.match_info["instrument"]
    if name not in seen.instruments:
        raise invalid("instrument")
    if name not in seen.account.positions:
        raise no_such("position", seen.account.last_id)
    return answer(request, {"position": position_body(seen.standing, seen.account.positions[name])} | seen.last_id)


async def close_position(request: web.Request) -> web.Response:
    """PUT …/positions/{instrument}/close, the long side, the short one, or both."""
    account, asked, name = account_id(request), await body(request), request.match_info["instrument"]
    said = request.app[RUNTIME].execute(lambda engine: engine.close_position(account, name, asked))
    location = f"/v3/accounts/{account}/positions/{name}" if said.status == 200 else None
    return reply(request, said, location=location)
