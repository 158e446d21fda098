"""Requests that the exchange refuses, with the status and the words that OANDA uses."""

from __future__ import annotations


class Refusal(Exception):
    """A request that cannot be granted; it becomes the HTTP answer, and is no fault of the simulator's."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code

    def body(self) -> dict[str, str]:
        """OANDA's error body; it gives a code only now and then."""
        return {"errorMessage": self.message} | ({"errorCode": self.code} if self.code else {})


def invalid(name: str, more: str = "") -> Refusal:
    """A parameter has a value that cannot be."""
    return Refusal(400, f"Invalid value specified for '{name}'{f'. {more}' if more else ''}")


def missing() -> Refusal:
    """A parameter without which there is no answer is absent."""
    return Refusal(400, "The request was missing required data")


def unauthorized() -> Refusal:
    """No token, or one that is not known."""
    return Refusal(401, "Insufficient authorization to perform request.")


def forbidden() -> Refusal:
    """An account that the token has no right to. The status is not documented; 403 is what the words mean."""
    return Refusal(403, "The provided request was forbidden.")
