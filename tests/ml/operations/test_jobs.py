"""What is trained anew: the file that says it, and when a model is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbats.errors import ConfigError
from mbats.market import NEW_YORK
from mbats.ml.jobs import FILE, Job, UnknownJob, choose_jobs, is_due, load_jobs
from mbats.ml.recipe import load_recipe
from mbats.settings import PROJECT_ROOT
from mbats.trading.strategies import load_strategy

PLAIN = 'strategy = "s"\ngranularity = "D"\nrecipe = "forest"\nschedule = "weekly"\nrule = "propose"\n'


def written(folder, text: str):
    (folder / FILE).parent.mkdir()
    (folder / FILE).write_text(text)
    return folder


def job(schedule: str) -> Job:
    return Job(strategy="s", granularity="D", recipe="forest", schedule=schedule, rule="propose")


def new_york(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).astimezone(UTC)


def test_the_jobs_of_this_project_name_strategies_and_recipes_that_there_are():
    jobs = load_jobs(PROJECT_ROOT)

    assert jobs
    for each in jobs.values():
        load_strategy(each.strategy, PROJECT_ROOT / "strategies").parameters(each.parameters)
        load_recipe(each.recipe, PROJECT_ROOT / "mlflow" / "recipes")
        assert each.rule == "propose", "nothing becomes champion by itself unless the user says so"


def test_values_are_read_as_the_command_line_reads_them(tmp_path):
    text = f"[m]\n{PLAIN}start = 2020-01-31\ntrials = 3\n[m.parameters]\nperiod = 20\nrisk = 0.5\nlong = true\n"

    found = load_jobs(written(tmp_path, text))["m"]

    assert found.start == datetime(2020, 1, 31, tzinfo=UTC)
    assert found.parameters == {"period": "20", "risk": "0.5", "long": "true"}
    assert (found.trials, found.symbols) == (3, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[m]\n" + PLAIN.replace("weekly", "hourly"), r"section \[m\]: schedule: .*found 'hourly'"),
        ("[m]\n" + PLAIN.replace('rule = "propose"\n', ""), "rule is missing"),
        ("[m]\n" + PLAIN.replace('"D"', '"M3"'), "granularity: "),
        ("[m]\n" + PLAIN + "horizon = 3\n", "horizon: Extra inputs"),
        ("[m]\n" + PLAIN + "start = 'yesterday'\n", "start: "),
        ("[m]\n" + PLAIN + "trials = -1\n", "trials: "),
        ("m = 1\n", "'m' stands outside of any section"),
        ("[m\n", "is no TOML"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        load_jobs(written(tmp_path, text))


def test_a_file_that_is_not_there_and_a_name_that_is_not_in_it_are_said(tmp_path):
    with pytest.raises(ConfigError, match=r"retrain\.toml cannot be read: No such file"):
        load_jobs(tmp_path)
    with pytest.raises(UnknownJob, match="Did you mean 'rsi_stochastic'"):
        choose_jobs(PROJECT_ROOT, ("rsi_stochastik",))


@pytest.mark.parametrize(
    ("schedule", "last", "now", "due"),
    [
        ("weekly", "2026-06-05 16:59", "2026-06-05 20:00", True),  # Friday: its close came after the training
        ("weekly", "2026-06-05 17:00", "2026-06-05 20:00", False),
        ("weekly", "2026-06-05 20:30", "2026-06-12 16:59", False),
        ("weekly", "2026-06-05 20:30", "2026-06-12 17:00", True),
        ("weekly", "2026-06-05 20:30", "2026-06-15 20:00", True),  # missed on Friday, made good on Monday
        ("daily", "2026-06-04 20:30", "2026-06-05 20:00", True),
        ("daily", "2026-06-05 20:30", "2026-06-07 20:00", False),  # no bar has closed since Friday
        ("daily", "2026-06-05 20:30", "2026-06-08 20:00", True),
        ("monthly", "2026-06-05 20:30", "2026-06-30 20:00", False),
        ("monthly", "2026-06-05 20:30", "2026-07-01 20:00", True),
        ("weekly", "2026-03-06 20:30", "2026-03-13 20:00", True),  # the clocks change between the two
    ],
)
def test_a_model_is_due_when_the_calendar_says_so(schedule, last, now, due):
    assert is_due(job(schedule), new_york(last), new_york(now)) is due


def test_what_was_never_trained_is_due_unless_it_is_trained_by_hand_alone():
    now = datetime(2026, 6, 3, tzinfo=UTC)

    assert [is_due(job(schedule), None, now) for schedule in ("daily", "weekly", "monthly", "never")] == [True] * 3 + [False]


@given(
    schedule=st.sampled_from(["daily", "weekly", "monthly"]),
    now=st.integers(0, 10 * 365 * 24 * 60).map(lambda minutes: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)),
)
def test_a_model_that_was_just_trained_is_not_due_and_one_of_long_ago_is(schedule, now):
    assert not is_due(job(schedule), now, now)
    assert is_due(job(schedule), now - timedelta(days=32), now)
