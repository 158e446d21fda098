"""The kill switch and the latches: who says what to whom, what wins, and what outlives the process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from gates import NOW
from hypothesis import given
from hypothesis import strategies as st

from mbats.errors import DataError, UsageError
from mbats.live.gate import (
    Command,
    CommandKind,
    GateState,
    Latch,
    Losses,
    Reason,
    Throttle,
    TradingState,
    apply,
    latch,
    read_json,
    ruling,
    to_json,
)
from mbats.live.gate.state import Control, flattened, refused_login
from mbats.live.gate.throttle import Sent

NAMES = ("alpha", "beta")
LATER = NOW + timedelta(hours=1)


def command(
    kind: CommandKind, deployment: str | None = None, at: datetime = NOW, to: TradingState = TradingState.ACTIVE
) -> Command:
    return Command(kind, "ann", at, "a drill", deployment, to)


def after(*commands: Command) -> GateState:
    state = GateState()
    for each in commands:
        state = apply(state, each)
    return state


def states(state: GateState) -> list[str]:
    return [ruling(state, name, NOW).state.value for name in NAMES]


def test_a_command_to_one_deployment_leaves_the_others_alone() -> None:
    assert states(GateState()) == ["ACTIVE", "ACTIVE"]
    assert states(after(command(CommandKind.REDUCE, "beta"))) == ["ACTIVE", "REDUCING"]


@pytest.mark.parametrize(
    ("all_", "one", "wins"),
    [
        (CommandKind.HALT, CommandKind.REDUCE, "HALTED"),
        (CommandKind.REDUCE, CommandKind.HALT, "HALTED"),
        (CommandKind.REDUCE, CommandKind.RESUME, "REDUCING"),
        (CommandKind.RESUME, CommandKind.REDUCE, "REDUCING"),
    ],
)
def test_of_all_and_one_the_stricter_wins(all_: CommandKind, one: CommandKind, wins: str) -> None:
    assert states(after(command(all_), command(one, "alpha")))[0] == wins


def test_resuming_one_does_not_resume_what_was_said_to_all() -> None:
    assert states(after(command(CommandKind.HALT), command(CommandKind.RESUME, "alpha", LATER))) == ["HALTED", "HALTED"]


def test_commands_that_tighten_may_come_in_any_order() -> None:
    tightening = [command(CommandKind.HALT), command(CommandKind.REDUCE), command(CommandKind.FLATTEN)]

    for order in permutations(tightening):
        rules = ruling(after(*order), "alpha", NOW)
        assert (rules.state, rules.flattening) == (TradingState.HALTED, True)


def test_a_second_halt_leaves_the_first_name_and_reason() -> None:
    state = after(command(CommandKind.HALT), Command(CommandKind.HALT, "bob", LATER, "me too"))

    assert (state.everything.by, state.everything.at) == ("ann", NOW)


def test_resume_loosens_as_far_as_it_says() -> None:
    halted = after(command(CommandKind.FLATTEN))

    reducing = apply(halted, command(CommandKind.RESUME, at=LATER, to=TradingState.REDUCING))

    assert states(reducing) == ["REDUCING", "REDUCING"]
    assert not ruling(reducing, "alpha", NOW).flattening
    assert states(apply(halted, command(CommandKind.RESUME, at=LATER))) == ["ACTIVE", "ACTIVE"]


def test_a_resume_that_was_said_before_the_halt_does_not_undo_it() -> None:
    assert states(after(command(CommandKind.HALT, at=LATER), command(CommandKind.RESUME, at=NOW))) == ["HALTED", "HALTED"]


def test_a_flatten_that_is_done_leaves_trading_halted() -> None:
    rules = ruling(flattened(after(command(CommandKind.FLATTEN, "alpha")), "alpha"), "alpha", NOW)

    assert (rules.state, rules.flattening) == (TradingState.HALTED, False)


def test_a_latch_holds_until_its_time_or_until_a_person_resumes() -> None:
    timed, lasting = Latch(Reason.DAILY_LOSS, NOW, LATER, "2 %"), Latch(Reason.DRAWDOWN, NOW, None, "10 %")
    state = latch(GateState(), "alpha", [timed, lasting])

    assert ruling(state, "alpha", LATER - timedelta(microseconds=1)).latches == (timed, lasting)
    assert ruling(state, "alpha", LATER).latches == (lasting,)
    assert ruling(state, "beta", NOW).latches == ()
    assert ruling(apply(state, command(CommandKind.RESUME, "alpha", LATER)), "alpha", LATER).latches == ()


def test_halting_keeps_the_latches() -> None:
    state = apply(latch(GateState(), None, [Latch(Reason.DRAWDOWN, NOW, None, "10 %")]), command(CommandKind.HALT))

    assert [found.reason for found in ruling(state, "alpha", NOW).latches] == [Reason.DRAWDOWN]


def test_a_resume_lifts_no_latch_that_was_set_after_it_was_said() -> None:
    fresh = Latch(Reason.DAILY_LOSS, LATER, None, "2 %")

    assert apply(latch(GateState(), None, [fresh]), command(CommandKind.RESUME)).everything.latches == (fresh,)


@pytest.mark.parametrize(("first", "second", "stays"), [(1, 2, 2), (2, 1, 2), (None, 2, None), (2, None, None)])
def test_of_two_latches_for_one_reason_the_longer_stays(first: int | None, second: int | None, stays: int | None) -> None:
    def until(hours: int | None) -> datetime | None:
        return None if hours is None else NOW + timedelta(hours=hours)

    state = GateState()
    for hours in (first, second):
        state = latch(state, "alpha", [Latch(Reason.LOSS_STREAK, NOW, until(hours), "5 in a row")])

    assert [found.until for found in state.control("alpha").latches] == [until(stays)]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_halts_everything_and_says_so(status: int) -> None:
    state = refused_login(GateState(), status=status, at=NOW)

    assert states(state) == ["HALTED", "HALTED"]
    assert (state.everything.by, str(status) in state.everything.why) == ("mbats", True)


@pytest.mark.parametrize(("by", "why"), [("", "a drill"), ("ann", " ")])
def test_a_command_needs_a_name_and_a_reason(by: str, why: str) -> None:
    with pytest.raises(UsageError, match="needs who says it and why"):
        Command(CommandKind.HALT, by, NOW, why)


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        (CommandKind.RESUME, TradingState.HALTED),
        (CommandKind.HALT, TradingState.REDUCING),
        (CommandKind.HALT, TradingState.HALTED),
    ],
)
def test_only_resume_says_to_which_state_and_never_to_halted(kind: CommandKind, to: TradingState) -> None:
    with pytest.raises(UsageError, match="Nothing changed"):
        command(kind, to=to)


# --- The journal -----------------------------------------------------------------------------------------------------

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
MONEY = st.decimals(-(10**9), 10**9, places=4)
LATCHES = st.builds(Latch, st.sampled_from(Reason), MOMENTS, st.none() | MOMENTS, st.text())
CONTROLS = st.builds(
    Control, st.sampled_from(TradingState), st.text(), st.none() | MOMENTS, st.text(), st.booleans(), st.lists(LATCHES).map(tuple)
)


@given(st.builds(GateState, CONTROLS, st.dictionaries(st.text(), CONTROLS)))
def test_a_state_is_the_same_after_a_round_trip_through_json(state: GateState) -> None:
    assert read_json(GateState, to_json(state)) == state


@given(st.builds(Losses, st.dates(), MONEY, MONEY, MONEY, st.integers(0, 99)))
def test_losses_are_the_same_after_a_round_trip_through_json(losses: Losses) -> None:
    assert read_json(Losses, to_json(losses)) == losses


@given(
    st.builds(Throttle, st.decimals(0, 40, places=6), MOMENTS, st.lists(st.builds(Sent, MOMENTS, st.just("EUR_USD"))).map(tuple))
)
def test_a_throttle_is_the_same_after_a_round_trip_through_json(throttle: Throttle) -> None:
    assert read_json(Throttle, to_json(throttle)) == throttle


def test_figures_are_texts_in_the_journal_so_that_none_is_rounded() -> None:
    assert '"0.1000"' in to_json(Losses(NOW.date(), Decimal("0.1000"), Decimal(1), Decimal(1)))


@pytest.mark.parametrize(
    "damage", [("HALTED", "HALTE"), ('"everything":', '"everythin":'), ('"flattening":false,', ""), ("}", "")]
)
def test_a_damaged_journal_is_an_error_and_never_the_default_state(damage: tuple[str, str]) -> None:
    text = to_json(after(command(CommandKind.HALT)))
    assert damage[0] in text

    with pytest.raises(DataError, match="GateState cannot be read"):
        read_json(GateState, text.replace(*damage))
