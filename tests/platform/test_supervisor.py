"""Supervisord itself, with small programs in place of the services."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mbats.errors import ConfigError
from mbats.platform.files import remove_socket_folder
from mbats.platform.program import Program
from mbats.platform.supervisor import Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "a home")
    yield supervisor
    supervisor.stop(timeout=20)
    remove_socket_folder(supervisor.home)


def program(name: str = "sleeper", *, code: str = "import time; time.sleep(600)", **options: object) -> Program:
    command = [sys.executable, "-I", "-S", "-c", code]
    return Program(name=name, command=command, directory=Path("/"), die_with_parent=signal.SIGKILL, **options)


def start(supervisor: Supervisor, *programs: Program) -> None:
    supervisor.write_config(programs)
    supervisor.start()
    for each in programs:
        assert supervisor.start_service(each.name)


def eventually(condition: Callable[[], bool], *, within: float = 15) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def running_pid(supervisor: Supervisor, name: str = "sleeper") -> int | None:
    state = supervisor.states().get(name)
    return state.pid if state else None


def test_a_program_that_is_killed_comes_back_with_a_new_process(supervisor):
    start(supervisor, program())
    assert eventually(lambda: running_pid(supervisor) is not None)
    first = running_pid(supervisor)

    os.kill(first, signal.SIGKILL)

    assert eventually(lambda: running_pid(supervisor) not in (None, first))


def test_a_program_that_dies_at_its_start_is_tried_again_after_growing_pauses(supervisor):
    start(supervisor, program("broken", code="raise SystemExit('cannot start')"))

    assert eventually(lambda: supervisor.log_file("broken").read_text().count("cannot start") >= 2)
    assert supervisor.states()["broken"].state in ("backoff", "starting")


def test_nothing_is_started_before_it_is_asked_for(supervisor):
    supervisor.write_config([program()])
    supervisor.start()

    assert supervisor.states()["sleeper"].state == "stopped"
    assert supervisor.start_service("sleeper") is True
    assert supervisor.start_service("sleeper") is False


def test_a_program_that_waits_for_its_next_try_is_tried_at_once_when_it_is_started(supervisor, tmp_path):
    marker = tmp_path / "mended"
    code = f"import pathlib, time; pathlib.Path({str(marker)!r}).read_text(); time.sleep(600)"
    start(supervisor, program("broken", code=code))
    assert eventually(lambda: supervisor.states()["broken"].state == "backoff")
    marker.touch()

    assert supervisor.start_service("broken") is True

    assert eventually(lambda: supervisor.states()["broken"].state == "running")


def test_a_killed_supervisord_takes_its_programs_with_it_and_the_next_start_is_like_the_first(supervisor):
    start(supervisor, program())
    assert eventually(lambda: running_pid(supervisor) is not None)
    orphan = psutil.Process(running_pid(supervisor))

    os.kill(supervisor.pid(), signal.SIGKILL)

    assert eventually(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    assert eventually(lambda: supervisor.pid() is None)
    assert supervisor.socket.exists() and supervisor.pid_file.exists(), "the kill must leave stale files for this test to matter"
    supervisor.start()
    supervisor.start_service("sleeper")
    assert eventually(lambda: running_pid(supervisor) is not None)


def test_only_programs_whose_configuration_changed_are_stopped(supervisor):
    kept, changed, dropped = program("kept"), program("changed"), program("dropped")
    start(supervisor, kept, changed, dropped)
    assert eventually(lambda: all(state.pid for state in supervisor.states().values()))
    before = supervisor.states()

    supervisor.write_config([kept, program("changed", environment={"NEW": "1"}), program("added")])
    touched = supervisor.apply_config()

    after = supervisor.states()
    assert touched == ["added", "changed", "dropped"]
    assert sorted(after) == ["added", "changed", "kept"]
    assert after["kept"].pid == before["kept"].pid
    assert after["changed"].pid is None and after["added"].pid is None, "who configures them starts them, when it is time"


def test_an_unchanged_configuration_touches_nothing(supervisor):
    start(supervisor, program())
    assert eventually(lambda: running_pid(supervisor) is not None)
    before = running_pid(supervisor)

    assert supervisor.write_config([program()]) is False
    assert supervisor.apply_config() == []
    assert running_pid(supervisor) == before


def test_the_number_of_another_process_in_the_pid_file_is_not_taken_for_supervisord(supervisor):
    supervisor.write_config([program()])
    supervisor.pid_file.write_text(str(os.getpid()))

    assert supervisor.pid() is None
    assert supervisor.states() == {}
    assert supervisor.stop(timeout=5) is False


def test_supervisord_whose_socket_was_removed_is_seen_and_can_be_stopped(supervisor):
    start(supervisor, program())
    supervisor.socket.unlink()

    assert supervisor.pid() is not None
    assert not supervisor.answers()
    assert supervisor.stop(timeout=20) is True
    assert supervisor.pid() is None


def test_a_stop_sends_the_signal_that_the_program_asks_for_and_waits(supervisor, tmp_path):
    marker = tmp_path / "stopped well"
    note = f"lambda *_: (pathlib.Path({str(marker)!r}).touch(), sys.exit(0))"
    code = f"import pathlib, signal, sys, time; signal.signal(signal.SIGINT, {note}); print('ready', flush=True); time.sleep(600)"
    start(supervisor, program(code=code, stop_signal=signal.SIGINT))
    assert eventually(lambda: "ready" in supervisor.log_file("sleeper").read_text())

    assert supervisor.stop(timeout=20) is True

    assert marker.exists()


def test_a_home_too_deep_for_a_socket_has_it_in_a_private_folder_elsewhere(tmp_path):
    supervisor = Supervisor(tmp_path / ("deep" * 30))
    try:
        start(supervisor, program())

        assert supervisor.answers()
        folder = supervisor.socket.parent
        assert folder.parent == Path("/tmp")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        supervisor.stop(timeout=20)
        remove_socket_folder(supervisor.home)
        assert not folder.exists()


def test_everything_of_supervisord_is_for_its_owner_alone(supervisor):
    start(supervisor, program())
    assert eventually(lambda: supervisor.log_file("sleeper").exists())

    assert stat.S_IMODE(supervisor.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(supervisor.run.stat().st_mode) == 0o700
    assert stat.S_IMODE(supervisor.logs.stat().st_mode) == 0o700
    assert stat.S_IMODE(supervisor.config.stat().st_mode) == 0o600


@pytest.mark.parametrize("value", ['a "quoted" name', "100%", "two\nlines", "a ;comment", "a #comment"])
def test_a_value_that_supervisord_would_misread_is_refused_by_name(supervisor, value):
    with pytest.raises(ConfigError, match="supervisord cannot read"):
        supervisor.write_config([program(environment={"VALUE": value})])


def test_a_program_gets_its_environment_and_its_arguments_as_they_were_written(supervisor, tmp_path):
    output = tmp_path / "out"
    code = f"import os, pathlib, sys, time; pathlib.Path({str(output)!r}).write_text(repr((os.environ['X'], sys.argv[1:])))"
    command = [sys.executable, "-I", "-S", "-c", code + "; time.sleep(600)", "a b", "100%", "it's", 'say "yes"', ""]
    start(supervisor, Program(name="x", command=command, directory=tmp_path, environment={"X": "it's, 1=2"}))

    assert eventually(output.exists)
    assert eventually(lambda: output.read_text() == repr(("it's, 1=2", ["a b", "100%", "it's", 'say "yes"', ""])))
