"""Transactions: pages of them by time, and the transactions themselves by id."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from mbats.simulator.core.account import Account
from mbats.simulator.core.times import parse_time, write_time
from mbats.simulator.core.values import OrderType, Transaction
from mbats.simulator.errors import bad_range, no_such
from mbats.simulator.list_queries import read_id_range, read_page_size, read_since, read_types
from mbats.simulator.queries import Query, read_time
from mbats.simulator.rest.respond import answer, url
from mbats.simulator.rest.view import view

ORDER_TYPES = frozenset(
    [f"{kind}_ORDER{end}" for kind in OrderType for end in ("", "_REJECT")]
    + ["ORDER_FILL", "ORDER_CANCEL", "ORDER_CANCEL_REJECT"]
    + ["ORDER_CLIENT_EXTENSIONS_MODIFY", "ORDER_CLIENT_EXTENSIONS_MODIFY_REJECT"]
)
FUNDING_TYPES = frozenset(("TRANSFER_FUNDS", "TRANSFER_FUNDS_REJECT"))
ADMIN_TYPES = frozenset(("CREATE", "CLOSE", "REOPEN", "CLIENT_CONFIGURE", "CLIENT_CONFIGURE_REJECT"))
OTHER_TYPES = frozenset(
    (
        "TRADE_CLIENT_EXTENSIONS_MODIFY",
        "TRADE_CLIENT_EXTENSIONS_MODIFY_REJECT",
        "MARGIN_CALL_ENTER",
        "MARGIN_CALL_EXTEND",
        "MARGIN_CALL_EXIT",
        "DELAYED_TRADE_CLOSURE",
        "DAILY_FINANCING",
        "RESET_RESETTABLE_PL",
        "ONE_CANCELS_ALL_ORDER",
        "ONE_CANCELS_ALL_ORDER_REJECT",
        "ONE_CANCELS_ALL_ORDER_TRIGGERED",
    )
)
# Every word of TransactionFilter with the types that it lets through; what the first three hold is nowhere written out.
FILTERS: dict[str, frozenset[str]] = {
    "ORDER": ORDER_TYPES,
    "FUNDING": FUNDING_TYPES,
    "ADMIN": ADMIN_TYPES,
} | {kind: frozenset((kind,)) for kind in ORDER_TYPES | FUNDING_TYPES | ADMIN_TYPES | OTHER_TYPES}


async def list_pages(request: web.Request) -> web.Response:
    """GET …/transactions: how many there are in a stretch of time, and where to get them, page by page."""
    seen = view(request)
    account, query = seen.account, request.query
    created = parse_time(account.created)
    start, end = read_time(query, "from"), read_time(query, "to")
    start = created if start is None else max(start, created)
    end = max(seen.now, parse_time(account.transactions[-1]["time"])) if end is None else end
    if end < start:
        raise bad_range()
    size, types = read_page_size(query), read_types(query, FILTERS)
    ids = [tx["id"] for tx in _of(account.transactions, types) if start <= parse_time(tx["time"]) <= end]
    path, kinds = f"/v3/accounts/{account.config.id}/transactions/idrange", f"&type={','.join(types)}" if types else ""
    pages = [f"{path}?from={page[0]}&to={page[-1]}{kinds}" for page in (ids[at : at + size] for at in range(0, len(ids), size))]
    found = {
        "from": write_time(start),
        "to": write_time(end),
        "pageSize": size,
        "count": len(ids),
        "pages": [url(request, page) for page in pages],
    }
    return answer(request, found | ({"type": list(types)} if types else {}) | seen.last_id)


async def get_transaction(request: web.Request) -> web.Response:
    """GET …/transactions/{transaction}."""
    seen, text = view(request), request.match_info["transaction"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    if not 1 <= number <= seen.account.last_id:
        raise no_such("transaction", seen.account.last_id)
    return answer(request, {"transaction": seen.account.transactions[number - 1]} | seen.last_id)


async def list_range(request: web.Request) -> web.Response:
    """GET …/transactions/idrange, both ends included."""
    seen = view(request)
    first, last = read_id_range(request.query, seen.account.last_id)
    return _answer(request, seen.account, seen.account.transactions[first - 1 : last], request.query)


async def list_since(request: web.Request) -> web.Response:
    """GET …/transactions/sinceid: all after one."""
    seen = view(request)
    since = read_since(request.query, "id", seen.account.last_id)
    return _answer(request, seen.account, seen.account.transactions[since:], request.query)


def _answer(request: web.Request, account: Account, found: Iterable[Transaction], query: Query) -> web.Response:
    listed = _of(found, read_types(query, FILTERS))
    return answer(request, {"transactions": listed, "lastTransactionID": str(account.last_id)})


def _of(transactions: Iterable[Transaction], types: tuple[str, ...]) -> list[Transaction]:
    wanted = frozenset[str]().union(*(FILTERS[name] for name in types))
    return [tx for tx in transactions if not types or tx["type"] in wanted]
