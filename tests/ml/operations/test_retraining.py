"""Challengers by retrain.toml, what becomes of them, and the champions that are watched: with real bars, models and records."""

from __future__ import annotations

import json
from datetime import UTC, timedelta

import pytest
import sqlalchemy as sa
from swinging import BARS, swinging

from mbats.database import Database
from mbats.errors import ConfigError
from mbats.market import to_datetime
from mbats.ml import registry
from mbats.ml.jobs import FILE, UnknownJob, choose_jobs
from mbats.ml.promotion import promote
from mbats.ml.retraining import WatchFailed, due_models, retrain, watch_champions
from mbats.platform.retraining import plan_retraining, retrain_model
from mbats.riskdb import models, tables


def renamed(settings, name: str):
    """The job under a name of the test's own: the tests share a registry."""
    file = settings.root / FILE
    file.write_text(file.read_text().replace("[follow]", f"[{name}]"))
    return settings


def events(db: Database, kind: str) -> list[tuple[str, str, str]]:
    event = tables.risk_event.c
    query = sa.select(event.code, event.level, event.sentence).where(event.kind == kind).order_by(event.at)
    with db.begin() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_by_rule_a_challenger_that_passes_is_promoted_and_the_next_one_must_be_better(project, market, risk_db):
    settings = renamed(project("promote"), "by_rule")
    market(swinging(BARS, seed=1, pull=0.2))
    assert plan_retraining(settings=settings) == ["by_rule"]

    first = retrain_model("by_rule", settings=settings)

    assert first["action"] == "promoted"
    assert "passed the gate, and is the champion now" in first["sentence"]
    assert json.loads(json.dumps(first)) is not None
    assert registry.aliases(settings, "by_rule") == {"challenger": 1, "champion": 1}
    assert [(move.by, move.overridden) for move in models.promotions(risk_db, "by_rule")] == [("retrain_models", False)]
    assert plan_retraining(settings=settings) == []
    assert plan_retraining(["by_rule"], settings=settings) == ["by_rule"]
    later = registry.versions(settings, "by_rule")[0].registered + timedelta(days=8)
    assert due_models(settings, now=later) == ["by_rule"]

    second = retrain_model("by_rule", settings=settings)

    assert second["action"] == "refused"
    assert "by_rule/2 was trained on bars up to" in second["sentence"] and "not better" in second["sentence"]
    assert registry.aliases(settings, "by_rule") == {"challenger": 2, "champion": 1}
    assert [event[:2] for event in events(risk_db, "lifecycle")] == [("model_promoted", "info"), ("model_refused", "info")]


def test_a_proposal_leaves_the_champion_to_a_person(project, market, risk_db):
    settings = renamed(project("propose"), "proposed")
    market(swinging(BARS, seed=1, pull=0.2))
    said = []

    outcome = retrain(settings, "proposed", choose_jobs(settings.root)["proposed"], say=lambda *words: said.append(words))

    assert outcome.action == "proposed"
    assert "To make it the champion: mbats promote proposed 1 --why" in outcome.sentence
    assert said == [("info", outcome.sentence)]
    assert registry.aliases(settings, "proposed") == {"challenger": 1}
    assert models.promotions(risk_db, "proposed") == []


def test_a_market_that_moves_otherwise_raises_an_alarm_and_one_that_goes_on_does_not(project, market, trained, risk_db):
    settings, name = project(), "watched"
    past = swinging(BARS, seed=1, pull=0.2)
    market(past)
    trained(settings, name)
    promote(settings, name, by="a test", why="To be watched.", override=True)
    end = to_datetime(past.time[-1]).astimezone(UTC) + timedelta(hours=1)
    said: list[tuple[str, str]] = []

    (calm,) = watch_champions(settings, [name], say=lambda *words: said.append(words), now=end)

    assert {row.what: row.level for row in calm.bars} == {"feature:away": "ok", "feature:range": "ok", "prediction": "ok"}
    assert (calm.live, said) == ((), [])
    assert {row.what for row in models.drift(risk_db, name)} == {"feature:away", "feature:range", "prediction"}

    market(swinging(BARS, seed=2, pull=0.2, size=0.006, start=end + timedelta(days=3)))
    (wild,) = watch_champions(settings, [name], say=lambda *words: said.append(words), now=end + timedelta(days=120))

    assert {row.what: row.level for row in wild.bars}["feature:range"] == "alarm"
    ((level, sentence),) = said
    assert (
        level == "warning" and "watched/" in sentence and "sees another market than it was" in sentence and "range (" in sentence
    )
    assert [event[:2] for event in events(risk_db, "alarm")] == [("model_drift", "warning")]

    (settings.strategies_dir / "follow.py").unlink()
    with pytest.raises(WatchFailed, match=r"1 of 1 champions could not be looked at.*No strategy 'follow'"):
        watch_champions(settings, [name], say=lambda *words: None)
    with pytest.raises(registry.UnknownModel, match=r"watcht@champion.*Did you mean 'watched@champion'"):
        watch_champions(settings, ["watcht"], say=lambda *words: None)


def test_what_cannot_be_trained_is_said_and_leaves_nothing(project, market, risk_db):
    settings = renamed(project(), "impossible")

    with pytest.raises(UnknownJob, match=r"No model 'other' in mlflow/retrain\.toml"):
        plan_retraining(["other"], settings=settings)
    with pytest.raises(Exception, match="No H1 bars of EUR_USD"):
        retrain_model("impossible", settings=settings)
    assert due_models(settings) == ["impossible"]
    assert events(risk_db, "lifecycle") == []
    (settings.root / FILE).unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        plan_retraining(settings=settings)
