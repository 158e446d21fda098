"""Models in the risk database: what they said, who put one in charge, how far they have drifted; added, never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from live_samples import ACCOUNT, DEPLOYMENT, MODEL_DECISION, NOW, RUN

from mbats.database import Database
from mbats.errors import DataError
from mbats.riskdb.live_record import write_records
from mbats.riskdb.live_records import HeartbeatRecord, LiveRecord
from mbats.riskdb.model_records import Drift, ModelDecision, Promotion
from mbats.riskdb.models import decisions, drift, promotions, record_drift, record_promotion
from mbats.riskdb.record import list_runs, load_run, record_run
from mbats.riskdb.records import RunResult
from mbats.settings import Settings

MakeRun = Callable[..., RunResult]
CHECKS = [{"name": "sharpe", "found": 0.7, "allowed": 0, "passed": True}]
PROMOTION = Promotion("rsi", 3, 2, "ann", "Better in 2023, \N{EN DASH} see the picture", "promote", checks=CHECKS)
DRIFT = Drift("rsi", 3, NOW, "feature:rsi", 0.123456789012345, 500, NOW - timedelta(days=7), NOW, "watch")
PINNED = {"name": "rsi_stochastic", "version": 3, "features": ["rsi", "percK", "atr"]}


@pytest.fixture
def dashboard(settings: Settings, risk_db: Database) -> Iterator[Database]:
    with closing(Database(settings, "risk", "dashboard")) as database:
        yield database


def rows(db: Database, statement: str) -> list[dict[str, Any]]:
    with db.begin() as connection:
        return [dict(row) for row in connection.execute(sa.text(statement)).mappings()]


def write(db: Database, *records: LiveRecord) -> None:
    with db.begin() as connection:
        write_records(connection, records)


def model_run(made: RunResult, **changes: Any) -> RunResult:
    known = {"model_version": "rsi_stochastic/3", "in_sample": True, "models": {"rsi_stochastic@champion": PINNED}}
    return replace(made, **(known | changes))


# --- Promotions -----------------------------------------------------------------------------------------------------------


def test_a_promotion_comes_back_as_it_was_with_its_number_and_the_time_of_the_database(risk_db: Database) -> None:
    before = datetime.now(UTC)

    number = record_promotion(risk_db, PROMOTION)

    [found] = promotions(risk_db, "rsi")
    assert found == replace(PROMOTION, id=number, at=found.at)
    assert found.at is not None
    assert before - timedelta(seconds=5) < found.at < datetime.now(UTC) + timedelta(seconds=5)


def test_promotions_of_one_model_are_listed_newest_first(risk_db: Database) -> None:
    first = replace(PROMOTION, version=1, previous_version=None, overridden=True, checks=[])
    back = replace(PROMOTION, version=1, previous_version=3, action="rollback", why="It lost.")
    for each in (first, PROMOTION, replace(PROMOTION, name="other"), back):
        record_promotion(risk_db, each)

    found = promotions(risk_db, "rsi")

    assert [replace(each, id=None, at=None) for each in found] == [back, PROMOTION, first]
    assert promotions(risk_db, "nobody") == []


@pytest.mark.parametrize(
    "change", [{"why": ""}, {"by": ""}, {"name": ""}, {"version": 0}, {"previous_version": -1}, {"action": "demote"}]
)
def test_a_promotion_without_a_reason_or_a_person_is_refused(risk_db: Database, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="was not recorded: "):
        record_promotion(risk_db, replace(PROMOTION, **change))

    assert promotions(risk_db, "rsi") == []


# --- Drift ------------------------------------------------------------------------------------------------------------------


def test_drift_comes_back_as_it_was_newest_first(risk_db: Database) -> None:
    said = replace(DRIFT, what="prediction", psi=0.0, level="ok")
    later = replace(DRIFT, at=NOW + timedelta(days=1), level="alarm")

    record_drift(risk_db, [DRIFT, said, replace(DRIFT, name="other")])
    record_drift(risk_db, [later])
    record_drift(risk_db, [])

    assert drift(risk_db, "rsi") == [later, DRIFT, said]
    assert drift(risk_db, "rsi", limit=1) == [later]


@pytest.mark.parametrize(
    "change", [{"psi": -0.1}, {"level": "bad"}, {"what": "features"}, {"what": "feature:"}, {"rows": -1}, {"until": DRIFT.since}]
)
def test_of_drift_that_cannot_be_nothing_is_kept(risk_db: Database, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="The drift of rsi/3 was not recorded"):
        record_drift(risk_db, [replace(DRIFT, what="prediction"), replace(DRIFT, **change)])

    assert drift(risk_db, "rsi") == []


# --- Decisions --------------------------------------------------------------------------------------------------------------


def test_what_models_said_in_a_backtest_comes_back_to_the_last_bit(risk_db: Database, make_run: MakeRun) -> None:
    said = tuple(
        ModelDecision(
            "EUR_USD", NOW + timedelta(hours=n), "model", "rsi_stochastic/3", (1 / 3, 5e-324, float(n)), value, None, error
        )
        for n, (value, error) in enumerate([(0.1 + 0.2, None), (-1e-300, None), (None, 'It said "no",\n twice')])
    )
    result = model_run(make_run(1), decisions=said)

    found = load_run(risk_db, record_run(risk_db, result))

    assert found.decisions == said
    assert (found.models, found.model_version, found.in_sample) == (result.models, "rsi_stochastic/3", True)


def test_the_list_of_runs_names_the_model(risk_db: Database, make_run: MakeRun) -> None:
    record_run(risk_db, model_run(make_run(1)))

    [listed] = list_runs(risk_db, limit=5)

    assert (listed.model_version, listed.in_sample) == ("rsi_stochastic/3", True)


def test_a_run_whose_decisions_contradict_themselves_is_not_recorded(risk_db: Database, make_run: MakeRun) -> None:
    wrong = ModelDecision("EUR_USD", NOW, "model", "rsi_stochastic/3", (1.0,), None)  # neither a prediction nor a reason

    with pytest.raises((DataError, sa.exc.DBAPIError), match="model_decision_says_why_it_is_none"):
        record_run(risk_db, model_run(make_run(1), decisions=(wrong,)))

    assert list_runs(risk_db, limit=5) == []


def test_two_models_and_a_shadow_may_speak_of_the_same_bar(risk_db: Database) -> None:
    write(
        risk_db,
        *(RUN, MODEL_DECISION, replace(MODEL_DECISION, model="sizes/1"), replace(MODEL_DECISION, role="shadow")),
        replace(MODEL_DECISION, role="shadow", model="rsi_stochastic/4", prediction=None, error="It was late."),
    )

    found = rows(risk_db, "SELECT role, model, error FROM model_decision ORDER BY role, model")

    assert [tuple(row.values()) for row in found] == [
        ("model", "rsi_stochastic/3", None),
        ("model", "sizes/1", None),
        ("shadow", "rsi_stochastic/3", None),
        ("shadow", "rsi_stochastic/4", "It was late."),
    ]


@pytest.mark.parametrize("change", [{"role": "guess"}, {"model": ""}, {"error": "Both."}, {"latency_ms": -1.0}, {"error": ""}])
def test_a_decision_that_cannot_be_is_refused(risk_db: Database, change: dict[str, Any]) -> None:
    write(risk_db, RUN)

    with pytest.raises(sa.exc.IntegrityError):
        write(risk_db, replace(MODEL_DECISION, **change))


def test_decisions_of_a_model_are_read_over_a_period_of_its_bars(risk_db: Database, make_run: MakeRun) -> None:
    def said(hours: int, **changes: Any) -> Any:
        return replace(MODEL_DECISION, time=NOW + timedelta(hours=hours), **changes)

    write(
        risk_db,
        *(RUN, said(-1), said(0), said(1, model="rsi_stochastic/4", role="shadow"), said(2)),
        *(said(0, model="rsi_stochastic_2/1"), said(0, model="rsi/3")),
    )
    number = record_run(
        risk_db, model_run(make_run(1), decisions=(ModelDecision("EUR_USD", NOW, "model", "rsi/3", (1.0,), 0.1),))
    )

    found = decisions(risk_db, "rsi_stochastic", NOW, NOW + timedelta(hours=2))

    assert [(each.time, each.model, each.role) for each in found] == [
        (NOW, "rsi_stochastic/3", "model"),
        (NOW + timedelta(hours=1), "rsi_stochastic/4", "shadow"),
    ]
    assert (found[0].features, found[0].prediction, found[0].mode, found[0].deployment) == (
        MODEL_DECISION.features,
        MODEL_DECISION.prediction,
        RUN.mode,
        RUN.deployment,
    )
    assert [each.mode for each in decisions(risk_db, "rsi", NOW, NOW + timedelta(hours=1))] == [RUN.mode]
    past = decisions(risk_db, "rsi", NOW, NOW + timedelta(hours=1), modes=("backtest",))
    assert [(each.run_id, each.deployment, each.latency_ms) for each in past] == [(number, None, None)]


# --- Who may do what ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["model_decision", "model_promotion", "model_drift"])
def test_what_is_there_is_changed_by_nobody_and_added_by_those_who_trade(
    settings: Settings, risk_db: Database, table: str
) -> None:
    write(risk_db, RUN, MODEL_DECISION)
    record_promotion(risk_db, PROMOTION)
    record_drift(risk_db, [DRIFT])

    with closing(Database(settings, "risk", "reader")) as reader:
        for database, statement in (
            (risk_db, f"DELETE FROM {table}"),
            (risk_db, f"UPDATE {table} SET model = 'x'" if table == "model_decision" else f"UPDATE {table} SET name = 'x'"),
            (reader, f"INSERT INTO {table} DEFAULT VALUES"),
        ):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
                rows(database, f"{statement} RETURNING 1")
        assert len(rows(reader, f"SELECT * FROM {table}")) == 1


# --- What dashboards read -------------------------------------------------------------------------------------------------


def test_a_dashboard_sees_the_features_by_name_where_the_run_pinned_its_model(risk_db: Database, dashboard: Database) -> None:
    pinned = replace(RUN, models={"rsi_stochastic@champion": PINNED}, model_version="rsi_stochastic/3")
    write(
        risk_db,
        *(DEPLOYMENT, pinned, MODEL_DECISION, replace(MODEL_DECISION, role="shadow", model="rsi_stochastic/4")),
        HeartbeatRecord(f"mirror:{ACCOUNT}", NOW, "level"),
    )

    used, shadow = rows(dashboard, "SELECT * FROM dash_model_decisions ORDER BY role")

    assert used["features"] == "rsi=31.25, percK=0.1, atr=1e-07"
    assert shadow["features"] == "31.25, 0.1, 1e-07"
    assert {name: used[name] for name in ("mode", "deployment", "symbol", "time", "prediction", "latency_ms", "fresh_at")} == {
        "mode": RUN.mode,
        "deployment": RUN.deployment,
        "symbol": "EUR_USD",
        "time": NOW,
        "prediction": -0.0004,
        "latency_ms": 1.5,
        "fresh_at": NOW,
    }


def test_a_dashboard_sees_promotions_and_drift(risk_db: Database, dashboard: Database) -> None:
    record_promotion(risk_db, PROMOTION)
    record_drift(risk_db, [DRIFT])

    [promotion] = rows(dashboard, "SELECT * FROM dash_model_promotions")
    [drifted] = rows(dashboard, "SELECT * FROM dash_model_drift")

    assert (promotion["model"], promotion["by"], promotion["why"]) == ("rsi/3", "ann", PROMOTION.why)
    assert '"passed": true' in promotion["checks"]
    assert (drifted["model"], drifted["what"], drifted["psi"], drifted["level"]) == ("rsi/3", "feature:rsi", DRIFT.psi, "watch")


def test_a_dashboard_marks_a_run_in_sample(risk_db: Database, dashboard: Database, make_run: MakeRun) -> None:
    record_run(risk_db, model_run(make_run(1)))

    [shown] = rows(dashboard, "SELECT sample, model_version FROM dash_runs")

    assert shown == {"sample": "in sample", "model_version": "rsi_stochastic/3"}
