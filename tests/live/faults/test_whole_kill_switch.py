"""Halt, reduce, flatten and resume from another process reach a trader that runs, one in trouble, and one that is dead."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from live.faults.whole import Whole

from mbats.live.gate import Command, CommandKind, TradingState
from mbats.live.hosting.client import TraderClient


def say(whole: Whole, kind: CommandKind, name: str | None = None) -> str:
    """A word over the trader's port, which must be answered within a second."""
    client = TraderClient(whole.settings, timeout=1.0)
    return str(client.command(Command(kind, "ann", datetime.now(UTC), "the market is mad", name))["message"])


def begin(whole: Whole) -> None:
    """A position with stop and target, and an entry that waits."""
    whole.start()
    whole.deploy()
    whole.minute()
    whole.wait_for(lambda: whole.trades() == ["2000"] and whole.pending() == ["LIMIT", "STOP_LOSS", "TAKE_PROFIT"])


@pytest.mark.proves("R27")
def test_a_halt_from_another_process_during_an_outage_outlives_a_kill_and_ends_with_a_persons_word(whole: Whole) -> None:
    begin(whole)
    cut = whole.exchange.fault({"do": "reset", "when": "before"}, path="*")
    whole.exchange.deed("disconnect")
    whole.wait_for(lambda: whole.exchange.hits(cut) > 2)

    said = say(whole, CommandKind.HALT)

    assert "all deployments: halted." in said
    assert whole.status().trading is TradingState.HALTED
    whole.kill()
    whole.exchange.admin("DELETE", "/faults")
    assert whole.pending() == ["LIMIT", "STOP_LOSS", "TAKE_PROFIT"]
    whole.start()
    whole.wait_for(lambda: whole.pending() == ["STOP_LOSS", "TAKE_PROFIT"])
    assert whole.status().trading is TradingState.HALTED
    assert whole.trades() == ["2000"]

    whole.kill()
    left = whole.mbats("flatten", "--yes", "--why", "enough")  # to a trader that is dead
    assert left.returncode == 1, left
    assert "NOT OBEYED YET" in left.stdout
    whole.start()
    whole.wait_for(lambda: (whole.trades(), whole.pending()) == ([], []))
    whole.wait_for(lambda: whole.status().positions == {})
    resumed = whole.mbats("resume")
    assert (resumed.returncode, whole.status().trading) == (0, TradingState.ACTIVE), resumed
    whole.kill()
    whole.start()
    assert whole.status().trading is TradingState.ACTIVE
    assert sum(map(int, whole.fills())) == 0


@pytest.mark.proves("R27")
def test_what_is_said_while_the_broker_is_away_from_the_start_is_answered_at_once_and_holds(whole: Whole) -> None:
    begin(whole)
    whole.kill()
    hangs = whole.exchange.fault({"do": "hang", "when": "before"}, path="*")
    whole.start()
    whole.wait_for(lambda: whole.exchange.hits(hangs))

    say(whole, CommandKind.HALT, "alpha")
    say(whole, CommandKind.REDUCE)
    whole.kill()
    whole.exchange.admin("DELETE", "/faults")
    whole.start()

    whole.wait_for(lambda: whole.pending() == ["STOP_LOSS", "TAKE_PROFIT"], 60)
    assert whole.status().trading is TradingState.HALTED
    say(whole, CommandKind.RESUME, "alpha")
    whole.wait_for(lambda: whole.status().trading is TradingState.REDUCING)


@pytest.mark.proves("R27")
def test_a_flatten_from_the_command_line_closes_one_deployment_in_a_market_that_halts_meanwhile(whole: Whole) -> None:
    begin(whole)
    whole.exchange.admin("POST", "/halt", {})
    whole.exchange.step(1)

    done = whole.mbats("flatten", "alpha", "--why", "it is time")

    assert done.returncode == 0, done
    assert "alpha: is being flattened." in done.stdout
    whole.wait_for(lambda: "LIMIT" not in whole.pending())
    assert whole.trades() == ["2000"]
    whole.exchange.admin("POST", "/resume", {})
    whole.exchange.step(1)
    whole.exchange.price("1.08500", "1.08512")
    whole.exchange.step(1)
    whole.wait_for(lambda: (whole.trades(), whole.pending()) == ([], []))
    assert whole.status().trading is TradingState.HALTED
