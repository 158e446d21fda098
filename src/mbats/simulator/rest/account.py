"""Accounts: the list of them, one in full or its sums, what it may trade, what has changed, and its configuration."""

from __future__ import annotations

from aiohttp import web

from mbats.simulator.account_wire import account_body, summary_body
from mbats.simulator.changes import changes_body, state_body
from mbats.simulator.core.placing import Reply
from mbats.simulator.errors import bad_range
from mbats.simulator.list_queries import read_since
from mbats.simulator.queries import read_instruments
from mbats.simulator.rest.access import GRANT
from mbats.simulator.rest.respond import answer, reply
from mbats.simulator.rest.view import RUNTIME, account_id, body, view
from mbats.simulator.wire import instrument_body

# A client found that changes from further back are refused (jamespeterschinner/async_v20#18), at about this many.
CHANGES_AT_ONCE = 1000


async def list_accounts(request: web.Request) -> web.Response:
    """GET /v3/accounts: those that the token opens."""
    return answer(request, {"accounts": [{"id": account.id, "tags": []} for account in request[GRANT].accounts]})


async def get_account(request: web.Request) -> web.Response:
    """GET …/{account}: in full."""
    seen = view(request)
    return answer(request, {"account": account_body(seen.standing)} | seen.last_id)


async def get_summary(request: web.Request) -> web.Response:
    """GET …/summary: without trades, positions and orders."""
    seen = view(request)
    return answer(request, {"account": summary_body(seen.standing)} | seen.last_id)


async def list_instruments(request: web.Request) -> web.Response:
    """GET …/instruments."""
    seen = view(request)
    names = read_instruments(request.query, tuple(seen.instruments), required=False)
    return answer(request, {"instruments": [instrument_body(seen.instruments[name]) for name in names]} | seen.last_id)


async def configure(request: web.Request) -> web.Response:
    """PATCH …/configuration. The body is alone among those of writes in having no list of transactions."""
    account, asked = account_id(request), await body(request)
    said = request.app[RUNTIME].execute(lambda engine: engine.configure(account, asked))
    return reply(request, Reply(said.status, {key: part for key, part in said.body.items() if key != "relatedTransactionIDs"}))


async def get_changes(request: web.Request) -> web.Response:
    """GET …/changes: what has happened since a transaction, and what depends on prices."""
    seen = view(request)
    since = read_since(request.query, "sinceTransactionID", seen.account.last_id)
    if seen.account.last_id - since > CHANGES_AT_ONCE:
        raise bad_range()
    standing = seen.standing
    changed = {"changes": changes_body(standing, since), "state": state_body(standing, seen.quote)}
    return answer(request, changed | seen.last_id)
