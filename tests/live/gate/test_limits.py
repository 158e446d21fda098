"""The section of a deployment that holds its limits: what it may say, and what it is told when it is wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from mbats.errors import ConfigError
from mbats.live.gate import Limits, read_limits


def test_what_is_left_out_keeps_its_default() -> None:
    assert read_limits({}) == Limits()
    assert read_limits({"max_open_trades": 3}).max_order_units == Limits().max_order_units


@pytest.mark.parametrize("value", [0.02, "0.02", Decimal("0.02")])
def test_a_fraction_is_exact_however_it_is_written(value: Any) -> None:
    assert read_limits({"max_daily_loss": value}).max_daily_loss == Decimal("0.02")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"max_daily_loss": 2},
            r"max_daily_loss: input should be less than or equal to 0\.5 \(found 2\)",
        ),  # two per cent was meant
        ({"max_drawdown": 0}, r"max_drawdown: input should be greater than 0 \(found 0\)"),
        ({"max_order_units": -1}, "max_order_units: input should be greater than 0"),
        ({"max_margin": "much"}, r"max_margin: input should be a valid decimal \(found 'much'\)"),
        ({"max_order_units": "inf"}, "max_order_units: input should be a finite number"),
        ({"max_open_trades": 2.5}, "max_open_trades: input should be a valid integer"),
        ({"orders_per_second": 100}, "orders_per_second: input should be less than or equal to 20"),
        ({"max_dayly_loss": 0.01}, r"max_dayly_loss: there is no such limit\. Did you mean max_daily_loss\?"),
        ({"zzz": "red"}, r"zzz: there is no such limit\. Nothing is traded"),
    ],
)
def test_a_limit_that_is_wrong_is_named_with_what_was_found(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_limits(values)


def test_all_that_is_wrong_is_told_at_once_with_where_it_stands() -> None:
    with pytest.raises(
        ConfigError, match=r"limits in strategy\.csv, row 4 .*max_margin: .*max_drawdown: .*Nothing is traded until"
    ):
        read_limits({"max_margin": 3, "max_drawdown": 3}, where="strategy.csv, row 4")


def test_limits_do_not_change_while_they_are_used() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Limits().max_margin = Decimal("0.9")  # type: ignore[misc]


def test_the_defaults_do_not_contradict_each_other() -> None:
    safe = Limits()

    assert safe.max_order_units <= safe.max_position_units
    assert safe.max_order_notional <= safe.max_position_notional <= safe.max_gross_exposure
    assert safe.max_currency_exposure <= safe.max_gross_exposure
    assert safe.max_margin <= Decimal("0.3"), "far from 2, at which OANDA closes the account out"
    assert safe.entry_bound < safe.exit_bound
    assert safe.max_daily_loss < safe.max_drawdown
