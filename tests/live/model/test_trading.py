"""A deployment and the registry: which version trades, when it becomes another one, and that orders are as in a backtest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live.model.registering import register, set_alias
from live.replay.comparing import backtest_fills, merged, shortest_history
from live.replay.replay import Replay, bar_of, generate, replay
from registries import Registry
from runs import data_of, specification

from mbats.database import Database
from mbats.live.deployment import Desired, State
from mbats.live.mirror import Mirror
from mbats.live.models import NoModel
from mbats.market import Bars, Floats, Granularity, Times, bar_ends, to_datetime
from mbats.ml.features import collect_features
from mbats.riskdb.live_records import ModelDecisionRecord
from mbats.settings import PROJECT_ROOT, load_settings
from mbats.trading.model import Floats2D, ModelInfo, ModelSet
from mbats.trading.strategies import load_strategy

START, END = datetime(2024, 5, 14, tzinfo=UTC), datetime(2024, 5, 14, 12, tzinfo=UTC)
M5 = Granularity.M5
PARAMETERS = {"low": 40.0, "high": 60.0, "stop_atr": 1.0, "target_atr": 1.5}
FEATURES = ("rsi", "percK", "percD", "atr")
RISING, FALLING = (
    (0.0, 1.0, -1.0, 0.0),
    (0.0, -1.0, 1.0, 0.0),
)  # agrees with what the stochastic does just now, or with its reverse
LOADED = load_strategy("rsi_stochastic", PROJECT_ROOT / "strategies")


@dataclass
class Played:
    """Half a day of bars at the exchange, of which the strategy decides on one after the other."""

    it: Replay
    bars: Bars
    ends: list[datetime]
    at: int

    def bars_on(self, count: int) -> tuple[int, int]:
        """So many bars are decided on; their numbers, half-open."""
        self.it.play(self.ends[self.at : self.at + count])
        self.at += count
        return self.at - count, self.at

    def live(self) -> None:
        self.it.wait_for(lambda: self.it.trader.host.hosted("alpha").state is State.LIVE, 60)
        self.it.quiet()

    def restart(self) -> None:
        """A person stops it, and starts it again."""
        self.it.trader.stop("alpha")
        self.it.trader.start("alpha")
        self.live()

    def kill(self) -> None:
        """The strategy's process dies, and is started again by the trader."""
        session = self.it.trader.host.session("alpha")
        assert session is not None
        session.process.kill()
        self.it.wait_for(lambda: self.it.trader.host.session("alpha") not in (None, session), 60)
        self.live()

    def decisions(self) -> list[ModelDecisionRecord]:
        """What waits for the risk database, once all that was said is written down."""
        self.it.wait_for(lambda: not self.it.owner._decisions.waiting)
        journal = self.it.trader._venues["paper"].journal
        return [each for _, each in journal.outbox(1_000_000) if isinstance(each, ModelDecisionRecord)]


def weights_by_time(parts: list[tuple[datetime, tuple[float, ...]]]) -> ModelSet:
    """A model of a backtest that is another one from each of these bars on."""

    class Changes:
        def predict(self, symbol: str, times: Times, features: Floats2D) -> Floats:
            edges = np.empty(len(times))
            for row, moment in enumerate(times):
                weights = [each for since, each in parts if since <= to_datetime(moment)][-1]
                edges[row] = sum(value * weight for value, weight in zip(features[row], weights, strict=True))
            return edges

    return ModelSet({"alpha_model@champion": (None, Changes())})


@pytest.fixture
def series() -> dict[str, Bars]:
    return {"EUR_USD": generate("EUR_USD", M5, START, END, seed=0, price=1.085, gap=4)}


