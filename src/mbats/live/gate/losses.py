"""Daily loss, drawdown and losing streaks as a fold over NAV marks, closed trades and transfers (R29).

The NAV is the account's: a loss stops every deployment that trades on it, whoever made it. The streak counts the trades of the
one deployment whose figures these are. When a limit is reached the fold returns a latch, and counts on from the figures of that
moment: after a person resumes, the same loss does not lock again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

from mbats.live.gate.calendar import later_day_start, trading_day
from mbats.live.gate.limits import Limits
from mbats.live.gate.reasons import Reason
from mbats.live.gate.state import Latch


@dataclass(frozen=True, slots=True)
class NavMark:
    """What the account was worth at a moment (UTC), in its currency."""

    time: datetime
    nav: Decimal


@dataclass(frozen=True, slots=True)
class TradeClosed:
    """A trade of the deployment that is closed for good, with all that it made in the account's currency, financing included."""

    time: datetime
    pl: Decimal


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money paid in (or out, less than zero): neither profit nor loss."""

    time: datetime
    amount: Decimal


Event = NavMark | TradeClosed | Transfer


@dataclass(frozen=True, slots=True)
class Losses:
    """The figures so far. `day` is the New York trading day, `day_nav` the NAV that its loss is counted from."""

    day: date
    day_nav: Decimal
    nav: Decimal
    peak_nav: Decimal
    streak: int = 0

    @classmethod
    def begin(cls, nav: Decimal, now: datetime) -> Losses:
        """The figures of an account on which nothing was lost yet."""
        return cls(trading_day(now), nav, nav, nav)

    @property
    def day_loss(self) -> Decimal:
        """What was lost in the trading day so far; a gain is less than zero."""
        return self.day_nav - self.nav

    @property
    def drawdown(self) -> Decimal:
        """How far the NAV is below its peak."""
        return self.peak_nav - self.nav


def fold(losses: Losses, event: Event, limits: Limits) -> tuple[Losses, tuple[Latch, ...]]:
    """The figures after one event, and the latches that it sets. Events come in order of time; one that is late starts no day."""
    now = _on_day(losses, trading_day(event.time))
    match event:
        case Transfer(amount=amount):
            moved = {name: getattr(now, name) + amount for name in ("day_nav", "nav", "peak_nav")}
            return replace(now, **moved), ()
        case TradeClosed(pl=pl):
            streak = now.streak + 1 if pl < 0 else 0 if pl > 0 else now.streak
            return _check_streak(replace(now, streak=streak), event.time, limits)
        case NavMark(nav=nav):
            return _check_nav(replace(now, nav=nav, peak_nav=max(nav, now.peak_nav)), event.time, limits)


def _on_day(losses: Losses, day: date) -> Losses:
    return replace(losses, day=day, day_nav=losses.nav) if day > losses.day else losses


def _check_streak(losses: Losses, time: datetime, limits: Limits) -> tuple[Losses, tuple[Latch, ...]]:
    if losses.streak < limits.max_loss_streak:
        return losses, ()
    why = f"{losses.streak} losing trades in a row, limit {limits.max_loss_streak}"
    return replace(losses, streak=0), (Latch(Reason.LOSS_STREAK, time, _cooled_down(time, limits), why),)


def _check_nav(losses: Losses, time: datetime, limits: Limits) -> tuple[Losses, tuple[Latch, ...]]:
    latches: list[Latch] = []
    lost, fallen = losses.day_loss, losses.drawdown
    # At a NAV of zero or less every fraction of it is reached.
    if lost >= limits.max_daily_loss * losses.day_nav or losses.nav <= 0:
        until = max(later_day_start(time, 1), _cooled_down(time, limits))
        why = f"{lost:.2f} lost on {losses.day} from {losses.day_nav:.2f}, limit {limits.max_daily_loss:%}"
        latches.append(Latch(Reason.DAILY_LOSS, time, until, why))
    if fallen >= limits.max_drawdown * losses.peak_nav or losses.nav <= 0:
        why = f"{fallen:.2f} below the peak of {losses.peak_nav:.2f}, limit {limits.max_drawdown:%}"
        latches.append(Latch(Reason.DRAWDOWN, time, None, why))
    reached = {found.reason for found in latches}
    return (
        replace(
            losses,
            day_nav=losses.nav if Reason.DAILY_LOSS in reached else losses.day_nav,
            peak_nav=losses.nav if Reason.DRAWDOWN in reached else losses.peak_nav,
        ),
        tuple(latches),
    )


def _cooled_down(time: datetime, limits: Limits) -> datetime:
    """When the cooldown ends: at the start of a trading day, or after so many hours, whichever is later."""
    return max(later_day_start(time, limits.cooldown_days), time + limits.cooldown)
