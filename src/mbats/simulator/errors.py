"""Requests that the exchange refuses, with the status and the words that OANDA uses."""

from __future__ import annotations

from typing import Any, Literal

Thing = Literal["order", "trade", "transaction", "position"]


class Refusal(Exception):
    """A request that cannot be granted; it becomes the HTTP answer, and is no fault of the simulator's."""

    def __init__(self, status: int, message: str, code: str | None = None, **fields: Any) -> None:
        """`fields` are what the body has besides the message and the code."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.fields = fields

    def body(self) -> dict[str, Any]:
        """OANDA's error body; it gives a code only now and then."""
        return self.fields | {"errorMessage": self.message} | ({"errorCode": self.code} if self.code else {})


def invalid(name: str, more: str = "") -> Refusal:
    """A parameter has a value that cannot be."""
    return Refusal(400, f"Invalid value specified for '{name}'{f'. {more}' if more else ''}")


def missing() -> Refusal:
    """A parameter without which there is no answer is absent."""
    return Refusal(400, "The request was missing required data")


def too_many(name: str) -> Refusal:
    """A parameter asks for more than is ever given at once."""
    return Refusal(400, f"Maximum value for '{name}' exceeded")


def unauthorized() -> Refusal:
    """No token, or one that is not known."""
    return Refusal(401, "Insufficient authorization to perform request.")


def forbidden() -> Refusal:
    """An account that the token has no right to, or an act. The status is not documented; 403 is what the words mean."""
    return Refusal(403, "The provided request was forbidden.")


def no_such(thing: Thing, last_id: int) -> Refusal:
    """Nothing of the account's has this number or name."""
    words = "position specified" if thing == "position" else f"{thing} ID specified"
    return Refusal(404, f"The {words} does not exist", f"NO_SUCH_{thing.upper()}", lastTransactionID=str(last_id))


def bad_range() -> Refusal:
    """Transactions that the account does not have, or not all of them. The words are the simulator's own."""
    return Refusal(416, "The transaction range specified is invalid")


def too_often(per_second: float) -> Refusal:
    """More requests than the limit. The status is documented, the words are not."""
    return Refusal(429, f"Rate limit exceeded. At most {per_second:g} requests a second are answered.")
