"""Bars of the sample market, and bars with a planted signal, put into a securities master without a download."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mbats.database import Database
from mbats.market import Bars, Granularity
from mbats.secmaster.bars import upsert_bars
from mbats.secmaster.symbols import upsert_instruments
from mbats.settings import Settings
from mbats.simulator.alignment import OANDA, starts_between
from mbats.simulator.instruments import listing
from mbats.simulator.params import market_params
from mbats.simulator.prices import ASK, BID
from mbats.simulator.sample import SampleMarket

PAIRS = ("EUR_USD", "USD_JPY")
START, END = "2022-01-03", "2022-05-28"  # about 2,500 hours of each pair


def sample_bars(pair: str, start: str = START, end: str = END, granularity: Granularity = Granularity.H1) -> Bars:
    """Bars of the sample market that start in [start, end), UTC, as the simulator would send them."""
    first, last = np.datetime64(start, "us"), np.datetime64(end, "us")
    minutes = SampleMarket(Settings.model_fields["simulator_seed"].default).bars(pair, first, last)
    candles = minutes.aggregate(starts_between(granularity, first, last, OANDA))
    prices = candles.prices / 10 ** market_params().pairs[pair].decimals
    return Bars(candles.time, *prices[BID], *prices[ASK], candles.volume.astype(np.int64))


def store_sample_bars(db: Database, pairs: Iterable[str] = PAIRS, start: str = START, end: str = END) -> None:
    """Store the hours of these pairs in the securities master."""
    names = tuple(pairs)
    upsert_instruments(db, [listing()[name] for name in names])
    for name in names:
        upsert_bars(db, name, Granularity.H1, sample_bars(name, start, end), vendor="simulator")
