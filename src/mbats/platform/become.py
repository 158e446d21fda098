"""Becomes a service: what a container runs, from the same definition that the supervisor of a machine has."""

from __future__ import annotations

import os
from typing import NoReturn

from mbats.platform.airflow import airflow_worker
from mbats.platform.files import private_folder
from mbats.platform.service import find_service
from mbats.platform.services import services
from mbats.settings import Settings


def become_service(settings: Settings, name: str) -> NoReturn:
    """Write the configuration of the service and replace this process by it. Raises UnknownService, ConfigError."""
    private_folder(settings.home)
    service = find_service([*services(settings), airflow_worker(settings)], name)
    program = service.program()
    os.chdir(program.directory)
    os.execvpe(program.command[0], list(program.command), {**os.environ, **program.environment})


__all__ = ["become_service"]
