"""What an owner leaves behind for people and for the risk database, as a test reads it from its journal."""

from __future__ import annotations

from typing import Any

from live.trading import Trader

from mbats.riskdb.live_records import LiveRecord, RiskEventRecord


def records(trader: Trader, kind: type[LiveRecord] | Any) -> list[Any]:
    """All records of a kind that wait for the risk database, oldest first."""
    return [each for _, each in trader.journal.outbox(100_000) if isinstance(each, kind)]


def risk_events(trader: Trader, kind: str | None = None) -> list[RiskEventRecord]:
    found: list[RiskEventRecord] = records(trader, RiskEventRecord)
    return [each for each in found if kind in (None, each.kind)]


def until(trader: Trader, moment: str) -> None:
    """It becomes this time (UTC, in seconds) at the exchange, and the owner knows."""
    trader.simulator.admin("POST", "/clock/step", {"until": moment})
    trader.wait_for(lambda: trader.owner._clock.now().isoformat()[:19] >= moment[:19])
