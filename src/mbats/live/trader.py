"""The trader: one process that hosts every deployment. It is told what should run, and sees to it that it does.

A strategy lives in a process of its own and may die; an account belongs to its owner thread and outlives every strategy. What
should run is in the trader's journal, so that it comes back after any crash, with or without PostgreSQL.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from mbats.database import Database
from mbats.errors import MbatsError, UsageError
from mbats.live.accounts import account_names, resolve
from mbats.live.deployment import Deployment, Desired, State
from mbats.live.gate import Command, CommandKind, TradingState
from mbats.live.hosting.commands import StopDeployment, waiting
from mbats.live.hosting.control import Control
from mbats.live.hosting.desk import DeploymentStatus, UnknownDeployment
from mbats.live.hosting.host import End, EndKind, Host, Hosted, Session
from mbats.live.hosting.metrics import Metrics
from mbats.live.hosting.notices import Level, Notices
from mbats.live.journal import Journal
from mbats.live.market.history import read_with_conversions
from mbats.live.mirror import Mirror
from mbats.live.owner import OwnerOptions
from mbats.live.venue import Venue
from mbats.live.wire import Begin, Broken, Done, FromStrategy, History, LiveBar, Ready, Submit, Withdraw
from mbats.market import Granularity, to_datetime, to_us
from mbats.riskdb.live_records import DeploymentRecord, HeartbeatRecord
from mbats.settings import Settings

log = logging.getLogger(__name__)

WARMUP_BARS = 500
WEEKEND = timedelta(days=4)  # more than the longest time without bars
HUNG_AFTER = 30.0  # seconds without a round of an owner's thread
EVERYTHING = "everything"
_DEPLOYMENT = TypeAdapter(Deployment)
_COMMAND = TypeAdapter(Command)


class Told:
    """People are told through notices; the owner's way of saying it."""

    def __init__(self, notices: Notices, metrics: Metrics) -> None:
        self._notices, self._metrics = notices, metrics

    def send(self, level: str, title: str, text: str) -> None:
        """Never waits."""
        self._metrics.alarm(level)
        self._notices.tell(Level(level), f"{title}: {text}", key=title)


@dataclass(slots=True)
class Life:
    """One life of a deployment's process as the trader knows it."""

    key: str
    after: dict[str, datetime | None]
    last_bar: datetime | None = None


