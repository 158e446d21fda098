"""The command line's side of the door: asks the trader over HTTP, and says whether it can have heard."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from mbats.errors import PlatformError, UsageError
from mbats.live.deployment import Deployment
from mbats.live.gate import Command
from mbats.live.hosting.desk import DeploymentStatus
from mbats.settings import Settings

TIMEOUT = 30.0  # seconds; a stop waits for a process to end
MODELS = 150.0  # more seconds for a start, which waits for its models to be looked up
REFUSED = (400, 404, 409, 415, 422)

_STATUSES = TypeAdapter(list[DeploymentStatus])
_DEPLOYMENT = TypeAdapter(Deployment)


class TraderAway(PlatformError):
    """No answer from the trader, or none that says that it did what it was asked."""


class TraderClient:
    """Commands for the trader of these settings. Every method raises TraderAway, and UsageError with the reason of a refusal."""

    def __init__(self, settings: Settings, *, timeout: float = TIMEOUT) -> None:
        self._settings, self._timeout = settings, timeout

    def deploy(self, deployment: Deployment) -> None:
        self._ask("POST", "/deployments", _DEPLOYMENT.dump_python(deployment, mode="json"), more=MODELS)

    def start(self, name: str) -> None:
        self._ask("POST", f"/deployments/{name}/start", {}, more=MODELS)

    def stop(self, name: str) -> None:
        self._ask("POST", f"/deployments/{name}/stop", {})

    def command(self, command: Command) -> dict[str, Any]:
        """What came of it. The trader puts its own time to the command."""
        body = {"by": command.by, "why": command.why, "deployment": command.deployment, "to": command.to}
        return dict(self._ask("POST", f"/{command.kind}", body))

    def deployments(self) -> list[DeploymentStatus]:
        return _STATUSES.validate_python(self._ask("GET", "/deployments")["deployments"])

    def state(self) -> dict[str, Any]:
        """Whether it is well (`healthy`), its `version` and `time`, and what else it tells of itself."""
        return dict(self._ask("GET", "/state"))

    def _ask(self, method: str, path: str, body: Any = None, *, more: float = 0.0) -> Any:
        url = self._settings.trader_url
        token = self._settings.required_secret("trader_token").get_secret_value()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=self._timeout + more)) as connection:
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise TraderAway(f"The trader at {url} does not answer: {error or type(error).__name__}.") from None
        try:
            said = json.loads(text)
        except ValueError:
            raise TraderAway(
                f"{url}{path} answers {answer.status} with what is no JSON: {text[:80]!r}. Is it the trader?"
            ) from None
        if answer.status < 300:
            return said
        message = said.get("error", said) if isinstance(said, dict) else said
        if answer.status in REFUSED:
            raise UsageError(str(message))
        raise TraderAway(f"The trader at {url} answers {answer.status}: {message}")


__all__ = ["TraderAway", "TraderClient"]
