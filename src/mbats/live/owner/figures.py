"""An account in plain values, for people, for health and for metrics."""

from __future__ import annotations

from typing import Any

from mbats.live.gate import ruling
from mbats.live.owner.account import Account
from mbats.live.owner.guard import Guard
from mbats.live.owner.link import Link
from mbats.live.owner.orders import Orders


def figures(account: Account, link: Link, orders: Orders, guard: Guard) -> dict[str, Any]:
    """As it is now; amounts and units are texts, positions and counts by owner."""
    states: dict[str, int] = {}
    for row in account.rows.values():
        states[str(row.state)] = states.get(str(row.state), 0) + 1
    now = account.clock.now()
    return link.state() | {
        "account": account.id,
        "live": account.live,
        "known": account.known,
        "fenced": account.fenced,
        "currency": account.currency,
        "balance": str(account.books.balance),
        "nav": str(account.nav()),
        "margin_used": str(account.margin_used()),
        "positions": {f"{owner} {symbol}": str(units) for (owner, symbol), units in account.books.positions().items() if units},
        "realised": {owner: str(amount) for owner, amount in account.books.realised.items()},
        "open_intents": states,
        "open_intents_of": {name: _count(account, name) for name in account.deployments},
        "waiting_for_market": len(orders.waiting),
        "repeated": account.continuity.repeated,
        "gate": str(account.gate.state.everything.state),
        "gates": {name: str(ruling(account.gate.state, name, now).state) for name in account.deployments},
        "naked": sorted(guard.naked_since),
        "in_flight": account.calls.in_flight,
        "streams_alive": link.threads_alive(),
    }


def _count(account: Account, name: str) -> dict[str, int]:
    return {"open": sum(1 for row in account.rows.values() if row.deployment == name)}
