"""No secret stands where a stranger at the machine, a reader of logs or a reader of the repository could see it.

Run last: by now everything has happened that could have written one down.
"""

from __future__ import annotations

import stat
import subprocess

import pytest
from stack.leaks import leaks, secret_values
from stack.substrate import NativeSubstrate

from mbats.settings import PROJECT_ROOT

MOST = 50_000_000  # bytes of the longest file that is read


@pytest.fixture(scope="module")
def values(stack):
    return secret_values(stack)


def test_no_secret_stands_in_logs_in_arguments_in_environments_or_in_what_describes_the_services(stack):
    assert leaks(stack) == set()


def test_no_secret_stands_on_a_command_line(stack, values):
    processes = stack.processes()

    assert len(processes.splitlines()) > len(stack.status()), "more processes than services"
    assert [name for value, name in values.items() if value in processes] == []


def test_no_secret_stands_in_the_repository(values):
    patterns = "\n".join(values)  # through standard input: an argument could be seen

    found = subprocess.run(
        ["git", "-c", "safe.directory=*", "grep", "--untracked", "-I", "-F", "-l", "-f", "/dev/stdin"],
        cwd=PROJECT_ROOT,
        input=patterns,
        capture_output=True,
        text=True,
    )

    assert found.returncode == 1, found.stdout + found.stderr


def test_files_with_secrets_are_for_their_owner_alone(stack, values):
    if not isinstance(stack, NativeSubstrate):
        pytest.skip("natively alone; what a container holds nobody on the machine sees but who may do everything")
    home = stack.platform.home
    holding = {}
    for file in home.rglob("*"):
        if file.is_file() and file.stat().st_size < MOST:
            content = file.read_bytes()
            names = [name for value, name in values.items() if value.encode() in content]
            holding |= {file: names} if names else {}
    own = {file: names for file, names in holding.items() if file.parent == home / "secrets"}

    assert set(values.values()) <= {name for names in own.values() for name in names}
    assert {str(file): names for file, names in holding.items() if stat.S_IMODE(file.stat().st_mode) & 0o077} == {}
    assert stat.S_IMODE((home / "secrets").stat().st_mode) == 0o700
