"""The virtual environments beside the main one: Superset and pgAdmin need packages that it cannot hold.

Each has a project file and a lock of its own. Nothing of `mbats` is importable there: what runs there are the plain scripts
of the service's folder, told by their environment where things are.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mbats.errors import PlatformError
from mbats.settings import Settings

LAST_LINES = 12


def venv_python(settings: Settings, name: str, project: Path) -> Path:
    """The Python of the environment `<main>-<name>`. Raises PlatformError that says how to install it."""
    environment = Path(f"{sys.prefix}-{name}")
    python = environment / "bin" / "python"
    if not python.is_file():
        raise PlatformError(
            f"No environment for {name} at {environment}. It was not started. Run ./starter_script.sh, which installs it, or "
            f"UV_PROJECT_ENVIRONMENT={environment} uv sync --frozen --project {settings.root / project}."
        )
    return python


def clean_environment(**more: str) -> dict[str, str]:
    """An environment that holds nothing of ours or of the caller's but what is given: secrets could stand in it."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **more}


def run_script(title: str, python: Path, script: Path, *, environment: Mapping[str, str], folder: Path) -> list[str]:
    """Run a script to its end in another environment; returns what it printed on its standard output, as lines.

    Raises PlatformError with the last lines of its errors when it fails.
    """
    done = subprocess.run(
        [str(python), "-P", str(script)],
        env=clean_environment(**environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-LAST_LINES:]
        raise PlatformError(
            "\n".join(
                [f"{title} could not be prepared: {script} ended with exit code {done.returncode}.", *(f"    {x}" for x in said)]
            )
        )
    return done.stdout.splitlines()


__all__ = ["clean_environment", "run_script", "venv_python"]
