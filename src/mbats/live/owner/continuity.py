"""The account's transactions in order, each once, however they come: by the stream, in answers, or asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mbats.oanda.transactions import Transaction


class Continuity:
    """Knows the last transaction that was applied and which ones have come too early.

    `needed` is the highest number that anybody has heard of: as long as it is above `last`, something has been missed. `repeated`
    counts those that came again.
    """

    def __init__(self, last: int) -> None:
        self.last = last
        self.needed = last
        self.repeated = 0
        self._early: dict[int, Transaction] = {}

    @property
    def is_behind(self) -> bool:
        """Whether transactions exist that have not come in their turn."""
        return self.needed > self.last

    def offer(self, transactions: Iterable[Transaction]) -> list[Transaction]:
        """What may be applied now, in order. The rest waits until what is missing before it comes."""
        for transaction in transactions:
            if transaction.id <= self.last:
                self.repeated += 1
            else:
                self._early[transaction.id] = transaction
                self.expect(transaction.id)
        ready = []
        while (found := self._early.pop(self.last + 1, None)) is not None:
            ready.append(found)
            self.last += 1
        return ready

    def expect(self, number: int | None) -> None:
        """The broker has said that its last transaction is this one."""
        if number is not None:
            self.needed = max(self.needed, number)
