"""Paper and live differ by address and token; every combination that contradicts itself is refused (R36)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from oandapyV20.oandapyV20 import TRADING_ENVIRONMENTS

from mbats.errors import ConfigError
from mbats.live.gate import Mode, check_account
from mbats.live.gate.mode import HOSTS

URLS = {
    "simulator": "http://127.0.0.1:8090",
    "practice": "https://api-fxpractice.oanda.com",
    "live": "https://api-fxtrade.oanda.com",
}
ACCOUNTS = {"simulator": "101-004-1435156-001", "practice": "101-011-5838423-001", "live": "001-011-5838423-001"}
RIGHT: dict[str, Any] = {"environment": "live", "url": URLS["live"], "account": ACCOUNTS["live"], "second_word": ACCOUNTS["live"]}


@pytest.mark.parametrize(
    ("mode", "environment", "url", "account", "word"),
    list(product(Mode, URLS, URLS.values(), ACCOUNTS.values(), [None, "yes", "001-011-5838423-001"])),
)
def test_of_all_combinations_only_those_that_agree_are_accepted(
    mode: Mode, environment: Any, url: str, account: str, word: str
) -> None:
    real = mode is Mode.LIVE
    agrees = url == URLS[environment] and real == (environment == "live")
    agrees &= environment == "simulator" or account.startswith("001-" if real else "101-")
    agrees &= not real or word == account

    if agrees:
        check_account(mode, environment=environment, url=url, account=account, second_word=word)
    else:
        with pytest.raises(ConfigError, match=r"nothing (was started|is traded for real)"):
            check_account(mode, environment=environment, url=url, account=account, second_word=word)


@pytest.mark.parametrize(
    "url",
    [
        "http://api-fxtrade.oanda.com",  # the token would be readable on the way
        "https://api-fxtrade.oanda.com.example.org",
        "https://user@example.org/api-fxtrade.oanda.com",
        "https://stream-fxtrade.oanda.com",
        "",
    ],
)
def test_live_trades_only_at_the_broker_itself(url: str) -> None:
    with pytest.raises(ConfigError, match="the address is"):
        check_account(Mode.LIVE, **(RIGHT | {"url": url}))


def test_an_empty_account_cannot_be_confirmed_with_an_empty_word() -> None:
    with pytest.raises(ConfigError, match=r"Account \(none\) is a live one"):
        check_account(Mode.LIVE, **(RIGHT | {"account": "", "second_word": ""}))


def test_the_simulator_is_not_at_the_broker() -> None:
    with pytest.raises(ConfigError, match="the address is OANDA's"):
        check_account(Mode.PAPER, environment="simulator", url=URLS["live"] + "/", account="101-1", second_word=None)


def test_the_broker_is_where_the_library_says() -> None:
    assert {name: f"https://{host}" for name, host in HOSTS.items()} == {
        name: TRADING_ENVIRONMENTS[name]["api"] for name in HOSTS
    }
