"""The whole life of a model by the command line alone: trained, promoted, refused, let pass, taken back, watched, retrained."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from swinging import swinging

from mbats.database import Database
from mbats.ml import registry
from mbats.ml.jobs import FILE
from mbats.riskdb import models, tables
from mbats.settings import Settings

NAME = "whole"
BARS = 3000
ABOUT = timedelta(hours=BARS * 7 / 5)  # as long as so many bars take, with weekends
# Of one leaf: it says the same of every bar, so that nothing it does can be better than a model that found the signal.
BLIND = {"n_estimators": "1", "max_depth": "1", "min_samples_leaf": "0.5"}


@dataclass(frozen=True)
class Shell:
    """`mbats …` in a process of its own, with what a user would have set."""

    settings: Settings

    def __call__(self, *arguments: str, code: int = 0) -> str:
        environment = {
            "PATH": "/usr/bin:/bin",
            "MBATS_HOME": str(self.settings.home),
            "MBATS_ROOT": str(self.settings.root),
            "MBATS_STRATEGIES_DIR": str(self.settings.strategies_dir),
            "COLUMNS": "200",
        }
        command = [sys.executable, "-m", "mbats.cli", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stdout + done.stderr
        return done.stderr if code else done.stdout


def recorded_events(db: Database) -> list[tuple[str, str, str]]:
    event = tables.risk_event.c
    with db.begin() as connection:
        query = sa.select(event.code, event.level, event.by).where(event.code.startswith("model_")).order_by(event.at)
        return [tuple(row) for row in connection.execute(query)]


def test_a_model_goes_from_bars_to_the_champion_and_back_and_each_step_is_recorded(project, market, risk_db):
    settings = project("promote")
    mbats = Shell(settings)
    file = settings.root / FILE
    file.write_text(file.read_text().replace("[follow]", f"[{NAME}]"))
    recipes = settings.root / "mlflow" / "recipes"
    quick = (recipes / "quick.toml").read_text()
    (recipes / "blind.toml").write_text(_with(quick, BLIND))
    # The newest bars are those of today, as `mbats drift` looks at them.
    past = swinging(BARS, seed=1, pull=0.2, start=_some_monday(datetime.now(UTC) - ABOUT))
    market(past)
    train = ("train", "follow", "--symbols", "EUR_USD", "--granularity", "H1", "--name", NAME)

    # A planted signal passes the gate.
    mbats(*train, "--recipe", "quick")
    said = mbats("promote", NAME, "--why", "It found the pull to the mean.")
    assert f"{NAME}/1 is the champion of '{NAME}'" in said and "NO" not in said.split()

    # A worse one is refused, which changes nothing and is recorded with its reasons.
    mbats(*train, "--recipe", "blind")
    refused = mbats("promote", NAME, "--why", "It is newer.", code=1)
    assert f"{NAME}/2 was not promoted; the champion is {NAME}/1" in refused
    assert registry.aliases(settings, NAME) == {"challenger": 2, "champion": 1}
    assert [event[:2] for event in recorded_events(risk_db)] == [("model_refused", "info")]

    # A person lets it pass all the same, and takes it back.
    mbats("promote", NAME, "--why", "To see it on paper.", "--override")
    mbats("rollback", NAME, "--why", "It was as bad as the gate said.")
    moves = [(move.action, move.version, move.previous_version, move.overridden) for move in models.promotions(risk_db, NAME)]
    assert moves == [("rollback", 1, 2, False), ("promote", 2, 1, True), ("promote", 1, None, False)]
    let_pass = models.promotions(risk_db, NAME)[1]
    assert let_pass.why == "To see it on paper." and "better" in [row["name"] for row in let_pass.checks if not row["passed"]]
    assert all(move.by for move in models.promotions(risk_db, NAME))

    # The market that it was trained on raises no alarm; one of three times the size does.
    calm = json.loads(mbats("drift", NAME, "--json"))
    assert {row["what"] for row in calm} == {"feature:away", "feature:range", "prediction"}
    assert "alarm" not in {row["level"] for row in calm}  # which of 90 days are looked at depends on today
    assert "model_drift" not in {event[0] for event in recorded_events(risk_db)}
    market(swinging(BARS, seed=1, pull=0.2, size=0.006, start=_first(past)))
    wild = json.loads(mbats("drift", NAME, "--json"))
    assert {row["what"]: row["level"] for row in wild}["feature:range"] == "alarm"
    assert len(models.drift(risk_db, NAME)) == len(calm) + len(wild)
    assert recorded_events(risk_db)[-1][:2] == ("model_drift", "warning")

    # A challenger of the new market, by rule: it takes the place of the champion only if it passes.
    (outcome,) = json.loads(mbats("retrain", NAME, "--json"))
    champion = registry.aliases(settings, NAME)["champion"]
    assert (outcome["version"], outcome["model"]) == (3, NAME)
    assert (outcome["action"], champion) in (("promoted", 3), ("refused", 1))
    assert (outcome["action"] == "promoted") == all(check["passed"] for check in outcome["checks"])
    assert f"{NAME}/3" in mbats("models", NAME)


def _with(recipe: str, parameters: dict[str, str]) -> str:
    head = recipe.partition("[parameters]")[0]
    return f"{head}[parameters]\n" + "".join(f"{name} = {value}\n" for name, value in parameters.items())


def _some_monday(moment: datetime) -> datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def _first(bars) -> datetime:
    return bars.time[0].astype("datetime64[us]").astype(datetime).replace(tzinfo=UTC)
