"""The New York trading day and the hours of FX for one moment, by the calendar of `mbats.market`.

Hours are those of OANDA's page (US division, copy of 2022): shut from 16:58 to 17:03 New York each day, and from Friday 16:58 to
Sunday 17:03. Plain datetimes, because the gate is asked for one moment at a time, and vectors would make it wait.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from mbats.market import NEW_YORK, is_holiday

OPENS, CLOSES = time(17, 3), time(16, 58)
ONE_DAY = timedelta(days=1)


def trading_day(now: datetime) -> date:
    """The trading day of a moment, named by the date on which it ends: Monday 17:00 New York belongs to Tuesday."""
    # Added to the wall clock and not to the moment: the day changes at 17:00 on both sides of daylight saving.
    return (now.astimezone(NEW_YORK).replace(tzinfo=None) + timedelta(hours=7)).date()


def day_start(day: date) -> datetime:
    """The moment (UTC) at which a trading day begins: 17:00 New York of the evening before."""
    return datetime.combine(day - ONE_DAY, time(17), NEW_YORK).astimezone(UTC)


def trades_on(day: date) -> bool:
    """Whether FX trades on this trading day at all."""
    return day.weekday() < 5 and not is_holiday(day)


def later_day_start(now: datetime, days: int) -> datetime:
    """When the trading day begins that is `days` open trading days after that of `now`; 0 is `now` itself."""
    day = trading_day(now)
    for _ in range(days):
        day = _first_open(day + ONE_DAY)
    return day_start(day) if days else now


def closed_until(now: datetime) -> datetime | None:
    """When FX opens next (UTC), or None while it is open."""
    day = trading_day(now)
    if trades_on(day):
        opens, closes = _session(day)
        if now < opens:
            return opens
        if now < closes:
            return None
        day += ONE_DAY
    return _session(_first_open(day))[0]


def _session(day: date) -> tuple[datetime, datetime]:
    opens = datetime.combine(day - ONE_DAY, OPENS, NEW_YORK)
    return opens.astimezone(UTC), datetime.combine(day, CLOSES, NEW_YORK).astimezone(UTC)


def _first_open(day: date) -> date:
    while not trades_on(day):
        day += ONE_DAY
    return day
