"""The sample market: ECB rates with simulated intraday, for seven majors, since 2005, from a seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mbats.market import MAJORS, Granularity, Times
from mbats.simulator.anchors import build_anchors, build_timeline
from mbats.simulator.cache import LastUsed
from mbats.simulator.ecb import reference_rates
from mbats.simulator.instruments import listing
from mbats.simulator.params import market_params
from mbats.simulator.paths import Block, Paths
from mbats.simulator.prices import Candles, Ticks
from mbats.simulator.ticks import refine

BLOCKS_KEPT = 160  # a block of one pair takes about 0.2 MB
MINUTES_KEPT, FEW = 64, 3  # of single prices: whoever waits for a candle asks for the newest minutes again and again
MINUTE = np.timedelta64(60_000_000, "us")


class SampleMarket:
    """Minute bars made on demand, in blocks, and single prices inside them. The same seed gives the same market.

    Nothing depends on what was asked before, or on how much is asked at once. A day's prices do depend on the ECB's
    rates up to the next one; where the table ends the market walks on freely, and a newer table replaces that part.
    """

    description = "ECB rates with simulated intraday"
    instruments = MAJORS
    refines = True

    def __init__(self, seed: int) -> None:
        params, rates = market_params(), reference_rates()
        self.last_rate = rates.days[-1]
        self.listed = listing()
        self._seed = seed
        self._timeline = build_timeline(rates)
        self._paths = Paths(self._timeline, build_anchors(rates, self._timeline, params, seed), params, seed)
        self._blocks: LastUsed[tuple[str, int], Block] = LastUsed(BLOCKS_KEPT)
        self._single: LastUsed[tuple[str, int], Ticks] = LastUsed(MINUTES_KEPT)

    def base(self, instrument: str) -> Granularity:
        return Granularity.M1

    def first(self, instrument: str) -> np.datetime64:
        # The first rate is that of 2004's last day; the market opens with the week after it.
        first: np.datetime64 = self._timeline.opens[1]
        return first

    def bars(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Candles:
        """The minute bars that start in [start, end)."""
        return Candles.concatenate([_candles(times, minutes) for times, minutes in self._minutes(instrument, start, end)])

    def ticks(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        """The single prices that came in [start, end)."""
        whole = start.astype("datetime64[m]").astype("datetime64[us]")
        if end > whole + FEW * MINUTE:
            return self._refined(instrument, whole, end).between(start, end)
        minutes = (whole + MINUTE * number for number in range(FEW))
        return Ticks.concatenate([self._minute(instrument, each) for each in minutes if each < end]).between(start, end)

    def _minute(self, instrument: str, start: np.datetime64) -> Ticks:
        """All prices of one minute; refined alone they are what they are among others."""
        key = (instrument, int(start.astype(np.int64)))
        return self._single.get(key, lambda: self._refined(instrument, start, start + MINUTE))

    def _refined(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Ticks:
        """All prices of the minutes that start in [start, end)."""
        parts = [
            refine(self._seed, instrument, times, minutes.bid, minutes.spread, minutes.ticks)
            for times, minutes in self._minutes(instrument, start, end)
        ]
        return Ticks.concatenate(parts)

    def _minutes(self, instrument: str, start: np.datetime64, end: np.datetime64) -> Iterator[tuple[Times, Block]]:
        """The minutes with prices that start in [start, end), block by block, with their times."""
        bounds = self._paths.bounds
        first, stop = self._timeline.number(np.array([max(start, self.first(instrument)), end]))
        stop = min(stop, bounds[-1])
        if stop <= first:
            return
        blocks = range(int(np.searchsorted(bounds, first, "right")) - 1, int(np.searchsorted(bounds, stop)))
        for number in blocks:
            block = self._block(instrument, number)
            numbers = np.arange(max(first, block.start), min(stop, block.stop))
            numbers = numbers[block.ticks[numbers - block.start] > 0]
            rows = numbers - block.start
            yield (
                self._timeline.times(numbers),
                Block(block.start, block.stop, block.bid[:, rows], block.spread[rows], block.ticks[rows]),
            )

    def _block(self, instrument: str, number: int) -> Block:
        return self._blocks.get((instrument, number), lambda: self._paths.block(instrument, number))


def _candles(times: Times, minutes: Block) -> Candles:
    sides = np.stack([minutes.bid, minutes.bid + minutes.spread, 2 * minutes.bid + minutes.spread])
    return Candles(times, sides, minutes.ticks.astype(np.int64))
