"""The same platform under an account without any rights, where the other tests run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from free_ports import first_of_many
from platforms import SERVICES, Platform, eventually, family

import mbats

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the other tests of the platform run as an ordinary user already")


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Platform]:
    """A platform whose every process belongs to `nobody`, with a Python that account may execute."""
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
    if shutil.which(as_nobody[0]) is None:
        pytest.skip("no setpriv on this machine")
    # In /tmp itself: the folders of pytest are closed to other accounts.
    folder = Path(subprocess.run(["mktemp", "-d", "/tmp/mbats-ordinary.XXXXXX"], capture_output=True, text=True).stdout.strip())
    os.chown(folder, NOBODY, NOBODY)
    try:
        python = environment_of_its_own(folder / "venv", as_nobody)
        platform = Platform(folder / "home", python=(*as_nobody, python), extra={"HOME": str(folder)})
        platform.prefer_ports(first_of_many())
        for path in (platform.home, platform.home / "platform.env"):
            os.chown(path, NOBODY, NOBODY)
        first = platform.mbats("up")
        assert first.returncode == 0, first.stdout
        yield platform
        platform.kill()
    finally:
        shutil.rmtree(folder)


def environment_of_its_own(folder: Path, as_nobody: tuple[str, ...]) -> str:
    """A virtual environment with the packages of this one: the Python behind this one may lie in root's home."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (Path("/usr/bin") / name, Path("/usr/local/bin") / name, Path(sys.base_prefix) / "bin" / name):
        made = subprocess.run([*as_nobody, candidate, "-m", "venv", "--without-pip", folder], capture_output=True, cwd="/")
        if made.returncode == 0:
            break
    else:
        pytest.skip(f"no {name} that an ordinary user may execute")
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    source = Path(mbats.__file__).parents[1]
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n{source}\n")
    python = str(folder / "bin" / "python")
    readable = subprocess.run([*as_nobody, python, "-c", "import mbats.cli"], capture_output=True, cwd="/")
    if readable.returncode != 0:
        pytest.skip(f"the project's folder is closed to ordinary users: {readable.stderr.decode().splitlines()[-1]}")
    return python


def test_every_service_runs_as_the_user_who_started_it(ordinary):
    assert sorted(ordinary.status()) == sorted(SERVICES)
    assert ordinary.is_well()
    assert {process.uids().effective for process in family(ordinary.supervisor_pid())} == {NOBODY}


def test_everything_that_is_kept_belongs_to_that_user(ordinary):
    assert {path.lstat().st_uid for path in ordinary.home.rglob("*")} == {NOBODY}


def test_a_killed_service_comes_back(ordinary):
    before = ordinary.status()["postgres"].pid

    psutil.Process(before).kill()

    assert eventually(lambda: ordinary.status()["postgres"].pid not in (None, before))
    assert eventually(ordinary.is_well)


def test_a_stop_and_a_new_start_work(ordinary):
    stopped, started = ordinary.mbats("stop"), ordinary.mbats("up")

    assert "Stopped in" in stopped.stdout
    assert started.returncode == 0, started.stdout
    assert "data folder exists, skipped" in started.stdout
