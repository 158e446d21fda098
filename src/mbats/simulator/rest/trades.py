"""Trades: list, look up, close, name, and give them orders."""

from __future__ import annotations

from aiohttp import web

from mbats.simulator.account_wire import trade_body
from mbats.simulator.core.values import Trade
from mbats.simulator.errors import no_such
from mbats.simulator.list_queries import read_list_query
from mbats.simulator.rest.paging import newest, next_page
from mbats.simulator.rest.respond import answer, reply
from mbats.simulator.rest.view import RUNTIME, account_id, body, view

STATES = ("OPEN", "CLOSED", "CLOSE_WHEN_TRADEABLE", "ALL")


async def list_trades(request: web.Request) -> web.Response:
    """GET …/trades, the newest first."""
    seen = view(request)
    query = read_list_query(request.query, tuple(seen.instruments), STATES)

    def fits(trade: Trade) -> bool:
        state = "OPEN" if trade.closed is None else "CLOSED"
        return query.state in ("ALL", state) and trade.instrument in query.instruments

    found, more = newest(seen.account.trades, query, fits)
    standing = seen.standing
    response = answer(request, {"trades": [trade_body(standing, trade) for trade in found]} | seen.last_id)
    return next_page(request, response, found[-1].id if more else None)


async def list_open(request: web.Request) -> web.Response:
    """GET …/openTrades: all of them, the newest first."""
    seen = view(request)
    standing = seen.standing
    return answer(
        request, {"trades": [trade_body(standing, trade) for trade in reversed(seen.account.open.values())]} | seen.last_id
    )


async def get_trade(request: web.Request) -> web.Response:
    """GET …/trades/{trade}, by its number or, after an @, by the client's name for it."""
    seen = view(request)
    trade = seen.account.trade_by(request.match_info["trade"])
    if trade is None:
        raise no_such("trade", seen.account.last_id)
    return answer(request, {"trade": trade_body(seen.standing, trade)} | seen.last_id)


async def close_trade(request: web.Request) -> web.Response:
    """PUT …/trades/{trade}/close, all of it or a part. A request without a body closes all, as oandapyV20 sends it."""
    account, asked, trade = account_id(request), await body(request, required=False), request.match_info["trade"]
    return reply(request, request.app[RUNTIME].execute(lambda engine: engine.close_trade(account, trade, asked)))


async def name_trade(request: web.Request) -> web.Response:
    """PUT …/trades/{trade}/clientExtensions."""
    account, asked, trade = account_id(request), await body(request), request.match_info["trade"]
    return reply(request, request.app[RUNTIME].execute(lambda engine: engine.set_trade_extensions(account, trade, asked)))


async def order_trade(request: web.Request) -> web.Response:
    """PUT …/trades/{trade}/orders: null cancels an order, absent keeps it."""
    account, asked, trade = account_id(request), await body(request), request.match_info["trade"]
    return reply(request, request.app[RUNTIME].execute(lambda engine: engine.set_trade_orders(account, trade, asked)))
