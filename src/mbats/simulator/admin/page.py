"""The page of the admin port: accounts, prices, orders, trades, faults and the last requests, at a glance. It refreshes itself.

Everything that is shown is escaped, and the page may load nothing from anywhere: what a client calls its order stays a text.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from html import escape
from importlib.resources import files
from typing import Any

import orjson
from aiohttp import web

from mbats import __version__
from mbats.simulator.account_wire import summary_body
from mbats.simulator.admin.administration import ADMINISTRATION, Administration
from mbats.simulator.core.numbers import price_text, units_text
from mbats.simulator.core.times import write_time
from mbats.simulator.quotes import Quote

REQUESTS = 12  # of the last ones that are shown
Cell = str | tuple[str, str]  # a text, or a text and the class of its cell


async def show_page(request: web.Request) -> web.Response:
    """GET /, and with `part=main` only what changes: the page asks for that itself."""
    body = _body(request.app[ADMINISTRATION])
    if request.query.get("part") == "main":
        return web.Response(
            text=body, content_type="text/html", headers={"Content-Security-Policy": "default-src 'none'; sandbox"}
        )
    nonce = secrets.token_urlsafe(16)
    template = files("mbats.simulator.admin").joinpath("page.html").read_text("utf-8")
    page = template.replace("{{nonce}}", nonce).replace("{{body}}", body)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return web.Response(
        text=page, content_type="text/html", headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    )


def _body(here: Administration) -> str:
    return "".join(
        (
            _header(here),
            _section("Accounts", ACCOUNTS, _accounts(here), "No accounts."),
            _section("Prices", PRICES, _prices(here), "No price has come yet."),
            _section("Pending orders", ORDERS, _orders(here), "No order is pending."),
            _section("Open trades", TRADES, _trades(here), "No trade is open."),
            _section("Active faults", FAULTS, _faults(here), "No fault is in force: clients see the exchange as it is."),
            _section("Last requests", JOURNAL, _requests(here), "No client has asked for anything yet."),
        )
    )


def _header(here: Administration) -> str:
    runtime = here.runtime
    moment = write_time(runtime.clock.now())
    speed = f" x {runtime.clock.speed:g} times as fast" if runtime.clock.mode.value == "accelerated" else ""
    facts = (
        ("Clock", f"{runtime.clock.mode.value}{speed}"),
        ("Prices", runtime.market.source.description),
        ("Open streams", str(len(here.streams.streams))),
        ("Version", __version__),
    )
    said = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    time = f"<time>{escape(moment[:10])} <b>{escape(moment[11:19])}</b> UTC</time>"
    return f'<header><h1>OANDA v20 simulator</h1><p class="time">{time}</p><dl>{said}</dl></header>'


ACCOUNTS = (
    "Account",
    "Alias",
    "Currency",
    "Balance",
    "NAV",
    "Unrealized",
    "Margin used",
    "Available",
    "Closeout",
    "Trades",
    "Orders",
)
PRICES = ("Instrument", "Bid", "Ask", "Pips", "Time", "Market")
ORDERS = ("Account", "Order", "Type", "Instrument", "Units", "Price", "Until", "Client id")
TRADES = ("Account", "Trade", "Instrument", "Units", "Price", "Unrealized", "Opened", "Client id")
FAULTS = ("Fault", "Does", "Matches", "Seen", "Hits")
JOURNAL = ("Time", "Request", "Status", "Outcome", "ms", "Faults")


def _accounts(here: Administration) -> Iterable[Sequence[Cell]]:
    for name in here.runtime.engine.accounts:
        body = summary_body(here.standing(name))
        percent = f"{Decimal(body['marginCloseoutPercent']) * 100:.1f} %"
        yield (
            name,
            body["alias"],
            body["currency"],
            *(_number(body[key]) for key in ("balance", "NAV", "unrealizedPL", "marginUsed", "marginAvailable")),
            (percent, "number bad" if body.get("marginCallEnterTime") else "number"),
            (str(body["openTradeCount"]), "number"),
            (str(body["pendingOrderCount"]), "number"),
        )


def _prices(here: Administration) -> Iterable[Sequence[Cell]]:
    engine = here.runtime.engine
    for name in engine.market.instruments:
        quote = engine.quote(name)
        if quote is not None:
            yield _price(name, quote)


def _price(name: str, quote: Quote) -> Sequence[Cell]:
    state = ("open", "badge good") if quote.tradeable else ("closed", "badge")
    if quote.tradeable and not (quote.bids and quote.asks):
        state = ("empty book", "badge bad")
    pips = (quote.ask - quote.bid) / quote.instrument.pip
    bid, ask = price_text(quote.bid, quote.instrument), price_text(quote.ask, quote.instrument)
    return name, (bid, "number strong"), (ask, "number strong"), (f"{pips:.1f}", "number"), _when(write_time(quote.time)), state


def _orders(here: Administration) -> Iterable[Sequence[Cell]]:
    for name, account in here.runtime.engine.accounts.items():
        for order in account.pending.values():
            instrument = here.runtime.market.instruments[order.instrument]
            price = order.price if order.trail is None else order.trail
            until = (
                order.time_in_force
                if order.valid_until is None
                else f"{order.time_in_force} {_when(write_time(order.valid_until))}"
            )
            yield (
                name,
                (str(order.id), "number"),
                order.type.value,
                order.instrument,
                (units_text(order.units) if order.units else f"of trade {order.trade_id}", "number"),
                ("" if price is None else price_text(price, instrument), "number"),
                until,
                order.extensions.get("id", ""),
            )


def _trades(here: Administration) -> Iterable[Sequence[Cell]]:
    for name, account in here.runtime.engine.accounts.items():
        worth = here.standing(name).worth
        for trade in account.open.values():
            instrument = here.runtime.market.instruments[trade.instrument]
            yield (
                name,
                (str(trade.id), "number"),
                trade.instrument,
                (units_text(trade.units), "number"),
                (price_text(trade.price, instrument), "number"),
                _number(f"{worth.trades[trade.id].unrealized_pl:.4f}") if trade.id in worth.trades else "",
                _when(trade.opened),
                trade.extensions.get("id", ""),
            )


def _faults(here: Administration) -> Iterable[Sequence[Cell]]:
    faults = here.runtime.faults
    for rule in faults.active():
        told = faults.told(rule)
        details = {key: value for key, value in told["action"].items() if key != "do" and value is not None}
        yield (
            (told["id"], "number"),
            f"{told['action']['do']} {_words(details)}",
            "when the process comes there" if told["match"] is None else _words(told["match"]) or "every request",
            (str(rule.seen), "number"),
            (str(rule.hits), "number strong" if rule.hits else "number"),
        )
    if here.runtime.strip_on_fill:
        yield "", "strip_on_fill", "every order", "", ""


def _requests(here: Administration) -> Iterable[Sequence[Cell]]:
    for entry in reversed(here.runtime.journal.find({"kind": "request", "limit": str(REQUESTS)})):
        told = entry["told"]
        kind = "number good" if told and told < 400 else "number bad"
        yield (
            _when(entry["time"]),
            f"{entry['method']} {entry['path']}",
            ("—" if told is None else str(told), kind),
            entry["outcome"],
            (f"{entry['milliseconds']:.1f}", "number"),
            ", ".join(entry["faults"]),
        )


# --- HTML ------------------------------------------------------------------------------------------------------------------


def _section(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], nothing: str) -> str:
    found = list(rows)
    name = escape(title)
    if not found:
        return f"<section><h2>{name}</h2><p>{escape(nothing)}</p></section>"
    # A heading stands where its cells do.
    kinds = ["number" if isinstance(cell, tuple) and cell[1].startswith("number") else "" for cell in found[0]]
    head = "".join(f'<th class="{kind}">{escape(column)}</th>' for column, kind in zip(columns, kinds, strict=True))
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in found)
    count = f" <small>{len(found)}</small>"
    return (
        f"<section><h2>{name}{count}</h2><div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _cell(cell: Cell) -> str:
    text, kind = cell if isinstance(cell, tuple) else (cell, "")
    if kind.startswith("badge"):
        return f'<td><span class="{kind}">{escape(text)}</span></td>'
    return f'<td class="{kind}">{escape(text)}</td>'


def _number(text: str) -> Cell:
    """An amount with two decimals and its thousands apart."""
    amount = Decimal(text)
    return f"{amount:,.2f}", "number bad" if amount < 0 else "number"


def _when(time: str) -> str:
    return f"{time[5:10]} {time[11:19]}"


def _words(details: Mapping[str, Any]) -> str:
    """Keys and values as one reads them: `method PUT, nth 3`."""
    return ", ".join(
        f"{key} {value if isinstance(value, str) else orjson.dumps(value).decode()}" for key, value in details.items()
    )
