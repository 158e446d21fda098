"""OANDA as a source of bars for ingest."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from functools import cached_property
from typing import Self

from mbats.errors import ConfigError, OandaRejected
from mbats.market import Bars, Granularity, Instrument
from mbats.oanda.client import OandaClient
from mbats.settings import Settings


class OandaSource:
    """The bars and instruments of one OANDA account, or of the simulator in its place.

    `vendor` is what the bars are called where they are kept: `simulator` or `oanda`. Practice and live have the same bars.
    """

    def __init__(self, client: OandaClient, *, vendor: str, account: str | None = None) -> None:
        self.client = client
        self.vendor = vendor
        self._account = account

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The account of the settings, or else the first that the token may use. Raises ConfigError without a token."""
        vendor = "simulator" if settings.oanda_environment == "simulator" else "oanda"
        return cls(OandaClient.from_settings(settings), vendor=vendor, account=settings.oanda_account)

    @cached_property
    def account(self) -> str:
        """The account whose instruments are meant: which there are depends on where it is held."""
        if self._account:
            return self._account
        accounts = self.client.accounts()
        if not accounts:
            raise ConfigError(f"The token opens no account at {self.client.url}. Make one there, or use another token.")
        return accounts[0]

    def instruments(self, names: Collection[str]) -> list[Instrument]:
        """Those of `names` that the account may trade."""
        try:
            return self.client.instruments(self.account, names)
        except OandaRejected as error:
            if error.status != 400:
                raise
        # OANDA refuses a list with one unknown name in it, and does not say which.
        known = set(self.offered())
        return self.client.instruments(self.account, [name for name in names if name in known])

    def offered(self) -> list[str]:
        """The name of every instrument that the account may trade."""
        return [instrument.name for instrument in self.client.instruments(self.account)]

    def bars(self, symbol: str, granularity: Granularity, *, start: datetime, end: datetime | None) -> Iterator[Bars]:
        """Pages of complete bars that start in [start, end), oldest first; no `end` means up to now."""
        return self.client.candles(symbol, granularity, start=start, end=end)

    def close(self) -> None:
        self.client.close()
