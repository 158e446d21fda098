"""`mbats deploy`, `deployments`, `start`, `stop NAME`, `halt`, `reduce`, `flatten`, `resume`: with a trader, and without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_ports
from pydantic import SecretStr
from simulator.running import TOKEN, Running, scripted_settings, start_process

from mbats.live.deployment import Deployment, Desired, State
from mbats.live.gate import Command, CommandKind, Mode, TradingState
from mbats.live.hosting.commands import StopDeployment, waiting
from mbats.live.hosting.control import Control, DeploymentStatus, UnknownDeployment
from mbats.settings import PROJECT_ROOT

NOW = datetime(2024, 5, 14, 10, 0, tzinfo=UTC)
LIVE_ID = "001-004-1435156-001"
WORDS = ("halt", "reduce", "flatten", "resume")
STATUS = DeploymentStatus(
    name="rsi",
    strategy="rsi_stochastic",
    symbols=("EUR_USD",),
    granularity="M5",
    account="paper",
    mode=Mode.PAPER,
    desired=Desired.RUNNING,
    state=State.FAILED,
    trading=TradingState.HALTED,
    reason="It died 5 times within a minute.",
    positions={"EUR_USD": Decimal("-1000")},
    orders=2,
    pnl=Decimal("12.346"),
    currency="USD",
    last_bar=NOW,
)

Mbats = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class FakeDesk:
    """A trader that writes down what it is told."""

    told: list[Any] = field(default_factory=list)
    statuses: list[DeploymentStatus] = field(default_factory=lambda: [STATUS])
    failure: Exception | None = None

    def deploy(self, deployment: Deployment) -> None:
        self.told.append(deployment)

    def start(self, name: str) -> None:
        self._require(name)
        self.told.append(("start", name))

    def stop(self, name: str) -> None:
        self._require(name)
        self.told.append(("stop", name))

    def command(self, command: Command) -> dict[str, Any]:
        if self.failure:
            raise self.failure
        self.told.append(command)
        return {"message": f"{command.deployment or 'all deployments'}: done."}

    def deployments(self) -> list[DeploymentStatus]:
        return self.statuses

    def healthy(self) -> tuple[bool, dict[str, Any]]:
        return True, {}

    def metrics(self) -> bytes:
        return b""

    def _require(self, name: str) -> None:
        if name not in [status.name for status in self.statuses]:
            raise UnknownDeployment(name, [status.name for status in self.statuses])


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("simulator")
    running = start_process(folder, **scripted_settings(folder))
    yield running
    running.kill()


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def trader(desk: FakeDesk) -> Iterator[Control]:
    control = Control(desk, host="127.0.0.1", port=0, token=SecretStr("of-the-trader"), now=lambda: NOW)
    control.start()
    yield control
    control.stop()


@pytest.fixture
def call(tmp_path: Path) -> Mbats:
    """The command in a home of its own, where no trader runs and nothing but what the test says is set."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MBATS_")}
    (tmp_path / "project").mkdir()

    def call(*arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        given = {"trader_port": next(free_ports()), "trader_token": "of-the-trader", "root": tmp_path / "project"}
        given |= {"home": tmp_path / "home", "strategies_dir": PROJECT_ROOT / "strategies"} | variables
        environment = (
            ours
            | {"COLUMNS": str(variables.pop("columns", 200))}
            | {f"MBATS_{key.upper()}": str(value) for key, value in given.items()}
        )
        command = [sys.executable, "-m", "mbats.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return call


@pytest.fixture
def mbats(call: Mbats, trader: Control) -> Mbats:
    """The command with a trader that answers."""
    return lambda *arguments, **variables: call(*arguments, **{"trader_port": trader.port} | variables)


@pytest.fixture
def broker(simulator: Running) -> dict[str, Any]:
    """Where the simulator is."""
    return {"simulator_port": simulator.url.rpartition(":")[2], "simulator_token": TOKEN}


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What was said by a command that did nothing."""
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Traceback" not in done.stderr
    return done.stderr


# --- deploy -----------------------------------------------------------------------------------------------------------------

DEPLOY = ("deploy", "rsi_stochastic", "--symbols", "EUR_USD,USD_JPY", "--granularity", "M5")


def test_deploy_sends_the_file_as_it_is_with_typed_parameters_and_limits(mbats, desk, broker):
    done = mbats(*DEPLOY, "--name", "rsi", "--param", "rsi_period=7", "--limit", "max_margin=0.2", "--warmup", "300", **broker)

    assert (done.returncode, done.stderr) == (0, "")
    (sent,) = desk.told
    assert sent.source == (PROJECT_ROOT / "strategies" / "rsi_stochastic.py").read_text()
    assert sent.parameters["rsi_period"] == 7 and len(sent.parameters) > 1, "with every default, as it is today"
    assert (sent.name, sent.strategy, sent.symbols, sent.granularity) == ("rsi", "rsi_stochastic", ("EUR_USD", "USD_JPY"), "M5")
    assert (sent.account, sent.mode, sent.limits) == ("paper", Mode.PAPER, {"max_margin": "0.2"})
    assert (sent.warmup_bars, sent.warmup_from, sent.desired) == (300, None, Desired.RUNNING)
    assert "@" in sent.created_by and sent.code_version
    assert "'rsi' is deployed on account 'paper', paper money (simulator)" in done.stdout


def test_without_a_name_a_deployment_has_that_of_its_strategy_and_may_wait_for_its_start(mbats, desk, broker):
    done = mbats(*DEPLOY, "--stopped", **broker)

    assert done.returncode == 0, done.stderr
    assert (desk.told[0].name, desk.told[0].desired) == ("rsi_stochastic", Desired.STOPPED)
    assert "waits for `mbats start rsi_stochastic`" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--param", "rsi_perod=7"), "Did you mean 'rsi_period'"),
        (("--param", "rsi_period=x"), "takes a whole number"),
        (("--limit", "max_margn=0.2"), "Did you mean max_margin"),
        (("--limit", "max_margin=2"), "less than or equal to 0.9"),
        (("--granularity", "M3"), "No granularity 'M3'"),
        (("--symbols", "EUR_USDD"), "No symbol 'EUR_USDD' in account 'paper'. Did you mean 'EUR_USD'"),
        (("--symbols", ","), "--symbols names none"),
        (("--name", "RSI one"), "cannot be called 'RSI one'"),
        (("--account", "papr"), "No account 'papr' in MBATS_ACCOUNTS. Did you mean 'paper'"),
        (("--warmup", "-1"), "-1 is not in the range"),
    ],
)
def test_what_is_wrong_is_said_before_the_trader_hears_of_it(mbats, desk, broker, change, message):
    said = refused(mbats(*DEPLOY, *change, **broker))

    assert message in said
    assert desk.told == []


def test_an_unknown_strategy_is_answered_with_the_nearest(mbats, desk, broker):
    assert "Did you mean 'rsi_stochastic'" in refused(
        mbats("deploy", "rsi_stochastc", "--symbols", "EUR_USD", "--granularity", "D", **broker)
    )
    assert desk.told == []


def test_symbols_that_cannot_be_checked_are_not_deployed(mbats, desk):
    said = refused(mbats(*DEPLOY, simulator_port=next(free_ports()), simulator_token="t"))

    assert "nobody knows whether account 'paper' has EUR_USD, USD_JPY; nothing was deployed" in said
    assert desk.told == []


def test_real_money_is_not_deployed_on_before_the_account_was_said_twice(mbats, desk):
    live = {"accounts": f"real=live:{LIVE_ID}", "oanda_environment": "live", "oanda_token": "t"}

    assert "second" in refused(mbats(*DEPLOY, "--account", "real", **live))
    assert desk.told == []


# --- deployments, start, stop -----------------------------------------------------------------------------------------------


def test_deployments_shows_what_runs_what_it_holds_and_why_it_does_not(mbats):
    done = mbats("deployments")

    assert (done.returncode, done.stderr) == (0, "")
    for part in ("rsi_stochastic M5", "EUR_USD", "failed", "HALTED", "-1000 EUR_USD", "2 orders", "12.35 USD"):
        assert part in done.stdout, done.stdout
    assert "rsi: It died 5 times within a minute." in done.stdout
    assert "real money" not in done.stdout
    assert max(map(len, mbats("deployments", columns=80).stdout.splitlines())) <= 80


def test_deployments_shows_real_money_as_such(mbats, desk):
    desk.statuses = [replace(STATUS, mode=Mode.LIVE)]

    assert "real money" in mbats("deployments").stdout


def test_deployments_as_json_stand_alone_and_keep_their_figures(mbats):
    (found,) = json.loads(mbats("deployments", "--json").stdout)

    assert (found["name"], found["pnl"], found["positions"]) == ("rsi", "12.346", {"EUR_USD": "-1000"})


def test_no_deployments_is_said_as_it_is(mbats, desk):
    desk.statuses = []

    assert "Nothing is deployed" in mbats("deployments").stdout
    assert json.loads(mbats("deployments", "--json").stdout) == []


def test_start_and_stop_name_one_deployment(mbats, desk):
    started, stopped = mbats("start", "rsi"), mbats("stop", "rsi")

    assert (started.returncode, stopped.returncode) == (0, 0)
    assert desk.told == [("start", "rsi"), ("stop", "rsi")]
    assert "`mbats flatten rsi` closes them" in stopped.stdout


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_an_unknown_deployment_is_answered_with_the_nearest(mbats, desk, verb, tmp_path):
    assert "Did you mean 'rsi'" in refused(mbats(verb, "rsy"))
    assert (desk.told, waiting(tmp_path / "home", now=NOW)) == ([], [])


def test_stop_without_a_name_is_about_the_platform(mbats, desk, tmp_path):
    done = mbats("stop")

    assert (done.returncode, desk.told) == (0, [])
    assert f"Nothing runs in {tmp_path / 'home'}" in done.stdout


# --- halt, reduce, flatten, resume ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", [None, "rsi"])
def test_a_word_reaches_the_trader_with_who_and_why(mbats, desk, word, name):
    done = mbats(word, *([name] if name else []), "--why", "the news")

    assert (done.returncode, done.stderr) == (0, "")
    (command,) = desk.told
    assert (command.kind, command.deployment, command.why, command.to) == (word, name, "the news", TradingState.ACTIVE)
    assert "@" in command.by
    assert done.stdout == f"{name or 'all deployments'}: done.\n"


def test_resume_may_loosen_a_part_of_the_way(mbats, desk):
    mbats("resume", "--to", "reducing")

    assert desk.told[0].to is TradingState.REDUCING


def test_flatten_of_real_money_needs_a_yes_and_nothing_else_does(mbats, desk):
    desk.statuses = [STATUS, replace(STATUS, name="real", account="real", mode=Mode.LIVE)]

    assert "real money would be closed at the market (real on account 'real')" in refused(mbats("flatten"))
    assert "real money" in refused(mbats("flatten", "real"))
    assert desk.told == []
    for arguments in (("flatten", "rsi"), ("flatten", "--yes"), ("halt",)):
        assert mbats(*arguments).returncode == 0
    assert [command.kind for command in desk.told] == ["flatten", "flatten", "halt"]


@pytest.mark.parametrize("word", WORDS)
def test_without_a_trader_a_word_waits_as_a_file_and_that_is_said_plainly(call, word, tmp_path):
    done = call(word, "rsi", "--why", "the news")

    (left,) = waiting(tmp_path / "home", now=NOW)
    assert isinstance(left.word, Command)
    assert (left.word.kind, left.word.deployment, left.word.why) == (CommandKind(word), "rsi", "the news")
    assert done.returncode == 1, "nobody has obeyed yet"
    assert "does not answer" in done.stderr and "Traceback" not in done.stderr
    assert f"NOT OBEYED YET: '{word}' waits in {left.path}" in done.stdout
    assert ("mbats flatten rsi --now" in done.stdout) == (word in ("halt", "flatten"))


def test_a_trader_that_fails_to_obey_finds_the_word_as_a_file(mbats, desk, tmp_path):
    desk.failure = RuntimeError("broken")

    done = mbats("halt")

    assert done.returncode == 1 and "500" in done.stderr
    assert [left.word.kind for left in waiting(tmp_path / "home", now=NOW)] == ["halt"]


def test_a_word_with_a_wrong_token_waits_as_a_file_too(mbats, desk, tmp_path):
    done = mbats("halt", trader_token="wrong")

    assert (done.returncode, desk.told) == (1, [])
    assert len(waiting(tmp_path / "home", now=NOW)) == 1


def test_a_stop_without_a_trader_waits_as_a_file_and_a_start_is_refused(call, tmp_path):
    assert call("stop", "rsi").returncode == 1
    (left,) = waiting(tmp_path / "home", now=NOW)
    assert isinstance(left.word, StopDeployment) and left.word.name == "rsi"

    assert "does not answer" in refused(call("start", "rsi"))
    assert "does not answer" in refused(call("deployments"))


def test_without_a_trader_flatten_takes_every_account_of_real_money_for_meant(call, tmp_path):
    live = {"accounts": f"paper=simulator,real=live:{LIVE_ID}"}

    assert "account 'real'" in refused(call("flatten", "rsi", **live))
    assert waiting(tmp_path / "home", now=NOW) == []
    assert call("flatten", "rsi", "--yes", **live).returncode == 1
    assert len(waiting(tmp_path / "home", now=NOW)) == 1


def test_a_name_that_no_deployment_can_have_is_refused_and_not_left_as_a_file(call, tmp_path):
    assert "cannot be called" in refused(call("halt", "../x"))
    assert "cannot be called" in refused(call("stop", "../x"))
    assert waiting(tmp_path / "home", now=NOW) == []


def test_the_trader_is_not_served_to_other_machines_by_mistake(call):
    assert "only with --expose" in refused(call("trader", trader_host="0.0.0.0"))
