"""`mbats deploy`, `start` and `deployments` with a model: what is pinned outlives the trader; what cannot be had is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from free_ports import free_ports
from live.faults.whole import Whole, begin_whole
from live.model.registering import register, set_alias
from registries import Registry
from simulator.running import Running

from mbats.errors import UsageError
from mbats.live import trader as whole_trader
from mbats.live.deployment import Deployment, Desired, State
from mbats.live.mirror import Mirror
from mbats.settings import Settings, load_settings

SOURCE = """
import backtrader as bt
from mbats.trading.model import predicted


class Quick(bt.Strategy):
    params = dict(model="")

    def __init__(self):
        mean = bt.ind.SMA(self.data.close, period=2)
        self.prediction = predicted(self.p.model, self.data, gap=self.data.close / mean - 1.0)
"""


@pytest.fixture
def whole(exchange: Running, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Whole]:
    """An exchange, and a trader as a process of its own, whose strategies are those of the test."""
    monkeypatch.setenv("MBATS_ROOT", str(home / "no project"))
    (home / "strategies").mkdir()
    (home / "strategies" / "quick.py").write_text(SOURCE)
    with (home / "platform.env").open("a") as file:
        file.write(f"MBATS_STRATEGIES_DIR={home}/strategies\nMBATS_SERVING_PORT={next(free_ports())}\n")
    found = begin_whole(exchange, home)
    found.start()
    yield found
    found.close()


def deploy(whole: Whole, *more: str) -> tuple[int, str]:
    done = whole.mbats(
        "deploy", "quick", "--symbols", "EUR_USD", "--granularity", "M1", "--name", "alpha", "--warmup", "3", *more
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr if done.returncode else done.stdout


def live(whole: Whole) -> None:
    whole.wait_for(lambda: whole.status().state is State.LIVE, 60)


def test_a_model_is_pinned_for_as_long_as_nobody_starts_it_anew(whole: Whole, live_registry: Registry) -> None:
    register(whole.settings, "quick", ("gap",), (1.0,), strategy="quick")
    register(whole.settings, "quick", ("gap",), (-1.0,), strategy="quick")
    hourly = register(whole.settings, "quick", ("gap",), (1.0,), strategy="quick", granularity="H1")
    set_alias(whole.settings, "quick", "champion", 1)
    set_alias(whole.settings, "quick", "challenger", 2)

    code, said = deploy(whole, "--param", "model=nobody@champion")
    assert (code, "Model 'nobody@champion' cannot be had. No model 'nobody' in MLflow's registry." in said) == (2, True), said
    code, said = deploy(whole, "--param", f"model={hourly.reference}")
    assert (
        code,
        f"Model {hourly.reference} ('{hourly.reference}') was trained on bars of H1; 'alpha' has bars of M1." in said,
    ) == (2, True)
    code, said = deploy(whole, "--param", "model=rest:quick/1")
    assert (code, f"The model's endpoint {load_settings(home=whole.home).serving_url} did not answer" in said) == (2, True), said
    assert whole.mbats("deployments").stdout == "Nothing is deployed; `mbats deploy` does it.\n"

    assert deploy(whole, "--param", "model=quick@champion", "--shadow", "quick@challenger")[0] == 0
    live(whole)
    pinned = "alpha: model quick@champion = quick/1, shadow quick@challenger = quick/2"
    assert pinned in whole.mbats("deployments").stdout.splitlines()

    set_alias(whole.settings, "quick", "champion", 2)
    live_registry.program.process.kill()
    live_registry.program.process.wait()
    try:
        whole.kill()
        whole.start()
        live(whole)
        assert pinned in whole.mbats("deployments").stdout.splitlines()
        before = whole.status().last_bar
        whole.wait_for(lambda: (whole.minute(), whole.status().last_bar != before)[1])

        again = deploy(whole, "--param", "model=quick@champion", "--shadow", "quick@challenger")
        assert again[0] == 0, "it runs as it was asked to, and MLflow is not needed for that"
        assert whole.mbats("stop", "alpha").returncode == 0
        refused = whole.mbats("start", "alpha")
        assert (refused.returncode, refused.stdout) == (2, "") and "Traceback" not in refused.stderr
        assert "Model 'quick@champion' cannot be had. MLflow at" in refused.stderr and "Nothing was started." in refused.stderr
        assert whole.status().state is State.STOPPED
    finally:
        live_registry.program.stop()
        live_registry.program.start()
        live_registry.program.wait_until_well()
    assert whole.mbats("start", "alpha").returncode == 0
    live(whole)
    assert whole.status().model == "quick@champion = quick/2, shadow quick@challenger = quick/2"


def test_what_is_stopped_while_its_model_is_looked_up_stays_stopped(
    exchange: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mirror.stop, "__defaults__", (0.2,))  # there is no PostgreSQL to wait for
    monkeypatch.setenv("MBATS_ROOT", str(tmp_path / "no project"))
    whole = begin_whole(exchange, tmp_path)
    try:
        trader = whole.serve()
        whole.deploy(live=False, code="", desired=Desired.STOPPED)

        def slow(deployment: Deployment, settings: Settings) -> Deployment:
            trader.stop("alpha")
            return deployment

        monkeypatch.setattr(whole_trader, "pinned", slow)
        with pytest.raises(UsageError, match=r"'alpha' was stopped while its model was looked up. Nothing was started."):
            trader.start("alpha")
        assert (whole.status().state, whole.status().desired) == (State.STOPPED, Desired.STOPPED)
    finally:
        whole.close()
