"""Whether a deployment points at the account that it says: paper and live differ by address and token alone (R36)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal
from urllib.parse import urlsplit

from mbats.errors import ConfigError

# The hosts of oandapyV20's TRADING_ENVIRONMENTS, written here too: what guards money does not believe the library that it guards.
HOSTS = {"practice": "api-fxpractice.oanda.com", "live": "api-fxtrade.oanda.com"}
# The first part of an account's id names the site. OANDA does not say so in its reference, but every recorded id follows it;
# so it can speak against an account, never for one.
SITES = {"practice": "101", "live": "001"}

Environment = Literal["simulator", "practice", "live"]


class Mode(StrEnum):
    """Whether a deployment trades for real."""

    PAPER = "paper"
    LIVE = "live"


def check_account(mode: Mode, *, environment: Environment, url: str, account: str, second_word: str | None) -> None:
    """Raise ConfigError unless mode, environment, address and account agree; live needs the account's id as second word.

    The second word is the id and not a yes, so that it must be said again when the account changes.
    """
    if (mode is Mode.LIVE) != (environment == "live"):
        raise ConfigError(
            f"The deployment is {mode} but the environment is {environment}: nothing was started. "
            "Paper is for the simulator or OANDA practice, live for OANDA live."
        )
    _check_address(environment, url)
    for other, site in SITES.items():
        if environment in HOSTS and environment != other and account.startswith(f"{site}-"):
            raise ConfigError(f"Account {account} looks like one of OANDA {other}, not {environment}: nothing was started.")
    if mode is Mode.LIVE and (not account or second_word != account):
        raise ConfigError(
            f"Account {account or '(none)'} is a live one: nothing is traded for real until its id is also given as the second, "
            f"explicit word (found {second_word!r})."
        )


def _check_address(environment: Environment, url: str) -> None:
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if environment == "simulator":
        if host == "oanda.com" or host.endswith(".oanda.com"):
            raise ConfigError(f"The environment is the simulator but the address is OANDA's ({url}): nothing was started.")
        return
    if (parts.scheme, host) != ("https", HOSTS[environment]):
        raise ConfigError(
            f"OANDA {environment} is at https://{HOSTS[environment]}, but the address is {url}: nothing was started."
        )
