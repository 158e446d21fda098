"""However much a strategy asks for, no more reaches the broker than its limits allow (R21)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from live.faults.records import risk_events
from live.trading import FAST, Trader

from mbats.live.wire import Form, Status

# What the deployment may do, what it already has, and what it asks for too much of: 100,000 USD, EUR_USD at 1.085.
TOO_MUCH: list[tuple[str, dict[str, Any], int]] = [
    ("order_units", {}, 100_000 * 100),
    ("order_units", {"max_order_units": 1999}, 2000),
    ("order_notional", {"max_order_notional": "0.02"}, 2000),
    ("position_units", {"max_position_units": 2999}, 2000),
    ("position_notional", {"max_position_notional": "0.03"}, 2000),
    ("open_trades", {"max_open_trades": 1}, 2000),
    ("gross_exposure", {"max_gross_exposure": "0.03"}, 2000),
    ("currency_exposure", {"max_currency_exposure": "0.03"}, 2000),
    ("margin", {"max_margin": "0.0006"}, 2000),
]


@pytest.mark.proves("R21")
@pytest.mark.parametrize(("reason", "limits", "units"), TOO_MUCH, ids=lambda each: each if isinstance(each, str) else None)
def test_what_is_more_than_a_limit_never_leaves_and_is_recorded_with_its_figures(
    trader: Trader, reason: str, limits: dict[str, Any], units: int
) -> None:
    trader.deploy(**limits)
    trader.ended(trader.submit(1000), Status.COMPLETED)
    trader.minute()

    refused = trader.ended(trader.submit(units), Status.REJECTED)

    assert refused.reason == reason
    assert len(trader.orders_sent()) == 1
    (event,) = risk_events(trader, "refusal")
    assert (event.code, event.deployment, event.symbol, event.detail["units"]) == (reason, "alpha", "EUR_USD", str(units))
    assert event.found is not None and event.allowed is not None and event.found > event.allowed
    trader.ended(trader.submit(-1000), Status.COMPLETED)  # out is always open
    assert trader.trades() == []


@pytest.mark.proves("R21")
@pytest.mark.parametrize("reason", ["position_units", "open_trades", "margin"])
def test_orders_that_only_wait_count_as_if_they_had_filled(trader: Trader, reason: str) -> None:
    limits: dict[str, Any] = {
        "position_units": {"max_position_units": 2999},
        "open_trades": {"max_open_trades": 1},
        "margin": {"max_margin": "0.0006"},
    }[reason]
    trader.deploy(**limits)
    waits = trader.submit(1000, form=Form.LIMIT, price=Decimal("1.08000"))
    trader.wait_for(lambda: "accepted" in trader.words(waits))
    trader.settle()

    assert trader.ended(trader.submit(2000), Status.REJECTED).reason == reason

    assert len(trader.orders_sent()) == 1
    trader.withdraw(waits)
    trader.ended(waits, Status.CANCELED)
    trader.minute()
    trader.ended(trader.submit(2000), Status.COMPLETED)


@pytest.mark.proves("R21")
@pytest.mark.parametrize("by", ["the instruments", "the broker's figure"])
def test_a_margin_rate_that_is_raised_while_trading_goes_on_is_counted_at_once(
    start_trader: Callable[..., Trader], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr("mbats.live.owner.owner.INSTRUMENTS_EVERY", 0.2 if by == "the instruments" else 3600.0)
    reconcile_every = 3600.0 if by == "the instruments" else 0.2
    trader = start_trader(options=replace(FAST, reconcile_every=reconcile_every))
    trader.deploy(max_margin="0.01")
    trader.ended(trader.submit(10_000), Status.COMPLETED)
    trader.settle()
    trader.minute()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    before = Decimal(trader.simulator.account("GET", "/summary").json()["account"]["marginUsed"])

    trader.simulator.admin("POST", "/market", {"change": "margin_rate", "rate": "0.1"})
    trader.minute()
    raised = Decimal(trader.simulator.account("GET", "/summary").json()["account"]["marginUsed"])
    assert raised > 1000 > before
    trader.wait_for(lambda: Decimal(trader.owner.state()["margin_used"]) > 1000)

    assert trader.ended(trader.submit(1000), Status.REJECTED).reason == "margin"
    trader.ended(trader.submit(-11_000), Status.COMPLETED)
    assert trader.trades() == []
