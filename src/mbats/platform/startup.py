"""Starts services under supervisord, each when what it needs is well. What runs already, unchanged, is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from mbats.errors import MbatsError, PlatformError
from mbats.platform.health import ALIVE, service_statuses, wait_until_healthy
from mbats.platform.program import Program
from mbats.platform.service import Say, Service
from mbats.platform.supervisor import Supervisor
from mbats.settings import Settings

LOCKS = {"superset": "superset", "pgadmin": "db/pgadmin"}  # the others' lies in the project's folder


def configure(known: Sequence[Service], settings: Settings, supervisor: Supervisor) -> set[str]:
    """Tell supervisord what there is to run; returns the services that are new to it or changed, and wait to be started.

    Other packages are a change, so that the start after an upgrade starts everything anew.
    """
    here = [service for service in known if service.here]
    supervisor.write_config([_with_its_packages(service, settings) for service in here])
    if supervisor.pid() is None:
        supervisor.start()
        return set()
    return set(supervisor.apply_config())


def _with_its_packages(service: Service, settings: Settings) -> Program:
    program = service.program()
    lock = settings.root / LOCKS.get(service.name, "") / "uv.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    return replace(program, environment={**program.environment, "MBATS_PACKAGES": digest})


def start(some: Sequence[Service], supervisor: Supervisor, touched: Collection[str], say: Say) -> None:
    """Start those that do not run, and anew those that run and do not answer."""
    here = [service for service in some if service.here]
    started = [service for service in here if supervisor.start_service(service.name)]
    if started:
        changed = any(service.name in touched for service in started)
        say(f"{_titles(started)}: started{' with the new configuration' if changed else ''}.")
    limits = {s.name: s.hung_after for s in here if s not in started and s.hung_after is not None}
    statuses = service_statuses([service for service in here if service.name in limits], supervisor)
    hung = [status for status in statuses if not status.healthy and (status.uptime or 0) > limits[status.name]]
    for status in hung:
        say(f"{status.title} runs and does not answer; it is started anew.")
        supervisor.restart(status.name)
    left_alone = [s for s in here if s not in started and s.name not in {status.name for status in hung}]
    if left_alone:
        say(f"{_titles(left_alone)}: {'runs' if len(left_alone) == 1 else 'run'} already, skipped.")


def start_in_order(some: Sequence[Service], supervisor: Supervisor, touched: Collection[str], timeout: float, say: Say) -> None:
    """Prepare and start these, each as soon as those it comes after are well, and wait until all are.

    One that runs, unchanged, is not prepared again. Raises PlatformError that names each that failed; the others are started.
    """
    states = supervisor.states()
    running = [service for service in some if service.name in states and states[service.name].state in ALIVE]
    if running:
        start(running, supervisor, touched, say)
    waiting = [service for service in some if service not in running and service.here]
    bring = partial(_bring, known=some, supervisor=supervisor, touched=touched, timeout=timeout, say=say)
    brought: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(max(1, len(waiting)), "start") as threads:
        for service in waiting:
            needs = [brought[name] for name in service.after if name in brought]
            brought[service.name] = threads.submit(bring, service, needs)
    failures = {name: future.exception() for name, future in brought.items() if future.exception() is not None}
    for error in failures.values():
        if not isinstance(error, MbatsError):
            raise error  # type: ignore[misc]
    problems = list(dict.fromkeys(str(error) for error in failures.values()))
    try:
        wait_until_healthy([service for service in some if service.name not in failures], supervisor, timeout, say)
    except PlatformError as error:
        problems.append(str(error))
    if problems:
        raise PlatformError("\n".join(problems))


def _bring(
    service: Service,
    needs: Sequence[Future[None]],
    *,
    known: Sequence[Service],
    supervisor: Supervisor,
    touched: Collection[str],
    timeout: float,
    say: Say,
) -> None:
    for need in needs:
        need.result()
    before = [other for other in known if other.name in service.after]
    wait_until_healthy(before, supervisor, timeout, lambda line: None)
    if service.prepare is not None:
        service.prepare(say)
    start([service], supervisor, touched, say)


def _titles(some: Sequence[Service]) -> str:
    return ", ".join(service.title for service in some)


__all__ = ["configure", "start", "start_in_order"]
