"""Transactions that belong together: one request, or one order that a price has triggered."""

from __future__ import annotations

from typing import Any

import numpy as np

from mbats.simulator.core.account import Account
from mbats.simulator.core.times import write_time
from mbats.simulator.core.values import Transaction

REQUESTS = 42_000_000_000_000_000  # request ids are this far above the first transaction of the request


class Batch:
    """Writes transactions of one account at one moment; they share time, batch and, when a client asked for them, request."""

    def __init__(self, account: Account, moment: np.datetime64, *, requested: bool) -> None:
        self.account = account
        self.moment = moment
        self.transactions: list[Transaction] = []
        first = account.last_id + 1
        self._stamp: dict[str, Any] = {
            "time": write_time(moment),
            "userID": account.config.user,
            "accountID": account.config.id,
            "batchID": str(first),
        }
        if requested:
            self._stamp["requestID"] = str(REQUESTS + first)

    def add(self, fields: Transaction) -> Transaction:
        """Give the transaction its id and stamps, and apply it to the account."""
        transaction: Transaction = {"id": str(self.account.last_id + 1), **self._stamp, **fields}
        self.account.apply(transaction)
        self.transactions.append(transaction)
        return transaction

    @property
    def next_id(self) -> str:
        """The id that the next transaction will have."""
        return str(self.account.last_id + 1)