class Trader:
    """See the module. It is the `Desk` of the control port and the `Hosting` of the host."""

    def __init__(self, settings: Settings, *, options: OwnerOptions | None = None, lease: bool = True) -> None:
        self.settings = settings
        self.metrics_ = Metrics()
        self.notices = Notices.to_addresses(settings.notify_urls)
        self._told = Told(self.notices, self.metrics_)
        self._options, self._lease = options, lease
        settings.trader_home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._journal = Journal.open(settings.trader_home / "trader.sqlite")
        self.mirror = Mirror({"": self._journal}, Database(settings, "risk", "trading"))
        self._secmaster = Database(settings, "secmaster", "trading")
        self._venues: dict[str, Venue] = {}
        self._lives: dict[str, Life] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._deployments: dict[str, Deployment] = {}
        for key in self._journal.keys("deployment:"):
            found: Deployment = _DEPLOYMENT.validate_json(self._journal.load(key) or "")
            self._deployments[found.name] = found
        self.host = Host(self)
        self._watch_figures()

    # --- Life -------------------------------------------------------------------------------------------------------------

    def begin_all(self) -> None:
        """Obey what was left for us, then start what should run."""
        self.obey_waiting()
        for name in [each.account for each in self._deployments.values()]:
            self._venue(name)
        self._open_venues()
        for deployment in list(self._deployments.values()):
            if deployment.desired is Desired.RUNNING:
                self.host.start(deployment.name)

    def serve(self, stopping: threading.Event) -> None:
        """Go on until it is told to stop."""
        self.mirror.start()
        self.begin_all()
        beat = 0.0
        while not stopping.wait(1.0):
            try:
                self.obey_waiting()
                self._open_venues()
                if time.monotonic() - beat > 5.0:
                    beat = time.monotonic()
                    self._heartbeat()
            except Exception:
                log.exception("the trader goes on")
                self.metrics_.error("trader")

    def close(self) -> None:
        """Gracefully (R35): processes first, so that nothing new is wanted, then accounts, then the copy to PostgreSQL."""
        self.host.close("the trader stops")
        for venue in self._venues.values():
            venue.close()
        self.mirror.stop()
        for venue in self._venues.values():
            if venue.journal is not None:
                venue.journal.close()
        self._journal.close()

    def obey_waiting(self) -> None:
        """Commands that were left as files, oldest first; each is taken away when it is done."""
        for left in waiting(self.settings.home, now=datetime.now(UTC)):
            word = left.word
            try:
                if isinstance(word, StopDeployment):
                    self.stop(word.name)
                else:
                    self.command(word)
            except MbatsError as error:
                log.warning("a command that was left in %s could not be obeyed: %s", left.path.name, error)
                if error.passing:
                    continue
            left.obeyed()

    def _open_venues(self) -> None:
        """Accounts with positions are looked after though none of their strategies runs."""
        for venue in list(self._venues.values()):
            if venue.owner is None or not venue.owner.is_alive:
                try:
                    venue.open()
                    self._repeat_command(venue)
                except MbatsError as error:
                    log.warning("account '%s' is not open: %s", venue.ref.name, error)

    def _repeat_command(self, venue: Venue) -> None:
        """A word for everything holds for accounts, too, that were not open when it was said."""
        text = self._journal.load(EVERYTHING)
        if text is not None and venue.journal is not None and venue.journal.load(EVERYTHING) != text:
            self._tell(venue, _COMMAND.validate_json(text))

    @staticmethod
    def _tell(venue: Venue, command: Command) -> dict[str, Any]:
        """A command to an account, which remembers the last word for everything that it has obeyed."""
        answer = venue.command(command)
        if command.deployment is None and venue.journal is not None:
            with venue.journal.write():
                venue.journal.save(EVERYTHING, _COMMAND.dump_json(command).decode())
        return answer

    def _venue(self, account: str) -> Venue:
        with self._lock:
            if account not in self._venues:
                ref = resolve(self.settings, account)
                self._venues[account] = Venue(
                    self.settings, ref, notify=self._told, journaled=self.mirror.follow, options=self._options, lease=self._lease
                )
            return self._venues[account]

    # --- Desk: what people say --------------------------------------------------------------------------------------------

    def deploy(self, deployment: Deployment) -> None:
        """Store a deployment and start it, if it is to run."""
        with self._lock:
            known = self._deployments.get(deployment.name)
            if known is not None and _essence(known) != _essence(deployment):
                if self.host.hosted(deployment.name).state not in (State.STOPPED, State.FAILED):
                    raise UsageError(
                        f"There is a deployment '{deployment.name}' that differs and runs. Nothing was changed: stop it first, "
                        "or choose another name."
                    )
                self._require_flat(known, deployment)
            elif known is not None:
                deployment = replace(known, desired=deployment.desired)
            self._venue(deployment.account)
            self._keep(deployment)
        if deployment.desired is Desired.RUNNING:
            self.host.start(deployment.name)

    def _require_flat(self, known: Deployment, new: Deployment) -> None:
        """Another strategy or another account may take the name only when nothing is held under it."""
        venue = self._venues.get(known.account)
        held = self._positions(venue, known.name) if venue is not None else {}
        if held and (known.strategy, known.account) != (new.strategy, new.account):
            holdings = ", ".join(f"{units:f} {symbol}" for symbol, units in held.items())
            raise UsageError(
                f"'{known.name}' holds {holdings} for {known.strategy} on {known.account}. Nothing was changed: flatten it "
                "first, or choose another name."
            )

    def start(self, name: str) -> None:
        """Start a deployment."""
        with self._lock:
            self._keep(replace(self._known(name), desired=Desired.RUNNING))
        self.host.start(name)

    def stop(self, name: str) -> None:
        """End its process; entries that wait are taken back, positions keep their stops."""
        with self._lock:
            deployment = replace(self._known(name), desired=Desired.STOPPED)
            self._keep(deployment)
        self.host.stop(name, "stopped by a person")
        venue = self._venues.get(deployment.account)
        if venue is not None and venue.owner is not None:
            venue.owner.retire(name)

    def command(self, command: Command) -> dict[str, Any]:
        """Halt, reduce, flatten or resume: one deployment, or everything."""
        if command.deployment is not None:
            venue = self._venue(self._known(command.deployment).account)
            answers = [self._say_to(venue, command)]
        else:
            with self._journal.write():
                self._journal.save(EVERYTHING, _COMMAND.dump_json(command).decode())
            answers = [self._say_to(venue, command) for venue in list(self._venues.values())]
        whom = command.deployment or "all deployments"
        failed = [answer["error"] for answer in answers if "error" in answer]
        words = {"halt": "halted", "reduce": "may only reduce", "flatten": "is being flattened", "resume": "resumed"}
        message = f"{whom}: {words[command.kind]}." + "".join(f" {each}" for each in failed)
        self.notices.tell(
            Level.INFO if command.kind is CommandKind.RESUME else Level.WARNING, f"{message} ({command.by}: {command.why})"
        )
        return {"message": message, "accounts": answers}

    def _say_to(self, venue: Venue, command: Command) -> dict[str, Any]:
        try:
            if venue.owner is None:
                venue.open()
            return self._tell(venue, command)
        except (MbatsError, TimeoutError) as error:
            log.error("account '%s' could not be told '%s': %s", venue.ref.name, command.kind, error)
            return {
                "account": venue.ref.name,
                "error": f"Account '{venue.ref.name}' could not be told: {error or 'it does not answer'}",
            }

    def deployments(self) -> list[DeploymentStatus]:
        """All of them, by name."""
        return [self._status(each) for _, each in sorted(self._deployments.items())]

    def healthy(self) -> tuple[bool, dict[str, Any]]:
        """False when a thread is gone or hangs, which a restart would mend."""
        accounts = {name: self._account_state(venue) for name, venue in self._venues.items()}
        lag = self.mirror.lag()
        hung = [name for name, venue in self._venues.items() if venue.owner is not None and venue.owner.since_beat() > HUNG_AFTER]
        dead = [part for part, alive in (("host", self.host.alive), ("mirror", self.mirror.alive)) if not alive]
        well = not hung and not dead
        trouble = [f"{name}: {state['why']}" for name, state in accounts.items() if state.get("why")]
        trouble += [f"PostgreSQL: {each.trouble}" for each in lag.values() if each.trouble][:1]
        reason = "; ".join(
            [*(f"the owner of {name} hangs" for name in hung), *(f"the {part} is gone" for part in dead), *trouble]
        )
        return well, {
            "reason": reason,
            "accounts": accounts,
            "outbox": {name or "trader": asdict(each) for name, each in lag.items()},
            "deployments": {name: str(self.host.hosted(name).state) for name in sorted(self._deployments)},
        }

    def metrics(self) -> bytes:
        """For Prometheus."""
        return self.metrics_.text()

    def _account_state(self, venue: Venue) -> dict[str, Any]:
        if venue.owner is None:
            return {"live": False, "why": "not open"}
        state = venue.owner.state()
        if venue.owner.failed is not None:
            state["why"] = str(venue.owner.failed)
        elif not state.get("live"):
            state.setdefault("why", f"not in step with the broker ({state.get('step', 'starting')})")
        elif state.get("fenced"):
            state["why"] = state["fenced"]
        return state

    def _status(self, deployment: Deployment) -> DeploymentStatus:
        hosted = self.host.hosted(deployment.name)
        venue = self._venues.get(deployment.account)
        state = self._account_state(venue) if venue is not None else {}
        life = self._lives.get(deployment.name)
        pnl = state.get("realised", {}).get(deployment.name)
        trading = state.get("gates", {}).get(deployment.name) or state.get("gate") or TradingState.ACTIVE
        return DeploymentStatus(
            name=deployment.name,
            strategy=deployment.strategy,
            symbols=deployment.symbols,
            granularity=deployment.granularity,
            account=deployment.account,
            mode=deployment.mode,
            desired=deployment.desired,
            state=hosted.state,
            trading=TradingState(trading),
            reason=hosted.reason or (str(state.get("why", "")) if hosted.state is State.LIVE else ""),
            positions=self._positions(venue, deployment.name) if venue is not None else {},
            orders=sum(state.get("open_intents_of", {}).get(deployment.name, {}).values()),
            pnl=None if pnl is None else Decimal(pnl),
            currency=str(state.get("currency", "")),
            last_bar=life.last_bar if life is not None else None,
            since=hosted.since,
            restarts=hosted.restarts,
        )

    def _positions(self, venue: Venue | None, name: str) -> dict[str, Decimal]:
        state = venue.owner.state() if venue is not None and venue.owner is not None else {}
        own = {
            key.split(" ")[1]: Decimal(units) for key, units in state.get("positions", {}).items() if key.split(" ")[0] == name
        }
        return own

    def _left(self, venue: Venue, name: str | None) -> dict[str, str]:
        """What is still held, of one deployment or of all."""
        assert venue.owner is not None
        time.sleep(0.6)  # for the owner to come round
        held = venue.owner.state().get("positions", {})
        return {key: units for key, units in held.items() if key.split(" ")[0] in ((name,) if name else self._ours(held))}

    @staticmethod
    def _ours(held: dict[str, str]) -> set[str]:
        return {key.split(" ")[0] for key in held} - {""}

    def _known(self, name: str) -> Deployment:
        if name not in self._deployments:
            raise UnknownDeployment(name, self._deployments)
        return self._deployments[name]

    def _keep(self, deployment: Deployment) -> None:
        with self._journal.write():
            self._journal.save(f"deployment:{deployment.name}", _DEPLOYMENT.dump_json(deployment).decode())
            self._journal.put(self._record(deployment, self.host.hosted(deployment.name)))
        self._deployments[deployment.name] = deployment

    def _record(self, deployment: Deployment, hosted: Hosted) -> DeploymentRecord:
        venue = self._venues.get(deployment.account)
        given = {name: getattr(deployment, name) for name in _SAME}
        return DeploymentRecord(
            **given,
            account_id=venue.account_id if venue is not None else "",
            mode=str(deployment.mode),
            desired=str(deployment.desired),
            state=str(hosted.state),
            reason=hosted.reason,
            updated_at=datetime.now(UTC),
        )

    # --- Hosting: the processes of strategies -----------------------------------------------------------------------------

    def begin(self, session: Session) -> None:
        """Tell a new process what it needs; in a thread of the session's own."""
        deployment = self._known(session.name)
        venue = self._venue(deployment.account)
        owner = venue.open()
        self._repeat_command(venue)
        assert venue.clock is not None
        granularity = Granularity(deployment.granularity)
        instruments = {symbol: owner.instruments[symbol] for symbol in deployment.symbols if symbol in owner.instruments}
        since = deployment.warmup_from
        if since is None:
            wanted = deployment.warmup_bars if deployment.warmup_bars is not None else WARMUP_BARS
            since = venue.clock.now() - 1.6 * wanted * granularity.length - WEEKEND
        histories = read_with_conversions(
            list(instruments.values()),
            granularity,
            since,
            self._secmaster,
            venue.client,
            vendor=venue.vendor,
            currency=owner.currency,
            offered=list(owner.instruments),
        )
        if deployment.warmup_from is None:
            deployment = self._anchor(deployment, histories, venue.clock.now())
        session.send(
            Begin(
                _DEPLOYMENT.dump_python(deployment, mode="json"),
                {name: each.to_json() for name, each in instruments.items()},
                owner.currency,
            )
        )
        after: dict[str, datetime | None] = {}
        anchor = deployment.warmup_from
        for symbol, history in histories.items():
            kept = history.bars.time >= to_us(anchor) if anchor is not None else slice(None)
            bars, conversions = history.bars[kept], history.conversion_close[kept]
            session.send_bars(History(symbol, len(bars)), bars, conversions)
            after[symbol] = to_datetime(bars.time[-1]) if len(bars) else None
            owner.quotes.observe_history(symbol, granularity, bars)
        life = Life(f"{session.pid}-{session.started:.6f}", after)
        with self._lock:
            self._lives[session.name] = life  # before the process can say that it is ready
        session.send(owner.open_session(deployment, life.key, session.send))

    def _anchor(self, deployment: Deployment, histories: dict[str, Any], now: datetime) -> Deployment:
        """Fix where the history begins, so that a restart gives the indicators the same values."""
        wanted = deployment.warmup_bars if deployment.warmup_bars is not None else WARMUP_BARS
        firsts = [history.bars.time[max(0, len(history.bars) - wanted)] for history in histories.values() if len(history.bars)]
        anchor = to_datetime(min(firsts)) if firsts and wanted else now
        anchored = replace(deployment, warmup_from=anchor)
        with self._lock:
            self._keep(replace(self._known(deployment.name), warmup_from=anchor))
        return anchored

    def message(self, session: Session, message: FromStrategy) -> None:
        """What a strategy says."""
        deployment, life = self._deployments[session.name], self._lives.get(session.name)
        venue = self._venues[deployment.account]
        if life is None or venue.owner is None:
            return
        match message:
            case Submit() | Withdraw():
                venue.owner.request(session.name, life.key, message)
            case Ready():
                assert venue.desk is not None
                venue.desk.subscribe(
                    session.name,
                    deployment.symbols,
                    Granularity(deployment.granularity),
                    life.after,
                    self._deliver_to(venue, session.name),
                )
            case Done():
                life.last_bar = message.time
            case Broken():
                log.error("deployment '%s' broke: %s %s", session.name, message.message, message.where)

    def _deliver_to(self, venue: Venue, name: str) -> Callable[[datetime, dict[str, LiveBar]], None]:
        granularity = Granularity(self._deployments[name].granularity)

        def deliver(completed_at: datetime, bars: dict[str, LiveBar]) -> None:
            assert venue.owner is not None and venue.clock is not None
            for symbol, bar in bars.items():
                venue.owner.quotes.observe_bar(symbol, completed_at, bar)
            venue.owner.bars(name, completed_at, bars)
            self.metrics_.bar(granularity.value, max(0.0, (venue.clock.now() - completed_at).total_seconds()))

        return deliver

    def ended(self, session: Session, end: End) -> None:
        """A process is gone."""
        with self._lock:
            life = self._lives.pop(session.name, None)
        venue = self._venues.get(self._deployments[session.name].account)
        if venue is not None and venue.desk is not None:
            venue.desk.unsubscribe(session.name)
        if venue is not None and venue.owner is not None and life is not None:
            venue.owner.close_session(session.name, life.key)
        if end.kind is EndKind.DIED:
            self.metrics_.died(session.name)
            self.notices.tell(Level.WARNING, f"The process of '{session.name}' ended: {end.reason}", key=f"died {session.name}")

    def changed(self, name: str, hosted: Hosted) -> None:
        """The state of a deployment is another one."""
        log.info("deployment '%s' is %s%s", name, hosted.state, f": {hosted.reason}" if hosted.reason else "")
        with self._journal.write():
            self._journal.put(self._record(self._deployments[name], hosted))
        if hosted.state is State.FAILED:
            self.notices.tell(Level.CRITICAL, f"'{name}' has failed. {hosted.reason}", key=f"failed {name}")

    # --- Figures ----------------------------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        well, state = self.healthy()
        at = datetime.now(UTC)
        with self._journal.write():
            self._journal.put(HeartbeatRecord("trader", at, "well" if well else "ill", {"reason": state["reason"]}))
            for name in self._deployments:
                status = self._status(self._deployments[name])
                detail = {"trading": str(status.trading), "last_bar": status.last_bar.isoformat() if status.last_bar else None}
                self._journal.put(HeartbeatRecord(f"deployment:{name}", at, str(status.state), detail))

    def _watch_figures(self) -> None:
        def each(figure: str) -> Callable[[], dict[tuple[str, ...], float]]:
            def read() -> dict[tuple[str, ...], float]:
                owners = {name: venue.owner for name, venue in self._venues.items() if venue.owner is not None}
                return {(name,): float(owner.state().get(figure, 0) or 0) for name, owner in owners.items()}

            return read

        for figure, what in (
            ("live", "Whether the account is in step with its broker."),
            ("last_transaction", "The last transaction that was applied."),
            ("nav", "What the account is worth."),
            ("balance", "The account's balance."),
            ("margin_used", "Margin used."),
            ("repeated", "Transactions that came more than once."),
            ("crashes", "Errors that the owner's thread survived."),
            ("in_flight", "Requests that are under way."),
        ):
            self.metrics_.watch_each(f"account_{figure}", what, ("account",), each(figure))
        self.metrics_.watch_each(
            "outbox_waiting",
            "Records that wait for PostgreSQL.",
            ("account",),
            lambda: {(name or "trader",): lag.waiting for name, lag in self.mirror.lag().items()},
        )
        self.metrics_.watch_each(
            "deployment_live",
            "Whether the deployment's process is live.",
            ("deployment",),
            lambda: {(name,): float(self.host.hosted(name).state is State.LIVE) for name in self._deployments},
        )


