"""The one command before anything is installed: what it says of a machine that lacks something."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mbats.settings import PROJECT_ROOT

TOOLS = ("bash", "awk", "cat", "cut", "df", "dirname", "env", "head", "mkdir", "rm", "sed", "sort", "tail", "timeout")


class Machine:
    """A machine with a few tools on its PATH, no Python, no uv and no Docker; programs are added as scripts."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.home = folder / "state"
        for tool in TOOLS:
            (self.programs / tool).symlink_to(Path(str(shutil.which(tool))))

    def has(self, name: str, script: str) -> None:
        (self.programs / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (self.programs / name).chmod(0o755)

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.programs), "MBATS_HOME": str(self.home)}
        environment["UV_PROJECT_ENVIRONMENT"] = str(self.home / "no environment")
        script = PROJECT_ROOT / "starter_script.sh"
        return subprocess.run(
            [script, *arguments], env=environment, capture_output=True, text=True, timeout=60, cwd=self.programs
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_help_names_every_command_and_option(machine):
    done = machine.start("--help")

    assert done.returncode == 0
    for word in ("--native", "--docker", "status", "stop", "install", "MBATS_HOME"):
        assert word in done.stdout


def test_an_unknown_word_is_refused_by_name(machine):
    done = machine.start("--natvie")

    assert done.returncode == 2
    assert "There is no '--natvie'" in done.stderr


def test_docker_is_refused_where_no_engine_answers(machine):
    done = machine.start("--docker")

    assert done.returncode == 2
    assert "no Docker engine answers. Nothing was started. Start one, or use --native." in done.stderr
    assert not machine.home.exists()


def test_docker_is_refused_where_compose_is_missing_or_too_old(machine):
    machine.has("docker", "[[ $1 != compose ]] || { echo 2.20.0; }")

    done = machine.start("--docker")

    assert done.returncode == 2
    assert "no Docker Compose of 2.24.4 or later was found. Nothing was started." in done.stderr
    assert not machine.home.exists()


def test_a_machine_without_python_is_told_so_and_what_to_do(machine):
    done = machine.start()

    assert done.returncode == 2
    assert "No Python 3.11 or 3.12 was found (none at all). Nothing was installed." in done.stderr
    assert "apt install python3" in done.stderr
    assert not machine.home.exists()


def test_a_python_that_is_too_old_or_broken_is_named_with_its_version(machine):
    machine.has("python3", '[[ $1 == --version ]] && echo "Python 3.9.2" && exit; exit 1')
    machine.has("python", "echo broken >&2; exit 127")

    done = machine.start("--native")

    assert done.returncode == 2
    assert "python3: Python 3.9.2 python: broken" in done.stderr


def test_a_python_without_venv_and_pip_is_told_what_to_install(machine):
    machine.has("python3.11", "[[ $1 == -c ]]")

    done = machine.start()

    assert done.returncode == 2
    assert "python3.11 has neither venv nor pip. Nothing was installed." in done.stderr
    assert "apt install python3-venv python3-pip" in done.stderr


def test_a_python_without_venv_installs_uv_with_pip_alone(machine, tmp_path):
    calls = tmp_path / "calls"
    machine.has("python3.11", f'echo "$@" >>"{calls}"; [[ $1 == -c || "$1 $2" == "-m pip" ]]')

    done = machine.start("install")

    assert done.returncode == 2, "the pip of this test installs nothing"
    assert f"--target {machine.home}/uv uv==" in calls.read_text()
    assert "does not run there" in done.stderr


def test_where_an_engine_with_compose_answers_it_is_used_and_what_was_chosen_is_kept(machine):
    machine.has(
        "docker", f'echo "$@" >>"{machine.programs}/asked"; [[ $* != "compose version"* ]] || echo 2.40.3; [[ $* != *build* ]]'
    )

    done = machine.start()

    assert "A Docker engine answers; services run as containers (--native: as plain processes)." in done.stdout
    assert "The image of secrets was not built" in done.stderr, "the engine of this test builds nothing"
    assert (machine.home / "substrate").read_text() == "docker\n"
    assert "compose build secrets" in (machine.programs / "asked").read_text()
    machine.has("docker", "exit 1")
    again = machine.start()
    assert again.returncode == 2
    assert "This platform runs as containers, and no Docker engine with Compose answers." in again.stderr


def test_an_engine_without_compose_is_not_used(machine):
    machine.has("docker", "[[ $1 != compose ]]")

    assert machine.start().stdout == "No Docker engine with Compose answers; services run as plain processes.\n"


def test_a_docker_client_without_an_engine_is_no_docker(machine):
    machine.has("docker", "exit 1")

    assert machine.start().stdout == "No Docker engine with Compose answers; services run as plain processes.\n"


@pytest.mark.parametrize("command", ["stop", "status", "secrets"])
def test_stop_and_status_before_the_first_start_say_what_to_do(machine, command):
    done = machine.start(command)

    assert done.returncode == 2
    assert "Not installed yet. Run ./starter_script.sh first." in done.stderr


def test_scripts_of_the_repository_can_be_executed():
    for script in ("starter_script.sh", "tests/run.sh", ".ci/run"):
        assert os.access(PROJECT_ROOT / script, os.X_OK), script
