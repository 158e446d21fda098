"""One decision is one order: of one deployment, one symbol, one bar and one side, and of one trader on an account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live.trading import FAST, Said, Trader
from pydantic import SecretStr
from simulator.running import ACCOUNT, TOKEN, Running

from mbats.database import Database
from mbats.live.accounts import AccountRef
from mbats.live.gate import Mode
from mbats.live.lease import LeaseHeld
from mbats.live.venue import Venue
from mbats.live.wire import Status
from mbats.settings import Settings


@pytest.mark.proves("R24")
def test_a_signal_that_is_given_twice_in_one_bar_is_one_order(trader: Trader) -> None:
    trader.deploy()
    bar = trader.bar()
    first, second, other_size = (trader.submit(units, bar=bar) for units in (1000, 1000, 700))
    trader.ended(first, Status.COMPLETED)
    for again in (second, other_size):
        refused = trader.ended(again, Status.REJECTED)
        assert refused.reason == "duplicate"
    trader.settle()
    assert len(trader.orders_sent()) == 1
    assert [each["currentUnits"] for each in trader.trades()] == ["1000"]


@pytest.mark.proves("R24")
def test_a_close_and_an_opening_in_one_bar_are_two_decisions_and_each_is_carried_out_once(trader: Trader) -> None:
    trader.deploy()
    trader.ended(trader.submit(1000), Status.COMPLETED)
    trader.minute()
    bar = trader.bar()
    trader.ended(trader.submit(-1000, bar=bar), Status.COMPLETED)
    trader.ended(trader.submit(600, bar=bar), Status.COMPLETED)
    again = trader.ended(trader.submit(600, bar=bar), Status.REJECTED)
    assert again.reason == "duplicate"
    assert [each["currentUnits"] for each in trader.trades()] == ["600"]


@pytest.mark.proves("R24")
def test_the_next_process_and_the_next_trader_do_not_repeat_what_was_decided_on_a_bar(trader: Trader) -> None:
    trader.deploy()
    bar = trader.bar()
    trader.ended(trader.submit(1000, bar=bar), Status.COMPLETED)
    trader.owner.close_session("alpha", "s1")
    trader.deploy(session="s2")
    assert trader.ended(trader.submit(1000, session="s2", bar=bar), Status.REJECTED).reason == "duplicate"
    trader.stop()
    trader.again()
    trader.deploy(session="s3")
    assert trader.ended(trader.submit(1000, session="s3", bar=bar), Status.REJECTED).reason == "duplicate"
    assert len(trader.orders_sent()) == 1


@pytest.mark.proves("R24")
def test_two_deployments_may_decide_the_same_on_one_bar(trader: Trader) -> None:
    trader.deploy()
    trader.deploy("beta", session="s2")
    bar = trader.bar()
    trader.ended(trader.submit(1000, bar=bar), Status.COMPLETED)
    trader.ended(trader.submit(1000, name="beta", session="s2", bar=bar), Status.COMPLETED)
    assert sorted(each["currentUnits"] for each in trader.trades()) == ["1000", "1000"]


# --- Two traders ------------------------------------------------------------------------------------------------------------


def venue(settings: Settings, exchange: Running, home: Path) -> Venue:
    ref = AccountRef("paper", Mode.PAPER, "simulator", exchange.url, exchange.stream_url, SecretStr(TOKEN), None)
    here = settings.model_copy(update={"home": home, "trader_clock": "broker"})
    here.trader_home.mkdir(parents=True)
    return Venue(here, ref, notify=Said(), journaled=lambda name, journal: None, options=FAST)


@contextmanager
def closing(made: Venue) -> Iterator[Venue]:
    try:
        yield made
    finally:
        made.close()
        if made.journal is not None:
            made.journal.close()


def writes(exchange: Running) -> list[dict[str, Any]]:
    return [each for each in exchange.journal() if each["kind"] == "request" and each["method"] != "GET"]


@pytest.mark.proves("R24")
def test_a_second_trader_on_an_account_is_refused_and_sends_nothing_until_the_first_is_gone(
    exchange: Running, settings: Settings, risk_db: Database, tmp_path: Path
) -> None:
    exchange.buy(300)  # so that there is something that it could touch
    exchange.admin("DELETE", "/journal")
    with closing(venue(settings, exchange, tmp_path / "first")) as first:
        first.open()
        assert first.fence() == ""
        with closing(venue(settings, exchange, tmp_path / "second")) as second:
            with pytest.raises(LeaseHeld, match=f"{ACCOUNT} is traded by"):
                second.open()
            assert second.owner is None
            assert writes(exchange) == []
            first.close()
            second.open()
            assert second.fence() == ""
            assert "has run out" in first.fence()


@pytest.mark.proves("R24")
def test_a_trader_whose_right_has_run_out_opens_nothing_and_may_still_leave(trader: Trader) -> None:
    trader.deploy()
    ref = trader.bracket(1000, "1.08000", "1.09000")
    trader.ended(ref, Status.COMPLETED)
    trader.minute()
    trader.owner._fenced = lambda: "the right to trade on the account has run out"
    trader.wait_for(lambda: trader.owner._account.fenced)
    refused = trader.ended(trader.submit(1000), Status.REJECTED)
    assert refused.reason == "fenced"
    trader.ended(trader.submit(-1000), Status.COMPLETED)
    assert trader.trades() == []