def test_the_promoted_version_trades_from_the_next_start_on_and_no_order_is_missed_or_doubled(
    home: Path, series: dict[str, Bars], live_registry: Registry, risk_db: Database
) -> None:
    settings, name = load_settings(home=home), "alpha_model"
    one = register(settings, name, FEATURES, RISING, strategy="rsi_stochastic", granularity="M5")
    set_alias(settings, name, "champion", one.version)
    warmup = shortest_history(LOADED, series, M5, **PARAMETERS)
    bars = series["EUR_USD"]
    ends = [to_datetime(each) for each in bar_ends(M5, bars.time)]
    asked: list[tuple[int, int, ModelInfo]] = []
    with replay(home, series, M5, ends[warmup - 1]) as it:
        it.deploy("rsi_stochastic", ("EUR_USD",), M5, warmup=warmup, model=f"{name}@champion", **PARAMETERS)
        played = Played(it, bars, ends, warmup)
        assert it.trader.deployments()[0].model == f"{name}@champion = {one.reference}"
        asked.append((*played.bars_on(20), one))

        two = register(settings, name, FEATURES, FALLING, strategy="rsi_stochastic", granularity="M5")
        set_alias(settings, name, "champion", two.version)
        asked.append((*played.bars_on(3), one))
        played.kill()  # a death is no start: what was promoted meanwhile is not taken up
        asked.append((*played.bars_on(12), one))
        played.restart()
        assert it.trader.deployments()[0].model == f"{name}@champion = {two.reference}"
        asked.append((*played.bars_on(30), two))

        set_alias(settings, name, "champion", one.version)  # rolled back
        played.restart()
        asked.append((*played.bars_on(10), one))

        live_registry.program.process.kill()
        live_registry.program.process.wait()
        try:
            asked.append((*played.bars_on(5), one))
            played.kill()
            asked.append((*played.bars_on(10), one))
            it.trader.stop("alpha")
            with pytest.raises(
                NoModel, match=rf"Model '{name}@champion' cannot be had. MLflow at .*{settings.mlflow_port}"
            ) as refused:
                it.trader.start("alpha")
            assert str(refused.value).endswith("Nothing was started.")
            status = it.trader.deployments()[0]
            assert (status.state, status.desired) == (State.STOPPED, Desired.STOPPED)
        finally:
            live_registry.program.stop()
            live_registry.program.start()
            live_registry.program.wait_until_well()
        it.trader.start("alpha")
        played.live()
        asked.append((*played.bars_on(len(ends) - 1 - played.at), one))

        found = played.decisions()
        journal = it.trader._venues["paper"].journal
        assert journal is not None
        dealt = [(bar_of(time, M5, bars.time), symbol, units, price) for time, symbol, units, price in it.fills()]
        assert {each.reason for each in _refused(journal)} == set()
        mirror = Mirror({it.trader._venues["paper"].account_id: journal}, risk_db)
        while mirror.copy_once():
            pass
        mirrored = _kept(risk_db)

    wanted = {to_datetime(bars.time[i]): info.reference for start, end, info in asked for i in range(start, end)}
    assert {each.time: each.model for each in found} == wanted
    assert Counter(each.time for each in found) == dict.fromkeys(wanted, 1)
    assert all(each.error is None and each.role == "model" for each in found)
    trained = collect_features(LOADED, specification(LOADED, series, granularity="M5", **PARAMETERS), data_of(series))["EUR_USD"]
    rows = dict(zip(map(to_datetime, trained.times), map(tuple, trained.matrix.tolist()), strict=True))
    assert {each.time: each.features for each in found} == {moment: rows[moment] for moment in wanted}
    assert mirrored == {(each.time, each.model, each.features, each.prediction) for each in found}

    weights = {one.reference: RISING, two.reference: FALLING}
    parts = [
        (to_datetime(bars.time[0]), RISING),
        *((to_datetime(bars.time[start]), weights[info.reference]) for start, _, info in asked),
    ]
    parameters = PARAMETERS | {"model": f"{name}@champion"}
    fills = backtest_fills(LOADED, series, M5, models=weights_by_time(parts), **parameters)
    assert merged(dealt) == merged([each for each in fills if each[0] < to_datetime(bars.time[-1])])
    alone = backtest_fills(LOADED, series, M5, models=weights_by_time(parts[:1]), **parameters)
    assert len(dealt) > 6 and merged(fills) != merged(alone), "the promotion changed what was traded"


def _refused(journal: Any) -> list[Any]:
    return [row for row in journal.intents() if row.reason]


def _kept(risk_db: Database) -> set[tuple[Any, ...]]:
    import sqlalchemy as sa

    with risk_db.begin() as connection:
        rows = connection.execute(sa.text("SELECT time, model, features, prediction FROM model_decision")).all()
    return {(time.astimezone(UTC), model, tuple(features), prediction) for time, model, features, prediction in rows}