_SAME = (
    *("name", "strategy", "source", "parameters", "symbols", "granularity", "account", "limits"),
    *("created_at", "created_by", "code_version", "seed", "warmup_bars", "warmup_from", "extra"),
)


def _essence(deployment: Deployment) -> Deployment:
    """What makes two descriptions the same deployment: not who wrote them, when, or where its history begins."""
    return replace(
        deployment,
        created_at=datetime.min.replace(tzinfo=UTC),
        created_by="",
        code_version="",
        warmup_from=None,
        desired=Desired.RUNNING,
    )


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises PlatformError when another trader has the journal, or the port is taken."""
    trader = Trader(settings)
    control = Control(
        trader, host=settings.trader_host, port=settings.trader_port, token=settings.required_secret("trader_token")
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        control.start()
        trader.serve(stopping)
    finally:
        control.stop()
        trader.close()


def flatten_now(settings: Settings, name: str | None, *, by: str, why: str, say: Callable[[str], None]) -> None:
    """Without a trader: halt, cancel and close everything of ours, or of one deployment; returns when fills have confirmed it.

    Raises PlatformError when a trader runs after all (its journal is in use), OandaError when the broker refuses.
    """
    trader = Trader(settings, lease=False)
    try:
        accounts = [trader._known(name).account] if name else account_names(settings)
        for account in accounts:
            venue = trader._venue(account)
            owner = venue.open()
            owner.command(Command(CommandKind.FLATTEN, by, datetime.now(UTC), why, deployment=name))
            while left := trader._left(venue, name):
                say(f"{account}: {', '.join(f'{units} {what}' for what, units in left.items())} still open")
                time.sleep(1.0)
            say(f"{account}: flat")
    finally:
        trader.close()


__all__ = ["Trader", "flatten_now", "run"]
