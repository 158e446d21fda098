"""What a service of the platform is: where it answers, how it is started, prepared and seen to be well."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from mbats.errors import PlatformError, UnknownName
from mbats.platform.ports import PortNeed
from mbats.platform.program import Program
from mbats.settings import Settings

Say = Callable[[str], None]

LOOPBACK = ("127.0.0.1", "localhost")
CHECK_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service as these settings have it. `here` says whether it runs on this machine, under our supervisor.

    `program` says how it is started, and writes its configuration first if it has any. `prepare` is what must be done before
    it may start, once its databases and buckets are there; it can be repeated. `check` returns the version of the service when
    it does its work and raises PlatformError with the reason when it does not. `after` names the services that must be
    well before it starts. One that runs for `hung_after` seconds and does not answer is best started anew; None for
    PostgreSQL, which may be at its recovery.
    """

    name: str
    title: str
    address: str
    here: bool
    ports: tuple[PortNeed, ...]
    program: Callable[[], Program]
    check: Callable[[], str]
    prepare: Callable[[Say], None] | None = None
    after: tuple[str, ...] = ()
    hung_after: float | None = 90.0


class UnknownService(UnknownName):
    """No service of this name."""

    kind = "service"


def find_service(known: Iterable[Service], name: str) -> Service:
    """The service of this name. Raises UnknownService."""
    by_name = {service.name: service for service in known}
    if name not in by_name:
        raise UnknownService(name, by_name)
    return by_name[name]


def stamp(*files: Path) -> str:
    """When these files last changed. It stands in the service's environment, so that a changed file restarts the service."""
    return str(max(file.stat().st_mtime_ns for file in files))


def plain_environment(settings: Settings, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """The settings that differ from their defaults, as variables for a service that reads them. Secrets are files.

    `without` leaves out those whose names begin so: what a service does not read need not restart it.
    """
    fields = type(settings).model_fields
    chosen = {
        f"MBATS_{name.upper()}": str(value)
        for name in fields
        if (value := getattr(settings, name)) is not None
        and not isinstance(value, SecretStr)
        and value != fields[name].default
        and not name.startswith(without)
    }
    return chosen | {"MBATS_HOME": str(settings.home), "MBATS_ROOT": str(settings.root)}


def ask(url: str, path: str | None = None, *, headers: Mapping[str, str] | None = None, timeout: float = CHECK_TIMEOUT) -> bytes:
    """The body of GET `path`. Raises PlatformError unless it is answered with 200 or, without a path, unless there is any answer.

    Proxies of the environment are not asked, and redirections are not followed.
    """
    return _exchange(url, path, headers or {}, timeout)[1]


def ask_json(url: str, path: str, *, headers: Mapping[str, str] | None = None, timeout: float = CHECK_TIMEOUT) -> Any:
    """The same, read as JSON."""
    body = ask(url, path, headers=headers, timeout=timeout)
    try:
        return json.loads(body)
    except ValueError:
        raise PlatformError(f"{url}{path} answers with something that is not JSON: {body[:80]!r}.") from None


def ask_server(url: str) -> str:
    """How the server introduces itself, such as `SeaweedFS 8000GB 4.48`; empty when it does not. Raises as `ask`."""
    return _exchange(url, None, {}, CHECK_TIMEOUT)[0]


def _exchange(url: str, path: str | None, headers: Mapping[str, str], timeout: float) -> tuple[str, bytes]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with closing(kind(parts.netloc, timeout=timeout)) as connection:
        try:
            connection.request("GET", path or "/", headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise PlatformError(f"{url}{path or ''} does not answer: {error or type(error).__name__}.") from None
    if path is not None and answer.status != 200:
        raise PlatformError(f"{url}{path} answers {answer.status} {answer.reason}, where 200 was expected.")
    return answer.headers.get("Server", ""), body


__all__ = [
    "LOOPBACK",
    "Say",
    "Service",
    "UnknownService",
    "ask",
    "ask_json",
    "ask_server",
    "find_service",
    "plain_environment",
    "stamp",
]
