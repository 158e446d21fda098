"""Orders: create, list, look up, replace, cancel, name."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from mbats.simulator.core.values import Order
from mbats.simulator.errors import no_such
from mbats.simulator.list_queries import ListQuery, read_list_query
from mbats.simulator.order_wire import order_body
from mbats.simulator.rest.paging import newest, next_page
from mbats.simulator.rest.respond import answer, reply
from mbats.simulator.rest.view import RUNTIME, View, account_id, body, view

STATES = ("PENDING", "FILLED", "TRIGGERED", "CANCELLED", "ALL")


async def create_order(request: web.Request) -> web.Response:
    """POST …/orders: 201 even when the order is cancelled at once, 400 when it breaks a rule of form."""
    account, asked = account_id(request), await body(request)
    said = request.app[RUNTIME].execute(lambda engine: engine.create_order(account, asked))
    return reply(request, said, location=_location(account, said.body))


async def list_orders(request: web.Request) -> web.Response:
    """GET …/orders, the newest first."""
    seen = view(request)
    query = read_list_query(request.query, tuple(seen.instruments), STATES)
    found, more = newest(seen.account.orders, query, _fits(query))
    response = answer(request, {"orders": [_body(seen, order) for order in found]} | seen.last_id)
    return next_page(request, response, found[-1].id if more else None)


async def list_pending(request: web.Request) -> web.Response:
    """GET …/pendingOrders: all of them, the newest first."""
    seen = view(request)
    return answer(request, {"orders": [_body(seen, order) for order in reversed(seen.account.pending.values())]} | seen.last_id)


async def get_order(request: web.Request) -> web.Response:
    """GET …/orders/{order}, by its number or, after an @, by the client's name for it."""
    seen = view(request)
    order = seen.account.order_by(request.match_info["order"])
    if order is None:
        raise no_such("order", seen.account.last_id)
    return answer(request, {"order": _body(seen, order)} | seen.last_id)


async def replace_order(request: web.Request) -> web.Response:
    """PUT …/orders/{order}."""
    account, asked, order, name = account_id(request), await body(request), request.match_info["order"], _client_request(request)
    said = request.app[RUNTIME].execute(lambda engine: engine.replace_order(account, order, asked, name))
    return reply(request, said, location=_location(account, said.body))


async def cancel_order(request: web.Request) -> web.Response:
    """PUT …/orders/{order}/cancel."""
    account, order, name = account_id(request), request.match_info["order"], _client_request(request)
    return reply(request, request.app[RUNTIME].execute(lambda engine: engine.cancel_order(account, order, name)))


async def name_order(request: web.Request) -> web.Response:
    """PUT …/orders/{order}/clientExtensions."""
    account, asked, order = account_id(request), await body(request), request.match_info["order"]
    return reply(request, request.app[RUNTIME].execute(lambda engine: engine.set_order_extensions(account, order, asked)))


def _fits(query: ListQuery) -> Callable[[Order], bool]:
    return lambda order: query.state in ("ALL", order.state.value) and order.instrument in query.instruments


def _body(seen: View, order: Order) -> dict[str, object]:
    return order_body(order, seen.instruments[order.instrument])


def _location(account: str, said: dict[str, dict[str, str]]) -> str | None:
    created = said.get("orderCreateTransaction")
    return f"/v3/accounts/{account}/orders/{created['id']}" if created else None


def _client_request(request: web.Request) -> str | None:
    return request.headers.get("ClientRequestID")
