"""How fast the parts of the research loop are: measured now, beside the least that was promised of each.

`make bench`, or `.venv/bin/python benchmarks/research_loop.py`. Needs no service. Ends with 1 when a promise is not kept. Of
several tries the best counts, since whatever else a machine does can only make it slower.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
from rich.console import Console
from rich.table import Table

from mbats.market import to_us
from mbats.oanda.parse import parse_candles
from mbats.simulator.market import Market
from mbats.simulator.queries import read_candle_query
from mbats.simulator.sample import SampleMarket
from mbats.simulator.wire import TimeFormat, candles_body, encode

TRIES = 5
YEAR = np.datetime64("2023-01-01T00:00:00", "us"), np.datetime64("2024-01-01T00:00:00", "us")
NOW = datetime(2024, 5, 16, 9, 31, 17, tzinfo=UTC)
PAGE = {"granularity": "M1", "count": "5000", "price": "BA", "to": "2024-05-10T12:00:00Z"}


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest try."""
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> int:
    market = Market(SampleMarket(1))
    listed, now = market.instruments["EUR_USD"], to_us(NOW)
    gc.collect()
    gc.freeze()  # as the simulator does when it starts

    def page() -> bytes:
        asked = read_candle_query(listed.name, PAGE, now)
        found, complete = market.candles.select(asked, now)
        return encode(candles_body(listed, asked.granularity, asked.sides, found, complete, TimeFormat.RFC3339))

    payload = json.loads(page())
    rows = (
        ("one year of minutes for one pair, generated", 1.0, best(lambda: SampleMarket(1).bars("USD_CHF", *YEAR))),
        ("5,000 candles with bid and ask, as JSON", 0.060, best(page)),
        ("5,000 candles, read by the client", 0.100, best(lambda: parse_candles(payload))),
    )
    table = Table("what", "seconds", "at most", "ratio", "kept")
    for what, limit, seconds in rows:
        table.add_row(what, f"{seconds:.3f}", f"{limit:.3f}", f"{limit / seconds:.1f}", "yes" if seconds <= limit else "NO")
    Console().print(table)
    return 0 if all(seconds <= limit for _, limit, seconds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