def test_a_failing_model_is_told_once_holds_and_is_told_when_it_answers_again(home: Path, series: dict[str, Bars]) -> None:
    settings, name = load_settings(home=home), "moody"
    mood = home / "mood"
    mood.write_text("")
    register(settings, name, FEATURES, RISING, mood=str(mood), strategy="rsi_stochastic", granularity="M5")
    shadow = register(settings, name, FEATURES, FALLING, strategy="rsi_stochastic", granularity="M5")
    set_alias(settings, name, "challenger", shadow.version)
    warmup = shortest_history(LOADED, series, M5, **PARAMETERS)
    ends = [to_datetime(each) for each in bar_ends(M5, series["EUR_USD"].time)]
    with replay(home, series, M5, ends[warmup - 1]) as it:
        it.deploy(
            "rsi_stochastic",
            ("EUR_USD",),
            M5,
            warmup=warmup,
            extra={"shadow": f"{name}@challenger"},
            model=f"{name}/1",
            **PARAMETERS,
        )
        played = Played(it, series["EUR_USD"], ends, warmup)
        assert it.trader.deployments()[0].model == f"{name}/1, shadow {name}@challenger = {name}/2"
        played.bars_on(2)
        mood.write_text("fail")
        failing = played.bars_on(4)
        said = played.decisions()
        it.wait_for(lambda: "failed" in it.trader.deployments()[0].reason)
        reason = it.trader.deployments()[0].reason
        orders = len(it.trader._venues["paper"].journal.intents())  # type: ignore[union-attr]
        mood.write_text("")
        played.bars_on(2)
        it.wait_for(lambda: it.trader.deployments()[0].reason == "")
        found = played.decisions()
        events = [each for each in _events(it) if each.kind == "alarm" and "model" in each.code]

    first = to_datetime(series["EUR_USD"].time[failing[0]])
    assert reason == (
        f"Model moody/1 of 'alpha' failed on the bar of EUR_USD at {first:%Y-%m-%d %H:%M:%S} UTC: RuntimeError: in a bad mood. "
        "There is no prediction; it holds until it answers again."
    )
    assert [(each.code, each.level, each.deployment, each.symbol) for each in events] == [
        ("model_failed", "critical", "alpha", "EUR_USD"),
        ("model_answers", "info", "alpha", "EUR_USD"),
    ]
    own = [each for each in found if each.role == "model"]
    assert [each.error for each in own] == [None, None, *["RuntimeError: in a bad mood"] * 4, None, None]
    assert [each.prediction is None for each in own] == [False, False, True, True, True, True, False, False]
    assert orders == len({each.time for each in said if each.role == "model" and each.error is None and _entered(each)})
    shadowed = [each for each in found if each.role == "shadow"]
    assert [(each.model, each.time) for each in shadowed] == [(f"{name}/2", each.time) for each in own]
    assert all(each.error is None for each in shadowed)


def test_a_new_challenger_is_the_shadow_from_the_next_look_on_and_trading_goes_on_untouched(
    home: Path, series: dict[str, Bars], live_registry: Registry
) -> None:
    settings, name = load_settings(home=home), "watched"
    own = register(settings, name, FEATURES, RISING, strategy="rsi_stochastic", granularity="M5")
    first = register(settings, name, FEATURES, FALLING, strategy="rsi_stochastic", granularity="M5")
    set_alias(settings, name, "challenger", first.version)
    warmup = shortest_history(LOADED, series, M5, **PARAMETERS)
    ends = [to_datetime(each) for each in bar_ends(M5, series["EUR_USD"].time)]
    with replay(home, series, M5, ends[warmup - 1]) as it:
        model, shadow = f"{name}/{own.version}", f"{name}@challenger"
        it.deploy("rsi_stochastic", ("EUR_USD",), M5, warmup=warmup, extra={"shadow": shadow}, model=model, **PARAMETERS)
        played = Played(it, series["EUR_USD"], ends, warmup)
        session = it.trader.host.session("alpha")
        played.bars_on(2)
        it.trader.renew_shadows()
        assert it.trader.deployments()[0].model == f"{model}, shadow {shadow} = {name}/2"

        second = register(settings, name, FEATURES, RISING, strategy="rsi_stochastic", granularity="M5")
        set_alias(settings, name, "challenger", second.version)
        it.trader.renew_shadows()
        assert it.trader.deployments()[0].model == f"{model}, shadow {shadow} = {name}/3"

        def asked_after_a_bar() -> bool:
            played.bars_on(1)
            return any(each.model == f"{name}/3" for each in played.decisions())

        it.wait_for(asked_after_a_bar, 60)
        assert it.trader.host.session("alpha") is session
        played.kill()
        since = to_datetime(series["EUR_USD"].time[played.bars_on(3)[0]])
        found = played.decisions()

    assert {each.model for each in found if each.role == "model"} == {model}
    assert [each.model for each in found if each.role == "shadow" and each.time >= since] == [f"{name}/3"] * 3


def _entered(decision: ModelDecisionRecord) -> bool:
    rsi, percK, _, _ = decision.features
    side = 1 if rsi < 40 and percK < 40 else -1 if rsi > 60 and percK > 60 else 0
    return side * (decision.prediction or 0.0) > 0


def _events(it: Replay) -> list[Any]:
    from mbats.riskdb.live_records import RiskEventRecord

    journal = it.trader._venues["paper"].journal
    return [each for _, each in journal.outbox(1_000_000) if isinstance(each, RiskEventRecord)]  # type: ignore[union-attr]
