"""The processes of deployments, as the owner of their account sees them: what they take up, and the bars that they get.

A process begins with what stands from before: positions, orders that wait, stops and targets, each with a number below zero. It
hears of them as of its own.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter

from mbats.errors import ConfigError
from mbats.live.deployment import Deployment
from mbats.live.gate import Mode, read_limits
from mbats.live.journal import IntentState
from mbats.live.models import pins_of
from mbats.live.owner.account import Account, Trading, form_of
from mbats.live.owner.audit import Audit
from mbats.live.owner.link import Link
from mbats.live.owner.listeners import Listener
from mbats.live.owner.orders import Orders
from mbats.live.owner.patience import Patience
from mbats.live.owner.tickets import Ticket
from mbats.live.owner.worth import made
from mbats.live.wire import Adopt, Form, Holding, LiveBar, Moment, Standing, Submit, ToStrategy
from mbats.riskdb.live_records import EquityRecord, RunRecord

Send = Callable[[ToStrategy], None]
KNOWN = "known:"
_DEPLOYMENT = TypeAdapter(Deployment)


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one deployment that completed at a moment."""

    name: str
    time: datetime
    bars: Mapping[str, LiveBar]


@dataclass(slots=True)
class Processes:
    """See the module. Used by the owner's thread alone. `vendor` and `mode` are of the account, for its runs."""

    account: Account
    orders: Orders
    patience: Patience
    link: Link
    audit: Audit
    vendor: str
    mode: Mode
    held: list[Bars] = field(default_factory=list)
    points: list[EquityRecord] = field(default_factory=list)

    # --- Bars -------------------------------------------------------------------------------------------------------------

    def take(self, bars: Bars) -> None:
        """Bars have completed."""
        self.held.append(bars)
        self.deliver()

    def deliver(self) -> None:
        """In order, and only while decisions could be carried out (R13)."""
        account = self.account
        account.live = self.link.is_live
        if not account.live or not self.held:
            return
        held, self.held = self.held, []
        for each in held:
            trading = account.deployments.get(each.name)
            if trading is not None and trading.say is not None:
                trading.say(Moment(each.time, dict(each.bars), account.money(each.name)))  # type: ignore[arg-type]
                point = self.audit.equity(each.name, each.time)
                if point is not None:
                    self.points.append(point)

    def write(self) -> None:
        """Keep the points of equity: after the decisions on their bars, which would wait for the disk."""
        points, self.points = self.points, []
        if points:
            with self.account.journal.write():
                for point in points:
                    self.account.put(point)

    # --- Beginning and end ------------------------------------------------------------------------------------------------

    def admit(self, deployment: Deployment, session: str, say: Any) -> None:
        """Make a deployment known: to the gate with its limits and, if it trades, to the stream of prices with its pairs."""
        account = self.account
        account.deployments[deployment.name] = Trading(deployment, session, say)
        with account.journal.write():
            account.journal.save(f"{KNOWN}{deployment.name}", _DEPLOYMENT.dump_json(deployment).decode())
        account.gate.admit(
            deployment.name, read_limits(deployment.limits, where=f"deployment {deployment.name}"), self.account.clock.now()
        )
        if say is not None:
            self.link.watch(frozenset(deployment.symbols) | self.conversions(deployment.symbols))

    def remember(self) -> None:
        """Those that traded here before: what they hold is looked after and recorded though no process of theirs runs."""
        journal = self.account.journal
        for key in journal.keys(KNOWN):
            self.admit(_DEPLOYMENT.validate_json(journal.load(key) or ""), "", None)

    def conversions(self, symbols: tuple[str, ...]) -> frozenset[str]:
        """Pairs whose prices turn currencies of these into the account's."""
        currencies = {part for symbol in symbols for part in symbol.split("_")} - {self.account.currency}
        names = {f"{a}_{b}" for each in currencies for a, b in ((each, self.account.currency), (self.account.currency, each))}
        return frozenset(names & self.account.instruments.keys())

    def open(self, deployment: Deployment, session: str, send: Send) -> Adopt:
        """A process begins. Raises ConfigError when the account does not offer one of its symbols."""
        account = self.account
        unknown = [symbol for symbol in deployment.symbols if symbol not in account.instruments]
        if unknown:
            raise ConfigError(
                f"Account {account.id} cannot trade {', '.join(unknown)}: the broker does not offer it there. Nothing was "
                "started."
            )
        self.orders.leave(deployment.name)
        self.held = [each for each in self.held if each.name != deployment.name]
        deployment = self._with_cash(deployment)
        self.admit(deployment, session, send)
        holdings = []
        for symbol in deployment.symbols:
            units = account.books.position(deployment.name, symbol)
            if units:
                holdings.append(Holding(symbol, units, account.books.average_price(deployment.name, symbol) or Decimal(0)))
        return Adopt(tuple(holdings), tuple(self._standing(deployment.name, session)), account.money(deployment.name))

    def _with_cash(self, deployment: Deployment) -> Deployment:
        """What the deployment's own equity is counted from: the account's NAV when it first began."""
        key, account = f"cash:{deployment.name}:{deployment.created_at.isoformat()}", self.account
        text = account.journal.load(key)
        if text is None:
            text = f"{account.nav()} {made(account.books, deployment.name)}"
            with account.journal.write():
                account.journal.save(key, text)
                account.put(self._run_record(deployment, Decimal(text.split(" ")[0])))
        cash, made_before = text.split(" ")
        return replace(deployment, extra=deployment.extra | {"starting_cash": cash, "made_before": made_before})

    def _run_record(self, deployment: Deployment, cash: Decimal) -> RunRecord:
        now = self.account.clock.now()
        models = pins_of(deployment).models.values()  # those of its first start; what each bar asked stands in its decision
        return RunRecord(
            deployment=deployment.name,
            session=Trading(deployment).run_key,
            account_id=self.account.id,
            mode=str(self.mode),
            strategy=deployment.strategy,
            source=deployment.source,
            parameters=deployment.parameters,
            symbols=deployment.symbols,
            granularity=deployment.granularity,
            period_start=now,
            account_currency=self.account.currency,
            starting_cash=cash,
            seed=deployment.seed,
            code_version=deployment.code_version,
            models={each.reference: each.info.to_json() for each in models},
            model_version=", ".join(each.info.reference for each in models) or None,
            versions={"python": platform.python_version()} | {name: version(name) for name in ("backtrader", "numpy", "pandas")},
            data_source=self.vendor,
            started_at=now,
        )

    def _standing(self, name: str, session: str) -> list[Standing]:
        """Orders and stops that stand from before, each with a number below zero."""
        account = self.account
        found: list[Standing] = []
        for row in list(account.rows.values()):
            if row.deployment == name and row.why == "strategy" and row.state is IntentState.WORKING:
                number = -len(found) - 1
                form = form_of(row)
                submit = Submit(number, row.symbol, row.units, form, row.bar, row.price)
                self.orders.adopt(Ticket(name, session, submit, accepted=True), row.client_id)
                found.append(Standing(number, row.symbol, row.units, form, "entry", row.bar, row.price))
        found += self.patience.adopt(name, session, -len(found) - 1)
        for lot in [each for each in account.books.lots if each.deployment == name]:
            if lot.stop is not None or lot.trail is not None:
                form = Form.STOP if lot.trail is None else Form.STOP_TRAIL
                self.orders.listeners.by_place[lot.id, "stop"] = Listener(name, session, -len(found) - 1)
                found.append(Standing(-len(found) - 1, lot.symbol, -lot.units, form, "stop", lot.opened, lot.stop, lot.trail))
            if lot.target is not None:
                self.orders.listeners.by_place[lot.id, "target"] = Listener(name, session, -len(found) - 1)
                found.append(Standing(-len(found) - 1, lot.symbol, -lot.units, Form.LIMIT, "target", lot.opened, lot.target))
        return found

    def close(self, name: str, session: str) -> None:
        """A process is gone; its orders stand."""
        trading = self.account.deployments.get(name)
        if trading is not None and trading.session == session:
            trading.say = None
            self.orders.leave(name)
            self.held = [each for each in self.held if each.name != name]
