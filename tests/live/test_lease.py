"""One trader for an account at a time, by PostgreSQL's clock, and a holder that never believes in it for too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from mbats.database import Database
from mbats.errors import PlatformError
from mbats.live.lease import Lease, LeaseHeld
from mbats.settings import Settings

ACCOUNT = "simulator:101-004-1234567-001"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def row(db: Database) -> Any:
    with db.begin() as connection:
        return connection.execute(sa.text("SELECT *, now() AS now FROM lease")).one()


def age(db: Database, seconds: float) -> None:
    """Let so much time pass in PostgreSQL."""
    with db.begin() as connection:
        shift = ", ".join(f"{name} = {name} - make_interval(secs => :seconds)" for name in ("since", "renewed_at", "expires_at"))
        connection.execute(sa.text(f"UPDATE lease SET {shift}"), {"seconds": seconds})


@contextmanager
def away(settings: Settings) -> Iterator[Database]:
    """A server that does not answer, reached by the same name."""
    with closing(Database(settings.model_copy(update={"postgres_port": 1}), "risk", "trading")) as nowhere:
        yield nowhere


@pytest.mark.proves("R24")
def test_the_first_gets_the_lease_and_the_second_is_told_who_has_it_since_and_until_when(risk_db: Database) -> None:
    first, second = (Lease(risk_db, ACCOUNT, holder) for holder in ("host:1", "host:2"))

    assert first.acquire() == 1
    with pytest.raises(LeaseHeld, match=rf"Account {ACCOUNT} is traded by host:1 since ") as refusal:
        second.acquire()

    found = row(risk_db)
    assert (refusal.value.who, refusal.value.since, refusal.value.until) == ("host:1", found.since, found.expires_at)
    assert found.expires_at - found.since == timedelta(seconds=60)
    assert (first.valid, second.valid, second.term) == (True, False, 0)


def test_accounts_do_not_stand_in_each_others_way(risk_db: Database) -> None:
    assert [Lease(risk_db, f"{ACCOUNT}{n}", f"host:{n}").acquire() for n in range(3)] == [1, 1, 1]


@pytest.mark.proves("R24")
def test_after_it_ran_out_another_takes_it_with_a_greater_term_and_the_first_is_told_so(risk_db: Database) -> None:
    first, second = (Lease(risk_db, ACCOUNT, holder) for holder in ("host:1", "host:2"))
    first.acquire()
    age(risk_db, 59)
    with pytest.raises(LeaseHeld):
        second.acquire()
    age(risk_db, 1)

    assert second.acquire() == 2
    with pytest.raises(LeaseHeld, match="traded by host:2"):
        first.renew()
    with pytest.raises(LeaseHeld):
        first.acquire()

    assert (first.valid, second.valid) == (False, True)
    first.release()
    assert (row(risk_db).holder, row(risk_db).expires_at > row(risk_db).now) == ("host:2", True)


def test_renewing_makes_it_last_from_now_in_the_same_term(risk_db: Database) -> None:
    lease = Lease(risk_db, ACCOUNT, "host:1")
    lease.acquire()
    age(risk_db, 50)
    since = row(risk_db).since

    lease.renew()

    found = row(risk_db)
    assert (found.since, found.term) == (since, 1)
    assert found.expires_at - found.renewed_at == timedelta(seconds=60)
    assert timedelta(0) <= found.now - found.renewed_at < timedelta(seconds=40)


def test_one_that_ran_out_and_that_nobody_took_is_renewed(risk_db: Database) -> None:
    lease = Lease(risk_db, ACCOUNT, "host:1")
    lease.acquire()
    age(risk_db, 3600)

    lease.renew()

    assert row(risk_db).expires_at > row(risk_db).now


def test_one_that_is_released_is_free_at_once_and_its_term_is_not_forgotten(risk_db: Database) -> None:
    first, second = (Lease(risk_db, ACCOUNT, holder) for holder in ("host:1", "host:2"))
    first.acquire()

    first.release()

    assert not first.valid
    assert second.acquire() == 2


def test_the_same_name_gets_it_back_at_once_and_what_held_it_before_has_lost_it(risk_db: Database) -> None:
    before, after = (Lease(risk_db, ACCOUNT, "host:/home/trader") for _ in range(2))
    before.acquire()

    assert after.acquire() == 2
    with pytest.raises(LeaseHeld):
        before.renew()

    assert (before.valid, after.valid) == (False, True)
    before.release()
    assert row(risk_db).expires_at > row(risk_db).now


def test_one_that_is_gone_from_the_database_is_not_valid_any_more(settings: Settings, risk_db: Database) -> None:
    lease = Lease(risk_db, ACCOUNT, "host:1")
    lease.acquire()
    with closing(Database(settings, "risk", "owner")) as owner, owner.begin() as connection:
        connection.execute(sa.text("DELETE FROM lease"))

    with pytest.raises(PlatformError, match="is gone from the risk database"):
        lease.renew()

    assert not lease.valid
    assert lease.acquire() == 1


def test_of_many_that_ask_at_once_one_gets_it(risk_db: Database) -> None:
    leases = [Lease(risk_db, ACCOUNT, f"host:{n}") for n in range(8)]
    together = threading.Barrier(len(leases))
    told: list[str] = []

    def ask(lease: Lease) -> None:
        together.wait()
        try:
            lease.acquire()
        except LeaseHeld as refusal:
            told.append(refusal.who)

    threads = [threading.Thread(target=ask, args=[lease]) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [holder] = [lease.holder for lease in leases if lease.valid]
    assert told == [holder] * 7
    assert row(risk_db).term == 1


# --- How long the holder believes in it -----------------------------------------------------------------------------------


def test_validity_counts_from_before_it_was_asked_for(risk_db: Database) -> None:
    clock = Clock()
    lease = Lease(Slow(risk_db, clock, 20), ACCOUNT, "host:1", clock=clock)  # type: ignore[arg-type]

    lease.acquire()
    assert (clock.now, lease.remaining) == (1020.0, 40.0)
    lease.renew()
    assert (clock.now, lease.remaining) == (1040.0, 40.0)

    clock.now += 39.5
    assert lease.valid
    clock.now += 0.5
    assert not lease.valid
    assert lease.remaining == 0


class Slow:
    """A database whose answer takes its time."""

    def __init__(self, database: Database, clock: Clock, seconds: float) -> None:
        self.database, self.clock, self.seconds = database, clock, seconds

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        with self.database.begin() as connection:
            yield connection
        self.clock.now += self.seconds


def test_the_holder_believes_in_it_for_no_longer_than_postgresql(risk_db: Database) -> None:
    lease = Lease(risk_db, ACCOUNT, "host:1")
    for ask in (lease.acquire, lease.renew):
        ask()

        # Both clocks are this machine's, so that the two ends can be compared.
        ends = datetime.now(UTC) + timedelta(seconds=lease.remaining)
        assert ends <= row(risk_db).expires_at + timedelta(milliseconds=1)
        assert lease.valid_until <= time.monotonic() + 60


def test_while_postgresql_is_away_it_runs_out_and_is_not_lost_before(settings: Settings, risk_db: Database) -> None:
    clock = Clock()
    lease = Lease(risk_db, ACCOUNT, "host:1", clock=clock)
    lease.acquire()
    with away(settings) as nowhere:
        lease._database = nowhere
        clock.now += 30
        with pytest.raises(PlatformError, match="No connection"):
            lease.renew()
        assert lease.remaining == 30
        clock.now += 30
        assert not lease.valid
        with pytest.raises(PlatformError, match="No connection"):
            lease.acquire()
        with pytest.raises(PlatformError, match="No connection"):
            lease.release()
    lease._database = risk_db

    lease.renew()

    assert lease.remaining == 60
