"""An exchange without HTTP, whose every price is set by the test."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from mbats.simulator.core.account import Account
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.execution import EngineOptions
from mbats.simulator.core.placing import Reply
from mbats.simulator.core.times import write_time
from mbats.simulator.core.values import AccountConfig, Transaction
from mbats.simulator.instruments import listing
from mbats.simulator.market import Market
from mbats.simulator.scripted import ScriptedSource

ACCOUNT = "101-004-1435156-001"
TUESDAY = np.datetime64("2024-03-05T12:00:00", "us")  # an ordinary open hour
SECOND = np.timedelta64(1, "s")


class Simulated:
    """One account on an exchange of scripted prices; time moves by a second with each price."""

    def __init__(
        self,
        start: np.datetime64 = TUESDAY,
        options: EngineOptions | None = None,
        instruments: Iterable[str] = ("EUR_USD", "USD_JPY", "GBP_USD"),
        **config: Any,
    ) -> None:
        listed = {name: listing()[name] for name in instruments}
        self.market = Market(ScriptedSource(listed))
        self.engine = Engine(self.market, [replace(AccountConfig(id=ACCOUNT), **config)], options)
        self.engine.start(start)

    @property
    def account(self) -> Account:
        return self.engine.accounts[ACCOUNT]

    @property
    def balance(self) -> Decimal:
        return self.account.balance

    def price(self, instrument: str, bid: str, ask: str, **more: Any) -> list[Transaction]:
        """A price comes, and a second passes; the transactions that it brought about."""
        self.change("tick", instrument=instrument, bid=bid, ask=ask, **more)
        return self.wait(SECOND)

    def change(self, change: str, **more: Any) -> None:
        self.market.apply({"change": change, "time": write_time(self.engine.now), **more})
        self.engine.forget_prices()

    def wait(self, span: np.timedelta64) -> list[Transaction]:
        self.engine.take()
        self.engine.advance(self.engine.now + span)
        return self.engine.take()

    def until(self, moment: str) -> list[Transaction]:
        return self.wait(np.datetime64(moment, "us") - self.engine.now)

    def order(self, units: int | str, instrument: str = "EUR_USD", type: str = "MARKET", **more: Any) -> Reply:
        """Ask for an order; what is not said is left out of the body."""
        body = {"type": type, "instrument": instrument, "units": str(units)} | more
        return self.engine.create_order(ACCOUNT, {"order": body})


def types(transactions: Iterable[Transaction]) -> list[str]:
    """What happened, in short: the type, with the reason of a fill, a cancellation or a rejection."""
    return [" ".join(filter(None, (each["type"], each.get("rejectReason") or _why(each)))) for each in transactions]


def _why(transaction: Transaction) -> str:
    return transaction.get("reason", "") if transaction["type"] in ("ORDER_FILL", "ORDER_CANCEL") else ""
