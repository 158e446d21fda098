"""The REST side as an aiohttp application: which handler answers which call."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mbats import __version__
from mbats.simulator.rest import account, market, orders, positions, trades, transactions
from mbats.simulator.rest.access import Access, guards, sign_responses
from mbats.simulator.rest.respond import answer
from mbats.simulator.rest.view import RUNTIME, Runtime


def create_rest_app(runtime: Runtime, access: Access | None = None, *, middlewares: Sequence[Middleware] = ()) -> web.Application:
    """OANDA's REST API on this exchange.

    `access` is shared by applications whose limits count together; without one the tokens are those of the configuration.
    `middlewares` stand around everything else, so that they see what clients send and may spoil what they get.
    """
    app = web.Application(middlewares=[*middlewares, *guards(access or Access(runtime.config))])
    app[RUNTIME] = runtime
    app.cleanup_ctx.append(market.workers)
    sign_responses(app, runtime.clock.now)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    return app


async def health(request: web.Request) -> web.Response:
    """GET /healthz, open to all: that it runs, and what its prices are."""
    source = request.app[RUNTIME].market.source
    names = list(request.app[RUNTIME].market.instruments)
    return answer(request, {"status": "ok", "version": __version__, "prices": source.description, "instruments": names})


A = "/v3/accounts/{account}"
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/healthz", health),
    ("GET", "/v3/accounts", account.list_accounts),
    ("GET", A, account.get_account),
    ("GET", f"{A}/summary", account.get_summary),
    ("GET", f"{A}/instruments", account.list_instruments),
    ("PATCH", f"{A}/configuration", account.configure),
    ("GET", f"{A}/changes", account.get_changes),
    ("GET", "/v3/instruments/{instrument}/candles", market.list_candles),
    ("GET", f"{A}/instruments/{{instrument}}/candles", market.list_candles),
    ("GET", f"{A}/candles/latest", market.latest_candles),
    ("GET", f"{A}/pricing", market.list_prices),
    ("POST", f"{A}/orders", orders.create_order),
    ("GET", f"{A}/orders", orders.list_orders),
    ("GET", f"{A}/pendingOrders", orders.list_pending),
    ("GET", f"{A}/orders/{{order}}", orders.get_order),
    ("PUT", f"{A}/orders/{{order}}", orders.replace_order),
    ("PUT", f"{A}/orders/{{order}}/cancel", orders.cancel_order),
    ("PUT", f"{A}/orders/{{order}}/clientExtensions", orders.name_order),
    ("GET", f"{A}/trades", trades.list_trades),
    ("GET", f"{A}/openTrades", trades.list_open),
    ("GET", f"{A}/trades/{{trade}}", trades.get_trade),
    ("PUT", f"{A}/trades/{{trade}}/close", trades.close_trade),
    ("PUT", f"{A}/trades/{{trade}}/clientExtensions", trades.name_trade),
    ("PUT", f"{A}/trades/{{trade}}/orders", trades.order_trade),
    ("GET", f"{A}/positions", positions.list_positions),
    ("GET", f"{A}/openPositions", positions.list_open),
    ("GET", f"{A}/positions/{{instrument}}", positions.get_position),
    ("PUT", f"{A}/positions/{{instrument}}/close", positions.close_position),
    ("GET", f"{A}/transactions", transactions.list_pages),
    ("GET", f"{A}/transactions/idrange", transactions.list_range),
    ("GET", f"{A}/transactions/sinceid", transactions.list_since),
    ("GET", f"{A}/transactions/{{transaction}}", transactions.get_transaction),
)
