"""What a fault does to the exchange itself: its market, its accounts, its clock, its connections, its life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mbats.simulator.core.engine import Engine
from mbats.simulator.core.placing import Reply
from mbats.simulator.errors import Refusal
from mbats.simulator.faults.actions import (
    ClockJump,
    Closeout,
    Deed,
    Disconnect,
    ExternalClose,
    ExternalOrder,
    Kill,
    MarketChange,
    Outage,
    StripOnFill,
    Transfer,
)
from mbats.simulator.faults.rules import Rule
from mbats.simulator.runtime import Runtime

Cut = Callable[[float], Awaitable[None]]


class Deeds:
    """Does them. `cut` resets all connections of clients and refuses new ones for so many seconds (0: only resets)."""

    def __init__(self, runtime: Runtime, cut: Cut) -> None:
        self._runtime = runtime
        self._cut = cut

    async def struck(self, rule: Rule, deed: Deed) -> None:
        """Do it because a request or a message was struck. What cannot be done is journalled; the request is not to blame."""
        try:
            await self._do(rule, deed)
        except Refusal as refusal:
            self._runtime.journal.add("fault", rule=str(rule.number), action=deed.do, outcome="failed", why=refusal.message)

    async def at_once(self, rule: Rule, deed: Deed) -> None:
        """Do it because somebody says so, or get ready to be killed. Raises Refusal when it cannot be done."""
        await self._do(rule, deed)
        if not isinstance(deed, Kill):
            rule.hits += 1
            self._runtime.faults.note(rule)

    async def _do(self, rule: Rule, deed: Deed) -> None:
        runtime = self._runtime
        if isinstance(deed, Kill):
            if deed.point is None:
                runtime.faults.kill(rule)
            else:
                runtime.faults.arm(rule, deed.point)
            return
        if isinstance(deed, MarketChange):
            runtime.change_market(dict(deed.change))
        elif isinstance(deed, ClockJump):
            runtime.clock.jump(deed.seconds)
        elif isinstance(deed, StripOnFill):
            runtime.set_strip_on_fill(deed.on)
        elif isinstance(deed, Disconnect | Outage):
            await self._cut(deed.seconds if isinstance(deed, Outage) else 0.0)
        else:
            runtime.execute(_of_account(deed))


def _of_account(deed: Closeout | ExternalOrder | ExternalClose | Transfer) -> Callable[[Engine], Reply]:
    if isinstance(deed, Closeout):
        return lambda engine: engine.force_closeout(deed.account)
    if isinstance(deed, ExternalOrder):
        return lambda engine: engine.create_order(deed.account, {"order": deed.order})
    if isinstance(deed, ExternalClose):
        return lambda engine: engine.close_trade(deed.account, deed.trade, {"units": deed.units})
    return lambda engine: engine.transfer(deed.account, deed.amount, deed.comment)
