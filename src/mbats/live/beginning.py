"""What the process of a deployment is told first: itself, its history, and what stands from before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from mbats.database import Database
from mbats.live.deployment import Deployment
from mbats.live.hosting.host import Session
from mbats.live.market.history import History as Past
from mbats.live.market.history import read_with_conversions
from mbats.live.owner import Owner
from mbats.live.venue import Venue
from mbats.live.wire import Begin, History
from mbats.market import Granularity, to_datetime, to_us

WARMUP_BARS = 500
WEEKEND = timedelta(days=4)  # more than the longest time without bars
_DEPLOYMENT = TypeAdapter(Deployment)


@dataclass(slots=True)
class Life:
    """One life of a deployment's process. `after` has each symbol's last bar of history, `last_bar` what was decided on last."""

    key: str
    after: dict[str, datetime | None]
    last_bar: datetime | None = None


def tell_history(
    session: Session,
    deployment: Deployment,
    venue: Venue,
    owner: Owner,
    secmaster: Database,
    anchored: Callable[[datetime], None],
) -> tuple[Deployment, Life]:
    """Send `Begin` and every symbol's history; returns the deployment with the start of its history.

    Where the history begins is fixed the first time (`anchored` is told), so that a restart gives the indicators the same values.
    Raises OandaError when the broker cannot be read.
    """
    assert venue.clock is not None
    granularity = Granularity(deployment.granularity)
    instruments = {symbol: owner.instruments[symbol] for symbol in deployment.symbols if symbol in owner.instruments}
    wanted = deployment.warmup_bars if deployment.warmup_bars is not None else WARMUP_BARS
    now = venue.clock.now()
    since = deployment.warmup_from or now - 1.6 * wanted * granularity.length - WEEKEND
    histories = read_with_conversions(
        list(instruments.values()),
        granularity,
        since,
        secmaster,
        venue.client,
        vendor=venue.vendor,
        currency=owner.currency,
        offered=list(owner.instruments),
    )
    if deployment.warmup_from is None:
        deployment = replace(deployment, warmup_from=_anchor(histories, wanted, now))
        assert deployment.warmup_from is not None
        anchored(deployment.warmup_from)
    figures = {name: each.to_json() for name, each in instruments.items()}
    session.send(Begin(_DEPLOYMENT.dump_python(deployment, mode="json"), figures, owner.currency))
    after: dict[str, datetime | None] = {}
    for symbol, history in histories.items():
        kept = history.bars.time >= to_us(deployment.warmup_from)
        bars, conversions = history.bars[kept], history.conversion_close[kept]
        session.send_bars(History(symbol, len(bars)), bars, conversions)
        after[symbol] = to_datetime(bars.time[-1]) if len(bars) else None
        owner.quotes.observe_history(symbol, granularity, bars)
    return deployment, Life(f"{session.pid}-{session.started:.6f}", after)


def _anchor(histories: dict[str, Past], wanted: int, now: datetime) -> datetime:
    """The start of the oldest of so many last bars."""
    firsts: list[Any] = [each.bars.time[max(0, len(each.bars) - wanted)] for each in histories.values() if len(each.bars)]
    return to_datetime(min(firsts)) if firsts and wanted else now
