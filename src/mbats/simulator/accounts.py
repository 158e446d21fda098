"""The accounts of the exchange: how each was opened, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """How an account was opened. The id has OANDA's form, digits only: site, division, user and number."""

    id: str = "101-004-1435156-001"
    alias: str = "Simulated"
    currency: str = "USD"
    balance: Decimal = Decimal(100_000)
    hedging: bool = False
    created: datetime = datetime(2005, 1, 3, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Account:
    """Where an account stands. Money is in its currency. It was opened by two transactions: CREATE and TRANSFER_FUNDS."""

    config: AccountConfig
    balance: Decimal
    last_transaction: int

    @classmethod
    def opened(cls, config: AccountConfig) -> Account:
        """An account as it stands before its first order."""
        return cls(config, config.balance, last_transaction=2)

    @property
    def margin_available(self) -> Decimal:
        """What new positions may use as margin: all of the balance, as long as there are none."""
        return self.balance
