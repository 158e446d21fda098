"""Superset and pgAdmin, in virtual environments beside the main one: they need packages that it cannot hold.

Each has a project file and a lock of its own. Nothing of `mbats` is importable there: what runs there are the plain scripts
of the service's folder, told by their environment where things are.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mbats.errors import PlatformError
from mbats.platform.files import private_folder
from mbats.platform.program import Program
from mbats.platform.service import Say, stamp
from mbats.settings import Settings

LAST_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """A service that gunicorn serves from the environment `<main>-<name>`, by the scripts of the project's folder `project`.

    It keeps what it has in a folder of its name, `secrets` are those that it reads, and `tells` is what its scripts are told
    beside what all such scripts are.
    """

    settings: Settings
    name: str
    title: str
    project: Path
    secrets: tuple[str, ...]
    tells: Mapping[str, str]

    def program(self, *, stop_seconds: int = 10) -> Program:
        """How it is started. A change of its secrets or scripts starts it anew. Raises PlatformError when it is not installed."""
        secrets = [self.settings.secrets_dir / f"mbats_{name}" for name in self.secrets]
        files = [*secrets, *self._scripts.rglob("*.py"), *self._scripts.rglob("*.yaml")]
        return Program(
            name=self.name,
            command=[*self._python(), "-m", "gunicorn", "--config", str(self._scripts / "gunicorn.conf.py")],
            directory=private_folder(self._data),
            environment=self._environment() | {"MBATS_CONFIG_FILES": stamp(*files)},
            stop_seconds=stop_seconds,
            stop_as_group=True,
        )

    def prepare(self, say: Say) -> None:
        """Run its `prepare.py` and say what that says. Raises PlatformError with the last lines of its errors when it fails."""
        script = self._scripts / "prepare.py"
        done = subprocess.run(
            [*self._python(), str(script)],
            # Nothing of the caller's: secrets could stand in it.
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"} | self._environment(),
            cwd=private_folder(self._data),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-LAST_LINES:]
            reason = "\n".join(f"    {line}" for line in said)
            raise PlatformError(f"{self.title} could not be prepared: {script} ended with exit code {done.returncode}.\n{reason}")
        for line in done.stdout.splitlines():
            say(line)

    @property
    def _scripts(self) -> Path:
        return self.settings.root / self.project

    @property
    def _data(self) -> Path:
        return self.settings.home / self.name

    def _python(self) -> list[str]:
        environment = Path(f"{sys.prefix}-{self.name}")
        python = environment / "bin" / "python"
        if not python.is_file():
            raise PlatformError(
                f"No environment for {self.name} at {environment}. It was not started. Run ./starter_script.sh, which installs "
                f"it, or UV_PROJECT_ENVIRONMENT={environment} uv sync --frozen --project {self._scripts}."
            )
        return [str(python), "-P"]

    def _environment(self) -> dict[str, str]:
        """What `environment.py` of its folder reads."""
        settings, own = self.settings, f"MBATS_{self.name.upper()}"
        return {
            "PYTHONPATH": str(self._scripts),
            f"{own}_DATA": str(self._data),
            f"{own}_PORT": str(getattr(settings, f"{self.name}_port")),
            "MBATS_LISTEN": settings.listen,
            "MBATS_SECRETS_DIR": str(settings.secrets_dir),
            "MBATS_POSTGRES_HOST": settings.postgres_host,
            "MBATS_POSTGRES_PORT": str(settings.postgres_port),
            "MBATS_POSTGRES_RISK_DATABASE": settings.postgres_risk_database,
            **self.tells,
        }


__all__ = ["Apart"]
