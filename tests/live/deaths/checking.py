"""What must be true when everything has come to rest, read from the exchange and from the file of the journal. Pure but for that.

The exchange's words are read as plain JSON, by nothing of the trader's, except that names of orders are taken apart by `ids`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from mbats.live.books import Books
from mbats.live.ids import read_client_id
from mbats.live.journal import IntentRow, IntentState, Journal

UNSETTLED = (IntentState.HELD, IntentState.DECIDED, IntentState.SENT, IntentState.UNKNOWN)
BELONGS = re.compile(r"\.(sl|ts|net)-?\d*$")  # a stop of a lot: its name behind the lot's


@dataclass
class Findings:
    """Sentences, by what they break."""

    duplicates: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    naked: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        return [f"{kind}: {text}" for kind in ("duplicates", "orphans", "naked", "differences") for text in getattr(self, kind)]


def check(journal: Path, details: dict[str, Any], log: list[dict[str, Any]], released: frozenset[str]) -> Findings:
    """Hold the journal of a trader that was killed to the account (`details`) and all its transactions (`log`, from the first).

    `released` are the deployments that gave up stops of their own.
    """
    opened = Journal.open(journal)
    try:
        text = opened.load("books")
        assert text is not None, "the journal holds no books"
        return _check(Books.from_json(text), opened.intents(), opened, details, log, released)
    finally:
        opened.close()


def _check(
    books: Books,
    rows: list[IntentRow],
    journal: Journal,
    details: dict[str, Any],
    log: list[dict[str, Any]],
    released: frozenset[str],
) -> Findings:
    found = Findings()
    found.duplicates += _filled_twice(log) + _closed_twice(rows, log)
    found.orphans += _unowned(books, rows, details) + _unsettled(rows, details)
    found.naked += _uncovered(books, rows, details, released) + _opened_by_exits(books, rows, log)
    found.differences += _unequal(books, details) + _log_differs(journal, books, log) + _wrong_states(rows, log)
    return found


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("clientExtensions", {}).get("id", ""))


# --- No order twice ----------------------------------------------------------------------------------------------------------


def _filled_twice(log: list[dict[str, Any]]) -> list[str]:
    """A name of ours under which more than one order was filled, or one order twice."""
    names = {each["id"]: _name(each) for each in log if each["type"].endswith("_ORDER")}
    fills = Counter(names[each["orderID"]] for each in log if each["type"] == "ORDER_FILL" and names.get(each["orderID"]))
    return [f"{name} was filled {count} times" for name, count in fills.items() if count > 1]


def _closed_twice(rows: list[IntentRow], log: list[dict[str, Any]]) -> list[str]:
    """Closes of trades carry no name: each that was filled must be one that is in the journal as filled, and the reverse."""
    closes = {each["id"]: each["tradeClose"] for each in log if each["type"] == "MARKET_ORDER" and "tradeClose" in each}
    done: dict[str, list[str]] = defaultdict(list)
    for each in log:
        if each["type"] == "ORDER_FILL" and each["orderID"] in closes:
            close = closes[each["orderID"]]
            done[close["tradeID"]].append(str(close["units"]))
    meant: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.action == "close_trade" and row.state is IntentState.FILLED:
            meant[str(row.target_id)].append(str(row.body["units"]))
    return [
        f"trade {trade} was closed by {sorted(done[trade])} units, and {sorted(meant[trade])} were asked for"
        for trade in sorted(done.keys() | meant.keys())
        if sorted(done[trade]) != sorted(meant[trade])
    ]


# --- Nothing that nobody owns ------------------------------------------------------------------------------------------------


def _unowned(books: Books, rows: list[IntentRow], details: dict[str, Any]) -> list[str]:
    found = []
    open_rows = {row.client_id: row for row in rows if row.state is IntentState.WORKING}
    lots = {lot.id: lot for lot in books.lots if lot.deployment}
    for trade in details["trades"]:
        if read_client_id(_name(trade)) is None:
            found.append(f"trade {trade['id']} carries no name of ours: {_name(trade)!r}")
        if int(trade["id"]) not in books.trades:
            found.append(f"trade {trade['id']} is not in the books")
    for order in details["orders"]:
        name = _name(order)
        if "tradeID" in order:
            if order["type"] != "TAKE_PROFIT" and BELONGS.sub("", name) not in lots:
                found.append(f"{order['type']} {order['id']} on trade {order['tradeID']} is for no lot: {name!r}")
        elif BELONGS.search(name):
            if BELONGS.sub("", name) not in lots:
                found.append(f"{order['type']} {order['id']} is the stop of a lot that is gone: {name}")
        elif name not in open_rows or open_rows[name].order_id != int(order["id"]):
            found.append(f"{order['type']} {order['id']} stands and no intent does: {name!r}")
    return found


def _unsettled(rows: list[IntentRow], details: dict[str, Any]) -> list[str]:
    standing = {int(order["id"]) for order in details["orders"]}
    found = [f"{row.client_id} is {row.state}: {row.detail}" for row in rows if row.state in UNSETTLED]
    working = [row for row in rows if row.state is IntentState.WORKING]
    return found + [f"{row.client_id} is WORKING and does not stand" for row in working if row.order_id not in standing]


# --- Nothing without its stop ------------------------------------------------------------------------------------------------


def _uncovered(books: Books, rows: list[IntentRow], details: dict[str, Any], released: frozenset[str]) -> list[str]:
    """Units that stops at the broker stand for, by lot, against what each lot must have; neither fewer nor more."""
    units = {trade["id"]: Decimal(trade["currentUnits"]) for trade in details["trades"]}
    covered: dict[str, Decimal] = defaultdict(Decimal)
    for order in details["orders"]:
        name = _name(order)
        if order["type"] in ("STOP_LOSS", "TRAILING_STOP_LOSS"):
            covered[BELONGS.sub("", name)] += units[order["tradeID"]]
        elif order["type"] == "STOP" and BELONGS.search(name):
            covered[BELONGS.sub("", name)] -= Decimal(order["units"])
    asked = {row.client_id: row for row in rows}
    found = []
    for lot in books.lots:
        must = lot.stop is not None or lot.trail is not None
        if lot.deployment and covered[lot.id] != (lot.units if must else 0):
            found.append(
                f"{lot.id} holds {lot.units}, stops for {covered[lot.id]} stand, wanted: {lot.stop}, trailing {lot.trail}"
            )
        row = asked.get(lot.id)
        if row is None and lot.deployment:
            found.append(f"{lot.id} is a lot that no intent opened")
        elif row is not None and not must and (row.stop, row.trail) != (None, None) and lot.deployment not in released:
            found.append(f"{lot.id} was wanted with a stop, and the books have forgotten it")
    return found


def _opened_by_exits(books: Books, rows: list[IntentRow], log: list[dict[str, Any]]) -> list[str]:
    """Positions that were opened by what was to leave one: one exit too many.

    It may happen when an order of the same deployment that waited at the broker dealt just before, and nobody could know.
    """
    orders = {each["id"]: each for each in log if each["type"].endswith("_ORDER")}
    of_row = {str(row.order_id): row.deployment for row in rows}
    dealt: list[tuple[str, str, str, str]] = []
    for each in log:
        if each["type"] == "ORDER_FILL":
            order = orders[each["orderID"]]
            intent = read_client_id(_name(order))
            owner = intent.deployment if intent is not None else of_row.get(each["orderID"], "")
            dealt.append((owner, each["instrument"], order["type"], _name(order)))
    exits = {row.client_id: row for row in rows if row.reduce_only}
    found = []
    for lot in [each for each in books.lots if each.id in exits]:
        own = [kind_and_name for owner, symbol, *kind_and_name in dealt if (owner, symbol) == (lot.deployment, lot.symbol)]
        place = next(number for number, (_, name) in enumerate(own) if name == lot.id)
        if place == 0 or own[place - 1][0] == "MARKET_ORDER" or not exits[lot.id].session:
            found.append(f"{lot.id} was to leave a position, and opened one of {lot.units}")
    return found


# --- The same money and the same units ---------------------------------------------------------------------------------------


def _unequal(books: Books, details: dict[str, Any]) -> list[str]:
    found = list(books.check())
    there: dict[str, Decimal] = defaultdict(Decimal)
    for trade in details["trades"]:
        there[trade["instrument"]] += Decimal(trade["currentUnits"])
    here: dict[str, Decimal] = defaultdict(Decimal)
    for (owner, symbol), units in books.positions().items():
        here[symbol] += units
        if not owner and units:
            found.append(f"{units} {symbol} are booked as nobody's, and nobody else trades here")
    for symbol in sorted(there.keys() | here.keys()):
        if there[symbol] != here[symbol]:
            found.append(f"{symbol}: the ledgers hold {here[symbol]}, the broker {there[symbol]}")
    if books.balance != Decimal(details["balance"]):
        found.append(f"the balance is {books.balance} in the ledger, {details['balance']} at the broker")
    return found


def _log_differs(journal: Journal, books: Books, log: list[dict[str, Any]]) -> list[str]:
    """The journal's own log: without a gap, and the exchange's to the word."""
    kept = journal.transactions()
    numbers = [each.id for each in kept]
    found = []
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        found.append(f"the journal's log has a gap: {numbers}")
    theirs = {int(each["id"]): each["type"] for each in log}
    if numbers and [each.type for each in kept] != [theirs.get(number) for number in numbers]:
        found.append("the journal's log is not the exchange's")
    last = max(theirs)
    if books.last_id != last or (numbers and numbers[-1] != last):
        found.append(f"the books end at {books.last_id}, the log at {numbers[-1:]}, the exchange at {last}")
    return found


def _wrong_states(rows: list[IntentRow], log: list[dict[str, Any]]) -> list[str]:
    """An intent that is filled in the journal and not in the log, or the reverse. A stop that was moved is still the same one."""
    names: dict[str, str] = {}
    for each in log:
        if each["type"].endswith("_ORDER"):
            names[each["id"]] = names.get(each.get("replacesOrderID", ""), "") or _name(each)
    filled = {names.get(each["orderID"]) for each in log if each["type"] == "ORDER_FILL"}
    found = []
    for row in rows:
        if row.action != "close_trade" and (row.state is IntentState.FILLED) != (row.client_id in filled):
            found.append(f"{row.client_id} is {row.state} in the journal and {'' if row.client_id in filled else 'not '}filled")
    return found
