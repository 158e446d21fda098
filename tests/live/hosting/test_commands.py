"""Commands that wait as files: whole or not there at all, for one reader, and in the order in which they were said."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta

import pytest

from mbats.errors import PlatformError
from mbats.live.gate import Command, CommandKind, GateState, TradingState, apply
from mbats.live.hosting import commands
from mbats.live.hosting.commands import StopDeployment, folder, leave, waiting

NOW = datetime(2024, 5, 14, 10, 0, 0, 123456, tzinfo=UTC)
HALT = Command(CommandKind.HALT, "ann@desk", NOW, "the news", "rsi-eurusd")


def test_a_command_that_was_left_is_read_as_it_was_said_and_stays_until_it_is_obeyed(tmp_path):
    path = leave(tmp_path, HALT)

    (left,) = waiting(tmp_path, now=NOW)
    assert (left.word, left.path) == (HALT, path)
    assert waiting(tmp_path, now=NOW) == [left], "a trader that dies while it obeys finds it again"
    left.obeyed()
    assert waiting(tmp_path, now=NOW) == []
    left.obeyed()


@pytest.mark.parametrize(
    "word",
    [
        Command(CommandKind.FLATTEN, "a", NOW, "b"),
        Command(CommandKind.RESUME, "a", NOW, "b", "x", TradingState.REDUCING),
        StopDeployment("rsi-eurusd", "a", NOW, "b"),
    ],
)
def test_every_kind_of_command_comes_back_the_same(tmp_path, word):
    leave(tmp_path, word)

    assert [left.word for left in waiting(tmp_path, now=NOW)] == [word]


def test_commands_are_read_in_the_order_in_which_they_were_said(tmp_path):
    later = [Command(CommandKind.HALT, "a", NOW + timedelta(microseconds=n), str(n)) for n in (3, 1, 2, 1_000_000)]
    for command in later:
        leave(tmp_path, command)

    assert [left.word.why for left in waiting(tmp_path, now=NOW)] == ["1", "2", "3", "1000000"]


def test_nobody_else_can_read_or_leave_one(tmp_path):
    path = leave(tmp_path, HALT)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder(tmp_path).stat().st_mode) == 0o700


def test_in_a_folder_of_two_users_the_other_one_may_read_it(tmp_path):
    folder(tmp_path).mkdir(parents=True)
    folder(tmp_path).chmod(0o2770)

    assert stat.S_IMODE(leave(tmp_path, HALT).stat().st_mode) == 0o660


def test_without_a_folder_nothing_waits(tmp_path):
    assert waiting(tmp_path, now=NOW) == []


@pytest.mark.parametrize(
    "text", ["", "{", '{"kind": "halt"}', '{"kind": "halt", "by": "", "at": "2024-01-01T00:00:00Z", "why": ""}', "\xff"]
)
def test_what_cannot_be_read_halts_everything(tmp_path, text):
    path = leave(tmp_path, HALT)
    path.write_bytes(text.encode("latin-1"))

    (left,) = waiting(tmp_path, now=NOW)

    state = apply(GateState(), left.word)
    assert state.everything.state is TradingState.HALTED
    assert path.name in state.everything.why
    left.obeyed()
    assert waiting(tmp_path, now=NOW) == []


def test_a_writer_that_dies_before_the_end_leaves_nothing_that_is_read(tmp_path, monkeypatch):
    class Died(BaseException):
        pass

    def die(descriptor):
        raise Died

    monkeypatch.setattr(commands.os, "fsync", die)
    with pytest.raises(Died):
        leave(tmp_path, HALT)

    assert list(folder(tmp_path).iterdir()) != [], "it had begun"
    assert waiting(tmp_path, now=NOW) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said_as_it_is(tmp_path):
    tmp_path.chmod(0o500)

    with pytest.raises(PlatformError, match="Nobody was told"):
        leave(tmp_path, HALT)


def test_a_place_that_is_no_folder_is_said_as_it_is(tmp_path):
    (tmp_path / "trader").write_text("a file")

    with pytest.raises(PlatformError, match="Nobody was told"):
        leave(tmp_path, HALT)
