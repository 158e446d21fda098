"""The admin port as an aiohttp application: which handler answers which call. `GET /` is a page for people."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from mbats import __version__
from mbats.errors import UsageError
from mbats.simulator.admin import exchange, time
from mbats.simulator.admin.administration import ADMINISTRATION, Administration
from mbats.simulator.admin.door import Asked, Handler, answer, guard, read
from mbats.simulator.admin.page import show_page
from mbats.simulator.core.times import write_time
from mbats.simulator.errors import Refusal
from mbats.simulator.faults.actions import DEEDS
from mbats.simulator.faults.book import Faults
from mbats.simulator.faults.rules import Rule, read_rule
from mbats.simulator.queries import read_bool


class _Name(Asked):
    name: str


class _Nothing(Asked):
    pass


def create_admin_app(administration: Administration, *, exposed: bool = False) -> web.Application:
    """The admin port; `exposed` says that it listens for other machines too."""
    app = web.Application(middlewares=guard(exposed=exposed))
    app[ADMINISTRATION] = administration
    runtime, streams = administration.runtime, administration.streams
    metrics = runtime.metrics
    metrics.watch("open_streams", "Streams that are open.", lambda: len(streams.streams))
    metrics.watch("active_faults", "Faults in force.", lambda: len(runtime.faults.active()))
    metrics.watch("time_seconds", "The exchange's clock, since 1970.", lambda: runtime.clock.now().astype("int64") / 1e6)
    metrics.watch("open_trades", "Open trades.", lambda: sum(len(each.open) for each in runtime.engine.accounts.values()))
    metrics.watch(
        "pending_orders", "Pending orders.", lambda: sum(len(each.pending) for each in runtime.engine.accounts.values())
    )
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler)
    return app


async def health(request: web.Request) -> web.Response:
    """GET /healthz."""
    runtime = request.app[ADMINISTRATION].runtime
    return answer(
        {"status": "ok", "version": __version__, "time": write_time(runtime.clock.now()), "mode": runtime.clock.mode.value}
    )


async def show_metrics(request: web.Request) -> web.Response:
    """GET /metrics, for Prometheus."""
    body = request.app[ADMINISTRATION].runtime.metrics.text()
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


# --- Faults --------------------------------------------------------------------------------------------------------------


async def list_faults(request: web.Request) -> web.Response:
    """GET /faults, and with `never_hit=true` only those that have struck nothing."""
    never_hit = read_bool(request.query, "never_hit", default=False)
    return answer({"faults": request.app[ADMINISTRATION].runtime.faults.to_json(never_hit=never_hit)})


async def set_fault(request: web.Request) -> web.Response:
    """POST /faults: a rule with its match, or a deed that is done at once."""
    here = request.app[ADMINISTRATION]
    match, action = read_rule(await _json(request))
    rule = here.runtime.faults.add(match, action)
    if match is None and isinstance(action, DEEDS):
        try:
            await here.deeds.at_once(rule, action)
        except Refusal:
            here.runtime.faults.remove(rule.number)
            raise
    return answer({"fault": here.runtime.faults.told(rule)}, 201)


async def show_fault(request: web.Request) -> web.Response:
    """GET /faults/{fault}."""
    return answer({"fault": _faults(request).told(_fault(request))})


async def delete_fault(request: web.Request) -> web.Response:
    """DELETE /faults/{fault}; what it did stays in the journal."""
    faults = _faults(request)
    return answer({"fault": faults.told(faults.remove(_fault(request).number))})


async def delete_faults(request: web.Request) -> web.Response:
    """DELETE /faults: all of them, as they were at the end."""
    faults = _faults(request)
    return answer({"faults": [faults.told(rule) for rule in faults.clear()]})


def _faults(request: web.Request) -> Faults:
    return request.app[ADMINISTRATION].runtime.faults


def _fault(request: web.Request) -> Rule:
    text, rules = request.match_info["fault"], request.app[ADMINISTRATION].runtime.faults.rules
    rule = rules.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if rule is None:
        raise Refusal(404, f"No fault {text}. In force: {', '.join(map(str, rules)) or 'none'}.")
    return rule


async def _json(request: web.Request) -> Any:
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise UsageError(f"The body is no JSON: {error}. No fault was set.") from None


# --- Journal and log -------------------------------------------------------------------------------------------------------


async def show_journal(request: web.Request) -> web.Response:
    """GET /journal: entries that agree with the query (see `Journal.find`)."""
    try:
        return answer({"entries": request.app[ADMINISTRATION].runtime.journal.find(request.query)})
    except ValueError as error:
        raise UsageError(f"The journal cannot be asked so: {error}.") from None


async def empty_journal(request: web.Request) -> web.Response:
    """DELETE /journal."""
    request.app[ADMINISTRATION].runtime.journal.forget()
    return answer({"entries": []})


async def show_log(request: web.Request) -> web.Response:
    """GET /log: the digest of everything that has happened, and how much that is."""
    runtime = request.app[ADMINISTRATION].runtime
    count = sum(account.last_id for account in runtime.engine.accounts.values())
    return answer({"digest": runtime.log.digest(), "transactions": count, "engineTime": write_time(runtime.engine.now)})


async def reset(request: web.Request) -> web.Response:
    """POST /reset: begin anew. Streams end; snapshots, forks, faults and the journal stay."""
    await read(request, _Nothing)
    return _put_back(request, None)


async def restore(request: web.Request) -> web.Response:
    """POST /restore: go back to a snapshot."""
    return _put_back(request, (await read(request, _Name)).name)


async def list_snapshots(request: web.Request) -> web.Response:
    """GET /snapshots."""
    return answer({"snapshots": request.app[ADMINISTRATION].runtime.setup.folder.snapshots()})


async def snapshot(request: web.Request) -> web.Response:
    """POST /snapshot: keep the log as it is under a name."""
    runtime, name = request.app[ADMINISTRATION].runtime, (await read(request, _Name)).name
    runtime.keep()
    return answer({"path": str(runtime.setup.folder.snapshot(runtime.log, name))}, 201)


async def fork(request: web.Request) -> web.Response:
    """POST /fork: a folder from which another simulator goes on (MBATS_SIMULATOR_DATA)."""
    runtime, name = request.app[ADMINISTRATION].runtime, (await read(request, _Name)).name
    runtime.keep()
    return answer({"data": str(runtime.setup.folder.fork(runtime.log, name))}, 201)


def _put_back(request: web.Request, name: str | None) -> web.Response:
    here = request.app[ADMINISTRATION]
    here.stepping.stop()
    here.runtime.reset(name)
    here.stepping.go_on()
    here.streams.look()
    here.runtime.journal.add("admin", action="reset" if name is None else "restore", snapshot=name)
    return answer({"engineTime": write_time(here.runtime.engine.now), "digest": here.runtime.log.digest()})


A = "/accounts/{account}"
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", show_page),
    ("GET", "/healthz", health),
    ("GET", "/metrics", show_metrics),
    ("GET", "/clock", time.show),
    ("POST", "/clock", time.set_mode),
    ("POST", "/clock/step", time.step),
    ("POST", "/clock/jump", time.jump),
    ("GET", "/faults", list_faults),
    ("POST", "/faults", set_fault),
    ("DELETE", "/faults", delete_faults),
    ("GET", "/faults/{fault}", show_fault),
    ("DELETE", "/faults/{fault}", delete_fault),
    ("GET", "/prices", exchange.show_prices),
    ("POST", "/price", exchange.set_price),
    ("GET", "/market", exchange.show_changes),
    ("POST", "/market", exchange.change_market),
    ("POST", "/halt", exchange.halt),
    ("POST", "/resume", exchange.resume),
    ("GET", "/accounts", exchange.list_accounts),
    ("GET", A, exchange.show_account),
    ("POST", f"{A}/transfer", exchange.transfer),
    ("POST", f"{A}/orders", exchange.order),
    ("POST", f"{A}/trades/{{trade}}/close", exchange.close_trade),
    ("POST", f"{A}/closeout", exchange.close_out),
    ("POST", f"{A}/reset_pl", exchange.reset_pl),
    ("POST", "/strip_on_fill", exchange.strip_on_fill),
    ("GET", "/journal", show_journal),
    ("DELETE", "/journal", empty_journal),
    ("GET", "/log", show_log),
    ("GET", "/snapshots", list_snapshots),
    ("POST", "/snapshot", snapshot),
    ("POST", "/restore", restore),
    ("POST", "/reset", reset),
    ("POST", "/fork", fork),
)

__all__ = ["Administration", "create_admin_app"]
