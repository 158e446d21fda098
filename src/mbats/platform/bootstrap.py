"""Brings the platform up and takes it down, step by step. Every step may be repeated, and says when it had nothing to do."""

from __future__ import annotations

import time

from dotenv import dotenv_values

from mbats.platform import weed
from mbats.platform.buckets import prepare_store
from mbats.platform.databases import prepare_databases
from mbats.platform.files import only_one, remove_socket_folder, write_private
from mbats.platform.health import ALIVE, ServiceStatus, service_statuses, wait_until_healthy
from mbats.platform.ports import choose_ports, is_free, ports_to_choose
from mbats.platform.postgres import init_cluster
from mbats.platform.preflight import require_room
from mbats.platform.program import require_plain
from mbats.platform.rotation import finish_rotation
from mbats.platform.secret_files import ensure_secrets
from mbats.platform.service import Say, Service
from mbats.platform.services import STORES, services
from mbats.platform.startup import configure, start, start_in_order
from mbats.platform.supervisor import Supervisor
from mbats.settings import Settings, chosen_by_user, load_settings

STOP_TIMEOUT = 120.0
DEATH_TIMEOUT = 15.0


def up(say: Say) -> Settings:
    """Start every service and prepare it; returns the settings that reach them.

    Raises ConfigError or PlatformError. A first start, a second one, and one after a kill of anything are the same path.
    """
    settings = load_settings()
    require_plain(settings.home)
    settings.home.mkdir(parents=True, exist_ok=True)
    with only_one(settings.home):
        supervisor = Supervisor(settings.home)
        clear_the_way(settings, supervisor, say)
        with ports_to_choose(say):
            settings = choose_addresses(settings, supervisor, say)
            settings = make_secrets(settings, say)
            make_data_folders(settings, say)
            known = services(settings)
            touched = configure(known, settings, supervisor)
            stores = [service for service in known if service.name in STORES]
            start(stores, supervisor, touched, say)
            finish_rotation(settings, say, timeout=settings.start_timeout_seconds)
            settings = load_settings(home=settings.home)
            known = services(settings)
            stores = [service for service in known if service.name in STORES]
            wait_until_healthy(stores, supervisor, settings.start_timeout_seconds, say)
            if settings.has_service("postgres"):
                prepare_databases(settings, say)
            if settings.has_service("s3"):
                prepare_store(settings, say)
            others = [service for service in known if service not in stores]
            start_in_order(others, supervisor, touched, settings.start_timeout_seconds, say)
    return settings


def stop(say: Say) -> None:
    """Stop every service and supervisord, and wait until they are gone. All data is kept."""
    settings = load_settings()
    if not (settings.home / "run").is_dir():
        say(f"Nothing runs in {settings.home}.")
        return
    with only_one(settings.home):
        began = time.monotonic()
        supervisor = Supervisor(settings.home)
        names = [service.title for service in services(settings) if service.here]
        if supervisor.answers():
            # The stores go last, so that the others can say goodbye to them.
            supervisor.stop_services([name for name in supervisor.states() if name not in STORES])
        if supervisor.stop(STOP_TIMEOUT):
            say(f"Stopped in {time.monotonic() - began:.1f} s: {', '.join(names)}. All data is kept in {settings.home}.")
            weed.remove_sockets(settings)
            remove_socket_folder(settings.home)
        else:
            say(f"Nothing runs in {settings.home}.")


def status() -> list[ServiceStatus]:
    """How each service is now."""
    settings = load_settings()
    return service_statuses(services(settings), Supervisor(settings.home))


def clear_the_way(settings: Settings, supervisor: Supervisor, say: Say) -> None:
    """End what an earlier start left in disorder: a supervisord that cannot be spoken to, or the services of a killed one.

    After a kill of supervisord the kernel stops its services; this waits until they have let go of their ports.
    """
    if supervisor.pid() is not None and not supervisor.answers():
        say("supervisord does not answer; it is stopped and started afresh.")
        supervisor.stop(STOP_TIMEOUT)
    if not supervisor.was_killed():
        return
    say("The platform was not stopped cleanly the last time; what it had committed is there.")
    ports = [getattr(settings, need.setting) for service in _here(settings) for need in service.ports]
    deadline = time.monotonic() + DEATH_TIMEOUT
    while not all(is_free(port) for port in ports) and time.monotonic() < deadline:
        time.sleep(0.1)


def choose_addresses(settings: Settings, supervisor: Supervisor, say: Say) -> Settings:
    """Look at the machine before anything is started: room, and a port for each service, kept in platform.env."""
    states = supervisor.states()
    alive = [service for service in _here(settings) if service.name in states and states[service.name].state in ALIVE]
    if len(alive) < len(_here(settings)):
        require_room(settings)
    file = settings.home / "platform.env"
    kept = {name: value or "" for name, value in dotenv_values(file).items()} if file.is_file() else {}
    ports = choose_ports(
        [need for service in _here(settings) for need in service.ports],
        settings,
        fixed=chosen_by_user(),
        ours={need.setting: int(kept.get(need.variable, 0)) for service in alive for need in service.ports},
        say=say,
    )
    kept |= {f"MBATS_{setting.upper()}": str(port) for setting, port in ports.items()}
    lines = ["# The addresses of this platform. The environment and .env are stronger than this file."]
    write_private(file, "\n".join([*lines, *(f"{name}={value}" for name, value in sorted(kept.items()))]) + "\n")
    return load_settings(home=settings.home)


def make_secrets(settings: Settings, say: Say) -> Settings:
    """Make the secrets that are missing."""
    changed = ensure_secrets(settings, here={service.name for service in _here(settings)})
    say(f"Secrets: {len(changed)} written to {settings.secrets_dir}." if changed else "Secrets exist, skipped.")
    return load_settings(home=settings.home)


def make_data_folders(settings: Settings, say: Say) -> None:
    """Make what the servers need before they can be started."""
    here = {service.name for service in _here(settings)}
    if "postgres" in here:
        made = init_cluster(settings, settings.home / "postgres", settings.postgres_password("admin"))
        say("PostgreSQL: data folder made." if made else "PostgreSQL: data folder exists, skipped.")
    if "s3" in here:
        changed = weed.write_config(settings)
        say("S3 store: configuration written." if changed else "S3 store: configuration exists, skipped.")


def _here(settings: Settings) -> list[Service]:
    return [service for service in services(settings) if service.here]


__all__ = ["status", "stop", "up"]
