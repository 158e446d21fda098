"""The trading days of New York: what the broker's log of each comes to, added up as it comes, then compared (R34)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from mbats.live.gate.calendar import trading_day
from mbats.live.owner.account import Account
from mbats.oanda.transactions import Transaction
from mbats.riskdb.live_records import FillRecord, ReconciliationRecord

ZERO = Decimal(0)
DAY, DAYS = "day", "days to check"
PARTS = ("pl", "financing", "transferred", "charged")


class Days:
    """See the module. Used by the owner's thread alone; `add` and `add_fill` within the journal's write."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._day: dict[str, Any] = json.loads(account.journal.load(DAY) or "{}")
        self._days: list[dict[str, Any]] = json.loads(account.journal.load(DAYS) or "[]")  # over, and not compared yet

    def add(self, transaction: Transaction) -> None:
        """The sums of the trading day, from the broker's own log."""
        account = self._account
        day = trading_day(transaction.time or account.clock.now()).isoformat()
        if self._day.get("day") != day:
            self._end_day()
            opening = account.books.balance - _changed(transaction)
            self._day = {"day": day, "first": transaction.id, "opening": str(opening)}
        sums = self._day
        for name, amount in _sums(transaction).items():
            sums[name] = str(Decimal(sums.get(name, "0")) + amount)
        sums["last"] = transaction.id
        stated = transaction.body.get("accountBalance")
        sums["balance"] = str(stated) if stated is not None else sums.get("balance", sums["opening"])
        account.journal.save(DAY, json.dumps(sums))

    def add_fill(self, fill: FillRecord) -> None:
        """What the day's fills should come to in the risk database."""
        sums = self._day
        for name, amount in (("fills", Decimal(1)), ("fill_units", fill.units), ("fill_pnl", fill.pnl)):
            sums[name] = str(Decimal(sums.get(name, "0")) + amount)
        self._account.journal.save(DAY, json.dumps(sums))

    def turn(self, now: datetime) -> None:
        """The trading day is over though nothing has happened since."""
        if self._day and self._day["day"] < trading_day(now).isoformat():
            with self._account.journal.write():
                self._end_day()
                self._account.journal.forget(DAY)

    def _end_day(self) -> None:
        if self._day:
            self._days.append(self._day)
            self._account.journal.save(DAYS, json.dumps(self._days))
        self._day = {}

    def to_check(self) -> tuple[int, int] | None:
        """The first and last transaction of the oldest day that is over and was not compared with the broker's log yet."""
        return (self._days[0]["first"], self._days[0]["last"]) if self._days else None

    def check(self, theirs: Sequence[Transaction]) -> ReconciliationRecord:
        """Compare that day with the broker's log of it, read anew (R34); a difference is an alarm."""
        account, sums = self._account, self._days.pop(0)
        ours = {each.id: each for each in account.journal.transactions(since=sums["first"] - 1) if each.id <= sums["last"]}
        part: dict[str, Any] = {name: Decimal(sums.get(name, "0")) for name in PARTS}
        opening, stated = Decimal(sums["opening"]), Decimal(sums["balance"])
        booked = opening + sum(part.values(), ZERO)
        findings = [] if booked == stated else [f"The day's log adds up to {booked}, and the broker says {stated}."]
        findings += [finding for each in theirs if (finding := _altered(ours.get(each.id), each))]
        for name, amount in part.items():
            said = sum((_sums(each)[name] for each in theirs), ZERO)
            if said != amount:
                findings.append(f"'{name}' of the day is {amount} in the ledger, and {said} in the broker's log.")
        findings += account.books.check()
        at = account.clock.now()
        record = ReconciliationRecord(
            account_id=account.id,
            day=date.fromisoformat(sums["day"]),
            at=at,
            currency=account.currency,
            first_transaction=sums["first"],
            last_transaction=sums["last"],
            opening_balance=opening,
            **part,
            book_balance=booked,
            broker_balance=stated,
            findings=tuple(findings),
            detail={name: sums.get(name, "0") for name in ("fills", "fill_units", "fill_pnl")},
        )
        with account.journal.write():
            account.journal.save(DAYS, json.dumps(self._days))
            account.put(record)
            if findings:
                sentence = f"The day {sums['day']} of account {account.id} does not add up: {' '.join(findings)}"
                account.event(f"day {sums['day']} {at.isoformat()}", "mismatch", "critical", "day_differs", sentence)
        return record


def _altered(ours: Transaction | None, theirs: Transaction) -> str:
    """What the journal has otherwise than the broker's log in one transaction, in a sentence."""
    if ours is None:
        return f"Transaction {theirs.id} is not in the journal."
    names = sorted(name for name in ours.body.keys() | theirs.body.keys() if ours.body.get(name) != theirs.body.get(name))
    if not names and (ours.type, ours.time) == (theirs.type, theirs.time):
        return ""
    return f"Transaction {theirs.id} is another one in the journal: {', '.join(names) or 'type or time'} differ."


def _sums(transaction: Transaction) -> dict[str, Decimal]:
    body = transaction.body
    found = {"pl": _amount(body, "pl"), "financing": _amount(body, "financing")}
    if transaction.type == "TRANSFER_FUNDS":
        found["transferred"] = _amount(body, "amount")
    found.setdefault("transferred", ZERO)
    found["charged"] = -_amount(body, "commission") - _amount(body, "guaranteedExecutionFee")
    return found


def _changed(transaction: Transaction) -> Decimal:
    return sum(_sums(transaction).values(), ZERO)


def _amount(body: dict[str, Any], key: str) -> Decimal:
    try:
        return Decimal(str(body.get(key, "0") or "0"))
    except ArithmeticError:
        return ZERO
