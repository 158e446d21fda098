"""The trader: one process that hosts every deployment. It is told what should run, and sees to it that it does.

A strategy lives in a process of its own and may die; an account belongs to its owner thread and outlives every strategy. What
should run is in the trader's journal, so that it comes back after any crash, with or without PostgreSQL.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from mbats.database import Database
from mbats.errors import MbatsError, UsageError
from mbats.live import liveness
from mbats.live.accounts import account_names, resolve
from mbats.live.beginning import Life, tell_history
from mbats.live.deployment import Deployment, Desired, State
from mbats.live.gate import Command, CommandKind
from mbats.live.hosting.commands import StopDeployment, waiting
from mbats.live.hosting.control import Control
from mbats.live.hosting.desk import DeploymentStatus, UnknownDeployment
from mbats.live.hosting.host import End, EndKind, Host, Hosted, Session
from mbats.live.hosting.metrics import Metrics
from mbats.live.hosting.notices import Level, Notices
from mbats.live.journal import Journal
from mbats.live.mirror import Mirror
from mbats.live.models import PINS, SHADOW, in_words, pinned, with_new_shadow, without_pins
from mbats.live.overview import account_state, positions_of, record_of, status_of, watch_figures
from mbats.live.owner import OwnerOptions
from mbats.live.venue import Venue
from mbats.live.wire import Broken, Decided, Done, FromStrategy, LiveBar, NewShadow, Ready, Submit, Withdraw
from mbats.market import Granularity
from mbats.riskdb.live_records import HeartbeatRecord
from mbats.settings import Settings

log = logging.getLogger(__name__)

SWITCH_EVERY = 0.001  # seconds for which a thread may compute while another one waits
EVERYTHING = "everything"
SHADOWS_EVERY = 900.0  # seconds; to ask the registry once takes a process of its own some seconds
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
        self.mirror = Mirror(
            {"": self._journal},
            Database(settings, "risk", "trading"),
            alarm=lambda sentence: self._told.send("critical", "risk database", sentence),
        )
        self._secmaster = Database(settings, "secmaster", "trading")
        self._venues: dict[str, Venue] = {}
        self._lives: dict[str, Life] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._deployments: dict[str, Deployment] = {}
        self._stops: dict[str, int] = {}  # how often each was stopped: one that is, while its model is looked up, stays so
        for key in self._journal.keys("deployment:"):
            found: Deployment = _DEPLOYMENT.validate_json(self._journal.load(key) or "")
            self._deployments[found.name] = found
        self.host = Host(self)
        watch_figures(self.metrics_, self._venues, self._deployments, self.host, self.mirror)
        liveness.watch(self.metrics_, self.host, self.mirror, self.notices, self._venues)

    # --- Life -------------------------------------------------------------------------------------------------------------

    def begin_all(self) -> None:
        """Obey what was left for us, then start what should run."""
        self.obey_waiting()
        for name in {each.account for each in self._deployments.values()}:
            try:
                self._venue(name)
            except MbatsError as error:  # the others are traded all the same; its deployments will say why they are not
                log.error("account '%s' cannot be used: %s", name, error)
        self._open_venues()
        for deployment in list(self._deployments.values()):
            if deployment.desired is Desired.RUNNING:
                failed = self._journal.load(f"failed:{deployment.name}")
                if failed is None:
                    self.host.start(deployment.name)
                else:
                    self.host.stay_down(deployment.name, failed)

    def serve(self, stopping: threading.Event) -> None:
        """Go on until it is told to stop."""
        self.mirror.start()
        self.begin_all()
        threading.Thread(target=self._keep_shadows_new, args=(stopping,), name="shadows", daemon=True).start()
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
        if self._stopping.is_set():
            return
        self._stopping.set()
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
                old = venue.owner
                try:
                    venue.open()
                    self._repeat_command(venue)
                    if venue.replaces(old):
                        self._begin_anew(venue)
                except MbatsError as error:
                    log.warning("account '%s' is not open: %s", venue.ref.name, error)

    def _begin_anew(self, venue: Venue) -> None:
        """The owner of an account is a new one, which no process of a strategy has spoken to: they are started anew as well."""
        for deployment in list(self._deployments.values()):
            session = self.host.session(deployment.name)
            if session is not None and deployment.account == venue.ref.name:
                session.kill("its account was opened anew", EndKind.NOT_READY)

    def _repeat_command(self, venue: Venue) -> None:
        """The last word for everything, and for each deployment, holds though the account was not open when it was said."""
        names = [each.name for each in list(self._deployments.values()) if each.account == venue.ref.name]
        for key in map(_word_key, (None, *names)):
            text = self._journal.load(key)
            if text is not None and venue.journal is not None and venue.journal.load(key) != text:
                self._tell(venue, _COMMAND.validate_json(text))

    @staticmethod
    def _tell(venue: Venue, command: Command) -> dict[str, Any]:
        """A command to an account, which remembers the last word that it has obeyed."""
        answer = venue.command(command)
        if venue.journal is not None:
            with venue.journal.write():
                venue.journal.save(_word_key(command.deployment), _COMMAND.dump_json(command).decode())
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
        """Store a deployment and start it, if it is to run. Looks its models up first, which may take seconds."""
        deployment = self._with_models(deployment)
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
                deployment = replace(known, desired=deployment.desired, extra=deployment.extra)
            self._venue(deployment.account)
            self._keep(deployment)
        if deployment.desired is Desired.RUNNING:
            self.host.start(deployment.name)

    def _require_flat(self, known: Deployment, new: Deployment) -> None:
        """Another strategy or another account may take the name only when nothing is held under it."""
        venue = self._venues.get(known.account)
        held = positions_of(venue, known.name)
        if held and (known.strategy, known.account) != (new.strategy, new.account):
            holdings = ", ".join(f"{units:f} {symbol}" for symbol, units in held.items())
            raise UsageError(
                f"'{known.name}' holds {holdings} for {known.strategy} on {known.account}. Nothing was changed: flatten it "
                "first, or choose another name."
            )

    def start(self, name: str) -> None:
        """Start a deployment. One that does not run gets the models that its references mean now."""
        extra = self._with_models(self._known(name)).extra
        with self._lock:
            self._keep(replace(self._known(name), desired=Desired.RUNNING, extra=extra))
        self.host.start(name)

    def _with_models(self, deployment: Deployment) -> Deployment:
        """With its models looked up and pinned; one that runs keeps those with which it was started. Raises NoModel."""
        name, known = deployment.name, self._deployments.get(deployment.name)
        if known is not None and self.host.hosted(name).state not in (State.STOPPED, State.FAILED):
            return replace(deployment, extra=known.extra) if _essence(known) == _essence(deployment) else deployment
        stops = self._stops.get(name, 0)
        deployment = pinned(deployment, self.settings)
        if self._stops.get(name, 0) != stops:
            raise UsageError(f"'{name}' was stopped while its model was looked up. Nothing was started.")
        return deployment

    def _keep_shadows_new(self, stopping: threading.Event) -> None:
        while not stopping.wait(SHADOWS_EVERY):
            try:
                self.renew_shadows()
            except Exception:
                log.exception("shadows stay as they are")
                self.metrics_.error("trader")

    def renew_shadows(self) -> None:
        """Where a shadow's alias means another version by now, that is asked from here on; the strategy trades on untouched."""
        for name, deployment in list(self._deployments.items()):
            if not deployment.extra.get(SHADOW) or self.host.hosted(name).state is not State.LIVE:
                continue
            try:
                renewed = with_new_shadow(deployment, self.settings)
            except MbatsError as error:
                log.warning("the shadow of '%s' stays as it is: %s", name, error)
                continue
            with self._lock:
                if renewed is None or self._deployments.get(name) is not deployment:
                    continue  # whoever changed it meanwhile has looked the models up as well
                self._keep(renewed, by_a_person=False)
            reference, session = deployment.extra[SHADOW], self.host.session(name)
            if session is not None:
                session.send(NewShadow(reference, renewed.extra[PINS][reference]))
            self.notices.tell(Level.INFO, f"'{name}' has a new shadow: {in_words(renewed)}.")

    def stop(self, name: str) -> None:
        """End its process; entries that wait are taken back, positions keep their stops."""
        with self._lock:
            self._stops[name] = self._stops.get(name, 0) + 1
            deployment = replace(self._known(name), desired=Desired.STOPPED)
            self._keep(deployment)
        self.host.stop(name, "stopped by a person")
        venue = self._venues.get(deployment.account)
        if venue is not None and venue.owner is not None:
            venue.owner.retire(name)

    def command(self, command: Command) -> dict[str, Any]:
        """Halt, reduce, flatten or resume: one deployment, or everything."""
        if command.deployment is not None:
            venues = [self._venue(self._known(command.deployment).account)]
        else:
            venues = list(self._venues.values())
        with self._journal.write():  # first of all, so that it holds whatever cannot be reached now
            self._journal.save(_word_key(command.deployment), _COMMAND.dump_json(command).decode())
        answers = [self._say_to(venue, command) for venue in venues]
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
            return self._tell(venue, command)
        except (MbatsError, TimeoutError) as error:
            log.error("account '%s' could not be told '%s': %s", venue.ref.name, command.kind, error)
            return {
                "account": venue.ref.name,
                "error": f"Account '{venue.ref.name}' could not be told: {error or 'it does not answer'}",
            }

    def deployments(self) -> list[DeploymentStatus]:
        """All of them, by name."""
        return [self._status(name) for name in sorted(self._deployments)]

    def healthy(self) -> tuple[bool, dict[str, Any]]:
        """False when a thread is gone or hangs, which a restart would mend."""
        accounts = {name: account_state(venue) for name, venue in self._venues.items()}
        lag = self.mirror.lag()
        alive = liveness.threads(self.host, self.mirror, self.notices, self._venues)
        dead = liveness.gone(alive)
        trouble = [f"{name}: {state['why']}" for name, state in accounts.items() if state.get("why")]
        trouble += [f"PostgreSQL: {each.trouble}" for each in lag.values() if each.trouble][:1]
        reason = "; ".join([*liveness.in_words(dead), *trouble])
        return not dead, {
            "reason": reason,
            "threads": alive,
            "accounts": accounts,
            "outbox": {name or "trader": asdict(each) for name, each in lag.items()},
            "deployments": {name: str(self.host.hosted(name).state) for name in sorted(self._deployments)},
        }

    def metrics(self) -> bytes:
        """For Prometheus."""
        return self.metrics_.text()

    def _status(self, name: str) -> DeploymentStatus:
        deployment, life = self._deployments[name], self._lives.get(name)
        venue = self._venues.get(deployment.account)
        return status_of(deployment, self.host.hosted(name), venue, life.last_bar if life is not None else None)

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

    def _keep(self, deployment: Deployment, *, by_a_person: bool = True) -> None:
        with self._journal.write():
            self._journal.save(f"deployment:{deployment.name}", _DEPLOYMENT.dump_json(deployment).decode())
            self._journal.put(record_of(deployment, self.host.hosted(deployment.name), self._venues.get(deployment.account)))
            if by_a_person:
                self._journal.forget(f"failed:{deployment.name}")
        self._deployments[deployment.name] = deployment

    # --- Hosting: the processes of strategies -----------------------------------------------------------------------------

    def begin(self, session: Session) -> None:
        """Tell a new process what it needs; in a thread of the session's own."""
        name = session.name
        venue = self._venue(self._known(name).account)
        owner = venue.open()
        self._repeat_command(venue)

        def anchored(start: datetime) -> None:
            with self._lock:
                self._keep(replace(self._known(name), warmup_from=start), by_a_person=False)

        deployment, life = tell_history(session, self._known(name), venue, owner, self._secmaster, anchored)
        with self._lock:
            self._lives[name] = life  # before the process can say that it is ready
        session.send(owner.open_session(deployment, life.key, session.send))

    def message(self, session: Session, message: FromStrategy) -> None:
        """What a strategy says."""
        deployment, life = self._deployments[session.name], self._lives.get(session.name)
        venue = self._venues[deployment.account]
        if life is None or venue.owner is None:
            return
        match message:
            case Submit() | Withdraw():
                venue.owner.request(session.name, life.key, message)
            case Decided():
                venue.owner.decided(session.name, life.key, message)
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
            deployment = self._deployments[name]
            self._journal.put(record_of(deployment, hosted, self._venues.get(deployment.account)))
        if hosted.state is State.FAILED and self._journal.load(f"failed:{name}") is None:
            with self._journal.write():
                self._journal.save(f"failed:{name}", hosted.reason)  # a restart of the trader is no person
            self.notices.tell(Level.CRITICAL, f"'{name}' has failed. {hosted.reason}", key=f"failed {name}")

    # --- Figures ----------------------------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        well, state = self.healthy()
        at = datetime.now(UTC)
        with self._journal.write():
            self._journal.put(HeartbeatRecord("trader", at, "well" if well else "ill", {"reason": state["reason"]}))
            for name in self._deployments:
                status = self._status(name)
                detail = {"trading": str(status.trading), "last_bar": status.last_bar.isoformat() if status.last_bar else None}
                self._journal.put(HeartbeatRecord(f"deployment:{name}", at, str(status.state), detail))


def _word_key(deployment: str | None) -> str:
    """Where the last word for a deployment, or for everything, is kept."""
    return EVERYTHING if deployment is None else f"{EVERYTHING}:{deployment}"


def _essence(deployment: Deployment) -> Deployment:
    """What makes two descriptions the same deployment: not who wrote them, when, where its history begins, or which versions its
    models mean now."""
    return replace(
        deployment,
        created_at=datetime.min.replace(tzinfo=UTC),
        created_by="",
        code_version="",
        warmup_from=None,
        desired=Desired.RUNNING,
        extra=without_pins(deployment.extra),
    )


def ready_process() -> None:
    """Let threads that have something to send wait less for those that compute, and collections pass over what start-up made."""
    sys.setswitchinterval(SWITCH_EVERY)
    gc.collect()
    gc.freeze()


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises PlatformError when another trader has the journal, or the port is taken."""
    trader = Trader(settings)
    control = Control(
        trader, host=settings.trader_host, port=settings.trader_port, token=settings.required_secret("trader_token")
    )
    ready_process()
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
