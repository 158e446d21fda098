"""The right to trade on an account, held by one trader at a time wherever it runs: a row in PostgreSQL that runs out by itself.

PostgreSQL's clock alone decides who has it. The holder counts its own time from before it asked, so that it never believes in the
lease for longer than PostgreSQL does. `term` grows with every taking: what was decided under an older one has lost its right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from mbats.database import Database
from mbats.errors import MbatsError, PlatformError
from mbats.riskdb.tables import lease

TTL = 60.0  # seconds


def awake_or_not() -> float:
    """Seconds on a clock that only runs forward, and that goes on while the machine sleeps: other machines do not sleep with
    it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseHeld(MbatsError):
    """Another trader has the account: `who`, `since` when and `until` when (UTC), unless it renews."""

    passing = True

    def __init__(self, account_key: str, who: str, since: datetime, until: datetime) -> None:
        self.who, self.since, self.until = who, since, until
        super().__init__(
            f"Account {account_key} is traded by {who} since {since:%Y-%m-%d %H:%M:%S} UTC. Two traders on one account would "
            f"undo each other's work, so this one sends nothing. Stop that one; if it is dead, its right ends by itself at "
            f"{until:%H:%M:%S} UTC."
        )


class Lease:
    """The lease of one account, as one holder sees it. `ttl` is in seconds.

    A name that only one process at a time can have gets the lease back at once after a crash, for instance one made of the
    machine and of a journal that is locked; others wait until it has run out. What asks PostgreSQL waits for as long as that does
    not answer; `valid`, `remaining` and `valid_until` never wait.
    """

    def __init__(
        self,
        database: Database,
        account_key: str,
        holder: str,
        ttl: float = TTL,
        *,
        clock: Callable[[], float] = awake_or_not,
    ) -> None:
        self.account_key = account_key
        self.holder = holder
        self.ttl = ttl
        self.term = 0  # none yet
        self._database = database
        self._clock = clock
        self._ends = clock()

    def acquire(self) -> int:
        """Take the lease if nobody has it, if it ran out, or if it is in this holder's name; returns its new term.

        Raises LeaseHeld when another's is valid, PlatformError when PostgreSQL does not answer.
        """
        asked = self._clock()
        statement = insert(lease).values(
            account_key=self.account_key,
            holder=self.holder,
            term=1,
            since=sa.func.now(),
            renewed_at=sa.func.now(),
            expires_at=self._expiry(),
        )
        given = statement.excluded
        taking = statement.on_conflict_do_update(
            index_elements=["account_key"],
            set_={
                "term": lease.c.term + 1,
                **{name: given[name] for name in ("holder", "since", "renewed_at", "expires_at")},
            },
            where=(lease.c.expires_at <= sa.func.now()) | (lease.c.holder == given.holder),
        )
        with self._database.begin() as connection:
            term = connection.scalar(taking.returning(lease.c.term))
            if term is None:
                raise self._held(connection)
        self.term, self._ends = int(term), asked + self.ttl
        return self.term

    def renew(self) -> None:
        """Have it for another `ttl` seconds. It need not be valid any more, as long as nobody took it in the meantime.

        Raises LeaseHeld when somebody did: it is lost then and no longer valid. Raises PlatformError when PostgreSQL does not
        answer: it stays valid for what remains.
        """
        asked = self._clock()
        renewing = self._mine().values(renewed_at=sa.func.now(), expires_at=self._expiry()).returning(lease.c.term)
        with self._database.begin() as connection:
            if connection.scalar(renewing) is None:
                self._ends = asked
                raise self._held(connection)
        self._ends = asked + self.ttl

    def release(self) -> None:
        """Let others have it at once. Does nothing when it was lost or never had. Raises PlatformError when PostgreSQL does not
        answer: it then runs out by itself."""
        self._ends = self._clock()
        with self._database.begin() as connection:
            connection.execute(self._mine().values(renewed_at=sa.func.now(), expires_at=sa.func.now()))

    @property
    def valid(self) -> bool:
        """Whether nobody else can have it at this moment."""
        return self.remaining > 0

    @property
    def remaining(self) -> float:
        """Seconds for which it is still valid."""
        return max(0.0, self._ends - self._clock())

    @property
    def valid_until(self) -> float:
        """When it runs out, on the clock of `time.monotonic`."""
        return time.monotonic() + self.remaining

    def _expiry(self) -> sa.ColumnElement[datetime]:
        # The time at which the transaction began, which is after `asked` and before the statement ran.
        return sa.func.now() + timedelta(seconds=self.ttl)

    def _mine(self) -> sa.Update:
        return sa.update(lease).where(
            lease.c.account_key == self.account_key, lease.c.holder == self.holder, lease.c.term == self.term
        )

    def _held(self, connection: sa.Connection) -> MbatsError:
        query = sa.select(lease.c.holder, lease.c.since, lease.c.expires_at).where(lease.c.account_key == self.account_key)
        row = connection.execute(query).one_or_none()
        if row is None:
            return PlatformError(
                f"The lease of account {self.account_key} is gone from the risk database, which was emptied or restored. This "
                "trader sends nothing until it has taken the lease anew."
            )
        return LeaseHeld(self.account_key, row.holder, row.since, row.expires_at)
