"""The champion: through the gate, over it with a reason, and back; each move recorded, or not made."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from swinging import BARS, swinging

from mbats.database import Database
from mbats.errors import UsageError
from mbats.ml import registry
from mbats.ml.promotion import NotPromoted, evaluate, former_champion, promote, rollback
from mbats.riskdb.model_records import Promotion
from mbats.riskdb.models import promotions


def aliases(settings, name: str) -> dict[str, int]:
    return registry.aliases(settings, name)


def test_a_version_that_found_nothing_is_refused_and_a_person_may_let_it_pass(project, market, trained, risk_db):
    settings, name = project(), "refused"
    market(swinging(BARS, seed=1, pull=0.0))
    trained(settings, name)

    with pytest.raises(NotPromoted, match="refused/1 was not promoted; the champion is none, as before") as refused:
        promote(settings, name, by="someone", why="It looks good.")

    failed = [check.name for check in refused.value.judgement.failed]
    assert failed == ["out_of_sample", "earns", "better"]
    assert refused.value.exit_code == 1
    assert (aliases(settings, name), promotions(risk_db, name)) == ({"challenger": 1}, [])

    _, recorded = promote(settings, name, by="someone", why="To see.", override=True)

    assert aliases(settings, name) == {"challenger": 1, "champion": 1}
    assert (recorded.overridden, recorded.by, recorded.why, recorded.previous_version) == (True, "someone", "To see.", None)
    assert [check["name"] for check in recorded.checks if not check["passed"]] == failed
    assert promotions(risk_db, name) == [recorded]
    with pytest.raises(UsageError, match="refused/1 is the champion already"):
        promote(settings, name, by="someone", why="Again.")


def test_a_version_that_found_something_is_promoted_and_its_copy_is_not_better(project, market, trained, risk_db):
    settings, name = project(), "promoted"
    market(swinging(BARS, seed=1, pull=0.2))
    trained(settings, name)

    judgement, recorded = promote(settings, name, by="someone", why="It passed.")

    assert judgement.failed == ()
    assert (recorded.version, recorded.overridden) == (1, False)
    assert [check["name"] for check in recorded.checks] == [
        "out_of_sample", "earns", "better", "declared", "loads", "same_outputs", "latency",
    ]  # fmt: skip

    trained(settings, name)  # the same again
    assert [check.name for check in evaluate(settings, name).failed] == ["better"]

    promote(settings, name, 2, by="someone", why="On trial.", override=True)
    back = rollback(settings, name, by="someone else", why="It was no better.")

    assert (back.version, back.previous_version, back.action) == (1, 2, "rollback")
    assert aliases(settings, name)["champion"] == 1
    assert [(move.version, move.action, move.by) for move in promotions(risk_db, name)] == [
        (1, "rollback", "someone else"),
        (2, "promote", "someone"),
        (1, "promote", "someone"),
    ]
    with pytest.raises(UsageError, match="No champion of 'promoted' before version 1 is recorded"):
        rollback(settings, name, by="someone", why="Further back.")


def test_a_strategy_that_was_changed_since_the_training_is_seen(project, market, trained):
    settings, name = project(), "changed"
    market(swinging(BARS, seed=1, pull=0.2))
    trained(settings, name)
    file = settings.strategies_dir / "follow.py"
    source = file.read_text()

    def declared() -> str:
        return next(check.sentence for check in evaluate(settings, name).failed if check.name == "declared")

    file.write_text(source.replace("range=self.range[i]", "width=self.range[i]"))
    assert "declares the features away, width now, and the model was trained with away, range" in declared()
    file.write_text(source.replace("bt.ind.SMA", "bt.ind.EMA"))
    assert "file is not what it was in training" in declared()
    file.write_text("import nothing_of_this_name\n")
    assert "The features of strategy 'follow' cannot be read" in declared()
    file.unlink()
    assert "No strategy 'follow'" in declared()


def test_files_that_cannot_be_loaded_are_seen(project, market, trained):
    settings, name = project(), "broken"
    market(swinging(BARS, seed=1, pull=0.2))
    trained(settings, name)
    info = registry.resolve(settings, f"{name}@challenger")
    evaluate(settings, name)
    path = settings.home / "models" / name / "1"
    check = path / "check.json"
    text = check.read_text()
    check.write_text(text.replace("0.", "1.", 1))

    repaired = evaluate(settings, name)  # files that are not those of the registry are fetched anew

    assert repaired.passed
    assert registry.fetch(settings, info, settings.home / "models") == path and check.read_text() == text
    with registry.client_environment(settings):
        from mbats.ml.tracking import client

        client(settings).set_model_version_tag(name, "1", "mbats.digest", '"' + "0" * 64 + '"')
    failed = {check.name: check.sentence for check in evaluate(settings, name).failed}
    assert set(failed) == {"loads", "same_outputs", "latency"}
    assert "are not those that were registered" in failed["loads"]


def test_a_champion_that_cannot_be_recorded_is_not_made(project, market, trained, settings, risk_db):
    chosen, name = project(), "unrecorded"
    market(swinging(BARS, seed=1, pull=0.0))
    trained(chosen, name)
    with closing(Database(settings, "risk", "owner")) as owner, owner.begin() as connection:
        connection.exec_driver_sql("REVOKE INSERT ON model_promotion FROM mbats_trading")

    with pytest.raises(Exception, match="permission denied"):
        promote(chosen, name, by="someone", why="To see.", override=True)

    assert aliases(chosen, name) == {"challenger": 1}
    assert promotions(risk_db, name) == []


def test_what_is_not_there_is_said_and_a_reason_is_asked_for(project, market, trained):
    settings, name = project(), "absent"
    market(swinging(BARS, seed=1, pull=0.0))
    with pytest.raises(UsageError, match="No model 'absent'"):
        promote(settings, name, by="someone", why="None is there.")
    trained(settings, name)

    with pytest.raises(registry.UnknownModel, match=r"No model 'absent/7'.*Known: absent/1"):
        evaluate(settings, name, 7)
    with pytest.raises(UsageError, match="needs a reason"):
        promote(settings, name, by="someone", why=" ")
    with pytest.raises(UsageError, match="'absent' has no champion"):
        rollback(settings, name, by="someone", why="There is none.")


def test_the_command_line_shows_the_gate_and_ends_with_one_when_it_refuses(project, market, trained):
    settings, name = project(), "commanded"
    market(swinging(BARS, seed=1, pull=0.0))
    trained(settings, name)

    refused = mbats(settings, "promote", name, "--why", "To try.")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert "out_of_sample" in refused.stdout and "mbats: commanded/1 was not promoted" in refused.stderr

    let_pass = mbats(settings, "promote", name, "1", "--why", "To try.", "--override")
    assert let_pass.returncode == 0, let_pass.stderr
    assert "Promoted over 3 failed check(s) (out_of_sample, earns, better)" in let_pass.stdout
    assert "commanded/1 is the champion of 'commanded'" in let_pass.stdout

    nowhere = mbats(settings, "rollback", name, "--why", "It was nothing.")
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
    assert "No champion of 'commanded' before version 1" in nowhere.stderr
    assert mbats(settings, "promote", name).returncode == 2  # without a reason


def mbats(settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "MBATS_HOME": str(settings.home),
        "MBATS_ROOT": str(settings.root),
        "MBATS_STRATEGIES_DIR": str(settings.strategies_dir),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "mbats.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


# --- Which version a rollback goes back to --------------------------------------------------------------------------


def moves(*made: tuple[str, int, int | None]) -> list[Promotion]:
    """Newest first, as they are recorded: action, version, the champion before."""
    plain = Promotion("m", 1, None, "x", "y", "promote")
    return [replace(plain, action=action, version=version, previous_version=before) for action, version, before in reversed(made)]


@pytest.mark.parametrize(
    ("made", "present", "former"),
    [
        ([], 1, None),
        ([("promote", 1, None)], 1, None),
        ([("promote", 1, None), ("promote", 2, 1)], 2, 1),
        ([("promote", 1, None), ("promote", 2, 1), ("promote", 3, 2)], 3, 2),
        # Two rollbacks in a row go two back.
        ([("promote", 1, None), ("promote", 2, 1), ("promote", 3, 2), ("rollback", 2, 3)], 2, 1),
        ([("promote", 1, None), ("promote", 2, 1), ("rollback", 1, 2)], 1, None),
        ([("promote", 1, None), ("promote", 2, 1), ("rollback", 1, 2), ("promote", 3, 1)], 3, 1),
        # A version that was promoted twice.
        ([("promote", 1, None), ("promote", 2, 1), ("promote", 1, 2)], 1, 2),
        ([("promote", 1, None), ("promote", 2, 1), ("promote", 1, 2), ("rollback", 2, 1)], 2, 1),
        # Somebody set the alias in MLflow itself: before a promotion, and after it.
        ([("promote", 1, None), ("promote", 3, 2)], 3, 2),
        ([("promote", 1, None), ("promote", 2, 1)], 5, 2),
    ],
)
def test_a_rollback_goes_back_along_what_was_recorded(made, present, former):
    assert former_champion(moves(*made), present) == former
