"""How many prices a second the exchange matches against 100 pending orders, in one process, beside the least that was promised.

`.venv/bin/python benchmarks/simulator_core.py`. Needs no service. Ends with 1 when a promise is not kept. The market is the
sample market, all seven pairs; its prices are made within the time that is measured. Of several tries the best counts, since
whatever else a machine does can only make it slower. Matching every single price, without the skip, is measured beside it.
"""

from __future__ import annotations

import gc
import sys
import time
from decimal import Decimal
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

from mbats.simulator.core import matching
from mbats.simulator.core.engine import Engine
from mbats.simulator.core.scan import Scan
from mbats.simulator.core.values import AccountConfig
from mbats.simulator.market import Market
from mbats.simulator.sample import SampleMarket

TRIES = 5
PROMISED = 200_000  # prices a second
ORDERS = 100
START = np.datetime64("2024-03-05T07:00", "us")
DAY, MINUTES = np.timedelta64(12, "h"), np.timedelta64(10, "m")
FAR, NEAR = (300, 40), (10, 4)  # points: where the orders of a pair begin, and how far apart they are


class EveryPrice(Scan):
    """No skip: each price is looked at by the exact code."""

    def next(self, at: int) -> int | None:
        return at if at < self._rows else None


def place(engine: Engine, account: str, first: int, apart: int) -> None:
    """A hundred pending orders over all pairs, of all entry types, with a bracket and a trailing stop for what they open."""
    names = list(engine.market.instruments)
    for number in range(ORDERS):
        quote = engine.quote(names[number % len(names)])
        assert quote is not None
        point = Decimal(1).scaleb(-quote.instrument.display_precision)
        away = (first + apart * number) * point
        kind, buys = ("LIMIT", "STOP", "MARKET_IF_TOUCHED")[number % 3], number % 2 == 0
        below = buys == (kind != "STOP")
        price = (quote.ask if buys else quote.bid) - away if below else (quote.ask if buys else quote.bid) + away
        sign = 1 if buys else -1
        order = {
            "type": kind,
            "instrument": quote.instrument.name,
            "units": str(sign * 100),
            "price": str(price),
            "takeProfitOnFill": {"price": str(price + sign * 200 * point)},
            "stopLossOnFill": {"price": str(price - sign * 200 * point)},
            "trailingStopLossOnFill": {"distance": str(100 * point)},
        }
        reply = engine.create_order(account, {"order": order})
        assert "orderCancelTransaction" not in reply.body, reply.body


def matched(span: np.timedelta64, grid: tuple[int, int], scan: type[Scan]) -> tuple[float, int, int]:
    """Prices a second, how many there were, and how many orders filled, in the fastest try."""
    best, prices, fills = float("inf"), 0, 0
    for _ in range(TRIES):
        engine = Engine(Market(SampleMarket(1)), [config := AccountConfig()])
        engine.start(START)
        place(engine, config.id, *grid)
        engine.take()
        with patch.object(matching, "Scan", scan):
            began = time.perf_counter()
            engine.advance(START + span)
            best = min(best, time.perf_counter() - began)
        fills = sum(each["type"] == "ORDER_FILL" for each in engine.take())
        prices = sum(len(batch) for batch in engine.market.ticks(list(engine.market.instruments), START, START + span))
    return prices / best, prices, fills


def main() -> int:
    gc.collect()
    gc.freeze()  # as the simulator does when it starts
    rows = (
        ("twelve hours, orders far away", PROMISED, matched(DAY, FAR, Scan)),
        ("twelve hours, orders close by", PROMISED, matched(DAY, NEAR, Scan)),
        ("ten minutes, every price looked at", None, matched(MINUTES, FAR, EveryPrice)),
    )
    table = Table(f"{ORDERS} pending orders", "prices", "fills", "prices/s", "at least", "kept")
    for what, least, (speed, prices, fills) in rows:
        kept = "" if least is None else "yes" if speed >= least else "NO"
        table.add_row(what, f"{prices:,}", f"{fills:,}", f"{speed:,.0f}", "" if least is None else f"{least:,}", kept)
    Console().print(table)
    return 0 if all(least is None or speed >= least for _, least, (speed, *_) in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
