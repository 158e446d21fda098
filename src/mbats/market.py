"""What every part knows of the market: granularities, instruments, bars, and when FX trades.

Times are UTC; a trading day runs from 17:00 to 17:00 New York, and is named by the date on which it ends.
Vectors of times are numpy `datetime64[us]` in UTC without a zone, intervals are half-open.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from mbats.errors import BadBar

if TYPE_CHECKING:
    import pandas as pd  # half a second, which a command that halts must not wait for: functions import it where they need it

NEW_YORK = ZoneInfo("America/New_York")
Times = NDArray[np.datetime64]
Floats = NDArray[np.float64]

# The seven pairs that the 2020 system and the sample market follow.
MAJORS = ("EUR_USD", "GBP_USD", "USD_JPY", "AUD_USD", "NZD_USD", "USD_CAD", "USD_CHF")


class Granularity(StrEnum):
    """The candlestick lengths of OANDA v20; there is no M3."""

    S5 = "S5"
    S10 = "S10"
    S15 = "S15"
    S30 = "S30"
    M1 = "M1"
    M2 = "M2"
    M4 = "M4"
    M5 = "M5"
    M10 = "M10"
    M15 = "M15"
    M30 = "M30"
    H1 = "H1"
    H2 = "H2"
    H3 = "H3"
    H4 = "H4"
    H6 = "H6"
    H8 = "H8"
    H12 = "H12"
    D = "D"
    W = "W"
    M = "M"

    @property
    def length(self) -> timedelta:
        """Nominal length: a day may have 23 or 25 hours, and a month is counted as 31 days."""
        return _length(self.value)

    @property
    def day_aligned(self) -> bool:
        """Whether bars are counted from 17:00 New York, so that they move with US daylight saving."""
        return self.length > timedelta(hours=1)


@cache
def _length(name: str) -> timedelta:
    if name in ("D", "W", "M"):
        return timedelta(days={"D": 1, "W": 7, "M": 31}[name])
    unit = {"S": "seconds", "M": "minutes", "H": "hours"}[name[0]]
    return timedelta(**{unit: int(name[1:])})


@dataclass(frozen=True, slots=True)
class Instrument:
    """What the broker says of one pair. Rates are annual fractions; units are whole for FX.

    `financing_days` holds, Monday first, for how many days financing is charged at 17:00 New York of that weekday.
    """

    name: str
    display_name: str
    type: str
    pip_location: int
    display_precision: int
    units_precision: int
    minimum_units: Decimal
    maximum_units: Decimal
    margin_rate: Decimal
    long_rate: Decimal
    short_rate: Decimal
    financing_days: tuple[int, int, int, int, int, int, int]

    def to_json(self) -> dict[str, Any]:
        """As plain values, decimals as texts, so that nothing is lost on the way through JSON."""
        values = asdict(self)
        return {name: str(value) if isinstance(value, Decimal) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Instrument:
        """The reverse of `to_json`."""
        decimals = {f.name for f in fields(cls) if f.type == "Decimal"}
        read: dict[str, Any] = {name: Decimal(value) if name in decimals else value for name, value in values.items()}
        read["financing_days"] = tuple(read["financing_days"])
        return cls(**read)

    @property
    def base(self) -> str:
        return self.name.split("_")[0]

    @property
    def quote(self) -> str:
        return self.name.split("_")[1]

    @property
    def pip(self) -> Decimal:
        """One pip in the price, exact: 0.0001 for EUR_USD."""
        return Decimal(1).scaleb(self.pip_location)


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one symbol and granularity as columns of one length, oldest first, each time once.

    `time` is the bar's start. Prices are the bid's and the ask's own open, high, low and close. `volume` is the
    number of prices that came, not traded units.
    """

    time: Times
    bid_open: Floats
    bid_high: Floats
    bid_low: Floats
    bid_close: Floats
    ask_open: Floats
    ask_high: Floats
    ask_low: Floats
    ask_close: Floats
    volume: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, index: Any) -> Bars:
        """The bars that a slice, a mask or an array of positions selects."""
        return Bars(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def mid_open(self) -> Floats:
        return (self.bid_open + self.ask_open) / 2

    @property
    def mid_high(self) -> Floats:
        return (self.bid_high + self.ask_high) / 2

    @property
    def mid_low(self) -> Floats:
        return (self.bid_low + self.ask_low) / 2

    @property
    def mid_close(self) -> Floats:
        return (self.bid_close + self.ask_close) / 2

    @classmethod
    def empty(cls) -> Bars:
        """No bars, with the right types."""
        return cls.from_mid([], [], [], [], [], [])

    @classmethod
    def concatenate(cls, parts: list[Bars]) -> Bars:
        """One after the other; the caller sees to it that they follow in time."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    @classmethod
    def from_mid(cls, time: Any, open_: Any, high: Any, low: Any, close: Any, volume: Any, *, spread: float = 0.0) -> Bars:
        """Bars around mid prices, with the same spread (price units) everywhere."""
        half = spread / 2
        mid = [np.asarray(column, np.float64) for column in (open_, high, low, close)]
        columns: list[Any] = [np.asarray(time, "datetime64[us]")]
        columns += [column - half for column in mid] + [column + half for column in mid]
        columns.append(np.asarray(volume, np.int64))
        return cls(*columns)

    def without_spread(self) -> Bars:
        """The same bars with bid and ask both at mid, for comparison with engines that know no spread."""
        mid: list[Any] = [self.mid_open, self.mid_high, self.mid_low, self.mid_close]
        columns: list[Any] = [self.time, *mid, *mid, self.volume]
        return Bars(*columns)

    def fingerprint(self) -> str:
        """SHA-256 over every value of every column, in order: equal fingerprints mean equal bars."""
        digest = hashlib.sha256()
        for field in fields(self):
            column = getattr(self, field.name)
            kind = {"time": "<M8[us]", "volume": "<i8"}.get(field.name, "<f8")
            digest.update(np.ascontiguousarray(column.astype(kind)).tobytes())
        return digest.hexdigest()

    def check(self, symbol: str, granularity: str) -> None:
        """Raise BadBar on the first bar that contradicts itself, or that is not after the one before it."""
        rules = (
            ("time is not after the bar before it", np.r_[False, np.diff(self.time) <= np.timedelta64(0, "us")]),
            ("a price is not a positive number", ~self._all_positive()),
            ("bid high is below bid low, open or close", self._high_below("bid")),
            ("ask high is below ask low, open or close", self._high_below("ask")),
            ("bid low is above bid open or close", self._low_above("bid")),
            ("ask low is above ask open or close", self._low_above("ask")),
            ("ask is below bid at the open or the close", (self.ask_open < self.bid_open) | (self.ask_close < self.bid_close)),
            ("volume is negative", self.volume < 0),
        )
        for rule, broken in rules:
            if broken.any():
                i = int(np.argmax(broken))
                prices = " ".join(f"{f.name}={getattr(self, f.name)[i]}" for f in fields(self) if f.name != "time")
                raise BadBar(
                    f"{symbol} {granularity} {self.time[i]}Z: {rule} ({prices}); no bar of this batch was stored.",
                    symbol=symbol,
                    granularity=str(granularity),
                    time=self.time[i],
                )

    def _all_positive(self) -> NDArray[np.bool_]:
        prices = np.stack([getattr(self, f.name) for f in fields(self) if f.name not in ("time", "volume")])
        return np.asarray((np.isfinite(prices) & (prices > 0)).all(axis=0))

    def _high_below(self, side: str) -> NDArray[np.bool_]:
        high = getattr(self, f"{side}_high")
        return np.asarray(high < np.maximum.reduce([getattr(self, f"{side}_{p}") for p in ("low", "open", "close")]))

    def _low_above(self, side: str) -> NDArray[np.bool_]:
        low = getattr(self, f"{side}_low")
        return np.asarray(low > np.minimum.reduce([getattr(self, f"{side}_{p}") for p in ("open", "close")]))


def parse_utc(text: str) -> datetime:
    """Read a date or time in ISO form; one without a zone is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def to_us(moment: datetime) -> np.datetime64:
    """A moment with a zone, as UTC `datetime64[us]`."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def to_datetime(moment: np.datetime64) -> datetime:
    """The reverse of `to_us`: a datetime in UTC."""
    naive: datetime = moment.astype("datetime64[us]").item()
    return naive.replace(tzinfo=UTC)


# --- The trading day and the FX calendar -------------------------------------------------------------------------

ONE_DAY = np.timedelta64(1, "D")
SESSION_OPEN = timedelta(minutes=4)  # after 17:00 New York: the first minute of a trading day that has prices
# Since Christmas 2012 the market is shut on 25 December and 1 January, or on the Monday after when that is a Sunday.
# Read off ten years of daily candles of seven pairs; 2023 is the one exception to the Monday rule.
HOLIDAYS_SINCE = date(2012, 12, 25)
NO_HOLIDAY = frozenset({date(2023, 1, 2)})


def new_york(times: Times) -> pd.DatetimeIndex:
    """The New York wall clock at these UTC times, without a zone."""
    import pandas as pd

    return pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(NEW_YORK).tz_localize(None)


def from_new_york(wall: pd.DatetimeIndex) -> Times:
    """UTC of New York wall times; none of them may fall in the hour that daylight saving skips or repeats."""
    return np.asarray(wall.tz_localize(NEW_YORK).tz_convert("UTC").tz_localize(None).to_numpy(), "datetime64[us]")


def trading_days(times: Times) -> NDArray[np.datetime64]:
    """The trading day (`datetime64[D]`) of each time: 17:00 New York on Monday already belongs to Tuesday."""
    import pandas as pd

    shifted = new_york(times) + pd.Timedelta(hours=7)
    return np.asarray(shifted.to_numpy(), "datetime64[D]")


def is_holiday(day: date) -> bool:
    """Whether FX is shut for the whole of this trading day, a weekday."""
    if day < HOLIDAYS_SINCE or day in NO_HOLIDAY:
        return False
    observed = {day} | ({day - timedelta(days=1)} if day.weekday() == 0 else set())
    return any((d.month, d.day) in ((12, 25), (1, 1)) for d in observed)


def open_days(start: datetime, end: datetime) -> NDArray[np.datetime64]:
    """The trading days (`datetime64[D]`) that have any part in [start, end) and on which FX trades."""
    if end <= start:
        return np.empty(0, "datetime64[D]")
    first, last = trading_days(np.array([to_us(start), to_us(end) - np.timedelta64(1, "us")]))
    days = np.arange(first, last + ONE_DAY, ONE_DAY)
    weekdays = days[(days.astype(np.int64) + 3) % 7 < 5]  # 1970-01-01 was a Thursday
    return np.array([day for day in weekdays if not is_holiday(day.item())], "datetime64[D]")


def day_open(days: NDArray[np.datetime64]) -> Times:
    """UTC of 17:00 New York at which these trading days begin."""
    import pandas as pd

    return from_new_york(pd.DatetimeIndex(np.asarray(days, "datetime64[us]")) - pd.Timedelta(hours=7))


def bar_starts(granularity: Granularity, start: datetime, end: datetime) -> Times:
    """When bars of this length should start in [start, end) if prices come all the time, oldest first.

    Bars that hold any part of an open session are counted. H2 and longer are counted from 17:00 New York, as OANDA's
    default alignment does; weeks begin on Friday 17:00 and months at 17:00 before their first day.
    """
    length = granularity.length
    if granularity in (Granularity.W, Granularity.M):
        days = open_days(start - timedelta(days=40), end + timedelta(days=40))
        starts = np.unique(bar_start(granularity, day_open(days) + np.timedelta64(12, "h")))
    else:
        days = open_days(start - length, end)
        opens = day_open(days)
        starts = opens if granularity is Granularity.D else _within_days(granularity, days, opens)
    return starts[(starts >= to_us(start)) & (starts < to_us(end))]


def _within_days(granularity: Granularity, days: NDArray[np.datetime64], opens: Times) -> Times:
    import pandas as pd

    closes = day_open(days + ONE_DAY)  # a Friday's next calendar day opens at Friday 17:00 as well
    step = np.timedelta64(granularity.length // timedelta(microseconds=1), "us")
    count = int(((closes - opens).max() + step) // step) if len(days) else 0
    offsets = np.arange(count) * step
    if granularity.day_aligned:
        # Counted on the wall clock, so that the 23- and 25-hour days keep 17, 21, 01, 05, 09, 13.
        wall = pd.DatetimeIndex(np.asarray(days, "datetime64[us]")) - pd.Timedelta(hours=7)
        grid = (wall.to_numpy()[:, None] + offsets[None, :]).ravel()
        local = pd.DatetimeIndex(grid).tz_localize(NEW_YORK, nonexistent="shift_forward", ambiguous=True)
        starts = np.asarray(local.tz_convert("UTC").tz_localize(None).to_numpy(), "datetime64[us]").reshape(len(days), count)
    else:
        starts = opens[:, None] + offsets[None, :]
    session = opens[:, None] + np.timedelta64(SESSION_OPEN // timedelta(microseconds=1), "us")
    ends: Any = starts + step
    inside = (ends > session) & (starts < closes[:, None])
    return np.unique(starts[inside])


def bar_start(granularity: Granularity, times: Times) -> Times:
    """The start of the bar that each time falls into, by OANDA's default alignment (17:00 New York, Friday)."""
    import pandas as pd

    if not granularity.day_aligned:
        step = np.timedelta64(granularity.length // timedelta(microseconds=1), "us")
        return (times.astype("datetime64[us]").astype(np.int64) // step.astype(np.int64) * step.astype(np.int64)).astype(
            "datetime64[us]"
        )
    days = trading_days(times)
    if granularity is Granularity.D:
        return day_open(days)
    if granularity is Granularity.W:
        # The week of OANDA begins on Friday 17:00, so Saturday is its first trading day.
        return day_open(days - (days.astype(np.int64) + 5) % 7 * ONE_DAY)
    if granularity is Granularity.M:
        return day_open(days.astype("datetime64[M]").astype("datetime64[D]"))
    hours = granularity.length // timedelta(hours=1)
    wall = new_york(times)
    since = (wall.hour.to_numpy() - 17) % 24
    start = wall.floor("h") - pd.to_timedelta(since % hours, unit="h")
    local = start.tz_localize(NEW_YORK, nonexistent="shift_forward", ambiguous=np.ones(len(start), bool))
    return np.asarray(local.tz_convert("UTC").tz_localize(None).to_numpy(), "datetime64[us]")


def bar_ends(granularity: Granularity, starts: Times) -> Times:
    """When bars with these starts are over."""
    import pandas as pd

    if not granularity.day_aligned:
        return starts + np.timedelta64(granularity.length // timedelta(microseconds=1), "us")
    if granularity is Granularity.M:
        months = trading_days(starts + np.timedelta64(12, "h")).astype("datetime64[M]")
        return day_open((months + np.timedelta64(1, "M")).astype("datetime64[D]"))
    if granularity in (Granularity.D, Granularity.W):
        days = trading_days(starts + np.timedelta64(12, "h"))
        return day_open(days + (1 if granularity is Granularity.D else 7) * ONE_DAY)
    hours = granularity.length // timedelta(hours=1)
    wall = new_york(starts)
    since = (wall.hour.to_numpy() - 17) % 24
    end = wall.floor("h") + pd.to_timedelta(hours - since % hours, unit="h")
    local = end.tz_localize(NEW_YORK, nonexistent="shift_forward", ambiguous=np.ones(len(end), bool))
    return np.asarray(local.tz_convert("UTC").tz_localize(None).to_numpy(), "datetime64[us]")


def rollovers(start: datetime, end: datetime) -> list[tuple[datetime, int]]:
    """Each 17:00 New York in (start, end], oldest first, with its New York weekday (Monday is 0)."""
    first = start.astimezone(NEW_YORK).date()
    count = (end.astimezone(NEW_YORK).date() - first).days + 1
    moments = [
        datetime(day.year, day.month, day.day, 17, tzinfo=NEW_YORK) for day in (first + timedelta(days=n) for n in range(count))
    ]
    return [(moment.astimezone(UTC), moment.weekday()) for moment in moments if start < moment <= end]


__all__ = [
    "HOLIDAYS_SINCE",
    "MAJORS",
    "NEW_YORK",
    "Bars",
    "Floats",
    "Granularity",
    "Instrument",
    "Times",
    "bar_ends",
    "bar_start",
    "bar_starts",
    "day_open",
    "from_new_york",
    "is_holiday",
    "new_york",
    "open_days",
    "parse_utc",
    "rollovers",
    "to_datetime",
    "to_us",
    "trading_days",
]
