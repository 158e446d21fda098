"""Whether the services do their work: waiting for them after a start, and saying how each one is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from mbats.errors import MbatsError, PlatformError
from mbats.platform.service import Service
from mbats.platform.supervisor import ProcessState, Supervisor

ALIVE = ("running", "starting")
LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How one service is. `state` is supervisord's word, or `external` for one that runs elsewhere; `uptime` in seconds.

    `version` is what the running service says of itself, None when it does not answer or does not tell.
    """

    name: str
    title: str
    state: str
    healthy: bool
    version: str | None
    detail: str
    pid: int | None
    uptime: float | None
    address: str


def service_statuses(known: Sequence[Service], supervisor: Supervisor) -> list[ServiceStatus]:
    """How each service is now, all asked at once. Raises PlatformError only when supervisord runs and does not answer."""
    states = supervisor.states()
    if not known:
        return []
    with ThreadPoolExecutor(len(known), "check") as threads:
        return list(threads.map(lambda service: _status(service, states.get(service.name)), known))


def _status(service: Service, process: ProcessState | None) -> ServiceStatus:
    state = "external" if not service.here else process.state if process else "stopped"
    reason = process.detail if process else "not running"
    version = None
    if state == "external" or state in ALIVE:
        try:
            version, reason = service.check() or None, ""
        except MbatsError as error:
            reason = str(error)
    return ServiceStatus(
        name=service.name,
        title=service.title,
        state=state,
        healthy=reason == "",
        version=version,
        detail=reason,
        pid=process.pid if process else None,
        uptime=(datetime.now(UTC) - process.since).total_seconds() if process and process.since else None,
        address=service.address,
    )


def wait_until_healthy(known: Sequence[Service], supervisor: Supervisor, timeout: float, say: Callable[[str], None]) -> None:
    """Wait for every service, and say when it is ready. Raises PlatformError with the end of the log of each that is not."""
    start = time.monotonic()
    waiting = list(known)
    while True:
        statuses = service_statuses(waiting, supervisor)
        for status in statuses:
            if status.healthy:
                say(f"{status.title}: ready at {status.address} after {time.monotonic() - start:.1f} s.")
        unwell = [status for status in statuses if not status.healthy]
        waiting = [service for service in waiting if service.name in {status.name for status in unwell}]
        if not waiting:
            return
        if time.monotonic() - start > timeout:
            raise PlatformError("\n".join(_in_words(status, supervisor, timeout) for status in unwell))
        time.sleep(0.1)


def _in_words(status: ServiceStatus, supervisor: Supervisor, timeout: float) -> str:
    message = f"{status.title} at {status.address} is not well after {timeout:g} s ({status.state}): {status.detail}"
    log = supervisor.log_file(status.name)
    if status.state == "external" or not log.is_file():
        return message
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join([f"{message} The others go on. The end of {log}:", *(f"    {line}" for line in lines)])


__all__ = ["ServiceStatus", "service_statuses", "wait_until_healthy"]
