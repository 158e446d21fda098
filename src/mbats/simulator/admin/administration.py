"""What the handlers of the admin port share: the exchange, and whoever moves, spoils and streams it."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from mbats.simulator.account_wire import Standing
from mbats.simulator.errors import Refusal
from mbats.simulator.faults.deeds import Deeds
from mbats.simulator.runtime import Runtime
from mbats.simulator.stepping import Stepping
from mbats.simulator.streams import Streams


@dataclass(frozen=True, slots=True)
class Administration:
    """One exchange with everything that its administrator works with."""

    runtime: Runtime
    deeds: Deeds
    streams: Streams
    stepping: Stepping

    def standing(self, account_id: str) -> Standing:
        """An account with what it is worth now. Raises Refusal (404) when there is none of this id."""
        engine = self.runtime.engine
        if account_id not in engine.accounts:
            raise Refusal(404, f"No account {account_id}. Known: {', '.join(engine.accounts)}.")
        return Standing(engine.accounts[account_id], engine.valuation(account_id), engine.market.instruments)


ADMINISTRATION = web.AppKey("administration", Administration)
