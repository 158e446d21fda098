"""Reading from the broker: asked again with growing pauses while no good answer comes, never for anything that writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import requests
from oandapyV20 import V20Error
from oandapyV20.endpoints.apirequest import APIRequest
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from mbats.errors import OandaError, OandaRejected, OandaUnavailable
from mbats.oanda.parse import parse_refusal
from mbats.oanda.sessions import Sessions

T = TypeVar("T")

HINTS = {
    401: "A practice token works only on the practice host and a live one only on the live host: check MBATS_OANDA_TOKEN and "
    "MBATS_OANDA_ENVIRONMENT; the simulator takes the token that ./starter_script.sh made.",
    403: "The account does not belong to this token: check MBATS_OANDA_ACCOUNT.",
    404: "Check the name, and that the address is that of a v20 REST host.",
}


class Reads:
    """Asks and parses. Safe to share between threads.

    `attempts` counts the first one; the pauses between them grow from `first_pause` to `longest_pause` seconds, with jitter
    so that threads do not come back together. `timeout` is (connect, read) in seconds, None for that of the sessions.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        attempts: int = 6,
        first_pause: float = 0.25,
        longest_pause: float = 8.0,
        timeout: tuple[float, float] | None = None,
    ) -> None:
        self._sessions = sessions
        self._timeout = timeout
        self._attempts = attempts
        self._retrying = Retrying(
            retry=retry_if_exception_type(OandaUnavailable),
            stop=stop_after_attempt(attempts),
            wait=wait_exponential(multiplier=first_pause, max=longest_pause) + wait_random(0, first_pause),
            reraise=True,
        )

    def read(self, request: APIRequest, parse: Callable[[Any], T]) -> T:
        """What `parse` makes of the answer; a parse that raises OandaUnavailable has the question asked again.

        Raises OandaUnavailable after all attempts, OandaRejected at once. Not for a request that writes: an order that is sent
        twice may be filled twice.
        """
        try:
            answer: T = self._retrying(self._ask, request, parse)
            return answer
        except OandaUnavailable as error:
            if self._attempts == 1:
                raise
            message = f"{error} Gave up after {self._attempts} attempts."
            raise OandaUnavailable(message, status=error.status, error_code=error.error_code) from error

    def _ask(self, request: APIRequest, parse: Callable[[Any], T]) -> T:
        """One attempt, as one of two errors when it fails."""
        what = f"{request.method} {request} at {self._sessions.url}"
        try:
            return parse(self._sessions.ask(request, timeout=self._timeout))
        except OandaUnavailable as error:
            raise OandaUnavailable(f"{what}: {error}") from error
        except V20Error as error:
            raise refusal(self._sessions, what, error) from None
        except requests.RequestException as error:
            raise OandaUnavailable(f"{what}: no answer ({type(error).__name__}: {error}).") from error
        except ValueError as error:  # not JSON, not UTF-8, or a success that is not 200
            raise OandaUnavailable(f"{what}: The answer cannot be read: {error}.") from error


def refusal(sessions: Sessions, what: str, error: V20Error) -> OandaError:
    """The error that an HTTP status of 400 or more means; `what` begins its message."""
    reason, code = parse_refusal(error.msg)
    # An answer might quote the request; the token must not travel on in a message.
    message = sessions.without_token(f"{what}: HTTP {error.code}: {reason}")
    if error.code == 429 or error.code >= 500:
        return OandaUnavailable(message, status=error.code, error_code=code)
    return OandaRejected(f"{message} {HINTS.get(error.code, '')}".rstrip(), status=error.code, error_code=code)
